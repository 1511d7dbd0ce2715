/**
 * What every engine keeps about batches: a part of `runEngineSuite`.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import type { ChangeEvent, Operation } from "../../lib/engine/engine.ts";
import {
  brief,
  bytesOf,
  type OpenEngine,
  operation,
  operations,
  revisionOf,
  Subject,
  take,
  textOf,
} from "./engine_subject.ts";
import { errorCode } from "./fs.ts";

/** Registers the tests. */
export function testBatches(open: OpenEngine): void {
  describe("batches", () => {
    const subject = Subject.each(open);

    test("Engine.atomic() writes all, and gives the last revision", async () => {
      const { engine } = subject;
      await subject.set("old", "0");
      const revision = revisionOf(
        await engine.atomic([...operations("set a=1", "delete old", "set b=2"), operation("set a=3", "other")]),
      );
      expect(await subject.keys()).toBe("a b");
      expect(await subject.value("a")).toBe("1");
      const last = await engine.get("other", bytesOf("a"));
      expect([textOf(last?.value), last?.revision]).toEqual(["3", revision]);
    });

    test("Engine.atomic() keeps content types, deadlines and single-read keys", async () => {
      const { engine, clock } = subject;
      const value = Uint8Array.of(1);
      const content = CONTENT.cbor;
      await engine.atomic([
        { type: "set", bucket: "b", key: bytesOf("ttl"), value, content, deadline: { ttl: 10 } },
        { type: "set", bucket: "b", key: bytesOf("at"), value, content, deadline: { expiresAt: clock.wall() + 20 } },
        { type: "set", bucket: "b", key: bytesOf("once"), value, content, once: true },
      ]);
      const { entries } = await engine.list("b", { limit: 10 });
      expect(entries.map(({ key, expiresAt, once }) => [textOf(key), expiresAt, once])).toEqual([
        ["at", clock.wall() + 20, undefined],
        ["once", undefined, true],
        ["ttl", clock.wall() + 10, undefined],
      ]);
      const taken = await engine.get("b", bytesOf("once"));
      expect([[...taken!.value], taken!.content]).toEqual([[1], content]);
    });

    test("Engine.atomic() writes nothing when a check does not hold, and says which", async () => {
      const { engine } = subject;
      const revision = revisionOf(await subject.set("a", "1"));
      const lost = await engine.atomic(
        operations("set b=2", `check a@${revision}`, "delete a", `check a@${revision + 1}`, "check x@9"),
      );
      expect(lost.ok).toBe(false);
      if (lost.ok) return;
      expect([lost.index, textOf(lost.current?.key), textOf(lost.current?.value)]).toEqual([3, "a", "1"]);
      expect(await engine.atomic(operations("check x@9", "set x=1"))).toEqual({
        ok: false,
        index: 0,
        current: undefined,
      });
      expect(await subject.keys()).toBe("a");
    });

    test("Engine.atomic() judges all checks before it writes", async () => {
      const { engine } = subject;
      const revision = revisionOf(await subject.set("a", "1"));
      const result = await engine.atomic(
        operations("set a=2", `check a@${revision}`, "set b=1", "check b@0", "delete c", "check c@0"),
      );
      expect(result.ok).toBe(true);
      expect([await subject.value("a"), await subject.value("b")]).toEqual(["2", "1"]);
    });

    test("Engine.atomic() judges its checks against writes of the same tick", async () => {
      const { engine } = subject;
      const results = await Promise.all([
        subject.set("a", "1"),
        engine.atomic(operations("check a@0", "set b=1")),
        engine.delete("b", bytesOf("a")),
        engine.atomic(operations("check a@0", "set b=2")),
        engine.atomic(operations("check b@0", "set b=3")),
        subject.set("b", "4", { ifRevision: 0 }),
      ]);
      expect(results.map(({ ok }) => ok)).toEqual([true, false, true, true, false, false]);
      const [, first, , , second] = results;
      if (!first!.ok && !second!.ok) {
        expect([textOf(first!.current?.value), textOf(second!.current?.value)]).toEqual(["1", "2"]);
      }
      expect(await subject.value("b")).toBe("2");
    });

    test("Engine.atomic() of several writes to one key keeps the last", async () => {
      const { engine } = subject;
      await subject.set("c", "0");
      await engine.atomic(
        operations("set a=1", "set a=2", "set b=1", "delete b", "delete c", "set c=3", "delete d", "set d=4"),
      );
      const values = await engine.getMany("b", ["a", "b", "c", "d"].map(bytesOf));
      expect(values.map((entry) => textOf(entry?.value))).toEqual(["2", undefined, "3", "4"]);
    });

    test("Engine.atomic() with nothing to write resolves", async () => {
      const { engine } = subject;
      const revision = revisionOf(await subject.set("a", "1"));
      expect(await engine.atomic([])).toEqual({ ok: true, revision });
      expect(await engine.atomic(operations("delete x", "delete y", `check a@${revision}`))).toEqual({
        ok: true,
        revision,
      });
      expect(revisionOf(await subject.set("a", "2"))).toBe(revision + 1);
    });

    test("Engine.atomic() ends a key that is due before it writes", async () => {
      const { engine, clock } = subject;
      const subscription = engine.subscribe({});
      await subscription.ready;
      for (const key of ["a", "b", "c"]) await subject.set(key, "1", { deadline: { ttl: 10 } });
      clock.advance(10);
      expect((await engine.atomic(operations("check a@0", "set b=2", "delete c", "set d=1"))).ok).toBe(true);
      expect((await take(subscription, 8)).slice(3).map(brief).sort()).toEqual([
        "expire a",
        "expire b",
        "expire c",
        "set b=2",
        "set d=1",
      ]);
      subscription.close();
    });

    test("Engine.atomic() refuses what is over the limits, whole", async () => {
      const { engine } = subject;
      const { batchOperationsMax, batchBytesMax, keyBytesMax, valueBytesMax } = engine.limits;
      const set = (name: string, bytes: number): Operation => {
        const content = CONTENT.bytes;
        return { type: "set", bucket: "b", key: bytesOf(name), value: new Uint8Array(bytes), content };
      };
      const long: Operation = { type: "delete", bucket: "b", key: new Uint8Array(keyBytesMax + 1) };
      const many = Array.from({ length: batchOperationsMax }, (_, index) => operation(`set k${index}=v`));
      const size = Math.min(valueBytesMax, batchBytesMax) - 2;
      const large: Operation[] = [];
      for (let left = batchBytesMax; left > 0; left -= size + 2) {
        large.push(set(String(10 + large.length), Math.min(size, left - 2)));
      }
      for (
        const batch of [
          [...many, operation("set a=1")],
          [operation("set a=1"), set("b", valueBytesMax + 1)],
          [operation("set a=1"), long],
          [...large, operation("check x@0")],
        ]
      ) {
        expect(await errorCode(() => engine.atomic(batch))).toBe("TOO_LARGE");
      }
      const empty = engine.atomic([operation("set a=1"), { type: "delete", bucket: "b", key: new Uint8Array(0) }]);
      expect(await empty.then(() => "resolved", (error: unknown) => error instanceof RangeError)).toBe(true);
      expect(await subject.keys()).toBe("");
      expect((await engine.atomic(many)).ok).toBe(true);
      expect((await engine.atomic(large)).ok).toBe(true);
      for (const { key } of [...many, ...large]) expect(await engine.has("b", key)).toBe(true);
    });

    test("Engine.atomic() does not keep the buffers it was given", async () => {
      const [set, check] = operations("set a=1", "check x@7") as [Operation & { type: "set" }, Operation];
      const written = subject.engine.atomic([set]);
      set.key.fill(0x7a);
      set.value.fill(0x7a);
      await written;
      expect(await subject.value("a")).toBe("1");
      await subject.set("x", "1");
      const refused = subject.engine.atomic([check]);
      check.key.fill(0x7a);
      const lost = await refused;
      expect(!lost.ok && textOf(lost.current?.key)).toBe("x");
    });

    test("Engine tells of a batch in one go, marked, in order", async () => {
      const { engine } = subject;
      await subject.set("old", "0");
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      await engine.atomic([
        ...operations("set a=1", "delete old"),
        operation("set x=1", "other"),
        operation("set b=2"),
      ]);
      const events = await subscription.next() as ChangeEvent[];
      expect(events.map(brief)).toEqual(["set a=1", "delete old", "set b=2"]);
      expect(events.map(({ more }) => more)).toEqual([true, true, undefined]);
      expect(events[0]!.revision).toBeLessThan(events[1]!.revision);
      subscription.close();
    });

    test("Engine.subscribe() never parts a batch, live or from a cursor", async () => {
      const { engine } = subject;
      const live = engine.subscribe({ bucket: "b" });
      await live.ready;
      const { cursor } = live;
      const batch = (name: string): Operation[] => {
        return Array.from({ length: 200 }, (_, index) => operation(`set ${name}${index}=${"x".repeat(200)}`));
      };
      for (const name of ["a", "b", "c", "d", "e"]) {
        await subject.set(name, "");
        await engine.atomic(batch(name));
      }
      const late = engine.subscribe({ bucket: "b", from: cursor });
      for (const subscription of [live, late]) {
        let seen = 0;
        while (seen < 1_005) {
          const events = await subscription.next() as ChangeEvent[];
          expect(events.at(-1)!.more).toBeUndefined();
          seen += events.length;
          const rest = engine.subscribe({ bucket: "b", from: subscription.cursor });
          if (seen < 1_005) expect(brief((await rest.next())![0]!)).toMatch(/^set [a-e](0=x+|=)$/);
          rest.close();
        }
        expect(seen).toBe(1_005);
        subscription.close();
      }
    });

    test("Engine.subscribe() with a snapshot sees all of a batch or nothing", async () => {
      const { engine } = subject;
      const first = engine.atomic(operations("set a=1", "set b=1"));
      const subscription = engine.subscribe({ bucket: "b", snapshot: true });
      const second = engine.atomic(operations("set a=2", "set b=2"));
      await Promise.all([first, second]);
      const told: string[] = [];
      while (!told.includes("set b=2")) told.push(...(await subscription.next())!.map(brief));
      expect(told.slice(-2)).toEqual(["set a=2", "set b=2"]);
      expect(told.slice(0, -2).filter((text) => text.endsWith("=1")).length % 2).toBe(0);
      subscription.close();
    });
  });
}
