/**
 * Runs the benchmarks of bench/ on Bun, Deno and Node, one after another: two at a time would measure each other.
 *
 * `npm run bench` runs all subjects; `npm run bench -- embedded wire` those; `-- --runtime bun` on one runtime (more
 * with more `--runtime`); `-- --json` prints one line of JSON per benchmark and nothing else. A subject is a file
 * bench/<subject>.bench.ts, and reads the other options itself (docs/BENCHMARKS.md).
 *
 * What firkin is measured against is no dependency of the project: bench/package.json names it, and it is installed
 * into bench/node_modules when it is first needed.
 *
 * Node until version 22 does not take TypeScript: for it everything is compiled into a folder of build/, which is this
 * run's own and removed with it. Types are not checked here: `npm run check` does that.
 *
 * @module
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root, run } from "./tools.mjs";

/** How each runtime runs bench/<subject>.bench; mitata collects garbage between benchmarks where it may. */
const RUNTIMES = {
  bun: (subject, args) => run("bun", [`bench/${subject}.bench.ts`, ...args]),
  deno: (subject, args) => {
    const options = ["run", "-A", "--no-check", "--v8-flags=--expose-gc"];
    return run("deno", [...options, `bench/${subject}.bench.ts`, ...args]);
  },
  node: (subject, args) => run(process.execPath, ["--expose-gc", join(compiled(), `${subject}.bench.js`), ...args]),
};

const SUBJECTS = readdirSync(join(root, "bench")).flatMap((name) => /^(.+)\.bench\.ts$/.exec(name)?.[1] ?? []).sort();

/** Subjects that need what bench/package.json names. */
const WITH_RIVALS = ["embedded", "server"];

let target;

/** Installs the rivals, once. A store that cannot be built is left out: it is an optional dependency. */
function installRivals() {
  const cwd = join(root, "bench");
  if (existsSync(join(cwd, "node_modules", ".package-lock.json"))) return;
  console.error("bench: installing the rivals into bench/node_modules (once; minutes where one has to be compiled)");
  const result = run("npm", ["install", "--no-audit", "--no-fund"], { cwd, stdio: "pipe" });
  if (!result.ok) console.error(`bench: cannot install the rivals, which are left out:\n${result.output}`);
}

/** The folder of compiled benchmarks, made when it is first asked for. */
function compiled() {
  if (target === undefined) {
    mkdirSync(join(root, "build"), { recursive: true });
    target = mkdtempSync(join(root, "build", "bench-node-"));
    const emit = ["--noEmit", "false", "--noCheck", "--declaration", "false", "--isolatedDeclarations", "false"];
    const result = run("tsc", ["--project", "tsconfig.json", ...emit, "--outDir", target], { stdio: "pipe" });
    if (!result.ok) throw new Error(`Cannot compile the benchmarks for Node:\n${result.output}`);
    symlinkSync(join(root, "bench", "node_modules"), join(target, "bench", "node_modules"));
  }
  return join(target, "bench");
}

/** What the command line asks for. @throws {Error} it asks for what is not there */
function parse() {
  const options = {
    runtime: { type: "string", multiple: true },
    json: { type: "boolean" },
    quick: { type: "boolean" },
    keys: { type: "string" },
    rounds: { type: "string" },
    only: { type: "string" },
    rivals: { type: "string" },
  };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const runtimes = values.runtime ?? Object.keys(RUNTIMES);
  const subjects = positionals.length > 0 ? positionals : SUBJECTS;
  for (const [known, names] of [[SUBJECTS, subjects], [Object.keys(RUNTIMES), runtimes]]) {
    const unknown = names.filter((name) => !known.includes(name));
    if (unknown.length > 0) throw new Error(`There is no ${unknown.join(", ")}; there are ${known.join(", ")}`);
  }
  for (const name of ["keys", "rounds"]) {
    if (values[name] !== undefined && !/^[1-9]\d*$/.test(values[name])) {
      throw new Error(`Cannot use --${name} ${values[name]}: expected a number above 0`);
    }
  }
  const args = Object.entries(values).flatMap(([name, value]) => {
    if (name === "runtime") return [];
    return value === true ? [`--${name}`] : [`--${name}=${value}`];
  });
  return { runtimes, subjects, args };
}

try {
  const { runtimes, subjects, args } = parse();
  if (subjects.some((subject) => WITH_RIVALS.includes(subject))) installRivals();
  for (const subject of subjects) {
    for (const runtime of runtimes) {
      if (!args.includes("--json")) console.log(`\n${subject} on ${runtime}\n`);
      if (!RUNTIMES[runtime](subject, args).ok) {
        console.error(`bench: ${subject} failed on ${runtime}`);
        process.exitCode = 1;
      }
    }
  }
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
} finally {
  if (target !== undefined) rmSync(target, { recursive: true, force: true });
}
