/**
 * What every {@link Engine} keeps, as tests that each implementation runs. Written from the contract in
 * `lib/engine/engine.ts`.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT, decodeValue, encodeValue } from "../../lib/base/codec.ts";
import type { ChangeEvent, Entry, ListQuery } from "../../lib/engine/engine.ts";
import { testAborts } from "./engine_aborts.ts";
import { testBatches } from "./engine_batches.ts";
import { testBuckets } from "./engine_buckets.ts";
import { testMany } from "./engine_many.ts";
import { brief, bytesOf, type OpenEngine, revisionOf, Subject, take, textOf } from "./engine_subject.ts";
import { testSubscriptions } from "./engine_subscriptions.ts";
import { testTakes } from "./engine_takes.ts";
import { errorCode } from "./fs.ts";

/** Runs the suite. */
export function runEngineSuite(name: string, open: OpenEngine): void {
  describe(name, () => {
    testKeys(open);
    testConditions(open);
    testDeadlines(open);
    testListings(open);
    testTakes(open);
    testBatches(open);
    testMany(open);
    testBuckets(open);
    testAborts(open);
    testSubscriptions(open);
    testLife(open);
  });
}

function testKeys(open: OpenEngine): void {
  describe("keys and values", () => {
    const subject = Subject.each(open);

    test("Engine.get() of a missing key is undefined", async () => {
      expect(await subject.get("a")).toBeUndefined();
      await subject.set("a", "1");
      expect(await subject.get("b")).toBeUndefined();
      expect(await subject.engine.get("other", bytesOf("a"))).toBeUndefined();
    });

    test("Engine.get() returns what was set, with its revision and without a deadline", async () => {
      const revision = revisionOf(await subject.set("a", "1"));
      const entry = (await subject.get("a"))!;
      expect(textOf(entry.key)).toBe("a");
      expect(textOf(entry.value)).toBe("1");
      expect(entry.revision).toBe(revision);
      expect(entry.content).toBe(CONTENT.text);
      expect("expiresAt" in entry).toBe(false);
    });

    test("Engine.read() shows what get gives, and takes what get takes", async () => {
      const { engine } = subject;
      if (engine.read === undefined) return;
      const read = (key: Uint8Array): Promise<unknown> | undefined => {
        return engine.read?.("b", key, (bytes, start, end, content, once, revision, expiresAt) => {
          return [textOf(bytes.slice(start, end)), content, once, revision, expiresAt];
        });
      };
      const long = new Uint8Array(1_000).fill(0x61);
      const options = { content: CONTENT.text };
      const first = await engine.set("b", long, bytesOf("1"), options);
      await engine.set("b", bytesOf("dated"), bytesOf("2"), { ...options, deadline: { expiresAt: 4e12 } });
      await engine.set("b", bytesOf("once"), bytesOf("3"), { ...options, once: true });
      const { revision } = first as { readonly revision: number };
      expect(await read(long)).toEqual(["1", CONTENT.text, false, revision, NaN]);
      expect(await read(bytesOf("dated"))).toEqual(["2", CONTENT.text, false, revision + 1, 4e12]);
      expect(await read(bytesOf("once"))).toEqual(["3", CONTENT.text, false, revision + 2, NaN]);
      expect(await read(bytesOf("once"))).toBeUndefined();
      expect(await errorCode(() => read(new Uint8Array(9_999))!)).toBe("TOO_LARGE");
    });

    test("Engine.getSync() is there when capabilities say so", async () => {
      await subject.set("a", "1");
      const { engine } = subject;
      expect(engine.getSync !== undefined).toBe(engine.capabilities.sync);
      if (engine.getSync !== undefined) expect(textOf(engine.getSync("b", bytesOf("a"))?.value)).toBe("1");
    });

    test("Engine.set() keeps an empty value apart from a missing one", async () => {
      await subject.set("a", "");
      expect((await subject.get("a"))?.value.length).toBe(0);
    });

    test("Engine.set() keeps keys and values of any bytes", async () => {
      const keys = [[0], [0, 0], [0xff], [0xff, 0xff], [0xc3, 0x28], [0x61, 0]].map((key) => Uint8Array.from(key));
      const everyByte = Uint8Array.from({ length: 256 }, (_, index) => index);
      for (const key of keys) {
        await subject.engine.set("b", key, Uint8Array.of(...everyByte, ...key), { content: CONTENT.bytes });
      }
      for (const key of keys) {
        expect([...(await subject.engine.get("b", key))!.value]).toEqual([...everyByte, ...key]);
      }
    });

    test("Engine.set() keeps keys that name members of objects", async () => {
      for (const key of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
        expect(await subject.get(key)).toBeUndefined();
        await subject.set(key, key);
        expect(await subject.value(key)).toBe(key);
      }
    });

    test("Engine.set() keeps the content type", async () => {
      for (const content of Object.values(CONTENT)) {
        await subject.engine.set("b", bytesOf("a"), Uint8Array.of(0x01), { content });
        expect((await subject.get("a"))?.content).toBe(content);
      }
    });

    test("Engine.list() does not keep the buffers it was given, when much has been written either", async () => {
      const { engine } = subject;
      for (let first = 0; first < 9_000; first += 1_000) {
        const entries = Array.from({ length: 1_000 }, (_, index) => bytesOf(`k${first + index}`));
        await engine.setMany("b", entries.map((key) => ({ key, value: key, content: CONTENT.text })));
      }
      const query = { prefix: bytesOf("k899"), start: bytesOf("k"), end: bytesOf("l"), after: bytesOf("k8990") };
      const listing = engine.list("b", { ...query, limit: 3 });
      for (const bytes of Object.values(query)) bytes.fill(0x7a);
      expect((await listing).entries.map(({ key }) => textOf(key))).toEqual(["k8991", "k8992", "k8993"]);
    });

    test("Engine.set() does not keep the buffers it was given", async () => {
      const key = bytesOf("a");
      const value = bytesOf("1");
      const written = subject.engine.set("b", key, value, { content: CONTENT.text });
      key.fill(0x7a);
      value.fill(0x7a);
      await written;
      expect(await subject.value("a")).toBe("1");
      const asked = bytesOf("a");
      const answer = subject.engine.get("b", asked);
      asked.fill(0x7a);
      expect(textOf((await answer)?.key)).toBe("a");
    });

    test("Engine.get() hands out values that stay as they are", async () => {
      await subject.set("a", "first");
      const entry = await subject.get("a");
      for (let round = 0; round < 50; round++) await subject.set("a", `later ${round}`);
      expect(textOf(entry?.value)).toBe("first");
    });

    test("Engine.getMany() answers in the order of the keys", async () => {
      await subject.set("a", "1");
      await subject.set("c", "3");
      const entries = await subject.engine.getMany("b", ["c", "b", "a", "c"].map(bytesOf));
      expect(entries.map((entry) => textOf(entry?.value))).toEqual(["3", undefined, "1", "3"]);
      expect(await subject.engine.getMany("b", [])).toEqual([]);
    });

    test("Engine.getMany() takes thousands of keys and megabytes of values", async () => {
      const { engine } = subject;
      const value = new Uint8Array(1_000).fill(0x61);
      const keys = Array.from({ length: 2_500 }, (_, index) => bytesOf(`key ${index}`));
      await Promise.all(keys.map((key) => engine.set("b", key, value, { content: CONTENT.bytes })));
      const entries = await engine.getMany("b", [...keys, bytesOf("missing")]);
      expect(entries.length).toBe(2_501);
      expect(
        entries.slice(0, -1).every((entry, index) => {
          return entry!.value.length === 1_000 && textOf(entry!.key) === textOf(keys[index]);
        }),
      ).toBe(true);
      expect(entries.at(-1)).toBeUndefined();
    });

    test("Engine.set() and .get() refuse what is over the limits", async () => {
      const { engine } = subject;
      const { keyBytesMax, valueBytesMax } = engine.limits;
      const key = new Uint8Array(keyBytesMax).fill(0x61);
      const value = new Uint8Array(valueBytesMax).fill(0x62);
      const content = CONTENT.bytes;
      expect((await engine.set("b", key, value, { content })).ok).toBe(true);
      expect((await engine.get("b", key))?.value.length).toBe(valueBytesMax);
      const longKey = new Uint8Array(keyBytesMax + 1);
      const longValue = new Uint8Array(valueBytesMax + 1);
      expect(await errorCode(() => engine.set("b", longKey, value, { content }))).toBe("TOO_LARGE");
      expect(await errorCode(() => engine.set("b", key, longValue, { content }))).toBe("TOO_LARGE");
      expect(await errorCode(() => engine.get("b", longKey))).toBe("TOO_LARGE");
      expect(await errorCode(() => engine.getMany("b", [key, longKey]))).toBe("TOO_LARGE");
      expect(await errorCode(() => engine.delete("b", longKey))).toBe("TOO_LARGE");
    });

    test("Engine refuses an empty key", async () => {
      for (const call of [() => subject.set("", "1"), () => subject.get("")]) {
        let thrown: unknown;
        try {
          await call();
        } catch (error) {
          thrown = error;
        }
        expect(thrown).toBeInstanceOf(RangeError);
      }
    });

    test("Engine.delete() ends a key, once", async () => {
      const { engine } = subject;
      const first = revisionOf(await subject.set("a", "1"));
      expect(revisionOf(await engine.delete("b", bytesOf("a")))).toBeGreaterThan(first);
      expect(await subject.get("a")).toBeUndefined();
      expect(await engine.delete("b", bytesOf("a"))).toEqual({ ok: false, current: undefined });
      await subject.set("a", "2");
      expect(await subject.value("a")).toBe("2");
    });

    test("Engine keeps buckets apart", async () => {
      const { engine } = subject;
      await subject.set("a", "1");
      await engine.set("c", bytesOf("a"), bytesOf("2"), { content: CONTENT.text });
      await engine.delete("b", bytesOf("a"));
      expect(textOf((await engine.get("c", bytesOf("a")))?.value)).toBe("2");
      expect((await engine.list("b", { limit: 10 })).entries).toEqual([]);
    });

    test("Engine.increment() counts from 0, sums calls of one tick and keeps the deadline", async () => {
      const { engine, clock } = subject;
      const key = bytesOf("n");
      const results = await Promise.all([1, 2, 3].map((by) => engine.increment("b", key, by)));
      expect(results.map(({ value }) => value)).toEqual([1, 3, 6]);
      expect(results[2]!.revision).toBeGreaterThan(results[0]!.revision);
      expect((await engine.increment("b", key, -6.5)).value).toBe(-0.5);
      const entry = (await engine.get("b", key))!;
      expect(decodeValue(entry.value, entry.content)).toBe(-0.5);
      await engine.touch("b", key, { ttl: 1_000 });
      await engine.increment("b", key, 1);
      expect((await engine.get("b", key))?.expiresAt).toBe(clock.wall() + 1_000);
    });

    test("Engine.increment() counts in a text and refuses what is no number", async () => {
      const { engine } = subject;
      await subject.set("t", "41");
      expect((await engine.increment("b", bytesOf("t"), 1)).value).toBe(42);
      expect(await subject.value("t")).toBe("42");
      await subject.set("word", "many");
      expect(await errorCode(() => engine.increment("b", bytesOf("word"), 1))).toBe("INVALID");
      await engine.set("b", bytesOf("o"), encodeValue({ a: 1 }, CONTENT.cbor), { content: CONTENT.cbor });
      expect(await errorCode(() => engine.increment("b", bytesOf("o"), 1))).toBe("INVALID");
    });
  });
}

