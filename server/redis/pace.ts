/**
 * How much matching a server does before others get their turn.
 *
 * Patterns that were made to be dear cost milliseconds each, and there may be a thousand on every connection: so their
 * steps are counted, for all connections together. Work that comes when those of a turn are taken waits for a later
 * one, in the order in which it came. Nobody asks when a turn has begun: what others did in earlier ones counts too, so
 * one who publishes to plain names waits for a turn once in a while, and that is cheaper than a timer for each.
 *
 * @module
 */
import type { Clock } from "../../lib/base/clock.ts";
import type { Answer } from "../commands.ts";

/** A step takes some 4 ns, and the last match of a turn may be one of 1,300,000: some 10 ms in all, at most. */
const STEPS_PER_TURN = 1_000_000;

/** The pace of one server. */
export class Pace {
  /** Steps that were taken since others had their turn: whoever matches adds its own. */
  steps = 0;
  readonly #clock: Pick<Clock, "after">;
  /** Each says whether it is done. */
  readonly #waiting: (() => boolean)[] = [];

  /** Nothing waits yet. */
  constructor(clock: Pick<Clock, "after">) {
    this.#clock = clock;
  }

  /** Others are to have their turn. */
  get isOver(): boolean {
    return this.steps >= STEPS_PER_TURN;
  }

  /**
   * Does some work, and gives what it returns: at once, or after all that waits. Work that finds the turn over when it
   * has done a part returns undefined, and is called again in the next turn, before everything else.
   */
  run<Result>(work: () => Result | undefined): Answer<Result> {
    if (!this.isOver) {
      const result = work();
      if (result !== undefined) return result;
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => {
        try {
          const result = work();
          if (result === undefined) return false;
          resolve(result);
        } catch (error) {
          reject(error);
        }
        return true;
      });
      if (this.#waiting.length === 1) this.#rest();
    });
  }

  #rest(): void {
    this.#clock.after(0, () => {
      this.steps = 0;
      let done = 0;
      while (done < this.#waiting.length && !this.isOver && this.#waiting[done]!()) done++;
      this.#waiting.splice(0, done);
      if (this.#waiting.length > 0) this.#rest();
    });
  }
}
