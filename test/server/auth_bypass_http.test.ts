/**
 * Ways around authentication on plain requests: REST, event streams, metrics. Each must fail closed, over real sockets
 * on each transport of this runtime.
 *
 * Whatever is tried, what is in the vault must still be there afterwards, and neither it nor a token may be in an
 * answer to who may not know.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { bytesOf } from "../suites/engine_subject.ts";
import { talk } from "./fixtures/echo_client.ts";
import { type Name, openVault, SECRET, TRANSPORTS, type Vault } from "./fixtures/vault.ts";
import { EventReader, talk as talkOnce } from "./http_client.ts";

const JSON_HEADER = "Content-Type: application/json";
const GOLD = "/v1/buckets/vault/keys/gold";
const NOTE = "/v1/buckets/vault/keys/note";
const CHECK = { type: "check", bucket: "vault", key: "gold", revision: 1 };
const REMOVE = { type: "delete", bucket: "vault", key: "gold" };
const WRITE = { type: "set", bucket: "vault", key: "gold", value: 1 };

/** Method and target, further headers, body. */
type Ask = readonly [line: string, headers?: readonly string[], body?: unknown];

/** One of each that there is, and some that there are not. */
const REQUESTS: readonly Ask[] = [
  [`GET ${GOLD}`],
  [`HEAD ${GOLD}`],
  [`PUT ${GOLD}`, [JSON_HEADER], 1],
  [`DELETE ${GOLD}`],
  [`POST ${GOLD}/take`, [JSON_HEADER], {}],
  [`POST ${NOTE}/take`, [JSON_HEADER], {}],
  [`POST ${GOLD}/touch`, [JSON_HEADER], { ttl: 1 }],
  [`POST ${GOLD}/increment`, [JSON_HEADER], {}],
  [`PATCH ${GOLD}`],
  ["GET /v1/buckets/vault/keys"],
  ["POST /v1/buckets/vault/get", [JSON_HEADER], { keys: ["gold", "note"] }],
  ["POST /v1/batch", [JSON_HEADER], { operations: [REMOVE] }],
  ["GET /v1/buckets/vault/events?snapshot=1"],
  ["HEAD /v1/events"],
  ["GET /v1/events?snapshot=1"],
  ["GET /v1/unstorage/vault/gold"],
  ["GET /v1/unstorage/vault/:"],
  ["PUT /v1/unstorage/vault/gold", [JSON_HEADER], 1],
  ["DELETE /v1/unstorage/vault/:"],
  ["GET /v1/openapi.json"],
  ["POST /v1/tickets"],
  ["GET /v1/nothing"],
  ["GET /metrics"],
];

