/**
 * An entry of a hint: where the newest record of one key stands in its segment.
 *
 * Layout, little endian (docs/FORMAT.md):
 *
 *      0  u32  hash of the key
 *      4  u32  the record's offset in the segment
 *      8  u32  the record's length
 *     12  u8   kind
 *     13  u8   flags: bit 2 has a deadline
 *     14  u16  key length
 *     16 [u48  deadline]
 *         u16  bucket, high byte first
 *         ...  key, then zeros to the next multiple of four bytes
 *
 * Bucket and key stand together, so that they sort as one string of bytes: the *sort key*. Entries begin at multiples
 * of four bytes, so that they are copied word by word, in less than half of what a loop over bytes takes.
 *
 * @module
 */
import {
  bucketAt,
  expiresAtAt,
  FLAG,
  keyBytesAt,
  keyStartAt,
  KIND,
  type Kind,
  kindAt,
  readU16,
  readU32,
  readU48,
  writeU48,
} from "./record.ts";

/** Bytes before the deadline and the sort key. */
const ENTRY_BYTES = 16;

/** Bytes of the bucket's number, which a sort key begins with. */
export const BUCKET_BYTES = 2;

/** The hash of the key of the entry at `at`. */
export function entryHashAt(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at);
}

/** Where its record stands in the segment. */
export function entryOffsetAt(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + 4);
}

/** Its record's length. */
export function entryRecordBytesAt(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + 8);
}

/** The kind of its record: a set or a tombstone. */
export function entryKindAt(bytes: Uint8Array, at: number): Kind {
  return bytes[at + 12] as Kind;
}

/** Its deadline, undefined when there is none. */
export function entryDeadlineAt(bytes: Uint8Array, at: number): number | undefined {
  return hasDeadline(bytes, at) ? readU48(bytes, at + ENTRY_BYTES) : undefined;
}

function hasDeadline(bytes: Uint8Array, at: number): boolean {
  return (bytes[at + 13]! & FLAG.deadline) !== 0;
}

/** Where its sort key begins: the bucket, high byte first, then the key. */
export function sortKeyStartAt(bytes: Uint8Array, at: number): number {
  return at + ENTRY_BYTES + (hasDeadline(bytes, at) ? 6 : 0);
}

/** Where its sort key ends. */
export function sortKeyEndAt(bytes: Uint8Array, at: number): number {
  return sortKeyStartAt(bytes, at) + BUCKET_BYTES + readU16(bytes, at + 14);
}

/** Its bucket's number. */
export function entryBucketAt(bytes: Uint8Array, at: number): number {
  const start = sortKeyStartAt(bytes, at);
  return (bytes[start]! << 8) | bytes[start + 1]!;
}

/** Its key, as a view. */
export function entryKeyAt(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.subarray(sortKeyStartAt(bytes, at) + BUCKET_BYTES, sortKeyEndAt(bytes, at));
}

/** Where the next entry begins. */
export function entryEndAt(bytes: Uint8Array, at: number): number {
  return (sortKeyEndAt(bytes, at) + 3) & ~3;
}

// --- by words ---

const IS_LITTLE = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** The u32 whose bytes in memory are those of `value` in little-endian order. */
function little(value: number): number {
  if (IS_LITTLE) return value;
  return ((value >>> 24) | ((value >>> 8) & 0xff00) | ((value & 0xff00) << 8) | (value << 24)) >>> 0;
}

/*
 * The same for who reads many: entries begin at multiples of four bytes, so a number takes one load in the place of
 * four. `words` are those of the bytes.
 */

/** As {@link entryHashAt}. */
export function entryHashIn(words: Uint32Array, at: number): number {
  return little(words[at >>> 2]!);
}

/** As {@link entryOffsetAt}. */
export function entryOffsetIn(words: Uint32Array, at: number): number {
  return little(words[(at >>> 2) + 1]!);
}

/** As {@link entryRecordBytesAt}. */
export function entryRecordBytesIn(words: Uint32Array, at: number): number {
  return little(words[(at >>> 2) + 2]!);
}

/** Kind, flags and key length of an entry, for the three below. */
export function entryHeadIn(words: Uint32Array, at: number): number {
  return little(words[(at >>> 2) + 3]!);
}

/** True when that is of a set record. */
export function isSetHead(head: number): boolean {
  return (head & 0xff) === KIND.set;
}

/** True when that is of an entry with a deadline. */
export function hasDeadlineHead(head: number): boolean {
  return (head & (FLAG.deadline << 8)) !== 0;
}

