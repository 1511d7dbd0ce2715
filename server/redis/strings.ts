/**
 * The commands on values: each a function of what it sees of the store.
 *
 * Errors, edge cases and the order in which arguments are looked at are those of Redis 7.
 *
 * @module
 */
import { compareBytes, encodeText } from "../../lib/base/bytes.ts";
import type { Deadline } from "../../lib/engine/engine.ts";
import type { KeyCall } from "./call.ts";
import { addFloats, addIntegers, deadlineOf, integerOf, parseInteger, TIME_UNITS, wordOf } from "./numbers.ts";
import { bulk, ErrorReply, type Reply } from "./resp.ts";
import { changed, itemOf, numberItem, shown } from "./values.ts";
import { type Item, type NewItem, tooLong } from "./view.ts";

const OK = "OK";
const EMPTY = new Uint8Array(0);

function syntaxError(): ErrorReply {
  return new ErrorReply("ERR syntax error");
}

function shownOrNull(item: Item | undefined): Uint8Array | null {
  return item === undefined ? null : shown(item);
}

// --- options ---

/** What stands behind the value of `SET`, or behind the key of `GETEX`. */
interface Options {
  readonly words: ReadonlySet<string>;
  /** The option that says when the key ends, and its argument. */
  readonly time?: readonly [unit: string, argument: Uint8Array];
  readonly equals?: Uint8Array;
}

/** Options that exclude one another. */
const TIMES = [...Object.keys(TIME_UNITS), "KEEPTTL", "PERSIST"];
const CONDITIONS = ["NX", "XX", "IFEQ"];

/** @throws {ErrorReply} one is unknown, has no argument, or excludes another */
function optionsOf(args: readonly Uint8Array[], first: number, known: readonly string[]): Options {
  const words = new Set<string>();
  let time: Options["time"];
  let equals: Uint8Array | undefined;
  for (let index = first; index < args.length; index++) {
    const word = wordOf(args[index]!);
    const group = TIMES.includes(word) ? TIMES : CONDITIONS.includes(word) ? CONDITIONS : [];
    if (!known.includes(word) || group.some((other) => other !== word && words.has(other))) throw syntaxError();
    words.add(word);
    if (word !== "IFEQ" && TIME_UNITS[word] === undefined) continue;
    const argument = args[++index];
    if (argument === undefined) throw syntaxError();
    if (word === "IFEQ") equals = argument;
    else time = [word, argument];
  }
  return { words, ...(time && { time }), ...(equals && { equals }) };
}

function deadlineIn({ time }: Options, name: string, now: number): Deadline | undefined {
  return time && deadlineOf(time[1], TIME_UNITS[time[0]]!, name, now);
}

// --- one value ---

/** GET key */
export function get({ view, bucket, args }: KeyCall): Reply {
  return shownOrNull(view.value(bucket, args[1]!));
}

const SET_OPTIONS = ["NX", "XX", "IFEQ", "GET", "KEEPTTL", ...Object.keys(TIME_UNITS)];

/** True when a SET writes whatever the key was, so that nobody has to look at it. */
export function isBlindSet(args: readonly Uint8Array[]): boolean {
  for (let index = 3; index < args.length; index++) {
    const word = wordOf(args[index]!);
    if (["NX", "XX", "IFEQ", "GET", "KEEPTTL"].includes(word)) return false;
    if (TIME_UNITS[word] !== undefined) index++;
  }
  return true;
}

/** What such a SET writes. */
export function blindSet(args: readonly Uint8Array[], now: number): NewItem {
  const item = itemOf(args[2]!);
  return args.length === 3 ? item : { ...item, deadline: deadlineIn(optionsOf(args, 3, SET_OPTIONS), "set", now) };
}

