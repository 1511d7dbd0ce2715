/**
 * node:http with the `ws` package: what Node has when uWebSockets.js does not load.
 *
 * node:http owns the port and the plain requests; `ws` takes over a socket after the handshake has been decided here.
 * What `ws` leaves to its user: pings (one timer for all connections), and knowing when the outbound buffer has emptied
 * (each send's callback).
 *
 * @module
 */
import { createServer, type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { systemClock, type Timer } from "../../lib/base/clock.ts";
import { handshakeOf, headersOf, serveNodeRequest } from "./http.ts";
import {
  CLOSE_GRACE_MS,
  type Connection,
  type ConnectionHandlers,
  GOING_AWAY,
  type Listener,
  listenError,
  type ListenOptions,
  readTls,
  type Transport,
  type TransportHandlers,
} from "./transport.ts";

// --- listen ---

/** The fallback on Node: node:http and the `ws` package. */
export const wsTransport: Transport = { name: "ws", listen };

async function listen(options: ListenOptions, handlers: TransportHandlers): Promise<Listener> {
  const connections = new Set<WsConnection>();
  const serve = (incoming: IncomingMessage, outgoing: ServerResponse): void =>
    void serveNodeRequest(incoming, outgoing, options, handlers);
  const { tls } = options;
  const secure = tls && createTlsServer(readTls(tls), serve);
  const server = secure ?? createServer(serve);
  server.on("upgrade", acceptUpgrades(options, handlers, connections));
  await new Promise<void>((resolve, reject) => {
    server.on("error", (error) => reject(listenError(options, error)));
    server.listen(options.port, options.hostname, resolve);
  });
  const pings = pingRegularly(connections, options.idleSeconds);
  return {
    hostname: options.hostname,
    port: (server.address() as AddressInfo).port,
    // deno-lint-ignore require-await -- so that it rejects and does not throw
    reloadTls: async () => secure?.setSecureContext(readTls(tls!)),
    close: async () => {
      const open = [...connections];
      const stopped = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      for (const connection of open) connection.close(GOING_AWAY, "The server is shutting down");
      const grace = systemClock.after(CLOSE_GRACE_MS, () => {
        for (const connection of open) connection.terminate();
        server.closeAllConnections();
      });
      await Promise.all([stopped, ...open.map((connection) => connection.released)]);
      grace.cancel();
      pings.cancel();
    },
  };
}

/** Decides each handshake and hands the sockets of those let in to `ws`. */
function acceptUpgrades(
  options: ListenOptions,
  handlers: TransportHandlers,
  connections: Set<WsConnection>,
): (incoming: IncomingMessage, socket: Duplex, head: Buffer) => void {
  const accepted = new WeakMap<IncomingMessage, string>();
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: options.messageBytesMax,
    handleProtocols: (_offers, incoming) => accepted.get(incoming) || false,
  });
  return (incoming, socket, head) => {
    const remoteAddress = incoming.socket.remoteAddress ?? "";
    socket.on("error", () => socket.destroy()); // without it, a peer that leaves now would end the process
    const decision = handlers.upgrade(handshakeOf(incoming.url ?? "", headersOf(incoming), remoteAddress));
    if ("status" in decision) return refuse(socket, decision.status, decision.body);
    accepted.set(incoming, decision.protocol);
    sockets.handleUpgrade(incoming, socket, head, (webSocket) => {
      const connection = new WsConnection(webSocket, remoteAddress);
      connections.add(connection);
      void connection.released.then(() => connections.delete(connection));
      connection.begin(decision.open(connection));
    });
  };
}

// --- connection ---

class WsConnection implements Connection {
  readonly remoteAddress: string;
  /** Resolves when the connection is gone. */
  readonly released: Promise<void>;
  /** False when nothing has come since the last ping. */
  alive = true;
  #socket: WebSocket;
  /** The code this side closed with; `ws` would report the peer's. */
  #code: number | undefined;
  #backlog = false;
  #sent: () => void = () => {};

  constructor(socket: WebSocket, remoteAddress: string) {
    this.#socket = socket;
    this.remoteAddress = remoteAddress;
    this.released = new Promise((resolve) => socket.on("close", () => resolve()));
  }

  begin(handlers: ConnectionHandlers): void {
    const socket = this.#socket;
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      this.alive = true;
      if (socket.readyState !== socket.OPEN) return;
      if (isBinary) handlers.message(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      else handlers.text();
    });
    socket.on("pong", () => {
      this.alive = true;
    });
    socket.on("error", () => {}); // the close that follows says all
    socket.on("close", (code: number) => handlers.closed(this.#code ?? code));
    this.#sent = () => {
      if (!this.#backlog || socket.readyState !== socket.OPEN) return;
      this.#backlog = socket.bufferedAmount > 0;
      handlers.drain();
    };
  }

  send(bytes: Uint8Array): boolean {
    if (this.#socket.readyState !== this.#socket.OPEN) return false;
    // A copy, because a socket that is full keeps what it is given until later.
    this.#socket.send(new Uint8Array(bytes), { binary: true, compress: false }, this.#sent);
    if (this.#socket.bufferedAmount > 0) this.#backlog = true;
    return true;
  }

  bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  close(code: number, reason: string): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#code = code;
    this.#socket.close(code, reason);
  }

  ping(): void {
    this.#socket.ping();
  }

  terminate(): void {
    this.#socket.terminate();
  }
}

// --- helpers ---

/** Answers a handshake that is not let in; `ws` does not write this answer. */
function refuse(socket: Duplex, status: number, body: string): void {
  const bytes = new TextEncoder().encode(body);
  socket.write(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nConnection: close\r\n` +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${bytes.byteLength}\r\n\r\n`,
  );
  socket.end(bytes);
}

/** Pings every connection twice per `idleSeconds`, and drops those that were silent for both. */
function pingRegularly(connections: ReadonlySet<WsConnection>, idleSeconds: number): Timer {
  const periodMs = idleSeconds * 500;
  const tick = (): void => {
    for (const connection of connections) {
      if (!connection.alive) connection.terminate();
      else {
        connection.alive = false;
        connection.ping();
      }
    }
    timer = systemClock.after(periodMs, tick);
  };
  let timer = systemClock.after(periodMs, tick);
  return { cancel: () => timer.cancel() };
}
