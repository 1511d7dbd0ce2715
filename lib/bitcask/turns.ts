/**
 * Long work in slices of two milliseconds, so that others have their turn in between.
 *
 * Node makes every timer wait for a millisecond. The one that ends a pause is set when a slice has hardly begun, so it
 * is due by the end of it, and a pause takes what the others need: with slices of one millisecond an open was idle for
 * half of its time. Work of less than a slice sets no timer.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";

/** A slice ends after this, or after so much work if that comes first: a test's clock may stand still. */
const SLICE_MS = 2;
const SLICE_WORK = 32_768;

/** Work between two looks at the clock. */
const LOOK_WORK = 512;

/** The slices of some work. To be ended: after the first pause the process does not end before. */
export class Turns {
  readonly #clock: Clock;
  readonly #onPause: () => void;
  /** Between two slices nothing else may be left to do: the process must not end there. */
  #hold: Timer | undefined;
  #timer: Timer | undefined;
  #pause: Promise<void> | undefined;
  #sliceMs: number;
  #work = 0;
  #lookWork: number = LOOK_WORK;

  /** Begins the first slice. `onPause` is called between two. */
  constructor(clock: Clock, onPause: () => void = () => {}) {
    this.#clock = clock;
    this.#onPause = onPause;
    this.#sliceMs = clock.monotonic();
  }

  /** Counts some work, a record or an entry as one; true when the slice is over and a pause is due. */
  isOver(work: number): boolean {
    this.#work += work;
    if (this.#work < this.#lookWork) return false;
    this.#lookWork = this.#work + LOOK_WORK;
    void this.#arm();
    return this.#work >= SLICE_WORK || this.#clock.monotonic() - this.#sliceMs >= SLICE_MS;
  }

  /** Gives others their turn. */
  async pause(): Promise<void> {
    this.#hold ??= this.#clock.hold();
    this.#onPause();
    await this.#arm();
    this.#pause = undefined;
    this.#work = 0;
    this.#lookWork = LOOK_WORK;
    this.#sliceMs = this.#clock.monotonic();
  }

  /** Ends it. */
  end(): void {
    this.#timer?.cancel();
    this.#hold?.cancel();
  }

  #arm(): Promise<void> {
    return this.#pause ??= new Promise((resolve) => this.#timer = this.#clock.after(0, resolve));
  }
}
