/**
 * `Bucket.setMany`: any iterable, in slices, two of them at most.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import { Bucket, type SetManyEntry } from "../../lib/store/bucket.ts";
import { Disk, gate } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { errorCode } from "../suites/fs.ts";

/** Keys and values of a bucket in order. */
async function entriesOf(bucket: Bucket<unknown>): Promise<[unknown, unknown][]> {
  const entries: [unknown, unknown][] = [];
  for await (const { key, value } of bucket.list()) entries.push([key, value]);
  return entries;
}

/** What a promise is rejected with. */
async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(() => undefined, (error: unknown) => error);
}

async function openBucket(options: Parameters<typeof Cask.open>[0] = {}): Promise<{
  cask: Cask;
  bucket: Bucket<unknown>;
}> {
  const cask = await Cask.open({ segmentBytesMax: 2 ** 20, ...options });
  return { cask, bucket: new Bucket<unknown>(cask.engine, "b") };
}

describe("Bucket.setMany()", () => {
  test("takes arrays, maps, generators and async generators, and gives the number of entries", async () => {
    const { bucket } = await openBucket();
    function* some(): Generator<[string, number]> {
      yield ["c", 3];
      yield ["d", 4];
    }
    async function* later(): AsyncGenerator<[string, number]> {
      await Promise.resolve();
      yield ["e", 5];
      yield ["e", 6];
    }
    expect(await bucket.setMany([["a", { deep: [1] }]])).toBe(1);
    expect(await bucket.setMany(new Map([["b", 2]]))).toBe(1);
    expect(await bucket.setMany(some())).toBe(2);
    expect(await bucket.setMany(later())).toBe(2);
    expect(await bucket.setMany([])).toBe(0);
    expect(await entriesOf(bucket)).toEqual([["a", { deep: [1] }], ["b", 2], ["c", 3], ["d", 4], ["e", 6]]);
  });

  test("gives options to all, and to those that have their own none of them", async () => {
    const { cask, bucket } = await openBucket();
    await bucket.setMany(
      [["a", 1], ["b", 2, { expiresAt: cask.clock.wall() + 9 }], ["c", 3, { once: true }], ["d", 4, {}]],
      { ttl: 5 },
    );
    const found = [];
    for await (const { key, expiresAt, once } of bucket.list()) found.push([key, expiresAt, once]);
    const now = cask.clock.wall();
    expect(found).toEqual([["a", now + 5, undefined], ["b", now + 9, undefined], ["c", undefined, true], [
      "d",
      undefined,
      undefined,
    ]]);
  });

  test("is one write and one sync, with what else its tick writes", async () => {
    const { cask, bucket } = await openBucket();
    await bucket.set("seed", 0);
    const from = cask.disk.calls.length;
    const entries = Array.from({ length: 999 }, (_, index): [string, number] => [`k${index}`, index]);
    await Promise.all([bucket.set("a", 1), bucket.setMany(entries), bucket.set("b", 1)]);
    expect(cask.disk.calls.slice(from).map(({ action }) => action)).toEqual(["write", "sync"]);
  });

  test("asks for entries as they are written: two slices are in memory, by number or by bytes", async () => {
    for (const isAsync of [false, true]) {
      for (const limits of [{ batchOperationsMax: 10 }, { batchBytesMax: 100 }]) {
        const { cask, bucket } = await openBucket(limits);
        await bucket.set("seed", 0);
        let asked = 0;
        const next = (): [string, string] => [`k${String(asked++).padStart(4, "0")}`, "1234"];
        const some = function* (): Generator<[string, string]> {
          while (asked < 95) yield next();
        };
        const later = async function* (): AsyncGenerator<[string, string]> {
          while (asked < 95) yield await Promise.resolve(next());
        };
        const held = gate();
        cask.disk.before = (call) => call.action === "sync" ? held.wait : undefined;
        const written = bucket.setMany(isAsync ? later() : some());
        await cask.settle();
        // One slice waits for the disk, one is full, and the entry that did not fit it is at hand.
        expect([isAsync, limits, asked]).toEqual([isAsync, limits, 21]);
        held.open();
        expect(await written).toBe(95);
        expect((await entriesOf(bucket)).length).toBe(96);
      }
    }
  });

  test("sets an entry that is larger than a slice by itself", async () => {
    const { bucket } = await openBucket({ batchBytesMax: 100 });
    const large = "x".repeat(1_000);
    expect(await bucket.setMany([["a", 1], ["b", large], ["c", large], ["d", 4]])).toBe(4);
    expect(await entriesOf(bucket)).toEqual([["a", 1], ["b", large], ["c", large], ["d", 4]]);
  });

  test("rejects over an entry that is none, and has written none of its slice", async () => {
    const { bucket } = await openBucket({ batchOperationsMax: 2 });
    const wrong: [unknown, typeof TypeError | typeof RangeError][] = [
      ["text", TypeError],
      [{ key: "x", value: 1 }, TypeError],
      [[5, 1], TypeError],
      [["x", undefined], TypeError],
      [["x"], TypeError],
      [["x", 1, { ttl: 0 }], RangeError],
      [["x", 1, { ifRevision: 0 }], TypeError],
      [["", 1], RangeError],
    ];
    for (const [entry, type] of wrong) {
      expect(await failureOf(bucket.setMany([["w", 1], entry as SetManyEntry]))).toBeInstanceOf(type);
      expect(await entriesOf(bucket)).toEqual([]);
    }
    expect(await failureOf(bucket.setMany([["w", 1]], { ifRevision: 1 } as object))).toBeInstanceOf(TypeError);
    expect(await failureOf(bucket.setMany(5 as unknown as []))).toBeInstanceOf(TypeError);
    const bad = ["x"] as unknown as SetManyEntry;
    expect(await failureOf(bucket.setMany([["a", 1], ["b", 1], ["c", 1], bad]))).toBeInstanceOf(TypeError);
    expect(await entriesOf(bucket)).toEqual([["a", 1], ["b", 1]]);
  });

  test("ends its source, and leaves nothing on its way, when it fails", async () => {
    const { cask, bucket } = await openBucket({ batchOperationsMax: 10 });
    await bucket.set("seed", 0);
    let ended = false;
    let asked = 0;
    async function* endless(): AsyncGenerator<[string, number]> {
      try {
        for (;;) yield await Promise.resolve<[string, number]>([`k${asked}`, asked++]);
      } finally {
        ended = true;
      }
    }
    let writes = 0;
    cask.disk.before = ({ action }) => {
      if (action === "write" && ++writes === 3) throw new FirkinError("FULL", "The test says so");
    };
    expect(await errorCode(() => bucket.setMany(endless()))).toBe("FULL");
    expect(ended).toBe(true);
    const found = (await entriesOf(bucket)).length;
    await cask.settle();
    expect((await entriesOf(bucket)).length).toBe(found);
    // Two slices, and whatever was on its way behind the third.
    expect(found % 10).toBe(1);
    const failure = new Error("The source fails");
    const bad = (function* (): Generator<[string, number]> {
      for (let index = 10; index < 22; index++) yield [`z${index}`, index];
      throw failure;
    })();
    const held = gate();
    cask.disk.before = (call) => call.action === "sync" ? held.wait : undefined;
    let told: unknown;
    const written = failureOf(bucket.setMany(bad)).then((error) => told = error);
    await cask.settle();
    expect([told, await bucket.has("z10")]).toEqual([undefined, false]);
    held.open();
    await written;
    expect([told, await bucket.has("z19"), await bucket.has("z20")]).toEqual([failure, true, false]);
  });

  test("rejects when its last group fails, though its first is written", async () => {
    // Two groups in one tick: the second begins the next segment, whose file cannot be made.
    const { cask, bucket } = await openBucket({ segmentBytesMax: 4_096 });
    await bucket.set("seed", 0);
    const entries = Array.from({ length: 200 }, (_, index): [string, number] => [`k${index}`, index]);
    cask.disk.before = ({ action }) => {
      if (action === "create") throw new FirkinError("IO", "The test says so");
    };
    expect(await errorCode(() => bucket.setMany(entries))).toBe("IO");
    const count = (await entriesOf(bucket)).length;
    expect(count > 1 && count < 200).toBe(true);
    cask.disk.before = () => {};
    expect(await bucket.setMany(entries)).toBe(200);
    expect((await entriesOf(bucket)).length).toBe(201);
  });

  test("is on the platter when it resolves, under always", async () => {
    const disk = new Disk();
    const cask = await Cask.open({ segmentBytesMax: 4_096 }, disk);
    const bucket = new Bucket<number>(cask.engine, "b");
    await bucket.setMany(Array.from({ length: 1_500 }, (_, index): [string, number] => [`k${index}`, index]));
    disk.cutPower();
    await cask.open();
    expect((await cask.engine.stats())["keys"]).toBe(1_500);
  });
});
