/**
 * The commands for a store as a whole, on a server or in a folder: `firkin stats | compact`.
 *
 * @module
 */
import process from "node:process";
import type { Command } from "commander";
import type { Store, StoreStats } from "../../lib/store/store.ts";
import { bucketsOf } from "./buckets.ts";
import { bytes, EXIT, forPrograms, grouped, type OutputFlags, styled } from "./output.ts";
import { examples, type TargetFlags, withStore, withTarget } from "./targets.ts";

/** Adds the commands to the program; each action sets the exit code. */
export function addWholeCommands(firkin: Command, exit: (code: number) => void): void {
  const stats = withTarget(firkin.command("stats").description("print the figures of a store, and of its server"))
    .option("--json", "one line of JSON, as when no person reads").option("--no-json", "a list, as at a terminal");
  examples(stats, "firkin stats", "firkin stats --json --data-dir ./data | jq '.[\"log.deadBytes\"]'")
    .action(async (flags: TargetFlags & OutputFlags) => {
      exit(
        await withStore(flags, async (store) => {
          const figures = { ...await store.stats(), ...await sizesOf(flags, store) };
          process.stdout.write(forPrograms(flags) ? `${JSON.stringify(figures)}\n` : listOf(figures));
          return EXIT.done;
        }),
      );
    });

  const compact = firkin.command("compact").description("rewrite the log without its dead records, now");
  examples(withTarget(compact), "firkin compact", "firkin compact --data-dir ./data").action(
    async (flags: TargetFlags) => {
      exit(
        await withStore(flags, async (store) => {
          const before = await store.stats();
          await store.compact();
          const after = await store.stats();
          process.stdout.write(`${bytes(before["log.bytes"]!)} before, ${bytes(after["log.bytes"]!)} after\n`);
          return EXIT.done;
        }),
      );
    },
  );
}

/** Keys and bytes of each bucket. */
async function sizesOf(flags: TargetFlags, store: Store): Promise<StoreStats> {
  const buckets = await bucketsOf(flags, store);
  return Object.fromEntries(buckets.flatMap(({ name, keys, bytes }) => {
    return keys === undefined || bytes === undefined
      ? []
      : [[`bucket.${name}.keys`, keys], [`bucket.${name}.bytes`, bytes]];
  }));
}

/** One line each. */
function listOf(figures: StoreStats): string {
  const width = Math.max(...Object.keys(figures).map((name) => name.length));
  return Object.entries(figures).map(([name, value]) => {
    const shown = /bytes/i.test(name) ? bytes(value) : Number.isInteger(value) ? grouped(value) : value.toFixed(2);
    return `${name.padEnd(width)}  ${styled("bold", shown)}\n`;
  }).join("");
}
