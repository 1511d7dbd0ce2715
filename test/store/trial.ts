/**
 * A store with what is around it: file system, clock, and a subscriber who reads all the while, comes back with its
 * cursor after every open, and must never have missed or dreamt anything.
 *
 * @module
 */
import { ManualClock } from "../../lib/base/clock.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { SyncPolicy } from "../../lib/bitcask/log.ts";
import { type EmbeddedOptions, openEmbedded } from "../../lib/engine/embedded.ts";
import type { FileSystem } from "../../lib/fs/fs.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import type { Entry } from "../../lib/store/bucket.ts";
import { Store } from "../../lib/store/store.ts";
import type { Subscription, SubscriptionEvent } from "../../lib/store/subscription.ts";
import { verify } from "../../lib/store/upkeep.ts";
import { gate } from "../suites/disk.ts";
import {
  isSame,
  type Known,
  Model,
  must,
  nameOf,
  type Place,
  PLACES,
  type Showing,
  type Shown,
  shownValue,
  told,
} from "./model.ts";

const BUCKETS = ["texts", "numbers"] as const;

// --- subscriber ---

/** Someone who follows the store over all its lives. */
class Subscriber {
  /** Tombstones may be dropped: a cursor may lie before them. */
  forgetful = false;
  /** A life may have lost what it acknowledged: cursors of before mean nothing. */
  epochEnded = false;
  /** How many it was told. */
  events = 0;
  #heard: Showing = new Map();
  #cursor = "";
  #revision = 0;
  #inSnapshot = false;
  /** The event before said that another of its batch has arrived. */
  #more = false;
  #subscription: Subscription | undefined;
  #pause: ReturnType<typeof gate> | undefined;
  #failure: unknown;
  readonly #model: Model;

  constructor(model: Model) {
    this.#model = model;
  }

