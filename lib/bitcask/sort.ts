/**
 * Sorting entries by bucket and key, in steps of a millisecond, so that no turn of the event loop is long.
 *
 * What is sorted are places of entries in a buffer. A few thousand are sorted as numbers, by the runtime: five bytes of
 * the key behind what all of them begin with, how much of the key there was, and the place, packed into one u64. It is
 * written as two u32 and sorted as a BigUint64Array without a comparison function, which makes no BigInt and takes
 * half of the time that f64 take. Keys that are equal so far are sorted by the bytes that follow.
 *
 * More are first split, by the two bytes behind what all keys begin with, into parts of a thousand; a part that
 * shares those two bytes and is still large is split once more. The parts are in order: nothing is merged.
 *
 * The order of equal keys stays.
 *
 * @module
 */
import { assert } from "../base/errors.ts";
import { recordBytesAt } from "./record.ts";
import { EntryBuffer, entryEndAt, entryOffsetAt, isSameKey, sortKeyEndAt, sortKeyStartAt } from "./entry.ts";

/** Entries that are sorted at once in an order that grows. */
export const CHUNK_MAX = 8_192;

/** Entries that something is done with in one step: a fraction of a millisecond's work, once it is compiled. */
const STEP_MAX = 512;

/** Entries whose places can be packed, and those of them that are sorted in one step: a millisecond's work. */
const PLACE_BITS = 13;
const PLACES_MAX = 1 << PLACE_BITS;
const SORTED_MAX = PLACES_MAX >>> 1;

/** Pairs are put together to parts of up to so many entries, which stay in the cache of a processor. */
const PART_MAX = 1_024;

/** Below this many keys comparing beats counting. */
const FEW = 12;

/** Bytes of a key in a packed number; what follows them says how many of them there were, or that there are more. */
const RANK_BYTES = 5;
const MORE = RANK_BYTES + 1;

/** A pair is two bytes, or one and the key's end, or the end. */
const BASE = 257;
const PAIRS = 1 + 256 * BASE;

/** Which half of a u64 is the low one. */
const LOW = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 0 : 1;

/** The numbers in runs, each for one step. */
export function chunksOf(numbers: Uint32Array): Uint32Array[] {
  return Array.from({ length: Math.ceil(numbers.length / STEP_MAX) }, (_, index) => {
    return numbers.subarray(index * STEP_MAX, (index + 1) * STEP_MAX);
  });
}

// --- a few thousand ---

/** Sorts places of entries that stand in one buffer. */
export class EntrySort {
  readonly #bytes: Uint8Array;
  readonly #packed: BigUint64Array;
  readonly #words: Uint32Array;
  readonly #before: Uint32Array;
  #places: Uint32Array = new Uint32Array(0);

  /** For entries in `bytes`, of which so many at most are sorted at a time. */
  constructor(bytes: Uint8Array, count: number) {
    this.#bytes = bytes;
    const capacity = Math.min(count, PLACES_MAX);
    this.#packed = new BigUint64Array(capacity);
    this.#words = new Uint32Array(this.#packed.buffer);
    this.#before = new Uint32Array(capacity);
  }

