/**
 * What a trial of a store against its model may consist of.
 *
 * A command is a function of plain arguments, and prints as its own call: what fast-check prints of a failure can be
 * pasted into the examples of `model.test.ts`. To add one, write the function and give it a weight in `anyCommand`; to
 * add a write that also stands in bursts and before crashes, add it to `WRITES`.
 *
 * @module
 */
import fc from "fast-check";
import { FirkinError } from "../../lib/base/errors.ts";
import type { Lock } from "../../lib/fs/fs.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import type { AtomicResult } from "../../lib/store/atomic.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import {
  apply,
  type Asked,
  type Change,
  type Known,
  type Model,
  must,
  type Place,
  placeName,
  PLACES,
  shownValue,
  valuesOf,
} from "./model.ts";
import { type Setup, SYNC_INTERVAL_MS, type Trial } from "./trial.ts";

/** One step of a trial. */
export type Command = fc.AsyncCommand<Model, Trial>;

/** A write of one key, as it is drawn: kind, place, and a number that means a size, a time or nothing. */
type Single = readonly [kind: keyof typeof WRITES, place: number, number: number];

/** An operation of a batch. `holds` checks for the right revision, `fails` for another. */
type Part = readonly [kind: "set" | "expiring" | "once" | "remove" | "holds" | "fails", place: number, number: number];

/** A write, as it is drawn. */
export type Write = Single | readonly [kind: "atomic", ...parts: Part[]];

function command(name: string, given: readonly unknown[], run: Command["run"], needsCrash = false): Command {
  return {
    check: (model) => model.crashes || !needsCrash,
    run,
    toString: () => `${name}(${given.map((one) => JSON.stringify(one)).join(", ")})`,
  };
}

// --- writes ---

/** Some more than the 256 KiB at which dead bytes are looked at. */
const CHURN_SETS = 5;
const CHURN_BYTES = 60_000;

/** What a write comes to, and what it answers. */
interface Request {
  /** Undefined when the write must find nothing to change. */
  readonly change: Asked | undefined;
  readonly answer: Promise<{ readonly ok: boolean; readonly revision?: number }>;
  /** The answer says that no crash takes it any more. */
  readonly sure?: boolean;
}

/** Where a write goes. */
interface Target {
  readonly model: Model;
  readonly bucket: Bucket<string | number>;
  readonly place: number;
  readonly name: string;
  /** What the key is before the write, those that wait counted. */
  readonly known: Known | undefined;
  /** What it is when those are not counted. */
  readonly visible: Known | undefined;
  readonly now: number;
}

function knownOf(value: string | number, expiresAt?: number, once = false): Known {
  return { value, expiresAt, once, revision: 0 };
}

