/**
 * The dashboard in Chromium, against a real server: what it says is what happens in the store.
 *
 * Nothing here sleeps: each step waits until the page shows what it must, and the test's limit is the patience.
 * Skipped, by name, where there is no Chromium or no browser client in dist/.
 *
 * @module
 */
import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Page } from "playwright-core";
import { CONTENT } from "../../lib/base/codec.ts";
import { connect } from "../../lib/store/connect.ts";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { serve, type Server, Tokens } from "../../server/mod.ts";
import { launchBrowser, type LaunchedBrowser } from "../suites/chromium.ts";

/** Only in the page. */
declare const MutationObserver: new (callback: () => void) => { observe(target: object, options: object): void };

/** Runs in the page: the first four different texts of an element. */
function textsOf(element: { readonly textContent: string | null }): Promise<string[]> {
  const texts = new Set([element.textContent ?? ""]);
  return new Promise((resolve) => {
    new MutationObserver(() => {
      if (texts.add(element.textContent ?? "").size === 4) resolve([...texts]);
    }).observe(element, { childList: true });
  });
}

const browser: LaunchedBrowser | undefined = await launchBrowser();
const runs = browser !== undefined;

function serveStore(store: Store, port: number, auth?: Tokens): Promise<Server> {
  return serve({ store, port, ...(auth && { auth }) });
}

