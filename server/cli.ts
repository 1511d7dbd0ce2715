#!/usr/bin/env node
/**
 * The command: `firkin serve | get | set | delete | list | subscribe`, the upkeep of a folder (`upkeep.ts`), and tokens
 * (`token_commands.ts`).
 *
 * Every flag of `serve`, and those that say which server and as whom, are also environment variables (`FIRKIN_*`); a
 * flag wins over the variable, the variable over the default. What is secret can be in a file (`--token-file`,
 * `FIRKIN_TOKEN_FILE`), since others of the machine see the arguments of a command.
 * The commands for keys talk to a server (`--url`), or open a folder themselves (`--data-dir`) when no server has it;
 * only `set` makes a store where there is none, so that a mistyped folder is not answered as an empty one.
 *
 * Results go to standard output, everything else to standard error, an error as one line. Exit codes: 0 done, 1 there
 * is no such key, the condition did not hold, or there is damage, 2 wrong usage, 3 anything else.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { buffer } from "node:stream/consumers";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { systemClock } from "../lib/base/clock.ts";
import { FirkinError, messageOf } from "../lib/base/errors.ts";
import type { LogEvent, SyncPolicy } from "../lib/bitcask/log.ts";
import { MANIFEST_NAME } from "../lib/bitcask/manifest.ts";
import type { Bucket } from "../lib/store/bucket.ts";
import { connect } from "../lib/store/connect.ts";
import { open } from "../lib/store/open.ts";
import type { Store } from "../lib/store/store.ts";
import { serve, type ServerEvent, type TransportName } from "./mod.ts";
import { SERVER_LIMITS } from "./limits.ts";
import { addTokenCommands, openExisting } from "./token_commands.ts";
import { addUpkeepCommands } from "./upkeep.ts";

const VERSION = "0.1.0";
/** A disk that hangs would keep a server from ending for ever. */
const CLOSE_MS_MAX = 10_000;
const EXIT = { done: 0, missing: 1, usage: 2, failure: 3 } as const;

interface ServeFlags {
  readonly dataDir: string;
  readonly listen: { readonly hostname: string; readonly port: number };
  readonly redis?: { readonly hostname: string; readonly port: number };
  readonly sync: SyncPolicy;
  readonly syncIntervalMs: number;
  readonly forceUnlock: "yes" | "no";
  readonly auth?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly insecureNoTls: "yes" | "no";
  readonly trustedProxy: string[];
  readonly limit: Record<string, number>;
  readonly allowOrigin: string[];
  readonly allowHost: string[];
  readonly transport?: TransportName;
  readonly rest: "yes" | "no" | false;
}

interface TargetFlags {
  readonly url: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly dataDir?: string;
}

interface SetFlags extends TargetFlags {
  readonly ttl?: string;
  readonly ifRevision?: number;
  readonly text?: true;
}

interface ListFlags extends TargetFlags {
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

// --- commands ---

async function serveCommand(flags: ServeFlags): Promise<void> {
  const report = (event: LogEvent | ServerEvent): void => {
    const line = describe(event);
    if (line !== undefined) note(line);
  };
  const { tlsCert, tlsKey } = flags;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw new TypeError("Cannot use --tls-cert without --tls-key, or the other way round");
  }
  const auth = flags.auth === undefined ? undefined : openExisting(flags.auth);
  const store = await open({
    path: flags.dataDir,
    sync: flags.sync,
    syncIntervalMs: flags.syncIntervalMs,
    valueBytesMax: 1024 * 1024,
    forceUnlock: flags.forceUnlock === "yes",
    onEvent: report,
  });
  try {
    const server = await serve({
      store,
      ...flags.listen,
      allowedOrigins: flags.allowOrigin,
      allowedHosts: flags.allowHost,
      trustedProxies: flags.trustedProxy,
      insecureNoTls: flags.insecureNoTls === "yes",
      limits: flags.limit,
      rest: flags.rest === "yes",
      onEvent: report,
      ...(auth && { auth }),
      ...(flags.redis && { redis: flags.redis }),
      ...(tlsCert !== undefined && tlsKey !== undefined && { tls: { certFile: tlsCert, keyFile: tlsKey } }),
      ...(flags.transport === undefined ? {} : { transport: flags.transport }),
    });
    note(`serving ${flags.dataDir} on ${server.url} (${server.transport}, sync ${flags.sync})`);
    if (server.redisUrl !== undefined) note(`Redis clients at ${server.redisUrl}`);
    note(`dashboard at ${server.url.replace(/^ws/, "http")}/`);
    await stopSignal();
    note("closing");
    endInTime();
    await server.close();
  } finally {
    await store.close();
  }
  note("closed, everything is on disk");
  // Nothing is left to wait for, though a runtime may think so: Deno does for a peer that vanished (`deno.ts`).
  process.exit(EXIT.done);
}

