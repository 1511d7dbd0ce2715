/**
 * How something is measured: mitata, with a start and an end around each benchmark.
 *
 * A benchmark's store is made when its turn comes and let go afterwards, so that none shares its memory, its
 * compaction or its disk with the one before. Inputs are made outside the timed part, results are consumed in it, and
 * `finish` verifies what the calls did: a figure for a wrong answer stops the run.
 *
 * Printed is mitata's own report, or with `--json` one line per benchmark, times in nanoseconds per *call*;
 * `operations` says how many operations a call is.
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { bench, run } from "mitata";

/** Something to measure, made when its turn comes. */
export interface Subject<Input> {
  /** Makes the input of one call, outside the timed part. Every input made is used once, in order. */
  prepare: () => Input;
  /** The timed call. It takes its input as its only parameter and consumes its result. */
  call: (input: Input) => unknown;
  /** Verifies what the calls did and lets go. */
  finish?: () => void | Promise<void>;
}

/** The parts of mitata's report that are printed as JSON. */
type Observed = Parameters<NonNullable<NonNullable<Parameters<typeof run>[0]>["observe"]>>[0];

const WARM_UP_MS = 50;

const operationsByName = new Map<string, number>();
let temporary: string | undefined;
let folders = 0;

/** Registers a benchmark whose call is `operations` operations. */
export function measure<Input>(
  name: string,
  operations: number,
  start: () => Subject<Input> | Promise<Subject<Input>>,
): void {
  operationsByName.set(name, operations);
  bench(name, async function* () {
    const subject = await start();
    // mitata decides by a few calls whether to time one or thousands together: the first ones would mislead it.
    const warm = performance.now() + WARM_UP_MS;
    do await subject.call(subject.prepare()); while (performance.now() < warm);
    // What mitata calls a generator with computed parameters; its types know only functions.
    yield { 0: () => subject.prepare(), bench: subject.call } as unknown as () => void;
    await subject.finish?.();
  });
}

/** Runs what was registered and prints it. What a benchmark throws ends the process with code 1. */
export async function report(subject: string): Promise<void> {
  const observe = (trial: Observed): Observed => (printLines(subject, trial), trial);
  try {
    await run({ throw: true, ...(process.argv.includes("--json") ? { format: "quiet", observe } : {}) });
  } catch (error) {
    // Deno ends without "exit" when nobody catches: folders and servers would stay.
    console.error(error);
    process.exit(1);
  }
}

/** A folder of the temporary one of this process, which is removed when the process ends. */
export function temporaryFolder(): string {
  if (temporary === undefined) {
    const folder = mkdtempSync(join(tmpdir(), "firkin-bench-"));
    process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
    temporary = folder;
  }
  return join(temporary, String(folders++));
}

/** Collects garbage, where the runtime was told to let us. */
export function collectGarbage(): void {
  const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(force: boolean): void } };
  if (Bun !== undefined) Bun.gc(true);
  else gc?.();
}

/** The runtime's name and version. */
export function runtime(): { readonly name: "bun" | "deno" | "node"; readonly version: string } {
  const versions: Readonly<Record<string, string | undefined>> = process.versions;
  for (const name of ["bun", "deno", "node"] as const) {
    const version = versions[name];
    if (version !== undefined) return { name, version };
  }
  throw new Error("Cannot tell the runtime: it is none of bun, deno and node");
}

function printLines(subject: string, trial: Observed): void {
  const { name: runtimeName, version } = runtime();
  for (const { name, stats } of trial.runs) {
    if (stats === undefined) continue;
    const { min, p25, p50, p75, p99, max, avg, ticks } = stats;
    const operations = operationsByName.get(name);
    const figures = {
      subject,
      runtime: runtimeName,
      version,
      name,
      operations,
      ticks,
      min,
      p25,
      p50,
      p75,
      p99,
      max,
      avg,
    };
    console.log(JSON.stringify(figures));
  }
}
