/**
 * One key as its callers see it: what can be asked of it, what they may be told, and what the key is after that.
 *
 * {@link after} is the meaning of every call, and the only one: whoever draws a history, on whatever protocol, has it
 * judged by this. A revision that nobody was told is any that is later than those before.
 *
 * @module
 */
import { type Call, linearize } from "./linear.ts";

/** What a key holds. No two writes of a history write the same, so that a reader says which one it saw. */
export type Held = string | number | undefined;

/** What a key is: its value, its revision (0: there is none), and the last revision that it ever had. */
export interface Cell {
  readonly value: Held;
  readonly revision: number;
  readonly last: number;
}

/** A key that never was. */
export const NOTHING: Cell = { value: undefined, revision: 0, last: 0 };

/** The revision of a write whose caller was not told. */
const UNTOLD = -1;

/** What can be asked of a key. */
export interface Ask {
  readonly kind: "get" | "set" | "remove" | "touch" | "increment" | "take";
  /** What is set. */
  readonly value?: Held;
  /** The condition of a set or a remove. */
  readonly ifRevision?: number;
}

/**
 * What a caller was told. Of a get, the entry; of a write that happened, its revision, when it is told one; of one that
 * was refused (`ok` is false), the entry that stood in its way; of an increment the sum. `revision` 0: there was none.
 */
export interface Answer {
  readonly ok: boolean;
  readonly value?: Held;
  readonly revision?: number;
}

/** A call as it is drawn and told: what was asked of a key, when, and what came of it. */
export interface Turn extends Ask {
  readonly begin: number;
  /** Absent while there is no answer; and for ever when it was lost. */
  end?: number;
  answer?: Answer;
}

/** The state after a call with this answer, undefined when it does not fit; without an answer, when it happens. */
export function after(ask: Ask, answer: Answer | undefined, state: Cell): Cell | undefined {
  const { ifRevision } = ask;
  const exists = state.revision !== 0;
  switch (ask.kind) {
    case "get":
      return answer === undefined ? state : shown(answer, state);
    case "set":
      if (answer?.ok === false) {
        return answer.revision !== (ifRevision ?? answer.revision) ? shown(answer, state) : undefined;
      }
      return ifRevision === undefined || isAt(state, ifRevision) ? wrote(answer, state, ask.value) : undefined;
    case "remove":
      if (answer?.ok === false) {
        return answer.revision === 0 || answer.revision !== (ifRevision ?? answer.revision)
          ? shown(answer, state)
          : undefined;
      }
      return exists && (ifRevision === undefined || isAt(state, ifRevision))
        ? wrote(answer, state, undefined)
        : undefined;
    case "touch":
      if (answer?.ok === false) return exists ? undefined : shown(answer, state);
      return exists ? wrote(answer, state, state.value) : undefined;
    case "take":
      if (answer?.ok === false) return exists ? undefined : state;
      return exists && (answer === undefined || answer.value === state.value)
        ? wrote(answer, state, undefined)
        : undefined;
    case "increment": {
      // Only a value that is no number refuses.
      if (answer?.ok === false) return typeof state.value === "string" ? state : undefined;
      if (typeof state.value === "string") return undefined;
      const sum = (state.value ?? 0) + 1;
      return answer === undefined || answer.value === sum ? wrote(answer, state, sum) : undefined;
    }
  }
}

/** The calls of a key, for `linearize`. */
export function callsOf(turns: readonly Turn[]): Call<Cell>[] {
  // A get whose answer was lost says nothing.
  return turns.filter(({ kind, answer }) => kind !== "get" || answer !== undefined).map((turn) => ({
    name: nameOf(turn),
    begin: turn.begin,
    end: turn.end ?? Infinity,
    apply: (state) => after(turn, turn.answer, state),
    isOver: (state) => isOver(turn, state),
  }));
}

/** True when a call was told of a revision that has been: revisions only rise. */
function isOver({ kind, answer }: Turn, { last }: Cell): boolean {
  const revision = answer?.revision ?? 0;
  return revision !== 0 && (answer?.ok === true && kind !== "get" ? revision <= last : revision < last);
}

/**
 * The calls of a key that no order explains, as few as there are when the history ends early; undefined when there is
 * an order of all. What had no answer by then is lost.
 */
export function unexplained(turns: readonly Turn[]): Turn[] | undefined {
  const until = (moment: number): Turn[] =>
    turns.filter(({ begin }) => begin <= moment).map((turn) => {
      if (turn.end !== undefined && turn.end <= moment) return turn;
      const { answer: _answer, end: _end, ...asked } = turn;
      return asked;
    });
  const isBad = (some: readonly Turn[]): boolean => linearize(callsOf(some), NOTHING) === undefined;
  if (!isBad(turns)) return undefined;
  const moments = turns.flatMap(({ end }) => end ?? []).sort((left, right) => left - right);
  let [low, high] = [0, moments.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBad(until(moments[middle]!))) high = middle;
    else low = middle + 1;
  }
  return until(moments[high]!);
}

/** A call in a line: what was asked, and what was told. */
export function nameOf({ kind, value, ifRevision, answer }: Turn): string {
  const asked = value === undefined ? kind : `${kind} ${shortened(value)}`;
  const condition = ifRevision === undefined ? "" : ` if ${ifRevision}`;
  return `${asked}${condition} -> ${answer === undefined ? "lost" : shortened(answer)}`;
}

/** As JSON, with the beginnings of long texts. */
function shortened(thing: unknown): string {
  return JSON.stringify(thing, (_, part: unknown) => typeof part === "string" ? part.slice(0, 8) : part);
}

/** True when the state may have this revision. */
function isAt({ revision, last }: Cell, wanted: number): boolean {
  return revision === UNTOLD ? wanted > last : revision === wanted;
}

/** The state after a write that was taken, or (no answer) may have been. */
function wrote(answer: Answer | undefined, state: Cell, value: Held): Cell | undefined {
  const revision = answer?.revision ?? UNTOLD;
  if (revision !== UNTOLD && revision <= state.last) return undefined;
  return { value, revision: value === undefined ? 0 : revision, last: Math.max(state.last, revision) };
}

/** The state, when it is what a caller was shown. */
function shown({ value, revision = 0 }: Answer, state: Cell): Cell | undefined {
  if (value !== state.value || !isAt(state, revision)) return undefined;
  return revision === 0 ? state : { ...state, revision, last: Math.max(state.last, revision) };
}
