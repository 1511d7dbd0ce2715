/**
 * How much matching a server does before others get their turn.
 *
 * Patterns that were made to be dear cost milliseconds each, and there may be a thousand on every connection: so their
 * steps are counted, for all connections together. Work that comes when those of a turn are taken waits for a later
 * one: what one owner has in the order in which it came, and owners that wait take turns, so that who has much to do
 * makes another wait for a turn of his, and not for all of it. Nobody asks when a turn has begun: what others did in
 * earlier ones counts too, so one who publishes to plain names waits for a turn once in a while, and that is cheaper
 * than a timer for each.
 *
 * @module
 */
import type { Clock } from "../../lib/base/clock.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { Answer } from "../commands.ts";

/** A step takes some 4 ns, and the last match of a turn may be one of 1,300,000: some 10 ms in all, at most. */
const STEPS_PER_TURN = 1_000_000;

/** Whose work it is. */
export interface Owner {
  /** Nobody needs it any more. */
  readonly isClosed: boolean;
}

/** The pace of one server. */
export class Pace {
  /** Steps that were taken since others had their turn: whoever matches adds its own. */
  steps = 0;
  readonly #clock: Pick<Clock, "after">;
  /** What waits, of who is next first; each says whether it is done. While there is some, the turn is over. */
  readonly #waiting: Map<Owner, (() => boolean)[]> = new Map();

  /** Nothing waits yet. */
  constructor(clock: Pick<Clock, "after">) {
    this.#clock = clock;
  }

  /** Others are to have their turn. */
  get isOver(): boolean {
    return this.steps >= STEPS_PER_TURN;
  }

  /**
   * Does some work, and gives what it returns: at once, or after what waits of the same owner. Work that finds the turn
   * over when it has done a part returns undefined, and is called again in a later one.
   *
   * @throws {FirkinError} CLOSED — the owner is
   */
  run<Result>(owner: Owner, work: () => Result | undefined): Answer<Result> {
    const part = (): Result | undefined => {
      if (owner.isClosed) throw new FirkinError("CLOSED", "Cannot go on: the connection is closed");
      return work();
    };
    if (!this.isOver) {
      const result = part();
      if (result !== undefined) return result;
    }
    return new Promise((resolve, reject) => {
      this.#wait(owner, () => {
        try {
          const result = part();
          if (result === undefined) return false;
          resolve(result);
        } catch (error) {
          reject(error);
        }
        return true;
      });
    });
  }

  /** Does something with each item, with as many in a turn as there is time for, and waits whenever `work` says so. */
  async each<Item>(
    owner: Owner,
    items: readonly Item[],
    work: (item: Item) => Promise<void> | undefined,
  ): Promise<void> {
    for (let next = 0; next < items.length;) {
      await this.run(owner, () => {
        let wait: Promise<void> | undefined;
        while (next < items.length && wait === undefined && !this.isOver) wait = work(items[next++]!);
        return wait ?? null;
      });
    }
  }

  #wait(owner: Owner, part: () => boolean): void {
    const parts = this.#waiting.get(owner);
    if (parts !== undefined) return void parts.push(part);
    this.#waiting.set(owner, [part]);
    if (this.#waiting.size === 1) this.#rest();
  }

  #rest(): void {
    this.#clock.after(0, () => {
      this.steps = 0;
      // Who is not done is put behind the others, where it is come to again.
      for (const [owner, parts] of this.#waiting) {
        if (this.isOver) break;
        let done = 0;
        while (done < parts.length && !this.isOver && parts[done]!()) done++;
        parts.splice(0, done);
        this.#waiting.delete(owner);
        if (parts.length > 0) this.#waiting.set(owner, parts);
      }
      if (this.#waiting.size > 0) this.#rest();
    });
  }
}
