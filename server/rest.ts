/**
 * REST: the table of what HTTP can ask, and what answers it.
 *
 * Each row takes a request apart, calls `commands.ts` with plain values and writes down what comes back, as
 * `frames.ts` does for WebSockets; rights, limits and counts are theirs. `docs/REST.md` says it for users. What is to
 * be kept in mind here:
 *
 * 1. GET and HEAD change nothing. Any page can make a browser send those; what changes something is PUT, DELETE, or a
 *    POST whose type is JSON, for all of which a browser asks the server first (`web.ts`).
 * 2. A single-read key is never given by a GET: who follows a link, previews it or tries again would end it.
 * 3. A condition on several revisions (`If-Match: *`) is one on the revision that the key has, tried again when that
 *    has moved on meanwhile; the store judges it, so no other write comes between.
 *
 * @module
 */
import { FirkinError } from "../lib/base/errors.ts";
import type {
  ChangeType,
  Deadline,
  Entry,
  ListQuery,
  Operation,
  SetOptions,
  WriteResult,
} from "../lib/engine/engine.ts";
import { lifeOf, type SetOptions as LifeOptions } from "../lib/store/bucket.ts";
import { countOfPage } from "../lib/wire/protocol.ts";
import type { Answer, Commands } from "./commands.ts";
import type { EventStreams } from "./event_streams.ts";
import type { Gate } from "./gate.ts";
import { ref } from "./openapi.ts";
import { Refused, REST_HEADERS } from "./problems.ts";
import {
  entryJson,
  escapeBytes,
  escapeCursor,
  etagOf,
  JSON_TYPE,
  keyOf,
  MEDIA_TYPES,
  membersOf,
  membersOfBody,
  represent,
  tagsOf,
  unescapeBytes,
  unescapeCursor,
  valueOf,
  valueOfBody,
} from "./representations.ts";
import type { Call, Query, Route, Schema } from "./routes.ts";

/** Entries of a page when nobody says how many. */
const PAGE_ENTRIES = 100;
/** How often a condition on several revisions is tried when the key keeps changing. */
const TRIES_MAX = 16;

const CHANGE_TYPES: readonly ChangeType[] = ["set", "delete", "expire", "evict", "take"];

const TEXT: Schema = { type: "string" };
const FLAG: Schema = { type: "string", enum: ["0", "1", "false", "true"] };
const JSON_TYPES = [JSON_TYPE];

const CONDITIONS = {
  "If-Match": "Only if the key has one of these ETags; *: only if it is there",
  "If-None-Match": "Only if it has none of these; *: only if it is not there",
};
const LIFE = {
  "Firkin-Ttl": "How long the key lives: milliseconds, or 250ms, 30s, 5m, 2h, 7d",
  "Firkin-Expires-At": "When it ends instead: milliseconds since 1970",
  "Firkin-Once": "true: the key is single-read",
};
const VALUE_HEADERS = {
  "ETag": "The revision, in quotes",
  "Firkin-Expires-At": "When the key ends, milliseconds since 1970",
  "Firkin-Once": "true when it is single-read",
};
const ETAG = { "ETag": "The new revision, in quotes" };

/** The rows about keys, listings, batches and streams. */
export function restRoutes(commands: Commands, streams: EventStreams, gate: Gate): readonly Route[] {
  return [...keyRoutes(commands), ...actionRoutes(commands), ...bucketRoutes(commands), ...streamRoutes(streams, gate)];
}

// --- keys ---

function keyRoutes(commands: Commands): readonly Route[] {
  const path = "/v1/buckets/{bucket}/keys/{key}";
  return [{
    method: "GET",
    path,
    id: "get",
    summary: "Read a key; HEAD reads all but the value, also of a single-read key",
    headers: { "Accept": "Types the value may come in", ...CONDITIONS },
    answers: {
      200: { description: "The value", types: MEDIA_TYPES, headers: VALUE_HEADERS },
      304: { description: "The key has one of the ETags of If-None-Match" },
    },
    run: (call) => getKey(commands, call),
  }, {
    method: "PUT",
    path,
    id: "set",
    summary: "Write a key",
    headers: { ...CONDITIONS, ...LIFE },
    body: { types: MEDIA_TYPES },
    answers: { 204: { description: "Written", headers: ETAG } },
    run: (call) => putKey(commands, call),
  }, {
    method: "DELETE",
    path,
    id: "delete",
    summary: "Delete a key; one that is not there is no failure",
    headers: CONDITIONS,
    answers: {
      204: { description: "It is not there any more; the ETag is that of its end, absent when it was not there" },
    },
    run: (call) => deleteKey(commands, call),
  }];
}

