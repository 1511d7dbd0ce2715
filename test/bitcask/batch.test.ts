/**
 * Batches on a disk that fails: all or nothing, in one segment and one group, for readers, subscribers and the
 * next open.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import { FLAG, flagsAt, keyAt, KIND, kindAt, recordBytesAt } from "../../lib/bitcask/record.ts";
import { SEGMENT_HEADER_BYTES } from "../../lib/bitcask/segment.ts";
import type { ChangeEvent, EngineSubscription } from "../../lib/engine/engine.ts";
import { type Disk, gate } from "../suites/disk.ts";
import { Cask, type TestOptions } from "../suites/embedded.ts";
import { brief, bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

/** The state before the batch of these tests, the batch, and the state behind it. */
const BEFORE = "a=1 b=1 c=1";
const BATCH = ["set a=2", "delete b", "delete x", `set d=${"d".repeat(300)}`, "set e=2"];
const AFTER = `a=2 c=1 d=${"d".repeat(300)} e=2`;

async function prepared(options: TestOptions = {}): Promise<Cask> {
  const cask = await Cask.open(options);
  for (const key of ["a", "b", "c"]) await cask.set(key, "1");
  return cask;
}

/** The records of a segment: the key, and `+` when more of a batch follows. */
function records(disk: Disk, name: string): string[] {
  const bytes = disk.records(name);
  const found: string[] = [];
  for (let at = SEGMENT_HEADER_BYTES; at < bytes.length; at += recordBytesAt(bytes, at)) {
    const more = (flagsAt(bytes, at) & FLAG.more) !== 0 ? "+" : "";
    if (kindAt(bytes, at) < KIND.mark) found.push(textOf(keyAt(bytes, at))! + more);
  }
  return found;
}

/** The next events, which must be ready. */
async function nextOf(subscription: EngineSubscription): Promise<ChangeEvent[]> {
  return await subscription.next() as ChangeEvent[];
}

