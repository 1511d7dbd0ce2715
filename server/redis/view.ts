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
import { Buffer } from "node:buffer";
import { assert, FirkinError } from "../../lib/base/errors.ts";
import type { Content } from "../../lib/base/codec.ts";
import type { Deadline, Entry, Operation, SetOptions } from "../../lib/engine/engine.ts";
import type { Principal } from "../auth.ts";
import type { Answer, Commands } from "../commands.ts";
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

/** A key that must have a revision. */
export interface Watched {
  readonly bucket: string;
  readonly key: Uint8Array;
  readonly revision: number;
}

/** A name for a key in a bucket. */
export function nameOf(bucket: string, key: Uint8Array): string {
  return `${bucket}/${Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1")}`;
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
  readonly #cells: Map<string, Cell> = new Map();
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
   * Writes the changes, and resolves with true; with false when another write came between. True at once when there is
   * nothing to write. All that is asked of the store is asked before the call returns.
   */
  commit(watched: readonly Watched[] = []): Answer<boolean> {
    const cells = [...this.#cells.values()];
    const changed = cells.filter(({ change }) => change !== undefined);
    const read = cells.filter(({ isRead, revision }) => isRead && revision !== undefined);
    const needsCheck = watched.length > 0 || (this.#isSpread && read.length > 1);
    if (changed.length === 0 && !needsCheck) return true;
    const [only] = changed;
    const isAlone = changed.length === 1 && watched.length === 0 && read.every((cell) => cell === only);
    return isAlone ? this.#writeOne(only!) : this.#writeAll(changed, read, watched);
  }

  #writeOne({ bucket, key, item, change, deadline, isRead, revision }: Cell): Answer<boolean> {
    const { commands, principal } = this.#options;
    const condition = isRead && revision !== undefined ? { ifRevision: revision } : {};
    if (change === "delete") {
      const answer = commands.delete(principal, bucket, key, condition);
      // Without a condition, one that is not there is none the worse.
      if (!isRead) return answer instanceof Promise ? answer.then(() => true) : true;
      return isOk(answer);
    }
    const options: SetOptions = { content: item!.content, ...(deadline && { deadline }), ...condition };
    return isOk(commands.set(principal, bucket, key, item!.value, options));
  }

  #writeAll(changed: readonly Cell[], read: readonly Cell[], watched: readonly Watched[]): Answer<boolean> {
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
    return isOk(this.#options.commands.atomic(this.#options.principal, operations));
  }

  #cell(bucket: string, key: Uint8Array): Cell {
    const name = nameOf(bucket, key);
    let cell = this.#cells.get(name);
    if (cell === undefined) {
      cell = {
        bucket,
        key,
        revision: undefined,
        isRead: false,
        item: undefined,
        change: undefined,
        deadline: undefined,
        problem: undefined,
      };
      this.#cells.set(name, cell);
    }
    return cell;
  }
}

function isOk(answer: Answer<{ readonly ok: boolean }>): Answer<boolean> {
  return answer instanceof Promise ? answer.then(({ ok }) => ok) : answer.ok;
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
 * Makes views until `commit`, which may throw, says that one was written. The first is made, and asks what it asks of
 * the store, before the call returns where the engine reads at once.
 *
 * @throws {FirkinError} BUSY — others were faster again and again
 */
export async function attempt(commit: () => Answer<boolean>): Promise<void> {
  for (let left = ATTEMPTS_MAX; left > 0; left--) {
    const done = commit();
    if (done instanceof Promise ? await done : done) return;
  }
  throw new FirkinError("BUSY", "Cannot write: others write the same keys again and again");
}

/** A step that waits for its turn on a key. */
interface Waiting {
  readonly options: () => ViewOptions;
  readonly principal: Principal;
  readonly step: Step;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: unknown) => void;
}

/** Changes of single keys, those of one key one after the other. */
export class Updates {
  /** Who waits, by key; a key that is not here has nothing under way. */
  readonly #waiting: Map<string, Waiting[]> = new Map();

  /** Runs a step that reads and changes one key. `options` are asked anew for each view. */
  run(options: () => ViewOptions, bucket: string, key: Uint8Array, step: Step): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { options, principal: options().principal, step, resolve, reject };
      const name = nameOf(bucket, key);
      const queue = this.#waiting.get(name);
      if (queue !== undefined) {
        queue.push(waiting);
        return;
      }
      this.#waiting.set(name, []);
      void this.#serve(name, bucket, key, [waiting]);
    });
  }

  async #serve(name: string, bucket: string, key: Uint8Array, first: Waiting[]): Promise<void> {
    const queue = this.#waiting.get(name)!;
    for (let row = first; row.length > 0; row = takeRow(queue)) await runRow(row, bucket, key);
    this.#waiting.delete(name);
  }
}

/** Those who may the same, and came behind one another. */
function takeRow(queue: Waiting[]): Waiting[] {
  const end = queue.findIndex(({ principal }) => principal !== queue[0]!.principal);
  return queue.splice(0, end === -1 ? queue.length : end);
}

async function runRow(row: readonly Waiting[], bucket: string, key: Uint8Array): Promise<void> {
  let replies: Reply[] = [];
  try {
    await attempt(() => {
      const view = new View(row[0]!.options());
      const run = (): Answer<boolean> => {
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
