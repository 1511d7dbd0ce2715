/**
 * Runs the tests on all three runtimes side by side: much of a test is waiting, so three of them keep two cores busy.
 * What each says is printed whole, Node's summary last.
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

const [onBun, onDeno, onNode] = ["test:bun", "test:deno", "test:node"].map((name) => runScript(name));
const ended = [...await Promise.all([print(onBun), print(onDeno)]), await print(onNode)];
process.exitCode = ended.every(Boolean) ? 0 : 1;
