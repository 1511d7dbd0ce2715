import { describe, expect, test } from "bun:test";
import process from "node:process";
import {
  bulk,
  ErrorReply,
  MapReply,
  NO_ARRAY,
  PushReply,
  type Reply,
  RespProtocolError,
  RespReader,
  RespWriter,
  VerbatimReply,
} from "../../../server/redis/resp.ts";
import { randomOf } from "../../suites/random.ts";
import { mutated } from "../peer.ts";
import { encode } from "./peer.ts";

/** How long hostile bytes are tried, on the runtime that has the time. */
const FUZZ_MS = Number(process.env["FIRKIN_FUZZ_MS"] ?? (process.versions["bun"] === undefined ? 200 : 2_000));

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function readerOf(commandBytesMax = 1_000): RespReader {
  const reader = new RespReader(commandBytesMax);
  reader.trusted = true;
  return reader;
}

/** All commands of `text`, which comes in pieces of `size`, or the problem that ends it. */
function read(text: string, size = Infinity, reader: RespReader = readerOf()): (string[] | string)[] {
  const commands: (string[] | string)[] = [];
  for (let start = 0; start < text.length; start += size) {
    reader.push(bytesOf(text.slice(start, start + size)));
    try {
      for (let args = reader.next(); args !== undefined; args = reader.next()) commands.push(args.map(textOf));
    } catch (error) {
      if (!(error instanceof RespProtocolError)) throw error;
      return [...commands, error.message];
    }
  }
  return commands;
}

describe("RespReader", () => {
  const [set, echo] = [encode(["SET", "k", "a\r\nb"]), encode(["ECHO", ""])].map(String);
  const stream = `${set}*0\r\n*-1\r\n\r\nPING  now\r\n${echo}get k\n`;
  const commands = [["SET", "k", "a\r\nb"], ["PING", "now"], ["ECHO", ""], ["get", "k"]];

  test.each([1, 2, 3, 5, 7, 1_000])("next() reads commands in pieces of %d bytes", (size) => {
    expect(read(stream, size)).toEqual(commands);
  });

  test("next() gives arguments that stay as they are when more comes", () => {
    const reader = readerOf();
    const kept: Uint8Array[][] = [];
    for (const byte of bytesOf(stream.repeat(3))) {
      reader.push(Uint8Array.of(byte));
      for (let args = reader.next(); args !== undefined; args = reader.next()) kept.push(args);
    }
    expect(kept.map((args) => args.map(textOf))).toEqual([...commands, ...commands, ...commands]);
    expect(reader.waiting).toBe(0);
  });

  test.each([
    ["set \"a b\" 'c d'", [["set", "a b", "c d"]]],
    ["\"\\x41\\n\\q\" 'it\\'s'", [["A\nq", "it's"]]],
    ['""', [[""]]],
    ['set "a', "ERR Protocol error: unbalanced quotes in request"],
    ['set "a"b', "ERR Protocol error: unbalanced quotes in request"],
  ])("next() reads the words of a line: %j", (line, expected) => {
    expect(read(`${line}\r\n`)).toEqual(typeof expected === "string" ? [expected] : expected);
  });

  test.each([
    ["*2\r\nx", "ERR Protocol error: expected '$', got 'x'"],
    ["*x\r\n", "ERR Protocol error: invalid multibulk length"],
    ["*01\r\n", "ERR Protocol error: invalid multibulk length"],
    ["*99999999999999999999\r\n", "ERR Protocol error: invalid multibulk length"],
    ["*131073\r\n", "ERR Protocol error: invalid multibulk length"],
    ["*1\rx$", "ERR Protocol error: invalid multibulk length"],
    ["*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length"],
    ["*1\r\n$1001\r\n", "ERR Protocol error: invalid bulk length"],
    ["*2\r\n$600\r\n" + "x".repeat(600) + "\r\n$600\r\n", "ERR Protocol error: invalid bulk length"],
    ["*1\r\n$1\r\nabc", "ERR Protocol error: expected CRLF behind an argument"],
    ["*" + "1".repeat(70_000), "ERR Protocol error: too big mbulk count string"],
    ["*1\r\n$" + "1".repeat(70_000), "ERR Protocol error: too big bulk count string"],
    ["x".repeat(70_000), "ERR Protocol error: too big inline request"],
  ])("next() refuses %j", (text, problem) => {
    expect(read(text)).toEqual([problem]);
    expect(read(text, 4_096)).toEqual([problem]);
  });

  test("next() gives a stranger little room", () => {
    const stranger = (): RespReader => new RespReader(1_000_000);
    expect(read("*11\r\n", 1, stranger())).toEqual(["ERR Protocol error: unauthenticated multibulk length"]);
    expect(read("*1\r\n$16385\r\n", 1, stranger())).toEqual(["ERR Protocol error: unauthenticated bulk length"]);
    expect(read(String(encode(["AUTH", "x"])), 1, stranger())).toEqual([["AUTH", "x"]]);
  });

  test("push() keeps no more than what has come", () => {
    const reader = readerOf(1_000_000_000);
    reader.push(bytesOf("*1\r\n$999999999\r\nabc"));
    expect(reader.next()).toBe(undefined);
    expect(reader.waiting).toBe(3);
  });

  test(`next() takes hostile bytes for ${FUZZ_MS} ms, each once`, () => {
    const seed = 7;
    const draw = randomOf(seed);
    const end = performance.now() + FUZZ_MS;
    const sources = [stream, String(encode(["MSET", "a", "1", "b", "2"])), "get 'x' \"y\"\r\n", "*3\r\n$3\r\nSET\r\n"];
    let refused = 0;
    for (let round = 0; performance.now() < end; round++) {
      const bytes = mutated(bytesOf(sources[draw(sources.length)]!.repeat(1 + draw(3))), draw);
      const whole = read(textOf(bytes));
      // However it is cut, it says the same.
      expect([seed, round, read(textOf(bytes), 1 + draw(9))]).toEqual([seed, round, whole]);
      if (typeof whole.at(-1) === "string") refused++;
    }
    expect(refused).toBeGreaterThan(0);
  }, 30_000);
});

