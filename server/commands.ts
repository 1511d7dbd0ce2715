/**
 * Each operation once: its name, arguments, rights, limits and handler, whatever protocol it came over.
 *
 * A protocol takes a request apart, calls a method here with plain values, and writes down what comes back. Each call
 *
 * 1. is refused when its principal has expired (`UNAUTHORIZED`) or lacks a right that it needs (`FORBIDDEN`),
 * 2. is refused when an argument is wrong (`INVALID`) or over a limit (`TOO_LARGE`),
 * 3. reaches the engine before the method returns, so that calls are judged in their order and keys and values may be
 *    views of a message that is used again afterwards,
 * 4. is counted by its outcome.
 *
 * An answer that is there at once is returned as it is, any other as a promise. A call fails by throwing or rejecting,
 * always with a `FirkinError` that may be told to the client: what it cannot be blamed for is reported to the operator
 * and called `IO`.
 *
 * What reveals or ends more than its name says needs more than one right: see `RIGHTS` and, for single-read keys,
 * conditions and batches, the methods.
 *
 * @module
 */
import { compareBytes } from "../lib/base/bytes.ts";
import type { Clock } from "../lib/base/clock.ts";
import { CONTENT_NAMES } from "../lib/base/codec.ts";
import { FirkinError } from "../lib/base/errors.ts";
import {
  type AtomicResult,
  type BucketInfo,
  checkBatch,
  checkEntries,
  checkKey,
  checkValue,
  type Deadline,
  type DeleteOptions,
  type Engine,
  type EngineLimits,
  type EngineStats,
  type EngineSubscription,
  type Entry,
  isBucketName,
  type ListPage,
  type ListQuery,
  type Operation,
  PAGE_BYTES_MAX,
  PAGE_ENTRIES_MAX,
  type SetEntry,
  type SetOptions,
  type SubscribeQuery,
  type ValueReader,
  type WriteResult,
} from "../lib/engine/engine.ts";
import type { BucketSettings, SettingsCondition } from "../lib/engine/settings.ts";
import { KEYS_MAX } from "../lib/wire/protocol.ts";
import type { Principal, Right } from "./auth.ts";
import { type Metrics, type OperationName, OPERATIONS } from "./metrics.ts";
import type { CommandSpan, Tracing } from "./tracing.ts";

/** What comes back, at once or later. */
export type Answer<Result> = Result | Promise<Result>;

/** What commands need to work on. */
export interface CommandsOptions {
  readonly engine: Engine;
  /** Within those of the engine. */
  readonly limits: EngineLimits;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Makes spans; none are made when absent. */
  readonly tracing?: Tracing | undefined;
  /** Told of a failure that is the server's own fault. */
  readonly onFailure: (error: unknown) => void;
}

/** The rights that a call needs in its bucket; one that names no bucket needs them in all. */
const RIGHTS: Readonly<Record<OperationName, readonly Right[]>> = {
  get: ["read"], // and write, to take a single-read key
  getMany: ["read"], // the same
  peek: ["read"],
  has: ["read"],
  list: ["read"],
  set: ["write"], // and read, with a condition
  setMany: ["write"],
  delete: ["write"], // the same
  touch: ["write"],
  increment: ["read", "write"],
  take: ["read", "write"],
  atomic: [], // those of its operations, each in its own bucket
  subscribe: ["subscribe"],
  buckets: [], // any right in a bucket shows its name, read how much is in it, admin the settings of all
  stats: ["admin"],
  sync: ["admin"],
  compact: ["admin"],
  administer: ["admin"],
};

/** Rights that show that a bucket is there. */
const VISIBLE: readonly Right[] = ["read", "write", "subscribe"];

/** One operation: its name, its place in the counts, and its rights. */
interface Command {
  readonly name: OperationName;
  readonly place: number;
  readonly rights: readonly Right[];
}

const COMMANDS = Object.fromEntries(
  OPERATIONS.map((name, place): [OperationName, Command] => [name, { name, place, rights: RIGHTS[name] }]),
) as Readonly<Record<OperationName, Command>>;

/** The operations of one server on its engine. */
export class Commands {
  readonly #options: CommandsOptions;
  readonly #engine: Engine;
  readonly #limits: EngineLimits;
  readonly #metrics: Metrics;
  readonly #tracing: Tracing | undefined;
  /** The last name that was found to be a bucket's: a client says the same over and over. */
  #bucket: string | undefined;

