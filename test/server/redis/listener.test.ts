/**
 * What Redis says nothing about: tokens and rights, single-read keys, other protocols' values, expiry, slow readers.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Redis } from "ioredis";
import { copyFileSync } from "node:fs";
import type { FirkinError } from "../../../lib/base/errors.ts";
import type { EmbeddedEngine } from "../../../lib/engine/embedded.ts";
import type { Store } from "../../../lib/store/store.ts";
import { serve, type ServeOptions, type Server, Tokens } from "../../../server/mod.ts";
import { makeCertificate, OPENSSL } from "../../suites/certificate.ts";
import { errorCode } from "../../suites/fs.ts";
import { settled } from "../../wire/loopback.ts";
import { encode, type RespPeer } from "./peer.ts";
import { RedisServer } from "./server.ts";

describe("Redis clients", () => {
  const house = new RedisServer();
  let engine: EmbeddedEngine;
  let store: Store;
  let server: Server;

  async function start(options: Partial<ServeOptions> = {}): Promise<void> {
    await house.start(options);
    ({ engine, store, server } = house);
  }

  const stop = (): Promise<void> => house.stop();
  const open = (): RespPeer => house.open();

  beforeEach(() => start());
  afterEach(stop);

  // --- where it listens ---

  test("are not served unless asked for, nor beyond loopback without tokens", async () => {
    const other = await serve({ store, port: 0 });
    expect(other.redisUrl).toBe(undefined);
    await other.close();
    for (const hostname of ["0.0.0.0", "192.168.1.1", "::"]) {
      expect(await errorCode(() => serve({ store, port: 0, redis: { port: 0, hostname } }))).toBe("FORBIDDEN");
    }
    const redis = { port: 0, hostname: "0.0.0.0" };
    const proxied = { store, port: 0, auth: new Tokens(), trustedProxies: ["10.0.0.1"] };
    expect(await errorCode(() => serve({ ...proxied, redis }))).toBe("FORBIDDEN");
    const open = await serve({ ...proxied, redis, insecureNoTls: true });
    expect(open.redisUrl).toMatch(/^redis:\/\/0\.0\.0\.0:\d+$/);
    await open.close();
    const port = Number(new URL(server.redisUrl!).port);
    expect(await errorCode(() => serve({ store, port: 0, redis: { port } }))).toBe("UNAVAILABLE");
  });

  test.skipIf(OPENSSL === undefined)("speak TLS where the server does", async () => {
    await stop();
    const certificate = makeCertificate();
    await start({ tls: certificate });
    expect(server.redisUrl).toMatch(/^rediss:\/\/127\.0\.0\.1:\d+$/);
    const redis = new Redis(server.redisUrl!, { tls: { ca: certificate.ca } });
    expect(await redis.set("a", "1")).toBe("OK");
    const stranger = new Redis(server.redisUrl!, { tls: {}, lazyConnect: true, retryStrategy: () => null });
    stranger.on("error", () => {});
    expect(await stranger.connect().catch(() => "refused")).toBe("refused");
    const second = makeCertificate();
    copyFileSync(second.certFile, certificate.certFile);
    copyFileSync(second.keyFile, certificate.keyFile);
    const outcome = await server.reloadTls().then(() => "reloaded", (error: FirkinError) => error.code);
    expect(outcome).toBe(server.transport === "deno" ? "NOT_SUPPORTED" : "reloaded");
    // Who is inside stays, and who comes meets the certificate of now.
    expect(await redis.get("a")).toBe("1");
    const ca = outcome === "reloaded" ? second.ca : certificate.ca;
    const late = new Redis(server.redisUrl!, { tls: { ca } });
    expect(await late.get("a")).toBe("1");
    late.disconnect();
    redis.disconnect();
    certificate.remove();
    second.remove();
  });

  test.each(["POST / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])("are no browsers: %j", async (head) => {
    const peer = open();
    peer.send(`${head}\r\nSET a 1\r\n`);
    let last = "";
    for (let reply = await peer.reply(); reply !== "closed"; reply = await peer.reply()) last = reply;
    expect(last).not.toContain("OK");
    expect(engine.getSync("0", Uint8Array.of(97))).toBe(undefined);
  });

  // --- the same keys as everybody's ---

  test("read what others write, and the other way around", async () => {
    const peer = open();
    const users = store.bucket("users");
    await users.set("ada", { name: "Ada" });
    await users.set("count", 41);
    await store.bucket("0", { codec: "text" }).set("text", "hello");
    expect(await peer.ask("GET", "text")).toBe("$5\r\nhello\r\n");
    expect(await peer.ask("SELECT", "users")).toBe("+OK\r\n");
    expect(await peer.ask("GET", "ada")).toBe('$14\r\n{"name":"Ada"}\r\n');
    expect(await peer.ask("INCR", "count")).toBe(":42\r\n");
    expect(await users.get("count")).toBe(42);
    expect(await users.increment("count", 1)).toBe(43);
    await peer.ask("SET", "plain", "grüß");
    await peer.ask("SET", "raw", Uint8Array.of(255, 0));
    expect(await users.getMany(["plain", "raw"])).toEqual(["grüß", Uint8Array.of(255, 0)]);
  });

  test("count as every other protocol's", async () => {
    const peer = open();
    await peer.askAll([["SET", "a", "1"], ["GET", "a"], ["GET", "b"], ["DEL", "a"], ["NOPE"]]);
    const stats = server.stats();
    expect([stats["server.op.set"], stats["server.op.get"], stats["server.op.delete"]]).toEqual([1, 2, 1]);
    expect([stats["server.connections"], stats["server.errors"]]).toEqual([1, 1]);
  });

  test("take a single-read key with GET and GETDEL, and see it with nothing else", async () => {
    const peer = open();
    const bucket = store.bucket("0", { codec: "text" });
    for (const key of ["a", "b", "c"]) await bucket.set(key, "secret", { once: true });
    expect(await peer.ask("GET", "a")).toBe("$6\r\nsecret\r\n");
    expect(await peer.ask("GET", "a")).toBe("$-1\r\n");
    expect(await peer.ask("GETDEL", "b")).toBe("$6\r\nsecret\r\n");
    const others = [
      ["MGET", "c"],
      ["STRLEN", "c"],
      ["GETRANGE", "c", "0", "-1"],
      ["GETEX", "c"],
      ["GETSET", "c", "x"],
      ["SET", "c", "x", "GET"],
      ["SET", "c", "x", "IFEQ", "secret"],
      ["APPEND", "c", "x"],
      ["SETRANGE", "c", "0", "x"],
      ["INCR", "c"],
      ["INCRBYFLOAT", "c", "1"],
      ["COPY", "c", "d"],
      ["RENAME", "c", "d"],
      ["RENAMENX", "c", "d"],
      ["EXPIRE", "c", "100"],
    ];
    for (const command of others) {
      expect([command[0], (await peer.ask(...command)).slice(0, 9)]).toEqual([command[0], "-ERR this"]);
      const [, , result] = await peer.askAll([["MULTI"], command, ["EXEC"]]);
      expect([command[0], result!.slice(0, 13)]).toEqual([command[0], "*1\r\n-ERR this"]);
    }
    expect(await peer.askAll([["MULTI"], ["GET", "c"], ["EXEC"]]).then((replies) => replies[2]!.includes("secret")))
      .toBe(false);
    expect(await peer.askAll([["EXISTS", "c"], ["TTL", "c"], ["TYPE", "c"], ["KEYS", "*"], ["MEMORY", "USAGE", "c"]]))
      .toEqual([":1\r\n", ":-1\r\n", "+string\r\n", "*1\r\n$1\r\nc\r\n", ":49\r\n"]);
    expect(await peer.ask("GET", "c")).toBe("$6\r\nsecret\r\n");
  });

  // --- order ---

  test("see their own writes, whatever is sent together", async () => {
    const peer = open();
    expect(
      await peer.askAll([
        ["SET", "a", "1"],
        ["GET", "a"],
        ["SET", "a", "2"],
        ["INCR", "a"],
        ["INCR", "a"],
        ["SETEX", "a", "x", "1"],
        ["SET", "b", "1"],
        ["SETEX", "b", "x", "1"],
        ["SET", "b", "2"],
        ["GET", "a"],
        ["DEL", "a"],
        ["EXISTS", "a"],
        ["GET", "b"],
      ]),
    ).toEqual([
      "+OK\r\n",
      "$1\r\n1\r\n",
      "+OK\r\n",
      ":3\r\n",
      ":4\r\n",
      "-ERR value is not an integer or out of range\r\n",
      "+OK\r\n",
      "-ERR value is not an integer or out of range\r\n",
      "+OK\r\n",
      "$1\r\n4\r\n",
      ":1\r\n",
      ":0\r\n",
      "$1\r\n2\r\n",
    ]);
  });

  test("SET IFEQ is that of Valkey", async () => {
    const peer = open();
    expect(
      await peer.askAll([
        ["SET", "a", "2", "IFEQ", "1"],
        ["SET", "a", "1"],
        ["SET", "a", "2", "IFEQ", "1"],
        ["SET", "a", "3", "IFEQ", "1"],
        ["SET", "a", "3", "ifeq", "1", "GET"],
        ["SET", "a", "3", "IFEQ", "2", "NX"],
        ["SET", "a", "3", "IFEQ"],
      ]),
    ).toEqual([
      "$-1\r\n",
      "+OK\r\n",
      "+OK\r\n",
      "$-1\r\n",
      "$1\r\n2\r\n",
      "-ERR syntax error\r\n",
      "-ERR syntax error\r\n",
    ]);
  });

  test("lose no increment, append or transaction to one another", async () => {
    const clients = Array.from({ length: 8 }, open);
    const rounds = 25;
    await Promise.all(clients.map(async (peer) => {
      for (let round = 0; round < rounds; round++) {
        const replies = await peer.askAll([
          ["INCR", "counter"],
          ["APPEND", "text", "x"],
          ["INCRBYFLOAT", "float", "0.5"],
          ["MULTI"],
          ["INCR", "left"],
          ["DECR", "right"],
          ["EXEC"],
        ]);
        expect(replies.at(-1)).toMatch(/^\*2\r\n:\d+\r\n:-\d+\r\n$/);
      }
    }));
    const count = 8 * rounds;
    expect(await clients[0]!.ask("MGET", "counter", "float", "left", "right")).toBe(
      `*4\r\n$3\r\n${count}\r\n$3\r\n${count / 2}\r\n$3\r\n${count}\r\n$4\r\n-${count}\r\n`,
    );
    expect(await clients[0]!.ask("STRLEN", "text")).toBe(`:${count}\r\n`);
  });

  test("WATCH sees a change of another, and EXEC does nothing then", async () => {
    const [one, other] = [open(), open()];
    await one.ask("SET", "a", "1");
    await one.ask("WATCH", "a");
    await other.ask("SET", "a", "2");
    expect(await one.askAll([["MULTI"], ["SET", "a", "3"], ["EXEC"], ["GET", "a"]])).toEqual([
      "+OK\r\n",
      "+QUEUED\r\n",
      "*-1\r\n",
      "$1\r\n2\r\n",
    ]);
    await one.ask("WATCH", "a");
    expect((await one.askAll([["MULTI"], ["SET", "a", "3"], ["EXEC"]]))[2]).toBe("*1\r\n+OK\r\n");
  });

  test("CLIENT REPLY leaves replies out, and no message", async () => {
    const [one, other] = [open(), open()];
    const quiet = [["CLIENT", "REPLY", "SKIP"], ["SET", "a", "1"], ["SET", "b", "1"], ["GET", "a"]];
    one.send(
      Buffer.concat([...quiet, ["CLIENT", "REPLY", "OFF"], ["GET", "a"], ["BOGUS"]].map((args) => encode(args))),
    );
    expect([await one.reply(), await one.reply()]).toEqual(["+OK\r\n", "$1\r\n1\r\n"]);
    one.send(encode(["SUBSCRIBE", "news"]));
    expect(await one.reply()).toBe("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    expect(await other.ask("PUBLISH", "news", "hello")).toBe(":1\r\n");
    expect(await one.reply()).toBe("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
    expect(await one.ask("RESET")).toBe("+RESET\r\n");
    expect(await other.ask("CLIENT", "REPLY", "ON")).toBe("+OK\r\n");
    expect(await other.ask("CLIENT", "REPLY", "maybe")).toBe("-ERR syntax error\r\n");
    expect(await other.ask("CLIENT", "INFO")).toContain(" cmd=client|info ");
  });

  test("PTTL shows no more than was given", async () => {
    const peer = open();
    const replies = await peer.askAll(Array.from({ length: 60 }, (_, index) => {
      return [["SET", "a", "1", "PX", "1000"], ["PTTL", "a"]][index % 2]!;
    }));
    const times = replies.filter((reply) => reply.startsWith(":")).map((reply) => Number(reply.slice(1)));
    expect(times.length).toBe(30);
    expect(Math.max(...times)).toBeLessThanOrEqual(1_000);
    expect(Math.min(...times)).toBeGreaterThan(500);
  });

  test("WATCH sees that a key has come and gone, and lets go of it", async () => {
    const [one, other] = [open(), open()];
    const run = async (): Promise<string | undefined> => (await one.askAll([["MULTI"], ["PING"], ["EXEC"]]))[2];
    await one.ask("WATCH", "gone", "missing");
    await other.ask("DEL", "gone");
    await other.ask("SET", "others", "1");
    expect(await run()).toBe("*1\r\n+PONG\r\n");
    for (const command of ["UNWATCH", "DISCARD", "RESET"]) {
      await one.askAll([["WATCH", "gone"], ...(command === "DISCARD" ? [["MULTI"]] : []), [command]]);
      await other.askAll([["SET", "gone", "1"], ["DEL", "gone"]]);
      expect(await run()).toBe("*1\r\n+PONG\r\n");
    }
    await one.ask("WATCH", "gone");
    await other.askAll([["SET", "gone", "1"], ["DEL", "gone"]]);
    expect(await run()).toBe("*-1\r\n");
    expect(await run()).toBe("*1\r\n+PONG\r\n");
  });

  test("what a connection subscribes to, tracks, or watches in vain is counted, told and bounded", async () => {
    await stop();
    await start({ limits: { subscriptionsMax: 4 } });
    const peer = open();
    await peer.ask("HELLO", "3");
    await store.bucket("0").set("there", 1);
    await peer.ask("WATCH", "gone", "gone", "there");
    await peer.askAll([["WATCH", "gone"], ["SUBSCRIBE", "news"], ["CLIENT", "TRACKING", "ON"], ["WATCH", "lost"]]);
    const count = (): number => server.stats()["server.subscriptions"]!;
    expect(count()).toBe(4);
    const { clients } = await (await fetch(`${server.url.replace("ws:", "http:")}/v1/admin/clients`)).json() as {
      clients: unknown[];
    };
    expect(clients).toMatchObject([{
      subscriptionsTotal: 4,
      subscriptions: [{ channel: "news" }, { bucket: "0", revision: 1 }, { bucket: "0", key: "gone" }, { key: "lost" }],
    }]);
    for (const command of [["WATCH", "more"], ["SUBSCRIBE", "more"], ["PSUBSCRIBE", "__key*"]]) {
      expect(await peer.ask(...command)).toContain("this connection has 4 subscriptions, the most");
    }
    await peer.ask("UNWATCH");
    expect(count()).toBe(2);
    await peer.askAll([["WATCH", "gone"], ["MULTI"], ["EXEC"]]);
    expect(count()).toBe(2);
    await peer.askAll([["WATCH", "gone"], ["RESET"]]);
    expect(count()).toBe(0);
  });

  test("prefixes that are tracked are counted, told and bounded, in number and in length", async () => {
    await stop();
    await start({ limits: { subscriptionsMax: 4, patternBytesMax: 100 } });
    const peer = open();
    await peer.ask("HELLO", "3");
    const track = (...prefixes: string[]): Promise<string> => {
      return peer.ask("CLIENT", "TRACKING", "ON", "BCAST", ...prefixes.flatMap((prefix) => ["PREFIX", prefix]));
    };
    const count = (): number => server.stats()["server.subscriptions"]!;
    const tooMany = "-BUSY Cannot subscribe: this connection has 4 subscriptions, the most\r\n";
    const tooLong = (bytes: number): string => {
      return `-BUSY Cannot subscribe: patterns and prefixes of this connection would have ${bytes} bytes, ` +
        "at most 100 are allowed\r\n";
    };
    expect(await track("a", "b", "c", "d", "e")).toBe(tooMany);
    expect(await track("x".repeat(101))).toBe(tooLong(101));
    expect(count()).toBe(0);
    expect(await track("a", "b", "a")).toBe("+OK\r\n");
    expect(await track("b", "x".repeat(40))).toBe("+OK\r\n");
    expect(await track("e", "f")).toBe(tooMany);
    expect(await track("y".repeat(59))).toBe(tooLong(101));
    expect(await peer.ask("PSUBSCRIBE", "y".repeat(59))).toBe(tooLong(101));
    expect(count()).toBe(3);
    expect(await peer.ask("PSUBSCRIBE", "y".repeat(58))).toContain("psubscribe");
    expect(await track("")).toBe(tooMany);
    const { clients } = await (await fetch(`${server.url.replace("ws:", "http:")}/v1/admin/clients`)).json() as {
      clients: unknown[];
    };
    expect(clients).toMatchObject([{
      subscriptionsTotal: 4,
      subscriptions: [{ channel: "y".repeat(58) }, { prefix: "a" }, { prefix: "b" }, { prefix: "x".repeat(40) }],
    }]);
    expect(await peer.ask("CLIENT", "TRACKING", "OFF")).toBe("+OK\r\n");
    expect(count()).toBe(1);
    await peer.ask("RESET");
    expect(count()).toBe(0);
  });

  test("SCAN shows every key once, while others come and go", async () => {
    const peer = open();
    const wanted = Array.from({ length: 300 }, (_, index) => `key:${index}`);
    await peer.ask("MSET", ...wanted.flatMap((key) => [key, "1"]));
    const found: string[] = [];
    let cursor = "0";
    do {
      const reply = (await peer.ask("SCAN", cursor, "MATCH", "key:*", "COUNT", "7")).split("\r\n");
      cursor = reply[2]!;
      found.push(...reply.filter((line) => line.startsWith("key:")));
      await peer.ask("SET", `other:${found.length}`, "1");
    } while (cursor !== "0");
    expect(found.sort()).toEqual(wanted.sort());
    expect(await peer.ask("SCAN", "12345678")).toBe("-ERR invalid cursor\r\n");
  });

  test("RANDOMKEY gives one of the keys, and not always the same", async () => {
    const peer = open();
    expect(await peer.ask("RANDOMKEY")).toBe("$-1\r\n");
    await peer.ask("MSET", ...Array.from({ length: 500 }, (_, index) => [`user:${index}`, "1"]).flat());
    const found = await peer.askAll(Array.from({ length: 60 }, () => ["RANDOMKEY"]));
    expect(found.every((reply) => /^\$\d\r\nuser:\d+\r\n$/.test(reply))).toBe(true);
    expect(new Set(found).size).toBeGreaterThan(20);
  });

  // --- messages ---

  test("hear PUBLISH, by channel and by pattern, in both versions", async () => {
    const [listener, speaker] = [open(), open()];
    await listener.ask("HELLO", "3");
    expect(await listener.ask("SUBSCRIBE", "news")).toBe(">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    expect(await listener.ask("PSUBSCRIBE", "n*")).toBe(">3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:2\r\n");
    expect(await speaker.ask("PUBLISH", "news", "hi")).toBe(":2\r\n");
    expect(await listener.reply()).toBe(">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    expect(await listener.reply()).toBe(">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    expect(await listener.ask("GET", "a")).toBe("_\r\n");
    expect(await speaker.ask("SUBSCRIBE", "other")).toBe("*3\r\n$9\r\nsubscribe\r\n$5\r\nother\r\n:1\r\n");
    expect((await speaker.ask("GET", "a")).slice(0, 26)).toBe("-ERR Can't execute 'get': ");
    expect(await speaker.ask("PING")).toBe("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    expect(await speaker.ask("UNSUBSCRIBE")).toBe("*3\r\n$11\r\nunsubscribe\r\n$5\r\nother\r\n:0\r\n");
    expect(await speaker.ask("UNSUBSCRIBE")).toBe("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
    expect(await speaker.ask("GET", "a")).toBe("$-1\r\n");
  });

  test("are told of expiry when it happens, whatever protocol wrote the key", async () => {
    const listener = open();
    await listener.ask("SUBSCRIBE", "__keyevent@0__:expired");
    const began = performance.now();
    await store.bucket("0").set("a", 1, { ttl: 60 });
    expect(await listener.reply()).toBe("*3\r\n$7\r\nmessage\r\n$22\r\n__keyevent@0__:expired\r\n$1\r\na\r\n");
    const took = performance.now() - began;
    expect(took).toBeGreaterThan(55);
    // Redis looks at a few keys, ten times a second; what is asked of firkin is 50 ms, and a busy machine gets more.
    expect(took).toBeLessThan(1_000);
  });

  test("are told of changes in the order of the log, as far as CONFIG SET asks for", async () => {
    const [listener, writer] = [open(), open()];
    await listener.ask("PSUBSCRIBE", "__keyevent@0__:*");
    await writer.askAll([
      ["SET", "a", "1"],
      ["EXPIRE", "a", "100"],
      ["DEL", "a"],
      ["SET", "b", "1", "EX", "9"],
      ["EXPIREAT", "b", "1"],
    ]);
    const heard: string[] = [];
    for (let left = 7; left > 0; left--) heard.push((await listener.reply()).split("\r\n")[6]!);
    expect(heard.map((name) => name.slice(15))).toEqual(["set", "set", "expire", "del", "set", "expire", "del"]);
    expect(await writer.ask("CONFIG", "SET", "notify-keyspace-events", "Kg")).toBe("+OK\r\n");
    expect(await writer.ask("CONFIG", "GET", "notify-*")).toBe("*2\r\n$22\r\nnotify-keyspace-events\r\n$2\r\ngK\r\n");
    await writer.ask("SET", "b", "1");
    await writer.ask("CONFIG", "SET", "notify-keyspace-events", "E$");
    await writer.ask("SET", "c", "1");
    expect((await listener.reply()).split("\r\n")[6]).toBe("__keyevent@0__:set");
    expect((await writer.ask("CONFIG", "SET", "notify-keyspace-events", "q")).slice(0, 22)).toBe(
      "-ERR CONFIG SET failed",
    );
  });

  test("CLIENT TRACKING tells of what was read, once, whoever changes it, and of expiry", async () => {
    const [reader, writer] = [open(), open()];
    expect(await reader.ask("CLIENT", "TRACKING", "ON")).toContain("-ERR CLIENT TRACKING needs RESP3");
    await reader.ask("HELLO", "3");
    expect(await reader.ask("CLIENT", "TRACKING", "ON")).toBe("+OK\r\n");
    expect(await reader.ask("CLIENT", "GETREDIR")).toBe(":0\r\n");
    await store.bucket("0").set("short", 1, { ttl: 40 });
    await reader.askAll([["GET", "a"], ["MGET", "b", "short"], ["MULTI"], ["STRLEN", "c"], ["EXEC"]]);
    await writer.askAll([["SET", "never", "1"], ["SET", "a", "1"], ["SET", "a", "2"], ["INCR", "b"], [
      "SETEX",
      "c",
      "9",
      "x",
    ]]);
    const invalid = (key: string): string => `>2\r\n$10\r\ninvalidate\r\n*1\r\n$${key.length}\r\n${key}\r\n`;
    const told = [await reader.reply(), await reader.reply(), await reader.reply(), await reader.reply()];
    expect(told.sort()).toEqual(["a", "b", "c", "short"].map(invalid).sort());
    expect(await reader.ask("GET", "a")).toBe("$1\r\n2\r\n");
    await writer.ask("DEL", "a");
    expect(await reader.reply()).toBe(invalid("a"));
    expect(await reader.ask("SELECT", "1")).toContain("-ERR this connection tracks");
    expect(await reader.ask("CLIENT", "TRACKING", "ON", "BCAST")).toContain("-ERR You can't switch BCAST");
    expect(await reader.ask("CLIENT", "TRACKING", "OFF")).toBe("+OK\r\n");
    expect(await reader.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:")).toBe("+OK\r\n");
    await writer.askAll([["SET", "other", "1"], ["SET", "user:1", "1"], ["DEL", "user:1"]]);
    expect([await reader.reply(), await reader.reply()]).toEqual([invalid("user:1"), invalid("user:1")]);
    // Others come to those that there are.
    expect(await reader.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "b", "PREFIX", "user:")).toBe("+OK\r\n");
    await writer.askAll([["SET", "b", "1"], ["SET", "other", "1"], ["SET", "user:1", "1"]]);
    expect([await reader.reply(), await reader.reply()]).toEqual([invalid("b"), invalid("user:1")]);
    expect(await reader.ask("CLIENT", "TRACKING", "ON", "BCAST")).toBe("+OK\r\n");
    await writer.ask("SET", "other", "2");
    expect(await reader.reply()).toBe(invalid("other"));
    for (const options of [["OPTIN"], ["REDIRECT", "1"], ["PREFIX", "a"], ["BOGUS"]]) {
      expect((await reader.ask("CLIENT", "TRACKING", "ON", ...options)).slice(0, 4)).toBe("-ERR");
    }
  });

  // --- limits ---

  test("who sends what is not RESP is told and closed, and nobody else", async () => {
    const [one, other] = [open(), open()];
    one.send(Buffer.concat([encode(["SET", "a", "1"]), Buffer.from("*1\r\nx\r\n")]));
    expect([await one.reply(), await one.reply(), await one.reply()]).toEqual([
      "+OK\r\n",
      "-ERR Protocol error: expected '$', got 'x'\r\n",
      "closed",
    ]);
    expect(await other.ask("GET", "a")).toBe("$1\r\n1\r\n");
    expect(server.stats()["server.protocolErrors"]).toBe(1);
  });

  test("a value, key or transaction over a limit is refused, and the connection goes on", async () => {
    const peer = open();
    const long = new Uint8Array(1024 * 1024 + 1);
    const tooLong = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    expect(await peer.ask("SET", "a", long)).toBe(tooLong);
    expect(await peer.ask("MSET", "a", long)).toBe(tooLong);
    expect(await peer.ask("SET", "a", long, "NX")).toBe(tooLong);
    expect(await peer.ask("SETRANGE", "a", "1048576", "x")).toBe(tooLong);
    expect(await peer.ask("SET", "k".repeat(1_025), "v")).toContain("-ERR Cannot use a key of 1025 bytes");
    expect(await peer.ask("SET", "", "v")).toBe("-ERR Cannot use an empty key\r\n");
    const part = "x".repeat(600_000);
    await peer.ask("MULTI");
    for (let left = 3; left > 0; left--) expect(await peer.ask("SET", "a", part)).toBe("+QUEUED\r\n");
    expect(await peer.ask("SET", "a", part)).toBe("-ERR this transaction is too large\r\n");
    expect((await peer.ask("EXEC")).slice(0, 10)).toBe("-EXECABORT");
    expect(await peer.ask("EXISTS", "a")).toBe(":0\r\n");
  });

  test("a channel's name or a pattern that is longer than any name is refused, whatever takes it", async () => {
    const peer = open();
    const most = `__keyspace@${"b".repeat(64)}__:${"k".repeat(1_024)}`;
    await peer.ask("HELLO", "3");
    expect(await peer.ask("SUBSCRIBE", most)).toContain("subscribe");
    expect(await peer.ask("PSUBSCRIBE", `${most}*`)).toContain("psubscribe");
    const long = "*a".repeat(577);
    for (
      const command of [
        ["SUBSCRIBE", long],
        ["PSUBSCRIBE", `__keyspace@b__:${long}`],
        ["PUBLISH", long, "news"],
        ["KEYS", long],
        ["SCAN", "0", "MATCH", long],
        ["CONFIG", "GET", ...Array.from({ length: 20 }, () => "p".repeat(60))],
        ["COMMAND", "LIST", "FILTERBY", "PATTERN", long],
      ]
    ) {
      expect([command[0], await peer.ask(...command)]).toEqual([
        command[0],
        expect.stringContaining("-ERR Cannot use a name"),
      ]);
    }
    expect(server.stats()["server.subscriptions"]).toBe(2);
  });

  test("who does not read is not read from, and closed in the end", async () => {
    await stop();
    await start({ limits: { outboundMs: 300, outboundBytesMax: 64 * 1024 } });
    const peer = open();
    await peer.ask("SET", "a", "x".repeat(1_000_000));
    peer.socket.pause();
    for (let left = 200; left > 0; left--) peer.send(encode(["GET", "a"]));
    const closed = new Promise((resolve) => peer.socket.once("close", resolve));
    while (server.stats()["server.slowReaders"] !== 1) await settled();
    peer.socket.resume();
    await closed;
    expect(server.stats()["server.bytesOut"]!).toBeLessThan(60_000_000);
  });

  test("who reads late gets everything, in order", async () => {
    await stop();
    await start({ limits: { outboundBytesMax: 64 * 1024 } });
    const peer = open();
    await peer.ask("SET", "a", "x".repeat(500_000));
    peer.socket.pause();
    for (let index = 0; index < 40; index++) {
      peer.send(Buffer.concat([encode(["GET", "a"]), encode(["ECHO", `${index}`])]));
    }
    // The server has sent what the system takes, and waits.
    for (let before = -1; before !== server.stats()["server.bytesOut"];) {
      before = server.stats()["server.bytesOut"]!;
      for (let left = 20; left > 0; left--) await settled();
    }
    expect(server.stats()["server.bytesOut"]!).toBeLessThan(15_000_000);
    peer.socket.resume();
    for (let index = 0; index < 40; index++) {
      expect((await peer.reply()).length).toBe("$500000\r\n\r\n".length + 500_000);
      expect(await peer.reply()).toBe(`$${`${index}`.length}\r\n${index}\r\n`);
    }
  });

  test("close() answers what runs", async () => {
    const peer = open();
    await peer.ask("PING");
    peer.send(Buffer.concat(Array.from({ length: 50 }, (_, index) => encode(["SET", `k${index}`, "v"]))));
    await peer.reply();
    await server.close();
    let answered = 1;
    for (let reply = await peer.reply(); reply !== "closed"; reply = await peer.reply()) answered++;
    expect(answered).toBe(50);
    server = house.server = await serve({ store, port: 0, redis: { port: 0 } });
  });
});
