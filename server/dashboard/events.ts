/**
 * The live stream of changes: filtered by the server, put aside and taken up again at the cursor without loss.
 *
 * Nobody reads thousands of rows a second: all events are counted, and of many at once as many are drawn, evenly
 * spaced, as there is allowance for. A burst after a quiet time is drawn whole.
 *
 * @module
 */
import { toHex } from "../../lib/base/bytes.ts";
import { CONTENT_NAMES } from "../../lib/base/codec.ts";
import type { ChangeEvent, ChangeType, EngineEvent } from "../../lib/engine/engine.ts";
import { button, element, field, say } from "./dom.ts";
import { Feed } from "./feed.ts";
import type { Server } from "./server.ts";
import { keyBytes, keyText, preview, tryDecode } from "./value.ts";
import { count, dateAndTime, problem, remaining, short, timeOfDay } from "./words.ts";

const TYPES: readonly ChangeType[] = ["set", "delete", "expire", "take", "evict"];
/** Rows that are kept. */
const ROWS_MAX = 300;
const DRAW_MS = 150;
/** Rows that are drawn in a second, in the long run. */
const DRAWN_PER_SECOND = 60;
const RATE_MS = 1_000;

interface Listed {
  readonly event: ChangeEvent;
  readonly node: HTMLElement;
}

