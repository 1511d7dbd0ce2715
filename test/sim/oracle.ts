/**
 * What a store may be after a crash, and whether it is.
 *
 * The log is one sequence, so the rule is one: what is found is the state after a *prefix* of the changes, in order of
 * revision. It is not shorter than what was promised by then (acknowledged under `always`; synced or closed otherwise;
 * acknowledged under every policy when only the process died), and not longer than what was asked for by then. From
 * this follow the others: no acknowledged loss, no mixture, nothing deleted, expired or overwritten comes back.
 *
 * {@link recover} is what an operator would do after the crash: open, look, go on with a subscription where it was,
 * write, close, open again. A second open finds what the first one left and changes nothing.
 *
 * A run with faults is judged key by key ({@link judgeKeys}), since a refused change may be there or not.
 *
 * @module
 */
import { messageOf } from "../../lib/base/errors.ts";
import type { ChangeEvent, EngineEvent } from "../../lib/engine/engine.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import { SimDisk } from "./disk.ts";
import { type Platter, platterOf, type Survivors, type Trace } from "./platter.ts";
import { hashBytes, hashText } from "./random.ts";
import {
  bucketOf,
  bytesOf,
  clockAt,
  differs,
  finish,
  type Item,
  keyOf,
  latinOf,
  Life,
  type Setup,
  show,
  type State,
} from "./life.ts";
import { type Change, endsInside, type History } from "./workload.ts";

// --- what may be found ---

/** What a crash at one moment may leave. */
export interface Expectation {
  /** Allowed from index `least` on, up to `most`. */
  readonly states: readonly State[];
  readonly least: number;
  readonly most: number;
  /** The latest time that the changes up to each state say: the store's time is not before it. */
  readonly times?: readonly number[] | undefined;
  /** The wall clock at the next open, and the latest time that the store may have seen. */
  readonly wall: number;
  readonly wallMax: number;
  /** The last cursor that a subscriber had, and the changes by which its events are judged. */
  readonly cursor?: string | undefined;
  readonly changes?: readonly Change[] | undefined;
}

/** What is allowed at a moment of a trace, by what happened to the machine. */
export type Expect = (point: number, data: Survivors["data"]) => Expectation;

/** What is allowed after `history` was cut short. */
export function expectAfter(history: History): Expect {
  const { changes, states, times, promises, sightings, walls, setup } = history;
  return (point, data) => {
    const acked = countWhile(changes, ({ ackedAt }) => ackedAt <= point);
    const promised = promises.reduce((most, { at, count }) => at <= point ? Math.max(most, count) : most, 0);
    const time = walls.findLast(({ at }) => at <= point)!;
    return {
      states,
      times,
      least: setup.policy === "always" || data === "process" ? acked : promised,
      most: countWhile(changes, ({ issuedAt }) => issuedAt <= point),
      wall: time.wall,
      wallMax: time.latest,
      cursor: sightings.findLast(({ at }) => at <= point)?.cursor,
      changes,
    };
  };
}

/** The length of the longest beginning that ends with an item which passes. */
function countWhile(changes: readonly Change[], passes: (change: Change) => boolean): number {
  return changes.findLastIndex(passes) + 1;
}

// --- recovery ---

/** A key that recoveries write. */
const PROBE = "b/probe";
const PROBES_MAX = 6;

/** One recovery in so many is opened without hints too. */
const SCANNED_ONCE_IN = 20;

/** What was found after a crash, and done. */
export interface Recovery {
  readonly disk: SimDisk;
  readonly trace: Trace;
  /** What the first open showed; undefined when it failed. */
  readonly found: State | undefined;
  /** States from then on: as found, then after each probe. */
  readonly states: readonly State[];
  /** Operations of the trace that had ended when the store was open, when each probe was acknowledged, and closed. */
  readonly openedAt: number;
  readonly probedAt: readonly number[];
  readonly closedAt: number;
  /** What the resumed subscription had to say; undefined when there was none. */
  readonly events: readonly EngineEvent[] | undefined;
  /** What takers got of single-read keys, in some recoveries. */
  readonly taken: ReadonlyMap<string, string>;
  readonly problems: readonly string[];
}

