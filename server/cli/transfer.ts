/**
 * `firkin import | export`: the entries of a bucket from and to a file or a pipe.
 *
 * An import writes slices as large as the store takes, the next one read while the one before is on its way. What is
 * acknowledged is noted beside the source: an import that was cut short goes on there when it is started again, and
 * sets at most a few slices twice, which changes nothing. When it is done the note is removed. (What is acknowledged is
 * as safe as the store's policy says: after a power cut of one with `interval`, `--restart`.) An export to
 * a file goes on behind the last line that is whole (`--resume`). A pipe cannot be continued.
 *
 * A single-read key's value is for its taker: an export leaves such keys out, and says how many.
 *
 * What only these commands need is loaded when they run.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createReadStream, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { open as openFile } from "node:fs/promises";
import process from "node:process";
import type { Command } from "commander";
import { Option } from "commander";
import { FirkinError, messageOf } from "../../lib/base/errors.ts";
import { type Engine, type Entry, PAGE_ENTRIES_MAX, type SetEntry } from "../../lib/engine/engine.ts";
import { milliseconds } from "../../lib/store/bucket.ts";
import { checkBucketName } from "../../lib/store/store.ts";
import { EXIT, grouped, note } from "./output.ts";
import type { Format, RowOptions } from "./rows.ts";
import { examples, type TargetFlags, withStore, withTarget } from "./targets.ts";

/** A slice's keys and values. */
const SLICE_BYTES_MAX = 1024 * 1024;
/** How far an import is, is shown and noted this often. */
const TELL_EVERY_MS = 250;
/** A line of an export is looked for in the last so many bytes of its file. */
const TAIL_BYTES = 4 * 1024 * 1024;

interface ImportFlags extends TargetFlags {
  readonly format?: Format;
  readonly key?: string;
  readonly ttl?: string;
  readonly restart?: true;
}

interface ExportFlags extends TargetFlags {
  readonly format?: Format;
  readonly prefix?: string;
  readonly resume?: true;
}

/** Adds the commands to the program; each action sets the exit code. */
export function addTransferCommands(firkin: Command, exit: (code: number) => void): void {
  const formats = (): Option =>
    new Option("--format <name>", "ndjson or csv; by the file's name when absent").choices(["ndjson", "csv"]);
  const load = withTarget(
    firkin.command("import").description("set the entries of a file in a bucket").argument("<bucket>")
      .argument("<file>", "NDJSON or CSV; - reads standard input"),
  ).addOption(formats())
    .option("--key <pattern>", "rows are values, and this is their key: a column, or text such as {country}/{name}")
    .option("--ttl <duration>", "how long an entry lives that has no end of its own")
    .option("--restart", "from the beginning, also when an import of this file was cut short");
  examples(
    load,
    "firkin import users users.ndjson",
    "firkin import cities cities.csv --key '{country}/{name}/{lat},{lng}'",
    "zcat users.ndjson.gz | firkin import users -",
  ).action(async (bucket: string, file: string, flags: ImportFlags) => exit(await importCommand(bucket, file, flags)));

  const save = withTarget(
    firkin.command("export").description("write the entries of a bucket to a file").argument("<bucket>")
      .argument("[file]", "NDJSON or CSV; standard output when absent or -", "-"),
  ).addOption(formats())
    .option("--prefix <text>", "only keys that begin with this")
    .option("--resume", "go on behind the last line of the file (NDJSON)");
  examples(
    save,
    "firkin export users users.ndjson",
    "firkin export users - --prefix a | gzip > a.ndjson.gz",
    "firkin export users users.csv --data-dir ./data",
  ).action(async (bucket: string, file: string, flags: ExportFlags) => exit(await exportCommand(bucket, file, flags)));
}

/** By the ending of a file's name. */
function formatOf(path: string): Format {
  return path.toLowerCase().endsWith(".csv") ? "csv" : "ndjson";
}

// --- import ---

