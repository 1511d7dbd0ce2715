/**
 * Seeded numbers: the same seed gives the same run, on every runtime.
 *
 * @module
 */

/** Numbers that look random (mulberry32). */
export class Random {
  #state: number;

  /** The sequence of `seed`. */
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  /** One of `items`. */
  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }
}

/** A seed out of several numbers, each of which changes all of it. */
export function mixSeeds(...seeds: readonly number[]): number {
  let mixed = 0x9e3779b9;
  for (const seed of seeds) {
    mixed = Math.imul(mixed ^ seed, 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    mixed ^= mixed >>> 16;
  }
  return mixed >>> 0;
}

/** A hash of bytes, from `seed` on: 53 bits, for telling states apart. */
export function hashBytes(bytes: Uint8Array, seed = 0): number {
  let low = 0xdeadbeef ^ seed;
  let high = 0x41c6ce57 ^ Math.floor(seed / 0x100000000);
  for (let index = 0; index < bytes.length; index++) {
    low = Math.imul(low ^ bytes[index]!, 0x9e3779b1);
    high = Math.imul(high ^ bytes[index]!, 0x5f356495);
  }
  low = Math.imul(low ^ (low >>> 16) ^ bytes.length, 0x85ebca6b) ^ Math.imul(high ^ (high >>> 13), 0xc2b2ae35);
  high = Math.imul(high ^ (high >>> 16), 0x85ebca6b) ^ Math.imul(low ^ (low >>> 13), 0xc2b2ae35);
  return (high & 0x1fffff) * 0x100000000 + (low >>> 0);
}

/** A hash of a text. */
export function hashText(text: string, seed = 0): number {
  return hashBytes(new TextEncoder().encode(text), seed);
}
