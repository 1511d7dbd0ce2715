import { describe, expect, test } from "bun:test";
import { fromHex, toHex } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { CborReader, CborWriter } from "../../lib/wire/cbor.ts";

function reading(hex: string): CborReader {
  return new CborReader().reset(fromHex(hex)!);
}

function written(write: (writer: CborWriter) => void): string {
  const writer = new CborWriter();
  write(writer);
  return toHex(writer.take());
}

/** True when `read` throws PROTOCOL; another throw is a failure of the test. */
function refuses(read: () => unknown): boolean {
  try {
    read();
  } catch (error) {
    if (error instanceof FirkinError && error.code === "PROTOCOL") return true;
    throw error;
  }
  return false;
}

/** RFC 8949 appendix A, integers, and the bounds of ours. */
const INTEGERS: readonly [hex: string, value: number][] = [
  ["00", 0],
  ["01", 1],
  ["0a", 10],
  ["17", 23],
  ["1818", 24],
  ["1819", 25],
  ["1864", 100],
  ["1903e8", 1000],
  ["1a000f4240", 1000000],
  ["1b000000e8d4a51000", 1000000000000],
  ["1affffffff", 4294967295],
  ["1b0000000100000000", 4294967296],
  ["1b001fffffffffffff", Number.MAX_SAFE_INTEGER],
  ["20", -1],
  ["29", -10],
  ["3863", -100],
  ["3903e7", -1000],
  ["3b001ffffffffffffe", Number.MIN_SAFE_INTEGER],
];

const FLOATS: readonly [hex: string, value: number][] = [
  ["fb3ff199999999999a", 1.1],
  ["fb7e37e43c8800759c", 1.0e300],
  ["fbc010666666666666", -4.1],
  ["fb8000000000000000", -0],
  ["fb7ff0000000000000", Infinity],
  ["fbfff0000000000000", -Infinity],
];

const TEXTS: readonly [hex: string, value: string][] = [
  ["60", ""],
  ["6161", "a"],
  ["6449455446", "IETF"],
  ["62225c", '"\\'],
  ["62c3bc", "ü"],
  ["63e6b0b4", "水"],
  ["64f0908591", "𐅑"],
];

