/**
 * `firkin import | export`, and the lines that they read and write: what goes out comes back as it was.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { CONTENT, CONTENT_NAMES, encodeValue } from "../../lib/base/codec.ts";
import type { Entry, SetEntry } from "../../lib/engine/engine.ts";
import { open } from "../../lib/store/open.ts";
import { type Format, readEntries, type RowOptions, rowsText } from "../../server/cli/rows.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";
import { isOn, testOn } from "../suites/tools.ts";
import { type Ended, Workplace } from "./command.ts";

/** Commands as processes, on one runtime: `cli.test.ts` has them on all. */

const VALUES: readonly (readonly [keyof typeof CONTENT, unknown])[] = [
  ["json", { a: [1, null, 'x,"y"\nz'], b: 1.5 }],
  ["cbor", { name: "Ada", tags: ["a", "b"], n: -7 }],
  ["cbor", new Date(0)],
  ["cbor", new Map<unknown, unknown>([[1, 2]])],
  ["cbor", 2n ** 70n],
  ["cbor", "12"],
  ["text", ""],
  ["text", ' one,\r\n"two" '],
  ["text", "12"],
  ["bytes", new Uint8Array([0, 255, 10])],
  ["bytes", new Uint8Array(0)],
];

/** Entries of every content type, with keys that are text and one that is not. */
function entriesOf(): Entry[] {
  return VALUES.map(([name, value], index) => ({
    key: index === 3 ? new Uint8Array([0xff, index]) : bytesOf(`k,${index}\n"`),
    value: encodeValue(value, CONTENT[name]),
    content: CONTENT[name],
    revision: index + 1,
    ...(index % 2 === 0 && { expiresAt: 2_000_000_000_000 + index }),
  }));
}

/** A text as it may come, cut at any byte. */
async function* pieces(text: string, length: number): AsyncGenerator<Uint8Array> {
  const bytes = bytesOf(text);
  for (let at = 0; at < bytes.length; at += length) yield await Promise.resolve(bytes.subarray(at, at + length));
}

async function read(text: string, format: Format, options: RowOptions = {}, length = 7): Promise<SetEntry[]> {
  const entries: SetEntry[] = [];
  let end = 0;
  for await (const row of readEntries(pieces(text, length), format, options)) {
    expect(row.end).toBeGreaterThan(end);
    end = row.end;
    entries.push(row.entry);
  }
  if (entries.length > 0) expect(end).toBe(bytesOf(text).length);
  return entries;
}

describe("rows", () => {
  test.each(["ndjson", "csv"] as const)("%s gives back the bytes, types and deadlines that went in", async (format) => {
    const entries = entriesOf();
    const text = rowsText(entries.slice(0, 4), format, true) + rowsText(entries.slice(4), format, false);
    if (format === "ndjson") expect(text.trimEnd().split("\n")).toHaveLength(entries.length);
    const back = await read(text, format);
    expect(back.map(({ key, value, content, deadline }) => [key, value, CONTENT_NAMES[content], deadline])).toEqual(
      entries.map(({ key, value, content, expiresAt }) => {
        return [key, value, CONTENT_NAMES[content], expiresAt === undefined ? undefined : { expiresAt }];
      }),
    );
  });

  test("NDJSON keeps JSON that was written on several lines, on one", async () => {
    const value = bytesOf('{\n  "a": "x\\ny"\r\n}');
    const line = rowsText([{ key: bytesOf("k"), value, content: CONTENT.json, revision: 1 }], "ndjson", true);
    expect(line.split("\n")).toHaveLength(2);
    expect(JSON.parse(textOf((await read(line, "ndjson"))[0]!.value)!)).toEqual({ a: "x\ny" });
  });

  test("rows of another making are values, by a key that is put together of them", async () => {
    const csv = 'country,name,lat\nAT,"Wien, Alsergrund",48.2\nDE,Aachen,50.7\n';
    const [vienna, aachen] = await read(csv, "csv", { key: "{country}/{name}", ttl: 5_000 });
    expect(textOf(vienna!.key)).toBe("AT/Wien, Alsergrund");
    expect(aachen).toEqual({
      key: bytesOf("DE/Aachen"),
      value: encodeValue({ country: "DE", name: "Aachen", lat: "50.7" }, CONTENT.cbor),
      content: CONTENT.cbor,
      deadline: { ttl: 5_000 },
    });
    const json = '\n{"id":7,"name":"Ada"}\n\n{"id":8}';
    expect((await read(json, "ndjson", { key: "id" }, 1_000)).map(({ key }) => textOf(key))).toEqual(["7", "8"]);
  });

  test.each(
    [
      ["ndjson", "nonsense", {}],
      ["ndjson", "[1]", {}],
      ["ndjson", '{"key":"k"}', {}],
      ["ndjson", '{"key":"k","value":1,"more":2}', {}],
      ["ndjson", '{"key":"k","value":1,"expiresAt":1.5}', {}],
      ["ndjson", '{"name":{}}', { key: "name" }],
      ["csv", "key,content,value\nk,json,nonsense\n", {}],
      ["csv", "a,b\n1,2\n", {}],
    ] as const,
  )("%s that is wrong is refused with the number of its row: %s", async (format, text, options) => {
    let message = "";
    const code = await errorCode(() =>
      read(text, format, options).catch((error: Error) => {
        message = error.message;
        throw error;
      })
    );
    expect([code, message]).toEqual(["INVALID", expect.stringMatching(/^Cannot import row 1: /)]);
  });
});

