import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { ERRORS } from "../../lib/base/errors.ts";
import { SERVER_LIMITS } from "../../server/limits.ts";
import { CLOSE, CLOSE_FINAL, OP, SHAPES, WIRE_LIMITS } from "../../lib/wire/protocol.ts";

const document = readFileSync(new URL("../../docs/PROTOCOL.md", import.meta.url), "utf8");

/** The cells of the tables' rows that begin with a number. */
const rows = document.split("\n").filter((line) => /^\| \d+ \|/.test(line)).map((line) => {
  return line.slice(1, -1).split("|").map((cell) => cell.trim());
});

/** How many items a cell lists: commas outside brackets and parentheses separate them. */
function countItems(cell: string): number {
  const items = cell.replaceAll(/;.*|`[^`]*`|\([^)]*\)|, in the order.*/g, "").trim();
  return cell.startsWith("(none)") ? 0 : items.split(",").length;
}

describe("docs/PROTOCOL.md", () => {
  test("names every operation with its number, arguments and results", () => {
    const operations = rows.filter(([op, name]) => OP[name as keyof typeof OP] === Number(op));
    expect(operations.map(([, name]) => name)).toEqual(Object.keys(OP));
    for (const [op, name, args, results] of operations) {
      const { args: argCount, results: resultCount } = SHAPES[Number(op)]!;
      expect([name, countItems(args!), countItems(results!)]).toEqual([name, argCount, resultCount]);
    }
    expect(SHAPES.length).toBe(Object.keys(OP).length);
  });

  test("names every error", () => {
    const between = document.split("<!-- errors:start -->\n")[1]!.split("<!-- errors:end -->")[0]!;
    const expected = Object.entries(ERRORS).map(([name, { wire, retry, meaning }]) => {
      return `| ${wire} | \`${name}\` | ${retry ? "yes" : "no"} | ${meaning} |\n`;
    });
    expect(between).toBe(expected.join(""));
  });

  test("names every close code, and after which to connect again", () => {
    const closes = rows.filter(([code]) => Number(code) >= 1001).map((
      [code, , again],
    ) => [Number(code), again === "no"]);
    const codes = Object.values(CLOSE).filter((code) => code !== CLOSE.normal);
    expect(closes).toEqual(codes.map((code) => [code, CLOSE_FINAL.has(code)]));
  });

  test("names every limit of a server, those that hello tells first, with its default", () => {
    const between = document.split("<!-- limits:start -->\n")[1]!.split("<!-- limits:end -->")[0]!;
    const limits = [...between.matchAll(/^\| (\w+)[^|]*\| ([\d,]+)( KiB| MiB)? \|/gm)].map(([, name, count, unit]) => {
      return [name, Number(count!.replaceAll(",", "")) * (unit === " MiB" ? 2 ** 20 : unit === " KiB" ? 2 ** 10 : 1)];
    });
    expect(limits).toEqual(Object.entries(SERVER_LIMITS));
    expect(limits.slice(0, 7)).toEqual(Object.entries(WIRE_LIMITS));
  });
});
