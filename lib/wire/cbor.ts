/**
 * The strict subset of CBOR (RFC 8949) that frames are made of.
 *
 * A reader pulls one item after another by position and a writer puts one after another: neither builds a tree,
 * because every frame's shape is known beforehand. What the reader keeps true:
 *
 * 1. Nothing is allocated for a length that reaches past the end of the message. A 9-byte header that announces
 *    2^40 bytes costs 9 bytes.
 * 2. Only the items of `docs/PROTOCOL.md` section 1 exist. Tags, maps, indefinite lengths, half and single floats
 *    and malformed UTF-8 are `PROTOCOL`: a general decoder stalls for minutes on a hostile bignum tag, and reads
 *    two malformed keys as one.
 * 3. A frame holds at most 10,000 items, arrays at most 8 deep.
 *
 * Byte strings come out as views of the message, for the caller to copy when the message is not its own.
 *
 * @module
 */
import { FirkinError } from "../base/errors.ts";

/** Items in all arrays of one frame: a page of 1,000 entries has 7,002. */
const FRAME_ITEMS_MAX = 10_000;
/** Arrays inside arrays; a page of entries is 4 deep. */
const DEPTH_MAX = 8;
/** Texts up to this length are remembered or written without a TextEncoder: the longest bucket name. */
const SHORT_TEXT_BYTES_MAX = 64;
/** Below this a loop copies faster than `Uint8Array.set` (Node 20: 9 ns against 25 ns for 12 bytes). */
const SHORT_BYTES_MAX = 24;
/** A first buffer; most messages are a few small frames. */
const BUFFER_BYTES_FIRST = 1_024;
/** A buffer that grew past this is given back after `take`. */
const BUFFER_BYTES_KEPT = 256 * 1_024;

const UINT = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;
const FLOAT64 = 0xfb;
const TWO_32 = 2 ** 32;

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Pulls items from one message, by position. Every method throws {@link FirkinError} `PROTOCOL` when the next item
 * is not what was asked for, is outside the subset, or does not end inside the message; the position is then
 * somewhere in that item, and `seek` goes back.
 */
export class CborReader {
  #bytes: Uint8Array = new Uint8Array(0);
  #position = 0;
  #itemsLeft = 0;
  /** The last short text and its bytes: a connection says the same bucket over and over. */
  #text = "";
  #textBytes = new Uint8Array(0);

  /** Starts at the beginning of `bytes`, which must not change while they are read. */
  reset(bytes: Uint8Array): this {
    this.#bytes = bytes;
    this.#position = 0;
    this.#itemsLeft = FRAME_ITEMS_MAX;
    return this;
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#position;
  }

  /** Goes back to a `position` seen before, with a fresh allowance of items. */
  seek(position: number): void {
    this.#position = position;
    this.#itemsLeft = FRAME_ITEMS_MAX;
  }

  /** True when every byte has been read. */
  atEnd(): boolean {
    return this.#position >= this.#bytes.length;
  }

  /** Begins a frame: an array, with a fresh allowance of items. Returns its number of items. */
  frame(): number {
    this.#itemsLeft = FRAME_ITEMS_MAX;
    return this.array();
  }

  /** Begins an array and returns its number of items. */
  array(): number {
    const head = this.#byte();
    if (head >> 5 !== ARRAY) throw this.#unexpected("an array", head);
    const count = this.#argument(head);
    // Each item takes a byte at least, so a count beyond the bytes left is a lie.
    if (count > this.#itemsLeft || count > this.#bytes.length - this.#position) {
      throw this.#wrong(`an array of ${count} items is over the limit or past the end`);
    }
    this.#itemsLeft -= count;
    return count;
  }

  /** A whole number from 0 to 2^53 - 1. */
  uint(): number {
    const head = this.#byte();
    if (head < 24) return head;
    if (head >> 5 !== UINT) throw this.#unexpected("an unsigned integer", head);
    return this.#argument(head);
  }

  /** A whole number within 2^53 - 1 of zero. */
  int(): number {
    const head = this.#byte();
    const major = head >> 5;
    if (major !== UINT && major !== NEGATIVE) throw this.#unexpected("an integer", head);
    const argument = this.#argument(head);
    if (major === UINT) return argument;
    if (argument === Number.MAX_SAFE_INTEGER) throw this.#wrong("an integer is below -(2^53 - 1)");
    return -1 - argument;
  }

