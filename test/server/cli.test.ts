/**
 * The command as a user meets it: what it prints, its exit codes, one line for whatever is wrong, and a clean end.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect as connectSocket, type Socket } from "node:net";
import { WebSocket } from "ws";
import { connect, open } from "../../mod.ts";
import { OP, SUBPROTOCOL } from "../../lib/wire/protocol.ts";
import { makeCertificate, OPENSSL } from "../suites/certificate.ts";
import { testOn } from "../suites/tools.ts";
import { type Ended, type Served, type StartOptions, Workplace } from "./command.ts";
import { EventReader } from "./http_client.ts";
import { framesOf, type Item, message } from "./peer.ts";
import { RespPeer } from "./redis/peer.ts";

/** A command that ended well and printed this. */
function printed(...lines: string[]): Ended {
  return { code: 0, signal: null, stdout: lines.map((line) => `${line}\n`).join(""), stderr: [] };
}

/** A command that ended with a line about it, or an expectation of one. */
function failed(code: number, line: unknown): Ended {
  return { code, signal: null, stdout: "", stderr: [line as string] };
}

/** The entries or events in what a command printed. */
function linesOf({ stdout }: { readonly stdout: string }): Record<string, unknown>[] {
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

describe("firkin", () => {
  let place: Workplace;
  beforeEach(() => {
    place = new Workplace();
  });
  afterEach(() => place.end());

  test("firkin --version says what package.json says", async () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
    expect(await place.run(["--version"])).toEqual(printed(version));
  });

  test("firkin --help names every command", async () => {
    const { code, stdout } = await place.run(["--help"]);
    expect(code).toBe(0);
    const names =
      "serve get set delete take increment list subscribe import export stats compact bench verify repair snapshot " +
      "restore bucket token config completion";
    for (const name of names.split(" ")) expect(stdout).toContain(`\n  ${name} `);
  });

  test.each(["a server", "a folder"])("firkin set, get, list and delete work on %s", async (where) => {
    const served = where === "a server" ? await place.serve() : undefined;
    const target = served === undefined ? ["--data-dir", "data"] : ["--url", served.url];
    const run = (args: string[], options?: StartOptions): Promise<Ended> => place.run([...args, ...target], options);
    expect(await run(["set", "b", "json", '{"a":[1,null]}'])).toEqual(printed());
    expect(await run(["set", "b", "text", "12", "--text"])).toEqual(printed());
    expect(await run(["set", "b", "piped", "-", "--ttl", "1h"], { input: "two\nlines" })).toEqual(printed());
    expect(await run(["get", "b", "json"])).toEqual(printed('{"a":[1,null]}'));
    expect(await run(["get", "b", "piped"])).toEqual(printed("two", "lines"));
    expect(await run(["get", "b", "none"])).toEqual(failed(1, "firkin: no key b/none"));
    const refused = "firkin: not set: b/json is at revision 1";
    expect(await run(["set", "b", "json", "2", "--if-revision", "0"])).toEqual(failed(1, refused));
    const listed = await run(["list", "b"]);
    expect(listed.code).toBe(0);
    expect(linesOf(listed)).toEqual([
      { key: "json", value: { a: [1, null] }, revision: 1 },
      { key: "piped", value: "two\nlines", revision: 3, expiresAt: expect.any(Number) },
      { key: "text", value: "12", revision: 2 },
    ]);
    expect(await run(["delete", "b", "json"])).toEqual(printed());
    expect(await run(["delete", "b", "json"])).toEqual(failed(1, "firkin: no key b/json"));
    if (served === undefined) return;
    served.command.kill("SIGTERM");
    expect((await served.command.ended).code).toBe(0);
  });

  testOn("bun")(
    "firkin bucket makes, lists and configures buckets of a server, and stats count their keys",
    async () => {
      const { url } = await place.serve();
      const run = (...args: string[]): Promise<Ended> => place.run([...args, "--url", url]);
      expect(await run("bucket", "create", "b", "--ttl", "30m", "--description", "some")).toEqual(printed());
      expect(await run("set", "b", "k", "1")).toEqual(printed());
      const [again, none, listed, counted] = await Promise.all([
        run("bucket", "create", "b"),
        run("bucket", "settings", "c", "--ttl", "1s"),
        run("bucket", "list"),
        run("stats"),
      ]);
      expect(again).toEqual(failed(1, "firkin: there is a bucket b: firkin bucket settings changes it"));
      expect(none).toEqual(failed(1, "firkin: no bucket c: firkin bucket create makes one"));
      const settings = { ttl: 1_800_000, description: "some" };
      expect(linesOf(listed)).toEqual([{ name: "b", keys: 1, bytes: expect.any(Number), settings }]);
      const [stats] = linesOf(counted);
      expect([stats!["bucket.b.keys"], stats!["bucket.b.bytes"]]).toEqual([1, linesOf(listed)[0]!["bytes"]]);
      const changes = ["--ttl", "none", "--value-max", "3", "--compression", "off"];
      expect(await run("bucket", "settings", "b", ...changes)).toEqual(printed());
      const [shown, refused] = await Promise.all([run("bucket", "settings", "b"), run("set", "b", "k", "four")]);
      expect(linesOf(shown)).toMatchObject([{
        settings: { valueBytesMax: 3, compression: false, description: "some" },
      }]);
      expect(refused.stderr[0]).toContain("TOO_LARGE");
    },
  );

  testOn("bun")("firkin bucket works on a folder, which it makes", async () => {
    const run = (...args: string[]): Promise<Ended> => place.run(["bucket", ...args, "--data-dir", "data"]);
    expect(await run("create", "b", "--ttl", "1500ms")).toEqual(printed());
    expect(await run("settings", "b", "--description", "some")).toEqual(printed());
    const settings = { ttl: 1_500, description: "some" };
    expect(linesOf(await run("list"))).toEqual([{ name: "b", keys: 0, bytes: 0, settings }]);
    expect((await run("list", "--no-json")).stdout.split("\n")[1]).toMatch(/^b +0 +0 B +1500ms +none +on +some$/);
  });

  test("firkin makes no store where there is none, but for set", async () => {
    for (const args of [["get", "b", "k"], ["delete", "b", "k"], ["list", "b"], ["subscribe"]]) {
      const ended = await place.run([...args, "--data-dir", "data"]);
      expect({ args, ...ended }).toEqual({ args, ...failed(3, "firkin: Cannot open data: there is no store") });
    }
    expect(existsSync(place.path("data"))).toBe(false);
    expect(await place.run(["set", "b", "k", "1", "--data-dir", "data"])).toEqual(printed());
    expect(await place.run(["get", "b", "k", "--data-dir", "data"])).toEqual(printed("1"));
  });

  test("firkin list takes a range, an order and a limit", async () => {
    const store = await open(place.path("data"));
    const letters = store.bucket("b");
    await Promise.all(["aa", "ab", "b", "c"].map((key, index) => letters.set(key, index)));
    await store.close();
    const keys = async (...args: string[]): Promise<unknown[]> =>
      linesOf(await place.run(["list", "b", "--data-dir", "data", ...args])).map(({ key }) => key);
    expect(await keys("--prefix", "a", "--reverse")).toEqual(["ab", "aa"]);
    expect(await keys("--start", "ab", "--end", "c")).toEqual(["ab", "b"]);
    expect(await keys("--limit", "1")).toEqual(["aa"]);
  });

  test("firkin shows bytes as base64, however many", async () => {
    const bytes = new Uint8Array(500_000).fill(7);
    const store = await open(place.path("data"));
    await store.bucket("b", { codec: "bytes" }).set("k", bytes);
    await store.close();
    const [entry] = linesOf(await place.run(["list", "b", "--data-dir", "data"]));
    expect(atob((entry!["value"] as { base64: string }).base64).length).toBe(bytes.length);
  });

  test("firkin list ends quietly when its reader has seen enough", async () => {
    const store = await open(place.path("data"));
    const many = store.bucket("b");
    await Promise.all(Array.from({ length: 1_000 }, (_, index) => many.set(`k${index}`, "x".repeat(2_000))));
    await store.close();
    const command = place.start(["list", "b", "--data-dir", "data"]);
    await command.stdout.find(/\n/);
    command.child.stdout!.destroy();
    expect(await command.ended).toMatchObject({ code: 0, stderr: [] });
  });

  test("firkin subscribe prints changes, and goes on after a cursor", async () => {
    const { url } = await place.serve();
    const store = await connect(url);
    const bucket = store.bucket("b");
    await bucket.set("old", 1);
    const first = place.start(["subscribe", "b", "--snapshot", "--url", url]);
    await first.stdout.find(/"synced"/);
    await bucket.set("new", { n: 1 }, { ttl: "10ms" });
    await store.bucket("other").set("x", 1);
    await first.stdout.find(/"expire"/);
    first.kill("SIGINT");
    const { code, stdout, stderr } = await first.ended;
    expect(code).toBe(0);
    expect(linesOf({ stdout })).toMatchObject([
      { type: "set", bucket: "b", key: "old", value: 1, revision: 1 },
      { type: "synced" },
      { type: "set", key: "new", value: { n: 1 }, revision: 2, expiresAt: expect.any(Number) },
      { type: "expire", key: "new" },
    ]);
    expect(stderr).toEqual([expect.stringMatching(/^firkin: cursor \w+\.\d+$/)]);
    await bucket.set("later", 2);
    const cursor = stderr[0]!.slice("firkin: cursor ".length);
    const second = place.start(["subscribe", "--from", cursor, "--url", url]);
    await second.stdout.find(/"later".*\n/);
    second.kill("SIGTERM");
    const keys = linesOf(await second.ended).map(({ key }) => key);
    expect(keys.at(-1)).toBe("later");
    expect(keys).not.toContain("old");
    expect(keys).not.toContain("new");
    await store.close();
  });

  test("firkin subscribe works on a folder", async () => {
    await place.run(["set", "b", "k", "1", "--data-dir", "data"]);
    const command = place.start(["subscribe", "--snapshot", "--data-dir", "data"]);
    await command.stdout.find(/"synced"/);
    command.kill("SIGTERM");
    const ended = await command.ended;
    expect(ended.code).toBe(0);
    expect(linesOf(ended)).toMatchObject([{ type: "set", key: "k" }, { type: "synced" }]);
    expect(existsSync(place.path("data/lock"))).toBe(false);
  });
});

