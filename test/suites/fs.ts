/**
 * What every {@link FileSystem} keeps, as tests that each implementation runs.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type ErrorCode, FirkinError } from "../../lib/base/errors.ts";
import type { File, FileSystem } from "../../lib/fs/fs.ts";

/** One file system under test, in a folder of its own that is there and empty. */
export interface FileSystemUnderTest {
  readonly fileSystem: FileSystem;
  /** The same folder, as a process sees it that starts later. */
  reopen(): FileSystem;
  /** Removes what the test left. */
  cleanup(): void;
}

/** The code of the FirkinError that `action` throws or rejects with; undefined when it does neither. */
export async function errorCode(action: () => unknown): Promise<ErrorCode | undefined> {
  return (await thrown(action))?.code;
}

/** The FirkinError that `action` throws or rejects with; undefined when it does neither. */
export async function thrown(action: () => unknown): Promise<FirkinError | undefined> {
  try {
    await action();
  } catch (error) {
    if (error instanceof FirkinError) return error;
    throw error;
  }
  return undefined;
}

/** `length` bytes that differ from their neighbours, and from those of another `seed`. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + seed * 31) & 0xff);
}

/** The `length` bytes at `position`, fewer at the end of the file. */
export function readBytes(file: File, position: number, length: number): number[] {
  const target = new Uint8Array(length).fill(0xee);
  const count = file.read(target, position);
  expect(target.subarray(count).every((byte) => byte === 0xee)).toBe(true);
  return [...target.subarray(0, count)];
}

