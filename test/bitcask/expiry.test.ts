/**
 * The schedule of deadlines by itself, and what the engine makes of it.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { type Clock, ManualClock, type Timer } from "../../lib/base/clock.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { Expiry } from "../../lib/bitcask/expiry.ts";
import type { ChangeEvent } from "../../lib/engine/engine.ts";
import { gate } from "../suites/disk.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { setEntry } from "../suites/engine_many.ts";
import { brief, bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

/** A schedule whose owner notes what expires. */
class Schedule {
  readonly clock: ManualClock;
  readonly expiry: Expiry;
  readonly live = new Set<number>();
  readonly expired: number[] = [];
  refuse = false;
  /** How often the schedule asked whether a record lives. */
  looks = 0;

  constructor(clock: ManualClock = new ManualClock(), timers: Clock = clock) {
    this.clock = clock;
    this.expiry = new Expiry(timers, {
      now: () => clock.wall(),
      isLive: (address) => {
        this.looks++;
        return this.live.has(address);
      },
      expire: (address) => {
        if (this.refuse) return false;
        this.expired.push(address);
        this.end(address);
        return true;
      },
    });
    this.expiry.start();
  }

  add(inMs: number, address: number): void {
    this.live.add(address);
    this.expiry.add(this.clock.wall() + inMs, address);
  }

  /** The record is no longer its key's. */
  end(address: number): void {
    if (this.live.delete(address)) this.expiry.noteStale();
  }
}

describe("Expiry", () => {
  test("expires in order of deadlines, at the deadline", () => {
    const schedule = new Schedule();
    const random = randomOf(7);
    const delays = Array.from({ length: 3_000 }, () => 1 + random(1_000));
    for (const [address, delay] of delays.entries()) schedule.add(delay, address);
    for (let time = 1; time <= 1_000; time++) {
      const before = schedule.expired.length;
      schedule.clock.advance(1);
      for (const address of schedule.expired.slice(before)) expect(delays[address]).toBe(time);
    }
    expect(schedule.expired.length).toBe(3_000);
    expect(schedule.expiry.count).toBe(0);
    expect(schedule.expiry.bytes).toBe(1_024);
  });

  test("lets stale entries go without a word", () => {
    const schedule = new Schedule();
    for (let address = 0; address < 10; address++) schedule.add(100, address);
    for (let address = 0; address < 10; address += 2) schedule.end(address);
    schedule.clock.advance(100);
    expect(schedule.expired.toSorted((left, right) => left - right)).toEqual([1, 3, 5, 7, 9]);
  });

  test("sweeps stale entries out when they may be the greater half", () => {
    const schedule = new Schedule();
    for (let round = 0; round < 50_000; round++) {
      schedule.end(round - 1);
      schedule.add(1_000_000 + round, round);
    }
    expect(schedule.expiry.count).toBeLessThan(2_100);
    schedule.clock.advance(2_000_000);
    expect(schedule.expired).toEqual([49_999]);
  });

  test("looks at nothing while nothing is stale, and at a few entries in one turn otherwise", () => {
    const schedule = new Schedule();
    for (let address = 0; address < 20_000; address++) schedule.add(1_000_000, address);
    expect(schedule.looks).toBe(0);
    for (let address = 0; address < 15_000; address++) schedule.end(address);
    for (let address = 20_000; address < 20_100; address++) {
      const before = schedule.looks;
      schedule.add(1_000_000, address);
      expect(schedule.looks - before).toBeLessThanOrEqual(4);
    }
    expect(schedule.expiry.count).toBeLessThan(20_000);
  });

  test("keeps all entries that live through sweeps, in order", () => {
    const schedule = new Schedule();
    const random = randomOf(3);
    const delays = Array.from({ length: 10_000 }, () => 1 + random(100_000));
    for (const [address, delay] of delays.entries()) {
      schedule.add(delay, address);
      if (random(3) !== 0) schedule.end(random(address + 1));
    }
    const expected = schedule.live.size;
    schedule.clock.advance(100_001);
    const times = schedule.expired.map((address) => delays[address]!);
    expect(times).toEqual(times.toSorted((left, right) => left - right));
    expect(times.length).toBe(expected);
  });

  test("waits longer than the runtime's timers can", () => {
    const clock = new ManualClock();
    let timers = 0;
    const short: Clock = {
      wall: () => clock.wall(),
      monotonic: () => clock.monotonic(),
      hold: () => clock.hold(),
      random: (target) => clock.random(target),
      after: (delayMs, callback): Timer => {
        timers++;
        return clock.after(Math.min(delayMs, 2 ** 31 - 1), callback);
      },
    };
    const schedule = new Schedule(clock, short);
    schedule.add(10 * 2 ** 31, 1);
    clock.advance(10 * 2 ** 31 - 1);
    expect(schedule.expired).toEqual([]);
    clock.advance(1);
    expect(schedule.expired).toEqual([1]);
    expect(timers).toBeLessThan(20);
  });

  test("asks again when its owner cannot yet", () => {
    const schedule = new Schedule();
    schedule.add(5, 1);
    schedule.refuse = true;
    schedule.clock.advance(50);
    expect(schedule.expired).toEqual([]);
    schedule.refuse = false;
    schedule.clock.advance(10);
    expect(schedule.expired).toEqual([1]);
  });

  test("gives others a turn when very many are due", () => {
    const schedule = new Schedule();
    for (let address = 0; address < 10_000; address++) schedule.add(5, address);
    let between = -1;
    schedule.clock.after(5, () => between = schedule.expired.length);
    schedule.clock.advance(5);
    expect(schedule.expired.length).toBe(10_000);
    expect(between).toBeGreaterThanOrEqual(0);
    expect(between).toBeLessThan(10_000);
  });

  test("says nothing before start() nor after close()", () => {
    const clock = new ManualClock();
    const expired: number[] = [];
    const expiry = new Expiry(clock, {
      now: () => clock.wall(),
      isLive: () => true,
      expire: (address) => expired.push(address) > 0,
    });
    expiry.add(clock.wall() + 5, 1);
    clock.advance(10);
    expect(expired).toEqual([]);
    expiry.start();
    clock.advance(0);
    expect(expired).toEqual([1]);
    expiry.add(clock.wall() + 5, 2);
    expiry.close();
    expiry.add(clock.wall() + 1, 3);
    clock.advance(100);
    expect(expired).toEqual([1]);
  });
});

