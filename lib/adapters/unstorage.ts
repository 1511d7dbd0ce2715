/**
 * `firkin/unstorage`: a bucket as a driver of unstorage, on any store.
 *
 * unstorage hands over text, which is JSON more often than not: that is stored as JSON, other text as text, and raw
 * bytes as bytes, as the server's dialect of unstorage's `http` driver does. So both see the same values, and everybody
 * else sees what was meant. The types are unstorage's by their shape: who does not use it does not need it.
 *
 * @module
 */
import type { Bucket, SetOptions } from "../store/bucket.ts";
import type { Store } from "../store/store.ts";
import type { Subscription } from "../store/subscription.ts";
import { clearBelow, keysBelow } from "./keys.ts";

// In the published types: a user of unstorage gets along without the rest of firkin.
export type { Store } from "../store/store.ts";

/** Options of {@link firkinDriver}. */
export interface FirkinDriverOptions {
  /** Where the bucket is; disposing of the driver does not close it. */
  readonly store: Store;
  /** The bucket's name, `unstorage` when absent. */
  readonly bucket?: string;
  /** What all keys begin with, such as `app`; nothing when absent. */
  readonly base?: string;
  /** Seconds that a key lives when its own options do not say; for ever when absent. */
  readonly ttl?: number;
}

/** Options of one call. */
export interface FirkinItemOptions {
  /** Seconds that the key lives. */
  readonly ttl?: number;
}

/** What unstorage calls. */
export interface FirkinDriver {
  /** "firkin". */
  readonly name: string;
  /** As it was made. */
  readonly options: FirkinDriverOptions;
  /** True when the item is there. */
  hasItem(key: string): Promise<boolean>;
  /** An item as it was stored; null when it is missing. */
  getItem(key: string): Promise<string | null>;
  /** The same: what was stored as bytes is bytes. */
  getItemRaw(key: string): Promise<unknown>;
  /** Stores text, as JSON where it is that. */
  setItem(key: string, value: string, options?: FirkinItemOptions): Promise<void>;
  /** Stores bytes, text, or what CBOR can say. */
  setItemRaw(key: string, value: unknown, options?: FirkinItemOptions): Promise<void>;
  /** Ends an item. */
  removeItem(key: string): Promise<void>;
  /** The keys that begin with `base`, in their order. */
  getKeys(base?: string): Promise<string[]>;
  /** Ends the items whose keys begin with `base`. */
  clear(base?: string): Promise<void>;
  /** Calls back at each change, whoever made it, also when an item expires; until what it resolves to is called. */
  watch(callback: (event: "update" | "remove", key: string) => void): Promise<() => Promise<void>>;
  /** Ends all watching. The store stays open. */
  dispose(): Promise<void>;
}

/**
 * A driver that keeps items in a bucket.
 *
 * @example A storage that expires its items, and tells of it
 * ```ts
 * import { open } from "firkin";
 * import { firkinDriver } from "firkin/unstorage";
 * import { createStorage } from "unstorage";
 *
 * const store = await open(":memory:");
 * const storage = createStorage({ driver: firkinDriver({ store, bucket: "cache" }) });
 * await storage.setItem("user:ada", { name: "Ada" }, { ttl: 60 });
 * console.log(await storage.getItem("user:ada")); // { name: "Ada" }
 * await storage.dispose();
 * await store.close();
 * ```
 *
 * @throws {RangeError} a name that no bucket can have
 */
export function firkinDriver(options: FirkinDriverOptions): FirkinDriver {
  const { store, bucket: name = "unstorage" } = options;
  const base = options.base === undefined || options.base === "" ? "" : `${options.base.replace(/:$/, "")}:`;
  const [values, texts, bytes] = [
    store.bucket(name, { codec: "json" }),
    store.bucket(name, { codec: "text" }),
    store.bucket(name, { codec: "bytes" }),
  ];
  const watching = new Set<Subscription>();
  const lifeOf = ({ ttl = options.ttl }: FirkinItemOptions = {}): SetOptions => {
    return ttl !== undefined && ttl > 0 ? { ttl: Math.ceil(ttl * 1_000) } : {};
  };
  return {
    name: "firkin",
    options,
    hasItem: (key) => values.has(base + key),
    // unstorage parses text, and leaves alone what is none.
    getItem: async (key) => (await values.get(base + key) ?? null) as string | null,
    getItemRaw: async (key) => await values.get(base + key) ?? null,
    async setItem(key, value, itemOptions) {
      const parsed = parse(value);
      const bucket: Bucket = parsed === undefined ? texts : values;
      await bucket.set(base + key, parsed === undefined ? value : parsed.value, lifeOf(itemOptions));
    },
    async setItemRaw(key, value, itemOptions) {
      const raw = value instanceof ArrayBuffer ? new Uint8Array(value) : value;
      const bucket = raw instanceof Uint8Array ? bytes : typeof raw === "string" ? texts : store.bucket(name);
      await bucket.set(base + key, raw, lifeOf(itemOptions));
    },
    removeItem: async (key) => void await values.delete(base + key),
    async getKeys(below = "") {
      const keys: string[] = [];
      for await (const key of keysBelow(values, base + below)) keys.push(key.slice(base.length));
      return keys;
    },
    clear: (below = "") => clearBelow(values, base + below),
    async watch(callback) {
      const subscription = values.subscribe({ values: false, ...(base === "" ? {} : { prefix: base }) });
      watching.add(subscription);
      await subscription.ready;
      void tell(subscription, base, callback).finally(() => watching.delete(subscription));
      // deno-lint-ignore require-await
      return async () => subscription.close();
    },
    // deno-lint-ignore require-await
    async dispose() {
      for (const subscription of watching) subscription.close();
    },
  };
}

/** What a text says as JSON; undefined when it is none. */
function parse(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

/** Tells of changes until the subscription ends. */
async function tell(
  subscription: Subscription,
  base: string,
  callback: (event: "update" | "remove", key: string) => void,
): Promise<void> {
  for await (const event of subscription) {
    if ("key" in event && typeof event.key === "string") {
      callback(event.type === "set" ? "update" : "remove", event.key.slice(base.length));
    }
  }
}
