/**
 * Room kept back for a full disk: a file of zeros, really written, that is cut when a write finds no room.
 *
 * Without it a full disk cannot be emptied: a delete is a record, compaction copies before it removes. So:
 *
 * 1. The file is made in the background when the log has its first segment, small, and grows to its size when the log
 *    has a second one: an empty store has none, and opening waits for none.
 * 2. A write that finds no room makes the store `full`. From then on sets are refused at once; a group of tombstones
 *    takes what it needs from the upper half of the reserve. The lower half is compaction's.
 * 3. Once a second, while the store is full, the reserve is filled up again. When it is whole and there is some room
 *    beside it, sets are taken again.
 *
 * A reserve that cannot be made whole takes half of the room that is left, not all of it: it must not be what fills the
 * disk. Where a file system compresses zeros or shares blocks, the file keeps less room than it has bytes.
 *
 * The file is no data: an open takes it as it is, of whatever size, or does without.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";
import { FirkinError } from "../base/errors.ts";
import type { File, FileSystem } from "../fs/fs.ts";

/** The file's name. */
export const RESERVE_NAME = "reserve";

/** Bytes while the log has one segment: some thousand deletes, and less than that segment soon has. */
const SMALL_BYTES = 64 * 1024;

/** Bytes written and synced in one step: a sync of more would hold up the log's own. */
const STEP_BYTES = 1024 * 1024;

/** Room beside a whole reserve that ends `full`, at most as much again as the reserve. */
const HEADROOM_BYTES = 64 * 1024;

/** What an open and a close need, most of the time. */
const LITTLE_BYTES = 1_024;

/** Time between two looks for room. */
const LOOK_MS = 1_000;

/** What the reserve tells an operator. */
export type ReserveEvent =
  /** A write found no room: sets are refused until there is some. */
  | { readonly type: "full" }
  /** There is room again. */
  | { readonly type: "recovered" };

/** True when an error says that there is no room. */
export function isFull(error: unknown): boolean {
  return error instanceof FirkinError && error.code === "FULL";
}

/** The reserve of one folder. */
export class Reserve {
  readonly #fileSystem: FileSystem;
  readonly #clock: Clock;
  readonly #bytesMax: number;
  readonly #report: (event: ReserveEvent) => void;
  readonly #mayWrite: () => boolean;
  /** What the file should have, and has. */
  #wanted = 0;
  #bytes = 0;
  #full = false;
  /** There is no room for all of it: it is not filled up before sets are refused, lest it fill the disk. */
  #tight = false;
  /** Who has what was let go of: meanwhile it is not taken back. */
  #lent = 0;
  #closed = false;
  #timer: Timer | undefined;
  /** Counts whatever ends a fill that is under way. */
  #fills = 0;

  /**
   * Touches nothing yet; `bytesMax` 0 is to have none, and to notice no full disk. Nothing is written while not
   * `mayWrite`.
   */
  constructor(
    fileSystem: FileSystem,
    clock: Clock,
    bytesMax: number,
    report: (event: ReserveEvent) => void,
    mayWrite: () => boolean = () => true,
  ) {
    this.#fileSystem = fileSystem;
    this.#clock = clock;
    this.#bytesMax = bytesMax;
    this.#report = report;
    this.#mayWrite = mayWrite;
  }

