/**
 * The table that REST is: what a row says, and how a request finds its row.
 *
 * One row per method and path routes requests, says what may stand in the query, and is the description that
 * `/v1/openapi.json` gives, so that none of the three can go its own way.
 *
 * In a template `{bucket}` and `{name}` stand for one segment, taken as it is: a bucket's name has no escapes. `{key}`
 * stands for all that follows, slashes too, still escaped: escapes are resolved once, in the key alone, after the path
 * has been divided. So no escape reaches another bucket.
 *
 * @module
 */
import { decodeText } from "../lib/base/bytes.ts";
import { FirkinError } from "../lib/base/errors.ts";
import type { Principal } from "./auth.ts";
import type { Answer } from "./commands.ts";
import { Refused } from "./problems.ts";
import { unescapeBytes } from "./representations.ts";

/** A JSON schema, or a part of one. */
export type Schema = { readonly [name: string]: unknown };

/** What a row answers with: the media types of its bodies and their schema (bytes when absent). */
export interface AnswerRow {
  readonly description: string;
  readonly types?: readonly string[];
  readonly schema?: Schema;
  /** Headers that it carries. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** One row of the table. */
export interface Route {
  /** HEAD goes where GET goes. */
  readonly method: "GET" | "PUT" | "DELETE" | "POST";
  readonly path: string;
  /** The name of the operation. */
  readonly id: string;
  readonly summary: string;
  /** Parameters of the query, by name; no others may be given. */
  readonly query?: Readonly<Record<string, Schema>>;
  /** Request headers that it looks at, with what they mean. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: { readonly types: readonly string[]; readonly schema?: Schema };
  /** By status; problems need no row. */
  readonly answers: Readonly<Record<number, AnswerRow>>;
  run(call: Call): Answer<Response>;
}

/** One request, as its row sees it. */
export interface Call {
  readonly request: Request;
  /** The peer's address. */
  readonly remoteAddress: string;
  readonly principal: Principal;
  /** Undefined where the path has none; not yet known to be one. */
  readonly bucket: string;
  /** The key, still escaped. */
  readonly key: string;
  /** What the path names that is neither. */
  readonly name: string;
  readonly query: Query;
}

/** A row with its pattern. */
interface Compiled {
  readonly route: Route;
  readonly pattern: RegExp;
}

/** Finds rows. */
export class Router {
  readonly #rows: readonly Compiled[];

  /** The first of `routes` that fits is a request's. */
  constructor(routes: readonly Route[]) {
    this.#rows = routes.map((route) => ({ route, pattern: patternOf(route.path) }));
  }

  /**
   * The row of a request, and the parts of its path.
   *
   * @throws {Refused} NOT_FOUND, METHOD_NOT_ALLOWED
   */
  find(method: string, path: string): { readonly route: Route } & Pick<Call, "bucket" | "key" | "name"> {
    const fitting = this.#rows.filter(({ pattern }) => pattern.test(path));
    const wanted = method === "HEAD" ? "GET" : method;
    const row = fitting.find(({ route }) => route.method === wanted);
    if (row !== undefined) {
      const { bucket = "", key = "", name = "" } = row.pattern.exec(path)!.groups ?? {};
      return { route: row.route, bucket, key, name };
    }
    if (fitting.length === 0) throw new Refused("NOT_FOUND", "There is nothing at this path");
    throw new Refused("METHOD_NOT_ALLOWED", "This path does not answer that method", {
      headers: { allow: this.#methods(fitting) },
    });
  }

  /** What a path answers, for Allow; "" when there is nothing. */
  allowed(path: string): string {
    return this.#methods(this.#rows.filter(({ pattern }) => pattern.test(path)));
  }

  #methods(rows: readonly Compiled[]): string {
    const methods = rows.flatMap(({ route: { method } }) => method === "GET" ? ["GET", "HEAD"] : [method]);
    return [...new Set(methods)].join(", ");
  }
}

function patternOf(template: string): RegExp {
  const pattern = template.replaceAll(".", "\\.").replace("{bucket}", "(?<bucket>[^/]+)")
    .replace("{name}", "(?<name>[^/]+)").replace("{key}", "(?<key>.+)");
  return new RegExp(`^${pattern}$`);
}

/** The query of a URL: what a form's fields would be, but of bytes. */
export class Query {
  readonly #values: Map<string, Uint8Array> = new Map();

  /**
   * Reads `text`, without its question mark. @throws {FirkinError} INVALID — a name that is not among `names`, or twice
   */
  constructor(text: string, names: readonly string[]) {
    for (const field of text.split("&").filter((part) => part !== "")) {
      const [name = "", ...value] = field.split("=");
      if (!names.includes(name)) {
        throw new FirkinError("INVALID", `Cannot read the query: there is no parameter "${name.slice(0, 64)}" here`);
      }
      if (this.#values.has(name)) throw new FirkinError("INVALID", `Cannot read the query: ${name} is given twice`);
      this.#values.set(name, unescapeBytes(value.join("=").replaceAll("+", " ")));
    }
  }

  bytes(name: string): Uint8Array | undefined {
    return this.#values.get(name);
  }

  /** @throws {FirkinError} INVALID — not UTF-8 */
  text(name: string): string | undefined {
    const bytes = this.#values.get(name);
    const text = bytes && decodeText(bytes);
    if (bytes !== undefined && text === undefined) {
      throw new FirkinError("INVALID", `Cannot read the query: ${name} is not text`);
    }
    return text;
  }

  /** @throws {FirkinError} INVALID — neither 1, true, 0, false nor absent */
  flag(name: string, absent = false): boolean {
    const text = this.text(name);
    if (text === undefined) return absent;
    if (/^(1|true)$/.test(text)) return true;
    if (/^(0|false)$/.test(text)) return false;
    throw new FirkinError("INVALID", `Cannot read the query: ${name} is 1 or 0`);
  }

  /** @throws {FirkinError} INVALID — not a whole number */
  whole(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^\d{1,15}$/.test(text)) throw new FirkinError("INVALID", `Cannot read the query: ${name} is a whole number`);
    return Number(text);
  }
}