/** Does to what a crash has left what an operator would, at `wall`, for a subscriber with `cursor`. */
export async function recover(
  platter: Platter,
  setup: Setup,
  wall: number,
  cursor: string | undefined,
  keys: Iterable<string> = [],
): Promise<Recovery> {
  const disk = new SimDisk(platter, { seed: setup.seed });
  const recovery = {
    disk,
    trace: disk.trace,
    found: undefined as State | undefined,
    states: [] as State[],
    openedAt: Infinity,
    probedAt: [] as number[],
    closedAt: Infinity,
    events: undefined as EngineEvent[] | undefined,
    taken: new Map<string, string>(),
    problems: [] as string[],
  };
  const { problems } = recovery;
  let step = "open";
  try {
    const life = await Life.open(disk, clockAt(wall, setup), setup);
    recovery.openedAt = disk.trace.length;
    step = "look";
    let state = await life.observe(problems, keys);
    recovery.found = state;
    recovery.states.push(state);
    step = "write to";
    // As many as make the revisions pass the cursor's, if it lies ahead.
    const target = Number(cursor?.split(".")[1] ?? 0);
    for (let revision = -1, count = 0; revision <= target && count < PROBES_MAX; count++) {
      const value = `probe.${count}`;
      const set = life.engine.set(bucketOf(PROBE), keyOf(PROBE), bytesOf(value), { content: CONTENT.text });
      const result = await finish(life.clock, set);
      revision = result.ok ? result.revision : Infinity;
      state = new Map(state).set(PROBE, { value, revision });
      recovery.states.push(state);
      recovery.probedAt.push(disk.trace.length);
    }
    step = "subscribe to";
    // Last, so that a cursor that lay ahead lies among changes which its subscriber has never seen.
    if (cursor !== undefined) recovery.events = await hear(life, cursor, problems);
    else await life.settle();
    step = "close";
    await life.close();
    recovery.closedAt = disk.trace.length;
    checkNames(disk, problems);
    step = "open again";
    // Without compaction by itself, which may begin at once.
    const quiet: Setup = { ...setup, compaction: "whole" };
    await openAgain(disk, quiet, wall, state, keys, problems);
    checkNames(disk, problems);
    if (hashText(fingerprint(disk)) % SCANNED_ONCE_IN !== 0) return recovery;
    step = "open without hints";
    recovery.taken = await openWithoutHints(disk, quiet, wall, state, keys, problems);
  } catch (error) {
    problems.push(`cannot ${step}: ${messageOf(error)}`);
  }
  return recovery;
}

/** Opens what was closed: the same is there, and opening has changed nothing of it. */
async function openAgain(
  disk: SimDisk,
  setup: Setup,
  wall: number,
  state: State,
  keys: Iterable<string>,
  problems: string[],
): Promise<void> {
  const before = fingerprint(disk);
  const life = await Life.open(disk, clockAt(wall, setup), setup);
  if (fingerprint(disk) !== before) problems.push("a second open has changed files");
  const found = await life.observe(problems, keys);
  const reason = differs(found, state, wall, wall);
  if (reason !== undefined) problems.push(`after a second open ${reason}`);
  await life.close();
}

/**
 * Opens a copy of what was closed that has lost its hints: the same is there. Then takes every single-read key and cuts
 * the power: what was handed out is gone. Returns the values that were.
 */
async function openWithoutHints(
  disk: SimDisk,
  setup: Setup,
  wall: number,
  state: State,
  keys: Iterable<string>,
  problems: string[],
): Promise<Map<string, string>> {
  const names = disk.names.filter((name) => !name.includes(".hint"));
  const platter = platterOf(new Map(names.map((name) => [name, disk.bytes(name)])));
  const copy = new SimDisk(platter, { seed: setup.seed });
  const life = await Life.open(copy, clockAt(wall, setup), setup);
  const reason = differs(await life.observe(problems, keys), state, wall, wall);
  if (reason !== undefined) problems.push(`without hints ${reason}`);
  const taken = new Map<string, string>();
  for (const [key, { hidden }] of state) {
    if (hidden === undefined) continue;
    const entry = await finish(life.clock, life.engine.get(bucketOf(key), keyOf(key)));
    if (entry !== undefined) taken.set(key, latinOf(entry.value));
  }
  const base = platter.applied;
  for (const operation of copy.trace) platter.apply(operation, base);
  await life.close();
  if (taken.size === 0) return taken;
  const left = new SimDisk(platter.survive({ data: "none", names: "durable", seed: 1 }), { seed: setup.seed });
  const next = await Life.open(left, clockAt(wall, setup), setup);
  const found = await next.observe(problems);
  for (const key of taken.keys()) if (found.has(key)) problems.push(`${key} is back after it was taken`);
  await next.close();
  return taken;
}