/** The view. */
export class EventsView {
  readonly node: HTMLElement;
  readonly #server: Server;
  readonly #bucket = element("select", {});
  readonly #prefix = element("input", {
    type: "search",
    placeholder: "begins with",
    autocomplete: "off",
    spellcheck: "false",
  });
  readonly #types: HTMLElement;
  readonly #pause = button("Pause", () => this.#toggle(), { id: "pause" });
  readonly #copy = button("Copy JSON", () => void this.#copyAll(), { class: "quiet" });
  readonly #shown = element("span", { class: "muted", id: "events-shown", role: "status" });
  readonly #list = element("div", { role: "list" });
  readonly #empty = element("p", { class: "empty" });
  #feed: Feed | undefined;
  /** Where to go on; also while the view is out of sight. */
  #cursor: string | undefined;
  #paused = false;
  #arrived: ChangeEvent[] = [];
  #listed: Listed[] = [];
  #total = 0;
  #drawn = 0;
  #allowance = ROWS_MAX;
  #timers: ReturnType<typeof setInterval>[] = [];
  #before = { total: 0, drawn: 0, at: 0 };
  #rate = "";

  constructor(server: Server) {
    this.#server = server;
    this.#types = element("fieldset", { class: "types", "aria-label": "Types" });
    for (const type of TYPES) {
      const box = element("input", { type: "checkbox", value: type, checked: true });
      box.addEventListener("change", () => this.#restart());
      this.#types.append(element("label", { class: type }, box, type));
    }
    this.#bucket.addEventListener("change", () => this.#restart());
    this.#prefix.addEventListener("change", () => this.#restart());
    const bar = element(
      "div",
      { class: "bar" },
      field("bucket", this.#bucket),
      field("prefix", this.#prefix, "prefix"),
      this.#types,
      element("span", { class: "grow" }),
      this.#copy,
      this.#pause,
    );
    const rows = element(
      "div",
      { class: "rows", tabindex: 0, role: "region", "aria-label": "Changes, newest first" },
      this.#list,
    );
    this.node = element(
      "section",
      { class: "panel events", "aria-label": "Events" },
      bar,
      element("div", { class: "bar thin" }, this.#shown),
      rows,
      this.#empty,
    );
  }

  enter(): void {
    void this.#askBuckets().then(() => this.#start());
    this.#timers = [setInterval(() => this.#draw(), DRAW_MS), setInterval(() => this.#measure(), RATE_MS)];
  }

  leave(): void {
    this.#stop();
    for (const timer of this.#timers) clearInterval(timer);
  }

  // --- the stream ---

  async #askBuckets(): Promise<void> {
    const { buckets } = await this.#server.ask<{ buckets: { name: string }[] }>("/v1/buckets").catch(() => ({
      buckets: [],
    }));
    const names = buckets.map(({ name }) => name).filter((name) => this.#server.may("subscribe", name));
    const chosen = this.#bucket.value;
    const all = this.#server.may("subscribe") ? [element("option", { value: "", text: "all" })] : [];
    this.#bucket.replaceChildren(...all, ...names.map((name) => element("option", { value: name, text: name })));
    if (names.includes(chosen)) this.#bucket.value = chosen;
  }

  #start(): void {
    if (this.#paused || this.#feed !== undefined) return;
    const types = [...this.#types.querySelectorAll("input")].filter(({ checked }) => checked).map(({ value }) => value);
    const bucket = this.#bucket.value;
    this.#prefix.disabled = bucket === "";
    if (types.length === 0 || (bucket === "" && !this.#server.may("subscribe"))) return this.#measure();
    try {
      const prefix = bucket === "" ? "" : this.#prefix.value;
      this.#feed = new Feed(this.#server.engine, {
        ...(bucket !== "" && { bucket }),
        ...(prefix !== "" && { prefix: keyBytes(prefix) }),
        ...(types.length < TYPES.length && { types: types as ChangeType[] }),
      }, {
        take: (events) => this.#take(events),
        lost: () => this.#mark("The log no longer reaches back to here: what came between is not shown"),
        failed: (why) => this.#mark(why),
      }, this.#cursor);
    } catch (error) {
      this.#mark(problem(error));
    }
  }

  #stop(): void {
    this.#cursor = this.#feed?.close() ?? this.#cursor;
    this.#feed = undefined;
  }

  #restart(): void {
    this.#stop();
    this.#start();
  }

  #toggle(): void {
    this.#paused = !this.#paused;
    say(this.#pause, this.#paused ? "Resume" : "Pause");
    this.#pause.classList.toggle("primary", this.#paused);
    if (this.#paused) this.#stop();
    else this.#start();
    this.#measure();
  }

  #take(events: readonly EngineEvent[]): void {
    for (const event of events) {
      if ("cursor" in event) continue;
      this.#total++;
      this.#arrived.push(event);
    }
    // A page that is not looked at draws nothing: it keeps no more than it would show.
    if (this.#arrived.length > 20_000) this.#arrived = this.#arrived.slice(-ROWS_MAX);
  }

  // --- drawing ---

  #draw(): void {
    this.#allowance = Math.min(this.#allowance + DRAWN_PER_SECOND * DRAW_MS / 1_000, ROWS_MAX);
    const arrived = this.#arrived;
    if (arrived.length === 0) return;
    this.#arrived = [];
    const drawn = Math.min(arrived.length, Math.floor(this.#allowance));
    this.#allowance -= drawn;
    this.#drawn += drawn;
    const nodes: HTMLElement[] = [];
    for (let index = 1; index <= drawn; index++) {
      const event = arrived[Math.ceil(index * arrived.length / drawn) - 1]!;
      const node = rowOf(event);
      nodes.unshift(node);
      this.#listed.unshift({ event, node });
    }
    this.#list.prepend(...nodes);
    for (const { node } of this.#listed.splice(ROWS_MAX)) node.remove();
    this.#say();
  }

  #measure(): void {
    const [now, { total, drawn, at }] = [performance.now(), this.#before];
    const seconds = (now - at) / 1_000;
    if (seconds < 0.5) return this.#say();
    const came = (this.#total - total) / seconds;
    const share = (this.#total - total) / Math.max(this.#drawn - drawn, 1);
    this.#rate = at === 0 ? "" : `${short(came)} /s${share >= 1.5 ? `, drawing 1 in ${share.toFixed(0)}` : ""}`;
    this.#before = { total: this.#total, drawn: this.#drawn, at: now };
    this.#say();
  }

  #say(): void {
    const state = this.#paused ? `paused at ${this.#cursor ?? "the beginning"}; nothing is lost` : this.#rate;
    say(this.#shown, [`${count(this.#total)} since this page opened`, state].filter(Boolean).join(" · "));
    this.#empty.hidden = this.#listed.length > 0;
    say(this.#empty, "Nothing has changed since this page opened");
  }

  /** Says something about the stream where it happened. */
  #mark(words: string): void {
    this.#list.prepend(element("div", { class: "event mark", role: "listitem", text: words }));
  }

  async #copyAll(): Promise<void> {
    const text = JSON.stringify(this.#listed.map(({ event }) => plainOf(event)), undefined, 2);
    try {
      await navigator.clipboard.writeText(text);
      say(this.#copy, `Copied ${count(this.#listed.length)}`);
    } catch (error) {
      say(this.#copy, problem(error));
    }
    setTimeout(() => say(this.#copy, "Copy JSON"), 2_000);
  }
}

function rowOf(event: ChangeEvent): HTMLElement {
  const { type, bucket, key, at, revision } = event;
  return element(
    "div",
    { class: `event ${type}`, role: "listitem", title: `revision ${count(revision)}, ${dateAndTime(at)}` },
    element("time", { text: timeOfDay(at) }),
    element("span", { class: "type", text: type }),
    element("span", { class: "mono" }, element("span", { class: "bucket", text: `${bucket}/` }), keyText(key)),
    element("span", { class: "mono what", text: detailOf(event) }),
  );
}

function detailOf({ value, content, once, expiresAt, at }: ChangeEvent): string {
  const shown = once === true
    ? "single-read"
    : value === undefined || content === undefined
    ? ""
    : preview(value, content);
  return expiresAt === undefined ? shown : `${shown}  for ${remaining(expiresAt - at)}`;
}

/** An event as JSON can say it. */
function plainOf({ type, bucket, key, revision, at, value, content, expiresAt, once }: ChangeEvent): object {
  const decoded = value === undefined || content === undefined ? undefined : tryDecode(value, content);
  const json = decoded?.value instanceof Uint8Array ? undefined : decoded;
  return {
    type,
    bucket,
    key: keyText(key),
    revision,
    at,
    ...(content !== undefined && { content: CONTENT_NAMES[content] }),
    ...(json !== undefined && { value: typeof json.value === "bigint" ? String(json.value) : json.value }),
    ...(json === undefined && value !== undefined && { hex: toHex(value) }),
    ...(expiresAt !== undefined && { expiresAt }),
    ...(once !== undefined && { once }),
  };
}
