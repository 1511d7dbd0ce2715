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
      if (bytes.subarray(at).every((byte) => byte === 0)) break;
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

/** Section 9: the hash of a key. */
function hashOf(store: Uint8Array, bucket: number, key: Uint8Array): number {
  const times = (left: number, right: number): number => Number((BigInt(left) * BigInt(right)) & 0xffffffffn);
  let hash = times((new DataView(store.buffer).getUint32(0, true) ^ bucket) >>> 0, 0x01000193);
  for (const byte of key) hash = times((hash ^ byte) >>> 0, 0x01000193);
  hash = times((hash ^ (hash >>> 16)) >>> 0, 0x85ebca6b);
  hash = times((hash ^ (hash >>> 13)) >>> 0, 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Section 9: checks the hint of a segment against the segment, byte by byte. */
function checkHintFile(disk: Disk, id: number, store: Uint8Array): void {
  const name = String(id).padStart(10, "0");
  const segment = disk.bytes(`${name}.segment`);
  const log = new DataView(segment.buffer);
  const bytes = disk.bytes(`${name}.hint`);
  const view = new DataView(bytes.buffer);
  const u48In = (from: DataView, at: number): number =>
    from.getUint32(at, true) + from.getUint16(at + 4, true) * 2 ** 32;
  const u48 = (at: number): number => u48In(view, at);
  const newest = new Map<string, number>();
  const sizes = new Map<number, number>();
  const lengths = new Map<number, number>();
  const figures = { dead: 0, marks: 0, tombstones: 0, tombstoneTime: 0, first: 0, last: 0, time: 0 };
  let seal = 0;
  for (let at = 32; at < segment.length;) {
    const kind = segment[at + 4]!;
    const keyStart = at + 26 + (segment[at + 5]! & 4 ? 6 : 0) + (segment[at + 5]! & 8 ? 4 : 0);
    const keyEnd = keyStart + log.getUint16(at + 6, true);
    const length = keyEnd + log.getUint32(at + 8, true) - at;
    figures.time = Math.max(figures.time, u48In(log, at + 18));
    if (kind === 6) figures.dead += length;
    if (kind === 6) figures.marks += length;
    if (kind === 7) seal = at;
    if (kind <= 5) {
      figures.first ||= u48In(log, at + 12);
      figures.last = u48In(log, at + 12);
      const key = `${log.getUint16(at + 24, true)}:${segment.subarray(keyStart, keyEnd).join()}`;
      figures.dead += sizes.get(newest.get(key) ?? 0) ?? 0;
      newest.set(key, at);
      lengths.set(at, length);
      if (kind === 1) sizes.set(at, length);
      else figures.tombstones += length;
      if (kind !== 1) figures.tombstoneTime = u48In(log, at + 18);
    }
    at += length;
  }
  expect(new TextDecoder().decode(bytes.subarray(0, 6))).toBe("fihint");
  expect(view.getUint16(6, true)).toBe(2);
  expect(bytes.slice(8, 28)).toEqual(segment.slice(8, 28));
  expect(u48(28)).toBe(segment.length);
  expect(view.getUint32(34, true)).toBe(log.getUint32(seal, true));
  expect([38, 44, 50, 56, 62, 68, 74].map(u48)).toEqual(Object.values(figures));
  expect(view.getUint32(80, true)).toBe(newest.size);
  const blocks = view.getUint32(84, true);
  const end = view.getUint32(88, true);
  const bind = crc(0, bytes.subarray(0, 38));
  expect(view.getUint32(92, true)).toBe(crc(bind, bytes.subarray(end)));
  expect(view.getUint32(96, true)).toBe(crc(0, bytes.subarray(0, 96)));
  const items = Array.from({ length: blocks }, (_, number) => end + view.getUint32(end + 4 * number, true));
  const found: string[] = [];
  let before = "";
  for (const [number, item] of items.entries()) {
    const start = view.getUint32(item, true);
    const stop = number + 1 < blocks ? view.getUint32(items[number + 1]!, true) : end;
    expect(view.getUint32(start, true)).toBe(crc(bind ^ Math.imul(start, 0x9e3779b1), bytes.subarray(start + 4, stop)));
    const sortKey = (from: number, to: number): string => {
      return Array.from(bytes.subarray(from, to), (byte) => byte.toString(16).padStart(2, "0")).join("");
    };
    expect(start % 4).toBe(0);
    const separator = sortKey(item + 8, item + 8 + view.getUint32(item + 4, true));
    expect(number === 0 ? separator === "" : separator > before).toBe(true);
    for (let at = start + 4; at < stop;) {
      const deadline = bytes[at + 13] === 4;
      const bucketStart = at + (deadline ? 22 : 16);
      const bucket = view.getUint16(bucketStart, false);
      const key = bytes.subarray(bucketStart + 2, bucketStart + 2 + view.getUint16(at + 14, true));
      const end = bucketStart + 2 + key.length;
      const offset = view.getUint32(at + 4, true);
      expect(view.getUint32(at, true)).toBe(hashOf(store, bucket, key));
      expect(newest.get(`${bucket}:${key.join()}`)).toBe(offset);
      expect(view.getUint32(at + 8, true)).toBe(lengths.get(offset)!);
      expect(bytes[at + 12]).toBe(segment[offset + 4]);
      expect(bytes[at + 13]! & ~4).toBe(0);
      expect(deadline).toBe((segment[offset + 5]! & 4) !== 0);
      if (deadline) expect(u48(at + 16)).toBe(u48In(log, offset + 26));
      const place = sortKey(bucketStart, end);
      expect(place > before).toBe(true);
      if (at === start + 4) expect(place.startsWith(separator)).toBe(true);
      before = place;
      found.push(place);
      at = end + ((4 - (end % 4)) % 4);
      expect(bytes.subarray(end, at).every((byte) => byte === 0)).toBe(true);
    }
  }
  expect(found.length).toBe(newest.size);
}

describe("docs/FORMAT.md", () => {
  test("is enough to read a hint", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const random = randomOf(seed);
      const cask = await Cask.open({ segmentBytesMax: seed % 2 === 0 ? 1_000 : 60_000 });
      for (let step = 0; step < 400; step++) {
        const key = `key-${random(seed % 2 === 0 ? 15 : 400)}`.padEnd(4 + random(60), "-");
        const deadline = random(3) === 0 ? { deadline: { ttl: 1 + random(5_000) } } : {};
        if (random(5) === 0) await cask.delete(key);
        else await cask.set(key, `${step} `.repeat(random(20)), deadline);
        if (random(40) === 0) await cask.advance(random(30));
        if (random(200) === 0) await cask.compact();
      }
      await cask.compact();
      await cask.close();
      const { store, segments } = readManifest(cask.disk);
      expect(segments.length).toBeGreaterThan(1);
      // The last one was begun for the clean mark.
      for (const id of segments.slice(0, -1)) checkHintFile(cask.disk, id, store);
    }
  });

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
