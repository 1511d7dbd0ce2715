/**
 * REST over a real socket: keys, conditions, types, lists, batches, and everything that must be refused.
 *
 * Every answer of these tests is held against the server's own OpenAPI description.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { decode, encode } from "cbor-x";
import { ERRORS } from "../../lib/base/errors.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { Store } from "../../lib/store/store.ts";
import { serve, type Server } from "../../server/mod.ts";
import { REST_CODES } from "../../server/problems.ts";
import { openMemoryEngine } from "../wire/loopback.ts";
import { Description, talk } from "./http_client.ts";

const JSON_TYPE = { "content-type": "application/json" };

describe("REST", () => {
  let engine: EmbeddedEngine;
  let store: Store;
  let server: Server;
  let base: string;
  let description: Description | undefined;

  beforeEach(async () => {
    engine = await openMemoryEngine();
    store = new Store(engine);
    server = await serve({ store, port: 0 });
    base = server.url.replace("ws:", "http:");
    description ??= await Description.of(base); // the same for all: compiling it takes a while
  });

  afterEach(async () => {
    await server.close();
    await engine.close();
  });

  /** Asks, and holds the answer against the description. */
  async function ask(method: string, path: string, init: RequestInit = {}): Promise<Response> {
    const response = await fetch(`${base}${path}`, { ...init, method, redirect: "error" });
    description?.check(method, path, response, await response.clone().text());
    return response;
  }

  function put(
    key: string,
    body: string | Uint8Array<ArrayBuffer>,
    headers: Record<string, string> = JSON_TYPE,
  ): Promise<Response> {
    return ask("PUT", `/v1/buckets/b/keys/${key}`, { body, headers });
  }

  function get(key: string, headers: Record<string, string> = {}): Promise<Response> {
    return ask("GET", `/v1/buckets/b/keys/${key}`, { headers });
  }

  function post(path: string, body: unknown = {}, headers: Record<string, string> = JSON_TYPE): Promise<Response> {
    return ask("POST", path, { body: typeof body === "string" ? body : JSON.stringify(body), headers });
  }

  /** Status and code of a problem. */
  async function problem(asked: Promise<Response>): Promise<[number, string]> {
    const response = await asked;
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    const { status, code } = await response.json() as { status: number; code: string };
    expect(status).toBe(response.status);
    return [status, code];
  }

  describe("values", () => {
    test.each([
      ["application/json", '{"a": [1, 12345678901234567890]}'],
      ["text/plain; charset=utf-8", "grüß"],
      ["application/octet-stream", "\u0000\u0001"],
      ["application/cbor", "\u0001"],
    ])("PUT of %s is given back as it came", async (type, body) => {
      const written = await put("k", body, { "content-type": type });
      expect([written.status, written.headers.get("etag")]).toEqual([204, '"1"']);
      const read = await get("k");
      expect([read.status, read.headers.get("content-type"), await read.text()]).toEqual([200, type, body]);
      expect(read.headers.get("etag")).toBe('"1"');
      expect(read.headers.get("cache-control")).toBe("private, no-cache, no-transform");
      expect(read.headers.get("x-content-type-options")).toBe("nosniff");
      const head = await ask("HEAD", "/v1/buckets/b/keys/k");
      expect([head.status, head.headers.get("etag"), await head.text()]).toEqual([200, '"1"', ""]);
    });

    test("PUT writes what WebSocket clients read, and GET reads what they write", async () => {
      await put("json", '{"a":1}');
      await put("text", "hello", { "content-type": "text/plain" });
      await put("bytes", new Uint8Array([0, 255]), { "content-type": "application/octet-stream" });
      const bucket = store.bucket("b");
      expect(await bucket.getMany(["json", "text", "bytes"])).toEqual([{ a: 1 }, "hello", new Uint8Array([0, 255])]);
      await bucket.set("native", { name: "Ada", tags: ["x"], at: new Date(0), none: undefined });
      const asJson = await get("native", { accept: "application/json" });
      expect(asJson.headers.get("content-type")).toBe("application/json");
      expect(await asJson.json()).toEqual({ name: "Ada", tags: ["x"], at: "1970-01-01T00:00:00.000Z" });
      const asCbor = await get("json", { accept: "application/cbor" });
      expect(decode(new Uint8Array(await asCbor.arrayBuffer()))).toEqual({ a: 1 });
    });

    test("GET gives what Accept likes best, and 406 for what a value cannot be", async () => {
      const bucket = store.bucket("b");
      await bucket.set("plain", 1);
      await bucket.set("bytes", new Uint8Array([1]));
      const typeOf = async (key: string, accept: string): Promise<string | null> =>
        (await get(key, { accept })).headers.get("content-type");
      expect(await typeOf("plain", "*/*")).toBe("application/cbor");
      expect(await typeOf("plain", "application/*;q=0.5, application/json")).toBe("application/json");
      expect(await typeOf("plain", "application/json;q=0.1, application/octet-stream;q=0.2")).toBe(
        "application/octet-stream",
      );
      expect(await typeOf("plain", "application/cbor;q=0, */*;q=0.1")).toBe("application/json");
      expect(await problem(get("plain", { accept: "text/html" }))).toEqual([406, "NOT_ACCEPTABLE"]);
      // CBOR bytes have no JSON.
      expect(await problem(get("bytes", { accept: "application/json" }))).toEqual([406, "NOT_ACCEPTABLE"]);
    });

    test("PUT refuses bodies that are not what they say, and types that are not taken", async () => {
      expect(await problem(put("k", "{"))).toEqual([400, "INVALID"]);
      expect(await problem(put("k", new Uint8Array([255]), { "content-type": "text/plain" }))).toEqual([
        400,
        "INVALID",
      ]);
      for (
        const type of ["text/html", "application/x-www-form-urlencoded", "", "application/json; charset=latin1", "json"]
      ) {
        expect([type, await problem(put("k", "1", { "content-type": type }))]).toEqual([type, [
          415,
          "UNSUPPORTED_MEDIA_TYPE",
        ]]);
      }
      expect(await problem(put("k", "1", { ...JSON_TYPE, "content-encoding": "gzip" }))).toEqual([
        415,
        "UNSUPPORTED_MEDIA_TYPE",
      ]);
      expect(await problem(put("k", new Uint8Array(1_048_577), { "content-type": "application/octet-stream" })))
        .toEqual(
          [413, "TOO_LARGE"],
        );
      expect(await store.bucket("b").has("k")).toBe(false);
    });

    test("GET, HEAD and DELETE of a key that is not there", async () => {
      expect(await problem(get("none"))).toEqual([404, "NOT_FOUND"]);
      expect((await ask("HEAD", "/v1/buckets/b/keys/none")).status).toBe(404);
      await put("k", "1");
      const first = await ask("DELETE", "/v1/buckets/b/keys/k");
      expect([first.status, first.headers.get("etag")]).toEqual([204, '"2"']);
      const second = await ask("DELETE", "/v1/buckets/b/keys/k");
      expect([second.status, second.headers.get("etag")]).toEqual([204, null]);
    });
  });

  describe("deadlines", () => {
    test("PUT takes a ttl or an end, and answers say when a key ends", async () => {
      const before = Date.now();
      await put("k", "1", { ...JSON_TYPE, "firkin-ttl": "30s" });
      await put("m", "1", { ...JSON_TYPE, "firkin-ttl": "60000" });
      await put("at", "1", { ...JSON_TYPE, "firkin-expires-at": "4000000000000" });
      const endOf = async (key: string): Promise<number> => Number((await get(key)).headers.get("firkin-expires-at"));
      expect(await endOf("k") - before).toBeGreaterThanOrEqual(30_000);
      expect(await endOf("k") - before).toBeLessThan(50_000);
      expect(await endOf("m") - before).toBeGreaterThanOrEqual(60_000);
      expect(await endOf("at")).toBe(4_000_000_000_000);
      for (const ttl of ["0", "-1", "1x", "", "1e3", "Infinity"]) {
        expect([ttl, await problem(put("k", "1", { ...JSON_TYPE, "firkin-ttl": ttl }))]).toEqual([ttl, [
          400,
          "INVALID",
        ]]);
      }
      const both = { ...JSON_TYPE, "firkin-ttl": "1s", "firkin-expires-at": "4000000000000" };
      expect(await problem(put("k", "1", both))).toEqual([400, "INVALID"]);
    });

    test("touch moves an end and drops it", async () => {
      await put("k", "1", { ...JSON_TYPE, "firkin-ttl": "30s" });
      const touched = await post("/v1/buckets/b/keys/k/touch", { expiresAt: 4_000_000_000_000 });
      expect([touched.status, await touched.json()]).toEqual([200, { revision: 2 }]);
      expect((await get("k")).headers.get("firkin-expires-at")).toBe("4000000000000");
      await post("/v1/buckets/b/keys/k/touch");
      expect((await get("k")).headers.get("firkin-expires-at")).toBe(null);
      expect(await problem(post("/v1/buckets/b/keys/none/touch", { ttl: "1s" }))).toEqual([404, "NOT_FOUND"]);
      expect(await problem(post("/v1/buckets/b/keys/k/touch", { ttl: true }))).toEqual([400, "INVALID"]);
    });
  });

  describe("conditions", () => {
    const put412 = async (headers: Record<string, string>): Promise<number> =>
      (await put("k", "2", { ...JSON_TYPE, ...headers })).status;

    test("If-None-Match: * writes what is new only", async () => {
      expect(await put412({ "if-none-match": "*" })).toBe(204);
      const lost = await put("k", "3", { ...JSON_TYPE, "if-none-match": "*" });
      expect([lost.status, lost.headers.get("etag")]).toEqual([412, '"1"']);
      expect(await lost.json()).toMatchObject({
        code: "PRECONDITION_FAILED",
        current: { key: "k", revision: 1, content: "json", value: 2 },
      });
      expect(await (await get("k")).text()).toBe("2");
    });

    test("If-Match writes over what is known only", async () => {
      expect(await put412({ "if-match": '"1"' })).toBe(412);
      expect(await put412({ "if-match": "*" })).toBe(412);
      await put("k", "1");
      expect(await put412({ "if-match": '"7"' })).toBe(412);
      expect(await put412({ "if-match": 'W/"1"' })).toBe(412);
      expect(await put412({ "if-match": '"x"' })).toBe(412);
      expect(await put412({ "if-match": '"7", "1"' })).toBe(204);
      expect(await put412({ "if-match": '"2"' })).toBe(204);
      expect(await put412({ "if-match": "*" })).toBe(204);
      expect(await put412({ "if-none-match": '"4"' })).toBe(412);
      expect(await put412({ "if-none-match": '"9"' })).toBe(204);
      expect(await put412({ "if-match": '"5"', "if-none-match": '"5"' })).toBe(412);
    });

    test("If-Match: * lets every one of many writers through, each over what it saw", async () => {
      await put("k", "0");
      const statuses = await Promise.all(Array.from({ length: 8 }, () => put412({ "if-match": "*" })));
      expect(statuses.filter((status) => status !== 204 && status !== 429)).toEqual([]);
      expect((await store.bucket("b").getEntry("k"))?.revision).toBe(1 + statuses.filter((one) => one === 204).length);
    });

    test("DELETE takes conditions too", async () => {
      const del = async (headers: Record<string, string>): Promise<number> =>
        (await ask("DELETE", "/v1/buckets/b/keys/k", { headers })).status;
      expect(await del({ "if-match": '"1"' })).toBe(412);
      expect(await del({ "if-none-match": "*" })).toBe(204);
      await put("k", "1");
      expect(await del({ "if-none-match": "*" })).toBe(412);
      expect(await del({ "if-match": '"2"' })).toBe(412);
      expect(await del({ "if-match": '"1"' })).toBe(204);
      expect(await store.bucket("b").has("k")).toBe(false);
    });

    test("GET answers 304 to who has it, and 412 to If-Match", async () => {
      await put("k", "1");
      const known = await get("k", { "if-none-match": 'W/"1"' });
      expect([known.status, known.headers.get("etag"), await known.text()]).toEqual([304, '"1"', ""]);
      expect((await get("k", { "if-none-match": '"2", "1"' })).status).toBe(304);
      expect((await get("k", { "if-none-match": "*" })).status).toBe(304);
      expect((await get("k", { "if-none-match": '"2"' })).status).toBe(200);
      expect((await get("k", { "if-match": '"2"' })).status).toBe(412);
      expect((await get("k", { "if-match": '"1"' })).status).toBe(200);
    });
  });

  describe("single-read keys", () => {
    test("only take shows one, once, and nothing else ends it", async () => {
      await put("otp", '"493-201"', { ...JSON_TYPE, "firkin-once": "true" });
      expect(await problem(get("otp"))).toEqual([409, "SINGLE_READ"]);
      const head = await ask("HEAD", "/v1/buckets/b/keys/otp");
      expect([head.status, head.headers.get("firkin-once"), head.headers.get("etag")]).toEqual([200, "true", '"1"']);
      const listed = await (await ask("GET", "/v1/buckets/b/keys")).json();
      expect(listed).toEqual({ entries: [{ key: "otp", revision: 1, once: true, content: "json" }] });
      const lost = await (await put("otp", "1", { ...JSON_TYPE, "if-none-match": "*" })).json();
      expect(lost).toMatchObject({ current: { key: "otp", once: true } });
      expect(JSON.stringify(lost)).not.toContain("493");
      const took = await post("/v1/buckets/b/keys/otp/take");
      expect([took.status, took.headers.get("cache-control"), await took.json()]).toEqual([
        200,
        "no-store, no-transform",
        "493-201",
      ]);
      expect(await problem(post("/v1/buckets/b/keys/otp/take"))).toEqual([404, "NOT_FOUND"]);
    });

    test("of many takers one gets it", async () => {
      await put("otp", "1", { ...JSON_TYPE, "firkin-once": "true" });
      const statuses = await Promise.all(
        Array.from({ length: 16 }, async () => (await post("/v1/buckets/b/keys/otp/take")).status),
      );
      expect(statuses.sort((left, right) => left - right)).toEqual([200, ...Array.from({ length: 15 }, () => 404)]);
    });

    test("what a page of another site can send without asking ends nothing", async () => {
      await put("otp", "1", { ...JSON_TYPE, "firkin-once": "true" });
      for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
        const refused = problem(post("/v1/buckets/b/keys/otp/take", "{}", { "content-type": type }));
        expect(await refused).toEqual([415, "UNSUPPORTED_MEDIA_TYPE"]);
      }
      const none = await talk(server.port, "POST /v1/buckets/b/keys/otp/take HTTP/1.1\r\nHost: localhost\r\n\r\n");
      expect(none).toContain("415");
      expect(await store.bucket("b").has("otp")).toBe(true);
    });
  });

  describe("increments, batches, many keys", () => {
    test("increment adds, and refuses what is no number", async () => {
      const first = await post("/v1/buckets/b/keys/n/increment");
      expect([await first.json(), first.headers.get("etag")]).toEqual([{ value: 1, revision: 1 }, '"1"']);
      expect(await (await post("/v1/buckets/b/keys/n/increment", { by: -2.5 })).json()).toEqual({
        value: -1.5,
        revision: 2,
      });
      expect(await problem(post("/v1/buckets/b/keys/n/increment", { by: "1" }))).toEqual([400, "INVALID"]);
      expect(await problem(post("/v1/buckets/b/keys/n/increment", { to: 1 }))).toEqual([400, "INVALID"]);
      await put("n", '"x"');
      expect(await problem(post("/v1/buckets/b/keys/n/increment"))).toEqual([400, "INVALID"]);
    });

    test("a batch happens wholly or not at all", async () => {
      await put("a", "1");
      const operations = [
        { type: "check", bucket: "b", key: "a", revision: 1 },
        { type: "set", bucket: "b", key: "json", value: { x: 1 }, ttl: "1h" },
        { type: "set", bucket: "c", key: "cbor", content: "cbor", value: [1] },
        { type: "set", bucket: "c", key: "text", content: "text", value: "t" },
        { type: "set", bucket: "c", keyBase64: "/w==", content: "bytes", base64: "AAE=", once: true },
        { type: "delete", bucket: "b", key: "a" },
      ];
      const done = await post("/v1/batch", { operations });
      expect([done.status, await done.json()]).toEqual([200, { revision: 6 }]);
      expect(await store.bucket("c").getMany(["cbor", "text", new Uint8Array([255])])).toEqual([
        [1],
        "t",
        new Uint8Array([0, 1]),
      ]);
      const lost = await post("/v1/batch", { operations });
      expect(lost.status).toBe(412);
      expect(await lost.json()).toMatchObject({ code: "PRECONDITION_FAILED", index: 0, current: null });
    });

    test.each([
      [{}],
      [{ operations: {} }],
      [{ operations: [null] }],
      [{ operations: [{ type: "get", bucket: "b", key: "k" }] }],
      [{ operations: [{ type: "set", bucket: "b", key: "k" }] }],
      [{ operations: [{ type: "set", bucket: "b", key: "k", value: 1, base64: "AA==" }] }],
      [{ operations: [{ type: "set", bucket: "b", key: "k", content: "bytes", value: "x" }] }],
      [{ operations: [{ type: "set", bucket: "b", key: "k", content: "text", value: 1 }] }],
      [{ operations: [{ type: "set", bucket: "b", key: "k", base64: "A" }] }],
      [{ operations: [{ type: "set", bucket: "b", key: "k", value: 1, ttl: 1, expiresAt: 1 }] }],
      [{ operations: [{ type: "set", bucket: "b", key: "k", value: 1, once: 1 }] }],
      [{ operations: [{ type: "delete", bucket: "b", key: "k", revision: 1 }] }],
      [{ operations: [{ type: "delete", bucket: "b", key: "" }] }],
      [{ operations: [{ type: "delete", bucket: "b", key: "\ud800" }] }],
      [{ operations: [{ type: "delete", bucket: "../b", key: "k" }] }],
      [{ operations: [{ type: "delete", bucket: "__proto__", key: "k" }] }],
      [{ operations: [{ type: "check", bucket: "b", key: "k", revision: -1 }] }],
      [{ operations: [{ type: "check", bucket: "b", key: "k", revision: "1" }] }],
      ['{"__proto__":{"operations":[]}}'],
      ["[]"],
      ["null"],
      ["{"],
    ])("a batch %j is refused", async (body) => {
      expect(await problem(post("/v1/batch", body))).toEqual([400, "INVALID"]);
      expect((await engine.stats())["revision"]).toBe(0);
    });

    test("many keys come in one answer, as far as they fit", async () => {
      await put("a", "1");
      await put("big", new Uint8Array(1_000_000).fill(97), { "content-type": "text/plain" });
      const body = { keys: ["a", "none", { keyBase64: "YQ==" }, "big", "big", "big"] };
      const { entries } = await (await post("/v1/buckets/b/get", body)).json() as { entries: unknown[] };
      expect(entries.slice(0, 3)).toEqual([
        { key: "a", revision: 1, content: "json", value: 1 },
        null,
        { key: "a", revision: 1, content: "json", value: 1 },
      ]);
      expect(entries.length).toBe(5);
      expect(await problem(post("/v1/buckets/b/get", { keys: Array.from({ length: 1_001 }, () => "k") }))).toEqual([
        413,
        "TOO_LARGE",
      ]);
    });
  });

  describe("lists", () => {
    test("a list is paged by cursor and by link, and both give every key once, in order", async () => {
      const keys = Array.from({ length: 25 }, (_, index) => `k${String(index).padStart(2, "0")}/ü&`);
      await Promise.all(keys.map((key) => put(encodeURIComponent(key), "1")));
      await store.bucket("b").set("other", 1);
      const seen: string[] = [];
      let path: string | null = "/v1/buckets/b/keys?prefix=k&limit=10&values=0";
      let cursor: string | undefined;
      while (path !== null) {
        const page = await ask("GET", path);
        const { entries, cursor: next } = await page.json() as { entries: { key: string }[]; cursor?: string };
        seen.push(...entries.map(({ key }) => key));
        if (entries.length > 0) expect("value" in entries[0]!).toBe(false);
        path = page.headers.get("link")?.replace(/^<(.*)>; rel="next"$/, "$1") ?? null;
        expect(path === null).toBe(next === undefined);
        cursor ??= next;
      }
      expect(seen).toEqual(keys);
      const again = await ask("GET", `/v1/buckets/b/keys?prefix=k&limit=10&cursor=${cursor}`);
      expect(((await again.json()) as { entries: { key: string }[] }).entries.map(({ key }) => key)).toEqual(
        keys.slice(10, 20),
      );
    });

    test("a list takes a range and an order", async () => {
      await Promise.all(["a", "b", "c", "d"].map((key) => put(key, `"${key}"`)));
      const keysOf = async (query: string): Promise<unknown[]> => {
        const page = await (await ask("GET", `/v1/buckets/b/keys?${query}`)).json() as { entries: { key: string }[] };
        return page.entries.map(({ key }) => key);
      };
      expect(await keysOf("start=b&end=d")).toEqual(["b", "c"]);
      expect(await keysOf("reverse=1&limit=2")).toEqual(["d", "c"]);
      expect(await keysOf("prefix=%62")).toEqual(["b"]);
    });

    test("a list gives values as JSON where it can, and their bytes where not", async () => {
      const bucket = store.bucket("b");
      await bucket.set("1", { a: 1n << 40n });
      await bucket.set("2", new Map([[1, 2]]));
      await store.bucket("b", { codec: "bytes" }).set("3", new Uint8Array([255]));
      await store.bucket("b", { codec: "text" }).set("4", 't\n"');
      await put("5", '{"big": 123456789012345678901234567890}');
      await bucket.set(new Uint8Array([255]), 1);
      const text = await (await ask("GET", "/v1/buckets/b/keys")).text();
      expect(text).toContain('"value":{"big": 123456789012345678901234567890}');
      const { entries } = JSON.parse(text) as { entries: Record<string, unknown>[] };
      expect(entries.slice(0, 4)).toEqual([
        { key: "1", revision: 1, content: "cbor", value: { a: 2 ** 40 } },
        { key: "2", revision: 2, content: "cbor", base64: Buffer.from(encode(new Map([[1, 2]]))).toString("base64") },
        { key: "3", revision: 3, content: "bytes", base64: "/w==" },
        { key: "4", revision: 4, content: "text", value: 't\n"' },
      ]);
      expect(entries[5]).toEqual({ keyBase64: "/w==", revision: 6, content: "cbor", value: 1 });
    });

    test.each([
      "limit=0",
      "limit=x",
      "limit=1e3",
      "reverse=yes",
      "cursor=%ff",
      "cursor=a*b",
      "prefix=%zz",
      "prefix=%",
      "limit=1&limit=2",
      "unknown=1",
      "Limit=1",
    ])("a list refuses ?%s", async (query) => {
      expect(await problem(ask("GET", `/v1/buckets/b/keys?${query}`))).toEqual([400, "INVALID"]);
    });
  });

  describe("paths", () => {
    /** A request whose target no client has tidied up. */
    async function raw(method: string, target: string, headers = ""): Promise<string> {
      const answer = await talk(server.port, `${method} ${target} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`);
      return answer.slice(9, 12);
    }

    test("a key is its bytes, escaped once", async () => {
      const keys = [
        "a/b",
        "a//b",
        "/a",
        "a/",
        " ",
        "%2F",
        "a%00b",
        "\u0000",
        "ü",
        "a?b#c",
        "..a",
        "+",
        "a:b",
        "\\",
        "~",
      ];
      for (const [index, key] of keys.entries()) await put(encodeURIComponent(key), String(index));
      await put("%FF%fe", "99");
      const stored: unknown[] = [];
      for await (const entry of store.bucket("b").list()) stored.push(entry.key);
      expect(new Set(stored)).toEqual(new Set<unknown>([...keys, new Uint8Array([0xff, 0xfe])]));
      for (const [index, key] of keys.entries()) {
        expect([key, await (await get(encodeURIComponent(key))).text()]).toEqual([key, String(index)]);
      }
      // A slash may stand as it is.
      expect(await (await get("a/b")).text()).toBe("0");
      expect(await raw("GET", "/v1/buckets/b/keys/a//b")).toBe("200");
    });

    test.each([
      "/v1/buckets/b/keys/../../c/keys/secret",
      "/v1/buckets/b/keys/..%2F..%2Fc%2Fkeys%2Fsecret",
      "/v1/buckets/b/keys/%2e%2e/%2e%2e/c/keys/secret",
      "/v1/buckets/b/keys/%252e%252e/%252e%252e/c/keys/secret",
      "/v1/buckets/b%2F..%2Fc/keys/secret",
      "/v1/buckets/b/../c/keys/secret",
      "/v1/buckets/%63/keys/secret",
      "/v1/buckets/c%00/keys/secret",
      "/v1/buckets/C/keys/secret",
      "/v1/buckets/c./keys/secret",
      "/v1/buckets//keys/secret",
      "/v1/buckets/c/keys%2Fsecret",
      "/v1/buckets/c\\keys\\secret",
      "/v1//buckets/c/keys/secret",
      "//v1/buckets/c/keys/secret",
      "/V1/buckets/c/keys/secret",
      "/v1/buckets/c/keys/secret%20",
      "/v1/buckets/c/keys/secret%00",
      "/v1/buckets/c/keys/secret/",
      "/v1/buckets/c/keys/%73ecret%",
      "/v1/buckets/c/keys/secret;x",
      "/v1/buckets/__proto__/keys/secret",
      "/v1/buckets/constructor/keys/secret",
    ])("%s is not the key c/secret", async (target) => {
      await store.bucket("c", { codec: "text" }).set("secret", "hush");
      const answer = await talk(server.port, `GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      // Bun resolves dots and backslashes itself, before anybody judges the path: that is the key's own path then.
      if (server.transport === "bun" && /\/\.\.\/|%2e%2e|\\/.test(target)) return;
      expect(answer).not.toContain("hush");
      expect(answer.slice(9, 12)).toMatch(/40[04]/);
    });

    test("names of buckets and the length of keys are limited", async () => {
      for (const bucket of ["-a", "A", "a.b", "a".repeat(65), "a%20", "é", "CON", "a:"]) {
        const path = `/v1/buckets/${encodeURIComponent(decodeURIComponent(bucket))}/keys/k`;
        expect([bucket, await problem(ask("GET", path))]).toEqual([bucket, [400, "INVALID"]]);
      }
      expect((await put("k".repeat(1_024), "1")).status).toBe(204);
      expect(await problem(put("k".repeat(1_025), "1"))).toEqual([413, "TOO_LARGE"]);
    });

    test("methods that a path does not answer are refused with those that it does", async () => {
      const refused = await ask("POST", "/v1/buckets/b/keys/k", { body: "1", headers: JSON_TYPE });
      expect([refused.status, refused.headers.get("allow")]).toEqual([405, "GET, HEAD, PUT, DELETE"]);
      for (const method of ["PATCH", "PROPFIND", "LINK"]) {
        expect([method, await raw(method, "/v1/buckets/b/keys/k")]).toEqual([method, "405"]);
      }
      await put("k", "1");
      const override = { ...JSON_TYPE, "x-http-method-override": "DELETE", "x-http-method": "DELETE" };
      await ask("GET", "/v1/buckets/b/keys/k", { headers: override });
      expect(await store.bucket("b").has("k")).toBe(true);
      const options = await fetch(`${base}/v1/batch`, { method: "OPTIONS" });
      expect([options.status, options.headers.get("allow")]).toEqual([204, "POST"]);
      expect(await problem(ask("GET", "/v1/nothing"))).toEqual([404, "NOT_FOUND"]);
    });
  });

  test("docs/REST.md says every code, and every path", async () => {
    const text = readFileSync(new URL("../../docs/REST.md", import.meta.url), "utf8");
    const rows = [...Object.entries(ERRORS), ...Object.entries(REST_CODES)].map(([code, { http, meaning }]) =>
      `| \`${code}\` | ${http} | ${meaning} |`
    );
    expect(text.split("<!-- codes:start -->\n")[1]?.split("<!-- codes:end -->")[0]?.trim().split("\n")).toEqual(rows);
    const { paths } = await (await fetch(`${base}/v1/openapi.json`)).json() as { paths: object };
    const unsaid = Object.keys(paths).filter((path) =>
      !text.includes(path.replace(/^.*\{key\}/, "{key}").split("{bucket}").at(-1)!)
    );
    expect(unsaid).toEqual([]);
  });

  test("a request that fails inside touches no other", async () => {
    const failing = await openMemoryEngine();
    const list = failing.list.bind(failing);
    failing.list = (bucket, query) => bucket === "broken" ? Promise.reject(new Error("secret")) : list(bucket, query);
    const failures: unknown[] = [];
    const other = await serve({
      store: new Store(failing),
      port: 0,
      onEvent: (event) => failures.push(event.type === "failure" && event.error),
    });
    const url = other.url.replace("ws:", "http:");
    const good = fetch(`${url}/v1/buckets/b/keys`);
    const bad = await fetch(`${url}/v1/buckets/broken/keys`);
    const text = await bad.text();
    expect([bad.status, JSON.parse(text).code]).toEqual([500, "IO"]);
    expect(text).not.toContain("secret");
    expect((await good).status).toBe(200);
    expect(failures).toEqual([new Error("secret")]);
    await other.close();
    await failing.close();
  });

  test("a store that takes no writes says so by status", async () => {
    const closed = await openMemoryEngine();
    const other = await serve({ store: new Store(closed), port: 0 });
    const url = other.url.replace("ws:", "http:");
    await closed.close();
    const response = await fetch(`${url}/v1/buckets/b/keys/k`, { method: "PUT", body: "1", headers: JSON_TYPE });
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([503, "CLOSED"]);
    await other.close();
  });
});