describe("CborReader and CborWriter", () => {
  test("uint(), int() and number() agree with RFC 8949", () => {
    for (const [hex, value] of INTEGERS) {
      expect(reading(hex).int()).toBe(value);
      expect(reading(hex).number()).toBe(value);
      expect(written((writer) => writer.int(value))).toBe(hex);
      expect(written((writer) => writer.number(value))).toBe(hex);
      if (value < 0) expect(refuses(() => reading(hex).uint())).toBe(true);
      else {
        expect(reading(hex).uint()).toBe(value);
        expect(written((writer) => writer.uint(value))).toBe(hex);
      }
    }
    for (const [hex, value] of FLOATS) {
      expect(reading(hex).number()).toBe(value);
      expect(written((writer) => writer.number(value))).toBe(hex);
      expect(refuses(() => reading(hex).int())).toBe(true);
    }
    expect(reading("fb7ff8000000000000").number()).toBeNaN();
  });

  test("bytes(), text(), bool() and null agree with RFC 8949", () => {
    for (const [hex, value] of TEXTS) {
      expect(reading(hex).text()).toBe(value);
      expect(written((writer) => writer.text(value))).toBe(hex);
    }
    expect([...reading("4401020304").bytes()]).toEqual([1, 2, 3, 4]);
    expect(written((writer) => writer.bytes(Uint8Array.of(1, 2, 3, 4)))).toBe("4401020304");
    expect(reading("40").bytes().length).toBe(0);
    expect([reading("f4").bool(), reading("f5").bool()]).toEqual([false, true]);
    expect(written((writer) => {
      writer.bool(false);
      writer.bool(true);
      writer.null();
    })).toBe("f4f5f6");
    expect([reading("f6").skipNull(), reading("f5").skipNull()]).toEqual([true, false]);
  });

  test("array() agrees with RFC 8949 in every width", () => {
    for (const hex of ["83010203", "9803010203", "990003010203", "9a00000003010203", "9b0000000000000003010203"]) {
      const reader = reading(hex);
      expect(reader.isArray()).toBe(true);
      expect(reader.array()).toBe(3);
      expect([reader.uint(), reader.uint(), reader.uint(), reader.atEnd()]).toEqual([1, 2, 3, true]);
    }
    expect(written((writer) => writer.array(25))).toBe("9819");
    expect(reading("1803").uint()).toBe(3);
  });

  test("CborReader.text() reads the last text again, and a longer or other one", () => {
    const reader = reading("626162" + "626162" + "6161" + "63616263" + "626163" + "60" + "626162");
    const texts = Array.from({ length: 7 }, () => reader.text());
    expect(texts).toEqual(["ab", "ab", "a", "abc", "ac", "", "ab"]);
  });

  test("CborReader refuses what is outside the subset", () => {
    const outside = [
      ["a0", "map"],
      ["bfff", "indefinite map"],
      ["9fff", "indefinite array"],
      ["5f4101ff", "indefinite bytes"],
      ["7f6161ff", "indefinite text"],
      ["ff", "break"],
      ["c249010000000000000000", "bignum"],
      ["d9d9f700", "self-described CBOR"],
      ["f7", "undefined"],
      ["f0", "simple value"],
      ["f8ff", "simple value in two bytes"],
      ["f93c00", "half float"],
      ["fa47c35000", "single float"],
      ["1c", "reserved length"],
      ["1b0020000000000000", "integer above 2^53 - 1"],
      ["3b001fffffffffffff", "integer below -(2^53 - 1)"],
      ["1bffffffffffffffff", "largest integer"],
      ["61ff", "malformed UTF-8"],
      ["63eda080", "surrogate in UTF-8"],
      ["62c080", "overlong UTF-8"],
    ] as const;
    for (const [hex, name] of outside) {
      expect([name, refuses(() => reading(hex).skip())]).toEqual([name, true]);
    }
  });

  test("CborReader refuses a length past the end before it allocates", () => {
    const heads = [
      "5b001fffffffffffff",
      "5a7fffffff",
      "7b001fffffffffffff",
      "7a7fffffff",
      "9b001fffffffffffff",
      "9a7fffffff",
    ];
    for (const hex of heads) {
      expect(refuses(() => reading(hex).skip())).toBe(true);
      expect(refuses(() => reading(hex + "00").skip())).toBe(true);
    }
  });

  test("CborReader holds to 8 levels and 10,000 items", () => {
    expect(refuses(() => reading("81".repeat(8) + "00").skip())).toBe(false);
    expect(refuses(() => reading("81".repeat(9) + "00").skip())).toBe(true);
    expect(refuses(() => reading("81".repeat(5_000)).skip())).toBe(true);
    const wide = new Uint8Array(3 + 10_001);
    wide.set([0x99, 0x27, 0x10]);
    expect(refuses(() => new CborReader().reset(wide).skip())).toBe(false);
    wide.set([0x99, 0x27, 0x11]);
    expect(refuses(() => new CborReader().reset(wide).skip())).toBe(true);
    // A new frame has its own allowance.
    wide.set([0x99, 0x27, 0x10]);
    const two = new CborReader().reset(Uint8Array.of(...wide.subarray(0, 10_003), ...wide.subarray(0, 10_003)));
    expect(two.frame()).toBe(10_000);
    for (let left = 10_000; left > 0; left--) two.uint();
    expect(two.frame()).toBe(10_000);
  });

  test("CborReader refuses a message cut at any byte", () => {
    const writer = new CborWriter();
    writer.array(9);
    writer.uint(100_000);
    writer.int(-5_000_000_000);
    writer.number(1.5);
    writer.text("bucket");
    writer.text("ü".repeat(40));
    writer.bytes(new Uint8Array(300));
    writer.bool(true);
    writer.null();
    writer.array(1);
    writer.uint(1);
    const whole = writer.take().slice();
    expect(refuses(() => new CborReader().reset(whole).skip())).toBe(false);
    for (let length = 0; length < whole.length; length++) {
      expect(refuses(() => new CborReader().reset(whole.subarray(0, length)).skip())).toBe(true);
    }
  });

  test("CborReader.bytes() is a view of the message at its own offset", () => {
    const outer = Uint8Array.of(9, 9, 0x43, 1, 2, 3, 9);
    const view = new CborReader().reset(outer.subarray(2, 6)).bytes();
    expect([...view]).toEqual([1, 2, 3]);
    expect(view.buffer).toBe(outer.buffer);
  });

  test("CborWriter refuses numbers that have no encoding", () => {
    for (const value of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
      expect(() => new CborWriter().uint(value)).toThrow(RangeError);
    }
    expect(() => new CborWriter().int(-(2 ** 53))).toThrow(RangeError);
  });

  test("CborWriter.rewind(), cut() and take() leave what was before", () => {
    const writer = new CborWriter();
    writer.uint(1);
    const start = writer.length;
    writer.text("half a frame");
    writer.rewind(start);
    writer.uint(2);
    expect(toHex(writer.cut(start))).toBe("02");
    expect(toHex(writer.take())).toBe("01");
    expect(writer.length).toBe(0);
    writer.bytes(new Uint8Array(1_000_000));
    expect(writer.take().length).toBe(1_000_005);
    writer.text("anew");
    expect(toHex(writer.take())).toBe("64616e6577");
  });

  test("what CborWriter writes CborReader reads, whatever the values", () => {
    const clock = new ManualClock(0, 7);
    const random = (below: number): number => new DataView(clock.random(new Uint8Array(4)).buffer).getUint32(0) % below;
    for (let round = 0; round < 300; round++) {
      const writer = new CborWriter();
      const checks: ((reader: CborReader) => void)[] = [];
      for (let left = random(20); left >= 0; left--) {
        const magnitude = Math.floor(random(2 ** 32) * 2 ** (random(53) - 32));
        const bytes = clock.random(new Uint8Array(random(100)));
        const text = String.fromCodePoint(
          ...Array.from({ length: random(70) }, () => 0x20 + random(round % 3 ? 0x5e : 0xd000)),
        );
        writer.uint(magnitude);
        writer.int(-magnitude);
        writer.number(magnitude / 3);
        writer.bytes(bytes);
        writer.text(text);
        checks.push((reader) => {
          expect(reader.uint()).toBe(magnitude);
          expect(reader.int()).toBe(magnitude === 0 ? 0 : -magnitude);
          expect(reader.number()).toBe(magnitude / 3);
          expect(toHex(reader.bytes())).toBe(toHex(bytes));
          expect(reader.text()).toBe(text);
        });
      }
      const reader = new CborReader().reset(writer.take());
      for (const check of checks) check(reader);
      expect(reader.atEnd()).toBe(true);
    }
  });
});
