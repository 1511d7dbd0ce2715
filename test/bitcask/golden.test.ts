/**
 * Stores as older versions of firkin wrote them stay readable: each folder of `test/golden` is opened, and must hold
 * what its `expected.json` says. The folders are never written again; `test/golden/make.ts` made them.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { fromHex } from "../../lib/base/bytes.ts";
import { systemClock } from "../../lib/base/clock.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { verify } from "../../lib/store/upkeep.ts";
import type { Golden } from "../golden/make.ts";

const GOLDEN = new URL("../golden/", import.meta.url);
const NAMES = readdirSync(GOLDEN, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

/** A copy of a golden folder in memory. */
function copyOf(name: string): MemoryFileSystem {
  const folder = new MemoryFileSystem();
  for (const file of readdirSync(new URL(`${name}/`, GOLDEN))) {
    folder.open(file, "create").write(readFileSync(new URL(`${name}/${file}`, GOLDEN)), 0);
  }
  return folder;
}

async function held(store: Store): Promise<string[]> {
  const found: string[] = [];
  for (const name of ["users", "notes", "batches"]) {
    for await (const entry of store.bucket(name).list()) found.push(JSON.stringify({ bucket: name, ...entry }));
  }
  return found.sort();
}

describe("a store of an older firkin", () => {
  test("there is one for the first format", () => {
    expect(NAMES).toContain("format-1");
  });

  test("today's hints are read as they are, older ones are made anew", async () => {
    const badHints = async (name: string): Promise<readonly string[]> => {
      return (await verify({ path: name, fileSystem: copyOf(name) })).badHints;
    };
    expect(await badHints("format-1-hints-2")).toEqual([]);
    expect((await badHints("format-1-hints")).length).toBe(9);
  });

  for (const name of NAMES) {
    test(`${name}: opens, holds what was set, takes writes, opens again`, async () => {
      const golden = JSON.parse(readFileSync(new URL(`${name}/expected.json`, GOLDEN), "utf8")) as Golden;
      const fileSystem = copyOf(name);
      // Its time stands still, its timers run.
      const clock = { ...systemClock, wall: () => golden.time, monotonic: () => 0 };
      const expected = golden.entries.map(({ key, ...entry }) => {
        const bytes = fromHex(key)!;
        const text = new TextDecoder().decode(bytes);
        const known = new TextEncoder().encode(text).length === bytes.length ? text : bytes;
        const { bucket, value, revision, expiresAt, once } = entry;
        return JSON.stringify({ bucket, key: known, value, revision, ...(expiresAt && { expiresAt }), once });
      }).sort();
      expect(expected.length).toBeGreaterThan(5);
      const store = await open({ path: name, fileSystem, clock });
      expect(await held(store)).toEqual(expected);
      await store.bucket("more").set("a", 1);
      await store.close();
      const again = await open({ path: name, fileSystem, clock });
      expect(await held(again)).toEqual(expected);
      expect(await again.bucket("more").get("a")).toBe(1);
      await again.compact();
      expect(await held(again)).toEqual(expected);
      await again.close();
    });
  }
});
