/**
 * Frames in memory: the budget, who goes first, what a segment hands over, and what is read beside them.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { compareBytes } from "../../lib/base/bytes.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { FRAME_BYTES, FrameCache, type FrameTable, ReadWindow } from "../../lib/bitcask/frames.ts";
import type { File } from "../../lib/fs/fs.ts";
import { KIND, recordBytesAt } from "../../lib/bitcask/record.ts";
import { Segment } from "../../lib/bitcask/segment.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import type { Entry } from "../../lib/engine/engine.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";

const SEGMENT_BYTES = 32 * 1024 * 1024;

function tableOf(blocks: number): FrameTable {
  return { frames: new Int32Array(blocks) };
}

/** Takes blocks in as a segment would, each filled with its number. */
function takeIn(cache: FrameCache, table: FrameTable, ...blocks: number[]): void {
  for (const block of blocks) {
    const frame = cache.take();
    cache.slabOf(frame).fill(block, cache.startOf(frame), cache.startOf(frame) + FRAME_BYTES);
    cache.put(frame, table, block);
  }
}

function held(table: FrameTable): number[] {
  return [...table.frames].flatMap((frame, block) => frame === 0 ? [] : [block]);
}

function visit(cache: FrameCache, table: FrameTable, ...blocks: number[]): void {
  for (const block of blocks) cache.visit(table.frames[block]! - 1);
}

