/**
 * The commands that tell about the server, as far as clients ask: what it is, what it is set to, what it can do.
 *
 * @module
 */
import { encodeText } from "../../lib/base/bytes.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { checkName, type Client, type RedisHost } from "./call.ts";
import { REDIS_VERSION } from "./connection.ts";
import { matchesGlob } from "./glob.ts";
import { DATABASES } from "./keys.ts";
import { normalFlags } from "./notifications.ts";
import { latin1, wordOf } from "./numbers.ts";
import { bulk, ErrorReply, MapReply, NO_ARRAY, type Reply, VerbatimReply } from "./resp.ts";

type Args = readonly Uint8Array[];

// --- INFO ---

/** INFO [section...] */
export function info({ host }: Client, args: Args): Reply {
  const wanted = args.slice(1).map((section) => latin1(section).toLowerCase());
  const all = wanted.length === 0 || wanted.some((word) => ["all", "default", "everything"].includes(word));
  const sections = Object.entries(sectionsOf(host)).filter(([name]) => all || wanted.includes(name.toLowerCase()));
  return new VerbatimReply(
    sections.map(([name, fields]) => {
      return `# ${name}\r\n${Object.entries(fields).map(([field, value]) => `${field}:${value}\r\n`).join("")}`;
    }).join("\r\n"),
  );
}

function sectionsOf(host: RedisHost): Readonly<Record<string, Readonly<Record<string, string | number>>>> {
  const { metrics, clients, clock, startedAt, runId, port } = host;
  const uptime = Math.max(Math.floor((clock.wall() - startedAt) / 1_000), 0);
  return {
    Server: {
      redis_version: REDIS_VERSION,
      redis_mode: "standalone",
      server_name: "firkin",
      run_id: runId,
      tcp_port: port,
      uptime_in_seconds: uptime,
      uptime_in_days: Math.floor(uptime / 86_400),
    },
    Clients: {
      connected_clients: clients.size,
      maxclients: host.limits.connectionsMax,
      pubsub_clients: [...clients.values()].filter(({ channels, patterns }) => channels + patterns > 0).length,
    },
    Persistence: { loading: 0, async_loading: 0 },
    Stats: {
      total_connections_received: metrics.connectionsTotal,
      total_net_input_bytes: metrics.bytesIn,
      total_net_output_bytes: metrics.bytesOut,
      total_error_replies: metrics.errors,
    },
    Replication: { role: "master", connected_slaves: 0, master_replid: runId, master_repl_offset: 0 },
    Cluster: { cluster_enabled: 0 },
    Keyspace: {},
  };
}

// --- CONFIG ---

function settingsOf({ settings, limits, port }: RedisHost): Readonly<Record<string, string>> {
  return {
    appendonly: "yes",
    databases: String(DATABASES),
    maxclients: String(limits.connectionsMax),
    maxmemory: "0",
    "maxmemory-policy": "noeviction",
    "notify-keyspace-events": settings.notifications,
    port: String(port),
    "proto-max-bulk-len": String(limits.valueBytesMax),
    save: "",
    timeout: "0",
  };
}

/** CONFIG GET | SET | RESETSTAT */
export function config(client: Client, args: Args): Reply {
  switch (wordOf(args[1]!)) {
    case "GET": {
      const patterns = args.slice(2).map((pattern) => encodeText(latin1(pattern).toLowerCase().toWellFormed()));
      // All of them together: each is held against each setting.
      checkName({ length: patterns.reduce((sum, { length }) => sum + length, 0) }, client.host);
      const found = Object.entries(settingsOf(client.host)).filter(([name]) => {
        return patterns.some((pattern) => matchesGlob(pattern, encodeText(name)));
      });
      return new MapReply(found.map(([name, value]) => [bulk(name), bulk(value)]));
    }
    case "SET":
      return configSet(client, args);
    default:
      return "OK";
  }
}

function configSet({ host, principal }: Client, args: Args): Reply {
  if (!principal.allows("admin", undefined)) {
    throw new FirkinError("FORBIDDEN", "Cannot change the server: the right to admin in the whole store is missing");
  }
  if (args.length % 2 !== 0) throw new ErrorReply("ERR wrong number of arguments for 'config|set' command");
  for (let index = 2; index < args.length; index += 2) {
    const name = latin1(args[index]!).toLowerCase();
    const refused = `ERR CONFIG SET failed (possibly related to argument '${name}') -`;
    if (settingsOf(host)[name] === undefined) {
      throw new ErrorReply(`ERR Unknown option or number of arguments for CONFIG SET - '${name}'`);
    }
    if (name !== "notify-keyspace-events") throw new ErrorReply(`${refused} can't set immutable config`);
    const flags = normalFlags(latin1(args[index + 1]!));
    if (flags === undefined) {
      throw new ErrorReply(`${refused} Invalid event class character. Use 'Ag$lshzxeKEtmdn'.`);
    }
    host.settings.notifications = flags;
  }
  return "OK";
}

