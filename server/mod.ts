/**
 * `serve`: a store on a port, for WebSocket clients, browsers and whoever speaks HTTP; on another for Redis clients.
 *
 * Assembles the rest of `server/`: the runtime's transport, who may connect (`gate.ts`), a session per WebSocket, and
 * what answers plain requests (`web.ts`). Beyond this machine's loopback it serves nobody without a token, and nobody
 * in the clear unless told so.
 *
 * @module
 */

// In the published types too: a user's own `lib` may know no Disposable.
/// <reference lib="esnext.disposable" preserve="true" />

import { type Clock, systemClock, type Timer } from "../lib/base/clock.ts";
import { FirkinError } from "../lib/base/errors.ts";
import type { Engine } from "../lib/engine/engine.ts";
import type { Store, StoreStats } from "../lib/store/store.ts";
import { CLOSE, OPERATION_BYTES_MAX, SUBPROTOCOL } from "../lib/wire/protocol.ts";
import type { AdmitOptions, Guest, Refusal } from "./auth.ts";
import { Clients, type ClientSource } from "./clients.ts";
import { Commands } from "./commands.ts";
import { Deliveries } from "./deliveries.ts";
import { Gate } from "./gate.ts";
import { History } from "./history.ts";
import { SERVER_LIMITS, type ServerLimits } from "./limits.ts";
import { Metrics } from "./metrics.ts";
import { listenRedis, type RedisListener } from "./redis/listener.ts";
import { Session, type SessionHost } from "./session.ts";
import { ServerSnapshots } from "./snapshots.ts";
import type { Tokens } from "./tokens.ts";
import { openTracing } from "./tracing.ts";
import {
  type Accepted,
  type Connection,
  type Handshake,
  type Listener,
  readTls,
  type TlsFiles,
  type Transport,
  type TransportHandlers,
  type TransportName,
} from "./transports/transport.ts";
import { Proxies } from "./visitors.ts";
import { Web } from "./web.ts";

export type { Clock, Timer } from "../lib/base/clock.ts";
export type { WireLimits } from "../lib/wire/protocol.ts";
export type { AdmitOptions, Principal, Right, Scope } from "./auth.ts";
export { SERVER_LIMITS, type ServerLimits } from "./limits.ts";
export { openTokens, type TokenInfo, type TokenOptions, Tokens, type TokensOptions } from "./tokens.ts";
export type { TlsFiles, TransportName } from "./transports/transport.ts";

/** firkin's own port, and that of Redis. */
const PORT = 7480;
const REDIS_PORT = 6_379;
/** What a frame holds beside its key and value. */
const FRAME_BYTES_MAX = 1_024;
/** How often connections, streams and tokens are looked at: what has ended is closed within a second. */
const SWEEP_MS = 500;
/** How long a closing server waits for requests that run. */
const GRACE_MS = 2_000;
/** Why connections are closed when the server stops. */
const RESTART = "the server is shutting down";
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

/** What a server tells about itself. */
export type ServerEvent =
  | { readonly type: "fallback"; readonly message: string }
  | { readonly type: "insecure"; readonly message: string }
  | { readonly type: "unnamed"; readonly message: string }
  | { readonly type: "failure"; readonly error: unknown };

/** Options of {@link serve}. */
export interface ServeOptions extends Partial<AdmitOptions> {
  /** What is served. The server does not close it. */
  readonly store: Store;
  /** 127.0.0.1 when absent; beyond this machine's loopback it needs `auth`, and `tls` or what stands for it. */
  readonly hostname?: string;
  /** 7480 when absent; 0 lets the system choose. */
  readonly port?: number;
  /** Where snapshots go that are asked for over the network, each a new folder in it; none are taken when absent. */
  readonly snapshotFolder?: string;
  /** False switches REST off; on when absent. */
  readonly rest?: boolean;
  /** Also serves Redis clients, on a port of their own; they are not when absent. See docs/REDIS.md. */
  readonly redis?: RedisOptions;
  /** The runtime's own when absent. */
  readonly transport?: TransportName;
  /** Who may what: the tokens of clients. Absent, everybody may everything, and only on loopback. */
  readonly auth?: Tokens;
  /** Speaks TLS with this certificate; in the clear when absent. */
  readonly tls?: TlsFiles;
  /** Addresses and networks of proxies in front, which speak TLS and whose X-Forwarded-For is believed. */
  readonly trustedProxies?: readonly string[];
  /** True: tokens and values may cross a network in the clear. */
  readonly insecureNoTls?: boolean;
  /** Time and timers; the system's when absent. */
  readonly clock?: Clock;
  /** Limits other than the defaults. */
  readonly limits?: Partial<ServerLimits>;
  /** Told what an operator should know. */
  readonly onEvent?: (event: ServerEvent) => void;
}