async function getKey(commands: Commands, { request, principal, bucket, key }: Call): Promise<Response> {
  const entry = await commands.peek(principal, bucket, unescapeBytes(key));
  const { method, headers } = request;
  const holds = conditionOf(headers, true);
  const revision = entry?.revision ?? 0;
  if (entry === undefined) {
    if (headers.has("if-match")) throw lost(undefined);
    throw new Refused("NOT_FOUND", "There is no such key");
  }
  if (!holds.match(revision)) throw lost(entry);
  if (!holds.noneMatch(revision)) return new Response(null, { status: 304, headers: entryHeaders(entry) });
  if (entry.once === true && method === "HEAD") return new Response(null, { headers: entryHeaders(entry) });
  if (entry.once === true) throw new Refused("SINGLE_READ", "Cannot GET a single-read key: POST to its /take ends it");
  const { type, bytes } = represent(entry, headers.get("accept"));
  return answer(200, bytes, { ...entryHeaders(entry), "content-type": type });
}

async function putKey(commands: Commands, { request, principal, bucket, key: escaped }: Call): Promise<Response> {
  const { headers } = request;
  const key = unescapeBytes(escaped);
  const { content, value } = valueOfBody(headers, new Uint8Array(await request.arrayBuffer()));
  const options: SetOptions = { content, ...lifeOfHeaders(headers) };
  const result = await conditional(
    headers,
    () => commands.peek(principal, bucket, key),
    (ifRevision) => {
      return commands.set(
        principal,
        bucket,
        key,
        value,
        ifRevision === undefined ? options : { ...options, ifRevision },
      );
    },
  );
  if (!result.ok) throw lost(result.current);
  return answer(204, null, { etag: etagOf(result.revision) });
}

async function deleteKey(commands: Commands, { request, principal, bucket, key: escaped }: Call): Promise<Response> {
  const { headers } = request;
  const key = unescapeBytes(escaped);
  const result = await conditional(
    headers,
    () => commands.peek(principal, bucket, key),
    (ifRevision) => commands.delete(principal, bucket, key, ifRevision === undefined ? {} : { ifRevision }),
  );
  if (result.ok) return answer(204, null, { etag: etagOf(result.revision) });
  if (result.current !== undefined || headers.has("if-match")) throw lost(result.current);
  return answer(204, null);
}

// --- what POST does to a key ---

function actionRoutes(commands: Commands): readonly Route[] {
  const path = "/v1/buckets/{bucket}/keys/{key}";
  return [{
    method: "POST",
    path: `${path}/take`,
    id: "take",
    summary: "Read a key and delete it; of many who ask, one gets it. The value comes in the type it was written as",
    body: { types: JSON_TYPES, schema: ref("Nothing") },
    answers: { 200: { description: "The value", types: MEDIA_TYPES, headers: VALUE_HEADERS } },
    run: (call) => takeKey(commands, call),
  }, {
    method: "POST",
    path: `${path}/increment`,
    id: "increment",
    summary: "Add to a number; a key that is not there counts as 0",
    body: { types: JSON_TYPES, schema: ref("Increment") },
    answers: { 200: { description: "The sum", types: JSON_TYPES, schema: ref("Sum"), headers: ETAG } },
    async run({ request, principal, bucket, key }) {
      const { by = 1 } = await membersOfBody(request, ["by"]);
      const { value, revision } = await commands.increment(principal, bucket, unescapeBytes(key), by as number);
      return json(`{"value":${value},"revision":${revision}}`, { etag: etagOf(revision) });
    },
  }, {
    method: "POST",
    path: `${path}/touch`,
    id: "touch",
    summary: "Move a key's end",
    body: { types: JSON_TYPES, schema: ref("Touch") },
    answers: { 200: { description: "Moved", types: JSON_TYPES, schema: ref("Revision"), headers: ETAG } },
    async run({ request, principal, bucket, key }) {
      const { deadline } = lifeOfMembers(await membersOfBody(request, ["ttl", "expiresAt"]));
      const result = await commands.touch(principal, bucket, unescapeBytes(key), deadline);
      if (!result.ok) throw new Refused("NOT_FOUND", "There is no such key");
      return json(`{"revision":${result.revision}}`, { etag: etagOf(result.revision) });
    },
  }];
}

