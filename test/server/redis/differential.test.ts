/**
 * The same commands to firkin and to a redis-server 7: the same replies, byte for byte.
 *
 * Sequences are drawn from a seed, over few keys and values, so that commands meet what others have left; a part of the
 * arguments is wrong on purpose. Each is run in both versions of RESP. A seed that fails is printed with the commands
 * that led there. `FIRKIN_REDIS_SEED` and `FIRKIN_REDIS_COMMANDS` choose others than the usual.
 *
 * What differs on purpose is in docs/REDIS.md, and is not drawn here.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { EmbeddedEngine } from "../../../lib/engine/embedded.ts";
import { connect } from "../../../lib/store/connect.ts";
import { Store } from "../../../lib/store/store.ts";
import { serve, type Server } from "../../../server/mod.ts";
import { randomOf } from "../../suites/random.ts";
import { findTool } from "../../suites/tools.ts";
import { openMemoryEngine } from "../../wire/loopback.ts";
import { RespPeer } from "./peer.ts";

const redisServer = findTool("redis-server");
const SEED = Number(process.env["FIRKIN_REDIS_SEED"] ?? 1);
const COMMANDS = Number(process.env["FIRKIN_REDIS_COMMANDS"] ?? 2_000);
const PIPELINE_MAX = 12;

type Draw = (below: number) => number;
type Args = readonly string[];

const KEYS = ["a", "b", "c", "key:1", "key:2", "\u0000\u00ff"];
const INTEGERS = ["0", "1", "-1", "7", "42", "9223372036854775807", "-9223372036854775808", "9223372036854775808"];
const ODD_NUMBERS = ["01", "+1", " 1", "1 ", "", "-0", "1.0", "abc", "1e3"];
const FLOATS = ["0.1", "-2.5", "3", "1e2", "5.", ".5", "-0", "0.0000001", "abc", "inf", "1e400x", "", "3.0", "200"];
const TEXTS = ["", "hello", "Hello World", "\u00e4\u00ff\u0000", "x".repeat(60), "10", "3.25"];
/** Far away, so that nothing expires meanwhile. */
const MOMENTS = ["4102444800", "4102444801", "4102448400"];

function pick(draw: Draw, ...lists: (readonly string[])[]): string {
  const all = lists.flat();
  return all[draw(all.length)]!;
}

/** In one case of many, what nobody should send. */
function rarely(draw: Draw, usual: string, odd: readonly string[]): string {
  return draw(12) === 0 ? pick(draw, odd) : usual;
}

function expiryOption(draw: Draw): Args {
  switch (draw(6)) {
    case 0:
      return ["EXAT", rarely(draw, pick(draw, MOMENTS), [...ODD_NUMBERS, "0", "-5", "9223372036854775807"])];
    case 1:
      return ["pxat", rarely(draw, `${pick(draw, MOMENTS)}123`, [...ODD_NUMBERS, "0"])];
    case 2:
      return ["EX", rarely(draw, "100000", [...ODD_NUMBERS, "0", "-1", "9223372036854775807"])];
    case 3:
      return ["PX", rarely(draw, "100000000", [...ODD_NUMBERS, "0", "-1"])];
    case 4:
      return ["KEEPTTL"];
    default:
      return draw(8) === 0 ? [pick(draw, ["EX", "PERSIST", "FOO"])] : [];
  }
}

function setOptions(draw: Draw): Args {
  const options: string[] = [...expiryOption(draw)];
  if (draw(3) === 0) options.push(pick(draw, ["NX", "XX", "nx"]));
  if (draw(4) === 0) options.push("GET");
  if (draw(30) === 0) options.push(pick(draw, ["NX", "XX", "KEEPTTL", "BOGUS"]));
  return options;
}

