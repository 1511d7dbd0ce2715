/**
 * What users hold: buckets, options and subscriptions on an embedded store.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import type { ContentName } from "../../lib/base/codec.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { type Bucket, milliseconds } from "../../lib/store/bucket.ts";
import { open, type OpenOptions } from "../../lib/store/open.ts";
import type { SubscriptionEvent } from "../../lib/store/subscription.ts";
import { errorCode } from "../suites/fs.ts";

/** What an action throws or rejects with. */
async function failure(action: () => unknown): Promise<unknown> {
  try {
    await action();
  } catch (error) {
    return error;
  }
  return undefined;
}

async function keys(bucket: Bucket<unknown>, options: Parameters<Bucket["list"]>[0] = {}): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const { key } of bucket.list(options)) found.push(key);
  return found;
}

describe("Bucket", () => {
  test("keeps values of every codec, read by what they are", async () => {
    const store = await open(":memory:");
    const values: [ContentName, unknown][] = [
      ["cbor", { a: [1, new Date(5)] }],
      ["json", { a: [1, null] }],
      ["text", "é"],
      ["bytes", Uint8Array.of(0, 255)],
    ];
    for (const [codec, value] of values) {
      await store.bucket("b", { codec }).set(codec, value);
      for (const [reader] of values) {
        const bucket = store.bucket("b", { codec: reader });
        expect(await bucket.get(codec)).toEqual(value);
        expect(bucket.getSync(codec)).toEqual(value);
      }
    }
    const entries = await store.bucket("b").getMany(values.map(([codec]) => codec));
    expect(entries).toEqual(values.map(([, value]) => value));
    await store.close();
  });

  test("values handed out are the caller's own", async () => {
    const store = await open(":memory:");
    const bytes = store.bucket<Uint8Array>("b", { codec: "bytes" });
    await bytes.set("a", Uint8Array.of(1, 2));
    (await bytes.get("a"))!.fill(9);
    const nested = store.bucket<{ a: Uint8Array }>("n");
    await nested.set("a", { a: Uint8Array.of(1, 2) });
    (await nested.get("a"))!.a.fill(9);
    expect(await bytes.get("a")).toEqual(Uint8Array.of(1, 2));
    expect(await nested.get("a")).toEqual({ a: Uint8Array.of(1, 2) });
    await store.close();
  });

  test("a key is not overwritten by a set that another set's value causes", async () => {
    const store = await open(":memory:");
    const texts = store.bucket<unknown>("texts", { codec: "json" });
    const inner: Promise<unknown>[] = [];
    const value = { toJSON: () => (inner.push(texts.set("inner", "2")), "1") };
    await texts.set("outer", value);
    await Promise.all(inner);
    expect([await texts.get("outer"), await texts.get("inner")]).toEqual(["1", "2"]);
    await store.close();
  });

  test("a string key is its UTF-8", async () => {
    const store = await open(":memory:");
    const bucket = store.bucket("b");
    await bucket.set("é", 1);
    await bucket.set(Uint8Array.of(0xff), 2);
    expect(await bucket.get(new TextEncoder().encode("é"))).toBe(1);
    expect(await keys(bucket)).toEqual(["é", Uint8Array.of(0xff)]);
    expect((await bucket.getEntry("é"))?.key).toBe("é");
    for (const call of [() => bucket.set("\ud800", 1), () => bucket.get("\ud800"), () => bucket.has("a\udfff")]) {
      expect(await failure(call)).toBeInstanceOf(TypeError);
    }
    await store.close();
  });

  test("entries carry revision and deadline; touch, persist, has, delete and increment do theirs", async () => {
    const clock = new ManualClock();
    const store = await open({ path: ":memory:", clock });
    const bucket = store.bucket<number>("b");
    const result = await bucket.set("a", 1, { ttl: "1s" });
    expect(await bucket.getEntry("a")).toEqual({
      key: "a",
      value: 1,
      revision: result.ok ? result.revision : -1,
      expiresAt: clock.wall() + 1_000,
    });
    await bucket.touch("a", "1m");
    expect((await bucket.getEntry("a"))?.expiresAt).toBe(clock.wall() + 60_000);
    expect(await bucket.increment("a")).toBe(2);
    await bucket.persist("a");
    clock.advance(100_000);
    expect(await bucket.get("a")).toBe(2);
    expect(await bucket.has("a")).toBe(true);
    expect(await bucket.set("a", 9, { ifRevision: 1 })).toMatchObject({ ok: false, current: { key: "a", value: 2 } });
    expect((await bucket.delete("a")).ok).toBe(true);
    expect([await bucket.has("a"), await bucket.getEntry("a")]).toEqual([false, undefined]);
    for (const gone of [bucket.delete("a"), bucket.touch("a", 5), bucket.persist("a")]) {
      expect(await gone).toEqual({ ok: false, current: undefined });
    }
    const at = clock.wall() + 10;
    await bucket.set("b", 1, { expiresAt: at });
    expect((await bucket.getEntry("b"))?.expiresAt).toBe(at);
    await store.close();
  });

  test("single-read keys: get, getEntry, getMany and take give the value once, and nothing else shows it", async () => {
    const store = await open(":memory:");
    const bucket = store.bucket<string>("b");
    const subscription = bucket.subscribe();
    const names = ["a", "b", "c", "d"];
    for (const name of names) await bucket.set(name, `secret ${name}`, { once: true, ttl: "1h" });
    expect(await bucket.has("a")).toBe(true);
    for await (const entry of bucket.list()) expect([entry.once, entry.value]).toEqual([true, undefined]);
    const lost = await bucket.set("a", "x", { ifRevision: 0 });
    expect(!lost.ok && [lost.current?.once, lost.current?.value]).toEqual([true, undefined]);
    expect(await errorCode(() => Promise.resolve(bucket.getSync("a")))).toBe("NOT_SUPPORTED");
    let heard = 0;
    for await (const event of subscription) {
      expect(event).toMatchObject({ type: "set", key: names[heard]!, once: true, content: "cbor" });
      expect("value" in event || "error" in event).toBe(false);
      if (++heard === 4) break;
    }
    expect(await bucket.getEntry("a")).toMatchObject({ key: "a", value: "secret a", once: true });
    expect(await bucket.get("b", { touch: "5m" })).toBe("secret b");
    expect(await bucket.getMany(["c", "a"])).toEqual(["secret c", undefined]);
    expect(await bucket.take("d")).toBe("secret d");
    for (const name of names) expect([await bucket.has(name), await bucket.take(name)]).toEqual([false, undefined]);
    await store.close();
  });

  test("get() with touch moves the deadline behind the read, and revives nothing", async () => {
    const clock = new ManualClock();
    const store = await open({ path: ":memory:", clock });
    const bucket = store.bucket<string>("b");
    await bucket.set("a", "1", { ttl: "10s" });
    for (let round = 0; round < 5; round++) {
      clock.advance(9_000);
      expect(await bucket.get("a", { touch: "10s" })).toBe("1");
    }
    expect((await bucket.getEntry("a"))?.expiresAt).toBe(clock.wall() + 10_000);
    clock.advance(10_000);
    expect(await bucket.get("a", { touch: "10s" })).toBeUndefined();
    expect(await failure(() => bucket.get("a", { touch: "soon" }))).toBeInstanceOf(TypeError);
    await bucket.set("kept", "1");
    expect(await bucket.get("kept")).toBe("1");
    expect((await bucket.getEntry("kept"))?.expiresAt).toBeUndefined();
    await store.close();
  });

  test("list() pages through more than one page, with a limit and both ways", async () => {
    const store = await open(":memory:");
    const bucket = store.bucket<number>("b");
    const names = Array.from({ length: 2_300 }, (_, index) => `k${String(index).padStart(4, "0")}`);
    await Promise.all(names.map((name, index) => bucket.set(name, index)));
    expect(await keys(bucket)).toEqual(names);
    expect(await keys(bucket, { reverse: true })).toEqual(names.toReversed());
    expect(await keys(bucket, { limit: 1_500 })).toEqual(names.slice(0, 1_500));
    expect(await keys(bucket, { start: "k1000", end: "k2100", reverse: true, limit: 1_050 }))
      .toEqual(names.slice(1_050, 2_100).toReversed());
    expect(await keys(bucket, { prefix: "k22" })).toEqual(names.slice(2_200));
    expect(await keys(bucket, { limit: 0 })).toEqual([]);
    await store.close();
  });

  test("misuse is a TypeError or RangeError, and nothing is written", async () => {
    const store = await open(":memory:");
    const bucket = store.bucket<unknown>("b");
    const text = store.bucket<unknown>("b", { codec: "text" });
    const wrong: [() => unknown, typeof TypeError | typeof RangeError][] = [
      [() => bucket.set("a", undefined), TypeError],
      [() => text.set("a", 1), TypeError],
      [() => bucket.set(5 as unknown as string, 1), TypeError],
      [() => bucket.set("", 1), RangeError],
      [() => bucket.set("a", 1, { ttl: "soon" }), TypeError],
      [() => bucket.set("a", 1, { ttl: 0 }), RangeError],
      [() => bucket.set("a", 1, { ttl: -5 }), RangeError],
      [() => bucket.set("a", 1, { ttl: NaN }), RangeError],
      [() => bucket.set("a", 1, { ttl: 5, expiresAt: 5 }), TypeError],
      [() => bucket.set("a", 1, { expiresAt: 1.5 }), RangeError],
      [() => bucket.set("a", 1, { ifRevision: -1 }), RangeError],
      [() => bucket.set("a", 1, { once: 1 as unknown as boolean }), TypeError],
      [() => bucket.delete("a", { ifRevision: 0.5 }), RangeError],
      [() => bucket.increment("a", Infinity), RangeError],
      [() => keys(bucket, { limit: -1 }), RangeError],
      [() => store.bucket("Bad"), RangeError],
      [() => store.bucket(""), RangeError],
      [() => store.bucket("_a"), RangeError],
      [() => store.bucket("a".repeat(65)), RangeError],
      [() => store.bucket(1 as unknown as string), TypeError],
      [() => store.bucket("b", { codec: "xml" as ContentName }), RangeError],
      [() => store.subscribe({ bucket: "../x" }), RangeError],
    ];
    for (const [call, kind] of wrong) expect(await failure(call)).toBeInstanceOf(kind);
    expect(await keys(bucket)).toEqual([]);
    expect((await store.stats())["revision"]).toBe(0);
    await store.close();
  });

  test("milliseconds() reads durations", () => {
    const known: [number | string, number][] = [
      [5, 5],
      ["250ms", 250],
      ["30s", 30_000],
      ["1.5m", 90_000],
      ["2h", 7_200_000],
      ["7d", 604_800_000],
    ];
    for (const [duration, expected] of known) expect(milliseconds(duration)).toBe(expected);
    for (const wrong of ["", "5", "5 s", "-5s", "1w", "0x5s", "1e3s"]) {
      expect(() => milliseconds(wrong)).toThrow(TypeError);
    }
    for (const wrong of ["0s", 0, 0.2, Infinity, 2 ** 60]) expect(() => milliseconds(wrong)).toThrow(RangeError);
    expect(() => milliseconds(null as unknown as number)).toThrow(TypeError);
  });
});

