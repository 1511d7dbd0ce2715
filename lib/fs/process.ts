/**
 * Which process holds a folder: the file `lock`, and the proof that its owner is dead.
 *
 * JavaScript runtimes share no kernel lock (flock is in Deno alone), so a lock is a file with one line of
 * JSON that says who made it. It is written under another name and put in place by `link`, which fails when
 * the name is taken: the file is never seen empty. What the file says is believed as follows:
 *
 * 1. Same host name, another boot: the owner died with its kernel. Dead.
 * 2. Same host name, boot and pid namespace: its pid is absent, a zombie, or was started at another time
 *    (a reused pid). Dead.
 * 3. A lock without an owner (empty or garbage) that was written more than five seconds before now. Dead.
 * 4. Same host name, boot, pid namespace and start of its pid, or all facts those of this very process (which
 *    has the folder open already). Alive.
 * 5. All else may be alive. Two containers on one folder cannot see each other's pids, so a bare pid proves
 *    nothing. A fact that the system does not give is an empty string, which proves nothing.
 *
 * An owner that is or may be alive is `LOCKED`. With `force`, one that may be (5) counts as dead, on the word of the
 * person who asks for it; one that is alive (4) never does, so that a flag that was left behind does no harm where
 * processes see one another.
 *
 * A lock may be taken from a process that lives after all: one that was stopped for long, or in a container that
 * nobody could see into. Therefore the owner looks at its lock again (`check`) before each step that changes which
 * files are the store, and ends its writing when the lock is not its own any more.
 *
 * Two processes may judge the same lock dead at once; only one may replace it, and not one that the other has
 * put there meanwhile. Therefore the right to replace a lock is a lock itself: a *claim*, named after the
 * nonce of the dead lock and taken by the same rules (so that a claim whose owner died is claimed in turn).
 * Only who holds the claim on a nonce replaces the lock of that nonce, by one `rename`, and only after it has
 * seen, claim in hand, that the nonce is still in place. Nonces never return, so a claim that comes late finds
 * another nonce there and is withdrawn.
 *
 * Left out: an abstract unix socket as a second witness (the kernel frees it at death), because listening is
 * asynchronous on every runtime and seen in one network namespace only. Known limits, where somebody has to
 * force the lock of a dead owner: a container that was killed and started again with the same host name may come
 * back in another pid namespace, and no fact that can be read in there tells that the former one is gone (its number
 * may be given again, and its processes are not to be seen from beside it); and Deno without leave to read /proc, to
 * ask for the host name and to signal sees no facts at all. Machines that share a folder must differ in host name.
 *
 * @module
 */

import type * as nodeFs from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { FirkinError } from "../base/errors.ts";
import type { Lock } from "./fs.ts";

/** The functions of `node:fs`; a test passes its own to fail, stop or interleave them. */
export type Calls = typeof nodeFs;

/** Who made a lock: the line in the file. On disk: never change a name. Unknown facts are empty strings. */
interface Owner {
  readonly pid: number;
  /** When the process started, in clock ticks since boot: tells a reused pid. */
  readonly startTicks: string;
  readonly bootId: string;
  readonly pidNamespace: string;
  readonly hostname: string;
  readonly nonce: string;
}

/** A lock as found. */
interface FoundLock {
  /** Undefined when the file holds none that can be read. */
  readonly owner: Owner | undefined;
  /** The owner's nonce; without an owner, the time of writing. Tells this lock from any that replaces it. */
  readonly id: string;
  readonly writtenAtMs: number;
}

/** Where there are no hard links, a lock is empty between being created and written; no longer than this. */
const OWNERLESS_MS_MAX = 5_000;

/** More than a lock ever holds. */
const LOCK_BYTES_MAX = 4_096;

/** What `link` says on a file system without hard links. */
const NO_LINKS: ReadonlySet<unknown> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL"]);

/** The lock, claims (by nonce, or by time of an ownerless lock) and drafts. */
const LOCK_NAME = /^lock(\.([0-9a-f-]{36}(\.draft)?|\d+))?$/;

/** True for the names that belong to locking: not for the folder's user to see. */
export function isLockName(name: string): boolean {
  return LOCK_NAME.test(name);
}

/** What the facts say of an owner. */
type Verdict = "dead" | "alive" | "unknown";

/**
 * Takes `folder` for this process; with `force` also from an owner that is not seen to live.
 *
 * @throws {FirkinError} LOCKED — the owner is or may be alive. What the system says comes through as it is.
 */
export function acquire(folder: string, calls: Calls, force = false): Lock {
  const lock = new FolderLock(folder, calls, force);
  lock.take();
  return lock;
}

/**
 * Looks whether {@link acquire} would be refused, and writes nothing.
 *
 * @throws {FirkinError} LOCKED — the owner is or may be alive. What the system says comes through as it is.
 */
