/**
 * Line charts of the last minutes, by uPlot: colours of the page's theme, one cursor for all, a legend that says what
 * is under it, or else what is now.
 *
 * @module
 */
import uPlot from "uplot";
import { element, say } from "./dom.ts";

/** One line. */
export interface Line {
  readonly label: string;
  /** The name of a custom property of the style. */
  readonly colour: string;
  readonly filled?: boolean;
  /** On a scale of its own, at the right. */
  readonly right?: boolean;
}

/** What a chart shows. */
export interface ChartOptions {
  readonly title: string;
  readonly lines: readonly Line[];
  /** Values as people read them. */
  readonly format: (value: number) => string;
  /** The same for lines at the right. */
  readonly rightFormat?: (value: number) => string;
  /** Ticks at round numbers of bytes. */
  readonly binary?: boolean;
  /** The least that the scale reaches up to, so that small noise does not look like mountains. */
  readonly least: number;
}

const HEIGHT = 150;
/** Distances of ticks that are round in binary: 1 B to 1 PiB. */
const BINARY = Array.from({ length: 51 }, (_, power) => 2 ** power);

/** A chart in a panel of its own. */
export class Chart {
  readonly node: HTMLElement;
  readonly #options: ChartOptions;
  readonly #values: readonly HTMLElement[];
  readonly #place: HTMLElement;
  #plot: uPlot | undefined;
  #data: uPlot.AlignedData = [[]];
  #from = 0;
  #to = 1;

  constructor(options: ChartOptions) {
    this.#options = options;
    this.#values = options.lines.map(() => element("b", { text: "–" }));
    const legend = options.lines.map(({ label, colour }, index) => {
      const key = element("i", { "aria-hidden": "true" });
      key.style.setProperty("background", `var(${colour})`);
      return element("span", {}, key, `${label} `, this.#values[index]!);
    });
    this.#place = element("div", { class: "plot" });
    this.node = element(
      "figure",
      { class: "panel chart" },
      element(
        "figcaption",
        {},
        element("h2", { text: options.title }),
        element("span", { class: "legend" }, ...legend),
      ),
      this.#place,
    );
    new ResizeObserver(() => this.#resize()).observe(this.#place);
  }

  /** Shows these columns, the first of which is epoch seconds, between two times. */
  show(data: uPlot.AlignedData, from: number, to: number): void {
    this.#data = data;
    [this.#from, this.#to] = [from, to];
    if (this.#plot === undefined) this.#make();
    else this.#plot.batch(() => this.#draw(this.#plot!));
    this.#legend(this.#plot?.cursor.idx ?? null);
  }

  /** Draws anew, in the colours that the theme has now. */
  retheme(): void {
    this.#plot?.destroy();
    this.#plot = undefined;
    this.#make();
  }

  #draw(plot: uPlot): void {
    plot.setData(this.#data, false);
    plot.setScale("x", { min: this.#from, max: this.#to });
  }

  #resize(): void {
    const width = this.#place.clientWidth;
    if (width > 0 && this.#plot !== undefined) this.#plot.setSize({ width, height: HEIGHT });
    else this.#make();
  }

  #make(): void {
    const width = this.#place.clientWidth;
    if (width === 0 || this.#plot !== undefined || this.#data[0].length === 0) return;
    const { lines, format, rightFormat = format, least, binary = false } = this.#options;
    const colour = (name: string): string => colourOf(this.#place, name);
    const range: uPlot.Range.Function = (_, _min, max) => [0, Math.max((max ?? 0) * 1.1, least)];
    const axis = (values: (value: number) => string, more: object): uPlot.Axis => ({
      stroke: colour("--muted"),
      font: "11px system-ui, sans-serif",
      ticks: { show: false },
      grid: { stroke: colour("--grid"), width: 1 },
      values: (_, splits) => splits.map(values),
      size: 54,
      space: 36,
      ...more,
    });
    const right = lines.some((line) => line.right);
    this.#plot = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [8, right ? 0 : 12, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, sync: { key: "firkin" }, drag: { x: false, y: false } },
        scales: { x: { time: true, auto: false, min: this.#from, max: this.#to }, y: { range }, right: { range } },
        axes: [
          {
            ...axis(String, { grid: { show: false }, size: 32, gap: 9, space: 70 }),
            values: (_, splits) => splits.map(clock),
          },
          axis(format, binary ? { incrs: BINARY } : {}),
          ...(right ? [axis(rightFormat, { scale: "right", side: 1, grid: { show: false } })] : []),
        ],
        series: [
          {},
          ...lines.map((line): uPlot.Series => ({
            scale: line.right ? "right" : "y",
            stroke: colour(line.colour),
            width: 1.5,
            points: { show: false },
            ...(line.filled && { fill: `${colour(line.colour)}26` }),
          })),
        ],
        hooks: { setCursor: [(plot) => this.#legend(plot.cursor.idx ?? null)] },
      },
      this.#data,
      this.#place,
    );
    this.#plot.over.setAttribute("aria-hidden", "true");
  }

  /** Says the values at a place, or the last ones. */
  #legend(index: number | null): void {
    const { lines, format, rightFormat = format } = this.#options;
    lines.forEach((line, place) => {
      const column = this.#data[place + 1] ?? [];
      const value = index === null ? column[column.length - 1] : column[index];
      say(
        this.#values[place]!,
        value === undefined || value === null ? "–" : (line.right ? rightFormat : format)(value),
      );
    });
  }
}

function clock(epochSeconds: number): string {
  const date = new Date(epochSeconds * 1_000);
  const parts = [date.getHours(), date.getMinutes()];
  if (date.getSeconds() !== 0) parts.push(date.getSeconds());
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/** What a custom property is in the theme of now, as `#rrggbb`. */
function colourOf(place: HTMLElement, name: string): string {
  const probe = element("span");
  probe.style.setProperty("color", `var(${name})`);
  place.append(probe);
  const parts = getComputedStyle(probe).color.match(/[\d.]+/g) ?? [];
  probe.remove();
  return `#${parts.slice(0, 3).map((part) => Math.round(Number(part)).toString(16).padStart(2, "0")).join("")}`;
}
