/**
 * Who may what: a connection by its Host and Origin, an operation by the rights of its principal.
 *
 * The server listens on loopback, which every program of the machine can reach, and among them browsers that show
 * anyone's pages. Two checks keep those out. **Host**: a page whose name was made to point at 127.0.0.1 (DNS rebinding)
 * still sends its own name, so only names of this machine, or configured ones, are answered. **Origin**: a browser lets
 * any page open a WebSocket to anywhere but says truthfully which page it is, so only the server's own pages and
 * configured ones are let in. A program that is no browser sends no Origin and is let in.
 *
 * Names are compared whole, never by prefix or suffix. What is not understood is refused.
 *
 * @module
 */

// --- rights ---

/** What one may do; none implies another. `subscribe` shows values too, `admin` is for the store as a whole. */
export type Right = "read" | "write" | "subscribe" | "admin";

/** Rights in some buckets. */
export interface Scope {
  /** `*`, the beginning of names and `*`, or a name. */
  readonly buckets: string;
  /** What may be done there. */
  readonly rights: readonly Right[];
}

/** Somebody who asks: what a protocol has made of the credentials that came with a request or a connection. */
export interface Principal {
  /** For logs; no secret. */
  readonly name: string;
  /** From when on (epoch milliseconds) it may nothing more; never when absent. */
  readonly expiresAt?: number | undefined;
  /** What it was given, to be told; `allows` is what counts. */
  readonly scopes?: readonly Scope[] | undefined;
  /** Where what it asks belongs to a trace: the tracer's own context (`tracing.ts`). */
  readonly trace?: unknown;
  /**
   * True when it has the right in this bucket; in every bucket and the store as a whole when `bucket` is undefined.
   * Asked on each call and each operation of a batch, also about names that no bucket can have. Must not throw.
   */
  allows(right: Right, bucket: string | undefined): boolean;
}

/** May everything: who asks without credentials while the server listens on loopback only. */
export const EVERYONE: Principal = {
  name: "everyone",
  scopes: [{ buckets: "*", rights: ["read", "write", "subscribe", "admin"] }],
  allows: () => true,
};

/** May nothing: who has not said yet who it is. */
export const NOBODY: Principal = { name: "nobody", allows: () => false };

/** True when a principal may nothing more; `now` is epoch milliseconds. */
export function hasExpired({ expiresAt }: Principal, now: number): boolean {
  return expiresAt !== undefined && expiresAt <= now;
}

/** A connection, as what lets it in sees it. */
export interface Guest {
  /** Where it comes from: its address, or the one that a trusted proxy names. */
  readonly address: string;
  /** The program that it says it is; "" when it does not. */
  readonly agent: string;
  /** Who it is by its handshake; undefined when it has yet to say so. */
  readonly principal: Principal | undefined;
  /** It is open; false when there are too many meanwhile, and it must be closed. Has its `leave`. */
  enter(): boolean;
  /** Who a token stands for. @throws {FirkinError} UNAUTHORIZED — nobody; BUSY — too many wrong ones came before */
  identify(token: string): Principal;
  /** It is gone. */
  leave(): void;
}

// --- connections ---

/** Names beyond the machine's own. */
export interface AdmitOptions {
  /** Further hosts: `example.org` with any port, or `example.org:8080` with that one. */
  readonly allowedHosts: readonly string[];
  /** Further origins, as browsers write them: `https://example.org`. */
  readonly allowedOrigins: readonly string[];
}

/** The response to one who is not let in. */
export interface Refusal {
  readonly status: number;
  readonly body: string;
  /** Further headers of the response. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** The names of this machine as Host writes them; IPv6 stands in brackets. */
const LOOPBACK_NAMES: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** A name or an address in brackets, and perhaps a port. */
const HOST = /^([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/;

/**
 * Judges the headers of a handshake or a request by Host and Origin.
 *
 * @returns Undefined when it may go on, or the response to refuse it with
 */
export function admit(headers: Headers, options: AdmitOptions): Refusal | undefined {
  const host = headers.get("host")?.toLowerCase() ?? "";
  if (!isHostAllowed(host, options.allowedHosts)) return { status: 403, body: "This Host is not allowed" };
  const origin = headers.get("origin");
  if (origin !== null && !isOriginAllowed(origin, host, options.allowedOrigins)) {
    return { status: 403, body: "This Origin is not allowed" };
  }
  return undefined;
}

/** `host` is in lower case. */
function isHostAllowed(host: string, allowed: readonly string[]): boolean {
  const name = HOST.exec(host)?.[1];
  if (name === undefined) return false;
  if (LOOPBACK_NAMES.has(name)) return true;
  return allowed.some((entry) => entry.toLowerCase() === name || entry.toLowerCase() === host);
}

/** `null` is what a sandboxed page or a file sends: it names nobody, so no list can allow it. */
function isOriginAllowed(origin: string, host: string, allowed: readonly string[]): boolean {
  if (origin === "null") return false;
  return origin === `http://${host}` || origin === `https://${host}` || allowed.includes(origin);
}
