/**
 * What the dashboard's two paths answer, and that the page keeps to its own policy. How the page behaves is in
 * test/browser/dashboard.test.ts.
 *
 * The module is also copied into folders shaped like the source and like `dist/`, so that what it finds beside itself,
 * or does not, is in the test's hands.
 *
 * @module
 */
import { afterAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { dashboardResponse } from "../../server/dashboard.ts";

type Respond = typeof dashboardResponse;

const HTML = new URL("../../server/dashboard.html", import.meta.url);
/** On Node the tests run compiled. */
const MODULE = fileURLToPath(new URL(`../../server/dashboard${extname(import.meta.url)}`, import.meta.url));

const folder = mkdtempSync(join(tmpdir(), "firkin-dashboard-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function ask(path: string, options: RequestInit = {}, respond: Respond = dashboardResponse): Promise<Response> {
  return respond(new Request(`http://localhost:7480${path}`, options));
}

/** The module as it answers from `place` in an own tree, beside a page of that text. */
async function standIn(tree: string, place: string, html: string): Promise<Respond> {
  const target = join(folder, tree, place);
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, "dashboard.html"), html);
  const path = join(target, MODULE.endsWith(".ts") ? "dashboard.ts" : "dashboard.mjs");
  copyFileSync(MODULE, path);
  const module = await import(pathToFileURL(path).href) as { dashboardResponse: Respond };
  return module.dashboardResponse;
}

function sha256(text: string | undefined): string {
  return createHash("sha256").update(text ?? "").digest("base64");
}

describe("dashboardResponse()", () => {
  const html = readFileSync(HTML, "utf8").replaceAll("\r\n", "\n");
  const script = /<script type="module">([^]*)<\/script>/.exec(html)?.[1];
  const style = /<style>([^]*)<\/style>/.exec(html)?.[1];

  test("answers / with the page, which may run its own script and nothing else", async () => {
    const response = await ask("/");
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(response.headers.get("referrer-policy")).toBe("no-referrer");
    expect(response.headers.get("content-security-policy")?.split("; ")).toEqual([
      "default-src 'none'",
      `script-src 'self' 'sha256-${sha256(script)}'`,
      `style-src 'sha256-${sha256(style)}'`,
      "connect-src 'self'",
      "img-src data:",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ]);
    expect(await response.text()).toBe(html);
  });

  test("serves a page that its policy lets work: nothing from elsewhere, no inline style or handler", () => {
    expect([...html.matchAll(/\bfrom "([^"]+)"|\bimport\(/g)].map((match) => match[1])).toEqual(["/firkin.js"]);
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:\/\/[a-z]|url\(|@import/);
    expect(html.match(/<script\b/g)).toEqual(["<script"]);
    expect(html.match(/<style\b/g)).toEqual(["<style"]);
    expect(html).not.toMatch(/<[a-z][^>]* (?:style|on[a-z]+)=/);
    expect(script).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/);
  });

  test("answers HEAD like GET, without the page", async () => {
    const [head, get] = [await ask("/", { method: "HEAD" }), await ask("/")];
    expect(head.status).toBe(200);
    expect(head.headers.get("etag")).toBe(get.headers.get("etag"));
    expect(await head.text()).toBe("");
  });

  test("answers 304 to who has the page already", async () => {
    const etag = (await ask("/")).headers.get("etag") ?? "";
    expect(etag).toMatch(/^"[^"]{20,}"$/);
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
      const response = await ask("/", { headers: { "if-none-match": known } });
      expect(response.status).toBe(304);
      expect(response.headers.get("etag")).toBe(etag);
      expect(await response.text()).toBe("");
    }
    expect((await ask("/", { headers: { "if-none-match": '"other"' } })).status).toBe(200);
  });

  test("answers 404 elsewhere and 405 to other methods, with nothing to run or frame", async () => {
    for (const path of ["/dashboard.html", "/firkin.js/", "//", "/..%2fpackage.json"]) {
      expect((await ask(path)).status).toBe(404);
    }
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const response = await ask("/", { method });
      expect(response.status).toBe(405);
      expect(response.headers.get("allow")).toBe("GET, HEAD");
      expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8");
      expect(response.headers.get("x-content-type-options")).toBe("nosniff");
      expect(response.headers.get("content-security-policy")).toBe("default-src 'none'; frame-ancestors 'none'");
    }
  });

  test.each([["server", "dist"], ["dist/server", "dist"]])(
    "in %s finds the bundle in %s, once it is built",
    async (place, dist) => {
      const tree = place.replace("/", "-");
      const respond = await standIn(tree, place, html);
      const before = await ask("/firkin.js", {}, respond);
      expect(before.status).toBe(503);
      expect(await before.text()).toContain("npm run build");

      mkdirSync(join(folder, tree, dist), { recursive: true });
      writeFileSync(join(folder, tree, dist, "firkin.browser.js"), "export {};\n");
      const after = await ask("/firkin.js", {}, respond);
      expect(after.status).toBe(200);
      expect(after.headers.get("content-type")).toBe("text/javascript; charset=utf-8");
      expect(await after.text()).toBe("export {};\n");
      expect((await ask("/", {}, respond)).status).toBe(200);
    },
  );

  test("serves the same page from a checkout with other line ends", async () => {
    const respond = await standIn("crlf", "server", html.replaceAll("\n", "\r\n"));
    const [here, there] = [await ask("/"), await ask("/", {}, respond)];
    expect(there.headers.get("content-security-policy")).toBe(here.headers.get("content-security-policy"));
    expect(there.headers.get("etag")).toBe(here.headers.get("etag"));
  });
});
