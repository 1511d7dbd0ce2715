/**
 * Changes that wait to be committed, and the newest record of a key, theirs counted.
 *
 * A condition is judged in the order of the calls: against what is visible and what was appended since. So each change
 * leaves a note here until its group is committed or has failed. An answer that was judged by such a change waits with
 * it: a note without a record.
 *
 * Every set makes a note, so it is all that a set leaves behind beside its promise: one object, found by its hash
 * through a table of chains. What is settled is cut off a chain, not searched for: notes settle in the order they came.
 *
 * @module
 */
import type { FirkinError } from "../base/errors.ts";
import { ADDRESS_UNIT } from "./keydir.ts";
import type { LiveRecords } from "./live.ts";
import type { Log } from "./log.ts";
import { isKeyAt, KIND, kindAt } from "./record.ts";
import type { Segment } from "./segment.ts";

/** Chains at first, and again when nothing waits. */
const CHAINS_MIN = 1_024;

/** A change that waits to be committed, or (without a segment) an answer that waits for the changes before it. */
export class Note {
  /** Where its record stands. */
  readonly segment: Segment | undefined;
  readonly offset: number;
  readonly hash: number;
  readonly revision: number;
  /** What it is answered with; undefined: that a write with its revision has happened. */
  readonly answer: (() => unknown) | undefined;
  /** The next older note in its chain. */
  older: Note | undefined = undefined;
  settled = false;
  readonly #resolve: ((result: unknown) => void) | undefined;
  readonly #reject: ((error: FirkinError) => void) | undefined;

  /** Of the record at `offset`. Without `resolve`, another note answers for it. */
  constructor(
    segment: Segment | undefined,
    offset: number,
    hash: number,
    revision: number,
    resolve?: (result: never) => void,
    reject?: (error: FirkinError) => void,
    answer?: () => unknown,
  ) {
    this.segment = segment;
    this.offset = offset;
    this.hash = hash;
    this.revision = revision;
    this.answer = answer;
    this.#resolve = resolve as ((result: unknown) => void) | undefined;
    this.#reject = reject;
  }

  /** It is committed, and visible. */
  done(): void {
    if (this.#resolve === undefined) return;
    this.#resolve(this.answer === undefined ? { ok: true, revision: this.revision } : this.answer());
  }

  /** It did not happen, or nobody can say. */
  fail(error: FirkinError): void {
    this.#reject?.(error);
  }
}

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
  /** Chains of waiting changes by the low bits of their hash, newest first. */
  #chains: (Note | undefined)[] = createChains(CHAINS_MIN);
  /** Notes that wait. */
  #count = 0;
  /** The soonest deadline of a change that waits, or waited with them. */
  #soonest = Infinity;

  /** None yet. */
  constructor(log: Log, live: LiveRecords) {
    this.#log = log;
    this.#live = live;
  }

  /** Notes a change, whose deadline is `expiresAt`. */
  add(note: Note, expiresAt: number | undefined): void {
    if (this.#count === this.#chains.length) this.#grow();
    this.#count++;
    if (expiresAt !== undefined && expiresAt < this.#soonest) this.#soonest = expiresAt;
    this.#link(note);
  }

  /** A note's change is committed. */
  settle(note: Note): void {
    note.settled = true;
    note.older = undefined;
    const chain = note.hash & (this.#chains.length - 1);
    if (this.#chains[chain] === note) this.#chains[chain] = undefined;
    // After a failure of others it is none of those that are counted.
    if (this.#count > 0 && --this.#count === 0) this.clear();
  }

  /** Nothing waits any more: what waited is committed, or has failed. */
  clear(): void {
    this.#soonest = Infinity;
    if (this.#count > 0) this.#chains.fill(undefined);
    this.#count = 0;
    if (this.#chains.length > CHAINS_MIN) this.#chains = createChains(CHAINS_MIN);
  }

  /** No change that waits has a deadline before this. */
  get soonest(): number {
    return this.#soonest;
  }

  #link(note: Note): void {
    const chain = note.hash & (this.#chains.length - 1);
    note.older = this.#chains[chain];
    this.#chains[chain] = note;
  }

  #grow(): void {
    const before = this.#chains;
    this.#chains = createChains(before.length * 4);
    for (let note of before) {
      const waiting: Note[] = [];
      for (; note !== undefined && !note.settled; note = note.older) waiting.push(note);
      for (const other of waiting.reverse()) this.#link(other);
    }
  }

  /** The key's newest record if it is a set, waiting ones counted, due ones too. @throws {FirkinError} CORRUPT */
  newest(bucket: number, key: Uint8Array, hash: number): Found | undefined {
    let note = this.#chains[hash & (this.#chains.length - 1)];
    for (; note !== undefined && !note.settled; note = note.older) {
      if (note.hash !== hash) continue;
      const segment = note.segment!;
      const at = segment.seek(note.offset);
      if (!isKeyAt(segment.window, at, bucket, key)) continue;
      if (kindAt(segment.window, at) !== KIND.set) return undefined;
      return { segment, at, address: segment.slot * ADDRESS_UNIT + note.offset };
    }
    const address = this.#live.find(hash, bucket, key);
    return address === -1 ? undefined : this.found(address);
  }

  /** The record at `address`. @throws {FirkinError} CORRUPT */
  found(address: number): Found {
    const segment = this.#log.segmentOf(address);
    return { segment, at: segment.seek(address % ADDRESS_UNIT), address };
  }
}

function createChains(length: number): (Note | undefined)[] {
  // Every open makes one: `Array.from` would take twenty times as long.
  const chains: (Note | undefined)[] = [];
  chains.length = length;
  return chains.fill(undefined);
}
