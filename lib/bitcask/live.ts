/**
 * Which records live: the keydir, the key order, and how much of each segment is dead.
 *
 * A record lives while the keydir points at it. This file is the only one that changes the keydir, and keeps the rest
 * in step: an overwritten or deleted record counts as dead in its segment, a new one joins its segment's order, a
 * copied one takes the place of its original.
 *
 * @module
 */
import { hashKey } from "../base/bytes.ts";
import { ADDRESS_UNIT, Keydir } from "./keydir.ts";
import type { Log } from "./log.ts";
import { type KeyRange, listInOrder, type Place, SegmentOrder } from "./order.ts";
import { bucketAt, FLAG, flagsAt, isKeyAt, keyAt, KIND, kindAt, recordBytesAt, timeAt } from "./record.ts";
import type { Segment } from "./segment.ts";

/** A hash of a bucket's key. */
export type KeyHash = (bucket: number, key: Uint8Array) => number;

/** The live records of a log. */
export class LiveRecords {
  readonly hash: KeyHash;
  readonly #log: Log;
  readonly #keydir: Keydir;
  readonly #orders = new Map<Segment, SegmentOrder>();
  readonly #noteDead: (bytes: number, hadDeadline: boolean) => void;
  #storing = false;

  /**
   * None yet. `hash` is replaced in tests that force false matches; `noteDead` is told the length of each record that
   * has died, and whether it had a deadline.
   */
  constructor(log: Log, hash: KeyHash | undefined, noteDead: (bytes: number, hadDeadline: boolean) => void) {
    this.#log = log;
    this.hash = hash ?? ((bucket, key) => hashKey(log.hashSeed, bucket, key));
    this.#noteDead = noteDead;
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
    for (const order of this.#orders.values()) bytes += order.bytes;
    return bytes;
  }

  /** The address of a key's newest record, -1 when there is none. @throws {FirkinError} CORRUPT */
  find(hash: number, bucket: number, key: Uint8Array): number {
    return this.#keydir.get(hash, bucket, key);
  }

  /** True while the keydir points at the record at `address`. */
  isLive(address: number): boolean {
    const segment = this.#log.segmentIn(Math.floor(address / ADDRESS_UNIT));
    const offset = address % ADDRESS_UNIT;
    if (segment === undefined || offset >= segment.tail) return false;
    const at = segment.seek(offset);
    const bucket = bucketAt(segment.window, at);
    const key = keyAt(segment.window, at);
    return this.#keydir.get(this.hash(bucket, key), bucket, key) === address;
  }

  /** The record at `offset`, a change of a key, has become visible. Returns the address it replaced or ended, or -1. */
  apply(segment: Segment, offset: number): number {
    const at = segment.seek(offset);
    const { window } = segment;
    const bucket = bucketAt(window, at);
    const key = keyAt(window, at);
    const hash = this.hash(bucket, key);
    this.#storing = true;
    let before: number;
    if (kindAt(window, at) === KIND.set) {
      before = this.#keydir.set(hash, bucket, key, segment.slot * ADDRESS_UNIT + offset);
      this.#order(segment).add(offset);
    } else {
      before = this.#keydir.delete(hash, bucket, key);
      const bytes = recordBytesAt(window, at);
      segment.countTombstone(bytes, timeAt(window, at));
      this.#noteDead(bytes, false);
    }
    this.#storing = false;
    if (before !== -1) this.#bury(before);
    return before;
  }

  /** The record at `before` has a copy: point at it. False when the key has moved on. */
  move(before: number, segment: Segment, offset: number): boolean {
    const at = segment.seek(offset);
    const hash = this.hash(bucketAt(segment.window, at), keyAt(segment.window, at));
    this.#order(segment).add(offset);
    const after = segment.slot * ADDRESS_UNIT + offset;
    const moved = this.#keydir.move(hash, before, after);
    if (!moved) segment.deadBytes += recordBytesAt(segment.window, at);
    return moved;
  }

  /** The live records of a range, in key order. The store must not change while this runs. */
  *list(range: KeyRange): Generator<Place, void> {
    for (const segment of this.#orders.keys()) {
      if (segment.gone) this.#orders.delete(segment);
    }
    for (const place of listInOrder(this.#orders, range)) {
      if (this.isLive(place.segment.slot * ADDRESS_UNIT + place.offset)) yield place;
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
      // What came after it is committed, whatever has become of it.
      return;
    }
    segment.deadBytes += bytes;
    this.#noteDead(bytes, hadDeadline);
  }

  #order(segment: Segment): SegmentOrder {
    let order = this.#orders.get(segment);
    if (order === undefined) this.#orders.set(segment, order = new SegmentOrder(segment));
    return order;
  }

  #isKey(slot: number, offset: number, bucket: number, key: Uint8Array): boolean {
    const segment = this.#log.segmentIn(slot)!;
    let at: number;
    try {
      at = segment.seek(offset);
    } catch (error) {
      // What is stored is committed and must not fail over a record that cannot be read: 32 bits of its hash are equal,
      // so it is taken for the key's own, and the damage is gone with it.
      if (this.#storing) return true;
      throw error;
    }
    return isKeyAt(segment.window, at, bucket, key);
  }
}
