/**
 * Tickets: a way in for a client that can set nothing but a URL.
 *
 * Who has a token asks for a ticket over HTTP and opens `ws://host/?ticket=<ticket>` with it. URLs end up in logs, so a
 * ticket is worth little: it lets in once, within 30 s, from the address and the page (Origin) that asked for it. Tried
 * from elsewhere it is gone too.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Clock } from "../lib/base/clock.ts";
import { hasExpired, type Principal } from "./auth.ts";
import type { Place } from "./visitors.ts";

const TICKET_MS = 30_000;
const TICKET_BYTES = 32;
/** Tickets that wait to be used; the oldest makes room. */
const TICKETS_MAX = 10_000;

/** What a ticket stands for. */
interface Ticket {
  readonly principal: Principal;
  readonly origin: string | null;
  readonly place: Place;
  /** On the monotonic clock. */
  readonly expiresAt: number;
}

/** The tickets of one server that have not been used. */
export class Tickets {
  readonly #clock: Clock;
  /** Oldest first. */
  readonly #tickets: Map<string, Ticket> = new Map();

  /** Draws and dates tickets by `clock`. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A ticket for who asks, from a page of `origin` (null: from none) at `place`; how long it is good for. */
  issue(principal: Principal, origin: string | null, place: Place): { ticket: string; expiresInMs: number } {
    const now = this.#clock.monotonic();
    for (const [old, { expiresAt }] of this.#tickets) {
      if (expiresAt > now && this.#tickets.size < TICKETS_MAX) break;
      this.#tickets.delete(old);
    }
    const ticket = Buffer.from(this.#clock.random(new Uint8Array(TICKET_BYTES))).toString("base64url");
    this.#tickets.set(ticket, { principal, origin, place, expiresAt: now + TICKET_MS });
    return { ticket, expiresInMs: TICKET_MS };
  }

  /** Uses a ticket up; who it lets in, undefined for nobody. */
  redeem(ticket: string, origin: string | null, place: Place): Principal | undefined {
    const found = this.#tickets.get(ticket);
    this.#tickets.delete(ticket);
    if (found === undefined || found.origin !== origin || found.place !== place) return undefined;
    if (found.expiresAt <= this.#clock.monotonic()) return undefined;
    return hasExpired(found.principal, this.#clock.wall()) ? undefined : found.principal;
  }
}
