/**
 * Long work in slices.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { ManualClock, type Timer } from "../../lib/base/clock.ts";
import { Turns } from "../../lib/bitcask/turns.ts";

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
