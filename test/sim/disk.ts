/**
 * A disk for simulation: a folder that remembers what was done to it, operation by operation, and fails when told to.
 *
 * It is what one process sees between its start and its end. What a crash at any moment of that would have left is
 * built afterwards from `trace` (`platter.ts`), so a workload runs once however many crashes it is judged by. A process
 * that comes after the crash gets a disk of its own, on the platter that was left.
 *
 * A sync takes effect when it ends, some turns of the microtask queue after it was asked for, and covers what was done
 * before it was asked for. One that fails forgets what it should have written, as Linux does: the next sync succeeds
 * without it. A write that fails may have taken a part.
 *
 * @module
 */
import { FirkinError } from "../../lib/base/errors.ts";
import type { File, FileMode, FileSystem, Lock } from "../../lib/fs/fs.ts";
import { type Operation, Platter } from "./platter.ts";
import { Random } from "./random.ts";

/** A call that may fail. */
export interface Call {
  readonly action:
    | "lock"
    | "list"
    | "open"
    | "create"
    | "read"
    | "write"
    | "truncate"
    | "sync"
    | "rename"
    | "remove"
    | "syncDirectory";
  readonly name: string;
  /** Calls before this one. */
  readonly number: number;
  /** Bytes to be written. */
  readonly bytes: number;
}

/** How calls fail: the system refuses, there is no more space, or a write is cut short. */
export const FAULT_KINDS = ["refuse", "full", "short"] as const;

/** One fault of a run. */
export interface Fault {
  readonly kind: (typeof FAULT_KINDS)[number];
  /** The number of the first call that fails. */
  readonly at: number;
  /** All calls from there on that such a fault concerns, or that one alone. */
  readonly forever: boolean;
}

/** Options of {@link SimDisk}. */
export interface SimDiskOptions {
  readonly seed?: number;
  /** Turns that a sync takes at most; it takes one at least. */
  readonly syncTurnsMax?: number;
  readonly fault?: Fault | undefined;
}

/** A file as it is seen. */
interface Seen {
  readonly id: number;
  bytes: Uint8Array;
  size: number;
}

/** The calls that each kind of fault concerns. */
const CONCERNED: Readonly<Record<Fault["kind"], (call: Call) => boolean>> = {
  refuse: () => true,
  full: ({ action, bytes }) => action === "lock" || action === "create" || action === "rename" || bytes > 0,
  short: ({ bytes }) => bytes > 1,
};

/** A folder that remembers. */
export class SimDisk implements FileSystem {
  readonly path = "sim";
  /** What was done, in the order in which it ended. */
  readonly trace: Operation[] = [];
  /** Calls of all kinds so far: where a fault can strike. */
  readonly calls: Call[] = [];
  readonly #start: Platter;
  readonly #names: Map<string, number>;
  readonly #seen = new Map<number, Seen>();
  readonly #random: Random;
  readonly #syncTurnsMax: number;
  readonly #fault: Fault | undefined;
  #nextFile: number;
  #locked = false;
  /** Set when the fault is a full disk for ever: what is left. */
  #room = Infinity;

  /** The folder as a process finds it on `platter`, which is not changed. */
  constructor(platter: Platter = new Platter(), options: SimDiskOptions = {}) {
    this.#start = platter;
    this.#names = platter.names();
    this.#nextFile = platter.applied;
    this.#random = new Random(options.seed ?? 1);
    this.#syncTurnsMax = options.syncTurnsMax ?? 1;
    this.#fault = options.fault;
  }

  makeDirectory(): void {}

