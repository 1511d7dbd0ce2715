/**
 * Many writes as calls of `Engine.setMany`: entries are gathered into slices within the engine's limits.
 *
 * While one slice is on its way the next is gathered, and no more: so however many entries there are, memory holds two
 * slices, and the disk is never waited for idly. The first slice leaves before anything is awaited, so a few entries
 * are one group with whatever else its tick writes.
 *
 * @module
 */
import type { Engine, SetEntry } from "../engine/engine.ts";

/** A slice's keys and values, unless it is one entry: enough for a write of the disk that costs little per byte. */
const SLICE_BYTES_MAX = 1024 * 1024;

/** Sets entries of one bucket, in slices. */
export class SliceWriter {
  readonly #engine: Engine;
  readonly #bucket: string;
  #slice: SetEntry[] = [];
  #bytes = 0;
  #onItsWay: Promise<void> = Promise.resolve();

  /** Writes to `bucket` of `engine`. */
  constructor(engine: Engine, bucket: string) {
    this.#engine = engine;
    this.#bucket = bucket;
  }

  /** Adds an entry; a promise when it is to be awaited before the next. Rejects with what a slice failed with. */
  add(entry: SetEntry): Promise<void> | undefined {
    const { batchOperationsMax, batchBytesMax } = this.#engine.limits;
    const bytes = entry.key.length + entry.value.length;
    const isFull = this.#slice.length === batchOperationsMax ||
      this.#bytes + bytes > Math.min(batchBytesMax, SLICE_BYTES_MAX);
    const sent = isFull && this.#slice.length > 0 ? this.#send() : undefined;
    this.#slice.push(entry);
    this.#bytes += bytes;
    return sent;
  }

  /** Sends what is left; resolves when all is written. */
  async finish(): Promise<void> {
    if (this.#slice.length > 0) await this.#send();
    await this.#onItsWay;
  }

  /** There is no more to come; resolves when nothing is on its way, whatever became of it. */
  async abandon(): Promise<void> {
    await this.#onItsWay.catch(() => {});
  }

  /** Sends the slice; resolves when the one before has been written. */
  #send(): Promise<void> {
    const before = this.#onItsWay;
    this.#onItsWay = this.#engine.setMany(this.#bucket, this.#slice);
    // Whoever awaits it later is told; until then it is nobody's.
    this.#onItsWay.catch(() => {});
    this.#slice = [];
    this.#bytes = 0;
    return before;
  }
}
