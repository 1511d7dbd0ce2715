/**
 * The store's time: that the log keeps it while a deadline is pending, and what that costs.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { type Clock, ManualClock, type Timer } from "../../lib/base/clock.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { Expiry } from "../../lib/bitcask/expiry.ts";
import { KIND, kindAt, recordBytesAt, timeAt } from "../../lib/bitcask/record.ts";
import { StoreTime, TIME_KEPT_MS } from "../../lib/bitcask/time.ts";
import type { File, FileMode } from "../../lib/fs/fs.ts";
import { Disk, type DiskCall } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { errorCode } from "../suites/fs.ts";

const MINUTE = 60_000;
const POLICIES = ["always", "interval", "os"] as const;

/** A disk that refuses every group in which a key expires. */
class NoExpiryDisk extends Disk {
  refused = 0;

  override open(name: string, mode: FileMode): File {
    const file = super.open(name, mode);
    const write = file.write.bind(file);
    return Object.assign(file, {
      write: (source: Uint8Array, position: number): void => {
        if (name.endsWith(".segment") && position > 0 && kindsOf(source).includes(KIND.expire)) {
          this.refused++;
          throw new FirkinError("FULL", "Cannot write: the test says so");
        }
        write(source, position);
      },
    });
  }
}

/** The kinds of the records in a group. */
function kindsOf(group: Uint8Array): number[] {
  const kinds: number[] = [];
  for (let at = 0; at < group.length; at += recordBytesAt(group, at)) kinds.push(kindAt(group, at));
  return kinds;
}

/** The times that the marks of a segment say, since the clock's start. */
function marksOf(disk: Disk, name: string, startMs: number): number[] {
  const bytes = disk.bytes(name);
  const times: number[] = [];
  for (let at = 32; at < bytes.length; at += recordBytesAt(bytes, at)) {
    if (kindAt(bytes, at) === KIND.mark) times.push(timeAt(bytes, at) - startMs);
  }
  return times;
}

function countWrites(cask: Cask): number {
  return cask.disk.count("write");
}

/** Lets minutes pass, one by one: what is written in one is there in the next. */
async function pass(cask: Cask, minutes: number): Promise<void> {
  for (let minute = 0; minute < minutes; minute++) await cask.advance(MINUTE);
}

