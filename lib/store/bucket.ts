/**
 * A bucket: a named, typed view of keys.
 *
 * It turns keys and values into bytes and back, checks what it is given, and leaves the rest to the engine. Misuse is a
 * `TypeError` or `RangeError`; a missing key is `undefined`; a lost race is `{ ok: false, current }`.
 *
 * @module
 */
import { decodeKey, encodeKey, type Key, KeyBuffer } from "../base/bytes.ts";
import { CONTENT, type Content, type ContentName, decodeValue, decodeValueIn, encodeValue } from "../base/codec.ts";
import { FirkinError } from "../base/errors.ts";
import type {
  Deadline,
  Engine,
  Entry as EngineEntry,
  ListQuery,
  SetEntry,
  SetOptions as EngineSetOptions,
  ValueReader,
  WriteResult as EngineResult,
} from "../engine/engine.ts";
import { abortable, type CallOptions } from "./abort.ts";
import { SliceWriter } from "./slices.ts";
import { type SubscribeOptions, subscribeQuery, Subscription } from "./subscription.ts";

/** A live key. */
export interface Entry<Value = unknown> {
  /** A string when its bytes are well-formed UTF-8. */
  readonly key: Key;
  /** What was set. Undefined in an entry that says `once`, unless the call that returns it has taken the key. */
  readonly value: Value;
  /** The number of the change that made it. */
  readonly revision: number;
  /** When it will expire, epoch milliseconds; absent when it will not. */
  readonly expiresAt?: number;
  /** The key is single-read: its value is for the one who takes it. */
  readonly once?: true;
}

/** A write that happened, or the entry that stood in its way (undefined when there is none). */
export type WriteResult<Value = unknown> =
  | { readonly ok: true; readonly revision: number }
  | { readonly ok: false; readonly current: Entry<Value> | undefined };

/** A time span: milliseconds, or a number with a unit, such as `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"`. */
export type Duration = number | string;

/** Options of {@link Bucket.set}. */
export interface SetOptions extends CallOptions {
  /** How long the key lives, from when the store takes the write. */
  readonly ttl?: Duration;
  /** When the key ends, epoch milliseconds; instead of `ttl`. */
  readonly expiresAt?: number;
  /** Write only if the key has this revision; 0: only if it does not exist. */
  readonly ifRevision?: number;
  /** Make the key single-read: the first `get` takes it, and nothing else shows its value. */
  readonly once?: boolean;
}

/** Options of {@link Bucket.setMany}: those of `set`, but for the condition. */
export type SetManyOptions = Omit<SetOptions, "ifRevision">;

/** A key and its value for {@link Bucket.setMany}, with options of its own in the place of those for all. */
export type SetManyEntry<Value = unknown> =
  | readonly [key: Key, value: Value]
  | readonly [key: Key, value: Value, options: Omit<SetManyOptions, "signal">];

/** Options of {@link Bucket.get}. */
export interface GetOptions extends CallOptions {
  /** A sliding deadline: move the key's deadline to this long from now. */
  readonly touch?: Duration;
}

/** Options of {@link Bucket.delete}. */
export interface DeleteOptions extends CallOptions {
  /** Delete only if the key has this revision. */
  readonly ifRevision?: number;
}

/** Options of {@link Bucket.list}: keys in byte order. */
export interface ListOptions extends CallOptions {
  /** Only keys that begin with this. */
  readonly prefix?: Key;
  /** The first key, inclusive. */
  readonly start?: Key;
  /** The last key, exclusive. */
  readonly end?: Key;
  /** From the last key to the first. */
  readonly reverse?: boolean;
  /** At most this many entries. */
  readonly limit?: number;
}

/** Options of `store.bucket`. */
export interface BucketOptions {
  /**
   * What values are stored as: `"cbor"` (default), `"json"`, `"text"` or `"bytes"`. Reading goes by what a value is.
   */
  readonly codec?: ContentName;
}

/** Entries asked for at a time by {@link Bucket.list}. */
const PAGE_ENTRIES = 1_000;

/** Largest deadline, and largest time to live: what a record can hold, some 8,900 years. */
const MILLISECONDS_MAX = 2 ** 48 - 1;

/** What is shown of a single-read key. */
const HIDDEN = Symbol("hidden");

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * A named, typed view of keys.
 *
 * @example Set with a condition
 * ```ts
 * import { open } from "firkin";
 *
 * const store = await open(":memory:");
 * const users = store.bucket<{ name: string }>("users");
 * const first = await users.set("ada", { name: "Ada" }, { ifRevision: 0 });
 * const second = await users.set("ada", { name: "Other" }, { ifRevision: 0 });
 * console.log(first.ok, second.ok); // true false
 * await store.close();
 * ```
 */
