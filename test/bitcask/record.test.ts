/**
 * One record: what goes in comes out, and nothing else passes the check.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import type { Content } from "../../lib/base/codec.ts";
import { compress } from "../../lib/base/compress.ts";
import {
  bucketAt,
  checkRecord,
  compareKeyAt,
  contentAt,
  copyRecord,
  encodeMark,
  encodeRecord,
  expiresAtAt,
  FLAG,
  flagsAt,
  HEADER_BYTES,
  HEADER_BYTES_MAX,
  isKeyAt,
  isTombstone,
  keyAt,
  KIND,
  type Kind,
  kindAt,
  markAt,
  NO_CONTENT,
  recordBytes,
  recordBytesAt,
  type RecordFields,
  revisionAt,
  segmentSeed,
  timeAt,
  valueAt,
} from "../../lib/bitcask/record.ts";
import { pattern } from "../suites/fs.ts";

const SEED = segmentSeed(pattern(16), 7);

/** A buffer with the record at `at`, and its end. */
function encoded(fields: Partial<RecordFields>, at = 0, seed = SEED): { bytes: Uint8Array; end: number } {
  const whole: RecordFields = {
    kind: KIND.set,
    bucket: 1,
    revision: 5,
    at: 1_700_000_000_000,
    key: pattern(3),
    value: pattern(9, 2),
    content: 0,
    ...fields,
  };
  const bytes = new Uint8Array(at + recordBytes(whole) + 40).fill(0xa5);
  return { bytes, end: encodeRecord(bytes, at, seed, whole) };
}

describe("encodeRecord()", () => {
  test("every combination of fields comes back", () => {
    let count = 0;
    const shortKey = pattern(0);
    const longKey = pattern(65_535);
    const raw = new Uint8Array(300).fill(0x61);
    const compressed = compress(raw)!;
    for (const kind of Object.values(KIND)) {
      for (const content of [0, 1, 2, 3] as Content[]) {
        for (const expiresAt of [undefined, 0, 2 ** 48 - 1]) {
          for (const packed of [false, true]) {
            for (const flags of [0, FLAG.once, FLAG.more, FLAG.clean, FLAG.once | FLAG.more | FLAG.clean]) {
              for (
                const [bucket, revision, at, keyBytes] of [[0, 0, 0, 0], [65_535, 2 ** 48 - 1, 2 ** 48 - 1, 65_535]]
              ) {
                const value = packed ? compressed : raw;
                const key = keyBytes === 0 ? shortKey : longKey;
                const fields: RecordFields = {
                  kind,
                  bucket: bucket!,
                  revision: revision!,
                  at: at!,
                  key,
                  value,
                  content,
                  expiresAt,
                  rawBytes: packed ? 300 : undefined,
                  flags,
                };
                const { bytes, end } = encoded(fields, 11);
                expect(end - 11).toBe(recordBytes(fields));
                expect(checkRecord(bytes, 11, end, SEED)).toBe(end - 11);
                expect(recordBytesAt(bytes, 11)).toBe(end - 11);
                expect(kindAt(bytes, 11)).toBe(kind);
                expect(flagsAt(bytes, 11) & flags).toBe(flags);
                expect([bucketAt(bytes, 11), revisionAt(bytes, 11), timeAt(bytes, 11)]).toEqual([
                  bucket!,
                  revision!,
                  at!,
                ]);
                expect([contentAt(bytes, 11), expiresAtAt(bytes, 11)]).toEqual([content, expiresAt]);
                expect(keyAt(bytes, 11).length).toBe(keyBytes!);
                expect(isKeyAt(bytes, 11, bucket!, key)).toBe(true);
                expect(valueAt(bytes, 11)).toEqual(raw);
                expect([bytes[10], bytes[end]]).toEqual([0xa5, 0xa5]);
                count++;
              }
            }
          }
        }
      }
    }
    expect(count).toBe(7 * 4 * 3 * 2 * 5 * 2);
    expect(HEADER_BYTES_MAX).toBe(HEADER_BYTES + 6 + 4);
  });

  test("a record has these bytes for ever", () => {
    const { bytes, end } = encoded({ expiresAt: 0x010203040506, key: Uint8Array.of(0x6b), value: Uint8Array.of(0x76) });
    const hex = [...bytes.subarray(4, end)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    expect(hex).toBe(
      "01" + "04" + "0100" + "01000000" + "050000000000" + "0068e5cf8b01" + "0100" + "060504030201" + "6b76",
    );
    expect(checkRecord(bytes, 0, end, SEED)).toBe(34);
  });

  test("a mark carries a place of up to 48 bits", () => {
    for (const place of [0, 32, 2 ** 32 + 5, 2 ** 48 - 1]) {
      const { bytes } = encoded({
        kind: KIND.mark,
        key: new Uint8Array(0),
        value: encodeMark(place),
        content: NO_CONTENT,
      });
      expect(markAt(bytes, 0)).toBe(place);
    }
  });
});

describe("checkRecord()", () => {
  const kinds: Partial<RecordFields>[] = [
    {},
    { expiresAt: 1_700_000_000_001, rawBytes: 9, flags: FLAG.once },
    { kind: KIND.delete, value: new Uint8Array(0) },
    { kind: KIND.seal, bucket: 0, key: new Uint8Array(0), value: new Uint8Array(0) },
  ];

  test("rejects every flipped bit", () => {
    for (const fields of kinds) {
      const { bytes, end } = encoded(fields, 5);
      for (let bit = 5 * 8; bit < end * 8; bit++) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        expect(checkRecord(bytes, 5, bytes.length, SEED)).toBe(0);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
      }
      expect(checkRecord(bytes, 5, bytes.length, SEED)).toBe(end - 5);
    }
  });

  test("rejects a key and a value that were parted elsewhere, between the same bytes", () => {
    const { bytes, end } = encoded({});
    bytes[6]! += 1;
    bytes[8]! -= 1;
    expect(recordBytesAt(bytes, 0)).toBe(end);
    expect(checkRecord(bytes, 0, end, SEED)).toBe(0);
  });

  test("rejects every cut, whatever stands behind it", () => {
    for (const fields of kinds) {
      const { bytes, end } = encoded(fields);
      for (let length = 0; length < end; length++) {
        expect(checkRecord(bytes, 0, length, SEED)).toBe(0);
        expect(checkRecord(bytes.slice(0, length), 0, length, SEED)).toBe(0);
        const zeros = new Uint8Array(end + 50);
        zeros.set(bytes.subarray(0, length));
        // A last byte that is zero anyway is not missed.
        if (bytes.subarray(length, end).some((byte) => byte !== 0)) {
          expect(checkRecord(zeros, 0, end + 50, SEED)).toBe(0);
        }
      }
    }
  });

  test("rejects zeros, and kinds that do not exist", () => {
    expect(checkRecord(new Uint8Array(100), 0, 100, SEED)).toBe(0);
    for (const kind of [0, 8, 255]) {
      const { bytes, end } = encoded({ kind: kind as Kind });
      expect(checkRecord(bytes, 0, end, SEED)).toBe(0);
    }
  });

  test("is bound to offset, segment and store", () => {
    const { bytes, end } = encoded({});
    const other = new Uint8Array(200);
    for (let at = 1; at < 100; at++) {
      other.set(bytes.subarray(0, end), at);
      expect(checkRecord(other, at, 200, SEED)).toBe(0);
      expect(checkRecord(other, at, 200, SEED, 0)).toBe(end);
    }
    expect(checkRecord(bytes, 0, end, SEED, 2 ** 32)).toBe(0);
    expect(checkRecord(bytes, 0, end, segmentSeed(pattern(16), 8))).toBe(0);
    expect(checkRecord(bytes, 0, end, segmentSeed(pattern(16, 2), 7))).toBe(0);
  });

  test("takes a window that begins elsewhere in the segment", () => {
    const { bytes, end } = encoded({}, 40);
    const window = bytes.slice(30);
    expect(checkRecord(window, 10, window.length, SEED, 40)).toBe(end - 40);
  });
});

