/**
 * What a store is held against: a Map and a clock.
 *
 * A {@link Model} also knows which of its changes a crash may still take. Those are lost from the end only, a batch as
 * one: after a crash the store must hold what the model held after some number of its changes, and the model goes back
 * to there.
 *
 * @module
 */
import { type Key, toHex } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import type { Change as SubscriberChange } from "../../lib/store/subscription.ts";

// --- places and values ---

/** A key in its bucket. */
export interface Place {
  readonly bucket: "texts" | "numbers";
  readonly key: Key;
}

/** Few, so that they meet often. In byte order of their keys within a bucket. */
export const PLACES: readonly Place[] = [
  { bucket: "texts", key: "__proto__" },
  { bucket: "texts", key: "a" },
  { bucket: "texts", key: "constructor" },
  { bucket: "texts", key: "k".repeat(1_024) },
  { bucket: "texts", key: Uint8Array.of(0xff) },
  { bucket: "texts", key: Uint8Array.of(0xff, 0xff) },
  { bucket: "numbers", key: "__proto__" },
  { bucket: "numbers", key: "n" },
];

/** One word for a key in its bucket. */
export function nameOf(bucket: string, key: Key): string {
  return `${bucket}/${typeof key === "string" ? key : toHex(key)}`;
}

/** The word for one of {@link PLACES}. */
export function placeName(place: number): string {
  const { bucket, key } = PLACES[place]!;
  return nameOf(bucket, key);
}

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

const NOISE = Array.from(new ManualClock().random(new Uint8Array(62_000)), (byte) => LETTERS[byte >> 2]).join("");

/** A text of `bytes` bytes that tells `stamp` when it is long enough to; every other one hardly compresses. */
function textOf(stamp: number, bytes: number): string {
  const text = `${stamp}:`;
  return (text + (stamp % 2 === 0 ? NOISE.slice(stamp % 999) : text.repeat(bytes))).slice(0, bytes);
}

// --- model ---

/** What is known of a live key. */
export interface Known {
  readonly value: string | number;
  readonly expiresAt: number | undefined;
  /** It is single-read: nobody but its taker is shown the value. */
  readonly once: boolean;
  /** After a crash: values that it may have instead, since nobody was shown which it is. */
  readonly others?: readonly (string | number)[];
  /** 0 until the store has told. */
  revision: number;
}

/** How a key ends that somebody ends. */
export type End = "delete" | "take";

/** One change of one key. */
export interface Change {
  readonly name: string;
  readonly after: Known | End;
}

/** Changes that happen all or not at all, and nothing between them: most often one. */
export interface Asked {
  readonly changes: readonly Change[];
  readonly at: number;
  /** `sure`: no crash can take it any more. */
  reached: "asked" | "acknowledged" | "sure";
  /** The last revision that was acknowledged when they were asked for. */
  readonly before: number;
  /** The last one that they were given; 0 until the store has told. */
  revision: number;
}

/** A key as anybody is shown it. */
export interface Shown {
  readonly value: unknown;
  readonly expiresAt: number | undefined;
  readonly once: boolean;
  /** 0 when it is not known. */
  readonly revision: number;
}

/** Keys as they are shown, by name. */
export type Showing = Map<string, Shown>;

type State = Map<string, Known>;

/** What a subscriber is told of a change. */
export type Heard = Pick<SubscriberChange, "type" | "value" | "expiresAt" | "at"> & { readonly once?: boolean };

/** What the store should hold. */
export class Model {
  /** False on file systems that know no crash. */
  readonly crashes: boolean;
  /** The last revision that was acknowledged. */
  last = 0;
  readonly #now: () => number;
  #state: State = new Map();
  /** What outlives everything. */
  #sure: State = new Map();
  /** What was changed since, in order. */
  #unsure: Asked[] = [];
  #stamp = 0;
  /** Everything that was ever asked of a key. */
  readonly #asked = new Map<string, (Known | End)[]>();

  constructor(crashes: boolean, now: () => number) {
    this.crashes = crashes;
    this.#now = now;
  }

