/**
 * The file that tokens are kept in: read when it has changed, replaced whole.
 *
 * It holds names, rights and SHA-256 digests, no token. Its place is beside the store's folder, not in it: a copy of
 * the folder is then no copy of who may read it, and the command changes the file while a server has the folder. (In
 * the folder it would be left alone: neither open, verify nor repair touches a name that is not theirs.)
 *
 * A change is written to `<file>.lock`, which only one can make at a time, synced, and renamed over the file: whoever
 * reads finds the old text or the new one, and of two changes at once neither is lost. A lock that a killed process has
 * left is removed by hand, since nothing tells it from one in use.
 *
 * @module
 */
import { readFileSync, statSync } from "node:fs";
import { open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import type { Clock } from "../lib/base/clock.ts";
import { FirkinError } from "../lib/base/errors.ts";

/** Nobody but the owner may read or write it. */
const MODE = 0o600;
/** How long another's change is waited for, and how often it is looked for. */
const LOCK_MS = 2_000;
const LOCK_POLL_MS = 20;

/** A small text file that more than one process changes. */
export class TokenFile {
  readonly path: string;
  readonly #clock: Clock;
  /** What the file was when it was last read; undefined when it was not there. */
  #seen: string | undefined | null = null;

  constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
  }

  /** The text when it is not the one that was read last ("" for a file that is not there), undefined when it is. */
  readIfChanged(): string | undefined {
    // Looked at before it is read: should it change in between, the next look finds out.
    const state = this.#state();
    if (state === this.#seen) return undefined;
    const text = state === undefined ? "" : this.#read();
    this.#seen = state;
    return text;
  }

  /**
   * Replaces the text by what `change` makes of it, undefined for no change; resolves when that is on stable storage.
   * @throws {FirkinError} LOCKED — somebody else has been changing it for seconds; IO
   */
  async replace(change: (text: string) => string | undefined): Promise<void> {
    const path = `${this.path}.lock`;
    const lock = await this.#lock(path);
    try {
      let text: string | undefined;
      try {
        text = change(this.#state() === undefined ? "" : this.#read());
        if (text !== undefined) await lock.writeFile(text);
        await lock.sync();
      } finally {
        await lock.close();
      }
      if (text === undefined) return await unlink(path);
      await rename(path, this.path);
    } catch (error) {
      await unlink(path).catch(() => {});
      if (error instanceof FirkinError || error instanceof RangeError) throw error;
      throw new FirkinError("IO", `Cannot write ${this.path}`, { cause: error });
    }
    await syncFolder(dirname(this.path));
  }

  /** What tells one content from another without reading it; undefined when there is no file. */
  #state(): string | undefined {
    const stat = statSync(this.path, { bigint: true, throwIfNoEntry: false });
    return stat && `${stat.ino} ${stat.size} ${stat.mtimeNs}`;
  }

  #read(): string {
    return readFileSync(this.path, "utf8");
  }

  async #lock(path: string): ReturnType<typeof open> {
    const deadline = this.#clock.monotonic() + LOCK_MS;
    for (;;) {
      try {
        return await open(path, "wx", MODE);
      } catch (error) {
        if ((error as { readonly code?: string }).code !== "EEXIST") {
          throw new FirkinError("IO", `Cannot write ${path}`, { cause: error });
        }
        if (this.#clock.monotonic() >= deadline) {
          throw new FirkinError("LOCKED", `Cannot change ${this.path}: remove ${path} if nobody else is changing it`);
        }
        await new Promise<void>((resolve) => this.#clock.after(LOCK_POLL_MS, resolve));
      }
    }
  }
}

/** Takes the rename to stable storage, where folders can be synced. */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch {
    // Windows opens no folders: it has the rename in its own log.
  }
}
