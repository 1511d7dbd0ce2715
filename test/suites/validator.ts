/**
 * Whether what one subscriber was told is what a subscription promises, held against all that was written.
 *
 * A {@link Book} knows what was asked for, and of what was acknowledged the revision. A {@link SubscriptionValidator}
 * is given every event of one subscriber, over as many connections as there were, and says what is wrong:
 *
 * 1. Order: revisions rise, and none comes twice; a snapshot has each key once, and what follows it is later.
 * 2. Truth: a key has the value that was asked for; what ends was there, and expires no sooner than it said.
 * 3. No gap: what was acknowledged behind the subscription's beginning comes. Where the log was compacted, a change may
 *    be missing that a later one of the same key covers, and nothing else.
 * 4. Batches: their events come in a row, with `more` on all but the last; no cursor lies inside.
 * 5. Cursors: each is where the subscriber is, and it resumes from where it was.
 * 6. At the end the subscriber, who has done no more than to follow, knows every key and no other.
 *
 * @module
 */
import type { SubscriptionEvent } from "../../lib/store/subscription.ts";

/** What was acknowledged at one revision. */
interface Acknowledged {
  readonly key: string;
  /** What the key is from there on; undefined: it is gone. */
  readonly value: string | undefined;
}

/** An operation of a batch: which one it is, and of how many. Its value says so. */
interface Part {
  readonly batch: string;
  readonly index: number;
  readonly count: number;
}

/** What was asked for, whatever became of it, and what was acknowledged. Keys are of one bucket, values told once. */
export class Book {
  readonly acknowledged: Map<number, Acknowledged> = new Map();
  /** True: the log has been compacted, or may be. */
  compacted = false;
  readonly #asked: Map<string, string> = new Map();
  #count = 0;

  /** A value for a key, which no other write has. */
  ask(key: string): string {
    const value = `${++this.#count}`;
    this.#asked.set(value, key);
    return value;
  }

  /** Values for the keys of a batch, in their order. */
  askBatch(keys: readonly string[]): string[] {
    const batch = ++this.#count;
    return keys.map((key, index) => {
      const value = `${batch}.${index}/${keys.length}`;
      this.#asked.set(value, key);
      return value;
    });
  }

  /** True when this value was asked for, for this key. */
  knows(key: string, value: unknown): boolean {
    return this.#asked.get(String(value)) === key;
  }

  acknowledge(revision: number, key: string, value: string | undefined): void {
    this.acknowledged.set(revision, { key, value });
  }
}

/** A key, as far as the subscriber knows. */
interface Known {
  readonly value: unknown;
  readonly revision: number;
  readonly expiresAt: number | undefined;
}

/** Options of a {@link SubscriptionValidator}. */
export interface ValidatorOptions {
  /** Which keys are subscribed to; all when absent. */
  readonly matches?: (key: string) => boolean;
  /** The revision that the subscription begins behind; undefined: with a snapshot. */
  readonly from: number | undefined;
}

/** Follows one subscriber. */
export class SubscriptionValidator {
  /** What is wrong, in words. */
  readonly problems: string[] = [];
  readonly #book: Book;
  readonly #matches: (key: string) => boolean;
  /** What this subscriber has to know of is later than this; undefined: it has not been synced. */
  #begin: number | undefined;
  /** It knows of all keys, and not only of those that change. */
  readonly #knowsAll: boolean;
  readonly #beganWithSnapshot: boolean;
  /** Where it is. */
  #last: number;
  readonly #known: Map<string, Known> = new Map();
  readonly #told: Set<number> = new Set();
  /** By key, the last revision that was told. */
  readonly #covered: Map<string, number> = new Map();
  #expiring = 0;
  /** The part of a batch whose next one has to follow. */
  #open: Part | undefined;

  constructor(book: Book, { matches = () => true, from }: ValidatorOptions) {
    this.#book = book;
    this.#matches = matches;
    this.#begin = from;
    this.#beganWithSnapshot = from === undefined;
    this.#knowsAll = from === undefined || from === 0;
    this.#last = from ?? 0;
  }

  /** The revision behind the last event; undefined inside a snapshot. */
  get place(): number | undefined {
    return this.#begin === undefined ? undefined : this.#last;
  }

  /** How many changes it was told of. */
  get count(): number {
    return this.#told.size;
  }

  /** How many of the keys that it knows have a deadline. */
  get expiring(): number {
    return this.#expiring;
  }

