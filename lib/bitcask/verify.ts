/**
 * Reading a whole store without opening it: is every byte what was written?
 *
 * Every segment of the manifest is read from its header to its last byte (`scan.ts`): each record's checksum, ascending
 * revisions through the whole log, batches whole, marks that state what can be, the seal at the end. What is wrong has
 * an exact place, and says which revisions lie between its sound neighbours: no other change can have been there.
 *
 * The end of the last segment is judged as an open would (`recovery.ts`): a tear is the leavings of a crash and no
 * damage, unless a sound mark behind it says that it was safe once.
 *
 * Nothing is written. The work is cut into slices between which others have their turn; memory is one window of a file
 * and what is found.
 *
 * @module
 */
import { fromHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import type { File, FileSystem } from "../fs/fs.ts";
import { FrameCache, ReadWindow } from "./frames.ts";
import { firstRevisionOf, type Inventory, NO_BOUNDS, quarantineName, takeInventory } from "./inventory.ts";
import { type Manifest, MANIFEST_NAME } from "./manifest.ts";
import { bucketAt, FLAG, flagsAt, keyAt, KIND, kindAt, markAt, revisionAt, timeAt } from "./record.ts";
import { type KeyName, type ScanBounds, SegmentScan } from "./scan.ts";
import { Segment, SEGMENT_HEADER_BYTES, type SegmentHome, segmentName } from "./segment.ts";
import { badHints } from "./verify_hints.ts";

/**
 * What is wrong. `manifest`: it fails its check or is missing; `missing`: there is no such segment; `header`: of a
 * segment; `record`: no sound record stands there; `batch`: sound records of a batch that is not whole; `order`: not
 * above the revisions before; `mark`: it states what cannot be; `seal`: the segment does not end with one; `trailing`:
 * bytes behind the seal.
 */
export type Problem =
  | "manifest"
  | "missing"
  | "header"
  | "record"
  | "batch"
  | "order"
  | "mark"
  | "seal"
  | "trailing";

/** Revisions between two neighbours that are sound; neither bound is among them. */
export interface RevisionGap {
  /** The last one before. */
  readonly after: number;
  /** The first one behind; undefined at the end of the log. */
  readonly before: number | undefined;
}

/** A damaged place. */
export interface Damage {
  /** What is wrong. */
  readonly problem: Problem;
  /** The file's name. */
  readonly file: string;
  /** The segment's number, when it is about one. */
  readonly segment: number | undefined;
  /** Where in the file. */
  readonly offset: number;
  /** How many bytes. */
  readonly bytes: number;
  /** Changes that may have been lost there have these revisions. */
  readonly revisions: RevisionGap;
  /** Keys of those changes, as far as damaged bytes tell. */
  readonly keys: readonly DamagedKey[];
}

/** A key that a damaged record names. */
export interface DamagedKey {
  /** The bucket's name. */
  readonly bucket: string;
  /** The key's bytes. */
  readonly key: Uint8Array;
}

/** What follows the sound records of the last segment: room that a crash left, a tear, or damage. */
export interface TailFinding {
  /** Zeros, the leavings of a crash, or damage to what was safe. */
  readonly type: "empty" | "torn" | "rot";
  /** The last segment's number. */
  readonly segment: number;
  /** The file's name. */
  readonly file: string;
  /** Where the sound part ends. */
  readonly offset: number;
  /** Bytes from there to the end of the file. */
  readonly bytes: number;
}

/** What {@link verifyLog} found. */
export interface Verification {
  /** True when there is no damage. A torn end is none: the next open cuts it. */
  readonly sound: boolean;
  /** Every damaged place. */
  readonly damage: readonly Damage[];
  /** What the last segment ends with beside sound records. */
  readonly tail: TailFinding | undefined;
  /** Files that mean nothing and that the next open removes. */
  readonly leftovers: readonly string[];
  /** What a crash or a repair has kept aside. */
  readonly kept: readonly string[];
  /** Hints that do not fit their segments. That is no damage: the next open makes them anew. */
  readonly badHints: readonly string[];
  /** Segments of the log. */
  readonly segments: number;
  /** Sound records that are changes of keys. */
  readonly records: number;
  /** Bytes of the segments. */
  readonly bytes: number;
  /** The last revision. */
  readonly revision: number;
}

/** How far the reading is. */
export interface VerifyProgress {
  /** Bytes read. */
  readonly bytes: number;
  /** Bytes to read. */
  readonly bytesTotal: number;
}

/** Options of {@link verifyLog}. */
export interface VerifyLogOptions {
  readonly clock: Clock;
  readonly progress?: ((progress: VerifyProgress) => void) | undefined;
  /** Shown each sound change: its header and key stand in `window` at `at`. */
  readonly observe?: ((window: Uint8Array, at: number) => void) | undefined;
}

/** What {@link survey} learnt of one segment, for a repair. */
export interface SegmentSurvey {
  readonly id: number;
  /** Where its bytes are: its own file, what a repair that crashed made of that, or nowhere. */
  readonly file: string | undefined;
  /** Ranges without a sound record that counts. */
  readonly holes: readonly { readonly offset: number; readonly bytes: number }[];
  /** It must be written anew. */
  readonly damaged: boolean;
  /** Of its sound records; 0 when there is none. */
  readonly firstRevision: number;
  readonly lastRevision: number;
}

/** What {@link survey} learnt. */
export interface Survey {
  readonly inventory: Inventory;
  readonly verification: Verification;
  readonly segments: readonly SegmentSurvey[];
  readonly bucketMax: number;
  readonly timeMax: number;
}

/** Bytes read between two turns of the event loop. */
export const SLICE_BYTES: number = 512 * 1024;

/** Gives others their turn. */
export function pause(clock: Clock): Promise<void> {
  return new Promise((resolve) => clock.after(0, resolve));
}

/** Reads the whole store in a folder. @throws {FirkinError} IO — there is no store; CORRUPT — nothing can be told */
export async function verifyLog(fileSystem: FileSystem, options: VerifyLogOptions): Promise<Verification> {
  const { inventory, verification, segments } = await survey(fileSystem, options);
  // The last segment may be open, and has a hint only when it is sealed: an open looks at the seal first.
  const sealed = segments.slice(0, -1).filter(({ damaged, file }) => !damaged && file !== undefined);
  const hinted = sealed.map(({ id }) => id);
  return { ...verification, badHints: await badHints(fileSystem, options.clock, inventory.manifest, hinted) };
}

/** As {@link verifyLog}, with what a repair needs; `inventory` when the manifest is not on disk yet. */
export async function survey(
  fileSystem: FileSystem,
  options: VerifyLogOptions,
  inventory: Inventory | undefined = takeInventory(fileSystem),
): Promise<Survey> {
  if (inventory === undefined) {
    throw new FirkinError("IO", `Cannot read ${fileSystem.path}: there is no store`, {
      detail: { path: fileSystem.path },
    });
  }
  return await new Surveyor(fileSystem, options, inventory).run();
}

/** A damage whose gap is still open towards the end. */
type OpenDamage = { -readonly [Field in keyof Damage]: Damage[Field] };

/** The state of one segment's reading. */
interface Reading {
  readonly scan: SegmentScan;
  readonly id: number;
  readonly name: string;
  readonly last: boolean;
  /** Where the batch began that is not over yet, -1 when there is none, and the state before it. */
  batchStart: number;
  batchRevision: number;
  batchKeys: KeyName[];
  beforeBatch: Counts;
  /** The records up to the end of a batch do not count: others of it are lost. */
  broken: boolean;
  marked: number;
  /** Of the last segment: where the sound part ends. */
  cut: Cut | undefined;
  /** A mark behind that place says that it was safe. */
  rotted: boolean;
  firstRevision: number;
  lastRevision: number;
}

/** Where the sound part of the last segment ends, and what was known there. */
interface Cut {
  readonly offset: number;
  /** It ends with a seal. */
  readonly sealed: boolean;
  readonly damage: number;
  readonly openFrom: number;
  readonly counts: Counts;
}

/** What has been counted so far. */
interface Counts {
  readonly records: number;
  readonly revision: number;
}

class Surveyor {
  readonly #fileSystem: FileSystem;
  readonly #options: VerifyLogOptions;
  readonly #inventory: Inventory;
  readonly #manifest: Manifest;
  readonly #home: SegmentHome;
  readonly #damage: OpenDamage[] = [];
  /** From here on the gaps of damages are open. */
  #openFrom = 0;
  #tail: TailFinding | undefined;
  #counts: Counts = { records: 0, revision: 0 };
  #bucketMax = 0;
  #timeMax = 0;
  #bytes = 0;
  #bytesTotal = 0;
  #slice = 0;

  constructor(fileSystem: FileSystem, options: VerifyLogOptions, inventory: Inventory) {
    this.#fileSystem = fileSystem;
    this.#options = options;
    this.#inventory = inventory;
    this.#manifest = inventory.manifest;
    this.#home = { storeId: fromHex(inventory.manifest.store)!, frames: new FrameCache(0), aside: new ReadWindow() };
  }

  async run(): Promise<Survey> {
    const names = new Set(this.#fileSystem.list());
    const ids = [...new Set(this.#manifest.segments)];
    const files = ids.map((id) => [segmentName(id), quarantineName(segmentName(id))].find((name) => names.has(name)));
    if (this.#inventory.problem !== undefined) this.#note("manifest", MANIFEST_NAME, undefined, 0, 0);
    for (const name of files) this.#bytesTotal += name === undefined ? 0 : this.#sizeOf(name);
    const ends = this.#revisionEnds(files);
    const segments: SegmentSurvey[] = [];
    for (const [index, id] of ids.entries()) {
      const bounds = { bucketMax: this.#buckets(), revisionEnd: ends[index]! };
      segments.push(await this.#segment(id, files[index], index === ids.length - 1, bounds));
    }
    const { leftovers, kept } = this.#inventory;
    const verification: Verification = {
      sound: this.#damage.length === 0,
      damage: this.#damage,
      tail: this.#tail,
      leftovers: leftovers.filter((name) => !files.includes(name)),
      kept: kept.filter((name) => !files.includes(name)),
      badHints: [],
      segments: ids.length,
      records: this.#counts.records,
      bytes: this.#bytes,
      revision: Math.max(this.#counts.revision, this.#manifest.revision),
    };
    return {
      inventory: this.#inventory,
      verification,
      segments,
      bucketMax: this.#bucketMax,
      timeMax: this.#timeMax,
    };
  }

  #buckets(): number {
    return this.#inventory.problem === undefined ? this.#manifest.buckets.length : NO_BOUNDS.bucketMax;
  }

  #sizeOf(name: string): number {
    const file = this.#fileSystem.open(name, "read");
    try {
      return file.size();
    } finally {
      file.close();
    }
  }

  /** For each segment the first revision behind it; no bounds when the segments are not in order. */
  #revisionEnds(files: readonly (string | undefined)[]): number[] {
    const bounds = { ...NO_BOUNDS, bucketMax: this.#buckets() };
    const firsts = files.map((name) => {
      return name === undefined ? undefined : firstRevisionOf(this.#fileSystem, name, this.#home.storeId, bounds);
    });
    const known = firsts.filter((first) => first !== undefined);
    if (known.some((first, index) => index > 0 && first <= known[index - 1]!)) return firsts.map(() => Infinity);
    return firsts.map((_, index) => firsts.slice(index + 1).find((first) => first !== undefined) ?? Infinity);
  }

  async #segment(id: number, name: string | undefined, last: boolean, bounds: ScanBounds): Promise<SegmentSurvey> {
    const from = this.#damage.length;
    let revisions = { firstRevision: 0, lastRevision: 0 };
    if (name !== segmentName(id)) this.#note("missing", segmentName(id), id, 0, 0);
    if (name !== undefined) {
      const file = this.#fileSystem.open(name, "read");
      try {
        revisions = await this.#read(id, name, file, last, bounds);
      } finally {
        file.close();
      }
    }
    const damage = this.#damage.slice(from);
    const holes = damage.filter(({ problem }) => problem !== "order" && problem !== "mark" && problem !== "header");
    // What is torn never happened; behind rot sound records still count.
    const tail = last && this.#tail !== undefined && this.#tail.type !== "rot" ? [this.#tail] : [];
    return {
      id,
      file: name,
      holes: [...holes, ...tail],
      damaged: damage.length > 0,
      firstRevision: revisions.firstRevision,
      lastRevision: revisions.lastRevision,
    };
  }

  async #read(id: number, name: string, file: File, last: boolean, bounds: ScanBounds): Promise<Reading> {
    const scan = new SegmentScan(file, this.#home.storeId, id, bounds);
    this.#checkHeader(scan, id, name);
    const reading: Reading = {
      scan,
      id,
      name,
      last,
      batchStart: -1,
      batchRevision: 0,
      batchKeys: [],
      beforeBatch: this.#counts,
      broken: false,
      marked: 0,
      cut: undefined,
      rotted: false,
      firstRevision: 0,
      lastRevision: 0,
    };
    this.#advance(Math.min(SEGMENT_HEADER_BYTES, scan.size));
    for (let piece = scan.step(); piece !== "end"; piece = scan.step()) {
      if (piece === "record") this.#record(reading);
      else if (piece === "damage") this.#damaged(reading);
      if (piece !== "pause") this.#advance(scan.length);
      if (this.#slice < SLICE_BYTES && piece !== "pause") continue;
      this.#slice = 0;
      await pause(this.#options.clock);
    }
    this.#end(reading);
    return reading;
  }

  #advance(bytes: number): void {
    this.#bytes += bytes;
    this.#slice += bytes;
    if (this.#slice >= SLICE_BYTES || this.#bytes === this.#bytesTotal) {
      this.#options.progress?.({ bytes: this.#bytes, bytesTotal: this.#bytesTotal });
    }
  }

  #checkHeader(scan: SegmentScan, id: number, name: string): void {
    const header = scan.header();
    const expected = new Segment(id, this.#home, SEGMENT_HEADER_BYTES).bytes(0, SEGMENT_HEADER_BYTES);
    const same = header.length === expected.length && header.every((byte, index) => byte === expected[index]);
    // Of a file that is shorter nobody knows how long it was.
    const problem = header.length < expected.length ? "missing" : "header";
    if (!same) this.#note(problem, name, id, 0, header.length);
  }

  // --- pieces ---

  #record(reading: Reading): void {
    const { scan } = reading;
    const { window, at, offset, length } = scan;
    const kind = kindAt(window, at);
    this.#timeMax = Math.max(this.#timeMax, timeAt(window, at));
    if (kind >= KIND.mark) {
      if (reading.batchStart !== -1) this.#dropBatch(reading, offset);
      reading.broken = false;
      if (kind === KIND.mark) this.#mark(reading, markAt(window, at));
      return;
    }
    const more = (flagsAt(window, at) & FLAG.more) !== 0;
    const name = { bucket: bucketAt(window, at), key: keyAt(window, at) };
    if (reading.broken) {
      reading.broken = more;
      this.#hole(reading, "batch", offset, length, [{ ...name, key: name.key.slice() }]);
      return;
    }
    const revision = revisionAt(window, at);
    const inBatch = reading.batchStart !== -1;
    if (more && !inBatch) this.#beginBatch(reading, offset, revision);
    if (more) reading.batchKeys.push({ ...name, key: name.key.slice() });
    else reading.batchStart = -1;
    this.#change(reading, revision);
    if (!more) this.#closeGaps(inBatch ? reading.batchRevision : revision);
    this.#bucketMax = Math.max(this.#bucketMax, name.bucket);
    this.#options.observe?.(window, at);
  }

  #change(reading: Reading, revision: number): void {
    const { offset, length } = reading.scan;
    if (revision <= this.#counts.revision) {
      const before = this.#damage.at(-1);
      // One finding for a run of records, not one for each.
      if (before?.problem === "order" && before.segment === reading.id && before.offset + before.bytes === offset) {
        before.bytes += length;
      } else {
        this.#note("order", reading.name, reading.id, offset, length);
      }
    }
    this.#counts = { records: this.#counts.records + 1, revision: Math.max(revision, this.#counts.revision) };
    if (reading.firstRevision === 0) reading.firstRevision = revision;
    reading.lastRevision = Math.max(revision, reading.lastRevision);
  }

  #beginBatch(reading: Reading, offset: number, revision: number): void {
    reading.batchStart = offset;
    reading.batchRevision = revision;
    reading.batchKeys = [];
    reading.beforeBatch = this.#counts;
  }

  #mark(reading: Reading, safe: number): void {
    const { scan, cut } = reading;
    if (cut !== undefined && safe > cut.offset) reading.rotted = true;
    // The clean mark of a close names its own end.
    if (safe > scan.offset + scan.length || safe < reading.marked) {
      this.#note("mark", reading.name, reading.id, scan.offset, scan.length);
    }
    reading.marked = safe;
  }

  #damaged(reading: Reading): void {
    const { scan } = reading;
    const { offset, length } = scan;
    const { keys, more } = scan.sealed ? { keys: [], more: false } : scan.remains();
    // Where the damage cannot be read, a batch that was open before is taken to go on: half of it must not count.
    reading.broken = more ?? reading.batchStart !== -1;
    if (reading.batchStart !== -1) this.#dropBatch(reading, offset);
    // Behind what is damaged, too, zeros at the end are what was written ahead.
    const isAhead = reading.cut !== undefined && !scan.sealed && offset + length === scan.size &&
      scan.isZeroFrom(offset);
    if (isAhead && reading.last) return;
    this.#hole(reading, scan.sealed ? "trailing" : "record", offset, length, keys);
  }

  /** What was read of a batch does not count: it ends at `end` without its last record. */
  #dropBatch(reading: Reading, end: number): void {
    const start = reading.batchStart;
    this.#counts = reading.beforeBatch;
    reading.batchStart = -1;
    this.#hole(reading, "batch", start, end - start, reading.batchKeys);
  }

  #hole(reading: Reading, problem: Problem, offset: number, bytes: number, keys: readonly KeyName[]): void {
    if (reading.last) {
      const { sealed } = reading.scan;
      reading.cut ??= { offset, sealed, damage: this.#damage.length, openFrom: this.#openFrom, counts: this.#counts };
    }
    this.#note(problem, reading.name, reading.id, offset, bytes, keys);
  }

  #end(reading: Reading): void {
    const { scan, id, name } = reading;
    if (reading.batchStart !== -1) this.#dropBatch(reading, scan.size);
    if (!reading.last) {
      const before = this.#damage.at(-1);
      const endsDamaged = before?.file === name && before.offset + before.bytes === scan.size;
      if (!scan.sealed && !endsDamaged) this.#note("seal", name, id, scan.size, 0);
      return;
    }
    const { cut } = reading;
    if (cut === undefined) return;
    const empty = scan.isZeroFrom(cut.offset);
    const type = empty ? "empty" : reading.rotted || cut.sealed ? "rot" : "torn";
    this.#tail = { type, segment: id, file: name, offset: cut.offset, bytes: scan.size - cut.offset };
    if (type === "rot") return;
    // What stands behind a tear never happened: it is no neighbour of any damage either.
    this.#damage.length = cut.damage;
    this.#counts = cut.counts;
    this.#openFrom = cut.openFrom;
    for (const damage of this.#damage.slice(cut.openFrom)) {
      damage.revisions = { ...damage.revisions, before: undefined };
    }
  }

  // --- findings ---

  #note(
    problem: Problem,
    file: string,
    segment: number | undefined,
    offset: number,
    bytes: number,
    keys: readonly KeyName[] = [],
  ): void {
    const named = keys.map(({ bucket, key }) => {
      return { bucket: this.#manifest.buckets[bucket - 1] ?? `bucket-${bucket}`, key };
    });
    const revisions = { after: this.#counts.revision, before: undefined };
    this.#damage.push({ problem, file, segment, offset, bytes, revisions, keys: named });
  }

  /** A sound change: what was lost before it lies below its revision. */
  #closeGaps(revision: number): void {
    for (; this.#openFrom < this.#damage.length; this.#openFrom++) {
      const damage = this.#damage[this.#openFrom]!;
      damage.revisions = { ...damage.revisions, before: revision };
    }
  }
}