describe("firkin serve", () => {
  let place: Workplace;
  beforeEach(() => {
    place = new Workplace();
  });
  afterEach(() => place.end());

  test("firkin serve takes its flags from variables, and the flag wins", async () => {
    const env = { FIRKIN_DATA_DIR: place.path("one"), FIRKIN_LISTEN: "localhost:0", FIRKIN_SYNC: "interval" };
    const one = await place.serve([], { env });
    expect([one.url, one.sync]).toEqual([`ws://localhost:${one.port}`, "interval"]);
    expect(existsSync(place.path("one/lock"))).toBe(true);
    const flags = ["--data-dir", place.path("two"), "--listen", "127.0.0.1:0", "--sync", "os"];
    const two = await place.serve(flags, { env: { ...env, FIRKIN_LISTEN: "wrong" } });
    expect([two.url, two.sync]).toEqual([`ws://127.0.0.1:${two.port}`, "os"]);
    expect(existsSync(place.path("two/lock"))).toBe(true);
    expect(await place.run(["set", "b", "k", "1"], { env: { FIRKIN_URL: one.url } })).toEqual(printed());
    expect(await place.run(["get", "b", "k"], { env: { FIRKIN_URL: one.url } })).toEqual(printed("1"));
    const other = await place.run(["get", "b", "k", "--url", two.url], { env: { FIRKIN_URL: one.url } });
    expect(other).toEqual(failed(1, "firkin: no key b/k"));
  });

  test("firkin serve takes the folder of an owner that may be alive only when it is forced", async () => {
    const one = await place.serve(["--data-dir", "data", "--listen", "127.0.0.1:0"]);
    const lock = JSON.parse(readFileSync(place.path("data/lock"), "utf8"));
    const args = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0"];
    expect(await place.run([...args, "--force-unlock"])).toMatchObject({ code: 3 });
    one.command.kill("SIGTERM");
    await one.command.ended;
    writeFileSync(place.path("data/lock"), JSON.stringify({ ...lock, hostname: "elsewhere" }));
    expect(await place.run(args)).toMatchObject({ code: 3 });
    expect(await place.run(args, { env: { FIRKIN_FORCE_UNLOCK: "no" } })).toMatchObject({ code: 3 });
    expect(await place.run(args, { env: { FIRKIN_FORCE_UNLOCK: "true" } })).toMatchObject({ code: 2 });
    await place.serve(["--data-dir", "data", "--listen", "127.0.0.1:0", "--force-unlock"]);
  });

  test("firkin serve lets in the hosts that it is told, and no others", async () => {
    const status = async (env: Record<string, string>): Promise<number | undefined> => {
      const { port } = await place.serve(["--data-dir", ":memory:", "--listen", "127.0.0.1:0"], { env });
      return await new Promise((resolve, reject) => {
        request(
          { port, host: "127.0.0.1", path: "/livez", headers: { host: "db.example" }, agent: false },
          (answer) => {
            answer.resume();
            resolve(answer.statusCode);
          },
        ).once("error", reject).end();
      });
    };
    expect(await status({})).toBe(403);
    expect(await status({ FIRKIN_ALLOW_HOST: "other.example,db.example" })).toBe(200);
  });

  test("serve --redis serves Redis clients too, and FIRKIN_REDIS says the same", async () => {
    const args = ["--listen", "127.0.0.1:0"];
    for (const [flags, env] of [[["--redis", "127.0.0.1:0"], {}], [[], { FIRKIN_REDIS: "127.0.0.1:0" }]] as const) {
      const { command } = await place.serve([...args, ...flags], { env });
      const [, port] = await command.stderr.find(/^firkin: Redis clients at redis:\/\/127\.0\.0\.1:(\d+)$/m);
      const peer = new RespPeer({ host: "127.0.0.1", port: Number(port) });
      expect(await peer.ask("PING")).toBe("+PONG\r\n");
      command.kill("SIGTERM");
      expect((await command.ended).code).toBe(0);
      expect(await peer.reply()).toBe("closed");
    }
  });

  test("firkin serve answers REST unless it is told not to", async () => {
    const args = ["--data-dir", ":memory:", "--listen", "127.0.0.1:0"];
    const status = async (served: Served): Promise<number> =>
      (await fetch(`http://127.0.0.1:${served.port}/v1/openapi.json`)).status;
    expect(await status(await place.serve(args))).toBe(200);
    expect(await status(await place.serve([...args, "--no-rest"]))).toBe(404);
    expect(await status(await place.serve(args, { env: { FIRKIN_REST: "no" } }))).toBe(404);
    expect(await status(await place.serve([...args, "--rest"], { env: { FIRKIN_REST: "no" } }))).toBe(200);
  });

  test.skipIf(OPENSSL === undefined)("firkin serve takes up its certificate anew on SIGHUP", async () => {
    const [first, second] = [makeCertificate(), makeCertificate()];
    const args = ["--data-dir", ":memory:", "--listen", "127.0.0.1:0", "--tls-cert", first.certFile];
    const { command, url, transport } = await place.serve([...args, "--tls-key", first.keyFile]);
    const store = await connect(url, { ca: first.ca });
    copyFileSync(second.certFile, first.certFile);
    command.kill("SIGHUP");
    await command.stderr.find(/^firkin: goes on with the certificate it has: Cannot /m);
    copyFileSync(second.keyFile, first.keyFile);
    command.kill("SIGHUP");
    const isLive = transport !== "deno";
    await command.stderr.find(isLive ? /^firkin: took up the certificate anew$/m : /it has: Cannot take up another/);
    expect(await store.bucket("b").has("k")).toBe(false);
    await store.close();
    await (await connect(url, { ca: isLive ? second.ca : first.ca })).close();
    command.kill("SIGTERM");
    expect((await command.ended).code).toBe(0);
    first.remove();
    second.remove();
  });

  testOn("bun", OPENSSL)("firkin serve ends with 3 when its port is lost to a new certificate", async () => {
    const refuse = "if (++bound > 1) throw new Error('permission denied')";
    writeFileSync(
      place.path("refuse.mjs"),
      `const { serve } = Bun; let bound = 0; Bun.serve = (options) => { ${refuse}; return serve(options); };`,
    );
    const tls = makeCertificate();
    const { command, url } = await place.serve(
      ["--data-dir", "data", "--listen", "127.0.0.1:0", "--tls-cert", tls.certFile, "--tls-key", tls.keyFile],
      { env: { BUN_OPTIONS: `--preload ${place.path("refuse.mjs")}` } },
    );
    const store = await connect(url, { ca: tls.ca });
    await store.bucket("b").set("k", 1);
    command.kill("SIGHUP");
    const { code, stderr } = await command.ended;
    expect([code, stderr.slice(-3)]).toEqual([3, [
      expect.stringMatching(/^firkin: Cannot go on: the port is given up .*: permission denied$/),
      "firkin: closing",
      "firkin: closed, everything is on disk",
    ]]);
    await store.close();
    tls.remove();
  });

  test("firkin serve ends streams at their cursor and connections with 1012 on SIGTERM", async () => {
    const { command, url, port } = await place.serve(["--data-dir", "data", "--listen", "127.0.0.1:0"]);
    const talk = new Talk(url);
    await talk.say(message([OP.hello, 1, 1, null]));
    const reader = await EventReader.open(`http://127.0.0.1:${port}/v1/events`);
    await reader.next();
    command.kill("SIGTERM");
    const ended = await reader.next();
    expect([ended.event, ended.data]).toEqual(["ended", { cursor: ended.id }]);
    await reader.ended;
    expect(await talk.closed).toBe(1012);
    expect((await command.ended).code).toBe(0);
  });

  test.each(["SIGINT", "SIGTERM"] as const)("firkin serve closes cleanly on %s", async (signal) => {
    const { command, url, transport, sync } = await place.serve(["--data-dir", "data", "--listen", "127.0.0.1:0"]);
    const store = await connect(url);
    const bucket = store.bucket<number>("b");
    await Promise.all(Array.from({ length: 1_000 }, (_, index) => bucket.set(`k${index}`, index)));
    command.kill(signal);
    expect(await command.ended).toEqual({
      code: 0,
      signal: null,
      stdout: "",
      stderr: [
        `firkin: serving data on ${url} (${transport}, sync ${sync})`,
        `firkin: dashboard at ${url.replace("ws:", "http:")}/`,
        "firkin: closing",
        "firkin: closed, everything is on disk",
      ],
    });
    await store.close();
    expect(existsSync(place.path("data/lock"))).toBe(false);
    const events: unknown[] = [];
    const again = await open({ path: place.path("data"), onEvent: (event) => events.push(event) });
    expect((await again.stats())["keys"]).toBe(1_000);
    expect(await again.bucket("b").get("k999")).toBe(999);
    expect(events).toEqual([]);
    await again.close();
  });

  test("firkin serve ends when it has closed, also after a client has vanished", async () => {
    const { command, port } = await place.serve();
    const { socket } = await shakeHands(port, SUBPROTOCOL);
    const vanished = new Promise((resolve) => socket.once("close", resolve));
    socket.destroy();
    await vanished;
    expect(await place.run(["get", "b", "k", "--url", `ws://127.0.0.1:${port}`])).toMatchObject({ code: 1 });
    command.kill("SIGTERM");
    const { stderr } = await command.ended;
    expect(stderr.at(-1)).toBe("firkin: closed, everything is on disk");
  });

  test("firkin serve ends at once on a second signal, and nothing is lost", async () => {
    const { command, url, port } = await place.serve([
      "--data-dir",
      "data",
      "--listen",
      "127.0.0.1:0",
      "--transport",
      "ws",
    ]);
    const store = await connect(url);
    await store.bucket("b").set("k", 1);
    await store.close();
    // A client that does not answer the close holds this transport up; others end its socket themselves.
    const mute = await shakeHands(port, SUBPROTOCOL);
    expect(mute.answer).toMatch(/^HTTP\/1.1 101 /);
    command.kill("SIGTERM");
    await command.stderr.find(/^firkin: closing$/m);
    command.kill("SIGINT");
    expect((await command.ended).code).toBe(130);
    mute.socket.destroy();
    expect(await place.run(["get", "b", "k", "--data-dir", "data"])).toEqual(printed("1"));
  });
});