/** Where Redis clients connect. */
export interface RedisOptions {
  /** 6379 when absent; 0 lets the system choose. */
  readonly port?: number;
  /** 127.0.0.1 when absent; beyond loopback it needs `auth`, and `tls` or `insecureNoTls`. */
  readonly hostname?: string;
}

/** A running server. */
export interface Server {
  /** Where clients connect: `ws://` or `wss://`, and the host and port in use. */
  readonly url: string;
  /** The address it listens on. */
  readonly hostname: string;
  /** The port in use. */
  readonly port: number;
  /** Where Redis clients connect, `redis://` or `rediss://`; undefined when they cannot. */
  readonly redisUrl: string | undefined;
  /** Which transport carries it. */
  readonly transport: TransportName;
  /** The server's counts, as the `stats` operation tells them beside the engine's. */
  stats(): StoreStats;
  /**
   * Takes up the certificate as its files are now, on all ports: connections that come get it, those that are open go
   * on. Nothing has changed when it rejects, but with CLOSED: on Bun and uWebSockets.js the port is given up for an
   * instant, and a server that cannot bind it again has closed itself.
   *
   * @throws {TypeError} the server speaks no TLS
   * @throws {FirkinError} IO, INVALID — the files cannot be used; UNAVAILABLE — the port was refused, and the server
   *   goes on with what it has; CLOSED — it is closed, maybe by this; NOT_SUPPORTED — Deno, where it takes another
   *   `serve`
   */
  reloadTls(): Promise<void>;
  /**
   * Takes no more requests, answers those that run, ends event streams at their cursors, closes every connection with
   * 1012. Called again, it resolves when the first call does.
   */
  close(): Promise<void>;
}

/**
 * Serves a store on a port of this machine.
 *
 * @throws {FirkinError} FORBIDDEN — beyond loopback without tokens, or in the clear; UNAVAILABLE — the address is in
 *   use; IO, INVALID — the certificate cannot be used
 * @throws {RangeError} limits that contradict one another
 */
export async function serve(options: ServeOptions): Promise<Server> {
  const { hostname = "127.0.0.1", port = PORT, clock = systemClock, onEvent = () => {}, auth, tls } = options;
  const { engine } = options.store;
  checkExposure(hostname, options, onEvent);
  const redis = options.redis && { hostname: "127.0.0.1", port: REDIS_PORT, ...options.redis };
  // No proxy says who a Redis client is, nor that it spoke TLS with it.
  if (redis !== undefined) checkExposure(redis.hostname, { ...options, trustedProxies: [] }, onEvent);
  const limits = limitsOf(engine, options.limits);
  const transport = await pickTransport(options.transport, onEvent);
  const metrics = new Metrics(clock);
  const onFailure = (error: unknown): void => onEvent({ type: "failure", error });
  const tracing = await openTracing(engine.syncPolicy, (message) => onEvent({ type: "fallback", message }));
  const commands = new Commands({ engine, limits, clock, metrics, tracing, onFailure });
  const host = { commands, limits, clock, metrics, onFailure };
  const name = nameIn(hostname);
  const allowedOrigins = options.allowedOrigins ?? [];
  const gate = new Gate({
    tokens: auth,
    admit: { allowedHosts: hostsOf(hostname, options), allowedOrigins },
    proxies: new Proxies(options.trustedProxies ?? []),
    limits,
    clock,
    metrics,
  });
  const clients = new Clients();
  const history = new History({ engine, metrics, clock, onFailure });
  const snapshots = new ServerSnapshots({ engine, folder: options.snapshotFolder, clock });
  const administration = { engine, clients, history, snapshots, gate, commands, tokens: auth, clock };
  const web = new Web({ ...host, engine, gate, tracing, allowedOrigins, rest: options.rest ?? true, administration });
  const seats = seatsOf();
  const front = new Front({ ...host, ...seats }, { gate, web, clients, tokens: auth });
  const listener = await transport.listen({
    hostname,
    port,
    messageBytesMax: limits.messageBytesMax,
    bodyBytesMax: limits.messageBytesMax,
    idleSeconds: Math.ceil(limits.idleMs / 1_000),
    ...(tls && { tls }),
  }, front);
  let redisListener: RedisListener | undefined;
  try {
    if (redis !== undefined) {
      redisListener = await listenRedis({ ...host, ...redis, tls, gate });
      front.seat(redisListener);
    }
  } catch (error) {
    await listener.close();
    throw error;
  }
  front.begin();
  history.begin();
  const end = async (): Promise<void> => {
    history.end();
    await front.end();
    await Promise.all([listener.close(), redisListener?.close()]);
  };
  let ended: Promise<void> | undefined;
  const close = (): Promise<void> => ended ??= end(); // once: to close what is closed ends the process (uWebSockets.js)
  return {
    url: `${tls === undefined ? "ws" : "wss"}://${name}:${listener.port}`,
    hostname,
    port: listener.port,
    redisUrl: redisListener &&
      `${tls === undefined ? "redis" : "rediss"}://${nameIn(redis!.hostname)}:${redisListener.port}`,
    transport: transport.name,
    stats: () => metrics.read(),
    reloadTls: () => reload(ended === undefined ? tls : null, { listener, redisListener, close }),
    close,
  };
}

