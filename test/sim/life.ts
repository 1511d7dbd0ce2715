/**
 * One life of a store: an embedded engine on a simulated disk, from open to close, with a clock that stands still; and
 * what can be read of it.
 *
 * @module
 */
import { ManualClock } from "../../lib/base/clock.ts";
import type { SyncPolicy } from "../../lib/bitcask/log.ts";
import { type EmbeddedEngine, openEmbedded } from "../../lib/engine/embedded.ts";
import type { Entry } from "../../lib/engine/engine.ts";
import type { SimDisk } from "./disk.ts";

// --- setup ---

/** How the store is opened. */
export interface Setup {
  readonly policy: SyncPolicy;
  readonly segmentBytes: number;
  /** "small": compaction by itself, in small runs and slices, and tombstones go as soon as they may. */
  readonly compaction: "whole" | "small";
  readonly seed: number;
}

/** A setup as its name in a workload. */
export function nameOfSetup({ policy, segmentBytes, compaction, seed }: Setup): string {
  return `${policy}-${segmentBytes}-${compaction}-${seed}`;
}

/** The setup behind a name. */
export function setupOf(name: string): Setup {
  const [policy, segmentBytes, compaction, seed] = name.split("-");
  return {
    policy: policy as SyncPolicy,
    segmentBytes: Number(segmentBytes),
    compaction: compaction as Setup["compaction"],
    seed: Number(seed),
  };
}

/** A step of the clock. Interval syncs come within it. */
export const TICK_MS = 1_000;
const SYNC_INTERVAL_MS = 200;

/** Turns of the microtask queue after which a store that waits for nothing has done all it will. */
const SETTLE_TURNS = 40;
const TURNS_MAX = 20_000;

/** Buckets of all workloads; a key is named `b/a`. */
const BUCKETS = ["b", "c"] as const;

// --- one life of a store ---

/** What a key is: its bytes as text, one character each. */
export interface Item {
  readonly value: string;
  readonly revision: number;
  readonly expiresAt?: number | undefined;
  /** Only of single-read keys, whose value nobody sees: the value that a taker gets, "" when it is not known. */
  readonly hidden?: string | undefined;
}

/** A store's keys. */
export type State = ReadonlyMap<string, Item>;

/** A store on a disk with a clock of its own, from open to close. */
export class Life {
  readonly disk: SimDisk;
  readonly clock: ManualClock;
  readonly engine: EmbeddedEngine;
  /** A sync has failed: nothing is promised any more. */
  readonly isPoisoned: () => boolean;

  /** For {@link Life.open}. */
  constructor(disk: SimDisk, clock: ManualClock, engine: EmbeddedEngine, isPoisoned: () => boolean) {
    this.disk = disk;
    this.clock = clock;
    this.engine = engine;
    this.isPoisoned = isPoisoned;
  }

  static async open(disk: SimDisk, clock: ManualClock, setup: Setup): Promise<Life> {
    const small = setup.compaction === "small";
    let poisoned = false;
    const opened = openEmbedded({
      fileSystem: disk,
      clock,
      sync: setup.policy,
      syncIntervalMs: SYNC_INTERVAL_MS,
      // A few frames, so that they are used again.
      cacheBytesMax: 16 * 1024,
      segmentBytesMax: setup.segmentBytes,
      keyBytesMax: 1_024,
      valueBytesMax: 1024 * 1024,
      batchOperationsMax: 1_000,
      batchBytesMax: 1024 * 1024,
      compressBytesMin: Infinity,
      filesMax: 8,
      // Small enough to be written often: a reserve that fills has calls of its own.
      reserveBytes: small ? 256 : 0,
      automatic: small,
      deadRatio: 0.5,
      deadBytes: Infinity,
      smallBytes: small ? setup.segmentBytes >> 1 : 0,
      window: undefined,
      tombstoneRetentionMs: small ? 0 : TICK_MS + TICK_MS / 2,
      ...(small ? { sliceBytes: 64, runBytesMax: 2 * setup.segmentBytes } : {}),
      report: ({ type }) => poisoned ||= type === "poisoned",
    });
    return new Life(disk, clock, await finish(clock, opened), () => poisoned);
  }