describe("firkin with what is wrong", () => {
  let place: Workplace;
  let served: Served;
  beforeAll(async () => {
    place = new Workplace();
    served = await place.serve(["--data-dir", "served", "--listen", "127.0.0.1:0"]);
    writeFileSync(place.path("file"), "");
  });
  afterAll(() => place.end());

  /** The server goes on, and answers. */
  async function expectServing(): Promise<void> {
    const store = await connect(served.url);
    const key = crypto.randomUUID();
    await store.bucket("alive").set(key, 1);
    expect(await store.bucket("alive").get(key)).toBe(1);
    await store.close();
  }

  /** Runs each command, a few at a time: one line on standard error, nothing on standard output, and the exit code. */
  async function expectFailures(rows: [args: string[], code: number, line: RegExp, options?: StartOptions][]) {
    for (let start = 0; start < rows.length; start += 4) {
      await Promise.all(
        rows.slice(start, start + 4).map(async ([args, code, line, options]) => {
          const ended = await place.run(args, options);
          expect({ args, ...ended }).toEqual({ args, ...failed(code, expect.stringMatching(line)) });
        }),
      );
    }
    await expectServing();
  }

  test("firkin refuses wrong usage with 2", async () => {
    const target = ["--url", served.url];
    await expectFailures([
      [["frobnicate"], 2, /^firkin: unknown command 'frobnicate'/],
      [["get", "b", ...target], 2, /^firkin: missing required argument 'key'/],
      [["get", "b", "k", "more", ...target], 2, /^firkin: too many arguments/],
      [["get", "b", "k", "--frobnicate"], 2, /^firkin: unknown option '--frobnicate'/],
      [["get", "b", "k", "--url", "nowhere"], 2, /^firkin: option '--url <url>' argument 'nowhere' is invalid/],
      [["get", "b", "k"], 2, /^firkin: option '--url <url>' value 'nowhere' from env 'FIRKIN_URL'/, {
        env: { FIRKIN_URL: "nowhere" },
      }],
      [["set", "B", "k", "1", ...target], 2, /^firkin: Cannot use "B" as a bucket name/],
      [["set", "b", "", "1", ...target], 2, /^firkin: Cannot use an empty key$/],
      [["set", "b", "k", "1", "--ttl", "5parsecs", ...target], 2, /^firkin: Cannot use "5parsecs" as a duration/],
      [["set", "b", "k", "1", "--ttl", "0s", ...target], 2, /^firkin: Cannot use 0 ms as a duration/],
      [["set", "b", "k", "1", "--if-revision", "x", ...target], 2, /^firkin: option '--if-revision <revision>'/],
      [["list", "b", "--limit", "-1", ...target], 2, /^firkin: /],
      [["subscribe", "--prefix", "a", ...target], 2, /^firkin: Cannot use --prefix without a bucket$/],
      [["serve", "--sync", "never"], 2, /^firkin: option '--sync <policy>' .* always, interval, os/],
      [["serve", "--sync-interval-ms", "soon"], 2, /^firkin: option '--sync-interval-ms <ms>'/],
      [["serve", "--sync-interval-ms", "0"], 2, /^firkin: Cannot open with syncIntervalMs 0/],
      [["serve", "--listen", "7480"], 2, /^firkin: option '--listen <host:port>' .* expected host:port/],
      [["serve", "--listen", "127.0.0.1:65536"], 2, /^firkin: option '--listen <host:port>'/],
      [["serve", "--transport", "pigeon"], 2, /^firkin: option '--transport <name>'/],
      [["serve"], 2, /^firkin: option '--sync <policy>' value 'never' from env 'FIRKIN_SYNC'/, {
        env: { FIRKIN_SYNC: "never" },
      }],
    ]);
  });

  test("firkin reports what cannot be done with 3", async () => {
    const target = ["--url", served.url];
    const listen = ["--listen", "127.0.0.1:0"];
    const input = "x".repeat(1024 * 1024 + 1);
    await expectFailures([
      [["set", "b", "k".repeat(1_025), "1", ...target], 3, /^firkin: Cannot use a key of 1025 bytes.* \(TOO_LARGE\)$/],
      [["set", "b", "k", "-", ...target], 3, /^firkin: Cannot set a value of 10485\d\d bytes.* \(TOO_LARGE\)$/, {
        input,
      }],
      [["serve", "--data-dir", "served", ...listen], 3, /^firkin: .* process \d+ .*\(LOCKED\)$/],
      [["get", "b", "k", "--data-dir", "served"], 3, /^firkin: .* process \d+ .*\(LOCKED\)$/],
      [["serve", "--data-dir", "file/below", ...listen], 3, /^firkin: Cannot make .*file\/below.* \(IO\)$/],
      [["serve", "--data-dir", ":memory:", "--listen", "0.0.0.0:0"], 3, /^firkin: Cannot listen on .* \(FORBIDDEN\)$/],
      [["serve", "--data-dir", ":memory:", "--listen", `127.0.0.1:${served.port}`], 3, /^firkin: .*\(UNAVAILABLE\)$/],
      [["get", "b", "k", "--url", "ws://127.0.0.1:1"], 3, /^firkin: Cannot reach ws:.* \(UNAVAILABLE\)$/],
    ]);
  });

  test("firkin serve closes a connection over a malformed frame, and touches no other", async () => {
    const other = new Talk(served.url);
    const hello = message([OP.hello, 1, 1, null]);
    await other.say(hello);
    for (const bytes of [Uint8Array.of(0xff), Uint8Array.of(0x83, OP.ping, 2), Uint8Array.of(0x82, OP.ping, 0)]) {
      const talk = new Talk(served.url);
      await talk.say(hello);
      expect((await talk.say(bytes))[0]!.slice(0, 3)).toEqual([1, 0, 15]);
      expect(await talk.closed).toBe(1002);
    }
    expect(await other.say(message([OP.ping, 2]))).toEqual([[0, 2]]);
    other.socket.close();
    await expectServing();
  });

  test("firkin serve refuses a handshake without its subprotocol", async () => {
    for (const protocol of ["firkin.v0.cbor", undefined]) {
      const { answer, socket } = await shakeHands(served.port, protocol);
      expect(answer).toMatch(/^HTTP\/1.1 400 /);
      socket.destroy();
    }
    await expectServing();
  });
});

