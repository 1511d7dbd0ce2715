/**
 * Compaction: rewriting a run of neighbouring sealed segments without their dead records.
 *
 * 1. Copy, in slices, every record that must stay into new segments: a set record that the keydir still points to, and
 *    a tombstone that may still be needed.
 * 2. Write the new segments and sync them, and the end of the log too: what was left out has its successor there.
 * 3. Switch the manifest: the new segments stand where the run stood. Until then a crash leaves only files that nobody
 *    names; from then on the old files are what nobody names.
 * 4. Point the keydir at the copies, in slices, except for keys that were written meanwhile. Old and new files are both
 *    there, so that each key is read wherever the keydir points.
 * 5. Remove the old files.
 *
 * Reads and writes go on all the while: nothing that is copied ever changes. A slice (`turns.ts`) ends after a
 * millisecond; after up to eight while more is dead than alive, so that a writer who never rests outruns it less.
 *
 * Dead stays dead: a tombstone may go only when nothing older of its key can remain. That is known of what stands
 * before a run when no set record there is dead, or when what is there was copied after the tombstone was visible
 * (`cleanBefore`). And it stays for `tombstoneRetentionMs`, so that a subscriber who comes back is told of the end; the
 * highest revision dropped is the manifest's `floor`. Which run is worth it: `candidates.ts`.
 *
 * A run that finds no room gets the reserve, and gives way to the one segment with the most dead bytes: it asks for the
 * least room and brings the most.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import { Candidates, type CandidatesOptions, cleanBefore, isRewritable, limited } from "./candidates.ts";
import { hintName } from "./hint.ts";
import { ADDRESS_UNIT } from "./keydir.ts";
import type { CompactionEvent, Log } from "./log.ts";
import { isTombstone, KIND, kindAt, recordBytesAt, revisionAt, timeAt } from "./record.ts";
import { isFull } from "./reserve.ts";
import { type Segment, SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import { Turns } from "./turns.ts";

/** Options of {@link Compaction}. */
export interface CompactionOptions extends CandidatesOptions {
  /** Compact without being asked. */
  readonly automatic: boolean;
  /** For tests that look between two slices: keys moved in one at most. */
  readonly movesPerSlice?: number;
  /** For tests, whose segments are small: {@link SLICE_BYTES} when absent. */
  readonly sliceBytes?: number;
}

/** What compaction asks of its owner. */
export interface CompactionOwner {
  now(): number;
  /** The last revision that is visible. */
  committed(): number;
  /** Seals the active segment. */
  seal(): Promise<void>;
  /** Resolves when everything that is visible is on stable storage. */
  sync(): Promise<void>;
  /** True when the keydir points at the record at `address`, which stands at `at` in `bytes`. */
  isLive(bytes: Uint8Array, at: number, address: number): boolean;
  /** The record at address `before` has a copy: follow it, unless its key has moved on. */
  moved(before: number, segment: Segment, offset: number): void;
  report(event: CompactionEvent): void;
}

/** A slice ends after so long, or after so many bytes: what a read may have to wait for. */
const SLICE_MS = 1;
const SLICE_BYTES = 256 * 1024;

/** A slice is never longer than so many others. */
const HASTE_MAX = 8;

/** To move a key takes as long as to copy so many bytes. */
const MOVE_BYTES = 128;

/** The log is looked at again when so many bytes have died, or so long after the first of fewer. */
const LOOK_BYTES = 256 * 1024;
const LOOK_MS = 60_000;

/** Bytes read between two reports of progress. */
const PROGRESS_BYTES = 8 * 1024 * 1024;

/** One output and, for each of its set records, where it was (an address) and is (an offset). */
interface Output {
  readonly segment: Segment;
  readonly before: number[];
  readonly offsets: number[];
}

/** One run under way. */
interface Run {
  readonly inputs: readonly Segment[];
  readonly outputs: Output[];
  /** Tombstones up to this revision may go. */
  readonly cleanBefore: number;
  /** No record that was dead at this revision is copied. */
  readonly started: number;
  readonly startedMs: number;
  /** Counted in bytes. */
  readonly turns: Turns;
  /** The highest revision of a tombstone left out. */
  floor: number;
  readonly totalBytes: number;
  readBytes: number;
  writtenBytes: number;
}

