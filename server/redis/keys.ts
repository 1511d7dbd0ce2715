/**
 * The commands on keys, whatever their values: each a function of what it sees of the store.
 *
 * @module
 */
import { compareBytes } from "../../lib/base/bytes.ts";
import type { KeyCall } from "./call.ts";
import { integerOf, momentOf, textOf, TIME_UNITS, type TimeUnit, wordOf } from "./numbers.ts";
import { bulk, ErrorReply, type Reply } from "./resp.ts";
import { encodingOf } from "./strings.ts";
import { changed, shown } from "./values.ts";
import type { Item } from "./view.ts";

/** Databases by number; others are chosen by their bucket's name. */
export const DATABASES = 16;

/** What an entry takes beside its key and value, about: its record's header, and its place in the index. */
const ENTRY_BYTES = 48;

// --- whether it is there ---

/** DEL key... */
export function del({ view, bucket, args }: KeyCall): Reply {
  let count = 0;
  for (const key of args.slice(1)) {
    if (view.get(bucket, key) === undefined) continue;
    view.delete(bucket, key);
    count++;
  }
  return count;
}

/** EXISTS key... */
export function exists({ view, bucket, args }: KeyCall): Reply {
  return args.slice(1).filter((key) => view.get(bucket, key) !== undefined).length;
}

/** TYPE key */
export function type({ view, bucket, args }: KeyCall): Reply {
  return view.get(bucket, args[1]!) === undefined ? "none" : "string";
}

// --- when it ends ---

/** EXPIRE key seconds [NX | XX | GT | LT] */
export function expire(call: KeyCall): Reply {
  return expireAt(call, TIME_UNITS["EX"]!);
}

/** PEXPIRE key milliseconds [NX | XX | GT | LT] */
export function pexpire(call: KeyCall): Reply {
  return expireAt(call, TIME_UNITS["PX"]!);
}

/** EXPIREAT key seconds-since-1970 [NX | XX | GT | LT] */
export function expireat(call: KeyCall): Reply {
  return expireAt(call, TIME_UNITS["EXAT"]!);
}

/** PEXPIREAT key milliseconds-since-1970 [NX | XX | GT | LT] */
export function pexpireat(call: KeyCall): Reply {
  return expireAt(call, TIME_UNITS["PXAT"]!);
}

function expireAt({ view, bucket, args, name }: KeyCall, unit: TimeUnit): Reply {
  const key = args[1]!;
  const conditions = expireConditions(args.slice(3));
  const moment = momentOf(args[2]!, unit, name, view.now);
  const item = view.get(bucket, key);
  if (item === undefined) return 0;
  const { expiresAt = Infinity } = item;
  if (conditions.has("NX") && expiresAt !== Infinity) return 0;
  if (conditions.has("XX") && expiresAt === Infinity) return 0;
  if (conditions.has("GT") && moment <= expiresAt) return 0;
  if (conditions.has("LT") && moment >= expiresAt) return 0;
  if (moment <= view.now) view.delete(bucket, key);
  else {
    const { value, content } = view.value(bucket, key)!;
    view.set(bucket, key, { value, content, deadline: { expiresAt: moment } });
  }
  return 1;
}

function expireConditions(args: readonly Uint8Array[]): ReadonlySet<string> {
  const conditions = new Set<string>();
  for (const arg of args) {
    const word = wordOf(arg);
    if (!["NX", "XX", "GT", "LT"].includes(word)) {
      throw new ErrorReply(`ERR Unsupported option ${textOf(arg)}`);
    }
    conditions.add(word);
  }
  if (conditions.has("NX") && conditions.size > 1) {
    throw new ErrorReply("ERR NX and XX, GT or LT options at the same time are not compatible");
  }
  if (conditions.has("GT") && conditions.has("LT")) {
    throw new ErrorReply("ERR GT and LT options at the same time are not compatible");
  }
  return conditions;
}

/** PERSIST key */
export function persist({ view, bucket, args }: KeyCall): Reply {
  const item = view.get(bucket, args[1]!);
  if (item?.expiresAt === undefined) return 0;
  const { value, content } = view.value(bucket, args[1]!)!;
  view.set(bucket, args[1]!, { value, content });
  return 1;
}

/** TTL key */
export function ttl(call: KeyCall): Reply {
  return deadline(call, (at) => seconds(Math.max(at - call.view.now, 0)));
}