/** The model is changed and the store is asked in one turn, so that both see the same order. */
const WRITES = {
  set({ model, bucket, place, name }: Target, bytes: number): Request {
    const value = model.newValue(place, bytes);
    const change = model.change({ name, after: knownOf(value) });
    return { change, answer: bucket.set(PLACES[place]!.key, value) };
  },
  many({ model, bucket, place, name }: Target, bytes: number): Request {
    const value = model.newValue(place, bytes);
    const change = model.change({ name, after: knownOf(value) });
    const written = bucket.setMany([[PLACES[place]!.key, value]]);
    return { change, answer: written.then((count) => ({ ok: count === 1 })) };
  },
  once({ model, bucket, place, name }: Target, bytes: number): Request {
    const value = model.newValue(place, bytes);
    const change = model.change({ name, after: knownOf(value, undefined, true) });
    return { change, answer: bucket.set(PLACES[place]!.key, value, { once: true }) };
  },
  expiring({ model, bucket, place, name, now }: Target, ttl: number): Request {
    const value = model.newValue(place, ttl);
    const change = model.change({ name, after: knownOf(value, now + ttl) });
    return { change, answer: bucket.set(PLACES[place]!.key, value, { ttl }) };
  },
  remove({ model, bucket, place, name, known }: Target): Request {
    const change = known && model.change({ name, after: "delete" });
    return { change, answer: bucket.delete(PLACES[place]!.key) };
  },
  take({ model, bucket, place, name, known }: Target): Request {
    const change = known && model.change({ name, after: "take" });
    return { change, answer: delivered(name, bucket.take(PLACES[place]!.key), known), sure: true };
  },
  /** A key that is single-read is taken, if it still is when its turn comes. */
  get({ model, bucket, place, name, known, visible }: Target): Request {
    const taken = visible?.once === true && known?.once === true;
    const change = taken ? model.change({ name, after: "take" }) : undefined;
    const read = visible?.once === true ? known : visible;
    const answer = delivered(name, bucket.get(PLACES[place]!.key), read);
    return { change, answer: answer.then(() => ({ ok: taken })), sure: true };
  },
  touch({ model, bucket, place, name, known, now }: Target, ttl: number): Request {
    const change = known && model.change({ name, after: { ...known, expiresAt: now + ttl, revision: 0 } });
    return { change, answer: bucket.touch(PLACES[place]!.key, ttl) };
  },
  persist({ model, bucket, place, name, known }: Target): Request {
    const change = known && model.change({ name, after: { ...known, expiresAt: undefined, revision: 0 } });
    return { change, answer: bucket.persist(PLACES[place]!.key) };
  },
  increment(target: Target, by: number): Request {
    const { model, bucket, place, name, known } = target;
    if (PLACES[place]!.bucket !== "numbers") return WRITES.set(target, by);
    const answer = bucket.increment(PLACES[place]!.key, by);
    if (known?.once === true) return { change: undefined, answer: refused(answer) };
    const value = Number(known?.value ?? 0) + by;
    const change = model.change({ name, after: knownOf(value, known?.expiresAt) });
    const summed = answer.then((sum) => {
      must(sum === value, () => `${name} was incremented to ${sum}, not ${value}`);
      return { ok: true };
    });
    return { change, answer: summed };
  },
};

/** A value was read, or not, as it should be. */
async function delivered(name: string, reading: Promise<unknown>, known: Known | undefined): Promise<{ ok: boolean }> {
  const value = await reading;
  const right = known === undefined ? value === undefined : valuesOf(known).some((one) => one === value);
  must(right, () => `${name} was read as ${String(value).slice(0, 12)}, not ${String(known?.value).slice(0, 12)}`);
  return { ok: known !== undefined };
}

/** A single-read key has no sum. */
async function refused(answer: Promise<number>): Promise<{ ok: boolean }> {
  const error: unknown = await answer.catch((error: unknown) => error);
  if (!(error instanceof FirkinError) || error.code !== "INVALID") {
    throw new Error("A single-read key was incremented", { cause: error });
  }
  return { ok: false };
}

// --- batches ---

function bucketOf(trial: Trial, { bucket }: Place): Bucket<string | number> {
  return trial.store.bucket<string | number>(bucket, { codec: bucket === "texts" ? "text" : "cbor" });
}

/** A batch, judged by what waits too. */
function atomic(model: Model, trial: Trial, parts: readonly Part[]): Request {
  const batch = trial.store.atomic();
  const changes = new Map<string, Change>();
  let failing: { readonly index: number; readonly known: Known | undefined } | undefined;
  let index = 0;
  for (const [kind, place, number] of parts) {
    const name = placeName(place);
    const { key } = PLACES[place]!;
    const bucket = bucketOf(trial, PLACES[place]!);
    const known = model.known(name);
    if (kind === "holds" || kind === "fails") {
      // A revision that is on its way nobody knows.
      if (kind === "holds" && known?.revision === 0) continue;
      if (kind === "fails") failing ??= { index, known };
      batch.check(bucket, key, kind === "holds" ? known?.revision ?? 0 : known === undefined ? 1 : 0);
    } else {
      // Of several writes to one key the last counts.
      changes.delete(name);
      if (kind === "remove") {
        batch.delete(bucket, key);
        if (known !== undefined) changes.set(name, { name, after: "delete" });
      } else {
        const value = model.newValue(place, number);
        const expiresAt = kind === "expiring" ? trial.clock.wall() + number : undefined;
        batch.set(bucket, key, value, { once: kind === "once", ...(expiresAt === undefined ? {} : { expiresAt }) });
        changes.set(name, { name, after: knownOf(value, expiresAt, kind === "once") });
      }
    }
    index++;
  }
  const change = failing === undefined && changes.size > 0 ? model.change(...changes.values()) : undefined;
  return { change, answer: batch.commit().then((result) => judged(result, failing, change)) };
}

