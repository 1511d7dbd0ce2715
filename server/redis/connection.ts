/**
 * The commands on a connection: who asks, in which version and database, under which name; and on other connections.
 *
 * What one may see and do of others takes the right `admin`.
 *
 * @module
 */
import { FirkinError } from "../../lib/base/errors.ts";
import { isBucketName } from "../../lib/engine/engine.ts";
import type { Answer } from "../commands.ts";
import { checkName, type Client } from "./call.ts";
import { databaseOf } from "./keys.ts";
import { latin1, parseInteger, textOf, wordOf } from "./numbers.ts";
import { bulk, ErrorReply, MapReply, type Reply, VerbatimReply } from "./resp.ts";

/** The version of Redis whose commands these are, since clients ask. */
export const REDIS_VERSION = "7.0.0";

type Args = readonly Uint8Array[];

// --- who ---

/** AUTH [username] password: the password is a token, the name is not looked at. */
export function auth(client: Client, args: Args): Reply {
  if (args.length > 3) throw new ErrorReply("ERR syntax error");
  if (!client.host.asksCredentials) {
    if (args.length === 2) {
      throw new ErrorReply(
        "ERR AUTH <password> called without any password configured for the default user. " +
          "Are you sure your configuration is correct?",
      );
    }
  }
  identify(client, args.length === 3 ? args[1] : undefined, args.at(-1)!);
  return "OK";
}

/** The name is not looked at, unless nobody has one. */
function identify(client: Client, name: Uint8Array | undefined, token: Uint8Array): void {
  if (!client.host.asksCredentials) {
    if (name !== undefined && latin1(name) === "default") return;
    throw wrongPassword();
  }
  try {
    client.authenticate(latin1(token));
  } catch (error) {
    if (!(error instanceof FirkinError)) throw error;
    if (error.code === "BUSY") client.end();
    throw error.code === "UNAUTHORIZED" ? wrongPassword() : error;
  }
}

function wrongPassword(): ErrorReply {
  return new ErrorReply("WRONGPASS invalid username-password pair or user is disabled.");
}

/** HELLO [version [AUTH username password] [SETNAME name]] */
export function hello(client: Client, args: Args): Reply {
  const version = args.length > 1 ? parseInteger(args[1]!) : BigInt(client.version);
  if (version === undefined) throw new ErrorReply("ERR Protocol version is not an integer or out of range");
  if (version !== 2n && version !== 3n) throw new ErrorReply("NOPROTO unsupported protocol version");
  let name: Uint8Array | undefined;
  let credentials: readonly [name: Uint8Array, token: Uint8Array] | undefined;
  for (let index = 2; index < args.length; index++) {
    const word = wordOf(args[index]!);
    if (word === "AUTH" && index + 2 < args.length) credentials = [args[++index]!, args[++index]!];
    else if (word === "SETNAME" && index + 1 < args.length) name = args[++index];
    else throw new ErrorReply(`ERR Syntax error in HELLO option '${textOf(args[index]!)}'`);
  }
  if (credentials !== undefined) identify(client, ...credentials);
  if (!client.isKnown) {
    throw new ErrorReply(
      "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> " +
        "<pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
    );
  }
  if (name !== undefined) client.name = nameIn(name);
  client.version = version === 3n ? 3 : 2;
  return new MapReply([
    [bulk("server"), bulk("redis")],
    [bulk("version"), bulk(REDIS_VERSION)],
    [bulk("proto"), client.version],
    [bulk("id"), client.id],
    [bulk("mode"), bulk("standalone")],
    [bulk("role"), bulk("master")],
    [bulk("modules"), []],
  ]);
}

/** ACL WHOAMI */
export function acl(client: Client): Reply {
  return bulk(client.host.asksCredentials ? client.principal.name : "default");
}

// --- the connection ---

/** SELECT index, or the name of a bucket */
export function select(client: Client, args: Args): Reply {
  const name = latin1(args[1]!);
  const isNamed = /[^0-9]/.test(name) && isBucketName(name);
  const bucket = isNamed ? name : databaseOf(args[1]!);
  // What is kept of another database would never be told of.
  if (client.trackedBucket !== undefined && client.trackedBucket !== bucket) {
    throw new ErrorReply(
      "ERR this connection tracks what it reads: it stays in its database until CLIENT TRACKING OFF",
    );
  }
  client.bucket = bucket;
  return "OK";
}

/** PING [message] */
export function ping(client: Client, args: Args): Reply {
  if (args.length > 2) throw new ErrorReply("ERR wrong number of arguments for 'ping' command");
  const isSubscribed = client.version === 2 && client.channels + client.patterns > 0;
  if (isSubscribed) return [bulk("pong"), args[1] ?? bulk("")];
  return args[1] ?? "PONG";
}

