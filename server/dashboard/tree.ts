/**
 * A value as a tree whose branches open and close. Branches are made when they are opened, and of a long one a part at
 * a time, so that a deep or endless value costs what is looked at.
 *
 * @module
 */
import { toHex } from "../../lib/base/bytes.ts";
import { button, element } from "./dom.ts";

const PARTS = 100;
const TEXT_LENGTH = 2_000;

/** The tree of a value, its first level open. */
export function tree(value: unknown): HTMLElement {
  return element("div", { class: "tree mono" }, branch(undefined, value, true));
}

function branch(name: string | undefined, value: unknown, open: boolean): HTMLElement {
  const label = name === undefined ? [] : [element("span", { class: "name", text: name }), ": "];
  const parts = partsOf(value);
  if (parts === undefined) return element("div", { class: "leaf" }, ...label, leaf(value));
  const what = Array.isArray(value) ? `[${parts.length}]` : `{${parts.length}}`;
  const details = element(
    "details",
    {},
    element("summary", {}, ...label, element("span", { class: "muted", text: what })),
  );
  const fill = (): void => {
    if (details.open && details.childElementCount === 1) more(details, parts, 0);
  };
  details.addEventListener("toggle", fill);
  details.open = open;
  fill();
  return details;
}

function more(details: HTMLElement, parts: readonly (readonly [string, unknown])[], from: number): void {
  for (const [name, part] of parts.slice(from, from + PARTS)) details.append(branch(name, part, false));
  const left = parts.length - from - PARTS;
  if (left <= 0) return;
  const next = button(`${left} more`, () => {
    next.remove();
    more(details, parts, from + PARTS);
  }, { class: "link" });
  details.append(next);
}

function partsOf(value: unknown): [string, unknown][] | undefined {
  if (value === null || typeof value !== "object" || value instanceof Uint8Array || value instanceof Date) {
    return undefined;
  }
  if (value instanceof Map) return [...value].map(([name, part]) => [String(name), part]);
  if (value instanceof Set) return [...value].map((part, index) => [String(index), part]);
  return Object.entries(value);
}

function leaf(value: unknown): HTMLElement {
  if (typeof value === "string") {
    return element("span", { class: "string", text: JSON.stringify(value.slice(0, TEXT_LENGTH)) });
  }
  if (value instanceof Uint8Array) {
    return element("span", { class: "bytes", text: `0x${toHex(value.subarray(0, 256))}` });
  }
  if (value instanceof Date) return element("span", { class: "string", text: value.toISOString() });
  const kind = value === null ? "null" : typeof value;
  return element("span", { class: kind, text: typeof value === "bigint" ? `${value}n` : String(value) });
}
