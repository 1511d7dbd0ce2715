/**
 * Compaction: what it gives back and writes, and what reads and the event loop notice of it meanwhile.
 *
 * 200,000 keys with values of 1,000 bytes; then half of them, drawn with equal chance, again: of the first 200 MB some
 * 80 are dead. Three stores so filled, each of its own:
 *
 * 1. One is compacted while nothing else happens: that is the rate.
 * 2. One is read meanwhile: bursts of `getSync` of keys drawn with equal chance, and between two bursts a timer of 0
 *    ms. How long that takes to come back is the turn that others had, and what a request that arrives meanwhile waits
 *    for: no part of the time of `getSync`, so both are told. The same reading of the store at rest is the yardstick.
 * 3. One goes on: with compaction as it is by default, as many random overwrites as there are keys, three times, in
 *    groups, and then nothing until compaction rests. What was written for that, by the count of the system where it
 *    has one (`/proc/self/io`: hints and manifests included), is divided by the bytes of the keys and values set. The
 *    longer compaction waits, the more has died and the less it writes: so the largest size of the log is told beside.
 *
 * Values are verified outside the timed part: both ends of each, and every byte of a sample at the end.
 *
 * This is no mitata benchmark, since a run happens once. Printed is text, or with `--json` one line of JSON.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import process from "node:process";
import { setImmediate } from "node:timers";
import { type Bucket, open, type OpenOptions, type Store, type StoreStats } from "../mod.ts";
import { runtime, temporaryFolder } from "./harness.ts";
import { ends, GROUP, KEY_BYTES, load, setAll, Workload } from "./workload.ts";

const KEYS = 200_000;
const VALUE_BYTES = 1_000;
const BURST = 16;
const IDLE_MS = 3_000;
const PASSES = 3;
const MIB = 1024 * 1024;
/** The most that `getSync` may take at its 99th percentile meanwhile, in units of what it takes at rest. */
const P99_MOST = 2;
const IO_COUNTS = "/proc/self/io";

/** What a reader noticed of one while: `getSync` in microseconds, turns of others in milliseconds. */
interface Noticed {
  readonly reads: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly turnP50Ms: number;
  readonly turnP99Ms: number;
  readonly turnMaxMs: number;
}

/** A store whose every second key, on average, was written twice. */
interface Loaded {
  readonly store: Store;
  readonly users: Bucket<Uint8Array>;
  readonly workload: Workload;
}

async function openLoaded(options: Pick<OpenOptions, "compaction">): Promise<Loaded> {
  const store = await open({ path: temporaryFolder(), sync: "os", compression: false, ...options });
  const users = store.bucket<Uint8Array>("users", { codec: "bytes" });
  const workload = new Workload(KEYS, VALUE_BYTES);
  await load(workload, users);
  for (let count = 0; count < KEYS / 2; count += GROUP) await setAll(users, workload.overwrites());
  return { store, users, workload };
}

async function close({ store, users, workload }: Loaded): Promise<StoreStats> {
  await workload.verify((key) => users.getSync(key));
  const stats = await store.stats();
  await store.close();
  return stats;
}

// --- the rate ---

async function measureRate(): Promise<{ readMibPerSecond: number; reclaimedMibPerSecond: number }> {
  const loaded = await openLoaded({ compaction: false });
  const started = performance.now();
  await loaded.store.compact();
  const seconds = (performance.now() - started) / 1_000;
  const stats = await close(loaded);
  return {
    readMibPerSecond: stats["compaction.readBytes"]! / MIB / seconds,
    reclaimedMibPerSecond: stats["compaction.reclaimedBytes"]! / MIB / seconds,
  };
}

// --- reads meanwhile ---

