/**
 * The store in this process against the stores that a JavaScript developer would take instead, and against two
 * limits: a Map, and a bare file.
 *
 * A million keys with values of 100 bytes, and 200,000 with 1,024; three rounds. What each contender is and by which
 * options it was opened is in `contenders.ts` and `rivals.ts`, what is timed in `phases.ts`, how rounds make a figure
 * in `contest.ts`. Printed are Markdown tables: medians with their range, and the ratios that count, with their
 * targets; or with `--json` one line per figure of each round.
 *
 * `--keys N`, `--rounds N`, `--only load,get` (phases that begin so), `--rivals "lmdb tuned,Map"`,
 * `--quick` (50,000 keys and short phases: to see that it runs, no figures to keep).
 *
 * @module
 */
import process from "node:process";
import { FILE, FIRKIN, type Kind, MAP, type Purpose } from "./contenders.ts";
import { type ContestOptions, contestOptions, digits, Field, spread, table } from "./contest.ts";
import { runtime } from "./harness.ts";
import type { Figure } from "./phases.ts";
import { CONTENDERS } from "./rivals.ts";

/** A ratio or a figure of firkin that must not be exceeded. */
interface Target {
  readonly phase: string;
  /** Whose figure it is a ratio to; absent for a figure as it stands. */
  readonly rival?: string;
  readonly most: number | Readonly<Record<ReturnType<typeof runtime>["name"], number>>;
}

/** Keys, bytes of a value, and what they are measured for. */
interface Setup {
  readonly keys: number;
  readonly valueBytes: number;
  readonly purposes: readonly Purpose[];
}

const SETUPS: readonly Setup[] = [
  { keys: 1_000_000, valueBytes: 100, purposes: ["resident", "lean", "durable", "plain"] },
  { keys: 200_000, valueBytes: 1_024, purposes: ["resident", "lean"] },
];
const QUICK_KEYS = 50_000;

/** Time that a phase may take, other than a load. */
const PHASE_MS = 1_000;
const QUICK_PHASE_MS = 150;

/** How the phases of each purpose begin: a purpose of which nothing is asked is not run. */
const PHASES: Readonly<Record<Purpose, readonly string[]>> = {
  resident: [
    "load",
    "setMany",
    "memory, RSS",
    "disk",
    "open",
    "get uniform",
    "get hot",
    "get missing",
    "overwrite",
    "zipf",
  ],
  lean: ["memory beside values", "get, not in memory"],
  durable: ["durable"],
  plain: ["longest pause"],
};

/** What the project sets itself, for values of 100 bytes. */
const TARGETS: readonly Target[] = [
  { phase: "get uniform", rival: "lmdb tuned", most: { node: 0.35, bun: 0.45, deno: 0.35 } },
  { phase: "get uniform", rival: "Map", most: { node: 0.8, bun: 1.3, deno: 0.8 } },
  { phase: "get missing", rival: "Map", most: { node: 0.5, bun: 1, deno: 0.5 } },
  { phase: "load", rival: "lmdb tuned", most: 0.3 },
  { phase: "zipf 95/5", rival: "lmdb tuned", most: { node: 0.4, bun: 0.45, deno: 0.4 } },
  { phase: "get, not in memory", rival: "file", most: 1.6 },
  { phase: "durable, 1,024 outstanding", rival: "file", most: 1.5 },
  { phase: "disk", most: 121 + 28 },
  { phase: "memory beside values", most: 24 },
  { phase: "memory beside values, reopened", most: 24 },
  { phase: "longest pause", most: 2 },
  { phase: "open", most: 200 },
];
const TARGETS_VALUE_BYTES = 100;

/** What a figure counts, by how its phase begins; nanoseconds per operation otherwise. */
const UNITS: readonly (readonly [phase: string, unit: string])[] = [
  ["memory", "B per key"],
  ["disk", "B per record"],
  ["open", "ns per key"],
  ["longest pause", "ms"],
];

function unitOf(phase: string): string {
  return UNITS.find(([beginning]) => phase.startsWith(beginning))?.[1] ?? "ns";
}

/** A round: firkin stands beside those that its targets name, so that little changes between the two. */
const ORDER: readonly Kind[] = [FILE, MAP, ...CONTENDERS.filter((kind) => kind !== MAP && kind !== FILE)];

/** Lets everybody through, round by round; those that do not load are left out. */
async function compete({ keys, valueBytes, purposes }: Setup, options: ContestOptions): Promise<Field> {
  const field = new Field(keys, valueBytes);
  const { only, rivals, rounds } = options;
  const order = ORDER.filter((kind) => kind === FIRKIN || rivals.length === 0 || rivals.includes(kind.name));
  const wanted = purposes.filter((purpose) => {
    return only.length === 0 || PHASES[purpose].some((phase) => only.some((word) => phase.startsWith(word)));
  });
  const absent = new Set<Kind>();
  for (let round = 1; round <= rounds; round++) {
    for (const purpose of wanted) {
      const started = performance.now();
      for (const kind of order.filter(({ purposes }) => purposes.includes(purpose))) {
        if (absent.has(kind)) continue;
        const figures = await field.run(kind, purpose, { phaseMs: options.quick ? QUICK_PHASE_MS : PHASE_MS, only });
        if (figures === undefined) absent.add(kind);
        else if (options.json) printLines(field, kind, purpose, round, figures);
      }
      const seconds = ((performance.now() - started) / 1_000).toFixed(0);
      if (!options.json) {
        console.error(`round ${round} of ${rounds}, values of ${valueBytes} B, ${purpose}: ${seconds} s`);
      }
    }
  }
  return field;
}

