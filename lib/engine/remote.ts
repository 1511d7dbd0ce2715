/**
 * An engine over one WebSocket: the client of a server.
 *
 * Each call is one request of `docs/PROTOCOL.md`; {@link Link} carries them. What is kept here are the subscriptions:
 *
 * 1. A subscription outlives its connection. After a reconnect it continues behind the last event that arrived; a
 *    snapshot that was cut short cannot, and ends with `resync`.
 * 2. A subscription holds at most `WINDOW_BYTES` of events that nobody has asked for. The server sends no more than
 *    that ahead, because a browser cannot make a WebSocket wait; what is handed out makes room for as much again.
 * 3. The events of a batch are handed out when all of them have arrived. A batch that was cut short by a lost
 *    connection comes again, whole.
 *
 * @module
 */
import { FirkinError } from "../base/errors.ts";
import { readBuckets, writeSettings } from "../wire/buckets.ts";
import type { CborReader, CborWriter } from "../wire/cbor.ts";
import { Link, type LinkHandlers, type LinkOptions } from "../wire/link.ts";
import {
  expectItems,
  KEYS_MAX,
  OP,
  readAtomicResult,
  readEntry,
  readPage,
  readUintOrNull,
  readValue,
  readWriteResult,
  WINDOW_BYTES,
  WORD,
  writeDeadline,
  writeListQuery,
  writeOperations,
  writeSetEntries,
  writeSubscribeQuery,
  writeTextOrNull,
  writeUintOrNull,
} from "../wire/protocol.ts";
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
  type EngineEvent,
  type EngineLimits,
  type EngineStats,
  type EngineSubscription,
  type Entry,
  type ListPage,
  type ListQuery,
  type Operation,
  type SetEntry,
  type SetOptions,
  type SubscribeQuery,
  type ValueReader,
  type WriteResult,
} from "./engine.ts";
import { type BucketSettings, checkSettings, type SettingsCondition } from "./settings.ts";

/** Room is made for a subscription's further events in steps of this. */
const GRANT_BYTES = WINDOW_BYTES / 4;

/**
 * Connects to a server. Resolves when the server has answered.
 *
 * @throws {FirkinError} UNAVAILABLE, TIMEOUT — no connection; UNAUTHORIZED, PROTOCOL — the server refused it
 */
export async function connectEngine(url: string, options: LinkOptions): Promise<RemoteEngine> {
  const engine = new RemoteEngine(url, options);
  await engine.opened;
  return engine;
}

/** A server's keys. */
export class RemoteEngine implements Engine {
  readonly capabilities: EngineCapabilities = { sync: false, snapshot: false };
  /** Resolves with the first connection. */
  readonly opened: Promise<void>;
  readonly #link: Link;
  readonly #subscriptions: Set<RemoteSubscription> = new Set();
  /** The subscriptions of this connection by their number on it. */
  readonly #channels: Map<number, RemoteSubscription> = new Map();

  /** Begins to connect; {@link connectEngine} also waits. */
  constructor(url: string, options: LinkOptions) {
    this.#link = new Link(url, options, this.#handlers());
    this.opened = this.#link.opened;
  }

  get limits(): EngineLimits {
    return this.#link.limits;
  }

  /** See {@link Engine.epoch}; empty before the first connection. */
  get epoch(): string {
    return this.#link.epoch;
  }

