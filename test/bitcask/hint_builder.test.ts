/**
 * A store that is opened by its hints, without them, and by damaged ones, is the same store; and so are its listings.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { OpenEvent } from "../../lib/bitcask/log.ts";
import { SEAL_BYTES } from "../../lib/bitcask/segment.ts";
import type { ListQuery } from "../../lib/engine/engine.ts";
import type { File } from "../../lib/fs/fs.ts";
import { Disk, type DiskCall } from "../suites/disk.ts";
import { Cask, randomOf, type TestOptions } from "../suites/embedded.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

const FILL = "f".repeat(300);

function hints(disk: Disk): string[] {
  return disk.list().filter((name) => name.includes(".hint")).sort();
}

/** How many timers without a delay are set from here on: each gives others their turn. */
function countTurns(clock: ManualClock): () => number {
  const after = clock.after.bind(clock);
  let turns = 0;
  clock.after = (delayMs, callback) => {
    if (delayMs === 0) turns++;
    return after(delayMs, callback);
  };
  return () => turns;
}

/** Everything that a store can be asked. */
async function state(cask: Cask): Promise<string> {
  const stats = Object.entries(await cask.engine.stats()).filter(([name]) => !name.startsWith("memory."));
  const { cursor } = cask.engine.subscribe({});
  const told = await cask.told(cask.engine.subscribe({ from: cursor.replace(/\d+$/, "0") }));
  const lists: string[] = [];
  for (const bucket of ["b", "c"]) {
    for (const reverse of [false, true]) {
      const { entries } = await cask.engine.list(bucket, { limit: 1_000, reverse });
      lists.push(entries.map((entry) => `${textOf(entry.key)}:${entry.revision}:${entry.expiresAt}`).join(" "));
    }
  }
  return JSON.stringify([stats, told, lists], undefined, 1);
}

/** Seeded changes, with compactions and lives in between. */
async function lived(seed: number, options: TestOptions): Promise<Cask> {
  const random = randomOf(seed);
  const cask = await Cask.open({ segmentBytesMax: 1_500, tombstoneRetentionMs: 1 + random(2) * 100_000, ...options });
  for (let step = 0; step < 250; step++) {
    const key = `k${random(30)}`;
    switch (random(12)) {
      case 0:
      case 1:
        await cask.delete(key);
        break;
      case 2:
        await cask.engine.set("c", bytesOf(key), bytesOf("c"), { content: 2 });
        break;
      case 3:
        await cask.advance(random(20));
        break;
      default:
        await cask.set(
          key,
          `${step}`.repeat(random(40)),
          random(3) === 0 ? { deadline: { ttl: 1 + random(9_000) } } : {},
        );
    }
    if (random(80) === 0) await cask.compact();
    if (random(60) === 0) await cask.reopen();
  }
  await cask.settle();
  return cask;
}

/** The same disk, opened without its hints. */
async function scanned(cask: Cask, change: (disk: Disk) => void = () => {}): Promise<{ cask: Cask; disk: Disk }> {
  const disk = cask.disk.clone();
  for (const name of hints(disk)) disk.remove(name);
  change(disk);
  const other = new Cask(cask.options, disk);
  other.clock.stepWall(cask.clock.wall() - other.clock.wall());
  return { cask: await other.open(), disk };
}

