/**
 * Runs Redis' own test suite against firkin, and prints which tests pass: the list in docs/REDIS_SUITE.md.
 *
 * `git clone --branch 7.0.15 https://github.com/redis/redis`, then `npm run build` and
 * `node scripts/redis_suite.mjs redis`, with names of units behind it to run only those. It takes `tclsh`, and some
 * minutes. The suite is copied to a folder of its own, where three things are changed: a server that does not know
 * `FUNCTION` is taken, and after a test that fails the next one has a new connection, since most that fail do so in the
 * middle of a `MULTI`, by a command that is not there; and who listens to what happens to keys says `__key*`, not `*`.
 *
 * Tests that want what an external server does not offer (`DEBUG`, replicas, saving by command, gigabytes) are left out
 * by the suite's own tags. Values may be of 16 MiB here, and batches of 20,000 operations, since the suite's are.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { open } from "../dist/mod.js";
import { serve } from "../dist/server/mod.js";

/** Those in which there is something for a server of strings; the rest is of other types, scripts, replicas, files. */
const UNITS = [
  "type/string",
  "type/incr",
  "expire",
  "keyspace",
  "scan",
  "multi",
  "pubsub",
  "protocol",
  "quit",
  "introspection",
  "introspection-2",
].map((name) => `unit/${name}`);
const TAGS = ["needs:debug", "needs:repl", "needs:save", "needs:config-maxmemory", "large-memory"];
const MIB = 1_048_576;
const BATCH = { batchOperationsMax: 20_000, batchBytesMax: 24 * MIB };
const LIMITS = { valueBytesMax: 16 * MIB, messageBytesMax: 32 * MIB, ...BATCH };

const TELLS = '            send_data_packet $::test_server_fd err [join $details "\\n"]\n';

/** Files of the suite: what is there, and what is put in its place, wherever it is. */
const CHANGES = [
  ["tests/support/server.tcl", "    r function flush\n", "    catch {r function flush}\n"],
  ["tests/support/test.tcl", `${TELLS}\n            if`, `${TELLS}            catch {reconnect}\n\n            if`],
  // Here only a pattern that begins so is one of keys (docs/REDIS.md).
  ["tests/unit/pubsub.tcl", "psubscribe $rd1 *]", "psubscribe $rd1 __key*]"],
  ["tests/unit/pubsub.tcl", "pmessage * __key", "pmessage __key* __key"],
];

/** Copies the suite, and changes it. */
function prepare(clone, folder) {
  for (const name of ["runtest", "tests"]) cpSync(join(clone, name), join(folder, name), { recursive: true });
  for (const [path, before, after] of CHANGES) {
    const text = readFileSync(join(folder, path), "utf8");
    if (!text.includes(before)) throw new Error(`${path} is not that of Redis 7.0`);
    writeFileSync(join(folder, path), text.replaceAll(before, after));
  }
}

/** What one unit says about each of its tests: `{ ok, err, ignored }`, names in their order. */
async function runUnit(folder, port, unit) {
  const tags = TAGS.map((tag) => `-${tag}`).join(" ");
  const args = ["--host", "127.0.0.1", "--port", String(port), "--durable", "--clients", "1", "--timeout", "60"];
  const child = spawn("./runtest", [...args, "--tags", tags, "--single", unit], { cwd: folder });
  let output = "";
  child.stdout.on("data", (text) => output += text);
  await new Promise((done) => child.on("close", done));
  const lines = stripVTControlCharacters(output).split("\n");
  /** @type {{ ok: string[], err: string[], ignored: string[] }} */
  const found = { ok: [], err: [], ignored: [] };
  for (const [index, line] of lines.entries()) {
    const [, kind, name] =
      /^\[(ok|err|ignore|skip)\]: (.*?)(?: \(\d+ ms\)| in tests\/\S+|: (?:Tag|Not).*)?$/.exec(line) ?? [];
    if (kind === "ok") found.ok.push(name);
    else if (kind === "err") found.err.push(`${name} | ${lines[index + 1]}`);
    else if (kind !== undefined) found.ignored.push(name);
  }
  if (!output.includes("Test Summary") && !output.includes("All tests passed")) {
    console.error(lines.slice(-30).join("\n"));
  }
  return found;
}

const [clone, ...wanted] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "firkin-redis-suite-"));
const store = await open({ path: ":memory:", sync: "os", ...BATCH });
const server = await serve({ store, port: 0, redis: { port: 0 }, limits: LIMITS });
try {
  prepare(resolve(clone), folder);
  const port = new URL(server.redisUrl).port;
  const total = { ok: 0, err: 0, ignored: 0 };
  for (const unit of wanted.length === 0 ? UNITS : wanted) {
    const found = await runUnit(folder, port, unit);
    for (const [kind, names] of Object.entries(found)) total[kind] += names.length;
    console.log(`\n## ${unit}: ${found.ok.length} pass, ${found.err.length} fail, ${found.ignored.length} left out\n`);
    for (const name of found.ok) console.log(`ok   ${name}`);
    for (const name of found.err) console.log(`fail ${name}`);
  }
  console.log(`\n${total.ok} pass, ${total.err} fail, ${total.ignored} left out`);
} finally {
  await server.close();
  await store.close();
  rmSync(folder, { recursive: true, force: true });
}
