/**
 * What a disk holds at one moment: what is on stable storage, and what was done since and may or may not get there.
 *
 * A {@link Platter} is built from the trace of a disk, operation by operation: a write or a truncate is *pending* on
 * its file, a created, renamed or removed name is pending on the folder, until a sync of the file or of the folder that
 * began after it has ended. At any moment {@link survive} answers what a machine would find after a crash there: when
 * only the process dies, everything is still in the system's memory and stays pending; when the power goes, each
 * pending operation may have got to the platter whole, in part, or not at all, whatever its order. {@link Survivors}
 * says which.
 *
 * Bytes are shared and never changed in place, so a state costs what differs from the one before.
 *
 * @module
 */
import { hashBytes, hashText, Random } from "./random.ts";

/** Something that was done to a disk and has ended. `file` tells files of one name apart; `since`: {@link Trace}. */
export type Operation =
  | { readonly action: "create" | "remove"; readonly name: string; readonly file: number }
  | { readonly action: "rename"; readonly name: string; readonly target: string; readonly file: number }
  | {
    readonly action: "write";
    readonly name: string;
    readonly file: number;
    readonly position: number;
    readonly bytes: Uint8Array;
  }
  | { readonly action: "truncate"; readonly name: string; readonly file: number; readonly size: number }
  | { readonly action: "sync" | "lose"; readonly name: string; readonly file: number; readonly since: number }
  | { readonly action: "syncDirectory"; readonly since: number };

/** What was done to a disk. A sync covers the operations before index `since`: those that had ended when it began. */
export type Trace = readonly Operation[];

/** A change of a file's bytes that is not on stable storage for sure. */
interface Change {
  readonly index: number;
  /** The file's length after a truncate. */
  readonly size: number | undefined;
  readonly position: number;
  readonly bytes: Uint8Array;
  /** A sync that failed has forgotten it: no later one takes it to the platter. */
  readonly lost: boolean;
}

/** A file, whatever its names. */
interface PlatterFile {
  /** On stable storage. Never changed in place. */
  durable: Uint8Array;
  pending: readonly Change[];
  /** Hash of `durable`, once it was asked for. */
  hash: number | undefined;
}

/** A change of the folder that is not on stable storage for sure. A rename is one: it is never half done. */
interface EntryChange {
  readonly index: number;
  readonly removed: string | undefined;
  readonly added: string | undefined;
  readonly file: number;
}

/** Which of a file's pending bytes are found after the power was cut. */
export const DATA_MODES = [
  "none",
  "all",
  "prefix",
  "shreds",
  "sectors",
  "pages",
  "zeros",
  "garbage",
  "reordered",
] as const;

/** Which of the folder's pending names are found: a prefix as a journal keeps them, or any. */
export const NAME_MODES = ["durable", "all", "ordered", "any"] as const;

/** What a crash leaves. */
export interface Survivors {
  /** "process": only the process dies, the system goes on. */
  readonly data: (typeof DATA_MODES)[number] | "process";
  readonly names: (typeof NAME_MODES)[number];
  readonly seed: number;
}

/** How much is written at once, by mode. A shred is smaller than any disk's: small segments have small sectors. */
const UNIT_BYTES = { shreds: 16, sectors: 512, pages: 4_096 } as const;

const NOTHING = new Uint8Array(0);

/** The files and names of one folder. */
export class Platter {
  readonly #files = new Map<number, PlatterFile>();
  #names = new Map<string, number>();
  #entries: EntryChange[] = [];
  /** Operations applied so far; indexes of pending ones count from the first disk on. */
  #applied = 0;

