/**
 * The bytes of a hint: made, checked, and found in.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { compareBytes, hashKey } from "../../lib/base/bytes.ts";
import { BlockCache } from "../../lib/bitcask/cache.ts";
import { FrameCache, ReadWindow } from "../../lib/bitcask/frames.ts";
import {
  entryBucketAt,
  entryDeadlineAt,
  entryEndAt,
  entryHashAt,
  entryKeyAt,
  entryKindAt,
  entryOffsetAt,
  entryRecordBytesAt,
} from "../../lib/bitcask/entry.ts";
import {
  type Hint,
  hintBinding,
  HintCursor,
  type HintFigures,
  hintHas,
  madeHint,
  openHint,
} from "../../lib/bitcask/hint.ts";
import { makeHint } from "../../lib/bitcask/hint_builder.ts";
import { EMPTY, KIND, type Kind, readU32, recordBytesAt } from "../../lib/bitcask/record.ts";
import { SEAL_BYTES, Segment } from "../../lib/bitcask/segment.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { randomOf } from "../suites/embedded.ts";
import { pattern } from "../suites/fs.ts";

const home = { storeId: pattern(16), frames: new FrameCache(0), aside: new ReadWindow() };
const hash = (bucket: number, bytes: Uint8Array, start: number, end: number): number =>
  hashKey(1, bucket, bytes, start, end);

interface Item {
  readonly bucket: number;
  readonly key: Uint8Array;
  readonly kind: Kind;
  readonly offset: number;
  readonly deadline: number | undefined;
}

/** A sealed segment with `count` random changes, and the newest of each key in order. */
function sealed(
  count: number,
  random: (limit: number) => number,
  keyBytesMax = 4,
): { bytes: Uint8Array; items: Item[]; figures: HintFigures } {
  const segment = new Segment(7, home, 64 * 1024 * 1024);
  const items = new Map<string, Item>();
  const tombstones = { bytes: 0, time: 0 };
  let marks = 0;
  for (let step = 1; step <= count; step++) {
    const key = Uint8Array.from({ length: 1 + random(keyBytesMax) }, () => 0xfa + random(6));
    const bucket = [1, 2, 255, 256][random(4)]!;
    const kind = random(5) === 0 ? KIND.delete : KIND.set;
    const deadline = kind === KIND.set && random(3) === 0 ? step * 1_000 : undefined;
    const value = kind === KIND.set ? new Uint8Array(random(20)) : EMPTY;
    const offset = segment.append({
      kind,
      bucket,
      revision: 10 + step,
      at: 1_000 + step,
      key,
      value,
      content: 0,
      expiresAt: deadline,
    });
    if (kind === KIND.delete) {
      tombstones.bytes += segment.tail - offset;
      tombstones.time = 1_000 + step;
    }
    if (random(10) === 0) {
      const mark = {
        kind: KIND.mark,
        bucket: 0,
        revision: 10 + step,
        at: 1_000 + step,
        key: EMPTY,
        content: 0,
      } as const;
      const markAt = segment.append({ ...mark, value: new Uint8Array(6) });
      marks += segment.tail - markAt;
    }
    items.set(`${bucket}:${key.join(".")}`, { bucket, key, kind, offset, deadline });
  }
  const tail = segment.tail;
  segment.seal(10 + count, 5_000 + count);
  const sorted = [...items.values()].toSorted((one, other) => {
    return one.bucket - other.bucket || compareBytes(one.key, other.key);
  });
  const bytes = segment.bytes(0).slice();
  const live = sorted.reduce(
    (sum, { kind, offset }) => sum + (kind === KIND.set ? recordBytesAt(bytes, offset) : 0),
    0,
  );
  const deadBytes = tail - 32 - live - tombstones.bytes;
  const figures = {
    deadBytes,
    markBytes: marks,
    tombstoneBytes: tombstones.bytes,
    tombstoneTime: tombstones.time,
    firstRevision: count === 0 ? 0 : 11,
    lastRevision: count === 0 ? 0 : 10 + count,
    time: 5_000 + count,
  };
  return { bytes, items: sorted, figures };
}

