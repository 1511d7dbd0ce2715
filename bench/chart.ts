/**
 * Lines on logarithmic axes, as an SVG that reads on light and dark paper.
 *
 * A picture of several panels with one abscissa: what a reader compares stands in one panel, what has another unit in
 * another. Every line says its last figure at its end.
 *
 * @module
 */
import { digits } from "./contest.ts";

/** One line. */
export interface Series {
  readonly name: string;
  /** What was measured, by ascending `x`; both above 0. */
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** One pair of axes. */
export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly Series[];
}

const COLUMNS = 3;
const PANEL_WIDTH = 280;
const PANEL_HEIGHT = 220;
const HEAD_HEIGHT = 48;
/** Room inside a panel around its axes. */
const MARGIN = { left: 58, right: 52, top: 34, bottom: 30 } as const;

const STYLE = `
  text { font: 11px system-ui, sans-serif; fill: #57606a }
  .head { font-size: 14px; font-weight: 600; fill: #1f2328 }
  .title { font-size: 12px; font-weight: 600; fill: #1f2328 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .line { fill: none; stroke-width: 2 }
  .s0 { stroke: #0969da } .s1 { stroke: #bc4c00 }
  .f0 { fill: #0969da } .f1 { fill: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 }
    .head, .title { fill: #f0f6fc }
    .grid { stroke: #3d444d }
    .s0 { stroke: #4493f8 } .s1 { stroke: #f0883e }
    .f0 { fill: #4493f8 } .f1 { fill: #f0883e }
  }`;

/** Draws panels side by side under one headline. All have the same series, in the same order, two at most. */
export function drawChart(headline: string, panels: readonly Panel[]): string {
  const width = COLUMNS * PANEL_WIDTH;
  const height = HEAD_HEIGHT + Math.ceil(panels.length / COLUMNS) * PANEL_HEIGHT;
  const names = panels[0]?.series.map(({ name }) => name) ?? [];
  const legend = names.map((name, index) => {
    const x = width - MARGIN.right - (names.length - index) * 90;
    return `<path class="line s${index}" d="M${x} 20h18"/>${text(x + 24, 24, name, "start")}`;
  });
  const drawn = panels.map((panel, index) => {
    const x = (index % COLUMNS) * PANEL_WIDTH;
    const y = HEAD_HEIGHT + Math.floor(index / COLUMNS) * PANEL_HEIGHT;
    return `<g transform="translate(${x} ${y})">\n${drawPanel(panel)}\n</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${
      escape(headline)
    }">`,
    `<style>${STYLE}\n</style>`,
    text(16, 24, headline, "start", "head"),
    ...legend,
    ...drawn,
    "</svg>\n",
  ].join("\n");
}

function drawPanel({ title, unit, series }: Panel): string {
  const points = series.flatMap((line) => line.points);
  const xAxis = axis(points.map(({ x }) => x), MARGIN.left, PANEL_WIDTH - MARGIN.right);
  const yAxis = axis(points.map(({ y }) => y), PANEL_HEIGHT - MARGIN.bottom, MARGIN.top);
  const ends = series.map(({ points }) => points.at(-1)!);
  return [
    text(MARGIN.left, 18, `${title}, ${unit}`, "start", "title"),
    ...yAxis.decades.map((value) => {
      const y = yAxis.at(value);
      const line = `<path class="grid" d="M${MARGIN.left} ${round(y)}H${PANEL_WIDTH - MARGIN.right}"/>`;
      return line + text(MARGIN.left - 6, y + 4, digits(value), "end");
    }),
    ...xAxis.decades.map((value) => {
      return text(xAxis.at(value), PANEL_HEIGHT - MARGIN.bottom + 16, `10${superscript(Math.log10(value))}`, "middle");
    }),
    ...series.flatMap(({ points }, index) => {
      const places = points.map(({ x, y }) => `${round(xAxis.at(x))} ${round(yAxis.at(y))}`);
      const dots = places.map((place) => `<circle class="f${index}" r="2.5" cx="${place.replace(" ", '" cy="')}"/>`);
      return [`<path class="line s${index}" d="M${places.join("L")}"/>`, ...dots];
    }),
    ...ends.map(({ x, y }, index) => {
      // Two ends that are close would write over one another: the upper one moves up, the other down.
      const other = ends[1 - index];
      const near = other !== undefined && Math.abs(yAxis.at(y) - yAxis.at(other.y)) < 12;
      const shift = near ? (y >= other.y ? -4 : 10) : 4;
      return text(xAxis.at(x) + 7, yAxis.at(y) + shift, digits(y), "start", `f${index}`);
    }),
  ].join("\n");
}

/** A logarithmic axis over whole decades, from one place to another. */
function axis(values: readonly number[], from: number, to: number): {
  readonly decades: readonly number[];
  at(value: number): number;
} {
  const low = Math.floor(Math.log10(Math.min(...values)) + 1e-9);
  const high = Math.max(Math.ceil(Math.log10(Math.max(...values)) - 1e-9), low + 1);
  return {
    decades: Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index)),
    at: (value) => from + (to - from) * (Math.log10(value) - low) / (high - low),
  };
}

function text(x: number, y: number, content: string, anchor: "start" | "middle" | "end", style?: string): string {
  const kind = style === undefined ? "" : ` class="${style}"`;
  return `<text${kind} x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${escape(content)}</text>`;
}

function round(place: number): string {
  return place.toFixed(1).replace(/\.0$/, "");
}

function superscript(exponent: number): string {
  return String(Math.round(exponent)).replace(/./g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)] ?? "⁻");
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
