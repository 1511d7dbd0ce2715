/**
 * Long work in slices of a millisecond or two, so that others have their turn in between.
 *
 * Node makes every timer wait for a millisecond. The one that ends a pause is set when a slice has hardly begun, so it
 * is due by the end of it, and a pause takes what the others need: with slices of one millisecond an open was idle for
 * half of its time. Work of less than a slice sets no timer.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";

/** What ends a slice: a time, or some work if that is done first: a test's clock may stand still. */
export interface Slice {
  readonly milliseconds: number;
  /** In whatever the work is counted in. */
  readonly work: number;
}

/** Of an open and of a first listing: records or entries. */
const SLICE: Slice = { milliseconds: 2, work: 32_768 };

/** In the time of a slice the clock is looked at so often, at least. */
const LOOKS = 64;

/** The slices of some work. To be ended: after the first pause the process does not end before. */
export class Turns {
  readonly #clock: Clock;
  readonly #slice: Slice;
  readonly #onPause: () => void;
  /** Between two slices nothing else may be left to do: the process must not end there. */
  #hold: Timer | undefined;
  #timer: Timer | undefined;
  #pause: Promise<void> | undefined;
  #endPause: () => void = () => {};
  #startedMs: number;
  #work = 0;
  #lookWork: number;

  /** Begins the first slice. `onPause` is called between two. */
  constructor(clock: Clock, slice: Slice = SLICE, onPause: () => void = () => {}) {
    this.#clock = clock;
    this.#slice = slice;
    this.#onPause = onPause;
    this.#startedMs = clock.monotonic();
    this.#lookWork = slice.work / LOOKS;
  }

  /** Counts some work; true when the slice is over and a pause is due. */
  isOver(work: number): boolean {
    this.#work += work;
    if (this.#work < this.#lookWork) return false;
    this.#lookWork = this.#work + this.#slice.work / LOOKS;
    void this.#arm();
    return this.#work >= this.#slice.work || this.#clock.monotonic() - this.#startedMs >= this.#slice.milliseconds;
  }

  /** Gives others their turn. */
  async pause(): Promise<void> {
    this.#hold ??= this.#clock.hold();
    this.#onPause();
    await this.#arm();
    this.#pause = undefined;
    this.#work = 0;
    this.#lookWork = this.#slice.work / LOOKS;
    this.#startedMs = this.#clock.monotonic();
  }

  /** Ends a pause at once. */
  hurry(): void {
    this.#timer?.cancel();
    this.#endPause();
  }

  /** Ends it. */
  end(): void {
    this.#timer?.cancel();
    this.#hold?.cancel();
  }

  #arm(): Promise<void> {
    return this.#pause ??= new Promise((resolve) => {
      this.#endPause = resolve;
      this.#timer = this.#clock.after(0, resolve);
    });
  }
}
