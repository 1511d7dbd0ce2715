/**
 * Making hints, in slices between which others have their turn.
 *
 * 1. Walk through the records of a sealed segment; sort the offsets of its changes chunk by chunk, newest per key only.
 * 2. Merge the chunks, newest per key again, into the bytes of the hint.
 * 3. Write them under a name of their own, and rename: nothing is synced, since a torn hint fails its check.
 *
 * The bytes of the hint follow from those of the segment alone, so a hint made while the store runs, at an open or by
 * a compaction is the same.
 *
 * A hint that cannot be written is given up: listings go on with what the owner has, and the next open tries again.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import {
  compareEntries,
  copyEntry,
  encodeEntry,
  entryBucketAt,
  entryBytesOf,
  entryEndAt,
  entryKeyStartAt,
  entryKindAt,
  entryOffsetAt,
  Hint,
  hintBinding,
  type HintContents,
  type HintFigures,
  hintName,
  HintWriter,
  roomFor,
} from "./hint.ts";
import type { Log } from "./log.ts";
import {
  bucketAt,
  HEADER_BYTES,
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
import { CHUNK_MAX, KeySort } from "./sort.ts";

/** Entries merged in one step: about a millisecond, as the sorting of a chunk takes. */
const ENTRIES_PER_STEP = 2_048;

/** Bytes written in one step. */
const WRITE_BYTES = 1024 * 1024;

/** A close makes the hints of segments that wait up to this many bytes of them; the next open makes the others. */
const CLOSE_BYTES_MAX = 64 * 1024 * 1024;

/** The hash of the key that stands in `bytes` from `start` to `end`. */
export type HashOfBytes = (bucket: number, bytes: Uint8Array, start: number, end: number) => number;

/** Makes a sealed segment's hint from the segment's bytes, which are sound; yields after each step. */
export function* makeHint(bytes: Uint8Array, hash: HashOfBytes): Generator<void, HintContents> {
  const sealAt = bytes.length - SEAL_BYTES;
  const header = bytes.subarray(0, SEGMENT_HEADER_BYTES);
  const writer = new HintWriter(hintBinding(header, bytes.length, readU32(bytes, sealAt)));
  const { chunks, shared, liveBytes, figures } = yield* sortChunks(bytes, sealAt, hash);
  const heads = new ChunkHeap(chunks, shared);
  let superseded = 0;
  for (let steps = 1; heads.size > 0; steps++) {
    const { chunk, at } = heads;
    heads.advance();
    // Records of one key come in order of their offsets.
    const isOld = heads.size > 0 && compareEntries(chunk, at, heads.chunk, heads.at) === 0;
    if (!isOld) writer.add(chunk, at);
    else if (entryKindAt(chunk, at) === KIND.set) superseded += recordBytesAt(bytes, entryOffsetAt(chunk, at));
    if (steps % ENTRIES_PER_STEP === 0) yield;
  }
  const deadBytes = sealAt - SEGMENT_HEADER_BYTES - figures.tombstoneBytes - liveBytes + superseded;
  return writer.finish({ ...figures, deadBytes });
}

/** What the walk through a segment has found. */
interface Walk {
  /** Entries in order, the newest of each key in the chunk. */
  readonly chunks: readonly Uint8Array[];
  /** How many bytes all keys begin with; 0 when there are several buckets. */
  readonly shared: number;
  /** Bytes of the set records among the entries. */
  readonly liveBytes: number;
  readonly figures: Omit<HintFigures, "deadBytes">;
}

function* sortChunks(bytes: Uint8Array, end: number, hash: HashOfBytes): Generator<void, Walk> {
  const chunks: Uint8Array[] = [];
  let first = -1;
  let shared = Infinity;
  let liveBytes = 0;
  let markBytes = 0;
  let tombstoneBytes = 0;
  let tombstoneTime = 0;
  let firstRevision = 0;
  let lastRevision = 0;
  let time = timeAt(bytes, end);
  const chunk = new Chunk(bytes, hash);
  for (let at = SEGMENT_HEADER_BYTES; at < end;) {
    const kind = kindAt(bytes, at);
    const length = recordBytesAt(bytes, at);
    time = Math.max(time, timeAt(bytes, at));
    if (kind < KIND.mark) {
      lastRevision = revisionAt(bytes, at);
      if (first === -1) {
        first = at;
        firstRevision = lastRevision;
      }
      shared = sharedBytes(bytes, first, at, shared);
      chunk.add(at, kind === KIND.set ? length : 0);
    }
    if (kind === KIND.mark) markBytes += length;
    if (isTombstone(kind)) {
      tombstoneBytes += length;
      tombstoneTime = Math.max(tombstoneTime, timeAt(bytes, at));
    }
    at += length;
    if (chunk.count < CHUNK_MAX && (at < end || chunk.count === 0)) continue;
    chunks.push(chunk.sort());
    liveBytes += chunk.liveBytes;
    chunk.clear();
    yield;
  }
  const figures = { markBytes, tombstoneBytes, tombstoneTime, firstRevision, lastRevision, time };
  return { chunks, shared, liveBytes, figures };
}

