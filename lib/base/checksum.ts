/**
 * CRC-32 (ISO 3309, the one of gzip and PNG).
 *
 * Two ways to the same bytes. Our own goes through eight tables, eight bytes a step ("slicing by 8"). The runtime's
 * goes many times as fast through a long input, but a call of it costs as much as our own takes for a record of some
 * hundred bytes: so it gets the long ones, where there is one (`lib/fs/native.ts` hands it over).
 *
 * @module
 */

/** The runtime's own: the CRC-32 of `bytes`, going on from `seed`, which is a 32-bit number without sign. */
export type NativeCrc32 = (bytes: Uint8Array, seed: number) => number;

/** The tables one behind the other: table `n` takes a byte with `n` bytes behind it. */
const TABLES = createTables();

/** The runtime's own, once it is handed over, and the length from which on it is faster. */
let native: NativeCrc32 | undefined;
let nativeBytesMin = Infinity;

/** From here on inputs of at least `bytesMin` bytes go through `crc32`. */
export function useNativeCrc32(crc32: NativeCrc32, bytesMin: number): void {
  native = crc32;
  nativeBytesMin = bytesMin;
}

/**
 * The CRC-32 of the bytes from `start` to `end`, unsigned, going on from `seed`: a CRC of what stands before, or any
 * 32-bit number.
 */
export function crc32(bytes: Uint8Array, seed = 0, start = 0, end: number = bytes.length): number {
  if (end - start < nativeBytesMin) return crc32ByTables(bytes, seed, start, end);
  return native!(bytes.subarray(start, end), seed >>> 0);
}

/** The same by our own tables, whatever the length. */
export function crc32ByTables(bytes: Uint8Array, seed: number, start: number, end: number): number {
  let crc = ~seed;
  let at = start;
  for (const last = end - 8; at <= last; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc = TABLES[1792 | (crc & 0xff)]! ^ TABLES[1536 | ((crc >>> 8) & 0xff)]! ^
      TABLES[1280 | ((crc >>> 16) & 0xff)]! ^ TABLES[1024 | (crc >>> 24)]! ^
      TABLES[768 | bytes[at + 4]!]! ^ TABLES[512 | bytes[at + 5]!]! ^
      TABLES[256 | bytes[at + 6]!]! ^ TABLES[bytes[at + 7]!]!;
  }
  for (; at < end; at++) crc = TABLES[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

function createTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    tables[byte] = crc;
  }
  for (let index = 256; index < tables.length; index++) {
    const before = tables[index - 256]!;
    tables[index] = tables[before & 0xff]! ^ (before >>> 8);
  }
  return tables;
}
