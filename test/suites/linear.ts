/**
 * Whether what concurrent callers saw of one key could have come from calls that happened one after another.
 *
 * Wing and Gong's search: take any call that no other one had ended before, see whether its answer fits the state, go
 * on with the rest; go back when none fits. Places that were reached before with the same state are not searched again
 * (Lowe). One key at a time: a history is linearizable when that of each key is.
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
}

/** An order of the calls that explains all answers, by name; undefined when there is none. */
export function linearize<State>(calls: readonly Call<State>[], first: State): string[] | undefined {
  const seen = new Set<string>();
  const order: string[] = [];
  const search = (left: readonly Call<State>[], state: State): boolean => {
    if (left.every(({ end }) => end === Infinity)) return true;
    const place = `${left.map((call) => calls.indexOf(call)).join()} ${JSON.stringify(state)}`;
    if (seen.has(place)) return false;
    seen.add(place);
    const soonest = Math.min(...left.map(({ end }) => end));
    for (const call of left) {
      if (call.begin > soonest) continue;
      const after = call.apply(state);
      if (after === undefined) continue;
      order.push(call.name);
      if (search(left.filter((other) => other !== call), after)) return true;
      order.pop();
    }
    return false;
  };
  return search(calls, first) ? order : undefined;
}
