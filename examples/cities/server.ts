/**
 * A firkin server as a child process, on any of the three runtimes: started on a free port, ended by its pid.
 *
 * The address is read from the line that the command says on standard error. Lines that tell of trouble are passed on.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Where a server can run. */
export type Runtime = "node" | "bun" | "deno";

/** A server that takes longer than this to start or to stop is killed. */
const PATIENCE_MS = 20_000;

/** What a server says when nothing is wrong. */
const USUAL = /^firkin: (serving|dashboard|closing|closed)/;

/** The runtime of this process. */
export function ownRuntime(): Runtime {
  if (process.versions["bun"] !== undefined) return "bun";
  return process.versions["deno"] !== undefined ? "deno" : "node";
}

/** A server that runs. */
export class CityServer {
  /** Where clients connect. */
  readonly url: string;
  /** The network server it uses: uws, ws, bun or deno. */
  readonly transport: string;
  readonly #child: ChildProcess;

  /** Made by `start`. */
  constructor(child: ChildProcess, url: string, transport: string) {
    this.#child = child;
    this.url = url;
    this.transport = transport;
  }

  /** Starts a server on `folder`; resolves when it can be connected to. */
  static async start(runtime: Runtime, folder: string): Promise<CityServer> {
    const flags = ["serve", "--data-dir", folder, "--listen", "127.0.0.1:0", "--sync", "always"];
    const [program, ...args] = commandOn(runtime);
    const child = spawn(program, [...args, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
    // Before anything else that ends with this process.
    process.prependOnceListener("exit", () => child.kill("SIGKILL"));
    const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
    try {
      return await new Promise((resolve, reject) => {
        createInterface({ input: child.stderr }).on("line", (line) => {
          const told = /^firkin: serving .* on (ws:\S+) \((\w+), /.exec(line);
          if (told !== null) resolve(new CityServer(child, told[1]!, told[2]!));
          else if (!USUAL.test(line)) console.error(line);
        });
        child.once("error", reject);
        child.once("close", (code) => reject(new Error(`Cannot start a server on ${runtime}: it ended with ${code}`)));
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the server as a power cut ends a process: kill -9. Does nothing when it has ended. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Asks the server to close; resolves when it has, and rejects when it did not close cleanly. */
  async stop(): Promise<void> {
    const code = await this.#end("SIGTERM");
    if (code !== 0) throw new Error(`Cannot stop the server: it ended with ${code ?? "a signal"}`);
  }

  async #end(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    // Not `child.kill`: on Deno that makes the signal the end, whatever the process does with it.
    process.kill(child.pid!, signal);
    try {
      return await ended;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The command line of `firkin` on a runtime: the source on Bun and Deno, what the build made of it on Node. */
function commandOn(runtime: Runtime): [string, ...string[]] {
  const root = fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "../../" : "../../../", import.meta.url));
  const installed = join(root, "node_modules", ".bin", runtime);
  const other = existsSync(installed) ? installed : runtime;
  const program = runtime === ownRuntime() ? process.execPath : other;
  if (runtime === "node") return [program, join(root, "dist", "server", "cli.js")];
  const source = join(root, "server", "cli.ts");
  return runtime === "bun" ? [program, source] : [program, "run", "-A", "--no-check", source];
}
