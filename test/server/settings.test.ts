/**
 * Where the command's settings come from, and what it says to people and to programs.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { Command, Option } from "commander";
import { table } from "../../server/cli/output.ts";
import { SettingsFile, settingsOf } from "../../server/cli/settings.ts";
import { findTool, testOn } from "../suites/tools.ts";
import { type Ended, Workplace } from "./command.ts";

let place: Workplace;
/** Commands as processes, on one runtime: `cli.test.ts` has them on all. */
const runs = "Bun" in globalThis;
const bash = runs ? findTool("bash") : undefined;

describe("settings", () => {
  beforeAll(() => {
    place = new Workplace();
  });
  afterAll(() => place.end());

  /** A program with one option of each kind; `--port` is in two commands. */
  function programOf(): { program: Command; serve: Command } {
    const program = new Command("firkin").exitOverride().configureOutput({ writeErr: () => {} });
    const whole = (text: string): number => {
      if (!/^\d+$/.test(text)) throw new TypeError("expected a whole number");
      return Number(text);
    };
    const serve = program.command("serve")
      .addOption(new Option("--port <port>").env("FIRKIN_TEST_PORT").argParser(whole).default(1))
      .addOption(new Option("--mode <mode>").choices(["a", "b"]).default("a"))
      .addOption(new Option("--host <host>").argParser((host, all: string[]) => [...all, host]).default([], "none"))
      .addOption(new Option("--force [yes|no]").choices(["yes", "no"]).preset("yes").default("no"))
      .option("--loud").option("--token <token>").action(() => {});
    program.command("get").option("--port <port>").action(() => {});
    return { program, serve };
  }

  /** What the settings of `serve` are, with this file and these flags. */
  async function read(text: string, ...flags: string[]): Promise<Record<string, [string, string]>> {
    writeFileSync(place.path("firkin.toml"), text);
    const { program, serve } = programOf();
    const file = await SettingsFile.read(place.path("firkin.toml"), program);
    program.hook("preAction", (_, command) => file.apply(command));
    await program.parseAsync(["serve", ...flags], { from: "user" });
    const path = place.path("firkin.toml");
    return Object.fromEntries(
      settingsOf(serve, file).map(({ name, value, source }) => [name, [value, source === path ? "file" : source]]),
    );
  }

  test("a flag wins over the variable, that over the file, that over the default", async () => {
    const text = 'port = 2\nmode = "b"\n[get]\nport = 9\n';
    expect(await read(text)).toMatchObject({ port: ["2", "file"], mode: ["b", "file"], host: ["none", "default"] });
    process.env["FIRKIN_TEST_PORT"] = "3";
    try {
      expect((await read(text))["port"]).toEqual(["3", "FIRKIN_TEST_PORT"]);
      expect((await read(text, "--port", "4"))["port"]).toEqual(["4", "flag"]);
    } finally {
      delete process.env["FIRKIN_TEST_PORT"];
    }
  });

  test("a command's own table wins over what is for all", async () => {
    expect((await read("port = 2\n[serve]\nport = 5\n"))["port"]).toEqual(["5", "file"]);
  });

  test("values have the types that flags have, and secrets are not said", async () => {
    const text = 'host = ["a", "b"]\nforce = true\nloud = true\ntoken = "hush"\n';
    expect(await read(text)).toMatchObject({
      host: ["a,b", "file"],
      force: ["yes", "file"],
      loud: ["true", "file"],
      token: ["(secret)", "file"],
    });
  });

  test.each([
    ["prot = 1", /there is no setting prot/],
    ["[serve]\nprot = 1", /there is no setting serve\.prot/],
    ["[frobnicate]\nport = 1", /there is no setting frobnicate/],
    ["port = [", /Cannot read .*firkin\.toml/],
    ['port = "soon"', /Cannot use port of .*: expected a whole number/],
    ['mode = "c"', /Cannot use mode of .*: Allowed choices are a, b/],
    ['loud = "very"', /Cannot use loud of .*: expected true or false/],
    ["host = 1979-05-27", /Cannot use host/],
  ])("a file with %j is refused", async (text, message) => {
    expect(await read(text).catch((error: unknown) => error)).toMatchObject({
      name: "TypeError",
      message: expect.stringMatching(message),
    });
  });
});

describe("table()", () => {
  test("puts cells under their titles, on one line each, no wider than there is room", () => {
    const rows = [["ada", "1", "one\ntwo"], ["a-longer-name", "1,000", "x".repeat(40)]];
    expect(table(["KEY", "N", "VALUE"], rows, 32)).toEqual([
      "KEY            N      VALUE",
      "ada            1      one two",
      `a-longer-name  1,000  ${"x".repeat(9)}…`,
    ]);
  });
});

