/**
 * What a server does when nothing holds it up: messages of 16 requests made beforehand, sent by a program without a
 * runtime (`load.c`), against `redis-benchmark -P 16` on redis-server.
 *
 * The program is built where there is a C compiler. Messages carry the mask of zeros, so that they travel as they are.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { connect } from "../mod.ts";
import { CborWriter } from "../lib/wire/cbor.ts";
import { OP, SHAPES, SUBPROTOCOL, VERSION } from "../lib/wire/protocol.ts";
import { CLIENT_CORE, cpuOf, pin, SERVER_CORE } from "./core.ts";
import { temporaryFolder } from "./harness.ts";
import { type RedisServer, startRedis } from "./redis.ts";
import { type Server, startServer } from "./server.ts";
import { load, VALUE_BYTES, Workload } from "./workload.ts";

const REQUESTS_PER_MESSAGE = 16;
const MESSAGES_OUTSTANDING = 32;
/** Different messages, sent over and over. */
const MESSAGES_MADE = 2_000;
const CONNECTIONS_OF_REDIS = 50;
const ID_MAX = 2 ** 32 - 1;

/** What one row of gets took. */
export interface Load {
  readonly perSecond: number;
  /** Microseconds of the server's processor for each. */
  readonly server: number;
}

/** Both servers, loaded, and what asks them. */
export class Capacity {
  readonly #server: Server;
  readonly #redis: RedisServer;
  readonly #program: string;
  readonly #messages: string;

  constructor(
    server: Server,
    redis: RedisServer,
    program: string,
    messages: string,
  ) {
    this.#server = server;
    this.#redis = redis;
    this.#program = program;
    this.#messages = messages;
  }

  /** Starts and loads both; undefined where there is no compiler. */
  static async start(): Promise<Capacity | undefined> {
    const program = build();
    if (program === undefined) return undefined;
    const server = await startServer("os");
    pin(server.pid, SERVER_CORE);
    const store = await connect(server.url);
    const workload = new Workload();
    await load(workload, store.bucket("users", { codec: "bytes" }));
    await store.close();
    const redis = await startRedis("none");
    pin(redis.pid, SERVER_CORE);
    const flags = [
      "-p",
      String(redis.port),
      "-P",
      "16",
      "-r",
      String(workload.keys),
      "-d",
      String(VALUE_BYTES),
    ];
    spawnSync("redis-benchmark", [
      ...flags,
      "-n",
      String(workload.keys * 10),
      "-t",
      "set",
    ], { stdio: "ignore" });
    const messages = temporaryFolder();
    writeFileSync(messages, messagesOf(workload, new URL(server.url).port));
    return new Capacity(server, redis, program, messages);
  }

  /** A row of gets of firkin. */
  async firkin(quick: boolean): Promise<Load> {
    const messages = quick ? 5_000 : 40_000;
    const before = cpuOf(this.#server.pid);
    const { port } = new URL(this.#server.url);
    const output = await run(this.#program, [
      port,
      this.#messages,
      String(MESSAGES_OUTSTANDING),
      String(messages),
      String(REQUESTS_PER_MESSAGE),
    ]);
    const [seconds, bytes] = output.split(" ").map(Number);
    const requests = messages * REQUESTS_PER_MESSAGE;
    if (!(bytes! > requests * VALUE_BYTES)) {
      throw new Error("Cannot trust the figures: values are missing");
    }
    return {
      perSecond: requests / seconds!,
      server: (cpuOf(this.#server.pid) - before) / requests,
    };
  }

  /** A row of gets of Redis. */
  async redis(quick: boolean): Promise<Load> {
    const requests = quick ? 100_000 : 600_000;
    const before = cpuOf(this.#redis.pid);
    const flags = [
      "-p",
      String(this.#redis.port),
      "-P",
      String(REQUESTS_PER_MESSAGE),
      "-r",
      "100000",
      "-t",
      "get",
    ];
    const clients = [
      "-c",
      String(CONNECTIONS_OF_REDIS),
      "-n",
      String(requests),
    ];
    const output = await run("redis-benchmark", [
      ...flags,
      ...clients,
      "--csv",
    ]);
    const perSecond = Number(/"GET","([\d.]+)"/.exec(output)?.[1]);
    return { perSecond, server: (cpuOf(this.#redis.pid) - before) / requests };
  }

  /** Ends both. */
  async stop(): Promise<void> {
    await this.#server.stop();
    await this.#redis.stop();
  }
}

/** Compiles the program; undefined when that cannot be. */
function build(): string | undefined {
  const here = fileURLToPath(new URL("load.c", import.meta.url));
  // On Node this file is compiled into a folder of build/, and the C stays where it is.
  const source = existsSync(here) ? here : fileURLToPath(new URL("../../../bench/load.c", import.meta.url));
  const program = temporaryFolder();
  return spawnSync("cc", ["-O2", "-o", program, source], { stdio: "inherit" })
      .status === 0
    ? program
    : undefined;
}

async function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  pin(child.pid!, CLIENT_CORE);
  let output = "";
  child.stdout.on("data", (chunk) => output += String(chunk));
  const [code] = await once(child, "close") as [number];
  if (code !== 0) {
    throw new Error(`Cannot measure: ${program} ended with ${code}`);
  }
  return output;
}

// --- messages as they travel ---

/** The HTTP request that opens a WebSocket. */
export function handshakeTo(
  port: string | number,
  protocol: string = SUBPROTOCOL,
): Uint8Array {
  return new TextEncoder().encode(
    `GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
  );
}

/** A client's binary message with a payload of up to 65,535 bytes. */
export function messageOf(payload: Uint8Array): Uint8Array {
  const { length } = payload;
  const head = length < 126 ? [0x82, 0x80 | length] : [0x82, 0xfe, length >> 8, length & 0xff];
  const message = new Uint8Array(head.length + 4 + length);
  message.set(head);
  message.set(payload, head.length + 4);
  return message;
}

/** Begins a request's frame. */
export function requestTo(writer: CborWriter, op: number, id: number): void {
  writer.array(2 + SHAPES[op]!.args);
  writer.uint(op);
  writer.uint(id);
}

/** The first message of a connection. */
export function helloOf(writer: CborWriter): Uint8Array {
  requestTo(writer, OP.hello, ID_MAX);
  writer.uint(VERSION);
  writer.null();
  return messageOf(writer.take());
}

function messagesOf(workload: Workload, port: string): Uint8Array {
  const writer = new CborWriter();
  const encoder = new TextEncoder();
  const pieces = [handshakeTo(port), helloOf(writer)];
  let id = 0;
  for (let made = 0; made < MESSAGES_MADE; made++) {
    for (let request = 0; request < REQUESTS_PER_MESSAGE; request++) {
      requestTo(writer, OP.get, ++id);
      writer.text("users");
      writer.bytes(encoder.encode(workload.present()));
    }
    pieces.push(messageOf(writer.take()));
  }
  const all: number[][] = pieces.map((piece) => {
    const { length } = piece;
    return [
      length & 0xff,
      (length >> 8) & 0xff,
      (length >> 16) & 0xff,
      0,
      ...piece,
    ];
  });
  return Uint8Array.from(all.flat());
}