/** SET key value [NX | XX | IFEQ value] [GET] [EX | PX | EXAT | PXAT time | KEEPTTL] */
export function set({ view, bucket, args, name }: KeyCall): Reply {
  const key = args[1]!;
  if (isBlindSet(args)) {
    view.set(bucket, key, blindSet(args, view.now));
    return OK;
  }
  const item = itemOf(args[2]!);
  const options = optionsOf(args, 3, SET_OPTIONS);
  const { words, equals } = options;
  const deadline = deadlineIn(options, name, view.now);
  const wantsOld = words.has("GET");
  const before = wantsOld || equals !== undefined ? view.value(bucket, key) : view.get(bucket, key);
  const holds = words.has("NX")
    ? before === undefined
    : words.has("XX")
    ? before !== undefined
    : equals === undefined || (before !== undefined && compareBytes(shown(before), equals) === 0);
  if (holds) view.set(bucket, key, words.has("KEEPTTL") ? changed(before, item) : { ...item, deadline });
  if (wantsOld) return shownOrNull(before);
  return holds ? OK : null;
}

/** SETNX key value */
export function setnx({ view, bucket, args }: KeyCall): Reply {
  if (view.get(bucket, args[1]!) !== undefined) return 0;
  view.set(bucket, args[1]!, itemOf(args[2]!));
  return 1;
}

/** SETEX key seconds value */
export function setex(call: KeyCall): Reply {
  return setFor(call, "EX");
}

/** PSETEX key milliseconds value */
export function psetex(call: KeyCall): Reply {
  return setFor(call, "PX");
}

function setFor({ view, bucket, args, name }: KeyCall, unit: "EX" | "PX"): Reply {
  const deadline = deadlineOf(args[2]!, TIME_UNITS[unit]!, name, view.now);
  view.set(bucket, args[1]!, { ...itemOf(args[3]!), deadline });
  return OK;
}

/** GETSET key value */
export function getset({ view, bucket, args }: KeyCall): Reply {
  const before = view.value(bucket, args[1]!);
  view.set(bucket, args[1]!, itemOf(args[2]!));
  return shownOrNull(before);
}

/** GETDEL key */
export function getdel({ view, bucket, args }: KeyCall): Reply {
  const before = view.value(bucket, args[1]!);
  view.delete(bucket, args[1]!);
  return shownOrNull(before);
}

/** GETEX key [EX | PX | EXAT | PXAT time | PERSIST] */
export function getex({ view, bucket, args, name }: KeyCall): Reply {
  const key = args[1]!;
  const options = optionsOf(args, 2, ["PERSIST", ...Object.keys(TIME_UNITS)]);
  const before = view.value(bucket, key);
  if (before === undefined) return null;
  const deadline = deadlineIn(options, name, view.now);
  const { value, content } = before;
  if (deadline !== undefined && "expiresAt" in deadline && deadline.expiresAt <= view.now) view.delete(bucket, key);
  else if (deadline !== undefined) view.set(bucket, key, { value, content, deadline });
  else if (options.words.has("PERSIST") && before.expiresAt !== undefined) view.set(bucket, key, { value, content });
  return shown(before);
}

// --- many values ---

/** MGET key... */
export function mget({ view, bucket, args }: KeyCall): Reply {
  return args.slice(1).map((key) => shownOrNull(view.value(bucket, key)));
}

/** A key and what it becomes. */
export interface NewPair {
  readonly key: Uint8Array;
  readonly item: NewItem;
}

/** The pairs of MSET and MSETNX. @throws {ErrorReply} one is not whole, or too long: none is written then */
export function pairsOf(args: readonly Uint8Array[], valueBytesMax: number): NewPair[] {
  if (args.length % 2 === 0) {
    throw new ErrorReply(`ERR wrong number of arguments for '${wordOf(args[0]!).toLowerCase()}' command`);
  }
  const pairs: NewPair[] = [];
  for (let index = 1; index < args.length; index += 2) {
    if (args[index + 1]!.length > valueBytesMax) throw tooLong();
    pairs.push({ key: args[index]!, item: itemOf(args[index + 1]!) });
  }
  return pairs;
}

/** MSET key value... */
export function mset({ view, bucket, args }: KeyCall): Reply {
  for (const { key, item } of pairsOf(args, view.valueBytesMax)) view.set(bucket, key, item);
  return OK;
}