  get(bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    const own = new Uint8Array(key);
    return this.#link.request(
      OP.get,
      (writer) => this.#write(writer, bucket, own),
      (reader) => readEntry(reader, own),
    );
  }

  read<Result>(bucket: string, key: Uint8Array, read: ValueReader<Result>): Promise<Result | undefined> {
    const link = this.#link;
    try {
      this.#write(link.begin(OP.get), bucket, key);
      return link.send(readValue, read);
    } catch (error) {
      return link.refuse(error);
    }
  }

  has(bucket: string, key: Uint8Array): Promise<boolean> {
    return this.#link.request(
      OP.has,
      (writer) => this.#write(writer, bucket, key),
      (reader) => reader.bool(),
    );
  }

  take(bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    const own = new Uint8Array(key);
    return this.#link.request(
      OP.take,
      (writer) => this.#write(writer, bucket, own),
      (reader) => readEntry(reader, own),
    );
  }

  async getMany(bucket: string, keys: readonly Uint8Array[]): Promise<(Entry | undefined)[]> {
    const own = keys.map((key) => new Uint8Array(key));
    const parts: Promise<(Entry | undefined)[]>[] = [];
    for (let start = 0; start < own.length; start += KEYS_MAX) {
      parts.push(this.#getPart(bucket, own.slice(start, start + KEYS_MAX)));
    }
    return (await Promise.all(parts)).flat();
  }

  set(bucket: string, key: Uint8Array, value: Uint8Array, options: SetOptions): Promise<WriteResult> {
    const { content, deadline, ifRevision, once = false } = options;
    const link = this.#link;
    try {
      const writer = link.begin(OP.set);
      this.#write(writer, bucket, key);
      checkValue(value, link.limits);
      writer.uint(content);
      writer.bytes(value);
      writeDeadline(writer, deadline);
      writeUintOrNull(writer, ifRevision);
      writer.bool(once);
      // Without a condition nothing stands in its way, and nobody asks for the key.
      return link.send(readWriteResult, ifRevision === undefined ? key : new Uint8Array(key));
    } catch (error) {
      return link.refuse(error);
    }
  }

  setMany(bucket: string, entries: readonly SetEntry[]): Promise<void> {
    return this.#link.request(
      OP.setMany,
      (writer) => {
        checkEntries(entries, this.limits);
        writer.text(bucket);
        writeSetEntries(writer, entries);
      },
      readNothing,
    );
  }

  atomic(operations: readonly Operation[]): Promise<AtomicResult> {
    const keys = operations.map(({ key }) => new Uint8Array(key));
    return this.#link.request(
      OP.atomic,
      (writer) => {
        checkBatch(operations, this.limits);
        writeOperations(writer, operations);
      },
      (reader) => readAtomicResult(reader, keys),
    );
  }

  delete(bucket: string, key: Uint8Array, options: DeleteOptions = {}): Promise<WriteResult> {
    const own = new Uint8Array(key);
    return this.#link.request(
      OP.delete,
      (writer) => {
        this.#write(writer, bucket, own);
        writeUintOrNull(writer, options.ifRevision);
      },
      (reader) => readWriteResult(reader, own),
    );
  }

  touch(bucket: string, key: Uint8Array, deadline: Deadline | undefined): Promise<WriteResult> {
    const own = new Uint8Array(key);
    return this.#link.request(
      OP.touch,
      (writer) => {
        this.#write(writer, bucket, own);
        writeDeadline(writer, deadline);
      },
      (reader) => readWriteResult(reader, own),
    );
  }

  increment(bucket: string, key: Uint8Array, by: number): Promise<{ value: number; revision: number }> {
    return this.#link.request(
      OP.increment,
      (writer) => {
        this.#write(writer, bucket, key);
        writer.number(by);
      },
      (reader) => {
        const revision = reader.uint();
        return { value: reader.number(), revision };
      },
    );
  }

  list(bucket: string, query: ListQuery): Promise<ListPage> {
    return this.#link.request(
      OP.list,
      (writer) => {
        writer.text(bucket);
        writeListQuery(writer, query);
      },
      readPage,
    );
  }

  subscribe(query: SubscribeQuery): EngineSubscription {
    const { key, prefix } = query;
    const own = {
      ...query,
      ...(key && { key: new Uint8Array(key) }),
      ...(prefix && { prefix: new Uint8Array(prefix) }),
    };
    const subscription = new RemoteSubscription(own, {
      grant: (channel, bytes) => this.#grant(channel, bytes),
      closed: (channel) => {
        this.#subscriptions.delete(subscription);
        if (channel !== undefined) this.#unsubscribe(channel);
      },
    });
    this.#subscriptions.add(subscription);
    // Without a connection it waits for the next.
    this.#attach(subscription);
    return subscription;
  }

  async buckets(name?: string): Promise<readonly BucketInfo[]> {
    const all: BucketInfo[] = [];
    for (let more = true; more;) {
      const after = all.at(-1)?.name;
      const ask = (writer: CborWriter): void => writeTextOrNull(writer, after);
      const page = await this.#link.request(OP.buckets, ask, (reader) => readBuckets(reader, after)).catch(tooOld);
      all.push(...page.buckets);
      more = page.more;
    }
    return name === undefined ? all : all.filter((bucket) => bucket.name === name);
  }

  async configure(bucket: string, settings: BucketSettings, may?: SettingsCondition): Promise<boolean> {
    if (may !== undefined) {
      throw new FirkinError("NOT_SUPPORTED", "Cannot configure a bucket on a condition over a connection");
    }
    // What is not a setting could not be said. The server knows which value is too large.
    const checked = checkSettings({ ...settings }, Number.MAX_SAFE_INTEGER);
    await this.#link.request(OP.configure, (writer) => {
      writer.text(bucket);
      writeSettings(writer, checked);
    }, readNothing).catch(tooOld);
    return true;
  }

  stats(): Promise<EngineStats> {
    return this.#link.request(OP.stats, writeNothing, (reader) => {
      const stats: Record<string, number> = {};
      for (let left = reader.array(); left > 0; left--) {
        expectItems(reader.array(), 2);
        const name = reader.text();
        stats[name] = reader.number();
      }
      return stats;
    });
  }

  sync(): Promise<void> {
    return this.#link.request(OP.sync, writeNothing, readNothing);
  }

  compact(): Promise<void> {
    return this.#link.request(OP.compact, writeNothing, readNothing, Infinity);
  }

  /**
   * Becomes who `token` stands for, on this connection alone; a later one says the token it was made with.
   * Subscriptions that are no longer allowed end.
   *
   * @returns When it expires, in epoch milliseconds; undefined: never
   * @throws {FirkinError} UNAUTHORIZED — nobody, and the connection is lost; UNAVAILABLE
   */
  authenticate(token: string): Promise<number | undefined> {
    return this.#link.request(OP.auth, (writer) => writer.text(token), readUintOrNull);
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  #write(writer: CborWriter, bucket: string, key: Uint8Array): void {
    writer.text(bucket);
    this.#writeKey(writer, key);
  }

  #writeKey(writer: CborWriter, key: Uint8Array): void {
    checkKey(key, this.limits);
    writer.bytes(key);
  }

  /** Asks for up to `KEYS_MAX` keys, and again for those that did not fit the reply. */
  async #getPart(bucket: string, keys: Uint8Array[]): Promise<(Entry | undefined)[]> {
    const entries = await this.#link.request(
      OP.getMany,
      (writer) => {
        writer.text(bucket);
        writer.array(keys.length);
        for (const key of keys) this.#writeKey(writer, key);
      },
      (reader) => readEntries(reader, keys),
    );
    if (entries.length === keys.length) return entries;
    return [...entries, ...await this.#getPart(bucket, keys.slice(entries.length))];
  }

  // --- subscriptions ---

  #handlers(): LinkHandlers {
    return {
      connected: () => {
        for (const subscription of this.#subscriptions) this.#attach(subscription);
      },
      lost: () => {
        this.#channels.clear();
        for (const subscription of this.#subscriptions) subscription.detach();
      },
      ended: (error) => {
        this.#channels.clear();
        for (const subscription of this.#subscriptions) subscription.end(error.code === "CLOSED" ? undefined : error);
      },
      change: (channel, event, bytes) => this.#channels.get(channel)?.change(event, bytes),
      control: (channel, word, cursor, bytes) => this.#channels.get(channel)?.control(word, cursor, bytes),
    };
  }

  #attach(subscription: RemoteSubscription): void {
    this.#link.request(
      OP.subscribe,
      (writer) => subscription.writeQuery(writer),
      (reader) => {
        const channel = reader.uint();
        const cursor = reader.text();
        if (!subscription.attach(channel, cursor)) return this.#unsubscribe(channel);
        // Before the next frame is read: it may be an event.
        this.#channels.set(channel, subscription);
      },
      Infinity,
    ).catch((error: FirkinError) => {
      // With the connection lost, the next one attaches again.
      if (this.#link.ready || this.#link.ended) subscription.end(error);
    });
  }

  #unsubscribe(channel: number): void {
    this.#channels.delete(channel);
    this.#tell(OP.unsubscribe, (writer) => writer.uint(channel));
  }

  #grant(channel: number, bytes: number): void {
    this.#tell(OP.more, (writer) => {
      writer.uint(channel);
      writer.uint(bytes);
    });
  }

  /** Asks what needs no answer: should the connection be lost, the channel is gone with it. */
  #tell(op: number, write: (writer: CborWriter) => void): void {
    if (this.#link.ready) this.#link.request(op, write, readNothing, Infinity).catch(() => {});
  }
}

