/**
 * Plain HTTP requests: who is let in, and which part of the server answers.
 *
 * 1. Host and Origin, as for a WebSocket (`gate.ts`).
 * 2. `/livez` says that the process runs, `/readyz` whether it can be sent work: not while it shuts down, nor when the
 *    log takes no writes. Neither tells anything, so both are for everybody. `/metrics` is for who may `admin` the
 *    store.
 * 3. `/v1/`: tickets, what the dashboard asks (`admin.ts`), and REST when it is on. A browser says truthfully whether a
 *    page of another site made it ask, also where it leaves Origin out (an image, a link): such a page gets nothing,
 *    not even an error that tells a key from none. Configured origins get CORS headers with their own name, never `*`,
 *    and no credentials: a token is a header.
 * 4. Anything else: the dashboard.
 *
 * Who asks for what is not everybody's says so in each request, by `Authorization: Bearer` (`gate.ts`).
 *
 * A request that fails is answered and touches no other. Whoever shuts down waits for what runs.
 *
 * @module
 */
import { FirkinError } from "../lib/base/errors.ts";
import type { Engine } from "../lib/engine/engine.ts";
import { type Administration, adminRoutes } from "./admin.ts";
import type { Principal } from "./auth.ts";
import { failureOf } from "./commands.ts";
import { dashboardResponse } from "./dashboard.ts";
import { EventStreams, type StreamHost } from "./event_streams.ts";
import type { Gate } from "./gate.ts";
import { openApiOf, ref } from "./openapi.ts";
import { problemOf, Refused, refusedBy, REST_HEADERS } from "./problems.ts";
import { METRICS_TYPE, metricsText } from "./prometheus.ts";
import { JSON_TYPE } from "./representations.ts";
import { json, restRoutes } from "./rest.ts";
import { type Call, Query, type Route, Router } from "./routes.ts";
import type { Tracing } from "./tracing.ts";
import { unstorageRoutes } from "./unstorage.ts";

/** A browser asks again about a request it may send after so long. */
const PREFLIGHT_SECONDS = "600";

const REQUEST_HEADERS = "authorization, content-type, firkin-expires-at, firkin-once, firkin-ttl, if-match, " +
  "if-none-match, last-event-id, x-ttl";
const ANSWER_HEADERS = "etag, firkin-expires-at, firkin-once, link, retry-after, x-ttl";

/** What plain requests need of the server. */
export interface WebHost extends StreamHost {
  readonly engine: Engine;
  readonly gate: Gate;
  /** Origins whose pages may read answers. */
  readonly allowedOrigins: readonly string[];
  /** What concerns the server itself. */
  readonly administration: Administration;
  readonly tracing: Tracing | undefined;
  /** REST is on. */
  readonly rest: boolean;
}

/** Answers plain requests. */
export class Web {
  readonly #host: WebHost;
  readonly #streams: EventStreams;
  readonly #router: Router;
  readonly #routes: readonly Route[];
  readonly #running: Set<Promise<unknown>> = new Set();
  #ending = false;

