/**
 * The page's way to its server: one WebSocket for the store, plain requests for the rest, and who asks.
 *
 * Every second the server is asked for figures, or, by whom may not have those, who asks. That is the sign of life too:
 * no answer says that the server is away. The WebSocket comes back by itself.
 *
 * The token is kept until the tab is closed, so that a reload does not ask again, and goes nowhere but into the header
 * of plain requests and the first message of the WebSocket.
 *
 * @module
 */
import { connect } from "../../browser.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import type { Store } from "../../lib/store/store.ts";
import { pause } from "./dom.ts";

/** What one may do. */
export type Right = "read" | "write" | "subscribe" | "admin";

/** Who asks. */
export interface Me {
  readonly name: string;
  readonly scopes: readonly { readonly buckets: string; readonly rights: readonly Right[] }[];
  readonly expiresAt?: number;
  /** The server wants tokens. */
  readonly asksTokens: boolean;
  /** The server's time. */
  readonly now: number;
}

/** How it stands with the server. */
export type State = "connecting" | "live" | "lost" | "refused";

/** Figures by the names of their columns, as `/v1/admin/history` has them. */
export interface HistoryAnswer {
  readonly now: number;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly number[])[];
}

/** What a plain request is beside its path. */
interface RequestOptions {
  readonly method?: string;
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
  /** How long an answer may take, in milliseconds. */
  readonly patience?: number;
}

/** A plain request that was refused. */
export class RequestError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const POLL_MS = 1_000;
const PATIENCE_MS = 3_000;
const TOKEN_ITEM = "firkin-token";

/** The server that the page came from. */
export class Server {
  me: Me = { name: "", scopes: [], asksTokens: false, now: 0 };
  state: State = "connecting";
  /** Called when the state, or who asks, has changed. */
  onState: (state: State, words: string) => void = () => {};
  /** Called with new rows of figures. */
  onHistory: (history: HistoryAnswer) => void = () => {};
  #store: Store | undefined;
  /** This clock minus the server's, as of the quickest answer. */
  #skew = 0;
  #quickest = Infinity;
  #lastRow = 0;

  /** What the page reads and writes, by WebSocket. */
  get engine(): Engine {
    return this.#store!.engine;
  }

  /** The server's time, by this clock. */
  now(): number {
    return Date.now() - this.#skew;
  }

  /** True when who asks has the right in the bucket; in all of them when it is undefined. */
  may(right: Right, bucket?: string): boolean {
    return this.me.scopes.some(({ buckets, rights }) => rights.includes(right) && covers(buckets, bucket));
  }

  /** True when who asks has the right somewhere. */
  mayAnywhere(right: Right): boolean {
    return this.me.scopes.some(({ rights }) => rights.includes(right));
  }

  /** Connects, as whom `askToken` gives a token for when one is needed; tries until it is let in. */
  async open(askToken: (why: string) => Promise<string>): Promise<void> {
    for (let why = ""; this.#store === undefined;) {
      try {
        await this.#identify();
        const token = sessionStorage.getItem(TOKEN_ITEM);
        const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;
        this.#store = await connect(address, token === null ? {} : { token });
      } catch (error) {
        if (error instanceof RequestError && error.status === 401) {
          if (sessionStorage.getItem(TOKEN_ITEM) !== null) why = "That token is wrong, or no longer good.";
          sessionStorage.removeItem(TOKEN_ITEM);
          this.#tell("refused", "Signed out");
          sessionStorage.setItem(TOKEN_ITEM, await askToken(why));
        } else {
          this.#tell("lost", error instanceof RequestError ? error.message : "Cannot connect");
          await pause(POLL_MS);
        }
      }
    }
    this.#tell("live", "Live");
    void this.#watch();
  }

  /** Forgets the token. */
  signOut(): void {
    sessionStorage.removeItem(TOKEN_ITEM);
    location.reload();
  }

  /** A plain request; what it answers, from JSON. @throws {RequestError} */
  async ask<Answer>(path: string, init: RequestOptions = {}): Promise<Answer> {
    const token = sessionStorage.getItem(TOKEN_ITEM);
    const response = await fetch(path, {
      method: init.method ?? "GET",
      headers: {
        ...(token !== null && { authorization: `Bearer ${token}` }),
        ...(init.body && { "content-type": "application/json" }),
        ...init.headers,
      },
      ...(init.body && { body: JSON.stringify(init.body) }),
      signal: AbortSignal.timeout(init.patience ?? 15_000),
    });
    if (response.status === 204) return undefined as Answer;
    const answer = await response.json().catch(() => ({})) as { detail?: string };
    if (response.ok) return answer as Answer;
    throw new RequestError(response.status, answer.detail ?? `The server says ${response.status}`);
  }

  async #identify(): Promise<void> {
    this.me = await this.#timed(() => this.ask<Me>("/v1/me", { patience: PATIENCE_MS }));
  }

  /** Sets this clock by the server's. */
  async #timed<Answer extends { readonly now: number }>(request: () => Promise<Answer>): Promise<Answer> {
    const sentAt = Date.now();
    const answer = await request();
    const receivedAt = Date.now();
    // The longer the way, the less it says; and clocks drift.
    this.#quickest = Math.min(this.#quickest * 1.05 + 1, Infinity);
    if (receivedAt - sentAt <= this.#quickest) {
      this.#quickest = receivedAt - sentAt;
      this.#skew = (sentAt + receivedAt) / 2 - answer.now;
    }
    return answer;
  }

  async #watch(): Promise<void> {
    for (;;) {
      const asked = performance.now();
      try {
        await this.#poll();
        this.#tell(
          "live",
          Math.abs(this.#skew) < 1_000 ? "Live" : `Live, clock ${(this.#skew / 1_000).toFixed(0)} s off`,
        );
      } catch (error) {
        const status = error instanceof RequestError ? error.status : 0;
        if (status === 401) return this.#tell("refused", "Signed out: the token is no longer good");
        this.#tell("lost", "Reconnecting");
      }
      await pause(Math.max(POLL_MS - (performance.now() - asked), 100));
    }
  }

  async #poll(): Promise<void> {
    if (!this.may("admin")) return await this.#identify();
    const path = `/v1/admin/history?after=${this.#lastRow}`;
    const history = await this.#timed(() => this.ask<HistoryAnswer>(path, { patience: PATIENCE_MS }));
    this.#lastRow = history.rows.at(-1)?.[0] ?? this.#lastRow;
    this.onHistory(history);
  }

  #tell(state: State, words: string): void {
    this.state = state;
    this.onState(state, words);
  }
}

/** True when what a scope says of buckets covers this one, or all when it is undefined. */
function covers(buckets: string, bucket: string | undefined): boolean {
  if (buckets === "*") return true;
  if (bucket === undefined) return false;
  return buckets.endsWith("*") ? bucket.startsWith(buckets.slice(0, -1)) : bucket === buckets;
}