function testConditions(open: OpenEngine): void {
  describe("revisions and conditions", () => {
    const subject = Subject.each(open);

    test("Engine.set() gives ascending revisions", async () => {
      const results = await Promise.all(
        Array.from({ length: 100 }, (_, index) => subject.set(`k${index % 7}`, `${index}`)),
      );
      const revisions = results.map(revisionOf);
      for (let index = 1; index < revisions.length; index++) {
        expect(revisions[index]!).toBeGreaterThan(revisions[index - 1]!);
      }
    });

    test("Engine.set() with ifRevision writes when it holds, else returns what is there", async () => {
      const first = revisionOf(await subject.set("a", "1"));
      const second = revisionOf(await subject.set("a", "2", { ifRevision: first }));
      const lost = await subject.set("a", "3", { ifRevision: first });
      expect(lost.ok).toBe(false);
      if (lost.ok || lost.current === undefined) throw new Error("There is no current entry");
      expect(lost.current.revision).toBe(second);
      expect(textOf(lost.current.value)).toBe("2");
      expect(textOf(lost.current.key)).toBe("a");
      expect(await subject.value("a")).toBe("2");
    });

    test("Engine.set() with ifRevision of a missing key says that there is none", async () => {
      expect(await subject.set("a", "1", { ifRevision: 7 })).toEqual({ ok: false, current: undefined });
      const revision = revisionOf(await subject.set("a", "1"));
      await subject.engine.delete("b", bytesOf("a"));
      expect(await subject.set("a", "2", { ifRevision: revision })).toEqual({ ok: false, current: undefined });
    });

    test("Engine.set() with ifRevision 0 writes only where no key is", async () => {
      expect((await subject.set("a", "1", { ifRevision: 0 })).ok).toBe(true);
      expect((await subject.set("a", "2", { ifRevision: 0 })).ok).toBe(false);
      await subject.engine.delete("b", bytesOf("a"));
      expect((await subject.set("a", "3", { ifRevision: 0 })).ok).toBe(true);
      expect(await subject.value("a")).toBe("3");
    });

    test("Engine.set() judges the conditions of one tick in order: one of two wins", async () => {
      const [first, second] = await Promise.all([
        subject.set("a", "1", { ifRevision: 0 }),
        subject.set("a", "2", { ifRevision: 0 }),
      ]);
      expect(first!.ok).toBe(true);
      expect(second!.ok).toBe(false);
      if (!second!.ok) expect(textOf(second!.current?.value)).toBe("1");
      expect(await subject.value("a")).toBe("1");
    });

    test("Engine judges a condition against writes and deletes of the same tick", async () => {
      const { engine } = subject;
      const key = bytesOf("a");
      const results = await Promise.all([
        subject.set("a", "1"),
        engine.delete("b", key),
        engine.delete("b", key),
        subject.set("a", "2", { ifRevision: 0 }),
        engine.touch("b", key, undefined),
      ]);
      expect(results.map(({ ok }) => ok)).toEqual([true, true, false, true, true]);
      expect(await subject.value("a")).toBe("2");
    });

    test("Engine.delete() with ifRevision deletes when it holds, else returns what is there", async () => {
      const { engine } = subject;
      const key = bytesOf("a");
      const first = revisionOf(await subject.set("a", "1"));
      const second = revisionOf(await subject.set("a", "2"));
      const lost = await engine.delete("b", key, { ifRevision: first });
      expect(!lost.ok && textOf(lost.current?.value)).toBe("2");
      expect((await engine.delete("b", key, { ifRevision: second })).ok).toBe(true);
      expect(await engine.delete("b", key, { ifRevision: second })).toEqual({ ok: false, current: undefined });
    });
  });
}

