/**
 * Numbers and times as Redis writes and reads them, and what it says of others.
 *
 * Integers have 64 bits, written in their only form (no sign but a minus, no leading zeros). What `INCRBYFLOAT` adds
 * up is decimal, exactly: 0.1 and 0.2 are 0.3, with 17 places behind the point at most. (Redis does it in binary with
 * 64 bits of mantissa, and prints what is left of that with 17 places.)
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Deadline } from "../../lib/engine/engine.ts";
import { ErrorReply } from "./resp.ts";

const INTEGER_MAX = 2n ** 63n - 1n;
const INTEGER_MIN = -(2n ** 63n);
/** Largest deadline that a record can hold, epoch milliseconds: in the year 10889. */
const DEADLINE_MAX = 2n ** 48n - 1n;

/** Places behind the point. */
const PLACES = 17;
/** Of a number with a point, with its sign and exponent. */
const DECIMAL_LENGTH_MAX = 5_120;
/** What a long double of Redis may be at most is less than ten to the power of this. */
const EXPONENT_MAX = 4_933;

/** Bytes as text in which each character is one of them. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** A word of a command, whatever its letters' case. */
export function wordOf(bytes: Uint8Array): string {
  return bytes.length > 64 ? "" : latin1(bytes).toUpperCase();
}

// --- integers ---

/** The integer that bytes write; undefined when they write none of 64 bits. */
export function parseInteger(bytes: Uint8Array): bigint | undefined {
  if (bytes.length === 0 || bytes.length > 20) return undefined;
  const text = latin1(bytes);
  if (!/^(?:0|-?[1-9]\d*)$/.test(text)) return undefined;
  const integer = BigInt(text);
  return integer >= INTEGER_MIN && integer <= INTEGER_MAX ? integer : undefined;
}

/** @throws {ErrorReply} the argument is no integer */
export function integerOf(bytes: Uint8Array): bigint {
  const integer = parseInteger(bytes);
  if (integer === undefined) throw new ErrorReply("ERR value is not an integer or out of range");
  return integer;
}

/** The sum; undefined when it does not have 64 bits. */
export function addIntegers(left: bigint, right: bigint): bigint | undefined {
  const sum = left + right;
  return sum >= INTEGER_MIN && sum <= INTEGER_MAX ? sum : undefined;
}

// --- decimals ---

/** `digits` times ten to the power of minus `places`. */
interface Decimal {
  readonly digits: bigint;
  readonly places: number;
}

/** @throws {ErrorReply} the text is no number, or an infinite one */
function decimalOf(bytes: Uint8Array): Decimal {
  const text = bytes.length > DECIMAL_LENGTH_MAX ? "" : latin1(bytes);
  if (/^[+-]?inf(?:inity)?$/i.test(text)) throw infinite();
  const match = /^([+-]?)(?=\.?\d)(\d*)\.?(\d*)(?:e([+-]?\d{1,6}))?$/i.exec(text);
  const exponent = Number(match?.[4] ?? 0);
  if (match === null || Math.abs(exponent) > 2 * DECIMAL_LENGTH_MAX) {
    throw new ErrorReply("ERR value is not a valid float");
  }
  const [, sign, whole = "", part = ""] = match;
  const digits = BigInt(`${whole}${part}`) * (sign === "-" ? -1n : 1n);
  const places = part.length - exponent;
  return places >= 0 ? { digits, places } : { digits: digits * 10n ** BigInt(-places), places: 0 };
}

/** The sum of what two texts write, as text. @throws {ErrorReply} one is no number, or the sum is too large */
export function addDecimals(left: Uint8Array, right: Uint8Array): string {
  const [one, other] = [decimalOf(left), decimalOf(right)];
  const places = Math.max(one.places, other.places);
  const sum = scaled(one, places) + scaled(other, places);
  return decimalText(round(sum, places));
}

function scaled({ digits, places }: Decimal, wanted: number): bigint {
  return digits * 10n ** BigInt(wanted - places);
}

/** With 17 places, ties to even. */
function round(digits: bigint, places: number): bigint {
  if (places <= PLACES) return digits * 10n ** BigInt(PLACES - places);
  const unit = 10n ** BigInt(places - PLACES);
  const quotient = digits / unit;
  const twice = 2n * (digits % unit);
  const size = twice < 0n ? -twice : twice;
  if (size < unit || (size === unit && quotient % 2n === 0n)) return quotient;
  return digits < 0n ? quotient - 1n : quotient + 1n;
}

function decimalText(digits: bigint): string {
  const text = (digits < 0n ? -digits : digits).toString().padStart(PLACES + 1, "0");
  if (text.length - PLACES > EXPONENT_MAX) throw infinite();
  const part = text.slice(-PLACES).replace(/0+$/, "");
  return `${digits < 0n ? "-" : ""}${text.slice(0, -PLACES)}${part === "" ? "" : `.${part}`}`;
}

function infinite(): ErrorReply {
  return new ErrorReply("ERR increment would produce NaN or Infinity");
}

// --- times ---

/** How a command says when a key ends. */
export interface TimeUnit {
  /** Milliseconds in it. */
  readonly unit: 1n | 1_000n;
  /** Since 1970, or else from now on. */
  readonly isAbsolute: boolean;
}

/** The units by the options that name them. */
export const TIME_UNITS: Readonly<Record<string, TimeUnit>> = {
  EX: { unit: 1_000n, isAbsolute: false },
  PX: { unit: 1n, isAbsolute: false },
  EXAT: { unit: 1_000n, isAbsolute: true },
  PXAT: { unit: 1n, isAbsolute: true },
};

/** The deadline that an argument of the command `name` gives. @throws {ErrorReply} it is none, or not above 0 */
export function deadlineOf(bytes: Uint8Array, { unit, isAbsolute }: TimeUnit, name: string, now: number): Deadline {
  const amount = integerOf(bytes);
  const milliseconds = amount * unit;
  const at = isAbsolute ? milliseconds : milliseconds + BigInt(Math.ceil(now));
  if (amount <= 0n || at > DEADLINE_MAX) throw invalidTime(name);
  return isAbsolute ? { expiresAt: Number(milliseconds) } : { ttl: Number(milliseconds) };
}

/** When, in epoch milliseconds, which may be long ago. @throws {ErrorReply} no integer, or too far away */
export function momentOf(bytes: Uint8Array, { unit, isAbsolute }: TimeUnit, name: string, now: number): number {
  const milliseconds = integerOf(bytes) * unit;
  const at = isAbsolute ? milliseconds : milliseconds + BigInt(Math.ceil(now));
  if (at > DEADLINE_MAX || milliseconds < INTEGER_MIN) throw invalidTime(name);
  return Number(at);
}

function invalidTime(name: string): ErrorReply {
  return new ErrorReply(`ERR invalid expire time in '${name}' command`);
}
