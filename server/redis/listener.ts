/**
 * The port that Redis clients connect to: TCP, or TLS, by node:net on every runtime.
 *
 * It is off unless asked for. Who may connect is the gate's business, as for WebSockets: how many connections an
 * address has, and which tokens it brings. A browser cannot speak RESP, but it can be made to send lines to any port of
 * its own machine: what looks like HTTP is cut off (`session.ts`).
 *
 * @module
 */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type Server as TlsServer } from "node:tls";
import { toHex } from "../../lib/base/bytes.ts";
import type { BacklogHost } from "../backlog.ts";
import { type ClientInfo, type ClientSource, type DescribedClient, firstOf, shownText } from "../clients.ts";
import type { Commands } from "../commands.ts";
import type { Gate } from "../gate.ts";
import { listenError, readTls, type TlsFiles } from "../transports/transport.ts";
import type { RedisHost } from "./call.ts";
import { Cursors } from "./cursors.ts";
import { Hub } from "./hub.ts";
import { Pace } from "./pace.ts";
import { RedisSession, type Wire } from "./session.ts";
import { Updates } from "./view.ts";

/** A connection that is silent for this long is asked by the system whether it is still there. */
const KEEP_ALIVE_MS = 300_000;
/** All notifications of keys; they cost nothing until somebody listens. */
const NOTIFICATIONS = "AKE";

/** What a listener needs; what waits to be sent is shared with other protocols. */
export interface RedisListenerOptions extends BacklogHost {
  readonly hostname: string;
  readonly port: number;
  readonly tls?: TlsFiles | undefined;
  readonly commands: Commands;
  readonly gate: Gate;
  readonly onFailure: (error: unknown) => void;
}

/** A port that Redis clients connect to. Made by {@link listenRedis}. */
export class RedisListener implements ClientSource {
  readonly kind = "redis";
  readonly port: number;
  readonly #server: Server;
  readonly #host: RedisHost;
  readonly #gate: Gate;
  readonly #sessions: Map<RedisSession, SocketWire> = new Map();
  #lastId = 0;

  /** For {@link listenRedis}. */
  constructor(server: Server, options: RedisListenerOptions) {
    const { commands, limits, clock, metrics, gate, onFailure } = options;
    this.#server = server;
    this.#gate = gate;
    this.port = (server.address() as { readonly port: number }).port;
    const pace = new Pace(clock);
    this.#host = {
      commands,
      limits,
      clock,
      metrics,
      onFailure,
      port: this.port,
      updates: new Updates(),
      pace,
      hub: new Hub(pace),
      cursors: new Cursors(),
      clients: new Map(),
      settings: { notifications: NOTIFICATIONS },
      writers: [],
      startedAt: clock.wall(),
      runId: toHex(clock.random(new Uint8Array(20))),
      asksCredentials: gate.asksCredentials,
    };
  }

  /** Takes a connection that has just opened. */
  open(socket: Socket): void {
    const guest = this.#gate.arrive(socket.remoteAddress ?? "");
    if ("status" in guest) return refuse(socket, guest.body);
    const isWelcome = guest.enter();
    const id = ++this.#lastId;
    const wire = new SocketWire(socket);
    const session = new RedisSession(id, wire, this.#host, guest, () => {
      this.#sessions.delete(session);
      guest.leave();
    });
    this.#sessions.set(session, wire);
    this.#host.clients.set(id, session);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    // No Buffer, whose `slice` is no copy.
    socket.on("data", ({ buffer, byteOffset, byteLength }: Uint8Array) => {
      session.data(new Uint8Array(buffer, byteOffset, byteLength));
    });
    socket.on("drain", () => session.drain());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => session.closed());
    if (!isWelcome) refuse(socket, "max number of clients reached");
  }

  /** Takes up another certificate, for connections that come. Only where it has one. */
  reloadTls(pem: ReturnType<typeof readTls>): void {
    (this.#server as TlsServer).setSecureContext(pem);
  }

  /** Closes what has come to its end. */
  check(): void {
    for (const session of this.#sessions.keys()) session.check();
  }

  /** See {@link ClientSource}. */
  *clients(): Generator<readonly [number, DescribedClient]> {
    for (const [session, wire] of this.#sessions) {
      const describe = (subscriptionsMax: number): ClientInfo => this.#describe(session, wire, subscriptionsMax);
      yield [session.id, { bufferedBytes: wire.bufferedBytes(), describe }];
    }
  }

  #describe(session: RedisSession, wire: SocketWire, subscriptionsMax: number): ClientInfo {
    const { principal, connectedAt, name, library, libraryVersion } = session;
    const agent = [name, [library, libraryVersion].filter(Boolean).join("/")].filter(Boolean).join(" ");
    return {
      name: principal.name,
      address: wire.address,
      agent: shownText(agent),
      ageMs: Math.round(this.#host.clock.wall() - connectedAt),
      ...wire.traffic(),
      subscriptions: firstOf(session.told(), subscriptionsMax),
      subscriptionsTotal: session.subscriptions,
    };
  }

  /** See {@link ClientSource}. */
  closeClient(number: number): void {
    for (const session of this.#sessions.keys()) if (session.id === number) session.kill();
  }

  /** Takes no more connections and commands; resolves when those that run have been answered. */
  async end(): Promise<void> {
    this.#server.close();
    await Promise.all([...this.#sessions.keys()].map((session) => session.finish()));
  }

  /** Cuts off whoever is still there; resolves when the port is free. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#server.listening) this.#server.close(() => resolve());
      else resolve();
    });
    for (const session of this.#sessions.keys()) session.kill();
    await closed;
  }
}

function refuse(socket: Socket, reason: string): void {
  socket.on("error", () => socket.destroy());
  socket.end(`-ERR ${reason}\r\n`);
}

/** A socket, as a session sees it. */
class SocketWire implements Wire {
  readonly address: string;
  readonly localAddress: string;
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.address = `${socket.remoteAddress ?? ""}:${socket.remotePort ?? 0}`;
    this.localAddress = `${socket.localAddress ?? ""}:${socket.localPort ?? 0}`;
  }

  send(bytes: Uint8Array): void {
    if (!this.#socket.destroyed && !this.#socket.writableEnded) this.#socket.write(bytes);
  }

  bufferedBytes(): number {
    return this.#socket.writableLength;
  }

  /** Bytes so far, and those that wait. */
  traffic(): Pick<ClientInfo, "bytesIn" | "bytesOut" | "bufferedBytes"> {
    const { bytesRead, bytesWritten, writableLength } = this.#socket;
    return { bytesIn: bytesRead, bytesOut: Math.max(bytesWritten - writableLength, 0), bufferedBytes: writableLength };
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** Listens. @throws {FirkinError} UNAVAILABLE — the address is in use; IO, INVALID — the certificate cannot be used */
export async function listenRedis(options: RedisListenerOptions): Promise<RedisListener> {
  const { tls } = options;
  // No connection comes before the turn in which it listens is over.
  const open = (socket: Socket): void => listener.open(socket);
  const server = tls === undefined
    ? createServer(open)
    : createTlsServer({ ...readTls(tls), handshakeTimeout: options.limits.helloMs }, open);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(options, error)));
    server.listen({ host: options.hostname, port: options.port }, resolve);
  });
  server.on("error", options.onFailure);
  const listener = new RedisListener(server, options);
  return listener;
}
