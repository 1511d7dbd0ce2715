/**
 * Who comes in, and as whom: every handshake and every plain request passes here first.
 *
 * In this order: its Host and Origin, whether its address has brought too many wrong credentials, its credentials, how
 * many connections its address has. A handshake brings at most one credential: `Authorization: Bearer`, a subprotocol
 * `firkin.bearer.<token>`, or a ticket in its URL; one that brings none says its token in `hello`. Wrong ones are
 * refused, never taken for none.
 *
 * Without tokens nobody needs credentials, what comes is not looked at, and the limits by address are not asked: the
 * server is then on loopback, where everybody has the same one.
 *
 * @module
 */
import type { Clock } from "../lib/base/clock.ts";
import { FirkinError } from "../lib/base/errors.ts";
import { SUBPROTOCOL } from "../lib/wire/protocol.ts";
import { admit, type AdmitOptions, EVERYONE, type Guest, type Principal, type Refusal } from "./auth.ts";
import { shownText } from "./clients.ts";
import type { ServerLimits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import { Tickets } from "./tickets.ts";
import type { Tokens } from "./tokens.ts";
import type { Handshake } from "./transports/transport.ts";
import { type Place, placeOf, type Proxies, Visitors } from "./visitors.ts";

/** Before a token, among the subprotocols that a client offers. */
const BEARER_PROTOCOL = "firkin.bearer.";
/** Headers that hold credentials have no reason to be longer. */
const CREDENTIALS_LENGTH_MAX = 4_096;
/** Names under which people put tokens into URLs. */
const TOKEN_PARAMETERS = ["token", "access_token", "auth", "bearer"];

const UNAUTHORIZED: Refusal = {
  status: 401,
  body: "The credentials are missing or wrong",
  headers: { "www-authenticate": "Bearer" },
};
const BLOCKED: Refusal = { status: 429, body: "Too many wrong credentials", headers: { "retry-after": "60" } };
const ENDING: Refusal = { status: 503, body: "The server is shutting down" };

/** What a gate goes by. */
export interface GateOptions {
  /** Nobody needs credentials when absent. */
  readonly tokens: Tokens | undefined;
  readonly admit: AdmitOptions;
  readonly proxies: Proxies;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** The gate of one server. */
export class Gate {
  readonly #options: GateOptions;
  readonly #visitors: Visitors;
  readonly #tickets: Tickets;
  #ending = false;

  /** Opens the gate. */
  constructor(options: GateOptions) {
    this.#options = options;
    this.#visitors = new Visitors(options.limits, options.clock);
    this.#tickets = new Tickets(options.clock);
  }

  /** True when it asks for credentials. */
  get asksCredentials(): boolean {
    return this.#options.tokens !== undefined;
  }

  /** From now on no connection comes in. */
  end(): void {
    this.#ending = true;
  }

  /** Forgets what is long ago. */
  sweep(): void {
    this.#visitors.sweep();
  }

  /** Judges the Host and Origin of a plain request. */
  admit(headers: Headers): Refusal | undefined {
    return admit(headers, this.#options.admit);
  }

  /** Who asks a plain request: by `Authorization: Bearer`. Never throws. */
  authenticate(headers: Headers, remoteAddress: string): Principal | Refusal {
    const { tokens } = this.#options;
    if (tokens === undefined) return EVERYONE;
    const place = this.placeOf(headers, remoteAddress);
    if (this.#visitors.isBlocked(place)) return BLOCKED;
    const token = bearerOf(headers);
    const principal = token === undefined ? undefined : tokens.identify(token);
    if (principal !== undefined) return principal;
    // Nothing at all is no guess.
    if (headers.has("authorization")) this.#failed(place);
    return UNAUTHORIZED;
  }

  /** From where somebody asks, for those who count by address. */
  placeOf(headers: Headers, remoteAddress: string): Place {
    if (this.#options.tokens === undefined) return undefined;
    return placeOf(this.addressOf(headers, remoteAddress));
  }

  /** A ticket for who asks with a plain request, and how long it is good for. */
  issueTicket(principal: Principal, headers: Headers, remoteAddress: string): { ticket: string; expiresInMs: number } {
    return this.#tickets.issue(principal, headers.get("origin"), this.placeOf(headers, remoteAddress));
  }

  /** Decides a handshake: who it is, or why not. */
  handshake(handshake: Handshake): Guest | Refusal {
    if (this.#ending) return ENDING;
    const { headers, remoteAddress, protocols } = handshake;
    const refusal = this.admit(headers);
    if (refusal !== undefined) return refusal;
    if (!protocols.includes(SUBPROTOCOL)) {
      return { status: 400, body: `The subprotocol ${SUBPROTOCOL} is not offered` };
    }
    const place = this.placeOf(headers, remoteAddress);
    const principal = this.#options.tokens === undefined ? EVERYONE : this.#identify(handshake, place);
    if (principal !== undefined && "status" in principal) return principal;
    return this.#visitors.refusalOf(place, principal !== undefined) ??
      new Seat(this.#visitors, place, principal, this.#identifyToken, {
        address: this.addressOf(headers, remoteAddress),
        agent: shownText(headers.get("user-agent") ?? ""),
      });
  }

  /** Decides a connection that has no headers: who it is, it says later. */
  arrive(remoteAddress: string): Guest | Refusal {
    if (this.#ending) return ENDING;
    const { tokens } = this.#options;
    const place = tokens === undefined ? undefined : placeOf(remoteAddress);
    if (this.#visitors.isBlocked(place)) return BLOCKED;
    const principal = tokens === undefined ? EVERYONE : undefined;
    return this.#visitors.refusalOf(place, principal !== undefined) ??
      new Seat(this.#visitors, place, principal, this.#identifyToken, { address: remoteAddress, agent: "" });
  }

  /** Who a handshake says it is; undefined when it says nothing. */
  #identify(handshake: Handshake, place: Place): Principal | Refusal | undefined {
    if (this.#visitors.isBlocked(place)) return BLOCKED;
    const { headers, protocols, url } = handshake;
    if ((headers.get("sec-websocket-protocol") ?? "").length > CREDENTIALS_LENGTH_MAX) {
      return { status: 431, body: "The subprotocols are too long" };
    }
    const query = new URLSearchParams(/\?(.*)$/.exec(url)?.[1]);
    if (TOKEN_PARAMETERS.some((name) => query.has(name))) {
      return { status: 400, body: "A token does not belong into a URL: say it in hello, or ask for a ticket" };
    }
    const bearers = protocols.filter((protocol) => protocol.startsWith(BEARER_PROTOCOL));
    const tickets = query.getAll("ticket");
    const count = bearers.length + tickets.length + (headers.has("authorization") ? 1 : 0);
    if (count === 0) return undefined;
    const principal = count > 1 ? undefined : this.#identifyBy(headers, bearers[0], tickets[0], place);
    if (principal === undefined) this.#failed(place);
    return principal ?? UNAUTHORIZED;
  }

  #identifyBy(
    headers: Headers,
    bearer: string | undefined,
    ticket: string | undefined,
    place: Place,
  ): Principal | undefined {
    if (ticket !== undefined) return this.#tickets.redeem(ticket, headers.get("origin"), place);
    const token = bearer === undefined ? bearerOf(headers) : bearer.slice(BEARER_PROTOCOL.length);
    return token === undefined ? undefined : this.#options.tokens?.identify(token);
  }

  /** Who a token said on a connection stands for. */
  readonly #identifyToken = (token: string, place: Place): Principal => {
    const { tokens } = this.#options;
    if (tokens === undefined) return EVERYONE;
    if (this.#visitors.isBlocked(place)) throw new FirkinError("BUSY", `Cannot let you in: ${BLOCKED.body}`);
    const principal = tokens.identify(token);
    if (principal !== undefined) return principal;
    this.#failed(place);
    throw new FirkinError("UNAUTHORIZED", `Cannot let you in: ${UNAUTHORIZED.body}`);
  };

  /** Where a request comes from: what a trusted proxy says, or the peer's address. */
  addressOf(headers: Headers, remoteAddress: string): string {
    return this.#options.proxies.clientOf(headers, remoteAddress);
  }

  #failed(place: Place): void {
    this.#options.metrics.authFailures++;
    this.#visitors.failed(place);
  }
}

/** A connection that was let through. */
class Seat implements Guest {
  readonly address: string;
  readonly agent: string;
  readonly principal: Principal | undefined;
  readonly #visitors: Visitors;
  readonly #place: Place;
  readonly #identify: (token: string, place: Place) => Principal;
  #authenticated: boolean;

  constructor(
    visitors: Visitors,
    place: Place,
    principal: Principal | undefined,
    identify: (token: string, place: Place) => Principal,
    { address, agent }: Pick<Guest, "address" | "agent">,
  ) {
    this.address = address;
    this.agent = agent;
    this.principal = principal;
    this.#visitors = visitors;
    this.#place = place;
    this.#identify = identify;
    this.#authenticated = principal !== undefined;
  }

  enter(): boolean {
    const refusal = this.#visitors.refusalOf(this.#place, this.#authenticated);
    this.#visitors.enter(this.#place, this.#authenticated);
    return refusal === undefined;
  }

  identify(token: string): Principal {
    const principal = this.#identify(token, this.#place);
    if (!this.#authenticated) this.#visitors.authenticated(this.#place);
    this.#authenticated = true;
    return principal;
  }

  leave(): void {
    this.#visitors.leave(this.#place, this.#authenticated);
  }
}

/** The token of `Authorization: Bearer <token>`; undefined when there is none, or anything beside it. */
function bearerOf(headers: Headers): string | undefined {
  const value = headers.get("authorization") ?? "";
  return value.length > CREDENTIALS_LENGTH_MAX ? undefined : /^bearer ([A-Za-z0-9._~+/-]+=*)$/i.exec(value)?.[1];
}
