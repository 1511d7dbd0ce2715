/**
 * The overview: what the server does now, and did in the last quarter of an hour.
 *
 * The server keeps the history; the page asks for the rows that it does not have, once a second, and keeps as many, so
 * that charts go on across a restart of the server with a gap where it was away.
 *
 * @module
 */
import { Chart } from "./chart.ts";
import { button, confirmed, element, say } from "./dom.ts";
import type { HistoryAnswer, Server } from "./server.ts";
import { bytes, count, microseconds, problem, short } from "./words.ts";

const ROWS_MAX = 900;
/** Rows further apart than this have nothing between them. */
const GAP_MS = 5_000;
const SPANS = [[60, "1 min"], [300, "5 min"], [900, "15 min"]] as const;

/** What a tile says, made of the newest row. */
interface Tile {
  readonly title: string;
  readonly value: (row: Row) => string;
  readonly note: (row: Row) => string;
}

/** A row by the names of its columns. */
type Row = Readonly<Record<string, number>>;

const TILES: readonly Tile[] = [
  {
    title: "Operations",
    value: (row) => `${short(row["operations"]!)} /s`,
    note: (row) => `${short(row["reads"]!)} reads, ${short(row["writes"]!)} writes`,
  },
  {
    title: "Latency, p99",
    value: (row) => row["operations"] === 0 ? "–" : microseconds(row["p99Us"]!),
    note: (row) => row["operations"] === 0 ? "nothing was asked" : `median ${microseconds(row["p50Us"]!)}`,
  },
  {
    title: "Clients",
    value: (row) => count(row["connections"]!),
    note: (row) => `${count(row["subscriptions"]!)} subscriptions`,
  },
  {
    title: "Keys",
    value: (row) => row["keys"]! < 1e7 ? count(row["keys"]!) : short(row["keys"]!),
    note: (row) => `${bytes(row["indexBytes"]!)} of index`,
  },
  {
    title: "Disk",
    value: (row) => bytes(row["logBytes"]!),
    note: (row) => `${percent(row["deadBytes"]!, row["logBytes"]!)} dead`,
  },
  {
    title: "Memory",
    value: (row) => bytes(row["rssBytes"]!),
    note: (row) => `${(row["cpu"]! * 100).toFixed(0)} % of a core`,
  },
];

interface ChartRow {
  readonly chart: Chart;
  readonly columns: readonly string[];
}

/** Builds the view; returns its node and what it does with new figures. */
export function overview(server: Server): {
  readonly node: HTMLElement;
  readonly take: (history: HistoryAnswer) => void;
  readonly draw: () => void;
  readonly retheme: () => void;
} {
  const tiles = TILES.map(({ title }) => {
    const [value, note] = [element("output", { text: "–" }), element("p", { text: " " })];
    return { value, note, node: element("div", { class: "panel tile" }, element("h2", { text: title }), value, note) };
  });
  const charts = makeCharts();
  const compact = button("Compact", () => void compactNow(server, compact), { class: "quiet" });
  let seconds = 300;
  const spans = spanChoice(seconds, (chosen) => {
    seconds = chosen;
    draw();
  });
  const node = element(
    "section",
    { class: "overview", "aria-label": "Overview" },
    element("div", { class: "tiles" }, ...tiles.map((tile) => tile.node)),
    element("div", { class: "bar bare" }, spans, element("span", { class: "grow" }), compact),
    element("div", { class: "charts" }, ...charts.map(({ chart }) => chart.node)),
  );

  let rows: Row[] = [];
  const draw = (): void => {
    if (!node.isConnected || rows.length === 0) return;
    const last = rows.at(-1)!;
    TILES.forEach((tile, index) => {
      say(tiles[index]!.value, tile.value(last));
      say(tiles[index]!.note, tile.note(last));
    });
    const to = last["at"]! / 1_000;
    const shown = withGaps(rows.filter((row) => row["at"]! / 1_000 >= to - seconds - 2));
    const times = shown.map((row) => row["at"]! / 1_000);
    for (const { chart, columns } of charts) {
      const data = columns.map((name) => shown.map((row) => Number.isNaN(row[name]!) ? null : row[name]!));
      chart.show([times, ...data], to - seconds, to);
    }
  };
  const take = ({ columns, rows: added }: HistoryAnswer): void => {
    rows = [...rows, ...added.map((row) => Object.fromEntries(columns.map((name, place) => [name, row[place]!])))];
    if (rows.length > ROWS_MAX) rows = rows.slice(-ROWS_MAX);
    draw();
  };
  return { node, take, draw, retheme: () => charts.forEach(({ chart }) => chart.retheme()) };
}

