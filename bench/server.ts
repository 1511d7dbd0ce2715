/**
 * A server in a process of its own, on the runtime that runs the benchmark.
 *
 * It is the command `serve`, as users start it: a temporary folder, any free port. It ends with `stop`, and at the
 * latest with the process that started it.
 *
 * @module
 */
import type { SyncPolicy } from "../mod.ts";
import { startChild } from "./child.ts";
import { temporaryFolder } from "./harness.ts";

/** A server that runs. */
export interface Server {
  readonly url: string;
  /** Where Redis clients connect; undefined when they cannot. */
  readonly redisUrl: string | undefined;
  readonly pid: number;
  /** Asks the process to end and resolves when it has. @throws {Error} it did not end well */
  stop(): Promise<void>;
}

/** Starts a server and resolves when it listens, for Redis clients too if asked. @throws {Error} it ended instead */
export async function startServer(sync: SyncPolicy, withRedis = false): Promise<Server> {
  const flags = [
    "serve",
    "--data-dir",
    temporaryFolder(),
    "--listen",
    "127.0.0.1:0",
    "--sync",
    sync,
    ...(withRedis ? ["--redis", "127.0.0.1:0"] : []),
  ];
  const child = startChild("../server/cli.ts", flags, "stderr");
  const lines: string[] = [];
  await new Promise<void>((resolve, reject) => {
    child.lines.on("line", (line) => {
      lines.push(line);
      if (line.includes("dashboard at")) resolve();
    });
    child.ended.then(
      () =>
        reject(
          new Error(`Cannot start a server: it ended\n${lines.join("\n")}`),
        ),
      reject,
    );
  });
  const said = lines.join("\n");
  return {
    url: / on (ws:\/\/\S+) /.exec(said)![1]!,
    redisUrl: / at (redis:\/\/\S+)/.exec(said)?.[1],
    pid: child.process.pid!,
    async stop() {
      child.process.kill("SIGTERM");
      await child.ended;
      // Its last word, because Deno reports a signal that was handled as the way the process ended.
      if (lines.at(-1)?.includes("closed") !== true) {
        throw new Error(
          `Cannot trust the figures: the server did not close its store\n${lines.join("\n")}`,
        );
      }
    },
  };
}