/**
 * Some neighbouring records as entries of a hint. The merge reads these, one behind the other, and not the records,
 * which lie all over the segment: that took three times as long.
 */
class Chunk {
  /** Bytes of the set records that are the newest of their keys, once it is sorted. */
  liveBytes = 0;
  readonly #bytes: Uint8Array;
  readonly #hash: HashOfBytes;
  readonly #sort: KeySort;
  #entries: Uint8Array<ArrayBuffer>;
  readonly #starts: Uint32Array;
  readonly #setBytes: Uint32Array;

  constructor(bytes: Uint8Array, hash: HashOfBytes) {
    this.#bytes = bytes;
    this.#hash = hash;
    const capacity = Math.min(CHUNK_MAX, Math.ceil(bytes.length / HEADER_BYTES));
    this.#sort = new KeySort(capacity);
    this.#entries = new Uint8Array(64 * capacity);
    this.#starts = new Uint32Array(capacity + 1);
    this.#setBytes = new Uint32Array(capacity);
  }

  get count(): number {
    return this.#sort.count;
  }

  /** Adds the record at `at`, of which `setBytes` count while it is the newest of its key. */
  add(at: number, setBytes: number): void {
    const bytes = this.#bytes;
    const number = this.count;
    const start = this.#starts[number]!;
    const keyStart = keyStartAt(bytes, at);
    const hash = this.#hash(bucketAt(bytes, at), bytes, keyStart, keyStart + keyBytesAt(bytes, at));
    this.#entries = roomFor(this.#entries, start, entryBytesOf(bytes, at));
    this.#starts[number + 1] = encodeEntry(this.#entries, start, bytes, at, hash);
    this.#setBytes[number] = setBytes;
    this.#sort.add(bytes, at);
  }

  /** The entries in order, the newest of each key. */
  sort(): Uint8Array {
    const order = this.#sort.sort();
    const sorted = new Uint8Array(this.#starts[this.count]!);
    let end = 0;
    for (const number of order) {
      end = copyEntry(sorted, end, this.#entries, this.#starts[number]!);
      this.liveBytes += this.#setBytes[number]!;
    }
    return sorted.slice(0, end);
  }

  /** Makes room for the next ones. */
  clear(): void {
    this.liveBytes = 0;
    this.#sort.clear();
  }
}

/** Sorted chunks being merged: the smallest key of all heads first; of equal keys the oldest. */
class ChunkHeap {
  readonly #chunks: readonly Uint8Array[];
  /** Which chunks are in the heap. */
  readonly #heap: Uint32Array;
  #size = 0;
  /** Where each chunk's head stands. */
  readonly #places: Uint32Array;
  /** Each head's bucket and four bytes of its key, behind what all keys share: most comparisons need no more. */
  readonly #ranks: Float64Array;
  readonly #shared: number;

  constructor(chunks: readonly Uint8Array[], shared: number) {
    this.#chunks = chunks;
    this.#heap = new Uint32Array(chunks.length);
    this.#places = new Uint32Array(chunks.length);
    this.#ranks = new Float64Array(chunks.length);
    this.#shared = shared;
    for (let number = 0; number < chunks.length; number++) {
      this.#rank(number);
      this.#rise(this.#size++, number);
    }
  }

  /** Number of chunks that are not at their end. */
  get size(): number {
    return this.#size;
  }

  /** The chunk with the smallest head, and where that stands. */
  get chunk(): Uint8Array {
    return this.#chunks[this.#heap[0]!]!;
  }

  get at(): number {
    return this.#places[this.#heap[0]!]!;
  }

  /** Moves on behind the smallest head. */
  advance(): void {
    const number = this.#heap[0]!;
    const chunk = this.#chunks[number]!;
    this.#places[number] = entryEndAt(chunk, this.#places[number]!);
    if (this.#places[number]! < chunk.length) {
      this.#rank(number);
      this.#sink(number);
    } else if (--this.#size > 0) {
      this.#sink(this.#heap[this.#size]!);
    }
  }

  #rank(number: number): void {
    const chunk = this.#chunks[number]!;
    const at = this.#places[number]!;
    let place = entryKeyStartAt(chunk, at) + this.#shared;
    const end = entryEndAt(chunk, at);
    let rank = entryBucketAt(chunk, at);
    // Behind a key's end stand zeros: keys of equal rank are compared whole.
    for (let digit = 0; digit < 4; digit++, place++) rank = rank * 256 + (place < end ? chunk[place]! : 0);
    this.#ranks[number] = rank;
  }

  #before(left: number, right: number): boolean {
    const ranks = this.#ranks[left]! - this.#ranks[right]!;
    if (ranks !== 0) return ranks < 0;
    const chunk = this.#chunks[left]!;
    const other = this.#chunks[right]!;
    return (compareEntries(chunk, this.#places[left]!, other, this.#places[right]!) || left - right) < 0;
  }

  #rise(index: number, number: number): void {
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.#before(number, this.#heap[parent]!)) break;
      this.#heap[index] = this.#heap[parent]!;
      index = parent;
    }
    this.#heap[index] = number;
  }

