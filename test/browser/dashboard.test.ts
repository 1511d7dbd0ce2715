/**
 * The dashboard in Chromium, against a real server: what it says is what happens in the store, and what is done in it
 * is done.
 *
 * Nothing here sleeps: each step waits until the page shows what it must, and the test's limit is the patience.
 * Skipped, by name, where there is no Chromium or no build in dist/, and but for Bun, since the page is the same.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "bun:test";
import type { Locator, Page } from "playwright-core";
import { CONTENT } from "../../lib/base/codec.ts";
import { connect } from "../../lib/store/connect.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { type Scope, serve, type Server, Tokens } from "../../server/mod.ts";
import { launchBrowser, type LaunchedBrowser } from "../suites/chromium.ts";
import { testOn } from "../suites/tools.ts";

const browser: LaunchedBrowser | undefined = "Bun" in globalThis ? await launchBrowser() : undefined;
const EVERYTHING = [{ buckets: "*", rights: ["read", "write", "subscribe", "admin"] }] as const satisfies Scope[];

/** Only in the page. */
declare const MutationObserver: new (callback: () => void) => { observe(target: object, options: object): void };

/** Runs in the page: the first three different texts of an element. */
function textsOf(element: { readonly textContent: string | null }): Promise<string[]> {
  const texts = new Set([element.textContent ?? ""]);
  return new Promise((resolve) => {
    new MutationObserver(() => {
      if (texts.add(element.textContent ?? "").size === 3) resolve([...texts]);
    }).observe(element, { childList: true });
  });
}

/** Runs in the page: how wide an image is. */
async function widthOf(image: unknown): Promise<number> {
  const { decode, naturalWidth } = image as { decode: () => Promise<void>; naturalWidth: number };
  await decode.call(image);
  return naturalWidth;
}

