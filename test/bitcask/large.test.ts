/**
 * Offsets, addresses and lengths near 2 GiB and 4 GiB: where 32 bits with or without a sign would go wrong.
 *
 * A segment holds at most one record beyond 1 GiB, so no offset comes near 4 GiB today; that they are right there
 * all the same is what lets the limits move.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { crc32 } from "../../lib/base/checksum.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import { FrameCache, ReadWindow } from "../../lib/bitcask/frames.ts";
import { ADDRESS_UNIT, Keydir } from "../../lib/bitcask/keydir.ts";
import {
  checkRecord,
  encodeMark,
  encodeRecord,
  KIND,
  markAt,
  recordBytes,
  recordBytesAt,
  revisionAt,
  segmentSeed,
  valueAt,
  writeU32,
} from "../../lib/bitcask/record.ts";
import { Segment } from "../../lib/bitcask/segment.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { open } from "../../lib/store/open.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode, pattern } from "../suites/fs.ts";

const EDGES = [2 ** 30, 2 ** 31, 2 ** 32 - 2 ** 16];
const STORE = pattern(16);
const SEED = segmentSeed(STORE, 7);

/** A record, with its checksum bound to `offset` as docs/FORMAT.md has it, in exact integers. */
function recordFor(offset: number, value: Uint8Array): Uint8Array {
  const fields = {
    kind: KIND.set,
    bucket: 1,
    revision: 2 ** 48 - 1,
    at: 2 ** 48 - 2,
    key: bytesOf("k"),
    value,
    content: CONTENT.bytes,
  };
  const bytes = new Uint8Array(recordBytes(fields));
  encodeRecord(bytes, 0, SEED, fields);
  const place = Number(BigInt(offset) * 0x9e3779b1n & 0xffffffffn);
  writeU32(bytes, 0, crc32(bytes.subarray(4), SEED ^ place));
  return bytes;
}

