/**
 * The subscriptions of one connection: each a channel, which sends as fast as its window and the connection allow.
 *
 * A channel takes a row of events from its source only when it may send; what the client or the network does not take
 * stays in the log. A row goes out as the same bytes that other connections send (`deliveries.ts`) when all of it may,
 * else event by event.
 *
 * @module
 */
import type { Clock } from "../lib/base/clock.ts";
import type { EngineEvent, EngineSubscription, SubscribeQuery } from "../lib/engine/engine.ts";
import type { CborWriter } from "../lib/wire/cbor.ts";
import { FRAME, WORD, writeChange } from "../lib/wire/protocol.ts";
import type { Principal } from "./auth.ts";
import { type ClientSubscription, firstOf, shownQuery } from "./clients.ts";
import { type Deliveries, type EventSource, sourceOf } from "./deliveries.ts";
import type { Metrics } from "./metrics.ts";

/** Rows of events that one channel sends before others get their turn. */
const ROWS_PER_TURN = 16;

/** The connection that channels are on. */
export interface ChannelHost {
  readonly deliveries: Deliveries;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly onFailure: (error: unknown) => void;
  /** True while so much waits to be sent that nothing is to be added. */
  stalled(): boolean;
  /** Where frames are written; `written` is called behind each. */
  output(): CborWriter;
  written(): void;
  /** Sends what was written. */
  flush(): void;
  /** Sends frames as a message of their own, which stay the caller's; false when others were written before them. */
  transmit(frames: Uint8Array): boolean;
}

interface Channel {
  readonly subscription: EngineSubscription;
  readonly source: EventSource;
  /** What it is for; its bytes are its own. */
  readonly query: SubscribeQuery;
  /** Bytes of frames that the client still takes. */
  credit: number;
  /** What comes are changes, not entries that are older. */
  live: boolean;
  /** Taken from the source, and sent up to `sent`. */
  events: readonly EngineEvent[];
  sent: number;
  /** Called when there may be events: they leave at the end of the turn. */
  readonly wake: () => void;
}

/** The channels of one connection. */
export class Channels {
  readonly #host: ChannelHost;
  readonly #channels: Map<number, Channel> = new Map();
  #last = 0;

  /** None yet. */
  constructor(host: ChannelHost) {
    this.#host = host;
  }

  /** How many are open. */
  get count(): number {
    return this.#channels.size;
  }

  /** True while the channel is open. */
  has(id: number): boolean {
    return this.#channels.has(id);
  }

