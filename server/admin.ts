/**
 * What the dashboard and the command ask of the server beside the store: who asks and what it may, buckets, the last
 * quarter of an hour, who is connected, snapshots, and the tokens of clients.
 *
 * Rows of the table that REST is, there whether REST is on or not. All but the first two need the right `admin`, which
 * `commands.ts` asks for. Nobody can hand on more than it has: a new token has rights only where who creates it has
 * them, and in all of a family of buckets only who has them in all buckets.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { decodeText } from "../lib/base/bytes.ts";
import type { Clock } from "../lib/base/clock.ts";
import { FirkinError } from "../lib/base/errors.ts";
import type { BucketInfo, Engine } from "../lib/engine/engine.ts";
import { type BucketSettings, SETTING_NAMES, type SettingsCondition } from "../lib/engine/settings.ts";
import { type Duration, milliseconds } from "../lib/store/bucket.ts";
import type { Principal, Scope } from "./auth.ts";
import type { Clients } from "./clients.ts";
import type { Commands } from "./commands.ts";
import type { Gate } from "./gate.ts";
import { type History, HISTORY_COLUMNS } from "./history.ts";
import { ref } from "./openapi.ts";
import { Refused } from "./problems.ts";
import { JSON_TYPE, membersOfBody, unescapeBytes } from "./representations.ts";
import { answer, json } from "./rest.ts";
import type { Call, Route } from "./routes.ts";
import type { ServerSnapshots } from "./snapshots.ts";
import type { Tokens } from "./tokens.ts";

/** As many connections are told of, and as many subscriptions of each: a server may have ten thousand. */
const CLIENTS_MAX = 500;
const SUBSCRIPTIONS_MAX = 20;

/** Settings are replaced as a whole, never changed: the ETags of 4,096 buckets would take 15 ms each time. */
const TAGS = new WeakMap<BucketSettings, string>();

/** What is administered. */
export interface Administration {
  readonly engine: Engine;
  readonly commands: Commands;
  readonly gate: Gate;
  readonly history: History;
  readonly snapshots: ServerSnapshots;
  readonly clients: Clients;
  /** Nobody needs one when absent. */
  readonly tokens: Tokens | undefined;
  readonly clock: Clock;
}

/** The rows for what is administered. */
export function adminRoutes(administration: Administration): readonly Route[] {
  return [
    ...ownRoutes(administration),
    ...clientRoutes(administration),
    ...snapshotRoutes(administration),
    ...tokenRoutes(administration),
  ];
}

// --- who asks, and what there is ---

function ownRoutes({ commands, gate, history, clock }: Administration): readonly Route[] {
  return [{
    method: "GET",
    path: "/v1/me",
    id: "me",
    summary: "Who asks, and what it may",
    answers: { 200: { description: "A principal", types: [JSON_TYPE] } },
    run({ principal: { name, scopes = [], expiresAt } }) {
      return json(
        JSON.stringify({ name, scopes, expiresAt, asksTokens: gate.asksCredentials, now: Math.round(clock.wall()) }),
      );
    },
  }, {
    method: "GET",
    path: "/v1/buckets",
    id: "buckets",
    summary: "The buckets that one may see, how much is in those that one may read, and their settings",
    answers: { 200: { description: "Buckets by name: keys, bytes of their records, settings", types: [JSON_TYPE] } },
    async run({ principal }) {
      const buckets = await commands.buckets(principal);
      // Who may change settings can say which it has seen.
      const isAdmin = principal.allows("admin", undefined);
      return json(JSON.stringify({ buckets: isAdmin ? buckets.map(tagged) : buckets }));
    },
  }, {
    method: "PUT",
    path: "/v1/admin/buckets/{bucket}",
    id: "configureBucket",
    summary: "Give a bucket settings in the place of those that it had; make it when there is none",
    headers: {
      "If-Match": "Only in the place of the settings that have this etag",
      "If-None-Match": "With *: only when there is no such bucket",
    },
    body: { types: [JSON_TYPE], schema: ref("BucketSettings") },
    answers: { 204: { description: "They are on stable storage" } },
    async run({ request, principal, bucket }) {
      const { ttl, ...others } = await membersOfBody(request, SETTING_NAMES);
      const own = ttl === undefined ? others : { ...others, ttl: milliseconds(ttl as Duration) };
      if (await commands.configure(principal, bucket, own as BucketSettings, conditionOf(request.headers))) {
        return answer(204, null);
      }
      const state = request.headers.has("if-match") ? "its settings are others by now" : "it is there";
      throw new Refused("PRECONDITION_FAILED", `Cannot configure this bucket on that condition: ${state}`);
    },
  }, {
    method: "GET",
    path: "/v1/admin/history",
    id: "history",
    summary: "A row of figures for each second of the last quarter of an hour",
    query: { after: { type: "integer", description: "Only rows later than this, in milliseconds since 1970" } },
    answers: { 200: { description: "Rows, oldest first, and what their columns are", types: [JSON_TYPE] } },
    async run({ principal, query }) {
      const after = query.whole("after") ?? 0;
      const rows = await commands.administer(principal, () => history.read(after));
      return json(JSON.stringify({ now: Math.round(clock.wall()), columns: HISTORY_COLUMNS, rows }));
    },
  }];
}

