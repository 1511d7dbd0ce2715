/**
 * `firkin serve`: a folder on a port, until a signal ends it.
 *
 * What an operator should know is told on standard error, as lines for people or, with `--log json`, as one JSON object
 * a line: `time`, `level`, `event`, `message`, and what else is known.
 *
 * @module
 */
import process from "node:process";
import { type Command, InvalidArgumentError, Option } from "commander";
import { systemClock } from "../../lib/base/clock.ts";
import { FirkinError, messageOf } from "../../lib/base/errors.ts";
import type { LogEvent, SyncPolicy } from "../../lib/bitcask/log.ts";
import { open } from "../../lib/store/open.ts";
import { SERVER_LIMITS } from "../limits.ts";
import type { Server, ServerEvent, TransportName } from "../mod.ts";
import { openExisting } from "../token_commands.ts";
import { EXIT, note } from "./output.ts";
import { examples, parseWhole, stopSignal } from "./targets.ts";

/** A disk that hangs would keep a server from ending for ever. */
const CLOSE_MS_MAX = 10_000;

interface ServeFlags {
  readonly dataDir: string;
  readonly listen: { readonly hostname: string; readonly port: number };
  readonly redis?: { readonly hostname: string; readonly port: number };
  readonly sync: SyncPolicy;
  readonly syncIntervalMs: number;
  readonly forceUnlock: "yes" | "no";
  readonly snapshotDir?: string;
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
  readonly log: "text" | "json";
}

// --- what is told ---

type Level = "info" | "warn" | "error";

/** One thing that is told. */
interface Told {
  readonly level: Level;
  readonly event: string;
  readonly message: string;
  /** What else a program may want to know; nothing of a key, a value or a token. */
  readonly [detail: string]: unknown;
}

function tell(format: "text" | "json", told: Told): void {
  if (format === "text") return note(told.message);
  const { level, event, message, ...details } = told;
  const line = { time: new Date().toISOString(), level, event, message, ...details };
  process.stderr.write(`${JSON.stringify(line)}\n`);
}

/** What to tell of an event; nothing of what goes as it should. */
function toldOf(event: LogEvent | ServerEvent): Told | undefined {
  const told = (level: Level, message: string, details: object = {}): Told => ({
    level,
    event: event.type,
    message,
    ...details,
  });
  switch (event.type) {
    case "open": {
      const { segments, totalSegments, records, totalRecords, milliseconds } = event;
      const message = `opening: ${segments} of ${totalSegments} segments, ${records} of ${totalRecords} records, ` +
        `${(milliseconds / 1_000).toFixed(1)} s`;
      return told("info", message, { segments, totalSegments, records, totalRecords, milliseconds });
    }
    case "torn": {
      const { bytes, kept, segment, offset } = event;
      const message =
        `cut ${bytes} bytes of an unfinished write from segment ${segment} at ${offset}, kept ${kept} aside`;
      return told("warn", message, { bytes, kept, segment, offset });
    }
    case "poisoned": {
      const { revision, error } = event;
      const message = `takes no more writes, what is after revision ${revision} may be lost: ${error.message}`;
      return told("error", message, { revision });
    }
    case "full":
      return told("error", "the disk is full: sets are refused until there is room");
    case "recovered":
      return told("info", "there is room on the disk again");
    case "compaction":
      return event.phase === "failed" ? told("error", `compaction failed: ${messageOf(event.error)}`) : undefined;
    case "fallback":
    case "insecure":
    case "unnamed":
      return told("warn", event.message);
    case "failure":
      return told("error", `failure: ${messageOf(event.error)}`);
  }
}

// --- the command ---

async function serveCommand(flags: ServeFlags): Promise<void> {
  const info = (event: string, message: string, details: object = {}): void => {
    tell(flags.log, { level: "info", event, message, ...details });
  };
  const onEvent = (event: LogEvent | ServerEvent): void => {
    const told = toldOf(event);
    if (told !== undefined) tell(flags.log, told);
  };
  // Not before: no other command needs the server.
  const { serve } = await import("../mod.ts");
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
    onEvent,
  });
  let failure: string | void;
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
      onEvent,
      ...(auth && { auth }),
      ...(flags.redis && { redis: flags.redis }),
      ...(flags.snapshotDir !== undefined && { snapshotFolder: flags.snapshotDir }),
      ...(tlsCert !== undefined && tlsKey !== undefined && { tls: { certFile: tlsCert, keyFile: tlsKey } }),
      ...(flags.transport !== undefined && { transport: flags.transport }),
    });
    // Before anybody is told that there is a server to stop.
    const stopped = Promise.race([stopSignal(), ...(tlsCert === undefined ? [] : [reloadOnHangup(server, flags.log)])]);
    const { url, transport } = server;
    const { dataDir, sync } = flags;
    info("serving", `serving ${dataDir} on ${url} (${transport}, sync ${sync})`, { dataDir, url, transport, sync });
    if (server.redisUrl !== undefined) {
      info("redis", `Redis clients at ${server.redisUrl}`, { url: server.redisUrl });
    }
    info("dashboard", `dashboard at ${url.replace(/^ws/, "http")}/`);
    failure = await stopped;
    if (failure !== undefined) tell(flags.log, { level: "error", event: "certificate", message: failure });
    info("closing", "closing");
    endInTime(flags.log);
    await server.close();
  } finally {
    await store.close();
  }
  info("closed", "closed, everything is on disk");
  // Nothing is left to wait for, though a runtime may think so: Deno does for a peer that vanished (`deno.ts`).
  process.exit(failure === undefined ? EXIT.done : EXIT.failure);
}

