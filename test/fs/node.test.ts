/**
 * The folder on disk: the suite, and what only a real file system can refuse.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as nodeFs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { ErrorCode } from "../../lib/base/errors.ts";
import { NodeFileSystem } from "../../lib/fs/node.ts";
import type { Calls } from "../../lib/fs/process.ts";
import { errorCode, type FileSystemUnderTest, pattern, runFileSuite, thrown } from "../suites/fs.ts";
import { runFolderSuite } from "../suites/fs_folder.ts";
import { moduleCommand } from "../suites/tools.ts";

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

  /** What a process says that runs under a limit of the shell. */
  function limited(limit: string, what: string): string {
    const command = moduleCommand("test/fs/limited.ts", folder, what);
    // The signal that a limit sends is not the answer of the write.
    const script = `trap '' XFSZ; ulimit ${limit} && exec "$@"`;
    const { stdout, stderr } = spawnSync("bash", ["-c", script, "bash", ...command], { encoding: "utf8" });
    return stdout.trim() === "" ? stderr : stdout.trim();
  }

  const linux = process.platform === "linux";
  test.skipIf(!linux)("NodeFile.write() of more than the system takes: all that fits, then IO", () => {
    expect(limited("-f 256", "write")).toBe(`IO EFBIG ${256 * 1024}`);
    const bytes = nodeFs.readFileSync(join(folder, "a"));
    expect(bytes.every((byte, index) => byte === (index * 7 & 0xff))).toBe(true);
  });

  test.skipIf(!linux)("NodeFileSystem.open() without a descriptor left: IO; a pool makes do with what there is", () => {
    expect(limited("-n 100", "open")).toBe("IO EMFILE 200");
  });

  test("NodeFile.write() and read() say everything to the system: five arguments, numbers all", () => {
    const said: unknown[][] = [];
    const calls = callsWith({
      writeSync: ((...args: Parameters<typeof nodeFs.writeSync>) => {
        said.push(args.slice(2));
        return nodeFs.writeSync(...args);
      }) as Calls["writeSync"],
      readSync: ((...args: Parameters<typeof nodeFs.readSync>) => {
        said.push(args.slice(2));
        return nodeFs.readSync(...args);
      }) as Calls["readSync"],
    });
    const file = new NodeFileSystem(folder, calls).open("a", "create");
    file.write(pattern(5), 3);
    file.read(new Uint8Array(4), 2);
    file.close();
    expect(said).toEqual([[0, 5, 3], [0, 4, 2]]);
  });

  test("NodeFile says of the system's failures to read, to measure and to close: IO", async () => {
    for (const name of ["readSync", "fstatSync", "closeSync"] as const) {
      const fs = new NodeFileSystem(folder, callsWith({ [name]: failing("EIO") }));
      const file = fs.open(name, "create");
      const use = {
        readSync: () => file.read(new Uint8Array(1), 0),
        fstatSync: () => file.size(),
        closeSync: () => file.close(),
      };
      const error = await thrown(use[name]);
      expect([error?.code, (error?.cause as { code?: string } | undefined)?.code]).toEqual(["IO", "EIO"]);
    }
  });

  test("NodeFile.read() that failed half way says so, and not how much there was", async () => {
    let calls = 0;
    const readSync = ((fd: number, target: Uint8Array, offset: number, length: number, position: number) => {
      if (++calls > 1) failing("EIO")();
      return nodeFs.readSync(fd, target, offset, Math.min(length, 3), position);
    }) as Calls["readSync"];
    const file = new NodeFileSystem(folder, callsWith({ readSync })).open("a", "create");
    file.write(pattern(10), 0);
    expect(await errorCode(() => file.read(new Uint8Array(10), 0))).toBe("IO");
    file.close();
  });

  test("NodeFile.sync() that succeeds after it failed stays failed, on this handle alone", async () => {
    let fails = true;
    const calls = callsFlushing((done) => done(fails ? new Error("EIO: made up") : null));
    const fs = new NodeFileSystem(folder, calls);
    const file = fs.open("a", "create");
    expect(await errorCode(() => file.sync())).toBe("DURABILITY");
    fails = false;
    for (let round = 0; round < 3; round++) expect(await errorCode(() => file.sync())).toBe("DURABILITY");
    file.write(pattern(3), 0);
    expect(await errorCode(() => file.sync())).toBe("DURABILITY");
    file.close();
    const other = fs.open("a", "write");
    await other.sync();
    other.close();
  });

  test.skipIf(windows)("NodeFileSystem.syncDirectory() closes what it opened, also when it fails", async () => {
    for (const error of [null, new Error("EIO: made up")]) {
      const open = new Set<number>();
      const calls = callsFlushing((done) => done(error), {
        openSync: (path, flags, mode) => {
          const fd = nodeFs.openSync(path, flags, mode);
          open.add(fd);
          return fd;
        },
        closeSync: (fd) => {
          nodeFs.closeSync(fd);
          open.delete(fd);
        },
      });
      expect(await errorCode(() => new NodeFileSystem(folder, calls).syncDirectory())).toBe(
        error === null ? undefined : "DURABILITY",
      );
      expect(open.size).toBe(0);
    }
  });

  test("NodeFileSystem refuses a name that the system finds too long: IO", async () => {
    const fs = new NodeFileSystem(folder);
    for (const mode of ["create", "read", "write"] as const) {
      expect(await errorCode(() => fs.open("x".repeat(300), mode))).toBe("IO");
    }
    fs.open("x".repeat(255), "create").close();
    expect(fs.list()).toEqual(["x".repeat(255)]);
  });

  test("NodeFileSystem refuses a folder in a file's place", async () => {
    nodeFs.mkdirSync(join(folder, "a"));
    const fs = new NodeFileSystem(folder);
    expect(await errorCode(() => fs.open("a", "create"))).toBe("IO");
    expect(await errorCode(() => fs.open("a", "write"))).toBe("IO");
    fs.open("b", "create").close();
    expect(await errorCode(() => fs.rename("b", "a"))).toBe("IO");
    expect(fs.list()).toEqual(["b"]);
  });

  test.skipIf(windows)(
    "NodeFileSystem.rename() and remove() move and remove a symbolic link, not what it leads to",
    () => {
      const fs = new NodeFileSystem(folder);
      const target = fs.open("target", "create");
      target.write(pattern(3), 0);
      target.close();
      nodeFs.symlinkSync(join(folder, "target"), join(folder, "link"));
      fs.open("new", "create").close();
      fs.rename("new", "link");
      expect(nodeFs.readFileSync(join(folder, "target")).length).toBe(3);
      nodeFs.symlinkSync(join(folder, "target"), join(folder, "other"));
      fs.remove("other");
      expect(fs.list().sort()).toEqual(["link", "target"]);
    },
  );

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