/** Ends the process when closing takes longer than whoever stopped it will wait. */
function endInTime(): void {
  systemClock.after(CLOSE_MS_MAX, () => {
    note(
      `not closed within ${CLOSE_MS_MAX / 1_000} s: ends as it is; what was acknowledged is as safe as the policy says`,
    );
    process.exit(EXIT.failure);
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
      ...(flags.ttl === undefined ? {} : { ttl: flags.ttl }),
      ...(flags.ifRevision === undefined ? {} : { ifRevision: flags.ifRevision }),
    });
    if (result.ok) return EXIT.done;
    note(`not set: ${bucket}/${key} is at revision ${result.current?.revision ?? 0}`);
    return EXIT.missing;
  }, "make");
}

async function deleteCommand(bucket: string, key: string, flags: TargetFlags): Promise<number> {
  return await withBucket(flags, bucket, async (view) => {
    return (await view.delete(key)).ok ? EXIT.done : missing(bucket, key);
  });
}

async function listCommand(bucket: string, flags: ListFlags): Promise<number> {
  return await withBucket(flags, bucket, async (view) => {
    for await (const entry of view.list(flags)) print(plain(entry));
    return EXIT.done;
  });
}

async function subscribeCommand(bucket: string | undefined, flags: SubscribeFlags): Promise<number> {
  return await withStore(flags, async (store) => {
    const options = {
      ...(flags.from === undefined ? {} : { from: flags.from }),
      ...(flags.snapshot === undefined ? {} : { snapshot: true }),
    };
    if (bucket === undefined && flags.prefix !== undefined) throw new TypeError("Cannot use --prefix without a bucket");
    const subscription = bucket === undefined
      ? store.subscribe(options)
      : store.bucket(bucket).subscribe({ ...options, ...(flags.prefix === undefined ? {} : { prefix: flags.prefix }) });
    void stopSignal().then(() => subscription.close());
    for await (const event of subscription) print(plain(event));
    note(`cursor ${subscription.cursor}`);
    return EXIT.done;
  });
}

// --- targets ---

/** Whether a folder without a store becomes one. */
type IfMissing = "make" | "refuse";

