/**
 * Making hints, in slices (`turns.ts`) between which others have their turn.
 *
 * 1. Walk through the records of a sealed segment and write an entry for each change, one behind the other.
 * 2. Copy them into parts of a thousand neighbours in key order (`sort.ts`): entries of a part are close to one
 *    another, while records of neighbouring keys lie all over the segment. Reading those took three times as long.
 * 3. Sort part by part, and copy the newest entry of each key into the bytes of the hint.
 * 4. Write them under a name of their own, and rename: nothing is synced, since a torn hint fails its check.
 *
 * The bytes of the hint follow from those of the segment alone, so a hint made while the store runs, at an open or by
 * a compaction is the same.
 *
 * A hint that cannot be written is given up: it stays in memory while an open needs it, listings get the order of its
 * entries, and the next open tries again.
 *
 * @module
 */
import type { Clock } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import { BUCKET_BYTES, EntryBuffer, entryKindAt, entryRecordBytesAt, isSameKey } from "./entry.ts";
import { hintBinding, type HintBytes, type HintFigures, hintName, HintWriter } from "./hint.ts";
import type { Log } from "./log.ts";
import {
  bucketAt,
  isTombstone,
  keyBytesAt,
  keyStartAt,
  KIND,
  kindAt,
  readU32,
  recordBytesAt,
  revisionAt,
  timeAt,
} from "./record.ts";
import { SEAL_BYTES, type Segment, SEGMENT_HEADER_BYTES } from "./segment.ts";
import { CHUNK_MAX, chunksOf, EntrySort, Split } from "./sort.ts";
import { Turns } from "./turns.ts";

/** Records walked through in one step. The first ones of a process take ten times as long, until they are compiled. */
const RECORDS_PER_STEP = 256;

/** A slice ends after so long, or after so many steps, in which some thousand records are worked on. */
const SLICE_MS = 1.5;
const SLICE_STEPS = 32;

/** What a walk has seen before it says how long the rest will be: memory that grows is copied. */
const RECORDS_KNOWN = 4_096;

/** Memory that a walk begins with, unless the segment is smaller. */
const FIRST_BYTES = 64 * 1024;

/** Bytes written in one step. */
const WRITE_BYTES = 512 * 1024;

/** A close makes the hints of segments that wait up to this many bytes of them; the next open makes the others. */
const CLOSE_BYTES_MAX = 64 * 1024 * 1024;

/** The hash of the key that stands in `bytes` from `start` to `end`. */
export type HashOfBytes = (bucket: number, bytes: Uint8Array, start: number, end: number) => number;

/**
 * Makes a segment's hint from the segment's bytes, which are sound; yields after each step. That of one that is not
 * sealed is of use while nothing is written to it.
 */
export function* makeHint(bytes: Uint8Array, hash: HashOfBytes, sealed = true): Generator<void, Uint8Array> {
  const end = sealed ? bytes.length - SEAL_BYTES : bytes.length;
  const walk = new Walk(bytes, end, sealed ? timeAt(bytes, end) : 0, hash);
  while (walk.step()) yield;
  const seal = sealed ? readU32(bytes, end) : 0;
  const binding = hintBinding(bytes.subarray(0, SEGMENT_HEADER_BYTES), bytes.length, seal);
  const writer = new HintWriter(binding, walk.entries.tail);
  let superseded = 0;
  const { entries, parts } = yield* partsOf(walk);
  const sort = new EntrySort(entries.bytes, walk.places.length);
  for (const places of parts) {
    yield* sort.sort(places, walk.shared);
    for (const chunk of chunksOf(places)) {
      superseded += addNewest(writer, entries, places, chunk);
      yield;
    }
  }
  const { figures } = walk;
  return writer.finish({ ...figures, deadBytes: figures.markBytes + superseded });
}

/** A walk through a segment: an entry for each change. */
class Walk {
  readonly entries: EntryBuffer;
  /** How many bytes all sort keys begin with. */
  shared = Infinity;
  readonly #bytes: Uint8Array;
  readonly #end: number;
  readonly #hash: HashOfBytes;
  #at = SEGMENT_HEADER_BYTES;
  #places = new Uint32Array(16);
  #count = 0;
  /** Where the first sort key begins. */
  #firstStart = 0;
  #firstAt = 0;
  #lastAt = 0;
  #markBytes = 0;
  #tombstoneBytes = 0;
  #tombstoneTime = 0;
  #time: number;

  /** Of the records before `end`; what stands there is of this time. */
  constructor(bytes: Uint8Array, end: number, time: number, hash: HashOfBytes) {
    this.#bytes = bytes;
    this.#end = end;
    this.#time = time;
    this.#hash = hash;
    this.entries = new EntryBuffer(Math.min(bytes.length, FIRST_BYTES) & ~3);
  }

  /** Where each entry stands. */
  get places(): Uint32Array {
    return this.#places.subarray(0, this.#count);
  }

