/**
 * Sorting many entries, in steps, against comparing them.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { compareBytes } from "../../lib/base/bytes.ts";
import { FrameCache, ReadWindow } from "../../lib/bitcask/frames.ts";
import { compareEntryWith, EntryBuffer, isSameKey, sortKeyEndAt, sortKeyStartAt } from "../../lib/bitcask/entry.ts";
import { EMPTY, KIND } from "../../lib/bitcask/record.ts";
import { Segment } from "../../lib/bitcask/segment.ts";
import { chunksOf, EntrySort } from "../../lib/bitcask/sort.ts";
import { randomOf } from "../suites/embedded.ts";
import { pattern } from "../suites/fs.ts";

const home = { storeId: pattern(16), frames: new FrameCache(0), aside: new ReadWindow() };

/** Entries of keys of a kind, some with a deadline. */
function entriesOf(
  count: number,
  random: (limit: number) => number,
  keyOf: (random: (limit: number) => number, number: number) => Uint8Array,
): { entries: EntryBuffer; places: Uint32Array } {
  const entries = new EntryBuffer(0);
  const segment = new Segment(1, home, 64 * 1024 * 1024);
  const places = Uint32Array.from({ length: count }, (_, number) => {
    const expiresAt = random(3) === 0 ? 7 : undefined;
    const bucket = [1, 1, 256][random(3)]!;
    const key = keyOf(random, number);
    const offset = segment.append({
      kind: KIND.set,
      bucket,
      revision: number + 1,
      at: 0,
      key,
      value: EMPTY,
      content: 0,
      expiresAt,
    });
    const place = entries.tail;
    entries.add(segment.bytes(0), offset, segment.tail - offset, offset, 0);
    return place;
  });
  return { entries, places };
}

/** Keys of a kind that asks something of the sort: what is split by two bytes must be split again, or never can be. */
const kinds: Record<string, (random: (limit: number) => number, number: number) => Uint8Array> = {
  "at random": (random) => Uint8Array.from({ length: 1 + random(9) }, () => random(256)),
  "that begin alike, in two places": (random) => Uint8Array.of(1, random(2), 3, 4, 5, random(256), random(256)),
  "most of which are the same": (random) => Uint8Array.of(1, 2, 3, random(50) === 0 ? random(256) : 9),
  "all the same": () => Uint8Array.of(1, 2, 3, 4),
  "of zeros, of any length": (random) => new Uint8Array(1 + random(60)),
  "one byte long, and longer": (random) => Uint8Array.of(random(2), ...(random(2) === 0 ? [random(3)] : [])),
  "in order": (_, number) => new TextEncoder().encode(String(number).padStart(20, "0")),
  "in the opposite order": (_, number) => new TextEncoder().encode(String(99_999 - number)),
};

describe("EntrySort", () => {
  for (const [kind, keyOf] of Object.entries(kinds)) {
    test(`sorts keys ${kind} as comparing them does, and leaves equal ones in their order`, () => {
      for (const count of [0, 1, 13, 4_096, 4_097, 8_193, 40_000]) {
        const { entries, places } = entriesOf(count, randomOf(count + 1), keyOf);
        const { bytes } = entries;
        const sortKey = (place: number): Uint8Array =>
          bytes.subarray(sortKeyStartAt(bytes, place), sortKeyEndAt(bytes, place));
        const expected = [...places].toSorted((one, other) =>
          compareBytes(sortKey(one), sortKey(other)) || one - other
        );
        let steps = 0;
        for (const _ of new EntrySort(bytes, places.length).sort(places)) steps++;
        expect(places.length === expected.length && places.every((place, index) => place === expected[index])).toBe(
          true,
        );
        // No step sorts all of many.
        if (count > 4_096) expect(steps).toBeGreaterThan(count / 4_096);
      }
    });
  }

  test("sorts no more at once than it can tell apart", () => {
    const { entries, places } = entriesOf(8_193, randomOf(1), kinds["in order"]!);
    const sort = new EntrySort(entries.bytes, places.length);
    sort.sortAtOnce(places.subarray(0, 8_192));
    expect(() => sort.sortAtOnce(places)).toThrow();
  });
});

describe("Entries", () => {
  test("compare as their sort keys do", () => {
    const { entries, places } = entriesOf(150, randomOf(2), (random) => {
      return Uint8Array.from({ length: 1 + random(4) }, () => random(2));
    });
    const { bytes } = entries;
    const wrong: unknown[] = [];
    for (const one of places) {
      for (const other of places) {
        const key = bytes.subarray(sortKeyStartAt(bytes, one), sortKeyEndAt(bytes, one));
        const otherKey = bytes.subarray(sortKeyStartAt(bytes, other), sortKeyEndAt(bytes, other));
        const order = compareBytes(key, otherKey);
        const isRight = Math.sign(compareEntryWith(bytes, one, otherKey)) === Math.sign(order) &&
          isSameKey(bytes, one, bytes, other) === (order === 0);
        if (!isRight) wrong.push({ one, other });
      }
    }
    // One expectation for all pairs: thousands of them would be most of the test's time.
    expect(wrong).toEqual([]);
  });

  test("are in runs of a step", () => {
    const numbers = Uint32Array.from({ length: 1_200 }, (_, index) => index);
    expect(chunksOf(numbers).map(({ length }) => length)).toEqual([512, 512, 176]);
    expect(chunksOf(numbers).flatMap((chunk) => [...chunk])).toEqual([...numbers]);
  });
});
