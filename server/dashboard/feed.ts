/**
 * A subscription for a page: it goes on by itself after the server was away, tells each event once, and says when it
 * had to begin anew. Where it stands is its cursor, so it can be put aside and taken up again without loss.
 *
 * @module
 */
import type { Engine, EngineEvent, EngineSubscription, SubscribeQuery } from "../../lib/engine/engine.ts";
import { pause } from "./dom.ts";
import { problem } from "./words.ts";

const AGAIN_MS = 1_000;

/** What is done with events. */
export interface FeedHandlers {
  /** Events, in order. */
  take(events: readonly EngineEvent[]): void;
  /** The log does not reach back to where this was: what was shown may be wrong. */
  lost(): void;
  /** It cannot go on, and why. */
  failed(why: string): void;
}

/** One subscription, as long as it is wanted. */
export class Feed {
  readonly #engine: Engine;
  readonly #query: SubscribeQuery;
  readonly #handlers: FeedHandlers;
  #source: EngineSubscription | undefined;
  #cursor: string | undefined;
  #over = false;

  /** Begins now, or behind a cursor. */
  constructor(engine: Engine, query: SubscribeQuery, handlers: FeedHandlers, from?: string) {
    this.#engine = engine;
    this.#query = query;
    this.#handlers = handlers;
    this.#cursor = from;
    void this.#run();
  }

  /** Ends it; where to go on. */
  close(): string | undefined {
    this.#over = true;
    const cursor = this.#source?.cursor ?? this.#cursor;
    this.#source?.close();
    return cursor;
  }

  async #run(): Promise<void> {
    while (!this.#over) {
      try {
        await this.#follow();
      } catch (error) {
        if (this.#over) return;
        const { retry = false } = error as { readonly retry?: boolean };
        this.#handlers.failed(problem(error));
        if (!retry) return;
      }
      if (!this.#over) await pause(AGAIN_MS);
    }
  }

  async #follow(): Promise<void> {
    const from = this.#cursor;
    const source = this.#engine.subscribe({ ...this.#query, ...(from !== undefined && { from }) });
    this.#source = source;
    await source.ready;
    // Also what was handed out while this was closed: the cursor is behind it.
    for (let events = await source.next(); events !== undefined; events = await source.next()) {
      if (events.some(({ type }) => type === "resync")) {
        this.#cursor = undefined;
        this.#handlers.lost();
        return;
      }
      this.#handlers.take(events);
    }
    this.#cursor = source.cursor;
  }
}
