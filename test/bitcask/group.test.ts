/**
 * Group commit, seen from the engine: what shares a write, when a write is visible, what a failure leaves.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { type Disk, type DiskCall, gate } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { bytesOf, revisionOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

/** Throws for the first call that `matches`, or for every one. */
function failing(
  code: "FULL" | "IO" | "DURABILITY",
  matches: (call: DiskCall) => boolean,
  forever = false,
): (call: DiskCall) => void {
  let done = false;
  return (call) => {
    if (done || !matches(call)) return;
    done = !forever;
    throw new FirkinError(code, `Cannot ${call.action} ${call.name}: the test says so`);
  };
}

const isSegment = (call: DiskCall): boolean => call.name.endsWith(".segment");

describe("GroupCommit", () => {
  test("writes of one tick share one write and one sync", async () => {
    const cask = await Cask.open({ segmentBytesMax: 1024 * 1024 });
    await cask.set("first", "0");
    const from = cask.disk.calls.length;
    await Promise.all(Array.from({ length: 100 }, (_, index) => cask.set(`k${index}`, "v")));
    expect(cask.disk.count("write", from)).toBe(1);
    expect(cask.disk.count("sync", from)).toBe(1);
    expect(cask.disk.calls.length - from).toBe(2);
  });

  test("writes asked while a sync is under way are the next group", async () => {
    const cask = await Cask.open({ segmentBytesMax: 1024 * 1024 });
    await cask.set("first", "0");
    const from = cask.disk.calls.length;
    const one = cask.set("a", "1");
    await Promise.resolve();
    const rest = ["b", "c", "d"].map((key) => cask.set(key, "1"));
    await Promise.all([one, ...rest]);
    expect(cask.disk.count("sync", from)).toBe(2);
    expect(cask.disk.count("write", from)).toBe(2);
  });

  test("a write for which there is no memory fails alone", async () => {
    for (const sync of ["always", "os"] as const) {
      const cask = await Cask.open({ sync, segmentBytesMax: 1024 * 1024 });
      await cask.set("first", "0");
      const { Uint8Array } = globalThis;
      // A segment that outgrows its first step gets all its room at once.
      globalThis.Uint8Array = new Proxy(Uint8Array, {
        construct(target, args: [number]) {
          if (args[0] >= 1024 * 1024) throw new RangeError("Array buffer allocation failed");
          return new target(...args);
        },
      });
      const refused = cask.set("a", "x".repeat(300_000));
      globalThis.Uint8Array = Uint8Array;
      expect(String(await refused.catch((error: unknown) => error))).toContain("allocation failed");
      await Promise.all([cask.set("b", "1"), cask.set("c", "2")]);
      expect([cask.get("a"), cask.get("b"), cask.get("c")]).toEqual([undefined, "1", "2"]);
      await cask.reopen();
      expect(await cask.all()).toBe("b=1 c=2 first=0");
    }
  });

  test("a write is not visible, told or answered before its sync", async () => {
    const cask = await Cask.open();
    await cask.set("a", "old");
    const subscription = cask.engine.subscribe({});
    let told = 0;
    void subscription.next().then(() => told++);
    const held = gate();
    cask.disk.before = (call) => call.action === "sync" ? held.wait : undefined;
    let answered = 0;
    const write = cask.set("a", "new").then(() => answered++);
    const refused = cask.set("a", "x", { ifRevision: 0 }).then((result) => {
      answered++;
      return result;
    });
    await cask.settle();
    expect(cask.disk.calls.at(-1)?.action).toBe("sync");
    expect(cask.get("a")).toBe("old");
    expect(await cask.all()).toBe("a=old");
    expect([told, answered]).toEqual([0, 0]);
    held.open();
    await Promise.all([write, refused]);
    expect(cask.get("a")).toBe("new");
    await cask.settle();
    expect([told, answered]).toEqual([1, 2]);
    subscription.close();
  });

  test("a write of the next segment is not told before its own sync", async () => {
    const cask = await Cask.open();
    await cask.set("a", "old");
    const subscription = cask.engine.subscribe({});
    cask.disk.before = (call) => {
      return call.action === "sync" && call.name === "0000000002.segment" ? new Promise(() => {}) : undefined;
    };
    const first = cask.set("a", "new");
    cask.set("b", "x".repeat(4_000)).catch(() => {});
    await first;
    expect([cask.get("a"), cask.get("b")]).toEqual(["new", undefined]);
    expect(await cask.told(subscription)).toEqual(["set a=new"]);
    expect((await cask.engine.stats())["revision"]).toBe(2);
  });

  test("policy os acknowledges without a sync", async () => {
    const cask = await Cask.open({ sync: "os", segmentBytesMax: 1024 * 1024 });
    await cask.set("first", "0");
    const from = cask.disk.calls.length;
    await cask.set("a", "1");
    await cask.set("b", "1");
    expect(cask.disk.calls.slice(from).map(({ action }) => action)).toEqual(["write", "write"]);
    await cask.engine.sync();
    expect(cask.disk.count("sync", from)).toBe(1);
  });

  test("policy interval syncs once in each interval that wrote", async () => {
    const cask = await Cask.open({ sync: "interval", segmentBytesMax: 1024 * 1024 });
    await cask.set("first", "0");
    await cask.advance(1_000);
    const from = cask.disk.calls.length;
    await cask.set("a", "1");
    await cask.set("b", "1");
    await cask.advance(999);
    expect(cask.disk.count("sync", from)).toBe(0);
    await cask.advance(1);
    expect(cask.disk.count("sync", from)).toBe(1);
    await cask.advance(10_000);
    expect(cask.disk.count("sync", from)).toBe(1);
    cask.disk.cutPower();
    await cask.open();
    expect(await cask.all()).toBe("a=1 b=1 first=0");
  });

  test("rotation keeps everything at tiny segments, and values larger than a segment", async () => {
    const cask = await Cask.open();
    const big = "x".repeat(20_000);
    for (let index = 0; index < 200; index++) await cask.set(`k${index}`, `v${index}`.repeat(10));
    await Promise.all(Array.from({ length: 200 }, (_, index) => cask.set(`m${index}`, `w${index}`.repeat(10))));
    await cask.set("big", big);
    await Promise.all([cask.set("big2", big), cask.set("after", "1"), cask.set("big3", big)]);
    for (let life = 0; life < 2; life++) {
      for (let index = 0; index < 200; index++) {
        expect(cask.get(`k${index}`)).toBe(`v${index}`.repeat(10));
        expect(cask.get(`m${index}`)).toBe(`w${index}`.repeat(10));
      }
      for (const key of ["big", "big2", "big3"]) expect(cask.get(key)).toBe(big);
      expect(cask.get("after")).toBe("1");
      expect(cask.disk.segments().length).toBeGreaterThan(8);
      await cask.reopen();
    }
  });

  test("compact(), sync() and close() get their turn while writers never pause", async () => {
    const cask = await Cask.open({ segmentBytesMax: 4 * 1024 * 1024 });
    let stopped = false;
    cask.disk.before = async (call) => {
      for (let turn = 0; turn < 20 && call.action === "sync"; turn++) await Promise.resolve();
    };
    let written = 0;
    const writers = [0, 1].map(async (writer) => {
      // Out of step: one asks while the other's group is being synced, so that the log is never idle.
      for (let turn = 0; turn < writer * 10; turn++) await Promise.resolve();
      for (; !stopped && written < 20_000; written++) await cask.set(`w${writer}`, `${written}`);
    });
    await cask.settle();
    await cask.engine.sync();
    await cask.compact();
    expect(written).toBeLessThan(1_000);
    const closed = cask.close();
    stopped = true;
    await Promise.allSettled(writers);
    await closed;
  });
});

