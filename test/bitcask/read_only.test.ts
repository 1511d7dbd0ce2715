/**
 * A store that is opened to read: it shows what is there and changes nothing.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as nodeFs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { File, FileMode } from "../../lib/fs/fs.ts";
import { NodeFileSystem } from "../../lib/fs/node.ts";
import type { Calls } from "../../lib/fs/process.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { open } from "../../lib/store/open.ts";
import { CountingDisk } from "../suites/counting_disk.ts";
import { Disk } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

const FIRST = "0000000001.segment";

/** A killed store of three segments on a disk, with a deleted key and one that expires in a minute. */
async function written(disk: Disk = new Disk()): Promise<Cask> {
  const cask = await Cask.open({}, disk);
  for (const key of ["a", "b", "c"]) await cask.set(key, `${key}${"x".repeat(2_500)}`);
  await cask.set("short", "1", { deadline: { ttl: 60_000 } });
  await cask.set("a", "1");
  await cask.delete("b");
  cask.disk.crash();
  return cask;
}

/** The same disk, opened to read. */
function reader(cask: Cask, clock: ManualClock = cask.clock): Promise<Cask> {
  return Cask.open({ readOnly: true, automatic: true }, cask.disk, clock);
}

/** Every file with its bytes. */
function files(disk: Disk): Map<string, string> {
  return new Map(disk.list().sort().map((name) => [name, disk.bytes(name).join()]));
}

/** Puts bytes behind the last segment's end. */
function tear(disk: Disk, tail: Uint8Array): void {
  const name = disk.segments().at(-1)!;
  disk.put(name, Uint8Array.of(...disk.bytes(name), ...tail));
}