  /** An integer or a 64-bit float. */
  number(): number {
    if (this.#bytes[this.#position] !== FLOAT64) return this.int();
    this.#position++;
    const start = this.#span(8);
    return new DataView(this.#bytes.buffer, this.#bytes.byteOffset + start, 8).getFloat64(0);
  }

  /** A byte string, as a view of the message. */
  bytes(): Uint8Array {
    const head = this.#byte();
    if (head >> 5 !== BYTES) throw this.#unexpected("a byte string", head);
    const length = this.#argument(head);
    const start = this.#span(length);
    return new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + start, length);
  }

  /** Steps over a byte string and returns its length: it stands in `source`, up to `position`. Makes no view. */
  span(): number {
    const head = this.#byte();
    if (head >> 5 !== BYTES) throw this.#unexpected("a byte string", head);
    const length = this.#argument(head);
    this.#span(length);
    return length;
  }

  /** The message. */
  get source(): Uint8Array {
    return this.#bytes;
  }

  /** A text of well-formed UTF-8. */
  text(): string {
    const head = this.#byte();
    if (head >> 5 !== TEXT) throw this.#unexpected("a text", head);
    const length = this.#argument(head);
    const start = this.#span(length);
    if (length === this.#textBytes.length && this.#isLastText(start)) return this.#text;
    const bytes = this.#bytes.subarray(start, start + length);
    let text: string;
    try {
      text = utf8Decoder.decode(bytes);
    } catch (error) {
      throw this.#wrong("a text is not well-formed UTF-8", error);
    }
    if (length <= SHORT_TEXT_BYTES_MAX) {
      this.#text = text;
      this.#textBytes = bytes.slice();
    }
    return text;
  }

  /** A truth value. */
  bool(): boolean {
    const head = this.#byte();
    if (head !== TRUE && head !== FALSE) throw this.#unexpected("true or false", head);
    return head === TRUE;
  }

  /** Steps over a null; reads nothing and returns false when the next item is another. */
  skipNull(): boolean {
    if (this.#bytes[this.#position] !== NULL) return false;
    this.#position++;
    return true;
  }

  /** True when the next item is an array; reads nothing. */
  isArray(): boolean {
    return (this.#bytes[this.#position] ?? 0) >> 5 === ARRAY;
  }

  /** Steps over one item of any kind in the subset, and checks it on the way. */
  skip(depth = 0): void {
    const head = this.#bytes[this.#position] ?? this.#byte();
    switch (head >> 5) {
      case UINT:
      case NEGATIVE:
        this.int();
        return;
      case BYTES:
        this.bytes();
        return;
      case TEXT:
        this.text();
        return;
      case ARRAY:
        if (depth === DEPTH_MAX) throw this.#wrong(`arrays are more than ${DEPTH_MAX} deep`);
        for (let left = this.array(); left > 0; left--) this.skip(depth + 1);
        return;
      default:
        if (head === FLOAT64) this.number();
        else if (!this.skipNull()) this.bool();
    }
  }

  #byte(): number {
    const byte = this.#bytes[this.#position];
    if (byte === undefined) throw this.#wrong("the message ends inside a frame");
    this.#position++;
    return byte;
  }

  /** The number that a head announces: a value, a length or a count. */
  #argument(head: number): number {
    const width = head & 31;
    if (width < 24) return width;
    const bytes = this.#bytes;
    switch (width) {
      case 24:
        return bytes[this.#span(1)]!;
      case 25: {
        const start = this.#span(2);
        return (bytes[start]! << 8) | bytes[start + 1]!;
      }
      case 26:
        return this.#uint32(this.#span(4));
      case 27: {
        const start = this.#span(8);
        const value = this.#uint32(start) * TWO_32 + this.#uint32(start + 4);
        if (value > Number.MAX_SAFE_INTEGER) throw this.#wrong("an integer is above 2^53 - 1");
        return value;
      }
      default:
        throw this.#wrong(`byte 0x${head.toString(16)} has an indefinite or reserved length`);
    }
  }

  #uint32(start: number): number {
    const bytes = this.#bytes;
    return ((bytes[start]! << 24) | (bytes[start + 1]! << 16) | (bytes[start + 2]! << 8) | bytes[start + 3]!) >>> 0;
  }

  /** Steps over `length` bytes and returns where they start. */
  #span(length: number): number {
    const start = this.#position;
    if (length > this.#bytes.length - start) throw this.#wrong(`${length} bytes reach past the end of the message`);
    this.#position = start + length;
    return start;
  }

  #isLastText(start: number): boolean {
    const bytes = this.#bytes;
    const last = this.#textBytes;
    for (let index = 0; index < last.length; index++) {
      if (bytes[start + index] !== last[index]) return false;
    }
    return true;
  }

  #unexpected(wanted: string, head: number): FirkinError {
    return this.#wrong(`expected ${wanted}, found byte 0x${head.toString(16).padStart(2, "0")}`);
  }

  #wrong(state: string, cause?: unknown): FirkinError {
    return new FirkinError("PROTOCOL", `Cannot read a frame at byte ${this.#position}: ${state}`, { cause });
  }
}

