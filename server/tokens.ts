/**
 * Tokens: the credentials of a server's clients, kept in a file or in memory.
 *
 * A token is `firkin_<id>_<secret>`: twelve hexadecimal digits that name it and 256 random bits. It is told once, when
 * it is created; what is kept is its SHA-256, its name and its scopes. The digest of a token that somebody brings is
 * compared in constant time, and whatever is wrong with it, there is one answer: nobody.
 *
 * A scope gives rights in buckets: `*` in all, `team-*` in those whose names begin so, `team` in that one. Only `*`
 * covers the store as a whole, and what asks for all buckets.
 *
 * Each token is one {@link Principal} object as long as it is what it was. One that is revoked, or changed in the file,
 * has expired from that moment on, so a request that comes a moment later is refused whatever connection it comes on.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import { type Clock, systemClock } from "../lib/base/clock.ts";
import { FirkinError, messageOf } from "../lib/base/errors.ts";
import { hasExpired, type Principal, type Right, type Scope } from "./auth.ts";
import { TokenFile } from "./token_file.ts";

// --- types ---

/** What may be told of a token. */
export interface TokenInfo {
  /** Names it, and is part of it. */
  readonly id: string;
  /** What it is for; no two have the same. */
  readonly name: string;
  /** What it may. */
  readonly scopes: readonly Scope[];
  /** Epoch milliseconds. */
  readonly createdAt: number;
  /** From when on (epoch milliseconds) it is nobody's; never when absent. */
  readonly expiresAt?: number;
}

/** What a new token is to be. */
export interface TokenOptions {
  /** What it is for: 1 to 64 letters, digits, spaces and `._@-`. */
  readonly name: string;
  /** What it may: one scope at least. */
  readonly scopes: readonly Scope[];
  /** From when on (epoch milliseconds) it is nobody's; never when absent. */
  readonly expiresAt?: number;
}

/** A token as it is kept. */
interface TokenRecord extends TokenInfo {
  /** Of the whole token: SHA-256, in hexadecimal digits. */
  readonly hash: string;
}

const RIGHTS: readonly Right[] = ["read", "write", "subscribe", "admin"];
const ID_BYTES = 6;
const SECRET_BYTES = 32;
const TOKEN = /^firkin_([0-9a-f]{12})_[A-Za-z0-9_-]{43}$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$/;
const BUCKETS = /^(?:\*|[a-z0-9][a-z0-9_-]{0,63}\*?)$/;
const HASH = /^[0-9a-f]{64}$/;
/** The form of the file. */
const VERSION = 1;
/** What the digest of a token with an unknown id is compared with, so that it takes as long. */
const NO_HASH = Buffer.alloc(32);

// --- principals ---

/** Where a token has one of its rights. */
interface Reach {
  readonly everywhere: boolean;
  readonly names: ReadonlySet<string>;
  readonly beginnings: readonly string[];
}

const NOWHERE: Reach = { everywhere: false, names: new Set(), beginnings: [] };

/** Who brings a token. */
class Holder implements Principal {
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly record: TokenRecord;
  readonly hash: Buffer;
  expiresAt?: number;
  #reach: Readonly<Record<Right, Reach>>;

  constructor(record: TokenRecord) {
    this.record = record;
    this.name = record.name;
    this.scopes = record.scopes;
    this.hash = Buffer.from(record.hash, "hex");
    if (record.expiresAt !== undefined) this.expiresAt = record.expiresAt;
    this.#reach = {
      read: reachOf(record.scopes, "read"),
      write: reachOf(record.scopes, "write"),
      subscribe: reachOf(record.scopes, "subscribe"),
      admin: reachOf(record.scopes, "admin"),
    };
  }

  allows(right: Right, bucket: string | undefined): boolean {
    const { everywhere, names, beginnings } = this.#reach[right];
    if (everywhere) return true;
    if (bucket === undefined) return false;
    return names.has(bucket) || beginnings.some((beginning) => bucket.startsWith(beginning));
  }

  /** From now on it may nothing more. */
  retire(): void {
    this.expiresAt = 0;
    this.#reach = { read: NOWHERE, write: NOWHERE, subscribe: NOWHERE, admin: NOWHERE };
  }
}

function reachOf(scopes: readonly Scope[], right: Right): Reach {
  const buckets = scopes.filter(({ rights }) => rights.includes(right)).map((scope) => scope.buckets);
  return {
    everywhere: buckets.includes("*"),
    names: new Set(buckets.filter((pattern) => !pattern.endsWith("*"))),
    beginnings: buckets.filter((pattern) => pattern.endsWith("*") && pattern !== "*").map((text) => text.slice(0, -1)),
  };
}

// --- tokens ---

