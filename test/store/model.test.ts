/**
 * The store against a Map and a clock: commands that fast-check draws, on tiny segments.
 *
 * Each runtime draws other runs, always the same ones. `MODEL_RUNS=20000 MODEL_SEED=7` makes longer and other ones. A
 * failure prints what to set to see it again: `MODEL_SEED`, `MODEL_PATH` and `MODEL_REPLAY` (the seed, `path` and
 * `replayPath`); what it shrank to goes to {@link examples}.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import type { FileSystem } from "../../lib/fs/fs.ts";
import { NodeFileSystem } from "../../lib/fs/node.ts";
import { Disk } from "../suites/disk.ts";
import {
  advance,
  anySetup,
  churn,
  type Command,
  compact,
  copy,
  crash,
  type Fall,
  reopen,
  someCommands,
  write,
} from "./model_commands.ts";
import { type Ground, type Setup, Trial } from "./trial.ts";

const { env, versions } = process;

/** Per runtime: 2,010 on all three. */
const RUNS = { memory: 220, disk: 410, folder: 40 };
const COMMANDS_MAX = 80;
/** A run on a real folder syncs for real. */
const FOLDER_COMMANDS_MAX = 40;
/** Many times what the runs take on a quiet machine; runs that are cut short count as failed. */
const LIMIT_MS = 120_000;

/** Another seed for each runtime: together they see three times as much. */
const SEED = Number(env["MODEL_SEED"] ?? (versions["bun"] !== undefined ? 1 : versions["deno"] !== undefined ? 2 : 3));

/** How tombstones are kept, how the store is opened first, and what is done to it. */
type Drawn = [retentionMs: number, setup: Setup, commands: Iterable<Command>];

const PLAIN: Setup = { sync: "always", cacheBytesMax: 0, automatic: false, compressed: false, examined: true };
const OS: Setup = { ...PLAIN, sync: "os" };
const AUTOMATIC: Setup = { ...PLAIN, automatic: true };
const POWER: Fall = { power: true, compacting: false, turns: 19, again: 0 };

/** Runs that failed once, and such as are drawn too seldom. */
function examples(): Drawn[] {
  return [
    // The power cut left the clean mark of the close before, and so no new epoch.
    [1, PLAIN, [reopen(OS, ["expiring", 0, 1]), crash(POWER, PLAIN, ["expiring", 6, 1])]],
    // A compaction that begins by itself behind the first segment, which holds what a tombstone in it has ended.
    // A compaction rewrote a segment whose last group was on disk and not yet visible, and dropped what it held.
    [1, { ...AUTOMATIC, examined: false }, [
      write(["atomic", ["remove", 0, 0], ["remove", 0, 0]], ["expiring", 0, 1]),
      compact(0, ["set", 3, 0], ["remove", 3, 0]),
      write(["once", 3, 0]),
      write(["atomic", ["set", 3, 0], ["set", 0, 0]]),
      write(["atomic", ["remove", 3, 0], ["set", 0, 0]], ["expiring", 0, 1], ["increment", 0, 0]),
      write(["set", 3, 0]),
      copy(19, ["expiring", 0, 1], ["set", 3, 0]),
      write(["take", 0, 0], ["set", 0, 0]),
    ]],
    [1, AUTOMATIC, [
      write(["set", 0, 600], ["set", 1, 1_000], ["set", 2, 1_000], ["set", 3, 1_000]),
      write(["remove", 0, 0], ["set", 5, 1_500]),
      write(["set", 5, 1_500]),
      advance(60),
      churn(4, 40),
      reopen(PLAIN),
    ]],
  ];
}

function onMemory(): Ground {
  const fileSystem = new MemoryFileSystem();
  return { mount: () => fileSystem, turn: () => undefined, end: () => {}, real: false };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await Promise.resolve();
}

function onDisk(disk: Disk = new Disk()): Ground {
  const crash = (power: boolean): void => power ? disk.cutPower() : disk.crash();
  const mount = (): FileSystem => {
    // A sync takes its time, and not always the same.
    disk.before = ({ action, number }) => action.startsWith("sync") ? turns(number % 7) : undefined;
    return disk.mount();
  };
  return { mount, turn: () => undefined, crash, end: () => {}, real: false };
}

function onFolder(): Ground {
  const folder = mkdtempSync(join(tmpdir(), "firkin-model-"));
  const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
  return { mount: () => new NodeFileSystem(folder), turn, end: () => rmSync(folder, { recursive: true }), real: true };
}

/** A trial from the first open to the last close. */
async function run(ground: Ground, [retentionMs, setup, commands]: Drawn): Promise<void> {
  const trial = new Trial(ground, retentionMs);
  try {
    await trial.open(setup);
    await fc.asyncModelRun(() => ({ model: trial.model, real: trial }), commands);
    await trial.check();
    await trial.close();
    await trial.open(setup);
    await trial.check();
    await trial.checkSnapshot();
    await trial.close();
  } finally {
    ground.end();
  }
}

function property(ground: () => Ground, commandsMax: number): fc.IAsyncProperty<Drawn> {
  const anyRetention = fc.constantFrom(1, 500, Infinity, Infinity);
  const commands = someCommands(commandsMax, env["MODEL_REPLAY"]);
  return fc.asyncProperty(anyRetention, anySetup, commands, (...drawn) => run(ground(), drawn));
}

function parameters(runs: number): fc.Parameters<Drawn> {
  const path = env["MODEL_PATH"];
  return {
    seed: SEED,
    numRuns: runs,
    examples: examples(),
    interruptAfterTimeLimit: limitMs(runs),
    // Else a run that was cut short would count as passed.
    markInterruptAsFailure: true,
    ...(path === undefined ? {} : { path }),
  };
}

/** `MODEL_RUNS` is what the disk gets; the others in proportion. */
function runsOf(ground: keyof typeof RUNS): number {
  return Math.ceil(RUNS[ground] * Number(env["MODEL_RUNS"] ?? RUNS.disk) / RUNS.disk);
}

function limitMs(runs: number): number {
  return Math.max(LIMIT_MS, runs * 200);
}

describe("Store", () => {
  const check = (name: string, kind: keyof typeof RUNS, ground: () => Ground, commandsMax: number): void => {
    const runs = runsOf(kind);
    test(name, async () => {
      await fc.assert(property(ground, commandsMax), parameters(runs));
    }, limitMs(runs) + 10_000);
  };
  check("does in memory what a Map and a clock do", "memory", onMemory, COMMANDS_MAX);
  check("does over crashes and power cuts what a Map and a clock do", "disk", onDisk, COMMANDS_MAX);
  check("does in a folder what a Map and a clock do", "folder", onFolder, FOLDER_COMMANDS_MAX);
});

describe("Model", () => {
  /** Says that it has synced, and has not. */
  class LyingDisk extends Disk {
    override mount(): ReturnType<Disk["mount"]> {
      const folder = super.mount();
      const open: typeof folder.open = (name, mode) => {
        const file = folder.open(name, mode);
        return name.endsWith(".segment") ? Object.assign(file, { sync: () => Promise.resolve() }) : file;
      };
      return { ...folder, open };
    }
  }

  test("Model finds a disk that does not sync", async () => {
    const found = await fc.check(property(() => onDisk(new LyingDisk()), 40), { seed: SEED, endOnFailure: true });
    expect(found.failed && !found.interrupted).toBe(true);
  });
});
