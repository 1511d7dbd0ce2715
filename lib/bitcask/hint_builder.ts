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
import { Hint, hintBinding, type HintContents, type HintFigures, hintName, HintWriter } from "./hint.ts";
import type { Log } from "./log.ts";
import { CHUNK_MAX, recordsIn, sortNewest } from "./order.ts";
import {
  bucketAt,
  expiresAtAt,
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
  const { chunks, figures } = yield* sortChunks(bytes, sealAt);
  let liveBytes = 0;
  let steps = 0;
  for (const offset of merge(bytes, chunks)) {
    const kind = kindAt(bytes, offset);
    const bucket = bucketAt(bytes, offset);
    const keyStart = keyStartAt(bytes, offset);
    const keyEnd = keyStart + keyBytesAt(bytes, offset);
    if (kind === KIND.set) liveBytes += recordBytesAt(bytes, offset);
    const deadline = expiresAtAt(bytes, offset);
    writer.add({
      hash: hash(bucket, bytes, keyStart, keyEnd),
      offset,
      kind,
      bucket,
      deadline,
      bytes,
      keyStart,
      keyEnd,
    });
    if (++steps % ENTRIES_PER_STEP === 0) yield;
  }
  const deadBytes = sealAt - SEGMENT_HEADER_BYTES - figures.tombstoneBytes - liveBytes;
  return writer.finish({ ...figures, deadBytes });
}

/** The offsets of all changes in sorted chunks, and what can be said on the way. */
function* sortChunks(
  bytes: Uint8Array,
  end: number,
): Generator<void, { chunks: Uint32Array[]; figures: HintFigures }> {
  const records = recordsIn(bytes);
  const chunks: Uint32Array[] = [];
  const offsets = new Uint32Array(CHUNK_MAX);
  let count = 0;
  let tombstoneBytes = 0;
  let tombstoneTime = 0;
  let firstRevision = 0;
  let lastRevision = 0;
  let time = timeAt(bytes, end);
  for (let at = SEGMENT_HEADER_BYTES; at < end; at += recordBytesAt(bytes, at)) {
    const kind = kindAt(bytes, at);
    time = Math.max(time, timeAt(bytes, at));
    if (kind >= KIND.mark) continue;
    lastRevision = revisionAt(bytes, at);
    if (firstRevision === 0) firstRevision = lastRevision;
    if (isTombstone(kind)) {
      tombstoneBytes += recordBytesAt(bytes, at);
      tombstoneTime = Math.max(tombstoneTime, timeAt(bytes, at));
    }
    offsets[count++] = at;
    if (count < CHUNK_MAX) continue;
    chunks.push(sortNewest(records, offsets));
    count = 0;
    yield;
  }
  if (count > 0) chunks.push(sortNewest(records, offsets.subarray(0, count)));
  return { chunks, figures: { deadBytes: 0, tombstoneBytes, tombstoneTime, firstRevision, lastRevision, time } };
}

/** The offsets of all chunks in key order, the newest of each key. */
function* merge(bytes: Uint8Array, chunks: readonly Uint32Array[]): Generator<number, void> {
  const heap = new ChunkHeap(bytes, chunks);
  let offset = heap.take();
  while (offset !== -1) {
    const following = heap.take();
    // Records of one key come in order of their offsets.
    if (following === -1 || compareKeys(bytes, offset, following) !== 0) yield offset;
    offset = following;
  }
}

/** The heads of sorted chunks, the smallest key first; of equal keys the smallest offset. */
class ChunkHeap {
  readonly #bytes: Uint8Array;
  readonly #chunks: readonly Uint32Array[];
  /** Which chunks are in the heap. */
  readonly #heap: Uint32Array;
  #size = 0;
  /** Where each chunk's head is in the chunk, and the record's offset. */
  readonly #places: Uint32Array;
  readonly #heads: Uint32Array;
  /** Each head's bucket, if there are several, and four bytes of its key behind what all share: often enough. */
  readonly #ranks: Float64Array;
  readonly #shared: number;