// --- the wire, by hand ---

/** A WebSocket on which a test says bytes. */
class Talk {
  readonly socket: WebSocket;
  /** The code that the server closed it with. */
  readonly closed: Promise<number>;
  readonly #opened: Promise<void>;

  constructor(url: string) {
    this.socket = new WebSocket(url, [SUBPROTOCOL]);
    this.socket.binaryType = "arraybuffer";
    this.#opened = new Promise((resolve, reject) => {
      this.socket.onopen = () => resolve();
      this.socket.onerror = () => reject(new Error("Cannot connect"));
    });
    this.closed = new Promise((resolve) => this.socket.onclose = ({ code }) => resolve(code));
  }

  /** Sends one message; resolves with the frames of the next that comes. */
  async say(bytes: Uint8Array): Promise<Item[][]> {
    await this.#opened;
    const heard = new Promise<Item[][]>((resolve) => {
      this.socket.onmessage = ({ data }) => resolve(framesOf(new Uint8Array(data as ArrayBuffer)));
    });
    this.socket.send(bytes);
    return await heard;
  }
}

/** A WebSocket handshake, and the first that the server answers; what comes after it is not answered. */
function shakeHands(port: number, protocol: string | undefined): Promise<{ answer: string; socket: Socket }> {
  const socket = connectSocket(port, "127.0.0.1");
  socket.write([
    "GET / HTTP/1.1",
    `Host: 127.0.0.1:${port}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ...(protocol === undefined ? [] : [`Sec-WebSocket-Protocol: ${protocol}`]),
    "",
    "",
  ].join("\r\n"));
  return new Promise((resolve, reject) => {
    socket.once("data", (bytes) => resolve({ answer: String(bytes), socket }));
    socket.on("error", reject);
  });
}
