/**
 * Numbers that a seed decides, and a runtime's share of many.
 *
 * @module
 */
import process from "node:process";

/** Seeded numbers from 0 to below `limit` (mulberry32). */
export function randomOf(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

const { versions } = process;
const RUNTIME = versions["bun"] !== undefined ? 0 : versions["deno"] !== undefined ? 1 : 2;

/**
 * The numbers below `count`, for what depends on no runtime and takes long: all on Bun, every third on Deno and on
 * Node, not the same.
 */
export function* shareOf(count: number): Generator<number> {
  const step = RUNTIME === 0 ? 1 : 3;
  for (let number = RUNTIME; number < count; number += step) yield number;
}
