/**
 * Plain HTTP around REST: who is let in, CORS, health, metrics, REST switched off, and a shutdown.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { Store } from "../../lib/store/store.ts";
import { serve, type ServeOptions, type Server } from "../../server/mod.ts";
import { findTool } from "../suites/tools.ts";
import { openMemoryEngine } from "../wire/loopback.ts";
import { EventReader, talk } from "./http_client.ts";

const ORIGIN = "https://app.example";
const promtool = findTool("prometheus");

describe("Web", () => {
  let engine: EmbeddedEngine;
  let store: Store;
  let server: Server;
  let base: string;

  async function start(options: Partial<ServeOptions> = {}): Promise<void> {
    engine = await openMemoryEngine();
    store = new Store(engine);
    server = await serve({ store, port: 0, allowedOrigins: [ORIGIN], ...options });
    base = server.url.replace("ws:", "http:");
  }

  async function stop(): Promise<void> {
    await server.close();
    await engine.close();
  }

  beforeEach(() => start());
  afterEach(stop);

  /** An answer's status and the CORS headers in it. */
  async function shared(path: string, init: RequestInit): Promise<[number, string | null, string | null]> {
    const response = await fetch(`${base}${path}`, init);
    await response.text();
    const { headers } = response;
    expect(headers.get("access-control-allow-credentials")).toBe(null);
    return [response.status, headers.get("access-control-allow-origin"), headers.get("access-control-allow-methods")];
  }

  describe("origins", () => {
    const preflight = { "access-control-request-method": "PUT", "access-control-request-headers": "content-type" };

    test("a configured origin may ask, and read answers, problems too", async () => {
      const asked = { method: "OPTIONS", headers: { origin: ORIGIN, ...preflight } };
      expect(await shared("/v1/buckets/b/keys/k", asked)).toEqual([204, ORIGIN, "GET, HEAD, PUT, DELETE"]);
      expect(await shared("/v1/buckets/b/keys/k", { headers: { origin: ORIGIN } })).toEqual([404, ORIGIN, null]);
      expect(await shared("/v1/buckets/b/keys", { headers: { origin: ORIGIN } })).toEqual([200, ORIGIN, null]);
    });

    test.each([
      "https://app.example.evil",
      "http://app.example",
      "https://app.example:444",
      "https://APP.example",
      "null",
      "*",
      "https://evil.example",
    ])("the origin %s may not", async (origin) => {
      for (const method of ["OPTIONS", "GET", "PUT", "DELETE", "POST"]) {
        const init = { method, headers: { origin, ...preflight } };
        expect([method, ...await shared("/v1/buckets/b/keys/k", init)]).toEqual([method, 403, null, null]);
      }
    });

    test("without an Origin, and with the server's own, nothing is shared", async () => {
      expect(await shared("/v1/buckets/b/keys", { headers: { origin: base } })).toEqual([200, null, null]);
      expect(await shared("/v1/buckets/b/keys", {})).toEqual([200, null, null]);
      expect(await shared("/v1/buckets/b/keys", { method: "OPTIONS", headers: preflight })).toEqual([204, null, null]);
    });

    test("a request that another site's page causes without saying so is refused", async () => {
      await store.bucket("b").set("k", 1);
      for (const site of ["cross-site", "same-site"]) {
        const answer = await talk(
          server.port,
          `GET /v1/buckets/b/keys/k HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: ${site}\r\n\r\n`,
        );
        expect([site, answer.slice(9, 12)]).toEqual([site, "403"]);
      }
      for (const site of ["none", "same-origin"]) {
        const answer = await talk(
          server.port,
          `GET /v1/buckets/b/keys/k HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: ${site}\r\n\r\n`,
        );
        expect([site, answer.slice(9, 12)]).toEqual([site, "200"]);
      }
    });

    test("another Host is refused on every path", async () => {
      for (const path of ["/v1/buckets/b/keys", "/v1/events", "/v1/openapi.json", "/metrics", "/readyz", "/"]) {
        const answer = await talk(server.port, `GET ${path} HTTP/1.1\r\nHost: evil.example\r\n\r\n`);
        expect([path, answer.slice(9, 12)]).toEqual([path, "403"]);
      }
    });
  });

  test("REST can be switched off, and health stays", async () => {
    await stop();
    await start({ rest: false });
    for (const path of ["/v1/buckets/b/keys/k", "/v1/events", "/v1/openapi.json", "/v1/unstorage/b/:"]) {
      expect([path, (await fetch(`${base}${path}`)).status]).toEqual([path, 404]);
    }
    expect((await fetch(`${base}/livez`)).status).toBe(200);
    expect((await fetch(`${base}/readyz`)).status).toBe(200);
    expect((await fetch(`${base}/metrics`)).status).toBe(200);
  });

  describe("health", () => {
    test("/readyz says what keeps the server from its work", async () => {
      const ready = async (): Promise<[number, string]> => {
        const response = await fetch(`${base}/readyz`);
        return [response.status, await response.text()];
      };
      expect(await ready()).toEqual([200, "ok"]);
      const stats = engine.stats.bind(engine);
      engine.stats = async () => ({ ...await stats(), "reserve.full": 1 });
      expect(await ready()).toEqual([503, "the disk is full"]);
      engine.stats = async () => ({ ...await stats(), "log.poisoned": 1 });
      expect(await ready()).toEqual([503, "the log takes no more writes"]);
      engine.stats = stats;
      expect(await ready()).toEqual([200, "ok"]);
    });

    test("a store that is closed is not ready", async () => {
      await engine.close();
      expect((await fetch(`${base}/readyz`)).status).toBe(503);
      expect((await fetch(`${base}/livez`)).status).toBe(200);
    });
  });

  describe("/metrics", () => {
    async function metrics(): Promise<string> {
      const response = await fetch(`${base}/metrics`);
      expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
      return await response.text();
    }

    /** Something of everything. */
    async function work(): Promise<void> {
      const reader = await EventReader.open(`${base}/v1/events`);
      await reader.next();
      const bucket = store.bucket("b");
      const json = { "content-type": "application/json" };
      await fetch(`${base}/v1/buckets/b/keys/k`, { method: "PUT", body: "1", headers: json });
      await fetch(`${base}/v1/buckets/b/keys/k`);
      await fetch(`${base}/v1/buckets/B/keys/k`);
      await bucket.set("secret-key", 1, { ttl: 10 });
      await reader.take(3);
      reader.close();
    }

    test("tells of operations, streams, expiries and syncs, of buckets, and of no key", async () => {
      await work();
      const text = await metrics();
      const value = (line: string): number =>
        Number(text.split("\n").find((one) => one.startsWith(`${line} `))?.split(" ")[1]);
      expect(value('firkin_operations_total{op="set",status="ok"}')).toBe(1);
      expect(value('firkin_operations_total{op="peek",status="invalid"}')).toBe(1);
      expect(value('firkin_operation_duration_seconds_count{op="set"}')).toBe(1);
      expect(value('firkin_operation_duration_seconds_bucket{op="set",le="+Inf"}')).toBe(1);
      expect(value("firkin_expiry_lateness_seconds_count")).toBe(1);
      expect(value("firkin_sync_duration_seconds_count")).toBeGreaterThanOrEqual(3);
      expect(value("firkin_subscription_lag_seconds_count")).toBeGreaterThanOrEqual(2);
      expect(value("firkin_events_total")).toBe(3);
      expect(value('firkin_http_requests_total{method="PUT",status="204"}')).toBe(1);
      expect(value("firkin_keys")).toBe(1);
      expect(value('firkin_bucket_keys{bucket="b"}')).toBe(1);
      expect(value('firkin_bucket_bytes{bucket="b"}')).toBeGreaterThan(1);
      expect(value('firkin_expiry_lateness_seconds_bucket{le="+Inf"}')).toBe(1);
      expect(text).not.toContain("secret");
    });

    test("tells of a hundred buckets, those with the most in them", async () => {
      for (let index = 0; index < 110; index++) {
        await store.bucket(`b${index}`).setMany([["k", "v".repeat(index)]]);
      }
      const told = [...(await metrics()).matchAll(/^firkin_bucket_keys\{bucket="b(\d+)"\} 1$/gm)].map(([, name]) =>
        name
      );
      expect(told.length).toBe(100);
      expect(told).toContain("109");
      expect(told).not.toContain("9");
    });

    test("buckets of a histogram only grow, up to its count", async () => {
      await work();
      const counts = [...(await metrics()).matchAll(/duration_seconds_bucket\{op="set",le="([^"]+)"\} (\d+)/g)];
      const bounds = counts.map(([, bound]) => bound === "+Inf" ? Infinity : Number(bound));
      expect(bounds).toEqual([...bounds].sort((left, right) => left - right));
      const values = counts.map(([, , count]) => Number(count));
      expect(values).toEqual([...values].sort((left, right) => left - right));
      expect(values.at(-1)).toBe(1);
    });

    test.skipIf(promtool === undefined)("promtool finds nothing to say about it", async () => {
      await work();
      const { status, stdout, stderr } = spawnSync(promtool!, ["check", "metrics"], {
        input: await metrics(),
        encoding: "utf8",
      });
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
    });
  });

  describe("Server.close()", () => {
    test("answers what runs, is not ready meanwhile, and refuses what comes", async () => {
      let release = (): void => {};
      const set = engine.set.bind(engine);
      const asked = new Promise<void>((resolve) => {
        engine.set = async (...args) => {
          resolve();
          await new Promise<void>((go) => release = go);
          return await set(...args);
        };
      });
      const init = { method: "PUT", body: "1", headers: { "content-type": "application/json" } };
      const running = fetch(`${base}/v1/buckets/b/keys/k`, init);
      await asked;
      const closed = server.close();
      expect((await fetch(`${base}/readyz`)).status).toBe(503);
      expect((await fetch(`${base}/livez`)).status).toBe(200);
      const refused = await fetch(`${base}/v1/buckets/b/keys/k`);
      expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
      expect(((await refused.json()) as { code: string }).code).toBe("UNAVAILABLE");
      release();
      expect((await running).status).toBe(204);
      await closed;
      expect(await fetch(`${base}/livez`).then(() => "open", () => "closed")).toBe("closed");
    });
  });
});
