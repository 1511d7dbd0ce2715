/**
 * The commands on all keys of a database. They read its listing page by page, so they neither stop others nor see one
 * moment, and they are no part of transactions.
 *
 * Keys come in their order. A `SCAN` shows every key that is there from its beginning to its end, and none twice.
 *
 * @module
 */
import { compareBytes } from "../../lib/base/bytes.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { type Entry, type ListQuery, PAGE_ENTRIES_MAX } from "../../lib/engine/engine.ts";
import type { Answer } from "../commands.ts";
import { checkName, type Client } from "./call.ts";
import { literalPrefix, matchesGlob } from "./glob.ts";
import { DATABASES } from "./keys.ts";
import { integerOf, latin1, wordOf } from "./numbers.ts";
import { bulk, ErrorReply, type Reply } from "./resp.ts";

/** Keys that SCAN looks at when it is not told how many. */
const SCAN_COUNT = 10;

/** The pages of a listing. */
async function* pagesOf(
  { host, principal }: Client,
  bucket: string,
  query: Omit<ListQuery, "limit"> = {},
): AsyncGenerator<readonly Entry[]> {
  let after = query.after;
  for (;;) {
    const page = await host.commands.list(principal, bucket, {
      ...query,
      ...(after && { after }),
      limit: PAGE_ENTRIES_MAX,
    });
    if (page.entries.length > 0) yield page.entries;
    if (!page.more || page.entries.length === 0) return;
    after = page.entries.at(-1)!.key;
  }
}

/** Only the keys that may match. */
function prefixQuery(pattern: Uint8Array | undefined): { readonly prefix?: Uint8Array } {
  const prefix = pattern === undefined ? undefined : literalPrefix(pattern);
  return prefix === undefined || prefix.length === 0 ? {} : { prefix };
}

/** KEYS pattern */
export async function keys(client: Client, args: readonly Uint8Array[]): Promise<Reply> {
  const pattern = args[1]!;
  checkName(pattern, client.host);
  const { pace, limits: { outboundHardBytesMax } } = client.host;
  const found: Uint8Array[] = [];
  let bytes = 0;
  for await (const entries of pagesOf(client, client.bucket, prefixQuery(pattern))) {
    await pace.each(client, entries, ({ key }) => {
      if (matchesGlob(pattern, key, pace)) {
        found.push(key);
        bytes += key.length + 16;
      }
      return undefined;
    });
    if (bytes > outboundHardBytesMax) throw new FirkinError("TOO_LARGE", "Cannot list so many keys at once: use SCAN");
  }
  return found;
}

/** DBSIZE */
export function dbsize({ host, principal, bucket }: Client): Answer<Reply> {
  return host.commands.count(principal, bucket);
}

/** What stands behind the cursor of SCAN. */
interface ScanOptions {
  readonly count: number;
  readonly pattern?: Uint8Array;
  readonly type?: string;
}

function scanOptions(args: readonly Uint8Array[]): ScanOptions {
  let options: ScanOptions = { count: SCAN_COUNT };
  for (let index = 2; index < args.length; index += 2) {
    const argument = args[index + 1];
    const word = wordOf(args[index]!);
    if (argument === undefined || !["COUNT", "MATCH", "TYPE"].includes(word)) throw new ErrorReply("ERR syntax error");
    if (word === "MATCH") options = { ...options, pattern: argument };
    else if (word === "TYPE") options = { ...options, type: latin1(argument).toLowerCase() };
    else {
      const count = integerOf(argument);
      if (count < 1n) throw new ErrorReply("ERR syntax error");
      options = { ...options, count: Number(count) };
    }
  }
  return options;
}

