/**
 * The full disk: what still works, what is refused, and how the store comes back.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { Reserve, RESERVE_NAME } from "../../lib/bitcask/reserve.ts";
import { Disk } from "../suites/disk.ts";
import { Cask, randomOf, type TestOptions } from "../suites/embedded.ts";
import { errorCode } from "../suites/fs.ts";
import { shareOf } from "../suites/random.ts";

const KIB = 1024;
const VALUE = "v".repeat(400);
const OPTIONS: TestOptions = { reserveBytes: 8 * KIB, tombstoneRetentionMs: 1 };

/** The reserve's bytes on the disk, 0 without a file. */
function reserved(cask: Cask): number {
  return cask.disk.list().includes(RESERVE_NAME) ? cask.disk.bytes(RESERVE_NAME).length : 0;
}

/** Kinds of what an operator was told of the room, in order. */
function told(cask: Cask): string[] {
  return cask.events.flatMap(({ type }) => type === "full" || type === "recovered" ? [type] : []);
}

/** Sets keys until one is refused; returns those that were not. */
async function fill(cask: Cask, prefix = "k", most = 1_000): Promise<string[]> {
  const keys: string[] = [];
  for (let index = 0; index < most; index++) {
    const key = `${prefix}${index}`;
    const code = await errorCode(() => cask.finish(cask.set(key, VALUE)));
    await cask.settle();
    if (code !== undefined) {
      expect(code).toBe("FULL");
      return keys;
    }
    keys.push(key);
  }
  throw new Error("Cannot fill the disk");
}

async function full(options: TestOptions = {}, capacity = 64 * KIB): Promise<{ cask: Cask; keys: string[] }> {
  const disk = new Disk();
  disk.capacity = capacity;
  const cask = await Cask.open({ ...OPTIONS, ...options }, disk);
  return { cask, keys: await fill(cask) };
}

describe("Reserve", () => {
  test("is not made by an open, is small with the first segment, and whole with the second", async () => {
    const cask = await Cask.open({ reserveBytes: 256 * KIB });
    expect(cask.disk.list()).not.toContain(RESERVE_NAME);
    await cask.set("a", "1");
    await cask.settle();
    expect(reserved(cask)).toBe(64 * KIB);
    while (cask.disk.segments().length < 2) await cask.set("a", VALUE);
    await cask.settle();
    expect(reserved(cask)).toBe(256 * KIB);
    expect((await cask.engine.stats())["reserve.bytes"]).toBe(256 * KIB);
    expect(cask.disk.bytes(RESERVE_NAME).every((byte) => byte === 0)).toBe(true);
  });

  test("does not fill a disk that has no room for all of it, however often it is wanted", async () => {
    const disk = new Disk();
    disk.capacity = 700 * KIB;
    const cask = await Cask.open({ reserveBytes: 1024 * KIB }, disk);
    for (let index = 0; index < 30; index++) await cask.set(`k${index}`, VALUE.repeat(8));
    await cask.settle();
    const { room } = disk;
    expect(room).toBeGreaterThan(100 * KIB);
    for (let index = 0; index < 30; index++) {
      await cask.engine.set(`bucket${index}`, Uint8Array.of(1), Uint8Array.of(1), { content: 3 });
      await cask.settle();
    }
    expect(disk.room).toBeGreaterThan(room - 16 * KIB);
  });

  test("lends its room for as long as it is needed", async () => {
    const disk = new Disk();
    const clock = new ManualClock();
    const reserve = new Reserve(disk, clock, 8 * KIB, () => {});
    const pass = async (): Promise<void> => {
      clock.advance(1_000);
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    };
    reserve.want(2);
    await pass();
    reserve.noteFull();
    const giveBack = reserve.lend();
    expect(reserve.free()).toBe(true);
    for (let second = 0; second < 5; second++) await pass();
    expect([reserve.bytes, reserve.full]).toEqual([0, true]);
    giveBack();
    await pass();
    expect([reserve.bytes, reserve.full]).toEqual([8 * KIB, false]);
  });

  test("may be missing, short, long, or switched off at an open", async () => {
    const cask = await Cask.open(OPTIONS);
    await cask.set("a", "1");
    await cask.settle();
    for (const bytes of [undefined, 0, 1, 5_000, 100_000]) {
      await cask.close();
      if (bytes === undefined) cask.disk.remove(RESERVE_NAME);
      else cask.disk.put(RESERVE_NAME, new Uint8Array(bytes));
      await cask.open();
      await cask.settle();
      expect(reserved(cask)).toBe(8 * KIB);
      expect(cask.get("a")).toBe("1");
    }
    await cask.reopen({ reserveBytes: 0 });
    expect(cask.disk.list()).not.toContain(RESERVE_NAME);
    await cask.set("a", "2");
    await cask.settle();
    expect(cask.disk.list()).not.toContain(RESERVE_NAME);
  });

  test("does not fill the disk itself: it leaves half of the room that there is", async () => {
    const disk = new Disk();
    // 4 KiB of them are written ahead.
    disk.capacity = 25 * KIB;
    const cask = await Cask.open({ ...OPTIONS, reserveBytes: 64 * KIB }, disk);
    await cask.set("a", "1");
    await cask.settle();
    expect(reserved(cask)).toBeGreaterThan(8 * KIB);
    expect(disk.room).toBeGreaterThan(8 * KIB);
    expect(told(cask)).toEqual([]);
    await cask.set("b", VALUE);
  });

  test("that cannot be written leaves a store that works", async () => {
    const cask = new Cask(OPTIONS);
    const { before } = cask.disk;
    cask.disk.before = (call) => {
      if (call.name === RESERVE_NAME) throw new Error("The test says so");
      return before(call);
    };
    await cask.open();
    await cask.set("a", "1");
    await cask.settle();
    expect(cask.get("a")).toBe("1");
    await cask.reopen();
    expect(cask.get("a")).toBe("1");
  });
});