function testDeadlines(open: OpenEngine): void {
  describe("deadlines", () => {
    const subject = Subject.each(open);

    test("Engine.set() with a ttl ends the key when the time has passed", async () => {
      const { clock } = subject;
      await subject.set("a", "1", { deadline: { ttl: 1_000 } });
      expect((await subject.get("a"))?.expiresAt).toBe(clock.wall() + 1_000);
      clock.advance(999);
      expect(await subject.value("a")).toBe("1");
      clock.advance(1);
      expect(await subject.get("a")).toBeUndefined();
      expect(await subject.engine.getMany("b", [bytesOf("a")])).toEqual([undefined]);
      expect(await subject.keys()).toBe("");
    });

    test("Engine.set() with expiresAt ends the key at that time", async () => {
      const { clock } = subject;
      const expiresAt = clock.wall() + 500;
      await subject.set("a", "1", { deadline: { expiresAt } });
      expect((await subject.get("a"))?.expiresAt).toBe(expiresAt);
      clock.advance(500);
      expect(await subject.get("a")).toBeUndefined();
      expect((await subject.set("a", "2", { ifRevision: 0 })).ok).toBe(true);
    });

    test("Engine.set() without a deadline drops the one that was there", async () => {
      await subject.set("a", "1", { deadline: { ttl: 1_000 } });
      await subject.set("a", "2");
      expect((await subject.get("a"))?.expiresAt).toBeUndefined();
      subject.clock.advance(2_000);
      expect(await subject.value("a")).toBe("2");
    });

    test("Engine.touch() moves and drops a deadline and leaves the value alone", async () => {
      const { engine, clock } = subject;
      const key = bytesOf("a");
      await subject.set("a", "1", { deadline: { ttl: 1_000 } });
      expect((await engine.touch("b", key, { ttl: 5_000 })).ok).toBe(true);
      clock.advance(1_000);
      expect(await subject.value("a")).toBe("1");
      expect((await engine.touch("b", key, undefined)).ok).toBe(true);
      clock.advance(10_000);
      const entry = await subject.get("a");
      expect(textOf(entry?.value)).toBe("1");
      expect(entry?.content).toBe(CONTENT.text);
      expect(entry?.expiresAt).toBeUndefined();
      expect(await engine.touch("b", bytesOf("missing"), { ttl: 1 })).toEqual({ ok: false, current: undefined });
    });

    test("Engine tells of each expiry once, in order of the deadlines", async () => {
      const { engine, clock } = subject;
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      await subject.set("late", "1", { deadline: { ttl: 2_000 } });
      await subject.set("soon", "2", { deadline: { ttl: 1_000 } });
      await take(subscription, 2);
      clock.advance(1_000);
      const [soon] = await take(subscription, 1) as ChangeEvent[];
      expect(brief(soon!)).toBe("expire soon");
      expect(soon!.bucket).toBe("b");
      expect(soon!.at).toBe(clock.wall());
      clock.advance(1_000);
      const [late] = await take(subscription, 1) as ChangeEvent[];
      expect(brief(late!)).toBe("expire late");
      expect(late!.revision).toBeGreaterThan(soon!.revision);
      await subject.set("end", "");
      expect((await take(subscription, 1)).map(brief)).toEqual(["set end="]);
      subscription.close();
    });

    test("Engine tells of an expiry before the write that finds it", async () => {
      const { engine, clock } = subject;
      const subscription = engine.subscribe({});
      await subscription.ready;
      await subject.set("a", "1", { deadline: { ttl: 10 } });
      clock.advance(10);
      await subject.set("a", "2");
      expect((await take(subscription, 3)).map(brief)).toEqual(["set a=1", "expire a", "set a=2"]);
      subscription.close();
    });
  });
}

