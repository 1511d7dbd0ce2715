/**
 * A subscription as users hold it: an async iterable of events.
 *
 * Leaving the loop (`break`, `return`, an exception) closes it, and so do `close()`, `using` and an aborted signal.
 *
 * @module
 */
import { decodeKey, type Key } from "../base/bytes.ts";
import { type Content, CONTENT_NAMES, type ContentName, decodeValue } from "../base/codec.ts";
import { FirkinError } from "../base/errors.ts";
import type { ChangeType, ControlEvent, EngineEvent, EngineSubscription } from "../engine/engine.ts";

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
  /** Only on `set`. */
  readonly value?: Value;
  /** In the place of `value` when its bytes are not what its content type says: one bad value stops no subscriber. */
  readonly error?: FirkinError;
  /** What the value is stored as; only on `set`. */
  readonly content?: ContentName;
  /** When the key will expire, epoch milliseconds; only on `set`. */
  readonly expiresAt?: number;
}

/** What a subscription delivers: changes, and words about itself. */
export type SubscriptionEvent<Value = unknown> = Change<Value> | ControlEvent;

/** Options of `subscribe`. */
export interface SubscribeOptions {
  /** Only keys that begin with this. */
  readonly prefix?: Key;
  /** First the entries as they are, as `set` events, then `synced`, then what changes. */
  readonly snapshot?: boolean;
  /** Continue after this cursor, without gap or duplicate; `resync` comes when the log no longer reaches that far. */
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

  /** Made by `subscribe`. */
  constructor(source: EngineSubscription, signal?: AbortSignal) {
    this.#source = source;
    this.ready = source.ready;
    if (signal?.aborted === true) source.close();
    else signal?.addEventListener("abort", () => source.close(), { once: true });
  }

  /** Where to continue with `subscribe({ from })`: after the last batch of events that the loop took. */
  get cursor(): string {
    return this.#source.cursor;
  }

  /** Ends the loop over the subscription. */
  close(): void {
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
        for (const event of events) yield decodeEvent<Value>(event);
      }
    } finally {
      this.close();
    }
  }
}

function decodeEvent<Value>(event: EngineEvent): SubscriptionEvent<Value> {
  if ("cursor" in event) return event;
  const { type, bucket, revision, at, value, content, expiresAt } = event;
  const change: Change<Value> = { type, bucket, key: decodeKey(event.key), revision, at };
  if (value === undefined || content === undefined) return change;
  const set = { ...change, ...decoded<Value>(value, content), content: CONTENT_NAMES[content]! };
  return expiresAt === undefined ? set : { ...set, expiresAt };
}

function decoded<Value>(value: Uint8Array, content: Content): { value: Value } | { error: FirkinError } {
  try {
    return { value: decodeValue(value, content) as Value };
  } catch (error) {
    if (error instanceof FirkinError) return { error };
    throw error;
  }
}
