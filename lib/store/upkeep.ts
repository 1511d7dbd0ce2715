/**
 * What is done to a store that nobody has open: verify, repair, restore.
 *
 * @module
 */
import { type Clock, systemClock } from "../base/clock.ts";
import { type Repair, repairLog } from "../bitcask/repair.ts";
import { restoreLog } from "../bitcask/restore.ts";
import { type Verification, verifyLog, type VerifyLogOptions, type VerifyProgress } from "../bitcask/verify.ts";
import type { FileSystem } from "../fs/fs.ts";
import { NodeFileSystem } from "../fs/node.ts";

/** Options of {@link verify}, {@link repair} and {@link restore}. */
export interface UpkeepOptions {
  /** The folder. */
  readonly path: string;
  /** Told how far the reading is. */
  readonly onProgress?: (progress: VerifyProgress) => void;
  /** Time and randomness; the system's by default. */
  readonly clock?: Clock;
  /** Where the files are, instead of the folder at `path`. */
  readonly fileSystem?: FileSystem;
}

/**
 * Reads every byte of a store that is closed and says what is damaged, and where. Changes nothing.
 *
 * @param target The folder, or {@link UpkeepOptions}.
 * @throws {FirkinError} LOCKED — a process has it; IO — there is no store; CORRUPT — nothing at all can be told
 *
 * @example Is the store sound?
 * ```ts
 * import { MemoryFileSystem, open, verify } from "firkin";
 *
 * const fileSystem = new MemoryFileSystem();
 * const store = await open({ path: "data", fileSystem });
 * await store.bucket("users").set("ada", 1);
 * await store.close();
 * const { sound, damage, records } = await verify({ path: "data", fileSystem });
 * console.log(sound, damage.length, records); // true 0 1
 * ```
 */
export async function verify(target: string | UpkeepOptions): Promise<Verification> {
  const { fileSystem, options } = placeOf(target);
  return await whileNobodyTakes(fileSystem, () => verifyLog(fileSystem, options));
}

/**
 * Makes a damaged store sound again: keeps every record that is, sets the damaged files aside, and reports what may be
 * lost. A sound store is left as it is.
 *
 * @param target The folder, or {@link UpkeepOptions}.
 * @throws {FirkinError} LOCKED — a process has it; IO — there is no store; CORRUPT — nothing at all can be told; FULL
 *
 * @example Nothing to repair
 * ```ts
 * import { MemoryFileSystem, open, repair } from "firkin";
 *
 * const fileSystem = new MemoryFileSystem();
 * await (await open({ path: "data", fileSystem })).close();
 * console.log((await repair({ path: "data", fileSystem })).changed); // false
 * ```
 */
export async function repair(target: string | UpkeepOptions): Promise<Repair> {
  const { fileSystem, options } = placeOf(target);
  return await whileNobodyHas(fileSystem, () => repairLog(fileSystem, options));
}

/**
 * Copies a snapshot, or any closed store, into another folder, where `open` takes it. Reads all of it before anything
 * is written, and the copy too.
 *
 * @param source The snapshot's folder, or {@link UpkeepOptions}.
 * @param target A folder that is empty or missing, or {@link UpkeepOptions}.
 * @throws {FirkinError} CORRUPT — the snapshot is damaged, at the place in `detail`; INVALID — the target is not empty;
 * LOCKED, FULL, IO
 *
 * @example Restore a copy
 * ```ts
 * import { MemoryFileSystem, open, restore } from "firkin";
 *
 * const fileSystem = new MemoryFileSystem();
 * await (await open({ path: "data", fileSystem })).close();
 * const target = new MemoryFileSystem();
 * console.log((await restore({ path: "data", fileSystem }, { path: "copy", fileSystem: target })).sound); // true
 * ```
 */
export async function restore(source: string | UpkeepOptions, target: string | UpkeepOptions): Promise<Verification> {
  const from = placeOf(source);
  const to = placeOf(target);
  return await whileNobodyTakes(from.fileSystem, () => restoreLog(from.fileSystem, to.fileSystem, from.options));
}

function placeOf(target: string | UpkeepOptions): { fileSystem: FileSystem; options: VerifyLogOptions } {
  const options: UpkeepOptions = typeof target === "string" ? { path: target } : target;
  if (typeof options.path !== "string" || options.path === "") throw new TypeError("Cannot use a store without a path");
  return {
    fileSystem: options.fileSystem ?? new NodeFileSystem(options.path),
    options: { clock: options.clock ?? systemClock, progress: options.onProgress },
  };
}

/** Runs `work` with the folder's lock; the process does not end meanwhile. */
async function whileNobodyHas<Result>(fileSystem: FileSystem, work: () => Promise<Result>): Promise<Result> {
  const lock = fileSystem.lock();
  const hold = systemClock.hold();
  try {
    return await work();
  } finally {
    hold.cancel();
    lock.release();
  }
}

/** Runs `work`, which only reads, and writes no lock either: who takes the folder meanwhile is found out at the end. */
async function whileNobodyTakes<Result>(fileSystem: FileSystem, work: () => Promise<Result>): Promise<Result> {
  fileSystem.inspect();
  const hold = systemClock.hold();
  try {
    return await work();
  } finally {
    hold.cancel();
    // Whatever was found may be a store in the middle of a write.
    fileSystem.inspect();
  }
}
