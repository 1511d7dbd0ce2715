/**
 * The seam between what users hold and what keeps their data: bytes in, bytes out.
 *
 * The embedded store and the client of a server each implement {@link Engine}; `Store` and `Bucket` stand on
 * it and never know which. One suite (`test/suites/engine.ts`) runs on every engine. An engine says what it can
 * do in `capabilities`, so that nobody learns it from a failure.
 *
 * Buffers: keys and values passed in are borrowed until the call returns. Keys and values handed out are the caller's.
 *
 * @module
 */
import type { Content } from "../base/codec.ts";
import { FirkinError } from "../base/errors.ts";
import type { Histogram } from "../base/histogram.ts";
import type { BucketSettings, SettingsCondition } from "./settings.ts";

/** A page of a listing carries at most this many entries, and about this many bytes. */
export const PAGE_ENTRIES_MAX = 1_000;
export const PAGE_BYTES_MAX: number = 1024 * 1024;

const BUCKET_NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/;

/** True when `name` may name a bucket. */
export function isBucketName(name: string): boolean {
  return BUCKET_NAME.test(name);
}

/** What an engine can do beyond the common calls. */
export interface EngineCapabilities {
  /** `getSync` is there. */
  readonly sync: boolean;
  /** `snapshot` is there. */
  readonly snapshot: boolean;
}

/** The largest key, value and batch that an engine takes. */
export interface EngineLimits {
  readonly keyBytesMax: number;
  readonly valueBytesMax: number;
  /** Operations of one batch. */
  readonly batchOperationsMax: number;
  /** Bytes of the keys and values of one batch. */
  readonly batchBytesMax: number;
}

/** A live key as it is stored. */
export interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly content: Content;
  readonly revision: number;
  /** Epoch milliseconds; absent when the key does not expire. */
  readonly expiresAt?: number;
  /** The key is single-read: `value` is empty unless the call that returns this entry has taken the key. */
  readonly once?: true;
}

/**
 * Looks at an entry where the engine has it: its value stands in `bytes` from `start` to `end` until the call returns,
 * and must not be written to. Of a single-read key (`once`) nothing is shown: `start` is `end`. `expiresAt` is NaN when
 * the key does not expire.
 */
export type ValueReader<Result> = (
  bytes: Uint8Array,
  start: number,
  end: number,
  content: Content,
  once: boolean,
  revision: number,
  expiresAt: number,
) => Result;

/** When a key ends: `ttl` milliseconds from when the engine takes the write, or at `expiresAt` (epoch ms). */
export type Deadline = { readonly ttl: number } | { readonly expiresAt: number };

/** Options of {@link Engine.set}. */
export interface SetOptions {
  readonly content: Content;
  /** Absent: the key does not expire, whatever it did before. */
  readonly deadline?: Deadline;
  /** The revision the key must have; 0 means that it must not exist. */
  readonly ifRevision?: number;
  /** Makes the key single-read: the first `get` takes it. */
  readonly once?: boolean;
}

