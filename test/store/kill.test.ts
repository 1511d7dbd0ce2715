/**
 * kill -9 on a real folder: what an embedded store acknowledged is there, and nothing else, whatever the policy.
 *
 * A victim (`victim.ts`) works until it is killed, at a drawn moment or at a drawn call of its file system. Others are
 * killed while they open what it left. Then the store is opened here: it must hold what the works of the victims come
 * to up to some place behind all that was acknowledged, and a subscriber must know the same.
 *
 * A failure names its seed. `KILL_SEED` and `KILL_RUNS` (kills per policy) choose others.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { SyncPolicy } from "../../lib/bitcask/log.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import type { SubscriptionEvent } from "../../lib/store/subscription.ts";
import { randomOf } from "../suites/random.ts";
import { moduleCommand } from "../suites/tools.ts";
import { LANES, type Order, type Work, workOf } from "./victim.ts";

const { env } = process;
/** Kills for each policy: 201 on three policies and three runtimes together. */
const KILLS = Number(env["KILL_RUNS"] ?? 23);
const SEED = Number(env["KILL_SEED"] ?? 1);
/** What they may take on a machine that is busy. */
const LIMIT_MS = 60_000 + KILLS * 5_000;

/** Calls of the file system, and how many of them a victim gets to at most. */
const CALLS: readonly [name: string, most: number][] = [
  ["write", 600],
  ["write", 60],
  ["sync", 300],
  ["rename", 40],
  ["create", 60],
  ["remove", 60],
  ["syncDirectory", 60],
];

/** Calls of an open that finds something to repair. */
const OPEN_CALLS: readonly [name: string, most: number][] = [
  ["write", 4],
  ["sync", 3],
  ["rename", 1],
  ["create", 2],
  ["truncate", 1],
  ["remove", 4],
  ["syncDirectory", 2],
];

/** What a victim said before it was dead. */
interface Said {
  ready: boolean;
  done: number;
  batches: number;
  /** Values that were handed out, never to be seen again. */
  readonly took: string[];
  readonly heard: (SubscriptionEvent<string> & { readonly cursor: string })[];
}

/** Runs a victim to its end; kills it `delayMs` after it is ready. */
function runVictim(order: Order, delayMs: number): Promise<Said> {
  const [program, ...args] = moduleCommand("test/store/victim.ts", JSON.stringify(order));
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const said: Said = { ready: false, done: 0, batches: 0, took: [], heard: [] };
  let text = "";
  let complaint = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (part: string) => {
    const lines = (text + part).split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith("done ")) {
        said.done++;
        if (line === "done batch") said.batches++;
      } else if (line.startsWith("took ")) said.took.push(line.slice("took ".length));
      else if (line === "ready") said.ready = true;
      else said.heard.push(JSON.parse(line.slice("heard ".length)) as Said["heard"][number]);
    }
    // Never after its end: the number may be another's by then.
    if (said.ready) {
      timer ??= setTimeout(() => child.exitCode ?? child.signalCode ?? process.kill(child.pid!, "SIGKILL"), delayMs);
    }
  });
  child.stderr.setEncoding("utf8");
  child.stderr.on("data", (part: string) => complaint += part);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      if (signal === "SIGKILL") resolve(said);
      else reject(new Error(`The victim ended by itself with ${code ?? signal}: ${complaint}`));
    });
  });
}

/** What the next one finds. */
type State = Map<string, Work>;

/** A store that one victim after another is killed over. */
class Scene {
  readonly folder: string;
  readonly sync: SyncPolicy;
  readonly random: (limit: number) => number;
  kills = 0;
  acknowledged = 0;
  batches = 0;
  /** Every value that was taken. */
  readonly taken: Set<string> = new Set<string>();
  /** How often the subscriber had to start again. */
  resyncs = 0;
  #state: State = new Map();
  #cursor = "";
  readonly #heard = new Map<string, string>();
  #revision = 0;
  #inSnapshot = true;
  readonly #retentionMs: number;

