/**
 * A process that writes key after key and says of each that it was acknowledged: `writer.ts <folder> <policy> <count>`.
 *
 * Key, and what is said of it, can be found in the data of its system calls: `key-0007`, `acknowledged key-0007`. At
 * last it syncs and says `synced`. With `take` after the count it takes each key too, and says `took key-0007`.
 *
 * @module
 */
import { writeSync } from "node:fs";
import process from "node:process";
import type { SyncPolicy } from "../../lib/bitcask/log.ts";
import { open } from "../../lib/store/open.ts";

const [, , folder = "", sync = "always", count = "1", then = ""] = process.argv;

function say(line: string): void {
  writeSync(1, new TextEncoder().encode(`${line}\n`));
}

const store = await open({ path: folder, sync: sync as SyncPolicy, segmentBytesMax: 4_096, compression: false });
const bucket = store.bucket<string>("b", { codec: "text" });
for (let number = 0; number < Number(count); number++) {
  const key = `key-${String(number).padStart(4, "0")}`;
  await bucket.set(key, "v".repeat(300));
  say(`acknowledged ${key}`);
  if (then === "take" && await bucket.take(key) !== undefined) say(`took ${key}`);
}
await store.sync();
say("synced");
await store.close();