describe("The store's time", () => {
  test.each(POLICIES)(
    "is kept by marks alone: hidden stays hidden after a kill and a clock set back, %s",
    async (sync) => {
      const disk = new NoExpiryDisk();
      const cask = await Cask.open({ sync }, disk);
      await cask.set("a", "1", { deadline: { ttl: MINUTE / 2 } });
      await cask.set("later", "1", { deadline: { ttl: 10 * MINUTE } });
      for (let half = 0; half < 240; half++) await cask.advance(500);
      expect(cask.get("a")).toBeUndefined();
      expect(disk.refused).toBeGreaterThan(10);
      disk.crash();
      const again = new Cask({ sync }, disk, new ManualClock(cask.clock.wall() - 10 * MINUTE));
      await again.open();
      expect(again.get("a")).toBeUndefined();
      expect(again.get("later")).toBe("1");
      await again.advance(7 * MINUTE);
      expect(again.get("later")).toBe("1");
      await again.advance(2 * MINUTE);
      expect(again.get("later")).toBeUndefined();
    },
  );

  test("goes back by less than a minute over any kill, however the clock is set", async () => {
    for (let lifeMs = 7_000; lifeMs < 5 * MINUTE; lifeMs += 13_000) {
      const cask = await Cask.open();
      const start = cask.clock.wall();
      await cask.set("a", "1", { deadline: { ttl: 60 * MINUTE } });
      for (let done = 0; done < lifeMs; done += 1_000) await cask.advance(1_000);
      cask.disk.crash();
      const again = await Cask.open({}, cask.disk, new ManualClock(1_000));
      const left = 60 * MINUTE - (cask.clock.wall() - start);
      await again.advance(left - 1);
      expect(again.get("a")).toBe("1");
      await again.advance(MINUTE);
      expect([lifeMs, again.get("a")]).toEqual([lifeMs, undefined]);
    }
  });

  test("is written once a minute while a deadline is pending and nothing else is written", async () => {
    const cask = await Cask.open();
    const start = cask.clock.wall();
    await cask.set("a", "1", { deadline: { ttl: 60 * MINUTE } });
    const before = countWrites(cask);
    await pass(cask, 10);
    expect(countWrites(cask) - before).toBe(10);
    expect(marksOf(cask.disk, "0000000001.segment", start)).toEqual(
      Array.from({ length: 10 }, (_, minute) => (minute + 1) * MINUTE),
    );
    expect((await cask.engine.stats())["log.deadBytes"]).toBe(10 * 32);
    await cask.reopen();
    // With the clean mark.
    expect((await cask.engine.stats())["log.deadBytes"]).toBe(11 * 32);
  });

  test("is not written while other records are", async () => {
    const cask = await Cask.open({ sync: "os" });
    const start = cask.clock.wall();
    await cask.set("a", "1", { deadline: { ttl: 60 * MINUTE } });
    for (let half = 0; half < 20; half++) {
      await cask.advance(MINUTE / 2);
      await cask.set("b", "1");
    }
    // The first group of a life is synced, and the second one says so.
    expect(marksOf(cask.disk, "0000000001.segment", start)).toEqual([MINUTE / 2]);
  });

  test("is not written when no deadline is pending", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    await cask.set("kept", "1", { deadline: { ttl: 60 * MINUTE } });
    await cask.set("kept", "2");
    await cask.set("kept", "1", { deadline: { ttl: 60 * MINUTE } });
    await cask.delete("kept");
    const before = countWrites(cask);
    await pass(cask, 30);
    expect(countWrites(cask)).toBe(before);
    // And again when one is.
    await cask.set("new", "1", { deadline: { ttl: 60 * MINUTE } });
    await cask.advance(MINUTE);
    expect(countWrites(cask)).toBe(before + 2);
  });

  test("is written for deadlines that were there at the open", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { deadline: { ttl: 60 * MINUTE } });
    await cask.advance(MINUTE / 2);
    await cask.reopen();
    const before = countWrites(cask);
    await cask.advance(MINUTE / 2);
    expect(countWrites(cask)).toBe(before);
    await cask.advance(MINUTE / 2);
    await pass(cask, 2);
    // And the file is written ahead, once.
    expect(countWrites(cask)).toBe(before + 3 + 1);
  });

  test("begins a segment where the last one is sealed, once", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { deadline: { ttl: 600 * MINUTE } });
    await cask.compact();
    const segments = cask.disk.segments().length;
    await pass(cask, 20);
    expect(cask.disk.segments().length).toBe(segments + 1);
    await pass(cask, 150);
    // 32 bytes a minute: a segment of 4 KiB holds two hours.
    expect(cask.disk.segments().length).toBe(segments + 2);
    cask.disk.crash();
    await cask.open();
    expect(cask.get("a")).toBe("1");
    expect((await cask.engine.stats())["revision"]).toBe(1);
  });

  test("is in the manifest where a close finds no place for a mark", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { deadline: { ttl: 30_000 } });
    await cask.compact();
    await cask.advance(20_000);
    await cask.close();
    const again = await Cask.open({}, cask.disk, new ManualClock(1_000));
    await again.advance(9_999);
    expect(again.get("a")).toBe("1");
    await again.advance(1);
    expect(again.get("a")).toBeUndefined();
  });

  test("is tried again soon after the disk refused it, and fails nothing else", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { deadline: { ttl: 60 * MINUTE } });
    let refused = 0;
    cask.disk.before = ({ action }: DiskCall) => {
      if (action !== "write") return;
      refused++;
      throw new FirkinError("FULL", "Cannot write: the test says so");
    };
    await cask.advance(MINUTE);
    expect(refused).toBe(1);
    for (let second = 0; second < 30; second++) await cask.advance(1_000);
    expect(refused).toBe(1 + 20);
    cask.disk.before = () => {};
    const before = countWrites(cask);
    await cask.advance(2_000);
    // The mark, and zeros ahead of it in the place of those that the refused ones were cut off with.
    expect(countWrites(cask)).toBe(before + 2);
    expect((await cask.set("b", "1")).ok).toBe(true);
    expect(cask.events).toEqual([]);
  });

  test("is not written by a log that takes no more, nor after the close", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { deadline: { ttl: 60 * MINUTE } });
    cask.disk.before = ({ action }) => {
      if (action === "sync") throw new FirkinError("DURABILITY", "Cannot sync: the test says so");
    };
    expect(await errorCode(() => cask.set("b", "1"))).toBe("DURABILITY");
    const from = cask.disk.calls.length;
    await pass(cask, 5);
    await cask.close();
    await pass(cask, 5);
    expect(cask.disk.calls.length).toBe(from);
  });
});

