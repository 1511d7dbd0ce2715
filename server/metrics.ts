/**
 * Counts of operations and connections, and how long operations take: plain numbers, added to where things happen and
 * read by `stats`.
 *
 * A count only grows, except those that say how many there are now (`server.connections`, `server.subscriptions` and
 * `server.streams`). A call of an operation is counted once, when it ends: as answered, or by the code of its
 * error. One that was answered (a lost condition is an answer) is also put into the histogram of its operation.
 *
 * A look at the clock costs a tenth of a get, so calls that come together share two: those between `begin` and `end`
 * are timed from `begin`, and those that are answered at once until `end`. That is how long their client waits, since
 * their answers leave together. A call outside is timed by itself.
 *
 * @module
 */
import type { Clock } from "../lib/base/clock.ts";
import { type ErrorCode, ERRORS } from "../lib/base/errors.ts";
import { Histogram } from "../lib/base/histogram.ts";
import type { EngineEvent, EngineStats } from "../lib/engine/engine.ts";

/** What can be asked of a store, whatever the protocol. */
export const OPERATIONS = [
  "get",
  "getMany",
  "peek",
  "has",
  "list",
  "set",
  "setMany",
  "delete",
  "touch",
  "increment",
  "take",
  "atomic",
  "subscribe",
  "buckets",
  "stats",
  "sync",
  "compact",
  "administer",
] as const;

/** The name of an operation. */
export type OperationName = typeof OPERATIONS[number];

/** The methods that requests are counted by. */
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];

const SETTLED = Promise.resolve();
const CODES = Object.keys(ERRORS) as ErrorCode[];

/** What one server has counted since it started. */
export class Metrics {
  /** Connections open now, of WebSocket and Redis clients. */
  connections = 0;
  connectionsTotal = 0;
  /** Subscriptions open on them: to keys and channels, those by which Redis clients track, and watch missing keys. */
  subscriptions = 0;
  /** Event streams open now. */
  streams = 0;
  /** Subscribers told that their cursor lies beyond what the log holds. */
  resyncs = 0;
  /** Changes sent to subscribers. */
  events = 0;
  /** Requests that were answered with an error, those that got as far as an operation and others. */
  errors = 0;
  /** Connections closed because their reader fell behind. */
  slowReaders = 0;
  /** Wrong credentials, on any protocol. */
  authFailures = 0;
  /** Connections closed because of what came over them. */
  protocolErrors = 0;
  /** How old the first change was of those that a subscription reads at once. */
  readonly lag: Histogram = new Histogram();
  /** Plain requests by method and status, with a space between. */
  readonly requests: Map<string, number> = new Map();
  bytesIn = 0;
  bytesOut = 0;
  /** Bytes that wait to be sent on all connections, as far as they were looked at. */
  bytesWaiting = 0;
  messagesIn = 0;
  messagesOut = 0;

