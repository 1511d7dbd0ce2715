/**
 * The commands for a folder that no process has open: `firkin verify | repair | snapshot | restore`. A snapshot can be
 * asked of a server, too.
 *
 * Results go to standard output, as lines for people or, with `--json`, as one line of JSON. Exit codes: 0 sound, or
 * done; 1 damage was found and is still there; 2 wrong usage; 3 anything else.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { Command } from "commander";
import { decodeText } from "../lib/base/bytes.ts";
import { MANIFEST_NAME } from "../lib/bitcask/manifest.ts";
import type { Repair } from "../lib/bitcask/repair.ts";
import type { Damage, RevisionGap, Verification } from "../lib/bitcask/verify.ts";
import { open } from "../lib/store/open.ts";
import { repair, restore, verify } from "../lib/store/upkeep.ts";
import { examples, type TargetFlags, withServer } from "./cli/targets.ts";
import type { ServerSnapshot } from "./snapshots.ts";

const SOUND = 0;
const DAMAGED = 1;

/** A server is asked this often whether it is done. */
const ASK_EVERY_MS = 200;
/** Keys of a damaged place that a line names; `--json` has all. */
const KEYS_SHOWN = 5;

interface Flags {
  readonly json?: true;
}

/** Adds the commands to the program; each action sets the exit code. */
export function addUpkeepCommands(firkin: Command, exit: (code: number) => void): void {
  const add = (name: string, description: string): Command =>
    firkin.command(name).description(description).option("--json", "print one line of JSON");

  examples(add("verify", "read every byte of a store and say what is damaged; changes nothing"), "firkin verify ./data")
    .argument("<folder>")
    .action(async (folder: string, flags: Flags) => exit(await verifyCommand(folder, flags)));

  const aside = "keep what is sound of a damaged store, and set the rest aside";
  examples(add("repair", aside), "firkin repair ./data", "firkin repair ./data --yes").argument("<folder>")
    .option("--yes", "do it; else only say what is damaged")
    .action(async (folder: string, flags: Flags & { yes?: true }) => {
      exit(flags.yes === true ? await repairCommand(folder, flags) : await verifyCommand(folder, flags));
    });

  examples(
    withServer(
      add("snapshot", "copy a store as it is now: of a folder into a new one, or a server's where it keeps them"),
    ),
    "firkin snapshot ./data ./copy",
    "firkin snapshot --url ws://127.0.0.1:7480 --token-file operator.token",
  ).argument("[folder]").argument("[target]")
    .action(async (folder: string | undefined, target: string | undefined, flags: Flags & TargetFlags) => {
      if (folder === undefined) await snapshotOfServer(flags);
      else if (target === undefined) throw new TypeError("Cannot take a snapshot without a folder to put it into");
      else await snapshotOfFolder(folder, target, flags);
      exit(SOUND);
    });

  examples(add("restore", "check a snapshot and copy it into a new folder"), "firkin restore ./copy ./data2")
    .argument("<snapshot>").argument("<folder>")
    .action(async (snapshot: string, folder: string, flags: Flags) => {
      const { records, revision, bytes } = await restore(existing(snapshot), folder);
      const result = { keys: records, revision, bytes };
      say(flags, result, [`${records} changes up to revision ${revision} in ${folder}, ${bytes} bytes`]);
      exit(SOUND);
    });
}

async function snapshotOfFolder(folder: string, target: string, flags: Flags): Promise<void> {
  if (!existsSync(join(folder, MANIFEST_NAME))) throw new Error(`Cannot open ${folder}: there is no store`);
  const store = await open(folder);
  try {
    const taken = await store.snapshot(target);
    const { keys, revision, bytes } = taken;
    say(flags, taken, [`${keys} keys at revision ${revision} in ${target}, ${bytes} bytes`]);
  } finally {
    await store.close();
  }
}

/** Has a server take one, and waits for it. */
async function snapshotOfServer(flags: Flags & TargetFlags): Promise<void> {
  const { askServer } = await import("./cli/remote.ts");
  let taken = await askServer<ServerSnapshot>(flags, "POST", "/v1/admin/snapshots");
  while (taken.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
    const { snapshots } = await askServer<{ snapshots: ServerSnapshot[] }>(flags, "GET", "/v1/admin/snapshots");
    taken = snapshots.find(({ name }) => name === taken.name) ?? taken;
  }
  const { name, keys, revision, bytes, problem } = taken;
  if (problem !== undefined) throw new Error(`Cannot take a snapshot: the server says: ${problem}`);
  say(flags, taken, [`${keys} keys at revision ${revision} in ${name} on the server, ${bytes} bytes`]);
}

