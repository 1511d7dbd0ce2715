/**
 * Group commit: the writes of one tick share one write and one sync.
 *
 * 1. `append` encodes a record at the tail of the active segment, in memory, with the next revision. A full segment is
 *    sealed and a new one begun, in memory too.
 * 2. The first record of a group schedules a flush for the end of the tick. All who wait for a group share one promise.
 * 3. The flush writes the group with one call and, under policy `always`, awaits one sync. What is asked meanwhile is
 *    the next group. A group lies in one segment: rotation falls between two. The sync is awaited, never blocking: with
 *    one writer, 99 of 100 reads meanwhile took less than 40 microseconds, with a blocking one 4 to 60 ms.
 * 4. Only then the owner is told how many of the changes that wait are committed: it makes them visible in order of
 *    revision and wakes subscribers, and who waits is answered. Acknowledged, visible and durable are one moment.
 *
 * When something fails:
 *
 * - A write that the system refuses is undone: the file is cut back and synced, everything that waits fails, the log
 *   goes on. Were the cut not made durable first, a power cut could bring back what failed, whole or behind a shorter
 *   write in its place.
 * - When it was refused for want of room, later sets are refused at once; a group without sets, which ends keys and may
 *   so make room, is tried again with room from the reserve (`reserve.ts`).
 * - A sync that fails poisons the log: the kernel may have dropped the pages and call them clean. Nothing more is
 *   acknowledged and nothing is retried; reads go on. So does a folder that another process has taken (`Log.fence`).
 *
 * The records of a batch are appended in one go, to one segment and one group, each but the last with a flag that says
 * that more follows: an open that does not find the last counts none of them. A group with a take in it is synced under
 * every policy, for the value leaves only when nothing can bring it back.
 *
 * A group that follows a sync begins with a mark, which states how far its segment was safe: that is how an open tells
 * a torn end from damage.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";
import { FirkinError, messageOf } from "../base/errors.ts";
import { Histogram } from "../base/histogram.ts";
import type { File } from "../fs/fs.ts";
import type { Log, LogEvent, SyncPolicy } from "./log.ts";
import { EMPTY, encodeMark, FLAG, KIND, type Kind, NO_CONTENT, recordBytes, type RecordFields } from "./record.ts";
import { isFull } from "./reserve.ts";
import { MARK_BYTES, type Segment, SEGMENT_HEADER_BYTES } from "./segment.ts";

/**
 * Under `always` the file is written ahead, with zeros: a sync takes a third less while the file's length stays
 * (docs/BENCHMARKS.md). The step is as long as the file, so that a small store stays small, and long against a group:
 * for larger ones the zeros cost what they save.
 */
const AHEAD_BYTES_MIN = 4 * 1024;
const AHEAD_BYTES_MAX = 64 * 1024;
const AHEAD_GROUPS_MIN = 4;

/**
 * Under `interval` and `os`, a sync that nobody waits for begins when so much is not on stable storage: a full segment
 * is synced under every policy before the next one begins, and all that is written then waits for it.
 */
const UNSYNCED_BYTES_MAX = 4 * 1024 * 1024;

/** An active segment of more bytes is sealed by a close: to check its records would take most of the next open. */
const UNSEALED_BYTES_MAX = 2 * 1024 * 1024;

/** What disks and systems write as a whole. */
const PAGE_BYTES = 4 * 1024;

/** What the group tells its owner of the changes that wait: all that were appended and not told of yet, in order. */
export interface GroupOwner {
  /** The store's time in epoch milliseconds, which never steps back. */
  now(): number;
  /** The oldest `changes` of them are as durable as the policy says. */
  committed(changes: number): void;
  /** The newest `changes` of them did not happen, or (`DURABILITY`, `LOCKED`) nobody can say. */
  failed(changes: number): void;
  report(event: LogEvent): void;
}

/** What one flush writes and answers: records of one segment only, so that rotation falls between two groups. */
class Group {
  readonly segment: Segment;
  /** The group's records are the segment's bytes from here to its tail. */
  readonly from: number;
  /** Its records, but for marks and the seal. */
  changes = 0;
  /** A take is among them. */
  mustSync = false;
  /** A set is among them: on a full disk the group gets no room. */
  sets = false;
  #committed: Promise<void> | undefined;
  #resolve!: () => void;
  #reject!: (error: FirkinError) => void;

