/**
 * What is read and written: keys, values, and what a store must hold afterwards.
 *
 * Keys are `user:` and 16 hexadecimal digits, made anew for each call: a string that was looked up before carries its
 * hash, which would flatter a Map. Values are 100 bytes without a pattern, which begin with the number of their key and
 * of the write that made them. Everything follows from the seed, so nothing but a count of writes per key is kept, and
 * `verify` can tell every byte that a store should return.
 *
 * @module
 */
import type { Bucket } from "../mod.ts";

/** Keys in a store while it is measured. */
export const KEYS = 100_000;

/** Bytes of a value. */
export const VALUE_BYTES = 100;

/** Writes that are awaited together. */
export const GROUP = 1_000;

/** Entries that `verify` looks at. */
const SAMPLE = 200;

const POOL_BYTES = 65_536;
const KEY_BYTES = 21;
const decoder = new TextDecoder();

/** One `set`. */
export interface Write {
  readonly key: string;
  readonly value: Uint8Array;
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
  readonly #random = createRandom(1);
  readonly #pool = new Uint8Array(POOL_BYTES);
  readonly #keyBytes = new TextEncoder().encode("user:0123456789abcdef");
  /** How often each key was written. */
  readonly #writes = new Uint32Array(KEYS);

  constructor() {
    for (let index = 0; index < POOL_BYTES; index++) this.#pool[index] = this.#random(256);
  }

  /** A key that is there, any with equal chance. */
  present = (): string => this.#key(this.#random(KEYS));

  /** A key that is not there. */
  missing = (): string => this.#key(KEYS + this.#random(KEYS));

  /** A new value for a key that is there. The store has to hold it from here on. */
  overwrite = (): Write => this.#write(this.#random(KEYS));

  /** As many overwrites as are awaited together. */
  overwrites = (): Write[] => Array.from({ length: GROUP }, this.overwrite);

  /** A first value for every key, in groups. */
  *load(): Generator<Write[], void> {
    for (let first = 0; first < KEYS; first += GROUP) {
      yield Array.from({ length: GROUP }, (_, index) => this.#write(first + index));
    }
  }

  /** Compares a sample of the entries with what was written. @throws {Error} they differ */
  async verify(read: (key: string) => Uint8Array | undefined | Promise<Uint8Array | undefined>): Promise<void> {
    for (let count = 0; count < SAMPLE; count++) {
      const index = this.#random(KEYS);
      const found = await read(this.#key(index));
      const wanted = this.#value(index, this.#writes[index]!);
      if (found === undefined || found.length !== VALUE_BYTES || !wanted.every((byte, at) => byte === found[at])) {
        throw new Error(`Cannot trust the figures: ${this.#key(index)} has another value than was written`);
      }
      if (await read(this.missing()) !== undefined) throw new Error("Cannot trust the figures: a missing key is there");
    }
  }

  #write(index: number): Write {
    return { key: this.#key(index), value: this.#value(index, ++this.#writes[index]!) };
  }

  /** One flat string: a concatenation would be flattened by whoever reads it first, in the timed part. */
  #key(index: number): string {
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
    const start = mix(index ^ Math.imul(write, 0x9e3779b1)) % (POOL_BYTES - VALUE_BYTES);
    const value = new Uint8Array(VALUE_BYTES);
    value.set(this.#pool.subarray(start, start + VALUE_BYTES));
    new Uint32Array(value.buffer, 0, 2).set([index, write]);
    return value;
  }
}

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

/** MurmurHash3's finaliser: 32 bits to 32 bits, each way one to one. */
function mix(bits: number): number {
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
