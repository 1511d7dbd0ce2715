/**
 * A subscription as users hold it: an async iterable of events.
 *
 * Leaving the loop (`break`, `return`, an exception) closes it, and so do `close()`, `using` and an aborted signal.
 *
 * @module
 */
import { decodeKey, encodeKey, type Key } from "../base/bytes.ts";
import { type Content, CONTENT_NAMES, type ContentName, decodeValue } from "../base/codec.ts";
import { FirkinError } from "../base/errors.ts";
import type { ChangeType, ControlEvent, EngineEvent, EngineSubscription, SubscribeQuery } from "../engine/engine.ts";

/** One change of one key, as subscriptions deliver it. */
export interface Change<Value = unknown> {
  /** `set`, or how the key ended: `delete`, `expire`, `evict`, `take`. */
  readonly type: ChangeType;
  /** The bucket's name. */
  readonly bucket: string;
  /** A string when its bytes are well-formed UTF-8. */
  readonly key: Key;
  /** The change's number: ascending in the whole store. */
  readonly revision: number;
  /** When the store took the change, epoch milliseconds. */
  readonly at: number;
  /** Only on `set`, and not of a single-read key; absent when the subscription wants no values. */
  readonly value?: Value;
  /** In the place of `value` when its bytes are not what its content type says: one bad value stops no subscriber. */
  readonly error?: FirkinError;
  /** What the value is stored as; only beside `value`, or `once`. */
  readonly content?: ContentName;
  /** When the key will expire, epoch milliseconds; only on `set`. */
  readonly expiresAt?: number;
  /** The key is single-read: only its taker sees the value. */
  readonly once?: true;
  /** The next event is of the same batch, and has arrived. */
  readonly more?: true;
}

/** What a subscription delivers: changes, and words about itself. */
export type SubscriptionEvent<Value = unknown> = Change<Value> | ControlEvent;

const CHANGE_TYPES: ReadonlySet<ChangeType> = new Set(["set", "delete", "expire", "evict", "take"]);

/** Options of `subscribe`. */
export interface SubscribeOptions {
  /** Only this key. */
  readonly key?: Key;
  /** Only keys that begin with this; not beside `key`. */
  readonly prefix?: Key;
  /** Only changes of these types, such as `["expire"]`; all when absent. A snapshot is of sets. */
  readonly types?: readonly ChangeType[];
  /** False: events say what changed, and not what to. */
  readonly values?: boolean;
  /** First the entries as they are, as `set` events, then `synced`, then what changes. */
  readonly snapshot?: boolean;
  /**
   * Instead of a snapshot: continue after this cursor, without gap or duplicate; `resync` comes when the log no longer
   * reaches that far.
   */
  readonly from?: string;
  /** Closes the subscription when aborted. */
  readonly signal?: AbortSignal;
}

/**
 * Events in order of their revisions, each once.
 *
 * @example Until the first expiry
 * ```ts
 * import { ManualClock, open } from "firkin";
 *
 * const clock = new ManualClock();
 * const store = await open({ path: ":memory:", clock });
 * const sessions = store.bucket("sessions");
 * const subscription = sessions.subscribe();
 * await sessions.set("ada", { page: 1 }, { ttl: "30s" });
 * clock.advance(30_000);
 * for await (const event of subscription) {
 *   if (event.type === "expire") break; // closes the subscription
 * }
 * await store.close();
 * ```
 */
export class Subscription<Value = unknown> implements AsyncIterable<SubscriptionEvent<Value>>, Disposable {
  /** Resolves when the store has registered the subscription: every later change is in it. */
  readonly ready: Promise<void>;
  readonly #source: EngineSubscription;
  readonly #stopListening: () => void = () => {};
  /** Behind the event in hand; undefined between two batches, when the source says it. */
  #cursor: string | undefined;
  /** A snapshot that has not ended: behind any of its events only the beginning misses nothing. */
  #inSnapshot: boolean;

  /** Made by `subscribe`. */
  constructor(source: EngineSubscription, { snapshot = false, signal }: SubscribeOptions = {}) {
    this.#source = source;
    this.#inSnapshot = snapshot;
    this.ready = source.ready;
    if (signal === undefined) return;
    const close = (): void => this.close();
    this.#stopListening = () => signal.removeEventListener("abort", close);
    if (signal.aborted) this.close();
    else signal.addEventListener("abort", close);
  }

