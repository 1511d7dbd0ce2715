/**
 * Contenders against one another: A B C, A B C, A B C, each time in a process of its own on fresh files.
 *
 * Only ratios within one run count: the machine is another one an hour later, and a little so a minute later. So a
 * ratio is taken within a round, where the two stood side by side, and the median of the rounds' ratios is told.
 *
 * @module
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { startChild } from "./child.ts";
import type { Kind, Purpose } from "./contenders.ts";
import type { Figure, Task } from "./phases.ts";

/** Keys that a Map may have in a heap of the size that V8 takes by itself. */
const KEYS_OF_A_HEAP = 2_000_000;

/** How a child ends whose contender cannot be loaded. */
export const CANNOT_LOAD = 3;

/** What the command line asks of a contest. */
export interface ContestOptions {
  readonly json: boolean;
  readonly quick: boolean;
  readonly rounds: number;
  /** Undefined: as the benchmark has it. */
  readonly keys: number | undefined;
  readonly only: readonly string[];
  /** Names of those to measure against; everybody when there is none. */
  readonly rivals: readonly string[];
}

/** One field: everybody who takes part with values of one length, and what was found. */
export class Field {
  readonly keys: number;
  readonly valueBytes: number;
  /** Figures by phase, contender and round. */
  readonly #figures = new Map<string, Map<string, Figure[]>>();

  constructor(keys: number, valueBytes: number) {
    this.keys = keys;
    this.valueBytes = valueBytes;
  }

  /** The phases of which there is a figure, in the order in which they came. */
  get phases(): string[] {
    return [...this.#figures.keys()];
  }

  /** The figures of one contender in one phase, round by round; empty when it took no part. */
  figures(phase: string, contender: string): readonly Figure[] {
    return this.#figures.get(phase)?.get(contender) ?? [];
  }

  /** What the first takes in units of what the second takes, round by round. */
  ratios(phase: string, first: string, second: string): number[] {
    const others = this.figures(phase, second);
    return this.figures(phase, first).flatMap(({ figure }, round) => {
      const other = others[round];
      return other === undefined ? [] : [figure / other.figure];
    });
  }

  /**
   * Lets one contender through the phases of one purpose; undefined when it does not load, which it has said.
   * @throws {Error} it failed, or returned a wrong value
   */
  async run(
    contender: Kind,
    purpose: Purpose,
    options: Pick<Task, "phaseMs" | "only">,
  ): Promise<readonly Figure[] | undefined> {
    const { keys, valueBytes } = this;
    const task: Task = { contender: contender.name, purpose, keys, valueBytes, ...options };
    const flags = ["--expose-gc", ...keys > KEYS_OF_A_HEAP ? ["--max-old-space-size=12288"] : []];
    const child = startChild("phases.ts", [JSON.stringify(task)], "stdout", flags);
    const figures: Figure[] = [];
    child.lines.on("line", (line) => void figures.push(JSON.parse(line) as Figure));
    const code = await child.ended;
    if (code === CANNOT_LOAD) return undefined;
    if (code !== 0) throw new Error(`Cannot measure ${contender.name}, ${purpose}: its process ended with ${code}`);
    for (const figure of figures) {
      const byContender = this.#figures.get(figure.phase) ?? new Map<string, Figure[]>();
      this.#figures.set(figure.phase, byContender);
      byContender.set(contender.name, [...byContender.get(contender.name) ?? [], figure]);
    }
    return figures;
  }
}

/** Reads the command line, which `scripts/bench.mjs` has checked; what other benchmarks want of it is passed over. */
export function contestOptions(): ContestOptions {
  const { values } = parseArgs({
    options: {
      json: { type: "boolean" },
      quick: { type: "boolean" },
      rounds: { type: "string" },
      keys: { type: "string" },
      only: { type: "string" },
      rivals: { type: "string" },
    },
    strict: false,
    args: process.argv.slice(2),
  });
  const number = (name: "rounds" | "keys"): number | undefined => {
    const value = values[name];
    return value === undefined ? undefined : Number(value);
  };
  const words = (name: "only" | "rivals"): string[] => {
    const value = values[name];
    return typeof value === "string" ? value.split(",").map((word) => word.trim()) : [];
  };
  const { json, quick } = values;
  return {
    json: json === true,
    quick: quick === true,
    rounds: number("rounds") ?? (quick === true ? 1 : 3),
    keys: number("keys"),
    only: words("only"),
    rivals: words("rivals"),
  };
}

/** The middle one, the smallest and the largest. */
export function spread(numbers: readonly number[]): { median: number; min: number; max: number } {
  const sorted = [...numbers].sort((left, right) => left - right);
  const half = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** A number with as many digits as say something. */
export function digits(number: number): string {
  const size = Math.abs(number);
  return number.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : 2 });
}

/** A table in Markdown, its columns aligned, the first to the left. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string => {
    const cells = row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!));
    return `| ${cells.join(" | ")} |`;
  };
  const rule = `|${widths.map((width, column) => "-".repeat(width + 1) + (column === 0 ? "-" : ":")).join("|")}|`;
  return [line(rows[0]!), rule, ...rows.slice(1).map(line)].join("\n");
}
