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
import type { Bucket } from "../../lib/store/bucket.ts";
import {
  type Asked,
  type Known,
  type Model,
  must,
  placeName,
  PLACES,
  type Setup,
  SYNC_INTERVAL_MS,
  type Trial,
} from "./model.ts";

/** One step of a trial. */
export type Command = fc.AsyncCommand<Model, Trial>;

/** A write, as it is drawn: kind, place, and a number that means a size, a time or nothing. */
export type Write = readonly [kind: keyof typeof WRITES, place: number, number: number];

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
}

/** Where a write goes. */
interface Target {
  readonly model: Model;
  readonly bucket: Bucket<string | number>;
  readonly place: number;
  readonly name: string;
  /** What the key is before the write, those that wait counted. */
  readonly known: Known | undefined;
  readonly now: number;
}

/** The model is changed and the store is asked in one turn, so that both see the same order. */
const WRITES = {
  set({ model, bucket, place, name }: Target, bytes: number): Request {
    const value = model.newValue(place, bytes);
    const change = model.change(name, { value, expiresAt: undefined, revision: 0 });
    return { change, answer: bucket.set(PLACES[place]!.key, value) };
  },
  expiring({ model, bucket, place, name, now }: Target, ttl: number): Request {
    const value = model.newValue(place, ttl);
    const change = model.change(name, { value, expiresAt: now + ttl, revision: 0 });
    return { change, answer: bucket.set(PLACES[place]!.key, value, { ttl }) };
  },
  remove({ model, bucket, place, name, known }: Target): Request {
    const change = known && model.change(name, undefined);
    return { change, answer: bucket.delete(PLACES[place]!.key) };
  },
  touch({ model, bucket, place, name, known, now }: Target, ttl: number): Request {
    const change = known && model.change(name, { value: known.value, expiresAt: now + ttl, revision: 0 });
    return { change, answer: bucket.touch(PLACES[place]!.key, ttl) };
  },
  persist({ model, bucket, place, name, known }: Target): Request {
    const change = known && model.change(name, { value: known.value, expiresAt: undefined, revision: 0 });
    return { change, answer: bucket.persist(PLACES[place]!.key) };
  },
  increment(target: Target, by: number): Request {
    const { model, bucket, place, name, known } = target;
    if (PLACES[place]!.bucket !== "numbers") return WRITES.set(target, by);
    const value = Number(known?.value ?? 0) + by;
    const change = model.change(name, { value, expiresAt: known?.expiresAt, revision: 0 });
    const answer = bucket.increment(PLACES[place]!.key, by).then((sum) => {
      must(sum === value, () => `${name} was incremented to ${sum}, not ${value}`);
      return { ok: true };
    });
    return { change, answer };
  },
};

/** Writes that were asked for in one turn. */
interface Burst {
  finished: Promise<void>;
  /** Changes that were acknowledged so far. */
  acknowledged: number;
  /** The process is dead: what it still says nobody hears. */
  over: boolean;
}

function ask(model: Model, trial: Trial, writes: readonly Write[]): Burst {
  const burst: Burst = { finished: Promise.resolve(), acknowledged: 0, over: false };
  const answered = async ({ change, answer }: Request): Promise<void> => {
    const { ok, revision } = await answer;
    if (burst.over) return;
    must(ok === (change !== undefined), () => `A write was ${ok ? "taken" : "refused"}`);
    if (change === undefined) return;
    burst.acknowledged++;
    // An increment does not tell its revision.
    if (revision === undefined) return;
    must(revision > model.last, () => `Revision ${revision} came after ${model.last}`);
    model.last = revision;
    if (change.known !== undefined) change.known.revision = revision;
  };
  const all = writes.map(([kind, place, number]) => {
    const name = placeName(place);
    const bucket = trial.store.bucket<string | number>(PLACES[place]!.bucket, {
      codec: PLACES[place]!.bucket === "texts" ? "text" : "cbor",
    });
    const target: Target = { model, bucket, place, name, known: model.known(name), now: trial.clock.wall() };
    return answered(WRITES[kind](target, number));
  });
  burst.finished = Promise.all(all).then(() => {});
  return burst;
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
    const entry = await bucket.getEntry(key);
    must(entry?.value === known?.value, () => `${name} is not what it should be`);
    const ifRevision = (entry?.revision ?? 0) + (right ? 0 : 1);
    const value = model.newValue(place, 20);
    const after = kind === "set" ? { value, expiresAt: undefined, revision: 0 } : undefined;
    model.ask(name, after);
    const result = await trial.finish(
      kind === "set" ? bucket.set(key, value, { ifRevision }) : bucket.delete(key, { ifRevision }),
    );
    must(result.ok === (right && (kind === "set" || known !== undefined)), "A condition was judged wrongly");
    if (!result.ok) return must(result.current?.revision === entry?.revision, "A conflict shows another entry");
    must(result.revision > model.last, () => `Revision ${result.revision} came after ${model.last}`);
    model.last = result.revision;
    model.change(name, after && { ...after, revision: result.revision });
    acknowledged(model, trial);
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
    const before = model.unsure;
    const burst = ask(model, trial, writes);
    burst.finished.catch(() => {});
    await trial.turns(turns);
    burst.over = true;
    const kept = !power || trial.setup.sync === "always";
    const least = kept ? before + burst.acknowledged : 0;
    await trial.crash(power, again, setup);
    model.goBack(await trial.read(), least);
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

const anyWrite: fc.Arbitrary<Write> = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.constant("set" as const), anyPlace, anySize) },
  { weight: 6, arbitrary: fc.tuple(fc.constant("remove" as const), anyPlace, fc.constant(0)) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom("expiring" as const, "touch" as const), anyPlace, anyTime) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("persist" as const), anyPlace, fc.constant(0)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("increment" as const), anyPlace, fc.nat(9)) },
);

const someWrites = fc.array(anyWrite, { maxLength: 6 });

/** How a store is opened. */
export const anySetup: fc.Arbitrary<Setup> = fc.record({
  sync: fc.constantFrom("always" as const, "always" as const, "interval" as const, "os" as const),
  cacheBytesMax: fc.constantFrom(0, 20_000, 1_000_000),
  automatic: fc.boolean(),
  compressed: fc.boolean(),
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
