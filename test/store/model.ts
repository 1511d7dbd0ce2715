/**
 * What a store is held against: a Map, a clock, and what a subscriber has heard.
 *
 * A {@link Model} also knows which of its changes a crash may still take. Those are lost from the end only: after a
 * crash the store must hold what the model held after some number of its changes, and the model goes back to there.
 *
 * A {@link Trial} is the store with what is around it: file system, clock, and a subscriber who reads all the while,
 * comes back with its cursor after every open, and must never have missed or dreamt anything.
 *
 * @module
 */
import { type Key, toHex } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import type { SyncPolicy } from "../../lib/bitcask/log.ts";
import type { FileSystem } from "../../lib/fs/fs.ts";
import { open, type OpenOptions } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import type { Change, Subscription, SubscriptionEvent } from "../../lib/store/subscription.ts";
import { gate } from "../suites/disk.ts";

// --- places and values ---

/** A key in its bucket. */
export interface Place {
  readonly bucket: "texts" | "numbers";
  readonly key: Key;
}

/** Few, so that they meet often. In byte order of their keys within a bucket. */
export const PLACES: readonly Place[] = [
  { bucket: "texts", key: "__proto__" },
  { bucket: "texts", key: "a" },
  { bucket: "texts", key: "constructor" },
  { bucket: "texts", key: "k".repeat(1_024) },
  { bucket: "texts", key: Uint8Array.of(0xff) },
  { bucket: "texts", key: Uint8Array.of(0xff, 0xff) },
  { bucket: "numbers", key: "__proto__" },
  { bucket: "numbers", key: "n" },
];

const BUCKETS = ["texts", "numbers"] as const;

/** One word for a key in its bucket. */
export function nameOf(bucket: string, key: Key): string {
  return `${bucket}/${typeof key === "string" ? key : toHex(key)}`;
}

/** The word for one of {@link PLACES}. */
export function placeName(place: number): string {
  const { bucket, key } = PLACES[place]!;
  return nameOf(bucket, key);
}

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

const NOISE = Array.from(new ManualClock().random(new Uint8Array(62_000)), (byte) => LETTERS[byte >> 2]).join("");

/** A text of `bytes` bytes that tells `stamp` when it is long enough to; every other one hardly compresses. */
function textOf(stamp: number, bytes: number): string {
  const text = `${stamp}:`;
  return (text + (stamp % 2 === 0 ? NOISE.slice(stamp % 999) : text.repeat(bytes))).slice(0, bytes);
}

// --- model ---

/** What is known of a live key. */
export interface Known {
  readonly value: string | number;
  readonly expiresAt: number | undefined;
  /** 0 until the store has told. */
  revision: number;
}

/** One change of one key: undefined ends it. */
export interface Asked {
  readonly name: string;
  readonly known: Known | undefined;
  readonly at: number;
}

type State = Map<string, Known>;

/** What a subscriber is told of a change. */
export type Heard = Pick<Change, "type" | "value" | "expiresAt" | "at">;

/** What the store should hold. */
export class Model {
  /** False on file systems that know no crash. */
  readonly crashes: boolean;
  /** The last revision that was acknowledged. */
  last = 0;
  readonly #now: () => number;
  #state: State = new Map();
  /** What outlives everything. */
  #sure: State = new Map();
  /** What was changed since, in order. */
  #unsure: Asked[] = [];
  #stamp = 0;
  /** Everything that was ever asked of a key. */
  readonly #asked = new Map<string, (Known | undefined)[]>();

  constructor(crashes: boolean, now: () => number) {
    this.crashes = crashes;
    this.#now = now;
  }