/** PTTL key */
export function pttl(call: KeyCall): Reply {
  // The store rounds a deadline up, and the wall clock down: nobody should see more than was given.
  return deadline(call, (at) => Math.max(Math.ceil(at - call.view.now) - 1, 0));
}

/** EXPIRETIME key */
export function expiretime(call: KeyCall): Reply {
  return deadline(call, seconds);
}

/** PEXPIRETIME key */
export function pexpiretime(call: KeyCall): Reply {
  return deadline(call, (at) => at);
}

function deadline({ view, bucket, args }: KeyCall, tell: (at: number) => number): Reply {
  const item = view.get(bucket, args[1]!);
  if (item === undefined) return -2;
  return item.expiresAt === undefined ? -1 : tell(item.expiresAt);
}

function seconds(milliseconds: number): number {
  return Math.floor((milliseconds + 500) / 1_000);
}

// --- under another name ---

/** RENAME key newkey */
export function rename(call: KeyCall): Reply {
  move(call);
  return "OK";
}

/** RENAMENX key newkey */
export function renamenx(call: KeyCall): Reply {
  const { view, bucket, args } = call;
  const isThere = view.get(bucket, args[2]!) !== undefined;
  if (!isThere || view.get(bucket, args[1]!) === undefined) move(call);
  return isThere ? 0 : 1;
}

function move({ view, bucket, args }: KeyCall): void {
  const [, source, target] = args;
  const item = view.value(bucket, source!);
  if (item === undefined) throw new ErrorReply("ERR no such key");
  if (compareBytes(source!, target!) === 0) return;
  view.delete(bucket, source!);
  view.set(bucket, target!, moved(item));
}

function moved(item: Item): { readonly value: Uint8Array } & ReturnType<typeof changed> {
  return changed(item, { value: item.value, content: item.content });
}

/** What stands behind the keys of COPY. @throws {ErrorReply} an option that there is not */
export function copyOptions(args: readonly Uint8Array[]): { readonly bucket?: string; readonly replace: boolean } {
  let replace = false;
  let bucket: string | undefined;
  for (let index = 3; index < args.length; index++) {
    const word = wordOf(args[index]!);
    if (word === "REPLACE") replace = true;
    else if (word === "DB" && index + 1 < args.length) bucket = databaseOf(args[++index]!);
    else throw new ErrorReply("ERR syntax error");
  }
  return { replace, ...(bucket !== undefined && { bucket }) };
}

/** COPY source destination [DB destination-db] [REPLACE]; both keys are loaded. */
export function copy({ view, bucket, args }: KeyCall): Reply {
  const [, source, target] = args;
  const { bucket: other = bucket, replace } = copyOptions(args);
  if (other === bucket && compareBytes(source!, target!) === 0) {
    throw new ErrorReply("ERR source and destination objects are the same");
  }
  const item = view.value(bucket, source!);
  if (item === undefined) return 0;
  if (view.get(other, target!) !== undefined && !replace) return 0;
  view.set(other, target!, moved(item));
  return 1;
}

/** The bucket of a database by its number. @throws {ErrorReply} there is none */
export function databaseOf(argument: Uint8Array): string {
  const number = integerOf(argument);
  if (BigInt.asIntN(32, number) !== number) {
    throw new ErrorReply("ERR value is out of range, value must between -2147483648 and 2147483647");
  }
  if (number < 0n || number >= DATABASES) throw new ErrorReply("ERR DB index is out of range");
  return String(number);
}

// --- what it takes ---

/** OBJECT ENCODING | REFCOUNT | IDLETIME | FREQ key */
export function object({ view, bucket, args }: KeyCall): Reply {
  const item = view.get(bucket, args[2]!);
  switch (wordOf(args[1]!)) {
    case "ENCODING":
      return item === undefined ? null : bulk(encodingOf(shown(item)));
    case "REFCOUNT":
      return item === undefined ? null : 1;
    case "IDLETIME":
      return item === undefined ? null : 0;
    default:
      if (item === undefined) return null;
      throw new ErrorReply(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching " +
          "between policies at runtime LRU and LFU data will take some time to adjust.",
      );
  }
}

/** MEMORY USAGE key [SAMPLES count] */
export function memory({ view, bucket, args }: KeyCall): Reply {
  const item = view.get(bucket, args[2]!);
  return item === undefined ? null : args[2]!.length + item.value.length + ENTRY_BYTES;
}
