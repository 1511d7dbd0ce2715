/**
 * Acknowledged is on stable storage, as the system's own calls tell: a store under strace, on the runtime that runs the
 * tests. This finds what kill -9 cannot, since the system survives that: a sync that is missing, that comes too early,
 * that is of another file, or that the runtime does not pass on.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findTool, moduleCommand } from "../suites/tools.ts";
import {
  acknowledgedIn,
  earlyTakesIn,
  parseTrace,
  problemsOf,
  type SystemCall,
  TRACE_OPTIONS,
} from "../suites/trace.ts";

const LIMIT_MS = 60_000;
/** More than a segment holds. */
const KEYS = 30;

/** A first record, and what must happen before: as Bun and Deno were seen to do it. */
const RECORDED = [
  `10 openat(AT_FDCWD</w>, "/d/0000000001.segment", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 5</d/0000000001.segment>`,
  String.raw`10 pwrite64(5</d/0000000001.segment>, "firkin\1\0\35\251<\277\311", 32, 0) = 32`,
  `11 fdatasync(5</d/0000000001.segment>) = 0`,
  `10 openat(AT_FDCWD</w>, "/d/manifest.new", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 6</d/manifest.new>`,
  String.raw`10 pwrite64(6</d/manifest.new>, "{\"format\":1,\"store\":\"1d"..., 240, 0) = 240`,
  `12 fdatasync(6</d/manifest.new>)       = 0`,
  `10 rename("/d/manifest.new", "/d/manifest") = 0`,
  `10 openat(AT_FDCWD</w>, "/d", O_RDONLY|O_CLOEXEC|O_DIRECTORY) = 6</d>`,
  `11 fsync(7</d> <unfinished ...>`,
  String.raw`10 write(4<anon_inode:[eventfd]>, "\1\0\0\0\0\0\0\0", 8) = 8`,
  `11 <... fsync resumed>)              = 0`,
  String.raw`10 pwrite64(5</d/0000000001.segment>, "\330\347l\263\1\2\10\0,\1\0\0\1key-0000vvvv"..., 334, 32) = 334`,
  `12 fdatasync(7</d/0000000001.segment> <unfinished ...>`,
  `12 <... fdatasync resumed>)            = 0`,
  String.raw`10 write(1<pipe:[77]>, "acknowledged key-0000\n", 22) = 22`,
  String.raw`10 write(1<pipe:[77]>, "synced\n", 7) = 7`,
];

const NOT_SYNCED = ["line 15: key-0000 is not synced", "line 16: synced, but 1 writes are not"];

function check(lines: readonly string[], synced = true): string[] {
  return problemsOf(parseTrace(lines.join("\n")), "/d", synced);
}

/** The recorded trace with other lines in the place of some; numbers from 1. */
function changed(changes: Record<number, string>): string[] {
  return RECORDED.map((line, index) => changes[index + 1] ?? line);
}

describe("problemsOf()", () => {
  test("problemsOf() finds none where each step follows the one before", () => {
    expect(acknowledgedIn(parseTrace(RECORDED.join("\n")))).toEqual(["key-0000"]);
    expect(check(RECORDED)).toEqual([]);
  });

  test("problemsOf() finds a sync that is missing, has failed, or is of another file", () => {
    expect(check(changed({ 13: "", 14: "" }))).toEqual(NOT_SYNCED);
    expect(check(changed({ 14: "12 <... fdatasync resumed>) = -1 EIO (Input/output error)" }))).toEqual(NOT_SYNCED);
    expect(check(changed({ 13: "12 fdatasync(7</d/0000000002.segment> <unfinished ...>" }))).toEqual(NOT_SYNCED);
  });

  test("problemsOf() finds a sync that began before the write or ended after the answer", () => {
    const [early, late] = [RECORDED.slice(), RECORDED.slice()];
    early.splice(11, 2, RECORDED[12]!, RECORDED[11]!);
    expect(check(early)).toEqual(NOT_SYNCED);
    late.splice(13, 3, RECORDED[14]!, RECORDED[13]!, RECORDED[15]!);
    expect(check(late)).toEqual(["line 14: key-0000 is not synced"]);
  });

  test("problemsOf() finds a runtime whose sync asks nothing of the system", () => {
    const silent = RECORDED.filter((line) => !/fsync|fdatasync/.test(line));
    expect(check(silent).length).toBe(3);
    expect(check(silent, false).length).toBe(3);
  });

  test("problemsOf() finds a name that is not synced, and a manifest that is not", () => {
    const unnamed = ["line 15: key-0000 is in a file whose name is not synced"];
    expect(check(changed({ 9: "", 11: "" }))).toEqual(unnamed);
    expect(check(changed({ 7: "" }))).toEqual(unnamed);
    expect(check(changed({ 6: "" }))).toEqual(["line 7: the manifest is switched to what is not synced"]);
  });

  test("problemsOf() finds an answer before the write, whatever the policy", () => {
    expect(check(changed({ 12: "" }), false)).toEqual(["line 15: key-0000 is not written"]);
  });

  test("problemsOf() without synced answers asks for the sync when that is what was said", () => {
    expect(check(changed({ 13: "", 14: "" }), false)).toEqual([NOT_SYNCED[1]!]);
  });
});

