/**
 * Runs the tests on all three runtimes: Bun's and Deno's side by side, each of which keeps one core busy, then Node's,
 * two files at a time. What Bun and Deno say is printed when each has ended, and Node's summary comes last.
 *
 * Runs all three whatever fails; the exit code is 1 when any did.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { delimiter, join } from "node:path";
import { root } from "./tools.mjs";

const PATH = `${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH ?? ""}`;

/** Runs one of package.json's scripts; true when it ended well. `live`: its output goes through as it comes. */
async function runScript(name, live) {
  const startedAt = performance.now();
  const child = spawn("npm", ["run", "--silent", name], {
    cwd: root,
    env: { ...process.env, PATH },
    stdio: live ? "inherit" : ["ignore", "pipe", "pipe"],
  });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => output.push(chunk));
  const code = await new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(0);
  // Written whole before the process may end.
  const text = `${Buffer.concat(output)}\n${name}: ${code === 0 ? "passed" : "failed"} (${seconds} s)\n`;
  if (!live) await new Promise((resolve) => process.stdout.write(text, resolve));
  return code === 0;
}

const sideBySide = await Promise.all([runScript("test:bun", false), runScript("test:deno", false)]);
const onNode = await runScript("test:node", true);
process.exitCode = [...sideBySide, onNode].every(Boolean) ? 0 : 1;