describe("An open by hints", () => {
  const variants: Record<string, TestOptions> = {
    "small segments": {},
    "false matches": { hash: () => 77 },
    "some false matches, no cache": { hash: (_, key) => key[1]!, cacheBytesMax: 0 },
  };
  for (const [name, options] of Object.entries(variants)) {
    test(`is the open by a scan, and the store as it was: ${name}`, async () => {
      for (let seed = 1; seed <= 12; seed++) {
        const cask = await lived(seed, options);
        const before = JSON.parse(await state(cask));
        cask.disk.crash();
        const { cask: byScan, disk } = await scanned(cask);
        await cask.open();
        const found = await state(cask);
        expect(found).toBe(await state(byScan));
        // Entries in the schedule that are stale go with a restart, and so does what compaction has counted.
        const deadlines = (stats: [string, number][]) => {
          return stats.filter(([figure]) => figure !== "deadlines" && !/^(compaction|sync)[.]/.test(figure));
        };
        const [stats, told, lists] = JSON.parse(found);
        expect(`${seed} ${JSON.stringify(deadlines(stats))}`).toBe(`${seed} ${JSON.stringify(deadlines(before[0]))}`);
        expect(told).toEqual(before[1]);
        expect(lists).toEqual(before[2]);
        // The scan has left the same hints behind.
        expect(hints(disk)).toEqual(hints(cask.disk));
        for (const hint of hints(disk)) expect(disk.bytes(hint)).toEqual(cask.disk.bytes(hint));
        // What expires, expires in both.
        await cask.advance(20_000);
        await byScan.advance(20_000);
        expect(await state(cask)).toBe(await state(byScan));
      }
    });
  }

  test("finds a hint of a segment that was long at the close, unless the disk was too full for its seal", async () => {
    for (
      const [keys, isFull, sealed] of [[2_000, false, false], [40_000, false, true], [40_000, true, false]] as const
    ) {
      const cask = await Cask.open({ segmentBytesMax: 2 ** 24 });
      for (let index = 0; index < keys; index += 1_000) {
        await Promise.all(Array.from({ length: 1_000 }, (_, place) => cask.set(`k${index + place}`, FILL)));
      }
      cask.disk.before = ({ action }) => {
        if (isFull && action === "write") throw new FirkinError("FULL", "Cannot write: the test says so");
      };
      await cask.close();
      cask.disk.before = () => undefined;
      expect(cask.disk.list().includes("0000000001.hint")).toBe(sealed);
      await cask.open();
      expect((await cask.engine.stats())["keys"]).toBe(keys);
      expect([cask.get("k0"), cask.get(`k${keys - 1}`)]).toEqual([FILL, FILL]);
      // What is written now goes on behind what was.
      const { revision } = await cask.set("k0", "new") as { revision: number };
      expect(revision).toBe(keys + 1);
      await cask.reopen();
      expect(cask.get("k0")).toBe("new");
    }
  });

  test("reads nothing of a sealed segment but header and seal", async () => {
    const cask = await Cask.open({ segmentBytesMax: 4_096 });
    for (let index = 0; index < 200; index++) await cask.set(`k${index}`, FILL);
    await cask.close();
    const keys = (await cask.open()).engine.stats();
    expect((await keys)["keys"]).toBe(200);
    await cask.close();
    const last = cask.disk.segments().at(-1)!;
    for (const name of cask.disk.segments().filter((segment) => segment !== last)) {
      const bytes = cask.disk.bytes(name);
      cask.disk.put(name, bytes.fill(0xff, 32, bytes.length - SEAL_BYTES));
    }
    await cask.open();
    expect((await cask.engine.stats())["keys"]).toBe(200);
    expect(await errorCode(() => cask.engine.get("b", bytesOf("k0")))).toBe("CORRUPT");
    expect(await errorCode(() => cask.engine.list("b", { limit: 3 }))).toBe("CORRUPT");
    expect(cask.get("k199")).toBe(FILL);
    expect(cask.get("missing")).toBeUndefined();
  });

  // Every single bit is flipped in the tests of checkHint().
  test("with a bad hint (a flipped bit, a cut, another segment's or store's) is the open by a scan", async () => {
    const cask = await Cask.open({ segmentBytesMax: 400 });
    for (let index = 0; index < 12; index++) await cask.set(`k${index % 5}`, "v".repeat(index * 5));
    await cask.delete("k1");
    await cask.close();
    const name = hints(cask.disk)[0]!;
    const whole = cask.disk.bytes(name);
    const expected = await state((await scanned(cask)).cask);
    const bad: Uint8Array[] = [];
    for (let at = 0; at < whole.length; at++) {
      const other = whole.slice();
      other[at]! ^= 1 << (at % 8);
      bad.push(other, whole.slice(0, at));
    }
    bad.push(cask.disk.bytes(hints(cask.disk)[1]!));
    const stranger = new Cask(cask.options, new Disk());
    stranger.clock.random(new Uint8Array(3));
    await stranger.open();
    for (let index = 0; index < 12; index++) await stranger.set(`k${index % 5}`, "v".repeat(index * 5));
    await stranger.close();
    bad.push(stranger.disk.bytes(name));
    for (const bytes of bad) {
      const { cask: other, disk } = await scanned(cask, (copy) => {
        for (const hint of hints(cask.disk)) copy.put(hint, cask.disk.bytes(hint));
        copy.put(name, bytes);
      });
      expect(await state(other)).toBe(expected);
      // It is made anew.
      expect(disk.bytes(name)).toEqual(whole);
    }
  });

  test("with a bad hint, to read, is the same store, and changes nothing", async () => {
    const cask = await Cask.open({ segmentBytesMax: 400 });
    for (let index = 0; index < 12; index++) await cask.set(`k${index % 5}`, "v".repeat(index * 5));
    await cask.close();
    const all = await (await cask.open()).all();
    await cask.close();
    const [first, second] = hints(cask.disk);
    const bytes = cask.disk.bytes(first!);
    bytes[110]! ^= 1;
    cask.disk.put(first!, bytes);
    cask.disk.remove(second!);
    const before = hints(cask.disk);
    await cask.open({ readOnly: true });
    expect(await cask.all()).toBe(all);
    for (let index = 0; index < 5; index++) expect(all).toContain(`k${index}=${cask.get(`k${index}`)}`);
    await cask.close();
    expect(hints(cask.disk)).toEqual(before);
    expect(cask.disk.bytes(first!)).toEqual(bytes);
  });

  test("tells how far it is, when it takes long, and lets others have their turn", async () => {
    const cask = await Cask.open({ segmentBytesMax: 64 * 1024, sync: "os" });
    for (let index = 0; index < 30_000; index++) void cask.set(`k${index}`, "v".repeat(10));
    await cask.set("last", "1");
    await cask.close();
    const clock = new ManualClock(cask.clock.wall());
    // Each look at the clock takes time.
    let ms = 0;
    clock.monotonic = () => ms += 50;
    cask.clock = clock;
    const turns = countTurns(clock);
    await cask.open();
    // A look after some 500 entries each.
    expect(turns()).toBeGreaterThan(30);
    const told = cask.events.filter((event) => event.type === "open");
    expect(told.length).toBeLessThanOrEqual(ms / 1_000 + 1);
    const { milliseconds, ...last } = told.at(-1)!;
    const totalSegments = cask.disk.segments().length;
    expect(last).toEqual({
      type: "open",
      phase: "done",
      segments: totalSegments,
      totalSegments,
      records: 30_001,
      totalRecords: 30_001,
    });
    const phases = ["segments", "hints", "done"];
    let before: OpenEvent = { ...told[0]!, phase: "segments", segments: 0, records: 0, milliseconds: 0 };
    for (const event of told) {
      expect(phases.indexOf(event.phase)).toBeGreaterThanOrEqual(phases.indexOf(before.phase));
      expect(event.segments).toBeGreaterThanOrEqual(before.segments);
      expect(event.records).toBeGreaterThanOrEqual(before.records);
      expect(event.records).toBeLessThanOrEqual(event.totalRecords);
      expect(event.milliseconds).toBeGreaterThan(before.milliseconds);
      before = event;
    }
    expect(milliseconds).toBeGreaterThan(1_000);
  });

  test("tells nothing when it is short", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    await cask.reopen();
    expect(cask.events).toEqual([]);
  });

  test("does not trust a hint that is older than its segment", async () => {
    const cask = await Cask.open({ segmentBytesMax: 4_096 });
    await cask.set("a", "old");
    await cask.finish(cask.engine.compact());
    await cask.close();
    const stale = cask.disk.bytes(hints(cask.disk)[0]!);
    const second = await Cask.open({ segmentBytesMax: 4_096 });
    await second.set("a", "new");
    await second.finish(second.engine.compact());
    await second.close();
    // The same store id, segment id and length: the seals differ.
    expect(second.disk.bytes(hints(second.disk)[0]!).subarray(0, 34)).toEqual(stale.subarray(0, 34));
    second.disk.put(hints(second.disk)[0]!, stale);
    await second.open();
    expect(second.get("a")).toBe("new");
  });

  test("knows the deadlines, and tells of them", async () => {
    const cask = await Cask.open({ segmentBytesMax: 400 });
    for (let index = 0; index < 12; index++) await cask.set(`k${index}`, "v".repeat(50), { deadline: { ttl: 1_000 } });
    await cask.set("k3", "stays");
    await cask.reopen();
    // Not that of the record that was replaced.
    expect((await cask.engine.stats())["deadlines"]).toBe(11);
    const subscription = cask.engine.subscribe({});
    await cask.advance(1_000);
    expect((await cask.told(subscription)).toSorted()).toEqual(
      [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11].map((index) => `expire k${index}`).toSorted(),
    );
    expect(await cask.all()).toBe("k3=stays");
  });

  test("knows time and revision when every segment is sealed", async () => {
    const cask = await Cask.open();
    await cask.set("due", "1", { deadline: { ttl: 4_000 } });
    cask.disk.before = ({ action, name }) => {
      if (action === "create" && name.endsWith("2.segment")) throw new FirkinError("FULL", "Cannot create it: no room");
    };
    await cask.advance(3_999);
    for (let index = 0; index < 3; index++) await cask.set("a", `${index}`);
    const { revision } = cask.engine.getSync("b", bytesOf("a"))!;
    // The segment is sealed, and compaction finds no room.
    expect(await errorCode(() => cask.compact())).toBe("FULL");
    await cask.settle();
    expect(hints(cask.disk)).toEqual(["0000000001.hint"]);
    cask.disk.crash();
    cask.clock.stepWall(-10_000);
    await cask.open();
    expect(cask.get("due")).toBe("1");
    cask.clock.advance(1);
    expect(cask.get("due")).toBeUndefined();
    const result = await cask.set("a", "new", { ifRevision: revision });
    expect(result.ok && result.revision).toBeGreaterThan(revision);
  });

  test("removes what is left over", async () => {
    const cask = await Cask.open({ segmentBytesMax: 400 });
    for (let index = 0; index < 12; index++) await cask.set(`k${index}`, "v".repeat(50));
    await cask.close();
    const before = hints(cask.disk);
    expect(before.length).toBe(cask.disk.segments().length - 1);
    cask.disk.put("0000000099.hint", cask.disk.bytes(before[0]!));
    cask.disk.put("0000000001.hint.new", Uint8Array.of(1));
    await cask.reopen();
    expect(hints(cask.disk)).toEqual(before);
  });
});

