/**
 * Opening a store by its hints: keys per second, the longest turn of the event loop meanwhile, and the first listing.
 *
 * An open happens once in the life of a process, so mitata, which repeats, is not for it: this is a script that times
 * single calls and prints what it found, with `--json` one line each.
 *
 * 1. Write sealed segments with keys of 21 bytes and values of 100: each key once, or a third of them once more in
 *    segments behind. `KEYS` in the environment says how many; two million without it.
 * 2. Open the store without hints, which makes them.
 * 3. Open it by them, in three rounds, and list a page from a random prefix each time. The pages of the disk are in the
 *    system's cache throughout.
 *
 * @module
 */
import process from "node:process";
import { fromHex, toHex } from "../lib/base/bytes.ts";
import { systemClock } from "../lib/base/clock.ts";
import { writeManifest } from "../lib/bitcask/manifest.ts";
import { encodeRecord, HEADER_BYTES, KIND } from "../lib/bitcask/record.ts";
import { SegmentWriter } from "../lib/bitcask/segment_writer.ts";
import { NodeFileSystem } from "../lib/fs/node.ts";
import { open, type Store } from "../mod.ts";
import { runtime, temporaryFolder } from "./harness.ts";
import { createRandom } from "./workload.ts";

const KEYS = Number(process.env["KEYS"] ?? 2_000_000);
const ROUNDS = 3;
const PAGE = 100;

const random = createRandom(7);
const value = Uint8Array.from({ length: 100 }, () => random(256));
const encoder = new TextEncoder();

function keyOf(index: number): Uint8Array {
  const bits = (Math.imul(index, 0x9e3779b1) >>> 0).toString(16).padStart(8, "0");
  return encoder.encode(`user:${bits}${String(index).padStart(8, "0")}`);
}

function tell(name: string, figures: Readonly<Record<string, number>>): void {
  const { name: runtimeName, version } = runtime();
  const rounded = Object.fromEntries(Object.entries(figures).map(([key, figure]) => [key, Number(figure.toFixed(2))]));
  if (process.argv.includes("--json")) {
    console.log(JSON.stringify({ subject: "open", runtime: runtimeName, version, name, ...rounded }));
  } else {
    console.log(name.padEnd(44), Object.entries(rounded).map(([key, figure]) => `${key} ${figure}`).join("  "));
  }
}

/** Writes sealed segments with all keys, and `again` of them a second time, drawn at random. */
async function write(path: string, again: number): Promise<void> {
  const fileSystem = new NodeFileSystem(path);
  fileSystem.makeDirectory();
  const store = "f1".repeat(16);
  const options = { fileSystem, clock: systemClock, storeId: fromHex(store)!, nextSegment: 1 };
  const writer = new SegmentWriter({ ...options, segmentBytesMax: 32 * 1024 * 1024 });
  const record = new Uint8Array(HEADER_BYTES + 21 + value.length);
  for (let index = 0; index < KEYS + again; index++) {
    const key = keyOf(index < KEYS ? index : random(KEYS));
    encodeRecord(record, 0, 0, { kind: KIND.set, bucket: 1, revision: index + 1, at: 1, key, value, content: 3 });
    if (!writer.hasRoom(record.length)) await writer.finish();
    writer.add(record);
  }
  const last = await writer.end(KEYS + again, 1);
  await writeManifest(fileSystem, {
    format: 1,
    store,
    epoch: toHex(new Uint8Array(8)),
    sync: "os",
    segments: [...writer.written.map(({ id }) => id), last],
    nextSegment: last + 1,
    buckets: ["users"],
    floor: 0,
    revision: KEYS + again,
    time: 1,
  });
}

/** Opens the store; the longest turn of the event loop meanwhile, in milliseconds. */
async function timedOpen(path: string): Promise<{ store: Store; milliseconds: number; turn: number }> {
  let turn = 0;
  let last = performance.now();
  let going = true;
  const look = (): void => {
    const now = performance.now();
    turn = Math.max(turn, now - last);
    last = now;
    if (going) setTimeout(look, 0);
  };
  setTimeout(look, 0);
  const started = performance.now();
  const store = await open({ path, sync: "os", compaction: false });
  const milliseconds = performance.now() - started;
  going = false;
  const { keys } = await store.stats();
  if (keys !== KEYS) throw new Error(`Cannot trust the figures: there are ${keys} keys`);
  return { store, milliseconds, turn };
}

async function page(store: Store): Promise<number> {
  const start = `user:${random(0xf0).toString(16).padStart(2, "0")}${random(0x100).toString(16).padStart(2, "0")}`;
  const started = performance.now();
  let last = start;
  let count = 0;
  for await (const { key } of store.bucket<Uint8Array>("users", { codec: "bytes" }).list({ start, limit: PAGE })) {
    if (String(key) < last) throw new Error(`Cannot trust the figures: ${String(key)} is listed after ${last}`);
    last = String(key);
    count++;
  }
  if (count !== PAGE) throw new Error(`Cannot trust the figures: a page has ${count} entries`);
  return performance.now() - started;
}

for (const [name, again] of [["", 0], [", a third written twice", Math.floor(KEYS / 2)]] as const) {
  const path = temporaryFolder();
  // Between two slices of a write nothing else is left to do.
  const hold = systemClock.hold();
  await write(path, again);
  hold.cancel();
  const records = KEYS + again;
  const { store, milliseconds, turn } = await timedOpen(path);
  tell(`open without hints${name}`, { milliseconds, nsPerRecord: milliseconds * 1e6 / records, turn });
  await store.close();
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage();
    const opened = await timedOpen(path);
    const { user, system } = process.cpuUsage(before);
    const first = await page(opened.store);
    const next = await page(opened.store);
    tell(`open by hints${name}`, {
      milliseconds: opened.milliseconds,
      nsPerRecord: opened.milliseconds * 1e6 / records,
      cpuNsPerRecord: (user + system) * 1e3 / records,
      turn: opened.turn,
      firstPage: first,
      nextPage: next,
    });
    await opened.store.close();
  }
}