describe("A store that is opened to read", () => {
  test("shows what the writer saw, and makes no call that changes anything", async () => {
    const cask = await written();
    const seen = await cask.open().then((again) => again.all());
    const { cursor } = cask.engine.subscribe({ from: `${cask.engine.subscribe({}).cursor.split(".")[0]}.0` });
    cask.disk.crash();
    const before = files(cask.disk);
    const from = cask.disk.calls.length;
    const other = await reader(cask);
    expect(await other.all()).toBe(seen);
    expect([other.get("a"), other.get("b"), other.get("short")]).toEqual(["1", undefined, "1"]);
    expect((await other.engine.stats())["keys"]).toBe(3);
    expect(await other.told(other.engine.subscribe({ snapshot: true }))).toHaveLength(4);
    const events = await other.told(other.engine.subscribe({ from: cursor }));
    expect(events.length).toBe(6);
    await other.engine.sync();
    await other.advance(600_000);
    await other.close();
    expect(cask.disk.calls.length).toBe(from);
    expect(files(cask.disk)).toEqual(before);
    expect(other.events).toEqual([]);
  });

  test("refuses every write with READ_ONLY, whatever it would do", async () => {
    const cask = await reader(await written());
    const { engine } = cask;
    const key = bytesOf("missing");
    const writes: (() => Promise<unknown>)[] = [
      () => cask.set("a", "2"),
      () => cask.set("a", "2", { ifRevision: 999 }),
      () => cask.set("a", "2", { deadline: { ttl: 1 } }),
      () => cask.delete("a"),
      () => engine.delete("b", key),
      () => engine.delete("none", key),
      () => engine.touch("b", key, undefined),
      () => engine.touch("b", bytesOf("a"), { ttl: 1 }),
      () => engine.increment("b", bytesOf("a"), 1),
      () => engine.increment("new", key, 1),
      () => cask.compact(),
    ];
    for (const write of writes) expect([String(write), await errorCode(write)]).toEqual([String(write), "READ_ONLY"]);
    expect((await engine.stats())["buckets"]).toBe(1);
    await cask.close();
    expect(await errorCode(() => cask.set("a", "2"))).toBe("CLOSED");
    await engine.close();
  });

  test("hides keys whose deadline has come, and writes nothing about them", async () => {
    const cask = await reader(await written());
    const from = cask.disk.calls.length;
    await cask.advance(59_999);
    expect(cask.get("short")).toBe("1");
    await cask.advance(1);
    expect(cask.get("short")).toBeUndefined();
    expect(await cask.all()).not.toContain("short");
    await cask.advance(3_600_000);
    expect(cask.disk.calls.length).toBe(from);
    await cask.close();
    // The next writer tells of it.
    await cask.open({ readOnly: false });
    await cask.settle();
    expect((await cask.engine.stats())["revision"]).toBe(7);
  });

  test("has no timer", async () => {
    const cask = await written();
    const clock = new ManualClock();
    let timers = 0;
    const after = clock.after.bind(clock);
    clock.after = (delayMs, callback) => {
      timers++;
      return after(delayMs, callback);
    };
    const other = await reader(cask, clock);
    await other.advance(3_600_000);
    expect(timers).toBe(0);
    await other.close();
  });

  test("does not go back behind the time that the log says", async () => {
    const cask = await written();
    await cask.open();
    await cask.advance(61_000);
    cask.disk.crash();
    const other = await reader(cask, new ManualClock());
    expect(other.get("short")).toBeUndefined();
  });

  test("is refused with LOCKED while a process has the store, and locks nobody out", async () => {
    const disk = new CountingDisk();
    const cask = await written(disk);
    await cask.open();
    // It is found out before a log is read that is being written.
    const opened = disk.openCountMax;
    disk.openCountMax = 0;
    expect(await errorCode(() => reader(cask))).toBe("LOCKED");
    expect([opened > 0, disk.openCountMax]).toEqual([true, 0]);
    await cask.close();
    const readers = [await reader(cask), await reader(cask)];
    await cask.open();
    expect(readers.map((other) => other.get("a"))).toEqual(["1", "1"]);
    for (const other of readers) await other.close();
    await cask.set("a", "2");
    await cask.close();
  });

  test.each(["whole", "damaged"])("says LOCKED when a process takes the store in the middle: %s", async (state) => {
    class StolenDisk extends CountingDisk {
      stealing = false;
      override open(name: string, mode: FileMode): File {
        if (this.stealing && name === FIRST) this.steal();
        return super.open(name, mode);
      }
    }
    const disk = new StolenDisk();
    const cask = await written(disk);
    if (state === "damaged") disk.put(FIRST, disk.bytes(FIRST).fill(0, 100, 200));
    disk.stealing = true;
    expect(await errorCode(() => reader(cask))).toBe("LOCKED");
    expect(disk.openCount).toBe(0);
  });

  test("leaves an unfinished end out, in memory alone, and reports it", async () => {
    const cask = await written();
    tear(cask.disk, Uint8Array.of(1, 2, 3));
    const before = files(cask.disk);
    const from = cask.disk.calls.length;
    const other = await reader(cask);
    expect(other.events.map(({ type }) => type)).toEqual(["torn"]);
    expect(other.get("a")).toBe("1");
    await other.close();
    expect(files(cask.disk)).toEqual(before);
    expect(cask.disk.calls.length).toBe(from);
    await cask.open();
    expect(cask.disk.list().filter((name) => name.includes("torn")).length).toBe(1);
  });

  test("is refused with CORRUPT where the end is rotten, and with IO or CORRUPT where there is no store", async () => {
    const cask = await written();
    await (await cask.open()).close();
    const last = cask.disk.segments().at(-1)!;
    const bytes = cask.disk.bytes(last);
    bytes[40]! ^= 1;
    cask.disk.put(last, bytes);
    expect(await errorCode(() => reader(cask))).toBe("CORRUPT");
    cask.disk.remove("manifest");
    expect(await errorCode(() => reader(cask))).toBe("CORRUPT");
    expect(await errorCode(() => Cask.open({ readOnly: true }, new Disk()))).toBe("IO");
  });

  test("leaves what a crash has left", async () => {
    const cask = await written();
    cask.disk.put("manifest.new", bytesOf("half"));
    cask.disk.put("0000000077.segment", bytesOf("nobody's"));
    const before = [...files(cask.disk).keys()];
    await (await reader(cask)).close();
    expect([...files(cask.disk).keys()]).toEqual(before);
    await cask.open();
    expect(cask.disk.list()).not.toContain("manifest.new");
  });

  test("keeps the epoch of a store that was killed under another policy", async () => {
    const cask = await written();
    await cask.open({ sync: "os" });
    cask.disk.crash();
    const epochOf = (other: Cask): string => other.engine.subscribe({}).cursor.split(".")[0]!;
    const one = await reader(cask);
    const epoch = epochOf(one);
    await one.close();
    expect(epochOf(await reader(cask))).toBe(epoch);
    expect(epochOf(await cask.open({ sync: "os" }))).not.toBe(epoch);
  });

  test("closes every file", async () => {
    const disk = new CountingDisk();
    const cask = await written(disk);
    const other = await reader(cask);
    await other.all();
    expect(disk.openCount).toBeGreaterThan(0);
    await other.close();
    expect(disk.openCount).toBe(0);
  });
});

