/**
 * uWebSockets.js on Node: the fastest server there, and the least forgiving one.
 *
 * It is a native addon that may be missing or not load, so it is imported when asked for. Rules of it that this file
 * keeps, because breaking one ends the process or loses data without a word:
 *
 * 1. A request, its headers and a message's bytes are gone when the callback returns: copied or used before that.
 * 2. A response is used neither after `onAborted` nor after its end, and every one has an `onAborted`.
 * 3. A socket is not used after its close handler, which `end` calls before it returns.
 * 4. A message over `maxBackpressure` is dropped, so that limit is out of reach: sessions have their own.
 * 5. Ports are shared between servers unless one asks for its own.
 * 6. Nothing is sent in a drain handler: of a long message, what the system does not take at once would never be sent,
 *    because the library then stops to look for room.
 * 7. A body is as long as the peer likes, and one is sent in answer to HEAD: both are seen to here.
 * 8. Outside its own callbacks, what is written is only sent at once when it is corked.
 *
 * What cannot be helped: it answers 505 to a request whose first line comes in more than one packet, and 431 to a head
 * of more than 4 KiB that does. So a URL of more than a kilobyte may be refused over a network.
 *
 * @module
 */
import { STATUS_CODES } from "node:http";
import type { HttpRequest, HttpResponse, us_listen_socket, us_socket_context_t, WebSocket } from "uWebSockets.js";
import {
  answer,
  handshakeOf,
  isBodiless,
  isStream,
  joinBytes,
  malformed,
  type Outlet,
  relay,
  type RequestHead,
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

type Library = typeof import("uWebSockets.js");
type App = ReturnType<Library["App"]>;
type Socket = WebSocket<Seat>;

/** What a handshake leaves with its socket, which has its own copy of this: so nobody looks it up in a table. */
interface Seat {
  readonly connection: UwsConnection;
}

/** `listen` with a host and an option, which the library has and its types lack. */
interface ExclusiveApp {
  listen(hostname: string, port: number, option: number, callback: (socket: us_listen_socket | false) => void): void;
}

/** LIBUS_LISTEN_EXCLUSIVE_PORT. */
const EXCLUSIVE_PORT = 1;
/** What `send` returns for a message that it dropped. */
const DROPPED = 2;
/** The library takes an int32: two gigabytes stand for no limit. */
const BACKPRESSURE_BYTES_MAX = 2 ** 31 - 1;

// --- listen ---

/** The transport over uWebSockets.js; undefined when that is not installed or does not load here. */
export async function openUwsTransport(): Promise<Transport | undefined> {
  const specifier: string = "uWebSockets.js"; // a name that bundlers and Deno do not follow
  try {
    const library = (await import(specifier) as { default: Library }).default;
    return { name: "uws", listen: (options, handlers) => listen(library, options, handlers) };
  } catch {
    return undefined;
  }
}

// deno-lint-ignore require-await -- so that a refused address rejects and does not throw
async function listen(library: Library, options: ListenOptions, handlers: TransportHandlers): Promise<Listener> {
  const connections = new Set<UwsConnection>();
  const answering = new Set<Promise<void>>();
  const begin = (): App => {
    const app = createApp(library, options);
    serveSockets(app, options, handlers, connections);
    app.any("/*", (response, request) => {
      const answered = serveRequest(response, request, options, handlers);
      answering.add(answered);
      void answered.then(() => answering.delete(answered));
    });
    return app;
  };
  const apps = [begin()];
  let listening: us_listen_socket | undefined = bind(apps[0]!, options, options.port);
  const port = library.us_socket_local_port(listening);
  const stop = (): void => {
    if (listening !== undefined) library.us_listen_socket_close(listening);
    listening = undefined; // to close it again would end the process
  };
  if (options.port === 0 && options.tls !== undefined) {
    // A port that the system chose could not be bound again while it has connections; one that is asked for can.
    stop();
    listening = bind(apps[0]!, options, port);
  }
  return {
    hostname: options.hostname,
    port,
    // deno-lint-ignore require-await -- so that it rejects and does not throw
    reloadTls: async () => {
      // A certificate is an app's for good: another app takes the port over, and what is open stays where it is.
      const [before, app] = [apps.at(-1)!, begin()];
      stop();
      try {
        listening = bind(app, options, port);
      } catch (error) {
        app.close();
        listening = rebound(() => bind(before, options, port), error);
        throw error;
      }
      apps.push(app);
    },
    close: async () => {
      stop();
      for (const connection of connections) connection.close(GOING_AWAY, "The server is shutting down");
      await withinGrace(answering);
      for (const app of apps) app.close(); // what `end` has sent is with the system by now; all close handlers have run
    },
  };
}

/** Lets an app listen. @throws {FirkinError} UNAVAILABLE */
function bind(app: App, options: ListenOptions, port: number): us_listen_socket {
  let listening: us_listen_socket | false = false;
  // It calls back before it returns.
  (app as unknown as ExclusiveApp).listen(options.hostname, port, EXCLUSIVE_PORT, (socket) => listening = socket);
  if (listening === false) throw listenError(options, "the address is in use or not this machine's");
  return listening;
}

function createApp(library: Library, { tls }: ListenOptions): App {
  if (tls === undefined) return library.App();
  readTls(tls); // the library would say nothing of files that are none
  return library.SSLApp({ cert_file_name: tls.certFile, key_file_name: tls.keyFile });
}

function serveSockets(
  app: App,
  options: ListenOptions,
  handlers: TransportHandlers,
  connections: Set<UwsConnection>,
): void {
  app.ws<Seat>("/*", {
    maxPayloadLength: options.messageBytesMax,
    maxBackpressure: BACKPRESSURE_BYTES_MAX,
    // The library takes multiples of 4 from 8 to 960, and ends the process otherwise.
    idleTimeout: Math.min(Math.max(Math.ceil(options.idleSeconds / 4) * 4, 8), 960),
    sendPingsAutomatically: true,
    upgrade: (response, request, context) => decide(response, request, context, handlers),
    open: (socket) => {
      const { connection } = socket.getUserData();
      connections.add(connection);
      connection.begin(socket);
    },
    message: (socket, bytes, isBinary) => socket.getUserData().connection.message(bytes, isBinary),
    drain: (socket) => {
      const { connection } = socket.getUserData();
      setImmediate(() => connection.drain());
    },
    close: (socket, code) => {
      const { connection } = socket.getUserData();
      connections.delete(connection);
      connection.release(code);
    },
  });
}

function decide(
  response: HttpResponse,
  request: HttpRequest,
  context: us_socket_context_t,
  handlers: TransportHandlers,
): void {
  const head = headOf(response, request);
  if (head === undefined) return void response.writeStatus("400 Bad Request").end("The request is malformed");
  const { remoteAddress } = head;
  const decision = handlers.upgrade(handshakeOf(head.target, head.headers, remoteAddress));
  if ("status" in decision) {
    response.writeStatus(statusLine(decision.status)).writeHeader("Content-Type", "text/plain; charset=utf-8");
    response.end(decision.body, true);
    return;
  }
  const key = request.getHeader("sec-websocket-key");
  response.upgrade<Seat>(
    { connection: new UwsConnection(remoteAddress, decision) },
    key,
    decision.protocol,
    "",
    context,
  );
}

// --- connection ---

class UwsConnection implements Connection {
  readonly remoteAddress: string;
  #socket: Socket | undefined;
  #handlers: ConnectionHandlers | undefined;
  /** Until it is open. */
  #accepted: Accepted | undefined;
  #code = 0;

  constructor(remoteAddress: string, accepted: Accepted) {
    this.remoteAddress = remoteAddress;
    this.#accepted = accepted;
  }

  begin(socket: Socket): void {
    this.#socket = socket;
    this.#handlers = this.#accepted?.open(this);
    this.#accepted = undefined;
    if (this.#socket === undefined) this.#handlers?.closed(this.#code); // closed while it was being opened
  }

  message(bytes: ArrayBuffer, isBinary: boolean): void {
    if (isBinary) this.#handlers?.message(new Uint8Array(bytes));
    else this.#handlers?.text();
  }

  drain(): void {
    if (this.#socket !== undefined) this.#handlers?.drain();
  }

  release(code: number): void {
    this.#socket = undefined;
    this.#code ||= code;
    this.#handlers?.closed(this.#code);
  }

  send(bytes: Uint8Array): boolean {
    return this.#socket !== undefined && this.#socket.send(bytes, true, false) !== DROPPED;
  }

  bufferedBytes(): number {
    return this.#socket?.getBufferedAmount() ?? 0;
  }

  close(code: number, reason: string): void {
    if (this.#socket === undefined) return;
    this.#code = code;
    this.#socket.end(code, reason);
  }
}

// --- helpers ---

/** The head of a request, copied; undefined when its headers are not text that `Headers` takes. */
function headOf(response: HttpResponse, request: HttpRequest): RequestHead | undefined {
  const headers = new Headers();
  try {
    request.forEach((name, value) => headers.append(name, value));
  } catch {
    return undefined;
  }
  const query = request.getQuery(); // undefined without a query, whatever the types say
  const target = query ? `${request.getUrl()}?${query}` : request.getUrl();
  const remoteAddress = new TextDecoder().decode(response.getRemoteAddressAsText());
  return { method: request.getCaseSensitiveMethod(), target, headers, remoteAddress };
}

/** Reads the body up to its limit, then answers, unless the peer has left. Resolves when either has happened. */
async function serveRequest(
  response: HttpResponse,
  request: HttpRequest,
  options: ListenOptions,
  handlers: TransportHandlers,
): Promise<void> {
  const head = headOf(response, request);
  let aborted = false;
  let leave = (): void => {};
  const gone = new Promise<undefined>((resolve) => leave = () => resolve(undefined));
  response.onAborted(() => {
    aborted = true;
    leave();
  });
  try {
    const body = await Promise.race([bodyOf(response, options.bodyBytesMax), gone]);
    if (aborted) return;
    const result = head === undefined ? malformed() : await answer(head, body, handlers);
    if (isStream(result)) return aborted ? await result.body?.cancel() : await stream(response, result, gone);
    const bytes = new Uint8Array(await result.arrayBuffer());
    if (!aborted) response.cork(() => write(response, head?.method ?? "GET", result, bytes));
  } catch {
    if (!aborted) response.close(); // the answer's own body failed
  }
}

/** The body of a request, undefined as soon as it is longer than `bytesMax`. */
function bodyOf(response: HttpResponse, bytesMax: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const parts: Uint8Array[] = [];
  let length = 0;
  return new Promise((resolve) => {
    response.onData((chunk, isLast) => {
      length += chunk.byteLength;
      if (length > bytesMax) return resolve(undefined);
      parts.push(new Uint8Array(chunk.slice(0)));
      if (isLast) resolve(joinBytes(parts, length));
    });
  });
}

function write(response: HttpResponse, method: string, result: Response, bytes: Uint8Array): void {
  response.writeStatus(statusLine(result.status));
  for (const [name, value] of result.headers) {
    if (name !== "content-length") response.writeHeader(name, value); // the library writes its own
  }
  if (!isBodiless(method, result.status)) return void response.end(bytes, result.headers.get("connection") === "close");
  // Told the length, `endWithoutBody` would wait for that many bytes, and the connection would take no other request.
  if (method === "HEAD") response.writeHeader("content-length", String(bytes.byteLength));
  response.endWithoutBody();
}

/** Sends a body as it comes. */
function stream(response: HttpResponse, result: Response, gone: Promise<void>): Promise<void> {
  let drained = (): void => {};
  response.onWritable(() => {
    drained();
    return true;
  });
  response.cork(() => {
    response.writeStatus(statusLine(result.status));
    for (const [name, value] of result.headers) response.writeHeader(name, value);
  });
  const outlet: Outlet = {
    gone,
    write(chunk) {
      let taken = false;
      response.cork(() => taken = response.write(chunk));
      return taken ? undefined : new Promise((resolve) => drained = resolve);
    },
    end: () => void response.cork(() => response.end()),
    cut: () => void response.close(),
  };
  return relay(result.body!, outlet);
}

function statusLine(status: number): string {
  return `${status} ${STATUS_CODES[status] ?? ""}`;
}