  /** Sorts any number of places of entries whose sort keys share `depth` bytes; yields between two steps. */
  *sort(places: Uint32Array, depth = 0): Generator<void, void> {
    if (places.length <= SORTED_MAX) return this.sortAtOnce(places, depth);
    const chunks = chunksOf(places.slice());
    let shared = Infinity;
    for (const chunk of chunks) {
      for (const place of chunk) shared = this.#sharedBy(places[0]!, place, shared);
      yield;
    }
    const split = new Split(this.#bytes, shared, places.length);
    for (const chunk of chunks) {
      split.count(chunk);
      yield;
    }
    split.plan();
    const tails = Uint32Array.from(split.parts, ({ start }) => start);
    let entry = 0;
    for (const chunk of chunks) {
      for (const place of chunk) places[tails[split.partOf(entry++)]!++] = place;
      yield;
    }
    for (const { start, count, ended } of split.parts) {
      const part = places.subarray(start, start + count);
      if (count <= SORTED_MAX) this.sortAtOnce(part, shared);
      else if (!ended) yield* this.sort(part, shared);
      yield;
    }
  }

  /** Sorts a chunk at most of places of entries whose sort keys share `depth` bytes. */
  sortAtOnce(places: Uint32Array, depth = 0): void {
    assert(places.length <= PLACES_MAX, "no more is sorted at once than can be packed");
    this.#places = places;
    this.#sort(0, places.length, depth);
  }

  #sort(from: number, to: number, depth: number): void {
    if (to - from <= FEW) return this.#insert(from, to, depth);
    const places = this.#places;
    const words = this.#words;
    const before = this.#before;
    const shared = depth + this.#shared(from, to, depth);
    for (let index = from; index < to; index++) {
      before[index] = places[index]!;
      this.#pack(index, places[index]!, shared);
    }
    this.#packed.subarray(from, to).sort();
    const low = 2 * from + LOW;
    for (let index = from, word = low; index < to; index++, word += 2) {
      places[index] = before[words[word]! & (PLACES_MAX - 1)]!;
    }
    for (let start = from; start < to;) {
      const rank = words[2 * start + LOW]! >>> PLACE_BITS;
      const high = words[2 * start + 1 - LOW]!;
      let end = start + 1;
      while (end < to && words[2 * end + LOW]! >>> PLACE_BITS === rank && words[2 * end + 1 - LOW]! === high) end++;
      // Keys that have ended are equal.
      if (end - start > 1 && (rank & 7) === MORE) this.#sort(start, end, shared + RANK_BYTES);
      start = end;
    }
  }

  /** Packs what follows `depth` bytes of a sort key: the higher u32 has the first four of them. */
  #pack(index: number, place: number, depth: number): void {
    const bytes = this.#bytes;
    const at = sortKeyStartAt(bytes, place) + depth;
    const rest = sortKeyEndAt(bytes, place) - at;
    let high = 0;
    let low = 0;
    if (rest >= RANK_BYTES) {
      high = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
      low = bytes[at + 4]!;
    } else {
      for (let byte = 0; byte < rest; byte++) {
        high |= bytes[at + byte]! << (24 - 8 * byte);
      }
    }
    this.#words[2 * index + 1 - LOW] = high;
    this.#words[2 * index + LOW] = (((low << 3) | Math.min(rest, MORE)) << PLACE_BITS) | index;
  }

  #insert(from: number, to: number, depth: number): void {
    const places = this.#places;
    for (let index = from + 1; index < to; index++) {
      const place = places[index]!;
      let free = index;
      for (; free > from && this.#compare(places[free - 1]!, place, depth) > 0; free--) {
        places[free] = places[free - 1]!;
      }
      places[free] = place;
    }
  }

  /** How many of the first `most` bytes of two sort keys are equal. */
  #sharedBy(one: number, other: number, most: number): number {
    const bytes = this.#bytes;
    const start = sortKeyStartAt(bytes, one);
    const otherStart = sortKeyStartAt(bytes, other);
    const end = Math.min(most, sortKeyEndAt(bytes, one) - start, sortKeyEndAt(bytes, other) - otherStart);
    let shared = 0;
    while (shared < end && bytes[start + shared] === bytes[otherStart + shared]) shared++;
    return shared;
  }

  /** How many bytes behind `depth` all sort keys share. */
  #shared(from: number, to: number, depth: number): number {
    const bytes = this.#bytes;
    const first = sortKeyStartAt(bytes, this.#places[from]!) + depth;
    let shared = sortKeyEndAt(bytes, this.#places[from]!) - first;
    for (let index = from + 1; index < to && shared > 0; index++) {
      const place = this.#places[index]!;
      const start = sortKeyStartAt(bytes, place) + depth;
      shared = Math.min(shared, sortKeyEndAt(bytes, place) - start);
      let same = 0;
      while (same < shared && bytes[first + same] === bytes[start + same]) same++;
      shared = same;
    }
    return shared;
  }

  #compare(left: number, right: number, depth: number): number {
    const bytes = this.#bytes;
    let at = sortKeyStartAt(bytes, left) + depth;
    let other = sortKeyStartAt(bytes, right) + depth;
    const end = sortKeyEndAt(bytes, left);
    const otherEnd = sortKeyEndAt(bytes, right);
    for (; at < end && other < otherEnd; at++, other++) {
      if (bytes[at] !== bytes[other]) return bytes[at]! - bytes[other]!;
    }
    return end - at - (otherEnd - other);
  }
}

