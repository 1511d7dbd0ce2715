import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import type { FirkinError } from "../../lib/base/errors.ts";
import { open } from "../../lib/store/open.ts";
import type { SubscriptionEvent } from "../../lib/store/subscription.ts";

describe("Subscription", () => {
  test("Subscription goes on after a value that is not what its content type says", async () => {
    const store = await open(":memory:");
    const subscription = store.subscribe();
    const key = Uint8Array.of(0x61);
    await store.engine.set("users", key, Uint8Array.from("{broken", (letter) => letter.charCodeAt(0)), {
      content: CONTENT.json,
    });
    await store.bucket("users").set("b", "sound");
    const events: SubscriptionEvent[] = [];
    for await (const event of subscription) {
      if (events.push(event) === 2) break;
    }
    const [broken, sound] = events;
    expect(broken).toMatchObject({ type: "set", key: "a", revision: 1, content: "json" });
    expect(broken).not.toHaveProperty("value");
    expect((broken as { error: FirkinError }).error.code).toBe("CORRUPT");
    expect(sound).toMatchObject({ type: "set", key: "b", value: "sound" });
    await store.close();
  });

  test("Bucket.subscribe() keeps to a key, to types, and to no values", async () => {
    const store = await open(":memory:");
    const users = store.bucket<number>("users");
    const told: Record<string, unknown[]> = { key: [], types: [], bare: [] };
    const subscriptions = {
      key: users.subscribe({ key: "a" }),
      types: users.subscribe({ types: ["delete"] }),
      bare: users.subscribe({ values: false }),
    };
    const done = Object.entries(subscriptions).map(([name, subscription]) => {
      return subscription.forEach((event) => void told[name]!.push(event));
    });
    await users.set("a", 1, { ttl: "1h" });
    await users.set("ab", 2);
    await users.delete("ab");
    await new Promise((resolve) => setTimeout(resolve, 0));
    for (const subscription of Object.values(subscriptions)) subscription.close();
    await Promise.all(done);
    expect(told["key"]).toMatchObject([{ type: "set", key: "a", value: 1, content: "cbor" }]);
    expect(told["types"]).toMatchObject([{ type: "delete", key: "ab" }]);
    expect(told["bare"]!.map((event) => Object.keys(event as object).sort())).toEqual([
      ["at", "bucket", "expiresAt", "key", "revision", "type"],
      ["at", "bucket", "key", "revision", "type"],
      ["at", "bucket", "key", "revision", "type"],
    ]);
    expect(() => users.subscribe({ key: "a", prefix: "a" })).toThrow(TypeError);
    expect(() => users.subscribe({ key: "" })).toThrow(RangeError);
    expect(() => users.subscribe({ types: [] })).toThrow(RangeError);
    expect(() => users.subscribe({ types: ["move" as "set"] })).toThrow(RangeError);
    await store.close();
  });

  test("Subscription.forEach() waits for its listener, and ends with what it throws", async () => {
    const store = await open(":memory:");
    const users = store.bucket<number>("users");
    const subscription = users.subscribe();
    await Promise.all([1, 2, 3].map((value) => users.set(`k${value}`, value)));
    const seen: unknown[] = [];
    let running = 0;
    const done = subscription.forEach(async (event) => {
      expect(++running).toBe(1);
      await Promise.resolve();
      running--;
      seen.push("value" in event && event.value);
      if (seen.length === 3) throw new Error("enough");
    });
    expect(await done.catch((error: Error) => error.message)).toBe("enough");
    expect(seen).toEqual([1, 2, 3]);
    expect((await store.stats())["subscriptions"]).toBe(0);
    await store.close();
  });

  test("Subscription.cursor is behind the event in hand, and resumes with the next", async () => {
    const store = await open(":memory:");
    const users = store.bucket<number>("users");
    const subscription = users.subscribe();
    await Promise.all([1, 2, 3, 4, 5].map((value) => users.set(`k${value}`, value)));
    for await (const _ of subscription) break;
    await users.set("k6", 6);
    const seen: unknown[] = [];
    for await (const event of users.subscribe({ from: subscription.cursor })) {
      if ("value" in event && seen.push(event.value) === 5) break;
    }
    expect(seen).toEqual([2, 3, 4, 5, 6]);
    const snapshot = users.subscribe({ snapshot: true });
    const cursors: string[] = [];
    for await (const event of snapshot) {
      cursors.push(snapshot.cursor.split(".")[1]!);
      if (event.type === "synced") break;
    }
    expect(cursors).toEqual(["0", "0", "0", "0", "0", "0", "6"]);
    await store.close();
  });

  test("Subscription leaves nothing on its signal when it is closed", async () => {
    const store = await open(":memory:");
    let listeners = 0;
    const signal = {
      aborted: false,
      addEventListener: () => void listeners++,
      removeEventListener: () => void listeners--,
    } as unknown as AbortSignal;
    for (let round = 0; round < 3; round++) {
      const subscription = store.subscribe({ signal });
      expect(listeners).toBe(1);
      subscription.close();
      expect(listeners).toBe(0);
    }
    await store.close();
  });

  test("Bucket.subscribe() refuses a cursor beside a snapshot, and what is no cursor", async () => {
    const store = await open(":memory:");
    expect(() => store.subscribe({ snapshot: true, from: "a.1" })).toThrow(TypeError);
    expect(() => store.bucket("users").subscribe({ from: 5 as unknown as string })).toThrow(TypeError);
    await store.close();
  });

  test("Subscription ends with its signal", async () => {
    const store = await open(":memory:");
    const controller = new AbortController();
    const subscription = store.bucket("users").subscribe({ signal: controller.signal });
    const loop = (async () => {
      let count = 0;
      for await (const _ of subscription) count++;
      return count;
    })();
    controller.abort();
    expect(await loop).toBe(0);
    expect(await store.stats()).toMatchObject({ subscriptions: 0 });
    await store.close();
  });
});
