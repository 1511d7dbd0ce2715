/**
 * What tests need from outside the repository: programs of the machine, and the runtime that runs the tests.
 *
 * A program that is not installed is no failure: the tests that need it are skipped by name, and one line says what to
 * install. `.ci/run` installs them all, so that nothing is skipped there.
 *
 * @module
 */
import { test } from "bun:test";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** What each tool's program may be called. The tool's own name is what Debian calls the package. */
const PROGRAMS = {
  "bash": ["bash"],
  "openssl": ["openssl"],
  "chromium": ["chromium", "chromium-browser", "google-chrome"],
  "prometheus": ["promtool"],
  "redis-server": ["redis-server", "valkey-server"],
  "redis-tools": ["redis-cli", "valkey-cli"],
  "strace": ["strace"],
  "systemd": ["systemd-analyze"],
} as const;

/** A program that some tests need. */
export type Tool = keyof typeof PROGRAMS;

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * The path of a tool's program, or undefined when the machine has none; then one line says what to install.
 *
 * @example
 * ```ts ignore
 * const chromium = findTool("chromium");
 * test.skipIf(chromium === undefined)("dashboard shows a new key", async () => {});
 * ```
 */
export function findTool(tool: Tool): string | undefined {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    for (const program of PROGRAMS[tool]) {
      const path = join(folder, program);
      if (folder !== "" && isProgram(path)) return path;
    }
  }
  console.warn(`Tests that need ${tool} are skipped: install it, for example with "apt-get install ${tool}"`);
  return undefined;
}

/** True on one runtime: for whole suites of what runs in processes of its own, whoever asks it. */
export function isOn(runtime: "bun" | "node"): boolean {
  const { bun, deno } = process.versions as Record<string, string | undefined>;
  return runtime === (bun !== undefined ? "bun" : deno !== undefined ? "deno" : "node");
}

/**
 * `test` for what depends on no runtime and takes long: on this one alone. On the others there is no such test; on this
 * one it is skipped without what it needs.
 */
export function testOn(
  runtime: "bun" | "node",
  needed: unknown = true,
): (name: string, body: () => void | Promise<void>, timeoutMs?: number) => void {
  if (!isOn(runtime)) return () => {};
  return needed === undefined ? test.skip : test;
}

/**
 * The command line that runs a module of the project on the runtime that runs the tests: program first.
 *
 * @param module The source's path in the project, for example "server/cli.ts"; on Node what it was compiled to.
 */
export function moduleCommand(module: string, ...args: string[]): [string, ...string[]] {
  const path = fileURLToPath(new URL(`../../${module}`, import.meta.url));
  if (process.versions["bun"] !== undefined) return [process.execPath, path, ...args];
  if (process.versions["deno"] !== undefined) return [process.execPath, "run", "-A", "--no-check", path, ...args];
  return [process.execPath, path.replace(/\.ts$/, ".js"), ...args];
}
