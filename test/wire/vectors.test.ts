/**
 * `docs/vectors.json` and `docs/protocol.cddl` against the code, byte for byte.
 *
 * The vectors are a conversation of one connection with an empty store whose clock stands still, and messages that end
 * a connection. After a change of the protocol `FIRKIN_BLESS=1 bun test test/wire/vectors.test.ts` writes them anew, to
 * be looked at.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fromHex, toHex } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { CborReader } from "../../lib/wire/cbor.ts";
import { OP, SHAPES } from "../../lib/wire/protocol.ts";
import { Deliveries } from "../../server/deliveries.ts";
import { type Item, message, Peer } from "../server/peer.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { hostOf, openMemoryEngine, settled } from "./loopback.ts";
import { Schema } from "./cddl.ts";

const FILE = new URL("../../docs/vectors.json", import.meta.url);
const schema = new Schema(readFileSync(new URL("../../docs/protocol.cddl", import.meta.url), "utf8"));
const RESULTS = Object.fromEntries(Object.entries(OP).map(([name, op]) => [op, `${name}Results`]));

/** A message as it travels, and its frames as a reader sees them; byte strings are `{ "bytes": "<hexadecimal>" }`. */
interface Message {
  readonly hex: string;
  readonly frames: readonly unknown[];
}

interface Vectors {
  readonly conversation: readonly { readonly name: string; readonly send: Message; readonly receive: Message[] }[];
  readonly malformed: readonly { readonly name: string; readonly hex: string }[];
}

const [a, b, text] = [bytesOf("a"), bytesOf("b"), bytesOf("value")];

/** What the client sends, message by message. */
const SCRIPT: readonly (readonly [name: string, ...frames: Item[][]])[] = [
  ["hello", [OP.hello, 1, 1, null]],
  ["a key that is missing", [OP.get, 2, "users", a]],
  ["set: the revision is the reply", [OP.set, 3, "users", a, 2, text, null, null, null, false]],
  ["get", [OP.get, 4, "users", a]],
  ["set with a time to live", [OP.set, 5, "users", b, 3, Uint8Array.of(0, 255), 60_000, null, null, false]],
  ["get shows the deadline", [OP.get, 6, "users", b]],
  ["a condition that holds", [OP.set, 7, "users", a, 2, bytesOf("next"), null, null, 1, false]],
  ["a condition that does not: the entry in its way", [OP.set, 8, "users", a, 2, text, null, null, 1, false]],
  ["a key that must not exist", [OP.set, 9, "users", bytesOf("new"), 0, Uint8Array.of(0xf5), null, null, 0, false]],
  ["several requests in one message", [OP.has, 10, "users", a], [OP.has, 11, "users", text], [OP.ping, 12]],
  ["getMany", [OP.getMany, 13, "users", [a, text, b]]],
  ["touch", [OP.touch, 14, "users", b, null, 1_900_000_000_000]],
  ["increment a missing key", [OP.increment, 15, "users", bytesOf("count"), 2.5]],
  ["list", [OP.list, 16, "users", null, null, bytesOf("c"), null, true, 1]],
  ["delete a missing key", [OP.delete, 17, "users", text, null]],
  ["delete", [OP.delete, 18, "users", a, null]],
  ["a single-read key", [OP.set, 19, "users", bytesOf("code"), 2, bytesOf("493"), null, null, null, true]],
  ["take", [OP.take, 20, "users", bytesOf("code")]],
  ["atomic", [OP.atomic, 21, [
    [0, "users", a, 0],
    [1, "users", a, 2, text, null, null, false],
    [2, "users", b],
  ]]],
  ["atomic with a check that does not hold", [OP.atomic, 22, [[0, "users", a, 1], [2, "users", a]]]],
  ["setMany", [OP.setMany, 23, "users", [[a, 2, text, null, null, false], [b, 2, text, 1_000, null, false]]]],
  ["subscribe with a snapshot", [OP.subscribe, 24, "users", null, a, null, true, true, null, 1_000_000]],
  ["an event", [OP.set, 25, "users", a, 2, text, null, null, null, false]],
  ["more", [OP.more, 26, 1, 4_096]],
  ["unsubscribe", [OP.unsubscribe, 27, 1]],
  ["subscribe to ends alone, without values", [OP.subscribe, 28, null, null, null, 44, false, false, null, null]],
  ["its event", [OP.delete, 29, "users", a, null]],
  ["a cursor of another store", [OP.subscribe, 30, "users", a, null, null, true, false, "0.7", null]],
  ["sync and compact", [OP.sync, 31], [OP.compact, 32]],
  ["configure", [OP.configure, 36, "users", [1_800_000, null, false, "who is there"]]],
  ["configure makes a bucket", [OP.configure, 37, "empty", [null, null, null, null]]],
  ["buckets", [OP.buckets, 38, null]],
  ["buckets behind a name", [OP.buckets, 39, "empty"]],
  ["wrong arguments are answered", [OP.get, 33, "Users", a], [OP.get, 34, "users", "a"], [99, 35]],
];

