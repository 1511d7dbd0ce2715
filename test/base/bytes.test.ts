/**
 * Keys as bytes.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import {
  compareBytes,
  copyBytes,
  decodeKey,
  decodeText,
  encodeKey,
  encodeText,
  fromHex,
  hashKey,
  KeyBuffer,
  prefixEnd,
  startsWith,
  toHex,
} from "../../lib/base/bytes.ts";
import { randomOf } from "../suites/embedded.ts";

describe("encodeText()", () => {
  test("is UTF-8, and decodeText() its way back, at every length about the short path", () => {
    const letters = ["a", "\u0000", "\u007f", "é", "€", "😀", "\ufeff", "\ufffd"];
    const random = randomOf(1);
    for (let length = 0; length < 120; length++) {
      for (let step = 0; step < 8; step++) {
        const ascii = step % 2 === 0;
        const text = Array.from({ length }, () => ascii ? "x" : letters[random(letters.length)]!).join("");
        expect(encodeText(text)).toEqual(new TextEncoder().encode(text));
        expect(decodeText(encodeText(text))).toBe(text);
      }
    }
  });

  test("refuses a lone surrogate, short or long", () => {
    for (const text of ["\ud800", "a\udc00", "\udc00\ud800", "x".repeat(100) + "\ud800"]) {
      expect(() => encodeText(text)).toThrow(TypeError);
      expect(() => encodeKey(text)).toThrow(TypeError);
    }
    expect(encodeText("\ud83d\ude00").length).toBe(4);
  });

  test("decodeText() of what is no UTF-8 is undefined", () => {
    for (const bytes of [[0xff], [0xc3], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0x61, 0xfe]]) {
      expect(decodeText(Uint8Array.from(bytes))).toBeUndefined();
      expect(decodeText(Uint8Array.from(Array.from({ length: 60 }, () => 0x61).concat(bytes)))).toBeUndefined();
    }
  });
});

describe("keys", () => {
  test("encodeKey() takes strings and bytes, and nothing else", () => {
    const bytes = Uint8Array.of(1, 2);
    expect(encodeKey(bytes)).toBe(bytes);
    expect(encodeKey("a")).toEqual(Uint8Array.of(0x61));
    for (const wrong of [1, null, undefined, {}, [1], new Uint16Array(1)]) {
      expect(() => encodeKey(wrong as string)).toThrow(TypeError);
    }
  });

  test("KeyBuffer.cut() is the bytes from start to end, of any length", () => {
    const keys = new KeyBuffer();
    const bytes = Uint8Array.from({ length: 2_000 }, (_, index) => index);
    for (const length of [0, 1, 21, 255, 256, 257, 1_024]) {
      expect(keys.cut(bytes, 7, 7 + length)).toEqual(bytes.slice(7, 7 + length));
    }
  });

  test("KeyBuffer.encode() is encodeKey(), and short keys lie in memory that the next call overwrites", () => {
    const keys = new KeyBuffer();
    const letters = ["a", "\u007f", "\u0080", "é", "😀"];
    for (let length = 0; length < 100; length++) {
      for (const letter of letters) {
        for (const key of [letter.repeat(length), "x".repeat(length) + letter]) {
          expect(keys.encode(key)).toEqual(encodeKey(key));
        }
      }
    }
    const lent = keys.encode("abc");
    expect(keys.encode("xyz")).toBe(lent);
    expect(lent).toEqual(encodeKey("xyz"));
    const own = Uint8Array.of(1);
    expect(keys.encode(own)).toBe(own);
    for (const wrong of [1, undefined, "a\ud800", "\ud800".repeat(60)]) {
      expect(() => keys.encode(wrong as string)).toThrow(TypeError);
    }
  });

  test("decodeKey() is a string when it can be, else a copy of the bytes", () => {
    expect(decodeKey(Uint8Array.of(0x61))).toBe("a");
    expect(decodeKey(encodeText("__proto__"))).toBe("__proto__");
    const bytes = Uint8Array.of(0x61, 0xff);
    const key = decodeKey(bytes);
    expect(key).toEqual(bytes);
    bytes[0] = 0;
    expect(key).toEqual(Uint8Array.of(0x61, 0xff));
  });
});

describe("copyBytes()", () => {
  test("goes on when a copy, and all that it shares its memory with, was transferred", () => {
    const bytes = Uint8Array.of(1, 2, 3);
    const copy = copyBytes(bytes, 0, 2);
    structuredClone(copy, { transfer: [copy.buffer as ArrayBuffer] });
    expect(copyBytes(bytes, 1, 1)).toEqual(new Uint8Array(0));
    expect([copyBytes(bytes, 1, 3), copyBytes(bytes, 0, 3)]).toEqual([Uint8Array.of(2, 3), bytes]);
  });
});

describe("order", () => {
  test("compareBytes() puts a prefix first, and bytes by their unsigned value", () => {
    const sorted = [[], [0], [0, 0], [0, 255], [1], [127], [128], [255], [255, 0]].map((key) => Uint8Array.from(key));
    for (const [one, left] of sorted.entries()) {
      for (const [other, right] of sorted.entries()) {
        expect(Math.sign(compareBytes(left, right))).toBe(Math.sign(one - other));
      }
    }
  });

  test("prefixEnd() is above every key with the prefix and below every other later one", () => {
    expect(prefixEnd(Uint8Array.of())).toBeUndefined();
    expect(prefixEnd(Uint8Array.of(255, 255))).toBeUndefined();
    expect(prefixEnd(Uint8Array.of(1, 255))).toEqual(Uint8Array.of(2));
    const prefix = Uint8Array.of(1, 2);
    expect(prefixEnd(prefix)).toEqual(Uint8Array.of(1, 3));
    expect(prefix).toEqual(Uint8Array.of(1, 2));
    expect(startsWith(Uint8Array.of(1, 2, 255), prefix)).toBe(true);
    expect(startsWith(Uint8Array.of(1), prefix)).toBe(false);
    expect(startsWith(Uint8Array.of(1, 3), prefix)).toBe(false);
  });
});

describe("hashKey()", () => {
  test("is unsigned, depends on seed, bucket and every byte, and spreads", () => {
    const key = encodeText("some key");
    const hash = hashKey(1, 1, key);
    expect(hash >>> 0).toBe(hash);
    expect(hashKey(2, 1, key)).not.toBe(hash);
    expect(hashKey(1, 2, key)).not.toBe(hash);
    for (let index = 0; index < key.length; index++) {
      const other = key.slice();
      other[index]! ^= 1;
      expect(hashKey(1, 1, other)).not.toBe(hash);
    }
    expect(hashKey(1, 1, Uint8Array.of(0, ...key, 0), 1, 9)).toBe(hash);
    const tables = Array.from({ length: 256 }, () => 0);
    for (let index = 0; index < 25_600; index++) tables[hashKey(9, 1, encodeText(`key ${index}`)) >>> 24]!++;
    expect(Math.max(...tables)).toBeLessThan(160);
    expect(Math.min(...tables)).toBeGreaterThan(50);
  });
});

describe("hexadecimal", () => {
  test("there and back, and nothing else", () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
    expect(fromHex(toHex(bytes))).toEqual(bytes);
    for (const wrong of ["0", "0g", "AB", " 0"]) expect(fromHex(wrong)).toBeUndefined();
  });
});
