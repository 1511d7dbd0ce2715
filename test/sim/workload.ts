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
import type { ChangeEvent, EngineEvent, EngineSubscription } from "../../lib/engine/engine.ts";
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
}

/** What a change makes of a key. */
type Effect = (before: Item | undefined, revision: number, expiresAt: number | undefined) => Item | undefined;

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
  async write(
    key: string,
    type: Change["type"],
    ask: (engine: EmbeddedEngine) => Promise<{ readonly ok?: boolean; readonly revision?: number }>,
    effect: Effect,
  ): Promise<void> {
    if (this.life === undefined) return;
    const issuedAt = this.position;
    try {
      const { revision } = await ask(this.life.engine);
      if (revision === undefined) return;
      this.#changes.push({ revision, key, type, effect, issuedAt, ackedAt: this.position });
    } catch (error) {
      this.#failures.push({ key, effect, code: codeOf(error), issuedAt });
      this.#refused(`${type} ${key}`, error);
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
    this.#changes.push({ revision, key, type: "expire", effect: () => undefined, issuedAt, ackedAt: this.position });
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
    const changes = [...this.#changes].sort((one, other) => one.revision - other.revision);
    const states = statesOf(changes, this.#events);
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
      promises: this.#promises,
      sightings: this.#sightings,
      walls: this.#walls,
      steps: this.#steps,
      missed: this.#missed,
      problems: this.#problems,
    };
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
      if (event?.type !== type || (type === "set" && latinOf(event.value!) !== item?.value)) {
        this.#problem(`change ${revision} of ${key}, ${show(item)}, was told as ${event?.type ?? "nothing"}`);
      }
    }
  }
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
  ttl: (run, key) => set(run, `b/${key}`, run.value(key), TTL_MS),
  delete: (run, key) => run.write(`b/${key}`, "delete", (engine) => engine.delete("b", bytesOf(key)), () => undefined),
  touch: (run, key) =>
    run.write(
      `b/${key}`,
      "set",
      (engine) => engine.touch("b", bytesOf(key), { ttl: TOUCH_MS }),
      (before, revision, expiresAt = UNTOLD) => ({ value: before?.value ?? "missing", revision, expiresAt }),
    ),
  add: (run, key) => run.write(`b/${key}`, "set", (engine) => engine.increment("b", bytesOf(key), 1), added),
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

function set(run: Run, key: string, value: Uint8Array, ttl?: number): Promise<void> {
  const options = { content: CONTENT.text, ...(ttl === undefined ? {} : { deadline: { ttl } }) };
  return run.write(
    key,
    "set",
    (engine) => engine.set(bucketOf(key), keyOf(key), value, options),
    (_, revision, expiresAt) => ({
      value: latinOf(value),
      revision,
      expiresAt: ttl === undefined ? undefined : expiresAt ?? UNTOLD,
    }),
  );
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
