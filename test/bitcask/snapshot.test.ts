/**
 * A snapshot is the store at one revision, whatever goes on meanwhile, and a store of its own.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { hashKey } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import { Compaction } from "../../lib/bitcask/compaction.ts";
import { GroupCommit } from "../../lib/bitcask/group.ts";
import { ADDRESS_UNIT } from "../../lib/bitcask/keydir.ts";
import { LiveRecords } from "../../lib/bitcask/live.ts";
import type { Log } from "../../lib/bitcask/log.ts";
import { openLog } from "../../lib/bitcask/open.ts";
import { bucketAt, FLAG, keyAt, KIND, type Kind } from "../../lib/bitcask/record.ts";
import { restoreLog } from "../../lib/bitcask/restore.ts";
import type { Segment } from "../../lib/bitcask/segment.ts";
import { Snapshots } from "../../lib/bitcask/snapshot.ts";
import type { ChangeEvent, SnapshotResult } from "../../lib/engine/engine.ts";
import { entriesOf, finish, flipped, verified } from "../suites/damage.ts";
import { Disk, gate } from "../suites/disk.ts";
import { Cask, randomOf } from "../suites/embedded.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

interface ManifestFields {
  readonly store: string;
  readonly epoch: string;
  readonly time: number;
  readonly floor: number;
  readonly revision: number;
}

function manifestOf(disk: Disk): ManifestFields {
  return JSON.parse(new TextDecoder().decode(disk.bytes("manifest")).split("\n")[0]!);
}

/** A store whose snapshots go to `target`. */
async function withTarget(options: ConstructorParameters<typeof Cask>[0] = {}): Promise<{ cask: Cask; target: Disk }> {
  const target = new Disk();
  const cask = await Cask.open({ segmentBytesMax: 600, folder: () => target.mount(), ...options });
  return { cask, target };
}

/** What the store was at a revision and a time, by its events. */
function stateAt(events: readonly ChangeEvent[], revision: number, time: number): Map<string, string> {
  const state = new Map<string, ChangeEvent>();
  for (const event of events) {
    if (event.revision > revision) break;
    if (event.type === "set") state.set(textOf(event.key)!, event);
    else state.delete(textOf(event.key)!);
  }
  const live = [...state].filter(([, { expiresAt = Infinity }]) => expiresAt > time);
  return new Map(
    live.sort(([left], [right]) => left < right ? -1 : 1)
      .map(([key, event]) => [key, `${event.revision}:${textOf(event.value)}`]),
  );
}

