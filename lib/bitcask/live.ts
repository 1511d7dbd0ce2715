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
import { assert } from "../base/errors.ts";
import { type Hint, type HintBytes, hintHas, madeHint, setsOf } from "./hint.ts";
import { HintBuilder } from "./hint_builder.ts";
import { ADDRESS_UNIT, Keydir } from "./keydir.ts";
import type { Hinted, Log, LogOwner } from "./log.ts";
import { type KeyRange, listInOrder, type Place, rangeAfter, SegmentOrder } from "./order.ts";
import {
  bucketAt,
  FLAG,
  flagsAt,
  HEADER_BYTES,
  isKeyAt,
  keyAt,
  KIND,
  kindAt,
  recordBytesAt,
  timeAt,
} from "./record.ts";
import { soundPart } from "./recovery.ts";
import { SEAL_BYTES, type Segment } from "./segment.ts";
import { Replay } from "./replay.ts";
import { BucketSizes } from "./sizes.ts";
import { CHUNK_MAX, recordsIn } from "./sort.ts";
import { Turns } from "./turns.ts";

/** A hash of a bucket's key. */
export type KeyHash = (bucket: number, key: Uint8Array) => number;

/** Work of a step of making a hint: the clock is looked at behind each. */
const STEP_WORK = 512;

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
  readonly #clock: Clock;
  readonly #owner: LiveOwner;
  readonly #keydir: Keydir;
  readonly #hints: HintBuilder;
  /** Every segment that may hold keys; undefined for one whose order is its hint. */
  readonly #orders = new Map<Segment, SegmentOrder | undefined>();
  #storing = false;
  #sizes = new BucketSizes();
  /** What {@link LiveRecords.locate} has found, until anything else is sought. */
  found: Segment | undefined;
  foundAt = 0;
  /** Why there is none, though the key is there. */
  #damage: unknown;
  /** The segment that has the newest set record, and its order. */
  #reaching: Segment | undefined;
  #order: SegmentOrder | undefined;
  /** Somebody has asked for a listing. */
  #isListed = false;

  /** None yet. `hash` is replaced in tests that force false matches. */
  constructor(log: Log, clock: Clock, owner: LiveOwner, hash?: KeyHash) {
    this.#log = log;
    this.#clock = clock;
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

  /** How many keys each bucket has, and the bytes of their records. */
  get sizes(): BucketSizes {
    return this.#sizes;
  }

  /** Bytes of the keydir. */
  get keydirBytes(): number {
    return this.#keydir.bytes;
  }

  /** Bytes of the key order. */
  get orderBytes(): number {
    let bytes = 0;
    for (const [, source] of this.#sources()) bytes += source.orderBytes;
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

  /** True while the keydir points at the record at `address`. @throws {FirkinError} CORRUPT */
  isLive(address: number): boolean {
    const segment = this.#log.segmentIn(Math.floor(address / ADDRESS_UNIT));
    const offset = address >>> 0;
    if (segment === undefined || offset >= segment.tail) return false;
    const at = segment.seek(offset);
    return this.isLiveAt(segment.window, at, address);
  }

  /** True while the keydir points at the record at `address`, which stands at `at` in `bytes`. */
  isLiveAt(bytes: Uint8Array, at: number, address: number): boolean {
    return this.#keydir.pointsAt(this.hash(bucketAt(bytes, at), keyAt(bytes, at)), address);
  }

  /**
   * The record at `offset`, a change of the key with this hash, has become visible. Returns the address it replaced or
   * ended, or -1.
   */
  apply(segment: Segment, offset: number, hash: number): number {
    const at = segment.seek(offset);
    const { window } = segment;
    const bucket = bucketAt(window, at);
    const bytes = recordBytesAt(window, at);
    this.#storing = true;
    let before = -1;
    if (kindAt(window, at) === KIND.set) {
      const address = segment.slot * ADDRESS_UNIT + offset;
      // Of a new key nothing but the hash is needed.
      if (!this.#keydir.add(hash, address)) {
        before = this.#keydir.set(hash, bucket, keyAt(window, at), address);
      }
      this.#sizes.add(bucket, 1, bytes);
      this.#addToOrder(segment, offset);
    } else {
      before = this.#keydir.delete(hash, bucket, keyAt(window, at));
      segment.countTombstone(bytes, timeAt(window, at));
      this.#owner.noteDead(bytes, false);
    }
    this.#storing = false;
    if (before !== -1) this.#bury(before, bucket);
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

  /** See {@link LogOwner.makeHint}. */
  async makeHint(segment: Segment, turns: Turns): Promise<Hint> {
    return segment.sealed ? await this.#makeSealed(segment) : await this.#makeActive(segment, turns);
  }

  async #makeSealed(segment: Segment): Promise<Hint> {
    let hint: Hint | undefined;
    await this.#hints.make(segment, segment.bytes(0), (bytes, file) => {
      this.#settle(segment, bytes, file);
      hint = segment.hint ?? madeHint(bytes, undefined, this.#log.cache);
    });
    assert(hint !== undefined, "a segment stays while the log is opened");
    return hint;
  }

  /** What is written to the segment from here on is not in its hint, but finds its order made. */
  async #makeActive(segment: Segment, turns: Turns): Promise<Hint> {
    const steps = this.#hints.steps(segment.bytes(0), false);
    const hint = madeHint(await inTurns(steps, turns), undefined, this.#log.cache);
    this.#setOrder(segment, new SegmentOrder(segment, await inTurns(setsOf(hint), turns), segment.tail));
    return hint;
  }

  /** See {@link LogOwner.replay}. */
  async replay(hinted: readonly Hinted[], turns: Turns, read: (entries: number) => void): Promise<void> {
    let sources = hinted;
    while (!await this.#replay(sources, turns, read)) sources = await this.#mend(sources, turns);
  }

  /** False when a hint is damaged: nothing has happened then. */
  async #replay(hinted: readonly Hinted[], turns: Turns, read: (entries: number) => void): Promise<boolean> {
    for (const { segment, hint } of hinted) {
      const { time, ...figures } = hint.figures;
      Object.assign(segment, figures);
      segment.settled = segment.sealed;
      // One whose hint could not be written has its order.
      if (segment.hint !== undefined) this.#orders.set(segment, undefined);
      this.#log.timeMax = Math.max(this.#log.timeMax, time);
    }
    const noteDead = (segment: Segment, bytes: number): void => void (segment.deadBytes += bytes);
    const schedule = (deadline: number, address: number): void => this.#owner.schedule(deadline, address);
    let count = 0;
    const noteRead = (entries: number): void => {
      count += entries;
      read(entries);
    };
    const replay = new Replay(hinted, { noteDead, schedule, read: noteRead }, turns);
    try {
      await replay.read();
    } catch (error) {
      if (!hinted.some(({ hint }) => hint.damaged)) throw error;
      read(-count);
      return false;
    }
    for (const { segment } of hinted) this.#owner.noteDead(segment.deadBytes + segment.tombstoneBytes, false);
    await replay.finish(this.#keydir);
    this.#sizes = replay.sizes;
    return true;
  }

  /** Makes every damaged hint anew, from its segment, and keeps it in memory until it has been replayed. */
  async #mend(hinted: readonly Hinted[], turns: Turns): Promise<Hinted[]> {
    const mended: Hinted[] = [];
    for (const { segment, hint } of hinted) {
      if (!hint.damaged && hint.isSound()) {
        mended.push({ segment, hint });
      } else {
        await this.#hints.make(segment, this.#readSound(segment), (bytes, file) => {
          segment.dropHint();
          this.#settle(segment, bytes, file);
          mended.push({ segment, hint: madeHint(bytes, undefined, this.#log.cache) });
        });
      }
      await turns.pause();
    }
    return mended;
  }

  // --- hints ---

  /** See {@link LogOwner.sealed}. */
  sealed(segment: Segment): void {
    segment.settled = true;
    this.#index(segment, segment.bytes(0));
  }

  /** Makes the last hints. */
  async close(): Promise<void> {
    await this.#hints.close();
  }

  /** Lists a segment from its bytes until it has a hint. */
  #index(segment: Segment, bytes: Uint8Array): void {
    this.#orders.get(segment)?.readThrough(recordsIn(bytes));
    this.#hints.add(segment, bytes, (hint, file) => this.#settle(segment, hint, file));
  }

  /** A segment's hint has been made: lists the segment from it, or, when it has no file, from offsets in its order. */
  #settle(segment: Segment, bytes: Uint8Array, file: HintBytes | undefined): void {
    const hint = madeHint(bytes, file, this.#log.cache);
    if (file !== undefined) segment.hint = hint;
    this.#setOrder(segment, file === undefined ? new SegmentOrder(segment, finish(setsOf(hint))) : undefined);
    // Not before: the cache may use the memory for something else.
    segment.release();
  }

  /** Puts an order made of the segment's bytes in the place of each damaged hint. False when no hint is. */
  #replaceDamaged(): boolean {
    let some = false;
    for (const segment of this.#orders.keys()) {
      if (segment.hint?.damaged !== true) continue;
      some = true;
      const bytes = this.#readSound(segment);
      segment.dropHint();
      const order = new SegmentOrder(recordsIn(bytes));
      // Its last record is the seal.
      order.reach(segment.tail - SEAL_BYTES, Math.ceil(segment.tail / HEADER_BYTES));
      this.#setOrder(segment, order);
      this.#index(segment, bytes);
    }
    return some;
  }

  /** All bytes of a sealed segment, checked. @throws {FirkinError} CORRUPT */
  #readSound(segment: Segment): Uint8Array {
    const bytes = segment.read();
    const { end } = soundPart(bytes, segment.seed);
    if (end !== segment.tail) throw segment.corrupt(end);
    return bytes;
  }

  #setOrder(segment: Segment, order: SegmentOrder | undefined): void {
    this.#orders.set(segment, order);
    if (this.#reaching === segment) this.#reaching = undefined;
  }

  // --- listings ---

  /** True when a listing would have to sort more than a page is worth: {@link LiveRecords.sort} first. */
  get isUnsorted(): boolean {
    for (const order of this.#orders.values()) if (order !== undefined && order.unsorted > CHUNK_MAX) return true;
    return false;
  }

  /** Sorts what listings would have to, in slices. */
  async sort(): Promise<void> {
    const turns = new Turns(this.#clock);
    try {
      for (const [segment, order] of this.#orders) {
        // One that a hint has replaced meanwhile has no records any more.
        while (this.#orders.get(segment) === order && order?.sortSome()) {
          if (turns.isOver(CHUNK_MAX)) await turns.pause();
        }
      }
    } finally {
      turns.end();
    }
  }

  /**
   * The live records of a range, in key order. The store must not change while this runs.
   * @throws {FirkinError} CORRUPT
   */
  *list(range: KeyRange): Generator<Place, void> {
    this.#isListed = true;
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

  /** The record at this address, of a key of the bucket, lives no more. */
  #bury(address: number, bucket: number): void {
    const segment = this.#log.segmentOf(address);
    let bytes: number;
    let hadDeadline: boolean;
    try {
      const at = segment.seek(address >>> 0, true);
      bytes = recordBytesAt(segment.window, at);
      hadDeadline = (flagsAt(segment.window, at) & FLAG.deadline) !== 0;
    } catch {
      // What came after it is committed, whatever has become of it. Its length is unknown: one byte says that it is
      // there.
      segment.deadBytes++;
      this.#sizes.add(bucket, -1, 0);
      return;
    }
    segment.deadBytes += bytes;
    this.#sizes.add(bucket, -1, -bytes);
    this.#owner.noteDead(bytes, hadDeadline);
  }

  /** The set record at `offset` is visible. */
  #addToOrder(segment: Segment, offset: number): void {
    if (segment !== this.#reaching) {
      if (segment.hint !== undefined) return;
      this.#order = this.#orders.get(segment) ?? new SegmentOrder(segment);
      this.#orders.set(segment, this.#order);
      this.#reaching = segment;
    }
    const order = this.#order!;
    order.reach(offset, 1);
    // A store that is never listed sorts nothing.
    if (this.#isListed && order.unsorted >= CHUNK_MAX) order.sortSome();
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

function finish<Result>(steps: Generator<void, Result>): Result {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Takes steps that are worth a few hundred entries at least. */
async function inTurns<Result>(steps: Generator<void, Result>, turns: Turns): Promise<Result> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (turns.isOver(STEP_WORK)) await turns.pause();
  }
}