// --- more ---

/** Neighbours in order: more than {@link PART_MAX} only when the next two bytes of all are the same. */
export interface Part {
  /** Number of entries in the parts before it, and in it. */
  readonly start: number;
  readonly count: number;
  /** Bytes of its entries. */
  readonly bytes: number;
  /** Two bytes are the same, and all of the key there is. */
  readonly ended: boolean;
}

/** Splits entries by two bytes of their keys: count them all, plan, then ask each for its part. */
export class Split {
  readonly parts: Part[] = [];
  readonly #bytes: Uint8Array;
  readonly #depth: number;
  /** Of each entry that was counted. */
  readonly #pairs: Uint32Array;
  #count = 0;
  /** The lowest pair and the highest. */
  #low = PAIRS;
  #high = -1;
  readonly #counts = new Uint32Array(PAIRS);
  readonly #lengths = new Uint32Array(PAIRS);
  readonly #parts = new Uint32Array(PAIRS);

  /** For so many entries in `bytes`, whose sort keys share `depth` bytes. */
  constructor(bytes: Uint8Array, depth: number, count: number) {
    this.#bytes = bytes;
    this.#depth = depth;
    this.#pairs = new Uint32Array(count);
  }

  /** Counts the entries at some places. */
  count(places: Uint32Array): void {
    const bytes = this.#bytes;
    const counts = this.#counts;
    for (let index = 0; index < places.length; index++) {
      const place = places[index]!;
      const at = sortKeyStartAt(bytes, place) + this.#depth;
      const rest = sortKeyEndAt(bytes, place) - at;
      const pair = rest === 0 ? 0 : 1 + bytes[at]! * BASE + (rest === 1 ? 0 : bytes[at + 1]! + 1);
      if (pair < this.#low) this.#low = pair;
      if (pair > this.#high) this.#high = pair;
      counts[pair]!++;
      this.#lengths[pair]! += entryEndAt(bytes, place) - place;
      this.#pairs[this.#count++] = pair;
    }
  }

  /** Makes the parts. */
  plan(): void {
    let start = 0;
    let count = 0;
    let bytes = 0;
    let ended = false;
    const close = (): void => {
      if (count > 0) this.parts.push({ start, count, bytes, ended });
      start += count;
      count = bytes = 0;
    };
    for (let pair = this.#low; pair <= this.#high; pair++) {
      const more = this.#counts[pair]!;
      if (more === 0) continue;
      if (count + more > PART_MAX) close();
      this.#parts[pair] = this.parts.length;
      ended = pair === 0 || (pair - 1) % BASE === 0;
      count += more;
      bytes += this.#lengths[pair]!;
    }
    close();
  }

  /** The number of the part that an entry is in: the first that was counted is entry 0. */
  partOf(entry: number): number {
    return this.#parts[this.#pairs[entry]!]!;
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
export function sortNewest(records: Records, offsets: Uint32Array): Uint32Array {
  const entries = new EntryBuffer(48 * offsets.length);
  const places = new Uint32Array(offsets.length);
  for (let index = 0; index < offsets.length; index++) {
    const at = records.seek(offsets[index]!);
    places[index] = entries.tail;
    entries.add(records.window, at, recordBytesAt(records.window, at), offsets[index]!, 0);
  }
  const { bytes } = entries;
  new EntrySort(bytes, places.length).sortAtOnce(places);
  let count = 0;
  for (let index = 0; index < places.length; index++) {
    const isLast = index + 1 === places.length || !isSameKey(bytes, places[index]!, bytes, places[index + 1]!);
    if (isLast) places[count++] = entryOffsetAt(bytes, places[index]!);
  }
  return places.slice(0, count);
}
