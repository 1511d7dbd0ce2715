/**
 * One CRC-32, whoever computes it.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import CRC32 from "crc-32";
import { crc32 as nativeCrc32 } from "node:zlib";
import { crc32, crc32ByTables } from "../../lib/base/checksum.ts";
import { useNative } from "../../lib/fs/native.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { randomOf } from "../suites/random.ts";

useNative();

/** Bit by bit, as the standard has it. */
function crc32ByBits(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

describe("crc32()", () => {
  test("is the one of the standard", () => {
    const bytes = bytesOf("123456789");
    expect([crc32(bytes), crc32ByTables(bytes, 0, 0, 9), crc32ByBits(bytes)]).toEqual(Array(3).fill(0xcbf43926));
    expect(crc32(new Uint8Array(0))).toBe(0);
  });

  test("is the same by tables, runtime, package and bit by bit, whatever the length, place and seed", () => {
    const random = randomOf(1);
    const bytes = Uint8Array.from({ length: 5_000 }, () => random(256));
    const lengths = [...Array(300).keys(), ...Array.from({ length: 100 }, () => random(4_000))];
    for (const length of lengths) {
      const start = random(1_000);
      const end = start + length;
      const seed = [0, 1, -1, 0xffffffff, 0x80000000, random(2 ** 31) * 2 + 1, -random(2 ** 31)][random(7)]!;
      const wanted = crc32ByBits(bytes.subarray(start, end), seed);
      expect([length, crc32ByTables(bytes, seed, start, end)]).toEqual([length, wanted]);
      expect([length, crc32(bytes, seed, start, end)]).toEqual([length, wanted]);
      expect([length, CRC32.buf(bytes.subarray(start, end), seed) >>> 0]).toEqual([length, wanted]);
      expect([length, nativeCrc32(bytes.subarray(start, end), seed >>> 0)]).toEqual([length, wanted]);
    }
  });

  test("goes on from a checksum of what stands before, wherever that ends", () => {
    const bytes = Uint8Array.from({ length: 1_000 }, (_, index) => index * 7);
    const whole = crc32ByBits(bytes);
    for (const middle of [0, 1, 7, 8, 100, 111, 112, 113, 191, 192, 193, 808, 809, 887, 888, 889, 999, 1_000]) {
      expect(crc32(bytes, crc32(bytes, 0, 0, middle), middle)).toBe(whole);
    }
  });

  test("stays within its memory at the end of a buffer that is a part of another", () => {
    const memory = new Uint8Array(400).fill(0xff);
    const part = memory.subarray(13, 213);
    expect(crc32(part)).toBe(crc32ByBits(part));
    expect(crc32ByTables(part, 0, 0, part.length)).toBe(crc32ByBits(part));
  });
});
