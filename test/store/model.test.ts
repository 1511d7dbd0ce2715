/**
 * The store against a Map and a clock: seeded random operations on tiny segments, with opens, crashes, power cuts and
 * compactions in between, and a subscriber that must end up knowing the same. A failure names its seed; `MODEL_SEED` in
 * this file, set to it, runs that one alone.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { type Key, toHex } from "../../lib/base/bytes.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import type { SubscriptionEvent } from "../../lib/store/subscription.ts";
import { Disk } from "../suites/disk.ts";
import { randomOf } from "../suites/embedded.ts";

const MODEL_SEED: number | undefined = undefined;
const RUNS = 150;
const STEPS = 60;

const KEYS: readonly Key[] = [
  "a",
  "b",
  "ab",
  "__proto__",
  "constructor",
  Uint8Array.of(0xff),
  Uint8Array.of(0xff, 0xff),
  Uint8Array.of(0),
  "k".repeat(1_024),
  "é",
];
const BUCKETS = ["users", "n"];

interface Known {
  readonly value: string | number;
  readonly revision: number;
  readonly expiresAt: number | undefined;
}

function nameOf(bucket: string, key: Key): string {
  return `${bucket}/${typeof key === "string" ? toHex(new TextEncoder().encode(key)) : toHex(key)}`;
}

/** One run: a store, what it should hold, and a subscriber. */
class Run {
  readonly random: (limit: number) => number;
  readonly clock: ManualClock;
  readonly fileSystem: MemoryFileSystem | Disk;
  readonly model = new Map<string, Known>();
  readonly heard = new Map<string, { value: unknown; expiresAt: number | undefined }>();
  store!: Store;
  cursor = "";
  last = 0;

  constructor(seed: number) {
    this.random = randomOf(seed);
    this.clock = new ManualClock(1_700_000_000_000, seed);
    this.fileSystem = seed % 2 === 0 ? new MemoryFileSystem() : new Disk();
  }

  async finish<Result>(promise: Promise<Result>): Promise<Result> {
    let settled = false;
    const done = (): void => void (settled = true);
    promise.then(done, done);
    for (let turn = 0; !settled; turn++) {
      if (turn > 200_000) throw new Error("Nothing happens any more");
      this.clock.advance(0);
      await Promise.resolve();
    }
    return await promise;
  }

  async open(): Promise<void> {
    this.store = await this.finish(open({
      path: "model",
      fileSystem: this.fileSystem instanceof Disk ? this.fileSystem.mount() : this.fileSystem,
      clock: this.clock,
      segmentBytesMax: 4_096,
      cacheBytesMax: [0, 20_000, 1_000_000][this.random(3)]!,
      compression: { bytesMin: 200 },
      compaction: this.random(2) === 0 ? false : { deadRatio: 0.3 },
      tombstoneRetention: [1, 500, 1_000_000][this.random(3)]!,
      sync: (["always", "interval", "os"] as const)[this.fileSystem instanceof Disk ? 0 : this.random(3)]!,
    }));
  }

  known(name: string): Known | undefined {
    const known = this.model.get(name);
    if (known?.expiresAt === undefined || known.expiresAt > this.clock.wall()) return known;
    this.model.delete(name);
    return undefined;
  }

  wrote(name: string, result: { ok: boolean; revision?: number }, change: Omit<Known, "revision"> | undefined): void {
    expect(result.revision!).toBeGreaterThan(this.last);
    this.last = result.revision!;
    if (change === undefined) this.model.delete(name);
    else this.model.set(name, { ...change, revision: result.revision! });
  }

  async change(): Promise<void> {
    const { random } = this;
    const name = BUCKETS[random(2)]!;
    const key = KEYS[random(KEYS.length)]!;
    const place = nameOf(name, key);
    const bucket = this.store.bucket<string | number>(name);
    const known = this.known(place);
    const ttl = 1 + random(400);
    const expiresAt = this.clock.wall() + ttl;
    switch (random(8)) {
      case 0:
      case 1: {
        const value = `${random(1_000)}`.repeat(1 + random(random(20) === 0 ? 3_000 : 60));
        this.wrote(place, await bucket.set(key, value), { value, expiresAt: undefined });
        break;
      }
      case 2:
        this.wrote(place, await bucket.set(key, ttl, { ttl }), { value: ttl, expiresAt });
        break;
      case 3: {
        const right = random(2) === 0;
        const ifRevision = right ? known?.revision ?? 0 : (known?.revision ?? 0) + 1;
        const result = await bucket.set(key, 5, { ifRevision });
        expect(result.ok).toBe(right);
        if (result.ok) this.wrote(place, result, { value: 5, expiresAt: undefined });
        else expect(result.current?.revision).toBe(known?.revision);
        break;
      }
      case 4: {
        const result = await bucket.delete(key);
        expect(result.ok).toBe(known !== undefined);
        if (result.ok) this.wrote(place, result, undefined);
        break;
      }
      case 5: {
        const result = await bucket.touch(key, ttl);
        expect(result.ok).toBe(known !== undefined);
        if (result.ok) this.wrote(place, result, { value: known!.value, expiresAt });
        break;
      }
      case 6: {
        const result = await bucket.persist(key);
        expect(result.ok).toBe(known !== undefined);
        if (result.ok) this.wrote(place, result, { value: known!.value, expiresAt: undefined });
        break;
      }
      default: {
        if (typeof known?.value === "string") break;
        expect(await bucket.increment(key, 3)).toBe((known?.value ?? 0) + 3);
        const revision = (await bucket.getEntry(key))!.revision;
        this.wrote(place, { ok: true, revision }, { value: (known?.value ?? 0) + 3, expiresAt: known?.expiresAt });
      }
    }
  }

