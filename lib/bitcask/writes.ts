/**
 * Writes: what a change is judged by, and its record at the end of the log.
 *
 * 1. The key's newest record is found, those that wait counted, in the order of the calls. One that is due is expired
 *    on the way, so no expiry goes untold.
 * 2. When the condition holds the record is appended to the open group (`group.ts`) and listed (`pending.ts`).
 * 3. When it does not, nothing is written; the answer waits for what it was judged by, and fails with it.
 *
 * A batch is judged like its checks, one after the other, at one moment in time; then its records are appended in one
 * go.
 *
 * Everything up to the append happens before a call returns, so calls are judged in their order. Keys are checked by
 * the caller.
 *
 * @module
 */
import { toHex } from "../base/bytes.ts";
import { addToValue, CONTENT, type Content } from "../base/codec.ts";
import { compress } from "../base/compress.ts";
import { FirkinError } from "../base/errors.ts";
import type {
  AtomicResult,
  Deadline,
  DeleteOperation,
  DeleteOptions,
  Entry,
  Operation,
  SetEntry,
  SetOperation,
  SetOptions,
  WriteResult,
} from "../engine/engine.ts";
import type { GroupCommit } from "./group.ts";
import type { LiveRecords } from "./live.ts";
import type { Log } from "./log.ts";
import type { Found, PendingChanges } from "./pending.ts";
import {
  contentAt,
  copyValueAt,
  EMPTY,
  entryAt,
  expiresAtAt,
  FLAG,
  isOnceAt,
  KIND,
  type Kind,
  NO_CONTENT,
  type RecordFields,
  revisionAt,
  valueAt,
} from "./record.ts";

/** What writing asks of its owner. */
export interface WritesOwner {
  /** The store's time in epoch milliseconds, with fractions. */
  now(): number;
  /** False when no key is due, of those that wait to be committed neither. */
  mayBeDue(): boolean;
  /** The expire record of the set record at `address` could not be written. */
  expireLater(address: number): void;
}

/** A record to be, and the hash of its key. */
interface Change {
  readonly record: RecordFields;
  readonly hash: number;
}

/** A write that happened. */
interface Written {
  readonly ok: true;
  readonly revision: number;
}

/** Largest deadline that a record can hold, epoch milliseconds. */
const DEADLINE_MAX = 2 ** 48 - 1;

/** What writes to one log. */
export class Writes {
  readonly #log: Log;
  readonly #live: LiveRecords;
  readonly #pending: PendingChanges;
  readonly #group: GroupCommit;
  readonly #owner: WritesOwner;
  readonly #compressBytesMin: number;

  /** Writes to the end of `log` through `group`; values of `compressBytesMin` bytes or more are compressed. */
  constructor(
    log: Log,
    live: LiveRecords,
    pending: PendingChanges,
    group: GroupCommit,
    owner: WritesOwner,
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
    const known = this.#log.bucketNumber(bucket);
    if (known === undefined && !holds(options.ifRevision, undefined)) return this.#refuse(undefined);
    const expiresAt = this.#admitted(known, value, options.deadline);
    const number = known ?? this.#createBucket(bucket);
    const hash = this.#live.hash(number, key);
    if (options.ifRevision === undefined) {
      this.#expireDue(number, key, hash);
    } else {
      const current = this.#current(number, key, hash);
      if (!holds(options.ifRevision, current)) return this.#refuse(current);
    }
    return this.#write(this.#setRecord(number, key, value, expiresAt, options), hash);
  }

  /** See `Engine.setMany`. */
  async setMany(bucket: string, entries: readonly SetEntry[]): Promise<void> {
    const known = this.#log.bucketNumber(bucket);
    // Before anything is written: a deadline may be none.
    for (const { value, deadline } of entries) this.#admitted(known, value, deadline);
    if (entries.length === 0) return;
    const number = known ?? this.#createBucket(bucket);
    for (const entry of entries) {
      const hash = this.#live.hash(number, entry.key);
      this.#expireDue(number, entry.key, hash);
      const expiresAt = this.#admitted(number, entry.value, entry.deadline);
      const record = this.#setRecord(number, entry.key, entry.value, expiresAt, entry);
      this.#list(record, this.#group.append(record), hash);
    }
    // Groups are committed in order, and one that fails takes all behind it along: the last answers for all.
    await this.#group.committing;
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
    const options = { content: contentAt(window, at), once: isOnceAt(window, at) };
    return this.#write(this.#setRecord(number, key, valueAt(window, at), this.#expiresAt(deadline), options), hash);
  }

