/**
 * The judge of concurrent histories is judged: it finds an order where there is one, and none where there is none.
 *
 * The bad histories are good ones with one answer changed, in ways that a broken store would change it: whatever the
 * seed, what is said of one key then contradicts itself.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { type Answer, type Ask, callsOf, nameOf, NOTHING, type Turn } from "./cell.ts";
import { type Call, linearize } from "./linear.ts";
import { randomOf } from "./random.ts";

type Draw = (below: number) => number;

const SEEDS = [1, 2, 3, 4, 5];
const TURNS = 140;
const CALLERS = 5;

// --- good histories ---

/** A key as it is: every call happens at one moment. */
class Truth {
  value: string | number | undefined;
  revision = 0;
  #last = 0;

  /** What a caller is told. Revisions have gaps, since other keys have some. */
  run({ kind, value, ifRevision }: Ask, draw: Draw): Answer {
    const entry = { value: this.value, revision: this.revision };
    const stands = ifRevision === undefined || ifRevision === this.revision;
    const exists = this.revision !== 0;
    switch (kind) {
      case "get":
        return { ok: true, ...entry };
      case "set":
        return stands ? this.#write(value, draw) : { ok: false, ...entry };
      case "remove":
        return stands && exists ? this.#write(undefined, draw) : { ok: false, ...entry };
      case "touch":
        return exists ? this.#write(this.value, draw) : { ok: false, ...entry };
      case "take":
        if (exists) this.#write(undefined, draw);
        return { ok: exists, value: entry.value };
      case "increment": {
        if (typeof this.value === "string") return { ok: false };
        const sum = (this.value ?? 0) + 1;
        this.#write(sum, draw);
        return { ok: true, value: sum };
      }
    }
  }

  #write(value: string | number | undefined, draw: Draw): Answer {
    this.#last += 2 + draw(3);
    this.value = value;
    this.revision = value === undefined ? 0 : this.#last;
    return { ok: true, revision: this.#last };
  }
}

/** Turns of callers, each of which does one thing after another; of some the answer is lost, or they never happen. */
function goodHistory(seed: number): Turn[] {
  const draw = randomOf(seed);
  const truth = new Truth();
  const turns: Turn[] = [];
  const callers = Array.from({ length: CALLERS }, (): { turn?: Turn; answer?: Answer } => ({}));
  for (let moment = 0; turns.length < TURNS || callers.some(({ turn }) => turn !== undefined); moment++) {
    const caller = callers[draw(CALLERS)]!;
    if (caller.turn === undefined) {
      if (turns.length < TURNS) turns.push(caller.turn = { ...drawAsk(turns.length, truth, draw), begin: moment });
    } else if (caller.answer === undefined) {
      if (draw(40) === 0) delete caller.turn;
      else caller.answer = truth.run(caller.turn, draw);
    } else {
      if (draw(20) > 0) Object.assign(caller.turn, { end: moment, answer: caller.answer });
      delete caller.turn;
      delete caller.answer;
    }
  }
  return turns;
}

function drawAsk(stamp: number, truth: Truth, draw: Draw): Ask {
  const kinds = [
    "get",
    "get",
    "get",
    "set",
    "set",
    "set",
    "remove",
    "touch",
    "increment",
    "increment",
    "take",
  ] as const;
  const kind = kinds[draw(kinds.length)]!;
  const ifRevision = draw(4) === 0 ? draw(8) : truth.revision;
  const condition = draw(2) === 0 ? { ifRevision } : {};
  if (kind === "set") return { kind, value: draw(2) === 0 ? `value ${stamp}` : (stamp + 1) * 1_000, ...condition };
  return kind === "remove" ? { kind, ...condition } : { kind };
}

// --- what spoils them ---

type Told = Turn & { end: number; answer: Answer };

/** The turns of a kind that were told that they happened. */
function told(turns: readonly Turn[], kind: Ask["kind"]): Told[] {
  return turns.filter((turn) => turn.kind === kind && turn.answer?.ok === true) as Told[];
}

