/**
 * Many connections, a tenth of which never read: they are cut, and nobody else notices.
 *
 * `CONNECTIONS` are 1,000 on Bun, and fewer where others have shown it already.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import process from "node:process";
import { connect } from "../../lib/store/connect.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { OP, SUBPROTOCOL } from "../../lib/wire/protocol.ts";
import { serve, type Server } from "../../server/mod.ts";
import { EchoClient } from "./fixtures/echo_client.ts";
import { framesOf, message } from "./peer.ts";

const { env, versions } = process;
const CONNECTIONS = Number(env["CONNECTIONS"] ?? (versions["bun"] === undefined ? 200 : 1_000));
const MUTE = CONNECTIONS / 10;
/** Opened at once, within what a system keeps waiting. */
const OPENING = 100;
const VALUE_BYTES = 256 * 1_024;
/** What a reader may leave, and for how long. */
const LIMITS = { outboundBytesMax: 64 * 1_024, outboundMs: 500, connectionsMax: CONNECTIONS + 10 };
/** From the first event on. */
const CUT_MS_MAX = 10_000;

describe("serve()", () => {
  let store: Store;
  let server: Server;
  const clients: EchoClient[] = [];
  beforeEach(async () => {
    store = await open({ path: ":memory:", valueBytesMax: VALUE_BYTES });
    server = await serve({ store, port: 0, limits: LIMITS });
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy();
    await server.close();
    await store.close();
  });

  /** A connection that has said hello, and what it asks then. */
  async function openClient(...frames: Parameters<typeof message>): Promise<EchoClient> {
    const client = await EchoClient.open(server.port, { protocols: [SUBPROTOCOL] });
    clients.push(client);
    client.send(message([OP.hello, 1, 1, null], ...frames));
    await client.next();
    return client;
  }

  async function openMany(count: number, openOne: () => Promise<EchoClient>): Promise<EchoClient[]> {
    const all: EchoClient[] = [];
    while (all.length < count) {
      all.push(...await Promise.all(Array.from({ length: Math.min(OPENING, count - all.length) }, openOne)));
    }
    return all;
  }

  test("serve() cuts readers that never read, and no others", async () => {
    const idle = await openMany(CONNECTIONS - MUTE, () => openClient());
    const subscribe = [OP.subscribe, 2, "b", null, null, null, true, false, null, null];
    for (const client of await openMany(MUTE, () => openClient(subscribe))) client.pause();
    const reader = await connect(server.url);
    const subscription = reader.bucket<Uint8Array>("b").subscribe();
    await subscription.ready;
    const heard: number[] = [];
    const listening = subscription.forEach((event) => {
      if ("revision" in event) heard.push(event.revision);
    });

    const bucket = store.bucket<Uint8Array>("b", { codec: "bytes" });
    const began = performance.now();
    const written: number[] = [];
    while (server.stats()["server.slowReaders"]! < MUTE && performance.now() - began < CUT_MS_MAX) {
      const result = await bucket.set("k", new Uint8Array(VALUE_BYTES));
      if (result.ok) written.push(result.revision);
      // The reader keeps up, and the clock goes on.
      while (heard.length < written.length) await new Promise((resolve) => setTimeout(resolve, 1));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(server.stats()["server.slowReaders"]).toBe(MUTE);
    expect(server.stats()["server.connections"]).toBe(CONNECTIONS - MUTE + 1);
    expect(heard).toEqual(written);

    // Whoever did nothing is still there.
    for (const client of idle) client.send(message([OP.ping, 3]));
    for (const client of idle) expect(framesOf(await client.next())).toEqual([[0, 3]]);
    subscription.close();
    await listening;
    await reader.close();
  });
});
