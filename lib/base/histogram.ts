/**
 * How long things take: counts of durations, in buckets that grow with them.
 *
 * A few kilobytes tell any quantile to an eighth, whatever was counted; counting is an addition.
 *
 * @module
 */

/** Each power of two of microseconds is split into this many buckets: a quantile is at most an eighth too high. */
const STEPS = 8;
const STEP_BITS = 3;
/** Longer ones count as this long: 2^30 microseconds are 18 minutes. */
const MICROSECONDS_MAX = 2 ** 30 - 1;
const BUCKETS = bucketOf(MICROSECONDS_MAX) + 1;

/** What a histogram says as figures that begin with `name`: none while it is empty. */
export function summaryOf(name: string, histogram: Histogram): Record<string, number> {
  if (histogram.count === 0) return {};
  return {
    [`${name}.count`]: histogram.count,
    [`${name}.milliseconds`]: histogram.milliseconds,
    [`${name}.p50Us`]: histogram.quantile(0.5),
    [`${name}.p99Us`]: histogram.quantile(0.99),
  };
}

/** How often something took how long. */
export class Histogram {
  /** Calls. */
  count = 0;
  /** How long all of them took. */
  milliseconds = 0;
  readonly #counts: Float64Array = new Float64Array(BUCKETS);

  /** Counts `times` calls that took `milliseconds`. */
  record(milliseconds: number, times: number): void {
    this.count += times;
    this.milliseconds += milliseconds * times;
    this.#counts[bucketOf(Math.min(milliseconds * 1_000, MICROSECONDS_MAX) >>> 0)]! += times;
  }

  /** Counts as well what all of `others` have counted. */
  add(others: Iterable<Histogram>): this {
    for (const other of others) this.#combine(other, 1);
    return this;
  }

  /** What has been counted since this was like `before`. */
  since(before: Histogram): Histogram {
    const difference = new Histogram().add([this]);
    difference.#combine(before, -1);
    return difference;
  }

  #combine(other: Histogram, sign: number): void {
    this.count += sign * other.count;
    this.milliseconds += sign * other.milliseconds;
    for (let bucket = 0; bucket < BUCKETS; bucket++) this.#counts[bucket]! += sign * other.#counts[bucket]!;
  }

  /** The microseconds that a share of all calls did not exceed; 0 when there were none. */
  quantile(share: number): number {
    const wanted = this.count * share;
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.#counts[bucket]!;
      if (seen >= wanted && seen > 0) return boundOf(bucket);
    }
    return 0;
  }

  /** Calls that took less than so many microseconds, a power of two of 8 or more. */
  countBelow(microseconds: number): number {
    let below = 0;
    for (let bucket = bucketOf(microseconds) - 1; bucket >= 0; bucket--) below += this.#counts[bucket]!;
    return below;
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
