/**
 * Messages from clients to clients: `PUBLISH` to a channel, to everybody who listens just then.
 *
 * Nothing is kept: who is not there misses it, as in Redis. What must not be missed is a change of a key, and who
 * subscribes to those (`notifications.ts`, or any other protocol) reads them from the log. Messages reach everybody in
 * the order in which they were published: where patterns are dear to match, later ones wait with an earlier one.
 *
 * @module
 */
import type { Answer } from "../commands.ts";
import { matchesGlob } from "./glob.ts";
import { latin1 } from "./numbers.ts";
import type { Owner, Pace } from "./pace.ts";

/** What a message that waits keeps beside its bytes, on Bun 1.4: most of it is its connection, which may be gone. */
const MESSAGE_BYTES = 6 * 1_024;

/** Who listens. Must not throw. */
export interface Listener {
  /** Takes a message; `pattern` is what the listener subscribed to, when it is one. */
  deliver(channel: Uint8Array, payload: Uint8Array, pattern?: Uint8Array): void;
}

/** The listeners of a pattern. */
interface Pattern {
  /** Later ones have higher numbers. */
  readonly number: number;
  readonly pattern: Uint8Array;
  readonly listeners: Set<Listener>;
}

/** All channels of a server. */
export class Hub implements Owner {
  /** What was published is sent, though who did so is gone. */
  readonly isClosed = false;
  readonly #pace: Pace;
  readonly #channels: Map<string, Set<Listener>> = new Map();
  /** In the order of their numbers. */
  readonly #patterns: Map<string, Pattern> = new Map();
  #lastNumber = 0;
  #bytesWaiting = 0;

  /** Nobody listens yet. */
  constructor(pace: Pace) {
    this.#pace = pace;
  }

  /** What those messages take that wait to be held against dear patterns. */
  get bytesWaiting(): number {
    return this.#bytesWaiting;
  }

  /** Listens to a channel; twice is as once. */
  subscribe(channel: Uint8Array, listener: Listener): void {
    const name = latin1(channel);
    const listeners = this.#channels.get(name);
    if (listeners === undefined) this.#channels.set(name, new Set([listener]));
    else listeners.add(listener);
  }

  /** No longer listens to it. */
  unsubscribe(channel: Uint8Array, listener: Listener): void {
    const name = latin1(channel);
    const listeners = this.#channels.get(name);
    if (listeners?.delete(listener) && listeners.size === 0) this.#channels.delete(name);
  }

  /** Listens to all channels whose names match. */
  subscribePattern(pattern: Uint8Array, listener: Listener): void {
    const name = latin1(pattern);
    const known = this.#patterns.get(name);
    if (known !== undefined) return void known.listeners.add(listener);
    this.#patterns.set(name, {
      number: ++this.#lastNumber,
      pattern: pattern.slice(),
      listeners: new Set([listener]),
    });
  }

  /** No longer listens to them. */
  unsubscribePattern(pattern: Uint8Array, listener: Listener): void {
    const name = latin1(pattern);
    const known = this.#patterns.get(name);
    if (known?.listeners.delete(listener) && known.listeners.size === 0) this.#patterns.delete(name);
  }

  /** Sends a message, and says to how many: one who listens in two ways gets it twice, and counts twice. */
  publish(channel: Uint8Array, payload: Uint8Array): Answer<number> {
    const pace = this.#pace;
    let count = 0;
    const tell = (listeners: Iterable<Listener>, pattern?: Uint8Array): void => {
      for (const listener of listeners) {
        listener.deliver(channel, payload, pattern);
        count++;
      }
    };
    let patterns: MapIterator<Pattern> | undefined;
    let lastNumber = 0;
    const answer = pace.run(this, () => {
      if (patterns === undefined) {
        tell(this.#channels.get(latin1(channel)) ?? []);
        patterns = this.#patterns.values();
        lastNumber = this.#lastNumber;
      }
      // It goes on behind the last one: an iterator of a map is not ended by who leaves the loop.
      for (const { number, pattern, listeners } of patterns) {
        // Who comes meanwhile comes too late, since one who leaves and comes back would be told twice, and without end.
        if (number > lastNumber) break;
        if (matchesGlob(pattern, channel, pace)) tell(listeners, pattern);
        if (pace.isOver) return undefined;
      }
      return count;
    });
    if (!(answer instanceof Promise)) return answer;
    // What waits keeps nothing else that came with it.
    [channel, payload] = [channel.slice(), payload.slice()];
    const bytes = MESSAGE_BYTES + channel.length + payload.length;
    this.#bytesWaiting += bytes;
    return answer.finally(() => void (this.#bytesWaiting -= bytes));
  }
}
