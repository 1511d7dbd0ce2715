/**
 * Runs the tests on Node, which until version 22 does not take TypeScript: compiles sources and tests into a folder of
 * build/ that has the project's shape, and gives the compiled tests to `node --test`.
 *
 * Everything that is not compiled is copied to the same place beside it, so that a path relative to `import.meta.url`
 * leads to the same file as on Bun and Deno. The folder is this run's own and removed with it. Types are not checked
 * here: `npm run check` does that.
 *
 * `npm run test:node` runs all; `npm run test:node -- test/base bitcask/record` the tests whose path has one of those.
 *
 * @module
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { existing, root, run } from "./tools.mjs";

/** Folders that tests, or what they test, may read from. */
const COPIED = ["lib", "server", "test", "bench", "examples", "docs"];

/** Folders that are not part of the sources, and that nothing changes. */
const LINKED = ["dist", "node_modules"];

/** Makes the project's tree in `target`, with JavaScript beside each TypeScript file. */
function compile(target) {
  const files = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isFile());
  for (const name of [...existing(...COPIED), ...files.map((entry) => entry.name)]) {
    cpSync(join(root, name), join(target, name), { recursive: true });
  }
  for (const name of existing(...LINKED)) symlinkSync(join(root, name), join(target, name));
  const emit = ["--noEmit", "false", "--noCheck", "--declaration", "false", "--isolatedDeclarations", "false"];
  return run("tsc", ["--project", "tsconfig.json", ...emit, "--inlineSourceMap", "--outDir", target]).ok;
}

/** The compiled tests whose path has one of the words, or all. */
function testFiles(target, words) {
  const paths = readdirSync(join(target, "test"), { recursive: true, encoding: "utf8" });
  const tests = paths.filter((path) => path.endsWith(".test.js")).map((path) => `test/${path.replaceAll("\\", "/")}`);
  const wanted = words.map((word) => word.replace(/\.ts$/, ""));
  return tests.filter((path) => wanted.length === 0 || wanted.some((word) => path.includes(word))).sort();
}

/** Runs the tests in `target`; the code to exit with. */
function test(target) {
  if (!compile(target)) return 1;
  const files = testFiles(target, process.argv.slice(2));
  if (files.length === 0) {
    console.error("test:node: there is no such test");
    return 1;
  }
  const hooks = pathToFileURL(join(root, "scripts", "node_hooks.mjs")).href;
  const options = [
    "--enable-source-maps",
    "--import",
    hooks,
    "--test",
    // A test waits for a third of its time: three files keep two cores busy.
    "--test-concurrency=3",
    "--test-reporter",
    "spec",
  ];
  return run(process.execPath, [...options, ...files], { cwd: target }).code;
}

mkdirSync(join(root, "build"), { recursive: true });
const target = mkdtempSync(join(root, "build", "test-node-"));
try {
  process.exitCode = test(target);
} finally {
  rmSync(target, { recursive: true, force: true });
}