/** The compaction of one log. One run at a time. */
export class Compaction {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #owner: CompactionOwner;
  readonly #options: CompactionOptions;
  readonly #candidates: Candidates;
  readonly #sliceBytesMax: number;
  readonly #totals = { runs: 0, readBytes: 0, writtenBytes: 0, reclaimedBytes: 0 };
  #work: Promise<void> = Promise.resolve();
  #busy = false;
  #started = false;
  #closed = false;
  #deadSince = 0;
  #timer: Timer | undefined;

  /** Compacts `log` when asked, and by itself when `options.automatic`. */
  constructor(log: Log, clock: Clock, owner: CompactionOwner, options: CompactionOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#owner = owner;
    this.#options = options;
    this.#candidates = new Candidates(log, options);
    this.#sliceBytesMax = options.sliceBytes ?? SLICE_BYTES;
  }

  /** From here on runs may begin by themselves: while the log is opened, nobody knows all of its segments. */
  start(): void {
    this.#started = this.#options.automatic;
    this.#look();
  }

  /** Counts bytes that died; now and then looks whether a run is worth it. */
  noteDead(bytes: number): void {
    this.#deadSince += bytes;
    if (this.#deadSince >= Math.min(LOOK_BYTES, this.#sliceBytesMax)) this.#look();
    else if (this.#timer === undefined) this.#lookAfter(LOOK_MS);
  }

  /** Seals the active segment and rewrites every sealed one. @throws {FirkinError} what kept it from a segment */
  compactAll(): Promise<void> {
    return this.#queue(async () => {
      if (this.#closed) throw this.#closedError();
      try {
        await this.#owner.seal();
      } catch (error) {
        if (!isFull(error)) throw error;
        // What the others give back may be enough for the seal.
        await this.#rewriteAll();
        await this.#owner.seal();
      }
      await this.#rewriteAll();
      if (this.#closed) throw this.#closedError();
    });
  }

  #closedError(): FirkinError {
    return new FirkinError("CLOSED", `Cannot compact ${this.#log.fileSystem.path}: the store is closed`);
  }

  /** Figures about all runs since the open. */
  stats(): Record<string, number> {
    return {
      "compaction.running": Number(this.#busy),
      "compaction.runs": this.#totals.runs,
      "compaction.readBytes": this.#totals.readBytes,
      "compaction.writtenBytes": this.#totals.writtenBytes,
      "compaction.reclaimedBytes": this.#totals.reclaimedBytes,
    };
  }

  /**
   * Runs `work` between two runs: meanwhile no record moves. It should end soon once `isClosed`, and then never begins.
   */
  exclusive(work: (isClosed: () => boolean) => Promise<void>): Promise<void> {
    return this.#queue(() => work(() => this.#closed));
  }

  /** Resolves when no run is under way; no other begins. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#work;
  }

  #queue(work: () => Promise<void>): Promise<void> {
    const next = this.#work.then(async () => {
      this.#busy = true;
      // Between two slices nothing else may be left to do: the process must not end there.
      const hold = this.#clock.hold();
      try {
        await work();
      } finally {
        hold.cancel();
        this.#busy = false;
      }
    });
    // What failed has been reported, and stays as it is until more dies. A failure is its caller's; the next run starts
    // afresh.
    this.#work = next.then(() => this.#look(), () => {});
    return next;
  }

  // --- which runs ---

  /** Begins what is worth it now; else waits for when something may be. */
  #look(): void {
    if (!this.#started || this.#busy || this.#closed) return;
    this.#deadSince = 0;
    this.#timer?.cancel();
    this.#timer = undefined;
    const delayMs = this.#candidates.delayMs(this.#owner.now(), this.#owner.committed());
    if (delayMs === Infinity) return;
    if (delayMs > 0) this.#lookAfter(Math.ceil(delayMs));
    else this.#queue(() => this.#rewriteWorthwhile()).catch(() => {});
  }

  #lookAfter(delayMs: number): void {
    if (!this.#started || this.#closed) return;
    this.#timer = this.#clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#look();
    });
  }

  async #rewriteWorthwhile(): Promise<void> {
    while (!this.#closed) {
      const run = this.#candidates.choose(this.#owner.now(), this.#owner.committed());
      if (run.length === 0) return;
      try {
        await this.#rewrite(run);
      } catch (error) {
        if (this.#candidates.noteDamage(error) === undefined) throw error;
      }
    }
  }