function testListings(open: OpenEngine): void {
  describe("listings", () => {
    const subject = Subject.each(open);

    test("Engine.list() goes in byte order, either way", async () => {
      const { engine } = subject;
      const keys = [[0xff, 0xff], [0x61], [0xff], [0x61, 0], [0x62], [0x61, 0xff], [0]].map((key) =>
        Uint8Array.from(key)
      );
      for (const key of keys) await engine.set("b", key, key, { content: CONTENT.bytes });
      const hex = (entries: readonly Entry[]): string[] => entries.map(({ key }) => [...key].join("."));
      const order = ["0", "97", "97.0", "97.255", "98", "255", "255.255"];
      const forward = await engine.list("b", { limit: 100 });
      expect(hex(forward.entries)).toEqual(order);
      expect(forward.more).toBe(false);
      const backward = await engine.list("b", { limit: 100, reverse: true });
      expect(hex(backward.entries)).toEqual(order.toReversed());
    });

    test("Engine.list() keeps to prefix, start, end and after", async () => {
      for (const key of ["a", "aa", "ab", "b", "ba", "c"]) await subject.set(key, key);
      expect(await subject.keys({ prefix: bytesOf("a") })).toBe("a aa ab");
      expect(await subject.keys({ prefix: bytesOf("x") })).toBe("");
      expect(await subject.keys({ start: bytesOf("ab"), end: bytesOf("c") })).toBe("ab b ba");
      expect(await subject.keys({ start: bytesOf("c"), end: bytesOf("a") })).toBe("");
      expect(await subject.keys({ after: bytesOf("ab") })).toBe("b ba c");
      expect(await subject.keys({ after: bytesOf("ab"), reverse: true })).toBe("aa a");
      expect(await subject.keys({ prefix: bytesOf("a"), start: bytesOf("aa"), reverse: true })).toBe("ab aa");
      expect(await subject.keys({ start: bytesOf("aa"), end: bytesOf("ba"), reverse: true })).toBe("b ab aa");
      expect(await subject.keys({ prefix: bytesOf("a"), after: bytesOf("a") })).toBe("aa ab");
    });

    test("Engine.list() gives entries whole, and no deleted or due ones", async () => {
      const { engine, clock } = subject;
      await subject.set("gone", "1");
      await subject.set("due", "2", { deadline: { ttl: 5 } });
      const revision = revisionOf(await subject.set("kept", "3", { deadline: { ttl: 50 } }));
      await engine.delete("b", bytesOf("gone"));
      clock.advance(5);
      const { entries } = await engine.list("b", { limit: 10 });
      expect(entries.length).toBe(1);
      const [entry] = entries;
      expect(textOf(entry!.key)).toBe("kept");
      expect(textOf(entry!.value)).toBe("3");
      expect(entry!.revision).toBe(revision);
      expect(entry!.content).toBe(CONTENT.text);
      expect(entry!.expiresAt).toBe(clock.wall() + 45);
    });

    test("Engine.list() of a bucket that is not there is empty", async () => {
      expect(await subject.engine.list("nothing", { limit: 10 })).toEqual({ entries: [], more: false });
    });

    test("Engine.list() pages through thousands of keys without gap or repeat", async () => {
      const { engine } = subject;
      const keys = Array.from({ length: 2_345 }, (_, index) => `k${String(index).padStart(5, "0")}`);
      await Promise.all(keys.map((key) => subject.set(key, "")));
      for (const reverse of [false, true]) {
        for (const limit of [100_000, 700]) {
          const listed: string[] = [];
          let query: ListQuery = { limit, reverse, prefix: bytesOf("k") };
          for (;;) {
            const { entries, more } = await engine.list("b", query);
            listed.push(...entries.map(({ key }) => textOf(key)!));
            expect(entries.length).toBeLessThanOrEqual(limit);
            if (!more) break;
            query = { ...query, after: entries.at(-1)!.key };
          }
          expect(listed).toEqual(reverse ? keys.toReversed() : keys);
        }
      }
    });
  });
}