async function takeKey(commands: Commands, { request, principal, bucket, key }: Call): Promise<Response> {
  await membersOfBody(request, []);
  const entry = await commands.take(principal, bucket, unescapeBytes(key));
  if (entry === undefined) throw new Refused("NOT_FOUND", "There is no such key");
  const headers = { ...entryHeaders(entry), "content-type": MEDIA_TYPES[entry.content]! };
  return answer(200, entry.value, { ...headers, "cache-control": "no-store, no-transform" });
}

// --- buckets and batches ---

const LIST_QUERY = {
  prefix: { ...TEXT, description: "Only keys that begin with this" },
  start: { ...TEXT, description: "The first key" },
  end: { ...TEXT, description: "The key to stop before" },
  reverse: { ...FLAG, description: "From the last key to the first" },
  limit: { type: "integer", minimum: 1, maximum: 1_000, default: PAGE_ENTRIES },
  values: { ...FLAG, description: "0: entries without their values" },
  cursor: { ...TEXT, description: "That of the page before" },
};

function bucketRoutes(commands: Commands): readonly Route[] {
  return [{
    method: "GET",
    path: "/v1/buckets/{bucket}/keys",
    id: "list",
    summary: "List entries in the order of their keys, a page at a time",
    query: LIST_QUERY,
    answers: {
      200: {
        description: "A page",
        types: JSON_TYPES,
        schema: ref("Page"),
        headers: { "Link": "The next page (rel=next), when there is one" },
      },
    },
    run: (call) => list(commands, call),
  }, {
    method: "POST",
    path: "/v1/buckets/{bucket}/get",
    id: "getMany",
    summary: "Read many keys; single-read keys are taken",
    body: { types: JSON_TYPES, schema: ref("Keys") },
    answers: { 200: { description: "An entry or null for each key", types: JSON_TYPES, schema: ref("Entries") } },
    async run({ request, principal, bucket }) {
      const { keys } = await membersOfBody(request, ["keys"]);
      if (!Array.isArray(keys)) throw new FirkinError("INVALID", "Cannot read the body: keys is an array");
      const wanted = keys.map((key: unknown) => {
        return keyOf(typeof key === "string" ? { key } : membersOf(key, ["keyBase64"], "a key"));
      });
      const entries = await commands.getMany(principal, bucket, wanted);
      const parts = entries.map((entry) => entry === undefined ? "null" : entryJson(entry, { taken: true }));
      return json(`{"entries":[${parts.join(",")}]}`);
    },
  }, {
    method: "POST",
    path: "/v1/batch",
    id: "atomic",
    summary: "All of these operations, or none when a check does not hold",
    body: { types: JSON_TYPES, schema: ref("Batch") },
    answers: { 200: { description: "All of them happened", types: JSON_TYPES, schema: ref("Revision") } },
    async run({ request, principal }) {
      const { operations } = await membersOfBody(request, ["operations"]);
      if (!Array.isArray(operations)) throw new FirkinError("INVALID", "Cannot read the body: operations is an array");
      const result = await commands.atomic(principal, operations.map(operationOf));
      if (!result.ok) throw lost(result.current, { index: String(result.index) });
      return json(`{"revision":${result.revision}}`);
    },
  }];
}

async function list(commands: Commands, { request, principal, bucket, query }: Call): Promise<Response> {
  const values = query.flag("values", true);
  const page = await commands.list(principal, bucket, listQueryOf(query));
  const entries = page.entries.slice(0, countOfPage(page.entries));
  const last = entries.at(-1);
  const more = last !== undefined && (page.more || entries.length < page.entries.length);
  const cursor = more ? escapeCursor(last.key) : undefined;
  const parts = entries.map((entry) => entryJson(entry, { values }));
  const headers: Record<string, string> = {};
  if (cursor !== undefined) {
    const kept = Object.keys(LIST_QUERY).filter((name) => name !== "cursor" && query.bytes(name) !== undefined);
    const fields = [...kept.map((name) => `${name}=${escapeBytes(query.bytes(name)!)}`), `cursor=${cursor}`];
    headers["link"] = `<${new URL(request.url).pathname}?${fields.join("&")}>; rel="next"`;
  }
  return json(`{"entries":[${parts.join(",")}]${cursor === undefined ? "" : `,"cursor":"${cursor}"`}}`, headers);
}