async function read({ users, workload }: Loaded, goesOn: () => boolean): Promise<Noticed> {
  const times: number[] = [];
  const turns: number[] = [];
  while (goesOn()) {
    for (let count = 0; count < BURST; count++) {
      const index = workload.uniform();
      const key = workload.key(index);
      const from = performance.now();
      const seen = ends(users.getSync(key));
      times.push(performance.now() - from);
      if (seen !== workload.endsOf(index)) throw new Error(`Cannot trust the figures: ${key} has another value`);
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

async function measureReads(): Promise<{ idle: Noticed; busy: Noticed; p99Ratio: number }> {
  const loaded = await openLoaded({ compaction: false });
  // The runtime compiles what the reader calls, and the cache takes its blocks.
  await read(loaded, soon());
  const idle = await read(loaded, soon());
  let done = false;
  const compaction = loaded.store.compact().finally(() => void (done = true));
  const busy = await read(loaded, () => !done);
  await compaction;
  await close(loaded);
  return { idle, busy, p99Ratio: busy.p99Us / idle.p99Us };
}

// --- what is written for a write ---

/** Bytes that this process has written to files; undefined where nobody counts. */
function writtenBytes(): number | undefined {
  if (!existsSync(IO_COUNTS)) return undefined;
  return Number(/^wchar: (\d+)$/m.exec(readFileSync(IO_COUNTS, "utf8"))?.[1]);
}

async function measureWrites(): Promise<{ writeAmplification: number; logMost: number; logAtLast: number }> {
  const loaded = await openLoaded({});
  const before = await settled(loaded.store);
  const counted = writtenBytes();
  const sets = PASSES * KEYS;
  let logBytesMost = 0;
  for (let count = 0; count < sets; count += GROUP) {
    await setAll(loaded.users, loaded.workload.overwrites());
    // Compaction works between turns, as it would beside a program that serves somebody.
    await new Promise<void>((resolve) => void setImmediate(resolve));
    logBytesMost = Math.max(logBytesMost, (await loaded.store.stats())["log.bytes"]!);
  }
  const after = await settled(loaded.store);
  const all = writtenBytes();
  const users = sets * (KEY_BYTES + VALUE_BYTES);
  const compacted = after["compaction.writtenBytes"]! - before["compaction.writtenBytes"]!;
  const written = all === undefined || counted === undefined ? users + compacted : all - counted;
  const stats = await close(loaded);
  const live = KEYS * (KEY_BYTES + VALUE_BYTES);
  return {
    writeAmplification: written / users,
    logMost: logBytesMost / live,
    logAtLast: stats["log.bytes"]! / live,
  };
}

/** The store's figures once compaction rests. */
async function settled(store: Store): Promise<StoreStats> {
  for (let quiet = 0;;) {
    const stats = await store.stats();
    quiet = stats["compaction.running"] === 0 ? quiet + 1 : 0;
    if (quiet === 3) return stats;
    await new Promise<void>((resolve) => setTimeout(resolve, 50));
  }
}

const { name, version } = runtime();
const reads = await measureReads();
const figures = {
  subject: "compaction",
  runtime: name,
  version,
  ...await measureRate(),
  ...reads,
  ...await measureWrites(),
};
if (process.argv.includes("--json")) {
  console.log(JSON.stringify(figures));
} else {
  const { readMibPerSecond, reclaimedMibPerSecond, p99Ratio, writeAmplification, logMost, logAtLast } = figures;
  console.log(`${name} ${version}`);
  console.log(`  reads ${readMibPerSecond.toFixed(0)} MiB/s, gives back ${reclaimedMibPerSecond.toFixed(0)} MiB/s`);
  for (const [when, noticed] of [["at rest", figures.idle], ["meanwhile", figures.busy]] as const) {
    const { reads, p50Us, p99Us, turnP50Ms, turnP99Ms, turnMaxMs } = noticed;
    const turns = [turnP50Ms, turnP99Ms, turnMaxMs].map((milliseconds) => milliseconds.toFixed(1)).join(", ");
    const times = `p50 ${p50Us.toFixed(1)} us, p99 ${p99Us.toFixed(1)} us`;
    console.log(`  ${when}: getSync ${times} (${reads} reads); turns of others p50, p99, longest: ${turns} ms`);
  }
  const verdict = p99Ratio <= P99_MOST ? "hit" : "missed";
  console.log(`  p99 of getSync, meanwhile / at rest: ${p99Ratio.toFixed(2)} (<= ${P99_MOST}: ${verdict})`);
  console.log(
    `  overwritten ${PASSES} times: ${writeAmplification.toFixed(2)} bytes are written for each byte that is set`,
  );
  console.log(`  the log is at most ${logMost.toFixed(2)} and at last ${logAtLast.toFixed(2)} times what lives in it`);
}
