/**
 * The numbers and shapes of `firkin.v1.cbor`, shared by both ends, so that each shape is written once and read once.
 *
 * `docs/PROTOCOL.md` is the definition; this file is its code. A frame is `[kind, id, ...items]`. Every operation
 * has a fixed number of arguments and of results, an absent one is null, so that nothing depends on which items
 * follow. Numbers here never change and are never reused: another protocol is another subprotocol name.
 *
 * @module
 */
import { type Content, CONTENT_NAMES } from "../base/codec.ts";
import { FirkinError } from "../base/errors.ts";
import {
  type AtomicResult,
  type ChangeEvent,
  type ChangeType,
  type Deadline,
  type Entry,
  type ListPage,
  type ListQuery,
  type Operation,
  PAGE_BYTES_MAX,
  type SetEntry,
  type SubscribeQuery,
  type ValueReader,
  type WriteResult,
} from "../engine/engine.ts";
import type { CborReader, CborWriter } from "./cbor.ts";

/** The WebSocket subprotocol. */
export const SUBPROTOCOL = "firkin.v1.cbor";

/** The version that `hello` carries. */
export const VERSION = 1;

/** Operations: the first item of a frame from the client. On the wire: never change a number. */
export const OP = {
  hello: 0,
  get: 1,
  getMany: 2,
  set: 3,
  delete: 4,
  touch: 5,
  increment: 6,
  list: 7,
  subscribe: 8,
  unsubscribe: 9,
  ping: 10,
  stats: 11,
  sync: 12,
  compact: 13,
  more: 14,
  take: 15,
  has: 16,
  atomic: 17,
  setMany: 18,
  auth: 19,
  buckets: 20,
  configure: 21,
} as const;

/** The name of an operation. */
export type OpName = keyof typeof OP;

/** How many items follow the id in a request, and in its reply. */
export interface Shape {
  readonly args: number;
  readonly results: number;
}

/** The shapes by the number of the operation. On the wire: never change one. */
export const SHAPES: readonly Shape[] = [
  { args: 2, results: 3 }, // hello
  { args: 2, results: 1 }, // get
  { args: 2, results: 1 }, // getMany
  { args: 8, results: 1 }, // set
  { args: 3, results: 1 }, // delete
  { args: 4, results: 1 }, // touch
  { args: 3, results: 2 }, // increment
  { args: 7, results: 2 }, // list
  { args: 8, results: 2 }, // subscribe
  { args: 1, results: 0 }, // unsubscribe
  { args: 0, results: 0 }, // ping
  { args: 0, results: 1 }, // stats
  { args: 0, results: 0 }, // sync
  { args: 0, results: 0 }, // compact
  { args: 2, results: 0 }, // more
  { args: 2, results: 1 }, // take
  { args: 2, results: 1 }, // has
  { args: 1, results: 2 }, // atomic
  { args: 2, results: 0 }, // setMany
  { args: 1, results: 1 }, // auth
  { args: 1, results: 2 }, // buckets
  { args: 2, results: 0 }, // configure
];

/** Kinds of operation in a batch: the first item of each. On the wire: never change a number. */
const OPERATION = { check: 0, set: 1, delete: 2 } as const;

/** The same by number. */
const OPERATION_TYPES = ["check", "set", "delete"] as const;

/** Items of each. On the wire: never change one. */
const OPERATION_ITEMS = { check: 4, set: 8, delete: 3 } as const;

/** Items of an entry of `setMany`. On the wire: never change it. */
const ENTRY_ITEMS = 6;

/** Kinds of frame: the first item of a frame from the server. On the wire: never change a number. */
export const FRAME = { reply: 0, error: 1, change: 2, control: 3 } as const;

/** Items of the frame of a change. On the wire: never change it. */
export const CHANGE_ITEMS = 11;

/** What a control frame says about a subscription. On the wire: never change a number. */
export const WORD = { synced: 1, progress: 2, resync: 3, ended: 4 } as const;

/** Types of change by number. On the wire: never change a place. */
const CHANGE_TYPES: readonly (ChangeType | undefined)[] = [undefined, "set", "delete", "expire", "evict", "take"];

/** Why a connection was closed. On the wire: never change a number. */
export const CLOSE = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  textMessage: 1003,
  messageTooLong: 1009,
  serverFailed: 1011,
  restart: 1012,
  unauthorized: 4401,
  slowReader: 4408,
  tooManyRequests: 4429,
} as const;