/**
 * Takes up the certificate anew whenever a SIGHUP comes; without TLS a SIGHUP ends the process, as it does others.
 * Resolves when the server has closed itself over it, to why.
 */
function reloadOnHangup(server: Server, log: "text" | "json"): Promise<string> {
  const event = "certificate";
  return new Promise((resolve) => {
    process.on("SIGHUP", () => {
      server.reloadTls().then(
        () => tell(log, { level: "info", event, message: "took up the certificate anew" }),
        (error: unknown) => {
          if (error instanceof FirkinError && error.code === "CLOSED") return resolve(error.message);
          tell(log, { level: "error", event, message: `goes on with the certificate it has: ${messageOf(error)}` });
        },
      );
    });
  });
}

/** Ends the process when closing takes longer than whoever stopped it will wait. */
function endInTime(log: "text" | "json"): void {
  systemClock.after(CLOSE_MS_MAX, () => {
    const message = `not closed within ${CLOSE_MS_MAX / 1_000} s: ends as it is; what was acknowledged is as safe as ` +
      "the policy says";
    tell(log, { level: "error", event: "unclosed", message });
    process.exit(EXIT.failure);
  });
}

// --- flags ---

function parseListen(text: string): { hostname: string; port: number } {
  const match = /^(?:\[([0-9a-f:]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new InvalidArgumentError("expected host:port, such as 127.0.0.1:7480");
  return { hostname: match[1] ?? match[2]!, port };
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
function yesOrNo(flags: string, description: string, variable: string, absent: "yes" | "no"): Option {
  return new Option(flags, description).env(variable).choices(["yes", "no"]).preset("yes").default(absent);
}

/** Adds the command that serves. */
export function addServeCommand(firkin: Command): void {
  const command = firkin.command("serve").description("serve a folder, with a dashboard");
  const add = (
    flags: string,
    description: string,
    variable: string,
    shape: (option: Option) => Option = (one) => one,
  ) => command.addOption(shape(new Option(flags, description).env(variable)));
  add("--data-dir <folder>", "where the data is; :memory: for none", "FIRKIN_DATA_DIR", (one) => one.default("./data"));
  add(
    "--listen <host:port>",
    "where; beyond loopback only with --auth and TLS; port 0: any",
    "FIRKIN_LISTEN",
    (one) => one.argParser(parseListen).default(parseListen("127.0.0.1:7480"), "127.0.0.1:7480"),
  );
  add(
    "--redis <host:port>",
    "serve Redis clients there too: see docs/REDIS.md",
    "FIRKIN_REDIS",
    (one) => one.argParser(parseListen),
  );
  add(
    "--sync <policy>",
    "when a write is on stable storage",
    "FIRKIN_SYNC",
    (one) => one.choices(["always", "interval", "os"]).default("always"),
  );
  add(
    "--sync-interval-ms <ms>",
    "time between syncs under interval",
    "FIRKIN_SYNC_INTERVAL_MS",
    (one) => one.argParser(parseWhole).default(1_000),
  );
  add("--snapshot-dir <folder>", "where snapshots go that clients with admin ask for", "FIRKIN_SNAPSHOT_DIR");
  const forceUnlock = "take the folder from an owner that may be alive: be sure it is not";
  command.addOption(yesOrNo("--force-unlock [yes|no]", forceUnlock, "FIRKIN_FORCE_UNLOCK", "no"));
  addNetworkOptions(command, add);
  add(
    "--log <form>",
    "text for people, json for programs",
    "FIRKIN_LOG",
    (one) => one.choices(["text", "json"]).default("text"),
  );
  examples(
    command,
    "firkin serve --data-dir ./data",
    "firkin serve --listen 0.0.0.0:7480 --allow-host db.example --auth tokens.json --tls-cert c.pem --tls-key k.pem",
    "firkin --config firkin.toml serve --log json",
  ).action((flags: ServeFlags) => serveCommand(flags));
}

type AddOption = (flags: string, description: string, variable: string, shape?: (option: Option) => Option) => unknown;

function addNetworkOptions(command: Command, add: AddOption): void {
  const list = (option: Option): Option => option.argParser(collect).default([], "none");
  add("--auth <file>", "the tokens of clients: see firkin token", "FIRKIN_AUTH");
  add("--tls-cert <file>", "speak TLS with this certificate, as PEM", "FIRKIN_TLS_CERT");
  add("--tls-key <file>", "its private key, as PEM", "FIRKIN_TLS_KEY");
  const insecure = "let tokens and values cross a network in the clear";
  command.addOption(yesOrNo("--insecure-no-tls [yes|no]", insecure, "FIRKIN_INSECURE_NO_TLS", "no"));
  const proxy = "a proxy, or network of them, in front: it speaks TLS and is believed";
  add("--trusted-proxy <address>", proxy, "FIRKIN_TRUSTED_PROXY", list);
  add(
    "--limit <name=number>",
    "another limit than the default: see docs/PROTOCOL.md",
    "FIRKIN_LIMIT",
    (one) => one.argParser(parseLimit).default({}, "none"),
  );
  add("--allow-origin <origin>", "let this site's pages connect", "FIRKIN_ALLOW_ORIGIN", list);
  add("--allow-host <host>", "answer to this name too", "FIRKIN_ALLOW_HOST", list);
  command.addOption(yesOrNo("--rest [yes|no]", "answer plain HTTP under /v1 too", "FIRKIN_REST", "yes"))
    .addOption(new Option("--no-rest", "do not"));
  add(
    "--transport <name>",
    "the network server; the runtime's best by default",
    "FIRKIN_TRANSPORT",
    (one) => one.choices(["uws", "ws", "bun", "deno"]),
  );
}
