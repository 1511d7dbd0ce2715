/**
 * The folder on disk: the suite, and what only a real file system can refuse.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as nodeFs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { ErrorCode } from "../../lib/base/errors.ts";
import { NodeFileSystem } from "../../lib/fs/node.ts";
import type { Calls } from "../../lib/fs/process.ts";
import { errorCode, type FileSystemUnderTest, pattern, runFileSuite, thrown } from "../suites/fs.ts";
import { runFolderSuite } from "../suites/fs_folder.ts";

const windows = process.platform === "win32";

function makeFolder(): string {
  return nodeFs.mkdtempSync(join(tmpdir(), "firkin-fs-"));
}

/** `node:fs` with some calls replaced. */
function callsWith(replaced: Partial<Calls>): Calls {
  return { ...nodeFs, ...replaced };
}

/** A call that fails as the system would. */
function failing(code: string): () => never {
  return () => {
    throw Object.assign(new Error(`${code}: made up`), { code });
  };
}

/** `node:fs` whose syncs do what `flush` does. */
function callsFlushing(flush: (done: (error: Error | null) => void) => void, others: Partial<Calls> = {}): Calls {
  const sync = (_: number, done: (error: Error | null) => void): void => flush(done);
  return callsWith({ ...others, fsync: sync as Calls["fsync"], fdatasync: sync as Calls["fdatasync"] });
}

function openFolder(): FileSystemUnderTest {
  const folder = makeFolder();
  return {
    fileSystem: new NodeFileSystem(folder),
    reopen: () => new NodeFileSystem(folder),
    cleanup: () => nodeFs.rmSync(folder, { recursive: true }),
  };
}

runFileSuite("NodeFileSystem's files", openFolder);
runFolderSuite("NodeFileSystem", openFolder);

