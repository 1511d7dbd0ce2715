/**
 * Hostile input, drawn: messages of the wire, plain requests and handshakes that were valid once, and what a server
 * says to them.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { fromHex } from "../../lib/base/bytes.ts";
import { OP, type OpName, SUBPROTOCOL } from "../../lib/wire/protocol.ts";
import { type Item, message, mutated, REQUESTS } from "./peer.ts";

/** A number from 0 to below a limit. */
export type Draw = (below: number) => number;

function oneOf<Thing>(things: readonly Thing[], draw: Draw): Thing {
  return things[draw(things.length)]!;
}

// --- messages ---

interface Vectors {
  readonly conversation: readonly { readonly send: { readonly hex: string } }[];
  readonly malformed: readonly { readonly hex: string }[];
}

const VECTORS = JSON.parse(readFileSync(new URL("../../docs/vectors.json", import.meta.url), "utf8")) as Vectors;
/** What docs/vectors.json says, and what is wrong there. */
const KNOWN = [...VECTORS.conversation.map(({ send }) => send), ...VECTORS.malformed].map(({ hex }) => fromHex(hex)!);
const NAMES = Object.keys(OP) as OpName[];

/** What stands where it does not belong: sizes at their limits and beyond, wrong types, what is deep or long. */
function hostileItem(draw: Draw): Item {
  const deep = (depth: number): Item => depth === 0 ? [] : [deep(depth - 1)];
  return oneOf<() => Item>([
    () => oneOf([0, 1, -1, 255, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, -(2 ** 53) + 1, NaN, Infinity, -0.5], draw),
    () => oneOf<Item>([null, true, false, "", "b", "B", "\u0000", "__proto__", "0.7", "x".repeat(draw(5_000))], draw),
    () => new Uint8Array(draw(draw(4) === 0 ? 5_000 : 8)),
    () => Array.from({ length: draw(draw(8) === 0 ? 11_000 : 4) }, () => null),
    () => deep(draw(12)),
  ], draw)();
}

/** A frame of a known operation, some of whose items are others, or are missing. */
function drawFrame(draw: Draw): Item[] {
  const name = oneOf(NAMES, draw);
  const frame: Item[] = [OP[name], draw(4) === 0 ? hostileItem(draw) : 1 + draw(1_000), ...REQUESTS[name]];
  for (let left = draw(3); left > 0; left--) frame[draw(frame.length)] = hostileItem(draw);
  if (draw(6) === 0) frame.length = draw(frame.length);
  if (draw(8) === 0) frame.push(hostileItem(draw));
  return frame;
}

/** Heads of lengths that never come: arrays, texts and bytes of up to 2^64 - 1. */
const HEADS = [0x9a, 0x9b, 0x7a, 0x7b, 0x5a, 0x5b, 0xc2, 0xd8, 0xbf, 0x9f, 0xfb, 0xf9];

/** One message after `hello`. */
export function drawMessage(draw: Draw): Uint8Array {
  const kind = draw(8);
  if (kind === 0) return mutated(oneOf(KNOWN, draw), draw);
  if (kind === 1) return Uint8Array.from({ length: draw(200) }, () => draw(3) === 0 ? oneOf(HEADS, draw) : draw(256));
  // The same again and again: as deep, and as many, as it gets.
  if (kind === 2) {
    const part = oneOf([[0x81], [0x82, 0x18, 0x63, 0x01], [0x82, 0x0a, 0x07], [oneOf(HEADS, draw)]], draw);
    return Uint8Array.from({ length: 1 + draw(draw(20) === 0 ? 200_000 : 20_000) }, (_, at) => part[at % part.length]!);
  }
  const frames = Array.from({ length: 1 + draw(draw(10) === 0 ? 500 : 4) }, () => drawFrame(draw));
  const bytes = message(...frames);
  return draw(2) === 0 ? bytes : mutated(bytes, draw);
}

// --- plain requests ---

interface Plain {
  method: string;
  target: string;
  headers: [string, string][];
  body: string;
}

const KEY = "/v1/buckets/b/keys/k";
const JSON_BODY: [string, string] = ["Content-Type", "application/json"];

function plain(method: string, target: string, body = "", ...headers: [string, string][]): Plain {
  const length: [string, string][] = body === "" ? [] : [["Content-Length", String(body.length)]];
  return { method, target, headers: [["Host", "localhost"], ...length, ...headers], body };
}

