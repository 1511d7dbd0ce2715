/**
 * Runs the tests on all three runtimes: Bun's and Deno's side by side, each of which keeps one core busy, and Node's,
 * two files at a time, as soon as the first of them has ended. What each says is printed whole, Node's summary last.
 *
 * Deno has Node's engine: what depends on the language alone is left to Bun and Node (`test.exclude` in deno.json).
 *
 * Runs all three whatever fails; the exit code is 1 when any did.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { delimiter, join } from "node:path";
import { root } from "./tools.mjs";

const PATH = `${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH ?? ""}`;

/** Runs one of package.json's scripts: whether it ended well, and what it said. */
async function runScript(name) {
  const startedAt = performance.now();
  const child = spawn("npm", ["run", "--silent", name], {
    cwd: root,
    env: { ...process.env, PATH },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => output.push(chunk));
  const code = await new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(0);
  return {
    ok: code === 0,
    text: `\n${name}: ${code === 0 ? "passed" : "failed"} (${seconds} s)\n${Buffer.concat(output)}`,
  };
}

/** Prints what a script said when it has ended, written whole before the process may end; whether it ended well. */
async function print(script) {
  const { ok, text } = await script;
  await new Promise((resolve) => process.stdout.write(text, resolve));
  return ok;
}

const onBun = runScript("test:bun");
const onDeno = runScript("test:deno");
const printed = Promise.all([print(onBun), print(onDeno)]);
await Promise.race([onBun, onDeno]);
const onNode = runScript("test:node");
const ended = [...await printed, await print(onNode)];
process.exitCode = ended.every(Boolean) ? 0 : 1;
