/**
 * Takes on a disk that fails: a value leaves only when nothing can bring it back, and then leaves no trace.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import type { SyncPolicy } from "../../lib/bitcask/log.ts";
import { type Disk, gate } from "../suites/disk.ts";
import { Cask } from "../suites/embedded.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode } from "../suites/fs.ts";

const POLICIES: readonly SyncPolicy[] = ["always", "interval", "os"];
const SECRET = "the value of a single-read key";

/** Names of the files that hold `text`. */
function filesWith(disk: Disk, text: string): string[] {
  return disk.list().filter((name) =>
    Array.from(disk.bytes(name), (byte) => String.fromCharCode(byte)).join("").includes(text)
  );
}

/** What a call fails with. */
function failing(code: "FULL" | "DURABILITY", action: "write" | "sync"): Disk["before"] {
  return (call) => {
    if (call.action === action) throw new FirkinError(code, "The test says so");
  };
}

describe("A take", () => {
  test("is on stable storage when the value leaves, under every policy", async () => {
    for (const sync of POLICIES) {
      for (const once of [true, false]) {
        for (const synced of [true, false]) {
          const cask = await Cask.open({ sync });
          await cask.set("other", "1");
          if (synced) await cask.engine.sync();
          await cask.set("a", SECRET, { once });
          if (synced) await cask.engine.sync();
          const [entry] = once
            ? [await cask.engine.get("b", bytesOf("a"))]
            : [await cask.engine.take("b", bytesOf("a"))];
          cask.disk.cutPower();
          expect(textOf(entry?.value)).toBe(SECRET);
          await cask.open();
          expect([sync, once, await cask.engine.has("b", bytesOf("a"))]).toEqual([sync, once, false]);
          expect(await cask.take("a")).toBeUndefined();
        }
      }
    }
  });

  test("costs no other write a sync", async () => {
    const cask = await Cask.open({ sync: "os" });
    await cask.set("a", "1");
    const from = cask.disk.calls.length;
    await cask.take("a");
    await cask.set("b", "1");
    await cask.set("c", "1", { once: true });
    expect(cask.disk.calls.slice(from).map(({ action }) => action)).toEqual(["write", "sync", "write", "write"]);
  });

  test("is all that changes a single-read number: an increment is refused, once what it saw is committed", async () => {
    for (const [value, once] of [["1", true], ["word", false]] as const) {
      const cask = await Cask.open();
      const held = gate();
      cask.disk.before = (call) => call.action === "sync" ? held.wait : undefined;
      const written = cask.set("a", value, { once });
      let answered = false;
      const code = errorCode(() => cask.engine.increment("b", bytesOf("a"), 1)).finally(() => answered = true);
      await cask.settle();
      expect(answered).toBe(false);
      held.open();
      expect([await code, (await written).ok]).toEqual(["INVALID", true]);
    }
  });

  test("of a missing key writes nothing", async () => {
    const cask = await Cask.open();
    await cask.set("a", "1");
    const from = cask.disk.calls.length;
    expect(await cask.take("x")).toBeUndefined();
    expect(cask.disk.calls.length).toBe(from);
  });

  test("is not answered, to anybody, before its sync", async () => {
    for (const sync of POLICIES) {
      const cask = await Cask.open({ sync });
      await cask.set("a", "1", { once: true });
      const held = gate();
      cask.disk.before = (call) => call.action === "sync" ? held.wait : undefined;
      const answers: (string | undefined)[] = [];
      const takers = [0, 1, 2].map(async () => void answers.push(await cask.take("a")));
      await cask.settle();
      const late = cask.take("a");
      await cask.settle();
      expect([answers.length, await cask.engine.has("b", bytesOf("a"))]).toEqual([0, true]);
      held.open();
      await Promise.all(takers);
      expect(answers).toEqual(["1", undefined, undefined]);
      expect(await late).toBeUndefined();
    }
  });

  test("that cannot be written fails for all takers and leaves the key", async () => {
    for (const sync of POLICIES) {
      const cask = await Cask.open({ sync });
      await cask.set("a", "1", { once: true });
      cask.disk.before = failing("FULL", "write");
      const codes = await Promise.all([0, 1, 2].map(() => errorCode(() => cask.take("a"))));
      expect(codes).toEqual(["FULL", "FULL", "FULL"]);
      cask.disk.before = () => {};
      expect(await cask.take("a")).toBe("1");
      expect(await cask.take("a")).toBeUndefined();
    }
  });

  test("whose sync fails hands out nothing, then or later", async () => {
    for (const sync of POLICIES) {
      for (const power of [true, false]) {
        const cask = await Cask.open({ sync });
        await cask.set("a", "1", { once: true });
        await cask.engine.sync();
        cask.disk.before = failing("DURABILITY", "sync");
        const codes = await Promise.all([0, 1].map(() => errorCode(() => cask.take("a"))));
        cask.disk.before = () => {};
        codes.push(await errorCode(() => cask.engine.get("b", bytesOf("a"))));
        expect(codes).toEqual(["DURABILITY", "DURABILITY", "DURABILITY"]);
        expect(cask.get("a")).toBe("");
        if (power) cask.disk.cutPower();
        else cask.disk.crash();
        await cask.open();
        // It may have happened or not; if not, somebody can still have the value, once.
        const taken = [await cask.take("a"), await cask.take("a")];
        expect(taken).toEqual([power ? "1" : undefined, undefined]);
      }
    }
  });

  test("delivers at most once when the disk fails at any of its calls", async () => {
    for (const sync of POLICIES) {
      for (const kind of ["fails once", "dies", "loses power"] as const) {
        for (const segmentBytesMax of [4_096, 150]) {
          let ended = false;
          for (let skip = 0; !ended; skip++) {
            const cask = await Cask.open({ sync, segmentBytesMax });
            await cask.set("a", SECRET, { once: true });
            const from = cask.disk.calls.length;
            let left = skip;
            cask.disk.before = (call) => {
              const now = left-- === 0;
              if (kind === "fails once" ? !now : left >= 0) return;
              throw new FirkinError(call.action.startsWith("sync") ? "DURABILITY" : "FULL", "The test says so");
            };
            let delivered = 0;
            const read = async (): Promise<void> => {
              const entry = await cask.engine.get("b", bytesOf("a"));
              if (textOf(entry?.value) === SECRET) delivered++;
            };
            const code = await errorCode(read);
            expect(delivered).toBe(code === undefined ? 1 : 0);
            ended = cask.disk.calls.length - from <= skip;
            if (kind === "loses power") cask.disk.cutPower();
            else cask.disk.crash();
            await cask.open();
            await read();
            await read();
            expect([skip, delivered <= 1]).toEqual([skip, true]);
          }
        }
      }
    }
  });

  test("leaves the value in no file once its segments are compacted", async () => {
    const cask = await Cask.open({ segmentBytesMax: 512 });
    await cask.set("a", SECRET, { once: true });
    await cask.set("b", `${SECRET} too`, { once: true, deadline: { ttl: 60_000 } });
    for (let index = 0; index < 20; index++) await cask.set(`k${index}`, "x".repeat(60));
    expect(filesWith(cask.disk, SECRET)).toEqual(["0000000001.segment"]);
    // A copy keeps the flag.
    await cask.compact();
    expect(filesWith(cask.disk, SECRET).length).toBe(1);
    expect([await cask.take("a"), await cask.take("b")]).toEqual([SECRET, `${SECRET} too`]);
    await cask.compact();
    expect(filesWith(cask.disk, SECRET)).toEqual([]);
    await cask.reopen();
    expect(await cask.take("a")).toBeUndefined();
    expect(filesWith(cask.disk, SECRET)).toEqual([]);
  });

  test("stays when it comes while its key is copied", async () => {
    const cask = await Cask.open({ sync: "os", segmentBytesMax: 512 });
    await cask.set("a", SECRET, { once: true });
    for (let index = 0; index < 20; index++) await cask.set(`k${index}`, "x".repeat(60));
    let taken: Promise<string | undefined> | undefined;
    cask.disk.before = (call) => {
      if (call.action === "rename") taken ??= cask.take("a");
    };
    await cask.compact();
    expect(await cask.finish(taken!)).toBe(SECRET);
    cask.disk.cutPower();
    await cask.open();
    expect(await cask.take("a")).toBeUndefined();
    await cask.compact();
    expect(filesWith(cask.disk, SECRET)).toEqual([]);
  });

  test("of a damaged value fails and ends nothing", async () => {
    const cask = await Cask.open({ cacheBytesMax: 0 });
    await cask.set("a", SECRET, { once: true });
    await cask.compact();
    // The segment leaves memory when its hint is there.
    await cask.settle();
    const [name] = filesWith(cask.disk, SECRET);
    const file = cask.disk.open(name!, "write");
    const byte = new Uint8Array(1);
    const flip = (): void => {
      const at = cask.disk.bytes(name!).length - 40;
      file.read(byte, at);
      byte[0]! ^= 1;
      file.write(byte, at);
    };
    flip();
    const from = cask.disk.calls.length;
    for (const call of [() => cask.take("a"), () => cask.engine.get("b", bytesOf("a"))]) {
      expect(await errorCode(call)).toBe("CORRUPT");
    }
    expect(cask.disk.calls.length).toBe(from);
    flip();
    expect(await cask.take("a")).toBe(SECRET);
  });
});