describe("EmbeddedEngine.snapshot()", () => {
  test("is the store at its revision while writes, expiry and compaction go on", async () => {
    let died = 0;
    for (let seed = 1; seed <= 30; seed++) {
      const random = randomOf(seed);
      const { cask, target } = await withTarget({
        automatic: random(2) === 0,
        tombstoneRetentionMs: 1 + random(5_000),
      });
      const events: ChangeEvent[] = [];
      const subscription = cask.engine.subscribe({});
      const reading = (async () => {
        for (let some = await subscription.next(); some !== undefined; some = await subscription.next()) {
          events.push(...some.filter((event) => !("cursor" in event)) as ChangeEvent[]);
        }
      })();
      const write = (count: number): Promise<unknown> => {
        const writes: Promise<unknown>[] = [];
        for (let index = 0; index < count; index++) {
          const key = `k${random(20)}`;
          const deadline = random(4) === 0 ? { deadline: { ttl: 1 + random(300) } } : {};
          writes.push(
            random(5) === 0
              ? cask.delete(key)
              : cask.set(key, `${seed}.${random(1_000)}`.repeat(1 + random(30)), deadline),
          );
        }
        return cask.finish(Promise.all(writes));
      };
      for (let round = 0; round < 10; round++) {
        await write(10);
        await cask.advance(random(30));
      }
      // Each sync of the target waits for some writes to the source.
      target.before = ({ action }) => {
        return action === "sync" ? write(1 + random(6)).then(() => cask.advance(random(40))) : undefined;
      };
      const taking = cask.engine.snapshot("copy");
      const compacting = seed % 2 === 0 ? cask.engine.compact() : undefined;
      const { revision, keys, segments } = await cask.finish(taking);
      target.before = () => {};
      if (compacting !== undefined) await cask.finish(compacting);
      await cask.advance(1_000);
      const { time, ...manifest } = manifestOf(target);
      subscription.close();
      await cask.finish(reading);
      const expected = stateAt(events, revision, time);
      died += events.filter((event) => event.revision > revision).length;
      expect([seed, await entriesOf(target)]).toEqual([seed, expected]);
      expect(keys).toBe(expected.size);
      expect(manifest).toMatchObject({ floor: revision, revision });
      const found = await verified(target);
      // Nothing but what was live: no tombstone, no older version.
      expect([found.sound, found.records, found.segments]).toEqual([true, keys, segments]);
      await cask.close();
      expect((await verified(cask.disk)).sound).toBe(true);
    }
    expect(died).toBeGreaterThan(100);
  });

  test("leaves out a key that is due, though its end could not be written yet", async () => {
    const { cask, target } = await withTarget();
    await cask.set("a", "1", { deadline: { ttl: 100 } });
    await cask.set("b", "1", { deadline: { ttl: 10_000 } });
    cask.disk.before = ({ action }) => {
      if (action === "write") throw new FirkinError("FULL", "Cannot write: no space");
    };
    await cask.advance(200);
    await cask.finish(cask.engine.snapshot("copy"));
    expect((await verified(target)).records).toBe(1);
    expect([...(await entriesOf(target) as Map<string, string>).keys()]).toEqual(["b"]);
  });

  test("is a store of its own: other id, other epoch, revisions go on", async () => {
    const { cask, target } = await withTarget();
    for (let index = 0; index < 50; index++) await cask.set(`k${index % 7}`, "x".repeat(50));
    await cask.set("t", "1", { deadline: { ttl: 1_000 } });
    const { revision } = await cask.finish(cask.engine.snapshot("copy"));
    expect(revision).toBe(51);
    const source = manifestOf(cask.disk);
    const copy = manifestOf(target);
    expect(copy.store).not.toBe(source.store);
    expect(copy.epoch).not.toBe(source.epoch);
    const other = await Cask.open({}, target, cask.clock);
    expect(await other.all()).toBe(await cask.all());
    expect(await other.set("new", "1")).toEqual({ ok: true, revision: 52 });
    await other.advance(1_000);
    expect(other.get("t")).toBe(undefined);
    await other.reopen();
    expect(other.get("new")).toBe("1");
    expect(cask.get("new")).toBe(undefined);
  });

  test("of an empty store opens too", async () => {
    const { cask, target } = await withTarget();
    expect(await cask.finish(cask.engine.snapshot("copy"))).toEqual({ revision: 0, keys: 0, bytes: 0, segments: 1 });
    expect(await entriesOf(target)).toEqual(new Map());
  });

  test("refuses a folder that is not empty, and one that another has", async () => {
    const { cask, target } = await withTarget();
    await cask.set("a", "1");
    target.put("notes", bytesOf("x"));
    expect(await errorCode(() => cask.finish(cask.engine.snapshot("copy")))).toBe("INVALID");
    expect(target.list()).toEqual(["notes"]);
    target.remove("notes");
    const lock = target.lock();
    expect(await errorCode(() => cask.finish(cask.engine.snapshot("copy")))).toBe("LOCKED");
    lock.release();
    const both = [cask.engine.snapshot("copy"), cask.engine.snapshot("copy")];
    await cask.finish(Promise.allSettled(both));
    expect(await errorCode(() => both[0]!)).toBe(undefined);
    expect(await errorCode(() => both[1]!)).toBe("INVALID");
    expect(await errorCode(() => cask.reopen({ segmentBytesMax: 600 }))).toBe(undefined);
  });

  test("leaves the target empty when a call fails, or without a manifest after a crash", async () => {
    const { cask, target } = await withTarget();
    for (let index = 0; index < 40; index++) await cask.set(`k${index % 9}`, "x".repeat(100));
    await cask.finish(cask.engine.snapshot("copy"));
    const calls = target.calls.length;
    const all = await cask.all();
    for (const end of ["failure", "crash", "cutPower"] as const) {
      for (let call = 0; call < calls; call++) {
        const disk = new Disk();
        disk.before = ({ number }) => {
          if (number !== call) return;
          if (end !== "failure") disk[end]();
          throw new FirkinError("FULL", "Cannot write: no space");
        };
        const again = await Cask.open({ segmentBytesMax: 600, folder: () => disk.mount() }, cask.disk.clone());
        const code = await errorCode(() => again.finish(again.engine.snapshot("copy")));
        expect([end, call, code]).toEqual([end, call, "FULL"]);
        if (end === "failure") expect(disk.list()).toEqual([]);
        const found = await entriesOf(disk);
        const whole = disk.list().includes("manifest");
        if (whole) expect((found as Map<string, string>).size).toBe(9);
        else expect(found).toEqual(disk.segments().length > 0 ? "CORRUPT" : new Map());
        expect(await again.all()).toBe(all);
        expect((await again.set("more", "1")).ok).toBe(true);
        await again.close();
      }
    }
  });

  test("ends with CLOSED when the store closes meanwhile", async () => {
    const { cask, target } = await withTarget();
    for (let index = 0; index < 40; index++) await cask.set(`k${index}`, "x".repeat(100));
    const held = gate();
    target.before = ({ action }) => action === "sync" ? held.wait : undefined;
    const taking = cask.engine.snapshot("copy");
    const waiting = cask.engine.snapshot("copy");
    await cask.settle();
    const closing = cask.engine.close();
    held.open();
    expect(await errorCode(() => cask.finish(taking))).toBe("CLOSED");
    expect(await errorCode(() => cask.finish(waiting))).toBe("CLOSED");
    await cask.finish(closing);
    expect(target.list()).toEqual([]);
    expect((await verified(cask.disk)).sound).toBe(true);
  });

  test("says where the source is damaged, and makes no copy", async () => {
    const { cask, target } = await withTarget();
    for (let index = 0; index < 20; index++) await cask.set(`k${index}`, "x".repeat(100));
    await cask.reopen({ cacheBytesMax: 0 });
    const [first] = cask.disk.segments();
    const file = cask.disk.open(first!, "write");
    file.write(Uint8Array.of(0xff), 100);
    expect(await errorCode(() => cask.finish(cask.engine.snapshot("copy")))).toBe("CORRUPT");
    expect(target.list()).toEqual([]);
  });
});

