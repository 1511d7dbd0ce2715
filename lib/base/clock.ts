/**
 * Time, timers and randomness behind one interface, so that a test owns them.
 *
 * Everything in `lib/` and `server/` that waits, dates or draws takes a {@link Clock}; nothing else
 * calls the runtime's own functions.
 *
 * @module
 */

/** A timer that can be cancelled. */
export interface Timer {
  /** Cancels the timer; later calls change nothing. */
  cancel(): void;
}

/** The time, timers and random bytes of a store. */
export interface Clock {
  /** Wall clock: milliseconds since 1970, which may step either way. */
  wall(): number;
  /** Milliseconds from an arbitrary start, which never step back. */
  monotonic(): number;
  /** Calls `callback` once after `delayMs`. The timer alone does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Keeps the process alive until it is cancelled, as an open socket would. */
  hold(): Timer;
  /** Fills `target` with unpredictable bytes and returns it. */
  random(target: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>;
}

/** `setTimeout` fires at once beyond this; a longer wait is cut and its owner looks again. */
const DELAY_MS_MAX = 2 ** 31 - 1;

/** The runtime's own clock. */
export const systemClock: Clock = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(Math.max(delayMs, 0), DELAY_MS_MAX));
    // Node and Bun return an object, Deno and browsers a number.
    (timer as unknown as { unref?: () => void }).unref?.();
    return { cancel: () => clearTimeout(timer) };
  },
  hold() {
    const timer = setInterval(() => {}, DELAY_MS_MAX);
    return { cancel: () => clearInterval(timer) };
  },
  random: (target) => crypto.getRandomValues(target),
};

/**
 * A clock that stands still until it is told to move; due timers run in order of their deadlines.
 *
 * @example A timer that fires when the test says so
 * ```ts
 * import { ManualClock } from "firkin";
 *
 * const clock = new ManualClock(1_000);
 * let fired = 0;
 * clock.after(50, () => fired++);
 * clock.advance(49);
 * clock.advance(1);
 * console.log(fired, clock.wall()); // 1 1050
 * ```
 */
export class ManualClock implements Clock {
  #wallMs: number;
  #monotonicMs = 0;
  #seed: number;
  #timers: { due: number; callback: () => void }[] = [];

  /** Starts at `wallMs`; `seed` fixes the random bytes. */
  constructor(wallMs = 1_700_000_000_000, seed = 1) {
    this.#wallMs = wallMs;
    this.#seed = seed;
  }

  /** The wall clock as last set. */
  wall(): number {
    return this.#wallMs;
  }

  /** Milliseconds advanced since the start. */
  monotonic(): number {
    return this.#monotonicMs;
  }

  /** Registers a timer that {@link ManualClock.advance} will run. */
  after(delayMs: number, callback: () => void): Timer {
    const timer = { due: this.#monotonicMs + Math.max(delayMs, 0), callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  /** Nothing: a test waits for what it waits for. */
  hold(): Timer {
    return { cancel: () => {} };
  }

  /** Seeded bytes (mulberry32): the same seed gives the same store. */
  random(target: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    for (let index = 0; index < target.length; index++) {
      this.#seed = (this.#seed + 0x6d2b79f5) | 0;
      let mixed = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      target[index] = (mixed ^ (mixed >>> 14)) & 0xff;
    }
    return target;
  }

  /** Moves both clocks by `milliseconds` and runs what falls due, earliest first. */
  advance(milliseconds: number): void {
    const end = this.#monotonicMs + milliseconds;
    for (;;) {
      let next: { due: number; callback: () => void } | undefined;
      for (const timer of this.#timers) {
        if (timer.due <= end && (next === undefined || timer.due < next.due)) next = timer;
      }
      if (next === undefined) break;
      this.#timers.splice(this.#timers.indexOf(next), 1);
      this.#move(Math.max(next.due - this.#monotonicMs, 0));
      next.callback();
    }
    this.#move(end - this.#monotonicMs);
  }

  /** Steps the wall clock alone, as an administrator or a time service would. */
  stepWall(milliseconds: number): void {
    this.#wallMs += milliseconds;
  }

  #move(milliseconds: number): void {
    this.#monotonicMs += milliseconds;
    this.#wallMs += milliseconds;
  }
}