/** A valid request of each kind. */
const PLAIN: readonly (() => Plain)[] = [
  () => plain("GET", KEY, "", ["Accept", "application/json"], ["If-None-Match", '"7", W/"8"']),
  () => plain("HEAD", KEY),
  () => plain("PUT", KEY, '{"a":1}', JSON_BODY, ["Firkin-Ttl", "30s"], ["If-Match", '"7"']),
  () => plain("DELETE", KEY, "", ["If-Match", "*"]),
  () => plain("POST", `${KEY}/take`, "{}", JSON_BODY),
  () => plain("POST", `${KEY}/touch`, '{"ttl":"5m"}', JSON_BODY),
  () => plain("POST", "/v1/buckets/b/keys/n/increment", '{"by":1}', JSON_BODY),
  () => plain("GET", "/v1/buckets/b/keys?prefix=a&start=b&end=c&limit=10&values=0&reverse=1"),
  () => plain("POST", "/v1/buckets/b/get", '{"keys":["a",{"keyBase64":"/w=="}]}', JSON_BODY),
  () => plain("POST", "/v1/batch", '{"operations":[{"type":"check","bucket":"b","key":"k","revision":7}]}', JSON_BODY),
  () => plain("GET", "/v1/unstorage/b/users:ada"),
  () => plain("POST", "/v1/tickets", "{}", JSON_BODY),
  () => plain("OPTIONS", KEY, "", ["Origin", "https://app.example"], ["Access-Control-Request-Method", "PUT"]),
  () => plain("GET", "/metrics"),
  () => plain("GET", "/"),
];

const METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "", "G E T", "PRI"];
const TARGETS = [
  "/v1/buckets/../x",
  "/v1/buckets/b/keys/%2e%2e",
  "/v1/buckets/b/keys/%00%zz",
  "/v1/buckets/B/keys/k",
  "*",
  "//",
  "http://other/",
  `/v1/buckets/b/keys/${"k".repeat(3_000)}`,
  "/v1/buckets/b/keys/é",
  "/v1/buckets/b/keys?limit=1e9&limit=2",
];
const HEADERS: readonly [string, string][] = [
  ["Content-Length", "5"],
  ["Content-Length", "-1"],
  ["Content-Length", "99999999999999999999"],
  ["Transfer-Encoding", "chunked"],
  ["Transfer-Encoding", "xchunked"],
  ["Host", "evil.example"],
  ["Host", ""],
  ["Expect", "100-continue"],
  ["Connection", "close, upgrade"],
  ["Upgrade", "h2c"],
  ["Content-Type", "text/plain"],
  ["Content-Encoding", "gzip"],
  ["If-Match", '"99999999999999999999", ,"'],
  ["If-None-Match", '*, "7"'],
  ["Firkin-Ttl", "1e400ms"],
  ["Firkin-Once", "maybe"],
  ["Authorization", `Bearer ${"x".repeat(5_000)}`],
  ["Range", "bytes=0-1"],
  ["X-Long", "x".repeat(9_000)],
  ["X\u0000", "y"],
  [" Folded", " y"],
];
const BODIES = [
  "{",
  "[]",
  '{"__proto__":1}',
  "5\r\nhello\r\n0\r\n\r\n",
  "ffffffffff\r\n",
  '{"by":1e999}',
  "null",
  "\u00ff\u00fe",
];

/** The bytes of a request, as they stand. */
function bytesOfPlain({ method, target, headers, body }: Plain): Uint8Array {
  const head = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(`${method} ${target} HTTP/1.1\r\n${head}\r\n${body}`, "latin1");
}

/** A plain request. */
export function drawPlain(draw: Draw): Uint8Array {
  const request = oneOf(PLAIN, draw)();
  const changes: readonly (() => void)[] = [
    () => void (request.method = oneOf(METHODS, draw)),
    () => void (request.target = oneOf(TARGETS, draw)),
    () => void (request.target += oneOf(["?", "/", "%", "%2f", "#", "\\", ";", "&x=%ff"], draw)),
    () => void request.headers.splice(draw(request.headers.length + 1), 0, oneOf(HEADERS, draw)),
    () => void request.headers.splice(draw(request.headers.length), 1),
    () => void (request.body = oneOf(BODIES, draw)),
  ];
  for (let left = draw(4); left > 0; left--) oneOf(changes, draw)();
  const bytes = bytesOfPlain(request);
  return draw(3) === 0 ? mutated(bytes, draw) : bytes;
}

// --- handshakes ---

