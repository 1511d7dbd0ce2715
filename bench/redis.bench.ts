/**
 * Redis' own benchmark against firkin and against redis-server, in turn, both on the same core.
 *
 * Each row of requests is `redis-benchmark` with 50 connections, values of 100 bytes and 100,000 keys. A firkin that
 * leaves syncing to the system stands against a Redis that saves nothing; one that syncs once a second against
 * `appendfsync everysec`. Rates are what the load saw; the processor's time is the server's alone.
 *
 * `--quick` shows that it runs, no figures to keep; `--only set,get` runs some commands; `--rounds N` more than three.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { contestOptions, digits, spread, table } from "./contest.ts";
import { CLIENT_CORE, cpuOf, pin, SERVER_CORE } from "./core.ts";
import { runtime } from "./harness.ts";
import { hasRedis, type RedisPolicy, startRedis } from "./redis.ts";
import { startServer } from "./server.ts";

const KEYS = 100_000;
const VALUE_BYTES = 100;
const CONNECTIONS = 50;
const COMMANDS = ["set", "get", "incr", "mset"];
/** Requests that one connection sends together. */
const PIPELINES = [1, 16];

/** What one row of requests took. */
interface Took {
  readonly perSecond: number;
  /** Microseconds of the server's processor for each request. */
  readonly server: number;
}

/** A server that is measured. */
interface Target {
  readonly port: string;
  readonly pid: number;
}

/** One row of `requests`. @throws {Error} redis-benchmark failed, or said nothing that can be read */
async function row(
  target: Target,
  command: string,
  pipeline: number,
  requests: number,
): Promise<Took> {
  const flags = {
    p: target.port,
    t: command,
    n: String(requests),
    P: String(pipeline),
    c: String(CONNECTIONS),
    r: String(KEYS),
    d: String(VALUE_BYTES),
  };
  const before = cpuOf(target.pid);
  const args = Object.entries(flags).flatMap((
    [name, value],
  ) => [`-${name}`, value]);
  const child = spawn("redis-benchmark", [...args, "--csv"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  pin(child.pid!, CLIENT_CORE);
  let output = "";
  child.stdout.on("data", (text) => output += String(text));
  const [code] = await once(child, "close") as [number];
  const perSecond = Number(/^"(?!test)[^"]*","([\d.]+)"/m.exec(output)?.[1]);
  if (code !== 0 || !(perSecond > 0)) {
    throw new Error(
      `Cannot measure ${command}: redis-benchmark said ${output}`,
    );
  }
  return { perSecond, server: (cpuOf(target.pid) - before) / requests };
}

/** What was found of one command in one form. */
interface Finding {
  readonly name: string;
  readonly firkin: readonly Took[];
  readonly redis: readonly Took[];
}

const options = contestOptions();

async function compare(
  sync: "os" | "interval",
  redisPolicy: RedisPolicy,
): Promise<Finding[]> {
  const server = await startServer(sync, true);
  const rival = await startRedis(redisPolicy);
  for (const pid of [server.pid, rival.pid]) pin(pid, SERVER_CORE);
  const firkin = { port: new URL(server.redisUrl!).port, pid: server.pid };
  const redis = { port: String(rival.port), pid: rival.pid };
  const findings: Finding[] = [];
  for (
    const command of COMMANDS.filter((name) => options.only.length === 0 || options.only.includes(name))
  ) {
    if (sync === "interval" && command === "get") continue;
    for (const pipeline of PIPELINES) {
      const requests = (options.quick ? 2_000 : 40_000) *
        (pipeline === 1 ? 1 : 4);
      const finding: { name: string; firkin: Took[]; redis: Took[] } = {
        name: `${command}, ${sync}, ${pipeline} together`,
        firkin: [],
        redis: [],
      };
      for (const target of [firkin, redis]) {
        await row(target, command, pipeline, requests / 2);
      }
      for (let round = 0; round < options.rounds; round++) {
        finding.firkin.push(await row(firkin, command, pipeline, requests));
        finding.redis.push(await row(redis, command, pipeline, requests));
      }
      findings.push(finding);
    }
  }
  await server.stop();
  await rival.stop();
  return findings;
}

function told({ name, firkin, redis }: Finding): string[] {
  const middle = (pick: (took: Took, round: number) => number): string => digits(spread(firkin.map(pick)).median);
  const ofRedis = (pick: (took: Took) => number): string => digits(spread(redis.map(pick)).median);
  return [
    name,
    middle(({ perSecond }) => perSecond),
    ofRedis(({ perSecond }) => perSecond),
    middle(({ perSecond }, round) => perSecond / redis[round]!.perSecond),
    middle(({ server }) => server),
    ofRedis(({ server }) => server),
  ];
}

try {
  if (!hasRedis()) {
    console.error(
      "redis: left out: redis-server and redis-benchmark are not installed",
    );
  } else {
    const findings = [
      ...await compare("os", "none"),
      ...await compare("interval", "everysec"),
    ];
    const { name: runtimeName, version } = runtime();
    if (options.json) {
      for (const finding of findings) {
        console.log(
          JSON.stringify({
            subject: "redis",
            runtime: runtimeName,
            version,
            ...finding,
          }),
        );
      }
    } else {
      const head = [
        "median",
        "firkin, /s",
        "redis, /s",
        "ratio",
        "firkin, us CPU",
        "redis, us CPU",
      ];
      console.log(table([head, ...findings.map(told)]));
    }
  }
} catch (error) {
  console.error(error);
  process.exit(1);
}
