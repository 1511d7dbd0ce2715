/**
 * One record: a change of one key, or the log's word about itself.
 *
 * Layout, little endian (docs/FORMAT.md):
 *
 *      0  u32  CRC-32 of everything after it, seeded with store, segment and offset
 *      4  u8   kind: 1 set, 2 delete, 3 expire, 4 evict, 5 take, 6 mark, 7 seal
 *      5  u8   flags: bits 0-1 content type, 2 has a deadline, 3 compressed, 4 single-read, 5 more of a batch follows,
 *              6 clean (on a mark: the log was closed)
 *      6  u16  key length
 *      8  u32  stored value length
 *     12  u48  revision
 *     18  u48  when the store took the change, epoch milliseconds
 *     24  u16  bucket, 0 for marks and seals
 *     26 [u48  deadline, epoch milliseconds]   with flag 2
 *        [u32  raw value length]               with flag 3
 *         ...  key, then value
 *
 * The kind is never 0, so a run of zeros (space that a crash left allocated and unwritten) is never a record. The seed
 * makes a block that lands at the wrong place, or comes back from another store or segment, fail its check.
 *
 * Encode and decode stand together, on plain offsets into a buffer: reading a field makes no object.
 *
 * @module
 */
import { crc32 } from "../base/checksum.ts";
import { compareBytes, copyBytes } from "../base/bytes.ts";
import { CONTENT, type Content } from "../base/codec.ts";
import { decompress } from "../base/compress.ts";
import type { Entry, ValueReader } from "../engine/engine.ts";

/** On disk: never change a number. Kinds 2 to 5 are tombstones. */
export const KIND = { set: 1, delete: 2, expire: 3, evict: 4, take: 5, mark: 6, seal: 7 } as const;

/** A kind of record. */
export type Kind = (typeof KIND)[keyof typeof KIND];

/** On disk: never change a bit. */
export const FLAG = { content: 3, deadline: 4, compressed: 8, once: 16, more: 32, clean: 64 } as const;

/** Bytes of a record before its optional fields. */
export const HEADER_BYTES = 26;

/** Bytes of the largest header: with a deadline and a raw length. */
export const HEADER_BYTES_MAX = 36;

/** What a new record says. */
export interface RecordFields {
  readonly kind: Kind;
  readonly bucket: number;
  /** Given by the group that takes the record, and so is the time. */
  revision: number;
  /** When the store took the change, epoch milliseconds. */
  at: number;
  readonly key: Uint8Array;
  /** As stored: compressed when `rawBytes` is there. */
  readonly value: Uint8Array;
  readonly content: Content;
  readonly expiresAt?: number | undefined;
  readonly rawBytes?: number | undefined;
  /** Further flags: once, more, clean. */
  flags?: number | undefined;
}

/** Empty key or value. */
export const EMPTY: Uint8Array = new Uint8Array(0);

// --- sizes and fields ---

/** Bytes that a record with these fields takes. */
export function recordBytes(fields: Pick<RecordFields, "key" | "value" | "expiresAt" | "rawBytes">): number {
  return HEADER_BYTES + (fields.expiresAt === undefined ? 0 : 6) + (fields.rawBytes === undefined ? 0 : 4) +
    fields.key.length + fields.value.length;
}

/** Length of the record at `at`, optional fields and all. The header must be there; nothing is checked. */
export function recordBytesAt(bytes: Uint8Array, at: number): number {
  return keyStartAt(bytes, at) - at + keyBytesAt(bytes, at) + readU32(bytes, at + 8);
}

/** The kind of the record at `at`. */
export function kindAt(bytes: Uint8Array, at: number): Kind {
  return bytes[at + 4] as Kind;
}

/** The flags of the record at `at`. */
export function flagsAt(bytes: Uint8Array, at: number): number {
  return bytes[at + 5]!;
}

/** The key's length. */
export function keyBytesAt(bytes: Uint8Array, at: number): number {
  return bytes[at + 6]! | (bytes[at + 7]! << 8);
}

/** The revision. */
export function revisionAt(bytes: Uint8Array, at: number): number {
  return readU48(bytes, at + 12);
}

/** When the store took the change, epoch milliseconds. */
export function timeAt(bytes: Uint8Array, at: number): number {
  return readU48(bytes, at + 18);
}

/** The bucket's number. */
export function bucketAt(bytes: Uint8Array, at: number): number {
  return bytes[at + 24]! | (bytes[at + 25]! << 8);
}

/** The deadline in epoch milliseconds, undefined when there is none. */
export function expiresAtAt(bytes: Uint8Array, at: number): number | undefined {
  return (bytes[at + 5]! & FLAG.deadline) === 0 ? undefined : readU48(bytes, at + HEADER_BYTES);
}