/** Close codes after which the same client would meet the same end, so that it does not connect again. */
export const CLOSE_FINAL: ReadonlySet<number> = new Set([
  CLOSE.protocolError,
  CLOSE.textMessage,
  CLOSE.messageTooLong,
  CLOSE.unauthorized,
]);

/** Keys in one `getMany`. */
export const KEYS_MAX = 1_000;
/** A server's message is sent once it is longer than this, so that the other end works meanwhile. */
export const REPLY_FLUSH_BYTES: number = 64 * 1_024;
/** Bytes of frames that a subscription may have on the way or waiting at a client of ours. */
export const WINDOW_BYTES: number = 1_024 * 1_024;

/** The limits that a server tells in its reply to `hello`. */
export interface WireLimits {
  /** Longest key. */
  readonly keyBytesMax: number;
  /** Longest value. */
  readonly valueBytesMax: number;
  /** The longest message a server takes, and the most bytes of requests a client leaves unanswered. */
  readonly messageBytesMax: number;
  /** Subscriptions of one connection. */
  readonly subscriptionsMax: number;
  /** Unanswered requests of one connection. */
  readonly requestsMax: number;
  /** Operations of one batch. */
  readonly batchOperationsMax: number;
  /** Bytes of the keys and values of one batch. */
  readonly batchBytesMax: number;
}

/** What limits are when nobody says otherwise. */
export const WIRE_LIMITS: WireLimits = {
  keyBytesMax: 1_024,
  valueBytesMax: 1_024 * 1_024,
  messageBytesMax: 2 * 1_024 * 1_024,
  subscriptionsMax: 1_000,
  requestsMax: 10_000,
  // A frame has at most 10,000 items; a set takes 9 of them.
  batchOperationsMax: 1_000,
  // With its frame within messageBytesMax.
  batchBytesMax: 1_024 * 1_024,
};

/** The most that an operation of a batch takes beside its key and value: a bucket's name and ten heads. */
export const OPERATION_BYTES_MAX = 160;

// --- items that may be null ---

/** Writes `value`, null when it is undefined. */
export function writeUintOrNull(writer: CborWriter, value: number | undefined): void {
  if (value === undefined) writer.null();
  else writer.uint(value);
}

/** Reads an unsigned integer, undefined when it is null. */
export function readUintOrNull(reader: CborReader): number | undefined {
  return reader.skipNull() ? undefined : reader.uint();
}

function writeBytesOrNull(writer: CborWriter, value: Uint8Array | undefined): void {
  if (value === undefined) writer.null();
  else writer.bytes(value);
}

function readBytesOrNull(reader: CborReader): Uint8Array | undefined {
  return reader.skipNull() ? undefined : reader.bytes();
}

/** Writes a text, null when it is undefined. */
export function writeTextOrNull(writer: CborWriter, value: string | undefined): void {
  if (value === undefined) writer.null();
  else writer.text(value);
}

/** Reads a text, undefined when it is null. */
export function readTextOrNull(reader: CborReader): string | undefined {
  return reader.skipNull() ? undefined : reader.text();
}

// --- entries and writes ---

/** Reads a content type. @throws {FirkinError} PROTOCOL — a number that is none */
export function readContent(reader: CborReader): Content {
  const content = reader.uint();
  if (content >= CONTENT_NAMES.length) {
    throw new FirkinError("PROTOCOL", `Cannot read a content type: ${content} is none`);
  }
  return content as Content;
}

/** Writes an entry without its key, null when there is none; an empty value of a single-read key is null. */
export function writeEntry(writer: CborWriter, entry: Entry | undefined): void {
  if (entry === undefined) return writer.null();
  writer.array(5);
  writer.uint(entry.revision);
  writer.uint(entry.content);
  writeBytesOrNull(writer, entry.once === true && entry.value.length === 0 ? undefined : entry.value);
  writeUintOrNull(writer, entry.expiresAt);
  writer.bool(entry.once === true);
}

/** Writes an entry that is not single-read, as {@link writeEntry} does, its value from `start` to `end` of `bytes`. */
export function writeValue(
  writer: CborWriter,
  bytes: Uint8Array,
  start: number,
  end: number,
  content: number,
  revision: number,
  expiresAt: number,
): void {
  writer.array(5);
  writer.uint(revision);
  writer.uint(content);
  writer.bytes(bytes, start, end);
  writeUintOrNull(writer, Number.isNaN(expiresAt) ? undefined : expiresAt);
  writer.bool(false);
}

