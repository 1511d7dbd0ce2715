/**
 * Which segments compaction takes by itself, and when.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { cleanBefore, limited } from "../../lib/bitcask/candidates.ts";
import type { Segment } from "../../lib/bitcask/segment.ts";
import { Cask, randomOf, type TestOptions } from "../suites/embedded.ts";

const KIB = 1024;
const FILL = "f".repeat(1_000);
const HOUR = 3_600_000;
/** 1,700,000,000,000 is at 22:13:20 UTC. */
const TIME_OF_DAY = 22 * HOUR + 13 * 60_000 + 20_000;

/** Segments of 16 KiB. */
function opened(options: TestOptions = {}): Promise<Cask> {
  return Cask.open({ automatic: true, segmentBytesMax: 16 * KIB, deadRatio: 1, tombstoneRetentionMs: 1, ...options });
}

/** Runs so far. */
async function runs(cask: Cask): Promise<number> {
  return (await cask.engine.stats())["compaction.runs"]!;
}

async function logBytes(cask: Cask): Promise<number> {
  return (await cask.engine.stats())["log.bytes"]!;
}

describe("Candidates, by what is dead", () => {
  test("deadRatio and deadBytes each make a segment worth it", async () => {
    for (
      const [options, expected] of [
        [{ deadRatio: 0.9 }, 0],
        [{ deadRatio: 0.3 }, 1],
        [{ deadRatio: 0.9, deadBytes: 4_000 }, 1],
        [{ deadRatio: 0.9, deadBytes: 8_000 }, 0],
      ] as const
    ) {
      const cask = await opened({ automatic: false });
      for (let index = 0; index < 8; index++) await cask.set(`k${index}`, FILL);
      for (let index = 0; index < 7; index++) await cask.set("again", FILL);
      for (let index = 0; index < 16; index++) await cask.set(`more${index}`, FILL);
      await cask.reopen({ automatic: true, ...options });
      await cask.settle();
      expect(await runs(cask)).toBe(expected);
    }
  });

  test("what a run wrote is not chosen again", async () => {
    const random = randomOf(7);
    const cask = await opened({ deadRatio: 0.2, smallBytes: 8 * KIB, tombstoneRetentionMs: 100 });
    for (let round = 0; round < 20; round++) {
      for (let index = 0; index < 40; index++) {
        if (random(3) === 0) await cask.delete(`k${random(60)}`);
        else await cask.set(`k${random(60)}`, FILL.slice(0, 1 + random(1_000)));
      }
      await cask.advance(random(200));
    }
    await cask.reopen();
    for (let round = 0; round < 10; round++) await cask.advance(1_000);
    const before = await runs(cask);
    for (let round = 0; round < 10; round++) await cask.advance(HOUR);
    expect(await runs(cask)).toBe(before);
  });
});

describe("Candidates, by size", () => {
  test("four small neighbours become one, three stay", async () => {
    for (const [count, left] of [[3, 3], [4, 1], [9, 1]] as const) {
      const cask = await opened({ automatic: false });
      for (let index = 0; index < count; index++) {
        await cask.set(`k${index}`, FILL);
        // It has a segment of its own, which ends the small one before it.
        await cask.set(`big${index}`, "x".repeat(20 * KIB));
      }
      for (let index = 0; index < count; index++) await cask.delete(`big${index}`);
      const all = await cask.all();
      await cask.reopen({ automatic: true, deadRatio: 0.9, smallBytes: 4 * KIB });
      await cask.settle();
      // And the one that holds the tombstones.
      expect(cask.disk.segments().length).toBe(left + 1);
      expect(await cask.all()).toBe(all);
    }
  });

  test("merging comes to an end, whatever the sizes", async () => {
    for (let seed = 1; seed <= 25; seed++) {
      const random = randomOf(seed);
      const cask = await opened({ automatic: false, smallBytes: 8 * KIB });
      for (let index = 0; index < 80; index++) {
        await cask.set(`k${index}`, "v".repeat(1 + random(random(4) === 0 ? 16_000 : 3_000)));
        // Half of what is written dies, so that compaction leaves segments of any size.
        if (random(2) === 0) await cask.delete(`k${random(index + 1)}`);
      }
      await cask.advance(10);
      const all = await cask.all();
      await cask.reopen({ automatic: true, deadRatio: 0.5 });
      await cask.settle();
      for (let round = 0; round < 5; round++) await cask.advance(HOUR);
      const before = await runs(cask);
      await cask.reopen();
      for (let round = 0; round < 5; round++) await cask.advance(HOUR);
      expect(`${seed}: ${await runs(cask)}`).toBe(`${seed}: 0`);
      expect(before).toBeLessThan(60);
      const sizes = cask.disk.segments().map((name) => cask.disk.bytes(name).length);
      expect(sizes.length).toBeLessThan(80);
      expect(await cask.all()).toBe(all);
    }
  });

  test("a run has at most 128 MiB of input, and at least one segment", () => {
    const segments = (...tails: number[]): Segment[] => tails.map((tail) => ({ tail }) as Segment);
    const mib = 1024 * 1024;
    expect(limited(segments(200 * mib, 1)).length).toBe(1);
    expect(limited(segments(64 * mib, 64 * mib, 1)).length).toBe(2);
    expect(limited([]).length).toBe(0);
  });
});