/** One key of {@link Engine.setMany}. */
export interface SetEntry extends Omit<SetOptions, "ifRevision"> {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Options of {@link Engine.delete}. */
export interface DeleteOptions {
  readonly ifRevision?: number;
}

/** A write that happened, or the entry that stood in its way (undefined when there is none). */
export type WriteResult =
  | { readonly ok: true; readonly revision: number }
  | { readonly ok: false; readonly current: Entry | undefined };

/** Goes on only if the key has this revision; 0 means that it must not exist. */
export interface CheckOperation {
  readonly type: "check";
  readonly bucket: string;
  readonly key: Uint8Array;
  readonly revision: number;
}

/** As {@link Engine.set}, without a condition of its own. */
export interface SetOperation extends SetEntry {
  readonly type: "set";
  readonly bucket: string;
}

/** As {@link Engine.delete}; a key that does not exist is no failure. */
export interface DeleteOperation {
  readonly type: "delete";
  readonly bucket: string;
  readonly key: Uint8Array;
}

/** One operation of a batch. */
export type Operation = CheckOperation | SetOperation | DeleteOperation;

/**
 * A batch that happened, with the last revision it was given (the store's own when it had nothing to write); or the
 * first check that did not hold, by its place among the operations, and the entry that stood in its way.
 */
export type AtomicResult =
  | { readonly ok: true; readonly revision: number }
  | { readonly ok: false; readonly index: number; readonly current: Entry | undefined };

/** What to list: keys in byte order; `start` inclusive, `end` exclusive; `after` continues a page. */
export interface ListQuery {
  readonly prefix?: Uint8Array;
  readonly start?: Uint8Array;
  readonly end?: Uint8Array;
  /** Only keys past this one in the direction of travel: the last key of the page before. */
  readonly after?: Uint8Array;
  readonly reverse?: boolean;
  /** At most this many entries; an engine may return fewer and say `more`. */
  readonly limit: number;
}

/** One page of a listing. `more` is false when the listing is over. */
export interface ListPage {
  readonly entries: readonly Entry[];
  readonly more: boolean;
}

/** Kinds of change, as users name them. */
export type ChangeType = "set" | "delete" | "expire" | "evict" | "take";

/** One change of one key. `at` is when the store took it, epoch milliseconds. */
export interface ChangeEvent {
  readonly type: ChangeType;
  readonly bucket: string;
  readonly key: Uint8Array;
  readonly revision: number;
  readonly at: number;
  /** Only on `set`, and not of a single-read key; and only to those who subscribed to values. */
  readonly value?: Uint8Array;
  /** Only on `set`, and only to those who subscribed to values. */
  readonly content?: Content;
  readonly expiresAt?: number;
  /** The key is single-read: only its taker sees the value. Told with the content type. */
  readonly once?: true;
  /** The next event is of the same batch, and comes out of the same `next`. */
  readonly more?: true;
}

/**
 * A word of the subscription about itself: `synced` after the snapshot, `progress` when nothing matched for a while,
 * `resync` when the cursor lies beyond what the log still holds: start again with a snapshot.
 */
export interface ControlEvent {
  /** The word. */
  readonly type: "synced" | "progress" | "resync";
  /** Where to continue with `from`. */
  readonly cursor: string;
}

/** What a subscription delivers. */
export type EngineEvent = ChangeEvent | ControlEvent;

/** What to subscribe to: all buckets, one bucket, or in one bucket a key or the keys with a prefix. */
export interface SubscribeQuery {
  readonly bucket?: string;
  /** Only this key. */
  readonly key?: Uint8Array;
  /** Only keys that begin with this; not beside `key`. */
  readonly prefix?: Uint8Array;
  /** Only changes of these types; all when absent. A snapshot is of sets. */
  readonly types?: readonly ChangeType[];
  /** False: events carry neither values nor content types. */
  readonly values?: boolean;
  /** First the entries as they are, then `synced`, then what changes. */
  readonly snapshot?: boolean;
  /** Continue after this cursor. */
  readonly from?: string;
}

/** A subscription's source. */
export interface EngineSubscription {
  /** Resolves when the engine has registered the subscription: later changes are in it. */
  readonly ready: Promise<void>;
  /** Resumes after the last event handed out by `next`. */
  readonly cursor: string;
  /**
   * The next events in order, at least one; undefined when the subscription has ended. One call at a time. The events
   * of a batch come together. They may be another subscription's too: nobody writes to them.
   */
  next(): Promise<readonly EngineEvent[] | undefined>;
  /**
   * Where events are at hand, in the place of `next`: those that there are now. When there are none, `wake` is called
   * once, when there may be some.
   */
  poll?(wake: () => void): readonly EngineEvent[] | undefined;
  /** Ends the subscription; a waiting `next` resolves undefined. */
  close(): void;
}

/** Figures about an engine, by name; all numbers. */
export type EngineStats = Readonly<Record<string, number>>;

/** How long things took; each goes on counting. */
export interface EngineDurations {
  /** Syncs of the log. */
  readonly sync: Histogram;
  /** From a key's deadline to when its end was written. */
  readonly expiry: Histogram;
}

/**
 * A bucket, how much is in it, and what holds for its keys. A store in this process tells all of it; a server leaves
 * out what the one who asks may not know.
 */
export interface BucketInfo {
  /** The bucket's name. */
  readonly name: string;
  /**
   * Its keys: what counts is the log, so a key whose deadline has come counts until its end is written. Absent without
   * the right to read the bucket.
   */
  readonly keys?: number;
  /** Bytes of their records: headers, keys, and values as they are stored. Absent when `keys` is. */
  readonly bytes?: number;
  /** Its settings. Absent without the right to read the bucket or to administer the store. */
  readonly settings?: BucketSettings;
}

/** What a snapshot holds. */
export interface SnapshotResult {
  /** It is the store as of this revision. */
  readonly revision: number;
  /** Keys in it. */
  readonly keys: number;
  /** Bytes of their segments. */
  readonly bytes: number;
  /** Segments that were written. */
  readonly segments: number;
}

/** Where keys live. Bucket names are checked by the caller. */
export interface Engine {
  readonly capabilities: EngineCapabilities;
  readonly limits: EngineLimits;
  /** Names the store in its cursors: one of another epoch is another store's, or this one's from before a repair. */
  readonly epoch: string;
  /** Where it is known: when an acknowledged write is on stable storage. */
  readonly syncPolicy?: "always" | "interval" | "os";
  /** Only when `capabilities.sync`. Takes nothing: of a single-read key it gives the entry without its value. */
  getSync?(bucket: string, key: Uint8Array): Entry | undefined;
  /**
   * Only when `capabilities.sync`: what `read` makes of the value of a key; undefined when the key is missing. Makes no
   * object and copies nothing, and takes nothing.
   */
  readSync?<Result>(bucket: string, key: Uint8Array, read: ValueReader<Result>): Result | undefined;
  /**
   * Where values come from afar: as `get`, but what `read` makes of the value of a key. Copies neither, and shows what
   * was taken.
   */
  read?<Result>(bucket: string, key: Uint8Array, read: ValueReader<Result>): Promise<Result | undefined>;
  /** The entry of a key; a single-read key is taken. */
  get(bucket: string, key: Uint8Array): Promise<Entry | undefined>;
  /** Entries in the order of `keys`; single-read keys are taken. */
  getMany(bucket: string, keys: readonly Uint8Array[]): Promise<(Entry | undefined)[]>;
  /** True when the key is there. Takes nothing. */
  has(bucket: string, key: Uint8Array): Promise<boolean>;
  /**
   * Reads and deletes a key; of many takers one gets it. That it is gone is on stable storage before its value is
   * handed out, whatever the policy.
   */
  take(bucket: string, key: Uint8Array): Promise<Entry | undefined>;
  set(bucket: string, key: Uint8Array, value: Uint8Array, options: SetOptions): Promise<WriteResult>;
  /**
   * Sets keys in their order, as many calls of `set` would; resolves when all are as durable as the policy says. Not a
   * batch: when it rejects, some may have been written, and a crash may leave a part. When an entry is refused for its
   * own sake, none is written. @throws {FirkinError} TOO_LARGE — more than a batch may have, of entries or, unless it
   * is one entry, of bytes
   */
  setMany(bucket: string, entries: readonly SetEntry[]): Promise<void>;
  /** A key that does not exist is `{ ok: false, current: undefined }`. */
  delete(bucket: string, key: Uint8Array, options?: DeleteOptions): Promise<WriteResult>;
  /** Moves the deadline, or drops it when `deadline` is undefined. A missing key is `{ ok: false }`. */
  touch(bucket: string, key: Uint8Array, deadline: Deadline | undefined): Promise<WriteResult>;
  /**
   * Adds to a number (a missing key counts as 0) and keeps its deadline. @throws {FirkinError} INVALID — not a number,
   * or a single-read key
   */
  increment(bucket: string, key: Uint8Array, by: number): Promise<{ value: number; revision: number }>;
  /**
   * All of the operations or none of them: for readers, subscribers and after a crash. The checks are judged first; of
   * several writes to one key the last counts. @throws {FirkinError} TOO_LARGE
   */
  atomic(operations: readonly Operation[]): Promise<AtomicResult>;
  list(bucket: string, query: ListQuery): Promise<ListPage>;
  subscribe(query: SubscribeQuery): EngineSubscription;
  /** All buckets in the order of their names, or the one of this name. */
  buckets(name?: string): Promise<readonly BucketInfo[]>;
  /**
   * Gives a bucket settings in the place of those that it had, and makes it when there is none. Resolves to true when
   * they are on stable storage. With `may`, which is asked about those that it has when nothing else changes them,
   * nothing happens when that says no, and the answer is false.
   * @throws {TypeError | RangeError} settings that no bucket may have; {FirkinError} NOT_SUPPORTED — `may`, and the
   *   settings are on a server
   */
  configure(bucket: string, settings: BucketSettings, may?: SettingsCondition): Promise<boolean>;
  stats(): Promise<EngineStats>;
  /** Where they are at hand: how long things have taken since the open. */
  durations?(): EngineDurations;
  /** Resolves when everything acknowledged before the call is on stable storage, whatever the policy. */
  sync(): Promise<void>;
  /** Gives back the space of dead records; resolves when done. */
  compact(): Promise<void>;
  /** Only when `capabilities.snapshot`: copies what is live now into the folder at `path`, as a store of its own. */
  snapshot?(path: string): Promise<SnapshotResult>;
  close(): Promise<void>;
}

// --- limits ---

/** @throws {RangeError} an empty key; {FirkinError} TOO_LARGE */
export function checkKey(key: Uint8Array, { keyBytesMax }: Pick<EngineLimits, "keyBytesMax">): void {
  if (key.length === 0) throw new RangeError("Cannot use an empty key");
  if (key.length > keyBytesMax) {
    throw new FirkinError("TOO_LARGE", `Cannot use a key of ${key.length} bytes: at most ${keyBytesMax} are allowed`);
  }
}

/** @throws {FirkinError} TOO_LARGE */
export function checkValue(value: Uint8Array, { valueBytesMax }: Pick<EngineLimits, "valueBytesMax">): void {
  if (value.length > valueBytesMax) {
    throw new FirkinError(
      "TOO_LARGE",
      `Cannot set a value of ${value.length} bytes: at most ${valueBytesMax} are allowed`,
    );
  }
}

/** Checks every key and value of {@link Engine.setMany}, and the whole. @throws as {@link checkBatch} */
export function checkEntries(entries: readonly SetEntry[], limits: EngineLimits): void {
  const { batchOperationsMax, batchBytesMax } = limits;
  if (entries.length > batchOperationsMax && entries.length > 1) {
    throw new FirkinError(
      "TOO_LARGE",
      `Cannot set ${entries.length} keys at once: at most ${batchOperationsMax} are allowed`,
    );
  }
  let bytes = 0;
  for (const { key, value } of entries) {
    checkKey(key, limits);
    checkValue(value, limits);
    bytes += key.length + value.length;
  }
  if (bytes > batchBytesMax && entries.length > 1) {
    throw new FirkinError("TOO_LARGE", `Cannot set ${bytes} bytes at once: at most ${batchBytesMax} are allowed`);
  }
}

/** Checks every key and value of a batch, and the whole. @throws {RangeError} an empty key; {FirkinError} TOO_LARGE */
export function checkBatch(operations: readonly Operation[], limits: EngineLimits): void {
  const { batchOperationsMax, batchBytesMax } = limits;
  if (operations.length > batchOperationsMax) {
    throw new FirkinError(
      "TOO_LARGE",
      `Cannot commit a batch of ${operations.length} operations: at most ${batchOperationsMax} are allowed`,
    );
  }
  let bytes = 0;
  for (const operation of operations) {
    checkKey(operation.key, limits);
    bytes += operation.key.length;
    if (operation.type !== "set") continue;
    checkValue(operation.value, limits);
    bytes += operation.value.length;
  }
  if (bytes > batchBytesMax) {
    throw new FirkinError(
      "TOO_LARGE",
      `Cannot commit a batch of ${bytes} bytes: at most ${batchBytesMax} are allowed`,
    );
  }
}
