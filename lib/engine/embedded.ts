/**
 * The engine over the parts of `lib/bitcask`: a store in this process.
 *
 * The way of a `set`: its condition is judged against what is visible *and* what waits to be committed, in the order
 * of the calls, and its record is encoded at the end of the log (`writes.ts`); the group of the tick is written and
 * synced; then, in one step, the keydir points at it, its deadline is scheduled, subscribers are woken and the caller
 * is answered.
 *
 * The way of a take: a take record is written like any other change, but its group is synced under every policy, and
 * only then the value leaves. A `get` that finds a single-read key is a take.
 *
 * The way of an expiry: from its deadline on, reads do not see the key. The schedule comes up, an expire record is
 * written like any other change, and when it is committed the keydir forgets the key and subscribers are told. A
 * write that finds its key due writes the expire record first, so no expiry goes untold.
 *
 * @module
 */
import type { Clock } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import { Histogram, summaryOf } from "../base/histogram.ts";
import { Compaction, type CompactionOptions } from "../bitcask/compaction.ts";
import { Expiry } from "../bitcask/expiry.ts";
import { changeAt, Feed } from "../bitcask/feed.ts";
import { GroupCommit } from "../bitcask/group.ts";
import { ADDRESS_UNIT } from "../bitcask/keydir.ts";
import { type KeyHash, LiveRecords } from "../bitcask/live.ts";
import type { Log, LogOptions, LogOwner } from "../bitcask/log.ts";
import { openLog } from "../bitcask/open.ts";
import { rangeOf } from "../bitcask/order.ts";
import { PendingChanges } from "../bitcask/pending.ts";
import { bucketAt, copyKeyAt, entryAt, expiresAtAt, KIND, readValueAt } from "../bitcask/record.ts";
import type { Segment } from "../bitcask/segment.ts";
import { Snapshots } from "../bitcask/snapshot.ts";
import { StoreTime } from "../bitcask/time.ts";
import { Writes } from "../bitcask/writes.ts";
import type { FileSystem } from "../fs/fs.ts";
import {
  type AtomicResult,
  type BucketInfo,
  type ChangeEvent,
  checkBatch,
  checkEntries,
  checkKey,
  checkValue,
  type Deadline,
  type DeleteOptions,
  type Engine,
  type EngineCapabilities,
  type EngineDurations,
  type EngineLimits,
  type EngineStats,
  type EngineSubscription,
  type Entry,
  type ListPage,
  type ListQuery,
  type Operation,
  PAGE_BYTES_MAX,
  PAGE_ENTRIES_MAX,
  type SetEntry,
  type SetOptions,
  type SnapshotResult,
  type SubscribeQuery,
  type ValueReader,
  type WriteResult,
} from "./engine.ts";
import { type BucketSettings, checkSettings, type SettingsCondition } from "./settings.ts";

/** Options of {@link openEmbedded}, all given; `open` has the defaults. */
export interface EmbeddedOptions extends EngineLimits, CompactionOptions, Omit<LogOptions, "attach"> {
  readonly fileSystem: FileSystem;
  /** The folder at a path, for snapshots. */
  readonly folder?: (path: string) => FileSystem;
  readonly clock: Clock;
  readonly syncIntervalMs: number;
  /** Values of at least this many bytes are stored compressed when that is smaller. Infinity: never. */
  readonly compressBytesMin: number;
  /** For tests that force false matches. */
  readonly hash?: KeyHash;
}

/** An expiry whose record could not be written is tried again after this. */
const EXPIRE_RETRY_MS = 1_000;

/** Opens the engine on a folder, or starts a new store there. @throws {FirkinError} LOCKED, CORRUPT, READ_ONLY, IO */
export async function openEmbedded(options: EmbeddedOptions): Promise<EmbeddedEngine> {
  let engine: EmbeddedEngine | undefined;
  await openLog(options.fileSystem, options.clock, {
    ...options,
    attach: (log) => {
      engine = new EmbeddedEngine(options, log);
      return engine.logOwner;
    },
  });
  engine!.start();
  return engine!;
}

