/**
 * What the dashboard's paths answer, and that the page keeps to its own policy. How the page behaves is in
 * test/browser/dashboard.test.ts.
 *
 * The module is also copied into folders shaped like the source and like `dist/`, so that what it finds beside itself,
 * or does not, is in the test's hands.
 *
 * @module
 */
import { afterAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { dashboardResponse } from "../../server/dashboard.ts";

type Respond = typeof dashboardResponse;

const FOLDER = new URL("../../server/dashboard/", import.meta.url);
/** On Node the tests run compiled. */
const MODULE = fileURLToPath(new URL(`../../server/dashboard${extname(import.meta.url)}`, import.meta.url));

const folder = mkdtempSync(join(tmpdir(), "firkin-dashboard-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function ask(path: string, options: RequestInit = {}, respond: Respond = dashboardResponse): Promise<Response> {
  return respond(new Request(`http://localhost:7480${path}`, options));
}

/** The module as it answers from `place` in an own tree, beside a page. */
async function standIn(tree: string, place: string): Promise<Respond> {
  const target = join(folder, tree, place);
  mkdirSync(join(target, "dashboard"), { recursive: true });
  copyFileSync(new URL("page.html", FOLDER), join(target, "dashboard", "page.html"));
  const path = join(target, MODULE.endsWith(".ts") ? "dashboard.ts" : "dashboard.mjs");
  copyFileSync(MODULE, path);
  const module = await import(pathToFileURL(path).href) as { dashboardResponse: Respond };
  return module.dashboardResponse;
}

describe("dashboardResponse()", () => {
  const html = readFileSync(new URL("page.html", FOLDER), "utf8");
  const style = readFileSync(new URL("style.css", FOLDER), "utf8");

  test("answers / with the page, which may run and fetch what this server gives and nothing else", async () => {
    const response = await ask("/");
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(response.headers.get("referrer-policy")).toBe("no-referrer");
    expect(response.headers.get("content-security-policy")?.split("; ")).toEqual([
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "connect-src 'self'",
      "img-src data: blob:",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ]);
    expect(await response.text()).toBe(html);
  });

  test("serves a page that its policy lets work: nothing from elsewhere, nothing inline", async () => {
    const fetched = [...html.matchAll(/\b(?:src|href)="(\/[^"]*)"/g)].map((match) => match[1]!);
    expect(fetched).toEqual(["/dashboard.css", "/dashboard.js"]);
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:\/\/[a-z]/);
    expect(html).not.toMatch(/<style|<script(?! type="module" src=)|<[a-z][^>]* (?:style|on[a-z]+)=/);
    expect(style).not.toMatch(/url\(|@import/);
    const response = await ask("/dashboard.css");
    expect(response.headers.get("content-type")).toBe("text/css; charset=utf-8");
    expect(await response.text()).toBe(style);
  });

  test("is made of code that reads no text as markup", () => {
    for (const name of readdirSync(FOLDER).filter((file) => file.endsWith(".ts"))) {
      const code = readFileSync(new URL(name, FOLDER), "utf8");
      expect(code).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/);
    }
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
    for (const path of ["/page.html", "/dashboard.js/", "/dashboard/main.ts", "//", "/..%2fpackage.json"]) {
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

  test.each([["server", "dist/server/dashboard"], ["dist/server", "dist/server/dashboard"]])(
    "in %s finds the script in %s, once it is built",
    async (place, built) => {
      const tree = place.replace("/", "-");
      const respond = await standIn(tree, place);
      const before = await ask("/dashboard.js", {}, respond);
      expect(before.status).toBe(503);
      expect(await before.text()).toContain("npm run build");

      mkdirSync(join(folder, tree, built), { recursive: true });
      writeFileSync(join(folder, tree, built, "dashboard.js"), "export {};\n");
      const after = await ask("/dashboard.js", {}, respond);
      expect(after.status).toBe(200);
      expect(after.headers.get("content-type")).toBe("text/javascript; charset=utf-8");
      expect(await after.text()).toBe("export {};\n");
      expect((await ask("/", {}, respond)).status).toBe(200);
    },
  );
});
