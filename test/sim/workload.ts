/**
 * What is done to a store, and what was seen while it was done.
 *
 * A workload is a text: steps apart by spaces, each a call or several. `set:a+delete:b` are asked in one tick,
 * `set:a~compact` one after the other without waiting for the first. Behind `@` stands the setup:
 * `set:a tick compact@always-192-small-1` is policy, segment limit, sizes of compaction, and seed. One call more is one
 * row more of {@link CALLS}.
 *
 * A run records, against the disk's trace, when each change was asked for, when it was acknowledged, and what was
 * promised of it: the {@link History}, which `oracle.ts` judges crashes by. Time is a clock that stands still; nothing
 * depends on the runtime; a workload that begins with another's steps begins with the other's trace.
 *
 * @module
 */
import type { ManualClock } from "../../lib/base/clock.ts";
import { addToValue, CONTENT } from "../../lib/base/codec.ts";
import { FirkinError, messageOf } from "../../lib/base/errors.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type {
  ChangeEvent,
  EngineEvent,
  EngineSubscription,
  Entry,
  Operation,
  SetOptions,
} from "../../lib/engine/engine.ts";
import { type Fault, SimDisk } from "./disk.ts";
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
  settle,
  type Setup,
  setupOf,
  show,
  type State,
  textOf,
  TICK_MS,
} from "./life.ts";

/** A deadline that comes within one tick, and one that does not. */
const TTL_MS = 700;
const TOUCH_MS = 1_500;
const BIG_BYTES = 90;
const FIRST_WALL_MS = 1_700_000_000_000;

/** A deadline that no event has told. */
const UNTOLD = -1;

// --- history ---

/** A change that happened, as its caller knows it; expiries as the subscription told them. */
export interface Change {
  readonly revision: number;
  readonly key: string;
  readonly type: ChangeEvent["type"];
  /** What the key is afterwards, by what it was. */
  readonly effect: Effect;
  /** Operations of the trace that had ended when it was asked for, and when it was acknowledged. */
  readonly issuedAt: number;
  readonly ackedAt: number;
  /** The next change is of the same batch: there is no store with this one and without that. */
  readonly more: boolean;
}

/** What a change makes of a key. */
type Effect = (before: Item | undefined, revision: number, expiresAt: number | undefined) => Item | undefined;

/** One change of several that are asked for as one. */
type Part = Pick<Change, "key" | "type" | "effect">;

/** A change that was refused. */
export interface Failure {
  readonly key: string;
  readonly effect: Effect;
  readonly code: string;
  readonly issuedAt: number;
}

/** Where a subscriber was when the trace had so many operations. */
export interface Sighting {
  readonly at: number;
  readonly cursor: string;
}

/** What a run was told. */
export interface History {
  readonly setup: Setup;
  readonly disk: SimDisk;
  /** In order of revision. */
  readonly changes: readonly Change[];
  /** `states[n]` is the store after the first `n` changes, `times[n]` the latest time that one of those says. */
  readonly states: readonly State[];
  readonly times: readonly number[];
  readonly failures: readonly Failure[];
  /** From when on (operations of the trace) how many changes are promised to outlive a power cut. */
  readonly promises: readonly { readonly at: number; readonly count: number }[];
  readonly sightings: readonly Sighting[];
  /** The wall clock, from when on, and the latest time that the store may be at: it goes on when that is set back. */
  readonly walls: readonly { readonly at: number; readonly wall: number; readonly latest: number }[];
  /** Where each step begins in the trace; the last number is its end. */
  readonly steps: readonly number[];
  /** The subscription had to start again: what happened meanwhile is not known. */
  readonly missed: boolean;
  /** What went wrong while the store ran. */
  readonly problems: readonly string[];
}

/** A workload's steps, each of groups that follow one another without waiting, each of calls of one tick. */
type Steps = readonly (readonly (readonly string[])[])[];

function parse(text: string): Steps {
  return text.split(" ").filter((step) => step !== "").map((step) => step.split("~").map((group) => group.split("+")));
}

/** Runs a workload, `calls@setup`, from an empty folder. */
export async function runWorkload(workload: string, fault?: Fault): Promise<History> {
  const [calls = "", setup = ""] = workload.split("@");
  const run = new Run(setupOf(setup), fault);
  await run.open();
  for (const step of parse(calls)) await run.step(step);
  return run.history();
}

