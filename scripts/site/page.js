/*
 * What a page can do beside being read: change its theme, search, copy code, and show where one is. Without this script
 * all of it can be read and followed.
 */
const RESULTS_MAX = 12;

// --- theme ---

const theme = document.querySelector("#theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (document.documentElement.dataset.theme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});

// --- search ---

const input = document.querySelector("#search");
const found = document.querySelector("#found");
let loading;
let selected = 0;
input.parentElement.hidden = false;

/** The index comes with the first search. A script, since pages opened as files cannot fetch. */
function load() {
  loading ??= new Promise((resolve) => {
    const script = document.createElement("script");
    script.src = "search.js";
    script.addEventListener("load", resolve);
    document.head.append(script);
  });
  return loading;
}

/** How well a section fits: all words must be in it; those of its title count most. 0: not at all. */
function scoreOf([, page, title, , text], words) {
  let score = 0;
  for (const word of words) {
    const name = title.toLowerCase();
    if (name.split(/[^\p{L}\p{N}]+/u).includes(word)) score += 40;
    else if (name.startsWith(word)) score += 20;
    else if (name.includes(word)) score += 10;
    else if (page.toLowerCase().includes(word)) score += 4;
    else if (text.toLowerCase().includes(word)) score += 1;
    else return 0;
  }
  return score;
}

/** The words around the first hit. */
function excerpt(text, word) {
  const place = Math.max(0, text.toLowerCase().indexOf(word) - 30);
  return (place > 0 ? "… " : "") + text.slice(place, place + 160);
}

function option([file, page, title, anchor, text], place, words) {
  const link = document.createElement("a");
  link.href = `${file}.html#${anchor}`;
  link.tabIndex = -1;
  const name = document.createElement("b");
  name.textContent = title;
  const where = document.createElement("small");
  where.textContent = `${page}: ${excerpt(text, words[0]) || title}`;
  link.append(name, where);
  const item = document.createElement("li");
  item.id = `found-${place}`;
  item.role = "option";
  item.append(link);
  return item;
}

function select(place) {
  const options = found.querySelectorAll("[role=option]");
  selected = options.length === 0 ? 0 : (place + options.length) % options.length;
  for (const [at, one] of options.entries()) one.setAttribute("aria-selected", String(at === selected));
  options[selected]?.scrollIntoView({ block: "nearest" });
  if (options.length > 0) input.setAttribute("aria-activedescendant", `found-${selected}`);
  else input.removeAttribute("aria-activedescendant");
}

function show(open) {
  found.hidden = !open;
  input.setAttribute("aria-expanded", String(open));
}

async function search() {
  const words = input.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
  if (words.length === 0) return show(false);
  await load();
  const hits = globalThis.searchIndex.map((section) => ({ section, score: scoreOf(section, words) }))
    .filter(({ score }) => score > 0).sort((a, b) => b.score - a.score).slice(0, RESULTS_MAX);
  const none = document.createElement("li");
  none.className = "none";
  none.textContent = "Nothing has all these words";
  found.replaceChildren(
    ...(hits.length === 0 ? [none] : hits.map(({ section }, place) => option(section, place, words))),
  );
  select(0);
  show(true);
}

input.addEventListener("focus", () => void load());
input.addEventListener("input", () => void search());
input.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    select(selected + (event.key === "ArrowDown" ? 1 : -1));
  } else if (event.key === "Enter") {
    found.querySelector("[aria-selected=true] a")?.click();
    show(false);
  } else if (event.key === "Escape") {
    show(false);
  }
});
document.addEventListener("click", (event) => {
  if (!input.parentElement.contains(event.target) || event.target.closest("#found a")) show(false);
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea") !== null;
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  input.focus();
});

// --- code to copy ---

for (const block of document.querySelectorAll(".code")) {
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    void navigator.clipboard.writeText(block.querySelector("code").textContent).then(() => {
      button.textContent = "Copied";
      setTimeout(() => button.textContent = "Copy", 1_500);
    });
  });
  block.append(button);
}

// --- where one is ---

const contents = document.querySelector(".contents");
const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
const headings = [...links.keys()].map((id) => document.getElementById(id));

function showPlace() {
  const above = headings.filter((heading) => heading.getBoundingClientRect().top < 120);
  const here = links.get((above.at(-1) ?? headings[0])?.id);
  for (const link of links.values()) link.classList.toggle("here", link === here);
  // Not scrollIntoView: it would stop the page's own way to an anchor.
  if (here !== undefined) contents.scrollTop = here.offsetTop - contents.clientHeight / 2;
}

if (headings.length > 0) {
  addEventListener("scroll", showPlace, { passive: true });
  showPlace();
}