function testLife(open: OpenEngine): void {
  describe("life", () => {
    const subject = Subject.each(open);

    test("Engine.stats() gives numbers", async () => {
      await subject.set("a", "1");
      const stats = await subject.engine.stats();
      expect(Object.keys(stats).length).toBeGreaterThan(0);
      expect(Object.values(stats).every((value) => typeof value === "number")).toBe(true);
    });

    test("Engine.sync() resolves after the writes before it", async () => {
      let written = false;
      const write = subject.set("a", "1").then(() => written = true);
      await subject.engine.sync();
      await write;
      expect(written).toBe(true);
    });

    test("Engine.compact() loses nothing", async () => {
      const { engine, close } = await open();
      const content = CONTENT.text;
      for (let round = 0; round < 3; round++) {
        for (const key of ["a", "b", "c"]) await engine.set("b", bytesOf(key), bytesOf(`${key}${round}`), { content });
      }
      await engine.delete("b", bytesOf("c"));
      await engine.compact();
      const entries = await engine.getMany("b", ["a", "b", "c"].map(bytesOf));
      expect(entries.map((entry) => textOf(entry?.value))).toEqual(["a2", "b2", undefined]);
      await close();
    });

    test("Engine.close() ends subscriptions, and every later call is CLOSED", async () => {
      const { engine } = subject;
      const key = bytesOf("a");
      const subscription = engine.subscribe({ bucket: "quiet" });
      await subscription.ready;
      const waiting = subscription.next();
      const write = subject.set("a", "1");
      await engine.close();
      expect((await write).ok).toBe(true);
      expect(await waiting).toBeUndefined();
      expect(await subscription.next()).toBeUndefined();
      const calls: (() => Promise<unknown>)[] = [
        () => engine.get("b", key),
        () => engine.getMany("b", [key]),
        () => engine.has("b", key),
        () => engine.take("b", key),
        () => engine.atomic([]),
        () => subject.set("a", "2"),
        () => engine.delete("b", key),
        () => engine.touch("b", key, undefined),
        () => engine.increment("b", key, 1),
        () => engine.list("b", { limit: 1 }),
        async () => await engine.subscribe({}).ready,
        () => engine.buckets(),
        () => engine.configure("b", {}),
        () => engine.stats(),
        () => engine.sync(),
        () => engine.compact(),
      ];
      for (const call of calls) expect(await errorCode(call)).toBe("CLOSED");
      await engine.close();
    });
  });
}