function expireArgs(draw: Draw): Args {
  const form = draw(5);
  // Which of two times from now on is the later one is a matter of milliseconds.
  const known = form < 2 ? ["NX", "XX", "nx"] : ["NX", "XX", "GT", "LT", "gt"];
  const conditions = draw(2) === 0 ? [] : [pick(draw, known)];
  if (draw(10) === 0) conditions.push(pick(draw, [...known, "BAD"]));
  switch (form) {
    case 0:
      return [
        "EXPIRE",
        key(draw),
        rarely(draw, "100000", [...ODD_NUMBERS, "-1", "9223372036854775807"]),
        ...conditions,
      ];
    case 1:
      return ["PEXPIRE", key(draw), rarely(draw, "100000000", [...ODD_NUMBERS, "0"]), ...conditions];
    case 2:
      return ["EXPIREAT", key(draw), rarely(draw, pick(draw, MOMENTS), [...ODD_NUMBERS, "1", "-1"]), ...conditions];
    case 3:
      return ["PEXPIREAT", key(draw), rarely(draw, `${pick(draw, MOMENTS)}500`, ["1", "0", "x"]), ...conditions];
    default:
      return ["PERSIST", key(draw)];
  }
}

function key(draw: Draw): string {
  return pick(draw, KEYS);
}

function value(draw: Draw): string {
  return pick(draw, TEXTS, INTEGERS, ODD_NUMBERS, FLOATS);
}

function keys(draw: Draw): Args {
  return Array.from({ length: 1 + draw(4) }, () => key(draw));
}

function pairs(draw: Draw): Args {
  const all = Array.from({ length: 1 + draw(3) }, () => [key(draw), value(draw)]).flat();
  return draw(20) === 0 ? all.slice(1) : all;
}

/** How each command is drawn; those that matter more come more often. */
const DRAWN: readonly ((draw: Draw) => Args)[] = [
  (draw) => ["GET", key(draw)],
  (draw) => ["SET", key(draw), value(draw)],
  (draw) => ["SET", key(draw), value(draw), ...setOptions(draw)],
  (draw) => ["SET", key(draw), value(draw), ...setOptions(draw)],
  (draw) => ["SETNX", key(draw), value(draw)],
  (draw) => ["SETEX", key(draw), rarely(draw, "100000", [...ODD_NUMBERS, "0", "-1"]), value(draw)],
  (draw) => ["PSETEX", key(draw), rarely(draw, "100000000", [...ODD_NUMBERS, "0"]), value(draw)],
  (draw) => ["GETSET", key(draw), value(draw)],
  (draw) => ["GETDEL", key(draw)],
  (draw) => ["GETEX", key(draw), ...expiryOption(draw)],
  (draw) => ["GETEX", key(draw), ...(draw(2) === 0 ? ["PERSIST"] : ["EXAT", "1"])],
  (draw) => ["MGET", ...keys(draw)],
  (draw) => ["MSET", ...pairs(draw)],
  (draw) => ["MSETNX", ...pairs(draw)],
  (draw) => ["APPEND", key(draw), value(draw)],
  (draw) => ["STRLEN", key(draw)],
  (draw) => [pick(draw, ["GETRANGE", "SUBSTR"]), key(draw), pick(draw, INTEGERS, ODD_NUMBERS), pick(draw, INTEGERS)],
  (draw) => ["GETRANGE", key(draw), String(draw(20) - 10), String(draw(20) - 10)],
  (
    draw,
  ) => ["SETRANGE", key(draw), rarely(draw, String(draw(30)), [...ODD_NUMBERS, "-1", "9999999999999"]), value(draw)],
  (draw) => [pick(draw, ["INCR", "DECR"]), key(draw)],
  (draw) => [pick(draw, ["INCRBY", "DECRBY"]), key(draw), pick(draw, INTEGERS, ODD_NUMBERS)],
  (draw) => ["INCRBYFLOAT", key(draw), pick(draw, FLOATS)],
  (draw) => [pick(draw, ["DEL", "UNLINK"]), ...keys(draw)],
  (draw) => ["EXISTS", ...keys(draw)],
  expireArgs,
  expireArgs,
  (draw) => [pick(draw, ["TTL", "PTTL"]), key(draw)],
  (draw) => [pick(draw, ["EXPIRETIME", "PEXPIRETIME"]), key(draw)],
  (draw) => ["TYPE", key(draw)],
  (draw) => ["RENAME", key(draw), key(draw)],
  (draw) => ["RENAMENX", key(draw), key(draw)],
  (draw) => ["COPY", key(draw), key(draw), ...(draw(2) === 0 ? ["REPLACE"] : [])],
  (draw) => ["COPY", key(draw), key(draw), "DB", pick(draw, ["0", "1", "2", "16", "-1", "x"])],
  (draw) => ["KEYS", pick(draw, ["*", "key:*", "[ab]", "?", "[^a]", "nothing", "key:[1-1]", "\\a"])],
  (draw) => ["SELECT", pick(draw, ["0", "1", "1", "2", "15", "16", "-1", "99999999999"])],
  () => ["DBSIZE"],
  (draw) => ["PING", ...(draw(2) === 0 ? [] : [value(draw)])],
  (draw) => ["ECHO", value(draw)],
  () => ["MULTI"],
  () => ["EXEC"],
  () => ["EXEC"],
  (draw) => draw(4) === 0 ? ["DISCARD"] : ["EXEC"],
  (draw) => ["WATCH", ...keys(draw)],
  () => ["UNWATCH"],
  (draw) =>
    pick(draw, [
      "NOPE a b",
      "GET",
      "SET a",
      "OBJECT",
      "OBJECT BOGUS a",
      "CLIENT NOPE",
      "get a b",
      "DEBUG JMAP",
      "AUTH x",
      "PING a b",
      "EXPIRE a",
      "COPY a b BOGUS",
      "CONFIG NOPE",
      "SELECT 1.5",
      "PUBLISH c m",
      "CLIENT GETNAME",
      "ACL WHOAMI",
      "RESET",
      "FLUSHDB BOGUS",
      "SCAN x",
      "SCAN 0 COUNT 0",
      "SCAN 0 COUNT",
      "COMMAND NOPE",
      "HELLO 4",
      "HELLO x",
      "MEMORY NOPE",
      "CONFIG GET nothing",
      "CONFIG SET nothing 1",
    ]).split(" "),
];

