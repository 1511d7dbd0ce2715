/**
 * HTTP in web terms: what the runtimes' servers give, as `Headers`, `Request` and {@link Handshake}.
 *
 * Bun and Deno speak web requests already and need only the small helpers; uWebSockets.js and node:http give a method,
 * a target and headers, from which {@link answer} makes a request. What cannot be one (a target that is not a path, a
 * Host that is no host, two lengths of one body) is answered here with 400, so that a handler never sees it. Bodies are
 * read whole: they are small by `bodyBytesMax`, and a handler that is called with all of it cannot be left waiting.
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

/** A short answer for people. */
export function textResponse(status: number, body: string): Response {
  return new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8" } });
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
  if (body === undefined) return textResponse(413, "The body is too large");
  const request = requestOf(head, body);
  return request === undefined
    ? textResponse(400, "The request is malformed")
    : await handlers.fetch(request, head.remoteAddress);
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
  if (!target.startsWith("/")) return undefined;
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
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (!isBodiless(head.method, response.status)) outgoing.setHeader("content-length", bytes.byteLength);
    for (const [name, value] of response.headers) outgoing.appendHeader(name, value);
    outgoing.writeHead(response.status);
    outgoing.end(bytes);
  } catch {
    outgoing.destroy();
  }
}
