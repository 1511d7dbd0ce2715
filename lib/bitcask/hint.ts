/**
 * A hint: the index of one sealed segment, in a file of its own.
 *
 * It holds the newest record of each key of the segment, sets and tombstones, sorted by bucket and key, in blocks of
 * about 4 KiB. An open reads it from end to end in place of the segment; a listing finds the block it needs by a sparse
 * index and reads that one through the cache. Layout, little endian (docs/FORMAT.md):
 *
 *      0  6 bytes  "fihint"
 *      6  u16      version
 *      8  16 bytes store id
 *     24  u32      segment id
 *     28  u48      the segment's length
 *     34  u32      the checksum of the segment's seal
 *     38  u48 x 7  dead bytes, mark bytes, tombstone bytes, last tombstone's time, first and last revision, highest
 *                  time
 *     80  u32      number of entries
 *     84  u32      number of blocks
 *     88  u32      where the index begins, which is where the blocks end
 *     92  u32      checksum of the index
 *     96  u32      CRC-32 of the 96 bytes before
 *
 *     block   u32 checksum, then entries
 *     entry   u32 hash, u32 offset, u8 kind, u8 flags, u16 bucket, u16 key length, [u48 deadline], key
 *     index   per block u32 where its item stands in the index; then the items:
 *             u32 where the block begins, u16 bucket, u16 length, separator
 *
 * A separator is the shortest beginning of the block's first key that sorts behind the last key before the block, so
 * that long keys do not make a long index: the index is what stays in memory.
 *
 * Nothing here is ever needed: a hint that is missing, torn, damaged or of other bytes than the segment's fails a check
 * and is made anew from the segment. So it is written without a sync.
 *
 * @module
 */
import { compareBytes } from "../base/bytes.ts";
import { crc32 } from "../base/checksum.ts";
import { FirkinError } from "../base/errors.ts";
import type { File } from "../fs/fs.ts";
import type { Block, BlockCache } from "./cache.ts";
import {
  bucketAt,
  checksum,
  EMPTY,
  expiresAtAt,
  FLAG,
  flagsAt,
  keyBytesAt,
  keyStartAt,
  type Kind,
  kindAt,
  readU16,
  readU32,
  readU48,
  writeU16,
  writeU32,
  writeU48,
} from "./record.ts";

/** On disk: never change. Bytes before the first block. */
export const HINT_HEADER_BYTES = 100;

/** The version in the header; a hint with another one is made anew. */
const HINT_VERSION = 1;

/** Magic, version and what the hint is bound to. */
const BINDING_BYTES = 38;

/** Bytes of an entry beside its deadline and key. */
const ENTRY_BYTES = 14;

/** A block is closed when it has this many bytes: enough entries for a page, and one read of the page cache. */
const BLOCK_BYTES_MIN = 4_000;

const MAGIC = Uint8Array.from("fihint", (letter) => letter.charCodeAt(0));

/** The file name of a segment's hint. */
export function hintName(segmentId: number): string {
  return `${String(segmentId).padStart(10, "0")}.hint`;
}

/** What a hint says of its segment as a whole. */
export interface HintFigures {
  /** Bytes of marks, and of set records whose key has a newer record in the same segment; and of the marks alone. */
  readonly deadBytes: number;
  readonly markBytes: number;
  /** Bytes of all its tombstones, and the time of the last of them. */
  readonly tombstoneBytes: number;
  readonly tombstoneTime: number;
  /** The revisions of its changes; `firstRevision` is 0 when there are none. */
  readonly firstRevision: number;
  readonly lastRevision: number;
  /** The highest time of any record. */
  readonly time: number;
}

/** A hint that holds. */
export interface HintContents {
  readonly bytes: Uint8Array;
  readonly figures: HintFigures;
  /** Number of entries. */
  readonly count: number;
  readonly blocks: number;
  /** Where the blocks end and the index begins. */
  readonly end: number;
}

