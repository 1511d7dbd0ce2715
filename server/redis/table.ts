/**
 * The commands of Redis that this server knows, each once: how many arguments, where its keys are, and what runs it.
 *
 * How a command on keys is run, outside of transactions, is its way:
 *
 * - `read` looks at keys as they are, at once.
 * - `write` changes them whatever they are, so that many may be under way at once.
 * - `update` makes of one key what follows from it, in the queue of that key.
 * - `alone` does so with more keys, while nothing else of its connection is under way.
 *
 * @module
 */
import { FirkinError } from "../../lib/base/errors.ts";
import type { Answer } from "../commands.ts";
import * as about from "./about.ts";
import { type CommandFacts, hasArity } from "./about.ts";
import type { Client, KeyCall } from "./call.ts";
import * as connection from "./connection.ts";
import * as keys from "./keys.ts";
import * as listing from "./listing.ts";
import { textOf } from "./numbers.ts";
import { ErrorReply, type Reply } from "./resp.ts";

import * as strings from "./strings.ts";
import { shown } from "./values.ts";
import { tooLong } from "./view.ts";

type Args = readonly Uint8Array[];

/** How a command is run: see the top of the file. */
export type Way = "read" | "write" | "update" | "alone";

/** A command on keys. */
export interface KeyRow extends CommandFacts {
  /** It takes the right to write, also when there turns out to be nothing to write. */
  readonly writes: boolean;
  readonly way: Way | ((args: Args) => Way);
  readonly run: (call: KeyCall) => Reply;
  /** In the place of `run`, outside of transactions and updates; undefined when the reply has been written. */
  readonly direct?: (client: Client, args: Args) => Answer<Reply | undefined>;
  /** Bucket and keys beside those at the usual places, to be loaded too. */
  readonly others?: (args: Args) => readonly [bucket: string, keys: Args] | undefined;
}

/** A command on anything else. */
export interface ClientRow extends CommandFacts {
  /** What it is answered, when it is never run. */
  readonly refusal?: string;
  readonly runClient: (client: Client, args: Args) => Answer<Reply | undefined>;
  /** May be part of a transaction: it has one reply, and soon. */
  readonly joins: boolean;
}

/** A command. */
export type Row = KeyRow | ClientRow;

// --- rights ---

/** @throws {FirkinError} FORBIDDEN — the command writes, and who asks may not */
export function checkRight({ writes }: KeyRow, { principal, bucket }: Client): void {
  if (!writes || principal.allows("write", bucket)) return;
  throw new FirkinError("FORBIDDEN", "Cannot do that: the right to write in this database is missing");
}

// --- without a look at the store ---

/** A SET that writes whatever the key was. */
function setDirect({ host, principal, bucket }: Client, args: Args): Answer<Reply> {
  const { value, content, deadline } = strings.blindSet(args, host.clock.wall());
  if (value.length > host.limits.valueBytesMax) throw tooLong();
  const options = deadline === undefined ? { content } : { content, deadline };
  const answer = host.commands.set(principal, bucket, args[1]!, value, options);
  return answer instanceof Promise ? answer.then(ok) : "OK";
}

function ok(): Reply {
  return "OK";
}

/** Keys are written whatever they were; of one that comes twice, the engine takes the last. */
function msetDirect({ host, principal, bucket }: Client, args: Args): Answer<Reply> {
  const operations = strings.pairsOf(args, host.limits.valueBytesMax).map(({ key, item: { value, content } }) => {
    return { type: "set", bucket, key, value, content } as const;
  });
  const answer = host.commands.atomic(principal, operations);
  return answer instanceof Promise ? answer.then(ok) : "OK";
}

/** Each key by itself: none has to be looked at. */
function delDirect({ host, principal, bucket }: Client, args: Args): Answer<Reply> {
  const asked = args.slice(1).map(async (key) => (await host.commands.delete(principal, bucket, key)).ok);
  return Promise.all(asked).then((deleted) => deleted.filter(Boolean).length);
}

function existsDirect({ host, principal, bucket }: Client, args: Args): Answer<Reply> {
  let count = 0;
  const waits: Promise<boolean>[] = [];
  for (const key of args.slice(1)) {
    const found = host.commands.has(principal, bucket, key);
    if (found instanceof Promise) waits.push(found);
    else if (found) count++;
  }
  return waits.length === 0 ? count : Promise.all(waits).then((found) => count + found.filter(Boolean).length);
}

/** The engine's own, since it gives single-read keys to their taker. */
function getdelDirect({ host, principal, bucket }: Client, args: Args): Answer<Reply> {
  const taken = host.commands.take(principal, bucket, args[1]!);
  return taken instanceof Promise
    ? taken.then((entry) => entry === undefined ? null : shown(entry))
    : taken === undefined
    ? null
    : shown(taken);
}

// --- rows ---

const FIRST = [1, 1, 1] as const;
const ALL = [1, -1, 1] as const;
const PAIRS = [1, -1, 2] as const;
const NONE = [0, 0, 0] as const;

