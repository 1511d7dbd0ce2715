/**
 * What an open makes of a damaged log, and what damage does to a store that is open.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { KIND } from "../../lib/bitcask/record.ts";
import { judgeTail, soundPart } from "../../lib/bitcask/recovery.ts";
import { SEAL_BYTES, SEGMENT_HEADER_BYTES } from "../../lib/bitcask/segment.ts";
import { Disk } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";
import { shareOf } from "../suites/random.ts";

const FIRST = "0000000001.segment";
const FILL = "f".repeat(500);

/** Some writes, one group each, and the state of the store after each of them. */
async function written(options: Parameters<typeof Cask.open>[0] = {}): Promise<{ cask: Cask; states: string[] }> {
  const cask = await Cask.open(options);
  const states = [""];
  const steps = [
    () => cask.set("a", "1"),
    () => cask.set("b", "22", { deadline: { ttl: 1_000_000 } }),
    () => cask.set("a", "333"),
    () => cask.delete("b"),
    () => cask.set("c", "x".repeat(100)),
    () => cask.set("a", "4"),
  ];
  for (const step of steps) {
    await step();
    states.push(await cask.all());
  }
  return { cask, states };
}

/** The keys of a disk, or the code of the error; a second open must find the same and change nothing. */
async function opened(disk: Disk): Promise<{ found: string; cask: Cask }> {
  const cask = new Cask({}, disk);
  const code = await errorCode(() => cask.open());
  if (code !== undefined) return { found: code, cask };
  const found = await cask.all();
  disk.crash();
  const before = disk.segments().map((name) => disk.bytes(name).join());
  const again = await Cask.open({}, disk);
  expect(await again.all()).toBe(found);
  expect(again.events).toEqual([]);
  disk.crash();
  expect(disk.segments().map((name) => disk.bytes(name).join())).toEqual(before);
  return { found, cask };
}

