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
 * An open takes the folder's lock, reads the manifest, checks and replays every segment, and settles the end of the
 * last one (`recovery.ts`). Before it serves anything it syncs what it found: a record that was only in the system's
 * memory when the process died must not be read today and gone tomorrow.
 *
 * @module
 */
import { fromHex, toHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { assert, FirkinError } from "../base/errors.ts";
import type { File, FileSystem } from "../fs/fs.ts";
import { BlockCache } from "./cache.ts";
import { ADDRESS_UNIT } from "./keydir.ts";
import { type Manifest, MANIFEST_NAME, readManifest, removeLeftovers, writeManifest } from "./manifest.ts";
import { EMPTY, encodeMark, KIND, kindAt, NO_CONTENT, readU32, recordBytesAt, revisionAt, timeAt } from "./record.ts";
import { judgeTail, type SoundPart, soundPart } from "./recovery.ts";
import {
  hasHeader,
  MARK_BYTES,
  SEAL_BYTES,
  Segment,
  SEGMENT_HEADER_BYTES,
  type SegmentHome,
  segmentName,
} from "./segment.ts";

/** When an acknowledged write is on stable storage: before the answer, within an interval, or when the system likes. */
export type SyncPolicy = "always" | "interval" | "os";

/** Something an operator should know. */
export type LogEvent =
  | { readonly type: "torn"; readonly segment: number; readonly offset: number; readonly bytes: number }
  | { readonly type: "poisoned"; readonly error: FirkinError }
  | { readonly type: "compaction-failed"; readonly error: unknown };

/** Options of {@link openLog}. */
export interface LogOptions {
  readonly sync: SyncPolicy;
  readonly cacheBytesMax: number;
  readonly segmentBytesMax: number;
  /**
   * Called when the log is there, before its segments are read; what it returns is called for each change, in order.
   */
  readonly attach: (log: Log) => (segment: Segment, offset: number) => void;
  readonly report: (event: LogEvent) => void;
}

/** Buckets a store may have: their names stand in the manifest, which is rewritten whole. */
export const BUCKETS_MAX = 4_096;

/** Addresses are exact integers: slots beyond this would not be. 64 TiB of segments of the default size. */
const SLOTS_MAX = 2 ** 21;

/** Bytes of a torn tail that are kept aside. */
const TORN_BYTES_MAX = 16 * 1024 * 1024;

/** What {@link Log.switchManifest} changes beside the segments with files and the buckets named so far. */
export interface ManifestChanges {
  /** The output of a compaction in the place of its input. */
  readonly replace?: { readonly inputs: readonly Segment[]; readonly outputs: readonly Segment[] };
  readonly floor?: number;
  readonly epoch?: string;
  readonly sync?: SyncPolicy;
}

/** The segments of a folder. */
export class Log {
  readonly fileSystem: FileSystem;
  readonly cache: BlockCache;
  /** In order of revision; the last is the active one. */
  readonly segments: Segment[] = [];
  /** The last revision given. */
  revision = 0;
  /** The highest time of any record: the store's time never falls behind it. */
  timeMax = 0;

  readonly #segmentBytesMax: number;
  readonly #home: SegmentHome;
  readonly #slots: (Segment | undefined)[] = [];
  readonly #bucketNumbers = new Map<string, number>();
  readonly #bucketNames: string[] = [];
  readonly #unlock: () => void;
  #manifest: Manifest;
  #nextSegment: number;
  #switching: Promise<void> = Promise.resolve();

  /** For {@link openLog}. */
  constructor(fileSystem: FileSystem, options: LogOptions, manifest: Manifest, unlock: () => void) {
    this.fileSystem = fileSystem;
    this.cache = new BlockCache(options.cacheBytesMax);
    this.#segmentBytesMax = options.segmentBytesMax;
    this.#home = { storeId: fromHex(manifest.store)!, cache: this.cache };
    this.#unlock = unlock;
    this.#manifest = manifest;
    this.#nextSegment = manifest.nextSegment;
    this.revision = manifest.revision;
    this.timeMax = manifest.time;
    for (const name of manifest.buckets) this.#name(name);
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
    const name = segmentName(segment.id);
    this.fileSystem.remove(name);
    segment.file = this.fileSystem.open(name, "create");
    segment.file.write(segment.bytes(0, SEGMENT_HEADER_BYTES), 0);
    await segment.file.sync();
    segment.written = SEGMENT_HEADER_BYTES;
    segment.durable = SEGMENT_HEADER_BYTES;
  }

  /** Closes a segment that is out of the manifest and removes its file. */
  discard(segment: Segment): void {
    segment.close();
    segment.gone = true;
    if (segment.slot !== -1) this.#slots[segment.slot] = undefined;
    this.fileSystem.remove(segmentName(segment.id));
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
        floor: Math.max(this.#manifest.floor, changes.floor ?? 0),
        revision: this.revision,
        time: this.timeMax,
      };
      await writeManifest(this.fileSystem, manifest);
      this.#manifest = manifest;
      for (const segment of segments) segment.listed = true;
    });
    // A failure is its caller's; the next switch starts afresh.
    this.#switching = next.catch(() => {});
    return next;
  }

  /** Puts `outputs` in the place of the run of neighbours `inputs`, on disk first, then in memory. */
  async replaceRun(inputs: readonly Segment[], outputs: readonly Segment[], floor: number): Promise<void> {
    await this.switchManifest({ replace: { inputs, outputs }, floor });
    this.segments.splice(0, this.segments.length, ...replaceRun(this.segments, inputs, outputs));
    for (const output of outputs) this.register(output);
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

  #name(name: string): number {
    const number = this.#bucketNames.push(name);
    this.#bucketNumbers.set(name, number);
    return number;
  }

  /** Closes every file and gives the folder back. */
  close(): void {
    for (const segment of this.#slots) segment?.close();
    this.#unlock();
  }
}

