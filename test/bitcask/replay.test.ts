/**
 * Hints replayed together, against their records one by one.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { hashKey } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { BlockCache } from "../../lib/bitcask/cache.ts";
import { FrameCache, ReadWindow } from "../../lib/bitcask/frames.ts";
import { type Hint, madeHint } from "../../lib/bitcask/hint.ts";
import { type HashOfBytes, makeHint } from "../../lib/bitcask/hint_builder.ts";
import { ADDRESS_UNIT, Keydir } from "../../lib/bitcask/keydir.ts";
import { EMPTY, isKeyAt, KIND, recordBytesAt } from "../../lib/bitcask/record.ts";
import { Replay } from "../../lib/bitcask/replay.ts";
import { Segment } from "../../lib/bitcask/segment.ts";
import { Turns } from "../../lib/bitcask/turns.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { randomOf } from "../suites/embedded.ts";
import { errorCode, pattern } from "../suites/fs.ts";
import { shareOf } from "../suites/random.ts";

const cache = new BlockCache(0);
const home = { storeId: pattern(16), frames: new FrameCache(0), aside: new ReadWindow() };

interface Live {
  readonly bucket: number;
  readonly key: Uint8Array;
  readonly segment: Segment;
  readonly offset: number;
  readonly deadline: number | undefined;
}

interface Log {
  readonly hinted: { segment: Segment; hint: Hint }[];
  /** By bucket and key. */
  readonly live: Map<string, Live>;
  readonly keys: Set<string>;
  /** What is dead of each segment. */
  readonly dead: Map<Segment, number>;
}

/** Sealed segments with random changes, and what their records say one after another. */
function lived(
  random: (limit: number) => number,
  segments: number,
  changes: number,
  keyOf: (random: (limit: number) => number) => Uint8Array,
  hash: HashOfBytes,
): Log {
  const log: Log = { hinted: [], live: new Map(), keys: new Set(), dead: new Map() };
  for (let slot = 0; slot < segments; slot++) {
    const segment = new Segment(slot + 1, home, 16 * 1024 * 1024);
    segment.slot = slot;
    log.dead.set(segment, 0);
    for (let count = random(changes); count > 0; count--) change(log, segment, random, keyOf(random));
    segment.seal(1, 1);
    const steps = makeHint(segment.bytes(0), hash);
    let step = steps.next();
    while (step.done !== true) step = steps.next();
    log.hinted.push({ segment, hint: madeHint(step.value, undefined, cache) });
  }
  return log;
}

function change(log: Log, segment: Segment, random: (limit: number) => number, key: Uint8Array): void {
  const bucket = [1, 2, 256][random(3)]!;
  const name = `${bucket}:${key.join(".")}`;
  const isSet = random(4) > 0;
  const deadline = isSet && random(3) === 0 ? random(1_000_000) : undefined;
  const value = isSet ? new Uint8Array(random(9)) : EMPTY;
  const kind = isSet ? KIND.set : KIND.delete;
  const revision = segment.lastRevision + 1;
  const offset = segment.append({ kind, bucket, revision, at: 1, key, value, content: 0, expiresAt: deadline });
  const old = log.live.get(name);
  if (old !== undefined) {
    const bytes = recordBytesAt(old.segment.bytes(0), old.offset);
    log.dead.set(old.segment, log.dead.get(old.segment)! + bytes);
  }
  log.keys.add(name);
  if (isSet) log.live.set(name, { bucket, key, segment, offset, deadline });
  else log.live.delete(name);
}

/** Replays the hints; a mistake in what comes out is a failed expectation. */
async function expectReplayed(log: Log, hash: HashOfBytes, step?: number): Promise<void> {
  const keydir = new Keydir((slot, offset, bucket, key) => {
    return isKeyAt(log.hinted[slot]!.segment.bytes(0), offset, bucket, key);
  });
  const scheduled: string[] = [];
  let read = 0;
  for (const { segment, hint } of log.hinted) segment.deadBytes = hint.figures.deadBytes;
  const clock = new ManualClock();
  const turns = new Turns(clock);
  const replay = new Replay(
    log.hinted,
    {
      noteDead: (segment, bytes) => segment.deadBytes += bytes,
      schedule: (deadline, address) => scheduled.push(`${deadline} ${address}`),
      read: (entries) => read += entries,
    },
    turns,
    step,
  );
  let over = false;
  const done = replay.read().then(() => replay.finish(keydir)).finally(() => over = true);
  while (!over) {
    clock.advance(0);
    await Promise.resolve();
  }
  await done;
  turns.end();
  expect(read).toBe(log.hinted.reduce((entries, { hint }) => entries + hint.entries, 0));
  expect(keydir.count).toBe(log.live.size);
  const wrong: unknown[] = [];
  for (const name of log.keys) {
    const live = log.live.get(name);
    const bucket = Number(name.slice(0, name.indexOf(":")));
    const key = live?.key ?? Uint8Array.from(name.slice(name.indexOf(":") + 1).split("."), Number);
    const address = live === undefined ? -1 : live.segment.slot * ADDRESS_UNIT + live.offset;
    const found = keydir.get(hash(bucket, key, 0, key.length), bucket, key);
    if (found !== address) wrong.push({ name, found, address });
  }
  // One expectation for all keys: thousands of them would be most of the test's time.
  expect(wrong).toEqual([]);
  const deadlines = [...log.live.values()].filter(({ deadline }) => deadline !== undefined);
  expect(scheduled.toSorted()).toEqual(
    deadlines.map(({ deadline, segment, offset }) => `${deadline} ${segment.slot * ADDRESS_UNIT + offset}`).toSorted(),
  );
  for (const { segment } of log.hinted) expect(segment.deadBytes).toBe(log.dead.get(segment)!);
}