/** ECHO message */
export function echo(_client: Client, args: Args): Reply {
  return args[1]!;
}

/** QUIT */
export function quit(client: Client): Reply {
  client.end();
  return "OK";
}

/** RESET */
export function reset(client: Client): Reply {
  client.reset();
  return "RESET";
}

// --- CLIENT ---

/** CLIENT subcommand ... */
export function client(self: Client, args: Args): Answer<Reply | undefined> {
  switch (wordOf(args[1]!)) {
    case "ID":
      return self.id;
    case "GETNAME":
      return self.name === "" ? null : bulk(self.name);
    case "SETNAME":
      self.name = nameIn(args[2]!);
      return "OK";
    case "SETINFO":
      return setInfo(self, args);
    case "INFO":
      return new VerbatimReply(`${lineOf(self)}\n`);
    case "LIST":
      return list(self, args);
    case "KILL":
      return kill(self, args);
    case "TRACKING":
      return tracking(self, args);
    case "REPLY":
      return replyMode(self, args);
    case "GETREDIR":
      return self.trackedBucket === undefined ? -1 : 0;
    default:
      return noEvict(args);
  }
}

/** CLIENT REPLY ON | OFF | SKIP, of which only the first is answered */
function replyMode(self: Client, args: Args): Reply | undefined {
  const word = wordOf(args[2]!);
  if (word !== "ON" && word !== "OFF" && word !== "SKIP") throw new ErrorReply("ERR syntax error");
  self.silence(({ ON: "none", OFF: "all", SKIP: "next" } as const)[word]);
  return word === "ON" ? "OK" : undefined;
}

/** CLIENT TRACKING ON | OFF [BCAST] [PREFIX prefix]... */
function tracking(self: Client, args: Args): Answer<Reply> {
  const word = wordOf(args[2]!);
  if (word === "OFF" && args.length === 3) return self.untrack();
  if (word !== "ON") throw new ErrorReply("ERR syntax error");
  return self.track(args);
}

/** Nothing is evicted, with or without. */
function noEvict(args: Args): Reply {
  if (!["ON", "OFF"].includes(wordOf(args[2]!))) throw new ErrorReply("ERR syntax error");
  return "OK";
}

/** A name has neither spaces nor anything that would end a line. */
function nameIn(bytes: Uint8Array): string {
  if (bytes.some((byte) => byte < 0x21 || byte > 0x7e) || bytes.length > 1_024) {
    throw new ErrorReply("ERR Client names cannot contain spaces, newlines or special characters.");
  }
  return latin1(bytes);
}

function setInfo(self: Client, args: Args): Reply {
  const option = wordOf(args[2]!);
  if (option !== "LIB-NAME" && option !== "LIB-VER") {
    throw new ErrorReply(`ERR Unrecognized option '${textOf(args[2]!)}'`);
  }
  if (args[3]!.some((byte) => byte < 0x21 || byte > 0x7e) || args[3]!.length > 1_024) {
    throw new ErrorReply(`ERR ${textOf(args[2]!)} cannot contain spaces, newlines or special characters.`);
  }
  if (option === "LIB-NAME") self.library = latin1(args[3]!);
  else self.libraryVersion = latin1(args[3]!);
  return "OK";
}

/** What is told of a connection. */
function lineOf(client: Client): string {
  const now = client.host.clock.wall();
  const seconds = (at: number): number => Math.max(Math.floor((now - at) / 1_000), 0);
  const fields: Readonly<Record<string, string | number>> = {
    id: client.id,
    addr: client.address,
    laddr: client.localAddress,
    name: client.name,
    age: seconds(client.connectedAt),
    idle: seconds(client.lastCommandAt),
    flags: client.channels + client.patterns > 0 ? "P" : client.queued >= 0 ? "x" : "N",
    db: client.bucket,
    sub: client.channels,
    psub: client.patterns,
    multi: client.queued,
    cmd: client.lastCommand,
    user: client.host.asksCredentials ? client.principal.name.replace(/\s/g, "_") : "default",
    resp: client.version,
    "lib-name": client.library,
    "lib-ver": client.libraryVersion,
  };
  return Object.entries(fields).map(([name, value]) => `${name}=${value}`).join(" ");
}

/** All, for who may see them. */
function visibleTo(self: Client): readonly Client[] {
  return self.principal.allows("admin", undefined) ? [...self.host.clients.values()] : [self];
}

