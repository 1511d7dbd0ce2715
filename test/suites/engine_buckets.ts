/**
 * What every engine keeps about buckets and their settings: a part of `runEngineSuite`.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import type { BucketSettings } from "../../lib/engine/settings.ts";
import { bytesOf, type OpenEngine, Subject } from "./engine_subject.ts";

/** Registers the tests. */
export function testBuckets(open: OpenEngine): void {
  describe("buckets", () => {
    const subject = Subject.each(open);

    function set(bucket: string, key: string): Promise<unknown> {
      return subject.engine.set(bucket, bytesOf(key), bytesOf("value"), { content: CONTENT.text });
    }

    test("Engine.buckets() tells all by name, or one, and how much is in each", async () => {
      const { engine } = subject;
      expect(await engine.buckets()).toEqual([]);
      for (const [bucket, key] of [["b", "k"], ["a_", "k"], ["a-", "k"], ["b", "j"], ["a", "k"]]) {
        await set(bucket!, key!);
      }
      const [a, ...others] = await engine.buckets();
      expect(a).toEqual({ name: "a", keys: 1, bytes: expect.any(Number), settings: {} });
      expect(a!.bytes).toBeGreaterThan("kvalue".length);
      const same = { keys: 1, bytes: a!.bytes!, settings: {} };
      const b = { name: "b", keys: 2, bytes: 2 * a!.bytes!, settings: {} };
      expect(others).toEqual([{ name: "a-", ...same }, { name: "a_", ...same }, b]);
      expect(await engine.buckets("b")).toEqual([b]);
      expect(await engine.buckets("c")).toEqual([]);
      await engine.delete("a", bytesOf("k"));
      expect(await engine.buckets("a")).toEqual([{ name: "a", keys: 0, bytes: 0, settings: {} }]);
    });

    test("Engine.buckets() tells a thousand and more, each once", async () => {
      const names = Array.from({ length: 1_001 }, (_, index) => `n${String(index).padStart(5, "0")}`);
      await Promise.all(names.toReversed().map((name) => set(name, "k")));
      expect((await subject.engine.buckets()).map(({ name, keys }) => `${name} ${keys}`)).toEqual(
        names.map((name) => `${name} 1`),
      );
    });

    test("Engine.configure() gives a bucket settings in the place of those before, and makes it", async () => {
      const { engine, clock } = subject;
      const settings: BucketSettings[] = [
        { ttl: 1_000, valueBytesMax: 10, compression: false, description: "für wen — 誰" },
        { ttl: 3_162_240_000_000 },
        { compression: true, description: "" },
        { description: "d".repeat(200) },
        {},
        { valueBytesMax: 1 },
      ];
      for (const wanted of settings) {
        expect(await engine.configure("b", wanted)).toBe(true);
        expect(await engine.buckets()).toEqual([{ name: "b", keys: 0, bytes: 0, settings: wanted }]);
      }
      await engine.configure("timed", { ttl: 5 });
      await set("timed", "k");
      expect((await engine.get("timed", bytesOf("k")))?.expiresAt).toBe(clock.wall() + 5);
    });

    test("Engine.configure() refuses what is no setting, or out of range", async () => {
      const { engine } = subject;
      await engine.configure("b", { ttl: 5 });
      const wrong: readonly (readonly [ErrorConstructor, object])[] = [
        [TypeError, { ttl: "5s" }],
        [TypeError, { compression: 1 }],
        [TypeError, { description: null }],
        [TypeError, { codec: "json" }],
        [RangeError, { ttl: 0 }],
        [RangeError, { ttl: 1.5 }],
        [RangeError, { ttl: 1e300 }],
        [RangeError, { valueBytesMax: -1 }],
        [RangeError, { description: "d".repeat(201) }],
      ];
      for (const [kind, settings] of wrong) {
        const outcome = await engine.configure("b", settings).then(() => "taken", (error: unknown) => error);
        expect([settings, outcome]).toEqual([settings, expect.any(kind)]);
      }
      expect(await engine.buckets("b")).toMatchObject([{ settings: { ttl: 5 } }]);
    });
  });
}
