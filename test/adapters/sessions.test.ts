/**
 * Sessions of express-session and hono-sessions, unmodified, on both kinds of store.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from "node:http";
import session from "express-session";
import { Hono } from "hono";
import { type Session, sessionMiddleware } from "hono-sessions";
import { createExpressStore, HonoStore } from "../../lib/adapters/sessions.ts";
import { clearBelow } from "../../lib/adapters/keys.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import { connect } from "../../lib/store/connect.ts";
import { Store } from "../../lib/store/store.ts";
import { serve, type Server } from "../../server/mod.ts";
import { openMemoryEngine } from "../wire/loopback.ts";

const SECRET = "a secret of at least thirty-two letters";

function runSessionSuite(kind: "embedded" | "remote"): void {
  let engine: EmbeddedEngine;
  let server: Server;
  let store: Store;
  let bucket: Bucket;

  beforeAll(async () => {
    engine = await openMemoryEngine();
    server = await serve({ store: new Store(engine), port: 0 });
    store = kind === "embedded" ? new Store(engine) : await connect(server.url);
    bucket = store.bucket("sessions");
  });

  afterEach(() => clearBelow(bucket, ""));

  afterAll(async () => {
    if (kind === "remote") await store.close();
    await server.close();
    await engine.close();
  });

  /** When the only session ends. */
  async function end(): Promise<number> {
    for await (const { expiresAt } of bucket.list()) return expiresAt!;
    return NaN;
  }

  /** How long it still lives, in milliseconds. */
  async function lifeLeft(): Promise<number> {
    return await end() - Date.now();
  }

  describe("createExpressStore()", () => {
    let http: HttpServer;
    let url: string;
    let sessions: session.Store;

    beforeAll(async () => {
      sessions = createExpressStore(session.Store, bucket, { ttl: "10s" });
      const cookie = { maxAge: 60_000 };
      const use = session({ store: sessions, secret: SECRET, resave: false, saveUninitialized: false, cookie });
      http = createServer((request, response) => {
        use(request as never, response as never, () => visit(request, response));
      });
      await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
      url = `http://127.0.0.1:${(http.address() as { port: number }).port}`;
    });

    afterAll(() => new Promise((resolve) => http.close(resolve)));

    function visit(request: IncomingMessage, response: ServerResponse): void {
      const visited = (request as never as { session: session.Session & { visits?: number } }).session;
      if (request.url === "/logout") {
        visited.destroy(() => response.end("bye"));
        return;
      }
      if (request.url === "/count") visited.visits = (visited.visits ?? 0) + 1;
      response.end(String(visited.visits));
    }

    async function ask(path: string, cookie = ""): Promise<{ said: string; cookie: string }> {
      const answer = await fetch(url + path, { headers: { cookie } });
      return { said: await answer.text(), cookie: answer.headers.get("set-cookie")?.split(";")[0] ?? cookie };
    }

    test("keeps, touches and ends sessions", async () => {
      const first = await ask("/count");
      expect(first.said).toBe("1");
      expect(await lifeLeft()).toBeGreaterThan(50_000);
      expect((await ask("/count", first.cookie)).said).toBe("2");
      const before = await end();
      while (Date.now() <= before - 60_000) await new Promise((resolve) => setTimeout(resolve, 1));
      expect((await ask("/", first.cookie)).said).toBe("2");
      expect(await end()).toBeGreaterThan(before);
      expect((await ask("/count")).said).toBe("1");
      expect((await ask("/logout", first.cookie)).said).toBe("bye");
      expect((await ask("/count", first.cookie)).said).toBe("1");
    });

    test("lists, counts and clears; a session without an end has that of the store", async () => {
      const call = <Value>(
        method: (done: (error: unknown, value?: Value) => void) => void,
      ): Promise<Value | undefined> => {
        return new Promise((resolve, reject) => method((error, value) => error ? reject(error) : resolve(value)));
      };
      await call((done) => sessions.set("a", { cookie: { maxAge: null }, user: "ada" } as never, done));
      expect(await lifeLeft()).toBeLessThanOrEqual(10_000);
      expect(await call((done) => sessions.all!(done as never))).toEqual([{ cookie: { maxAge: null }, user: "ada" }]);
      expect(await call((done) => sessions.length!(done))).toBe(1);
      await call((done) => sessions.clear!(done));
      expect(await call((done) => sessions.get("a", done as never))).toBe(undefined);
      const failure = await call((done) => sessions.get("", done as never)).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(Error);
    });
  });

  test("HonoStore keeps and ends sessions", async () => {
    const app = new Hono<{ Variables: { session: Session<{ visits: number }> } }>();
    app.use("*", sessionMiddleware({ store: new HonoStore(bucket), encryptionKey: SECRET, expireAfterSeconds: 60 }));
    app.get("/", (context) => {
      const visited = context.get("session");
      visited.set("visits", (visited.get("visits") ?? 0) + 1);
      return context.text(String(visited.get("visits")));
    });
    app.get("/logout", (context) => {
      context.get("session").deleteSession();
      return context.text("bye");
    });
    const first = await app.request("/");
    const cookie = first.headers.get("set-cookie")!.split(";")[0]!;
    expect(await first.text()).toBe("1");
    expect(await (await app.request("/", { headers: { cookie } })).text()).toBe("2");
    expect(await lifeLeft()).toBeGreaterThan(50_000);
    expect(await lifeLeft()).toBeLessThanOrEqual(60_000);
    await app.request("/logout", { headers: { cookie } });
    expect(await (await app.request("/", { headers: { cookie } })).text()).toBe("1");
  });
}

describe("sessions on an embedded store", () => runSessionSuite("embedded"));
describe("sessions on a remote store", () => runSessionSuite("remote"));