  /** The next operation has happened. */
  apply(operation: Operation, base = 0): void {
    const index = this.#applied++;
    if (operation.action === "syncDirectory") return this.#settleNames(base + operation.since);
    const { action, file } = operation;
    switch (action) {
      case "create":
        this.#files.set(file, { durable: NOTHING, pending: [], hash: undefined });
        this.#entries.push({ index, removed: undefined, added: operation.name, file });
        break;
      case "remove":
        this.#entries.push({ index, removed: operation.name, added: undefined, file });
        break;
      case "rename":
        this.#entries.push({ index, removed: operation.name, added: operation.target, file });
        break;
      case "write":
        this.#change(file, {
          index,
          size: undefined,
          position: operation.position,
          bytes: operation.bytes,
          lost: false,
        });
        break;
      case "truncate":
        this.#change(file, { index, size: operation.size, position: 0, bytes: NOTHING, lost: false });
        break;
      case "sync":
        this.#settle(file, base + operation.since);
        break;
      case "lose":
        this.#lose(file, base + operation.since);
        break;
    }
  }

  /** How many operations were applied: the base for the next disk's trace. */
  get applied(): number {
    return this.#applied;
  }

  /** The names as the running system sees them. */
  names(): Map<string, number> {
    const names = new Map(this.#names);
    for (const entry of this.#entries) applyEntry(names, entry);
    return names;
  }

  /** A file's bytes as the running system sees them. */
  bytes(file: number): Uint8Array {
    const { durable, pending } = this.#files.get(file)!;
    return applyChanges(durable, pending);
  }

  /** The same, to go on from separately. */
  clone(): Platter {
    const other = new Platter();
    for (const [id, file] of this.#files) other.#files.set(id, { ...file });
    other.#names = new Map(this.#names);
    other.#entries = [...this.#entries];
    other.#applied = this.#applied;
    return other;
  }

  /** True when nothing is pending: every crash leaves the same. */
  get settled(): boolean {
    if (this.#entries.length > 0) return false;
    for (const id of this.#names.values()) if (this.#files.get(id)!.pending.length > 0) return false;
    return true;
  }

  /** What is found after a crash now. */
  survive({ data, names, seed }: Survivors): Platter {
    if (data === "process") return this.clone();
    const random = new Random(seed);
    const last = data === "prefix" ? this.#cut(random) : undefined;
    const found = new Platter();
    found.#applied = this.#applied;
    found.#names = this.#survivingNames(names, last?.index, random);
    for (const id of found.#names.values()) {
      const file = this.#files.get(id)!;
      if (file.pending.length === 0) {
        file.hash ??= hashBytes(file.durable);
        found.#files.set(id, { ...file });
      } else {
        found.#files.set(id, { durable: survivingBytes(file, data, last, random), pending: [], hash: undefined });
      }
    }
    return found;
  }

  /** Tells states apart: names, bytes, and what is pending. */
  hash(): number {
    let sum = 0;
    const add = (name: string, id: number): void => {
      const file = this.#files.get(id)!;
      file.hash ??= hashBytes(file.durable);
      sum = (sum + hashText(name, file.hash)) % 0x1fffffffffffff;
      for (const { position, bytes, size } of file.pending) {
        sum = (sum + hashText(`${name} ${position} ${size ?? ""}`, hashBytes(bytes))) % 0x1fffffffffffff;
      }
    };
    for (const [name, id] of this.#names) add(name, id);
    for (const { added, removed, file } of this.#entries) add(`${removed ?? ""} ${added ?? ""}`, file);
    return sum;
  }

  #change(file: number, change: Change): void {
    const found = this.#files.get(file)!;
    found.pending = [...found.pending, change];
  }

  #settle(id: number, since: number): void {
    const file = this.#files.get(id)!;
    const reached = (change: Change): boolean => change.index < since && !change.lost;
    const settled = file.pending.filter(reached);
    if (settled.length === 0) return;
    file.durable = applyChanges(file.durable, settled);
    const rest = file.pending.filter((change) => !reached(change));
    // What was forgotten is seen no more where something later stands on stable storage.
    file.pending = rest.flatMap((change) => {
      return change.lost ? uncovered(change, settled.filter(({ index }) => index > change.index)) : [change];
    });
    file.hash = undefined;
  }

  #lose(id: number, since: number): void {
    const file = this.#files.get(id)!;
    // Pages are forgotten, a length is not: the next sync takes it along.
    const forgotten = ({ index, size }: Change): boolean => index < since && size === undefined;
    file.pending = file.pending.map((change) => forgotten(change) ? { ...change, lost: true } : change);
  }

  #settleNames(since: number): void {
    for (const entry of this.#entries) if (entry.index < since) applyEntry(this.#names, entry);
    this.#entries = this.#entries.filter((entry) => entry.index >= since);
  }

  /** The pending operation at which a prefix ends, which is the last that is kept, in part. */
  #cut(random: Random): { index: number; bytes: number } {
    const pending = this.#entries.map(({ index }) => ({ index, length: 0 }));
    for (const file of this.#files.values()) {
      for (const { index, bytes } of file.pending) pending.push({ index, length: bytes.length });
    }
    pending.sort((one, other) => one.index - other.index);
    const last = pending[random.below(pending.length + 1)];
    return last === undefined ? { index: -1, bytes: 0 } : { index: last.index, bytes: random.below(last.length + 1) };
  }

  #survivingNames(mode: Survivors["names"], last: number | undefined, random: Random): Map<string, number> {
    const names = new Map(this.#names);
    const count = mode === "all"
      ? this.#entries.length
      : mode === "ordered"
      ? random.below(this.#entries.length + 1)
      : mode === "any"
      ? this.#entries.length
      : 0;
    for (const entry of this.#entries.slice(0, count)) {
      if (last !== undefined && entry.index > last) break;
      if (mode !== "any" || random.once(2)) applyEntry(names, entry);
    }
    return names;
  }
}

/** A crash's survivors as one word: `sectors.any`. */
export function nameOf({ data, names }: Survivors): string {
  return `${data}.${names}`;
}

// --- helpers ---

function applyEntry(names: Map<string, number>, { removed, added, file }: EntryChange): void {
  if (removed !== undefined && names.get(removed) === file) names.delete(removed);
  if (added !== undefined) names.set(added, file);
}

function applyChanges(bytes: Uint8Array, changes: readonly Change[]): Uint8Array {
  let length = bytes.length;
  let room = length;
  for (const { size, position, bytes: written } of changes) {
    length = size ?? Math.max(length, position + written.length);
    room = Math.max(room, length);
  }
  const result = new Uint8Array(room);
  result.set(bytes);
  let end = bytes.length;
  for (const { size, position, bytes: written } of changes) {
    if (size === undefined) {
      result.set(written, position);
      end = Math.max(end, position + written.length);
    } else {
      if (size < end) result.fill(0, size, end);
      end = size;
    }
  }
  return result.subarray(0, length);
}

/** What of a write no later change covers. */
function uncovered(write: Change, later: readonly Change[]): Change[] {
  let parts = [write];
  for (const { position, size, bytes } of later) {
    const start = size ?? position;
    const end = size === undefined ? position + bytes.length : Infinity;
    parts = parts.flatMap((part) => {
      const before = part.bytes.subarray(0, Math.max(start - part.position, 0));
      const behind = part.bytes.subarray(Math.max(end - part.position, 0));
      if (before.length === part.bytes.length || behind.length === part.bytes.length) return [part];
      return [{ ...part, bytes: before }, {
        ...part,
        bytes: behind,
        position: part.position + part.bytes.length - behind.length,
      }]
        .filter(({ bytes }) => bytes.length > 0);
    });
  }
  return parts;
}

/** The bytes of a file with pending changes after the power was cut. */
function survivingBytes(
  { durable, pending }: PlatterFile,
  data: Exclude<Survivors["data"], "process">,
  last: { index: number; bytes: number } | undefined,
  random: Random,
): Uint8Array {
  switch (data) {
    case "none":
      return durable;
    case "all":
      return applyChanges(durable, pending);
    case "prefix":
      return applyChanges(durable, cutAt(pending, last!));
    case "reordered":
      return applyChanges(durable, pending.filter(() => random.once(2)));
    case "zeros":
    case "garbage": {
      const seen = applyChanges(durable, pending);
      // The length got there, the bytes did not.
      const found = resized(durable, seen.length);
      if (data === "garbage") { for (let at = durable.length; at < found.length; at++) found[at] = random.below(256); }
      return found;
    }
    case "shreds":
    case "sectors":
    case "pages":
      return mixed(durable, pending, UNIT_BYTES[data], random);
  }
}

/** Each unit as it was after some of the changes; so is the length. */
function mixed(durable: Uint8Array, pending: readonly Change[], unit: number, random: Random): Uint8Array {
  const versions = [durable];
  for (const change of pending) versions.push(applyChanges(versions[versions.length - 1]!, [change]));
  const found = new Uint8Array(random.pick(versions).length);
  for (let at = 0; at < found.length; at += unit) {
    const version = random.pick(versions);
    found.set(version.subarray(at, Math.min(at + unit, found.length)), at);
  }
  return found;
}

function cutAt(pending: readonly Change[], last: { index: number; bytes: number }): Change[] {
  return pending.filter(({ index }) => index <= last.index).map((change) => {
    if (change.index < last.index || change.size !== undefined) return change;
    return { ...change, bytes: change.bytes.subarray(0, last.bytes) };
  });
}

function resized(bytes: Uint8Array, length: number): Uint8Array {
  const other = new Uint8Array(length);
  other.set(bytes.subarray(0, length));
  return other;
}

/** A platter with these files, all on stable storage. */
export function platterOf(files: ReadonlyMap<string, Uint8Array>): Platter {
  const platter = new Platter();
  for (const [name, bytes] of files) {
    const file = platter.applied;
    const operations: Operation[] = [
      { action: "create", name, file },
      { action: "write", name, file, position: 0, bytes },
      { action: "sync", name, file, since: file + 2 },
      { action: "syncDirectory", since: file + 3 },
    ];
    for (const operation of operations) platter.apply(operation);
  }
  return platter;
}
