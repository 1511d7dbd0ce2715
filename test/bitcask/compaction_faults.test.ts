/**
 * Compaction against crashes, power cuts, refused calls and a full disk, at every call of a run.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import { gate } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { errorCode } from "../suites/fs.ts";

const FILL = "f".repeat(1_000);

/** Writes until the active segment is a new one. */
async function fill(cask: Cask, key = "fill"): Promise<void> {
  const before = cask.disk.segments().length;
  while (cask.disk.segments().length === before) await cask.set(key, FILL);
}

async function logBytes(cask: Cask): Promise<number> {
  return (await cask.engine.stats())["log.bytes"]!;
}

describe("Compaction, when the disk fails", () => {
  /** A store with something to compact, and what it says. */
  async function prepared(): Promise<{ cask: Cask; all: string }> {
    const cask = await Cask.open({ tombstoneRetentionMs: 1, movesPerSlice: 1 });
    for (let index = 0; index < 30; index++) await cask.set(`k${index % 4}`, FILL + index);
    await cask.delete("k1");
    await cask.advance(100);
    return { cask, all: await cask.all() };
  }

  /** Throws at the call after `skip` others, or from there on; each is then told to `after`. */
  function failAfter(cask: Cask, skip: number, once: boolean, after: () => void = () => {}): void {
    let left = skip;
    cask.disk.before = (call) => {
      const now = left-- === 0;
      if (once ? !now : left >= 0) return;
      after();
      const sync = call.action.startsWith("sync");
      throw new FirkinError(sync ? "DURABILITY" : "FULL", `Cannot ${call.action} ${call.name}: the test says so`);
    };
  }

  test("is done although its inputs cannot be opened to be cut away", async () => {
    const { cask, all } = await prepared();
    const { disk } = cask;
    const open = disk.open.bind(disk);
    disk.open = (name, mode) => {
      if (mode === "write") throw new FirkinError("IO", `Cannot open ${name}: no descriptor is left`);
      return open(name, mode);
    };
    const before = disk.segments();
    await cask.compact();
    expect(cask.events.flatMap((event) => event.type === "compaction" ? [event.phase] : [])).toContain("done");
    expect(disk.segments().filter((name) => before.includes(name))).toEqual([]);
    expect(await cask.all()).toBe(all);
  });

  for (const kind of ["fails once", "fails from there on", "loses power", "crashes"] as const) {
    test(`at every call (it ${kind}), the store is whole`, async () => {
      let ended = false;
      for (let skip = 0; !ended; skip++) {
        const { cask, all } = await prepared();
        const from = cask.disk.calls.length;
        failAfter(cask, skip, kind === "fails once");
        await errorCode(() => cask.compact());
        ended = cask.disk.calls.length - from <= skip;
        expect(await cask.all()).toBe(all);
        if (kind === "loses power") cask.disk.cutPower();
        else cask.disk.crash();
        await cask.open();
        expect(`${skip}: ${await cask.all()}`).toBe(`${skip}: ${all}`);
        await cask.set("new", "1");
        await cask.compact();
        await cask.reopen();
        expect(await cask.all()).toBe(`${all} new=1`);
      }
    });
  }

  for (const writesStay of [false, true]) {
    const rest = writesStay ? "stays" : "goes";
    test(`at every call while deletes race (what was not synced ${rest}), dead stays dead`, async () => {
      let ended = false;
      for (let skip = 0; !ended; skip++) {
        const cask = await Cask.open({ tombstoneRetentionMs: 1, movesPerSlice: 1 });
        const keys = Array.from({ length: 12 }, (_, index) => `k${index}`);
        for (const key of keys) for (let index = 0; index < 3; index++) await cask.set(key, FILL + index);
        for (const key of keys.slice(0, 3)) await cask.delete(key);
        await cask.advance(10);
        const deleted = new Set(keys.slice(0, 3));
        const asked = new Set(deleted);
        const from = cask.disk.calls.length;
        failAfter(cask, skip, false);
        let done = false;
        const compaction = errorCode(() => cask.engine.compact()).then(() => done = true);
        const deletes: Promise<unknown>[] = [];
        for (let turn = 0; !done; turn++) {
          const key = turn % 8 === 0 ? keys[3 + turn / 8] : undefined;
          if (key !== undefined && turn / 8 < 6) {
            asked.add(key);
            deletes.push(cask.delete(key).then(() => deleted.add(key), () => {}));
          }
          cask.clock.advance(0);
          await Promise.resolve();
        }
        await compaction;
        await Promise.all(deletes);
        ended = cask.disk.calls.length - from <= skip;
        cask.disk.cutPower(writesStay);
        for (let life = 0; life < 2; life++) {
          await cask.open();
          for (const key of keys) {
            if (deleted.has(key)) expect(`${skip}: ${key} ${cask.get(key)}`).toBe(`${skip}: ${key} undefined`);
            else if (!asked.has(key)) expect(cask.get(key)).toBe(`${FILL}2`);
            else expect([undefined, `${FILL}2`]).toContain(cask.get(key));
          }
          await cask.compact();
          await cask.close();
        }
      }
    });
  }

  test("at every call on a full disk, with a reserve and without, the store is whole", async () => {
    for (const reserveBytes of [0, 6_000]) {
      let ended = false;
      for (let skip = 0; !ended; skip++) {
        const cask = new Cask({ tombstoneRetentionMs: 1, reserveBytes });
        cask.disk.capacity = 60_000;
        await cask.open();
        const acked = new Map<string, string>();
        for (let index = 0; index < 80; index++) {
          const [key, value] = [`k${index % 12}`, FILL + index];
          if (await errorCode(() => cask.finish(cask.set(key, value))) === undefined) acked.set(key, value);
          await cask.settle();
        }
        for (const key of ["k1", "k2", "k3"]) await cask.delete(key).then(() => acked.delete(key), () => {});
        await cask.advance(10);
        cask.disk.capacity -= cask.disk.room;
        const from = cask.disk.calls.length;
        failAfter(cask, skip, true);
        await errorCode(() => cask.compact());
        await cask.settle();
        ended = cask.disk.calls.length - from <= skip;
        const check = (): void => {
          for (let key = 0; key < 12; key++) expect(cask.get(`k${key}`)).toBe(acked.get(`k${key}`));
        };
        check();
        cask.disk.cutPower(skip % 2 === 0);
        await cask.open();
        check();
        cask.disk.capacity += 30_000;
        await cask.compact();
        await cask.reopen();
        check();
      }
    }
  });

  test("with too little room for a run, gives back the deadest segment and tells of both", async () => {
    const cask = new Cask({ segmentBytesMax: 64 * 1024, reserveBytes: 24 * 1024 });
    cask.disk.capacity = 300_000;
    await cask.open();
    // Half of each segment lives, but for one of which little does.
    for (let index = 0; index < 180; index++) await cask.set(index % 2 === 0 ? `a${index}` : "x", FILL);
    for (let index = 64; index < 120; index += 2) await cask.delete(`a${index}`);
    cask.disk.capacity -= cask.disk.room;
    const before = await logBytes(cask);
    await errorCode(() => cask.compact());
    const phases = cask.events.flatMap((event) => event.type === "compaction" ? [event.phase] : []);
    expect(phases.slice(0, 4)).toEqual(["started", "failed", "started", "done"]);
    expect(await logBytes(cask)).toBeLessThan(before - 30_000);
    await cask.reopen();
    expect(cask.get("a0")).toBe(FILL);
    expect(cask.get("a64")).toBeUndefined();
  });

  test("under os, drops no value whose successor is not on the platter", async () => {
    const cask = await Cask.open({ sync: "os", automatic: true, segmentBytesMax: 512 * 1024 });
    await cask.set("a", "old");
    while (cask.disk.segments().length < 2) await cask.set("fill", FILL.repeat(10));
    await cask.set("a", "new");
    for (let index = 0; index < 30; index++) await cask.set("fill", FILL.repeat(10));
    for (let turn = 0; turn < 20; turn++) await cask.settle();
    expect(cask.disk.segments()[0]).not.toBe("0000000001.segment");
    cask.disk.cutPower();
    await cask.open();
    expect(["old", "new"]).toContain(cask.get("a") ?? "nothing");
  });

  test("names no segment that a refused rotation took back", async () => {
    const cask = await Cask.open({ sync: "os" });
    await fill(cask);
    const [output, end, manifest] = [gate(), gate(), gate()];
    const names: string[] = [];
    const synced: string[] = [];
    cask.disk.before = ({ action, name }) => {
      if (action === "create" && name.endsWith(".segment")) names.push(name);
      if (action !== "sync") return undefined;
      synced.push(name);
      const times = synced.filter((other) => other === name).length;
      if (name === names[0] && times === 2) return output.wait;
      // Its header was synced before; this is the sync that a run asks for before its switch.
      if (name === names[1] && times === 2) return end.wait;
      if (name !== "manifest.new" || names.length < 3) return undefined;
      cask.disk.before = () => {};
      return manifest.wait.then(() => {
        throw new FirkinError("FULL", "Cannot sync: the test says so");
      });
    };
    const compaction = errorCode(() => cask.engine.compact());
    await cask.settle();
    await cask.set("a", "1");
    output.open();
    await cask.settle();
    // A rotation has its new segment's header on the disk, and its manifest under way...
    const writes = Array.from({ length: 6 }, (_, index) => errorCode(() => cask.set(`b${index}`, FILL)));
    await cask.settle();
    expect([names.length, synced.at(-1)]).toEqual([3, "manifest.new"]);
    // ...when the run puts its own behind it.
    end.open();
    await cask.settle();
    manifest.open();
    await cask.finish(compaction);
    expect(await Promise.all(writes)).toContain("FULL");
    cask.disk.crash();
    await cask.open();
    expect([cask.get("fill"), cask.get("a")]).toEqual([FILL, "1"]);
  });

  test("names no segment whose header is not on the platter", async () => {
    // A new segment is begun so many turns after the output is synced: one of them is just when the manifest is made.
    for (let turns = 0; turns < 30; turns++) {
      const cask = await Cask.open();
      await fill(cask);
      const outputSync = gate();
      const created: string[] = [];
      cask.disk.before = (call) => {
        if (call.action === "create" && call.name.endsWith(".segment")) created.push(call.name);
        if (call.action === "sync" && call.name === created[0]) return outputSync.wait;
        return call.action === "sync" && call.name === created[1] ? new Promise<void>(() => {}) : undefined;
      };
      cask.engine.compact().catch(() => {});
      await cask.settle();
      outputSync.open();
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      cask.set("a", "1").catch(() => {});
      await cask.settle();
      expect(created.length).toBe(2);
      cask.disk.cutPower();
      await cask.open();
      expect(cask.get("fill")).toBe(FILL);
    }
  });
});
