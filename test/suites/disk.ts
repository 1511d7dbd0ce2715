/**
 * A disk for tests: it fails when it is told to, holds a call back, counts, and forgets what was not synced.
 *
 * Two states are kept of every file and of the folder: what the running system sees, and what is on the platter.
 * `sync` takes to the platter the parts of the file that were written since the last one; a `sync` that fails takes
 * nothing there and yet forgets which parts they were, as Linux does. `cutPower` leaves only the platter, or also what
 * the system may have written back by itself; `crash` leaves what the system saw. Either way the files that were open
 * answer no more. With a `capacity` the disk can be full.
 *
 * @module
 */
import { assert, FirkinError } from "../../lib/base/errors.ts";
import { HEADER_BYTES, recordBytesAt } from "../../lib/bitcask/record.ts";
import { SEGMENT_HEADER_BYTES } from "../../lib/bitcask/segment.ts";
import type { File, FileMode, FileSystem, Lock } from "../../lib/fs/fs.ts";

/** A promise to hold a call back with, and its end. */
export function gate(): { readonly wait: Promise<void>; open(): void } {
  let open = (): void => {};
  const wait = new Promise<void>((resolve) => open = resolve);
  return { wait, open: () => open() };
}

/** A call that changes something, or makes it durable. */
export interface DiskCall {
  readonly action: "create" | "write" | "truncate" | "sync" | "rename" | "remove" | "syncDirectory";
  /** The file's name when it was opened; "" for the folder. */
  readonly name: string;
  /** Calls before this one. */
  readonly number: number;
}

/** Bytes that were written. */
interface Part {
  readonly start: number;
  readonly bytes: Uint8Array;
  lost?: true;
}

interface Node {
  seen: Uint8Array;
  kept: Uint8Array;
  /** What was written since the last sync. */
  dirty: Part[];
  /** What syncs that are under way have begun to take to the platter. */
  syncing: Part[];
  /** How many syncs have begun, and the number of the last of those that have ended. */
  syncs: number;
  synced: number;
}

/** The time from one crash to the next. */
interface Life {
  /** Who has the folder. */
  owner: object | undefined;
  over: boolean;
}

/** A folder on a {@link Disk}. */
export class Disk implements FileSystem {
  readonly path = "disk";
  /** Every call so far. */
  readonly calls: DiskCall[] = [];
  /** Throws, or returns a promise to hold a sync back, before a call does anything. */
  before: (call: DiskCall) => void | Promise<void> = () => {};
  /** Bytes that all files together may have. What would go beyond is `FULL`, and got as far as there was room. */
  capacity: number = Infinity;
  #seen = new Map<string, Node>();
  #kept = new Map<string, Node>();
  #life: Life = { owner: undefined, over: false };

  makeDirectory(): void {}

  lock(): Lock {
    this.inspect();
    const life = this.#life;
    const owner = {};
    life.owner = owner;
    return {
      check: () => {
        if (life.owner !== owner) throw new FirkinError("LOCKED", "Cannot write to disk: another has taken it");
      },
      release: () => {
        if (life.owner === owner) life.owner = undefined;
      },
    };
  }

