/**
 * `firkin bench`: how fast this store sets, gets and deletes, from where the command runs, with this disk and network.
 *
 * So many requests are on the way at a time, each timed from its call to its answer. The keys are in a bucket of their
 * own and gone at the end. What a comparison with others takes is in `npm run bench`.
 *
 * @module
 */
import process from "node:process";
import type { Command } from "commander";
import { Histogram } from "../../lib/base/histogram.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import { EXIT, forPrograms, grouped, type OutputFlags, printTable } from "./output.ts";
import { examples, parseWhole, type TargetFlags, withBucket, withTarget } from "./targets.ts";

interface BenchFlags extends TargetFlags, OutputFlags {
  readonly bucket: string;
  readonly count: number;
  readonly depth: number;
  readonly bytes: number;
}

/** What one kind of request came to. */
interface Measured {
  readonly operation: string;
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** Adds the command to the program; its action sets the exit code. */
export function addBenchCommand(firkin: Command, exit: (code: number) => void): void {
  const command = withTarget(firkin.command("bench").description("measure sets, gets and deletes on this store"))
    .option("--bucket <name>", "where the keys are set, and deleted at the end", "firkin-bench")
    .option("--count <requests>", "of each kind", parseWhole, 20_000)
    .option("--depth <requests>", "on the way at a time", parseWhole, 64)
    .option("--bytes <bytes>", "of each value", parseWhole, 100)
    .option("--json", "one line of JSON, as when no person reads").option("--no-json", "a table, as at a terminal");
  examples(command, "firkin bench", "firkin bench --data-dir ./scratch --depth 1 --count 1000")
    .action(async (flags: BenchFlags) => {
      if (flags.depth < 1 || flags.count < 1) {
        throw new RangeError("Cannot measure without a request: raise --depth and --count");
      }
      exit(await withBucket(flags, flags.bucket, (bucket) => bench(bucket, flags), "make"));
    });
}

async function bench(bucket: Bucket, flags: BenchFlags): Promise<number> {
  const value = "x".repeat(flags.bytes);
  const results = [
    await measure("set", flags, (key) => bucket.set(key, value)),
    await measure("get", flags, (key) => bucket.get(key)),
    await measure("delete", flags, (key) => bucket.delete(key)),
  ];
  if (forPrograms(flags)) process.stdout.write(`${JSON.stringify(results)}\n`);
  else {
    const rows = results.map(({ operation, perSecond, p50Us, p99Us }) => {
      return [operation, grouped(perSecond), `${grouped(p50Us)} µs`, `${grouped(p99Us)} µs`];
    });
    printTable(["OPERATION", "PER SECOND", "MEDIAN", "P99"], rows);
  }
  return EXIT.done;
}

/** Asks for every key once, `depth` at a time. */
async function measure(
  operation: string,
  { count, depth }: BenchFlags,
  ask: (key: string) => Promise<unknown>,
): Promise<Measured> {
  const histogram = new Histogram();
  let next = 0;
  const run = async (): Promise<void> => {
    while (next < count) {
      const key = `key ${next++}`;
      const askedAt = performance.now();
      await ask(key);
      histogram.record(performance.now() - askedAt, 1);
    }
  };
  const beganAt = performance.now();
  await Promise.all(Array.from({ length: Math.min(depth, count) }, run));
  const perSecond = count / ((performance.now() - beganAt) / 1_000);
  return { operation, perSecond, p50Us: histogram.quantile(0.5), p99Us: histogram.quantile(0.99) };
}
