/**
 * A folder in memory: `open(":memory:")`, and the fast half of every test.
 *
 * A file is a map of chunks, so that it grows by what is written without ever being copied, and a hole
 * costs nothing: bytes in a chunk that is not there are zeros, as in a sparse file on disk. As on POSIX, a
 * name and the bytes behind it are two things: a file that is removed or replaced while open stays whole
 * for those who hold it.
 *
 * Nothing outlives the instance, so nothing needs to be made durable: `sync` only answers.
 *
 * @module
 */

import { assert, FirkinError } from "../base/errors.ts";
import type { File, FileMode, FileSystem, Lock } from "./fs.ts";

/** What a small file costs at least, against map entries per MiB of a large one. */
const CHUNK_BYTES = 64 * 1024;

/** The bytes behind a name, shared by all who have the file open. */
interface Content {
  readonly chunks: Map<number, Uint8Array>;
  size: number;
}

class MemoryFile implements File {
  readonly #content: Content;
  readonly #place: string;
  readonly #writable: boolean;
  #closed = false;

  constructor(content: Content, place: string, writable: boolean) {
    this.#content = content;
    this.#place = place;
    this.#writable = writable;
  }

  read(target: Uint8Array, position: number, from = 0, to: number = target.length): number {
    this.#check("read", position);
    const count = Math.max(0, Math.min(to - from, this.#content.size - position));
    for (let done = 0; done < count;) {
      const { index, start, length } = locate(position + done, count - done);
      const chunk = this.#content.chunks.get(index);
      if (chunk === undefined) target.fill(0, from + done, from + done + length);
      else target.set(chunk.subarray(start, start + length), from + done);
      done += length;
    }
    return count;
  }

  write(source: Uint8Array, position: number): void {
    this.#check("write", position);
    for (let done = 0; done < source.length;) {
      const { index, start, length } = locate(position + done, source.length - done);
      let chunk = this.#content.chunks.get(index);
      if (chunk === undefined) this.#content.chunks.set(index, chunk = new Uint8Array(CHUNK_BYTES));
      chunk.set(source.subarray(done, done + length), start);
      done += length;
    }
    if (source.length > 0) this.#content.size = Math.max(this.#content.size, position + source.length);
  }

  size(): number {
    this.#check("measure", 0);
    return this.#content.size;
  }

  truncate(size: number): void {
    this.#check("truncate", size);
    const { chunks } = this.#content;
    if (size < this.#content.size) {
      // What is cut must read as zeros when the file grows again.
      const last = Math.floor(size / CHUNK_BYTES);
      for (const index of chunks.keys()) if (index > last) chunks.delete(index);
      chunks.get(last)?.fill(0, size % CHUNK_BYTES);
    }
    this.#content.size = size;
  }

  // deno-lint-ignore require-await -- a closed file must reject, not throw
  async sync(): Promise<void> {
    this.#check("sync", 0);
  }

  close(): void {
    this.#closed = true;
  }

  #check(action: "read" | "write" | "measure" | "truncate" | "sync", position: number): void {
    assert(Number.isSafeInteger(position) && position >= 0, "A position in a file is a whole number from zero");
    if (this.#closed) throw failure("CLOSED", action, this.#place, "the file is closed");
    if (!this.#writable && (action === "write" || action === "truncate")) {
      throw failure("IO", action, this.#place, "it was opened to read");
    }
  }
}

/** A folder in memory. */
export class MemoryFileSystem implements FileSystem {
  readonly path: string;
  readonly #files = new Map<string, Content>();
  #locked = false;

  /** Makes an empty folder; `path` only names it in messages. */
  constructor(path = ":memory:") {
    this.path = path;
  }

  makeDirectory(): void {}

  lock(): Lock {
    this.inspect();
    this.#locked = true;
    let held = true;
    return {
      check: () => {
        if (!held) throw failure("LOCKED", "write to", this.path, "it was given back");
      },
      release: () => {
        if (held) this.#locked = held = false;
      },
    };
  }

  inspect(): void {
    if (this.#locked) throw failure("LOCKED", "lock", this.path, "it is open already");
  }

  list(): string[] {
    return [...this.#files.keys()];
  }

  open(name: string, mode: FileMode): File {
    let content = this.#files.get(name);
    if (mode === "create") {
      if (content !== undefined) throw failure("IO", "create", this.#at(name), "the file exists");
      this.#files.set(name, content = { chunks: new Map(), size: 0 });
    } else if (content === undefined) {
      throw failure("IO", "open", this.#at(name), "there is no such file");
    }
    return new MemoryFile(content, this.#at(name), mode !== "read");
  }

  rename(source: string, target: string): void {
    const content = this.#files.get(source);
    if (content === undefined) throw failure("IO", "rename", this.#at(source), "there is no such file");
    this.#files.delete(source);
    this.#files.set(target, content);
  }

  remove(name: string): void {
    this.#files.delete(name);
  }

  // deno-lint-ignore require-await -- what refuses must reject, not throw
  async discard(name: string): Promise<void> {
    this.remove(name);
  }

  async syncDirectory(): Promise<void> {}

  #at(name: string): string {
    return `${this.path}/${name}`;
  }
}

/** The part of `length` bytes from `position` that lies in one chunk. */
function locate(position: number, length: number): { index: number; start: number; length: number } {
  const start = position % CHUNK_BYTES;
  return { index: Math.floor(position / CHUNK_BYTES), start, length: Math.min(length, CHUNK_BYTES - start) };
}

function failure(code: "CLOSED" | "IO" | "LOCKED", action: string, place: string, state: string): FirkinError {
  return new FirkinError(code, `Cannot ${action} ${place}: ${state}`, { detail: { path: place } });
}
