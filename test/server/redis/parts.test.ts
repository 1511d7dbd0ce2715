/**
 * Parts of the Redis server that are functions: patterns, numbers, values, names of notifications.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT, type Content, encodeValue } from "../../../lib/base/codec.ts";
import { command } from "../../../server/redis/about.ts";
import { Cursors } from "../../../server/redis/cursors.ts";
import { literalPrefix, matchesGlob } from "../../../server/redis/glob.ts";
import { normalFlags, queryOf } from "../../../server/redis/notifications.ts";
import { addFloats, parseInteger } from "../../../server/redis/numbers.ts";
import { SERVER_LIMITS } from "../../../server/limits.ts";
import { ROWS } from "../../../server/redis/table.ts";
import { shown } from "../../../server/redis/values.ts";
import { bytesOf, textOf } from "../../suites/engine_subject.ts";
import { randomOf } from "../../suites/random.ts";

describe("matchesGlob()", () => {
  test.each<[string, string, boolean]>([
    ["", "", true],
    ["", "a", false],
    ["*", "", true],
    ["a*", "abc", true],
    ["*c", "abc", true],
    ["a*c*e", "abcde", true],
    ["a*c*f", "abcde", false],
    ["a?c", "abc", true],
    ["a?c", "ac", false],
    ["[a-c]x", "bx", true],
    ["[c-a]x", "bx", true],
    ["[^a-c]x", "bx", false],
    ["[^a-c]x", "dx", true],
    ["[abc", "c", true],
    ["[a\\]]", "]", true],
    ["\\*", "*", true],
    ["\\*", "a", false],
    ["a/*", "a/b/c", true],
    ["\\", "\\", true],
  ])("%j and %j", (pattern, text, matches) => {
    expect(matchesGlob(bytesOf(pattern), bytesOf(text))).toBe(matches);
  });

  test.each<[string, string, number]>([
    ["of stars", "a*".repeat(500) + "b", 2_000],
    ["of one letter", "*" + "a".repeat(500) + "b", 300_000],
    ["of classes", "*" + "[a-b]".repeat(150) + "?c", 600_000],
    ["of one class", "*[" + "x".repeat(998) + "]", 900_000],
  ])("a pattern %s costs at most its length times the text's", (_, pattern, least) => {
    const effort = { steps: 0 };
    expect(matchesGlob(bytesOf(pattern), new Uint8Array(1_000).fill(97), effort)).toBe(false);
    expect(effort.steps).toBeGreaterThan(least / 2);
    expect(effort.steps).toBeLessThan(least * 2);
    expect(effort.steps).toBeLessThan(1.1 * pattern.length * 1_000);
  });

  test("agrees with trying every star at every place, and counts what it does", () => {
    const draw = randomOf(7);
    const drawText = (letters: string): string => {
      return Array.from({ length: draw(8) }, () => letters[draw(letters.length)]).join("");
    };
    const tryAll = (pattern: string, text: string): boolean => {
      if (pattern === "") return text === "";
      if (pattern[0] === "*") return tryAll(pattern.slice(1), text) || (text !== "" && tryAll(pattern, text.slice(1)));
      return text !== "" && (pattern[0] === "?" || pattern[0] === text[0]) && tryAll(pattern.slice(1), text.slice(1));
    };
    for (let left = 5_000; left > 0; left--) {
      const [pattern, text, effort] = [drawText("ab?**"), drawText("ab"), { steps: 0 }];
      const matches = matchesGlob(bytesOf(pattern), bytesOf(text), effort);
      expect([pattern, text, matches]).toEqual([pattern, text, tryAll(pattern, text)]);
      if (matches) expect(effort.steps).toBeGreaterThanOrEqual(text.length);
    }
  });

  test("literalPrefix() is what every match begins with", () => {
    expect(["user:*", "a\\*b*", "*", "abc", "a[b]"].map((pattern) => textOf(literalPrefix(bytesOf(pattern))))).toEqual([
      "user:",
      "a*b",
      "",
      "abc",
      "a",
    ]);
  });
});

describe("numbers", () => {
  test.each<[string, bigint | undefined]>([
    ["0", 0n],
    ["-1", -1n],
    ["9223372036854775807", 2n ** 63n - 1n],
    ["9223372036854775808", undefined],
    ["-9223372036854775808", -(2n ** 63n)],
    ["-0", undefined],
    ["+1", undefined],
    ["01", undefined],
    [" 1", undefined],
    ["", undefined],
  ])("parseInteger(%j)", (text, expected) => {
    expect(parseInteger(bytesOf(text))).toBe(expected);
  });

  test.each<[string, string, string]>([
    ["0.1", "0.2", "0.3"],
    ["3.0", "1.5e2", "153"],
    ["-1.5", "1.5", "0"],
    ["1e-20", "0", "0"],
    ["10.5", "0.1", "10.6"],
    ["1e20", "1", "100000000000000000000"],
    ["5.0e3", "2.0e2", "5200"],
    ["9223372036854775807", "1", "9223372036854775808"],
    ["18446744073709551615", "0.9", "18446744073709551616"],
    ["18446744073709551615", "0.5", "18446744073709551616"],
    ["18446744073709551614", "0.5", "18446744073709551614"],
  ])("addFloats(%j, %j) is %j", (left, right, sum) => {
    expect(addFloats(bytesOf(left), bytesOf(right))).toBe(sum);
  });

  test.each(["", "abc", " 1", "1e99999", "1e-99999", "1e999999999", "0x10"])("addFloats() refuses %j", (text) => {
    expect(() => addFloats(bytesOf(text), bytesOf("1"))).toThrow("not a valid float");
  });
});

describe("shown()", () => {
  test.each<[string, unknown, Content, string]>([
    ["text", "a", CONTENT.text, "a"],
    ["JSON", { a: 1 }, CONTENT.json, '{"a":1}'],
    ["text in CBOR", "a", CONTENT.cbor, "a"],
    ["bytes in CBOR", bytesOf("a"), CONTENT.cbor, "a"],
    ["a number in CBOR", 5, CONTENT.cbor, "5"],
    ["an object in CBOR", { a: [1, null] }, CONTENT.cbor, '{"a":[1,null]}'],
  ])("shows %s", (_, value, content, expected) => {
    expect(textOf(shown({ value: encodeValue(value, content), content }))).toBe(expected);
  });

  test("shows what is no CBOR as it is", () => {
    for (const value of [new Uint8Array(0), Uint8Array.of(0x7f), Uint8Array.of(0xff)]) {
      expect(shown({ value, content: CONTENT.cbor })).toEqual(value);
    }
  });
});

describe("notifications", () => {
  test.each<[string, boolean, unknown]>([
    ["__keyevent@0__:expired", false, { bucket: "0", types: ["expire"], values: false }],
    ["__keyevent@my_users-1__:del", false, { bucket: "my_users-1", types: ["delete", "take"], values: false }],
    ["__keyspace@3__:a:b", false, { bucket: "3", key: bytesOf("a:b"), values: false }],
    ["__keyspace@3__:*", true, { bucket: "3", values: false }],
    ["__keyspace@a__b__:c__:d", false, { bucket: "a__b", key: bytesOf("c__:d"), values: false }],
    ["__key*__:*", true, { values: false }],
    ["__keyevent@*", true, { values: false }],
    ["__keyevent@0__:nothing", false, undefined],
    ["__keyspace@A B__:a", false, undefined],
    ["news", false, undefined],
    ["*", true, undefined],
  ])("queryOf(%j, %j)", (name, isPattern, query) => {
    expect(queryOf(bytesOf(name), isPattern)).toEqual(query as never);
  });

  test("normalFlags() is what Redis gives back", () => {
    expect(["", "KEA", "Ex", "xE", "Kg$lshzxetd", "q"].map(normalFlags)).toEqual([
      "",
      "AKE",
      "xE",
      "xE",
      "AK",
      undefined,
    ]);
  });
});

test("Cursors forget the oldest", () => {
  const cursors = new Cursors();
  const place = { bucket: "0", after: bytesOf("k") };
  const first = cursors.add(place);
  for (let left = 4_095; left > 0; left--) cursors.add(place);
  expect(cursors.find(first)).toBe(place);
  cursors.add(place);
  expect(cursors.find(first)).toBe(undefined);
});

test("COMMAND LIST gives all names, or those that fit", () => {
  const list = (...words: string[]): string[] => {
    const args = ["COMMAND", "LIST", ...words].map((word) => bytesOf(word));
    return (command(ROWS, { limits: SERVER_LIMITS }, args) as Uint8Array[]).map((name) => textOf(name)!);
  };
  expect(list()).toContain("client|list");
  expect(list("FILTERBY", "pattern", "config|*re*")).toEqual(["config|resetstat"]);
  expect(list("FILTERBY", "pattern", "set")).toEqual(["set"]);
  expect(list("FILTERBY", "ACLCAT", "pubsub")).toContain("publish");
  expect(list("FILTERBY", "ACLCAT", "read")).toContain("get");
  expect(list("FILTERBY", "MODULE", "none")).toEqual([]);
  for (const words of [["odd"], ["FILTERBY", "odd"], ["FILTERBY", "odd", "odd"]]) {
    expect(() => list(...words)).toThrow("ERR syntax error");
  }
});