describe("Replay", () => {
  const real: HashOfBytes = (bucket, bytes, start, end) => hashKey(1, bucket, bytes, start, end);
  const hashes: Record<string, HashOfBytes> = {
    "no false matches": real,
    "some": (bucket, bytes, start, end) => (real(bucket, bytes, start, end) & 0xff00000f) >>> 0,
    "nothing but false matches": () => 77,
  };
  for (const [name, hash] of Object.entries(hashes)) {
    test(`finds each key's newest record, and what is dead: ${name}`, async () => {
      for (const seed of shareOf(24)) {
        const random = randomOf(seed);
        const bytesMax = 1 + random(6);
        const keyOf = (): Uint8Array => Uint8Array.from({ length: 1 + random(bytesMax) }, () => 0xfd + random(3));
        const longKeyOf = (): Uint8Array => new Uint8Array(300).fill(7, 0, 298).fill(random(256), 298);
        const log = lived(random, 1 + random(9), 300, seed % 4 === 0 ? longKeyOf : keyOf, hash);
        for (const step of [1, 2, 100]) await expectReplayed(log, hash, step);
      }
    });
  }

  test("has room for more keys in a range than were expected of it", async () => {
    for (const hash of [real, hashes["some"]!]) {
      // Blocks of a dozen long keys, and then of two hundred short ones.
      const keyOf = (random: (limit: number) => number): Uint8Array => {
        if (random(2) === 0) return Uint8Array.of(0xf0 + random(16), random(256));
        return new Uint8Array(300).fill(7, 0, 298).fill(random(256), 298, 299).fill(random(256), 299);
      };
      const log = lived(randomOf(6), 4, 6_000, keyOf, hash);
      for (const step of [1, 3]) await expectReplayed(log, hash, step);
    }
  });

  test("goes through many hints, and through keys that are written in order", async () => {
    let next = 0;
    const inOrder = (): Uint8Array => new TextEncoder().encode(String(next++).padStart(12, "0"));
    await expectReplayed(lived(randomOf(1), 90, 400, inOrder, real), real, 1);
    next = 0;
    await expectReplayed(lived(randomOf(1), 90, 400, inOrder, real), real);
    const anywhere = (random: (limit: number) => number): Uint8Array => {
      return new TextEncoder().encode(`key ${random(5_000)}`);
    };
    await expectReplayed(lived(randomOf(2), 90, 400, anywhere, real), real);
    await expectReplayed(lived(randomOf(3), 3, 30_000, anywhere, real), real);
    await expectReplayed(lived(randomOf(4), 1, 30_000, anywhere, real), real);
  });

  test("reads no block in many parts, however many hints there are", async () => {
    const keyOf = (random: (limit: number) => number): Uint8Array => {
      return new TextEncoder().encode(`key ${random(1_000_000)}`);
    };
    const { hinted } = lived(randomOf(5), 20, 3_000, keyOf, real);
    const many = Array.from({ length: 40 }, () => hinted).flat();
    let parts = 0;
    const owner = { noteDead: () => {}, schedule: () => {}, read: () => parts++ };
    const clock = new ManualClock();
    const turns = new Turns(clock);
    let over = false;
    const done = new Replay(many, owner, turns).read().finally(() => over = true);
    while (!over) {
      clock.advance(0);
      await Promise.resolve();
    }
    await done;
    turns.end();
    expect(parts).toBeLessThan(2 * many.reduce((blocks, { hint }) => blocks + hint.blocks, 0));
  });

  test("ends at a block that fails its check, wherever that is, and says whose it is", async () => {
    const keyOf = (random: (limit: number) => number): Uint8Array => new TextEncoder().encode(`key ${random(9_999)}`);
    const log = lived(randomOf(1), 3, 6_000, keyOf, real);
    const place = log.hinted.findIndex(({ hint }) => hint.blocks > 2);
    const { hint, segment } = log.hinted[place]!;
    for (let block = 0; block < hint.blocks; block++) {
      const steps = makeHint(segment.bytes(0), real);
      let step = steps.next();
      while (step.done !== true) step = steps.next();
      const file = new MemoryFileSystem().open("hint", "create");
      step.value[hint.start(block) + 9]! ^= 1;
      file.write(step.value, 0);
      const damaged = madeHint(step.value, file, cache);
      const hinted = log.hinted.map((one) => one.hint === hint ? { segment, hint: damaged } : one);
      const owner = { noteDead: () => {}, schedule: () => {}, read: () => {} };
      const replay = new Replay(hinted, owner, new Turns(new ManualClock()));
      expect(await errorCode(() => replay.read())).toBe("CORRUPT");
      expect(hinted.map((one) => one.hint.damaged)).toEqual([0, 1, 2].map((one) => one === place));
    }
  });
});