const MALFORMED: readonly (readonly [name: string, hex: string])[] = [
  ["an empty message", ""],
  ["a frame that is cut short", "83010265"],
  ["a frame without an id", "810a"],
  ["id 0", "820a00"],
  ["not an array", "0a"],
  ["an indefinite length", "9f0a01ff"],
  ["a tag", "820ac101"],
  ["a map", "820aa0"],
  ["a half float", "820af93c00"],
  ["a length past the end", "8401026175ba00000001"],
  ["a text that is no UTF-8", "840102617561ff4161".replace("6175", "62c3")],
  ["arrays nine deep", `830201${"81".repeat(9)}00`],
];

describe("docs/vectors.json and docs/protocol.cddl", () => {
  test("the conversation and what is malformed, byte for byte", async () => {
    const vectors: Vectors = { conversation: await converse(), malformed: MALFORMED.map(toVector) };
    if (process.env["FIRKIN_BLESS"] !== undefined) writeFileSync(FILE, textOf(vectors));
    expect(JSON.parse(readFileSync(FILE, "utf8"))).toEqual(vectors);
  });

  test("the conversation knows every operation but those that nothing but the server's own state answers", () => {
    const asked = SCRIPT.flatMap(([, ...frames]) => frames.map(([op]) => op));
    const missing = Object.entries(OP).filter(([, op]) => !asked.includes(op)).map(([name]) => name);
    expect(missing).toEqual(["stats", "auth"]);
  });

  test("what is malformed ends the connection", () => {
    for (const [name, hex] of MALFORMED) {
      const peer = new Peer(hostOf(unused()));
      peer.hello();
      peer.session.message(fromHex(hex)!);
      expect([name, peer.closedWith]).toEqual([name, 1002]);
    }
  });

  test("the schema has a rule for each operation and its results, with as many items", () => {
    for (const [name, op] of Object.entries(OP)) {
      expect(schema.names).toContain(name);
      expect(schema.names).toContain(`${name}Results`);
      const { args, results } = SHAPES[op]!;
      expect(schema.matches(name, Array.from({ length: args + 3 }, () => null))).toBe(false);
      expect(schema.matches(`${name}Results`, Array.from({ length: results + 1 }, () => null))).toBe(false);
    }
  });

  test("every frame of the conversation is of the schema, and is not when an item is missing or wrong", async () => {
    const asked = new Map<number, number>();
    for (const { send, receive } of await converse()) {
      for (const frame of framesIn(send.hex)) {
        const [op, id] = frame as [number, number];
        asked.set(id, op);
        if (op === 99 || typeof frame[3] === "string") continue; // what is wrong on purpose
        expectStrict("request", frame);
      }
      for (const frame of receive.flatMap(({ hex }) => framesIn(hex))) {
        expectStrict("response", frame);
        const [kind, id, ...results] = frame as [number, number, ...Item[]];
        if (kind === 0) expectStrict(RESULTS[asked.get(id)!]!, results);
      }
    }
  });
});

