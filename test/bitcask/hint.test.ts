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
  checkHint,
  entryBucketAt,
  entryDeadlineAt,
  entryHashAt,
  entryKeyAt,
  entryKindAt,
  entryOffsetAt,
  Hint,
  hintBinding,
  type HintContents,
  HintCursor,
  type HintFigures,
  hintHas,
  HintReader,
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

function made(bytes: Uint8Array): HintContents {
  const steps = makeHint(bytes, hash);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

function bindingOf(bytes: Uint8Array): Uint8Array {
  return hintBinding(bytes.subarray(0, 32), bytes.length, readU32(bytes, bytes.length - SEAL_BYTES));
}

/** The hint as a listing has it. */
function opened(contents: HintContents, cacheBytes = 0): { hint: Hint; fileSystem: MemoryFileSystem } {
  const fileSystem = new MemoryFileSystem();
  const file = fileSystem.open("hint", "create");
  file.write(contents.bytes, 0);
  return { hint: new Hint(file, new BlockCache(cacheBytes), contents), fileSystem };
}

describe("makeHint()", () => {
  test("holds the newest record of each key, in order, and reads back whole", () => {
    for (const count of [0, 1, 2, 100, 4_095, 4_096, 4_097, 20_000]) {
      const { bytes, items, figures } = sealed(count, randomOf(count + 1), 1 + (count % 7));
      const contents = checkHint(made(bytes).bytes, bindingOf(bytes))!;
      expect(contents.count).toBe(items.length);
      expect(contents.figures).toEqual(figures);
      const reader = new HintReader(contents);
      const found: Item[] = [];
      while (reader.next()) {
        const { at } = reader;
        const item = {
          bucket: entryBucketAt(contents.bytes, at),
          key: entryKeyAt(contents.bytes, at),
          kind: entryKindAt(contents.bytes, at),
          offset: entryOffsetAt(contents.bytes, at),
          deadline: entryDeadlineAt(contents.bytes, at),
        };
        expect(entryHashAt(contents.bytes, at)).toBe(hash(item.bucket, item.key, 0, item.key.length));
        found.push(item);
      }
      expect(found).toEqual(items);
    }
  });

  test("is found in from either side, at every key and between", () => {
    for (const [count, keyBytesMax] of [[0, 1], [1, 1], [40, 3], [9_000, 5], [3_000, 300]] as const) {
      const { bytes, items } = sealed(count, randomOf(count), keyBytesMax);
      const contents = made(bytes);
      const { hint } = opened(contents, count % 2 === 0 ? 0 : 100_000);
      if (count > 2_000) expect(hint.count).toBeGreaterThan(10);
      // Of long keys the index holds a few bytes each.
      expect(hint.bytes).toBeLessThan(64 + hint.count * 40);
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

describe("checkHint()", () => {
  const { bytes } = sealed(60, randomOf(5), 40);
  const { bytes: whole } = made(bytes);
  const binding = bindingOf(bytes);

  test("refuses any flipped bit, any cut and anything behind", () => {
    expect(checkHint(whole, binding)).toBeDefined();
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const other = whole.slice();
      other[bit >> 3]! ^= 1 << (bit & 7);
      expect(checkHint(other, binding)).toBeUndefined();
    }
    for (let length = 0; length < whole.length; length++) {
      expect(checkHint(whole.slice(0, length), binding)).toBeUndefined();
    }
    expect(checkHint(Uint8Array.of(...whole, 0), binding)).toBeUndefined();
  });

  test("refuses the hint of another store, segment, length or seal", () => {
    for (let index = 8; index < binding.length; index++) {
      const other = binding.slice();
      other[index]! ^= 1;
      expect(checkHint(whole, other)).toBeUndefined();
    }
  });
});
