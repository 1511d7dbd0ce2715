/**
 * The keys of a bucket in their order, as far as they have been asked for, kept up to date by the bucket's events.
 *
 * Pages are asked for as the end comes near. An event of a key that lies within what has been listed changes it there;
 * one behind it will come with its page. Changes are gathered and put in order together, so that many events cost one
 * pass. A key that ends stays for a moment, so that its end can be seen.
 *
 * @module
 */
import { compareBytes, encodeText, toHex } from "../../lib/base/bytes.ts";
import type { Content } from "../../lib/base/codec.ts";
import type { ChangeEvent, EngineEvent } from "../../lib/engine/engine.ts";
import { Feed } from "./feed.ts";
import type { Server } from "./server.ts";
import { keyText, preview } from "./value.ts";
import { problem } from "./words.ts";

const PAGE = 200;
/** Beyond this nobody scrolls: a prefix leads there. */
export const KEYS_MAX = 100_000;
/** How long the end of a key is shown. */
const GONE_MS = 1_400;
/** More than this at once would hide what is still alive. */
const FADING_MAX = 50;

/** A key as it is listed. */
export interface KeyRow {
  readonly id: string;
  readonly key: Uint8Array;
  readonly text: string;
  preview: string;
  revision: number;
  bytes: number;
  /** When it was set, as far as that is known: its countdown begins there. */
  at: number | undefined;
  expiresAt: number | undefined;
  once: boolean;
  /** When it changed before everybody's eyes; on this clock. */
  changedAt: number;
  /** What ended it, once something has. */
  gone: string | undefined;
}

/** What is told of a listing. */
export interface ListingHandlers {
  /** The keys have changed; `anew`: they are others. */
  changed(anew: boolean): void;
  /** One that was deleted, expired or set. */
  touched(row: KeyRow): void;
  failed(why: string): void;
}

/** The keys of a bucket that begin with a prefix. */
export class Listing {
  rows: KeyRow[] = [];
  /** All keys are here. */
  complete = false;
  readonly #server: Server;
  readonly #bucket: string;
  readonly #prefix: Uint8Array;
  readonly #handlers: ListingHandlers;
  readonly #known: Map<string, KeyRow> = new Map();
  /** Keys that have come since the last pass. */
  #arrived: KeyRow[] = [];
  #fading = 0;
  #feed: Feed | undefined;
  #loading = false;
  /** Counts beginnings: a page that was asked for before one is no part of what came after. */
  #beginnings = 0;
  #scheduled = false;
  #over = false;

  constructor(server: Server, bucket: string, prefix: string, handlers: ListingHandlers) {
    this.#server = server;
    this.#bucket = bucket;
    this.#prefix = encodeText(prefix);
    this.#handlers = handlers;
    this.#begin();
  }

  /** True when changes show by themselves. */
  get live(): boolean {
    return this.#feed !== undefined;
  }

  /** Lets go of it. */
  close(): void {
    this.#over = true;
    this.#feed?.close();
  }

