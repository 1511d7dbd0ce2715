/**
 * Compaction: rewriting a run of neighbouring sealed segments without their dead records.
 *
 * 1. Copy, in slices, every record that must stay into new segments: a set record that the keydir still points to, and
 *    a tombstone that may still be needed.
 * 2. Write the new segments and sync them, and the end of the log too: what was left out has its successor there.
 * 3. Switch the manifest: the new segments stand where the run stood. Until then a crash leaves only files that nobody
 *    names; from then on the old files are what nobody names.
 * 4. In the same turn of the event loop point the keydir at the new places, except for keys that were written
 *    meanwhile, and remove the old files.
 *
 * Reads and writes go on all the while: nothing that is copied ever changes.
 *
 * Dead stays dead: a tombstone may go only when nothing older of its key can remain. That holds when the run begins
 * with the log's first segment, or when a pass has already rewritten everything before it, after the tombstone was
 * visible. And it stays for `tombstoneRetentionMs`, so that a subscriber who comes back is told of the end; the highest
 * revision dropped is the manifest's `floor`.
 *
 * @module
 */
import type { Clock } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import { ADDRESS_UNIT } from "./keydir.ts";
import type { Log } from "./log.ts";
import { isTombstone, KIND, kindAt, recordBytesAt, revisionAt, timeAt } from "./record.ts";
import { type Segment, SEGMENT_HEADER_BYTES } from "./segment.ts";

/** Options of {@link Compaction}. */
export interface CompactionOptions {
  /** Compact without being asked. */
  readonly automatic: boolean;
  /** A sealed segment is worth rewriting when at least this part of it is dead. */
  readonly deadRatio: number;
  /** Tombstones younger than this stay, milliseconds. */
  readonly tombstoneRetentionMs: number;
  /** For tests, whose segments are small: {@link SLICE_BYTES} and {@link RUN_BYTES_MAX} when absent. */
  readonly sliceBytes?: number;
  readonly runBytesMax?: number;
}

/** Where a copied record was (an address), and where it is. */
export interface Move {
  readonly before: number;
  readonly segment: Segment;
  readonly offset: number;
}

/** What compaction asks of its owner. */
export interface CompactionOwner {
  now(): number;
  /** The last revision that is visible. */
  committed(): number;
  /** Resolves when everything that is visible is on stable storage. */
  sync(): Promise<void>;
  /** True when the keydir points at this set record. */
  isLive(segment: Segment, offset: number): boolean;
  /** These records have copies; follow them, except where a key has moved on. */
  moved(moves: readonly Move[]): void;
  report(event: { readonly type: "compaction-failed"; readonly error: unknown }): void;
}

/** Bytes read between two turns of the event loop. */
const SLICE_BYTES = 256 * 1024;

/** Bytes of input in one run: bounds its memory, and the turn in which the keydir is switched. */
const RUN_BYTES_MAX = 128 * 1024 * 1024;

/** The compaction of one log. One run at a time. */
export class Compaction {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #owner: CompactionOwner;
  readonly #options: CompactionOptions;
  readonly #sliceBytes: number;
  readonly #runBytesMax: number;
  #work: Promise<void> = Promise.resolve();
  #busy = false;
  #started = false;
  #closed = false;
  #deadSince = 0;

  /** Compacts `log` when asked, and by itself when `options.automatic`. */
  constructor(log: Log, clock: Clock, owner: CompactionOwner, options: CompactionOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#owner = owner;
    this.#options = options;
    this.#sliceBytes = options.sliceBytes ?? SLICE_BYTES;
    this.#runBytesMax = options.runBytesMax ?? RUN_BYTES_MAX;
  }

  /** From here on runs may begin by themselves: while the log is opened, nobody knows all of its segments. */
  start(): void {
    this.#started = this.#options.automatic;
    this.noteDead(0);
  }

  /** Counts bytes that died; now and then looks whether a run is worth it. */
  noteDead(bytes: number): void {
    this.#deadSince += bytes;
    if (!this.#started || this.#busy || this.#closed || this.#deadSince < this.#sliceBytes) return;
    this.#deadSince = 0;
    this.#queue(async () => {
      const run = this.#worthwhile();
      if (run.length > 0) await this.#rewrite(run, run[0] === this.#log.segments[0] ? this.#owner.committed() : -1);
    }).catch((error: unknown) => this.#owner.report({ type: "compaction-failed", error }));
  }

