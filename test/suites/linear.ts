/**
 * Whether what concurrent callers saw of one key could have come from calls that happened one after another.
 *
 * Wing and Gong's search: take any call that no other one had ended before, see whether its answer fits the state, go
 * on with the rest; go back when none fits. Places that were reached before with the same state are not searched again
 * (Lowe). One key at a time: a history is linearizable when that of each key is.
 *
 * Three things keep the search short without losing an order:
 *
 * 1. Calls are looked at in the order in which they began, so a step costs as much as there are calls at the same time,
 *    however long the history is.
 * 2. A call that fits and changes nothing is taken at once: wherever else it fits, it fits here.
 * 3. A call without an end is taken only right before one that it makes a difference to, since it may as well never
 *    have happened; and where some of them were of no use, more of them are not either. Else a few writes whose answers
 *    were lost would double the search each.
 *
 * @module
 */

/** One call, between two moments. */
export interface Call<State> {
  readonly name: string;
  readonly begin: number;
  /** Infinity when nobody has seen its end: it may have happened at any later time, or never. */
  end: number;
  /** The state after the call when it comes upon `state`; undefined when its answer does not fit. */
  readonly apply: (state: State) => State | undefined;
  /** True when it fits no more, whatever comes between: the search need not go on. */
  readonly isOver?: (state: State) => boolean;
}

/** An order of the calls that explains all answers, by name; undefined when there is none. */
export function linearize<State>(calls: readonly Call<State>[], first: State): string[] | undefined {
  return new Search(calls).run(first);
}

class Search<State> {
  /** Those with an end, in the order of their begins, and those without. */
  readonly #ended: readonly Call<State>[];
  readonly #lost: readonly Call<State>[];
  readonly #taken: Set<Call<State>> = new Set();
  /** Of the lost calls, those that are taken: a bit each. */
  #used = 0n;
  /** The places from which no order leads on, each with the lost calls that were taken before it. */
  readonly #dead: Map<string, bigint[]> = new Map();

  constructor(calls: readonly Call<State>[]) {
    const inOrder = [...calls].sort((left, right) => left.begin - right.begin);
    this.#ended = inOrder.filter(({ end }) => end !== Infinity);
    this.#lost = inOrder.filter(({ end }) => end === Infinity);
  }

  run(first: State): string[] | undefined {
    return this.#search(0, first, JSON.stringify(first)) ? [...this.#taken].map(({ name }) => name) : undefined;
  }

  /** `from`: all ended calls before it are taken. `without`: the state without the lost call that was taken last. */
  #search(from: number, state: State, text: string, without?: State): boolean {
    let start = from;
    while (start < this.#ended.length && this.#taken.has(this.#ended[start]!)) start++;
    if (start === this.#ended.length) return true;
    const place = this.#place(start, text);
    const narrow = without === undefined ? place : `${place} ${JSON.stringify(without)}`;
    if (this.#isDead(place) || this.#isDead(narrow)) return false;
    const open = this.#openCalls(start);
    if (open.some(({ end, isOver }) => end !== Infinity && isOver?.(state))) return false;
    const steps = open.flatMap((call) => {
      const after = call.apply(state);
      return after === undefined ? [] : [{ call, after, textAfter: JSON.stringify(after) }];
    });
    const free = steps.find(({ call, textAfter }) => textAfter === text && call.end !== Infinity);
    for (const { call, after, textAfter } of free === undefined ? steps : [free]) {
      if (without !== undefined && JSON.stringify(call.apply(without)) === textAfter) continue;
      const isLost = call.end === Infinity;
      const bit = isLost ? 1n << BigInt(this.#lost.indexOf(call)) : 0n;
      this.#taken.add(call);
      this.#used |= bit;
      if (this.#search(start, after, textAfter, isLost ? state : undefined)) return true;
      this.#taken.delete(call);
      this.#used &= ~bit;
    }
    this.#dead.set(narrow, [...this.#dead.get(narrow) ?? [], this.#used]);
    return false;
  }

  #isDead(place: string): boolean {
    return this.#dead.get(place)?.some((used) => (used & this.#used) === used) ?? false;
  }

  /** The calls that no other one had ended before. */
  #openCalls(start: number): Call<State>[] {
    const open: Call<State>[] = [];
    let soonest = Infinity;
    for (let index = start; index < this.#ended.length && this.#ended[index]!.begin <= soonest; index++) {
      const call = this.#ended[index]!;
      if (this.#taken.has(call)) continue;
      soonest = Math.min(soonest, call.end);
      open.push(call);
    }
    const isOpen = (call: Call<State>): boolean => call.begin <= soonest && !this.#taken.has(call);
    return [...open.filter(isOpen), ...this.#lost.filter(isOpen)];
  }

  /** The state, and what is left but for lost calls: the next call, and those behind it that are taken already. */
  #place(start: number, state: string): string {
    let taken = "";
    // None began later, since this one had to be open when they were taken.
    const { end } = this.#ended[start]!;
    for (let index = start + 1; index < this.#ended.length && this.#ended[index]!.begin <= end; index++) {
      if (this.#taken.has(this.#ended[index]!)) taken += `${index},`;
    }
    return `${start} ${taken} ${state}`;
  }
}
