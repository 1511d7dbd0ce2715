/**
 * Who is measured: firkin, a Map, a bare file; and what is asked of each.
 *
 * A contender gets, sets and opens as whoever uses it would write it, in the form that is fastest there and still
 * does what was asked: a value read is bytes of the caller's or a view, whichever is usual; a write is acknowledged
 * by the policy that the contender names. The rivals, which have to be installed, are in `rivals.ts`.
 *
 * @module
 */
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { open, type OpenOptions } from "../mod.ts";
import { KEY_BYTES, type MaybePromise, setAll, type Write } from "./workload.ts";

/**
 * What a contender is opened for: to hold everything in memory; to hold a hundredth of the data in memory, and what
 * every key needs; to have each write on stable storage; nothing in particular.
 */
export type Purpose = "resident" | "lean" | "durable" | "plain";

/** What is known before a contender is opened. */
export interface Setting {
  /** A folder of its own, which is there. */
  readonly folder: string;
  readonly purpose: Purpose;
  readonly keys: number;
  readonly valueBytes: number;
}

/** A store that is measured. Keys are strings, values bytes. */
export interface Contender {
  /** The value of a key. `index` is the key's number, for a file that has no index. */
  get(key: string, index: number): Uint8Array | undefined;
  /** Writes a group and returns when each write is acknowledged. */
  setAll(group: readonly Write[]): MaybePromise<void>;
  /** One write; a promise when it has to be awaited. */
  set(write: Write): MaybePromise<unknown>;
  /** As `setAll`, by a call that has one answer for all. */
  setMany?(group: readonly Write[]): MaybePromise<void>;
  /** Returns when what was written leaves no work behind. */
  settle?(): Promise<void>;
  close(): MaybePromise<void>;
  /** Bytes of memory that hold values. Where it is known, what else is in memory can be told. */
  valuesInMemory?(): MaybePromise<number>;
  /** Bytes of files that hold no data, however much data there is. */
  spareBytes?(): Promise<number>;
}

/** A kind of contender, before it is opened. */
export interface Kind {
  readonly name: string;
  /** When a write is acknowledged, in a word or two. */
  readonly policy: string;
  readonly durablePolicy?: string;
  readonly purposes: readonly Purpose[];
  /** What is closed can be opened again. */
  readonly keeps: boolean;
  /** It knows its keys, rather than their places alone. */
  readonly finds: boolean;
  /** Opens what is in the folder, or begins there. */
  open(setting: Setting): Promise<Contender>;
}

const MIB = 1024 * 1024;

/** Bytes of a whole folder. */
export function folderBytes(folder: string): number {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return names.map((name) => statSync(join(folder, name))).reduce(
    (sum, stat) => sum + (stat.isFile() ? stat.size : 0),
    0,
  );
}

// --- firkin ---

/** Bytes of a key, its value and what a record has beside them, roughly. */
function recordBytes(valueBytes: number): number {
  return KEY_BYTES + valueBytes + 28;
}

function firkinOptions({ folder, purpose, keys, valueBytes }: Setting): OpenOptions {
  const dataBytes = keys * recordBytes(valueBytes);
  switch (purpose) {
    case "resident":
      return { path: folder, sync: "os", cacheBytesMax: 4 * dataBytes + 64 * MIB };
    case "lean":
      // The active segment is in memory whatever the cache: here it is a byte per key, when there are a million.
      return { path: folder, sync: "os", cacheBytesMax: Math.floor(dataBytes / 100), segmentBytesMax: MIB };
    case "durable":
      return { path: folder, sync: "always" };
    case "plain":
      return { path: folder, sync: "os" };
  }
}

/** A promise for all writes of a group, where the bucket has that. */
type SetMany = (entries: Iterable<[string, Uint8Array]>) => Promise<unknown>;