export class Bucket<Value = unknown> {
  /** The bucket's name. */
  readonly name: string;
  /**
   * What keeps the data; for batches.
   *
   * @internal
   */
  readonly engine: Engine;
  /**
   * What values are stored as; for batches.
   *
   * @internal
   */
  readonly codec: ContentName;
  /** What the engine is told of a set without options. */
  readonly #plain: EngineSetOptions;
  readonly #keys = new KeyBuffer();

  /** Made by `store.bucket`. */
  constructor(engine: Engine, name: string, options: BucketOptions = {}) {
    this.name = name;
    this.engine = engine;
    this.codec = options.codec ?? "cbor";
    if (!Object.hasOwn(CONTENT, this.codec)) {
      throw new RangeError(`Cannot use codec "${this.codec}": it is none of firkin's`);
    }
    this.#plain = { content: CONTENT[this.codec] };
  }

  // --- reads ---

  /**
   * The value of a key, undefined when it is missing. A single-read key is taken.
   *
   * With `touch` the deadline slides: after the read it is moved as by {@link Bucket.touch}, and this resolves when
   * that is as durable as the store's policy says. The two are not one step: a key that ended in between stays ended,
   * one that was set anew in between has its new deadline moved.
   *
   * @throws {FirkinError} CLOSED, CORRUPT, UNAVAILABLE
   *
   * @example A session that ends five minutes after it was last read
   * ```ts
   * import { open } from "firkin";
   *
   * const store = await open(":memory:");
   * const sessions = store.bucket<string>("sessions");
   * await sessions.set("ada", "/cart", { ttl: "5m" });
   * console.log(await sessions.get("ada", { touch: "5m" })); // "/cart"
   * await store.close();
   * ```
   */
  get(key: Key, options?: GetOptions): Promise<Value | undefined> {
    if (options?.signal !== undefined) {
      const { signal, ...rest } = options;
      return abortable(signal, () => this.get(key, rest));
    }
    const { engine } = this;
    if (engine.read === undefined || options?.touch !== undefined) return this.#get(key, options?.touch);
    // No async function: a promise of its own would cost as much as asking does.
    try {
      return engine.read(this.name, this.#keys.encode(key), decodeValueIn as ValueReader<Value>);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #get(key: Key, touch: Duration | undefined): Promise<Value | undefined> {
    if (touch === undefined && this.engine.readSync !== undefined) {
      const shown = this.#show(key);
      if (shown !== HIDDEN) return shown as Value | undefined;
    }
    const bytes = encodeKey(key);
    const ttl = touch === undefined ? undefined : milliseconds(touch);
    const entry = await this.engine.get(this.name, bytes);
    // A single-read key that was read is gone.
    if (ttl !== undefined && entry !== undefined && entry.once === undefined) {
      await this.engine.touch(this.name, bytes, { ttl });
    }
    return entry && decodeValue(entry.value, entry.content) as Value;
  }

  /**
   * As {@link Bucket.get}, at once. Embedded stores only.
   * @throws {FirkinError} NOT_SUPPORTED — the store is remote, or the key is single-read: a take waits for the disk
   */
  getSync(key: Key): Value | undefined {
    if (this.engine.readSync === undefined) {
      throw new FirkinError("NOT_SUPPORTED", "Cannot get at once from a remote store: use get");
    }
    const shown = this.#show(key);
    if (shown === HIDDEN) {
      throw new FirkinError("NOT_SUPPORTED", "Cannot get a single-read key at once: use get or take");
    }
    return shown as Value | undefined;
  }

  /** The entry of a key, undefined when it is missing. A single-read key is taken. */
  async getEntry(key: Key, { signal }: CallOptions = {}): Promise<Entry<Value> | undefined> {
    const entry = await abortable(signal, () => this.engine.get(this.name, encodeKey(key)));
    return entry && decodeEntry<Value>(entry, true);
  }

  /** The values of keys, in their order; undefined where one is missing. Single-read keys are taken. */
  async getMany(keys: Iterable<Key>, { signal }: CallOptions = {}): Promise<(Value | undefined)[]> {
    signal?.throwIfAborted();
    const all = [...keys];
    if (this.engine.readSync !== undefined) {
      const shown = all.map((key) => this.#show(key));
      if (!shown.includes(HIDDEN)) return shown as (Value | undefined)[];
    }
    const entries = await abortable(signal, () => this.engine.getMany(this.name, all.map(encodeKey)));
    return entries.map((entry) => entry === undefined ? undefined : decodeValue(entry.value, entry.content) as Value);
  }

  /** What an embedded engine shows at once: a value, `HIDDEN`, or undefined. */
  #show(key: Key): unknown {
    return this.engine.readSync!(this.name, this.#keys.encode(key), decodeShown);
  }

  /** True when the key is there. Takes nothing. */
  async has(key: Key, { signal }: CallOptions = {}): Promise<boolean> {
    return await abortable(signal, () => this.engine.has(this.name, encodeKey(key)));
  }

  /**
   * Entries in the byte order of their keys, fetched page by page: a key written meanwhile may or may not be in it.
   * Single-read keys are listed without their values. When its `signal` is aborted the loop ends with the reason, be it
   * between two entries or while a page is on its way.
   *
   * @example The first two keys of a prefix
   * ```ts
   * import { open } from "firkin";
   *
   * const store = await open(":memory:");
   * const places = store.bucket<number>("places");
   * await Promise.all([places.set("de/berlin", 1), places.set("at/wien", 2), places.set("de/aachen", 3)]);
   * for await (const { key } of places.list({ prefix: "de/", limit: 2 })) console.log(key); // de/aachen, de/berlin
   * await store.close();
   * ```
   */
  async *list(options: ListOptions = {}): AsyncGenerator<Entry<Value>, void, undefined> {
    const { limit = Infinity, reverse = false, signal } = options;
    if (limit !== Infinity && (!Number.isSafeInteger(limit) || limit < 0)) {
      throw new RangeError(`Cannot list ${limit} entries: expected a whole number of at least 0`);
    }
    const range = {
      ...(options.prefix === undefined ? {} : { prefix: encodeKey(options.prefix) }),
      ...(options.start === undefined ? {} : { start: encodeKey(options.start) }),
      ...(options.end === undefined ? {} : { end: encodeKey(options.end) }),
    };
    let query: ListQuery = { ...range, reverse, limit: 0 };
    for (let left = limit; left > 0;) {
      const wanted = { ...query, limit: Math.min(left, PAGE_ENTRIES) };
      const page = await abortable(signal, () => this.engine.list(this.name, wanted));
      for (const entry of page.entries) {
        yield decodeEntry<Value>(entry);
        signal?.throwIfAborted();
      }
      left -= page.entries.length;
      const last = page.entries[page.entries.length - 1];
      if (!page.more || last === undefined) return;
      query = { ...query, after: last.key };
    }
  }

  // --- writes ---

  /**
   * Writes a value; resolves when it is as durable as the store's policy says. Without `ttl` and `expiresAt` the key
   * does not expire, whatever it did before. `value` is encoded before the call returns.
   *
   * @throws {TypeError} a value that the codec cannot hold, a malformed key or ttl
   * @throws {FirkinError} TOO_LARGE, FULL, DURABILITY, CLOSED, UNAVAILABLE
   */
  set(key: Key, value: Value, options?: SetOptions): Promise<WriteResult<Value>> {
    if (options?.signal !== undefined) {
      const { signal, ...rest } = options;
      return abortable(signal, () => this.set(key, value, rest));
    }
    // No async function: a promise of its own would cost as much as encoding the record does.
    try {
      const engineOptions = options === undefined ? this.#plain : this.#engineOptions(options);
      // The value first: encoding it may run what calls us again, and the key's bytes are lent.
      const bytes = encodeValue(value, engineOptions.content);
      const written = this.engine.set(this.name, this.#keys.encode(key), bytes, engineOptions);
      // Without a condition nothing stands in its way.
      if (engineOptions.ifRevision === undefined) return written as Promise<WriteResult<Value>>;
      return written.then((result) => decodeResult<Value>(result));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Writes many keys in their order; resolves to their number when all are as durable as the store's policy says.
   *
   * What is written together shares one write and one sync. It is not a batch: when this rejects, some may have been
   * written, and a crash may leave a part. For all or nothing take `store.atomic()`.
   *
   * `entries` may be of any length: they are asked for as they are written, a slice of 1,000 entries or 1 MiB at most
   * (`batchOperationsMax` and `batchBytesMax`, when those are less), and never more than two slices are in memory. What
   * an entry holds must not change before this resolves. Once `signal` is aborted no slice is sent any more; those on
   * their way may be written. The source is ended when it gives its next entry.
   *
   * @throws {TypeError} an entry that is none, a value that the codec cannot hold, a malformed key or ttl
   * @throws {FirkinError} TOO_LARGE, FULL, DURABILITY, CLOSED, UNAVAILABLE
   *
   * @example An import, whose source waits for the disk
   * ```ts
   * import { open } from "firkin";
   *
   * async function* lines(): AsyncGenerator<[string, number]> {
   *   for (let line = 1; line <= 10_000; line++) yield [`line ${line}`, line]; // or read from a file or a network
   * }
   * const store = await open(":memory:");
   * const numbers = store.bucket<number>("numbers");
   * await numbers.setMany([["one", 1], ["two", 2, { ttl: "5m" }]]);
   * console.log(await numbers.setMany(lines()), await numbers.get("line 10000")); // 10000 10000
   * await store.close();
   * ```
   */
  async setMany(
    entries: Iterable<SetManyEntry<Value>> | AsyncIterable<SetManyEntry<Value>>,
    options?: SetManyOptions,
  ): Promise<number> {
    return await abortable(options?.signal, () => this.#setMany(entries, options));
  }

  async #setMany(
    entries: Iterable<SetManyEntry<Value>> | AsyncIterable<SetManyEntry<Value>>,
    options: SetManyOptions | undefined,
  ): Promise<number> {
    const signal = options?.signal;
    const life = options === undefined ? undefined : manyLifeOf(options);
    const writer = new SliceWriter(this.engine, this.name);
    let count = 0;
    try {
      if (Symbol.asyncIterator in entries) {
        for await (const entry of entries) {
          signal?.throwIfAborted();
          count++;
          await writer.add(this.#setEntry(entry, life));
        }
      } else {
        for (const entry of entries) {
          signal?.throwIfAborted();
          count++;
          const full = writer.add(this.#setEntry(entry, life));
          if (full !== undefined) await full;
        }
      }
      signal?.throwIfAborted();
      await writer.finish();
    } catch (error) {
      await writer.abandon();
      throw error;
    }
    return count;
  }

  #setEntry(entry: SetManyEntry<Value>, forAll: ReturnType<typeof lifeOf> | undefined): SetEntry {
    if (!Array.isArray(entry)) throw new TypeError("Cannot set an entry: expected an array of a key and a value");
    const options = entry[2] as SetManyOptions | undefined;
    const { content } = this.#plain;
    const key = encodeKey(entry[0] as Key);
    const value = encodeValue(entry[1], content);
    const life = options === undefined ? forAll : manyLifeOf(options);
    return life === undefined ? { key, value, content } : { key, value, content, ...life };
  }

  #engineOptions(options: SetOptions): EngineSetOptions {
    const { ifRevision } = options;
    checkRevision(ifRevision);
    return { ...this.#plain, ...lifeOf(options), ...(ifRevision === undefined ? {} : { ifRevision }) };
  }

  /** Deletes a key. One that does not exist is `{ ok: false, current: undefined }`. */
  async delete(key: Key, options: DeleteOptions = {}): Promise<WriteResult<Value>> {
    checkRevision(options.ifRevision);
    return decodeResult(await abortable(options.signal, () => this.engine.delete(this.name, encodeKey(key), options)));
  }

  /**
   * Reads and deletes a key: its value, undefined when it is missing. Of many takers one gets it. That the key is gone
   * is on stable storage before the value is handed out, whatever the store's policy; so a value is delivered at most
   * once, and lost when the process or the connection ends in between.
   *
   * @example A code that can be used once
   * ```ts
   * import { open } from "firkin";
   *
   * const store = await open(":memory:");
   * const codes = store.bucket<string>("codes");
   * await codes.set("ada", "493-201", { ttl: "10m", once: true });
   * const readers = await Promise.all([codes.take("ada"), codes.get("ada")]); // of a single-read key a get is a take
   * console.log(readers); // ["493-201", undefined]
   * await store.close();
   * ```
   */
  async take(key: Key, { signal }: CallOptions = {}): Promise<Value | undefined> {
    const entry = await abortable(signal, () => this.engine.take(this.name, encodeKey(key)));
    return entry && decodeValue(entry.value, entry.content) as Value;
  }

  /** Moves the deadline of a key to `ttl` from now. A missing key is `{ ok: false, current: undefined }`. */
  async touch(key: Key, ttl: Duration, { signal }: CallOptions = {}): Promise<WriteResult<Value>> {
    const deadline = { ttl: milliseconds(ttl) };
    return decodeResult(await abortable(signal, () => this.engine.touch(this.name, encodeKey(key), deadline)));
  }

  /** Drops the deadline of a key. A missing key is `{ ok: false, current: undefined }`. */
  async persist(key: Key, { signal }: CallOptions = {}): Promise<WriteResult<Value>> {
    return decodeResult(await abortable(signal, () => this.engine.touch(this.name, encodeKey(key), undefined)));
  }

  /**
   * Adds to a number and resolves to the sum; a missing key counts as 0. The deadline stays.
   * @throws {FirkinError} INVALID — the value is not a number, or the sum not exact; the key is single-read
   */
  async increment(key: Key, by = 1, { signal }: CallOptions = {}): Promise<number> {
    if (!Number.isFinite(by)) throw new RangeError(`Cannot increment by ${by}: expected a finite number`);
    return (await abortable(signal, () => this.engine.increment(this.name, encodeKey(key), by))).value;
  }

  // --- changes ---

  /** The bucket's changes from now on, or from a cursor, or after a snapshot. */
  subscribe(options: SubscribeOptions = {}): Subscription<Value> {
    return new Subscription<Value>(this.engine.subscribe({ ...subscribeQuery(options), bucket: this.name }), options);
  }
}

/** A value that is read where it lies; `HIDDEN` when it is for its taker alone. */
function decodeShown(bytes: Uint8Array, start: number, end: number, content: Content, once: boolean): unknown {
  return once ? HIDDEN : decodeValueIn(bytes, start, end, content);
}

/** Milliseconds of a duration. @throws {TypeError} it is none; {RangeError} it is not positive */
export function milliseconds(duration: Duration): number {
  let value = duration;
  if (typeof value === "string") {
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(value);
    if (match === null) {
      throw new TypeError(
        `Cannot use "${value}" as a duration: expected a number with ms, s, m, h or d, such as "30s"`,
      );
    }
    value = Number(match[1]) * UNITS[match[2]!]!;
  }
  if (typeof value !== "number") throw new TypeError(`Cannot use a ${typeof value} as a duration`);
  const whole = Math.round(value);
  if (!(whole >= 1 && whole <= MILLISECONDS_MAX)) {
    throw new RangeError(`Cannot use ${value} ms as a duration: expected 1 to ${MILLISECONDS_MAX}`);
  }
  return whole;
}

/** How a key that is set will end. @throws {TypeError} options of a wrong shape; {RangeError} no such time */
export function lifeOf(options: SetOptions): { readonly deadline?: Deadline; readonly once?: boolean } {
  const { once } = options;
  if (once !== undefined && typeof once !== "boolean") {
    throw new TypeError(`Cannot set with once as a ${typeof once}: expected a boolean`);
  }
  const deadline = deadlineOf(options);
  return { ...(deadline === undefined ? {} : { deadline }), ...(once === undefined ? {} : { once }) };
}

function manyLifeOf(options: SetManyOptions): ReturnType<typeof lifeOf> {
  if ("ifRevision" in options) throw new TypeError("Cannot set many with ifRevision: use set");
  return lifeOf(options);
}

function deadlineOf({ ttl, expiresAt }: SetOptions): Deadline | undefined {
  if (ttl !== undefined && expiresAt !== undefined) throw new TypeError("Cannot use both ttl and expiresAt");
  if (ttl !== undefined) return { ttl: milliseconds(ttl) };
  if (expiresAt === undefined) return undefined;
  if (!Number.isSafeInteger(expiresAt) || expiresAt < 0 || expiresAt > MILLISECONDS_MAX) {
    throw new RangeError(`Cannot expire at ${expiresAt}: expected whole milliseconds since 1970`);
  }
  return { expiresAt };
}

/** @throws {RangeError} a revision that is none */
export function checkRevision(revision: number | undefined): void {
  if (revision !== undefined && (!Number.isSafeInteger(revision) || revision < 0)) {
    throw new RangeError(`Cannot compare with revision ${revision}: expected a whole number of at least 0`);
  }
}

/** An entry as users get it; the value of a single-read key only when it was `taken`. */
export function decodeEntry<Value>(entry: EngineEntry, taken = false): Entry<Value> {
  const { revision, expiresAt, once } = entry;
  const value = once === true && !taken ? undefined : decodeValue(entry.value, entry.content);
  const decoded = { key: decodeKey(entry.key), value: value as Value, revision };
  if (once === undefined) return expiresAt === undefined ? decoded : { ...decoded, expiresAt };
  return expiresAt === undefined ? { ...decoded, once } : { ...decoded, expiresAt, once };
}

function decodeResult<Value>(result: EngineResult): WriteResult<Value> {
  if (result.ok) return result;
  return { ok: false, current: result.current === undefined ? undefined : decodeEntry<Value>(result.current) };
}