  /** Comes back to a store that was opened. */
  start(store: Store): void {
    const from = this.#cursor;
    this.#inSnapshot = from === "";
    this.#more = false;
    if (this.#inSnapshot) this.#heard.clear();
    const subscription = store.subscribe(from === "" ? { snapshot: true } : { from });
    this.#subscription = subscription;
    this.#read(store, subscription).catch((error: unknown) => this.#failure ??= error);
  }

  /** Takes no more events; the store does not wait. */
  pause(): void {
    this.#pause ??= gate();
  }

  resume(): void {
    this.#pause?.open();
    this.#pause = undefined;
  }

  /** Goes, with what it has heard and its cursor. */
  stop(): void {
    const subscription = this.#subscription;
    this.#subscription = undefined;
    subscription?.close();
    this.resume();
  }

  /** Fails unless it knows what the store holds; one that pauses need not. */
  check(expected: ReadonlyMap<string, Known>): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#pause !== undefined) return;
    must(
      isSame(expected, this.#heard),
      () => `The subscriber has heard ${told(this.#heard)}, and there is ${told(shown(expected))}`,
    );
  }

  async #read(store: Store, subscription: Subscription): Promise<void> {
    for await (const event of subscription) {
      if (this.#subscription !== subscription) return;
      if (event.type === "resync") {
        must(this.forgetful || this.epochEnded, "The subscriber must start again without a cause");
        this.epochEnded = false;
        this.#cursor = "";
        return this.start(store);
      }
      this.#note(event);
      if (!this.#inSnapshot) this.#cursor = subscription.cursor;
      await this.#pause?.wait;
    }
  }

  #note(event: SubscriptionEvent): void {
    this.events++;
    must(!this.#more || "key" in event, "A batch was told in parts");
    this.#more = "key" in event && event.more === true;
    if (!("key" in event)) {
      if (event.type === "synced") {
        this.#inSnapshot = false;
        // What was before this snapshot may have been lost, revisions and all.
        this.#revision = 0;
      }
      return;
    }
    const name = nameOf(event.bucket, event.key);
    if (!this.#inSnapshot) {
      must(event.revision > this.#revision, () => `Revision ${event.revision} came after ${this.#revision}`);
      this.#revision = event.revision;
    }
    must(this.#model.wasAsked(name, event), () => `Nobody asked for ${event.type} of ${name} at ${event.at}`);
    if (event.type === "set") this.#heard.set(name, shownOf(event));
    else this.#heard.delete(name);
  }
}

// --- trial ---

/** How a store is opened. */
export interface Setup {
  readonly sync: SyncPolicy;
  readonly cacheBytesMax: number;
  readonly automatic: boolean;
  readonly compressed: boolean;
  /** It is verified, and opened to be read only, before it is opened again. */
  readonly examined: boolean;
}

/** Where a trial's files are. */
export interface Ground {
  /** The folder as the next life of the store sees it. */
  readonly mount: () => FileSystem;
  /** Lets others have their turn: the queue of microtasks, or real I/O too. */
  readonly turn: () => Promise<unknown> | undefined;
  /** The process dies, or the power goes; absent where neither can happen. */
  readonly crash?: (power: boolean) => void;
  readonly end: () => void;
  /** Syncs take real time. */
  readonly real: boolean;
}

/** Under `interval`, milliseconds. */
export const SYNC_INTERVAL_MS = 1_000;

/** Turns before something has hung. */
const TURNS_MAX = 200_000;

/** Turns in which something is heard, if there is anything. */
const SETTLE_TURNS = 50;

/** A store over its lives. */
export class Trial {
  readonly clock: ManualClock = new ManualClock();
  readonly ground: Ground;
  readonly model: Model;
  readonly subscriber: Subscriber;
  readonly #retentionMs: number;
  #reads = 0;
  #opened = false;
  /** It was closed, and no crash came since. */
  #clean = false;
  setup!: Setup;
  store!: Store;
  /** Where the next snapshot goes. */
  target: FileSystem = new MemoryFileSystem();

  /** `retentionMs`: how long tombstones are kept; Infinity: longer than any trial. */
  constructor(ground: Ground, retentionMs: number) {
    this.ground = ground;
    this.model = new Model(ground.crash !== undefined, () => this.clock.wall());
    this.subscriber = new Subscriber(this.model);
    this.#retentionMs = Math.min(retentionMs, 1e9);
    this.subscriber.forgetful = retentionMs < Infinity;
  }

  async open(setup: Setup): Promise<void> {
    this.setup = setup;
    const examined = this.#opened && setup.examined ? await this.#examine(setup) : undefined;
    this.store = await this.#open(setup);
    this.#opened = true;
    this.#clean = false;
    if (examined !== undefined) {
      const found = await this.read();
      must(told(examined) === told(found), () => `To be read only it held ${told(examined)}, and now ${told(found)}`);
    }
    this.subscriber.start(this.store);
  }

  async #open(setup: Setup, fileSystem: FileSystem = this.ground.mount(), readOnly = false): Promise<Store> {
    const options = this.#optionsOf(setup, fileSystem, readOnly);
    return new Store(await this.finish(openEmbedded(options)));
  }

  async close(): Promise<void> {
    this.subscriber.stop();
    await this.finish(this.store.close());
    this.#clean = true;
  }

  /** What the closed store holds, or what a crash left: sound, and the same for who only reads. */
  async #examine(setup: Setup): Promise<Showing> {
    const { sound, damage, tail } = await this.#verify(this.ground.mount());
    must(sound && tail?.type !== "rot", () => `The store is damaged: ${JSON.stringify(damage)}`);
    must(!this.#clean || tail === undefined, () => `A close has left an end that is ${tail?.type}`);
    const store = await this.#open(setup, undefined, true);
    const found = await this.read(store);
    const refusal = await store.bucket("texts").delete("a").catch((error: unknown) => error);
    must(refusal instanceof FirkinError && refusal.code === "READ_ONLY", "A write was taken that must not be");
    await this.finish(store.close());
    return found;
  }

  async #verify(fileSystem: FileSystem): ReturnType<typeof verify> {
    return await this.finish(verify({ path: "model", fileSystem, clock: this.clock }));
  }

  /** Dies, again after `again` turns of the next open, and comes back. */
  async crash(power: boolean, again: number, setup: Setup): Promise<void> {
    this.subscriber.stop();
    if (this.setup.sync !== "always") this.subscriber.epochEnded = true;
    this.ground.crash!(power);
    if (again > 0) {
      openEmbedded(this.#optionsOf(setup, this.ground.mount(), false)).catch(() => {});
      await this.turns(again);
      this.ground.crash!(power);
      if (setup.sync !== "always") this.subscriber.epochEnded = true;
    }
    await this.open(setup);
  }

  /** As `open` would have them, but that a snapshot goes to {@link Trial.target}. */
  #optionsOf(setup: Setup, fileSystem: FileSystem, readOnly: boolean): EmbeddedOptions {
    return {
      fileSystem,
      folder: () => this.target,
      clock: this.clock,
      sync: setup.sync,
      syncIntervalMs: SYNC_INTERVAL_MS,
      cacheBytesMax: setup.cacheBytesMax,
      segmentBytesMax: 4_096,
      filesMax: 8,
      readOnly,
      reserveBytes: 4_096,
      keyBytesMax: 1_024,
      valueBytesMax: 1_000_000,
      batchOperationsMax: 4,
      batchBytesMax: 1_000_000,
      automatic: setup.automatic,
      deadRatio: 0.3,
      deadBytes: Infinity,
      smallBytes: 1_024,
      window: undefined,
      compressBytesMin: setup.compressed ? 200 : Infinity,
      tombstoneRetentionMs: this.#retentionMs,
      report: () => {},
    };
  }

  /** What `promise` resolves to; timers that are due at once run meanwhile. */
  async finish<Result>(promise: Promise<Result>): Promise<Result> {
    let settled = false;
    const done = (): void => void (settled = true);
    promise.then(done, done);
    for (let turn = 0; !settled; turn++) {
      must(turn < TURNS_MAX, "Cannot finish: nothing happens any more");
      this.clock.advance(0);
      await this.ground.turn();
    }
    return await promise;
  }

  async turns(count: number): Promise<void> {
    for (let turn = 0; turn < count; turn++) {
      this.clock.advance(0);
      await this.ground.turn();
    }
  }

  /** Lets everything happen that needs no time, whatever the disk takes. */
  async settle(): Promise<void> {
    if (this.ground.real) {
      await this.turns(10);
      await this.finish(this.store.sync());
    }
    for (let before = -1; before !== this.subscriber.events;) {
      before = this.subscriber.events;
      await this.turns(SETTLE_TURNS);
    }
  }

  /** What is there, by name; fails when listings and reads of single keys differ. Takes nothing. */
  async read(store: Store = this.store): Promise<Showing> {
    const found: Showing = new Map();
    for (const name of BUCKETS) {
      const bucket = store.bucket<string | number>(name);
      const places = PLACES.filter((place) => place.bucket === name);
      const forward: string[] = [];
      const backward: string[] = [];
      for await (const entry of bucket.list()) {
        forward.push(nameOf(name, entry.key));
        found.set(nameOf(name, entry.key), shownOf(entry));
      }
      const ordered = places.map(({ key }) => nameOf(name, key)).filter((place) => found.has(place));
      must(forward.join() === ordered.join(), "A listing is out of order");
      if (++this.#reads % 4 === 0) {
        for await (const { key } of bucket.list({ reverse: true })) backward.unshift(nameOf(name, key));
        must(backward.join() === ordered.join(), "A reverse listing is out of order");
      }
      for (const place of places) await this.#checkKey(store, place, found);
    }
    return found;
  }

  async #checkKey(store: Store, { bucket: bucketName, key }: Place, found: Showing): Promise<void> {
    const name = nameOf(bucketName, key);
    const known = found.get(name);
    const bucket = store.bucket<string | number>(bucketName);
    must(await bucket.has(key) === (known !== undefined), () => `${name} is there, or is not: ${told(found)}`);
    // To read it would take it.
    if (known?.once === true) return;
    const entry = await bucket.getEntry(key);
    const same = entry?.value === known?.value && entry?.revision === known?.revision &&
      entry?.expiresAt === known?.expiresAt && entry?.once === undefined;
    must(same, () => `${name} is not what the listing says: ${told(found)}`);
  }

  /** A key as listings show it. */
  async entry({ bucket, key }: Place): Promise<Entry<string | number> | undefined> {
    for await (const entry of this.store.bucket<string | number>(bucket).list({ start: key, limit: 1 })) {
      if (nameOf(bucket, entry.key) === nameOf(bucket, key)) return entry;
    }
    return undefined;
  }

  /** Fails unless the store, and who subscribes to it, know what the model does. */
  async check(): Promise<void> {
    await this.settle();
    const found = await this.read();
    const expected = this.model.all();
    must(isSame(expected, found), () => `The store holds ${told(found)}, and should ${told(shown(expected))}`);
    for (const [name, known] of expected) known.revision = found.get(name)!.revision;
    this.subscriber.check(expected);
  }

  /** Fails unless a new subscriber is told what the model knows. */
  async checkSnapshot(): Promise<void> {
    const found: Showing = new Map();
    const subscription = this.store.subscribe({ snapshot: true });
    await this.finish((async () => {
      for await (const event of subscription) {
        if (!("key" in event)) break;
        found.set(nameOf(event.bucket, event.key), shownOf(event));
      }
    })());
    const expected = this.model.all();
    must(isSame(expected, found), () => `A snapshot says ${told(found)}, and not ${told(shown(expected))}`);
  }

  /** What the copy in {@link Trial.target} holds, single-read keys with their values: they are taken. */
  async readCopy(): Promise<Map<string, Known>> {
    const { sound, tail, damage } = await this.#verify(this.target);
    must(sound && tail === undefined, () => `The copy is damaged: ${JSON.stringify(damage)}`);
    const store = await this.#open(this.setup, this.target);
    const found = await this.read(store);
    const held = new Map<string, Known>();
    for (const { bucket, key } of PLACES) {
      const entry = found.get(nameOf(bucket, key));
      if (entry === undefined) continue;
      const value = entry.once ? await this.finish(store.bucket(bucket).take(key)) : entry.value;
      held.set(nameOf(bucket, key), { ...entry, value: value as string | number });
    }
    await this.finish(store.close());
    return held;
  }
}

/** An entry or an event as {@link Showing} has it. */
function shownOf(
  { value, expiresAt, once = false, revision }: {
    readonly value?: unknown;
    readonly expiresAt?: number;
    readonly once?: boolean;
    readonly revision: number;
  },
): Shown {
  return { value, expiresAt, once, revision };
}

/** What anybody is shown of what is known. */
function shown(known: ReadonlyMap<string, Known>): Showing {
  return new Map([...known].map(([name, one]) => [name, { ...one, value: shownValue(one) }]));
}
