/**
 * Which run of sealed segments is worth compacting.
 *
 * In this order:
 *
 * 1. Neighbours that are each dead enough: `deadRatio` of the segment, or `deadBytes`. Old tombstones count as dead
 *    where they may go.
 * 2. Four or more neighbours below `smallBytes`, when their bytes fit in fewer segments. Each such run lowers the
 *    number of segments, so they come to an end.
 * 3. What stands before old tombstones and keeps them: from the first segment with a dead set record, so that
 *    everything before the run is clean, when the run as a whole is dead enough. A tombstone in the middle of the log
 *    so goes when as much is dead as must be copied for it.
 *
 * Everything a run writes is dead in no part, so none is chosen again before more dies.
 *
 * @module
 */
import { FirkinError } from "../base/errors.ts";
import type { Log } from "./log.ts";
import type { Segment } from "./segment.ts";

/** Hours of the day in UTC from `start` until `end`, which may be past midnight. */
export interface Hours {
  /** From 0 to below 24; 1.5 is half past one. */
  readonly start: number;
  /** Above 0, up to 24. */
  readonly end: number;
}

/** Options of {@link Candidates}. */
export interface CandidatesOptions {
  /** A sealed segment is worth rewriting when at least this part of it is dead. */
  readonly deadRatio: number;
  /** So it is when at least so many bytes of it are dead, whatever its size. */
  readonly deadBytes: number;
  /** Segments of fewer bytes are merged with their neighbours; at most half of a full segment. */
  readonly smallBytes: number;
  /** When runs may begin; undefined: at any time. */
  readonly window: Hours | undefined;
  /** Tombstones younger than this stay, milliseconds. */
  readonly tombstoneRetentionMs: number;
  readonly segmentBytesMax: number;
  /** For tests, whose segments are small: bytes of input in one run, {@link RUN_BYTES_MAX} when absent. */
  readonly runBytesMax?: number;
}

/** Small neighbours that are worth merging. */
const SMALL_MIN = 4;

/** Bytes of input in one run: bounds its memory, which holds the copies until they are in the keydir. */
const RUN_BYTES_MAX = 128 * 1024 * 1024;

const HOUR_MS = 3_600_000;

/** True when a segment never changes again and everything in it is visible. */
export function isRewritable(segment: Segment): boolean {
  return segment.settled;
}

/** As many of the first segments as one run takes, one at least. */
export function limited(segments: readonly Segment[], bytesMax: number = RUN_BYTES_MAX): Segment[] {
  let bytes = 0;
  let count = 0;
  while (count < segments.length && (count === 0 || bytes + segments[count]!.tail <= bytesMax)) {
    bytes += segments[count]!.tail;
    count++;
  }
  return segments.slice(0, count);
}

/**
 * No set record that a change up to this revision ended stands before `first`: tombstones up to it may go from there.
 */
export function cleanBefore(segments: readonly Segment[], first: Segment, committed: number): number {
  let revision = committed;
  for (const segment of segments) {
    if (segment === first) break;
    revision = Math.min(revision, cleanUpTo(segment, committed));
  }
  return revision;
}

function cleanUpTo(segment: Segment, committed: number): number {
  // Marks are dead, but keep nothing alive. Whatever of a segment is dead, a copy has nothing that was dead before it.
  return segment.deadBytes === segment.markBytes ? committed : segment.cleanRevision;
}

/** A segment as a run would find it. */
interface Judged {
  readonly segment: Segment;
  /** Bytes that a run which begins here would give back; undefined when it cannot be rewritten. */
  readonly dead: number | undefined;
  /** No set record in it is dead. */
  readonly clean: boolean;
}

/** What of a log may be worth a run. */
export class Candidates {
  readonly #log: Log;
  readonly #options: CandidatesOptions;
  /** They cannot be copied. */
  readonly #damaged = new Set<Segment>();

  /** Of this log. */
  constructor(log: Log, options: CandidatesOptions) {
    this.#log = log;
    this.#options = options;
  }

  /** The next run; empty when none is worth it, or not at this time of the day. */
  choose(now: number, committed: number): Segment[] {
    return this.#untilWindow(now) > 0 ? [] : this.#worthwhile(now, committed);
  }

