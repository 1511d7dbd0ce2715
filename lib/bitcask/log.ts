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
 * An open takes the folder's lock, reads the manifest and goes through the segments in order. Of a sealed one that has
 * a hint it reads the hint, the header and the seal; one without is read, checked and replayed whole, and gets a hint.
 * The last one is read whole and its end settled (`recovery.ts`). Before it serves anything it syncs what it found
 * there: a record that was only in the system's memory when the process died must not be read today and gone tomorrow.
 *
 * An open to read takes no lock and changes nothing: it ends the log in memory where a real open would cut it, and
 * what it shows may be gone after a power cut. It is refused while a process has the folder; one that takes it
 * later is not held up, and may make reads fail, but never wrong: a segment's id has one meaning.
 *
 * @module
 */
import { fromHex, toHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { assert, FirkinError } from "../base/errors.ts";
import type { File, FileSystem, Lock } from "../fs/fs.ts";
import { FilePool } from "../fs/pool.ts";
import { BlockCache } from "./cache.ts";
import { checkHint, Hint, hintBinding, type HintContents, hintName } from "./hint.ts";
import { ADDRESS_UNIT } from "./keydir.ts";
import { type Manifest, MANIFEST_NAME, readManifest, removeLeftovers, writeManifest } from "./manifest.ts";
import {
  checkRecord,
  EMPTY,
  encodeMark,
  KIND,
  kindAt,
  NO_CONTENT,
  readU32,
  recordBytesAt,
  revisionAt,
  timeAt,
} from "./record.ts";
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
  readonly filesMax: number;
  /** Take the folder also from an owner that may be alive but is not seen to be. */
  readonly forceUnlock?: boolean;
  /** Take no lock and write nothing. */
  readonly readOnly?: boolean;
  /** Called when the log is there, before its segments are read. */
  readonly attach: (log: Log) => LogOwner;
  readonly report: (event: LogEvent) => void;
}

/** What the log tells its owner of its segments. At open, it is told of all of them in order. */
export interface LogOwner {
  /** At open: a change in a segment that is not sealed; all of them come, in order. */
  replay(segment: Segment, offset: number): void;
  /** At open: what a sealed segment has to say. */
  replayHint(segment: Segment, hint: HintContents): void;
  /** At open: a sealed segment, in memory and checked, has no hint. Resolves when it has been replayed all the same. */
  replaySealed(segment: Segment): Promise<void>;
  /** A segment is sealed, synced and visible to its end: it may leave memory, and have a hint. */
  sealed(segment: Segment): void;
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
  /** Sealed segments, and what else never changes again. */
  readonly pool: FilePool;
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
  readonly #lock: Lock;
  #lost: FirkinError | undefined;
  #manifest: Manifest;
  #nextSegment: number;
  #switching: Promise<void> = Promise.resolve();