/** A bucket as who may configure it is told of it. */
export type TaggedBucket = BucketInfo & { readonly etag?: string };

function tagged(bucket: BucketInfo): TaggedBucket {
  return { ...bucket, etag: tagOf(bucket.settings ?? {}) };
}

/** The ETag of settings: the same for the same, whoever gave them. */
function tagOf(settings: BucketSettings): string {
  let tag = TAGS.get(settings);
  if (tag === undefined) {
    const text = JSON.stringify(SETTING_NAMES.map((name) => settings[name]));
    tag = `"${createHash("sha256").update(text).digest("hex").slice(0, 16)}"`;
    TAGS.set(settings, tag);
  }
  return tag;
}

/** What If-Match and If-None-Match say about settings that may be replaced. */
function conditionOf(headers: Headers): SettingsCondition {
  const [match, none] = [headers.get("if-match"), headers.get("if-none-match")];
  return (current) => (match === null || names(match, current)) && (none === null || !names(none, current));
}

function names(tags: string, current: BucketSettings | undefined): boolean {
  return current !== undefined && tags.split(",").some((tag) => ["*", tagOf(current)].includes(tag.trim()));
}

// --- clients ---

function clientRoutes({ commands, clients, engine }: Administration): readonly Route[] {
  return [{
    method: "GET",
    path: "/v1/admin/clients",
    id: "clients",
    summary: "Who is connected, by WebSocket, as an event stream or a Redis client, and what each has subscribed to",
    answers: {
      200: {
        description: `Up to ${CLIENTS_MAX} connections, those first for which most waits`,
        types: [JSON_TYPE],
      },
    },
    async run({ principal }) {
      return json(JSON.stringify(
        await commands.administer(principal, async () => {
          const { revision } = await engine.stats();
          return { revision, ...clients.list(CLIENTS_MAX, SUBSCRIPTIONS_MAX) };
        }),
      ));
    },
  }, {
    method: "DELETE",
    path: "/v1/admin/clients/{name}",
    id: "closeClient",
    summary: "Close a connection. Its client may connect again: who is not to must have its token revoked",
    answers: { 204: { description: "It is closed, or was before" } },
    async run({ principal, name }) {
      await commands.administer(principal, () => clients.close(name));
      return answer(204, null);
    },
  }];
}

// --- snapshots ---