// --- COMMAND ---

/** What is told of a command. */
export interface CommandFacts {
  readonly name: string;
  readonly arity: number;
  readonly flags: readonly string[];
  /** Where its keys are: the first, the last (counted from the end when it is below zero), and the step. */
  readonly keys: readonly [first: number, last: number, step: number];
  /** Arities by names in capitals. */
  readonly subcommands?: Readonly<Record<string, number>>;
}

/** Categories of the access lists, and the flags of their commands; others are called by their flag. */
const CATEGORIES: Readonly<Record<string, string>> = { read: "readonly" };

/** COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern] */
function namesOf(
  commands: ReadonlyMap<string, CommandFacts>,
  host: Pick<RedisHost, "limits">,
  args: Args,
): string[] {
  const all = [...commands.values()].flatMap(({ name, flags, subcommands = {} }) => {
    const names = [name, ...Object.keys(subcommands).map((word) => `${name}|${word.toLowerCase()}`)];
    return names.map((one) => ({ name: one, flags }));
  });
  if (args.length === 2) return all.map(({ name }) => name);
  if (args.length !== 5 || wordOf(args[2]!) !== "FILTERBY") throw new ErrorReply("ERR syntax error");
  const wanted = args[4]!;
  checkName(wanted, host);
  const flag = latin1(wanted).toLowerCase();
  const filters: Readonly<Record<string, (name: string, flags: readonly string[]) => boolean>> = {
    MODULE: () => false,
    ACLCAT: (_, flags) => flags.includes(CATEGORIES[flag] ?? flag),
    PATTERN: (name) => matchesGlob(wanted, bulk(name)),
  };
  const filter = Object.hasOwn(filters, wordOf(args[3]!)) ? filters[wordOf(args[3]!)] : undefined;
  if (filter === undefined) throw new ErrorReply("ERR syntax error");
  return all.filter(({ name, flags }) => filter(name, flags)).map(({ name }) => name);
}

/** COMMAND [COUNT | LIST | INFO name... | DOCS name... | GETKEYS command...] */
export function command(
  commands: ReadonlyMap<string, CommandFacts>,
  host: Pick<RedisHost, "limits">,
  args: Args,
): Reply {
  const names = args.slice(2).map((name) => latin1(name).toLowerCase());
  switch (args.length === 1 ? "INFO" : wordOf(args[1]!)) {
    case "COUNT":
      return commands.size;
    case "LIST":
      return namesOf(commands, host, args).map(bulk);
    case "DOCS":
      return new MapReply([]);
    case "GETKEYS":
      return getKeys(commands, args.slice(2));
    default: {
      const wanted = names.length === 0 ? [...commands.keys()] : names;
      return wanted.map((name) => factsReply(commands.get(name)));
    }
  }
}

function factsReply(facts: CommandFacts | undefined): Reply {
  if (facts === undefined) return NO_ARRAY;
  const { name, arity, flags, keys } = facts;
  return [bulk(name), arity, new Set(flags), ...keys, new Set<Reply>(), [], [], []];
}

function getKeys(commands: ReadonlyMap<string, CommandFacts>, args: Args): Reply {
  const facts = commands.get(latin1(args[0]!).toLowerCase());
  if (facts === undefined) throw new ErrorReply("ERR Invalid command specified");
  if (facts.keys[0] === 0) throw new ErrorReply("ERR The command has no key arguments");
  if (!hasArity(facts, args)) throw new ErrorReply("ERR Invalid number of arguments specified for command");
  return keysOf(facts, args);
}

/** True when the command may have as many arguments, its name counted. */
export function hasArity({ arity }: { readonly arity: number }, args: Args): boolean {
  return arity >= 0 ? args.length === arity : args.length >= -arity;
}

/** The keys among the arguments of a command. */
export function keysOf({ keys: [first, last, step] }: CommandFacts, args: Args): readonly Uint8Array[] {
  if (first === last) return first === 0 || first >= args.length ? [] : [args[first]!];
  const end = last < 0 ? args.length + last : last;
  const found: Uint8Array[] = [];
  for (let index = first; index <= end && index < args.length; index += step) found.push(args[index]!);
  return found;
}

/** What DEBUG is answered, whatever is asked: it is off in Redis, too. */
export const DEBUG_REFUSED: string =
  'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a ' +
  "local connection, otherwise you need to set this option in the configuration file, and then restart the server.";
