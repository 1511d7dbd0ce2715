/**
 * Whether hints say what their segments say: each is made once more from its segment and compared byte for byte.
 *
 * A hint is not synced, so after a power cut one may be torn: that is no damage, and the next open makes it anew.
 *
 * @module
 */
import { fromHex, hashKey } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import type { FileSystem } from "../fs/fs.ts";
import { hintName } from "./hint.ts";
import { makeHint } from "./hint_builder.ts";
import type { Manifest } from "./manifest.ts";
import { readU32 } from "./record.ts";
import { segmentName } from "./segment.ts";

/**
 * Names of the hints that do not fit their segments, which are sound and sealed. One segment is in memory at a time.
 */
export async function badHints(
  fileSystem: FileSystem,
  clock: Clock,
  manifest: Manifest,
  segments: readonly number[],
): Promise<string[]> {
  const seed = readU32(fromHex(manifest.store)!, 0);
  const names = new Set(fileSystem.list());
  const bad: string[] = [];
  for (const id of segments) {
    const name = hintName(id);
    if (!names.has(name)) continue;
    const steps = makeHint(read(fileSystem, segmentName(id)), (bucket, bytes, start, end) => {
      return hashKey(seed, bucket, bytes, start, end);
    });
    let step = steps.next();
    while (step.done !== true) {
      await new Promise<void>((resolve) => clock.after(0, resolve));
      step = steps.next();
    }
    if (!equals(readOrNothing(fileSystem, name), step.value)) bad.push(name);
  }
  return bad;
}

function read(fileSystem: FileSystem, name: string): Uint8Array {
  const file = fileSystem.open(name, "read");
  try {
    const bytes = new Uint8Array(file.size());
    file.read(bytes, 0);
    return bytes;
  } finally {
    file.close();
  }
}

/** A hint that cannot be read fits nothing. */
function readOrNothing(fileSystem: FileSystem, name: string): Uint8Array {
  try {
    return read(fileSystem, name);
  } catch (error) {
    if (!(error instanceof FirkinError)) throw error;
    return new Uint8Array(0);
  }
}

function equals(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}
