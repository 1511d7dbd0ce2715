/**
 * unstorage's own `http` driver, unmodified, against the server.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createStorage, type Driver, type Storage } from "unstorage";
import httpDriver from "unstorage/drivers/http";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { Store } from "../../lib/store/store.ts";
import { serve, type Server } from "../../server/mod.ts";
import { openMemoryEngine } from "../wire/loopback.ts";

describe("unstorage's http driver", () => {
  let engine: EmbeddedEngine;
  let store: Store;
  let server: Server;
  let driver: Driver;
  let storage: Storage;

  beforeEach(async () => {
    engine = await openMemoryEngine();
    store = new Store(engine);
    server = await serve({ store, port: 0 });
    const base = `${server.url.replace("ws:", "http:")}/v1/unstorage/b`;
    driver = httpDriver({ base });
    storage = createStorage({ driver });
  });

  afterEach(async () => {
    await storage.dispose();
    await server.close();
    await engine.close();
  });

  test.each([
    ["a string", "hello"],
    ["a string that looks like a number", "12"],
    ["an empty string", ""],
    ["letters of all kinds", "grüß 🎉 \u0000"],
    ["an object", { a: [1, null, { b: "c" }] }],
    ["an array", [1, 2]],
    ["a number", 0.5],
    ["true", true],
  ])("getItem() gives what setItem() was given: %s", async (_, value) => {
    await storage.setItem("k", value);
    // unstorage reads JSON wherever it can: a string of digits comes back as a number from any driver.
    const expected = value === "12" ? 12 : value;
    expect(await storage.getItem("k")).toEqual(expected as never);
    expect(await storage.hasItem("k")).toBe(true);
  });

  test("what it stores is what other clients read, and the other way around", async () => {
    await storage.setItem("users:ada", { name: "Ada" });
    await storage.setItem("note", "plain");
    expect(await store.bucket("b").getMany(["users:ada", "note"])).toEqual([{ name: "Ada" }, "plain"]);
    await store.bucket("b").set("native", { cbor: true });
    await store.bucket("b", { codec: "text" }).set("text", "t");
    expect(await storage.getItem("native")).toEqual({ cbor: true });
    expect(await storage.getItem("text")).toBe("t");
  });

  test("getItemRaw() gives what setItemRaw() was given", async () => {
    const bytes = new Uint8Array(70_000).map((_, index) => index % 256);
    await storage.setItemRaw("raw:bytes", bytes);
    expect(new Uint8Array((await storage.getItemRaw<ArrayBuffer>("raw:bytes"))!)).toEqual(bytes);
    expect(await store.bucket("b", { codec: "bytes" }).get("raw:bytes")).toEqual(bytes);
  });

  test("what is not there is null, and removing it is no failure", async () => {
    expect([await storage.getItem("none"), await storage.hasItem("none")]).toEqual([null, false]);
    await storage.removeItem("none");
    await storage.setItem("k", 1);
    await storage.removeItem("k");
    expect(await storage.hasItem("k")).toBe(false);
  });

  test("keys of all kinds are their own", async () => {
    const keys = ["a", "a:b", "a:b:c", "ab", "ü:ß", "with space", "per%cent", "plus+", "q?", "h#", "file.txt"];
    for (const key of keys) await storage.setItem(key.replaceAll("?", "").replaceAll("#", ""), key);
    const stored: unknown[] = [];
    for await (const { key } of store.bucket("b").list()) stored.push(key);
    expect(new Set(stored)).toEqual(new Set<unknown>(keys.map((key) => key.replaceAll(/[?#]/g, ""))));
  });

  test("getKeys() and clear() keep to their base", async () => {
    for (const key of ["a", "users:ada", "users:bob:1", "users2:eve"]) await storage.setItem(key, 1);
    expect((await storage.getKeys()).sort()).toEqual(["a", "users2:eve", "users:ada", "users:bob:1"]);
    expect((await storage.getKeys("users")).sort()).toEqual(["users:ada", "users:bob:1"]);
    // unstorage asks the driver for whole mounts only.
    await driver.clear!("users:", {});
    expect((await storage.getKeys()).sort()).toEqual(["a", "users2:eve"]);
    await storage.clear();
    expect(await storage.getKeys()).toEqual([]);
  });

  test("more keys than a page are listed and cleared", async () => {
    const bucket = store.bucket("b");
    await Promise.all(Array.from({ length: 2_500 }, (_, index) => bucket.set(`k:${index}`, index)));
    expect((await storage.getKeys("k")).length).toBe(2_500);
    await storage.clear();
    expect((await engine.stats())["keys"]).toBe(0);
  });

  test("a ttl is seconds, and told by getMeta()", async () => {
    const before = Date.now();
    await storage.setItem("k", 1, { ttl: 100 });
    const entry = await store.bucket("b").getEntry("k");
    expect(entry!.expiresAt! - before).toBeGreaterThanOrEqual(100_000);
    expect(entry!.expiresAt! - before).toBeLessThan(120_000);
    const { ttl } = await storage.getMeta("k", { nativeOnly: true });
    expect(ttl).toBeGreaterThan(90);
    expect(ttl).toBeLessThanOrEqual(100);
  });

  test("a single-read key is not given away", async () => {
    await store.bucket("b").set("otp", 1, { once: true });
    let thrown: unknown;
    await storage.getItem("otp").catch((error: unknown) => thrown = error);
    expect((thrown as { readonly status?: number }).status).toBe(409);
    expect(await store.bucket("b").has("otp")).toBe(true);
  });
});
