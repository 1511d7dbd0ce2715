/**
 * HTTP in web terms: what the runtimes' servers give, as `Headers`, `Request` and {@link Handshake}.
 *
 * Bun and Deno speak web requests already and need only the small helpers; uWebSockets.js and node:http give a method,
 * a target and headers, from which {@link answer} makes a request. What cannot be one (a target that is not a path, a
 * Host that is no host, two lengths of one body) is answered here with 400, so that a handler never sees it. Bodies of
 * requests are read whole: they are small by `bodyBytesMax`, and a handler that is called with all of it cannot be left
 * waiting. So are those of responses, but for event streams, which {@link relay} sends on chunk by chunk.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Handshake, ListenOptions, TransportHandlers } from "./transport.ts";

// --- types ---

/** An HTTP request without its body. */
export interface RequestHead {
  readonly method: string;
  /** As it stood on the request line. */
  readonly target: string;
  readonly headers: Headers;
  /** The peer's IP address, "" when the runtime does not tell. */
  readonly remoteAddress: string;
}

// --- any runtime ---

/** True when a request asks for a WebSocket. */
export function isUpgrade(headers: Headers): boolean {
  return headers.get("upgrade")?.toLowerCase() === "websocket";
}

/** The handshake that a request is. */
export function handshakeOf(target: string, headers: Headers, remoteAddress: string): Handshake {
  const offers = headers.get("sec-websocket-protocol") ?? "";
  const protocols = offers.split(",").map((offer) => offer.trim()).filter((offer) => offer !== "");
  return { url: target, headers, protocols, remoteAddress };
}

/**
 * True for a path and query that means the same to everyone who reads it: printable characters and percent-escapes, no
 * fragment, no backslash (which some take for a slash), and no segment that leads up or nowhere (`..` and `.`, escaped
 * or not), which some resolve before they judge a path and some after.
 */
export function isPlainTarget(target: string): boolean {
  if (!/^\/[!"$-[\]-~]*$/.test(target)) return false;
  const [path = ""] = target.split("?", 1);
  return !/\/(?:\.|%2e){1,2}(?:\/|$)/i.test(path);
}

/** The path and query of a request's URL, as the runtime has it. */
export function targetOf(url: string): string {
  return url.slice(url.indexOf("/", url.indexOf("//") + 2));
}

/** A short answer for people. */
export function textResponse(status: number, body: string, headers: Record<string, string> = {}): Response {
  return new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8", ...headers } });
}

/** A request that was not understood, or not read to its end, leaves its connection in no state to go on. */
const CLOSING = { connection: "close" };

/** The answer to a request that cannot be understood. */
export function malformed(): Response {
  return textResponse(400, "The request is malformed", CLOSING);
}

/** All bytes of a body, or undefined when there are more than `bytesMax`; no more than that is ever held. */
export async function readBody(
  chunks: AsyncIterable<Uint8Array>,
  bytesMax: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    length += chunk.byteLength;
    if (length > bytesMax) return undefined;
    parts.push(chunk);
  }
  return joinBytes(parts, length);
}

/** The parts one after another; `length` is the sum of theirs. */
export function joinBytes(parts: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.byteLength;
  }
  return joined;
}

/** Answers a request whose body has been read, or was too large (undefined). Never rejects. */
export async function answer(
  head: RequestHead,
  body: Uint8Array<ArrayBuffer> | undefined,
  handlers: TransportHandlers,
): Promise<Response> {
  if (body === undefined) return textResponse(413, "The body is too large", CLOSING);
  const request = requestOf(head, body);
  return request === undefined ? malformed() : await handlers.fetch(request, head.remoteAddress);
}

/** Hands over a request of a runtime that speaks web requests, its body read up to a limit. */
export async function fetchLimited(
  request: Request,
  remoteAddress: string,
  bytesMax: number,
  handlers: TransportHandlers,
): Promise<Response> {
  if (request.body === null) return await handlers.fetch(request, remoteAddress);
  const { url, method, headers } = request;
  let body: Uint8Array<ArrayBuffer> | undefined;
  try {
    body = await readBody(request.body, bytesMax);
  } catch {
    return textResponse(400, "The body is incomplete"); // the peer has left; nobody reads this
  }
  if (body === undefined) return textResponse(413, "The body is too large");
  let whole: Request;
  try {
    whole = new Request(url, { method, headers, body });
  } catch {
    return malformed(); // a method that web requests do not have
  }
  return await handlers.fetch(whole, remoteAddress);
}

