/**
 * Events and idle connections: firkin against bare WebSockets of the same runtime.
 *
 * Subscribers are sockets that speak just enough WebSocket to count what comes: with a client for each of a thousand,
 * the clients would be what is measured. What reaches them is checked by its length, and of one of them event by event.
 *
 * @module
 */
import { once } from "node:events";
import { connect as connectSocket, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type Store } from "../mod.ts";
import { CborReader, CborWriter } from "../lib/wire/cbor.ts";
import { FRAME, OP, writeSubscribeQuery } from "../lib/wire/protocol.ts";
import { handshakeTo, helloOf, messageOf, requestTo } from "./capacity.ts";
import { type Child, startChild } from "./child.ts";
import { cpuOf, memoryOf, pin, SERVER_CORE } from "./core.ts";
import { type Server, startServer } from "./server.ts";

const GROUP = 16;
const SUBSCRIBERS = 1_000;
/** Groups on their way at once. */
const GROUPS_OUTSTANDING = 4;
const VALUE = new Uint8Array(100).fill(7);
/** Connections opened at once, within what a system keeps waiting. */
const OPENING = 100;

/** What deliveries cost. */
export interface Deliveries {
  readonly perSecond: number;
  /** Microseconds of the server's processor for each event at each subscriber. */
  readonly server: number;
}

// --- a socket that counts ---

/** One connection: what has come over it, in messages. */
class Counter {
  readonly socket: Socket;
  messages = 0;
  bytes = 0;
  onMessage: ((payload: Uint8Array) => void) | undefined;
  #input: Uint8Array = new Uint8Array(0);
  #upgraded = false;
  #ended = false;