  async live(): Promise<void> {
    const { random, fileSystem } = this;
    switch (random(14)) {
      case 0:
        await this.finish(this.store.compact());
        break;
      case 1:
        await this.finish(this.store.close());
        await this.open();
        break;
      case 2:
        if (!(fileSystem instanceof Disk)) break;
        if (random(2) === 0) fileSystem.crash();
        else fileSystem.cutPower();
        await this.open();
        break;
      case 3:
      case 4:
        this.clock.advance(random(300));
        break;
      case 5:
        await this.check();
        break;
      case 6:
        await this.listen();
        break;
      default:
        await this.change();
    }
  }

  async check(): Promise<void> {
    for (const name of BUCKETS) {
      const bucket = this.store.bucket(name);
      const listed: string[] = [];
      for await (const { key, value, revision, expiresAt } of bucket.list({ reverse: this.random(2) === 0 })) {
        const place = nameOf(name, key);
        listed.push(place);
        expect({ value, revision, expiresAt }).toEqual(this.known(place) as never);
      }
      const expected = KEYS.map((key) => nameOf(name, key)).filter((place) => this.known(place) !== undefined);
      expect(listed.toSorted()).toEqual(expected.toSorted());
      for (const key of KEYS) {
        const known = this.known(nameOf(name, key));
        expect(bucket.getSync(key)).toEqual(known?.value);
        expect(await bucket.has(key)).toBe(known !== undefined);
      }
    }
  }

  /** Reads on from the cursor, or anew after a resync; then the subscriber knows what the store holds. */
  async listen(): Promise<void> {
    for (let from = this.cursor; from !== "done"; this.clock.advance(0)) {
      if (from === "") this.heard.clear();
      const subscription = this.store.subscribe(from === "" ? { snapshot: true } : { from });
      let resync = false;
      let revision = 0;
      const note = (event: SubscriptionEvent): void => {
        if (event.type === "resync") resync = true;
        if (!("key" in event)) return;
        if (from !== "") expect(event.revision).toBeGreaterThan(revision);
        revision = event.revision;
        const place = nameOf(event.bucket, event.key);
        if (event.type !== "set") this.heard.delete(place);
        else this.heard.set(place, { value: event.value, expiresAt: event.expiresAt });
      };
      const reading = (async () => {
        for await (const event of subscription) note(event);
      })();
      for (let turn = 0; turn < 400; turn++) {
        this.clock.advance(0);
        await Promise.resolve();
      }
      this.cursor = subscription.cursor;
      subscription.close();
      await this.finish(reading);
      from = resync ? "" : "done";
    }
    const now = this.clock.wall();
    const heard = [...this.heard].filter(([, { expiresAt }]) => expiresAt === undefined || expiresAt > now);
    const held = [...this.model.keys()].flatMap((place) => {
      const known = this.known(place);
      return known === undefined ? [] : [[place, { value: known.value, expiresAt: known.expiresAt }] as const];
    });
    const sorted = (entries: readonly (readonly [string, unknown])[]): unknown => {
      return entries.toSorted(([left], [right]) => left < right ? -1 : 1);
    };
    expect(sorted(heard)).toEqual(sorted(held) as never);
  }
}

describe("Store", () => {
  test("does what a Map and a clock do", async () => {
    const seeds = MODEL_SEED === undefined ? Array.from({ length: RUNS }, (_, index) => index + 1) : [MODEL_SEED];
    for (const seed of seeds) {
      const run = new Run(seed);
      try {
        await run.open();
        for (let step = 0; step < STEPS; step++) await run.live();
        await run.check();
        await run.listen();
        await run.finish(run.store.close());
        await run.open();
        await run.check();
        await run.listen();
        await run.finish(run.store.close());
      } catch (error) {
        throw new Error(`The store differs from its model with seed ${seed}`, { cause: error });
      }
    }
  });
});
