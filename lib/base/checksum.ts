/**
 * CRC-32 (ISO 3309, the one of gzip and PNG), by the package `crc-32`.
 *
 * One place, so that a faster implementation for a runtime gives the same bytes on disk.
 *
 * @module
 */
import CRC32 from "crc-32";

/** The CRC-32 of `bytes`, unsigned, continuing from `seed` (a CRC of what stands before, or any 32-bit number). */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return CRC32.buf(bytes, seed) >>> 0;
}
