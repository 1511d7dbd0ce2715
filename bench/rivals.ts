/**
 * The stores that firkin is measured against, which `npm run bench -- embedded` installs into bench/node_modules.
 *
 * Each in its best honest form. What they have in common: everything they read is in memory, prepared or looked up by
 * the fastest call that returns bytes which stay the caller's; a group is one transaction or batch, when that is how
 * the store takes many writes.
 *
 * - lmdb, tuned: `encoding: "binary"` and `getBinary`; `noSync` (its form of policy `os`: the system writes when it
 *   likes, and a crash of the machine may cost the whole store, not its end alone); `useWritemap`, which halves a load,
 *   and `noMemInit`. Read-ahead and page size are left alone: the data is in memory. Each `put` has its promise,
 *   awaited in groups; `setMany` is a synchronous transaction.
 * - lmdb, default: nothing but the path. Values pass through msgpack; commits are synced in the background.
 * - classic-level: a block cache that holds the data, and no compression, which values without a pattern do not need;
 *   `batch`; no sync.
 * - SQLite: WAL and `synchronous = NORMAL`, which syncs at checkpoints; a page cache and a memory map that hold the
 *   data; prepared statements; a group is a transaction. better-sqlite3 on Node (it does not load on the others),
 *   bun:sqlite on Bun, node:sqlite on Deno.
 *
 * Durable writes: lmdb with `overlappingSync: false`, where a commit is on disk when it resolves; LevelDB's `sync`;
 * SQLite's `synchronous = FULL`.
 *
 * @module
 */
import { join } from "node:path";
import { type Contender, FILE, FIRKIN, type Kind, MAP, type Setting } from "./contenders.ts";
import { runtime } from "./harness.ts";
import type { Write } from "./workload.ts";

// Written by hand: the packages are not there when types are checked.

interface Lmdb {
  get(key: string): unknown;
  getBinary(key: string): Uint8Array | undefined;
  put(key: string, value: Uint8Array): Promise<boolean>;
  putSync(key: string, value: Uint8Array): boolean;
  transactionSync(work: () => void): void;
  close(): Promise<void>;
}

interface Level {
  open(): Promise<void>;
  getSync(key: string): Uint8Array | undefined;
  batch(operations: readonly LevelPut[], options?: { sync: boolean }): Promise<void>;
  close(): Promise<void>;
}

interface LevelPut {
  readonly type: "put";
  readonly key: string;
  readonly value: Uint8Array;
}

/** What the three SQLite modules have in common. */
interface Sqlite {
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
  close(): void;
}

interface SqliteStatement {
  run(...values: readonly unknown[]): unknown;
  get(...values: readonly unknown[]): unknown;
  /** better-sqlite3: rows are their first column. */
  pluck?(): SqliteStatement;
}

const MIB = 1024 * 1024;

/** Imports a package that the compiler does not know. */
async function load(name: string): Promise<Readonly<Record<string, unknown>>> {
  return await import(name) as Readonly<Record<string, unknown>>;
}

/** Twice what the data takes where it is stored least tightly. */
function enough({ keys, valueBytes }: Setting): number {
  return 4 * keys * (valueBytes + 60) + 64 * MIB;
}

// --- lmdb ---

async function openLmdb(setting: Setting, tuned: boolean): Promise<Contender> {
  const { open } = await load("lmdb") as {
    open: (options: Readonly<Record<string, unknown>>) => Lmdb;
  };
  const options = {
    path: join(setting.folder, "lmdb"),
    ...(tuned ? { encoding: "binary", noMemInit: true } : {}),
    ...(tuned && setting.purpose !== "durable" ? { noSync: true, useWritemap: true } : {}),
    ...(setting.purpose === "durable" ? { overlappingSync: false } : {}),
  };
  const store = open(options);
  return {
    get: tuned ? (key) => store.getBinary(key) : (key) => store.get(key) as Uint8Array | undefined,
    async setAll(group) {
      await Promise.all(group.map(({ key, value }) => store.put(key, value)));
    },
    set: ({ key, value }) => store.put(key, value),
    ...(!tuned || setting.purpose === "durable" ? {} : {
      setMany(group: readonly Write[]) {
        store.transactionSync(() => {
          for (const { key, value } of group) store.putSync(key, value);
        });
      },
    }),
    close: () => store.close(),
  };
}

