/**
 * Raw deflate (RFC 1951): by the runtime's own codec where there is one (`lib/fs/native.ts` hands it over: several
 * times as fast, `docs/BENCHMARKS.md`), else by the package `fflate`. Either reads what the other has written.
 *
 * The reader always knows the raw length beforehand (it stands in the record, under the CRC) and allows just that: a
 * stream cannot inflate past it, and one that ends short of it is an error.
 *
 * What is random, or compressed already, is found out by a look at some of its bytes, which costs a hundredth of what
 * compressing it in vain does.
 *
 * @module
 */
import { deflateSync, inflateSync } from "fflate";
import { FirkinError, messageOf } from "./errors.ts";

/** The runtime's own codec. */
export interface NativeDeflate {
  /** The deflated bytes, in memory that is not used again. */
  deflate(bytes: Uint8Array): Uint8Array;
  /** The inflated bytes, `rawBytes` at most: throws when there are more, and when they are not deflate. */
  inflate(packed: Uint8Array, rawBytes: number): Uint8Array;
}

/** Level 1 of 9 of fflate: on JSON and text it gives most of the saving for a fraction of the time. */
const LEVEL = 1;

/** A value must be smaller by this part of it: each read of it pays for the saving. */
const SAVED_MIN = 1 / 8;

/** Bytes looked at: so many pieces, in even distances, of so many bytes. */
const PIECES = 4;
const PIECE_BYTES = 64;

/**
 * How many pairs of the bytes looked at are equal. Of random ones 128, give or take 11; of JSON, of text and of CBOR a
 * thousand and more; of base64 five hundred.
 */
const EQUAL_PAIRS_MIN = 190;

/** How often each byte was seen: for one look after the other, since making it would take longer than looking. */
const COUNTS = new Uint8Array(256);

/** The runtime's own codec, once it is handed over. */
let native: NativeDeflate | undefined;

/** From here on the runtime's own codec is used. */
export function useNativeDeflate(codec: NativeDeflate): void {
  native = codec;
}

/** The deflated bytes, or undefined when that would not be worth it. */
export function compress(bytes: Uint8Array): Uint8Array | undefined {
  if (isIncompressible(bytes)) return undefined;
  const packed = native === undefined ? deflateByPackage(bytes) : native.deflate(bytes);
  return packed.length <= bytes.length * (1 - SAVED_MIN) ? packed : undefined;
}

/** The same by the package, whatever it gives. */
export function deflateByPackage(bytes: Uint8Array): Uint8Array {
  return deflateSync(bytes, { level: LEVEL });
}

/** The `rawBytes` bytes behind `packed`. @throws {FirkinError} CORRUPT — not deflate, or of another length */
export function decompress(packed: Uint8Array, rawBytes: number): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = native === undefined ? inflateByPackage(packed, rawBytes) : native.inflate(packed, rawBytes);
  } catch (error) {
    throw new FirkinError("CORRUPT", `Cannot decompress a value: ${messageOf(error)}`, { cause: error });
  }
  if (bytes.length !== rawBytes) {
    throw new FirkinError("CORRUPT", `Cannot decompress a value: it has ${bytes.length} bytes, expected ${rawBytes}`);
  }
  return bytes;
}

/** The same by the package; one byte more than `rawBytes` when there are more. @throws {Error} not deflate */
export function inflateByPackage(packed: Uint8Array, rawBytes: number): Uint8Array {
  // fflate cuts silently at the end of `out`: a longer stream shows itself in the one byte more than is wanted.
  return inflateSync(packed, { out: new Uint8Array(rawBytes + 1) });
}

/** True when every byte is about as frequent as any other, in what is looked at. */
function isIncompressible(bytes: Uint8Array): boolean {
  if (bytes.length < PIECES * PIECE_BYTES) return false;
  COUNTS.fill(0);
  const distance = Math.floor((bytes.length - PIECE_BYTES) / (PIECES - 1));
  let equalPairs = 0;
  for (let piece = 0; piece < PIECES; piece++) {
    const start = piece * distance;
    for (let at = start; at < start + PIECE_BYTES; at++) equalPairs += COUNTS[bytes[at]!]!++;
  }
  return equalPairs < EQUAL_PAIRS_MIN;
}
