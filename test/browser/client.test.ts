/**
 * The client in a browser, as the README's page uses it, on a page of another origin than the server's.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { open } from "../../lib/store/open.ts";
import type { Store } from "../../lib/store/store.ts";
import { serve, type Server } from "../../server/mod.ts";
import { launchBrowser, type LaunchedBrowser } from "../suites/chromium.ts";

const browser: LaunchedBrowser | undefined = await launchBrowser();

/** Serves the example's page and the bundled client, as any web server would. */
async function servePages(): Promise<{ pages: HttpServer; origin: string }> {
  const files: Record<string, string> = { html: "examples/browser/index.html", js: "dist/firkin.browser.js" };
  const pages = createServer((request, response) => {
    const extension = /\.(html|js)(\?|$)/.exec(request.url ?? "")?.[1];
    if (extension === undefined) return void response.writeHead(404).end();
    response.setHeader("content-type", extension === "js" ? "text/javascript" : "text/html");
    response.end(readFileSync(new URL(`../../${files[extension]}`, import.meta.url)));
  });
  await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
  return { pages, origin: `http://127.0.0.1:${(pages.address() as AddressInfo).port}` };
}

describe("the client in a browser", () => {
  let pages: HttpServer;
  let origin: string;
  let store: Store;

  beforeAll(async () => {
    ({ pages, origin } = await servePages());
    store = await open(":memory:");
  });
  afterAll(async () => {
    await browser?.close();
    pages.close();
    await store.close();
  });

  /** What the example's page has written, as soon as it ends with `last`, or once the page has failed. */
  async function logOf(server: Server, last: RegExp): Promise<string> {
    const page = await browser!.newPage();
    const failed = new Promise<string>((resolve) => page.on("pageerror", (error) => resolve(error.message)));
    await page.goto(`${origin}/examples/browser/index.html?url=${server.url}`);
    const log = page.locator("#log").filter({ hasText: last });
    const written = await Promise.race([log.textContent().then((text) => text ?? ""), failed]);
    await page.close();
    return written;
  }

  test.skipIf(browser === undefined)("sets a key and is told when it expires", async () => {
    const server = await serve({ store, port: 0, allowedOrigins: [origin] });
    expect(await logOf(server, /expire/)).toBe("synced \nset ada\nexpire ada\n");
    await server.close();
  });

  test.skipIf(browser === undefined)("is kept out when the server does not know its origin", async () => {
    const server = await serve({ store, port: 0 });
    expect(await logOf(server, /./)).toContain("Cannot reach");
    await server.close();
  });
});
