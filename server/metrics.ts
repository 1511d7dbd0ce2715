/**
 * Counts of operations and connections, and how long operations take: plain numbers, added to where things happen and
 * read by `stats`.
 *
 * A count only grows, except the two that say how many there are now (`server.connections` and
 * `server.subscriptions`). A call of an operation is counted once, when it ends: as answered, or by the code of its
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
import type { EngineStats } from "../lib/engine/engine.ts";

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
  "stats",
  "sync",
  "compact",
] as const;

/** The name of an operation. */
export type OperationName = typeof OPERATIONS[number];

/** Each power of two of microseconds is split into this many buckets: a quantile is at most an eighth too high. */
const STEPS = 8;
const STEP_BITS = 3;
/** Longer ones count as this long: 2^30 microseconds are 18 minutes. */
const MICROSECONDS_MAX = 2 ** 30 - 1;
const BUCKETS = bucketOf(MICROSECONDS_MAX) + 1;

const SETTLED = Promise.resolve();
const CODES = Object.keys(ERRORS) as ErrorCode[];

/** How often something took how long. */
export class Histogram {
  readonly #counts: Float64Array = new Float64Array(BUCKETS);

  /** Counts `times` calls that took `milliseconds`. */
  record(milliseconds: number, times: number): void {
    this.#counts[bucketOf(Math.min(milliseconds * 1_000, MICROSECONDS_MAX) >>> 0)]! += times;
  }

  /** The microseconds that a share of all calls did not exceed; 0 when there were none. */
  quantile(share: number): number {
    const wanted = this.#counts.reduce((sum, count) => sum + count, 0) * share;
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.#counts[bucket]!;
      if (seen >= wanted && seen > 0) return boundOf(bucket);
    }
    return 0;
  }
}

/** What one server has counted since it started. */
export class Metrics {
  /** Connections open now. */
  connections = 0;
  connectionsTotal = 0;
  /** Subscriptions open now. */
  subscriptions = 0;
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
  bytesIn = 0;
  bytesOut = 0;
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
      "server.events": this.events,
      "server.errors": this.errors,
      "server.slowReaders": this.slowReaders,
      "server.authFailures": this.authFailures,
      "server.protocolErrors": this.protocolErrors,
      "server.bytesIn": this.bytesIn,
      "server.bytesOut": this.bytesOut,
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

// --- buckets of a histogram ---

/** The bucket of whole microseconds: below STEPS each has its own. */
function bucketOf(microseconds: number): number {
  if (microseconds < STEPS) return microseconds;
  const octave = 31 - STEP_BITS - Math.clz32(microseconds);
  return octave * STEPS + (microseconds >>> octave);
}

/** The longest whole microseconds of a bucket. */
function boundOf(bucket: number): number {
  if (bucket < STEPS) return bucket;
  const octave = Math.floor(bucket / STEPS) - 1;
  return ((bucket - octave * STEPS + 1) << octave) - 1;
}
