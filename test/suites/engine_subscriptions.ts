/**
 * What every engine keeps about subscriptions: the part of `runEngineSuite` that is about events.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import type { ChangeEvent } from "../../lib/engine/engine.ts";
import { brief, bytesOf, type OpenEngine, revisionOf, Subject, take, textOf } from "./engine_subject.ts";

/** Registers the tests. */
export function testSubscriptions(open: OpenEngine): void {
  describe("subscriptions", () => {
    const subject = Subject.each(open);

    test("Engine.subscribe() delivers changes after ready, in order and once", async () => {
      await subject.set("before", "0");
      const subscription = subject.engine.subscribe({ bucket: "b" });
      await subscription.ready;
      const results = await Promise.all([subject.set("a", "1"), subject.set("b", "2"), subject.set("a", "3")]);
      await subject.engine.delete("b", bytesOf("a"));
      const events = await take(subscription, 4) as ChangeEvent[];
      expect(events.map(brief)).toEqual(["set a=1", "set b=2", "set a=3", "delete a"]);
      expect(events.slice(0, 3).map(({ revision }) => revision)).toEqual(results.map(revisionOf));
      expect(events[0]!.at).toBe(subject.clock.wall());
      expect(events[0]!.content).toBe(CONTENT.text);
      expect("value" in events[3]!).toBe(false);
      subscription.close();
    });

    test("Engine.subscribe() keeps to the bucket and the prefix", async () => {
      const { engine } = subject;
      const everything = engine.subscribe({});
      const bucket = engine.subscribe({ bucket: "b" });
      const prefix = bytesOf("a");
      const prefixed = engine.subscribe({ bucket: "b", prefix });
      prefix.fill(0x7a);
      await Promise.all([everything.ready, bucket.ready, prefixed.ready]);
      await subject.set("x", "1");
      await engine.set("other", bytesOf("a"), bytesOf("2"), { content: CONTENT.text });
      await subject.set("ab", "3");
      expect((await take(everything, 3)).map(brief)).toEqual(["set x=1", "set a=2", "set ab=3"]);
      expect((await take(bucket, 2)).map(brief)).toEqual(["set x=1", "set ab=3"]);
      expect((await take(prefixed, 1)).map(brief)).toEqual(["set ab=3"]);
      for (const subscription of [everything, bucket, prefixed]) subscription.close();
    });

    test("Engine.subscribe() keeps to one key, in its snapshot too", async () => {
      const { engine } = subject;
      await subject.set("a", "0");
      await subject.set("ab", "0");
      const key = bytesOf("a");
      const [present, missing] = [
        engine.subscribe({ bucket: "b", key, snapshot: true }),
        engine.subscribe({
          bucket: "b",
          key: bytesOf("aa"),
          snapshot: true,
        }),
      ];
      key.fill(0x7a);
      await Promise.all([present.ready, missing.ready]);
      expect((await take(present, 2)).map(brief)).toEqual(["set a=0", "synced"]);
      expect((await take(missing, 1)).map(brief)).toEqual(["synced"]);
      for (const name of ["ab", "aa", "a"]) await subject.set(name, "1");
      expect((await take(present, 1)).map(brief)).toEqual(["set a=1"]);
      expect((await take(missing, 1)).map(brief)).toEqual(["set aa=1"]);
      for (const subscription of [present, missing]) subscription.close();
    });

    test("Engine.subscribe() keeps to types of change, in its snapshot too", async () => {
      const { engine } = subject;
      await subject.set("before", "0");
      const ends = engine.subscribe({ bucket: "b", types: ["delete", "take"], snapshot: true });
      const sets = engine.subscribe({ types: ["set"], snapshot: true });
      await Promise.all([ends.ready, sets.ready]);
      await subject.set("a", "1");
      await subject.set("c", "2");
      await engine.delete("b", bytesOf("a"));
      await engine.take("b", bytesOf("c"));
      expect((await take(ends, 3)).map(brief)).toEqual(["synced", "delete a", "take c"]);
      expect((await take(sets, 4)).map(brief)).toEqual(["set before=0", "synced", "set a=1", "set c=2"]);
      for (const subscription of [ends, sets]) subscription.close();
    });

    test("Engine.subscribe() without values tells what changed, and not what to", async () => {
      const { engine } = subject;
      await subject.set("before", "0");
      const [bare, full] = [engine.subscribe({ snapshot: true, values: false }), engine.subscribe({ snapshot: true })];
      await Promise.all([bare.ready, full.ready]);
      await subject.set("a", "1", { deadline: { ttl: 1_000 } });
      await subject.set("once", "2", { once: true });
      const told = await take(bare, 4) as ChangeEvent[];
      const known = await take(full, 4) as ChangeEvent[];
      expect(told.map(({ type, key, revision, expiresAt }) => [type, key, revision, expiresAt])).toEqual(
        known.map(({ type, key, revision, expiresAt }) => [type, key, revision, expiresAt]),
      );
      for (const event of told) expect("value" in event || "content" in event || "once" in event).toBe(false);
      expect(known.map(({ value, once }) => [value !== undefined, once])).toEqual([
        [true, undefined],
        [false, undefined],
        [true, undefined],
        [false, true],
      ]);
      for (const subscription of [bare, full]) subscription.close();
    });

    test("Engine.subscribe() tells the deadline of a set", async () => {
      const subscription = subject.engine.subscribe({});
      await subscription.ready;
      await subject.set("a", "1", { deadline: { ttl: 100 } });
      const [event] = await take(subscription, 1) as ChangeEvent[];
      expect(event!.expiresAt).toBe(subject.clock.wall() + 100);
      subscription.close();
    });

    test("Engine.subscribe() with snapshot gives the entries, then synced, then what changes", async () => {
      const revision = revisionOf(await subject.set("b", "2"));
      await subject.set("a", "1");
      await subject.set("gone", "");
      await subject.engine.delete("b", bytesOf("gone"));
      const subscription = subject.engine.subscribe({ bucket: "b", snapshot: true });
      await subscription.ready;
      const live = subject.set("c", "3");
      const events = await take(subscription, 4);
      await live;
      expect(events.slice(0, 2).map(brief).sort()).toEqual(["set a=1", "set b=2"]);
      expect(events.slice(2).map(brief)).toEqual(["synced", "set c=3"]);
      expect(events.some((event) => "revision" in event && event.revision === revision)).toBe(true);
      subscription.close();
    });

    test("Engine.subscribe() with snapshot of nothing is synced at once", async () => {
      const subscription = subject.engine.subscribe({ bucket: "b", snapshot: true });
      expect((await take(subscription, 1)).map(brief)).toEqual(["synced"]);
      subscription.close();
    });

    test("Engine.subscribe() with snapshot has no gap and no repeat while keys change", async () => {
      const keys = Array.from({ length: 1_500 }, (_, index) => `k${index}`);
      await Promise.all(keys.map((key) => subject.set(key, "old")));
      const subscription = subject.engine.subscribe({ bucket: "b", snapshot: true });
      await subscription.ready;
      const changing = Promise.all(keys.filter((_, index) => index % 3 === 0).map((key) => subject.set(key, "new")));
      const state = new Map<string, string>();
      const revisions = new Set<number>();
      let fresh = 0;
      let synced = false;
      while (fresh < 500 || !synced) {
        for (const event of (await subscription.next())!) {
          if ("cursor" in event) synced = event.type === "synced";
          else {
            expect(revisions.has(event.revision)).toBe(false);
            revisions.add(event.revision);
            state.set(textOf(event.key)!, textOf(event.value)!);
            if (textOf(event.value) === "new") fresh++;
          }
        }
      }
      await changing;
      expect(state.size).toBe(1_500);
      expect([...state.values()].filter((value) => value === "new").length).toBe(500);
      subscription.close();
    });

    test("Engine.subscribe() continues after a cursor", async () => {
      const { engine } = subject;
      const first = engine.subscribe({ bucket: "b" });
      await first.ready;
      const begin = first.cursor;
      await subject.set("a", "1");
      await take(first, 1);
      const { cursor } = first;
      expect(cursor).not.toBe(begin);
      first.close();
      await subject.set("b", "2");
      await engine.delete("b", bytesOf("a"));
      const second = engine.subscribe({ bucket: "b", from: cursor });
      expect((await take(second, 2)).map(brief)).toEqual(["set b=2", "delete a"]);
      await subject.set("c", "3");
      expect((await take(second, 1)).map(brief)).toEqual(["set c=3"]);
      second.close();
      const third = engine.subscribe({ bucket: "b", from: begin });
      expect((await take(third, 4)).map(brief)).toEqual(["set a=1", "set b=2", "delete a", "set c=3"]);
      third.close();
    });

    test("Engine.subscribe() says resync and ends for a cursor of another store", async () => {
      const subscription = subject.engine.subscribe({ bucket: "b", from: "0000.7" });
      expect((await take(subscription, 1)).map(brief)).toEqual(["resync"]);
      expect(await subscription.next()).toBeUndefined();
    });

    test("Engine.subscribe() delivers thousands of events to a reader that comes late", async () => {
      const subscription = subject.engine.subscribe({ bucket: "b" });
      await subscription.ready;
      const value = "x".repeat(1_000);
      for (let round = 0; round < 5; round++) {
        await Promise.all(Array.from({ length: 1_000 }, (_, index) => subject.set(`k${index}`, value)));
      }
      const events = await take(subscription, 5_000) as ChangeEvent[];
      for (let index = 1; index < events.length; index++) {
        expect(events[index]!.revision).toBeGreaterThan(events[index - 1]!.revision);
      }
      subscription.close();
    });

    test("EngineSubscription.close() ends a waiting next", async () => {
      const subscription = subject.engine.subscribe({});
      await subscription.ready;
      const waiting = subscription.next();
      subscription.close();
      expect(await waiting).toBeUndefined();
      expect(await subscription.next()).toBeUndefined();
      subscription.close();
    });
  });
}
