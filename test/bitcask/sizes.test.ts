/**
 * The sizes of buckets against a model: whatever happens to keys, over compactions, crashes and lives.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { HEADER_BYTES } from "../../lib/bitcask/record.ts";
import { SEGMENT_HEADER_BYTES } from "../../lib/bitcask/segment.ts";
import { BucketSizes } from "../../lib/bitcask/sizes.ts";
import type { Operation } from "../../lib/engine/engine.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { shareOf } from "../suites/random.ts";

type Random = (limit: number) => number;

const BUCKETS = ["a", "b", "c"];
const DEADLINE_BYTES = 6;

/** The bytes of the newest record of each key, as `bucket key`, and the deadlines that there are. */
class Model {
  readonly bytes = new Map<string, number>();
  readonly deadlines = new Map<string, number>();

  set(bucket: string, key: string, value: string, expiresAt: number | undefined): void {
    this.delete(bucket, key);
    const header = HEADER_BYTES + (expiresAt === undefined ? 0 : DEADLINE_BYTES);
    this.bytes.set(`${bucket} ${key}`, header + key.length + value.length);
    if (expiresAt !== undefined) this.deadlines.set(`${bucket} ${key}`, expiresAt);
  }

  delete(bucket: string, key: string): void {
    this.bytes.delete(`${bucket} ${key}`);
    this.deadlines.delete(`${bucket} ${key}`);
  }

  /** What is due at this time ends. */
  expire(now: number): void {
    for (const [name, deadline] of this.deadlines) {
      const [bucket, key] = name.split(" ") as [string, string];
      if (deadline <= now) this.delete(bucket, key);
    }
  }

  /** As `a 2 64, b 0 0`, of the buckets that have these names. */
  sizes(names: readonly string[]): string {
    return names.map((name) => {
      const all = [...this.bytes].filter(([place]) => place.startsWith(`${name} `));
      return `${name} ${all.length} ${all.reduce((sum, [, bytes]) => sum + bytes, 0)}`;
    }).join(", ");
  }
}

async function sizesOf(cask: Cask): Promise<string> {
  return (await cask.engine.buckets()).map(({ name, keys, bytes }) => `${name} ${keys} ${bytes}`).join(", ");
}

/** One change, of the model once it has been acknowledged. */
async function change(cask: Cask, model: Model, random: Random): Promise<void> {
  const { engine, clock } = cask;
  const [bucket, key, value] = [BUCKETS[random(3)]!, `k${random(12)}`, "v".repeat(random(300))];
  const [bytes, ttl] = [bytesOf(key), random(3) === 0 ? 1 + random(400) : undefined];
  const expiresAt = ttl === undefined ? undefined : clock.wall() + ttl;
  const deadline = expiresAt === undefined ? {} : { deadline: { expiresAt } };
  const doing = random(8);
  if (doing < 4) {
    await engine.set(bucket, bytes, bytesOf(value), { content: CONTENT.text, ...deadline });
    model.set(bucket, key, value, expiresAt);
  } else if (doing === 4) {
    await engine.delete(bucket, bytes);
    model.delete(bucket, key);
  } else if (doing === 5) {
    await engine.take(bucket, bytes);
    model.delete(bucket, key);
  } else {
    const other = `k${random(12)}`;
    const operations: Operation[] = [
      { type: "set", bucket, key: bytes, value: bytesOf(value), content: CONTENT.text, ...deadline },
      { type: "delete", bucket: "b", key: bytesOf(other) },
    ];
    await engine.atomic(operations);
    model.set(bucket, key, value, expiresAt);
    model.delete("b", other);
  }
}

/** A write that fails: nothing of it counts, and neither does what was taken back. */
async function fail(cask: Cask, random: Random): Promise<void> {
  const { disk, engine } = cask;
  disk.before = ({ action }) => {
    if (action === "write") throw new FirkinError("FULL", "The disk is full");
  };
  const write = engine.set(BUCKETS[random(3)]!, bytesOf(`k${random(12)}`), bytesOf("none"), { content: CONTENT.text });
  await write.then(() => expect("a write that fails").toBe("refused"), () => {});
  disk.before = () => {};
}