describe("Offsets beyond 2 GiB", () => {
  test("bind a record's checksum to its place, exactly", () => {
    const value = pattern(100);
    for (const edge of [...EDGES, 2 ** 32 - 1, 1, 32]) {
      for (const offset of [edge - 1, edge, edge + 1].filter((place) => place < 2 ** 32)) {
        const record = recordFor(offset, value);
        const check = (at: number): number => checkRecord(record, 0, record.length, SEED, at);
        expect([offset, check(offset)]).toEqual([offset, record.length]);
        expect([check(offset ^ 1), check((offset + 2 ** 31) % 2 ** 32), check(offset + 2 ** 32)]).toEqual([0, 0, 0]);
      }
    }
  });

  test("are found again in a segment, within a block and across two", () => {
    const fileSystem = new MemoryFileSystem();
    const segment = new Segment(
      7,
      { storeId: STORE, frames: new FrameCache(2 ** 20), aside: new ReadWindow() },
      2 ** 32,
    );
    const file = fileSystem.open("sparse", "create");
    const value = pattern(3_000);
    const offsets = EDGES.flatMap((edge) => [edge - 1_500, edge + 5_000, edge + 16_384]);
    for (const offset of offsets) file.write(recordFor(offset, value), offset);
    segment.adopt(file, 2 ** 32, true);
    for (const offset of offsets) {
      const at = segment.seek(offset);
      expect([offset, revisionAt(segment.window, at)]).toEqual([offset, 2 ** 48 - 1]);
      expect([...valueAt(segment.window, at)]).toEqual([...value]);
    }
    expect(() => segment.seek(offsets[0]! + 1)).toThrow(/at offset \d+: /);
    segment.close();
  });

  test("are said by marks", () => {
    for (const durable of [2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 3, 2 ** 48 - 1]) {
      const fields = {
        kind: KIND.mark,
        bucket: 0,
        revision: 1,
        at: 1,
        key: new Uint8Array(0),
        value: encodeMark(durable),
        content: CONTENT.cbor,
      };
      const bytes = new Uint8Array(recordBytes(fields));
      encodeRecord(bytes, 0, SEED, fields);
      expect(markAt(bytes, 0)).toBe(durable);
    }
  });

  test("lengths beyond 2 GiB are lengths, and not a sound record of a shorter file", () => {
    for (const length of [2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      const record = recordFor(0, new Uint8Array(10));
      writeU32(record, 8, length);
      expect(recordBytesAt(record, 0)).toBe(26 + 1 + length);
      expect(checkRecord(record, 0, record.length, SEED, 0)).toBe(0);
    }
  });
});

describe("Addresses", () => {
  const slots = [0, 1, 7, 8, 2 ** 15, 2 ** 20, 2 ** 21 - 2];
  const offsets = [32, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1];
  const places = slots.flatMap((slot) => offsets.map((offset) => ({ slot, offset })));
  const addressOf = ({ slot, offset }: { slot: number; offset: number }): number => slot * ADDRESS_UNIT + offset;

  test("are exact numbers, one for each slot and offset", () => {
    const addresses = places.map(addressOf);
    expect(new Set(addresses).size).toBe(places.length);
    for (const [index, address] of addresses.entries()) {
      expect(Number.isSafeInteger(address)).toBe(true);
      expect({ slot: Math.floor(address / ADDRESS_UNIT), offset: address % ADDRESS_UNIT }).toEqual(places[index]!);
    }
  });

  test("come back from the keydir as they went in, when they are set, replaced, moved and deleted", () => {
    const keys = new Map<number, string>();
    const keydir = new Keydir((slot, offset, _bucket, key) => keys.get(addressOf({ slot, offset })) === textOf(key));
    const hash = 0x80000001;
    for (const [index, place] of places.entries()) {
      keys.set(addressOf(place), `k${index}`);
      expect(keydir.set(hash, 1, bytesOf(`k${index}`), addressOf(place))).toBe(-1);
    }
    for (const [index, place] of places.entries()) {
      expect(keydir.get(hash, 1, bytesOf(`k${index}`))).toBe(addressOf(place));
    }
    for (const [index, place] of places.entries()) {
      const after = addressOf({ slot: 2 ** 21 - 1, offset: 2 ** 32 - 1 - index });
      keys.set(after, `k${index}`);
      // The same offset in another slot, and the same slot at another offset, are other records.
      expect(keydir.move(hash, addressOf(place) + ADDRESS_UNIT * 3, after)).toBe(false);
      expect(keydir.move(hash, addressOf(place), after)).toBe(true);
      expect(keydir.set(hash, 1, bytesOf(`k${index}`), addressOf(place))).toBe(after);
      expect(keydir.delete(hash, 1, bytesOf(`k${index}`))).toBe(addressOf(place));
    }
    expect(keydir.count).toBe(0);
  });
});

describe("A value larger than a segment", () => {
  test("has a segment of its own, is read back whole and survives restarts and compaction", async () => {
    const fileSystem = new MemoryFileSystem();
    const options = { path: "large", fileSystem, segmentBytesMax: 64 * 1024, compression: false, sync: "os" } as const;
    const bytes = new Uint8Array(6 * 1024 * 1024).fill(1);
    for (let at = 0; at < bytes.length; at += 65_521) bytes[at] = at;
    const whole = (value: Uint8Array | undefined): boolean =>
      value?.length === bytes.length && crc32(value) === crc32(bytes);
    let store = await open(options);
    for (const key of ["before", "large", "after"]) {
      await store.bucket<Uint8Array>("b", { codec: "bytes" }).set(key, key === "large" ? bytes : pattern(100));
    }
    expect(whole(await store.bucket<Uint8Array>("b", { codec: "bytes" }).get("large"))).toBe(true);
    await store.close();
    store = await open(options);
    expect(whole(await store.bucket<Uint8Array>("b", { codec: "bytes" }).get("large"))).toBe(true);
    await store.bucket("b").delete("before");
    await store.compact();
    expect(whole(await store.bucket<Uint8Array>("b", { codec: "bytes" }).get("large"))).toBe(true);
    expect((await store.bucket<Uint8Array>("b", { codec: "bytes" }).get("after"))?.length).toBe(100);
    await store.close();
    expect(await errorCode(() => open({ ...options, valueBytesMax: 1_024 }).then((again) => again.close()))).toBe(
      undefined,
    );
  });
});