/** The first bytes of the hint that fits a segment: its header, its length and the checksum of its seal. */
export function hintBinding(segmentHeader: Uint8Array, length: number, sealChecksum: number): Uint8Array {
  const binding = new Uint8Array(BINDING_BYTES);
  binding.set(MAGIC, 0);
  writeU16(binding, 6, HINT_VERSION);
  binding.set(segmentHeader.subarray(8, 28), 8);
  writeU48(binding, 28, length);
  writeU32(binding, 34, sealChecksum);
  return binding;
}

/** Checks every byte of a hint; undefined when it does not hold or is not the one that is meant. */
export function checkHint(bytes: Uint8Array, binding: Uint8Array): HintContents | undefined {
  if (bytes.length < HINT_HEADER_BYTES || !binding.every((byte, index) => bytes[index] === byte)) return undefined;
  if (readU32(bytes, 96) !== crc32(bytes.subarray(0, 96))) return undefined;
  const blocks = readU32(bytes, 84);
  const end = readU32(bytes, 88);
  const index = bytes.subarray(end);
  const seed = crc32(binding);
  if (end > bytes.length || readU32(bytes, 92) !== crc32(index, seed)) return undefined;
  for (let number = 0; number < blocks; number++) {
    const start = blockStart(index, number);
    const next = number + 1 < blocks ? blockStart(index, number + 1) : end;
    if (checksum(bytes, start, next, seed, start) !== readU32(bytes, start)) return undefined;
  }
  const figures: HintFigures = {
    deadBytes: readU48(bytes, 38),
    markBytes: readU48(bytes, 44),
    tombstoneBytes: readU48(bytes, 50),
    tombstoneTime: readU48(bytes, 56),
    firstRevision: readU48(bytes, 62),
    lastRevision: readU48(bytes, 68),
    time: readU48(bytes, 74),
  };
  return { bytes, figures, count: readU32(bytes, 80), blocks, end };
}

// --- entries ---

/** The hash of the key of the entry at `at`. */
export function entryHashAt(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at);
}

/** Where its record stands in the segment. */
export function entryOffsetAt(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + 4);
}

/** The kind of its record: a set or a tombstone. */
export function entryKindAt(bytes: Uint8Array, at: number): Kind {
  return bytes[at + 8] as Kind;
}

/** Its deadline, undefined when there is none. */
export function entryDeadlineAt(bytes: Uint8Array, at: number): number | undefined {
  return (bytes[at + 9]! & FLAG.deadline) === 0 ? undefined : readU48(bytes, at + ENTRY_BYTES);
}

/** Its bucket's number. */
export function entryBucketAt(bytes: Uint8Array, at: number): number {
  return readU16(bytes, at + 10);
}

/** Its key, as a view. */
export function entryKeyAt(bytes: Uint8Array, at: number): Uint8Array {
  const start = entryKeyStartAt(bytes, at);
  return bytes.subarray(start, start + readU16(bytes, at + 12));
}

/** Where its key begins. */
export function entryKeyStartAt(bytes: Uint8Array, at: number): number {
  return at + ENTRY_BYTES + ((bytes[at + 9]! & FLAG.deadline) === 0 ? 0 : 6);
}

/** Where it ends. */
export function entryEndAt(bytes: Uint8Array, at: number): number {
  return entryKeyStartAt(bytes, at) + readU16(bytes, at + 12);
}

/** Goes through all entries in order; an entry is a place in the bytes, not an object. */
export class HintReader {
  /** Where the entry stands. */
  at = 0;
  readonly #hint: HintContents;
  readonly #index: Uint8Array;
  #block = -1;
  #next = 0;
  #blockEnd = 0;

  /** Stands before the first entry. */
  constructor(hint: HintContents) {
    this.#hint = hint;
    this.#index = hint.bytes.subarray(hint.end);
  }