  /** Runs operations on `options.engine`, within `options.limits`. */
  constructor(options: CommandsOptions) {
    this.#options = options;
    this.#engine = options.engine;
    this.#limits = options.limits;
    this.#metrics = options.metrics;
    this.#tracing = options.tracing;
  }

  /** Names the store in its cursors. */
  get epoch(): string {
    return this.#engine.epoch;
  }

  // --- reads ---

  /** The entry of a key; a single-read key is taken, which needs the right to write too. */
  get(principal: Principal, bucket: string, key: Uint8Array): Answer<Entry | undefined> {
    const beganAt = this.#metrics.beganAt();
    const span = this.#tracing?.begin("get", principal, bucket);
    let entry: Entry | undefined;
    try {
      this.#admit(COMMANDS.get, principal, bucket);
      checkKey(key, this.#limits);
      entry = this.#engine.getSync?.(bucket, key);
      if (this.#engine.getSync === undefined || entry?.once === true) {
        return this.#watch(COMMANDS.get, beganAt, span, this.#getLater(principal, bucket, key));
      }
    } catch (error) {
      throw this.#failed(COMMANDS.get, span, error);
    }
    this.#metrics.answeredAtOnce(COMMANDS.get.place, beganAt);
    span?.end();
    return entry;
  }

  /**
   * As {@link Commands.get}, for a protocol that writes the entry down from where the engine has it: `write` does that
   * and returns true, or returns false when the key is single-read. True when it was written, false when there is no
   * entry, and else a promise of it.
   */
  show(
    principal: Principal,
    bucket: string,
    key: Uint8Array,
    write: ValueReader<boolean>,
  ): boolean | Promise<Entry | undefined> {
    const beganAt = this.#metrics.beganAt();
    const span = this.#tracing?.begin("get", principal, bucket);
    let written: boolean | undefined;
    try {
      this.#admit(COMMANDS.get, principal, bucket);
      checkKey(key, this.#limits);
      written = this.#engine.readSync === undefined ? false : this.#engine.readSync(bucket, key, write);
      if (written === false) {
        return this.#watch(COMMANDS.get, beganAt, span, this.#getLater(principal, bucket, key));
      }
    } catch (error) {
      throw this.#failed(COMMANDS.get, span, error);
    }
    this.#metrics.answeredAtOnce(COMMANDS.get.place, beganAt);
    span?.end();
    return written === true;
  }

  /**
   * Entries in the order of `keys`, at most {@link KEYS_MAX}: of as many of them, one at least, as one answer has room
   * for; ask again for the rest. Single-read keys are taken as by `get`; when one may not be, none is.
   */
  getMany(principal: Principal, bucket: string, keys: readonly Uint8Array[]): Answer<(Entry | undefined)[]> {
    return this.#run(COMMANDS.getMany, principal, bucket, () => {
      if (keys.length > KEYS_MAX) {
        throw new FirkinError("TOO_LARGE", `Cannot get ${keys.length} keys: at most ${KEYS_MAX} at once`);
      }
      for (const key of keys) checkKey(key, this.#limits);
      const engine = this.#engine;
      if (engine.getSync === undefined) {
        if (principal.allows("write", bucket)) return engine.getMany(bucket, keys);
        return Promise.all(keys.map((key) => this.#getLater(principal, bucket, key)));
      }
      const entries: (Entry | undefined)[] = [];
      let bytes = 0;
      for (const key of keys) {
        if (bytes >= PAGE_BYTES_MAX) break;
        const entry = engine.getSync(bucket, key);
        if (entry?.once === true) {
          this.#authorise(principal, "write", bucket);
          // What is taken must fit the answer, and nobody knows its size before: it is the answer's last.
          return engine.get(bucket, key).then((taken) => [...entries, taken]);
        }
        entries.push(entry);
        if (entry !== undefined) bytes += entry.key.length + entry.value.length;
      }
      return entries;
    });
  }

  /** The entry of a key, which ends nothing: that of a single-read key is without its value. */
  peek(principal: Principal, bucket: string, key: Uint8Array): Answer<Entry | undefined> {
    return this.#run(COMMANDS.peek, principal, bucket, () => {
      checkKey(key, this.#limits);
      return this.#engine.getSync === undefined ? this.#peekLater(bucket, key) : this.#engine.getSync(bucket, key);
    });
  }

  /** The sets of a key from now on, without values: what one who may read it could see by looking all the time. */
  observe(principal: Principal, bucket: string, key: Uint8Array): EngineSubscription {
    return this.#run<EngineSubscription>(COMMANDS.peek, principal, bucket, () => {
      checkKey(key, this.#limits);
      return this.#engine.subscribe({ bucket, key, types: ["set"], values: false });
    }) as EngineSubscription;
  }

  /** True when the key is there. Ends nothing. */
  has(principal: Principal, bucket: string, key: Uint8Array): Answer<boolean> {
    return this.#run(COMMANDS.has, principal, bucket, () => {
      checkKey(key, this.#limits);
      const engine = this.#engine;
      return engine.readSync === undefined ? engine.has(bucket, key) : engine.readSync(bucket, key, isThere) === true;
    });
  }

