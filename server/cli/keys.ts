/**
 * The commands for keys: `firkin get | set | delete | take | increment | list | subscribe`.
 *
 * @module
 */
import process from "node:process";
import { buffer } from "node:stream/consumers";
import { type Command, InvalidArgumentError } from "commander";
import type { Entry } from "../../lib/store/bucket.ts";
import { EXIT, forPrograms, grouped, missing, note, type OutputFlags, plain, print, printTable } from "./output.ts";
import { examples, parseWhole, stopSignal, type TargetFlags, withBucket, withStore, withTarget } from "./targets.ts";

/** Rows of a table that are put in line together. */
const TABLE_ROWS = 500;

interface SetFlags extends TargetFlags {
  readonly ttl?: string;
  readonly ifRevision?: number;
  readonly text?: true;
  readonly once?: true;
}

interface ListFlags extends TargetFlags, OutputFlags {
  readonly prefix?: string;
  readonly start?: string;
  readonly end?: string;
  readonly reverse?: true;
  readonly limit: number;
}

interface SubscribeFlags extends TargetFlags {
  readonly prefix?: string;
  readonly from?: string;
  readonly snapshot?: true;
}

/** Adds the commands to the program; each action sets the exit code. */
export function addKeyCommands(firkin: Command, exit: (code: number) => void): void {
  addReading(firkin, exit);
  addWriting(firkin, exit);
}

function addReading(firkin: Command, exit: (code: number) => void): void {
  const get = firkin.command("get").description("print a value").argument("<bucket>").argument("<key>");
  examples(withTarget(get), "firkin get users ada", "firkin get images logo.png --data-dir ./data > logo.png")
    .action(async (bucket: string, key: string, flags: TargetFlags) => exit(await getCommand(bucket, key, flags)));

  const list = withTarget(firkin.command("list").description("print entries in key order").argument("<bucket>"))
    .option("--prefix <text>", "only keys that begin with this")
    .option("--start <key>", "first key")
    .option("--end <key>", "key to stop before")
    .option("--reverse", "from the last key to the first")
    .option("--limit <count>", "at most this many", parseWhole, 1_000)
    .option("--json", "one line of JSON for each, as when no person reads")
    .option("--no-json", "a table, as at a terminal");
  examples(list, "firkin list users --prefix a --limit 20", "firkin list users --json | jq .key")
    .action(async (bucket: string, flags: ListFlags) => exit(await listCommand(bucket, flags)));

  const subscribe = withTarget(
    firkin.command("subscribe").description("print changes as they happen, one line of JSON each").argument("[bucket]"),
  )
    .option("--prefix <text>", "only keys that begin with this")
    .option("--snapshot", "first what is there now")
    .option("--from <cursor>", "continue after this cursor");
  examples(subscribe, "firkin subscribe", "firkin subscribe sessions --snapshot | jq -c 'select(.type == \"expire\")'")
    .action(async (bucket: string | undefined, flags: SubscribeFlags) => exit(await subscribeCommand(bucket, flags)));
}

function addWriting(firkin: Command, exit: (code: number) => void): void {
  const set = withTarget(firkin.command("set").description("write a value").argument("<bucket>").argument("<key>"))
    .argument("<value>", "JSON, or else text; - reads standard input")
    .option("--ttl <duration>", "how long the key lives: 250ms, 30s, 5m, 2h, 7d")
    .option("--if-revision <revision>", "only if the key has this revision; 0: only if it is new", parseWhole)
    .option("--once", "single-read: the first get takes it")
    .option("--text", "keep the value as text, even if it is JSON");
  examples(
    set,
    `firkin set users ada '{"name":"Ada"}'`,
    "firkin set sessions ada /cart --ttl 30s",
    "firkin set notes long - < letter.txt",
  ).action(async (bucket: string, key: string, value: string, flags: SetFlags) =>
    exit(await setCommand(bucket, key, value, flags))
  );

  const remove = firkin.command("delete").description("delete a key").argument("<bucket>").argument("<key>");
  examples(withTarget(remove), "firkin delete users ada")
    .action(async (bucket: string, key: string, flags: TargetFlags) => {
      exit(
        await withBucket(flags, bucket, async (view) => {
          return (await view.delete(key)).ok ? EXIT.done : missing(bucket, key);
        }),
      );
    });

  const take = firkin.command("take").description("print a value and delete its key; of many who ask, one gets it")
    .argument("<bucket>").argument("<key>");
  examples(withTarget(take), "firkin take codes ada")
    .action(async (bucket: string, key: string, flags: TargetFlags) => {
      exit(
        await withBucket(flags, bucket, async (view) => {
          const value = await view.take(key);
          if (value === undefined) return missing(bucket, key);
          print(value);
          return EXIT.done;
        }),
      );
    });

  const increment = firkin.command("increment").description("add to a number and print the sum").argument("<bucket>")
    .argument("<key>").argument("[by]", "how much; 1 when absent, and -1 is written -- -1", parseNumber, 1);
  examples(withTarget(increment), "firkin increment counters visits", "firkin increment counters stock -- -3")
    .action(async (bucket: string, key: string, by: number, flags: TargetFlags) => {
      exit(
        await withBucket(flags, bucket, async (view) => {
          print(await view.increment(key, by));
          return EXIT.done;
        }, "make"),
      );
    });
}

