/**
 * What every {@link File} keeps, as tests that each implementation runs; fs_folder.ts has those of the folder.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type ErrorCode, FirkinError } from "../../lib/base/errors.ts";
import type { File, FileMode, FileSystem } from "../../lib/fs/fs.ts";

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

/** The file system of a test, and short ways to use it. */
export interface Folder {
  readonly fs: FileSystem;
  /** A new file with these bytes. */
  readonly create: (name: string, bytes?: ArrayLike<number>) => File;
  /** Opens a file that is closed after the test. */
  readonly open: (name: string, mode: FileMode) => File;
  /** All bytes of a file. */
  readonly contents: (name: string, fileSystem?: FileSystem) => number[];
  /** The same folder, as a process sees it that starts later. */
  reopen(): FileSystem;
}

/** What an implementation cannot do. */
export interface SuiteOptions {
  /** A hole in a file costs as much as its bytes. */
  readonly dense?: boolean;
}

/** Gives each test of the group around it a folder of its own. */
export function eachFolder(open: () => FileSystemUnderTest): Folder {
  let subject: FileSystemUnderTest;
  const opened: File[] = [];
  const keep = (file: File): File => {
    opened.push(file);
    return file;
  };
  beforeEach(() => void (subject = open()));
  afterEach(() => {
    for (const file of opened.splice(0)) file.close();
    subject.cleanup();
  });
  return {
    get fs() {
      return subject.fileSystem;
    },
    create(name, bytes = []) {
      const file = keep(subject.fileSystem.open(name, "create"));
      file.write(Uint8Array.from(bytes), 0);
      return file;
    },
    open: (name, mode) => keep(subject.fileSystem.open(name, mode)),
    contents(name, fileSystem = subject.fileSystem) {
      const file = fileSystem.open(name, "read");
      try {
        return readBytes(file, 0, file.size());
      } finally {
        file.close();
      }
    },
    reopen: () => subject.reopen(),
  };
}

