/**
 * Sorting records by bucket and key, a chunk of a few thousand at a time, so that no turn of the event loop is long.
 *
 * What is sorted are numbers, by the runtime: five bytes of the key behind what all of them begin with, and the place
 * in the chunk, packed into one f64 (257^5 x 4096 < 2^53). Keys that are equal so far are sorted by the bytes that
 * follow. Comparing keys one with another took four times as long.
 *
 * @module
 */
import { bucketAt, keyBytesAt, keyStartAt } from "./record.ts";

/** Records sorted in one turn: a millisecond's work. */
export const CHUNK_MAX = 4_096;

/** Below this many keys comparing beats counting. */
const FEW = 12;

/** A rank is this many digits, each a byte of the key plus one, or 0 behind the key's end. */
const DIGITS = 5;
const BASE = 257;

/** A chunk of keys. */
export class KeySort {
  /** Every bucket, high byte first, and key, one after another, and where each begins. */
  #keys: Uint8Array;
  readonly #starts: Uint32Array;
  #count = 0;
  #items = new Uint16Array(0);
  #packed = new Float64Array(0);

  /** Room for `capacity` keys. */
  constructor(capacity: number) {
    this.#keys = new Uint8Array(32 * capacity);
    this.#starts = new Uint32Array(capacity + 1);
  }

  /** Number of keys. */
  get count(): number {
    return this.#count;
  }

  /** Adds the bucket and key of the record at `at`: there must be room. */
  add(bytes: Uint8Array, at: number): void {
    const keyBytes = keyBytesAt(bytes, at);
    let end = this.#starts[this.#count]!;
    if (end + 2 + keyBytes > this.#keys.length) {
      const grown = new Uint8Array(Math.max(this.#keys.length * 2, end + 2 + keyBytes));
      grown.set(this.#keys);
      this.#keys = grown;
    }
    const keys = this.#keys;
    const bucket = bucketAt(bytes, at);
    keys[end++] = bucket >>> 8;
    keys[end++] = bucket;
    const start = keyStartAt(bytes, at);
    for (let index = 0; index < keyBytes; index++) keys[end + index] = bytes[start + index]!;
    this.#starts[++this.#count] = end + keyBytes;
  }

  /** Forgets every key. */
  clear(): void {
    this.#count = 0;
  }

  /** The places of the newest of each key, in order of their keys. */
  sort(): Uint16Array {
    const items = new Uint16Array(this.#count);
    for (let item = 0; item < items.length; item++) items[item] = item;
    this.#items = items;
    this.#packed = new Float64Array(this.#count);
    this.#sort(0, items.length, 0);
    let count = 0;
    for (let index = 0; index < items.length; index++) {
      const isLast = index + 1 === items.length || this.#compare(items[index]!, items[index + 1]!, 0) !== 0;
      if (isLast) items[count++] = items[index]!;
    }
    return items.subarray(0, count);
  }

  /** Sorts the items from `from` to `to`, whose keys are equal up to `depth`; equal keys by their places. */
  #sort(from: number, to: number, depth: number): void {
    if (to - from <= FEW) return this.#insert(from, to, depth);
    depth += this.#common(from, to, depth);
    const packed = this.#packed.subarray(from, to);
    for (let index = from; index < to; index++) {
      const item = this.#items[index]!;
      packed[index - from] = this.#rank(item, depth) * CHUNK_MAX + item;
    }
    packed.sort();
    for (let index = from; index < to; index++) this.#items[index] = packed[index - from]! % CHUNK_MAX;
    for (let start = from; start < to;) {
      const rank = Math.floor(this.#packed[start]! / CHUNK_MAX);
      let end = start + 1;
      while (end < to && Math.floor(this.#packed[end]! / CHUNK_MAX) === rank) end++;
      // A last digit of 0: the keys have ended, and are equal.
      if (end - start > 1 && rank % BASE !== 0) this.#sort(start, end, depth + DIGITS);
      start = end;
    }
  }

  #insert(from: number, to: number, depth: number): void {
    const items = this.#items;
    for (let index = from + 1; index < to; index++) {
      const item = items[index]!;
      let place = index;
      for (; place > from && this.#compare(items[place - 1]!, item, depth) > 0; place--) {
        items[place] = items[place - 1]!;
      }
      items[place] = item;
    }
  }

  /** How many bytes behind `depth` all keys from `from` to `to` share. */
  #common(from: number, to: number, depth: number): number {
    const keys = this.#keys;
    const first = this.#starts[this.#items[from]!]! + depth;
    let common = Math.max(this.#starts[this.#items[from]! + 1]! - first, 0);
    for (let index = from + 1; index < to && common > 0; index++) {
      const start = this.#starts[this.#items[index]!]! + depth;
      common = Math.min(common, Math.max(this.#starts[this.#items[index]! + 1]! - start, 0));
      let same = 0;
      while (same < common && keys[first + same] === keys[start + same]) same++;
      common = same;
    }
    return common;
  }

  #rank(item: number, depth: number): number {
    const end = this.#starts[item + 1]!;
    let at = this.#starts[item]! + depth;
    let rank = 0;
    for (let digit = 0; digit < DIGITS; digit++, at++) rank = rank * BASE + (at < end ? this.#keys[at]! + 1 : 0);
    return rank;
  }

  #compare(left: number, right: number, depth: number): number {
    const keys = this.#keys;
    let at = this.#starts[left]! + depth;
    let other = this.#starts[right]! + depth;
    const end = this.#starts[left + 1]!;
    const otherEnd = this.#starts[right + 1]!;
    for (; at < end && other < otherEnd; at++, other++) {
      if (keys[at] !== keys[other]) return keys[at]! - keys[other]!;
    }
    return end - at - (otherEnd - other);
  }
}

// --- records ---

/** Records that can be looked at: `seek` returns where in `window` the one at an offset stands. */
export interface Records {
  readonly window: Uint8Array;
  seek(offset: number): number;
}

/** The records of a segment whose bytes are all in memory. */
export function recordsIn(bytes: Uint8Array): Records {
  return { window: bytes, seek: (offset) => offset };
}

/** The offsets in order of bucket and key; of each key only the one that was given last. {@link CHUNK_MAX} at most. */
export function sortNewest(records: Records, offsets: ArrayLike<number>): Uint32Array {
  const sort = new KeySort(offsets.length);
  for (let index = 0; index < offsets.length; index++) {
    const at = records.seek(offsets[index]!);
    sort.add(records.window, at);
  }
  const places = sort.sort();
  const sorted = new Uint32Array(places.length);
  for (let index = 0; index < places.length; index++) sorted[index] = offsets[places[index]!]!;
  return sorted;
}