/** Where the key begins. */
export function keyStartAt(bytes: Uint8Array, at: number): number {
  const flags = bytes[at + 5]!;
  return at + HEADER_BYTES + ((flags & FLAG.deadline) === 0 ? 0 : 6) + ((flags & FLAG.compressed) === 0 ? 0 : 4);
}

/** The key, as a view. */
export function keyAt(bytes: Uint8Array, at: number): Uint8Array {
  const start = keyStartAt(bytes, at);
  return bytes.subarray(start, start + keyBytesAt(bytes, at));
}

/** The key, as a copy that belongs to the caller. */
export function copyKeyAt(bytes: Uint8Array, at: number): Uint8Array {
  const start = keyStartAt(bytes, at);
  return copyBytes(bytes, start, start + keyBytesAt(bytes, at));
}

/** The content type of the value. */
export function contentAt(bytes: Uint8Array, at: number): Content {
  return (bytes[at + 5]! & FLAG.content) as Content;
}

/** The value: a view of `bytes`, or fresh bytes when it is stored compressed. @throws {FirkinError} CORRUPT */
export function valueAt(bytes: Uint8Array, at: number): Uint8Array {
  const start = keyStartAt(bytes, at) + keyBytesAt(bytes, at);
  const stored = bytes.subarray(start, start + readU32(bytes, at + 8));
  if ((bytes[at + 5]! & FLAG.compressed) === 0) return stored;
  return decompress(stored, readU32(bytes, at + HEADER_BYTES + ((bytes[at + 5]! & FLAG.deadline) === 0 ? 0 : 6)));
}

/** The value, as bytes that belong to the caller. @throws {FirkinError} CORRUPT */
export function copyValueAt(bytes: Uint8Array, at: number): Uint8Array {
  if ((bytes[at + 5]! & FLAG.compressed) !== 0) return valueAt(bytes, at);
  const start = keyStartAt(bytes, at) + keyBytesAt(bytes, at);
  return copyBytes(bytes, start, start + readU32(bytes, at + 8));
}

/** True when the set record at `at` makes its key single-read. */
export function isOnceAt(bytes: Uint8Array, at: number): boolean {
  return (bytes[at + 5]! & FLAG.once) !== 0;
}

/**
 * The set record at `at` as users know it; key and value are copies. The value of a single-read key is left out: it
 * belongs to its taker. @throws {FirkinError} CORRUPT
 */
export function entryAt(bytes: Uint8Array, at: number): Entry {
  const once = isOnceAt(bytes, at);
  const entry = {
    key: copyKeyAt(bytes, at),
    value: once ? EMPTY : copyValueAt(bytes, at),
    content: contentAt(bytes, at),
    revision: revisionAt(bytes, at),
  };
  const expiresAt = expiresAtAt(bytes, at);
  if (!once) return expiresAt === undefined ? entry : { ...entry, expiresAt };
  return expiresAt === undefined ? { ...entry, once } : { ...entry, expiresAt, once };
}

/** What `read` makes of the value of the set record at `at`. @throws {FirkinError} CORRUPT */
export function readValueAt<Result>(bytes: Uint8Array, at: number, read: ValueReader<Result>): Result {
  const flags = bytes[at + 5]!;
  const content = (flags & FLAG.content) as Content;
  const revision = revisionAt(bytes, at);
  const expiresAt = (flags & FLAG.deadline) === 0 ? NaN : expiresAtAt(bytes, at)!;
  if ((flags & (FLAG.compressed | FLAG.once)) === 0) {
    const start = keyStartAt(bytes, at) + keyBytesAt(bytes, at);
    return read(bytes, start, start + readU32(bytes, at + 8), content, false, revision, expiresAt);
  }
  if ((flags & FLAG.once) !== 0) return read(EMPTY, 0, 0, content, true, revision, expiresAt);
  const value = valueAt(bytes, at);
  return read(value, 0, value.length, content, false, revision, expiresAt);
}

/** True when the record at `at` is of this key. */
export function isKeyAt(bytes: Uint8Array, at: number, bucket: number, key: Uint8Array): boolean {
  if (bucketAt(bytes, at) !== bucket || keyBytesAt(bytes, at) !== key.length) return false;
  const start = keyStartAt(bytes, at);
  for (let index = 0; index < key.length; index++) {
    if (bytes[start + index] !== key[index]) return false;
  }
  return true;
}

/** Sorts records by bucket, then key. */
export function compareKeyAt(bytes: Uint8Array, at: number, bucket: number, key: Uint8Array): number {
  return bucketAt(bytes, at) - bucket || compareBytes(keyAt(bytes, at), key);
}

/** True for a record that ends its key. */
export function isTombstone(kind: Kind): boolean {
  return kind >= KIND.delete && kind <= KIND.take;
}