async function importCommand(bucket: string, file: string, flags: ImportFlags): Promise<number> {
  checkBucketName(bucket);
  const options: RowOptions = {
    ...(flags.key !== undefined && { key: flags.key }),
    ...(flags.ttl !== undefined && { ttl: milliseconds(flags.ttl) }),
  };
  const isPipe = file === "-";
  if (!isPipe && !existsSync(file)) throw new Error(`Cannot read ${file}: there is no such file`);
  const bookmark = isPipe ? undefined : new Bookmark(file, [bucket, flags.url, flags.dataDir, flags.key].join(" "));
  if (flags.restart === true) bookmark?.remove();
  const done = bookmark?.read() ?? 0;
  if (done > 0) note(`goes on behind ${grouped(done)} entries of ${file}; --restart begins anew`);
  return await withStore(flags, async (store) => {
    const source = isPipe ? process.stdin : createReadStream(file);
    const total = isPipe ? undefined : statSync(file).size;
    const { Progress } = await import("./progress.ts");
    const { readEntries } = await import("./rows.ts");
    const progress = new Progress("import", total, done);
    const load = new Load(store.engine, bucket, done, (count, at) => {
      bookmark?.write(count);
      progress.show(at, count, total);
    });
    let words: string;
    try {
      await load.run(readEntries(source, flags.format ?? formatOf(file), options));
    } finally {
      bookmark?.write(load.written);
      words = progress.end(load.written);
    }
    bookmark?.remove();
    note(`imported ${grouped(load.written - done)} entries into ${bucket} (${words})`);
    return EXIT.done;
  }, "make");
}

/** Entries on their way into a bucket, in slices. */
class Load {
  /** Entries of the source that are acknowledged, those of an earlier import with them. */
  written: number;
  readonly #engine: Engine;
  readonly #bucket: string;
  readonly #skip: number;
  readonly #acknowledged: (count: number, at: number) => void;
  #told = performance.now();

  constructor(engine: Engine, bucket: string, skip: number, acknowledged: (count: number, at: number) => void) {
    this.#engine = engine;
    this.#bucket = bucket;
    this.#skip = skip;
    this.written = skip;
    this.#acknowledged = acknowledged;
  }

  async run(entries: AsyncIterable<{ readonly entry: SetEntry; readonly end: number }>): Promise<void> {
    const { batchOperationsMax, batchBytesMax } = this.#engine.limits;
    const bytesMax = Math.min(batchBytesMax, SLICE_BYTES_MAX);
    let [slice, bytes, seen, last]: [SetEntry[], number, number, number] = [[], 0, 0, 0];
    let onItsWay: Promise<void> = Promise.resolve();
    const send = async (): Promise<void> => {
      await onItsWay;
      const [count, at] = [seen, last];
      onItsWay = this.#engine.setMany(this.#bucket, slice).then(() => this.#tell(count, at));
      onItsWay.catch(() => {}); // whoever awaits it next is told
      [slice, bytes] = [[], 0];
    };
    try {
      for await (const { entry, end } of entries) {
        if (seen < this.#skip) {
          seen++;
          continue;
        }
        const length = entry.key.length + entry.value.length;
        if (slice.length >= batchOperationsMax || (slice.length > 0 && bytes + length > bytesMax)) await send();
        slice.push(entry);
        bytes += length;
        seen++;
        last = end;
      }
      if (slice.length > 0) await send();
    } finally {
      await onItsWay;
    }
  }

  #tell(count: number, at: number): void {
    this.written = count;
    const now = performance.now();
    if (now - this.#told < TELL_EVERY_MS) return;
    this.#told = now;
    this.#acknowledged(count, at);
  }
}

/** How far an import of a file has come, noted beside it. */
class Bookmark {
  readonly #path: string;
  /** The file and what is done with it: another file, or another import of it, begins anew. */
  readonly #purpose: string;
  #failed = false;

  constructor(file: string, purpose: string) {
    const { size, mtimeMs } = statSync(file);
    this.#path = `${file}.import`;
    this.#purpose = `${size} ${mtimeMs} ${purpose}`;
  }