function made(bytes: Uint8Array): Uint8Array {
  const steps = makeHint(bytes, hash);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

function bindingOf(bytes: Uint8Array): Uint8Array {
  return hintBinding(bytes.subarray(0, 32), bytes.length, readU32(bytes, bytes.length - SEAL_BYTES));
}

/** The hint in a file, with a cache or none. */
function opened(bytes: Uint8Array, cacheBytes = 0): Hint {
  const file = new MemoryFileSystem().open("hint", "create");
  file.write(bytes, 0);
  return madeHint(bytes, file, new BlockCache(cacheBytes));
}

/** What an open makes of these bytes: undefined when they are refused, false when a block is found bad later. */
function checked(bytes: Uint8Array, binding: Uint8Array): boolean | undefined {
  const file = new MemoryFileSystem().open("hint", "create");
  file.write(bytes, 0);
  return openHint(file, binding, new BlockCache(0))?.isSound();
}

describe("makeHint()", () => {
  test("holds the newest record of each key, in order, and reads back whole", () => {
    for (const count of [0, 1, 2, 100, 4_095, 4_096, 4_097, 20_000]) {
      const { bytes, items, figures } = sealed(count, randomOf(count + 1), 1 + (count % 7));
      const file = new MemoryFileSystem().open("hint", "create");
      file.write(made(bytes), 0);
      const hint = openHint(file, bindingOf(bytes), new BlockCache(0))!;
      expect(hint.entries).toBe(items.length);
      expect(hint.figures).toEqual(figures);
      const found: Item[] = [];
      for (let number = 0; number < hint.blocks; number++) {
        const block = hint.block(number);
        for (let at = 4; at < block.length; at = entryEndAt(block, at)) {
          const item = {
            bucket: entryBucketAt(block, at),
            key: entryKeyAt(block, at),
            kind: entryKindAt(block, at),
            offset: entryOffsetAt(block, at),
            deadline: entryDeadlineAt(block, at),
          };
          expect(entryHashAt(block, at)).toBe(hash(item.bucket, item.key, 0, item.key.length));
          expect(entryRecordBytesAt(block, at)).toBe(recordBytesAt(bytes, item.offset));
          found.push(item);
        }
      }
      expect(found).toEqual(items);
    }
  });

  test("is found in from either side, at every key and between", () => {
    for (const [count, keyBytesMax] of [[0, 1], [1, 1], [40, 3], [9_000, 5], [3_000, 300]] as const) {
      const { bytes, items } = sealed(count, randomOf(count), keyBytesMax);
      const hint = opened(made(bytes), count % 2 === 0 ? 0 : 100_000);
      if (count > 2_000) expect(hint.blocks).toBeGreaterThan(10);
      // Of long keys the index holds a few bytes each.
      expect(hint.orderBytes).toBeLessThan(64 + hint.blocks * 40);
      const random = randomOf(3);
      const cursor = new HintCursor(hint);
      for (let step = 0; step < 400; step++) {
        const near = items[random(items.length)] ?? { bucket: 1, key: EMPTY };
        const bucket = near.bucket + (random(8) === 0 ? 1 : 0);
        const key = near.key.slice(0, random(near.key.length + 2));
        const place = items.findIndex((item) => (item.bucket - bucket || compareBytes(item.key, key)) >= 0);
        const at = place === -1 ? items.length : place;
        cursor.seek(bucket, key);
        expect(cursor.valid ? cursor.offset : -1).toBe(items[at]?.offset ?? -1);
        const forward = random(2) === 0;
        for (let moved = 1; moved < 5; moved++) {
          if (forward) cursor.next();
          else cursor.previous();
          const item = items[forward ? at + moved : at - moved];
          expect(cursor.valid ? cursor.offset : -1).toBe(item?.offset ?? -1);
          if (item === undefined) break;
          expect(cursor.key).toEqual(item.key);
          expect(hintHas(hint, item.bucket, item.key, item.offset)).toBe(true);
          expect(hintHas(hint, item.bucket, item.key, item.offset + 1)).toBe(false);
          expect(hintHas(hint, item.bucket + 5, item.key, item.offset)).toBe(false);
        }
      }
    }
  });
});

describe("openHint()", () => {
  const { bytes } = sealed(150, randomOf(5), 40);
  const whole = made(bytes);
  const binding = bindingOf(bytes);

  test("refuses any flipped bit, any cut and anything behind; in a block, when that is read", () => {
    expect(checked(whole, binding)).toBe(true);
    const hint = opened(whole);
    expect(hint.blocks).toBeGreaterThan(1);
    const wrong: unknown[] = [];
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const other = whole.slice();
      other[bit >> 3]! ^= 1 << (bit & 7);
      const inBlock = bit >> 3 >= hint.start(0) && bit >> 3 < hint.start(hint.blocks);
      if (checked(other, binding) !== (inBlock ? false : undefined)) wrong.push({ bit });
    }
    for (let length = 0; length < whole.length; length++) {
      if (checked(whole.slice(0, length), binding) !== undefined) wrong.push({ length });
    }
    // One expectation for all of them: thousands would be most of the test's time.
    expect(wrong).toEqual([]);
    expect(checked(Uint8Array.of(...whole, 0), binding)).toBeUndefined();
  });

  test("refuses the hint of another store, segment, length or seal", () => {
    for (let index = 0; index < binding.length; index++) {
      const other = binding.slice();
      other[index]! ^= 1;
      expect(checked(whole, other)).toBeUndefined();
    }
  });
});
