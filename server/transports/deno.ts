/**
 * Deno.serve and Deno.upgradeWebSocket.
 *
 * Deno speaks web requests and pings idle peers. What it lacks is done here: limits on bodies and messages (a message
 * has been read whole by then; Deno's own limit is 64 MiB), and news of an emptied outbound buffer, for which a timer
 * looks at `bufferedAmount` while there is something in it. What cannot be helped: where a peer vanished without a
 * word, Deno keeps the timer of its pings, so that a process that has closed its server may wait for it before it ends.
 *
 * @module
 */
import { systemClock } from "../../lib/base/clock.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { fetchLimited, handshakeOf, isPlainTarget, isUpgrade, malformed, targetOf, textResponse } from "./http.ts";
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
  withinGrace,
} from "./transport.ts";

// --- types ---

interface DenoSocket {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  onopen: (() => void) | null;
  onmessage: ((event: { readonly data: ArrayBuffer | string }) => void) | null;
  onclose: ((event: { readonly code: number }) => void) | null;
  onerror: ((event: { preventDefault(): void }) => void) | null;
  send(bytes: Uint8Array): void;
  close(code: number, reason: string): void;
}

interface DenoServer {
  readonly addr: { readonly port: number };
  readonly finished: Promise<void>;
  shutdown(): Promise<void>;
}

interface DenoRequestInfo {
  /** Resolves when the answer has been sent, rejects when it could not be. */
  readonly completed: Promise<void>;
  readonly remoteAddr: { readonly hostname: string };
}

interface DenoRuntime {
  serve(
    options: { hostname: string; port: number; signal: AbortSignal; cert?: string; key?: string; onListen(): void },
    handler: (request: Request, info: DenoRequestInfo) => Promise<Response> | Response,
  ): DenoServer;
  upgradeWebSocket(
    request: Request,
    options: { idleTimeout: number },
  ): { readonly socket: DenoSocket; readonly response: Response };
}

/** `readyState` of a socket that is neither opening nor closing. */
const OPEN = 1;
/** How often a buffer that is not empty is looked at. */
const DRAIN_POLL_MS = 10;
const MESSAGE_TOO_BIG = 1009;
const VANISHED = 1006;

// --- listen ---

/** Deno's own server. */
export const denoTransport: Transport = { name: "deno", listen };

// deno-lint-ignore require-await -- so that a refused address rejects and does not throw
async function listen(options: ListenOptions, handlers: TransportHandlers): Promise<Listener> {
  const runtime = (globalThis as unknown as { readonly Deno: DenoRuntime }).Deno;
  const connections = new Set<DenoConnection>();
  const answering = new Set<Promise<void>>();
  const abort = new AbortController();
  const server = serve(runtime, { ...options, signal: abort.signal }, (request, info) => {
    if (!URL.canParse(request.url) || !isPlainTarget(targetOf(request.url))) {
      return malformed();
    }
    const remoteAddress = info.remoteAddr.hostname;
    if (isUpgrade(request.headers)) return decide(runtime, request, remoteAddress, options, handlers, connections);
    const sent = info.completed.catch(() => {}); // the peer has left
    answering.add(sent);
    void sent.then(() => answering.delete(sent));
    return fetchLimited(request, remoteAddress, options.bodyBytesMax, handlers);
  });
  return {
    hostname: options.hostname,
    port: server.addr.port,
    reloadTls: () => {
      const state = "Deno reads it when it begins to listen, and ends all connections when it ceases to";
      return Promise.reject(new FirkinError("NOT_SUPPORTED", `Cannot take up another certificate: ${state}`));
    },
    close: async () => {
      const open = [...connections];
      for (const connection of open) connection.close(GOING_AWAY, "The server is shutting down");
      await withinGrace(answering);
      // `shutdown` writes what has been answered, but waits for every request, and an abort after it ends the process.
      if (answering.size === 0) await withinGrace([server.shutdown()]);
      else {
        abort.abort();
        await server.finished;
      }
      // A peer that does not answer cannot be cut off here: it is given up.
      const grace = systemClock.after(
        CLOSE_GRACE_MS,
        () => open.forEach((connection) => connection.release(GOING_AWAY)),
      );
      await Promise.all(open.map((connection) => connection.released));
      grace.cancel();
    },
  };
}

