/**
 * What the dashboard asks over HTTP: who may, what comes back, and that nobody gets more rights than it has.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "../../lib/base/clock.ts";
import { HEADER_BYTES } from "../../lib/bitcask/record.ts";
import { connect } from "../../lib/store/connect.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import type { TaggedBucket } from "../../server/admin.ts";
import { Clients } from "../../server/clients.ts";
import { type Scope, serve, type Server, Tokens } from "../../server/mod.ts";
import { ServerSnapshots } from "../../server/snapshots.ts";
import { errorCode } from "../suites/fs.ts";
import { settled } from "../wire/loopback.ts";
import { engineOf } from "./peer.ts";

const ADMIN_PATHS = [
  ["PUT", "/v1/admin/buckets/b"],
  ["GET", "/v1/admin/history"],
  ["GET", "/v1/admin/clients"],
  ["DELETE", "/v1/admin/clients/1"],
  ["GET", "/v1/admin/snapshots"],
  ["POST", "/v1/admin/snapshots"],
  ["GET", "/v1/admin/tokens"],
  ["POST", "/v1/admin/tokens"],
  ["DELETE", "/v1/admin/tokens/operator"],
] as const;

test("Clients describes only those that are listed, and closes only whom an id names", () => {
  const told: string[] = [];
  const closed: number[] = [];
  const clients = new Clients();
  const client = (number: number): readonly [number, never] => {
    const describe = (most: number): object => ({ told: told.push(`${number} ${most}`) });
    return [number, { bufferedBytes: number, describe } as never];
  };
  const closeClient = (number: number): unknown => closed.push(number);
  clients.add({ kind: "events", clients: () => [client(1), client(3), client(2)], closeClient });
  const { total, clients: listed } = clients.list(2, 20);
  expect([total, listed.map(({ id }) => id), told]).toEqual([3, ["e3", "e2"], ["3 20", "2 20"]]);
  for (const id of ["e1e0", "e 1", "e0x1", "e", "", "1", "w1", "e3"]) clients.close(id);
  expect(closed).toEqual([3]);
});

describe("administration", () => {
  let store: Store;
  let server: Server;
  let tokens: Tokens;
  let secret: string;

  beforeEach(async () => {
    store = await open(":memory:");
    tokens = new Tokens();
    secret = await grant("operator", [{ buckets: "*", rights: ["read", "write", "subscribe", "admin"] }]);
    // Also where REST is off.
    server = await serve({ store, port: 0, auth: tokens, rest: false });
  });
  afterEach(async () => {
    await server.close();
    await store.close();
  });

  async function grant(name: string, scopes: readonly Scope[]): Promise<string> {
    return (await tokens.create({ name, scopes })).token;
  }

  async function ask(
    method: string,
    path: string,
    token = secret,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<[number, unknown]> {
    const response = await fetch(`${server.url.replace("ws:", "http:")}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
      ...(body && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return [response.status, text === "" ? undefined : JSON.parse(text)];
  }

  test("is for who has the right to it, each part", async () => {
    const body = { name: "more", scopes: [{ buckets: "b", rights: ["read"] }] };
    const others = await grant("others", [{ buckets: "*", rights: ["read", "write", "subscribe"] }]);
    for (const [method, path] of ADMIN_PATHS) {
      const sent = path === "/v1/admin/tokens" && method === "POST" ? body : undefined;
      expect([path, (await ask(method, path, others, sent))[0]]).toEqual([path, 403]);
      expect([path, (await ask(method, path, "wrong", sent))[0]]).toEqual([path, 401]);
    }
    expect(tokens.list().map(({ name }) => name)).toEqual(["operator", "others"]);
  });

  test("tells who asks what it may, and which buckets there are", async () => {
    await store.bucket("team-a").set("ada", 1);
    await store.bucket("other").set("bob", 1);
    const scopes: Scope[] = [{ buckets: "team-*", rights: ["read"] }];
    const team = await grant("team", scopes);
    expect(await ask("GET", "/v1/me", team)).toMatchObject([200, { name: "team", scopes, asksTokens: true }]);
    expect(await ask("GET", "/v1/buckets", team)).toMatchObject([200, { buckets: [{ name: "team-a", keys: 1 }] }]);
    const bytes = HEADER_BYTES + 4;
    const same = { keys: 1, bytes, settings: {}, etag: expect.any(String) };
    expect(await ask("GET", "/v1/buckets")).toEqual([200, {
      buckets: [{ name: "other", ...same }, { name: "team-a", ...same }],
    }]);
  });

  test("configures a bucket for who may administer it, and makes it when there is none", async () => {
    const put = (bucket: string, body: object, token?: string): Promise<[number, unknown]> =>
      ask("PUT", `/v1/admin/buckets/${bucket}`, token, body);
    const writer = await grant("writer", [{ buckets: "*", rights: ["read", "write", "subscribe"] }]);
    expect((await put("sessions", { ttl: "30m", description: "new" }))[0]).toBe(204);
    expect((await put("sessions", {}, writer))[0]).toBe(403);
    expect(await ask("GET", "/v1/buckets", writer)).toEqual([200, {
      buckets: [{ name: "sessions", keys: 0, bytes: 0, settings: { ttl: 1_800_000, description: "new" } }],
    }]);
    for (const bad of [{ ttl: "soon" }, { ttl: 0 }, { valueBytesMax: -1 }, { codec: "json" }]) {
      expect(await put("sessions", bad)).toMatchObject([400, { code: "INVALID" }]);
    }
    expect(await put("-", {})).toMatchObject([400, { code: "INVALID" }]);
    expect((await put("sessions", {}))[0]).toBe(204);
    expect(await store.engine.buckets("sessions")).toMatchObject([{ settings: {} }]);
  });

  test("tells and takes by WebSocket what it does by HTTP", async () => {
    await store.bucket("other").set("bob", 1);
    await store.bucket("sessions").set("ada", 1);
    const settings = { ttl: 1_800_000, valueBytesMax: 4_096, compression: false, description: "new" };
    const admin = await connect(server.url, { token: secret });
    await admin.configure("sessions", { ...settings, ttl: "30m" });
    expect(await store.buckets()).toMatchObject([{ name: "other", settings: {} }, { name: "sessions", settings }]);
    for (const right of ["read", "write", "subscribe", "admin"] as const) {
      for (const buckets of right === "admin" ? ["*"] : ["*", "sess*", "none"]) {
        const token = await grant(`${right} ${buckets.replace("*", "-")}`, [{ buckets, rights: [right] }]);
        const client = await connect(server.url, { token });
        const tags = right === "admin" ? { etag: expect.any(String) } : {};
        const told = (await client.buckets()).map((bucket) => ({ ...bucket, ...tags }));
        expect(await ask("GET", "/v1/buckets", token)).toEqual([200, { buckets: told }]);
        await client.close();
      }
    }
    await admin.close();
  });

  test("replaces no settings unseen: If-Match, If-None-Match", async () => {
    const operator = await grant("admin alone", [{ buckets: "*", rights: ["admin"] }]);
    const settings = { ttl: 5, description: "who" };
    await store.configure("sessions", settings);
    const put = async (bucket: string, body: object, headers: Record<string, string>): Promise<number> =>
      (await ask("PUT", `/v1/admin/buckets/${bucket}`, operator, body, headers))[0];
    const [, { buckets }] = await ask("GET", "/v1/buckets", operator) as [number, { buckets: TaggedBucket[] }];
    expect(buckets).toEqual([{ name: "sessions", settings, etag: expect.any(String) }]);
    const etag = buckets[0]!.etag!;
    expect(await put("sessions", {}, { "if-none-match": "*" })).toBe(412);
    expect(await put("none", {}, { "if-match": "*" })).toBe(412);
    expect(await store.buckets()).toMatchObject([{ name: "sessions", settings }]);
    expect(await put("made", {}, { "if-none-match": "*" })).toBe(204);
    expect(await put("sessions", { ttl: 6 }, { "if-match": etag })).toBe(204);
    expect(await put("sessions", { ttl: 7 }, { "if-match": etag })).toBe(412);
    expect(await put("sessions", settings, {})).toBe(204);
    expect(await put("sessions", {}, { "if-match": `"0", ${etag}` })).toBe(204);
  });

  test("tells connections and their subscriptions, and closes one", async () => {
    const reader = await grant("reader", [{ buckets: "sessions", rights: ["subscribe"] }]);
    const client = await connect(server.url, { token: reader });
    const subscription = client.bucket("sessions").subscribe({ prefix: "ada", types: ["expire"] });
    await subscription.ready;
    await store.bucket("users").set("bob", 1);
    // More than are told of one connection.
    const others = Array.from({ length: 24 }, () => client.bucket("sessions").subscribe({ key: "eve" }));
    await Promise.all(others.map(({ ready }) => ready));
    const [, { clients, revision }] = await ask("GET", "/v1/admin/clients") as [
      number,
      { clients: { id: string }[]; revision: number },
    ];
    expect(revision).toBe(1);
    expect(clients).toMatchObject([{ subscriptionsTotal: 25, subscriptions: { length: 20 } }]);
    expect(clients).toMatchObject([{
      id: "w1",
      kind: "websocket",
      name: "reader",
      address: "127.0.0.1",
      bufferedBytes: 0,
      subscriptions: { 0: { bucket: "sessions", prefix: "ada", types: ["expire"], revision: 1, waits: false } },
    }]);
    const ended = new Promise<void>((resolve) => {
      const look = async (): Promise<void> => {
        const [, now] = await ask("GET", "/v1/admin/clients") as [number, { clients: { id: string }[] }];
        if (now.clients.some(({ id }) => id !== clients[0]!.id)) resolve();
        else await look();
      };
      void look();
    });
    expect((await ask("DELETE", `/v1/admin/clients/${clients[0]!.id}`))[0]).toBe(204);
    await ended; // the client is back, as another connection
    expect((await ask("DELETE", "/v1/admin/clients/none"))[0]).toBe(204);
    await client.close();
  });

  test("tells event streams and Redis clients, how far they are, and closes them", async () => {
    const watcher = await grant("watcher", [{ buckets: "*", rights: ["read", "write", "subscribe"] }]);
    const other = await serve({ store, port: 0, auth: tokens, redis: { port: 0 } });
    const base = other.url.replace("ws:", "http:");
    const headers = { authorization: `Bearer ${watcher}`, "user-agent": `reader/1 ${"x".repeat(900)}` };
    const stream = (await fetch(`${base}/v1/buckets/b/events?prefix=a&types=set`, { headers })).body!.getReader();
    await stream.read();
    const socket = connectSocket(Number(new URL(other.redisUrl!).port));
    const heard = new Promise<void>((resolve) => {
      let said = "";
      socket.on("data", (piece) => {
        said += String(piece);
        if (said.includes("__keyspace@0__:a")) resolve();
      });
    });
    socket.write(`AUTH ${watcher}\r\nCLIENT SETNAME worker\r\nSUBSCRIBE news __keyspace@0__:a\r\n`);
    await heard;
    const bearer = { authorization: `Bearer ${secret}` };
    const listed = async (): Promise<Record<string, unknown>[]> =>
      ((await (await fetch(`${base}/v1/admin/clients`, { headers: bearer })).json()) as {
        clients: Record<string, unknown>[];
      }).clients;
    const clients = await listed();
    expect(clients).toMatchObject([{
      id: "e1",
      kind: "events",
      name: "watcher",
      agent: `reader/1 ${"x".repeat(111)}…`,
      address: "127.0.0.1",
      subscriptions: [{ bucket: "b", prefix: "a", types: ["set"], revision: 0 }],
    }, {
      id: "r1",
      kind: "redis",
      name: "watcher",
      agent: "worker",
      subscriptions: [{ channel: "news", waits: false }, { channel: "__keyspace@0__:a", revision: 0 }],
    }]);
    expect(clients[0]!["bytesOut"]).toBeGreaterThan(0);
    const close = (id: string): Promise<Response> =>
      fetch(`${base}/v1/admin/clients/${id}`, { method: "DELETE", headers: bearer });
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    await close("r1");
    await closed;
    await close("e1");
    let last = "";
    for (let piece = await stream.read(); !piece.done; piece = await stream.read()) {
      last += new TextDecoder().decode(piece.value);
    }
    expect(last).toContain("event: ended");
    expect(await listed()).toEqual([]);
    await other.close();
  });

  test("creates tokens with no more rights than their creator has", async () => {
    const half = await grant("half", [
      { buckets: "*", rights: ["admin"] },
      { buckets: "team-*", rights: ["read"] },
    ]);
    const wanted = (buckets: string, ...rights: string[]): object => ({ name: "new", scopes: [{ buckets, rights }] });
    const refused = [
      wanted("*", "read"),
      wanted("team-*", "read"),
      wanted("team-a", "read", "write"),
      wanted("other", "read"),
      { name: "new", scopes: [{ buckets: "team-a", rights: ["read"] }, { buckets: "team-b", rights: ["write"] }] },
    ];
    for (const body of refused) expect((await ask("POST", "/v1/admin/tokens", half, body))[0]).toBe(403);
    for (const body of [{}, { name: "new", scopes: [] }, { name: "new", scopes: [{}] }, wanted("B", "read")]) {
      expect((await ask("POST", "/v1/admin/tokens", secret, body))[0]).toBe(400);
    }
    expect(tokens.list()).toHaveLength(2);

    const [status, created] = await ask("POST", "/v1/admin/tokens", half, { ...wanted("team-a", "read"), ttl: "1h" });
    const { token, info } = created as { token: string; info: { id: string; expiresAt: number } };
    expect(status).toBe(201);
    expect(tokens.identify(token)?.allows("read", "team-a")).toBe(true);
    expect(info.expiresAt).toBeGreaterThan(Date.now());
    expect(JSON.stringify(await ask("GET", "/v1/admin/tokens"))).not.toContain(token.slice(-40));
    expect((await ask("DELETE", `/v1/admin/tokens/${info.id}`))[0]).toBe(204);
    expect(tokens.identify(token)).toBe(undefined);
    expect((await ask("DELETE", `/v1/admin/tokens/${info.id}`))[0]).toBe(404);
  });

  test("takes snapshots, one at a time, where the operator said and nowhere else", async () => {
    expect((await ask("POST", "/v1/admin/snapshots"))[0]).toBe(501);
    await server.close();
    const folder = mkdtempSync(join(tmpdir(), "firkin-snapshots-"));
    server = await serve({ store, port: 0, auth: tokens, snapshotFolder: join(folder, "backups") });
    await store.bucket("users").set("ada", { name: "Ada" });
    expect((await ask("POST", "/v1/admin/snapshots", secret, { name: "../elsewhere" }))[0]).toBe(400);
    const [status, begun] = await ask("POST", "/v1/admin/snapshots") as [number, { name: string }];
    expect([status, begun]).toMatchObject([202, { state: "running" }]);
    let taken: Record<string, unknown> = {};
    while (taken["state"] !== "done") {
      expect(taken["state"] ?? "running").toBe("running");
      const [, answer] = await ask("GET", "/v1/admin/snapshots") as [number, { snapshots: typeof taken[] }];
      taken = answer.snapshots[0]!;
    }
    expect(taken).toMatchObject({ name: begun.name, keys: 1, revision: 1 });
    const copy = await open(join(folder, "backups", begun.name));
    expect(await copy.bucket("users").get("ada")).toEqual({ name: "Ada" });
    await copy.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("takes no second snapshot while one is taken, and says why one failed", async () => {
    let fail: (error: Error) => void = () => {};
    const engine = engineOf(store.engine);
    engine.snapshot = () => new Promise((_, reject) => fail = reject);
    const snapshots = new ServerSnapshots({ engine, folder: "backups", clock: new ManualClock() });
    const { name } = snapshots.begin();
    expect(name).toMatch(/^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z$/);
    expect(await errorCode(() => snapshots.begin())).toBe("BUSY");
    fail(new Error("no room"));
    await settled();
    expect(snapshots.list()).toMatchObject([{ name, state: "failed", problem: "no room" }]);
    snapshots.begin();
    expect(snapshots.list()).toHaveLength(2);
  });

  test("has a row of figures for each second, which says what happened in it", async () => {
    const client = await connect(server.url, { token: secret });
    const numbers = client.bucket<number>("numbers");
    for (let turn = 0; turn < 20; turn++) await numbers.set("n", turn);
    for (let turn = 0; turn < 30; turn++) await numbers.get("n");
    const sum = { reads: 0, writes: 0 };
    for (let after = 0; sum.reads + sum.writes < 40;) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const [, answer] = await ask("GET", `/v1/admin/history?after=${after}`);
      const { columns, rows } = answer as { columns: string[]; rows: number[][] };
      for (const row of rows) {
        const figure = (name: string): number => row[columns.indexOf(name)]!;
        expect(row).toHaveLength(columns.length);
        expect(figure("at")).toBeGreaterThan(after);
        after = figure("at");
        sum.reads += figure("reads");
        sum.writes += figure("writes");
        expect(figure("keys")).toBe(1);
        expect(figure("p99Us")).toBeGreaterThanOrEqual(figure("p50Us"));
      }
    }
    // A row may cover a little more than a second.
    expect(Math.round(sum.writes / (sum.reads + sum.writes) * 10)).toBe(4);
    await client.close();
  });
});
