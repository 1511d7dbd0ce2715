/**
 * Redis clients with tokens: what is answered to whom.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Tokens } from "../../../server/mod.ts";
import type { RespPeer } from "./peer.ts";
import { RedisServer } from "./server.ts";

describe("Redis clients with tokens", () => {
  const house = new RedisServer();
  const open = (): RespPeer => house.open();
  let all: string;
  let reader: string;
  let tokens: Tokens;

  beforeEach(async () => {
    tokens = new Tokens();
    all = (await tokens.create({
      name: "all",
      scopes: [{ buckets: "*", rights: ["read", "write", "subscribe", "admin"] }],
    })).token;
    reader = (await tokens.create({ name: "reader", scopes: [{ buckets: "0", rights: ["read"] }] })).token;
    await house.start({ auth: tokens, limits: { authFailuresPerMinuteMax: 3, helloMs: 300 } });
  });

  afterEach(() => house.stop());

  test("nothing is answered before AUTH, and little is read", async () => {
    const peer = open();
    expect(await peer.ask("GET", "a")).toBe("-NOAUTH Authentication required.\r\n");
    expect((await peer.ask("HELLO", "3")).slice(0, 13)).toBe("-NOAUTH HELLO");
    expect(await peer.ask("NOPE")).toContain("unknown command");
    expect(await peer.ask("AUTH", "wrong")).toBe(
      "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    );
    expect(await peer.ask("AUTH", "default", all)).toBe("+OK\r\n");
    expect(await peer.ask("ACL", "WHOAMI")).toBe("$3\r\nall\r\n");
    const flusher = (await tokens.create({ name: "one", scopes: [{ buckets: "0", rights: ["read", "write"] }] })).token;
    await peer.ask("SET", "kept", "1");
    expect(await peer.ask("AUTH", flusher)).toBe("+OK\r\n");
    expect((await peer.ask("FLUSHALL")).slice(0, 7)).toBe("-NOPERM");
    expect(await peer.ask("EXISTS", "kept")).toBe(":1\r\n");
    expect(await peer.ask("RESET")).toBe("+RESET\r\n");
    expect(await peer.ask("GET", "a")).toBe("-NOAUTH Authentication required.\r\n");
    peer.send("*11\r\n");
    expect(await peer.reply()).toBe("-ERR Protocol error: unauthenticated multibulk length\r\n");
    expect(await peer.reply()).toBe("closed");
  });

  test("HELLO AUTH lets in, and a token may what it may", async () => {
    const peer = open();
    expect((await peer.ask("HELLO", "3", "AUTH", "any", reader)).slice(0, 2)).toBe("%7");
    expect(await peer.ask("GET", "a")).toBe("_\r\n");
    const refused = [
      ["SET", "a", "1"],
      ["SET", "a", "1", "NX"],
      ["INCR", "a"],
      ["DEL", "a"],
      ["MSET", "a", "1"],
      ["RENAME", "a", "b"],
      ["FLUSHDB"],
      ["FLUSHALL"],
      ["SUBSCRIBE", "news"],
      ["PSUBSCRIBE", "*"],
      ["SUBSCRIBE", "__keyevent@0__:expired"],
      ["PUBLISH", "news", "x"],
      ["CLIENT", "KILL", "ID", "1"],
      ["CLIENT", "TRACKING", "ON"],
      ["CONFIG", "SET", "notify-keyspace-events", ""],
    ];
    await house.store.bucket("0", { codec: "text" }).set("a", "1");
    for (const command of refused) {
      expect([command.join(" "), (await peer.ask(...command)).slice(0, 7)]).toEqual([command.join(" "), "-NOPERM"]);
    }
    const [, , replies] = await peer.askAll([["MULTI"], ["SET", "a", "1", "NX"], ["EXEC"]]);
    expect(replies).toContain("-NOPERM");
    await peer.ask("SELECT", "1");
    for (
      const command of [["GET", "a"], ["EXISTS", "a"], ["MGET", "a"], ["TTL", "a"], ["KEYS", "*"], ["SCAN", "0"]]
    ) {
      expect([command[0], (await peer.ask(...command)).slice(0, 7)]).toEqual([command[0], "-NOPERM"]);
    }
    const other = open();
    await other.ask("AUTH", all);
    expect(await peer.ask("CLIENT", "LIST")).not.toContain("user=all");
    expect(await other.ask("CLIENT", "LIST")).toContain("user=reader");
  });

  test("a read right shows no single-read key", async () => {
    await house.store.bucket("0", { codec: "text" }).set("a", "secret", { once: true });
    const peer = open();
    await peer.ask("AUTH", reader);
    expect((await peer.ask("GET", "a")).slice(0, 7)).toBe("-NOPERM");
    expect((await peer.ask("GETDEL", "a")).slice(0, 7)).toBe("-NOPERM");
    expect(await house.store.bucket("0", { codec: "text" }).get("a")).toBe("secret");
  });

  test("who guesses is shut out, and who says nothing is closed", async () => {
    const peer = open();
    for (let left = 3; left > 0; left--) expect((await peer.ask("AUTH", "x")).slice(0, 10)).toBe("-WRONGPASS");
    expect((await peer.ask("AUTH", all)).slice(0, 5)).toBe("-BUSY");
    expect(await peer.reply()).toBe("closed");
    expect(await open().reply()).toBe("-ERR Too many wrong credentials\r\n");
  });

  test("who says nothing is closed", async () => {
    expect(await open().reply()).toBe("closed");
  });

  test("a revoked token's connections end, and a listener hears nothing more", async () => {
    const [listener, writer] = [open(), open()];
    await listener.ask("AUTH", reader);
    await writer.ask("AUTH", all);
    await tokens.revoke("reader");
    expect(await listener.reply()).toBe("closed");
    expect(await writer.ask("PING")).toBe("+PONG\r\n");
  });
});
