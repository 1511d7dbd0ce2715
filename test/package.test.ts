/**
 * The package as a user has it: packed, unpacked into another project's node_modules, and run on the runtime that runs
 * the tests. That finds what the sources cannot tell: a file that is not packed, an export that leads nowhere, a type
 * that only our own settings know.
 *
 * The program is the README's own, so what it shows is true. Nothing is fetched: what the package depends on is linked
 * from here. It tests dist/ as the last build left it.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, renameSync } from "node:fs";
import { rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { testOn } from "./suites/tools.ts";

const dist = fileURLToPath(new URL("../dist", import.meta.url));
const built = existsSync(join(dist, "mod.js"));
if (!built) console.warn('Tests of the package are skipped: there is no dist/, make it with "npm run build"');

/** The project itself: on Node the tests run in a copy, which links to its dist/. */
const root = built ? dirname(realpathSync(dist)) : "";

/** How a program ended, and all it said. */
interface Ended {
  readonly code: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program in `folder` to its end, or kills it when that takes too long. */
function run(folder: string, program: string, ...args: string[]): Promise<Ended> {
  const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: "1" };
  delete env["FORCE_COLOR"];
  return new Promise((resolve) => {
    execFile(program, args, { cwd: folder, env, timeout: 18_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code ?? error.signal, stdout, stderr });
    });
  });
}

/** The example of the README's chapter, with less time to wait for. */
function readmeExample(): string {
  const [, chapter = ""] = readFileSync(join(root, "README.md"), "utf8").split("## In your program\n");
  const example = /```ts\n([\s\S]*?)```/.exec(chapter)?.[1] ?? "";
  expect(example).toContain('ttl: "30s"');
  return example.replace('ttl: "30s"', 'ttl: "2s"');
}

/** What all runtimes print alike but for line breaks, quotes and commas. */
function words(printed: string): string {
  return printed.replaceAll("'", '"').replace(/\s+/g, " ").replaceAll(", }", " }").trim();
}

/** A strict user's settings, without Node's types and without a word for ours. */
const COMPILER_OPTIONS = {
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: false,
  module: "nodenext",
  target: "es2022",
  types: [],
  noEmit: true,
};

/** Beside the README's example: types that refer to what is not everywhere. */
const TYPED = `
import { connect, ManualClock, NodeFileSystem, open, type Store, type Subscription } from "firkin";

const fileSystem = new NodeFileSystem("data");
await using store: Store = await open({ path: "data", fileSystem, clock: new ManualClock() });
using changes: Subscription = store.subscribe({ snapshot: true });
for await (const event of changes) console.log(event.type);
export const other: Promise<Store> = connect("ws://127.0.0.1:7480");
// @ts-expect-error: a path is text, and no type has become any.
export const folder = new NodeFileSystem(1);
`;

/** Every way in, and something that it gives. */
const ENTRIES = {
  ".": "open",
  "./keyv": "KeyvAdapter",
  "./server": "serve",
  "./sessions": "HonoStore",
  "./unstorage": "firkinDriver",
};

/**
 * What the client may weigh in a browser. The aim is 20,000, from which cbor-x keeps it: 10,700 are cbor-x's, of which
 * a bundler can leave nothing out.
 */
const BROWSER_BYTES_MAX = 25_000;

