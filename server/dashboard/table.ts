/**
 * Rows of facts: a table whose cells are kept when they say the same, so that what is pointed at or focused stays.
 *
 * @module
 */
import { element, say } from "./dom.ts";

/** A column. */
export interface Column<Item> {
  readonly title: string;
  /** Text, or lines, each of which is cut where the column ends and whole when it is pointed at. */
  readonly text: (item: Item) => string | readonly string[];
  readonly class?: string;
}

/** A table of items with an id; the last column is what can be done with each. */
export class Table<Item> {
  readonly node: HTMLElement;
  readonly #columns: readonly Column<Item>[];
  readonly #idOf: (item: Item) => string;
  readonly #actions: (item: Item) => HTMLElement[];
  readonly #body = element("tbody");
  readonly #rows: Map<string, { readonly node: HTMLTableRowElement; readonly cells: HTMLElement[] }> = new Map();

  constructor(
    label: string,
    columns: readonly Column<Item>[],
    idOf: (item: Item) => string,
    actions: (item: Item) => HTMLElement[],
  ) {
    this.#columns = columns;
    this.#idOf = idOf;
    this.#actions = actions;
    const heads = columns.map(({ title, class: name = "" }) =>
      element("th", { scope: "col", text: title, class: name })
    );
    const last = element("th", { scope: "col" }, element("span", { class: "unseen", text: "Actions" }));
    this.node = element(
      "div",
      { class: "table", tabindex: 0, role: "region", "aria-label": label },
      element("table", {}, element("thead", {}, element("tr", {}, ...heads, last)), this.#body),
    );
  }

  /** Shows these, in this order. */
  show(items: readonly Item[]): void {
    const ids = new Set(items.map(this.#idOf));
    for (const [id, { node }] of this.#rows) {
      if (ids.has(id)) continue;
      node.remove();
      this.#rows.delete(id);
    }
    for (const [place, item] of items.entries()) {
      const row = this.#rows.get(this.#idOf(item)) ?? this.#make(item);
      const before = this.#body.children[place] ?? null;
      if (before !== row.node) this.#body.insertBefore(row.node, before);
      this.#columns.forEach(({ text }, place) => fill(row.cells[place]!, text(item)));
    }
  }

  #make(item: Item): { readonly node: HTMLTableRowElement; readonly cells: HTMLElement[] } {
    const cells = this.#columns.map(({ title, class: name = "" }) =>
      element("td", { class: name, "data-title": title })
    );
    const node = element("tr", {}, ...cells, element("td", { class: "end" }, ...this.#actions(item)));
    const row = { node, cells };
    this.#rows.set(this.#idOf(item), row);
    return row;
  }
}

function fill(cell: HTMLElement, content: string | readonly string[]): void {
  if (typeof content === "string") return say(cell, content);
  while (cell.children.length > content.length) cell.lastElementChild!.remove();
  for (const [place, line] of content.entries()) {
    const node = cell.children[place] ?? cell.appendChild(element("span", { class: "line" }));
    if (node.textContent === line) continue;
    node.textContent = line;
    node.setAttribute("title", line);
  }
}
