/**
 * Spans of commands, as an application's SDK gets them; and none where there is no SDK.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { context, propagation, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { connect } from "../../lib/store/connect.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { serve, type Server, Tokens } from "../../server/mod.ts";
import { openTracing } from "../../server/tracing.ts";
import { errorCode } from "../suites/fs.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";

describe("tracing", () => {
  let exporter: InMemorySpanExporter;
  let store: Store;
  let server: Server;
  let tokens: Tokens;
  let token: string;

  beforeEach(async () => {
    exporter = new InMemorySpanExporter();
    trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
    propagation.setGlobalPropagator(new W3CTraceContextPropagator());
    store = await open(":memory:");
    tokens = new Tokens();
    const scopes = [{ buckets: "secrets", rights: ["read", "write", "subscribe"] }] as const;
    token = (await tokens.create({ name: "web", scopes })).token;
    server = await serve({ store, port: 0, auth: tokens });
  });
  afterEach(async () => {
    await server.close();
    await store.close();
    for (const api of [trace, propagation, context]) api.disable();
  });

  function ask(path: string, headers: Record<string, string>, init: RequestInit = {}): Promise<Response> {
    const url = `${server.url.replace("ws:", "http:")}${path}`;
    return fetch(url, { ...init, headers: { authorization: `Bearer ${token}`, ...headers } });
  }

  test("each command is a span with its name, bucket, sync policy and error, and no key or value", async () => {
    const client = await connect(server.url, { token });
    const bucket = client.bucket("secrets");
    await bucket.set("the-key", "the-value");
    await bucket.get("the-key");
    expect(await errorCode(() => client.bucket("others").get("the-key"))).toBe("FORBIDDEN");
    await client.close();
    const spans = exporter.getFinishedSpans();
    expect(spans.map(({ name, kind, status, attributes }) => [name, kind, status.code, attributes])).toEqual([
      ["set secrets", SpanKind.SERVER, SpanStatusCode.UNSET, {
        "db.system.name": "firkin",
        "db.operation.name": "set",
        "db.collection.name": "secrets",
        "firkin.sync": "always",
      }],
      ["get secrets", SpanKind.SERVER, SpanStatusCode.UNSET, expect.objectContaining({ "db.operation.name": "get" })],
      ["get others", SpanKind.SERVER, SpanStatusCode.ERROR, expect.objectContaining({ "error.type": "FORBIDDEN" })],
    ]);
    expect(spans.every(({ parentSpanContext }) => parentSpanContext === undefined)).toBe(true);
    const told = JSON.stringify(
      spans.map(({ name, attributes, status, events }) => [name, attributes, status, events]),
    );
    expect(told).not.toContain("the-");
  });

  test("over HTTP a span belongs to its request's trace, and credentials may be revoked meanwhile", async () => {
    const traceparent = `00-${TRACE}-${PARENT}-01`;
    const json = { "content-type": "application/json" };
    await ask("/v1/buckets/secrets/keys/k", { traceparent, ...json }, { method: "PUT", body: "1" });
    await ask("/v1/buckets/secrets/keys/k", { traceparent: "nonsense" });
    const [set, get] = exporter.getFinishedSpans();
    expect([set!.name, set!.spanContext().traceId, set!.parentSpanContext?.spanId]).toEqual([
      "set secrets",
      TRACE,
      PARENT,
    ]);
    expect(get!.parentSpanContext).toBeUndefined();
    const me = await (await ask("/v1/me", { traceparent })).json();
    expect(me).toMatchObject({ name: "web", scopes: [{ buckets: "secrets" }] });
    const stream = (await ask("/v1/buckets/secrets/events", { traceparent })).body!.getReader();
    await stream.read();
    await tokens.revoke("web");
    let last = "";
    for (let piece = await stream.read(); !piece.done; piece = await stream.read()) {
      last += new TextDecoder().decode(piece.value);
    }
    expect(last).toContain("event: ended");
  });

  test("a span is named by nothing that cannot be a bucket's name", async () => {
    await ask(`/v1/buckets/${"Y".repeat(500)}/keys/k`, {});
    const [span] = exporter.getFinishedSpans();
    expect([span!.name, span!.attributes]).toEqual([
      "peek",
      { "db.system.name": "firkin", "db.operation.name": "peek", "firkin.sync": "always", "error.type": "FORBIDDEN" },
    ]);
  });

  test("over a WebSocket each command begins a trace, also when its ticket was drawn within one", async () => {
    const traceparent = `00-${TRACE}-${PARENT}-01`;
    const { ticket } = await (await ask("/v1/tickets", { traceparent }, { method: "POST" })).json() as {
      ticket: string;
    };
    const client = await connect(`${server.url}/?ticket=${ticket}`);
    await client.bucket("secrets").get("k");
    await client.close();
    const [get] = exporter.getFinishedSpans();
    expect([get!.name, get!.parentSpanContext]).toEqual(["get secrets", undefined]);
  });

  test("is not there without an SDK", async () => {
    const told: string[] = [];
    trace.disable();
    expect(await openTracing("always", (message) => told.push(message))).toBeUndefined();
    expect(told).toEqual([]);
  });
});