  /** What is known of a key, if it is there and not due. */
  known(name: string): Known | undefined {
    const known = this.#state.get(name);
    if (known !== undefined && !this.#isDue(known)) return known;
    this.#state.delete(name);
    return undefined;
  }

  /** Every key that is there, by name. */
  all(): State {
    return this.#alive(this.#state);
  }

  /** A value that was not there before. */
  newValue(place: number, bytes: number): string | number {
    this.#stamp++;
    return PLACES[place]!.bucket === "numbers" ? this.#stamp : textOf(this.#stamp, bytes);
  }

  /** Writes down changes that were asked for, all or none. */
  change(...changes: Change[]): Asked {
    const asked: Asked = { changes, at: this.#now(), reached: "asked", before: this.last, revision: 0 };
    this.#unsure.push(asked);
    apply(this.#state, asked);
    for (const { name, after } of changes) this.ask(name, after);
    return asked;
  }

  /** Writes down what may be refused. */
  ask(name: string, after: Known | End): void {
    const asked = this.#asked.get(name);
    if (asked === undefined) this.#asked.set(name, [after]);
    else asked.push(after);
  }

  /** True when somebody may be told of such a change: it was asked for, or is the end of a deadline that was. */
  wasAsked(name: string, { type, value, expiresAt, once = false, at }: Heard): boolean {
    return (this.#asked.get(name) ?? []).some((after) => {
      if (typeof after === "string") return after === type;
      if (type === "expire") return after.expiresAt !== undefined && after.expiresAt <= at;
      return type === "set" && after.expiresAt === expiresAt && after.once === once && shownValue(after) === value;
    });
  }

  /** All changes, or those at least `age` milliseconds old, are beyond every crash. */
  makeSure(age = 0): void {
    for (const asked of this.#unsure) if (asked.at + age <= this.#now()) asked.reached = "sure";
    this.#settle();
  }

  /** A change is beyond every crash, and with it what was asked before. */
  makeSureUpTo(asked: Asked): void {
    asked.reached = "sure";
    const index = this.#unsure.indexOf(asked);
    for (const before of this.#unsure.slice(0, index + 1)) before.reached = "sure";
    this.#settle();
  }

  #settle(): void {
    while (this.#unsure[0]?.reached === "sure") apply(this.#sure, this.#unsure.shift()!);
  }

  /**
   * Goes back to where a crash left the store: behind everything that is sure, and when what was acknowledged is `kept`
   * behind that too.
   */
  goBack(found: Showing, kept: boolean): void {
    const asked = this.#unsure;
    const least = kept ? asked.findLastIndex(({ reached }) => reached !== "asked") + 1 : 0;
    const states: State[] = [];
    for (let count = asked.length; count >= least; count--) {
      const state = new Map(this.#sure);
      for (const one of asked.slice(0, count)) apply(state, one);
      if (isSame(this.#alive(state), found)) states.push(this.#alive(state));
    }
    const [state] = states;
    if (state === undefined) {
      throw new Error(`The crash left what never was: ${told(found)}, of at least ${least} of ${asked.length} changes`);
    }
    this.#state = new Map([...state].map(([name, known]) => {
      const others = known.once ? states.flatMap((other) => valuesOf(other.get(name)!)) : [];
      return [name, { ...known, others, revision: found.get(name)!.revision }];
    }));
    this.#sure = new Map(this.#state);
    this.#unsure = [];
  }

  #isDue({ expiresAt }: Known): boolean {
    return expiresAt !== undefined && expiresAt <= this.#now();
  }

  #alive(state: State): State {
    return new Map([...state].filter(([, known]) => !this.#isDue(known)));
  }
}

/** What a key may have: one value, but for a single-read key that a crash went over. */
export function valuesOf({ value, others = [] }: Known): readonly (string | number)[] {
  return [value, ...others];
}

/** The value as everybody but its taker is shown it. */
export function shownValue({ value, once }: Known): string | number | undefined {
  return once ? undefined : value;
}

/** Fails unless the condition holds. A hundred thousand times in a test, which `expect` takes seconds for. */
export function must(condition: boolean, message: string | (() => string)): void {
  if (!condition) throw new Error(typeof message === "string" ? message : message());
}

/** What changes make of a state. */
export function apply(state: State, { changes }: Asked): void {
  for (const { name, after } of changes) {
    if (typeof after === "string") state.delete(name);
    else state.set(name, after);
  }
}

/** True when `found` is what is known; revisions as far as both tell. */
export function isSame(expected: ReadonlyMap<string, Known>, found: Showing): boolean {
  return expected.size === found.size && [...expected].every(([name, known]) => {
    const other = found.get(name);
    return other !== undefined && other.value === shownValue(known) && other.expiresAt === known.expiresAt &&
      other.once === known.once && (known.revision === 0 || other.revision === 0 || other.revision === known.revision);
  });
}

/** A state in few words. */
export function told(state: ReadonlyMap<string, Shown>): string {
  const short = (value: unknown): string => `${String(value).slice(0, 12)} (${String(value).length})`;
  const entries = [...state].map(([name, { value, expiresAt, once, revision }]) => {
    const until = expiresAt === undefined ? "" : ` until ${expiresAt}`;
    return `${name.slice(0, 24)}=${short(value)}${until}${once ? " once" : ""} @${revision}`;
  });
  return `{ ${entries.toSorted().join(", ")} }`;
}
