/**
 * Spans of commands, for an application that traces with OpenTelemetry: one for each command, whatever protocol it came
 * over, with its name, its bucket, the sync policy and what it failed with; never a key or a value.
 *
 * A server looks once, when it begins to serve, whether an SDK has been registered. Where none has, nothing is loaded,
 * and a command costs one look at an absent field more. `@opentelemetry/api` is the application's own: it is no
 * dependency of firkin, is loaded by name, and never bundled. What it is used for here is said in types of our own, so
 * that nobody needs its types to use ours.
 *
 * Over HTTP a span's parent is what the registered propagator reads from the request (`traceparent`). It travels with
 * the principal, so that it is there behind every `await` with or without a context manager.
 *
 * @module
 */
import type { ErrorCode } from "../lib/base/errors.ts";
import { isBucketName } from "../lib/engine/engine.ts";
import type { Principal } from "./auth.ts";

/** A span, as the API has it. */
interface ApiSpan {
  setAttribute(name: string, value: string): unknown;
  setStatus(status: { readonly code: number; readonly message?: string }): unknown;
  end(): void;
}

/** Of the API what is used. A context is the API's own business. */
interface Api {
  readonly ROOT_CONTEXT: unknown;
  readonly trace: {
    getTracer(name: string): {
      startSpan(
        name: string,
        options: { readonly kind: number; readonly attributes: Readonly<Record<string, string>> },
        context?: unknown,
      ): ApiSpan;
    };
    getSpanContext(context: unknown): unknown;
  };
  readonly propagation: {
    extract(context: unknown, carrier: Headers, getter: HeaderGetter): unknown;
  };
}

interface HeaderGetter {
  get(headers: Headers, name: string): string | undefined;
  keys(headers: Headers): string[];
}

const LIBRARY: string = "@opentelemetry/api"; // a name that bundlers and Deno do not follow
/** Where the API keeps what is registered, whichever copy of it was used. */
const REGISTERED = Symbol.for("opentelemetry.js.api.1");
/** `SpanKind.SERVER` and `SpanStatusCode.ERROR`. */
const KIND_SERVER = 1;
const STATUS_ERROR = 2;

const HEADERS: HeaderGetter = {
  get: (headers, name) => headers.get(name) ?? undefined,
  keys: (headers) => [...headers.keys()],
};

/** The span of one command. */
export class CommandSpan {
  readonly #span: ApiSpan;

  /** Of a span that has begun. */
  constructor(span: ApiSpan) {
    this.#span = span;
  }

  /** It was answered. */
  end(): void {
    this.#span.end();
  }

  /** It failed. What its error says is for its client. */
  fail(code: ErrorCode): void {
    this.#span.setAttribute("error.type", code);
    this.#span.setStatus({ code: STATUS_ERROR, message: code });
    this.#span.end();
  }
}

/** What makes spans. */
export class Tracing {
  readonly #api: Api;
  readonly #attributes: Readonly<Record<string, string>>;
  readonly #tracer: ReturnType<Api["trace"]["getTracer"]>;

  /** With an API that has an SDK behind it; writes are acknowledged as `syncPolicy` says. */
  constructor(api: Api, syncPolicy: string | undefined) {
    this.#api = api;
    this.#tracer = api.trace.getTracer("firkin");
    this.#attributes = { "db.system.name": "firkin", ...(syncPolicy !== undefined && { "firkin.sync": syncPolicy }) };
  }

  /** Begins the span of a command; what cannot be a bucket's name is left out: it is what a client says, unchecked. */
  begin(operation: string, { trace }: Principal, said: string | undefined): CommandSpan {
    const bucket = said !== undefined && isBucketName(said) ? said : undefined;
    const attributes = { ...this.#attributes, "db.operation.name": operation };
    const options = {
      kind: KIND_SERVER,
      attributes: bucket === undefined ? attributes : { ...attributes, "db.collection.name": bucket },
    };
    const name = bucket === undefined ? operation : `${operation} ${bucket}`;
    return new CommandSpan(this.#tracer.startSpan(name, options, trace ?? this.#api.ROOT_CONTEXT));
  }

  /** Who asks, in the trace that its request belongs to, if to any. */
  within(principal: Principal, headers: Headers): Principal {
    const { ROOT_CONTEXT, propagation, trace } = this.#api;
    const context = propagation.extract(ROOT_CONTEXT, headers, HEADERS);
    return trace.getSpanContext(context) === undefined ? principal : new TracedPrincipal(principal, context);
  }
}

/** A principal whose commands belong to a trace. */
class TracedPrincipal implements Principal {
  readonly name: string;
  readonly trace: unknown;
  readonly #principal: Principal;

  constructor(principal: Principal, trace: unknown) {
    this.name = principal.name;
    this.trace = trace;
    this.#principal = principal;
  }

  /** Now: credentials may be revoked. */
  get expiresAt(): number | undefined {
    return this.#principal.expiresAt;
  }

  get scopes(): Principal["scopes"] {
    return this.#principal.scopes;
  }

  allows(...asked: Parameters<Principal["allows"]>): boolean {
    return this.#principal.allows(...asked);
  }
}

/**
 * What makes spans, if the application has registered an SDK; `onMissing` is told when it has, and the API cannot be
 * loaded from here.
 */
export async function openTracing(
  syncPolicy: string | undefined,
  onMissing: (message: string) => void,
): Promise<Tracing | undefined> {
  const registered = (globalThis as { [REGISTERED]?: { readonly trace?: unknown } })[REGISTERED];
  if (registered?.trace === undefined) return undefined;
  try {
    return new Tracing(await import(LIBRARY) as Api, syncPolicy);
  } catch {
    onMissing("@opentelemetry/api is not installed beside firkin: its commands are in no trace");
    return undefined;
  }
}
