/**
 * Bun.serve: uWebSockets inside the runtime.
 *
 * Bun speaks web requests, limits bodies and messages, pings, and reports backpressure itself. What it would do
 * otherwise: hand out Buffers (whose `slice` does not copy), drop what is over its backpressure limit, choose the first
 * subprotocol offered, make requests without a full URL when their Host is no host, and leave a connection open whose
 * body has failed while its peer did not read. It resolves `..` in a path before anyone sees it.
 *
 * @module
 */
import { systemClock } from "../../lib/base/clock.ts";
import {
  fetchLimited,
  handshakeOf,
  isPlainTarget,
  isStream,
  isUpgrade,
  malformed,
  relay,
  targetOf,
  textResponse,
} from "./http.ts";
import {
  type Accepted,
  type Connection,
  type ConnectionHandlers,
  GOING_AWAY,
  type Listener,
  listenError,
  type ListenOptions,
  readTls,
  rebound,
  type Transport,
  type TransportHandlers,
  withinGrace,
} from "./transport.ts";

// --- types ---

interface BunSocket {
  readonly data: BunConnection;
  send(bytes: Uint8Array, compress: boolean): number;
  getBufferedAmount(): number;
  close(code: number, reason: string): void;
}

interface BunServer {
  readonly port: number;
  upgrade(request: Request, options: { headers: Record<string, string>; data: BunConnection }): boolean;
  /** Closes the request's connection after as many seconds without a byte. */
  timeout(request: Request, seconds: number): void;
  requestIP(request: Request): { readonly address: string } | null;
  stop(closeActive: boolean): Promise<void>;
}

/** A certificate and its key. */
type Pem = ReturnType<typeof readTls>;

interface BunServeOptions {
  readonly hostname: string;
  readonly port: number;
  readonly reusePort: boolean;
  readonly development: boolean;
  readonly maxRequestBodySize: number;
  readonly tls?: { readonly cert: string; readonly key: string };
  fetch(request: Request, server: BunServer): Promise<Response> | Response | undefined;
  readonly websocket: {
    readonly maxPayloadLength: number;
    readonly backpressureLimit: number;
    readonly idleTimeout: number;
    readonly sendPings: boolean;
    readonly perMessageDeflate: boolean;
    open(socket: BunSocket): void;
    message(socket: BunSocket, message: string | Uint8Array): void;
    drain(socket: BunSocket): void;
    close(socket: BunSocket, code: number): void;
  };
}

interface BunRuntime {
  serve(options: BunServeOptions): BunServer;
}

/** What `send` returns for a message that it dropped; -1 is one that waits. */
const DROPPED = 0;
/** Bun takes 8 to 960 for a WebSocket, and up to 255 for a request, where it would say 10 itself. */
const IDLE_SECONDS_MAX = 960;
const STREAM_IDLE_SECONDS_MAX = 255;

// --- listen ---

/** Bun's own server. */
export const bunTransport: Transport = { name: "bun", listen };

// deno-lint-ignore require-await -- so that a refused address rejects and does not throw
async function listen(options: ListenOptions, handlers: TransportHandlers): Promise<Listener> {
  const runtime = (globalThis as unknown as { readonly Bun: BunRuntime }).Bun;
  const connections = new Set<BunConnection>();
  const answering = new Set<Promise<unknown>>();
  let tls = options.tls && readTls(options.tls);
  const begin = (port: number, pem: Pem | undefined): BunServer =>
    serve(runtime, { ...options, port, pem }, handlers, connections, answering);
  const servers = [begin(options.port, tls)];
  const { port } = servers[0]!;
  return {
    hostname: options.hostname,
    port,
    // deno-lint-ignore require-await -- so that it rejects and does not throw
    reloadTls: async () => {
      const renewed = options.tls && readTls(options.tls);
      // Bun's own `reload` keeps the certificate: another server takes the port over, and what is open stays.
      void servers.at(-1)!.stop(false);
      try {
        servers.push(begin(port, renewed));
      } catch (error) {
        servers.push(rebound(() => begin(port, tls), error));
        throw error;
      }
      tls = renewed;
    },
    close: async () => {
      for (const connection of connections) connection.close(GOING_AWAY, "The server is shutting down");
      void servers.at(-1)!.stop(false);
      await withinGrace(answering);
      // What has been answered is written in this turn.
      await new Promise<void>((resolve) => systemClock.after(0, resolve));
      await Promise.all(servers.map((server) => server.stop(true)));
    },
  };
}

