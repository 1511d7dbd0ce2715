/**
 * What a command gets to work with: a view of keys, or the connection that it came on.
 *
 * A command is one of two kinds. Those on keys are functions of a view ({@link KeyCall}), so that they can be part of a
 * transaction, and run again when somebody else was faster. All others work on the connection and its server
 * ({@link Client}, {@link RedisHost}), and run once.
 *
 * @module
 */
import { ERRORS, FirkinError } from "../../lib/base/errors.ts";
import type { Principal } from "../auth.ts";
import type { BacklogHost } from "../backlog.ts";
import { type Answer, type Commands, failureOf } from "../commands.ts";
import type { Cursors } from "./cursors.ts";
import type { Hub } from "./hub.ts";
import type { Owner, Pace } from "./pace.ts";
import { ErrorReply, type Reply, type RespVersion, type RespWriter } from "./resp.ts";
import type { Updates, View } from "./view.ts";

/** So much longer than a key may a channel's name be: `__keyspace@`, a bucket's name and `__:` stand before one. */
const NAME_MORE_BYTES = 128;

/** One call of a command on keys. */
export interface KeyCall {
  readonly view: View;
  /** The database that is selected. */
  readonly bucket: string;
  /** The command's name first, as it came. */
  readonly args: readonly Uint8Array[];
  /** The command's name in lower case. */
  readonly name: string;
}

/** What the connections of one server share. */
export interface RedisHost extends BacklogHost {
  readonly commands: Commands;
  readonly updates: Updates;
  readonly pace: Pace;
  readonly hub: Hub;
  readonly cursors: Cursors;
  /** All that are open, by id. */
  readonly clients: Map<number, Client>;
  /** What CONFIG SET may change. */
  readonly settings: { notifications: string };
  /** Writers that no connection is using. */
  readonly writers: RespWriter[];
  readonly port: number;
  /** Epoch milliseconds. */
  readonly startedAt: number;
  /** Names this life of the server. */
  readonly runId: string;
  /** Clients say who they are. */
  readonly asksCredentials: boolean;
  /** Told of a failure that is the server's own fault. */
  readonly onFailure: (error: unknown) => void;
}

/** What is not answered: no command is, or not the next one, or not the one that runs. */
export type Silence = "none" | "all" | "next" | "this";

/** One connection, as commands see it. */
export interface Client extends Owner {
  readonly host: RedisHost;
  readonly id: number;
  /** Where it comes from, and where it leads: address and port. */
  readonly address: string;
  readonly localAddress: string;
  /** Epoch milliseconds. */
  readonly connectedAt: number;
  lastCommand: string;
  lastCommandAt: number;
  name: string;
  library: string;
  libraryVersion: string;
  principal: Principal;
  /** False until it has said who it is, where that is asked. */
  readonly isKnown: boolean;
  bucket: string;
  version: RespVersion;
  readonly channels: number;
  readonly patterns: number;
  /** Lengths of the patterns, and of the prefixes that are tracked, together. */
  readonly patternBytes: number;
  /** Both, tracking by each prefix, and keys that are not there and are watched. */
  readonly subscriptions: number;
  /** Commands that wait for EXEC; -1 outside of a transaction. */
  readonly queued: number;
  /** Who a token stands for is whom the connection is from now on. @throws {FirkinError} UNAUTHORIZED, BUSY */
  authenticate(token: string): void;
  /** As it was when it opened. */
  reset(): void;
  subscribe(name: Uint8Array, isPattern: boolean): Answer<Reply>;
  /** All of a kind when `names` is empty. */
  unsubscribe(names: readonly Uint8Array[], isPattern: boolean): readonly Reply[];
  /** CLIENT TRACKING ON and OFF; the database that it is of, while it is on. */
  track(args: readonly Uint8Array[]): Answer<Reply>;
  untrack(): Reply;
  readonly trackedBucket: string | undefined;
  /** Keys of the database that is selected are about to be read. */
  noteRead(keys: readonly Uint8Array[]): void;
  /** The value of a key, which is written down where it lies: undefined when that is done. */
  show(key: Uint8Array): Answer<Reply | undefined>;
  /** Begins, ends or runs a transaction. */
  multi(): Reply;
  discard(): Reply;
  exec(): Answer<Reply>;
  watch(keys: readonly Uint8Array[]): Answer<Reply>;
  unwatch(): Reply;
  /** Leaves replies out from now on. */
  silence(silence: Silence): void;
  /** Writes a reply that stands before the one that a command returns. */
  write(reply: Reply): void;
  /** Closes when what was written is sent. */
  end(): void;
  /** Closes at once. */
  kill(): void;
}

/**
 * Looks at a channel's name, or a pattern of names or keys: what is longer than any name fits none, is kept for as long
 * as somebody listens, and costs its length at each comparison.
 *
 * @throws {FirkinError} TOO_LARGE
 */
export function checkName({ length }: { readonly length: number }, { limits }: Pick<RedisHost, "limits">): void {
  const most = limits.keyBytesMax + NAME_MORE_BYTES;
  if (length <= most) return;
  throw new FirkinError(
    "TOO_LARGE",
    `Cannot use a name or pattern of ${length} bytes: at most ${most} are allowed`,
  );
}

/** Looks whether a connection may have so many subscriptions more. @throws {FirkinError} BUSY */
export function checkRoom({ subscriptions, host: { limits: { subscriptionsMax } } }: Client, more = 1): void {
  if (subscriptions + more <= subscriptionsMax) return;
  throw new FirkinError("BUSY", `Cannot subscribe: this connection has ${subscriptionsMax} subscriptions, the most`);
}

/**
 * Looks whether a connection may listen to patterns, or track prefixes, of so many bytes more.
 *
 * @throws {FirkinError} BUSY
 */
export function checkPatterns({ patternBytes, host: { limits: { patternBytesMax } } }: Client, bytes: number): void {
  if (patternBytes + bytes <= patternBytesMax) return;
  throw new FirkinError(
    "BUSY",
    `Cannot subscribe: patterns and prefixes of this connection would have ${patternBytes + bytes} bytes, at most ` +
      `${patternBytesMax} are allowed`,
  );
}

/** What a client is told of whatever was thrown. */
export function errorOf(error: unknown, { onFailure }: Pick<RedisHost, "onFailure">): ErrorReply {
  if (error instanceof ErrorReply) return error;
  const { code, message } = failureOf(error, onFailure);
  return new ErrorReply(`${ERRORS[code].resp} ${message}`);
}
