/**
 * Opening a log.
 *
 * An open takes the folder's lock, reads the manifest and goes through the segments in order. Of a sealed one that has
 * a hint it reads header and seal; one without is read and checked whole, and gets a hint. The last one is read whole,
 * its end is settled (`recovery.ts`), and it gets a hint that is in memory alone. Then all hints are replayed together
 * (`replay.ts`). Before it serves anything it syncs what it found at the end: a record that was only in the system's
 * memory when the process died must not be read today and gone tomorrow. All of that goes in slices, and who listens is
 * told.
 *
 * An open to read takes no lock and changes nothing: it ends the log in memory where a real open would cut it, and
 * what it shows may be gone after a power cut. It is refused while a process has the folder; one that takes it
 * later is not held up, and may make reads fail, but never wrong: a segment's id has one meaning.
 *
 * @module
 */
import { toHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import type { File, FileSystem, Lock } from "../fs/fs.ts";
import { type Hint, hintBinding, hintName, openHint } from "./hint.ts";
import { type Hinted, Log, type LogOptions, type OpenEvent, readOnlyError } from "./log.ts";
import { type Manifest, MANIFEST_NAME, readManifest, removeLeftovers } from "./manifest.ts";
import { checkRecord, KIND, kindAt, readU32, recordBytesAt, revisionAt, timeAt } from "./record.ts";
import { judgeTail, type SoundPart, soundPartSteps } from "./recovery.ts";
import { isFull } from "./reserve.ts";
import { hasHeader, MARK_BYTES, SEAL_BYTES, type Segment, SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import { Turns } from "./turns.ts";

/** Bytes of a torn tail that are kept aside. */
const TORN_BYTES_MAX = 16 * 1024 * 1024;

/** The first look at a segment and its hint costs as much as so many entries; one at a record as much as a part. */
const SEGMENT_WORK = 512;
const RECORD_WORK = 0.2;

/** Bytes of a segment that are read at a time, and what that costs. */
const READ_BYTES = 512 * 1024;
const READ_WORK = 1_024;

/** An open that takes longer tells how far it is, and again after as long. */
const PROGRESS_MS = 1_000;

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
    log = new Log(fileSystem, clock, options, manifest, lock);
    if (log.refusal === undefined) {
      log.reserve.open();
      // A process that died may have switched to this manifest and not synced the switch: until that is on stable
      // storage, what only the manifest before it names must stay.
      await fileSystem.syncDirectory();
      removeLeftovers(fileSystem, new Set(manifest.segments.flatMap((id) => [segmentName(id), hintName(id)])));
    }
    const clean = await openSegments(log, clock, manifest.segments, options);
    if (log.refusal !== undefined) return log;
    // Under `always` an unclean end loses nothing that anyone was told. Otherwise it may have, and revisions that
    // somebody saw may come again with other contents: a new epoch makes every old cursor start afresh.
    const epoch = clean || manifest.sync === "always" ? manifest.epoch : randomHex(clock, 8);
    if (found === undefined || epoch !== manifest.epoch || options.sync !== manifest.sync) {
      const opened = log;
      await log.reserve.withRoom(() => opened.switchManifest({ epoch, sync: options.sync }));
    }
    log.reserve.want(log.segments.length);
    return log;
  } catch (error) {
    if (log === undefined) lock.release();
    else log.close();
    throw error;
  }
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

function randomHex(clock: Clock, bytes: number): string {
  return toHex(clock.random(new Uint8Array(bytes)));
}

/** Opens and replays all segments; true when the last one ended with a clean mark or a seal. */
async function openSegments(log: Log, clock: Clock, ids: readonly number[], options: LogOptions): Promise<boolean> {
  const progress = new Progress(clock, ids.length, options.report);
  const { turns } = progress;
  try {
    const names = new Set(log.fileSystem.list());
    const hinted: Hinted[] = [];
    let clean = true;
    for (const [index, id] of ids.entries()) {
      if (turns.isOver(SEGMENT_WORK)) await turns.pause();
      let segment = names.has(hintName(id)) ? openHinted(log, id) : undefined;
      clean = true;
      if (segment === undefined) {
        ({ segment, clean } = await openSegment(log, id, index === ids.length - 1, options, turns));
        await noteRecords(log, segment, turns);
        if (segment.sealed) log.shelve(segment);
      }
      const hint = segment.hint ?? await log.owner.makeHint(segment, turns);
      hinted.push({ segment, hint });
      progress.totalRecords += hint.entries;
      progress.segments++;
    }
    progress.phase = "hints";
    await log.owner.replay(hinted, turns, (entries) => progress.records += entries);
    progress.succeed();
    return clean;
  } finally {
    turns.end();
  }
}

/** How far an open is, and who is told. */
class Progress {
  phase: OpenEvent["phase"] = "segments";
  segments = 0;
  records = 0;
  totalRecords = 0;
  readonly turns: Turns;
  readonly #clock: Clock;
  readonly #totalSegments: number;
  readonly #report: (event: OpenEvent) => void;
  readonly #startedMs: number;
  #toldMs: number;

  constructor(clock: Clock, totalSegments: number, report: (event: OpenEvent) => void) {
    this.#clock = clock;
    this.#totalSegments = totalSegments;
    this.#report = report;
    this.#startedMs = clock.monotonic();
    this.#toldMs = this.#startedMs;
    this.turns = new Turns(clock, undefined, () => {
      if (clock.monotonic() - this.#toldMs >= PROGRESS_MS) this.#tell();
    });
  }

  /** The last report, if there was one before. */
  succeed(): void {
    this.phase = "done";
    if (this.#toldMs > this.#startedMs) this.#tell();
  }

  #tell(): void {
    const { phase, segments, records } = this;
    this.#toldMs = this.#clock.monotonic();
    this.#report({
      type: "open",
      phase,
      segments,
      totalSegments: this.#totalSegments,
      records,
      totalRecords: this.totalRecords,
      milliseconds: this.#toldMs - this.#startedMs,
    });
  }
}

