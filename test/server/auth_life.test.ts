/**
 * How long somebody is let in, and how many: on each transport of this runtime, over real sockets.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { OP, SUBPROTOCOL } from "../../lib/wire/protocol.ts";
import { Store } from "../../lib/store/store.ts";
import { openTokens, type Scope, serve, type ServeOptions, type Server, type Tokens } from "../../server/mod.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { openMemoryEngine, settled } from "../wire/loopback.ts";
import { EchoClient, type EchoClientOptions } from "./fixtures/echo_client.ts";
import { hello, outcomeOf, statusOf } from "./fixtures/intruder.ts";
import { TRANSPORTS } from "./fixtures/vault.ts";
import { EventReader } from "./http_client.ts";
import { framesOf, type Item, message } from "./peer.ts";

const ALL: readonly Scope[] = [{ buckets: "*", rights: ["read", "write", "subscribe", "admin"] }];
const SUBSCRIBE: Item[] = [OP.subscribe, 2, "b", null, null, null, true, false, null, null];

for (const transport of TRANSPORTS) {
  describe(`Tokens and limits over ${transport}`, () => {
    let folder: string;
    let path: string;
    let engine: EmbeddedEngine;
    let tokens: Tokens;
    let server: Server;
    let token: string;
    const clients: EchoClient[] = [];

    beforeEach(async () => {
      folder = mkdtempSync(join(tmpdir(), "firkin-life-"));
      path = join(folder, "tokens.json");
      tokens = openTokens(path);
      token = (await tokens.create({ name: "web", scopes: ALL })).token;
      engine = await openMemoryEngine();
    });

    afterEach(async () => {
      for (const client of clients.splice(0)) client.destroy();
      await server.close();
      await engine.close();
      rmSync(folder, { recursive: true });
    });

    async function start(options: Partial<ServeOptions> = {}): Promise<void> {
      server = await serve({ store: new Store(engine), port: 0, transport, auth: tokens, ...options });
    }

    async function open(options: EchoClientOptions = {}): Promise<EchoClient> {
      const client = await EchoClient.open(server.port, { protocols: [SUBPROTOCOL], ...options });
      clients.push(client);
      return client;
    }

    /** A client that has been let in and subscribes. */
    async function enter(secret: string): Promise<EchoClient> {
      const client = await open();
      client.send(message(hello(secret), SUBSCRIBE));
      for (let answered = 0; answered < 2;) answered += framesOf(await client.next()).length;
      return client;
    }

    /** How long after `cause` the connection is closed with 4401, in milliseconds. */
    async function lifeAfter(client: EchoClient, cause: () => Promise<unknown>): Promise<number> {
      const beganAt = systemClock.monotonic();
      await cause();
      expect((await client.closed).code).toBe(4401);
      return systemClock.monotonic() - beganAt;
    }

    test("a revoked token's connections are closed at once, others are not, and nothing more is sent", async () => {
      await start();
      const other = await enter((await tokens.create({ name: "other", scopes: ALL })).token);
      const client = await enter(token);
      const life = await lifeAfter(client, async () => {
        await tokens.revoke("web");
        await engine.set("b", bytesOf("k"), bytesOf("v"), { content: CONTENT.text });
      });
      expect(life).toBeLessThan(1_000);
      expect(framesOf(await other.next())[0]!.slice(0, 4)).toEqual([2, 1, 1, "b"]);
      expect(await client.next().then(() => "event", () => "nothing")).toBe("nothing");
      expect(await outcomeOf(server.port, { messages: [[hello(token)]] })).toBe("close 4401");
    });

    test("a token that another process revokes or creates is known within a second", async () => {
      await start();
      const client = await enter(token);
      const elsewhere = openTokens(path);
      let fresh = "";
      const life = await lifeAfter(client, async () => {
        await elsewhere.revoke("web");
        fresh = (await elsewhere.create({ name: "fresh", scopes: ALL })).token;
      });
      expect(life).toBeLessThan(1_000);
      expect(await outcomeOf(server.port, { messages: [[hello(fresh)]] })).toBe("let in");
    });

    test("a connection is closed within a second of the end of its token", async () => {
      await start();
      const ending = await tokens.create({ name: "ending", scopes: ALL, expiresAt: Date.now() + 300 });
      const client = await enter(ending.token);
      expect(await lifeAfter(client, () => Promise.resolve())).toBeLessThan(1_300);
    });

    /** An event stream, whose first event has come. */
    async function listen(secret: string): Promise<EventReader> {
      const reader = await EventReader.open(`http://127.0.0.1:${server.port}/v1/events`, undefined, secret);
      await reader.next();
      return reader;
    }

    /** How long after `cause` the stream is over, in milliseconds; its last word is its cursor. */
    async function streamLifeAfter(reader: EventReader, cause: () => Promise<unknown>): Promise<number> {
      const beganAt = systemClock.monotonic();
      await cause();
      const { event, id, data } = await reader.next();
      expect([event, data]).toEqual(["ended", { cursor: id! }]);
      await reader.ended;
      return systemClock.monotonic() - beganAt;
    }

    test("a revoked token's event streams end at once, others go on, and nothing more is sent", async () => {
      await start();
      const other = await listen((await tokens.create({ name: "other", scopes: ALL })).token);
      const reader = await listen(token);
      const life = await streamLifeAfter(reader, async () => {
        await tokens.revoke("web");
        await engine.set("b", bytesOf("k"), bytesOf("v"), { content: CONTENT.text });
      });
      expect(life).toBeLessThan(1_000);
      expect((await other.next()).data).toMatchObject({ bucket: "b", key: "k" });
      other.close();
      expect(await listen(token).catch((error: unknown) => String(error))).toContain("401");
    });

    test("an event stream ends within a second of its token, whoever ends that", async () => {
      await start();
      const ending = await tokens.create({ name: "ending", scopes: ALL, expiresAt: Date.now() + 300 });
      const [brief, revoked] = [await listen(ending.token), await listen(token)];
      expect(await streamLifeAfter(brief, () => Promise.resolve())).toBeLessThan(1_300);
      expect(await streamLifeAfter(revoked, () => openTokens(path).revoke("web"))).toBeLessThan(1_000);
      expect(server.stats()["server.streams"]).toBe(0);
    });

    test("a file that is broken meanwhile is told of once, and changes nobody", async () => {
      const failures: string[] = [];
      await start({
        onEvent: (event) => void (event.type === "failure" && failures.push((event.error as Error).message)),
      });
      const client = await enter(token);
      const text = readFileSync(path, "utf8");
      writeFileSync(path, text.slice(0, 50));
      while (failures.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      client.send(message([OP.ping, 9]));
      expect(framesOf(await client.next())).toEqual([[0, 9]]);
      expect(failures).toEqual([`Cannot read ${path}: it is not JSON`]);
      writeFileSync(path, text);
    });

    test("an address that has brought ten wrong tokens in a minute is refused, with the right one too", async () => {
      await start();
      for (let index = 0; index < 4; index++) {
        expect(await outcomeOf(server.port, { messages: [[hello("wrong")]] })).toBe("close 4401");
        expect(await outcomeOf(server.port, { headers: ["Authorization: Bearer wrong"] })).toBe("http 401");
      }
      const early = await open();
      const inside = await enter(token);
      const ask = (): Promise<number> =>
        statusOf(
          server.port,
          `POST /v1/tickets HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Length: 0\r\n` +
            `Authorization: Bearer wrong\r\n\r\n`,
        );
      expect([await ask(), await ask(), await ask()]).toEqual([401, 401, 429]);
      expect(await outcomeOf(server.port, { headers: [`Authorization: Bearer ${token}`] })).toBe("http 429");
      for (const path of ["/v1/buckets/b/keys/k", "/metrics"]) {
        const refused = await fetch(`http://127.0.0.1:${server.port}${path}`, {
          headers: { authorization: `Bearer ${token}` },
        });
        expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "60"]);
        expect(await refused.json()).toMatchObject({ code: "BUSY" });
      }
      // One that came before is not heard any more; one that is inside is.
      early.send(message(hello(token)));
      expect((await early.closed).code).toBe(4429);
      inside.send(message([OP.ping, 9]));
      expect(framesOf(await inside.next())).toEqual([[0, 9]]);
      expect(await (await fetch(`http://127.0.0.1:${server.port}/livez`)).text()).toBe("ok");
    });

    test("an address has 20 connections that have not said hello, and 256 in all", async () => {
      await start({ limits: { connectionsPerAddressMax: 25 } });
      const silent = await Promise.all(Array.from({ length: 20 }, () => open()));
      expect((await open()).status).toBe(429);
      const named = { headers: [`Authorization: Bearer ${token}`] };
      for (const client of await Promise.all([1, 2, 3, 4, 5].map(() => open(named)))) expect(client.status).toBe(101);
      expect((await open(named)).status).toBe(429);
      silent[0]!.send(message(hello(token)));
      await silent[0]!.next();
      expect((await open()).status).toBe(429);
      silent[1]!.close(1000);
      await silent[1]!.closed;
      let status = 429;
      while (status === 429) status = (await open()).status; // as soon as the server has seen it
      expect(status).toBe(101);
    });

    test("a server has connectionsMax connections in all, whoever they are", async () => {
      await start({ limits: { connectionsMax: 3 } });
      for (let index = 0; index < 3; index++) expect((await open()).status).toBe(101);
      expect((await open({ headers: [`Authorization: Bearer ${token}`] })).status).toBe(503);
    });

    test("a trusted proxy's clients are counted one by one, and nobody else's word is taken for it", async () => {
      await start({ trustedProxies: ["127.0.0.1"], limits: { connectionsPerAddressMax: 1 } });
      const from = (addresses: string): Promise<EchoClient> => open({ headers: [`X-Forwarded-For: ${addresses}`] });
      expect((await from("10.0.0.1")).status).toBe(101);
      expect((await from("10.0.0.1")).status).toBe(429);
      expect((await from("10.0.0.9, 10.0.0.1")).status).toBe(429);
      expect((await from("10.0.0.1, 10.0.0.2")).status).toBe(101);
      expect((await from("10.0.0.3, 127.0.0.1")).status).toBe(101);
      expect((await open()).status).toBe(101);
      expect((await from("nonsense")).status).toBe(429);
      await server.close();
      await start({ limits: { connectionsPerAddressMax: 1 } });
      expect((await from("10.0.0.1")).status).toBe(101);
      expect((await from("10.0.0.2")).status).toBe(429);
    });

    test("an address has so many event streams, and who leaves one makes room for the next", async () => {
      await start({ trustedProxies: ["127.0.0.1"], limits: { streamsPerAddressMax: 2, streamsMax: 4 } });
      const streams: AbortController[] = [];
      // A runtime may end a response that nobody holds any more.
      const held: Response[] = [];
      const from = async (address: string): Promise<number> => {
        const left = new AbortController();
        const headers = { "authorization": `Bearer ${token}`, "x-forwarded-for": address };
        const response = await fetch(`http://127.0.0.1:${server.port}/v1/events`, { headers, signal: left.signal });
        if (response.status !== 200) await response.text();
        else {
          streams.push(left);
          held.push(response);
        }
        return response.status;
      };
      expect([await from("10.0.0.1"), await from("10.0.0.1")]).toEqual([200, 200]);
      expect([await from("10.0.0.1"), await from("10.0.0.9, 10.0.0.1")]).toEqual([429, 429]);
      // A house has half of the address; and there is a limit for all.
      expect([await from("2001:db8::1"), await from("2001:db8::2")]).toEqual([200, 200]);
      expect([await from("2001:db8::3"), await from("10.0.0.2")]).toEqual([429, 429]);
      streams[0]!.abort();
      streams[2]!.abort();
      let status = 429;
      while (status === 429) status = await from("10.0.0.1"); // as soon as the server has seen it
      expect([status, await from("10.0.0.1")]).toEqual([200, 429]);
      for (const stream of streams) stream.abort();
      // Until the server has seen it, which the limit of the test bounds.
      while (server.stats()["server.streams"]! > 0) await settled();
      expect([await from("10.0.0.1"), await from("10.0.0.1"), await from("10.0.0.1")]).toEqual([200, 200, 429]);
      for (const stream of streams) stream.abort();
    });

    test("a ticket is for the address that asked for it", async () => {
      await start({ trustedProxies: ["127.0.0.1"] });
      const ticket = async (): Promise<string> => {
        const response = await fetch(`http://127.0.0.1:${server.port}/v1/tickets`, {
          method: "POST",
          headers: { "authorization": `Bearer ${token}`, "x-forwarded-for": "10.0.0.1" },
        });
        return (await response.json() as { ticket: string }).ticket;
      };
      const from = async (address: string): Promise<number> => {
        const path = `/?ticket=${await ticket()}`;
        return (await open({ path, headers: [`X-Forwarded-For: ${address}`] })).status;
      };
      expect([await from("10.0.0.1"), await from("10.0.0.2"), await from("10.0.0.1, 127.0.0.1")]).toEqual([
        101,
        401,
        101,
      ]);
    });
  });
}
