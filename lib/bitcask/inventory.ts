/**
 * The files of a store's folder, and the manifest that they bear out.
 *
 * A sound manifest is believed. One that fails its check, or is missing, is made out from what is there: the store's id
 * from the headers of the segments, their order from their first revisions, numbers from the names of files. What
 * can be read of the bad one is used where it makes sense: names and settings of buckets, the sync policy, what was
 * given last. All segments of the store are taken in, since nobody knows which of them were left over from a crash.
 *
 * @module
 */
import { fromHex, toHex } from "../base/bytes.ts";
import { FirkinError } from "../base/errors.ts";
import { isBucketName } from "../engine/engine.ts";
import { type BucketSettings, checkSettings } from "../engine/settings.ts";
import type { FileSystem } from "../fs/fs.ts";
import { hintName } from "./hint.ts";
import { leftoversOf, type Manifest, MANIFEST_NAME, readBadManifest, readManifest } from "./manifest.ts";
import { KIND, kindAt, revisionAt } from "./record.ts";
import { type ScanBounds, SegmentScan } from "./scan.ts";
import { segmentIdOf, segmentName, storeIdOf } from "./segment.ts";

/** What a folder holds. */
export interface Inventory {
  /** As it was read, or as the segments bear it out. */
  readonly manifest: Manifest;
  /** Why the manifest is not the one that was read. */
  readonly problem: "bad" | "missing" | undefined;
  /** Files that mean nothing: the next open removes them. */
  readonly leftovers: readonly string[];
  /** What a crash or a repair kept aside. */
  readonly kept: readonly string[];
}

/** The largest id and, with room above, the largest revision that a bad manifest is believed. */
const SEGMENT_ID_MAX = 2 ** 32 - 1;
const REVISION_MAX = 2 ** 47;

const QUARANTINE = ".quarantine";

/** The name of a damaged file that a repair has kept. */
export function quarantineName(name: string): string {
  return `${name}${QUARANTINE}`;
}

/**
 * Looks at the folder; undefined when there is no store in it.
 * @throws {FirkinError} CORRUPT — neither a manifest nor a header tells whose the segments are; a newer format
 */
export function takeInventory(fileSystem: FileSystem): Inventory | undefined {
  const names = fileSystem.list();
  const bad = readBadManifest(fileSystem);
  const found = bad === undefined ? readManifest(fileSystem) : undefined;
  const files = names.filter((name) => segmentIdOf(name) !== undefined);
  const present = names.includes(MANIFEST_NAME);
  if (found === undefined && !present && files.length === 0) return undefined;
  const manifest = found ?? makeOut(fileSystem, names, bad!);
  const listed = new Set(manifest.segments.flatMap((id) => [segmentName(id), hintName(id)]));
  return {
    manifest,
    problem: found !== undefined ? undefined : present ? "bad" : "missing",
    leftovers: leftoversOf(names, listed),
    kept: names.filter((name) => name.endsWith(QUARANTINE) || /\.segment\.torn-\d+$/.test(name)),
  };
}

/** The first revision in a segment that is surely of the store, undefined when there is none. */
export function firstRevisionOf(
  fileSystem: FileSystem,
  name: string,
  storeId: Uint8Array,
  bounds: ScanBounds,
): number | undefined {
  const file = fileSystem.open(name, "read");
  try {
    const scan = new SegmentScan(file, storeId, Number(name.slice(0, 10)), bounds);
    for (let piece = scan.step(); piece !== "end"; piece = scan.step()) {
      if (piece === "record" && kindAt(scan.window, scan.at) < KIND.mark) return revisionAt(scan.window, scan.at);
    }
    return undefined;
  } finally {
    file.close();
  }
}

/** What is known of buckets and revisions when nothing is known. */
export const NO_BOUNDS: ScanBounds = { bucketMax: 0xffff, revisionEnd: Infinity };

// --- a manifest from what is there ---

type Bad = Partial<Record<keyof Manifest, unknown>>;

