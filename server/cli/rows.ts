/**
 * Entries as lines of text: NDJSON, one JSON object a line, and CSV with a line of titles.
 *
 * What `export` writes, `import` reads back as it was: key, value, content type and deadline. A value stands as JSON or
 * text where that gives the same bytes again, else as base64. Rows of another making become entries by a key that is
 * put together of their members (`--key`): the row itself is the value.
 *
 * A row knows where it ends in its source, so that an import can say how far it is and go on behind it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { parse } from "csv-parse";
import { stringify } from "csv-stringify/sync";
import { compareBytes, decodeText, encodeText } from "../../lib/base/bytes.ts";
import { CONTENT, type Content, CONTENT_NAMES, encodeValue } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { Entry, SetEntry } from "../../lib/engine/engine.ts";
import { keyOf, membersOf, valueOf } from "../representations.ts";
import { cborToJson } from "../transcode.ts";

/** What a file of entries is. */
export type Format = "ndjson" | "csv";

/** The columns of CSV, and the members of a line of NDJSON. */
const MEMBERS = ["key", "keyBase64", "content", "value", "base64", "expiresAt"] as const;
/** Told by REST too, and of no use to an import. */
const PASSED_OVER = ["revision", "once"] as const;

/** An entry that was read. */
export interface ReadEntry {
  readonly entry: SetEntry;
  /** Bytes of the source up to its end. */
  readonly end: number;
}

// --- writing ---

/** Entries as text, with the line of titles when they are the first. */
export function rowsText(entries: readonly Entry[], format: Format, first: boolean): string {
  const rows = entries.map(membersOfEntry);
  if (format === "csv") return stringify(rows, { header: first, columns: [...MEMBERS] });
  return rows.map((row) => {
    const { value, ...rest } = row;
    const isText = row.content === "text";
    const members = Object.entries(rest).map(([name, part]) => `${JSON.stringify(name)}:${JSON.stringify(part)}`);
    // In JSON a line ends between two tokens only.
    if (value !== undefined) members.push(`"value":${isText ? JSON.stringify(value) : value.replace(/[\r\n]+/g, " ")}`);
    return `{${members.join(",")}}\n`;
  }).join("");
}

interface Members {
  readonly key?: string;
  readonly keyBase64?: string;
  readonly content: string;
  /** Text as it is, anything else as JSON. */
  readonly value?: string;
  readonly base64?: string;
  readonly expiresAt?: number;
}

function membersOfEntry({ key, value, content, expiresAt }: Entry): Members {
  const name = decodeText(key);
  const text = textOf(value, content);
  return {
    ...(name === undefined ? { keyBase64: Buffer.from(key).toString("base64") } : { key: name }),
    content: CONTENT_NAMES[content]!,
    ...(text === undefined ? { base64: Buffer.from(value).toString("base64") } : { value: text }),
    ...(expiresAt !== undefined && { expiresAt }),
  };
}

/** A value as text from which the same bytes come back; undefined when there is none. */
function textOf(value: Uint8Array, content: Content): string | undefined {
  if (content === CONTENT.text) return decodeText(value);
  if (content === CONTENT.bytes) return undefined;
  const json = content === CONTENT.cbor ? cborToJson(value) : decodeText(value);
  if (json === undefined) return undefined;
  try {
    return compareBytes(encodeValue(JSON.parse(json), content), value) === 0 ? json : undefined;
  } catch {
    return undefined;
  }
}

// --- reading ---

/** What becomes of rows that no `export` wrote. */
export interface RowOptions {
  /** A member, or text with members in braces: `{country}/{name}`. Absent: rows are entries. */
  readonly key?: string;
  /** A deadline for each entry that has none of its own, in milliseconds from now. */
  readonly ttl?: number;
}

/** The entries in a stream of text. @throws {FirkinError} INVALID — a row is none, with its number */
export async function* readEntries(
  source: AsyncIterable<Uint8Array>,
  format: Format,
  options: RowOptions,
): AsyncGenerator<ReadEntry, void, undefined> {
  let number = 0;
  for await (const { row, end } of format === "csv" ? csvRows(source) : jsonRows(source)) {
    number++;
    try {
      yield { entry: entryOf(typeof row === "string" ? parseRow(row) : row, options, format), end };
    } catch (error) {
      const { code = "INVALID", message } = error as Partial<FirkinError>;
      throw new FirkinError(code, `Cannot import row ${number}: ${message}`, { cause: error });
    }
  }
}