  constructor(folder: string, sync: SyncPolicy, seed: number) {
    this.folder = folder;
    this.sync = sync;
    this.random = randomOf(seed);
    this.#retentionMs = seed % 2 === 0 ? 1 : 3_600_000;
  }

  /** One victim, perhaps some who die over its store, and the survey. */
  async round(): Promise<void> {
    const { folder, sync, random } = this;
    const [call, most] = CALLS[random(CALLS.length)]!;
    const killAt = random(2) === 0 ? "" : `${call} ${1 + random(most)} ${["before", "half", "after"][random(3)]}`;
    const order: Order = {
      folder,
      sync,
      seed: random(2 ** 31),
      base: Date.now(),
      killAt,
      openOnly: false,
      retentionMs: this.#retentionMs,
      cursor: this.#cursor,
    };
    const said = await runVictim(order, 20 + random(280));
    this.kills++;
    for (let again = random(3); again > 0; again--) {
      const [name, count] = OPEN_CALLS[random(OPEN_CALLS.length)]!;
      const where = `${name} ${1 + random(count)} ${["before", "half", "after"][random(3)]}`;
      await runVictim({ ...order, openOnly: true, killAt: where }, 10_000);
      this.kills++;
    }
    this.acknowledged += said.done;
    this.batches += said.batches;
    for (const value of said.took) this.#take(value);
    this.#start();
    for (const event of said.heard) this.#note(order, event);
    await this.#survey(order, said.done);
  }

