/**
 * Making a damaged store whole again, as far as its bytes go.
 *
 * Every sound record that counts is kept, in order; what was damaged is kept too, under another name, and reported.
 *
 * 1. The store is read (`verify.ts`). A sound one is left as it is, to the byte.
 * 2. A manifest that is bad or missing is written anew from what the segments bear out; a bad one is kept aside.
 * 3. The records of each damaged segment that count are copied to a new one, sealed and synced. Segments whose
 *    revisions overlap (a crash left both the input and the output of a compaction, and the manifest is lost) are
 *    merged: of records with one revision, which are copies of one another, the first is kept.
 * 4. The damaged files are renamed: `0000000003.segment.quarantine`. From here on until the next step an open refuses
 *    the store, and a repair takes the renamed file for the missing one.
 * 5. The manifest with the new segments is switched, with a new epoch, since every cursor must start again.
 *
 * A crash at any step leaves a store that a repair takes up again. No id of a segment is given twice, nor a revision:
 * the numbers that lost records may have had are passed over.
 *
 * Nothing can tell what a lost record said: the key's version before it comes back, a lost tombstone revives its key.
 * What may be older than it should is reported as uncertain.
 *
 * @module
 */
import { fromHex, toHex } from "../base/bytes.ts";
import type { File, FileSystem } from "../fs/fs.ts";
import { bucketCalled, NO_BOUNDS, quarantineName } from "./inventory.ts";
import { type Manifest, MANIFEST_NAME, writeManifest } from "./manifest.ts";
import { bucketAt, FLAG, flagsAt, HEADER_BYTES, keyAt, KIND, kindAt, revisionAt } from "./record.ts";
import { SegmentScan } from "./scan.ts";
import { MARK_BYTES, SEAL_BYTES, SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import {
  type Damage,
  type DamagedKey,
  pause,
  type RevisionGap,
  type SegmentSurvey,
  SLICE_BYTES,
  type Survey,
  survey,
  type VerifyLogOptions,
} from "./verify.ts";
import { SegmentWriter } from "./segment_writer.ts";

/** A key whose newest change may be lost. */
export interface UncertainKey extends DamagedKey {
  /** The revision of what the key is now; undefined when it has no record. */
  readonly revision: number | undefined;
}

/** What may be older than it should be. */
export interface Uncertain {
  /** Changes with these revisions may be lost. */
  readonly revisions: readonly RevisionGap[];
  /** Keys with a lost change, as far as damaged bytes tell; and single-read keys that may have been taken. */
  readonly keys: readonly UncertainKey[];
  /** At most this many further set records may be versions that had been replaced or ended: all before the last gap. */
  readonly olderMax: number;
}

/** What {@link repairLog} did. */
export interface Repair {
  /** False when the store was sound: nothing was written. */
  readonly changed: boolean;
  /** What was damaged. */
  readonly damage: readonly Damage[];
  /** The names under which damaged files are kept. */
  readonly quarantined: readonly string[];
  /** Changes that the store holds now. */
  readonly records: number;
  /** Names of buckets that were made up, since theirs were lost. */
  readonly bucketsNamed: readonly string[];
  /** What may be older than it should be. */
  readonly uncertain: Uncertain;
}

/** Names of single-read keys that a report lists at most. */
const ONCE_KEYS_MAX = 1_000;

/** Revisions passed over when a whole last segment is missing: more than the largest one holds. */
const MISSING_REVISIONS = 2 ** 26;

/** Repairs the store in a folder. @throws {FirkinError} IO — there is no store; CORRUPT — nothing can be told; FULL */
export async function repairLog(fileSystem: FileSystem, options: VerifyLogOptions): Promise<Repair> {
  const { clock } = options;
  const found = await survey(fileSystem, options);
  const { damage, records } = found.verification;
  const nothing = { revisions: [], keys: [], olderMax: 0 };
  if (damage.length === 0) {
    return { changed: false, damage, quarantined: [], records, bucketsNamed: [], uncertain: nothing };
  }
  const epoch = toHex(clock.random(new Uint8Array(8)));
  const manifest = await settleManifest(fileSystem, found, epoch);
  const { segments, quarantined, nextSegment } = await rewrite(fileSystem, options, found, manifest);
  const revision = manifest.revision + passedOver(damage);
  const written = await settleEnd(fileSystem, options, manifest, { revision, segments, nextSegment });
  for (const name of quarantined) fileSystem.rename(name, quarantineName(name));
  // The new names and the changed ones: a power cut that keeps only some of either leaves what a repair takes up again.
  await fileSystem.syncDirectory();
  await writeManifest(fileSystem, { ...manifest, ...written, epoch, revision, floor: revision });
  const { uncertain, records: kept } = await lookBack(fileSystem, options, damage, manifest.buckets);
  return {
    changed: true,
    damage,
    quarantined: found.segments.filter(({ file, id }) => file === quarantineName(segmentName(id)))
      .map(({ file }) => file!).concat(quarantined.map(quarantineName)),
    records: kept,
    bucketsNamed: manifest.buckets.slice(found.inventory.manifest.buckets.length),
    uncertain,
  };
}

/** The manifest to go on from: the one that was read, or one that is written now. */
async function settleManifest(fileSystem: FileSystem, found: Survey, epoch: string): Promise<Manifest> {
  const { manifest, problem } = found.inventory;
  const revision = Math.max(manifest.revision, found.verification.revision);
  const time = Math.max(manifest.time, found.timeMax);
  if (problem === undefined) return { ...manifest, revision, time };
  const buckets = [...manifest.buckets];
  while (buckets.length < found.bucketMax) buckets.push(bucketCalled(buckets.length + 1));
  const made: Manifest = { ...manifest, buckets, revision, time, epoch };
  if (problem === "bad") await copy(fileSystem, MANIFEST_NAME, quarantineName(MANIFEST_NAME));
  await writeManifest(fileSystem, made);
  return made;
}

async function copy(fileSystem: FileSystem, source: string, target: string): Promise<void> {
  const from = fileSystem.open(source, "read");
  try {
    const bytes = new Uint8Array(from.size());
    from.read(bytes, 0);
    fileSystem.remove(target);
    const to = fileSystem.open(target, "create");
    try {
      to.write(bytes, 0);
      await to.sync();
    } finally {
      to.close();
    }
  } finally {
    from.close();
  }
}

/** How many revisions the lost end of the log may have had: a record takes 27 bytes at least. */
function passedOver(damage: readonly Damage[]): number {
  let count = 0;
  for (const { revisions, bytes, problem } of damage) {
    if (revisions.before !== undefined) continue;
    count += problem === "missing" ? MISSING_REVISIONS : Math.ceil(bytes / HEADER_BYTES);
  }
  return count;
}

// --- segments ---

interface Rewritten {
  /** Ids for the manifest. */
  readonly segments: number[];
  /** Files that are in no one's way any more but damaged. */
  readonly quarantined: string[];
  readonly nextSegment: number;
}

async function rewrite(
  fileSystem: FileSystem,
  options: VerifyLogOptions,
  found: Survey,
  manifest: Manifest,
): Promise<Rewritten> {
  const result = { segments: [] as number[], quarantined: [] as string[], nextSegment: manifest.nextSegment };
  const storeId = fromHex(manifest.store)!;
  for (const run of runsOf(found)) {
    const [only] = run;
    if (run.length === 1 && !only!.damaged) {
      result.segments.push(only!.id);
      continue;
    }
    const sources = run.filter(({ file }) => file !== undefined).map((segment) =>
      new Source(fileSystem, segment, storeId)
    );
    try {
      const room = SEGMENT_HEADER_BYTES + MARK_BYTES + SEAL_BYTES;
      const segmentBytesMax = Math.max(room, ...sources.map(({ scan }) => scan.size + room));
      const { nextSegment } = result;
      const writer = new SegmentWriter({ fileSystem, clock: options.clock, storeId, nextSegment, segmentBytesMax });
      await merge(sources, writer, options);
      result.nextSegment = writer.nextSegment;
      result.segments.push(...writer.written.map(({ id }) => id));
    } finally {
      for (const source of sources) source.close();
    }
    result.quarantined.push(...run.filter(({ id, file }) => file === segmentName(id)).map(({ file }) => file!));
  }
  return result;
}

/** A log whose last segment was written anew ends as a closed one does. */
async function settleEnd(
  fileSystem: FileSystem,
  { clock }: VerifyLogOptions,
  manifest: Manifest,
  made: Pick<Manifest, "revision" | "segments" | "nextSegment">,
): Promise<Pick<Manifest, "segments" | "nextSegment">> {
  const { segments, nextSegment } = made;
  if (segments.length > 0 && segments.at(-1) === manifest.segments.at(-1)) return { segments, nextSegment };
  const storeId = fromHex(manifest.store)!;
  const writer = new SegmentWriter({ fileSystem, clock, storeId, nextSegment, segmentBytesMax: 0 });
  const last = await writer.end(made.revision, manifest.time);
  return { segments: [...segments, last], nextSegment: writer.nextSegment };
}

/** Segments that can only be rewritten together: those whose revisions overlap, when any do. */
function runsOf({ segments, verification }: Survey): SegmentSurvey[][] {
  if (!verification.damage.some(({ problem }) => problem === "order")) return segments.map((segment) => [segment]);
  const runs: SegmentSurvey[][] = [];
  let end = 0;
  for (const segment of segments.toSorted((left, right) => left.firstRevision - right.firstRevision)) {
    if (runs.length > 0 && segment.firstRevision <= end) runs.at(-1)!.push(segment);
    else runs.push([segment]);
    end = Math.max(end, segment.lastRevision);
  }
  // The last one may be open; any other that is not sealed was found damaged.
  for (const run of runs.slice(0, -1)) {
    if (run.length === 1 && run[0] === segments.at(-1)) run[0] = { ...run[0]!, damaged: true };
  }
  return runs;
}

/** The records of one segment that count. */
class Source {
  readonly scan: SegmentScan;
  /** Of the record that is next; Infinity when there is none. */
  revision = 0;
  readonly #file: File;
  readonly #holes: SegmentSurvey["holes"];

  constructor(fileSystem: FileSystem, segment: SegmentSurvey, storeId: Uint8Array) {
    this.#file = fileSystem.open(segment.file!, "read");
    this.#holes = segment.holes.toSorted((left, right) => left.offset - right.offset);
    this.scan = new SegmentScan(this.#file, storeId, segment.id, NO_BOUNDS);
  }

  /** Goes to the next record; true when others should have their turn first. */
  step(): boolean {
    const piece = this.scan.step();
    if (piece === "end") this.revision = Infinity;
    if (piece === "record" && kindAt(this.scan.window, this.scan.at) < KIND.mark && !this.#isInHole()) {
      this.revision = revisionAt(this.scan.window, this.scan.at);
      return false;
    }
    return piece !== "end";
  }

  #isInHole(): boolean {
    let low = 0;
    let high = this.#holes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#holes[middle]!.offset <= this.scan.offset) low = middle + 1;
      else high = middle;
    }
    const hole = this.#holes[low - 1];
    return hole !== undefined && this.scan.offset < hole.offset + hole.bytes;
  }

  close(): void {
    this.#file.close();
  }
}

