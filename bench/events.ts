/**
 * Events and idle connections: firkin against bare WebSockets of the same runtime.
 *
 * Subscribers are sockets that speak just enough WebSocket to count what comes: with a client for each of a thousand,
 * the clients would be what is measured. What reaches them is checked by its length, and of one of them event by event.
 *
 * @module
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type Store } from "../mod.ts";
import { CborReader } from "../lib/wire/cbor.ts";
import { FRAME } from "../lib/wire/protocol.ts";
import { SERVER_LIMITS } from "../server/limits.ts";
import { messageOf } from "./capacity.ts";
import { type Child, startChild } from "./child.ts";
import { CLIENT_CORE, cpuOf, memoryOf, pin, SERVER_CORE } from "./core.ts";
import { type Server, startServer } from "./server.ts";
import { Counter, openAll, openFirkin } from "./sockets.ts";

const GROUP = 16;
const SUBSCRIBERS = 1_000;
/** Groups on their way at once. */
const GROUPS_OUTSTANDING = 4;
const VALUE = new Uint8Array(100).fill(7);
/** Readers that never read, where there are ten times as many connections. */
const MUTE = 100;
/** Files that a process has open beside its connections. */
const FILES_BESIDE = 200;

/** What deliveries cost. */
export interface Deliveries {
  readonly perSecond: number;
  /** Microseconds of the server's processor for each event at each subscriber. */
  readonly server: number;
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

/** Bytes of memory that an idle connection costs a server. */
export interface Idle {
  readonly firkin: number;
  readonly raw: number;
}

/** The part of the connections that is opened before memory is looked at: it pays for what all share. */
const WARM_SHARE = 1 / 5;
/** Requests that are made before: the young generation of a heap in use is as large as it gets, whoever is there. */
const WARM_REQUESTS = 100_000;

/** Opens idle connections to both, `connections` in all at each. */
export async function idleConnections(connections: number): Promise<Idle> {
  checkFiles(connections);
  const server = await startServer("os");
  await use(server);
  const firkin = await grown(
    server.pid,
    new URL(server.url).port,
    connections,
    "firkin",
  );
  await server.stop();
  const { child, port } = await startRaw();
  const raw = await grown(child.process.pid!, String(port), connections, "raw");
  child.process.kill("SIGTERM");
  await child.ended;
  return { firkin, raw };
}

async function use({ url }: Server): Promise<void> {
  const store = await connect(url);
  const bucket = store.bucket("warm");
  for (let asked = 0; asked < WARM_REQUESTS; asked += 1_000) {
    await Promise.all(
      Array.from({ length: 1_000 }, (_, index) => bucket.get(`key:${index}`)),
    );
  }
  await store.close();
}

async function grown(
  pid: number,
  port: string,
  connections: number,
  kind: "firkin" | "raw",
): Promise<number> {
  const warm = Math.ceil(connections * WARM_SHARE);
  const first = await Crowd.start(port, kind, warm, 0);
  const before = memoryOf(pid);
  const second = await Crowd.start(port, kind, connections - warm, 0);
  const bytes = memoryOf(pid) - before;
  await Promise.all([first.leave(), second.leave()]);
  return bytes / (connections - warm);
}

/** Connections that another process holds: `crowd.ts`. */
class Crowd {
  readonly #child: Child;

  constructor(child: Child) {
    this.#child = child;
  }

  /** Resolves when all are open. */
  static async start(
    port: string,
    kind: "firkin" | "raw",
    idle: number,
    readers: number,
  ): Promise<Crowd> {
    const child = startChild("crowd.ts", [
      port,
      kind,
      String(idle),
      String(readers),
    ], "stdout");
    pin(child.process.pid!, CLIENT_CORE);
    await Promise.race([
      once(child.lines, "line"),
      child.ended.then(() => Promise.reject(new Error("Cannot measure: a connection was closed"))),
    ]);
    return new Crowd(child);
  }

  /** Its readers read no more. */
  async mute(): Promise<void> {
    const muted = once(this.#child.lines, "line");
    this.#child.process.kill("SIGUSR2");
    await muted;
  }

  /** Closes all of them. */
  async leave(): Promise<void> {
    this.#child.process.kill("SIGTERM");
    await this.#child.ended;
  }
}

/** @throws {Error} this process, whose limit its children have, may not open as many files */
function checkFiles(connections: number): void {
  let limits: string;
  try {
    limits = readFileSync("/proc/self/limits", "utf8");
  } catch {
    return; // where the system does not say, whoever opens too many is told
  }
  const most = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Infinity);
  if (most >= connections + FILES_BESIDE) return;
  const state = `a process may have ${most} files open here: ulimit -n ${connections + FILES_BESIDE}`;
  throw new Error(`Cannot hold ${connections} connections: ${state}`);
}

// --- readers that do not read ---

/** What others notice of readers that never read. */
export interface Muted {
  /** p99 of a get, milliseconds: beside as many readers that read, and beside those that do not. */
  readonly beside: number;
  readonly besideMute: number;
  /** How many there are of those. */
  readonly mute: number;
  /** Seconds from when as much waits as a server lets wait, on each of these, until it has cut them all. */
  readonly cutAfter: number;
}

/** Of so many connections some subscribe to what is written, and read, or never do; the others are idle. */
export async function muteReaders(connections: number): Promise<Muted> {
  checkFiles(connections);
  const server = await startServer("os");
  pin(server.pid, SERVER_CORE);
  const { port } = new URL(server.url);
  const mute = Math.min(MUTE, Math.ceil(connections / 10));
  const store = await connect(server.url);
  const crowd = await Crowd.start(port, "firkin", connections - mute - 1, mute);
  const beside = await p99Beside(
    store,
    (seconds) => Promise.resolve(seconds > 5),
  );
  await crowd.mute();
  let fullAt = NaN;
  let cutAt = 0;
  const besideMute = await p99Beside(store, async (seconds) => {
    const { "server.bytesWaiting": waiting, "server.slowReaders": cut } = await store.stats();
    // Before, it is the system that keeps what is sent.
    if (Number.isNaN(fullAt) && waiting! >= (mute - cut!) * SERVER_LIMITS.outboundBytesMax) fullAt = seconds;
    cutAt = seconds;
    return cut! >= mute;
  });
  await crowd.leave();
  await store.close();
  await server.stop();
  return { beside, besideMute, mute, cutAfter: cutAt - fullAt };
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