describe("firkin", () => {
  beforeEach(() => {
    place = new Workplace();
  });
  afterEach(() => place.end());

  const target = ["--data-dir", "data"];

  testOn("bun")("explains itself in ten lines, and says its settings", async () => {
    const [alone, config, wrong] = await Promise.all([
      place.run([]),
      place.run(["config", "list", "--", "--limit", "5"], { env: { FIRKIN_URL: "ws://127.0.0.1:9" } }),
      place.run(["config", "frobnicate"]),
    ]);
    expect([alone.code, alone.stdout.trimEnd().split("\n").length]).toEqual([0, 10]);
    expect(JSON.parse(config.stdout)).toMatchObject(
      expect.arrayContaining([
        { name: "url", value: "ws://127.0.0.1:9", source: "FIRKIN_URL" },
        { name: "limit", value: "5", source: "flag" },
        { name: "prefix", value: "", source: "default" },
      ]),
    );
    expect(wrong).toMatchObject({ code: 2, stdout: "" });
  });

  testOn("bun")("takes, counts, compacts and tells figures, as the file says where", async () => {
    writeFileSync(place.path("firkin.toml"), 'data-dir = "data"\n');
    const run = (...args: string[]): Promise<Ended> => place.run(["--config", "firkin.toml", ...args]);
    expect((await run("increment", "c", "n", "5")).stdout).toBe("5\n");
    expect((await place.run(["increment", "c", "n", ...target, "--", "-2"])).stdout).toBe("3\n");
    expect((await run("set", "c", "code", "hush", "--once")).code).toBe(0);
    expect((await run("take", "c", "code")).stdout).toBe("hush\n");
    expect((await run("compact")).stdout).toMatch(/^\d.* before, \d.* after\n$/);
    expect((await run("stats", "--no-json")).stdout).toMatch(/^keys +1$/m);
    expect((await run("list", "c", "--no-json")).stdout).toMatch(/^KEY +REVISION +EXPIRES +VALUE\nn +2 +3\n$/);
  });

  testOn("bun")("measures a store, and leaves nothing in it", async () => {
    const { code, stdout } = await place.run(["bench", "--count", "200", "--depth", "8", ...target]);
    const results = JSON.parse(stdout) as { operation: string; perSecond: number; p50Us: number; p99Us: number }[];
    expect([code, results.map(({ operation }) => operation)]).toEqual([0, ["set", "get", "delete"]]);
    for (const { perSecond, p50Us, p99Us } of results) expect([perSecond > 0, p50Us <= p99Us]).toEqual([true, true]);
    expect((await place.run(["list", "firkin-bench", ...target])).stdout).toBe("");
    expect(await place.run(["bench", "--depth", "0", ...target])).toMatchObject({ code: 2, stdout: "" });
  });

  testOn("bun")("serve tells programs what it does, one JSON object a line", async () => {
    const server = place.start(["serve", "--listen", "127.0.0.1:0", "--data-dir", ":memory:", "--log", "json"]);
    await server.stderr.find(/"dashboard".*\n/);
    server.kill("SIGTERM");
    const lines = (await server.ended).stderr.map((line) => JSON.parse(line) as Record<string, unknown>);
    const told = lines.filter(({ level }) => level === "info");
    expect(told.map(({ event }) => event)).toEqual(["serving", "dashboard", "closing", "closed"]);
    expect(told[0]).toMatchObject({
      dataDir: ":memory:",
      url: expect.stringMatching(/^ws:/),
      time: expect.any(String),
    });
  });

  testOn("bun", bash)("completion is a script that bash completes by", async () => {
    const { stdout } = await place.run(["completion", "bash"]);
    const complete = (...words: string[]): string[] => {
      const line = words.map((word) => `'${word}'`).join(" ");
      const ask = `COMP_WORDS=(firkin ${line}); COMP_CWORD=${words.length}; _firkin; echo "\${COMPREPLY[@]}"`;
      const { stdout: said } = spawnSync(bash!, ["-c", `${stdout}\n${ask}`], { encoding: "utf8" });
      return said.trim().split(" ");
    };
    expect(complete("s")).toEqual(["serve", "subscribe", "set", "stats", "snapshot"]);
    expect(complete("token", "")).toEqual(["create", "list", "revoke", "--help"]);
    expect(complete("get", "--data-dir", "x", "--to")).toEqual(["--token", "--token-file"]);
  });
});
