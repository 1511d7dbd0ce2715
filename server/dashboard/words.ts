/**
 * Numbers, times and bytes as people read them.
 *
 * @module
 */
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `1,234,567`. */
export function count(value: number): string {
  return whole.format(value);
}

/** `1 key`, `2 keys`. */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** `950`, `12.3k`, `4.5M`. */
export function short(value: number): string {
  if (value >= 999_500) return `${precise(value / 1e6)}M`;
  return value >= 9_995 ? `${precise(value / 1e3)}k` : precise(value);
}

/** Three digits that matter. */
function precise(value: number): string {
  if (value === 0) return "0";
  if (value >= 100) return whole.format(value);
  return String(Number(value.toPrecision(value >= 10 ? 3 : 2)));
}

/** `12.3 MiB`. */
export function bytes(value: number): string {
  let unit = 0;
  for (; value >= 1_000 && unit < BYTE_UNITS.length - 1; unit++) value /= 1_024;
  return `${unit === 0 ? whole.format(value) : precise(value)} ${BYTE_UNITS[unit]}`;
}

/** `180 µs`, `2.4 ms`, `1.2 s`. */
export function microseconds(value: number): string {
  if (value < 1_000) return `${precise(value)} µs`;
  return value < 1e6 ? `${precise(value / 1e3)} ms` : `${precise(value / 1e6)} s`;
}

/** What is left: `4.2 s`, `3m 05s`, `2h 10m`, `12d 03h`. */
export function remaining(milliseconds: number): string {
  if (milliseconds < 60_000) return `${(Math.max(milliseconds, 0) / 1_000).toFixed(1)} s`;
  return span(milliseconds);
}

/** A span: `42s`, `3m 05s`, `2h 10m`, `12d 03h`. */
export function span(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1_000);
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3_600)];
  if (minutes === 0) return `${seconds}s`;
  if (hours === 0) return `${minutes}m ${pad(seconds % 60)}s`;
  if (hours < 24) return `${hours}h ${pad(minutes % 60)}m`;
  return `${whole.format(Math.floor(hours / 24))}d ${pad(hours % 24)}h`;
}

/** `30m`, `1500ms`: a span as the server reads it, in the largest unit that it is whole in. */
export function duration(milliseconds: number): string {
  const units = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1_000]] as const;
  const [unit, size] = units.find(([, size]) => milliseconds % size === 0) ?? ["ms", 1];
  return `${milliseconds / size}${unit}`;
}

/** `14:03:07.042`. */
export function timeOfDay(epochMs: number): string {
  const date = new Date(epochMs);
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => pad(part));
  return `${parts.join(":")}.${pad(date.getMilliseconds(), 3)}`;
}

/** `2026-11-28 14:03`. */
export function dateAndTime(epochMs: number): string {
  const date = new Date(epochMs);
  const day = [date.getFullYear(), pad(date.getMonth() + 1), pad(date.getDate())].join("-");
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

function pad(value: number, width = 2): string {
  return String(value).padStart(width, "0");
}

/** What went wrong, for a line. */
export function problem(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
