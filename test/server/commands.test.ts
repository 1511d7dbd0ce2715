/**
 * Each operation once: without a right, with wrong arguments, with the rights it needs and no more; and its count.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import type { ErrorCode } from "../../lib/base/errors.ts";
import { HEADER_BYTES } from "../../lib/bitcask/record.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type { Engine, Entry, Operation } from "../../lib/engine/engine.ts";
import { EVERYONE, type Principal, type Right } from "../../server/auth.ts";
import { Commands } from "../../server/commands.ts";
import { Metrics, type OperationName, OPERATIONS } from "../../server/metrics.ts";
import { bytesOf, textOf } from "../suites/engine_subject.ts";
import { errorCode, thrown } from "../suites/fs.ts";
import { openMemoryEngine } from "../wire/loopback.ts";
import { engineOf } from "./peer.ts";

const RIGHTS: readonly Right[] = ["read", "write", "subscribe", "admin"];
const [KEY, VALUE] = [bytesOf("k"), bytesOf("1")];
const SET = { content: CONTENT.text } as const;
const [EMPTY_KEY, LONG_KEY, LONG_VALUE] = [new Uint8Array(0), new Uint8Array(17), new Uint8Array(33)];

/** Each operation in bucket `b`, or on the whole store, and the rights that it needs there. */
const CALLS: Readonly<
  Record<OperationName, [needs: Right[], call: (commands: Commands, principal: Principal) => unknown]>
> = {
  get: [["read"], (commands, principal) => commands.get(principal, "b", KEY)],
  getMany: [["read"], (commands, principal) => commands.getMany(principal, "b", [KEY])],
  peek: [["read"], (commands, principal) => commands.peek(principal, "b", KEY)],
  has: [["read"], (commands, principal) => commands.has(principal, "b", KEY)],
  list: [["read"], (commands, principal) => commands.list(principal, "b", { limit: 10 })],
  set: [["write"], (commands, principal) => commands.set(principal, "b", KEY, VALUE, SET)],
  setMany: [["write"], (commands, principal) => commands.setMany(principal, "b", [{ key: KEY, value: VALUE, ...SET }])],
  delete: [["write"], (commands, principal) => commands.delete(principal, "b", KEY)],
  touch: [["write"], (commands, principal) => commands.touch(principal, "b", KEY, undefined)],
  increment: [["read", "write"], (commands, principal) => commands.increment(principal, "b", KEY, 1)],
  take: [["read", "write"], (commands, principal) => commands.take(principal, "b", KEY)],
  atomic: [["read", "write"], (commands, principal) => {
    const operations: Operation[] = [
      { type: "check", bucket: "b", key: bytesOf("x"), revision: 0 },
      { type: "set", bucket: "b", key: KEY, value: VALUE, ...SET },
    ];
    return commands.atomic(principal, operations);
  }],
  subscribe: [["subscribe"], (commands, principal) => commands.subscribe(principal, { bucket: "b" }).close()],
  // To whoever has a right in a bucket: see below.
  buckets: [[], (commands, principal) => commands.buckets(principal)],
  stats: [["admin"], (commands, principal) => commands.stats(principal)],
  sync: [["admin"], (commands, principal) => commands.sync(principal)],
  compact: [["admin"], (commands, principal) => commands.compact(principal)],
  administer: [["admin"], (commands, principal) => commands.administer(principal, () => {})],
};
const WHOLE_STORE: ReadonlySet<OperationName> = new Set(["stats", "sync", "compact", "administer"]);

/** Has these rights in bucket `b` alone, or everywhere. */
function having(rights: readonly Right[], everywhere = false): Principal {
  return { name: "test", allows: (right, bucket) => rights.includes(right) && (everywhere || bucket === "b") };
}

function without(right: Right): Principal {
  return having(RIGHTS.filter((other) => other !== right), true);
}

