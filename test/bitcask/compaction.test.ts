/**
 * Compaction, seen from the engine: nothing living changes, dead space comes back, and dead stays dead.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { hasteOf } from "../../lib/bitcask/compaction.ts";
import type { EngineSubscription } from "../../lib/engine/engine.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { brief } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

const FILL = "f".repeat(1_000);

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

  for (const end of ["deleted", "expired", "taken"] as const) {
    test(`keeps the tombstone of a ${end} key while a segment before its run holds an older value`, async () => {
      // The first segment is hardly dead, so only the second is rewritten: to drop its tombstone would revive "a".
      const cask = await Cask.open({ automatic: true, tombstoneRetentionMs: 1, segmentBytesMax: 512 * 1024 });
      const big = "x".repeat(100_000);
      await cask.set("a", "old");
      for (let index = 0; index < 5; index++) await cask.set(`live${index}`, big);
      await cask.set("again", big);
      expect(cask.disk.segments().length).toBe(2);
      if (end === "deleted") await cask.delete("a");
      else if (end === "taken") await cask.engine.take("b", bytesOf("a"));
      else await cask.set("a", "new", { deadline: { ttl: 10 } });
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
  }

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

  test("copies every value as it is, whatever its size and however little of the log is in memory", async () => {
    for (const frames of [0, 2, 8, 40]) {
      const random = randomOf(frames);
      const cask = await Cask.open({
        cacheBytesMax: frames * 4_096,
        segmentBytesMax: 256 * 1024,
        valueBytesMax: 2 ** 16,
      });
      const wanted = new Map<string, string>();
      for (let index = 0; index < 150; index++) {
        const value = `${index}:`.padEnd(1 + random([100, 3_000, 16_000][random(3)]!), "v");
        wanted.set(`k${index}`, value);
        await cask.set(`k${index}`, value);
      }
      await cask.reopen();
      // What is read often has a place in memory, and the rest comes in between.
      for (let reads = 300; reads > 0; reads--) cask.get(`k${random(150)}`);
      for (let index = 0; index < 150; index += 3) {
        wanted.delete(`k${index}`);
        await cask.delete(`k${index}`);
      }
      await cask.compact();
      const wrong = (): string[] => [...wanted].filter(([key, value]) => cask.get(key) !== value).map(([key]) => key);
      expect([frames, wrong()]).toEqual([frames, []]);
      await cask.reopen();
      expect([frames, wrong()]).toEqual([frames, []]);
    }
  });

  test("is right in every turn while the keydir moves: reads, listings, deadlines, subscribers", async () => {
    let turns = 0;
    for (let seed = 1; seed <= 30; seed++) {
      const random = randomOf(seed);
      const cask = await Cask.open({ tombstoneRetentionMs: 1, movesPerSlice: 1 + random(3) });
      const model = new Map<string, string>();
      const key = (): string => `k${10 + random(30)}`;
      for (let index = 0; index < 60; index++) {
        const [name, value] = [key(), `${index}`.repeat(100)];
        model.set(name, value);
        await cask.set(name, value, random(5) === 0 ? { deadline: { ttl: 1_000_000 } } : {});
      }
      await cask.advance(10);
      const heard: string[] = [];
      const subscription = cask.engine.subscribe({ snapshot: random(2) === 0 });
      const reading = (async () => {
        for (let some = await subscription.next(); some !== undefined; some = await subscription.next()) {
          heard.push(...some.map(brief));
        }
      })();
      const expected: string[] = [];
      const inFlight = new Set<string>();
      const settled: Promise<unknown>[] = [];
      let done = false;
      const compaction = cask.engine.compact().then(() => done = true);
      while (!done) {
        turns++;
        const name = key();
        if (random(3) > 0 || inFlight.has(name)) {
          // Nothing is written in this turn.
        } else if (random(2) === 0) {
          inFlight.add(name);
          const value = `new${turns}`.repeat(10);
          settled.push(
            cask.set(name, value).then(() => {
              model.set(name, value);
              expected.push(`set ${name}=${value}`);
              inFlight.delete(name);
            }),
          );
        } else if (model.has(name)) {
          inFlight.add(name);
          settled.push(
            cask.delete(name).then(() => {
              model.delete(name);
              expected.push(`delete ${name}`);
              inFlight.delete(name);
            }),
          );
        }
        cask.clock.advance(0);
        for (let turn = 0; turn < 3; turn++) await Promise.resolve();
        for (const [name, value] of model) if (!inFlight.has(name)) expect(cask.get(name)).toBe(value);
        const all = Array.from(model, ([name, value]) => `${name}=${value}`).sort().join(" ");
        if (inFlight.size === 0) expect(`${seed}: ${await cask.all()}`).toBe(`${seed}: ${all}`);
      }
      await compaction;
      await Promise.all(settled);
      await cask.settle();
      subscription.close();
      await reading;
      expect(heard.slice(heard.length - expected.length)).toEqual(expected);
      await cask.advance(1_000_000);
      const { length } = (await cask.engine.list("b", { limit: 100 })).entries;
      expect((await cask.engine.stats())["keys"]).toBe(length);
      const kept = await cask.all();
      await cask.reopen();
      expect(await cask.all()).toBe(kept);
    }
    expect(turns).toBeGreaterThan(500);
  });

  test("counts a copy whose key has moved on as dead", async () => {
    const cask = await Cask.open({ movesPerSlice: 1 });
    for (let index = 0; index < 40; index++) await cask.set(`k${index}`, FILL.slice(0, 300));
    const renamed = cask.disk.count("rename");
    const compaction = cask.engine.compact();
    while (cask.disk.count("rename") < renamed + 1) {
      cask.clock.advance(0);
      await Promise.resolve();
    }
    await cask.delete("k39");
    await cask.set("k38", "1");
    await cask.finish(compaction);
    const dead = (await cask.engine.stats())["log.deadBytes"]!;
    await cask.reopen();
    expect((await cask.engine.stats())["log.deadBytes"]! - dead).toBeLessThan(100);
    expect(dead).toBeGreaterThan(600);
  });

  test("closed in the middle of the moves has its outputs, and leaves no file behind", async () => {
    for (let turns = 0; turns < 60; turns++) {
      const cask = await Cask.open({ movesPerSlice: 1 });
      for (let index = 0; index < 30; index++) await cask.set(`k${index % 9}`, FILL + index);
      const all = await cask.all();
      const compaction = errorCode(() => cask.engine.compact());
      for (let turn = 0; turn < turns * 3; turn++) {
        cask.clock.advance(0);
        await Promise.resolve();
      }
      await cask.close();
      expect(["CLOSED", undefined]).toContain(await compaction);
      const files = cask.disk.segments();
      const manifest = JSON.parse(new TextDecoder().decode(cask.disk.bytes("manifest")).split("\n")[0]!);
      expect(files.map((name) => Number.parseInt(name, 10))).toEqual(
        manifest.segments.toSorted((left: number, right: number) => left - right),
      );
      await cask.open();
      expect(await cask.all()).toBe(all);
    }
  });

  test("tells how it goes, and counts", async () => {
    const cask = await Cask.open({ segmentBytesMax: 1024 * 1024 });
    for (let index = 0; index < 12; index++) await cask.set(`k${index % 3}`, FILL.repeat(900));
    const before = await logBytes(cask);
    await cask.compact();
    const events = cask.events.filter((event) => event.type === "compaction");
    expect(events.map(({ phase }) => phase)).toEqual(["started", "progress", "done"]);
    const [started, , done] = events;
    expect(started).toMatchObject({ segments: 12, readBytes: 0, writtenBytes: 0, reclaimedBytes: 0 });
    const after = await logBytes(cask);
    expect(done!.reclaimedBytes).toBeGreaterThanOrEqual(before - after);
    expect(done!.writtenBytes).toBe(after);
    expect(await cask.engine.stats()).toMatchObject({
      "compaction.running": 0,
      "compaction.runs": 1,
      "compaction.readBytes": done!.readBytes,
      "compaction.writtenBytes": after,
      "compaction.reclaimedBytes": done!.reclaimedBytes,
    });
    const compaction = cask.engine.compact();
    await Promise.resolve();
    expect((await cask.engine.stats())["compaction.running"]).toBe(1);
    await cask.finish(compaction);
  });

  test("leaves a damaged segment as it is and compacts the others", async () => {
    const cask = await Cask.open({ cacheBytesMax: 0 });
    for (let index = 0; index < 30; index++) await cask.set(`k${index % 8}`, FILL + index);
    // The segment leaves memory when its hint is there.
    await cask.settle();
    const segments = cask.disk.segments();
    const file = cask.disk.open(segments[2]!, "write");
    file.write(Uint8Array.of(0xee), 200);
    const before = await logBytes(cask);
    expect(await errorCode(() => cask.compact())).toBe("CORRUPT");
    expect(cask.disk.segments()).toContain(segments[2]!);
    expect(await logBytes(cask)).toBeLessThan(before / 2);
    for (let key = 0; key < 8; key++) expect(cask.get(`k${key}`)?.startsWith(FILL)).toBe(true);
    const failed = cask.events.filter((event) => event.type === "compaction" && event.phase === "failed");
    expect(failed.length).toBe(1);
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
    expect(cask.events.filter((event) => event.type !== "compaction" || event.phase === "failed")).toEqual([]);
    await cask.reopen();
    expect(await cask.all()).toBe(`again=${FILL} ${all}`);
  });
});

describe("hasteOf()", () => {
  test.each(
    [
      [[], 1],
      [[[100, 10]], 1],
      [[[100, 0], [100, 100]], 1],
      [[[100, 50], [200, 150]], 4],
      [[[100, 99]], 8],
      [[[100, 100]], 8],
    ] as const,
  )("of segments with so many bytes, so many of them dead: %j", (sizes, haste) => {
    expect(hasteOf(sizes.map(([tail, deadBytes]) => ({ tail, deadBytes })))).toBe(haste);
  });
});
