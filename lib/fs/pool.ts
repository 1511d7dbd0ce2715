/**
 * Files that are only read, behind a bounded number of descriptors.
 *
 * A log has a file for each 32 MiB; a process may have a thousand descriptors, most of which belong to connections. So
 * a file of the pool is opened when it is read and closed when others were read since and there are too many: the
 * least recently read one goes. Its user sees none of that.
 *
 * Only for files that never change again and keep their name while they are in use: sealed segments and hints. To
 * write to one is a mistake of the caller.
 *
 * When the system has no descriptor left (`EMFILE`, `ENFILE`), half of the pool's are closed and the open is tried
 * once more, so that a pool that grew while there was room gives it back.
 *
 * @module
 */
import { FirkinError } from "../base/errors.ts";
import type { File, FileSystem } from "./fs.ts";

/** What systems say when a process, or the machine, has no descriptor left. */
const EXHAUSTED: ReadonlySet<unknown> = new Set(["EMFILE", "ENFILE"]);

/** The part of the files that is closed when there are too many. */
const SHRINK_PART = 1 / 8;

/** Files of one folder, of which a few are open. */
export class FilePool {
  readonly #fileSystem: FileSystem;
  readonly #filesMax: number;
  readonly #open = new Set<PooledFile>();
  /** Reads so far. */
  #uses = 0;
  #closed = false;

  /** Keeps at most `filesMax` files open, at least one. */
  constructor(fileSystem: FileSystem, filesMax: number) {
    this.#fileSystem = fileSystem;
    this.#filesMax = filesMax;
  }

  /** How many files are open now. */
  get openCount(): number {
    return this.#open.size;
  }

  /** The file with this name, to read. Opens nothing yet; closing it is for good. */
  file(name: string): File {
    const file: PooledFile = new PooledFile(name, () => this.#use(file), () => this.#forget(file));
    return file;
  }

  /** Closes every file for good. */
  close(): void {
    this.#closed = true;
    this.#shrink(0);
  }

  /** The open file behind `file`, from now on the most recently used. */
  #use(file: PooledFile): File {
    // A number that says when: to keep the open files in order would cost more than a read from memory.
    file.usedAt = ++this.#uses;
    return file.opened ?? this.#reopen(file);
  }

  #reopen(file: PooledFile): File {
    if (this.#closed) throw file.closed();
    // Some at once: to look for each alone would take longer than to open it.
    if (this.#open.size >= this.#filesMax) this.#shrink(this.#filesMax - Math.ceil(this.#filesMax * SHRINK_PART));
    file.opened = this.#openFile(file.name);
    this.#open.add(file);
    return file.opened;
  }

  #openFile(name: string): File {
    try {
      return this.#fileSystem.open(name, "read");
    } catch (error) {
      if (this.#open.size === 0 || !isExhausted(error)) throw error;
      this.#shrink(this.#open.size >> 1);
      return this.#fileSystem.open(name, "read");
    }
  }

  #forget(file: PooledFile): void {
    const { opened } = file;
    file.opened = undefined;
    this.#open.delete(file);
    opened?.close();
  }

  /** Closes the least recently used until at most `count` are open. */
  #shrink(count: number): void {
    if (this.#open.size <= count) return;
    const files = [...this.#open].sort((one, other) => one.usedAt - other.usedAt);
    for (const file of files.slice(0, files.length - Math.max(count, 0))) this.#forget(file);
  }
}

/** A file that is opened by its pool when it is read. */
class PooledFile implements File {
  readonly name: string;
  /** Undefined while it is not open. */
  opened: File | undefined;
  /** Among the reads of its pool, the last of this file. */
  usedAt = 0;
  readonly #use: () => File;
  readonly #forget: () => void;
  #closed = false;

  constructor(name: string, use: () => File, forget: () => void) {
    this.name = name;
    this.#use = use;
    this.#forget = forget;
  }

  read(target: Uint8Array, position: number, start?: number, end?: number): number {
    return this.#file().read(target, position, start, end);
  }

  size(): number {
    return this.#file().size();
  }

  write(): void {
    throw this.#misuse("write");
  }

  truncate(): void {
    throw this.#misuse("truncate");
  }

  // deno-lint-ignore require-await -- misuse must reject, not throw
  async sync(): Promise<void> {
    throw this.#misuse("sync");
  }

  close(): void {
    this.#closed = true;
    this.#forget();
  }

  #file(): File {
    if (this.#closed) throw this.closed();
    return this.#use();
  }

  closed(): FirkinError {
    return new FirkinError("CLOSED", `Cannot read ${this.name}: the file is closed`);
  }

  #misuse(action: string): TypeError {
    return new TypeError(`Cannot ${action} ${this.name}: files of a pool are only read`);
  }
}

function isExhausted(error: unknown): boolean {
  const cause = error instanceof FirkinError ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && EXHAUSTED.has(cause.code);
}
