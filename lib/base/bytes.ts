/**
 * Keys as bytes: encoding, comparison, hash.
 *
 * A key is 1 to 65,535 bytes; a string key is its UTF-8 and nothing else, so `"a"` and the byte 0x61 are one key.
 * A string with a lone surrogate is refused: encoders turn every lone surrogate into the same replacement
 * character, so two keys would become one. Coming back, bytes that are well-formed UTF-8 are a string, others
 * stay bytes.
 *
 * @module
 */

/** Bytes that small copies are cut from, and the longest that is small. */
const POOL_BYTES = 8_192;
let pooledMax = 1_024;

let pool = new ArrayBuffer(POOL_BYTES);
let poolEnd = 0;

/**
 * A copy of `bytes` from `start` to `end`, which belongs to the caller. Small ones share an `ArrayBuffer` with others
 * (as Node's `Buffer` does), which makes them twice as fast as `slice` in V8; none overlaps another.
 */
export function copyBytes(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const length = end - start;
  if (length > pooledMax) return bytes.slice(start, end);
  // Of a pool that somebody has transferred, with a copy that was theirs, nothing is left.
  if (poolEnd + length >= pool.byteLength) {
    pool = new ArrayBuffer(POOL_BYTES);
    poolEnd = 0;
  }
  // Not a `subarray` of an array: that looks up its class first.
  const copy = new Uint8Array(pool, poolEnd, length);
  poolEnd += length;
  copy.set(bytes.subarray(start, end));
  return copy;
}

/** From here on every copy is a `slice`: in JavaScriptCore that takes half as long. */
export function copyBySlice(): void {
  pooledMax = -1;
}

/** A key as users give and get it. */
export type Key = string | Uint8Array;

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Longest key that {@link KeyBuffer} lends. */
const LENT_MAX = 256;

/** Below this a loop over character codes beats the runtime's encoder and decoder. */
const SHORT = 48;

/** The UTF-8 of `text`. @throws {TypeError} `text` holds a lone surrogate */
export function encodeText(text: string): Uint8Array {
  if (text.length <= SHORT) {
    const bytes = new Uint8Array(text.length);
    let index = 0;
    for (; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) break;
      bytes[index] = code;
    }
    if (index === text.length) return bytes;
  }
  if (!text.isWellFormed()) throw new TypeError("Cannot encode a string with a lone surrogate: it has no UTF-8");
  return utf8Encoder.encode(text);
}

/** The string behind well-formed UTF-8, undefined when it is not. */
export function decodeText(bytes: Uint8Array): string | undefined {
  if (bytes.length <= SHORT) {
    let text = "";
    let index = 0;
    for (; index < bytes.length; index++) {
      const byte = bytes[index]!;
      if (byte > 0x7f) break;
      text += String.fromCharCode(byte);
    }
    if (index === bytes.length) return text;
  }
  try {
    return utf8Decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** A key's bytes: `key` itself when it is bytes already. @throws {TypeError} not a key, or a lone surrogate */
export function encodeKey(key: Key): Uint8Array {
  if (typeof key === "string") return encodeText(key);
  if (key instanceof Uint8Array) return key;
  throw new TypeError(`Cannot use a ${typeof key} as a key: expected a string or a Uint8Array`);
}

/**
 * Keys as bytes in memory of its own, for who passes them on at once: what `encode` returns is overwritten by the next
 * call. An array of its own for each key takes 55 ns longer on Node and 430 on Deno.
 */
export class KeyBuffer {
  readonly #bytes = new Uint8Array(LENT_MAX);
  /** The beginnings of `#bytes` by their length, made when they are first needed. */
  readonly #views: Uint8Array[] = [];

  /** As {@link encodeKey}, but for short keys of ASCII the bytes are lent. */
  encode(key: Key): Uint8Array {
    if (typeof key !== "string" || key.length > LENT_MAX) return encodeKey(key);
    const bytes = this.#bytes;
    for (let index = 0; index < key.length; index++) {
      const code = key.charCodeAt(index);
      if (code > 0x7f) return encodeKey(key);
      bytes[index] = code;
    }
    return this.#lend(key.length);
  }

  /** What stands in `bytes` from `start` to `end`: lent when it is short, else a view. */
  cut(bytes: Uint8Array, start: number, end: number): Uint8Array {
    if (end - start > LENT_MAX) return bytes.subarray(start, end);
    for (let index = start; index < end; index++) this.#bytes[index - start] = bytes[index]!;
    return this.#lend(end - start);
  }

  #lend(length: number): Uint8Array {
    return this.#views[length] ??= this.#bytes.subarray(0, length);
  }
}

/** A key as users get it: a string when its bytes are well-formed UTF-8, else a copy of the bytes. */
export function decodeKey(bytes: Uint8Array): Key {
  return decodeText(bytes) ?? bytes.slice();
}

/** Less than, equal to or greater than zero, as `left` sorts before, with or after `right`; a prefix sorts first. */
export function compareBytes(left: Uint8Array, right: Uint8Array): number {
  const length = Math.min(left.length, right.length);
  for (let index = 0; index < length; index++) {
    const difference = left[index]! - right[index]!;
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** True when `bytes` begins with `prefix`. */
export function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  if (bytes.length < prefix.length) return false;
  for (let index = 0; index < prefix.length; index++) {
    if (bytes[index] !== prefix[index]) return false;
  }
  return true;
}

/** The first key after every key with `prefix`, undefined when there is none (the prefix is all 0xff). */
export function prefixEnd(prefix: Uint8Array): Uint8Array | undefined {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 0xff) length--;
  if (length === 0) return undefined;
  const end = prefix.slice(0, length);
  end[length - 1]!++;
  return end;
}

/**
 * A 32-bit hash of a bucket's key: FNV-1a over the bytes, with MurmurHash3's finaliser so that the high bits,
 * which choose the table and the slot, depend on all of them. `seed` is the store's own and random, so that
 * nobody outside can aim keys at one slot.
 */
export function hashKey(
  seed: number,
  bucket: number,
  bytes: Uint8Array,
  start = 0,
  end: number = bytes.length,
): number {
  let hash = Math.imul(seed ^ bucket, 0x01000193);
  for (let index = start; index < end; index++) hash = Math.imul(hash ^ bytes[index]!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (let index = 0; index < bytes.length; index++) text += HEX[bytes[index]!]!;
  return text;
}

/** The bytes behind hexadecimal digits, undefined when it is not that. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) return undefined;
  return Uint8Array.from({ length: text.length / 2 }, (_, index) => parseInt(text.slice(2 * index, 2 * index + 2), 16));
}