/** Sets and gets in a row, each begun after the one before had ended; drawn from all there are. */
function drawRow(rows: readonly (readonly Told[])[], draw: Draw): readonly Told[] {
  let found: Told[][] = [[]];
  for (const turns of rows) {
    found = found.flatMap((row) => {
      const last = row.at(-1)?.end ?? -1;
      const next = turns.filter(({ begin }) => begin > last);
      // Some of each: all would be millions.
      return Array.from({ length: Math.min(3, next.length) }, () => [...row, next[draw(next.length)]!]);
    });
    if (found.length > 200) found = Array.from({ length: 200 }, () => found[draw(found.length)]!);
  }
  if (found.length === 0) throw new Error("There is no such row");
  return found[draw(found.length)]!;
}

/** A get that is told what a set wrote. */
function show(get: Told, { value, answer }: Told): void {
  get.answer = { ok: true, value, revision: answer.revision! };
}

/** What a broken store might do, to turns that are its own. */
const SPOILS: Readonly<Record<string, (turns: Turn[], draw: Draw) => void>> = {
  "a read of what was overwritten": (turns, draw) => {
    const [sets, gets] = [told(turns, "set"), told(turns, "get")];
    const [first, , get] = drawRow([sets, sets, gets], draw);
    show(get!, first!);
  },
  "a read of what was deleted": (turns, draw) => {
    const [set, , get] = drawRow([told(turns, "set"), told(turns, "remove"), told(turns, "get")], draw);
    show(get!, set!);
  },
  "a read of what is yet to be written": (turns, draw) => {
    const [get, set] = drawRow([told(turns, "get"), told(turns, "set")], draw);
    show(get!, set!);
  },
  "two readers who disagree": (turns, draw) => {
    const sets = told(turns, "set");
    const [first, second, get] = drawRow([sets, sets, told(turns, "get")], draw);
    // The second set has not ended when the readers read.
    const { begin, end } = second!;
    const between = (part: number): number => begin + (end - begin) * part;
    const reader = (from: number): Told => ({
      ...structuredClone(get!),
      begin: between(from),
      end: between(from + 0.1),
    });
    const [early, late] = [reader(0.3), reader(0.6)];
    show(early, second!);
    show(late, first!);
    turns.push(early, late);
  },
  "a lost write": (turns, draw) => {
    const gets = told(turns, "get").filter(({ answer }) => answer.revision !== 0);
    const [before, after] = drawRow([gets, gets], draw);
    after!.answer = structuredClone(before!.answer);
    const revision = before!.answer.revision! + 1;
    // Between them, and whatever else there is between them.
    turns.push({
      kind: "set",
      value: "lost",
      begin: before!.end + 0.1,
      end: before!.end + 0.2,
      answer: { ok: true, revision },
    });
  },
  "a value that is delivered twice": (turns, draw) => {
    const takes = told(turns, "take").filter(({ answer }) => typeof answer.value === "string");
    const [take] = drawRow([takes], draw);
    turns.push({ ...structuredClone(take!), begin: take!.end + 0.1, end: take!.end + 0.2 });
  },
  "a sum that is told twice": (turns, draw) => {
    const sums = told(turns, "increment").filter(({ answer }) => Number(answer.value) > 1_000);
    const [increment] = drawRow([sums], draw);
    turns.push({ ...structuredClone(increment!), begin: increment!.end + 0.1, end: increment!.end + 0.2 });
  },
  "a revision that goes back": (turns, draw) => {
    const sets = told(turns, "set");
    const [first, second] = drawRow([sets, sets], draw);
    second!.answer = { ok: true, revision: first!.answer.revision! - 1 };
  },
  "two writes of one revision": (turns, draw) => {
    const [sets, removes] = [told(turns, "set"), told(turns, "remove")];
    sets[draw(sets.length)]!.answer = structuredClone(removes[draw(removes.length)]!.answer);
  },
  "a write that was refused and seen": (turns, draw) => {
    const seen = new Set(
      turns.flatMap(({ kind, answer }) => kind === "get" && answer !== undefined ? [answer.value] : []),
    );
    const sets = told(turns, "set").filter(({ value }) => seen.has(value));
    const [before, set] = drawRow([told(turns, "get"), sets], draw);
    Object.assign(set!, { ifRevision: 1, answer: { ...before!.answer, ok: false } });
  },
  "a condition that does not hold": (turns, draw) => {
    const sets = told(turns, "set");
    const [first, , third] = drawRow([sets, sets, sets], draw);
    Object.assign(third!, { ifRevision: first!.answer.revision });
  },
  "a refusal without a reason": (turns, draw) => {
    const [set] = drawRow([told(turns, "set")], draw);
    const { revision = 0 } = set!.answer;
    turns.push({ kind: "set", value: "refused", ifRevision: revision, begin: set!.end + 0.1, end: set!.end + 0.2 });
    turns.at(-1)!.answer = { ok: false, value: set!.value, revision };
  },
};

