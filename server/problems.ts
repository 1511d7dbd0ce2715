/**
 * What REST says when it says no: RFC 9457 problems, of the codes in the table of `lib/base/errors.ts` and the few
 * that only HTTP has.
 *
 * A problem has a `code`, which is what a program looks at, and a `detail` for people. Neither holds a value or a
 * credential. What may succeed later without a change by the caller comes with `Retry-After`.
 *
 * @module
 */
import { type ErrorCode, ERRORS, type FirkinError } from "../lib/base/errors.ts";
import type { Refusal } from "./auth.ts";

/** Codes that no other protocol needs: there they are answers, or cannot come up. */
export type RestCode =
  | "NOT_FOUND"
  | "METHOD_NOT_ALLOWED"
  | "NOT_ACCEPTABLE"
  | "SINGLE_READ"
  | "PRECONDITION_FAILED"
  | "UNSUPPORTED_MEDIA_TYPE";

/** Status and meaning of each. */
export const REST_CODES: Readonly<Record<RestCode, { readonly http: number; readonly meaning: string }>> = {
  NOT_FOUND: { http: 404, meaning: "There is no such key, or nothing at this path" },
  METHOD_NOT_ALLOWED: { http: 405, meaning: "The path does not answer this method" },
  NOT_ACCEPTABLE: { http: 406, meaning: "The value has no form that the request accepts" },
  SINGLE_READ: { http: 409, meaning: "The key is single-read: POST to its /take reads and ends it" },
  PRECONDITION_FAILED: { http: 412, meaning: "The key, or the bucket, is not as the request asked for" },
  UNSUPPORTED_MEDIA_TYPE: { http: 415, meaning: "The body is of no type that is taken here" },
};

/** What the gate's refusals of plain requests are called, by their status. */
const REFUSAL_CODES: Readonly<Record<number, ErrorCode>> = { 401: "UNAUTHORIZED", 403: "FORBIDDEN", 429: "BUSY" };

/** Seconds after which to try again what may succeed then. */
const RETRY_SECONDS = "1";

/** The type of every body that says no. */
export const PROBLEM_TYPE = "application/problem+json";

/** Sent with everything under /v1, so that no answer can be framed, sniffed, kept or shown by another site's page. */
export const REST_HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-store, no-transform",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** Thrown by what answers a request, to say no. */
export class Refused extends Error {
  readonly code: RestCode | ErrorCode;
  /** Members of the problem beside the usual ones: JSON texts by name. */
  readonly members: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;

  /** A refusal; `detail` is for people. */
  constructor(
    code: RestCode | ErrorCode,
    detail: string,
    options: { readonly members?: Record<string, string>; readonly headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(detail);
    this.code = code;
    this.members = options.members ?? {};
    this.headers = options.headers ?? {};
  }
}

/** What is thrown for one whom the gate refuses. */
export function refusedBy({ status, body, headers = {} }: Refusal): Refused {
  return new Refused(REFUSAL_CODES[status]!, body, { headers });
}

/** The answer to a request that failed. */
export function problemOf(error: FirkinError | Refused): Response {
  if (error instanceof Refused) return problem(error.code, error.message, error.members, error.headers);
  const { code, message } = error;
  const headers: Record<string, string> = {};
  if (ERRORS[code].retry) headers["retry-after"] = RETRY_SECONDS;
  if (code === "UNAUTHORIZED") headers["www-authenticate"] = "Bearer";
  return problem(code, message, {}, headers);
}

function problem(
  code: ErrorCode | RestCode,
  detail: string,
  members: Readonly<Record<string, string>>,
  headers: Readonly<Record<string, string>>,
): Response {
  const { http: status, meaning: title } = { ...ERRORS, ...REST_CODES }[code];
  const usual = { type: `urn:firkin:${code}`, title, status, code, detail };
  const more = Object.entries(members).map(([name, json]) => `,${JSON.stringify(name)}:${json}`).join("");
  return new Response(`${JSON.stringify(usual).slice(0, -1)}${more}}`, {
    status,
    headers: { ...REST_HEADERS, "content-type": PROBLEM_TYPE, ...headers },
  });
}
