/**
 * What is read and written: keys, values, and what a store must hold afterwards.
 *
 * Keys are `user:` and 16 hexadecimal digits, made anew for each call: a string that was looked up before carries its
 * hash, which would flatter a Map. Values are bytes without a pattern, which begin with the number of their key and
 * of the write that made them. Everything follows from the seed, so nothing but a count of writes per key is kept, and
 * every byte that a store should return can be told: of all of them by `verify`, of both ends by `endsOf`.
 *
 * @module
 */
import type { Bucket } from "../mod.ts";

/** Keys in a store while it is measured, unless a benchmark says otherwise. */
export const KEYS = 100_000;

/** Bytes of a value, unless a benchmark says otherwise. */
export const VALUE_BYTES = 100;

/** Bytes of a key. */
export const KEY_BYTES = 21;

/** Writes that are awaited together. */
export const GROUP = 1_000;

/** Entries that `verify` looks at. */
const SAMPLE = 200;

/** Prime, and no divisor of any number of keys: it takes 0 to n - 1 through all of them, far from one another. */
const STRIDE = 600_011;

/** How uneven "zipf" is: a few keys get most of the reads, as YCSB has it. */
const THETA = 0.99;

const POOL_BYTES = 65_536;
const decoder = new TextDecoder();

/** One `set`. */
export interface Write {
  readonly key: string;
  readonly value: Uint8Array;
  /** The number of the key. */
  readonly index: number;
}

/** A sequence of numbers below `limit` without a pattern, the same in every run. */
export function createRandom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x9e3779b9) | 0;
    return Math.floor((mix(state) / 0x100000000) * limit);
  };
}

/** The keys and values of one store. */
export class Workload {
  /** How many keys are there. */
  readonly keys: number;
  readonly #valueBytes: number;
  readonly #random = createRandom(1);
  readonly #pool = new Uint8Array(POOL_BYTES);
  readonly #keyBytes = new TextEncoder().encode("user:0123456789abcdef");
  /** How often each key was written. */
  readonly #writes: Uint32Array;
  #zipf: ((share: number) => number) | undefined;

  constructor(keys: number = KEYS, valueBytes: number = VALUE_BYTES) {
    if (keys % STRIDE === 0) throw new RangeError(`Cannot spread ${keys} keys`);
    this.keys = keys;
    this.#valueBytes = valueBytes;
    this.#writes = new Uint32Array(keys);
    for (let index = 0; index < POOL_BYTES; index++) {
      this.#pool[index] = this.#random(256);
    }
  }