/** True for an answer that is sent as it comes. */
export function isStream(response: Response): boolean {
  return response.body !== null && response.headers.get("content-type") === "text/event-stream";
}

/** Where a runtime's server takes a body that is sent as it comes. Nothing is called after `gone`. */
export interface Outlet {
  /** Sends a chunk; what it returns settles when the next may come. */
  write(chunk: Uint8Array): Promise<void> | undefined;
  end(): void;
  /** Ends the connection in a way that the peer does not take for the end of the body. */
  cut(): void;
  /** Settles when the peer has left. */
  readonly gone: Promise<void>;
}

/** Sends a body as it comes, until it ends or the peer leaves. Never rejects. */
export async function relay(body: ReadableStream<Uint8Array>, outlet: Outlet): Promise<void> {
  const reader = body.getReader();
  let open = true;
  const ignore = (): void => {};
  void outlet.gone.then(() => {
    open = false;
    reader.cancel().catch(ignore);
  });
  // A body may fail while nobody asks it for more, because the peer does not read.
  reader.closed.catch(() => {
    if (open) outlet.cut();
    open = false;
  });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (!open) return;
      if (done) return outlet.end();
      await Promise.race([outlet.write(value), outlet.gone]);
    }
  } catch {
    // Handled where `closed` rejects.
  }
}

/** True for an answer that carries no body whatever it holds. */
export function isBodiless(method: string, status: number): boolean {
  return method === "HEAD" || status === 204 || status === 304;
}

function requestOf(head: RequestHead, body: Uint8Array<ArrayBuffer>): Request | undefined {
  const { method, target, headers } = head;
  // Two lengths, or a length beside chunks, are how a request is hidden from a proxy in front.
  const length = headers.get("content-length");
  if (length !== null && (length.includes(",") || headers.has("transfer-encoding"))) return undefined;
  if (!isPlainTarget(target)) return undefined;
  try {
    const hasBody = method !== "GET" && method !== "HEAD";
    return new Request(`http://${headers.get("host") ?? ""}${target}`, {
      method,
      headers,
      body: hasBody ? body : null,
    });
  } catch {
    return undefined; // the Host is no host, or the method is one that web requests do not have
  }
}

// --- node:http ---

/** Headers as they came: `rawHeaders` alone keeps what came twice. */
export function headersOf(incoming: IncomingMessage): Headers {
  const headers = new Headers();
  const raw = incoming.rawHeaders;
  for (let index = 0; index + 1 < raw.length; index += 2) headers.append(raw[index] ?? "", raw[index + 1] ?? "");
  return headers;
}

/** Answers one node:http request. Never rejects: a peer that leaves meanwhile is no failure. */
export async function serveNodeRequest(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  options: ListenOptions,
  handlers: TransportHandlers,
): Promise<void> {
  try {
    const head = {
      method: incoming.method ?? "GET",
      target: incoming.url ?? "",
      headers: headersOf(incoming),
      remoteAddress: incoming.socket.remoteAddress ?? "",
    };
    const body = await readBody(incoming.iterator({ destroyOnReturn: false }), options.bodyBytesMax);
    // What follows a body that is too large is read and dropped: a peer that is still sending would not see the answer.
    incoming.resume();
    const response = await answer(head, body, handlers);
    for (const [name, value] of response.headers) outgoing.appendHeader(name, value);
    if (isStream(response)) {
      outgoing.writeHead(response.status);
      return await relay(response.body!, nodeOutlet(outgoing));
    }
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (!isBodiless(head.method, response.status)) outgoing.setHeader("content-length", bytes.byteLength);
    outgoing.writeHead(response.status);
    outgoing.end(bytes);
  } catch {
    outgoing.destroy();
  }
}

function nodeOutlet(outgoing: ServerResponse): Outlet {
  outgoing.on("error", () => {}); // the close that follows says all
  const gone = new Promise<void>((resolve) => {
    if (outgoing.closed) resolve();
    else outgoing.once("close", resolve);
  });
  return {
    gone,
    write: (chunk) => outgoing.write(chunk) ? undefined : new Promise((resolve) => outgoing.once("drain", resolve)),
    end: () => void outgoing.end(),
    cut: () => void outgoing.destroy(),
  };
}
