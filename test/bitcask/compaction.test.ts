/**
 * Compaction, seen from the engine: nothing living changes, dead space comes back, and dead stays dead.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import type { EngineSubscription } from "../../lib/engine/engine.ts";
import { type DiskCall, gate } from "../suites/disk.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { errorCode } from "../suites/fs.ts";

const FILL = "f".repeat(1_000);

/** Writes until the active segment is a new one. */
async function fill(cask: Cask, key = "fill"): Promise<void> {
  const before = cask.disk.segments().length;
  while (cask.disk.segments().length === before) await cask.set(key, FILL);
}

async function logBytes(cask: Cask): Promise<number> {
  return (await cask.engine.stats())["log.bytes"]!;
}

describe("Compaction", () => {
  test("leaves what lives as it is, over lives and rounds", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = randomOf(seed);
      const cask = await Cask.open({ tombstoneRetentionMs: 1 + random(2) * 10_000 });
      const model = new Map<string, string>();
      for (let round = 0; round < 4; round++) {
        for (let index = 0; index < 60; index++) {
          const key = `k${random(12)}`;
          if (random(4) === 0) {
            await cask.delete(key);
            model.delete(key);
          } else {
            const value = `${seed}.${round}.${index}`.repeat(1 + random(60));
            await cask.set(key, value);
            model.set(key, value);
          }
        }
        await cask.advance(100);
        await cask.compact();
        const expected = Array.from(model, ([key, value]) => `${key}=${value}`).sort().join(" ");
        const sorted = async (): Promise<string> => (await cask.all()).split(" ").sort().join(" ");
        expect(`${seed}: ${await sorted()}`).toBe(`${seed}: ${expected}`);
        if (random(2) === 0) {
          await cask.reopen();
          expect(`${seed}: ${await sorted()}`).toBe(`${seed}: ${expected}`);
        }
      }
    }
  });

  test("gives space back, and the files with it", async () => {
    const cask = await Cask.open();
    for (let index = 0; index < 100; index++) await cask.set("a", FILL);
    const before = await logBytes(cask);
    expect(cask.disk.segments().length).toBeGreaterThan(20);
    await cask.compact();
    expect(await logBytes(cask)).toBeLessThan(before / 50);
    expect(cask.disk.segments().length).toBe(1);
    expect((await cask.engine.stats())["log.deadBytes"]).toBe(0);
    expect(cask.get("a")).toBe(FILL);
  });

  test("keeps revisions, deadlines and content types", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1", { content: 3, deadline: { ttl: 5_000 } });
    await cask.set("gone", FILL);
    await cask.delete("gone");
    const key = Uint8Array.of(0x61);
    const before = cask.engine.getSync("b", key);
    await cask.compact();
    expect(cask.engine.getSync("b", key)).toEqual(before);
    await cask.reopen();
    expect(cask.engine.getSync("b", key)).toEqual(before);
    await cask.advance(5_000);
    expect(cask.get("a")).toBeUndefined();
  });

  test("keeps a tombstone while a segment before its run holds an older value", async () => {
    // The first segment is hardly dead, so only the second is rewritten: to drop its tombstone would revive "a".
    const cask = await Cask.open({ automatic: true, tombstoneRetentionMs: 1, segmentBytesMax: 512 * 1024 });
    const big = "x".repeat(100_000);
    await cask.set("a", "old");
    for (let index = 0; index < 5; index++) await cask.set(`live${index}`, big);
    await cask.set("again", big);
    expect(cask.disk.segments().length).toBe(2);
    await cask.delete("a");
    await cask.advance(1_000);
    for (let index = 0; index < 12; index++) await cask.set("again", big);
    await cask.advance(1_000);
    for (let index = 0; index < 12; index++) await cask.set("again", big);
    await cask.advance(1_000);
    expect(cask.disk.segments()[0]).toBe("0000000001.segment");
    expect(cask.disk.segments()).not.toContain("0000000002.segment");
    expect(cask.get("a")).toBeUndefined();
    cask.disk.crash();
    await cask.open();
    expect(cask.get("a")).toBeUndefined();
  });

  test("keeps tombstones for their retention, then drops them", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 1_000 });
    await cask.set("a", "1");
    await cask.delete("a");
    await cask.compact();
    expect(await logBytes(cask)).toBeGreaterThan(0);
    await cask.advance(999);
    await cask.compact();
    expect(await logBytes(cask)).toBeGreaterThan(0);
    await cask.advance(2);
    await cask.compact();
    expect(await logBytes(cask)).toBe(0);
    await cask.reopen();
    expect(await cask.all()).toBe("");
  });

  test("resync is what a cursor gets from before a tombstone that is gone", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 1_000 });
    await cask.set("a", "1");
    const early = cask.engine.subscribe({}).cursor;
    await cask.delete("a");
    const late = cask.engine.subscribe({}).cursor;
    await cask.set("b", "1");
    await cask.compact();
    const from = (cursor: string): EngineSubscription => cask.engine.subscribe({ from: cursor });
    expect(await cask.told(from(early))).toEqual(["delete a", "set b=1"]);
    await cask.advance(2_000);
    await cask.compact();
    for (let life = 0; life < 2; life++) {
      expect(await cask.told(from(early))).toEqual(["resync"]);
      expect(await cask.told(from(late))).toEqual(["set b=1"]);
      await cask.reopen();
    }
  });

  test("goes on while keys are written and deleted", async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const random = randomOf(seed);
      const cask = await Cask.open({ tombstoneRetentionMs: 1 });
      const model = new Map<string, string>();
      const write = async (): Promise<void> => {
        const key = `k${random(20)}`;
        if (random(3) === 0) {
          model.delete(key);
          await cask.delete(key);
        } else {
          model.set(key, FILL + random(100));
          await cask.set(key, model.get(key)!);
        }
      };
      for (let index = 0; index < 50; index++) await write();
      await cask.advance(10);
      let compacted = false;
      const compaction = cask.engine.compact().then(() => compacted = true);
      const settled: Promise<void>[] = [];
      while (!compacted) {
        settled.push(write());
        cask.clock.advance(0);
        for (let turn = 0; turn < 5; turn++) await Promise.resolve();
      }
      await compaction;
      await Promise.all(settled);
      for (let life = 0; life < 2; life++) {
        for (let index = 0; index < 20; index++) expect(cask.get(`k${index}`)).toBe(model.get(`k${index}`));
        await cask.reopen();
      }
    }
  });

  test("begins by itself when enough is dead", async () => {
    const cask = await Cask.open({ automatic: true, segmentBytesMax: 64 * 1024 });
    for (let index = 0; index < 2_000; index++) await cask.set("a", FILL);
    await cask.settle();
    expect(await logBytes(cask)).toBeLessThan(600_000);
    expect(cask.get("a")).toBe(FILL);
    const idle = await Cask.open({ automatic: false, segmentBytesMax: 64 * 1024 });
    for (let index = 0; index < 2_000; index++) await idle.set("a", FILL);
    await idle.settle();
    expect(await logBytes(idle)).toBeGreaterThan(2_000_000);
  });

  test("gives back by itself what a stream of deletes leaves behind, once it is old", async () => {
    const cask = await Cask.open({ automatic: true, tombstoneRetentionMs: 1_000, segmentBytesMax: 64 * 1024 });
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < 8_000; index++) {
        await cask.set(`k${index}`, "v");
        await cask.delete(`k${index}`);
      }
      await cask.advance(2_000);
    }
    await cask.settle();
    // Three rounds wrote 1 MB each, marks counted; what is left is of the last, not looked at again until more dies.
    expect(await logBytes(cask)).toBeLessThan(1_200_000);
    const kept = await Cask.open({ automatic: true, segmentBytesMax: 64 * 1024 });
    for (let index = 0; index < 8_000; index++) {
      await kept.set(`k${index}`, "v");
      await kept.delete(`k${index}`);
    }
    await kept.settle();
    // A young tombstone of each key: 28 bytes and its key.
    expect(await logBytes(kept)).toBeGreaterThan(8_000 * 30);
  });

  test("does not begin before the log is open", async () => {
    const cask = await Cask.open({ segmentBytesMax: 64 * 1024 });
    for (let index = 0; index < 600; index++) await cask.set("a", FILL);
    await cask.set("b", "1");
    cask.disk.crash();
    const last = cask.disk.segments().at(-1);
    let release = (): void => {};
    const held = new Promise<void>((resolve) => release = resolve);
    cask.disk.before = (call) => call.action === "sync" && call.name === last ? held : undefined;
    const switches = (): number => cask.disk.calls.filter(({ name }) => name === "manifest.new").length;
    const before = switches();
    const opening = cask.open({ automatic: true });
    await cask.settle();
    expect(switches()).toBe(before);
    release();
    await cask.finish(opening);
    await cask.settle();
    expect(cask.disk.segments().length).toBeLessThan(4);
    await cask.reopen();
    expect(cask.get("b")).toBe("1");
  });

  test("asked for in the turn in which one begins by itself, leaves the log whole", async () => {
    const cask = await Cask.open({ segmentBytesMax: 64 * 1024 });
    for (let index = 0; index < 600; index++) await cask.set(`k${index % 5}`, FILL + index);
    await cask.reopen({ automatic: true });
    const all = await cask.all();
    const asked = Array.from({ length: 300 }, async (_, index) => {
      if (index % 50 === 0) await cask.compact();
      else await cask.set("again", FILL);
    });
    await cask.finish(Promise.all(asked));
    await cask.settle();
    expect(cask.events).toEqual([]);
    await cask.reopen();
    expect(await cask.all()).toBe(`again=${FILL} ${all}`);
  });
});

