/**
 * What REST must be on every transport: what passes through a runtime's own HTTP, byte by byte.
 *
 * `test/server/rest.test.ts` says what REST is, on one of them.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { EventReader, talk } from "../server/http_client.ts";
import { type EchoServer, talk as talkOn } from "../server/fixtures/echo_client.ts";

const JSON_TYPE = { "content-type": "application/json" };
const BYTES_TYPE = { "content-type": "application/octet-stream" };

/** Runs the tests against `test/server/fixtures/store.ts`, as `start` starts it. */
export function runRestSuite(name: string, start: () => Promise<EchoServer>): void {
  describe(`REST on ${name}`, () => {
    let server: EchoServer;

    beforeAll(async () => {
      server = await start();
    });

    afterAll(async () => {
      await server.stop();
    });

    function put(
      key: string,
      body: string | Uint8Array<ArrayBuffer>,
      headers: Record<string, string>,
    ): Promise<Response> {
      return server.fetch(`/v1/buckets/b/keys/${key}`, { method: "PUT", body, headers });
    }

    function get(key: string, headers: Record<string, string> = {}): Promise<Response> {
      return server.fetch(`/v1/buckets/b/keys/${key}`, { headers });
    }

    test("values of any length up to the largest come back, and a longer one is refused", async () => {
      for (const length of [0, 1, 65_535, 65_536, 1_048_576]) {
        const value = new Uint8Array(length).map((_, index) => index % 251);
        expect([length, (await put("big", value, BYTES_TYPE)).status]).toEqual([length, 204]);
        const read = await get("big");
        expect(read.headers.get("content-type")).toBe("application/octet-stream");
        const bytes = new Uint8Array(await read.arrayBuffer());
        expect(bytes.length).toBe(length);
        expect(bytes.every((byte, index) => byte === index % 251)).toBe(true);
      }
      for (const length of [1_048_577, 3_000_000]) {
        const refused = await put("big", new Uint8Array(length), BYTES_TYPE).then(({ status }) => status, () => "cut");
        // A runtime may stop reading what is over its own limit.
        expect([413, ...length > 2_097_152 ? ["cut"] : []]).toContain(refused);
      }
    });

    test("keys are their bytes, escaped once, on the way in and out", async () => {
      const keys = ["a/b", "/", "a//b", "%2F", "\u0000", "ü", "a?b#c", "+", " ", "\\", "a;b=c&d", "~!*'()", "..a"];
      for (const [index, key] of keys.entries()) {
        expect([key, (await put(`kinds${encodeURIComponent(key)}`, String(index), JSON_TYPE)).status]).toEqual([
          key,
          204,
        ]);
      }
      expect((await put("kinds%FF%00", "99", JSON_TYPE)).status).toBe(204);
      for (const [index, key] of keys.entries()) {
        expect([key, await (await get(`kinds${encodeURIComponent(key)}`)).text()]).toEqual([key, String(index)]);
      }
      const page = await (await server.fetch("/v1/buckets/b/keys?prefix=kinds&values=0")).json() as {
        entries: { key?: string; keyBase64?: string }[];
      };
      expect(new Set(page.entries.map(({ key, keyBase64 }) => key ?? keyBase64))).toEqual(
        new Set([...keys.map((key) => `kinds${key}`), "a2luZHP/AA=="]),
      );
    });

    test("a path that leads to another bucket leads nowhere, or where it plainly says", async () => {
      await server.fetch("/v1/buckets/c/keys/secret", { method: "PUT", body: '"hush"', headers: JSON_TYPE });
      const targets = [
        "/v1/buckets/b/keys/..%2F..%2Fc%2Fkeys%2Fsecret",
        "/v1/buckets/b/keys/%252e%252e/%252e%252e/c/keys/secret",
        "/v1/buckets/b%2F..%2Fc/keys/secret",
        "/v1/buckets/%63/keys/secret",
        "/v1/buckets/c%00/keys/secret",
        "//v1/buckets/c/keys/secret",
        "/v1/buckets/c/keys%2Fsecret",
        ...name === "bun" ? [] : [
          "/v1/buckets/b/keys/../../c/keys/secret",
          "/v1/buckets/b/keys/%2e%2e/%2E./c/keys/secret",
          "/v1/buckets/b/keys/..\\..\\c\\keys\\secret",
        ],
      ];
      for (const target of targets) {
        const answer = await talk(server.port, `GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
        expect([target, answer.includes("hush"), answer.slice(9, 10)]).toEqual([target, false, "4"]);
      }
    });

    test("conditions, and answers without a body", async () => {
      const created = await put("once-more", "1", { ...JSON_TYPE, "if-none-match": "*" });
      const etag = created.headers.get("etag")!;
      expect([created.status, await created.text()]).toEqual([204, ""]);
      expect((await put("once-more", "2", { ...JSON_TYPE, "if-none-match": "*" })).status).toBe(412);
      const known = await get("once-more", { "if-none-match": etag });
      expect([known.status, known.headers.get("etag"), await known.text()]).toEqual([304, etag, ""]);
      const head = await talk(server.port, "HEAD /v1/buckets/b/keys/once-more HTTP/1.1\r\nHost: localhost\r\n\r\n");
      expect(head).toContain("200");
      expect(head.toLowerCase()).toContain(`etag: ${etag}`);
      expect(head.split("\r\n\r\n")[1]).toBe("");
      const gone = await server.fetch("/v1/buckets/b/keys/once-more", {
        method: "DELETE",
        headers: { "if-match": etag },
      });
      expect(gone.status).toBe(204);
      expect((await get("once-more")).status).toBe(404);
    });

    test("a value is sent as it is, with its own ETag, whatever else would be accepted", async () => {
      const text = JSON.stringify("a".repeat(5_000));
      const { headers } = await put("long", text, JSON_TYPE);
      const read = await get("long", { "accept-encoding": "gzip, br, deflate" });
      expect([read.headers.get("etag"), read.headers.get("content-encoding"), await read.text()]).toEqual([
        headers.get("etag"),
        null,
        text,
      ]);
    });

    test("a problem says what is wrong in its own type", async () => {
      const response = await put("k", "{", JSON_TYPE);
      expect([response.status, response.headers.get("content-type")]).toEqual([400, "application/problem+json"]);
      expect(await response.json()).toMatchObject({ status: 400, code: "INVALID" });
      expect((await server.fetch("/v1/buckets/b/keys/k", { method: "PATCH" })).status).toBe(405);
    });

    test("of many takers of a single-read key one gets it", async () => {
      await put("otp", '"493"', { ...JSON_TYPE, "firkin-once": "true" });
      expect((await get("otp")).status).toBe(409);
      const answers = await Promise.all(Array.from({ length: 16 }, async () => {
        const taken = await server.fetch("/v1/buckets/b/keys/otp/take", {
          method: "POST",
          headers: JSON_TYPE,
          body: "{}",
        });
        return taken.status === 200 ? await taken.text() : taken.status;
      }));
      expect(answers.filter((answer) => answer !== 404)).toEqual(['"493"']);
    });

    test("a configured origin is asked and answered by its name, another is refused", async () => {
      const ask = (origin: string, method: string) =>
        server.fetch("/v1/buckets/b/keys/k", {
          method,
          headers: { origin, "access-control-request-method": "PUT" },
        });
      const allowed = await ask("https://app.example", "OPTIONS");
      expect([allowed.status, allowed.headers.get("access-control-allow-origin")]).toEqual([
        204,
        "https://app.example",
      ]);
      expect((await ask("https://evil.example", "OPTIONS")).status).toBe(403);
      const read = await ask("https://app.example", "GET");
      expect(read.headers.get("access-control-allow-origin")).toBe("https://app.example");
    });

    test("a stream goes on behind Last-Event-ID, and hears of an expiry", async () => {
      const url = `http://127.0.0.1:${server.port}/v1/buckets/stream/events`;
      const write = (key: string, headers = {}): Promise<Response> =>
        server.fetch(`/v1/buckets/stream/keys/${key}`, {
          method: "PUT",
          body: "1",
          headers: { ...JSON_TYPE, ...headers },
        });
      const reader = await EventReader.open(url);
      await reader.next();
      await write("a");
      const { id } = await reader.next();
      reader.close();
      await write("b", { "firkin-ttl": "20ms" });
      const again = await EventReader.open(url, id);
      expect((await again.take(2)).map(({ event, data }) => [event, data["key"]])).toEqual([["set", "b"], [
        "expire",
        "b",
      ]]);
      again.close();
    });

    test("HEAD of a stream opens none, and the connection goes on", async () => {
      const head = "/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
      let asked = false;
      const answers = await talkOn(server.port, `HEAD ${head}`, (answer, write) => {
        if (!asked && answer.includes("\r\n\r\n")) {
          asked = true;
          write("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        return answer.endsWith("\r\n\r\nok");
      });
      expect(answers.match(/^HTTP\/1\.1 200/gm)?.length).toBe(2);
      expect(answers.toLowerCase()).toContain("content-type: text/event-stream");
      expect(answers).not.toContain("retry:");
      expect(await (await server.fetch("/metrics")).text()).toContain("firkin_event_streams 0\n");
    });

    test("health and metrics", async () => {
      expect(await (await server.fetch("/livez")).text()).toBe("ok");
      expect((await server.fetch("/readyz")).status).toBe(200);
      expect(await (await server.fetch("/metrics")).text()).toContain(
        'firkin_operations_total{op="take",status="ok"} 16',
      );
    });
  });
}
