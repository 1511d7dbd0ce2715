/**
 * Stores with something to lose, damage done to them, and short ways to verify and repair a {@link Disk}.
 *
 * @module
 */
import { expect } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { type Repair, repairLog } from "../../lib/bitcask/repair.ts";
import { type Verification, verifyLog } from "../../lib/bitcask/verify.ts";
import type { FileSystem } from "../../lib/fs/fs.ts";
import type { Disk } from "./disk.ts";
import { Cask } from "./embedded.ts";
import { textOf } from "./engine_subject.ts";
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

/** Each key's value and revision in the store on the disk, or the code of the error that an open ends with. */
export async function entriesOf(disk: Disk): Promise<Map<string, string> | string> {
  const cask = new Cask({}, disk.clone());
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
