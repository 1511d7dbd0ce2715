/**
 * Buckets and keys: which buckets there are, the keys of one with a prefix, and one key at a time in the editor.
 *
 * @module
 */
import { askSettings, type KnownBucket } from "./bucket_form.ts";
import { button, element, field, say } from "./dom.ts";
import { Editor } from "./editor.ts";
import { type KeyRow, KEYS_MAX, Listing } from "./listing.ts";
import { Rows, type ShownRow } from "./rows.ts";
import type { Server } from "./server.ts";
import { bytes, count, counted, duration, problem, remaining } from "./words.ts";

/** In the list of buckets that a phone has; no bucket's name. */
const NEW_BUCKET = "+";
const BUCKETS_EVERY_MS = 5_000;
const COUNTDOWN_MS = 200;
const FRESH_MS = 1_200;

interface BucketInfo extends KnownBucket {
  readonly keys?: number;
  readonly bytes?: number;
}

/** The view. */
export class KeysView {
  readonly node: HTMLElement;
  readonly #server: Server;
  readonly #rows: Rows<KeyRow>;
  readonly #editor: Editor;
  readonly #buckets = element("div", { class: "bucket-list", role: "list" });
  readonly #select = element("select", { "aria-label": "Bucket" });
  readonly #prefix = element("input", {
    type: "search",
    placeholder: "begins with",
    autocomplete: "off",
    spellcheck: "false",
  });
  readonly #shown = element("span", { class: "muted", id: "keys-shown", role: "status" });
  readonly #empty = element("p", { class: "empty" });
  readonly #create = button("New key", () => this.#editor.create(this.#bucket ?? ""), { class: "primary" });
  readonly #settings = button("Settings", () => void this.#configure(this.#bucket), { class: "quiet" });
  readonly #createBucket = button("New bucket", () => void this.#configure(), { class: "small" });
  #infos: BucketInfo[] = [];
  #bucket: string | undefined;
  #listing: Listing | undefined;
  #timers: ReturnType<typeof setInterval>[] = [];
  #typing: ReturnType<typeof setTimeout> | undefined;

  constructor(server: Server) {
    this.#server = server;
    this.#editor = new Editor(server, () => this.#mark(), (bucket) => {
      if (bucket !== this.#bucket) this.choose(bucket);
      void this.#askBuckets();
    });
    this.#rows = new Rows<KeyRow>({
      label: "Keys",
      idOf: ({ id }) => id,
      make: (row) => this.#makeRow(row),
      choose: (row) => void this.#editor.show(this.#bucket!, row.key),
      reachEnd: () => void this.#listing?.more(),
    });
    this.#prefix.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#list(), 150);
    });
    this.#select.addEventListener("change", () => {
      if (this.#select.value !== NEW_BUCKET) return this.choose(this.#select.value);
      this.#select.value = this.#bucket ?? "";
      void this.#configure();
    });
    const bar = element(
      "div",
      { class: "bar" },
      field("bucket", this.#select, "narrow-only"),
      field("prefix", this.#prefix, "prefix"),
      this.#shown,
      element("span", { class: "grow" }),
      this.#settings,
      this.#create,
    );
    const list = element("section", { class: "panel list", "aria-label": "Keys" }, bar, this.#rows.node, this.#empty);
    const buckets = element(
      "section",
      { class: "panel buckets", "aria-label": "Buckets" },
      element(
        "div",
        { class: "bar" },
        element("h2", { text: "Buckets" }),
        element("span", { class: "grow" }),
        this.#createBucket,
      ),
      this.#buckets,
    );
    this.node = element("div", { class: "keys" }, buckets, list, this.#editor.node);
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#editor.close();
    });
  }

  /** The view is in sight: at a bucket, when one is named. */
  enter(bucket: string | undefined): void {
    this.#create.hidden = !this.#server.mayAnywhere("write");
    this.#offer();
    this.#timers = [
      setInterval(() => {
        if (!document.hidden) void this.#askBuckets();
      }, BUCKETS_EVERY_MS),
      setInterval(() => this.#rows.draw(), COUNTDOWN_MS),
    ];
    void this.#askBuckets().then(() => {
      const first = bucket || this.#bucket || this.#infos[0]?.name;
      if (first !== undefined) this.choose(first);
      else this.#say();
    });
  }

  /** It is out of sight. */
  leave(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#listing?.close();
    this.#listing = undefined;
  }

  /** Shows a bucket. */
  choose(bucket: string): void {
    const isOther = bucket !== this.#bucket;
    this.#bucket = bucket;
    this.#offer();
    if (isOther) this.#prefix.value = "";
    history.replaceState(null, "", `#/keys/${bucket}`);
    this.#drawBuckets();
    this.#list();
  }

  /** Shows what may be done with buckets. */
  #offer(): void {
    this.#createBucket.hidden = !this.#server.may("admin");
    this.#settings.hidden = this.#createBucket.hidden || this.#bucket === undefined;
  }

  #list(): void {
    if (this.#bucket === undefined) return;
    this.#listing?.close();
    const listing: Listing = new Listing(this.#server, this.#bucket, this.#prefix.value, {
      changed: (anew) => {
        if (anew || this.#listing !== listing) queueMicrotask(() => this.#show(anew));
        else this.#show(false);
      },
      touched: (row) => this.#editor.changed(this.#bucket!, row),
      failed: (why) => say(this.#shown, why),
    });
    this.#listing = listing;
  }

  #show(anew: boolean): void {
    if (this.#listing === undefined) return;
    this.#rows.show(this.#listing.rows, anew);
    this.#mark();
    this.#say();
  }

  #say(): void {
    const { rows = [], complete = true, live = true } = this.#listing ?? {};
    const alive = rows.reduce((sum, row) => sum + (row.gone === undefined ? 1 : 0), 0);
    const info = this.#infos.find(({ name }) => name === this.#bucket);
    const all = this.#prefix.value === "" && info?.keys !== undefined && !complete
      ? ` of ${count(info.keys)}`
      : complete
      ? ""
      : " or more";
    const still = live ? "" : "; not live: the right to subscribe is missing";
    const ttl = info?.settings?.ttl === undefined ? "" : `, ttl ${duration(info.settings.ttl)}`;
    const most = alive >= KEYS_MAX ? ", the most: type a prefix" : all;
    say(this.#shown, `${counted(alive, "key")}${most}${ttl}${still}`);
    this.#empty.hidden = rows.length > 0 || !complete;
    say(
      this.#empty,
      this.#bucket === undefined
        ? "No buckets yet: the first key makes one"
        : this.#prefix.value === ""
        ? "No keys in this bucket"
        : "No key begins with this",
    );
  }

  #mark(): void {
    this.#rows.mark(this.#editor.isAt(this.#bucket) ? this.#editor.id : undefined);
  }

  // --- buckets ---

  async #askBuckets(): Promise<void> {
    try {
      const { buckets } = await this.#server.ask<{ buckets: BucketInfo[] }>("/v1/buckets");
      this.#infos = buckets;
      this.#drawBuckets();
      this.#say();
    } catch (error) {
      if (this.#infos.length === 0) say(this.#empty, problem(error));
    }
  }

  #drawBuckets(): void {
    const names = this.#infos.map(({ name }) => name);
    if (this.#bucket !== undefined && !names.includes(this.#bucket)) names.unshift(this.#bucket);
    const values = this.#server.may("admin") ? [...names, NEW_BUCKET] : names;
    if ([...this.#select.options].map(({ value }) => value).join() !== values.join()) {
      this.#select.replaceChildren(...values.map((value) => {
        return element("option", { value, text: value === NEW_BUCKET ? "New bucket…" : value });
      }));
      this.#buckets.replaceChildren(...names.map((name) => this.#makeBucket(name)));
    }
    this.#select.value = this.#bucket ?? "";
    for (const node of this.#buckets.children) {
      const name = node.getAttribute("data-bucket");
      const { keys, bytes: size = 0, settings } = this.#infos.find((info) => info.name === name) ?? {};
      node.querySelector("button")!.setAttribute("aria-current", String(name === this.#bucket));
      say(node.querySelector("b")!, keys === undefined ? "" : count(keys));
      say(node.querySelector("small")!, keys === undefined ? "" : bytes(size));
      say(node.querySelector("em")!, settings?.description ?? "");
    }
  }

  /** Asks for settings of the bucket, or of a new one, and shows it. */
  async #configure(bucket?: string): Promise<void> {
    const known = this.#infos.find(({ name }) => name === bucket);
    const name = await askSettings(this.#server, known ?? (bucket === undefined ? undefined : { name: bucket }));
    if (name === undefined) return;
    await this.#askBuckets();
    if (name !== this.#bucket) this.choose(name);
  }

  #makeBucket(name: string): HTMLElement {
    const open = element(
      "button",
      { type: "button", on: { click: () => this.choose(name) } },
      element("span", { class: "mono", text: name }),
      element("b"),
      element("em"),
      element("small"),
    );
    return element("div", { role: "listitem", "data-bucket": name }, open);
  }

  // --- rows ---

  #makeRow(row: KeyRow): ShownRow {
    const [name, value] = [element("span", { class: "mono name" }), element("span", { class: "mono value" })];
    const [fill, left] = [element("i"), element("span", { class: "left" })];
    const track = element("span", { class: "track", "aria-hidden": "true" }, fill);
    const node = element("div", { class: "key" }, name, value, track, left);
    name.textContent = row.text;
    let revision = -1;
    const update = (): void => {
      if (revision !== row.revision) {
        revision = row.revision;
        say(value, row.preview);
        node.classList.toggle("fresh", performance.now() - row.changedAt < FRESH_MS);
      }
      node.classList.toggle("gone", row.gone !== undefined);
      node.classList.toggle("still", row.expiresAt === undefined && row.gone === undefined);
      if (row.gone !== undefined) return say(left, row.gone);
      if (row.expiresAt === undefined) return say(left, "no ttl");
      const now = this.#server.now();
      const rest = Math.max(row.expiresAt - now, 0);
      row.at ??= now;
      const share = Math.min(rest / Math.max(row.expiresAt - row.at, 1), 1);
      say(left, remaining(rest));
      fill.style.setProperty("transform", `translateX(${(share * 100 - 100).toFixed(1)}%)`);
    };
    return { node, update };
  }
}
