/**
 * Addresses in key order, against a sorted array.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { compareBytes } from "../../lib/base/bytes.ts";
import { BlockCache } from "../../lib/bitcask/cache.ts";
import { listInOrder, rangeOf, SegmentOrder } from "../../lib/bitcask/order.ts";
import { bucketAt, EMPTY, keyAt, KIND } from "../../lib/bitcask/record.ts";
import { Segment } from "../../lib/bitcask/segment.ts";
import type { ListQuery } from "../../lib/engine/engine.ts";
import { randomOf } from "../suites/embedded.ts";
import { pattern } from "../suites/fs.ts";

interface Item {
  readonly bucket: number;
  readonly key: Uint8Array;
}

/** Some segments with records of random keys in four buckets, and the keys. */
function filled(
  random: (limit: number) => number,
  segments: number,
): { orders: Map<Segment, SegmentOrder>; items: Item[] } {
  const home = { storeId: pattern(16), cache: new BlockCache(0) };
  const orders = new Map<Segment, SegmentOrder>();
  const items: Item[] = [];
  for (let id = 1; id <= segments; id++) {
    const segment = new Segment(id, home, 1024 * 1024);
    orders.set(segment, new SegmentOrder(segment));
  }
  const bytes = [0, 1, 0x61, 0x62, 0xfe, 0xff];
  for (let step = 0; step < 600; step++) {
    const [segment, order] = [...orders][random(segments)]!;
    const key = Uint8Array.from({ length: 1 + random(4) }, () => bytes[random(bytes.length)]!);
    const item = { bucket: [1, 2, 255, 256][random(4)]!, key };
    items.push(item);
    order.add(segment.append({ kind: KIND.set, ...item, revision: step + 1, at: 0, value: EMPTY, content: 0 }));
    // Listings in between, so that there are several runs.
    if (random(40) === 0) order.runs();
  }
  return { orders, items };
}

function found(orders: Map<Segment, SegmentOrder>, bucket: number, query: ListQuery): string[] {
  const range = rangeOf(bucket, query);
  if (range === undefined) return [];
  return Array.from(listInOrder(orders, range), ({ segment, offset }) => {
    const at = segment.seek(offset);
    return `${bucketAt(segment.window, at)}:${keyAt(segment.window, at).join(".")}`;
  });
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
  return left.map(({ key }) => `${bucket}:${key.join(".")}`);
}

describe("listInOrder()", () => {
  test("is what sorting gives, for every kind of range", () => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = randomOf(seed);
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

  test("keeps few runs, however often it is asked", () => {
    const home = { storeId: pattern(16), cache: new BlockCache(0) };
    const segment = new Segment(1, home, 1024 * 1024);
    const order = new SegmentOrder(segment);
    const random = randomOf(2);
    for (let step = 0; step < 3_000; step++) {
      const key = Uint8Array.of(random(256), random(256));
      order.add(segment.append({ kind: KIND.set, bucket: 1, key, revision: 1, at: 0, value: EMPTY, content: 0 }));
      expect(order.runs().length).toBeLessThan(14);
    }
    expect(order.bytes).toBe(12_000);
  });
});
