/**
 * Sealed segments, written into a folder one after another: what a repair and a snapshot make.
 *
 * Records come whole and in order of revision. A segment is made in memory, sealed when the next record has no room,
 * written to its file in slices and synced. Nothing names the files yet: the manifest is its caller's, and last.
 *
 * A log that ends here gets an empty segment with the mark of a close behind the others: the last segment of a log may
 * be torn, any other must end with its seal, and so damage to what was written is never taken for a tear.
 *
 * @module
 */
import type { Clock } from "../base/clock.ts";
import type { FileSystem } from "../fs/fs.ts";
import { FrameCache, ReadWindow } from "./frames.ts";
import { EMPTY, encodeMark, FLAG, KIND, NO_CONTENT, timeAt } from "./record.ts";
import { MARK_BYTES, SEAL_BYTES, Segment, SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";

/** Options of {@link SegmentWriter}. */
export interface SegmentWriterOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly storeId: Uint8Array;
  /** The first new segment's id. */
  readonly nextSegment: number;
  readonly segmentBytesMax: number;
}

/** A segment that was written. */
export interface WrittenSegment {
  readonly id: number;
  readonly firstRevision: number;
  readonly lastRevision: number;
  readonly records: number;
  /** Of the whole file. */
  readonly bytes: number;
}

const SLICE_BYTES = 256 * 1024;

/** Writes records into new segments. */
export class SegmentWriter {
  /** What is on stable storage so far, but for the names. */
  readonly written: WrittenSegment[] = [];
  /** The next new segment's id. */
  nextSegment: number;
  readonly #options: SegmentWriterOptions;
  #segment: Segment | undefined;
  #records = 0;
  #time = 0;

  /** Writes nothing before the first segment is full or the end. */
  constructor(options: SegmentWriterOptions) {
    this.#options = options;
    this.nextSegment = options.nextSegment;
  }

  /** False when a record of this length needs a new segment: call {@link SegmentWriter.finish} before it. */
  hasRoom(length: number): boolean {
    return this.#segment === undefined || this.#segment.hasRoom(length);
  }

  /** Copies a whole record to the end. */
  add(record: Uint8Array): void {
    this.#segment ??= this.#begin(record.length);
    this.#segment.appendCopy(record);
    this.#time = timeAt(record, 0);
    this.#records++;
  }

  /** Seals the segment that was begun, and makes it durable. */
  async finish(): Promise<void> {
    const segment = this.#segment;
    if (segment === undefined) return;
    this.#segment = undefined;
    segment.seal(segment.lastRevision, this.#time);
    const { id, firstRevision, lastRevision, tail: bytes } = segment;
    this.written.push({ id, firstRevision, lastRevision, records: this.#records, bytes });
    this.#records = 0;
    await this.#write(segment);
  }

  /** Ends the log: writes an empty segment, as a log has it that was closed, and returns its id. */
  async end(revision: number, time: number): Promise<number> {
    await this.finish();
    const segment = this.#begin(0);
    const value = encodeMark(segment.tail + MARK_BYTES);
    const mark = { kind: KIND.mark, bucket: 0, revision, at: time, key: EMPTY, value, content: NO_CONTENT };
    segment.append({ ...mark, flags: FLAG.clean });
    await this.#write(segment);
    return segment.id;
  }

  #begin(length: number): Segment {
    const { storeId, segmentBytesMax } = this.#options;
    return new Segment(
      this.nextSegment++,
      { storeId, frames: new FrameCache(0), aside: new ReadWindow() },
      Math.max(segmentBytesMax, SEGMENT_HEADER_BYTES + MARK_BYTES + length + SEAL_BYTES),
    );
  }

  async #write(segment: Segment): Promise<void> {
    const { fileSystem, clock } = this.#options;
    const { id } = segment;
    // A run that crashed may have left one.
    fileSystem.remove(segmentName(id));
    const file = fileSystem.open(segmentName(id), "create");
    try {
      for (let from = 0; from < segment.tail; from += SLICE_BYTES) {
        if (from > 0) await new Promise<void>((resolve) => clock.after(0, resolve));
        file.write(segment.bytes(from, Math.min(from + SLICE_BYTES, segment.tail)), from);
      }
      await file.sync();
    } finally {
      file.close();
    }
  }
}
