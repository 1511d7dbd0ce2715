/**
 * The store's time: it follows the monotonic clock, never steps back while the store is open, and hardly across
 * restarts.
 *
 * A key is due when the store's time has reached its deadline. While the store is open, the wall clock may step as it
 * likes: it is asked once, at the open. From one life to the next the time goes on from the highest one that the log
 * says, if the wall clock is behind it: dead stays dead. Every record says the time at which it was written; where none
 * is written for a minute while a deadline is pending, a mark is, for its time alone. So a clock that was set back
 * while the store was closed brings back at most the last minute before a crash, and nothing at all after a close.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";

/** While a deadline is pending, the log says the time at least this often. */
export const TIME_KEPT_MS = 60_000;

/**
 * Wait after a time that was not kept: the disk refused it, or another record was on its way. Not a whole number of
 * seconds, after which expiries that the disk refused come again: it would always find one on its way.
 */
const RETRY_MS = 1_500;

/** What the time asks of its owner. */
export interface TimeOwner {
  /** True while a deadline is pending: nothing else is judged by the time. */
  pending(): boolean;
  /** The highest time that the log says, on disk as far as the policy goes. */
  kept(): number;
  /** Writes the time to the log. */
  keep(): void;
}

/** The time of one store. */
export class StoreTime {
  readonly #clock: Clock;
  readonly #owner: TimeOwner;
  #wallAtOpen: number;
  readonly #monotonicAtOpen: number;
  #timer: Timer | undefined;
  /** Nothing is written before the log is replayed, nor after the close. */
  #running = false;

  /** Begins with the wall clock. */
  constructor(clock: Clock, owner: TimeOwner) {
    this.#clock = clock;
    this.#owner = owner;
    // The first look at the monotonic clock may take a millisecond, by which the store's time would stay behind.
    clock.monotonic();
    this.#wallAtOpen = clock.wall();
    this.#monotonicAtOpen = clock.monotonic();
  }

  /** Epoch milliseconds, with a fraction. */
  now(): number {
    return this.#wallAtOpen + this.#clock.monotonic() - this.#monotonicAtOpen;
  }

  /** The log is replayed: goes on from the highest time that it says. */
  resume(timeMax: number): void {
    this.#wallAtOpen = Math.max(this.#wallAtOpen, timeMax);
  }

  /** From here on the time is kept while a deadline is pending. */
  start(): void {
    this.#running = true;
    this.watch();
  }

  /** A deadline may have been added. */
  watch(): void {
    if (!this.#running || this.#timer !== undefined || !this.#owner.pending()) return;
    const delayMs = this.#owner.kept() + TIME_KEPT_MS - this.now();
    this.#timer = this.#clock.after(delayMs > 0 ? Math.ceil(delayMs) : RETRY_MS, () => this.#fire());
  }

  /** Keeps the time no more. */
  close(): void {
    this.#running = false;
    this.#timer?.cancel();
  }

  #fire(): void {
    this.#timer = undefined;
    if (!this.#running || !this.#owner.pending()) return;
    if (this.now() - this.#owner.kept() >= TIME_KEPT_MS) this.#owner.keep();
    this.watch();
  }
}