  readonly #clock: Clock;
  /** By the operation's place in OPERATIONS; the failures of one operation side by side, in the order of CODES. */
  readonly #answered: Float64Array = new Float64Array(OPERATIONS.length);
  readonly #failed: Float64Array = new Float64Array(OPERATIONS.length * CODES.length);
  readonly #latencies: readonly Histogram[] = OPERATIONS.map(() => new Histogram());
  /** Calls answered since `begin`, and the operations that there are any of. */
  readonly #untimed: Float64Array = new Float64Array(OPERATIONS.length);
  readonly #touched: Uint8Array = new Uint8Array(OPERATIONS.length);
  #touchedCount = 0;
  #depth = 0;
  #beganAt = 0;
  /** The time, while a row of calls is answered; NaN otherwise. */
  #now = NaN;
  readonly #forgetNow = (): void => {
    this.#now = NaN;
  };

  /** Times calls by the monotonic time of `clock`. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  // --- calls ---

  /** The calls that follow came together. Has its `end` in the same turn; may be nested. */
  begin(): void {
    if (this.#depth++ === 0) this.#beganAt = this.#clock.monotonic();
  }

  /** Their answers have been handed over. */
  end(): void {
    if (--this.#depth > 0 || this.#touchedCount === 0) return;
    const elapsed = this.#clock.monotonic() - this.#beganAt;
    for (let index = 0; index < this.#touchedCount; index++) {
      const operation = this.#touched[index]!;
      this.#latencies[operation]!.record(elapsed, this.#untimed[operation]!);
      this.#untimed[operation] = 0;
    }
    this.#touchedCount = 0;
  }

  /** When a call that runs now began: for {@link answeredAtOnce} and {@link answered}. */
  beganAt(): number {
    return this.#depth > 0 ? this.#beganAt : this.#clock.monotonic();
  }

  /** Counts a call of the operation at this place in {@link OPERATIONS} that was answered in the turn it came. */
  answeredAtOnce(operation: number, beganAt: number): void {
    if (this.#depth === 0) return this.answered(operation, beganAt);
    this.#answered[operation]!++;
    if (this.#untimed[operation]!++ === 0) this.#touched[this.#touchedCount++] = operation;
  }

  /** Counts one that was answered now. */
  answered(operation: number, beganAt: number): void {
    this.#answered[operation]!++;
    if (Number.isNaN(this.#now)) {
      this.#now = this.#clock.monotonic();
      // The writes of a group are answered in a row. (queueMicrotask costs twice as much in Node.)
      void SETTLED.then(this.#forgetNow);
    }
    this.#latencies[operation]!.record(this.#now - beganAt, 1);
  }

  /** Counts one that failed. */
  failed(operation: number, code: ErrorCode): void {
    this.#failed[operation * CODES.length + CODES.indexOf(code)]!++;
  }

  /** Counts a plain request that was answered. */
  requested(method: string, status: number): void {
    const labels = `${METHODS.includes(method) ? method : "other"} ${status}`;
    this.requests.set(labels, (this.requests.get(labels) ?? 0) + 1);
  }

  /** Notes how old the first of these events is, which a subscription has read at `wall`. */
  lagged(events: readonly EngineEvent[], wall: number): void {
    const [first] = events;
    if (first !== undefined && "at" in first) this.lag.record(Math.max(wall - first.at, 0), 1);
  }

  // --- reading ---

  /** How many calls of an operation were answered, or failed with a code. */
  count(name: OperationName, outcome: "answered" | ErrorCode): number {
    const operation = OPERATIONS.indexOf(name);
    if (outcome === "answered") return this.#answered[operation]!;
    return this.#failed[operation * CODES.length + CODES.indexOf(outcome)]!;
  }

  /** How long the answered calls of an operation took. */
  latency(name: OperationName): Histogram {
    return this.#latencies[OPERATIONS.indexOf(name)]!;
  }

  /** The counts by name, each beginning with `server.`; of operations, only what has happened beside its count. */
  read(): EngineStats {
    const stats: Record<string, number> = {
      "server.connections": this.connections,
      "server.connectionsTotal": this.connectionsTotal,
      "server.subscriptions": this.subscriptions,
      "server.streams": this.streams,
      "server.resyncs": this.resyncs,
      "server.events": this.events,
      "server.errors": this.errors,
      "server.slowReaders": this.slowReaders,
      "server.authFailures": this.authFailures,
      "server.protocolErrors": this.protocolErrors,
      "server.bytesIn": this.bytesIn,
      "server.bytesOut": this.bytesOut,
      "server.bytesWaiting": this.bytesWaiting,
      "server.messagesIn": this.messagesIn,
      "server.messagesOut": this.messagesOut,
    };
    for (const name of OPERATIONS) {
      stats[`server.op.${name}`] = this.count(name, "answered");
      for (const code of CODES) {
        const failures = this.count(name, code);
        if (failures > 0) stats[`server.failed.${name}.${code}`] = failures;
      }
      if (this.count(name, "answered") === 0) continue;
      stats[`server.p50Us.${name}`] = this.latency(name).quantile(0.5);
      stats[`server.p99Us.${name}`] = this.latency(name).quantile(0.99);
    }
    return stats;
  }
}
