/**
 * What all hints together say, at an open: which record is each key's newest. It goes into the keydir.
 *
 * Hints are sorted by key, so they are read side by side, a range of keys at a time. All that any segment has of a key
 * then is in memory, and compared there: the newest is found without a look at a record, whatever hashes are equal, and
 * the others count as dead. A range is some blocks of each hint: two megabytes in all, and more only when there are
 * hundreds of hints.
 *
 * What is left are keys that are all different. They are collected by the upper bits of their hashes, one behind the
 * other, and at the end go into the keydir table by table: a table at a time fits into a processor's cache, which
 * takes a third of the time that random writes to all of it take.
 *
 * Nothing outside of this file changes before the end, but for what segments count as dead. When a block fails its
 * check, the hint is made anew from its segment, and the replay begins again.
 *
 * @module
 */
import { compareBytes } from "../base/bytes.ts";
import {
  BUCKET_BYTES,
  compareEntryWith,
  entryBucketAt,
  entryDeadlineAt,
  entryEndAt,
  entryEndOf,
  entryHashIn,
  entryHeadIn,
  entryOffsetIn,
  entryRecordBytesIn,
  hasDeadlineHead,
  isSameKey,
  isSetHead,
} from "./entry.ts";
import { BLOCK_HEADER_BYTES, type Hint } from "./hint.ts";
import { ADDRESS_UNIT, type Keydir } from "./keydir.ts";
import type { Hinted } from "./log.ts";
import { EMPTY } from "./record.ts";
import type { Segment } from "./segment.ts";
import { BucketSizes } from "./sizes.ts";
import type { Turns } from "./turns.ts";

/**
 * Blocks that are read in one range, with 40 hints a dozen of each. Of fewer too many are read in part, and are looked
 * into for where the range ends: 128 took a third longer; more have no room in a processor's cache.
 */
const BLOCKS_PER_RANGE = 512;

/**
 * But of each hint at least so many: a range ends where the first hint's blocks do, so that of one block each of a
 * thousand hints a thousandth would be used. And a hint is opened for each range when there are more than `filesMax`.
 */
const BLOCKS_OF_HINT_MIN = 4;

/** To read and check so many bytes takes as long as other work with one entry. */
const BYTES_PER_WORK = 100;

/** Slots of the table of keys for each entry that is expected, and how full they may be before there are more. */
const SLOTS_PER_ENTRY = 1.5;
const SLOTS_FULL = 0.8;

/** Tables of the keydir are told apart by the upper 8 bits of a hash; an entry of it has three words. */
const TABLES = 256;
const TABLE_SHIFT = 24;
const WORDS = 3;

/** What a replay tells its owner. */
export interface ReplayOwner {
  /** A set record is not its key's newest. */
  noteDead(segment: Segment, bytes: number): void;
  /** The live record at `address` has a deadline. */
  schedule(deadline: number, address: number): void;
  /** So many entries have been read. */
  read(entries: number): void;
}

/** One reading of all hints. */
export class Replay {
  /** Of what has been read. */
  readonly sizes: BucketSizes = new BucketSizes();
  readonly #sources: readonly Source[];
  readonly #owner: ReplayOwner;
  readonly #turns: Turns;
  readonly #seen = new Seen();
  readonly #live: LiveKeys;
  /** Of the keys in `live`: deadline, address. */
  readonly #deadlines: number[] = [];
  /** The blocks of this range, and memory for those of the next one. */
  #bytes: Uint8Array = EMPTY;
  #words: Uint32Array = new Uint32Array(0);
  #spare: Uint8Array = EMPTY;

  /** Of hints in order of revision. `step`, how many blocks of each are read at a time, is for tests. */
  constructor(
    hinted: readonly Hinted[],
    owner: ReplayOwner,
    turns: Turns,
    step: number = Math.max(BLOCKS_OF_HINT_MIN, Math.floor(BLOCKS_PER_RANGE / hinted.length)),
  ) {
    // Newest first: what is seen first of a key counts.
    this.#sources = hinted.map(({ segment, hint }) => new Source(segment, hint, step)).reverse();
    this.#owner = owner;
    this.#turns = turns;
    this.#live = new LiveKeys(hinted.reduce((entries, { hint }) => entries + hint.entries, 0));
  }