describe("earlyTakesIn()", () => {
  const taken = [
    ...RECORDED,
    String.raw`10 pwrite64(5</d/0000000001.segment>, "\330\347l\263\1\2\0\0key-0000", 34, 366) = 34`,
    `12 fdatasync(7</d/0000000001.segment>) = 0`,
    String.raw`10 write(1<pipe:[77]>, "took key-0000\n", 14) = 14`,
  ];
  const early = (lines: readonly string[]): string[] => earlyTakesIn(parseTrace(lines.join("\n")), "/d").early;

  test("earlyTakesIn() finds a value that left before its tombstone was synced", () => {
    expect(earlyTakesIn(parseTrace(taken.join("\n")), "/d")).toEqual({ early: [], takes: 1 });
    expect(early(taken.toSpliced(-2, 1))).toEqual(["line 18: key-0000"]);
    expect(early(taken.toSpliced(-3, 1))).toEqual(["line 18: key-0000"]);
    expect(early([...taken.slice(0, -2), ...taken.slice(-2).toReversed()])).toEqual(["line 18: key-0000"]);
  });
});

const strace = findTool("strace");

/** The system calls of a process that writes. */
function traceWriter(folder: string, sync: string, then = ""): SystemCall[] {
  const trace = join(folder, "trace");
  const command = moduleCommand("test/store/writer.ts", join(folder, "data"), sync, String(KEYS), then);
  const child = spawnSync(strace!, [...TRACE_OPTIONS, "-o", trace, ...command], { encoding: "utf8" });
  if (child.status !== 0) throw new Error(`Cannot trace the writer: ${child.stderr}`);
  return parseTrace(readFileSync(trace, "utf8"));
}

describe("Store", () => {
  test.skipIf(strace === undefined)("under always answers when the system has synced, as strace sees it", () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), "firkin-strace-")));
    try {
      const calls = traceWriter(folder, "always");
      expect(problemsOf(calls, join(folder, "data"), true)).toEqual([]);
      expect(acknowledgedIn(calls)).toHaveLength(KEYS);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }, LIMIT_MS);

  test.skipIf(strace === undefined)("under os answers when the system has the bytes, and syncs when asked", () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), "firkin-strace-")));
    try {
      const calls = traceWriter(folder, "os");
      expect(problemsOf(calls, join(folder, "data"), false)).toEqual([]);
      expect(acknowledgedIn(calls)).toHaveLength(KEYS);
      // It is the policy that makes the difference, and not a system that syncs anyway.
      expect(problemsOf(calls, join(folder, "data"), true).length).toBeGreaterThan(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }, LIMIT_MS);

  for (const sync of ["os", "interval", "always"]) {
    test.skipIf(strace === undefined)(
      `under ${sync} hands out a value when its take is synced, as strace sees it`,
      () => {
        const folder = realpathSync(mkdtempSync(join(tmpdir(), "firkin-strace-")));
        try {
          const calls = traceWriter(folder, sync, "take");
          expect(earlyTakesIn(calls, join(folder, "data"))).toEqual({ early: [], takes: KEYS });
        } finally {
          rmSync(folder, { recursive: true });
        }
      },
      LIMIT_MS,
    );
  }
});
