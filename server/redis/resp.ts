/**
 * RESP, the serialisation that Redis clients speak: commands in, replies out, in version 2 or 3.
 *
 * A command is `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or a line of words for people with a terminal. {@link RespReader}
 * takes them from the pieces that a socket delivers, whatever these are cut into:
 *
 * 1. A piece is read where it lies. Only when a command is cut in two is its beginning copied, into memory that grows
 *    with what has come, never with what was announced. No byte is looked at twice, however small the pieces.
 * 2. Arguments are views. Nothing writes over what they show, so they may be kept as long as they are needed.
 * 3. Whatever is not RESP ends the connection, with the words of Redis.
 *
 * A reply is a value ({@link Reply}), which {@link RespWriter} encodes into one buffer; version 2 has no maps, sets and
 * pushes, so they are arrays there.
 *
 * @module
 */
import { encodeText } from "../../lib/base/bytes.ts";

/** The versions of the protocol. */
export type RespVersion = 2 | 3;

/** What came is not RESP: the connection is closed. The message is told before. */
export class RespProtocolError extends Error {}

/** An error that is a reply: the connection goes on. Its message begins with a word in capitals. */
export class ErrorReply extends Error {}

/** In version 3 a map, in version 2 an array of keys and values in turn. */
export class MapReply {
  readonly pairs: readonly (readonly [Reply, Reply])[];

  /** Of keys and their values, in this order. */
  constructor(pairs: readonly (readonly [Reply, Reply])[]) {
    this.pairs = pairs;
  }
}

/** In version 3 what nobody asked for, in version 2 an array. */
export class PushReply {
  readonly items: readonly Reply[];

  /** Of the items in this order. */
  constructor(items: readonly Reply[]) {
    this.items = items;
  }
}

/** In version 3 text for people, in version 2 a bulk string. */
export class VerbatimReply {
  readonly text: string;

  /** Of plain text. */
  constructor(text: string) {
    this.text = text;
  }
}

/** No array: `*-1` in version 2. */
export const NO_ARRAY: unique symbol = Symbol("no array");

/**
 * A reply: a simple string, a bulk string (bytes), an integer, null, an error, an array, a set, or one of the classes
 * above.
 */
export type Reply =
  | string
  | Uint8Array
  | number
  | bigint
  | null
  | typeof NO_ARRAY
  | ErrorReply
  | readonly Reply[]
  | ReadonlySet<Reply>
  | MapReply
  | PushReply
  | VerbatimReply;

/** A bulk string of text. A lone surrogate, which no UTF-8 can be, becomes the replacement character. */
export function bulk(text: string): Uint8Array {
  return encodeText(text.isWellFormed() ? text : text.toWellFormed());
}

const CR = 13;
const LF = 10;
const SPACE = 32;
const QUOTE = 34;
const APOSTROPHE = 39;
const DOLLAR = 36;
const ASTERISK = 42;
const BACKSLASH = 92;
const NOTHING = new Uint8Array(0);

/** A line is no longer than this, be it a number or a command of words. */
const LINE_BYTES_MAX = 65_536;
/** So far a byte is looked for by hand. */
const NEAR = 8;
/** Arguments of one command. */
const ARGUMENTS_MAX = 131_072;
/** The same, and their bytes, before anybody is known. */
const STRANGER_ARGUMENTS_MAX = 10;
const STRANGER_BYTES_MAX = 16_384;

// --- commands ---

/** Commands, from the pieces in which they arrive. */
export class RespReader {
  /** False: nobody is known yet, and has little room. */
  trusted = false;
  readonly #commandBytesMax: number;
  #bytes: Uint8Array = NOTHING;
  #start = 0;
  #end = 0;
  /** `#bytes` is our own, and may be written to from `#end` on. */
  #owned = false;
  /** Of a line that has not ended, what was searched for its end. */
  #searched = 0;
  /** Of the command that is being read: its arguments, how many are missing, and the length of the next. */
  #args: Uint8Array[] = [];
  #missing = 0;
  #length = -1;
  #commandBytes = 0;

  /** Reads commands whose arguments have `commandBytesMax` bytes together. */
  constructor(commandBytesMax: number) {
    this.#commandBytesMax = commandBytesMax;
  }

  /** Bytes that have come and were not read. */
  get waiting(): number {
    return this.#end - this.#start;
  }