function snapshotRoutes({ commands, snapshots }: Administration): readonly Route[] {
  return [{
    method: "GET",
    path: "/v1/admin/snapshots",
    id: "snapshots",
    summary: "Snapshots that were taken since the server started, newest first",
    answers: { 200: { description: "Snapshots, and what has become of them", types: [JSON_TYPE] } },
    async run({ principal }) {
      const taken = await commands.administer(principal, () => snapshots.list());
      return json(JSON.stringify({ snapshots: taken }));
    },
  }, {
    method: "POST",
    path: "/v1/admin/snapshots",
    id: "snapshot",
    summary: "Begin a snapshot, in the folder that the server has for them",
    body: { types: [JSON_TYPE], schema: ref("Nothing") },
    answers: { 202: { description: "It has begun", types: [JSON_TYPE] } },
    async run({ request, principal }) {
      await membersOfBody(request, []);
      const begun = await commands.administer(principal, () => snapshots.begin());
      return json(JSON.stringify(begun), {}, 202);
    },
  }];
}

// --- tokens ---

function tokenRoutes(administration: Administration): readonly Route[] {
  const { commands } = administration;
  return [{
    method: "GET",
    path: "/v1/admin/tokens",
    id: "tokens",
    summary: "What is known of each token",
    answers: { 200: { description: "Tokens, oldest first", types: [JSON_TYPE] } },
    async run({ principal }) {
      const tokens = await commands.administer(principal, () => tokensOf(administration).list());
      return json(JSON.stringify({ tokens }));
    },
  }, {
    method: "POST",
    path: "/v1/admin/tokens",
    id: "createToken",
    summary: "Create a token, which is told this once; nobody can give rights that it does not have",
    body: { types: [JSON_TYPE], schema: ref("TokenOptions") },
    answers: { 201: { description: "The token, and what is known of it", types: [JSON_TYPE] } },
    run: (call) => createToken(administration, call),
  }, {
    method: "DELETE",
    path: "/v1/admin/tokens/{name}",
    id: "revokeToken",
    summary: "End a token, by its id or its name",
    answers: { 204: { description: "It is revoked, and its connections are closed" } },
    async run({ principal, name }) {
      const found = await commands.administer(principal, () => tokensOf(administration).revoke(unescaped(name)));
      if (!found) throw new Refused("NOT_FOUND", "There is no such token");
      return answer(204, null);
    },
  }];
}

function unescaped(name: string): string {
  return decodeText(unescapeBytes(name)) ?? "";
}

async function createToken(administration: Administration, { request, principal }: Call): Promise<Response> {
  const { name, scopes, ttl } = await membersOfBody(request, ["name", "scopes", "ttl"]);
  const created = await administration.commands.administer(principal, () => {
    const tokens = tokensOf(administration);
    const wanted = scopesOf(scopes);
    for (const scope of wanted) checkGrant(principal, scope);
    const life = ttl === undefined ? undefined : milliseconds(ttl as Duration);
    return tokens.create({
      name: String(name),
      scopes: wanted,
      ...(life !== undefined && { expiresAt: administration.clock.wall() + life }),
    });
  });
  return json(JSON.stringify(created), {}, 201);
}

function tokensOf({ tokens }: Administration): Tokens {
  if (tokens !== undefined) return tokens;
  throw new FirkinError("NOT_SUPPORTED", "Cannot administer tokens: this server asks for none");
}

/** What a body says of scopes; what may stand in them is judged where tokens are created. */
function scopesOf(scopes: unknown): Scope[] {
  if (!Array.isArray(scopes)) throw new FirkinError("INVALID", "Cannot create a token: scopes is an array");
  return scopes.map((scope) => {
    const { buckets, rights } = (scope ?? {}) as Record<string, unknown>;
    if (typeof buckets !== "string" || !Array.isArray(rights)) {
      throw new FirkinError("INVALID", "Cannot create a token: a scope has buckets, and rights, which are an array");
    }
    return { buckets, rights };
  });
}

/** @throws {FirkinError} FORBIDDEN — it would hand on what it does not have */
function checkGrant(principal: Principal, { buckets, rights }: Scope): void {
  const bucket = buckets.endsWith("*") ? undefined : buckets;
  const missing = rights.find((right) => !principal.allows(right, bucket));
  if (missing === undefined) return;
  throw new FirkinError("FORBIDDEN", `Cannot create a token: you lack the right to ${missing} in ${buckets}`);
}
