/**
 * One WebSocket connection as the server sees it: requests in, replies and events out.
 *
 * 1. The frames of a message run in order, each before the next is read; replies that are there at once are sent when
 *    the message has been read, others are gathered for a tick. So what came together is answered together.
 * 2. Every reader gets its own pace. While more than `outboundBytesMax` wait to be sent, the session reads neither
 *    further requests (it keeps them, and a client of ours never sends more than fit) nor the feed. A reader that
 *    stays so for `outboundMs` is closed with 4408 and resumes from its cursor.
 * 3. Requests whose replies are long (pages) run a few at a time, whatever a client asks in one message.
 * 4. What is not the protocol closes this connection and touches no other. Wrong arguments do not: they are answered,
 *    and the session goes on. No handler throws.
 *
 * @module
 */
import type { Clock, Timer } from "../lib/base/clock.ts";
import { ERRORS, FirkinError, messageOf } from "../lib/base/errors.ts";
import type { EngineEvent, EngineSubscription, SubscribeQuery } from "../lib/engine/engine.ts";
import { CborReader, CborWriter } from "../lib/wire/cbor.ts";
import {
  CLOSE,
  expectItems,
  FRAME,
  OP,
  REPLY_FLUSH_BYTES,
  SHAPES,
  VERSION,
  WIRE_LIMITS,
  type WireLimits,
  WORD,
  writeChange,
} from "../lib/wire/protocol.ts";
import type { Principal } from "./auth.ts";
import { type Commands, failureOf } from "./commands.ts";
import { FRAME_REQUESTS, type FrameHost, type Subscribed } from "./frames.ts";
import type { Metrics } from "./metrics.ts";
import type { Connection, ConnectionHandlers } from "./transports/transport.ts";

/** Requests with long replies that run at once on one connection. */
const PAGES_MAX = 4;
/** Replies of requests that already run may pass `outboundBytesMax`, but not by this factor. */
const OUTBOUND_FACTOR_MAX = 8;
/** Writers kept for the next session that has something to say. */
const WRITERS_KEPT = 64;
const SETTLED = Promise.resolve();
const ID_MAX = 2 ** 32 - 1;

/** The limits of a server: those that it tells its clients, and its own. */
export interface ServerLimits extends WireLimits {
  /** A connection that has not said hello after this long is closed. */
  readonly helloMs: number;
  /** Bytes waiting to be sent on one connection, beyond which nothing more is read for it. */
  readonly outboundBytesMax: number;
  /** A connection that is over `outboundBytesMax` for this long is closed; so is an event stream that is not read. */
  readonly outboundMs: number;
  /** Event streams that are open at once. */
  readonly streamsMax: number;
}

/** What a server's limits are when nobody says otherwise. */
export const SERVER_LIMITS: ServerLimits = {
  ...WIRE_LIMITS,
  helloMs: 5_000,
  outboundBytesMax: 4 * 1_024 * 1_024,
  outboundMs: 10_000,
  streamsMax: 1_000,
};

/** What the sessions of one server share. */
export interface SessionHost {
  readonly commands: Commands;
  /** Who a connection is when it opens. */
  readonly principal: Principal;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Writers that no session is using: ten thousand idle connections need none. */
  readonly writers: CborWriter[];
  /** Told of a failure that is the server's own fault. */
  readonly onFailure: (error: unknown) => void;
}

/** A subscription of this connection. */
interface Channel {
  readonly source: EngineSubscription;
  /** Bytes of frames that the client still takes. */
  credit: number;
  /** What comes are changes, not entries that are older. */
  live: boolean;
  /** Resolves the wait for credit, for the outbound buffer, or for the end. */
  wake: (() => void) | undefined;
}

/** One connection's state, and the handlers that its transport calls. */
export class Session implements ConnectionHandlers, FrameHost {
  readonly commands: Commands;
  readonly limits: ServerLimits;
  /** Who asks; who it is may change while requests run, which keep the rights that they began with. */
  principal: Principal;
  readonly #host: SessionHost;
  readonly #connection: Connection;
  readonly #onClosed: () => void;
  readonly #reader: CborReader = new CborReader();
  readonly #channels: Map<number, Channel> = new Map();
  #writer: CborWriter | undefined;
  #flushing = false;
  #helloTimer: Timer | undefined;
  #stallTimer: Timer | undefined;
  #greeted = false;
  #closed = false;
  #ending: (() => void) | undefined;
  #lastChannel = 0;
  #unanswered = 0;
  #pages = 0;
  /** Parts of messages that came while the session could not run them. */
  #inbox: Uint8Array[] = [];
  #inboxBytes = 0;

