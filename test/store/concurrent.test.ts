/**
 * Many callers at once, on a disk whose syncs and a clock whose timers take as long as fast-check likes: what each
 * key's callers saw must have an order that explains it, also over a power cut.
 *
 * `MODEL_RUNS`, `MODEL_SEED` and `MODEL_PATH` as in `model.test.ts`.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import process from "node:process";
import { ManualClock, type Timer } from "../../lib/base/clock.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { Bucket, Entry, WriteResult } from "../../lib/store/bucket.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { Disk, gate } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { type Answer, type Ask, type Held, nameOf, type Turn, unexplained } from "../suites/cell.ts";

const { env, versions } = process;
const RUNS = Math.ceil(Number(env["MODEL_RUNS"] ?? 1_500));
const SEED = Number(env["MODEL_SEED"] ?? (versions["bun"] !== undefined ? 1 : versions["deno"] !== undefined ? 2 : 3));
const LIMIT_MS = Math.max(60_000, RUNS * 200);

const KEYS = ["a", "__proto__", "\u{ff}"];

/** Zero-delay timers fire when fast-check says. */
class ScheduledClock extends ManualClock {
  readonly #scheduler: fc.Scheduler;

  constructor(scheduler: fc.Scheduler) {
    super();
    this.#scheduler = scheduler;
  }

  override after(delayMs: number, callback: () => void): Timer {
    if (delayMs > 0) return super.after(delayMs, callback);
    let cancelled = false;
    void this.#scheduler.schedule(Promise.resolve(), "timer").then(() => cancelled || callback());
    return { cancel: () => void (cancelled = true) };
  }
}

type Kind = "set" | "setIf" | "remove" | "removeIf" | "touch" | "increment" | "get" | "compact" | "sync" | "close";

/** One thing that a caller does; `number` draws a value and a condition. */
type Step = readonly [kind: Kind, key: number, number: number];

/** A store with many callers. */
class Crowd {
  readonly disk = new Disk();
  readonly turns = new Map<string, Turn[]>();
  readonly #scheduler: fc.Scheduler;
  readonly #clock: ScheduledClock;
  store!: Store;
  /** What a life that is over still says nobody hears. */
  life = 0;
  #moment = 0;
  #stamp = 0;

  constructor(scheduler: fc.Scheduler) {
    this.#scheduler = scheduler;
    this.#clock = new ScheduledClock(scheduler);
  }

  async open(): Promise<void> {
    this.disk.before = ({ action, name }) => {
      if (action !== "sync" && action !== "syncDirectory") return;
      return this.#scheduler.schedule(Promise.resolve(), `${action} ${name}`);
    };
    this.store = await open({
      path: "crowd",
      fileSystem: this.disk.mount(),
      clock: this.#clock,
      segmentBytesMax: 4_096,
      cacheBytesMax: 0,
      compression: false,
      tombstoneRetention: 1,
    });
  }

  /** Does the steps one after another; each begins when fast-check says. */
  async caller(steps: readonly Step[]): Promise<void> {
    const { life } = this;
    for (const step of steps) {
      await this.#scheduler.schedule(Promise.resolve(), step.join(" "));
      if (this.life !== life) return;
      try {
        await this.#take(step);
      } catch (error) {
        if (this.life !== life) return;
        if (!(error instanceof FirkinError && error.code === "CLOSED")) throw error;
      }
    }
  }

  /** Reads every key, as the last callers. */
  async readAll(): Promise<void> {
    for (const key of KEYS.keys()) await this.#take(["get", key, 0]);
  }

  /** What cannot be explained. */
  problems(): string[] {
    return [...this.turns].flatMap(([key, turns]) => {
      const bad = unexplained(turns) ?? [];
      return bad.map((turn) => `${key}: ${turn.begin} to ${turn.end ?? "?"}: ${nameOf(turn)}`);
    });
  }

  /** Notes a call from its begin, and what it was told at its end. */
  async #call<Result>(key: string, ask: Ask, result: Promise<Result>, told: (result: Result) => Answer): Promise<void> {
    const { life } = this;
    const turn: Turn = { ...ask, begin: this.#moment++ };
    this.turns.set(key, [...this.turns.get(key) ?? [], turn]);
    try {
      const settled = await result;
      if (this.life !== life) return;
      turn.answer = told(settled);
      turn.end = this.#moment++;
    } catch (error) {
      if (this.life !== life) return;
      // A store that is closed takes nothing: the call never was.
      this.turns.set(key, this.turns.get(key)!.filter((other) => other !== turn));
      throw error;
    }
  }

