/**
 * Markdown to HTML as GitHub reads it, so that a page reads the same there: the same anchors, tables and fences. Code
 * is coloured here, and the page needs no script for it.
 *
 * A heading may name its anchor, `## title {#anchor}`, which the pages that are made from docstrings use.
 *
 * @module
 */
import hljs from "highlight.js";
import { Marked } from "marked";

/** Text for HTML. */
export function escape(text) {
  return text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
}

/** What HTML says without its tags. */
export function plain(html) {
  const signs = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", "#x27": "'" };
  return html.replace(/<[^>]*>/g, "").replace(/&(amp|lt|gt|quot|#39|#x27);/g, (_, name) => signs[name]).trim();
}

/** A heading's anchor as GitHub makes it. `taken` counts those of the page. */
function anchorOf(title, taken) {
  const anchor = title.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").replace(/\s/g, "-");
  const count = taken.get(anchor) ?? 0;
  taken.set(anchor, count + 1);
  return count === 0 ? anchor : `${anchor}-${count}`;
}

function code(text, info) {
  const language = (info ?? "").split(/\s/)[0];
  const inner = hljs.getLanguage(language) !== undefined ? hljs.highlight(text, { language }).value : escape(text);
  return `<div class="code"><pre tabindex="0"><code>${inner}</code></pre></div>\n`;
}

/** Cells under an empty head need no head. */
function table(head, body) {
  const shown = plain(head) === "" ? "" : `<thead>${head}</thead>`;
  return `<div class="table" tabindex="0"><table>${shown}<tbody>${body}</tbody></table></div>\n`;
}

/**
 * A page.
 *
 * @param markdown Its source.
 * @param resolve From what a link or picture says to where it leads on the site, `{ target, label }`: `label` is what
 * a page is called there, for a link that says no more than a file's name. Undefined when it leads nowhere on the site,
 * and its words stand alone.
 * @returns `{ html, headings }`: each heading `{ level, title, anchor, text }`, `text` being what stands below it.
 */
export function render(markdown, resolve) {
  const taken = new Map();
  const headings = [];
  const renderer = {
    code,
    table,
    heading(inner, level) {
      const named = /^([\s\S]*?)\s*\{#([\w.]+)\}$/.exec(inner);
      const title = named === null ? inner : named[1];
      const anchor = named === null ? anchorOf(plain(inner), taken) : named[2];
      headings.push({ level, title: plain(title), anchor });
      if (level === 1) return `<h1 id="${anchor}">${title}</h1>\n`;
      const label = `Link to ${escape(plain(title))}`;
      const link = `<a class="anchor" href="#${anchor}" aria-label="${label}">#</a>`;
      return `<h${level} id="${anchor}">${title} ${link}</h${level}>\n`;
    },
    link(href, _title, inner) {
      const found = resolve(href);
      if (found === undefined) return inner;
      const words = href.split("#")[0].endsWith(plain(inner)) ? found.label ?? inner : inner;
      return `<a href="${escape(found.target)}">${words}</a>`;
    },
    image(href, _title, words) {
      return `<img src="${escape(resolve(href).target)}" alt="${escape(words)}" loading="lazy">`;
    },
  };
  const marked = new Marked({ mangle: false, headerIds: false });
  marked.use({ renderer });
  const html = marked.parse(markdown);
  const pieces = html.split(/<h[1-6] id="[^"]*">.*<\/h[1-6]>\n/).slice(1);
  return { html, headings: headings.map((heading, place) => ({ ...heading, text: plain(pieces[place]) })) };
}