  /** Takes a connection that has just opened; `onClosed` is called once, when it is over. */
  constructor(connection: Connection, host: SessionHost, onClosed: () => void = () => {}) {
    this.#connection = connection;
    this.#host = host;
    this.#onClosed = onClosed;
    this.commands = host.commands;
    this.principal = host.principal;
    this.limits = host.limits;
    this.#helloTimer = host.clock.after(host.limits.helloMs, () => this.#close(CLOSE.unauthorized, "no hello in time"));
    host.metrics.connections++;
    host.metrics.connectionsTotal++;
  }

  // --- what the transport calls ---

  /** Runs the frames of one message. */
  message(bytes: Uint8Array): void {
    if (this.#closed || this.#ending) return;
    this.#host.metrics.messagesIn++;
    this.#host.metrics.bytesIn += bytes.length;
    this.#run(bytes);
  }

  /** Refuses a text message. */
  text(): void {
    this.#close(CLOSE.textMessage, "messages are binary");
  }

  /** Goes on when enough has been sent. */
  drain(): void {
    if (this.#stallTimer === undefined || this.#connection.bufferedBytes() > this.limits.outboundBytesMax / 2) return;
    this.#stallTimer.cancel();
    this.#stallTimer = undefined;
    this.#run();
    for (const channel of this.#channels.values()) channel.wake?.();
  }

  /** Lets go of everything; requests that run have nobody to answer. */
  closed(): void {
    this.#release();
  }

  /** Takes no more requests; closes, and resolves, when those that run have been answered. */
  async end(code: number, reason: string): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#ending = resolve;
      if (this.#closed || this.#unanswered === 0) resolve();
    });
    this.#close(code, reason);
  }

  // --- what requests ask ---

  greet(version: number): void {
    if (this.#greeted) throw new FirkinError("INVALID", "Cannot say hello: it has been said");
    if (version !== VERSION) {
      throw new FirkinError("PROTOCOL", `Cannot speak version ${version}: this server speaks ${VERSION}`);
    }
    this.#greeted = true;
    this.#helloTimer?.cancel();
  }

  subscribe(query: SubscribeQuery, window: number): Promise<Subscribed> {
    const { subscriptionsMax } = this.limits;
    if (this.#channels.size >= subscriptionsMax) {
      throw new FirkinError(
        "BUSY",
        `Cannot subscribe: this connection has ${subscriptionsMax} subscriptions, the most`,
      );
    }
    const source = this.commands.subscribe(this.principal, query);
    const channel = ++this.#lastChannel;
    this.#channels.set(channel, { source, credit: window, live: query.snapshot !== true, wake: undefined });
    this.#host.metrics.subscriptions++;
    return source.ready.then(() => ({ channel, cursor: source.cursor }), (error: unknown) => {
      this.unsubscribe(channel);
      throw error;
    });
  }

  start(channel: number): void {
    // Absent when the client has unsubscribed, which it can only have guessed to do, or the connection has closed.
    const started = this.#channels.get(channel);
    if (started !== undefined) void this.#pump(channel, started);
  }

  grant(channel: number, bytes: number): void {
    const granted = this.#channels.get(channel);
    if (granted === undefined) return;
    granted.credit += bytes;
    granted.wake?.();
  }

  unsubscribe(channel: number): void {
    const ended = this.#channels.get(channel);
    if (ended === undefined) return;
    this.#channels.delete(channel);
    this.#host.metrics.subscriptions--;
    ended.source.close();
    ended.wake?.();
  }

  // --- requests ---

  /** Runs what has come, or what was kept, as far as it may, and sends the replies that are there then. */
  #run(bytes?: Uint8Array): void {
    this.#host.metrics.begin();
    try {
      if (bytes === undefined) this.#readKept();
      else if (bytes.length === 0) throw new FirkinError("PROTOCOL", "Cannot read a message: it is empty");
      else if (this.#inbox.length > 0) this.#keep(bytes);
      else this.#read(bytes, false);
    } catch (error) {
      this.#refuse(error);
    } finally {
      this.#flush();
      this.#host.metrics.end();
    }
  }

  /** Runs the frames of a message until it ends or the session has to wait. `owned`: the bytes may be kept. */
  #read(bytes: Uint8Array, owned: boolean): void {
    const reader = this.#reader.reset(bytes);
    while (!reader.atEnd() && !this.#closed) {
      if (this.#paused) return this.#keepFirst(bytes.subarray(reader.position), owned);
      this.#frame(reader);
    }
  }

  get #paused(): boolean {
    return this.#stallTimer !== undefined || this.#pages >= PAGES_MAX;
  }

  /** Runs one frame. @throws {FirkinError} PROTOCOL — the connection cannot go on */
  #frame(reader: CborReader): void {
    const start = reader.position;
    const items = reader.frame();
    const op = reader.uint();
    const id = reader.uint();
    if (items < 2 || id === 0 || id > ID_MAX) {
      throw new FirkinError("PROTOCOL", `Cannot read a frame at byte ${start}: it has no id from 1 to 2^32 - 1`);
    }
    if (!this.#greeted && op !== OP.hello) {
      throw new FirkinError("PROTOCOL", `Cannot run operation ${op}: the first frame of a connection is hello`);
    }
    if (this.#unanswered >= this.limits.requestsMax) return this.#close(CLOSE.tooManyRequests, "too many requests");
    try {
      const request = FRAME_REQUESTS[op];
      if (request === undefined) throw new FirkinError("NOT_SUPPORTED", `Cannot run operation ${op}: there is none`);
      expectItems(items, 2 + SHAPES[op]!.args);
      const result = request.run(this, reader);
      if (result instanceof Promise) this.#wait(id, op, result);
      else this.#reply(id, op, result);
    } catch (error) {
      if (!this.#greeted) throw error;
      // Bytes outside the subset end the connection; a well-formed frame with wrong arguments is merely answered.
      reader.seek(start);
      reader.skip();
      this.#fail(id, error);
    }
  }

  #wait(id: number, op: number, result: Promise<unknown>): void {
    this.#unanswered++;
    if (FRAME_REQUESTS[op]!.page) this.#pages++;
    result.then((value) => {
      this.#unanswered--;
      if (!this.#closed) this.#reply(id, op, value);
      this.#settled(op);
    }, (error: unknown) => {
      this.#unanswered--;
      if (!this.#closed) this.#fail(id, error);
      this.#settled(op);
    });
  }

  #settled(op: number): void {
    if (this.#closed) return;
    this.#flushSoon();
    if (FRAME_REQUESTS[op]!.page) {
      this.#pages--;
      this.#run();
    }
  }

  #reply(id: number, op: number, result: unknown): void {
    const request = FRAME_REQUESTS[op]!;
    const writer = this.#output();
    const start = writer.length;
    try {
      writer.array(2 + SHAPES[op]!.results);
      writer.uint(FRAME.reply);
      writer.uint(id);
      request.write(writer, result);
    } catch (error) {
      writer.rewind(start);
      return this.#fail(id, error);
    }
    request.done?.(this, result);
    if (writer.length > REPLY_FLUSH_BYTES) this.#flush();
  }

  #fail(id: number, error: unknown): void {
    this.#host.metrics.errors++;
    const failure = this.#asFailure(error);
    const writer = this.#output();
    writer.array(4);
    writer.uint(FRAME.error);
    writer.uint(id);
    writer.uint(ERRORS[failure.code].wire);
    writer.text(failure.message);
    if (writer.length > REPLY_FLUSH_BYTES) this.#flush();
  }

  /** What the client is told; to it, `PROTOCOL` means that the connection is over. */
  #asFailure(error: unknown): FirkinError {
    const failure = failureOf(error, this.#host.onFailure);
    return failure.code === "PROTOCOL" ? new FirkinError("INVALID", failure.message, { cause: error }) : failure;
  }

  /** Keeps a message for when the session can run it. */
  #keep(bytes: Uint8Array): void {
    const { messageBytesMax, requestsMax } = this.limits;
    this.#inboxBytes += bytes.length;
    if (this.#inboxBytes > 2 * messageBytesMax || this.#inbox.length >= requestsMax) {
      return this.#close(CLOSE.tooManyRequests, "too many requests");
    }
    this.#inbox.push(bytes.slice());
  }