/** Copies the records of all sources in order of revision, each revision once. */
async function merge(sources: readonly Source[], writer: SegmentWriter, options: VerifyLogOptions): Promise<void> {
  let slice = 0;
  const advance = async (source: Source): Promise<void> => {
    for (let again = true; again;) {
      again = source.step();
      slice += Math.max(source.scan.length, HEADER_BYTES);
      if (slice < SLICE_BYTES) continue;
      slice = 0;
      await pause(options.clock);
    }
  };
  for (const source of sources) await advance(source);
  let last = 0;
  for (;;) {
    const next = sources.reduce<Source | undefined>((least, source) => {
      return source.revision < (least?.revision ?? Infinity) ? source : least;
    }, undefined);
    if (next === undefined) break;
    if (next.revision > last) {
      last = next.revision;
      if (!writer.hasRoom(next.scan.length)) await writer.finish();
      writer.add(next.scan.record());
    }
    await advance(next);
  }
  await writer.finish();
}

// --- what is uncertain ---

/** Reads the store as it is now: what may be a version that had been replaced? */
async function lookBack(
  fileSystem: FileSystem,
  options: VerifyLogOptions,
  damage: readonly Damage[],
  buckets: readonly string[],
): Promise<{ uncertain: Uncertain; records: number }> {
  const revisions = gapsOf(damage);
  const end = revisions.reduce((most, { before = Infinity }) => Math.max(most, before), 0);
  const keys = new Map<string, { name: DamagedKey; revision: number | undefined }>();
  for (const { keys: names } of damage) {
    for (const name of names) keys.set(`${name.bucket} ${toHex(name.key)}`, { name, revision: undefined });
  }
  let olderMax = 0;
  const change = (window: Uint8Array, at: number): void => {
    const bucket = buckets[bucketAt(window, at) - 1]!;
    const key = keyAt(window, at);
    const revision = revisionAt(window, at);
    const isSet = kindAt(window, at) === KIND.set;
    const older = isSet && revision < end;
    if (older) olderMax++;
    const once = older && (flagsAt(window, at) & FLAG.once) !== 0 && keys.size < ONCE_KEYS_MAX;
    if (keys.size === 0 && !once) return;
    const text = `${bucket} ${toHex(key)}`;
    const known = keys.get(text);
    if (known !== undefined) known.revision = isSet ? revision : undefined;
    else if (once) keys.set(text, { name: { bucket, key: key.slice() }, revision });
  };
  const now = await survey(fileSystem, { clock: options.clock, observe: change });
  return {
    uncertain: { revisions, keys: [...keys.values()].map(({ name, revision }) => ({ ...name, revision })), olderMax },
    records: now.verification.records,
  };
}

/** The gaps in which a change can have been lost, each once. */
function gapsOf(damage: readonly Damage[]): RevisionGap[] {
  const gaps = new Map<string, RevisionGap>();
  for (const { revisions, problem } of damage) {
    const { after, before } = revisions;
    const inPlace = problem === "order" || problem === "mark" || problem === "header" || problem === "manifest";
    if (inPlace || (before !== undefined && before <= after + 1)) continue;
    gaps.set(`${after} ${before}`, revisions);
  }
  return [...gaps.values()];
}
