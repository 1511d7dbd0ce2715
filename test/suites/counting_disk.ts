/**
 * A {@link Disk} that knows how many of its files are open.
 *
 * @module
 */
import type { File, FileMode } from "../../lib/fs/fs.ts";
import { Disk } from "./disk.ts";

/** A disk that counts descriptors. */
export class CountingDisk extends Disk {
  openCountMax = 0;
  readonly #files = new Set<File>();

  /** Files that are open now. */
  get openCount(): number {
    return this.#files.size;
  }

  /** The process dies, and its descriptors with it. */
  override crash(): void {
    super.crash();
    this.#files.clear();
  }

  override open(name: string, mode: FileMode): File {
    const file = super.open(name, mode);
    const close = file.close.bind(file);
    this.#files.add(file);
    this.openCountMax = Math.max(this.openCountMax, this.#files.size);
    return Object.assign(file, {
      close: () => {
        this.#files.delete(file);
        close();
      },
    });
  }
}