function serve(
  runtime: BunRuntime,
  options: ListenOptions & { readonly pem: Pem | undefined },
  handlers: TransportHandlers,
  connections: Set<BunConnection>,
  answering: Set<Promise<unknown>>,
): BunServer {
  const { pem } = options;
  try {
    return runtime.serve({
      hostname: options.hostname,
      port: options.port,
      reusePort: false,
      development: false,
      maxRequestBodySize: options.bodyBytesMax,
      ...(pem && { tls: pem }),
      fetch: (request, server) => {
        if (!URL.canParse(request.url) || !isPlainTarget(targetOf(request.url))) {
          return malformed();
        }
        const remoteAddress = server.requestIP(request)?.address ?? "";
        if (isUpgrade(request.headers)) return decide(request, remoteAddress, server, handlers);
        return reply(request, remoteAddress, server, options, handlers, answering);
      },
      websocket: {
        maxPayloadLength: options.messageBytesMax,
        backpressureLimit: 0, // none: sessions have their own
        idleTimeout: Math.min(options.idleSeconds, IDLE_SECONDS_MAX),
        sendPings: true,
        perMessageDeflate: false,
        open: (socket) => {
          connections.add(socket.data);
          socket.data.begin(socket);
        },
        message: (socket, message) => socket.data.message(message),
        drain: (socket) => socket.data.drain(),
        close: (socket, code) => {
          connections.delete(socket.data);
          socket.data.release(code);
        },
      },
    });
  } catch (error) {
    throw listenError(options, error);
  }
}

async function reply(
  request: Request,
  remoteAddress: string,
  server: BunServer,
  options: ListenOptions,
  handlers: TransportHandlers,
  answering: Set<Promise<unknown>>,
): Promise<Response> {
  const track = (work: Promise<unknown>): void => {
    answering.add(work);
    const forget = (): void => void answering.delete(work);
    work.then(forget, forget);
  };
  const answer = fetchLimited(request, remoteAddress, options.bodyBytesMax, handlers);
  track(answer);
  const response = await answer;
  if (!isStream(response)) return response;
  server.timeout(request, Math.min(options.idleSeconds, STREAM_IDLE_SECONDS_MAX));
  return stream(request, server, response, track);
}

/** Hands a body to Bun and watches it: Bun sees a failure only when it asks for more. */
function stream(
  request: Request,
  server: BunServer,
  response: Response,
  track: (work: Promise<unknown>) => void,
): Response {
  let leave = (): void => {};
  const gone = new Promise<void>((resolve) => leave = resolve);
  let next = (): void => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const sent = relay(response.body!, {
        gone,
        write(chunk) {
          controller.enqueue(chunk);
          return new Promise((resolve) => next = resolve);
        },
        end: () => controller.close(),
        // In some four seconds: Bun's clock for these is that coarse. If the body failed, Bun would print it, and wait
        // for a peer that does not read.
        cut: () => server.timeout(request, 1),
      });
      track(sent);
    },
    pull: () => next(),
    cancel: leave,
  }, { highWaterMark: 0 });
  return new Response(body, response);
}

/** Refuses a handshake with the answer that it returns, or lets it in and returns nothing. */
function decide(
  request: Request,
  remoteAddress: string,
  server: BunServer,
  handlers: TransportHandlers,
): Response | undefined {
  const { pathname, search } = new URL(request.url);
  const decision = handlers.upgrade(handshakeOf(pathname + search, request.headers, remoteAddress));
  if ("status" in decision) return textResponse(decision.status, decision.body);
  const headers: Record<string, string> = {};
  if (decision.protocol !== "") headers["sec-websocket-protocol"] = decision.protocol;
  const upgraded = server.upgrade(request, { headers, data: new BunConnection(remoteAddress, decision) });
  return upgraded ? undefined : textResponse(400, "The handshake is malformed");
}

// --- connection ---

class BunConnection implements Connection {
  readonly remoteAddress: string;
  #socket: BunSocket | undefined;
  #handlers: ConnectionHandlers | undefined;
  /** Until it is open. */
  #accepted: Accepted | undefined;
  #code = 0;

  constructor(remoteAddress: string, accepted: Accepted) {
    this.remoteAddress = remoteAddress;
    this.#accepted = accepted;
  }

  begin(socket: BunSocket): void {
    this.#socket = socket;
    this.#handlers = this.#accepted?.open(this);
    this.#accepted = undefined;
    if (this.#socket === undefined) this.#handlers?.closed(this.#code); // closed while it was being opened
  }

  message(message: string | Uint8Array): void {
    if (typeof message === "string") this.#handlers?.text();
    else this.#handlers?.message(new Uint8Array(message.buffer, message.byteOffset, message.byteLength));
  }

  drain(): void {
    this.#handlers?.drain();
  }

  release(code: number): void {
    this.#socket = undefined;
    this.#code ||= code;
    this.#handlers?.closed(this.#code);
  }

  send(bytes: Uint8Array): boolean {
    return this.#socket !== undefined && this.#socket.send(bytes, false) !== DROPPED;
  }

  bufferedBytes(): number {
    return this.#socket?.getBufferedAmount() ?? 0;
  }

  close(code: number, reason: string): void {
    if (this.#code !== 0) return;
    this.#code = code;
    this.#socket?.close(code, reason);
  }
}
