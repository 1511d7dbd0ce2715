/**
 * Compaction: what it gives back and writes, and what reads and the event loop notice of it meanwhile.
 *
 * 200,000 keys with values of 1,000 bytes; then every second one again, so that half of the first 200 MB is dead. One
 * store is compacted while nothing else happens: that is the rate. Another is read meanwhile: bursts of `getSync` of
 * keys drawn with equal chance, and between two bursts a timer of 0 ms. How long that takes to come back is the turn
 * that others had. The same reading of the store at rest is the yardstick.
 *
 * This is no mitata benchmark, since a run happens once. Printed is text, or with `--json` one line of JSON.
 *
 * @module
 */
import process from "node:process";
import { type Bucket, open, type Store } from "../mod.ts";
import { runtime, temporaryFolder } from "./harness.ts";
import { createRandom } from "./workload.ts";

const KEYS = 200_000;
const VALUE_BYTES = 1_000;
const GROUP = 1_000;
const BURST = 16;
const IDLE_MS = 3_000;
const MIB = 1024 * 1024;

/** What a reader noticed of one while: `getSync` in microseconds, turns of others in milliseconds. */
interface Noticed {
  readonly reads: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly turnP50Ms: number;
  readonly turnP99Ms: number;
  readonly turnMaxMs: number;
}

const pool = Uint8Array.from({ length: 65_536 }, ((random) => () => random(256))(createRandom(1)));

function keyOf(index: number): string {
  return `user:${String(index).padStart(16, "0")}`;
}

/** Bytes without a pattern, which begin with the key's number and the round. */
function valueOf(index: number, round: number): Uint8Array {
  const start = (index * 7_919 + round) % (pool.length - VALUE_BYTES);
  const value = pool.slice(start, start + VALUE_BYTES);
  new Uint32Array(value.buffer, 0, 2).set([index, round]);
  return value;
}

/** A store whose every second key was written twice. */
async function openLoaded(): Promise<{ store: Store; users: Bucket<Uint8Array> }> {
  const store = await open({ path: temporaryFolder(), sync: "os", compaction: false, compression: false });
  const users = store.bucket<Uint8Array>("users", { codec: "bytes" });
  for (const round of [0, 1]) {
    for (let first = 0; first < KEYS; first += GROUP) {
      const indexes = Array.from({ length: GROUP >> round }, (_, index) => first + (index << round));
      await Promise.all(indexes.map((index) => users.set(keyOf(index), valueOf(index, round))));
    }
  }
  return { store, users };
}

/** Reads, and verifies each value outside the timed part. */
async function read(users: Bucket<Uint8Array>, goesOn: () => boolean): Promise<Noticed> {
  const random = createRandom(3);
  const times: number[] = [];
  const turns: number[] = [];
  while (goesOn()) {
    for (let count = 0; count < BURST; count++) {
      const index = random(KEYS);
      const key = keyOf(index);
      const from = performance.now();
      const value = users.getSync(key);
      times.push(performance.now() - from);
      const [number, round] = new Uint32Array((value ?? new Uint8Array(8)).slice(0, 8).buffer);
      if (number !== index || round !== 1 - index % 2) throw new Error(`Cannot trust the figures: ${key} is wrong`);
    }
    const ended = performance.now();
    await new Promise<void>((resolve) => setTimeout(resolve, 0));
    turns.push(performance.now() - ended);
  }
  times.sort((left, right) => left - right);
  turns.sort((left, right) => left - right);
  return {
    reads: times.length,
    p50Us: part(times, 0.5) * 1_000,
    p99Us: part(times, 0.99) * 1_000,
    turnP50Ms: part(turns, 0.5),
    turnP99Ms: part(turns, 0.99),
    turnMaxMs: part(turns, 1),
  };
}

function part(sorted: readonly number[], share: number): number {
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? 0;
}

function soon(): () => boolean {
  const end = performance.now() + IDLE_MS;
  return () => performance.now() < end;
}

async function measureRate(): Promise<{ readMibPerSecond: number; reclaimedMibPerSecond: number; written: number }> {
  const { store } = await openLoaded();
  const started = performance.now();
  await store.compact();
  const seconds = (performance.now() - started) / 1_000;
  const stats = await store.stats();
  const reclaimed = stats["compaction.reclaimedBytes"]!;
  await store.close();
  return {
    readMibPerSecond: stats["compaction.readBytes"]! / MIB / seconds,
    reclaimedMibPerSecond: reclaimed / MIB / seconds,
    written: stats["compaction.writtenBytes"]! / reclaimed,
  };
}

async function measureReads(): Promise<{ idle: Noticed; busy: Noticed }> {
  const { store, users } = await openLoaded();
  // The runtime compiles what the reader calls, and the cache takes its blocks.
  await read(users, soon());
  const idle = await read(users, soon());
  let done = false;
  const compaction = store.compact().finally(() => void (done = true));
  const busy = await read(users, () => !done);
  await compaction;
  await store.close();
  return { idle, busy };
}

const { name, version } = runtime();
const figures = { subject: "compaction", runtime: name, version, ...await measureRate(), ...await measureReads() };
if (process.argv.includes("--json")) {
  console.log(JSON.stringify(figures));
} else {
  const { readMibPerSecond, reclaimedMibPerSecond, written } = figures;
  const rate = `reads ${readMibPerSecond.toFixed(0)} MiB/s, gives back ${reclaimedMibPerSecond.toFixed(0)} MiB/s`;
  console.log(`${name} ${version}: ${rate}, writes ${written.toFixed(2)} bytes for each byte given back`);
  for (const [when, noticed] of [["at rest", figures.idle], ["meanwhile", figures.busy]] as const) {
    const { reads, p50Us, p99Us, turnP50Ms, turnP99Ms, turnMaxMs } = noticed;
    const turns = [turnP50Ms, turnP99Ms, turnMaxMs].map((milliseconds) => milliseconds.toFixed(1)).join(", ");
    const times = `p50 ${p50Us.toFixed(1)} us, p99 ${p99Us.toFixed(1)} us`;
    console.log(`  ${when}: getSync ${times} (${reads} reads); turns of others p50, p99, longest: ${turns} ms`);
  }
}