  /** A page of a listing, of {@link PAGE_ENTRIES_MAX} entries at most, whatever the limit. Ends nothing. */
  list(principal: Principal, bucket: string, query: ListQuery): Answer<ListPage> {
    return this.#run(COMMANDS.list, principal, bucket, () => {
      const { limit } = query;
      if (!Number.isSafeInteger(limit) || limit < 1) {
        throw new FirkinError("INVALID", `Cannot list ${limit} entries: a page has one at least`);
      }
      return this.#engine.list(bucket, limit > PAGE_ENTRIES_MAX ? { ...query, limit: PAGE_ENTRIES_MAX } : query);
    });
  }

  // --- writes ---

  /** Writes a value. With a condition, the answer may be what stood in its way: that needs the right to read too. */
  set(
    principal: Principal,
    bucket: string,
    key: Uint8Array,
    value: Uint8Array,
    options: SetOptions,
  ): Answer<WriteResult> {
    return this.#run(COMMANDS.set, principal, bucket, () => {
      if (options.ifRevision !== undefined) this.#checkCondition(principal, bucket, options.ifRevision);
      checkKey(key, this.#limits);
      checkValue(value, this.#limits);
      checkContent(options.content);
      checkDeadline(options.deadline);
      return this.#engine.set(bucket, key, value, options);
    });
  }

  /** Writes many values; no batch: after a failure some may have been written. */
  setMany(principal: Principal, bucket: string, entries: readonly SetEntry[]): Answer<void> {
    return this.#run(COMMANDS.setMany, principal, bucket, () => {
      for (const { content, deadline } of entries) {
        checkContent(content);
        checkDeadline(deadline);
      }
      checkEntries(entries, this.#limits);
      return this.#engine.setMany(bucket, entries);
    });
  }

  /** Deletes a key. With a condition as `set`. */
  delete(principal: Principal, bucket: string, key: Uint8Array, options: DeleteOptions = {}): Answer<WriteResult> {
    return this.#run(COMMANDS.delete, principal, bucket, () => {
      if (options.ifRevision !== undefined) this.#checkCondition(principal, bucket, options.ifRevision);
      checkKey(key, this.#limits);
      return this.#engine.delete(bucket, key, options);
    });
  }

  /** Moves the deadline of a key, or drops it when `deadline` is undefined. */
  touch(
    principal: Principal,
    bucket: string,
    key: Uint8Array,
    deadline: Deadline | undefined,
  ): Answer<WriteResult> {
    return this.#run(COMMANDS.touch, principal, bucket, () => {
      checkKey(key, this.#limits);
      checkDeadline(deadline);
      return this.#engine.touch(bucket, key, deadline);
    });
  }

  /** Adds to a number. */
  increment(
    principal: Principal,
    bucket: string,
    key: Uint8Array,
    by: number,
  ): Answer<{ value: number; revision: number }> {
    return this.#run(COMMANDS.increment, principal, bucket, () => {
      checkKey(key, this.#limits);
      if (!Number.isFinite(by)) throw new FirkinError("INVALID", `Cannot increment by ${by}: it is not finite`);
      return this.#engine.increment(bucket, key, by);
    });
  }

  /** Reads and deletes a key; of many takers one gets it. */
  take(principal: Principal, bucket: string, key: Uint8Array): Answer<Entry | undefined> {
    return this.#run(COMMANDS.take, principal, bucket, () => {
      checkKey(key, this.#limits);
      return this.#engine.take(bucket, key);
    });
  }

  /** All of the operations or none. A check needs the right to read its bucket, a set and a delete to write it. */
  atomic(principal: Principal, operations: readonly Operation[]): Answer<AtomicResult> {
    return this.#run(COMMANDS.atomic, principal, undefined, () => {
      for (const { type, bucket } of operations) {
        this.#authorise(principal, type === "check" ? "read" : "write", bucket);
      }
      for (const operation of operations) {
        this.#checkBucket(operation.bucket);
        if (operation.type === "check") checkRevision(operation.revision);
        if (operation.type !== "set") continue;
        checkContent(operation.content);
        checkDeadline(operation.deadline);
      }
      checkBatch(operations, this.#limits);
      return this.#engine.atomic(operations);
    });
  }

  // --- subscriptions ---

  /**
   * Subscribes to a bucket, to a key in it or the keys with a prefix, or to all buckets. Returns at once, so that the
   * caller can close it whatever comes; it is counted then. What `ready` and `next` fail with goes through
   * {@link failureOf}.
   */
  subscribe(principal: Principal, query: SubscribeQuery): EngineSubscription {
    const { bucket, key, prefix } = query;
    return this.#run<EngineSubscription>(COMMANDS.subscribe, principal, bucket, () => {
      if ((prefix !== undefined || key !== undefined) && bucket === undefined) {
        throw new FirkinError("INVALID", "Cannot subscribe to a key or a prefix: it needs a bucket");
      }
      if (prefix !== undefined && key !== undefined) {
        throw new FirkinError("INVALID", "Cannot subscribe to a key and a prefix: it is either");
      }
      if (key !== undefined) checkKey(key, this.#limits);
      if (prefix !== undefined && prefix.length > 0) checkKey(prefix, this.#limits);
      return this.#engine.subscribe(query);
    }) as EngineSubscription;
  }

  // --- the store as a whole ---

  /**
   * The buckets in which a principal has any right, in the order of their names, with how much is in those that it may
   * read; only those behind `after`. Who may administer the store sees all, and their settings: it could not change
   * some of them otherwise and keep the rest.
   */
  buckets(principal: Principal, after = ""): Answer<BucketInfo[]> {
    return this.#run(COMMANDS.buckets, principal, undefined, async () => {
      const isAdmin = principal.allows("admin", undefined);
      return (await this.#engine.buckets())
        .filter(({ name }) => name > after)
        .filter(({ name }) => isAdmin || VISIBLE.some((right) => principal.allows(right, name)))
        .map((info) => {
          const { name, settings } = info;
          return principal.allows("read", name) ? info : { name, ...(isAdmin && settings && { settings }) };
        });
    });
  }

  /** Gives a bucket settings, and makes it when there is none; false when `may` says no to those that it has. */
  configure(
    principal: Principal,
    bucket: string,
    settings: BucketSettings,
    may?: SettingsCondition,
  ): Answer<boolean> {
    return this.#run(COMMANDS.administer, principal, undefined, () => {
      this.#checkBucket(bucket);
      return this.#engine.configure(bucket, settings, may);
    });
  }

  /** How many keys a bucket has: none when there is no such bucket. */
  count(principal: Principal, bucket: string): Answer<number> {
    return this.#run(COMMANDS.buckets, principal, bucket, async () => {
      this.#authorise(principal, "read", bucket);
      const [info] = await this.#engine.buckets(bucket);
      return info?.keys ?? 0;
    });
  }

  /** Runs what concerns the server itself, and not its store. */
  administer<Result>(principal: Principal, handler: () => Answer<Result>): Answer<Result> {
    return this.#run(COMMANDS.administer, principal, undefined, handler);
  }

  /** Figures about the engine and the server. */
  stats(principal: Principal): Answer<EngineStats> {
    return this.#run(COMMANDS.stats, principal, undefined, async () => {
      return { ...await this.#engine.stats(), ...this.#metrics.read() };
    });
  }

  /** Resolves when everything acknowledged before the call is on stable storage. */
  sync(principal: Principal): Answer<void> {
    return this.#run(COMMANDS.sync, principal, undefined, () => this.#engine.sync());
  }

  /** Gives back the space of dead records. */
  compact(principal: Principal): Answer<void> {
    return this.#run(COMMANDS.compact, principal, undefined, () => this.#engine.compact());
  }

  // --- calls ---

  /** Runs one call: its rights, its handler, which checks the other arguments first, and its count. */
  #run<Result>(
    command: Command,
    principal: Principal,
    bucket: string | undefined,
    handler: () => Answer<Result>,
  ): Answer<Result> {
    const metrics = this.#metrics;
    const beganAt = metrics.beganAt();
    const span = this.#tracing?.begin(command.name, principal, bucket);
    let result: Answer<Result>;
    try {
      this.#admit(command, principal, bucket);
      result = handler();
    } catch (error) {
      throw this.#failed(command, span, error);
    }
    if (!(result instanceof Promise)) {
      metrics.answeredAtOnce(command.place, beganAt);
      span?.end();
      return result;
    }
    return this.#watch(command, beganAt, span, result);
  }

  #admit(command: Command, principal: Principal, bucket: string | undefined): void {
    const { expiresAt } = principal;
    if (expiresAt !== undefined && expiresAt <= this.#options.clock.wall()) {
      throw new FirkinError("UNAUTHORIZED", "Cannot go on: the credentials have expired");
    }
    for (const right of command.rights) this.#authorise(principal, right, bucket);
    if (bucket !== undefined) this.#checkBucket(bucket);
  }

  #watch<Result>(
    command: Command,
    beganAt: number,
    span: CommandSpan | undefined,
    result: Promise<Result>,
  ): Promise<Result> {
    return result.then((value) => {
      this.#metrics.answered(command.place, beganAt);
      span?.end();
      return value;
    }, (error: unknown) => {
      throw this.#failed(command, span, error);
    });
  }

  #failed(command: Command, span: CommandSpan | undefined, error: unknown): FirkinError {
    const failure = failureOf(error, this.#options.onFailure);
    this.#metrics.failed(command.place, failure.code);
    span?.fail(failure.code);
    return failure;
  }

  #authorise(principal: Principal, right: Right, bucket: string | undefined): void {
    if (principal.allows(right, bucket)) return;
    const where = bucket === undefined ? "in the whole store" : "in this bucket";
    throw new FirkinError("FORBIDDEN", `Cannot do that: the right to ${right} ${where} is missing`);
  }

  #checkBucket(bucket: string): void {
    if (bucket === this.#bucket) return;
    if (!isBucketName(bucket)) {
      throw new FirkinError("INVALID", "Cannot use a bucket: its name is not of a-z, 0-9, _ and -, at most 64 long");
    }
    this.#bucket = bucket;
  }

  #checkCondition(principal: Principal, bucket: string, ifRevision: number): void {
    this.#authorise(principal, "read", bucket);
    checkRevision(ifRevision);
  }

  // --- engines that read nothing at once ---

  /** Such an engine's `get` may take a key before anybody knows that it is single-read: not for one who may not. */
  async #getLater(principal: Principal, bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    if (principal.allows("write", bucket)) return await this.#engine.get(bucket, key);
    const entry = await this.#peekLater(bucket, key);
    if (entry?.once === true) this.#authorise(principal, "write", bucket);
    return entry;
  }

  /** A listing takes nothing. */
  async #peekLater(bucket: string, key: Uint8Array): Promise<Entry | undefined> {
    const wanted = key.slice();
    const [entry] = (await this.#engine.list(bucket, { start: key, limit: 1 })).entries;
    return entry !== undefined && compareBytes(entry.key, wanted) === 0 ? entry : undefined;
  }
}