describe("Compaction, when the disk fails", () => {
  /** A store with something to compact, and what it says. */
  async function prepared(): Promise<{ cask: Cask; all: string }> {
    const cask = await Cask.open({ tombstoneRetentionMs: 1 });
    for (let index = 0; index < 30; index++) await cask.set(`k${index % 4}`, FILL + index);
    await cask.delete("k1");
    await cask.advance(100);
    return { cask, all: await cask.all() };
  }

  for (const kind of ["fails once", "fails from there on", "loses power", "crashes"] as const) {
    test(`at every call (it ${kind}), the store is whole`, async () => {
      let ended = false;
      for (let skip = 0; !ended; skip++) {
        const { cask, all } = await prepared();
        let left = skip;
        const refuse = (call: DiskCall): void => {
          const sync = call.action.startsWith("sync");
          throw new FirkinError(sync ? "DURABILITY" : "FULL", `Cannot ${call.action} ${call.name}: the test says so`);
        };
        const from = cask.disk.calls.length;
        cask.disk.before = (call) => {
          const now = left-- === 0;
          if (kind === "fails once" ? !now : left >= 0) return;
          refuse(call);
        };
        await errorCode(() => cask.compact());
        ended = cask.disk.calls.length - from <= skip;
        expect(await cask.all()).toBe(all);
        if (kind === "loses power") cask.disk.cutPower();
        else cask.disk.crash();
        await cask.open();
        expect(`${skip}: ${await cask.all()}`).toBe(`${skip}: ${all}`);
        await cask.set("new", "1");
        await cask.compact();
        await cask.reopen();
        expect(await cask.all()).toBe(`${all} new=1`);
      }
    });
  }

  test("under os, drops no value whose successor is not on the platter", async () => {
    const cask = await Cask.open({ sync: "os", automatic: true, segmentBytesMax: 512 * 1024 });
    await cask.set("a", "old");
    while (cask.disk.segments().length < 2) await cask.set("fill", FILL.repeat(10));
    await cask.set("a", "new");
    for (let index = 0; index < 30; index++) await cask.set("fill", FILL.repeat(10));
    for (let turn = 0; turn < 20; turn++) await cask.settle();
    expect(cask.disk.segments()[0]).not.toBe("0000000001.segment");
    cask.disk.cutPower();
    await cask.open();
    expect(["old", "new"]).toContain(cask.get("a") ?? "nothing");
  });

  test("names no segment whose header is not on the platter", async () => {
    // A new segment is begun so many turns after the output is synced: one of them is just when the manifest is made.
    for (let turns = 0; turns < 30; turns++) {
      const cask = await Cask.open();
      await fill(cask);
      const outputSync = gate();
      const created: string[] = [];
      cask.disk.before = (call) => {
        if (call.action === "create" && call.name.endsWith(".segment")) created.push(call.name);
        if (call.action === "sync" && call.name === created[0]) return outputSync.wait;
        return call.action === "sync" && call.name === created[1] ? new Promise<void>(() => {}) : undefined;
      };
      cask.engine.compact().catch(() => {});
      await cask.settle();
      outputSync.open();
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      cask.set("a", "1").catch(() => {});
      await cask.settle();
      expect(created.length).toBe(2);
      cask.disk.cutPower();
      await cask.open();
      expect(cask.get("fill")).toBe(FILL);
    }
  });
});
