/**
 * Plants bugs in the engine, one at a time, and sees whether the tests find them: what proves that their silence
 * means something. The bugs are in `planted_bugs.mjs`.
 *
 * Each bug is a change of text in a copy of the project, in a folder of build/. A text that is not found exactly once
 * fails, so that a bug is never planted in code that has moved on; a suite that ends without naming a test or a crash
 * has found nothing. First all suites are run without a bug: they would find anything else.
 *
 * `npm run test:planted` plants all; `npm run test:planted -- sync crc` those whose name has one of the words, and
 * `--texts` only looks whether each text stands where it must.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUGS, SIMULATION } from "./planted_bugs.mjs";
import { root } from "./tools.mjs";

/** A search that has found nothing by then has missed the bug; without a bug it looks around for a short while. */
const SECONDS_MAX = 90;
const SECONDS_WITHOUT = 20;

/** A file of tests takes a few seconds: one that takes this long hangs. */
const HANG_MS = 120_000;

/** Bugs that are tried at a time. */
const LANES = 2;

const COPIED = ["lib", "server", "test", "docs", "scripts"]
  .concat("mod.ts", "browser.ts", "package.json", "tsconfig.json", "deno.json", "bunfig.toml");

/** Changes the texts of the files below `folder`. */
function plant(folder, { name, changes }) {
  for (const [file, text, instead] of changes) {
    const path = join(folder, file);
    const parts = readFileSync(path, "utf8").split(text);
    if (parts.length !== 2) {
      throw new Error(`Cannot plant "${name}": ${file} has ${parts.length - 1} times ${JSON.stringify(text)}`);
    }
    writeFileSync(path, parts.join(instead));
  }
}

/** Calls `use` with a copy of the project that has this bug, or none. */
async function withCopy(bug, use) {
  mkdirSync(join(root, "build"), { recursive: true });
  const folder = mkdtempSync(join(root, "build", "planted-"));
  try {
    for (const name of COPIED) cpSync(join(root, name), join(folder, name), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    if (bug !== undefined) plant(folder, bug);
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs a suite in a copy; `evidence` is the first thing that it found, undefined when all is well. */
async function run(folder, suite, seconds) {
  const isSearch = suite === SIMULATION;
  const args = isSearch
    ? ["test/sim/main.ts", "--first", "--json", "--seconds", String(seconds)]
    : ["test", suite, "--timeout", "20000"];
  const child = spawn(join(root, "node_modules", ".bin", "bun"), args, { cwd: folder });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => output += text);
  }
  let hangs = false;
  const timer = setTimeout(() => {
    hangs = true;
    child.kill("SIGKILL");
  }, isSearch ? 2 * SECONDS_MAX * 1_000 : HANG_MS);
  const code = await new Promise((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  if (code === 0) return { evidence: undefined, output };
  if (hangs) return { evidence: "hangs", output };
  const found = output.match(isSearch ? /VIOLATION --replay ([^\n]*)\n([^\n]*)/ : /^\(fail\) ([^\n]*?)(?: \[|$)/m);
  if (found === null) throw new Error(`Cannot tell what ${suite} found: it ended with ${code}\n${output}`);
  return { evidence: found.slice(1).map((line) => line.trim()).join(": "), output };
}

/** States that a search looked at, as it says itself. */
function statesOf(output) {
  const line = output.split("\n").find((text) => text.startsWith("{"));
  if (line === undefined) return "";
  const { states, doubles, triples, faultRuns } = JSON.parse(line);
  return `, ${states + doubles + triples} states, ${faultRuns} fault runs`;
}

/** Tries the suites of a bug until one finds it; false when none does. */
async function tryBug(bug) {
  const startedAt = performance.now();
  const seconds = () => `${((performance.now() - startedAt) / 1_000).toFixed(1)} s`;
  return await withCopy(bug, async (folder) => {
    for (const suite of bug.suites) {
      const { evidence, output } = await run(folder, suite, SECONDS_MAX);
      if (evidence === undefined) continue;
      console.log(`found  ${bug.name}: ${suite}, ${seconds()}${statesOf(output)}\n       ${evidence}`);
      return true;
    }
    console.log(`MISSED ${bug.name}: ${bug.suites.join(", ")}, ${seconds()}`);
    return false;
  });
}

/** Calls `work` with each item, a few at a time; the results in order of their ends. */
async function inLanes(items, work) {
  const queue = [...items];
  const results = [];
  await Promise.all(Array.from({ length: LANES }, async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) results.push(await work(item));
  }));
  return results;
}

/** True when no suite finds anything where there is nothing to be found. */
async function isGreen(suites) {
  const results = await withCopy(undefined, (folder) => {
    return inLanes(suites, async (suite) => {
      const { evidence } = await run(folder, suite, SECONDS_WITHOUT);
      if (evidence !== undefined) console.log(`planted: ${suite} fails without a bug: ${evidence}`);
      return evidence === undefined;
    });
  });
  return results.every(Boolean);
}

const words = process.argv.slice(2).filter((word) => word !== "--texts");
const bugs = BUGS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
if (process.argv.includes("--texts")) {
  for (const bug of bugs) await withCopy(bug, () => {});
  console.log(`planted: ${bugs.length} bugs can be planted`);
} else if (await isGreen(new Set(bugs.flatMap(({ suites }) => suites)))) {
  const results = await inLanes(bugs, tryBug);
  const found = results.filter(Boolean).length;
  console.log(`planted: ${found} of ${bugs.length} found`);
  process.exitCode = found === bugs.length ? 0 : 1;
} else {
  process.exitCode = 1;
}