/** Options of {@link openTokens} and {@link Tokens}. */
export interface TokensOptions {
  /** Time and randomness; the system's when absent. */
  readonly clock?: Clock;
}

/**
 * Opens the tokens of a file, which is made when the first is created. Its place is beside the store's folder.
 *
 * @throws {FirkinError} CORRUPT — the file is not what this module wrote; IO
 *
 * @example Give a client a token for one bucket
 * ```ts
 * import { mkdtemp, rm } from "node:fs/promises";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { openTokens } from "firkin/server";
 *
 * const folder = await mkdtemp(join(tmpdir(), "firkin-"));
 * const tokens = openTokens(join(folder, "tokens.json"));
 * const { token } = await tokens.create({ name: "web", scopes: [{ buckets: "sessions", rights: ["read"] }] });
 * console.log(token.startsWith("firkin_"), tokens.list()[0]?.name); // true "web"
 * await rm(folder, { recursive: true });
 * ```
 */
export function openTokens(path: string, options: TokensOptions = {}): Tokens {
  const clock = options.clock ?? systemClock;
  const tokens = new Tokens({ ...options, file: new TokenFile(path, clock) });
  tokens.refresh();
  return tokens;
}

/** The tokens of a server; without a file they are forgotten with this object. */
export class Tokens {
  readonly #clock: Clock;
  readonly #file: TokenFile | undefined;
  readonly #holders: Map<string, Holder> = new Map();
  readonly #watchers: Set<() => void> = new Set();

  /** Makes an empty set in memory; {@link openTokens} opens a file. */
  constructor(options: TokensOptions & { readonly file?: TokenFile } = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#file = options.file;
  }

  /** Who brings this token; undefined for everything that is no living token. */
  identify(token: string): Principal | undefined {
    const id = TOKEN.exec(token)?.[1];
    if (id === undefined) return undefined;
    const holder = this.#holders.get(id);
    const same = timingSafeEqual(hashOf(token), holder?.hash ?? NO_HASH);
    return !same || holder === undefined || hasExpired(holder, this.#clock.wall()) ? undefined : holder;
  }

  /** All of them, oldest first. */
  list(): TokenInfo[] {
    return [...this.#holders.values()].map(({ record }) => infoOf(record));
  }

  /**
   * Creates a token, which nobody can tell again.
   *
   * @throws {RangeError} a name, scope or time that cannot be
   * @throws {FirkinError} INVALID — the name is taken; LOCKED, IO — the file cannot be changed
   */
  async create(options: TokenOptions): Promise<{ readonly token: string; readonly info: TokenInfo }> {
    const { name, expiresAt } = options;
    const id = Buffer.from(this.#clock.random(new Uint8Array(ID_BYTES))).toString("hex");
    const secret = Buffer.from(this.#clock.random(new Uint8Array(SECRET_BYTES))).toString("base64url");
    const token = `firkin_${id}_${secret}`;
    const scopes = options.scopes.map(({ buckets, rights }) => ({ buckets, rights: [...rights] }));
    const record: TokenRecord = {
      id,
      name,
      scopes,
      createdAt: this.#clock.wall(),
      ...(expiresAt !== undefined && { expiresAt }),
      hash: hashOf(token).toString("hex"),
    };
    const problem = problemOf(record);
    if (problem !== undefined) throw new RangeError(`Cannot create a token: ${problem}`);
    await this.#change((records) => {
      if (records.some((other) => other.name === name || other.id === id)) {
        throw new FirkinError("INVALID", `Cannot create a token: there is one called ${name}`);
      }
      return [...records, record];
    });
    return { token, info: infoOf(record) };
  }

  /**
   * Revokes a token by its id or its name; false when there is none. What comes with it is refused from then on, and a
   * server closes its connections: one with this object at once, one with the same file within a second.
   *
   * @throws {FirkinError} LOCKED, IO — the file cannot be changed
   */
  async revoke(idOrName: string): Promise<boolean> {
    let found = false;
    await this.#change((records) => {
      const left = records.filter(({ id, name }) => id !== idOrName && name !== idOrName);
      found = left.length < records.length;
      return found ? left : undefined;
    });
    return found;
  }

  /**
   * Reads the file again when it has changed. A file that is gone has no tokens; one that cannot be understood leaves
   * the tokens as they were.
   *
   * @throws {FirkinError} CORRUPT, IO — once for each change of the file
   */
  refresh(): void {
    let text: string | undefined;
    try {
      text = this.#file?.readIfChanged();
    } catch (error) {
      throw new FirkinError("IO", `Cannot read ${this.#file?.path}: ${messageOf(error)}`, { cause: error });
    }
    if (text !== undefined) this.#apply(this.#parse(text));
  }

