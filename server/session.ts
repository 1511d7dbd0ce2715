/**
 * One WebSocket connection as the server sees it: requests in, replies and events out.
 *
 * 1. The frames of a message run in order, each before the next is read; replies that are there at once are sent when
 *    the message has been read, others are gathered for a tick. So what came together is answered together.
 * 2. Every reader gets its own pace. While more than `outboundBytesMax` wait to be sent, the session reads neither
 *    further requests (it keeps them, and a client of ours never sends more than fit) nor the feed. A reader that
 *    stays so for `outboundMs` is closed with 4408 and resumes from its cursor.
 * 3. Requests whose replies are long (pages) run a few at a time, whatever a client asks in one message.
 * 4. A message may hold a hundred thousand requests: a connection runs them for ten milliseconds at a time.
 * 5. What is not the protocol closes this connection and touches no other. Wrong arguments do not: they are answered,
 *    and the session goes on. No handler throws.
 *
 * @module
 */
import type { Clock, Timer } from "../lib/base/clock.ts";
import { ERRORS, FirkinError, messageOf } from "../lib/base/errors.ts";
import type { SubscribeQuery } from "../lib/engine/engine.ts";
import { CborReader, CborWriter } from "../lib/wire/cbor.ts";
import { CLOSE, expectItems, FRAME, OP, REPLY_FLUSH_BYTES, SHAPES, VERSION } from "../lib/wire/protocol.ts";
import { type Guest, hasExpired, NOBODY, type Principal } from "./auth.ts";
import { Backlog, type BacklogHost } from "./backlog.ts";
import { type ChannelHost, Channels } from "./channels.ts";
import type { ClientInfo, DescribedClient } from "./clients.ts";
import { type Commands, failureOf } from "./commands.ts";
import type { Deliveries } from "./deliveries.ts";
import { FRAME_REQUESTS, type FrameHost, type FrameRequest, type Subscribed } from "./frames.ts";
import type { ServerLimits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import type { Connection, ConnectionHandlers } from "./transports/transport.ts";

/** Requests with long replies that run at once on one connection. */
const PAGES_MAX = 4;
/** Writers kept for the next session that has something to say. */
const WRITERS_KEPT = 64;
const SETTLED = Promise.resolve();
/** What a request is when its reply has been written. */
const ANSWERED = Symbol("answered");
const NOTHING = new Uint8Array(0);
const ID_MAX = 2 ** 32 - 1;
/** How long a connection's requests run before others get their turn, and after how many it looks at the clock. */
const TURN_MS = 10;
const FRAMES_PER_LOOK = 16;

/** What the sessions of one server share. */
export interface SessionHost extends BacklogHost {
  readonly commands: Commands;
  /** Writers and readers that no session is using: ten thousand idle connections need none. */
  readonly writers: CborWriter[];
  readonly readers: CborReader[];
  /** Those that are open, by a number that no other has had. */
  readonly sessions: Map<number, Session>;
  /** Sessions that have written something in this tick. */
  readonly unsent: Session[];
  readonly deliveries: Deliveries;
  /** Told of a failure that is the server's own fault. */
  readonly onFailure: (error: unknown) => void;
}

/** One connection's state, and the handlers that its transport calls. */
export class Session implements ConnectionHandlers, FrameHost, ChannelHost, DescribedClient {
  /** Who asks; who it is may change while requests run, which keep the rights that they began with. */
  principal: Principal;
  readonly #host: SessionHost;
  readonly #connection: Connection;
  readonly #guest: Guest;
  readonly #backlog: Backlog;
  /** Among those of the host. */
  readonly #id: number;
  /** On the monotonic clock; whole, as what is below: ten thousand of these are there, and a fraction is an object. */
  readonly #openedAt: number;
  /** Made for the first subscription: most of ten thousand idle connections have none. */
  #channels: Channels | undefined;
  #writer: CborWriter | undefined;
  #flushing = false;
  #helloTimer: Timer | undefined;
  #restTimer: Timer | undefined;
  #turnBeganAt = 0;
  #greeted = false;
  #closed = false;
  #ending: (() => void) | undefined;
  #unanswered = 0;
  #pages = 0;
  #bytesIn = 0;
  #bytesOut = 0;
  /** Parts of messages that came while the session could not run them; undefined before the first. */
  #inbox: Uint8Array[] | undefined;
  #inboxBytes = 0;

  /** Takes a connection that has just opened, and its guest, who has entered. The host has it until it is over. */
  constructor(connection: Connection, host: SessionHost, guest: Guest) {
    this.#connection = connection;
    this.#host = host;
    this.#guest = guest;
    this.#backlog = new Backlog(host, connection, () => this.#close(CLOSE.slowReader, "the reader fell behind"));
    this.#openedAt = Math.floor(host.clock.monotonic());
    this.principal = guest.principal ?? NOBODY;
    this.#helloTimer = host.clock.after(host.limits.helloMs, () => this.#close(CLOSE.unauthorized, "no hello in time"));
    host.metrics.connections++;
    this.#id = ++host.metrics.connectionsTotal;
    host.sessions.set(this.#id, this);
  }

  // --- what the transport calls ---

  /** Runs the frames of one message. */
  message(bytes: Uint8Array): void {
    if (this.#closed || this.#ending) return;
    this.#host.metrics.messagesIn++;
    this.#host.metrics.bytesIn += bytes.length;
    this.#bytesIn += bytes.length;
    this.#run(bytes);
  }

  /** Refuses a text message. */
  text(): void {
    this.#close(CLOSE.textMessage, "messages are binary");
  }

  /** Goes on when enough has been sent. */
  drain(): void {
    if (!this.#backlog.drain()) return;
    this.#run();
    this.#channels?.resume();
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

  /** Closes a connection whose credentials have expired, or that is too old. */
  check(): void {
    const { clock } = this.#host;
    if (hasExpired(this.principal, clock.wall())) this.#close(CLOSE.unauthorized, "the credentials have expired");
    if (this.#ending === undefined && clock.monotonic() - this.#openedAt >= this.limits.lifetimeMs) {
      void this.end(CLOSE.goingAway, "the connection is old");
    }
  }

  /** See {@link DescribedClient}. */
  get bufferedBytes(): number {
    return this.#backlog.weigh();
  }

  /** See {@link DescribedClient}. */
  describe(subscriptionsMax: number): ClientInfo {
    const { address, agent } = this.#guest;
    return {
      name: this.principal.name,
      address,
      agent,
      ageMs: Math.round(this.clock.monotonic() - this.#openedAt),
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      bufferedBytes: this.bufferedBytes,
      subscriptions: this.#channels?.describe(subscriptionsMax) ?? [],
      subscriptionsTotal: this.#channels?.count ?? 0,
    };
  }

  // --- what requests ask ---

  greet(version: number, token: string | undefined): void {
    if (this.#greeted) throw new FirkinError("INVALID", "Cannot say hello: it has been said");
    if (version !== VERSION) {
      throw new FirkinError("PROTOCOL", `Cannot speak version ${version}: this server speaks ${VERSION}`);
    }
    if (token !== undefined) this.principal = this.#guest.identify(token);
    else if (this.#guest.principal === undefined) {
      throw new FirkinError("UNAUTHORIZED", "Cannot let you in: hello has no token");
    }
    this.#greeted = true;
    this.#helloTimer?.cancel();
    this.#helloTimer = undefined;
  }

  authenticate(token: string): number | undefined {
    const principal = this.#guest.identify(token);
    this.principal = principal;
    this.#channels?.check(principal);
    return principal.expiresAt;
  }

  subscribe(query: SubscribeQuery, window: number): Promise<Subscribed> {
    const { subscriptionsMax } = this.limits;
    const channels = this.#channels ??= new Channels(this);
    if (channels.count >= subscriptionsMax) {
      throw new FirkinError(
        "BUSY",
        `Cannot subscribe: this connection has ${subscriptionsMax} subscriptions, the most`,
      );
    }
    const subscription = this.commands.subscribe(this.principal, query);
    const channel = channels.open(subscription, query, window);
    return subscription.ready.then(() => {
      if (channels.has(channel)) return { channel, cursor: subscription.cursor };
      throw new FirkinError("FORBIDDEN", "Cannot subscribe: it has been ended meanwhile");
    }, (error: unknown) => {
      channels.close(channel);
      throw error;
    });
  }

  start(channel: number): void {
    this.#channels?.start(channel);
  }

  grant(channel: number, bytes: number): void {
    this.#channels?.grant(channel, bytes);
  }

  unsubscribe(channel: number): void {
    this.#channels?.close(channel);
  }

  get commands(): Commands {
    return this.#host.commands;
  }

  get limits(): ServerLimits {
    return this.#host.limits;
  }

  // --- what channels ask ---

  get deliveries(): Deliveries {
    return this.#host.deliveries;
  }

  get metrics(): Metrics {
    return this.#host.metrics;
  }

  get clock(): Clock {
    return this.#host.clock;
  }

  get onFailure(): (error: unknown) => void {
    return this.#host.onFailure;
  }

  stalled(): boolean {
    return this.#backlog.isStalled;
  }

  output(): CborWriter {
    return this.#writer ??= this.#host.writers.pop() ?? new CborWriter();
  }

  written(): void {
    if (this.#writer!.length > REPLY_FLUSH_BYTES) this.flush();
    else this.#flushSoon();
  }

  transmit(frames: Uint8Array): boolean {
    if (this.#writer !== undefined) return false;
    if (!this.#closed) this.#transmit(frames);
    return true;
  }

  // --- requests ---

  /** Nobody is known yet, and nobody is given more room than it takes to become so. */
  #checkFirst(bytes: Uint8Array): void {
    const { helloBytesMax } = this.limits;
    if (bytes.length <= helloBytesMax) return;
    throw new FirkinError("PROTOCOL", `Cannot read ${bytes.length} bytes before hello: at most ${helloBytesMax}`);
  }

  /** Runs what has come, or what was kept, as far as it may, and sends the replies that are there then. */
  #run(bytes?: Uint8Array): void {
    this.#turnBeganAt = Math.floor(this.clock.monotonic());
    this.#goOn(bytes);
  }

  /** As `#run`, in the turn that has begun before: answers that come at once bring no other one. */
  #goOn(bytes?: Uint8Array): void {
    this.#host.metrics.begin();
    try {
      if (bytes === undefined) this.#readKept();
      else if (bytes.length === 0) throw new FirkinError("PROTOCOL", "Cannot read a message: it is empty");
      else if (this.#inboxBytes > 0) this.#keep(bytes);
      else {
        if (!this.#greeted) this.#checkFirst(bytes);
        this.#read(bytes, false);
      }
    } catch (error) {
      this.#refuse(error);
    } finally {
      this.flush();
      this.#host.metrics.end();
    }
  }

  /** Runs the frames of a message until it ends or the session has to wait. `owned`: the bytes may be kept. */
  #read(bytes: Uint8Array, owned: boolean): void {
    const { readers } = this.#host;
    const reader = (readers.pop() ?? new CborReader()).reset(bytes);
    try {
      this.#readFrames(reader, bytes, owned);
    } finally {
      reader.reset(NOTHING);
      readers.push(reader);
    }
  }

  #readFrames(reader: CborReader, bytes: Uint8Array, owned: boolean): void {
    for (let frames = 1; !reader.atEnd() && !this.#closed; frames++) {
      if (this.#paused || (frames % FRAMES_PER_LOOK === 0 && this.#isLate())) {
        return this.#keepFirst(bytes.subarray(reader.position), owned);
      }
      this.#frame(reader);
    }
  }

  get #paused(): boolean {
    return this.#backlog.isStalled || this.#restTimer !== undefined || this.#pages >= PAGES_MAX ||
      this.#unanswered >= this.limits.runningMax;
  }

  /** True when this connection has had its turn: it goes on after others had theirs. */
  #isLate(): boolean {
    if (this.clock.monotonic() - this.#turnBeganAt < TURN_MS) return false;
    this.#restTimer = this.clock.after(0, () => {
      this.#restTimer = undefined;
      this.#run();
    });
    return true;
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
    try {
      const request = FRAME_REQUESTS[op];
      if (request === undefined) throw new FirkinError("NOT_SUPPORTED", `Cannot run operation ${op}: there is none`);
      expectItems(items, 2 + SHAPES[op]!.args);
      const result = request.answer === undefined ? request.run(this, reader) : this.#answer(request, id, reader);
      if (result === ANSWERED) return;
      if (result instanceof Promise) this.#wait(id, op, result);
      else this.#reply(id, op, result);
    } catch (error) {
      if ((op === OP.hello || op === OP.auth) && this.#expel(id, error)) return;
      if (!this.#greeted) throw error;
      // Bytes outside the subset end the connection; a well-formed frame with wrong arguments is merely answered.
      reader.seek(start);
      reader.skip();
      this.#fail(id, error);
    }
  }

  /** Lets a request write its own reply; what comes later is returned as a promise. */
  #answer(request: FrameRequest, id: number, reader: CborReader): unknown {
    const writer = this.output();
    const start = writer.length;
    try {
      this.#replyHead(writer, id, 1);
      const later = request.answer!(this, reader, writer);
      if (later !== true) {
        writer.rewind(start);
        return later;
      }
    } catch (error) {
      writer.rewind(start);
      throw error;
    }
    if (writer.length > REPLY_FLUSH_BYTES) this.flush();
    return ANSWERED;
  }

  #replyHead(writer: CborWriter, id: number, results: number): void {
    writer.array(2 + results);
    writer.uint(FRAME.reply);
    writer.uint(id);
  }

  /** Ends the connection of one who is not whom it says; false when that is not what went wrong. */
  #expel(id: number, error: unknown): boolean {
    const code = error instanceof FirkinError ? error.code : undefined;
    if (code !== "UNAUTHORIZED" && code !== "BUSY") return false;
    this.#fail(id, error);
    const blocked = code === "BUSY";
    this.#close(blocked ? CLOSE.tooManyRequests : CLOSE.unauthorized, blocked ? "too many attempts" : "not let in");
    return true;
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
    const { page = false } = FRAME_REQUESTS[op]!;
    if (page) this.#pages--;
    // Not for each reply: what is read together is answered together.
    if (page || (this.#inboxBytes > 0 && this.#unanswered <= this.limits.runningMax / 2)) this.#goOn();
  }

  #reply(id: number, op: number, result: unknown): void {
    const request = FRAME_REQUESTS[op]!;
    const writer = this.output();
    const start = writer.length;
    try {
      this.#replyHead(writer, id, SHAPES[op]!.results);
      request.write(writer, result);
    } catch (error) {
      writer.rewind(start);
      return this.#fail(id, error);
    }
    request.done?.(this, result);
    if (writer.length > REPLY_FLUSH_BYTES) this.flush();
  }

  #fail(id: number, error: unknown): void {
    this.#host.metrics.errors++;
    const failure = this.#asFailure(error);
    const writer = this.output();
    writer.array(4);
    writer.uint(FRAME.error);
    writer.uint(id);
    writer.uint(ERRORS[failure.code].wire);
    writer.text(failure.message);
    if (writer.length > REPLY_FLUSH_BYTES) this.flush();
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
    if (this.#inboxBytes > 2 * messageBytesMax || this.#inbox!.length >= requestsMax) {
      return this.#close(CLOSE.tooManyRequests, "too many requests");
    }
    this.#inbox!.push(bytes.slice());
  }

  /** Puts the rest of a message before those that came after it. */
  #keepFirst(rest: Uint8Array, owned: boolean): void {
    this.#inboxBytes += rest.length;
    this.#inbox ??= [];
    this.#inbox.unshift(owned ? rest : rest.slice());
  }

  #readKept(): void {
    while (this.#inboxBytes > 0 && !this.#paused && !this.#isLate()) {
      const bytes = this.#inbox!.shift()!;
      this.#inboxBytes -= bytes.length;
      this.#read(bytes, true);
    }
  }

  // --- output ---

  /** Sends what this tick writes, in one message. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    const { unsent } = this.#host;
    // One task for all sessions. (queueMicrotask costs twice as much in Node.)
    if (unsent.push(this) === 1) void SETTLED.then(() => unsent.splice(0).forEach((session) => session.#flushNow()));
  }

  #flushNow(): void {
    this.#flushing = false;
    this.flush();
  }

  flush(): void {
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
    this.#bytesOut += bytes.length;
    const isTaken = this.#connection.send(bytes);
    this.#backlog.sent(bytes.length, isTaken);
  }

  /** Ends the connection over what came on it. */
  #refuse(error: unknown): void {
    if (this.#closed) return;
    if (!(error instanceof FirkinError)) this.#host.onFailure(error);
    this.#host.metrics.protocolErrors++;
    const writer = this.output();
    writer.array(4);
    writer.uint(FRAME.error);
    writer.uint(0);
    writer.uint(ERRORS.PROTOCOL.wire);
    writer.text(messageOf(error));
    this.flush();
    this.#close(CLOSE.protocolError, "protocol error");
  }

  #close(code: number, reason: string): void {
    // Sending the last replies may find that the reader fell behind, and close.
    this.flush();
    if (this.#closed) return;
    this.#release();
    this.#connection.close(code, reason);
  }

  #release(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#helloTimer?.cancel();
    this.#restTimer?.cancel();
    this.#channels?.closeAll();
    this.#inbox = undefined;
    this.#inboxBytes = 0;
    this.#host.metrics.connections--;
    this.#backlog.close();
    this.flush();
    this.#host.sessions.delete(this.#id);
    this.#guest.leave();
    this.#ending?.();
  }
}