describe("FrameCache", () => {
  test("evicts the oldest without a visit, and spares the visited once", () => {
    const cache = new FrameCache(4 * FRAME_BYTES);
    const table = tableOf(10);
    takeIn(cache, table, 0, 1, 2, 3);
    visit(cache, table, 0, 2);
    takeIn(cache, table, 4);
    expect(held(table)).toEqual([0, 2, 3, 4]);
    // The hand stands behind 1: 2 loses its mark, 3 goes.
    takeIn(cache, table, 5);
    expect(held(table)).toEqual([0, 2, 4, 5]);
    takeIn(cache, table, 6);
    expect(held(table)).toEqual([0, 2, 5, 6]);
    // It goes on towards the newest, and round the end when it has passed them: 0 and 2 have no marks left.
    visit(cache, table, 5, 6);
    takeIn(cache, table, 7);
    expect(held(table)).toEqual([2, 5, 6, 7]);
    // 5 and 6 lost theirs on the way round.
    takeIn(cache, table, 8, 9);
    expect(held(table)).toEqual([6, 7, 8, 9]);
  });

  test("holds what was put there, within its budget, over tables, drops and frames that are given back", () => {
    const cache = new FrameCache(100 * FRAME_BYTES + 5);
    const tables = [tableOf(60), tableOf(60), tableOf(60)];
    const random = randomOf(11);
    for (let step = 0; step < 20_000; step++) {
      const table = tables[random(3)]!;
      const block = random(60);
      const frame = table.frames[block]! - 1;
      if (random(500) === 0) cache.drop(table);
      else if (random(50) === 0) cache.giveBack(cache.take());
      else if (frame === -1) takeIn(cache, table, block);
      else if (random(20) === 0) cache.forget(frame);
      else cache.visit(frame);
      const all = tables.flatMap(({ frames }) => [...frames].filter((number) => number !== 0));
      expect(new Set(all).size).toBe(all.length);
      expect(cache.bytes).toBe(all.length * FRAME_BYTES);
      expect(all.length).toBeLessThanOrEqual(100);
    }
    for (const table of tables) {
      for (const block of held(table)) {
        const at = table.frames[block]! - 1;
        expect(cache.slabOf(at)[cache.startOf(at) + FRAME_BYTES - 1]).toBe(block);
      }
    }
  });

  test("takes in what is missed while there is room, and then only what was missed before", () => {
    const cache = new FrameCache(64 * FRAME_BYTES);
    const table = tableOf(64);
    for (let block = 0; block < 64; block++) {
      expect(cache.admits(1, block)).toBe(true);
      takeIn(cache, table, block);
    }
    expect(cache.admits(7, 3)).toBe(false);
    expect(cache.admits(7, 3)).toBe(true);
    expect(cache.admits(8, 3)).toBe(false);
    // What was missed long ago is forgotten: many others have been since.
    for (let block = 100; block < 2_000; block++) cache.admits(9, block);
    expect(cache.admits(7, 3)).toBe(false);
    expect(new FrameCache(FRAME_BYTES - 1).admits(1, 1)).toBe(false);
  });

  test("takes over the memory of a segment when there is room for all of it, and uses it again", () => {
    const cache = new FrameCache(SEGMENT_BYTES + 70 * FRAME_BYTES);
    const before = tableOf(70);
    takeIn(cache, before, 0);
    const written = tableOf(3);
    const memory = new Uint8Array(SEGMENT_BYTES);
    expect(cache.adopt(written, memory.subarray(0, SEGMENT_BYTES - 1), 10)).toBe(false);
    expect(cache.adopt(written, memory.subarray(0, 1024 * 1024), 10)).toBe(false);
    expect(cache.adopt(written, memory, 2 * FRAME_BYTES + 1)).toBe(true);
    expect(held(written)).toEqual([0, 1, 2]);
    expect([...written.frames].every((frame) => cache.isWritten(frame - 1) && cache.isChecked(frame - 1, 4_000))).toBe(
      true,
    );
    // No second one fits, but the rest of the budget is used.
    expect(cache.adopt(tableOf(3), new Uint8Array(SEGMENT_BYTES), FRAME_BYTES)).toBe(false);
    const frames = SEGMENT_BYTES / FRAME_BYTES + 70 - 3 - 1;
    const other = tableOf(frames + 1);
    takeIn(cache, other, ...Array(frames).keys());
    expect([held(before), held(written), held(other).length]).toEqual([[0], [0, 1, 2], frames]);
    takeIn(cache, other, frames);
    expect([held(before), held(written)]).toEqual([[], [0, 1, 2]]);
    takeIn(cache, before, 1);
    expect(held(written)).toEqual([1, 2]);
    const frame = before.frames[1]! - 1;
    expect([cache.isWritten(frame), cache.slabOf(frame)[cache.startOf(frame)]]).toEqual([false, 1]);
    for (const block of held(other)) {
      const at = other.frames[block]! - 1;
      expect(cache.slabOf(at)[cache.startOf(at) + FRAME_BYTES - 1]).toBe(block & 0xff);
    }
  });

  test("begins small, and keeps what it holds when it grows", () => {
    const cache = new FrameCache(64 * 1024 * 1024);
    const table = tableOf(3_000);
    takeIn(cache, table, 0);
    expect(cache.slabs.map((slab) => slab.length)).toEqual([16 * FRAME_BYTES]);
    takeIn(cache, table, ...Array.from({ length: 2_999 }, (_, index) => index + 1));
    expect(cache.slabs.length).toBe(3);
    for (let block = 0; block < 3_000; block++) {
      const frame = table.frames[block]! - 1;
      expect(cache.slabOf(frame)[cache.startOf(frame) + 7]).toBe(block & 0xff);
    }
  });

  test("remembers what has been checked until the frame is filled anew", () => {
    const cache = new FrameCache(2 * FRAME_BYTES);
    const table = tableOf(5);
    takeIn(cache, table, 0, 1);
    const [frame] = table.frames;
    const places = [0, 16, 31 * 16, 32 * 16, FRAME_BYTES - 27];
    for (const place of places) {
      expect(cache.isChecked(frame! - 1, place)).toBe(false);
      cache.setChecked(frame! - 1, place);
      expect(cache.isChecked(frame! - 1, place)).toBe(true);
    }
    expect(cache.isChecked(table.frames[1]! - 1, 0)).toBe(false);
    takeIn(cache, table, 2);
    expect(table.frames[2]).toBe(frame!);
    for (const place of places) expect(cache.isChecked(frame! - 1, place)).toBe(false);
  });
});

/** A file that says how it was read; what is damaged there stays so. */
function fileOf(bytes: Uint8Array): { file: File; reads: [number, number][]; damage: (at: number) => void } {
  const file = new MemoryFileSystem().open("file", "create");
  file.write(bytes, 0);
  const reads: [number, number][] = [];
  return {
    reads,
    damage: (at) => file.write(bytes.slice(at, at + 1).map((byte) => byte ^ 1), at),
    file: Object.assign(Object.create(file) as File, {
      read(target: Uint8Array, position: number, start: number, end: number): number {
        reads.push([position, end - start]);
        return file.read(target, position, start, end);
      },
    }),
  };
}