function judged(
  result: AtomicResult,
  failing: { readonly index: number; readonly known: Known | undefined } | undefined,
  change: Asked | undefined,
): { ok: boolean; revision?: number } {
  must(result.ok === (failing === undefined), () => `A batch was ${result.ok ? "taken" : "refused"}`);
  if (result.ok) return change === undefined ? { ok: false } : result;
  const { index, current } = result;
  must(index === failing?.index, () => `Check ${index} did not hold, and not ${failing?.index}`);
  const shown = failing?.known && shownValue(failing.known);
  must(
    current?.value === shown && (current === undefined) === (failing?.known === undefined),
    "It shows another entry",
  );
  return { ok: false };
}

/** Writes that were asked for in one turn. */
interface Burst {
  finished: Promise<void>;
  /** Their changes, in order. */
  readonly changes: Asked[];
  /** The process is dead: what it still says nobody hears. */
  over: boolean;
  /** What went wrong while it lived. */
  failure: unknown;
}

function ask(model: Model, trial: Trial, writes: readonly Write[]): Burst {
  const burst: Burst = { finished: Promise.resolve(), changes: [], over: false, failure: undefined };
  const answered = async ({ change, answer, sure = false }: Request): Promise<void> => {
    const { ok, revision } = await answer;
    if (burst.over) return;
    must(ok === (change !== undefined), () => `A write was ${ok ? "taken" : "refused"}`);
    if (change === undefined) return;
    if (sure) model.makeSureUpTo(change);
    else if (change.reached === "asked") change.reached = "acknowledged";
    // An increment does not tell its revision.
    if (revision !== undefined) note(model, change, revision);
  };
  const visible = PLACES.map((_, place) => model.known(placeName(place)));
  const all = writes.map((write) => {
    const request = write[0] === "atomic"
      ? atomic(model, trial, write.slice(1) as Part[])
      : WRITES[write[0]](targetOf(model, trial, write[1] as number, visible), write[2] as number);
    if (request.change !== undefined) burst.changes.push(request.change);
    return answered(request).catch((error: unknown) => {
      if (!burst.over) burst.failure ??= error;
      throw error;
    });
  });
  burst.finished = Promise.all(all).then(() => checkOrder(burst.changes));
  return burst;
}

function targetOf(model: Model, trial: Trial, place: number, visible: readonly (Known | undefined)[]): Target {
  const name = placeName(place);
  const bucket = bucketOf(trial, PLACES[place]!);
  return { model, bucket, place, name, known: model.known(name), visible: visible[place], now: trial.clock.wall() };
}

/** The store has told the last revision of changes that happened in one. */
function note(model: Model, asked: Asked, revision: number): void {
  const { changes } = asked;
  const first = revision - changes.length + 1;
  must(first > asked.before, () => `Revision ${first} came after ${asked.before}`);
  asked.revision = revision;
  model.last = Math.max(model.last, revision);
  for (const [index, { after }] of changes.entries()) {
    if (typeof after !== "string") after.revision = first + index;
  }
}

/** Answers may come in any order, revisions not. */
function checkOrder(changes: readonly Asked[]): void {
  let last = 0;
  for (const { changes: { length }, revision } of changes) {
    if (revision === 0) continue;
    must(revision - length + 1 > last, () => `Revision ${revision} came after ${last}`);
    last = revision;
  }
}

/** Under `always` what was acknowledged is safe. */
function acknowledged(model: Model, trial: Trial): void {
  if (trial.setup.sync === "always") model.makeSure();
}

// --- commands ---

/** Writes, all in one turn. */
export function write(...writes: Write[]): Command {
  return command("write", writes, async (model, trial) => {
    await trial.finish(ask(model, trial, writes).finished);
    acknowledged(model, trial);
  });
}