/** What a subscription from `cursor` on has to say. */
async function hear(life: Life, cursor: string, problems: string[]): Promise<EngineEvent[]> {
  const events: EngineEvent[] = [];
  const subscription = life.engine.subscribe({ from: cursor });
  const reading = (async () => {
    for (let some = await subscription.next(); some !== undefined; some = await subscription.next()) {
      events.push(...some);
      if (endsInside(some)) problems.push(`a batch was told in parts, up to ${subscription.cursor}`);
    }
  })();
  await life.settle();
  subscription.close();
  await finish(life.clock, reading);
  return events;
}

/** The bytes of the files that are the store, by name. */
function fingerprint(disk: SimDisk): string {
  const names = disk.names.filter((name) => name === "manifest" || name.endsWith(".segment")).sort();
  return names.map((name) => `${name} ${hashBytes(disk.bytes(name))}`).join(" ");
}

/** Names of files that may stand in the folder of an open store, beside the segments that its manifest names. */
const OTHER_NAMES = /^(manifest|reserve|\d{10}\.hint(\.new)?|\d{10}\.segment\.torn-\d+)$/;

function checkNames(disk: SimDisk, problems: string[]): void {
  if (!disk.names.includes("manifest")) return void problems.push("there is no manifest");
  const [line = ""] = new TextDecoder().decode(disk.bytes("manifest")).split("\n");
  const { segments } = JSON.parse(line) as { segments: number[] };
  const listed = new Set(segments.map((id) => `${String(id).padStart(10, "0")}.segment`));
  for (const name of disk.names) {
    if (!listed.has(name) && !OTHER_NAMES.test(name)) problems.push(`${name} is left over`);
    listed.delete(name);
  }
  for (const name of listed) problems.push(`${name} is missing`);
}

/** What a crash of the recovery may leave: as before until the store is open; from then on what it has shown. */
export function expectAfterRecovery(
  recovery: Recovery,
  before: Expectation,
  setup: Setup,
  powerWasCut: boolean,
  first: Expect,
  point: number,
): Expect {
  return (at, data) => {
    if (at < recovery.openedAt) {
      // What a power cut has left is on the platter: the next one takes nothing of it.
      const { least } = powerWasCut ? before : first(point, data);
      return { ...before, least, cursor: undefined };
    }
    const acked = recovery.probedAt.filter((probed) => probed <= at).length;
    const issued = recovery.probedAt.findLastIndex((probed) => probed <= at) + 2;
    const durable = setup.policy === "always" || data === "process" || at >= recovery.closedAt;
    return {
      ...before,
      states: recovery.states,
      times: undefined,
      least: durable ? acked : 0,
      most: Math.min(issued, recovery.states.length - 1),
      cursor: undefined,
      changes: undefined,
    };
  };
}

// --- judgement ---

/** Why what was found is not what may be found, if so. */
export function judge(recovery: Recovery, expectation: Expectation): string[] {
  const problems = [...recovery.problems];
  if (recovery.found === undefined) return problems;
  const { states, times, least, most, wall, wallMax, changes } = expectation;
  const reasons: string[] = [];
  // Several may look the same: after a deadline nobody sees whether the key's end was written.
  for (let index = most; index >= least; index--) {
    // A part of a batch is none.
    if (changes?.[index - 1]?.more === true) continue;
    const now = Math.max(wall, times?.[index] ?? 0);
    if (differs(recovery.found, states[index]!, now, wallMax) !== undefined) continue;
    const reason = judgeTaken(recovery, states[index]!) ?? judgeEvents(recovery, index, expectation);
    if (reason === undefined) return problems;
    reasons.push(reason);
  }
  const nearest = differs(recovery.found, states[least]!, wall, wallMax);
  problems.push(reasons[0] ?? `no allowed state of ${least}..${most}: after ${least} changes ${nearest}`);
  return problems;
}

