/**
 * Each operation once: its arguments, their limits, its handler and its reply.
 *
 * A command reads its arguments from the frame and runs before the next frame is read, so that writes of one message
 * reach the engine in order and keys and values may stay views of the message. What it returns, at once or as a
 * promise, is written by the same row. A command fails by throwing or rejecting: wrong arguments are `INVALID` or
 * `TOO_LARGE`, and the session answers and goes on.
 *
 * @module
 */
import { FirkinError } from "../lib/base/errors.ts";
import {
  type AtomicResult,
  checkBatch,
  checkEntries,
  type Engine,
  type EngineStats,
  type Entry,
  isBucketName,
  type ListPage,
  PAGE_BYTES_MAX,
  PAGE_ENTRIES_MAX,
  type SubscribeQuery,
  type WriteResult,
} from "../lib/engine/engine.ts";
import type { CborReader, CborWriter } from "../lib/wire/cbor.ts";
import {
  countOfPage,
  KEYS_MAX,
  OP,
  readContent,
  readDeadline,
  readListQuery,
  readOperations,
  readSetEntries,
  readSubscribeQuery,
  readUintOrNull,
  type WireLimits,
  writeAtomicResult,
  writeEntry,
  writeLimits,
  writePage,
  writeWriteResult,
} from "../lib/wire/protocol.ts";

/** What the reply to `hello` calls this server. */
const SERVER_NAME = "firkin";

/** A subscription as the session has registered it. */
export interface Subscribed {
  readonly channel: number;
  /** Where it begins. */
  readonly cursor: string;
}

/** What a command may ask of the session that runs it. */
export interface CommandHost {
  readonly engine: Engine;
  readonly limits: WireLimits;
  /** Lets the connection in. @throws {FirkinError} PROTOCOL — another version; INVALID — a second hello */
  greet(version: number): void;
  /** Registers a subscription; nothing is sent before `start`. `window` is in bytes of frames. */
  subscribe(query: SubscribeQuery, window: number): Promise<Subscribed>;
  /** Lets a registered subscription send. */
  start(channel: number): void;
  /** Lets a subscription send `bytes` more. */
  grant(channel: number, bytes: number): void;
  /** Ends a subscription; one that has ended already is no error. */
  unsubscribe(channel: number): void;
  /** Figures about the engine and the server. */
  stats(): Promise<EngineStats>;
}

/** One operation. `Result` is what `run` gives and `write` puts into the reply. */
export interface Command<Result = unknown> {
  /** True when a reply may be a thousand times longer than its request: few of them run at once. */
  readonly page?: boolean;
  run(host: CommandHost, reader: CborReader): Result | Promise<Result>;
  write(writer: CborWriter, result: Result): void;
  /** Called after the reply is written. */
  done?(host: CommandHost, result: Result): void;
}

const hello: Command<WireLimits> = {
  run(host, reader) {
    const version = reader.uint();
    // A token is taken and not looked at: the server listens on loopback only.
    if (!reader.skipNull()) reader.text();
    host.greet(version);
    return host.limits;
  },
  write(writer, limits) {
    writer.text(SERVER_NAME);
    writeLimits(writer, limits);
  },
};

const get: Command<Entry | undefined> = {
  run(host, reader) {
    const bucket = readBucket(reader);
    const key = readKey(host, reader);
    const { engine } = host;
    const entry = engine.getSync?.(bucket, key);
    // At once, but for a single-read key: that is taken.
    return engine.getSync === undefined || entry?.once === true ? engine.get(bucket, key) : entry;
  },
  write: writeEntry,
};

const has: Command<boolean> = {
  run(host, reader) {
    const bucket = readBucket(reader);
    return host.engine.has(bucket, readKey(host, reader));
  },
  write: (writer, exists) => writer.bool(exists),
};

const take: Command<Entry | undefined> = {
  run(host, reader) {
    const bucket = readBucket(reader);
    return host.engine.take(bucket, readKey(host, reader));
  },
  write: writeEntry,
};

const getMany: Command<(Entry | undefined)[]> = {
  page: true,
  run(host, reader) {
    const bucket = readBucket(reader);
    const count = reader.array();
    if (count > KEYS_MAX) throw new FirkinError("TOO_LARGE", `Cannot get ${count} keys: at most ${KEYS_MAX} at once`);
    const keys: Uint8Array[] = [];
    for (let left = count; left > 0; left--) keys.push(readKey(host, reader));
    const { engine } = host;
    if (engine.getSync === undefined) return engine.getMany(bucket, keys);
    const entries: (Entry | undefined)[] = [];
    let bytes = 0;
    for (const key of keys) {
      if (bytes >= PAGE_BYTES_MAX) break;
      const entry = engine.getSync(bucket, key);
      // What is taken must fit the reply, and nobody knows its size before: it is the reply's last.
      if (entry?.once === true) return engine.get(bucket, key).then((taken) => [...entries, taken]);
      entries.push(entry);
      if (entry !== undefined) bytes += entry.key.length + entry.value.length;
    }
    return entries;
  },
  write(writer, entries) {
    // What was taken is gone: it must be in the reply, however long that gets.
    const count = Math.max(countOfPage(entries), entries.findLastIndex((entry) => entry?.once === true) + 1);
    writer.array(count);
    for (let index = 0; index < count; index++) writeEntry(writer, entries[index]);
  },
};