  /** Moves to the next entry; false when there is none. */
  next(): boolean {
    while (this.#next === this.#blockEnd) {
      const { blocks, end } = this.#hint;
      if (++this.#block >= blocks) return false;
      this.#next = blockStart(this.#index, this.#block) + 4;
      this.#blockEnd = this.#block + 1 < blocks ? blockStart(this.#index, this.#block + 1) : end;
    }
    this.at = this.#next;
    this.#next = entryEndAt(this.#hint.bytes, this.at);
    return true;
  }
}

// --- the sparse index ---

function blockStart(index: Uint8Array, number: number): number {
  return readU32(index, readU32(index, 4 * number));
}

/** A hint whose blocks are read when a listing wants them. */
export class Hint {
  /** A block failed its check: the segment's order has to come from elsewhere. */
  damaged = false;
  readonly #file: File;
  readonly #cache: BlockCache;
  readonly #seed: number;
  readonly #index: Uint8Array;
  readonly #count: number;
  readonly #end: number;
  readonly #blocks: (Block | undefined)[] = [];

  /** Keeps the index of what `file` holds, and the file. */
  constructor(file: File, cache: BlockCache, { bytes, blocks, end }: HintContents) {
    this.#file = file;
    this.#cache = cache;
    this.#seed = crc32(bytes.subarray(0, BINDING_BYTES));
    this.#index = bytes.slice(end);
    this.#count = blocks;
    this.#end = end;
  }

  /** Bytes of the index. */
  get bytes(): number {
    return this.#index.length;
  }

  /** Number of blocks. */
  get count(): number {
    return this.#count;
  }

  /** The block that holds the first entry not below this key, or the last entry below it. */
  blockOf(bucket: number, key: Uint8Array): number {
    const index = this.#index;
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const item = readU32(index, 4 * middle);
      const separator = index.subarray(item + 8, item + 8 + readU16(index, item + 6));
      if ((readU16(index, item + 4) - bucket || compareBytes(separator, key)) <= 0) low = middle + 1;
      else high = middle;
    }
    return Math.max(low - 1, 0);
  }

