/**
 * A batch of writes, put together call by call: all of them happen, or none.
 *
 * Values are encoded when they are given, so the batch holds bytes; `commit` hands them to the engine in one piece.
 *
 * @module
 */
import { encodeKey, type Key } from "../base/bytes.ts";
import { CONTENT, encodeValue } from "../base/codec.ts";
import type { Engine, Operation } from "../engine/engine.ts";
import { abortable, type CallOptions } from "./abort.ts";
import { type Bucket, checkRevision, decodeEntry, type Entry, lifeOf, type SetOptions } from "./bucket.ts";

/** Options of {@link Atomic.set}: those of a bucket's `set`, but for the condition, which is a `check` of its own. */
export type AtomicSetOptions = Omit<SetOptions, "ifRevision" | "signal">;

/**
 * A batch that happened, with the last revision it was given (the store's own when it had nothing to write); or the
 * first check that did not hold: its place among the batch's calls, from 0, and the entry that stood in its way.
 */
export type AtomicResult =
  | { readonly ok: true; readonly revision: number }
  | { readonly ok: false; readonly index: number; readonly current: Entry | undefined };

/**
 * Writes that happen all or not at all: for readers, for subscribers (who get their events together) and after a crash.
 *
 * @example Move an amount from one key to another
 * ```ts
 * import { open } from "firkin";
 *
 * const store = await open(":memory:");
 * const accounts = store.bucket<number>("accounts");
 * await Promise.all([accounts.set("ada", 10), accounts.set("bob", 0)]);
 * const [ada, bob] = [await accounts.getEntry("ada"), await accounts.getEntry("bob")];
 * const result = await store.atomic()
 *   .check(accounts, "ada", ada!.revision)
 *   .check(accounts, "bob", bob!.revision)
 *   .set(accounts, "ada", ada!.value - 3)
 *   .set(accounts, "bob", bob!.value + 3)
 *   .commit();
 * console.log(result.ok, await accounts.getMany(["ada", "bob"])); // true [7, 3]
 * await store.close();
 * ```
 */
export class Atomic {
  readonly #engine: Engine;
  readonly #operations: Operation[] = [];
  #committed = false;

  /** Made by `store.atomic`. */
  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Lets the batch happen only if the key has this revision; 0: only if it does not exist. All checks are judged before
   * anything is written, wherever they stand.
   */
  check<Value>(bucket: Bucket<Value>, key: Key, revision: number): this {
    if (revision === undefined) throw new TypeError("Cannot check a key without a revision");
    checkRevision(revision);
    return this.#add(bucket, { type: "check", bucket: bucket.name, key: own(encodeKey(key), key), revision });
  }

  /** Writes a value, which is encoded before the call returns. Of several writes to one key the last counts. */
  set<Value>(bucket: Bucket<Value>, key: Key, value: NoInfer<Value>, options: AtomicSetOptions = {}): this {
    if ("ifRevision" in options) throw new TypeError("Cannot set with ifRevision in a batch: use check");
    const content = CONTENT[bucket.codec];
    const life = lifeOf(options);
    return this.#add(bucket, {
      type: "set",
      bucket: bucket.name,
      key: own(encodeKey(key), key),
      value: own(encodeValue(value, content), value),
      content,
      ...life,
    });
  }

  /** Deletes a key; one that does not exist is left so. */
  delete<Value>(bucket: Bucket<Value>, key: Key): this {
    return this.#add(bucket, { type: "delete", bucket: bucket.name, key: own(encodeKey(key), key) });
  }

  /**
   * Hands the batch to the store; resolves when it is as durable as the store's policy says. Once only: a batch that
   * was given up may have happened, unless its `signal` was aborted before.
   *
   * @throws {TypeError} the batch has been committed
   * @throws {FirkinError} TOO_LARGE, FULL, DURABILITY, CLOSED, UNAVAILABLE
   */
  async commit({ signal }: CallOptions = {}): Promise<AtomicResult> {
    this.#checkOpen();
    const result = await abortable(signal, () => {
      this.#committed = true;
      return this.#engine.atomic(this.#operations);
    });
    if (result.ok) return result;
    const { index, current } = result;
    return { ok: false, index, current: current && decodeEntry(current) };
  }

  #add<Value>(bucket: Bucket<Value>, operation: Operation): this {
    this.#checkOpen();
    if (bucket.engine !== this.#engine) {
      throw new TypeError(`Cannot use bucket "${bucket.name}" in this batch: it is another store's`);
    }
    this.#operations.push(operation);
    return this;
  }

  #checkOpen(): void {
    if (this.#committed) throw new TypeError("Cannot go on with a batch: it has been committed");
  }
}

/** `bytes`, or a copy when they are what was `given`: that may change before the commit. */
function own(bytes: Uint8Array, given: unknown): Uint8Array {
  return bytes === given ? new Uint8Array(bytes) : bytes;
}
