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
    topics.hold(undefined, undefined);
    topics.hold(undefined, bytesOf("a"));
    topics.hold("b", undefined);
    for (const prefix of ["a", "ab", "abc", "abcd", "b", "ac", ""]) topics.hold("b", bytesOf(prefix));
    topics.hold("c", bytesOf("a"));
    expect(visited(topics, "b", "abc")).toEqual(["*", "*/a", "b", "b/a", "b/ab", "b/abc"]);
    expect(visited(topics, "c", "b")).toEqual(["*"]);
  });

  test("Topics.hold() gives those who ask for the same one topic, until the last releases it", () => {
    const topics = new Topics<unknown>(SEED);
    const first = topics.hold("b", bytesOf("a"));
    expect(topics.hold("b", bytesOf("a"))).toBe(first);
    topics.release(first);
    expect(visited(topics, "b", "ab")).toEqual(["b/a"]);
    topics.release(first);
    expect(visited(topics, "b", "ab")).toEqual([]);
    expect(topics.hold("b", bytesOf("a"))).not.toBe(first);
  });

  test("Topics finds what a comparison with each finds, while topics come and go", () => {
    const random = randomOf(7);
    const topics = new Topics<unknown>(SEED);
    const held: Topic<unknown>[] = [];
    const word = (): string => Array.from({ length: random(5) }, () => "ab"[random(2)]).join("");
    for (let step = 0; step < 2_000; step++) {
      if (held.length > 20 && random(2) === 0) topics.release(held.splice(random(held.length), 1)[0]!);
      else held.push(topics.hold(["b", "c", undefined][random(3)], bytesOf(word())));
      const [bucket, key] = ["bc"[random(2)]!, `${word()}x`];
      const wanted = new Set(held.filter((topic) => topic.matches(bucket, bytesOf(key))).map(nameOf));
      expect(visited(topics, bucket, key)).toEqual([...wanted].sort());
    }
  });

  test("Topics looks at no more topics when there are a hundred thousand", () => {
    const topics = new Topics<unknown>(SEED);
    for (let index = 0; index < 100_000; index++) topics.hold("b", bytesOf(`user:${index}:`));
    expect(visited(topics, "b", "user:77:name")).toEqual(["b/user:77:"]);
    expect(lookupsOf(() => topics.visit("b", bytesOf("user:12345:name"), () => {}))).toBeLessThanOrEqual(2 + 15);
  });
});

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