  /** A group of what will be appended to the segment. */
  constructor(segment: Segment) {
    this.segment = segment;
    this.from = segment.tail;
  }

  /** Resolves when the group is committed; rejects when it has failed. */
  get committed(): Promise<void> {
    return this.#committed ??= new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Answers who waits, if anybody does. */
  end(error?: FirkinError): void {
    if (this.#committed === undefined) return;
    if (error === undefined) this.#resolve();
    else this.#reject(error);
  }
}

/** The end of the log, where groups are written. */
export class GroupCommit {
  /** The last revision that is visible. */
  committed: number;
  /** The last revision that is known to be on stable storage. */
  durable: number;
  /** The highest time of a record that is committed, marks included. */
  timeCommitted: number;
  /** How long syncs of the log took. */
  readonly syncs: Histogram = new Histogram();

  readonly #log: Log;
  readonly #clock: Clock;
  readonly #owner: GroupOwner;
  readonly #policy: SyncPolicy;
  readonly #syncIntervalMs: number;
  /** Groups that wait; the last one is still open. */
  #queue: Group[] = [];
  #scheduled = false;
  /** The store's time when it was last looked at. */
  #at = 0;
  /** The group that waits for the disk. */
  #flushing: Group | undefined;
  #syncTimer: Timer | undefined;
  #syncingBehind = false;
  /**
   * A group of this life is on stable storage. The first one is synced under every policy: behind the clean mark of the
   * last close, the loss of everything written since would look like a clean end, and the epoch would stay.
   */
  #begun = false;
  #failure: FirkinError | undefined;

  /** Writes at the end of `log`. */
  constructor(log: Log, clock: Clock, owner: GroupOwner, policy: SyncPolicy, syncIntervalMs: number) {
    this.#log = log;
    this.#clock = clock;
    this.#owner = owner;
    this.#policy = policy;
    this.#syncIntervalMs = syncIntervalMs;
    this.committed = log.revision;
    this.durable = log.revision;
    this.timeCommitted = log.timeMax;
    this.#failure = log.refusal;
    log.onLost = (error) => this.#poison(error);
  }

  /** True when a failed sync or a lost lock has ended all writing. */
  get poisoned(): boolean {
    return this.#failure !== undefined && this.#failure !== this.#log.refusal;
  }

  /** True while something waits to be committed. */
  get busy(): boolean {
    return this.#flushing !== undefined || this.#queue.length > 0;
  }

  /** Tells whether a record of this kind is taken now. @throws {FirkinError} FULL, or the log is poisoned */
  admit(kind: Kind): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (kind === KIND.set && this.#log.reserve.full) throw this.#full();
  }

  #full(): FirkinError {
    return new FirkinError("FULL", `Cannot write to ${this.#log.fileSystem.path}: the disk is full`);
  }

  /**
   * Gives the record the next revision and its time, and encodes it; returns its offset in what then is the active
   * segment.
   * @throws {FirkinError} FULL, or the log is poisoned
   */
  append(record: RecordFields): number {
    this.admit(record.kind);
    const offset = this.#append(this.#reserve(recordBytes(record)), record);
    this.#schedule();
    return offset;
  }

  /**
   * Appends the records of a batch, which count all or not at all; returns their offsets in what then is the active
   * segment.
   * @throws {FirkinError} FULL, or the log is poisoned
   */
  appendBatch(records: readonly RecordFields[]): number[] {
    for (const { kind } of records) this.admit(kind);
    const segment = this.#reserve(records.reduce((bytes, record) => bytes + recordBytes(record), 0));
    const last = records.length - 1;
    const offsets = records.map((record, index) => {
      if (index !== last) record.flags = (record.flags ?? 0) | FLAG.more;
      return this.#append(segment, record);
    });
    this.#schedule();
    return offsets;
  }

  /** Resolves when all that waits now is committed, rejects when it has failed; undefined when nothing waits. */
  get committing(): Promise<void> | undefined {
    return (this.#queue[this.#queue.length - 1] ?? this.#flushing)?.committed;
  }

  /** Writes a mark for the sake of its time, unless another record waits to be written. Failures are for the next. */
  keepTime(): void {
    if (this.#failure !== undefined || this.busy) return;
    let segment = this.#log.active;
    if (segment === undefined || !segment.hasRoom(0)) {
      if (segment !== undefined) this.#seal(segment);
      segment = this.#log.begin(0);
    }
    const from = segment.tail;
    this.#open(segment);
    if (segment.tail === from) this.#mark(segment, Math.max(segment.marked, segment.durable), 0);
    this.#log.timeMax = this.#owner.now();
    this.#schedule();
  }

  /** Seals the active segment, if it holds anything. @throws {FirkinError} FULL — there is no room for the seal */
  async rotate(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const { active } = this.#log;
    if (active !== undefined && active.tail > SEGMENT_HEADER_BYTES) this.#seal(active);
    this.#schedule();
    const error = await this.#settle() ?? this.#failure;
    if (error !== undefined) throw error;
  }

  /** Resolves when everything acknowledged before the call is on stable storage. */
  async sync(): Promise<void> {
    await this.#settle();
    if (this.#failure !== undefined) throw this.#failure;
    const unsynced = this.#log.segments.filter(({ durable, written }) => durable < written);
    for (const segment of unsynced) {
      // One that compaction has rewritten meanwhile is closed, and was synced before.
      if (segment.file !== undefined) await this.#syncFile(segment, segment.file);
    }
  }

  /** Resolves when what waits now is committed, or has failed with this error; what is asked later does not count. */
  async #settle(): Promise<FirkinError | undefined> {
    return await this.committing?.then(() => undefined, (error: FirkinError) => error);
  }

  /**
   * Commits what waits, syncs, and ends the log with a clean mark. Later appends fail with `CLOSED`. A long active
   * segment is sealed before: the next open then finds a hint of it.
   * @throws {FirkinError} what poisoned the log, when acknowledged changes may be lost by it
   */
  async close(): Promise<void> {
    await this.#settle();
    this.#syncTimer?.cancel();
    // Without room for a seal the next open reads the segment; what else fails poisons the log.
    if ((this.#log.active?.tail ?? 0) > UNSEALED_BYTES_MAX) await this.rotate().catch(() => {});
    const failure = this.#failure;
    this.#failure = new FirkinError("CLOSED", `Cannot write to ${this.#log.fileSystem.path}: the store is closed`);
    if (failure !== undefined && this.committed > this.durable) throw failure;
    const { active } = this.#log;
    if (failure !== undefined || active?.file === undefined || !this.#log.owned) return;
    if (!active.sealed) await this.#syncFile(active, active.file);
    try {
      await this.#log.reserve.withRoom(() => this.#markClean());
    } catch (error) {
      // Everything is on stable storage; without the mark the next open only cannot see that this was a close.
      if (!isFull(error)) throw error;
    }
  }

  /** Ends the log with a clean mark, which on a full disk is taken back. @throws {FirkinError} FULL */
  async #markClean(): Promise<void> {
    const active = this.#log.active!;
    // Behind a seal is no place for the mark, without which damage before the seal would pass for a tear.
    const segment = active.sealed ? this.#log.begin(0) : active;
    const from = segment.tail;
    this.#mark(segment, from + MARK_BYTES, FLAG.clean);
    try {
      if (segment.file === undefined) {
        await this.#log.createFile(segment);
        await this.#log.switchManifest();
      }
      segment.write(from, segment.tail);
      segment.trim();
    } catch (error) {
      // After a sync that failed the manifest on disk may name the new segment.
      if (error instanceof FirkinError && error.code === "DURABILITY") throw error;
      if (segment.listed) {
        segment.cut(from);
        segment.truncate(from);
        await segment.file!.sync();
      } else {
        this.#log.forget(segment);
      }
      throw error;
    }
    await segment.file!.sync();
  }

  // --- the open group ---

  /** The segment that takes the next `length` bytes of records, with its group open. */
  #reserve(length: number): Segment {
    let segment = this.#log.active;
    if (segment === undefined || !segment.hasRoom(length)) {
      if (segment !== undefined) this.#seal(segment);
      segment = this.#log.begin(length);
    }
    // What may fail for want of memory, before anything counts on it.
    segment.makeRoom(MARK_BYTES + length);
    this.#open(segment);
    return segment;
  }

  #append(segment: Segment, record: RecordFields): number {
    const group = this.#queue[this.#queue.length - 1]!;
    group.changes++;
    if (record.kind === KIND.take) group.mustSync = true;
    if (record.kind === KIND.set) group.sets = true;
    record.revision = ++this.#log.revision;
    // Where nothing is judged by it, one look at the time will do for a tick: it costs half as much as a record does.
    if (!this.#scheduled || record.kind !== KIND.set || record.expiresAt !== undefined) this.#at = this.#owner.now();
    record.at = this.#at;
    this.#log.timeMax = record.at;
    return segment.append(record);
  }

  /** Makes sure that the open group is one of `segment`; begins it with a mark when more is safe than was said. */
  #open(segment: Segment): void {
    if (this.#queue[this.#queue.length - 1]?.segment === segment) return;
    this.#queue.push(new Group(segment));
    if (segment.durable > segment.marked) this.#mark(segment, segment.durable, 0);
  }

  #seal(segment: Segment): void {
    if (segment.sealed) return;
    this.#open(segment);
    segment.seal(this.#log.revision, this.#at = this.#owner.now());
  }

  #mark(segment: Segment, durable: number, flags: number): void {
    const value = encodeMark(durable);
    const { revision } = this.#log;
    const at = this.#at = this.#owner.now();
    segment.append({ kind: KIND.mark, bucket: 0, revision, at, key: EMPTY, value, content: NO_CONTENT, flags });
    segment.marked = durable;
  }

  #schedule(): void {
    if (this.#scheduled || this.#flushing !== undefined) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  // --- flush ---

  /** Writes group after group; leaves the rest to `#flushAwaited` at the first one that must wait for the disk. */
  #flush(): void {
    for (let group = this.#queue.shift(); group !== undefined; group = this.#queue.shift()) {
      const { segment } = group;
      // A mark or a seal alone commits nothing.
      const revision = Math.max(this.committed, segment.lastRevision);
      const direct = this.#policy !== "always" && this.#begun && !group.mustSync && segment.listed &&
        !segment.sealed && !this.#log.hasNewBucket;
      const failure = direct ? this.#writeDirectly(group) : undefined;
      if (!direct || failure !== undefined) {
        this.#flushing = group;
        void this.#flushAwaited(group, revision, failure);
        return;
      }
      this.#commit(group, revision);
    }
  }

  /** Writes a group that nothing must be awaited for; returns why that was refused. */
  #writeDirectly({ segment, from, sets }: Group): unknown {
    if (sets && this.#log.reserve.full) return this.#full();
    try {
      segment.write(from, segment.tail);
    } catch (error) {
      return error;
    }
    this.#syncBehind(segment);
    this.#syncLater();
    return undefined;
  }

  /** Writes a group and what must be there before it; `failure` is why a direct write was refused. */
  async #flushAwaited(group: Group, revision: number, failure: unknown): Promise<void> {
    const { segment } = group;
    // What is appended while this waits belongs to the next group, and so does a seal.
    const { sealed, tail } = segment;
    failure ??= await this.#attempt(group, tail, sealed);
    while (isFull(failure) && this.#makeRoom(group, tail)) failure = await this.#attempt(group, tail, sealed);
    if (failure === undefined) {
      this.#flushing = undefined;
      if (segment.durable >= tail) this.durable = revision;
      this.#commit(group, revision);
      if (sealed) {
        this.#log.shelve(segment);
        this.#log.owner.sealed(segment);
      }
    } else if (failure instanceof FirkinError && failure.code === "DURABILITY") {
      this.#flushing = undefined;
      this.#poison(failure, group);
    } else {
      await this.#undo(group, failure);
    }
    this.#flush();
  }

  /** Does what makes a group durable, in order; returns why it is not. */
  async #attempt(group: Group, end: number, sealed: boolean): Promise<unknown> {
    const { segment } = group;
    if (group.sets && this.#log.reserve.full) return this.#full();
    try {
      if (sealed) this.#log.fence();
      if (!segment.listed && segment.file === undefined) await this.#log.createFile(segment);
      if (!segment.listed || this.#log.hasNewBucket) await this.#log.switchManifest();
      segment.write(group.from, end);
      if (sealed) segment.trim();
      else if (this.#policy === "always") writeAhead(segment, end - group.from);
      // A sealed segment is synced whatever the policy: the next one builds on it.
      if (sealed || group.mustSync || !this.#begun || this.#policy === "always") {
        await this.#sync(segment.file!);
        segment.durable = end;
        this.#begun = true;
      } else {
        this.#syncLater();
      }
    } catch (error) {
      // At once: compaction may be about to write a manifest, which must not name it.
      if (!segment.listed) segment.unmake();
      return error;
    }
    // A sync of the timer's may have failed meanwhile.
    return this.#failure;
  }

  /** The disk is full; true when there is room now to try a group again. */
  #makeRoom(group: Group, end: number): boolean {
    this.#log.reserve.noteFull();
    return !group.sets && this.#log.reserve.give(end - group.from);
  }

  #commit(group: Group, revision: number): void {
    this.committed = revision;
    // What was appended while the group was written counts a moment early.
    this.timeCommitted = this.#log.timeMax;
    this.#owner.committed(group.changes);
    group.end();
  }

  #fail(groups: readonly Group[], error: FirkinError): void {
    this.#owner.failed(groups.reduce((sum, { changes }) => sum + changes, 0));
    for (const group of groups) group.end(error);
  }

  /** Takes back everything that is not committed, in the file and in memory. */
  async #undo(group: Group, cause: unknown): Promise<void> {
    const error = cause instanceof FirkinError ? cause : new FirkinError("IO", messageOf(cause), { cause });
    let groups = [group];
    if (!this.#log.owned) {
      this.#flushing = undefined;
      return this.#poison(this.#failure!, group);
    }
    try {
      const { segment } = group;
      // Only this group has come as far as the file.
      if (segment.listed && segment.file !== undefined) {
        segment.truncate(group.from);
        await segment.file.sync();
      }
      // What was asked for meanwhile stands behind what is taken back, and goes with it.
      groups = [group, ...this.#queue];
      this.#queue = [];
      for (const { segment, from } of groups.toReversed()) {
        if (segment.listed) segment.cut(from);
        else if (segment === this.#log.active) this.#log.forget(segment);
      }
    } catch (second) {
      this.#flushing = undefined;
      const message = `Cannot undo a failed write: ${messageOf(second)}`;
      this.#poison(new FirkinError("DURABILITY", message, { cause: error }), ...groups);
      return;
    }
    this.#flushing = undefined;
    this.#fail(groups, error);
  }

  #poison(error: FirkinError, ...groups: Group[]): void {
    const known = this.#failure === error;
    this.#failure ??= error;
    const all = [...groups, ...this.#queue];
    this.#queue = [];
    this.#fail(all, error);
    if (!known) this.#owner.report({ type: "poisoned", error, revision: this.durable });
  }

  // --- policies interval and os ---

  #syncLater(): void {
    if (this.#policy !== "interval" || this.#syncTimer !== undefined) return;
    this.#syncTimer = this.#clock.after(this.#syncIntervalMs, () => {
      this.#syncTimer = undefined;
      const { active } = this.#log;
      // One that was sealed meanwhile is synced, and its file is the pool's.
      if (active?.file === undefined || (active.sealed && active.durable === active.tail)) return;
      // A failure has poisoned the log and been reported: nobody waits for this sync.
      this.#syncFile(active, active.file).catch(() => {});
    });
  }

  #syncBehind(segment: Segment): void {
    if (this.#syncingBehind || segment.written - segment.durable < UNSYNCED_BYTES_MAX) return;
    this.#syncingBehind = true;
    const done = (): void => void (this.#syncingBehind = false);
    // As with the timer's.
    this.#syncFile(segment, segment.file!).then(done, done);
  }

  async #syncFile(segment: Segment, file: File): Promise<void> {
    const end = segment.written;
    const { committed } = this;
    try {
      await this.#sync(file);
    } catch (cause) {
      const error = cause instanceof FirkinError ? cause : new FirkinError("DURABILITY", messageOf(cause), { cause });
      this.#poison(error);
      throw error;
    }
    segment.durable = Math.max(segment.durable, end);
    this.durable = Math.max(this.durable, committed);
  }

  async #sync(file: File): Promise<void> {
    const beganAt = this.#clock.monotonic();
    await file.sync();
    this.syncs.record(this.#clock.monotonic() - beganAt, 1);
  }
}

/** Writes zeros behind a group of `bytes` bytes, as long as the disk has room for them. */
function writeAhead(segment: Segment, bytes: number): void {
  if (segment.fileEnd > segment.written) return;
  const step = Math.min(Math.max(segment.written, AHEAD_BYTES_MIN), AHEAD_BYTES_MAX);
  if (bytes > step / AHEAD_GROUPS_MIN) return;
  try {
    segment.writeAhead(Math.ceil((segment.written + step) / PAGE_BYTES) * PAGE_BYTES);
  } catch (error) {
    if (!isFull(error)) throw error;
    // What is left belongs to the records.
    segment.trim();
  }
}