describe("Segment", () => {
  test("that was read keeps no hold of the memory that it let go", () => {
    const segment = new Segment(
      1,
      { storeId: new Uint8Array(16), frames: new FrameCache(0), aside: new ReadWindow() },
      SEGMENT_BYTES,
    );
    const [key, value] = [bytesOf("k"), bytesOf("v")];
    const offset = segment.append({ kind: KIND.set, bucket: 1, revision: 1, at: 1, key, value, content: 0 });
    expect(segment.seek(offset)).toBe(offset);
    const memory = segment.bytes(0).buffer;
    expect(segment.window.buffer).toBe(memory);
    segment.release();
    expect(segment.window.buffer === memory).toBe(false);
  });

  /** A sealed segment of records of up to `valueBytesMax` bytes, in a file, and where they are. */
  function sealedSegment(cacheFrames: number, valueBytesMax: number, random: (limit: number) => number) {
    const home = (frames: number) => ({
      storeId: new Uint8Array(16),
      frames: new FrameCache(frames * FRAME_BYTES),
      aside: new ReadWindow(),
    });
    const written = new Segment(1, home(0), SEGMENT_BYTES);
    const offsets: number[] = [];
    for (let revision = 1; written.tail < 40 * FRAME_BYTES; revision++) {
      const value = Uint8Array.from({ length: random(valueBytesMax) }, () => random(256));
      offsets.push(
        written.append({ kind: KIND.set, bucket: 1, revision, at: 1, key: bytesOf("k"), value, content: 3 }),
      );
    }
    written.seal(offsets.length, 1);
    const bytes = written.bytes(0);
    const { file, reads, damage } = fileOf(bytes);
    const segment = new Segment(1, home(cacheFrames), SEGMENT_BYTES);
    segment.adopt(file, bytes.length, true);
    const seek = (offset: number): boolean => {
      const at = segment.seek(offset);
      const length = recordBytesAt(bytes, offset);
      return compareBytes(segment.window.subarray(at, at + length), bytes.subarray(offset, offset + length)) === 0;
    };
    return { offsets, reads, damage, seek };
  }

  test("finds a record that lies in two frames there, without a read of the file", () => {
    const { offsets, reads, seek } = sealedSegment(64, 3_000, randomOf(1));
    expect(offsets.every(seek)).toBe(true);
    const count = reads.length;
    expect(offsets.every(seek)).toBe(true);
    expect(reads.length).toBe(count);
  });

  test("checks a record that reaches out of the memory it was written in into a frame that was read", () => {
    const frames = new FrameCache(1_024 * FRAME_BYTES);
    const home = { storeId: new Uint8Array(16), frames, aside: new ReadWindow() };
    const segment = new Segment(1, home, 1_024 * FRAME_BYTES);
    const [key, value] = [bytesOf("k"), new Uint8Array(3_000)];
    const offsets: number[] = [];
    for (let revision = 1; segment.tail < 100 * FRAME_BYTES; revision++) {
      offsets.push(segment.append({ kind: KIND.set, bucket: 1, revision, at: 1, key, value, content: 3 }));
    }
    segment.seal(offsets.length, 1);
    const { file, damage } = fileOf(segment.bytes(0));
    segment.file = file;
    segment.release();
    // All of the memory is in use, and the block that the record reaches into is the one to go.
    const across = offsets.find((offset) => (offset & (FRAME_BYTES - 1)) > FRAME_BYTES - 1_000)!;
    const next = (across >>> 12) + 1;
    for (const offset of offsets) if (offset >>> 12 !== next && offset !== across) segment.seek(offset);
    const other = tableOf(1_024);
    takeIn(frames, other, ...Array(1_024 - Math.ceil(segment.tail / FRAME_BYTES) + next + 1).keys());
    segment.seek(across);
    damage(next * FRAME_BYTES + 10);
    expect(() => segment.seek(across)).toThrow("fails its check");
  });

  test("shows what was written or says CORRUPT, whatever frames hold a record and have been filled anew since", () => {
    const outcomes = new Map<string, number>();
    for (let seed = 1; seed <= 30; seed++) {
      const random = randomOf(seed);
      const { offsets, damage, seek } = sealedSegment(1 + random(30), random(2) === 0 ? 300 : 6_000, random);
      for (let step = 0; step < 2_000; step++) {
        // Behind where a frame begins: in the second part of a record, as a rule.
        if (step % 100 === 99) damage((1 + random(39)) * FRAME_BYTES + random(40));
        const offset = offsets[random(offsets.length)]!;
        let outcome: string;
        try {
          outcome = seek(offset) ? "written" : `other bytes, seed ${seed}, step ${step}`;
        } catch (error) {
          outcome = error instanceof FirkinError ? error.code : String(error);
        }
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
    }
    expect([...outcomes.keys()].sort()).toEqual(["CORRUPT", "written"]);
  });
});

describe("ReadWindow", () => {
  const bytes = Uint8Array.from({ length: 1_000_000 }, (_, index) => index * 7 ^ index >> 8);
  const seek = (window: ReadWindow, file: File, table: FrameTable, offset: number, length: number): void => {
    const at = window.seek(table, file, offset, length, bytes.length);
    expect(window.bytes.subarray(at, at + length)).toEqual(bytes.subarray(offset, offset + length));
  };

  test("reads a record alone when reads are all over the file", () => {
    const { file, reads } = fileOf(bytes);
    const window = new ReadWindow();
    const table = tableOf(0);
    for (const offset of [500_000, 3, 999_950, 70_000]) seek(window, file, table, offset, 50);
    expect(reads).toEqual([[500_000, 512], [3, 512], [999_950, 50], [70_000, 512]]);
  });

  test("reads more and more when the file is read forward, and any length", () => {
    const { file, reads } = fileOf(bytes);
    const window = new ReadWindow();
    const table = tableOf(0);
    const random = randomOf(3);
    for (let offset = 0; offset < bytes.length;) {
      const length = Math.min(random(20) === 0 ? random(200_000) : 1 + random(300), bytes.length - offset);
      seek(window, file, table, offset, length);
      window.note(length);
      offset += length;
    }
    expect(reads.length).toBeLessThan(60);
    expect(Math.max(...reads.slice(-3).map(([, length]) => length))).toBeGreaterThan(30_000);
  });

  test("tells files apart, and reads anew what it was told to forget", () => {
    const window = new ReadWindow();
    const one = fileOf(bytes);
    const other = fileOf(bytes.map((byte) => byte ^ 0xff));
    const [table, otherTable] = [tableOf(0), tableOf(0)];
    seek(window, one.file, table, 100, 10);
    const at = window.seek(otherTable, other.file, 100, 10, bytes.length);
    expect(window.bytes[at]).toBe(bytes[100]! ^ 0xff);
    seek(window, one.file, table, 100, 10);
    window.forget();
    seek(window, one.file, table, 100, 10);
    expect(one.reads.length).toBe(3);
  });
});

describe("What is handed out", () => {
  test("stays as it is when its memory is used for something else", async () => {
    const random = randomOf(5);
    // Few frames and false matches: other records are read between the find of a key and the use of its record.
    const cask = await Cask.open({
      cacheBytesMax: 6 * FRAME_BYTES,
      segmentBytesMax: 16_384,
      hash: (_, key) => key[1]! & 3,
    });
    const subscription = cask.engine.subscribe({});
    const wanted = new Map<string, string>();
    for (let index = 0; index < 300; index++) {
      const key = `k${String(index % 150).padStart(3, "0")}`;
      wanted.set(key, `${index}:${"v".repeat(random(1_200))}`);
      await cask.set(key, wanted.get(key)!);
    }
    await cask.settle();
    const entries: (Entry | undefined)[] = [];
    for (const key of wanted.keys()) entries.push(cask.engine.getSync("b", bytesOf(key)));
    const listed = (await cask.engine.list("b", { limit: 1_000 })).entries;
    const events = await cask.heard(subscription);
    for (let reads = 0; reads < 2_000; reads++) cask.get(`k${String(random(150)).padStart(3, "0")}`);
    for (const all of [entries, listed]) {
      expect(new Map(all.map((entry) => [textOf(entry!.key)!, textOf(entry!.value)!]))).toEqual(wanted);
    }
    expect(events.length).toBe(300);
    const last = new Map<string, string>();
    for (const event of events) {
      if (event.type === "set") last.set(textOf(event.key)!, textOf(event.value)!);
    }
    expect(last).toEqual(wanted);
    // A take hands out its value after others have had their turn.
    const taking = cask.engine.take("b", bytesOf("k007"));
    for (const key of wanted.keys()) cask.get(key);
    expect(textOf((await cask.finish(taking))!.value)).toBe(wanted.get("k007")!);
  });
});