  /** Reads all hints. @throws {FirkinError} CORRUPT — a block of a hint, which is `damaged` then, fails its check */
  async read(): Promise<void> {
    const left = (sources: readonly Source[]): readonly Source[] => sources.filter(({ ended }) => !ended);
    for (let sources = left(this.#sources); sources.length > 0; sources = left(sources)) {
      const end = endOfRange(sources);
      await this.#load(sources, end);
      const isAlone = sources.length === 1;
      if (!isAlone) {
        const expected = sources.reduce((entries, source) => entries + source.expected, 0);
        this.#seen.clear(this.#bytes, this.#words, expected);
      }
      for (const source of sources) {
        while (source.begin(end)) {
          const count = this.#take(source, isAlone);
          this.#owner.read(count);
          if (this.#turns.isOver(count)) await this.#turns.pause();
        }
      }
    }
  }

  /** Brings the blocks of a range into memory. */
  async #load(sources: readonly Source[], end: Uint8Array | undefined): Promise<void> {
    const length = sources.reduce((bytes, source) => bytes + source.plan(end), 0);
    const before = this.#bytes;
    this.#bytes = length <= this.#spare.length ? this.#spare : new Uint8Array(length);
    this.#words = new Uint32Array(this.#bytes.buffer);
    this.#spare = before;
    let tail = 0;
    for (const source of sources) {
      const loaded = source.load(before, this.#bytes, tail);
      tail += loaded;
      if (this.#turns.isOver(loaded / BYTES_PER_WORK)) await this.#turns.pause();
    }
  }

  /** Puts what was read into the keydir, which is empty, and the schedule. */
  async finish(keydir: Keydir): Promise<void> {
    for (let table = 0; table < TABLES; table++) {
      const words = this.#live.take(table);
      if (words === undefined) continue;
      keydir.addDistinct(words);
      if (this.#turns.isOver(words.length / WORDS)) await this.#turns.pause();
    }
    const deadlines = this.#deadlines;
    for (let index = 0; index < deadlines.length; index += 2) {
      this.#owner.schedule(deadlines[index]!, deadlines[index + 1]!);
      if (this.#turns.isOver(1)) await this.#turns.pause();
    }
  }

  /** Takes the entries of one bucket in one block that are in the range; returns how many. */
  #take(source: Source, isAlone: boolean): number {
    const bytes = this.#bytes;
    const words = this.#words;
    const { segment, limit } = source;
    const { slot } = segment;
    const bucket = entryBucketAt(bytes, source.at);
    const end = source.isOfOneBucket(bucket) ? source.end : endOfBucket(bytes, source.at, source.end);
    let count = 0;
    let keys = 0;
    let keysBytes = 0;
    let { at } = source;
    while (at < end && (limit === undefined || compareEntryWith(bytes, at, limit) < 0)) {
      const hash = entryHashIn(words, at);
      const recordBytes = entryRecordBytesIn(words, at);
      const head = entryHeadIn(words, at);
      const isSet = isSetHead(head);
      if (!isAlone && !this.#seen.add(hash, at)) {
        if (isSet) this.#owner.noteDead(segment, recordBytes);
      } else if (isSet) {
        const offset = entryOffsetIn(words, at);
        this.#live.add(hash, slot, offset);
        keys++;
        keysBytes += recordBytes;
        if (hasDeadlineHead(head)) this.#deadlines.push(entryDeadlineAt(bytes, at)!, slot * ADDRESS_UNIT + offset);
      }
      at = entryEndOf(head, at);
      count++;
    }
    this.sizes.add(bucket, keys, keysBytes);
    source.leave(at, at < end);
    return count;
  }
}

/** The sort key before which every source is read next, undefined for the rest of all. */
function endOfRange(sources: readonly Source[]): Uint8Array | undefined {
  let end: Uint8Array | undefined;
  for (const { reach } of sources) {
    if (reach !== undefined && (end === undefined || compareBytes(reach, end) < 0)) end = reach;
  }
  return end;
}

/** Where the first entry of another bucket than that of the entry at `at` stands, or `end`. */
function endOfBucket(bytes: Uint8Array, at: number, end: number): number {
  const bucket = entryBucketAt(bytes, at);
  let next = at;
  while (next < end && entryBucketAt(bytes, next) === bucket) next = entryEndAt(bytes, next);
  return next;
}

/** A hint, and how far it has been read. */
class Source {
  readonly segment: Segment;
  /** Where the next entry of the block that is being read stands in memory, and where the block ends. */
  at = 0;
  end = 0;
  /** Entries of that block that do not sort before this are left for the next range; undefined when all do. */
  limit: Uint8Array | undefined;
  readonly #hint: Hint;
  readonly #step: number;
  /** The block that is being read or is next, the one behind those in memory, and the one behind this range's. */
  #block = 0;
  #loaded = 0;
  #last = 0;
  /** What is to be added to a place in the hint to get that in memory, and the place of the next entry in the hint. */
  #shift = 0;
  #next: number;
  /** Nothing is left of the range. */
  #done = false;

  /** Reads `step` blocks at a time. */
  constructor(segment: Segment, hint: Hint, step: number) {
    this.segment = segment;
    this.#hint = hint;
    this.#step = step;
    this.#next = hint.start(0) + BLOCK_HEADER_BYTES;
  }

  /** Nothing is left. */
  get ended(): boolean {
    return this.#block === this.#hint.blocks;
  }

  /** What the entries of the next few blocks sort before; undefined when those are the last. */
  get reach(): Uint8Array | undefined {
    const block = this.#block + this.#step;
    return block < this.#hint.blocks ? this.#hint.separator(block) : undefined;
  }

  /** How many bytes the blocks are that may have entries before `end`. */
  plan(end: Uint8Array | undefined): number {
    const hint = this.#hint;
    this.#last = end === undefined ? hint.blocks : Math.max(hint.blocksUpTo(end), this.#loaded);
    return hint.start(this.#last) - hint.start(this.#block);
  }

  /** How many entries those blocks have, roughly. */
  get expected(): number {
    const hint = this.#hint;
    return Math.ceil(hint.entries * (this.#last - this.#block) / hint.blocks);
  }

  /**
   * Brings these blocks into `bytes` at `at`; what is left of one that the last range ended in stands in `before`.
   * Returns how many bytes they are.
   * @throws {FirkinError} CORRUPT
   */
  load(before: Uint8Array, bytes: Uint8Array, at: number): number {
    const hint = this.#hint;
    const start = hint.start(this.#block);
    const loaded = hint.start(this.#loaded);
    bytes.set(before.subarray(start + this.#shift, loaded + this.#shift), at);
    hint.read(this.#loaded, this.#last, bytes, at + loaded - start);
    this.#shift = at - start;
    this.#loaded = this.#last;
    this.#done = false;
    return hint.start(this.#last) - start;
  }

  /** Goes to the next block that may have entries of the range that ends before `end`; false when there is none. */
  begin(end: Uint8Array | undefined): boolean {
    const hint = this.#hint;
    const next = this.#block + 1;
    if (this.#done || this.#block === this.#loaded) return false;
    this.at = this.#next + this.#shift;
    this.end = hint.start(next) + this.#shift;
    const isWhole = end === undefined || (next < hint.blocks && compareBytes(hint.separator(next), end) <= 0);
    this.limit = isWhole ? undefined : end;
    return true;
  }

  /** True when all entries of the block are surely of this bucket, of which the next one is: keys are in order. */
  isOfOneBucket(bucket: number): boolean {
    const next = this.#block + 1;
    if (next === this.#hint.blocks) return false;
    const separator = this.#hint.separator(next);
    return separator.length >= BUCKET_BYTES && separator[0]! * 256 + separator[1]! === bucket;
  }

  /** Leaves the block before the entry at `at`, or at its end. `isDone`: what is left is of the next range. */
  leave(at: number, isDone: boolean): void {
    this.#done = isDone;
    this.#next = at - this.#shift;
    if (at < this.end) return;
    this.#block++;
    this.#next += BLOCK_HEADER_BYTES;
  }
}

/**
 * The keys of a range that have been seen: open addressing, in a slot the upper bits of a hash and the place. The table
 * of a range of two megabytes takes half of one, and so stays in a processor's cache.
 */
class Seen {
  #table = new Uint32Array(0);
  #mask = 0;
  #count = 0;
  #bytes: Uint8Array = EMPTY;
  #words: Uint32Array = new Uint32Array(0);
  /** The bits of a slot that have the place of an entry, in words and plus one. */
  #placeMask = 0;

  /** Forgets all, and has room for about so many entries in `bytes`. */
  clear(bytes: Uint8Array, words: Uint32Array, entries: number): void {
    this.#bytes = bytes;
    this.#words = words;
    this.#placeMask = 2 ** (32 - Math.clz32(words.length)) - 1;
    let slots = 64;
    while (slots < SLOTS_PER_ENTRY * entries) slots *= 2;
    this.#empty(slots);
  }

  #empty(slots: number): void {
    if (slots > this.#table.length) this.#table = new Uint32Array(slots);
    else this.#table.fill(0, 0, slots);
    this.#mask = slots - 1;
    this.#count = 0;
  }

  /** Adds the key of the entry at `at`; false when it is there. */
  add(hash: number, at: number): boolean {
    const table = this.#table;
    const mask = this.#mask;
    const placeMask = this.#placeMask;
    let slot = hash & mask;
    for (let held = table[slot]!; held !== 0; held = table[slot]!) {
      if (((held ^ hash) & ~placeMask) === 0 && this.#isKey(hash, at, ((held & placeMask) - 1) * 4)) return false;
      slot = (slot + 1) & mask;
    }
    table[slot] = (hash & ~placeMask) | ((at >>> 2) + 1);
    if (++this.#count > mask * SLOTS_FULL) this.#grow();
    return true;
  }

  #isKey(hash: number, at: number, place: number): boolean {
    return entryHashIn(this.#words, place) === hash && isSameKey(this.#bytes, at, this.#bytes, place);
  }

  /** There are more than was said. */
  #grow(): void {
    const before = this.#table.slice(0, this.#mask + 1);
    this.#empty(2 * before.length);
    for (const held of before) {
      const place = ((held & this.#placeMask) - 1) * 4;
      if (held !== 0) this.add(entryHashIn(this.#words, place), place);
    }
  }
}

/** Keys that are all different, by the table of the keydir that they belong to: [hash, slot, offset]. */
class LiveKeys {
  readonly #tables: (Uint32Array | undefined)[] = [];
  readonly #tails = new Uint32Array(TABLES);
  /** Words that a table needs when hashes are spread evenly: the system backs what is not used with nothing. */
  readonly #words: number;

  /** For up to so many. */
  constructor(count: number) {
    this.#words = WORDS * (1 + Math.ceil((count / TABLES) * 1.05));
  }

  add(hash: number, slot: number, offset: number): void {
    const table = hash >>> TABLE_SHIFT;
    const tail = this.#tails[table]!;
    let words = this.#tables[table];
    if (words === undefined || tail === words.length) {
      const grown = new Uint32Array(Math.max(2 * tail, this.#words));
      if (words !== undefined) grown.set(words);
      this.#tables[table] = words = grown;
    }
    words[tail] = hash;
    words[tail + 1] = slot;
    words[tail + 2] = offset;
    this.#tails[table] = tail + WORDS;
  }

  /** The keys of a table, which are forgotten here; undefined when there are none. */
  take(table: number): Uint32Array | undefined {
    const words = this.#tables[table];
    if (words === undefined) return undefined;
    this.#tables[table] = undefined;
    return words.subarray(0, this.#tails[table]!);
  }
}