  constructor(port: number) {
    this.socket = connectSocket(port, "127.0.0.1");
    this.socket.setNoDelay(true);
    this.socket.on("data", (chunk: Uint8Array) => this.#read(chunk));
    this.socket.on("close", () => {
      if (!this.#ended) {
        throw new Error("Cannot measure: a connection was closed");
      }
    });
  }

  /** Closes it. */
  end(): void {
    this.#ended = true;
    this.socket.destroy();
  }

  /** Opens one and waits until the server has answered the handshake. */
  static async open(port: number, protocol?: string): Promise<Counter> {
    const counter = new Counter(port);
    counter.socket.write(handshakeTo(port, protocol));
    while (!counter.#upgraded) await once(counter.socket, "data");
    return counter;
  }

  /** Resolves when this many messages have come. */
  async reach(messages: number): Promise<void> {
    while (this.messages < messages) await once(this.socket, "data");
  }

  #read(chunk: Uint8Array): void {
    let input = chunk;
    if (this.#input.length > 0) {
      input = new Uint8Array(this.#input.length + chunk.length);
      input.set(this.#input);
      input.set(chunk, this.#input.length);
    }
    let at = 0;
    if (!this.#upgraded) {
      at = endOfHead(input);
      this.#upgraded = at > 0;
    }
    while (this.#upgraded && input.length - at >= 2) {
      const short = input[at + 1]! & 127;
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (input.length - at < head) break;
      let length = head === 2 ? short : 0;
      for (let index = 2; index < head; index++) {
        length = length * 256 + input[at + index]!;
      }
      if (input.length - at < head + length) break;
      this.messages++;
      this.bytes += length;
      this.onMessage?.(input.subarray(at + head, at + head + length));
      at += head + length;
    }
    this.#input = input.slice(at);
  }
}

function endOfHead(bytes: Uint8Array): number {
  for (let at = 3; at < bytes.length; at++) {
    if (
      bytes[at - 3] === 13 && bytes[at - 2] === 10 && bytes[at - 1] === 13 &&
      bytes[at] === 10
    ) return at + 1;
  }
  return 0;
}

async function openAll(
  count: number,
  open: () => Promise<Counter>,
): Promise<Counter[]> {
  const all: Counter[] = [];
  while (all.length < count) {
    all.push(
      ...await Promise.all(
        Array.from({ length: Math.min(OPENING, count - all.length) }, open),
      ),
    );
  }
  return all;
}

/** A connection that has said hello, and subscribed to the bucket `events` when asked. */
async function openFirkin(port: number, subscribed: boolean): Promise<Counter> {
  const counter = await Counter.open(port);
  const writer = new CborWriter();
  counter.socket.write(helloOf(writer));
  await counter.reach(1);
  if (!subscribed) return counter;
  requestTo(writer, OP.subscribe, 1);
  writeSubscribeQuery(writer, { bucket: "events" });
  writer.null();
  counter.socket.write(messageOf(writer.take()));
  await counter.reach(2);
  return counter;
}

// --- fan-out ---

/** firkin and a bare server, each with its subscribers. */
export class FanOut {
  readonly #server: Server;
  readonly #store: Store;
  readonly #raw: Child;
  readonly #rawPort: number;
  readonly #subscribers: readonly Counter[];
  readonly #rawSubscribers: readonly Counter[];
  #group: Uint8Array = new Uint8Array(0);

  constructor(
    server: Server,
    store: Store,
    raw: Child,
    rawPort: number,
    subscribers: Counter[],
    rawSubscribers: Counter[],
  ) {
    this.#server = server;
    this.#store = store;
    this.#raw = raw;
    this.#rawPort = rawPort;
    this.#subscribers = subscribers;
    this.#rawSubscribers = rawSubscribers;
  }

  /** Starts both. */
  static async start(): Promise<FanOut> {
    const server = await startServer("os");
    pin(server.pid, SERVER_CORE);
    const port = Number(new URL(server.url).port);
    const subscribers = await openAll(
      SUBSCRIBERS,
      () => openFirkin(port, true),
    );
    const store = await connect(server.url);
    const { child, port: rawPort } = await startRaw();
    const rawSubscribers = await openAll(
      SUBSCRIBERS,
      () => Counter.open(rawPort, "raw"),
    );
    return new FanOut(
      server,
      store,
      child,
      rawPort,
      subscribers,
      rawSubscribers,
    );
  }

  /** Sets groups, and waits until every subscriber has every event. */
  async firkin(groups: number): Promise<Deliveries> {
    const events = this.#store.bucket<Uint8Array>("events", { codec: "bytes" });
    const first = this.#subscribers[0]!;
    const reader = new CborReader();
    let seen = 0;
    const all = new Promise<void>((resolve) => {
      first.onMessage = (payload) => {
        if (this.#group.length === 0) this.#group = payload.slice();
        reader.reset(payload);
        while (!reader.atEnd()) {
          const start = reader.position;
          reader.frame();
          if (reader.uint() === FRAME.change) seen++;
          reader.seek(start);
          reader.skip();
        }
        if (seen === groups * GROUP) resolve();
      };
    });
    const before = this.#subscribers.map(({ bytes }) => bytes);
    const cpu = cpuOf(this.#server.pid);
    const started = performance.now();
    await inTurn(groups, async (group) => {
      await Promise.all(
        Array.from(
          { length: GROUP },
          (_, index) => events.set(`event:${group}:${index}`, VALUE),
        ),
      );
    });
    await all;
    await settle(() => {
      const wanted = first.bytes - before[0]!;
      return this.#subscribers.every(({ bytes }, index) => bytes - before[index]! >= wanted);
    });
    const took = performance.now() - started;
    first.onMessage = undefined;
    return figures(groups, took, cpuOf(this.#server.pid) - cpu);
  }

  /** The same bytes through a bare server. */
  async raw(groups: number): Promise<Deliveries> {
    const publisher = await Counter.open(this.#rawPort, "raw");
    const before = this.#rawSubscribers.map(({ messages }) => messages);
    const message = messageOf(this.#group);
    const cpu = cpuOf(this.#raw.process.pid!);
    const started = performance.now();
    await inTurn(groups, async (group) => {
      publisher.socket.write(message);
      await publisher.reach(group + 1);
    });
    await settle(() => {
      return this.#rawSubscribers.every(({ messages }, index) => messages - before[index]! >= groups);
    });
    const took = performance.now() - started;
    publisher.end();
    return figures(groups, took, cpuOf(this.#raw.process.pid!) - cpu);
  }

  /** Ends both. */
  async stop(): Promise<void> {
    for (const counter of [...this.#subscribers, ...this.#rawSubscribers]) {
      counter.end();
    }
    await this.#store.close();
    await this.#server.stop();
    this.#raw.process.kill("SIGTERM");
    await this.#raw.ended;
  }
}

function figures(groups: number, took: number, cpu: number): Deliveries {
  const deliveries = groups * GROUP * SUBSCRIBERS;
  return { perSecond: deliveries / took * 1_000, server: cpu / deliveries };
}

async function inTurn(
  count: number,
  call: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < count) await call(next++);
  };
  await Promise.all(Array.from({ length: GROUPS_OUTSTANDING }, loop));
}

async function settle(done: () => boolean): Promise<void> {
  const last = performance.now() + 30_000;
  while (!done()) {
    if (performance.now() > last) {
      throw new Error("Cannot trust the figures: events are missing");
    }
    await sleep(1);
  }
}

async function startRaw(): Promise<{ child: Child; port: number }> {
  const child = startChild("raw_server.ts", [], "stdout");
  const [line] = await once(child.lines, "line") as [string];
  pin(child.process.pid!, SERVER_CORE);
  return { child, port: Number(line) };
}

// --- memory ---

/** Bytes of memory that each of `count` idle connections costs a server. */
export interface Idle {
  readonly firkin: number;
  readonly raw: number;
}

/** Opens idle connections to both. */
export async function idleConnections(count: number): Promise<Idle> {
  const server = await startServer("os");
  const port = Number(new URL(server.url).port);
  const firkin = await grown(server.pid, count, () => openFirkin(port, false));
  await server.stop();
  const { child, port: rawPort } = await startRaw();
  const raw = await grown(
    child.process.pid!,
    count,
    () => Counter.open(rawPort, "raw"),
  );
  child.process.kill("SIGTERM");
  await child.ended;
  return { firkin, raw };
}

async function grown(
  pid: number,
  count: number,
  open: () => Promise<Counter>,
): Promise<number> {
  // The first connections pay for what all share, and for the heap's first growth.
  const warm = await openAll(count / 4, open);
  const before = memoryOf(pid);
  const all = await openAll(count, open);
  const bytes = memoryOf(pid) - before;
  for (const counter of [...warm, ...all]) counter.end();
  await sleep(50);
  return bytes / count;
}

// --- readers that do not read ---

/** What others notice of readers that never read. */
export interface Muted {
  /** p99 of a get, milliseconds: beside as many readers that read, and beside those that do not. */
  readonly beside: number;
  readonly besideMute: number;
  /** Bytes of each of the idle connections. */
  readonly idle: number;
  /** Seconds from the first event until all of them were cut. */
  readonly cutAfter: number;
}

/** A tenth of the connections subscribes to what is written, and reads, or never does; the others are idle. */
export async function muteReaders(connections: number): Promise<Muted> {
  const server = await startServer("os");
  pin(server.pid, SERVER_CORE);
  const port = Number(new URL(server.url).port);
  const mute = Math.ceil(connections / 10);
  const warm = await openAll(100, () => openFirkin(port, false));
  const before = memoryOf(server.pid);
  const idle = await openAll(connections - mute, () => openFirkin(port, false));
  const bytes = memoryOf(server.pid) - before;
  const store = await connect(server.url);
  const readers = await openAll(mute, () => openFirkin(port, true));
  const beside = await p99Beside(
    store,
    (seconds) => Promise.resolve(seconds > 5),
  );
  for (const reader of readers) reader.socket.pause();
  let cutAfter = 0;
  const besideMute = await p99Beside(store, async (seconds) => {
    cutAfter = seconds;
    return (await store.stats())["server.slowReaders"]! >= mute;
  });
  for (const counter of [...warm, ...idle, ...readers]) counter.end();
  await store.close();
  await server.stop();
  return { beside, besideMute, idle: bytes / idle.length, cutAfter };
}

/** p99 of a get while something is written for the readers, until `done` says so of the seconds that went by. */
async function p99Beside(
  store: Store,
  done: (seconds: number) => Promise<boolean>,
): Promise<number> {
  const events = store.bucket<Uint8Array>("events", { codec: "bytes" });
  const value = new Uint8Array(16 * 1024).fill(7);
  const latencies: number[] = [];
  const began = performance.now();
  let over = false;
  const ask = async (): Promise<void> => {
    while (!over) {
      const asked = performance.now();
      await events.has("event:0");
      latencies.push(performance.now() - asked);
    }
  };
  const write = async (): Promise<void> => {
    for (let group = 0; !over; group++) {
      await events.set(`event:${group % 100}`, value);
      await sleep(5);
      if (group % 20 === 0) {
        over = await done((performance.now() - began) / 1_000);
      }
      if (performance.now() - began > 60_000) {
        throw new Error("Cannot trust the figures: a reader was not cut");
      }
    }
  };
  await Promise.all([ask(), write()]);
  latencies.sort((left, right) => left - right);
  return latencies[Math.floor(latencies.length * 0.99)]!;
}

// --- expiry ---

/** How late expiries reach a client: milliseconds. */
export interface Lateness {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly delivered: number;
}

/** `keys` keys with a time to live, of which `due` end within one second. */
export async function expiries(keys: number, due: number): Promise<Lateness> {
  const server = await startServer("os");
  pin(server.pid, SERVER_CORE);
  const store = await connect(server.url);
  const sessions = store.bucket<Uint8Array>("sessions", { codec: "bytes" });
  const value = VALUE.subarray(0, 8);
  const later = Date.now() + 3_600_000;
  for (let first = 0; first < keys - due; first += 2_000) {
    const length = Math.min(2_000, keys - due - first);
    await Promise.all(
      Array.from(
        { length },
        (_, index) => sessions.set(`far:${first + index}`, value, { expiresAt: later }),
      ),
    );
  }
  const subscription = sessions.subscribe();
  await subscription.ready;
  // Enough time to set those that are due.
  const begin = Date.now() + 4_000;
  const deadline = (index: number): number => begin + Math.floor(index * 1_000 / due);
  for (let first = 0; first < due; first += 1_000) {
    await Promise.all(
      Array.from({ length: Math.min(1_000, due - first) }, (_, index) => {
        return sessions.set(`due:${first + index}`, value, {
          expiresAt: deadline(first + index),
        });
      }),
    );
  }
  if (Date.now() > begin) {
    throw new Error("Cannot measure: keys were due before all were set");
  }
  const lateness: number[] = [];
  for await (const event of subscription) {
    if (event.type !== "expire") continue;
    lateness.push(
      Date.now() - deadline(Number(String(event.key).split(":")[1])),
    );
    if (lateness.length === due) break;
  }
  lateness.sort((left, right) => left - right);
  await store.close();
  await server.stop();
  const at = (share: number): number =>
    lateness[
      Math.min(lateness.length - 1, Math.floor(lateness.length * share))
    ]!;
  return {
    p50: at(0.5),
    p99: at(0.99),
    max: at(1),
    delivered: lateness.length,
  };
}