async function openFirkin(setting: Setting): Promise<Contender> {
  const store = await open(firkinOptions(setting));
  const users = store.bucket<Uint8Array>("users", { codec: "bytes" });
  const { setMany } = users as { setMany?: SetMany };
  return {
    get: (key) => users.getSync(key),
    setAll: (group) => setAll(users, group),
    set: ({ key, value }) => users.set(key, value),
    ...(typeof setMany !== "function" ? {} : {
      async setMany(group: readonly Write[]) {
        await setMany.call(users, group.map(({ key, value }) => [key, value]));
      },
    }),
    async settle() {
      for (let quiet = 0; quiet < 2;) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        quiet = (await store.stats())["compaction.running"] === 0 ? quiet + 1 : 0;
      }
    },
    close: () => store.close(),
    valuesInMemory: async () => (await store.stats())["memory.cacheBytes"]!,
    spareBytes: async () => (await store.stats())["reserve.bytes"]!,
  };
}

/** firkin. */
export const FIRKIN: Kind = {
  name: "firkin",
  policy: "os",
  durablePolicy: "always",
  purposes: ["resident", "lean", "durable", "plain"],
  keeps: true,
  finds: true,
  open: openFirkin,
};

// --- a Map ---

function openMap(): Contender {
  const map = new Map<string, Uint8Array>();
  return {
    get: (key) => map.get(key),
    setAll(group) {
      for (const { key, value } of group) map.set(key, value);
    },
    set: ({ key, value }) => void map.set(key, value),
    valuesInMemory() {
      let bytes = 0;
      for (const value of map.values()) bytes += value.length;
      return bytes;
    },
    close: () => map.clear(),
  };
}

/** A plain Map, which keeps the values that it is given. */
export const MAP: Kind = {
  name: "Map",
  policy: "memory alone",
  purposes: ["resident", "lean"],
  keeps: false,
  finds: true,
  // deno-lint-ignore require-await
  open: async () => openMap(),
};

// --- a file ---

/** Space that is written before durable writes are measured: their sync need not change the file's size. */
const PREALLOCATED_BYTES = 64 * MIB;

function openFile({ folder, purpose, valueBytes }: Setting): Contender {
  const path = join(folder, "file");
  const file = openSync(path, existsSync(path) ? "r+" : "w+");
  const durable = purpose === "durable";
  const length = KEY_BYTES + valueBytes;
  const record = new Uint8Array(length);
  const encoder = new TextEncoder();
  let bytes = new Uint8Array(0);
  let tail = 0;
  if (durable) {
    const zeros = new Uint8Array(MIB);
    for (let at = 0; at < PREALLOCATED_BYTES; at += MIB) {
      writeSync(file, zeros, 0, MIB, at);
    }
    fdatasyncSync(file);
  }
  const setAll = (group: readonly Write[]): void => {
    const wanted = group.length * length;
    if (bytes.length < wanted) bytes = new Uint8Array(wanted);
    let end = 0;
    for (const { key, value } of group) {
      encoder.encodeInto(key, bytes.subarray(end));
      bytes.set(value, end + KEY_BYTES);
      end += length;
    }
    if (durable && tail + end > PREALLOCATED_BYTES) throw new Error("Cannot append more than was preallocated");
    if (writeSync(file, bytes, 0, end, tail) !== end) throw new Error("Cannot write the whole group");
    if (durable) fdatasyncSync(file);
    tail += end;
  };
  return {
    get(_key, index) {
      return readSync(file, record, 0, length, index * length) === length ? record.subarray(KEY_BYTES) : undefined;
    },
    setAll,
    set: (write) => setAll([write]),
    close() {
      if (fstatSync(file).size < tail) throw new Error("Cannot trust the figures: the file is too short");
      closeSync(file);
    },
  };
}

/** A bare file: keys and values in the order of the first writes, one system call for each read and each group. */
export const FILE: Kind = {
  name: "file",
  policy: "none",
  durablePolicy: "fdatasync, preallocated",
  purposes: ["resident", "lean", "durable"],
  keeps: true,
  finds: false,
  // deno-lint-ignore require-await
  open: async (setting) => openFile(setting),
};