describe("linearize()", () => {
  /** A cell that is written and read: name, begin, end, value; a read says what it saw. */
  const cell = (name: string, begin: number, end: number, value: number): Call<number> => {
    return { name, begin, end, apply: (state) => name.startsWith("w") ? value : state === value ? state : undefined };
  };

  test("linearize() finds an order of calls that overlap", () => {
    const calls = [cell("w1", 0, 5, 1), cell("r0", 1, 2, 0), cell("r1", 3, 4, 1), cell("w2", 1, Infinity, 2)];
    expect(linearize(calls, 0)).toEqual(["r0", "w1", "r1"]);
  });

  test("linearize() lets a call without an end happen late, or never", () => {
    expect(linearize([cell("w1", 0, Infinity, 1), cell("r0", 1, 2, 0), cell("r1", 3, 4, 1)], 0)).toHaveLength(3);
    expect(linearize([cell("w1", 0, Infinity, 1), cell("r0", 1, 2, 0)], 0)).toHaveLength(1);
  });

  test.each([
    ["a read of what was overwritten", [cell("w1", 0, 1, 1), cell("r0", 2, 3, 0)]],
    ["a read of what is yet to come", [cell("r1", 0, 1, 1), cell("w1", 2, 3, 1)]],
    ["a value that goes back", [cell("w1", 0, 9, 1), cell("r1", 1, 2, 1), cell("r0", 3, 4, 0)]],
    ["two readers who disagree", [
      cell("w1", 0, 20, 1),
      cell("w2", 0, 20, 2),
      cell("r1", 1, 2, 1),
      cell("r2", 3, 4, 2),
      cell("r1", 5, 6, 1),
    ]],
    ["a lost write", [cell("w1", 0, 1, 1), cell("w2", 2, 3, 2), cell("r1", 4, 5, 1)]],
  ])("linearize() rejects %s", (...row: unknown[]) => {
    expect(linearize(row[1] as Call<number>[], 0)).toBe(undefined);
  });
});

describe("callsOf()", () => {
  test("a drawn history has an order, with lost answers and calls that never happened", () => {
    for (const seed of SEEDS) {
      const turns = goodHistory(seed);
      expect(turns.some(({ answer }) => answer === undefined)).toBe(true);
      expect([seed, linearize(callsOf(turns), NOTHING) !== undefined]).toEqual([seed, true]);
    }
  });

  test.each(Object.keys(SPOILS))("no order explains %s", (...row: unknown[]) => {
    const spoil = SPOILS[row[0] as string]!;
    for (const seed of SEEDS) {
      const turns = goodHistory(seed);
      const before = turns.map(nameOf).join("\n");
      spoil(turns, randomOf(seed));
      expect(turns.map(nameOf).join("\n")).not.toBe(before);
      expect([seed, linearize(callsOf(turns), NOTHING)]).toEqual([seed, undefined]);
    }
  });
});
