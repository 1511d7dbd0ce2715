/**
 * Addresses in key order, against a sorted array.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { compareBytes } from "../../lib/base/bytes.ts";
import { FrameCache, ReadWindow } from "../../lib/bitcask/frames.ts";
import { listInOrder, rangeAfter, rangeOf, SegmentOrder } from "../../lib/bitcask/order.ts";
import { bucketAt, EMPTY, keyAt, KIND } from "../../lib/bitcask/record.ts";
import { Segment } from "../../lib/bitcask/segment.ts";
import { CHUNK_MAX, sortNewest } from "../../lib/bitcask/sort.ts";
import type { ListQuery } from "../../lib/engine/engine.ts";
import { randomOf } from "../suites/embedded.ts";
import { pattern } from "../suites/fs.ts";
import { shareOf } from "../suites/random.ts";

interface Item {
  readonly bucket: number;
  readonly key: Uint8Array;
}

const home = { storeId: pattern(16), frames: new FrameCache(0), aside: new ReadWindow() };

function append(segment: Segment, item: Item): number {
  const revision = segment.lastRevision + 1;
  return segment.append({ kind: KIND.set, ...item, revision, at: 0, value: EMPTY, content: 0 });
}

/** Some segments with records of random keys in four buckets, and the newest of each key in each of them. */
function filled(
  random: (limit: number) => number,
  segments: number,
): { orders: Map<Segment, SegmentOrder>; items: Item[] } {
  const orders = new Map<Segment, SegmentOrder>();
  const items = new Map<string, Item>();
  for (let id = 1; id <= segments; id++) {
    const segment = new Segment(id, home, 1024 * 1024);
    orders.set(segment, new SegmentOrder(segment));
  }
  const bytes = [0, 1, 0x61, 0x62, 0xfe, 0xff];
  for (let step = 0; step < 600; step++) {
    const [segment, order] = [...orders][random(segments)]!;
    const key = Uint8Array.from({ length: 1 + random(4) }, () => bytes[random(bytes.length)]!);
    const item = { bucket: [1, 2, 255, 256][random(4)]!, key };
    items.set(nameOf(item), item);
    order.reach(append(segment, item), 1);
    // Listings in between, so that there are several runs.
    if (random(40) === 0) order.cursors();
  }
  return { orders, items: [...items.values()] };
}

function nameOf({ bucket, key }: Item): string {
  return `${bucket}:${key.join(".")}`;
}

/** What a listing yields; the versions of a key that one segment does not know to be old come next to one another. */
function found(orders: Map<Segment, SegmentOrder>, bucket: number, query: ListQuery): string[] {
  const range = rangeOf(bucket, query);
  if (range === undefined) return [];
  const names = Array.from(listInOrder(orders, range), ({ segment, offset, key }) => {
    const at = segment.seek(offset);
    expect(keyAt(segment.window, at)).toEqual(key);
    return nameOf({ bucket: bucketAt(segment.window, at), key });
  });
  return names.filter((name, index) => name !== names[index - 1]);
}

function expected(items: readonly Item[], bucket: number, query: ListQuery): string[] {
  const { prefix, start, end, after, reverse = false } = query;
  const left = items.filter((item) =>
    item.bucket === bucket &&
    (prefix === undefined || prefix.every((byte, index) => item.key[index] === byte)) &&
    (start === undefined || compareBytes(item.key, start) >= 0) &&
    (end === undefined || compareBytes(item.key, end) < 0) &&
    (after === undefined || (reverse ? compareBytes(item.key, after) < 0 : compareBytes(item.key, after) > 0))
  );
  left.sort((one, other) => compareBytes(one.key, other.key) * (reverse ? -1 : 1));
  return left.map(nameOf);
}

describe("listInOrder()", () => {
  test("is what sorting gives, for every kind of range", () => {
    for (const seed of shareOf(12)) {
      const random = randomOf(seed + 1);
      const { orders, items } = filled(random, 1 + random(4));
      const key = (): Uint8Array => items[random(items.length)]!.key.slice(0, 1 + random(3));
      for (let step = 0; step < 60; step++) {
        const query: ListQuery = {
          limit: 1,
          reverse: random(2) === 0,
          ...(random(3) === 0 ? { prefix: random(8) === 0 ? EMPTY : key() } : {}),
          ...(random(3) === 0 ? { start: key() } : {}),
          ...(random(3) === 0 ? { end: key() } : {}),
          ...(random(3) === 0 ? { after: key() } : {}),
        };
        for (const bucket of [1, 2, 3, 255, 256, 257]) {
          expect(found(orders, bucket, query)).toEqual(expected(items, bucket, query));
        }
      }
    }
  });
});