  /** Milliseconds until it is worth to choose: 0 when there is a run, Infinity while nobody can say. */
  delayMs(now: number, committed: number): number {
    const untilWindow = this.#untilWindow(now);
    if (this.#worthwhile(now, committed).length > 0) return untilWindow;
    // Young tombstones grow old by themselves.
    const later = this.#worthwhile(Infinity, committed);
    if (later.length === 0) return Infinity;
    const youngest = later.reduce((time, segment) => Math.max(time, segment.tombstoneTime), 0);
    return Math.max(youngest + this.#options.tombstoneRetentionMs + 1 - now, untilWindow, 1);
  }

  /** The segment that gives back the most for the room it takes, undefined when none gives anything. */
  deadest(now: number, committed: number): Segment | undefined {
    let deadest: Segment | undefined;
    let most = 0;
    for (const { segment, dead } of this.#judged(now, committed)) {
      if (dead === undefined || dead / segment.tail <= most) continue;
      most = dead / segment.tail;
      deadest = segment;
    }
    return deadest;
  }

  /** Takes the segment that an error is about out of the choice; undefined when the error is about none. */
  noteDamage(error: unknown): Segment | undefined {
    if (!(error instanceof FirkinError) || error.code !== "CORRUPT") return undefined;
    const damaged = this.#log.segments.find(({ id }) => id === error.detail?.segment);
    if (damaged !== undefined) this.#damaged.add(damaged);
    return damaged;
  }

  #worthwhile(now: number, committed: number): Segment[] {
    const judged = this.#judged(now, committed);
    const dead = this.#dead(judged);
    if (dead.length > 0) return dead;
    const small = this.#small(judged);
    return small.length > 0 ? small : this.#beforeTombstones(judged, now);
  }

  /** Every segment of the log, in order. */
  #judged(now: number, committed: number): Judged[] {
    let clean = committed;
    for (const segment of this.#damaged) if (segment.replaced) this.#damaged.delete(segment);
    return this.#log.segments.map((segment) => {
      const old = segment.lastRevision <= clean && this.#isOld(segment, now) ? segment.tombstoneBytes : 0;
      const own = cleanUpTo(segment, committed);
      clean = Math.min(clean, own);
      const usable = isRewritable(segment) && !this.#damaged.has(segment);
      return { segment, dead: usable ? segment.deadBytes + old : undefined, clean: own === committed };
    });
  }

  #dead(judged: readonly Judged[]): Segment[] {
    const { deadRatio, deadBytes } = this.#options;
    const isWorth = ({ segment, dead }: Judged): boolean => {
      return dead !== undefined && dead > 0 && (dead >= segment.tail * deadRatio || dead >= deadBytes);
    };
    const start = judged.findIndex(isWorth);
    if (start === -1) return [];
    let end = start + 1;
    while (end < judged.length && isWorth(judged[end]!)) end++;
    return limited(judged.slice(start, end).map(({ segment }) => segment), this.#options.runBytesMax);
  }

  #small(judged: readonly Judged[]): Segment[] {
    let small: Segment[] = [];
    for (const { segment, dead } of judged) {
      if (dead !== undefined && segment.tail < this.#options.smallBytes) {
        small.push(segment);
        continue;
      }
      if (this.#isWorthMerging(limited(small, this.#options.runBytesMax))) break;
      small = [];
    }
    const run = limited(small, this.#options.runBytesMax);
    return this.#isWorthMerging(run) ? run : [];
  }

  #isWorthMerging(run: readonly Segment[]): boolean {
    const { smallBytes, segmentBytesMax } = this.#options;
    const bytes = run.reduce((sum, segment) => sum + segment.tail, 0);
    // An output is left for the next one when a record does not fit, which is smaller than a small segment.
    const outputs = Math.floor(bytes / (segmentBytesMax - smallBytes)) + 1;
    return run.length >= SMALL_MIN && outputs < run.length;
  }

  #beforeTombstones(judged: readonly Judged[], now: number): Segment[] {
    const start = judged.findIndex(({ clean, dead }) => !clean && dead !== undefined);
    if (start === -1) return [];
    let bytes = 0;
    let dead = 0;
    let end = start;
    for (let index = start; index < judged.length; index++) {
      const { segment, dead: own } = judged[index]!;
      if (own === undefined) break;
      const old = this.#isOld(segment, now);
      bytes += segment.tail;
      dead += segment.deadBytes + (old ? segment.tombstoneBytes : 0);
      if (old && segment.tombstoneBytes > 0 && dead >= bytes * this.#options.deadRatio) end = index + 1;
    }
    return limited(judged.slice(start, end).map(({ segment }) => segment), this.#options.runBytesMax);
  }

  #isOld(segment: Segment, now: number): boolean {
    return segment.tombstoneTime < now - this.#options.tombstoneRetentionMs;
  }

  /** Milliseconds until runs may begin. */
  #untilWindow(now: number): number {
    const { window } = this.#options;
    if (window === undefined) return 0;
    const hour = (now / HOUR_MS) % 24;
    const { start, end } = window;
    const inside = start < end ? hour >= start && hour < end : hour >= start || hour < end;
    return inside ? 0 : ((start - hour + 24) % 24) * HOUR_MS;
  }
}