describe("open()", () => {
  test("keeps what was written, on the same file system", async () => {
    const fileSystem = new MemoryFileSystem();
    for (let life = 0; life < 3; life++) {
      await using store = await open({ path: "kept", fileSystem });
      expect(await store.bucket("b").increment("lives")).toBe(life + 1);
      expect(await errorCode(() => open({ path: "kept", fileSystem }))).toBe("LOCKED");
    }
    const other = await open(":memory:");
    expect(await other.bucket("b").get("lives")).toBeUndefined();
    await other.close();
  });

  test("refuses options that make no sense", async () => {
    const wrong: Partial<OpenOptions>[] = [
      { path: "" },
      { sync: "never" as "os" },
      { syncIntervalMs: 0 },
      { cacheBytesMax: -1 },
      { segmentBytesMax: 100 },
      { segmentBytesMax: 5_000.5 },
      { segmentBytesMax: 2 ** 31 },
      { keyBytesMax: 70_000 },
      { valueBytesMax: NaN },
      { compaction: { deadRatio: 0 } },
      { compaction: { deadRatio: 1.5 } },
      { compaction: { deadBytes: 0 } },
      { compaction: { smallBytes: 17 * 1024 * 1024 } },
      { compaction: { window: { start: 5, end: 5 } } },
      { compaction: { window: { start: 24, end: 5 } } },
      { compaction: { window: { start: 1, end: NaN } } },
      { reserveBytes: -1 },
      { tombstoneRetention: "long" },
    ];
    for (const options of wrong) {
      const error = await failure(() => open({ path: ":memory:", ...options }));
      expect(error instanceof RangeError || error instanceof TypeError).toBe(true);
    }
  });

  test("limits keys and values", async () => {
    const store = await open({ path: ":memory:", keyBytesMax: 4, valueBytesMax: 8 });
    const bucket = store.bucket<unknown>("b", { codec: "text" });
    expect((await bucket.set("abcd", "12345678")).ok).toBe(true);
    expect(await errorCode(() => bucket.set("abcde", "1"))).toBe("TOO_LARGE");
    expect(await errorCode(() => bucket.set("ééé", "1"))).toBe("TOO_LARGE");
    expect(await errorCode(() => bucket.set("a", "123456789"))).toBe("TOO_LARGE");
    await store.close();
  });

  test("compresses what is large, when that is smaller, and gives it back whole", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await open({ path: "c", fileSystem, compression: { bytesMin: 100 } });
    const bucket = store.bucket<string>("b", { codec: "text" });
    const text = "all work and no play ".repeat(5_000);
    await bucket.set("long", text, { ttl: "1h" });
    await bucket.set("short", "x".repeat(99));
    expect((await store.stats())["log.bytes"]!).toBeLessThan(5_000);
    expect(await bucket.get("long")).toBe(text);
    await bucket.touch("long", "2h");
    await store.compact();
    await store.close();
    const again = await open({ path: "c", fileSystem, compression: false });
    expect(await again.bucket("b").get("long")).toBe(text);
    await again.close();
  });
});

