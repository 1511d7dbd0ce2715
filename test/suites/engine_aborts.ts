/**
 * What every engine keeps about calls that are given up: a part of `runEngineSuite`.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import type { CallOptions } from "../../lib/store/abort.ts";
import type { Bucket } from "../../lib/store/bucket.ts";
import { Store } from "../../lib/store/store.ts";
import { gate } from "./disk.ts";
import { type OpenEngine, Subject } from "./engine_subject.ts";

/** A call that takes a signal: its name, and how it is made. */
export type AbortableCall = readonly [
  name: string,
  call: (bucket: Bucket<number>, options: CallOptions) => Promise<unknown>,
];

/** Every call that takes a signal, on a bucket in which `k` is a number. */
export const ABORTABLE: readonly AbortableCall[] = [
  ["get", (bucket, options) => bucket.get("k", options)],
  ["get with touch", (bucket, options) => bucket.get("k", { touch: "5m", ...options })],
  ["getEntry", (bucket, options) => bucket.getEntry("k", options)],
  ["getMany", (bucket, options) => bucket.getMany(["k", "x"], options)],
  ["has", (bucket, options) => bucket.has("k", options)],
  ["list", (bucket, options) => bucket.list({ prefix: "k", ...options }).next()],
  ["set", (bucket, options) => bucket.set("k", 2, options)],
  ["set with a condition", (bucket, options) => bucket.set("k", 2, { ifRevision: 1, ...options })],
  ["setMany", (bucket, options) => bucket.setMany([["k", 2], ["x", 3, { ttl: "5m" }]], options)],
  ["delete", (bucket, options) => bucket.delete("k", options)],
  ["take", (bucket, options) => bucket.take("k", options)],
  ["touch", (bucket, options) => bucket.touch("k", "5m", options)],
  ["persist", (bucket, options) => bucket.persist("k", options)],
  ["increment", (bucket, options) => bucket.increment("k", 1, options)],
  ["atomic commit", (bucket, options) => new Store(bucket.engine).atomic().set(bucket, "k", 2).commit(options)],
];

/** A signal, and how many listen to it. */
export function listened(): { controller: AbortController; count: () => number } {
  const controller = new AbortController();
  const { signal } = controller;
  let count = 0;
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    count++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    count--;
    remove(...args);
  };
  return { controller, count: () => count };
}

/** Registers the tests. */
export function testAborts(open: OpenEngine): void {
  describe("aborted calls", () => {
    const subject = Subject.each(open);

    async function openBucket(): Promise<Bucket<number>> {
      const bucket = new Store(subject.engine).bucket<number>("b");
      await bucket.set("k", 1);
      return bucket;
    }

    test("Every call rejects with the reason of its signal, listens no more, and the store goes on", async () => {
      const bucket = await openBucket();
      const counts: (() => number)[] = [];
      for (const [name, call] of ABORTABLE) {
        const { controller, count } = listened();
        counts.push(count);
        const reason = new Error(name);
        const asked = call(bucket, { signal: controller.signal }).then(() => "answered", (error: unknown) => error);
        controller.abort(reason);
        // What was read at once needs no signal.
        const outcome = await asked;
        if (!(name === "getMany" && subject.engine.capabilities.sync)) expect(outcome).toBe(reason);
      }
      // Their late answers come before these.
      for (let turn = 0; turn < 3; turn++) expect(await bucket.has("other")).toBe(false);
      expect(counts.map((count) => count())).toEqual(ABORTABLE.map(() => 0));
    });

    test("Every call changes nothing when its signal is aborted already", async () => {
      const bucket = await openBucket();
      const { revision } = await subject.engine.stats();
      for (const [name, call] of ABORTABLE) {
        const error: unknown = await call(bucket, { signal: AbortSignal.abort() }).catch((reason: unknown) => reason);
        expect([name, (error as Error).name]).toEqual([name, "AbortError"]);
      }
      expect((await subject.engine.stats())["revision"]).toBe(revision!);
    });

    test("Bucket.list() ends between two entries, and while a page is on its way", async () => {
      const bucket = await openBucket();
      await bucket.setMany(Array.from({ length: 1_500 }, (_, index) => [`l${String(index).padStart(4, "0")}`, index]));
      for (const last of [3, 1_000]) {
        const { controller, count } = listened();
        const reason = new Error("enough");
        const list = bucket.list({ prefix: "l", signal: controller.signal });
        for (let index = 0; index < last; index++) expect((await list.next()).value?.value).toBe(index);
        expect(count()).toBe(0);
        const next = list.next().catch((error: unknown) => error);
        controller.abort(reason);
        // The third entry's successor was at hand already; the thousandth's was not.
        if (last === 1_000) expect(await next).toBe(reason);
        else expect(await next.then(() => list.next()).catch((error: unknown) => error)).toBe(reason);
        expect((await list.next()).done).toBe(true);
      }
    });

    test("Bucket.setMany() asks its source for no more, ends it, and sends no slice any more", async () => {
      const bucket = await openBucket();
      const controller = new AbortController();
      const reason = new Error("enough");
      let [asked, ended] = [0, false];
      const last = gate();
      async function* source(): AsyncGenerator<[string, number]> {
        try {
          while (asked < 5_000) {
            if (asked === 2_500) {
              controller.abort(reason);
              await last.wait;
            }
            yield [`m${asked}`, asked++];
          }
        } finally {
          ended = true;
        }
      }
      const written = bucket.setMany(source(), { signal: controller.signal });
      // The call does not wait for its source.
      expect(await written.catch((error: unknown) => error)).toBe(reason);
      expect([asked, ended]).toEqual([2_500, false]);
      last.open();
      // Some calls later all is over that was on its way.
      for (let turn = 0; turn < 5; turn++) await bucket.set("k", turn);
      expect([asked, ended]).toEqual([2_501, true]);
      const [{ length: full }, { length: over }] = [
        (await bucket.getMany(["m0", "m999", "m1000", "m1999"])).filter((value) => value !== undefined),
        (await bucket.getMany(["m2000", "m2499", "m2500"])).filter((value) => value !== undefined),
      ];
      expect([full, over]).toEqual([4, 0]);
    });

    test("Bucket.setMany() of what is at hand sends no slice once it is aborted", async () => {
      const bucket = await openBucket();
      const controller = new AbortController();
      let asked = 0;
      function* source(): Generator<[string, number]> {
        while (asked < 5_000) {
          if (asked === 2_500) controller.abort(new Error("enough"));
          yield [`m${asked}`, asked++];
        }
      }
      const error: unknown = await bucket.setMany(source(), { signal: controller.signal }).catch((reason) => reason);
      expect((error as Error).message).toBe("enough");
      expect(asked).toBe(2_501);
      expect(await bucket.getMany(["m2000", "m2500"])).toEqual([undefined, undefined]);
    });

    test("Atomic.commit() that was given up before it was asked may be asked again", async () => {
      const bucket = await openBucket();
      const batch = new Store(subject.engine).atomic().set(bucket, "k", 2);
      const given = await batch.commit({ signal: AbortSignal.abort() }).catch((error: Error) => error.name);
      expect(given).toBe("AbortError");
      expect((await batch.commit()).ok).toBe(true);
      expect(await bucket.get("k")).toBe(2);
      expect(await batch.commit().catch((error: unknown) => error)).toBeInstanceOf(TypeError);
    });
  });
}
