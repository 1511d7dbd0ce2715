/**
 * One segment's file, whatever has become of it: its sound records, and the ranges that hold none.
 *
 * Where a record fails its check, the next sound one is looked for at every byte behind it: first a cheap look whether
 * the fields of a header make sense there, then the checksum, which is bound to the offset, so that neither a value
 * that looks like a record nor a copy of one passes. A flipped length thereby hides nothing behind it.
 *
 * Memory is one window of the file, however long a record is. A part that the system cannot read counts as damaged.
 *
 * @module
 */
import { crc32 } from "../base/checksum.ts";
import type { File } from "../fs/fs.ts";
import {
  bucketAt,
  checkRecord,
  FLAG,
  flagsAt,
  HEADER_BYTES,
  HEADER_BYTES_MAX,
  keyAt,
  keyBytesAt,
  KIND,
  kindAt,
  placeSeed,
  readU32,
  recordBytesAt,
  revisionAt,
  segmentSeed,
} from "./record.ts";
import { MARK_BYTES, SEAL_BYTES, SEGMENT_HEADER_BYTES } from "./segment.ts";

/** What {@link SegmentScan.step} came across. `pause`: nothing yet, and others should have their turn. */
export type Piece = "record" | "damage" | "pause" | "end";

/** A key as a record names it. */
export interface KeyName {
  /** The bucket's number. */
  readonly bucket: number;
  readonly key: Uint8Array;
}

/** What a damaged range seems to have held. */
export interface Remains {
  /** Keys whose record can still be read, as far as damaged bytes can be believed. */
  readonly keys: readonly KeyName[];
  /** Whether a batch went on behind the range; undefined when that cannot be read. */
  readonly more: boolean | undefined;
}

/** What makes sense in a header, as far as the caller knows. */
export interface ScanBounds {
  /** The highest number of a bucket. */
  readonly bucketMax: number;
  /** Revisions are below this. */
  readonly revisionEnd: number;
}

/** More than a header and the longest key. */
const WINDOW_BYTES = 256 * 1024;

/** Places looked at in one step of the search for the next sound record. */
const PLACES_PER_STEP = 256 * 1024;

/**
 * What a part that cannot be read is taken for: it must fail the checks, so neither zeros nor an erased disk's ones.
 */
const UNREADABLE = 0xa5;

/** What a disk reads at once: where a read fails, the rest is read in such pieces. */
const SECTOR_BYTES = 4_096;

/** The pieces of a file, in order of offset. */
export class SegmentScan {
  /** Checksum seed of the segment's records. */
  readonly seed: number;
  /** Bytes of the file. */
  readonly size: number;
  /** Where the last piece is, and how long. */
  offset: number = SEGMENT_HEADER_BYTES;
  length = 0;
  /** A record's header and key stand in `window` at `at`, until the next step. */
  window: Uint8Array;
  at = 0;
  /** A seal was found: what follows is damage. */
  sealed = false;

  readonly #file: File;
  readonly #bounds: ScanBounds;
  readonly #memory: Uint8Array;
  #windowStart = 0;
  /** The highest revision of a sound record so far. */
  #revision = 0;
  /** Where the search for the next sound record goes on, -1 when there is none. */
  #search = -1;

  /** Reads `file` as the segment `id` of the store. The file stays the caller's. */
  constructor(file: File, storeId: Uint8Array, id: number, bounds: ScanBounds) {
    this.#file = file;
    this.#bounds = bounds;
    this.seed = segmentSeed(storeId, id);
    this.size = file.size();
    this.#memory = new Uint8Array(Math.min(WINDOW_BYTES, this.size));
    this.window = this.#memory.subarray(0, 0);
  }

