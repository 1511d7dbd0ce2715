/**
 * Subscriptions over HTTP, over a real socket: what comes, in which order, with which ids, and what a reader costs that
 * does not read.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { systemClock } from "../../lib/base/clock.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { Store } from "../../lib/store/store.ts";
import { EVERYONE } from "../../server/auth.ts";
import { Commands } from "../../server/commands.ts";
import { EventStreams } from "../../server/event_streams.ts";
import { Metrics } from "../../server/metrics.ts";
import { serve, type Server, SERVER_LIMITS, type ServerLimits } from "../../server/mod.ts";
import { openMemoryEngine } from "../wire/loopback.ts";
import { EventReader } from "./http_client.ts";

describe("event streams", () => {
  let engine: EmbeddedEngine;
  let store: Store;
  let server: Server;
  const readers: EventReader[] = [];

  async function start(limits: Partial<ServerLimits> = {}): Promise<void> {
    engine = await openMemoryEngine();
    store = new Store(engine);
    server = await serve({ store, port: 0, limits });
  }

  beforeEach(() => start());

  afterEach(async () => {
    for (const reader of readers.splice(0)) reader.close();
    await server.close();
    await engine.close();
  });

  async function open(path: string, lastEventId?: string): Promise<EventReader> {
    const reader = await EventReader.open(`${server.url.replace("ws:", "http:")}${path}`, lastEventId);
    readers.push(reader);
    return reader;
  }

  test("a stream tells of sets, deletes, takes and expiries, with the cursor behind each", async () => {
    const reader = await open("/v1/buckets/b/events");
    const began = await reader.next();
    expect([began.event, began.id]).toEqual(["progress", expect.stringMatching(/\.0$/)]);
    const bucket = store.bucket("b", { codec: "json" });
    await store.bucket("other").set("k", 1);
    await bucket.set("k", { a: 1 });
    await bucket.delete("k");
    await bucket.set("due", 1, { ttl: 20 });
    const events = await reader.take(4);
    const epoch = began.id!.split(".")[0];
    expect(events.map(({ event, id }) => [event, id])).toEqual([
      ["set", `${epoch}.2`],
      ["delete", `${epoch}.3`],
      ["set", `${epoch}.4`],
      ["expire", `${epoch}.5`],
    ]);
    expect(events[0]!.data).toEqual({
      type: "set",
      bucket: "b",
      key: "k",
      revision: 2,
      at: expect.any(Number),
      content: "json",
      value: { a: 1 },
    });
    expect(events[3]!.data).toEqual({ type: "expire", bucket: "b", key: "due", revision: 5, at: expect.any(Number) });
  });

  test("a stream takes a prefix, leaves values out, and shows no single-read value", async () => {
    const reader = await open("/v1/buckets/b/events?prefix=a%2F&values=0");
    const all = await open("/v1/events");
    const bucket = store.bucket("b", { codec: "text" });
    await bucket.set("b/1", "no");
    await bucket.set("a/1", "yes");
    await bucket.set("a/once", "hush", { once: true });
    await bucket.take("a/once");
    const [, ...events] = await reader.take(4);
    expect(events.map(({ data }) => [data["type"], data["key"], data["value"], data["content"]])).toEqual([
      ["set", "a/1", undefined, undefined],
      ["set", "a/once", undefined, undefined],
      ["take", "a/once", undefined, undefined],
    ]);
    const seen = await all.take(5);
    expect(seen.map(({ data }) => data["value"])).toEqual([undefined, "no", "yes", undefined, undefined]);
    expect(seen.map(({ data }) => data["once"])).toEqual([undefined, undefined, undefined, true, undefined]);
  });

  test("a stream takes a key and types of changes", async () => {
    const reader = await open("/v1/buckets/b/events?key=a&types=delete,expire");
    const bucket = store.bucket("b");
    await bucket.set("a", 1);
    await bucket.delete("a");
    await bucket.set("ab", 1);
    await bucket.delete("ab");
    await bucket.set("a", 2, { ttl: 10 });
    const [, ...events] = await reader.take(3);
    expect(events.map(({ event, data }) => [event, data["key"], data["revision"]])).toEqual([
      ["delete", "a", 2],
      ["expire", "a", 6],
    ]);
  });

  test("values with line breaks stay one event", async () => {
    const reader = await open("/v1/events");
    await store.bucket("b", { codec: "text" }).set("k\n\n", "a\n\ndata: {}\r\nid: 9.9");
    await engine.set("b", new Uint8Array([1]), new TextEncoder().encode('{\n"a":\r\n\r\n1}'), { content: 1 });
    const [, text, json] = await reader.take(3);
    expect(text!.data).toMatchObject({ key: "k\n\n", value: "a\n\ndata: {}\r\nid: 9.9" });
    expect(json!.data).toMatchObject({ value: { a: 1 } });
  });

  test("a snapshot comes first, without ids, then synced, then what changes", async () => {
    const bucket = store.bucket("b", { codec: "json" });
    for (let index = 0; index < 3; index++) await bucket.set(`k${index}`, index);
    const reader = await open("/v1/buckets/b/events?snapshot=1");
    const entries = await reader.take(4);
    expect(entries.map(({ event, id }) => [event, id])).toEqual([
      ["set", undefined],
      ["set", undefined],
      ["set", undefined],
      ["synced", expect.stringMatching(/\.3$/)],
    ]);
    await bucket.set("k3", 3);
    expect((await reader.next()).id).toBe(entries[3]!.id!.replace(/3$/, "4"));
  });

  test("a reader that comes back with Last-Event-ID misses nothing and sees nothing twice", async () => {
    const bucket = store.bucket("b", { codec: "json" });
    const total = 2_000;
    const writing = (async () => {
      for (let index = 0; index < total; index++) await bucket.set(`k${index % 7}`, index);
    })();
    const seen: unknown[] = [];
    let last: string | undefined;
    while (seen.length < total) {
      const reader = await open("/v1/buckets/b/events?snapshot=1", last ?? `${(await epoch())}.0`);
      for (let count = 0; count < 97 && seen.length < total; count++) {
        const event = await reader.next();
        if (event.event === "set") seen.push(event.data["value"]);
        last = event.id ?? last;
      }
      reader.close();
    }
    await writing;
    expect(seen).toEqual(Array.from({ length: total }, (_, index) => index));
  });

  async function epoch(): Promise<string> {
    const reader = await open("/v1/events");
    return (await reader.next()).id!.split(".")[0]!;
  }

  test("a batch has one id, behind its last event", async () => {
    const reader = await open("/v1/events");
    const began = await reader.next();
    const bucket = store.bucket("b");
    await store.atomic().set(bucket, "a", 1).set(bucket, "b", 2).set(bucket, "c", 3).commit();
    const events = await reader.take(3);
    expect(events.map(({ id, data }) => [id, data["more"]])).toEqual([
      [undefined, true],
      [undefined, true],
      [began.id!.replace(/0$/, "3"), undefined],
    ]);
  });

  test("a cursor that is too old says resync, and begins anew where a snapshot was asked for", async () => {
    await store.bucket("b", { codec: "json" }).set("k", 1);
    const reader = await open("/v1/events?from=other.1");
    const told = await reader.next();
    expect([told.event, told.id]).toEqual(["resync", ""]);
    await reader.ended;
    const anew = await open("/v1/events?snapshot=1", "other.1");
    expect((await anew.take(3)).map(({ event }) => event)).toEqual(["resync", "set", "synced"]);
    expect(server.stats()["server.resyncs"]).toBe(2);
  });

  test("what cannot be subscribed to is refused before it begins", async () => {
    const base = server.url.replace("ws:", "http:");
    for (
      const path of [
        "/v1/events?prefix=a",
        "/v1/buckets/B/events",
        "/v1/buckets/b/events?snapshot=2",
        "/v1/buckets/b/events?types=set,get",
        "/v1/buckets/b/events?types=",
        "/v1/buckets/b/events?key=a&prefix=a",
        "/v1/buckets/b/events?key=",
      ]
    ) {
      const response = await fetch(`${base}${path}`);
      expect([path, response.status]).toEqual([path, 400]);
      await response.text();
    }
    expect(server.stats()["server.streams"]).toBe(0);
  });

  test("streams that are left are forgotten, and too many are refused", async () => {
    await server.close();
    await engine.close();
    await start({ streamsMax: 2 });
    const [first] = [await open("/v1/events"), await open("/v1/events")];
    const refused = await fetch(`${server.url.replace("ws:", "http:")}/v1/events`);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
    await refused.text();
    first.close();
    await until(() => server.stats()["server.streams"] === 1);
    await open("/v1/events");
    expect((await engine.stats())["subscriptions"]).toBe(2);
  });

  test("a reader that does not read is cut off, and costs no more than what is under way", async () => {
    await server.close();
    await engine.close();
    await start({ outboundMs: 200 });
    const socket = connect(server.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await new Promise((resolve) => socket.once("readable", resolve));
    socket.pause();
    const quick = await open("/v1/events?values=0");
    await quick.next();
    const bucket = store.bucket("b", { codec: "bytes" });
    const value = new Uint8Array(500_000);
    // The system takes some megabytes before it says stop.
    const written = 40;
    for (let index = 0; index < written; index++) await bucket.set(`k${index % 4}`, value);
    await until(() => server.stats()["server.slowReaders"] === 1);
    expect(server.stats()["server.streams"]).toBe(1);
    for (let index = 0; index < written; index++) expect((await quick.next()).data["revision"]).toBe(index + 1);
    // What it was sent is what the system took, not what happened.
    expect(server.stats()["server.bytesOut"]!).toBeLessThan(written * 660_000 / 2);
    socket.destroy();
  });

  test("a stream that fails inside is cut and touches no other", async () => {
    const failing: Engine = engine;
    const subscribe = failing.subscribe.bind(failing);
    let breakIt = (): void => {};
    engine.subscribe = (query) => {
      const source = subscribe(query);
      if (query.bucket !== "broken") return source;
      source.next = () => new Promise((_, reject) => breakIt = () => reject(new Error("broken")));
      return source;
    };
    const [broken, whole] = [await open("/v1/buckets/broken/events"), await open("/v1/buckets/b/events")];
    await broken.next();
    await whole.next();
    breakIt();
    expect((await broken.next()).event).toBe("ended");
    await broken.ended;
    await store.bucket("b").set("k", 1);
    expect((await whole.next()).event).toBe("set");
  });

  test("EventStreams.check() ends the streams of who has expired, whether they are read or not", async () => {
    const metrics = new Metrics(systemClock);
    const gate = { addressOf: (_: Headers, address: string): string => address, placeOf: () => undefined };
    const shared = { limits: SERVER_LIMITS, clock: systemClock, metrics, gate, onFailure: () => {} };
    const streams = new EventStreams({ ...shared, commands: new Commands({ ...shared, engine }) });
    const principal = { ...EVERYONE, expiresAt: Infinity };
    const [read, unread, other] = await Promise.all(
      [principal, principal, EVERYONE].map((one) => {
        return streams.open({ principal: one, headers: new Headers(), remoteAddress: "::1" }, { values: true });
      }),
    );
    const reader = read!.body!.getReader() as ReadableStreamDefaultReader<Uint8Array>;
    await reader.read();
    const last = reader.read();
    await new Promise((resolve) => setTimeout(resolve, 0)); // a runtime may ask for more a moment later
    streams.check();
    expect(metrics.streams).toBe(3);
    principal.expiresAt = 0;
    streams.check();
    expect(new TextDecoder().decode((await last).value)).toMatch(/^id: (.+)\nevent: ended\ndata: {"cursor":"\1"}\n\n$/);
    expect((await reader.read()).done).toBe(true);
    expect(await unread!.body!.getReader().read().then(() => "whole", () => "cut")).toBe("cut");
    expect(metrics.streams).toBe(1);
    await other!.body!.cancel();
  });

  test("Server.close() ends streams at their cursor, from where they go on", async () => {
    const bucket = store.bucket("b", { codec: "json" });
    const reader = await open("/v1/buckets/b/events");
    await reader.next();
    await bucket.set("k", 1);
    await reader.next();
    await server.close();
    const ended = await reader.next();
    expect(ended.event).toBe("ended");
    expect(ended.data).toEqual({ cursor: ended.id });
    await reader.ended;
    await bucket.set("k", 2);
    server = await serve({ store, port: 0 });
    expect((await (await open("/v1/buckets/b/events", ended.id)).next()).data).toMatchObject({ revision: 2, value: 2 });
  });
});

/** Looks until it is so. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
}