  get figures(): Omit<HintFigures, "deadBytes"> {
    const revisionOf = (at: number): number => at === 0 ? 0 : revisionAt(this.#bytes, at);
    return {
      markBytes: this.#markBytes,
      tombstoneBytes: this.#tombstoneBytes,
      tombstoneTime: this.#tombstoneTime,
      firstRevision: revisionOf(this.#firstAt),
      lastRevision: revisionOf(this.#lastAt),
      time: this.#time,
    };
  }

  /** Goes on a little; false when that was the rest. */
  step(): boolean {
    const bytes = this.#bytes;
    const end = this.#end;
    let at = this.#at;
    let time = this.#time;
    for (let steps = 0; steps < RECORDS_PER_STEP && at < end; steps++) {
      const kind = kindAt(bytes, at);
      const length = recordBytesAt(bytes, at);
      const recordTime = timeAt(bytes, at);
      if (recordTime > time) time = recordTime;
      if (kind < KIND.mark) this.#add(at, length);
      else this.#markBytes += length;
      if (isTombstone(kind)) {
        this.#tombstoneBytes += length;
        this.#tombstoneTime = Math.max(this.#tombstoneTime, recordTime);
      }
      at += length;
    }
    this.#at = at;
    this.#time = time;
    // What is behind is like what is before.
    if (this.#count >= RECORDS_KNOWN) this.entries.reserve(Math.ceil(this.entries.tail * (end / at - 1) * 1.1));
    return at < end;
  }

  #add(at: number, length: number): void {
    const bytes = this.#bytes;
    const place = this.entries.tail;
    const start = keyStartAt(bytes, at);
    const keyBytes = keyBytesAt(bytes, at);
    const hash = this.#hash(bucketAt(bytes, at), bytes, start, start + keyBytes);
    this.#share(this.entries.add(bytes, at, length, at, hash), BUCKET_BYTES + keyBytes);
    if (this.#count === this.#places.length) {
      const grown = new Uint32Array(2 * this.#count);
      grown.set(this.#places);
      this.#places = grown;
    }
    this.#places[this.#count++] = place;
    if (this.#firstAt === 0) this.#firstAt = at;
    this.#lastAt = at;
  }

  /** A sort key of so many bytes begins at `start`. */
  #share(start: number, length: number): void {
    const { bytes } = this.entries;
    if (this.#count === 0) this.#firstStart = start;
    const first = this.#firstStart;
    const most = Math.min(this.shared, length);
    let shared = 0;
    while (shared < most && bytes[first + shared] === bytes[start + shared]) shared++;
    this.shared = shared;
  }
}

/** Entries in parts that are in order; within a part they are in order of their records. */
interface Parts {
  readonly entries: EntryBuffer;
  readonly parts: readonly Uint32Array[];
}

/** The entries of a walk in parts, each close together. */
function* partsOf({ entries, places, shared }: Walk): Generator<void, Parts> {
  if (places.length <= CHUNK_MAX) return { entries, parts: [places] };
  const chunks = chunksOf(places);
  const split = new Split(entries.bytes, shared, places.length);
  for (const chunk of chunks) {
    split.count(chunk);
    yield;
  }
  split.plan();
  const copies = new EntryBuffer(entries.tail);
  const copyPlaces = new Uint32Array(places.length);
  const numbers = Uint32Array.from(split.parts, ({ start }) => start);
  let tail = 0;
  const tails = Uint32Array.from(split.parts, ({ bytes }) => (tail += bytes) - bytes);
  yield;
  let entry = 0;
  for (const chunk of chunks) {
    for (const place of chunk) {
      const part = split.partOf(entry++);
      const copy = tails[part]!;
      copyPlaces[numbers[part]!++] = copy;
      tails[part]! += copies.copy(entries, place, copy);
    }
    yield;
  }
  return { entries: copies, parts: split.parts.map(({ start, count }) => copyPlaces.subarray(start, start + count)) };
}

/**
 * Adds the entries at some of `places`, which are sorted, the newest of each key; returns the bytes of the set records
 * of the others.
 */
function addNewest(writer: HintWriter, entries: EntryBuffer, places: Uint32Array, chunk: Uint32Array): number {
  const { bytes } = entries;
  let superseded = 0;
  const first = (chunk.byteOffset - places.byteOffset) / places.BYTES_PER_ELEMENT;
  for (let index = first; index < first + chunk.length; index++) {
    const place = places[index]!;
    const isOld = index + 1 < places.length && isSameKey(bytes, place, bytes, places[index + 1]!);
    if (!isOld) writer.add(entries, place);
    else if (entryKindAt(bytes, place) === KIND.set) superseded += entryRecordBytesAt(bytes, place);
  }
  return superseded;
}

// --- in the background ---

/** Given the bytes of the hint, and the file that they were written to unless that could not be done. */
export type HintDone = (bytes: Uint8Array, file: HintBytes | undefined) => void;

/** A segment that waits for its hint, and its bytes until then. */
interface Job {
  readonly segment: Segment;
  readonly bytes: Uint8Array;
  readonly done: HintDone;
}

/** Makes hints, one after another. */
export class HintBuilder {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #hash: HashOfBytes;
  #jobs: Job[] = [];
  #work: Promise<void> | undefined;
  #closed = false;
  /** Of the hint that is being made. */
  #turns: Turns | undefined;

  /** Makes hints for segments of `log`. */
  constructor(log: Log, clock: Clock, hash: HashOfBytes) {
    this.#log = log;
    this.#clock = clock;
    this.#hash = hash;
  }

  /** The steps of {@link makeHint}. */
  steps(bytes: Uint8Array, sealed = true): Generator<void, Uint8Array> {
    return makeHint(bytes, this.#hash, sealed);
  }

  /** Has a hint made in turns to come; `bytes` are kept until then. */
  add(segment: Segment, bytes: Uint8Array, done: HintDone): void {
    if (this.#closed) return;
    this.#jobs.push({ segment, bytes, done });
    this.#work ??= this.#run();
  }

  /** Makes a few hints that wait, at once: everything else has ended. No other will be made. */
  async close(): Promise<void> {
    this.#closed = true;
    let bytes = 0;
    this.#jobs = this.#jobs.filter((job) => (bytes += job.bytes.length) <= CLOSE_BYTES_MAX);
    this.#turns?.hurry();
    await this.#work;
  }

  async #run(): Promise<void> {
    try {
      for (let job = this.#jobs[0]; job !== undefined; job = this.#jobs[0]) {
        await this.make(job.segment, job.bytes, job.done);
        if (job === this.#jobs[0]) this.#jobs.shift();
      }
    } finally {
      this.#work = undefined;
    }
  }

  /** Makes a sealed segment's hint of its bytes. `done` is not called when nobody needs it by then. */
  async make(segment: Segment, bytes: Uint8Array, done: HintDone): Promise<void> {
    // Who falls behind takes longer slices, so that the memory of what waits is bounded.
    const haste = (): number => Math.max(this.#jobs.length, 1);
    const turns = new Turns(this.#clock, {
      get milliseconds(): number {
        return SLICE_MS * haste();
      },
      get work(): number {
        return SLICE_STEPS * haste();
      },
    });
    this.#turns = turns;
    try {
      await this.#pause(turns);
      const hint = await this.#index(segment, bytes, turns);
      if (hint === undefined) return;
      const file = await this.#write(segment, hint, turns);
      if (!this.#isOver(segment)) done(hint, file);
    } finally {
      turns.end();
    }
  }

  /** The bytes of the hint; undefined when nobody needs it any more. */
  async #index(segment: Segment, bytes: Uint8Array, turns: Turns): Promise<Uint8Array | undefined> {
    const steps = this.steps(bytes);
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
      if (turns.isOver(1)) await this.#pause(turns);
      if (this.#isOver(segment)) return undefined;
    }
  }

  /** Writes a hint to its file; undefined when that cannot be done. */
  async #write(segment: Segment, bytes: Uint8Array, turns: Turns): Promise<HintBytes | undefined> {
    const name = hintName(segment.id);
    const { fileSystem } = this.#log;
    try {
      await this.#writeFile(`${name}.new`, bytes, turns);
      if (!this.#isOver(segment)) {
        this.#log.fence();
        fileSystem.rename(`${name}.new`, name);
        return this.#log.openFile(name);
      }
    } catch (error) {
      if (!(error instanceof FirkinError)) throw error;
    }
    this.#removeNew(`${name}.new`);
    return undefined;
  }

  /** What has been written of a hint that is given up takes room. Where it cannot be removed, the next open will. */
  #removeNew(name: string): void {
    try {
      if (this.#log.owned) this.#log.fileSystem.remove(name);
    } catch (error) {
      if (!(error instanceof FirkinError)) throw error;
    }
  }

  async #writeFile(name: string, bytes: Uint8Array, turns: Turns): Promise<void> {
    const { fileSystem } = this.#log;
    this.#log.fence();
    fileSystem.remove(name);
    const file = fileSystem.open(name, "create");
    try {
      for (let from = 0; from < bytes.length; from += WRITE_BYTES) {
        if (from > 0) await this.#pause(turns);
        file.write(bytes.subarray(from, from + WRITE_BYTES), from);
      }
    } finally {
      file.close();
    }
  }

  /** The segment went meanwhile, or its hint is left to the next open. */
  #isOver(segment: Segment): boolean {
    const left = this.#closed && !this.#jobs.some((job) => job.segment === segment);
    return left || this.#log.segmentIn(segment.slot) !== segment;
  }

  /** Gives others their turn, while there are any. */
  async #pause(turns: Turns): Promise<void> {
    if (!this.#closed) await turns.pause();
  }
}
