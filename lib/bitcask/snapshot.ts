/**
 * A compacted copy of what was live at one revision, as a store of its own in another folder.
 *
 * 1. The last committed revision is the snapshot's. From here on no compaction runs, so that no record moves.
 * 2. In slices, the log is read in order up to that revision, and every set record that was live at it is copied to new
 *    segments of the target: the keydir points at it, or it has died meanwhile. Who dies meanwhile is noted, which
 *    costs memory for what is overwritten meanwhile and no more.
 * 3. The manifest comes last: with an id and an epoch of its own, and this revision as its floor. Until it is there,
 *    the target holds segments and no manifest, which an open refuses.
 *
 * A key that is *taken* meanwhile is left out: its value has been delivered, and a copy would deliver it again. If it
 * has been copied already, its segment is written anew without it before the snapshot is said to be done.
 *
 * Reads and writes go on all the while; a failure leaves the source as it was and the target empty.
 *
 * @module
 */
import { toHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import type { SnapshotResult } from "../engine/engine.ts";
import type { FileSystem } from "../fs/fs.ts";
import { NO_BOUNDS } from "./inventory.ts";
import type { Compaction, CompactionOwner } from "./compaction.ts";
import { ADDRESS_UNIT } from "./keydir.ts";
import type { Log } from "./log.ts";
import { type Manifest, MANIFEST_NAME, MANIFEST_NEW_NAME, writeManifest } from "./manifest.ts";
import { bucketAt, expiresAtAt, keyAt, KIND, kindAt, recordBytesAt, revisionAt } from "./record.ts";
import { SegmentScan } from "./scan.ts";
import { type Segment, SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import { pause } from "./verify.ts";
import { SegmentWriter, type WrittenSegment } from "./segment_writer.ts";

/** What a snapshot asks of its owner. */
export interface SnapshotOwner extends Pick<CompactionOwner, "now" | "committed" | "isLive"> {
  readonly segmentBytesMax: number;
}

/** Bytes read between two turns of the event loop. */
const SLICE_BYTES = 256 * 1024;

/** Takes snapshots of one log, one after another. */
export class Snapshots {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #compaction: Compaction;
  readonly #owner: SnapshotOwner;
  #run: Run | undefined;

  /** Of `log`, when `compaction` does not run. */
  constructor(log: Log, clock: Clock, compaction: Compaction, owner: SnapshotOwner) {
    this.#log = log;
    this.#clock = clock;
    this.#compaction = compaction;
    this.#owner = owner;
  }

  /** The record at `before` (-1: none) has been replaced or ended by the one at `offset`. */
  noteDead(before: number, segment: Segment, offset: number): void {
    this.#run?.noteDead(before, segment, offset);
  }

  /**
   * Copies what is live now into `target`, a folder that is empty or missing.
   * @throws {FirkinError} CLOSED, CORRUPT, INVALID — the target is not empty; LOCKED, FULL, READ_ONLY, IO
   */
  async take(target: FileSystem | undefined): Promise<SnapshotResult> {
    if (target === undefined) {
      throw new FirkinError("NOT_SUPPORTED", "Cannot take a snapshot: this store has no folders");
    }
    let result: SnapshotResult | undefined;
    await this.#compaction.exclusive(async (isClosed) => {
      result = await intoEmptyFolder(target, async () => {
        const run = new Run(this.#log, this.#clock, this.#owner, target, isClosed);
        this.#run = run;
        try {
          return await run.finish();
        } finally {
          this.#run = undefined;
        }
      });
    });
    if (result === undefined) throw closed(target);
    return result;
  }
}

/** Runs `fill` with the folder locked, and takes back what it made when it fails. */
export async function intoEmptyFolder<Result>(target: FileSystem, fill: () => Promise<Result>): Promise<Result> {
  target.makeDirectory();
  const lock = target.lock();
  try {
    if (target.list().length > 0) {
      throw new FirkinError("INVALID", `Cannot copy into ${target.path}: the folder is not empty`, {
        detail: { path: target.path },
      });
    }
    try {
      return await fill();
    } catch (error) {
      clear(target);
      throw error;
    }
  } finally {
    lock.release();
  }
}

/** Removes what a copy that failed has left; where that fails too, an open refuses what is there. */
function clear(target: FileSystem): void {
  try {
    // The manifest first: half a store must not look whole.
    for (const name of [MANIFEST_NAME, MANIFEST_NEW_NAME, ...target.list()]) target.remove(name);
  } catch {
    // The error that is thrown is the one that brought us here.
  }
}

function closed(target: FileSystem): FirkinError {
  return new FirkinError("CLOSED", `Cannot finish the snapshot in ${target.path}: the store is closed`);
}

/** One snapshot. */
class Run {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #owner: SnapshotOwner;
  readonly #target: FileSystem;
  readonly #isClosed: () => boolean;
  readonly #revision: number;
  readonly #time: number;
  readonly #buckets: readonly string[];
  readonly #settings: Manifest["settings"];
  readonly #segments: readonly Segment[];
  readonly #storeId: Uint8Array<ArrayBuffer>;
  readonly #writer: SegmentWriter;
  /** Addresses of records that were live at the revision and are not any more. */
  readonly #died = new Set<number>();
  /** The revision that a key had, for those that died by being replaced. */
  readonly #replaced = new Map<string, number>();
  /** Revisions of records whose key was taken; and those of them that are not, or not any more, in the copy. */
  readonly #taken = new Set<number>();
  readonly #left = new Set<number>();

  constructor(
    log: Log,
    clock: Clock,
    owner: SnapshotOwner,
    target: FileSystem,
    isClosed: () => boolean,
  ) {
    this.#log = log;
    this.#clock = clock;
    this.#owner = owner;
    this.#target = target;
    this.#isClosed = isClosed;
    this.#revision = owner.committed();
    this.#time = Math.floor(owner.now());
    this.#buckets = [...log.bucketNames];
    this.#settings = log.settings;
    // Not one that only waits to be committed: it may be taken back, and has nothing for us.
    this.#segments = log.segments.filter(({ listed, written }) => listed && written > SEGMENT_HEADER_BYTES);
    this.#storeId = clock.random(new Uint8Array(16));
    const storeId = this.#storeId;
    const { segmentBytesMax } = owner;
    this.#writer = new SegmentWriter({ fileSystem: target, clock, storeId, nextSegment: 1, segmentBytesMax });
  }

  async finish(): Promise<SnapshotResult> {
    for (const segment of this.#segments) await this.#copy(segment);
    await this.#writer.finish();
    let segments: readonly WrittenSegment[] = [...this.#writer.written];
    const epoch = toHex(this.#clock.random(new Uint8Array(8)));
    const last = await this.#writer.end(this.#revision, this.#time);
    do {
      const before = segments;
      segments = await this.#withoutTaken(before);
      await this.#target.syncDirectory();
      await writeManifest(this.#target, this.#manifest([...segments.map(({ id }) => id), last], epoch));
      const stale = before.filter((segment) => !segments.includes(segment));
      for (const { id } of stale) this.#target.remove(segmentName(id));
      if (stale.length > 0) await this.#target.syncDirectory();
      this.#checkOpen();
    } while (this.#hasTaken(segments));
    return {
      revision: this.#revision,
      keys: segments.reduce((sum, { records }) => sum + records, 0),
      bytes: segments.reduce((sum, { bytes }) => sum + bytes, 0),
      segments: segments.length + 1,
    };
  }

  #manifest(segments: readonly number[], epoch: string): Manifest {
    return {
      format: 1,
      store: toHex(this.#storeId),
      epoch,
      sync: "always",
      segments,
      nextSegment: this.#writer.nextSegment,
      buckets: this.#buckets,
      ...this.#settings && { settings: this.#settings },
      floor: this.#revision,
      revision: this.#revision,
      time: this.#time,
    };
  }

  // --- what was live ---

  noteDead(before: number, segment: Segment, offset: number): void {
    if (before === -1) return;
    const dead = this.#log.segmentOf(before);
    let revision: number;
    try {
      const at = dead.seek(before >>> 0, true);
      revision = revisionAt(dead.window, at);
    } catch {
      // It cannot be read, and so not copied either: the copying will say so.
      revision = 0;
    }
    const at = segment.seek(offset);
    const taken = kindAt(segment.window, at) === KIND.take;
    if (revision > this.#revision && (!taken || this.#replaced.size === 0)) return;
    const key = `${bucketAt(segment.window, at)} ${toHex(keyAt(segment.window, at))}`;
    if (revision <= this.#revision) {
      this.#died.add(before);
      if (!taken) this.#replaced.set(key, revision);
    }
    // The key's value of back then was not delivered, but its key was: it is left out all the same.
    const copied = revision <= this.#revision ? revision : this.#replaced.get(key);
    if (taken && copied !== undefined) this.#taken.add(copied);
  }

  /** Copies what was live in one segment. */
  async #copy(segment: Segment): Promise<void> {
    let slice = 0;
    for (let offset = SEGMENT_HEADER_BYTES; offset < segment.tail;) {
      const at = segment.seek(offset);
      const length = recordBytesAt(segment.window, at);
      const kind = kindAt(segment.window, at);
      // What follows was not committed then; and by now it may have been taken back.
      if (kind < KIND.mark && revisionAt(segment.window, at) > this.#revision) return;
      if (kind === KIND.set && this.#wasLive(segment, offset)) {
        if (!this.#writer.hasRoom(length)) await this.#writer.finish();
        const place = segment.seek(offset);
        this.#writer.add(segment.window.subarray(place, place + length));
      }
      offset += length;
      slice += length;
      if (slice < SLICE_BYTES) continue;
      slice = 0;
      await pause(this.#clock);
      this.#checkOpen();
    }
  }

  #wasLive(segment: Segment, offset: number): boolean {
    const at = segment.seek(offset);
    const revision = revisionAt(segment.window, at);
    if (this.#taken.has(revision)) {
      this.#left.add(revision);
      return false;
    }
    if ((expiresAtAt(segment.window, at) ?? Infinity) <= this.#time) return false;
    const address = segment.slot * ADDRESS_UNIT + offset;
    return this.#died.has(address) || this.#owner.isLive(segment.window, at, address);
  }

  // --- what was taken meanwhile ---

  /** True when a copy may hold the value of a key that has been taken. */
  #hasTaken(segments: readonly WrittenSegment[]): boolean {
    return segments.some((segment) => this.#takenIn(segment).length > 0);
  }

  #takenIn({ firstRevision, lastRevision }: WrittenSegment): number[] {
    return [...this.#taken].filter((revision) => {
      return !this.#left.has(revision) && firstRevision <= revision && revision <= lastRevision;
    });
  }

  /** The segments, those with a taken value written anew without it. */
  async #withoutTaken(segments: readonly WrittenSegment[]): Promise<WrittenSegment[]> {
    const result: WrittenSegment[] = [];
    for (const segment of segments) {
      const taken = this.#takenIn(segment);
      if (taken.length === 0) {
        result.push(segment);
        continue;
      }
      const from = this.#writer.written.length;
      await this.#filter(segment, new Set(taken));
      result.push(...this.#writer.written.slice(from));
      for (const revision of taken) this.#left.add(revision);
    }
    return result;
  }

  async #filter({ id }: WrittenSegment, taken: ReadonlySet<number>): Promise<void> {
    const file = this.#target.open(segmentName(id), "read");
    try {
      const scan = new SegmentScan(file, this.#storeId, id, NO_BOUNDS);
      for (let piece = scan.step(); piece !== "end"; piece = scan.step()) {
        if (piece === "damage") throw this.#unreadable(id, scan.offset);
        if (piece === "pause" || kindAt(scan.window, scan.at) !== KIND.set) continue;
        if (!taken.has(revisionAt(scan.window, scan.at))) this.#writer.add(scan.record());
      }
      await this.#writer.finish();
    } finally {
      file.close();
    }
  }

  #unreadable(segment: number, offset: number): FirkinError {
    const place = `${this.#target.path}/${segmentName(segment)}`;
    return new FirkinError("CORRUPT", `Cannot read ${place} at offset ${offset}: it was just written`, {
      detail: { segment, offset, path: place },
    });
  }

  #checkOpen(): void {
    if (this.#isClosed()) throw closed(this.#target);
  }
}
