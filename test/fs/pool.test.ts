/**
 * Files behind a bounded number of descriptors: the pool itself, and a store of many more segments than descriptors.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as nodeFs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FirkinError } from "../../lib/base/errors.ts";
import type { File, FileMode, FileSystem } from "../../lib/fs/fs.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { NodeFileSystem } from "../../lib/fs/node.ts";
import { FilePool } from "../../lib/fs/pool.ts";
import { open } from "../../lib/store/open.ts";
import { Cask } from "../suites/embedded.ts";
import { CountingDisk } from "../suites/counting_disk.ts";
import { errorCode } from "../suites/fs.ts";

/** A folder with files `a` to `j`, each of which holds its own letter, and a count of what is open. */
class Letters {
  readonly opened: string[] = [];
  readonly #open = new Set<File>();
  /** Files that may be open before the system says that there are too many. */
  room = Infinity;
  readonly fileSystem: FileSystem;

  constructor() {
    const memory = new MemoryFileSystem();
    for (const letter of "abcdefghij") {
      const file = memory.open(letter, "create");
      file.write(Uint8Array.of(letter.charCodeAt(0)), 0);
      file.close();
    }
    const openFile = (name: string, mode: FileMode): File => {
      if (this.#open.size >= this.room) {
        const cause = Object.assign(new Error("EMFILE: made up"), { code: "EMFILE" });
        throw new FirkinError("IO", `Cannot open ${name}`, { cause });
      }
      this.opened.push(name);
      const file = memory.open(name, mode);
      const close = file.close.bind(file);
      this.#open.add(file);
      return Object.assign(file, {
        close: () => {
          this.#open.delete(file);
          close();
        },
      });
    };
    this.fileSystem = Object.assign(Object.create(memory), {
      open: openFile,
    }) as FileSystem;
  }

  get openCount(): number {
    return this.#open.size;
  }
}

function read(file: File): string {
  const target = new Uint8Array(1);
  file.read(target, 0);
  return String.fromCharCode(target[0]!);
}

describe("FilePool", () => {
  test("FilePool.file() opens nothing until it is read, and then once", () => {
    const letters = new Letters();
    const file = new FilePool(letters.fileSystem, 2).file("a");
    expect(letters.opened).toEqual([]);
    expect([read(file), file.size(), read(file)]).toEqual(["a", 1, "a"]);
    expect(letters.opened).toEqual(["a"]);
  });

  test("FilePool closes the least recently read file and opens it again", () => {
    const letters = new Letters();
    const pool = new FilePool(letters.fileSystem, 3);
    const files = "abcd".split("").map((letter) => pool.file(letter));
    const [a, b, c, d] = files as [File, File, File, File];
    for (const file of [a, b, c, a, d, a, c]) read(file);
    expect(letters.opened).toEqual(["a", "b", "c", "d"]);
    expect([letters.openCount, pool.openCount]).toEqual([3, 3]);
    expect(read(b)).toBe("b");
    expect(letters.opened).toEqual(["a", "b", "c", "d", "b"]);
    expect(read(d)).toBe("d");
    expect([letters.openCount, letters.opened.length]).toEqual([3, 6]);
  });

  test("FilePool gives each file that has the same name a life of its own", () => {
    const letters = new Letters();
    const pool = new FilePool(letters.fileSystem, 3);
    const [one, other] = [pool.file("a"), pool.file("a")];
    expect(read(one) + read(other)).toBe("aa");
    one.close();
    expect(read(other)).toBe("a");
    expect(letters.openCount).toBe(1);
  });

  test("FilePool forgets a file that is closed, open or not, and refuses its use", async () => {
    const letters = new Letters();
    const pool = new FilePool(letters.fileSystem, 3);
    const [a, b] = [pool.file("a"), pool.file("b")];
    read(a);
    for (const file of [a, b, a]) file.close();
    expect([letters.openCount, pool.openCount]).toEqual([0, 0]);
    expect(await errorCode(() => read(a))).toBe("CLOSED");
    expect(await errorCode(() => b.size())).toBe("CLOSED");
    expect(letters.opened).toEqual(["a"]);
  });

  test("FilePool.close() closes every file for good", async () => {
    const letters = new Letters();
    const pool = new FilePool(letters.fileSystem, 3);
    const files = "abc".split("").map((letter) => pool.file(letter));
    files.forEach(read);
    pool.close();
    expect(letters.openCount).toBe(0);
    for (const file of files) expect(await errorCode(() => read(file))).toBe("CLOSED");
    expect(letters.openCount).toBe(0);
  });

  test("FilePool refuses to write to a file, to cut it and to sync it", async () => {
    const file = new FilePool(new Letters().fileSystem, 3).file("a");
    expect(() => file.write(Uint8Array.of(1), 0)).toThrow(TypeError);
    expect(() => file.truncate(0)).toThrow(TypeError);
    let refusal: unknown;
    await file.sync().catch((error: unknown) => refusal = error);
    expect(refusal).toBeInstanceOf(TypeError);
    expect(read(file)).toBe("a");
  });

  test("FilePool gives files back when the system has no more, and tries once", async () => {
    const letters = new Letters();
    const pool = new FilePool(letters.fileSystem, 8);
    const files = "abcdefgh".split("").map((letter) => pool.file(letter));
    letters.room = 6;
    expect(files.map(read).join("")).toBe("abcdefgh");
    expect(letters.openCount).toBeLessThanOrEqual(6);
    letters.room = 0;
    expect(await errorCode(() => read(pool.file("i")))).toBe("IO");
    expect(await errorCode(() => read(pool.file("missing")))).toBe("IO");
  });

  test("FilePool closes nothing for a file that is not there", async () => {
    const letters = new Letters();
    const pool = new FilePool(letters.fileSystem, 4);
    for (const letter of "abc") read(pool.file(letter));
    expect(await errorCode(() => read(pool.file("missing")))).toBe("IO");
    expect(letters.openCount).toBe(3);
  });
});

