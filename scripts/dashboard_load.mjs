/**
 * The dashboard under load: one page in Chromium, on every view in turn, while so many changes a second happen, and
 * what the page and the server need meanwhile.
 *
 * `npm run build && node scripts/dashboard_load.mjs [seconds] [changes a second]`: 600 and 5,000 when it is not said.
 * Prints a row a minute: heaps after a collection, the processor's time of page and server since the row before as a
 * share of one core, and what the page holds. The server is a process of its own, so is who writes.
 *
 * @module
 */
import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const VIEWS = ["overview", "keys/load", "events", "clients"];
const ROW_MS = 60_000;
/** So many keys are written to again and again; one in ten sets gives a deadline. */
const KEYS = 20_000;
const STEP_MS = 20;

/** A server, in a process of its own: tells where it is, and how it is when it is asked. */
async function serveHere(folder) {
  const [{ open }, { serve }] = [await import("../dist/mod.js"), await import("../dist/server/mod.js")];
  const store = await open({ path: folder, sync: "interval" });
  const server = await serve({ store, port: 0 });
  const answer = async () => {
    globalThis.gc();
    const { user, system } = process.cpuUsage();
    const { heapUsed, rss } = process.memoryUsage();
    const { revision } = await store.stats();
    const events = server.stats()["server.events"];
    process.send({ cpuMs: (user + system) / 1_000, heapUsed, rss, revision, events });
  };
  const end = async () => {
    await server.close();
    await store.close();
    process.disconnect();
  };
  process.on("message", (asked) => void (asked === "end" ? end() : answer()));
  process.send({ url: server.url, port: server.port });
}

/** Writes `rate` changes a second until it is ended. */
async function writeHere(url, rate) {
  const { connect } = await import("../dist/mod.js");
  const bucket = (await connect(url)).bucket("load");
  let [written, beganAt] = [0, performance.now()];
  process.on("disconnect", () => process.exit(0));
  for (;;) {
    const due = Math.floor((performance.now() - beganAt) * rate / 1_000) - written;
    const entries = Array.from({ length: due }, (_, index) => {
      const number = written + index;
      const value = { number, text: "so many words as a small value has" };
      return [`key-${String(number * 7_919 % KEYS).padStart(6, "0")}`, value, number % 10 === 0 ? { ttl: 2_000 } : {}];
    });
    if (due > 0) await bucket.setMany(entries);
    written += due;
    await pause(STEP_MS);
  }
}

function child(...args) {
  return fork(fileURLToPath(import.meta.url), args.map(String), { execArgv: ["--expose-gc"] });
}

function answerOf(process, asked) {
  const answer = new Promise((resolve) => process.once("message", resolve));
  if (asked !== undefined) process.send(asked);
  return answer;
}

const HEAD = "          page heap   cpu   nodes  listen.  server heap  server rss   cpu  changes/s  events/s";

/** A page in Chromium, and what it says of itself. */
async function openPage(port) {
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu"],
  });
  const page = await browser.newPage({ viewport: { width: 1_280, height: 860 } });
  page.on("pageerror", (error) => console.log("page:", error.message));
  await page.goto(`http://127.0.0.1:${port}/#/events`);
  await page.locator("body[data-state=live]").waitFor();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Performance.enable");
  return {
    show: (view) => page.evaluate(`location.hash = "#/${view}"`),
    close: () => browser.close(),
    async look() {
      await devtools.send("HeapProfiler.collectGarbage");
      const { metrics } = await devtools.send("Performance.getMetrics");
      const figure = (name) => metrics.find((metric) => metric.name === name).value;
      return {
        at: performance.now(),
        heap: figure("JSHeapUsedSize"),
        cpuMs: figure("TaskDuration") * 1_000,
        nodes: figure("Nodes"),
        listeners: figure("JSEventListeners"),
      };
    },
  };
}

/** A row: what there is now, and what happened since the row before. */
function rowOf(name, now, before = now) {
  const elapsed = now.page.at - before.page.at;
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1).padStart(6)} MiB`;
  const share = (
    side,
  ) => (elapsed === 0 ? "-" : `${((now[side].cpuMs - before[side].cpuMs) / elapsed * 100).toFixed(0)} %`);
  const rate = (name) => elapsed === 0 ? "-" : ((now.server[name] - before.server[name]) / elapsed * 1_000).toFixed(0);
  return [
    name.padEnd(8),
    mib(now.page.heap),
    share("page").padStart(5),
    String(now.page.nodes).padStart(6),
    String(now.page.listeners).padStart(6),
    mib(now.server.heapUsed),
    mib(now.server.rss),
    share("server").padStart(5),
    rate("revision").padStart(9),
    rate("events").padStart(8),
  ].join("  ");
}

async function main(seconds, rate) {
  const folder = mkdtempSync(join(tmpdir(), "firkin-load-"));
  const server = child("serve", join(folder, "data"));
  const { url, port } = await answerOf(server);
  const page = await openPage(port);
  let before;
  const tell = async (name) => {
    const now = { page: await page.look(), server: await answerOf(server, "figures") };
    console.log(rowOf(name, now, before));
    before = now;
  };
  console.log(HEAD);
  await pause(2_000);
  await tell("before");
  await pause(10_000);
  await tell("idle");
  const writer = child("write", url, rate);
  const beganAt = performance.now();
  for (let minute = 1; performance.now() - beganAt < seconds * 1_000; minute++) {
    for (const view of VIEWS) {
      await page.show(view);
      await pause(ROW_MS / VIEWS.length);
    }
    await page.show("events");
    await tell(`${minute} min`);
  }
  writer.disconnect();
  await pause(10_000);
  await tell("after");
  await page.close();
  server.send("end");
  await new Promise((resolve) => server.once("exit", resolve));
  rmSync(folder, { recursive: true, force: true });
}

const [role, ...args] = process.argv.slice(2);
if (role === "serve") await serveHere(args[0]);
else if (role === "write") await writeHere(args[0], Number(args[1]));
else await main(Number(role ?? 600), Number(args[0] ?? 5_000));
