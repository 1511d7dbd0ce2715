/**
 * Values as Redis clients see them: bytes, whatever other clients of firkin make of them.
 *
 * What Redis clients write is text when it is UTF-8, else bytes, so that others read what they would expect. What
 * others wrote as text, JSON or bytes is shown as it is. CBOR, in which firkin's own clients write unless told
 * otherwise, is shown as what it says: text as itself, bytes as themselves, anything else as its JSON, and what has no
 * JSON as it is.
 *
 * @module
 */
import { isUtf8 } from "node:buffer";
import { encodeText } from "../../lib/base/bytes.ts";
import { CONTENT, type Content, decodeValue, encodeValue } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { cborToJson } from "../transcode.ts";
import type { Item, NewItem } from "./view.ts";

/** Below this a loop over bytes beats the runtime's look at them. */
const SHORT = 64;

/** What a Redis client writes. */
export function itemOf(value: Uint8Array): NewItem {
  return { value, content: isText(value) ? CONTENT.text : CONTENT.bytes };
}

function isText(value: Uint8Array): boolean {
  if (value.length > SHORT) return isUtf8(value);
  for (let index = 0; index < value.length; index++) if (value[index]! > 0x7f) return isUtf8(value);
  return true;
}

/** A value that takes the place of `before`: the deadline stays. */
export function changed(before: Item | undefined, item: NewItem): NewItem {
  return before?.expiresAt === undefined ? item : { ...item, deadline: { expiresAt: before.expiresAt } };
}

/** A number that takes the place of `before`: where others keep a number, it stays one that they can add to. */
export function numberItem(before: Item | undefined, text: string): NewItem {
  const number = Number(text);
  const isNumber = before?.content === CONTENT.cbor || before?.content === CONTENT.json;
  if (isNumber && String(number) === text && Math.abs(number) <= Number.MAX_SAFE_INTEGER) {
    return changed(before, { value: encodeValue(number, before.content), content: before.content });
  }
  return changed(before, { value: encodeText(text), content: CONTENT.text });
}

/** The bytes that a Redis client is shown. */
export function shown({ value, content }: { readonly value: Uint8Array; readonly content: Content }): Uint8Array {
  return content === CONTENT.cbor ? shownCbor(value) : value;
}

function shownCbor(value: Uint8Array): Uint8Array {
  const major = value.length === 0 ? -1 : value[0]! >> 5;
  if (major === 2 || major === 3) {
    try {
      const decoded = decodeValue(value, CONTENT.cbor);
      if (decoded instanceof Uint8Array) return decoded;
      if (typeof decoded === "string" && decoded.isWellFormed()) return encodeText(decoded);
    } catch (error) {
      // Others may have written anything and called it CBOR.
      if (!(error instanceof FirkinError)) throw error;
    }
    return value;
  }
  const json = cborToJson(value);
  return json === undefined ? value : encodeText(json);
}
