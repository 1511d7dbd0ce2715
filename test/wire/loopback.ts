/**
 * Both ends of the wire without a network: sockets that deliver in microtasks, in order, and break when told.
 *
 * They are as unkind as the contracts allow: bytes handed to `send` are copied at once, and a message's bytes are
 * overwritten as soon as the session's handler returns.
 *
 * @module
 */
import { type Clock, systemClock } from "../../lib/base/clock.ts";
import { type EmbeddedEngine, type EmbeddedOptions, openEmbedded } from "../../lib/engine/embedded.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { connectEngine, type RemoteEngine } from "../../lib/engine/remote.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import type { LinkOptions, Socket } from "../../lib/wire/link.ts";
import { EVERYONE, type Guest, type Principal } from "../../server/auth.ts";
import { Commands } from "../../server/commands.ts";
import { Deliveries } from "../../server/deliveries.ts";
import { Metrics } from "../../server/metrics.ts";
import { SERVER_LIMITS, type ServerLimits } from "../../server/limits.ts";
import { Session, type SessionHost } from "../../server/session.ts";
import type { Connection } from "../../server/transports/transport.ts";

/** A store in memory, with small limits. */
export function openMemoryEngine(
  clock: Clock = systemClock,
  options: Partial<EmbeddedOptions> = {},
): Promise<EmbeddedEngine> {
  return openEmbedded({
    fileSystem: new MemoryFileSystem(),
    clock,
    keyBytesMax: 1_024,
    valueBytesMax: 1_024 * 1_024,
    batchOperationsMax: 1_000,
    batchBytesMax: 1_024 * 1_024,
    sync: "always",
    syncIntervalMs: 1_000,
    cacheBytesMax: 8 * 1_024 * 1_024,
    segmentBytesMax: 16 * 1_024 * 1_024,
    filesMax: 256,
    compressBytesMin: Infinity,
    automatic: false,
    deadRatio: 0.5,
    deadBytes: Infinity,
    smallBytes: 0,
    window: undefined,
    reserveBytes: 0,
    tombstoneRetentionMs: 0,
    report: () => {},
    ...options,
  });
}

type Handler = (event: never) => void;

/** One connection: the client's socket and the server's connection. */
class Wire implements Socket {
  onopen: Handler | null = null;
  onmessage: Handler | null = null;
  onclose: Handler | null = null;
  onerror: Handler | null = null;
  readonly #loopback: Loopback;
  #session: Session | undefined;
  #held: Uint8Array[] = [];
  #open = true;
  /** The server's end: both ends have a `send`. */
  readonly server: Connection;

  constructor(loopback: Loopback) {
    this.#loopback = loopback;
    this.server = {
      remoteAddress: "127.0.0.1",
      send: (bytes) => this.#fromServer(bytes),
      bufferedBytes: () => this.bufferedBytes(),
      close: (code, reason) => queueMicrotask(() => this.end(code, reason)),
    };
    queueMicrotask(() => {
      if (loopback.refusing) return this.end(1006, "refused");
      this.#session = new Session(this.server, loopback.host, loopback.guest);
      this.#call(this.onopen, {});
    });
  }

  /** From the client. */
  send(bytes: Uint8Array): void {
    const message = bytes.slice();
    queueMicrotask(() => {
      if (!this.#open) return;
      this.#loopback.messages.push(message.slice());
      this.#session?.message(message);
      message.fill(0xff);
    });
  }

  bufferedBytes(): number {
    return this.#held.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  close(code = 1005, reason = ""): void {
    queueMicrotask(() => this.end(code, reason));
  }

  /** The connection is over, for both. */
  end(code: number, reason: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.#loopback.wires.delete(this);
    this.#session?.closed();
    this.#call(this.onclose, { code, reason });
  }

  /** Delivers what was held while the reader was stalled. */
  release(): void {
    const held = this.#held;
    this.#held = [];
    for (const bytes of held) this.#deliver(bytes);
    queueMicrotask(() => this.#session?.drain());
  }

  #fromServer(bytes: Uint8Array): boolean {
    const message = bytes.slice();
    if (this.#loopback.stalled) this.#held.push(message);
    else queueMicrotask(() => this.#deliver(message));
    return true;
  }

  #deliver(message: Uint8Array): void {
    if (this.#open) this.#call(this.onmessage, { data: message.buffer });
  }

  #call(handler: Handler | null, event: unknown): void {
    (handler as ((event: unknown) => void) | null)?.(event);
  }
}

/** A connection of somebody who needs no token. */
export function guestOf(principal: Principal): Guest {
  return {
    address: "127.0.0.1",
    agent: "test",
    principal,
    enter: () => true,
    identify: () => principal,
    leave: () => {},
  };
}

/** What the sessions of a server share. */
export function hostOf(
  engine: Engine,
  limits: Partial<ServerLimits> = {},
  clock: Clock = systemClock,
  onFailure: (error: unknown) => void = () => {},
): SessionHost {
  const metrics = new Metrics(clock);
  const all = { ...SERVER_LIMITS, ...limits };
  const commands = new Commands({ engine, limits: all, clock, metrics, onFailure });
  return {
    commands,
    limits: all,
    clock,
    metrics,
    writers: [],
    readers: [],
    sessions: new Map(),
    unsent: [],
    deliveries: new Deliveries(),
    onFailure,
  };
}

/** A server in this process, and the sockets that lead to it. */
export class Loopback {
  readonly host: SessionHost;
  readonly wires: Set<Wire> = new Set();
  /** Failures that were the server's own fault. */
  readonly failures: unknown[] = [];
  /** What clients sent, message by message. */
  readonly messages: Uint8Array[] = [];
  /** How often a socket was opened. */
  opened = 0;
  /** Who connects. */
  guest: Guest = guestOf(EVERYONE);
  /** True: new connections are refused. */
  refusing = false;
  /** True: what the server sends stays in its outbound buffer. */
  stalled = false;

  constructor(engine: Engine, limits: Partial<ServerLimits> = {}, clock: Clock = systemClock) {
    this.host = hostOf(engine, limits, clock, (error) => this.failures.push(error));
  }

  /** What a client opens its socket with. */
  readonly openSocket: () => Socket = () => {
    const wire = new Wire(this);
    this.opened++;
    this.wires.add(wire);
    return wire;
  };

  /** A client. */
  connect(options: Partial<LinkOptions> = {}): Promise<RemoteEngine> {
    return connectEngine("ws://loopback", { openSocket: this.openSocket, clock: systemClock, ...options });
  }

  /** Breaks every connection. */
  cut(code = 1006): void {
    for (const wire of this.wires) wire.end(code, "");
  }

  /** Lets the reader read again. */
  release(): void {
    this.stalled = false;
    for (const wire of this.wires) wire.release();
  }
}

/** Resolves when all that is ready to happen has happened. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