  /** See `Engine.increment`. */
  async increment(bucket: string, key: Uint8Array, by: number): Promise<{ value: number; revision: number }> {
    const number = this.#log.bucketNumber(bucket) ?? this.#createBucket(bucket);
    const hash = this.#live.hash(number, key);
    const current = this.#current(number, key, hash);
    let sum: number;
    let record: RecordFields;
    try {
      ({ sum, record } = this.#incremented(number, key, current, by));
    } catch (error) {
      // The value it was judged by may still be on its way: so is the error then.
      await this.#answer(() => {});
      throw error;
    }
    const { revision } = await this.#write(record, hash);
    return { value: sum, revision };
  }

  #incremented(
    bucket: number,
    key: Uint8Array,
    current: Found | undefined,
    by: number,
  ): { sum: number; record: RecordFields } {
    if (current !== undefined && isOnceAt(current.segment.window, current.at)) {
      throw new FirkinError("INVALID", "Cannot increment a single-read key: its sum would show its value");
    }
    const content = current === undefined ? CONTENT.cbor : contentAt(current.segment.window, current.at);
    const before = current === undefined ? undefined : valueAt(current.segment.window, current.at);
    const { sum, bytes } = addToValue(before, content, by);
    const given = this.#admitted(bucket, bytes, undefined);
    const expiresAt = current === undefined ? given : expiresAtAt(current.segment.window, current.at);
    return { sum, record: this.#setRecord(bucket, key, bytes, expiresAt, { content }) };
  }

  /** See `Engine.take`. */
  take(bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    return this.#take(bucket, key, false);
  }

  /** Takes a key that is single-read, or reads what a change that waits has made of it. */
  takeOnce(bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    return this.#take(bucket, key, true);
  }

  async #take(bucket: string, key: Uint8Array, onlyOnce: boolean): Promise<Entry | undefined> {
    const { number, hash, current } = this.#locate(bucket, key);
    if (current === undefined) return await this.#answer(() => undefined);
    const { segment: { window }, at } = current;
    const hidden = entryAt(window, at);
    if (hidden.once === undefined && onlyOnce) return await this.#answer(() => hidden);
    const entry = hidden.once === undefined ? hidden : { ...hidden, value: copyValueAt(window, at) };
    await this.#write(tombstone(KIND.take, number, key), hash);
    return entry;
  }

  /** See `Engine.atomic`. */
  async atomic(operations: readonly Operation[]): Promise<AtomicResult> {
    // A key that is alive when it is checked must not be due when it is written.
    const now = this.#owner.now();
    for (const [index, operation] of operations.entries()) {
      if (operation.type !== "check") continue;
      const { current } = this.#locate(operation.bucket, operation.key, now);
      if (holds(operation.revision, current)) continue;
      const entry = current && entryAt(current.segment.window, current.at);
      return await this.#answer(() => ({ ok: false, index, current: entry }));
    }
    const changes: Change[] = [];
    for (const operation of lastWrites(operations)) {
      const change = this.#change(operation, now);
      if (change !== undefined) changes.push(change);
    }
    if (changes.length === 0) return await this.#answer(() => ({ ok: true, revision: this.#group.committed }));
    return await this.#writeBatch(changes);
  }

  /** What an operation of a batch writes; undefined when there is nothing to delete. */
  #change(operation: SetOperation | DeleteOperation, now: number): Change | undefined {
    const { bucket, key } = operation;
    if (operation.type === "delete") {
      const { number, hash, current } = this.#locate(bucket, key, now);
      return current && { record: tombstone(KIND.delete, number, key), hash };
    }
    const known = this.#log.bucketNumber(bucket);
    const expiresAt = this.#admitted(known, operation.value, operation.deadline, now);
    const number = known ?? this.#createBucket(bucket);
    const hash = this.#live.hash(number, key);
    this.#expireDue(number, key, hash, now);
    return { record: this.#setRecord(number, key, operation.value, expiresAt, operation), hash };
  }

  /** Writes that a key's deadline has come: that of the set record at `address`. */
  expire(address: number, bucket: number, key: Uint8Array, hash: number): void {
    this.#write(tombstone(KIND.expire, bucket, key), hash).catch(() => this.#owner.expireLater(address));
  }

  // --- what a write is judged by ---