/** Reads what {@link writeEntry} wrote; the value is a view of the message, empty when it is null. */
export function readEntry(reader: CborReader, key: Uint8Array): Entry | undefined {
  if (reader.skipNull()) return undefined;
  expectItems(reader.array(), 5);
  const revision = reader.uint();
  const content = readContent(reader);
  const value = readBytesOrNull(reader) ?? new Uint8Array(0);
  const expiresAt = readUintOrNull(reader);
  const once = reader.bool();
  const entry = { key, value, content, revision };
  if (!once) return expiresAt === undefined ? entry : { ...entry, expiresAt };
  return expiresAt === undefined ? { ...entry, once } : { ...entry, expiresAt, once };
}

/** What `show` makes of the value of the entry that {@link writeEntry} wrote; undefined when there is none. */
export function readValue<Result>(reader: CborReader, show: ValueReader<Result>): Result | undefined {
  if (reader.skipNull()) return undefined;
  expectItems(reader.array(), 5);
  const revision = reader.uint();
  const content = readContent(reader);
  const length = reader.skipNull() ? 0 : reader.span();
  const end = reader.position;
  const expiresAt = reader.skipNull() ? NaN : reader.uint();
  reader.bool();
  return show(reader.source, end - length, end, content, false, revision, expiresAt);
}

/** Writes what became of a write: its revision, or the entry that stood in its way, or null when there is none. */
export function writeWriteResult(writer: CborWriter, result: WriteResult): void {
  if (result.ok) writer.uint(result.revision);
  else writeEntry(writer, result.current);
}

/** Reads what {@link writeWriteResult} wrote about `key`. */
export function readWriteResult(reader: CborReader, key: Uint8Array): WriteResult {
  if (reader.skipNull()) return { ok: false, current: undefined };
  if (reader.isArray()) return { ok: false, current: readEntry(reader, key) };
  return { ok: true, revision: reader.uint() };
}

/** Writes a deadline as two items: ttl and expiresAt, at most one of them not null. */
export function writeDeadline(writer: CborWriter, deadline: Deadline | undefined): void {
  if (deadline !== undefined && "ttl" in deadline) {
    // The wire knows whole milliseconds; a key lives no shorter than was asked.
    writer.uint(Math.ceil(deadline.ttl));
    writer.null();
  } else {
    writer.null();
    writeUintOrNull(writer, deadline && Math.ceil(deadline.expiresAt));
  }
}

/** Reads what {@link writeDeadline} wrote. @throws {FirkinError} PROTOCOL — both are given */
export function readDeadline(reader: CborReader): Deadline | undefined {
  const ttl = readUintOrNull(reader);
  const expiresAt = readUintOrNull(reader);
  if (ttl === undefined) return expiresAt === undefined ? undefined : { expiresAt };
  if (expiresAt === undefined) return { ttl };
  throw new FirkinError("PROTOCOL", "Cannot read a deadline: ttl and expiresAt are both given");
}

// --- batches ---

/** Writes the operations of a batch as one array. */
export function writeOperations(writer: CborWriter, operations: readonly Operation[]): void {
  writer.array(operations.length);
  for (const operation of operations) {
    const { type, bucket, key } = operation;
    writer.array(OPERATION_ITEMS[type]);
    writer.uint(OPERATION[type]);
    writer.text(bucket);
    writer.bytes(key);
    if (type === "check") {
      writer.uint(operation.revision);
    } else if (type === "set") {
      writeSet(writer, operation);
    }
  }
}

/** Writes the entries of `setMany` as one array. */
export function writeSetEntries(writer: CborWriter, entries: readonly SetEntry[]): void {
  writer.array(entries.length);
  for (const entry of entries) {
    writer.array(ENTRY_ITEMS);
    writer.bytes(entry.key);
    writeSet(writer, entry);
  }
}

/** What a set says beside its key, as five items. */
function writeSet(writer: CborWriter, { content, value, deadline, once }: SetEntry): void {
  writer.uint(content);
  writer.bytes(value);
  writeDeadline(writer, deadline);
  writer.bool(once === true);
}

/** Reads what {@link writeOperations} wrote; keys and values are views of the message. */
export function readOperations(reader: CborReader): Operation[] {
  const operations: Operation[] = [];
  for (let left = reader.array(); left > 0; left--) operations.push(readOperation(reader));
  return operations;
}