describe.skipIf(!built)("the package", () => {
  let folder: string;
  let archive: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "firkin-package-"));
    const modules = join(folder, "node_modules");
    mkdirSync(modules);
    const options = ["--ignore-scripts", "--offline", "--json", "--pack-destination", folder];
    const packed = await run(root, "npm", "pack", ...options);
    expect(packed).toMatchObject({ code: 0 });
    const [{ filename }] = JSON.parse(packed.stdout);
    archive = filename;
    expect(await run(folder, "tar", "-xzf", filename, "-C", modules)).toMatchObject({ code: 0 });
    renameSync(join(modules, "package"), join(modules, "firkin"));
    const { dependencies } = JSON.parse(readFileSync(join(modules, "firkin", "package.json"), "utf8"));
    for (const name of Object.keys(dependencies)) {
      symlinkSync(join(root, "node_modules", name), join(modules, name), "junction");
    }
    writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("the package runs the README's example", async () => {
    // Node 20 takes no TypeScript, and this is all of it.
    writeFileSync(join(folder, "program.js"), readmeExample().replace("<{ name: string }>", ""));
    const flags = process.versions["deno"] === undefined ? [] : ["run", "-A"];
    const { code, stdout, stderr } = await run(folder, process.execPath, ...flags, "program.js");
    expect({ code, stderr, said: words(stdout) }).toEqual({
      code: 0,
      stderr: "",
      said: '{ name: "Ada" } undefined set synced expire',
    });
  });

  test("the package has types for a strict user", async () => {
    writeFileSync(join(folder, "example.ts"), readmeExample());
    writeFileSync(join(folder, "typed.ts"), TYPED);
    const config = { compilerOptions: COMPILER_OPTIONS, files: ["example.ts", "typed.ts"] };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
    const compiled = await run(folder, join(root, "node_modules", ".bin", "tsc"), "--project", folder);
    expect(compiled).toEqual({ code: 0, stdout: "", stderr: "" });
  });

  test("the package has all its ways in", async () => {
    const lines = Object.entries(ENTRIES).map(([entry, name], place) => {
      return `import { ${name} as entry${place} } from "firkin${entry.slice(1)}";\nconsole.log(typeof entry${place});`;
    });
    writeFileSync(join(folder, "entries.js"), lines.join("\n"));
    const flags = process.versions["deno"] === undefined ? [] : ["run", "-A"];
    const { code, stdout, stderr } = await run(folder, process.execPath, ...flags, "entries.js");
    expect({ code, stderr, said: words(stdout) }).toEqual({
      code: 0,
      stderr: "",
      said: "function function function function function",
    });
    const [npm, jsr] = ["package.json", "deno.json"].map((name) => JSON.parse(readFileSync(join(root, name), "utf8")));
    expect(jsr.version).toBe(npm.version);
    expect(Object.keys(jsr.exports).filter((entry) => entry !== "./browser")).toEqual(Object.keys(ENTRIES));
    const { exports } = npm;
    expect(Object.keys(exports).filter((entry) => !entry.endsWith(".js")).sort()).toEqual(Object.keys(ENTRIES));
  });

  // Bundling and the tools that look at the package say the same on every runtime.
  testOn("node")("a bundle for browsers has the client alone", async () => {
    writeFileSync(join(folder, "page.js"), 'import { connect } from "firkin";\nglobalThis.connect = connect;\n');
    const bun = join(root, "node_modules", ".bin", "bun");
    const flags = ["--target", "browser", "--minify", "--external", "ws", "--outfile", "page.min.js"];
    expect(await run(folder, bun, "build", "page.js", ...flags)).toMatchObject({ code: 0 });
    const bundle = readFileSync(join(folder, "page.min.js"));
    const bytes = gzipSync(bundle).length;
    console.log(
      `the client is ${bytes} bytes in a browser, gzipped; the package ${statSync(join(folder, archive)).size}`,
    );
    expect(bytes).toBeLessThan(BROWSER_BYTES_MAX);
    expect(String(bundle)).not.toMatch(/["']node:/);
  });

  testOn("node")("publint and arethetypeswrong find nothing", async () => {
    const bin = join(root, "node_modules", ".bin");
    const linted = await run(folder, join(bin, "publint"), "run", archive, "--strict");
    expect(linted).toMatchObject({ code: 0, stdout: expect.stringContaining("All good!") });
    expect(await run(folder, join(bin, "attw"), archive, "--profile", "esm-only")).toMatchObject({ code: 0 });
  });
});
