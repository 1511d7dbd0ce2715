/**
 * The last quarter of an hour in figures: one row a second, for charts of a page that has just been opened.
 *
 * A row says what happened in the second before it (counts and durations as differences) or how much there was at its
 * end. Rows stand in one ring of numbers, so that memory is bounded and the garbage collector sees one array. What a
 * dashboard asks to draw itself is not counted as an operation of the store.
 *
 * @module
 */
import process from "node:process";
import type { Clock, Timer } from "../lib/base/clock.ts";
import { Histogram } from "../lib/base/histogram.ts";
import type { Engine, EngineStats } from "../lib/engine/engine.ts";
import { type Metrics, type OperationName, OPERATIONS } from "./metrics.ts";

/** Time between two rows. */
const STEP_MS = 1_000;
/** A quarter of an hour. */
const ROWS = 900;

/** What a row has, in this order; `at` is epoch milliseconds. */
export const HISTORY_COLUMNS = [
  "at",
  "operations", // a second
  "failures",
  "reads",
  "writes",
  "events", // changes sent to subscribers
  "p50Us", // of the operations of that second
  "p99Us",
  "connections", // event streams are some, too
  "subscriptions",
  "keys",
  "logBytes",
  "deadBytes",
  "indexBytes", // keydir, order of keys, deadlines
  "cacheBytes",
  "rssBytes", // of the process
  "cpu", // of the process: 1 is one core
  "expiries",
  "latenessP50Ms", // of the expiries of that second
  "latenessP99Ms",
  "syncs",
  "syncP50Ms", // of the syncs of that second
  "syncP99Ms",
  "compactedBytes", // written by compaction
  "bytesIn",
  "bytesOut",
] as const;

/** A name of a column. */
export type HistoryColumn = typeof HISTORY_COLUMNS[number];

const WIDTH = HISTORY_COLUMNS.length;

/** Operations that keep a dashboard going. */
const OWN: ReadonlySet<OperationName> = new Set(["stats", "administer", "buckets"]);
const WRITES: ReadonlySet<OperationName> = new Set([
  "set",
  "setMany",
  "delete",
  "touch",
  "increment",
  "take",
  "atomic",
]);
const COUNTED = OPERATIONS.filter((name) => !OWN.has(name));

/** What a history looks at. */
export interface HistoryOptions {
  readonly engine: Engine;
  readonly metrics: Metrics;
  readonly clock: Clock;
  /** Told when figures could not be had. */
  readonly onFailure: (error: unknown) => void;
}

/** Everything that only grows, at one moment. */
interface Reading {
  readonly monotonic: number;
  readonly stats: EngineStats;
  /** Of operations, expiries and syncs. */
  readonly latency: Histogram;
  readonly lateness: Histogram;
  readonly sync: Histogram;
  readonly counts: Readonly<Record<string, number>>;
}

/** The figures of one server. */
export class History {
  readonly #options: HistoryOptions;
  readonly #rows: Float64Array = new Float64Array(ROWS * WIDTH);
  /** Rows that were ever written. */
  #written = 0;
  #before: Reading | undefined;
  #timer: Timer | undefined;
  #ended = false;

  /** No rows yet. */
  constructor(options: HistoryOptions) {
    this.#options = options;
  }

  /** Adds a row every second from now on. */
  begin(): void {
    this.#timer = this.#options.clock.after(STEP_MS, () => void this.#step());
    void this.#look();
  }

  /** Adds no more rows. */
  end(): void {
    this.#ended = true;
    this.#timer?.cancel();
  }

