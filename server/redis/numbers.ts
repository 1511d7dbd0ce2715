/**
 * Numbers and times as Redis writes and reads them, and what it says of others.
 *
 * Integers have 64 bits, written in their only form (no sign but a minus, no leading zeros). What `INCRBYFLOAT` adds
 * up are floats with 64 bits of mantissa, the "long double" of the machines that Redis usually runs on: 0.1 and 0.2 are
 * 0.3 in the 17 places that are written.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { decodeText } from "../../lib/base/bytes.ts";
import type { Deadline } from "../../lib/engine/engine.ts";
import { ErrorReply, wholeNumber } from "./resp.ts";

const INTEGER_MAX = 2n ** 63n - 1n;
const INTEGER_MIN = -(2n ** 63n);
/** Largest deadline that a record can hold, epoch milliseconds: in the year 10889. */
const DEADLINE_MAX = 2n ** 48n - 1n;

/** A long double of x86: bits of its mantissa, and the exponents that are too large and too small. */
const MANTISSA_BITS = 64;
const EXPONENT_MAX = 16_384;
const EXPONENT_MIN = -16_445;
/** Places that are written behind the point. */
const PLACES = 17;
const FLOAT_LENGTH_MAX = 5_120;

/** Below this a loop over bytes beats the runtime's decoder. */
const SHORT = 32;

/** Bytes as text in which each character is one of them. */
export function latin1(bytes: Uint8Array): string {
  if (bytes.length <= SHORT) {
    let text = "";
    for (let index = 0; index < bytes.length; index++) text += String.fromCharCode(bytes[index]!);
    return text;
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Bytes as text for a message to people. */
export function textOf(bytes: Uint8Array): string {
  return decodeText(bytes) ?? latin1(bytes);
}

/** A word of a command, whatever its letters' case. */
export function wordOf(bytes: Uint8Array): string {
  return bytes.length > 64 ? "" : latin1(bytes).toUpperCase();
}

// --- integers ---

/** The integer that bytes write; undefined when they write none of 64 bits. */
export function parseInteger(bytes: Uint8Array): bigint | undefined {
  if (bytes.length === 0 || bytes.length > 20) return undefined;
  if (bytes.length <= 15) {
    const number = wholeNumber(bytes, 0, bytes.length);
    return Number.isNaN(number) ? undefined : BigInt(number);
  }
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

// --- floats ---

/** `mantissa` times two to the power of `exponent`; the mantissa has 64 bits at most. */
interface Float {
  readonly mantissa: bigint;
  readonly exponent: number;
}

/** Whatever its sign. */
const INFINITE: Float = { mantissa: 1n, exponent: EXPONENT_MAX };

/** @throws {ErrorReply} the text is no number, or one too large or too near to zero */
function floatOf(bytes: Uint8Array): Float {
  const text = bytes.length > FLOAT_LENGTH_MAX ? "" : latin1(bytes);
  if (/^[+-]?inf(?:inity)?$/i.test(text)) return INFINITE;
  const match = /^([+-]?)(?=\.?\d)(\d*)\.?(\d*)(?:e([+-]?\d{1,6}))?$/i.exec(text);
  const power = Number(match?.[4] ?? 0);
  if (match === null || Math.abs(power) > 2 * FLOAT_LENGTH_MAX) throw noFloat();
  const [, sign, whole = "", part = ""] = match;
  const digits = BigInt(`${whole}${part}`) * (sign === "-" ? -1n : 1n);
  const places = part.length - power;
  const float = places >= 0 ? rounded(digits, 10n ** BigInt(places)) : rounded(digits * 10n ** BigInt(-places), 1n);
  if (isInfinite(float) || float.exponent < EXPONENT_MIN) throw noFloat();
  return float;
}

/** The float that is nearest to a fraction, the even one of two. */
function rounded(numerator: bigint, denominator: bigint): Float {
  const size = numerator < 0n ? -numerator : numerator;
  if (size === 0n) return { mantissa: 0n, exponent: 0 };
  // Of three or four bits more than are kept.
  const shift = MANTISSA_BITS + 3 - (bitsOf(size) - bitsOf(denominator));
  const [scaled, by] = shift >= 0 ? [size << BigInt(shift), denominator] : [size, denominator << BigInt(-shift)];
  // What is cut off below is one bit more, which breaks no tie that is none.
  const quotient = ((scaled / by) << 1n) | (scaled % by === 0n ? 0n : 1n);
  const dropped = bitsOf(quotient) - MANTISSA_BITS;
  const mantissa = shiftToEven(quotient, dropped);
  return { mantissa: numerator < 0n ? -mantissa : mantissa, exponent: dropped - shift - 1 };
}

/** Without its last `count` bits, rounded to the nearest, or to even. Not below zero. */
function shiftToEven(integer: bigint, count: number): bigint {
  const [kept, rest] = [integer >> BigInt(count), BigInt.asUintN(count, integer)];
  const half = 1n << BigInt(count - 1);
  return rest > half || (rest === half && kept % 2n === 1n) ? kept + 1n : kept;
}

function bitsOf(integer: bigint): number {
  return integer.toString(2).length;
}

/** The sum of what two texts write, as text. @throws {ErrorReply} one is no number, or the sum is too large */
export function addFloats(left: Uint8Array, right: Uint8Array): string {
  const [one, other] = [floatOf(left), floatOf(right)];
  if (one === INFINITE || other === INFINITE) throw infinite();
  const exponent = Math.min(one.exponent, other.exponent);
  const exact = [one, other].map((float) => float.mantissa << BigInt(float.exponent - exponent));
  const [numerator, denominator] = fractionOf({ mantissa: exact[0]! + exact[1]!, exponent });
  const sum = rounded(numerator, denominator);
  if (isInfinite(sum)) throw infinite();
  return writtenOf(sum);
}

function fractionOf({ mantissa, exponent }: Float): readonly [numerator: bigint, denominator: bigint] {
  return exponent >= 0 ? [mantissa << BigInt(exponent), 1n] : [mantissa, 1n << BigInt(-exponent)];
}

function isInfinite({ mantissa, exponent }: Float): boolean {
  return mantissa !== 0n && bitsOf(mantissa < 0n ? -mantissa : mantissa) + exponent > EXPONENT_MAX;
}

/** With as many places behind the point as it needs, and 17 at most. */
function writtenOf(float: Float): string {
  const isNegative = float.mantissa < 0n;
  const [numerator, denominator] = fractionOf({ ...float, mantissa: isNegative ? -float.mantissa : float.mantissa });
  const scaled = numerator * 10n ** BigInt(PLACES);
  const quotient = scaled / denominator;
  const twice = 2n * (scaled % denominator);
  const isUp = twice > denominator || (twice === denominator && quotient % 2n === 1n);
  const digits = (isUp ? quotient + 1n : quotient).toString().padStart(PLACES + 1, "0");
  const part = digits.slice(-PLACES).replace(/0+$/, "");
  const text = `${digits.slice(0, -PLACES)}${part === "" ? "" : `.${part}`}`;
  return isNegative && text !== "0" ? `-${text}` : text;
}

function noFloat(): ErrorReply {
  return new ErrorReply("ERR value is not a valid float");
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
