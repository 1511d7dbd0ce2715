/**
 * Makes dist/: JavaScript and declarations, the pages that the server hands out, and the client for a browser as one
 * file. Bun runs the sources, installed or not; Deno runs them here, but takes no TypeScript from node_modules.
 *
 * `npm install` runs this, so it needs nothing but Node and what npm has installed. Types are not checked here:
 * `npm run check` does that. Everything is made in a folder beside and then moved into place, so that a build that
 * fails leaves the last one, and nothing of an older one remains.
 *
 * @module
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { extname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { existing, root, run } from "./tools.mjs";

/** Compiles the sources that are part of the package. */
function compile(target) {
  return run("tsc", ["--project", "tsconfig.build.json", "--outDir", target]).ok;
}

/** Copies what stands beside the sources and is read at run time. */
function copyPages(target) {
  for (const folder of existing("server", "examples")) {
    cpSync(join(root, folder), join(target, folder), {
      recursive: true,
      filter: (path) => statSync(path).isDirectory() || [".html", ".css"].includes(extname(path)),
    });
  }
}

/** What is bundled for browsers: the client, and the dashboard with the client and uPlot in it. */
const BUNDLES = [
  { from: "browser.ts", to: "firkin.browser.js", banner: "" },
  {
    from: "server/dashboard/main.ts",
    to: "server/dashboard/dashboard.js",
    banner: "/*! with uPlot, (c) Leon Sorokin, MIT License, https://github.com/leeoniya/uPlot */",
  },
];

/**
 * Bundles one of them; `ws` stays out, because a browser has its own WebSocket. cbor-x tries whether it may compile
 * text, which a page's policy reports as a violation: in the bundle there is no `Function` to try with.
 */
function bundle(target, { from, to, banner }) {
  const outfile = join(target, to);
  const args = ["build", from, "--target", "browser", "--format", "esm", "--minify", "--external", "ws"];
  const options = ["--define", "Function=undefined", "--banner", banner, "--outfile", outfile];
  const bundled = run("bun", [...args, ...options], { stdio: "pipe" });
  if (!bundled.ok) {
    console.error(bundled.output);
    return false;
  }
  const bytes = gzipSync(readFileSync(outfile)).length;
  console.log(`build: ${to} has ${(bytes / 1_024).toFixed(1)} KiB gzipped`);
  return true;
}

/** Builds into a folder of its own; true when all of it is there. */
function build(target) {
  if (!compile(target)) return false;
  copyPages(target);
  const command = join(target, "server", "cli.js");
  if (existsSync(command)) chmodSync(command, 0o755);
  return BUNDLES.every((one) => bundle(target, one));
}

mkdirSync(join(root, "build"), { recursive: true });
const target = mkdtempSync(join(root, "build", "dist-"));
try {
  if (build(target)) {
    chmodSync(target, 0o755); // mkdtemp makes it 0700
    rmSync(join(root, "dist"), { recursive: true, force: true });
    renameSync(target, join(root, "dist"));
  } else {
    console.error("build: failed; dist/ is as it was");
    process.exitCode = 1;
  }
} finally {
  rmSync(target, { recursive: true, force: true });
}
