/**
 * Addresses in key order, for listings.
 *
 * Each segment keeps the offsets of its set records, 4 bytes each, as a few sorted runs: new offsets are sorted into a
 * run when a listing next asks, and runs of similar length are merged, so that their number stays logarithmic and
 * sorting costs O(n log n) over all listings together. A listing merges the runs of all segments, beginning each at its
 * own lower bound, and so yields keys in order of bucket and key without a key in memory. Older versions of a key come
 * up too, next to the newest: the caller asks the keydir which one lives.
 *
 * @module
 */
import { compareBytes, prefixEnd } from "../base/bytes.ts";
import type { ListQuery } from "../engine/engine.ts";
import { bucketAt, compareKeyAt, EMPTY, keyAt } from "./record.ts";
import type { Segment } from "./segment.ts";

/** The sorted runs of one segment. */
export class SegmentOrder {
  readonly #segment: Segment;
  #fresh: number[] = [];
  #runs: Uint32Array[] = [];

  /** No offsets yet. */
  constructor(segment: Segment) {
    this.#segment = segment;
  }

  /** Adds the offset of a set record. */
  add(offset: number): void {
    this.#fresh.push(offset);
  }

  /** Bytes of the offsets. */
  get bytes(): number {
    return this.#runs.reduce((bytes, run) => bytes + run.byteLength, this.#fresh.length * 4);
  }

  /** Every offset, in a few runs that are each sorted by bucket and key. */
  runs(): readonly Uint32Array[] {
    if (this.#fresh.length === 0) return this.#runs;
    let offsets = this.#fresh;
    let kept = this.#runs.length;
    while (kept > 0 && this.#runs[kept - 1]!.length <= offsets.length * 2) {
      // Sorting two runs that are each in order is a merge: the runtimes' sort finds the runs.
      offsets = [...this.#runs[--kept]!, ...offsets];
    }
    // A record that cannot be read ends the listing, and must not end the order.
    const run = sortByKey(this.#segment, offsets);
    this.#fresh = [];
    this.#runs.splice(kept, this.#runs.length - kept, run);
    return this.#runs;
  }
}

/** One item of a listing: where the record is. */
export interface Place {
  readonly segment: Segment;
  readonly offset: number;
}

/** Which keys of one bucket to list: `start` inclusive, `end` exclusive. */
export interface KeyRange {
  readonly bucket: number;
  readonly start: Uint8Array;
  /** Undefined: to the end of the bucket. */
  readonly end: Uint8Array | undefined;
  readonly reverse: boolean;
}

/** The keys that a query lists, undefined when none can match. */
export function rangeOf(bucket: number, query: ListQuery): KeyRange | undefined {
  const { prefix, reverse = false } = query;
  let start = later(prefix, query.start) ?? EMPTY;
  let end = earlier(prefix === undefined ? undefined : prefixEnd(prefix), query.end);
  if (query.after !== undefined) {
    if (reverse) {
      end = earlier(query.after, end);
    } else {
      // The first key after `after` is `after` and a zero byte.
      const next = new Uint8Array(query.after.length + 1);
      next.set(query.after);
      start = later(next, start)!;
    }
  }
  return end !== undefined && compareBytes(start, end) >= 0 ? undefined : { bucket, start, end, reverse };
}

function later(left: Uint8Array | undefined, right: Uint8Array | undefined): Uint8Array | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return compareBytes(left, right) >= 0 ? left : right;
}

function earlier(left: Uint8Array | undefined, right: Uint8Array | undefined): Uint8Array | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return compareBytes(left, right) <= 0 ? left : right;
}

/** A run and how far a listing has come in it. */
interface Head {
  readonly segment: Segment;
  readonly run: Uint32Array;
  index: number;
  key: Uint8Array;
}

/** The records of a range in key order, all versions of a key next to one another. */
export function* listInOrder(orders: Iterable<[Segment, SegmentOrder]>, range: KeyRange): Generator<Place, void> {
  const heap = new HeadHeap(range.reverse);
  for (const [segment, order] of orders) {
    for (const run of order.runs()) {
      const first = lowerBound(segment, run, range.bucket, range.start);
      const end = range.end === undefined
        ? lowerBound(segment, run, range.bucket + 1, new Uint8Array(0))
        : lowerBound(segment, run, range.bucket, range.end);
      if (first >= end) continue;
      const part = run.subarray(first, end);
      const index = range.reverse ? part.length - 1 : 0;
      heap.push({ segment, run: part, index, key: keyOf(segment, part[index]!) });
    }
  }
  for (let head = heap.first(); head !== undefined; head = heap.first()) {
    yield { segment: head.segment, offset: head.run[head.index]! };
    head.index += range.reverse ? -1 : 1;
    const offset = head.run[head.index];
    if (offset === undefined) {
      heap.removeFirst();
    } else {
      head.key = keyOf(head.segment, offset);
      heap.settleFirst();
    }
  }
}

/** A binary heap of heads, smallest key first, or largest when reversed. */
class HeadHeap {
  readonly #heads: Head[] = [];
  readonly #sign: number;

  constructor(reverse: boolean) {
    this.#sign = reverse ? -1 : 1;
  }

  first(): Head | undefined {
    return this.#heads[0];
  }

  push(head: Head): void {
    let index = this.#heads.push(head) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.#before(index, parent)) return;
      this.#swap(index, parent);
      index = parent;
    }
  }

  removeFirst(): void {
    const last = this.#heads.pop()!;
    if (this.#heads.length === 0) return;
    this.#heads[0] = last;
    this.settleFirst();
  }

  settleFirst(): void {
    for (let index = 0;;) {
      let child = 2 * index + 1;
      if (child >= this.#heads.length) return;
      if (child + 1 < this.#heads.length && this.#before(child + 1, child)) child++;
      if (!this.#before(child, index)) return;
      this.#swap(index, child);
      index = child;
    }
  }

  #before(left: number, right: number): boolean {
    return compareBytes(this.#heads[left]!.key, this.#heads[right]!.key) * this.#sign < 0;
  }

  #swap(left: number, right: number): void {
    const head = this.#heads[left]!;
    this.#heads[left] = this.#heads[right]!;
    this.#heads[right] = head;
  }
}

/** The first index of `run` whose key is not below `key`. */
function lowerBound(segment: Segment, run: Uint32Array, bucket: number, key: Uint8Array): number {
  let low = 0;
  let high = run.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const at = segment.seek(run[middle]!);
    if (compareKeyAt(segment.window, at, bucket, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function keyOf(segment: Segment, offset: number): Uint8Array {
  const at = segment.seek(offset);
  return keyAt(segment.window, at);
}

function sortByKey(segment: Segment, offsets: readonly number[]): Uint32Array {
  const items = offsets.map((offset) => {
    const at = segment.seek(offset);
    return { offset, bucket: bucketAt(segment.window, at), key: keyAt(segment.window, at) };
  });
  items.sort((left, right) => left.bucket - right.bucket || compareBytes(left.key, right.key));
  return Uint32Array.from(items, (item) => item.offset);
}
