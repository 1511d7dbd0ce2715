/**
 * Settings of buckets: kept over lives, snapshots and repairs, and looked at by every way to set a key.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { MANIFEST_NAME } from "../../lib/bitcask/manifest.ts";
import { repaired } from "../suites/damage.ts";
import type { BucketSettings } from "../../lib/engine/settings.ts";
import { Disk, gate } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

const TEXT = { content: CONTENT.text };
const SETTINGS: BucketSettings = { ttl: 1_000, valueBytesMax: 10, compression: false, description: '"segments":[9]' };

async function settingsOf(cask: Cask, bucket = "b"): Promise<BucketSettings | undefined> {
  return (await cask.engine.buckets(bucket))[0]?.settings;
}

async function configured(settings: BucketSettings, options = {}): Promise<Cask> {
  const cask = await Cask.open(options);
  await cask.finish(cask.engine.configure("b", settings));
  return cask;
}

describe("settings of a bucket", () => {
  test("last, make the bucket, and are replaced as a whole", async () => {
    const cask = await configured(SETTINGS);
    await cask.finish(cask.engine.configure("constructor", { ttl: 5 }));
    await cask.set("a", "1");
    await cask.reopen();
    expect((await cask.engine.buckets()).map(({ name, keys, settings }) => [name, keys, settings])).toEqual([
      ["b", 1, SETTINGS],
      ["constructor", 0, { ttl: 5 }],
    ]);
    // They are nobody's to change by hand.
    for (const { settings } of await cask.engine.buckets()) {
      expect(() => Object.assign(settings, { ttl: 7 })).toThrow(TypeError);
    }
    await cask.finish(cask.engine.configure("b", {}));
    expect([await settingsOf(cask), await settingsOf(cask, "toString")]).toEqual([{}, undefined]);
    await cask.reopen();
    expect(await settingsOf(cask)).toEqual({});
    await cask.close();
  });

  test("are as they were when they cannot be made to last, and after a crash", async () => {
    const cask = await configured({ ttl: 5 });
    cask.disk.before = ({ action }) => {
      if (action === "rename") throw new FirkinError("IO", "The disk is gone");
    };
    expect(await errorCode(() => cask.finish(cask.engine.configure("b", SETTINGS)))).toBe("IO");
    expect(await settingsOf(cask)).toEqual({ ttl: 5 });
    cask.disk.cutPower();
    await cask.open();
    expect(await settingsOf(cask)).toEqual({ ttl: 5 });
    await cask.close();
  });

  test("are replaced on a condition, which is judged when those before are there", async () => {
    const cask = await Cask.open();
    const configure = (ttl: number, before: number | undefined): Promise<boolean> =>
      cask.engine.configure("b", { ttl }, (current) => current?.ttl === before);
    const asked = [configure(1, undefined), configure(2, undefined), configure(3, 1), configure(4, 1)];
    expect(await cask.finish(Promise.all(asked))).toEqual([true, false, true, false]);
    expect(await settingsOf(cask)).toEqual({ ttl: 3 });
    await cask.close();
  });

  test("are on their way while the store closes: it waits for them", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    const held = gate();
    cask.disk.before = ({ action, name }) => action === "sync" && name === "manifest.new" ? held.wait : undefined;
    const configured = cask.engine.configure("b", { ttl: 5 });
    let isClosed = false;
    const closed = cask.engine.close().then(() => void (isClosed = true));
    await cask.settle();
    expect(isClosed).toBe(false);
    held.open();
    await cask.finish(Promise.all([configured, closed]));
    await cask.open();
    expect(await settingsOf(cask)).toEqual({ ttl: 5 });
    await cask.close();
  });

  test("give a deadline to what is set without one, however it is set", async () => {
    const cask = await configured({ ttl: 1_000 });
    const { engine } = cask;
    const value = bytesOf("1");
    const now = cask.clock.wall();
    await cask.set("set", "1");
    await engine.setMany("b", [{ key: bytesOf("many"), value, ...TEXT }]);
    await engine.atomic([{ type: "set", bucket: "b", key: bytesOf("batch"), value, ...TEXT }]);
    await engine.increment("b", bytesOf("counter"), 1);
    await cask.set("own", "1", { deadline: { expiresAt: now + 7 } });
    await cask.set("kept", "1");
    await engine.touch("b", bytesOf("kept"), undefined);
    const { entries } = await engine.list("b", { limit: 9 });
    expect(entries.map(({ key, expiresAt }) => [textOf(key), expiresAt && expiresAt - now])).toEqual([
      ["batch", 1_000],
      ["counter", 1_000],
      ["kept", undefined],
      ["many", 1_000],
      ["own", 7],
      ["set", 1_000],
    ]);
    await engine.increment("b", bytesOf("kept"), 1);
    expect(engine.getSync("b", bytesOf("kept"))).toMatchObject({ value: bytesOf("2") });
    expect(engine.getSync("b", bytesOf("kept"))?.expiresAt).toBeUndefined();
    await engine.set("other", bytesOf("a"), value, TEXT);
    expect(engine.getSync("other", bytesOf("a"))?.expiresAt).toBeUndefined();
    await cask.close();
  });

  test("refuse a value that is too large, however it is set, and what came with it", async () => {
    const cask = await configured({ valueBytesMax: 3 });
    const { engine } = cask;
    const [key, other, value] = [bytesOf("a"), bytesOf("b"), bytesOf("four")];
    const small = { key: other, value: bytesOf("ok"), ...TEXT };
    expect(await errorCode(() => engine.set("b", key, value, TEXT))).toBe("TOO_LARGE");
    expect(await errorCode(() => engine.setMany("b", [small, { key, value, ...TEXT }]))).toBe("TOO_LARGE");
    const batch = [{ type: "set", bucket: "b", ...small }, { type: "set", bucket: "b", key, value, ...TEXT }] as const;
    expect(await errorCode(() => engine.atomic(batch))).toBe("TOO_LARGE");
    const counter = bytesOf("counter");
    expect(await errorCode(() => engine.increment("b", counter, 70_000))).toBe("TOO_LARGE");
    expect(await engine.buckets("b")).toMatchObject([{ keys: 0 }]);
    await engine.increment("b", counter, 60_000);
    expect(await errorCode(() => engine.increment("b", counter, 10_000))).toBe("TOO_LARGE");
    await engine.set("b", key, bytesOf("mid"), TEXT);
    await engine.set("other", key, value, TEXT);
    await cask.close();
  });

  test("leave values as they come, when they are not to be compressed", async () => {
    const cask = await configured({ compression: false }, { compressBytesMin: 64 });
    const value = bytesOf("v".repeat(2_000));
    await cask.engine.set("b", bytesOf("a"), value, TEXT);
    await cask.engine.set("other", bytesOf("a"), value, TEXT);
    const [plain, packed] = (await cask.engine.buckets()).map(({ bytes }) => bytes);
    expect(plain).toBeGreaterThan(2_000);
    expect(packed).toBeLessThan(200);
    await cask.close();
  });

  test("are checked, and refused where nothing may be written", async () => {
    const cask = await configured({});
    const refused = (settings: object): Promise<unknown> => {
      return cask.engine.configure("c", settings).then(() => "taken", (error: Error) => error.name);
    };
    for (const bad of [{ ttl: 0 }, { ttl: 1.5 }, { valueBytesMax: 2 ** 40 }, { description: "x".repeat(201) }]) {
      expect([bad, await refused(bad)]).toEqual([bad, "RangeError"]);
    }
    for (const bad of [{ ttl: "5s" }, { compression: 1 }, { description: null }, { events: false }]) {
      expect([bad, await refused(bad)]).toEqual([bad, "TypeError"]);
    }
    expect(await cask.engine.buckets("c")).toEqual([]);
    await cask.reopen({ readOnly: true });
    expect(await errorCode(() => cask.engine.configure("b", {}))).toBe("READ_ONLY");
    await cask.close();
    expect(await errorCode(() => cask.engine.configure("b", {}))).toBe("CLOSED");
  });

  test("go along into a snapshot, and through a repair of the manifest as far as they can be read", async () => {
    const target = new Disk();
    const cask = await configured(SETTINGS, { folder: () => target.mount() });
    await cask.finish(cask.engine.snapshot("copy"));
    const copy = await Cask.open({}, target);
    expect(await settingsOf(copy)).toEqual(SETTINGS);
    await copy.close();
    await cask.close();
    const text = new TextDecoder().decode(cask.disk.bytes(MANIFEST_NAME));
    cask.disk.put(MANIFEST_NAME, bytesOf(text.replace(`"ttl":1000`, `"ttl":1001`)));
    await repaired(cask.disk);
    await cask.open();
    expect(await settingsOf(cask)).toEqual({ ...SETTINGS, ttl: 1_001 });
    await cask.close();
  });
});
