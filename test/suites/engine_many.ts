/**
 * What every engine keeps about `setMany`: a part of `runEngineSuite`.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import type { SetEntry } from "../../lib/engine/engine.ts";
import { brief, bytesOf, type OpenEngine, Subject, take, textOf } from "./engine_subject.ts";
import { errorCode } from "./fs.ts";

/** An entry in short: `a=1`. */
export function setEntry(text: string, rest: Partial<SetEntry> = {}): SetEntry {
  const [key, value] = text.split("=") as [string, string];
  return { key: bytesOf(key), value: bytesOf(value), content: CONTENT.text, ...rest };
}

/** Registers the tests. */
export function testMany(open: OpenEngine): void {
  describe("setMany", () => {
    const subject = Subject.each(open);

    test("Engine.setMany() sets all in order, of one key the last, and tells of each", async () => {
      const { engine } = subject;
      await subject.set("b", "0");
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      await engine.setMany("b", ["a=1", "b=2", "a=3", "c="].map((text) => setEntry(text)));
      expect(await subject.keys()).toBe("a b c");
      expect([await subject.value("a"), await subject.value("b"), await subject.value("c")]).toEqual(["3", "2", ""]);
      const events = await take(subscription, 4);
      expect(events.map(brief)).toEqual(["set a=1", "set b=2", "set a=3", "set c="]);
      const revisions = events.map((event) => "revision" in event ? event.revision : 0);
      expect(revisions).toEqual(revisions.map((_, index) => revisions[0]! + index));
      expect(events.some((event) => "more" in event)).toBe(false);
      subscription.close();
    });

    test("Engine.setMany() keeps content types, deadlines and single-read keys", async () => {
      const { engine, clock } = subject;
      await engine.setMany("b", [
        setEntry("at=1", { deadline: { expiresAt: clock.wall() + 20 } }),
        setEntry("json=1", { content: CONTENT.json }),
        setEntry("once=1", { once: true }),
        setEntry("ttl=1", { deadline: { ttl: 10 }, once: false }),
      ]);
      const { entries } = await engine.list("b", { limit: 10 });
      const found = entries.map(({ key, content, expiresAt, once }) => [textOf(key), content, expiresAt, once]);
      expect(found).toEqual([
        ["at", CONTENT.text, clock.wall() + 20, undefined],
        ["json", CONTENT.json, undefined, undefined],
        ["once", CONTENT.text, undefined, true],
        ["ttl", CONTENT.text, clock.wall() + 10, undefined],
      ]);
      expect(textOf((await engine.get("b", bytesOf("once")))?.value)).toBe("1");
      expect(await engine.has("b", bytesOf("once"))).toBe(false);
    });

    test("Engine.setMany() stands in the order of the calls", async () => {
      const { engine } = subject;
      const results = await Promise.all([
        subject.set("a", "1"),
        engine.setMany("b", [setEntry("a=2"), setEntry("b=2")]),
        subject.set("a", "3", { ifRevision: 1 }),
        subject.set("b", "3", { ifRevision: 0 }),
        engine.delete("b", bytesOf("b")),
      ]);
      expect(results.map((result) => result?.ok)).toEqual([true, undefined, false, false, true]);
      expect(await subject.keys()).toBe("a");
      expect(await subject.value("a")).toBe("2");
    });

    test("Engine.setMany() of nothing resolves", async () => {
      await subject.engine.setMany("b", []);
      expect(await subject.keys()).toBe("");
    });

    test("Engine.setMany() tells of an expiry before the write that finds it", async () => {
      const { engine, clock } = subject;
      await subject.set("a", "1", { deadline: { ttl: 10 } });
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      clock.advance(10);
      await engine.setMany("b", [setEntry("a=2"), setEntry("a=3")]);
      expect((await take(subscription, 3)).map(brief)).toEqual(["expire a", "set a=2", "set a=3"]);
      subscription.close();
    });

    test("Engine.setMany() takes as much as a batch may have, and refuses more, whole", async () => {
      const { engine } = subject;
      const { batchOperationsMax, batchBytesMax, keyBytesMax, valueBytesMax } = engine.limits;
      const size = Math.min(valueBytesMax, Math.floor(batchBytesMax / 4) - 10);
      const large = (key: string): SetEntry => ({ ...setEntry(`${key}=`), value: new Uint8Array(size) });
      const wrong: SetEntry[][] = [
        [setEntry("x=1"), { ...setEntry("y=1"), key: new Uint8Array(keyBytesMax + 1) }],
        [setEntry("x=1"), { ...setEntry("y=1"), value: new Uint8Array(valueBytesMax + 1) }],
        Array.from({ length: batchOperationsMax + 1 }, (_, index) => setEntry(`x${index}=1`)),
        Array.from({ length: Math.ceil(batchBytesMax / size) + 1 }, (_, index) => large(`x${index}`)),
      ];
      for (const entries of wrong) expect(await errorCode(() => engine.setMany("b", entries))).toBe("TOO_LARGE");
      const refusal = await engine.setMany("b", [setEntry("x=1"), setEntry("=1")]).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(RangeError);
      expect(await subject.keys()).toBe("");
      await engine.setMany("b", Array.from({ length: batchOperationsMax }, (_, index) => setEntry(`k${index}=1`)));
      await engine.setMany("b", ["l1", "l2", "l3"].map(large));
      expect((await engine.stats())["keys"]).toBe(batchOperationsMax + 3);
    });

    test("Engine.setMany() does not keep the buffers it was given", async () => {
      const entries = ["a=1", "b=2"].map((text) => setEntry(text));
      const written = subject.engine.setMany("b", entries);
      for (const { key, value } of entries) {
        key.fill(0x7a);
        value.fill(0x7a);
      }
      await written;
      expect([await subject.keys(), await subject.value("b")]).toEqual(["a b", "2"]);
    });
  });
}
