/**
 * `expect` fails when it should: on Deno and Node it is ours in part, and one that lets everything pass would let every
 * test pass.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";

const WRONG: Readonly<Record<string, () => unknown>> = {
  toBe: () => expect({}).toBe({}),
  "toBe, of zeros": () => expect(0).toBe(-0),
  toEqual: () => expect({ a: [1, Uint8Array.of(2)] }).toEqual({ a: [1, Uint8Array.of(3)] }),
  toBeGreaterThan: () => expect(1).toBeGreaterThan(1),
  "toBeGreaterThan, of NaN": () => expect(NaN).toBeGreaterThan(1),
  toBeGreaterThanOrEqual: () => expect(1).toBeGreaterThanOrEqual(2),
  toBeLessThan: () => expect(1).toBeLessThan(1),
  toBeLessThanOrEqual: () => expect(2).toBeLessThanOrEqual(1),
  toContain: () => expect("a").toContain("b"),
  "not.toBe": () => expect(1).not.toBe(1),
  "not.toEqual": () => expect([1]).not.toEqual([1]),
  "rejects.toBe": () => expect(Promise.reject(new Error("no"))).rejects.toBe(1),
};

const RIGHT: Readonly<Record<string, () => unknown>> = {
  toEqual: () => expect<unknown>({ a: 1, b: undefined }).toEqual({ a: 1 }),
  "toEqual, of any": () => expect({ a: 1 }).toEqual({ a: expect.any(Number) }),
  toBeGreaterThan: () => expect(2n).toBeGreaterThan(1n),
  "not.toBe": () => expect(1).not.toBe(2),
  "resolves.toBe": () => expect(Promise.resolve(1)).resolves.toBe(1),
};

/** Whether it fails. No `expect` here: it is what is looked at. */
async function fails(says: () => unknown): Promise<boolean> {
  try {
    await says();
    return false;
  } catch {
    return true;
  }
}

describe("expect()", () => {
  test.each(Object.keys(WRONG))("fails when it should: %s", async (name) => {
    if (!await fails(WRONG[name as string]!)) throw new Error(`${String(name)} does not fail`);
  });

  test.each(Object.keys(RIGHT))("does not fail when it should not: %s", async (name) => {
    await RIGHT[name as string]!();
  });
});
