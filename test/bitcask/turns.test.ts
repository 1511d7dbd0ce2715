/**
 * Long work in slices.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { ManualClock, type Timer } from "../../lib/base/clock.ts";
import { Turns } from "../../lib/bitcask/turns.ts";
import { Cask } from "../suites/embedded.ts";

/** A clock that counts the timers that wait, and the holds. */
class CountingClock extends ManualClock {
  timers = 0;
  holds = 0;
  ms = 0;

  override monotonic(): number {
    return this.ms;
  }

  override after(delayMs: number, callback: () => void): Timer {
    this.timers++;
    return super.after(delayMs, callback);
  }

  override hold(): Timer {
    this.holds++;
    return { cancel: () => this.holds-- };
  }
}

describe("Turns", () => {
  test("set no timer for little work, and do not hold the process", () => {
    const clock = new CountingClock();
    const turns = new Turns(clock);
    for (let step = 0; step < 500; step++) expect(turns.isOver(1)).toBe(false);
    turns.end();
    expect([clock.timers, clock.holds]).toEqual([0, 0]);
  });

  test("are over after two milliseconds, or much work, and count from the pause on", async () => {
    const clock = new CountingClock();
    let pauses = 0;
    const turns = new Turns(clock, undefined, () => pauses++);
    let work = 0;
    while (!turns.isOver(100)) work += 100;
    expect(work).toBeGreaterThan(10_000);
    clock.advance(0);
    await turns.pause();
    expect(turns.isOver(1_000)).toBe(false);
    clock.ms += 2;
    // The clock is looked at now and then.
    expect(turns.isOver(1)).toBe(false);
    expect(turns.isOver(1_000)).toBe(true);
    expect(pauses).toBe(1);
    turns.end();
  });

  test("are as long as they are told to be", () => {
    const clock = new CountingClock();
    const turns = new Turns(clock, { milliseconds: 8, work: 640 });
    let work = 0;
    while (!turns.isOver(5)) work += 5;
    expect(work).toBe(635);
    const others = new Turns(clock, { milliseconds: 8, work: 640 });
    clock.ms += 7;
    expect(others.isOver(10)).toBe(false);
    clock.ms += 1;
    expect([others.isOver(9), others.isOver(1)]).toEqual([false, true]);
    turns.end();
    others.end();
  });

  test("end a pause when they are hurried, without a turn of the clock", async () => {
    const turns = new Turns(new CountingClock());
    turns.hurry();
    const pause = turns.pause();
    turns.hurry();
    await pause;
    turns.end();
  });

  test("pause until a timer fires that was set before the slice was over", async () => {
    const clock = new CountingClock();
    const turns = new Turns(clock);
    expect(turns.isOver(1_000)).toBe(false);
    expect(clock.timers).toBe(1);
    let over = false;
    const pause = turns.pause().then(() => over = true);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    expect([over, clock.timers, clock.holds]).toEqual([false, 1, 1]);
    clock.advance(0);
    await pause;
    expect(clock.timers).toBe(1);
    // The process must not end between two slices.
    expect(clock.holds).toBe(1);
    turns.end();
    expect(clock.holds).toBe(0);
  });
});

/** The names of hints, those that are being written among them. */
function hints({ disk }: Cask): string[] {
  return disk.list().filter((name) => name.includes(".hint"));
}

/** How many turns of the clock it takes until there are so many hints. */
async function turnsUntil(cask: Cask, count: number): Promise<number> {
  for (let turns = 0;; turns++) {
    if (hints(cask).length >= count && !hints(cask).some((name) => name.endsWith(".new"))) return turns;
    cask.clock.advance(0);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  }
}

describe("Hints of a store that is open, in turns", () => {
  test("are made in turns of a few thousand records", async () => {
    const cask = await Cask.open({ segmentBytesMax: 16 * 1024 * 1024, sync: "os" });
    for (let index = 0; index < 40_000; index++) void cask.set(`k${index}`, "v");
    await cask.engine.sync();
    const compaction = cask.engine.compact();
    const turns = await turnsUntil(cask, 1);
    // 157 steps to walk, 79 to count, 79 to split, and more to sort and to write, 32 of them in a turn.
    expect(turns).toBeGreaterThanOrEqual(12);
    await cask.finish(compaction);
    await cask.close();
  });

  test("are made in longer turns while several segments wait", async () => {
    const turnsOf = async (segments: number): Promise<number> => {
      const cask = await Cask.open({ segmentBytesMax: 600_000, sync: "os" });
      for (let index = 0; cask.disk.segments().length <= segments; index++) {
        void cask.set(`k${index}`, "v");
        if (index % 1_000 === 0) await cask.engine.sync();
      }
      const turns = await turnsUntil(cask, segments);
      await cask.close();
      return turns;
    };
    const one = await turnsOf(1);
    expect(one).toBeGreaterThan(4);
    // A third, a half, and all of the turns of one.
    expect(await turnsOf(3)).toBeLessThan(2.5 * one);
  });
});
