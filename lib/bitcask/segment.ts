/**
 * One append-only file of records.
 *
 * Layout: a header of 32 bytes, then records back to back. A sealed segment ends with a seal record and is never
 * written again; the last segment of the log is the active one.
 *
 *      0  6 bytes  "firkin"
 *      6  u16      format version
 *      8  16 bytes store id
 *     24  u32      segment id
 *     28  u32      CRC-32 of the 28 bytes before
 *
 * The active segment's bytes are all in memory (`#resident`): a record is encoded where it will stand, and one write
 * takes a whole group to the file. Of a sealed segment the frame cache holds what is read again and again, and the rest
 * is read record by record (`frames.ts`). Either way `seek` finds a record in `window`, without making an object; what
 * is there is used before the next `seek` of any segment, which may use the memory again.
 *
 * @module
 */
import { assert, FirkinError } from "../base/errors.ts";
import { crc32 } from "../base/checksum.ts";
import type { File } from "../fs/fs.ts";
import { FRAME_BYTES, FRAME_SHIFT, type FrameCache, type FrameTable, type ReadWindow } from "./frames.ts";
import type { Hint } from "./hint.ts";
import {
  checkRecord,
  copyRecord,
  EMPTY,
  encodeRecord,
  HEADER_BYTES,
  HEADER_BYTES_MAX,
  KIND,
  NO_CONTENT,
  readU32,
  recordBytes,
  recordBytesAt,
  type RecordFields,
  revisionAt,
  segmentSeed,
  writeU32,
} from "./record.ts";

/** Bytes before the first record. */
export const SEGMENT_HEADER_BYTES = 32;

/** The only format version so far. */
export const FORMAT_VERSION = 1;

/** Bytes of a seal and of a mark. */
export const SEAL_BYTES: number = HEADER_BYTES;
export const MARK_BYTES: number = HEADER_BYTES + 6;

/** Memory that a new segment starts with when it is first appended to. */
const FIRST_STEP_BYTES = 256 * 1024;

/** One record in each piece of 2 ** PLACE_SHIFT bytes, 256 KiB, is a place that reading can begin at. */
const PLACE_SHIFT = 18;

const NO_FRAMES = new Int32Array(0);

const MAGIC = Uint8Array.from("firkin", (letter) => letter.charCodeAt(0));

/** What every segment of a log shares. */
export interface SegmentHome {
  readonly storeId: Uint8Array;
  readonly frames: FrameCache;
  readonly aside: ReadWindow;
}

/** The file name of a segment. */
export function segmentName(id: number): string {
  return `${String(id).padStart(10, "0")}.segment`;
}

/** One segment of the log. */
export class Segment {
  readonly id: number;
  /** Checksum seed of its records. */
  readonly seed: number;
  /** Number in the log's table of segments, which addresses are made of; never given again while the store is open. */
  slot = -1;
  /** Undefined until the first group of a new segment is written, and after the close. */
  file: File | undefined;
  /** Where the next record goes. */
  tail: number = SEGMENT_HEADER_BYTES;
  /** End of what the file holds. */
  written = 0;
  /** End of the file, which holds zeros behind `written`. */
  fileEnd = 0;
  /** End of what is known to be on stable storage, and what the last mark says of it. */
  durable = 0;
  marked: number = SEGMENT_HEADER_BYTES;
  /** The manifest on disk names it. */
  listed = false;
  /** It left the log: compaction has put others in its place. It is read until the keydir points at no record of it. */
  replaced = false;
  /** It is closed, and its file removed or about to be. */
  gone = false;
  sealed = false;
  /** It is sealed, on stable storage and visible to its end: it never changes again. */
  settled = false;
  /** Bytes that nobody needs once the segment is sealed: records whose key has a newer one, and marks. */
  deadBytes = 0;
  /** The part of `deadBytes` that marks are. */
  markBytes = 0;
  /** No record that a change up to this revision ended was copied into it. */
  cleanRevision = 0;
  /** Bytes of its tombstones, and the time of the last of them. */
  tombstoneBytes = 0;
  tombstoneTime = 0;
  /** The revisions of its records; `first` is 0 while there is none. */
  firstRevision = 0;
  lastRevision = 0;
  /** Its index on disk; undefined while there is none. */
  hint: Hint | undefined;
  /** The bytes that `seek` found its record in, until the next one. */
  window: Uint8Array = MAGIC;