/** Runs the suite of files; `open` gives each test a file system of its own. */
export function runFileSuite(
  name: string,
  open: () => FileSystemUnderTest,
  { dense = false }: SuiteOptions = {},
): void {
  describe(name, () => {
    const folder = eachFolder(open);
    const { create, contents } = folder;

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

    test("File.read() fills the part of the target that is asked for, and no more than the file has", () => {
      const file = create("a", [1, 2, 3, 4, 5]);
      const target = new Uint8Array(8).fill(9);
      expect(file.read(target, 1, 2, 5)).toBe(3);
      expect([...target]).toEqual([9, 9, 2, 3, 4, 9, 9, 9]);
      expect(file.read(target, 3, 5)).toBe(2);
      expect([...target]).toEqual([9, 9, 2, 3, 4, 4, 5, 9]);
      expect(file.read(target, 0, 4, 4)).toBe(0);
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

    // A disk that holds every byte of a file is not asked for holes.
    test("File keeps bytes on both sides of 2 GiB and 4 GiB, or of 1 MiB where it has no holes", () => {
      const file = create("a", [1]);
      for (const edge of dense ? [2 ** 20] : [2 ** 31, 2 ** 32]) {
        file.write(Uint8Array.of(2, 3, 4, 5), edge - 2);
        expect(readBytes(file, edge - 3, 6).slice(0, 5)).toEqual([0, 2, 3, 4, 5]);
        expect(file.size()).toBe(edge + 2);
      }
      expect(readBytes(file, 0, 3)).toEqual([1, 0, 0]);
      const end = dense ? 5 * 2 ** 20 : 5 * 2 ** 30;
      file.truncate(end);
      expect(file.size()).toBe(end);
      expect(readBytes(file, end - 2, 4)).toEqual([0, 0]);
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
      const other = folder.open("a", "read");
      file.write(Uint8Array.of(3), 2);
      expect(readBytes(other, 0, 3)).toEqual([1, 2, 3]);
      expect(other.size()).toBe(3);
    });

    test("File that was opened to read refuses a write with IO", async () => {
      create("a", [1]);
      const file = folder.open("a", "read");
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

    // --- places ---

    for (const edge of [65_536, 2 ** 20, ...(dense ? [] : [2 ** 31, 2 ** 32, 2 ** 33])]) {
      test(`File.write() across ${edge} leaves what lies 4 GiB and 2 GiB away`, () => {
        const file = create("a", pattern(64));
        file.write(pattern(20, 3), edge - 10);
        expect(readBytes(file, edge - 10, 30)).toEqual([...pattern(20, 3)]);
        expect(readBytes(file, edge - 1, 2)).toEqual([...pattern(20, 3).subarray(9, 11)]);
        expect(readBytes(file, 0, 64)).toEqual([...pattern(64)]);
        expect(readBytes(file, edge - 20, 10)).toEqual([...new Uint8Array(10)]);
        expect(file.size()).toBe(edge + 10);
      });

      test(`File.truncate() works on both sides of ${edge}`, () => {
        const file = create("a", [7]);
        file.truncate(edge + 1);
        expect([file.size(), readBytes(file, edge, 2)]).toEqual([edge + 1, [0]]);
        file.write(Uint8Array.of(9), edge);
        file.truncate(edge);
        expect([file.size(), readBytes(file, edge - 1, 2)]).toEqual([edge, [0]]);
        file.truncate(edge - 1);
        expect([file.size(), readBytes(file, edge - 2, 4)]).toEqual([edge - 1, [0]]);
        file.truncate(edge + 1);
        expect(readBytes(file, edge, 1)).toEqual([0]);
        expect(readBytes(file, 0, 1)).toEqual([7]);
      });
    }

    test("File reads the two bytes around every end of a block", () => {
      const bytes = pattern(4 * 65_536 + 3);
      const file = create("a", bytes);
      for (const block of [512, 4_096, 16_384, 65_536]) {
        for (let edge = block; edge < bytes.length; edge += block) {
          expect([edge, ...readBytes(file, edge - 1, 2)]).toEqual([edge, bytes[edge - 1]!, bytes[edge]!]);
        }
      }
    });

    test("File.read() of more than there is, by one byte and by a megabyte", () => {
      const bytes = pattern(65_536);
      const file = create("a", bytes);
      for (const more of [0, 1, 2 ** 20]) expect(readBytes(file, 0, bytes.length + more)).toEqual([...bytes]);
      expect(readBytes(file, 65_535, 2 ** 20)).toEqual([bytes[65_535]!]);
      expect(readBytes(file, 65_536, 2 ** 20)).toEqual([]);
      expect(readBytes(file, 2 ** 40, 10)).toEqual([]);
    });

    test("File.write() that overlaps the end replaces and extends", () => {
      const file = create("a", pattern(65_530));
      file.write(pattern(20, 2), 65_520);
      expect(file.size()).toBe(65_540);
      expect(readBytes(file, 65_518, 30)).toEqual([...pattern(65_530).subarray(65_518, 65_520), ...pattern(20, 2)]);
    });

    test("File moves eight megabytes in one call", () => {
      const bytes = pattern(8 * 2 ** 20 + 1, 5);
      const file = create("a");
      file.write(bytes, 3);
      const target = new Uint8Array(bytes.length);
      expect(file.read(target, 3)).toBe(bytes.length);
      expect(target.every((byte, index) => byte === bytes[index])).toBe(true);
      expect(readBytes(file, 0, 3)).toEqual([0, 0, 0]);
    });

    test("File.write() sees the bytes as they are at the call, read() gives those of the call", () => {
      const file = create("a");
      const buffer = pattern(100);
      file.write(buffer, 0);
      file.write(buffer.fill(1), 100);
      const target = new Uint8Array(100);
      file.read(target, 0);
      file.write(pattern(100, 9), 0);
      expect([...target]).toEqual([...pattern(100)]);
      expect(readBytes(file, 100, 100)).toEqual([...new Uint8Array(100).fill(1)]);
    });

    test("File.truncate() to its own size changes nothing", () => {
      const file = create("a", pattern(1_000));
      file.truncate(1_000);
      expect(contents("a")).toEqual([...pattern(1_000)]);
    });

    test("File.truncate() makes a file longer by zeros, which can be written", () => {
      const file = create("a", [1]);
      file.truncate(70_000);
      file.write(Uint8Array.of(2), 69_000);
      expect(contents("a")).toEqual(Array.from({ length: 70_000 }, (_, at) => at === 0 ? 1 : at === 69_000 ? 2 : 0));
    });

    test("File.write() behind a cut shows nothing of what was cut", () => {
      for (const cut of [0, 1, 65_535, 65_536, 65_537]) {
        const file = create(`cut${cut}`, pattern(200_000, 3).fill(9));
        file.truncate(cut);
        file.write(Uint8Array.of(5), 150_000);
        expect([cut, contents(`cut${cut}`).indexOf(0), contents(`cut${cut}`).lastIndexOf(9)]).toEqual([
          cut,
          cut,
          cut - 1,
        ]);
      }
    });

    test("File refuses places beyond what a number tells apart", () => {
      const file = create("a", [1]);
      for (const position of [2 ** 53, 2 ** 60, -(2 ** 31), -0.5]) {
        expect(() => file.read(new Uint8Array(1), position)).toThrow();
        expect(() => file.write(new Uint8Array(1), position)).toThrow();
        expect(() => file.truncate(position)).toThrow();
      }
      expect(contents("a")).toEqual([1]);
    });

    // --- several handles ---

    test("File handles share bytes and length, and close each by itself", () => {
      const one = create("a", [1, 2, 3]);
      const two = folder.open("a", "write");
      two.write(Uint8Array.of(4), 3);
      one.write(Uint8Array.of(9), 0);
      expect([readBytes(one, 0, 9), readBytes(two, 0, 9)]).toEqual([[9, 2, 3, 4], [9, 2, 3, 4]]);
      one.close();
      two.truncate(2);
      expect([two.size(), contents("a")]).toEqual([2, [9, 2]]);
    });

    test("File that is read sees it grow and shrink", () => {
      const writer = create("a");
      const reader = folder.open("a", "read");
      for (let length = 1; length <= 300; length++) {
        writer.write(Uint8Array.of(length), length - 1);
        expect(readBytes(reader, length - 1, 10)).toEqual([length & 0xff]);
      }
      writer.truncate(100);
      expect([reader.size(), readBytes(reader, 99, 10)]).toEqual([100, [100]]);
    });

    test("File may be open sixty times", () => {
      create("a", [1, 2]);
      const files = Array.from({ length: 60 }, () => folder.open("a", "read"));
      expect(files.every((file) => file.size() === 2)).toBe(true);
      files.slice(0, 59).forEach((file) => file.close());
      expect(readBytes(files[59]!, 0, 2)).toEqual([1, 2]);
    });

    test("File that is closed leaves other handles to work", () => {
      const one = create("a", [1]);
      const two = folder.open("a", "write");
      one.close();
      one.close();
      two.write(Uint8Array.of(2), 1);
      expect(contents("a")).toEqual([1, 2]);
    });

    // --- sync ---

    test("File.sync() of an empty file, and again and again", async () => {
      const file = create("a");
      for (let round = 0; round < 5; round++) await file.sync();
      expect(file.size()).toBe(0);
    });

    test("File.sync() of a file that was opened to read resolves", async () => {
      create("a", [1]);
      await folder.open("a", "read").sync();
    });

    test("File.sync() lets writes go on meanwhile", async () => {
      const file = create("a", pattern(1_000));
      const syncs: Promise<void>[] = [];
      for (let round = 0; round < 10; round++) {
        syncs.push(file.sync());
        file.write(pattern(10, round), 1_000 + round * 10);
      }
      await Promise.all(syncs);
      expect(file.size()).toBe(1_100);
      expect(readBytes(file, 1_090, 20)).toEqual([...pattern(10, 9)]);
    });

    test("File.sync() works after the file lost its name", async () => {
      const file = create("a", [1]);
      folder.fs.remove("a");
      await file.sync();
      expect(readBytes(file, 0, 2)).toEqual([1]);
    });
  });
}