const hashOf = (bucket: number, key: Uint8Array): number => hashKey(1, bucket, key);

/** The parts of an engine that a snapshot needs, with a way to write any kind of record. */
class Bare {
  readonly disk = new Disk();
  readonly target = new Disk();
  readonly clock = new ManualClock();
  #log!: Log;
  group!: GroupCommit;
  /** Where the changes that wait are. */
  readonly #appended: number[] = [];
  live!: LiveRecords;
  snapshots!: Snapshots;

  static async open(): Promise<Bare> {
    const bare = new Bare();
    const { clock } = bare;
    const log = await finish(
      clock,
      openLog(bare.disk, clock, {
        sync: "always",
        cacheBytesMax: 0,
        segmentBytesMax: 400,
        filesMax: 100,
        reserveBytes: 0,
        report: () => {},
        attach: (made) => {
          bare.live = new LiveRecords(made, clock, { noteDead: () => {}, schedule: () => {} }, hashOf);
          return bare.live;
        },
      }),
    );
    bare.#log = log;
    const segmentOf = (address: number): Segment => log.segmentOf(address);
    const now = (): number => clock.wall();
    bare.group = new GroupCommit(
      log,
      clock,
      {
        now,
        committed: (changes) => {
          for (const address of bare.#appended.splice(0, changes)) {
            const segment = segmentOf(address);
            const offset = address % ADDRESS_UNIT;
            const at = segment.seek(offset);
            const hash = hashOf(bucketAt(segment.window, at), keyAt(segment.window, at));
            bare.snapshots.noteDead(bare.live.apply(segment, offset, hash), segment, offset);
          }
        },
        failed: () => {},
        report: () => {},
      },
      "always",
      1_000,
    );
    const owner = {
      now,
      committed: (): number => bare.group.committed,
      isLive: (bytes: Uint8Array, at: number, address: number): boolean => bare.live.isLiveAt(bytes, at, address),
    };
    const rest = { seal: () => bare.group.rotate(), sync: () => bare.group.sync(), moved: () => {}, report: () => {} };
    const options = {
      automatic: false,
      deadRatio: 0.5,
      deadBytes: Infinity,
      smallBytes: 0,
      window: undefined,
      tombstoneRetentionMs: 0,
      segmentBytesMax: 400,
    };
    const compaction = new Compaction(log, clock, { ...owner, ...rest }, options);
    log.createBucket("b");
    bare.snapshots = new Snapshots(log, clock, compaction, { ...owner, segmentBytesMax: 400 });
    return bare;
  }