describe("Open after a crash", () => {
  test("a log cut at any byte is a prefix of what was written, reported and kept aside", async () => {
    for (const sync of ["always", "os"] as const) {
      const { cask, states } = await written({ sync });
      cask.disk.crash();
      const whole = cask.disk.records(FIRST);
      let last = 0;
      for (let length = SEGMENT_HEADER_BYTES; length <= whole.length; length++) {
        const disk = cask.disk.clone();
        disk.put(FIRST, whole.slice(0, length));
        const { found, cask: again } = await opened(disk);
        const place = states.lastIndexOf(found);
        expect(`${length}: ${place >= last}`).toBe(`${length}: true`);
        last = place;
        const torn = disk.list().filter((name) => name.includes(".torn-"));
        const [event] = again.events;
        expect(torn.length).toBe(again.events.length);
        if (event?.type !== "torn") continue;
        expect(event.offset + event.bytes).toBe(length);
        expect(torn).toEqual([`${FIRST}.torn-${event.offset}`]);
        expect(disk.bytes(torn[0]!)).toEqual(whole.slice(event.offset, length));
      }
      expect(last).toBe(states.length - 1);
    }
  });

  test("a log with any one bit flipped is a prefix, or CORRUPT, and never anything else", async () => {
    const { cask, states } = await written();
    cask.disk.crash();
    const whole = cask.disk.bytes(FIRST);
    const end = cask.disk.records(FIRST).length;
    const openFlipped = async (bit: number): Promise<string> => {
      const disk = cask.disk.clone();
      const bytes = whole.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      disk.put(FIRST, bytes);
      return (await opened(disk)).found;
    };
    const seen = new Map<string, number>();
    for (const bit of shareOf(end * 8)) {
      const found = await openFlipped(bit);
      seen.set(found, (seen.get(found) ?? 0) + 1);
      if (found !== "CORRUPT") expect(states).toContain(found);
    }
    // Behind it nothing is lost.
    for (let bit = end * 8; bit < whole.length * 8; bit += 97) expect(await openFlipped(bit)).toBe(states.at(-1)!);
    // Only the last group is above every mark: damage anywhere else is told from a tear.
    expect([...seen.keys()].toSorted()).toEqual([states.at(-2)!, "CORRUPT"].toSorted());
  });

  test("a log that was closed is CORRUPT with any one bit flipped", async () => {
    const { cask } = await written();
    await cask.close();
    const whole = cask.disk.bytes(FIRST);
    const end = whole.length - 32;
    for (const bit of shareOf(end * 8)) {
      const disk = cask.disk.clone();
      const bytes = whole.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      disk.put(FIRST, bytes);
      expect(`${bit}: ${(await opened(disk)).found}`).toBe(`${bit}: CORRUPT`);
    }
  });

  test("a tail of zeros is cut without a word", async () => {
    const { cask, states } = await written();
    cask.disk.crash();
    for (const zeros of [1, 25, 26, 5_000]) {
      const disk = cask.disk.clone();
      disk.put(FIRST, Uint8Array.of(...cask.disk.records(FIRST), ...new Uint8Array(zeros)));
      const { found, cask: again } = await opened(disk);
      expect(found).toBe(states.at(-1)!);
      expect(again.events).toEqual([]);
      expect(disk.list().some((name) => name.includes("torn"))).toBe(false);
    }
  });

  test("garbage behind the end is cut, also when it looks like marks", async () => {
    const { cask, states } = await written();
    cask.disk.crash();
    const disk = cask.disk.clone();
    disk.put(FIRST, Uint8Array.of(...cask.disk.records(FIRST), ...new Uint8Array(3_000).fill(KIND.mark)));
    expect((await opened(disk)).found).toBe(states.at(-1)!);
  });

  test("a long torn end full of what may be marks is judged in time", () => {
    const bytes = new Uint8Array(8 * 1024 * 1024);
    // Each byte could be the kind of a mark whose value reaches far.
    for (let at = 64; at < bytes.length; at += 16) bytes.set([KIND.mark, 0, 0, 0, 0, 0, 64, 0], at);
    const started = performance.now();
    expect(judgeTail(bytes, { ...soundPart(bytes, 1), end: SEGMENT_HEADER_BYTES }, 1)).toBe("torn");
    expect(performance.now() - started).toBeLessThan(2_000);
  });

  test("writes after a cut stay, and nothing behind it comes back", async () => {
    const { cask, states } = await written();
    cask.disk.crash();
    const whole = cask.disk.records(FIRST);
    cask.disk.put(FIRST, whole.slice(0, whole.length - 1));
    await cask.open();
    expect(await cask.all()).toBe(states.at(-2)!);
    await cask.set("new", "1");
    cask.disk.cutPower();
    await cask.open();
    expect(await cask.all()).toBe(`${states.at(-2)} new=1`);
  });

  test("damage in a sealed segment without a hint is CORRUPT at open, and so is a cut", async () => {
    const { cask } = await written({ segmentBytesMax: 4_096 });
    while (cask.disk.segments().length < 3) await cask.set("fill", FILL);
    await cask.close();
    const whole = cask.disk.bytes(FIRST);
    for (let at = 0; at < whole.length; at += 7) {
      const disk = cask.disk.clone();
      disk.remove("0000000001.hint");
      const bytes = whole.slice();
      bytes[at]! ^= 0x10;
      disk.put(FIRST, bytes);
      expect((await opened(disk)).found).toBe("CORRUPT");
      disk.put(FIRST, whole.slice(0, at));
      expect((await opened(disk)).found).toBe("CORRUPT");
    }
    const disk = cask.disk.clone();
    disk.put(FIRST, Uint8Array.of(...whole, 0));
    expect((await opened(disk)).found).toBe("CORRUPT");
    disk.put(FIRST, whole);
    expect((await opened(disk)).found).not.toBe("CORRUPT");
  });

  test("damage in a sealed segment with a hint is CORRUPT at open in header and seal, else for its key", async () => {
    const { cask } = await written({ segmentBytesMax: 4_096 });
    await cask.delete("b");
    while (cask.disk.segments().length < 3) await cask.set("fill", FILL);
    const keys = ["a", "b", "c", "fill"];
    const values = keys.map((key) => cask.get(key));
    await cask.close();
    const whole = cask.disk.bytes(FIRST);
    const seen = new Map<string, number>();
    for (const at of shareOf(whole.length)) {
      const disk = cask.disk.clone();
      const bytes = whole.slice();
      bytes[at]! ^= 0x10;
      disk.put(FIRST, bytes);
      const again = new Cask({}, disk);
      const strict = at < SEGMENT_HEADER_BYTES || at >= whole.length - SEAL_BYTES;
      expect(`${at} ${await errorCode(() => again.open())}`).toBe(`${at} ${strict ? "CORRUPT" : undefined}`);
      if (strict) continue;
      const found = await Promise.all(keys.map(async (key, index) => {
        const code = await errorCode(() => again.engine.get("b", bytesOf(key)));
        if (code === undefined) expect(again.get(key)).toBe(values[index]);
        return code ?? "";
      }));
      const code = found.some((one) => one !== "") ? "CORRUPT" : undefined;
      expect(await errorCode(() => again.engine.list("b", { limit: 10 }))).toBe(code);
      seen.set(found.join(), (seen.get(found.join()) ?? 0) + 1);
      expect((await again.set("a", "new")).ok).toBe(true);
      expect(again.get("a")).toBe("new");
    }
    // The records of "a" and "c", each with its header, and what nobody needs any more.
    expect([...seen.keys()].toSorted()).toEqual([",,,", ",,CORRUPT,", "CORRUPT,,,"]);
    // 28 bytes, or a third of them.
    expect([28, 9, 10]).toContain(seen.get("CORRUPT,,,") ?? 0);
  });

  test("a segment in another's place, or from another store, is CORRUPT", async () => {
    const { cask } = await written({ segmentBytesMax: 4_096 });
    while (cask.disk.segments().length < 3) await cask.set("fill", FILL);
    await cask.close();
    const [first, second] = cask.disk.segments();
    const disk = cask.disk.clone();
    disk.put(first!, cask.disk.bytes(second!));
    expect((await opened(disk)).found).toBe("CORRUPT");
    const other = await Cask.open({}, new Disk());
    other.clock.random(new Uint8Array(16));
    await other.close();
    const stranger = new Cask({}, new Disk());
    stranger.clock.random(new Uint8Array(3));
    await stranger.open();
    await stranger.set("a", "1");
    await stranger.close();
    const mixed = cask.disk.clone();
    mixed.put(first!, stranger.disk.bytes(FIRST));
    expect((await opened(mixed)).found).toBe("CORRUPT");
  });

  test("what a crash left half made is removed", async () => {
    const { cask, states } = await written();
    cask.disk.crash();
    cask.disk.put("0000000099.segment", Uint8Array.of(1, 2, 3));
    cask.disk.put("manifest.new", Uint8Array.of(1, 2, 3));
    await cask.open();
    expect(await cask.all()).toBe(states.at(-1)!);
    expect(cask.disk.list().toSorted()).toEqual([FIRST, "manifest"]);
  });

  test("a new epoch follows an unclean end under os and interval, and not under always nor a close", async () => {
    for (const sync of ["always", "interval", "os"] as const) {
      for (const clean of [true, false]) {
        const cask = await Cask.open({ sync });
        await cask.set("a", "1");
        const { cursor } = cask.engine.subscribe({});
        if (clean) await cask.close();
        else cask.disk.crash();
        await cask.open();
        await cask.set("a", "2");
        const told = await cask.told(cask.engine.subscribe({ from: cursor }));
        expect(told).toEqual([clean || sync === "always" ? "set a=2" : "resync"]);
      }
    }
  });

  test("a new epoch follows a power cut that leaves what the last close left", async () => {
    for (const sync of ["interval", "os"] as const) {
      const cask = await Cask.open({ sync });
      await cask.set("a", "1");
      await cask.reopen();
      await cask.set("a", "lost");
      const { cursor } = cask.engine.subscribe({});
      cask.disk.cutPower();
      await cask.open();
      await cask.set("a", "2");
      expect(await cask.told(cask.engine.subscribe({ from: cursor }))).toEqual(["resync"]);
    }
  });

  test("under os and interval, a power cut leaves a prefix of what was acknowledged", async () => {
    for (const sync of ["os", "interval"] as const) {
      const cask = await Cask.open({ sync, segmentBytesMax: 4_096 });
      const states = [""];
      for (let index = 0; index < 60; index++) {
        await cask.set(`k${index % 7}`, `${index}`.repeat(40));
        states.push(await cask.all());
        if (index % 13 === 0) await cask.engine.sync();
        const disk = cask.disk.clone();
        if (index % 3 === 0) {
          const lost = new Cask({ sync }, disk);
          disk.cutPower();
          await lost.open();
          expect(states).toContain(await lost.all());
        }
      }
      cask.disk.cutPower();
      await cask.open();
      const place = states.lastIndexOf(await cask.all());
      expect(place).toBeGreaterThanOrEqual(53);
    }
  });

  test("BUCKETS_MAX buckets fit, and no more, over lives", async () => {
    const cask = await Cask.open({ segmentBytesMax: 1024 * 1024 });
    const one = { content: 2 } as const;
    const key = bytesOf("k");
    await Promise.all(Array.from({ length: 4_096 }, (_, index) => cask.engine.set(`b${index}`, key, key, one)));
    expect(await errorCode(() => cask.engine.set("more", key, key, one))).toBe("TOO_LARGE");
    expect(await cask.all("b4095")).toBe("k=k");
    await cask.reopen();
    expect(await cask.all("b0")).toBe("k=k");
    expect(await cask.all("b4095")).toBe("k=k");
    expect(await errorCode(() => cask.engine.set("more", key, key, one))).toBe("TOO_LARGE");
    expect((await cask.engine.set("b7", key, key, one)).ok).toBe(true);
  });
});