  readonly #home: SegmentHome;
  readonly #table: FrameTable = { frames: NO_FRAMES };
  readonly #bytesMax: number;
  #resident: Uint8Array | undefined;
  /** By piece, where a change begins and its revision; holes where nobody has written or read. */
  readonly #placeOffsets: number[] = [];
  readonly #placeRevisions: number[] = [];

  /** An empty segment in memory, which may grow to `bytesMax` bytes. */
  constructor(id: number, home: SegmentHome, bytesMax: number) {
    this.id = id;
    this.seed = segmentSeed(home.storeId, id);
    this.#home = home;
    this.#bytesMax = bytesMax;
    this.#resident = new Uint8Array(SEGMENT_HEADER_BYTES);
    this.#resident.set(MAGIC, 0);
    this.#resident[6] = FORMAT_VERSION;
    this.#resident.set(home.storeId, 8);
    writeU32(this.#resident, 24, id);
    writeU32(this.#resident, 28, crc32(this.#resident.subarray(0, 28)));
  }

  /**
   * Takes over a file that exists, of which `length` bytes are the segment's; with `bytes`, which become its memory, or
   * without them when it is sealed.
   */
  adopt(file: File, length: number, sealed: boolean, bytes?: Uint8Array): void {
    this.file = file;
    this.tail = length;
    this.written = length;
    this.fileEnd = length;
    this.durable = length;
    this.listed = true;
    this.sealed = sealed;
    this.#resident = bytes;
    if (bytes === undefined) this.#table.frames = new Int32Array(Math.ceil(length / FRAME_BYTES));
  }

  /** True when a record of `length` bytes fits, and a mark before and a seal behind it. */
  hasRoom(length: number): boolean {
    return !this.sealed && this.tail + MARK_BYTES + length + SEAL_BYTES <= this.#bytesMax;
  }

  /** Gets memory for so many bytes more: to append them then cannot fail. */
  makeRoom(length: number): void {
    this.#reserve(length);
  }

  /** Writes a record at the tail, in memory; returns its offset. */
  append(fields: RecordFields): number {
    const offset = this.tail;
    this.tail = encodeRecord(this.#reserve(recordBytes(fields)), offset, this.seed, fields);
    if (fields.kind < KIND.mark) this.#count(offset, fields.revision);
    if (fields.kind === KIND.mark) this.countMark(this.tail - offset);
    return offset;
  }

  /** Copies a whole record to the tail, in memory; returns its offset. */
  appendCopy(record: Uint8Array): number {
    const offset = this.tail;
    this.tail = copyRecord(this.#reserve(record.length), offset, this.seed, record);
    this.#count(offset, revisionAt(record, 0));
    return offset;
  }

  /** Ends the segment: nothing is appended any more. */
  seal(revision: number, at: number): void {
    this.append({ kind: KIND.seal, bucket: 0, revision, at, key: EMPTY, value: EMPTY, content: NO_CONTENT });
    this.sealed = true;
  }

  /** Lets go of a file that no manifest names; the segment is in memory alone again. */
  unmake(): void {
    this.file?.close();
    this.file = undefined;
    this.written = 0;
    this.fileEnd = 0;
  }

  /** Writes the bytes from `from` to `end` to the file. */
  write(from: number, end: number): void {
    this.#file().write(this.bytes(from, end), from);
    this.written = end;
    this.fileEnd = Math.max(this.fileEnd, end);
  }

  /** Writes zeros behind what is written, up to `end` at most: the segment may not grow further. */
  writeAhead(end: number): void {
    const zeros = Math.min(end, this.#bytesMax) - this.written;
    if (zeros <= 0) return;
    this.fileEnd = this.written + zeros;
    this.#file().write(new Uint8Array(zeros), this.written);
  }

  /** Cuts off the zeros behind what is written. */
  trim(): void {
    if (this.fileEnd > this.written) this.truncate(this.written);
  }

  /** Cuts the file off at `end`. */
  truncate(end: number): void {
    this.#file().truncate(end);
    this.written = Math.min(this.written, end);
    this.fileEnd = end;
  }

  /** Takes back everything from `tail` on, in memory. */
  cut(tail: number): void {
    this.tail = tail;
    this.sealed = false;
    this.marked = SEGMENT_HEADER_BYTES;
    const pieces = Math.min(this.#placeOffsets.length, tail >>> PLACE_SHIFT);
    this.#placeOffsets.length = pieces;
    this.#placeRevisions.length = pieces;
  }

  /** The memory, with room for `length` more bytes at the tail. */
  #reserve(length: number): Uint8Array {
    assert(this.#resident !== undefined && !this.sealed, "only an open segment is appended to");
    const end = this.tail + length;
    if (end > this.#resident.length) {
      // A small store stays small; a segment that outgrows the first step gets all its room at once, so that it is
      // copied once and early. The system backs untouched room with nothing.
      const step = end <= FIRST_STEP_BYTES ? Math.min(FIRST_STEP_BYTES, this.#bytesMax) : this.#bytesMax;
      const grown = new Uint8Array(Math.max(end, step));
      grown.set(this.#resident.subarray(0, this.tail));
      this.#resident = grown;
    }
    return this.#resident;
  }

  /** Counts a mark. */
  countMark(bytes: number): void {
    this.deadBytes += bytes;
    this.markBytes += bytes;
  }

  /** Counts a tombstone. */
  countTombstone(bytes: number, time: number): void {
    this.tombstoneBytes += bytes;
    this.tombstoneTime = Math.max(this.tombstoneTime, time);
  }

  /** Widens the span of revisions. */
  #count(offset: number, revision: number): void {
    assert(revision > this.lastRevision, "the revisions of a segment ascend");
    if (this.firstRevision === 0) this.firstRevision = revision;
    this.lastRevision = revision;
    this.notePlace(offset, revision);
  }

  /** Notes that a change begins at `offset`. Some are kept: what comes later is found without reading all before. */
  notePlace(offset: number, revision: number): void {
    const piece = offset >>> PLACE_SHIFT;
    if (this.#placeOffsets[piece] !== undefined) return;
    this.#placeOffsets[piece] = offset;
    this.#placeRevisions[piece] = revision;
  }

  /** Where to begin to read for what is later than `revision`: at a record, with none of that before it. */
  placeBefore(revision: number): number {
    for (let piece = this.#placeOffsets.length - 1; piece >= 0; piece--) {
      if (this.#placeRevisions[piece]! <= revision) return this.#placeOffsets[piece]!;
    }
    return SEGMENT_HEADER_BYTES;
  }

  /** The bytes in memory from `from` to `to`. */
  bytes(from: number, to: number = this.tail): Uint8Array {
    assert(this.#resident !== undefined, "the segment is in memory");
    return this.#resident.subarray(from, to);
  }

  /** Lets the memory go: the cache takes it over if it has room, and the segment is read through that. */
  release(): void {
    const memory = this.#resident;
    if (memory === undefined) return;
    this.#resident = undefined;
    // Else the memory stays with whom it was last read in.
    this.window = MAGIC;
    this.#table.frames = new Int32Array(Math.ceil(this.tail / FRAME_BYTES));
    this.#home.frames.adopt(this.#table, memory, this.tail);
  }

  /**
   * Finds the record at `offset` and returns its place in `window`. A record of a sealed segment is checked, unless
   * only its header matters (`unchecked`) or it has been checked since its bytes came into memory.
   * @throws {FirkinError} CORRUPT — the record fails its check
   */
  seek(offset: number, unchecked = false): number {
    if (this.#resident !== undefined) {
      this.window = this.#resident;
      return offset;
    }
    const { frames } = this.#home;
    const frame = this.#frameOf(offset >>> FRAME_SHIFT);
    const place = offset & (FRAME_BYTES - 1);
    if (frame === -1 || place + HEADER_BYTES_MAX > FRAME_BYTES) return this.#seekAcross(offset, unchecked);
    frames.visit(frame);
    const bytes = frames.slabOf(frame);
    const at = frames.startOf(frame) + place;
    const length = recordBytesAt(bytes, at);
    if (place + length > FRAME_BYTES) return this.#seekAcross(offset, unchecked);
    this.window = bytes;
    if (unchecked || frames.isChecked(frame, place)) return at;
    if (offset + length > this.tail || checkRecord(bytes, at, at + length, this.seed, offset) === 0) {
      frames.forget(frame);
      throw this.corrupt(offset);
    }
    frames.setChecked(frame, place);
    return at;
  }

  /** The error for a bad record. */
  corrupt(offset: number): FirkinError {
    return new FirkinError(
      "CORRUPT",
      `Cannot read segment ${this.id} at offset ${offset}: the record fails its check`,
      {
        detail: { segment: this.id, offset },
      },
    );
  }

  /** The frame that holds a block, -1 when none does. */
  #frameOf(block: number): number {
    return (this.#table.frames[block] ?? 0) - 1;
  }

  /** As `seek`, of a record that does not lie in one frame. */
  #seekAcross(offset: number, unchecked: boolean): number {
    const { frames, aside } = this.#home;
    const block = offset >>> FRAME_SHIFT;
    if (offset < this.tail && this.#admit(block)) return this.seek(offset, unchecked);
    const at = this.#atWritten(offset);
    if (at !== -1) return at;
    const room = this.tail - offset;
    if (room < HEADER_BYTES) throw this.corrupt(offset);
    const mark = offset & (FRAME_BYTES - 1);
    const length = this.#lengthOf(offset, mark, Math.min(HEADER_BYTES_MAX, room));
    if (length <= room) {
      const first = this.#pairOf(offset, length);
      const place = this.#bring(offset, length);
      aside.note(length);
      this.window = aside.bytes;
      if (unchecked || (first !== -1 && !frames.isWritten(first) && frames.isChecked(first, mark))) return place;
      if (checkRecord(this.window, place, place + length, this.seed, offset) !== 0) {
        if (first !== -1) frames.setChecked(first, mark);
        return place;
      }
    }
    aside.forget();
    for (const frame of [this.#frameOf(block), this.#frameOf(block + 1)]) if (frame !== -1) frames.forget(frame);
    throw this.corrupt(offset);
  }

  /** The length of the record at `offset`, whose header has so many bytes at most. */
  #lengthOf(offset: number, mark: number, headerBytes: number): number {
    const { frames, aside } = this.#home;
    const frame = this.#frameOf(offset >>> FRAME_SHIFT);
    if (frame !== -1 && mark + headerBytes <= FRAME_BYTES) {
      return recordBytesAt(frames.slabOf(frame), frames.startOf(frame) + mark);
    }
    const place = this.#bring(offset, headerBytes);
    return recordBytesAt(aside.bytes, place);
  }

  /** Takes a block into a frame if it is in none and worth it; true when that was done. */
  #admit(block: number): boolean {
    if (this.#frameOf(block) !== -1 || !this.#home.frames.admits(this.id, block)) return false;
    this.#takeIn(block);
    return this.#frameOf(block) !== -1;
  }

  /** The frame that a record begins in, when that and one more hold all of it; else -1. */
  #pairOf(offset: number, length: number): number {
    const block = offset >>> FRAME_SHIFT;
    if (this.#frameOf(block) === -1 || (offset + length - 1) >>> FRAME_SHIFT !== block + 1) return -1;
    this.#home.frames.visit(this.#frameOf(block));
    this.#admit(block + 1);
    return this.#frameOf(block + 1) === -1 ? -1 : this.#frameOf(block);
  }

  /** Brings bytes into the window beside the frames, from these or from the file; returns where they begin there. */
  #bring(offset: number, length: number): number {
    const { frames, aside } = this.#home;
    if (aside.gather(frames, this.#table, offset, length)) return 0;
    return aside.seek(this.#table, this.#file(), offset, length, this.tail);
  }

  /** Where the record at `offset` begins if it lies in frames that stand side by side as they were written, else -1. */
  #atWritten(offset: number): number {
    const { frames } = this.#home;
    const block = offset >>> FRAME_SHIFT;
    const first = this.#frameOf(block);
    if (first === -1 || !this.#isWritten(block, first) || !this.#isWritten(block + 1, first + 1)) return -1;
    const bytes = frames.slabOf(first);
    const at = frames.startOf(first) + (offset & (FRAME_BYTES - 1));
    const last = (offset + recordBytesAt(bytes, at) - 1) >>> FRAME_SHIFT;
    for (let next = block + 2; next <= last; next++) if (!this.#isWritten(next, first + next - block)) return -1;
    this.window = bytes;
    return at;
  }

  /** True when this frame holds this block as it was written; a visit. */
  #isWritten(block: number, frame: number): boolean {
    if (this.#frameOf(block) !== frame || !this.#home.frames.isWritten(frame)) return false;
    this.#home.frames.visit(frame);
    return true;
  }

  /** Reads a block into a frame. */
  #takeIn(block: number): void {
    const { frames } = this.#home;
    const frame = frames.take();
    const start = frames.startOf(frame);
    let filled = false;
    try {
      this.#file().read(frames.slabOf(frame), block * FRAME_BYTES, start, start + FRAME_BYTES);
      filled = true;
    } finally {
      if (filled) frames.put(frame, this.#table, block);
      else frames.giveBack(frame);
    }
  }

  #file(): File {
    if (this.file === undefined) throw new FirkinError("CLOSED", `Cannot read segment ${this.id}: it is closed`);
    return this.file;
  }

  /** All its bytes, from the file. */
  read(): Uint8Array {
    const bytes = new Uint8Array(this.tail);
    this.#file().read(bytes, 0);
    return bytes;
  }

  /** Lets go of the hint; its file stays. */
  dropHint(): void {
    this.hint?.close();
    this.hint = undefined;
  }

  /** Closes the file and the hint, and leaves the cache. */
  close(): void {
    this.#home.frames.drop(this.#table);
    this.dropHint();
    this.file?.close();
    this.file = undefined;
    this.#resident = undefined;
  }
}

/** The id in a segment's file name, undefined when the file is something else. */
export function segmentIdOf(name: string): number | undefined {
  return /^\d{10}\.segment$/.test(name) ? Number(name.slice(0, 10)) : undefined;
}

/** The store that a segment's header tells of, undefined when its checksum does not hold. */
export function storeIdOf(header: Uint8Array): Uint8Array | undefined {
  if (header.length < SEGMENT_HEADER_BYTES || crc32(header.subarray(0, 28)) !== readU32(header, 28)) return undefined;
  return header.slice(8, 24);
}

/** True when `bytes` begin with the header that `segment` has in memory: magic, version, store, id and checksum. */
export function hasHeader(bytes: Uint8Array, segment: Segment): boolean {
  const header = segment.bytes(0, SEGMENT_HEADER_BYTES);
  return bytes.length >= header.length && header.every((byte, index) => bytes[index] === byte);
}
