/**
 * What an open makes of a segment's bytes: where its sound records end, and whether what follows is a tear or rot.
 *
 * A crash may leave the last segment with a half-written group: bytes cut short, zeros, or garbage. That is a tear, and
 * is cut. But a record that fails its check *below* a place that the log later stated to be on stable storage was
 * damaged after it was safe: that is rot, and nothing is cut. The statement is a mark: each group that follows a sync
 * begins with one. A log that was closed ends with a clean mark; from then on any bad byte before it is rot.
 *
 * A sealed segment ends with its seal and was synced before the next one began, so it is never torn.
 *
 * @module
 */
import { checkRecord, FLAG, flagsAt, KIND, kindAt, markAt, recordBytesAt } from "./record.ts";
import { MARK_BYTES, SEGMENT_HEADER_BYTES } from "./segment.ts";

/** Records checked in one step. */
const RECORDS_PER_STEP = 512;

/** How far a segment is sound. */
export interface SoundPart {
  /** End of the last record that counts. */
  readonly end: number;
  /** The last record is a seal. */
  readonly sealed: boolean;
  /** The last record is the clean mark of a close. */
  readonly clean: boolean;
  /** What the last mark says was on stable storage. */
  readonly durable: number;
}

/** Finds the end of the sound records; an unfinished batch at the end does not count. */
export function soundPart(bytes: Uint8Array, seed: number): SoundPart {
  const steps = soundPartSteps(bytes, seed);
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  return step.value;
}

/** The same in steps; yields how many records it has checked in each. */
export function* soundPartSteps(bytes: Uint8Array, seed: number): Generator<number, SoundPart> {
  let records = 0;
  let at = SEGMENT_HEADER_BYTES;
  let batchStart = -1;
  let sealed = false;
  let clean = false;
  let durable = SEGMENT_HEADER_BYTES;
  for (;;) {
    const length = checkRecord(bytes, at, bytes.length, seed);
    if (length === 0) break;
    const more = (flagsAt(bytes, at) & FLAG.more) !== 0;
    if (!more) batchStart = -1;
    else if (batchStart === -1) batchStart = at;
    sealed = kindAt(bytes, at) === KIND.seal;
    const mark = kindAt(bytes, at) === KIND.mark;
    clean = mark && (flagsAt(bytes, at) & FLAG.clean) !== 0;
    if (mark) durable = markAt(bytes, at);
    at += length;
    if (sealed) break;
    if (++records % RECORDS_PER_STEP === 0) yield RECORDS_PER_STEP;
  }
  return { end: batchStart === -1 ? at : batchStart, sealed, clean, durable };
}

/** What follows the sound part: nothing but zeros, the leavings of a crash, or damage to what was safe. */
export type Tail = "empty" | "torn" | "rot";

/** Judges the bytes behind the sound part. */
export function judgeTail(bytes: Uint8Array, { end, sealed }: SoundPart, seed: number): Tail {
  if (bytes.subarray(end).every((byte) => byte === 0)) return "empty";
  // Nothing is ever written behind a seal.
  if (sealed) return "rot";
  for (let kind = bytes.indexOf(KIND.mark, end + 4); kind !== -1; kind = bytes.indexOf(KIND.mark, kind + 1)) {
    const at = kind - 4;
    // The length first: else any byte may begin a record that reaches far, and the search takes the square of the tail.
    if (at + MARK_BYTES > bytes.length || recordBytesAt(bytes, at) !== MARK_BYTES) continue;
    if (checkRecord(bytes, at, bytes.length, seed) === 0) continue;
    if (markAt(bytes, at) > end) return "rot";
  }
  return "torn";
}
