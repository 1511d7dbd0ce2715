/**
 * Pieces of sealed segments in memory, under one budget: what a read of the log costs no system call for.
 *
 * Memory comes in slabs of 4 MiB, cut into frames of 4 KiB; a frame holds one block of one segment. What there is to
 * know of a frame stands in typed arrays, so a million of them is nothing to the garbage collector, and a lookup is
 * two array reads. A segment that is sealed while there is room hands over the memory it was written in: its frames lie
 * side by side and need neither be read nor checked again.
 *
 * Eviction is SIEVE (Zhang et al., NSDI 2024): blocks stand in a queue in the order they came; a hit only marks its
 * frame, and a hand that walks from the oldest towards the newest clears marks and evicts the first frame without one.
 * While there is room every block that is missed is taken in. After that only one that was missed a short while ago
 * too, as S3-FIFO's ghost queue has it (Yang et al., SOSP 2023): otherwise reads all over a log that is much larger
 * than the cache would each bring in 4 KiB for the sake of a hundred bytes. Such a read is one of the record alone.
 *
 * A frame is used again for other bytes: what is read of it is copied or decoded before anything else is read.
 *
 * @module
 */
import { assert } from "../base/errors.ts";
import type { File } from "../fs/fs.ts";

/** Bytes of a block, and of the frame it is kept in. */
export const FRAME_BYTES = 4_096;
export const FRAME_SHIFT = 12;

const SLAB_SHIFT = 10;
const FRAMES_PER_SLAB = 2 ** SLAB_SHIFT;

/** The first slab begins with so many frames and grows fourfold, so that a small store stays small. */
const FIRST_FRAMES = 16;

/** A record is 27 bytes at least, so no two begin in the same 16: a bit for each such place says "checked". */
const PLACE_SHIFT = 4;
const WORDS_PER_FRAME = FRAME_BYTES >>> (PLACE_SHIFT + 5);

/** Bits of a frame's state: read since the hand passed; filled by its writer, so that nothing in it needs a check. */
const VISITED = 1;
const WRITTEN = 2;

/** No frame. */
const NONE = -1;

/** Where the blocks of one segment are: by number of block the frame plus one, 0 for a block that is not here. */
export interface FrameTable {
  frames: Int32Array;
}

/** The frames of all sealed segments. */
export class FrameCache {
  /** Their memory, by the upper bits of a frame's number. */
  readonly slabs: Uint8Array[] = [];
  readonly #framesMax: number;
  /** Frames whose memory is there, and those of them that no block is in. */
  #made = 0;
  #free: number[] = [];
  /** Numbers given to frames, and to places behind a slab that did not become full. */
  #numbers = 0;
  #used = 0;
  #state: Uint8Array = new Uint8Array(0);
  #checked: Uint32Array = new Uint32Array(0);
  #tables: (FrameTable | undefined)[] = [];
  #blocks: Int32Array = new Int32Array(0);
  /** The queue, by frame. */
  #newer: Int32Array = new Int32Array(0);
  #older: Int32Array = new Int32Array(0);
  #newest = NONE;
  #oldest = NONE;
  #hand = NONE;
  /** Fingerprints of blocks that were missed lately. */
  readonly #ghosts: Int32Array;

  /** Holds at most `bytesMax` bytes; with less than a frame nothing is kept. */
  constructor(bytesMax: number) {
    this.#framesMax = Math.floor(bytesMax / FRAME_BYTES);
    this.#ghosts = new Int32Array(2 ** Math.min(Math.floor(Math.log2(Math.max(this.#framesMax, 1))), 20));
  }

  /** Bytes of the frames in use. */
  get bytes(): number {
    return this.#used * FRAME_BYTES;
  }

  /** Notes that a frame was read. */
  visit(frame: number): void {
    this.#state[frame]! |= VISITED;
  }

  /** Where a frame begins in its slab. */
  startOf(frame: number): number {
    return (frame & (FRAMES_PER_SLAB - 1)) << FRAME_SHIFT;
  }

  /** The slab that a frame lies in. */
  slabOf(frame: number): Uint8Array {
    return this.slabs[frame >>> SLAB_SHIFT]!;
  }