/** What a subscription asks of its engine. */
interface SubscriptionHooks {
  grant(channel: number, bytes: number): void;
  /** It has ended; `channel` when the server may not know yet. */
  closed(channel: number | undefined): void;
}

/** Events of one query, over as many connections as it takes. */
class RemoteSubscription implements EngineSubscription {
  readonly ready: Promise<void>;
  cursor: string;
  readonly #query: SubscribeQuery;
  readonly #hooks: SubscriptionHooks;
  #resolveReady: () => void = () => {};
  #rejectReady: (error: FirkinError) => void = () => {};
  #channel: number | undefined;
  /** What stands before the revision in a cursor. */
  #epoch = "";
  /** Behind the last event that arrived; undefined before the first connection. */
  #arrived: string | undefined;
  /** Entries still come as they are: no cursor says where in them. */
  #inSnapshot: boolean;
  /** What `next` hands out. */
  #events: EngineEvent[] = [];
  /** The frames of `#events`. */
  #heldBytes = 0;
  /** Events of a batch that has not arrived whole, and their frames. */
  #part: EngineEvent[] = [];
  #partBytes = 0;
  /** Handed out and not granted anew. */
  #freedBytes = 0;
  #wake: (() => void) | undefined;
  #ended = false;
  #failure: FirkinError | undefined;