describe("A full disk", () => {
  for (const sync of ["always", "os"] as const) {
    test(`under ${sync} refuses sets at once, and keeps what was acknowledged`, async () => {
      const { cask, keys } = await full({ sync });
      expect(told(cask)).toEqual(["full"]);
      expect((await cask.engine.stats())["reserve.full"]).toBe(1);
      expect(reserved(cask)).toBe(8 * KIB);
      const calls = cask.disk.calls.length;
      expect(await errorCode(() => cask.set("k", "1"))).toBe("FULL");
      expect(await errorCode(() => cask.set(keys[0]!, "1"))).toBe("FULL");
      expect(cask.disk.calls.length).toBe(calls);
      for (let life = 0; life < 2; life++) {
        for (const key of keys) expect(cask.get(key)).toBe(VALUE);
        expect(cask.get(`k${keys.length}`)).toBeUndefined();
        await cask.reopen();
      }
    });

    test(`under ${sync} takes deletes and expiries from the reserve, and compaction makes room`, async () => {
      const { cask, keys } = await full({ sync });
      await cask.advance(10);
      const gone = keys.slice(0, keys.length / 2);
      for (const key of gone) expect((await cask.finish(cask.delete(key))).ok).toBe(true);
      expect(reserved(cask)).toBeLessThan(8 * KIB);
      await cask.advance(10);
      await cask.compact();
      await cask.advance(1_000);
      expect(told(cask)).toEqual(["full", "recovered"]);
      expect(reserved(cask)).toBe(8 * KIB);
      await cask.set("new", VALUE);
      for (let life = 0; life < 2; life++) {
        for (const key of keys) expect(cask.get(key)).toBe(gone.includes(key) ? undefined : VALUE);
        expect(cask.get("new")).toBe(VALUE);
        await cask.reopen();
      }
    });
  }

  test("looks for room once a second, and takes sets when there is some", async () => {
    const { cask } = await full();
    const calls = (): number => cask.disk.calls.filter(({ name }) => name === RESERVE_NAME).length;
    const before = calls();
    await cask.advance(999);
    expect(calls()).toBe(before);
    await cask.advance(1);
    const after = calls();
    expect(after).toBeGreaterThan(before);
    cask.disk.capacity += 100 * KIB;
    expect(await errorCode(() => cask.set("a", "1"))).toBe("FULL");
    expect(calls()).toBe(after);
    await cask.advance(1_000);
    expect(told(cask)).toEqual(["full", "recovered"]);
    await cask.set("a", "1");
    expect(reserved(cask)).toBe(8 * KIB);
  });

  test("that was never full for deletes is not so for their expiry either", async () => {
    const disk = new Disk();
    disk.capacity = 32 * KIB;
    const cask = await Cask.open(OPTIONS, disk);
    for (let index = 0; index < 20; index++) await cask.set(`t${index}`, "1", { deadline: { ttl: 500 } });
    await cask.settle();
    await fill(cask);
    const subscription = cask.engine.subscribe({});
    await cask.advance(500);
    expect((await cask.told(subscription)).length).toBe(20);
  });

  test("gives tombstones half of the reserve, and compaction the rest", async () => {
    const { cask, keys } = await full({ segmentBytesMax: 16 * KIB }, 64 * KIB);
    const codes: (string | undefined)[] = [];
    for (let index = 0; index < 400 && codes.at(-1) === undefined; index++) {
      // A key again and again: only the tombstone counts, for a set is refused.
      codes.push(await errorCode(() => cask.finish(cask.delete(keys[index]!))));
      if (index + 1 === keys.length) break;
    }
    expect(reserved(cask)).toBeGreaterThanOrEqual(4 * KIB);
    await cask.advance(10);
    await cask.compact();
    await cask.advance(1_000);
    await cask.set("new", VALUE);
  });

  test("without a reserve each write is tried, as it always was", async () => {
    const { cask, keys } = await full({ reserveBytes: 0 });
    expect(told(cask)).toEqual([]);
    cask.disk.capacity += 10 * KIB;
    await cask.set("a", VALUE);
    await cask.reopen();
    expect(cask.get(keys[0]!)).toBe(VALUE);
  });

  test("is no reason for compact() to say that it is done when it is not", async () => {
    const { cask } = await full({ reserveBytes: 0 });
    cask.disk.capacity = 0;
    expect(await errorCode(() => cask.compact())).toBe("FULL");
    expect(await errorCode(() => cask.compact())).toBe("FULL");
  });

  test("is no reason for compact() to pass over the active segment either", async () => {
    const cask = await Cask.open({ reserveBytes: 0 });
    await cask.set("a", "1");
    cask.disk.capacity = 1;
    expect(await errorCode(() => cask.compact())).toBe("FULL");
    cask.disk.capacity = Infinity;
    await cask.compact();
    await cask.reopen();
    expect(cask.get("a")).toBe("1");
  });

  test("is closed cleanly with the reserve's room: cursors go on", async () => {
    const { cask } = await full({ sync: "os" });
    cask.disk.capacity -= cask.disk.room;
    const { cursor } = cask.engine.subscribe({});
    await cask.close();
    await cask.open();
    expect(await cask.told(cask.engine.subscribe({ from: cursor }))).toEqual([]);
  });

  test("opens a torn end with no byte left: with the reserve's room, and without any", async () => {
    for (const reserveBytes of [8 * KIB, 0]) {
      const { cask, keys } = await full({ reserveBytes });
      cask.disk.crash();
      const last = cask.disk.segments().at(-1)!;
      const whole = cask.disk.bytes(last);
      cask.disk.put(last, Uint8Array.of(...whole, ...new Uint8Array(300).fill(7)));
      cask.disk.capacity -= cask.disk.room;
      expect(cask.disk.room).toBe(0);
      await cask.open();
      const [event] = cask.events.filter(({ type }) => type === "torn");
      expect(event).toMatchObject({ bytes: 300, kept: reserveBytes === 0 ? 0 : 300 });
      expect(cask.disk.bytes(last).length).toBeGreaterThanOrEqual(whole.length);
      for (const key of keys) expect(cask.get(key)).toBe(VALUE);
    }
  });

  test("opens and closes with no byte left, under another policy and after a crash too", async () => {
    for (const reserveBytes of [8 * KIB, 0]) {
      const { cask, keys } = await full({ sync: "os", reserveBytes });
      for (const step of ["close", "crash", "close"] as const) {
        cask.disk.capacity -= cask.disk.room;
        if (step === "close") await cask.close();
        else cask.disk.crash();
        cask.disk.capacity -= cask.disk.room;
        const code = await errorCode(() => cask.open());
        // Only a new epoch needs room here: after an end that was not clean.
        if (code !== undefined) {
          expect([code, reserveBytes]).toEqual(["FULL", 0]);
          cask.disk.capacity += KIB;
          await cask.open();
        }
        for (const key of keys) expect(cask.get(key)).toBe(VALUE);
      }
    }
  });
});

