/**
 * Changes that wait: a condition sees them all, however many they are and whatever their hashes.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { gate } from "../suites/disk.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { bytesOf } from "../suites/engine_subject.ts";

describe("PendingChanges", () => {
  // More than the table has chains at first; hashes of which many fall into one chain, or all are equal.
  for (const [name, hash] of [["spread", undefined], ["in few chains", 0x10000], ["equal", 1]] as const) {
    test(`newest() finds what waits, newest first, when hashes are ${name}`, async () => {
      const cask = await Cask.open({
        segmentBytesMax: 2 ** 20,
        ...(hash === undefined ? {} : { hash: (_bucket, key) => (key[key.length - 1]! * hash) % 2 ** 32 }),
      });
      await cask.set("seed", "0");
      const gates = [gate(), gate(), gate()];
      let syncs = 0;
      cask.disk.before = (call) => call.action === "sync" ? gates[syncs++]?.wait : undefined;
      const random = randomOf(1);
      const keys = hash === undefined ? 3_000 : 300;
      // By key; every write that happens takes the next revision.
      const revisions = new Map<string, number>();
      let revision = 1;
      const writes: Promise<boolean>[] = [];
      const expected: boolean[] = [];
      for (let index = 0; index < 2 * keys; index++) {
        // The first ones are being written, and then visible, while the others are judged.
        if (index === 100) await cask.settle();
        if (index === keys) {
          gates[0]!.open();
          await cask.settle();
        }
        const key = `k${random(keys)}`;
        const present = revisions.get(key) ?? 0;
        const happens = random(3) > 0;
        const ifRevision = happens ? present : present + 1;
        const isDelete = present > 0 && random(4) === 0;
        const written = isDelete
          ? cask.engine.delete("b", bytesOf(key), { ifRevision })
          : cask.set(key, `${index}`, { ifRevision });
        writes.push(written.then(({ ok }) => ok));
        expected.push(happens);
        if (happens) revisions.set(key, (revision++, isDelete ? 0 : revision));
      }
      for (const held of gates) held.open();
      expect(await Promise.all(writes)).toEqual(expected);
    });
  }
});
