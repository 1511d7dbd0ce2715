/**
 * Everything about the sources that a machine can judge without running the tests: one line per step, the tool's own
 * words when it fails, exit code 1 when any does.
 *
 * `npm run check` runs all steps; `npm run check -- lint types` only those.
 *
 * @module
 */
import { runAside } from "./tools.mjs";

/** Entry points whose exported symbols must all be documented. */
const ADAPTERS = ["keyv", "sessions", "unstorage"].map((name) => `lib/adapters/${name}.ts`);
const ENTRY_POINTS = ["mod.ts", "browser.ts", "server/mod.ts", ...ADAPTERS];

/** Where examples are. */
const EXAMPLES = ["mod.ts", "browser.ts", "lib", "server", "docs/GUIDE.md", "docs/RECIPES.md"];

const STEPS = [
  // What to format, and how: deno.json.
  { name: "format", tool: "deno", args: ["fmt", "--check"] },
  // Style: deno.json. JSR's "slow types" are left to isolatedDeclarations, below.
  { name: "lint", tool: "deno", args: ["lint", "--quiet"] },
  // Promises, switches, cycles, sizes, and what each floor may not touch: .oxlintrc.json.
  { name: "bugs", tool: "oxlint", args: ["--type-aware", "--deny-warnings"] },
  { name: "types", tool: "tsc", args: ["--noEmit"] },
  { name: "page", tool: "tsc", args: ["--noEmit", "--project", "server/dashboard"] },
  // Every public symbol says what it is.
  { name: "docs", tool: "deno", args: ["doc", "--quiet", "--lint", ...ENTRY_POINTS] },
  // Every example in a docstring, and every program of the guide and the recipes, compiles and runs.
  { name: "examples", tool: "deno", args: ["test", "--quiet", "-A", "--doc", ...EXAMPLES] },
];

const wanted = process.argv.slice(2);
const known = STEPS.map(({ name }) => name);
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`check: there is no step ${unknown.join(", ")}; there are ${known.join(", ")}`);
  process.exit(1);
}

const started = performance.now();
const steps = STEPS.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
let failures = 0;

/** Takes one step after another, until none is left. */
async function takeSteps() {
  for (let step = steps.shift(); step !== undefined; step = steps.shift()) {
    const { name, tool, args } = step;
    const result = await runAside(tool, args, { NO_COLOR: "1" });
    console.log(`check ${name}: ${result.ok ? "ok" : `failed (${tool} ${args.join(" ")})`}`);
    if (result.ok) continue;
    failures++;
    console.log(result.output.replace(/\n*Stack backtrace:\n(\s+\d+: .*\n?)*/g, "\n").trimEnd());
  }
}

// Most steps keep one core busy.
await Promise.all([takeSteps(), takeSteps()]);
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(failures === 0 ? `check: ok (${seconds} s)` : `check: ${failures} failed (${seconds} s)`);
process.exitCode = failures === 0 ? 0 : 1;
