/**
 * Requests of `firkin.v1.cbor`: from a frame to a command, and from its answer to the reply.
 *
 * A request reads its arguments and runs before the next frame is read, so that writes of one message reach the engine
 * in order and keys and values may stay views of the message. What it returns, at once or as a promise, is written by
 * the same row. A request fails by throwing or rejecting: what is wrong with its items (`PROTOCOL`) is found while they
 * are read, everything else by `commands.ts`. The requests that keep a connection going (hello, auth, ping,
 * unsubscribe, more) are no operations on the store and end here.
 *
 * @module
 */
import { KeyBuffer } from "../lib/base/bytes.ts";
import type {
  AtomicResult,
  BucketInfo,
  EngineStats,
  Entry,
  ListPage,
  SetOptions,
  SubscribeQuery,
  WriteResult,
} from "../lib/engine/engine.ts";
import { readSettings, writeBuckets } from "../lib/wire/buckets.ts";
import type { CborReader, CborWriter } from "../lib/wire/cbor.ts";
import {
  countOfPage,
  OP,
  readContent,
  readDeadline,
  readListQuery,
  readOperations,
  readSetEntries,
  readSubscribeQuery,
  readTextOrNull,
  readUintOrNull,
  type WireLimits,
  writeAtomicResult,
  writeEntry,
  writeLimits,
  writePage,
  writeUintOrNull,
  writeValue,
  writeWriteResult,
} from "../lib/wire/protocol.ts";
import type { Principal } from "./auth.ts";
import type { Answer, Commands } from "./commands.ts";

/** What the reply to `hello` calls this server. */
const SERVER_NAME = "firkin";

/** A subscription as the session has registered it. */
export interface Subscribed {
  readonly channel: number;
  /** Where it begins. */
  readonly cursor: string;
}

/** What a request may ask of the session that it came on. */
export interface FrameHost {
  readonly commands: Commands;
  /** Who asks. */
  readonly principal: Principal;
  readonly limits: WireLimits;
  /**
   * Lets the connection in.
   * @throws {FirkinError} PROTOCOL — another version; INVALID — a second hello; UNAUTHORIZED, BUSY — as `authenticate`
   */
  greet(version: number, token: string | undefined): void;
  /**
   * From now on it is who the token stands for; subscriptions that are no longer allowed end.
   * @returns When the token expires
   * @throws {FirkinError} UNAUTHORIZED — nobody; BUSY — too many wrong ones came before. The connection ends
   */
  authenticate(token: string): number | undefined;
  /** Registers a subscription; nothing is sent before `start`. `window` is in bytes of frames. */
  subscribe(query: SubscribeQuery, window: number): Promise<Subscribed>;
  /** Lets a registered subscription send. */
  start(channel: number): void;
  /** Lets a subscription send `bytes` more. */
  grant(channel: number, bytes: number): void;
  /** Ends a subscription; one that has ended already is no error. */
  unsubscribe(channel: number): void;
}

/** One kind of request. `Result` is what `run` gives and `write` puts into the reply. */
export interface FrameRequest<Result = unknown> {
  /** True when a reply may be a thousand times longer than its request: few of them run at once. */
  readonly page?: boolean;
  run(host: FrameHost, reader: CborReader): Answer<Result>;
  /**
   * In the place of `run`, where most answers are there at once: writes the result and returns true, or returns a
   * promise of it with nothing written. Whoever calls forgets what was written when this throws.
   */
  answer?(host: FrameHost, reader: CborReader, writer: CborWriter): true | Promise<Result>;
  write(writer: CborWriter, result: Result): void;
  /** Called after the reply is written. */
  done?(host: FrameHost, result: Result): void;
}

// --- the connection ---

const hello: FrameRequest<FrameHost> = {
  run(host, reader) {
    const version = reader.uint();
    host.greet(version, reader.skipNull() ? undefined : reader.text());
    return host;
  },
  write(writer, { limits, commands }) {
    writer.text(SERVER_NAME);
    writeLimits(writer, limits);
    writer.text(commands.epoch);
  },
};

const auth: FrameRequest<number | undefined> = {
  run: (host, reader) => host.authenticate(reader.text()),
  write: writeUintOrNull,
};

const ping: FrameRequest<void> = { run: () => {}, write: writeNothing };

const unsubscribe: FrameRequest<void> = {
  run: (host, reader) => host.unsubscribe(reader.uint()),
  write: writeNothing,
};

const more: FrameRequest<void> = {
  run: (host, reader) => host.grant(reader.uint(), reader.uint()),
  write: writeNothing,
};

// --- the store ---

const get: FrameRequest<Entry | undefined> = {
  run: (host, reader) => host.commands.get(host.principal, reader.text(), reader.bytes()),
  answer(host, reader, writer) {
    const bucket = reader.text();
    const key = readKey(reader);
    valueWriter = writer;
    const answer = host.commands.show(host.principal, bucket, key, writeShown);
    if (answer === false) writer.null();
    return typeof answer === "boolean" || answer;
  },
  write: writeEntry,
};

const keys = new KeyBuffer();

/** A key, lent until the next is read: a view of the message for each would cost more than to look it up. */
function readKey(reader: CborReader): Uint8Array {
  const length = reader.span();
  return keys.cut(reader.source, reader.position - length, reader.position);
}

/** Where {@link writeShown} writes: it is called by the engine, and a function made for each call would cost more. */
let valueWriter: CborWriter;