// --- open ---

/** Opens the log of a folder, or starts one. @throws {FirkinError} LOCKED, CORRUPT, READ_ONLY, IO */
export async function openLog(fileSystem: FileSystem, clock: Clock, options: LogOptions): Promise<Log> {
  fileSystem.makeDirectory();
  const unlock = fileSystem.lock();
  let log: Log | undefined;
  try {
    const found = readManifest(fileSystem);
    const manifest = found ?? newManifest(fileSystem, clock, options.sync);
    log = new Log(fileSystem, options, manifest, unlock);
    const replay = options.attach(log);
    removeLeftovers(fileSystem, new Set(manifest.segments.map(segmentName)));
    let clean = true;
    for (const [index, id] of manifest.segments.entries()) {
      const segment = await openSegment(log, id, index === manifest.segments.length - 1, options);
      clean = segment.clean;
      replaySegment(log, segment.segment, replay);
    }
    // Under `always` an unclean end loses nothing that anyone was told. Otherwise it may have, and revisions that
    // somebody saw may come again with other contents: a new epoch makes every old cursor start afresh.
    const epoch = clean || manifest.sync === "always" ? manifest.epoch : randomHex(clock, 8);
    if (found === undefined || epoch !== manifest.epoch || options.sync !== manifest.sync) {
      await log.switchManifest({ epoch, sync: options.sync });
    }
    if (clean && options.sync !== "always") await markOpen(log);
    return log;
  } catch (error) {
    if (log === undefined) unlock();
    else log.close();
    throw error;
  }
}

/**
 * Ends the log with a mark that is not clean. Without it a power cut that takes everything since would leave the clean
 * mark of the last close, and the next open would believe that nothing was lost.
 */
async function markOpen({ active, revision, timeMax }: Log): Promise<void> {
  if (active?.file === undefined || active.sealed) return;
  const from = active.tail;
  const value = encodeMark(from);
  active.append({ kind: KIND.mark, bucket: 0, revision, at: timeMax, key: EMPTY, value, content: NO_CONTENT });
  active.file.write(active.bytes(from, active.tail), from);
  active.written = active.tail;
  await active.file.sync();
  active.durable = active.tail;
  active.marked = from;
}

