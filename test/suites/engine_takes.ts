/**
 * What every engine keeps about takes and single-read keys: a part of `runEngineSuite`.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import type { ChangeEvent, Entry } from "../../lib/engine/engine.ts";
import { brief, bytesOf, type OpenEngine, operations, revisionOf, Subject, take, textOf } from "./engine_subject.ts";
import { errorCode } from "./fs.ts";

/** What an entry of a single-read key shows: no value. */
function hidden(entry: Entry | undefined): [boolean | undefined, number | undefined] {
  return [entry?.once, entry?.value.length];
}

const HIDDEN: [boolean, number] = [true, 0];

/** Registers the tests. */
export function testTakes(open: OpenEngine): void {
  describe("takes and single-read keys", () => {
    const subject = Subject.each(open);
    const key = bytesOf("a");

    test("Engine.has() says whether a key is there", async () => {
      const { engine, clock } = subject;
      expect(await engine.has("b", key)).toBe(false);
      await subject.set("a", "1", { deadline: { ttl: 10 } });
      expect(await engine.has("b", key)).toBe(true);
      expect(await engine.has("other", key)).toBe(false);
      clock.advance(10);
      expect(await engine.has("b", key)).toBe(false);
    });

    test("Engine.take() reads and ends a key", async () => {
      const { engine } = subject;
      const revision = revisionOf(await subject.set("a", "1", { deadline: { ttl: 1_000 } }));
      const entry = (await engine.take("b", key))!;
      expect([textOf(entry.key), textOf(entry.value), entry.revision, entry.content]).toEqual([
        "a",
        "1",
        revision,
        CONTENT.text,
      ]);
      expect(entry.expiresAt).toBe(subject.clock.wall() + 1_000);
      expect("once" in entry).toBe(false);
      expect(await engine.has("b", key)).toBe(false);
      expect(await engine.take("b", key)).toBeUndefined();
      expect(await engine.take("other", key)).toBeUndefined();
      expect((await subject.set("a", "2", { ifRevision: 0 })).ok).toBe(true);
    });

    test("Engine.take() does not see a key that is due", async () => {
      const subscription = subject.engine.subscribe({});
      await subscription.ready;
      await subject.set("a", "1", { deadline: { ttl: 10 } });
      subject.clock.advance(10);
      expect(await subject.engine.take("b", key)).toBeUndefined();
      expect((await take(subscription, 2)).map(brief)).toEqual(["set a=1", "expire a"]);
      subscription.close();
    });

    test("Engine.take() gives the value to one of many", async () => {
      const { engine } = subject;
      await subject.set("a", "1");
      const taken = await Promise.all(Array.from({ length: 10 }, () => engine.take("b", key)));
      expect(taken.map((entry) => textOf(entry?.value))).toEqual(["1", ...Array.from({ length: 9 }, () => undefined)]);
    });

    test("Engine.take() takes what was set in the same tick", async () => {
      const { engine } = subject;
      const [, first, , second] = await Promise.all([
        subject.set("a", "1"),
        engine.take("b", key),
        subject.set("a", "2", { ifRevision: 0 }),
        engine.take("b", key),
      ]);
      expect([textOf(first?.value), textOf(second?.value)]).toEqual(["1", "2"]);
    });

    test("Engine tells of a take", async () => {
      const subscription = subject.engine.subscribe({});
      await subscription.ready;
      await subject.set("a", "1");
      await subject.engine.take("b", key);
      const [, event] = await take(subscription, 2) as ChangeEvent[];
      expect(brief(event!)).toBe("take a");
      expect("value" in event!).toBe(false);
      subscription.close();
    });

    test("Engine.get() of a single-read key takes it", async () => {
      const { engine } = subject;
      const revision = revisionOf(await subject.set("a", "1", { once: true }));
      const entry = (await subject.get("a"))!;
      expect([textOf(entry.key), textOf(entry.value), entry.revision, entry.once]).toEqual(["a", "1", revision, true]);
      expect(await subject.get("a")).toBeUndefined();
      expect(await engine.has("b", key)).toBe(false);
    });

    test("Engine.get() of a single-read key has one winner, with takers and across buckets", async () => {
      const { engine } = subject;
      await subject.set("a", "1", { once: true });
      await engine.set("other", key, bytesOf("2"), { content: CONTENT.text, once: true });
      const [first, second, many, other] = await Promise.all([
        subject.get("a"),
        engine.take("b", key),
        engine.getMany("b", [key, key]),
        engine.get("other", key),
      ]);
      expect([textOf(first?.value), second, many]).toEqual(["1", undefined, [undefined, undefined]]);
      expect(textOf(other?.value)).toBe("2");
    });

    test("Engine.getMany() takes single-read keys and reads the others", async () => {
      const { engine } = subject;
      await subject.set("a", "1", { once: true });
      await subject.set("b", "2");
      await subject.set("c", "3", { once: true });
      const keys = ["a", "b", "a", "x", "c"].map(bytesOf);
      const values = (entries: readonly (Entry | undefined)[]) => entries.map((entry) => textOf(entry?.value));
      expect(values(await engine.getMany("b", keys))).toEqual(["1", "2", undefined, undefined, "3"]);
      expect(values(await engine.getMany("b", keys))).toEqual([undefined, "2", undefined, undefined, undefined]);
    });

    test("Engine.getMany() loses no value that it takes, however many and large", async () => {
      const { engine } = subject;
      const value = new Uint8Array(50_000).fill(0x61);
      const keys = Array.from({ length: 40 }, (_, index) => bytesOf(`k${index}`));
      const content = CONTENT.bytes;
      await Promise.all(keys.map((one, index) => engine.set("b", one, value, { content, once: index % 2 === 0 })));
      const entries = await engine.getMany("b", keys);
      expect(entries.map((entry) => entry?.value.length)).toEqual(keys.map(() => 50_000));
      expect((await engine.list("b", { limit: 100 })).entries.length).toBe(20);
    });

    test("Engine.getSync() of a single-read key takes nothing and shows no value", async () => {
      const { engine } = subject;
      if (engine.getSync === undefined) return;
      await subject.set("a", "1", { once: true });
      expect(hidden(engine.getSync("b", key))).toEqual(HIDDEN);
      expect(await subject.value("a")).toBe("1");
    });

    test("Engine shows the value of a single-read key to nobody but its taker", async () => {
      const { engine, clock } = subject;
      const live = engine.subscribe({});
      await live.ready;
      const revision = revisionOf(await subject.set("a", "secret", { once: true, deadline: { ttl: 1_000 } }));
      expect(await engine.has("b", key)).toBe(true);
      const [entry] = (await engine.list("b", { limit: 10 })).entries;
      expect(hidden(entry)).toEqual(HIDDEN);
      expect([entry!.revision, entry!.expiresAt]).toEqual([revision, clock.wall() + 1_000]);
      for (
        const lost of [
          await subject.set("a", "x", { ifRevision: 0 }),
          await engine.delete("b", key, { ifRevision: revision + 1 }),
          await engine.atomic(operations("check a@0", "set c=1")),
        ]
      ) {
        expect(lost.ok).toBe(false);
        if (!lost.ok) expect(hidden(lost.current)).toEqual(HIDDEN);
      }
      const snapshot = engine.subscribe({ snapshot: true });
      const events = [...await take(live, 1), ...(await take(snapshot, 2)).slice(0, 1)] as ChangeEvent[];
      for (const event of events) {
        expect([event.type, event.once, event.content, "value" in event]).toEqual(["set", true, CONTENT.text, false]);
        expect(event.expiresAt).toBe(clock.wall() + 1_000);
      }
      live.close();
      snapshot.close();
      expect(await subject.value("a")).toBe("secret");
    });

    test("Engine.touch() leaves a key single-read, and a plain set makes it an ordinary one", async () => {
      const { engine, clock } = subject;
      await subject.set("a", "1", { once: true });
      await engine.touch("b", key, { ttl: 50 });
      await engine.touch("b", key, undefined);
      expect(hidden((await engine.list("b", { limit: 1 })).entries[0])).toEqual(HIDDEN);
      await engine.touch("b", key, { ttl: 50 });
      clock.advance(49);
      expect(await subject.value("a")).toBe("1");
      await subject.set("a", "2", { once: true });
      await subject.set("a", "3");
      expect([await subject.value("a"), await subject.value("a")]).toEqual(["3", "3"]);
    });

    test("Engine.get() of a key that becomes ordinary in the same tick leaves it", async () => {
      await subject.set("a", "1", { once: true });
      const [, entry] = await Promise.all([subject.set("a", "2"), subject.get("a")]);
      expect([textOf(entry?.value), entry?.once]).toEqual(["2", undefined]);
      expect(await subject.value("a")).toBe("2");
    });

    test("Engine.increment() refuses a single-read key", async () => {
      await subject.set("a", "1", { once: true });
      expect(await errorCode(() => subject.engine.increment("b", key, 1))).toBe("INVALID");
      expect(await subject.value("a")).toBe("1");
    });

    test("Engine.set() keeps a single-read value of no bytes, and one that is compressed", async () => {
      const long = "long ".repeat(1_000);
      for (const value of ["", long]) {
        await subject.set("a", value, { once: true });
        await subject.engine.touch("b", key, { ttl: 1_000 });
        const entry = await subject.get("a");
        expect([entry?.once, textOf(entry?.value)]).toEqual([true, value]);
      }
    });
  });
}
