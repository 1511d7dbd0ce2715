/**
 * Ways around authentication on WebSockets, each of which must fail closed, over real sockets on each transport of this
 * runtime. Those on plain requests are in `auth_bypass_http.test.ts`.
 *
 * Whatever is tried, what is in the vault must still be there afterwards, and neither it nor a token may be in anything
 * that anybody was told.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { CONTENT } from "../../lib/base/codec.ts";
import { isBucketName } from "../../lib/engine/engine.ts";
import { OP, SUBPROTOCOL } from "../../lib/wire/protocol.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { type Attempt, heard, hello, outcomeOf, statusOf } from "./fixtures/intruder.ts";
import { KEY, type Name, ONCE, openVault, SCOPES, SECRET, TRANSPORTS, type Vault } from "./fixtures/vault.ts";
import { type Item, message } from "./peer.ts";

const GET: Item[] = [OP.get, 2, "vault", KEY];
const SET: Item[] = [OP.set, 2, "vault", KEY, CONTENT.text, bytesOf("x"), null, null, null, false];

for (const transport of TRANSPORTS) {
  describe(`Authentication over ${transport}`, () => {
    let vault: Vault;
    let server: Vault["server"];
    let secrets: Vault["secrets"];

    beforeAll(async () => {
      vault = await openVault(transport);
      ({ server, secrets } = vault);
    });
    afterAll(() => vault.close());
    afterEach(() => vault.check());

    function attempt(what: Attempt): Promise<string> {
      return outcomeOf(server.port, what);
    }

    function bearer(token: string): string[] {
      return [SUBPROTOCOL, `firkin.bearer.${token}`];
    }

    // --- who gets in, so that a refusal means something ---

    test("lets the right token in, in each of the ways there are", async () => {
      const { reader } = secrets;
      expect(await attempt({ messages: [[hello(reader), [OP.has, 2, "vault", KEY]]] })).toBe("let in");
      const asks = [[hello(null), [OP.has, 2, "vault", KEY]]];
      expect(await attempt({ protocols: bearer(reader), messages: asks })).toBe("let in");
      expect(await attempt({ headers: [`Authorization: Bearer ${reader}`], messages: asks })).toBe("let in");
      const path = `/?ticket=${await ticket()}`;
      expect(await attempt({ path, messages: asks })).toBe("let in");
      expect(heard.some((text) => text.includes(`sec-websocket-protocol: ${SUBPROTOCOL}`))).toBe(true);
      const bytes = message(hello(reader));
      expect(await attempt({ raw: fragments(bytes, 5), messages: [[[OP.has, 2, "vault", KEY]]] })).toBe("let in");
    });

    // --- tokens ---

    const wrongTokens: [string, (reader: string) => Item][] = [
      ["no token", () => null],
      ["an empty token", () => ""],
      ["a space", () => " "],
      ["a wrong token", (token) => token.slice(0, 20) + "A".repeat(43)],
      ["the beginning of the right one", (token) => token.slice(0, -1)],
      ["the right one and a letter", (token) => `${token}A`],
      ["the right one without its first part", (token) => token.slice("firkin_".length)],
      ["its secret alone", (token) => token.slice(20)],
      ["its id alone", (token) => token.slice(0, 19)],
      ["the right one after a space", (token) => ` ${token}`],
      ["the right one before a space", (token) => `${token} `],
      ["the right one and a line feed", (token) => `${token}\n`],
      ["the right one and NUL", (token) => `${token}\0`],
      ["NUL and the right one", (token) => `\0${token}`],
      ["the right one in upper case", (token) => token.toUpperCase()],
      ["the right one with Bearer", (token) => `Bearer ${token}`],
      ["the right one twice", (token) => `${token},${token}`],
      ["the right one with another's secret", (token) => token.slice(0, 20) + secrets.admin.slice(20)],
      ["another's id with its secret", (token) => secrets.admin.slice(0, 20) + token.slice(20)],
      ["its digest", () => (JSON.parse(readFileSync(vault.tokensPath, "utf8")).tokens[1].hash as string)],
      ["its name", () => "reader"],
      ["__proto__", () => "__proto__"],
      ["an expired one", () => secrets.expired],
      ["a revoked one", () => secrets.revoked],
    ];
    for (const [what, tokenOf] of wrongTokens) {
      test(`refuses ${what} in hello`, async () => {
        expect(await attempt({ messages: [[hello(tokenOf(secrets.reader)), GET]] })).toBe("close 4401");
      });
    }

    const malformed: [string, (reader: string) => Uint8Array][] = [
      ["a number", () => message(hello(1), GET)],
      ["a boolean", () => message(hello(true), GET)],
      ["bytes", (token) => message(hello(bytesOf(token)), GET)],
      ["an array", (token) => message(hello([token]), GET)],
      ["one argument too many", (token) => message([...hello(token), null], GET)],
      ["another version", (token) => message([OP.hello, 1, 2, token], GET)],
      ["the id 0", (token) => message([OP.hello, 0, 1, token], GET)],
      ["an operation that is text", (token) => message(["hello", 1, 1, token], GET)],
      ["an operation that is an array", (token) => message([[OP.hello], 1, 1, token], GET)],
      ["an operation that is an object", () => Uint8Array.of(0x84, 0xa0, 1, 1, 0xf6)],
      ["a text of invalid UTF-8", () => Uint8Array.of(0x84, 0, 1, 1, 0x61, 0xff)],
      ["a length beyond the message", () => Uint8Array.of(0x84, 0, 1, 1, 0x7b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)],
    ];
    for (const [what, bytesFor] of malformed) {
      test(`refuses hello with ${what}`, async () => {
        expect(await attempt({ messages: [bytesFor(secrets.reader)] })).toBe("close 1002");
      });
    }

    // --- before hello ---

    const early: [string, string, (reader: string) => Attempt][] = [
      ["a request before hello", "close 1002", (token) => ({ messages: [[GET, hello(token)]] })],
      ["auth in place of hello", "close 1002", (token) => ({ messages: [[[OP.auth, 1, token], GET]] })],
      ["a request after a wrong hello", "close 4401", () => ({ messages: [[hello("wrong"), GET], [GET]] })],
      [
        "the right hello after a wrong one",
        "close 4401",
        (token) => ({ messages: [[hello("wrong"), hello(token), GET]] }),
      ],
      [
        "a request together with the handshake",
        "close 1002",
        () => ({ raw: masked(0x82, message(GET)), messages: [] }),
      ],
      ["a first message over 4 KiB", "close 1002", (token) => ({
        messages: [[hello(token), [OP.get, 2, "vault", new Uint8Array(5_000)]]],
      })],
      [
        "a wrong hello in pieces",
        "close 4401",
        () => ({ raw: fragments(message(hello("wrong")), 3), messages: [[GET]] }),
      ],
      ["a compressed frame", "close", () => ({ raw: masked(0xc2, message(GET)), messages: [] })],
      ["a frame without a mask", "close", () => ({ raw: unmasked(message(GET)), messages: [] })],
      ["silence", "close 4401", () => ({ messages: [] })],
      ["pings alone", "close 4401", () => ({ raw: masked(0x89, bytesOf("p")), messages: [] })],
    ];
    for (const [what, expected, attemptOf] of early) {
      test(`refuses ${what}`, async () => {
        const outcome = await attempt(attemptOf(secrets.reader));
        expect(outcome.startsWith(expected) ? expected : outcome).toBe(expected);
      });
    }

    test("refuses a text message before hello", async () => {
      const text = masked(0x81, bytesOf(`["hello","${secrets.reader}"]`));
      expect(await attempt({ raw: text, messages: [] })).toBe("close 1003");
    });

    // --- the handshake ---

    const handshakes: [string, string, (reader: string) => Attempt][] = [
      ["a wrong token as subprotocol", "http 401", () => ({ protocols: bearer("wrong") })],
      ["an empty token as subprotocol", "http 401", () => ({ protocols: bearer("") })],
      ["an expired token as subprotocol", "http 401", () => ({ protocols: bearer(secrets.expired) })],
      ["a token as subprotocol and nothing beside it", "http 400", (t) => ({ protocols: bearer(t).slice(1) })],
      ["the same token as subprotocol twice", "http 401", (t) => ({ protocols: [...bearer(t), `firkin.bearer.${t}`] })],
      ["two tokens as subprotocols", "http 401", (t) => ({ protocols: [...bearer("wrong"), `firkin.bearer.${t}`] })],
      ["a token in a second header", "http 401", (t) => ({
        protocols: bearer("wrong"),
        headers: [`Sec-WebSocket-Protocol: firkin.bearer.${t}`],
      })],
      ["a token that brings a subprotocol with it", "http 401", (t) => ({ protocols: bearer(`x,firkin.bearer.${t}`) })],
      ["subprotocols of more than 4 KiB", "http 4", (t) => ({ protocols: [...bearer(t), "x".repeat(8_000)] })],
      ["a bearer in other letters", "close 4401", (t) => ({ protocols: [SUBPROTOCOL, `Firkin.Bearer.${t}`] })],
      ["a token in the URL", "http 400", (t) => ({ path: `/?token=${t}` })],
      ["an access token in the URL", "http 400", (t) => ({ path: `/?access_token=${t}` })],
      ["a token as ticket", "http 401", (t) => ({ path: `/?ticket=${t}` })],
      ["an empty ticket", "http 401", () => ({ path: "/?ticket=" })],
      ["a token as path", "close 4401", (t) => ({ path: `/${t}` })],
      ["a wrong Authorization", "http 401", () => ({ headers: ["Authorization: Bearer wrong"] })],
      ["an empty Authorization", "http 401", () => ({ headers: ["Authorization: "] })],
      ["Bearer without a token", "http 401", () => ({ headers: ["Authorization: Bearer"] })],
      ["a token without Bearer", "http 401", (t) => ({ headers: [`Authorization: ${t}`] })],
      ["Basic", "http 401", (t) => ({ headers: [`Authorization: Basic ${btoa(`${t}:`)}`] })],
      ["two spaces after Bearer", "http 401", (t) => ({ headers: [`Authorization: Bearer  ${t}`] })],
      ["two Authorizations", "http 40", (t) => ({
        headers: [`Authorization: Bearer ${t}`, `Authorization: Bearer ${secrets.admin}`],
      })],
      ["a token in Authorization and another as subprotocol", "http 401", (t) => ({
        headers: [`Authorization: Bearer ${t}`],
        protocols: bearer(secrets.admin),
      })],
      ["a token in a cookie", "close 4401", (t) => ({ headers: [`Cookie: token=${t}; authorization=Bearer ${t}`] })],
      ["a token in other headers", "close 4401", (t) => ({
        headers: [`X-Authorization: Bearer ${t}`, `Proxy-Authorization: Bearer ${t}`, `X-Api-Key: ${t}`],
      })],
      ["headers that say who it is", "close 4401", () => ({
        headers: ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-User: admin", "X-Real-IP: 127.0.0.1"],
      })],
      ["a wrong hello after a right handshake", "close 4401", (t) => ({
        protocols: bearer(t),
        messages: [[hello("wrong"), GET]],
      })],
    ];
    for (const [what, expected, attemptOf] of handshakes) {
      test(`refuses ${what} in the handshake`, async () => {
        const outcome = await attempt({ messages: [[hello(null), GET]], ...attemptOf(secrets.reader) });
        expect(outcome.startsWith(expected) ? expected : outcome).toBe(expected);
      });
    }

    // --- pages of other sites ---

    const origins = [
      "null",
      "",
      "http://evil.example",
      "http://127.0.0.1:PORT.evil.example",
      "http://evil-127.0.0.1:PORT",
      "http://127.0.0.1",
      "http://127.0.0.1:1",
      "HTTP://127.0.0.1:PORT",
      "http://127.0.0.1:PORT/",
      "http://localhost:PORT",
      "http://127。0。0。1:PORT",
      "ws://127.0.0.1:PORT",
      "http://127.0.0.1:PORT, http://evil.example",
    ];
    for (const origin of origins) {
      test(`refuses the right token from a page of "${origin}"`, async () => {
        const headers = [`Origin: ${origin.replace("PORT", String(server.port))}`];
        const outcome = await attempt({ headers, messages: [[hello(secrets.reader), GET]] });
        expect(outcome).toMatch(/^http 40[03]$/);
        const asked = `POST /v1/tickets HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n${headers[0]}\r\n` +
          `Authorization: Bearer ${secrets.reader}\r\nContent-Length: 0\r\n\r\n`;
        expect([400, 403]).toContain(await statusOf(server.port, asked));
      });
    }

    for (
      const host of ["evil.example", "127.0.0.1.evil.example", "localhost.", "127.0.0.2", "evil.example@localhost"]
    ) {
      test(`answers no request to the host ${host}`, async () => {
        const status = await statusOf(
          server.port,
          `POST /v1/tickets HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${secrets.admin}\r\n` +
            "Content-Length: 0\r\n\r\n",
        );
        expect([400, 403]).toContain(status);
      });
    }

    // --- rights ---

    const forbidden: [string, Name, Item[]][] = [
      ["set", "reader", SET],
      ["set with a condition, which would read", "writer", [
        OP.set,
        2,
        "vault",
        KEY,
        CONTENT.text,
        bytesOf("x"),
        null,
        null,
        0,
        false,
      ]],
      ["setMany", "reader", [OP.setMany, 2, "vault", [[KEY, CONTENT.text, bytesOf("x"), null, null, false]]]],
      ["delete", "reader", [OP.delete, 2, "vault", KEY, null]],
      ["delete with a condition, which would read", "writer", [OP.delete, 2, "vault", KEY, 999]],
      ["an expiry", "reader", [OP.touch, 2, "vault", KEY, 1, null]],
      ["a value that lives on", "reader", [OP.touch, 2, "vault", KEY, null, null]],
      ["increment", "reader", [OP.increment, 2, "vault", bytesOf("n"), 1]],
      ["increment, which would read", "writer", [OP.increment, 2, "vault", bytesOf("n"), 1]],
      ["take", "reader", [OP.take, 2, "vault", KEY]],
      ["take, which would read", "writer", [OP.take, 2, "vault", KEY]],
      ["get of a single-read key", "reader", [OP.get, 2, "vault", ONCE]],
      ["getMany with a single-read key", "reader", [OP.getMany, 2, "vault", [KEY, ONCE]]],
      ["get", "writer", GET],
      ["get", "watcher", GET],
      ["has", "writer", [OP.has, 2, "vault", KEY]],
      ["list", "writer", [OP.list, 2, "vault", null, null, null, null, false, 10]],
      ["a batch with one write", "reader", [OP.atomic, 2, [[0, "vault", KEY, 1], [2, "vault", KEY]]]],
      ["a batch with one check, which would read", "writer", [OP.atomic, 2, [[2, "vault", KEY], [0, "vault", KEY, 1]]]],
      ["a batch over two buckets", "stranger", [OP.atomic, 2, [[2, "open", KEY], [2, "vault", KEY]]]],
      ["get", "stranger", GET],
      ["set", "stranger", SET],
      ["list", "stranger", [OP.list, 2, "vault", null, null, null, null, false, 10]],
      ["a subscription", "stranger", [OP.subscribe, 2, "vault", null, null, null, true, true, null, null]],
      ["a subscription", "reader", [OP.subscribe, 2, "vault", null, null, null, true, true, null, null]],
      ["a subscription to a key", "stranger", [OP.subscribe, 2, "vault", KEY, null, null, true, true, null, null]],
      ["a subscription to all buckets", "watcher", [OP.subscribe, 2, null, null, null, null, true, true, null, null]],
      ["a subscription to all buckets", "stranger", [
        OP.subscribe,
        2,
        null,
        null,
        null,
        null,
        true,
        false,
        "x.0",
        null,
      ]],
      ["stats", "taker", [OP.stats, 2]],
      ["sync", "taker", [OP.sync, 2]],
      ["compact", "taker", [OP.compact, 2]],
      ["settings of its own bucket", "taker", [OP.configure, 2, "vault", [1, null, null, null]]],
      ["settings of a new bucket", "stranger", [OP.configure, 2, "open-new", [null, null, null, null]]],
    ];
    for (const [what, name, request] of forbidden) {
      test(`refuses ${name} ${what} (${JSON.stringify(request[2] ?? null).slice(0, 20)})`, async () => {
        expect(await attempt({ messages: [[hello(secrets[name]), request]] })).toBe("FORBIDDEN");
      });
    }

    test("tells of a bucket to nobody who has no right in it", async () => {
      const names = ["admin", "reader", "writer", "taker", "watcher", "stranger"] as const;
      for (const name of names) {
        const before = heard.length;
        expect(await attempt({ messages: [[hello(secrets[name]), [OP.buckets, 2, null]]] })).toBe("let in");
        const isTold = heard.slice(before).join("").includes("vault");
        expect([name, isTold]).toEqual([name, name !== "watcher" && name !== "stranger"]);
      }
    });

    const buckets = [
      "__proto__",
      "constructor",
      "toString",
      "hasOwnProperty",
      ".",
      "..",
      "CON",
      "a:",
      "",
      "*",
      "open*",
      "VAULT",
      "Vault",
      "vault ",
      "vault\0",
      "open/../vault",
      "open-%2e%2e%2fvault",
      "vault/gold",
      "cafe\u0301",
      "caf\u00e9",
      "v".repeat(300),
      "ｖault",
    ];
    for (const bucket of buckets) {
      test(`finds nothing in the bucket ${JSON.stringify(bucket).slice(0, 30)}`, async () => {
        // Who may everything is stopped by the name alone; a name that could be a bucket's is an empty bucket to it.
        const names = isBucketName(bucket) ? ["stranger"] as const : ["stranger", "admin"] as const;
        for (const name of names) {
          for (const op of [OP.get, OP.take, OP.has]) {
            const outcome = await attempt({ messages: [[hello(secrets[name]), [op, 2, bucket, KEY]]] });
            expect([name, outcome]).toEqual([name, expect.stringMatching(/^(FORBIDDEN|INVALID)$/)]);
          }
        }
      });
    }

    // --- a second time ---

    const again: [string, string, Item[][]][] = [
      ["a second hello for more rights", "FORBIDDEN", [hello("READER"), [OP.hello, 7, 1, "ADMIN"], SET]],
      ["the same hello once more", "INVALID", [hello("READER"), [OP.hello, 2, 1, "READER"]]],
      ["auth with a wrong token", "close 4401", [hello("ADMIN"), [OP.auth, 7, "wrong"], GET]],
      ["auth with an empty token", "close 4401", [hello("ADMIN"), [OP.auth, 7, ""], GET]],
      ["auth with an expired token", "close 4401", [hello("ADMIN"), [OP.auth, 7, "EXPIRED"], GET]],
      ["auth with null", "INVALID", [hello("READER"), [OP.auth, 2, null]]],
      ["what auth has taken away", "FORBIDDEN", [hello("ADMIN"), [OP.auth, 7, "READER"], SET]],
      ["what auth has not given", "FORBIDDEN", [hello("STRANGER"), [OP.auth, 7, "READER"], SET]],
    ];
    for (const [what, expected, frames] of again) {
      test(`refuses ${what}`, async () => {
        const named = frames.map((frame) => frame.map((item) => secrets[String(item).toLowerCase() as Name] ?? item));
        expect(await attempt({ messages: [named] })).toBe(expected);
      });
    }

    test("takes no answer to hello for one to a request with its id", async () => {
      const frames = [[OP.hello, 2, 1, secrets.reader], SET, [OP.delete, 2, "vault", KEY, null], [OP.ping, 3]];
      expect(await attempt({ messages: [frames] })).toBe("let in"); // and the vault is as it was
    });

    // --- tickets ---

    async function ticket(headers: readonly string[] = [], token = secrets.reader): Promise<string> {
      const response = await fetch(`http://127.0.0.1:${server.port}/v1/tickets`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, ...Object.fromEntries(headers.map((line) => line.split(": "))) },
      });
      expect([response.status, response.headers.get("cache-control")]).toEqual([201, "no-store, no-transform"]);
      return (await response.json() as { ticket: string }).ticket;
    }

    test("lets a ticket in once", async () => {
      const path = `/?ticket=${await ticket()}`;
      expect(await attempt({ path })).toBe("let in");
      expect(await attempt({ path })).toBe("http 401");
    });

    test("refuses a ticket twice in one URL, and beside a token", async () => {
      const drawn = await ticket();
      expect(await attempt({ path: `/?ticket=${drawn}&ticket=${drawn}` })).toBe("http 401");
      expect(await attempt({ path: `/?ticket=${drawn}`, protocols: bearer(secrets.reader) })).toBe("http 401");
    });

    test("refuses a ticket from another page, and has used it up", async () => {
      const path = `/?ticket=${await ticket()}`;
      expect(await attempt({ path, headers: [`Origin: http://127.0.0.1:${server.port}`] })).toBe("http 401");
      expect(await attempt({ path })).toBe("http 401");
    });

    test("refuses the ticket of a token that is revoked before it is used", async () => {
      const { token } = await vault.tokens.create({ name: "brief", scopes: SCOPES.reader });
      const path = `/?ticket=${await ticket([], token)}`;
      await vault.tokens.revoke("brief");
      expect(await attempt({ path })).toBe("http 401");
    });

    const requests: [string, string, string][] = [
      ["no credentials", "POST /v1/tickets", ""],
      ["wrong credentials", "POST /v1/tickets", "Authorization: Bearer wrong"],
      ["an expired token", "POST /v1/tickets", "Authorization: Bearer EXPIRED"],
      ["a token in the query", "POST /v1/tickets?access_token=READER", ""],
      ["a token in a cookie", "POST /v1/tickets", "Cookie: token=READER"],
      ["GET", "GET /v1/tickets", "Authorization: Bearer READER"],
      ["HEAD", "HEAD /v1/tickets", "Authorization: Bearer READER"],
      ["PUT", "PUT /v1/tickets", "Authorization: Bearer READER"],
      ["DELETE", "DELETE /v1/tickets", "Authorization: Bearer READER"],
      ["TRACE", "TRACE /v1/tickets", "Authorization: Bearer READER"],
      ["an unknown method", "BREW /v1/tickets", "Authorization: Bearer READER"],
      ["an overridden method", "GET /v1/tickets", "X-HTTP-Method-Override: POST\r\nAuthorization: Bearer READER"],
      ["a form of another site", "POST /v1/tickets", "Origin: https://evil.example\r\nAuthorization: Bearer READER"],
      ["a path that goes up", "POST /x/../v1/tickets", ""],
      ["a path that goes up, encoded", "POST /x/%2e%2e/v1/tickets", ""],
      ["an encoded slash", "POST /v1%2Ftickets", ""],
      ["a double encoding", "POST /v1/%2574ickets", ""],
      ["two slashes", "POST //v1/tickets", ""],
      ["a backslash", "POST /v1\\tickets", ""],
      ["a NUL", "POST /v1/tickets%00", ""],
      ["an absolute target", "POST http://127.0.0.1/v1/tickets", ""],
      ["two lengths", "POST /v1/tickets", "Authorization: Bearer READER\r\nContent-Length: 5"],
      ["a length and chunks", "POST /v1/tickets", "Authorization: Bearer READER\r\nTransfer-Encoding: chunked"],
    ];
    for (const [what, line, headers] of requests) {
      test(`gives no ticket for ${what}`, async () => {
        const named = (text: string): string =>
          text.replace("READER", secrets.reader).replace("EXPIRED", secrets.expired);
        const head = `${named(line)} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n`;
        const status = await statusOf(server.port, `${head}Content-Length: 0\r\n${named(headers)}\r\n\r\n`);
        expect(status).not.toBe(500);
        expect(Math.floor(status / 100)).not.toBe(2);
      });
    }

    test("gives no ticket for OPTIONS, but says what to ask with", async () => {
      const asked = { method: "OPTIONS", headers: { authorization: `Bearer ${secrets.reader}` } };
      const response = await fetch(`http://127.0.0.1:${server.port}/v1/tickets`, asked);
      expect([response.status, response.headers.get("allow"), await response.text()]).toEqual([204, "POST", ""]);
    });

    // --- nothing leaks ---

    test("has told nobody a token or a value, in whatever it said", () => {
      const told = JSON.stringify([heard, vault.events, server.stats()]);
      expect(heard.length).toBeGreaterThan(200);
      expect(told).not.toContain(SECRET);
      for (const token of Object.values(secrets)) expect(told).not.toContain(token.slice(20));
      expect(vault.events).toEqual([]);
      expect(server.stats()["server.authFailures"]).toBeGreaterThan(50);
    });
  });
}

// --- WebSocket frames ---

/** A frame of a client: one byte of flags and opcode, a mask of zeros. */
function masked(head: number, payload: Uint8Array): Uint8Array {
  return Uint8Array.of(head, 0x80 | payload.length, 0, 0, 0, 0, ...payload);
}

function unmasked(payload: Uint8Array): Uint8Array {
  return Uint8Array.of(0x82, payload.length, ...payload);
}

/** One binary message in frames of `size` bytes. */
function fragments(payload: Uint8Array, size: number): Uint8Array {
  const bytes: number[] = [];
  for (let start = 0; start < payload.length; start += size) {
    const head = (start === 0 ? 2 : 0) | (start + size >= payload.length ? 0x80 : 0);
    bytes.push(...masked(head, payload.subarray(start, start + size)));
  }
  return Uint8Array.from(bytes);
}
