/**
 * Buckets in frames: whatever is told of them comes through, a page fits a frame, and nothing else is read.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { BUCKETS_MAX } from "../../lib/bitcask/log.ts";
import type { BucketInfo } from "../../lib/engine/engine.ts";
import { readBuckets, readSettings, writeBuckets } from "../../lib/wire/buckets.ts";
import { CborReader, CborWriter } from "../../lib/wire/cbor.ts";
import { OP, SHAPES } from "../../lib/wire/protocol.ts";
import { type Item, message } from "../server/peer.ts";
import { errorCode } from "../suites/fs.ts";

/** What a client reads of a reply with these buckets. */
function roundTrip(buckets: readonly BucketInfo[]): { buckets: readonly BucketInfo[]; more: boolean } {
  const writer = new CborWriter();
  writer.array(2 + SHAPES[OP.buckets]!.results);
  writer.uint(0);
  writer.uint(1);
  writeBuckets(writer, buckets);
  const reader = new CborReader().reset(writer.take());
  reader.frame();
  reader.uint();
  reader.uint();
  const page = readBuckets(reader);
  expect(reader.atEnd()).toBe(true);
  return page;
}

describe("writeBuckets() and readBuckets()", () => {
  test("tell what is known, and no more", () => {
    const buckets: BucketInfo[] = [
      { name: "all", keys: 2 ** 40, bytes: 2 ** 50, settings: { ttl: 1, compression: false } },
      { name: "empty", keys: 0, bytes: 0, settings: {} },
      { name: "name" },
      { name: "settings", settings: { valueBytesMax: 7, compression: true, description: "" } },
    ];
    expect(roundTrip(buckets)).toEqual({ buckets, more: false });
    expect(roundTrip([])).toEqual({ buckets: [], more: false });
  });

  test("page as many as a store has, with all that there is to tell", () => {
    const settings = { ttl: 1, valueBytesMax: 1, compression: true, description: "d".repeat(200) };
    const buckets = Array.from({ length: BUCKETS_MAX }, (_, index): BucketInfo => {
      return { name: `n${String(index).padStart(4, "0")}`.padEnd(64, "x"), keys: index, bytes: 2 ** 50, settings };
    });
    const read: BucketInfo[] = [];
    for (let more = true; more;) {
      const page = roundTrip(buckets.slice(read.length));
      read.push(...page.buckets);
      more = page.more;
    }
    expect(read).toEqual(buckets);
  });

  test("refuse what is not of their shape", async () => {
    const none: Item = [null, null, null, null];
    const wrong: readonly (readonly Item[])[] = [
      [null, false],
      [["b"], false],
      [[["b", 1, 1]], false],
      [[["b", 1, 1, none, null]], false],
      [[[null, 1, 1, none]], false],
      [[["b", -1, 1, none]], false],
      [[["b", 1, 1.5, none]], false],
      [[["b", 1, 1, []]], false],
      [[["b", 1, 1, [null, null, null]]], false],
      [[["b", 1, 1, none]], null],
      [[], true],
      [[["b", 1, 1, none], ["a", 1, 1, none]], false],
      [[["b", 1, 1, none], ["b", 1, 1, none]], false],
      [[["a", 1, 1, none]], true],
    ];
    for (const items of wrong) {
      const reader = new CborReader().reset(message([...items]));
      reader.array();
      expect([items, await errorCode(() => readBuckets(reader, "a"))]).toEqual([items, "PROTOCOL"]);
    }
  });
});

describe("readSettings()", () => {
  test("refuses what is not of its shape", async () => {
    const wrong: readonly Item[][] = [
      [null, null, null],
      [null, null, null, null, null],
      ["5s", null, null, null],
      [-1, null, null, null],
      [1.5, null, null, null],
      [null, true, null, null],
      [null, null, 1, null],
      [null, null, null, 1],
    ];
    for (const items of wrong) {
      const reader = new CborReader().reset(message(items));
      expect([items, await errorCode(() => readSettings(reader))]).toEqual([items, "PROTOCOL"]);
    }
  });
});