function makeOut(fileSystem: FileSystem, names: readonly string[], bad: Bad): Manifest {
  const headers = new Map(
    names.filter((name) => segmentIdOf(name) !== undefined).map((name) => [name, headerStore(fileSystem, name)]),
  );
  const store = storeOf([...headers.values()], bad);
  if (store === undefined) {
    throw new FirkinError(
      "CORRUPT",
      `Cannot tell whose segments ${fileSystem.path} holds: neither the manifest nor a header can be read`,
      { detail: { path: MANIFEST_NAME } },
    );
  }
  const files = [...headers].filter(([, id]) => id === undefined || id === store).map(([name]) => name);
  const ids = names.map((name) => Number(/^(\d{10})\.segment/.exec(name)?.[1] ?? 0));
  return {
    format: 1,
    store,
    epoch: typeof bad.epoch === "string" && /^[0-9a-f]{16}$/.test(bad.epoch) ? bad.epoch : "0".repeat(16),
    sync: ["always", "interval", "os"].includes(bad.sync as string) ? bad.sync as string : "always",
    segments: inOrder(fileSystem, files, fromHex(store)!),
    nextSegment: Math.max(wholeUpTo(bad.nextSegment, SEGMENT_ID_MAX), ...ids.map((id) => id + 1), 1),
    buckets: bucketsOf(bad),
    settings: settingsOf(bad),
    floor: wholeUpTo(bad.floor, REVISION_MAX),
    revision: wholeUpTo(bad.revision, REVISION_MAX),
    // A wrong one would let keys expire: the records tell the time, too.
    time: 0,
  };
}

function headerStore(fileSystem: FileSystem, name: string): string | undefined {
  const file = fileSystem.open(name, "read");
  try {
    const header = new Uint8Array(32);
    const id = storeIdOf(header.subarray(0, file.read(header, 0)));
    return id === undefined ? undefined : toHex(id);
  } catch {
    return undefined;
  } finally {
    file.close();
  }
}

/** The store that most headers name; what the bad manifest says when none names one. */
function storeOf(found: readonly (string | undefined)[], bad: Bad): string | undefined {
  const counts = new Map<string, number>();
  for (const id of found) if (id !== undefined) counts.set(id, (counts.get(id) ?? 0) + 1);
  const [most] = [...counts].sort((left, right) => right[1] - left[1]);
  if (most !== undefined) return most[0];
  return typeof bad.store === "string" && fromHex(bad.store)?.length === 16 ? bad.store : undefined;
}

/** The ids of the files, by their first revision. One that holds none may stand anywhere. */
function inOrder(fileSystem: FileSystem, files: readonly string[], storeId: Uint8Array): number[] {
  const segments = files.map((name) => ({
    id: segmentIdOf(name)!,
    first: firstRevisionOf(fileSystem, name, storeId, NO_BOUNDS) ?? 0,
  }));
  return segments.sort((left, right) => left.first - right.first || left.id - right.id).map(({ id }) => id);
}

/** The names that can be read; a bucket whose name is lost is called after its number. */
function bucketsOf(bad: Bad): string[] {
  const names: unknown[] = Array.isArray(bad.buckets) ? bad.buckets : [];
  return names.map((name, index) => {
    const usable = typeof name === "string" && isBucketName(name) && names.indexOf(name) === index;
    return usable ? name : bucketCalled(index + 1);
  });
}

/** The settings that can be read, and that a bucket may have. */
function settingsOf({ settings }: Bad): Record<string, BucketSettings> {
  const sound: Record<string, BucketSettings> = {};
  if (typeof settings !== "object" || settings === null) return sound;
  for (const [name, some] of Object.entries(settings as Record<string, unknown>)) {
    try {
      sound[name] = checkSettings({ ...some as object }, Infinity);
    } catch {
      // They are lost: the bucket has none.
    }
  }
  return sound;
}

/** What a bucket is called when its name is lost. */
export function bucketCalled(number: number): string {
  return `bucket-${number}`;
}

function wholeUpTo(value: unknown, most: number): number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most ? value as number : 0;
}