describe("Commands", () => {
  let engine: EmbeddedEngine;
  let clock: ManualClock;
  let metrics: Metrics;
  let commands: Commands;
  const failures: unknown[] = [];

  /** Commands on an engine, with small limits. */
  function commandsOn(served: Engine): Commands {
    metrics = new Metrics(clock);
    const limits = { keyBytesMax: 16, valueBytesMax: 32, batchOperationsMax: 3, batchBytesMax: 64 };
    return new Commands({ engine: served, limits, clock, metrics, onFailure: (error) => failures.push(error) });
  }

  async function setOnce(key: Uint8Array): Promise<void> {
    await engine.set("b", key, VALUE, { ...SET, once: true });
  }

  beforeEach(async () => {
    clock = new ManualClock();
    engine = await openMemoryEngine(clock);
    await engine.set("b", KEY, VALUE, SET);
    commands = commandsOn(engine);
    failures.length = 0;
  });
  afterEach(() => engine.close());

  describe("rights", () => {
    test.each(OPERATIONS)(
      "Commands.%s() runs with the rights it needs, and fails without each of them",
      async (name) => {
        const [needs, call] = CALLS[name];
        const { revision } = await engine.stats();
        for (const right of needs) expect(await errorCode(() => call(commands, without(right)))).toBe("FORBIDDEN");
        expect((await engine.stats())["revision"]).toBe(revision!);
        expect(metrics.count(name, "FORBIDDEN")).toBe(needs.length);
        expect(metrics.count(name, "answered")).toBe(0);
        await call(commands, having(needs, WHOLE_STORE.has(name)));
        expect(metrics.count(name, "answered")).toBe(1);
      },
    );

    test.each(OPERATIONS.filter((name) => name !== "buckets"))(
      "Commands.%s() fails with rights elsewhere",
      async (name) => {
        const [, call] = CALLS[name];
        const elsewhere: Principal = {
          name: "test",
          allows: (_, bucket) => bucket === (WHOLE_STORE.has(name) ? "b" : "bb"),
        };
        expect(await errorCode(() => call(commands, elsewhere))).toBe("FORBIDDEN");
      },
    );

    test.each(OPERATIONS)("Commands.%s() fails from when its principal expires", async (name) => {
      const [, call] = CALLS[name];
      const principal: Principal = { ...EVERYONE, expiresAt: clock.wall() + 1_000 };
      clock.advance(999);
      await call(commands, principal);
      clock.advance(1);
      expect(await errorCode(() => call(commands, principal))).toBe("UNAUTHORIZED");
      expect(await errorCode(() => call(commands, { ...principal, allows: () => false }))).toBe("UNAUTHORIZED");
      expect(metrics.count(name, "UNAUTHORIZED")).toBe(2);
    });

    test("Commands.buckets() names buckets with any right in them, and counts those that may be read", async () => {
      await engine.set("a", KEY, VALUE, SET);
      await engine.set("b", bytesOf("other"), VALUE, SET);
      const bytes = HEADER_BYTES + KEY.length + VALUE.length;
      expect(await commands.buckets(EVERYONE)).toMatchObject([
        { name: "a", keys: 1, bytes },
        { name: "b", keys: 2 },
      ]);
      expect(await commands.buckets(having(["read"]))).toMatchObject([{ name: "b", keys: 2 }]);
      expect(await commands.buckets(having(["write"]))).toEqual([{ name: "b" }]);
      expect(await commands.buckets(having(["admin"], true))).toEqual([
        { name: "a", settings: {} },
        { name: "b", settings: {} },
      ]);
      expect(await commands.count(having(["read"]), "b")).toBe(2);
      expect(await commands.count(having(["read"], true), "none")).toBe(0);
      expect(await errorCode(() => commands.count(having(["write"]), "b"))).toBe("FORBIDDEN");
    });

    test.each(["at once", "later"])(
      "Commands.get() and getMany() take only with the right to write, read %s",
      async (when) => {
        commands = commandsOn(when === "later" ? engineOf(engine) : engine);
        const reader = having(["read"]);
        await setOnce(bytesOf("once"));
        expect(textOf((await commands.get(reader, "b", KEY))?.value)).toBe("1");
        expect((await commands.getMany(reader, "b", [KEY, bytesOf("x")])).map((entry) => textOf(entry?.value))).toEqual(
          [
            "1",
            undefined,
          ],
        );
        expect(await errorCode(() => commands.get(reader, "b", bytesOf("once")))).toBe("FORBIDDEN");
        expect(await errorCode(() => commands.getMany(reader, "b", [KEY, bytesOf("once")]))).toBe("FORBIDDEN");
        expect(await commands.has(reader, "b", bytesOf("once"))).toBe(true);
        const entry = await commands.get(having(["read", "write"]), "b", bytesOf("once"));
        expect([textOf(entry?.value), entry?.once]).toEqual(["1", true]);
        await setOnce(bytesOf("once"));
        const entries = await commands.getMany(having(["read", "write"]), "b", [KEY, bytesOf("once")]);
        expect(entries.map((found) => textOf(found?.value))).toEqual(["1", "1"]);
        expect(await commands.has(reader, "b", bytesOf("once"))).toBe(false);
      },
    );

    test.each(["at once", "later"])(
      "Commands.peek() ends nothing and shows no single-read value, read %s",
      async (when) => {
        commands = commandsOn(when === "later" ? engineOf(engine) : engine);
        const key = bytesOf("once");
        await setOnce(key);
        const asked = key.slice();
        const answer = commands.peek(having(["read"]), "b", asked);
        asked.fill(0xff); // it was the caller's
        const entry = await answer as Entry;
        expect([textOf(entry.key), entry.value.length, entry.once]).toEqual(["once", 0, true]);
        expect(textOf((await commands.peek(having(["read"]), "b", KEY))?.value)).toBe("1");
        expect(await commands.peek(having(["read"]), "b", bytesOf("j"))).toBeUndefined();
        expect(textOf((await engine.take("b", key))?.value)).toBe("1");
      },
    );

    test("Commands.set() and delete() with a condition need the right to read what may stand in the way", async () => {
      const writer = having(["write"]);
      const both = having(["read", "write"]);
      expect(await errorCode(() => commands.set(writer, "b", KEY, VALUE, { ...SET, ifRevision: 0 }))).toBe("FORBIDDEN");
      expect(await errorCode(() => commands.delete(writer, "b", KEY, { ifRevision: 0 }))).toBe("FORBIDDEN");
      expect((await commands.set(both, "b", KEY, VALUE, { ...SET, ifRevision: 0 })).ok).toBe(false);
      expect((await commands.delete(both, "b", KEY, { ifRevision: 0 })).ok).toBe(false);
      expect(metrics.count("set", "answered")).toBe(1);
    });

    test("Commands.atomic() needs each operation's right in its bucket, or does nothing", async () => {
      const set: Operation = { type: "set", bucket: "b", key: bytesOf("new"), value: VALUE, ...SET };
      const check: Operation = { type: "check", bucket: "b", key: KEY, revision: 0 };
      const remove: Operation = { type: "delete", bucket: "b", key: KEY };
      const refused: readonly [Right[], Operation[]][] = [
        [["write"], [set, check]],
        [["read"], [check, set]],
        [["read"], [check, remove]],
        [["read", "write"], [set, { ...check, bucket: "c" }]],
        [["read", "write"], [set, { ...set, bucket: "c" }]],
        [["read", "write"], [set, { ...remove, bucket: "c" }]],
      ];
      for (const [rights, operations] of refused) {
        expect(await errorCode(() => commands.atomic(having(rights), operations))).toBe("FORBIDDEN");
      }
      expect(await engine.has("b", bytesOf("new"))).toBe(false);
      expect((await commands.atomic(having(["write"]), [set, remove])).ok).toBe(true);
      expect((await commands.atomic(having(["read"]), [check])).ok).toBe(true);
    });

    test("Commands.subscribe() to all buckets needs the right in all", async () => {
      expect(await errorCode(() => commands.subscribe(having(["subscribe"]), {}))).toBe("FORBIDDEN");
      commands.subscribe(having(["subscribe"], true), {}).close();
    });
  });

  describe("arguments", () => {
    const set = (options: object, key = KEY, value = VALUE) => (door: Commands): unknown => {
      return door.set(EVERYONE, "b", key, value, { ...SET, ...options });
    };
    const batch = (...operations: object[]) => (door: Commands): unknown => {
      const whole = operations.map((operation) => ({
        type: "set",
        bucket: "b",
        key: KEY,
        value: VALUE,
        ...SET,
        ...operation,
      }));
      return door.atomic(EVERYONE, whole as Operation[]);
    };
    const wrong: readonly [ErrorCode, OperationName, (door: Commands) => unknown][] = [
      ["TOO_LARGE", "getMany", (door) => door.getMany(EVERYONE, "b", Array.from({ length: 1_001 }, () => KEY))],
      ["TOO_LARGE", "set", set({}, KEY, LONG_VALUE)],
      ["TOO_LARGE", "setMany", (door) => door.setMany(EVERYONE, "b", [{ key: KEY, value: LONG_VALUE, ...SET }])],
      ["INVALID", "set", set({ content: 4 })],
      ["INVALID", "set", set({ content: 1.5 })],
      ["INVALID", "set", set({ ifRevision: -1 })],
      ["INVALID", "set", set({ ifRevision: 1.5 })],
      ["INVALID", "set", set({ deadline: { ttl: NaN } })],
      ["INVALID", "set", set({ deadline: { ttl: -1 } })],
      ["INVALID", "set", set({ deadline: { ttl: Infinity } })],
      ["INVALID", "set", set({ deadline: { expiresAt: -1 } })],
      ["INVALID", "set", set({ deadline: { expiresAt: 2 ** 53 } })],
      ["INVALID", "delete", (door) => door.delete(EVERYONE, "b", KEY, { ifRevision: NaN })],
      ["INVALID", "touch", (door) => door.touch(EVERYONE, "b", KEY, { ttl: -1 })],
      ["INVALID", "increment", (door) => door.increment(EVERYONE, "b", KEY, NaN)],
      ["INVALID", "list", (door) => door.list(EVERYONE, "b", { limit: 0 })],
      ["INVALID", "list", (door) => door.list(EVERYONE, "b", { limit: 1.5 })],
      ["INVALID", "atomic", batch({}, { bucket: "B" })],
      ["INVALID", "atomic", batch({}, { key: EMPTY_KEY })],
      ["INVALID", "atomic", batch({}, { content: -1 })],
      ["INVALID", "atomic", batch({}, { deadline: { ttl: -1 } })],
      ["INVALID", "atomic", batch({}, { type: "check", revision: -1 })],
      ["TOO_LARGE", "atomic", batch({}, { key: LONG_KEY })],
      ["TOO_LARGE", "atomic", batch({}, { value: LONG_VALUE })],
      ["TOO_LARGE", "atomic", batch({}, {}, {}, {})],
      ["TOO_LARGE", "atomic", batch({ value: new Uint8Array(32) }, { value: new Uint8Array(31) })],
      ["INVALID", "subscribe", (door) => door.subscribe(EVERYONE, { bucket: "" })],
      ["INVALID", "subscribe", (door) => door.subscribe(EVERYONE, { prefix: KEY })],
      ["TOO_LARGE", "subscribe", (door) => door.subscribe(EVERYONE, { bucket: "b", prefix: LONG_KEY })],
    ];

    test.each(wrong.map((row, index) => [...row, index] as const))(
      "Commands answers %s to a wrong %s",
      async (code, name, call) => {
        const { revision } = await engine.stats();
        expect(await errorCode(() => call(commands))).toBe(code);
        expect([metrics.count(name, code), metrics.count(name, "answered")]).toEqual([1, 0]);
        expect((await engine.stats())["revision"]).toBe(revision!);
        expect(failures).toEqual([]);
      },
    );

    test("Commands refuses buckets without a name and keys that are empty or too long, everywhere", async () => {
      const calls: ((bucket: string, key: Uint8Array) => unknown)[] = [
        (bucket, key) => commands.get(EVERYONE, bucket, key),
        (bucket, key) => commands.getMany(EVERYONE, bucket, [KEY, key]),
        (bucket, key) => commands.peek(EVERYONE, bucket, key),
        (bucket, key) => commands.has(EVERYONE, bucket, key),
        (bucket, key) => commands.set(EVERYONE, bucket, key, VALUE, SET),
        (bucket, key) => commands.delete(EVERYONE, bucket, key),
        (bucket, key) => commands.touch(EVERYONE, bucket, key, undefined),
        (bucket, key) => commands.increment(EVERYONE, bucket, key, 1),
        (bucket, key) => commands.take(EVERYONE, bucket, key),
      ];
      for (const call of calls) {
        for (const bucket of ["", "B", "__proto__", "b".repeat(65), "b/c"]) {
          expect(await errorCode(() => call(bucket, KEY))).toBe("INVALID");
        }
        expect(await errorCode(() => call("b", EMPTY_KEY))).toBe("INVALID");
        expect(await errorCode(() => call("b", LONG_KEY))).toBe("TOO_LARGE");
      }
      expect(await errorCode(() => commands.list(EVERYONE, "B", { limit: 1 }))).toBe("INVALID");
    });

    test("Commands takes what is just within the limits", async () => {
      const key = new Uint8Array(16).fill(1);
      expect((await commands.set(EVERYONE, "b", key, new Uint8Array(32), SET)).ok).toBe(true);
      const set: Operation = { type: "set", bucket: "b", key: KEY, value: VALUE, ...SET };
      expect((await commands.atomic(EVERYONE, [set, set, set])).ok).toBe(true);
      expect((await commands.list(EVERYONE, "b", { limit: 10_000 })).entries.length).toBe(2);
    });
  });

  describe("failures", () => {
    test("Commands tells a client nothing of what is not its fault, and the operator all", async () => {
      const error = new Error("secret path /srv");
      const fail = (): never => {
        throw error;
      };
      commands = commandsOn({ ...engineOf(engine), sync: () => Promise.reject(error), compact: fail });
      for (const call of [() => commands.sync(EVERYONE), () => commands.compact(EVERYONE)]) {
        const failure = await thrown(call);
        expect(failure?.code).toBe("IO");
        expect(failure?.message).not.toContain("secret");
      }
      expect(failures).toEqual([error, error]);
      expect([metrics.count("sync", "IO"), metrics.count("compact", "IO")]).toEqual([1, 1]);
    });

    test("Commands passes on the errors of the engine, and misuse as INVALID", async () => {
      commands = commandsOn({ ...engineOf(engine), sync: () => Promise.reject(new RangeError("Cannot do that")) });
      expect(await errorCode(() => commands.sync(EVERYONE))).toBe("INVALID");
      await engine.close();
      expect(await errorCode(() => commandsOn(engine).get(EVERYONE, "b", KEY))).toBe("CLOSED");
      expect(metrics.count("get", "CLOSED")).toBe(1);
      expect(failures).toEqual([]);
    });
  });

  test("Commands answers reads of an engine that can at once, and in the order of the calls", () => {
    expect(commands.get(EVERYONE, "b", KEY)).toMatchObject({ content: CONTENT.text });
    expect(commands.getMany(EVERYONE, "b", [KEY])).toHaveLength(1);
    expect(commands.peek(EVERYONE, "b", KEY)).toMatchObject({ content: CONTENT.text });
    expect(commands.get(EVERYONE, "b", bytesOf("x"))).toBeUndefined();
    expect(metrics.count("get", "answered")).toBe(2);
  });

  test("Commands times what is answered later until then", async () => {
    let done = (): void => {};
    commands = commandsOn({ ...engineOf(engine), sync: () => new Promise((resolve) => done = resolve) });
    const synced = commands.sync(EVERYONE);
    clock.advance(20);
    done();
    await synced;
    const [low, high] = [metrics.latency("sync").quantile(0.5), metrics.latency("sync").quantile(1)];
    expect(low).toBe(high);
    expect(low).toBeGreaterThanOrEqual(20_000);
    expect(low).toBeLessThan(22_500);
  });
});
