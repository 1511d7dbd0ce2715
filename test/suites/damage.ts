/**
 * Stores with something to lose, damage done to them, and short ways to verify and repair a {@link Disk}.
 *
 * @module
 */
import { expect } from "bun:test";
import { fromHex } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import {
  EMPTY,
  encodeMark,
  encodeRecord,
  FLAG,
  KIND,
  type Kind,
  NO_CONTENT,
  segmentSeed,
} from "../../lib/bitcask/record.ts";
import { type Repair, repairLog } from "../../lib/bitcask/repair.ts";
import { type Verification, verifyLog } from "../../lib/bitcask/verify.ts";
import type { FileSystem } from "../../lib/fs/fs.ts";
import type { Disk } from "./disk.ts";
import { Cask } from "./embedded.ts";
import { bytesOf, textOf } from "./engine_subject.ts";
import { errorCode } from "./fs.ts";

/** Lets timers run until `promise` settles. */
export async function finish<Result>(clock: ManualClock, promise: Promise<Result>): Promise<Result> {
  return await new Cask({}, undefined, clock).finish(promise);
}

/** What {@link verifyLog} finds; it must write nothing. */
export async function verified(disk: Disk): Promise<Verification> {
  const clock = new ManualClock();
  const calls = disk.calls.length;
  const found = await finish(clock, verifyLog(disk, { clock }));
  expect(disk.calls.length).toBe(calls);
  return found;
}

/** What {@link repairLog} does. */
export function repaired(disk: FileSystem, seed = 2): Promise<Repair> {
  const clock = new ManualClock(undefined, seed);
  return finish(clock, repairLog(disk, { clock }));
}

/**
 * Each key's value and revision in the store on the disk, or the code of the error that an open ends with: one that has
 * no hints and so reads every record.
 */
export async function entriesOf(disk: Disk): Promise<Map<string, string> | string> {
  const cask = new Cask({}, disk.clone());
  for (const name of cask.disk.list()) if (name.endsWith(".hint")) cask.disk.remove(name);
  const code = await errorCode(() => cask.open());
  if (code !== undefined) return code;
  const { entries } = await cask.engine.list("b", { limit: 1_000 });
  return new Map(entries.map(({ key, value, revision }) => [textOf(key)!, `${revision}:${textOf(value)}`]));
}

/** Another disk, where a byte of a file is changed. */
export function flipped(disk: Disk, name: string, bit: number): Disk {
  const other = disk.clone();
  const bytes = other.bytes(name);
  bytes[bit >> 3]! ^= 1 << (bit & 7);
  other.put(name, bytes);
  return other;
}

/** A store with the changes 1, 2 to 4 as a batch, 5, and a mark that says that they are safe; and where they start. */
export async function withBatch(): Promise<{ disk: Disk; name: string; starts: number[] }> {
  const cask = await Cask.open();
  await cask.set("k1", "");
  await cask.close();
  const { disk } = cask;
  const name = disk.segments()[0]!;
  const { store } = JSON.parse(new TextDecoder().decode(disk.bytes("manifest")).split("\n")[0]!);
  const seed = segmentSeed(fromHex(store)!, 1);
  const before = disk.bytes(name);
  const bytes = new Uint8Array(before.length + 300);
  bytes.set(before);
  let end = before.length;
  const starts: number[] = [];
  const add = (kind: Kind, revision: number, flags = 0): void => {
    starts.push(end);
    const [bucket, key] = kind === KIND.set ? [1, bytesOf(`k${revision}`)] : [0, EMPTY];
    const value = kind === KIND.mark ? encodeMark(end) : EMPTY;
    end = encodeRecord(bytes, end, seed, { kind, bucket, revision, at: 1, key, value, content: NO_CONTENT, flags });
  };
  add(KIND.set, 2, FLAG.more);
  add(KIND.set, 3, FLAG.more);
  add(KIND.set, 4);
  add(KIND.set, 5);
  add(KIND.mark, 5);
  disk.put(name, bytes.slice(0, end));
  return { disk, name, starts };
}

/** What was written, by revision. */
export type History = ReadonlyMap<number, { readonly key: string; readonly value: string | undefined }>;

/** The store after these changes alone. */
export function stateOf(history: History, keep: (revision: number) => boolean): Map<string, string> {
  const state = new Map<string, string>();
  for (const [revision, { key, value }] of history) {
    if (!keep(revision)) continue;
    if (value === undefined) state.delete(key);
    else state.set(key, `${revision}:${value}`);
  }
  return new Map([...state].sort(([left], [right]) => left < right ? -1 : 1));
}
