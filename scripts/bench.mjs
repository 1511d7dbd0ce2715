/**
 * Runs the benchmarks of bench/ on Bun, Deno and Node, one after another: two at a time would measure each other.
 *
 * `npm run bench` runs all subjects; `npm run bench -- embedded wire` those; `-- --runtime bun` on one runtime (more
 * with more `--runtime`); `-- --json` prints one line of JSON per benchmark and nothing else. A subject is a file
 * bench/<subject>.bench.ts.
 *
 * Node until version 22 does not take TypeScript: for it everything is compiled into a folder of build/, which is this
 * run's own and removed with it. Types are not checked here: `npm run check` does that.
 *
 * @module
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
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

let target;

/** The folder of compiled benchmarks, made when it is first asked for. */
function compiled() {
  if (target === undefined) {
    mkdirSync(join(root, "build"), { recursive: true });
    target = mkdtempSync(join(root, "build", "bench-node-"));
    const emit = ["--noEmit", "false", "--noCheck", "--declaration", "false", "--isolatedDeclarations", "false"];
    const result = run("tsc", ["--project", "tsconfig.json", ...emit, "--outDir", target], { stdio: "pipe" });
    if (!result.ok) throw new Error(`Cannot compile the benchmarks for Node:\n${result.output}`);
  }
  return join(target, "bench");
}

/** What the command line asks for. @throws {Error} it asks for what is not there */
function parse() {
  const options = { runtime: { type: "string", multiple: true }, json: { type: "boolean" } };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const runtimes = values.runtime ?? Object.keys(RUNTIMES);
  const subjects = positionals.length > 0 ? positionals : SUBJECTS;
  for (const [known, names] of [[SUBJECTS, subjects], [Object.keys(RUNTIMES), runtimes]]) {
    const unknown = names.filter((name) => !known.includes(name));
    if (unknown.length > 0) throw new Error(`There is no ${unknown.join(", ")}; there are ${known.join(", ")}`);
  }
  return { runtimes, subjects, json: values.json === true };
}

try {
  const { runtimes, subjects, json } = parse();
  for (const subject of subjects) {
    for (const runtime of runtimes) {
      if (!json) console.log(`\n${subject} on ${runtime}\n`);
      if (!RUNTIMES[runtime](subject, json ? ["--json"] : []).ok) {
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