  /**
   * True when the record that begins at `at` of the frame has been checked since the frame was filled, and so was the
   * next one, if the record reaches into that.
   */
  isChecked(frame: number, at: number): boolean {
    if ((this.#state[frame]! & WRITTEN) !== 0) return true;
    return (this.#checked[frame * WORDS_PER_FRAME + (at >>> 9)]! & (1 << ((at >>> PLACE_SHIFT) & 31))) !== 0;
  }

  /** Notes that it has. */
  setChecked(frame: number, at: number): void {
    this.#checked[frame * WORDS_PER_FRAME + (at >>> 9)]! |= 1 << ((at >>> PLACE_SHIFT) & 31);
  }

  /** True when nothing in the frame needs a check: its writer has filled it. */
  isWritten(frame: number): boolean {
    return (this.#state[frame]! & WRITTEN) !== 0;
  }

  /** True when a block that was missed should be taken in: there is room, or it was missed a short while ago too. */
  admits(segment: number, block: number): boolean {
    if (this.#used < this.#framesMax) return true;
    if (this.#framesMax === 0) return false;
    const mixed = Math.imul(segment ^ Math.imul(block, 0x9e3779b1), 0x85ebca6b);
    const fingerprint = (mixed ^ (mixed >>> 15)) | 1;
    const place = fingerprint >>> 1 & (this.#ghosts.length - 1);
    if (this.#ghosts[place] === fingerprint) return true;
    this.#ghosts[place] = fingerprint;
    return false;
  }

  /** A frame for its caller to fill, and then to `put` or `giveBack`; another block may have to go. */
  take(): number {
    return this.#free.pop() ?? (this.#made < this.#framesMax ? this.#grow() : this.#evict());
  }

  /** The frame holds this block from here on. */
  put(frame: number, table: FrameTable, block: number): void {
    this.#checked.fill(0, frame * WORDS_PER_FRAME, (frame + 1) * WORDS_PER_FRAME);
    this.#put(frame, table, block, 0);
    const before = table.frames[block - 1] ?? 0;
    if (before !== 0) this.#forgetLastCheck(before - 1);
  }

  /** The last record that was checked in the frame may reach into one that was filled anew. */
  #forgetLastCheck(frame: number): void {
    for (let word = (frame + 1) * WORDS_PER_FRAME - 1; word >= frame * WORDS_PER_FRAME; word--) {
      const bits = this.#checked[word]!;
      if (bits === 0) continue;
      this.#checked[word] = bits & ~(1 << (31 - Math.clz32(bits)));
      return;
    }
  }

  /** True when every byte from `offset` to before `end` of a segment is in a frame. */
  holds({ frames }: FrameTable, offset: number, end: number): boolean {
    for (let block = offset >>> FRAME_SHIFT; block * FRAME_BYTES < end; block++) {
      if ((frames[block] ?? 0) === 0) return false;
    }
    return true;
  }

  /** Copies those bytes, which frames hold, to the beginning of `target`. */
  copy({ frames }: FrameTable, offset: number, end: number, target: Uint8Array): void {
    for (let at = offset; at < end;) {
      const block = at >>> FRAME_SHIFT;
      const frame = frames[block]! - 1;
      this.visit(frame);
      const start = this.startOf(frame) + (at & (FRAME_BYTES - 1));
      const length = Math.min(end, (block + 1) * FRAME_BYTES) - at;
      target.set(this.slabOf(frame).subarray(start, start + length), at - offset);
      at += length;
    }
  }

  /** The frame could not be filled. */
  giveBack(frame: number): void {
    this.#free.push(frame);
  }

  /** Takes over the memory of a segment that was written in it, `length` bytes; false when there is no room for it. */
  adopt(table: FrameTable, memory: Uint8Array, length: number): boolean {
    const frames = memory.length / FRAME_BYTES;
    // A little memory is not worth the numbers that are left out before it.
    if (frames < FRAMES_PER_SLAB || !Number.isInteger(frames) || frames > this.#framesMax - this.#made) return false;
    this.#numbers = this.slabs.length * FRAMES_PER_SLAB;
    const first = this.#numbers;
    // Each of its slabs reaches to the end: what lies side by side is read as one.
    for (let slab = 0; slab < frames; slab += FRAMES_PER_SLAB) this.slabs.push(memory.subarray(slab * FRAME_BYTES));
    this.#extend(frames);
    const blocks = Math.ceil(length / FRAME_BYTES);
    for (let block = 0; block < blocks; block++) this.#put(first + block, table, block, WRITTEN);
    for (let frame = this.#numbers - 1; frame >= first + blocks; frame--) this.#free.push(frame);
    return true;
  }

  /** What the frame holds is bad: it is read anew when it is wanted again. */
  forget(frame: number): void {
    this.#free.push(this.#remove(frame));
  }

  /** Lets go of every block of one segment. */
  drop(table: FrameTable): void {
    for (const held of table.frames) {
      if (held !== 0) this.#free.push(this.#remove(held - 1));
    }
  }

  #put(frame: number, table: FrameTable, block: number, state: number): void {
    this.#tables[frame] = table;
    this.#blocks[frame] = block;
    this.#state[frame] = state;
    this.#older[frame] = this.#newest;
    this.#newer[frame] = NONE;
    if (this.#newest !== NONE) this.#newer[this.#newest] = frame;
    this.#newest = frame;
    if (this.#oldest === NONE) this.#oldest = frame;
    this.#used++;
    table.frames[block] = frame + 1;
  }

  /** More frames, as far as the budget goes: one slab alone grows, others come whole. Returns one of the frames. */
  #grow(): number {
    const grows = this.slabs.length === 1 && this.#numbers < FRAMES_PER_SLAB;
    if (!grows) this.#numbers = this.slabs.length * FRAMES_PER_SLAB;
    const first = this.#numbers;
    const begun = grows ? first : 0;
    const wanted = this.slabs.length === 0 ? FIRST_FRAMES : grows ? begun * 3 : FRAMES_PER_SLAB;
    const frames = Math.min(wanted, FRAMES_PER_SLAB - begun, this.#framesMax - this.#made);
    const memory = new Uint8Array((begun + frames) * FRAME_BYTES);
    if (grows) memory.set(this.slabs.pop()!);
    this.slabs.push(memory);
    this.#extend(frames);
    for (let frame = this.#numbers - 1; frame > first; frame--) this.#free.push(frame);
    return first;
  }

  #extend(frames: number): void {
    this.#made += frames;
    this.#numbers += frames;
    this.#state = grown(this.#state, new Uint8Array(this.#numbers));
    this.#checked = grown(this.#checked, new Uint32Array(this.#numbers * WORDS_PER_FRAME));
    this.#blocks = grown(this.#blocks, new Int32Array(this.#numbers));
    this.#newer = grown(this.#newer, new Int32Array(this.#numbers));
    this.#older = grown(this.#older, new Int32Array(this.#numbers));
  }

  #evict(): number {
    let frame = this.#hand === NONE ? this.#oldest : this.#hand;
    while ((this.#state[frame]! & VISITED) !== 0) {
      this.#state[frame]! &= ~VISITED;
      frame = this.#newer[frame]!;
      if (frame === NONE) frame = this.#oldest;
    }
    assert(frame !== NONE, "a cache that is full has a frame to evict");
    this.#hand = this.#newer[frame]!;
    return this.#remove(frame);
  }

  #remove(frame: number): number {
    const newer = this.#newer[frame]!;
    const older = this.#older[frame]!;
    if (newer === NONE) this.#newest = older;
    else this.#older[newer] = older;
    if (older === NONE) this.#oldest = newer;
    else this.#newer[older] = newer;
    if (this.#hand === frame) this.#hand = newer;
    this.#tables[frame]!.frames[this.#blocks[frame]!] = 0;
    this.#tables[frame] = undefined;
    this.#used--;
    return frame;
  }
}

// --- beside the frames ---

/** Bytes read at once of a log that is read forward, and how many of a record are asked for when nothing is known. */
const AHEAD_BYTES_MAX = 64 * 1024;
const PROBE_BYTES_MIN = 512;
const PROBE_BYTES_MAX = 16 * 1024;

/**
 * What was read last of a segment beside its frames: one record, or, while a segment is read forward, more and more of
 * what follows. Of a record that lies in two frames it is put together here. One of these serves all segments.
 */
export class ReadWindow {
  /** The bytes; valid until the next `seek`. */
  bytes: Uint8Array = new Uint8Array(PROBE_BYTES_MIN);
  #table: FrameTable | undefined;
  /** What part of the segment they are. */
  #start = 0;
  #end = 0;
  /** Follows the lengths of records, so that most take one read. */
  #probe = PROBE_BYTES_MIN;
  #ahead = 0;

  /** Brings the `length` bytes from `offset` of a file that ends at `end` into `bytes`; returns where they begin. */
  seek(table: FrameTable, file: File, offset: number, length: number, end: number): number {
    const inside = table === this.#table && offset >= this.#start && offset <= this.#end;
    if (inside && offset + length <= this.#end) return offset - this.#start;
    this.#ahead = inside ? Math.min(Math.max(this.#ahead, this.#probe) * 2, AHEAD_BYTES_MAX) : 0;
    this.#read(table, file, offset, Math.min(Math.max(length, this.#ahead, this.#probe), end - offset));
    return 0;
  }

  /** Brings them to the beginning of `bytes` from frames; false when some are in none. */
  gather(frames: FrameCache, table: FrameTable, offset: number, length: number): boolean {
    if (!frames.holds(table, offset, offset + length)) return false;
    this.#table = undefined;
    this.#reserve(length);
    frames.copy(table, offset, offset + length, this.bytes);
    return true;
  }

  /** What was read is bad, and read anew when it is wanted again. */
  forget(): void {
    this.#table = undefined;
  }

  /** A record had this length. */
  note(length: number): void {
    const probe = this.#probe - (this.#probe >>> 5);
    this.#probe = Math.min(Math.max(length, probe, PROBE_BYTES_MIN), PROBE_BYTES_MAX);
  }

  #read(table: FrameTable, file: File, offset: number, length: number): void {
    this.#table = undefined;
    this.#reserve(length);
    const count = file.read(this.bytes, offset, 0, length);
    this.#table = table;
    this.#start = offset;
    this.#end = offset + count;
  }

  /** The memory of a long record is not kept for short ones. */
  #reserve(length: number): void {
    if (length <= this.bytes.length && this.bytes.length <= AHEAD_BYTES_MAX) return;
    this.bytes = new Uint8Array(length > PROBE_BYTES_MAX ? Math.max(length, AHEAD_BYTES_MAX) : PROBE_BYTES_MAX);
  }
}

function grown<Words extends Uint8Array | Uint32Array | Int32Array>(from: Words, to: Words): Words {
  to.set(from);
  return to;
}
