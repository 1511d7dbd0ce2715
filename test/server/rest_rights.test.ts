/**
 * REST with tokens: what each of them may, and that nothing else lets anybody in.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { Store } from "../../lib/store/store.ts";
import { type Scope, serve, type Server, Tokens } from "../../server/mod.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { openMemoryEngine } from "../wire/loopback.ts";
import { EventReader } from "./http_client.ts";

const SECRET = "hush";
const SCOPES = {
  admin: [{ buckets: "*", rights: ["read", "write", "subscribe", "admin"] }],
  reader: [{ buckets: "vault", rights: ["read"] }],
  writer: [{ buckets: "vault", rights: ["write"] }],
  both: [{ buckets: "vault", rights: ["read", "write"] }],
  listener: [{ buckets: "vault", rights: ["subscribe"] }],
  stranger: [{ buckets: "other", rights: ["read", "write", "subscribe"] }],
  prefixed: [{ buckets: "va-*", rights: ["read", "write", "subscribe"] }],
} as const satisfies Record<string, readonly Scope[]>;

type Name = keyof typeof SCOPES;

const KEY = "/v1/buckets/vault/keys/k";
const ONCE = "/v1/buckets/vault/keys/once";
const BATCH = JSON.stringify({
  operations: [
    { type: "check", bucket: "vault", key: "none", revision: 0 },
    { type: "set", bucket: "vault", key: "new", value: 1 },
  ],
});
const MIXED = JSON.stringify({
  operations: [
    { type: "set", bucket: "other", key: "new", value: 1 },
    { type: "delete", bucket: "vault", key: "k" },
  ],
});

describe("REST with tokens", () => {
  let engine: EmbeddedEngine;
  let server: Server;
  let base: string;
  const tokens = new Tokens();
  const secrets: Partial<Record<Name, string>> = {};

  beforeAll(async () => {
    for (const [name, scopes] of Object.entries(SCOPES)) {
      secrets[name as Name] = (await tokens.create({ name, scopes })).token;
    }
    engine = await openMemoryEngine();
    await engine.set("vault", bytesOf("k"), bytesOf(SECRET), { content: CONTENT.text });
    await engine.set("vault", bytesOf("once"), bytesOf(SECRET), { content: CONTENT.text, once: true });
    const limits = { authFailuresPerMinuteMax: 1_000 };
    server = await serve({ store: new Store(engine), port: 0, auth: tokens, limits });
    base = server.url.replace("ws:", "http:");
  });

  afterAll(async () => {
    await server.close();
    await engine.close();
  });

  afterEach(() => {
    expect(textOf(engine.getSync("vault", bytesOf("k"))?.value)).toBe(SECRET);
    expect(engine.getSync("vault", bytesOf("once"))?.once).toBe(true);
  });

  async function ask(method: string, path: string, headers: Record<string, string>, body?: string): Promise<Response> {
    const init = body === undefined ? {} : { body, headers: { "content-type": "application/json", ...headers } };
    return await fetch(`${base}${path}`, { headers, ...init, method });
  }

  function as(name: Name): Record<string, string> {
    return { authorization: `Bearer ${secrets[name]}` };
  }

  test("the right token is let in, so that a refusal means something", async () => {
    expect(await (await ask("GET", KEY, as("reader"))).text()).toBe(SECRET);
    expect((await ask("PUT", "/v1/buckets/vault/keys/mine", as("writer"), "1")).status).toBe(204);
    expect((await ask("POST", "/v1/buckets/vault/keys/n/increment", as("both"), "{}")).status).toBe(200);
    expect((await ask("GET", "/metrics", as("admin"))).status).toBe(200);
    const reader = await EventReader.open(`${base}/v1/buckets/vault/events`, undefined, secrets.listener);
    expect((await reader.next()).event).toBe("progress");
    reader.close();
  });

  const refusals: [what: string, who: Name, method: string, path: string, body?: string][] = [
    ["reads", "writer", "GET", KEY],
    ["reads its head", "writer", "HEAD", KEY],
    ["lists", "writer", "GET", "/v1/buckets/vault/keys"],
    ["reads many", "writer", "POST", "/v1/buckets/vault/get", '{"keys":["k"]}'],
    ["takes by reading many", "reader", "POST", "/v1/buckets/vault/get", '{"keys":["once"]}'],
    ["writes", "reader", "PUT", KEY, "1"],
    ["deletes", "reader", "DELETE", KEY],
    ["takes", "reader", "POST", `${ONCE}/take`, "{}"],
    ["takes without reading", "writer", "POST", `${ONCE}/take`, "{}"],
    ["touches", "reader", "POST", `${KEY}/touch`, "{}"],
    ["increments", "reader", "POST", `${KEY}/increment`, "{}"],
    ["increments without reading", "writer", "POST", `${KEY}/increment`, "{}"],
    ["writes in a batch", "reader", "POST", "/v1/batch", BATCH],
    ["checks in a batch", "writer", "POST", "/v1/batch", BATCH],
    ["writes elsewhere in a batch", "stranger", "POST", "/v1/batch", MIXED],
    ["subscribes", "both", "GET", "/v1/buckets/vault/events"],
    ["subscribes to all", "listener", "GET", "/v1/events"],
    ["reads what it may hear of", "listener", "GET", KEY],
    ["reads another bucket", "stranger", "GET", KEY],
    ["subscribes to another bucket", "stranger", "GET", "/v1/buckets/vault/events"],
    ["reads a bucket that begins alike", "prefixed", "GET", KEY],
    ["reads metrics", "both", "GET", "/metrics"],
    ["reads by unstorage", "stranger", "GET", "/v1/unstorage/vault/k"],
    ["lists by unstorage", "writer", "GET", "/v1/unstorage/vault/:"],
    ["writes by unstorage", "reader", "PUT", "/v1/unstorage/vault/k", "1"],
    ["clears by unstorage", "reader", "DELETE", "/v1/unstorage/vault/:"],
    ["clears by unstorage without reading", "writer", "DELETE", "/v1/unstorage/vault/:"],
  ];
  for (const [what, who, method, path, body] of refusals) {
    test(`${who} is refused when it ${what}`, async () => {
      const response = await ask(method, path, as(who), body);
      const text = await response.text();
      expect([response.status, text.includes(SECRET)]).toEqual([403, false]);
      if (method !== "HEAD") expect(JSON.parse(text).code).toBe("FORBIDDEN");
    });
  }

  test("a condition tells a writer nothing of what is there", async () => {
    for (const condition of ["if-match", "if-none-match"]) {
      for (const tag of ["*", '"1"', '"9"', '"1", "9"']) {
        for (const [method, body] of [["PUT", "1"], ["DELETE", undefined]] as const) {
          const response = await ask(method, KEY, { ...as("writer"), [condition]: tag }, body);
          expect([condition, tag, method, response.status]).toEqual([condition, tag, method, 403]);
          expect(await response.text()).not.toContain(SECRET);
        }
      }
    }
  });

  const strangers: [what: string, headersOf: (reader: string) => Record<string, string>, query?: string][] = [
    ["nothing", () => ({})],
    ["an empty Authorization", () => ({ authorization: "" })],
    ["a wrong token", () => ({ authorization: "Bearer wrong" })],
    ["a shorter token", (reader) => ({ authorization: `Bearer ${reader.slice(0, -1)}` })],
    ["a longer token", (reader) => ({ authorization: `Bearer ${reader}x` })],
    ["a token in capitals", (reader) => ({ authorization: `Bearer ${reader.toUpperCase()}` })],
    ["Basic", (reader) => ({ authorization: `Basic ${btoa(`reader:${reader}`)}` })],
    ["a token alone", (reader) => ({ authorization: reader })],
    ["two tokens", (reader) => ({ authorization: `Bearer ${reader}, Bearer ${reader}` })],
    ["a token in a cookie", (reader) => ({ cookie: `token=${reader}; authorization=Bearer ${reader}` })],
    ["a token in another header", (reader) => ({ "x-authorization": `Bearer ${reader}`, "x-api-key": reader })],
    ["a token in the query", () => ({}), "?access_token=READER"],
    ["a claim to come from here", () => ({ "x-forwarded-for": "127.0.0.1", forwarded: "for=127.0.0.1" })],
  ];
  for (const [what, headersOf, query = ""] of strangers) {
    test(`who has ${what} is refused everywhere, and learns of nothing`, async () => {
      const headers = headersOf(secrets.reader!);
      for (const path of [KEY, "/v1/buckets/vault/keys/none", "/v1/nothing", "/v1/openapi.json", "/metrics"]) {
        const response = await ask("GET", path + query.replace("READER", secrets.reader!), headers);
        expect([path, response.status]).toEqual([path, 401]);
        expect(response.headers.get("www-authenticate")).toBe("Bearer");
        expect(await response.text()).not.toContain(SECRET);
      }
    });
  }

  test("health is for everybody", async () => {
    expect((await ask("GET", "/livez", {})).status).toBe(200);
    expect((await ask("GET", "/readyz", {})).status).toBe(200);
  });

  test("a browser's question needs no token, and its answer shows nothing", async () => {
    const asked = await ask("OPTIONS", KEY, { "access-control-request-method": "PUT" });
    expect([asked.status, await asked.text()]).toEqual([204, ""]);
  });

  test.each(["while nothing happens", "while keys change"])(
    "a stream ends within a second of its token, %s, and says nothing more",
    async (when) => {
      const { token } = await tokens.create({ name: "brief", scopes: SCOPES.listener });
      const [brief, other] = await Promise.all([token, secrets.listener].map(async (secret) => {
        const reader = await EventReader.open(`${base}/v1/buckets/vault/events`, undefined, secret);
        await reader.next();
        return reader;
      }));
      const write = (): Promise<unknown> =>
        engine.set("vault", bytesOf("later"), bytesOf("1"), { content: CONTENT.json });
      const revokedAt = performance.now();
      await tokens.revoke("brief");
      if (when === "while keys change") await write();
      const last = await brief!.next();
      await brief!.ended;
      expect(performance.now() - revokedAt).toBeLessThan(1_000);
      expect([last.event, JSON.stringify(last.data).includes("later")]).toEqual(["ended", false]);
      if (when === "while nothing happens") await write();
      expect((await other!.next()).data["key"]).toBe("later");
      other!.close();
      const again = await ask("GET", "/v1/buckets/vault/events", { authorization: `Bearer ${token}` });
      expect(again.status).toBe(401);
      await again.text();
    },
  );

  test("too many wrong tokens are refused for a while", async () => {
    const one = await serve({ store: new Store(engine), port: 0, auth: tokens });
    const url = `${one.url.replace("ws:", "http:")}${KEY}`;
    const statuses: number[] = [];
    for (let tries = 0; tries < 12; tries++) {
      const response = await fetch(url, { headers: { authorization: `Bearer wrong${tries}` } });
      statuses.push(response.status);
      await response.text();
    }
    expect(statuses.slice(0, 10)).toEqual(Array.from({ length: 10 }, () => 401));
    expect(statuses.at(-1)).toBe(429);
    const right = await fetch(url, { headers: as("reader") });
    expect([right.status, right.headers.get("retry-after")]).toEqual([429, "60"]);
    await right.text();
    await one.close();
  });
});
