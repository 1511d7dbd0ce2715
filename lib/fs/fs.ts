/**
 * The only door to storage.
 *
 * A {@link FileSystem} is bound to one folder; names are plain file names in it, never paths. Reads and
 * writes are positional and synchronous (about a microsecond against twenty for an awaited one); only
 * making bytes durable is awaited. Rules that every implementation keeps:
 *
 * 1. `write` returns only after *all* bytes are taken: short writes are looped over.
 * 2. `read` fills the target, or stops at the end of the file and returns how much there was.
 * 3. `sync` resolves only when the file's bytes and length are on stable storage. A failure is thrown as
 *    `DURABILITY` and is never retried on the same file: the kernel may have dropped the pages.
 * 4. Creating, renaming and removing are durable only after `syncDirectory`.
 * 5. What the system says is translated here and nowhere else: no space is `FULL`, a held lock is
 *    `LOCKED`, a refused permission on a write is `READ_ONLY`, the rest is `IO`, with the system's own
 *    error as `cause`.
 *
 * @module
 */

/** An open file. Offsets and lengths are bytes and may exceed 4 GiB. */
export interface File {
  /**
   * Fills `target` from `start` to `end`, the whole of it when absent, with what stands at `position`; returns the
   * bytes read, fewer only at the end of the file.
   */
  read(target: Uint8Array, position: number, start?: number, end?: number): number;
  /** Writes all of `source` at `position`. `source` is not kept. */
  write(source: Uint8Array, position: number): void;
  /** The file's length in bytes. */
  size(): number;
  /** Cuts or extends (with zeros) the file to `size` bytes. */
  truncate(size: number): void;
  /** Resolves when everything written before the call is on stable storage. */
  sync(): Promise<void>;
  /** Closes the file; later calls change nothing. */
  close(): void;
}

/** How a file is opened: to read, to read and write what is there, or as a new file that must not exist. */
export type FileMode = "read" | "write" | "create";

/** How a folder is taken. */
export interface LockOptions {
  /** Take it also from an owner of whom nobody can tell whether it lives; never from one that is seen to live. */
  readonly force?: boolean;
}

/** A process's hold on a folder. */
export interface Lock {
  /** Looks whether the folder still is this process's. @throws {FirkinError} LOCKED — it is not */
  check(): void;
  /** Gives the folder back, if it still is this process's; later calls change nothing. */
  release(): void;
}

/** One folder of files with one writer. */
export interface FileSystem {
  /** What to call the folder in messages. */
  readonly path: string;
  /** Makes the folder (mode 0700) and its parents when they are missing. */
  makeDirectory(): void;
  /** Takes the folder for this process. @throws {FirkinError} LOCKED — another owner lives, or may */
  lock(options?: LockOptions): Lock;
  /** Looks whether `lock` would be refused, and writes nothing. @throws {FirkinError} LOCKED — it would */
  inspect(): void;
  /** Names of the files in the folder, in no promised order. */
  list(): string[];
  /** Opens a file (mode 0600 when created). @throws {FirkinError} IO — "create" found one, or the others none */
  open(name: string, mode: FileMode): File;
  /** Moves `source` over `target`, replacing it. */
  rename(source: string, target: string): void;
  /** Removes a file; one that does not exist is no error. */
  remove(name: string): void;
  /** As `remove`, of a file that may be large: others run until the system has given back what it held. */
  discard(name: string): Promise<void>;
  /** Resolves when creations, renames and removals before the call are on stable storage. */
  syncDirectory(): Promise<void>;
}
