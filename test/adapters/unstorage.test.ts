/**
 * What unstorage's own tests ask of a driver, asked of ours, on both kinds of store. Its tests are not in its package.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createStorage, type Storage } from "unstorage";
import httpDriver from "unstorage/drivers/http";
import { type FirkinDriver, firkinDriver } from "../../lib/adapters/unstorage.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { connect } from "../../lib/store/connect.ts";
import { Store } from "../../lib/store/store.ts";
import { serve, type Server } from "../../server/mod.ts";
import { openMemoryEngine } from "../wire/loopback.ts";

function runDriverSuite(kind: "embedded" | "remote"): void {
  let engine: EmbeddedEngine;
  let server: Server;
  let store: Store;
  let driver: FirkinDriver;
  let storage: Storage;

  beforeAll(async () => {
    engine = await openMemoryEngine();
    server = await serve({ store: new Store(engine), port: 0 });
    store = kind === "embedded" ? new Store(engine) : await connect(server.url);
    driver = firkinDriver({ store, bucket: "items" });
    storage = createStorage({ driver });
  });

  afterEach(() => storage.clear());

  afterAll(async () => {
    await storage.dispose();
    if (kind === "remote") await store.close();
    await server.close();
    await engine.close();
  });

  async function sortedKeys(base?: string, maxDepth?: number): Promise<string[]> {
    return (await storage.getKeys(base, maxDepth === undefined ? {} : { maxDepth })).sort();
  }

  test("has nothing at first, and can be cleared then", async () => {
    expect([await storage.hasItem("a:b"), await storage.getItem("a:b"), await storage.getKeys()]).toEqual([
      false,
      null,
      [],
    ]);
    await storage.clear();
    expect(await storage.getKeys()).toEqual([]);
  });

  test.each<[string, unknown]>([
    ["text", "hello"],
    ["no text", ""],
    ["letters of all kinds", "grüß 🎉"],
    ["an object", { json: "works", list: [1, null] }],
    ["true", true],
    ["false", false],
    ["zero", 0],
  ])("gives back %s", async (_, value) => {
    await storage.setItem("/data/item.json", value as never);
    expect(await storage.getItem("data:item.json")).toEqual(value as never);
    expect(await storage.hasItem("data:item.json")).toBe(true);
  });

  test("stores what toJSON() gives, and refuses what has no JSON", async () => {
    await storage.setItem("a", { toJSON: () => "SERIALIZED" } as never);
    await storage.setItem("b", { toJSON: () => ({ x: 1 }) } as never);
    expect([await storage.getItem("a"), await storage.getItem("b")]).toEqual(["SERIALIZED", { x: 1 }]);
    class Opaque {}
    const refused = await storage.setItem("c", new Opaque() as never).catch(String);
    expect(refused).toContain("Cannot stringify");
  });

  test("keeps raw bytes as they are", async () => {
    const value = Uint8Array.of(1, 2, 255);
    await storage.setItemRaw("data/raw.bin", value);
    expect(await storage.getItemRaw("data/raw.bin")).toEqual(value as never);
    await storage.setItemRaw("data/buffer.bin", value.buffer);
    expect(await storage.getItemRaw("data/buffer.bin")).toEqual(value as never);
  });

  test("lists keys, below a base and to a depth; a query is no part of a key", async () => {
    await storage.setItem("s1:a", "x");
    await storage.setItem("s1:b:c", "x");
    await storage.setItem("s2:a?q=1", "x");
    await storage.setItem("top", "x");
    expect(await storage.getItem("s2:a?q=2")).toBe("x");
    expect(await sortedKeys()).toEqual(["s1:a", "s1:b:c", "s2:a", "top"]);
    expect(await sortedKeys("s1")).toEqual(["s1:a", "s1:b:c"]);
    expect(await sortedKeys(undefined, 0)).toEqual(["top"]);
    expect(await sortedKeys(undefined, 1)).toEqual(["s1:a", "s2:a", "top"]);
    await driver.clear("s1:");
    expect(await sortedKeys()).toEqual(["s2:a", "top"]);
  });

  test("takes and gives many items", async () => {
    await storage.setItems([{ key: "t:1", value: "one" }, { key: "t:2", value: "two" }]);
    const items = await storage.getItems(["t:1", { key: "t:2" }, "t:3"]);
    expect(items.map(({ key, value }) => [key, value])).toEqual([["t:1", "one"], ["t:2", "two"], ["t:3", null]]);
    await storage.removeItem("t:1");
    expect([await storage.hasItem("t:1"), await storage.getItem("t:1")]).toEqual([false, null]);
  });

  test("ends an item when its time has come, and tells who watches", async () => {
    const heard: string[] = [];
    let wake: () => void = () => {};
    const unwatch = await storage.watch((event, key) => {
      heard.push(`${event} ${key}`);
      wake();
    });
    await storage.setItem("short", "x", { ttl: 0.04 });
    await storage.setItem("long", "x", { ttl: 60 });
    expect((await store.bucket("items").getEntry("long"))?.expiresAt).toBeGreaterThan(Date.now() + 50_000);
    await storage.removeItem("long");
    while (!heard.includes("remove:short") && heard.length < 4) await new Promise<void>((resolve) => wake = resolve);
    expect(heard.sort()).toEqual(["remove long", "remove short", "update long", "update short"]);
    expect(await storage.getItem("short")).toBe(null);
    await unwatch();
  });

  test("a base keeps storages in one bucket apart", async () => {
    const [one, other] = ["one", "other:"].map((base) => {
      return createStorage({ driver: firkinDriver({ store, bucket: "items", base, ttl: 60 }) });
    });
    await one!.setItem("a", 1);
    await other!.setItem("a", 2);
    expect([await one!.getKeys(), await one!.getItem("a"), await other!.getItem("a")]).toEqual([["a"], 1, 2]);
    await one!.clear();
    expect(await sortedKeys()).toEqual(["other:a"]);
    expect((await store.bucket("items").getEntry("other:a"))?.expiresAt).toBeGreaterThan(Date.now());
  });

  test("shares its items with unstorage's http driver", async () => {
    const base = `${server.url.replace("ws:", "http:")}/v1/unstorage/items`;
    const http = createStorage({ driver: httpDriver({ base }) });
    await storage.setItem("a:b", { from: "driver" });
    await http.setItem("a:c", { from: "http" });
    expect([await http.getItem("a:b"), await storage.getItem("a:c")]).toEqual([{ from: "driver" }, { from: "http" }]);
  });
}

describe("firkinDriver() on an embedded store", () => runDriverSuite("embedded"));
describe("firkinDriver() on a remote store", () => runDriverSuite("remote"));
