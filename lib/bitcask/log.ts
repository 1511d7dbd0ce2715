/**
 * The log: its segments in order of revision, and the folder they live in.
 *
 * Segments keep the order of revisions even after compaction, which replaces a run of neighbours by its output. So the
 * later record of a key is the newer one, an open replays without comparing, and the log read forward is the feed.
 *
 * The last segment is the active one. A segment is begun in memory; its file is made by the flush that first writes to
 * it (`group.ts`), in this order: the segment before it is synced, seal and all; the new file and its header are
 * synced; the manifest that names it is switched; only then a record in it is acknowledged.
 *
 * @module
 */
import { fromHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { assert, FirkinError } from "../base/errors.ts";
import type { BucketSettings } from "../engine/settings.ts";
import type { File, FileSystem, Lock } from "../fs/fs.ts";
import { FilePool } from "../fs/pool.ts";
import { BlockCache } from "./cache.ts";
import { FrameCache, ReadWindow } from "./frames.ts";
import { type Hint, hintName } from "./hint.ts";
import { ADDRESS_UNIT } from "./keydir.ts";
import { type Manifest, writeManifest } from "./manifest.ts";
import { readU32 } from "./record.ts";
import { Reserve, type ReserveEvent } from "./reserve.ts";
import { MARK_BYTES, SEAL_BYTES, Segment, SEGMENT_HEADER_BYTES, type SegmentHome, segmentName } from "./segment.ts";
import type { Turns } from "./turns.ts";

/** When an acknowledged write is on stable storage: before the answer, within an interval, or when the system likes. */
export type SyncPolicy = "always" | "interval" | "os";

/** How a run of compaction goes; bytes and milliseconds are of this run so far. */
export interface CompactionEvent {
  /** What the event is about. */
  readonly type: "compaction";
  /** "failed" leaves the log as it was. */
  readonly phase: "started" | "progress" | "done" | "failed";
  /** Segments that the run rewrites. */
  readonly segments: number;
  /** Their bytes, which are to be read. */
  readonly totalBytes: number;
  /** Bytes read so far. */
  readonly readBytes: number;
  /** Bytes written and synced so far. */
  readonly writtenBytes: number;
  /** What the log is smaller by; 0 until the run is done. */
  readonly reclaimedBytes: number;
  /** Time since the run began. */
  readonly milliseconds: number;
  /** Why it failed. */
  readonly error?: unknown;
}

/** An end that a crash had left unfinished was cut off a segment. */
export interface TornEvent {
  /** What the event is about. */
  readonly type: "torn";
  /** The segment's id. */
  readonly segment: number;
  /** Where it ends now. */
  readonly offset: number;
  /** Bytes that were cut off. */
  readonly bytes: number;
  /** How many of them are in a file beside it. */
  readonly kept: number;
}

/** Nothing is written any more. Changes after `revision` that were acknowledged may be lost in a power cut. */
export interface PoisonedEvent {
  /** The kind of event. */
  readonly type: "poisoned";
  /** Why: a sync that failed, or another process that has taken the folder. */
  readonly error: FirkinError;
  /** The last one that is known to be on stable storage. */
  readonly revision: number;
}

/** How far an open is. Told about every second by one that takes longer, and at its end. */
export interface OpenEvent {
  /** What the event is about. */
  readonly type: "open";
  /** What is read: the ends of each segment, or all of one that has no hint, as the last one; then all hints. */
  readonly phase: "segments" | "hints" | "done";
  /** Segments that have been looked at. */
  readonly segments: number;
  /** How many there are. */
  readonly totalSegments: number;
  /** Records that hints have told of: the newest of each key in each segment. */
  readonly records: number;
  /** How many there are, in the segments that have been looked at. */
  readonly totalRecords: number;
  /** Time since the open began. */
  readonly milliseconds: number;
}

/** Something an operator should know. */
export type LogEvent =
  | OpenEvent
  | TornEvent
  | PoisonedEvent
  | ReserveEvent
  | CompactionEvent;

/** Options of `openLog`. */
export interface LogOptions {
  readonly sync: SyncPolicy;
  readonly cacheBytesMax: number;
  readonly segmentBytesMax: number;
  readonly filesMax: number;
  /** Room kept back for a full disk; 0: none. */
  readonly reserveBytes: number;
  /** Take the folder also from an owner that may be alive but is not seen to be. */
  readonly forceUnlock?: boolean;
  /** Take no lock and write nothing. */
  readonly readOnly?: boolean;
  /** Called when the log is there, before its segments are read. */
  readonly attach: (log: Log) => LogOwner;
  readonly report: (event: LogEvent) => void;
}

/** A segment and what it is replayed from at open; it may have no hint to be listed from. */
export interface Hinted {
  readonly segment: Segment;
  readonly hint: Hint;
}

/** What the log tells its owner of its segments. At open, it is told of all of them in order. */
export interface LogOwner {
  /** At open: a segment, in memory and checked, has no hint that holds. Resolves to one that was made. */
  makeHint(segment: Segment, turns: Turns): Promise<Hint>;
  /** At open: what all segments have to say, in order. `read` is told how many entries were read. */
  replay(hinted: readonly Hinted[], turns: Turns, read: (entries: number) => void): Promise<void>;
  /** A segment is sealed, synced and visible to its end: it may leave memory, and have a hint. */
  sealed(segment: Segment): void;
}

/** The part of the cache that listings have for blocks of hints. */
const HINTS_PART = 1 / 8;

/** Buckets a store may have: their names stand in the manifest, which is rewritten whole. */
export const BUCKETS_MAX = 4_096;

const NO_SETTINGS: BucketSettings = Object.freeze({});

/** Addresses are exact integers: slots beyond this would not be. 64 TiB of segments of the default size. */
const SLOTS_MAX = 2 ** 21;

/** What {@link Log.switchManifest} changes beside the segments with files and the buckets named so far. */
export interface ManifestChanges {
  /** The output of a compaction in the place of its input. */
  readonly replace?: { readonly inputs: readonly Segment[]; readonly outputs: readonly Segment[] };
  readonly floor?: number;
  readonly epoch?: string;
  readonly sync?: SyncPolicy;
  /** Settings in the place of those that a bucket had. */
  readonly settings?: readonly [bucket: string, settings: BucketSettings];
}

/** The segments of a folder. */
export class Log {
  readonly fileSystem: FileSystem;
  /** Blocks of hints. */
  readonly cache: BlockCache;
  /** Pieces of sealed segments. */
  readonly frames: FrameCache;
  /** Sealed segments, and what else never changes again. */
  readonly pool: FilePool;
  readonly reserve: Reserve;
  /** In order of revision; the last is the active one. */
  readonly segments: Segment[] = [];
  /** The last revision given. */
  revision = 0;
  /** The highest time of any record: the store's time never falls behind it. */
  timeMax = 0;
  /** Why nothing may be written: the log was opened to read. */
  readonly refusal: FirkinError | undefined;
  /** Told once, when the folder turns out to be no longer this process's. */
  onLost: (error: FirkinError) => void = () => {};

  readonly #owner: LogOwner;
  readonly #segmentBytesMax: number;
  readonly #home: SegmentHome;
  readonly #slots: (Segment | undefined)[] = [];
  readonly #bucketNumbers = new Map<string, number>();
  readonly #bucketNames: string[] = [];
  /** By number less one. */
  readonly #settings: BucketSettings[] = [];
  readonly #lock: Lock;
  #lost: FirkinError | undefined;
  #manifest: Manifest;
  #nextSegment: number;
  #switching: Promise<void> = Promise.resolve();

  /** For `openLog`. */
  constructor(fileSystem: FileSystem, clock: Clock, options: LogOptions, manifest: Manifest, lock: Lock) {
    this.fileSystem = fileSystem;
    this.reserve = new Reserve(fileSystem, clock, options.reserveBytes, options.report, () => this.owned);
    const hintBytes = Math.floor(options.cacheBytesMax * HINTS_PART);
    this.cache = new BlockCache(hintBytes);
    this.frames = new FrameCache(options.cacheBytesMax - hintBytes);
    this.pool = new FilePool(fileSystem, options.filesMax);
    this.#segmentBytesMax = options.segmentBytesMax;
    this.#home = { storeId: fromHex(manifest.store)!, frames: this.frames, aside: new ReadWindow() };
    this.#lock = lock;
    this.refusal = options.readOnly === true ? readOnlyError(fileSystem) : undefined;
    this.#manifest = manifest;
    this.#nextSegment = manifest.nextSegment;
    this.revision = manifest.revision;
    this.timeMax = manifest.time;
    for (const name of manifest.buckets) this.#name(name, settingsIn(manifest, name));
    this.#owner = options.attach(this);
  }

  /** Who is told of its segments. */
  get owner(): LogOwner {
    return this.#owner;
  }

  // --- segments and addresses ---

  /** The last segment, which takes new records unless it is sealed; undefined in a new log. */
  get active(): Segment | undefined {
    return this.segments[this.segments.length - 1];
  }

  /** The segment in this slot of the table, undefined when it is gone. */
  segmentIn(slot: number): Segment | undefined {
    return this.#slots[slot];
  }

  /** The segment that an address lies in. */
  segmentOf(address: number): Segment {
    const segment = this.#slots[Math.floor(address / ADDRESS_UNIT)];
    assert(segment !== undefined, "an address lies in a segment of the log");
    return segment;
  }

  /** A new segment in memory, with room for one record of `length` bytes and its seal at least. Not yet of the log. */
  createSegment(length: number, id: number = this.#nextSegment++): Segment {
    return new Segment(
      id,
      this.#home,
      Math.max(this.#segmentBytesMax, SEGMENT_HEADER_BYTES + MARK_BYTES + length + SEAL_BYTES),
    );
  }

  /**
   * Gives a segment its slot, so that addresses can point into it. A slot is never given twice: the schedule of
   * deadlines still holds addresses of segments that are gone.
   */
  register(segment: Segment): void {
    assert(this.#slots.length < SLOTS_MAX, "a store that is open makes fewer segments than addresses can tell apart");
    segment.slot = this.#slots.push(segment) - 1;
  }

  /** Makes a new segment the active one, in memory. */
  begin(length: number): Segment {
    const segment = this.createSegment(length);
    this.register(segment);
    this.segments.push(segment);
    return segment;
  }

  /** Lets go of the last segment, which the manifest does not name. */
  forget(segment: Segment): void {
    assert(segment === this.active && !segment.listed, "only the newest segment is forgotten");
    this.segments.pop();
    this.discard(segment);
  }

  /** Makes the file of a segment that begins in memory, and makes it and its header durable. */
  async createFile(segment: Segment): Promise<void> {
    this.fence();
    const name = segmentName(segment.id);
    this.fileSystem.remove(name);
    segment.file = this.fileSystem.open(name, "create");
    // Not `written` yet: the manifest names no file whose header is only on its way.
    segment.file.write(segment.bytes(0, SEGMENT_HEADER_BYTES), 0);
    await segment.file.sync();
    segment.written = SEGMENT_HEADER_BYTES;
    segment.fileEnd = SEGMENT_HEADER_BYTES;
    segment.durable = SEGMENT_HEADER_BYTES;
  }

  /** A segment is sealed and synced, and so never written again: its file goes to the pool. */
  shelve(segment: Segment): void {
    assert(segment.sealed && segment.durable === segment.tail, "a segment that is shelved is on stable storage");
    segment.file?.close();
    segment.file = this.pool.file(segmentName(segment.id));
  }

  /** A file that is never written again, to read: a sealed segment's, or a hint's. */
  openFile(name: string): File {
    return this.pool.file(name);
  }

  /** Closes a segment that is out of the manifest; its file is left. */
  retire(segment: Segment): void {
    segment.close();
    segment.gone = true;
    if (segment.slot !== -1) this.#slots[segment.slot] = undefined;
  }

  /** Closes a segment that is out of the manifest and removes its files. */
  discard(segment: Segment): void {
    this.retire(segment);
    if (!this.owned) return;
    this.fileSystem.remove(segmentName(segment.id));
    this.fileSystem.remove(hintName(segment.id));
  }

  /**
   * Throws when the folder is no longer this process's: called before anything that changes which files are the log. A
   * process that was believed dead must not undo what the next one did.
   * @throws {FirkinError} LOCKED
   */
  fence(): void {
    if (this.#lost !== undefined) throw this.#lost;
    try {
      this.#lock.check();
    } catch (error) {
      if (error instanceof FirkinError && error.code === "LOCKED") this.onLost(this.#lost = error);
      throw error;
    }
  }

  /** False when no file of the folder may be changed: the log was opened to read, or another process has the folder. */
  get owned(): boolean {
    try {
      this.fence();
    } catch {
      return this.#lost === undefined && this.refusal === undefined;
    }
    return true;
  }

  // --- manifest ---

  /** Seed of the keydir's hashes: the store's own, and random. */
  get hashSeed(): number {
    return readU32(this.#home.storeId, 0);
  }

  /** First part of every cursor. */
  get epoch(): string {
    return this.#manifest.epoch;
  }

  /** The highest revision of a tombstone that is gone: a cursor before it must start again. */
  get floor(): number {
    return this.#manifest.floor;
  }

  /** Switches the manifest to the segments that have files and the buckets named so far, with these changes. */
  switchManifest(changes: ManifestChanges = {}): Promise<void> {
    const next = this.#switching.then(async () => {
      const { replace } = changes;
      const segments =
        (replace === undefined ? this.segments : replaceRun(this.segments, replace.inputs, replace.outputs))
          // Not one whose header is only on its way to stable storage.
          .filter((segment) => segment.written > 0);
      const manifest: Manifest = {
        ...this.#manifest,
        epoch: changes.epoch ?? this.#manifest.epoch,
        sync: changes.sync ?? this.#manifest.sync,
        segments: segments.map((segment) => segment.id),
        nextSegment: this.#nextSegment,
        buckets: [...this.#bucketNames],
        ...changes.settings && { settings: { ...this.#manifest.settings, [changes.settings[0]]: changes.settings[1] } },
        floor: Math.max(this.#manifest.floor, changes.floor ?? 0),
        revision: this.revision,
        time: this.timeMax,
      };
      this.fence();
      await writeManifest(this.fileSystem, manifest);
      this.#manifest = manifest;
      for (const segment of segments) segment.listed = true;
      this.reserve.want(segments.length);
    });
    // A failure is its caller's; the next switch starts afresh.
    this.#switching = next.catch(() => {});
    return next;
  }

  /**
   * Puts `outputs` in the place of the run of neighbours `inputs`, on disk first, then in memory. The inputs keep their
   * slots and files until they are discarded: the keydir still points into them.
   */
  async replaceRun(inputs: readonly Segment[], outputs: readonly Segment[], floor: number): Promise<void> {
    await this.switchManifest({ replace: { inputs, outputs }, floor });
    this.segments.splice(0, this.segments.length, ...replaceRun(this.segments, inputs, outputs));
    for (const output of outputs) this.register(output);
    for (const input of inputs) input.replaced = true;
  }

  // --- buckets ---

  /** The number of a bucket, undefined when nothing was ever written to it. */
  bucketNumber(name: string): number | undefined {
    return this.#bucketNumbers.get(name);
  }

  /**
   * Gives a bucket its number, in memory. @throws {FirkinError} TOO_LARGE — the store has {@link BUCKETS_MAX} buckets
   */
  createBucket(name: string): number {
    if (this.#bucketNames.length >= BUCKETS_MAX) {
      throw new FirkinError("TOO_LARGE", `Cannot create bucket "${name}": the store has ${BUCKETS_MAX} buckets`);
    }
    return this.#name(name);
  }

  /** What holds for all keys of a bucket. */
  settingsOf(number: number): BucketSettings {
    return this.#settings[number - 1]!;
  }

  /** Gives a bucket settings in the place of those that it had, on disk first; makes it when there is none. */
  async configure(name: string, settings: BucketSettings): Promise<void> {
    const number = this.bucketNumber(name) ?? this.createBucket(name);
    await this.switchManifest({ settings: [name, settings] });
    this.#settings[number - 1] = Object.freeze(settings);
  }

  /** The settings of those buckets that have any, as a manifest has them. */
  get settings(): Manifest["settings"] {
    return this.#manifest.settings;
  }

  /** True when the manifest on disk lacks a bucket. */
  get hasNewBucket(): boolean {
    return this.#manifest.buckets.length < this.#bucketNames.length;
  }

  /** The name behind a bucket's number. */
  bucketName(number: number): string {
    return this.#bucketNames[number - 1]!;
  }

  /** Names of all buckets, by number less one. */
  get bucketNames(): readonly string[] {
    return this.#bucketNames;
  }

  #name(name: string, settings: BucketSettings = NO_SETTINGS): number {
    const number = this.#bucketNames.push(name);
    this.#settings.push(Object.freeze(settings));
    this.#bucketNumbers.set(name, number);
    return number;
  }

  /** Closes every file and gives the folder back. */
  close(): void {
    this.reserve.close();
    try {
      for (const segment of this.#slots) {
        if (segment?.replaced) this.discard(segment);
        else segment?.close();
      }
    } finally {
      this.pool.close();
      this.#lock.release();
    }
  }
}

/** A bucket may be called as what every object has. */
function settingsIn({ settings }: Manifest, name: string): BucketSettings | undefined {
  return settings !== undefined && Object.hasOwn(settings, name) ? settings[name] : undefined;
}

function replaceRun(all: readonly Segment[], inputs: readonly Segment[], outputs: readonly Segment[]): Segment[] {
  const start = all.indexOf(inputs[0]!);
  return [...all.slice(0, start), ...outputs, ...all.slice(start + inputs.length)];
}

/** The error of a write to a log that was opened to read. */
export function readOnlyError(fileSystem: FileSystem): FirkinError {
  return new FirkinError("READ_ONLY", `Cannot write to ${fileSystem.path}: it was opened to read`);
}