describe("NodeFileSystem on disk", () => {
  let folder: string;

  beforeEach(() => {
    folder = makeFolder();
  });

  afterEach(() => nodeFs.rmSync(folder, { recursive: true }));

  test("NodeFileSystem.makeDirectory() makes parents and is content with what is there", () => {
    const fs = new NodeFileSystem(join(folder, "x/y/z"));
    fs.makeDirectory();
    fs.makeDirectory();
    expect(fs.list()).toEqual([]);
  });

  test("NodeFileSystem.makeDirectory() syncs the folder that each new name is in", () => {
    const opened: string[] = [];
    const synced: string[] = [];
    const calls = callsWith({
      openSync: (path, flags, mode) => {
        opened[nodeFs.openSync(path, flags, mode)] = String(path);
        return opened.length - 1;
      },
      fsyncSync: (fd) => {
        synced.push(opened[fd] ?? "");
        nodeFs.fsyncSync(fd);
      },
    });
    new NodeFileSystem(join(folder, "x/y/z"), calls).makeDirectory();
    expect(synced).toEqual(windows ? [] : [folder, join(folder, "x"), join(folder, "x/y")]);
  });

  test("NodeFileSystem.makeDirectory() is content with a parent that it may not open", () => {
    const fs = new NodeFileSystem(join(folder, "x"), callsWith({ openSync: failing("EACCES") }));
    fs.makeDirectory();
    expect(fs.list()).toEqual([]);
  });

  test.skipIf(!nodeFs.existsSync("/proc/self"))(
    "NodeFileSystem.makeDirectory() ends where no folder can be made",
    async () => {
      expect(await errorCode(() => new NodeFileSystem("/proc/none/below").makeDirectory())).toBe("IO");
    },
  );

  test.skipIf(windows)("NodeFileSystem keeps others out: folder 0700, files 0600", () => {
    const fs = new NodeFileSystem(join(folder, "store"));
    fs.makeDirectory();
    fs.open("a", "create").close();
    fs.lock();
    expect(nodeFs.statSync(fs.path).mode & 0o777).toBe(0o700);
    expect(nodeFs.statSync(join(fs.path, "a")).mode & 0o777).toBe(0o600);
    expect(nodeFs.statSync(join(fs.path, "lock")).mode & 0o777).toBe(0o600);
  });

  test("NodeFileSystem refuses a path that is a file, or below one", async () => {
    nodeFs.writeFileSync(join(folder, "file"), "");
    for (const path of [join(folder, "file"), join(folder, "file/below")]) {
      const fs = new NodeFileSystem(path);
      expect(await errorCode(() => fs.makeDirectory())).toBe("IO");
      expect(await errorCode(() => fs.list())).toBe("IO");
      expect(await errorCode(() => fs.lock())).toBe("IO");
      expect(await errorCode(() => fs.open("a", "create"))).toBe("IO");
      expect(await errorCode(() => fs.syncDirectory())).toBe(windows ? undefined : "DURABILITY");
    }
  });

  test.skipIf(windows)("NodeFileSystem follows no symbolic link in its folder", async () => {
    const fs = new NodeFileSystem(folder);
    fs.open("target", "create").close();
    nodeFs.symlinkSync(join(folder, "target"), join(folder, "a"));
    nodeFs.symlinkSync(join(folder, "target"), join(folder, "lock"));
    for (const mode of ["read", "write", "create"] as const) {
      expect(await errorCode(() => fs.open("a", mode))).toBe("IO");
    }
    expect(await errorCode(() => fs.lock())).toBe("IO");
    expect(fs.list()).toEqual(["target"]);
  });

  test("NodeFileSystem.list() names neither folders nor its lock", () => {
    nodeFs.mkdirSync(join(folder, "lost+found"));
    const fs = new NodeFileSystem(folder);
    fs.lock();
    fs.open("lock.txt", "create").close();
    expect(fs.list()).toEqual(["lock.txt"]);
  });

  test("NodeFileSystem takes names, not paths", () => {
    const fs = new NodeFileSystem(join(folder));
    for (const name of ["", ".", "..", "../a", "a/b", "a\\b", "/a", "a\0"]) {
      expect(() => fs.open(name, "create")).toThrow(TypeError);
      expect(() => fs.remove(name)).toThrow(TypeError);
      expect(() => fs.rename(name, "a")).toThrow(TypeError);
    }
    expect(nodeFs.readdirSync(folder)).toEqual([]);
  });

  test("NodeFile.write() and read() go on after the system moved less than asked", () => {
    const asked: number[] = [];
    const calls = callsWith({
      writeSync: ((fd: number, source: Uint8Array, offset: number, length: number, position: number) => {
        asked.push(length);
        return nodeFs.writeSync(fd, source, offset, Math.min(length, 100), position);
      }) as Calls["writeSync"],
      readSync: ((fd: number, target: Uint8Array, offset: number, length: number, position: number) =>
        nodeFs.readSync(fd, target, offset, Math.min(length, 77), position)) as Calls["readSync"],
    });
    const file = new NodeFileSystem(folder, calls).open("a", "create");
    const bytes = pattern(250);
    file.write(bytes, 10);
    expect(asked).toEqual([250, 150, 50]);
    const target = new Uint8Array(300);
    expect(file.read(target, 10)).toBe(250);
    expect([...target.subarray(0, 250)]).toEqual([...bytes]);
    file.close();
  });

  test("NodeFile.write() gives up when the system takes nothing", async () => {
    const file = new NodeFileSystem(folder, callsWith({ writeSync: (() => 0) as Calls["writeSync"] })).open(
      "a",
      "create",
    );
    expect(await errorCode(() => file.write(pattern(3), 0))).toBe("IO");
    file.close();
  });

  const codes: [string, ErrorCode][] = [
    ["ENOSPC", "FULL"],
    ["EDQUOT", "FULL"],
    ["EACCES", "READ_ONLY"],
    ["EPERM", "READ_ONLY"],
    ["EROFS", "READ_ONLY"],
    ["EIO", "IO"],
    ["EMFILE", "IO"],
  ];
  test.each(codes)("NodeFileSystem says of %s on a write: %s", async (system, code) => {
    const calls = callsWith({
      writeSync: failing(system),
      ftruncateSync: failing(system),
      renameSync: failing(system),
    });
    const fs = new NodeFileSystem(folder, calls);
    const file = fs.open("a", "create");
    const error = await thrown(() => file.write(pattern(3), 0));
    expect(error?.code).toBe(code);
    expect(error?.message).toContain(join(folder, "a"));
    expect(error?.cause).toMatchObject({ code: system });
    expect(await errorCode(() => file.truncate(1))).toBe(code);
    expect(await errorCode(() => fs.rename("a", "b"))).toBe(code);
    expect(await errorCode(() => fs.lock())).toBe(code);
    file.close();
    const barred = new NodeFileSystem(folder, callsWith({ openSync: failing(system), unlinkSync: failing(system) }));
    expect(await errorCode(() => barred.open("a", "write"))).toBe(code);
    expect(await errorCode(() => barred.open("b", "create"))).toBe(code);
    expect(await errorCode(() => barred.remove("a"))).toBe(code);
  });

  test("NodeFileSystem says of a refused read: IO", async () => {
    const calls = callsWith({ openSync: failing("EACCES"), readdirSync: failing("EACCES") });
    const fs = new NodeFileSystem(folder, calls);
    expect(await errorCode(() => fs.open("a", "read"))).toBe("IO");
    expect(await errorCode(() => fs.list())).toBe("IO");
  });

  test("NodeFile.sync() that failed once fails for good, in later calls and in those under way", async () => {
    const callbacks: ((error: Error | null) => void)[] = [];
    const calls = callsFlushing((done) => callbacks.push(done));
    const file = new NodeFileSystem(folder, calls).open("a", "create");
    const codes = [errorCode(() => file.sync()), errorCode(() => file.sync())];
    callbacks[0]?.(Object.assign(new Error("EIO: made up"), { code: "EIO" }));
    callbacks[1]?.(null);
    expect(await Promise.all(codes)).toEqual(["DURABILITY", "DURABILITY"]);
    expect(await errorCode(() => file.sync())).toBe("DURABILITY");
    expect(callbacks.length).toBe(2);
    file.close();
  });

  test("NodeFile.close() waits for the syncs under way", async () => {
    const callbacks: ((error: Error | null) => void)[] = [];
    const closed: number[] = [];
    const calls = callsFlushing((done) => callbacks.push(done), {
      closeSync: (fd) => {
        closed.push(fd);
        nodeFs.closeSync(fd);
      },
    });
    const file = new NodeFileSystem(folder, calls).open("a", "create");
    const syncs = [file.sync(), file.sync()];
    file.close();
    callbacks[0]?.(null);
    await syncs[0];
    expect(closed.length).toBe(0);
    callbacks[1]?.(null);
    await syncs[1];
    expect(closed.length).toBe(1);
  });

  test.skipIf(windows)("NodeFileSystem.syncDirectory() says of a failure: DURABILITY", async () => {
    const fs = new NodeFileSystem(folder, callsFlushing((done) => done(new Error("EIO: made up"))));
    expect(await errorCode(() => fs.syncDirectory())).toBe("DURABILITY");
  });
});