function readOperation(reader: CborReader): Operation {
  const items = reader.array();
  const number = reader.uint();
  const type = OPERATION_TYPES[number];
  if (type === undefined) throw new FirkinError("PROTOCOL", `Cannot read a batch: ${number} is no operation`);
  expectItems(items, OPERATION_ITEMS[type]);
  const bucket = reader.text();
  const key = reader.bytes();
  if (type === "delete") return { type, bucket, key };
  if (type === "check") return { type, bucket, key, revision: reader.uint() };
  return { type, bucket, ...readSet(reader, key) };
}

/** Reads what {@link writeSetEntries} wrote; keys and values are views of the message. */
export function readSetEntries(reader: CborReader): SetEntry[] {
  const entries: SetEntry[] = [];
  for (let left = reader.array(); left > 0; left--) {
    expectItems(reader.array(), ENTRY_ITEMS);
    entries.push(readSet(reader, reader.bytes()));
  }
  return entries;
}

function readSet(reader: CborReader, key: Uint8Array): SetEntry {
  const content = readContent(reader);
  const value = reader.bytes();
  const deadline = readDeadline(reader);
  return { key, content, value, ...(deadline && { deadline }), once: reader.bool() };
}

/** Writes what became of a batch as two items: the check that did not hold or null, then as a write. */
export function writeAtomicResult(writer: CborWriter, result: AtomicResult): void {
  writeUintOrNull(writer, result.ok ? undefined : result.index);
  writeWriteResult(writer, result);
}

/** Reads what {@link writeAtomicResult} wrote about a batch with these keys. */
export function readAtomicResult(reader: CborReader, keys: readonly Uint8Array[]): AtomicResult {
  const index = readUintOrNull(reader);
  if (index === undefined) return { ok: true, revision: reader.uint() };
  const key = keys[index];
  if (key === undefined) throw new FirkinError("PROTOCOL", `Cannot read a reply: the batch has no operation ${index}`);
  return { ok: false, index, current: readEntry(reader, key) };
}

// --- listings ---

/** Writes a query as six items. */
export function writeListQuery(writer: CborWriter, query: ListQuery): void {
  writeBytesOrNull(writer, query.prefix);
  writeBytesOrNull(writer, query.start);
  writeBytesOrNull(writer, query.end);
  writeBytesOrNull(writer, query.after);
  writer.bool(query.reverse ?? false);
  writer.uint(query.limit);
}

/** Reads what {@link writeListQuery} wrote; its bytes are views of the message. */
export function readListQuery(reader: CborReader): ListQuery {
  const prefix = readBytesOrNull(reader);
  const start = readBytesOrNull(reader);
  const end = readBytesOrNull(reader);
  const after = readBytesOrNull(reader);
  const reverse = reader.bool();
  const limit = reader.uint();
  return {
    ...(prefix && { prefix }),
    ...(start && { start }),
    ...(end && { end }),
    ...(after && { after }),
    reverse,
    limit,
  };
}

/** Writes a page as two items, cut where it is over {@link PAGE_BYTES_MAX}. */
export function writePage(writer: CborWriter, page: ListPage): void {
  const count = countOfPage(page.entries);
  writer.array(count);
  for (let index = 0; index < count; index++) {
    const entry = page.entries[index]!;
    writer.array(2);
    writer.bytes(entry.key);
    writeEntry(writer, entry);
  }
  writer.bool(page.more || count < page.entries.length);
}

/** Reads what {@link writePage} wrote; keys and values are views of the message. */
export function readPage(reader: CborReader): ListPage {
  const entries: Entry[] = [];
  for (let left = reader.array(); left > 0; left--) {
    expectItems(reader.array(), 2);
    const entry = readEntry(reader, reader.bytes());
    if (entry === undefined) throw new FirkinError("PROTOCOL", "Cannot read a page: an entry is null");
    entries.push(entry);
  }
  return { entries, more: reader.bool() };
}

/** How many of `entries` go into one reply: one at least, and no more after {@link PAGE_BYTES_MAX} is passed. */
export function countOfPage(entries: readonly (Entry | undefined)[]): number {
  let bytes = 0;
  let count = 0;
  while (count < entries.length && bytes < PAGE_BYTES_MAX) {
    const entry = entries[count++];
    if (entry !== undefined) bytes += entry.key.length + entry.value.length;
  }
  return count;
}

// --- subscriptions ---

/** Writes a query as seven items. */
export function writeSubscribeQuery(writer: CborWriter, query: SubscribeQuery): void {
  writeTextOrNull(writer, query.bucket);
  writeBytesOrNull(writer, query.key);
  writeBytesOrNull(writer, query.prefix);
  writeUintOrNull(writer, query.types?.reduce((sum, type) => sum | (1 << CHANGE_TYPES.indexOf(type)), 0));
  writer.bool(query.values ?? true);
  writer.bool(query.snapshot ?? false);
  writeTextOrNull(writer, query.from);
}