/** Commands that are no part of a transaction here (docs/REDIS.md). */
const NEVER_QUEUED = ["KEYS", "DBSIZE", "SCAN", "FLUSHDB", "HELLO", "AUTH"];

/** Draws commands, one after the other. */
class Drawing {
  readonly #draw: Draw;
  readonly #next: Args[] = [];
  #inTransaction = false;

  constructor(draw: Draw) {
    this.#draw = draw;
  }

  /** Commands that show all keys; none inside of a transaction, where they would be part of it. */
  probes(): readonly Args[] {
    if (this.#inTransaction || this.#next.length > 0) return [];
    return [["MGET", ...KEYS], ...KEYS.map((key) => ["PEXPIRETIME", key])];
  }

  next(): Args {
    for (;;) {
      const args = this.#next.shift() ?? DRAWN[this.#draw(DRAWN.length)]!(this.#draw);
      const [name = "", first = ""] = args;
      if (this.#inTransaction && NEVER_QUEUED.includes(name)) continue;
      if (name === "MULTI" && args.length === 1) this.#inTransaction = true;
      if (["EXEC", "DISCARD", "RESET"].includes(name)) this.#inTransaction = false;
      if (name === "WATCH" && !this.#inTransaction && this.#next.length === 0 && this.#draw(2) === 0) {
        // Of a key that was not there, one must see that it has come and gone.
        this.#next.push(["DEL", first], args, ["SET", first, "1"], ["DEL", first], ["MULTI"], ["PING"], ["EXEC"]);
        continue;
      }
      return args;
    }
  }
}

/** True when replies say the same: keys in any order, and times that pass at most a second apart. */
function isSame([name, version]: Args, ours: string, theirs: string): boolean {
  if (ours === theirs) return true;
  // What it tells about the server is another one.
  if (name === "HELLO" && /^[23]$/.test(version ?? "")) return true;
  if (name === "KEYS") return ours.split("$").sort().join() === theirs.split("$").sort().join();
  const [left, right] = [ours.split("\r\n"), theirs.split("\r\n")];
  return left.length === right.length &&
    left.every((line, index) => line === right[index] || isNear(line, right[index]!));
}

function isNear(left: string, right: string): boolean {
  const isTime = /^:\d{5,13}$/;
  return isTime.test(left) && isTime.test(right) && Math.abs(Number(left.slice(1)) - Number(right.slice(1))) <= 1_000;
}

interface Pair {
  readonly firkin: RespPeer;
  readonly redis: RespPeer;
}

describe.skipIf(redisServer === undefined)("firkin and redis-server", () => {
  let folder: string;
  let child: ChildProcess;
  let engine: EmbeddedEngine;
  let server: Server;
  /** Serves the same keys as a client of `server`: an engine that reads nothing at once. */
  let remote: Store;
  let front: Server;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "firkin-redis-"));
    const socket = join(folder, "redis.sock");
    const flags = ["--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder, "--loglevel", "notice"];
    child = spawn(redisServer!, flags, { stdio: ["ignore", "pipe", "ignore"] });
    await new Promise<void>((resolve, reject) => {
      child.once("exit", () => reject(new Error("redis-server ended")));
      child.stdout!.on("data", (text) => {
        if (String(text).includes("eady to accept") || existsSync(socket)) resolve();
      });
    });
    engine = await openMemoryEngine(undefined, { sync: "os" });
    server = await serve({ store: new Store(engine), port: 0, redis: { port: 0 } });
    remote = await connect(server.url);
    front = await serve({ store: remote, port: 0, redis: { port: 0 } });
  });

