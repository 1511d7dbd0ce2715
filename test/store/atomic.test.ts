/**
 * Batches as users put them together.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { Buffer } from "node:buffer";
import { ManualClock } from "../../lib/base/clock.ts";
import type { Key } from "../../lib/base/bytes.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { errorCode } from "../suites/fs.ts";

/** What an action throws. */
function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

async function twoStores(): Promise<{ store: Store; other: Store; bucket: Bucket<unknown> }> {
  const store = await open(":memory:");
  return { store, other: await open(":memory:"), bucket: store.bucket("b") };
}

describe("Atomic", () => {
  test("commits checks, sets and deletes over buckets and codecs", async () => {
    const clock = new ManualClock();
    const store = await open({ path: ":memory:", clock });
    const users = store.bucket<{ name: string }>("users");
    const notes = store.bucket<string>("notes", { codec: "text" });
    await notes.set("old", "");
    const first = await users.set("ada", { name: "Ada" });
    const result = await store.atomic()
      .check(users, "ada", first.ok ? first.revision : -1)
      .check(users, "bob", 0)
      .set(users, "bob", { name: "Bob" }, { ttl: "1s" })
      .set(notes, "a", "text", { once: true })
      .delete(notes, "old")
      .delete(users, "nobody")
      .commit();
    const stats = await store.stats();
    expect(result).toEqual({ ok: true, revision: stats["revision"]! });
    expect((await users.getEntry("bob"))?.expiresAt).toBe(clock.wall() + 1_000);
    expect(await notes.has("old")).toBe(false);
    expect([await notes.get("a"), await notes.get("a")]).toEqual(["text", undefined]);
    await store.close();
  });

  test("says which check did not hold, and what is there", async () => {
    const { store, other, bucket } = await twoStores();
    await bucket.set("a", { n: 1 });
    await bucket.set("once", "secret", { once: true });
    const lost = await store.atomic().set(bucket, "b", 1).check(bucket, "x", 0).check(bucket, "a", 9).commit();
    expect(lost).toEqual({ ok: false, index: 2, current: { key: "a", value: { n: 1 }, revision: 1 } });
    expect(await store.atomic().check(bucket, "x", 1).commit()).toEqual({ ok: false, index: 0, current: undefined });
    const hidden = await store.atomic().check(bucket, "once", 0).commit();
    expect(hidden).toEqual({
      ok: false,
      index: 0,
      current: { key: "once", value: undefined, revision: 2, once: true },
    });
    expect(await bucket.has("b")).toBe(false);
    expect(await store.atomic().commit()).toEqual({ ok: true, revision: 2 });
    await store.close();
    await other.close();
  });

  test("takes keys and values as they are when given", async () => {
    const { store, other, bucket } = await twoStores();
    const bytes = store.bucket<Uint8Array>("bytes", { codec: "bytes" });
    // `slice` of a Buffer is no copy.
    const key = Buffer.from([1]);
    const value = { list: [1] };
    const data = Uint8Array.of(2);
    const batch = store.atomic().set(bucket, key, value).set(bytes, key, data);
    key.fill(9);
    data.fill(9);
    value.list.push(2);
    await batch.commit();
    expect(await bucket.get(Uint8Array.of(1))).toEqual({ list: [1] });
    expect(await bytes.get(Uint8Array.of(1))).toEqual(Uint8Array.of(2));
    await store.close();
    await other.close();
  });

  test("refuses another store's bucket, misuse, and a second commit", async () => {
    const { store, other, bucket } = await twoStores();
    const batch = store.atomic().set(bucket, "a", 1);
    const foreign = other.bucket("b");
    const wrong: [() => unknown, typeof TypeError | typeof RangeError][] = [
      [() => batch.check(foreign, "a", 0), TypeError],
      [() => batch.set(foreign, "a", 0), TypeError],
      [() => batch.delete(foreign, "a"), TypeError],
      [() => batch.check(bucket, "a", -1), RangeError],
      [() => batch.check(bucket, "a", undefined as unknown as number), TypeError],
      [() => batch.set(bucket, "a", undefined), TypeError],
      [() => batch.set(bucket, 5 as unknown as Key, 1), TypeError],
      [() => batch.set(bucket, "a", 1, { ttl: "soon" }), TypeError],
      [() => batch.set(bucket, "a", 1, { ifRevision: 0 } as object), TypeError],
      [() => batch.delete({} as Bucket<unknown>, "a"), TypeError],
    ];
    for (const [call, kind] of wrong) expect(thrown(call)).toBeInstanceOf(kind);
    expect(await batch.commit()).toEqual({ ok: true, revision: 1 });
    for (const call of [() => batch.set(bucket, "b", 1), () => batch.delete(bucket, "b")]) {
      expect(thrown(call)).toBeInstanceOf(TypeError);
    }
    expect(await batch.commit().catch((error: unknown) => error)).toBeInstanceOf(TypeError);
    expect((await store.stats())["revision"]).toBe(1);
    await store.close();
    await other.close();
  });

  test("has the limits that open was given", async () => {
    const store = await open({ path: ":memory:", batchOperationsMax: 2, batchBytesMax: 10 });
    const bucket = store.bucket<string>("b", { codec: "text" });
    const two = store.atomic().set(bucket, "a", "1234").set(bucket, "b", "1234");
    expect((await two.commit()).ok).toBe(true);
    const large = store.atomic().set(bucket, "a", "1234").set(bucket, "b", "12345");
    const many = store.atomic().delete(bucket, "a").delete(bucket, "b").check(bucket, "c", 0);
    for (const batch of [large, many]) expect(await errorCode(() => batch.commit())).toBe("TOO_LARGE");
    for (const limits of [{ batchOperationsMax: 0 }, { batchBytesMax: 2 ** 31 }, { batchBytesMax: 1.5 }]) {
      const opened = open({ path: ":memory:", ...limits }).catch((error: unknown) => error);
      expect(await opened).toBeInstanceOf(RangeError);
    }
    await store.close();
  });

  test("events of a batch say that more of it follows", async () => {
    const { store, other, bucket } = await twoStores();
    await bucket.set("c", 1);
    const subscription = store.subscribe();
    await store.atomic().set(bucket, "a", 1).set(bucket, "b", 2).delete(bucket, "c").commit();
    await bucket.set("a", 3);
    const told: unknown[] = [];
    for await (const event of subscription) {
      if ("key" in event) told.push([event.type, event.key, event.more]);
      if (told.length === 4) break;
    }
    expect(told).toEqual([
      ["set", "a", true],
      ["set", "b", true],
      ["delete", "c", undefined],
      ["set", "a", undefined],
    ]);
    await store.close();
    await other.close();
  });
});