describe("GroupCommit, when a sync fails", () => {
  test("the write is DURABILITY, later writes too, reads go on, and an open works again", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    cask.disk.before = failing("DURABILITY", (call) => call.action === "sync");
    const writes = [cask.set("a", "2"), cask.set("b", "2")];
    for (const write of writes) expect(await errorCode(() => write)).toBe("DURABILITY");
    expect(await errorCode(() => cask.set("c", "3"))).toBe("DURABILITY");
    expect(await errorCode(() => cask.delete("a"))).toBe("DURABILITY");
    expect(await errorCode(() => cask.engine.sync())).toBe("DURABILITY");
    expect(await errorCode(() => cask.engine.compact())).toBe("DURABILITY");
    expect(cask.get("a")).toBe("1");
    expect(await cask.all()).toBe("a=1");
    expect(cask.events.map(({ type }) => type)).toEqual(["poisoned"]);
    await cask.reopen();
    expect(["a=1", "a=2", "a=2 b=2"]).toContain(await cask.all());
    await cask.set("c", "3");
    expect(cask.get("c")).toBe("3");
  });

  test("groups that wait behind it fail as well, and subscribers hear of none", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    const subscription = cask.engine.subscribe({});
    const held = gate();
    cask.disk.before = async (call) => {
      if (call.action !== "sync") return;
      await held.wait;
      throw new FirkinError("DURABILITY", "Cannot sync: the test says so");
    };
    const first = cask.set("a", "2");
    await cask.settle();
    const second = cask.set("a", "3");
    const refused = cask.set("a", "4", { ifRevision: 0 });
    // Invalid if the text before it happens, and nobody will know.
    const increment = cask.engine.increment("b", bytesOf("a"), 1);
    held.open();
    for (const write of [first, second, refused, increment]) expect(await errorCode(() => write)).toBe("DURABILITY");
    expect(await cask.told(subscription)).toEqual([]);
  });

  test("what an open finds is on the platter before it is read", async () => {
    // The failed sync left the system's pages clean, so that a second sync alone would write nothing.
    const cask = await Cask.open();
    await cask.set("a", "1");
    cask.disk.before = failing("DURABILITY", (call) => call.action === "sync");
    expect(await errorCode(() => cask.set("b", "2"))).toBe("DURABILITY");
    cask.disk.crash();
    await cask.open();
    const seen = await cask.all();
    cask.disk.cutPower();
    await cask.open();
    expect(await cask.all()).toBe(seen);
  });

  test("policy os syncs behind the writes once 4 MiB are not on the platter, and nobody waits", async () => {
    const cask = await Cask.open({ sync: "os", segmentBytesMax: 16 * 1024 * 1024, valueBytesMax: 2 * 1024 * 1024 });
    const value = "v".repeat(1024 * 1024);
    await cask.set("first", value);
    const held = gate();
    cask.disk.before = (call) => call.action === "sync" ? held.wait : undefined;
    const from = cask.disk.calls.length;
    for (let index = 0; index < 8; index++) await cask.set(`k${index}`, value);
    expect([cask.disk.count("sync", from), cask.get("k7")]).toEqual([1, value]);
    held.open();
    await cask.settle();
    await cask.set("last", value);
    await cask.settle();
    expect(cask.disk.count("sync", from)).toBe(2);
    const { "revision.durable": durable, revision } = await cask.engine.stats();
    // The group that began the sync was not yet visible.
    expect(durable).toBe(revision! - 1);
    cask.disk.before = failing("DURABILITY", (call) => call.action === "sync", true);
    const codes: (string | undefined)[] = [];
    for (let index = 0; index < 7; index++) codes.push(await errorCode(() => cask.set(`m${index}`, value)));
    expect([codes[0], codes.at(-1)]).toEqual([undefined, "DURABILITY"]);
    expect(cask.events.map(({ type }) => type)).toEqual(["poisoned"]);
  });

  test("under interval the log is poisoned when the timer's sync fails", async () => {
    const cask = await Cask.open({ sync: "interval" });
    await cask.set("a", "0"); // the first group is synced at once
    await cask.set("a", "1");
    cask.disk.before = failing("DURABILITY", (call) => call.action === "sync");
    await cask.advance(1_000);
    expect(cask.events.map(({ type }) => type)).toEqual(["poisoned"]);
    expect(await errorCode(() => cask.set("b", "1"))).toBe("DURABILITY");
    expect(cask.get("a")).toBe("1");
    // It says what is safe, and who only waits for the close is told too: the second write may be lost.
    expect(cask.events).toMatchObject([{ revision: 1 }]);
    expect((await cask.engine.stats())["revision.durable"]).toBe(1);
    expect(await errorCode(() => cask.close())).toBe("DURABILITY");
    await cask.open();
    expect(cask.get("a")).toBe("1");
  });

  test("under interval, what waits for another sync meanwhile fails too, and is never told", async () => {
    const cask = await Cask.open({ sync: "interval" });
    await cask.set("a", "1");
    await cask.set("big", "x".repeat(3_800));
    const { cursor } = cask.engine.subscribe({});
    const header = gate();
    let syncs = 0;
    cask.disk.before = (call) => {
      if (call.action !== "sync" || call.name !== "0000000002.segment") return undefined;
      if (syncs++ === 0) return header.wait;
      throw new FirkinError("DURABILITY", "Cannot sync: the test says so");
    };
    const write = cask.set("b", "x".repeat(500));
    await cask.settle();
    await cask.advance(1_000);
    expect(cask.events.map(({ type }) => type)).toEqual(["poisoned"]);
    const refused = cask.set("a", "2", { ifRevision: 0 });
    header.open();
    for (const waited of [write, refused]) expect(await errorCode(() => waited)).toBe("DURABILITY");
    expect(cask.events.length).toBe(1);
    expect(cask.get("b")).toBeUndefined();
    expect(await cask.told(cask.engine.subscribe({ from: cursor }))).toEqual([]);
  });

  test("an open that found a torn end does not fail because an earlier one kept the same end aside", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    cask.disk.crash();
    const [name] = cask.disk.segments();
    const torn = Uint8Array.of(...cask.disk.records(name!), 1, 2, 3);
    cask.disk.put(name!, torn);
    cask.disk.before = failing("IO", (call) => call.action === "truncate");
    expect(await errorCode(() => cask.open())).toBe("IO");
    cask.disk.crash();
    await cask.open();
    expect(cask.get("a")).toBe("1");
  });
});