  /** Asks for the next page. */
  async more(): Promise<void> {
    if (this.#loading || this.complete || this.#over || this.rows.length >= KEYS_MAX) return;
    this.#loading = true;
    const beginning = this.#beginnings;
    try {
      const after = this.rows.at(-1)?.key;
      const page = await this.#server.engine.list(this.#bucket, {
        limit: PAGE,
        ...(this.#prefix.length > 0 && { prefix: this.#prefix }),
        ...(after && { after }),
      });
      if (this.#over || beginning !== this.#beginnings) return;
      for (const { key, value, content, revision, expiresAt, once = false } of page.entries) {
        const row = rowOf(key, revision, { value, content, expiresAt, once });
        if (!this.#known.has(row.id)) this.rows.push(this.#keep(row));
      }
      this.complete = !page.more;
      this.#handlers.changed(false);
    } catch (error) {
      if (!this.#over) this.#handlers.failed(problem(error));
    } finally {
      this.#loading = false;
      if (beginning !== this.#beginnings) void this.more();
    }
  }

  #begin(): void {
    this.#beginnings++;
    this.rows = [];
    this.#arrived = [];
    this.#known.clear();
    this.complete = false;
    this.#handlers.changed(true);
    // First the events, then the pages: nothing falls between.
    if (this.#server.may("subscribe", this.#bucket)) {
      const query = { bucket: this.#bucket, ...(this.#prefix.length > 0 && { prefix: this.#prefix }) };
      this.#feed?.close();
      this.#feed = new Feed(this.#server.engine, query, {
        take: (events) => this.#take(events),
        lost: () => this.#begin(),
        failed: (why) => this.#handlers.failed(why),
      });
    }
    void this.more();
  }

  #keep(row: KeyRow): KeyRow {
    this.#known.set(row.id, row);
    return row;
  }

  #take(events: readonly EngineEvent[]): void {
    for (const event of events) if (!("cursor" in event)) this.#apply(event);
    if (!this.#scheduled) {
      this.#scheduled = true;
      setTimeout(() => this.#settle(), 80);
    }
  }

  #apply(event: ChangeEvent): void {
    const id = toHex(event.key);
    const known = this.#known.get(id);
    if (event.type !== "set") {
      if (known === undefined || known.revision >= event.revision) return;
      known.revision = event.revision;
      const late = event.at - (known.expiresAt ?? event.at);
      known.gone = event.type === "expire" ? `expired +${Math.max(late, 0)} ms` : WORDS[event.type] ?? event.type;
      if (this.#fading < FADING_MAX) {
        this.#fading++;
        setTimeout(() => this.#forget(known), GONE_MS);
      } else known.gone = "";
      this.#handlers.touched(known);
      return;
    }
    if (known !== undefined && known.revision >= event.revision) return;
    const last = this.rows.at(-1);
    if (known === undefined && !this.complete && (last === undefined || compareBytes(event.key, last.key) > 0)) return;
    const { value, content, expiresAt, once = false } = event;
    const row = rowOf(event.key, event.revision, { value, content, expiresAt, once });
    row.at = event.at;
    row.changedAt = performance.now();
    if (known === undefined) this.#arrived.push(this.#keep(row));
    else this.#handlers.touched(Object.assign(known, row));
  }

  /** Puts what has come in its place, and drops what is gone without a word. */
  #settle(): void {
    this.#scheduled = false;
    if (this.#over) return;
    const silent = this.rows.some((row) => row.gone === "");
    if (silent) {
      for (const row of this.rows) if (row.gone === "") this.#known.delete(row.id);
      this.rows = this.rows.filter((row) => row.gone !== "");
    }
    if (this.#arrived.length > 0) {
      this.#arrived.sort((left, right) => compareBytes(left.key, right.key));
      this.rows = merged(this.rows, this.#arrived);
      this.#arrived = [];
    }
    this.#handlers.changed(false);
  }

  #forget(row: KeyRow): void {
    this.#fading--;
    // Set again meanwhile, it is alive.
    if (this.#over || row.gone === undefined || this.#known.get(row.id) !== row) return;
    this.#known.delete(row.id);
    this.rows = this.rows.filter((other) => other !== row);
    this.#handlers.changed(false);
  }
}

const WORDS: Readonly<Record<string, string>> = { delete: "deleted", take: "taken", evict: "evicted" };

function rowOf(
  key: Uint8Array,
  revision: number,
  { value, content, expiresAt, once }: {
    value: Uint8Array | undefined;
    content: Content | undefined;
    expiresAt: number | undefined;
    once: boolean;
  },
): KeyRow {
  return {
    id: toHex(key),
    key,
    text: keyText(key),
    preview: once ? "single-read" : value === undefined || content === undefined ? "" : preview(value, content),
    revision,
    bytes: value?.length ?? 0,
    at: undefined,
    expiresAt,
    once,
    changedAt: -Infinity,
    gone: undefined,
  };
}

/** Both, in order. */
function merged(left: readonly KeyRow[], right: readonly KeyRow[]): KeyRow[] {
  const all: KeyRow[] = [];
  let at = 0;
  for (const row of right) {
    while (at < left.length && compareBytes(left[at]!.key, row.key) < 0) all.push(left[at++]!);
    all.push(row);
  }
  for (; at < left.length; at++) all.push(left[at]!);
  return all;
}