function serve(
  runtime: DenoRuntime,
  options: ListenOptions & { readonly signal: AbortSignal },
  handler: (request: Request, info: DenoRequestInfo) => Promise<Response> | Response,
): DenoServer {
  const { hostname, port, signal } = options;
  const tls = options.tls && readTls(options.tls);
  try {
    return runtime.serve({ hostname, port, signal, ...tls, onListen: () => {} }, handler);
  } catch (error) {
    throw listenError(options, error);
  }
}

/** Lets a handshake in or refuses it; either way the answer is a response. */
function decide(
  runtime: DenoRuntime,
  request: Request,
  remoteAddress: string,
  options: ListenOptions,
  handlers: TransportHandlers,
  connections: Set<DenoConnection>,
): Response {
  const { pathname, search } = new URL(request.url);
  const decision = handlers.upgrade(handshakeOf(pathname + search, request.headers, remoteAddress));
  if ("status" in decision) return textResponse(decision.status, decision.body);
  try {
    const { socket, response } = runtime.upgradeWebSocket(request, { idleTimeout: options.idleSeconds });
    // Deno's own `protocol` option knows offers only when they are separated by a comma and a space.
    if (decision.protocol !== "") response.headers.set("sec-websocket-protocol", decision.protocol);
    const connection = new DenoConnection(socket, remoteAddress);
    socket.onopen = () => {
      connections.add(connection);
      void connection.released.then(() => connections.delete(connection));
      connection.begin(decision.open(connection), options.messageBytesMax);
    };
    return response;
  } catch {
    return textResponse(400, "The handshake is malformed");
  }
}

// --- connection ---

class DenoConnection implements Connection {
  readonly remoteAddress: string;
  /** Resolves when the connection is gone. */
  readonly released: Promise<void>;
  #release: () => void = () => {};
  #socket: DenoSocket;
  #handlers: ConnectionHandlers | undefined;
  /** The code this side closed with; Deno would report 1005. */
  #code: number | undefined;
  #polling = false;

  constructor(socket: DenoSocket, remoteAddress: string) {
    this.#socket = socket;
    this.remoteAddress = remoteAddress;
    this.released = new Promise((resolve) => this.#release = resolve);
    socket.binaryType = "arraybuffer";
  }

  begin(handlers: ConnectionHandlers, messageBytesMax: number): void {
    const socket = this.#socket;
    this.#handlers = handlers;
    socket.onmessage = ({ data }) => {
      if (socket.readyState !== OPEN) return;
      if (typeof data === "string") handlers.text();
      else if (data.byteLength > messageBytesMax) this.close(MESSAGE_TOO_BIG, "The message is too large");
      else handlers.message(new Uint8Array(data));
    };
    socket.onerror = (event) => event.preventDefault(); // the close that follows says all
    socket.onclose = ({ code }) => this.release(code || VANISHED); // Deno says 0 when the peer said nothing
  }

  release(code: number): void {
    this.#handlers?.closed(this.#code ?? code);
    this.#handlers = undefined;
    this.#release();
  }

  send(bytes: Uint8Array): boolean {
    if (this.#socket.readyState !== OPEN) return false;
    this.#socket.send(bytes);
    this.#poll();
    return true;
  }

  bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  close(code: number, reason: string): void {
    if (this.#socket.readyState !== OPEN) return;
    this.#code = code;
    this.#socket.close(code, reason);
  }

  /** Looks again and again while there is something to send, and says so when it has become less. */
  #poll(): void {
    const before = this.#socket.bufferedAmount;
    if (this.#polling || before === 0) return;
    this.#polling = true;
    systemClock.after(DRAIN_POLL_MS, () => {
      this.#polling = false;
      if (this.#socket.readyState !== OPEN) return;
      if (this.#socket.bufferedAmount < before) this.#handlers?.drain();
      this.#poll();
    });
  }
}
