/**
 * A pace without a clock.
 *
 * @module
 */
import { Pace } from "../../../server/redis/pace.ts";
import { settled } from "../../wire/loopback.ts";

/** A pace whose turns end when the test says so. */
export class TestPace extends Pace {
  /** Steps of the turns that are over. */
  readonly turns: number[] = [];
  readonly #rests: (() => void)[];

  constructor() {
    const rests: (() => void)[] = [];
    super({
      after: (_, rest) => {
        rests.push(rest);
        return { cancel: () => {} };
      },
    });
    this.#rests = rests;
  }

  /** Something waits for the turn's end. */
  get isResting(): boolean {
    return this.#rests.length > 0;
  }

  /** Ends the turn, when something waits for that; the next one begins. */
  endTurn(): void {
    const rest = this.#rests.shift();
    if (rest === undefined) return;
    this.turns.push(this.steps);
    rest();
  }

  /** Ends turn after turn until `isDone`. */
  async runUntil(isDone: () => boolean): Promise<void> {
    for (;;) {
      // Whatever was begun in a turn takes its steps, and is told, before the turn ends.
      for (let left = 5; left > 0; left--) await settled();
      if (isDone()) return;
      this.endTurn();
    }
  }
}
