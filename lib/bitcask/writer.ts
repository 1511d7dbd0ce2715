/**
 * The writer: what a change is judged by, and its record at the end of the log.
 *
 * 1. The key's newest record is found, those that wait counted, in the order of the calls. One that is due is expired
 *    on the way, so no expiry goes untold.
 * 2. When the condition holds the record is appended to the open group (`group.ts`) and noted (`pending.ts`).
 * 3. When it does not, nothing is written; the answer waits for what it was judged by, and fails with it.
 *
 * Everything up to the append happens before a call returns, so calls are judged in their order. Keys are checked by
 * the caller.
 *
 * @module
 */
import { addToValue, CONTENT, type Content } from "../base/codec.ts";
import { compress } from "../base/compress.ts";
import { FirkinError } from "../base/errors.ts";
import type { Deadline, DeleteOptions, SetOptions, WriteResult } from "../engine/engine.ts";
import type { GroupCommit, NewRecord } from "./group.ts";
import type { LiveRecords } from "./live.ts";
import type { Log } from "./log.ts";
import { answerNote, type Found, type Note, type PendingChanges } from "./pending.ts";
import { contentAt, EMPTY, entryAt, expiresAtAt, KIND, type Kind, NO_CONTENT, revisionAt, valueAt } from "./record.ts";

/** What the writer asks of its owner. */
export interface WriterOwner {
  /** The store's time in epoch milliseconds, with fractions. */
  now(): number;
  /** The expire record of the set record at `address` could not be written. */
  expireLater(address: number): void;
}

/** A write that happened. */
interface Written {
  readonly ok: true;
  readonly revision: number;
}

/** Largest deadline that a record can hold, epoch milliseconds. */
const DEADLINE_MAX = 2 ** 48 - 1;

/** Writes of one log. */
export class Writer {
  readonly #log: Log;
  readonly #live: LiveRecords;
  readonly #pending: PendingChanges;
  readonly #group: GroupCommit<Note>;
  readonly #owner: WriterOwner;
  readonly #compressBytesMin: number;

  /** Writes to the end of `log` through `group`; values of `compressBytesMin` bytes or more are compressed. */
  constructor(
    log: Log,
    live: LiveRecords,
    pending: PendingChanges,
    group: GroupCommit<Note>,
    owner: WriterOwner,
    compressBytesMin: number,
  ) {
    this.#log = log;
    this.#live = live;
    this.#pending = pending;
    this.#group = group;
    this.#owner = owner;
    this.#compressBytesMin = compressBytesMin;
  }

  // --- operations ---

  /** See `Engine.set`. */
  set(bucket: string, key: Uint8Array, value: Uint8Array, options: SetOptions): Promise<WriteResult> {
    const number = this.#log.bucketNumber(bucket) ?? this.#log.createBucket(bucket);
    const hash = this.#live.hash(number, key);
    const current = this.#current(number, key, hash, options.ifRevision === undefined);
    if (!holds(options.ifRevision, current)) return this.#refuse(current);
    const expiresAt = this.#expiresAt(options.deadline);
    return this.#write(this.#setRecord(number, key, value, options.content, expiresAt), hash);
  }

  /** See `Engine.delete`. */
  delete(bucket: string, key: Uint8Array, options: DeleteOptions): Promise<WriteResult> {
    const { number, hash, current } = this.#locate(bucket, key);
    if (current === undefined || !holds(options.ifRevision, current)) return this.#refuse(current);
    return this.#write(tombstone(KIND.delete, number, key), hash);
  }

  /** See `Engine.touch`. */
  touch(bucket: string, key: Uint8Array, deadline: Deadline | undefined): Promise<WriteResult> {
    const { number, hash, current } = this.#locate(bucket, key);
    if (current === undefined) return this.#refuse(current);
    const { segment: { window }, at } = current;
    const content = contentAt(window, at);
    return this.#write(this.#setRecord(number, key, valueAt(window, at), content, this.#expiresAt(deadline)), hash);
  }

  /** See `Engine.increment`. */
  async increment(bucket: string, key: Uint8Array, by: number): Promise<{ value: number; revision: number }> {
    const number = this.#log.bucketNumber(bucket) ?? this.#log.createBucket(bucket);
    const hash = this.#live.hash(number, key);
    const current = this.#current(number, key, hash);
    const content = current === undefined ? CONTENT.cbor : contentAt(current.segment.window, current.at);
    const expiresAt = current === undefined ? undefined : expiresAtAt(current.segment.window, current.at);
    const before = current === undefined ? undefined : valueAt(current.segment.window, current.at);
    const { sum, bytes } = addToValue(before, content, by);
    const { revision } = await this.#write(this.#setRecord(number, key, bytes, content, expiresAt), hash);
    return { value: sum, revision };
  }

