/**
 * What a runtime does faster than our own code, most of it from `node:zlib` (Node, Bun and Deno have the same one):
 * handed over to `lib/base`, which does without it in a browser and means the same bytes.
 *
 * @module
 */
import process from "node:process";
import { crc32, deflateRawSync, inflateRawSync } from "node:zlib";
import { copyBySlice } from "../base/bytes.ts";
import { useNativeCrc32 } from "../base/checksum.ts";
import { type NativeDeflate, useNativeDeflate } from "../base/compress.ts";

/** Level 1 of Bun's and Deno's zlib saves half as much on text as this one, which costs half as much again. */
const LEVEL = 3;

/** From so many bytes on a call of zlib's CRC-32 is faster than our tables: on Node a call costs more. */
const CRC32_BYTES_MIN = "bun" in process.versions || "deno" in process.versions ? 112 : 192;

/** The least that zlib takes as `chunkSize`. */
const CHUNK_BYTES_MIN = 64;

/** Deflate by `node:zlib`. */
export const nativeDeflate: NativeDeflate = {
  deflate: (bytes) => plain(deflateRawSync(bytes, { level: LEVEL })),
  inflate(packed, rawBytes) {
    const chunkSize = Math.max(rawBytes, CHUNK_BYTES_MIN);
    return plain(inflateRawSync(packed, { maxOutputLength: rawBytes, chunkSize }));
  },
};

/** Hands it over. */
export function useNative(): void {
  useNativeCrc32(crc32, CRC32_BYTES_MIN);
  useNativeDeflate(nativeDeflate);
  if ("bun" in process.versions) copyBySlice();
}

/** Not a `Buffer`: its `slice` is no copy. */
function plain({ buffer, byteOffset, byteLength }: Uint8Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