describe("A disk that fills again and again", () => {
  for (const sync of ["always", "interval", "os"] as const) {
    test(`under ${sync}, loses nothing acknowledged over fills, deletes, compactions and opens`, async () => {
      for (const seed of shareOf(12)) await soak(seed + 1, sync);
    });
  }
});

/** Fills the disk, deletes, compacts, opens again, in any order, against a model. */
async function soak(seed: number, sync: "always" | "interval" | "os"): Promise<void> {
  const random = randomOf(seed);
  const disk = new Disk();
  disk.capacity = (24 + random(60)) * KIB;
  const cask = await Cask.open({ ...OPTIONS, sync, automatic: random(2) === 0, smallBytes: 1_024 }, disk);
  const model = new Map<string, string>();
  const attempt = async (write: Promise<unknown>, done: () => void): Promise<void> => {
    const code = await errorCode(() => cask.finish(write));
    if (code === undefined) done();
    else expect(`${seed}: ${code}`).toBe(`${seed}: FULL`);
  };
  const set = (): Promise<void> => {
    const key = `k${random(60)}`;
    const value = `${random(1_000_000)}`.repeat(1 + random(120));
    return attempt(cask.set(key, value), () => model.set(key, value));
  };
  const remove = (): Promise<void> => {
    const key = `k${random(60)}`;
    return attempt(cask.delete(key), () => model.delete(key));
  };
  const open = async (): Promise<void> => {
    const code = await errorCode(() => cask.open());
    if (code === undefined) return;
    // No room for a new epoch: as after an operator has looked after the disk.
    expect(`${seed}: ${code}`).toBe(`${seed}: FULL`);
    disk.capacity += KIB;
    await cask.open();
  };
  const steps: (() => Promise<void>)[] = [
    set,
    set,
    set,
    remove,
    () => cask.advance(1_000),
    () => attempt(cask.engine.compact(), () => {}),
    async () => {
      await cask.close();
      await open();
    },
    async () => {
      // Under the others a power cut may lose what was acknowledged.
      if (sync === "always" && random(2) === 0) disk.cutPower(random(2) === 0);
      else disk.crash();
      await open();
    },
    async () => {
      // Other files come and go.
      disk.capacity += (random(2) === 0 ? 1 : -1) * Math.min(2 * KIB, Math.max(disk.room, 0));
      await cask.settle();
    },
  ];
  for (let index = 0; index < 300; index++) {
    const choice = random(100);
    if (choice < 60) await set();
    else if (choice < 80) await remove();
    else await steps[random(steps.length)]!();
    if (index % 10 !== 0) continue;
    for (let key = 0; key < 60; key++) {
      expect(`${seed}.${index} k${key} ${cask.get(`k${key}`)}`).toBe(
        `${seed}.${index} k${key} ${model.get(`k${key}`)}`,
      );
    }
  }
  // An operator makes room: everything works again.
  disk.capacity += 64 * KIB;
  await cask.advance(2_000);
  for (let key = 0; key < 60; key++) await cask.finish(cask.delete(`k${key}`));
  await cask.advance(10);
  await cask.compact();
  await cask.advance(2_000);
  await cask.set("last", VALUE);
  expect(`${seed}: ${await cask.all()}`).toBe(`${seed}: last=${VALUE}`);
}
