/**
 * What a command sees of the store, and what it makes of it: the keys that it reads as they are, its changes on top,
 * and all of them written at once or not at all.
 *
 * Redis runs one command at a time, so a command may read a value and write another one that follows from it. Here
 * others may write between the two. So a command is a function of a {@link View}, with no effect but on that:
 *
 * 1. The keys that it reads are loaded, each with its revision.
 * 2. It reads and changes the view, and makes its reply.
 * 3. The changes are written on the condition that every key that was read still has its revision. If one has not, all
 *    of it begins again.
 *
 * The same holds for a transaction, which is many commands on one view. {@link Updates} puts commands that change the
 * same key onto one view, too: while one is being written, the next ones wait, and then share one write. So a counter
 * that everybody increments costs one record for all who came meanwhile, instead of a race that one of them wins.
 *
 * A single-read key is never shown by a view: a command that needs its value fails.
 *
 * @module
 */
import { assert, FirkinError } from "../../lib/base/errors.ts";
import type { Content } from "../../lib/base/codec.ts";
import type { Deadline, Entry, Operation, SetOptions } from "../../lib/engine/engine.ts";
import type { Principal } from "../auth.ts";
import type { Answer, Commands } from "../commands.ts";
import { latin1 } from "./numbers.ts";
import { ErrorReply, type Reply } from "./resp.ts";

/** How often a command begins again before it gives up: each time, somebody else has got on. */
const ATTEMPTS_MAX = 1_000;

/** A key, as a command sees it. */
export interface Item {
  readonly value: Uint8Array;
  readonly content: Content;
  /** Epoch milliseconds; absent when the key does not expire. */
  readonly expiresAt?: number;
  /** Only its taker sees the value. */
  readonly once?: true;
}

/** What a change makes of a key. */
export interface NewItem {
  readonly value: Uint8Array;
  readonly content: Content;
  readonly deadline?: Deadline | undefined;
}

/** A key of a view. */
interface Cell {
  readonly bucket: string;
  readonly key: Uint8Array;
  /** The revision in the store, 0 when it has none; undefined when nobody has looked. */
  revision: number | undefined;
  /** True when a command has read it: what is written depends on it. */
  isRead: boolean;
  /** As it is on this view. */
  item: Item | undefined;
  change: "set" | "delete" | undefined;
  deadline: Deadline | undefined;
  /** Why it cannot be read. */
  problem: unknown;
}

/** Whether a view was written. */
export interface Outcome {
  readonly ok: boolean;
}

const DONE: Outcome = { ok: true };

/** A key that must have a revision. */
export interface Watched {
  readonly bucket: string;
  readonly key: Uint8Array;
  readonly revision: number;
}

/** A name for a key in a bucket. */
export function nameOf(bucket: string, key: Uint8Array): string {
  return `${bucket}/${latin1(key)}`;
}

/** What a view is of. */
export interface ViewOptions {
  readonly commands: Commands;
  readonly principal: Principal;
  /** Epoch milliseconds. */
  readonly now: number;
  readonly valueBytesMax: number;
  /** Bytes of all values that may be read. */
  readonly readBytesMax: number;
}

/** Some keys, and changes to them. */
export class View {
  readonly now: number;
  readonly #options: ViewOptions;
  /** Most views are of one key, which needs no name to be found by. */
  #first: Cell | undefined;
  /** All, when there are more. */
  #cells: Map<string, Cell> | undefined;
  #readBytes = 0;
  /** Keys were not all read at one moment. */
  #isSpread = false;

  /** Shows the store to whom may see it. */
  constructor(options: ViewOptions) {
    this.#options = options;
    this.now = options.now;
  }

  /** The longest value. */
  get valueBytesMax(): number {
    return this.#options.valueBytesMax;
  }

  /**
   * Makes keys readable. A promise only where the engine gives one. What is wrong with a key is thrown when it is read,
   * since the command may have a problem that comes before.
   */
  load(bucket: string, keys: readonly Uint8Array[]): Answer<void> {
    const waits: Promise<void>[] = [];
    for (const key of keys) {
      const cell = this.#cell(bucket, key);
      if (cell.revision !== undefined || cell.change !== undefined) continue;
      try {
        const entry = this.#options.commands.peek(this.#options.principal, bucket, key);
        if (!(entry instanceof Promise)) this.#loaded(cell, entry);
        else {
          waits.push(entry.then((found) => this.#loaded(cell, found), (error: unknown) => this.#refused(cell, error)));
        }
      } catch (error) {
        this.#refused(cell, error);
      }
    }
    if (waits.length === 0) return;
    this.#isSpread = true;
    return Promise.all(waits).then(() => {});
  }

  #loaded(cell: Cell, entry: Entry | undefined): void {
    cell.revision = entry?.revision ?? 0;
    cell.item = entry;
    this.#readBytes += entry?.value.length ?? 0;
    if (this.#readBytes > this.#options.readBytesMax) {
      cell.item = undefined;
      throw new FirkinError("TOO_LARGE", "Cannot run this command: its values are too large together");
    }
  }

  #refused(cell: Cell, error: unknown): void {
    cell.revision = 0;
    cell.problem = error;
  }

