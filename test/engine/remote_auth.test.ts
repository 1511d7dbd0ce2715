/**
 * How a client says who it is: a token, or a function that gives a fresh one for each connection.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { EVERYONE, type Principal } from "../../server/auth.ts";
import { bytesOf, take } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";
import { guestOf, Loopback, openMemoryEngine, settled } from "../wire/loopback.ts";

const KEY = bytesOf("k");

describe("RemoteEngine", () => {
  let served: EmbeddedEngine;
  let loopback: Loopback;
  let clock: ManualClock;
  /** Tokens that the server knows. */
  let known: Map<string, Principal>;
  /** Tokens that came. */
  let said: string[];

  beforeEach(async () => {
    served = await openMemoryEngine();
    loopback = new Loopback(served);
    clock = new ManualClock();
    known = new Map([["good", EVERYONE], ["reader", { name: "reader", allows: (right) => right === "read" }]]);
    said = [];
    loopback.guest = {
      ...guestOf(EVERYONE),
      principal: undefined,
      identify(token) {
        said.push(token);
        const principal = known.get(token);
        if (principal === undefined) throw new FirkinError("UNAUTHORIZED", "Cannot let you in");
        return principal;
      },
    };
  });
  afterEach(() => served.close());

  async function reconnect(): Promise<void> {
    await settled();
    clock.advance(20_000);
    await settled();
  }

  test("RemoteEngine says its token at each connection", async () => {
    const client = await loopback.connect({ clock, token: "good" });
    loopback.cut();
    await reconnect();
    expect(await client.get("b", KEY)).toBeUndefined();
    expect(said).toEqual(["good", "good"]);
    await client.close();
  });

  test("connectEngine() rejects UNAUTHORIZED with a token that is wrong or missing, and tries no more", async () => {
    expect(await errorCode(() => loopback.connect({ clock, token: "bad" }))).toBe("UNAUTHORIZED");
    expect(await errorCode(() => loopback.connect({ clock }))).toBe("UNAUTHORIZED");
    expect(await errorCode(() => loopback.connect({ clock, token: () => "bad" }))).toBe("UNAUTHORIZED");
    await reconnect();
    expect(loopback.opened).toBe(3);
  });

  test("RemoteEngine ends for good when its one token is no longer taken", async () => {
    const client = await loopback.connect({ clock, token: "good" });
    const subscription = client.subscribe({});
    await subscription.ready;
    loopback.cut(4401);
    await reconnect();
    expect(await errorCode(() => client.get("b", KEY))).toBe("UNAUTHORIZED");
    expect(await errorCode(() => subscription.next())).toBe("UNAUTHORIZED");
    expect(loopback.opened).toBe(1);
  });

  test("RemoteEngine asks for a fresh token when the one before is no longer taken, and loses no event", async () => {
    const tokens = ["good", "fresh"];
    const client = await loopback.connect({ clock, token: () => Promise.resolve(tokens.shift()!) });
    const subscription = client.subscribe({ bucket: "b" });
    await subscription.ready;
    known.delete("good");
    known.set("fresh", EVERYONE);
    loopback.cut(4401);
    await served.set("b", KEY, bytesOf("v"), { content: CONTENT.text });
    await reconnect();
    expect((await take(subscription, 1)).map(({ type }) => type)).toEqual(["set"]);
    expect(said).toEqual(["good", "fresh"]);
    // A fresh one that is refused is the end.
    tokens.push("good");
    loopback.cut();
    await reconnect();
    expect(await errorCode(() => client.get("b", KEY))).toBe("UNAUTHORIZED");
    expect(said).toEqual(["good", "fresh", "good"]);
  });

  test("RemoteEngine fails when there is no first token, and tries again when there is no other", async () => {
    const failing = (): Promise<string> => Promise.reject(new Error("the login is down"));
    expect(await errorCode(() => loopback.connect({ clock, token: failing }))).toBe("UNAUTHORIZED");
    let down = false;
    const client = await loopback.connect({ clock, token: () => down ? failing() : "good" });
    down = true;
    loopback.cut();
    await reconnect();
    await reconnect();
    const found = client.get("b", KEY);
    down = false;
    await reconnect();
    expect(await found).toBeUndefined();
    expect(said).toEqual(["good", "good"]);
    await client.close();
  });

  test("RemoteEngine says nothing when the token comes after the connection is lost or closed", async () => {
    let give: (token: string) => void = () => {};
    const opening = loopback.connect({ clock, token: () => new Promise((resolve) => give = resolve) });
    const failed = errorCode(() => opening);
    await settled();
    loopback.cut();
    give("good");
    expect(await failed).toBe("UNAVAILABLE");
    await settled();
    expect(said).toEqual([]);
  });

  test("RemoteEngine says each connection its own token, however late", async () => {
    const gives: ((token: string) => void)[] = [];
    const token = (): string | Promise<string> =>
      said.length === 0 ? "good" : new Promise<string>((resolve) => void gives.push(resolve));
    const client = await loopback.connect({ clock, token });
    for (let index = 0; index < 2; index++) {
      loopback.cut();
      await reconnect();
    }
    expect([gives.length, said]).toEqual([2, ["good"]]);
    gives[0]!("reader");
    await settled();
    expect(said).toEqual(["good"]);
    // Without a connection there is nobody to become another for.
    expect(await errorCode(() => client.authenticate("good"))).toBe("UNAVAILABLE");
    gives[1]!("good");
    await settled();
    expect(said).toEqual(["good", "good"]);
    await client.close();
  });

  test("RemoteEngine.authenticate() changes who asks, until the connection is another", async () => {
    const client = await loopback.connect({ clock, token: "reader" });
    expect(await errorCode(() => client.stats())).toBe("FORBIDDEN");
    const expiresAt = clock.wall() + 100_000;
    known.set("admin", { ...EVERYONE, expiresAt: Date.now() + 100_000 });
    expect(await client.authenticate("admin")).toBeGreaterThan(expiresAt);
    expect(await client.stats()).toBeDefined();
    loopback.cut();
    await reconnect();
    expect(await errorCode(() => client.stats())).toBe("FORBIDDEN");
    expect(await errorCode(() => client.authenticate("bad"))).toBe("UNAUTHORIZED");
    expect(await errorCode(() => client.get("b", KEY))).toBe("UNAUTHORIZED");
    expect(said).toEqual(["reader", "admin", "reader", "bad"]);
  });
});