const OFFERS = [
  SUBPROTOCOL,
  "firkin.v0.cbor",
  "firkin.bearer.x",
  "FIRKIN.V1.CBOR",
  "",
  " ",
  "\t",
  ",",
  '"',
  "é",
  "x".repeat(5_000),
];
const UPGRADE_HEADERS: readonly [string, string][] = [
  ["Sec-WebSocket-Key", "short"],
  ["Sec-WebSocket-Version", "12"],
  ["Sec-WebSocket-Version", "13, 8"],
  ["Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"],
  ["Connection", "keep-alive"],
  ["Upgrade", "websocket, h2c"],
  ["Origin", "https://evil.example"],
  ["Origin", "null"],
  ["Host", "evil.example"],
  ["Authorization", "Basic x"],
  ["Content-Length", "3"],
];

/** A handshake, and whether it offers the subprotocol as it is called. */
export function drawHandshake(draw: Draw): Uint8Array {
  const offers = Array.from({ length: draw(4) }, () => oneOf(OFFERS, draw));
  const headers: [string, string][] = [
    ["Host", "localhost"],
    ["Connection", "Upgrade"],
    ["Upgrade", "websocket"],
    ["Sec-WebSocket-Version", "13"],
    ["Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="],
    ["Sec-WebSocket-Protocol", draw(4) === 0 ? SUBPROTOCOL : offers.join(oneOf([",", ", ", " , ", ";"], draw))],
  ];
  for (let left = draw(3); left > 0; left--) {
    const place = draw(headers.length);
    if (draw(3) === 0) headers.splice(place, 1);
    else headers.splice(place, draw(2), oneOf([...UPGRADE_HEADERS, headers[place]!], draw));
  }
  const target = oneOf(["/", "/", "/", "/?ticket=x", "/?token=x", "/v1/events", "*", `/${"x".repeat(4_000)}`], draw);
  const bytes = bytesOfPlain({ method: draw(10) === 0 ? oneOf(METHODS, draw) : "GET", target, headers, body: "" });
  return draw(3) === 0 ? mutated(bytes, draw) : bytes;
}

/** True when the subprotocol is among the offers of a request's bytes. */
export function offersProtocol(request: Uint8Array): boolean {
  const lines = Buffer.from(request).toString("latin1").split(/\r?\n/);
  const offers = lines.flatMap((line) => /^sec-websocket-protocol:(.*)$/i.exec(line)?.[1]?.split(",") ?? []);
  return offers.some((offer) => offer.trim() === SUBPROTOCOL);
}

// --- sockets ---

/** What came back, and whether the server closed. */
export interface Heard {
  readonly bytes: Buffer;
  readonly closed: boolean;
}

/** The same bytes in pieces, none of which begins before `from`, but for the first. */
export function splitUp(bytes: Uint8Array, draw: Draw, from = 0): Uint8Array[] {
  const places = Array.from({ length: 1 + draw(12) }, () => from + draw(bytes.length + 1 - from));
  const cuts = places.sort((left, right) => left - right);
  return [0, ...cuts].map((start, index) => bytes.subarray(start, cuts[index] ?? bytes.length));
}

/** Options of {@link exchange}. */
export interface ExchangeOptions {
  /** Sent before the pieces, which wait for the head of its answer. */
  readonly first?: Uint8Array;
  /** True when all is there. */
  readonly done: (heard: Buffer) => boolean;
  readonly patienceMs: number;
}

/**
 * Sends pieces of bytes, each as a packet of its own, and resolves when all is there, when the server closes, or when
 * it has said nothing for `patienceMs`.
 */
export function exchange(port: number, pieces: readonly Uint8Array[], options: ExchangeOptions): Promise<Heard> {
  const { first, done, patienceMs } = options;
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  let bytes: Buffer = Buffer.alloc(0);
  let isWaiting = first !== undefined;
  return new Promise<Heard>((resolve) => {
    const finish = (closed: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ bytes, closed });
    };
    let timer = setTimeout(finish, patienceMs, false);
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      clearTimeout(timer);
      timer = setTimeout(finish, patienceMs, false);
      if (done(bytes)) finish(false);
      else if (isWaiting && bytes.includes("\r\n\r\n")) {
        isWaiting = false;
        void sendAll(socket, pieces);
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => finish(true));
    void sendAll(socket, first === undefined ? pieces : [first]);
  });
}

async function sendAll(socket: Socket, pieces: readonly Uint8Array[]): Promise<void> {
  for (const piece of pieces) {
    socket.write(piece);
    // Two turns: the packet has left.
    if (pieces.length > 1) {
      for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
