/**
 * Repair keeps everything outside the damaged places, says what it cannot know, and may die at any call.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import type { Damage } from "../../lib/bitcask/verify.ts";
import { entriesOf, flipped, type History, repaired, stateOf, verified, withBatch } from "../suites/damage.ts";
import type { Disk } from "../suites/disk.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";
import { shareOf } from "../suites/random.ts";

/** Some segments of small records, and what each revision says. */
async function written(seed: number, closed = true, steps = 14): Promise<{ disk: Disk; history: History }> {
  const random = randomOf(seed);
  const cask = await Cask.open({ segmentBytesMax: 400 });
  const history = new Map<number, { key: string; value: string | undefined }>();
  for (let step = 0; step < steps; step++) {
    const key = `k${random(5)}`;
    const value = random(5) === 0 ? undefined : `${step}`.repeat(1 + random(20));
    const result = await (value === undefined ? cask.delete(key) : cask.set(key, value));
    if (result.ok) history.set(result.revision, { key, value });
  }
  if (closed) await cask.close();
  else cask.disk.crash();
  return { disk: cask.disk, history };
}

/** What must be there when nothing in these places is. */
function expectedOf(history: History, damage: readonly Damage[]): Map<string, string> {
  const gaps = damage.filter(({ problem }) => problem !== "header" && problem !== "mark");
  return stateOf(history, (revision) => {
    return !gaps.some(({ revisions: { after, before = Infinity } }) => after < revision && revision < before);
  });
}

function same(left: ReadonlyMap<string, string>, right: ReadonlyMap<string, string>): boolean {
  return left.size === right.size && [...left].every(([key, value]) => right.get(key) === value);
}

function files(disk: Disk): string[] {
  return disk.list().toSorted().map((name) => `${name} ${disk.bytes(name).join()}`);
}

