/**
 * Verify names what is damaged, and only that: every bit of a small store, every length of its files.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { SEGMENT_HEADER_BYTES } from "../../lib/bitcask/segment.ts";
import { verifyLog } from "../../lib/bitcask/verify.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { entriesOf, finish, flipped, verified, withBatch } from "../suites/damage.ts";
import { Disk } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";
import { shareOf } from "../suites/random.ts";

/** A closed store of three segments with a few small records each. */
async function threeSegments(): Promise<Disk> {
  const cask = await Cask.open({ segmentBytesMax: 300 });
  for (const [index, key] of ["a", "b", "c", "a", "d", "e", "b", "f", "a"].entries()) {
    await cask.set(key, `${key}${index}`.repeat(3));
    if (index === 4) await cask.delete("c");
  }
  await cask.close();
  expect(cask.disk.segments().length).toBe(3);
  return cask.disk;
}

describe("verifyLog()", () => {
  test("finds nothing in a sound store, and counts it", async () => {
    const disk = await threeSegments();
    const found = await verified(disk);
    const bytes = disk.segments().reduce((sum, name) => sum + disk.bytes(name).length, 0);
    expect(found).toEqual({
      sound: true,
      damage: [],
      tail: undefined,
      leftovers: [],
      kept: [],
      badHints: [],
      segments: 3,
      records: 10,
      bytes,
      revision: 10,
    });
  });

  test("names the segment and the record of any flipped bit", async () => {
    const disk = await threeSegments();
    // One expectation for all bits: thousands of them would be most of the test's time.
    const wrong: unknown[] = [];
    for (const [index, name] of disk.segments().entries()) {
      const size = disk.bytes(name).length;
      for (const bit of shareOf(size * 8)) {
        const byte = bit >> 3;
        const other = flipped(disk, name, bit);
        const { damage, sound, records, tail } = await verified(other);
        if (sound) {
          // The clean mark alone may pass for a tear: nothing behind it says that it was safe.
          if (index !== 2 || byte < size - 32 || tail?.type !== "torn") wrong.push({ name, bit, tail });
          continue;
        }
        const { file, segment, offset, bytes, problem, revisions: { after, before = 11 } } = damage[0]!;
        const placed = file === name && segment === index + 1 && offset <= byte && byte < offset + bytes;
        // One record at most is lost, and its revision is the only one in the gap.
        const lost = 10 - records;
        const counted = problem === "header" ? lost === 0 : lost === before - after - 1;
        const called = problem === (byte < SEGMENT_HEADER_BYTES ? "header" : "record");
        const opens = bit % 5 === 0 && await entriesOf(other) !== "CORRUPT";
        if (damage.length !== 1 || !placed || !counted || !called || opens) wrong.push({ name, bit, damage });
      }
    }
    expect(wrong).toEqual([]);
  }, 60_000);

  test("agrees with an open about every length of every segment", async () => {
    const disk = await threeSegments();
    for (const name of disk.segments()) {
      const whole = disk.bytes(name);
      for (let length = 0; length < whole.length; length++) {
        const other = disk.clone();
        other.put(name, whole.slice(0, length));
        const { sound, damage } = await verified(other);
        const opens = typeof await entriesOf(other) !== "string";
        expect(`${name} ${length}: ${sound}`).toBe(`${name} ${length}: ${opens}`);
        if (!sound) expect(damage[0]!.file).toBe(name);
      }
    }
  });

  test("agrees with an open about a log that ends with a seal", async () => {
    const cask = await Cask.open();
    for (const key of ["a", "b", "c"]) await cask.set(key, key.repeat(20));
    await cask.compact();
    await cask.close();
    const [name] = cask.disk.segments();
    for (let bit = 0; bit < cask.disk.bytes(name!).length * 8; bit += 3) {
      const other = flipped(cask.disk, name!, bit);
      const opens = typeof await entriesOf(other) !== "string";
      expect(`${bit}: ${(await verified(other)).sound}`).toBe(`${bit}: ${opens}`);
    }
  });

  test("names the key of a damaged record, as far as it can be read", async () => {
    const disk = await threeSegments();
    const [first] = disk.segments();
    const at = disk.bytes(first!).length - 26 - 32 - 3;
    const { damage } = await verified(flipped(disk, first!, at * 8));
    expect(damage.map(({ keys }) => keys.map(({ bucket, key }) => `${bucket}/${textOf(key)}`))).toEqual([["b/a"]]);
  });

  test("finds what stands behind a flipped length, and each of two damaged places", async () => {
    const disk = await threeSegments();
    const [first] = disk.segments();
    // The highest byte of the first record's value length; and one byte of the third record.
    const third = SEGMENT_HEADER_BYTES + 2 * (26 + 1 + 6) + 2 * 32 + 30;
    const { damage } = await verified(
      flipped(flipped(disk, first!, (SEGMENT_HEADER_BYTES + 11) * 8), first!, third * 8),
    );
    expect(damage.length).toBe(2);
    expect(damage.map(({ revisions }) => revisions)).toEqual([{ after: 0, before: 2 }, { after: 2, before: 4 }]);
  });

  test("says of a torn end that it is one, and of a log that ends in zeros", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    await cask.set("b", "2");
    cask.disk.crash();
    const [name] = cask.disk.segments();
    const whole = cask.disk.records(name!);
    cask.disk.put(name!, whole.slice(0, -1));
    expect((await verified(cask.disk)).tail).toMatchObject({ type: "torn", file: name, segment: 1 });
    cask.disk.put(name!, Uint8Array.of(...whole, ...new Uint8Array(100)));
    const found = await verified(cask.disk);
    expect(found.tail).toMatchObject({ type: "empty", offset: whole.length, bytes: 100 });
    expect(found.sound).toBe(true);
  });

  test("tells rot in the active segment from a tear", async () => {
    const cask = await Cask.open();
    for (const key of ["a", "b", "c", "d"]) await cask.set(key, key.repeat(20));
    cask.disk.crash();
    const { damage, tail } = await verified(flipped(cask.disk, cask.disk.segments()[0]!, 60 * 8));
    expect(tail).toMatchObject({ type: "rot", offset: SEGMENT_HEADER_BYTES });
    expect(damage).toMatchObject([{ problem: "record", offset: SEGMENT_HEADER_BYTES, bytes: 26 + 21 }]);
    expect(damage.length).toBe(1);
  });

  test("does not count the zeros that were written ahead, whatever stands before them", async () => {
    const cask = await Cask.open();
    for (const key of ["a", "b", "c"]) await cask.set(key, key.repeat(20));
    cask.disk.crash();
    const [name] = cask.disk.segments();
    const { length } = cask.disk.records(name!);
    expect(cask.disk.bytes(name!).length).toBeGreaterThan(length + 1_000);
    const found = await verified(cask.disk);
    expect([found.sound, found.tail?.type, found.tail?.offset]).toEqual([true, "empty", length]);
    // A batch that is not whole ends there.
    const half = cask.disk.clone();
    await (await new Cask({}, half).open()).atomic("set d=1", "set e=2");
    half.crash();
    const bytes = half.bytes(name!);
    bytes.fill(0, half.records(name!).length - 28);
    half.put(name!, bytes);
    const { sound, tail, records } = await verified(half);
    expect([sound, tail?.type, tail?.offset, records]).toEqual([true, "torn", length + 32, 3]);
  });

  test("reports a batch that is not whole, and no half of it counts", async () => {
    const { disk, name, starts } = await withBatch();
    expect((await verified(disk)).sound).toBe(true);
    for (const member of [0, 1, 2]) {
      const { damage, records } = await verified(flipped(disk, name, (starts[member]! + 27) * 8));
      // What stood in the batch is out, whichever of its records is damaged; what stands beside it is not.
      expect(records).toBe(2);
      expect(damage.reduce((sum, one) => sum + one.bytes, 0)).toBe(starts[3]! - starts[0]!);
      for (const { revisions } of damage) expect(revisions).toEqual({ after: 1, before: 5 });
    }
    const flag = flipped(disk, name, (starts[3]! + 5) * 8 + 5);
    // The flag itself is what is damaged: no batch went on there.
    expect((await verified(flag)).damage.map(({ problem }) => problem)).toEqual(["record"]);
  });

  test("reports a manifest that is bad or missing, and reads the segments all the same", async () => {
    const disk = await threeSegments();
    const manifest = disk.bytes("manifest");
    for (let bit = 0; bit < manifest.length * 8; bit += 3) {
      const { damage, records } = await verified(flipped(disk, "manifest", bit));
      expect([bit, records, damage.map(({ problem }) => problem)]).toEqual([bit, 10, ["manifest"]]);
    }
    disk.remove("manifest");
    expect((await verified(disk)).damage.map(({ problem }) => problem)).toEqual(["manifest"]);
  });

  test("reports a missing segment, and names what is left over", async () => {
    const disk = await threeSegments();
    const [first, second] = disk.segments();
    const other = disk.clone();
    other.remove(second!);
    const [damage] = (await verified(other)).damage;
    expect(damage).toMatchObject({ problem: "missing", file: second, segment: 2 });
    disk.put("0000000009.segment", disk.bytes(first!));
    disk.put("manifest.new", disk.bytes("manifest"));
    disk.put("0000000009.hint", new Uint8Array(3));
    disk.put("0000000001.hint.new", new Uint8Array(3));
    disk.put("notes", disk.bytes("manifest"));
    const found = await verified(disk);
    const left = ["0000000001.hint.new", "0000000009.hint", "0000000009.segment", "manifest.new"];
    expect(found.leftovers.toSorted()).toEqual(left);
    expect(found.sound).toBe(true);
  });

  test("says so when there is no store, or nothing that tells whose the segments are", async () => {
    expect(await errorCode(() => verified(new Disk()))).toBe("IO");
    const disk = new Disk();
    disk.put("0000000001.segment", new Uint8Array(100));
    expect(await errorCode(() => verified(disk))).toBe("CORRUPT");
  });

  test("gives others their turn, tells how far it is, and lets an observer see every sound change", async () => {
    const cask = await Cask.open({ segmentBytesMax: 100_000 });
    for (let index = 0; index < 40; index++) await cask.set(`k${index}`, "x".repeat(30_000));
    await cask.close();
    const clock = new ManualClock();
    let turns = 0;
    const after = clock.after.bind(clock);
    clock.after = (delay, callback) => {
      turns++;
      return after(delay, callback);
    };
    const told: number[] = [];
    let changes = 0;
    const found = await finish(
      clock,
      verifyLog(cask.disk, {
        clock,
        progress: ({ bytes }) => told.push(bytes),
        observe: () => void changes++,
      }),
    );
    expect(turns).toBeGreaterThan(1);
    expect(told.at(-1)).toBe(found.bytes);
    expect(changes).toBe(40);
  });

  test("names hints that do not fit their segments, which are no damage", async () => {
    const disk = await threeSegments();
    const names = disk.list().filter((name) => name.endsWith(".hint")).sort();
    expect(names.length).toBe(2);
    expect(await verified(disk)).toMatchObject({ sound: true, badHints: [] });
    for (const name of names) {
      for (let bit = 0; bit < disk.bytes(name).length * 8; bit += 7) {
        expect(await verified(flipped(disk, name, bit))).toMatchObject({ sound: true, badHints: [name] });
      }
    }
    const torn = disk.clone();
    torn.put(names[1]!, disk.bytes(names[1]!).slice(0, 50));
    torn.put(names[0]!, disk.bytes(names[1]!));
    expect(await verified(torn)).toMatchObject({ sound: true, badHints: names });
  });
});
