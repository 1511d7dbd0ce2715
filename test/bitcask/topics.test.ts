import { describe, expect, test } from "bun:test";
import { type Topic, Topics } from "../../lib/bitcask/topics.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { randomOf } from "../suites/random.ts";

const SEED = 0x12345678;

function nameOf({ bucket = "*", prefix }: Topic<unknown>): string {
  return prefix === undefined ? bucket : `${bucket}/${textOf(prefix)}`;
}

function visited(topics: Topics<unknown>, bucket: string, key: string): string[] {
  const names: string[] = [];
  topics.visit(bucket, bytesOf(key), (topic) => names.push(nameOf(topic)));
  return names.sort();
}

describe("Topics", () => {
  test("Topics.visit() finds all buckets, the bucket and every prefix of the key, and no other", () => {
    const topics = new Topics<unknown>(SEED);
    topics.hold({});
    topics.hold({ prefix: bytesOf("a") });
    topics.hold({ bucket: "b" });
    for (const prefix of ["a", "ab", "abc", "abcd", "b", "ac", ""]) {
      topics.hold({ bucket: "b", prefix: bytesOf(prefix) });
    }
    topics.hold({ bucket: "c", prefix: bytesOf("a") });
    expect(visited(topics, "b", "abc")).toEqual(["*", "*/a", "b", "b/a", "b/ab", "b/abc"]);
    expect(visited(topics, "c", "b")).toEqual(["*"]);
  });

  test("Topics.hold() gives those who ask for the same one topic, until the last releases it", () => {
    const topics = new Topics<unknown>(SEED);
    const first = topics.hold({ bucket: "b", prefix: bytesOf("a") });
    expect(topics.hold({ bucket: "b", prefix: bytesOf("a") })).toBe(first);
    topics.release(first);
    expect(visited(topics, "b", "ab")).toEqual(["b/a"]);
    topics.release(first);
    expect(visited(topics, "b", "ab")).toEqual([]);
    expect(topics.hold({ bucket: "b", prefix: bytesOf("a") })).not.toBe(first);
  });

  test("Topics.visit() finds a key by itself, and topics apart that differ in types or values", () => {
    const topics = new Topics<unknown>(SEED);
    const exact = topics.hold({ bucket: "b", key: bytesOf("ab") });
    const others = [
      topics.hold({ bucket: "b", prefix: bytesOf("ab") }),
      topics.hold({ bucket: "b", prefix: bytesOf("ab"), values: false }),
      topics.hold({ bucket: "b", prefix: bytesOf("ab"), types: ["expire"] }),
      topics.hold({ bucket: "b", prefix: bytesOf("ab"), types: ["expire", "set"] }),
    ];
    expect(new Set([exact, ...others]).size).toBe(5);
    expect(topics.hold({ bucket: "b", prefix: bytesOf("ab"), types: ["set", "expire"] })).toBe(others[3]!);
    const found = (key: string): Topic<unknown>[] => {
      const all: Topic<unknown>[] = [];
      topics.visit("b", bytesOf(key), (topic) => all.push(topic));
      return all;
    };
    expect(found("ab")).toEqual([exact, ...others]);
    expect(found("abc")).toEqual(others);
    expect(found("a")).toEqual([]);
  });

  test("Topics tells prefixes of one hash apart", () => {
    const topics = new Topics<unknown>(SEED);
    const [left, right] = collision();
    topics.hold({ bucket: "b", prefix: left });
    topics.hold({ bucket: "b", prefix: right });
    for (const [key, other] of [[left, right], [right, left]] as const) {
      const found: unknown[] = [];
      topics.visit("b", key, (topic) => found.push(topic.prefix));
      expect(found).toEqual([key]);
      topics.release(topics.hold({ bucket: "b", prefix: other }));
    }
  });

  test("Topics finds what a comparison with each finds, while topics come and go", () => {
    const random = randomOf(7);
    const topics = new Topics<unknown>(SEED);
    const held: Topic<unknown>[] = [];
    const word = (): string => Array.from({ length: random(5) }, () => "ab"[random(2)]).join("");
    for (let step = 0; step < 2_000; step++) {
      if (held.length > 20 && random(2) === 0) topics.release(held.splice(random(held.length), 1)[0]!);
      else {
        const bucket = ["b", "c", undefined][random(3)];
        const text = bytesOf(word());
        const keys = random(3) === 0 && text.length > 0 ? { key: text } : { prefix: text };
        held.push(topics.hold({ ...(bucket && { bucket }), ...keys, values: random(2) === 0 }));
      }
      const [bucket, key] = ["bc"[random(2)]!, bytesOf(word())];
      const wanted = new Set(held.filter((topic) => topic.matches("set", bucket, key)));
      const found: Topic<unknown>[] = [];
      topics.visit(bucket, key, (topic) => found.push(topic));
      expect(found.length).toBe(wanted.size);
      expect(new Set(found)).toEqual(wanted);
    }
  });

  test("Topics looks at no more topics when there are a hundred thousand", () => {
    const topics = new Topics<unknown>(SEED);
    for (let index = 0; index < 100_000; index++) topics.hold({ bucket: "b", prefix: bytesOf(`user:${index}:`) });
    expect(visited(topics, "b", "user:77:name")).toEqual(["b/user:77:"]);
    expect(lookupsOf(() => topics.visit("b", bytesOf("user:12345:name"), () => {}))).toBeLessThanOrEqual(2 + 15);
  });
});

/** Two texts of one length whose hash is the same. */
function collision(): [Uint8Array, Uint8Array] {
  const seen = new Map<number, Uint8Array>();
  for (let number = 0;; number++) {
    const text = bytesOf(number.toString(36).padStart(6, "0"));
    let hash = SEED;
    for (const byte of text) hash = Math.imul(hash ^ byte, 0x01000193);
    const other = seen.get(hash);
    if (other !== undefined) return [other, text];
    seen.set(hash, text);
  }
}

/** How often a call looks something up in a map. */
function lookupsOf(call: () => void): number {
  const get = Reflect.get(Map.prototype, "get") as (this: unknown, key: unknown) => unknown;
  let lookups = 0;
  Map.prototype.get = function (this: unknown, key: unknown): never {
    lookups++;
    return get.call(this, key) as never;
  };
  try {
    call();
  } finally {
    Map.prototype.get = get as typeof Map.prototype.get;
  }
  return lookups;
}