  /** The next event. */
  take(event: SubscriptionEvent): void {
    if ("cursor" in event) return this.#control(event.type, revisionOf(event.cursor));
    const { type, revision, more } = event;
    const key = String(event.key);
    if (!this.#matches(key)) this.#say(`${key} is not subscribed to`);
    if (this.#told.has(revision)) this.#say(`${revision} comes twice`);
    this.#told.add(revision);
    const isFirst = !this.#covered.has(key);
    this.#covered.set(key, revision);
    if (this.#begin === undefined) {
      if (type !== "set" || this.#known.has(key)) this.#say(`the snapshot has ${type} ${key}`);
    } else {
      if (revision <= this.#last) this.#say(`${revision} comes behind ${this.#last}`);
      this.#last = revision;
      this.#checkBatch(partOf(event.value), more === true);
    }
    if (type !== "set") return this.#end(type, key, event.at, isFirst);
    if (!this.#book.knows(key, event.value)) this.#say(`nobody asked for ${key} = ${String(event.value)}`);
    this.#forget(key);
    this.#known.set(key, { value: event.value, revision, expiresAt: event.expiresAt });
    if (event.expiresAt !== undefined) this.#expiring++;
  }

  /** The connection was lost, and the subscriber goes on from this cursor. */
  resume(cursor: string): void {
    if (this.#open !== undefined) this.#say(`it resumes inside batch ${this.#open.batch}`);
    if (revisionOf(cursor) !== this.#last) this.#say(`it resumes from ${cursor}, and is at ${this.#last}`);
  }

  /** Nothing more will come: it has to know what is there. */
  finish(entries: ReadonlyMap<string, { readonly value: unknown; readonly revision: number }>): void {
    if (this.#open !== undefined) this.#say(`batch ${this.#open.batch} is not whole`);
    for (const [revision, { key }] of this.#book.acknowledged) {
      if (revision <= (this.#begin ?? Infinity) || this.#told.has(revision) || !this.#matches(key)) continue;
      const isCovered = this.#book.compacted && this.#covered.get(key)! > revision;
      if (!isCovered) this.#say(`${revision} of ${key} is missing`);
    }
    for (const [key, { revision, value }] of this.#known) {
      const entry = entries.get(key);
      if (entry?.revision !== revision || entry.value !== value) this.#say(`${key} is not ${String(value)} any more`);
    }
    for (const [key, { revision }] of entries) {
      const isDue = this.#knowsAll || revision > this.#begin!;
      if (isDue && this.#matches(key) && !this.#known.has(key)) this.#say(`it missed ${key}`);
    }
  }

  #control(word: "synced" | "progress" | "resync", revision: number): void {
    if (this.#open !== undefined) this.#say(`${word} comes inside batch ${this.#open.batch}`);
    if (word === "resync") return this.#say("it has to begin anew");
    if ((word === "synced") !== (this.#begin === undefined)) this.#say(`${word} comes at the wrong time`);
    if (revision < this.#last) this.#say(`${word} says ${revision}, and it is at ${this.#last}`);
    for (const { revision: shown } of this.#known.values()) {
      if (word === "synced" && shown > revision) this.#say(`the snapshot of ${revision} has ${shown}`);
    }
    this.#begin ??= revision;
    this.#last = revision;
  }

  #checkBatch(part: Part | undefined, more: boolean): void {
    const open = this.#open;
    if (open !== undefined && (part?.batch !== open.batch || part.index !== open.index + 1)) {
      this.#say(`something else comes inside batch ${open.batch}`);
    }
    this.#open = more ? part : undefined;
    if (part === undefined) {
      if (more) this.#say("what is in no batch says more");
    } else if (more !== part.index < part.count - 1 && (more || !this.#book.compacted)) {
      this.#say(`part ${part.index} of ${part.count} of batch ${part.batch} says ${more ? "more" : "no more"}`);
    } else if (open === undefined && part.index > 0 && !this.#book.compacted) {
      this.#say(`batch ${part.batch} begins with part ${part.index}`);
    }
  }

  #end(type: string, key: string, at: number, isFirst: boolean): void {
    const known = this.#forget(key);
    if (known === undefined) {
      // It may have been there before the subscriber came, or its beginning is covered by its end.
      // A snapshot leaves out what is due, and what ends while it is read, page by page: that end is told behind it.
      const isLeftOut = this.#beganWithSnapshot && isFirst;
      if (this.#knowsAll && !isLeftOut && !this.#book.compacted) this.#say(`${type} ${key}, which was not there`);
    } else if (type === "expire" && !(known.expiresAt !== undefined && at >= known.expiresAt)) {
      this.#say(`${key} expires at ${at}, and was to live until ${known.expiresAt}`);
    }
  }

  #forget(key: string): Known | undefined {
    const known = this.#known.get(key);
    this.#known.delete(key);
    if (known?.expiresAt !== undefined) this.#expiring--;
    return known;
  }

  #say(problem: string): void {
    this.problems.push(problem);
  }
}

/** The revision that a cursor stands behind. */
export function revisionOf(cursor: string): number {
  return Number(cursor.slice(cursor.lastIndexOf(".") + 1));
}

function partOf(value: unknown): Part | undefined {
  const match = /^(\d+)\.(\d+)\/(\d+)$/.exec(String(value));
  return match === null ? undefined : { batch: match[1]!, index: Number(match[2]), count: Number(match[3]) };
}
