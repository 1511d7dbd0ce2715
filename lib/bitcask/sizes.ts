/**
 * How many keys each bucket has, and how many bytes their records take.
 *
 * Two numbers per bucket, changed where the keydir changes (`live.ts`) and read from hints at an open (`replay.ts`), so
 * that they are as exact as the number of all keys: a key counts from the moment a set of it is visible until a
 * tombstone is. A set of a key that is there counts twice for the moment between the two, and then the record that it
 * has replaced is taken off: whoever replaces a record looks at it anyhow, for the dead bytes of its segment.
 *
 * @module
 */

/** Room for so many buckets at first. */
const BUCKETS_MIN = 16;

/** Keys and bytes by the number of their bucket. */
export class BucketSizes {
  #keys = new Float64Array(BUCKETS_MIN);
  #bytes = new Float64Array(BUCKETS_MIN);

  /** So many keys more, whose newest records have so many bytes; or, with negative ones, less. */
  add(bucket: number, keys: number, bytes: number): void {
    if (bucket >= this.#keys.length) this.#grow(bucket);
    this.#keys[bucket]! += keys;
    this.#bytes[bucket]! += bytes;
  }

  /** Keys of a bucket. */
  keysOf(bucket: number): number {
    return this.#keys[bucket] ?? 0;
  }

  /** Bytes of their records in the log: header, key, and the value as it is stored. */
  bytesOf(bucket: number): number {
    return this.#bytes[bucket] ?? 0;
  }

  #grow(bucket: number): void {
    const capacity = Math.max(2 * this.#keys.length, bucket + 1);
    const [keys, bytes] = [this.#keys, this.#bytes];
    this.#keys = new Float64Array(capacity);
    this.#bytes = new Float64Array(capacity);
    this.#keys.set(keys);
    this.#bytes.set(bytes);
  }
}