  /** Goes on to the next piece. */
  step(): Piece {
    if (this.#search !== -1) return this.#resume();
    this.offset += this.length;
    this.length = 0;
    if (this.offset >= this.size) return "end";
    if (this.sealed) return this.#damage(this.size);
    this.length = this.#check(this.offset);
    if (this.length === 0) {
      this.#search = this.offset + 1;
      return this.#resume();
    }
    this.sealed = kindAt(this.window, this.at) === KIND.seal;
    this.#revision = Math.max(this.#revision, revisionAt(this.window, this.at));
    return "record";
  }

  /** The whole record of the last piece: a view until the next step, or memory of its own when it is long. */
  record(): Uint8Array {
    if (this.length <= this.#memory.length) {
      const at = this.#load(this.offset, this.length);
      return this.window.subarray(at, at + this.length);
    }
    const record = new Uint8Array(this.length);
    this.#read(record, this.offset);
    return record;
  }

  /** What the damaged range of the last piece seems to have held. The next step goes on behind it all the same. */
  remains(): Remains {
    const keys: KeyName[] = [];
    const end = this.offset + this.length;
    let more: boolean | undefined;
    for (let offset = this.offset; offset < end;) {
      const length = this.#plausible(offset);
      if (length === 0 || offset + length > end) return { keys, more: undefined };
      const at = this.#load(offset, Math.min(length, HEADER_BYTES_MAX + 0xffff));
      if (kindAt(this.window, at) < KIND.mark) {
        keys.push({ bucket: bucketAt(this.window, at), key: keyAt(this.window, at).slice() });
      }
      more = this.#goesOn(offset, length);
      offset += length;
    }
    return { keys, more };
  }

  /** True when nothing but zeros stands from `offset` to the end of the file. */
  isZeroFrom(offset: number): boolean {
    for (let from = offset; from < this.size;) {
      const at = this.#load(from, 1);
      const part = this.window.subarray(at);
      if (part.some((byte) => byte !== 0)) return false;
      from += part.length;
    }
    return true;
  }

  /** The bytes before the first record, as far as there are any. */
  header(): Uint8Array {
    const header = new Uint8Array(Math.min(SEGMENT_HEADER_BYTES, this.size));
    this.#read(header, 0);
    return header;
  }

  // --- the search for the next sound record ---

  #resume(): Piece {
    const stop = this.#search + PLACES_PER_STEP;
    for (; this.#search + HEADER_BYTES <= this.size; this.#search++) {
      if (this.#search === stop) return "pause";
      if (this.#plausible(this.#search) !== 0 && this.#check(this.#search) !== 0) return this.#damage(this.#search);
    }
    return this.#damage(this.size);
  }

  #damage(end: number): Piece {
    this.#search = -1;
    this.length = end - this.offset;
    return "damage";
  }

  /** The length of the record that the header at `offset` tells of, 0 when its fields make no sense there. */
  #plausible(offset: number): number {
    if (offset + HEADER_BYTES > this.size) return 0;
    const at = this.#load(offset, HEADER_BYTES);
    const bytes = this.window;
    const kind = kindAt(bytes, at);
    if (kind < KIND.set || kind > KIND.seal || flagsAt(bytes, at) > 0x7f) return 0;
    const length = recordBytesAt(bytes, at);
    if (offset + length > this.size) return 0;
    const revision = revisionAt(bytes, at);
    if (kind >= KIND.mark) {
      const bare = length === (kind === KIND.mark ? MARK_BYTES : SEAL_BYTES) && bucketAt(bytes, at) === 0;
      return bare && keyBytesAt(bytes, at) === 0 && revision >= this.#revision ? length : 0;
    }
    const bucket = bucketAt(bytes, at);
    if (keyBytesAt(bytes, at) === 0 || bucket === 0 || bucket > this.#bounds.bucketMax) return 0;
    if (kind !== KIND.set && readU32(bytes, at + 8) !== 0) return 0;
    return revision > this.#revision && revision < this.#bounds.revisionEnd ? length : 0;
  }

  /** Whether the damaged record says that its batch goes on; the flag itself may be what is damaged. */
  #goesOn(offset: number, length: number): boolean {
    const at = this.#load(offset, Math.min(length, this.#memory.length));
    const more = (flagsAt(this.window, at) & FLAG.more) !== 0;
    if (at + length > this.window.length) return more;
    const other = this.window.slice(at, at + length);
    other[5]! ^= FLAG.more;
    return checkRecord(other, 0, length, this.seed, offset) === 0 ? more : !more;
  }

  // --- bytes ---

  /** The length of the sound record at `offset`, which then stands in the window; 0 when there is none. */
  #check(offset: number): number {
    if (offset + HEADER_BYTES > this.size) return 0;
    const start = this.#load(offset, HEADER_BYTES);
    const kind = kindAt(this.window, start);
    if (kind < KIND.set || kind > KIND.seal) return 0;
    const length = recordBytesAt(this.window, start);
    const end = offset + length;
    if (end > this.size) return 0;
    const expected = readU32(this.window, start);
    let crc = placeSeed(this.seed, offset);
    for (let from = offset + 4; from < end;) {
      const at = this.#load(from, 1);
      const part = this.window.subarray(at, at + end - from);
      crc = crc32(part, crc);
      from += part.length;
    }
    if (crc !== expected) return 0;
    this.at = this.#load(offset, Math.min(length, HEADER_BYTES_MAX + 0xffff));
    return length;
  }

  /** Brings `length` bytes at `offset`, or what there is of them, into the window; returns their place there. */
  #load(offset: number, length: number): number {
    const end = Math.min(offset + length, this.size);
    if (offset < this.#windowStart || end > this.#windowStart + this.window.length) {
      this.window = this.#memory.subarray(0, Math.min(this.#memory.length, this.size - offset));
      this.#windowStart = offset;
      this.#read(this.window, offset);
    }
    return offset - this.#windowStart;
  }

  #read(target: Uint8Array, position: number): void {
    try {
      this.#file.read(target, position);
    } catch {
      for (let from = 0; from < target.length;) {
        const part = target.subarray(from, from + SECTOR_BYTES - (position + from) % SECTOR_BYTES);
        try {
          this.#file.read(part, position + from);
        } catch {
          part.fill(UNREADABLE);
        }
        from += part.length;
      }
    }
  }
}
