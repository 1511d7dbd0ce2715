/**
 * CBOR as JSON, where JSON can say the same.
 *
 * JavaScript clients write CBOR unless told otherwise, and people with `curl` want to read it. The text is made
 * straight from the bytes: no value is built, so hostile bytes make no object, no pattern and no big number, and cost
 * time and memory in proportion to their length. Integers keep all their digits.
 *
 * What JSON cannot say (bytes, NaN, big integers, sets, maps whose keys are not text) has no JSON, rather than one that
 * says something else. Two things are read as `JSON.stringify` would have it, because JavaScript writes them all the
 * time: an undefined member of an object is left out, and a date is its ISO text. Bytes outside definite-length CBOR
 * (RFC 8949) have no JSON either.
 *
 * @module
 */

/** Deeper than this, a value has no JSON. */
const DEPTH_MAX = 128;

const TAG_DATE_TEXT = 0;
const TAG_DATE = 1;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The JSON text of a value in CBOR, undefined when there is none. */
export function cborToJson(bytes: Uint8Array): string | undefined {
  try {
    const reader = new Reader(bytes);
    const text = reader.item(0);
    return reader.atEnd ? text : undefined;
  } catch (error) {
    // A RangeError is a read past the end; a TypeError, text that is no UTF-8.
    if (error instanceof NoJson || error instanceof RangeError || error instanceof TypeError) return undefined;
    throw error;
  }
}

/** The bytes have no JSON. */
class NoJson extends Error {}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** The text of the next item; undefined when the item is that. */
  item(depth: number): string | undefined {
    if (depth > DEPTH_MAX) throw new NoJson();
    const head = this.#view.getUint8(this.#at++);
    const major = head >> 5;
    if (major === 7) return this.#simple(head & 31);
    const argument = this.#argument(head & 31);
    switch (major) {
      case 0:
        return String(argument);
      case 1:
        return String(-1n - BigInt(argument));
      case 3:
        return JSON.stringify(this.#text(argument));
      case 4:
        return this.#array(argument, depth);
      case 5:
        return this.#object(argument, depth);
      case 6:
        return this.#tagged(argument, depth);
      default:
        throw new NoJson(); // bytes
    }
  }

  /** The number behind a head. */
  #argument(low: number): number | bigint {
    const at = this.#at;
    if (low < 24) return low;
    if (low > 27) throw new NoJson(); // an indefinite length, or nothing that is defined
    this.#at += 1 << (low - 24);
    if (low === 24) return this.#view.getUint8(at);
    if (low === 25) return this.#view.getUint16(at);
    if (low === 26) return this.#view.getUint32(at);
    return this.#view.getBigUint64(at);
  }

  /** A count of items or bytes: never more than there are bytes left. */
  #length(argument: number | bigint): number {
    const length = Number(argument);
    if (length > this.#bytes.length - this.#at) throw new NoJson();
    return length;
  }

  #text(argument: number | bigint): string {
    const length = this.#length(argument);
    this.#at += length;
    return utf8.decode(this.#bytes.subarray(this.#at - length, this.#at));
  }

  #array(argument: number | bigint, depth: number): string {
    const parts: string[] = [];
    for (let left = this.#length(argument); left > 0; left--) parts.push(this.item(depth + 1) ?? "null");
    return `[${parts.join(",")}]`;
  }

  #object(argument: number | bigint, depth: number): string {
    const parts: string[] = [];
    for (let left = this.#length(argument); left > 0; left--) {
      const head = this.#view.getUint8(this.#at++);
      if (head >> 5 !== 3) throw new NoJson();
      const name = this.#text(this.#argument(head & 31));
      const value = this.item(depth + 1);
      if (value !== undefined) parts.push(`${JSON.stringify(name)}:${value}`);
    }
    return `{${parts.join(",")}}`;
  }

  #tagged(tag: number | bigint, depth: number): string {
    const content = this.item(depth + 1);
    if (content === undefined || (tag !== TAG_DATE && tag !== TAG_DATE_TEXT)) throw new NoJson();
    if (tag === TAG_DATE_TEXT) return content;
    const date = new Date(Number(content) * 1_000);
    return JSON.stringify(date.toISOString()); // a RangeError when it is no time
  }

  #simple(low: number): string | undefined {
    if (low === 20) return "false";
    if (low === 21) return "true";
    if (low === 22) return "null";
    if (low === 23) return undefined;
    const number = this.#float(low);
    if (!Number.isFinite(number)) throw new NoJson();
    return JSON.stringify(number);
  }

  #float(low: number): number {
    const at = this.#at;
    if (low === 25) {
      this.#at += 2;
      return halfFloat(this.#view.getUint16(at));
    }
    if (low === 26) {
      this.#at += 4;
      return this.#view.getFloat32(at);
    }
    if (low !== 27) throw new NoJson();
    this.#at += 8;
    return this.#view.getFloat64(at);
  }
}

/** A 16-bit float, of which not every runtime's DataView knows. */
function halfFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1_024) * 2 ** (exponent - 15);
}
