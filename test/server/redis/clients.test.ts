/**
 * Redis' own clients, unmodified: ioredis, node-redis in both versions of RESP, Bun's, and redis-cli.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { Redis } from "ioredis";
import { createClient, WatchError } from "redis";
import type { EmbeddedEngine } from "../../../lib/engine/embedded.ts";
import { Store } from "../../../lib/store/store.ts";
import { serve, type Server, Tokens } from "../../../server/mod.ts";
import { findTool, testOn } from "../../suites/tools.ts";
import { openMemoryEngine } from "../../wire/loopback.ts";

const cli = findTool("redis-tools");

/** A promise and what resolves it. */
function deferred<Value>(): { readonly promise: Promise<Value>; readonly resolve: (value: Value) => void } {
  let resolve: (value: Value) => void = () => {};
  const promise = new Promise<Value>((done) => resolve = done);
  return { promise, resolve };
}

describe("clients", () => {
  let engine: EmbeddedEngine;
  let server: Server;
  let url: string;

  beforeAll(async () => {
    engine = await openMemoryEngine();
    const auth = new Tokens();
    const { token } = await auth.create({
      name: "app",
      scopes: [{ buckets: "*", rights: ["read", "write", "subscribe", "admin"] }],
    });
    server = await serve({ store: new Store(engine), port: 0, redis: { port: 0 }, auth });
    url = server.redisUrl!.replace("://", `://app:${token}@`);
  });

  afterAll(async () => {
    await server.close();
    await engine.close();
  });

  test("ioredis: commands, pipelines, transactions, scans, pub/sub, expiry", async () => {
    const redis = new Redis(`${url}/1`);
    expect(await redis.set("a", "1", "EX", 100, "NX")).toBe("OK");
    expect(await redis.get("a")).toBe("1");
    expect(await redis.getBuffer("a")).toEqual(Buffer.from("1"));
    expect(await redis.ttl("a")).toBe(100);
    expect(await redis.incrby("a", 41)).toBe(42);
    expect(await redis.mset({ b: "2", c: "3" })).toBe("OK");
    expect(await redis.mget("a", "b", "nothing")).toEqual(["42", "2", null]);
    expect(await redis.pipeline().set("d", "x").append("d", "y").get("d").exec()).toEqual([
      [null, "OK"],
      [null, 2],
      [null, "xy"],
    ]);
    expect(await redis.multi().incr("n").incr("n").exec()).toEqual([[null, 1], [null, 2]]);
    const found: string[] = [];
    for await (const keys of redis.scanStream({ match: "?", count: 2 })) found.push(...keys as string[]);
    expect(found.sort()).toEqual(["a", "b", "c", "d", "n"]);
    expect(await redis.call("NOPE").catch(String)).toContain("unknown command");
    const listener = redis.duplicate();
    const expired = deferred<string[]>();
    listener.on("message", (...message: string[]) => expired.resolve(message));
    await listener.subscribe("__keyevent@1__:expired");
    await redis.psetex("short", 30, "x");
    expect(await expired.promise).toEqual(["__keyevent@1__:expired", "short"]);
    listener.disconnect();
    await redis.quit();
  });

  test.each([2, 3] as const)("node-redis, RESP%d: commands, transactions, iterators, pub/sub", async (RESP) => {
    const client = createClient({ url: `${url}/2`, RESP });
    // Without it, the end of the test's server would be the end of the tests.
    client.on("error", () => {});
    await client.connect();
    expect(await client.set("a", "1", { expiration: { type: "PX", value: 100_000 }, condition: "NX" })).toBe("OK");
    expect(await client.get("a")).toBe("1");
    expect(await client.incrByFloat("a", 0.5)).toBe("1.5");
    expect(await client.multi().set("b", "2").get("b").exec() as unknown).toEqual(["OK", "2"]);
    const found: string[] = [];
    for await (const keys of client.scanIterator()) found.push(...keys);
    expect(found.sort()).toEqual(["a", "b"]);
    expect(await client.copy("a", "c")).toBeTruthy();
    expect(await client.expire("c", 50, "GT")).toBe(0);
    expect(await client.configGet("databases")).toMatchObject({ databases: "16" });
    expect(await client.clientInfo()).toMatchObject({ db: 2, name: "" });
    await client.watch("a");
    await client.set("a", "other");
    expect(await client.multi().set("a", "mine").exec().catch((error: unknown) => error)).toBeInstanceOf(WatchError);
    const listener = client.duplicate();
    listener.on("error", () => {});
    await listener.connect();
    const heard = deferred<string>();
    await listener.pSubscribe("news:*", (message, channel) => heard.resolve(`${channel} ${message}`));
    expect(await client.publish("news:x", "hi")).toBe(1);
    expect(await heard.promise).toBe("news:x hi");
    listener.destroy();
    expect(await client.flushDb()).toBe("OK");
    expect(await client.dbSize()).toBe(0);
    client.destroy();
  });

  test("node-redis with a cache of its own, which is told what is no longer so", async () => {
    const client = createClient({
      url: `${url}/5`,
      RESP: 3,
      clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: "LRU" },
    });
    client.on("error", () => {});
    await client.connect();
    const other = new Redis(`${url}/5`);
    await other.set("a", "1");
    const gets = (): number => server.stats()["server.op.get"]!;
    expect(await client.get("a")).toBe("1");
    const before = gets();
    expect(await client.get("a")).toBe("1");
    expect(gets()).toBe(before);
    await other.set("a", "2");
    while (await client.get("a") !== "2") await new Promise((resolve) => setTimeout(resolve, 1));
    expect(gets()).toBe(before + 1);
    client.destroy();
    other.disconnect();
  });

  testOn("bun")("Bun's own client", async () => {
    const { RedisClient } = await import("bun");
    const client = new RedisClient(`${url}/3`);
    await client.set("a", "1");
    expect(await client.get("a")).toBe("1");
    expect(await client.incr("a")).toBe(2);
    expect(await client.exists("a")).toBe(true);
    expect(await client.expire("a", 10)).toBe(1);
    expect(await client.ttl("a")).toBe(10);
    expect(await client.mget("a", "nothing")).toEqual(["2", null]);
    expect(await client.send("SCAN", ["0"])).toEqual(["0", ["a"]]);
    expect(await client.del("a")).toBe(1);
    expect(await client.get("a")).toBe(null);
    client.close();
  });

  test.skipIf(cli === undefined)("redis-cli, and what it does by itself", async () => {
    const run = (...args: string[]): Promise<string> => {
      return new Promise((resolve) => {
        execFile(
          cli!,
          ["-u", `${url}/4`, "--no-auth-warning", ...args],
          (_, stdout, stderr) => resolve(stdout + stderr),
        );
      });
    };
    expect(await run("set", "a", "hello world")).toBe("OK\n");
    expect(await run("get", "a")).toBe("hello world\n");
    expect(await run("-3", "--json", "config", "get", "databases")).toBe('{"databases":"16"}\n');
    expect(await run("--scan", "--pattern", "*")).toBe("a\n");
    expect(await run("--bigkeys")).toContain("Biggest string found '\"a\"' has 11 bytes");
    expect(await run("info", "server")).toContain("server_name:firkin");
    expect(await run("get")).toContain("ERR wrong number of arguments for 'get' command");
  });
});