describe("a store of more segments than descriptors", () => {
  test("reads, tells and compacts a thousand segments through eight files", async () => {
    const disk = new CountingDisk();
    const cask = await Cask.open({ filesMax: 8, cacheBytesMax: 0, sync: "os" }, disk);
    const start = cask.engine.subscribe({}).cursor;
    const value = "v".repeat(3_900);
    for (let number = 0; number < 1_000; number++) await cask.set(`k${number}`, `${number}${value}`);
    expect(disk.segments().length).toBe(1_000);
    // The active segment, the manifest while it is switched, and the pool.
    expect(disk.openCountMax).toBeLessThanOrEqual(10);
    const all = (): boolean =>
      Array.from({ length: 1_000 }, (_, number) => cask.get(`k${number * 7 % 1_000}`))
        .every((found, number) => found === `${number * 7 % 1_000}${value}`);
    expect(all()).toBe(true);
    expect((await cask.heard(cask.engine.subscribe({ from: start }))).length).toBe(1_000);
    await cask.reopen();
    expect(all()).toBe(true);
    for (let number = 0; number < 1_000; number += 2) await cask.delete(`k${number}`);
    await cask.compact();
    expect(disk.segments().length).toBeLessThan(520);
    expect(Array.from({ length: 1_000 }, (_, number) => cask.get(`k${number}`) !== undefined).filter(Boolean).length)
      .toBe(500);
    expect(disk.openCountMax).toBeLessThanOrEqual(10);
    await cask.close();
    expect(disk.openCount).toBe(0);
  }, 60_000);
});

describe("a segment that was sealed", () => {
  test("is not synced again by the timer that waited for it", async () => {
    const cask = await Cask.open({ sync: "interval" });
    await cask.set("a", "1");
    await cask.compact();
    await cask.advance(5_000);
    expect(cask.events).toEqual([]);
    await cask.set("a", "2");
    expect(cask.get("a")).toBe("2");
  });
});

describe("a folder of more segments than descriptors", () => {
  let folder: string;

  beforeEach(() => {
    folder = nodeFs.mkdtempSync(join(tmpdir(), "firkin-pool-"));
  });

  afterEach(() => nodeFs.rmSync(folder, { recursive: true }));

  /** Files of the folder that this process has open. */
  function openFiles(): number {
    const links = nodeFs.readdirSync("/proc/self/fd").map((fd) => {
      try {
        return nodeFs.readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return "";
      }
    });
    return links.filter((path) => path.startsWith(folder)).length;
  }

  test.skipIf(!nodeFs.existsSync("/proc/self/fd"))("keeps eight of them and the active one open", async () => {
    const options = {
      path: folder,
      filesMax: 8,
      segmentBytesMax: 4_096,
      cacheBytesMax: 0,
      compression: false,
    } as const;
    let store = await open({ ...options, sync: "os", compaction: false, fileSystem: new NodeFileSystem(folder) });
    let bucket = store.bucket<string>("b", { codec: "text" });
    for (let number = 0; number < 1_000; number++) {
      await bucket.set(`k${number}`, `${number} `.repeat(700).slice(0, 3_900));
    }
    expect(nodeFs.readdirSync(folder).length).toBeGreaterThan(900);
    expect(openFiles()).toBeLessThanOrEqual(9);
    await store.close();
    expect(openFiles()).toBe(0);
    store = await open(options);
    bucket = store.bucket<string>("b", { codec: "text" });
    for (let number = 0; number < 1_000; number++) {
      expect(bucket.getSync(`k${number}`)?.startsWith(`${number} `)).toBe(true);
    }
    expect(openFiles()).toBeLessThanOrEqual(9);
    await store.close();
    expect(openFiles()).toBe(0);
  }, 60_000);
});