/** Where the next entry begins. */
export function entryEndOf(head: number, at: number): number {
  return (at + ENTRY_BYTES + (hasDeadlineHead(head) ? 6 : 0) + BUCKET_BYTES + (head >>> 16) + 3) & ~3;
}

// --- compare ---

/** Sorts the entry at `at` before, with or after a sort key. */
export function compareEntryWith(bytes: Uint8Array, at: number, sortKey: Uint8Array): number {
  const start = sortKeyStartAt(bytes, at);
  const length = sortKeyEndAt(bytes, at) - start;
  for (let index = 0; index < length && index < sortKey.length; index++) {
    const difference = bytes[start + index]! - sortKey[index]!;
    if (difference !== 0) return difference;
  }
  return length - sortKey.length;
}

/** True when two entries are of the same key. */
export function isSameKey(bytes: Uint8Array, at: number, otherBytes: Uint8Array, otherAt: number): boolean {
  let end = sortKeyEndAt(bytes, at);
  let otherEnd = sortKeyEndAt(otherBytes, otherAt);
  const start = sortKeyStartAt(bytes, at);
  if (end - start !== otherEnd - sortKeyStartAt(otherBytes, otherAt)) return false;
  // Keys that stand next to one another differ in their last bytes.
  while (end > start) if (bytes[--end] !== otherBytes[--otherEnd]) return false;
  return true;
}

/** What entries of this key sort by. */
export function sortKeyOf(bucket: number, key: Uint8Array): Uint8Array {
  const sortKey = new Uint8Array(BUCKET_BYTES + key.length);
  sortKey[0] = bucket >>> 8;
  sortKey[1] = bucket;
  sortKey.set(key, BUCKET_BYTES);
  return sortKey;
}

// --- encode ---

/** Entries one behind the other, in memory that grows. */
export class EntryBuffer {
  /** Where the next one goes. */
  tail = 0;
  #bytes: Uint8Array<ArrayBuffer>;
  #words: Uint32Array;

  /** Room for `length` bytes, a multiple of four; more is made when it is needed. */
  constructor(length: number) {
    this.#bytes = new Uint8Array(length);
    this.#words = new Uint32Array(this.#bytes.buffer);
  }

  /** The memory. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** Makes room for `more` bytes at the tail. */
  reserve(more: number): void {
    if (this.tail + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, (this.tail + more + 3) & ~3));
    grown.set(this.#bytes.subarray(0, this.tail));
    this.#bytes = grown;
    this.#words = new Uint32Array(grown.buffer);
  }

  /**
   * Adds an entry of the record of `length` bytes at `from` in `bytes`, whose place in its segment is `offset`; returns
   * where the sort key begins.
   */
  add(bytes: Uint8Array, from: number, length: number, offset: number, hash: number): number {
    const keyBytes = keyBytesAt(bytes, from);
    this.reserve(ENTRY_BYTES + 6 + BUCKET_BYTES + keyBytes + 3);
    const target = this.#bytes;
    const words = this.#words;
    const at = this.tail;
    const word = at >>> 2;
    const deadline = expiresAtAt(bytes, from);
    const flags = deadline === undefined ? 0 : FLAG.deadline;
    words[word] = little(hash);
    words[word + 1] = little(offset);
    words[word + 2] = little(length);
    words[word + 3] = little(kindAt(bytes, from) | (flags << 8) | (keyBytes << 16));
    const start = deadline === undefined ? at + ENTRY_BYTES : writeU48(target, at + ENTRY_BYTES, deadline);
    const bucket = bucketAt(bytes, from);
    let end = start;
    target[end++] = bucket >>> 8;
    target[end++] = bucket;
    // A loop beats `set` and the view that it needs for some tens of bytes.
    const keyStart = keyStartAt(bytes, from);
    for (let byte = keyStart; byte < keyStart + keyBytes; byte++) target[end++] = bytes[byte]!;
    while ((end & 3) !== 0) target[end++] = 0;
    this.tail = end;
    return start;
  }

  /** Copies the entry at `at` of `from` to place `to`, where there is room; returns its length. */
  copy(from: EntryBuffer, at: number, to: number): number {
    const length = entryEndAt(from.#bytes, at) - at;
    const source = from.#words;
    const target = this.#words;
    for (let word = at >>> 2, end = (at + length) >>> 2, place = to >>> 2; word < end; word++, place++) {
      target[place] = source[word]!;
    }
    return length;
  }
}
