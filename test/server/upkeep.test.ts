/**
 * Verify, repair, snapshot and restore as a user meets them: on real folders, through the command and the library.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type FirkinError, open, repair, restore, verify } from "../../mod.ts";
import { errorCode } from "../suites/fs.ts";
import { isOn } from "../suites/tools.ts";
import { Workplace } from "./command.ts";

const SEGMENT = "data/0000000001.segment";

/** What the commands do depends on no runtime; that they run on each is for `cli.test.ts`. */
const onBun = isOn("bun") ? describe : () => {};

onBun("upkeep", () => {
  let place: Workplace;
  beforeEach(async () => {
    place = new Workplace();
    const store = await open(place.path("data"));
    const bucket = store.bucket("b");
    for (const key of ["one", "two", "three"]) await bucket.set(key, `${key}!`);
    await store.close();
  });
  afterEach(() => place.end());

  /** Changes one byte of the record of "two". */
  function damage(): void {
    const bytes = readFileSync(place.path(SEGMENT));
    bytes[bytes.indexOf("two!")]! ^= 1;
    writeFileSync(place.path(SEGMENT), bytes);
  }

  test("firkin verify says sound, and what is damaged", async () => {
    const before = readdirSync(place.path("data")).toSorted();
    const sound = await place.run(["verify", "data"]);
    expect(sound).toMatchObject({ code: 0, stderr: [] });
    expect(sound.stdout).toMatch(/^3 changes up to revision 3 in 1 segment, \d+ bytes\nsound\n$/);
    expect(readdirSync(place.path("data")).toSorted()).toEqual(before);
    damage();
    const { code, stdout, stderr } = await place.run(["verify", "data"]);
    expect([code, stderr]).toEqual([1, []]);
    const [first, ...rest] = stdout.trim().split("\n");
    expect(first).toMatch(/^0000000001.segment at \d+: record, \d+ bytes; revision 2 may be lost; keys b\/two$/);
    expect(rest.at(-1)).toBe("1 damaged place; firkin repair --yes keeps what is sound");
    const json = await place.run(["verify", "data", "--json"]);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      sound: false,
      damage: [{
        problem: "record",
        segment: 1,
        revisions: { after: 1, before: 3 },
        keys: [{ bucket: "b", key: "two" }],
      }],
    });
  });

  test("firkin repair changes nothing without --yes, then keeps what is sound", async () => {
    damage();
    const bytes = readFileSync(place.path(SEGMENT));
    expect((await place.run(["repair", "data"])).code).toBe(1);
    expect(readFileSync(place.path(SEGMENT))).toEqual(bytes);
    const done = await place.run(["repair", "data", "--yes"]);
    expect(done).toMatchObject({ code: 0, stderr: [] });
    expect(done.stdout).toContain("kept aside: 0000000001.segment.quarantine\n");
    expect(done.stdout).toContain("uncertain: b/two, now gone\n");
    expect(readFileSync(place.path(`${SEGMENT}.quarantine`))).toEqual(bytes);
    expect((await place.run(["repair", "data", "--yes"])).stdout).toBe("sound: nothing was changed\n");
    const store = await open(place.path("data"));
    expect([await store.bucket("b").get("one"), await store.bucket("b").get("three")]).toEqual(["one!", "three!"]);
    expect(await store.bucket("b").get("two")).toBe(undefined);
    await store.close();
  });

  test("firkin snapshot and restore copy a store, and refuse what is damaged or not empty", async () => {
    const taken = await place.run(["snapshot", "data", "copy", "--json"]);
    expect(taken).toMatchObject({ code: 0, stderr: [] });
    expect(JSON.parse(taken.stdout)).toMatchObject({ revision: 3, keys: 3 });
    expect(await place.run(["snapshot", "data", "copy"])).toMatchObject({
      code: 3,
      stderr: [expect.stringMatching(/^firkin: Cannot copy into .*copy: the folder is not empty \(INVALID\)$/)],
    });
    expect(await place.run(["restore", "copy", "other"])).toMatchObject({ code: 0, stderr: [] });
    const store = await open(place.path("other"));
    expect(await store.bucket("b").get("two")).toBe("two!");
    await store.close();
    const name = place.path("copy/0000000001.segment");
    const bytes = readFileSync(name);
    bytes[60]! ^= 1;
    writeFileSync(name, bytes);
    expect(await place.run(["restore", "copy", "third"])).toMatchObject({
      code: 3,
      stderr: [
        expect.stringMatching(/0000000001.segment is damaged at offset 32 \(record\); firkin verify .*\(CORRUPT\)$/),
      ],
    });
    expect(existsSync(place.path("third"))).toBe(false);
  });

  test("all refuse a folder that a process has, or that holds no store, in one line", async () => {
    const store = await open(place.path("data"));
    for (
      const args of [["verify", "data"], ["repair", "data", "--yes"], ["snapshot", "data", "x"], [
        "restore",
        "data",
        "x",
      ]]
    ) {
      const { code, stderr } = await place.run(args);
      expect([args[0], code, stderr.length, stderr[0]!.endsWith("(LOCKED)")]).toEqual([args[0], 3, 1, true]);
    }
    await store.close();
    expect(existsSync(place.path("x"))).toBe(false);
    for (const name of ["verify", "repair"]) {
      const { code, stderr } = await place.run([name, "none"]);
      expect([name, code, stderr]).toEqual([name, 3, ["firkin: Cannot open none: there is no such folder"]]);
    }
    expect(existsSync(place.path("none"))).toBe(false);
    expect((await place.run(["verify"])).code).toBe(2);
  });

  test("the library does the same, while the store is in use when it can", async () => {
    const store = await open(place.path("data"));
    expect(await errorCode(() => verify(place.path("data")))).toBe("LOCKED");
    const { keys, revision } = await store.snapshot(place.path("copy"));
    expect([keys, revision]).toEqual([3, 3]);
    expect(await errorCode(() => store.snapshot(place.path("copy")))).toBe("INVALID");
    await store.close();
    expect((await verify(place.path("copy"))).sound).toBe(true);
    expect((await repair(place.path("copy"))).changed).toBe(false);
    await restore(place.path("copy"), place.path("back"));
    let told = 0;
    expect(await verify({ path: place.path("back"), onProgress: ({ bytes }) => told = bytes })).toMatchObject({
      sound: true,
      records: 3,
    });
    expect(told).toBeGreaterThan(0);
    expect(await verify("").catch((error: unknown) => error instanceof TypeError)).toBe(true);
    expect(await store.snapshot("").catch((error: unknown) => error instanceof TypeError)).toBe(true);
    expect(await store.snapshot("x").catch((error: unknown) => (error as FirkinError).code)).toBe("CLOSED");
  });
});
