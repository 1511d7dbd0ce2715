/**
 * A long list of which the document has only what is in view: rows of one height, moved to their places.
 *
 * The list is one stop for the keyboard; the arrow keys, Home, End and the page keys move a choice within it, which is
 * told to those who do not see by `aria-activedescendant`.
 *
 * @module
 */
import { element } from "./dom.ts";

/** Rows kept ready above and below the view. */
const OVERSCAN = 8;

/** What stands for an item in the document. */
export interface ShownRow {
  readonly node: HTMLElement;
  /** Brings it up to date; called for each drawing. */
  update(): void;
}

/** What a list needs to know of its items. */
export interface RowsOptions<Item> {
  readonly label: string;
  /** Never two of the same. */
  readonly idOf: (item: Item) => string;
  readonly make: (item: Item) => ShownRow;
  /** Called with the item that was chosen. */
  readonly choose: (item: Item) => void;
  /** Called when the end is near. */
  readonly reachEnd: () => void;
}

interface Placed<Item> extends ShownRow {
  readonly item: Item;
  place: number;
}

/** A list. */
export class Rows<Item> {
  readonly node: HTMLElement;
  readonly #options: RowsOptions<Item>;
  readonly #canvas: HTMLElement;
  readonly #shown: Map<string, Placed<Item>> = new Map();
  #items: readonly Item[] = [];
  #active = -1;
  #scheduled = false;

  constructor(options: RowsOptions<Item>) {
    this.#options = options;
    this.#canvas = element("div", { class: "canvas" });
    this.node = element(
      "div",
      { class: "rows", tabindex: 0, role: "listbox", "aria-label": options.label },
      this.#canvas,
    );
    this.node.addEventListener("scroll", () => this.drawSoon(), { passive: true });
    this.node.addEventListener("keydown", (event) => this.#press(event));
    this.node.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => this.drawSoon()).observe(this.node);
  }

  /** Shows these, from the top when they are others than before. */
  show(items: readonly Item[], fromTop = false): void {
    this.#items = items;
    this.#canvas.style.setProperty("--count", String(items.length));
    if (fromTop) {
      this.node.scrollTop = 0;
      this.#active = -1;
    }
    this.draw();
  }

  /** Marks the item with this id as the one that is looked at. */
  mark(id: string | undefined): void {
    for (const [shown, { node }] of this.#shown) node.setAttribute("aria-selected", String(shown === id));
  }

  /** Draws in the next frame, once however often it is asked. */
  drawSoon(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.draw();
    });
  }

  /** Brings the document up to date with what is in view. */
  draw(): void {
    const height = this.#rowHeight();
    const view = this.node.clientHeight;
    if (view === 0) return;
    const start = Math.max(Math.floor(this.node.scrollTop / height) - OVERSCAN, 0);
    const end = Math.min(Math.ceil((this.node.scrollTop + view) / height) + OVERSCAN, this.#items.length);
    const wanted = new Map<string, number>();
    for (let place = start; place < end; place++) wanted.set(this.#options.idOf(this.#items[place]!), place);
    for (const [id, { node, item }] of this.#shown) {
      const place = wanted.get(id);
      if (place !== undefined && this.#items[place] === item) continue;
      node.remove();
      this.#shown.delete(id);
    }
    for (const [id, place] of wanted) this.#place(id, place);
    if (end >= this.#items.length - OVERSCAN) this.#options.reachEnd();
  }

  #place(id: string, place: number): void {
    let shown = this.#shown.get(id);
    if (shown === undefined) {
      const item = this.#items[place]!;
      shown = { ...this.#options.make(item), item, place: -1 };
      shown.node.setAttribute("role", "option");
      shown.node.id = `row-${id}`;
      this.#shown.set(id, shown);
      this.#canvas.append(shown.node);
    }
    if (shown.place !== place) {
      shown.place = place;
      shown.node.style.setProperty("transform", `translateY(calc(${place} * var(--row)))`);
    }
    shown.node.classList.toggle("active", place === this.#active);
    shown.update();
  }

  #rowHeight(): number {
    return this.#items.length === 0 ? 1 : this.#canvas.offsetHeight / this.#items.length || 1;
  }

  #press(event: KeyboardEvent): void {
    const page = Math.max(Math.floor(this.node.clientHeight / this.#rowHeight()) - 1, 1);
    const last = this.#items.length - 1;
    const steps: Record<string, number> = {
      ArrowDown: this.#active + 1,
      ArrowUp: this.#active - 1,
      PageDown: this.#active + page,
      PageUp: this.#active - page,
      Home: 0,
      End: last,
    };
    const step = steps[event.key];
    if (step !== undefined && last >= 0) this.#activate(Math.min(Math.max(step, 0), last));
    else if (event.key === "Enter" && this.#items[this.#active] !== undefined) {
      this.#options.choose(this.#items[this.#active]!);
    } else return;
    event.preventDefault();
  }

  #activate(place: number): void {
    this.#active = place;
    const height = this.#rowHeight();
    const { scrollTop, clientHeight } = this.node;
    if (place * height < scrollTop) this.node.scrollTop = place * height;
    else if ((place + 1) * height > scrollTop + clientHeight) this.node.scrollTop = (place + 1) * height - clientHeight;
    this.draw();
    this.node.setAttribute("aria-activedescendant", `row-${this.#options.idOf(this.#items[place]!)}`);
  }

  #click(event: MouseEvent): void {
    const node = (event.target as HTMLElement).closest(".rows > .canvas > *");
    for (const shown of this.#shown.values()) {
      if (shown.node !== node) continue;
      this.#active = shown.place;
      this.draw();
      this.#options.choose(shown.item);
      return;
    }
  }
}
