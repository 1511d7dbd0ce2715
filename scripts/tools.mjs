/**
 * What the scripts share: where the project is, and how to run a tool that npm has installed in it.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder that holds package.json. */
export const root = fileURLToPath(new URL("..", import.meta.url));

const bin = join(root, "node_modules", ".bin");

/**
 * Runs a tool from node_modules/.bin (or from PATH) in the project's folder and waits for its end.
 *
 * @param {string} tool
 * @param {string[]} args
 * @param {import("node:child_process").SpawnSyncOptions} [options]
 * @returns {{ ok: boolean, code: number, output: string }} `output` is empty unless stdio is piped
 */
export function run(tool, args, options = {}) {
  const env = { ...environment(), ...options.env };
  const child = spawnSync(tool, args, { cwd: root, stdio: "inherit", encoding: "utf8", ...options, env });
  const failure = child.error === undefined ? "" : `${child.error.message}\n`;
  const code = child.status ?? 1;
  return { ok: code === 0, code, output: `${failure}${child.stdout ?? ""}${child.stderr ?? ""}` };
}

/**
 * The same beside others, with nothing to read: its words are handed over at its end.
 *
 * @param {string} tool
 * @param {string[]} args
 * @param {Record<string, string>} [env]
 * @returns {Promise<{ ok: boolean, output: string }>}
 */
export async function runAside(tool, args, env = {}) {
  const stdio = ["ignore", "pipe", "pipe"];
  const child = spawn(tool, args, { cwd: root, stdio, env: { ...environment(), ...env } });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => output.push(chunk));
  const code = await new Promise((resolve) => {
    child.on("error", ({ message }) => {
      output.push(Buffer.from(`${message}\n`));
      resolve(null);
    });
    child.on("close", resolve);
  });
  return { ok: code === 0, output: Buffer.concat(output).toString() };
}

function environment() {
  return { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ""}` };
}

/** Those of the project's files and folders that exist: a tool stops at a name that does not. */
export function existing(...names) {
  return names.filter((name) => existsSync(join(root, name)));
}