async function getCommand(bucket: string, key: string, flags: TargetFlags): Promise<number> {
  return await withBucket(flags, bucket, async (view) => {
    const value = await view.get(key);
    if (value === undefined) return missing(bucket, key);
    print(value);
    return EXIT.done;
  });
}

async function setCommand(bucket: string, key: string, text: string, flags: SetFlags): Promise<number> {
  const input = text === "-" ? (await buffer(process.stdin)).toString("utf8") : text;
  return await withBucket(flags, bucket, async (view) => {
    const result = await view.set(key, flags.text === true ? input : parseValue(input), {
      ...(flags.ttl !== undefined && { ttl: flags.ttl }),
      ...(flags.ifRevision !== undefined && { ifRevision: flags.ifRevision }),
      ...(flags.once !== undefined && { once: flags.once }),
    });
    if (result.ok) return EXIT.done;
    note(`not set: ${bucket}/${key} is at revision ${result.current?.revision ?? 0}`);
    return EXIT.missing;
  }, "make");
}

async function listCommand(bucket: string, flags: ListFlags): Promise<number> {
  return await withBucket(flags, bucket, async (view) => {
    if (forPrograms(flags)) {
      for await (const entry of view.list(flags)) print(plain(entry));
      return EXIT.done;
    }
    let entries: Entry[] = [];
    for await (const entry of view.list(flags)) {
      if (entries.push(entry) < TABLE_ROWS) continue;
      printEntries(entries);
      entries = [];
    }
    printEntries(entries);
    return EXIT.done;
  });
}

function printEntries(entries: readonly Entry[]): void {
  if (entries.length === 0) return;
  printTable(
    ["KEY", "REVISION", "EXPIRES", "VALUE"],
    entries.map(({ key, value, revision, expiresAt, once }) => [
      typeof key === "string" ? key : JSON.stringify(plain(key)),
      grouped(revision),
      expiresAt === undefined ? "" : new Date(expiresAt).toISOString(),
      once === true ? "(single-read)" : typeof value === "string" ? value : JSON.stringify(plain(value)),
    ]),
  );
}

async function subscribeCommand(bucket: string | undefined, flags: SubscribeFlags): Promise<number> {
  return await withStore(flags, async (store) => {
    const options = {
      ...(flags.from !== undefined && { from: flags.from }),
      ...(flags.snapshot !== undefined && { snapshot: true }),
    };
    if (bucket === undefined && flags.prefix !== undefined) throw new TypeError("Cannot use --prefix without a bucket");
    const subscription = bucket === undefined
      ? store.subscribe(options)
      : store.bucket(bucket).subscribe({ ...options, ...(flags.prefix !== undefined && { prefix: flags.prefix }) });
    void stopSignal().then(() => subscription.close());
    for await (const event of subscription) print(plain(event));
    note(`cursor ${subscription.cursor}`);
    return EXIT.done;
  });
}

/** JSON when it is JSON, else the text itself. */
function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function parseNumber(text: string): number {
  const number = text.trim() === "" ? NaN : Number(text);
  if (!Number.isFinite(number)) throw new InvalidArgumentError("expected a number");
  return number;
}