  afterAll(async () => {
    await front.close();
    await remote.close();
    await server.close();
    await engine.close();
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });

  function open({ redisUrl }: Server): Pair {
    const { port } = new URL(redisUrl!);
    return {
      firkin: new RespPeer({ host: "127.0.0.1", port: Number(port) }),
      redis: new RespPeer({ path: join(folder, "redis.sock") }),
    };
  }

  async function both(pair: Pair, commands: readonly Args[]): Promise<[string[], string[]]> {
    const latin1 = commands.map((args) => args.map((arg) => Uint8Array.from(arg, (letter) => letter.charCodeAt(0))));
    return await Promise.all([pair.firkin.askAll(latin1), pair.redis.askAll(latin1)]);
  }

  test.each([2, 3])("say the same to random commands (RESP%d)", (version) => compare(server, version, COMMANDS));

  test("say the same when firkin's engine is a client of another server", () => compare(front, 3, COMMANDS / 4));

  async function compare(target: Server, version: number, count: number): Promise<void> {
    const seed = SEED * 2 + version;
    const draw = randomOf(seed);
    const drawing = new Drawing(draw);
    const pair = open(target);
    await both(pair, [["HELLO", String(version)], ["FLUSHALL"]]);
    for (let left = count; left > 0;) {
      const commands = Array.from({ length: 1 + draw(PIPELINE_MAX) }, () => drawing.next());
      commands.push(...drawing.probes());
      // RESET goes back to version 2.
      const all = commands.flatMap((args) => args[0] === "RESET" ? [args, ["HELLO", String(version)]] : [args]);
      left -= all.length;
      const [ours, theirs] = await both(pair, all);
      for (const [index, args] of all.entries()) {
        const [reply, expected] = [ours[index]!, theirs[index]!];
        if (isSame(args, reply, expected)) continue;
        console.error(`seed ${seed}, in this pipeline:`, JSON.stringify(all.slice(0, index + 1)));

        expect({ args, reply }).toEqual({ args, reply: expected });
      }
    }
    pair.firkin.close();
    pair.redis.close();
  }
});
