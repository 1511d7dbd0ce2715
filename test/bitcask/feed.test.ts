/**
 * The feed, seen from the engine: order, once, no gap, and nobody pays for a slow reader.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import type { ChangeEvent, EngineEvent, EngineSubscription } from "../../lib/engine/engine.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { brief, bytesOf, textOf } from "../suites/engine_subject.ts";
import { CONTENT } from "../../lib/base/codec.ts";

const FILL = "f".repeat(1_000);

/** What a reader knows: keys and values by the events so far, which must come in order. */
class Reader {
  readonly known = new Map<string, string>();
  revision = 0;
  synced = false;
  readonly #told = new Set<number>();

  read(events: readonly EngineEvent[]): void {
    for (const event of events) {
      if (event.type === "synced") this.synced = true;
      if (!("key" in event)) continue;
      // A snapshot is in order of keys.
      if (this.synced) expect(event.revision).toBeGreaterThan(this.revision);
      expect(this.#told.has(event.revision)).toBe(false);
      this.#told.add(event.revision);
      this.revision = Math.max(this.revision, event.revision);
      const key = textOf(event.key)!;
      if (event.type === "set") this.known.set(key, textOf(event.value)!);
      else this.known.delete(key);
    }
  }
}

function state(map: ReadonlyMap<string, string>): string {
  return [...map].map(([key, value]) => `${key}=${value}`).sort().join(" ");
}

async function sortedState(cask: Cask): Promise<string> {
  return (await cask.all()).split(" ").filter((text) => text !== "").sort().join(" ");
}

describe("Feed", () => {
  test("tells every change once, in order of revisions, by bucket and prefix", async () => {
    const cask = await Cask.open();
    const everything = cask.engine.subscribe({});
    const bucket = cask.engine.subscribe({ bucket: "b" });
    const prefix = cask.engine.subscribe({ bucket: "b", prefix: bytesOf("k1") });
    const content = CONTENT.text;
    const expected: string[] = [];
    for (let index = 0; index < 300; index++) {
      const name = index % 3 === 0 ? "c" : "b";
      const key = `k${index % 20}`;
      await cask.engine.set(name, bytesOf(key), bytesOf(`${index}`), { content });
      expected.push(`${name} set ${key}=${index}`);
    }
    const lines = async (subscription: EngineSubscription): Promise<string[]> => {
      const events = await cask.heard(subscription) as ChangeEvent[];
      const revisions = events.map(({ revision }) => revision);
      expect(revisions).toEqual(revisions.toSorted((left, right) => left - right));
      expect(new Set(revisions).size).toBe(revisions.length);
      return events.map((event) => `${event.bucket} ${brief(event)}`);
    };
    expect(await lines(everything)).toEqual(expected);
    expect(await lines(bucket)).toEqual(expected.filter((line) => line.startsWith("b ")));
    expect(await lines(prefix)).toEqual(expected.filter((line) => line.startsWith("b set k1")));
    expect((await cask.engine.stats())["subscriptions"]).toBe(0);
  });

  test("snapshot, synced, live: no gap and no repeat while writes and compactions go on", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const random = randomOf(seed);
      const cask = await Cask.open({ tombstoneRetentionMs: 1_000_000 });
      const write = async (): Promise<void> => {
        const key = `k${random(2_500)}`;
        if (random(4) === 0) await cask.delete(key);
        else await cask.set(key, `${random(1_000)}`);
      };
      await Promise.all(Array.from({ length: 2_500 }, write));
      const subscription = cask.engine.subscribe({ snapshot: true });
      const reader = new Reader();
      const reading = (async () => {
        for (let some = await subscription.next(); some !== undefined; some = await subscription.next()) {
          reader.read(some);
          if (random(3) === 0) await write();
        }
      })();
      for (let index = 0; index < 200; index++) {
        await write();
        if (random(60) === 0) await cask.compact();
        cask.clock.advance(0);
      }
      await cask.settle();
      await cask.settle();
      subscription.close();
      await cask.finish(reading);
      expect(reader.synced).toBe(true);
      expect(`${seed} ${state(reader.known)}`).toBe(`${seed} ${await allOf(cask)}`);
    }
  });