describe("Hints of a store that is open", () => {
  test("are made of sealed segments and of what compaction makes, and go with them", async () => {
    const cask = await Cask.open({ segmentBytesMax: 4_096 });
    for (let index = 0; index < 60; index++) await cask.set(`k${index % 9}`, FILL);
    await cask.settle();
    const ids = (names: string[]): string[] => names.map((name) => name.slice(0, 10));
    expect(ids(hints(cask.disk))).toEqual(ids(cask.disk.segments()).slice(0, -1));
    await cask.compact();
    await cask.settle();
    expect(ids(hints(cask.disk))).toEqual(ids(cask.disk.segments()));
    expect(cask.disk.segments().length).toBe(1);
  });

  test("leave no file open", async () => {
    const cask = await Cask.open({ segmentBytesMax: 400 });
    const held = new Map<File, string>();
    const { disk } = cask;
    const open = disk.open.bind(disk);
    disk.open = (name, mode) => {
      const file = open(name, mode);
      const close = file.close.bind(file);
      file.close = () => {
        held.delete(file);
        close();
      };
      held.set(file, name);
      return file;
    };
    const heldHints = (): string[] => [...held.values()].filter((name) => name.includes("hint")).toSorted();
    await cask.reopen();
    for (let index = 0; index < 30; index++) await cask.set(`k${index % 5}`, "v".repeat(50));
    await cask.settle();
    // A listing reads them all.
    await cask.all();
    expect(heldHints()).toEqual(hints(disk));
    await cask.compact();
    await cask.settle();
    await cask.all();
    for (const name of heldHints()) expect(hints(disk)).toContain(name);
    disk.put(hints(disk)[0]!, Uint8Array.of(1, 2, 3));
    await cask.reopen();
    for (const name of heldHints()) expect(hints(disk)).toContain(name);
    await cask.close();
    expect([...held.values()]).toEqual([]);
  });

  test("are finished by a close, without a turn of the clock", async () => {
    const cask = await Cask.open({ segmentBytesMax: 400 });
    for (let index = 0; index < 12; index++) await cask.set(`k${index}`, "v".repeat(50));
    expect(hints(cask.disk)).toEqual([]);
    await cask.engine.close();
    expect(hints(cask.disk).length).toBe(cask.disk.segments().length - 1);
    expect(hints(cask.disk).length).toBeGreaterThan(2);
  });

  test("are left to the next open when a close would have to make many", async () => {
    const cask = await Cask.open({ segmentBytesMax: 40 * 1024 * 1024, valueBytesMax: 2 ** 26 });
    const value = "v".repeat(39 * 1024 * 1024);
    for (const key of ["a", "b", "c"]) await cask.set(key, value);
    await cask.engine.close();
    expect(hints(cask.disk)).toEqual(["0000000001.hint"]);
    await cask.open();
    expect(hints(cask.disk)).toEqual(["0000000001.hint", "0000000002.hint", "0000000003.hint"]);
  });

  test("are given up when they cannot be written, and listings go on", async () => {
    for (const action of ["create", "write", "rename"] as const) {
      const cask = await Cask.open({ segmentBytesMax: 4_096, cacheBytesMax: 0 });
      const refuse = ({ action: asked, name }: DiskCall): void => {
        if (asked === action && name.includes(".hint")) throw new FirkinError("FULL", "Cannot write: the test says so");
      };
      cask.disk.before = refuse;
      for (let index = 0; index < 60; index++) await cask.set(`k${index % 9}`, `${index}`.repeat(150));
      await cask.settle();
      // Nor is what was written of them: it would take room.
      expect(hints(cask.disk)).toEqual([]);
      const all = await cask.all();
      expect(all.split(" ").length).toBe(9);
      await cask.compact();
      await cask.settle();
      expect(await cask.all()).toBe(all);
      cask.disk.crash();
      cask.disk.before = refuse;
      await cask.open();
      expect(await cask.all()).toBe(all);
      expect(hints(cask.disk).filter((name) => name.endsWith(".hint"))).toEqual([]);
      cask.disk.before = () => {};
      await cask.reopen();
      // The last one was begun for the clean mark.
      expect(hints(cask.disk).length).toBe(cask.disk.segments().length - 1);
      expect(await cask.all()).toBe(all);
    }
  });

  test("that are damaged are found by the listing, which is whole all the same", async () => {
    for (const reverse of [false, true]) {
      for (let place = 0; place < 8; place++) {
        const cask = await Cask.open({ segmentBytesMax: 64 * 1024, cacheBytesMax: 0 });
        for (let index = 0; index < 700; index++) {
          void cask.set(`key-${String(index).padStart(4, "0")}`, "v".repeat(60));
        }
        await cask.set("key-end", "v".repeat(40_000));
        await cask.reopen();
        const name = hints(cask.disk)[0]!;
        const file = cask.disk.open(name, "write");
        const byte = new Uint8Array(1);
        const at = 94 + Math.floor((file.size() - 94) * place / 8);
        file.read(byte, at);
        byte[0]! ^= 4;
        file.write(byte, at);
        const { entries } = await cask.engine.list("b", { limit: 1_000, reverse });
        const keys = entries.map(({ key }) => textOf(key)!);
        expect(new Set(keys).size).toBe(701);
        expect(reverse ? keys.toReversed() : keys).toEqual(keys.toSorted());
        await cask.settle();
        // It has been made anew.
        await cask.reopen();
        expect((await cask.engine.list("b", { limit: 1_000 })).entries.length).toBe(701);
      }
    }
  });

  test("say whose record it is that is damaged, so that no other key minds", async () => {
    const cask = await Cask.open({ segmentBytesMax: 4_096, hash: () => 1 });
    await cask.set("a", "value");
    await cask.set("b", "other");
    for (let index = 0; index < 12; index++) await cask.set(`k${index}`, FILL);
    await cask.close();
    const first = cask.disk.segments()[0]!;
    const bytes = cask.disk.bytes(first);
    bytes[32 + 26 + 1]! ^= 1;
    cask.disk.put(first, bytes);
    await cask.open();
    expect(await errorCode(() => cask.engine.get("b", bytesOf("a")))).toBe("CORRUPT");
    expect(cask.get("b")).toBe("other");
    expect(cask.get("missing")).toBeUndefined();
    await cask.set("new", "1");
    expect(await errorCode(() => cask.engine.get("b", bytesOf("a")))).toBe("CORRUPT");
    expect((await cask.set("a", "2")).ok).toBe(true);
    expect(cask.get("a")).toBe("2");
    expect(cask.get("new")).toBe("1");
  });
});

