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
import { randomOf } from "../suites/embedded.ts";

/** One key of the golden store. */
export interface GoldenEntry {
  readonly bucket: string;
  /** In hexadecimal. */
  readonly key: string;
  readonly value: unknown;
  readonly revision: number;
  readonly expiresAt?: number;
}

/** What stands in a golden store's `expected.json`. */
export interface Golden {
  /** The store's time when it was closed. */
  readonly time: number;
  readonly entries: readonly GoldenEntry[];
}

/** Overwrites, deletes, deadlines that passed and not, compressed and empty values, odd keys, over a dozen segments. */
async function make(folder: string): Promise<Golden> {
  const clock = new ManualClock(1_800_000_000_000, 7);
  const store = await open({ path: folder, clock, segmentBytesMax: 4_096, compaction: { deadRatio: 0.6 } });
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
    if (random(6) === 0) {
      await bucket.delete(key);
      entries.delete(place);
    } else {
      const result = await bucket.set(key, value, ttl === undefined ? {} : { ttl });
      if (!result.ok) throw new Error("a set without a condition happens");
      const deadline = ttl === undefined ? {} : { expiresAt: clock.wall() + ttl };
      entries.set(place, { bucket: name, key: hex, value, revision: result.revision, ...deadline });
    }
    clock.advance(random(5));
    for (const [other, { expiresAt = Infinity }] of entries) if (expiresAt <= clock.wall()) entries.delete(other);
  }
  await store.close();
  return { time: clock.wall(), entries: [...entries.values()] };
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("Cannot make a golden store: give a folder that does not exist");
const golden = await make(folder);
writeFileSync(join(folder, "expected.json"), `${JSON.stringify(golden, null, 2)}\n`);