describe("rangeAfter()", () => {
  test("is what is left, in either direction", () => {
    const range = rangeOf(1, { limit: 1, start: Uint8Array.of(5), end: Uint8Array.of(9) })!;
    expect(rangeAfter(range, Uint8Array.of(7))).toEqual({ ...range, start: Uint8Array.of(7, 0) });
    expect(rangeAfter({ ...range, end: Uint8Array.of(7, 0) }, Uint8Array.of(7))).toBeUndefined();
    const back = { ...range, reverse: true };
    expect(rangeAfter(back, Uint8Array.of(7))).toEqual({ ...back, end: Uint8Array.of(7) });
    expect(rangeAfter(back, Uint8Array.of(5))).toBeUndefined();
  });
});

describe("SegmentOrder", () => {
  test("keeps few runs, however often it is asked", () => {
    const segment = new Segment(1, home, 1024 * 1024);
    const order = new SegmentOrder(segment);
    const random = randomOf(2);
    const names = new Set<string>();
    for (let step = 1; step <= 3 * CHUNK_MAX; step++) {
      const key = Uint8Array.of(random(256), random(256), random(256));
      names.add(nameOf({ bucket: 1, key }));
      order.reach(append(segment, { bucket: 1, key }), 1);
      const runs = step % 7 === 0 ? order.cursors().length : 0;
      expect(runs).toBeLessThan(15 + (2 * step) / CHUNK_MAX);
    }
    order.cursors();
    expect(order.unsorted).toBe(0);
    expect(order.orderBytes).toBeLessThanOrEqual(12 * CHUNK_MAX);
    expect(found(new Map([[segment, order]]), 1, { limit: 1 })).toEqual([...names].toSorted((left, right) => {
      const bytes = (name: string): Uint8Array => Uint8Array.from(name.slice(2).split("."), Number);
      return compareBytes(bytes(left), bytes(right));
    }));
  });

  test("keeps of a key that is written again and again one record in a chunk", () => {
    const segment = new Segment(1, home, 8 * 1024 * 1024);
    const order = new SegmentOrder(segment);
    let last = 0;
    for (let step = 0; step < 3 * CHUNK_MAX; step++) {
      last = append(segment, { bucket: 1, key: Uint8Array.of(7) });
      order.reach(last, 1);
    }
    const places = Array.from(listInOrder([[segment, order]], rangeOf(1, { limit: 1 })!), ({ offset }) => offset);
    expect(places.length).toBe(3);
    expect(places).toContain(last);
  });
});

describe("sortNewest()", () => {
  /** Keys of a kind that asks something of the sort. */
  const kinds: Record<string, (random: (limit: number) => number) => Uint8Array> = {
    "few": (random) => Uint8Array.of(random(3)),
    "of zeros, of any length": (random) => new Uint8Array(1 + random(40)),
    "of one byte, of any length": (random) => new Uint8Array(1 + random(40)).fill(0x61),
    "with a long beginning in common": (random) => Uint8Array.of(...pattern(300), random(256), random(256)),
    "of two kinds": (random) => Uint8Array.of(...pattern(20, random(2)), random(256), random(20)),
    "of a few letters": (random) => Uint8Array.from({ length: 1 + random(30) }, () => 0xfe + random(2)),
    "at random": (random) => Uint8Array.from({ length: 1 + random(8) }, () => random(256)),
  };
  for (const [kind, keyOf] of Object.entries(kinds)) {
    test(`sorts keys ${kind} as comparing them does, and keeps the newest`, () => {
      for (const count of [0, 1, 2, 11, 12, 13, 200, CHUNK_MAX]) {
        const random = randomOf(count);
        const segment = new Segment(1, home, 4 * 1024 * 1024);
        const newest = new Map<string, Item & { offset: number }>();
        const offsets = Array.from({ length: count }, () => {
          const item = { bucket: [1, 256, 257][random(3)]!, key: keyOf(random) };
          const offset = append(segment, item);
          newest.set(nameOf(item), { ...item, offset });
          return offset;
        });
        const sorted = [...newest.values()].toSorted((one, other) => {
          return one.bucket - other.bucket || compareBytes(one.key, other.key);
        });
        expect([...sortNewest(segment, Uint32Array.from(offsets))]).toEqual(sorted.map(({ offset }) => offset));
      }
    });
  }
});