describe("Listings", () => {
  test("of a store that was only written to sort in turns, and later ones find that in order", async () => {
    const cask = await Cask.open({ segmentBytesMax: 16 * 1024 * 1024, sync: "os" });
    const write = async (from: number): Promise<void> => {
      for (let index = from; index < from + 40_000; index++) void cask.set(`k${index % 50_000}`, "v");
      await cask.engine.sync();
    };
    await write(0);
    // Nothing is sorted while nobody asks.
    expect((await cask.engine.stats())["memory.orderBytes"]).toBe(0);
    const turns = countTurns(cask.clock);
    const first = cask.finish(cask.engine.list("b", { limit: 3, start: bytesOf("k39") }));
    // What is written meanwhile is there too.
    void cask.set("k3900000", "v");
    expect((await first).entries.map(({ key }) => textOf(key))).toEqual(["k39", "k390", "k3900"]);
    expect(turns()).toBeGreaterThan(1);
    await write(40_000);
    // No turn of the clock is needed now: at most a chunk is left to sort.
    const { entries } = await cask.engine.list("b", { limit: 3, start: bytesOf("k4999") });
    expect(entries.map(({ key }) => textOf(key))).toEqual(["k4999", "k49990", "k49991"]);
    expect((await cask.engine.list("b", { limit: 1, reverse: true })).entries.map(({ key }) => textOf(key))).toEqual([
      "k9999",
    ]);
    await cask.close();
  });

  test("are a sorted Map, page by page, while writes, hints and compactions go on", async () => {
    for (let seed = 1; seed <= 25; seed++) {
      const random = randomOf(seed);
      const cacheBytesMax = [0, 8_000, 1_000_000][random(3)]!;
      const cask = await Cask.open({ segmentBytesMax: 600 + random(3_000), cacheBytesMax, tombstoneRetentionMs: 1 });
      const model = new Map<string, string>();
      const key = (): string => `${"xyz"[random(3)]}${random(20)}`;
      let compaction: Promise<void> | undefined;
      for (let step = 0; step < 300; step++) {
        const name = key();
        if (random(4) === 0) {
          model.delete(name);
          await cask.delete(name);
        } else {
          model.set(name, `${step}`.repeat(random(30)));
          await cask.set(name, model.get(name)!);
        }
        // One turn: whatever is under way is somewhere in the middle.
        if (random(3) === 0) cask.clock.advance(0);
        if (compaction === undefined && random(40) === 0) {
          compaction = cask.engine.compact().then(() => void (compaction = undefined));
        }
        if (random(5) === 0) expect(`${seed} ${await page(cask, random, key)}`).toBe(`${seed} ${expectedPage(model)}`);
        if (random(70) === 0) {
          if (compaction !== undefined) await cask.finish(compaction);
          if (random(2) === 0) await cask.reopen();
          else {
            cask.disk.crash();
            await cask.open();
          }
        }
      }
    }
  });

  let query: ListQuery = { limit: 1 };

  async function page(cask: Cask, random: (limit: number) => number, key: () => string): Promise<string> {
    query = {
      limit: 1 + random(12),
      reverse: random(2) === 0,
      ...(random(3) === 0 ? { prefix: bytesOf(key().slice(0, 1 + random(2))) } : {}),
      ...(random(3) === 0 ? { start: bytesOf(key()) } : {}),
      ...(random(3) === 0 ? { end: bytesOf(key()) } : {}),
      ...(random(3) === 0 ? { after: bytesOf(key()) } : {}),
    };
    const { entries, more } = await cask.engine.list("b", query);
    return `${entries.map((entry) => `${textOf(entry.key)}=${textOf(entry.value)}`).join(" ")} ${more}`;
  }

  function expectedPage(model: ReadonlyMap<string, string>): string {
    const { prefix, start, end, after, reverse = false, limit } = query;
    const inside = (name: string): boolean =>
      (prefix === undefined || name.startsWith(textOf(prefix)!)) &&
      (start === undefined || name >= textOf(start)!) &&
      (end === undefined || name < textOf(end)!) &&
      (after === undefined || (reverse ? name < textOf(after)! : name > textOf(after)!));
    const names = [...model.keys()].filter(inside).toSorted();
    if (reverse) names.reverse();
    const shown = names.slice(0, limit).map((name) => `${name}=${model.get(name)}`).join(" ");
    return `${shown} ${names.length > limit}`;
  }
});
