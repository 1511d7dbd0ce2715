/**
 * CBOR as JSON: what has one, what has none, and what hostile bytes cost.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CONTENT, encodeValue } from "../../lib/base/codec.ts";
import { fromHex } from "../../lib/base/bytes.ts";
import { cborToJson } from "../../server/transcode.ts";

function jsonOf(hex: string): string | undefined {
  return cborToJson(fromHex(hex)!);
}

describe("cborToJson()", () => {
  // Appendix A of RFC 8949, as far as JSON can say it.
  test.each([
    ["00", "0"],
    ["17", "23"],
    ["1818", "24"],
    ["1903e8", "1000"],
    ["1a000f4240", "1000000"],
    ["1b000000e8d4a51000", "1000000000000"],
    ["1bffffffffffffffff", "18446744073709551615"],
    ["3bffffffffffffffff", "-18446744073709551616"],
    ["20", "-1"],
    ["3903e7", "-1000"],
    ["f93c00", "1"],
    ["f93e00", "1.5"],
    ["f97bff", "65504"],
    ["f90001", "5.960464477539063e-8"],
    ["f90400", "0.00006103515625"],
    ["f9c400", "-4"],
    ["fa47c35000", "100000"],
    ["fb3ff199999999999a", "1.1"],
    ["fb7e37e43c8800759c", "1e+300"],
    ["f4", "false"],
    ["f5", "true"],
    ["f6", "null"],
    ["60", '""'],
    ["62225c", '"\\"\\\\"'],
    ["62c3bc", '"ü"'],
    ["64f0908591", '"𐅑"'],
    ["80", "[]"],
    ["8301820203820405", "[1,[2,3],[4,5]]"],
    ["a0", "{}"],
    ["a26161016162820203", '{"a":1,"b":[2,3]}'],
    // As JSON.stringify.
    ["a26161f7616201", '{"b":1}'],
    ["81f7", "[null]"],
    ["c11a514b67b0", '"2013-03-21T20:04:00.000Z"'],
    ["c1fb41d452d9ec200000", '"2013-03-21T20:04:00.500Z"'],
    ["c074323031332d30332d32315432303a30343a30305a", '"2013-03-21T20:04:00Z"'],
    // A name is a name.
    ["a1695f5f70726f746f5f5f01", '{"__proto__":1}'],
  ])("%s is %s", (hex, json) => {
    expect(jsonOf(hex)).toBe(json);
  });

  test.each([
    ["nothing", ""],
    ["undefined", "f7"],
    ["bytes", "4401020304"],
    ["bytes inside", "814401020304"],
    ["NaN", "f97e00"],
    ["infinity", "f97c00"],
    ["a big number", "c249010000000000000000"],
    ["a set", "d9010281 01".replace(" ", "")],
    ["a regular expression", "d81b8266526567457870612e"],
    ["a shared reference", "d81c8101"],
    ["a map by number", "a10102"],
    ["an array of no known length", "9f01ff"],
    ["text of no known length", "7f6161ff"],
    ["text that is no UTF-8", "62c328"],
    ["a date that is none", "c1fb7e37e43c8800759c"],
    ["a date of text", "c16161"],
    ["two values", "0101"],
    ["a reserved head", "1c"],
    ["a simple value", "f8ff"],
    ["an array cut short", "8301"],
    ["an array longer than its bytes", "9affffffff"],
    ["text longer than its bytes", "7bffffffffffffffff61"],
    ["a number cut short", "1b00"],
  ])("%s has none", (_, hex) => {
    expect(jsonOf(hex)).toBe(undefined);
  });

  test("says what any JSON said before it was CBOR", () => {
    fc.assert(fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
      const json = cborToJson(encodeValue(value, CONTENT.cbor));
      expect(JSON.parse(json!)).toEqual(JSON.parse(JSON.stringify(value)));
    }));
  });

  test("never throws, and says nothing of what is cut short", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const json = cborToJson(bytes);
        if (json !== undefined) JSON.parse(json);
        for (let end = 0; end < bytes.length && json !== undefined; end++) {
          expect(cborToJson(bytes.subarray(0, end))).toBe(undefined);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ["a deep array", new Uint8Array(1_048_576).fill(0x81)],
    ["deep heads of long arrays", new Uint8Array(1_048_576).fill(0x9a)],
    ["deep tags", new Uint8Array(1_048_576).fill(0xc1)],
    ["a big number", new Uint8Array([0xc2, 0x5a, 0, 4, 0, 0, ...new Uint8Array(262_144).fill(0xff)])],
    ["a long array of nothing", new Uint8Array([0x9a, 0, 15, 0xff, 0xfb, ...new Uint8Array(1_048_571).fill(0xf7)])],
    ["text of line breaks", new Uint8Array([0x7a, 0, 15, 0xff, 0xfb, ...new Uint8Array(1_048_571).fill(0x0a)])],
  ])("%s costs little", (_, bytes) => {
    const before = performance.now();
    cborToJson(bytes);
    // Some ten milliseconds; a second is for a machine with other things to do.
    expect(performance.now() - before).toBeLessThan(1_000);
  });
});