type More = Partial<Pick<KeyRow, "direct" | "others" | "subcommands">>;

function onKeys(
  name: string,
  arity: number,
  flags: string,
  keys: CommandFacts["keys"],
  way: KeyRow["way"],
  run: KeyRow["run"],
  more: More = {},
): KeyRow {
  const words = flags.split(" ");
  return { name, arity, flags: words, writes: words.includes("write"), keys, way, run, ...more };
}

function onClient(
  name: string,
  arity: number,
  flags: string,
  runClient: ClientRow["runClient"],
  subcommands?: Readonly<Record<string, number>>,
): ClientRow {
  const words = flags.split(" ");
  return {
    name,
    arity,
    flags: words.filter((word) => word !== "joins"),
    keys: NONE,
    runClient,
    joins: words.includes("joins"),
    ...(subcommands && { subcommands }),
  };
}

const OBJECT = { ENCODING: 3, REFCOUNT: 3, IDLETIME: 3, FREQ: 3 };
const CLIENT = {
  ID: 2,
  GETNAME: 2,
  GETREDIR: 2,
  SETNAME: 3,
  SETINFO: 4,
  INFO: 2,
  REPLY: 3,
  LIST: -2,
  KILL: -3,
  "NO-EVICT": 3,
  "NO-TOUCH": 3,
  TRACKING: -3,
};
const COMMAND = { COUNT: 2, LIST: -2, INFO: -2, DOCS: -2, GETKEYS: -3 };

function setWay(args: Args): Way {
  return strings.isBlindSet(args) ? "write" : "update";
}

const KEY_ROWS: readonly KeyRow[] = [
  onKeys("get", 2, "readonly fast", FIRST, "read", strings.get, { direct: (client, args) => client.show(args[1]!) }),
  onKeys("set", -3, "write denyoom", FIRST, setWay, strings.set, { direct: setDirect }),
  onKeys("setnx", 3, "write denyoom fast", FIRST, "update", strings.setnx),
  onKeys("setex", 4, "write denyoom", FIRST, "write", strings.setex),
  onKeys("psetex", 4, "write denyoom", FIRST, "write", strings.psetex),
  onKeys("getset", 3, "write denyoom fast", FIRST, "update", strings.getset),
  onKeys("getdel", 2, "write fast", FIRST, "write", strings.getdel, { direct: getdelDirect }),
  onKeys("getex", -2, "write fast", FIRST, "update", strings.getex),
  onKeys("mget", -2, "readonly fast", ALL, "read", strings.mget),
  onKeys("mset", -3, "write denyoom", PAIRS, "write", strings.mset, { direct: msetDirect }),
  onKeys("msetnx", -3, "write denyoom", PAIRS, "alone", strings.msetnx),
  onKeys("append", 3, "write denyoom fast", FIRST, "update", strings.append),
  onKeys("strlen", 2, "readonly fast", FIRST, "read", strings.strlen),
  onKeys("getrange", 4, "readonly", FIRST, "read", strings.getrange),
  onKeys("substr", 4, "readonly", FIRST, "read", strings.getrange),
  onKeys("setrange", 4, "write denyoom", FIRST, "update", strings.setrange),
  onKeys("incr", 2, "write denyoom fast", FIRST, "update", strings.incr),
  onKeys("decr", 2, "write denyoom fast", FIRST, "update", strings.decr),
  onKeys("incrby", 3, "write denyoom fast", FIRST, "update", strings.incrby),
  onKeys("decrby", 3, "write denyoom fast", FIRST, "update", strings.decrby),
  onKeys("incrbyfloat", 3, "write denyoom fast", FIRST, "update", strings.incrbyfloat),
  onKeys("del", -2, "write", ALL, "write", keys.del, { direct: delDirect }),
  onKeys("unlink", -2, "write fast", ALL, "write", keys.del, { direct: delDirect }),
  onKeys("exists", -2, "readonly fast", ALL, "read", keys.exists, { direct: existsDirect }),
  onKeys("type", 2, "readonly fast", FIRST, "read", keys.type),
  onKeys("expire", -3, "write fast", FIRST, "update", keys.expire),
  onKeys("pexpire", -3, "write fast", FIRST, "update", keys.pexpire),
  onKeys("expireat", -3, "write fast", FIRST, "update", keys.expireat),
  onKeys("pexpireat", -3, "write fast", FIRST, "update", keys.pexpireat),
  onKeys("persist", 2, "write fast", FIRST, "update", keys.persist),
  onKeys("ttl", 2, "readonly fast", FIRST, "read", keys.ttl),
  onKeys("pttl", 2, "readonly fast", FIRST, "read", keys.pttl),
  onKeys("expiretime", 2, "readonly fast", FIRST, "read", keys.expiretime),
  onKeys("pexpiretime", 2, "readonly fast", FIRST, "read", keys.pexpiretime),
  onKeys("rename", 3, "write", [1, 2, 1], "alone", keys.rename),
  onKeys("renamenx", 3, "write fast", [1, 2, 1], "alone", keys.renamenx),
  onKeys("copy", -3, "write denyoom", [1, 2, 1], "alone", keys.copy, {
    others: (args) => {
      const { bucket } = keys.copyOptions(args);
      return bucket === undefined ? undefined : [bucket, [args[2]!]];
    },
  }),
  onKeys("object", -2, "readonly", [2, 2, 1], "read", keys.object, { subcommands: OBJECT }),
  onKeys("memory", -2, "readonly", [2, 2, 1], "read", keys.memory, { subcommands: { USAGE: -3 } }),
];