  test("a key that changes while a snapshot is read comes once", async () => {
    const cask = await Cask.open();
    await Promise.all(Array.from({ length: 2_500 }, (_, index) => cask.set(`k${index}`, "old")));
    const subscription = cask.engine.subscribe({ snapshot: true });
    const reader = new Reader();
    reader.read((await cask.finish(subscription.next()))!);
    await cask.set("k0", "new");
    await cask.set("k999", "new");
    await cask.set("zzz", "new");
    await cask.delete("k998");
    reader.read(await cask.heard(subscription));
    expect(state(reader.known)).toBe(await allOf(cask));
  });

  test("continues from any cursor, over opens and compactions", async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const random = randomOf(seed);
      const cask = await Cask.open({ tombstoneRetentionMs: 1_000_000 });
      const reader = new Reader();
      reader.synced = true;
      let { cursor } = cask.engine.subscribe({});
      for (let round = 0; round < 12; round++) {
        for (let index = random(30); index > 0; index--) {
          const key = `k${random(10)}`;
          if (random(3) === 0) await cask.delete(key);
          else await cask.set(key, FILL.slice(0, random(1_000)), random(4) === 0 ? { deadline: { ttl: 50 } } : {});
        }
        if (random(3) === 0) await cask.compact();
        if (random(3) === 0) await cask.reopen();
        if (random(3) === 0) await cask.advance(60);
        if (random(2) === 0) continue;
        const subscription = cask.engine.subscribe({ from: cursor });
        reader.read(await cask.heard(subscription));
        ({ cursor } = subscription);
        await cask.advance(0);
        expect(`${seed} ${state(reader.known)}`).toBe(`${seed} ${await sortedState(cask)}`);
      }
    }
  });

  /** Fills one large segment with changes `from` to `to`, of 100 bytes or so. */
  async function fill(cask: Cask, from: number, to: number): Promise<void> {
    for (let start = from; start < to; start += 1_000) {
      const keys = Array.from({ length: Math.min(1_000, to - start) }, (_, index) => bytesOf(`k${start + index}`));
      await cask.engine.setMany(
        "b",
        keys.map((key) => ({ key, value: bytesOf(FILL.slice(0, 60 + key.at(-1)! % 16)), content: CONTENT.text })),
      );
    }
  }

  /** The key of the first event that `cursor` leads to at once; undefined when it takes more than a turn. */
  function firstAt(cask: Cask, revision: number): string | undefined {
    const subscription = cask.engine.subscribe({ from: `${cask.engine.epoch}.${revision}` });
    const event = subscription.poll!(() => {})![0];
    subscription.close();
    return event && "key" in event ? `${event.revision} ${textOf(event.key)}` : undefined;
  }

  test("a cursor is found without reading all before it, and after an open once it has been read", async () => {
    const cask = await Cask.open({ segmentBytesMax: 2 ** 24 });
    await fill(cask, 1, 30_001);
    const cursors = [0, 1, 2_500, 9_999, 10_000, 17_777, 25_000, 29_999];
    const expected = cursors.map((revision) => `${revision + 1} k${revision + 1}`);
    expect(cursors.map((revision) => firstAt(cask, revision))).toEqual(expected);
    await cask.reopen();
    // Each reads 10,000 records, and the next goes on from the last place before that.
    const found = Array.from({ length: 5 }, () => firstAt(cask, 29_999));
    expect([found[0], found.at(-1)]).toEqual([undefined, expected.at(-1)!]);
    expect(cursors.map((revision) => firstAt(cask, revision))).toEqual(expected);
    await cask.compact();
    await cask.advance(0);
    expect(cursors.map((revision) => firstAt(cask, revision))).toEqual(expected);
  });

  test("those who resume together after an open read the log once", async () => {
    const cask = await Cask.open({ segmentBytesMax: 2 ** 24 });
    await fill(cask, 1, 30_001);
    await cask.reopen();
    const readers = Array.from({ length: 50 }, (_, index) => {
      return cask.engine.subscribe({ from: `${cask.engine.epoch}.${29_950 + index}` });
    });
    // What the first have read, the others need not.
    const counts = readers.map((reader) => reader.poll!(() => {})!.length);
    expect(counts[0]).toBe(0);
    expect(counts.slice(5)).toEqual(readers.slice(5).map((_, index) => 45 - index));
    expect(readers[0]!.poll!(() => {})!.length).toBe(50);
    for (const reader of readers) reader.close();
  });

  test("what a failed write has left behind is no place to begin at", async () => {
    const cask = await Cask.open({ segmentBytesMax: 2 ** 24 });
    await fill(cask, 1, 10_001);
    cask.disk.before = ({ action }) => {
      if (action === "write") throw new FirkinError("FULL", "The test says so");
    };
    const large = Array.from({ length: 4 }, () => cask.set("large", FILL.repeat(300)).catch(() => "failed"));
    expect(await Promise.all(large)).toEqual(["failed", "failed", "failed", "failed"]);
    cask.disk.before = () => {};
    await fill(cask, 10_001, 20_001);
    const cursors = Array.from({ length: 200 }, (_, index) => 100 * index);
    // Their revisions are nobody's.
    const expected = cursors.map((revision) => revision < 10_000 ? revision + 1 : Math.max(revision, 10_004) + 1);
    expect(cursors.map((revision) => firstAt(cask, revision))).toEqual(
      expected.map((revision) => `${revision} k${revision < 10_000 ? revision : revision - 4}`),
    );
  });

  test("a reader in the middle of the log keeps its place through compactions", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 1_000_000 });
    const subscription = cask.engine.subscribe({});
    const reader = new Reader();
    reader.synced = true;
    for (let index = 0; index < 2_000; index++) {
      const key = `k${index % 50}`;
      if (index % 7 === 0) await cask.delete(key);
      else await cask.set(key, `${index}`);
      if (index % 400 === 399) {
        reader.read((await cask.finish(subscription.next()))!);
        await cask.compact();
      }
    }
    reader.read(await cask.heard(subscription));
    expect(state(reader.known)).toBe(await sortedState(cask));
  });

  test("a reader that does not read costs no memory", async () => {
    const cask = await Cask.open();
    const slow = Array.from({ length: 100 }, () => cask.engine.subscribe({}));
    for (let index = 0; index < 500; index++) await cask.set(`k${index % 3}`, FILL);
    await cask.compact();
    const stats = await cask.engine.stats();
    expect(stats["log.bytes"]!).toBeLessThan(10_000);
    // Nothing was queued for it: what compaction dropped, later changes have covered.
    for (const subscription of slow) {
      const told = await cask.told(subscription);
      expect(told.length).toBe(3);
    }
  });

  test("a reader that falls behind a tombstone that is gone is told resync, and ends", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 10 });
    await cask.set("a", FILL);
    const subscription = cask.engine.subscribe({});
    for (let index = 0; index < 600; index++) await cask.set(`k${index % 5}`, FILL);
    await cask.delete("a");
    expect((await cask.finish(subscription.next()))!.length).toBeGreaterThan(0);
    await cask.advance(100);
    await cask.compact();
    const rest: EngineEvent[] = [];
    for (let some = await cask.finish(subscription.next()); some !== undefined;) {
      rest.push(...some);
      some = await cask.finish(subscription.next());
    }
    expect(rest.at(-1)!.type).toBe("resync");
    expect((await cask.engine.stats())["subscriptions"]).toBe(0);
  });

  test("the cursor of a reader who has read everything passes what does not match", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 10 });
    const subscription = cask.engine.subscribe({ bucket: "quiet" });
    for (let index = 0; index < 20; index++) await cask.set("a", FILL);
    await cask.delete("a");
    const { cursor } = subscription;
    await cask.advance(100);
    await cask.compact();
    expect(await cask.told(cask.engine.subscribe({ bucket: "quiet", from: cursor }))).toEqual([]);
  });

  test("the cursor in the middle of a snapshot leaves nothing out", async () => {
    const cask = await Cask.open();
    await Promise.all(Array.from({ length: 2_500 }, (_, index) => cask.set(`k${index}`, `${index}`)));
    const subscription = cask.engine.subscribe({ snapshot: true });
    const reader = new Reader();
    reader.read((await cask.finish(subscription.next()))!);
    expect(reader.known.size).toBeLessThan(2_500);
    const { cursor } = subscription;
    subscription.close();
    const again = new Reader();
    again.read(await cask.heard(cask.engine.subscribe({ from: cursor })));
    expect(state(again.known)).toBe(await allOf(cask));
  });

  test("a cursor that makes no sense is resync", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    const [epoch] = cask.engine.subscribe({}).cursor.split(".");
    for (const cursor of ["", "x", ".", `${epoch}`, `${epoch}.`, `${epoch}.x`, `${epoch}.-1`, `${epoch}.99`, "0.1"]) {
      const expected = cursor === `${epoch}.` ? [["resync"], ["set a=1"]] : [["resync"]];
      expect(expected).toContainEqual(await cask.told(cask.engine.subscribe({ from: cursor })));
    }
  });

  test("a cursor stays where it was when the subscription was closed", async () => {
    const cask = await Cask.open();
    const closed = cask.engine.subscribe({});
    await cask.set("a", "1");
    expect(await cask.told(closed)).toEqual(["set a=1"]);
    closed.close();
    const { cursor } = closed;
    await cask.set("b", "2");
    expect(closed.cursor).toBe(cursor);
    expect(await cask.told(cask.engine.subscribe({ from: closed.cursor }))).toEqual(["set b=2"]);
  });

  test("who has seen that everything before did not match misses nothing when compaction drops it", async () => {
    const cask = await Cask.open({ tombstoneRetentionMs: 1 });
    const quiet = cask.engine.subscribe({ prefix: bytesOf("x") });
    for (let index = 0; index < 50; index++) {
      await cask.set("other", FILL);
      await cask.delete("other");
    }
    await cask.advance(10);
    await cask.set("x", "hello");
    await cask.compact();
    expect(await cask.told(quiet)).toEqual(["set x=hello"]);
  });

  test("a quiet subscription is told how far the log has come", async () => {
    const cask = await Cask.open();
    const quiet = cask.engine.subscribe({ prefix: bytesOf("x") });
    const next = quiet.next();
    await cask.set("other", "1");
    await cask.advance(30_000);
    expect(await next).toEqual([{ type: "progress", cursor: quiet.cursor }]);
    const epoch = quiet.cursor.split(".")[0];
    expect(quiet.cursor).toBe(`${epoch}.1`);
    const idle = quiet.next();
    await cask.advance(60_000);
    await cask.set("x", "2");
    expect((await idle)?.map(brief)).toEqual(["set x=2"]);
  });

  test("close() ends a waiting next, and costs the others nothing", async () => {
    const cask = await Cask.open();
    const one = cask.engine.subscribe({});
    const other = cask.engine.subscribe({});
    const waiting = one.next();
    await cask.settle();
    one.close();
    one.close();
    expect(await waiting).toBeUndefined();
    await cask.set("a", "1");
    expect(await cask.told(other)).toEqual(["set a=1"]);
    const last = cask.engine.subscribe({}).next();
    await cask.close();
    expect(await last).toBeUndefined();
  });
});

/** Every key and value, page by page. */
async function allOf(cask: Cask): Promise<string> {
  const known = new Map<string, string>();
  let after: Uint8Array | undefined;
  for (;;) {
    const { entries, more } = await cask.engine.list("b", { limit: 1_000, ...(after === undefined ? {} : { after }) });
    for (const { key, value } of entries) known.set(textOf(key)!, textOf(value)!);
    after = entries.at(-1)?.key;
    if (!more || after === undefined) return state(known);
  }
}
