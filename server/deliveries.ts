/**
 * Events on their way to subscribers: encoded once, sent when a turn has told all it has to tell.
 *
 * A commit wakes everybody whom it concerns while it is still being told. Who is woken waits here for the end of the
 * turn and then takes all of it, in one message. Subscriptions to the same keys are handed the same events, so what one
 * connection sends is, byte for byte, what the next one sends on a channel of the same number: it is encoded for the
 * first, and the others send the same. Nothing is kept for later: a reader who cannot take it now reads the log when it
 * can.
 *
 * @module
 */
import type { EngineEvent, EngineSubscription } from "../lib/engine/engine.ts";
import { CborWriter } from "../lib/wire/cbor.ts";
import { REPLY_FLUSH_BYTES, writeChange } from "../lib/wire/protocol.ts";

/** Channel numbers for which the same events are kept in their encoded form. */
const CHANNELS_KEPT = 16;
const SETTLED = Promise.resolve();

/** What the sessions of one server have to send of subscriptions. */
export class Deliveries {
  #due: (() => void)[] = [];
  #events: readonly EngineEvent[] | undefined;
  readonly #frames: Map<number, Uint8Array | undefined> = new Map();
  readonly #writers: CborWriter[] = [];

  /** Runs `send` at the end of this turn. It does not throw. */
  add(send: () => void): void {
    if (this.#due.push(send) === 1) void SETTLED.then(this.#run);
  }

  /**
   * The frames of changes on a channel, one behind the other; undefined when something else is among them, or they are
   * too many for one message. Valid until the next call.
   */
  frames(channel: number, events: readonly EngineEvent[]): Uint8Array | undefined {
    if (this.#events !== events || (this.#frames.size >= CHANNELS_KEPT && !this.#frames.has(channel))) {
      this.#frames.clear();
      this.#events = events;
    }
    if (this.#frames.has(channel)) return this.#frames.get(channel);
    const writer = this.#writers[this.#frames.size] ??= new CborWriter();
    const frames = encode(writer, channel, events);
    this.#frames.set(channel, frames);
    return frames;
  }

  readonly #run = (): void => {
    const due = this.#due;
    this.#due = [];
    for (const send of due) send();
    this.#events = undefined;
    this.#frames.clear();
  };
}

function encode(writer: CborWriter, channel: number, events: readonly EngineEvent[]): Uint8Array | undefined {
  for (const event of events) {
    if (!("cursor" in event)) writeChange(writer, channel, event);
    if ("cursor" in event || writer.length > REPLY_FLUSH_BYTES) {
      writer.take();
      return undefined;
    }
  }
  return writer.take();
}

/** Where the events of a channel come from. */
export interface EventSource {
  readonly cursor: string;
  /** As {@link EngineSubscription.poll}. @throws whatever the engine's failure is */
  poll(wake: () => void): readonly EngineEvent[] | undefined;
}

/** The events of a subscription, as they can be asked for without waiting. */
export function sourceOf(subscription: EngineSubscription): EventSource {
  if (subscription.poll !== undefined) return subscription as EventSource;
  return new AwaitedSource(subscription);
}

/** A subscription of an engine that has to be waited for: one `next` is always under way, or its outcome is here. */
class AwaitedSource implements EventSource {
  readonly #subscription: EngineSubscription;
  #outcome: (() => readonly EngineEvent[] | undefined) | undefined;
  #asked = false;
  #wake: () => void = () => {};

  constructor(subscription: EngineSubscription) {
    this.#subscription = subscription;
  }

  get cursor(): string {
    return this.#subscription.cursor;
  }

  poll(wake: () => void): readonly EngineEvent[] | undefined {
    this.#wake = wake;
    const outcome = this.#outcome;
    if (outcome !== undefined) {
      this.#outcome = undefined;
      return outcome();
    }
    if (!this.#asked) {
      this.#asked = true;
      this.#subscription.next().then((events) => this.#settle(() => events), (error: unknown) => {
        this.#settle(() => {
          throw error;
        });
      });
    }
    return [];
  }

  #settle(outcome: () => readonly EngineEvent[] | undefined): void {
    this.#asked = false;
    this.#outcome = outcome;
    this.#wake();
  }
}
