/**
 * The documentation's site: that it can be made, that every link on it leads somewhere, and that a page asks nothing of
 * other sites. A symbol of the public interface that `scripts/site/api.mjs` cannot tell about fails here, too.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { testOn } from "./suites/tools.ts";

const SCRIPT = fileURLToPath(new URL("../scripts/site.mjs", import.meta.url));

/** What a page's attributes lead to: anchors of pages by their file's name, and the files beside them. */
interface Site {
  readonly pages: ReadonlyMap<string, string>;
  readonly files: ReadonlySet<string>;
}

function attributes(html: string, name: string): string[] {
  return [...html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, "g"))].map((match) => match[1]!);
}

/** The links and pictures of all pages that lead nowhere, and what pages fetch from elsewhere. */
function faults({ pages, files }: Site): string[] {
  const anchors = new Map([...pages].map(([name, html]) => [name, new Set(attributes(html, "id"))]));
  const found: string[] = [];
  for (const [name, html] of pages) {
    const ids = attributes(html, "id");
    found.push(...ids.filter((id, place) => ids.indexOf(id) !== place).map((id) => `${name} has #${id} twice`));
    for (const link of [...attributes(html, "href"), ...attributes(html, "src")]) {
      if (/^(?:https?:|data:)/.test(link)) continue;
      const [path = "", anchor] = link.replaceAll("&amp;", "&").split("#");
      const page = path === "" ? name : path;
      if (!pages.has(page) && !files.has(page)) found.push(`${name} leads to ${page}, which is not there`);
      else if (anchor && !anchors.get(page)?.has(anchor)) found.push(`${name} leads to ${page}#${anchor}`);
    }
    const fetched = [...html.matchAll(/<(?:img|script|link|iframe)[^>]*(?:src|href)="(https?:[^"]*)"/g)];
    found.push(...fetched.map((match) => `${name} fetches ${match[1]}`));
  }
  return found;
}

function readSite(folder: string): Site {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => name.replaceAll("\\", "/"));
  const pages = names.filter((name) => name.endsWith(".html"));
  return {
    pages: new Map(pages.map((name) => [name, readFileSync(join(folder, name), "utf8")])),
    files: new Set(names),
  };
}

describe("the site", () => {
  // Node makes it, whatever runs the tests; those of Node run in a copy without scripts/.
  testOn("bun")("has no link that leads nowhere", () => {
    const folder = mkdtempSync(join(tmpdir(), "firkin-site-"));
    try {
      execFileSync("node", [SCRIPT, folder]);
      const site = readSite(folder);
      expect(faults(site)).toEqual([]);
      expect(site.pages.size).toBeGreaterThan(15);
      expect(site.pages.get("api.html")).toContain('id="Bucket.setMany"');
      expect(site.pages.get("recipes.html")).toContain("hljs-keyword");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("faults() finds them", () => {
    const pages = new Map([["a.html", ' id="x" href="#x" href="b.html#y" href="c.png"'], ["b.html", ' id="y"']]);
    const files = new Set(["c.png"]);
    expect(faults({ pages, files })).toEqual([]);
    const broken = (html: string) => faults({ pages: new Map([...pages, ["d.html", html]]), files }).length;
    expect(broken(' href="e.html"')).toBe(1);
    expect(broken(' href="b.html#x"')).toBe(1);
    expect(broken(' src="d.png"')).toBe(1);
    expect(broken(' id="z" id="z"')).toBe(1);
    expect(broken('<script src="https://example.com/a.js">')).toBe(1);
  });
});