  async #survey(order: Order, done: number): Promise<void> {
    const { folder, sync } = this;
    const store = await open({ path: folder, sync, segmentBytesMax: 32_768, compaction: false });
    const before = Date.now();
    const found: State = new Map();
    const bucket = store.bucket<string>("b");
    for await (const { key, value, expiresAt, once = false } of bucket.list()) {
      found.set(String(key), { key: String(key), value, expiresAt, once });
    }
    for (const [key, { value, expiresAt, once }] of found) {
      if (once) continue;
      const got = await bucket.get(key);
      // It may have ended since it was listed.
      const ended = got === undefined && (expiresAt ?? Infinity) <= Date.now();
      expect([ended || got === value, this.taken.has(value!)]).toEqual([true, false]);
    }
    const states = this.#explain(order, done, found, before, Date.now());
    const [state] = states;
    // What nobody is shown is taken: it must be what one of the states has.
    for (const { key, once } of found.values()) {
      const value = once ? await bucket.take(key) : undefined;
      if (value !== undefined) {
        expect([key, states.some((one) => one.get(key)?.value === value)]).toEqual([key, true]);
        this.#take(value);
      }
      if (once) state!.delete(key);
    }
    this.#state = state!;
    await this.#catchUp(order, store);
    await store.close();
  }

  /** A value is handed out once. */
  #take(value: string): void {
    expect([value.slice(0, 20), this.taken.has(value)]).toEqual([value.slice(0, 20), false]);
    this.taken.add(value);
  }

  /** The states that the steps come to somewhere behind the last that was acknowledged, and that are what was found. */
  #explain(order: Order, done: number, found: State, before: number, after: number): State[] {
    const state = new Map(this.#state);
    const states: State[] = [];
    const steps = workOf(order);
    for (let number = 0; number <= done + LANES; number++) {
      if (number >= done && isSame(state, found, before, after)) states.push(new Map(state));
      for (const work of steps.next().value.works) {
        if (work.value === undefined) state.delete(work.key);
        else state.set(work.key, work);
      }
    }
    if (states.length > 0) return states;
    const keys = [...new Set([...state.keys(), ...found.keys()])].sort().map((key) => {
      return `${key}: ${found.get(key)?.value?.slice(0, 20)}, at the end ${state.get(key)?.value?.slice(0, 20)}`;
    });
    throw new Error(
      `Nothing explains what is there after ${done} steps, killed at ${order.killAt}\n${keys.join("\n")}`,
    );
  }

  // --- subscriber ---

  /** Without a cursor a subscriber begins with a snapshot. */
  #start(): void {
    if (this.#cursor !== "") return;
    this.#inSnapshot = true;
    this.#revision = 0;
    this.#heard.clear();
  }

  /** The subscriber comes back here, and hears the rest. */
  async #catchUp(order: Order, store: Store): Promise<void> {
    const { revision } = await store.stats();
    const now = Date.now();
    for (;;) {
      const { resyncs } = this;
      this.#start();
      const subscription = store.subscribe(this.#cursor === "" ? { snapshot: true } : { from: this.#cursor });
      // Something to hear at last, whatever there was.
      await store.bucket("end").set("end", revision ?? 0);
      for await (const event of subscription) {
        this.#note(order, "cursor" in event ? event : { ...event, cursor: subscription.cursor });
        if ("key" in event && event.bucket === "end" && event.type === "set" && !this.#inSnapshot) break;
        if (resyncs !== this.resyncs) break;
      }
      if (resyncs === this.resyncs) break;
    }
    this.#heard.delete("end");
    const known = [...this.#state.values()].filter(({ expiresAt }) =>
      expiresAt === undefined || expiresAt > now + 5_000
    );
    for (const { key, value } of known) expect([key, this.#heard.get(key) === value]).toEqual([key, true]);
    for (const key of this.#heard.keys()) expect([key, this.#state.has(key)]).toEqual([key, true]);
  }

  #note(order: Order, event: Said["heard"][number] | SubscriptionEvent): void {
    if (event.type === "resync") {
      this.resyncs++;
      // Under `always` a cursor is good as long as every tombstone is there.
      expect([order.sync, this.#retentionMs]).not.toEqual(["always", 3_600_000]);
      this.#cursor = "";
      this.#start();
      return;
    }
    if (event.type === "synced") this.#inSnapshot = false;
    if (!this.#inSnapshot && "cursor" in event) this.#cursor = event.cursor;
    if (!("key" in event)) return;
    if (!this.#inSnapshot) {
      expect(event.revision).toBeGreaterThan(this.#revision);
      this.#revision = event.revision;
    }
    if (event.type === "set") this.#heard.set(String(event.key), String(event.value));
    else this.#heard.delete(String(event.key));
  }
}

/** True when what was found is the state, but for what expired between the two times. */
function isSame(state: State, found: State, before: number, after: number): boolean {
  for (const { key, value, expiresAt, once } of found.values()) {
    const known = state.get(key);
    if (known === undefined || known.once !== once || known.expiresAt !== expiresAt) return false;
    if (!once && known.value !== value) return false;
    if (expiresAt !== undefined && expiresAt < before) return false;
  }
  return [...state.values()].every(({ key, expiresAt }) => {
    return found.has(key) || (expiresAt !== undefined && expiresAt <= after + 1);
  });
}

describe("Store", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "firkin-kill-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test.each(["always", "interval", "os"] as const)("under %s keeps what it acknowledged, when it is killed", async (
    ...row: unknown[]
  ) => {
    const sync = row[0] as SyncPolicy;
    let kills = 0;
    let acknowledged = 0;
    let resyncs = 0;
    let batches = 0;
    let takes = 0;
    let seed = SEED;
    for (; kills < KILLS; seed++) {
      const scene = new Scene(join(folder, String(seed)), sync, seed);
      try {
        for (let round = 0; round < 4 && kills + scene.kills < KILLS; round++) await scene.round();
      } catch (error) {
        throw new Error(`The store was not what it should be with seed ${seed}, after ${scene.kills} kills`, {
          cause: error,
        });
      }
      kills += scene.kills;
      acknowledged += scene.acknowledged;
      resyncs += scene.resyncs;
      batches += scene.batches;
      takes += scene.taken.size;
    }
    const seeds = `seeds ${SEED} to ${seed - 1}`;
    const figures = `${acknowledged} acknowledged, ${batches} of them batches, ${takes} takes, ${resyncs} resyncs`;
    console.log(`kill -9 under ${sync}: ${kills} kills, ${seeds}, ${figures}`);
  }, LIMIT_MS);
});