describe("Expiry of keys", () => {
  test("at the deadline a key is gone from every read, before any record says so", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { deadline: { ttl: 100 } });
    await cask.set("b", "1");
    cask.disk.before = (call) => call.action === "sync" ? new Promise(() => {}) : undefined;
    cask.clock.advance(99);
    expect(cask.get("a")).toBe("1");
    cask.clock.advance(1);
    const keys = [bytesOf("a"), bytesOf("b")];
    expect(cask.get("a")).toBeUndefined();
    expect(await cask.engine.get("b", keys[0]!)).toBeUndefined();
    expect((await cask.engine.getMany("b", keys)).map((entry) => textOf(entry?.key))).toEqual([undefined, "b"]);
    expect(await cask.all()).toBe("b=1");
    expect((await cask.engine.list("b", { limit: 9, reverse: true })).entries.length).toBe(1);
  });

  test("each is told once, with a revision, and never for a key that was written, touched or persisted", async () => {
    const cask = await Cask.open();
    const ttl = { deadline: { ttl: 100 } };
    for (const key of ["a", "written", "touched", "persisted", "deleted", "moved"]) await cask.set(key, "1", ttl);
    await cask.set("written", "2");
    await cask.engine.touch("b", bytesOf("touched"), { ttl: 300 });
    await cask.engine.touch("b", bytesOf("persisted"), undefined);
    await cask.delete("deleted");
    await cask.set("moved", "2", { deadline: { ttl: 200 } });
    const subscription = cask.engine.subscribe({});
    await cask.advance(100);
    const { revision } = await cask.engine.stats();
    await cask.advance(1_000_000);
    const events = await cask.heard(subscription) as ChangeEvent[];
    expect(events.map(brief)).toEqual(["expire a", "expire moved", "expire touched"]);
    expect(events[0]!.revision).toBe(revision!);
    expect(await cask.all()).toBe("persisted=1 written=2");
  });

  test("a write that finds its key due tells the expiry first", async () => {
    const cask = await Cask.open();
    const subscription = cask.engine.subscribe({});
    await cask.set("a", "1", { deadline: { ttl: 10 } });
    cask.clock.advance(10);
    const lost = await cask.set("a", "2", { ifRevision: 1 });
    expect(lost).toEqual({ ok: false, current: undefined });
    expect((await cask.set("a", "3", { ifRevision: 0 })).ok).toBe(true);
    expect(await cask.engine.increment("b", bytesOf("n"), 1)).toMatchObject({ value: 1 });
    expect((await cask.told(subscription)).slice(0, 3)).toEqual(["set a=1", "expire a", "set a=3"]);
  });

  test("a write that finds a waiting key due tells the expiry in between, with and without a condition", async () => {
    const ways: ((cask: Cask) => Promise<unknown>)[] = [
      (cask) => cask.set("a", "2", { ifRevision: 0 }),
      (cask) => cask.set("a", "2"),
      (cask) => cask.atomic("set a=2"),
      (cask) => cask.engine.setMany("b", [setEntry("a=2")]),
    ];
    for (const write of ways) {
      const cask = await Cask.open();
      await cask.set("seed", "1");
      const subscription = cask.engine.subscribe({});
      const held = gate();
      cask.disk.before = (call) => call.action === "sync" ? held.wait : undefined;
      const writes: Promise<unknown>[] = [cask.set("seed", "2")];
      await cask.settle();
      writes.push(cask.set("a", "1", { deadline: { ttl: 10 } }));
      cask.clock.advance(10);
      writes.push(write(cask));
      held.open();
      await Promise.all(writes);
      await cask.advance(1_000);
      expect(await cask.told(subscription)).toEqual(["set seed=2", "set a=1", "expire a", "set a=2"]);
    }
  });

  test("a set that finds its key due, whose expiry the disk has refused, tells the expiry first", async () => {
    const cask = await Cask.open();
    const subscription = cask.engine.subscribe({});
    await cask.set("a", "1", { deadline: { ttl: 10 } });
    cask.disk.before = ({ action }) => {
      if (action === "write") throw new FirkinError("IO", "The test says so");
    };
    await cask.advance(10);
    cask.disk.before = () => {};
    expect(cask.get("a")).toBeUndefined();
    await cask.set("other", "1");
    await cask.advance(500);
    await cask.set("a", "2");
    await cask.advance(10_000);
    expect(await cask.told(subscription)).toEqual(["set a=1", "set other=1", "expire a", "set a=2"]);
  });

  test("the time of an expiry is at its deadline or later, whatever else its tick has written", async () => {
    const cask = await Cask.open();
    const subscription = cask.engine.subscribe({});
    await cask.set("a", "1", { deadline: { ttl: 10 } });
    const deadline = cask.clock.wall() + 10;
    const other = cask.set("other", "1");
    cask.clock.advance(10);
    await Promise.all([other, cask.set("b", "1")]);
    const events = await cask.heard(subscription);
    const expiry = events.find((event) => event.type === "expire");
    expect(expiry !== undefined && "at" in expiry && expiry.at >= deadline).toBe(true);
    const times = events.flatMap((event) => "at" in event ? [event.at] : []);
    expect(times).toEqual(times.toSorted((one, two) => one - two));
  });

  test("expired stays expired after a restart with an earlier clock", async () => {
    for (const end of ["close", "crash", "power"]) {
      const cask = await Cask.open();
      await cask.set("a", "1", { deadline: { ttl: 1_000 } });
      await cask.set("later", "1", { deadline: { ttl: 60_000 } });
      await cask.advance(1_000);
      if (end === "close") await cask.close();
      else if (end === "crash") cask.disk.crash();
      else cask.disk.cutPower();
      cask.clock.stepWall(-3_600_000);
      await cask.open();
      expect(cask.get("a")).toBeUndefined();
      expect(cask.get("later")).toBe("1");
      await cask.advance(59_000);
      expect(cask.get("later")).toBeUndefined();
    }
  });

  test("a step of the wall clock changes nothing while the store is open", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { deadline: { ttl: 1_000 } });
    cask.clock.stepWall(3_600_000);
    await cask.settle();
    expect(cask.get("a")).toBe("1");
    cask.clock.stepWall(-7_200_000);
    await cask.advance(1_000);
    expect(cask.get("a")).toBeUndefined();
  });

  test("keys that fall due while the store is closed are told after the open, once", async () => {
    const cask = await Cask.open();
    const subscription = cask.engine.subscribe({});
    await cask.set("a", "1", { deadline: { ttl: 1_000 } });
    const { cursor } = subscription;
    await cask.close();
    cask.clock.advance(5_000);
    await cask.open();
    expect(cask.get("a")).toBeUndefined();
    await cask.settle();
    expect(await cask.told(cask.engine.subscribe({ from: cursor }))).toEqual(["set a=1", "expire a"]);
    await cask.reopen();
    await cask.advance(10_000);
    expect(await cask.told(cask.engine.subscribe({ from: cursor }))).toEqual(["set a=1", "expire a"]);
  });

  test("10,000 keys due at once come in order of their deadlines", async () => {
    const cask = await Cask.open({ segmentBytesMax: 256 * 1024 });
    const random = randomOf(5);
    await Promise.all(
      Array.from({ length: 10_000 }, (_, index) => {
        return cask.set(`k${index}`, "", { deadline: { expiresAt: cask.clock.wall() + 1 + random(1_000) } });
      }),
    );
    const subscription = cask.engine.subscribe({ snapshot: true });
    const deadlines = new Map<string, number>();
    for (;;) {
      const events = await cask.finish(subscription.next());
      for (const event of events as ChangeEvent[]) {
        if (event.type === "set") deadlines.set(textOf(event.key)!, event.expiresAt!);
      }
      if (events!.at(-1)!.type === "synced") break;
    }
    expect(deadlines.size).toBe(10_000);
    await cask.advance(1_000);
    const events = await cask.heard(subscription) as ChangeEvent[];
    const times = events.map(({ key }) => deadlines.get(textOf(key)!)!);
    expect(events.every(({ type }) => type === "expire")).toBe(true);
    expect(times).toEqual(times.toSorted((left, right) => left - right));
    expect(times.length).toBe(10_000);
    expect((await cask.engine.stats())["keys"]).toBe(0);
  });

  test("is tried again when its record found no space", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { deadline: { ttl: 10 } });
    const subscription = cask.engine.subscribe({});
    cask.disk.before = (call) => {
      if (call.action === "write") throw new FirkinError("FULL", "Cannot write: the test says so");
    };
    await cask.advance(10);
    cask.disk.before = () => {};
    expect(cask.get("a")).toBeUndefined();
    await cask.advance(2_000);
    expect(await cask.told(subscription)).toEqual(["expire a"]);
  });

  test("never ends a key that stands where a due one stood before compaction", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 1 });
    await cask.set("a", "1", { deadline: { ttl: 100 } });
    await cask.delete("a");
    await cask.advance(10);
    await cask.compact();
    await cask.set("b", "1");
    await cask.set("c", "1", { deadline: { ttl: 1_000 } });
    await cask.advance(100);
    expect(await cask.all()).toBe("b=1 c=1");
    await cask.advance(1_000);
    expect(await cask.all()).toBe("b=1");
  });

  test("leaves no entry behind that points into the middle of a record after compaction", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 1 });
    await cask.set("seed", "1");
    await cask.set("a", "1", { deadline: { ttl: 100 } });
    await cask.delete("a");
    await cask.delete("seed");
    await cask.advance(10);
    await cask.compact();
    for (let index = 0; index < 4; index++) await cask.set(`k${index}`, "x".repeat(2_000));
    expect((await cask.engine.stats())["deadlines"]).toBe(1);
    await cask.advance(100);
    expect((await cask.engine.stats())["deadlines"]).toBe(0);
  });

  test("never ends a key that stands where one stood whose write was undone", async () => {
    const cask = await Cask.open({ sync: "os" });
    await cask.set("seed", "1");
    cask.disk.before = (call) => {
      if (call.action === "write") throw new FirkinError("FULL", "Cannot write: the test says so");
    };
    const writes = [cask.set("a", "1", { deadline: { ttl: 10 } })];
    cask.clock.advance(10);
    writes.push(cask.set("a", "2"));
    for (const write of writes) expect(await errorCode(() => write)).toBe("FULL");
    cask.disk.before = () => {};
    await cask.set("z", "1");
    await cask.advance(5_000);
    expect(await cask.all()).toBe("seed=1 z=1");
  });
});