/** Writes an entry as {@link writeEntry} does, from where the engine has it; not one of a single-read key. */
function writeShown(
  bytes: Uint8Array,
  start: number,
  end: number,
  content: number,
  once: boolean,
  revision: number,
  expiresAt: number,
): boolean {
  if (!once) writeValue(valueWriter, bytes, start, end, content, revision, expiresAt);
  return !once;
}

const getMany: FrameRequest<(Entry | undefined)[]> = {
  page: true,
  run(host, reader) {
    const bucket = reader.text();
    const keys: Uint8Array[] = [];
    for (let left = reader.array(); left > 0; left--) keys.push(reader.bytes());
    return host.commands.getMany(host.principal, bucket, keys);
  },
  write(writer, entries) {
    // What was taken is gone: it must be in the reply, however long that gets.
    const count = Math.max(countOfPage(entries), entries.findLastIndex((entry) => entry?.once === true) + 1);
    writer.array(count);
    for (let index = 0; index < count; index++) writeEntry(writer, entries[index]);
  },
};

const has: FrameRequest<boolean> = {
  run: (host, reader) => host.commands.has(host.principal, reader.text(), readKey(reader)),
  write: (writer, exists) => writer.bool(exists),
};

const list: FrameRequest<ListPage> = {
  page: true,
  run: (host, reader) => host.commands.list(host.principal, reader.text(), readListQuery(reader)),
  write: writePage,
};

const set: FrameRequest<WriteResult> = {
  run(host, reader) {
    const bucket = reader.text();
    const key = readKey(reader);
    const content = readContent(reader);
    const value = reader.bytes();
    const deadline = readDeadline(reader);
    const ifRevision = readUintOrNull(reader);
    const once = reader.bool();
    const options: SetOptions = deadline === undefined && ifRevision === undefined ? { content, once } : {
      content,
      once,
      ...(deadline && { deadline }),
      ...(ifRevision !== undefined && { ifRevision }),
    };
    return host.commands.set(host.principal, bucket, key, value, options);
  },
  write: writeWriteResult,
};

const setMany: FrameRequest<void> = {
  run: (host, reader) => host.commands.setMany(host.principal, reader.text(), readSetEntries(reader)),
  write: writeNothing,
};

const remove: FrameRequest<WriteResult> = {
  run(host, reader) {
    const bucket = reader.text();
    const key = readKey(reader);
    const ifRevision = readUintOrNull(reader);
    return host.commands.delete(host.principal, bucket, key, ifRevision === undefined ? {} : { ifRevision });
  },
  write: writeWriteResult,
};

const touch: FrameRequest<WriteResult> = {
  run: (host, reader) => host.commands.touch(host.principal, reader.text(), reader.bytes(), readDeadline(reader)),
  write: writeWriteResult,
};

const increment: FrameRequest<{ value: number; revision: number }> = {
  run: (host, reader) => host.commands.increment(host.principal, reader.text(), reader.bytes(), reader.number()),
  write(writer, { revision, value }) {
    writer.uint(revision);
    writer.number(value);
  },
};

const take: FrameRequest<Entry | undefined> = {
  run: (host, reader) => host.commands.take(host.principal, reader.text(), reader.bytes()),
  write: writeEntry,
};

const atomic: FrameRequest<AtomicResult> = {
  run: (host, reader) => host.commands.atomic(host.principal, readOperations(reader)),
  write: writeAtomicResult,
};

const subscribe: FrameRequest<Subscribed> = {
  run(host, reader) {
    const query = readSubscribeQuery(reader);
    return host.subscribe(query, readUintOrNull(reader) ?? Infinity);
  },
  write(writer, { channel, cursor }) {
    writer.uint(channel);
    writer.text(cursor);
  },
  done: (host, { channel }) => host.start(channel),
};

const buckets: FrameRequest<readonly BucketInfo[]> = {
  page: true,
  run: (host, reader) => host.commands.buckets(host.principal, readTextOrNull(reader)),
  write: writeBuckets,
};

const configure: FrameRequest<boolean> = {
  run: (host, reader) => host.commands.configure(host.principal, reader.text(), readSettings(reader)),
  write: writeNothing,
};

const stats: FrameRequest<EngineStats> = {
  run: (host) => host.commands.stats(host.principal),
  write(writer, figures) {
    const entries = Object.entries(figures);
    writer.array(entries.length);
    for (const [name, value] of entries) {
      writer.array(2);
      writer.text(name);
      writer.number(value);
    }
  },
};

const sync: FrameRequest<void> = { run: (host) => host.commands.sync(host.principal), write: writeNothing };
const compact: FrameRequest<void> = { run: (host) => host.commands.compact(host.principal), write: writeNothing };

/** The requests by the number of their operation. */
export const FRAME_REQUESTS: readonly FrameRequest[] = requestsByNumber({
  hello,
  get,
  getMany,
  set,
  delete: remove,
  touch,
  increment,
  list,
  subscribe,
  unsubscribe,
  ping,
  stats,
  sync,
  compact,
  more,
  take,
  has,
  atomic,
  setMany,
  auth,
  buckets,
  configure,
});

function requestsByNumber(requests: Record<keyof typeof OP, FrameRequest>): readonly FrameRequest[] {
  const byNumber: FrameRequest[] = [];
  for (const [name, op] of Object.entries(OP)) byNumber[op] = requests[name as keyof typeof OP];
  return byNumber;
}

function writeNothing(): void {}