/** A store's data in this process. Made by {@link openEmbedded}. */
export class EmbeddedEngine implements Engine {
  readonly capabilities: EngineCapabilities = { sync: true, snapshot: true };
  readonly limits: EngineLimits;
  readonly #options: EmbeddedOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #live: LiveRecords;
  readonly #pending: PendingChanges;
  readonly #group: GroupCommit;
  readonly #writes: Writes;
  readonly #expiry: Expiry;
  /** How late keys were told to be over. */
  readonly #lateness: Histogram = new Histogram();
  readonly #feed: Feed;
  readonly #compaction: Compaction;
  readonly #time: StoreTime;
  readonly #snapshots: Snapshots;
  /** The last time at which an expiry is to be written that could not be. */
  #lateUntil = 0;
  /** Settings of buckets that are on their way to stable storage. */
  #configured: Promise<unknown> = Promise.resolve();
  #closed = false;
  #closing: Promise<void> | undefined;

  /** For {@link openEmbedded}. */
  constructor(options: EmbeddedOptions, log: Log) {
    this.#options = options;
    this.#clock = options.clock;
    this.#log = log;
    const { keyBytesMax, valueBytesMax, batchOperationsMax, batchBytesMax } = options;
    this.limits = { keyBytesMax, valueBytesMax, batchOperationsMax, batchBytesMax };
    this.#time = new StoreTime(this.#clock, {
      pending: () => this.#expiry.pending,
      kept: () => this.#group.timeCommitted,
      keep: () => this.#group.keepTime(),
    });
    const now = (): number => this.#time.now();
    const committed = (): number => this.#group.committed;
    this.#live = new LiveRecords(log, this.#clock, {
      noteDead: (bytes, hadDeadline) => {
        this.#compaction.noteDead(bytes);
        if (hadDeadline) this.#expiry.noteStale();
      },
      schedule: (deadline, address) => this.#expiry.add(deadline, address),
    }, options.hash);
    this.#pending = new PendingChanges(log, this.#live);
    this.#expiry = new Expiry(this.#clock, {
      now,
      isLive: (address) => this.#mayLive(address),
      expire: (address) => this.#expire(address),
    });
    const apply = (segment: Segment, offset: number, hash: number): void => this.#apply(segment, offset, hash);
    this.#group = new GroupCommit(
      log,
      this.#clock,
      {
        now: () => Math.floor(this.#time.now()),
        committed: (changes) => this.#pending.commit(changes, apply),
        failed: (changes) => this.#pending.drop(changes),
        report: options.report,
      },
      options.sync,
      options.syncIntervalMs,
    );
    const expireLater = (address: number): void => this.#expireLater(address);
    this.#writes = new Writes(
      log,
      this.#live,
      this.#pending,
      this.#group,
      { now, mayBeDue: () => this.#mayBeDue(), expireLater },
      options.compressBytesMin,
    );
    this.#feed = new Feed(log, this.#clock, {
      committed,
      page: (...page) => this.#changes(...page),
    });
    const isLive = (bytes: Uint8Array, at: number, address: number): boolean => this.#live.isLiveAt(bytes, at, address);
    this.#compaction = new Compaction(log, this.#clock, {
      now,
      committed,
      seal: () => this.#group.rotate(),
      sync: () => this.#group.sync(),
      isLive,
      moved: (before, segment, offset) => {
        if (this.#live.move(before, segment, offset) && this.#schedule(segment, offset)) this.#expiry.noteStale();
      },
      report: options.report,
    }, options);
    this.#snapshots = new Snapshots(log, this.#clock, this.#compaction, { ...options, now, committed, isLive });
  }

  /** See {@link Engine.epoch}. */
  get epoch(): string {
    return this.#log.epoch;
  }

  /** See {@link Engine.syncPolicy}. */
  get syncPolicy(): NonNullable<Engine["syncPolicy"]> {
    return this.#options.sync;
  }

  /** Who the log tells of its segments. */
  get logOwner(): LogOwner {
    return this.#live;
  }

  /** The log is replayed: time goes on from where the store last saw it. */
  start(): void {
    this.#time.resume(this.#log.timeMax);
    this.#group.committed = this.#log.revision;
    this.#group.durable = this.#log.revision;
    this.#group.timeCommitted = this.#log.timeMax;
    if (this.#log.refusal !== undefined) return;
    this.#expiry.start();
    this.#time.start();
    this.#compaction.start();
  }

  // --- reads ---

  /** The entry of a key, undefined when it is missing or due. @throws {FirkinError} CLOSED, CORRUPT */
  getSync(bucket: string, key: Uint8Array): Entry | undefined {
    return this.#locate(bucket, key) ? entryAt(this.#live.found!.window, this.#live.foundAt) : undefined;
  }

  /** See {@link Engine.readSync}. @throws {FirkinError} CLOSED, CORRUPT */
  readSync<Result>(bucket: string, key: Uint8Array, read: ValueReader<Result>): Result | undefined {
    if (!this.#locate(bucket, key)) return undefined;
    return readValueAt(this.#live.found!.window, this.#live.foundAt, read);
  }

  /** See {@link Engine.get}. */
  async get(bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    const entry = this.getSync(bucket, key);
    return entry?.once === true ? await this.#writes.takeOnce(bucket, key) : entry;
  }

  /** See {@link Engine.getMany}. */
  async getMany(bucket: string, keys: readonly Uint8Array[]): Promise<(Entry | undefined)[]> {
    // All are read before any is taken: should one be bad, no value is lost.
    const entries = keys.map((key) => this.getSync(bucket, key));
    if (!entries.some((entry) => entry?.once === true)) return entries;
    return await Promise.all(entries.map(async (entry, index) => {
      return entry?.once === true ? await this.#writes.takeOnce(bucket, keys[index]!) : entry;
    }));
  }

  /** See {@link Engine.has}. */
  // deno-lint-ignore require-await
  async has(bucket: string, key: Uint8Array): Promise<boolean> {
    return this.#locate(bucket, key);
  }

  /** Finds a key, where `#live` says; false when it is missing or due. */
  #locate(bucket: string, key: Uint8Array): boolean {
    this.#check(key);
    const number = this.#log.bucketNumber(bucket);
    if (number === undefined || !this.#live.locate(number, key)) return false;
    const { window } = this.#live.found!;
    const expiresAt = expiresAtAt(window, this.#live.foundAt);
    return expiresAt === undefined || expiresAt > this.#time.now();
  }

  /** See {@link Engine.list}. */
  async list(bucket: string, query: ListQuery): Promise<ListPage> {
    if (!this.#live.isUnsorted) return this.#list(bucket, query, entryAt);
    // After many writes the first listing sorts what later ones find in order. The query's bytes are lent until then.
    const { prefix, start, end, after } = query;
    const own = {
      ...query,
      ...(prefix && { prefix: new Uint8Array(prefix) }),
      ...(start && { start: new Uint8Array(start) }),
      ...(end && { end: new Uint8Array(end) }),
      ...(after && { after: new Uint8Array(after) }),
    };
    await this.#live.sort();
    return this.#list(bucket, own, entryAt);
  }

  #list<Item extends { readonly key: Uint8Array; readonly value?: Uint8Array }>(
    bucket: string,
    query: ListQuery,
    read: (bytes: Uint8Array, at: number) => Item,
  ): { entries: Item[]; more: boolean } {
    this.#checkOpen();
    const entries: Item[] = [];
    const number = this.#log.bucketNumber(bucket);
    const range = number === undefined ? undefined : rangeOf(number, query);
    if (range === undefined) return { entries, more: false };
    const limit = Math.min(query.limit, PAGE_ENTRIES_MAX);
    const now = this.#time.now();
    let bytes = 0;
    for (const { segment, offset } of this.#live.list(range)) {
      const at = segment.seek(offset);
      const expiresAt = expiresAtAt(segment.window, at);
      if (expiresAt !== undefined && expiresAt <= now) continue;
      if (entries.length >= limit || bytes >= PAGE_BYTES_MAX) return { entries, more: true };
      const entry = read(segment.window, at);
      entries.push(entry);
      bytes += entry.key.length + (entry.value?.length ?? 0);
    }
    return { entries, more: false };
  }

  /** A page of entries as the feed's snapshots need them. */
  #changes(
    bucket: string,
    prefix: Uint8Array | undefined,
    after: Uint8Array | undefined,
    limit: number,
    values: boolean,
  ): readonly ChangeEvent[] {
    const query: ListQuery = {
      limit,
      ...(prefix === undefined ? {} : { prefix }),
      ...(after === undefined ? {} : { after }),
    };
    return this.#list(bucket, query, (bytes, at): ChangeEvent => {
      return changeAt(bytes, at, bucket, values);
    }).entries;
  }

  // --- writes ---

  /** See {@link Engine.set}. */
  set(bucket: string, key: Uint8Array, value: Uint8Array, options: SetOptions): Promise<WriteResult> {
    // No async function: a promise of its own would cost as much as encoding the record does.
    try {
      this.#checkWrite(key);
      checkValue(value, this.limits);
      return this.#writes.set(bucket, key, value, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** See {@link Engine.setMany}. */
  async setMany(bucket: string, entries: readonly SetEntry[]): Promise<void> {
    this.#checkWrite();
    checkEntries(entries, this.limits);
    await this.#writes.setMany(bucket, entries);
  }

  /** See {@link Engine.delete}. */
  delete(bucket: string, key: Uint8Array, options: DeleteOptions = {}): Promise<WriteResult> {
    try {
      this.#checkWrite(key);
      return this.#writes.delete(bucket, key, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** See {@link Engine.take}. */
  async take(bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    this.#checkWrite(key);
    return await this.#writes.take(bucket, key);
  }

  /** See {@link Engine.atomic}. */
  async atomic(operations: readonly Operation[]): Promise<AtomicResult> {
    this.#checkWrite();
    checkBatch(operations, this.limits);
    return await this.#writes.atomic(operations);
  }

  /** See {@link Engine.touch}. */
  touch(bucket: string, key: Uint8Array, deadline: Deadline | undefined): Promise<WriteResult> {
    try {
      this.#checkWrite(key);
      return this.#writes.touch(bucket, key, deadline);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** See {@link Engine.increment}. */
  async increment(bucket: string, key: Uint8Array, by: number): Promise<{ value: number; revision: number }> {
    this.#checkWrite(key);
    return await this.#writes.increment(bucket, key, by);
  }

  // --- commit ---

  /** The record at `offset`, a change of the key with this hash, is committed. */
  #apply(segment: Segment, offset: number, hash: number): void {
    this.#snapshots.noteDead(this.#live.apply(segment, offset, hash), segment, offset);
    this.#schedule(segment, offset);
    this.#feed.publish(segment, offset);
  }

  // --- expiry ---

  /** False when no key is due that has not been expired, be it visible or about to be. */
  #mayBeDue(): boolean {
    const soonest = Math.min(this.#expiry.soonest, this.#pending.soonest);
    if (soonest === Infinity) return false;
    const now = this.#time.now();
    return soonest <= now || now <= this.#lateUntil;
  }

  /** Takes up the deadline of a record; false when it has none. */
  #schedule(segment: Segment, offset: number): boolean {
    const at = segment.seek(offset);
    const expiresAt = expiresAtAt(segment.window, at);
    if (expiresAt === undefined) return false;
    this.#expiry.add(expiresAt, segment.slot * ADDRESS_UNIT + offset);
    this.#time.watch();
    return true;
  }

  /** False when the record surely is no key's newest; one that cannot be read may be. */
  #mayLive(address: number): boolean {
    try {
      return this.#live.isLive(address);
    } catch {
      return true;
    }
  }

  /** A deadline has come. False while a change of the key waits: the schedule asks again. */
  #expire(address: number): boolean {
    try {
      const { segment, at } = this.#pending.found(address);
      const { window } = segment;
      // After an undone write, another record may stand where the deadline's stood.
      const late = this.#time.now() - (expiresAtAt(window, at) ?? Infinity);
      if (late < 0) return true;
      const bucket = bucketAt(window, at);
      const key = copyKeyAt(window, at);
      const hash = this.#live.hash(bucket, key);
      if (this.#pending.newest(bucket, key, hash)?.address !== address) return false;
      this.#writes.expire(address, bucket, key, hash);
      this.#lateness.record(late, 1);
    } catch {
      // Reads of the key say what is wrong with its record. Until that can be read, nobody can be told of its end.
      this.#expireLater(address);
    }
    return true;
  }

  #expireLater(address: number): void {
    if (this.#closed) return;
    this.#lateUntil = this.#time.now() + EXPIRE_RETRY_MS;
    this.#expiry.add(this.#lateUntil, address);
    this.#time.watch();
  }

  // --- feed, upkeep ---

  /** See {@link Engine.subscribe}. */
  subscribe(query: SubscribeQuery): EngineSubscription {
    this.#checkOpen();
    return this.#feed.subscribe(query);
  }

  /** See {@link Engine.buckets}. */
  // deno-lint-ignore require-await
  async buckets(name?: string): Promise<readonly Required<BucketInfo>[]> {
    this.#checkOpen();
    const { sizes } = this.#live;
    const named = name === undefined ? this.#log.bucketNames.toSorted() : [name];
    return named.flatMap((one) => {
      const number = this.#log.bucketNumber(one);
      if (number === undefined) return [];
      const settings = this.#log.settingsOf(number);
      return { name: one, keys: sizes.keysOf(number), bytes: sizes.bytesOf(number), settings };
    });
  }

  /** See {@link Engine.configure}. */
  async configure(bucket: string, settings: BucketSettings, may: SettingsCondition = () => true): Promise<boolean> {
    this.#checkWrite();
    const checked = checkSettings({ ...settings }, this.limits.valueBytesMax);
    this.#group.admit(KIND.set);
    const configured = this.#configured.then(async () => {
      const number = this.#log.bucketNumber(bucket);
      if (!may(number === undefined ? undefined : this.#log.settingsOf(number))) return false;
      await this.#log.configure(bucket, checked);
      return true;
    });
    // A failure is its caller's; and a close waits, so that nothing is written when the folder is given back.
    this.#configured = configured.catch(() => {});
    return await configured;
  }

  /** See {@link Engine.stats}. */
  // deno-lint-ignore require-await
  async stats(): Promise<EngineStats> {
    this.#checkOpen();
    const { segments } = this.#log;
    return {
      keys: this.#live.count,
      revision: this.#group.committed,
      "revision.durable": this.#group.durable,
      buckets: this.#log.bucketNames.length,
      deadlines: this.#expiry.count,
      subscriptions: this.#feed.count,
      segments: segments.length,
      "log.bytes": segments.reduce((bytes, segment) => bytes + segment.tail, 0),
      "log.deadBytes": segments.reduce((bytes, segment) => bytes + segment.deadBytes, 0),
      "memory.keydirBytes": this.#live.keydirBytes,
      "memory.orderBytes": this.#live.orderBytes,
      "memory.deadlineBytes": this.#expiry.bytes,
      "memory.cacheBytes": this.#log.cache.bytes + this.#log.frames.bytes,
      "reserve.bytes": this.#log.reserve.bytes,
      "reserve.full": Number(this.#log.reserve.full),
      "log.poisoned": Number(this.#group.poisoned),
      ...summaryOf("sync", this.#group.syncs),
      ...summaryOf("expiry", this.#lateness),
      ...this.#compaction.stats(),
    };
  }

  /** See {@link Engine.durations}. */
  durations(): EngineDurations {
    return { sync: this.#group.syncs, expiry: this.#lateness };
  }

  /** See {@link Engine.sync}. */
  async sync(): Promise<void> {
    this.#checkOpen();
    if (this.#log.refusal === undefined) await this.#group.sync();
  }

  /** Seals the active segment and rewrites every sealed one without its dead records. */
  async compact(): Promise<void> {
    this.#checkWrite();
    await this.#compaction.compactAll();
  }

  /** See {@link Engine.snapshot}. */
  async snapshot(path: string): Promise<SnapshotResult> {
    this.#checkOpen();
    return await this.#snapshots.take(this.#options.folder?.(path));
  }

  /**
   * Commits what waits, syncs, marks the log as closed, and gives the folder back. A second call waits for the first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    this.#expiry.close();
    this.#time.close();
    await this.#compaction.close();
    await this.#configured;
    try {
      await this.#group.close();
    } finally {
      await this.#live.close();
      this.#feed.close();
      this.#log.close();
    }
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new FirkinError("CLOSED", `Cannot use ${this.#options.fileSystem.path}: the store is closed`);
    }
  }

  #checkWrite(key?: Uint8Array): void {
    this.#checkOpen();
    if (this.#log.refusal !== undefined) throw this.#log.refusal;
    if (key !== undefined) this.#check(key);
  }

  #check(key: Uint8Array): void {
    this.#checkOpen();
    checkKey(key, this.limits);
  }
}