describe("Candidates, by the hour", () => {
  /** Milliseconds from the first moment of a {@link Cask}'s clock to an hour of the day. */
  const until = (hour: number): number => (hour * HOUR - TIME_OF_DAY + 24 * HOUR) % (24 * HOUR);

  /** A store with something worth a run, opened anew with this window. */
  async function waiting(window: { start: number; end: number }): Promise<Cask> {
    const cask = await opened({ automatic: false, deadRatio: 0.5, tombstoneRetentionMs: 100 * HOUR });
    for (let index = 0; index < 40; index++) await cask.set("again", FILL);
    await cask.reopen({ automatic: true, window });
    await cask.settle();
    return cask;
  }

  test("runs begin inside the window, and a timer waits for it", async () => {
    const cask = await waiting({ start: 1, end: 5 });
    expect(await runs(cask)).toBe(0);
    await cask.advance(until(1) - 1);
    expect(await runs(cask)).toBe(0);
    await cask.advance(2);
    expect(await runs(cask)).toBeGreaterThan(0);
  });

  test("a window may reach past midnight, and be open already", async () => {
    expect(await runs(await waiting({ start: 22, end: 5 }))).toBeGreaterThan(0);
    const cask = await waiting({ start: 23.5, end: 1 });
    await cask.advance(until(23));
    expect(await runs(cask)).toBe(0);
    await cask.advance(HOUR);
    expect(await runs(cask)).toBeGreaterThan(0);
  });

  test("a run that ends after the window is the last", async () => {
    const cask = await opened({ automatic: false, tombstoneRetentionMs: 100 * HOUR });
    for (const part of ["a", "b"]) {
      for (let index = 0; index < 30; index++) await cask.set(part, FILL);
      for (let index = 0; index < 30; index++) await cask.set(`${part}${index}`, FILL);
    }
    cask.disk.before = ({ action, name }) => {
      if (action === "rename" && name === "manifest.new") cask.clock.advance(2 * HOUR);
    };
    await cask.reopen({ automatic: true, deadRatio: 0.5, window: { start: 22, end: 23 } });
    await cask.settle();
    expect(await runs(cask)).toBe(1);
    // It ended at 00:13:20.
    await cask.advance(21 * HOUR + 47 * 60_000);
    expect(await runs(cask)).toBe(2);
  });

  test("compact() does not wait for it, and nothing waits when nothing is worth it", async () => {
    const cask = await waiting({ start: 1, end: 5 });
    await cask.compact();
    const before = await runs(cask);
    for (let hour = 0; hour < 30; hour++) await cask.advance(HOUR);
    expect(await runs(cask)).toBe(before);
  });
});