  inspect(): void {
    if (this.#life.owner !== undefined) throw new FirkinError("LOCKED", "Cannot lock disk: it is open already");
  }

  /** Another process takes the folder, as it may when it is forced. */
  steal(): void {
    this.#life.owner = {};
  }

  list(): string[] {
    return [...this.#seen.keys()];
  }

  open(name: string, mode: FileMode): File {
    let node = this.#seen.get(name);
    if (mode === "create") {
      if (node !== undefined) throw new FirkinError("IO", `Cannot create ${name}: the file exists`);
      void this.#call("create", name);
      if (this.room <= 0) throw new FirkinError("FULL", `Cannot create ${name}: the disk is full`);
      node = { seen: new Uint8Array(0), kept: new Uint8Array(0), dirty: [], syncing: [], syncs: 0, synced: 0 };
      this.#seen.set(name, node);
    } else if (node === undefined) {
      throw new FirkinError("IO", `Cannot open ${name}: there is no such file`);
    }
    const life = this.#life;
    return new DiskFile(node, name, mode !== "read", life, (action) => this.#call(action, name), () => this.room);
  }

  rename(source: string, target: string): void {
    const node = this.#seen.get(source);
    if (node === undefined) throw new FirkinError("IO", `Cannot rename ${source}: there is no such file`);
    void this.#call("rename", source);
    this.#seen.delete(source);
    this.#seen.set(target, node);
  }

  remove(name: string): void {
    if (!this.#seen.has(name)) return;
    void this.#call("remove", name);
    this.#seen.delete(name);
  }

  // deno-lint-ignore require-await -- what refuses must reject, not throw
  async discard(name: string): Promise<void> {
    this.remove(name);
  }

  async syncDirectory(): Promise<void> {
    const names = new Map(this.#seen);
    const life = this.#life;
    await this.#call("syncDirectory", "");
    if (!life.over) this.#kept = names;
  }

  /** The folder as one process has it, which can do nothing any more after a crash. */
  mount(): FileSystem {
    const life = this.#life;
    const alive = <Arguments extends unknown[], Result>(call: (...given: Arguments) => Result) => {
      return (...given: Arguments): Result => {
        if (life.over) throw new FirkinError("CLOSED", "Cannot use disk: the process is dead");
        return call(...given);
      };
    };
    return {
      path: this.path,
      makeDirectory: () => {},
      lock: alive(() => this.lock()),
      inspect: alive(() => this.inspect()),
      list: alive(() => this.list()),
      open: alive((name: string, mode: FileMode) => this.open(name, mode)),
      rename: alive((source: string, target: string) => this.rename(source, target)),
      remove: alive((name: string) => this.remove(name)),
      discard: alive((name: string) => this.discard(name)),
      syncDirectory: alive(() => this.syncDirectory()),
    };
  }

  /** The process dies: what the system saw is what the next one finds. */
  crash(): void {
    this.#restart();
  }

  /**
   * The power goes: only the platter is left. With `writesStay` the system had written back by itself what was written
   * since the last sync, refused writes too, but no cut: nothing orders the two.
   */
  cutPower(writesStay = false): void {
    this.#seen = new Map(this.#kept);
    for (const node of this.#seen.values()) {
      for (const { start, bytes } of writesStay ? node.dirty : []) node.kept = written(node.kept, bytes, start);
      Object.assign(node, { seen: node.kept.slice(), dirty: [], syncing: [] });
    }
    this.#restart();
  }

  /** Bytes that still fit. */
  get room(): number {
    let used = 0;
    for (const { seen } of this.#seen.values()) used += seen.length;
    return this.capacity - used;
  }

  /** A copy of a file's bytes, as the system sees them. */
  bytes(name: string): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.#seen.get(name)!.seen);
  }

  /** A segment's bytes up to the end of its last record: without the zeros that were written ahead. */
  records(name: string): Uint8Array<ArrayBuffer> {
    const bytes = this.bytes(name);
    let end = SEGMENT_HEADER_BYTES;
    while (end + HEADER_BYTES <= bytes.length && bytes[end + 4] !== 0) end += recordBytesAt(bytes, end);
    return bytes.slice(0, end);
  }

  /** Puts bytes in a file's place, everywhere. */
  put(name: string, bytes: Uint8Array): void {
    const node = { seen: bytes.slice(), kept: bytes.slice(), dirty: [], syncing: [], syncs: 0, synced: 0 };
    this.#seen.set(name, node);
    this.#kept.set(name, node);
  }

  /** Another disk with these files. */
  clone(): Disk {
    const other = new Disk();
    for (const [name, { seen }] of this.#seen) other.put(name, seen);
    return other;
  }

  /** Names of the segments, in order of their ids. */
  segments(): string[] {
    return this.list().filter((name) => name.endsWith(".segment")).sort();
  }

  /** How often something was done since `from`. */
  count(action: DiskCall["action"], from = 0): number {
    return this.calls.slice(from).filter((call) => call.action === action).length;
  }

  #restart(): void {
    this.#life.over = true;
    this.#life = { owner: undefined, over: false };
    this.before = () => {};
  }

  #call(action: DiskCall["action"], name: string): void | Promise<void> {
    const call = { action, name, number: this.calls.length };
    this.calls.push(call);
    return this.before(call);
  }
}

type FileCall = (action: "write" | "truncate" | "sync") => void | Promise<void>;

class DiskFile implements File {
  readonly #node: Node;
  readonly #name: string;
  readonly #writable: boolean;
  readonly #life: { readonly over: boolean };
  readonly #call: FileCall;
  readonly #room: () => number;
  #closed = false;

  constructor(
    node: Node,
    name: string,
    writable: boolean,
    life: { readonly over: boolean },
    call: FileCall,
    room: () => number,
  ) {
    this.#node = node;
    this.#name = name;
    this.#writable = writable;
    this.#life = life;
    this.#call = call;
    this.#room = room;
  }

  read(target: Uint8Array, position: number, start = 0, end: number = target.length): number {
    this.#check(position);
    const part = this.#node.seen.subarray(position, position + end - start);
    target.set(part, start);
    return part.length;
  }

  write(source: Uint8Array, position: number): void {
    this.#check(position, true);
    if (source.length === 0) return;
    try {
      void this.#call("write");
    } catch (error) {
      // A write that is refused may have got half way.
      this.#put(source.subarray(0, source.length >> 1), position);
      throw error;
    }
    const growth = position + source.length - this.#node.seen.length;
    const missing = growth > 0 ? growth - this.#room() : 0;
    this.#put(missing > 0 ? source.subarray(0, Math.max(source.length - missing, 0)) : source, position);
    if (missing > 0) throw new FirkinError("FULL", `Cannot write ${this.#name}: the disk is full`);
  }

  #put(source: Uint8Array, position: number): void {
    const node = this.#node;
    node.seen = written(node.seen, source, position);
    node.dirty.push({ start: position, bytes: source.slice() });
  }

  size(): number {
    this.#check();
    return this.#node.seen.length;
  }

  truncate(size: number): void {
    this.#check(size, true);
    void this.#call("truncate");
    this.#node.seen = resized(this.#node.seen, size);
  }

  async sync(): Promise<void> {
    this.#check();
    const node = this.#node;
    const { seen, dirty } = node;
    const number = ++node.syncs;
    node.dirty = [];
    // As the system's, a sync also waits for what another one, still under way, has begun to take.
    const taken = [...node.syncing, ...dirty];
    node.syncing.push(...dirty);
    try {
      await this.#call("sync");
    } catch (error) {
      // The system forgets what it could not write: no other sync takes it there.
      for (const part of dirty) part.lost = true;
      throw error;
    } finally {
      node.syncing = node.syncing.filter((part) => !dirty.includes(part));
    }
    if (this.#life.over) return;
    // The length is that of the sync which began last, in whatever order they end.
    if (number > node.synced) node.kept = resized(node.kept, seen.length);
    node.synced = Math.max(node.synced, number);
    for (const { start, bytes, lost } of taken) {
      const end = Math.min(start + bytes.length, seen.length, node.kept.length);
      if (lost !== true && start < end) node.kept.set(seen.subarray(start, end), start);
    }
  }

  close(): void {
    this.#closed = true;
  }

  #check(position = 0, writes = false): void {
    assert(Number.isSafeInteger(position) && position >= 0, "A position in a file is a whole number from zero");
    if (this.#closed || this.#life.over) {
      throw new FirkinError("CLOSED", `Cannot use ${this.#name}: the file is closed`);
    }
    if (writes && !this.#writable) throw new FirkinError("IO", `Cannot write ${this.#name}: it was opened to read`);
  }
}

/** `bytes` with `source` at `position`, in place unless they must grow. */
function written(bytes: Uint8Array, source: Uint8Array, position: number): Uint8Array {
  if (source.length === 0) return bytes;
  const end = position + source.length;
  const other = end > bytes.length ? resized(bytes, end) : bytes;
  other.set(source, position);
  return other;
}

function resized(bytes: Uint8Array, length: number): Uint8Array {
  const other = new Uint8Array(length);
  other.set(bytes.subarray(0, length));
  return other;
}