describe("copyRecord()", () => {
  test("binds the record to its new place and makes a member of a batch a plain record", () => {
    const { bytes, end } = encoded({ flags: FLAG.more | FLAG.once, expiresAt: 9 });
    const target = new Uint8Array(200);
    const seed = segmentSeed(pattern(16), 99);
    expect(copyRecord(target, 50, seed, bytes.subarray(0, end))).toBe(50 + end);
    expect(checkRecord(target, 50, 200, seed)).toBe(end);
    expect(flagsAt(target, 50)).toBe(FLAG.once | FLAG.deadline);
    expect([revisionAt(target, 50), expiresAtAt(target, 50)]).toEqual([5, 9]);
    expect(valueAt(target, 50)).toEqual(pattern(9, 2));
  });
});

describe("keys", () => {
  test("isKeyAt() and compareKeyAt() go by bucket and bytes", () => {
    const { bytes } = encoded({ bucket: 300, key: Uint8Array.of(1, 2) });
    expect(isKeyAt(bytes, 0, 300, Uint8Array.of(1, 2))).toBe(true);
    for (const [bucket, key] of [[44, [1, 2]], [300, [1]], [300, [1, 2, 0]], [300, [1, 3]]] as const) {
      expect(isKeyAt(bytes, 0, bucket, Uint8Array.from(key))).toBe(false);
      expect(compareKeyAt(bytes, 0, bucket, Uint8Array.from(key))).not.toBe(0);
    }
    expect(compareKeyAt(bytes, 0, 300, Uint8Array.of(1, 2))).toBe(0);
    expect(compareKeyAt(bytes, 0, 299, Uint8Array.of(9))).toBeGreaterThan(0);
    expect(compareKeyAt(bytes, 0, 300, Uint8Array.of(1, 2, 0))).toBeLessThan(0);
  });

  test("isTombstone() is true for what ends a key", () => {
    expect(Object.values(KIND).filter(isTombstone)).toEqual([KIND.delete, KIND.expire, KIND.evict, KIND.take]);
  });
});
