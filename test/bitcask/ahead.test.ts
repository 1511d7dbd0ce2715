/**
 * Space that is written ahead of the log's end, so that a sync has no length to write.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import { verified } from "../suites/damage.ts";
import { Cask } from "../suites/embedded.ts";
import { errorCode } from "../suites/fs.ts";

describe("GroupCommit, writing ahead", () => {
  const KIB = 1024;
  /** What the file of the first segment has, and what of it are records. */
  function sizes(cask: Cask): [file: number, records: number] {
    const [name] = cask.disk.segments();
    return [cask.disk.bytes(name!).length, cask.disk.records(name!).length];
  }

  test("keeps the file's length over many groups, by steps that grow with it", async () => {
    const cask = await Cask.open({ segmentBytesMax: 1024 * KIB });
    let grown = 0;
    let last = 0;
    for (let group = 0; group < 4_000; group++) {
      await cask.set("k", "v".repeat(73));
      const [file, records] = sizes(cask);
      expect(file % (4 * KIB)).toBe(0);
      expect(file - records).toBeLessThan(Math.min(Math.max(records, 4 * KIB), 64 * KIB) + 4 * KIB);
      if (file !== last) grown++;
      last = file;
      if (group === 0) expect(file).toBe(8 * KIB);
    }
    expect(last).toBeGreaterThan(500 * KIB);
    expect(grown).toBeLessThan(16);
  });

  test("is for small groups, and under always", async () => {
    const large = await Cask.open({ segmentBytesMax: 1024 * KIB });
    await large.set("k", "v".repeat(20 * KIB));
    expect(sizes(large)[0]).toBe(sizes(large)[1]);
    for (const sync of ["interval", "os"] as const) {
      const cask = await Cask.open({ sync });
      await cask.set("k", "v");
      await cask.take("k");
      expect(sizes(cask)[0]).toBe(sizes(cask)[1]);
    }
  });

  test("ends where the segment must end, and is cut off by its seal and by a close", async () => {
    const cask = await Cask.open({ segmentBytesMax: 6_000 });
    await cask.set("k", "v");
    expect(sizes(cask)[0]).toBe(6_000);
    for (let group = 0; group < 100; group++) await cask.set("k", "v".repeat(100));
    const names = cask.disk.segments();
    expect(names.length).toBeGreaterThan(2);
    for (const name of names.slice(0, -1)) expect(cask.disk.bytes(name).length).toBe(cask.disk.records(name).length);
    const last = names.at(-1)!;
    expect(cask.disk.bytes(last).length).toBeGreaterThan(cask.disk.records(last).length);
    await cask.close();
    expect(cask.disk.bytes(last).length).toBe(cask.disk.records(last).length);
    await cask.open();
    await cask.set("k", "1");
    expect(cask.disk.bytes(last).length).toBeGreaterThan(cask.disk.records(last).length);
  });

  test("takes no room that a record needs, and fails nothing where there is none", async () => {
    const cask = await Cask.open({ segmentBytesMax: 64 * KIB });
    await cask.set("k", "v");
    const [file, records] = sizes(cask);
    // Room for some records behind those that fit what was written ahead, but not for another step.
    cask.disk.capacity = 0;
    cask.disk.capacity = 600 - cask.disk.room;
    const length = 26 + "k0".length + 100;
    let count = 0;
    let code: string | undefined;
    for (; code === undefined; count++) {
      code = await errorCode(() => cask.set(`k${count % 10}`, "v".repeat(100)));
      // What was tried for another step is given back.
      if (sizes(cask)[1] > file) expect(sizes(cask)[0]).toBe(sizes(cask)[1]);
    }
    expect(code).toBe("FULL");
    // Each group but the first has a mark before its record.
    expect(count - 1).toBe(Math.floor((file + 600 - records) / (length + 32)));
    expect(sizes(cask)[0]).toBe(sizes(cask)[1]);
    cask.disk.crash();
    await cask.open();
    expect(await cask.engine.stats()).toMatchObject({ keys: 11, revision: count });
  });

  test("that fails otherwise fails its group, and the log goes on", async () => {
    const cask = await Cask.open({ segmentBytesMax: 64 * KIB });
    await cask.set("k", "0");
    await cask.close();
    await cask.open();
    let writes = 0;
    cask.disk.before = ({ action }) => {
      if (action === "write" && ++writes === 2) throw new FirkinError("IO", "The test says so");
    };
    expect(await errorCode(() => cask.set("k", "1"))).toBe("IO");
    expect([cask.get("k"), sizes(cask)[0]]).toEqual(["0", sizes(cask)[1]]);
    await cask.engine.sync();
    expect((await cask.set("k", "2")).ok).toBe(true);
    // No mark says that what was cut off is safe.
    expect((await verified(cask.disk.clone())).damage).toEqual([]);
    cask.disk.cutPower();
    await cask.open();
    expect(cask.get("k")).toBe("2");
  });
});