/** CLIENT LIST [TYPE type] [ID id...] */
function list(self: Client, args: Args): Reply {
  let clients = visibleTo(self);
  const word = args.length > 2 ? wordOf(args[2]!) : "";
  if (word === "ID" && args.length > 3) {
    const ids = args.slice(3).map((id) => parseInteger(id));
    if (ids.includes(undefined)) throw new ErrorReply("ERR Invalid client ID");
    clients = clients.filter(({ id }) => ids.includes(BigInt(id)));
  } else if (word === "TYPE" && args.length === 4) clients = ofType(clients, args[3]!);
  else if (word !== "") throw new ErrorReply("ERR syntax error");
  return new VerbatimReply(clients.map((other) => `${lineOf(other)}\n`).join(""));
}

function ofType(clients: readonly Client[], type: Uint8Array): readonly Client[] {
  const word = wordOf(type);
  if (!["NORMAL", "MASTER", "REPLICA", "SLAVE", "PUBSUB"].includes(word)) {
    throw new ErrorReply(`ERR Unknown client type '${textOf(type)}'`);
  }
  return clients.filter(({ channels, patterns }) => (channels + patterns > 0 ? "PUBSUB" : "NORMAL") === word);
}

/** CLIENT KILL address, or [ID id] [ADDR address] [LADDR address] [TYPE type] [USER name] [SKIPME yes | no] */
function kill(self: Client, args: Args): Reply {
  if (!self.principal.allows("admin", undefined)) {
    throw new FirkinError("FORBIDDEN", "Cannot end connections: the right to admin in the whole store is missing");
  }
  if (args.length === 3) {
    const found = visibleTo(self).find(({ address }) => address === latin1(args[2]!));
    if (found === undefined) throw new ErrorReply("ERR No such client");
    killOne(self, found);
    return "OK";
  }
  if (args.length % 2 !== 0) throw new ErrorReply("ERR syntax error");
  let clients = visibleTo(self);
  let skipsSelf = true;
  for (let index = 2; index < args.length; index += 2) {
    const argument = args[index + 1]!;
    const text = latin1(argument);
    switch (wordOf(args[index]!)) {
      case "ID": {
        const id = parseInteger(argument);
        if (id === undefined || id < 1n) throw new ErrorReply("ERR client-id should be greater than 0");
        clients = clients.filter((other) => BigInt(other.id) === id);
        break;
      }
      case "ADDR":
        clients = clients.filter(({ address }) => address === text);
        break;
      case "LADDR":
        clients = clients.filter(({ localAddress }) => localAddress === text);
        break;
      case "TYPE":
        clients = ofType(clients, argument);
        break;
      case "USER":
        clients = clients.filter((other) => latin1(acl(other) as Uint8Array) === text);
        break;
      case "SKIPME":
        if (!/^(?:yes|no)$/i.test(text)) throw new ErrorReply("ERR syntax error");
        skipsSelf = text.toLowerCase() === "yes";
        break;
      default:
        throw new ErrorReply("ERR syntax error");
    }
  }
  const found = clients.filter((other) => !skipsSelf || other !== self);
  for (const other of found) killOne(self, other);
  return found.length;
}

/** One's own end comes behind the reply. */
function killOne(self: Client, other: Client): void {
  if (other === self) self.end();
  else other.kill();
}

// --- messages ---

/** SUBSCRIBE channel... */
export function subscribe(self: Client, args: Args): Answer<Reply | undefined> {
  return subscribeAll(self, args.slice(1), false);
}

/** PSUBSCRIBE pattern... */
export function psubscribe(self: Client, args: Args): Answer<Reply | undefined> {
  return subscribeAll(self, args.slice(1), true);
}

/** A reply for each. */
async function subscribeAll(self: Client, names: Args, isPattern: boolean): Promise<undefined> {
  for (const name of names) {
    const reply = self.subscribe(name, isPattern);
    self.write(reply instanceof Promise ? await reply : reply);
  }
}

/** UNSUBSCRIBE [channel...] */
export function unsubscribe(self: Client, args: Args): undefined {
  for (const reply of self.unsubscribe(args.slice(1), false)) self.write(reply);
}

/** PUNSUBSCRIBE [pattern...] */
export function punsubscribe(self: Client, args: Args): undefined {
  for (const reply of self.unsubscribe(args.slice(1), true)) self.write(reply);
}

/** PUBLISH channel message */
export function publish(self: Client, args: Args): Answer<Reply> {
  // Channels belong to no bucket.
  if (!self.principal.allows("write", undefined)) {
    throw new FirkinError("FORBIDDEN", "Cannot publish: the right to write in the whole store is missing");
  }
  const { hub, limits } = self.host;
  checkName(args[1]!, self.host);
  if (hub.bytesWaiting > limits.publishBytesMax) {
    throw new FirkinError(
      "BUSY",
      `Cannot publish: ${hub.bytesWaiting} bytes of messages wait, at most ${limits.publishBytesMax} are allowed`,
    );
  }
  return hub.publish(args[1]!, args[2]!);
}