  constructor(query: SubscribeQuery, hooks: SubscriptionHooks) {
    this.#query = query;
    this.#hooks = hooks;
    this.#inSnapshot = query.snapshot ?? false;
    this.cursor = query.from ?? "";
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    // Who does not wait for it learns of a failure from `next`.
    this.ready.catch(() => {});
  }

  async next(): Promise<readonly EngineEvent[] | undefined> {
    if (this.#events.length === 0 && !this.#ended) await new Promise<void>((resolve) => this.#wake = resolve);
    if (this.#events.length > 0) return this.#take();
    if (this.#failure !== undefined) throw this.#failure;
    return undefined;
  }

  close(): void {
    this.#events = [];
    this.end(undefined);
  }

  // --- what the engine calls ---

  /** Writes the arguments of `subscribe`: the query, or where it continues. */
  writeQuery(writer: CborWriter): void {
    const from = this.#arrived;
    writeSubscribeQuery(writer, from === undefined ? this.#query : { ...this.#query, snapshot: false, from });
    writer.uint(Math.max(0, WINDOW_BYTES - this.#heldBytes));
  }

  /** The server has registered it; false when it has ended meanwhile. */
  attach(channel: number, cursor: string): boolean {
    if (this.#ended) return false;
    this.#channel = channel;
    this.#freedBytes = 0;
    this.#epoch = cursor.slice(0, cursor.lastIndexOf(".") + 1);
    if (this.#arrived === undefined) {
      this.#arrived = cursor;
      if (!this.#inSnapshot) this.cursor = cursor;
    }
    this.#resolveReady();
    return true;
  }

  /** The connection is lost. */
  detach(): void {
    const begun = this.#channel !== undefined;
    this.#channel = undefined;
    this.#part = [];
    this.#partBytes = 0;
    if (!begun || !this.#inSnapshot) return;
    this.#push([{ type: "resync", cursor: this.#arrived ?? "" }], 0);
    this.end(undefined);
  }

  change(event: ChangeEvent, bytes: number): void {
    this.#part.push(event);
    this.#partBytes += bytes;
    if (event.more === true) return;
    if (!this.#inSnapshot) this.#arrived = this.#epoch + event.revision;
    this.#push(this.#part, this.#partBytes);
    this.#part = [];
    this.#partBytes = 0;
  }

  control(word: number, cursor: string, bytes: number): void {
    if (word === WORD.ended) {
      this.#channel = undefined;
      return this.end(
        new FirkinError("UNAVAILABLE", `Cannot continue a subscription: the server ended it at ${cursor}`),
      );
    }
    this.#arrived = cursor;
    if (word === WORD.synced) {
      this.#inSnapshot = false;
      this.#push([{ type: "synced", cursor }], bytes);
    } else if (word === WORD.progress) {
      this.#push([{ type: "progress", cursor }], bytes);
    } else {
      this.#push([{ type: "resync", cursor }], bytes);
      this.#channel = undefined;
      this.end(undefined);
    }
  }

  /** Ends it; events that have arrived are still handed out, then `failure` is thrown if there is one. */
  end(failure: FirkinError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = failure;
    this.#rejectReady(failure ?? new FirkinError("CLOSED", "Cannot use a subscription: it is closed"));
    this.#hooks.closed(this.#channel);
    this.#channel = undefined;
    this.#wake?.();
  }

  #push(events: readonly EngineEvent[], bytes: number): void {
    if (this.#ended) return;
    this.#events.push(...events);
    this.#heldBytes += bytes;
    // `next` goes on after the whole message is read, with all of its events.
    this.#wake?.();
  }

  #take(): readonly EngineEvent[] {
    const events = this.#events;
    this.#events = [];
    this.#freedBytes += this.#heldBytes;
    this.#heldBytes = 0;
    if (!this.#inSnapshot) this.cursor = this.#arrived!;
    if (this.#channel !== undefined && this.#freedBytes >= GRANT_BYTES) {
      this.#hooks.grant(this.#channel, this.#freedBytes);
      this.#freedBytes = 0;
    }
    return events;
  }
}

function readEntries(reader: CborReader, keys: readonly Uint8Array[]): (Entry | undefined)[] {
  const count = reader.array();
  if (count > keys.length || count === 0) {
    throw new FirkinError("PROTOCOL", `Cannot read a reply: it has ${count} entries for ${keys.length} keys`);
  }
  return keys.slice(0, count).map((key) => readEntry(reader, key));
}

/** What a server says of an operation that it does not know is its number. */
function tooOld(error: FirkinError): never {
  if (error.code !== "NOT_SUPPORTED") throw error;
  throw new FirkinError("NOT_SUPPORTED", "Cannot ask this server about buckets: it is too old", { cause: error });
}

function writeNothing(): void {}

function readNothing(): void {}