/** MSETNX key value... */
export function msetnx(call: KeyCall): Reply {
  const { view, bucket, args } = call;
  const pairs = pairsOf(args, view.valueBytesMax);
  if (pairs.some(({ key }) => view.get(bucket, key) !== undefined)) return 0;
  mset(call);
  return 1;
}

// --- parts of a value ---

/** STRLEN key */
export function strlen({ view, bucket, args }: KeyCall): Reply {
  const item = view.value(bucket, args[1]!);
  return item === undefined ? 0 : shown(item).length;
}

/** APPEND key value */
export function append({ view, bucket, args }: KeyCall): Reply {
  const before = view.value(bucket, args[1]!);
  const start = before === undefined ? EMPTY : shown(before);
  const bytes = joined(start, start.length, args[2]!, view.valueBytesMax);
  view.set(bucket, args[1]!, changed(before, itemOf(bytes)));
  return bytes.length;
}

/** SETRANGE key offset value */
export function setrange({ view, bucket, args }: KeyCall): Reply {
  const offset = integerOf(args[2]!);
  const part = args[3]!;
  if (offset < 0n) throw new ErrorReply("ERR offset is out of range");
  const before = view.value(bucket, args[1]!);
  const start = before === undefined ? EMPTY : shown(before);
  if (part.length === 0) return start.length;
  if (offset > BigInt(view.valueBytesMax)) throw tooLong();
  const bytes = joined(start, Number(offset), part, view.valueBytesMax);
  view.set(bucket, args[1]!, changed(before, itemOf(bytes)));
  return bytes.length;
}

/** `bytes` with `part` at `offset`; zeros are between when it is past their end. */
function joined(bytes: Uint8Array, offset: number, part: Uint8Array, lengthMax: number): Uint8Array {
  const length = Math.max(bytes.length, offset + part.length);
  if (length > lengthMax) throw tooLong();
  const all = new Uint8Array(length);
  all.set(bytes);
  all.set(part, offset);
  return all;
}

/** GETRANGE key start end */
export function getrange({ view, bucket, args }: KeyCall): Reply {
  const [from, to] = [integerOf(args[2]!), integerOf(args[3]!)];
  const item = view.value(bucket, args[1]!);
  const bytes = item === undefined ? EMPTY : shown(item);
  if (from < 0n && to < 0n && from > to) return EMPTY;
  const place = (index: bigint): number => Math.max(Number(index < 0n ? BigInt(bytes.length) + index : index), 0);
  return bytes.subarray(place(from), Math.min(place(to) + 1, bytes.length));
}

// --- numbers ---

/** INCR key */
export function incr(call: KeyCall): Reply {
  return increment(call, 1n);
}

/** DECR key */
export function decr(call: KeyCall): Reply {
  return increment(call, -1n);
}

/** INCRBY key increment */
export function incrby(call: KeyCall): Reply {
  return increment(call, integerOf(call.args[2]!));
}

/** DECRBY key decrement */
export function decrby(call: KeyCall): Reply {
  const by = integerOf(call.args[2]!);
  if (addIntegers(0n, -by) === undefined) throw new ErrorReply("ERR decrement would overflow");
  return increment(call, -by);
}

function increment({ view, bucket, args }: KeyCall, by: bigint): Reply {
  const before = view.value(bucket, args[1]!);
  const sum = addIntegers(before === undefined ? 0n : integerOf(shown(before)), by);
  if (sum === undefined) throw new ErrorReply("ERR increment or decrement would overflow");
  view.set(bucket, args[1]!, numberItem(before, String(sum)));
  return sum;
}

/** INCRBYFLOAT key increment */
export function incrbyfloat({ view, bucket, args }: KeyCall): Reply {
  const before = view.value(bucket, args[1]!);
  const sum = addFloats(before === undefined ? encodeText("0") : shown(before), args[2]!);
  view.set(bucket, args[1]!, numberItem(before, sum));
  return bulk(sum);
}

/** How Redis would keep a value: clients ask to see what it takes. */
export function encodingOf(value: Uint8Array): string {
  if (parseInteger(value) !== undefined) return "int";
  return value.length <= 44 ? "embstr" : "raw";
}