  /** What is known of a key, if it is there and not due. */
  known(name: string): Known | undefined {
    const known = this.#state.get(name);
    if (known !== undefined && !this.#isDue(known)) return known;
    this.#state.delete(name);
    return undefined;
  }

  /** Every key that is there, by name. */
  all(): State {
    return this.#alive(this.#state);
  }

  /** A value that was not there before. */
  newValue(place: number, bytes: number): string | number {
    this.#stamp++;
    return PLACES[place]!.bucket === "numbers" ? this.#stamp : textOf(this.#stamp, bytes);
  }

  /** Writes down a change that was asked for. */
  change(name: string, known: Known | undefined): Asked {
    const change: Asked = { name, known, at: this.#now() };
    this.#unsure.push(change);
    apply(this.#state, change);
    this.ask(name, known);
    return change;
  }

  /** Writes down what may be refused. */
  ask(name: string, known: Known | undefined): void {
    const asked = this.#asked.get(name);
    if (asked === undefined) this.#asked.set(name, [known]);
    else asked.push(known);
  }

  /** True when somebody may be told of such a change: it was asked for, or is the end of a deadline that was. */
  wasAsked(name: string, { type, value, expiresAt, at }: Heard): boolean {
    const asked = this.#asked.get(name) ?? [];
    if (type === "expire") return asked.some((known) => known?.expiresAt !== undefined && known.expiresAt <= at);
    if (type === "delete") return asked.includes(undefined);
    return type === "set" && asked.some((known) => known?.value === value && known?.expiresAt === expiresAt);
  }

  /** Number of changes that a crash may take. */
  get unsure(): number {
    return this.#unsure.length;
  }

  /** All changes, or those at least `age` milliseconds old, are beyond every crash. */
  makeSure(age = 0): void {
    while (this.#unsure.length > 0 && this.#unsure[0]!.at + age <= this.#now()) {
      apply(this.#sure, this.#unsure.shift()!);
    }
  }

  /** Goes back to where a crash left the store: behind at least `least` of the changes that were unsure. */
  goBack(found: State, least: number): void {
    const changes = this.#unsure;
    for (let count = changes.length; count >= least; count--) {
      const state = new Map(this.#sure);
      for (const change of changes.slice(0, count)) apply(state, change);
      if (!isSame(this.#alive(state), found)) continue;
      for (const [name, known] of this.#alive(state)) known.revision = found.get(name)!.revision;
      this.#state = state;
      this.#sure = new Map(state);
      this.#unsure = [];
      return;
    }
    throw new Error(`The crash left what never was: ${told(found)}, of at least ${least} of ${changes.length} changes`);
  }

  #isDue({ expiresAt }: Known): boolean {
    return expiresAt !== undefined && expiresAt <= this.#now();
  }

  #alive(state: State): State {
    return new Map([...state].filter(([, known]) => !this.#isDue(known)));
  }
}

/** Fails unless the condition holds. A hundred thousand times in a test, which `expect` takes seconds for. */
export function must(condition: boolean, message: string | (() => string)): void {
  if (!condition) throw new Error(typeof message === "string" ? message : message());
}

function apply(state: State, { name, known }: Asked): void {
  if (known === undefined) state.delete(name);
  else state.set(name, known);
}

function isSame(expected: State, found: State): boolean {
  return expected.size === found.size && [...expected].every(([name, known]) => {
    const other = found.get(name);
    return other?.value === known.value && other.expiresAt === known.expiresAt &&
      (known.revision === 0 || other.revision === known.revision);
  });
}

/** A state in few words. */
function told(state: ReadonlyMap<string, { readonly value: unknown; readonly expiresAt: number | undefined }>): string {
  const short = (value: unknown): string => `${String(value).slice(0, 12)} (${String(value).length})`;
  const entries = [...state].map(([name, { value, expiresAt }]) => {
    return `${name.slice(0, 24)}=${short(value)}${expiresAt === undefined ? "" : ` until ${expiresAt}`}`;
  });
  return `{ ${entries.toSorted().join(", ")} }`;
}

// --- subscriber ---

/** Someone who follows the store over all its lives. */
class Subscriber {
  /** Tombstones may be dropped: a cursor may lie before them. */
  forgetful = false;
  /** A life may have lost what it acknowledged: cursors of before mean nothing. */
  epochEnded = false;
  /** How many it was told. */
  events = 0;
  #heard = new Map<string, { value: unknown; expiresAt: number | undefined }>();
  #cursor = "";
  #revision = 0;
  #inSnapshot = false;
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
  check(expected: State): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#pause !== undefined) return;
    const same = expected.size === this.#heard.size && [...expected].every(([name, known]) => {
      const heard = this.#heard.get(name);
      return heard?.value === known.value && heard.expiresAt === known.expiresAt;
    });
    must(same, () => `The subscriber has heard ${told(this.#heard)}, and there is ${told(expected)}`);
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
    if (event.type === "set") this.#heard.set(name, { value: event.value, expiresAt: event.expiresAt });
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
  setup!: Setup;
  store!: Store;

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
    this.store = await this.finish(open(this.#optionsOf(setup)));
    this.subscriber.start(this.store);
  }

  async close(): Promise<void> {
    this.subscriber.stop();
    await this.finish(this.store.close());
  }

  /** Dies, again after `again` turns of the next open, and comes back. */
  async crash(power: boolean, again: number, setup: Setup): Promise<void> {
    this.subscriber.stop();
    if (this.setup.sync !== "always") this.subscriber.epochEnded = true;
    this.ground.crash!(power);
    if (again > 0) {
      open(this.#optionsOf(setup)).catch(() => {});
      await this.turns(again);
      this.ground.crash!(power);
      if (setup.sync !== "always") this.subscriber.epochEnded = true;
    }
    await this.open(setup);
  }

  #optionsOf(setup: Setup): OpenOptions {
    return {
      path: "model",
      fileSystem: this.ground.mount(),
      clock: this.clock,
      segmentBytesMax: 4_096,
      syncIntervalMs: SYNC_INTERVAL_MS,
      sync: setup.sync,
      cacheBytesMax: setup.cacheBytesMax,
      compression: setup.compressed && { bytesMin: 200 },
      compaction: setup.automatic && { deadRatio: 0.3 },
      tombstoneRetention: this.#retentionMs,
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

  /** What is there, by name; fails when listings and reads of single keys differ. */
  async read(): Promise<State> {
    const found: State = new Map();
    for (const name of BUCKETS) {
      const bucket = this.store.bucket<string | number>(name);
      const places = PLACES.filter((place) => place.bucket === name);
      const forward: string[] = [];
      const backward: string[] = [];
      for await (const { key, value, revision, expiresAt } of bucket.list()) {
        forward.push(nameOf(name, key));
        found.set(nameOf(name, key), { value, revision, expiresAt });
      }
      const ordered = places.map(({ key }) => nameOf(name, key)).filter((place) => found.has(place));
      must(forward.join() === ordered.join(), "A listing is out of order");
      if (++this.#reads % 4 === 0) {
        for await (const { key } of bucket.list({ reverse: true })) backward.unshift(nameOf(name, key));
        must(backward.join() === ordered.join(), "A reverse listing is out of order");
      }
      for (const { key } of places) {
        const known = found.get(nameOf(name, key));
        const entry = await bucket.getEntry(key);
        const same = entry?.value === known?.value && entry?.revision === known?.revision &&
          entry?.expiresAt === known?.expiresAt;
        must(same, () => `${nameOf(name, key)} is not what the listing says: ${told(found)}`);
      }
    }
    return found;
  }

  /** Fails unless the store, and who subscribes to it, know what the model does. */
  async check(): Promise<void> {
    await this.settle();
    const found = await this.read();
    const expected = this.model.all();
    must(isSame(expected, found), () => `The store holds ${told(found)}, and should ${told(expected)}`);
    for (const [name, known] of expected) known.revision = found.get(name)!.revision;
    this.subscriber.check(expected);
  }

  /** What a new subscriber is told first. */
  async snapshot(): Promise<State> {
    const found: State = new Map();
    const subscription = this.store.subscribe({ snapshot: true });
    await this.finish((async () => {
      for await (const event of subscription) {
        if (!("key" in event)) break;
        const { bucket, key, revision, expiresAt } = event;
        found.set(nameOf(bucket, key), { value: event.value as string | number, revision, expiresAt });
      }
    })());
    return found;
  }

  /** Fails unless a new subscriber is told what the model knows. */
  async checkSnapshot(): Promise<void> {
    const found = await this.snapshot();
    const expected = this.model.all();
    must(isSame(expected, found), () => `A snapshot says ${told(found)}, and not ${told(expected)}`);
  }
}