describe("the dashboard", () => {
  let page: Page;
  let store: Store;
  let server: Server;
  /** What the page must never say: console errors, uncaught exceptions, violations of its policy. */
  let complaints: string[];

  if (runs) {
    afterAll(() => browser.close());
    beforeEach(async () => {
      store = await open(":memory:");
      const probe = await serveStore(store, 0);
      await probe.close();
      // On a port that was asked for by number, so that a restart may take it again at once.
      server = await serveStore(store, probe.port);
      page = await browser.newPage();
      complaints = [];
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
      });
      await page.exposeFunction("complain", (text: string) => complaints.push(text));
      await page.addInitScript(`addEventListener("securitypolicyviolation", (violation) =>
        complain(violation.violatedDirective + " " + violation.blockedURI))`);
    });
    afterEach(async () => {
      await page.close();
      await server.close();
      await store.close();
    });
  }

  async function visit(): Promise<void> {
    await page.goto(`http://127.0.0.1:${server.port}/`);
    await waitForText("#state", /^Live/);
  }

  /** Waits until the first element of `selector` says something like `pattern`; returns what it says. */
  async function waitForText(selector: string, pattern: RegExp): Promise<string> {
    const place = page.locator(selector).filter({ hasText: pattern }).first();
    return await place.textContent() ?? "";
  }

  function keyRow(name: string): ReturnType<Page["locator"]> {
    return page.locator(".key").filter({ has: page.getByRole("button", { name, exact: true }) });
  }

  test.skipIf(!runs)("shows a key that another client sets, its countdown, and its end", async () => {
    await visit();
    const other = await connect(server.url);
    const { revision } = await other.bucket("sessions").set("ada", { page: 1 }, { ttl: "4s" }) as { revision: number };

    const row = keyRow("sessions/ada");
    expect(await row.locator(".value").textContent()).toBe("{ page: 1 }");
    const shown = await row.locator(".left").evaluate(textsOf);
    for (const text of shown) expect(text).toMatch(/^[0-4]\.\d s$/);
    expect(shown.map(parseFloat)).toEqual(shown.map(parseFloat).sort((a, b) => b - a));
    expect(await row.locator(".fill").getAttribute("style")).toMatch(/^transform: translateX\(-[\d.]+%\);$/);

    const set = page.locator(".event.set");
    expect(await set.getAttribute("title")).toBe(`revision ${revision}`);
    expect(await waitForText(".event.expire .detail", /^\d+ ms late$/)).not.toBe("");
    await row.waitFor({ state: "detached" });
    expect(await waitForText("#late", /^\d+ ms p50$/)).not.toBe("");
    expect(await waitForText("#keys-shown", /^0 of 0 shown$/)).not.toBe("");
    await other.close();
    expect(complaints).toEqual([]);
  });

  test.skipIf(!runs)("counts the operations of all clients", async () => {
    await visit();
    const other = await connect(server.url);
    await waitForText("#ops", /^0$/);
    const shown = waitForText("#ops", /[1-9]/).then(() => true);
    const asked = async () => {
      await other.bucket("users").get("ada");
      return false;
    };
    for (let done = false; !done;) done = await Promise.race([shown, asked()]);
    expect(await waitForText("#ops-note", /get [1-9]/)).toContain("peak");
    expect(await page.locator("#clients").textContent()).toBe("2");
    await other.close();
    expect(complaints).toEqual([]);
  });

  test.skipIf(!runs)("sets, fills in and deletes a key through its form", async () => {
    await visit();
    await page.fill("[name=bucket]", "users");
    await page.fill("[name=key]", "ada");
    await page.fill("[name=value]", '{"name":"Ada"}');
    await page.fill("[name=ttl]", "1h");
    await page.keyboard.press("Enter");
    await waitForText("#said", /^Set: revision 1$/);
    const entry = await store.bucket("users").getEntry("ada");
    expect(entry?.value).toEqual({ name: "Ada" });
    expect(entry?.expiresAt).toBeGreaterThan(Date.now());

    await store.bucket("users").set("bob", "42");
    await page.locator("#keys").focus();
    await keyRow("users/bob").waitFor();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await waitForText("#said", /^In the form: users\/bob$/);
    expect(await page.inputValue("[name=key]")).toBe("bob");
    expect(await page.inputValue("[name=value]")).toBe('"42"');
    expect(await page.inputValue("[name=ttl]")).toBe("");
    await page.click("#delete");
    await waitForText("#said", /^Deleted: revision 3$/);
    expect(await store.bucket("users").has("bob")).toBe(false);
    expect(complaints).toEqual([]);
  });

  test.skipIf(!runs)("shows markup, bytes and endless values as what they are", async () => {
    const markup = `<img src="x" onerror="complain('ran')"><style>*{display:none}</style>`;
    await store.bucket("pages").set(markup, { [markup]: markup });
    await store.bucket("pages").set(new Uint8Array([255, 0, 1]), new Uint8Array([1, 2]));
    const deep = new TextEncoder().encode("[".repeat(50_000) + "]".repeat(50_000));
    await store.engine.set("pages", new TextEncoder().encode("deep"), deep, { content: CONTENT.json });
    await visit();
    await store.bucket("pages").set(markup, markup);
    await keyRow(`pages/${markup}`).waitFor();
    expect(await waitForText(".event .detail", /img/)).toBe(JSON.stringify(markup));
    await keyRow("pages/0xff0001").waitFor();
    expect(await keyRow("pages/deep").locator(".value").textContent()).toMatch(/^\[{60}…\]{60}$/);
    expect(await page.locator("main img").count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  test.skipIf(!runs)("shows no single-read value, and takes none", async () => {
    await store.bucket("codes").set("ada", "secret", { once: true });
    await visit();
    await store.bucket("codes").set("bob", "secret", { once: true });
    expect(await keyRow("codes/ada").locator(".value").textContent()).toBe("single-read");
    expect(await keyRow("codes/bob").locator(".value").textContent()).toBe("single-read");
    await keyRow("codes/bob").getByRole("button").click();
    expect(await waitForText("#said", /single-read/)).toContain("bob");
    expect(await page.content()).not.toContain("secret");
    expect(await store.bucket("codes").getMany(["ada", "bob"])).toEqual(["secret", "secret"]);
    await keyRow("codes/ada").waitFor({ state: "detached" });
    expect(complaints).toEqual([]);
  });

  test.skipIf(!runs)("says how many of many keys it shows, and keeps few in the document", async () => {
    const bucket = store.bucket<number>("numbers");
    const writes = Array.from({ length: 3_000 }, (_, index) => bucket.set(`n${index}`, index, { ttl: 60_000 + index }));
    await Promise.all(writes);
    await visit();
    await waitForText("#keys-shown", /^200 of 3,000 shown$/);
    expect(await page.locator(".key").first().textContent()).toContain("numbers/n0");
    expect(await page.locator(".key").count()).toBeLessThan(60);

    await page.locator("#keys").evaluate((list) => list.scrollTop = list.scrollHeight);
    await keyRow("numbers/n199").waitFor();
    await page.fill("#filter", "numbers/n299");
    await waitForText("#keys-shown", /^11 of 11 shown \(3,000 in all\)$/);
    await page.check("[value=newest]");
    await page.locator(".key").first().filter({ hasText: "numbers/n2999" }).waitFor();
    expect(complaints).toEqual([]);
  });

  test.skipIf(!runs)("says that the server is away, and misses nothing meanwhile", async () => {
    await store.bucket("sessions").set("ada", 1);
    await visit();
    await keyRow("sessions/ada").waitFor();
    await restart(store, async () => {
      await waitForText("#state", /^Reconnecting$/);
      await store.bucket("sessions").delete("ada");
      await store.bucket("sessions").set("bob", 2, { ttl: "1h" });
    });
    await waitForText("#state", /^Live/);
    await keyRow("sessions/bob").waitFor();
    await keyRow("sessions/ada").waitFor({ state: "detached" });
    expect(await page.locator(".event").count()).toBe(2);
  });

  test.skipIf(!runs)("starts again when the server comes back with another store", async () => {
    await store.bucket("sessions").set("ada", 1);
    await visit();
    await keyRow("sessions/ada").waitFor();
    const other = await open(":memory:");
    await other.bucket("sessions").set("bob", 2);
    await restart(other, async () => {
      await waitForText("#state", /^Reconnecting$/);
    });
    await keyRow("sessions/bob").waitFor();
    await keyRow("sessions/ada").waitFor({ state: "detached" });
    await waitForText("#keys-shown", /^1 of 1 shown$/);
    await store.close();
    store = other;
  });

  test.skipIf(!runs)("asks for a token where one is needed, until it is right, and once", async () => {
    const tokens = new Tokens();
    const rights = ["read", "write", "subscribe", "admin"] as const;
    const { token } = await tokens.create({ name: "dashboard", scopes: [{ buckets: "*", rights }] });
    const { port } = server;
    await server.close();
    server = await serveStore(store, port, tokens);
    await page.goto(`http://127.0.0.1:${port}/`);
    for (const [attempt, answer] of [["wrong", /^That token is wrong/], [token, undefined]] as const) {
      await page.getByLabel("token").fill(attempt);
      await page.getByRole("button", { name: "Connect" }).click();
      if (answer !== undefined) await waitForText("#ask-why", answer);
    }
    await waitForText("#state", /^Live/);
    await store.bucket("sessions").set("ada", 1);
    await keyRow("sessions/ada").waitFor();
    await page.reload();
    await waitForText("#state", /^Live/);
    await tokens.revoke("dashboard");
    await waitForText("#state", /^Disconnected$/);
    expect(complaints).toEqual([]);
  });

  /** Closes the server and, when `meanwhile` is done, serves `next` on the same port. */
  async function restart(next: Store, meanwhile: () => Promise<void>): Promise<void> {
    const { port } = server;
    await server.close();
    await meanwhile();
    server = await serveStore(next, port);
  }
});