/** Another life, with all hints, some, or none; or with those damaged that there are. */
async function reopen(cask: Cask, random: Random): Promise<void> {
  await cask.close();
  const hints = cask.disk.list().filter((name) => name.endsWith(".hint") && random(2) === 0);
  const damaged = random(2) === 0;
  for (const name of hints) {
    const bytes = cask.disk.bytes(name);
    bytes[bytes.length >> 1]! ^= 1;
    if (damaged) cask.disk.put(name, bytes);
    else cask.disk.remove(name);
  }
  await cask.open();
}

describe("BucketSizes", () => {
  test("are what a model says, after every change and in every life", async () => {
    for (const seed of shareOf(18)) {
      const random = randomOf(seed);
      const hash = seed % 4 === 0 ? { hash: () => 7 } : {};
      const cask = await Cask.open({ tombstoneRetentionMs: 1, automatic: seed % 2 === 0, deadBytes: 2_000, ...hash });
      const model = new Model();
      for (let step = 0; step < 250; step++) {
        const doing = random(40);
        if (doing === 0) await reopen(cask, random);
        else if (doing === 1) await cask.compact();
        else if (doing === 2) await fail(cask, random);
        else if (doing < 6) await cask.advance(random(200));
        else await cask.finish(change(cask, model, random));
        model.expire(cask.clock.wall());
        const names = (await cask.engine.buckets()).map(({ name }) => name);
        expect(`seed ${seed}, step ${step}: ${await sizesOf(cask)}`)
          .toBe(`seed ${seed}, step ${step}: ${model.sizes(names)}`);
      }
      expect((await cask.engine.stats())["keys"]).toBe(model.bytes.size);
      await cask.close();
    }
  });

  test("of one bucket are asked for by its name", async () => {
    const cask = await Cask.open();
    await cask.set("k", "value");
    expect(await cask.engine.buckets("b")).toMatchObject([{ name: "b", keys: 1, bytes: HEADER_BYTES + 6 }]);
    expect(await cask.engine.buckets("none")).toEqual([]);
    await cask.close();
  });

  test("a record whose length is damaged is one key less, and its bytes stay until the next open", async () => {
    const cask = await Cask.open({ cacheBytesMax: 0 });
    await cask.set("bad", "b".repeat(3_000));
    await cask.set("good", "g".repeat(3_000));
    await cask.advance(0);
    const [first] = cask.disk.segments();
    const bytes = cask.disk.bytes(first!);
    // The highest byte of its value's length.
    bytes[SEGMENT_HEADER_BYTES + 11] = 1;
    await cask.close();
    cask.disk.put(first!, bytes);
    await cask.open();
    await cask.set("bad", "new");
    const record = (key: string, value: number): number => HEADER_BYTES + key.length + value;
    const both = record("bad", 3) + record("good", 3_000);
    expect(await cask.engine.buckets()).toMatchObject([{ name: "b", keys: 2, bytes: both + record("bad", 3_000) }]);
    await cask.reopen();
    expect(await cask.engine.buckets()).toMatchObject([{ name: "b", keys: 2, bytes: both }]);
    await cask.close();
  });

  test("have room for every bucket that there may be", () => {
    const sizes = new BucketSizes();
    for (const bucket of [1, 15, 16, 17, 4_096]) sizes.add(bucket, 1, bucket);
    sizes.add(17, -1, -7);
    expect([1, 15, 16, 17, 18, 4_096].map((bucket) => sizes.keysOf(bucket))).toEqual([1, 1, 1, 0, 0, 1]);
    expect([1, 17, 4_096, 9_999].map((bucket) => sizes.bytesOf(bucket))).toEqual([1, 10, 4_096, 0]);
  });
});