describe("A bucket", () => {
  test("is not made by a set that is refused: a name is for ever", async () => {
    const cask = await Cask.open();
    for (let index = 0; index < 10; index++) {
      const options = { content: CONTENT.text, ifRevision: 7 };
      expect((await cask.engine.set(`b${index}`, bytesOf("a"), bytesOf("1"), options)).ok).toBe(false);
    }
    const late = { content: CONTENT.text, deadline: { expiresAt: -1 } };
    expect(await errorCode(() => cask.engine.set("late", bytesOf("a"), bytesOf("1"), late))).toBe("INVALID");
    await cask.set("a", "1");
    expect((await cask.engine.stats())["buckets"]).toBe(1);
  });
});

describe("GroupCommit, when a write is refused", () => {
  test("everything that waits fails with FULL, and the log goes on", async () => {
    const cask = await Cask.open();
    const first = revisionOf(await cask.set("a", "1"));
    const subscription = cask.engine.subscribe({});
    cask.disk.before = failing("FULL", (call) => call.action === "write");
    const writes = [cask.set("a", "2"), cask.set("b", "2"), cask.set("a", "3", { ifRevision: 0 })];
    for (const write of writes) expect(await errorCode(() => write)).toBe("FULL");
    expect(await cask.all()).toBe("a=1");
    const next = revisionOf(await cask.set("c", "1", { ifRevision: 0 }));
    expect(next).toBeGreaterThan(first);
    expect(await cask.told(subscription)).toEqual(["set c=1"]);
    await cask.reopen();
    expect(await cask.all()).toBe("a=1 c=1");
    expect(cask.events).toEqual([]);
  });

  test("a condition is judged afresh after a failure", async () => {
    const cask = await Cask.open({ sync: "os" });
    await cask.set("seed", "1");
    cask.disk.before = failing("FULL", (call) => call.action === "write");
    expect(await errorCode(() => cask.set("a", "1", { ifRevision: 0 }))).toBe("FULL");
    expect((await cask.set("a", "1", { ifRevision: 0 })).ok).toBe(true);
  });

  for (const sync of ["always", "interval", "os"] as const) {
    test(`at each call of a rotation under ${sync}, the store goes on and loses nothing`, async () => {
      for (let skip = 0; skip < 40; skip++) {
        const cask = await Cask.open({ sync });
        for (let index = 0; index < 10; index++) await cask.set(`k${index}`, "x".repeat(300));
        const kept = await cask.all();
        let left = skip;
        cask.disk.before = failing("FULL", (call) => !call.action.startsWith("sync") && left-- === 0);
        const values = Array.from({ length: 12 }, (_, index) => `${index}`.repeat(600));
        const writes = values.map((value, index) => cask.set(`n${index}`, value));
        await cask.settle();
        const late = cask.set("late", "1");
        const codes = await Promise.all([...writes, late].map((write) => errorCode(() => write)));
        const acked = values.flatMap((value, index) => codes[index] === undefined ? [[`n${index}`, value]] : []);
        expect(codes.every((code) => code === undefined || code === "FULL")).toBe(true);
        cask.disk.before = () => {};
        await cask.set("z", "1");
        for (let life = 0; life < 2; life++) {
          for (const [key, value] of acked) expect(cask.get(key!)).toBe(value);
          expect((await cask.engine.list("b", { limit: 1000 })).entries.length).toBe(
            10 + acked.length + (codes.at(-1) === undefined ? 2 : 1),
          );
          expect((await cask.all()).startsWith(kept)).toBe(true);
          await cask.reopen();
        }
      }
    });
  }

  test("with later groups waiting in further segments, all of them are undone", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    const held = gate();
    let writes = 0;
    cask.disk.before = (call) => {
      if (call.action === "sync" && isSegment(call) && writes++ === 0) return held.wait;
      if (call.action === "write" && writes > 0) throw new FirkinError("FULL", "Cannot write: the test says so");
      return undefined;
    };
    const first = cask.set("a", "2");
    await cask.settle();
    const rest = Array.from({ length: 8 }, (_, index) => cask.set(`n${index}`, "y".repeat(2_000)));
    held.open();
    await first;
    for (const write of rest) expect(await errorCode(() => write)).toBe("FULL");
    cask.disk.before = () => {};
    await cask.set("b", "3");
    await cask.reopen();
    expect(await cask.all()).toBe("a=2 b=3");
  });

  for (const sync of ["always", "os"] as const) {
    test(`under ${sync} does not come back after a power cut, whole or behind what was written over it`, async () => {
      for (const over of ["", "x", "x".repeat(11)]) {
        const cask = await Cask.open({ sync });
        await cask.set("a", "1");
        await cask.engine.sync();
        // A refused write gets half way: two of the six records are whole on the disk.
        cask.disk.before = failing("FULL", (call) => call.action === "write");
        const writes = ["a", "b", "c", "d", "e", "f"].map((key) => cask.set(key, "2"));
        for (const write of writes) expect(await errorCode(() => write)).toBe("FULL");
        if (over !== "") await cask.set("a", over);
        cask.disk.cutPower(true);
        await cask.open();
        expect(await cask.all()).toBe(`a=${over || "1"}`);
      }
    });
  }

  test("poisons when its undoing cannot be made durable", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    cask.disk.before = (call) => {
      if (call.action === "write") throw new FirkinError("FULL", "Cannot write: the test says so");
      if (call.action === "sync") throw new FirkinError("DURABILITY", "Cannot sync: the test says so");
    };
    expect(await errorCode(() => cask.set("a", "2"))).toBe("DURABILITY");
    cask.disk.before = () => {};
    expect(await errorCode(() => cask.set("a", "3"))).toBe("DURABILITY");
    expect(cask.get("a")).toBe("1");
    expect(cask.events.map(({ type }) => type)).toEqual(["poisoned"]);
  });

  test("takes what is asked for during its undoing with it, and nothing later", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    const held = gate();
    let refused = false;
    cask.disk.before = (call) => {
      if (call.action === "sync" && refused) return held.wait;
      if (call.action !== "write" || refused) return undefined;
      refused = true;
      throw new FirkinError("FULL", "Cannot write: the test says so");
    };
    const first = errorCode(() => cask.set("a", "2"));
    await cask.settle();
    const behind = errorCode(() => cask.set("b", "2"));
    const judged = errorCode(() => cask.set("b", "3", { ifRevision: 0 }));
    await cask.settle();
    held.open();
    expect(await Promise.all([first, behind, judged])).toEqual(["FULL", "FULL", "FULL"]);
    await cask.set("c", "3");
    await cask.reopen();
    expect(await cask.all()).toBe("a=1 c=3");
  });

  test("that cannot be undone poisons", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    cask.disk.before = failing("IO", (call) => call.action === "write" || call.action === "truncate", true);
    expect(await errorCode(() => cask.set("a", "2"))).toBe("DURABILITY");
    expect(await errorCode(() => cask.set("a", "3"))).toBe("DURABILITY");
    expect(cask.get("a")).toBe("1");
    cask.disk.crash();
    await cask.open();
    expect(await cask.all()).toBe("a=1");
  });
});