  /** Everything that can be read now. A key that listings and `getSync` disagree on is a problem. */
  async observe(problems: string[], keys: Iterable<string> = []): Promise<State> {
    const state = new Map<string, Item>();
    for (const bucket of BUCKETS) {
      const { entries } = await finish(this.clock, this.engine.list(bucket, { limit: 1_000 }));
      for (const entry of entries) state.set(`${bucket}/${textOf(entry.key)}`, itemOf(entry));
    }
    for (const key of new Set([...keys, ...state.keys()])) {
      const entry = this.engine.getSync(bucketOf(key), keyOf(key));
      const listed = state.get(key);
      const got = entry === undefined ? undefined : itemOf(entry);
      if (JSON.stringify(got) !== JSON.stringify(listed)) {
        problems.push(`${key} is listed as ${show(listed)} and got as ${show(got)}`);
      }
    }
    return state;
  }

  /** Lets everything happen that needs no time. */
  async settle(): Promise<void> {
    await settle(this.clock);
  }

  async close(): Promise<void> {
    await finish(this.clock, this.engine.close());
  }
}

/** A clock for a life that begins at `wall`. */
export function clockAt(wall: number, setup: Setup): ManualClock {
  return new ManualClock(wall, setup.seed);
}

/** What `promise` resolves to; timers that are due at once run meanwhile. */
export async function finish<Result>(clock: ManualClock, promise: Promise<Result>): Promise<Result> {
  let settled = false;
  const done = (): void => void (settled = true);
  promise.then(done, done);
  for (let turn = 0; !settled; turn++) {
    if (turn === TURNS_MAX) throw new Error("Cannot finish: nothing happens any more");
    clock.advance(0);
    await Promise.resolve();
  }
  return await promise;
}

/** Lets everything happen that needs no time. */
export async function settle(clock: ManualClock): Promise<void> {
  for (let turn = 0; turn < SETTLE_TURNS; turn++) {
    clock.advance(0);
    await Promise.resolve();
  }
}

// --- states ---

/**
 * Why `found` is not `expected`, if it is not. A key whose deadline is no later than `wall` must be gone, one whose
 * deadline is later than `wallMax`, the latest time that the store may have seen, must be there.
 */
export function differs(found: State, expected: State, wall: number, wallMax: number): string | undefined {
  for (const [key, item] of found) {
    const wanted = expected.get(key);
    const due = item.expiresAt !== undefined && item.expiresAt <= wall;
    if (due || wanted === undefined || !isSame(item, wanted)) {
      return `${key} is ${show(item)}, not ${show(wanted)}${due ? ", and due" : ""}`;
    }
  }
  for (const [key, item] of expected) {
    if (found.has(key) || (item.expiresAt ?? Infinity) <= wallMax) continue;
    return `${key} is missing, not ${show(item)}`;
  }
  return undefined;
}

function isSame(one: Item, other: Item): boolean {
  return one.value === other.value && one.revision === other.revision && one.expiresAt === other.expiresAt &&
    (one.hidden === undefined) === (other.hidden === undefined);
}

/** An item in short. */
export function show(item: Item | undefined): string {
  if (item === undefined) return "missing";
  const value = item.hidden === undefined ? item.value : `hidden ${item.hidden}`;
  return `${value} (revision ${item.revision}${item.expiresAt === undefined ? "" : `, until ${item.expiresAt}`})`;
}

// --- texts ---

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The UTF-8 of a text. */
export function bytesOf(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The text behind UTF-8. */
export function textOf(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** One character a byte. */
export function latinOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function itemOf(entry: Entry): Item {
  const { revision, expiresAt, once } = entry;
  return { value: latinOf(entry.value), revision, expiresAt, hidden: once === true ? "" : undefined };
}

/** The bucket of a key's name. */
export function bucketOf(key: string): string {
  return key.slice(0, key.indexOf("/"));
}

/** The key itself. */
export function keyOf(key: string): Uint8Array {
  return bytesOf(key.slice(key.indexOf("/") + 1));
}
