/**
 * `open`: an embedded store on a folder or in memory.
 *
 * @module
 */
import { type Clock, systemClock } from "../base/clock.ts";
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
  /** Longest key; 1,024 by default, at most 65,535. */
  readonly keyBytesMax?: number;
  /** Longest value; 64 MiB by default. */
  readonly valueBytesMax?: number;
  /** When to compact without being asked: at this dead part of a segment (default 0.5); `false`: never. */
  readonly compaction?: { readonly deadRatio?: number } | false;
  /** Compress values of at least this many bytes (default 1,024) when that is smaller; `false`: never. */
  readonly compression?: { readonly bytesMin?: number } | false;
  /** How long compaction keeps the records of ended keys, for subscribers who come back; `"1h"` by default. */
  readonly tombstoneRetention?: Duration;
  /** Told what an operator should know: a torn end that was cut, a failed sync. */
  readonly onEvent?: (event: LogEvent) => void;
  /** Time, timers and randomness; the system's by default. */
  readonly clock?: Clock;
  /** Where files are kept, instead of the folder at `path`. */
  readonly fileSystem?: FileSystem;
}

const MIB = 1024 * 1024;

/**
 * Opens the store in a folder, or starts one there. One process at a time.
 *
 * @param target The folder, `":memory:"`, or {@link OpenOptions}.
 * @throws {FirkinError} LOCKED — another process has it; CORRUPT — stored bytes fail their check; READ_ONLY, FULL, IO
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
  const { compaction = {}, compression = {} } = options;
  const engine = await openEmbedded({
    fileSystem: options.fileSystem ?? fileSystemOf(options.path),
    folder: (path) => new NodeFileSystem(path),
    clock: options.clock ?? systemClock,
    sync: oneOf("sync", options.sync ?? "always", ["always", "interval", "os"]),
    syncIntervalMs: within("syncIntervalMs", options.syncIntervalMs ?? 1_000, 1, 3_600_000),
    cacheBytesMax: within("cacheBytesMax", options.cacheBytesMax ?? 64 * MIB, 0, 2 ** 40),
    segmentBytesMax: within("segmentBytesMax", options.segmentBytesMax ?? 32 * MIB, 4_096, 1_024 * MIB),
    keyBytesMax: within("keyBytesMax", options.keyBytesMax ?? 1_024, 1, 65_535),
    valueBytesMax: within("valueBytesMax", options.valueBytesMax ?? 64 * MIB, 1, 1_024 * MIB),
    automatic: compaction !== false,
    deadRatio: ratio("compaction.deadRatio", compaction === false ? 1 : compaction.deadRatio ?? 0.5),
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

function ratio(name: string, value: number): number {
  if (!(value > 0 && value <= 1)) throw new RangeError(`Cannot open with ${name} ${value}: expected above 0, up to 1`);
  return value;
}

function oneOf<Name extends string>(option: string, value: Name, names: readonly Name[]): Name {
  if (!names.includes(value)) {
    throw new RangeError(`Cannot open with ${option} "${value}": expected ${names.join(", ")}`);
  }
  return value;
}