function newManifest(fileSystem: FileSystem, clock: Clock, sync: SyncPolicy): Manifest {
  if (fileSystem.list().some((name) => name.endsWith(".segment"))) {
    throw new FirkinError("CORRUPT", `Cannot open ${fileSystem.path}: it holds segments but no manifest`, {
      detail: { path: MANIFEST_NAME },
    });
  }
  const store = randomHex(clock, 16);
  return {
    format: 1,
    store,
    epoch: randomHex(clock, 8),
    sync,
    segments: [],
    nextSegment: 1,
    buckets: [],
    floor: 0,
    revision: 0,
    time: 0,
  };
}

function randomHex(clock: Clock, bytes: number): string {
  return toHex(clock.random(new Uint8Array(bytes)));
}

function replaceRun(all: readonly Segment[], inputs: readonly Segment[], outputs: readonly Segment[]): Segment[] {
  const start = all.indexOf(inputs[0]!);
  return [...all.slice(0, start), ...outputs, ...all.slice(start + inputs.length)];
}

/** Reads and checks one segment; `clean` when it ended with a clean mark or a seal. */
async function openSegment(
  log: Log,
  id: number,
  last: boolean,
  options: LogOptions,
): Promise<{ segment: Segment; clean: boolean }> {
  const file = log.fileSystem.open(segmentName(id), "write");
  const fileBytes = file.size();
  const segment = log.createSegment(0, id);
  const bytes = new Uint8Array(fileBytes);
  file.read(bytes, 0);
  if (!hasHeader(bytes, segment)) {
    file.close();
    throw new FirkinError("CORRUPT", `Cannot open segment ${id}: its header fails its check`, {
      detail: { segment: id, offset: 0 },
    });
  }
  const sound = soundPart(bytes, segment.seed);
  if (!last && !(sound.sealed && sound.end === fileBytes)) {
    file.close();
    throw segment.corrupt(sound.end);
  }
  try {
    if (last) await settleEnd(log, segment, file, bytes, sound, options);
  } catch (error) {
    file.close();
    throw error;
  }
  segment.adopt(file, bytes.subarray(0, sound.end), sound.sealed);
  log.register(segment);
  log.segments.push(segment);
  return { segment, clean: sound.clean || sound.sealed };
}

/** Cuts what a crash left behind the last sound record, keeps it aside, and syncs what stays. */
async function settleEnd(
  log: Log,
  segment: Segment,
  file: File,
  bytes: Uint8Array,
  sound: SoundPart,
  options: LogOptions,
): Promise<void> {
  const tail = judgeTail(bytes, sound, segment.seed);
  if (tail === "rot") throw segment.corrupt(sound.end);
  if (tail === "torn") {
    const cut = bytes.subarray(sound.end);
    const name = `${segmentName(segment.id)}.torn-${sound.end}`;
    // An open that did not get to the cut has left the same.
    log.fileSystem.remove(name);
    const aside = log.fileSystem.open(name, "create");
    aside.write(cut.subarray(0, TORN_BYTES_MAX), 0);
    await aside.sync();
    aside.close();
    options.report({ type: "torn", segment: segment.id, offset: sound.end, bytes: cut.length });
  }
  if (bytes.length > sound.end) file.truncate(sound.end);
  // After a failed sync the system may hold pages that it calls clean and never wrote: written anew, they count again.
  if (!sound.clean) file.write(bytes.subarray(sound.durable, sound.end), sound.durable);
  await file.sync();
  await log.fileSystem.syncDirectory();
}

/** Hands out the changes of a segment while its bytes are in memory; a sealed one then lets them go. */
function replaySegment(log: Log, segment: Segment, replay: (segment: Segment, offset: number) => void): void {
  const bytes = segment.bytes(0);
  for (let at = SEGMENT_HEADER_BYTES; at < segment.tail; at += recordBytesAt(bytes, at)) {
    log.revision = Math.max(log.revision, revisionAt(bytes, at));
    log.timeMax = Math.max(log.timeMax, timeAt(bytes, at));
    const kind = kindAt(bytes, at);
    if (kind === KIND.mark) segment.deadBytes += recordBytesAt(bytes, at);
    if (kind >= KIND.mark) continue;
    segment.count(revisionAt(bytes, at));
    replay(segment, at);
  }
  if (segment.sealed) segment.release();
}