/** A run under way. */
class Run {
  readonly setup: Setup;
  readonly clock: ManualClock;
  readonly disk: SimDisk;
  life: Life | undefined;
  readonly #changes: Change[] = [];
  readonly #failures: Failure[] = [];
  readonly #events = new Map<number, ChangeEvent>();
  /** Takes that handed out an entry. */
  readonly #taken: { readonly change: Change; readonly entry: Entry }[] = [];
  readonly #promises: { at: number; count: number }[] = [];
  readonly #sightings: Sighting[] = [];
  readonly #walls: { at: number; wall: number; latest: number }[] = [];
  readonly #steps: number[] = [];
  readonly #problems: string[] = [];
  readonly #seen: { count: number; state: State; wall: number; latest: number; step: number }[] = [];
  /** The store's time is not before the one, which its records say, and not after the other. */
  #earliest = FIRST_WALL_MS;
  #latest = FIRST_WALL_MS;
  readonly #fault: Fault | undefined;
  #subscription: EngineSubscription | undefined;
  #cursor: string | undefined;
  #told = 0;
  #missed = false;
  #calls = 0;

  constructor(setup: Setup, fault: Fault | undefined) {
    this.setup = setup;
    this.clock = clockAt(FIRST_WALL_MS, setup);
    this.#fault = fault;
    this.disk = new SimDisk(undefined, { seed: setup.seed, syncTurnsMax: 1 + setup.seed % 4, fault });
    this.passTime(0);
  }

  get position(): number {
    return this.disk.trace.length;
  }

  /** The clock has moved on, or (0) was set. */
  passTime(milliseconds: number): void {
    this.#earliest += milliseconds;
    this.#latest += milliseconds;
    this.#walls.push({ at: this.position, wall: this.clock.wall(), latest: this.#latest });
  }

  /** The value of a call, like no other's. */
  value(key: string, bytes = 0): Uint8Array {
    return bytesOf(`${key}.${this.#calls}`.padEnd(bytes, "."));
  }