  /** Answers on behalf of `host`. */
  constructor(host: WebHost) {
    this.#host = host;
    const { commands, clock, gate } = host;
    this.#streams = new EventStreams(host);
    host.administration.clients.add(this.#streams);
    const tickets: Route = {
      method: "POST",
      path: "/v1/tickets",
      id: "ticket",
      summary: "Draw a ticket, which lets in one WebSocket",
      answers: { 201: { description: "Drawn", types: [JSON_TYPE], schema: ref("Ticket") } },
      run: (call) => this.#ticket(call),
    };
    const description: Route = {
      method: "GET",
      path: "/v1/openapi.json",
      id: "openapi",
      summary: "This description",
      answers: { 200: { description: "OpenAPI 3.1", types: [JSON_TYPE] } },
      run: () => json(JSON.stringify(openApiOf(this.#routes, gate.asksCredentials))),
    };
    const rest = [...restRoutes(commands, this.#streams), ...unstorageRoutes(commands, clock), description];
    const always = [tickets, ...adminRoutes(host.administration)];
    this.#routes = host.rest ? [...rest, ...always] : always;
    this.#router = new Router(this.#routes);
  }

  /** Answers a request. Never rejects. */
  async respond(request: Request, remoteAddress: string): Promise<Response> {
    const answering = this.#answer(request, remoteAddress).catch((error: unknown) => this.#failed(error));
    this.#running.add(answering);
    const response = await answering;
    this.#running.delete(answering);
    this.#host.metrics.requested(request.method, response.status);
    return response;
  }

  /** Ends the streams of those whose credentials have expired. */
  check(): void {
    this.#streams.check();
  }

  /** Is not ready any more, refuses REST, ends streams at their cursors; resolves when what runs has been answered. */
  async end(): Promise<void> {
    this.#ending = true;
    await Promise.all([this.#streams.end(), ...this.#running]);
  }

  async #answer(request: Request, remoteAddress: string): Promise<Response> {
    const refusal = this.#host.gate.admit(request.headers);
    if (refusal !== undefined) throw refusedBy(refusal);
    const { pathname } = new URL(request.url);
    if (pathname === "/livez") return plain(200, "ok");
    if (pathname === "/readyz") return await this.#readiness();
    if (pathname === "/metrics") return await this.#metrics(this.#principalOf(request, remoteAddress));
    if (!pathname.startsWith("/v1/")) return await dashboardResponse(request);
    const answer = this.#route(request, remoteAddress).catch((error: unknown) => this.#failed(error));
    return this.#shared(request, await answer);
  }

  /** Who asks. @throws {Refused} UNAUTHORIZED; BUSY — too many wrong credentials came before */
  #principalOf({ headers }: Request, remoteAddress: string): Principal {
    const principal = this.#host.gate.authenticate(headers, remoteAddress);
    if ("status" in principal) throw refusedBy(principal);
    return principal;
  }

  #failed(error: unknown): Response {
    return problemOf(error instanceof Refused ? error : failureOf(error, this.#host.onFailure));
  }

  // --- under /v1 ---

  async #route(request: Request, remoteAddress: string): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const { method, headers } = request;
    const site = headers.get("sec-fetch-site");
    if ((site === "cross-site" || site === "same-site") && !headers.has("origin")) {
      throw new FirkinError("FORBIDDEN", "Cannot answer another site's page that does not say which it is");
    }
    if (this.#ending) throw new FirkinError("UNAVAILABLE", "Cannot answer: the server is shutting down");
    if (method === "OPTIONS") return this.#options(request, pathname);
    const known = this.#principalOf(request, remoteAddress);
    const principal = this.#host.tracing?.within(known, headers) ?? known;
    const { route, ...place } = this.#router.find(method, pathname);
    const query = new Query(search.slice(1), Object.keys(route.query ?? {}));
    return await route.run({ request, remoteAddress, principal, ...place, query });
  }

  #ticket({ request, remoteAddress }: Call): Response {
    // Not as whom the call has: that one belongs to this request's trace, and what comes over the WebSocket does not.
    const known = this.#principalOf(request, remoteAddress);
    const ticket = this.#host.gate.issueTicket(known, request.headers, remoteAddress);
    return json(JSON.stringify(ticket), {}, 201);
  }

  /** What a path answers; with CORS headers, the permission that a browser asks for before it sends a request. */
  #options(request: Request, pathname: string): Response {
    const allow = this.#router.allowed(pathname);
    if (allow === "") throw new Refused("NOT_FOUND", "There is nothing at this path");
    const headers: Record<string, string> = { ...REST_HEADERS, allow };
    if (request.headers.has("access-control-request-method")) {
      headers["access-control-allow-methods"] = allow;
      headers["access-control-allow-headers"] = REQUEST_HEADERS;
      headers["access-control-max-age"] = PREFLIGHT_SECONDS;
    }
    return new Response(null, { status: 204, headers });
  }

  /** Lets a configured origin's page read the answer. */
  #shared(request: Request, response: Response): Response {
    const origin = request.headers.get("origin");
    response.headers.append("vary", "Origin");
    if (origin === null || !this.#host.allowedOrigins.includes(origin)) {
      response.headers.delete("access-control-allow-methods");
      response.headers.delete("access-control-allow-headers");
      return response;
    }
    response.headers.set("access-control-allow-origin", origin);
    response.headers.set("access-control-expose-headers", ANSWER_HEADERS);
    return response;
  }

  // --- health ---

  async #readiness(): Promise<Response> {
    if (this.#ending) return plain(503, "shutting down");
    const stats = await this.#host.engine.stats();
    if (stats["log.poisoned"] === 1) return plain(503, "the log takes no more writes");
    if (stats["reserve.full"] === 1) return plain(503, "the disk is full");
    return plain(200, "ok");
  }

  async #metrics(principal: Principal): Promise<Response> {
    const { commands, metrics, engine } = this.#host;
    const text = await metricsText(metrics, await commands.stats(principal), engine);
    return new Response(text, { headers: { ...REST_HEADERS, "content-type": METRICS_TYPE } });
  }
}

function plain(status: number, body: string): Response {
  return new Response(body, {
    status,
    headers: { ...REST_HEADERS, "content-type": "text/plain; charset=utf-8" },
  });
}