/** What the commands do depends on no runtime; that they run on each is for `cli.test.ts`. */
const onBun = isOn("bun") ? describe : () => {};

onBun("firkin import and export", () => {
  let place: Workplace;
  beforeEach(() => {
    place = new Workplace();
  });
  afterEach(() => place.end());

  const target = ["--data-dir", "data"];

  async function keysOf(bucket: string): Promise<unknown[]> {
    const store = await open(place.path("data"));
    const keys: unknown[] = [];
    for await (const { key } of store.bucket(bucket).list()) keys.push(key);
    await store.close();
    return keys;
  }

  function lines({ stderr }: Ended): string[] {
    return stderr.map((line) => line.replace(/ \(\d.*\)$/, ""));
  }

  testOn("bun")("go through pipes, and leave single-read keys out", async () => {
    const store = await open(place.path("data"));
    await store.bucket("a").setMany(Array.from({ length: 2_500 }, (_, index) => [`k${index}`, index]));
    await store.bucket("a").set("secret", 1, { once: true });
    await store.close();
    const exported = await place.run(["export", "a", ...target]);
    expect(lines(exported)).toEqual(["firkin: exported 2,500 entries of a"]);
    expect(exported.stderr[0]).toContain("1 single-read keys left out");
    expect(exported.stdout).not.toContain("secret");
    const imported = await place.run(["import", "b", "-", ...target], { input: exported.stdout });
    expect(lines(imported)).toEqual(["firkin: imported 2,500 entries into b"]);
    expect(await keysOf("b")).toHaveLength(2_500);
  });

  testOn("bun")(
    "an import that was cut short goes on where it was, and an export behind its last line",
    async () => {
      const rows = Array.from({ length: 2_500 }, (_, index) => `{"key":"k${index}","value":${index}}\n`).join("");
      const write = (text: string): void => {
        writeFileSync(place.path("rows.ndjson"), text);
        utimesSync(place.path("rows.ndjson"), 1_000, 1_000);
      };
      const load = (...flags: string[]): Promise<Ended> =>
        place.run(["import", "b", "rows.ndjson", ...target, ...flags]);
      write(rows.replace('{"key":"k2100"', '["key":"k2100"'));
      const cut = await load();
      expect([cut.code, cut.stderr[0]]).toEqual([3, expect.stringMatching(/^firkin: Cannot import row 2101: /)]);
      // What was acknowledged is there, and is not sent again.
      expect(await keysOf("b")).toHaveLength(2_000);
      const store = await open(place.path("data"));
      await store.bucket("b").delete("k0");
      await store.close();
      write(rows);
      expect(lines(await load())).toEqual([
        "firkin: goes on behind 2,000 entries of rows.ndjson; --restart begins anew",
        "firkin: imported 500 entries into b",
      ]);
      expect(await keysOf("b")).toHaveLength(2_499);
      expect(existsSync(place.path("rows.ndjson.import"))).toBe(false);
      // Another file of that name begins anew.
      writeFileSync(place.path("rows.ndjson.import"), "2000\n1 2 b\n");
      expect(lines(await load())).toEqual(["firkin: imported 2,500 entries into b"]);

      expect((await place.run(["export", "b", "out.ndjson", ...target])).code).toBe(0);
      const out = readFileSync(place.path("out.ndjson"), "utf8");
      expect((await place.run(["export", "b", "out.ndjson", ...target])).code).toBe(3);
      writeFileSync(place.path("out.ndjson"), out.slice(0, out.length / 2));
      expect((await place.run(["export", "b", "out.ndjson", "--resume", ...target])).code).toBe(0);
      expect(readFileSync(place.path("out.ndjson"), "utf8")).toBe(out);
    },
  );
});
