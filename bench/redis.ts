/**
 * A redis-server in a process of its own, on a free port, its files in a temporary folder.
 *
 * It ends with `stop`, and at the latest with the process that started it.
 *
 * @module
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { temporaryFolder } from "./harness.ts";

/** What Redis keeps: nothing, or an append-only file that is synced once a second. */
export type RedisPolicy = "none" | "everysec";

/** A server that runs. */
export interface RedisServer {
  readonly port: number;
  readonly pid: number;
  /** Ends it and resolves when it has. */
  stop(): Promise<void>;
}

/** True when the programs of Redis are there. */
export function hasRedis(): boolean {
  return ["redis-server", "redis-benchmark"].every((name) => {
    return spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0;
  });
}

/** Starts a server and resolves when it listens. @throws {Error} it ended instead */
export async function startRedis(policy: RedisPolicy): Promise<RedisServer> {
  const port = await freePort();
  const folder = temporaryFolder();
  mkdirSync(folder);
  const flags = [
    "--port",
    String(port),
    "--bind",
    "127.0.0.1",
    "--save",
    "",
    "--dir",
    folder,
  ];
  if (policy === "everysec") {
    flags.push("--appendonly", "yes", "--appendfsync", "everysec");
  }
  const child: ChildProcess = spawn("redis-server", flags, {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const kill = (): void => void child.kill("SIGKILL");
  process.prependListener("exit", kill);
  const ended = once(child, "exit");
  await new Promise<void>((resolve, reject) => {
    createInterface(child.stdout!).on("line", (line) => {
      if (line.includes("Ready to accept connections")) resolve();
    });
    ended.then(
      () => reject(new Error("Cannot start redis-server: it ended")),
      reject,
    );
  });
  return {
    port,
    pid: child.pid!,
    async stop() {
      kill();
      await ended;
      process.off("exit", kill);
    },
  };
}

/** A port that was free a moment ago: Redis takes 0 for "none". */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as { readonly port: number };
  await new Promise<void>((resolve) => probe.close(() => resolve()));
  return port;
}