  /** A key that is there, any with equal chance. */
  present = (): string => this.key(this.#random(this.keys));

  /** A key that is not there. */
  missing = (): string => this.key(this.keys + this.#random(this.keys));

  /** A new value for a key that is there. The store has to hold it from here on. */
  overwrite = (): Write => this.write(this.#random(this.keys));

  /** As many overwrites as are awaited together. */
  overwrites = (): Write[] => Array.from({ length: GROUP }, this.overwrite);

  /** A first value for every key, in groups. */
  *load(): Generator<Write[], void> {
    for (let first = 0; first < this.keys; first += GROUP) {
      const length = Math.min(GROUP, this.keys - first);
      yield Array.from({ length }, (_, index) => this.write(first + index));
    }
  }

  /** The number of a key that is there, any of the first `limit` with equal chance. */
  uniform(limit: number = this.keys): number {
    return this.#random(limit);
  }

  /** The number of one of `count` keys, which were loaded far from one another. */
  hot(count: number): number {
    return this.#spread(this.#random(count));
  }

  /** The number of a key that is there, few of them with great chance. */
  zipf(): number {
    this.#zipf ??= createZipf(this.keys);
    return this.#spread(this.#zipf(this.#random(0x1000000) / 0x1000000));
  }

  /** A new value for the key of a number. The store has to hold it from here on. */
  write(index: number): Write {
    return { key: this.key(index), value: this.#value(index, ++this.#writes[index]!), index };
  }

  /** How often the key of a number was written. */
  writesOf(index: number): number {
    return this.#writes[index]!;
  }

  /** What {@link ends} makes of the value that a key's `write`th write gave it. */
  endsOf(index: number, write: number = this.#writes[index]!): number {
    return (index & 0xff) + this.#pool[this.#start(index, write) + this.#valueBytes - 1]!;
  }

  /** Compares a sample of the first `limit` entries with what was written. @throws {Error} they differ */
  async verify(
    read: (key: string, index: number) => MaybePromise<Uint8Array | undefined>,
    limit: number = this.keys,
  ): Promise<void> {
    for (let count = 0; count < SAMPLE; count++) {
      const index = this.#random(limit);
      const found = await read(this.key(index), index);
      const wanted = this.#value(index, this.#writes[index]!);
      if (
        found === undefined || found.length !== wanted.length || !wanted.every((byte, at) => byte === found[at])
      ) {
        throw new Error(`Cannot trust the figures: ${this.key(index)} has another value than was written`);
      }
      const absent = this.keys + index;
      if (await read(this.key(absent), absent) !== undefined) {
        throw new Error("Cannot trust the figures: a missing key is there");
      }
    }
  }

  /** The key of a number: one flat string. A concatenation would be flattened by who reads it, in the timed part. */
  key(index: number): string {
    const bytes = this.#keyBytes;
    let bits = mix(index); // A bijection: no two keys are equal.
    for (let at = KEY_BYTES - 16; at < KEY_BYTES; at++) {
      if (at === KEY_BYTES - 8) bits = mix(~index);
      bytes[at] = "0123456789abcdef".charCodeAt(bits & 15);
      bits >>>= 4;
    }
    return decoder.decode(bytes);
  }

  #value(index: number, write: number): Uint8Array {
    const start = this.#start(index, write);
    const value = this.#pool.slice(start, start + this.#valueBytes);
    for (let at = 0; at < 4; at++) {
      value[at] = index >>> (at * 8);
      value[at + 4] = write >>> (at * 8);
    }
    return value;
  }

  #start(index: number, write: number): number {
    return mix(index ^ Math.imul(write, 0x9e3779b1)) %
      (POOL_BYTES - this.#valueBytes);
  }

  /** One to one, and neighbours far apart. */
  #spread(rank: number): number {
    return (rank * STRIDE) % this.keys;
  }
}

/** What may have to be awaited. */
export type MaybePromise<Result> = Result | Promise<Result>;

/** Writes every key of the workload, {@link GROUP} at a time. */
export async function load(workload: Workload, bucket: Bucket<Uint8Array>): Promise<void> {
  for (const group of workload.load()) await setAll(bucket, group);
}

/** Writes a group, awaited together. */
export async function setAll(bucket: Bucket<Uint8Array>, group: readonly Write[]): Promise<void> {
  await Promise.all(group.map(({ key, value }) => bucket.set(key, value)));
}

/** Touches both ends of a value that has to be there, as whoever reads it would. */
export function ends(value: Uint8Array | undefined): number {
  if (value === undefined) throw new Error("Cannot trust the figures: a key that was written is missing");
  return value[0]! + value[value.length - 1]!;
}

/** Ranks below `count`, by Gray et al. ("Quickly generating billion-record synthetic databases", 1994). */
function createZipf(count: number): (share: number) => number {
  const zeta = (ranks: number): number => {
    let sum = 0;
    for (let rank = 1; rank <= ranks; rank++) sum += rank ** -THETA;
    return sum;
  };
  const all = zeta(count);
  const eta = (1 - (2 / count) ** (1 - THETA)) / (1 - zeta(2) / all);
  return (share) => {
    if (share * all < 1) return 0;
    if (share * all < zeta(2)) return 1;
    return Math.min(Math.floor(count * (eta * share - eta + 1) ** (1 / (1 - THETA))), count - 1);
  };
}

/** MurmurHash3's finaliser: 32 bits to 32 bits, each way one to one. */
function mix(bits: number): number {
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
