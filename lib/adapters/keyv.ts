/**
 * `firkin/keyv`: a bucket as a storage adapter of Keyv 5, on any store.
 *
 * Keyv writes its namespace before the key and hands over text with the value and its end in it; the end is the key's
 * own, too, so that firkin expires what Keyv would only stop to show, and tells subscribers. The types are Keyv's by
 * their shape: who does not use Keyv does not need it.
 *
 * @module
 */
import type { Bucket, SetManyEntry, SetOptions } from "../store/bucket.ts";
import { clearBelow } from "./keys.ts";

// In the published types: a user of Keyv gets along without the rest of firkin.
export type { Bucket } from "../store/bucket.ts";

/** What Keyv hands over for one key. */
export interface KeyvAdapterEntry {
  /** With its namespace before it. */
  readonly key: string;
  /** Text, or what Keyv's serializer gives. */
  readonly value: unknown;
  /** Milliseconds. */
  readonly ttl?: number;
}

/**
 * Keeps what Keyv stores in a bucket.
 *
 * @example A cache
 * ```ts
 * import { open } from "firkin";
 * import { KeyvAdapter } from "firkin/keyv";
 * import Keyv from "keyv";
 *
 * const store = await open(":memory:");
 * const cache = new Keyv({ store: new KeyvAdapter(store.bucket("cache")) });
 * await cache.set("ada", { name: "Ada" }, 60_000);
 * console.log(await cache.get("ada")); // { name: "Ada" }
 * await store.close();
 * ```
 */
export class KeyvAdapter {
  /** Set by Keyv: what its keys begin with. */
  namespace?: string | undefined;
  /** Keyv asks for an iterator only where it knows the dialect; this one iterates as Redis' adapter does. */
  readonly opts: Record<string, unknown> = { dialect: "redis", url: "" };
  readonly #bucket: Bucket;

  /** Keeps values in `bucket`, which may have other keys too; it does not close the store. */
  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  /** What Keyv stored, undefined when it is missing. */
  async get<Value>(key: string): Promise<Value | undefined> {
    return await this.#bucket.get(key) as Value | undefined;
  }

  /** The same of many keys, in their order. */
  async getMany<Value>(keys: string[]): Promise<(Value | undefined)[]> {
    return await this.#bucket.getMany(keys) as (Value | undefined)[];
  }

  /** Stores a value, for `ttl` milliseconds if given. */
  async set(key: string, value: unknown, ttl?: number): Promise<void> {
    await this.#bucket.set(key, value, lifeOf(ttl));
  }

  /** Stores many. */
  async setMany(entries: readonly KeyvAdapterEntry[]): Promise<void> {
    await this.#bucket.setMany(entries.map(({ key, value, ttl }): SetManyEntry => [key, value, lifeOf(ttl)]));
  }

  /** True when the key was there. */
  async delete(key: string): Promise<boolean> {
    return (await this.#bucket.delete(key)).ok;
  }

  /** True when one of the keys was there. */
  async deleteMany(keys: string[]): Promise<boolean> {
    const deleted = await Promise.all(keys.map((key) => this.delete(key)));
    return deleted.includes(true);
  }

  /** True when the key is there. */
  has(key: string): Promise<boolean> {
    return this.#bucket.has(key);
  }

  /** The same of many keys, in their order. */
  hasMany(keys: string[]): Promise<boolean[]> {
    return Promise.all(keys.map((key) => this.#bucket.has(key)));
  }

  /** Deletes everything in the namespace; in the bucket when there is none. */
  clear(): Promise<void> {
    return clearBelow(this.#bucket, prefixOf(this.namespace));
  }

  /** Everything in a namespace, in the order of the keys. */
  async *iterator<Value>(namespace?: string): AsyncGenerator<[string, Value | undefined], void, undefined> {
    const prefix = prefixOf(namespace);
    for await (const { key, value } of this.#bucket.list(prefix === "" ? {} : { prefix })) {
      if (typeof key === "string") yield [key, value as Value];
    }
  }

  /** Keyv listens for errors of connections, of which this has none: every call tells its own. */
  on(_event: string, _listener: (...args: unknown[]) => void): this {
    return this;
  }

  /** The store is whoever opened it's. */
  async disconnect(): Promise<void> {}
}

function prefixOf(namespace: string | undefined): string {
  return namespace === undefined || namespace === "" ? "" : `${namespace}:`;
}

/** Keyv's ttl, which is no whole number when somebody calculated it, and none at 0. */
function lifeOf(ttl: number | undefined): SetOptions {
  return typeof ttl === "number" && ttl > 0 ? { ttl: Math.ceil(ttl) } : {};
}
