/**
 * `serve`: a store on a port, for WebSocket clients, browsers and whoever speaks HTTP.
 *
 * Assembles the rest of `server/`: the runtime's transport, who may connect, a session per WebSocket, and what answers
 * plain requests (`web.ts`). The server has no authentication yet, so it listens on loopback and nowhere else.
 *
 * @module
 */

// In the published types too: a user's own `lib` may know no Disposable.
/// <reference lib="esnext.disposable" preserve="true" />

import { type Clock, systemClock } from "../lib/base/clock.ts";
import { FirkinError } from "../lib/base/errors.ts";
import type { Engine } from "../lib/engine/engine.ts";
import type { Store, StoreStats } from "../lib/store/store.ts";
import { CLOSE, OPERATION_BYTES_MAX, SUBPROTOCOL } from "../lib/wire/protocol.ts";
import { admit, type AdmitOptions, EVERYONE } from "./auth.ts";
import { Commands } from "./commands.ts";
import { Metrics } from "./metrics.ts";
import { SERVER_LIMITS, type ServerLimits, Session, type SessionHost } from "./session.ts";
import type { Connection, Handshake, Transport, TransportHandlers, TransportName } from "./transports/transport.ts";
import { Web } from "./web.ts";

export type { Clock, Timer } from "../lib/base/clock.ts";
export type { WireLimits } from "../lib/wire/protocol.ts";
export type { AdmitOptions } from "./auth.ts";
export { SERVER_LIMITS, type ServerLimits } from "./session.ts";
export type { TransportName } from "./transports/transport.ts";

/** firkin's own port. */
const PORT = 7480;
/** What a frame holds beside its key and value. */
const FRAME_BYTES_MAX = 1_024;
const IDLE_SECONDS = 60;
/** How long a closing server waits for requests that run. */
const GRACE_MS = 2_000;
/** Why connections are closed when the server stops. */
const RESTART = "the server is shutting down";
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

/** What a server tells about itself. */
export type ServerEvent =
  | { readonly type: "fallback"; readonly message: string }
  | { readonly type: "failure"; readonly error: unknown };

/** Options of {@link serve}. */
export interface ServeOptions extends Partial<AdmitOptions> {
  /** What is served. The server does not close it. */
  readonly store: Store;
  /** An address of this machine's loopback; 127.0.0.1 when absent. */
  readonly hostname?: string;
  /** 7480 when absent; 0 lets the system choose. */
  readonly port?: number;
  /** False switches REST off; on when absent. */
  readonly rest?: boolean;
  /** The runtime's own when absent. */
  readonly transport?: TransportName;
  /** Time and timers; the system's when absent. */
  readonly clock?: Clock;
  /** Limits other than the defaults. */
  readonly limits?: Partial<ServerLimits>;
  /** Told what an operator should know. */
  readonly onEvent?: (event: ServerEvent) => void;
}

/** A running server. */
export interface Server {
  /** Where clients connect: `ws://` and the host and port in use. */
  readonly url: string;
  /** The address it listens on. */
  readonly hostname: string;
  /** The port in use. */
  readonly port: number;
  /** Which transport carries it. */
  readonly transport: TransportName;
  /** The server's counts, as the `stats` operation tells them beside the engine's. */
  stats(): StoreStats;
  /**
   * Takes no more requests, answers those that run, ends event streams at their cursors, closes every connection with
   * 1012.
   */
  close(): Promise<void>;
}

/**
 * Serves a store on a port of this machine.
 *
 * @throws {FirkinError} FORBIDDEN — not a loopback address; UNAVAILABLE — the address is in use
 * @throws {RangeError} limits that contradict one another
 */
export async function serve(options: ServeOptions): Promise<Server> {
  const { hostname = "127.0.0.1", port = PORT, clock = systemClock, onEvent = () => {} } = options;
  const { engine } = options.store;
  if (!LOOPBACK.test(hostname)) {
    throw new FirkinError(
      "FORBIDDEN",
      `Cannot listen on ${hostname}: there is no authentication yet, so only this machine's loopback is served`,
    );
  }
  const limits = limitsOf(engine, options.limits);
  const transport = await pickTransport(options.transport, onEvent);
  const metrics = new Metrics(clock);
  const onFailure = (error: unknown): void => onEvent({ type: "failure", error });
  const commands = new Commands({ engine, limits, clock, metrics, onFailure });
  const host = { commands, limits, clock, metrics, onFailure };
  const names = { allowedHosts: options.allowedHosts ?? [], allowedOrigins: options.allowedOrigins ?? [] };
  const web = new Web({ ...host, ...names, engine, rest: options.rest ?? true, authenticate: () => EVERYONE });
  const front = new Front({ ...host, principal: EVERYONE, writers: [] }, web, names);
  const listener = await transport.listen({
    hostname,
    port,
    messageBytesMax: limits.messageBytesMax,
    bodyBytesMax: limits.messageBytesMax,
    idleSeconds: IDLE_SECONDS,
  }, front);
  return {
    url: `ws://${hostname.includes(":") ? `[${hostname}]` : hostname}:${listener.port}`,
    hostname,
    port: listener.port,
    transport: transport.name,
    stats: () => metrics.read(),
    async close() {
      await front.end();
      await listener.close();
    },
  };
}

/** What the transport calls: decides who comes in, and seats each connection. */
class Front implements TransportHandlers {
  readonly #host: SessionHost;
  readonly #web: Web;
  readonly #admit: AdmitOptions;
  readonly #sessions: Set<Session> = new Set();
  #ending = false;

  constructor(host: SessionHost, web: Web, admitOptions: AdmitOptions) {
    this.#host = host;
    this.#web = web;
    this.#admit = admitOptions;
  }

  fetch(request: Request): Promise<Response> {
    return this.#web.respond(request);
  }

  upgrade(handshake: Handshake): { readonly protocol: string } | { readonly status: number; readonly body: string } {
    if (this.#ending) return { status: 503, body: "The server is shutting down" };
    const refusal = admit(handshake.headers, this.#admit);
    if (refusal !== undefined) return refusal;
    if (handshake.protocols.includes(SUBPROTOCOL)) return { protocol: SUBPROTOCOL };
    return { status: 400, body: `The subprotocol ${SUBPROTOCOL} is not offered` };
  }

  open(connection: Connection): Session {
    const session: Session = new Session(connection, this.#host, () => this.#sessions.delete(session));
    this.#sessions.add(session);
    if (this.#ending) connection.close(CLOSE.restart, RESTART);
    return session;
  }

  /** Lets requests that run be answered, for a while, and closes what is open. */
  async end(): Promise<void> {
    this.#ending = true;
    const sessions = [...this.#sessions].map((session) => session.end(CLOSE.restart, RESTART));
    const answered = Promise.all([this.#web.end(), ...sessions]);
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
