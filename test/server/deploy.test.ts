/**
 * What is under deploy/, as far as it can be checked here: rules by promtool, the unit by systemd-analyze, and that
 * every figure that an alert or a panel asks for is one that a server tells. On Bun alone: nothing in it differs
 * between runtimes.
 *
 * @module
 */
import { describe, expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { open } from "../../lib/store/open.ts";
import { SettingsFile } from "../../server/cli/settings.ts";
import { addServeCommand } from "../../server/cli/serving.ts";
import { serve } from "../../server/mod.ts";
import { findTool, testOn } from "../suites/tools.ts";

const FOLDER = new URL("../../deploy/", import.meta.url);
const runs = "Bun" in globalThis;
const promtool = runs ? findTool("prometheus") : undefined;
const systemd = runs ? findTool("systemd") : undefined;

function pathOf(name: string): string {
  return fileURLToPath(new URL(name, FOLDER));
}

function textOf(name: string): string {
  return readFileSync(new URL(name, FOLDER), "utf8");
}

/** Every name of a metric in a text. */
function metricsIn(text: string): string[] {
  return [...new Set(text.match(/\b(?:firkin|process)_[a-z0-9_]+\b(?=[[{ )<>=/]|$|\\n|")/gm) ?? [])].sort();
}

describe("deploy/", () => {
  testOn("bun")("asks for figures that a server tells, and no others", async () => {
    const store = await open(":memory:");
    const server = await serve({ store, port: 0 });
    await store.bucket("b").set("k", 1);
    await (await fetch(`http://127.0.0.1:${server.port}/v1/buckets/b/keys/k`)).text();
    const page = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
    await server.close();
    await store.close();
    const told = new Set(page.split("\n").map((line) => /^[a-z_]+/.exec(line)?.[0]));
    for (const name of ["alerts.yml", "grafana.json"]) {
      const asked = metricsIn(textOf(name));
      expect(asked.length).toBeGreaterThan(8);
      expect([name, asked.filter((metric) => !told.has(metric))]).toEqual([name, []]);
    }
  });

  testOn("bun")("has a guide that says what each alert means", () => {
    const guide = readFileSync(new URL("../docs/OPERATIONS.md", FOLDER), "utf8");
    const alerts = [...textOf("alerts.yml").matchAll(/alert: (\w+)/g)].map((match) => match[1]!);
    expect(alerts.filter((alert) => !guide.includes(`\`${alert}\``))).toEqual([]);
    expect(readdirSync(FOLDER).filter((name) => !guide.includes(name.replace(/\.dockerignore$/, "")))).toEqual([]);
  });

  testOn("bun")("has settings that the command takes", async () => {
    const program = new Command("firkin");
    addServeCommand(program);
    program.command("get").addOption(new Option("--url <url>"));
    // What is commented out too.
    const text = textOf("firkin.toml").replace(/^# (?=[a-z-]+ = )/gm, "");
    expect(text.match(/^[a-z-]+ = /gm)).toHaveLength(10);
    await SettingsFile.read(pathOf("firkin.toml"), program);
    const known = program.commands.flatMap(({ options }) => options).map(({ long }) => long?.slice(2));
    for (const line of text.match(/^[a-z-]+(?= = )/gm) ?? []) expect(known).toContain(line);
  });

  testOn("bun", promtool)("has rules that Prometheus takes", () => {
    const { status, stdout } = spawnSync(promtool!, ["check", "rules", pathOf("alerts.yml")], { encoding: "utf8" });
    expect([status, stdout]).toEqual([0, expect.stringContaining("SUCCESS")]);
  });

  testOn("bun", systemd)("has a unit that systemd takes", () => {
    const { status, stderr } = spawnSync(systemd!, ["verify", pathOf("firkin.service")], { encoding: "utf8" });
    const said = stderr.split("\n").filter((line) =>
      line.includes("firkin.service") && !/is not executable/.test(line)
    );
    expect([said, status === 0 || /is not executable/.test(stderr)]).toEqual([[], true]);
  });
});