  /** A key as it is now; it was loaded or changed before. */
  get(bucket: string, key: Uint8Array): Item | undefined {
    const cell = this.#cell(bucket, key);
    assert(cell.revision !== undefined || cell.change !== undefined, "A command reads keys that it has named");
    if (cell.problem !== undefined) throw cell.problem;
    cell.isRead = true;
    return cell.item;
  }

  /** As {@link View.get}, for whoever needs the value. @throws {ErrorReply} the key is single-read */
  value(bucket: string, key: Uint8Array): Item | undefined {
    const item = this.get(bucket, key);
    if (item?.once === true) throw new ErrorReply("ERR this key is single-read: only GET and GETDEL read it");
    return item;
  }

  /** Writes a key. @throws {ErrorReply} the value is too long */
  set(bucket: string, key: Uint8Array, { value, content, deadline }: NewItem): void {
    if (value.length > this.valueBytesMax) throw tooLong();
    const cell = this.#cell(bucket, key);
    cell.change = "set";
    cell.deadline = deadline;
    if (deadline === undefined) cell.item = { value, content };
    else {
      const expiresAt = "ttl" in deadline ? Math.ceil(this.now + deadline.ttl) : deadline.expiresAt;
      cell.item = { value, content, expiresAt };
    }
  }

  /** Ends a key. */
  delete(bucket: string, key: Uint8Array): void {
    const cell = this.#cell(bucket, key);
    cell.change = cell.revision === 0 ? undefined : "delete";
    cell.item = undefined;
  }

  /**
   * Writes the changes; not `ok` when another write came between. At once when there is nothing to write. All that is
   * asked of the store is asked before the call returns.
   */
  commit(watched: readonly Watched[] = []): Answer<Outcome> {
    if (this.#cells === undefined && watched.length === 0) {
      return this.#first?.change === undefined ? DONE : this.#writeOne(this.#first);
    }
    const cells = [...this.#cells?.values() ?? (this.#first === undefined ? [] : [this.#first])];
    const changed = cells.filter(({ change }) => change !== undefined);
    const read = cells.filter(({ isRead, revision }) => isRead && revision !== undefined);
    const needsCheck = watched.length > 0 || (this.#isSpread && read.length > 1);
    if (changed.length === 0 && !needsCheck) return DONE;
    const [only] = changed;
    const isAlone = changed.length === 1 && watched.length === 0 && read.every((cell) => cell === only);
    return isAlone ? this.#writeOne(only!) : this.#writeAll(changed, read, watched);
  }

  #writeOne({ bucket, key, item, change, deadline, isRead, revision }: Cell): Answer<Outcome> {
    const { commands, principal } = this.#options;
    const condition = isRead && revision !== undefined ? { ifRevision: revision } : {};
    if (change === "delete") {
      const answer = commands.delete(principal, bucket, key, condition);
      // Without a condition, one that is not there is none the worse.
      if (!isRead) return answer instanceof Promise ? answer.then(() => DONE) : DONE;
      return answer;
    }
    const options: SetOptions = { content: item!.content, ...(deadline && { deadline }), ...condition };
    return commands.set(principal, bucket, key, item!.value, options);
  }

  #writeAll(changed: readonly Cell[], read: readonly Cell[], watched: readonly Watched[]): Answer<Outcome> {
    const operations: Operation[] = [];
    for (const { bucket, key, revision } of watched) operations.push({ type: "check", bucket, key, revision });
    for (const { bucket, key, revision } of read) {
      operations.push({ type: "check", bucket, key, revision: revision! });
    }
    for (const { bucket, key, item, deadline } of changed) {
      if (item === undefined) operations.push({ type: "delete", bucket, key });
      else {
        const { value, content } = item;
        operations.push({ type: "set", bucket, key, value, content, ...(deadline && { deadline }) });
      }
    }
    return this.#options.commands.atomic(this.#options.principal, operations);
  }