describe("the dashboard", () => {
  let page: Page;
  let store: Store;
  let server: Server;
  /** What the page must never say: console errors, uncaught exceptions, violations of its policy. */
  let complaints: string[];

  if (browser !== undefined) {
    // One page for all: each server has a port of its own, and so an origin with nothing kept for it.
    beforeAll(async () => {
      page = await browser.newPage();
      await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
      });
      await page.exposeFunction("complain", (text: string) => complaints.push(text));
      await page.addInitScript(`addEventListener("securitypolicyviolation", (violation) =>
        complain(violation.violatedDirective + " " + violation.blockedURI));
        window.shift = 0;
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) window.shift += entry.value;
        }).observe({ type: "layout-shift", buffered: true })`);
    });
    afterAll(() => browser.close());
    beforeEach(async () => {
      store = await open(":memory:");
      const probe = await serve({ store, port: 0 });
      await probe.close();
      // On a port that was asked for by number, so that a restart may take it again at once.
      server = await serve({ store, port: probe.port });
      complaints = [];
    });
    afterEach(async () => {
      await page.goto("about:blank");
      await server.close();
      await store.close();
    });
  }

  async function visit(view = ""): Promise<void> {
    await page.goto(`http://127.0.0.1:${server.port}/#/${view}`);
    await page.locator("body[data-state=live]").waitFor();
  }

  /** Waits until the first element of `selector` says something like `pattern`; returns what it says. */
  async function waitForText(selector: string, pattern: RegExp): Promise<string> {
    return await page.locator(selector).filter({ hasText: pattern }).first().textContent() ?? "";
  }

  function keyRow(name: string): Locator {
    return page.locator(".key").filter({ has: page.locator(".name").getByText(name, { exact: true }) });
  }

  function click(name: string): Promise<void> {
    return page.getByRole("button", { name, exact: true }).click();
  }

  /** Closes the server and, when `meanwhile` is done, serves `next` on the same port. */
  async function restart(next: Store, meanwhile: () => Promise<void>): Promise<void> {
    const { port } = server;
    await server.close();
    await meanwhile();
    server = await serve({ store: next, port });
  }

  /** The same server, which wants tokens now. */
  async function guard(): Promise<Tokens> {
    const tokens = new Tokens();
    const { port } = server;
    await server.close();
    server = await serve({ store, port, auth: tokens });
    return tokens;
  }

  testOn("bun", browser)("draws what the server does, for who has just come too, and nothing moves", async () => {
    const other = await connect(server.url);
    await other.bucket("users").set("ada", 1);
    await visit("overview");
    const shown = waitForText(".tile output", /^[1-9].* \/s$/).then(() => true);
    const asked = async (): Promise<boolean> => {
      await other.bucket("users").get("ada");
      return false;
    };
    for (let done = false; !done;) done = await Promise.race([shown, asked()]);
    await waitForText(".tile output", /^1$/); // a key
    expect(await page.locator(".tile", { hasText: "Clients" }).locator("output").textContent()).toBe("2");
    await page.locator(".chart canvas").nth(7).waitFor();
    await waitForText(".chart .legend", /reads [1-9]/);
    await page.getByLabel("1 min").focus();
    await page.keyboard.press("ArrowRight");
    expect(await page.getByLabel("5 min", { exact: true }).isChecked()).toBe(true);
    await page.getByRole("button", { name: /^Theme/ }).click();
    await page.locator("html[data-theme=light]").waitFor();
    expect(await page.evaluate("window.shift")).toBeLessThan(0.01);
    await other.close();
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("shows a key that another client sets, its countdown, and its end", async () => {
    await visit("keys/sessions");
    await waitForText("#keys-shown", /^0 keys$/);
    const other = await connect(server.url);
    await other.bucket("sessions").set("bob", "stays");
    await other.bucket("sessions").set("ada", { page: 1 }, { ttl: "2s" });
    const row = keyRow("ada");
    expect(await row.locator(".value").textContent()).toBe("{ page: 1 }");
    const shown = await row.locator(".left").evaluate(textsOf);
    for (const text of shown) expect(text).toMatch(/^[0-2]\.\d s$/);
    expect(shown.map(parseFloat)).toEqual(shown.map(parseFloat).sort((a, b) => b - a));
    await page.locator(".key.gone .left").filter({ hasText: /^expired \+\d+ ms$/ }).waitFor();
    await row.waitFor({ state: "detached" });
    await waitForText("#keys-shown", /^1 key$/);
    expect(await keyRow("bob").locator(".left").textContent()).toBe("no ttl");
    await other.close();
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("lists many keys a page at a time, by prefix, and keeps few in the document", async () => {
    const entries = Array.from({ length: 3_000 }, (_, index) => [`n${String(index).padStart(4, "0")}`, index] as const);
    await store.bucket<number>("numbers").setMany(entries);
    await visit("keys/numbers");
    await waitForText("#keys-shown", /^200 keys of 3,000$/);
    expect(await waitForText(".bucket-list button", /numbers/)).toContain("3,000");
    expect(await page.locator(".key").count()).toBeLessThan(80);
    await page.locator(".list .rows").evaluate((list) => list.scrollTop = list.scrollHeight);
    await waitForText("#keys-shown", /^[4-9]00 keys of 3,000$/);
    await page.getByLabel("prefix").fill("n299");
    await waitForText("#keys-shown", /^10 keys$/);
    await page.getByRole("listbox", { name: "Keys" }).focus();
    await page.keyboard.press("End");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Enter");
    await waitForText(".detail h2", /^n2998$/);
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("creates, edits, extends and deletes a key, and takes back what is not yet sent", async () => {
    await visit("keys");
    await waitForText(".empty", /^No buckets yet/);
    // There is nothing that they could be of.
    expect(await page.getByRole("button", { name: "Settings", exact: true }).count()).toBe(0);
    await click("New key");
    await page.getByLabel("bucket").last().fill("users");
    await page.getByLabel("key", { exact: true }).fill("ada");
    await page.getByLabel("Value").fill('{"name":"Ada"}');
    await click("Create");
    await click("Now");
    await waitForText(".detail .tree", /name: "Ada"/);
    const users = store.bucket("users");
    expect(await users.get("ada")).toEqual({ name: "Ada" });

    await page.getByLabel("JSON", { exact: true }).check({ force: true });
    await page.getByLabel("Value as JSON").fill('{"name":"Adda"}');
    await click("Save");
    await click("Undo");
    await waitForText(".toast", /^Taken back/);
    await page.getByLabel("Value as JSON").fill("{");
    await click("Save");
    await waitForText(".detail .note", /JSON/);
    await page.getByLabel("Value as JSON").fill('{"name":"Ada L."}');
    await click("Save");
    await click("Now");
    await waitForText(".detail .title", /revision 2/);
    expect(await page.getByLabel("Value as JSON").inputValue()).toContain("Ada L.");
    expect((await users.getEntry("ada"))?.revision).toBe(2);

    await page.getByLabel("Time to live").fill("1h");
    await click("Set");
    await click("Now");
    await waitForText(".life .left", /^in 59m/);
    expect((await users.getEntry("ada"))?.value).toEqual({ name: "Ada L." });

    await page.getByLabel("JSON", { exact: true }).check({ force: true });
    await page.getByLabel("Value as JSON").fill("1");
    await users.set("ada", "other");
    await waitForText(".detail .note", /revision 4/);
    await click("Delete");
    await click("Now");
    await page.locator(".detail").waitFor({ state: "hidden" });
    expect(await users.has("ada")).toBe(false);
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("shows markup, bytes, images, text and endless values as what they are", async () => {
    const markup = `<img src="x" onerror="complain('ran')"><style>*{display:none}</style>`;
    const pages = store.bucket("pages");
    await pages.set(markup, { [markup]: markup });
    await pages.set(new Uint8Array([255, 0, 1]), new Uint8Array([1, 2]));
    const gif = Buffer.from("R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs=", "base64");
    await store.bucket("pages", { codec: "bytes" }).set("dot.gif", new Uint8Array(gif));
    await store.bucket("pages", { codec: "text" }).set("note", "one\ntwo");
    const deep = new TextEncoder().encode("[".repeat(50_000) + "]".repeat(50_000));
    await store.engine.set("pages", new TextEncoder().encode("deep"), deep, { content: CONTENT.json });
    await visit("keys/pages");
    await keyRow("0xff0001").waitFor();
    expect(await keyRow("deep").locator(".value").textContent()).toBe("json, 97.7 KiB");
    await keyRow(markup).click();
    await waitForText(".detail .tree", /onerror/);
    await keyRow("deep").click();
    await waitForText(".detail .tree", /\[1\]/);
    await keyRow("note").click();
    expect(await page.getByLabel("Value as Text").inputValue()).toBe("one\ntwo");
    expect(await page.locator("main img").count()).toBe(0);
    await keyRow("dot.gif").click();
    await page.waitForSelector(".detail img");
    expect(await page.locator(".detail img").evaluate(widthOf)).toBe(1);
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("shows no single-read value, and takes none", async () => {
    const codes = store.bucket("codes");
    await codes.set("ada", "secret", { once: true });
    await visit("keys/codes");
    await keyRow("ada").waitFor();
    await codes.set("bob", "secret", { once: true });
    expect(await keyRow("bob").locator(".value").textContent()).toBe("single-read");
    await keyRow("ada").click();
    await waitForText(".detail .body", /^Single-read/);
    await visit("events");
    await waitForText("#events-shown", /^0 since/);
    await codes.set("eve", "secret", { once: true });
    expect(await waitForText(".event .what", /single-read/)).not.toContain("secret");
    expect(await codes.getMany(["ada", "bob"])).toEqual(["secret", "secret"]);
    expect(await page.content()).not.toContain("secret");
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("streams events, filtered, and goes on behind a pause without loss", async () => {
    await store.bucket("users").set("ada", 0);
    await visit("events");
    const users = store.bucket<number>("users");
    await waitForText("#events-shown", /^0 since/);
    for (let turn = 1; turn <= 3; turn++) await users.set(`u${turn}`, turn);
    await users.delete("u1");
    await waitForText(".event.delete", /users\/u1/);
    await click("Pause");
    await waitForText("#events-shown", /^4 since.*paused at .*\.5; nothing is lost$/);
    for (let turn = 4; turn <= 40; turn++) await users.set(`u${turn}`, turn);
    await click("Resume");
    await waitForText("#events-shown", /^41 since/);
    await page.locator(".event").nth(40).waitFor();
    await click("Copy JSON");
    await waitForText("button", /^Copied 41$/);
    const copied = JSON.parse(await page.evaluate("navigator.clipboard.readText()")) as { revision: number }[];
    expect(copied.map(({ revision }) => revision)).toEqual(Array.from({ length: 41 }, (_, index) => 42 - index));
    expect(copied[0]).toMatchObject({ type: "set", bucket: "users", key: "u40", value: 40, content: "cbor" });

    await page.getByLabel("bucket").selectOption("users");
    await page.getByLabel("prefix").fill("x");
    await page.keyboard.press("Tab");
    for (const type of ["set", "take", "evict"]) await page.getByLabel(type, { exact: true }).uncheck({ force: true });
    await users.setMany([["x1", 1], ["y1", 1]]);
    await users.delete("y1");
    await users.delete("x1");
    await waitForText(".event.delete", /users\/x1/);
    expect(await waitForText("#events-shown", /^42 since/)).toContain("42");
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("counts a flood of events, draws some of them, and says so", async () => {
    await visit("events");
    await waitForText("#events-shown", /^0 since/);
    const numbers = store.bucket<number>("numbers");
    for (let turn = 0; turn < 12; turn++) {
      await numbers.setMany(Array.from({ length: 1_000 }, (_, index) => [`n${index}`, turn] as const));
    }
    await waitForText("#events-shown", /^12,000 since.*drawing 1 in \d/);
    expect(await page.locator(".event").count()).toBeLessThanOrEqual(300);
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("makes a bucket, counts its keys exactly, and changes its settings", async () => {
    await store.bucket("other").setMany(Array.from({ length: 1_234 }, (_, index) => [`k${index}`, index]));
    await visit("keys");
    await waitForText("[data-bucket=other] b", /^1,234$/);
    await click("New bucket");
    const form = page.getByRole("dialog", { name: "New bucket" });
    await form.getByLabel("name").fill("sessions");
    await form.getByLabel("keys live for").fill("30m");
    await form.getByLabel("description").fill("who is signed in");
    await form.getByRole("button", { name: "Create" }).click();
    await waitForText("[data-bucket=sessions] em", /^who is signed in$/);
    await waitForText("#keys-shown", /^0 keys, ttl 30m$/);
    await store.bucket("sessions").set("ada", "x".repeat(99));
    await keyRow("ada").filter({ hasText: "29m" }).waitFor();
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    const settings = page.getByRole("dialog", { name: "Settings of sessions" });
    expect(await settings.getByLabel("keys live for").inputValue()).toBe("30m");
    await settings.getByLabel("keys live for").fill("");
    await settings.getByLabel("largest value").fill("1e99");
    await settings.getByRole("button", { name: "Save" }).click();
    await waitForText(".settings .note", /^Cannot set valueBytesMax/);
    await settings.getByLabel("largest value").fill("10");
    await settings.getByLabel("compress").uncheck();
    await settings.getByRole("button", { name: "Save" }).click();
    await settings.waitFor({ state: "detached" });
    await waitForText("#keys-shown", /^1 key$/);
    expect((await store.buckets()).find(({ name }) => name === "sessions")).toMatchObject({
      keys: 1,
      settings: { valueBytesMax: 10, compression: false, description: "who is signed in" },
    });
    await click("New bucket");
    await form.getByLabel("name").fill("sessions");
    await form.getByRole("button", { name: "Create" }).click();
    await waitForText(".settings .note", /it is there$/);
    expect(await store.buckets()).toMatchObject([{}, { settings: { valueBytesMax: 10 } }]);
    // A request that is refused is an error on the console.
    expect(complaints.filter((text) => !/400|412/.test(text))).toEqual([]);
  });

  testOn("bun", browser)("says who is connected to what, and closes one", async () => {
    const other = await connect(server.url);
    for (const prefix of ["x".repeat(1_000), "ada"]) await other.bucket("sessions").subscribe({ prefix }).ready;
    await visit("clients");
    const row = page.locator("tr", { hasText: "sessions/ada*" });
    await row.waitFor();
    await waitForText("#clients-shown", /^2 connected, 2 subscriptions/);
    // However long a name is, all columns are in sight, and how far behind each is stands beside it.
    expect(await page.locator(".table").evaluate((table) => table.scrollWidth - table.clientWidth)).toBe(0);
    const [long, short] = [row.locator(".rest .line").first(), row.locator(".rest .line").last()];
    expect(await long.getAttribute("title")).toBe(`sessions/${"x".repeat(120)}…*`);
    const heights = [long, short, row.locator("[data-title=Behind] .line").last()].map(async (line) => {
      return (await line.boundingBox())!.y;
    });
    const [first, second, behind] = await Promise.all(heights);
    expect([second! - first!, behind! - second!]).toEqual([26, 0]);
    await row.getByRole("button", { name: "Close" }).click();
    await click("Close it");
    await row.waitFor({ state: "detached" });
    // It is back by itself, and its subscription with it.
    await page.locator("tr", { hasText: "sessions/ada*" }).waitFor();
    await other.close();
    expect(complaints).toEqual([]);
  });

  testOn("bun", browser)("asks who is connected one time after the other, and not while nobody looks", async () => {
    const watched = await browser!.newPage();
    await watched.clock.install();
    // Counted where they are made: that a request comes here takes its time.
    await watched.addInitScript(`window.asked = 0;
      const fetch = window.fetch;
      window.fetch = (...request) => {
        if (request[0] === "/v1/admin/clients") window.asked++;
        return fetch(...request);
      }`);
    let release: (() => void) | undefined;
    const released = new Promise<void>((resolve) => release = resolve);
    await watched.route("**/v1/admin/clients", (route) => void released.then(() => route.continue()));
    await watched.goto(`http://127.0.0.1:${server.port}/#/clients`);
    await watched.locator(".clients").waitFor();
    await watched.clock.runFor(3_000);
    expect(await watched.evaluate("asked")).toBe(1);
    await watched.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })");
    release?.();
    await watched.locator("#clients-shown", { hasText: "connected" }).waitFor();
    await watched.clock.runFor(3_000);
    expect(await watched.evaluate("asked")).toBe(1);
    await watched.evaluate("delete document.hidden");
    await watched.clock.runFor(1_000);
    expect(await watched.evaluate("asked")).toBeGreaterThan(1);
    await watched.close();
  });

  testOn("bun", browser)("asks for a token where one is needed, until it is right, and once", async () => {
    const tokens = await guard();
    const { token } = await tokens.create({ name: "operator", scopes: EVERYTHING });
    await page.goto(`http://127.0.0.1:${server.port}/`);
    for (const [attempt, answer] of [["wrong", /^That token is wrong/], [token, undefined]] as const) {
      await page.getByLabel("token").fill(attempt);
      await click("Sign in");
      if (answer !== undefined) await waitForText("#ask-why", answer);
    }
    await page.locator("body[data-state=live]").waitFor();
    await page.reload();
    await page.locator("body[data-state=live]").waitFor();

    await page.getByRole("link", { name: "Tokens" }).click();
    await page.getByLabel("name").fill("web");
    await page.getByLabel("Buckets").fill("team-*");
    await page.getByLabel("subscribe").check({ force: true });
    await click("Create");
    const shown = await page.locator("#new-token").textContent() ?? "";
    expect(tokens.identify(shown)?.name).toBe("web");
    expect(tokens.list()[1]?.scopes).toEqual([{ buckets: "team-*", rights: ["read", "subscribe"] }]);
    await click("Done");
    await page.locator("#new-token").waitFor({ state: "detached" });
    expect(await page.content()).not.toContain(shown);
    const row = page.locator("tr", { hasText: "team-*: read, subscribe" });
    await row.getByRole("button", { name: "Revoke" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
    await row.waitFor({ state: "detached" });
    expect(tokens.identify(shown)).toBe(undefined);

    await tokens.revoke("operator");
    await waitForText("#state", /^Signed out/);
    // What Chromium says of each answer that is 401.
    expect(complaints.filter((text) => !text.includes("401"))).toEqual([]);
  });

  testOn("bun", browser)("offers nothing that the token may not do", async () => {
    const tokens = await guard();
    const { token } = await tokens.create({ name: "guest", scopes: [{ buckets: "team-*", rights: ["read"] }] });
    await store.bucket("team-a").set("ada", { name: "Ada" });
    await store.bucket("other").set("bob", "secret");
    await page.goto(`http://127.0.0.1:${server.port}/#/tokens`);
    await page.getByLabel("token").fill(token);
    await click("Sign in");
    expect(await page.locator("nav a").allTextContents()).toEqual(["Keys"]);
    await keyRow("ada").click();
    await waitForText(".detail .tree", /Ada/);
    expect(await page.locator(".bucket-list button").count()).toBe(1);
    await waitForText("#keys-shown", /^1 key; not live/);
    await page.getByLabel("JSON", { exact: true }).check({ force: true });
    expect(await page.getByLabel("Value as JSON").getAttribute("readonly")).not.toBe(null);
    const names = await page.getByRole("button").allTextContents();
    for (const name of ["New bucket", "Settings", "New key", "Delete", "Save", "Set"]) {
      expect(names).not.toContain(name);
    }
    expect(complaints.filter((text) => !text.includes("401"))).toEqual([]);
  });

  testOn("bun", browser)("says that the server is away, misses nothing, and takes to another store", async () => {
    await store.bucket("sessions").set("ada", 1);
    await visit("keys/sessions");
    await keyRow("ada").waitFor();
    await restart(store, async () => {
      await waitForText("#state", /^Reconnecting$/);
      await store.bucket("sessions").delete("ada");
      await store.bucket("sessions").set("bob", 2, { ttl: "1h" });
    });
    await waitForText("#state", /^Live/);
    await keyRow("bob").waitFor();
    await keyRow("ada").waitFor({ state: "detached" });

    const other = await open(":memory:");
    await other.bucket("sessions").set("eve", 3);
    await restart(other, async () => void await waitForText("#state", /^Reconnecting$/));
    await keyRow("eve").waitFor();
    await keyRow("bob").waitFor({ state: "detached" });
    await store.close();
    store = other;
  });

  testOn("bun", browser)("fits a phone, in every view", async () => {
    await page.setViewportSize({ width: 360, height: 700 });
    await store.bucket("sessions").set("a-key-that-is-longer-than-the-screen-is-wide".repeat(3), "x".repeat(500));
    for (const view of ["overview", "keys/sessions", "events", "clients"]) {
      await visit(view);
      await page.locator("main > *").waitFor();
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(360);
      expect(await page.evaluate("document.querySelector('main').scrollWidth")).toBe(360);
    }
    await visit("keys/sessions");
    await page.locator(".key").click();
    await page.locator(".detail").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".detail").waitFor({ state: "hidden" });
    expect(complaints).toEqual([]);
  });
});
