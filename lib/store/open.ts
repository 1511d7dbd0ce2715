/**
 * `open`: an embedded store on a folder or in memory.
 *
 * @module
 */
import { type Clock, systemClock } from "../base/clock.ts";
import type { Hours } from "../bitcask/candidates.ts";
import type { LogEvent, SyncPolicy } from "../bitcask/log.ts";
import { openEmbedded } from "../engine/embedded.ts";
import type { FileSystem } from "../fs/fs.ts";
import { MemoryFileSystem } from "../fs/memory.ts";
import { NodeFileSystem } from "../fs/node.ts";
import { type Duration, milliseconds } from "./bucket.ts";
import { Store } from "./store.ts";

/** Options of {@link open}. Bytes are bytes, times milliseconds or such as `"1h"`. */
export interface OpenOptions {
  /** The folder, made when it is missing; `":memory:"` for a store that ends with the process. */
  readonly path: string;
  /**
   * When a write is acknowledged: `"always"` after it is on stable storage (default), `"interval"` and `"os"` before.
   */
  readonly sync?: SyncPolicy;
  /** Time between syncs under `"interval"`; 1,000 by default. */
  readonly syncIntervalMs?: number;
  /** Memory for blocks of sealed segments; 64 MiB by default. */
  readonly cacheBytesMax?: number;
  /** Size of a segment, and memory for the active one; 32 MiB by default, 4 KiB to 1 GiB. */
  readonly segmentBytesMax?: number;
  /**
   * Sealed segments whose files are kept open; 256 by default, at least 8. Others are opened when they are read; a read
   * for which the system has no descriptor fails with `IO`.
   */
  readonly filesMax?: number;
  /**
   * Take the folder also when nobody can tell whether its owner lives: after a container was started again with the
   * same host name, or a machine's disk was moved. Only when you know that it does not: two owners at once damage
   * the store. An owner that is seen to live stays `LOCKED`.
   */
  readonly forceUnlock?: boolean;
  /**
   * Take no lock and change nothing in the folder, which may be one that cannot be written to. There must be a store,
   * and no process that has it open. Writes are refused with `READ_ONLY`; keys whose deadline has come are hidden, and
   * nobody is told; the unfinished end of a store that was killed is left out and reported. A process that opens the
   * store to write meanwhile is not held up: after that, reads may fail with `IO`.
   */
  readonly readOnly?: boolean;
  /** Longest key; 1,024 by default, at most 65,535. */
  readonly keyBytesMax?: number;
  /** Longest value; 64 MiB by default. */
  readonly valueBytesMax?: number;
  /** Operations of one batch; 1,000 by default, at most a million. */
  readonly batchOperationsMax?: number;
  /** Bytes of the keys and values of one batch; 4 MiB by default, at most 1 GiB. */
  readonly batchBytesMax?: number;
  /** When to compact without being asked; `false`: never. */
  readonly compaction?: AutomaticCompaction | false;
  /** Compress values of at least this many bytes (default 1,024) when that is smaller; `false`: never. */
  readonly compression?: { readonly bytesMin?: number } | false;
  /** How long compaction keeps the records of ended keys, for subscribers who come back; `"1h"` by default. */
  readonly tombstoneRetention?: Duration;
  /**
   * Size of a file that keeps room for deletes and compaction on a full disk, where sets are refused with `FULL`; as
   * large as a segment by default, 32 MiB at most. 0: none, and on a full disk each write is tried.
   */
  readonly reserveBytes?: number;
  /** Told what an operator should know: a torn end that was cut, a failed sync, a full disk, compaction's runs. */
  readonly onEvent?: (event: LogEvent) => void;
  /** Time, timers and randomness; the system's by default. */
  readonly clock?: Clock;
  /** Where files are kept, instead of the folder at `path`. */
  readonly fileSystem?: FileSystem;
}

/** When {@link open} compacts without being asked: a part of {@link OpenOptions}. */
export interface AutomaticCompaction {
  /** A full segment is rewritten when at least this part of it is dead; above 0, up to 1, 0.5 by default. */
  readonly deadRatio?: number;
  /** It is also rewritten when at least so many bytes of it are dead; never for that alone by default. */
  readonly deadBytes?: number;
  /**
   * Four or more neighbours of fewer bytes are merged; a quarter of `segmentBytesMax` by default, at most half of it.
   * 0: never.
   */
  readonly smallBytes?: number;
  /**
   * Hours of the day, UTC, in which it may begin, such as `{ start: 1, end: 5 }`; past midnight when `end` is the
   * smaller. At any time by default.
   */
  readonly window?: Hours;
}

const MIB = 1024 * 1024;