const set: Command<WriteResult> = {
  run(host, reader) {
    const bucket = readBucket(reader);
    const key = readKey(host, reader);
    const content = readContent(reader);
    const value = reader.bytes();
    const { valueBytesMax } = host.limits;
    if (value.length > valueBytesMax) {
      throw new FirkinError("TOO_LARGE", `Cannot set a value of ${value.length} bytes: at most ${valueBytesMax}`);
    }
    const deadline = readDeadline(reader);
    const ifRevision = readUintOrNull(reader);
    const once = reader.bool();
    return host.engine.set(bucket, key, value, {
      content,
      ...(deadline && { deadline }),
      ...(ifRevision !== undefined && { ifRevision }),
      once,
    });
  },
  write: writeWriteResult,
};

const setMany: Command<void> = {
  run(host, reader) {
    const bucket = readBucket(reader);
    const entries = readSetEntries(reader);
    checkEntries(entries, host.limits);
    return host.engine.setMany(bucket, entries);
  },
  write: writeNothing,
};

const atomic: Command<AtomicResult> = {
  run(host, reader) {
    const operations = readOperations(reader);
    for (const { bucket } of operations) checkBucket(bucket);
    checkBatch(operations, host.limits);
    return host.engine.atomic(operations);
  },
  write: writeAtomicResult,
};

const remove: Command<WriteResult> = {
  run(host, reader) {
    const bucket = readBucket(reader);
    const key = readKey(host, reader);
    const ifRevision = readUintOrNull(reader);
    return host.engine.delete(bucket, key, ifRevision === undefined ? {} : { ifRevision });
  },
  write: writeWriteResult,
};

const touch: Command<WriteResult> = {
  run(host, reader) {
    const bucket = readBucket(reader);
    const key = readKey(host, reader);
    return host.engine.touch(bucket, key, readDeadline(reader));
  },
  write: writeWriteResult,
};

const increment: Command<{ value: number; revision: number }> = {
  run(host, reader) {
    const bucket = readBucket(reader);
    const key = readKey(host, reader);
    const by = reader.number();
    if (!Number.isFinite(by)) throw new FirkinError("INVALID", `Cannot increment by ${by}: it is not finite`);
    return host.engine.increment(bucket, key, by);
  },
  write(writer, { revision, value }) {
    writer.uint(revision);
    writer.number(value);
  },
};

const list: Command<ListPage> = {
  page: true,
  run(host, reader) {
    const bucket = readBucket(reader);
    const query = readListQuery(reader);
    if (query.limit === 0) throw new FirkinError("INVALID", "Cannot list: a limit of 0 entries would never end");
    return host.engine.list(bucket, { ...query, limit: Math.min(query.limit, PAGE_ENTRIES_MAX) });
  },
  write: writePage,
};

const subscribe: Command<Subscribed> = {
  run(host, reader) {
    const query = readSubscribeQuery(reader);
    const window = readUintOrNull(reader) ?? Infinity;
    if (query.bucket !== undefined) checkBucket(query.bucket);
    else if (query.prefix !== undefined) {
      throw new FirkinError("INVALID", "Cannot subscribe to a prefix: it needs a bucket");
    }
    if ((query.prefix?.length ?? 0) > host.limits.keyBytesMax) throw keyTooLarge(host, query.prefix!);
    return host.subscribe(query, window);
  },
  write(writer, { channel, cursor }) {
    writer.uint(channel);
    writer.text(cursor);
  },
  done: (host, { channel }) => host.start(channel),
};

const unsubscribe: Command<void> = {
  run: (host, reader) => host.unsubscribe(reader.uint()),
  write: writeNothing,
};

const more: Command<void> = {
  run: (host, reader) => host.grant(reader.uint(), reader.uint()),
  write: writeNothing,
};

const stats: Command<EngineStats> = {
  run: (host) => host.stats(),
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

const ping: Command<void> = { run: () => {}, write: writeNothing };
const sync: Command<void> = { run: (host) => host.engine.sync(), write: writeNothing };
const compact: Command<void> = { run: (host) => host.engine.compact(), write: writeNothing };

/** The commands by the number of their operation. */
export const COMMANDS: readonly Command[] = commandsByNumber({
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
});

function commandsByNumber(commands: Record<keyof typeof OP, Command>): readonly Command[] {
  const byNumber: Command[] = [];
  for (const [name, op] of Object.entries(OP)) byNumber[op] = commands[name as keyof typeof OP];
  return byNumber;
}

function readBucket(reader: CborReader): string {
  const bucket = reader.text();
  checkBucket(bucket);
  return bucket;
}

function checkBucket(bucket: string): void {
  if (!isBucketName(bucket)) {
    throw new FirkinError("INVALID", "Cannot use a bucket: its name is not of a-z, 0-9, _ and -, at most 64 long");
  }
}

function readKey(host: CommandHost, reader: CborReader): Uint8Array {
  const key = reader.bytes();
  if (key.length === 0) throw new FirkinError("INVALID", "Cannot use a key: it is empty");
  if (key.length > host.limits.keyBytesMax) throw keyTooLarge(host, key);
  return key;
}

function keyTooLarge(host: CommandHost, key: Uint8Array): FirkinError {
  return new FirkinError("TOO_LARGE", `Cannot use a key of ${key.length} bytes: at most ${host.limits.keyBytesMax}`);
}

function writeNothing(): void {}
