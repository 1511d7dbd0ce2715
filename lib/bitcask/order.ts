/**
 * Addresses in key order, for listings.
 *
 * A segment that has a hint is listed from that (`hint.ts`). One that has none yet, the active one above all, is listed
 * from offsets of its set records in sorted runs, 4 bytes each. What was written since is found by a walk through the
 * records when a listing asks, a chunk of up to 8,192 at a time: a write costs nothing but the note of how far records
 * are visible. Runs of similar length are joined while they fit in a chunk, so there are few of them. Within a run only
 * the newest record of a key is kept.
 *
 * A listing merges the runs and hints of all segments, beginning each at its own lower bound, and so yields keys in
 * order of bucket and key, and costs what it yields. Older versions of a key come up too, next to the newest: the
 * caller asks the keydir which one lives.
 *
 * @module
 */
import { compareBytes, prefixEnd } from "../base/bytes.ts";
import type { ListQuery } from "../engine/engine.ts";
import { type Hint, HintCursor } from "./hint.ts";
import { bucketAt, compareKeyAt, copyKeyAt, EMPTY, KIND, kindAt, recordBytesAt } from "./record.ts";
import { type Segment, SEGMENT_HEADER_BYTES } from "./segment.ts";
import { CHUNK_MAX, type Records, sortNewest } from "./sort.ts";

// --- a segment without a hint ---

/** The key order of one segment that has no hint. */
export class SegmentOrder {
  /** How many set records are not in a run, or more. */
  unsorted = 0;
  /** Sorted runs, long ones first. */
  readonly #runs: Uint32Array[] = [];
  #records: Records;
  /** The first record that is not in a run, and the last one that is visible. */
  #next: number;
  #last = -1;

  /** No records yet; or those whose offsets are given in order, and what comes from `next` on. */
  constructor(records: Records, sorted: Uint32Array = new Uint32Array(0), next: number = SEGMENT_HEADER_BYTES) {
    this.#records = records;
    this.#next = next;
    if (sorted.length > 0) this.#runs.push(sorted);
  }

  /** The records up to the one at `offset`, and that one, are visible; at most so many of the new ones are sets. */
  reach(offset: number, sets: number): void {
    this.#last = offset;
    this.unsorted += sets;
  }

  /** Looks at the records through `records` from here on. */
  readThrough(records: Records): void {
    this.#records = records;
  }

  /** Bytes of the offsets. */
  get orderBytes(): number {
    return this.#runs.reduce((bytes, run) => bytes + run.byteLength, 0);
  }