  constructor(bytes: Uint8Array, chunks: readonly Uint32Array[]) {
    this.#bytes = bytes;
    this.#chunks = chunks;
    this.#heap = new Uint32Array(chunks.length);
    this.#places = new Uint32Array(chunks.length);
    this.#heads = new Uint32Array(chunks.length);
    this.#ranks = new Float64Array(chunks.length);
    this.#shared = sharedBytes(bytes, chunks);
    for (let chunk = 0; chunk < chunks.length; chunk++) {
      this.#setHead(chunk, chunks[chunk]![0]!);
      this.#rise(this.#size++, chunk);
    }
  }

  /** Removes and returns the first offset, -1 when there is none. */
  take(): number {
    if (this.#size === 0) return -1;
    const chunk = this.#heap[0]!;
    const offset = this.#heads[chunk]!;
    const following = this.#chunks[chunk]![++this.#places[chunk]!];
    if (following !== undefined) {
      this.#setHead(chunk, following);
      this.#sink(chunk);
    } else if (--this.#size > 0) {
      this.#sink(this.#heap[this.#size]!);
    }
    return offset;
  }

  #setHead(chunk: number, offset: number): void {
    const bytes = this.#bytes;
    this.#heads[chunk] = offset;
    let at = keyStartAt(bytes, offset) + this.#shared;
    const end = keyStartAt(bytes, offset) + keyBytesAt(bytes, offset);
    let rank = this.#shared === 0 ? bucketAt(bytes, offset) : 0;
    // Behind a key's end stand zeros: keys of equal rank are compared whole.
    for (let digit = 0; digit < 4; digit++, at++) rank = rank * 256 + (at < end ? bytes[at]! : 0);
    this.#ranks[chunk] = rank;
  }

  #before(left: number, right: number): boolean {
    const ranks = this.#ranks[left]! - this.#ranks[right]!;
    if (ranks !== 0) return ranks < 0;
    const head = this.#heads[left]!;
    const other = this.#heads[right]!;
    return (compareKeys(this.#bytes, head, other) || head - other) < 0;
  }

  #rise(index: number, chunk: number): void {
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.#before(chunk, this.#heap[parent]!)) break;
      this.#heap[index] = this.#heap[parent]!;
      index = parent;
    }
    this.#heap[index] = chunk;
  }

  /** Puts a chunk in the place of the first. */
  #sink(chunk: number): void {
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#before(this.#heap[child + 1]!, this.#heap[child]!)) child++;
      if (!this.#before(this.#heap[child]!, chunk)) break;
      this.#heap[index] = this.#heap[child]!;
      index = child;
    }
    this.#heap[index] = chunk;
  }
}

/** How many bytes all keys begin with, when they are of one bucket; else 0. */
function sharedBytes(bytes: Uint8Array, chunks: readonly Uint32Array[]): number {
  let first = chunks[0]?.[0] ?? 0;
  let last = first;
  for (const chunk of chunks) {
    if (compareKeys(bytes, chunk[0]!, first) < 0) first = chunk[0]!;
    if (compareKeys(bytes, chunk.at(-1)!, last) > 0) last = chunk.at(-1)!;
  }
  if (bucketAt(bytes, first) !== bucketAt(bytes, last)) return 0;
  const most = Math.min(keyBytesAt(bytes, first), keyBytesAt(bytes, last));
  let shared = 0;
  while (shared < most && bytes[keyStartAt(bytes, first) + shared] === bytes[keyStartAt(bytes, last) + shared]) {
    shared++;
  }
  return shared;
}

/** Compares two records by bucket, then key. */
function compareKeys(bytes: Uint8Array, left: number, right: number): number {
  const buckets = bucketAt(bytes, left) - bucketAt(bytes, right);
  if (buckets !== 0) return buckets;
  let at = keyStartAt(bytes, left);
  let other = keyStartAt(bytes, right);
  const length = keyBytesAt(bytes, left);
  const otherLength = keyBytesAt(bytes, right);
  for (const end = at + Math.min(length, otherLength); at < end; at++, other++) {
    if (bytes[at] !== bytes[other]) return bytes[at]! - bytes[other]!;
  }
  return length - otherLength;
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
      if (this.#isOver(segment)) return undefined;
      this.#log.fence();
      fileSystem.rename(`${name}.new`, name);
      return new Hint(this.#log.openFile(name), cache, contents);
    } catch (error) {
      if (!(error instanceof FirkinError)) throw error;
      return undefined;
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