describe("Candidates, by old tombstones", () => {
  /** A log that begins with segments that live, and goes on with sets and deletes. */
  async function withTombstones(cask: Cask, live: number, dead: number): Promise<void> {
    for (let index = 0; index < live; index++) await cask.set(`live${index}`, FILL);
    for (let index = 0; index < dead; index++) {
      await cask.set(`t${index}`, "1");
      await cask.delete(`t${index}`);
    }
    for (let index = 0; index < 16; index++) await cask.set(`end${index}`, FILL);
  }

  test("go from the middle without touching what lives before them, when nothing there is dead", async () => {
    const cask = await opened({ deadRatio: 0.5, tombstoneRetentionMs: 1_000 });
    await withTombstones(cask, 60, 3_000);
    const first = cask.disk.segments().slice(0, 3);
    const before = await logBytes(cask);
    for (let round = 0; round < 5; round++) await cask.advance(60_000);
    // 28 bytes and a key for each tombstone are gone, and so are the sets and marks.
    expect(await logBytes(cask)).toBeLessThan(before - 3_000 * 30);
    expect(await logBytes(cask)).toBeLessThan(100_000);
    expect(cask.disk.segments().slice(0, 3)).toEqual(first);
    await cask.reopen();
    expect(cask.get("t7")).toBeUndefined();
    expect(cask.get("live7")).toBe(FILL);
  });

  test("go with a segment before them that has something dead, when the whole is worth it", async () => {
    for (const [count, goes] of [[3_000, true], [60, false]] as const) {
      const cask = await opened({ deadRatio: 0.5, tombstoneRetentionMs: 1_000 });
      await cask.set("t0", "old");
      await withTombstones(cask, 14, count);
      const first = cask.disk.segments()[0]!;
      for (let round = 0; round < 5; round++) await cask.advance(60_000);
      expect(cask.disk.segments().includes(first)).toBe(!goes);
      if (goes) expect(await logBytes(cask)).toBeLessThan(80_000);
      cask.disk.crash();
      await cask.open();
      expect(cask.get("t0")).toBeUndefined();
    }
  });

  test("go when they grow old, though nothing is written any more", async () => {
    const cask = await opened({ deadRatio: 0.5, tombstoneRetentionMs: HOUR });
    await withTombstones(cask, 10, 3_000);
    await cask.advance(60_000);
    const young = await logBytes(cask);
    expect(young).toBeGreaterThan(3_000 * 30);
    await cask.advance(HOUR + 1_000);
    expect(await logBytes(cask)).toBeLessThan(young / 2);
  });

  test("never go while an older value may come back, over seeds, runs and opens", async () => {
    let dropped = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const random = randomOf(seed);
      const cask = await opened({
        deadRatio: [0.2, 0.5, 0.9][random(3)]!,
        deadBytes: [Infinity, 2_000][random(2)]!,
        smallBytes: [0, 8 * KIB][random(2)]!,
        segmentBytesMax: 8 * KIB,
      });
      const model = new Map<string, string>();
      for (let index = 0; index < 400; index++) {
        const key = `k${random(80)}`;
        if (random(2) === 0) {
          await cask.delete(key);
          model.delete(key);
        } else {
          model.set(key, `${index}`.repeat(1 + random(100)));
          await cask.set(key, model.get(key)!);
        }
        if (random(15) === 0) await cask.advance(5);
        if (random(60) === 0) await cask.reopen();
        if (random(120) === 0) await cask.compact();
      }
      dropped += await runs(cask);
      cask.disk.crash();
      await cask.open({ automatic: false });
      for (let key = 0; key < 80; key++) {
        expect(`${seed}: ${cask.get(`k${key}`)}`).toBe(`${seed}: ${model.get(`k${key}`)}`);
      }
    }
    expect(dropped).toBeGreaterThan(40);
  });

  test("are held by the least clean segment before them", () => {
    const segment = (dead: number, mark: number, clean: number): Segment => {
      return { deadBytes: dead, markBytes: mark, cleanRevision: clean } as Segment;
    };
    const last = segment(500, 0, 0);
    expect(cleanBefore([last], last, 100)).toBe(100);
    expect(cleanBefore([segment(60, 60, 0), last], last, 100)).toBe(100);
    expect(cleanBefore([segment(61, 60, 0), last], last, 100)).toBe(0);
    expect(cleanBefore([segment(5, 0, 70), segment(9, 0, 40), last], last, 100)).toBe(40);
  });
});
