/**
 * Values to bytes and back.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { toHex } from "../../lib/base/bytes.ts";
import { addToValue, CONTENT, type Content, CONTENT_NAMES, decodeValue, encodeValue } from "../../lib/base/codec.ts";
import { ManualClock, systemClock } from "../../lib/base/clock.ts";
import { errorCodeOf, ERRORS, FirkinError } from "../../lib/base/errors.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { errorCode, pattern } from "../suites/fs.ts";

function there(value: unknown, content: Content = CONTENT.cbor): unknown {
  return decodeValue(encodeValue(value, content), content);
}

describe("encodeValue() and decodeValue()", () => {
  test("cbor keeps what CBOR knows", () => {
    const values = [
      null,
      true,
      0,
      -1,
      1.5,
      2 ** 53 - 1,
      -(2 ** 53) + 1,
      NaN,
      Infinity,
      "",
      "😀",
      "x".repeat(70_000),
      [],
      [1, [2, [3]]],
      {},
      { a: { b: [null, { c: 1 }] }, "": 2, "a b": "c" },
      new Date(1_700_000_000_123),
      2n ** 63n,
      -(2n ** 63n) - 1n,
      2n ** 100n,
    ];
    for (const value of values) expect(there(value)).toEqual(value);
    expect(there([undefined])).toEqual([undefined]);
  });

  test("cbor gives a Map back as a Map, a bigint as a bigint, and -0 as 0", () => {
    const map = new Map<unknown, unknown>([["a", 1], [2, ["b"]]]);
    expect(there(map)).toEqual(map);
    expect(there(5n)).toBe(5n);
    expect(Object.is(there(-0), 0)).toBe(true);
  });

  test("cbor is plain CBOR, without records or shared state", () => {
    const value = { id: 1, name: "Ada" };
    expect(toHex(encodeValue(value, CONTENT.cbor))).toBe("b90002" + "626964" + "01" + "646e616d65" + "63416461");
    const first = encodeValue(value, CONTENT.cbor);
    for (let index = 0; index < 1_000; index++) encodeValue({ [`k${index}`]: value }, CONTENT.cbor);
    expect(encodeValue(value, CONTENT.cbor)).toEqual(first);
    expect(decodeValue(first, CONTENT.cbor)).toEqual(value);
  });

  test("the encoder's bytes belong to the caller", () => {
    const encoded = Array.from(
      { length: 2_000 },
      (_, index) => encodeValue({ index, text: "x".repeat(index % 50) }, 0),
    );
    for (const [index, bytes] of encoded.entries()) {
      expect(decodeValue(bytes, 0)).toEqual({ index, text: "x".repeat(index % 50) });
    }
  });

  test("byte strings come back as copies, also inside other values", () => {
    const inner = pattern(100);
    for (const value of [inner, { a: inner }, [[inner]]]) {
      const bytes = encodeValue(value, CONTENT.cbor);
      const decoded = decodeValue(bytes, CONTENT.cbor);
      bytes.fill(0);
      expect(decoded).toEqual(value);
      const found = Array.isArray(decoded) ? decoded[0][0] : (decoded as { a?: Uint8Array }).a ?? decoded;
      expect(found).toBeInstanceOf(Uint8Array);
    }
    const raw = pattern(10);
    const copy = decodeValue(raw, CONTENT.bytes) as Uint8Array;
    raw.fill(0);
    expect(copy).toEqual(pattern(10));
  });

  test("json and text keep theirs", () => {
    expect(there({ a: [1, null, "é"] }, CONTENT.json)).toEqual({ a: [1, null, "é"] });
    expect(there("\ufeffé😀", CONTENT.text)).toBe("\ufeffé😀");
    expect(there("", CONTENT.text)).toBe("");
    expect(there("\ud800", CONTENT.json)).toBe("\ud800");
  });

  test("a value that the type cannot hold is a TypeError", () => {
    const wrong: [unknown, Content][] = [
      [undefined, CONTENT.cbor],
      [undefined, CONTENT.json],
      [() => 1, CONTENT.json],
      [Symbol("s"), CONTENT.json],
      [1n, CONTENT.json],
      [1, CONTENT.text],
      [undefined, CONTENT.text],
      ["\ud800", CONTENT.text],
      ["a", CONTENT.bytes],
      [[1], CONTENT.bytes],
    ];
    for (const [value, content] of wrong) expect(() => encodeValue(value, content)).toThrow(TypeError);
  });

  test("bytes that are not the content are CORRUPT", async () => {
    const wrong: [number[], Content][] = [
      [[], CONTENT.cbor],
      [[0x82, 1], CONTENT.cbor],
      [[1, 2], CONTENT.cbor],
      [[0x7b], CONTENT.json],
      [[0xff], CONTENT.json],
      [[0xff], CONTENT.text],
    ];
    for (const [bytes, content] of wrong) {
      expect(await errorCode(() => decodeValue(Uint8Array.from(bytes), content))).toBe("CORRUPT");
    }
  });

  test("an object from outside does not reach a prototype", () => {
    // {"__proto__": {"polluted": true}}
    const bytes = Uint8Array.of(0xa1, 0x69, ...bytesOf("__proto__"), 0xa1, 0x68, ...bytesOf("polluted"), 0xf5);
    const decoded = decodeValue(bytes, CONTENT.cbor) as { polluted?: boolean };
    expect(decoded.polluted).toBeUndefined();
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test("numbers of content types stay", () => {
    expect(CONTENT_NAMES.map((name) => CONTENT[name])).toEqual([0, 1, 2, 3]);
  });
});

describe("addToValue()", () => {
  test("adds in every content that can hold a number, and in no other", async () => {
    expect(addToValue(undefined, CONTENT.cbor, 2).sum).toBe(2);
    for (const [value, content] of [[40, CONTENT.cbor], [40, CONTENT.json], ["40", CONTENT.text]] as const) {
      const { sum, bytes } = addToValue(encodeValue(value, content), content, 2);
      expect(sum).toBe(42);
      expect(decodeValue(bytes, content)).toBe(content === CONTENT.text ? "42" : 42);
    }
    const wrong: [unknown, Content, number][] = [
      ["a", CONTENT.cbor, 1],
      ["", CONTENT.text, 1],
      ["1x", CONTENT.text, 1],
      ["1".repeat(40), CONTENT.text, 1],
      [Uint8Array.of(1), CONTENT.bytes, 1],
      [2 ** 53 - 1, CONTENT.cbor, 1],
      [1e308, CONTENT.cbor, 1e308],
      [NaN, CONTENT.cbor, 1],
    ];
    for (const [value, content, by] of wrong) {
      expect(await errorCode(() => addToValue(encodeValue(value, content), content, by))).toBe("INVALID");
    }
  });
});

describe("ManualClock", () => {
  test("runs timers in order of their deadlines, and those that they set", () => {
    const clock = new ManualClock(1_000);
    const ran: string[] = [];
    clock.after(20, () => ran.push(`b${clock.wall()}`));
    clock.after(10, () => {
      ran.push(`a${clock.wall()}`);
      clock.after(5, () => ran.push(`c${clock.monotonic()}`));
      clock.after(1_000, () => ran.push("late"));
    });
    const cancelled = clock.after(15, () => ran.push("cancelled"));
    cancelled.cancel();
    clock.advance(30);
    expect(ran).toEqual(["a1010", "c15", "b1020"]);
    expect([clock.wall(), clock.monotonic()]).toEqual([1_030, 30]);
    clock.stepWall(-500);
    expect([clock.wall(), clock.monotonic()]).toEqual([530, 30]);
  });

  test("gives the same bytes for the same seed", () => {
    const bytes = (seed: number): Uint8Array => new ManualClock(0, seed).random(new Uint8Array(32));
    expect(bytes(1)).toEqual(bytes(1));
    expect(bytes(1)).not.toEqual(bytes(2));
  });
});

describe("systemClock", () => {
  test("a timer runs, a cancelled one does not, and one far away does not run at once", async () => {
    let far = 0;
    const timer = systemClock.after(2 ** 40, () => far++);
    systemClock.after(1, () => far += 10).cancel();
    const hold = systemClock.hold();
    await new Promise<void>((resolve) => systemClock.after(5, resolve));
    expect(far).toBe(0);
    timer.cancel();
    hold.cancel();
    expect(systemClock.monotonic()).toBeGreaterThan(0);
    expect(systemClock.random(new Uint8Array(16)).some((byte) => byte !== 0)).toBe(true);
  });
});

describe("big integers, numbers as text, and what no codec can hold", () => {
  test("decodeValue() reads a big integer as fast as it is long", () => {
    // Byte by byte, as cbor-x would, this takes minutes: the test would not end in time.
    const digits = new Uint8Array(512 * 1024).fill(0xab);
    const head = [0xc2, 0x5a, 0x00, 0x08, 0x00, 0x00];
    const value = decodeValue(Uint8Array.from([...head, ...digits]), CONTENT.cbor) as bigint;
    expect(value & 0xffffn).toBe(0xababn);
    expect(decodeValue(Uint8Array.of(0xc3, 0x42, 0x01, 0x00), CONTENT.cbor)).toBe(-257n);
    expect(decodeValue(Uint8Array.of(0xc2, 0x40), CONTENT.cbor)).toBe(0n);
  });

  test("encodeValue() says TypeError of what CBOR cannot hold", () => {
    const cycle: unknown[] = [];
    cycle.push(cycle);
    for (const value of [cycle, Symbol("x"), () => 1]) {
      expect(() => encodeValue(value, CONTENT.cbor)).toThrow(TypeError);
    }
  });

  test("addToValue() takes decimal text and nothing else for a number", () => {
    const add = (text: string): number => addToValue(encodeValue(text, CONTENT.text), CONTENT.text, 1).sum;
    expect([add("12"), add("-1.5"), add("1e3")]).toEqual([13, -0.5, 1001]);
    for (const text of ["", " ", "0x10", "12\n", "Infinity", "1_000"]) expect(() => add(text)).toThrow(FirkinError);
  });
});

describe("FirkinError", () => {
  test("has its code's row, and numbers are of one code each", () => {
    const wires = Object.values(ERRORS).map(({ wire }) => wire);
    expect(new Set(wires).size).toBe(wires.length);
    for (const [code, { wire }] of Object.entries(ERRORS)) expect(errorCodeOf(wire) as string).toBe(code);
    expect(errorCodeOf(9_999)).toBe("PROTOCOL");
    const cause = new Error("below");
    const error = new FirkinError("FULL", "Cannot write: full", { cause, detail: { segment: 3 } });
    expect([error.name, error.code, error.retry, error.cause, error.detail.segment]).toEqual([
      "FirkinError",
      "FULL",
      true,
      cause,
      3,
    ]);
    expect(new FirkinError("CORRUPT", "x").detail).toEqual({});
  });
});