  /** Takes up what the folder has of it. */
  open(): void {
    if (!this.#isThere()) return;
    const file = this.#fileSystem.open(RESERVE_NAME, "write");
    this.#bytes = file.size();
    file.close();
    if (this.#bytes > this.#bytesMax) this.#cut(this.#bytesMax);
  }

  /** Bytes kept back now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** True while sets are refused. */
  get full(): boolean {
    return this.#full;
  }

  /** Makes or fills it up in the background, as large as a log of so many segments should have it. */
  want(segments: number): void {
    const wanted = segments === 0 ? 0 : segments === 1 ? Math.min(SMALL_BYTES, this.#bytesMax) : this.#bytesMax;
    this.#wanted = Math.max(this.#wanted, wanted);
    if (!this.#full && !this.#tight && !this.#closed && this.#bytes < this.#wanted) void this.#fill(0);
  }

  /** A write found no room. */
  noteFull(): void {
    if (this.#bytesMax === 0 || this.#full || this.#closed) return;
    this.#full = true;
    this.#fills++;
    this.#report({ type: "full" });
    this.#lookLater();
  }

  /** Lets go of room for tombstones of `bytes` bytes, from the upper half; false when that is gone. */
  give(bytes: number): boolean {
    const step = Math.max(bytes * 2, Math.ceil(this.#wanted / 16));
    const rest = Math.max(this.#bytes - step, Math.ceil(this.#wanted / 2));
    return rest < this.#bytes && this.#cut(rest);
  }

  /** Lets go of all of it; false when there is nothing to let go of. */
  free(): boolean {
    return this.#bytes > 0 && this.#cut(0);
  }

  /** From here on nothing is taken back, until what this returns is called. */
  lend(): () => void {
    this.#lent++;
    this.#fills++;
    return () => void this.#lent--;
  }

  /**
   * Does what needs little room and must be done on a full disk too: again with some of the reserve's room, then with
   * all of it. @throws {FirkinError} FULL — that is not enough
   */
  async withRoom(work: () => void | Promise<void>): Promise<void> {
    const giveBack = this.lend();
    try {
      for (const more of [() => this.give(LITTLE_BYTES) || this.free(), () => this.free(), () => false]) {
        try {
          return await work();
        } catch (error) {
          if (!isFull(error) || !more()) throw error;
        }
      }
    } finally {
      giveBack();
    }
  }

  /** Ends what is under way; the file stays. */
  close(): void {
    this.#closed = true;
    this.#fills++;
    this.#timer?.cancel();
  }

  #isThere(): boolean {
    return this.#fileSystem.list().includes(RESERVE_NAME);
  }

  #cut(bytes: number): boolean {
    this.#fills++;
    if (!this.#mayWrite()) return false;
    try {
      if (bytes === 0) {
        this.#fileSystem.remove(RESERVE_NAME);
      } else {
        const file = this.#fileSystem.open(RESERVE_NAME, "write");
        file.truncate(bytes);
        file.close();
      }
    } catch {
      // What asked for room has an error of its own to tell.
      return false;
    }
    this.#bytes = bytes;
    return true;
  }

  #lookLater(): void {
    this.#timer = this.#clock.after(LOOK_MS, () => void this.#look());
  }

  async #look(): Promise<void> {
    const headroom = Math.min(HEADROOM_BYTES, this.#bytesMax);
    const room = await this.#fill(headroom) || this.#leave(headroom);
    if (this.#closed) return;
    if (!room) return this.#lookLater();
    this.#full = false;
    this.#report({ type: "recovered" });
  }

  /** Writes zeros until the file is whole, step by step; true when it is, and had `headroom` beside it. */
  async #fill(headroom: number): Promise<boolean> {
    if (this.#lent > 0 || !this.#mayWrite()) return false;
    const number = ++this.#fills;
    const before = this.#bytes;
    let file: File | undefined;
    try {
      file = this.#fileSystem.open(RESERVE_NAME, this.#isThere() ? "write" : "create");
      const zeros = new Uint8Array(Math.min(STEP_BYTES, this.#wanted + headroom));
      while (this.#bytes < this.#wanted + headroom) {
        const length = Math.min(zeros.length, this.#wanted + headroom - this.#bytes);
        file.write(zeros.subarray(0, length), this.#bytes);
        this.#bytes += length;
        await file.sync();
        if (number !== this.#fills) return false;
      }
      this.#trim(file, this.#wanted);
      this.#tight = false;
      return true;
    } catch (error) {
      if (number === this.#fills && isFull(error)) this.#settle(file, before);
      return false;
    } finally {
      file?.close();
    }
  }

  /** There was room for a part only: all of it is kept while sets are refused, else half of it. */
  #settle(file: File | undefined, before: number): void {
    this.#tight = true;
    if (file === undefined) return;
    try {
      this.#bytes = file.size();
      this.#trim(file, this.#full ? this.#wanted : before + Math.floor((this.#bytes - before) / 2));
    } catch {
      // The next look finds out what is left.
    }
  }

  /** On a disk too small for all of it: when half of it is there, some room is left beside it. False when it is not. */
  #leave(headroom: number): boolean {
    const rest = this.#bytes - 2 * headroom;
    return this.#lent === 0 && !this.#closed && rest >= this.#wanted / 2 && this.#cut(rest);
  }

  #trim(file: File, bytes: number): void {
    if (this.#bytes <= bytes) return;
    file.truncate(bytes);
    this.#bytes = bytes;
  }
}