  read(): number {
    if (!existsSync(this.#path)) return 0;
    const [count = "", ...purpose] = readFileSync(this.#path, "utf8").trimEnd().split("\n");
    return purpose.join("\n") === this.#purpose.trimEnd() ? Number(count) : 0;
  }

  /** Notes it; where nothing can be written, an import that is cut short begins anew. */
  write(count: number): void {
    if (this.#failed) return;
    try {
      writeFileSync(this.#path, `${count}\n${this.#purpose}\n`);
    } catch (error) {
      this.#failed = true;
      note(`cannot note how far the import is: ${messageOf(error)}`);
    }
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}

// --- export ---

async function exportCommand(bucket: string, file: string, flags: ExportFlags): Promise<number> {
  checkBucketName(bucket);
  const isPipe = file === "-";
  const format = flags.format ?? formatOf(file);
  if (flags.resume === true && (isPipe || format === "csv")) {
    throw new TypeError("Cannot use --resume but with a file of NDJSON: nothing says where CSV or a pipe ended");
  }
  if (!isPipe && flags.resume !== true && existsSync(file)) {
    throw new Error(`Cannot write ${file}: it is there already; --resume goes on behind its last line`);
  }
  return await withStore(flags, async (store) => {
    const sink = isPipe ? undefined : await openFile(file, "a+");
    const { Progress } = await import("./progress.ts");
    const { rowsText } = await import("./rows.ts");
    const progress = new Progress("export", undefined);
    let [count, once] = [0, 0];
    try {
      const after = sink === undefined || flags.resume !== true ? undefined : await lastKey(sink);
      for await (const page of pages(store.engine, bucket, flags.prefix, after)) {
        const shown = page.filter((entry) => entry.once !== true);
        once += page.length - shown.length;
        await write(sink, rowsText(shown, format, count === 0 && after === undefined));
        count += shown.length;
        progress.show(count, count);
      }
      await sink?.sync();
    } finally {
      await sink?.close();
    }
    const left = once === 0 ? "" : `, ${grouped(once)} single-read keys left out`;
    note(`exported ${grouped(count)} entries of ${bucket} (${progress.end(count)}${left})`);
    return EXIT.done;
  });
}

async function* pages(
  engine: Engine,
  bucket: string,
  prefix: string | undefined,
  from: Uint8Array | undefined,
): AsyncGenerator<readonly Entry[], void, undefined> {
  for (let [after, more] = [from, true]; more;) {
    const page = await engine.list(bucket, {
      limit: PAGE_ENTRIES_MAX,
      ...(prefix !== undefined && { prefix: Buffer.from(prefix) }),
      ...(after && { after }),
    });
    yield page.entries;
    after = page.entries.at(-1)?.key;
    more = page.more && after !== undefined;
  }
}

async function write(sink: Awaited<ReturnType<typeof openFile>> | undefined, text: string): Promise<void> {
  if (sink !== undefined) await sink.writeFile(text);
  else if (!process.stdout.write(text)) await new Promise((resolve) => process.stdout.once("drain", resolve));
}

/** Cuts what is left of an unfinished line, and says the key of the last that is whole. */
async function lastKey(sink: Awaited<ReturnType<typeof openFile>>): Promise<Uint8Array | undefined> {
  const { size } = await sink.stat();
  const start = Math.max(size - TAIL_BYTES, 0);
  const { buffer, bytesRead } = await sink.read(Buffer.alloc(size - start), 0, size - start, start);
  const end = buffer.subarray(0, bytesRead).lastIndexOf(10) + 1;
  await sink.truncate(start + end);
  if (end === 0) {
    if (start > 0) throw new FirkinError("INVALID", "Cannot go on: the file's last line is too long to be an entry");
    return undefined;
  }
  const { keyOf } = await import("../representations.ts");
  const line = buffer.toString("utf8", buffer.lastIndexOf(10, end - 2) + 1, end - 1);
  return keyOf(JSON.parse(line) as Record<string, unknown>);
}
