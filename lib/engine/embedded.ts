/**
 * The engine over the parts of `lib/bitcask`: a store in this process.
 *
 * The way of a `set`: its condition is judged against what is visible *and* what waits to be committed, in the order
 * of the calls; its record is encoded at the end of the log; the group of the tick is written and synced; then, in one
 * step, the keydir points at it, its deadline is scheduled, subscribers are woken and the caller is answered.
 *
 * The way of an expiry: from its deadline on, reads do not see the key. The schedule comes up, an expire record is
 * written like any other change, and when it is committed the keydir forgets the key and subscribers are told. A
 * write that finds its key due writes the expire record first, so no expiry goes untold.
 *
 * @module
 */
import type { Clock } from "../base/clock.ts";
import { addToValue, CONTENT, type Content } from "../base/codec.ts";
import { compress } from "../base/compress.ts";
import { FirkinError } from "../base/errors.ts";
import { Compaction, type CompactionOptions } from "../bitcask/compaction.ts";
import { Expiry } from "../bitcask/expiry.ts";
import { Feed } from "../bitcask/feed.ts";
import { GroupCommit } from "../bitcask/group.ts";
import { ADDRESS_UNIT } from "../bitcask/keydir.ts";
import { type KeyHash, LiveRecords } from "../bitcask/live.ts";
import { type Log, type LogEvent, openLog, type SyncPolicy } from "../bitcask/log.ts";
import { rangeOf } from "../bitcask/order.ts";
import {
  bucketAt,
  contentAt,
  EMPTY,
  entryAt,
  expiresAtAt,
  isKeyAt,
  keyAt,
  KIND,
  type Kind,
  kindAt,
  NO_CONTENT,
  revisionAt,
  timeAt,
  valueAt,
} from "../bitcask/record.ts";
import type { Segment } from "../bitcask/segment.ts";
import type { FileSystem } from "../fs/fs.ts";
import {
  type ChangeEvent,
  type Deadline,
  type DeleteOptions,
  type Engine,
  type EngineCapabilities,
  type EngineLimits,
  type EngineStats,
  type EngineSubscription,
  type Entry,
  type ListPage,
  type ListQuery,
  PAGE_BYTES_MAX,
  PAGE_ENTRIES_MAX,
  type SetOptions,
  type SubscribeQuery,
  type WriteResult,
} from "./engine.ts";

/** Options of {@link openEmbedded}, all given; `open` has the defaults. */
export interface EmbeddedOptions extends EngineLimits, CompactionOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly sync: SyncPolicy;
  readonly syncIntervalMs: number;
  readonly cacheBytesMax: number;
  readonly segmentBytesMax: number;
  /** Values of at least this many bytes are stored compressed when that is smaller. Infinity: never. */
  readonly compressBytesMin: number;
  readonly report: (event: LogEvent) => void;
  /** For tests that force false matches. */
  readonly hash?: KeyHash;
}

/** An expiry whose record could not be written is tried again after this. */
const EXPIRE_RETRY_MS = 1_000;

/** Largest deadline that a record can hold, epoch milliseconds. */
const DEADLINE_MAX = 2 ** 48 - 1;

/** A change that waits to be committed, or (address -1) an answer that waits for the changes before it. */
interface Note {
  readonly address: number;
  readonly hash: number;
  /** The waiting change before this one whose key has the same hash. */
  older: Note | undefined;
  settled: boolean;
  readonly done: () => void;
  readonly fail: (error: FirkinError) => void;
}

/** A record, found in the window of its segment. */
interface Found {
  readonly segment: Segment;
  readonly at: number;
  readonly address: number;
}

/** Opens the engine on a folder, or starts a new store there. @throws {FirkinError} LOCKED, CORRUPT, READ_ONLY, IO */
export async function openEmbedded(options: EmbeddedOptions): Promise<EmbeddedEngine> {
  let engine: EmbeddedEngine | undefined;
  await openLog(options.fileSystem, options.clock, {
    ...options,
    attach: (log) => {
      const made = new EmbeddedEngine(options, log);
      engine = made;
      return (segment, offset) => made.replay(segment, offset);
    },
  });
  engine!.start();
  return engine!;
}

