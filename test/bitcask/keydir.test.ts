/**
 * The keydir against a Map, with hashes that collide as they never should.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { hashKey } from "../../lib/base/bytes.ts";
import { ADDRESS_UNIT, Keydir } from "../../lib/bitcask/keydir.ts";
import { randomOf } from "../suites/embedded.ts";

/** A keydir whose records are numbers; the key of the record at an address is in `keys`. */
class Index {
  readonly keys = new Map<number, number>();
  readonly keydir: Keydir;
  readonly hash: (key: number) => number;
  looks = 0;

  constructor(hash: (key: number) => number) {
    this.hash = hash;
    this.keydir = new Keydir((slot, offset, _bucket, key) => {
      this.looks++;
      return this.keys.get(slot * ADDRESS_UNIT + offset) === numberOf(key);
    });
  }

  get(key: number): number {
    return this.keydir.get(this.hash(key), 1, bytesOf(key));
  }

  set(key: number, address: number): number {
    this.keys.set(address, key);
    return this.keydir.set(this.hash(key), 1, bytesOf(key), address);
  }

  delete(key: number): number {
    return this.keydir.delete(this.hash(key), 1, bytesOf(key));
  }
}

/** As `expect(got).toBe(wanted)`, for loops of a million. */
function same(got: unknown, wanted: unknown): void {
  if (got !== wanted) expect(got).toBe(wanted);
}

function bytesOf(key: number): Uint8Array {
  return Uint8Array.of(key, key >>> 8, key >>> 16, key >>> 24);
}

function numberOf(bytes: Uint8Array): number {
  return (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
}

const good = (key: number): number => hashKey(7, 1, bytesOf(key));

describe("Keydir", () => {
  test("addDistinct() adds what set() would, and compares nothing", () => {
    for (const hash of [good, () => 0x12ffffff, (key: number) => [0, 0xffffffff, 0x00fffffe][key % 3]!]) {
      for (const before of [0, 1, 50]) {
        const index = new Index(hash);
        for (let key = 0; key < before; key++) index.set(key, key);
        const tables = new Map<number, number[]>();
        for (let key = before; key < 400; key++) {
          const address = (key % 5) * ADDRESS_UNIT + 0xffff0000 + key;
          index.keys.set(address, key);
          const table = hash(key) >>> 24;
          tables.set(table, [...tables.get(table) ?? [], hash(key), key % 5, 0xffff0000 + key]);
        }
        const { looks } = index;
        for (const words of tables.values()) index.keydir.addDistinct(Uint32Array.from(words));
        expect(index.looks).toBe(looks);
        expect(index.keydir.count).toBe(400);
        for (let key = 0; key < 400; key++) {
          same(index.get(key), key < before ? key : (key % 5) * ADDRESS_UNIT + 0xffff0000 + key);
        }
        for (let key = 400; key < 500; key++) same(index.get(key), -1);
        // Nothing is shared with another keydir, nor too full to be looked through.
        expect(new Index(hash).get(1)).toBe(-1);
        for (let key = 0; key < 400; key++) same(index.delete(key) !== -1, true);
        expect(index.keydir.count).toBe(0);
      }
    }
  });

  const hashes: [string, (key: number) => number, number][] = [
    ["a good hash", good, 2_000],
    ["a constant hash", () => 0x12ffffff, 120],
    ["three values", (key) => [0, 0xffffffff, 0x00fffffe][key % 3]!, 150],
    ["one table", (key) => good(key) >>> 8, 600],
    ["neighbours at the end of a table", (key) => 0x00fffff0 + key % 16, 200],
  ];
  for (const [name, hash, keys] of hashes) {
    test(`does what a Map does, with ${name}`, () => {
      for (let seed = 1; seed <= 5; seed++) {
        const random = randomOf(seed);
        const index = new Index(hash);
        const model = new Map<number, number>();
        let next = 0;
        const address = (): number => (next % 3) * ADDRESS_UNIT + 32 + next++ * 40;
        for (let step = 0; step < 8_000; step++) {
          const key = random(keys);
          const known = model.get(key) ?? -1;
          // First mostly growth, then mostly deletions, so that tables shrink again.
          if (random(10) < (step < 4_000 ? 7 : 2)) {
            const place = address();
            same(index.set(key, place), known);
            model.set(key, place);
          } else if (random(2) === 0) {
            same(index.delete(key), known);
            model.delete(key);
          } else if (known !== -1) {
            const place = address();
            index.keys.set(place, key);
            same(index.keydir.move(hash(key), known, place), true);
            same(index.keydir.move(hash(key), known, place), false);
            model.set(key, place);
          } else {
            same(index.get(key), -1);
          }
          same(index.keydir.count, model.size);
        }
        for (let key = 0; key < keys; key++) same(index.get(key), model.get(key) ?? -1);
      }
    });
  }

  test("200,000 keys take at most 24 bytes each, and next to no second looks", () => {
    const index = new Index(good);
    for (let key = 0; key < 200_000; key++) index.set(key, (key % 1_000) * ADDRESS_UNIT + 32 + key);
    expect(index.keydir.count).toBe(200_000);
    expect(index.keydir.bytes / 200_000).toBeLessThan(24);
    index.looks = 0;
    for (let key = 0; key < 200_000; key++) same(index.get(key), (key % 1_000) * ADDRESS_UNIT + 32 + key);
    expect(index.looks).toBeLessThan(200_000 * 1.001);
    index.looks = 0;
    for (let key = 200_000; key < 400_000; key++) same(index.get(key), -1);
    expect(index.looks).toBeLessThan(100);
    const full = index.keydir.bytes;
    for (let key = 0; key < 199_000; key++) same(index.delete(key) === -1, false);
    expect(index.keydir.bytes).toBeLessThan(full / 20);
    for (let key = 199_000; key < 200_000; key++) expect(index.get(key)).not.toBe(-1);
  });

  test("keeps addresses up to 2^53, and offsets up to 4 GiB", () => {
    const index = new Index(good);
    const addresses = [0, ADDRESS_UNIT - 1, ADDRESS_UNIT, (2 ** 21 - 1) * ADDRESS_UNIT + ADDRESS_UNIT - 1];
    for (const [key, address] of addresses.entries()) index.set(key, address);
    for (const [key, address] of addresses.entries()) expect(index.get(key)).toBe(address);
  });
});
