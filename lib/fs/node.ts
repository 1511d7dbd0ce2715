/**
 * A folder on disk through `node:fs`: one implementation for Node, Bun and Deno.
 *
 * Only calls that mean the same on all three are used: `open` with numeric flags, positional reads and writes with
 * all five arguments, `fsync`. Streams, append mode and `writeFile` differ between them and are not used.
 *
 * Kept true here, beyond the contract in fs.ts:
 *
 * 1. A symbolic link in the folder is never followed, neither to read nor to write.
 * 2. A descriptor is closed only when no sync is under way on it: its number could be given to another file,
 *    and that file be synced instead.
 * 3. After one failed sync every later one on the same file fails too: the kernel tells of lost pages once.
 * 4. A folder that is made is durable when `makeDirectory` returns, down from the first parent that existed;
 *    only a parent that this process may not open is left out.
 *
 * On Linux `fdatasync` is enough, since it writes a changed length too; elsewhere `fsync` (on macOS the runtime
 * turns it into F_FULLFSYNC). Windows cannot sync a directory: there `syncDirectory` does nothing, and names are as
 * durable as NTFS's journal makes them.
 *
 * @module
 */

import * as nodeFs from "node:fs";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { assert, type ErrorCode, FirkinError, messageOf } from "../base/errors.ts";
import type { File, FileMode, FileSystem, Lock, LockOptions } from "./fs.ts";
import { useNative } from "./native.ts";
import { acquire, type Calls, codeOf, inspect, isLockName } from "./process.ts";

// Where there is node:fs there is node:zlib.
useNative();

/** One call moves at most this much: macOS refuses 2 GiB, and the loops do the rest. */
const CALL_BYTES_MAX = 1024 ** 3;

/** What an operation is called in messages. */
type Action =
  | "make"
  | "lock"
  | "look at the lock of"
  | "list"
  | "open"
  | "open to write"
  | "read"
  | "write"
  | "create"
  | "truncate"
  | "sync"
  | "close"
  | "rename"
  | "remove";

const CODES: ReadonlyMap<unknown, ErrorCode> = new Map<unknown, ErrorCode>([
  ["ENOSPC", "FULL"],
  ["EDQUOT", "FULL"],
  ["EACCES", "READ_ONLY"],
  ["EPERM", "READ_ONLY"],
  ["EROFS", "READ_ONLY"],
]);

/** Without a code: what Deno throws for a path that its flags do not allow. */
const REFUSALS: ReadonlySet<unknown> = new Set(["EACCES", "EPERM", undefined]);

/** What changes nothing. */
const LOOKS: ReadonlySet<Action> = new Set<Action>(["look at the lock of", "list", "open", "read"]);

/** What the system says, in our words: the only translation there is. */
function translate(error: unknown, action: Action, place: string): FirkinError {
  if (error instanceof FirkinError) return error;
  let code = action === "sync" ? "DURABILITY" : CODES.get(codeOf(error)) ?? "IO";
  // A refusal to read does not say that writes are refused.
  if (code === "READ_ONLY" && LOOKS.has(action)) code = "IO";
  return new FirkinError(code, `Cannot ${action} ${place}: ${messageOf(error)}`, {
    cause: error,
    detail: { path: place },
  });
}

function attempt<Result>(action: Action, place: string, call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    throw translate(error, action, place);
  }
}

// --- file ---

class NodeFile implements File {
  readonly #calls: Calls;
  readonly #place: string;
  readonly #fd: number;
  #closed = false;
  #syncsUnderWay = 0;
  #failure: FirkinError | undefined;

  constructor(calls: Calls, place: string, fd: number) {
    this.#calls = calls;
    this.#place = place;
    this.#fd = fd;
  }