/**
 * What a client is told of whatever was thrown: misuse is `INVALID`; an error that is not one of ours is the server's
 * fault, told to `report`, and nobody else's business.
 */
export function failureOf(error: unknown, report: (error: unknown) => void): FirkinError {
  if (error instanceof FirkinError) return error;
  if (error instanceof TypeError || error instanceof RangeError) {
    return new FirkinError("INVALID", error.message, { cause: error });
  }
  report(error);
  return new FirkinError("IO", "Cannot complete the request: the server failed", { cause: error });
}

function isThere(): true {
  return true;
}

// --- arguments ---

function checkContent(content: number): void {
  if (CONTENT_NAMES[content] === undefined) {
    throw new FirkinError("INVALID", `Cannot set a value: ${content} is no content type`);
  }
}

function checkRevision(revision: number): void {
  if (!Number.isSafeInteger(revision) || revision < 0) {
    throw new FirkinError("INVALID", `Cannot ask for revision ${revision}: expected a whole number`);
  }
}

function checkDeadline(deadline: Deadline | undefined): void {
  if (deadline === undefined) return;
  const milliseconds = "ttl" in deadline ? deadline.ttl : deadline.expiresAt;
  if (!(milliseconds >= 0)) {
    throw new FirkinError("INVALID", `Cannot set a deadline of ${milliseconds}: expected milliseconds of 0 or more`);
  }
}