  /** Writes that a key's deadline has come: that of the set record at `address`. */
  expire(address: number, bucket: number, key: Uint8Array, hash: number): void {
    this.#write(tombstone(KIND.expire, bucket, key), hash).catch(() => this.#owner.expireLater(address));
  }

  // --- what a write is judged by ---

  #locate(bucket: string, key: Uint8Array): { number: number; hash: number; current: Found | undefined } {
    const number = this.#log.bucketNumber(bucket);
    if (number === undefined) return { number: 0, hash: 0, current: undefined };
    const hash = this.#live.hash(number, key);
    return { number, hash, current: this.#current(number, key, hash) };
  }

  /**
   * The key's newest set record, waiting ones counted, unless it is deleted or due. A due key is expired on the way.
   * `overDamage`: a damaged record counts as none, since it will be replaced whatever it says.
   */
  #current(bucket: number, key: Uint8Array, hash: number, overDamage = false): Found | undefined {
    let found: Found | undefined;
    try {
      found = this.#pending.newest(bucket, key, hash);
    } catch (error) {
      if (!overDamage || !(error instanceof FirkinError && error.code === "CORRUPT")) throw error;
    }
    if (found === undefined) return undefined;
    const expiresAt = expiresAtAt(found.segment.window, found.at);
    if (expiresAt === undefined || expiresAt > this.#owner.now()) return found;
    this.expire(found.address, bucket, key, hash);
    return undefined;
  }

  /** A condition that did not hold. */
  #refuse(current: Found | undefined): Promise<WriteResult> {
    const entry = current === undefined ? undefined : entryAt(current.segment.window, current.at);
    return this.#answer(() => ({ ok: false, current: entry }));
  }

  /** An answer that writes nothing. What it was judged by may still wait to be committed: so does the answer. */
  #answer<Answer>(answer: () => Answer): Promise<Answer> {
    if (!this.#group.busy) return Promise.resolve(answer());
    return new Promise((resolve, reject) => {
      this.#group.enqueue(answerNote(() => resolve(answer()), reject));
    });
  }

  #expiresAt(deadline: Deadline | undefined): number | undefined {
    if (deadline === undefined) return undefined;
    const expiresAt = "ttl" in deadline ? Math.ceil(this.#owner.now() + deadline.ttl) : deadline.expiresAt;
    if (!Number.isInteger(expiresAt) || expiresAt < 0 || expiresAt > DEADLINE_MAX) {
      throw new FirkinError("INVALID", `Cannot expire at ${expiresAt}: expected whole milliseconds since 1970`);
    }
    return expiresAt;
  }

  // --- records ---

  /** A set record, compressed when that is worth it. */
  #setRecord(
    bucket: number,
    key: Uint8Array,
    value: Uint8Array,
    content: Content,
    expiresAt: number | undefined,
  ): NewRecord {
    const packed = value.length >= this.#compressBytesMin ? compress(value) : undefined;
    const rawBytes = packed === undefined ? undefined : value.length;
    return { kind: KIND.set, bucket, key, value: packed ?? value, content, expiresAt, rawBytes, flags: undefined };
  }

  #write(record: NewRecord, hash: number): Promise<Written> {
    return new Promise((resolve, reject) => {
      const address = this.#group.append(record);
      const { revision } = this.#log;
      this.#group.enqueue(this.#pending.add(address, hash, () => resolve({ ok: true, revision }), reject));
    });
  }
}

// --- helpers ---

function tombstone(kind: Kind, bucket: number, key: Uint8Array): NewRecord {
  return {
    kind,
    bucket,
    key,
    value: EMPTY,
    content: NO_CONTENT,
    expiresAt: undefined,
    rawBytes: undefined,
    flags: undefined,
  };
}

/** True when a write that wants `ifRevision` may go on. */
function holds(ifRevision: number | undefined, current: Found | undefined): boolean {
  if (ifRevision === undefined) return true;
  return ifRevision === (current === undefined ? 0 : revisionAt(current.segment.window, current.at));
}
