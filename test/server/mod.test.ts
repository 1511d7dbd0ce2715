import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { connect as connectTls } from "node:tls";
import { WebSocket } from "ws";
import { systemClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { connectEngine, type RemoteEngine } from "../../lib/engine/remote.ts";
import { Store } from "../../lib/store/store.ts";
import { serve, type Server, type ServerLimits, Tokens } from "../../server/mod.ts";
import { makeCertificate, OPENSSL } from "../suites/certificate.ts";
import { bytesOf, take, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";
import { openMemoryEngine } from "../wire/loopback.ts";
import { statusOf } from "./fixtures/intruder.ts";

describe("serve()", () => {
  let engine: EmbeddedEngine;
  let server: Server;

  beforeEach(async () => {
    engine = await openMemoryEngine();
    server = await serve({ store: new Store(engine), port: 0 });
  });

  afterEach(async () => {
    await server.close();
    await engine.close();
  });

  function connect(): Promise<RemoteEngine> {
    return connectEngine(server.url, {
      openSocket: (url, protocols) => new WebSocket(url, protocols, { perMessageDeflate: false }),
      clock: systemClock,
    });
  }

  /** The status that refuses a handshake. */
  function refusal(protocols: string[], headers: Record<string, string> = {}): Promise<number | undefined> {
    return new Promise((resolve) => {
      const socket = new WebSocket(server.url, protocols, { headers });
      socket.on("unexpected-response", (_, { statusCode }) => {
        resolve(statusCode);
        socket.terminate();
      });
      socket.on("open", () => {
        resolve(undefined);
        socket.terminate();
      });
      socket.on("error", () => {});
    });
  }

  test("serve() carries requests, events and megabytes", async () => {
    const client = await connect();
    const subscription = client.subscribe({ bucket: "b" });
    await subscription.ready;
    const value = new Uint8Array(1_000_000).fill(7);
    const keys = Array.from({ length: 20 }, (_, index) => bytesOf(`k${index}`));
    await Promise.all(keys.map((key) => client.set("b", key, value, { content: CONTENT.bytes })));
    const entries = await Promise.all([...keys, ...keys].map((key) => client.get("b", key)));
    expect(entries.every((entry) => entry!.value.length === 1_000_000 && entry!.value[999_999] === 7)).toBe(true);
    const events = await take(subscription, 20);
    expect(events.map((event) => "key" in event && textOf(event.key))).toEqual(keys.map(textOf));
    expect(server.stats()["server.connections"]).toBe(1);
    expect((await client.stats())["server.op.set"]).toBe(20);
    await client.close();
  });

  test("serve() refuses an address that is not loopback", async () => {
    for (const hostname of ["0.0.0.0", "::", "192.168.1.1", "example.org", "127.0.0.1.example.org", ""]) {
      expect([hostname, await errorCode(() => serve({ store: new Store(engine), port: 0, hostname }))]).toEqual([
        hostname,
        "FORBIDDEN",
      ]);
    }
  });

  test("serve() listens beyond loopback with tokens, and TLS or what stands for it", async () => {
    const store = new Store(engine);
    const auth = new Tokens();
    await auth.create({ name: "web", scopes: [{ buckets: "*", rights: ["read"] }] });
    const events: unknown[] = [];
    const onEvent = (event: unknown): void => void events.push(event);
    const base = { store, port: 0, hostname: "0.0.0.0", allowedHosts: ["firkin.example"], onEvent };
    const tls = { certFile: "/nowhere/cert.pem", keyFile: "/nowhere/key.pem" };
    expect(await errorCode(() => serve({ ...base, insecureNoTls: true }))).toBe("FORBIDDEN");
    expect(await errorCode(() => serve({ ...base, tls }))).toBe("FORBIDDEN");
    expect(await errorCode(() => serve({ ...base, trustedProxies: ["10.0.0.1"] }))).toBe("FORBIDDEN");
    expect(await errorCode(() => serve({ ...base, auth }))).toBe("FORBIDDEN");
    expect(await errorCode(() => serve({ ...base, auth, trustedProxies: [] }))).toBe("FORBIDDEN");
    expect(await errorCode(() => serve({ ...base, auth, tls }))).toBe("IO");
    expect(events).toEqual([]);
    const proxied = await serve({ ...base, auth, trustedProxies: ["10.0.0.1"] });
    const at = (host: string): Promise<number> =>
      statusOf(proxied.port, `GET /livez HTTP/1.1\r\nHost: ${host}:${proxied.port}\r\n\r\n`);
    expect([await at("127.0.0.1"), await at("firkin.example"), await at("0.0.0.0")]).toEqual([200, 200, 403]);
    await proxied.close();
    expect(events).toEqual([]);
    await (await serve({ ...base, auth, insecureNoTls: true, allowedHosts: [] })).close();
    expect(events).toEqual([
      { type: "insecure", message: "tokens and values travel in the clear to 0.0.0.0" },
      { type: "unnamed", message: expect.stringMatching(/^answers to this machine's own names alone/) },
    ]);
  });

  test("serve() refuses limits that nobody could keep", async () => {
    for (const limits of [{ idleMs: 0 }, { helloMs: NaN }, { connectionsMax: -1 }]) {
      const thrown = await serve({ store: new Store(engine), port: 0, limits }).catch((error: unknown) => error);
      expect(thrown).toBeInstanceOf(RangeError);
    }
  });

  test("serve() refuses limits that contradict one another", async () => {
    let thrown: unknown;
    await serve({ store: new Store(engine), port: 0, limits: { messageBytesMax: 10_000 } }).catch((error: unknown) =>
      thrown = error
    );
    expect(thrown).toBeInstanceOf(RangeError);
  });

  test("serve() takes no batch that a message or the store cannot hold", async () => {
    const told = async (limits: Partial<ServerLimits>): Promise<number[]> => {
      await server.close();
      server = await serve({ store: new Store(engine), port: 0, limits });
      const client = await connect();
      const { batchOperationsMax, batchBytesMax } = client.limits;
      await client.close();
      return [batchOperationsMax, batchBytesMax];
    };
    expect(await told({})).toEqual([1_000, 1_048_576]);
    expect(await told({ batchOperationsMax: 5_000, batchBytesMax: 2 ** 30 })).toEqual([1_000, 1_048_576]);
    expect(await told({ valueBytesMax: 1_000, messageBytesMax: 200_000, batchOperationsMax: 100 })).toEqual([
      100,
      200_000 - 1_024 - 100 * 160,
    ]);
  });

  test("serve() refuses a port that is in use", async () => {
    expect(await errorCode(() => serve({ store: new Store(engine), port: server.port }))).toBe("UNAVAILABLE");
  });

  test("serve() answers /livez and the dashboard, for hosts it knows", async () => {
    const base = server.url.replace("ws:", "http:");
    expect(await (await fetch(`${base}/livez`)).text()).toBe("ok");
    expect((await fetch(`${base}/nothing`)).status).toBe(404);
    expect((await fetch(`${base}/livez`, { headers: { origin: "https://example.org" } })).status).toBe(403);
  });

  test("serve() refuses handshakes without the subprotocol or from elsewhere", async () => {
    expect(await refusal(["firkin.v2.cbor"])).toBe(400);
    expect(await refusal(["firkin.v1.cbor"], { origin: "https://example.org" })).toBe(403);
    expect(await refusal(["firkin.v1.cbor"], { host: "example.org" })).toBe(403);
    expect(await refusal(["firkin.v1.cbor"], { origin: server.url.replace("ws:", "http:") })).toBeUndefined();
  });

  test("Server.reloadTls() refuses where there is no TLS, and when the server is closed", async () => {
    expect(await server.reloadTls().catch((error: unknown) => error)).toBeInstanceOf(TypeError);
    await server.close();
    expect(await errorCode(() => server.reloadTls())).toBe("CLOSED");
  });

  // Deno takes up no other certificate.
  const testReload = "Deno" in globalThis ? () => {} : test.skipIf(OPENSSL === undefined);
  testReload(
    "Server.reloadTls() goes on as before when the port is refused, and closes when it is not to be had again",
    async () => {
      const ports = await refusals();
      const [first, second] = [makeCertificate(), makeCertificate()];
      const store = new Store(engine);
      const other = await serve({ store, port: 0, tls: first, redis: { port: 0 } });
      try {
        copyFileSync(second.certFile, first.certFile);
        copyFileSync(second.keyFile, first.keyFile);
        ports.refuse(1);
        expect(await errorCode(() => other.reloadTls())).toBe("UNAVAILABLE");
        const redisPort = Number(new URL(other.redisUrl!).port);
        expect([await isTrusted(other.port, first.ca), await isTrusted(redisPort, first.ca)]).toEqual([true, true]);
        await other.reloadTls();
        expect([await isTrusted(other.port, second.ca), await isTrusted(redisPort, second.ca)]).toEqual([true, true]);
        ports.refuse(2);
        expect(await errorCode(() => other.reloadTls())).toBe("CLOSED");
        expect([await isTrusted(other.port, second.ca), await isTrusted(redisPort, second.ca)]).toEqual([false, false]);
      } finally {
        ports.restore();
        await other.close();
        first.remove();
        second.remove();
      }
    },
  );

  test("Server.close() closes once, however often it is called", async () => {
    const first = server.close();
    expect(server.close()).toBe(first);
    await first;
    await server.close();
  });

  test("Server.close() answers what runs and closes connections so that they come back", async () => {
    // On a port that was asked for by number: one that the system chose may not be taken again at once
    // (uWebSockets.js).
    await server.close();
    server = await serve({ store: new Store(engine), port: server.port });
    const client = await connect();
    const write = client.set("b", bytesOf("k"), bytesOf("v"), { content: CONTENT.text });
    await client.get("b", bytesOf("k"));
    await server.close();
    expect((await write).ok).toBe(true);
    server = await serve({ store: new Store(engine), port: server.port });
    // The client may not have heard yet: then what it asks is lost with the connection, and asked again.
    const entry = await client.get("b", bytesOf("k")).catch(() => client.get("b", bytesOf("k")));
    expect(textOf(entry?.value)).toBe("v");
    await client.close();
  });
});

/** True when a server listens on the port that has this certificate. */
function isTrusted(port: number, ca: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTls({ port, host: "127.0.0.1", ca }, () => {
      resolve(true);
      socket.destroy();
    });
    socket.once("error", () => resolve(false));
  });
}

/** Makes the next attempts of this runtime's own server to bind a port fail, as they do without the privilege. */
async function refusals(): Promise<{ refuse(count: number): void; restore(): void }> {
  let left = 0;
  if ("Bun" in globalThis) {
    const { Bun } = globalThis as unknown as { readonly Bun: { serve: (options: unknown) => unknown } };
    const { serve } = Bun;
    Bun.serve = (options) => {
      if (left-- > 0) throw new Error("permission denied");
      return serve(options);
    };
    return { refuse: (count) => left = count, restore: () => Bun.serve = serve };
  }
  const library = (await import("uWebSockets.js")).default;
  const { SSLApp } = library;
  library.SSLApp = (options) => {
    const app = SSLApp(options);
    const listen = app.listen.bind(app) as (...place: unknown[]) => unknown;
    app.listen = ((...place: unknown[]) => {
      if (left-- > 0) (place.at(-1) as (socket: false) => void)(false);
      else listen(...place);
      return app;
    }) as typeof app.listen;
    return app;
  };
  return { refuse: (count) => left = count, restore: () => library.SSLApp = SSLApp };
}
