/**
 * Changes that wait to be committed, and the newest record of a key, theirs counted.
 *
 * A condition is judged in the order of the calls: against what is visible and what was appended since. So each change
 * is listed here until its group is committed or has failed.
 *
 * Every set comes through here, so a change costs four numbers and no object: they stand in a ring, in the order of the
 * log, and those whose hashes have the same low bits form a chain, newest first. Changes are committed oldest first and
 * fail newest first, so both ends of the ring move and nothing is ever searched for: a chain ends where it leaves it.
 *
 * @module
 */
import { ADDRESS_UNIT } from "./keydir.ts";
import type { LiveRecords } from "./live.ts";
import type { Log } from "./log.ts";
import { isKeyAt, KIND, kindAt } from "./record.ts";
import type { Segment } from "./segment.ts";

/** Room at first, and how much of it stays when nothing waits. Powers of two. */
const ROOM_MIN = 64;
const ROOM_KEPT = 1_024;

/** A change in the ring is [hash, slot of its segment, offset]. */
const WORDS = 3;

/** A record, found in the window of its segment: read it before the next one is sought. */
export interface Found {
  readonly segment: Segment;
  readonly at: number;
  readonly address: number;
}

/** The changes of a log that wait. */
export class PendingChanges {
  readonly #log: Log;
  readonly #live: LiveRecords;
  /** Changes are numbered, from 1, as long as the store is open: these wait, up to `#next`. */
  #first = 1;
  #next = 1;
  /** What each change is, at the place that the low bits of its number give. */
  #words = new Uint32Array(ROOM_MIN * WORDS);
  /** The number of the next older one in its chain. */
  #older = new Float64Array(ROOM_MIN);
  /** The newest of each chain, which the low bits of a hash give. One that no longer waits is below `#first`. */
  #chains = new Float64Array(ROOM_MIN);
  /** The soonest deadline of a change that waits, or waited with them. */
  #soonest = Infinity;

  /** None yet. */
  constructor(log: Log, live: LiveRecords) {
    this.#log = log;
    this.#live = live;
  }

  /** Lists a change behind the others, whose deadline is `expiresAt`. */
  add(segment: Segment, offset: number, hash: number, expiresAt: number | undefined): void {
    if (this.#next - this.#first === this.#older.length) this.#resize(this.#older.length * 4);
    if (expiresAt !== undefined && expiresAt < this.#soonest) this.#soonest = expiresAt;
    const place = this.#placeOf(this.#next) * WORDS;
    this.#words[place] = hash;
    this.#words[place + 1] = segment.slot;
    this.#words[place + 2] = offset;
    this.#link(this.#next++, hash);
  }

  /** The oldest `count` are committed: each is handed over, with its hash, when it does not wait any more. */
  commit(count: number, apply: (segment: Segment, offset: number, hash: number) => void): void {
    for (const end = this.#first + count; this.#first < end;) {
      const place = this.#placeOf(this.#first++) * WORDS;
      const words = this.#words;
      apply(this.#log.segmentIn(words[place + 1]!)!, words[place + 2]!, words[place]!);
    }
    this.#settle();
  }

  /** The newest `count` have failed. */
  drop(count: number): void {
    for (const end = this.#next - count; this.#next > end;) {
      const place = this.#placeOf(--this.#next);
      this.#chains[this.#chainOf(this.#words[place * WORDS]!)] = this.#older[place]!;
    }
    this.#settle();
  }

  /** When nothing waits, what was only for those that did goes. */
  #settle(): void {
    if (this.#first !== this.#next) return;
    this.#soonest = Infinity;
    if (this.#older.length > ROOM_KEPT) this.#resize(ROOM_KEPT);
  }

  /** No change that waits has a deadline before this. */
  get soonest(): number {
    return this.#soonest;
  }

  #placeOf(change: number): number {
    return change & (this.#older.length - 1);
  }

  #chainOf(hash: number): number {
    return hash & (this.#chains.length - 1);
  }

  #link(change: number, hash: number): void {
    const chain = this.#chainOf(hash);
    this.#older[this.#placeOf(change)] = this.#chains[chain]!;
    this.#chains[chain] = change;
  }

  #resize(room: number): void {
    const words = this.#words;
    const before = this.#older.length;
    this.#words = new Uint32Array(room * WORDS);
    this.#older = new Float64Array(room);
    this.#chains = new Float64Array(room);
    for (let change = this.#first; change < this.#next; change++) {
      const from = (change & (before - 1)) * WORDS;
      this.#words.set(words.subarray(from, from + WORDS), this.#placeOf(change) * WORDS);
      this.#link(change, words[from]!);
    }
  }

  /** The key's newest record if it is a set, waiting ones counted, due ones too. @throws {FirkinError} CORRUPT */
  newest(bucket: number, key: Uint8Array, hash: number): Found | undefined {
    let change = this.#chains[this.#chainOf(hash)]!;
    for (; change >= this.#first; change = this.#older[this.#placeOf(change)]!) {
      const place = this.#placeOf(change) * WORDS;
      if (this.#words[place] !== hash) continue;
      const segment = this.#log.segmentIn(this.#words[place + 1]!)!;
      const offset = this.#words[place + 2]!;
      const at = segment.seek(offset);
      if (!isKeyAt(segment.window, at, bucket, key)) continue;
      if (kindAt(segment.window, at) !== KIND.set) return undefined;
      return { segment, at, address: segment.slot * ADDRESS_UNIT + offset };
    }
    const address = this.#live.find(hash, bucket, key);
    return address === -1 ? undefined : this.found(address);
  }

  /** The record at `address`. @throws {FirkinError} CORRUPT */
  found(address: number): Found {
    const segment = this.#log.segmentOf(address);
    return { segment, at: segment.seek(address >>> 0), address };
  }
}