/** SCAN cursor [MATCH pattern] [COUNT count] [TYPE type] */
export function scan(client: Client, args: readonly Uint8Array[]): Answer<Reply> {
  const { host, principal, bucket } = client;
  const cursor = latin1(args[1]!);
  if (!/^\d{1,20}$/.test(cursor)) throw new ErrorReply("ERR invalid cursor");
  const { count, pattern, type } = scanOptions(args);
  if (pattern !== undefined) checkName(pattern, host);
  const place = /^0+$/.test(cursor) ? undefined : host.cursors.find(cursor);
  if (!/^0+$/.test(cursor) && place?.bucket !== bucket) throw new ErrorReply("ERR invalid cursor");
  const query = { ...prefixQuery(pattern), limit: Math.min(count, PAGE_ENTRIES_MAX) };
  const answer = host.commands.list(principal, bucket, place === undefined ? query : { ...query, after: place.after });
  const { pace } = host;
  const tell = ({ entries, more }: { readonly entries: readonly Entry[]; readonly more: boolean }): Reply => {
    const found: Uint8Array[] = [];
    let looked = 0;
    while (looked < entries.length && !pace.isOver) {
      const { key } = entries[looked++]!;
      if ((type ?? "string") === "string" && (pattern === undefined || matchesGlob(pattern, key, pace))) {
        found.push(key);
      }
    }
    const last = entries[looked - 1];
    const hasMore = more || looked < entries.length;
    const next = hasMore && last !== undefined ? host.cursors.add({ bucket, after: last.key }) : "0";
    return [bulk(next), found];
  };
  return answer instanceof Promise
    ? answer.then((page) => pace.run(client, () => tell(page)))
    : pace.run(client, () => tell(answer));
}

/** RANDOMKEY: a key near a place between the first and the last one. */
export async function randomkey({ host, principal, bucket }: Client): Promise<Reply> {
  const ask = async (query: ListQuery): Promise<readonly Entry[]> => {
    return (await host.commands.list(principal, bucket, query)).entries;
  };
  const [first] = await ask({ limit: 1 });
  const [last] = await ask({ limit: 1, reverse: true });
  if (first === undefined || last === undefined) return null;
  const random = host.clock.random(new Uint8Array(8));
  const start = between(first.key, last.key, random);
  const entries = await ask({ start, limit: 64 });
  const near = entries.length > 0 ? entries : [first];
  return near[random[0]! % near.length]!.key;
}

/** Bytes that sort between two keys, of which the first may be the same. */
function between(first: Uint8Array, last: Uint8Array, random: Uint8Array): Uint8Array {
  let common = 0;
  while (common < first.length && first[common] === last[common]) common++;
  const [low, high] = [first[common] ?? 0, last[common] ?? 0];
  const bytes = new Uint8Array(common + random.length);
  bytes.set(last.subarray(0, common));
  bytes.set(random, common);
  bytes[common] = low + random[0]! % (high - low + 1);
  return compareBytes(bytes, first) < 0 ? first : bytes;
}

/** FLUSHDB [ASYNC | SYNC] */
export async function flushdb(client: Client, args: readonly Uint8Array[]): Promise<Reply> {
  checkFlush(args);
  await flush(client, client.bucket);
  return "OK";
}

/** FLUSHALL [ASYNC | SYNC]: the databases that have numbers. */
export async function flushall(client: Client, args: readonly Uint8Array[]): Promise<Reply> {
  checkFlush(args);
  const buckets = Array.from({ length: DATABASES }, (_, number) => String(number));
  // Before the first is emptied.
  if (!buckets.every((bucket) => client.principal.allows("write", bucket))) {
    throw new FirkinError("FORBIDDEN", "Cannot do that: the right to write in every database is missing");
  }
  for (const bucket of buckets) await flush(client, bucket);
  return "OK";
}

function checkFlush(args: readonly Uint8Array[]): void {
  const isKnown = args.length === 1 || (args.length === 2 && ["ASYNC", "SYNC"].includes(wordOf(args[1]!)));
  if (!isKnown) throw new ErrorReply("ERR syntax error");
}

async function flush(client: Client, bucket: string): Promise<void> {
  const { host: { commands, limits: { batchOperationsMax } }, principal } = client;
  for await (const entries of pagesOf(client, bucket)) {
    for (let index = 0; index < entries.length; index += batchOperationsMax) {
      const part = entries.slice(index, index + batchOperationsMax);
      await commands.atomic(principal, part.map(({ key }) => ({ type: "delete", bucket, key })));
    }
  }
}