const CLIENT_ROWS: readonly ClientRow[] = [
  onClient("keys", 2, "readonly", listing.keys),
  onClient("scan", -2, "readonly", listing.scan),
  onClient("dbsize", 1, "readonly fast", listing.dbsize),
  onClient("randomkey", 1, "readonly", listing.randomkey),
  onClient("flushdb", -1, "write", listing.flushdb),
  onClient("flushall", -1, "write", listing.flushall),
  onClient("multi", 1, "noscript loading stale fast", (client) => client.multi()),
  onClient("exec", 1, "noscript loading stale", (client) => client.exec()),
  onClient("discard", 1, "noscript loading stale fast", (client) => client.discard()),
  onClient("watch", -2, "noscript loading stale fast", (client, args) => client.watch(args.slice(1))),
  onClient("unwatch", 1, "noscript loading stale fast joins", (client) => client.unwatch()),
  onClient("subscribe", -2, "pubsub noscript loading stale", connection.subscribe),
  onClient("psubscribe", -2, "pubsub noscript loading stale", connection.psubscribe),
  onClient("unsubscribe", -1, "pubsub noscript loading stale", connection.unsubscribe),
  onClient("punsubscribe", -1, "pubsub noscript loading stale", connection.punsubscribe),
  onClient("publish", 3, "pubsub loading stale fast joins", connection.publish),
  onClient("auth", -2, "noscript loading stale fast no_auth", connection.auth),
  onClient("hello", -1, "noscript loading stale fast no_auth", connection.hello),
  onClient("quit", -1, "noscript loading stale fast no_auth", connection.quit),
  onClient("reset", 1, "noscript loading stale fast no_auth", connection.reset),
  onClient("select", 2, "loading stale fast joins", connection.select),
  onClient("ping", -1, "fast joins", connection.ping),
  onClient("echo", 2, "fast joins", connection.echo),
  onClient("client", -2, "admin noscript loading stale joins", connection.client, CLIENT),
  onClient("acl", -2, "noscript loading stale joins", connection.acl, { WHOAMI: 2 }),
  onClient("info", -1, "loading stale joins", about.info),
  onClient("config", -2, "admin noscript loading stale joins", about.config, { GET: -3, SET: -4, RESETSTAT: 2 }),
  onClient("command", -1, "loading stale joins", ({ host }, args) => about.command(ROWS, host, args), COMMAND),
  { ...onClient("debug", -2, "admin noscript loading stale", () => null), refusal: about.DEBUG_REFUSED },
];

/** All commands by their names in lower case. */
export const ROWS: ReadonlyMap<string, Row> = new Map(
  [...KEY_ROWS, ...CLIENT_ROWS].map((row): [string, Row] => [row.name, row]),
);

// --- what is wrong with a command ---

/** What is wrong with a command, whatever the connection. */
export function problemOf(row: Row | undefined, args: readonly Uint8Array[]): ErrorReply | undefined {
  if (row === undefined) return unknownCommand(args);
  if (!hasArity(row, args)) return wrongArity(row.name);
  if ("refusal" in row && row.refusal !== undefined) return new ErrorReply(row.refusal);
  const { subcommands } = row;
  if (subcommands === undefined || args.length === 1) return undefined;
  const subcommand = textOf(args[1]!.subarray(0, 128));
  const arity = subcommands[subcommand.toUpperCase()];
  if (arity === undefined || !Object.hasOwn(subcommands, subcommand.toUpperCase())) {
    return new ErrorReply(`ERR unknown subcommand '${subcommand}'. Try ${row.name.toUpperCase()} HELP.`);
  }
  return hasArity({ arity }, args) ? undefined : wrongArity(`${row.name}|${subcommand.toLowerCase()}`);
}

function wrongArity(name: string): ErrorReply {
  return new ErrorReply(`ERR wrong number of arguments for '${name}' command`);
}

/** As Redis words it: the name and the beginning of the arguments. */
function unknownCommand(args: readonly Uint8Array[]): ErrorReply {
  let shownArgs = "";
  for (const arg of args.slice(1)) {
    if (shownArgs.length >= 128) break;
    shownArgs += `'${textOf(arg.subarray(0, 128 - shownArgs.length))}' `;
  }
  const name = textOf(args[0]!.subarray(0, 128));
  return new ErrorReply(`ERR unknown command '${name}', with args beginning with: ${shownArgs}`);
}
