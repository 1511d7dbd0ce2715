/**
 * Blocks in memory: the budget, and who goes first.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { type Block, BlockCache } from "../../lib/bitcask/cache.ts";
import { randomOf } from "../suites/embedded.ts";

type Table = (Block | undefined)[];

function add(cache: BlockCache, table: Table, ...numbers: number[]): void {
  for (const number of numbers) cache.add(table, number, new Uint8Array(10));
}

function held(table: Table): number[] {
  return table.flatMap((block, number) => block === undefined ? [] : [number]);
}

describe("BlockCache", () => {
  test("evicts the oldest without a visit, and spares the visited once", () => {
    const cache = new BlockCache(40);
    const table: Table = [];
    add(cache, table, 0, 1, 2, 3);
    table[0]!.visited = true;
    table[2]!.visited = true;
    add(cache, table, 4);
    expect(held(table)).toEqual([0, 2, 3, 4]);
    // The hand stands behind 1: 2 loses its mark, 3 goes.
    add(cache, table, 5);
    expect(held(table)).toEqual([0, 2, 4, 5]);
    add(cache, table, 6);
    expect(held(table)).toEqual([0, 2, 5, 6]);
    // It goes on towards the newest, and round the end when it has passed them: 0 and 2 have no marks left.
    for (const number of [5, 6]) table[number]!.visited = true;
    add(cache, table, 7);
    expect(held(table)).toEqual([2, 5, 6, 7]);
    // 5 and 6 lost theirs on the way round.
    add(cache, table, 8, 9);
    expect(held(table)).toEqual([6, 7, 8, 9]);
  });

  test("a scan does not wash out what is read again and again", () => {
    const cache = new BlockCache(100);
    const table: Table = [];
    add(cache, table, 0, 1, 2);
    for (let number = 10; number < 1_000; number++) {
      for (const hot of [0, 1, 2]) table[hot]!.visited = true;
      add(cache, table, number);
    }
    expect(held(table).slice(0, 3)).toEqual([0, 1, 2]);
  });

  test("never holds more than its budget, over tables, sizes and drops", () => {
    const cache = new BlockCache(1_000);
    const tables: Table[] = [[], [], []];
    const random = randomOf(11);
    for (let step = 0; step < 20_000; step++) {
      const table = tables[random(3)]!;
      const number = random(60);
      if (random(500) === 0) {
        cache.drop(table);
        expect(held(table)).toEqual([]);
      } else if (table[number] === undefined) {
        cache.add(table, number, new Uint8Array(1 + random(120)));
      } else {
        table[number].visited = true;
      }
      const bytes = tables.flat().reduce((sum, block) => sum + (block?.bytes.length ?? 0), 0);
      if (cache.bytes !== bytes || bytes > 1_000) expect([cache.bytes, 1_000]).toEqual([bytes, bytes]);
    }
    for (const table of tables) cache.drop(table);
    expect(cache.bytes).toBe(0);
  });

  test("keeps nothing without a budget, and no block above it", () => {
    const table: Table = [];
    add(new BlockCache(0), table, 1);
    add(new BlockCache(9), table, 2);
    expect(held(table)).toEqual([]);
  });
});
