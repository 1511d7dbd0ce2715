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
 *     index   per block u32 where its item stands in the index; then the items:
 *             u32 where the block begins, u32 length, separator
 *
 * Entries are in `entry.ts`. A separator is the shortest beginning of the block's first sort key that sorts behind the
 * last one before the block, so that long keys do not make a long index: the index is what stays in memory.
 *
 * Nothing here is ever needed: a hint that is missing, torn, damaged or of other bytes than the segment's fails a check
 * and is made anew from the segment. So it is written without a sync. Header and index are checked when it is opened,
 * each block when it is read.
 *
 * @module
 */
import { compareBytes } from "../base/bytes.ts";
import { crc32 } from "../base/checksum.ts";
import { FirkinError } from "../base/errors.ts";
import type { File } from "../fs/fs.ts";
import type { Block, BlockCache } from "./cache.ts";
import {
  compareEntryWith,
  entryBucketAt,
  EntryBuffer,
  entryEndAt,
  entryHashAt,
  entryKeyAt,
  entryKindAt,
  entryOffsetAt,
  sortKeyEndAt,
  sortKeyOf,
  sortKeyStartAt,
} from "./entry.ts";
import { checksum, EMPTY, KIND, readU32, readU48, writeU16, writeU32, writeU48 } from "./record.ts";

/** On disk: never change. Bytes before the first block. */
export const HINT_HEADER_BYTES = 100;

/** The version in the header; a hint with another one is made anew. */
const HINT_VERSION = 2;

/** Magic, version and what the hint is bound to. */
const BINDING_BYTES = 38;

/** Bytes of the checksum that a block begins with. */
export const BLOCK_HEADER_BYTES = 4;

/** Bytes of an item of the index before its separator. */
const ITEM_BYTES = 8;

/** Room for a block's checksum and its item, as a rule. */
const BLOCK_ROOM_BYTES = 64;

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

/** Where the bytes of a hint are: a file, or memory when there is no room for a file. */
export type HintBytes = Pick<File, "read" | "size" | "close">;

