/**
 * A process that works on a store until it is killed: `victim.ts <order as JSON>`.
 *
 * What it does follows from the order alone (`workOf`), so that who killed it knows what it may have done. It says one
 * line for each thing that was acknowledged, after it: `ready`, `done <kind>`, `took <value>`, `heard <event>`.
 *
 * `killAt` names a call of its file system, for example `sync 7`, `rename 2 after` or `write 9 half`: there it kills
 * itself.
 *
 * @module
 */
import { writeSync } from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { ManualClock } from "../../lib/base/clock.ts";
import type { SyncPolicy } from "../../lib/bitcask/log.ts";
import type { File, FileSystem } from "../../lib/fs/fs.ts";
import { NodeFileSystem } from "../../lib/fs/node.ts";
import type { AtomicSetOptions } from "../../lib/store/atomic.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { randomOf } from "../suites/random.ts";

/** What a victim is told to do. */
export interface Order {
  readonly folder: string;
  readonly sync: SyncPolicy;
  /** Of what it does. */
  readonly seed: number;
  /** When it begins, epoch milliseconds: deadlines are counted from here. */
  readonly base: number;
  readonly killAt: string;
  /** It only opens the store, and dies at the latest when that is done. */
  readonly openOnly: boolean;
  readonly retentionMs: number;
  /** Where its subscriber goes on; "" for a new one. */
  readonly cursor: string;
}

/** Works on the way at a time. */
export const LANES = 16;

/** One change of one key. */
export interface Work {
  readonly key: string;
  /** Undefined: the key is deleted. */
  readonly value: string | undefined;
  readonly expiresAt: number | undefined;
  /** It is single-read. */
  readonly once: boolean;
}

/** Changes that happen all or not at all; a take reads and deletes one key. */
export interface Step {
  readonly kind: "write" | "batch" | "take";
  readonly works: readonly Work[];
}

/** Few keys, so that there is something to compact. */
const KEYS = 40;

/** More than the value's first bytes is needed to tell that it is whole. */
const NOISE = String.fromCharCode(...new ManualClock().random(new Uint8Array(12_000)).map((byte) => 97 + byte % 26));

/** What an order comes to, without end. */
export function* workOf({ seed, base }: Pick<Order, "seed" | "base">): Generator<Step, never> {
  const random = randomOf(seed);
  let number = 0;
  const work = (): Work => {
    const key = `k${random(KEYS)}`;
    const bytes = random(25) === 0 ? 3_000 + random(9_000) : random(600);
    const value = `${seed}.${number}:`.concat(NOISE.slice(0, bytes));
    const kind = random(9);
    const once = kind > 6;
    number++;
    if (kind < 2) return { key, value: undefined, expiresAt: undefined, once: false };
    if (kind === 2) return { key, value, expiresAt: base + random(600), once };
    if (kind === 3) return { key, value, expiresAt: base + 3_600_000 + number, once };
    return { key, value, expiresAt: undefined, once };
  };
  for (;;) {
    const kind = random(32);
    if (kind < 4) {
      const works = Array.from({ length: 2 + random(3) }, work);
      yield { kind: "batch", works };
    } else if (kind === 4) {
      yield { kind: "take", works: [{ key: `k${random(KEYS)}`, value: undefined, expiresAt: undefined, once: false }] };
    } else yield { kind: "write", works: [work()] };
  }
}

function say(line: string): void {
  const bytes = new TextEncoder().encode(`${line}\n`);
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      // The pipe is full, and does not wait.
      if ((error as { code?: unknown }).code !== "EAGAIN") throw error;
    }
  }
}

function die(): void {
  process.kill(process.pid, "SIGKILL");
}

/** The folder, with a place at which the process dies. */
function deadly(inner: FileSystem, killAt: string): FileSystem {
  const [wanted, number, when] = killAt.split(" ");
  let count = 0;
  const at = (action: string, call: () => void, half?: () => void): void => {
    const now = action === wanted && ++count === Number(number);
    if (now && when === "half") half?.();
    if (now && when !== "after") die();
    call();
    if (now) die();
  };
  const wrap = (file: File): File => ({
    read: (target, position, start, end) => file.read(target, position, start, end),
    size: () => file.size(),
    close: () => file.close(),
    write: (source, position) =>
      at(
        "write",
        () => file.write(source, position),
        () => file.write(source.subarray(0, source.length >> 1), position),
      ),
    truncate: (size) => at("truncate", () => file.truncate(size)),
    sync: async () => {
      at("sync", () => {});
      await file.sync();
    },
  });
  return {
    path: inner.path,
    makeDirectory: () => inner.makeDirectory(),
    lock: () => inner.lock(),
    inspect: () => inner.inspect(),
    list: () => inner.list(),
    open: (name, mode) => {
      let file!: File;
      at(mode, () => file = wrap(inner.open(name, mode)));
      return file;
    },
    rename: (source, target) => at("rename", () => inner.rename(source, target)),
    remove: (name) => at("remove", () => inner.remove(name)),
    discard: async (name) => {
      at("remove", () => {});
      await inner.discard(name);
    },
    syncDirectory: async () => {
      at("syncDirectory", () => {});
      await inner.syncDirectory();
    },
  };
}

async function listen(store: Store, cursor: string): Promise<void> {
  const subscription = store.subscribe(cursor === "" ? { snapshot: true } : { from: cursor });
  for await (const event of subscription) {
    if ("cursor" in event) say(`heard ${JSON.stringify({ type: event.type, cursor: event.cursor })}`);
    else {
      const { type, key, revision, value, at } = event;
      say(`heard ${JSON.stringify({ type, key, revision, value, at, cursor: subscription.cursor })}`);
    }
    if (event.type === "resync") return await listen(store, "");
  }
}

function given({ expiresAt, once }: Pick<Work, "expiresAt" | "once">): AtomicSetOptions {
  return expiresAt === undefined ? { once } : { once, expiresAt };
}

async function work(store: Store, order: Order): Promise<void> {
  const bucket = store.bucket<string>("b", { codec: "text" });
  const steps = workOf(order);
  const lane = async (): Promise<never> => {
    for (;;) {
      const { kind, works: changes } = steps.next().value;
      if (kind === "take") {
        const taken = await bucket.take(changes[0]!.key);
        if (taken !== undefined) say(`took ${taken}`);
      } else if (kind === "batch") {
        const batch = store.atomic();
        for (const { key, value, ...options } of changes) {
          if (value === undefined) batch.delete(bucket, key);
          else batch.set(bucket, key, value, given(options));
        }
        await batch.commit();
      } else {
        const { key, value, ...options } = changes[0]!;
        if (value === undefined) await bucket.delete(key);
        else await bucket.set(key, value, given(options));
      }
      say(`done ${kind}`);
    }
  };
  const compactor = async (): Promise<never> => {
    for (;;) {
      await store.compact();
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
  };
  await Promise.all([...Array.from({ length: LANES }, lane), compactor()]);
}

async function main(order: Order): Promise<void> {
  const store = await open({
    path: order.folder,
    fileSystem: deadly(new NodeFileSystem(order.folder), order.killAt),
    sync: order.sync,
    syncIntervalMs: 20,
    segmentBytesMax: 32_768,
    compaction: { deadRatio: 0.3 },
    compression: { bytesMin: 300 },
    tombstoneRetention: order.retentionMs,
  });
  say("ready");
  if (order.openOnly) die();
  await Promise.all([listen(store, order.cursor), work(store, order)]);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(JSON.parse(process.argv[2]!) as Order);
}