  lock(): Lock {
    this.inspect();
    this.#call("lock", "");
    this.#locked = true;
    return { check: () => {}, release: () => void (this.#locked = false) };
  }

  inspect(): void {
    if (this.#locked) throw new FirkinError("LOCKED", "Cannot lock sim: it is open already");
  }

  /** True while a process holds the folder. */
  get locked(): boolean {
    return this.#locked;
  }

  list(): string[] {
    this.#call("list", "");
    return [...this.#names.keys()];
  }

  open(name: string, mode: FileMode): File {
    let id = this.#names.get(name);
    if (mode === "create") {
      if (id !== undefined) throw new FirkinError("IO", `Cannot create ${name}: the file exists`);
      this.#call("create", name);
      // File ids go on where the operations before ended, so that no two files of a platter share one.
      id = this.#nextFile++;
      this.#seen.set(id, { id, bytes: new Uint8Array(256), size: 0 });
      this.#names.set(name, id);
      this.trace.push({ action: "create", name, file: id });
    } else {
      if (id === undefined) throw new FirkinError("IO", `Cannot open ${name}: there is no such file`);
      this.#call("open", name);
    }
    return new SimFile(this, name, this.#look(id), mode !== "read");
  }

  rename(source: string, target: string): void {
    const id = this.#names.get(source);
    if (id === undefined) throw new FirkinError("IO", `Cannot rename ${source}: there is no such file`);
    this.#call("rename", source);
    this.#names.delete(source);
    this.#names.set(target, id);
    this.trace.push({ action: "rename", name: source, target, file: id });
  }

  remove(name: string): void {
    const id = this.#names.get(name);
    if (id === undefined) return;
    this.#call("remove", name);
    this.#names.delete(name);
    this.trace.push({ action: "remove", name, file: id });
    this.#room += this.#look(id).size;
  }

  async discard(name: string): Promise<void> {
    await this.#wait(() => this.remove(name));
  }

  async syncDirectory(): Promise<void> {
    const since = this.trace.length;
    await this.#wait(() => this.#call("syncDirectory", ""));
    this.trace.push({ action: "syncDirectory", since });
  }

  /** A copy of a file's bytes as they are seen. Not a call: nothing fails, nothing is counted. */
  bytes(name: string): Uint8Array {
    const { bytes, size } = this.#look(this.#names.get(name)!);
    return bytes.slice(0, size);
  }

  /** Names of the files. Not a call. */
  get names(): string[] {
    return [...this.#names.keys()];
  }

  // --- for SimFile ---

  /** Counts a read that may fail. */
  read(name: string): void {
    this.#call("read", name);
  }

  /** Writes, unless the fault stops it half way. */
  write(name: string, seen: Seen, source: Uint8Array, position: number): void {
    let failure: FirkinError | undefined;
    let taken = source.length;
    const grows = Math.max(0, position + source.length - seen.size);
    try {
      this.#call("write", name, source.length);
      if (grows > this.#room) {
        failure = new FirkinError("FULL", `Cannot write ${name}: no space is left`);
        taken = Math.max(0, source.length - (grows - this.#room));
      }
    } catch (error) {
      failure = error as FirkinError;
      taken = this.#fault!.kind === "refuse" ? 0 : this.#random.below(source.length);
    }
    if (taken > 0) {
      const bytes = source.slice(0, taken);
      this.#room -= Math.max(0, position + taken - seen.size);
      this.#put(seen, bytes, position);
      this.trace.push({ action: "write", name, file: seen.id, position, bytes });
    }
    if (failure !== undefined) throw failure;
  }

  truncate(name: string, seen: Seen, size: number): void {
    this.#call("truncate", name);
    this.#room += seen.size - size;
    if (size > seen.bytes.length) this.#grow(seen, size);
    if (size < seen.size) seen.bytes.fill(0, size, seen.size);
    seen.size = size;
    this.trace.push({ action: "truncate", name, file: seen.id, size });
  }

  async sync(name: string, seen: Seen): Promise<void> {
    const since = this.trace.length;
    try {
      await this.#wait(() => this.#call("sync", name));
    } catch (error) {
      this.trace.push({ action: "lose", name, file: seen.id, since });
      throw error;
    }
    this.trace.push({ action: "sync", name, file: seen.id, since });
  }

  // --- helpers ---

  #look(id: number): Seen {
    let seen = this.#seen.get(id);
    if (seen === undefined) {
      const bytes = this.#start.bytes(id).slice();
      this.#seen.set(id, seen = { id, bytes, size: bytes.length });
    }
    return seen;
  }

  #put(seen: Seen, bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    if (end > seen.bytes.length) this.#grow(seen, end);
    seen.bytes.set(bytes, position);
    seen.size = Math.max(seen.size, end);
  }

  #grow(seen: Seen, size: number): void {
    const grown = new Uint8Array(size * 2);
    grown.set(seen.bytes.subarray(0, seen.size));
    seen.bytes = grown;
  }

  /** Lets a sync take its time: others run meanwhile. It may fail at once, and then fails when the time is over. */
  async #wait(call: () => void): Promise<void> {
    let failure: unknown;
    try {
      call();
    } catch (error) {
      failure = error;
    }
    for (let turn = this.#random.below(this.#syncTurnsMax); turn >= 0; turn--) await Promise.resolve();
    if (failure !== undefined) throw failure;
  }

  /** Counts a call and fails it if it is its turn. */
  #call(action: Call["action"], name: string, bytes = 0): void {
    const call: Call = { action, name, number: this.calls.length, bytes };
    this.calls.push(call);
    const fault = this.#fault;
    if (fault === undefined || call.number < fault.at || !CONCERNED[fault.kind](call)) return;
    if (fault.kind === "full" && fault.forever) {
      // From here on there is room for a part of this write, and for what removing gives back.
      if (call.number === fault.at || this.#room === Infinity) this.#room = this.#random.below(bytes + 1);
      if (bytes > 0 || this.#room > 0) return;
    } else if (!fault.forever && call.number !== fault.at) {
      return;
    }
    throw failureOf(fault.kind, action, name);
  }
}

/** What `lib/fs/node.ts` says for such a failure. */
function failureOf(kind: Fault["kind"], action: Call["action"], name: string): FirkinError {
  const isSync = action === "sync" || action === "syncDirectory";
  const code = isSync ? "DURABILITY" : kind === "full" ? "FULL" : "IO";
  return new FirkinError(code, `Cannot ${action} ${name}: the simulation says so`);
}

/** True when the fault would strike this call. */
export function concerns(kind: Fault["kind"], call: Call): boolean {
  return CONCERNED[kind](call);
}

class SimFile implements File {
  readonly #disk: SimDisk;
  readonly #name: string;
  readonly #seen: Seen;
  readonly #writable: boolean;
  #closed = false;

  constructor(disk: SimDisk, name: string, seen: Seen, writable: boolean) {
    this.#disk = disk;
    this.#name = name;
    this.#seen = seen;
    this.#writable = writable;
  }

  read(target: Uint8Array, position: number, start = 0, end: number = target.length): number {
    this.#check();
    this.#disk.read(this.#name);
    const { bytes, size } = this.#seen;
    const part = bytes.subarray(position, Math.min(position + end - start, size));
    target.set(part, start);
    return part.length;
  }

  write(source: Uint8Array, position: number): void {
    this.#check(true);
    this.#disk.write(this.#name, this.#seen, source, position);
  }

  size(): number {
    this.#check();
    return this.#seen.size;
  }

  truncate(size: number): void {
    this.#check(true);
    this.#disk.truncate(this.#name, this.#seen, size);
  }

  async sync(): Promise<void> {
    this.#check();
    await this.#disk.sync(this.#name, this.#seen);
  }

  close(): void {
    this.#closed = true;
  }

  #check(writes = false): void {
    if (this.#closed) throw new FirkinError("CLOSED", `Cannot use ${this.#name}: the file is closed`);
    if (writes && !this.#writable) throw new FirkinError("IO", `Cannot write ${this.#name}: it was opened to read`);
  }
}