  /** For {@link openLog}. */
  constructor(fileSystem: FileSystem, options: LogOptions, manifest: Manifest, lock: Lock) {
    this.fileSystem = fileSystem;
    this.cache = new BlockCache(options.cacheBytesMax);
    this.pool = new FilePool(fileSystem, options.filesMax);
    this.#segmentBytesMax = options.segmentBytesMax;
    this.#home = { storeId: fromHex(manifest.store)!, cache: this.cache };
    this.#lock = lock;
    this.refusal = options.readOnly === true ? readOnlyError(fileSystem) : undefined;
    this.#manifest = manifest;
    this.#nextSegment = manifest.nextSegment;
    this.revision = manifest.revision;
    this.timeMax = manifest.time;
    for (const name of manifest.buckets) this.#name(name);
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
    segment.file.write(segment.bytes(0, SEGMENT_HEADER_BYTES), 0);
    await segment.file.sync();
    segment.written = SEGMENT_HEADER_BYTES;
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

  /** Closes a segment that is out of the manifest and removes its files. */
  discard(segment: Segment): void {
    segment.close();
    segment.gone = true;
    if (segment.slot !== -1) this.#slots[segment.slot] = undefined;
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
        floor: Math.max(this.#manifest.floor, changes.floor ?? 0),
        revision: this.revision,
        time: this.timeMax,
      };
      this.fence();
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
    this.pool.close();
    this.#lock.release();
  }
}

// --- open ---

/** Opens the log of a folder, or starts one. @throws {FirkinError} LOCKED, CORRUPT, READ_ONLY, IO */
export async function openLog(fileSystem: FileSystem, clock: Clock, options: LogOptions): Promise<Log> {
  if (options.readOnly === true) return await openToRead(fileSystem, clock, options);
  fileSystem.makeDirectory();
  return await openWith(fileSystem, clock, options, fileSystem.lock({ force: options.forceUnlock === true }));
}

/** Opens the log that is there, without a lock: a process that takes the folder meanwhile is found out at the end. */
async function openToRead(fileSystem: FileSystem, clock: Clock, options: LogOptions): Promise<Log> {
  fileSystem.inspect();
  const refuse = (): never => {
    throw readOnlyError(fileSystem);
  };
  let log: Log;
  try {
    log = await openWith(fileSystem, clock, options, { check: refuse, release: () => {} });
  } catch (error) {
    // Whatever seems to be wrong with the files may be that they are being written.
    fileSystem.inspect();
    throw error;
  }
  try {
    fileSystem.inspect();
  } catch (error) {
    log.close();
    throw error;
  }
  return log;
}

async function openWith(fileSystem: FileSystem, clock: Clock, options: LogOptions, lock: Lock): Promise<Log> {
  let log: Log | undefined;
  try {
    const found = readManifest(fileSystem);
    const manifest = found ?? newManifest(fileSystem, clock, options);
    log = new Log(fileSystem, options, manifest, lock);
    if (log.refusal === undefined) {
      removeLeftovers(fileSystem, new Set(manifest.segments.flatMap((id) => [segmentName(id), hintName(id)])));
    }
    let clean = true;
    const names = new Set(fileSystem.list());
    for (const [index, id] of manifest.segments.entries()) {
      if (names.has(hintName(id)) && openHinted(log, id)) {
        clean = true;
      } else {
        const segment = await openSegment(log, id, index === manifest.segments.length - 1, options);
        clean = segment.clean;
        await replaySegment(log, segment.segment);
      }
    }
    if (log.refusal !== undefined) return log;
    // Under `always` an unclean end loses nothing that anyone was told. Otherwise it may have, and revisions that
    // somebody saw may come again with other contents: a new epoch makes every old cursor start afresh.
    const epoch = clean || manifest.sync === "always" ? manifest.epoch : randomHex(clock, 8);
    if (found === undefined || epoch !== manifest.epoch || options.sync !== manifest.sync) {
      await log.switchManifest({ epoch, sync: options.sync });
    }
    if (clean && options.sync !== "always") await markOpen(log);
    return log;
  } catch (error) {
    if (log === undefined) lock.release();
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

function newManifest(fileSystem: FileSystem, clock: Clock, { sync, readOnly }: LogOptions): Manifest {
  if (fileSystem.list().some((name) => name.endsWith(".segment"))) {
    throw new FirkinError("CORRUPT", `Cannot open ${fileSystem.path}: it holds segments but no manifest`, {
      detail: { path: MANIFEST_NAME },
    });
  }
  if (readOnly === true) throw new FirkinError("IO", `Cannot open ${fileSystem.path} to read: there is no store`);
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

function readOnlyError(fileSystem: FileSystem): FirkinError {
  return new FirkinError("READ_ONLY", `Cannot write to ${fileSystem.path}: it was opened to read`);
}

function randomHex(clock: Clock, bytes: number): string {
  return toHex(clock.random(new Uint8Array(bytes)));
}

function replaceRun(all: readonly Segment[], inputs: readonly Segment[], outputs: readonly Segment[]): Segment[] {
  const start = all.indexOf(inputs[0]!);
  return [...all.slice(0, start), ...outputs, ...all.slice(start + inputs.length)];
}

/** Opens a sealed segment by its hint; false when that, the header or the seal does not hold. */
function openHinted(log: Log, id: number): boolean {
  const segment = log.createSegment(0, id);
  const file = log.openFile(segmentName(id));
  const length = file.size();
  const header = new Uint8Array(SEGMENT_HEADER_BYTES);
  const seal = new Uint8Array(SEAL_BYTES);
  const sealAt = length - SEAL_BYTES;
  file.read(header, 0);
  if (sealAt >= SEGMENT_HEADER_BYTES) file.read(seal, sealAt);
  const sealed = hasHeader(header, segment) && kindAt(seal, 0) === KIND.seal &&
    checkRecord(seal, 0, SEAL_BYTES, segment.seed, sealAt) === SEAL_BYTES;
  const found = sealed ? readHint(log, id, hintBinding(header, length, readU32(seal, 0))) : undefined;
  if (found === undefined) {
    file.close();
    return false;
  }
  segment.adopt(file, length, true);
  segment.hint = new Hint(found.file, log.cache, found.contents);
  admit(log, segment);
  log.revision = Math.max(log.revision, revisionAt(seal, 0));
  log.owner.replayHint(segment, found.contents);
  return true;
}

/** The hint with this binding, undefined when there is none that holds. */
function readHint(log: Log, id: number, binding: Uint8Array): { file: File; contents: HintContents } | undefined {
  let file: File | undefined;
  try {
    file = log.openFile(hintName(id));
    const bytes = new Uint8Array(file.size());
    file.read(bytes, 0);
    const contents = checkHint(bytes, binding);
    if (contents !== undefined) return { file, contents };
  } catch (error) {
    // It cannot be read: the segment tells the same.
    if (!(error instanceof FirkinError)) throw error;
  }
  file?.close();
  return undefined;
}

function admit(log: Log, segment: Segment): void {
  log.register(segment);
  log.segments.push(segment);
}

/** Reads and checks one segment; `clean` when it ended with a clean mark or a seal. */
async function openSegment(
  log: Log,
  id: number,
  last: boolean,
  options: LogOptions,
): Promise<{ segment: Segment; clean: boolean }> {
  const name = segmentName(id);
  const file = last && log.refusal === undefined ? log.fileSystem.open(name, "write") : log.pool.file(name);
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
  segment.adopt(file, sound.end, sound.sealed, bytes.subarray(0, sound.end));
  admit(log, segment);
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
    if (log.refusal === undefined) await keepAside(log, segment, sound.end, cut);
    options.report({ type: "torn", segment: segment.id, offset: sound.end, bytes: cut.length });
  }
  if (log.refusal !== undefined) return;
  if (bytes.length > sound.end) file.truncate(sound.end);
  // After a failed sync the system may hold pages that it calls clean and never wrote: written anew, they count again.
  if (!sound.clean) file.write(bytes.subarray(sound.durable, sound.end), sound.durable);
  await file.sync();
  await log.fileSystem.syncDirectory();
}

async function keepAside(log: Log, segment: Segment, offset: number, cut: Uint8Array): Promise<void> {
  const name = `${segmentName(segment.id)}.torn-${offset}`;
  // An open that did not get to the cut has left the same.
  log.fileSystem.remove(name);
  const aside = log.fileSystem.open(name, "create");
  aside.write(cut.subarray(0, TORN_BYTES_MAX), 0);
  await aside.sync();
  aside.close();
}

/** Hands out the changes of a segment that is in memory; a sealed one then lets it go. */
async function replaySegment(log: Log, segment: Segment): Promise<void> {
  const bytes = segment.bytes(0);
  for (let at = SEGMENT_HEADER_BYTES; at < segment.tail; at += recordBytesAt(bytes, at)) {
    log.revision = Math.max(log.revision, revisionAt(bytes, at));
    log.timeMax = Math.max(log.timeMax, timeAt(bytes, at));
    if (segment.sealed) continue;
    const kind = kindAt(bytes, at);
    if (kind === KIND.mark) segment.deadBytes += recordBytesAt(bytes, at);
    if (kind >= KIND.mark) continue;
    segment.count(revisionAt(bytes, at));
    log.owner.replay(segment, at);
  }
  if (!segment.sealed) return;
  log.shelve(segment);
  await log.owner.replaySealed(segment);
}
