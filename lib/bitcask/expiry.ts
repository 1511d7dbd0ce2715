/**
 * Deadlines, soonest first, and one timer for all of them.
 *
 * A binary heap in typed arrays: a deadline (f64), and the address of the record that carries it. A key that is
 * overwritten, touched or deleted leaves its old entry behind; when that comes up, its record is no longer the key's
 * and it is let go. While the greater half is stale, each new deadline sweeps out a few. So setting a deadline costs
 * O(log n), a key holds no timer, and no turn of the event loop is long.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";

/** At most this many keys fall due in one turn of the event loop, so that others get theirs. */
const DUE_PER_TURN = 4_096;

/** Entries looked at with each `add` while the greater half is stale, and how many stale ones are worth it. */
const SWEEP_PER_ADD = 4;
const STALE_MIN = 1_024;

/** Wait before a look at deadlines that are due but could not be handled yet. */
const RETRY_MS = 10;

/** What the schedule asks of its owner. */
export interface ExpiryOwner {
  /** The store's time in epoch milliseconds, which never steps back. */
  now(): number;
  /** True when the record at `address` still is its key's newest. */
  isLive(address: number): boolean;
  /** The record's deadline has come. False: not now, ask again. */
  expire(address: number): boolean;
}

/** When each key ends, and who is next. */
export class Expiry {
  readonly #clock: Clock;
  readonly #owner: ExpiryOwner;
  #deadlines = new Float64Array(64);
  #addresses = new Float64Array(64);
  #count = 0;
  /** Entries whose record is no longer its key's. */
  #stale = 0;
  #sweepAt = 0;
  #timer: Timer | undefined;
  #timerDue = Infinity;
  /** No timer before the log is replayed, nor after the close. */
  #running = false;

  /** An empty schedule. */
  constructor(clock: Clock, owner: ExpiryOwner) {
    this.#clock = clock;
    this.#owner = owner;
  }

  /** Number of deadlines, stale ones counted. */
  get count(): number {
    return this.#count;
  }

  /** True while the record of some entry still is its key's. */
  get pending(): boolean {
    return this.#count > Math.max(this.#stale, 0);
  }

  /** The soonest deadline, stale ones counted; Infinity when there is none. */
  get soonest(): number {
    return this.#count === 0 ? Infinity : this.#deadlines[0]!;
  }

  /** Bytes of the heap. */
  get bytes(): number {
    return this.#deadlines.byteLength + this.#addresses.byteLength;
  }

  /** Adds the deadline of the record at `address`. */
  add(deadline: number, address: number): void {
    if (this.#stale > STALE_MIN && this.#stale * 2 > this.#count) this.#sweep();
    if (this.#count === this.#deadlines.length) this.#resize(this.#count * 2);
    this.#place(this.#count++, deadline, address);
    this.#arm();
  }

  /** The record of an entry is no longer its key's. */
  noteStale(): void {
    this.#stale++;
  }

  /** Lets deadlines fall due from here on. */
  start(): void {
    this.#running = true;
    this.#arm();
  }

  /** Stops the timer for good. */
  close(): void {
    this.#running = false;
    this.#timer?.cancel();
  }

  /** One timer, for the soonest deadline. */
  #arm(): void {
    const due = this.#count === 0 ? Infinity : this.#deadlines[0]!;
    if (!this.#running || due >= this.#timerDue) return;
    this.#wait(due, due - this.#owner.now());
  }

  #wait(due: number, delayMs: number): void {
    this.#timer?.cancel();
    this.#timerDue = due;
    // Timers of some runtimes fire up to a millisecond early: a whole millisecond up costs less than a second look.
    this.#timer = this.#clock.after(Math.max(0, Math.ceil(delayMs)), () => this.#fire());
  }

  #fire(): void {
    this.#timerDue = Infinity;
    if (!this.#running) return;
    const now = this.#owner.now();
    for (let done = 0; this.#count > 0 && this.#deadlines[0]! <= now; done++) {
      if (done === DUE_PER_TURN) return this.#wait(now, 0);
      const address = this.#addresses[0]!;
      if (this.#owner.isLive(address) && !this.#owner.expire(address)) return this.#wait(now, RETRY_MS);
      this.#remove(0);
    }
    this.#arm();
  }

  /** Removes an entry. One that was live is about to be noted as stale by the record that ends its key. */
  #remove(index: number): void {
    this.#stale--;
    this.#count--;
    if (index < this.#count) {
      const deadline = this.#deadlines[this.#count]!;
      const address = this.#addresses[this.#count]!;
      const rises = index > 0 && this.#deadlines[(index - 1) >> 1]! > deadline;
      if (rises) this.#place(index, deadline, address);
      else this.#sink(index, deadline, address);
    }
    if (this.#count * 4 < this.#deadlines.length && this.#deadlines.length > 64) {
      this.#resize(this.#deadlines.length / 2);
    }
  }

  /** Moves up from `index` to where the deadline belongs. */
  #place(index: number, deadline: number, address: number): void {
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (this.#deadlines[parent]! <= deadline) break;
      this.#deadlines[index] = this.#deadlines[parent]!;
      this.#addresses[index] = this.#addresses[parent]!;
      index = parent;
    }
    this.#deadlines[index] = deadline;
    this.#addresses[index] = address;
  }

  /** Moves down from `index` to where the deadline belongs. */
  #sink(index: number, deadline: number, address: number): void {
    for (;;) {
      let child = 2 * index + 1;
      if (child >= this.#count) break;
      if (child + 1 < this.#count && this.#deadlines[child + 1]! < this.#deadlines[child]!) child++;
      if (this.#deadlines[child]! >= deadline) break;
      this.#deadlines[index] = this.#deadlines[child]!;
      this.#addresses[index] = this.#addresses[child]!;
      index = child;
    }
    this.#deadlines[index] = deadline;
    this.#addresses[index] = address;
  }

  /** Looks at a few entries in turn and removes the stale ones: a little with each `add`, so that no turn is long. */
  #sweep(): void {
    for (let looked = 0; looked < SWEEP_PER_ADD && this.#count > 0; looked++) {
      if (this.#sweepAt >= this.#count) this.#sweepAt = 0;
      if (this.#owner.isLive(this.#addresses[this.#sweepAt]!)) this.#sweepAt++;
      else this.#remove(this.#sweepAt);
    }
  }

  #resize(capacity: number): void {
    const deadlines = new Float64Array(capacity);
    const addresses = new Float64Array(capacity);
    deadlines.set(this.#deadlines.subarray(0, this.#count));
    addresses.set(this.#addresses.subarray(0, this.#count));
    this.#deadlines = deadlines;
    this.#addresses = addresses;
  }
}
