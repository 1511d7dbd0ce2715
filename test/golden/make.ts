/**
 * Makes the golden store of today's format: `bun test/golden/make.ts test/golden/<name>`.
 *
 * Once for each version of the format, and once more when reserved kinds or flags get their meaning; never again over
 * one that is there. What it must hold is written down from the calls, not read back from the store.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { toHex } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { open } from "../../lib/store/open.ts";
import { randomOf } from "../suites/random.ts";

/** One key of the golden store. */
export interface GoldenEntry {
  readonly bucket: string;
  /** In hexadecimal. */
  readonly key: string;
  /** Absent when the key is single-read. */
  readonly value?: unknown;
  readonly revision: number;
  readonly expiresAt?: number;
  readonly once?: true;
}

/** What stands in a golden store's `expected.json`. */
export interface Golden {
  /** The store's time when it was closed. */
  readonly time: number;
  readonly entries: readonly GoldenEntry[];
}

/**
 * Overwrites, deletes, deadlines that passed and not, batches, takes, single-read keys, compressed and empty values,
 * odd keys, over a dozen segments.
 */
async function make(folder: string): Promise<Golden> {
  const clock = new ManualClock(1_800_000_000_000, 7);
  const store = await open({
    path: folder,
    clock,
    segmentBytesMax: 4_096,
    reserveBytes: 0,
    compaction: { deadRatio: 0.6 },
  });
  const entries = new Map<string, GoldenEntry>();
  const random = randomOf(11);
  const keys = ["a", "ab", "__proto__", "é", "k".repeat(300), Uint8Array.of(0xff, 0), Uint8Array.of(0)];
  for (let step = 0; step < 260; step++) {
    const name = random(3) === 0 ? "notes" : "users";
    const bucket = store.bucket<string>(name, { codec: name === "notes" ? "text" : "cbor" });
    const key = keys[random(keys.length)]!;
    const hex = toHex(typeof key === "string" ? new TextEncoder().encode(key) : key);
    const place = `${name}/${hex}`;
    const value = `${step} `.repeat(random(6) === 0 ? 500 : random(30));
    const ttl = random(4) === 0 ? 20 + random(60) : random(4) === 0 ? 10_000_000 : undefined;
    const deadline = ttl === undefined ? {} : { expiresAt: clock.wall() + ttl };
    const kind = random(12);
    if (kind < 2) {
      await bucket.delete(key);
      entries.delete(place);
    } else if (kind === 2) {
      await bucket.take(key);
      entries.delete(place);
    } else if (kind === 3) {
      const other = store.bucket<string>("batches");
      const result = await store.atomic().set(bucket, key, value).set(other, "last", `${step}`).commit();
      if (!result.ok) throw new Error("a batch without a check happens");
      entries.set(place, { bucket: name, key: hex, value, revision: result.revision - 1 });
      const last = toHex(new TextEncoder().encode("last"));
      entries.set("batches/last", { bucket: "batches", key: last, value: `${step}`, revision: result.revision });
    } else {
      const once = kind === 4;
      const result = await bucket.set(key, value, { once, ...(ttl === undefined ? {} : { ttl }) });
      if (!result.ok) throw new Error("a set without a condition happens");
      const shown = once ? { once } : { value };
      entries.set(place, { bucket: name, key: hex, ...shown, revision: result.revision, ...deadline } as GoldenEntry);
    }
    clock.advance(random(5));
    for (const [other, { expiresAt = Infinity }] of entries) if (expiresAt <= clock.wall()) entries.delete(other);
  }
  const closing = store.close();
  let closed = false;
  void closing.finally(() => closed = true);
  // Compaction waits for turns of the clock, the disk for turns of the event loop.
  while (!closed) {
    clock.advance(0);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await closing;
  return { time: clock.wall(), entries: [...entries.values()] };
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("Cannot make a golden store: give a folder that does not exist");
const golden = await make(folder);
writeFileSync(join(folder, "expected.json"), `${JSON.stringify(golden, null, 2)}\n`);