  /** Rewrites what is sealed now, run after run; damage in one segment does not keep it from the others. */
  async #rewriteAll(): Promise<void> {
    const wanted = new Set(this.#log.segments.filter(isRewritable));
    let damage: unknown;
    while (!this.#closed) {
      const { segments } = this.#log;
      const start = segments.findIndex((segment) => wanted.has(segment));
      if (start === -1) break;
      let end = start + 1;
      while (end < segments.length && wanted.has(segments[end]!)) end++;
      try {
        await this.#rewrite(limited(segments.slice(start, end), this.#options.runBytesMax));
      } catch (error) {
        const damaged = this.#candidates.noteDamage(error);
        if (damaged === undefined) throw error;
        wanted.delete(damaged);
        damage ??= error;
      }
    }
    if (damage !== undefined) throw damage;
  }

  /** Replaces the run by its live records; on a full disk, with the reserve's room, at least the deadest segment. */
  async #rewrite(inputs: readonly Segment[]): Promise<void> {
    let giveBack = (): void => {};
    try {
      await this.#replace(inputs);
    } catch (error) {
      if (!isFull(error)) throw error;
      giveBack = this.#log.reserve.lend();
      const freed = this.#log.reserve.free();
      const deadest = this.#candidates.deadest(this.#owner.now(), this.#owner.committed());
      if (deadest === undefined || (!freed && inputs.length === 1 && inputs[0] === deadest)) throw error;
      await this.#replace([deadest]);
    } finally {
      giveBack();
      this.#log.reserve.want(this.#log.segments.length);
    }
  }

  // --- one run ---

  async #replace(inputs: readonly Segment[]): Promise<void> {
    const haste = hasteOf(this.#log.segments);
    const run: Run = {
      inputs,
      outputs: [],
      cleanBefore: cleanBefore(this.#log.segments, inputs[0]!, this.#owner.committed()),
      started: this.#owner.committed(),
      startedMs: this.#clock.monotonic(),
      turns: new Turns(this.#clock, { milliseconds: SLICE_MS * haste, work: this.#sliceBytesMax * haste }),
      floor: 0,
      totalBytes: inputs.reduce((bytes, input) => bytes + input.tail, 0),
      readBytes: 0,
      writtenBytes: 0,
    };
    try {
      await this.#carryOut(run);
    } finally {
      run.turns.end();
    }
  }

  async #carryOut(run: Run): Promise<void> {
    const { inputs } = run;
    this.#report(run, "started");
    try {
      await this.#copy(run);
      for (const { segment } of run.outputs) if (!this.#closed) await this.#write(run, segment);
      // What was left out has a successor, which a power cut must not take once the original is gone.
      await this.#owner.sync();
      if (this.#closed) return this.#abandon(run);
      await this.#log.replaceRun(inputs, run.outputs.map(({ segment }) => segment), run.floor);
    } catch (error) {
      this.#report(run, "failed", error);
      // The sync that failed may be the one behind the switch: an open may then find the manifest with the outputs.
      if (error instanceof FirkinError && error.code === "DURABILITY") {
        for (const { segment } of run.outputs) segment.close();
      } else {
        this.#abandon(run);
      }
      throw error;
    }
    await this.#move(run);
    this.#count(run);
  }

  async #copy(run: Run): Promise<void> {
    const youngest = this.#owner.now() - this.#options.tombstoneRetentionMs;
    let told = 0;
    for (const segment of run.inputs) {
      for (let offset = SEGMENT_HEADER_BYTES; offset < segment.tail && !this.#closed;) {
        const length = this.#copyRecord(run, segment, offset, youngest);
        offset += length;
        run.readBytes += length;
        if (run.turns.isOver(length)) await run.turns.pause();
      }
      if (run.readBytes - told >= PROGRESS_BYTES) {
        told = run.readBytes;
        this.#report(run, "progress");
      }
    }
    this.#seal(run);
  }

  /** Copies the record at `offset` if it must stay; returns its length. */
  #copyRecord(run: Run, segment: Segment, offset: number, youngest: number): number {
    const at = segment.seek(offset);
    // A view: nothing else is sought until it is copied.
    const record = segment.window.subarray(at, at + recordBytesAt(segment.window, at));
    const kind = kindAt(record, 0);
    if (kind === KIND.set) {
      const address = segment.slot * ADDRESS_UNIT + offset;
      if (!this.#owner.isLive(record, 0, address)) return record.length;
      const output = this.#output(run, record.length);
      output.before.push(address);
      output.offsets.push(output.segment.appendCopy(record));
    } else if (isTombstone(kind)) {
      const revision = revisionAt(record, 0);
      const time = timeAt(record, 0);
      if (revision <= run.cleanBefore && time < youngest) {
        run.floor = Math.max(run.floor, revision);
      } else {
        const output = this.#output(run, record.length);
        output.segment.appendCopy(record);
        output.segment.countTombstone(record.length, time);
      }
    }
    return record.length;
  }

  /** The open output, or a new one when it is full. */
  #output(run: Run, length: number): Output {
    const last = run.outputs[run.outputs.length - 1];
    if (last?.segment.hasRoom(length)) return last;
    this.#seal(run);
    const output = { segment: this.#log.createSegment(length), before: [], offsets: [] };
    output.segment.cleanRevision = run.started;
    run.outputs.push(output);
    return output;
  }

  #seal({ outputs }: Run): void {
    const last = outputs[outputs.length - 1]?.segment;
    last?.seal(last.lastRevision, this.#owner.now());
  }

  /** Writes a whole output to its file, a slice at a time, and syncs it. */
  async #write(run: Run, output: Segment): Promise<void> {
    await this.#log.createFile(output);
    for (let from = SEGMENT_HEADER_BYTES; from < output.tail; from += this.#sliceBytesMax) {
      if (from > SEGMENT_HEADER_BYTES) await run.turns.pause();
      if (this.#closed) return;
      output.file!.write(output.bytes(from, Math.min(from + this.#sliceBytesMax, output.tail)), from);
    }
    await output.file!.sync();
    output.written = output.tail;
    output.durable = output.tail;
    this.#log.shelve(output);
    run.writtenBytes += output.tail;
  }

  /** Points the keydir at the copies, then removes the originals. A close leaves the rest to the log's. */
  async #move({ inputs, outputs, turns }: Run): Promise<void> {
    const { movesPerSlice = Infinity } = this.#options;
    for (const { segment, before, offsets } of outputs) {
      for (let index = 0; index < before.length; index++) {
        this.#owner.moved(before[index]!, segment, offsets[index]!);
        if (turns.isOver(MOVE_BYTES) || (index + 1) % movesPerSlice === 0) await turns.pause();
        if (this.#closed) return;
      }
      this.#log.owner.sealed(segment);
    }
    for (const input of inputs) this.#log.retire(input);
    if (!this.#log.owned) return;
    for (const { id } of inputs) {
      await this.#discard(segmentName(id));
      await this.#discard(hintName(id));
    }
  }

  /** Nobody names the file any more: if it cannot be removed, the next open will. */
  async #discard(name: string): Promise<void> {
    try {
      await this.#log.fileSystem.discard(name);
    } catch {
      // The run is over, and did what it was to do.
    }
  }

  #abandon({ outputs }: Run): void {
    for (const { segment } of outputs) this.#log.discard(segment);
  }

  // --- figures ---

  #count(run: Run): void {
    const totals = this.#totals;
    totals.runs++;
    totals.readBytes += run.readBytes;
    totals.writtenBytes += run.writtenBytes;
    totals.reclaimedBytes += run.totalBytes - run.writtenBytes;
    this.#report(run, "done");
  }

  #report(run: Run, phase: CompactionEvent["phase"], error?: unknown): void {
    this.#owner.report({
      type: "compaction",
      phase,
      segments: run.inputs.length,
      totalBytes: run.totalBytes,
      readBytes: run.readBytes,
      writtenBytes: run.writtenBytes,
      reclaimedBytes: phase === "done" ? run.totalBytes - run.writtenBytes : 0,
      milliseconds: this.#clock.monotonic() - run.startedMs,
      ...(phase === "failed" ? { error } : {}),
    });
  }
}

/** 1 while no more is dead than alive; then as the square of how many times as much. */
export function hasteOf(segments: readonly Pick<Segment, "tail" | "deadBytes">[]): number {
  let [all, dead] = [0, 0];
  for (const { tail, deadBytes } of segments) {
    all += tail;
    dead += deadBytes;
  }
  return Math.min(Math.max(1, (dead / Math.max(all - dead, 1)) ** 2), HASTE_MAX);
}
