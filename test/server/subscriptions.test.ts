/**
 * What subscribers of one server are told, held against all that was written (`test/suites/validator.ts`), while keys
 * expire by the thousand, the log is compacted, connections are cut, the server is killed and started again, and a
 * subscriber reads too slowly.
 *
 * `SUBSCRIPTION_EXPIRING` (keys that expire), `SUBSCRIPTION_SEED` make it more, or another.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import process from "node:process";
import { FirkinError } from "../../lib/base/errors.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import { connect } from "../../lib/store/connect.ts";
import type { Store } from "../../lib/store/store.ts";
import type { SubscribeOptions, SubscriptionEvent } from "../../lib/store/subscription.ts";
import { randomOf } from "../suites/random.ts";
import { Book, revisionOf, SubscriptionValidator } from "../suites/validator.ts";
import { FrailServer } from "./frail.ts";
import { EventReader } from "./http_client.ts";

const { env, versions } = process;
const EXPIRING = Number(env["SUBSCRIPTION_EXPIRING"] ?? 1_000);
const SEED = Number(
  env["SUBSCRIPTION_SEED"] ?? (versions["bun"] !== undefined ? 1 : versions["deno"] !== undefined ? 2 : 3),
);
/** One write in so many is of a key that expires. */
const WRITES = EXPIRING * 3;
const LANES = 64;
const TTL_MS_MAX = 1_000;
const WRITES_PER_CUT = 400;
/** Who leaves has been sent a window's worth ahead, which comes again: the more there is, the fewer they should be. */
const EVENTS_PER_HOP = Math.max(200, Math.ceil(EXPIRING / 50));
const LAST_KEY = "w-last";
/** What the last events may take on a busy machine. */
const PATIENCE_MS = 20_000 + EXPIRING;
const LIMIT_MS = 60_000 + EXPIRING * 10;

type Draw = (below: number) => number;
type Event = SubscriptionEvent<string>;

/** Writes to one bucket and keeps the book of it. */
class Writer {
  readonly book = new Book();
  readonly #store: Store;
  readonly #bucket: Bucket<string>;
  readonly #draw: Draw;
  #asked = 0;

  constructor(store: Store, draw: Draw) {
    this.#store = store;
    this.#bucket = store.bucket<string>("b");
    this.#draw = draw;
  }

  /** Writes all there is to write; `onWrite` is told how many are over. */
  async writeAll(onWrite: (count: number) => void): Promise<void> {
    let over = 0;
    const lane = async (): Promise<void> => {
      while (this.#asked < WRITES) {
        await this.#write(++this.#asked);
        onWrite(++over);
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  }

  /** One write, acknowledged or lost. */
  async #write(index: number): Promise<void> {
    try {
      if (index % 3 === 0) return await this.#set(`t${index}`, { ttl: 1 + this.#draw(TTL_MS_MAX) });
      const kind = this.#draw(10);
      if (kind < 4) return await this.#set(`w${index}`);
      if (kind < 7) return await this.#set(`hot${this.#draw(8)}`);
      if (kind < 8) return await this.#delete(`hot${this.#draw(8)}`);
      return await this.#batch(Array.from({ length: 2 + this.#draw(3) }, (_, part) => `batch${index}-${part}`));
    } catch (error) {
      if (!isUnavailable(error)) throw error;
    }
  }

  async #set(key: string, options: { readonly ttl?: number } = {}): Promise<void> {
    const value = this.book.ask(key);
    const result = await this.#bucket.set(key, value, options);
    if (result.ok) this.book.acknowledge(result.revision, key, value);
  }

