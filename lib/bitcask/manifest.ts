/**
 * The manifest: which segments are the log, in order of revision, and the names and settings of the buckets.
 *
 * It is one small file, switched whole: written beside the old one, synced, renamed over it, and the folder
 * synced. A crash leaves the old or the new, never a mixture. Files of the folder that it does not name are left
 * over from a crash and are removed at the next open.
 *
 * The file is one line of JSON and one line with the CRC-32 of the first: small enough to be read by a person, and
 * checked before it is believed.
 *
 * @module
 */
import { crc32 } from "../base/checksum.ts";
import { fromHex } from "../base/bytes.ts";
import { FirkinError } from "../base/errors.ts";
import type { BucketSettings } from "../engine/settings.ts";
import type { FileSystem } from "../fs/fs.ts";

/** The file's name, and the name it has while it is written. */
export const MANIFEST_NAME = "manifest";
export const MANIFEST_NEW_NAME = "manifest.new";

/** What the manifest says. */
export interface Manifest {
  /** Version of the files in this folder. */
  readonly format: number;
  /** 16 random bytes in hexadecimal, made once: every checksum is bound to them. */
  readonly store: string;
  /** First part of every cursor; changes when acknowledged changes may have been lost. */
  readonly epoch: string;
  /** The policy under which the log was last written: it says what an unclean end may have lost. */
  readonly sync: string;
  /** Ids of the segments in order of revision; the last one is active. */
  readonly segments: readonly number[];
  /** The next new segment's id. */
  readonly nextSegment: number;
  /** Names of the buckets; the first one's number is 1. */
  readonly buckets: readonly string[];
  /** By the name of the bucket, for those that have any. */
  readonly settings?: Readonly<Record<string, BucketSettings>>;
  /** The highest revision of a tombstone that compaction has dropped: a cursor before it must start again. */
  readonly floor: number;
  /** The last revision and time given when this was written: compaction may leave no record that tells. */
  readonly revision: number;
  readonly time: number;
}

/** The manifest of the folder, undefined when there is none. @throws {FirkinError} CORRUPT — there is a bad one */
export function readManifest(fileSystem: FileSystem): Manifest | undefined {
  const { line, sound } = readLine(fileSystem);
  if (line === undefined) return undefined;
  if (!sound) throw corrupt(fileSystem, "its checksum does not hold");
  const manifest = JSON.parse(line) as Manifest;
  if (manifest.format !== 1) throw corrupt(fileSystem, `format ${manifest.format} is newer than this firkin`);
  if (fromHex(manifest.store)?.length !== 16) throw corrupt(fileSystem, "the store id is not 16 bytes");
  return manifest;
}

/** What a manifest that fails its check still says: any field may be missing or wrong. Undefined when it is sound. */
export function readBadManifest(fileSystem: FileSystem): Partial<Record<keyof Manifest, unknown>> | undefined {
  const { line, sound } = readLine(fileSystem);
  if (sound) return undefined;
  try {
    const found: unknown = JSON.parse(line ?? "");
    return typeof found === "object" && found !== null ? found : {};
  } catch {
    return fieldsOf(line ?? "");
  }
}

/** The fields of a manifest that is no JSON any more, those that still are: names of buckets stand nowhere else. */
function fieldsOf(line: string): Partial<Record<keyof Manifest, unknown>> {
  const found: Record<string, unknown> = {};
  for (const [, name, value] of line.matchAll(/"(\w+)":(\[[^\]]*\]|"[^"]*"|\d+)/g)) {
    try {
      found[name!] = JSON.parse(value!);
    } catch {
      // This one is lost.
    }
  }
  return found;
}

function readLine(fileSystem: FileSystem): { line: string | undefined; sound: boolean } {
  if (!fileSystem.list().includes(MANIFEST_NAME)) return { line: undefined, sound: false };
  const file = fileSystem.open(MANIFEST_NAME, "read");
  const bytes = new Uint8Array(file.size());
  file.read(bytes, 0);
  file.close();
  const [line = "", check = ""] = new TextDecoder().decode(bytes).split("\n");
  return { line, sound: check === checkOf(line) };
}

/** Switches to `manifest`; resolves when the switch is on stable storage. One call at a time. */
export async function writeManifest(fileSystem: FileSystem, manifest: Manifest): Promise<void> {
  const line = JSON.stringify(manifest);
  fileSystem.remove(MANIFEST_NEW_NAME);
  const file = fileSystem.open(MANIFEST_NEW_NAME, "create");
  try {
    file.write(new TextEncoder().encode(`${line}\n${checkOf(line)}\n`), 0);
    await file.sync();
  } finally {
    file.close();
  }
  // The names of the segments first: a folder may take names to stable storage in any order.
  await fileSystem.syncDirectory();
  fileSystem.rename(MANIFEST_NEW_NAME, MANIFEST_NAME);
  await fileSystem.syncDirectory();
}

/**
 * Names of what the manifest does not name: segments of a crashed compaction or rotation, hints of segments that are
 * gone, half-written manifests and hints.
 */
export function leftoversOf(names: readonly string[], keep: ReadonlySet<string>): string[] {
  return names.filter((name) => {
    return name === MANIFEST_NEW_NAME || (/\.(?:segment|hint|hint\.new)$/.test(name) && !keep.has(name));
  });
}

/** Removes what {@link leftoversOf} names. */
export function removeLeftovers(fileSystem: FileSystem, keep: ReadonlySet<string>): void {
  for (const name of leftoversOf(fileSystem.list(), keep)) fileSystem.remove(name);
}

function checkOf(line: string): string {
  return crc32(new TextEncoder().encode(line)).toString(16).padStart(8, "0");
}

function corrupt(fileSystem: FileSystem, why: string): FirkinError {
  return new FirkinError("CORRUPT", `Cannot read the manifest of ${fileSystem.path}: ${why}`, {
    detail: { path: MANIFEST_NAME },
  });
}
