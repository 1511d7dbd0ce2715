/**
 * As much of CDDL (RFC 8610) as `docs/protocol.cddl` uses: rules, choices, arrays of named and repeated items, ranges,
 * literals and the names of the prelude. What it does not know it refuses, so that a schema it reads is one it checks.
 *
 * @module
 */
import type { Item } from "../server/peer.ts";

/** Bytes in a frame; text and bytes are apart here. */
export type SchemaItem = Exclude<Item, Item[]> | SchemaItem[];

type Check = (item: SchemaItem | undefined) => boolean;

/** An item of an array: once, or any number of times. */
interface Member {
  readonly many: boolean;
  readonly check: Check;
}

const TOKEN = /\s+|;[^\n]*|(\.\.|[=/[\],:*]|-?\d+|[A-Za-z]\w*)/y;

const isInt = (item: SchemaItem | undefined): boolean => Number.isSafeInteger(item);
const PRELUDE: Readonly<Record<string, Check>> = {
  any: (item) => item !== undefined,
  uint: (item) => isInt(item) && (item as number) >= 0,
  int: isInt,
  float64: (item) => typeof item === "number",
  bstr: (item) => item instanceof Uint8Array,
  tstr: (item) => typeof item === "string",
  bool: (item) => typeof item === "boolean",
  null: (item) => item === null,
};

/** The rules of a schema. */
export class Schema {
  readonly #tokens: string[] = [];
  readonly #rules: Map<string, Check> = new Map();
  #at = 0;

  /** Reads the text of a schema. @throws {Error} it is not of the subset, or names what it does not define */
  constructor(text: string) {
    TOKEN.lastIndex = 0;
    while (TOKEN.lastIndex < text.length) {
      const at = TOKEN.lastIndex;
      const match = TOKEN.exec(text);
      if (match === null) throw new Error(`Cannot read the schema at ${JSON.stringify(text.slice(at, at + 20))}`);
      if (match[1] !== undefined) this.#tokens.push(match[1]);
    }
    const used = new Set<string>();
    while (this.#at < this.#tokens.length) {
      const name = this.#next();
      this.#expect("=");
      if (this.#rules.has(name)) throw new Error(`Cannot read the schema: ${name} is there twice`);
      this.#rules.set(name, this.#choice(used));
    }
    for (const name of used) {
      if (!this.#rules.has(name)) throw new Error(`Cannot read the schema: ${name} is not defined`);
    }
  }

  /** The names of its rules. */
  get names(): string[] {
    return [...this.#rules.keys()];
  }

  /** True when the item is what a rule describes. */
  matches(rule: string, item: SchemaItem): boolean {
    return this.#rules.get(rule)!(item);
  }

  #next(): string {
    const token = this.#tokens[this.#at++];
    if (token === undefined) throw new Error("Cannot read the schema: it ends too soon");
    return token;
  }

  #expect(token: string): void {
    const found = this.#next();
    if (found !== token) throw new Error(`Cannot read the schema: found ${found}, expected ${token}`);
  }

  #skip(token: string): boolean {
    if (this.#tokens[this.#at] !== token) return false;
    this.#at++;
    return true;
  }

  #choice(used: Set<string>): Check {
    const choices = [this.#type(used)];
    while (this.#skip("/")) choices.push(this.#type(used));
    return (item) => choices.some((check) => check(item));
  }

  #type(used: Set<string>): Check {
    const token = this.#next();
    if (token === "[") return this.#array(used);
    if (/^-?\d/.test(token)) {
      const low = Number(token);
      const high = this.#skip("..") ? Number(this.#next()) : low;
      return (item) => isInt(item) && (item as number) >= low && (item as number) <= high;
    }
    const known = PRELUDE[token];
    if (known !== undefined) return known;
    used.add(token);
    return (item) => this.#rules.get(token)!(item);
  }

  #array(used: Set<string>): Check {
    const members: Member[] = [];
    while (!this.#skip("]")) {
      const many = this.#skip("*");
      if (this.#tokens[this.#at + 1] === ":") this.#at += 2; // a name says what it is, and checks nothing
      members.push({ many, check: this.#choice(used) });
      if (!this.#skip(",")) {
        this.#expect("]");
        break;
      }
    }
    if (members.slice(0, -1).some(({ many }) => many)) throw new Error("Cannot read the schema: only the last repeats");
    return (item) => Array.isArray(item) && matchesAll(members, item);
  }
}

function matchesAll(members: readonly Member[], items: readonly SchemaItem[]): boolean {
  const last = members.at(-1);
  const once = last?.many === true ? members.slice(0, -1) : members;
  if (last?.many === true ? items.length < once.length : items.length !== once.length) return false;
  return items.every((item, place) => (once[place] ?? last!).check(item));
}