  /** Calls `changed` whenever a token has been revoked or changed; the result ends that. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  /** Makes the tokens what `change` says, undefined for no change. */
  async #change(change: (records: readonly TokenRecord[]) => TokenRecord[] | undefined): Promise<void> {
    if (this.#file === undefined) {
      const before = [...this.#holders.values()].map(({ record }) => record);
      return this.#apply(change(before) ?? before);
    }
    await this.#file.replace((text) => {
      const records = change(this.#parse(text));
      return records && textOf(records);
    });
    this.refresh();
  }

  /** Makes these the tokens; who is as before stays the same object. */
  #apply(records: readonly TokenRecord[]): void {
    const before = new Map(this.#holders); // and in the end those that are no more
    this.#holders.clear();
    for (const record of records) {
      const known = before.get(record.id);
      const same = known !== undefined && JSON.stringify(known.record) === JSON.stringify(record);
      this.#holders.set(record.id, same ? known : new Holder(record));
      if (same) before.delete(record.id);
    }
    for (const holder of before.values()) holder.retire();
    if (before.size > 0) { for (const changed of this.#watchers) changed(); }
  }

  #parse(text: string): TokenRecord[] {
    if (text === "") return [];
    try {
      return recordsOf(JSON.parse(text));
    } catch (error) {
      // Not the cause: what JSON.parse says quotes the text.
      const state = error instanceof RangeError ? error.message : "it is not JSON";
      throw new FirkinError("CORRUPT", `Cannot read ${this.#file?.path}: ${state}`);
    }
  }
}

/** A token without its digest. */
function infoOf({ id, name, scopes, createdAt, expiresAt }: TokenRecord): TokenInfo {
  return { id, name, scopes, createdAt, ...(expiresAt !== undefined && { expiresAt }) };
}

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

// --- the file's text ---

function textOf(records: readonly TokenRecord[]): string {
  return `${JSON.stringify({ version: VERSION, tokens: records }, undefined, 2)}\n`;
}

/** The tokens of a file. @throws {RangeError} it has anything that is not understood */
function recordsOf(parsed: unknown): TokenRecord[] {
  const { version, tokens, ...rest } = objectOf(parsed, "the file");
  if (version !== VERSION) throw new RangeError(`its version is not ${VERSION}`);
  if (!Array.isArray(tokens) || Object.keys(rest).length > 0) throw new RangeError("it is not a list of tokens");
  const records = tokens.map((token) => recordOf(objectOf(token, "a token")));
  for (const key of ["id", "name"] as const) {
    if (new Set(records.map((record) => record[key])).size < records.length) {
      throw new RangeError(`two tokens have the same ${key}`);
    }
  }
  return records;
}

function recordOf(parsed: Record<string, unknown>): TokenRecord {
  const { id, name, hash, scopes, createdAt, expiresAt, ...rest } = parsed;
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) throw new RangeError("a token has a field that is not known");
  if (!Array.isArray(scopes)) throw new RangeError("the scopes of a token are not a list");
  const record = {
    id,
    name,
    scopes: scopes.map((scope) => {
      const { buckets, rights, ...more } = objectOf(scope, "a scope");
      if (!Array.isArray(rights) || Object.keys(more).length > 0) throw new RangeError("a scope is malformed");
      return { buckets, rights };
    }),
    createdAt,
    ...(expiresAt !== undefined && { expiresAt }),
    hash,
  } as unknown as TokenRecord;
  const problem = problemOf(record);
  if (problem !== undefined) throw new RangeError(problem);
  return record;
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new RangeError(`${what} is malformed`);
  return value as Record<string, unknown>;
}

/** What is wrong with a token, whose fields may be of any type; undefined when nothing is. */
function problemOf(record: TokenRecord): string | undefined {
  const { id, name, hash, scopes, createdAt, expiresAt } = record;
  if (!matches(/^[0-9a-f]{12}$/, id)) return "its id is not 12 hexadecimal digits";
  if (!matches(NAME, name)) return "its name is not 1 to 64 letters, digits, spaces and ._@-";
  if (!matches(HASH, hash)) return "its hash is not 64 hexadecimal digits";
  if (!isTime(createdAt) || (expiresAt !== undefined && !isTime(expiresAt))) return "its times are not milliseconds";
  if (scopes.length === 0) return "it has no scope";
  for (const { buckets, rights } of scopes) {
    if (!matches(BUCKETS, buckets)) return "a scope's buckets are not a name, the beginning of names and *, or *";
    if (rights.length === 0 || !rights.every((right) => RIGHTS.includes(right))) {
      return `a scope's rights are not some of ${RIGHTS.join(", ")}`;
    }
    if (rights.includes("admin") && buckets !== "*") return "admin is a right in all buckets, *, or none";
  }
  return undefined;
}

function matches(pattern: RegExp, value: unknown): boolean {
  return typeof value === "string" && pattern.test(value);
}

function isTime(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