interface Row {
  readonly row: string | Record<string, unknown>;
  readonly end: number;
}

async function* jsonRows(source: AsyncIterable<Uint8Array>): AsyncGenerator<Row> {
  let [rest, end] = [Buffer.alloc(0), 0];
  for await (const chunk of source) {
    const bytes = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, start)) {
      end += at + 1 - start;
      const row = bytes.toString("utf8", start, at).trim();
      start = at + 1;
      if (row !== "") yield { row, end };
    }
    rest = bytes.subarray(start);
  }
  const row = rest.toString("utf8").trim();
  if (row !== "") yield { row, end: end + rest.length };
}

async function* csvRows(source: AsyncIterable<Uint8Array>): AsyncGenerator<Row> {
  const parser = parse({ columns: true, bom: true, skip_empty_lines: true, info: true });
  const feeding = feed(source, parser);
  for await (
    const { record, info } of parser as AsyncIterable<{ record: Record<string, string>; info: { bytes: number } }>
  ) {
    yield { row: record, end: info.bytes };
  }
  await feeding;
}

/** Writes what comes to the parser, at its pace. */
async function feed(source: AsyncIterable<Uint8Array>, parser: ReturnType<typeof parse>): Promise<void> {
  try {
    for await (const chunk of source) {
      if (!parser.write(chunk)) await new Promise((resolve) => parser.once("drain", resolve));
    }
    parser.end();
  } catch (error) {
    parser.destroy(error as Error);
  }
}

function parseRow(text: string): Record<string, unknown> {
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch {
    throw new FirkinError("INVALID", "it is not JSON");
  }
  if (typeof row === "object" && row !== null && !Array.isArray(row)) return row as Record<string, unknown>;
  throw new FirkinError("INVALID", "it is not a JSON object");
}

function entryOf(row: Record<string, unknown>, { key, ttl }: RowOptions, format: Format): SetEntry {
  const life = ttl === undefined ? {} : { deadline: { ttl } };
  if (key !== undefined) {
    return { key: keyOfRow(row, key), value: encodeValue(row, CONTENT.cbor), content: CONTENT.cbor, ...life };
  }
  const members = format === "csv" ? unquoted(row) : row;
  const { expiresAt } = membersOf(members, [...MEMBERS, ...PASSED_OVER], "it");
  if (expiresAt !== undefined && !Number.isSafeInteger(expiresAt)) {
    throw new FirkinError("INVALID", "expiresAt is not milliseconds since 1970");
  }
  const deadline = expiresAt === undefined ? life : { deadline: { expiresAt: expiresAt as number } };
  return { key: keyOf(members), ...valueOf(members), ...deadline };
}

/** What the cells of a row stand for: an empty one for nothing, but for an empty text. */
function unquoted(row: Record<string, unknown>): Record<string, unknown> {
  const members = Object.fromEntries(Object.entries(row).filter(([, cell]) => cell !== ""));
  const { content = "json", value, base64, expiresAt } = members as Record<string, string | undefined>;
  if (content === "bytes") members["base64"] = base64 ?? "";
  else if (content === "text") {
    if (base64 === undefined) members["value"] = value ?? "";
  } else if (value !== undefined) members["value"] = JSON.parse(value);
  if (expiresAt !== undefined) members["expiresAt"] = Number(expiresAt);
  return members;
}

/** A row's key by a pattern. @throws {FirkinError} INVALID — it has no such member */
function keyOfRow(row: Record<string, unknown>, pattern: string): Uint8Array {
  const part = (name: string): string => {
    const value = row[name];
    if (typeof value === "string" || typeof value === "number") return String(value);
    throw new FirkinError("INVALID", `it has no text or number called ${name}`);
  };
  return encodeText(
    pattern.includes("{") ? pattern.replace(/\{([^{}]+)\}/g, (_, name: string) => part(name)) : part(pattern),
  );
}