  /** Rewrites every sealed segment, run after run. */
  compactAll(): Promise<void> {
    return this.#queue(async () => {
      const before = this.#owner.committed();
      let rest = this.#log.segments.filter((segment) => segment.sealed && !segment.resident);
      while (rest.length > 0 && !this.#closed) {
        const run = limited(rest, this.#runBytesMax);
        rest = rest.slice(run.length);
        await this.#rewrite(run, before);
      }
    });
  }

  /** Resolves when no run is under way; no other begins. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#work;
  }

  #queue(work: () => Promise<void>): Promise<void> {
    const next = this.#work.then(async () => {
      this.#busy = true;
      // Between two slices nothing else may be left to do: the process must not end there.
      const hold = this.#clock.hold();
      try {
        if (!this.#closed) await work();
      } finally {
        hold.cancel();
        this.#busy = false;
      }
    });
    // A failure is its caller's; the next run starts afresh.
    this.#work = next.catch(() => {});
    return next;
  }

  /** The first neighbours that are each dead enough. */
  #worthwhile(): Segment[] {
    const { segments } = this.#log;
    const start = segments.findIndex((segment, index) => this.#isWorth(segment, index === 0));
    if (start === -1) return [];
    let end = start + 1;
    while (end < segments.length && this.#isWorth(segments[end]!, start === 0)) end++;
    return limited(segments.slice(start, end), this.#runBytesMax);
  }

  /** Old tombstones count as dead in a run that begins with the log's first segment: only there may they go. */
  #isWorth(segment: Segment, fromFirst: boolean): boolean {
    if (!segment.sealed || segment.resident) return false;
    const old = segment.tombstoneTime < this.#owner.now() - this.#options.tombstoneRetentionMs;
    const dead = segment.deadBytes + (fromFirst && old ? segment.tombstoneBytes : 0);
    return dead >= segment.tail * this.#options.deadRatio;
  }

  /** Replaces the run by its live records; drops tombstones up to revision `cleanBefore` that are old enough. */
  async #rewrite(run: readonly Segment[], cleanBefore: number): Promise<void> {
    const outputs: Segment[] = [];
    let moves: Move[];
    try {
      const copied = await this.#copy(run, cleanBefore, outputs);
      moves = copied.moves;
      for (const output of outputs) {
        if (this.#closed) break;
        await this.#write(output);
      }
      // What was left out has a successor, which a power cut must not take once the original is gone.
      await this.#owner.sync();
      if (this.#closed) return this.#abandon(outputs);
      await this.#log.replaceRun(run, outputs, copied.floor);
    } catch (error) {
      // The sync that failed may be the one behind the switch: an open may then find the manifest with the outputs.
      if (error instanceof FirkinError && error.code === "DURABILITY") { for (const output of outputs) output.close(); }
      else this.#abandon(outputs);
      throw error;
    }
    this.#owner.moved(moves);
    for (const output of outputs) output.release();
    for (const segment of run) this.#log.discard(segment);
  }

  async #copy(
    run: readonly Segment[],
    cleanBefore: number,
    outputs: Segment[],
  ): Promise<{ moves: Move[]; floor: number }> {
    const moves: Move[] = [];
    const youngest = this.#owner.now() - this.#options.tombstoneRetentionMs;
    let floor = 0;
    let slice = 0;
    for (const segment of run) {
      for (let offset = SEGMENT_HEADER_BYTES; offset < segment.tail;) {
        const at = segment.seek(offset);
        const length = recordBytesAt(segment.window, at);
        const kind = kindAt(segment.window, at);
        const revision = revisionAt(segment.window, at);
        const time = timeAt(segment.window, at);
        const droppable = revision <= cleanBefore && time < youngest;
        const stays = kind === KIND.set ? this.#owner.isLive(segment, offset) : isTombstone(kind) && !droppable;
        if (stays) {
          segment.seek(offset);
          const target = this.#output(outputs, length);
          const copied = target.appendCopy(segment.window.subarray(at, at + length));
          if (isTombstone(kind)) {
            target.countTombstone(length, time);
          } else {
            moves.push({ before: segment.slot * ADDRESS_UNIT + offset, segment: target, offset: copied });
          }
        } else if (isTombstone(kind)) {
          floor = Math.max(floor, revision);
        }
        offset += length;
        slice += length;
        if (slice >= this.#sliceBytes) {
          slice = 0;
          await this.#pause();
          if (this.#closed) return { moves, floor };
        }
      }
    }
    this.#seal(outputs);
    return { moves, floor };
  }

  /** The open output, or a new one when it is full. */
  #output(outputs: Segment[], length: number): Segment {
    const last = outputs[outputs.length - 1];
    if (last?.hasRoom(length)) return last;
    this.#seal(outputs);
    const output = this.#log.createSegment(length);
    outputs.push(output);
    return output;
  }

  #seal(outputs: readonly Segment[]): void {
    const last = outputs[outputs.length - 1];
    last?.seal(last.lastRevision, this.#owner.now());
  }

  /** Writes a whole output to its file, a slice at a time, and syncs it. */
  async #write(output: Segment): Promise<void> {
    await this.#log.createFile(output);
    for (let from = SEGMENT_HEADER_BYTES; from < output.tail; from += this.#sliceBytes) {
      if (from > SEGMENT_HEADER_BYTES) await this.#pause();
      if (this.#closed) return;
      output.file!.write(output.bytes(from, Math.min(from + this.#sliceBytes, output.tail)), from);
    }
    await output.file!.sync();
    output.written = output.tail;
    output.durable = output.tail;
  }

  #abandon(outputs: readonly Segment[]): void {
    for (const output of outputs) this.#log.discard(output);
  }

  /** Gives others their turn. */
  #pause(): Promise<void> {
    return new Promise((resolve) => this.#clock.after(0, resolve));
  }
}

/** As many of the first segments as one run takes, one at least. */
function limited(segments: readonly Segment[], bytesMax: number): Segment[] {
  let bytes = 0;
  let count = 0;
  while (count < segments.length && (count === 0 || bytes + segments[count]!.tail <= bytesMax)) {
    bytes += segments[count]!.tail;
    count++;
  }
  return segments.slice(0, count);
}