/** The frame matches; without its last item, with one more, or with a wrong one it does not. */
function expectStrict(rule: string, frame: Item[]): void {
  expect([frame, schema.matches(rule, frame)]).toEqual([frame, true]);
  // Of a reply the results are another rule's.
  if (rule === "response" && frame[0] === 0) return;
  expect(schema.matches(rule, [...frame, null])).toBe(false);
  if (frame.length > 0) expect(schema.matches(rule, frame.slice(0, -1))).toBe(false);
  for (let place = 0; place < frame.length; place++) {
    const wrong: Item[] = [...frame];
    wrong[place] = -1.5;
    if (typeof frame[place] === "number" && !Number.isInteger(frame[place])) continue; // which may be any number
    expect([place, rule, schema.matches(rule, wrong)]).toEqual([place, rule, false]);
  }
}

// --- the conversation ---

async function converse(): Promise<{ name: string; send: Message; receive: Message[] }[]> {
  const clock = new ManualClock(1_800_000_000_000, 7);
  const engine = await openMemoryEngine(clock);
  const peer = new Peer({ ...hostOf(engine, {}, clock), deliveries: new Deliveries() });
  const steps = [];
  for (const [name, ...frames] of SCRIPT) {
    peer.send(...frames);
    for (let turn = 0; turn < 10; turn++) {
      await settled();
      clock.advance(0);
    }
    const receive = peer.messages.splice(0).map((bytes) => messageIn(toHex(bytes)));
    steps.push({ name, send: messageIn(toHex(message(...frames))), receive });
  }
  expect(peer.closedWith).toBeUndefined();
  await engine.close();
  return steps;
}

/** As JSON, a message a line. */
function textOf({ conversation, malformed }: Vectors): string {
  const steps = conversation.map(({ name, send, receive }) => {
    const messages = receive.map((each) => `\n        ${JSON.stringify(each)}`).join(",");
    return `    {\n      "name": ${JSON.stringify(name)},\n      "send": ${JSON.stringify(send)},\n` +
      `      "receive": [${messages}\n      ]\n    }`;
  });
  const others = malformed.map((each) => `    ${JSON.stringify(each)}`);
  return `{\n  "conversation": [\n${steps.join(",\n")}\n  ],\n  "malformed": [\n${others.join(",\n")}\n  ]\n}\n`;
}

function messageIn(hex: string): Message {
  return { hex, frames: framesIn(hex).map(toJson) };
}

function toVector([name, hex]: readonly [string, string]): { name: string; hex: string } {
  return { name, hex };
}

function framesIn(hex: string): Item[][] {
  const bytes = fromHex(hex)!;
  const reader = new CborReader().reset(bytes);
  const frames: Item[][] = [];
  while (!reader.atEnd()) {
    reader.seek(reader.position);
    frames.push(itemIn(reader, bytes) as Item[]);
  }
  return frames;
}

function itemIn(reader: CborReader, bytes: Uint8Array): Item {
  const head = bytes[reader.position]!;
  if (head >> 5 === 4) return Array.from({ length: reader.array() }, () => itemIn(reader, bytes));
  if (head >> 5 === 3) return reader.text();
  if (head >> 5 === 2) return reader.bytes().slice();
  if (reader.skipNull()) return null;
  return head === 0xf4 || head === 0xf5 ? reader.bool() : reader.number();
}

function toJson(item: Item): unknown {
  if (item instanceof Uint8Array) return { bytes: toHex(item) };
  return Array.isArray(item) ? item.map(toJson) : item;
}

/** A store that a malformed message must not reach. */
function unused(): never {
  return new Proxy({}, {
    get: (_, name) => {
      if (name === "limits" || name === "epoch") return "";
      throw new Error(`Cannot use the store: ${String(name)}`);
    },
  }) as never;
}