/** Reads what {@link writeSubscribeQuery} wrote; key and prefix are copies. */
export function readSubscribeQuery(reader: CborReader): SubscribeQuery {
  const bucket = readTextOrNull(reader);
  const key = readBytesOrNull(reader)?.slice();
  const prefix = readBytesOrNull(reader)?.slice();
  const types = readTypes(reader);
  const values = reader.bool();
  const snapshot = reader.bool();
  const from = readTextOrNull(reader);
  return {
    ...(bucket !== undefined && { bucket }),
    ...(key && { key }),
    ...(prefix && { prefix }),
    ...(types && { types }),
    values,
    snapshot,
    ...(from !== undefined && { from }),
  };
}

/** A sum of two to the power of each type's number. @throws {FirkinError} PROTOCOL — no type, or one that is none */
function readTypes(reader: CborReader): ChangeType[] | undefined {
  const sum = readUintOrNull(reader);
  if (sum === undefined) return undefined;
  const types = CHANGE_TYPES.filter((type, number): type is ChangeType => {
    return type !== undefined && (sum & (1 << number)) !== 0;
  });
  if (types.reduce((rest, type) => rest - (1 << CHANGE_TYPES.indexOf(type)), sum) !== 0 || sum === 0) {
    throw new FirkinError("PROTOCOL", `Cannot read types of change: ${sum} is no sum of them`);
  }
  return types;
}

/** Writes the frame of a change. */
export function writeChange(writer: CborWriter, channel: number, event: ChangeEvent): void {
  writer.array(CHANGE_ITEMS);
  writer.uint(FRAME.change);
  writer.uint(channel);
  writer.uint(CHANGE_TYPES.indexOf(event.type));
  writer.text(event.bucket);
  writer.bytes(event.key);
  writer.uint(event.revision);
  writer.uint(event.at);
  writeUintOrNull(writer, event.expiresAt);
  writeUintOrNull(writer, event.content);
  writeBytesOrNull(writer, event.value);
  writer.bool(event.more === true);
}

/** Reads a change after its channel; key and value are views of the message. */
export function readChange(reader: CborReader): ChangeEvent {
  const number = reader.uint();
  const type = CHANGE_TYPES[number];
  if (type === undefined) throw new FirkinError("PROTOCOL", `Cannot read a change: ${number} is no type`);
  const bucket = reader.text();
  const key = reader.bytes();
  const revision = reader.uint();
  const at = reader.uint();
  const expiresAt = readUintOrNull(reader);
  const content = reader.skipNull() ? undefined : readContent(reader);
  const value = readBytesOrNull(reader);
  const more = reader.bool();
  return {
    type,
    bucket,
    key,
    revision,
    at,
    ...(value !== undefined && { value }),
    ...(content !== undefined && { content }),
    ...(expiresAt !== undefined && { expiresAt }),
    // Without values there is no content type either.
    ...(content !== undefined && value === undefined && { once: true }),
    ...(more && { more }),
  };
}

// --- limits and arrays ---

/** Writes limits as one array. */
export function writeLimits(writer: CborWriter, limits: WireLimits): void {
  writer.array(7);
  writer.uint(limits.keyBytesMax);
  writer.uint(limits.valueBytesMax);
  writer.uint(limits.messageBytesMax);
  writer.uint(limits.subscriptionsMax);
  writer.uint(limits.requestsMax);
  writer.uint(limits.batchOperationsMax);
  writer.uint(limits.batchBytesMax);
}

/** Reads what {@link writeLimits} wrote. */
export function readLimits(reader: CborReader): WireLimits {
  expectItems(reader.array(), 7);
  return {
    keyBytesMax: reader.uint(),
    valueBytesMax: reader.uint(),
    messageBytesMax: reader.uint(),
    subscriptionsMax: reader.uint(),
    requestsMax: reader.uint(),
    batchOperationsMax: reader.uint(),
    batchBytesMax: reader.uint(),
  };
}

/** @throws {FirkinError} PROTOCOL — an array has another number of items than its place asks for */
export function expectItems(found: number, wanted: number): void {
  if (found !== wanted) {
    throw new FirkinError("PROTOCOL", `Cannot read a frame: an array has ${found} items, expected ${wanted}`);
  }
}