/**
 * Opens the store in a folder, or starts one there. One process at a time.
 *
 * @param target The folder, `":memory:"`, or {@link OpenOptions}.
 * @throws {FirkinError} LOCKED — another process has it; CORRUPT — stored bytes fail their check; READ_ONLY, FULL, IO
 *
 * @example Look into a store without changing it
 * ```ts
 * import { MemoryFileSystem, open } from "firkin";
 *
 * const fileSystem = new MemoryFileSystem(); // in place of the folder
 * await (await open({ path: "./data", fileSystem })).close();
 * const store = await open({ path: "./data", fileSystem, readOnly: true });
 * await store.bucket("users").set("ada", 1).catch((error) => console.log(error.code)); // READ_ONLY
 * await store.close();
 * ```
 *
 * @example Keep a value on disk
 * ```ts
 * import { open } from "firkin";
 *
 * const store = await open(":memory:"); // or a folder: open("./data")
 * const users = store.bucket<{ name: string }>("users");
 * await users.set("ada", { name: "Ada" }, { ttl: "30s" });
 * console.log(await users.get("ada"), users.getSync("bob")); // { name: "Ada" } undefined
 * await store.close();
 * ```
 */
export async function open(target: string | OpenOptions): Promise<Store> {
  const options: OpenOptions = typeof target === "string" ? { path: target } : target;
  if (typeof options.path !== "string" || options.path === "") {
    throw new TypeError("Cannot open a store without a path");
  }
  for (const name of ["readOnly", "forceUnlock"] as const) flag(name, options[name]);
  if (options.onEvent !== undefined && typeof options.onEvent !== "function") {
    throw new TypeError("Cannot open with an onEvent that is no function");
  }
  const compaction = options.compaction ?? {};
  const compression = options.compression ?? {};
  const { deadRatio = 0.5, deadBytes, smallBytes, window } = compaction === false ? {} : compaction;
  const segmentBytesMax = within("segmentBytesMax", options.segmentBytesMax ?? 32 * MIB, 4_096, 1_024 * MIB);
  // Memory that runs out cannot be told from a process that ends: there is nothing to keep back.
  const reserveBytes = options.path === ":memory:" ? 0 : Math.min(segmentBytesMax, 32 * MIB);
  const engine = await openEmbedded({
    fileSystem: options.fileSystem ?? fileSystemOf(options.path),
    folder: (path) => new NodeFileSystem(path),
    clock: options.clock ?? systemClock,
    sync: oneOf("sync", options.sync ?? "always", ["always", "interval", "os"]),
    syncIntervalMs: within("syncIntervalMs", options.syncIntervalMs ?? 1_000, 1, 3_600_000),
    cacheBytesMax: within("cacheBytesMax", options.cacheBytesMax ?? 64 * MIB, 0, 2 ** 40),
    segmentBytesMax,
    filesMax: within("filesMax", options.filesMax ?? 256, 8, 2 ** 20),
    forceUnlock: options.forceUnlock === true,
    readOnly: options.readOnly === true,
    reserveBytes: within("reserveBytes", options.reserveBytes ?? reserveBytes, 0, 2 ** 40),
    keyBytesMax: within("keyBytesMax", options.keyBytesMax ?? 1_024, 1, 65_535),
    valueBytesMax: within("valueBytesMax", options.valueBytesMax ?? 64 * MIB, 1, 1_024 * MIB),
    batchOperationsMax: within("batchOperationsMax", options.batchOperationsMax ?? 1_000, 1, 1_000_000),
    batchBytesMax: within("batchBytesMax", options.batchBytesMax ?? 4 * MIB, 1, 1_024 * MIB),
    automatic: compaction !== false,
    deadRatio: ratio("compaction.deadRatio", deadRatio),
    deadBytes: deadBytes === undefined ? Infinity : within("compaction.deadBytes", deadBytes, 1, 2 ** 40),
    smallBytes: within("compaction.smallBytes", smallBytes ?? segmentBytesMax >>> 2, 0, segmentBytesMax >>> 1),
    window: window === undefined ? undefined : hours("compaction.window", window),
    compressBytesMin: compression === false
      ? Infinity
      : within("compression.bytesMin", compression.bytesMin ?? 1_024, 0, 2 ** 40),
    tombstoneRetentionMs: milliseconds(options.tombstoneRetention ?? "1h"),
    report: options.onEvent ?? (() => {}),
  });
  return new Store(engine);
}

function fileSystemOf(path: string): FileSystem {
  return path === ":memory:" ? new MemoryFileSystem() : new NodeFileSystem(path);
}

function within(name: string, value: number, least: number, most: number): number {
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    throw new RangeError(`Cannot open with ${name} ${value}: expected a whole number from ${least} to ${most}`);
  }
  return value;
}

function flag(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "boolean") {
    throw new TypeError(`Cannot open with a ${typeof value} as ${name}: expected true or false`);
  }
}

function ratio(name: string, value: number): number {
  if (!(value > 0 && value <= 1)) throw new RangeError(`Cannot open with ${name} ${value}: expected above 0, up to 1`);
  return value;
}

function hours(name: string, { start, end }: Hours): Hours {
  if (!(start >= 0 && start < 24 && end > 0 && end <= 24 && start !== end)) {
    throw new RangeError(`Cannot open with ${name} from ${start} to ${end}: expected two hours of a day`);
  }
  return { start, end };
}

function oneOf<Name extends string>(option: string, value: Name, names: readonly Name[]): Name {
  if (!names.includes(value)) {
    throw new RangeError(`Cannot open with ${option} "${value}": expected ${names.join(", ")}`);
  }
  return value;
}
