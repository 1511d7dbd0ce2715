/**
 * Deflate by two codecs: what one has written the other reads, and neither gives out more than it was told.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { compress, decompress, deflateByPackage, inflateByPackage, useNativeDeflate } from "../../lib/base/compress.ts";
import { nativeDeflate, useNative } from "../../lib/fs/native.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { errorCode, pattern } from "../suites/fs.ts";
import { randomOf } from "../suites/random.ts";

const random = randomOf(1);

function noise(length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random(256));
}

/** JSON of about `length` bytes. */
function rows(length: number): Uint8Array {
  const list: unknown[] = [];
  while (list.length * 40 < length) list.push({ id: random(1e6), name: `user ${random(500)}`, ok: random(2) === 1 });
  return bytesOf(JSON.stringify(list));
}

/** What is worth compressing. */
const SAMPLES: readonly Uint8Array[] = [
  ...[100, 256, 1_000, 5_000, 70_000, 2 ** 20].flatMap((length) => [rows(length), new Uint8Array(length)]),
  bytesOf("all work and no play makes jack a dull boy. ".repeat(30)),
  Uint8Array.of(...noise(1_000), ...new Uint8Array(1_000)),
  // Numbers as CBOR and typed arrays have them: most of the bytes without a pattern.
  new Uint8Array(Float64Array.from({ length: 500 }, () => random(1_000) / 10).buffer),
];

/** Runs `check` with the runtime's codec and with the package alone. */
async function withEach(check: () => void | Promise<void>): Promise<void> {
  try {
    await check();
    useNativeDeflate({ deflate: deflateByPackage, inflate: inflateByPackage });
    await check();
  } finally {
    useNative();
  }
}

useNative();

describe("compress()", () => {
  test("there and back by either codec, and by one after the other", async () => {
    const packed: Uint8Array[] = [];
    await withEach(() => {
      for (const bytes of SAMPLES) {
        const made = compress(bytes);
        expect(made !== undefined && made.length <= bytes.length * 7 / 8).toBe(true);
        packed.push(made!);
      }
    });
    expect(packed.length).toBe(2 * SAMPLES.length);
    await withEach(() => {
      for (const [index, made] of packed.entries()) {
        const bytes = SAMPLES[index % SAMPLES.length]!;
        const back = decompress(made, bytes.length);
        expect([back.constructor, back.length, Buffer.compare(back, bytes)]).toEqual([Uint8Array, bytes.length, 0]);
        // A copy where a copy is asked for.
        expect(back.slice().buffer).not.toBe(back.buffer);
      }
    });
  });

  test("is undefined where nothing is saved, or too little to pay for", async () => {
    await withEach(() => {
      for (const length of [0, 1, 2, 100, 255, 256, 257, 1_000, 4_096, 70_000]) {
        expect(compress(noise(length))).toBeUndefined();
      }
      // Deflate saves a tenth.
      expect(compress(Uint8Array.of(...noise(900), ...new Uint8Array(100)))).toBeUndefined();
    });
  });

  test("does not try what a look tells to be without a pattern", () => {
    let tries = 0;
    useNativeDeflate({ ...nativeDeflate, deflate: (bytes) => (tries++, nativeDeflate.deflate(bytes)) });
    try {
      for (let count = 0; count < 200; count++) compress(noise(1_024 + random(5_000)));
      compress(deflateByPackage(rows(50_000)));
      expect(tries).toBe(0);
      for (const bytes of SAMPLES) compress(bytes);
      expect(tries).toBe(SAMPLES.length);
      // Base64 has three bits in four: that is worth it.
      expect(compress(bytesOf(btoa(String.fromCharCode(...noise(3_000)))))).not.toBeUndefined();
    } finally {
      useNative();
    }
  });
});

describe("decompress()", () => {
  test("to any other length is CORRUPT, and so is what is cut or changed", async () => {
    const bytes = rows(1_000);
    const packed = compress(bytes)!;
    await withEach(async () => {
      for (const length of [0, 1, bytes.length - 1, bytes.length + 1, 100_000]) {
        expect(await errorCode(() => decompress(packed, length))).toBe("CORRUPT");
      }
      for (let length = 0; length < packed.length; length++) {
        expect(await errorCode(() => decompress(packed.slice(0, length), bytes.length))).toBe("CORRUPT");
      }
      for (const wrong of [pattern(100), new Uint8Array(50).fill(0xff)]) {
        expect(await errorCode(() => decompress(wrong, 1_000))).toBe("CORRUPT");
      }
    });
  });

  test("never gives out more than it was told, and by the runtime's codec makes no more either", async () => {
    const bomb = nativeDeflate.deflate(new Uint8Array(2 ** 20));
    await withEach(async () => expect(await errorCode(() => decompress(bomb, 1_000))).toBe("CORRUPT"));
    const large = nativeDeflate.deflate(new Uint8Array(2 ** 26));
    // Inflated whole, these would be 64 GiB.
    for (let count = 0; count < 1_000; count++) {
      expect(await errorCode(() => decompress(large, 1_000))).toBe("CORRUPT");
    }
  });
});