/** Enough dead bytes for a compaction to begin by itself, and writes after some turns of it. */
export function churn(place: number, turns: number, ...writes: Write[]): Command {
  return command("churn", [place, turns, ...writes], async (model, trial) => {
    // The last one is small: what is large is read again at every check.
    for (let count = 0; count <= CHURN_SETS; count++) {
      await trial.finish(ask(model, trial, [["set", place, count === CHURN_SETS ? 1 : CHURN_BYTES]]).finished);
      acknowledged(model, trial);
    }
    await trial.turns(turns);
    await trial.finish(ask(model, trial, writes).finished);
    acknowledged(model, trial);
  });
}

/** A set or a delete that asks for the right revision, or for the one after it. */
export function writeIf(kind: "set" | "remove", place: number, right: boolean): Command {
  return command("writeIf", [kind, place, right], async (model, trial) => {
    const name = placeName(place);
    const known = model.known(name);
    const bucket = trial.store.bucket<string | number>(PLACES[place]!.bucket);
    const { key } = PLACES[place]!;
    const entry = await trial.entry(PLACES[place]!);
    must(entry?.value === (known && shownValue(known)), () => `${name} is not what it should be`);
    const ifRevision = (entry?.revision ?? 0) + (right ? 0 : 1);
    const after = kind === "set" ? knownOf(model.newValue(place, 20)) : "delete";
    model.ask(name, after);
    const result = await trial.finish(
      typeof after === "string" ? bucket.delete(key, { ifRevision }) : bucket.set(key, after.value, { ifRevision }),
    );
    must(result.ok === (right && (kind === "set" || known !== undefined)), "A condition was judged wrongly");
    if (!result.ok) {
      const same = result.current?.revision === entry?.revision && result.current?.value === entry?.value;
      return must(same, "A conflict shows another entry");
    }
    const change = model.change({ name, after });
    change.reached = "acknowledged";
    note(model, change, result.revision);
    acknowledged(model, trial);
  });
}

/** A read that moves the deadline, but for a key that it takes. */
export function slide(place: number, ttl: number): Command {
  return command("slide", [place, ttl], async (model, trial) => {
    const name = placeName(place);
    const known = model.known(name);
    const after = known === undefined || known.once
      ? "take" as const
      : { ...known, expiresAt: trial.clock.wall() + ttl, revision: 0 };
    const change = known && model.change({ name, after });
    const reading = bucketOf(trial, PLACES[place]!).get(PLACES[place]!.key, { touch: ttl });
    await trial.finish(delivered(name, reading, known));
    if (change === undefined) return;
    if (after === "take") model.makeSureUpTo(change);
    else change.reached = "acknowledged";
    acknowledged(model, trial);
  });
}

/** A copy in another folder, and writes after some turns of it. */
export function copy(turns: number, ...writes: Write[]): Command {
  return command("copy", [turns, ...writes], async (model, trial) => {
    const before = model.all();
    const target = new MemoryFileSystem();
    const lock = target.lock.bind(target);
    // deno-lint-ignore prefer-const -- asked for by a closure before it is there
    let burst: Burst | undefined;
    let sure: ReadonlySet<Asked> | undefined;
    // When the folder is given back the copy is what it is; what is taken after that may be in it.
    const watched = (): Lock => {
      const held = lock();
      const released = (): void => {
        held.release();
        sure ??= new Set(burst?.changes.filter(({ reached }) => reached === "sure"));
      };
      return { check: () => held.check(), release: released };
    };
    trial.target = Object.assign(target, { lock: watched });
    const copied = trial.store.snapshot("copy");
    await trial.turns(turns);
    burst = ask(model, trial, writes);
    await trial.finish(Promise.all([burst.finished, copied]));
    acknowledged(model, trial);
    const held = await trial.readCopy();
    // At the end it is again what it was at some place, without what was taken behind that.
    const { changes } = burst;
    const right = [...changes, undefined].some((_, count) => {
      const state = new Map(before);
      for (const one of changes.slice(0, count)) apply(state, one);
      const later = changes.slice(count).map((asked) => ({ ...asked, sure: sure!.has(asked) }));
      return isCopy(held, state, later, trial.clock.wall());
    });
    must(right, () => `A copy holds ${[...held.keys()].join(", ")} of ${[...before.keys()].join(", ")}`);
  });
}

/** A change that came while the copy was made; `sure`: its answer came in time. */
interface Later extends Asked {
  readonly sure: boolean;
}

