/**
 * What a command works on: a server (`--url`), or a folder that no server has (`--data-dir`).
 *
 * Only what writes makes a store where there is none, so that a mistyped folder is not answered as an empty one.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Command, InvalidArgumentError, Option } from "commander";
import { MANIFEST_NAME } from "../../lib/bitcask/manifest.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import { connect } from "../../lib/store/connect.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";

/** Which store, and as whom. */
export interface TargetFlags {
  readonly url: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly dataDir?: string;
}

/** Whether a folder without a store becomes one. */
export type IfMissing = "make" | "refuse";

/** Gives a command the flags for its target. */
export function withTarget(command: Command): Command {
  return withServer(command).option("--data-dir <folder>", "open this folder instead of asking a server");
}

/** Gives a command the flags for a server. */
export function withServer(command: Command): Command {
  return command
    .addOption(
      new Option("--url <url>", "the server").env("FIRKIN_URL").argParser(parseUrl).default("ws://127.0.0.1:7480"),
    )
    .addOption(new Option("--token <token>", "says who asks; others may see it here").env("FIRKIN_TOKEN"))
    .addOption(new Option("--token-file <file>", "has the token in it").env("FIRKIN_TOKEN_FILE"))
    .addOption(new Option("--ca <file>", "the certificates, as PEM, that a server's may go back to").env("FIRKIN_CA"));
}

/** Opens the store, uses it, and closes it. */
export async function withStore(
  flags: TargetFlags,
  use: (store: Store) => Promise<number>,
  ifMissing: IfMissing = "refuse",
): Promise<number> {
  const store = flags.dataDir === undefined ? await connectTo(flags) : await openFolder(flags.dataDir, ifMissing);
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** The same with one of its buckets. */
export async function withBucket(
  flags: TargetFlags,
  bucket: string,
  use: (view: Bucket) => Promise<number>,
  ifMissing?: IfMissing,
): Promise<number> {
  return await withStore(flags, (store) => use(store.bucket(bucket)), ifMissing);
}

/** The token that the flags give. @throws {TypeError} two ways at once */
export function tokenOf({ token, tokenFile }: TargetFlags): string | undefined {
  if (token !== undefined && tokenFile !== undefined) throw new TypeError("Cannot use both --token and --token-file");
  return tokenFile === undefined ? token : readFileSync(tokenFile, "utf8").trim();
}

function connectTo(flags: TargetFlags): Promise<Store> {
  const { url, ca } = flags;
  const token = tokenOf(flags);
  return connect(url, {
    ...(token !== undefined && { token }),
    ...(ca !== undefined && { ca: readFileSync(ca, "utf8") }),
  });
}

async function openFolder(folder: string, ifMissing: IfMissing): Promise<Store> {
  if (ifMissing === "refuse" && !existsSync(join(folder, MANIFEST_NAME))) {
    throw new Error(`Cannot open ${folder}: there is no store`);
  }
  return await open(folder);
}

/** Resolves at the first Ctrl-C or SIGTERM; a second one ends the process at once. */
export function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    let stopping = false;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => {
        if (stopping) process.exit(130);
        stopping = true;
        resolve();
      });
    }
  });
}

// --- flags ---

function parseUrl(text: string): string {
  if (!/^wss?:\/\/[^/]/.test(text) || !URL.canParse(text)) {
    throw new InvalidArgumentError("expected ws://host:port, such as ws://127.0.0.1:7480");
  }
  return text;
}

/** A whole number of 0 or more. */
export function parseWhole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("expected a whole number");
  return Number(text);
}

/** The lines under a command's flags that show how it is used. */
export function examples(command: Command, ...lines: string[]): Command {
  return command.addHelpText("after", `\nExamples:\n${lines.map((line) => `  ${line}\n`).join("")}`);
}
