/**
 * Makes the documentation's site in build/site/, or in the folder that is named: docs/, the README, ARCHITECTURE.md and
 * the public docstrings, as pages that need no server, no other site and no script but for search and the theme.
 *
 * `npm run docs` makes it; any web server will do for it, or none. test/site.test.ts follows every link.
 *
 * @module
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, posix, resolve } from "node:path";
import { moduleMarkdown, readModules } from "./site/api.mjs";
import { escape, render } from "./site/markdown.mjs";
import { root } from "./tools.mjs";

const target = resolve(root, process.argv[2] ?? "build/site");
const assets = join(root, "scripts", "site");

/**
 * Pages in their order: the file's name, what it is called in the list, and what it is made of: Markdown, or entry
 * points by what an importer calls them. Others of docs/ follow the last.
 *
 * @type {Record<string, [name: string, label: string, source: string | Record<string, string>][]>}
 */
const CHAPTERS = {
  "Start": [
    ["index", "firkin", "README.md"],
    ["guide", "Guide", "docs/GUIDE.md"],
    ["recipes", "Recipes", "docs/RECIPES.md"],
    ["comparison", "Comparison", "docs/COMPARISON.md"],
  ],
  "Interfaces": [
    ["api", "Library", { firkin: "mod.ts" }],
    ["api-server", "Server in a program", { "firkin/server": "server/mod.ts" }],
    ["api-adapters", "Adapters", {
      "firkin/keyv": "lib/adapters/keyv.ts",
      "firkin/unstorage": "lib/adapters/unstorage.ts",
      "firkin/sessions": "lib/adapters/sessions.ts",
    }],
    ["rest", "REST", "docs/REST.md"],
    ["redis", "Redis clients", "docs/REDIS.md"],
    ["redis-suite", "Redis' test suite", "docs/REDIS_SUITE.md"],
  ],
  "Running it": [
    ["operations", "Operations", "docs/OPERATIONS.md"],
    ["security", "Security", "docs/SECURITY.md"],
    ["durability", "Durability", "docs/DURABILITY.md"],
    ["benchmarks", "Benchmarks", "docs/BENCHMARKS.md"],
  ],
  "Inside": [
    ["architecture", "Architecture", "ARCHITECTURE.md"],
    ["format", "Bytes on disk", "docs/FORMAT.md"],
    ["protocol", "Bytes on the wire", "docs/PROTOCOL.md"],
    ["changelog", "Changelog", "CHANGELOG.md"],
  ],
};

/** Pages of docs/ that no chapter names. */
function otherPages() {
  const named = Object.values(CHAPTERS).flat().map(([, , source]) => source);
  return readdirSync(join(root, "docs")).map((name) => `docs/${name}`)
    .filter((path) => path.endsWith(".md") && !named.includes(path))
    .map((path) => [posix.basename(path, ".md").toLowerCase(), titleOf(path), path]);
}

function titleOf(path) {
  return /^# (.*)$/m.exec(readFileSync(join(root, path), "utf8"))?.[1] ?? path;
}

/** Where a page's links lead: other pages, files of the project (which are copied), anchors and other sites. */
function resolver(source, pageOf, files) {
  return (href) => {
    if (/^(?:https?:|mailto:|#)/.test(href)) return { target: href };
    const [path, anchor] = href.split("#");
    if (path.endsWith(".html")) return { target: href }; // from a docstring
    const file = posix.join(posix.dirname(source), path);
    const page = pageOf.get(file);
    if (page !== undefined) {
      return { target: `${page[0]}.html${anchor === undefined ? "" : `#${anchor}`}`, label: escape(page[1]) };
    }
    const found = statSync(join(root, file), { throwIfNoEntry: false });
    if (found === undefined) throw new Error(`${source} has a link to ${href}, which is not there`);
    if (found.isDirectory()) return undefined;
    files.add(file);
    return { target: file };
  };
}

/** The entry points of a page, as `[title, path]`. */
function entriesOf(source) {
  return typeof source === "string" ? [] : Object.entries(source);
}

/** The Markdown of a page. */
function sourceOf(source) {
  if (typeof source === "string") return readFileSync(join(root, source), "utf8");
  return entriesOf(source).map(([title, path]) => moduleMarkdown(title, modules.get(path), home)).join("\n");
}

// --- the page around it ---

function navigation(chapters, current) {
  return chapters.map(([title, pages]) => {
    const items = pages.map(([name, label]) => {
      const here = name === current ? ' aria-current="page"' : "";
      return `<li><a href="${name}.html"${here}>${escape(name === "index" ? "Introduction" : label)}</a></li>`;
    });
    return `<h2>${title}</h2><ul>${items.join("")}</ul>`;
  }).join("\n");
}

/** The list of what is on the page. */
function contents(headings) {
  const below = headings.slice(1).filter(({ level }) => level <= 3);
  if (below.length < 2) return "";
  const items = below.map(({ level, title, anchor }) => {
    return `<li class="level${level}"><a href="#${anchor}">${escape(title)}</a></li>`;
  });
  return `<nav class="contents" aria-labelledby="contents"><h2 id="contents">On this page</h2><ul>${
    items.join("")
  }</ul></nav>`;
}

/** What is before and behind a page. */
function neighbours(pages, place) {
  const link = (page, rel, words) => {
    if (page === undefined) return "<span></span>";
    return `<a rel="${rel}" href="${page[0]}.html"><small>${words}</small>${escape(page[1])}</a>`;
  };
  return `<nav class="neighbours" aria-label="Neighbouring pages">${link(pages[place - 1], "prev", "Before")}${
    link(pages[place + 1], "next", "Next")
  }</nav>`;
}

// --- all of it ---

const chapters = Object.entries({ ...CHAPTERS, Inside: CHAPTERS.Inside.concat(otherPages()) });
const pages = chapters.flatMap(([, ones]) => ones);
const pageOf = new Map(pages.map((page) => [page[2], page]));
const template = readFileSync(join(assets, "page.html"), "utf8");
const modules = readModules(pages.flatMap(([, , source]) => entriesOf(source).map(([, path]) => path)));
/** On which page each public symbol is told. */
const home = new Map(pages.flatMap(([name, , source]) => {
  const symbols = entriesOf(source).flatMap(([, path]) => modules.get(path).symbols);
  return symbols.map((symbol) => [symbol.name, `${name}.html`]);
}));
const files = new Set();
const index = [];

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
for (const [place, [name, label, source]] of pages.entries()) {
  const path = typeof source === "string" ? source : "";
  const { html, headings } = render(sourceOf(source), resolver(path, pageOf, files));
  index.push(...headings.map(({ title, anchor, text }) => [name, label, title, anchor, text]));
  const parts = {
    title: name === "index" ? "firkin: a durable key-value store" : `${escape(label)} · firkin`,
    navigation: navigation(chapters, name),
    contents: contents(headings),
    content: html,
    neighbours: neighbours(pages, place),
  };
  writeFileSync(join(target, `${name}.html`), template.replace(/\{\{(\w+)\}\}/g, (_, part) => parts[part]));
}
for (const file of files) cpSync(join(root, file), join(target, file), { recursive: true });
for (const name of ["style.css", "page.js"]) cpSync(join(assets, name), join(target, name));
// A script, not JSON: pages opened as files may load it too.
writeFileSync(join(target, "search.js"), `globalThis.searchIndex = ${JSON.stringify(index)};\n`);
console.log(`docs: ${pages.length} pages in ${target}`);