/** A store's data in this process. Made by {@link openEmbedded}. */
export class EmbeddedEngine implements Engine {
  readonly capabilities: EngineCapabilities = { sync: true };
  readonly limits: EngineLimits;
  readonly #options: EmbeddedOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #live: LiveRecords;
  readonly #group: GroupCommit<Note>;
  readonly #expiry: Expiry;
  readonly #feed: Feed;
  readonly #compaction: Compaction;
  /** The newest waiting change by hash of its key. */
  readonly #pending = new Map<number, Note>();
  #wallAtOpen = 0;
  readonly #monotonicAtOpen: number;
  #closed = false;
  #closing: Promise<void> | undefined;

  /** For {@link openEmbedded}. */
  constructor(options: EmbeddedOptions, log: Log) {
    this.#options = options;
    this.#clock = options.clock;
    this.#log = log;
    this.limits = { keyBytesMax: options.keyBytesMax, valueBytesMax: options.valueBytesMax };
    // The first look at the monotonic clock may take a millisecond, by which the store's time would stay behind.
    this.#clock.monotonic();
    this.#wallAtOpen = this.#clock.wall();
    this.#monotonicAtOpen = this.#clock.monotonic();
    const now = (): number => this.#now();
    const committed = (): number => this.#group.committed;
    this.#live = new LiveRecords(log, options.hash, (bytes, hadDeadline) => {
      this.#compaction.noteDead(bytes);
      if (hadDeadline) this.#expiry.noteStale();
    });
    this.#expiry = new Expiry(this.#clock, {
      now,
      isLive: (address) => this.#mayLive(address),
      expire: (address) => this.#expire(address),
    });
    this.#group = new GroupCommit<Note>(
      log,
      this.#clock,
      {
        now: () => Math.floor(this.#now()),
        committed: (notes) => this.#committed(notes),
        failed: (notes, error) => this.#failed(notes, error),
        report: options.report,
      },
      options.sync,
      options.syncIntervalMs,
    );
    this.#feed = new Feed(log, this.#clock, {
      committed,
      page: (bucket, prefix, after) => this.#changes(bucket, prefix, after),
    });
    this.#compaction = new Compaction(log, this.#clock, {
      now,
      committed,
      sync: () => this.#group.sync(),
      isLive: (segment, offset) => this.#live.isLive(segment.slot * ADDRESS_UNIT + offset),
      moved: (moves) => this.#moved(moves),
      report: options.report,
    }, options);
  }

  /** A record of the log at open, in order of revision. */
  replay(segment: Segment, offset: number): void {
    this.#live.apply(segment, offset);
    this.#schedule(segment, offset);
  }

  /** The log is replayed: time goes on from where the store last saw it. */
  start(): void {
    this.#wallAtOpen = Math.max(this.#wallAtOpen, this.#log.timeMax);
    this.#group.committed = this.#log.revision;
    this.#expiry.start();
    this.#compaction.start();
  }

  // --- reads ---

  /** The entry of a key, undefined when it is missing or due. @throws {FirkinError} CLOSED, CORRUPT */
  getSync(bucket: string, key: Uint8Array): Entry | undefined {
    this.#check(key);
    const number = this.#log.bucketNumber(bucket);
    if (number === undefined) return undefined;
    const address = this.#live.find(this.#live.hash(number, key), number, key);
    if (address === -1) return undefined;
    const segment = this.#log.segmentOf(address);
    const at = segment.seek(address % ADDRESS_UNIT);
    const expiresAt = expiresAtAt(segment.window, at);
    if (expiresAt !== undefined && expiresAt <= this.#now()) return undefined;
    return entryAt(segment.window, at);
  }

  /** See {@link Engine.get}. */
  // deno-lint-ignore require-await
  async get(bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    return this.getSync(bucket, key);
  }

  /** See {@link Engine.getMany}. */
  // deno-lint-ignore require-await
  async getMany(bucket: string, keys: readonly Uint8Array[]): Promise<(Entry | undefined)[]> {
    return keys.map((key) => this.getSync(bucket, key));
  }

  /** See {@link Engine.list}. */
  // deno-lint-ignore require-await
  async list(bucket: string, query: ListQuery): Promise<ListPage> {
    return this.#list(bucket, query, entryAt);
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
    const now = this.#now();
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
  #changes(bucket: string, prefix: Uint8Array | undefined, after: Uint8Array | undefined): readonly ChangeEvent[] {
    const query: ListQuery = {
      limit: PAGE_ENTRIES_MAX,
      ...(prefix === undefined ? {} : { prefix }),
      ...(after === undefined ? {} : { after }),
    };
    return this.#list(bucket, query, (bytes, at): ChangeEvent => {
      return { ...entryAt(bytes, at), type: "set", bucket, at: timeAt(bytes, at) };
    }).entries;
  }

  // --- writes ---

  /** See {@link Engine.set}. */
  async set(bucket: string, key: Uint8Array, value: Uint8Array, options: SetOptions): Promise<WriteResult> {
    this.#check(key);
    if (value.length > this.limits.valueBytesMax) {
      const most = this.limits.valueBytesMax;
      throw new FirkinError("TOO_LARGE", `Cannot store a value of ${value.length} bytes: at most ${most} are allowed`);
    }
    const number = this.#log.bucketNumber(bucket) ?? this.#log.createBucket(bucket);
    const hash = this.#live.hash(number, key);
    const current = this.#current(number, key, hash, options.ifRevision === undefined);
    if (!holds(options.ifRevision, current)) return await this.#refuse(current);
    return await this.#store(number, key, hash, value, options.content, this.#deadline(options.deadline));
  }

  /** See {@link Engine.delete}. */
  async delete(bucket: string, key: Uint8Array, options: DeleteOptions = {}): Promise<WriteResult> {
    const { number, hash, current } = this.#locate(bucket, key);
    if (current === undefined || !holds(options.ifRevision, current)) return await this.#refuse(current);
    return await this.#write(KIND.delete, number, key, hash);
  }

  /** See {@link Engine.touch}. */
  async touch(bucket: string, key: Uint8Array, deadline: Deadline | undefined): Promise<WriteResult> {
    const { number, hash, current } = this.#locate(bucket, key);
    if (current === undefined) return await this.#refuse(current);
    const { window } = current.segment;
    const value = valueAt(window, current.at);
    return await this.#store(number, key, hash, value, contentAt(window, current.at), this.#deadline(deadline));
  }

  /** See {@link Engine.increment}. */
  async increment(bucket: string, key: Uint8Array, by: number): Promise<{ value: number; revision: number }> {
    this.#check(key);
    const number = this.#log.bucketNumber(bucket) ?? this.#log.createBucket(bucket);
    const hash = this.#live.hash(number, key);
    const current = this.#current(number, key, hash);
    const content = current === undefined ? CONTENT.cbor : contentAt(current.segment.window, current.at);
    const expiresAt = current === undefined ? undefined : expiresAtAt(current.segment.window, current.at);
    const before = current === undefined ? undefined : valueAt(current.segment.window, current.at);
    let added: ReturnType<typeof addToValue>;
    try {
      added = addToValue(before, content, by);
    } catch (error) {
      await this.#refuse(current);
      throw error;
    }
    const { sum, bytes } = added;
    const result = await this.#store(number, key, hash, bytes, content, expiresAt);
    return { value: sum, revision: result.revision };
  }

  /** Writes a set record, compressed when that is worth it. */
  #store(
    bucket: number,
    key: Uint8Array,
    hash: number,
    value: Uint8Array,
    content: Content,
    expiresAt: number | undefined,
  ): Promise<{ ok: true; revision: number }> {
    const packed = value.length >= this.#options.compressBytesMin ? compress(value) : undefined;
    return packed === undefined
      ? this.#write(KIND.set, bucket, key, hash, value, content, expiresAt)
      : this.#write(KIND.set, bucket, key, hash, packed, content, expiresAt, value.length);
  }

  #write(
    kind: Kind,
    bucket: number,
    key: Uint8Array,
    hash: number,
    value: Uint8Array = EMPTY,
    content: Content = NO_CONTENT,
    expiresAt?: number,
    rawBytes?: number,
  ): Promise<{ ok: true; revision: number }> {
    return new Promise((resolve, reject) => {
      const address = this.#group.append({ kind, bucket, key, value, content, expiresAt, rawBytes });
      const { revision } = this.#log;
      this.#enqueue(address, hash, () => resolve({ ok: true, revision }), reject);
    });
  }

  #enqueue(address: number, hash: number, done: () => void, fail: (error: FirkinError) => void): void {
    const note: Note = { address, hash, older: this.#pending.get(hash), settled: false, done, fail };
    this.#pending.set(hash, note);
    this.#group.enqueue(note);
  }

  /** A condition that did not hold. What it was judged by may still wait to be committed: so does the answer. */
  #refuse(current: Found | undefined): Promise<WriteResult> {
    const entry = current === undefined ? undefined : entryAt(current.segment.window, current.at);
    const result: WriteResult = { ok: false, current: entry };
    if (!this.#group.busy) return Promise.resolve(result);
    return new Promise((resolve, reject) => {
      this.#group.enqueue({
        address: -1,
        hash: 0,
        older: undefined,
        settled: false,
        done: () => resolve(result),
        fail: reject,
      });
    });
  }

  // --- what a write is judged by ---

  #locate(bucket: string, key: Uint8Array): { number: number; hash: number; current: Found | undefined } {
    this.#check(key);
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
      found = this.#newest(bucket, key, hash);
    } catch (error) {
      if (!overDamage || !(error instanceof FirkinError && error.code === "CORRUPT")) throw error;
    }
    if (found === undefined) return undefined;
    const expiresAt = expiresAtAt(found.segment.window, found.at);
    if (expiresAt === undefined || expiresAt > this.#now()) return found;
    this.#writeExpire(found.address, bucket, key, hash);
    return undefined;
  }

  #newest(bucket: number, key: Uint8Array, hash: number): Found | undefined {
    for (let note = this.#pending.get(hash); note !== undefined && !note.settled; note = note.older) {
      const found = this.#found(note.address);
      if (!isKeyAt(found.segment.window, found.at, bucket, key)) continue;
      return isSet(found) ? found : undefined;
    }
    const address = this.#live.find(hash, bucket, key);
    return address === -1 ? undefined : this.#found(address);
  }

  #found(address: number): Found {
    const segment = this.#log.segmentOf(address);
    return { segment, at: segment.seek(address % ADDRESS_UNIT), address };
  }

  #deadline(deadline: Deadline | undefined): number | undefined {
    if (deadline === undefined) return undefined;
    const expiresAt = "ttl" in deadline ? Math.ceil(this.#now() + deadline.ttl) : deadline.expiresAt;
    if (!Number.isInteger(expiresAt) || expiresAt < 0 || expiresAt > DEADLINE_MAX) {
      throw new FirkinError("INVALID", `Cannot expire at ${expiresAt}: expected whole milliseconds since 1970`);
    }
    return expiresAt;
  }

  // --- commit ---

  #committed(notes: readonly Note[]): void {
    for (const note of notes) {
      note.settled = true;
      note.older = undefined;
      if (note.address !== -1) {
        if (this.#pending.get(note.hash) === note) this.#pending.delete(note.hash);
        const segment = this.#log.segmentOf(note.address);
        const offset = note.address % ADDRESS_UNIT;
        this.#live.apply(segment, offset);
        this.#schedule(segment, offset);
        this.#feed.publish(segment, offset);
      }
      note.done();
    }
  }

  #failed(notes: readonly Note[], error: FirkinError): void {
    this.#pending.clear();
    for (const note of notes) {
      note.settled = true;
      note.fail(error);
    }
  }

  // --- expiry ---

  /** Takes up the deadline of a record; false when it has none. */
  #schedule(segment: Segment, offset: number): boolean {
    const at = segment.seek(offset);
    const expiresAt = expiresAtAt(segment.window, at);
    if (expiresAt === undefined) return false;
    this.#expiry.add(expiresAt, segment.slot * ADDRESS_UNIT + offset);
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
      const { segment, at } = this.#found(address);
      const { window } = segment;
      // After an undone write, another record may stand where the deadline's stood.
      if ((expiresAtAt(window, at) ?? Infinity) > this.#now()) return true;
      const bucket = bucketAt(window, at);
      const key = keyAt(window, at);
      const hash = this.#live.hash(bucket, key);
      if (this.#newest(bucket, key, hash)?.address !== address) return false;
      this.#writeExpire(address, bucket, key, hash);
    } catch {
      // Reads of the key say what is wrong with its record. Until that can be read, nobody can be told of its end.
      this.#expireLater(address);
    }
    return true;
  }

  #writeExpire(address: number, bucket: number, key: Uint8Array, hash: number): void {
    this.#write(KIND.expire, bucket, key, hash).catch(() => this.#expireLater(address));
  }

  #expireLater(address: number): void {
    if (!this.#closed) this.#expiry.add(this.#now() + EXPIRE_RETRY_MS, address);
  }

  // --- feed, upkeep ---

  /** See {@link Engine.subscribe}. */
  subscribe(query: SubscribeQuery): EngineSubscription {
    this.#checkOpen();
    return this.#feed.subscribe(query);
  }

  /** See {@link Engine.stats}. */
  // deno-lint-ignore require-await
  async stats(): Promise<EngineStats> {
    this.#checkOpen();
    const { segments } = this.#log;
    return {
      keys: this.#live.count,
      revision: this.#group.committed,
      buckets: this.#log.bucketNames.length,
      deadlines: this.#expiry.count,
      subscriptions: this.#feed.count,
      segments: segments.length,
      "log.bytes": segments.reduce((bytes, segment) => bytes + segment.tail, 0),
      "log.deadBytes": segments.reduce((bytes, segment) => bytes + segment.deadBytes, 0),
      "memory.keydirBytes": this.#live.keydirBytes,
      "memory.orderBytes": this.#live.orderBytes,
      "memory.deadlineBytes": this.#expiry.bytes,
      "memory.cacheBytes": this.#log.cache.bytes,
    };
  }

  /** See {@link Engine.sync}. */
  async sync(): Promise<void> {
    this.#checkOpen();
    await this.#group.sync();
  }

  /** Seals the active segment and rewrites every sealed one without its dead records. */
  async compact(): Promise<void> {
    this.#checkOpen();
    await this.#group.rotate();
    await this.#compaction.compactAll();
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
    await this.#compaction.close();
    try {
      await this.#group.close();
    } finally {
      this.#feed.close();
      this.#log.close();
    }
  }

  #moved(moves: readonly { readonly before: number; readonly segment: Segment; readonly offset: number }[]): void {
    for (const { before, segment, offset } of moves) {
      if (this.#live.move(before, segment, offset) && this.#schedule(segment, offset)) this.#expiry.noteStale();
    }
  }

  /** The store's time: it follows the monotonic clock and never falls behind what a record already says. */
  #now(): number {
    return this.#wallAtOpen + this.#clock.monotonic() - this.#monotonicAtOpen;
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new FirkinError("CLOSED", `Cannot use ${this.#options.fileSystem.path}: the store is closed`);
    }
  }

  #check(key: Uint8Array): void {
    this.#checkOpen();
    const most = this.limits.keyBytesMax;
    if (key.length === 0) throw new RangeError("Cannot use an empty key");
    if (key.length > most) {
      throw new FirkinError("TOO_LARGE", `Cannot use a key of ${key.length} bytes: at most ${most} are allowed`);
    }
  }
}

// --- helpers ---

function isSet({ segment, at }: Found): boolean {
  return kindAt(segment.window, at) === KIND.set;
}

/** True when a write that wants `ifRevision` may go on. */
function holds(ifRevision: number | undefined, current: Found | undefined): boolean {
  if (ifRevision === undefined) return true;
  return ifRevision === (current === undefined ? 0 : revisionAt(current.segment.window, current.at));
}
