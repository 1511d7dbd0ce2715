/**
 * A million keys: how long an open takes, by hints and without, and the first page of a listing after it.
 *
 * Each of these happens once in the life of a process, so mitata, which repeats, is not for them: this is a script that
 * times single calls and prints what it found, with `--json` one line each.
 *
 * 1. Fill a store with a million keys of 21 bytes and values of 100, a hundredth of them with deadlines; close it.
 * 2. Open it by its hints, three times; without them, once; the longest turn of the event loop meanwhile.
 * 3. After an open list 100 entries from a random prefix: the first page, and the later ones. The pages of the disk are
 *    in the system's cache throughout: cold is the store's own.
 * 4. Overwrite a tenth of the keys, while hints are made, and list again.
 *
 * @module
 */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Bucket, open, type Store } from "../mod.ts";
import { runtime, temporaryFolder } from "./harness.ts";
import { createRandom, GROUP, Workload } from "./workload.ts";

const KEYS = 1_000_000;
const PAGE = 100;
const PAGES = 300;

const random = createRandom(7);
const workload = new Workload(KEYS);

function tell(name: string, figures: Readonly<Record<string, number>>): void {
  const { name: runtimeName, version } = runtime();
  const rounded = Object.fromEntries(Object.entries(figures).map(([key, figure]) => [key, Number(figure.toFixed(2))]));
  if (process.argv.includes("--json")) {
    console.log(JSON.stringify({ subject: "list", runtime: runtimeName, version, name, ...rounded }));
  } else {
    console.log(name.padEnd(44), Object.entries(rounded).map(([key, figure]) => `${key} ${figure}`).join("  "));
  }
}

/** What `work` takes, and the longest turn of the event loop meanwhile, in milliseconds. */
async function timed<Result>(
  work: () => Promise<Result>,
): Promise<{ result: Result; milliseconds: number; turn: number }> {
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
  const result = await work();
  const milliseconds = performance.now() - started;
  turn = Math.max(turn, performance.now() - last);
  going = false;
  return { result, milliseconds, turn };
}

async function page(users: Bucket<Uint8Array>, start: string): Promise<number> {
  const started = performance.now();
  let count = 0;
  let last = start;
  for await (const { key } of users.list({ start, limit: PAGE })) {
    if (String(key) < last) throw new Error(`Cannot trust the figures: ${String(key)} is listed after ${last}`);
    last = String(key);
    count++;
  }
  if (count !== PAGE) throw new Error(`Cannot trust the figures: a page has ${count} entries`);
  return performance.now() - started;
}

function prefix(): string {
  return `user:${random(0xf0).toString(16).padStart(2, "0")}${random(0x100).toString(16).padStart(2, "0")}`;
}

async function pages(users: Bucket<Uint8Array>, name: string): Promise<void> {
  const times: number[] = [];
  for (let count = 0; count < PAGES; count++) times.push(await page(users, prefix()));
  const [first] = times;
  times.sort((left, right) => left - right);
  tell(name, { first: first!, median: times[times.length >> 1]!, max: times.at(-1)! });
}

async function verify(store: Store): Promise<void> {
  const { keys } = await store.stats();
  if (keys !== KEYS) throw new Error(`Cannot trust the figures: there are ${keys} keys`);
}

const path = temporaryFolder();
const options = { path, sync: "os", compaction: false } as const;
const usersOf = (store: Store): Bucket<Uint8Array> => store.bucket<Uint8Array>("users", { codec: "bytes" });

async function write(store: Store, indexes: readonly number[]): Promise<void> {
  const users = usersOf(store);
  for (let from = 0; from < indexes.length; from += GROUP) {
    const group = indexes.slice(from, from + GROUP);
    await Promise.all(group.map((index) => {
      const { key, value } = workload.write(index);
      return users.set(key, value, index % 100 === 0 ? { ttl: "7d" } : {});
    }));
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

const filling = await timed(async () => {
  const store = await open(options);
  await write(store, Array.from({ length: KEYS }, (_, index) => index));
  await store.close();
});
tell("fill and close", { milliseconds: filling.milliseconds, turn: filling.turn });

for (let round = 0; round < 3; round++) {
  const { result: store, milliseconds, turn } = await timed(() => open(options));
  await verify(store);
  tell("open by hints", { milliseconds, turn });
  if (round === 2) {
    await pages(usersOf(store), "page of 100 from a random prefix, cold");
    await pages(usersOf(store), "page of 100 from a random prefix, warm");
    const { "memory.orderBytes": order, "memory.keydirBytes": keydir } = await store.stats();
    tell("memory per key, bytes", { order: order! / KEYS, keydir: keydir! / KEYS });
  }
  await store.close();
}

for (const name of readdirSync(path).filter((file) => file.endsWith(".hint"))) rmSync(join(path, name));
const { result: store, milliseconds, turn } = await timed(() => open(options));
await verify(store);
tell("open without hints, which makes them", { milliseconds, turn });
await pages(usersOf(store), "page of 100, after that");
const overwriting = await timed(() => write(store, Array.from({ length: KEYS / 10 }, () => random(KEYS))));
tell("overwrite a tenth", { milliseconds: overwriting.milliseconds, turn: overwriting.turn });
await pages(usersOf(store), "page of 100, after that");
await workload.verify((key) => usersOf(store).getSync(key));
await store.close();