async function withStore(
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

function connectTo({ url, token, tokenFile, ca }: TargetFlags): Promise<Store> {
  if (token !== undefined && tokenFile !== undefined) throw new TypeError("Cannot use both --token and --token-file");
  const credentials = tokenFile === undefined ? token : readFileSync(tokenFile, "utf8").trim();
  return connect(url, {
    ...(credentials !== undefined && { token: credentials }),
    ...(ca !== undefined && { ca: readFileSync(ca, "utf8") }),
  });
}

async function openFolder(folder: string, ifMissing: IfMissing): Promise<Store> {
  if (ifMissing === "refuse" && !existsSync(join(folder, MANIFEST_NAME))) {
    throw new Error(`Cannot open ${folder}: there is no store`);
  }
  return await open(folder);
}

async function withBucket(
  flags: TargetFlags,
  bucket: string,
  use: (view: Bucket) => Promise<number>,
  ifMissing?: IfMissing,
): Promise<number> {
  return await withStore(flags, (store) => use(store.bucket(bucket)), ifMissing);
}

// --- input and output ---

/** JSON when it is JSON, else the text itself. */
function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function print(value: unknown): void {
  if (value instanceof Uint8Array) process.stdout.write(value);
  else process.stdout.write(`${typeof value === "string" ? value : JSON.stringify(plain(value))}\n`);
}

/** What JSON can show: bytes as base64 under a name of their own, big integers as text. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString("base64") };
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object" || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

/** What commander says of wrong usage, which may take several lines. */
function oneLine(text: string): string {
  return text.replace(/^error: /, "").trim().replaceAll("\n", " ");
}

function note(line: string): void {
  process.stderr.write(`firkin: ${line}\n`);
}

function missing(bucket: string, key: string): number {
  note(`no key ${bucket}/${key}`);
  return EXIT.missing;
}

/** What to tell of an event; nothing of what goes as it should. */
function describe(event: LogEvent | ServerEvent): string | undefined {
  switch (event.type) {
    case "open": {
      const { segments, totalSegments, records, totalRecords, milliseconds } = event;
      return `opening: ${segments} of ${totalSegments} segments, ${records} of ${totalRecords} records, ` +
        `${(milliseconds / 1_000).toFixed(1)} s`;
    }
    case "torn": {
      const { bytes, kept, segment, offset } = event;
      return `cut ${bytes} bytes of an unfinished write from segment ${segment} at ${offset}, kept ${kept} aside`;
    }
    case "poisoned":
      return `takes no more writes, what is after revision ${event.revision} may be lost: ${event.error.message}`;
    case "full":
      return "the disk is full: sets are refused until there is room";
    case "recovered":
      return "there is room on the disk again";
    case "compaction":
      return event.phase === "failed" ? `compaction failed: ${messageOf(event.error)}` : undefined;
    case "fallback":
    case "insecure":
      return event.message;
    case "failure":
      return `failure: ${messageOf(event.error)}`;
  }
}

/** Resolves at the first Ctrl-C or SIGTERM; a second one ends the process at once. */
function stopSignal(): Promise<void> {
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

function parseListen(text: string): { hostname: string; port: number } {
  const match = /^(?:\[([0-9a-f:]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new InvalidArgumentError("expected host:port, such as 127.0.0.1:7480");
  return { hostname: match[1] ?? match[2]!, port };
}

function parseUrl(text: string): string {
  if (!/^wss?:\/\/[^/]/.test(text) || !URL.canParse(text)) {
    throw new InvalidArgumentError("expected ws://host:port, such as ws://127.0.0.1:7480");
  }
  return text;
}

function parseWhole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("expected a whole number");
  return Number(text);
}

/** One more limit, of those that a server has. */
function parseLimit(text: string, before: Record<string, number>): Record<string, number> {
  const limits = { ...before };
  for (const part of text.split(",")) {
    const [name = "", value = ""] = part.split("=");
    if (!Object.hasOwn(SERVER_LIMITS, name) || !/^\d+$/.test(value)) {
      throw new InvalidArgumentError(`expected name=number, with a name of ${Object.keys(SERVER_LIMITS).join(", ")}`);
    }
    limits[name] = Number(value);
  }
  return limits;
}

function collect(text: string, before: string[]): string[] {
  return [...before, ...text.split(",").filter((part) => part !== "")];
}

/** Says yes or no, so that a variable that says "false" is no yes. */
function forceUnlock(): Option {
  return new Option("--force-unlock [yes|no]", "take the folder from an owner that may be alive: be sure it is not")
    .env("FIRKIN_FORCE_UNLOCK").choices(["yes", "no"]).preset("yes").default("no");
}

function target(command: Command): Command {
  return command
    .addOption(
      new Option("--url <url>", "the server").env("FIRKIN_URL").argParser(parseUrl).default("ws://127.0.0.1:7480"),
    )
    .addOption(new Option("--token <token>", "says who asks; others may see it here").env("FIRKIN_TOKEN"))
    .addOption(new Option("--token-file <file>", "has the token in it").env("FIRKIN_TOKEN_FILE"))
    .addOption(new Option("--ca <file>", "the certificates, as PEM, that a server's may go back to").env("FIRKIN_CA"))
    .option("--data-dir <folder>", "open this folder instead of asking a server");
}

/** Adds the command that serves. */
function addServeCommand(firkin: Command): void {
  firkin.command("serve").description("serve a folder, with a dashboard")
    .addOption(
      new Option("--data-dir <folder>", "where the data is; :memory: for none").env("FIRKIN_DATA_DIR").default(
        "./data",
      ),
    )
    .addOption(
      new Option("--listen <host:port>", "where; beyond loopback only with --auth and TLS; port 0: any").env(
        "FIRKIN_LISTEN",
      )
        .argParser(parseListen).default(parseListen("127.0.0.1:7480"), "127.0.0.1:7480"),
    )
    .addOption(
      new Option("--redis <host:port>", "serve Redis clients there too: see docs/REDIS.md").env("FIRKIN_REDIS")
        .argParser(parseListen),
    )
    .addOption(
      new Option("--sync <policy>", "when a write is on stable storage").env("FIRKIN_SYNC")
        .choices(["always", "interval", "os"]).default("always"),
    )
    .addOption(
      new Option("--sync-interval-ms <ms>", "time between syncs under interval").env("FIRKIN_SYNC_INTERVAL_MS")
        .argParser(parseWhole).default(1_000),
    )
    .addOption(forceUnlock())
    .addOption(new Option("--auth <file>", "the tokens of clients: see firkin token").env("FIRKIN_AUTH"))
    .addOption(new Option("--tls-cert <file>", "speak TLS with this certificate, as PEM").env("FIRKIN_TLS_CERT"))
    .addOption(new Option("--tls-key <file>", "its private key, as PEM").env("FIRKIN_TLS_KEY"))
    .addOption(
      new Option("--insecure-no-tls [yes|no]", "let tokens and values cross a network in the clear")
        .env("FIRKIN_INSECURE_NO_TLS").choices(["yes", "no"]).preset("yes").default("no"),
    )
    .addOption(
      new Option("--trusted-proxy <address>", "a proxy, or network of them, in front: it speaks TLS and is believed")
        .env("FIRKIN_TRUSTED_PROXY").argParser(collect).default([], "none"),
    )
    .addOption(
      new Option("--limit <name=number>", "another limit than the default: see docs/PROTOCOL.md").env("FIRKIN_LIMIT")
        .argParser(parseLimit).default({}, "none"),
    )
    .addOption(
      new Option("--allow-origin <origin>", "let this site's pages connect").env("FIRKIN_ALLOW_ORIGIN").argParser(
        collect,
      ).default([], "none"),
    )
    .addOption(
      new Option("--allow-host <host>", "answer to this name too").env("FIRKIN_ALLOW_HOST").argParser(collect).default(
        [],
        "none",
      ),
    )
    .addOption(
      new Option("--rest [yes|no]", "answer plain HTTP under /v1 too").env("FIRKIN_REST").choices(["yes", "no"])
        .preset("yes").default("yes"),
    )
    .addOption(new Option("--no-rest", "do not"))
    .addOption(
      new Option("--transport <name>", "the network server; the runtime's best by default").env("FIRKIN_TRANSPORT")
        .choices(["uws", "ws", "bun", "deno"]),
    )
    .action((flags: ServeFlags) => serveCommand(flags));
}

/** The whole command line; each action sets the exit code. */
function program(exit: (code: number) => void): Command {
  const firkin = new Command("firkin")
    .description("A durable key-value store that tells its clients when a key expires")
    .version(VERSION)
    .configureOutput({ outputError: (text, write) => write(`firkin: ${oneLine(text)} (see --help)\n`) });

  addServeCommand(firkin);

  target(firkin.command("get").description("print a value").argument("<bucket>").argument("<key>"))
    .action(async (bucket: string, key: string, flags: TargetFlags) => exit(await getCommand(bucket, key, flags)));

  target(firkin.command("set").description("write a value").argument("<bucket>").argument("<key>"))
    .argument("<value>", "JSON, or else text; - reads standard input")
    .option("--ttl <duration>", "how long the key lives: 250ms, 30s, 5m, 2h, 7d")
    .option("--if-revision <revision>", "only if the key has this revision; 0: only if it is new", parseWhole)
    .option("--text", "keep the value as text, even if it is JSON")
    .action(async (bucket: string, key: string, value: string, flags: SetFlags) =>
      exit(await setCommand(bucket, key, value, flags))
    );

  target(firkin.command("delete").description("delete a key").argument("<bucket>").argument("<key>"))
    .action(async (bucket: string, key: string, flags: TargetFlags) => exit(await deleteCommand(bucket, key, flags)));

  target(firkin.command("list").description("print entries in key order, one line of JSON each").argument("<bucket>"))
    .option("--prefix <text>", "only keys that begin with this")
    .option("--start <key>", "first key")
    .option("--end <key>", "key to stop before")
    .option("--reverse", "from the last key to the first")
    .option("--limit <count>", "at most this many", parseWhole, 1_000)
    .action(async (bucket: string, flags: ListFlags) => exit(await listCommand(bucket, flags)));

  target(
    firkin.command("subscribe").description("print changes as they happen, one line of JSON each").argument("[bucket]"),
  )
    .option("--prefix <text>", "only keys that begin with this")
    .option("--snapshot", "first what is there now")
    .option("--from <cursor>", "continue after this cursor")
    .action(async (bucket: string | undefined, flags: SubscribeFlags) => exit(await subscribeCommand(bucket, flags)));
  addUpkeepCommands(firkin, exit);
  addTokenCommands(firkin, exit);
  return firkin;
}

/** A reader that has seen enough, such as `head`, ends the command without a word. */
function endWithReader(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(EXIT.done);
    note(messageOf(error));
    process.exit(EXIT.failure);
  });
}

async function main(): Promise<void> {
  endWithReader();
  let code: number = EXIT.done;
  const firkin = program((value) => code = value);
  for (const command of [firkin, ...firkin.commands.flatMap((one) => [one, ...one.commands])]) command.exitOverride();
  try {
    await firkin.parseAsync(process.argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      code = error.exitCode === 0 ? EXIT.done : EXIT.usage;
    } else {
      note(error instanceof FirkinError ? `${error.message} (${error.code})` : messageOf(error));
      code = error instanceof TypeError || error instanceof RangeError ? EXIT.usage : EXIT.failure;
    }
  }
  process.exitCode = code;
}

await main();