describe("Revisions", () => {
  test("are never given twice: after compaction dropped everything, after an open, after a failure", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 1 });
    let last = 0;
    const next = async (): Promise<void> => {
      const revision = revisionOf(await cask.set("a", "1"));
      expect(revision).toBeGreaterThan(last);
      last = revisionOf(await cask.delete("a"));
      expect(last).toBeGreaterThan(revision);
    };
    await next();
    await cask.advance(10);
    await cask.compact();
    expect((await cask.engine.stats())["log.bytes"]).toBe(0);
    await next();
    await cask.reopen();
    await next();
    await cask.advance(10);
    await cask.compact();
    await cask.reopen();
    expect(cask.disk.segments()).toEqual([]);
    await next();
    cask.disk.before = failing("FULL", (call) => call.action === "write");
    expect(await errorCode(() => cask.set("b", "1"))).toBe("FULL");
    await next();
    cask.disk.crash();
    await cask.open();
    await next();
  });
});

describe("GroupCommit, when another process has taken the folder", () => {
  const all = (disk: Disk): string[] => disk.list().sort().map((name) => `${name} ${disk.bytes(name).join()}`);

  test("acknowledges nothing from the next segment on, and touches no file", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    await cask.set("big", "x".repeat(3_800));
    cask.disk.steal();
    const before = all(cask.disk);
    const writes = [cask.set("b", "x".repeat(500)), cask.set("c", "2")];
    for (const write of writes) expect(await errorCode(() => write)).toBe("LOCKED");
    expect(await errorCode(() => cask.set("a", "2"))).toBe("LOCKED");
    expect(cask.events.map((event) => event.type === "poisoned" && event.error.code)).toEqual(["LOCKED"]);
    expect(cask.get("a")).toBe("1");
    await cask.close();
    expect(all(cask.disk)).toEqual(before);
  });

  test("acknowledges nothing from the next manifest on", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    cask.disk.steal();
    const before = all(cask.disk);
    expect(await errorCode(() => cask.engine.set("new", bytesOf("k"), bytesOf("1"), { content: CONTENT.text }))).toBe(
      "LOCKED",
    );
    expect(await errorCode(() => cask.set("a", "2"))).toBe("LOCKED");
    expect(all(cask.disk)).toEqual(before);
  });

  test("does not cut back what the other may have written when a write of its own fails", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    cask.disk.steal();
    cask.disk.before = ({ action }) => {
      if (action === "write") throw new FirkinError("FULL", "Cannot write: the test says so");
      if (action === "truncate") throw new Error("A file of another process was cut");
    };
    expect(await errorCode(() => cask.set("b", "1"))).toBe("LOCKED");
    expect(await errorCode(() => cask.set("b", "1"))).toBe("LOCKED");
    expect(cask.disk.count("truncate")).toBe(0);
  });

  test("removes nothing when it comes in the middle of a compaction", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    await cask.compact();
    const before = cask.disk.list();
    cask.disk.before = ({ action, name }) => {
      if (action === "write" && !before.includes(name)) cask.disk.steal();
    };
    expect(await errorCode(() => cask.compact())).toBe("LOCKED");
    // What it has written is left: by now a file of that name may be the other's.
    expect(cask.disk.list().length).toBe(before.length + 1);
    expect(cask.disk.list()).toEqual(expect.arrayContaining(before));
    expect(await errorCode(() => cask.set("a", "2"))).toBe("LOCKED");
  });

  test("begins no file of a compaction", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    await cask.compact();
    cask.disk.steal();
    const from = cask.disk.calls.length;
    expect(await errorCode(() => cask.compact())).toBe("LOCKED");
    expect(cask.disk.calls.slice(from)).toEqual([]);
  });

  test("does not say of the other's log that it was closed", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    cask.disk.steal();
    const before = all(cask.disk);
    await cask.close();
    expect(all(cask.disk)).toEqual(before);
    expect(await errorCode(() => cask.open())).toBe("LOCKED");
  });
});
