/**
 * The commands for tokens, and a server and clients that use them, as processes of their own.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { makeCertificate, OPENSSL } from "../suites/certificate.ts";
import { isOn, testOn } from "../suites/tools.ts";
import { type Ended, Workplace } from "./command.ts";

const SERVE = ["--listen", "127.0.0.1:0", "--data-dir", ":memory:", "--auth", "tokens.json"];

/** What the commands do depends on no runtime; that they run on each is for `cli.test.ts`. */
const onBun = isOn("bun") ? describe : () => {};

onBun("firkin token", () => {
  let place: Workplace;

  beforeEach(() => {
    place = new Workplace();
  });
  afterEach(() => place.end());

  /** A new token. */
  async function create(name: string, allow: string, ...more: string[]): Promise<string> {
    const ended = await place.run(["token", "create", name, "--allow", allow, "--auth", "tokens.json", ...more]);
    expect(ended.code).toBe(0);
    return ended.stdout.trim();
  }

  test("firkin token creates, lists and revokes, and tells a token once", async () => {
    const token = await create("web", "team-*:read,subscribe", "--allow", "log:write", "--expires", "1h");
    expect(token).toMatch(/^firkin_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$/);
    expect(statSync(place.path("tokens.json")).mode & 0o777).toBe(0o600);
    const options = { env: { FIRKIN_AUTH: "tokens.json" } };
    const listed = await place.run(["token", "list"], options);
    const info = JSON.parse(listed.stdout) as Record<string, unknown>;
    expect([info["id"], info["name"], info["scopes"]]).toEqual([token.slice(7, 19), "web", [
      { buckets: "team-*", rights: ["read", "subscribe"] },
      { buckets: "log", rights: ["write"] },
    ]]);
    expect(Number(info["expiresAt"]) - Number(info["createdAt"])).toBeCloseTo(3_600_000, -3);
    expect(listed.stdout + readFileSync(place.path("tokens.json"), "utf8")).not.toContain(token.slice(20));
    expect((await place.run(["token", "revoke", "web"], options)).code).toBe(0);
    expect((await place.run(["token", "revoke", "web"], options)).code).toBe(1);
    expect((await place.run(["token", "list"], options)).stdout).toBe("");
    for (const args of [["list"], ["revoke", "web"]]) {
      expect((await place.run(["token", ...args, "--auth", "mistyped.json"])).code).toBe(3);
    }
  });

  test("firkin token works through a server, and firkin snapshot on it", async () => {
    const operator = await create("operator", "*:read,write,subscribe,admin");
    const { url } = await place.serve([
      "--data-dir",
      "data",
      "--listen",
      "127.0.0.1:0",
      "--auth",
      "tokens.json",
      "--snapshot-dir",
      "backups",
    ]);
    const run = (...args: string[]): Promise<Ended> => place.run([...args, "--url", url, "--token", operator]);
    const made = await run("token", "create", "a b@c", "--allow", "b:read", "--expires", "1h");
    expect(made.stdout).toMatch(/^firkin_/);
    expect(await place.run(["get", "b", "k", "--url", url, "--token", made.stdout.trim()])).toMatchObject({ code: 1 });
    expect((await run("token", "list")).stdout).toContain('"a b@c"');
    expect((await run("token", "revoke", "a b@c")).code).toBe(0);
    expect(await run("token", "revoke", "a b@c")).toMatchObject({ code: 1, stderr: ["firkin: no token a b@c"] });
    const taken = JSON.parse((await run("snapshot", "--json")).stdout) as { name: string; state: string };
    expect(taken.state).toBe("done");
    expect((await place.run(["verify", `backups/${taken.name}`])).code).toBe(0);
    const refused = await place.run(["snapshot", "--url", url, "--token", made.stdout.trim()]);
    expect([refused.code, refused.stderr[0]]).toEqual([3, expect.stringMatching(/\(UNAUTHORIZED\)$/)]);
  });

  testOn("bun")("firkin token create takes what a token may from the settings file, and a flag before it", async () => {
    writeFileSync(place.path("firkin.toml"), '[create]\nallow = ["b:read", "log:write"]\nauth = "tokens.json"\n');
    const run = (...args: string[]): Promise<Ended> =>
      place.run(["--config", "firkin.toml", "token", "create", ...args]);
    expect((await run("filed")).code).toBe(0);
    expect((await run("said", "--allow", "c:read")).code).toBe(0);
    const { stdout } = await place.run(["token", "list", "--auth", "tokens.json", "--json"]);
    const scopes = stdout.trim().split("\n").map((line) => (JSON.parse(line) as { scopes: unknown }).scopes);
    expect(scopes).toEqual([
      [{ buckets: "b", rights: ["read"] }, { buckets: "log", rights: ["write"] }],
      [{ buckets: "c", rights: ["read"] }],
    ]);
  });

  test("firkin token refuses wrong usage with 2 and one line", async () => {
    const wrong = [
      ["token", "create", "web", "--allow", "*:read"],
      ["token", "create", "web", "--auth", "tokens.json"],
      ["token", "create", "web", "--auth", "tokens.json", "--allow", "read"],
      ["token", "create", "web", "--auth", "tokens.json", "--allow", "*:rule"],
      ["token", "create", "web", "--auth", "tokens.json", "--allow", "../*:read"],
      ["token", "create", "web", "--auth", "tokens.json", "--allow", "*:read", "--expires", "soon"],
      ["token", "create", "a/b", "--auth", "tokens.json", "--allow", "*:read"],
      ["token", "revoke", "--auth", "tokens.json"],
      ["serve", "--limit", "patience=1"],
      ["serve", "--limit", "helloMs=soon"],
      ["serve", "--tls-cert", "cert.pem", "--data-dir", ":memory:"],
      ["serve", "--trusted-proxy", "somewhere", ...SERVE.slice(0, 4)],
      ["get", "b", "k", "--token", "a", "--token-file", "b"],
    ];
    // Three at a time: each is a process.
    for (let start = 0; start < wrong.length; start += 3) {
      await Promise.all(
        wrong.slice(start, start + 3).map(async (args) => {
          const ended = await place.run(args);
          expect([args, ended.code, ended.stderr.length]).toEqual([args, 2, 1]);
        }),
      );
    }
  });

  test("firkin serve --auth lets in who has a token, however the command is given it", async () => {
    const missing = await place.run(["serve", ...SERVE]);
    expect([missing.code, missing.stderr[0]]).toEqual([3, expect.stringContaining("Cannot read tokens.json")]);
    const token = await create("web", "b:read,write");
    const { url, command } = await place.serve(SERVE);
    const get = (args: string[], env: Record<string, string> = {}): Promise<Ended> =>
      place.run(["get", "b", "k", "--url", url, ...args], { env });
    expect((await place.run(["set", "b", "k", "1", "--url", url, "--token", token])).code).toBe(0);
    writeFileSync(place.path("secret"), `${token}\n`);
    expect((await get(["--token", token])).stdout).toBe("1\n");
    expect((await get(["--token-file", "secret"])).stdout).toBe("1\n");
    expect((await get([], { FIRKIN_TOKEN: token })).stdout).toBe("1\n");
    expect((await get([], { FIRKIN_TOKEN_FILE: "secret" })).stdout).toBe("1\n");
    const said: string[] = [];
    for (const args of [[], ["--token", "wrong"], ["--token", `${token}x`]]) {
      const ended = await get(args);
      expect([ended.code, ended.stdout, ended.stderr]).toEqual([3, "", [expect.stringMatching(/\(UNAUTHORIZED\)$/)]]);
      said.push(...ended.stderr);
    }
    const forbidden = await place.run(["get", "other", "k", "--url", url, "--token", token]);
    expect(forbidden.stderr[0]).toContain("(FORBIDDEN)");
    command.kill("SIGTERM");
    expect([...said, ...(await command.ended).stderr].join()).not.toContain(token.slice(20));
  });

  test("firkin token revoke ends a subscription to a running server", async () => {
    const token = await create("web", "*:subscribe,write");
    const { url } = await place.serve(SERVE);
    const listener = place.start(["subscribe", "b", "--url", url, "--snapshot", "--token", token]);
    await listener.stdout.find(/"synced"/);
    expect((await place.run(["token", "revoke", "web", "--auth", "tokens.json"])).code).toBe(0);
    const ended = await listener.ended;
    expect([ended.code, ended.stderr.at(-1)]).toEqual([3, expect.stringMatching(/expired; .*\(UNAUTHORIZED\)$/)]);
  });

  test.skipIf(OPENSSL === undefined)("firkin serve --tls-cert speaks TLS, and clients look who it is", async () => {
    const certificate = makeCertificate();
    try {
      const token = await create("web", "*:read,write");
      const tls = ["--tls-cert", certificate.certFile, "--tls-key", certificate.keyFile];
      const { url } = await place.serve([...SERVE, ...tls]);
      expect(url).toMatch(/^wss:/);
      const env = { FIRKIN_TOKEN: token, FIRKIN_URL: url };
      const trusting = { env: { ...env, FIRKIN_CA: certificate.certFile } };
      expect((await place.run(["set", "b", "k", "1"], trusting)).code).toBe(0);
      expect((await place.run(["get", "b", "k"], trusting)).stdout).toBe("1\n");
      const strange = await place.run(["get", "b", "k"], { env });
      expect([strange.code, strange.stdout]).toEqual([3, ""]);
    } finally {
      certificate.remove();
    }
  });
});