// --- encode ---

/** Writes a record at `at` and returns its end. `bytes` must have room for it; `seed` is the segment's. */
export function encodeRecord(bytes: Uint8Array, at: number, seed: number, fields: RecordFields): number {
  const { key, value, expiresAt, rawBytes } = fields;
  bytes[at + 4] = fields.kind;
  bytes[at + 5] = fields.content | (fields.flags ?? 0) | (expiresAt === undefined ? 0 : FLAG.deadline) |
    (rawBytes === undefined ? 0 : FLAG.compressed);
  bytes[at + 6] = key.length;
  bytes[at + 7] = key.length >>> 8;
  writeU32(bytes, at + 8, value.length);
  writeU48(bytes, at + 12, fields.revision);
  writeU48(bytes, at + 18, fields.at);
  bytes[at + 24] = fields.bucket;
  bytes[at + 25] = fields.bucket >>> 8;
  let end = at + HEADER_BYTES;
  if (expiresAt !== undefined) end = writeU48(bytes, end, expiresAt);
  if (rawBytes !== undefined) end = writeU32(bytes, end, rawBytes);
  bytes.set(key, end);
  bytes.set(value, end + key.length);
  end += key.length + value.length;
  writeU32(bytes, at, checksum(bytes, at, end, seed, at));
  return end;
}

/** Copies a whole record to `at` and binds its checksum to the new place; returns its end. */
export function copyRecord(bytes: Uint8Array, at: number, seed: number, record: Uint8Array): number {
  bytes.set(record, at);
  const end = at + record.length;
  // A batch has been decided long before its members are moved: each is a plain record from here on.
  bytes[at + 5]! &= ~FLAG.more;
  writeU32(bytes, at, checksum(bytes, at, end, seed, at));
  return end;
}

/** The value of a mark: how many bytes of its segment were known to be on stable storage. */
export function encodeMark(durableBytes: number): Uint8Array {
  const value = new Uint8Array(6);
  writeU48(value, 0, durableBytes);
  return value;
}

/** What a mark states. */
export function markAt(bytes: Uint8Array, at: number): number {
  return readU48(bytes, keyStartAt(bytes, at));
}

// --- check ---

/**
 * The length of the record at `at`, or 0 when the bytes up to `end` are not a whole and sound record.
 * `offset` is the record's place in its segment, which its checksum is bound to.
 */
export function checkRecord(bytes: Uint8Array, at: number, end: number, seed: number, offset: number = at): number {
  if (at + HEADER_BYTES > end) return 0;
  const kind = bytes[at + 4]!;
  if (kind < KIND.set || kind > KIND.seal) return 0;
  const length = recordBytesAt(bytes, at);
  if (at + length > end) return 0;
  return checksum(bytes, at, at + length, seed, offset) === readU32(bytes, at) ? length : 0;
}

/** The checksum of what stands from behind its own four bytes at `at` to `end`, bound to `seed` and `offset`. */
export function checksum(bytes: Uint8Array, at: number, end: number, seed: number, offset: number): number {
  return crc32(bytes, placeSeed(seed, offset), at + 4, end);
}

/** What the checksum of the record at `offset` begins with; `seed` is the segment's. */
export function placeSeed(seed: number, offset: number): number {
  // The offset goes through a multiplication so that neighbouring offsets differ in many bits of the seed.
  return seed ^ Math.imul(offset, 0x9e3779b1) ^ Math.floor(offset / 0x100000000);
}

/** The checksum seed of a segment's records: its store and its id. */
export function segmentSeed(storeId: Uint8Array, segment: number): number {
  const place = new Uint8Array(4);
  writeU32(place, 0, segment);
  return crc32(place, crc32(storeId));
}

// --- numbers ---

/** A little-endian unsigned 16-bit number. */
export function readU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

/** Writes a little-endian unsigned 16-bit number. */
export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

/** A little-endian unsigned 32-bit number. */
export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Writes a little-endian unsigned 32-bit number and returns its end. */
export function writeU32(bytes: Uint8Array, at: number, value: number): number {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
  return at + 4;
}

/** A little-endian unsigned 48-bit number. */
export function readU48(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at) + (bytes[at + 4]! | (bytes[at + 5]! << 8)) * 0x100000000;
}

/** Writes a little-endian unsigned 48-bit number and returns its end. */
export function writeU48(bytes: Uint8Array, at: number, value: number): number {
  writeU32(bytes, at, value);
  const high = Math.floor(value / 0x100000000);
  bytes[at + 4] = high;
  bytes[at + 5] = high >>> 8;
  return at + 6;
}

/** No content: what records without a value carry. */
export const NO_CONTENT: Content = CONTENT.cbor;
