/**
 * What a runtime does faster than our own code, from `node:zlib` (Node, Bun and Deno have the same one): handed over to
 * `lib/base`, which does without it in a browser and gives the same bytes.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { useNativeCrc32 } from "../base/checksum.ts";

/** Hands it over. */
export function useNative(): void {
  useNativeCrc32(crc32);
}
