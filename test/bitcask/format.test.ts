/**
 * A reader written from docs/FORMAT.md alone: it shares no code with the store, and must find the same keys.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { inflateRawSync } from "node:zlib";
import type { Disk } from "../suites/disk.ts";
import { Cask, randomOf } from "../suites/embedded.ts";

/** zlib's `crc32(seed, bytes)`, bit by bit. */
function crc(seed: number, bytes: Uint8Array): number {
  let register = ~seed;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) register = (register >>> 1) ^ (register & 1 ? 0xedb88320 : 0);
  }
  return ~register >>> 0;
}

/** Section 2. */
function readManifest(
  disk: Disk,
): { store: Uint8Array<ArrayBuffer>; segments: number[]; buckets: string[]; revision: number } {
  const text = new TextDecoder().decode(disk.bytes("manifest"));
  const [line, check] = text.split("\n");
  expect(check).toBe(crc(0, new TextEncoder().encode(line!)).toString(16).padStart(8, "0"));
  const manifest = JSON.parse(line!);
  expect(manifest.format).toBe(1);
  const store = Uint8Array.from(
    { length: 16 },
    (_, index) => parseInt(manifest.store.slice(2 * index, 2 * index + 2), 16),
  );
  return { ...manifest, store };
}

/** Sections 3 and 4: the keys that a store holds at `now`, by bucket and key. */
function readStore(disk: Disk, now: number): Map<string, string> {
  const manifest = readManifest(disk);
  const held = new Map<string, { value: string; deadline: number }>();
  let last = 0;
  for (const id of manifest.segments) {
    const bytes = disk.bytes(`${String(id).padStart(10, "0")}.segment`);
    const view = new DataView(bytes.buffer);
    const u48 = (at: number): number => view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
    expect(new TextDecoder().decode(bytes.subarray(0, 6))).toBe("firkin");
    expect(view.getUint16(6, true)).toBe(1);
    expect(bytes.slice(8, 24)).toEqual(manifest.store);
    expect(view.getUint32(24, true)).toBe(id);
    expect(view.getUint32(28, true)).toBe(crc(0, bytes.subarray(0, 28)));
    const seed = crc(0, Uint8Array.of(...manifest.store, ...bytes.subarray(24, 28)));
    let kind = 0;
    let inBatch = false;
    for (let at = 32; at < bytes.length;) {
      kind = bytes[at + 4]!;
      const flags = bytes[at + 5]!;
      const keyStart = at + 26 + (flags & 4 ? 6 : 0) + (flags & 8 ? 4 : 0);
      const valueStart = keyStart + view.getUint16(at + 6, true);
      const end = valueStart + view.getUint32(at + 8, true);
      const place = Math.imul(at, 0x9e3779b1);
      expect(view.getUint32(at, true)).toBe(crc(seed ^ place, bytes.subarray(at + 4, end)));
      expect(inBatch && kind > 5).toBe(false);
      inBatch = (flags & 32) !== 0;
      if (kind <= 5) {
        expect(u48(at + 12)).toBeGreaterThan(last);
        last = u48(at + 12);
      }
      const bucket = manifest.buckets[view.getUint16(at + 24, true) - 1];
      const key = `${bucket}/${new TextDecoder().decode(bytes.subarray(keyStart, valueStart))}`;
      if (kind === 1) {
        const stored = bytes.subarray(valueStart, end);
        const value = flags & 8 ? inflateRawSync(stored) : stored;
        if (flags & 8) expect(value.length).toBe(view.getUint32(keyStart - 4, true));
        held.set(key, { value: new TextDecoder().decode(value), deadline: flags & 4 ? u48(at + 26) : Infinity });
      } else if (kind <= 5) {
        held.delete(key);
      } else if (kind === 6) {
        expect(u48(valueStart)).toBeLessThanOrEqual(end);
      }
      at = end;
    }
    expect(inBatch).toBe(false);
    if (id !== manifest.segments.at(-1)) expect(kind).toBe(7);
  }
  const live = [...held].filter(([, { deadline }]) => deadline > now);
  return new Map(live.map(([key, { value }]) => [key, value] as const));
}

describe("docs/FORMAT.md", () => {
  test("is enough to read a store", async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = randomOf(seed);
      const cask = await Cask.open({ compressBytesMin: 100, tombstoneRetentionMs: 1 + random(1_000) });
      for (let step = 0; step < 150; step++) {
        const key = `k${random(15)}`;
        const deadline = random(3) === 0 ? { deadline: { ttl: 1 + random(50) } } : {};
        const kind = random(8);
        if (kind < 2) await cask.delete(key);
        else if (kind === 2) await cask.atomic(`set ${key}=${step}`, `delete k${random(15)}`, `set k${random(15)}=`);
        else if (kind === 3) await cask.take(key);
        else await cask.set(key, `${step} `.repeat(random(80)), deadline);
        await cask.advance(random(3));
        if (random(50) === 0) await cask.compact();
        if (random(30) === 0) await cask.reopen();
      }
      const all = await cask.all();
      if (random(2) === 0) cask.disk.crash();
      else await cask.close();
      const read = readStore(cask.disk, cask.clock.wall());
      const found = [...read].map(([key, value]) => `${key.slice(2)}=${value}`);
      expect(`${seed} ${found.sort().join(" ")}`).toBe(`${seed} ${all.split(/ (?=k\d+=)/).sort().join(" ")}`);
    }
  });
});