function policyOf(kind: Kind, purpose: Purpose): string {
  return purpose === "durable" ? kind.durablePolicy ?? kind.policy : kind.policy;
}

function printLines(field: Field, kind: Kind, purpose: Purpose, round: number, figures: readonly Figure[]): void {
  const { keys, valueBytes } = field;
  const { name: runtimeName, version } = runtime();
  for (const { phase, figure, cpu } of figures) {
    console.log(JSON.stringify({
      subject: "embedded",
      runtime: runtimeName,
      version,
      keys,
      valueBytes,
      round,
      contender: kind.name,
      policy: policyOf(kind, purpose),
      name: phase,
      unit: unitOf(phase),
      figure,
      cpu,
    }));
  }
}

// --- tables ---

function withRange(numbers: readonly number[]): string {
  if (numbers.length === 0) return "";
  const { median, min, max } = spread(numbers);
  return numbers.length === 1 ? digits(median) : `${digits(median)} (${digits(min)}-${digits(max)})`;
}

/** A column for each contender that has a figure in one of the phases. */
function figuresTable(field: Field, phases: readonly string[], durable: boolean): string {
  const kinds = CONTENDERS.filter(({ name }) => phases.some((phase) => field.figures(phase, name).length > 0));
  const head = kinds.map((kind) => `${kind.name}: ${policyOf(kind, durable ? "durable" : "resident")}`);
  return table([
    ["median (range)", ...head],
    ...phases.map((phase) => [
      `${phase}, ${unitOf(phase)}`,
      ...kinds.map(({ name }) => withRange(field.figures(phase, name).map(({ figure }) => figure))),
    ]),
  ]);
}

function ratiosTable(field: Field, phases: readonly string[]): string {
  const rivals = CONTENDERS.filter((kind) => {
    return kind !== FIRKIN && phases.some((phase) => field.ratios(phase, FIRKIN.name, kind.name).length > 0);
  });
  return table([
    ["firkin's figure / that of", ...rivals.map(({ name }) => name)],
    ...phases.map((phase) => [phase, ...rivals.map(({ name }) => withRange(field.ratios(phase, FIRKIN.name, name)))]),
  ]);
}

function targetsTable(field: Field): string {
  const rows = TARGETS.flatMap(({ phase, rival, most }) => {
    const found = rival === undefined
      ? field.figures(phase, FIRKIN.name).map(({ figure }) => figure)
      : field.ratios(phase, FIRKIN.name, rival);
    if (found.length === 0) return [];
    const limit = typeof most === "number" ? most : most[runtime().name];
    const what = rival === undefined ? `${phase}, ${unitOf(phase)}` : `${phase} / ${rival}`;
    return [[what, withRange(found), `<= ${limit}`, spread(found).median <= limit ? "hit" : "missed"]];
  });
  return rows.length === 0 ? "" : table([["target", "found", "wanted", ""], ...rows]);
}

/** The phases of which there are figures, in the order of {@link PHASES}. */
function phasesOf(field: Field): string[] {
  const beginnings = Object.values(PHASES).flat();
  const place = (phase: string): number => beginnings.findIndex((beginning) => phase.startsWith(beginning));
  return field.phases.sort((left, right) => place(left) - place(right));
}

function printTables(field: Field, rounds: number): void {
  const { name, version } = runtime();
  const { keys, valueBytes } = field;
  const phases = phasesOf(field);
  const isDurable = (phase: string): boolean => phase.startsWith("durable");
  console.log(
    `#### ${name} ${version}: ${keys.toLocaleString("en")} keys, values of ${valueBytes} B, ${rounds} rounds\n`,
  );
  for (const durable of [false, true]) {
    const some = phases.filter((phase) => isDurable(phase) === durable);
    if (some.length === 0) continue;
    console.log(`${figuresTable(field, some, durable)}\n`);
    const shared = some.filter((phase) => {
      return CONTENDERS.some((kind) => kind !== FIRKIN && field.ratios(phase, FIRKIN.name, kind.name).length > 0);
    });
    if (shared.length > 0) console.log(`${ratiosTable(field, shared)}\n`);
  }
  if (valueBytes === TARGETS_VALUE_BYTES) console.log(`${targetsTable(field)}\n`);
}

/** @throws {Error} a word is the beginning of no phase */
function checkPhases(words: readonly string[]): void {
  const phases = Object.values(PHASES).flat();
  const unknown = words.filter((word) => !phases.some((phase) => phase.startsWith(word)));
  if (unknown.length > 0) throw new Error(`There is no phase ${unknown.join(", ")}; there are ${phases.join("; ")}`);
}

/** @throws {Error} a name is nobody's */
function checkRivals(names: readonly string[]): void {
  const known = ORDER.map(({ name }) => name);
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new Error(`There is no rival ${unknown.join(", ")}; there are ${known.join("; ")}`);
}

const options = contestOptions();
const setups = options.quick ? SETUPS.slice(0, 1) : SETUPS;
try {
  checkPhases(options.only);
  checkRivals(options.rivals);
  for (const setup of setups) {
    const keys = options.keys ?? (options.quick ? QUICK_KEYS : setup.keys);
    const field = await compete({ ...setup, keys }, options);
    if (!options.json) printTables(field, options.rounds);
  }
} catch (error) {
  console.error(`embedded: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