/** True when a copy of `state` may hold this, while the changes came. */
function isCopy(
  held: ReadonlyMap<string, Known>,
  state: ReadonlyMap<string, Known>,
  later: readonly Later[],
  now: number,
): boolean {
  const changes = later.flatMap((asked) => asked.changes.map((change) => ({ ...change, sure: asked.sure })));
  return [...held.keys()].every((name) => state.has(name)) && [...state].every(([name, known]) => {
    const other = held.get(name);
    const ends = changes.filter((change) => change.name === name);
    const isDue = known.expiresAt !== undefined && known.expiresAt <= now;
    if (other === undefined) return isDue || ends.some(({ after }) => after === "take");
    if (isDue || (ends[0]?.after === "take" && ends[0].sure)) return false;
    return valuesOf(known).some((one) => one === other.value) && other.expiresAt === known.expiresAt &&
      other.once === known.once && (known.revision === 0 || other.revision === known.revision);
  });
}

/** A compaction, and writes after some turns of it. */
export function compact(turns: number, ...writes: Write[]): Command {
  return command("compact", [turns, ...writes], async (model, trial) => {
    const compacted = trial.store.compact();
    await trial.turns(turns);
    await trial.finish(Promise.all([ask(model, trial, writes).finished, compacted]));
    acknowledged(model, trial);
  });
}

/** Time goes by. */
export function advance(milliseconds: number): Command {
  return command("advance", [milliseconds], async (model, trial) => {
    trial.clock.advance(milliseconds);
    await trial.settle();
    if (trial.setup.sync === "interval") model.makeSure(SYNC_INTERVAL_MS);
  });
}

/** Everything is compared. */
export function check(): Command {
  return command("check", [], (_, trial) => trial.check());
}

/** A new subscriber is told what there is. */
export function snapshot(): Command {
  return command("snapshot", [], (_, trial) => trial.checkSnapshot());
}

/** The subscriber falls behind, or reads on. */
export function listen(on: boolean): Command {
  return command("listen", [on], async (_, trial) => {
    if (on) trial.subscriber.resume();
    else trial.subscriber.pause();
    await trial.turns(1);
  });
}

/** What was acknowledged is safe under every policy. */
export function sync(): Command {
  return command("sync", [], async (model, trial) => {
    await trial.finish(trial.store.sync());
    model.makeSure();
  });
}

/** Closes with writes on the way, and opens again. */
export function reopen(setup: Setup, ...writes: Write[]): Command {
  return command("reopen", [setup, ...writes], async (model, trial) => {
    const { finished } = ask(model, trial, writes);
    await trial.close();
    await finished;
    model.makeSure();
    await trial.open(setup);
    await trial.check();
  });
}

/** How a crash comes. */
export interface Fall {
  /** Not the process alone: the power goes, and with it what was not synced. */
  readonly power: boolean;
  /** A compaction is under way. */
  readonly compacting: boolean;
  /** Turns between the last writes and the crash. */
  readonly turns: number;
  /** Turns of the next open before it crashes too; 0: it does not. */
  readonly again: number;
}

/** A crash with writes on the way. */
export function crash(fall: Fall, setup: Setup, ...writes: Write[]): Command {
  return command("crash", [fall, setup, ...writes], async (model, trial) => {
    const { power, compacting, turns, again } = fall;
    if (compacting) trial.store.compact().catch(() => {});
    const burst = ask(model, trial, writes);
    burst.finished.catch(() => {});
    await trial.turns(turns);
    burst.over = true;
    if (burst.failure !== undefined) throw burst.failure;
    const kept = !power || trial.setup.sync === "always";
    await trial.crash(power, again, setup);
    model.goBack(await trial.read(), kept);
    const revision = (await trial.store.stats())["revision"]!;
    must(!kept || revision >= model.last, "A revision that was acknowledged may come again");
    model.last = revision;
    await trial.settle();
    trial.subscriber.check(model.all());
  }, true);
}

// --- drawing ---

/** Bytes: none, few, around a compressed one, around a segment, around one and two blocks of the cache. */
const SIZES = [0, 1, 10, 199, 200, 1_000, 4_000, 4_096, 5_000, 16_383, 16_384, 16_385, 32_767, 32_768, 32_769];

