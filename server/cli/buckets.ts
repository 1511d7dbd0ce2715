/**
 * The commands for buckets: `firkin bucket list | create | settings`, of a server or of a folder.
 *
 * @module
 */
import process from "node:process";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { BucketSettings } from "../../lib/engine/settings.ts";
import { milliseconds } from "../../lib/store/bucket.ts";
import { checkBucketName, type Store } from "../../lib/store/store.ts";
import type { TaggedBucket } from "../admin.ts";
import { bytes, EXIT, forPrograms, grouped, note, type OutputFlags, printTable } from "./output.ts";
import { examples, parseWhole, type TargetFlags, withStore, withTarget } from "./targets.ts";

/** What says that a bucket is to have no such setting. */
const NONE = "none";

/** Flags of what changes settings. */
interface SettingFlags extends TargetFlags, OutputFlags {
  readonly ttl?: number | typeof NONE;
  readonly valueMax?: number | typeof NONE;
  readonly compression?: boolean;
  readonly description?: string;
}

/** Adds the commands to the program; each action sets the exit code. */
export function addBucketCommands(firkin: Command, exit: (code: number) => void): void {
  const bucket = firkin.command("bucket").description("list buckets, make one, and say what holds for its keys");
  const list = withOutput(bucket.command("list").description("print every bucket, how much is in it, its settings"));
  examples(list, "firkin bucket list", "firkin bucket list --json --data-dir ./data | jq .keys")
    .action(async (flags: TargetFlags & OutputFlags) => exit(await withBuckets(flags, (all) => print(all, flags))));

  const create = withSettings(bucket.command("create").description("make a bucket; a first key would, too"));
  examples(create, "firkin bucket create sessions --ttl 30m --description 'who is signed in'")
    .action(async (name: string, flags: SettingFlags) => exit(await createCommand(name, flags)));

  const settings = withOutput(withSettings(
    bucket.command("settings").description("print the settings of a bucket, or change those that are given"),
  ));
  examples(settings, "firkin bucket settings sessions", "firkin bucket settings sessions --ttl 1h --value-max none")
    .action(async (name: string, flags: SettingFlags) => exit(await settingsCommand(name, flags)));
}

function withOutput(command: Command): Command {
  return withTarget(command).option("--json", "one line of JSON for each, as when no person reads")
    .option("--no-json", "a table, as at a terminal");
}

function withSettings(command: Command): Command {
  if (command.name() === "create") withTarget(command);
  return command.argument("<bucket>")
    .option("--ttl <duration>", "how long a key lives that is set without a deadline: 30s, 5m, 7d; or none", parseTtl)
    .option("--value-max <bytes>", "the largest value that is taken, or none", parseBytes)
    .addOption(new Option("--compression <on|off>", "compress long values").argParser(parseSwitch))
    .option("--description <text>", "a line for people");
}

// --- actions ---

async function createCommand(name: string, flags: SettingFlags): Promise<number> {
  checkBucketName(name);
  return await withBuckets(flags, async (all, configure) => {
    if (all.some((one) => one.name === name)) {
      note(`there is a bucket ${name}: firkin bucket settings changes it`);
      return EXIT.missing;
    }
    await configure(name, changed({}, flags), { "if-none-match": "*" });
    return EXIT.done;
  }, "make");
}

async function settingsCommand(name: string, flags: SettingFlags): Promise<number> {
  return await withBuckets(flags, async (all, configure) => {
    const bucket = all.find((one) => one.name === name);
    if (bucket === undefined) {
      note(`no bucket ${name}: firkin bucket create makes one`);
      return EXIT.missing;
    }
    const settings = changed(bucket.settings ?? {}, flags);
    const isAsked = [flags.ttl, flags.valueMax, flags.compression, flags.description].every((one) => one === undefined);
    if (isAsked) return print([bucket], flags);
    await configure(name, settings, bucket.etag === undefined ? {} : { "if-match": bucket.etag });
    return EXIT.done;
  });
}

/** Settings with what the flags say. */
function changed(before: BucketSettings, flags: SettingFlags): BucketSettings {
  const { ttl, valueMax, compression, description } = flags;
  const wanted = {
    ttl: ttl === NONE ? undefined : ttl ?? before.ttl,
    valueBytesMax: valueMax === NONE ? undefined : valueMax ?? before.valueBytesMax,
    compression: compression === undefined ? before.compression : compression ? undefined : false,
    description: description === undefined ? before.description : description || undefined,
  };
  return Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
}

/** A server is told what is to be replaced, since others may change it meanwhile; a folder is this command's alone. */
type Configure = (name: string, settings: BucketSettings, condition: Record<string, string>) => Promise<void>;

/** Runs `use` with the buckets of the store, by name, and what changes their settings. */
async function withBuckets(
  flags: TargetFlags,
  use: (all: readonly TaggedBucket[], configure: Configure) => number | Promise<number>,
  ifMissing: "make" | "refuse" = "refuse",
): Promise<number> {
  if (flags.dataDir !== undefined) {
    return await withStore(flags, async (store) => {
      return await use(await bucketsOf(flags, store), (name, settings) => store.configure(name, settings));
    }, ifMissing);
  }
  const { askServer } = await import("./remote.ts");
  return await use(await bucketsOf(flags), (name, settings, condition) => {
    return askServer(flags, "PUT", `/v1/admin/buckets/${name}`, settings, condition);
  });
}

/** The buckets of a folder that is open, or of a server, by name. */
export async function bucketsOf(flags: TargetFlags, store?: Store): Promise<readonly TaggedBucket[]> {
  if (flags.dataDir !== undefined) {
    return await store!.buckets();
  }
  const { askServer } = await import("./remote.ts");
  return (await askServer<{ buckets: TaggedBucket[] }>(flags, "GET", "/v1/buckets")).buckets;
}

// --- words ---

function print(all: readonly TaggedBucket[], flags: OutputFlags): number {
  if (forPrograms(flags)) {
    process.stdout.write(all.map((bucket) => `${JSON.stringify({ ...bucket, etag: undefined })}\n`).join(""));
    return EXIT.done;
  }
  printTable(
    ["BUCKET", "KEYS", "BYTES", "TTL", "VALUE MAX", "COMPRESSION", "DESCRIPTION"],
    all.map(({ name, keys, bytes: size, settings = {} }) => [
      name,
      keys === undefined ? "" : grouped(keys),
      size === undefined ? "" : bytes(size),
      settings.ttl === undefined ? "none" : durationOf(settings.ttl),
      settings.valueBytesMax === undefined ? "none" : bytes(settings.valueBytesMax),
      settings.compression === false ? "off" : "on",
      settings.description ?? "",
    ]),
  );
  return EXIT.done;
}

/** `30m`, in the largest unit that it is whole in. */
function durationOf(ttl: number): string {
  const units = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1_000]] as const;
  const [unit, size] = units.find(([, size]) => ttl % size === 0) ?? ["ms", 1];
  return `${ttl / size}${unit}`;
}

// --- flags ---

function parseTtl(text: string): number | typeof NONE {
  if (text === NONE) return text;
  try {
    return Math.ceil(milliseconds(text));
  } catch {
    throw new InvalidArgumentError("expected 250ms, 30s, 5m, 2h, 7d or none");
  }
}

function parseBytes(text: string): number | typeof NONE {
  return text === NONE ? text : parseWhole(text);
}

function parseSwitch(text: string): boolean {
  if (text !== "on" && text !== "off") throw new InvalidArgumentError("expected on or off");
  return text === "on";
}
