/**
 * Values as a person sees and edits them: what they are, the start of them in a row, and text to bytes and back.
 *
 * What JSON cannot say (bytes, big integers, maps whose keys are not text) is shown, and not edited as JSON: it would
 * come back as something else.
 *
 * @module
 */
import { decodeText, encodeText, toHex } from "../../lib/base/bytes.ts";
import { CONTENT, type Content, CONTENT_NAMES, decodeValue, encodeValue } from "../../lib/base/codec.ts";
import { bytes as bytesOf } from "./words.ts";

/** Ways to look at a value; those that can be typed in are `json`, `text` and `hex`. */
export type Mode = "tree" | "json" | "text" | "image" | "hex";

/** What longer values are is said, and not decoded, in a row. */
const PREVIEW_BYTES_MAX = 4_096;
const PREVIEW_LENGTH = 160;
/** More bytes than this are not shown, and so not edited. */
export const HEX_BYTES_MAX = 16_384;

/** Images by the bytes that they begin with. */
const IMAGES: readonly (readonly [type: string, magic: RegExp])[] = [
  ["image/png", /^89504e470d0a1a0a/],
  ["image/jpeg", /^ffd8ff/],
  ["image/gif", /^47494638/],
  ["image/webp", /^52494646.{8}57454250/],
];

/** Text of a key: itself, or its bytes. */
export function keyText(key: Uint8Array): string {
  return decodeText(key) ?? `0x${toHex(key)}`;
}

/** The bytes of a key that was typed. @throws {TypeError} it is no text */
export function keyBytes(text: string): Uint8Array {
  const hex = /^0x((?:[0-9a-f]{2})+)$/i.exec(text)?.[1];
  return hex === undefined ? encodeText(text) : bytesOfHex(hex);
}

/** The type of an image; undefined for what is none. */
export function imageType(value: Uint8Array): string | undefined {
  const start = toHex(value.subarray(0, 12));
  return IMAGES.find(([, magic]) => magic.test(start))?.[0];
}

/** How a value can be looked at; the first is the best way. */
export function modesOf(value: Uint8Array, content: Content): Mode[] {
  if (content === CONTENT.text) return ["text", "hex"];
  if (content === CONTENT.bytes) return imageType(value) === undefined ? ["hex"] : ["image", "hex"];
  const decoded = tryDecode(value, content);
  if (decoded === undefined) return ["hex"];
  return isJson(decoded.value) ? ["tree", "json", "hex"] : ["tree", "hex"];
}

/** What a value stands for; undefined when its bytes are not what they should be. */
export function tryDecode(value: Uint8Array, content: Content): { readonly value: unknown } | undefined {
  try {
    return { value: decodeValue(value, content) };
  } catch {
    return undefined;
  }
}

/** A value as it is typed in; undefined when it cannot be. */
export function draftOf(value: Uint8Array, content: Content, mode: Mode): string | undefined {
  if (mode === "hex") {
    return value.length > HEX_BYTES_MAX
      ? undefined
      : toHex(value).replace(/(..)(?!$)/g, "$1 ").replace(/(.{48})/g, "$1\n");
  }
  if (mode === "text") return decodeText(value);
  if (mode === "json") return JSON.stringify(tryDecode(value, content)?.value, undefined, 2);
  return undefined;
}

/** The bytes of what was typed. @throws {Error} it is not what it should be */
export function bytesOfDraft(draft: string, content: Content, mode: Mode): Uint8Array {
  if (mode === "hex") return checked(bytesOfHex(draft), content);
  return mode === "text" ? encodeText(draft) : encodeValue(JSON.parse(draft), content);
}

/** The start of a value, much as JSON would put it: no longer, no deeper and no more work than what fits a row. */
export function preview(value: Uint8Array, content: Content): string {
  if (content === CONTENT.bytes) {
    const image = imageType(value);
    return image === undefined ? `0x${toHex(value.subarray(0, 64))}` : `${image}, ${bytesOf(value.length)}`;
  }
  if (value.length > PREVIEW_BYTES_MAX) return `${CONTENT_NAMES[content]}, ${bytesOf(value.length)}`;
  const decoded = tryDecode(value, content);
  return decoded === undefined ? `not valid ${CONTENT_NAMES[content]}` : begin(decoded.value, PREVIEW_LENGTH);
}

function begin(value: unknown, budget: number): string {
  if (budget <= 0) return "…";
  if (typeof value === "string") return JSON.stringify(value.slice(0, budget));
  if (value instanceof Uint8Array) return `0x${toHex(value.subarray(0, budget / 2))}`;
  if (value === null || typeof value !== "object" || value instanceof Date) return String(value);
  const isList = Array.isArray(value);
  let text = "";
  for (const [name, part] of Object.entries(isList ? value.slice(0, budget) : value)) {
    if (text.length >= budget) break;
    text += `${text && ", "}${isList ? "" : `${name}: `}${begin(part, budget - text.length - 2)}`;
  }
  return isList ? `[${text}]` : text === "" ? "{}" : `{ ${text} }`;
}

/** True when JSON says all of it. */
function isJson(value: unknown, depth = 0): boolean {
  if (value === null || typeof value === "string" || typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isFinite(value) && !Object.is(value, -0);
  if (typeof value !== "object" || depth > 500) return false;
  if (Array.isArray(value)) return value.every((part) => isJson(part, depth + 1));
  const prototype = Object.getPrototypeOf(value) as unknown;
  return (prototype === Object.prototype || prototype === null) &&
    Object.values(value).every((part) => isJson(part, depth + 1));
}

function bytesOfHex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, "");
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) {
    throw new TypeError("Cannot read this: expected pairs of hexadecimal digits");
  }
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Bytes that are to be a value of a type. @throws {Error} they are none */
function checked(bytes: Uint8Array, content: Content): Uint8Array {
  decodeValue(bytes, content);
  return bytes;
}
