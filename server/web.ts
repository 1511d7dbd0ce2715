/**
 * Plain HTTP requests: who is let in, and which part of the server answers.
 *
 * 1. Host and Origin, as for a WebSocket (`auth.ts`).
 * 2. `/livez` says that the process runs, `/readyz` whether it can be sent work: not while it shuts down, nor when the
 * log takes no writes. Neither tells anything, so both are for everybody. `/metrics` is for who may `admin` the store.
 * 3. `/v1/`: REST, when it is on. A browser says truthfully whether a page of another site made it ask, also where it
 *    leaves Origin out (an image, a link): such a page gets nothing, not even an error that tells a key from none.
 *    Configured origins get CORS headers with their own name, never `*`, and no credentials: a token is a header.
 * 4. Anything else: the dashboard.
 *
 * A request that fails is answered and touches no other. Whoever shuts down waits for what runs.
 *
 * @module
 */
import { FirkinError } from "../lib/base/errors.ts";
import type { Engine } from "../lib/engine/engine.ts";
import { admit, type AdmitOptions, type Principal } from "./auth.ts";
import { failureOf } from "./commands.ts";
import { dashboardResponse } from "./dashboard.ts";
import { EventStreams, type StreamHost } from "./event_streams.ts";
import { openApiOf } from "./openapi.ts";
import { problemOf, Refused, REST_HEADERS } from "./problems.ts";
import { METRICS_TYPE, metricsText } from "./prometheus.ts";
import { json, restRoutes } from "./rest.ts";
import { Query, type Route, Router } from "./routes.ts";
import { unstorageRoutes } from "./unstorage.ts";

/** A browser asks again about a request it may send after so long. */
const PREFLIGHT_SECONDS = "600";

const REQUEST_HEADERS = "authorization, content-type, firkin-expires-at, firkin-once, firkin-ttl, if-match, " +
  "if-none-match, last-event-id, x-ttl";
const ANSWER_HEADERS = "etag, firkin-expires-at, firkin-once, link, retry-after, x-ttl";

/** What plain requests need of the server. */
export interface WebHost extends StreamHost, AdmitOptions {
  readonly engine: Engine;
  /** REST is on. */
  readonly rest: boolean;
  /** Who asks. @throws {FirkinError} UNAUTHORIZED */
  readonly authenticate: (request: Request) => Principal;
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
    this.#streams = new EventStreams(host);
    this.#routes = [
      ...restRoutes(host.commands, this.#streams),
      ...unstorageRoutes(host.commands, host.clock),
      {
        method: "GET",
        path: "/v1/openapi.json",
        id: "openapi",
        summary: "This description",
        answers: { 200: { description: "OpenAPI 3.1", types: ["application/json"] } },
        run: () => json(JSON.stringify(openApiOf(this.#routes))),
      },
    ];
    this.#router = new Router(this.#routes);
  }

  /** Answers a request. Never rejects. */
  async respond(request: Request): Promise<Response> {
    const answering = this.#answer(request).catch((error: unknown) => this.#failed(error));
    this.#running.add(answering);
    const response = await answering;
    this.#running.delete(answering);
    this.#host.metrics.requested(request.method, response.status);
    return response;
  }

  /** Is not ready any more, refuses REST, ends streams at their cursors; resolves when what runs has been answered. */
  async end(): Promise<void> {
    this.#ending = true;
    await Promise.all([this.#streams.end(), ...this.#running]);
  }

  async #answer(request: Request): Promise<Response> {
    const refusal = admit(request.headers, this.#host);
    if (refusal !== undefined) return new Response(refusal.body, { status: refusal.status });
    const { pathname } = new URL(request.url);
    if (pathname === "/livez") return plain(200, "ok");
    if (pathname === "/readyz") return await this.#readiness();
    if (pathname === "/metrics") return await this.#metrics(request);
    if (!pathname.startsWith("/v1/")) return await dashboardResponse(request);
    return this.#shared(request, await this.#rest(request).catch((error: unknown) => this.#failed(error)));
  }

  #failed(error: unknown): Response {
    return problemOf(error instanceof Refused ? error : failureOf(error, this.#host.onFailure));
  }

  // --- REST ---

  async #rest(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const { method, headers } = request;
    if (!this.#host.rest) throw new Refused("NOT_FOUND", "REST is switched off");
    const site = headers.get("sec-fetch-site");
    if ((site === "cross-site" || site === "same-site") && !headers.has("origin")) {
      throw new FirkinError("FORBIDDEN", "Cannot answer another site's page that does not say which it is");
    }
    if (this.#ending) throw new FirkinError("UNAVAILABLE", "Cannot answer: the server is shutting down");
    if (method === "OPTIONS") return this.#options(request, pathname);
    const principal = this.#host.authenticate(request);
    const { route, bucket, key } = this.#router.find(method, pathname);
    const query = new Query(search.slice(1), Object.keys(route.query ?? {}));
    return await route.run({ request, principal, bucket, key, query });
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

  async #metrics(request: Request): Promise<Response> {
    const { commands, metrics, authenticate } = this.#host;
    const stats = await commands.stats(authenticate(request));
    return new Response(metricsText(metrics, stats), { headers: { ...REST_HEADERS, "content-type": METRICS_TYPE } });
  }
}

function plain(status: number, body: string): Response {
  return new Response(body, {
    status,
    headers: { ...REST_HEADERS, "content-type": "text/plain; charset=utf-8" },
  });
}