  /** A block: a checksum, then entries. @throws {FirkinError} CORRUPT — it cannot be read or fails its check */
  block(number: number): Uint8Array {
    const cached = this.#blocks[number];
    if (cached !== undefined) {
      cached.visited = true;
      return cached.bytes;
    }
    const start = blockStart(this.#index, number);
    const end = number + 1 < this.#count ? blockStart(this.#index, number + 1) : this.#end;
    const bytes = new Uint8Array(end - start);
    let cause: unknown;
    try {
      this.#file.read(bytes, start);
    } catch (error) {
      cause = error;
    }
    if (cause !== undefined || checksum(bytes, 0, bytes.length, this.#seed, start) !== readU32(bytes, 0)) {
      this.damaged = true;
      throw new FirkinError("CORRUPT", `Cannot read a hint at offset ${start}: the block fails its check`, { cause });
    }
    this.#cache.add(this.#blocks, number, bytes);
    return bytes;
  }

  /** Closes the file and leaves the cache. */
  close(): void {
    this.#cache.drop(this.#blocks);
    this.#file.close();
  }
}

/** True when the entry of this key leads to `offset`. @throws {FirkinError} CORRUPT */
export function hintHas(hint: Hint, bucket: number, key: Uint8Array, offset: number): boolean {
  const cursor = new HintCursor(hint);
  cursor.seek(bucket, key);
  return cursor.valid && cursor.offset === offset && cursor.bucket === bucket && compareBytes(cursor.key, key) === 0;
}

/** A place among the entries of a hint. */
export class HintCursor {
  readonly #hint: Hint;
  #number = 0;
  #bytes: Uint8Array = EMPTY;
  /** Where each entry of the block stands. */
  #places: number[] = [];
  #place = 0;

  /** Stands nowhere until `seek`. */
  constructor(hint: Hint) {
    this.#hint = hint;
  }

  /** False before the first entry and behind the last. */
  get valid(): boolean {
    return this.#place >= 0 && this.#place < this.#places.length;
  }

  /** The entry's bucket. */
  get bucket(): number {
    return entryBucketAt(this.#bytes, this.#places[this.#place]!);
  }

  /** The entry's key, as a view. */
  get key(): Uint8Array {
    return entryKeyAt(this.#bytes, this.#places[this.#place]!);
  }

  /** Where the entry's record stands in the segment. */
  get offset(): number {
    return entryOffsetAt(this.#bytes, this.#places[this.#place]!);
  }

  /** The hash of the entry's key. */
  get hash(): number {
    return entryHashAt(this.#bytes, this.#places[this.#place]!);
  }

  /** Moves to the first entry that is not below this key. @throws {FirkinError} CORRUPT */
  seek(bucket: number, key: Uint8Array): void {
    if (this.#hint.count === 0) return;
    this.#load(this.#hint.blockOf(bucket, key));
    this.#place = 0;
    while (this.valid && (this.bucket - bucket || compareBytes(this.key, key)) < 0) this.#place++;
    if (!this.valid) this.#forward();
  }

  /** Moves one entry on. @throws {FirkinError} CORRUPT */
  next(): void {
    this.#place++;
    if (!this.valid) this.#forward();
  }

  /** Moves one entry back, also from behind the last one. @throws {FirkinError} CORRUPT */
  previous(): void {
    this.#place--;
    if (this.#place >= 0 || this.#number === 0) return;
    this.#load(this.#number - 1);
    this.#place = this.#places.length - 1;
  }

  /** From behind the last entry of a block to the first of the next. */
  #forward(): void {
    if (this.#number + 1 >= this.#hint.count) return;
    this.#load(this.#number + 1);
    this.#place = 0;
  }

  #load(number: number): void {
    this.#bytes = this.#hint.block(number);
    this.#number = number;
    this.#places = [];
    for (let at = 4; at < this.#bytes.length; at = entryEndAt(this.#bytes, at)) this.#places.push(at);
  }
}

// --- encode ---

/** Bytes of the entry of the record at `offset`. */
export function entryBytesOf(bytes: Uint8Array, offset: number): number {
  return ENTRY_BYTES + ((flagsAt(bytes, offset) & FLAG.deadline) === 0 ? 0 : 6) + keyBytesAt(bytes, offset);
}

/** Writes the entry of the record at `offset` in a segment's `bytes`; returns its end. */
export function encodeEntry(target: Uint8Array, at: number, bytes: Uint8Array, offset: number, hash: number): number {
  const keyBytes = keyBytesAt(bytes, offset);
  const keyStart = keyStartAt(bytes, offset);
  const deadline = expiresAtAt(bytes, offset);
  writeU32(target, at, hash);
  writeU32(target, at + 4, offset);
  target[at + 8] = kindAt(bytes, offset);
  target[at + 9] = deadline === undefined ? 0 : FLAG.deadline;
  writeU16(target, at + 10, bucketAt(bytes, offset));
  writeU16(target, at + 12, keyBytes);
  const start = deadline === undefined ? at + ENTRY_BYTES : writeU48(target, at + ENTRY_BYTES, deadline);
  copy(bytes, keyStart, keyStart + keyBytes, target, start);
  return start + keyBytes;
}

/** Copies some tens of bytes: a loop beats `set` and the view that it needs. */
function copy(source: Uint8Array, start: number, end: number, target: Uint8Array, at: number): void {
  for (let from = start; from < end; from++) target[at++] = source[from]!;
}

/** Copies the entry at `at`; returns the end of the copy. */
export function copyEntry(target: Uint8Array, targetAt: number, bytes: Uint8Array, at: number): number {
  const end = entryEndAt(bytes, at);
  copy(bytes, at, end, target, targetAt);
  return targetAt + end - at;
}

/** Sorts entries by bucket, then key. */
export function compareEntries(bytes: Uint8Array, at: number, otherBytes: Uint8Array, otherAt: number): number {
  const buckets = entryBucketAt(bytes, at) - entryBucketAt(otherBytes, otherAt);
  if (buckets !== 0) return buckets;
  const length = readU16(bytes, at + 12);
  const otherLength = readU16(otherBytes, otherAt + 12);
  const start = entryKeyStartAt(bytes, at);
  const otherStart = entryKeyStartAt(otherBytes, otherAt);
  for (let index = 0; index < length && index < otherLength; index++) {
    const difference = bytes[start + index]! - otherBytes[otherStart + index]!;
    if (difference !== 0) return difference;
  }
  return length - otherLength;
}

/** Makes the bytes of a hint from entries that come in order. */
export class HintWriter {
  readonly #binding: Uint8Array;
  readonly #seed: number;
  #bytes = new Uint8Array(1_024);
  #tail = HINT_HEADER_BYTES;
  #blockStart = -1;
  /** Where the last entry stands. */
  #last = -1;
  #count = 0;
  /** The items of the index, and where each of them begins. */
  #index = new Uint8Array(64);
  #indexTail = 0;
  readonly #items: number[] = [];

  /** A hint without entries. */
  constructor(binding: Uint8Array) {
    this.#binding = binding;
    this.#seed = crc32(binding);
  }

  /** Adds the entry at `at`, which sorts behind all before it. */
  add(bytes: Uint8Array, at: number): void {
    if (this.#blockStart !== -1 && this.#tail - this.#blockStart >= BLOCK_BYTES_MIN) this.#closeBlock();
    this.#bytes = roomFor(this.#bytes, this.#tail, 4 + entryEndAt(bytes, at) - at);
    if (this.#blockStart === -1) this.#openBlock(bytes, at);
    this.#last = this.#tail;
    this.#tail = copyEntry(this.#bytes, this.#tail, bytes, at);
    this.#count++;
  }

  /** The whole hint. */
  finish(figures: HintFigures): HintContents {
    if (this.#blockStart !== -1) this.#closeBlock();
    const places = 4 * this.#items.length;
    const end = this.#tail;
    const bytes = new Uint8Array(end + places + this.#indexTail);
    bytes.set(this.#bytes.subarray(0, end));
    this.#items.forEach((item, number) => writeU32(bytes, end + 4 * number, places + item));
    bytes.set(this.#index.subarray(0, this.#indexTail), end + places);
    bytes.set(this.#binding);
    const { deadBytes, markBytes, tombstoneBytes, tombstoneTime, firstRevision, lastRevision, time } = figures;
    let at = BINDING_BYTES;
    for (const figure of [deadBytes, markBytes, tombstoneBytes, tombstoneTime, firstRevision, lastRevision, time]) {
      at = writeU48(bytes, at, figure);
    }
    for (const figure of [this.#count, this.#items.length, end, crc32(bytes.subarray(end), this.#seed)]) {
      at = writeU32(bytes, at, figure);
    }
    writeU32(bytes, at, crc32(bytes.subarray(0, at)));
    return { bytes, figures, count: this.#count, blocks: this.#items.length, end };
  }

  #openBlock(bytes: Uint8Array, at: number): void {
    const separator = this.#separator(entryBucketAt(bytes, at), entryKeyAt(bytes, at));
    this.#index = roomFor(this.#index, this.#indexTail, 8 + separator.length);
    this.#items.push(this.#indexTail);
    writeU32(this.#index, this.#indexTail, this.#tail);
    writeU16(this.#index, this.#indexTail + 4, entryBucketAt(bytes, at));
    writeU16(this.#index, this.#indexTail + 6, separator.length);
    this.#index.set(separator, this.#indexTail + 8);
    this.#indexTail += 8 + separator.length;
    this.#blockStart = this.#tail;
    this.#tail += 4;
  }

  /** As much of a key as tells it from the entry before. */
  #separator(bucket: number, key: Uint8Array): Uint8Array {
    if (this.#last === -1 || entryBucketAt(this.#bytes, this.#last) !== bucket) return EMPTY;
    const last = entryKeyAt(this.#bytes, this.#last);
    let same = 0;
    while (same < last.length && last[same] === key[same]) same++;
    return key.subarray(0, same + 1);
  }

  #closeBlock(): void {
    const start = this.#blockStart;
    writeU32(this.#bytes, start, checksum(this.#bytes, start, this.#tail, this.#seed, start));
    this.#blockStart = -1;
  }
}

/** `bytes`, or a copy of the first `tail` of them with room for `more`. */
export function roomFor(bytes: Uint8Array<ArrayBuffer>, tail: number, more: number): Uint8Array<ArrayBuffer> {
  if (tail + more <= bytes.length) return bytes;
  const grown = new Uint8Array(Math.max(bytes.length * 2, tail + more));
  grown.set(bytes.subarray(0, tail));
  return grown;
}
