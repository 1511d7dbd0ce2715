/**
 * What becomes of the figures as a store grows, from ten thousand keys to ten million: firkin and a Map.
 *
 * Values of 100 bytes. The phases and their children are those of `embedded`; every size and contender is a process of
 * its own. Memory, the open and the longest pause are taken in the first round alone, the rest in each. Written is
 * `docs/scaling-<runtime>.svg`, printed are its figures in Markdown; with `--json` one line per figure instead, and no
 * picture. `--keys N` is the largest size, `--rounds N`; `--quick` stops at a hundred thousand keys and draws nothing.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { drawChart, type Panel } from "./chart.ts";
import { FIRKIN, type Kind, MAP, type Purpose } from "./contenders.ts";
import { contestOptions, digits, Field, spread, table } from "./contest.ts";
import { runtime } from "./harness.ts";
import { VALUE_BYTES } from "./workload.ts";

const SIZES = [10_000, 100_000, 1_000_000, 10_000_000];
const QUICK_KEYS = 100_000;
const PHASE_MS = 1_500;

/** What is drawn, and how its axis is called. */
const DRAWN: readonly (readonly [phase: string, title: string, unit: string])[] = [
  ["get uniform", "get", "ns"],
  ["get missing", "get of a missing key", "ns"],
  ["memory beside values", "memory beside values", "B per key"],
  ["load", "load, policy os", "ns per set"],
  ["overwrite", "overwrite, policy os", "ns per set"],
];

const CONTENDERS: readonly Kind[] = [FIRKIN, MAP];
const { json, quick, rounds, keys: largest = quick ? QUICK_KEYS : SIZES.at(-1)! } = contestOptions();

async function measure(field: Field, round: number): Promise<void> {
  const purposes: readonly Purpose[] = round === 1 ? ["resident", "lean", "plain"] : ["resident"];
  for (const purpose of purposes) {
    for (const kind of CONTENDERS.filter(({ purposes }) => purposes.includes(purpose))) {
      const only = [...DRAWN.map(([phase]) => phase), "open", "longest pause"];
      const figures = await field.run(kind, purpose, { phaseMs: PHASE_MS, only });
      if (!json) continue;
      const { name, version } = runtime();
      for (const { phase, figure, cpu } of figures ?? []) {
        const { keys } = field;
        const told = { subject: "scaling", runtime: name, version, keys, round, contender: kind.name };
        console.log(JSON.stringify({ ...told, name: phase, figure, cpu }));
      }
    }
  }
}

function median(field: Field, phase: string, kind: Kind): number | undefined {
  const figures = field.figures(phase, kind.name);
  return figures.length === 0 ? undefined : spread(figures.map(({ figure }) => figure)).median;
}

function printTable(fields: readonly Field[]): void {
  const columns: readonly (readonly [head: string, cell: (field: Field) => number | undefined])[] = [
    ...DRAWN.flatMap(([phase, title, unit]) =>
      CONTENDERS.map((kind) => {
        return [`${kind.name}: ${title}, ${unit}`, (field: Field) => median(field, phase, kind)] as const;
      })
    ),
    ["firkin: open, keys/s", (field) => 1e9 / median(field, "open", FIRKIN)!],
    ["firkin: longest pause, ms", (field) => median(field, "longest pause", FIRKIN)],
    ["of it the processor's time, ms", (field) => median(field, "longest pause, processor's time", FIRKIN)],
    ["the machine's own, ms", (field) => median(field, "longest pause, nothing done", FIRKIN)],
  ];
  console.log(table([
    ["", ...fields.map(({ keys }) => `${keys.toLocaleString("en")} keys`)],
    ...columns.map(([head, cell]) => [
      head,
      ...fields.map((field) => {
        const figure = cell(field);
        return figure === undefined ? "" : digits(figure);
      }),
    ]),
  ]));
}

/** How much more a get takes among `many` keys than among `few`, with its target. */
function printGrowth(fields: readonly Field[]): void {
  const few = fields.find(({ keys }) => keys === 100_000);
  const many = fields.at(-1)!;
  if (few === undefined || many === few) return;
  const ratios = many.figures("get uniform", FIRKIN.name).map(({ figure }, round) => {
    return figure / few.figures("get uniform", FIRKIN.name)[round]!.figure;
  });
  const { median: ratio } = spread(ratios);
  const verdict = ratio <= 2.5 ? "hit" : "missed";
  console.log(
    `\nget among ${many.keys.toLocaleString("en")} keys / among 100,000: ${digits(ratio)} (<= 2.5: ${verdict})`,
  );
}

function draw(fields: readonly Field[]): void {
  const { name, version } = runtime();
  const panels = DRAWN.map(([phase, title, unit]): Panel => ({
    title,
    unit,
    series: CONTENDERS.map((kind) => ({
      name: kind.name,
      points: fields.map((field) => ({ x: field.keys, y: median(field, phase, kind)! })),
    })),
  }));
  const path = `docs/scaling-${name}.svg`;
  writeFileSync(path, drawChart(`By number of keys, values of ${VALUE_BYTES} B, ${name} ${version}`, panels));
  console.log(`\nDrawn: ${path}`);
}

try {
  const fields = SIZES.filter((keys) => keys <= largest).map((keys) => new Field(keys, VALUE_BYTES));
  for (let round = 1; round <= rounds; round++) {
    for (const field of fields) await measure(field, round);
    if (!json) console.error(`round ${round} of ${rounds}`);
  }
  if (!json) {
    printTable(fields);
    printGrowth(fields);
    if (!quick) draw(fields);
  }
} catch (error) {
  console.error(`scaling: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