async function verifyCommand(folder: string, flags: Flags): Promise<number> {
  const found = await verify(existing(folder));
  say(flags, found, [
    ...found.damage.map(describeDamage),
    ...describeRest(found),
    found.sound ? "sound" : `${count(found.damage.length, "damaged place")}; firkin repair --yes keeps what is sound`,
  ]);
  return found.sound ? SOUND : DAMAGED;
}

async function repairCommand(folder: string, flags: Flags): Promise<number> {
  const done = await repair(existing(folder));
  say(flags, done, done.changed ? describeRepair(done) : ["sound: nothing was changed"]);
  return SOUND;
}

/** Else the lock would be what is missing. */
function existing(folder: string): string {
  if (!existsSync(folder)) throw new Error(`Cannot open ${folder}: there is no such folder`);
  return folder;
}

// --- words ---

function describeDamage({ file, offset, bytes, problem, revisions, keys }: Damage): string {
  const shown = keys.slice(0, KEYS_SHOWN).map(({ bucket, key }) => `${bucket}/${textOf(key)}`);
  if (keys.length > shown.length) shown.push(`${keys.length - shown.length} more`);
  return [
    `${file} at ${offset}: ${problem}, ${count(bytes, "byte")}`,
    ...describeGap(revisions),
    ...(shown.length === 0 ? [] : [`keys ${shown.join(", ")}`]),
  ].join("; ");
}

function describeGap({ after, before }: RevisionGap): string[] {
  if (before === undefined) return [`changes after revision ${after} may be lost`];
  if (before <= after + 1) return [];
  const last = before - 1;
  return [after + 1 === last ? `revision ${last} may be lost` : `revisions ${after + 1} to ${last} may be lost`];
}

function describeRest({ tail, leftovers, kept, badHints, ...rest }: Verification): string[] {
  const lines = [];
  if (tail !== undefined && tail.type !== "rot") {
    const what = tail.type === "empty" ? "zeros" : "an unfinished write";
    lines.push(`${tail.file} at ${tail.offset}: ${count(tail.bytes, "byte")} of ${what}, which the next open cuts`);
  }
  if (leftovers.length > 0) lines.push(`left over, and removed by the next open: ${leftovers.join(", ")}`);
  if (kept.length > 0) lines.push(`kept aside: ${kept.join(", ")}`);
  if (badHints.length > 0) lines.push(`made anew by the next open: ${badHints.join(", ")}`);
  const { segments, records, revision, bytes } = rest;
  const amount = `${count(segments, "segment")}, ${count(bytes, "byte")}`;
  return [...lines, `${count(records, "change")} up to revision ${revision} in ${amount}`];
}

function describeRepair({ damage, quarantined, records, bucketsNamed, uncertain }: Repair): string[] {
  const keys = uncertain.keys.map(({ bucket, key, revision }) => {
    return `uncertain: ${bucket}/${textOf(key)}, now ${revision === undefined ? "gone" : `at revision ${revision}`}`;
  });
  return [
    ...damage.map(describeDamage),
    ...(quarantined.length === 0 ? [] : [`kept aside: ${quarantined.join(", ")}`]),
    ...(bucketsNamed.length === 0 ? [] : [`buckets whose names are lost: ${bucketsNamed.join(", ")}`]),
    ...keys,
    ...(uncertain.olderMax === 0
      ? []
      : [`${count(uncertain.olderMax, "value")} from before the damage may be older than they were`]),
    `repaired: ${count(records, "change")} kept`,
  ];
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function textOf(key: Uint8Array): string {
  return decodeText(key) ?? `base64:${Buffer.from(key).toString("base64")}`;
}

function say(flags: Flags, result: object, lines: readonly string[]): void {
  // Every byte array in a result is a key.
  const plain = (_: string, value: unknown): unknown => value instanceof Uint8Array ? textOf(value) : value;
  process.stdout.write(flags.json === true ? `${JSON.stringify(result, plain)}\n` : `${lines.join("\n")}\n`);
}
