/**
 * Keys and values as HTTP carries them: media types, ETags, percent-escapes, and entries as JSON.
 *
 * A value goes out in the type it was written as, or in one that the request accepts and that says the same: any value
 * as bytes, JSON as CBOR, CBOR as JSON (`transcode.ts`), text as text or bytes alone. A key in a path or a query is its
 * bytes, percent-escaped once: what is not UTF-8 (`%ff`) and NUL (`%00`) have their place there like any other byte.
 *
 * In JSON a key is `key` when it is text, else `keyBase64`; a value is `value` when JSON can say it, else `base64`, the
 * bytes as they are stored; `content` says what they are. A value that is JSON is passed on letter by letter. What goes
 * out in this form is taken in it too.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { decodeText, encodeText } from "../lib/base/bytes.ts";
import { CONTENT, type Content, CONTENT_NAMES, encodeValue } from "../lib/base/codec.ts";
import { FirkinError } from "../lib/base/errors.ts";
import type { ChangeEvent, Entry } from "../lib/engine/engine.ts";
import { Refused } from "./problems.ts";
import { cborToJson } from "./transcode.ts";

export const JSON_TYPE = "application/json";
const CBOR_TYPE = "application/cbor";
const BYTES_TYPE = "application/octet-stream";
const TEXT_TYPE = "text/plain; charset=utf-8";

/** The media type of each content type, by number. */
export const MEDIA_TYPES: readonly string[] = [CBOR_TYPE, JSON_TYPE, TEXT_TYPE, BYTES_TYPE];

// --- media types ---

/** What a body with this Content-Type is. @throws {Refused} UNSUPPORTED_MEDIA_TYPE */
export function contentOf(headers: Headers): Content {
  const given = headers.get("content-type") ?? "";
  const [type = "", ...parameters] = given.toLowerCase().split(";").map((part) => part.trim());
  const content = MEDIA_TYPES.findIndex((media) => media.split(";", 1)[0] === type);
  const isUtf8 = parameters.every((parameter) => /^(?!charset=)|^charset="?utf-8"?$/.test(parameter));
  if (content === -1 || !isUtf8) {
    throw new Refused(
      "UNSUPPORTED_MEDIA_TYPE",
      `Cannot take a body of type "${given}": expected one of ${MEDIA_TYPES.join(", ")}`,
    );
  }
  const encoding = headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity") {
    throw new Refused("UNSUPPORTED_MEDIA_TYPE", "Cannot take a body that is encoded: expected it as it is");
  }
  return content as Content;
}

/** Which of `offers` an Accept header likes best, the earlier of equals; undefined when it takes none. */
export function preferred(accept: string | null, offers: readonly string[]): string | undefined {
  if (accept === null || accept.trim() === "") return offers[0];
  const ranges = accept.toLowerCase().split(",").map(parseRange);
  let best: { offer: string; quality: number } | undefined;
  for (const offer of offers) {
    const type = offer.split(";", 1)[0]!;
    const family = `${type.split("/", 1)[0]}/*`;
    // The most specific range that fits says how welcome it is.
    const range = [type, family, "*/*"].map((name) => ranges.find((one) => one.name === name)).find(Boolean);
    const quality = range?.quality ?? 0;
    if (quality > (best?.quality ?? 0)) best = { offer, quality };
  }
  return best?.offer;
}

function parseRange(text: string): { readonly name: string; readonly quality: number } {
  const [name = "", ...parameters] = text.split(";").map((part) => part.trim());
  const weight = parameters.find((parameter) => parameter.startsWith("q="));
  const quality = weight === undefined ? 1 : Number(weight.slice(2));
  return { name, quality: quality >= 0 && quality <= 1 ? quality : 0 };
}

/** A value in a form that the request accepts. @throws {Refused} NOT_ACCEPTABLE */
export function represent(entry: Entry, accept: string | null): { readonly type: string; readonly bytes: Uint8Array } {
  const { content, value } = entry;
  const own = MEDIA_TYPES[content]!;
  const offers = [own, ...content === CONTENT.json ? [CBOR_TYPE] : [], ...content === CONTENT.cbor ? [JSON_TYPE] : []];
  const type = preferred(accept, content === CONTENT.bytes ? offers : [...offers, BYTES_TYPE]);
  const bytes = type === own || type === BYTES_TYPE
    ? value
    : type === undefined
    ? undefined
    : content === CONTENT.json
    ? jsonToCbor(value)
    : jsonBytes(cborToJson(value));
  if (type === undefined || bytes === undefined) {
    throw new Refused("NOT_ACCEPTABLE", `Cannot give this value in a type that is accepted: it is ${own}`);
  }
  return { type, bytes };
}

