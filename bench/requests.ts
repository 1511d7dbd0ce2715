/**
 * Requests over the wire, firkin and Redis in turn: one client on one connection, its server on the other core.
 *
 * Both servers hold the same keys and values. In each round firkin answers a row of requests, then Redis a row of as
 * many, so that a ratio is taken where the two stood side by side. Beside the wall clock's rate stands the processor's
 * time of both ends: the slower end's is what a request costs when each end has a core of its own, whatever else the
 * machine does.
 *
 * @module
 */
import process from "node:process";
import { type Bucket, connect, type Store, type SyncPolicy } from "../mod.ts";
import { cpuOf, pin, SERVER_CORE } from "./core.ts";
import { type RedisPolicy, type RedisServer, startRedis } from "./redis.ts";
import { type Server, startServer } from "./server.ts";
import { ends, load, Workload } from "./workload.ts";

/** What is asked of both: the key of a number, or a new value for it. */
export type Work = "get" | "set";

/** What one row of requests took at one of the two. */
export interface Took {
  readonly perSecond: number;
  /** Microseconds until the answer: the middle one of all. */
  readonly p50: number;
  /** Microseconds of the processor for each request. */
  readonly client: number;
  readonly server: number;
}

/** A round: the same at both. */
export interface Round {
  readonly firkin: Took;
  readonly redis: Took;
}

/** Requests of a row, by how many are outstanding. */
function rowOf(outstanding: number, quick: boolean): number {
  return (outstanding === 1 ? 3_000 : outstanding * 200 + 20_000) /
    (quick ? 5 : 1);
}

/** One server, and the way to ask it. */
interface Contender {
  readonly pid: number;
  readonly workload: Workload;
  get(key: string): Promise<Uint8Array | undefined | null>;
  set(key: string, value: Uint8Array): Promise<unknown>;
  stop(): Promise<void>;
}

/** The part of ioredis that is used. */
interface Redis {
  getBuffer(key: string): Promise<Uint8Array | null>;
  set(key: string, value: Uint8Array): Promise<unknown>;
  disconnect(): void;
}

/** Both servers, loaded. */
export class Pair {
  readonly #firkin: Contender;
  readonly #redis: Contender;

  constructor(firkin: Contender, redis: Contender) {
    this.#firkin = firkin;
    this.#redis = redis;
  }

  /** Starts and loads both. */
  static async start(
    policy: SyncPolicy,
    redisPolicy: RedisPolicy,
  ): Promise<Pair> {
    return new Pair(await startFirkin(policy), await startIoredis(redisPolicy));
  }

  /** A round of one kind of work. */
  async round(work: Work, outstanding: number, quick: boolean): Promise<Round> {
    const count = rowOf(outstanding, quick);
    const firkin = await row(this.#firkin, work, outstanding, count);
    const redis = await row(this.#redis, work, outstanding, count);
    return { firkin, redis };
  }

  /** Compares what both hold with what was written, and ends them. @throws {Error} they differ */
  async stop(): Promise<void> {
    for (const contender of [this.#firkin, this.#redis]) {
      await contender.workload.verify(async (key) => await contender.get(key) ?? undefined);
      await contender.stop();
    }
  }
}

async function startFirkin(policy: SyncPolicy): Promise<Contender> {
  const server: Server = await startServer(policy);
  pin(server.pid, SERVER_CORE);
  const store: Store = await connect(server.url);
  const users: Bucket<Uint8Array> = store.bucket("users", { codec: "bytes" });
  const workload = new Workload();
  await load(workload, users);
  return {
    pid: server.pid,
    workload,
    get: (key) => users.get(key),
    set: (key, value) => users.set(key, value),
    async stop() {
      await store.close();
      await server.stop();
    },
  };
}

async function startIoredis(policy: RedisPolicy): Promise<Contender> {
  const server: RedisServer = await startRedis(policy);
  pin(server.pid, SERVER_CORE);
  const name: string = "ioredis"; // found when it is installed, and not by who checks types
  const { Redis } = await import(name) as {
    Redis: new (options: object) => Redis;
  };
  const redis = new Redis({
    host: "127.0.0.1",
    port: server.port,
    enableAutoPipelining: true,
  });
  const workload = new Workload();
  for (const group of workload.load()) {
    await Promise.all(
      group.map(({ key, value }) => redis.set(key, asBuffer(value))),
    );
  }
  return {
    pid: server.pid,
    workload,
    get: (key) => redis.getBuffer(key),
    set: (key, value) => redis.set(key, asBuffer(value)),
    async stop() {
      redis.disconnect();
      await server.stop();
    },
  };
}

/** The same bytes in the class that ioredis takes. */
function asBuffer(value: Uint8Array): Uint8Array {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

/** Keys of one row, asked for again and again: what is prepared must not be what the collector is busy with. */
const KEYS_OF_A_ROW = 8_192;

/** Asks for `count` requests, `outstanding` at a time: as many loops, each of which asks again when it is answered. */
async function row(
  contender: Contender,
  work: Work,
  outstanding: number,
  count: number,
): Promise<Took> {
  const { pid, workload } = contender;
  const first = workload.uniform();
  const writes = Array.from({ length: KEYS_OF_A_ROW }, (_, step) => {
    const index = (first + step) % workload.keys;
    return work === "set" ? workload.write(index) : { key: workload.key(index), value: undefined, index };
  });
  const wanted = writes.map(({ index }) => workload.endsOf(index));
  const waits = new Float64Array(outstanding === 1 ? count : 0);
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < count) {
      const place = next++;
      const step = place % KEYS_OF_A_ROW;
      const { key, value } = writes[step]!;
      const asked = outstanding === 1 ? performance.now() : 0;
      if (value !== undefined) await contender.set(key, value);
      else if (ends(await contender.get(key) ?? undefined) !== wanted[step]) {
        throw new Error(
          `Cannot trust the figures: ${key} has another value than was written`,
        );
      }
      if (outstanding === 1) waits[place] = performance.now() - asked;
    }
  };
  // A row may be cut anywhere: its writes are then made known one by one.
  for (
    let step = work === "set" ? count : KEYS_OF_A_ROW;
    step < KEYS_OF_A_ROW;
    step++
  ) {
    await contender.set(writes[step]!.key, writes[step]!.value!);
  }
  const serverBefore = cpuOf(pid);
  const clientBefore = process.cpuUsage();
  const started = performance.now();
  await Promise.all(Array.from({ length: outstanding }, loop));
  const took = performance.now() - started;
  const client = process.cpuUsage(clientBefore);
  return {
    perSecond: count / took * 1_000,
    p50: (waits.sort()[waits.length >> 1] ?? NaN) * 1_000,
    client: (client.user + client.system) / count,
    server: (cpuOf(pid) - serverBefore) / count,
  };
}