  #cell(bucket: string, key: Uint8Array): Cell {
    const first = this.#first;
    if (first === undefined) return this.#first = newCell(bucket, key);
    if (first.key === key && first.bucket === bucket) return first;
    this.#cells ??= new Map([[nameOf(first.bucket, first.key), first]]);
    const name = nameOf(bucket, key);
    let cell = this.#cells.get(name);
    if (cell === undefined) {
      cell = newCell(bucket, key);
      this.#cells.set(name, cell);
    }
    return cell;
  }
}

function newCell(bucket: string, key: Uint8Array): Cell {
  return {
    bucket,
    key,
    revision: undefined,
    isRead: false,
    item: undefined,
    change: undefined,
    deadline: undefined,
    problem: undefined,
  };
}

/** A value would be longer than it may be. */
export function tooLong(): ErrorReply {
  return new ErrorReply("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
}

// --- attempts ---

/** A command, as what it makes of a view. @throws {ErrorReply} it has changed nothing */
export type Step = (view: View) => Reply;

/** The reply of a step, its error too. */
export function replyOf(step: Step, view: View): Reply {
  try {
    return step(view);
  } catch (error) {
    if (error instanceof ErrorReply) return error;
    throw error;
  }
}

/**
 * Makes views until `commit` says that one was written. The first is made, and asks what it asks of the store, before
 * the call returns where the engine reads at once.
 *
 * @throws {FirkinError} BUSY — others were faster again and again
 */
export async function attempt(commit: () => Answer<Outcome>): Promise<void> {
  for (let left = ATTEMPTS_MAX; left > 0; left--) {
    const outcome = commit();
    if ((outcome instanceof Promise ? await outcome : outcome).ok) return;
  }
  throw new FirkinError("BUSY", "Cannot write: others write the same keys again and again");
}

/** What an update is made of. */
export interface Update {
  readonly principal: Principal;
  readonly bucket: string;
  readonly key: Uint8Array;
  readonly step: Step;
  /** A view of the store as it is now. */
  readonly view: () => View;
}

/** An update that waits for its turn. */
interface Waiting extends Update {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: unknown) => void;
}

/** Changes of single keys, those of one key one after the other. */
export class Updates {
  /** Who waits, by key; a key that is not here has nothing under way. */
  readonly #waiting: Map<string, Waiting[]> = new Map();

  /** Runs a step that reads and changes one key. @throws {ErrorReply} what the step throws */
  run(update: Update): Answer<Reply> {
    const name = nameOf(update.bucket, update.key);
    const queue = this.#waiting.get(name);
    if (queue !== undefined) {
      return new Promise((resolve, reject) => queue.push({ ...update, resolve, reject }));
    }
    const view = update.view();
    const loaded = view.load(update.bucket, [update.key]);
    if (loaded instanceof Promise) return this.#begin(name, update);
    const reply = update.step(view);
    const outcome = view.commit();
    if (!(outcome instanceof Promise)) return outcome.ok ? reply : this.#begin(name, update);
    this.#waiting.set(name, []);
    return outcome.then(({ ok }) => {
      if (!ok) return this.#begin(name, update);
      this.#goOn(name);
      return reply;
    }, (error: unknown) => {
      this.#goOn(name);
      throw error;
    });
  }

  /** Before whoever waits already. */
  #begin(name: string, update: Update): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const queue = this.#waiting.get(name) ?? [];
      queue.unshift({ ...update, resolve, reject });
      this.#waiting.set(name, queue);
      this.#goOn(name);
    });
  }

  /** Runs who waits for a key, if anybody does. */
  #goOn(name: string): void {
    const queue = this.#waiting.get(name)!;
    if (queue.length === 0) this.#waiting.delete(name);
    else void runRow(takeRow(queue)).then(() => this.#goOn(name));
  }
}

/** Those who may the same, and came behind one another. */
function takeRow(queue: Waiting[]): Waiting[] {
  const end = queue.findIndex(({ principal }) => principal !== queue[0]!.principal);
  return queue.splice(0, end === -1 ? queue.length : end);
}

/** Runs updates of one key on one view. */
async function runRow(row: readonly Waiting[]): Promise<void> {
  const { bucket, key } = row[0]!;
  let replies: Reply[] = [];
  try {
    await attempt(() => {
      const view = row[0]!.view();
      const run = (): Answer<Outcome> => {
        replies = row.map(({ step }) => replyOf(step, view));
        return view.commit();
      };
      const loaded = view.load(bucket, [key]);
      return loaded instanceof Promise ? loaded.then(run) : run();
    });
  } catch (error) {
    for (const { reject } of row) reject(error);
    return;
  }
  for (const [index, { resolve }] of row.entries()) resolve(replies[index]!);
}