// --- LevelDB ---

async function openLevel(setting: Setting): Promise<Contender> {
  const { ClassicLevel } = await load("classic-level") as {
    ClassicLevel: new (path: string, options: Readonly<Record<string, unknown>>) => Level;
  };
  const options = { valueEncoding: "view", compression: false, cacheSize: enough(setting) };
  const sync = setting.purpose === "durable";
  const store = new ClassicLevel(join(setting.folder, "level"), options);
  await store.open();
  const setAll = (group: readonly Write[]): Promise<void> => {
    return store.batch(group.map(({ key, value }) => ({ type: "put", key, value })), { sync });
  };
  let waiting: Write[] = [];
  let written: Promise<void> | undefined;
  return {
    get: (key) => store.getSync(key),
    setAll,
    // Each put is a job of its own for a pool of threads: two of one key may happen in either order. So what is set in
    // one turn is a batch, which is faster, too.
    set(write) {
      waiting.push(write);
      return written ??= Promise.resolve().then(() => {
        const group = waiting;
        waiting = [];
        written = undefined;
        return setAll(group);
      });
    },
    close: () => store.close(),
  };
}

// --- SQLite ---

const SQLITE: Readonly<
  Record<
    ReturnType<typeof runtime>["name"],
    readonly [module: string, name: string]
  >
> = { node: ["better-sqlite3", "default"], bun: ["bun:sqlite", "Database"], deno: ["node:sqlite", "DatabaseSync"] };

async function openSqlite(setting: Setting): Promise<Contender> {
  const [module, name] = SQLITE[runtime().name];
  const Database = (await load(module))[name] as new (path: string) => Sqlite;
  const database = new Database(join(setting.folder, "sqlite"));
  database.exec("PRAGMA journal_mode = WAL");
  database.exec(`PRAGMA synchronous = ${setting.purpose === "durable" ? "FULL" : "NORMAL"}`);
  database.exec(`PRAGMA cache_size = -${Math.ceil(enough(setting) / 1024)}`);
  database.exec(`PRAGMA mmap_size = ${enough(setting)}`);
  // SQLite's own advice: no row ids as long as a row is small beside a page.
  const ids = setting.valueBytes < 200 ? "WITHOUT ROWID" : "";
  database.exec(`CREATE TABLE IF NOT EXISTS pairs (key TEXT PRIMARY KEY, value BLOB NOT NULL) ${ids}`);
  const select = database.prepare("SELECT value FROM pairs WHERE key = ?");
  const plucked = select.pluck?.();
  const put = database.prepare("REPLACE INTO pairs VALUES (?, ?)");
  return {
    get: plucked === undefined
      ? (key) => (select.get(key) as { value: Uint8Array } | null | undefined)?.value
      : (key) => plucked.get(key) as Uint8Array | undefined,
    setAll(group) {
      database.exec("BEGIN IMMEDIATE");
      for (const { key, value } of group) put.run(key, value);
      database.exec("COMMIT");
    },
    set: ({ key, value }) => void put.run(key, value),
    close: () => database.close(),
  };
}

/** The rivals, the most important first. */
const RIVALS: readonly Kind[] = [
  {
    name: "lmdb tuned",
    policy: "noSync",
    durablePolicy: "synced commits",
    purposes: ["resident", "durable"],
    keeps: true,
    finds: true,
    open: (setting) => openLmdb(setting, true),
  },
  {
    name: "lmdb default",
    policy: "synced in the background",
    purposes: ["resident"],
    keeps: true,
    finds: true,
    open: (setting) => openLmdb(setting, false),
  },
  {
    name: "classic-level",
    policy: "no sync",
    durablePolicy: "sync",
    purposes: ["resident", "durable"],
    keeps: true,
    finds: true,
    open: openLevel,
  },
  {
    name: SQLITE[runtime().name][0],
    policy: "WAL, NORMAL",
    durablePolicy: "WAL, FULL",
    purposes: ["resident", "durable"],
    keeps: true,
    finds: true,
    open: openSqlite,
  },
];

/** Everybody: firkin, its rivals, and what is near the limits. */
export const CONTENDERS: readonly Kind[] = [FIRKIN, ...RIVALS, MAP, FILE];