describe("A batch", () => {
  test("says of every record but the last that more follows", async () => {
    const cask = await prepared();
    await cask.atomic(...BATCH);
    await cask.atomic("set z=1");
    expect(records(cask.disk, cask.disk.segments()[0]!)).toEqual(["a", "b", "c", "a+", "b+", "d+", "e", "z"]);
  });

  test("has one write and one sync, with nothing between its records", async () => {
    const cask = await prepared();
    const from = cask.disk.calls.length;
    await Promise.all([cask.set("x", "1"), cask.atomic("set a=2", "set y=1"), cask.set("x", "2")]);
    expect(cask.disk.calls.slice(from).map(({ action }) => action)).toEqual(["write", "sync"]);
    expect(records(cask.disk, cask.disk.segments()[0]!).slice(3)).toEqual(["x", "a+", "y", "x"]);
  });

  test("is visible at once, when it is on stable storage", async () => {
    const cask = await prepared();
    const held = gate();
    cask.disk.before = (call) => call.action === "sync" ? held.wait : undefined;
    const subscription = cask.engine.subscribe({});
    const told = nextOf(subscription);
    const batch = cask.atomic(...BATCH);
    const refused = cask.atomic("check a@0", "set q=1");
    let refusals = 0;
    void refused.then(() => refusals++);
    await cask.settle();
    expect([await cask.all(), refusals]).toEqual([BEFORE, 0]);
    held.open();
    // Whoever looks in any turn sees all of it or nothing.
    const seen = new Set<string>();
    for (let turn = 0; turn < 50; turn++) {
      seen.add(["a", "b", "c", "d", "e"].map((key) => cask.get(key)?.slice(0, 1) ?? "-").join(""));
      await Promise.resolve();
    }
    expect([...seen]).toEqual(["111--", "2-1d2"]);
    expect((await batch).ok).toBe(true);
    expect(await cask.all()).toBe(AFTER);
    expect((await told).map(({ more }) => more)).toEqual([true, true, true, undefined]);
    const lost = await refused;
    expect(!lost.ok && textOf(lost.current?.value)).toBe("2");
    subscription.close();
  });

  for (
    const [place, options] of [
      ["within a segment", {}],
      ["at the end of a segment", { segmentBytesMax: 500 }],
      ["larger than a segment", { segmentBytesMax: 200 }],
    ] as const
  ) {
    for (const kind of ["fails once", "dies", "loses power"] as const) {
      test(`${place} happens whole or not at all when the disk ${kind}, at each of its calls`, async () => {
        for (const sync of ["always", "interval", "os"] as const) {
          let ended = false;
          for (let skip = 0; !ended; skip++) {
            const cask = await prepared({ ...options, sync });
            await cask.engine.sync();
            const from = cask.disk.calls.length;
            let left = skip;
            cask.disk.before = (call) => {
              const now = left-- === 0;
              if (kind === "fails once" ? !now : left >= 0) return;
              const code = call.action.startsWith("sync") ? "DURABILITY" : "FULL";
              throw new FirkinError(code, "The test says so");
            };
            const code = await errorCode(() => cask.atomic(...BATCH));
            ended = cask.disk.calls.length - from <= skip;
            expect(await cask.all()).toBe(code === undefined ? AFTER : BEFORE);
            if (kind === "loses power") cask.disk.cutPower();
            else cask.disk.crash();
            await cask.open();
            const found = await cask.all();
            const allowed = [AFTER];
            if (code !== undefined || (kind === "loses power" && sync !== "always")) allowed.push(BEFORE);
            if (code === "FULL") allowed.shift();
            expect([skip, allowed.includes(found) ? allowed[0] : found]).toEqual([skip, allowed[0]]);
            expect((await cask.atomic("check c@0", "set f=1")).ok).toBe(false);
            expect((await cask.atomic("delete c", "set f=1")).ok).toBe(true);
          }
        }
      });
    }
  }

  test("cut at any byte counts whole or not at all", async () => {
    const cask = await prepared();
    await cask.atomic(...BATCH);
    cask.disk.crash();
    const name = cask.disk.segments()[0]!;
    const whole = cask.disk.records(name);
    let found = "";
    for (let length = whole.length; found !== BEFORE; length--) {
      const disk = cask.disk.clone();
      disk.put(name, whole.slice(0, length));
      const again = await Cask.open({}, disk);
      found = await again.all();
      expect(`${length}: ${found}`).toBe(`${length}: ${length === whole.length ? AFTER : BEFORE}`);
      expect(again.events.map(({ type }) => type)).toEqual(length === whole.length ? [] : ["torn"]);
      if (length > whole.length - 200) found = "";
    }
  });

  test("of any size lies in one segment", async () => {
    const cask = await Cask.open({ segmentBytesMax: 4_096 });
    for (let round = 0; round < 60; round++) {
      const size = (round * 37) % 23 + 1;
      const texts = Array.from({ length: size }, (_, index) => `set k${index}=${"v".repeat(round * 7)}`);
      await Promise.all([cask.set("between", String(round)), cask.atomic(...texts), cask.atomic(...texts)]);
    }
    for (const name of cask.disk.segments()) expect((records(cask.disk, name).at(-1) ?? "").endsWith("+")).toBe(false);
    const all = await cask.all();
    await cask.reopen();
    expect(await cask.all()).toBe(all);
  });

  test("that does not fit the rest of its segment begins the next", async () => {
    const cask = await Cask.open({ segmentBytesMax: 4_096 });
    await cask.set("first", "x".repeat(3_000));
    await cask.atomic(`set a=${"a".repeat(500)}`, `set b=${"b".repeat(500)}`);
    const [first, second] = cask.disk.segments();
    expect(records(cask.disk, first!)).toEqual(["first"]);
    expect(records(cask.disk, second!)).toEqual(["a+", "b"]);
  });

  test("that cannot be encoded or judged leaves no part of itself", async () => {
    const cask = await prepared();
    const { engine } = cask;
    const set = { type: "set", bucket: "b", key: bytesOf("a"), value: bytesOf("2"), content: 2 } as const;
    const late = { ...set, key: bytesOf("z"), deadline: { expiresAt: 2 ** 48 } };
    expect(await errorCode(() => engine.atomic([set, late]))).toBe("INVALID");
    expect(await cask.all()).toBe(BEFORE);
    cask.disk.before = (call) => {
      if (call.action === "sync") throw new FirkinError("DURABILITY", "The test says so");
    };
    expect(await errorCode(() => cask.atomic(...BATCH))).toBe("DURABILITY");
    expect(await errorCode(() => cask.atomic(...BATCH))).toBe("DURABILITY");
    expect(await cask.all()).toBe(BEFORE);
  });

  test("is judged at one moment, though the clock goes on", async () => {
    const cask = await Cask.open();
    const { revision } = await cask.set("a", "1", { deadline: { ttl: 10 } }) as { revision: number };
    cask.clock.advance(9);
    // Each look at the clock takes a millisecond: by the time the batch writes "a", its deadline has come.
    const monotonic = cask.clock.monotonic.bind(cask.clock);
    let looks = 0;
    cask.clock.monotonic = () => monotonic() + (looks++ > 0 ? 1 : 0);
    const subscription = cask.engine.subscribe({});
    expect((await cask.atomic(`check a@${revision}`, "set a=2")).ok).toBe(true);
    cask.clock.monotonic = monotonic;
    expect(await cask.told(subscription)).toEqual(["set a=2"]);
  });

  test("ends a key that is due before its timer has", async () => {
    const cask = await Cask.open();
    for (const key of ["a", "b", "c"]) await cask.set(key, "1", { deadline: { ttl: 10 } });
    const subscription = cask.engine.subscribe({});
    const monotonic = cask.clock.monotonic.bind(cask.clock);
    cask.clock.monotonic = () => monotonic() + 10;
    expect((await cask.atomic("check a@0", "set b=2", "delete c", "set d=1")).ok).toBe(true);
    cask.clock.monotonic = monotonic;
    expect(await cask.told(subscription)).toEqual(["expire a", "expire b", "expire c", "set b=2", "set d=1"]);
  });

  test("with several writes to one key tells of the last, in its place", async () => {
    const cask = await Cask.open();
    const subscription = cask.engine.subscribe({});
    await cask.atomic("set a=1", "set b=1", "set a=2", "delete x", "set c=1", "delete c");
    expect(await cask.told(subscription)).toEqual(["set b=1", "set a=2"]);
  });

  test("with keys of one hash is judged and read rightly", async () => {
    const cask = await Cask.open({ hash: () => 7 });
    await cask.atomic("set a=1", "set b=1", "set c=1");
    const [first, second] = await Promise.all([
      cask.atomic("delete b", "set c=2"),
      cask.atomic("check b@0", "set a=2", "delete c"),
    ]);
    expect([first!.ok, second!.ok]).toEqual([true, true]);
    expect(await cask.all()).toBe("a=2");
    await cask.reopen();
    expect(await cask.all()).toBe("a=2");
  });
});