  /** Sorts a chunk of what is not in a run; false when nothing was left. */
  sortSome(): boolean {
    if (this.#next > this.#last) return false;
    let offsets: Uint32Array = new Uint32Array(Math.min(this.unsorted, CHUNK_MAX));
    let count = 0;
    let next = this.#next;
    while (next <= this.#last && count < CHUNK_MAX) {
      const at = this.#records.seek(next);
      if (kindAt(this.#records.window, at) === KIND.set) offsets[count++] = next;
      next += recordBytesAt(this.#records.window, at);
    }
    offsets = offsets.subarray(0, count);
    let kept = this.#runs.length;
    for (; kept > 0; kept--) {
      const last = this.#runs[kept - 1]!;
      if (last.length > offsets.length * 2 || last.length + offsets.length > CHUNK_MAX) break;
      // Of one key the older record comes first.
      const joined = new Uint32Array(last.length + offsets.length);
      joined.set(last);
      joined.set(offsets, last.length);
      offsets = joined;
    }
    const run = sortNewest(this.#records, offsets);
    // A record that could not be read ends the listing, and must not end the order: nothing is forgotten before.
    this.#runs.length = kept;
    if (run.length > 0) this.#runs.push(run);
    this.#next = next;
    this.unsorted = next > this.#last ? 0 : this.unsorted - count;
    return true;
  }

  /** A cursor for each run. */
  cursors(): Cursor[] {
    while (this.sortSome());
    return this.#runs.map((run) => new RunCursor(this.#records, run));
  }
}

/** A place in keys that are in order, of a hint or of a chunk. */
export interface Cursor {
  /** False in front of the first and behind the last. */
  readonly valid: boolean;
  readonly bucket: number;
  /** A view. */
  readonly key: Uint8Array;
  readonly offset: number;
  /** The key's hash, where it is known without a look at the key. */
  readonly hash: number | undefined;
  /** Moves to the first one that is not below this key. */
  seek(bucket: number, key: Uint8Array): void;
  next(): void;
  /** Also from behind the last one. */
  previous(): void;
}

class RunCursor implements Cursor {
  readonly hash = undefined;
  readonly #records: Records;
  readonly #run: Uint32Array;
  #index = -1;

  constructor(records: Records, run: Uint32Array) {
    this.#records = records;
    this.#run = run;
  }

  get valid(): boolean {
    return this.#index >= 0 && this.#index < this.#run.length;
  }

  get bucket(): number {
    const at = this.#records.seek(this.offset);
    return bucketAt(this.#records.window, at);
  }

  get key(): Uint8Array {
    // A copy: the heads of a listing keep theirs while others are read.
    const at = this.#records.seek(this.offset);
    return copyKeyAt(this.#records.window, at);
  }

  get offset(): number {
    return this.#run[this.#index]!;
  }

  seek(bucket: number, key: Uint8Array): void {
    let low = 0;
    let high = this.#run.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = this.#records.seek(this.#run[middle]!);
      if (compareKeyAt(this.#records.window, at, bucket, key) < 0) low = middle + 1;
      else high = middle;
    }
    this.#index = low;
  }

  next(): void {
    this.#index++;
  }

  previous(): void {
    this.#index--;
  }
}

// --- listings ---

/** One item of a listing: where the record is. To be read before the next one is asked for. */
export interface Place {
  readonly segment: Segment;
  readonly offset: number;
  readonly key: Uint8Array;
  /** The key's hash, where it is known without a look at the key. */
  readonly hash: number | undefined;
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
    if (reverse) end = earlier(query.after, end);
    else start = later(following(query.after), start)!;
  }
  return end !== undefined && compareBytes(start, end) >= 0 ? undefined : { bucket, start, end, reverse };
}

/** What is left of a range behind `key`, which was the last one listed; undefined when nothing can be. */
export function rangeAfter(range: KeyRange, key: Uint8Array): KeyRange | undefined {
  const rest = range.reverse ? { ...range, end: key } : { ...range, start: following(key) };
  return rest.end !== undefined && compareBytes(rest.start, rest.end) >= 0 ? undefined : rest;
}

/** The first key after `key`: that and a zero byte. */
function following(key: Uint8Array): Uint8Array {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}

function later(left: Uint8Array | undefined, right: Uint8Array | undefined): Uint8Array | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return compareBytes(left, right) >= 0 ? left : right;
}

function earlier(left: Uint8Array | undefined, right: Uint8Array | undefined): Uint8Array | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return compareBytes(left, right) <= 0 ? left : right;
}

/** A cursor, and the key it stands at. */
class Head implements Place {
  readonly segment: Segment;
  key: Uint8Array = EMPTY;
  readonly #cursor: Cursor;
  readonly #range: KeyRange;

  constructor(segment: Segment, cursor: Cursor, range: KeyRange) {
    this.segment = segment;
    this.#cursor = cursor;
    this.#range = range;
  }

  get offset(): number {
    return this.#cursor.offset;
  }

  get hash(): number | undefined {
    return this.#cursor.hash;
  }

  /** Moves to the first key of the range; false when there is none. */
  begin(): boolean {
    const { bucket, start, end, reverse } = this.#range;
    if (!reverse) {
      this.#cursor.seek(bucket, start);
    } else {
      if (end === undefined) this.#cursor.seek(bucket + 1, EMPTY);
      else this.#cursor.seek(bucket, end);
      this.#cursor.previous();
    }
    return this.#look();
  }

  /** Moves on; false when the range is over. */
  advance(): boolean {
    if (this.#range.reverse) this.#cursor.previous();
    else this.#cursor.next();
    return this.#look();
  }

  #look(): boolean {
    const { bucket, start, end, reverse } = this.#range;
    if (!this.#cursor.valid || this.#cursor.bucket !== bucket) return false;
    this.key = this.#cursor.key;
    return reverse ? compareBytes(this.key, start) >= 0 : end === undefined || compareBytes(this.key, end) < 0;
  }
}

/**
 * The records of a range in key order, all versions of a key next to one another, and the tombstones of hints.
 * @throws {FirkinError} CORRUPT — a hint is damaged, or a record of a segment without one
 */
export function* listInOrder(
  sources: Iterable<readonly [Segment, SegmentOrder | Hint]>,
  range: KeyRange,
): Generator<Place, void> {
  const heap = new HeadHeap(range.reverse);
  for (const [segment, source] of sources) {
    const cursors = source instanceof SegmentOrder ? source.cursors() : [new HintCursor(source)];
    for (const cursor of cursors) {
      const head = new Head(segment, cursor, range);
      if (head.begin()) heap.push(head);
    }
  }
  for (let head = heap.first(); head !== undefined; head = heap.first()) {
    yield head;
    if (head.advance()) heap.settleFirst();
    else heap.removeFirst();
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
