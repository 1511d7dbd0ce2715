/**
 * The manifest: whole or refused.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { crc32 } from "../../lib/base/checksum.ts";
import {
  type Manifest,
  readBadManifest,
  readManifest,
  removeLeftovers,
  writeManifest,
} from "../../lib/bitcask/manifest.ts";
import { Disk } from "../suites/disk.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

const MANIFEST: Manifest = {
  format: 1,
  store: "000102030405060708090a0b0c0d0e0f",
  epoch: "0011223344556677",
  sync: "always",
  segments: [1, 5, 3],
  nextSegment: 6,
  buckets: ["users", "b-2"],
  floor: 12,
  revision: 34,
  time: 1_700_000_000_000,
};

describe("Manifest", () => {
  test("comes back as it was written, and is one line of JSON and its CRC", async () => {
    const disk = new Disk();
    expect(readManifest(disk)).toBeUndefined();
    await writeManifest(disk, MANIFEST);
    expect(readManifest(disk)).toEqual(MANIFEST);
    expect(disk.list()).toEqual(["manifest"]);
    const [line, check, rest] = textOf(disk.bytes("manifest"))!.split("\n");
    expect(JSON.parse(line!)).toEqual(MANIFEST);
    expect(check).toBe(crc32(bytesOf(line!)).toString(16).padStart(8, "0"));
    expect(rest).toBe("");
  });

  test("with a flipped bit keeps what the flip has not hit, for a repair: names stand nowhere else", async () => {
    const disk = new Disk();
    await writeManifest(disk, MANIFEST);
    const whole = disk.bytes("manifest");
    const names = '"buckets":["users","b-2"]';
    const start = textOf(whole)!.indexOf(names);
    for (let bit = 0; bit < (whole.length - 10) * 8; bit++) {
      const byte = bit >> 3;
      // A quote of the text before takes the name of the field with it, and a bracket its end.
      if (byte >= start - 20 && byte < start + names.length) continue;
      const bytes = whole.slice();
      bytes[byte]! ^= 1 << (bit & 7);
      disk.put("manifest", bytes);
      expect(readBadManifest(disk)!.buckets).toEqual(MANIFEST.buckets);
    }
  });

  test("with any flipped bit, or cut anywhere, is CORRUPT", async () => {
    const disk = new Disk();
    await writeManifest(disk, MANIFEST);
    const whole = disk.bytes("manifest");
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const bytes = whole.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      disk.put("manifest", bytes);
      const code = await errorCode(() => readManifest(disk));
      // The last line's end says nothing.
      if (code === undefined) expect(bit >> 3).toBe(whole.length - 1);
      else expect(code).toBe("CORRUPT");
    }
    for (let length = 0; length < whole.length - 1; length++) {
      disk.put("manifest", whole.slice(0, length));
      expect(await errorCode(() => readManifest(disk))).toBe("CORRUPT");
    }
  });

  test("of a newer format, or with a bad store id, is CORRUPT", async () => {
    for (const change of [{ format: 2 }, { store: "00" }, { store: "xyz" }]) {
      const disk = new Disk();
      await writeManifest(disk, { ...MANIFEST, ...change });
      expect(await errorCode(() => readManifest(disk))).toBe("CORRUPT");
    }
  });

  test("is the old or the new one after a power cut at any call", async () => {
    for (let call = 0; call < 8; call++) {
      const disk = new Disk();
      await writeManifest(disk, MANIFEST);
      let left = call;
      disk.before = () => {
        if (left-- === 0) throw new Error("The power is gone");
      };
      await writeManifest(disk, { ...MANIFEST, revision: 99 }).catch(() => {});
      disk.cutPower();
      expect([34, 99]).toContain(readManifest(disk)!.revision);
      await writeManifest(disk, { ...MANIFEST, revision: 100 });
      expect(readManifest(disk)!.revision).toBe(100);
    }
  });

  test("removeLeftovers() removes segments without a name in it, and nothing else", () => {
    const disk = new Disk();
    const names = ["0000000001.segment", "0000000002.segment", "manifest", "manifest.new", "notes.txt"];
    for (const name of [...names, "0000000002.segment.torn-40"]) disk.put(name, new Uint8Array(1));
    removeLeftovers(disk, new Set(["0000000002.segment"]));
    expect(disk.list()).toEqual(["0000000002.segment", "manifest", "notes.txt", "0000000002.segment.torn-40"]);
  });
});