describe("repairLog()", () => {
  test("changes nothing in a sound store, torn or closed", async () => {
    for (const closed of [true, false]) {
      const { disk } = await written(1, closed);
      const last = disk.segments().at(-1)!;
      if (!closed) disk.put(last, disk.bytes(last).slice(0, -1));
      const before = files(disk);
      const calls = disk.calls.length;
      expect(await repaired(disk)).toMatchObject({ changed: false, damage: [], quarantined: [] });
      expect(disk.calls.length).toBe(calls);
      expect(files(disk)).toEqual(before);
    }
  });

  test("keeps what is outside the damaged place, whichever bit is flipped", async () => {
    const { disk, history } = await written(2, true, 6);
    // One expectation for all bits: thousands of them would be most of the test's time.
    const wrong: unknown[] = [];
    let changes = 0;
    for (const name of disk.segments()) {
      for (const bit of shareOf(disk.bytes(name).length * 8)) {
        const other = flipped(disk, name, bit);
        const original = other.bytes(name);
        const { changed, damage, quarantined, uncertain } = await repaired(other);
        if (!changed) continue;
        changes++;
        const found = await entriesOf(other);
        const right = typeof found !== "string" && same(found, expectedOf(history, damage));
        const kept = quarantined.join() === `${name}.quarantine` &&
          original.every((byte, index) => byte === other.bytes(quarantined[0]!)[index]);
        // At most one change can be lost, and the report has its revision.
        const lost = [...history.keys()].filter((revision) => {
          return uncertain.revisions.some(({ after, before = Infinity }) => after < revision && revision < before);
        });
        if (!right || !kept || lost.length > 1) wrong.push({ name, bit, right, kept, lost });
        if (bit % 8 !== 0) continue;
        const before = files(other);
        expect(await repaired(other)).toMatchObject({ changed: false });
        expect(files(other)).toEqual(before);
      }
    }
    expect(wrong).toEqual([]);
    expect(changes).toBeGreaterThan(1_000);
  }, 60_000);

  test("keeps what is before the end of a segment that was cut, at every length", async () => {
    const { disk, history } = await written(3);
    for (const name of disk.segments()) {
      const whole = disk.bytes(name);
      for (const length of shareOf(whole.length)) {
        const other = disk.clone();
        other.put(name, whole.slice(0, length));
        const { changed, damage } = await repaired(other);
        const found = await entriesOf(other);
        if (changed) expect([name, length, found]).toEqual([name, length, expectedOf(history, damage)]);
        else expect(typeof found).toBe("object");
      }
    }
  });

  test("saves what is sound behind rot in the active segment, and passes over lost revisions", async () => {
    const { disk, history } = await written(4, false);
    const last = disk.segments().at(-1)!;
    const { damage } = await repaired(disk);
    expect(damage).toEqual([]);
    const other = flipped(disk, last, 60 * 8);
    expect(await entriesOf(other)).toBe("CORRUPT");
    const { damage: found, records } = await repaired(other);
    expect(records).toBe(history.size - 1);
    expect(await entriesOf(other)).toEqual(expectedOf(history, found));
    const cask = await Cask.open({ segmentBytesMax: 400 }, other);
    const result = await cask.set("new", "1");
    expect(result.ok && result.revision > Math.max(...history.keys())).toBe(true);
    await cask.close();
    expect((await verified(other)).sound).toBe(true);
  });

  test("never gives a revision or a segment twice after the end of the log is lost", async () => {
    const { disk, history } = await written(5);
    const last = disk.segments().at(-1)!;
    const old = JSON.parse(new TextDecoder().decode(disk.bytes("manifest")).split("\n")[0]!);
    // All but the clean mark, which says that it was safe.
    disk.put(last, disk.bytes(last).fill(0xff, 32, disk.bytes(last).length - 32));
    const { uncertain } = await repaired(disk);
    const { after, before } = uncertain.revisions.at(-1)!;
    expect(before).toBe(undefined);
    const cask = await Cask.open({ segmentBytesMax: 400 }, disk);
    const result = await cask.set("new", "1");
    expect(result.ok && result.revision > Math.max(...history.keys()) && after < result.revision).toBe(true);
    await cask.close();
    const made = JSON.parse(new TextDecoder().decode(disk.bytes("manifest")).split("\n")[0]!);
    expect(made.epoch).not.toBe(old.epoch);
    expect(made.segments.filter((id: number) => id >= old.nextSegment).length).toBeGreaterThan(0);
    expect(made.segments).not.toContain(Number(last.slice(0, 10)));
  });

  test("survives a crash or a power cut at any call, and is then done again", async () => {
    const { disk, history } = await written(6);
    const names = disk.segments();
    const damaged = flipped(flipped(disk, names[0]!, 70 * 8), names[1]!, 33 * 8);
    for (const manifest of ["sound", "bad"]) {
      const base = manifest === "bad" ? flipped(damaged, "manifest", 30 * 8) : damaged;
      const whole = base.clone();
      const { damage } = await repaired(whole);
      const expected = expectedOf(history, damage.filter(({ problem }) => problem !== "manifest"));
      expect([...(await entriesOf(whole) as Map<string, string>)]).toEqual([...expected]);
      const calls = whole.calls.length;
      expect(calls).toBeGreaterThan(10);
      for (const end of ["crash", "cutPower"] as const) {
        for (let call = 0; call < calls; call++) {
          const other = base.clone();
          other.before = ({ number }) => {
            if (number === call) throw new FirkinError("IO", "the end");
          };
          expect(await errorCode(() => repaired(other.mount()))).toBe("IO");
          other[end]();
          await repaired(other, 3);
          const place = `${manifest} ${end} ${call}`;
          expect([place, await entriesOf(other)]).toEqual([place, expected]);
          expect((await verified(other)).sound).toBe(true);
          for (const name of names.slice(0, 2)) expect(other.bytes(`${name}.quarantine`)).toEqual(base.bytes(name));
        }
      }
    }
  });

  test("rebuilds a manifest that is bad or gone, and says which names it made up", async () => {
    const { disk, history } = await written(7);
    const size = disk.bytes("manifest").length;
    const expected = stateOf(history, () => true);
    for (const bit of shareOf(size * 8)) {
      const other = flipped(disk, "manifest", bit);
      await repaired(other);
      const found = await entriesOf(other);
      // The name of the bucket may be what was damaged.
      if (typeof found !== "string" && found.size === 0) continue;
      expect([bit, found]).toEqual([bit, expected]);
      expect(other.bytes("manifest.quarantine").length).toBe(size);
    }
    disk.remove("manifest");
    expect(await repaired(disk)).toMatchObject({ changed: true, bucketsNamed: ["bucket-1"], quarantined: [] });
    const cask = await Cask.open({}, disk);
    const { entries } = await cask.engine.list("bucket-1", { limit: 100 });
    expect(entries.map(({ key }) => textOf(key)!)).toEqual([...expected.keys()]);
  });

  test("merges what a compaction left twice when the manifest is gone", async () => {
    const { disk, history } = await written(8);
    const before = disk.clone();
    const cask = await Cask.open({ segmentBytesMax: 400 }, disk);
    await cask.compact();
    await cask.close();
    for (const name of before.segments()) {
      if (!disk.segments().includes(name)) disk.put(name, before.bytes(name));
    }
    disk.remove("manifest");
    await repaired(disk);
    const opened = await Cask.open({}, disk);
    const { entries } = await opened.engine.list("bucket-1", { limit: 100 });
    const found = entries.map(({ key, revision, value }) => [textOf(key), `${revision}:${textOf(value)}`]);
    expect(found).toEqual([...stateOf(history, () => true)]);
    await opened.close();
    expect((await verified(disk)).sound).toBe(true);
  });

  test("drops a batch that is not whole, and nothing beside it", async () => {
    const { disk, name, starts } = await withBatch();
    expect([...(await entriesOf(disk) as Map<string, string>).keys()]).toEqual(["k1", "k2", "k3", "k4", "k5"]);
    for (const member of [0, 1, 2]) {
      const other = flipped(disk, name, (starts[member]! + 12) * 8 + 9);
      const { uncertain } = await repaired(other);
      expect([...(await entriesOf(other) as Map<string, string>).keys()]).toEqual(["k1", "k5"]);
      expect(uncertain.revisions).toEqual([{ after: 1, before: 5 }]);
      expect((await verified(other)).sound).toBe(true);
    }
  });

  test("lets go of a missing segment, and says what may be lost", async () => {
    const { disk, history } = await written(9);
    const second = disk.segments()[1]!;
    disk.remove(second);
    const { damage, uncertain } = await repaired(disk);
    expect(damage).toMatchObject([{ problem: "missing", file: second }]);
    expect(uncertain.revisions.length).toBe(1);
    expect(await entriesOf(disk)).toEqual(expectedOf(history, damage));
  });

  test("lists the keys that a damaged record names, and what they are now", async () => {
    const cask = await Cask.open();
    await cask.set("a", "old");
    await cask.set("b", "1");
    const start = cask.disk.records("0000000001.segment").length;
    await cask.set("a", "new");
    await cask.set("c", "1");
    await cask.close();
    const disk = flipped(cask.disk, "0000000001.segment", (start + 32 + 27) * 8);
    const { uncertain } = await repaired(disk);
    expect(uncertain.keys.map(({ bucket, key, revision }) => [bucket, textOf(key), revision])).toEqual([["b", "a", 1]]);
    expect(uncertain.revisions).toEqual([{ after: 2, before: 4 }]);
    expect(uncertain.olderMax).toBe(2);
  });

  test("leaves everything as it was when there is no room", async () => {
    const { disk } = await written(10);
    const other = flipped(disk, disk.segments()[0]!, 70 * 8);
    const before = files(other);
    other.before = ({ action }) => {
      if (action === "write") throw new FirkinError("FULL", "no space");
    };
    expect(await errorCode(() => repaired(other))).toBe("FULL");
    other.before = () => {};
    for (const file of before) expect(files(other)).toContain(file);
    expect((await repaired(other)).changed).toBe(true);
  });
});
