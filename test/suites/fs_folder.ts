/**
 * What every FileSystem keeps beside its files' bytes: names, what a sync makes durable, one writer.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { eachFolder, errorCode, type FileSystemUnderTest, pattern, readBytes, thrown } from "./fs.ts";

/** Runs the suite of folders; `open` gives each test a FileSystem of its own. */
export function runFolderSuite(name: string, open: () => FileSystemUnderTest): void {
  describe(name, () => {
    const folder = eachFolder(open);
    const { create, contents } = folder;

    // --- names ---

    test("FileSystem.open() creates only what is not there", async () => {
      create("a", [1]);
      expect(await errorCode(() => folder.fs.open("a", "create"))).toBe("IO");
      expect(contents("a")).toEqual([1]);
    });

    test("FileSystem.open() reads and writes only what is there", async () => {
      expect(await errorCode(() => folder.fs.open("a", "read"))).toBe("IO");
      expect(await errorCode(() => folder.fs.open("a", "write"))).toBe("IO");
      expect(folder.fs.list()).toEqual([]);
    });

    test("FileSystem.open() to write keeps what is there", () => {
      create("a", [1, 2, 3]).close();
      const file = folder.open("a", "write");
      file.write(Uint8Array.of(9), 1);
      expect(readBytes(file, 0, 3)).toEqual([1, 9, 3]);
    });

    test("FileSystem.list() names the files", () => {
      expect(folder.fs.list()).toEqual([]);
      create("b");
      create("a.log");
      expect(folder.fs.list().sort()).toEqual(["a.log", "b"]);
    });

    test("FileSystem.rename() replaces its target, which stays whole for who has it open", () => {
      const file = create("a", [1]);
      const replaced = create("b", [2]);
      folder.fs.rename("a", "b");
      expect(folder.fs.list()).toEqual(["b"]);
      expect(contents("b")).toEqual([1]);
      file.write(Uint8Array.of(3), 1);
      expect(contents("b")).toEqual([1, 3]);
      expect(readBytes(replaced, 0, 1)).toEqual([2]);
    });

    test("FileSystem.rename() refuses a source that is not there", async () => {
      create("b", [2]);
      expect(await errorCode(() => folder.fs.rename("a", "b"))).toBe("IO");
      expect(contents("b")).toEqual([2]);
    });

    test("FileSystem.remove() leaves an open file usable", () => {
      const file = create("a", [1]);
      folder.fs.remove("a");
      expect(folder.fs.list()).toEqual([]);
      file.write(Uint8Array.of(2), 1);
      expect(readBytes(file, 0, 2)).toEqual([1, 2]);
      create("a", [5]);
      expect(readBytes(file, 0, 2)).toEqual([1, 2]);
    });

    test("FileSystem.discard() removes a name, leaves an open file usable, and is content with nothing", async () => {
      const file = folder.fs.open("a", "create");
      file.write(Uint8Array.of(1, 2), 0);
      folder.fs.open("b", "create").close();
      await folder.fs.discard("a");
      await folder.fs.discard("a");
      expect(folder.fs.list()).toEqual(["b"]);
      expect(file.size()).toBe(2);
      file.close();
    });

    test("FileSystem.remove() of nothing is no error", () => {
      folder.fs.remove("a");
      expect(folder.fs.list()).toEqual([]);
    });

    // --- durability ---

    test("File.sync() and FileSystem.syncDirectory() resolve", async () => {
      const file = create("a", [1]);
      await Promise.all([file.sync(), file.sync(), folder.fs.syncDirectory()]);
      folder.fs.rename("a", "b");
      await folder.fs.syncDirectory();
      await file.sync();
    });

    test("File.close() during sync() lets it finish", async () => {
      const file = create("a", pattern(100_000));
      const syncs = [file.sync(), file.sync()];
      file.close();
      expect(await errorCode(() => file.sync())).toBe("CLOSED");
      await Promise.all(syncs);
    });

    test("FileSystem keeps its files when reopened", async () => {
      const file = create("a", [1, 2, 3]);
      await file.sync();
      await folder.fs.syncDirectory();
      file.close();
      const later = folder.reopen();
      later.makeDirectory();
      expect(later.list()).toEqual(["a"]);
      expect(contents("a", later)).toEqual([1, 2, 3]);
    });

    // --- one writer ---

    test("FileSystem.lock() refuses a second owner with LOCKED", async () => {
      const lock = folder.fs.lock();
      expect(await errorCode(() => folder.fs.lock())).toBe("LOCKED");
      expect(await errorCode(() => folder.reopen().lock())).toBe("LOCKED");
      expect(folder.fs.list()).toEqual([]);
      lock.release();
    });

    test("FileSystem.inspect() is refused with LOCKED as long as the folder is taken, and takes nothing", async () => {
      folder.fs.inspect();
      const lock = folder.fs.lock();
      expect(await errorCode(() => folder.fs.inspect())).toBe("LOCKED");
      expect(await errorCode(() => folder.reopen().inspect())).toBe("LOCKED");
      lock.release();
      folder.reopen().inspect();
      folder.fs.lock().release();
    });

    test("FileSystem.lock() by force does not take from who is seen to live", async () => {
      const lock = folder.fs.lock({ force: true });
      expect(await errorCode(() => folder.fs.lock({ force: true }))).toBe("LOCKED");
      expect(await errorCode(() => folder.reopen().lock({ force: true }))).toBe("LOCKED");
      lock.check();
      lock.release();
    });

    test("Lock.check() is content until the lock is given back", async () => {
      const lock = folder.fs.lock();
      lock.check();
      create("a", [1]);
      lock.check();
      lock.release();
      expect(await errorCode(() => lock.check())).toBe("LOCKED");
      const other = folder.fs.lock();
      expect(await errorCode(() => lock.check())).toBe("LOCKED");
      other.check();
      other.release();
    });

    test("FileSystem.lock() takes what was released, and a late release frees nobody else's", async () => {
      const lock = folder.fs.lock();
      lock.release();
      const other = folder.fs.lock();
      lock.release();
      expect(await errorCode(() => folder.fs.lock())).toBe("LOCKED");
      other.release();
      folder.fs.lock().release();
    });

    // --- more names ---

    test("FileSystem takes the names that a store uses, and long ones", () => {
      const names = ["manifest", "manifest.new", "0000000001.segment.torn-1234", "a_b-c.d", "x".repeat(200)];
      for (const name of names) create(name, [1]);
      expect(folder.fs.list().sort()).toEqual([...names].sort());
      for (const name of names) expect(contents(name)).toEqual([1]);
    });

    test("FileSystem.open() says which file it could not open, and that it could not open it", async () => {
      for (const mode of ["read", "write"] as const) {
        const error = await thrown(() => folder.fs.open("missing", mode));
        expect(error?.message).toMatch(/^Cannot open .*missing/);
      }
      create("there");
      expect((await thrown(() => folder.fs.open("there", "create")))?.message).toMatch(/^Cannot create .*there/);
    });

    test("FileSystem.open() creates an empty file in the place of one that was removed", () => {
      create("a", [1, 2, 3]);
      folder.fs.remove("a");
      expect(create("a").size()).toBe(0);
    });

    test("FileSystem.open() of one name leaves the others", () => {
      create("a", [1]);
      create("ab", [2]);
      create("a.b", [3]);
      folder.open("a", "write").write(Uint8Array.of(9), 0);
      expect([contents("a"), contents("ab"), contents("a.b")]).toEqual([[9], [2], [3]]);
    });

    test("FileSystem.list() is of its moment, and whole among many", () => {
      for (let number = 0; number < 300; number++) folder.fs.open(`f${number}`, "create").close();
      const names = folder.fs.list();
      for (const name of names) if (Number(name.slice(1)) % 2 === 0) folder.fs.remove(name);
      create("new");
      expect(names.length).toBe(300);
      expect(folder.fs.list().length).toBe(151);
      expect(new Set(folder.fs.list()).size).toBe(151);
    });

    test("FileSystem.list() is the caller's to change", () => {
      create("a");
      folder.fs.list().length = 0;
      expect(folder.fs.list()).toEqual(["a"]);
    });

    test("FileSystem.rename() to the same name keeps the file", () => {
      create("a", [1]);
      folder.fs.rename("a", "a");
      expect([folder.fs.list(), contents("a")]).toEqual([["a"], [1]]);
    });

    test("FileSystem.rename() frees the name", () => {
      const file = create("a", [1]);
      folder.fs.rename("a", "b");
      create("a", [2]);
      file.write(Uint8Array.of(3), 0);
      expect([contents("a"), contents("b")]).toEqual([[2], [3]]);
    });

    test("FileSystem.rename() over and over switches a whole file", () => {
      create("manifest", [0]);
      for (let round = 1; round <= 50; round++) {
        create("manifest.new", [...new Uint8Array(round).fill(round)]).close();
        folder.fs.rename("manifest.new", "manifest");
        expect(contents("manifest")).toEqual([...new Uint8Array(round).fill(round)]);
      }
      expect(folder.fs.list()).toEqual(["manifest"]);
    });

    test("FileSystem.rename() that fails leaves both names", async () => {
      create("b", [2]);
      expect(await errorCode(() => folder.fs.rename("a", "b"))).toBe("IO");
      expect(await errorCode(() => folder.fs.rename("a", "c"))).toBe("IO");
      expect(folder.fs.list()).toEqual(["b"]);
    });

    test("FileSystem.remove() leaves every handle usable, to read and to write", () => {
      const writer = create("a", [1]);
      const reader = folder.open("a", "read");
      folder.fs.remove("a");
      folder.fs.remove("a");
      writer.write(Uint8Array.of(2), 1);
      expect([reader.size(), readBytes(reader, 0, 3)]).toEqual([2, [1, 2]]);
      writer.close();
      expect(readBytes(reader, 0, 3)).toEqual([1, 2]);
    });

    test("FileSystem.remove() removes one name", async () => {
      create("a");
      create("b", [1]);
      folder.fs.remove("a");
      expect(folder.fs.list()).toEqual(["b"]);
      expect(await errorCode(() => folder.fs.open("a", "read"))).toBe("IO");
      expect(contents("b")).toEqual([1]);
    });

    test("FileSystem.makeDirectory() keeps what is there", () => {
      create("a", [1]);
      folder.fs.makeDirectory();
      folder.fs.makeDirectory();
      expect(contents("a")).toEqual([1]);
    });

    test("FileSystem keeps renames, removals and cuts when reopened", async () => {
      create("a", [1, 2, 3]);
      create("b", [4]);
      create("c", [5, 6, 7]).truncate(1);
      folder.fs.rename("a", "b");
      create("d");
      folder.fs.remove("d");
      await folder.fs.syncDirectory();
      const later = folder.reopen();
      expect(later.list().sort()).toEqual(["b", "c"]);
      expect([contents("b", later), contents("c", later)]).toEqual([[1, 2, 3], [5]]);
    });

    test("FileSystem.syncDirectory() of an empty folder, many at once, and of what was removed", async () => {
      await folder.fs.syncDirectory();
      create("a");
      folder.fs.remove("a");
      await Promise.all(Array.from({ length: 10 }, () => folder.fs.syncDirectory()));
      expect(folder.fs.list()).toEqual([]);
    });

    test("FileSystem sees what another on the same folder does", () => {
      const other = folder.reopen();
      create("a", [1]);
      expect(other.list()).toEqual(["a"]);
      const file = other.open("a", "write");
      file.write(Uint8Array.of(2), 1);
      file.close();
      expect(contents("a")).toEqual([1, 2]);
      other.remove("a");
      expect(folder.fs.list()).toEqual([]);
    });

    // --- more of one writer ---

    test("FileSystem.lock() says which folder, and keeps no file from being used", async () => {
      const lock = folder.fs.lock();
      expect((await thrown(() => folder.fs.lock()))?.message).toContain(folder.fs.path);
      expect((await thrown(() => folder.fs.inspect()))?.message).toContain(folder.fs.path);
      create("a", [1]);
      folder.fs.rename("a", "b");
      expect(folder.fs.list()).toEqual(["b"]);
      lock.release();
      expect(folder.fs.list()).toEqual(["b"]);
    });

    test("Lock.release() twice is once", () => {
      const lock = folder.fs.lock();
      lock.release();
      lock.release();
      folder.reopen().lock().release();
      lock.release();
      folder.fs.inspect();
    });
  });
}