for (const transport of TRANSPORTS) {
  describe(`Authentication of plain requests over ${transport}`, () => {
    let vault: Vault;
    let port: number;
    let secrets: Vault["secrets"];
    /** Whatever was said to who may not know. */
    const heard: string[] = [];

    beforeAll(async () => {
      vault = await openVault(transport);
      ({ secrets, server: { port } } = vault);
    });
    afterAll(() => vault.close());
    afterEach(() => vault.check());

    /** The answer to a request, byte for byte. */
    function answerTo([line, headers = [], body]: Ask): Promise<string> {
      const text = body === undefined ? "" : JSON.stringify(body);
      const hasBody = line.startsWith("P");
      const lines = [
        `${line} HTTP/1.1`,
        `Host: 127.0.0.1:${port}`,
        ...hasBody ? [`Content-Length: ${text.length}`] : [],
        ...headers,
      ];
      return talkOnce(port, `${lines.join("\r\n")}\r\n\r\n${text}`).catch(() => "");
    }

    /** The status of the answer to who may not know. */
    async function refusalOf(ask: Ask): Promise<number> {
      const answer = await answerTo(ask);
      heard.push(answer);
      return statusOf(answer);
    }

    function named(name: Name, [line, headers = [], body]: Ask): Ask {
      return [line, [...headers, `Authorization: Bearer ${secrets[name]}`], body];
    }

    /** The refusal of an ask of one who is known, with its code. */
    async function codeOf(name: Name, ask: Ask): Promise<string> {
      const answer = await answerTo(named(name, ask));
      heard.push(answer);
      return `${statusOf(answer)} ${/"code":"(\w+)"/.exec(answer)?.[1] ?? ""}`.trim();
    }

    // --- who gets in, so that a refusal means something ---

    test("lets the right token in, and each right do what it is for", async () => {
      const allowed: [Name, Ask][] = [
        ["reader", [`GET ${GOLD}`]],
        ["reader", [`HEAD ${NOTE}`]],
        ["reader", ["GET /v1/buckets/vault/keys"]],
        ["reader", ["POST /v1/buckets/vault/get", [JSON_HEADER], { keys: ["gold"] }]],
        ["reader", ["POST /v1/batch", [JSON_HEADER], { operations: [CHECK] }]],
        ["reader", ["GET /v1/unstorage/vault/:"]],
        ["reader", ["GET /v1/openapi.json"]],
        ["writer", ["PUT /v1/buckets/vault/keys/other", [JSON_HEADER], 1]],
        ["writer", ["DELETE /v1/buckets/vault/keys/other"]],
        ["taker", ["POST /v1/buckets/vault/keys/n/increment", [JSON_HEADER], {}]],
        ["taker", ["POST /v1/buckets/vault/keys/n/take", [JSON_HEADER], {}]],
        ["stranger", ["PUT /v1/buckets/open/keys/a", [JSON_HEADER], 1]],
        ["admin", ["GET /metrics"]],
      ];
      for (const [name, ask] of allowed) {
        const status = statusOf(await answerTo(named(name, ask)));
        expect([name, ask[0], Math.floor(status / 100)]).toEqual([name, ask[0], 2]);
      }
      expect(await answerTo(named("reader", [`GET ${GOLD}`]))).toContain(SECRET);
    });

    test("says in its description that it wants a token", async () => {
      const answer = await answerTo(named("reader", ["GET /v1/openapi.json"]));
      expect(answer).toContain('"securitySchemes":{"token":{"type":"http","scheme":"bearer"}}');
      expect(answer).toContain('"security":[{"token":[]}]');
    });

    test("tells everybody that it lives and is ready, and gives the dashboard's page", async () => {
      expect(await answerTo(["GET /livez"])).toMatch(/\r\n\r\nok$/);
      expect(await answerTo(["GET /readyz"])).toMatch(/\r\n\r\nok$/);
      expect(statusOf(await answerTo(["GET /"]))).toBe(200);
    });

    // --- credentials ---

    const credentials: [string, (reader: string) => string[]][] = [
      ["nothing", () => []],
      ["an empty Authorization", () => ["Authorization: "]],
      ["Bearer alone", () => ["Authorization: Bearer"]],
      ["a wrong token", (token) => [`Authorization: Bearer ${token.slice(0, 20)}${"A".repeat(43)}`]],
      ["the beginning of a token", (token) => [`Authorization: Bearer ${token.slice(0, -1)}`]],
      ["two tokens in one", (token) => [`Authorization: Bearer ${token},${token}`]],
      ["a token without Bearer", (token) => [`Authorization: ${token}`]],
      ["Basic", (token) => [`Authorization: Basic ${btoa(`${token}:`)}`]],
      ["an expired token", () => [`Authorization: Bearer ${secrets.expired}`]],
      ["a revoked token", () => [`Authorization: Bearer ${secrets.revoked}`]],
      ["a token in a cookie", (token) => [`Cookie: token=${token}; authorization=Bearer ${token}`]],
      ["a token as subprotocol", (token) => [`Sec-WebSocket-Protocol: firkin.bearer.${token}`]],
      ["headers that say who it is", (token) => [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-User: admin",
        `X-Authorization: Bearer ${token}`,
        `Proxy-Authorization: Bearer ${token}`,
        `X-Api-Key: ${token}`,
      ]],
    ];
    for (const [what, headersOf] of credentials) {
      test(`refuses ${what}, whatever is asked`, async () => {
        for (const [line, headers = [], body] of REQUESTS) {
          const answer = await answerTo([line, [...headers, ...headersOf(secrets.admin)], body]);
          heard.push(answer);
          expect([line, statusOf(answer)]).toEqual([line, 401]);
          expect(answer.toLowerCase()).toContain("www-authenticate: bearer\r\n");
          if (!line.startsWith("HEAD")) expect(answer).toContain('"code":"UNAUTHORIZED"');
        }
      });
    }

    test("refuses a token in the URL, and two in the head", async () => {
      const { admin, reader } = secrets;
      for (const name of ["token", "access_token", "auth", "bearer", "ticket", "authorization"]) {
        expect([name, await refusalOf([`GET ${GOLD}?${name}=${admin}`])]).toEqual([name, 401]);
      }
      const both = [`Authorization: Bearer ${reader}`, `Authorization: Bearer ${admin}`];
      expect([400, 401]).toContain(await refusalOf([`GET ${GOLD}`, both]));
      expect(await refusalOf([`GET http://${admin}@127.0.0.1${GOLD}`])).toBeGreaterThanOrEqual(400);
    });

    test("takes no ticket, which is for a WebSocket", async () => {
      const answer = await answerTo(named("reader", ["POST /v1/tickets"]));
      const { ticket } = JSON.parse(answer.split("\r\n\r\n")[1]!) as { ticket: string };
      expect(await refusalOf([`GET ${GOLD}?ticket=${ticket}`])).toBe(401);
      expect(await refusalOf([`GET ${GOLD}`, [`Authorization: Bearer ${ticket}`]])).toBe(401);
    });

    test("takes the token of one request for no other's on the same connection", async () => {
      const head = `GET ${GOLD} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n`;
      let asked = false;
      const first = `${head}Authorization: Bearer ${secrets.reader}\r\n\r\n`;
      const answers = await talk(port, first, (answer, write) => {
        if (!asked && answer.endsWith(SECRET)) write(`${head}\r\n`);
        asked ||= answer.endsWith(SECRET);
        return answer.includes("UNAUTHORIZED");
      });
      expect([...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(["200", "401"]);
      expect(answers.split(SECRET).length).toBe(2);
    });

    test("tells who is not let in nothing of what there is", async () => {
      for (const headers of [[], [`Authorization: Bearer ${secrets.stranger}`]]) {
        const answers = ["gold", "note", "nothing"].map(async (key) => {
          const answer = await answerTo([`GET /v1/buckets/vault/keys/${key}`, headers]);
          return answer.replace(/^date:.*\r\n/im, "");
        });
        expect(new Set(await Promise.all(answers)).size).toBe(1);
      }
      const asked = ["gold", "nothing"].map(async (key) => {
        const answer = await answerTo([`OPTIONS /v1/buckets/vault/keys/${key}`]);
        return answer.replace(/^date:.*\r\n/im, "");
      });
      expect(new Set(await Promise.all(asked)).size).toBe(1);
    });

    // --- rights ---

    const forbidden: readonly [Name, Ask][] = [
      ["reader", [`PUT ${GOLD}`, [JSON_HEADER], 1]],
      ["reader", [`PUT ${GOLD}`, [JSON_HEADER, 'If-Match: "1"'], 1]],
      ["reader", [`DELETE ${GOLD}`]],
      ["reader", [`POST ${GOLD}/take`, [JSON_HEADER], {}]],
      ["reader", [`POST ${NOTE}/take`, [JSON_HEADER], {}]],
      ["reader", [`POST ${GOLD}/touch`, [JSON_HEADER], { ttl: 1 }]],
      ["reader", [`POST ${GOLD}/increment`, [JSON_HEADER], {}]],
      ["reader", ["POST /v1/buckets/vault/get", [JSON_HEADER], { keys: ["gold", "note"] }]],
      ["reader", ["POST /v1/batch", [JSON_HEADER], { operations: [CHECK, CHECK, REMOVE] }]],
      ["reader", ["POST /v1/batch", [JSON_HEADER], { operations: [CHECK, WRITE, CHECK] }]],
      ["reader", ["POST /v1/batch", [JSON_HEADER], { operations: [{ ...CHECK, revision: 9 }, WRITE] }]],
      ["reader", ["PUT /v1/unstorage/vault/gold", [JSON_HEADER], 1]],
      ["reader", ["DELETE /v1/unstorage/vault/gold"]],
      ["reader", ["DELETE /v1/unstorage/vault/:"]],
      ["reader", ["GET /v1/buckets/vault/events?snapshot=1"]],
      ["writer", [`GET ${GOLD}`]],
      ["writer", ["GET /v1/buckets/vault/keys/nothing"]],
      ["writer", ["GET /v1/buckets/vault/keys"]],
      ["writer", ["POST /v1/buckets/vault/get", [JSON_HEADER], { keys: ["gold"] }]],
      ["writer", [`PUT ${GOLD}`, [JSON_HEADER, "If-None-Match: *"], 1]],
      ["writer", [`PUT ${GOLD}`, [JSON_HEADER, 'If-Match: "999"'], 1]],
      ["writer", [`DELETE ${GOLD}`, ['If-Match: "999"']]],
      ["writer", [`POST ${GOLD}/take`, [JSON_HEADER], {}]],
      ["writer", ["POST /v1/batch", [JSON_HEADER], { operations: [REMOVE, CHECK] }]],
      ["writer", ["GET /v1/unstorage/vault/gold"]],
      ["writer", ["DELETE /v1/unstorage/vault/:"]],
      ["stranger", [`GET ${GOLD}`]],
      ["stranger", [`PUT ${GOLD}`, [JSON_HEADER], 1]],
      ["stranger", ["GET /v1/buckets/vault/keys"]],
      ["stranger", ["POST /v1/batch", [JSON_HEADER], { operations: [{ ...WRITE, bucket: "open" }, REMOVE] }]],
      ["stranger", ["GET /v1/buckets/vault/events?snapshot=1"]],
      ["stranger", ["GET /v1/buckets/vault/events?prefix=gold"]],
      ["stranger", ["GET /v1/buckets/vault/events?key=gold&types=set&snapshot=1"]],
      ["stranger", ["GET /v1/events?snapshot=1"]],
      ["stranger", ["GET /v1/events", ["Last-Event-ID: x.0"]]],
      ["watcher", ["GET /v1/buckets/vault/events"]],
      ["watcher", ["GET /v1/events"]],
      ["watcher", ["GET /v1/buckets/open/events"]],
      ["watcher", ["GET /v1/buckets/open-/keys/a"]],
      ["taker", ["GET /v1/buckets/vault/events"]],
      ["taker", ["GET /metrics"]],
      ["stranger", ["GET /metrics"]],
    ];
    for (const [name, ask] of forbidden) {
      const [line, headers = [], body = ""] = ask;
      test(`refuses ${name} ${line} ${headers.at(-1) ?? ""} ${JSON.stringify(body).slice(0, 60)}`, async () => {
        const revision = (await vault.engine.stats())["revision"];
        expect(await codeOf(name, ask)).toBe("403 FORBIDDEN");
        expect((await vault.engine.stats())["revision"]).toBe(revision!);
      });
    }

    test("refuses a batch whose bucket is said in a way that two may read as two", async () => {
      const operation = '{"type":"delete","bucket":"open","bucket":"vault","key":"gold"}';
      for (const body of [`{"operations":[${operation}]}`, '{"operations":[],"operations":[' + operation + "]}"]) {
        const answer = await talkOnce(
          port,
          `POST /v1/batch HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${secrets.stranger}\r\n` +
            `${JSON_HEADER}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        );
        expect(statusOf(answer)).toBe(403);
      }
      for (const bucket of [["vault"], { toString: "vault" }, null, "open/../vault", "vault\0", "__proto__", "*"]) {
        const status = await codeOf("stranger", ["POST /v1/batch", [JSON_HEADER], {
          operations: [{ ...REMOVE, bucket }],
        }]);
        expect([bucket, status]).toEqual([bucket, expect.stringMatching(/^4(00|03) (INVALID|FORBIDDEN)$/)]);
      }
    });

    test("shows a watcher the buckets that it may see, and no others", async () => {
      const url = `http://127.0.0.1:${port}/v1/buckets/open-door/events`;
      const reader = await EventReader.open(url, undefined, secrets.watcher);
      await reader.next();
      await vault.engine.set("vault", bytesOf("other"), bytesOf("1"), { content: 1 });
      await vault.engine.set("open-door", bytesOf("seen"), bytesOf("1"), { content: 1 });
      expect((await reader.next()).data).toMatchObject({ bucket: "open-door", key: "seen" });
      reader.close();
    });

    // --- paths ---

    const paths = [
      "/v1/buckets/open/../vault/keys/gold",
      "/v1/buckets/open/%2e%2e/vault/keys/gold",
      "/v1/buckets/open/%2E./vault/keys/gold",
      "/v1/buckets/open/keys/../../vault/keys/gold",
      "/v1/buckets/open/keys/%2e%2e/%2e%2e/vault/keys/gold",
      "/v1/buckets/open/keys/..%2F..%2Fvault%2Fkeys%2Fgold",
      "/v1/buckets/open/keys/%252e%252e/%252e%252e/vault/keys/gold",
      "/v1/buckets/open/keys/..\\..\\vault\\keys\\gold",
      "/v1/buckets/open/./../vault/keys/gold",
      "/v1/buckets/open%2F..%2Fvault/keys/gold",
      "/v1/buckets/open%2f%2e%2e%2fvault/keys/gold",
      "/v1/buckets/open;/../vault/keys/gold",
      "/v1/buckets/open%00/../vault/keys/gold",
      "/v1/buckets/%76ault/keys/gold",
      "/v1/buckets/vault%00/keys/gold",
      "/v1/buckets/vault;a=b/keys/gold",
      "/v1/buckets/VAULT/keys/gold",
      "/v1/buckets//vault/keys/gold",
      "/v1//buckets/vault/keys/gold",
      "//v1/buckets/vault/keys/gold",
      "/./v1/buckets/vault/keys/gold",
      "/V1/buckets/vault/keys/gold",
      "/v1%2Fbuckets%2Fvault%2Fkeys%2Fgold",
      "/%76%31/buckets/vault/keys/gold",
      "/v1/buckets/vault/keys%2Fgold",
      "/v1/buckets/open/keys/gold?bucket=vault",
      "/v1/buckets/open/keys?prefix=../vault/",
      "/v1/buckets/open*/keys/gold",
      "/v1/buckets/*/keys/gold",
      "/v1/unstorage/open/../vault/gold",
      "/v1/unstorage/open/%2e%2e/vault/gold",
      "/v1/unstorage/open/..:vault:gold",
      "/v1/unstorage/open/%252e%252e%252fvault%252fgold",
      "/livez/../v1/buckets/vault/keys/gold",
      "/livez/%2e%2e/v1/buckets/vault/keys/gold",
      "/livez%2F..%2Fv1/buckets/vault/keys/gold",
      "/readyz/..;/metrics",
      "/livez/../metrics",
      "/metrics/",
      "/metrics%2F",
      "/%6detrics",
      "//metrics",
      "/METRICS",
      "/metrics;a",
      "/metrics%00",
    ];
    for (const path of paths) {
      test(`leads by ${path} to nothing that is closed`, async () => {
        for (const method of ["GET", "DELETE"]) {
          for (const headers of [[], [`Authorization: Bearer ${secrets.stranger}`]]) {
            const answer = await answerTo([`${method} ${path}`, headers]);
            heard.push(answer);
            expect(answer).not.toContain("firkin_");
            // A key of the open bucket, which was not there and is not, is nobody's secret.
            const harmless = method === "DELETE" || path.includes("?prefix") ? [2, 4] : [4];
            expect(headers.length > 0 ? harmless : [4]).toContain(Math.floor(statusOf(answer) / 100));
          }
        }
      });
    }

    test("is not led elsewhere by headers that some servers obey", async () => {
      const elsewhere = [`X-Original-URL: ${GOLD}`, `X-Rewrite-URL: ${GOLD}`, `X-Forwarded-Prefix: ${GOLD}`];
      expect(await answerTo(["GET /livez", elsewhere])).toMatch(/\r\n\r\nok$/);
      expect(await codeOf("stranger", ["GET /v1/buckets/open/keys/none", elsewhere])).toBe("404 NOT_FOUND");
    });

    // --- methods ---

    test("takes no header's or parameter's word for the method", async () => {
      for (const name of ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "Method"]) {
        for (const method of ["DELETE", "PUT"]) {
          const header = `${name}: ${method}`;
          expect(statusOf(await answerTo(named("taker", [`GET ${GOLD}`, [header]])))).toBe(200);
          const posted = named("taker", [`POST ${GOLD}`, [header, JSON_HEADER], { _method: method, method }]);
          expect(await refusalOf(posted)).toBe(405);
          expect(await refusalOf(named("taker", [`GET ${GOLD}?_method=${method}`]))).toBe(400);
        }
      }
      // What GET may not say, another method may not say in its place.
      const read = ["X-HTTP-Method-Override: GET"];
      expect(await codeOf("writer", [`POST ${GOLD}`, [...read, JSON_HEADER], {}])).toBe("405 METHOD_NOT_ALLOWED");
      for (const method of ["TRACE", "CONNECT", "BREW", "get", "PROPFIND"]) {
        expect(await refusalOf(named("reader", [`${method} ${GOLD}`]))).not.toBe(200);
      }
    });

    // --- pages of other sites ---

    test("refuses the right token from a page of another site, and to a host that is not its own", async () => {
      for (const origin of ["null", "https://evil.example", `http://127.0.0.1:${port}.evil.example`]) {
        expect(await codeOf("admin", [`GET ${GOLD}`, [`Origin: ${origin}`]])).toBe("403 FORBIDDEN");
        expect(await codeOf("admin", [`DELETE ${GOLD}`, [`Origin: ${origin}`]])).toBe("403 FORBIDDEN");
        expect(await codeOf("admin", ["GET /metrics", [`Origin: ${origin}`]])).toBe("403 FORBIDDEN");
      }
      for (const host of ["evil.example", "127.0.0.1.evil.example", "localhost."]) {
        const request = `GET ${GOLD} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${secrets.admin}\r\n\r\n`;
        expect([400, 403]).toContain(statusOf(await talkOnce(port, request)));
      }
      expect(await codeOf("admin", [`GET ${GOLD}`, ["Sec-Fetch-Site: cross-site"]])).toBe("403 FORBIDDEN");
    });

    // --- nothing leaks ---

    test("has told nobody a token or a value who may not know, nor its operator", async () => {
      const told = JSON.stringify([heard, vault.events, await answerTo(named("admin", ["GET /metrics"]))]);
      expect(heard.length).toBeGreaterThan(400);
      expect(told).not.toContain(SECRET);
      for (const token of Object.values(secrets)) expect(told).not.toContain(token.slice(20));
      expect(vault.events).toEqual([]);
      expect(told).toMatch(/firkin_auth_failures_total [1-9]\d\d/);
    });
  });
}

/** The status of an answer; 0 when there was none. */
function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
}
