/**
 * Which records live: the keydir, the key order, and how much of each segment is dead.
 *
 * A record lives while the keydir points at it. This file is the only one that changes the keydir, and keeps the rest
 * in step: an overwritten or deleted record counts as dead in its segment, a new one joins its segment's order, a
 * copied one takes the place of its original. A segment that is sealed gets a hint, which then is its order.
 *
 * @module
 */
import { hashKey } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import {
  entryBucketAt,
  entryDeadlineAt,
  entryHashAt,
  entryKeyAt,
  entryKindAt,
  entryOffsetAt,
  type Hint,
  type HintContents,
  hintHas,
  HintReader,
} from "./hint.ts";
import { HintBuilder } from "./hint_builder.ts";
import { ADDRESS_UNIT, Keydir } from "./keydir.ts";
import type { Log, LogOwner } from "./log.ts";
import { type KeyRange, listInOrder, type Place, rangeAfter, SegmentOrder } from "./order.ts";
import {
  bucketAt,
  expiresAtAt,
  FLAG,
  flagsAt,
  isKeyAt,
  isTombstone,
  keyAt,
  KIND,
  kindAt,
  recordBytesAt,
  timeAt,
} from "./record.ts";
import { soundPart } from "./recovery.ts";
import { type Segment, SEGMENT_HEADER_BYTES } from "./segment.ts";
import { recordsIn } from "./sort.ts";

/** A hash of a bucket's key. */
export type KeyHash = (bucket: number, key: Uint8Array) => number;

/** What the live records tell their owner. */
export interface LiveOwner {
  /** A record of this length has died, and had a deadline or not. */
  noteDead(bytes: number, hadDeadline: boolean): void;
  /** At open: the record at `address` has a deadline. */
  schedule(deadline: number, address: number): void;
}

/** The live records of a log. */
export class LiveRecords implements LogOwner {
  readonly #seed: number;
  readonly #hash: KeyHash | undefined;
  readonly #log: Log;
  readonly #owner: LiveOwner;
  readonly #keydir: Keydir;
  readonly #hints: HintBuilder;
  /** Every segment that may hold keys; undefined for one whose order is its hint. */
  readonly #orders = new Map<Segment, SegmentOrder | undefined>();
  #storing = false;
  /** What {@link LiveRecords.locate} has found, until anything else is sought. */
  found: Segment | undefined;
  foundAt = 0;
  /** Why there is none, though the key is there. */
  #damage: unknown;

  /** None yet. `hash` is replaced in tests that force false matches. */
  constructor(log: Log, clock: Clock, owner: LiveOwner, hash?: KeyHash) {
    this.#log = log;
    this.#owner = owner;
    this.#seed = log.hashSeed;
    this.#hash = hash;
    this.#hints = new HintBuilder(log, clock, (bucket, bytes, start, end) => this.hash(bucket, bytes, start, end));
    this.#keydir = new Keydir((slot, offset, bucket, key) => this.#isKey(slot, offset, bucket, key));
  }

  /** Number of keys. */
  get count(): number {
    return this.#keydir.count;
  }

  /** Bytes of the keydir. */
  get keydirBytes(): number {
    return this.#keydir.bytes;
  }