  async #take([kind, place, number]: Step): Promise<void> {
    const key = KEYS[place]!;
    const bucket = this.store.bucket<string | number>("b");
    const value = number % 2 === 0 ? ++this.#stamp : `${++this.#stamp}:`.padEnd(number * 8, "x");
    // The revision that can be seen, or a guess.
    const { life } = this;
    const ifRevision = number % 3 === 0 ? number : (await bucket.getEntry(key))?.revision ?? 0;
    // The store that was asked may be dead: what it answers now nobody hears.
    if (this.life !== life) return;
    switch (kind) {
      case "compact":
      case "sync":
      case "close":
        return await this.store[kind]();
      case "set":
        return await this.#call(key, { kind, value }, bucket.set(key, value), written);
      case "setIf":
        return await this.#call(
          key,
          { kind: "set", value, ifRevision },
          bucket.set(key, value, { ifRevision }),
          written,
        );
      case "remove":
        return await this.#call(key, { kind }, bucket.delete(key), written);
      case "removeIf":
        return await this.#call(key, { kind: "remove", ifRevision }, bucket.delete(key, { ifRevision }), written);
      case "touch":
        return await this.#call(key, { kind }, bucket.touch(key, "1h"), written);
      case "increment":
        return await this.#call(key, { kind }, increment(bucket, key), (sum) => {
          return sum === "INVALID" ? { ok: false } : { ok: true, value: sum };
        });
      case "get":
        return await this.#call(key, { kind }, bucket.getEntry(key), (entry) => ({ ok: true, ...entryOf(entry) }));
    }
  }
}

/** A key that holds no number refuses. */
async function increment(bucket: Bucket<string | number>, key: string): Promise<number | "INVALID"> {
  try {
    return await bucket.increment(key);
  } catch (error) {
    if (error instanceof FirkinError && error.code === "INVALID") return "INVALID";
    throw error;
  }
}

// --- what an answer says ---

function entryOf(entry: Entry<string | number> | undefined): { value: Held; revision: number } {
  return { value: entry?.value, revision: entry?.revision ?? 0 };
}

function written(result: WriteResult<string | number>): Answer {
  return result.ok ? result : { ok: false, ...entryOf(result.current) };
}

// --- drawing ---

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(
      fc.constantFrom<Kind[]>(
        "set",
        "set",
        "setIf",
        "remove",
        "remove",
        "removeIf",
        "touch",
        "increment",
        "get",
        "get",
      ),
      fc.nat(KEYS.length - 1),
      fc.oneof(fc.nat(20), fc.constantFrom(400, 501)),
    ),
  },
  { weight: 2, arbitrary: fc.constantFrom<Step[]>(["compact", 0, 0], ["sync", 0, 0]) },
);

const anySteps = fc.array(anyStep, { minLength: 1, maxLength: 8 });

/** How the life ends, and after how many turns of others. */
const anyEnd = fc.record({ kind: fc.constantFrom("close", "power", "crash"), turns: fc.nat(80) });

/** False when nothing more will wait for the scheduler, though what needs no disk had its turns. */
async function isWaiting(scheduler: fc.Scheduler): Promise<boolean> {
  for (let turn = 0; turn < 50 && scheduler.count() === 0; turn++) await Promise.resolve();
  return scheduler.count() > 0;
}

/** One life of a store with its callers, the next open, and what is read then. */
async function run(
  scheduler: fc.Scheduler,
  callers: readonly (readonly Step[])[],
  end: { readonly kind: string; readonly turns: number },
): Promise<void> {
  const crowd = new Crowd(scheduler);
  await scheduler.waitFor(crowd.open());
  const lives = callers.map((steps) => crowd.caller(steps));
  for (let turn = 0; turn < end.turns && await isWaiting(scheduler); turn++) await scheduler.waitOne();
  if (end.kind === "close") {
    await scheduler.waitFor(Promise.all([...lives, crowd.caller([["close", 0, 0]])]));
  } else {
    crowd.life++;
    if (end.kind === "power") crowd.disk.cutPower();
    else crowd.disk.crash();
  }
  await scheduler.waitFor(crowd.open());
  await crowd.readAll();
  const problems = crowd.problems();
  if (problems.length > 0) throw new Error(`No order explains\n${problems.join("\n")}`);
  await scheduler.waitFor(crowd.store.close());
}

describe("Store", () => {
  test("answers concurrent callers as if they came one after another", async () => {
    const path = env["MODEL_PATH"];
    const callers = fc.array(anySteps, { minLength: 2, maxLength: 5 });
    await fc.assert(fc.asyncProperty(fc.scheduler(), callers, anyEnd, run), {
      seed: SEED,
      numRuns: RUNS,
      interruptAfterTimeLimit: LIMIT_MS,
      // Else a run that was cut short would count as passed.
      markInterruptAsFailure: true,
      ...(path === undefined ? {} : { path }),
    });
  }, LIMIT_MS + 10_000);

  test("increment() is refused when the value that refuses it is committed, and not before", async () => {
    const cask = await Cask.open();
    await cask.set("a", "no number");
    const held = gate();
    cask.disk.before = ({ action }) => action === "sync" ? held.wait : undefined;
    const heard: string[] = [];
    const set = cask.set("a", "nor this").then(() => heard.push("set"));
    const refused = cask.engine.increment("b", bytesOf("a"), 1).catch(({ code }: FirkinError) => heard.push(code));
    await cask.settle();
    expect(heard).toEqual([]);
    held.open();
    await cask.finish(Promise.all([set, refused]));
    expect(heard).toEqual(["set", "INVALID"]);
    await cask.close();
  });
});
