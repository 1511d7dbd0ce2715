/**
 * The description of REST for programs: OpenAPI 3.1, made of the table that routes requests.
 *
 * What a row does not say is the same everywhere: any request may be answered with a problem. The schemas are what the
 * tests hold real answers against.
 *
 * @module
 */
import { DESCRIPTION_LENGTH_MAX } from "../lib/engine/settings.ts";
import { KEYS_MAX } from "../lib/wire/protocol.ts";
import { PROBLEM_TYPE } from "./problems.ts";
import type { AnswerRow, Route, Schema } from "./routes.ts";

/** Of what is described: the v1 in the paths. */
const VERSION = "1";

/** Names of schemas. */
export type SchemaName =
  | "Entry"
  | "Page"
  | "Entries"
  | "Keys"
  | "Revision"
  | "Increment"
  | "Sum"
  | "Touch"
  | "Nothing"
  | "Batch"
  | "Operation"
  | "Names"
  | "Ticket"
  | "BucketSettings"
  | "TokenOptions"
  | "Problem";

/** Says where a schema of {@link SCHEMAS} stands. */
export function ref(name: SchemaName): Schema {
  return { $ref: `#/components/schemas/${name}` };
}

/** An object with exactly these members; those whose name ends in a question mark may be absent. */
function object(members: Record<string, unknown>, description?: string): Schema {
  const names = Object.keys(members);
  return {
    type: "object",
    ...(description !== undefined && { description }),
    properties: Object.fromEntries(names.map((name) => [name.replace("?", ""), members[name]])),
    required: names.filter((name) => !name.endsWith("?")),
    additionalProperties: false,
  };
}

const text = { type: "string" };
const base64 = { type: "string", contentEncoding: "base64" };
const revision = { type: "integer", minimum: 0 };
const time = { type: "integer", minimum: 0, description: "Milliseconds since 1970" };
const flag = { type: "boolean" };
const content = { type: "string", enum: ["cbor", "json", "text", "bytes"] };
const any = { description: "Any JSON" };
const ttl = { type: ["integer", "string"], description: "Milliseconds, or 250ms, 30s, 5m, 2h, 7d" };
const place = { "key?": { ...text, description: "A key that is text" }, "keyBase64?": base64 };
const value = { "value?": { ...any, description: "The value, as JSON or as text" }, "base64?": base64 };
const life = { "ttl?": ttl, "expiresAt?": time };

/** The schemas by name. */
export const SCHEMAS: Readonly<Record<SchemaName, Schema>> = {
  Entry: object(
    { ...place, revision, "expiresAt?": time, "once?": flag, content, ...value },
    "A key as it is stored. A value is absent when it was not asked for, or is for the taker of a single-read key " +
      "alone; base64 stands for what JSON cannot say.",
  ),
  Page: object({
    entries: { type: "array", items: { $ref: "#/components/schemas/Entry" } },
    "cursor?": { ...text, description: "Given when there is more: ask again with it" },
  }),
  Entries: object({
    entries: {
      type: "array",
      description: "In the order of the keys; as many as fit: ask again for the rest",
      items: { anyOf: [{ $ref: "#/components/schemas/Entry" }, { type: "null" }] },
    },
  }),
  Keys: object({
    keys: { type: "array", maxItems: KEYS_MAX, items: { anyOf: [text, object({ keyBase64: base64 })] } },
  }),
  Revision: object({ revision }),
  Increment: object({ "by?": { type: "number", default: 1 } }),
  Sum: object({ value: { type: "number" }, revision }),
  Touch: object({ ...life }, "Neither: the key no longer expires"),
  Nothing: object({}),
  Batch: object({ operations: { type: "array", items: { $ref: "#/components/schemas/Operation" } } }),
  Operation: {
    oneOf: [
      object({ type: { const: "check" }, bucket: text, ...place, revision }),
      object({
        type: { const: "set" },
        bucket: text,
        ...place,
        "content?": { ...content, default: "json" },
        ...value,
        ...life,
        "once?": flag,
      }),
      object({ type: { const: "delete" }, bucket: text, ...place }),
    ],
  },
  Names: { type: "array", items: text },
  BucketSettings: object({
    "ttl?": { ...ttl, description: "How long a key lives that is set without a deadline" },
    "valueBytesMax?": { type: "integer", minimum: 1, description: "The largest value that is taken" },
    "compression?": { type: "boolean", description: "False: values are stored as they come" },
    "description?": { ...text, maxLength: DESCRIPTION_LENGTH_MAX },
  }),
  TokenOptions: object({
    name: text,
    scopes: { type: "array", items: object({ buckets: text, rights: { type: "array", items: text } }) },
    "ttl?": ttl,
  }),
  Ticket: object({ ticket: text, expiresInMs: { type: "integer" } }),
  Problem: {
    type: "object",
    description: "RFC 9457. A program looks at code.",
    properties: {
      type: { type: "string", format: "uri" },
      title: text,
      status: { type: "integer" },
      code: text,
      detail: text,
      current: {
        description: "What stood in the way",
        anyOf: [{ $ref: "#/components/schemas/Entry" }, { type: "null" }],
      },
      index: { type: "integer", description: "The place of the check that did not hold" },
    },
    required: ["type", "title", "status", "code", "detail"],
  },
};

/** The document of a server that routes by `routes` and asks for a token or does not. */
export function openApiOf(routes: readonly Route[], asksToken: boolean): Schema {
  const paths: Record<string, Record<string, Schema>> = {};
  for (const route of routes) {
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(route);
    // HEAD is GET without a body.
    if (route.method === "GET") paths[route.path]!["head"] = { ...operationOf(route), operationId: `${route.id}Head` };
  }
  return {
    openapi: "3.1.0",
    info: { title: "firkin", version: VERSION, description: "docs/REST.md says what each of these means." },
    paths,
    components: {
      schemas: SCHEMAS,
      ...(asksToken && { securitySchemes: { token: { type: "http", scheme: "bearer" } } }),
    },
    ...(asksToken && { security: [{ token: [] }] }),
  };
}

function operationOf(route: Route): Schema {
  const parameters = [
    ...[...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
      name,
      in: "path",
      required: true,
      schema: name === "bucket" ? { type: "string", pattern: "^[a-z0-9][a-z0-9_-]{0,63}$" } : { type: "string" },
    })),
    ...Object.entries(route.query ?? {}).map(([name, schema]) => ({ name, in: "query", schema })),
    ...Object.entries(route.headers ?? {}).map(([name, description]) => ({
      name,
      in: "header",
      description,
      schema: { type: "string" },
    })),
  ];
  const { body } = route;
  return {
    operationId: route.id,
    summary: route.summary,
    parameters,
    ...(body !== undefined && { requestBody: { content: contentOf(body.types, body.schema) } }),
    responses: {
      ...Object.fromEntries(Object.entries(route.answers).map(([status, row]) => [status, answerOf(row)])),
      default: { description: "A problem", content: contentOf([PROBLEM_TYPE], ref("Problem")) },
    },
  };
}

function answerOf({ description, types, schema, headers }: AnswerRow): Schema {
  return {
    description,
    ...(types !== undefined && { content: contentOf(types, schema) }),
    ...(headers !== undefined && {
      headers: Object.fromEntries(
        Object.entries(headers).map(([name, meaning]) => [name, { description: meaning, schema: { type: "string" } }]),
      ),
    }),
  };
}

function contentOf(types: readonly string[], schema: Schema = {}): Schema {
  return Object.fromEntries(types.map((type) => [type, { schema }]));
}