  read(target: Uint8Array, position: number, start = 0, end: number = target.length): number {
    this.#check("read", position);
    let done = 0;
    try {
      while (done < end - start) {
        const length = Math.min(end - start - done, CALL_BYTES_MAX);
        const count = this.#calls.readSync(this.#fd, target, start + done, length, position + done);
        if (count === 0) break;
        done += count;
      }
    } catch (error) {
      throw translate(error, "read", this.#place);
    }
    return done;
  }

  write(source: Uint8Array, position: number): void {
    this.#check("write", position);
    try {
      for (let done = 0; done < source.length;) {
        const length = Math.min(source.length - done, CALL_BYTES_MAX);
        const count = this.#calls.writeSync(this.#fd, source, done, length, position + done);
        if (count === 0) throw new Error("the system took no bytes and gave no reason");
        done += count;
      }
    } catch (error) {
      throw translate(error, "write", this.#place);
    }
  }

  size(): number {
    this.#check("read", 0);
    return attempt("read", this.#place, () => this.#calls.fstatSync(this.#fd).size);
  }

  truncate(size: number): void {
    this.#check("truncate", size);
    attempt("truncate", this.#place, () => this.#calls.ftruncateSync(this.#fd, size));
  }

  async sync(): Promise<void> {
    this.#check("sync", 0);
    if (this.#failure !== undefined) throw this.#failure;
    const flush = process.platform === "linux" ? this.#calls.fdatasync : this.#calls.fsync;
    this.#syncsUnderWay++;
    try {
      await settle((done) => flush(this.#fd, done));
    } catch (error) {
      this.#failure ??= translate(error, "sync", this.#place);
    } finally {
      this.#syncsUnderWay--;
      this.#closeWhenIdle();
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closeWhenIdle();
  }

  #closeWhenIdle(): void {
    if (!this.#closed || this.#syncsUnderWay > 0) return;
    attempt("close", this.#place, () => this.#calls.closeSync(this.#fd));
  }

  #check(action: Action, position: number): void {
    assert(Number.isSafeInteger(position) && position >= 0, "A position in a file is a whole number from zero");
    if (this.#closed) {
      throw new FirkinError("CLOSED", `Cannot ${action} ${this.#place}: the file is closed`, {
        detail: { path: this.#place },
      });
    }
  }
}

// --- folder ---

/** A folder on disk. */
export class NodeFileSystem implements FileSystem {
  readonly path: string;
  readonly #calls: Calls;

  /** Names a folder and touches nothing. */
  constructor(path: string);
  /**
   * With a test's calls. Not in the published types, which must not need those of Node.
   *
   * @internal
   */
  constructor(path: string, calls: Calls);
  constructor(path: string, calls: Calls = nodeFs) {
    this.path = resolve(path);
    this.#calls = calls;
  }

  makeDirectory(): void {
    attempt("make", this.path, () => {
      // Level by level: Node 20's own recursion never returns where a folder cannot be made, as below /proc.
      const missing: string[] = [];
      for (let folder = resolve(this.path); !this.#calls.existsSync(folder); folder = dirname(folder)) {
        missing.push(folder);
      }
      // What is there but no folder is refused by making it.
      if (missing.length === 0 && !this.#calls.statSync(this.path).isDirectory()) missing.push(this.path);
      for (const folder of missing.reverse()) {
        this.#calls.mkdirSync(folder, { mode: 0o700 });
        this.#syncParent(dirname(folder));
      }
    });
  }

  lock(options: LockOptions = {}): Lock {
    const lock = attempt("lock", this.path, () => acquire(this.path, this.#calls, options.force));
    return {
      check: () => attempt("lock", this.path, () => lock.check()),
      release: () => attempt("lock", this.path, () => lock.release()),
    };
  }

  inspect(): void {
    attempt("look at the lock of", this.path, () => inspect(this.path, this.#calls));
  }

  list(): string[] {
    const entries = attempt("list", this.path, () => this.#calls.readdirSync(this.path, { withFileTypes: true }));
    return entries.filter((entry) => entry.isFile() && !isLockName(entry.name)).map((entry) => entry.name);
  }

  open(name: string, mode: FileMode): File {
    const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = this.#calls.constants;
    const flags = { read: O_RDONLY, write: O_RDWR, create: O_RDWR | O_CREAT | O_EXCL }[mode];
    const action: Action = mode === "create" ? "create" : mode === "read" ? "open" : "open to write";
    const place = this.#at(name);
    // Without O_NOFOLLOW (Windows) the flag is undefined, which counts as 0.
    const fd = attempt(action, place, () => this.#calls.openSync(place, flags | O_NOFOLLOW, 0o600));
    return new NodeFile(this.#calls, place, fd);
  }

  rename(source: string, target: string): void {
    attempt("rename", this.#at(source), () => this.#calls.renameSync(this.#at(source), this.#at(target)));
  }

  remove(name: string): void {
    try {
      this.#calls.unlinkSync(this.#at(name));
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw translate(error, "remove", this.#at(name));
    }
  }

  async discard(name: string): Promise<void> {
    const place = this.#at(name);
    try {
      await settle((done) => this.#calls.unlink(place, done));
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw translate(error, "remove", place);
    }
  }

  async syncDirectory(): Promise<void> {
    if (process.platform === "win32") return;
    try {
      const { O_RDONLY, O_DIRECTORY } = this.#calls.constants;
      const fd = this.#calls.openSync(this.path, O_RDONLY | O_DIRECTORY);
      await settle((done) => this.#calls.fsync(fd, done)).finally(() => this.#calls.closeSync(fd));
    } catch (error) {
      throw translate(error, "sync", this.path);
    }
  }

  /** Makes the names in `parent` durable, where we may open it at all: Deno may be allowed the folder alone. */
  #syncParent(parent: string): void {
    if (process.platform === "win32") return;
    let fd: number;
    try {
      fd = this.#calls.openSync(parent, this.#calls.constants.O_RDONLY | this.#calls.constants.O_DIRECTORY);
    } catch (error) {
      if (REFUSALS.has(codeOf(error))) return;
      throw error;
    }
    try {
      attempt("sync", parent, () => this.#calls.fsyncSync(fd));
    } finally {
      this.#calls.closeSync(fd);
    }
  }

  #at(name: string): string {
    if (!/^\w[\w.-]*$/.test(name)) throw new TypeError(`Cannot use ${JSON.stringify(name)} as a file name`);
    return join(this.path, name);
  }
}

function settle(start: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => start((error) => error ? reject(error) : resolve()));
}