export function inspect(folder: string, calls: Calls): void {
  new FolderLock(folder, calls, false).inspect();
}

class FolderLock implements Lock {
  readonly #folder: string;
  readonly #path: string;
  readonly #calls: Calls;
  readonly #self: Owner;
  readonly #line: Uint8Array;
  readonly #draft: string;
  readonly #force: boolean;
  /** By the folder's own clock, which on a network may differ from ours, once there is a draft. */
  #nowMs: number = Date.now();

  constructor(folder: string, calls: Calls, force: boolean) {
    this.#folder = folder;
    this.#force = force;
    this.#path = join(folder, "lock");
    this.#calls = calls;
    this.#self = describe(calls);
    this.#line = new TextEncoder().encode(`${JSON.stringify(this.#self)}\n`);
    this.#draft = `${this.#path}.${this.#self.nonce}.draft`;
  }

  take(): void {
    try {
      this.#create(this.#draft);
      this.#nowMs = readLock(this.#draft, this.#calls)?.writtenAtMs ?? 0;
      this.#win(this.#path);
    } finally {
      unlink(this.#draft, this.#calls);
    }
    try {
      const lock = readLock(this.#path, this.#calls);
      if (lock?.id !== this.#self.nonce) throw this.#locked(lock);
      this.#sweep();
    } catch (error) {
      this.release();
      throw error;
    }
  }

  inspect(): void {
    const lock = readLock(this.#path, this.#calls);
    if (lock !== undefined && this.#judge(lock) !== "dead") throw this.#locked(lock);
  }

  check(): void {
    const lock = readLock(this.#path, this.#calls);
    if (lock?.id === this.#self.nonce) return;
    const state = lock === undefined ? "its lock is gone" : `${ownerOf(lock)} has taken it`;
    throw this.#error(`Cannot write to ${this.#folder}: ${state}`);
  }

  release(): void {
    if (readLock(this.#path, this.#calls)?.id === this.#self.nonce) unlink(this.#path, this.#calls);
  }

  /** Makes `path`, the lock or a claim, ours. */
  #win(path: string): void {
    while (!this.#place(path)) {
      const lock = readLock(path, this.#calls);
      if (lock === undefined) continue; // Released meanwhile.
      // A network file system may have linked and lost the reply.
      if (lock.id === this.#self.nonce) return;
      const verdict = this.#judge(lock);
      const forced = this.#force && lock.owner !== undefined && verdict === "unknown";
      if (verdict !== "dead" && !forced) throw this.#locked(lock);
      const claim = `${this.#path}.${lock.id}`;
      this.#win(claim);
      try {
        if (readLock(path, this.#calls)?.id === lock.id) return this.#calls.renameSync(claim, path);
      } finally {
        // If it was renamed, another may have made it anew; but that one comes late and withdraws too.
        unlink(claim, this.#calls);
      }
    }
  }

  /** Puts our line at `path`, whole, unless the name is taken. */
  #place(path: string): boolean {
    try {
      try {
        this.#calls.linkSync(this.#draft, path);
      } catch (error) {
        if (!NO_LINKS.has(codeOf(error))) throw error;
        this.#create(path);
      }
      return true;
    } catch (error) {
      if (codeOf(error) === "EEXIST") return false;
      throw error;
    }
  }

  /** Makes a file of our line; synced, since an empty one left by a power cut would tell nothing of its boot. */
  #create(path: string): void {
    const { O_CREAT, O_EXCL, O_WRONLY } = this.#calls.constants;
    const fd = this.#calls.openSync(path, O_WRONLY | O_CREAT | O_EXCL, 0o600);
    try {
      const count = this.#calls.writeSync(fd, this.#line, 0, this.#line.length, 0);
      if (count < this.#line.length) throw new Error(`the system took ${count} of ${this.#line.length} bytes`);
      this.#calls.fsyncSync(fd);
    } finally {
      this.#calls.closeSync(fd);
    }
  }

  /** Removes what processes left that died while taking the folder. With the lock in hand no claim of theirs counts. */
  #sweep(): void {
    for (const name of this.#calls.readdirSync(this.#folder)) {
      if (name === "lock" || !isLockName(name)) continue;
      const path = join(this.#folder, name);
      const lock = readLock(path, this.#calls);
      if (lock !== undefined && this.#judge(lock) === "dead") unlink(path, this.#calls);
    }
  }

  #judge(lock: FoundLock): Verdict {
    if (lock.owner !== undefined) return judge(lock.owner, this.#self, this.#calls);
    return this.#nowMs - lock.writtenAtMs > OWNERLESS_MS_MAX ? "dead" : "unknown";
  }

  #locked(lock: FoundLock | undefined): FirkinError {
    const action = `Cannot lock ${this.#folder}`;
    if (lock?.owner === undefined) return this.#error(`${action}: another process is taking it`);
    const alive = this.#judge(lock) === "alive";
    const state = alive ? "has it open" : `may be alive (its lock is ${this.#path}; to force it, be sure it is not)`;
    return this.#error(`${action}: ${ownerOf(lock)} ${state}`);
  }

  #error(message: string): FirkinError {
    return new FirkinError("LOCKED", message, { detail: { path: this.#folder } });
  }
}

function ownerOf({ owner }: FoundLock): string {
  return owner === undefined ? "another process" : `process ${owner.pid} on ${owner.hostname}`;
}

// --- locks on disk ---

/** The lock at `path`, or undefined when there is none. */
function readLock(path: string, calls: Calls): FoundLock | undefined {
  let fd: number;
  try {
    // Without O_NOFOLLOW (Windows) the flag is undefined, which counts as 0.
    fd = calls.openSync(path, calls.constants.O_RDONLY | calls.constants.O_NOFOLLOW);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    const bytes = new Uint8Array(LOCK_BYTES_MAX);
    const count = calls.readSync(fd, bytes, 0, bytes.length, 0);
    const owner = parseOwner(new TextDecoder().decode(bytes.subarray(0, count)));
    // As an integer from the start: runtimes round the fraction differently, and the id must be one for all.
    const writtenAtMs = Number(calls.fstatSync(fd, { bigint: true }).mtimeMs);
    return { owner, id: owner?.nonce ?? String(writtenAtMs), writtenAtMs };
  } finally {
    calls.closeSync(fd);
  }
}

function parseOwner(text: string): Owner | undefined {
  let found: Partial<Record<keyof Owner, unknown>> | null;
  try {
    found = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { pid, startTicks, bootId, pidNamespace, hostname, nonce } = found ?? {};
  // Zero and negative pids would ask about process groups; the nonce becomes part of a file name.
  if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid <= 0) return undefined;
  if (typeof nonce !== "string" || !/^[0-9a-f-]{36}$/.test(nonce)) return undefined;
  if (typeof startTicks !== "string" || typeof bootId !== "string") return undefined;
  if (typeof pidNamespace !== "string" || typeof hostname !== "string") return undefined;
  return { pid, startTicks, bootId, pidNamespace, hostname, nonce };
}

function unlink(path: string, calls: Calls): void {
  try {
    calls.unlinkSync(path);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
}

// --- processes ---

function describe(calls: Calls): Owner {
  return {
    pid: process.pid,
    startTicks: readStat(process.pid, calls).startTicks,
    bootId: fact(() => calls.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
    pidNamespace: fact(() => calls.readlinkSync("/proc/self/ns/pid")),
    hostname: fact(hostname),
    nonce: crypto.randomUUID(),
  };
}

/** What `self` makes of `owner`: one that cannot be seen is alive when it is this very process. */
function judge(owner: Owner, self: Owner, calls: Calls): Verdict {
  const verdict = look(owner, self, calls);
  return verdict === "unknown" && isSame(owner, self) ? "alive" : verdict;
}

/** What `self` can see of `owner`. */
function look(owner: Owner, self: Owner, calls: Calls): Verdict {
  if (self.hostname === "" || owner.hostname !== self.hostname) return "unknown";
  if (owner.bootId !== self.bootId) return owner.bootId !== "" && self.bootId !== "" ? "dead" : "unknown";
  // Where pids have namespaces, one must be known before an absent pid means anything.
  if (process.platform === "linux" && self.pidNamespace === "") return "unknown";
  if (owner.pidNamespace !== self.pidNamespace) return "unknown";
  if (isAbsent(owner.pid)) return "dead";
  const { state, startTicks } = readStat(owner.pid, calls);
  if (state === "Z" || state === "X") return "dead";
  if (startTicks === "" || owner.startTicks === "") return "unknown";
  return startTicks === owner.startTicks ? "alive" : "dead";
}

/** True when `owner` is this very process, as far as the facts go. */
function isSame(owner: Owner, self: Owner): boolean {
  return owner.pid === self.pid && owner.startTicks === self.startTicks && owner.bootId === self.bootId &&
    owner.pidNamespace === self.pidNamespace && owner.hostname === self.hostname;
}

function isAbsent(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return codeOf(error) === "ESRCH";
  }
}

/** State and start of a process from /proc; the name before them is in parentheses and may hold anything. */
function readStat(pid: number, calls: Calls): { state: string; startTicks: string } {
  const stat = fact(() => calls.readFileSync(`/proc/${pid}/stat`, "utf8"));
  const fields = stat.slice(stat.lastIndexOf(")") + 1).trim().split(" ");
  // The first of these is field 3 of proc(5), the start is field 22.
  return { state: fields[0] ?? "", startTicks: fields[19] ?? "" };
}

/** What `read` tells, or an empty string where the system has no such thing or does not let us see it. */
function fact(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

/** The system's own code of an error (`ENOENT`), if it has one. */
export function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