function listQueryOf(query: Query): ListQuery {
  const [prefix, start, end] = [query.bytes("prefix"), query.bytes("start"), query.bytes("end")];
  const cursor = query.text("cursor");
  return {
    ...(prefix && { prefix }),
    ...(start && { start }),
    ...(end && { end }),
    ...(cursor !== undefined && { after: unescapeCursor(cursor) }),
    reverse: query.flag("reverse"),
    limit: query.whole("limit") ?? PAGE_ENTRIES,
  };
}

const OPERATION_MEMBERS = {
  check: ["revision"],
  set: ["content", "value", "base64", "ttl", "expiresAt", "once"],
  delete: [],
};

function operationOf(operation: unknown): Operation {
  const type = (operation as { readonly type?: unknown } | null)?.type;
  if (type !== "check" && type !== "set" && type !== "delete") {
    throw new FirkinError("INVALID", "Cannot read an operation: its type is check, set or delete");
  }
  const names = ["type", "bucket", "key", "keyBase64", ...OPERATION_MEMBERS[type]];
  const members = membersOf(operation, names, "an operation");
  const { bucket, revision } = members;
  if (typeof bucket !== "string") throw new FirkinError("INVALID", "Cannot read an operation: it has no bucket");
  const key = keyOf(members);
  if (type === "delete") return { type, bucket, key };
  if (type === "check") return { type, bucket, key, revision: revision as number };
  return { type, bucket, key, ...valueOf(members), ...lifeOfMembers(members) };
}

// --- streams ---

function streamRoutes(streams: EventStreams, gate: Gate): readonly Route[] {
  const route = (path: string, id: string, query: Record<string, Schema>): Route => ({
    method: "GET",
    path,
    id,
    summary: "Changes as they happen, as Server-Sent Events",
    query: {
      snapshot: { ...FLAG, description: "1: first the entries as they are, then synced" },
      values: { ...FLAG, description: "0: events without their values" },
      from: { ...TEXT, description: "Continue behind this cursor" },
      types: { ...TEXT, description: `Only these, with commas between: ${CHANGE_TYPES.join(", ")}` },
      ...query,
    },
    headers: { "Last-Event-ID": "As from, and before it: browsers send it when they connect again" },
    answers: { 200: { description: "A stream without end", types: ["text/event-stream"] } },
    async run({ request, remoteAddress, principal, bucket, query: given }) {
      const place = gate.placeOf(request.headers, remoteAddress);
      const [key, prefix, types] = [given.bytes("key"), given.bytes("prefix"), given.text("types")];
      const from = (request.headers.get("last-event-id") ?? "") || given.text("from");
      const response = await streams.open(principal, place, {
        ...(bucket !== "" && { bucket }),
        ...(key !== undefined && { key }),
        ...(prefix !== undefined && { prefix }),
        ...(types !== undefined && { types: typesOf(types) }),
        ...(from !== undefined && { from }),
        snapshot: given.flag("snapshot"),
        values: given.flag("values", true),
      });
      if (request.method !== "HEAD") return response;
      await response.body?.cancel(); // it has no end that could be read and left out
      return new Response(null, response);
    },
  });
  return [
    route("/v1/buckets/{bucket}/events", "subscribe", {
      key: { ...TEXT, description: "Only this key" },
      prefix: { ...TEXT, description: "Only keys that begin with this" },
    }),
    route("/v1/events", "subscribeAll", {}),
  ];
}

/** @throws {FirkinError} INVALID — one is no type of change */
function typesOf(text: string): ChangeType[] {
  return text.split(",").map((name) => {
    const type = CHANGE_TYPES.find((known) => known === name);
    if (type !== undefined) return type;
    throw new FirkinError("INVALID", `Cannot read the query: types are some of ${CHANGE_TYPES.join(", ")}`);
  });
}

// --- conditions ---

/** What If-Match and If-None-Match say about a revision, 0 for a key that is not there. */
interface Condition {
  match(revision: number): boolean;
  noneMatch(revision: number): boolean;
  /** The revision that alone can pass, where that is plain; undefined when it has to be looked up. */
  readonly only: number | undefined;
}