  /** Takes the next piece, which belongs to the reader from now on. */
  push(piece: Uint8Array): void {
    const rest = this.#end - this.#start;
    if (rest === 0) {
      this.#bytes = piece;
      this.#start = 0;
      this.#end = piece.length;
      this.#owned = false;
      this.#searched = 0;
      return;
    }
    if (!this.#owned || this.#end + piece.length > this.#bytes.length) {
      // Elsewhere, since arguments are views of where it is.
      const bytes = new Uint8Array(Math.max(rest + piece.length, 2 * rest));
      bytes.set(this.#bytes.subarray(this.#start, this.#end));
      this.#searched -= this.#start;
      this.#bytes = bytes;
      this.#start = 0;
      this.#end = rest;
      this.#owned = true;
    }
    this.#bytes.set(piece, this.#end);
    this.#end += piece.length;
  }

  /**
   * The arguments of the next command, its name first; undefined when it has not all come.
   *
   * @throws {RespProtocolError} this is not RESP; nothing more can be read
   */
  next(): Uint8Array[] | undefined {
    for (;;) {
      if (this.#missing === 0) {
        if (this.#start === this.#end) return undefined;
        if (this.#bytes[this.#start] !== ASTERISK) {
          const words = this.#inline();
          if (words === undefined || words.length > 0) return words;
          continue;
        }
        const count = this.#number("mbulk count", "multibulk length");
        if (count === undefined) return undefined;
        this.#checkCount(count);
        if (count <= 0) continue;
        this.#args = [];
        this.#missing = count;
        this.#commandBytes = 0;
      }
      if (this.#length === -1 && !this.#head()) return undefined;
      if (this.#end - this.#start < this.#length + 2) return undefined;
      this.#argument();
      if (--this.#missing === 0) return this.#args;
    }
  }

  #checkCount(count: number): void {
    if (!(count <= ARGUMENTS_MAX)) throw protocolError("invalid multibulk length");
    if (!this.trusted && count > STRANGER_ARGUMENTS_MAX) throw protocolError("unauthenticated multibulk length");
  }

  /** Reads the length of the next argument; false when it has not come. */
  #head(): boolean {
    if (this.#start === this.#end) return false;
    const first = this.#bytes[this.#start]!;
    if (first !== DOLLAR) throw protocolError(`expected '$', got '${String.fromCharCode(first)}'`);
    const length = this.#number("bulk count", "bulk length");
    if (length === undefined) return false;
    this.#commandBytes += length;
    if (!(length >= 0 && this.#commandBytes <= this.#commandBytesMax)) throw protocolError("invalid bulk length");
    if (!this.trusted && length > STRANGER_BYTES_MAX) throw protocolError("unauthenticated bulk length");
    this.#length = length;
    return true;
  }

  #argument(): void {
    const end = this.#start + this.#length;
    if (this.#bytes[end] !== CR || this.#bytes[end + 1] !== LF) throw protocolError("expected CRLF behind an argument");
    this.#args.push(this.#bytes.subarray(this.#start, end));
    this.#start = this.#searched = end + 2;
    this.#length = -1;
  }

  /** The number of a line, behind its first byte; undefined when the line has not ended. */
  #number(what: string, name: string): number | undefined {
    const end = this.#find(CR);
    if (end === -1 || end + 1 === this.#end) {
      if (this.#end - this.#start > LINE_BYTES_MAX) throw protocolError(`too big ${what} string`);
      return undefined;
    }
    const number = wholeNumber(this.#bytes, this.#start + 1, end);
    if (this.#bytes[end + 1] !== LF || Number.isNaN(number)) throw protocolError(`invalid ${name}`);
    this.#start = this.#searched = end + 2;
    return number;
  }

  /** The words of a line, none when it is empty; undefined when it has not ended. */
  #inline(): Uint8Array[] | undefined {
    const end = this.#find(LF);
    if ((end === -1 ? this.#end : end) - this.#start > LINE_BYTES_MAX) throw protocolError("too big inline request");
    if (end === -1) return undefined;
    const words = wordsOf(this.#bytes, this.#start, this.#bytes[end - 1] === CR && end > this.#start ? end - 1 : end);
    if (words === undefined) throw protocolError("unbalanced quotes in request");
    this.#start = this.#searched = end + 1;
    return words;
  }

  /** Where the byte is next, -1 when it has not come. */
  #find(byte: number): number {
    // A number is short, and a call of the runtime's costs more than its digits.
    const near = Math.min(this.#searched + NEAR, this.#end);
    for (let index = this.#searched; index < near; index++) if (this.#bytes[index] === byte) return index;
    const found = this.#bytes.indexOf(byte, this.#searched);
    if (found !== -1 && found < this.#end) return found;
    // A CR may be the last byte, whose LF is yet to come.
    this.#searched = this.#end;
    return -1;
  }
}

function protocolError(problem: string): RespProtocolError {
  return new RespProtocolError(`ERR Protocol error: ${problem}`);
}

/** The integer of up to 15 digits that bytes write in its only form; NaN when they do not. */
export function wholeNumber(bytes: Uint8Array, start: number, end: number): number {
  const negative = bytes[start] === 45;
  const first = negative ? start + 1 : start;
  if (end === first || end - first > 15) return NaN;
  let number = 0;
  for (let index = first; index < end; index++) {
    const digit = bytes[index]! - 48;
    if (digit < 0 || digit > 9) return NaN;
    number = number * 10 + digit;
  }
  if (bytes[first] === 48 && end - first > 1) return NaN;
  return negative ? (number === 0 ? NaN : -number) : number;
}

/** The words of a line, in which quotes hold words together; undefined when a quote has no end, or one behind it. */
function wordsOf(bytes: Uint8Array, start: number, end: number): Uint8Array[] | undefined {
  const words: Uint8Array[] = [];
  let at = start;
  for (;;) {
    while (at < end && isSpace(bytes[at]!)) at++;
    if (at === end) return words;
    const word: number[] = [];
    let quote = 0;
    for (; at < end; at++) {
      const byte = bytes[at]!;
      if (quote === 0 && isSpace(byte)) break;
      if (quote === 0 && (byte === QUOTE || byte === APOSTROPHE)) quote = byte;
      else if (quote === byte && quote !== 0) {
        if (at + 1 < end && !isSpace(bytes[at + 1]!)) return undefined;
        quote = 0;
      } else if (quote !== 0 && byte === BACKSLASH && at + 1 < end) at = unescape(bytes, at + 1, end, quote, word);
      else word.push(byte);
    }
    if (quote !== 0) return undefined;
    words.push(Uint8Array.from(word));
  }
}

/** Puts what an escape stands for behind `word`; where its last byte is. `at` is behind the backslash. */
function unescape(bytes: Uint8Array, at: number, end: number, quote: number, word: number[]): number {
  const byte = bytes[at]!;
  if (quote === APOSTROPHE) {
    if (byte === APOSTROPHE) word.push(byte);
    else word.push(BACKSLASH, byte);
    return at;
  }
  const digits = String.fromCharCode(...bytes.subarray(at + 1, Math.min(at + 3, end)));
  if (byte === 0x78 && /^[0-9a-f]{2}$/i.test(digits)) {
    word.push(Number.parseInt(digits, 16));
    return at + 2;
  }
  const letter = String.fromCharCode(byte);
  word.push({ n: 10, r: 13, t: 9, b: 8, a: 7 }[letter] ?? byte);
  return at;
}

function isSpace(byte: number): boolean {
  return byte === SPACE || (byte >= 9 && byte <= 13) || byte === 0;
}

// --- replies ---

/** Replies, one behind the other in one buffer. */
export class RespWriter {
  #bytes: Uint8Array = new Uint8Array(1_024);
  #length = 0;

  /** Bytes written. */
  get length(): number {
    return this.#length;
  }

  /** What was written, which stays the writer's and is overwritten by what is written next. */
  take(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return bytes;
  }

  /** Gives back memory that was only needed once. */
  shrink(): void {
    if (this.#bytes.length > LINE_BYTES_MAX) this.#bytes = new Uint8Array(1_024);
  }

  /** Writes any reply. */
  reply(reply: Reply, version: RespVersion): void {
    if (typeof reply === "string") this.#line("+", reply);
    else if (reply instanceof Uint8Array) this.bulk(reply, 0, reply.length);
    else if (typeof reply === "number" || typeof reply === "bigint") this.#line(":", String(reply));
    else if (reply === null) this.null(version);
    else if (reply === NO_ARRAY) this.#raw(version === 2 ? "*-1\r\n" : "_\r\n");
    else if (reply instanceof ErrorReply) this.#line("-", reply.message.replace(/[\r\n]/g, " "));
    else this.#aggregate(reply, version);
  }

  /** Writes null: of version 2, as a bulk string that there is not. */
  null(version: RespVersion): void {
    this.#raw(version === 2 ? "$-1\r\n" : "_\r\n");
  }

  /** Writes bytes from `start` to `end` as a bulk string. */
  bulk(bytes: Uint8Array, start: number, end: number): void {
    this.#reserve(end - start + 24);
    this.#line("$", String(end - start));
    if (end - start < 32) { for (let index = start; index < end; index++) this.#bytes[this.#length++] = bytes[index]!; }
    else {
      this.#bytes.set(bytes.subarray(start, end), this.#length);
      this.#length += end - start;
    }
    this.#bytes[this.#length++] = CR;
    this.#bytes[this.#length++] = LF;
  }

  #aggregate(
    reply: readonly Reply[] | ReadonlySet<Reply> | MapReply | PushReply | VerbatimReply,
    version: 2 | 3,
  ): void {
    if (reply instanceof VerbatimReply) {
      if (version === 2) return this.reply(bulk(reply.text), version);
      const text = bulk(reply.text);
      this.#line("=", String(text.length + 4));
      this.#raw("txt:");
      this.#reserve(text.length);
      this.#bytes.set(text, this.#length);
      this.#length += text.length;
      return this.#raw("\r\n");
    }
    if (reply instanceof MapReply) {
      const { pairs } = reply;
      this.#line(version === 2 ? "*" : "%", String(version === 2 ? 2 * pairs.length : pairs.length));
      for (const pair of pairs) for (const item of pair) this.reply(item, version);
      return;
    }
    const isPush = reply instanceof PushReply;
    const items = isPush ? reply.items : [...reply];
    this.#line(version === 2 || Array.isArray(reply) ? "*" : isPush ? ">" : "~", String(items.length));
    for (const item of items) this.reply(item, version);
  }

  #line(kind: string, text: string): void {
    this.#raw(kind);
    this.#raw(text);
    this.#raw("\r\n");
  }

  #raw(text: string): void {
    this.#reserve(3 * text.length);
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) {
        const rest = bulk(text.slice(index));
        this.#bytes.set(rest, this.#length);
        this.#length += rest.length;
        return;
      }
      this.#bytes[this.#length++] = code;
    }
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + count));
    bytes.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = bytes;
  }
}