  /**
   * A name is for ever: one is given only to a set that is taken. @throws {FirkinError} TOO_LARGE, FULL, or poisoned
   */
  #createBucket(name: string): number {
    this.#group.admit(KIND.set);
    return this.#log.createBucket(name);
  }

  #locate(
    bucket: string,
    key: Uint8Array,
    now: number = this.#owner.now(),
  ): { number: number; hash: number; current: Found | undefined } {
    const number = this.#log.bucketNumber(bucket);
    if (number === undefined) return { number: 0, hash: 0, current: undefined };
    const hash = this.#live.hash(number, key);
    return { number, hash, current: this.#current(number, key, hash, now) };
  }

  /**
   * A key is written whatever it was: it is expired on the way if it is due, which is all that its record is looked at
   * for. A damaged one counts as none, since it will be replaced whatever it says.
   */
  #expireDue(bucket: number, key: Uint8Array, hash: number, now?: number): void {
    if (!this.#owner.mayBeDue()) return;
    try {
      this.#current(bucket, key, hash, now);
    } catch (error) {
      if (!(error instanceof FirkinError && error.code === "CORRUPT")) throw error;
    }
  }

  /** A key's newest set record, waiting ones counted, unless it is deleted or due: then it is expired on the way. */
  #current(bucket: number, key: Uint8Array, hash: number, now: number = this.#owner.now()): Found | undefined {
    const found = this.#pending.newest(bucket, key, hash);
    if (found === undefined) return undefined;
    const expiresAt = expiresAtAt(found.segment.window, found.at);
    if (expiresAt === undefined || expiresAt > now) return found;
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
    return this.#group.committing?.then(answer) ?? Promise.resolve(answer());
  }

  /**
   * When a value ends that is set in a bucket, by its settings when nothing else is said.
   * @throws {FirkinError} TOO_LARGE — the bucket takes no such value; INVALID — the deadline is none
   */
  #admitted(
    bucket: number | undefined,
    value: Uint8Array,
    deadline: Deadline | undefined,
    now?: number,
  ): number | undefined {
    if (bucket === undefined) return this.#expiresAt(deadline, now);
    const { ttl, valueBytesMax = Infinity } = this.#log.settingsOf(bucket);
    if (value.length > valueBytesMax) {
      const where = `bucket "${this.#log.bucketName(bucket)}"`;
      throw new FirkinError("TOO_LARGE", `Cannot set ${value.length} bytes: ${where} takes ${valueBytesMax} at most`);
    }
    return this.#expiresAt(deadline ?? (ttl === undefined ? undefined : { ttl }), now);
  }

  #expiresAt(deadline: Deadline | undefined, now?: number): number | undefined {
    if (deadline === undefined) return undefined;
    const expiresAt = "ttl" in deadline ? Math.ceil((now ?? this.#owner.now()) + deadline.ttl) : deadline.expiresAt;
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
    expiresAt: number | undefined,
    { content, once }: { readonly content: Content; readonly once?: boolean },
  ): RecordFields {
    const isLong = value.length >= this.#compressBytesMin && this.#log.settingsOf(bucket).compression !== false;
    const packed = isLong ? compress(value) : undefined;
    return {
      kind: KIND.set,
      bucket,
      revision: 0,
      at: 0,
      key,
      value: packed ?? value,
      content,
      expiresAt,
      rawBytes: packed === undefined ? undefined : value.length,
      flags: once === true ? FLAG.once : 0,
    };
  }

  #write(record: RecordFields, hash: number): Promise<Written> {
    try {
      this.#list(record, this.#group.append(record), hash);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#written(record.revision);
  }

  async #writeBatch(changes: readonly Change[]): Promise<Written> {
    const offsets = this.#group.appendBatch(changes.map(({ record }) => record));
    for (const [index, { record, hash }] of changes.entries()) this.#list(record, offsets[index]!, hash);
    return await this.#written(changes[changes.length - 1]!.record.revision);
  }

  /** Lists the record that was just appended among the changes that wait. */
  #list(record: RecordFields, offset: number, hash: number): void {
    this.#pending.add(this.#log.active!, offset, hash, record.expiresAt);
  }

  /** Answers for all that was appended up to now. A set leaves no more behind than what this makes. */
  #written(revision: number): Promise<Written> {
    return this.#group.committing!.then(() => ({ ok: true, revision }));
  }
}

// --- helpers ---

function tombstone(kind: Kind, bucket: number, key: Uint8Array): RecordFields {
  return {
    kind,
    bucket,
    revision: 0,
    at: 0,
    key,
    value: EMPTY,
    content: NO_CONTENT,
    expiresAt: undefined,
    rawBytes: undefined,
    flags: 0,
  };
}

/** The writes of a batch in order; of several to one key only the last. */
function lastWrites(operations: readonly Operation[]): Iterable<SetOperation | DeleteOperation> {
  const writes = new Map<string, SetOperation | DeleteOperation>();
  for (const operation of operations) {
    if (operation.type === "check") continue;
    const name = `${operation.bucket}/${toHex(operation.key)}`;
    writes.delete(name);
    writes.set(name, operation);
  }
  return writes.values();
}

/** True when a write that wants `ifRevision` may go on. */
function holds(ifRevision: number | undefined, current: Found | undefined): boolean {
  if (ifRevision === undefined) return true;
  return ifRevision === (current === undefined ? 0 : revisionAt(current.segment.window, current.at));
}