describe("Damage while the store is open", () => {
  /** A store whose key "a" lies damaged in a sealed segment; it ends in `ttl`. */
  async function damaged(place: (bytes: Uint8Array) => number): Promise<Cask> {
    const cask = await Cask.open({ cacheBytesMax: 0 });
    await cask.set("a", "value", { deadline: { ttl: 1_000 } });
    await cask.set("long", "l".repeat(30_000));
    await cask.set("end", FILL);
    // The segment leaves memory when its hint is there.
    await cask.settle();
    const file = cask.disk.open(FIRST, "write");
    const byte = new Uint8Array(1);
    const at = place(cask.disk.bytes(FIRST));
    file.read(byte, at);
    byte[0]! ^= 0x41;
    file.write(byte, at);
    return cask;
  }
  const inValue = (): number => SEGMENT_HEADER_BYTES + 26 + 6 + 1 + 2;
  const inLength = (): number => SEGMENT_HEADER_BYTES + 10;

  test("is CORRUPT for the key and for listings over it, and no other key minds", async () => {
    for (const place of [inValue, inLength]) {
      const cask = await damaged(place);
      expect(await errorCode(() => cask.engine.get("b", bytesOf("a")))).toBe("CORRUPT");
      expect(await errorCode(() => cask.engine.list("b", { limit: 10 }))).toBe("CORRUPT");
      expect(cask.get("end")).toBe(FILL);
      expect(cask.get("missing")).toBeUndefined();
      expect(await errorCode(() => cask.set("a", "2", { ifRevision: 0 }))).toBe("CORRUPT");
      expect(await errorCode(() => cask.compact())).toBe("CORRUPT");
    }
  });

  test("is gone with a write over it", async () => {
    for (const place of [inValue, inLength]) {
      const cask = await damaged(place);
      expect((await cask.set("a", "2")).ok).toBe(true);
      expect(cask.get("a")).toBe("2");
      await cask.settle();
      expect((await cask.delete("a")).ok).toBe(true);
      expect(cask.get("a")).toBeUndefined();
    }
  });

  test("does not stop the schedule when the damaged key is due", async () => {
    for (const place of [inValue, inLength]) {
      const cask = await damaged(place);
      await cask.set("b", "1", { deadline: { ttl: 1_000 } });
      const subscription = cask.engine.subscribe({});
      await cask.advance(1_000);
      expect(await cask.told(subscription)).toEqual(["expire b"]);
    }
  });

  test("of the record that a write replaces does not take the write back", async () => {
    for (const place of [inValue, inLength]) {
      const cask = await Cask.open({ cacheBytesMax: 0 });
      await cask.set("a", "value", { deadline: { ttl: 1_000 } });
      await cask.set("end", "l".repeat(30_000));
      const write = cask.set("a", "2");
      const file = cask.disk.open(FIRST, "write");
      const at = place();
      const byte = new Uint8Array(1);
      file.read(byte, at);
      byte[0]! ^= 0x41;
      file.write(byte, at);
      expect((await write).ok).toBe(true);
      expect(cask.get("a")).toBe("2");
      await cask.set("other", "1");
      expect(cask.get("other")).toBe("1");
      expect(cask.disk.bytes(cask.disk.segments().at(-1)!).length).toBeGreaterThan(60);
    }
  });
});
