/**
 * Calls that are given up, on a server that does not answer.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import { Store } from "../../lib/store/store.ts";
import { ABORTABLE, type AbortableCall, listened } from "../suites/engine_aborts.ts";
import { Loopback, openMemoryEngine, settled } from "../wire/loopback.ts";

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

  test.each(ABORTABLE)("Bucket.%s rejects with the reason of its signal, and drops the late answer", async (...row) => {
    const [, call] = row as unknown as AbortableCall;
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

  test.each(ABORTABLE)("Bucket.%s asks nothing when its signal is aborted already", async (...row) => {
    const [, call] = row as unknown as AbortableCall;
    const before = loopback.messages.length;
    const signal = AbortSignal.abort();
    const error: unknown = await call(bucket, { signal }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: "AbortError" });
    await settled();
    expect(loopback.messages.length).toBe(before);
  });

  test.each(ABORTABLE)("Bucket.%s answers before its signal is aborted, and listens no more", async (...row) => {
    const [, call] = row as unknown as AbortableCall;
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