describe("The events of a batch", () => {
  const names = Array.from({ length: 700 }, (_, index) => `k${index}`);
  const batch = names.map((name) => `set ${name}=1`);

  test("come out of one next, however many, at any place in the log", async () => {
    const cask = await Cask.open({ segmentBytesMax: 1024 * 1024 });
    const live = cask.engine.subscribe({});
    const { cursor } = live;
    await cask.set("first", "1");
    await cask.atomic(...batch);
    await cask.atomic("set last=1", "set first=2");
    for (const subscription of [live, cask.engine.subscribe({ from: cursor })]) {
      const sizes: number[] = [];
      const told: string[] = [];
      while (told.length < 703) {
        const events = await nextOf(subscription);
        sizes.push(events.length);
        told.push(...events.map(brief));
        expect(events.at(-1)!.more).toBeUndefined();
      }
      expect(told).toEqual(["set first=1", ...batch, "set last=1", "set first=2"]);
      expect(sizes).toEqual([701, 2]);
      subscription.close();
    }
  });

  test("are those that match, and only they are marked", async () => {
    const cask = await Cask.open();
    const odd = cask.engine.subscribe({ bucket: "b", prefix: bytesOf("odd") });
    const none = cask.engine.subscribe({ bucket: "other" });
    await cask.atomic("set x=1", "set odd1=1", "set y=1", "set odd2=1", "set z=1");
    await cask.atomic("set odd3=1", "set x=2");
    const events = await nextOf(odd);
    expect(events.map((event) => [brief(event), event.more])).toEqual([
      ["set odd1=1", true],
      ["set odd2=1", undefined],
      ["set odd3=1", undefined],
    ]);
    odd.close();
    none.close();
  });

  test("are found by a cursor across rotation, and what is left of them across compaction and lives", async () => {
    const cask = await Cask.open({ segmentBytesMax: 1_024, tombstoneRetentionMs: 60_000 });
    await cask.set("gone", "0");
    const first = cask.engine.subscribe({});
    const { cursor } = first;
    first.close();
    await cask.atomic("set a=1", "set b=1", "delete gone");
    for (let index = 0; index < 40; index++) await cask.set("fill", "x".repeat(100));
    await cask.atomic("set a=2", "set c=1");
    const whole = cask.engine.subscribe({ from: cursor });
    expect((await nextOf(whole)).slice(0, 3).map(({ type, more }) => [type, more])).toEqual([
      ["set", true],
      ["set", true],
      ["delete", undefined],
    ]);
    whole.close();
    await cask.compact();
    for (let life = 0; life < 2; life++) {
      const told = await cask.told(cask.engine.subscribe({ from: cursor }));
      expect(told.filter((text) => !text.startsWith("set fill"))).toEqual([
        "set b=1",
        "delete gone",
        "set a=2",
        "set c=1",
      ]);
      expect(cask.disk.segments().flatMap((name) => records(cask.disk, name)).join("")).not.toContain("+");
      await cask.reopen();
    }
    expect((await cask.all()).replace(/fill=x+/, "fill")).toBe("a=2 b=1 c=1 fill");
  });
});