  /** The rows that are later than `after` (epoch milliseconds), oldest first. */
  read(after: number): number[][] {
    const rows: number[][] = [];
    for (let row = Math.max(this.#written - ROWS, 0); row < this.#written; row++) {
      const start = (row % ROWS) * WIDTH;
      if (this.#rows[start]! > after) rows.push([...this.#rows.subarray(start, start + WIDTH)]);
    }
    return rows;
  }

  async #step(): Promise<void> {
    const before = this.#before;
    await this.#look();
    if (this.#ended) return;
    if (before !== undefined && this.#before !== undefined && this.#before !== before) {
      this.#write(rowOf(before, this.#before, this.#options));
    }
    this.#timer = this.#options.clock.after(STEP_MS, () => void this.#step());
  }

  async #look(): Promise<void> {
    const { engine, metrics, clock, onFailure } = this.#options;
    try {
      const stats = await engine.stats();
      const { expiry, sync } = engine.durations?.() ?? {};
      const copy = (histogram: Histogram | undefined): Histogram => new Histogram().add(histogram ? [histogram] : []);
      this.#before = {
        monotonic: clock.monotonic(),
        stats,
        latency: new Histogram().add(COUNTED.map((name) => metrics.latency(name))),
        lateness: copy(expiry),
        sync: copy(sync),
        counts: countsOf(metrics, stats),
      };
    } catch (error) {
      // The store of a server that closes may be closed before it.
      if (!this.#ended) onFailure(error);
    }
  }

  #write(row: Readonly<Record<HistoryColumn, number>>): void {
    const start = (this.#written++ % ROWS) * WIDTH;
    HISTORY_COLUMNS.forEach((name, column) => this.#rows[start + column] = row[name]);
  }
}

function countsOf(metrics: Metrics, stats: EngineStats): Record<string, number> {
  const answered = (names: readonly OperationName[]): number =>
    names.reduce((sum, name) => sum + metrics.count(name, "answered"), 0);
  const cpu = process.cpuUsage();
  return {
    writes: answered(COUNTED.filter((name) => WRITES.has(name))),
    reads: answered(COUNTED.filter((name) => !WRITES.has(name))),
    failures: metrics.errors,
    events: metrics.events,
    bytesIn: metrics.bytesIn,
    bytesOut: metrics.bytesOut,
    expiries: stats["expiry.count"] ?? 0,
    syncs: stats["sync.count"] ?? 0,
    compactedBytes: stats["compaction.writtenBytes"] ?? 0,
    cpuMs: (cpu.user + cpu.system) / 1_000,
  };
}

function rowOf(
  before: Reading,
  now: Reading,
  { metrics, clock }: HistoryOptions,
): Readonly<Record<HistoryColumn, number>> {
  const seconds = (now.monotonic - before.monotonic) / 1_000;
  const grown = (name: string): number => now.counts[name]! - before.counts[name]!;
  const rate = (name: string): number => grown(name) / seconds;
  const there = (name: string): number => now.stats[name] ?? 0;
  const latency = now.latency.since(before.latency);
  const lateness = now.lateness.since(before.lateness);
  const sync = now.sync.since(before.sync);
  return {
    at: Math.round(clock.wall()),
    operations: rate("reads") + rate("writes"),
    failures: rate("failures"),
    reads: rate("reads"),
    writes: rate("writes"),
    events: rate("events"),
    p50Us: latency.quantile(0.5),
    p99Us: latency.quantile(0.99),
    connections: metrics.connections + metrics.streams,
    subscriptions: metrics.subscriptions + metrics.streams,
    keys: there("keys"),
    logBytes: there("log.bytes"),
    deadBytes: there("log.deadBytes"),
    indexBytes: there("memory.keydirBytes") + there("memory.orderBytes") + there("memory.deadlineBytes"),
    cacheBytes: there("memory.cacheBytes"),
    rssBytes: process.memoryUsage().rss,
    cpu: grown("cpuMs") / (seconds * 1_000),
    expiries: rate("expiries"),
    latenessP50Ms: lateness.quantile(0.5) / 1_000,
    latenessP99Ms: lateness.quantile(0.99) / 1_000,
    syncs: rate("syncs"),
    syncP50Ms: sync.quantile(0.5) / 1_000,
    syncP99Ms: sync.quantile(0.99) / 1_000,
    compactedBytes: rate("compactedBytes"),
    bytesIn: rate("bytesIn"),
    bytesOut: rate("bytesOut"),
  };
}
