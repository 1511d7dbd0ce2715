/**
 * Calls that are given up, on a server that does not answer.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type { CallOptions } from "../../lib/store/abort.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import { Store } from "../../lib/store/store.ts";
import { Loopback, openMemoryEngine, settled } from "../wire/loopback.ts";

const CALLS:
  readonly (readonly [name: string, call: (bucket: Bucket<number>, options: CallOptions) => Promise<unknown>])[] = [
    ["get", (bucket, options) => bucket.get("k", options)],
    ["get with touch", (bucket, options) => bucket.get("k", { touch: "5m", ...options })],
    ["getEntry", (bucket, options) => bucket.getEntry("k", options)],
    ["getMany", (bucket, options) => bucket.getMany(["k", "x"], options)],
    ["has", (bucket, options) => bucket.has("k", options)],
    ["set", (bucket, options) => bucket.set("k", 2, options)],
    ["set with a condition", (bucket, options) => bucket.set("k", 2, { ifRevision: 1, ...options })],
    ["delete", (bucket, options) => bucket.delete("k", options)],
    ["take", (bucket, options) => bucket.take("k", options)],
    ["touch", (bucket, options) => bucket.touch("k", "5m", options)],
    ["persist", (bucket, options) => bucket.persist("k", options)],
    ["increment", (bucket, options) => bucket.increment("k", 1, options)],
  ];

describe("Bucket", () => {
  let engine: EmbeddedEngine;
  let loopback: Loopback;
  let store: Store;
  let bucket: Bucket<number>;
  beforeEach(async () => {
    engine = await openMemoryEngine();
    loopback = new Loopback(engine);
    store = new Store(await loopback.connect());
    bucket = store.bucket<number>("b");
    await bucket.set("k", 1);
  });
  afterEach(async () => {
    await store.close();
    await engine.close();
  });

  /** A signal, and how many listen to it. */
  function listened(): { controller: AbortController; count: () => number } {
    const controller = new AbortController();
    const { signal } = controller;
    let count = 0;
    const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      count++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      count--;
      remove(...args);
    };
    return { controller, count: () => count };
  }

  test.each(CALLS)("Bucket.%s rejects with the reason of its signal, and drops the late answer", async (...row) => {
    const [, call] = row as unknown as (typeof CALLS)[number];
    const { controller, count } = listened();
    loopback.stalled = true;
    const asked = call(bucket, { signal: controller.signal }).then(() => "answered", (error: unknown) => error);
    await settled();
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await asked).toBe(reason);
    loopback.release();
    await settled();
    // The connection goes on.
    expect(await bucket.has("other")).toBe(false);
    expect(count()).toBe(0);
  });

  test.each(CALLS)("Bucket.%s asks nothing when its signal is aborted already", async (...row) => {
    const [, call] = row as unknown as (typeof CALLS)[number];
    const before = loopback.messages.length;
    const signal = AbortSignal.abort();
    const error: unknown = await call(bucket, { signal }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: "AbortError" });
    await settled();
    expect(loopback.messages.length).toBe(before);
  });

  test.each(CALLS)("Bucket.%s answers before its signal is aborted, and listens no more", async (...row) => {
    const [, call] = row as unknown as (typeof CALLS)[number];
    const { controller, count } = listened();
    await call(bucket, { signal: controller.signal });
    expect(count()).toBe(0);
    controller.abort();
  });

  test("Bucket.set() that was given up may have happened", async () => {
    const controller = new AbortController();
    loopback.stalled = true;
    const asked = bucket.set("k", 2, { signal: controller.signal }).catch(() => "given up");
    await settled();
    controller.abort();
    expect(await asked).toBe("given up");
    loopback.release();
    expect(await bucket.get("k")).toBe(2);
  });
});
