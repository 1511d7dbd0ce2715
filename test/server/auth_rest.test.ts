/**
 * Ways around authentication over HTTP, each of which must fail closed, on each transport of this runtime.
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
import { heard, statusOf } from "./fixtures/intruder.ts";

const TRANSPORTS: readonly Server["transport"][] = "Bun" in globalThis
  ? ["bun"]
  : "Deno" in globalThis
  ? ["deno"]
  : ["uws", "ws"];

const SECRET = "TOP-SECRET";
const KEY = bytesOf("gold");
const ONCE = bytesOf("note");

const SCOPES: Readonly<Record<string, readonly Scope[]>> = {
  READER: [{ buckets: "vault", rights: ["read"] }],
  WRITER: [{ buckets: "vault", rights: ["write"] }],
  STRANGER: [{ buckets: "open*", rights: ["read", "write", "subscribe"] }],
};

const BATCH = JSON.stringify({
  operations: [{ type: "delete", bucket: "open", key: "x" }, { type: "delete", bucket: "vault", key: "gold" }],
});

/** Method and path, a body, and who may not. */
const REQUESTS: readonly [request: string, body: string, refused: readonly string[]][] = [
  ["GET /v1/buckets/vault/keys/gold", "", ["WRITER", "STRANGER"]],
  ["HEAD /v1/buckets/vault/keys/gold", "", ["WRITER", "STRANGER"]],
  ["PUT /v1/buckets/vault/keys/gold", '"x"', ["READER", "STRANGER"]],
  ["DELETE /v1/buckets/vault/keys/gold", "", ["READER", "STRANGER"]],
  ["POST /v1/buckets/vault/keys/gold/take", "", ["READER", "WRITER", "STRANGER"]],
  ["POST /v1/buckets/vault/keys/note/take", "", ["READER", "WRITER", "STRANGER"]],
  ["POST /v1/buckets/vault/keys/n/increment", "", ["READER", "WRITER", "STRANGER"]],
  ["POST /v1/buckets/vault/keys/gold/touch", '{"ttl":"1ms"}', ["READER", "STRANGER"]],
  ["GET /v1/buckets/vault/keys", "", ["WRITER", "STRANGER"]],
  ["POST /v1/buckets/vault/get", '{"keys":["gold","note"]}', ["READER", "WRITER", "STRANGER"]],
  ["POST /v1/batch", BATCH, ["READER", "STRANGER"]],
  ["GET /v1/buckets/vault/events?snapshot=1", "", ["READER", "WRITER", "STRANGER"]],
  ["GET /v1/events", "", ["READER", "WRITER", "STRANGER"]],
  ["GET /metrics", "", ["READER", "WRITER", "STRANGER"]],
  ["GET /v1/unstorage/vault/gold", "", ["WRITER", "STRANGER"]],
  ["PUT /v1/unstorage/vault/gold", '"x"', ["READER", "STRANGER"]],
  ["DELETE /v1/unstorage/vault/gold", "", ["READER", "STRANGER"]],
  ["DELETE /v1/unstorage/vault/:", "", ["READER", "STRANGER"]],
  ["GET /v1/openapi.json", "", []],
  ["POST /v1/tickets", "", []],
];

for (const transport of TRANSPORTS) {
  describe(`Authentication of REST over ${transport}`, () => {
    const tokens = new Tokens();
    const secrets = new Map<string, string>();
    let engine: EmbeddedEngine;
    let server: Server;

    beforeAll(async () => {
      for (const [name, scopes] of Object.entries(SCOPES)) {
        secrets.set(name, (await tokens.create({ name, scopes })).token);
      }
      const expiresAt = Date.now();
      secrets.set("EXPIRED", (await tokens.create({ name: "expired", scopes: SCOPES["READER"]!, expiresAt })).token);
      engine = await openMemoryEngine();
      await engine.set("vault", KEY, bytesOf(SECRET), { content: CONTENT.text });
      await engine.set("vault", ONCE, bytesOf(SECRET), { content: CONTENT.text, once: true });
      const limits = { authFailuresPerMinuteMax: 1_000_000 };
      server = await serve({ store: new Store(engine), port: 0, transport, auth: tokens, limits });
    });

    afterAll(async () => {
      await server.close();
      await engine.close();
    });

    afterEach(() => {
      expect(textOf(engine.getSync("vault", KEY)?.value)).toBe(SECRET);
      expect(engine.getSync("vault", KEY)?.expiresAt).toBeUndefined();
      expect(engine.getSync("vault", ONCE)?.once).toBe(true);
    });

    function ask(request: string, body: string, headers: readonly string[], query = ""): Promise<number> {
      const target = query === "" ? request : request.includes("?") ? `${request}&${query}` : `${request}?${query}`;
      const lines = [
        `${target} HTTP/1.1`,
        `Host: 127.0.0.1:${server.port}`,
        "Content-Type: application/json",
        `Content-Length: ${body.length}`,
        ...headers,
      ];
      return statusOf(server.port, `${lines.join("\r\n")}\r\n\r\n${body}`);
    }

    for (const [request, body, refused] of REQUESTS) {
      test(`answers ${request} for nobody without credentials, and for nobody with wrong ones`, async () => {
        const reader = secrets.get("READER")!;
        expect(await ask(request, body, [])).toBe(401);
        const wrong = ["", "Bearer", "Bearer ", "Bearer wrong", `Bearer ${reader}x`, `Bearer ${reader.slice(0, -1)}`];
        wrong.push(reader, `Basic ${btoa(`${reader}:`)}`, `Bearer ${reader}, Bearer ${reader}`, `Bearer  ${reader}`);
        wrong.push(`Bearer ${secrets.get("EXPIRED")}`);
        for (const value of wrong) {
          expect([value, await ask(request, body, [`Authorization: ${value}`])]).toEqual([value, 401]);
        }
        expect(await ask(request, body, [`Cookie: token=${reader}`, `X-Api-Key: ${reader}`])).toBe(401);
        for (const query of [`token=${reader}`, `access_token=${reader}`]) {
          expect([400, 401]).toContain(await ask(request, body, [], query));
        }
      });

      for (const name of refused) {
        test(`answers ${request} not for ${name.toLowerCase()}`, async () => {
          const headers = [
            `Authorization: Bearer ${secrets.get(name)}`,
            'If-Match: "1"',
            "X-HTTP-Method-Override: GET",
          ];
          expect(await ask(request, body, headers)).toBe(403);
          expect(await ask(request, body, headers.slice(0, 1))).toBe(403);
        });
      }
    }

    test("has told nobody a token or a value", () => {
      const told = heard.join("\n");
      expect(heard.length).toBeGreaterThan(200);
      expect(told).not.toContain(SECRET);
      for (const token of secrets.values()) expect(told).not.toContain(token.slice(20));
    });
  });
}
