/**
 * Keyv's own test suite on the adapter, on both kinds of store.
 *
 * The suite is written for vitest and takes its functions as an argument, so it runs on ours. What it depends on beside
 * (vitest, sqlite3) it does not import: package.json's `overrides` keep that from being installed.
 *
 * @module
 */
import keyvTestSuite, { keyvIteratorTests } from "@keyv/test-suite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import Keyv from "keyv";
import { KeyvAdapter } from "../../lib/adapters/keyv.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { connect } from "../../lib/store/connect.ts";
import { Store } from "../../lib/store/store.ts";
import { serve, type Server } from "../../server/mod.ts";
import { openMemoryEngine } from "../wire/loopback.ts";

/** What the suite wants of vitest. */
const RUNNER = {
  it: (name: string, body: (context: { expect: typeof expect }) => Promise<unknown>) =>
    test(name, () => body({ expect })),
  beforeEach,
  afterEach,
} as never;

function runAdapterSuite(kind: "embedded" | "remote"): void {
  let engine: EmbeddedEngine;
  let server: Server;
  let store: Store;

  beforeAll(async () => {
    engine = await openMemoryEngine();
    store = new Store(engine);
    if (kind === "embedded") return;
    server = await serve({ store, port: 0 });
    store = await connect(server.url);
  });

  afterAll(async () => {
    if (kind === "remote") {
      await store.close();
      await server.close();
    }
    await engine.close();
  });

  const adapter = (): KeyvAdapter => new KeyvAdapter(store.bucket("cache"));

  keyvTestSuite(RUNNER, Keyv, adapter);
  keyvIteratorTests(RUNNER, Keyv, adapter);

  test("setMany() and hasMany() do so, and a key ends in firkin too", async () => {
    const keyv = new Keyv({ store: adapter(), namespace: "ns" });
    await keyv.setMany([{ key: "a", value: 1, ttl: 60_000 }, { key: "b", value: 2 }]);
    expect(await keyv.hasMany(["a", "b", "c"])).toEqual([true, true, false]);
    expect((await store.bucket("cache").getEntry("ns:a"))?.expiresAt).toBeGreaterThan(Date.now() + 50_000);
    expect((await store.bucket("cache").getEntry("ns:b"))?.expiresAt).toBe(undefined);
    await keyv.disconnect();
    expect(await keyv.get("b")).toBe(2);
  });
}

describe("KeyvAdapter on an embedded store", () => runAdapterSuite("embedded"));
describe("KeyvAdapter on a remote store", () => runAdapterSuite("remote"));
