/**
 * Raw deflate (RFC 1951), by the package `fflate`.
 *
 * The reader always knows the raw length beforehand (it stands in the record, under the CRC) and allocates just
 * that: a stream cannot inflate past it, and one that ends short of it is an error.
 *
 * @module
 */
import { deflateSync, inflateSync } from "fflate";
import { FirkinError, messageOf } from "./errors.ts";

/** Level 1 of 9: on JSON and text it gives most of the saving for a fraction of the time. */
const LEVEL = 1;

/** The deflated bytes, or undefined when they would not be smaller. */
export function compress(bytes: Uint8Array): Uint8Array | undefined {
  const packed = deflateSync(bytes, { level: LEVEL });
  return packed.length < bytes.length ? packed : undefined;
}

/** The `rawBytes` bytes behind `packed`. @throws {FirkinError} CORRUPT — not deflate, or of another length */
export function decompress(packed: Uint8Array, rawBytes: number): Uint8Array {
  // One byte more than wanted: fflate cuts silently at the end of `out`, so a longer stream shows itself there.
  const out = new Uint8Array(rawBytes + 1);
  let length: number;
  try {
    length = inflateSync(packed, { out }).length;
  } catch (error) {
    throw new FirkinError("CORRUPT", `Cannot decompress a value: ${messageOf(error)}`, { cause: error });
  }
  if (length !== rawBytes) {
    throw new FirkinError("CORRUPT", `Cannot decompress a value: it has ${length} bytes, expected ${rawBytes}`);
  }
  return out.subarray(0, rawBytes);
}