  /** Puts a chunk in the place of the first. */
  #sink(number: number): void {
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#before(this.#heap[child + 1]!, this.#heap[child]!)) child++;
      if (!this.#before(this.#heap[child]!, number)) break;
      this.#heap[index] = this.#heap[child]!;
      index = child;
    }
    this.#heap[index] = number;
  }
}

/** How many of the first `most` bytes of two records' keys are equal; none when the buckets differ. */
function sharedBytes(bytes: Uint8Array, at: number, other: number, most: number): number {
  if (bucketAt(bytes, at) !== bucketAt(bytes, other)) return 0;
  const end = Math.min(most, keyBytesAt(bytes, at), keyBytesAt(bytes, other));
  const start = keyStartAt(bytes, at);
  const otherStart = keyStartAt(bytes, other);
  let shared = 0;
  while (shared < end && bytes[start + shared] === bytes[otherStart + shared]) shared++;
  return shared;
}

// --- in the background ---

/** Told what the hint says, and given the hint unless it could not be written. */
export type HintDone = (contents: HintContents, hint: Hint | undefined) => void;

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
  /** Ends a pause. */
  #wake = (): void => {};

  /** Makes hints for segments of `log`. */
  constructor(log: Log, clock: Clock, hash: HashOfBytes) {
    this.#log = log;
    this.#clock = clock;
    this.#hash = hash;
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
    this.#wake();
    await this.#work;
  }

  async #run(): Promise<void> {
    try {
      for (let job = this.#jobs[0]; job !== undefined; job = this.#jobs[0]) {
        await this.#pause();
        if (job === this.#jobs[0]) await this.make(job.segment, job.bytes, job.done);
        if (job === this.#jobs[0]) this.#jobs.shift();
      }
    } finally {
      this.#work = undefined;
    }
  }

  /** Makes a sealed segment's hint of its bytes. `done` is not called when nobody needs it by then. */
  async make(segment: Segment, bytes: Uint8Array, done: HintDone): Promise<void> {
    // Between two slices nothing else may be left to do: the process must not end there.
    const hold = this.#clock.hold();
    try {
      const contents = await this.#index(segment, bytes);
      if (contents === undefined) return;
      const hint = await this.#write(segment, contents);
      if (!this.#isOver(segment)) done(contents, hint);
    } finally {
      hold.cancel();
    }
  }

  /** What the hint says; undefined when nobody needs it any more. */
  async #index(segment: Segment, bytes: Uint8Array): Promise<HintContents | undefined> {
    const steps = makeHint(bytes, this.#hash);
    for (let taken = 1;; taken++) {
      const step = steps.next();
      if (step.done === true) return step.value;
      // Who falls behind takes more steps in a turn, so that the memory of what waits is bounded.
      if (taken % Math.max(this.#jobs.length, 1) === 0) await this.#pause();
      if (this.#isOver(segment)) return undefined;
    }
  }

  /** Writes a hint and opens it; undefined when that cannot be done. */
  async #write(segment: Segment, contents: HintContents): Promise<Hint | undefined> {
    const name = hintName(segment.id);
    const { fileSystem, cache } = this.#log;
    try {
      await this.#writeFile(`${name}.new`, contents.bytes);
      if (!this.#isOver(segment)) {
        this.#log.fence();
        fileSystem.rename(`${name}.new`, name);
        return new Hint(this.#log.openFile(name), cache, contents);
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

  async #writeFile(name: string, bytes: Uint8Array): Promise<void> {
    const { fileSystem } = this.#log;
    this.#log.fence();
    fileSystem.remove(name);
    const file = fileSystem.open(name, "create");
    try {
      for (let from = 0; from < bytes.length; from += WRITE_BYTES) {
        if (from > 0) await this.#pause();
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
  async #pause(): Promise<void> {
    if (this.#closed) return;
    const timer = await new Promise<Timer>((resolve) => {
      const timer = this.#clock.after(0, () => resolve(timer));
      this.#wake = () => resolve(timer);
    });
    timer.cancel();
  }
}