/** What takers got is what was written. */
function judgeTaken({ taken }: Recovery, state: State): string | undefined {
  for (const [key, value] of taken) {
    const hidden = state.get(key)?.hidden;
    if (hidden !== "" && hidden !== value) return `${key} was taken as ${value}, not ${hidden}`;
  }
  return undefined;
}

/** Events from a cursor on: every change since, in order, less those that compaction found covered; or `resync`. */
function judgeEvents(recovery: Recovery, index: number, expectation: Expectation): string | undefined {
  const reason = missedBy(recovery, index, expectation);
  return reason === undefined ? undefined : `the subscription from ${expectation.cursor} ${reason}`;
}

function missedBy({ events, found, probedAt }: Recovery, index: number, expectation: Expectation): string | undefined {
  if (events === undefined || expectation.cursor === undefined) return undefined;
  if (events.some(({ type }) => type === "resync")) return undefined;
  const from = Number(expectation.cursor.split(".")[1]);
  const changes = expectation.changes!.slice(0, index).filter(({ revision }) => revision > from);
  const told = events.filter((event): event is ChangeEvent => !("cursor" in event));
  const probes = told.filter((event) => nameOf(event) === PROBE);
  if (probes.length < probedAt.length) return "was not told of a new change";
  let last = from;
  for (const event of told) {
    if (event.revision <= last) return `was told of revision ${event.revision} after ${last}`;
    last = event.revision;
    if (event.once === true && event.value !== undefined) return `was told the value of ${nameOf(event)}`;
    if (nameOf(event) === PROBE) continue;
    const change = changes.find(({ revision }) => revision === event.revision);
    const item = expectation.states[index]!.get(nameOf(event));
    // A key that is due is ended by the new life.
    const ends = event.type === "expire" && change === undefined &&
      (item?.expiresAt ?? Infinity) <= expectation.wallMax;
    if (!ends && change?.type !== event.type) return `was told of ${event.type} ${nameOf(event)}, which never was`;
  }
  const revisions = new Set(told.map(({ revision }) => revision));
  for (const [place, change] of changes.entries()) {
    if (revisions.has(change.revision)) continue;
    const covered = changes.slice(place + 1).some(({ key }) => key === change.key);
    if (!covered && found!.has(change.key)) return `was not told of change ${change.revision} of ${change.key}`;
    if (!covered && change.type !== "set") return `was not told of the end of ${change.key}`;
  }
  return undefined;
}

function nameOf(event: ChangeEvent): string {
  return `${event.bucket}/${new TextDecoder().decode(event.key)}`;
}

/**
 * Why a key is not as it may be after a run with faults: the last promised change of it, any later one, or any that
 * was refused, since nobody can say what a crash makes of those. After the death of the process alone a write that was
 * refused for want of space did not happen.
 */
export function judgeKeys(
  recovery: Recovery,
  history: History,
  expectation: Expectation,
  data: Survivors["data"],
): string[] {
  const problems = [...recovery.problems];
  const { found } = recovery;
  if (found === undefined) return problems;
  const { states, least, wall, wallMax } = expectation;
  const poisoned = history.failures.some(({ code }) => code === "DURABILITY");
  for (const key of new Set([...found.keys(), ...history.changes.map((change) => change.key)])) {
    const allowed: (Item | undefined)[] = states.slice(least).map((state) => state.get(key));
    for (const failure of history.failures) {
      if (failure.key !== key || failure.code === "CLOSED") continue;
      if (data === "process" && !poisoned) continue;
      for (const before of states) allowed.push(failure.effect(before.get(key), 0, undefined));
    }
    const item = found.get(key);
    const dueMay = allowed.some((other) => (other?.expiresAt ?? Infinity) <= wallMax);
    if (
      item === undefined ? dueMay || allowed.includes(undefined) : allowed.some((other) => other?.value === item.value)
    ) {
      if (item === undefined || (item.expiresAt ?? Infinity) > wall) continue;
    }
    problems.push(`${key} is ${show(item)}, not one of ${allowed.map(show).join(", ")}`);
  }
  return problems;
}