  write(kind: Kind, key: string, flags = 0): void {
    const value = kind === KIND.set ? bytesOf(`${key}:${"v".repeat(60)}`) : new Uint8Array(0);
    const offset = this.group.append({
      kind,
      bucket: 1,
      revision: 0,
      at: 0,
      key: bytesOf(key),
      value,
      content: CONTENT.text,
      flags,
    });
    this.#appended.push(this.#log.active!.slot * ADDRESS_UNIT + offset);
  }

  snapshot(): Promise<SnapshotResult> {
    return finish(this.clock, this.snapshots.take(this.target));
  }

  /** The copy's keys; and whether any file there holds a key's value. */
  async copied(): Promise<string[]> {
    const found = await entriesOf(this.target);
    return typeof found === "string" ? [found] : [...found.keys()];
  }

  holds(key: string): boolean {
    return this.target.list().some((name) => new TextDecoder().decode(this.target.bytes(name)).includes(`${key}:vvv`));
  }
}

describe("Snapshots.take()", () => {
  test("leaves out a key that is taken meanwhile, at whichever call, and its value is in no file", async () => {
    const keys = Array.from({ length: 12 }, (_, index) => `k${index}`).sort();
    for (const via of ["take", "set and take"]) {
      for (const taken of ["k0", "k5", "k11"]) {
        for (let call = 0, over = false; !over; call++) {
          const bare = await Bare.open();
          for (let index = 0; index < 12; index++) bare.write(KIND.set, `k${index}`, index === 5 ? FLAG.once : 0);
          await finish(bare.clock, bare.group.sync());
          over = true;
          let awaited = false;
          bare.target.before = ({ number, action }) => {
            if (number !== call) return undefined;
            over = false;
            awaited = action === "sync" || action === "syncDirectory";
            if (via === "set and take") bare.write(KIND.set, taken);
            bare.write(KIND.take, taken);
            // A new key that comes and goes is none of the snapshot's.
            bare.write(KIND.set, "late");
            bare.write(KIND.take, "late");
            return awaited ? bare.group.sync() : undefined;
          };
          const { keys: count } = await bare.snapshot();
          const found = await bare.copied();
          const place = [via, taken, call];
          if (over) {
            expect([place, found]).toEqual([place, keys]);
            continue;
          }
          // A take that nobody waits for may be committed only when the snapshot is done.
          if (!awaited && found.length === keys.length) continue;
          expect([place, found]).toEqual([place, keys.filter((key) => key !== taken)]);
          expect([place, bare.holds(taken), count]).toEqual([place, false, 11]);
          expect((await verified(bare.target)).sound).toBe(true);
        }
      }
    }
  });

  test("keeps flags and deadlines, and no member of a batch waits for another", async () => {
    const bare = await Bare.open();
    bare.write(KIND.set, "gone", FLAG.more);
    bare.write(KIND.set, "kept", FLAG.more);
    bare.write(KIND.delete, "gone");
    bare.write(KIND.set, "once", FLAG.once);
    await finish(bare.clock, bare.group.sync());
    await bare.snapshot();
    expect(await bare.copied()).toEqual(["kept", "once"]);
    const bytes = bare.target.bytes("0000000001.segment");
    const kept = bytes[32 + 5]!;
    const second = 32 + 26 + 4 + 5 + 60;
    expect([kept & FLAG.more, bytes[second + 5]! & FLAG.once]).toEqual([0, FLAG.once]);
  });
});