/** See {@link Server.reloadTls}; `tls` is null when the server is closed. */
async function reload(
  tls: TlsFiles | undefined | null,
  { listener, redisListener, close }: {
    readonly listener: Listener;
    readonly redisListener: RedisListener | undefined;
    readonly close: () => Promise<void>;
  },
): Promise<void> {
  if (tls === null) throw new FirkinError("CLOSED", "Cannot take up another certificate: the server is closed");
  if (tls === undefined) throw new TypeError("Cannot take up another certificate: the server speaks no TLS");
  // Before anything has changed: nothing can fail between one port and the other.
  const pem = redisListener && readTls(tls);
  try {
    await listener.reloadTls();
  } catch (error) {
    if (error instanceof FirkinError && error.code === "CLOSED") await close();
    throw error;
  }
  if (pem !== undefined) redisListener!.reloadTls(pem);
}

/** What the sessions of a server share and nobody else has. */
function seatsOf(): Pick<SessionHost, "sessions" | "writers" | "readers" | "unsent" | "deliveries"> {
  return {
    sessions: new Map(),
    writers: [],
    readers: [],
    unsent: [],
    deliveries: new Deliveries(),
  };
}

/** The names that a request may use for this server; who forgot to give it any is told. */
function hostsOf(hostname: string, { allowedHosts = [], onEvent }: ServeOptions): readonly string[] {
  if (!/^(?:0\.0\.0\.0|::)$/.test(hostname)) return [...allowedHosts, nameIn(hostname)];
  // All addresses at once are nobody's name.
  if (allowedHosts.length === 0) {
    const message =
      "answers to this machine's own names alone, and 403 to others: it has been given none (allowedHosts)";
    onEvent?.({ type: "unnamed", message });
  }
  return allowedHosts;
}

/** A host as a URL has it. */
function nameIn(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}

/** Refuses to be reached from elsewhere by people who are not known, or in the clear. */
function checkExposure(hostname: string, options: ServeOptions, onEvent: (event: ServerEvent) => void): void {
  const { auth, tls, trustedProxies = [], insecureNoTls = false } = options;
  if (LOOPBACK.test(hostname)) return;
  const refused = `Cannot listen on ${hostname}, which is not this machine's loopback:`;
  if (auth === undefined) throw new FirkinError("FORBIDDEN", `${refused} there are no tokens (auth)`);
  if (tls !== undefined || trustedProxies.length > 0) return;
  if (!insecureNoTls) {
    throw new FirkinError("FORBIDDEN", `${refused} there is no certificate (tls), and no proxy that has one`);
  }
  onEvent({ type: "insecure", message: `tokens and values travel in the clear to ${hostname}` });
}

/** What a front is put together from. */
interface FrontParts {
  readonly gate: Gate;
  readonly web: Web;
  readonly clients: Clients;
  readonly tokens: Tokens | undefined;
}

/** What the transport calls: lets in whom the gate lets in, and seats each connection. */
class Front implements TransportHandlers, ClientSource {
  readonly kind = "websocket";
  readonly #host: SessionHost;
  readonly #gate: Gate;
  readonly #web: Web;
  readonly #clients: Clients;
  readonly #tokens: Tokens | undefined;
  #redis: RedisListener | undefined;
  #sweepTimer: Timer | undefined;
  #unwatch: () => void = () => {};
  #ending = false;

  constructor(host: SessionHost, { gate, web, clients, tokens }: FrontParts) {
    this.#host = host;
    this.#gate = gate;
    this.#web = web;
    this.#clients = clients;
    this.#tokens = tokens;
    clients.add(this);
  }

  /** Looks after the connections of Redis clients, too. */
  seat(redis: RedisListener): void {
    this.#redis = redis;
    this.#clients.add(redis);
  }

