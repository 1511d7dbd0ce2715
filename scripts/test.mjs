/**
 * Runs the tests on all three runtimes: Bun's, two files at a time, beside Deno's, one at a time, since Deno's workers
 * share the process's file descriptors, and some tests play with those; then Node's, three at a time. That keeps two
 * cores busy. What each says is printed whole, Node's summary last.
 *
 * Deno has Node's engine: what depends on the language alone is left to Bun and Node (`test.exclude` in deno.json).
 *
 * Runs all three whatever fails; the exit code is 1 when any did.
 *
 * @module
 */
import { runAside } from "./tools.mjs";

/** Runs one of package.json's scripts: whether it ended well, and what it said. */
async function runScript(name) {
  const startedAt = performance.now();
  const { ok, output } = await runAside("npm", ["run", "--silent", name]);
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(0);
  return { ok, text: `\n${name}: ${ok ? "passed" : "failed"} (${seconds} s)\n${output}` };
}

/** Prints what a script said when it has ended, written whole before the process may end; whether it ended well. */
async function print(script) {
  const { ok, text } = await script;
  await new Promise((resolve) => process.stdout.write(text, resolve));
  return ok;
}

const beside = await Promise.all(["test:bun", "test:deno"].map((name) => print(runScript(name))));
const last = await print(runScript("test:node"));
process.exitCode = [...beside, last].every(Boolean) ? 0 : 1;