  async open(): Promise<void> {
    try {
      this.life = await Life.open(this.disk, this.clock, this.setup);
    } catch (error) {
      return this.#refused("open", error);
    }
    this.#earliest = Math.max(this.clock.wall(), ...[...this.#events.values()].map(({ at }) => at));
    const { life } = this;
    const subscription = life.engine.subscribe(this.#cursor === undefined ? {} : { from: this.#cursor });
    this.#subscription = subscription;
    this.#listen(subscription).catch((error: unknown) => {
      this.#missed = true;
      this.#refused("the subscription", error);
    });
    await life.settle();
  }

  async close(): Promise<void> {
    const { life } = this;
    if (life === undefined) return;
    this.life = undefined;
    const count = this.#changes.length;
    try {
      await life.close();
      if (!life.isPoisoned()) this.promise(count);
    } catch (error) {
      this.#refused("close", error);
    }
    this.#cursor = this.#subscription?.cursor;
    await settle(this.clock);
    if (this.disk.locked) this.#problem("the folder is locked after the close");
  }

  /** The first `count` changes are on stable storage. */
  promise(count: number): void {
    if (this.setup.policy !== "always") this.#promises.push({ at: this.position, count });
  }

  /** Changes that are acknowledged. */
  get count(): number {
    return this.#changes.length;
  }

  async step(step: Steps[number]): Promise<void> {
    this.#steps.push(this.position);
    if (this.life === undefined) await this.open();
    const pending: Promise<void>[] = [];
    for (const [index, group] of step.entries()) {
      if (index > 0) { for (let turn = 0; turn < 3; turn++) await Promise.resolve(); }
      for (const call of group) {
        this.#calls++;
        const [name = "", key = ""] = call.split(":");
        const made = CALLS[name];
        if (made === undefined) throw new Error(`There is no call ${name}`);
        pending.push(made(this, key));
      }
    }
    await finish(this.clock, Promise.all(pending));
    await settle(this.clock);
    await this.attempt("read", async () => {
      const state = await this.life!.observe(this.#problems, this.#changes.map(({ key }) => key));
      const { length: count } = this.#changes;
      this.#seen.push({ count, state, wall: this.#earliest, latest: this.#latest, step: this.#steps.length });
    });
  }

  /** A write: what it makes of the key when it is acknowledged. */
  write(
    key: string,
    type: Change["type"],
    ask: (engine: EmbeddedEngine) => Promise<{ readonly ok?: boolean; readonly revision?: number }>,
    effect: Effect,
  ): Promise<void> {
    return this.batch([{ key, type, effect }], ask);
  }

  /** Writes that happen all or not at all; the revision is the last one's. */
  async batch(
    parts: readonly Part[],
    ask: (engine: EmbeddedEngine) => Promise<{ readonly ok?: boolean; readonly revision?: number }>,
  ): Promise<void> {
    if (this.life === undefined) return;
    const issuedAt = this.position;
    try {
      const { revision } = await ask(this.life.engine);
      if (revision === undefined) return;
      for (const [index, part] of parts.entries()) {
        const behind = parts.length - 1 - index;
        this.#changes.push({
          ...part,
          revision: revision - behind,
          issuedAt,
          ackedAt: this.position,
          more: behind > 0,
        });
      }
    } catch (error) {
      for (const { key, effect } of parts) this.#failures.push({ key, effect, code: codeOf(error), issuedAt });
      this.#refused(parts.map(({ key, type }) => `${type} ${key}`).join(", "), error);
    }
  }

  /** A take: nobody says its revision but the event of it. */
  async take(key: string): Promise<void> {
    if (this.life === undefined) return;
    const issuedAt = this.position;
    const effect: Effect = () => undefined;
    try {
      const entry = await this.life.engine.take(bucketOf(key), keyOf(key));
      if (entry === undefined) return;
      // Until the event is looked at: right behind the write that it ended.
      const revision = entry.revision + 0.5;
      const change: Change = { revision, key, type: "take", effect, issuedAt, ackedAt: this.position, more: false };
      this.#changes.push(change);
      this.#taken.push({ change, entry });
    } catch (error) {
      this.#failures.push({ key, effect, code: codeOf(error), issuedAt });
      this.#refused(`take ${key}`, error);
    }
  }

  /** Something that may be refused only for a fault. */
  async attempt(name: string, ask: (engine: EmbeddedEngine) => Promise<void>): Promise<boolean> {
    if (this.life === undefined) return false;
    try {
      await ask(this.life.engine);
      return true;
    } catch (error) {
      this.#refused(name, error);
      return false;
    }
  }

  async #listen(subscription: EngineSubscription): Promise<void> {
    for (let events = await subscription.next(); events !== undefined; events = await subscription.next()) {
      for (const event of events) this.#hear(event);
      if (endsInside(events)) this.#problem(`a batch was told in parts, up to ${subscription.cursor}`);
      this.#sightings.push({ at: this.position, cursor: subscription.cursor });
    }
  }

  #hear(event: EngineEvent): void {
    if ("cursor" in event) {
      if (event.type === "resync") this.#missed = true;
      return;
    }
    if (event.revision <= this.#told) this.#problem(`event ${event.revision} came after event ${this.#told}`);
    this.#told = event.revision;
    this.#events.set(event.revision, event);
    if (event.type !== "expire") return;
    const key = `${event.bucket}/${textOf(event.key)}`;
    const { revision } = event;
    const issuedAt = this.#steps[this.#steps.length - 1] ?? 0;
    const ackedAt = this.position;
    this.#changes.push({ revision, key, type: "expire", effect: () => undefined, issuedAt, ackedAt, more: false });
  }

  #refused(action: string, error: unknown): void {
    if (this.#fault === undefined) this.#problem(`${action} failed: ${messageOf(error)}`);
    else if (!(error instanceof FirkinError)) this.#problem(`${action} failed without a code: ${messageOf(error)}`);
    else if (error.code === "LOCKED") this.#problem(`${action} failed: ${messageOf(error)}`);
  }

  #problem(text: string): void {
    this.#problems.push(text);
  }

  history(): History {
    this.#steps.push(this.position);
    const taken = new Map(this.#taken.map(({ change, entry }) => [change, this.#revisionOfTake(change, entry)]));
    const changes = this.#changes.map((change) => ({ ...change, revision: taken.get(change) ?? change.revision }))
      .sort((one, other) => one.revision - other.revision);
    const states = statesOf(changes, this.#events);
    // That a key is taken is on stable storage before its value is handed out, whatever the policy.
    const promises = [...this.#promises];
    for (const [{ key, ackedAt }, revision] of taken) {
      promises.push({ at: ackedAt, count: placeOf(changes, key, revision) + 1 });
    }
    this.#checkTakes(taken, changes, states);
    if (!this.#missed && this.#fault === undefined) this.#checkEvents(changes, states);
    for (const { count, state, wall, latest, step } of this.#seen) {
      // What became of a write that failed with its sync shows at the next open.
      if (this.#failures.some(({ code }) => code === "DURABILITY")) break;
      // What was acknowledged later has later revisions.
      const expected = states[count]!;
      const reason = differs(state, expected, wall, latest);
      if (reason !== undefined) this.#problem(`after step ${step}: ${reason}`);
    }
    return {
      setup: this.setup,
      disk: this.disk,
      changes,
      states,
      times: timesOf(changes, this.#events),
      failures: this.#failures,
      promises,
      sightings: this.#sightings,
      walls: this.#walls,
      steps: this.#steps,
      missed: this.#missed,
      problems: this.#problems,
    };
  }

  /** The revision of a take by the event that told it; without one it stays behind the write that it ended. */
  #revisionOfTake(change: Change, { revision: from }: Entry): number {
    const { key } = change;
    for (const { type, bucket, key: bytes, revision } of this.#events.values()) {
      if (type === "take" && revision > from && `${bucket}/${textOf(bytes)}` === key) return revision;
    }
    return change.revision;
  }

  /** What takers were handed is what was written, and nobody got it twice. */
  #checkTakes(taken: ReadonlyMap<Change, number>, changes: readonly Change[], states: readonly State[]): void {
    const handedOut = new Set<string>();
    for (const { change: { key }, entry } of this.#taken) {
      const name = `${key} ${entry.revision} ${latinOf(entry.value)}`;
      if (handedOut.has(name)) this.#problem(`${key} was taken twice`);
      handedOut.add(name);
    }
    // After a fault, what was refused may have been there to take.
    if (this.#fault !== undefined) return;
    for (const { change, entry } of this.#taken) {
      const { key } = change;
      const item = states[placeOf(changes, key, taken.get(change)!)]!.get(key);
      if (item?.revision === entry.revision && (item.hidden ?? item.value) === latinOf(entry.value)) continue;
      this.#problem(`${key} was taken as ${latinOf(entry.value)} (revision ${entry.revision}), not ${show(item)}`);
    }
  }

  /** Each change was told once, as it was. */
  #checkEvents(changes: readonly Change[], states: readonly State[]): void {
    // What was written just before a close may be told by the next life only.
    const told = changes.filter(({ revision }) => revision <= this.#told);
    if (told.length !== this.#events.size) {
      this.#problem(`there were ${told.length} changes and ${this.#events.size} events`);
    }
    for (const [index, { revision, key, type }] of told.entries()) {
      const event = this.#events.get(revision);
      const item = states[index + 1]!.get(key);
      if (event?.type !== type || (type === "set" && !isTold(event, item))) {
        this.#problem(`change ${revision} of ${key}, ${show(item)}, was told as ${event?.type ?? "nothing"}`);
      }
    }
  }
}

/** How many changes come before one. */
function placeOf(changes: readonly Change[], key: string, revision: number): number {
  return changes.findIndex((change) => change.key === key && change.revision === revision);
}

/** True when an event says what a set has made of its key; of a single-read key it has no value. */
function isTold({ value, once }: ChangeEvent, item: Item | undefined): boolean {
  const isOnce = item?.hidden !== undefined;
  return (once === true) === isOnce && (isOnce ? value === undefined : latinOf(value!) === item?.value);
}

/** True when the last of some events belongs with the next, which is not among them. */
export function endsInside(events: readonly EngineEvent[]): boolean {
  const last = events[events.length - 1];
  return last !== undefined && "more" in last;
}

function timesOf(changes: readonly Change[], events: ReadonlyMap<number, ChangeEvent>): number[] {
  const times = [0];
  for (const { revision } of changes) times.push(Math.max(times[times.length - 1]!, events.get(revision)?.at ?? 0));
  return times;
}

function statesOf(changes: readonly Change[], events: ReadonlyMap<number, ChangeEvent>): State[] {
  const states: State[] = [new Map()];
  for (const { key, revision, effect } of changes) {
    const state = new Map(states[states.length - 1]);
    const item = effect(state.get(key), revision, events.get(revision)?.expiresAt);
    if (item === undefined) state.delete(key);
    else state.set(key, item);
    states.push(state);
  }
  return states;
}

// --- calls ---

/** What a workload can do, by name. A key without a bucket is one of bucket b. */
const CALLS: Readonly<Record<string, (run: Run, key: string) => Promise<void>>> = {
  set: (run, key) => set(run, `b/${key}`, run.value(key)),
  // In another bucket, whose first key switches the manifest.
  other: (run, key) => set(run, `c/${key}`, run.value(key)),
  // Fills a segment.
  big: (run, key) => set(run, `b/${key}`, run.value(key, BIG_BYTES)),
  ttl: (run, key) => set(run, `b/${key}`, run.value(key), { deadline: { ttl: TTL_MS } }),
  delete: (run, key) => run.write(`b/${key}`, "delete", (engine) => engine.delete("b", bytesOf(key)), () => undefined),
  touch: (run, key) =>
    run.write(
      `b/${key}`,
      "set",
      (engine) => engine.touch("b", bytesOf(key), { ttl: TOUCH_MS }),
      (before, revision, expiresAt = UNTOLD) => ({ value: "missing", ...before, revision, expiresAt }),
    ),
  add: (run, key) => run.write(`b/${key}`, "set", (engine) => engine.increment("b", bytesOf(key), 1), added),
  batch: (run, key) => batch(run, `b/${key}`, "b/b", "b/k"),
  // A single-read key: only who takes it sees its value.
  once: (run, key) => set(run, `b/${key}`, run.value(key), { once: true }),
  take: (run, key) => run.take(`b/${key}`),
  compact: async (run) => void await run.attempt("compact", (engine) => engine.compact()),
  sync: async (run) => {
    const { count } = run;
    if (await run.attempt("sync", (engine) => engine.sync())) run.promise(count);
  },
  reopen: async (run) => {
    await run.close();
    await run.open();
  },
  tick: async (run) => {
    const { count } = run;
    run.clock.advance(TICK_MS);
    run.passTime(TICK_MS);
    if (run.setup.policy !== "interval" || run.life === undefined) return;
    // The timer's sync is under way; what comes after it is not waited for by anyone.
    await settle(run.clock);
    if (!run.life?.isPoisoned()) run.promise(count);
  },
  // The system's clock is set back: nothing happens before the next open.
  // deno-lint-ignore require-await -- the clock moves at once
  back: async (run) => {
    run.clock.stepWall(-5 * TICK_MS);
    run.passTime(0);
  },
};

function set(run: Run, key: string, value: Uint8Array, options: Partial<SetOptions> = {}): Promise<void> {
  return run.write(
    key,
    "set",
    (engine) => engine.set(bucketOf(key), keyOf(key), value, { content: CONTENT.text, ...options }),
    setEffect(value, options),
  );
}

function setEffect(value: Uint8Array, { deadline, once }: Partial<SetOptions> = {}): Effect {
  return (_, revision, expiresAt) => ({
    value: once === true ? "" : latinOf(value),
    revision,
    expiresAt: deadline === undefined ? undefined : expiresAt ?? UNTOLD,
    hidden: once === true ? latinOf(value) : undefined,
  });
}

/** Sets two keys and deletes a third, all or nothing; the third is set just before, so that it is there to delete. */
async function batch(run: Run, first: string, second: string, gone: string): Promise<void> {
  const parts: Part[] = [];
  const operations: Operation[] = [];
  for (const key of [first, second]) {
    const value = run.value(key);
    parts.push({ key, type: "set", effect: setEffect(value) });
    operations.push({ type: "set", bucket: bucketOf(key), key: keyOf(key), value, content: CONTENT.text });
  }
  parts.push({ key: gone, type: "delete", effect: () => undefined });
  operations.push({ type: "delete", bucket: bucketOf(gone), key: keyOf(gone) });
  await Promise.all([
    set(run, gone, run.value(gone)),
    run.batch(parts, (engine) => engine.atomic(operations)),
  ]);
}

function added(before: Item | undefined, revision: number): Item {
  const bytes = before === undefined ? undefined : Uint8Array.from(before.value, (letter) => letter.charCodeAt(0));
  return {
    value: latinOf(addToValue(bytes, CONTENT.cbor, 1).bytes),
    revision,
    expiresAt: before?.expiresAt,
  };
}

function codeOf(error: unknown): string {
  return error instanceof FirkinError ? error.code : "none";
}
