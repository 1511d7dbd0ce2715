/**
 * The dialect of unstorage's `http` driver, so that it works unmodified: `base` is
 * `http://127.0.0.1:7480/v1/unstorage/{bucket}`.
 *
 * It is REST with other habits, which is why it has a path of its own: keys are `a:b` and stand in the path as `a/b`; a
 * path that ends in `:` or `/` is all keys below it; what is written is called JSON whether it is or not (what is not
 * is stored as text); a ttl is `x-ttl`, in seconds; success says `OK`. unstorage's keys and values are what they are
 * called there for every other client of the bucket, too.
 *
 * @module
 */
import { decodeText, encodeText } from "../lib/base/bytes.ts";
import type { Clock } from "../lib/base/clock.ts";
import { CONTENT, type Content } from "../lib/base/codec.ts";
import { FirkinError } from "../lib/base/errors.ts";
import type { Entry } from "../lib/engine/engine.ts";
import type { Principal } from "./auth.ts";
import type { Commands } from "./commands.ts";
import { Refused } from "./problems.ts";
import { contentOf, JSON_TYPE, MEDIA_TYPES, represent, unescapeBytes, valueOfBody } from "./representations.ts";
import { answer, json } from "./rest.ts";
import type { Call, Route } from "./routes.ts";

/** Keys in one answer: who has more of them wants pages. */
const KEYS_MAX = 100_000;
const PAGE_ENTRIES = 1_000;

/** The rows of the dialect. */
export function unstorageRoutes(commands: Commands, clock: Clock): readonly Route[] {
  const path = "/v1/unstorage/{bucket}/{key}";
  const done = { description: "OK", types: ["text/plain; charset=utf-8"] };
  return [{
    method: "GET",
    path,
    id: "unstorageGet",
    summary: "unstorage: read a key, or list the keys below a path that ends in : or /",
    answers: { 200: { description: "The value", types: MEDIA_TYPES } },
    run: (call) => isBase(call.key) ? listKeys(commands, call) : getItem(commands, clock, call),
  }, {
    method: "PUT",
    path,
    id: "unstorageSet",
    summary: "unstorage: write a key",
    headers: { "x-ttl": "Seconds that the key lives" },
    body: { types: MEDIA_TYPES },
    answers: { 200: done },
    run: (call) => setItem(commands, call),
  }, {
    method: "DELETE",
    path,
    id: "unstorageDelete",
    summary: "unstorage: delete a key, or all keys below a path that ends in : or /",
    answers: { 200: done },
    run: (call) => isBase(call.key) ? clear(commands, call) : removeItem(commands, call),
  }];
}

// --- keys ---

function isBase(escaped: string): boolean {
  return /(^|[:/])$/.test(escaped);
}

/** The key that a path stands for: its segments, with colons between. */
function keyOfPath(escaped: string): Uint8Array {
  return unescapeBytes(escaped.split(/[:/]/).filter((segment) => segment !== "").join(":"));
}

/** What the keys below a path begin with; empty for all of them. */
function prefixOfPath(escaped: string): Uint8Array {
  const key = keyOfPath(escaped);
  return key.length === 0 ? key : new Uint8Array([...key, ...encodeText(":")]);
}

// --- items ---

async function getItem(commands: Commands, clock: Clock, call: Call): Promise<Response> {
  const { request, principal, bucket, key } = call;
  const entry = await commands.peek(principal, bucket, keyOfPath(key));
  if (entry === undefined) throw new Refused("NOT_FOUND", "There is no such key");
  if (entry.once === true) throw new Refused("SINGLE_READ", "Cannot GET a single-read key");
  const { type, bytes } = represent(entry, readableBy(request.headers.get("accept"), entry));
  const headers: Record<string, string> = { "content-type": type };
  if (entry.expiresAt !== undefined) {
    headers["x-ttl"] = String(Math.max(Math.ceil((entry.expiresAt - clock.wall()) / 1_000), 0));
  }
  return answer(200, bytes, headers);
}

/** The driver says what it accepts for raw items only. Others it reads as JSON or text. */
function readableBy(accept: string | null, entry: Entry): string | null {
  return entry.content === CONTENT.cbor && (accept === null || accept === "*/*") ? JSON_TYPE : accept;
}

async function setItem(commands: Commands, { request, principal, bucket, key }: Call): Promise<Response> {
  if (isBase(key)) throw new FirkinError("INVALID", "Cannot write a key whose name ends here");
  const { headers } = request;
  const bytes = new Uint8Array(await request.arrayBuffer());
  const ttl = headers.get("x-ttl");
  if (ttl !== null && !(Number(ttl) > 0)) throw new FirkinError("INVALID", "Cannot read x-ttl: expected seconds");
  // An empty body may come without a type.
  const isLoose = !headers.has("content-type") || contentOf(headers) === CONTENT.json;
  const content = isLoose ? jsonOrText(bytes) : valueOfBody(headers, bytes).content;
  const deadline = ttl === null ? {} : { deadline: { ttl: Number(ttl) * 1_000 } };
  await commands.set(principal, bucket, keyOfPath(key), bytes, { content, ...deadline });
  return ok();
}

function jsonOrText(bytes: Uint8Array): Content {
  try {
    return valueOfBody(new Headers({ "content-type": JSON_TYPE }), bytes).content;
  } catch {
    return valueOfBody(new Headers({ "content-type": MEDIA_TYPES[CONTENT.text]! }), bytes).content;
  }
}

async function removeItem(commands: Commands, { principal, bucket, key }: Call): Promise<Response> {
  await commands.delete(principal, bucket, keyOfPath(key));
  return ok();
}

// --- all below a path ---

async function listKeys(commands: Commands, { principal, bucket, key }: Call): Promise<Response> {
  const names: string[] = [];
  for await (const page of pages(commands, principal, bucket, prefixOfPath(key))) {
    for (const entry of page) {
      const name = decodeText(entry.key);
      // One that is no text is none of unstorage's.
      if (name !== undefined) names.push(name);
    }
    if (names.length > KEYS_MAX) {
      throw new FirkinError("TOO_LARGE", `Cannot list more than ${KEYS_MAX} keys at once: list the bucket in pages`);
    }
  }
  return json(JSON.stringify(names));
}

async function clear(commands: Commands, { principal, bucket, key }: Call): Promise<Response> {
  for await (const page of pages(commands, principal, bucket, prefixOfPath(key))) {
    await Promise.all(page.map(async (entry) => await commands.delete(principal, bucket, entry.key)));
  }
  return ok();
}

async function* pages(
  commands: Commands,
  principal: Principal,
  bucket: string,
  prefix: Uint8Array,
): AsyncGenerator<readonly Entry[]> {
  const query = { ...(prefix.length > 0 && { prefix }), limit: PAGE_ENTRIES };
  let page = await commands.list(principal, bucket, query);
  while (page.entries.length > 0) {
    yield page.entries;
    if (!page.more) break;
    page = await commands.list(principal, bucket, { ...query, after: page.entries.at(-1)!.key });
  }
}

function ok(): Response {
  return answer(200, encodeText("OK"), { "content-type": MEDIA_TYPES[CONTENT.text]! });
}