const anyPlace = fc.nat(PLACES.length - 1);

const anySize = fc.oneof(
  { weight: 5, arbitrary: fc.nat(120) },
  { weight: 1, arbitrary: fc.constantFrom(...SIZES) },
);

const anyTime = fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 1_500 }));

const anyPart: fc.Arbitrary<Part> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constantFrom("set" as const, "once" as const), anyPlace, anySize) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("expiring" as const), anyPlace, anyTime) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom("remove" as const, "holds" as const), anyPlace, fc.constant(0)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("fails" as const), anyPlace, fc.constant(0)) },
);

const anyBatch: fc.Arbitrary<Write> = fc.array(anyPart, { minLength: 2, maxLength: 4 })
  .map((parts) => ["atomic", ...parts] as const);

const anyWrite: fc.Arbitrary<Write> = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.constantFrom("set" as const, "many" as const), anyPlace, anySize) },
  { weight: 6, arbitrary: fc.tuple(fc.constant("remove" as const), anyPlace, fc.constant(0)) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom("expiring" as const, "touch" as const), anyPlace, anyTime) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("persist" as const), anyPlace, fc.constant(0)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("increment" as const), anyPlace, fc.nat(9)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("once" as const), anyPlace, anySize) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom("take" as const, "get" as const), anyPlace, fc.constant(0)) },
  { weight: 4, arbitrary: anyBatch },
);

const someWrites = fc.array(anyWrite, { maxLength: 6 });

/** How a store is opened. */
export const anySetup: fc.Arbitrary<Setup> = fc.record({
  sync: fc.constantFrom("always" as const, "always" as const, "interval" as const, "os" as const),
  cacheBytesMax: fc.constantFrom(0, 20_000, 1_000_000),
  automatic: fc.boolean(),
  compressed: fc.boolean(),
  examined: fc.boolean(),
});

const anyFall: fc.Arbitrary<Fall> = fc.record({
  power: fc.boolean(),
  compacting: fc.boolean(),
  turns: fc.nat(60),
  again: fc.oneof(fc.constant(0), fc.nat(30)),
});

/** Deletes, compactions, opens and crashes are frequent, as in PULSE's runs of the first Bitcask. */
const anyCommand: fc.Arbitrary<Command> = fc.oneof(
  { weight: 36, arbitrary: anyWrite.map((one) => write(one)) },
  { weight: 12, arbitrary: fc.array(anyWrite, { minLength: 2, maxLength: 6 }).map((some) => write(...some)) },
  {
    weight: 8,
    arbitrary: fc.tuple(fc.constantFrom("set" as const, "remove" as const), anyPlace, fc.boolean())
      .map((given) => writeIf(...given)),
  },
  { weight: 4, arbitrary: fc.tuple(anyPlace, anyTime).map((given) => slide(...given)) },
  { weight: 3, arbitrary: fc.tuple(fc.nat(40), someWrites).map(([turns, some]) => copy(turns, ...some)) },
  { weight: 12, arbitrary: fc.tuple(fc.nat(40), someWrites).map(([turns, some]) => compact(turns, ...some)) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(5), fc.nat(40), someWrites).map(([place, turns, some]) => churn(place, turns, ...some)),
  },
  { weight: 10, arbitrary: fc.tuple(anySetup, someWrites).map(([setup, some]) => reopen(setup, ...some)) },
  {
    weight: 10,
    arbitrary: fc.tuple(anyFall, anySetup, someWrites).map(([fall, setup, some]) => crash(fall, setup, ...some)),
  },
  { weight: 12, arbitrary: anyTime.map(advance) },
  { weight: 8, arbitrary: fc.constant(0).map(check) },
  { weight: 3, arbitrary: fc.constant(0).map(snapshot) },
  { weight: 5, arbitrary: fc.boolean().map(listen) },
  { weight: 2, arbitrary: fc.constant(0).map(sync) },
);

/** Commands, and the replay of a failure. */
export function someCommands(maxCommands: number, replayPath: string | undefined): fc.Arbitrary<Iterable<Command>> {
  const replay = replayPath === undefined ? {} : { replayPath };
  return fc.commands([anyCommand], { maxCommands, size: "max", ...replay });
}