/** `reads`: weak ETags count in If-None-Match. */
function conditionOf(headers: Headers, reads: boolean): Condition {
  const [match, none] = [headers.get("if-match"), headers.get("if-none-match")];
  const matches = match === null ? undefined : tagsOf(match, false);
  const nones = none === null ? undefined : tagsOf(none, reads);
  return {
    match: (revision) => matches === undefined || (matches.any ? revision > 0 : matches.revisions.includes(revision)),
    noneMatch: (revision) => nones === undefined || (nones.any ? revision === 0 : !nones.revisions.includes(revision)),
    only: matches?.revisions.length === 1 ? matches.revisions[0] : nones?.any === true ? 0 : undefined,
  };
}

/** Writes on the conditions in `headers`; a lost one is an answer. */
async function conditional(
  headers: Headers,
  read: () => Answer<Entry | undefined>,
  write: (ifRevision: number | undefined) => Answer<WriteResult>,
): Promise<WriteResult> {
  if (!headers.has("if-match") && !headers.has("if-none-match")) return await write(undefined);
  const condition = conditionOf(headers, false);
  let current: Entry | undefined;
  let revision = condition.only ?? (current = await read())?.revision ?? 0;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    if (!condition.match(revision) || !condition.noneMatch(revision)) {
      return { ok: false, current: current ?? await read() };
    }
    const result = await write(revision);
    // A delete of what is not there has found what it asked for.
    if (result.ok || (result.current?.revision ?? 0) === revision) return result;
    current = result.current;
    revision = current?.revision ?? 0;
  }
  throw new FirkinError("BUSY", "Cannot write on this condition: the key keeps changing");
}

/** The answer to a condition that did not hold. */
function lost(current: Entry | undefined, members: Record<string, string> = {}): Refused {
  const state = current === undefined ? "there is no such key" : `the key is at revision ${current.revision}`;
  return new Refused("PRECONDITION_FAILED", `The condition does not hold: ${state}`, {
    members: { current: current === undefined ? "null" : entryJson(current), ...members },
    headers: current === undefined ? {} : { etag: etagOf(current.revision) },
  });
}

// --- ends ---

function lifeOfHeaders(headers: Headers): { readonly deadline?: Deadline; readonly once?: boolean } {
  const [ttl, expiresAt, once] = ["firkin-ttl", "firkin-expires-at", "firkin-once"].map((name) => headers.get(name));
  if (once !== null && once !== "true" && once !== "false") {
    throw new FirkinError("INVALID", "Cannot read Firkin-Once: it is true or false");
  }
  return lifeOf({
    ...(ttl !== null && { ttl: /^\d+$/.test(ttl!) ? Number(ttl) : ttl! }),
    ...(expiresAt !== null && { expiresAt: /^\d+$/.test(expiresAt!) ? Number(expiresAt) : NaN }),
    ...(once !== null && { once: once === "true" }),
  });
}

function lifeOfMembers(members: Record<string, unknown>): { readonly deadline?: Deadline; readonly once?: boolean } {
  const { ttl, expiresAt, once } = members;
  return lifeOf({
    ...(ttl !== undefined && { ttl }),
    ...(expiresAt !== undefined && { expiresAt }),
    ...(once !== undefined && { once }),
  } as LifeOptions);
}

// --- answers ---

function entryHeaders({ revision, expiresAt, once }: Entry): Record<string, string> {
  return {
    etag: etagOf(revision),
    // May be kept, and must be asked for again each time. Who packs it on the way would weaken its ETag.
    "cache-control": "private, no-cache, no-transform",
    vary: "Accept",
    ...(expiresAt !== undefined && { "firkin-expires-at": String(expiresAt) }),
    ...(once === true && { "firkin-once": "true" }),
  };
}

/** An answer with the headers of all answers. */
export function answer(status: number, body: Uint8Array | null, headers: Record<string, string> = {}): Response {
  return new Response(body as Uint8Array<ArrayBuffer> | null, { status, headers: { ...REST_HEADERS, ...headers } });
}

/** An answer that is this JSON text. */
export function json(text: string, headers: Record<string, string> = {}, status = 200): Response {
  return answer(status, new TextEncoder().encode(text), { "content-type": JSON_TYPE, ...headers });
}