describe("Store", () => {
  test("close() commits what waits, and may be called again", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await open({ path: "c", fileSystem });
    const write = store.bucket("b").set("a", 1);
    await Promise.all([store.close(), store.close()]);
    expect((await write).ok).toBe(true);
    expect(await errorCode(() => store.bucket("b").get("a"))).toBe("CLOSED");
    expect(await errorCode(() => store.subscribe())).toBe("CLOSED");
    const again = await open({ path: "c", fileSystem });
    expect(await again.bucket("b").get("a")).toBe(1);
    await again.close();
  });

  test("subscribe() gives decoded events; a loop that ends closes it", async () => {
    const clock = new ManualClock();
    const store = await open({ path: ":memory:", clock });
    const bucket = store.bucket<{ n: number }>("b");
    const subscription = bucket.subscribe({ prefix: "a" });
    await bucket.set("a1", { n: 1 }, { ttl: 50 });
    await bucket.set("b1", { n: 2 });
    clock.advance(50);
    const events: SubscriptionEvent[] = [];
    for await (const event of subscription) {
      events.push(event);
      if (event.type === "expire") break;
    }
    expect(events).toMatchObject([
      { type: "set", bucket: "b", key: "a1", value: { n: 1 }, content: "cbor" },
      { type: "expire", bucket: "b", key: "a1" },
    ]);
    expect("value" in events[1]!).toBe(false);
    expect((await store.stats())["subscriptions"]).toBe(0);
    await store.close();
  });

  test("subscribe() with a signal ends when it is aborted, before or after", async () => {
    const store = await open(":memory:");
    const aborted = new AbortController();
    aborted.abort();
    const later = new AbortController();
    const ends = [aborted, later].map(async ({ signal }) => {
      for await (const event of store.subscribe({ signal })) throw new Error(`There is an event: ${event.type}`);
      return true;
    });
    await Promise.resolve();
    later.abort();
    expect(await Promise.all(ends)).toEqual([true, true]);
    await store.close();
  });

  test("subscribe() with a snapshot of all buckets, then from its cursor", async () => {
    const store = await open(":memory:");
    await store.bucket("b").set("x", 1);
    await store.bucket("c").set("y", 2);
    const said = (event: SubscriptionEvent): string =>
      "key" in event ? `${event.bucket}/${String(event.key)}` : event.type;
    const seen: string[] = [];
    let cursor = "";
    for await (const event of store.subscribe({ snapshot: true })) {
      seen.push(said(event));
      if (event.type === "synced") {
        ({ cursor } = event);
        break;
      }
    }
    expect(seen).toEqual(["b/x", "c/y", "synced"]);
    await store.bucket("c").set("z", 3);
    for await (const event of store.subscribe({ from: cursor, bucket: "c" })) {
      expect(said(event)).toBe("c/z");
      break;
    }
    await store.close();
  });

  test("configure() takes a duration and a name, and buckets() tells both", async () => {
    const clock = new ManualClock();
    const store = await open({ path: ":memory:", clock });
    await store.configure("sessions", { ttl: "1.5s", description: "who is there" });
    await store.bucket("sessions").set("ada", 1);
    expect(await store.buckets()).toMatchObject([{
      name: "sessions",
      keys: 1,
      settings: { ttl: 1_500, description: "who is there" },
    }]);
    expect((await store.bucket("sessions").getEntry("ada"))?.expiresAt).toBe(clock.wall() + 1_500);
    expect(await failure(() => store.configure("No", {}))).toBeInstanceOf(RangeError);
    expect(await failure(() => store.configure("b", { ttl: "soon" }))).toBeInstanceOf(TypeError);
    await store.close();
  });
});