/** The colours of lines: what matters most, second, and third. */
const [first, second, third] = ["--amber", "--blue", "--grey"] as const;

function chart(columns: string[], ...options: ConstructorParameters<typeof Chart>): ChartRow {
  return { columns, chart: new Chart(...options) };
}

/** The charts in their order, two in a row. */
function makeCharts(): ChartRow[] {
  return [...makeCallCharts(), ...makeResourceCharts()];
}

/** What is asked and told, and how long it takes. */
function makeCallCharts(): ChartRow[] {
  return [
    chart(["reads", "writes"], {
      title: "Operations per second",
      lines: [{ label: "reads", colour: second, filled: true }, { label: "writes", colour: first, filled: true }],
      format: short,
      least: 10,
    }),
    chart(["p50Us", "p99Us"], {
      title: "Latency",
      lines: [{ label: "median", colour: second }, { label: "p99", colour: first, filled: true }],
      format: microseconds,
      least: 500,
    }),
    chart(["events", "expiries"], {
      title: "Events per second",
      lines: [{ label: "sent", colour: second, filled: true }, { label: "keys expired", colour: first }],
      format: short,
      least: 10,
    }),
    ...([["lateness", "Lateness of expiries"], ["sync", "Time of a sync"]] as const).map(([name, title]) =>
      chart([`${name}P50Ms`, `${name}P99Ms`], {
        title,
        lines: [{ label: "median", colour: second }, { label: "p99", colour: first, filled: true }],
        format: (value) => microseconds(value * 1_000),
        least: 5,
      })
    ),
  ];
}

/** What that needs. */
function makeResourceCharts(): ChartRow[] {
  return [
    chart(["logBytes", "deadBytes"], {
      title: "Disk",
      lines: [{ label: "log", colour: second, filled: true }, { label: "dead", colour: first, filled: true }],
      format: bytes,
      binary: true,
      least: 64 * 1_024,
    }),
    chart(["rssBytes", "indexBytes", "cacheBytes"], {
      title: "Memory",
      lines: [
        { label: "process", colour: third, filled: true },
        { label: "index", colour: first },
        { label: "cache", colour: second },
      ],
      format: bytes,
      binary: true,
      least: 1_024 * 1_024,
    }),
    chart(["syncs", "compactedBytes"], {
      title: "Syncs, compaction",
      lines: [
        { label: "syncs /s", colour: second, filled: true },
        { label: "compaction", colour: first, right: true },
      ],
      format: short,
      rightFormat: (value) => `${bytes(value)}/s`,
      least: 10,
    }),
    chart(["bytesOut", "bytesIn"], {
      title: "Network",
      lines: [{ label: "out", colour: second, filled: true }, { label: "in", colour: first }],
      format: (value) => `${bytes(value)}/s`,
      binary: true,
      least: 1_024,
    }),
    chart(["cpu"], {
      title: "Processor",
      lines: [{ label: "of a core", colour: second, filled: true }],
      format: (value) => `${(value * 100).toFixed(0)} %`,
      least: 0.1,
    }),
  ];
}

function spanChoice(initial: number, choose: (seconds: number) => void): HTMLElement {
  const choice = element("fieldset", { "aria-label": "Time shown" });
  for (const [seconds, label] of SPANS) {
    const radio = element("input", { type: "radio", name: "span", value: seconds, checked: seconds === initial });
    radio.addEventListener("change", () => choose(seconds));
    choice.append(element("label", {}, radio, label));
  }
  return choice;
}

/** Where rows are far apart, one without figures stands between them. */
function withGaps(rows: readonly Row[]): Row[] {
  const whole: Row[] = [];
  for (const row of rows) {
    const before = whole.at(-1);
    if (before !== undefined && row["at"]! - before["at"]! > GAP_MS) {
      const nothing = Object.fromEntries(Object.keys(row).map((name) => [name, NaN]));
      whole.push({ ...nothing, at: before["at"]! + 1_000 });
    }
    whole.push(row);
  }
  return whole;
}

function percent(part: number, of: number): string {
  return `${(of === 0 ? 0 : part / of * 100).toFixed(0)} %`;
}

async function compactNow(server: Server, trigger: HTMLButtonElement): Promise<void> {
  if (!await confirmed("Rewrite the log without its dead records now? It also happens by itself.", "Compact")) return;
  trigger.disabled = true;
  say(trigger, "Compacting");
  try {
    await server.engine.compact();
    say(trigger, "Compacted");
  } catch (error) {
    say(trigger, problem(error));
  }
  setTimeout(() => {
    trigger.disabled = false;
    say(trigger, "Compact");
  }, 3_000);
}