  async #delete(key: string): Promise<void> {
    const result = await this.#bucket.delete(key);
    if (result.ok) this.book.acknowledge(result.revision, key, undefined);
  }

  async #batch(keys: readonly string[]): Promise<void> {
    const values = this.book.askBatch(keys);
    const batch = this.#store.atomic();
    for (const [place, key] of keys.entries()) batch.set(this.#bucket, key, values[place]!);
    const result = await batch.commit();
    if (!result.ok) throw new Error("There was no check");
    for (const [place, key] of keys.entries()) {
      this.book.acknowledge(result.revision - (keys.length - 1 - place), key, values[place]);
    }
  }

  /** Waits until nothing is left that expires, and writes the last key. */
  async finish(): Promise<void> {
    while (!await this.#hasNoneLeft()) await new Promise((resolve) => setTimeout(resolve, 20));
    await this.#set(LAST_KEY);
  }

  async #hasNoneLeft(): Promise<boolean> {
    try {
      return (await this.#bucket.list({ prefix: "t", limit: 1 }).next()).done === true;
    } catch (error) {
      // The last cut may be noticed only now.
      if (!isUnavailable(error)) throw error;
      return false;
    }
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof FirkinError && error.code === "UNAVAILABLE";
}

/** What one subscriber hears. */
class Listener {
  readonly name: string;
  validator: SubscriptionValidator;
  /** It has been told of the last key, and of all that expires. */
  done = false;
  readonly #anew: () => SubscriptionValidator;
  #sawEnd = false;

  constructor(name: string, book: Book, from: number | undefined, prefix = "") {
    const matches = (key: string): boolean => key.startsWith(prefix);
    this.name = name;
    this.#anew = () => new SubscriptionValidator(book, { from, matches });
    this.validator = this.#anew();
  }

  take(event: Event): void {
    this.validator.take(event);
    this.#sawEnd ||= "key" in event && event.key === LAST_KEY;
    this.done = this.#sawEnd && this.validator.expiring === 0;
  }

  /** A snapshot was cut short: nothing of it counts. */
  beginAnew(): void {
    this.validator = this.#anew();
  }
}

/** The subscribers that still listen. */
class Audience {
  isOver = false;
  readonly #leave: Set<() => void> = new Set();

  /** Runs `listen`, which ends when `leave` is called. */
  async during(leave: () => void, listen: () => Promise<void>): Promise<void> {
    this.#leave.add(leave);
    try {
      await listen();
    } finally {
      this.#leave.delete(leave);
    }
  }

  /** Whoever listens has heard enough. */
  close(): void {
    this.isOver = true;
    for (const leave of this.#leave) leave();
  }
}

/** A subscription of the client, which comes back by itself; `pause` is waited for now and then. */
async function follow(
  bucket: Bucket<string>,
  listener: Listener,
  options: SubscribeOptions,
  audience: Audience,
  pause: () => Promise<void> | undefined = () => undefined,
): Promise<void> {
  for (let begun = true; begun && !audience.isOver;) {
    begun = false;
    const subscription = bucket.subscribe(options);
    let count = 0;
    await audience.during(() => subscription.close(), async () => {
      for await (const event of subscription) {
        // A snapshot that was cut short is the one thing that may begin anew.
        begun = event.type === "resync" && listener.validator.place === undefined;
        if (begun) listener.beginAnew();
        else listener.take(event);
        if (begun || listener.done) break;
        if (++count % 100 === 0) await pause();
      }
    });
  }
}

/** One that leaves after some events, never between two of a batch, and goes on from its cursor. */
async function hop(bucket: Bucket<string>, listener: Listener, draw: Draw, audience: Audience): Promise<void> {
  let from: string | undefined;
  while (!listener.done && !audience.isOver) {
    const subscription = bucket.subscribe(from === undefined ? {} : { from });
    let left = 1 + draw(EVENTS_PER_HOP);
    await audience.during(() => subscription.close(), async () => {
      for await (const event of subscription) {
        listener.take(event);
        if (listener.done || (--left <= 0 && !("more" in event))) break;
      }
    });
    from = subscription.cursor;
    listener.validator.resume(from);
  }
}

/** A stream over HTTP, which goes on behind the last id that it was told. */
async function stream(server: FrailServer, listener: Listener, audience: Audience): Promise<void> {
  const url = `http://127.0.0.1:${server.port}/v1/buckets/b/events`;
  let last: string | undefined;
  while (!listener.done && !audience.isOver) {
    await server.up;
    const reader = await EventReader.open(url, last).catch(() => undefined);
    if (reader === undefined) continue; // cut off, or too early
    if (last !== undefined) listener.validator.resume(last);
    await audience.during(() => reader.close(), async () => void (last = await readStream(reader, listener, last)));
    reader.close();
  }
}

/** Hands on events as their batches are whole, until the stream is over; the last id. */
async function readStream(
  reader: EventReader,
  listener: Listener,
  before: string | undefined,
): Promise<string | undefined> {
  let [last, part]: [string | undefined, Event[]] = [before, []];
  while (!listener.done) {
    const next = await reader.next().catch(() => undefined);
    if (next === undefined || next.event === "ended") return next?.id ?? last;
    if (next.data["more"] === true && next.id !== undefined) throw new Error(`${next.id} lies inside a batch`);
    part.push(next.data["cursor"] === undefined ? next.data as never : { ...next.data, type: next.event } as never);
    if (next.id === undefined) continue;
    last = next.id;
    // The first word says only where the stream begins.
    if (next.event !== "progress" || revisionOf(last) > listener.validator.place!) {
      part.forEach((event) => listener.take(event));
    }
    part = [];
  }
  return last;
}

/** What is there. */
async function entriesOf(bucket: Bucket<string>): Promise<Map<string, { value: string; revision: number }>> {
  const entries = new Map<string, { value: string; revision: number }>();
  for await (const { key, value, revision } of bucket.list()) entries.set(String(key), { value, revision });
  return entries;
}

describe("firkin serve", () => {
  let server: FrailServer;
  const stores: Store[] = [];
  beforeEach(async () => {
    server = await FrailServer.open();
  });
  afterEach(async () => {
    await Promise.all(stores.splice(0).map((store) => store.close()));
    await server.end();
  });

  async function open(): Promise<Store> {
    stores.push(await connect(server.url));
    return stores.at(-1)!;
  }

  test("firkin serve tells subscribers all, once and in order, cut off, restarted and compacting", async () => {
    const draw = randomOf(SEED);
    const store = await open();
    const writer = new Writer(store, draw);
    const { book } = writer;
    const audience = new Audience();
    const listeners: Listener[] = [];
    const readers: Promise<void>[] = [];
    const bucketOf = async (): Promise<Bucket<string>> => (await open()).bucket<string>("b");
    const listen = (name: string, from?: number, prefix?: string): Listener => {
      listeners.push(new Listener(name, book, from, prefix));
      return listeners.at(-1)!;
    };
    readers.push(
      follow(await bucketOf(), listen("live", 0), {}, audience),
      follow(await bucketOf(), listen("snapshot"), { snapshot: true }, audience),
      follow(
        await bucketOf(),
        listen("slow", 0),
        {},
        audience,
        () => new Promise((resolve) => setTimeout(resolve, 30)),
      ),
      follow(await bucketOf(), listen("prefix", 0, "w"), { prefix: "w" }, audience),
      hop(await bucketOf(), listen("hopping", 0), randomOf(SEED + 1), audience),
      stream(server, listen("stream", 0), audience),
    );
    // A first connection that is cut is nobody's.
    const latecomer = await bucketOf();
    // Nothing is written before all of them listen.
    for (let listening = 0; listening < readers.length;) {
      const stats = await store.stats();
      listening = stats["server.subscriptions"]! + stats["server.streams"]!;
    }
    const plan: [at: number, action: () => void][] = [
      [0.2, () => server.restart("SIGKILL")],
      [0.4, () => readers.push(follow(latecomer, listen("late"), { snapshot: true }, audience))],
      [0.5, () => {
        book.compacted = true;
        store.compact().catch(() => {});
      }],
      [0.7, () => server.restart("SIGTERM")],
      [0.9, () => void store.compact().catch(() => {})],
    ];
    await writer.writeAll((count) => {
      if (plan.length > 0 && count > plan[0]![0] * WRITES) plan.shift()![1]();
      if (draw(WRITES_PER_CUT) === 0) server.cut(draw);
    });
    await server.up;
    await writer.finish();
    const late = setTimeout(() => audience.close(), PATIENCE_MS);
    await Promise.all(readers);
    clearTimeout(late);
    expect(plan).toEqual([]);
    const entries = await entriesOf(store.bucket<string>("b"));
    for (const { name, validator } of listeners) {
      validator.finish(entries);
      const { problems } = validator;
      expect({ SUBSCRIPTION_SEED: SEED, name, count: problems.length, problems: problems.slice(0, 20) }).toEqual({
        SUBSCRIPTION_SEED: SEED,
        name,
        count: 0,
        problems: [],
      });
    }
  }, LIMIT_MS);
});
