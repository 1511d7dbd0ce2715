/**
 * The runtime's clock, as far as it can be seen without waiting.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { systemClock } from "../../lib/base/clock.ts";
import { moduleCommand } from "../suites/tools.ts";

/** Milliseconds in a timer's longest wait, and just beyond it. */
const LONGEST = 2 ** 31 - 1;

describe("systemClock", () => {
  test.each([LONGEST, LONGEST + 1, 2 ** 32, 2 ** 48, Infinity])("after(%p) does not fire at once", async (delayMs) => {
    let fired = false;
    const timer = systemClock.after(delayMs, () => fired = true);
    await new Promise<void>((resolve) => systemClock.after(20, resolve));
    timer.cancel();
    expect(fired).toBe(false);
  });

  test.each([0, -1, -(2 ** 40), -Infinity])("after(%p) fires at once", async (delayMs) => {
    await new Promise<void>((resolve) => systemClock.after(delayMs, resolve));
  });

  test("after() in order of the delays, but for those that are cancelled", async () => {
    const fired: number[] = [];
    const timers = [5, 1, 3].map((delayMs) => systemClock.after(delayMs * 10, () => fired.push(delayMs)));
    timers[2]!.cancel();
    timers[2]!.cancel();
    await new Promise<void>((resolve) => systemClock.after(80, resolve));
    expect(fired).toEqual([1, 5]);
  });

  test("monotonic() never steps back", () => {
    let before = systemClock.monotonic();
    for (let look = 0; look < 10_000; look++) {
      const now = systemClock.monotonic();
      if (now < before) throw new Error(`${now} comes after ${before}`);
      before = now;
    }
  });

  test("after() does not keep a process alive, a deadline of a store neither; hold() does", () => {
    const run = (what: string): { status: number | null; signal: string | null; stdout: string } => {
      const [program, ...args] = moduleCommand("test/base/waiter.ts", what);
      return spawnSync(program, args, { encoding: "utf8", timeout: 5_000 });
    };
    expect(run("after")).toMatchObject({ status: 0, stdout: "waits\n" });
    expect(run("store")).toMatchObject({ status: 0, stdout: "waits\n" });
    expect(run("hold")).toMatchObject({ status: 7, stdout: "waits\n" });
  });
});