/** The bytes of a hint that is in memory alone. */
function hintInMemory(bytes: Uint8Array): HintBytes {
  return {
    read(target, position) {
      const part = bytes.subarray(position, position + target.length);
      target.set(part);
      return part.length;
    },
    size: () => bytes.length,
    close: () => {},
  };
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

// --- the sparse index ---

/** A hint whose header and index hold, and whose blocks are read when somebody wants them. */
export class Hint {
  /** A block failed its check: the segment's order has to come from elsewhere. */
  damaged = false;
  readonly figures: HintFigures;
  /** Number of entries, and of blocks. */
  readonly entries: number;
  readonly blocks: number;
  readonly #bytes: HintBytes;
  readonly #cache: BlockCache;
  readonly #seed: number;
  readonly #index: Uint8Array;
  readonly #end: number;
  readonly #cached: (Block | undefined)[] = [];

  /** For {@link openHint}. */
  constructor(bytes: HintBytes, cache: BlockCache, header: Uint8Array, index: Uint8Array) {
    this.#bytes = bytes;
    this.#cache = cache;
    this.#seed = crc32(header.subarray(0, BINDING_BYTES));
    this.#index = index;
    this.#end = readU32(header, 88);
    this.entries = readU32(header, 80);
    this.blocks = readU32(header, 84);
    this.figures = {
      deadBytes: readU48(header, 38),
      markBytes: readU48(header, 44),
      tombstoneBytes: readU48(header, 50),
      tombstoneTime: readU48(header, 56),
      firstRevision: readU48(header, 62),
      lastRevision: readU48(header, 68),
      time: readU48(header, 74),
    };
  }

  /** Bytes of the index. */
  get orderBytes(): number {
    return this.#index.length;
  }

  /** Where a block begins, or the last one ends. */
  start(block: number): number {
    return block === this.blocks ? this.#end : readU32(this.#index, readU32(this.#index, 4 * block));
  }

  /** What the entries of a block do not sort before, and those before it do. */
  separator(block: number): Uint8Array {
    const item = readU32(this.#index, 4 * block);
    return this.#index.subarray(item + ITEM_BYTES, item + ITEM_BYTES + readU32(this.#index, item + 4));
  }

  /** How many blocks have a separator that sorts before `sortKey`, or with it. */
  blocksUpTo(sortKey: Uint8Array): number {
    let low = 0;
    let high = this.blocks;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareBytes(this.separator(middle), sortKey) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** A block: a checksum, then entries. @throws {FirkinError} CORRUPT — it cannot be read or fails its check */
  block(number: number): Uint8Array {
    const cached = this.#cached[number];
    if (cached !== undefined) {
      cached.visited = true;
      return cached.bytes;
    }
    const bytes = new Uint8Array(this.start(number + 1) - this.start(number));
    this.read(number, number + 1, bytes, 0);
    this.#cache.add(this.#cached, number, bytes);
    return bytes;
  }

  /**
   * Reads the blocks from number `first` to before `last` into `target` at `at`, past the cache.
   * @throws {FirkinError} CORRUPT — they cannot be read, or one fails its check
   */
  read(first: number, last: number, target: Uint8Array, at: number): void {
    const base = this.start(first);
    let cause: unknown;
    try {
      this.#bytes.read(target.subarray(at, at + this.start(last) - base), base);
    } catch (error) {
      cause = error;
    }
    for (let number = first, start = base; number < last; number++) {
      const end = this.start(number + 1);
      const place = at + start - base;
      if (
        cause !== undefined ||
        checksum(target, place, at + end - base, this.#seed, start) !== readU32(target, place)
      ) {
        this.damaged = true;
        throw new FirkinError("CORRUPT", `Cannot read a hint at offset ${start}: the block fails its check`, { cause });
      }
      start = end;
    }
  }

  /** True when every block holds. */
  isSound(): boolean {
    try {
      for (let number = 0; number < this.blocks; number++) {
        this.read(number, number + 1, new Uint8Array(this.start(number + 1) - this.start(number)), 0);
      }
      return true;
    } catch (error) {
      if (!(error instanceof FirkinError)) throw error;
      return false;
    }
  }

  /** Closes the file and leaves the cache. */
  close(): void {
    this.#cache.drop(this.#cached);
    this.#bytes.close();
  }
}

/**
 * The hint with this binding, undefined when header or index do not hold or are not of the one that is meant. It keeps
 * `bytes`, and closes them when it is closed.
 */
export function openHint(bytes: HintBytes, binding: Uint8Array, cache: BlockCache): Hint | undefined {
  const length = bytes.size();
  const header = new Uint8Array(HINT_HEADER_BYTES);
  bytes.read(header, 0);
  if (!binding.every((byte, index) => header[index] === byte)) return undefined;
  if (readU32(header, 96) !== crc32(header.subarray(0, 96))) return undefined;
  const end = readU32(header, 88);
  if (end > length) return undefined;
  const index = new Uint8Array(length - end);
  bytes.read(index, end);
  const seed = crc32(binding);
  return readU32(header, 92) === crc32(index, seed) ? new Hint(bytes, cache, header, index) : undefined;
}

/** A hint that has just been made of `bytes`, and is read from the file that it was written to, if it was. */
export function madeHint(bytes: Uint8Array, file: HintBytes | undefined, cache: BlockCache): Hint {
  const header = bytes.slice(0, HINT_HEADER_BYTES);
  return new Hint(file ?? hintInMemory(bytes), cache, header, bytes.slice(readU32(header, 88)));
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
    if (this.#hint.blocks === 0) return;
    const sortKey = sortKeyOf(bucket, key);
    this.#load(Math.max(this.#hint.blocksUpTo(sortKey) - 1, 0));
    let low = 0;
    let high = this.#places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareEntryWith(this.#bytes, this.#places[middle]!, sortKey) < 0) low = middle + 1;
      else high = middle;
    }
    this.#place = low;
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
    if (this.#number + 1 >= this.#hint.blocks) return;
    this.#load(this.#number + 1);
    this.#place = 0;
  }

  #load(number: number): void {
    this.#bytes = this.#hint.block(number);
    this.#number = number;
    this.#places = [];
    const { length } = this.#bytes;
    for (let at = BLOCK_HEADER_BYTES; at < length; at = entryEndAt(this.#bytes, at)) this.#places.push(at);
  }
}

/** Offsets of the set records, in order of their keys; yields after each block. @throws {FirkinError} CORRUPT */
export function* setsOf(hint: Hint): Generator<void, Uint32Array> {
  const offsets = new Uint32Array(hint.entries);
  let count = 0;
  for (let number = 0; number < hint.blocks; number++) {
    const bytes = new Uint8Array(hint.start(number + 1) - hint.start(number));
    hint.read(number, number + 1, bytes, 0);
    for (let at = BLOCK_HEADER_BYTES; at < bytes.length; at = entryEndAt(bytes, at)) {
      if (entryKindAt(bytes, at) === KIND.set) offsets[count++] = entryOffsetAt(bytes, at);
    }
    yield;
  }
  return count === offsets.length ? offsets : offsets.slice(0, count);
}

// --- encode ---

/** Makes the bytes of a hint from entries that come in order. */
export class HintWriter {
  readonly #binding: Uint8Array;
  readonly #seed: number;
  readonly #blocks: EntryBuffer;
  #blockStart = -1;
  /** Where the last entry stands. */
  #last = -1;
  #count = 0;
  /** Where each block begins, and its separator. */
  readonly #starts: number[] = [];
  readonly #separators: Uint8Array[] = [];

  /** A hint without entries, with room for so many bytes of them. */
  constructor(binding: Uint8Array, length: number) {
    this.#binding = binding;
    this.#seed = crc32(binding);
    // With room for the index too, as long as separators are short: a copy of it all would be a long turn.
    const blocks = Math.ceil(length / BLOCK_BYTES_MIN);
    this.#blocks = new EntryBuffer(HINT_HEADER_BYTES + length + blocks * BLOCK_ROOM_BYTES);
    this.#blocks.tail = HINT_HEADER_BYTES;
  }

  /** Adds the entry at `at`, which sorts behind all before it. */
  add(entries: EntryBuffer, at: number): void {
    const blocks = this.#blocks;
    const length = entryEndAt(entries.bytes, at) - at;
    if (this.#blockStart !== -1 && blocks.tail - this.#blockStart >= BLOCK_BYTES_MIN) this.#closeBlock();
    blocks.reserve(BLOCK_HEADER_BYTES + length);
    if (this.#blockStart === -1) this.#openBlock(entries.bytes, at);
    this.#last = blocks.tail;
    blocks.tail += blocks.copy(entries, at, blocks.tail);
    this.#count++;
  }

  /** The whole hint. */
  finish(figures: HintFigures): Uint8Array {
    if (this.#blockStart !== -1) this.#closeBlock();
    const blocks = this.#starts.length;
    const end = this.#blocks.tail;
    const items = this.#separators.reduce((length, separator) => length + ITEM_BYTES + separator.length, 0);
    this.#blocks.reserve(4 * blocks + items);
    const bytes = this.#blocks.bytes.subarray(0, end + 4 * blocks + items);
    for (let number = 0, item = end + 4 * blocks; number < blocks; number++) {
      const separator = this.#separators[number]!;
      writeU32(bytes, end + 4 * number, item - end);
      writeU32(bytes, item, this.#starts[number]!);
      writeU32(bytes, item + 4, separator.length);
      bytes.set(separator, item + ITEM_BYTES);
      item += ITEM_BYTES + separator.length;
    }
    bytes.set(this.#binding);
    const { deadBytes, markBytes, tombstoneBytes, tombstoneTime, firstRevision, lastRevision, time } = figures;
    let at = BINDING_BYTES;
    for (const figure of [deadBytes, markBytes, tombstoneBytes, tombstoneTime, firstRevision, lastRevision, time]) {
      at = writeU48(bytes, at, figure);
    }
    for (const figure of [this.#count, blocks, end, crc32(bytes.subarray(end), this.#seed)]) {
      at = writeU32(bytes, at, figure);
    }
    writeU32(bytes, at, crc32(bytes.subarray(0, at)));
    return bytes;
  }

  #openBlock(bytes: Uint8Array, at: number): void {
    this.#separators.push(this.#separator(bytes.subarray(sortKeyStartAt(bytes, at), sortKeyEndAt(bytes, at))));
    this.#blockStart = this.#blocks.tail;
    this.#starts.push(this.#blockStart);
    this.#blocks.tail += BLOCK_HEADER_BYTES;
  }

  /** As much of a sort key as tells it from the entry before. */
  #separator(sortKey: Uint8Array): Uint8Array {
    if (this.#last === -1) return EMPTY;
    const { bytes } = this.#blocks;
    const last = bytes.subarray(sortKeyStartAt(bytes, this.#last), sortKeyEndAt(bytes, this.#last));
    let same = 0;
    while (same < last.length && last[same] === sortKey[same]) same++;
    return sortKey.slice(0, same + 1);
  }

  #closeBlock(): void {
    const { bytes, tail } = this.#blocks;
    const start = this.#blockStart;
    writeU32(bytes, start, checksum(bytes, start, tail, this.#seed, start));
    this.#blockStart = -1;
  }
}