describe("RespWriter", () => {
  function written(reply: Reply, version: 2 | 3): string {
    const writer = new RespWriter();
    writer.reply(reply, version);
    return textOf(writer.take());
  }

  test.each<[string, Reply, string, string]>([
    ["a simple string", "OK", "+OK\r\n", "+OK\r\n"],
    ["bytes", bytesOf("a\r\n\u00ff"), "$4\r\na\r\n\u00ff\r\n", "$4\r\na\r\n\u00ff\r\n"],
    ["text", bulk("\u00e4"), "$2\r\n\u00c3\u00a4\r\n", "$2\r\n\u00c3\u00a4\r\n"],
    ["an integer", -42, ":-42\r\n", ":-42\r\n"],
    ["a large integer", 2n ** 63n - 1n, ":9223372036854775807\r\n", ":9223372036854775807\r\n"],
    ["null", null, "$-1\r\n", "_\r\n"],
    ["no array", NO_ARRAY, "*-1\r\n", "_\r\n"],
    ["an error", new ErrorReply("ERR a\nb"), "-ERR a b\r\n", "-ERR a b\r\n"],
    ["an array", [1, [null]], "*2\r\n:1\r\n*1\r\n$-1\r\n", "*2\r\n:1\r\n*1\r\n_\r\n"],
    ["a set", new Set(["a"]), "*1\r\n+a\r\n", "~1\r\n+a\r\n"],
    ["a map", new MapReply([[bulk("a"), 1]]), "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n"],
    ["a push", new PushReply([1]), "*1\r\n:1\r\n", ">1\r\n:1\r\n"],
    ["text for people", new VerbatimReply("a"), "$1\r\na\r\n", "=5\r\ntxt:a\r\n"],
  ])("reply() writes %s in both versions", (_, reply, two, three) => {
    expect(written(reply, 2)).toBe(two);
    expect(written(reply, 3)).toBe(three);
  });

  test("reply() writes more than its buffer", () => {
    const long = new Uint8Array(100_000).fill(65);
    const writer = new RespWriter();
    for (let left = 3; left > 0; left--) writer.reply(long, 2);
    expect(writer.length).toBe(3 * ("$100000\r\n".length + 100_002));
    expect(writer.take().at(-3)).toBe(65);
  });
});