  /** Where to continue with `subscribe({ from })`: behind the last event that the loop took. */
  get cursor(): string {
    return this.#cursor ?? this.#source.cursor;
  }

  /** Ends the loop over the subscription. */
  close(): void {
    this.#stopListening();
    this.#source.close();
  }

  /** As {@link Subscription.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** The events; one loop at a time. */
  async *[Symbol.asyncIterator](): AsyncGenerator<SubscriptionEvent<Value>, void, undefined> {
    try {
      for (let events = await this.#source.next(); events !== undefined; events = await this.#source.next()) {
        for (const event of events) {
          this.#cursor = this.#behind(event);
          yield decodeEvent<Value>(event);
        }
        this.#cursor = undefined;
      }
    } finally {
      this.close();
    }
  }

  /**
   * Calls `listener` for each event, one after another, also where it returns a promise; resolves when the subscription
   * is closed. Rejects with what `listener` throws, which closes it.
   *
   * @example Events by callback
   * ```ts
   * import { open } from "firkin";
   *
   * const store = await open(":memory:");
   * const subscription = store.bucket("users").subscribe({ types: ["set"] });
   * const done = subscription.forEach((event) => {
   *   if ("key" in event) subscription.close();
   * });
   * await store.bucket("users").set("ada", 1);
   * await done;
   * await store.close();
   * ```
   */
  async forEach(listener: (event: SubscriptionEvent<Value>) => void | Promise<void>): Promise<void> {
    for await (const event of this) await listener(event);
  }

  #behind(event: EngineEvent): string {
    if ("cursor" in event) {
      this.#inSnapshot = false;
      return event.cursor;
    }
    const epoch = this.#source.cursor.split(".")[0]!;
    return `${epoch}.${this.#inSnapshot ? 0 : event.revision}`;
  }
}

function decodeEvent<Value>(event: EngineEvent): SubscriptionEvent<Value> {
  if ("cursor" in event) return event;
  const { type, bucket, revision, at, value, content, expiresAt, once, more } = event;
  const change: Change<Value> = { type, bucket, key: decodeKey(event.key), revision, at };
  if (type !== "set") return more === undefined ? change : { ...change, more };
  return {
    ...change,
    ...(value === undefined || content === undefined ? undefined : decoded<Value>(value, content)),
    ...(content === undefined ? undefined : { content: CONTENT_NAMES[content]! }),
    ...(expiresAt === undefined ? undefined : { expiresAt }),
    ...(once === undefined ? undefined : { once }),
    ...(more === undefined ? undefined : { more }),
  };
}

function decoded<Value>(value: Uint8Array, content: Content): { value: Value } | { error: FirkinError } {
  try {
    return { value: decodeValue(value, content) as Value };
  } catch (error) {
    if (error instanceof FirkinError) return { error };
    throw error;
  }
}

/**
 * The part of `options` that an engine wants. @throws {TypeError} a cursor that is no string, or beside a snapshot; a
 * prefix beside a key; {RangeError} types that are none
 */
export function subscribeQuery(options: SubscribeOptions): SubscribeQuery {
  const { key, prefix, types, values, snapshot, from } = options;
  if (from !== undefined && typeof from !== "string") {
    throw new TypeError(`Cannot subscribe from a ${typeof from}: expected a cursor`);
  }
  if (from !== undefined && snapshot === true) throw new TypeError("Cannot use both a snapshot and a cursor");
  if (key !== undefined && prefix !== undefined) throw new TypeError("Cannot use both a key and a prefix");
  if (types !== undefined && (types.length === 0 || !types.every((type) => CHANGE_TYPES.has(type)))) {
    throw new RangeError(`Cannot subscribe to changes of type ${types.join(", ") || "none"}`);
  }
  return {
    ...(key === undefined ? {} : { key: keyOf(key) }),
    ...(types === undefined ? {} : { types: [...types] }),
    ...(values === undefined ? {} : { values }),
    ...(prefix === undefined ? {} : { prefix: encodeKey(prefix) }),
    ...(snapshot === undefined ? {} : { snapshot }),
    ...(from === undefined ? {} : { from }),
  };
}

function keyOf(key: Key): Uint8Array {
  const bytes = encodeKey(key);
  if (bytes.length === 0) throw new RangeError("Cannot use an empty key");
  return bytes;
}