/** Opens a sealed segment by its hint; undefined when that, the header or the seal does not hold. */
function openHinted(log: Log, id: number): Segment | undefined {
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
  const hint = sealed ? openHintOf(log, id, hintBinding(header, length, readU32(seal, 0))) : undefined;
  if (hint === undefined) {
    file.close();
    return undefined;
  }
  segment.adopt(file, length, true);
  segment.hint = hint;
  admit(log, segment);
  log.revision = Math.max(log.revision, revisionAt(seal, 0));
  return segment;
}

/** The hint with this binding, undefined when there is none whose header and index hold. */
function openHintOf(log: Log, id: number, binding: Uint8Array): Hint | undefined {
  let file: File | undefined;
  try {
    file = log.openFile(hintName(id));
    const hint = openHint(file, binding, log.cache);
    if (hint !== undefined) return hint;
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
  turns: Turns,
): Promise<{ segment: Segment; clean: boolean }> {
  const name = segmentName(id);
  const file = last && log.refusal === undefined ? log.fileSystem.open(name, "write") : log.pool.file(name);
  const fileBytes = file.size();
  const segment = log.createSegment(0, id);
  const bytes = new Uint8Array(fileBytes);
  for (let from = 0; from < fileBytes; from += READ_BYTES) {
    file.read(bytes.subarray(from, from + READ_BYTES), from);
    if (turns.isOver(READ_WORK)) await turns.pause();
  }
  if (!hasHeader(bytes, segment)) {
    file.close();
    throw new FirkinError("CORRUPT", `Cannot open segment ${id}: its header fails its check`, {
      detail: { segment: id, offset: 0 },
    });
  }
  const sound = await checkRecords(bytes, segment.seed, turns);
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

async function checkRecords(bytes: Uint8Array, seed: number, turns: Turns): Promise<SoundPart> {
  const steps = soundPartSteps(bytes, seed);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (turns.isOver(step.value)) await turns.pause();
  }
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
    const kept = log.refusal === undefined ? await keepAside(log, name, cut.subarray(0, TORN_BYTES_MAX)) : 0;
    options.report({ type: "torn", segment: segment.id, offset: sound.end, bytes: cut.length, kept });
  }
  if (log.refusal !== undefined) return;
  if (bytes.length > sound.end) file.truncate(sound.end);
  // After a failed sync the system may hold pages that it calls clean and never wrote: written anew, they count again.
  // A clean mark speaks of what stands before it; its own sync may have failed.
  const from = sound.clean ? sound.end - MARK_BYTES : sound.durable;
  await log.reserve.withRoom(() => file.write(bytes.subarray(from, sound.end), from));
  await file.sync();
  await log.fileSystem.syncDirectory();
}

/**
 * Puts bytes into a file beside the log; returns how many: none when a full disk, whose store must open, has no room.
 */
async function keepAside(log: Log, name: string, bytes: Uint8Array): Promise<number> {
  try {
    await log.reserve.withRoom(async () => {
      // An open that did not get to the cut has left the same.
      log.fileSystem.remove(name);
      const aside = log.fileSystem.open(name, "create");
      try {
        aside.write(bytes, 0);
        await aside.sync();
      } finally {
        aside.close();
      }
    });
    return bytes.length;
  } catch (error) {
    if (!isFull(error)) throw error;
    log.fileSystem.remove(name);
    return 0;
  }
}

/** The last revision and the highest time of a segment that is in memory. */
async function noteRecords(log: Log, segment: Segment, turns: Turns): Promise<void> {
  const bytes = segment.bytes(0);
  for (let at = SEGMENT_HEADER_BYTES; at < segment.tail; at += recordBytesAt(bytes, at)) {
    log.revision = Math.max(log.revision, revisionAt(bytes, at));
    log.timeMax = Math.max(log.timeMax, timeAt(bytes, at));
    if (turns.isOver(RECORD_WORK)) await turns.pause();
  }
}