/** A clock that counts its timers. */
class CountingClock extends ManualClock {
  timers = 0;
  timersMax = 0;

  override after(delayMs: number, callback: () => void): Timer {
    let open = true;
    const end = (): void => {
      if (open) this.timers--;
      open = false;
    };
    this.timersMax = Math.max(this.timersMax, ++this.timers);
    const timer = super.after(delayMs, () => {
      end();
      callback();
    });
    return {
      cancel: () => {
        end();
        timer.cancel();
      },
    };
  }
}

describe("Timers", () => {
  test("of a million deadlines: one", () => {
    const clock = new CountingClock();
    let expired = 0;
    const expiry = new Expiry(clock, {
      now: () => clock.wall(),
      isLive: () => true,
      expire: () => {
        expired++;
        expiry.noteStale();
        return true;
      },
    });
    expiry.start();
    const start = clock.wall();
    // Each is sooner than all before it, so that the timer is set anew each time.
    for (let address = 1_000_000; address > 0; address--) expiry.add(start + address, address);
    expect([clock.timers, clock.timersMax, expiry.count]).toEqual([1, 1, 1_000_000]);
    clock.advance(500_000);
    expect([clock.timers, clock.timersMax, expired]).toEqual([1, 1, 500_000]);
    expiry.close();
    expect(clock.timers).toBe(0);
  });

  test("of a store with deadlines: one for all of them, one for its time, and none after the close", async () => {
    const clock = new CountingClock();
    const cask = await Cask.open({ sync: "os" }, new Disk(), clock);
    await cask.set("none", "1");
    expect(clock.timers).toBe(0);
    for (let number = 0; number < 3_000; number++) {
      await cask.set(`k${number}`, "1", { deadline: { ttl: 3_600_000 - number } });
    }
    await cask.settle();
    // The third was between two steps of making a hint.
    expect([clock.timers, clock.timersMax]).toEqual([2, 3]);
    await cask.close();
    expect(clock.timers).toBe(0);
  });

  test("of the time are set anew when the runtime's longest is shorter", () => {
    const clock = new ManualClock();
    const kept: number[] = [];
    const short: Clock = {
      wall: () => clock.wall(),
      monotonic: () => clock.monotonic(),
      after: (delayMs, callback) => clock.after(Math.min(delayMs, 1_000), callback),
      hold: () => clock.hold(),
      random: (target) => clock.random(target),
    };
    const start = clock.wall();
    const time: StoreTime = new StoreTime(short, {
      pending: () => true,
      kept: () => kept.at(-1) ?? start,
      keep: () => kept.push(time.now()),
    });
    time.start();
    clock.advance(3 * TIME_KEPT_MS);
    expect(kept.map((at) => at - start)).toEqual([1, 2, 3].map((times) => times * TIME_KEPT_MS));
    time.close();
  });
});