describe("A folder that cannot be written to", () => {
  let folder: string;

  beforeEach(() => {
    folder = nodeFs.mkdtempSync(join(tmpdir(), "firkin-read-"));
  });

  afterEach(() => nodeFs.rmSync(folder, { recursive: true }));

  /** The folder on a file system that was mounted to be read. */
  function mounted(path: string): NodeFileSystem {
    const refuse = (): never => {
      throw Object.assign(new Error("EROFS: read-only file system"), { code: "EROFS" });
    };
    const names = ["mkdirSync", "writeSync", "linkSync", "renameSync", "unlinkSync", "ftruncateSync", "utimesSync"];
    const { O_RDONLY, O_NOFOLLOW, O_DIRECTORY } = nodeFs.constants;
    const openSync = ((name: string, flags: number, mode?: number) => {
      if ((flags & ~((O_NOFOLLOW ?? 0) | (O_DIRECTORY ?? 0))) !== O_RDONLY) refuse();
      return nodeFs.openSync(name, flags, mode);
    }) as Calls["openSync"];
    const refused = Object.fromEntries(["fsync", "fdatasync", "fsyncSync", ...names].map((name) => [name, refuse]));
    return new NodeFileSystem(path, { ...nodeFs, ...refused, openSync } as Calls);
  }

  test("can be read", async () => {
    const store = await open(folder);
    await store.bucket("b").set("a", 1, { ttl: "1h" });
    await store.close();
    const before = nodeFs.readdirSync(folder).sort();
    const times = nodeFs.statSync(folder).mtimeMs;
    for (const fileSystem of [mounted(folder), undefined]) {
      const options = fileSystem === undefined ? {} : { fileSystem };
      const other = await open({ path: folder, readOnly: true, ...options });
      expect(await other.bucket("b").get("a")).toBe(1);
      expect(await errorCode(() => other.bucket("b").set("a", 2))).toBe("READ_ONLY");
      await other.close();
    }
    expect(nodeFs.readdirSync(folder).sort()).toEqual(before);
    expect(nodeFs.statSync(folder).mtimeMs).toBe(times);
    expect(await errorCode(() => open({ path: folder, fileSystem: mounted(folder) }))).toBe("READ_ONLY");
  });

  test("is not made when it is missing", async () => {
    const path = join(folder, "missing");
    expect(await errorCode(() => open({ path, readOnly: true }))).toBe("IO");
    expect(nodeFs.existsSync(path)).toBe(false);
    nodeFs.mkdirSync(path);
    expect(await errorCode(() => open({ path, readOnly: true }))).toBe("IO");
    expect(nodeFs.readdirSync(path)).toEqual([]);
    expect(await errorCode(() => open({ path: ":memory:", readOnly: true }))).toBe("IO");
  });
});
