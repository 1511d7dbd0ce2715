/**
 * What a command says: results on standard output, everything else on standard error, an error as one line with what to
 * do next.
 *
 * For a program, which reads a pipe or asks with `--json`, a result is JSON, one line each. For people, at a terminal,
 * it is a table, with colour unless `NO_COLOR` is set.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import { type ErrorCode, FirkinError, messageOf } from "../../lib/base/errors.ts";

/** Exit codes: done; no such key, a condition that did not hold, damage; wrong usage; anything else. */
export const EXIT = { done: 0, missing: 1, usage: 2, failure: 3 } as const;

/** What can be done about an error, by its code. */
const HINTS: Partial<Record<ErrorCode, string>> = {
  UNAVAILABLE: "is `firkin serve` running there? --data-dir opens a folder without a server",
  LOCKED: "ask the server that has it, with --url, or end it first",
  UNAUTHORIZED: "give a token with --token-file or FIRKIN_TOKEN",
  FORBIDDEN: "firkin token list says what each token may",
  CORRUPT: "firkin verify says what is damaged",
  FULL: "make room: deletes and compaction still work",
};

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** The flag of commands that print results. */
export interface OutputFlags {
  /** Undefined: JSON unless a person is reading. */
  readonly json?: boolean;
}

/** True when results are for a program. */
export function forPrograms({ json }: OutputFlags): boolean {
  return json ?? !process.stdout.isTTY;
}

/** A line on standard error. */
export function note(line: string): void {
  process.stderr.write(`firkin: ${line}\n`);
}

/** The line about an error. */
export function describeError(error: unknown): string {
  if (!(error instanceof FirkinError)) return messageOf(error);
  const hint = HINTS[error.code];
  return `${error.message}${hint === undefined ? "" : `; ${hint}`} (${error.code})`;
}

/** Says that there is no such key. */
export function missing(bucket: string, key: string): number {
  note(`no key ${bucket}/${key}`);
  return EXIT.missing;
}

/** A value on standard output: bytes and text as they are, anything else as JSON. */
export function print(value: unknown): void {
  if (value instanceof Uint8Array) process.stdout.write(value);
  else process.stdout.write(`${typeof value === "string" ? value : JSON.stringify(plain(value))}\n`);
}

/** What JSON can show: bytes as base64 under a name of their own, big integers as text. */
export function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString("base64") };
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object" || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

// --- for people ---

/** Codes of colours, as terminals know them. */
const STYLES = { bold: [1, 22], dim: [2, 22] } as const;

/** Text in a style, where there is a terminal that shows it. */
export function styled(style: keyof typeof STYLES, text: string): string {
  if (!process.stdout.isTTY || (process.env["NO_COLOR"] ?? "") !== "" || process.env["TERM"] === "dumb") return text;
  const [on, off] = STYLES[style];
  return `\x1b[${on}m${text}\x1b[${off}m`;
}

/** A table: a line of titles and one for each row, columns as wide as they need; the last is cut at `width`. */
export function table(
  titles: readonly string[],
  rows: readonly (readonly string[])[],
  width: number = Infinity,
): string[] {
  const cells = rows.map((row) => row.map((cell) => cell.replace(/\p{Cc}/gu, " ")));
  const widths = titles.map((title, place) => Math.max(title.length, ...cells.map((row) => row[place]!.length)));
  const line = (row: readonly string[]): string => {
    const text = row.map((cell, place) => place === row.length - 1 ? cell : cell.padEnd(widths[place]!)).join("  ");
    return text.length > width ? `${text.slice(0, Math.max(width - 1, 0))}…` : text;
  };
  return [styled("bold", line(titles)), ...cells.map(line)];
}

/** Lines on standard output, no wider than the terminal. */
export function printTable(titles: readonly string[], rows: readonly (readonly string[])[]): void {
  const width = process.stdout.columns ?? Infinity;
  process.stdout.write(table(titles, rows, width).map((line) => `${line}\n`).join(""));
}

/** `1,234,567`. */
export function grouped(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** `12.3 MiB`. */
export function bytes(value: number): string {
  let unit = 0;
  for (; value >= 1_024 && unit < UNITS.length - 1; unit++) value /= 1_024;
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}
