/**
 * A store: buckets of keys on one engine. `open` and `connect` both return it.
 *
 * @module
 */
import { FirkinError } from "../base/errors.ts";
import { type BucketInfo, type Engine, isBucketName, type SnapshotResult } from "../engine/engine.ts";
import type { BucketSettings } from "../engine/settings.ts";
import { Atomic } from "./atomic.ts";
import { Bucket, type BucketOptions, type Duration, milliseconds } from "./bucket.ts";
import { type SubscribeOptions, subscribeQuery, Subscription } from "./subscription.ts";

/** Options of {@link Store.subscribe}: all buckets, or the keys of one. */
export interface StoreSubscribeOptions extends Omit<SubscribeOptions, "prefix"> {
  /** Only this bucket. */
  readonly bucket?: string;
}

/** What {@link Store.configure} takes. */
export interface ConfigureOptions extends Omit<BucketSettings, "ttl"> {
  /** How long a key lives that is set without a deadline; `persist` takes the deadline away. */
  readonly ttl?: Duration;
}

/** Figures about a store, by name; all numbers. */
export type StoreStats = Readonly<Record<string, number>>;

/**
 * Buckets of keys.
 *
 * @example Count visits
 * ```ts
 * import { open } from "firkin";
 *
 * const store = await open(":memory:");
 * console.log(await store.bucket("counters").increment("visits")); // 1
 * await store.close();
 * ```
 */
export class Store implements AsyncDisposable {
  /**
   * What keeps the data; for servers and adapters.
   *
   * @internal
   */
  readonly engine: Engine;

  /** Made by `open` and `connect`. */
  constructor(engine: Engine) {
    this.engine = engine;
  }

  /**
   * A view of the bucket with this name. It need not exist: the first write makes it. @throws {RangeError} a bad name
   */
  bucket<Value = unknown>(name: string, options?: BucketOptions): Bucket<Value> {
    return new Bucket<Value>(this.engine, checkBucketName(name), options);
  }

  /**
   * All buckets, in the order of their names: how many keys each has, the bytes of their records, and its settings. A
   * server tells those in which one has any right, and leaves out what one may not know: see {@link BucketInfo}.
   *
   * @throws {FirkinError} NOT_SUPPORTED — the server is older than this
   *
   * @example Count the keys of a bucket
   * ```ts
   * import { open } from "firkin";
   *
   * const store = await open(":memory:");
   * await store.configure("sessions", { ttl: "30m" });
   * await store.bucket("sessions").set("ada", { page: "/" });
   * console.log((await store.buckets()).map(({ name, keys }) => `${name}: ${keys}`)); // ["sessions: 1"]
   * await store.close();
   * ```
   */
  async buckets(): Promise<readonly BucketInfo[]> {
    return await this.engine.buckets();
  }

  /**
   * Gives a bucket settings, in the place of those that it had, for whoever writes to it; makes it when there is none.
   * They are on stable storage when this resolves, and change no key that is there. On a server it takes the right
   * `admin`.
   *
   * @throws {TypeError} no such setting; {RangeError} a bad name, or a setting out of range
   * @throws {FirkinError} FULL, IO; of a server also FORBIDDEN, INVALID — larger values than it has, NOT_SUPPORTED — it
   *   is older than this
   */
  async configure(bucket: string, settings: ConfigureOptions): Promise<void> {
    const { ttl, ...others } = settings;
    const own = ttl === undefined ? others : { ...others, ttl: Math.ceil(milliseconds(ttl)) };
    await this.engine.configure(checkBucketName(bucket), own);
  }

  /** Begins a batch: writes that happen all or not at all. */
  atomic(): Atomic {
    return new Atomic(this.engine);
  }

  /** The changes of all buckets, or of one. */
  subscribe(options: StoreSubscribeOptions = {}): Subscription {
    const source = this.engine.subscribe({
      ...subscribeQuery(options),
      ...(options.bucket === undefined ? {} : { bucket: checkBucketName(options.bucket) }),
    });
    return new Subscription(source, options);
  }

  /**
   * Figures: `keys`, `revision`, `segments`, `log.bytes`, `log.deadBytes`, ...; since the open `compaction.runs`,
   * `compaction.readBytes`, `compaction.writtenBytes`, `compaction.reclaimedBytes`, and 1 or 0 in `compaction.running`;
   * `reserve.bytes`, and 1 in `reserve.full` while sets are refused; of a server also `server.*`.
   */
  async stats(): Promise<StoreStats> {
    return await this.engine.stats();
  }

  /** Resolves when everything acknowledged before the call is on stable storage, whatever the policy. */
  async sync(): Promise<void> {
    await this.engine.sync();
  }

  /** Gives back the space of dead records; resolves when done. */
  async compact(): Promise<void> {
    await this.engine.compact();
  }

  /**
   * Copies what is live now into another folder, as a store of its own that `open` takes: compacted, at one revision,
   * while reads, writes and expiry go on. Keys that are taken meanwhile are left out. Only a store in this process can.
   *
   * @param path A folder that is empty or missing.
   * @throws {FirkinError} NOT_SUPPORTED — the store is on a server; INVALID — the folder is not empty; FULL, IO,
   * CORRUPT
   */
  async snapshot(path: string): Promise<SnapshotResult> {
    if (typeof path !== "string" || path === "" || path === ":memory:") {
      throw new TypeError("Cannot take a snapshot without the path of a folder");
    }
    const { engine } = this;
    if (engine.snapshot === undefined) {
      throw new FirkinError("NOT_SUPPORTED", "Cannot take a snapshot over a connection: it is made where the data is");
    }
    return await engine.snapshot(path);
  }

  /** Commits what waits and closes. An embedded store is on disk when this resolves. */
  async close(): Promise<void> {
    await this.engine.close();
  }

  /** As {@link Store.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** `name` itself. @throws {TypeError} not a string; {RangeError} not a bucket name */
export function checkBucketName(name: string): string {
  if (typeof name !== "string") throw new TypeError(`Cannot use a ${typeof name} as a bucket name`);
  if (!isBucketName(name)) {
    throw new RangeError(
      `Cannot use "${name.slice(0, 80)}" as a bucket name: expected 1 to 64 of a-z, 0-9, _ and -, not first _ or -`,
    );
  }
  return name;
}
