/**
 * Tokens: what they allow, that nothing but themselves is one, and that a file says the same to every process.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "../../lib/base/clock.ts";
import { open } from "../../lib/store/open.ts";
import { verify } from "../../lib/store/upkeep.ts";
import { hasExpired, type Principal, type Right, type Scope } from "../../server/auth.ts";
import { openTokens, type TokenOptions, Tokens } from "../../server/tokens.ts";
import { errorCode } from "../suites/fs.ts";

const READ: readonly Scope[] = [{ buckets: "*", rights: ["read"] }];

describe("Tokens", () => {
  let clock: ManualClock;
  let tokens: Tokens;

  beforeEach(() => {
    clock = new ManualClock();
    tokens = new Tokens({ clock });
  });

  async function principalWith(...scopes: Scope[]): Promise<Principal> {
    const { token, info } = await tokens.create({ name: `t${tokens.list().length}`, scopes });
    expect(info.scopes).toEqual(scopes);
    return tokens.identify(token)!;
  }

  test("Tokens.create() makes tokens of 256 random bits that are told once", async () => {
    const { token, info } = await tokens.create({ name: "web", scopes: READ });
    const { token: other } = await tokens.create({ name: "web 2", scopes: READ });
    expect(token).toMatch(/^firkin_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$/);
    expect(other.slice(-43)).not.toBe(token.slice(-43));
    expect(info).toEqual({ id: token.slice(7, 19), name: "web", scopes: READ, createdAt: clock.wall() });
    expect(JSON.stringify(tokens.list())).not.toContain(token.slice(-43));
    expect(tokens.identify(token)?.name).toBe("web");
  });

  test("Tokens.identify() knows nobody by anything that is not the token", async () => {
    const { token } = await tokens.create({ name: "web", scopes: READ });
    const { token: other } = await tokens.create({ name: "other", scopes: READ });
    const id = token.slice(0, 20);
    const wrong = [
      "",
      " ",
      token.slice(0, -1),
      token + "A",
      token + "\n",
      " " + token,
      token + " ",
      token.toUpperCase(),
      token + "\0",
      token.replace("firkin_", "Firkin_"),
      token.slice(7),
      id,
      id + other.slice(-43),
      other.slice(0, 20) + token.slice(-43),
      id + "A".repeat(43),
      "firkin_000000000000_" + token.slice(-43),
      `${token},${token}`,
      "__proto__",
      "constructor",
    ];
    for (const text of wrong) expect([text, tokens.identify(text)]).toEqual([text, undefined]);
    expect(tokens.identify(token)).toBeDefined();
  });

  test("Tokens.identify() gives a right in the buckets of its scope and nowhere else", async () => {
    const all = await principalWith({ buckets: "*", rights: ["read", "admin"] });
    const some = await principalWith({ buckets: "team-*", rights: ["write"] }, { buckets: "log", rights: ["read"] });
    const asked: [Principal, Right, string | undefined, boolean][] = [
      [all, "read", "b", true],
      [all, "read", undefined, true],
      [all, "admin", undefined, true],
      [all, "write", "b", false],
      [all, "subscribe", "b", false],
      [some, "write", "team-a", true],
      [some, "write", "team-", true],
      [some, "write", "team", false],
      [some, "write", "teams", false],
      [some, "write", "a-team-", false],
      [some, "write", "team-*", true],
      [some, "write", "*", false],
      [some, "write", "", false],
      [some, "write", undefined, false],
      [some, "read", undefined, false],
      [some, "read", "team-a", false],
      [some, "read", "log", true],
      [some, "read", "logs", false],
      [some, "read", "lo", false],
      [some, "read", "__proto__", false],
      [some, "read", "constructor", false],
      [some, "admin", undefined, false],
    ];
    for (const [principal, right, bucket, allowed] of asked) {
      expect([right, bucket, principal.allows(right, bucket)]).toEqual([right, bucket, allowed]);
    }
  });

  test("Tokens.create() refuses what cannot be", async () => {
    const good: TokenOptions = { name: "web", scopes: READ };
    const wrong: object[] = [
      { name: "" },
      { name: "a".repeat(65) },
      { name: "a\nb" },
      { name: " a" },
      { scopes: [] },
      { scopes: [{ buckets: "*", rights: [] }] },
      { scopes: [{ buckets: "*", rights: ["everything"] }] },
      { scopes: [{ buckets: "*", rights: ["toString"] }] },
      { scopes: [{ buckets: "", rights: ["read"] }] },
      { scopes: [{ buckets: "**", rights: ["read"] }] },
      { scopes: [{ buckets: "*a", rights: ["read"] }] },
      { scopes: [{ buckets: "A", rights: ["read"] }] },
      { scopes: [{ buckets: "../a", rights: ["read"] }] },
      { scopes: [{ buckets: "a".repeat(65), rights: ["read"] }] },
      { scopes: [{ buckets: "team-*", rights: ["admin"] }] },
      { expiresAt: NaN },
      { expiresAt: -1 },
      { expiresAt: 1.5 },
    ];
    for (const change of wrong) {
      const thrown = await tokens.create({ ...good, ...change }).catch((error: unknown) => error);
      expect([change, thrown]).toEqual([change, expect.any(RangeError)]);
    }
    await tokens.create(good);
    expect(await errorCode(() => tokens.create(good))).toBe("INVALID");
    expect(tokens.list().length).toBe(1);
  });

  test("Tokens.identify() knows an expired token no more, by the wall clock", async () => {
    const { token } = await tokens.create({ name: "web", scopes: READ, expiresAt: clock.wall() + 1_000 });
    const principal = tokens.identify(token)!;
    clock.advance(999);
    expect([tokens.identify(token), hasExpired(principal, clock.wall())]).toEqual([principal, false]);
    clock.advance(1);
    expect([tokens.identify(token), hasExpired(principal, clock.wall())]).toEqual([undefined, true]);
  });

  test("Tokens.revoke() ends a token by id or name at once, and says so", async () => {
    const { token, info } = await tokens.create({ name: "web", scopes: READ });
    const { token: other } = await tokens.create({ name: "other", scopes: READ });
    const [principal, kept] = [tokens.identify(token)!, tokens.identify(other)!];
    let told = 0;
    const unwatch = tokens.watch(() => told++);
    expect(await tokens.revoke("nothing")).toBe(false);
    expect(told).toBe(0);
    expect(await tokens.revoke(info.id)).toBe(true);
    expect([told, tokens.identify(token), tokens.list().map(({ name }) => name)]).toEqual([1, undefined, ["other"]]);
    expect([hasExpired(principal, clock.wall()), principal.allows("read", "b")]).toEqual([true, false]);
    expect([hasExpired(kept, clock.wall()), kept.allows("read", "b")]).toEqual([false, true]);
    unwatch();
    expect(await tokens.revoke("other")).toBe(true);
    expect(told).toBe(1);
  });
});

describe("openTokens()", () => {
  let folder: string;
  let path: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "firkin-tokens-"));
    path = join(folder, "tokens.json");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test("openTokens() keeps digests, not tokens, for the owner alone", async () => {
    const tokens = openTokens(path);
    expect(existsSync(path)).toBe(false);
    const { token } = await tokens.create({ name: "web", scopes: READ });
    expect(readFileSync(path, "utf8")).not.toContain(token.slice(20));
    expect(readFileSync(path, "utf8")).toContain('"name": "web"');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["tokens.json"]);
    expect(openTokens(path).identify(token)?.name).toBe("web");
  });

  test("Tokens.refresh() sees what another has created and revoked, and keeps who is the same", async () => {
    const ours = openTokens(path);
    const theirs = openTokens(path);
    const { token } = await theirs.create({ name: "web", scopes: READ });
    expect(ours.identify(token)).toBeUndefined();
    ours.refresh();
    const principal = ours.identify(token)!;
    const { token: second } = await theirs.create({ name: "second", scopes: READ });
    ours.refresh();
    expect(ours.identify(token)).toBe(principal);
    expect(ours.identify(second)?.name).toBe("second");
    let told = 0;
    ours.watch(() => told++);
    await theirs.revoke("web");
    ours.refresh();
    ours.refresh();
    expect([told, ours.identify(token), hasExpired(principal, Date.now())]).toEqual([1, undefined, true]);
  });

  test("Tokens.refresh() ends who is changed, and who was before the file was removed", async () => {
    const tokens = openTokens(path);
    const { token } = await tokens.create({ name: "web", scopes: READ });
    const before = tokens.identify(token)!;
    writeFileSync(path, readFileSync(path, "utf8").replace('"read"', '"write"'));
    tokens.refresh();
    const after = tokens.identify(token)!;
    expect([hasExpired(before, Date.now()), after.allows("read", "b"), after.allows("write", "b")]).toEqual([
      true,
      false,
      true,
    ]);
    rmSync(path);
    tokens.refresh();
    expect([tokens.identify(token), hasExpired(after, Date.now())]).toEqual([undefined, true]);
  });

  test("Tokens.revoke() writes nothing when there is nothing to revoke", async () => {
    const tokens = openTokens(path);
    expect(await tokens.revoke("web")).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("Tokens of two processes lose no change to one another", async () => {
    const many = [openTokens(path), openTokens(path), openTokens(path)];
    await Promise.all(many.flatMap((tokens, place) => {
      return Array.from({ length: 5 }, (_, index) => tokens.create({ name: `t${place}.${index}`, scopes: READ }));
    }));
    expect(openTokens(path).list().length).toBe(15);
    expect(readdirSync(folder)).toEqual(["tokens.json"]);
  });

  test("Tokens.create() gives up a lock that stays, and leaves it", async () => {
    writeFileSync(`${path}.lock`, "");
    const clock = new ManualClock();
    const tokens = openTokens(path, { clock });
    const failure = errorCode(() => tokens.create({ name: "web", scopes: READ }));
    let over = false;
    void failure.then(() => over = true);
    while (!over) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      clock.advance(500);
    }
    expect(await failure).toBe("LOCKED");
    expect(readdirSync(folder)).toEqual(["tokens.json.lock"]);
  });

  test("openTokens() refuses what it has not written, without quoting it", async () => {
    await openTokens(path).create({ name: "web", scopes: READ });
    const good = readFileSync(path, "utf8");
    const token = JSON.parse(good).tokens[0];
    const bad = (change: object): string => JSON.stringify({ version: 1, tokens: [{ ...token, ...change }] });
    const texts = [
      "not json SECRET",
      "[]",
      "null",
      "{}",
      good.slice(0, -10),
      good.replace('"version": 1', '"version": 2'),
      JSON.stringify({ version: 1, tokens: {} }),
      JSON.stringify({ version: 1, tokens: [token], more: "SECRET" }),
      JSON.stringify({ version: 1, tokens: [null] }),
      JSON.stringify({ version: 1, tokens: [token, token] }),
      JSON.stringify({ version: 1, tokens: [token, { ...token, id: "0123456789ab" }] }),
      bad({ SECRET: 1 }),
      bad({ hash: "SECRET" }),
      bad({ hash: undefined }),
      bad({ hash: [token.hash] }),
      bad({ id: "../SECRET" }),
      bad({ name: 5 }),
      bad({ expiresAt: "never" }),
      bad({ expiresAt: null }),
      bad({ scopes: "SECRET" }),
      bad({ scopes: [] }),
      bad({ scopes: [{ buckets: "*", rights: "read" }] }),
      bad({ scopes: [{ buckets: "*", rights: ["SECRET"] }] }),
      bad({ scopes: [{ buckets: ["*"], rights: ["read"] }] }),
      bad({ scopes: [{ buckets: "*", rights: ["read"], SECRET: true }] }),
    ];
    const running = openTokens(path);
    for (const text of texts) {
      writeFileSync(path, text);
      const thrown = await Promise.resolve().then(() => openTokens(path)).catch((error: unknown) => error) as Error;
      expect([text, await errorCode(() => openTokens(path))]).toEqual([text, "CORRUPT"]);
      expect(thrown.message).not.toContain("SECRET");
      expect(await errorCode(() => running.refresh())).toBe("CORRUPT");
      running.refresh(); // told once
      expect(running.list().length).toBe(1);
      expect(await errorCode(() => running.revoke("web"))).toBe("CORRUPT");
      expect(readFileSync(path, "utf8")).toBe(text);
    }
    writeFileSync(path, good);
    appendFileSync(path, " ");
    running.refresh();
    expect(running.list().map(({ name }) => name)).toEqual(["web"]);
  });

  test("a store leaves tokens in its folder alone", async () => {
    const data = join(folder, "data");
    await (await open(data)).close();
    const inside = join(data, "tokens.json");
    const { token } = await openTokens(inside).create({ name: "web", scopes: READ });
    await (await open(data)).close();
    const found = await verify(data);
    expect([found.damage, found.leftovers, found.kept]).toEqual([[], [], []]);
    expect(openTokens(inside).identify(token)?.name).toBe("web");
  });
});