  /** Opens a channel, which sends nothing before `start`. Returns its number. */
  open(subscription: EngineSubscription, query: SubscribeQuery, window: number): number {
    const id = ++this.#last;
    const send = (): void => {
      const channel = this.#channels.get(id);
      if (channel === undefined) return;
      this.#pump(id, channel);
      this.#host.flush();
    };
    this.#channels.set(id, {
      subscription,
      source: sourceOf(subscription),
      query,
      credit: window,
      live: query.snapshot !== true,
      events: [],
      sent: 0,
      wake: () => this.#host.deliveries.add(send),
    });
    this.#host.metrics.subscriptions++;
    return id;
  }

  /** What an operator is told of the first `count` of them. */
  describe(count: number): ClientSubscription[] {
    return firstOf(this.#channels.values(), count).map(({ query, source, credit }) => ({
      ...shownQuery(query),
      revision: Number(source.cursor.split(".")[1]),
      waits: credit <= 0,
    }));
  }

  /** Lets a channel send. */
  start(id: number): void {
    // Absent when the client has unsubscribed, which it can only have guessed to do, or the connection has closed.
    this.#channels.get(id)?.wake();
  }

  /** Lets a channel send `bytes` more. */
  grant(id: number, bytes: number): void {
    const channel = this.#channels.get(id);
    if (channel === undefined) return;
    const waited = channel.credit <= 0;
    channel.credit += bytes;
    if (waited) channel.wake();
  }

  /** Lets all go on, after the connection was stalled. */
  resume(): void {
    for (const { wake } of this.#channels.values()) wake();
  }

  /** Ends a channel; one that has ended already is no error. */
  close(id: number): void {
    const channel = this.#channels.get(id);
    if (channel === undefined) return;
    this.#channels.delete(id);
    this.#host.metrics.subscriptions--;
    channel.subscription.close();
  }

  /** Ends all. */
  closeAll(): void {
    for (const id of this.#channels.keys()) this.close(id);
  }

  /** Ends, and says so, what `principal` may not see. */
  check(principal: Principal): void {
    for (const [id, { query, source }] of this.#channels) {
      if (!principal.allows("subscribe", query.bucket)) this.#end(id, source.cursor);
    }
  }

  // --- sending ---

  /** Sends what a subscription has now, as far as its window and the connection allow. */
  #pump(id: number, channel: Channel): void {
    try {
      for (let rows = 0;; rows++) {
        if (!this.#deliver(id, channel)) return;
        // A reader that takes megabytes at once lets others have theirs.
        if (rows === ROWS_PER_TURN) return void this.#host.clock.after(0, channel.wake);
        const events = channel.source.poll(channel.wake);
        if (events?.length === 0) return;
        if (events === undefined) break;
        if (channel.live) this.#host.metrics.lagged(events, this.#host.clock.wall());
        else channel.live = events.some(({ type }) => type === "synced");
        channel.events = events;
        channel.sent = 0;
      }
    } catch (error) {
      this.#host.onFailure(error);
    }
    this.#end(id, channel.source.cursor);
  }

  #end(id: number, cursor: string): void {
    this.#control(id, WORD.ended, cursor);
    this.close(id);
  }

  /** Sends what was taken from the source; true when all of it is sent and more may be. */
  #deliver(id: number, channel: Channel): boolean {
    const { events } = channel;
    const host = this.#host;
    if (channel.sent === 0 && events.length > 0 && channel.credit > 0 && !host.stalled()) {
      const frames = host.deliveries.frames(id, events);
      if (frames !== undefined && frames.length <= channel.credit) {
        channel.credit -= frames.length;
        channel.sent = events.length;
        host.metrics.events += events.length;
        this.#sendFrames(frames);
      }
    }
    while (channel.sent < events.length && this.#channels.has(id)) {
      const event = events[channel.sent]!;
      // The events of a batch leave together: a client hands none out, and grants nothing, before it has them all.
      const before = events[channel.sent - 1];
      const inBatch = before !== undefined && "more" in before;
      if (!inBatch && (channel.credit <= 0 || host.stalled())) return false;
      channel.credit -= this.#send(id, event);
      channel.sent++;
      if (event.type === "resync") this.close(id);
    }
    return this.#channels.has(id) && channel.credit > 0 && !host.stalled();
  }

  #sendFrames(frames: Uint8Array): void {
    // With one channel there is nothing to wait for; with more, theirs go into one message.
    if (this.#channels.size === 1 && this.#host.transmit(frames)) return;
    this.#host.output().raw(frames);
    this.#host.written();
  }

  /** Writes an event and returns the length of its frame. */
  #send(id: number, event: EngineEvent): number {
    if ("cursor" in event) {
      if (event.type === "resync") this.#host.metrics.resyncs++;
      return this.#control(id, WORD[event.type], event.cursor);
    }
    this.#host.metrics.events++;
    const writer = this.#host.output();
    const start = writer.length;
    writeChange(writer, id, event);
    return this.#sent(writer, start);
  }

  #control(id: number, word: number, cursor: string): number {
    const writer = this.#host.output();
    const start = writer.length;
    writer.array(4);
    writer.uint(FRAME.control);
    writer.uint(id);
    writer.uint(word);
    writer.text(cursor);
    return this.#sent(writer, start);
  }

  #sent(writer: CborWriter, start: number): number {
    const length = writer.length - start;
    this.#host.written();
    return length;
  }
}