  /** Bytes of the key order. */
  get orderBytes(): number {
    let bytes = 0;
    for (const [, source] of this.#sources()) bytes += source.bytes;
    return bytes;
  }

  /** The hash of the key that stands in `key` from `start` to `end`. */
  hash(bucket: number, key: Uint8Array, start = 0, end: number = key.length): number {
    if (this.#hash === undefined) return hashKey(this.#seed, bucket, key, start, end);
    return this.#hash(bucket, key.subarray(start, end));
  }

  /**
   * Finds a key's newest record, which then stands at `foundAt` in the window of `found`. @throws {FirkinError} CORRUPT
   */
  locate(bucket: number, key: Uint8Array): boolean {
    if (!this.#keydir.has(this.hash(bucket, key), bucket, key)) return false;
    if (this.found === undefined) throw this.#damage;
    return true;
  }

  /** The address of a key's newest record, -1 when there is none. @throws {FirkinError} CORRUPT */
  find(hash: number, bucket: number, key: Uint8Array): number {
    return this.#keydir.get(hash, bucket, key);
  }

  /** True while the keydir points at the record at `address`. `unchecked`: the caller has just checked its bytes. */
  isLive(address: number, unchecked = false): boolean {
    const segment = this.#log.segmentIn(Math.floor(address / ADDRESS_UNIT));
    const offset = address % ADDRESS_UNIT;
    if (segment === undefined || offset >= segment.tail) return false;
    const at = segment.seek(offset, unchecked);
    return this.#keydir.pointsAt(this.hash(bucketAt(segment.window, at), keyAt(segment.window, at)), address);
  }

  /**
   * The record at `offset`, a change of the key with this hash, has become visible. Returns the address it replaced or
   * ended, or -1.
   */
  apply(segment: Segment, offset: number, hash: number): number {
    const at = segment.seek(offset);
    const { window } = segment;
    this.#storing = true;
    let before = -1;
    if (kindAt(window, at) === KIND.set) {
      const address = segment.slot * ADDRESS_UNIT + offset;
      // Of a new key nothing but the hash is needed.
      if (!this.#keydir.add(hash, address)) {
        before = this.#keydir.set(hash, bucketAt(window, at), keyAt(window, at), address);
      }
      this.#addToOrder(segment, offset);
    } else {
      before = this.#keydir.delete(hash, bucketAt(window, at), keyAt(window, at));
      const bytes = recordBytesAt(window, at);
      segment.countTombstone(bytes, timeAt(window, at));
      this.#owner.noteDead(bytes, false);
    }
    this.#storing = false;
    if (before !== -1) this.#bury(before);
    return before;
  }

  /** The record at `before` has a copy: point at it. False when the key has moved on. */
  move(before: number, segment: Segment, offset: number): boolean {
    const at = segment.seek(offset);
    const hash = this.hash(bucketAt(segment.window, at), keyAt(segment.window, at));
    this.#addToOrder(segment, offset);
    const after = segment.slot * ADDRESS_UNIT + offset;
    const moved = this.#keydir.move(hash, before, after);
    if (!moved) segment.deadBytes += recordBytesAt(segment.window, at);
    return moved;
  }

  // --- segments at open ---

  /** See {@link LogOwner.replay}. */
  replay(segment: Segment, offset: number): void {
    const at = segment.seek(offset);
    const hash = this.hash(bucketAt(segment.window, at), keyAt(segment.window, at));
    this.apply(segment, offset, hash);
    const deadline = expiresAtAt(segment.window, at);
    if (deadline !== undefined) this.#owner.schedule(deadline, segment.slot * ADDRESS_UNIT + offset);
  }

  /** See {@link LogOwner.replayHint}. */
  replayHint(segment: Segment, hint: HintContents): void {
    const { time, ...figures } = hint.figures;
    Object.assign(segment, figures);
    this.#log.timeMax = Math.max(this.#log.timeMax, time);
    this.#orders.set(segment, undefined);
    this.#owner.noteDead(figures.deadBytes + figures.tombstoneBytes, false);
    const { bytes } = hint;
    const reader = new HintReader(hint);
    this.#storing = true;
    while (reader.next()) {
      const { at } = reader;
      const hash = entryHashAt(bytes, at);
      const address = segment.slot * ADDRESS_UNIT + entryOffsetAt(bytes, at);
      let before = -1;
      if (isTombstone(entryKindAt(bytes, at))) {
        before = this.#keydir.delete(hash, entryBucketAt(bytes, at), entryKeyAt(bytes, at));
      } else {
        if (!this.#keydir.add(hash, address)) {
          before = this.#keydir.set(hash, entryBucketAt(bytes, at), entryKeyAt(bytes, at), address);
        }
        const deadline = entryDeadlineAt(bytes, at);
        if (deadline !== undefined) this.#owner.schedule(deadline, address);
      }
      if (before !== -1) this.#bury(before);
    }
    this.#storing = false;
  }

  /** See {@link LogOwner.replaySealed}. */
  async replaySealed(segment: Segment): Promise<void> {
    await this.#hints.make(segment, segment.bytes(0), (contents, hint) => {
      this.replayHint(segment, contents);
      if (hint === undefined) this.#orders.set(segment, new SegmentOrder(segment, setsOf(contents)));
      else segment.hint = hint;
    });
    segment.release();
  }

  // --- hints ---

  /** See {@link LogOwner.sealed}. */
  sealed(segment: Segment): void {
    this.#index(segment, segment.bytes(0));
  }

  /** Makes the last hints. */
  async close(): Promise<void> {
    await this.#hints.close();
  }

  /** Lists a segment from its bytes until it has a hint. */
  #index(segment: Segment, bytes: Uint8Array): void {
    this.#orders.get(segment)?.readThrough(recordsIn(bytes));
    this.#hints.add(segment, bytes, (_, hint) => {
      this.#orders.get(segment)?.readThrough(segment);
      // Not before: the cache may use the memory for something else.
      segment.release();
      if (hint === undefined) return;
      segment.hint = hint;
      this.#orders.set(segment, undefined);
    });
  }

  /** Puts an order made of the segment's bytes in the place of each damaged hint. False when no hint is. */
  #replaceDamaged(): boolean {
    let some = false;
    for (const segment of this.#orders.keys()) {
      if (segment.hint?.damaged !== true) continue;
      some = true;
      const bytes = segment.read();
      const { end } = soundPart(bytes, segment.seed);
      if (end !== segment.tail) throw segment.corrupt(end);
      segment.dropHint();
      const order = new SegmentOrder(recordsIn(bytes));
      for (let at = SEGMENT_HEADER_BYTES; at < end; at += recordBytesAt(bytes, at)) {
        if (kindAt(bytes, at) === KIND.set) order.add(at);
      }
      this.#orders.set(segment, order);
      this.#index(segment, bytes);
    }
    return some;
  }

  // --- listings ---

  /**
   * The live records of a range, in key order. The store must not change while this runs.
   * @throws {FirkinError} CORRUPT
   */
  *list(range: KeyRange): Generator<Place, void> {
    for (let rest: KeyRange | undefined = range; rest !== undefined;) {
      let last: Uint8Array | undefined;
      try {
        for (const place of listInOrder(this.#sources(), rest)) {
          const hash = place.hash ?? this.hash(range.bucket, place.key);
          if (!this.#keydir.pointsAt(hash, place.segment.slot * ADDRESS_UNIT + place.offset)) continue;
          last = place.key;
          yield place;
        }
        return;
      } catch (error) {
        if (!this.#replaceDamaged()) throw error;
        if (last !== undefined) rest = rangeAfter(rest, last);
      }
    }
  }

  /** What each segment is listed from. */
  *#sources(): Generator<readonly [Segment, SegmentOrder | Hint], void> {
    for (const [segment, order] of this.#orders) {
      const source = segment.hint ?? order;
      if (this.#log.segmentIn(segment.slot) !== segment) this.#orders.delete(segment);
      else if (source !== undefined) yield [segment, source];
    }
  }

  #bury(address: number): void {
    const segment = this.#log.segmentOf(address);
    let bytes: number;
    let hadDeadline: boolean;
    try {
      const at = segment.seek(address % ADDRESS_UNIT, true);
      bytes = recordBytesAt(segment.window, at);
      hadDeadline = (flagsAt(segment.window, at) & FLAG.deadline) !== 0;
    } catch {
      // What came after it is committed, whatever has become of it. Its length is unknown: one byte says that it is
      // there.
      segment.deadBytes++;
      return;
    }
    segment.deadBytes += bytes;
    this.#owner.noteDead(bytes, hadDeadline);
  }

  #addToOrder(segment: Segment, offset: number): void {
    if (segment.hint !== undefined) return;
    let order = this.#orders.get(segment);
    if (order === undefined) this.#orders.set(segment, order = new SegmentOrder(segment));
    order.add(offset);
  }

  #isKey(slot: number, offset: number, bucket: number, key: Uint8Array): boolean {
    const segment = this.#log.segmentIn(slot)!;
    let at: number;
    try {
      at = segment.seek(offset);
    } catch (error) {
      this.found = undefined;
      this.#damage = error;
      return this.#isKeyOfDamaged(segment, offset, bucket, key, error);
    }
    this.found = segment;
    this.foundAt = at;
    return isKeyAt(segment.window, at, bucket, key);
  }

  /** Whose record it was that cannot be read: the segment's hint knows. */
  #isKeyOfDamaged(segment: Segment, offset: number, bucket: number, key: Uint8Array, error: unknown): boolean {
    try {
      if (segment.hint !== undefined) return hintHas(segment.hint, bucket, key, offset);
    } catch {
      // The hint is damaged too.
    }
    // What is stored is committed and must not fail over a record that cannot be read: 32 bits of its hash are equal,
    // so it is taken for the key's own, and the damage is gone with it.
    if (this.#storing) return true;
    throw error;
  }
}

/** The set records of a hint, in order of their keys. */
function setsOf(contents: HintContents): Uint32Array {
  const offsets: number[] = [];
  const reader = new HintReader(contents);
  while (reader.next()) {
    if (entryKindAt(contents.bytes, reader.at) === KIND.set) offsets.push(entryOffsetAt(contents.bytes, reader.at));
  }
  return Uint32Array.from(offsets);
}
