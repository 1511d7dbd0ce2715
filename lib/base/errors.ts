/**
 * What can go wrong, as one closed table.
 *
 * Misuse is not here: a wrong shape is a `TypeError`, a wrong range a `RangeError`, a missing key is
 * `undefined` and a lost race is `{ ok: false }`. Everything else is a {@link FirkinError} whose `code`
 * says what a caller would do differently. One row per code gives every protocol its own word for it,
 * so that a client sees the same failure through each door.
 *
 * @module
 */

/** What each protocol says for a code. */
export interface ErrorRow {
  /** The number in an error frame; never changes. */
  readonly wire: number;
  /** The HTTP status. */
  readonly http: number;
  /** The first word of a RESP error. */
  readonly resp: string;
  /** True when the same call may succeed later without a change by the caller. */
  readonly retry: boolean;
  /** One sentence for people. */
  readonly meaning: string;
}

/** One of the closed set of codes that a {@link FirkinError} carries. */
export type ErrorCode =
  | "CLOSED"
  | "LOCKED"
  | "READ_ONLY"
  | "CORRUPT"
  | "IO"
  | "FULL"
  | "DURABILITY"
  | "TOO_LARGE"
  | "INVALID"
  | "NOT_SUPPORTED"
  | "UNAUTHORIZED"
  | "FORBIDDEN"
  | "TIMEOUT"
  | "UNAVAILABLE"
  | "PROTOCOL"
  | "BUSY";

/** On the wire: never change a number, never reuse one. */
export const ERRORS: Readonly<Record<ErrorCode, ErrorRow>> = {
  CLOSED: { wire: 1, http: 503, resp: "ERR", retry: false, meaning: "The store or connection is closed" },
  LOCKED: { wire: 2, http: 503, resp: "ERR", retry: true, meaning: "Another process holds the store" },
  READ_ONLY: { wire: 3, http: 403, resp: "READONLY", retry: false, meaning: "The store does not accept writes" },
  CORRUPT: { wire: 4, http: 500, resp: "ERR", retry: false, meaning: "Stored bytes fail their check" },
  IO: { wire: 5, http: 500, resp: "ERR", retry: true, meaning: "The operating system refused an operation" },
  FULL: { wire: 6, http: 507, resp: "OOM", retry: true, meaning: "No space is left for a write" },
  DURABILITY: {
    wire: 7,
    http: 500,
    resp: "ERR",
    retry: false,
    meaning: "A sync failed: the outcome of the write is unknown and the log takes no more",
  },
  TOO_LARGE: { wire: 8, http: 413, resp: "ERR", retry: false, meaning: "A key, value, batch or frame is over a limit" },
  INVALID: { wire: 9, http: 400, resp: "ERR", retry: false, meaning: "An argument that came over a protocol is wrong" },
  NOT_SUPPORTED: { wire: 10, http: 501, resp: "ERR", retry: false, meaning: "This engine cannot do that" },
  UNAUTHORIZED: { wire: 11, http: 401, resp: "NOAUTH", retry: false, meaning: "Credentials are missing or wrong" },
  FORBIDDEN: { wire: 12, http: 403, resp: "NOPERM", retry: false, meaning: "The credentials do not allow that" },
  TIMEOUT: { wire: 13, http: 504, resp: "ERR", retry: true, meaning: "No answer came in time" },
  UNAVAILABLE: { wire: 14, http: 503, resp: "ERR", retry: true, meaning: "The server cannot be reached" },
  PROTOCOL: { wire: 15, http: 400, resp: "ERR", retry: false, meaning: "The bytes are not the protocol's" },
  BUSY: { wire: 16, http: 429, resp: "BUSY", retry: true, meaning: "A limit on work in progress is reached" },
};

/** Where a failure happened. Never holds a value. */
export interface ErrorDetail {
  /** The segment's number. */
  readonly segment?: number;
  /** Bytes from the start of the segment. */
  readonly offset?: number;
  /** The file or folder. */
  readonly path?: string;
}

/** Options of {@link FirkinError}. */
export interface FirkinErrorOptions {
  /** What was thrown below. */
  readonly cause?: unknown;
  /** Where it happened. */
  readonly detail?: ErrorDetail;
}

/**
 * A failure that a caller may want to tell from others by its `code`.
 *
 * @example Open a store that another process holds
 * ```ts
 * import { FirkinError, open } from "firkin";
 *
 * const store = await open(":memory:");
 * await store.close();
 * try {
 *   await store.bucket("users").get("ada");
 * } catch (error) {
 *   console.log(error instanceof FirkinError && error.code); // "CLOSED"
 * }
 * ```
 */
export class FirkinError extends Error {
  /** "FirkinError", also when two copies of the library are loaded. */
  override readonly name: string = "FirkinError";
  /** One of the closed set of codes. */
  readonly code: ErrorCode;
  /** Where it happened, when there is a place. */
  readonly detail: ErrorDetail;

  /** Makes an error with a code from the table and a message for people. */
  constructor(code: ErrorCode, message: string, options: FirkinErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = options.detail ?? {};
  }

  /** True when the same call may succeed later without a change by the caller. */
  get retry(): boolean {
    return ERRORS[this.code].retry;
  }
}

const CODE_BY_WIRE: ReadonlyMap<number, ErrorCode> = new Map(
  (Object.keys(ERRORS) as ErrorCode[]).map((code) => [ERRORS[code].wire, code]),
);

/** The code behind a wire number; a number from a newer peer reads as `PROTOCOL`. */
export function errorCodeOf(wire: number): ErrorCode {
  return CODE_BY_WIRE.get(wire) ?? "PROTOCOL";
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Stops the program's current step when something that cannot happen has happened. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`Assertion failed: ${message}`);
}
