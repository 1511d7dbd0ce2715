/**
 * A file of this project in a process of its own, on the runtime that runs the benchmark.
 *
 * It ends at the latest with the process that started it.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { runtime } from "./harness.ts";

/** A process that runs. */
export interface Child {
  readonly process: ChildProcess;
  /** What it says on the stream that was asked for. */
  readonly lines: Interface;
  /** Resolves with its exit code when it has ended and said everything. */
  readonly ended: Promise<number | null>;
}

/**
 * Starts `path`, as it is called from this folder, and hands out what it says on one of its streams. The flags are for
 * V8, where that is the engine.
 */
export function startChild(
  path: string,
  args: readonly string[],
  stream: "stdout" | "stderr",
  flags: readonly string[] = [],
): Child {
  // On Node all files are compiled.
  const compiled = import.meta.url.endsWith(".js");
  const file = fileURLToPath(new URL(compiled ? path.replace(/\.ts$/, ".js") : path, import.meta.url));
  const options = {
    bun: [],
    deno: ["run", "-A", "--no-check", ...flags.length > 0 ? [`--v8-flags=${flags.join(",")}`] : []],
    node: flags,
  }[runtime().name];
  const other = stream === "stdout" ? "inherit" : "ignore";
  const child = spawn(process.execPath, [...options, file, ...args], {
    stdio: stream === "stdout" ? ["ignore", "pipe", other] : ["ignore", other, "pipe"],
  });
  const kill = (): void => void child.kill("SIGKILL");
  process.prependListener("exit", kill);
  const lines = createInterface(child[stream]!);
  const ended = Promise.all([once(child, "close"), once(lines, "close")]).then(
    ([[code]]) => {
      process.off("exit", kill);
      return code as number | null;
    },
  );
  return { process: child, lines, ended };
}