function jsonBytes(text: string | undefined): Uint8Array | undefined {
  return text === undefined ? undefined : new TextEncoder().encode(text);
}

function jsonToCbor(bytes: Uint8Array): Uint8Array | undefined {
  const parsed = parseJson(bytes);
  return parsed === undefined ? undefined : encodeValue(parsed.value, CONTENT.cbor);
}

/** What JSON stands for, undefined when it is none. */
function parseJson(bytes: Uint8Array): { readonly text: string; readonly value: unknown } | undefined {
  const text = decodeText(bytes);
  if (text === undefined) return undefined;
  try {
    return { text, value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

// --- bodies ---

/** The value that a body carries. @throws {Refused} the type; {FirkinError} INVALID — it is not what it says it is */
export function valueOfBody(headers: Headers, bytes: Uint8Array): { readonly content: Content; value: Uint8Array } {
  const content = contentOf(headers);
  if (content === CONTENT.json && parseJson(bytes) === undefined) {
    throw new FirkinError("INVALID", "Cannot take the body: it is not JSON");
  }
  if (content === CONTENT.text && decodeText(bytes) === undefined) {
    throw new FirkinError("INVALID", "Cannot take the body: it is not UTF-8");
  }
  return { content, value: bytes };
}

/**
 * The members of a body that must be a JSON object with some of `names` and no others. No body is an empty object. The
 * type must say JSON, even then: a page of another site can send that with its browser's permission only.
 *
 * @throws {Refused} the type; {FirkinError} INVALID
 */
export async function membersOfBody(request: Request, names: readonly string[]): Promise<Record<string, unknown>> {
  if (contentOf(request.headers) !== CONTENT.json) {
    throw new Refused("UNSUPPORTED_MEDIA_TYPE", `Cannot take this body: expected ${JSON_TYPE}`);
  }
  const bytes = new Uint8Array(await request.arrayBuffer());
  if (bytes.length === 0) return {};
  return membersOf(parseJson(bytes)?.value, names, "the body");
}

/** The members of `value`, which must be a JSON object with some of `names` and no others. */
export function membersOf(value: unknown, names: readonly string[], what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new FirkinError("INVALID", `Cannot read ${what}: expected a JSON object`);
  }
  const unknown = Object.keys(value).find((name) => !names.includes(name));
  if (unknown !== undefined) {
    throw new FirkinError("INVALID", `Cannot read ${what}: it has no member "${unknown.slice(0, 64)}"`);
  }
  return value as Record<string, unknown>;
}

// --- keys and values in JSON ---

/** The key that a JSON object names. @throws {FirkinError} INVALID */
export function keyOf(members: Record<string, unknown>): Uint8Array {
  const { key, keyBase64 } = members;
  if (typeof key === "string" && keyBase64 === undefined) return encodeText(key);
  if (key === undefined && keyBase64 !== undefined) return fromBase64(keyBase64, "keyBase64");
  throw new FirkinError("INVALID", "Cannot read a key: expected key (text) or keyBase64");
}

/** The value that a JSON object holds. @throws {FirkinError} INVALID */
export function valueOf(members: Record<string, unknown>): { readonly content: Content; value: Uint8Array } {
  const { value, base64 } = members;
  const name = members["content"] ?? "json";
  const content = CONTENT_NAMES.findIndex((known) => known === name);
  if (content === -1) {
    throw new FirkinError("INVALID", `Cannot read a value: content is one of ${CONTENT_NAMES.join(", ")}`);
  }
  if (value === undefined && base64 !== undefined) {
    return { content: content as Content, value: fromBase64(base64, "base64") };
  }
  const isText = typeof value === "string";
  if (value === undefined || base64 !== undefined || name === "bytes" || (name === "text" && !isText)) {
    throw new FirkinError("INVALID", "Cannot read a value: expected value (JSON, or text as content says) or base64");
  }
  return { content: content as Content, value: encodeValue(value, content as Content) };
}

function fromBase64(text: unknown, name: string): Uint8Array {
  if (typeof text !== "string" || text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw new FirkinError("INVALID", `Cannot read ${name}: expected base64`);
  }
  return new Uint8Array(Buffer.from(text, "base64"));
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

/** The JSON of an entry; the value of a single-read key only when it was `taken`. */
export function entryJson(entry: Entry, options: { readonly taken?: boolean; readonly values?: boolean } = {}): string {
  const { revision, expiresAt, content, once } = entry;
  const parts = [keyJson(entry.key), `"revision":${revision}`];
  if (expiresAt !== undefined) parts.push(`"expiresAt":${expiresAt}`);
  if (once === true) parts.push('"once":true');
  parts.push(`"content":"${CONTENT_NAMES[content]}"`);
  const shown = once !== true || options.taken === true;
  if (shown && options.values !== false) parts.push(valueJson(entry.value, content));
  return `{${parts.join(",")}}`;
}

/** The JSON of a change, on one line. */
export function changeJson(event: ChangeEvent): string {
  const { type, bucket, revision, at, expiresAt, content, value } = event;
  const parts = [`"type":"${type}","bucket":"${bucket}"`, keyJson(event.key), `"revision":${revision},"at":${at}`];
  if (expiresAt !== undefined) parts.push(`"expiresAt":${expiresAt}`);
  if (event.once === true) parts.push('"once":true');
  if (content !== undefined) parts.push(`"content":"${CONTENT_NAMES[content]}"`);
  // In JSON a line ends between two tokens only.
  if (content !== undefined && value !== undefined) {
    parts.push(valueJson(value, content).replace(/[\r\n]+/g, " "));
  }
  if (event.more === true) parts.push('"more":true');
  return `{${parts.join(",")}}`;
}

function keyJson(key: Uint8Array): string {
  const text = decodeText(key);
  return text === undefined ? `"keyBase64":"${toBase64(key)}"` : `"key":${JSON.stringify(text)}`;
}

function valueJson(value: Uint8Array, content: Content): string {
  const json = jsonOf(value, content);
  return json === undefined ? `"base64":"${toBase64(value)}"` : `"value":${json}`;
}

function jsonOf(value: Uint8Array, content: Content): string | undefined {
  if (content === CONTENT.bytes) return undefined;
  if (content === CONTENT.cbor) return cborToJson(value);
  if (content === CONTENT.json) return parseJson(value)?.text;
  const text = decodeText(value);
  return text === undefined ? undefined : JSON.stringify(text);
}

// --- percent-escapes ---

/** The bytes behind a part of a URL. @throws {FirkinError} INVALID — an escape that is none */
export function unescapeBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  let length = 0;
  for (let index = 0; index < text.length; index++) {
    let code = text.charCodeAt(index);
    if (code === 0x25) {
      const digits = text.slice(index + 1, index + 3);
      if (!/^[0-9a-f]{2}$/i.test(digits)) {
        throw new FirkinError("INVALID", "Cannot read the URL: a % is not followed by two hexadecimal digits");
      }
      code = parseInt(digits, 16);
      index += 2;
    }
    bytes[length++] = code; // ASCII: transports let nothing else through
  }
  return bytes.slice(0, length);
}

/** Bytes as a part of a URL. */
export function escapeBytes(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const letter = String.fromCharCode(byte);
    text += /[\w.~-]/.test(letter) ? letter : `%${byte.toString(16).padStart(2, "0").toUpperCase()}`;
  }
  return text;
}

/** The key that a page ended with, in letters that a URL takes as they are. */
export function escapeCursor(key: Uint8Array): string {
  return toBase64(key).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** The key behind a cursor. @throws {FirkinError} INVALID */
export function unescapeCursor(cursor: string): Uint8Array {
  const base64 = cursor.replaceAll("-", "+").replaceAll("_", "/");
  return fromBase64(base64.padEnd(Math.ceil(base64.length / 4) * 4, "="), "cursor");
}

// --- ETags ---

/** The ETag of a revision. */
export function etagOf(revision: number): string {
  return `"${revision}"`;
}

/** What If-Match or If-None-Match asks for. */
export interface Tags {
  /** `*`. */
  readonly any: boolean;
  /** Those that name a revision. */
  readonly revisions: readonly number[];
}

/** Reads a list of ETags; weak ones count for a read (`weak`) and never for a write. Unknown ones match nothing. */
export function tagsOf(header: string, weak: boolean): Tags {
  if (header.trim() === "*") return { any: true, revisions: [] };
  const tags = header.split(",").map((tag) => /^(W\/)?"(\d{1,16})"$/.exec(tag.trim()));
  const revisions = tags.filter((tag) => tag !== null && (weak || tag[1] === undefined)).map((tag) => Number(tag![2]));
  return { any: false, revisions };
}
