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
