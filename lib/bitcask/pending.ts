/**
 * Changes that wait to be committed, and the newest record of a key, theirs counted.
 *
 * A condition is judged in the order of the calls: against what is visible and what was appended since. So each change
 * leaves a note here until its group is committed or has failed. An answer that was judged by such a change waits with
 * it: a note without a record.
 *
 * @module
 */
import type { FirkinError } from "../base/errors.ts";
import { ADDRESS_UNIT } from "./keydir.ts";
import type { LiveRecords } from "./live.ts";
import type { Log } from "./log.ts";
import { isKeyAt, KIND, kindAt } from "./record.ts";
import type { Segment } from "./segment.ts";

/** A change that waits to be committed, or (address -1) an answer that waits for the changes before it. */
export interface Note {
  readonly address: number;
  readonly hash: number;
  /** The waiting change before this one whose key has the same hash. */
  older: Note | undefined;
  settled: boolean;
  readonly done: () => void;
  readonly fail: (error: FirkinError) => void;
}

/** A record, found in the window of its segment: read it before the next one is sought. */
export interface Found {
  readonly segment: Segment;
  readonly at: number;
  readonly address: number;
}

/** A note that waits for the changes before it and is none itself. */
export function answerNote(done: () => void, fail: (error: FirkinError) => void): Note {
  return { address: -1, hash: 0, older: undefined, settled: false, done, fail };
}

/** The changes of a log that wait. */
export class PendingChanges {
  readonly #log: Log;
  readonly #live: LiveRecords;
  /** The newest waiting change by hash of its key. */
  readonly #notes = new Map<number, Note>();

  /** None yet. */
  constructor(log: Log, live: LiveRecords) {
    this.#log = log;
    this.#live = live;
  }

  /** Notes the change whose record stands at `address`. */
  add(address: number, hash: number, done: () => void, fail: (error: FirkinError) => void): Note {
    const note: Note = { address, hash, older: this.#notes.get(hash), settled: false, done, fail };
    this.#notes.set(hash, note);
    return note;
  }

  /** A note's change is committed. */
  settle(note: Note): void {
    note.settled = true;
    note.older = undefined;
    if (this.#notes.get(note.hash) === note) this.#notes.delete(note.hash);
  }

  /** Nothing waits any more: what waited has failed. */
  clear(): void {
    this.#notes.clear();
  }

  /** The key's newest record if it is a set, waiting ones counted, due ones too. @throws {FirkinError} CORRUPT */
  newest(bucket: number, key: Uint8Array, hash: number): Found | undefined {
    for (let note = this.#notes.get(hash); note !== undefined && !note.settled; note = note.older) {
      const found = this.found(note.address);
      if (!isKeyAt(found.segment.window, found.at, bucket, key)) continue;
      return kindAt(found.segment.window, found.at) === KIND.set ? found : undefined;
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