  /** See {@link ClientSource}. */
  clients(): ReadonlyMap<number, Session> {
    return this.#host.sessions;
  }

  /** See {@link ClientSource}. */
  closeClient(number: number): void {
    void this.#host.sessions.get(number)?.end(CLOSE.goingAway, "closed by hand");
  }

  /** Begins to close what has come to its end. */
  begin(): void {
    this.#unwatch = this.#tokens?.watch(() => this.#check()) ?? this.#unwatch;
    this.#sweep();
  }

  fetch(request: Request, remoteAddress: string): Promise<Response> {
    return this.#web.respond(request, remoteAddress);
  }

  upgrade(handshake: Handshake): Accepted | Refusal {
    const guest = this.#gate.handshake(handshake);
    if ("status" in guest) return guest;
    return { protocol: SUBPROTOCOL, open: (connection) => this.#open(connection, guest) };
  }

  #open(connection: Connection, guest: Guest): Session {
    const admitted = guest.enter();
    const session = new Session(connection, this.#host, guest);
    if (this.#ending) connection.close(CLOSE.restart, RESTART);
    else if (!admitted) connection.close(CLOSE.tooManyRequests, "too many connections");
    return session;
  }

  #sweep(): void {
    try {
      this.#tokens?.refresh();
    } catch (error) {
      this.#host.onFailure(error);
    }
    this.#gate.sweep();
    this.#check();
    this.#sweepTimer = this.#host.clock.after(SWEEP_MS, () => this.#sweep());
  }

  #check(): void {
    for (const session of this.#host.sessions.values()) session.check();
    this.#web.check();
    this.#redis?.check();
  }

  /** Lets requests that run be answered, for a while, and closes what is open. */
  async end(): Promise<void> {
    this.#ending = true;
    this.#gate.end();
    this.#sweepTimer?.cancel();
    this.#unwatch();
    const sessions = [...this.#host.sessions.values()].map((session) => session.end(CLOSE.restart, RESTART));
    const answered = Promise.all([this.#web.end(), this.#redis?.end(), ...sessions]);
    await new Promise<void>((resolve) => {
      const timer = this.#host.clock.after(GRACE_MS, resolve);
      void answered.then(() => {
        timer.cancel();
        resolve();
      });
    });
  }
}

/** The limits asked for, within those of the engine. */
function limitsOf(engine: Engine, asked: Partial<ServerLimits> = {}): ServerLimits {
  const limits: ServerLimits = { ...SERVER_LIMITS, ...asked };
  for (const [name, limit] of Object.entries(limits)) {
    if (!(limit >= 1)) throw new RangeError(`Cannot serve with ${name} ${limit}: expected 1 or more`);
  }
  const keyBytesMax = Math.min(limits.keyBytesMax, engine.limits.keyBytesMax);
  const valueBytesMax = Math.min(limits.valueBytesMax, engine.limits.valueBytesMax);
  if (limits.messageBytesMax < keyBytesMax + valueBytesMax + FRAME_BYTES_MAX) {
    throw new RangeError(
      `Cannot serve values of ${valueBytesMax} bytes in messages of ${limits.messageBytesMax}: raise messageBytesMax`,
    );
  }
  const batchOperationsMax = Math.min(limits.batchOperationsMax, engine.limits.batchOperationsMax);
  const batchBytesMax = Math.min(
    limits.batchBytesMax,
    engine.limits.batchBytesMax,
    // One frame holds it.
    Math.max(limits.messageBytesMax - FRAME_BYTES_MAX - batchOperationsMax * OPERATION_BYTES_MAX, 0),
  );
  return { ...limits, keyBytesMax, valueBytesMax, batchOperationsMax, batchBytesMax };
}

async function pickTransport(
  name: TransportName | undefined,
  onEvent: (event: ServerEvent) => void,
): Promise<Transport> {
  if (name === "bun" || (name === undefined && "Bun" in globalThis)) {
    return (await import("./transports/bun.ts")).bunTransport;
  }
  if (name === "deno" || (name === undefined && "Deno" in globalThis)) {
    return (await import("./transports/deno.ts")).denoTransport;
  }
  if (name !== "ws") {
    const uws = await (await import("./transports/uws.ts")).openUwsTransport();
    if (uws !== undefined) return uws;
    if (name === "uws") throw new FirkinError("NOT_SUPPORTED", "Cannot use uWebSockets.js: it does not load here");
    onEvent({ type: "fallback", message: "uWebSockets.js is not installed: serving with ws, which is slower" });
  }
  return (await import("./transports/ws.ts")).wsTransport;
}
