/**
 * Values to bytes and back, by content type.
 *
 * A record carries the content type of its value, so a value is read by what it *is*, not by what the reader's
 * bucket would write: REST, Redis and WebSocket clients read one another's values.
 *
 * cbor-x is set to plain CBOR (no record extension, no shared state between messages), so that any CBOR
 * library reads the bytes.
 *
 * @module
 */
import { addExtension, Decoder, Encoder } from "cbor-x";
import { copyBytes, encodeText, toHex } from "./bytes.ts";
import { FirkinError, messageOf } from "./errors.ts";

/** The name of a content type. */
export type ContentName = "cbor" | "json" | "text" | "bytes";

/** What a value's bytes are. On disk and on the wire: never change a number. */
export const CONTENT: { readonly cbor: 0; readonly json: 1; readonly text: 2; readonly bytes: 3 } = {
  cbor: 0,
  json: 1,
  text: 2,
  bytes: 3,
};

/** The number of a content type. */
export type Content = (typeof CONTENT)[ContentName];

/** Names by number. */
export const CONTENT_NAMES: readonly ContentName[] = ["cbor", "json", "text", "bytes"];

// Big integers (tags 2 and 3): cbor-x adds them up byte by byte, in quadratic time, so that 256 KB took it a minute.
// Through hexadecimal they take milliseconds. The registration is cbor-x's own and gives the same values, only sooner.
const bigIntegerOf = (bytes: Uint8Array): bigint => BigInt(bytes.length === 0 ? 0 : `0x${toHex(bytes)}`);
addExtension({ tag: 2, decode: bigIntegerOf } as never);
addExtension({ tag: 3, decode: (bytes: Uint8Array) => -1n - bigIntegerOf(bytes) } as never);

const encoder = new Encoder({ useRecords: false, tagUint8Array: false });
const decoder = new Decoder({ useRecords: false, copyBuffers: true });
const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The bytes of `value` as `content`. The result belongs to the caller. @throws {TypeError} a value the type cannot hold
 */
export function encodeValue(value: unknown, content: Content): Uint8Array {
  switch (content) {
    case CONTENT.cbor:
      if (value === undefined) throw new TypeError("Cannot store undefined: delete the key instead");
      try {
        return encoder.encode(value);
      } catch (error) {
        throw new TypeError(`Cannot store this ${typeof value} as CBOR: ${messageOf(error)}`, { cause: error });
      }
    case CONTENT.json: {
      const text = JSON.stringify(value) as string | undefined;
      if (text === undefined) throw new TypeError(`Cannot store a ${typeof value} as JSON`);
      return utf8Encoder.encode(text);
    }
    case CONTENT.text:
      if (typeof value !== "string") throw new TypeError(`Cannot store a ${typeof value} as text: expected a string`);
      return encodeText(value);
    case CONTENT.bytes:
      if (!(value instanceof Uint8Array)) {
        throw new TypeError(`Cannot store a ${typeof value} as bytes: expected a Uint8Array`);
      }
      return value;
  }
}

/**
 * The value behind `bytes`; shares no memory with them. @throws {FirkinError} CORRUPT — the bytes are not that content
 */
export function decodeValue(bytes: Uint8Array, content: Content): unknown {
  return decodeValueIn(bytes, 0, bytes.length, content);
}

/** As {@link decodeValue}, of the bytes from `start` to `end`. */
export function decodeValueIn(bytes: Uint8Array, start: number, end: number, content: Content): unknown {
  if (content === CONTENT.bytes) return copyBytes(bytes, start, end);
  try {
    switch (content) {
      case CONTENT.cbor:
        return decoder.decode(bytes.subarray(start, end));
      case CONTENT.json:
        return JSON.parse(utf8Decoder.decode(bytes.subarray(start, end)));
      case CONTENT.text:
        return utf8Decoder.decode(bytes.subarray(start, end));
    }
  } catch (error) {
    const name = CONTENT_NAMES[content];
    throw new FirkinError("CORRUPT", `Cannot decode a value as ${name}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Adds to the number behind `bytes`, which counts as 0 when it is undefined: the sum, and its bytes as `content`.
 * @throws {FirkinError} INVALID — there is no number, or the sum is not exact
 */
export function addToValue(
  bytes: Uint8Array | undefined,
  content: Content,
  by: number,
): { readonly sum: number; readonly bytes: Uint8Array } {
  const before = bytes === undefined ? 0 : numberOf(bytes, content);
  const sum = before + by;
  if (!Number.isFinite(sum) || (Number.isInteger(sum) && !Number.isSafeInteger(sum))) {
    throw new FirkinError("INVALID", `Cannot add ${by} to ${before}: the sum is not exact`);
  }
  return { sum, bytes: encodeValue(content === CONTENT.text ? String(sum) : sum, content) };
}

const DECIMAL = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/;

function numberOf(bytes: Uint8Array, content: Content): number {
  // A number takes at most 9 bytes of CBOR and 32 characters: anything longer is not worth decoding.
  const decoded = bytes.length <= 32 && content !== CONTENT.bytes ? decodeValue(bytes, content) : undefined;
  const isDecimal = typeof decoded === "string" && DECIMAL.test(decoded);
  const number = content === CONTENT.text && isDecimal ? Number(decoded) : decoded;
  if (typeof number !== "number" || !Number.isFinite(number)) {
    throw new FirkinError("INVALID", "Cannot increment a value that is not a number");
  }
  return number;
}