/** Runs the suite; `open` gives each test a file system of its own. */
export function runFileSystemSuite(name: string, open: () => FileSystemUnderTest): void {
  describe(name, () => {
    let subject: FileSystemUnderTest;
    let fs: FileSystem;
    const opened: File[] = [];

    /** A new file with these bytes. */
    function create(fileName: string, bytes: ArrayLike<number> = []): File {
      const file = fs.open(fileName, "create");
      opened.push(file);
      file.write(Uint8Array.from(bytes), 0);
      return file;
    }

    /** All bytes of a file. */
    function contents(fileName: string, fileSystem = fs): number[] {
      const file = fileSystem.open(fileName, "read");
      try {
        return readBytes(file, 0, file.size());
      } finally {
        file.close();
      }
    }

    beforeEach(() => {
      subject = open();
      fs = subject.fileSystem;
    });

    afterEach(() => {
      for (const file of opened.splice(0)) file.close();
      subject.cleanup();
    });

    // --- bytes ---

    test("File.write() and read() work at any position in any order", () => {
      const file = create("a");
      file.write(Uint8Array.of(7, 8, 9), 6);
      file.write(Uint8Array.of(1, 2, 3), 0);
      expect(readBytes(file, 7, 2)).toEqual([8, 9]);
      file.write(Uint8Array.of(4, 5, 6), 3);
      expect(readBytes(file, 0, 9)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
      expect(readBytes(file, 2, 3)).toEqual([3, 4, 5]);
      expect(file.size()).toBe(9);
    });

    test("File.write() replaces what was there and leaves its neighbours", () => {
      const file = create("a", [1, 2, 3, 4, 5]);
      file.write(Uint8Array.of(20, 30), 1);
      expect(readBytes(file, 0, 5)).toEqual([1, 20, 30, 4, 5]);
      file.write(Uint8Array.of(50, 60), 4);
      expect(readBytes(file, 0, 9)).toEqual([1, 20, 30, 4, 50, 60]);
    });

    test("File.write() leaves zeros between the end and its position", () => {
      const file = create("a", [1]);
      file.write(Uint8Array.of(2), 4);
      expect(readBytes(file, 0, 5)).toEqual([1, 0, 0, 0, 2]);
    });

    test("File.write() keeps nothing of its source", () => {
      const file = create("a");
      const source = Uint8Array.of(1, 2, 3);
      file.write(source, 0);
      source.fill(9);
      expect(readBytes(file, 0, 3)).toEqual([1, 2, 3]);
    });

    test("File.write() takes a view of a larger buffer", () => {
      const file = create("a");
      file.write(Uint8Array.of(9, 1, 2, 9).subarray(1, 3), 0);
      expect(contents("a")).toEqual([1, 2]);
    });

    test("File.read() fills a view and nothing beside it", () => {
      const file = create("a", [1, 2, 3, 4]);
      const buffer = new Uint8Array(6).fill(9);
      expect(file.read(buffer.subarray(2, 4), 1)).toBe(2);
      expect([...buffer]).toEqual([9, 9, 2, 3, 9, 9]);
    });

    test("File.read() stops at the end of the file", () => {
      const file = create("a", [1, 2, 3]);
      expect(readBytes(file, 1, 10)).toEqual([2, 3]);
      expect(readBytes(file, 3, 10)).toEqual([]);
      expect(readBytes(file, 1_000_000, 10)).toEqual([]);
    });

    test("File.read() and write() of nothing change nothing", () => {
      const file = create("a", [1]);
      file.write(new Uint8Array(0), 100);
      expect(file.size()).toBe(1);
      expect(file.read(new Uint8Array(0), 0)).toBe(0);
      expect(file.read(new Uint8Array(0), 100)).toBe(0);
    });

    test("File keeps three megabytes written in odd pieces", () => {
      const bytes = pattern(3 * 1024 * 1024 + 17);
      const file = create("a");
      for (let position = 0; position < bytes.length; position += 77_777) {
        file.write(bytes.subarray(position, position + 77_777), position);
      }
      const target = new Uint8Array(bytes.length);
      expect(file.read(target, 0)).toBe(bytes.length);
      expect(target.every((byte, index) => byte === bytes[index])).toBe(true);
    });

    test("File keeps bytes on both sides of 2 GiB and 4 GiB", () => {
      const file = create("a", [1]);
      for (const edge of [2 ** 31, 2 ** 32]) {
        file.write(Uint8Array.of(2, 3, 4, 5), edge - 2);
        expect(readBytes(file, edge - 3, 6).slice(0, 5)).toEqual([0, 2, 3, 4, 5]);
        expect(file.size()).toBe(edge + 2);
      }
      expect(readBytes(file, 0, 3)).toEqual([1, 0, 0]);
      file.truncate(5 * 2 ** 30);
      expect(file.size()).toBe(5 * 2 ** 30);
      expect(readBytes(file, 5 * 2 ** 30 - 2, 4)).toEqual([0, 0]);
    });

    test("File.truncate() cuts, and what grows again is zeros", () => {
      const file = create("a", pattern(200_000));
      file.truncate(100_000);
      expect(file.size()).toBe(100_000);
      expect(readBytes(file, 99_998, 10)).toEqual([...pattern(100_000).subarray(99_998)]);
      file.truncate(200_000);
      const tail = new Uint8Array(100_000).fill(1);
      expect(file.read(tail, 100_000)).toBe(100_000);
      expect(tail.every((byte) => byte === 0)).toBe(true);
      file.truncate(0);
      expect(readBytes(file, 0, 10)).toEqual([]);
    });

    test("File refuses a position that is no place in a file", () => {
      const file = create("a", [1]);
      for (const position of [-1, 0.5, Number.NaN, Infinity]) {
        expect(() => file.read(new Uint8Array(1), position)).toThrow();
        expect(() => file.write(new Uint8Array(1), position)).toThrow();
        expect(() => file.truncate(position)).toThrow();
      }
      expect(contents("a")).toEqual([1]);
    });

    test("File sees what another handle on it writes", () => {
      const file = create("a", [1, 2]);
      const other = fs.open("a", "read");
      opened.push(other);
      file.write(Uint8Array.of(3), 2);
      expect(readBytes(other, 0, 3)).toEqual([1, 2, 3]);
      expect(other.size()).toBe(3);
    });

    test("File that was opened to read refuses a write with IO", async () => {
      create("a", [1]);
      const file = fs.open("a", "read");
      opened.push(file);
      expect(await errorCode(() => file.write(Uint8Array.of(2), 0))).toBe("IO");
      expect(await errorCode(() => file.truncate(0))).toBe("IO");
      expect(contents("a")).toEqual([1]);
    });

    test("File that is closed refuses all but close() with CLOSED", async () => {
      const file = create("a", [1]);
      file.close();
      file.close();
      // On disk the next file gets the number that the closed one had.
      create("b", [2]);
      expect(await errorCode(() => file.read(new Uint8Array(1), 0))).toBe("CLOSED");
      expect(await errorCode(() => file.write(Uint8Array.of(9), 0))).toBe("CLOSED");
      expect(await errorCode(() => file.size())).toBe("CLOSED");
      expect(await errorCode(() => file.truncate(0))).toBe("CLOSED");
      expect(await errorCode(() => file.sync())).toBe("CLOSED");
      file.close();
      expect(contents("b")).toEqual([2]);
    });

    // --- names ---

    test("FileSystem.open() creates only what is not there", async () => {
      create("a", [1]);
      expect(await errorCode(() => fs.open("a", "create"))).toBe("IO");
      expect(contents("a")).toEqual([1]);
    });

    test("FileSystem.open() reads and writes only what is there", async () => {
      expect(await errorCode(() => fs.open("a", "read"))).toBe("IO");
      expect(await errorCode(() => fs.open("a", "write"))).toBe("IO");
      expect(fs.list()).toEqual([]);
    });

    test("FileSystem.open() to write keeps what is there", () => {
      create("a", [1, 2, 3]).close();
      const file = fs.open("a", "write");
      opened.push(file);
      file.write(Uint8Array.of(9), 1);
      expect(readBytes(file, 0, 3)).toEqual([1, 9, 3]);
    });

    test("FileSystem.list() names the files", () => {
      expect(fs.list()).toEqual([]);
      create("b");
      create("a.log");
      expect(fs.list().sort()).toEqual(["a.log", "b"]);
    });

    test("FileSystem.rename() replaces its target, which stays whole for who has it open", () => {
      const file = create("a", [1]);
      const replaced = create("b", [2]);
      fs.rename("a", "b");
      expect(fs.list()).toEqual(["b"]);
      expect(contents("b")).toEqual([1]);
      file.write(Uint8Array.of(3), 1);
      expect(contents("b")).toEqual([1, 3]);
      expect(readBytes(replaced, 0, 1)).toEqual([2]);
    });

    test("FileSystem.rename() refuses a source that is not there", async () => {
      create("b", [2]);
      expect(await errorCode(() => fs.rename("a", "b"))).toBe("IO");
      expect(contents("b")).toEqual([2]);
    });

    test("FileSystem.remove() leaves an open file usable", () => {
      const file = create("a", [1]);
      fs.remove("a");
      expect(fs.list()).toEqual([]);
      file.write(Uint8Array.of(2), 1);
      expect(readBytes(file, 0, 2)).toEqual([1, 2]);
      create("a", [5]);
      expect(readBytes(file, 0, 2)).toEqual([1, 2]);
    });

    test("FileSystem.remove() of nothing is no error", () => {
      fs.remove("a");
      expect(fs.list()).toEqual([]);
    });

    // --- durability ---

    test("File.sync() and FileSystem.syncDirectory() resolve", async () => {
      const file = create("a", [1]);
      await Promise.all([file.sync(), file.sync(), fs.syncDirectory()]);
      fs.rename("a", "b");
      await fs.syncDirectory();
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
      await fs.syncDirectory();
      file.close();
      const later = subject.reopen();
      later.makeDirectory();
      expect(later.list()).toEqual(["a"]);
      expect(contents("a", later)).toEqual([1, 2, 3]);
    });

    // --- one writer ---

    test("FileSystem.lock() refuses a second owner with LOCKED", async () => {
      const lock = fs.lock();
      expect(await errorCode(() => fs.lock())).toBe("LOCKED");
      expect(await errorCode(() => subject.reopen().lock())).toBe("LOCKED");
      expect(fs.list()).toEqual([]);
      lock.release();
    });

    test("FileSystem.inspect() is refused with LOCKED as long as the folder is taken, and takes nothing", async () => {
      fs.inspect();
      const lock = fs.lock();
      expect(await errorCode(() => fs.inspect())).toBe("LOCKED");
      expect(await errorCode(() => subject.reopen().inspect())).toBe("LOCKED");
      lock.release();
      subject.reopen().inspect();
      fs.lock().release();
    });

    test("FileSystem.lock() by force does not take from who is seen to live", async () => {
      const lock = fs.lock({ force: true });
      expect(await errorCode(() => fs.lock({ force: true }))).toBe("LOCKED");
      expect(await errorCode(() => subject.reopen().lock({ force: true }))).toBe("LOCKED");
      lock.check();
      lock.release();
    });

    test("Lock.check() is content until the lock is given back", async () => {
      const lock = fs.lock();
      lock.check();
      create("a", [1]);
      lock.check();
      lock.release();
      expect(await errorCode(() => lock.check())).toBe("LOCKED");
      const other = fs.lock();
      expect(await errorCode(() => lock.check())).toBe("LOCKED");
      other.check();
      other.release();
    });

    test("FileSystem.lock() takes what was released, and a late release frees nobody else's", async () => {
      const lock = fs.lock();
      lock.release();
      const other = fs.lock();
      lock.release();
      expect(await errorCode(() => fs.lock())).toBe("LOCKED");
      other.release();
      fs.lock().release();
    });
  });
}