  /** Puts the rest of a message before those that came after it. */
  #keepFirst(rest: Uint8Array, owned: boolean): void {
    this.#inboxBytes += rest.length;
    this.#inbox.unshift(owned ? rest : rest.slice());
  }

  #readKept(): void {
    while (this.#inbox.length > 0 && !this.#paused) {
      const bytes = this.#inbox.shift()!;
      this.#inboxBytes -= bytes.length;
      this.#read(bytes, true);
    }
  }

  // --- events ---

  /** Sends a subscription's events, as fast as its window and the outbound buffer allow. */
  async #pump(id: number, channel: Channel): Promise<void> {
    const { source } = channel;
    try {
      for (;;) {
        const events = await source.next();
        if (events === undefined) break;
        if (channel.live) this.#host.metrics.lagged(events, this.#host.clock.wall());
        else channel.live = events.some(({ type }) => type === "synced");
        // The events of a batch leave together: a client hands none out, and grants nothing, before it has them all.
        let inBatch = false;
        for (const event of events) {
          while (!inBatch && (channel.credit <= 0 || this.#stallTimer !== undefined) && this.#channels.has(id)) {
            await new Promise<void>((resolve) => channel.wake = resolve);
          }
          if (!this.#channels.has(id)) return;
          channel.credit -= this.#send(id, event);
          inBatch = "more" in event;
          if (event.type === "resync") return this.unsubscribe(id);
        }
      }
    } catch (error) {
      this.#host.onFailure(error);
    }
    if (!this.#channels.has(id)) return;
    this.#control(id, WORD.ended, source.cursor);
    this.unsubscribe(id);
  }

  /** Writes an event and returns the length of its frame. */
  #send(channel: number, event: EngineEvent): number {
    if ("cursor" in event) {
      if (event.type === "resync") this.#host.metrics.resyncs++;
      return this.#control(channel, WORD[event.type], event.cursor);
    }
    this.#host.metrics.events++;
    const writer = this.#output();
    const start = writer.length;
    writeChange(writer, channel, event);
    return this.#sent(writer, start);
  }

  #control(channel: number, word: number, cursor: string): number {
    const writer = this.#output();
    const start = writer.length;
    writer.array(4);
    writer.uint(FRAME.control);
    writer.uint(channel);
    writer.uint(word);
    writer.text(cursor);
    return this.#sent(writer, start);
  }

  #sent(writer: CborWriter, start: number): number {
    const length = writer.length - start;
    if (writer.length > REPLY_FLUSH_BYTES) this.#flush();
    else this.#flushSoon();
    return length;
  }

  // --- output ---

  #output(): CborWriter {
    return this.#writer ??= this.#host.writers.pop() ?? new CborWriter();
  }

  /** Sends what this tick writes, in one message. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    // As queueMicrotask, which costs twice as much in Node.
    void SETTLED.then(this.#flushNow);
  }

  readonly #flushNow = (): void => {
    this.#flushing = false;
    this.#flush();
  };

  #flush(): void {
    const writer = this.#writer;
    if (writer !== undefined) {
      this.#writer = undefined;
      const bytes = writer.take();
      // What requests wrote before they failed is nothing.
      if (bytes.length > 0 && !this.#closed) this.#transmit(bytes);
      if (this.#host.writers.length < WRITERS_KEPT) this.#host.writers.push(writer);
    }
    if (this.#unanswered === 0) this.#ending?.();
  }

  #transmit(bytes: Uint8Array): void {
    const { metrics, clock } = this.#host;
    const { outboundBytesMax, outboundMs } = this.limits;
    metrics.messagesOut++;
    metrics.bytesOut += bytes.length;
    const taken = this.#connection.send(bytes);
    if (this.#closed) return;
    const waiting = this.#connection.bufferedBytes();
    if (!taken || waiting > outboundBytesMax * OUTBOUND_FACTOR_MAX) return this.#dropReader();
    if (waiting > outboundBytesMax) this.#stallTimer ??= clock.after(outboundMs, () => this.#dropReader());
  }

  #dropReader(): void {
    this.#host.metrics.slowReaders++;
    this.#close(CLOSE.slowReader, "the reader fell behind");
  }

  /** Ends the connection over what came on it. */
  #refuse(error: unknown): void {
    if (this.#closed) return;
    if (!(error instanceof FirkinError)) this.#host.onFailure(error);
    this.#host.metrics.protocolErrors++;
    const writer = this.#output();
    writer.array(4);
    writer.uint(FRAME.error);
    writer.uint(0);
    writer.uint(ERRORS.PROTOCOL.wire);
    writer.text(messageOf(error));
    this.#flush();
    this.#close(CLOSE.protocolError, "protocol error");
  }

  #close(code: number, reason: string): void {
    // Sending the last replies may find that the reader fell behind, and close.
    this.#flush();
    if (this.#closed) return;
    this.#release();
    this.#connection.close(code, reason);
  }

  #release(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#helloTimer?.cancel();
    this.#stallTimer?.cancel();
    for (const channel of this.#channels.keys()) this.unsubscribe(channel);
    this.#inbox = [];
    this.#host.metrics.connections--;
    this.#flush();
    this.#onClosed();
    this.#ending?.();
  }
}