/** Puts items one after another into a buffer that grows. Integers and lengths take the shortest form. */
export class CborWriter {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(BUFFER_BYTES_FIRST);
  #length = 0;

  /** Bytes written since the last `take`. */
  get length(): number {
    return this.#length;
  }

  /** Forgets what was written past `length`, a length seen before: half a frame whose rest could not be written. */
  rewind(length: number): void {
    this.#length = length;
  }

  /** What was written since the last `take`: a view that is valid until the next write. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    if (this.#bytes.length > BUFFER_BYTES_KEPT) this.#bytes = new Uint8Array(BUFFER_BYTES_FIRST);
    return taken;
  }

  /** A copy of what was written past `start`, which is then forgotten. */
  cut(start: number): Uint8Array<ArrayBuffer> {
    const piece = this.#bytes.slice(start, this.#length);
    this.#length = start;
    return piece;
  }

  /** Begins an array of `count` items. */
  array(count: number): void {
    this.#head(ARRAY, count);
  }

  /** @throws {RangeError} not a whole number from 0 to 2^53 - 1 */
  uint(value: number): void {
    this.#head(UINT, value);
  }

  /** @throws {RangeError} not a whole number within 2^53 - 1 of zero */
  int(value: number): void {
    if (value >= 0) this.#head(UINT, value);
    else this.#head(NEGATIVE, value < -Number.MAX_SAFE_INTEGER ? NaN : -1 - value);
  }

  /** Any number: an integer where it is one, else a 64-bit float. */
  number(value: number): void {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) return this.int(value);
    this.#reserve(9);
    this.#bytes[this.#length] = FLOAT64;
    new DataView(this.#bytes.buffer).setFloat64(this.#length + 1, value);
    this.#length += 9;
  }

  /** A byte string: `value` from `start` to `end`. */
  bytes(value: Uint8Array, start = 0, end: number = value.length): void {
    this.#head(BYTES, end - start);
    this.raw(value, start, end);
  }

  /** A text. A lone surrogate is written as U+FFFD. */
  text(value: string): void {
    if (value.length > SHORT_TEXT_BYTES_MAX || !this.#ascii(value)) {
      const bytes = utf8Encoder.encode(value);
      this.#head(TEXT, bytes.length);
      this.raw(bytes);
    }
  }

  /** A truth value. */
  bool(value: boolean): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value ? TRUE : FALSE;
  }

  /** The null that stands for something absent. */
  null(): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = NULL;
  }

  /** Items that are encoded already. */
  raw(encoded: Uint8Array, start = 0, end: number = encoded.length): void {
    const count = end - start;
    this.#reserve(count);
    const bytes = this.#bytes;
    const to = this.#length;
    if (count > SHORT_BYTES_MAX) {
      bytes.set(count === encoded.length ? encoded : encoded.subarray(start, end), to);
    } else {
      for (let index = 0; index < count; index++) bytes[to + index] = encoded[start + index]!;
    }
    this.#length = to + count;
  }

  /** Writes a short text if all of it is ASCII; else leaves nothing behind. */
  #ascii(value: string): boolean {
    const start = this.#length;
    this.#head(TEXT, value.length);
    this.#reserve(value.length);
    const bytes = this.#bytes;
    for (let index = 0; index < value.length; index++) {
      const unit = value.charCodeAt(index);
      if (unit > 0x7f) {
        this.#length = start;
        return false;
      }
      bytes[this.#length++] = unit;
    }
    return true;
  }

  #head(major: number, value: number): void {
    this.#reserve(9);
    const bytes = this.#bytes;
    const first = major << 5;
    let end = this.#length;
    if (value >>> 0 !== value) {
      if (!Number.isSafeInteger(value) || value < 0) {
        throw new RangeError("Cannot encode a number: expected a whole one within 2^53 - 1 of zero");
      }
      bytes[end++] = first | 27;
      const high = Math.floor(value / TWO_32);
      bytes[end++] = high >>> 24;
      bytes[end++] = high >>> 16;
      bytes[end++] = high >>> 8;
      bytes[end++] = high;
      bytes[end++] = value >>> 24;
      bytes[end++] = value >>> 16;
      bytes[end++] = value >>> 8;
      bytes[end++] = value;
    } else if (value < 24) {
      bytes[end++] = first | value;
    } else if (value < 0x100) {
      bytes[end++] = first | 24;
      bytes[end++] = value;
    } else if (value < 0x10000) {
      bytes[end++] = first | 25;
      bytes[end++] = value >>> 8;
      bytes[end++] = value;
    } else {
      bytes[end++] = first | 26;
      bytes[end++] = value >>> 24;
      bytes[end++] = value >>> 16;
      bytes[end++] = value >>> 8;
      bytes[end++] = value;
    }
    this.#length = end;
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}
