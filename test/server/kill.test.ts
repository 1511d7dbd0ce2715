/**
 * kill -9 on a real file system: what a server acknowledged is there when it comes back, and a subscriber misses
 * nothing.
 *
 * One client lives through all rounds, and so does its subscription. In each round it writes numbered keys, each once,
 * until the server is killed after a drawn number of acknowledgements; then another is started on the same folder and
 * port.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Buffer } from "node:buffer";
import { createServer } from "node:net";
import { type Change, connect, FirkinError, ManualClock, type Store, type Subscription } from "../../mod.ts";
import { type Served, Workplace } from "./command.ts";

const SEED = 1;
/** Sets on the way at a time. */
const LANES = 50;
/** A server is killed after at most this many acknowledgements; few enough that a compaction is not over. */
const ACKNOWLEDGED_MAX = 150;
/** What a compaction has to copy, and as much that it leaves. */
const BULK_KEYS = 300;
const NOISE = new ManualClock(0, SEED).random(new Uint8Array(16 * 1024));
/** What all rounds together may take on a busy machine. */
const LIMIT_MS = 60_000;

/** What was asked of the servers, and what they said. */
class Book {
  readonly asked = new Set<string>();
  /** Revisions by key. */
  readonly acknowledged = new Map<string, number>();
  /** The last version of the bulk. */
  bulk = 0;
}

/** The only value that a key ever has: of 1 byte to some 2 KiB. */
function valueOf(key: string): string {
  return key.repeat(1 + Number(key.slice(1)) % 400);
}

/** Bytes that do not compress; the first of them tell the key and the version. */
function bulkOf(key: number, version: number): Uint8Array {
  const bytes = NOISE.slice();
  new DataView(bytes.buffer).setUint32(0, key * 1_000 + version);
  return bytes;
}

/** Sets every key of the bulk once more: what it was before is dead. */
async function writeBulk(store: Store, book: Book): Promise<void> {
  const bulk = store.bucket<Uint8Array>("bulk", { codec: "bytes" });
  book.bulk++;
  await Promise.all(
    Array.from({ length: BULK_KEYS }, (_, key) => bulk.set(`bulk${key}`, bulkOf(key, book.bulk))),
  );
}

/** Writes new keys until `count` of them are acknowledged, then kills the server; resolves when both are over. */
async function writeAndKill(store: Store, book: Book, served: Served, count: number): Promise<void> {
  const bucket = store.bucket<string>("b");
  let left = count;
  let killed = false;
  const write = async (): Promise<void> => {
    while (!killed) {
      const key = `k${book.asked.size}`;
      book.asked.add(key);
      try {
        const result = await bucket.set(key, valueOf(key), { ifRevision: 0 });
        if (!result.ok) throw new Error(`${key} was there before it was set`);
        book.acknowledged.set(key, result.revision);
        left--;
      } catch (error) {
        if (!killed || !(error instanceof FirkinError) || error.code !== "UNAVAILABLE") throw error;
      }
      if (left === 0 && !killed) {
        killed = true;
        served.command.kill("SIGKILL");
      }
    }
  };
  await Promise.all([...Array.from({ length: LANES }, write), served.command.ended]);
}

/** What is there: everything acknowledged at its revision, nothing that was not asked for, and the right bytes. */
async function readBack(store: Store, book: Book): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for await (const { key, value, revision } of store.bucket<string>("b").list()) {
    found.set(String(key), revision);
    expect(book.asked.has(String(key))).toBe(true);
    expect(value === valueOf(String(key))).toBe(true);
  }
  for (const [key, revision] of book.acknowledged) expect([key, found.get(key)]).toEqual([key, revision]);
  let bulk = 0;
  for await (const { key, value } of store.bucket<Uint8Array>("bulk").list()) {
    expect(Buffer.from(bulkOf(Number(String(key).slice("bulk".length)), book.bulk)).equals(value)).toBe(true);
    bulk++;
  }
  expect(bulk).toBe(book.bulk === 0 ? 0 : BULK_KEYS);
  return found;
}

/**
 * A port that nobody listens on, below those that the system gives out: while no server is on it, no other program's
 * connection takes it. Not port 0 for the first server: on that uWebSockets.js does not set SO_REUSEADDR, and the
 * connection that a kill leaves behind would keep the next server from the port.
 */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + crypto.getRandomValues(new Uint16Array(1))[0]! % 12_000;
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

/** The changes up to the one of the key `end`. */
async function changesOf(subscription: Subscription<string>): Promise<Change<string>[]> {
  const changes: Change<string>[] = [];
  for await (const event of subscription) {
    if ("cursor" in event) {
      expect(event.type).toBe("progress");
      continue;
    }
    changes.push(event);
    if (event.key === "end") break;
  }
  return changes;
}

describe("firkin serve", () => {
  let place: Workplace;
  beforeEach(() => {
    place = new Workplace();
  });
  afterEach(() => place.end());

  test("firkin serve keeps what it acknowledged, and subscribers their place, when it is killed", async () => {
    const clock = new ManualClock(0, SEED);
    const draw = (): number => 1 + clock.random(new Uint8Array(1))[0]! % ACKNOWLEDGED_MAX;
    const book = new Book();
    const flags = ["--data-dir", "data", "--sync", "always", "--listen", `127.0.0.1:${await freePort()}`];
    let served = await place.serve(flags);
    const store = await connect(served.url);
    const subscription = store.bucket<string>("b").subscribe();
    await subscription.ready;
    const changes = changesOf(subscription);

    let found = new Map<string, number>();
    for (const compacting of [false, true, false, true, false]) {
      let compacted: Promise<unknown> | undefined;
      if (compacting) {
        await writeBulk(store, book);
        await writeBulk(store, book);
        compacted = store.compact().then(() => "over", (error: FirkinError) => error.code);
      }
      await writeAndKill(store, book, served, draw());
      if (compacting) expect(await compacted).toBe("UNAVAILABLE");
      served = await place.serve(flags);
      found = await readBack(store, book);
    }

    await store.bucket<string>("b").set("end", "");
    const told = await changes;
    expect(told.pop()).toMatchObject({ type: "set", key: "end", value: "" });
    expect(told.every(({ type, key, value }) => type === "set" && value === valueOf(String(key)))).toBe(true);
    // Every change once and in order, also those whose acknowledgement was lost.
    const order = [...found].sort(([, left], [, right]) => left - right);
    expect(told.map(({ key, revision }) => [key, revision])).toEqual(order);
    await store.close();
  }, LIMIT_MS);
});