describe("restoreLog()", () => {
  const restored = (source: Disk, target: Disk): Promise<unknown> => {
    const clock = new ManualClock(undefined, 9);
    return finish(clock, restoreLog(source, target.mount(), { clock }));
  };

  test("makes a store that is the same, with an epoch of its own", async () => {
    const { cask, target: snapshot } = await withTarget();
    for (let index = 0; index < 30; index++) await cask.set(`k${index % 8}`, `${index}`.repeat(40));
    await cask.finish(cask.engine.snapshot("copy"));
    const target = new Disk();
    const before = snapshot.list().map((name) => snapshot.bytes(name).join());
    await restored(snapshot, target);
    expect(await entriesOf(target)).toEqual(await entriesOf(cask.disk));
    expect(snapshot.list().map((name) => snapshot.bytes(name).join())).toEqual(before);
    expect(manifestOf(target).store).toBe(manifestOf(snapshot).store);
    expect(manifestOf(target).epoch).not.toBe(manifestOf(snapshot).epoch);
    expect(await errorCode(() => restored(snapshot, target))).toBe("INVALID");
  });

  test("refuses a damaged snapshot with the place, and writes nothing", async () => {
    const { cask, target: snapshot } = await withTarget();
    for (let index = 0; index < 8; index++) await cask.set(`k${index}`, `${index}`.repeat(40));
    await cask.finish(cask.engine.snapshot("copy"));
    for (const name of snapshot.list()) {
      for (let bit = 0; bit < snapshot.bytes(name).length * 8; bit += 7) {
        const target = new Disk();
        let error: unknown;
        const other = flipped(snapshot, name, bit);
        // Nor does an open take damage for a tear and cut what was there: the last segment holds nothing.
        const opened = await entriesOf(other);
        if (typeof opened !== "string") expect(opened.size).toBe(8);
        await restored(other, target).catch((thrown: unknown) => error = thrown);
        expect([name, bit, (error as FirkinError)?.code]).toEqual([name, bit, "CORRUPT"]);
        expect((error as FirkinError).detail.path).toBe(name);
        expect(target.list()).toEqual([]);
      }
    }
  });

  test("leaves no store behind when it dies at any call", async () => {
    const { cask, target: snapshot } = await withTarget();
    for (let index = 0; index < 8; index++) await cask.set(`k${index}`, `${index}`.repeat(40));
    await cask.finish(cask.engine.snapshot("copy"));
    const whole = new Disk();
    await restored(snapshot, whole);
    for (let call = 0; call < whole.calls.length - 1; call++) {
      const target = new Disk();
      target.before = ({ number }) => {
        if (number === call) throw new FirkinError("FULL", "Cannot write: no space");
      };
      expect(await errorCode(() => restored(snapshot, target))).toBe("FULL");
      expect(target.list()).toEqual([]);
    }
  });
});
