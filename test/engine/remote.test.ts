import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type { BucketInfo, EngineEvent, EngineSubscription } from "../../lib/engine/engine.ts";
import type { RemoteEngine } from "../../lib/engine/remote.ts";
import { OP, WINDOW_BYTES } from "../../lib/wire/protocol.ts";
import type { Right } from "../../server/auth.ts";
import { runEngineSuite } from "../suites/engine.ts";
import { brief, bytesOf, operations, take, textOf } from "../suites/engine_subject.ts";
import { errorCode, thrown } from "../suites/fs.ts";
import { guestOf, Loopback, openMemoryEngine, settled } from "../wire/loopback.ts";

runEngineSuite("RemoteEngine", async (clock) => {
  const served = await openMemoryEngine(clock);
  const loopback = new Loopback(served);
  const engine = await loopback.connect();
  return {
    engine,
    async close() {
      await engine.close();
      await served.close();
    },
  };
});

describe("RemoteEngine and its connection", () => {
  let served: EmbeddedEngine;
  let loopback: Loopback;
  let engine: RemoteEngine;
  /** The client's time. */
  let clock: ManualClock;

  beforeEach(async () => {
    served = await openMemoryEngine();
    loopback = new Loopback(served);
    clock = new ManualClock();
    engine = await loopback.connect({ clock, timeoutMs: 10_000 });
    loopback.messages.length = 0;
  });

  afterEach(async () => {
    await engine.close();
    await served.close();
  });

  function set(key: string, value = "v"): Promise<unknown> {
    return served.set("b", bytesOf(key), bytesOf(value), { content: CONTENT.text });
  }

  /** Lets a lost connection come back. */
  async function reconnect(): Promise<void> {
    loopback.refusing = false;
    await settled();
    // The first delay is a tenth of a second at most.
    clock.advance(100);
    await settled();
  }

  test("RemoteEngine.read() rejects alone when its reader fails", async () => {
    await set("bad");
    await set("good");
    const read = (key: string): Promise<unknown> => {
      return engine.read("b", bytesOf(key), (bytes, start, end) => {
        if (key === "bad") throw new FirkinError("CORRUPT", "Cannot decode");
        return textOf(bytes.slice(start, end));
      });
    };
    const answers = await Promise.allSettled([read("good"), read("bad"), read("good")]);
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(await errorCode(() => read("bad"))).toBe("CORRUPT");
    expect(loopback.opened).toBe(1);
  });

  test("RemoteEngine lets as many calls wait for a lost connection as it is told, and no more", async () => {
    const bounded = await loopback.connect({ clock, offlineMax: 2 });
    const none = await loopback.connect({ clock, offlineMax: 0 });
    loopback.refusing = true;
    loopback.cut();
    await settled();
    expect(await errorCode(() => none.get("b", bytesOf("a")))).toBe("UNAVAILABLE");
    const waiting = [bounded.get("b", bytesOf("a")), bounded.get("b", bytesOf("a"))];
    expect(await errorCode(() => bounded.get("b", bytesOf("a")))).toBe("UNAVAILABLE");
    await reconnect();
    expect(await Promise.all(waiting)).toEqual([undefined, undefined]);
    await Promise.all([bounded.close(), none.close()]);
  });

  describe("connecting", () => {
    test("connectEngine() rejects when nobody answers the first time", async () => {
      loopback.refusing = true;
      expect(await errorCode(() => loopback.connect())).toBe("UNAVAILABLE");
    });

    test("connectEngine() rejects in time when the server accepts and is silent", async () => {
      loopback.stalled = true;
      const connecting = errorCode(() => loopback.connect({ clock, timeoutMs: 500 }));
      await settled();
      clock.advance(500);
      expect(await connecting).toBe("TIMEOUT");
    });

    test("RemoteEngine.limits are the server's", async () => {
      const small = new Loopback(served, { keyBytesMax: 10, valueBytesMax: 20 });
      const client = await small.connect();
      expect([client.limits.keyBytesMax, client.limits.valueBytesMax]).toEqual([10, 20]);
      expect(await errorCode(() => client.get("b", new Uint8Array(11)))).toBe("TOO_LARGE");
      expect(await errorCode(() => client.set("b", bytesOf("k"), new Uint8Array(21), { content: 3 }))).toBe(
        "TOO_LARGE",
      );
      await client.close();
    });
  });

  describe("requests", () => {
    test("RemoteEngine sends what one tick asks in one message", async () => {
      await Promise.all(Array.from({ length: 50 }, (_, index) => engine.get("b", bytesOf(`k${index}`))));
      expect(loopback.messages.length).toBe(1);
    });

    test("RemoteEngine sends early what is a third of what is on the way, from a kilobyte to 64 of them", async () => {
      const large = new Loopback(served);
      const client = await large.connect();
      const from = large.messages.length;
      const value = new Uint8Array(300);
      await Promise.all(
        Array.from({ length: 2_000 }, () => client.set("b", bytesOf("k"), value, { content: CONTENT.bytes })),
      );
      const lengths = large.messages.slice(from).map(({ length }) => length);
      const frame = lengths[0]! / Math.ceil(1_024 / 320);
      let sum = 0;
      for (const length of lengths.slice(0, -1)) {
        sum += length;
        const enough = Math.min(Math.max(1_024, sum / 3), 64 * 1_024);
        expect(length).toBeGreaterThan(enough);
        expect(length).toBeLessThanOrEqual(enough + frame);
      }
      expect(lengths.length).toBeGreaterThan(10);
      await client.close();
    });

    test("RemoteEngine keeps to the server's limits of requests and bytes, and answers all", async () => {
      const narrow = new Loopback(served, { requestsMax: 10, messageBytesMax: 10_000, valueBytesMax: 8_000 });
      const client = await narrow.connect();
      const value = new Uint8Array(3_000);
      const writes = Array.from({ length: 100 }, (_, index) => {
        return client.set("b", bytesOf(`k${index}`), value, { content: CONTENT.bytes });
      });
      const results = await Promise.all([
        ...writes,
        ...writes.map((_, index) => client.get("b", bytesOf(`k${index}`))),
      ]);
      expect(results.length).toBe(200);
      expect(results.slice(100).every((entry) => entry !== undefined)).toBe(true);
      await client.close();
    });

    test("RemoteEngine times out a request that has no answer, and goes on", async () => {
      loopback.stalled = true;
      const first = errorCode(() => engine.get("b", bytesOf("k")));
      await settled();
      clock.advance(5_000);
      const second = errorCode(() => engine.get("b", bytesOf("k")));
      clock.advance(5_000);
      expect(await first).toBe("TIMEOUT");
      await reconnect();
      loopback.release();
      await settled();
      // Silent for the whole time, the connection counted as lost: what was on the way with it.
      expect(await second).toBe("UNAVAILABLE");
      await reconnect();
      expect(await engine.get("b", bytesOf("k"))).toBeUndefined();
    });

    test("RemoteEngine rejects what is on the way when the connection is lost, and never sends it again", async () => {
      const write = errorCode(() => engine.increment("b", bytesOf("n"), 1));
      const read = errorCode(() => engine.get("b", bytesOf("n")));
      loopback.cut();
      expect([await write, await read]).toEqual(["UNAVAILABLE", "UNAVAILABLE"]);
      await reconnect();
      expect(await engine.get("b", bytesOf("n"))).toBeUndefined();
    });

    test("RemoteEngine sends what was asked while disconnected after the reconnect", async () => {
      loopback.cut();
      const results = Promise.all([
        engine.set("b", bytesOf("a"), bytesOf("1"), { content: CONTENT.text }),
        engine.get("b", bytesOf("a")),
      ]);
      await reconnect();
      expect((await results)[0].ok).toBe(true);
    });

    test("RemoteEngine sends what still waited when the connection was lost", async () => {
      const narrow = new Loopback(served, { requestsMax: 1 });
      const client = await narrow.connect({ clock });
      const lost = errorCode(() => client.increment("b", bytesOf("lost"), 1));
      const waiting = client.increment("b", bytesOf("n"), 1);
      narrow.cut();
      expect(await lost).toBe("UNAVAILABLE");
      await reconnect();
      expect((await waiting).value).toBe(1);
      await client.close();
    });

    test("RemoteEngine rejects what waits too long for a connection", async () => {
      loopback.refusing = true;
      loopback.cut();
      const answer = errorCode(() => engine.get("b", bytesOf("a")));
      for (let second = 0; second < 10; second++) {
        clock.advance(1_000);
        await settled();
      }
      expect(await answer).toBe("UNAVAILABLE");
    });

    test("RemoteEngine waits longer from try to try, up to ten seconds", async () => {
      loopback.refusing = true;
      loopback.cut();
      const triedAt: number[] = [];
      for (let tries = loopback.opened; clock.monotonic() < 60_000; clock.advance(50)) {
        await settled();
        if (loopback.opened > tries) triedAt.push(clock.monotonic());
        tries = loopback.opened;
      }
      const waits = triedAt.slice(1).map((time, index) => time - triedAt[index]!);
      expect(triedAt[0]!).toBeLessThanOrEqual(150);
      for (const [index, wait] of waits.entries()) {
        const longest = Math.min(10_000, 100 * 2 ** (index + 1));
        expect(wait).toBeGreaterThanOrEqual(longest / 2 - 50);
        expect(wait).toBeLessThanOrEqual(longest + 50);
      }
      expect(waits.length).toBeGreaterThan(8);
    }, 30_000);

    test("RemoteEngine gives up after a close that is final", async () => {
      for (
        const [code, expected] of [[1002, "PROTOCOL"], [1003, "PROTOCOL"], [1009, "PROTOCOL"], [
          4401,
          "UNAUTHORIZED",
        ]] as const
      ) {
        const client = await loopback.connect({ clock });
        const waiting = errorCode(() => client.subscribe({}).next());
        await settled();
        loopback.cut(code);
        expect([code, await errorCode(() => client.get("b", bytesOf("k")))]).toEqual([code, expected]);
        expect(await waiting).toBe(expected);
        await client.close();
      }
    });

    test("RemoteEngine pings a silent server, and drops a connection that does not answer", async () => {
      clock.advance(20_000);
      await settled();
      expect(loopback.messages.length).toBe(1);
      loopback.stalled = true;
      clock.advance(20_000);
      await settled();
      expect(loopback.messages.length).toBe(2);
      clock.advance(10_000);
      loopback.stalled = false;
      await reconnect();
      expect(await engine.get("b", bytesOf("k"))).toBeUndefined();
    });

    test("RemoteEngine.close() waits for the answers on the way", async () => {
      const write = engine.set("b", bytesOf("k"), bytesOf("v"), { content: CONTENT.text });
      await engine.close();
      expect((await write).ok).toBe(true);
      expect(loopback.wires.size).toBe(0);
      expect(loopback.host.metrics.connections).toBe(0);
    });

    test("RemoteEngine.close() without a connection rejects what waits", async () => {
      loopback.refusing = true;
      loopback.cut();
      const answer = errorCode(() => engine.get("b", bytesOf("k")));
      await engine.close();
      expect(await answer).toBe("CLOSED");
    });

    test("RemoteEngine ends over a message that is not the protocol", async () => {
      for (
        const bytes of [[0xff], [0x80], [0x84, 9, 1, 0, 0], [0x83, 0, 1], [0x82, 2, 0], [0x84, 3, 1, 1, 0x61, 0xff]]
      ) {
        const client = await loopback.connect({ clock });
        const answer = errorCode(() => client.get("b", bytesOf("k")));
        const wire = [...loopback.wires].at(-1)!;
        wire.server.send(Uint8Array.from(bytes));
        expect([bytes, await answer]).toEqual([bytes, "PROTOCOL"]);
        await client.close();
      }
    });
  });

  describe("buckets", () => {
    /** What one who has these rights, in these buckets, sees and may. */
    async function connectWith(rights: readonly Right[], buckets: readonly (string | undefined)[]) {
      loopback.guest = guestOf({
        name: "test",
        allows: (right, bucket) => rights.includes(right) && buckets.includes(bucket),
      });
      return await loopback.connect({ clock });
    }

    test("RemoteEngine.buckets() leaves out what one may not know", async () => {
      await set("k");
      await served.configure("c", { ttl: 7 });
      const [b, c] = await served.buckets();
      const seen: readonly (readonly [Right, readonly (string | undefined)[], readonly (BucketInfo | undefined)[]])[] =
        [
          ["read", ["b"], [b]],
          ["read", ["b", "c", undefined], [b, c]],
          ["write", ["b"], [{ name: "b" }]],
          ["subscribe", ["c"], [{ name: "c" }]],
          ["admin", [undefined], [{ name: "b", settings: {} }, { name: "c", settings: { ttl: 7 } }]],
          ["read", ["d"], []],
        ];
      for (const [right, buckets, expected] of seen) {
        const client = await connectWith([right], buckets);
        expect<unknown>([right, buckets, await client.buckets()]).toEqual([right, buckets, expected]);
        await client.close();
      }
    });

    test("RemoteEngine.configure() is for who may administer the store", async () => {
      const everywhere = ["b", "c", undefined];
      const others = await connectWith(["read", "write", "subscribe"], everywhere);
      for (const bucket of ["b", "c"]) {
        expect(await errorCode(() => others.configure(bucket, { ttl: 1 }))).toBe("FORBIDDEN");
      }
      expect(await served.buckets()).toEqual([]);
      const admin = await connectWith(["admin"], everywhere);
      expect(await admin.configure("c", { ttl: 1 })).toBe(true);
      expect(await served.buckets()).toMatchObject([{ name: "c", settings: { ttl: 1 } }]);
      await Promise.all([others.close(), admin.close()]);
    });

    test("RemoteEngine.configure() says what the server refuses, and takes no condition", async () => {
      expect(await errorCode(() => engine.configure("b", { valueBytesMax: 2 ** 40 }))).toBe("INVALID");
      expect(await errorCode(() => engine.configure("-", {}))).toBe("INVALID");
      expect(await errorCode(() => engine.configure("b", {}, () => true))).toBe("NOT_SUPPORTED");
      expect(await served.buckets()).toEqual([]);
    });

    test("RemoteEngine says that a server is too old for it, and goes on", async () => {
      const client = await loopback.connect({
        clock,
        openSocket: () => {
          const socket = loopback.openSocket();
          const send = socket.send.bind(socket);
          socket.send = (bytes) => {
            const sent = bytes.slice();
            if (sent[1] === OP.buckets || sent[1] === OP.configure) sent[1] = 23; // which no server knows
            send(sent);
          };
          return socket;
        },
      });
      for (const ask of [() => client.buckets(), () => client.configure("b", {})]) {
        const error = await thrown(ask);
        expect([error?.code, error?.message]).toEqual(["NOT_SUPPORTED", expect.stringContaining("too old")]);
      }
      expect(await client.has("b", bytesOf("k"))).toBe(false);
      await client.close();
    });
  });

  describe("subscriptions", () => {
    test("EngineSubscription continues behind the last event over reconnects, without loss or repeat", async () => {
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      const seen: string[] = [];
      const expected: string[] = [];
      for (let round = 0; round < 5; round++) {
        for (let index = 0; index < 20; index++) {
          expected.push(`set ${round}.${index}=v`);
          const write = set(`${round}.${index}`);
          if (index === 10) loopback.cut();
          await write;
        }
        await reconnect();
        seen.push(...(await takeThrough(subscription, `${round}.19`)).map(brief));
      }
      expect(seen).toEqual(expected);
    });

    test("EngineSubscription hands out a batch when it is whole, and again whole after a reconnect", async () => {
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      const { cursor } = subscription;
      // One message of the server's arrives, in the middle of the batch.
      const [wire] = [...loopback.wires];
      const deliver = wire!.onmessage as unknown as (event: unknown) => void;
      let arrived = 0;
      wire!.onmessage = (event: unknown) => arrived++ === 0 ? deliver(event) : undefined;
      const texts = Array.from({ length: 300 }, (_, index) => `set k${index}=${"x".repeat(1_000)}`);
      await served.atomic(operations(...texts));
      let handedOut = 0;
      const next = subscription.next().then((events) => {
        handedOut += events!.length;
        return events!;
      });
      await settled();
      expect(arrived).toBeGreaterThan(1);
      expect([handedOut, subscription.cursor]).toEqual([0, cursor]);
      loopback.cut();
      await reconnect();
      expect((await next).map(brief)).toEqual(texts);
      await set("after");
      expect((await take(subscription, 1)).map(brief)).toEqual(["set after=v"]);
    });

    test("EngineSubscription takes a batch that is larger than its window", async () => {
      const store = await openMemoryEngine(undefined, { batchBytesMax: 8 * WINDOW_BYTES });
      const server = new Loopback(store, { outboundBytesMax: 200_000 });
      const client = await server.connect();
      const subscription = client.subscribe({});
      await subscription.ready;
      const value = "x".repeat(WINDOW_BYTES / 100);
      for (let round = 0; round < 3; round++) {
        await store.atomic(operations(...Array.from({ length: 300 }, (_, index) => `set k${index}=${value}`)));
        expect((await take(subscription, 300)).length).toBe(300);
      }
      await client.close();
      await store.close();
    });

    test("EngineSubscription.cursor is behind what was handed out, not what arrived", async () => {
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      const { cursor } = subscription;
      await set("a");
      await settled();
      expect(subscription.cursor).toBe(cursor);
      const [event] = await take(subscription, 1);
      expect(subscription.cursor.endsWith(`.${(event as { revision: number }).revision}`)).toBe(true);
    });

    test("Engine.subscribe() without a connection begins with the next", async () => {
      loopback.cut();
      const subscription = engine.subscribe({ bucket: "b", snapshot: true });
      await set("a");
      await reconnect();
      await subscription.ready;
      expect((await take(subscription, 2)).map(brief)).toEqual(["set a=v", "synced"]);
    });

    test("EngineSubscription whose snapshot was cut says resync and ends", async () => {
      const value = "x".repeat(1_000);
      await Promise.all(Array.from({ length: 3_000 }, (_, index) => set(`k${index}`, value)));
      const subscription = engine.subscribe({ bucket: "b", snapshot: true });
      await subscription.ready;
      expect((await subscription.next())!.length).toBeGreaterThan(0);
      loopback.cut();
      const rest: EngineEvent[] = [];
      for (let events = await subscription.next(); events !== undefined; events = await subscription.next()) {
        rest.push(...events);
      }
      const last = rest.at(-1)!;
      expect(brief(last)).toBe("resync");
      // In the middle of a snapshot no revision says what is still to come: only the beginning misses none.
      expect("cursor" in last && last.cursor.endsWith(".0")).toBe(true);
      expect(subscription.cursor).toBe("");
    });

    test("EngineSubscription that nobody reads holds no more than its window, and loses nothing", async () => {
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      const value = "x".repeat(10_000);
      const count = 4 * WINDOW_BYTES / 10_000 | 0;
      await Promise.all(Array.from({ length: count }, (_, index) => set(`k${index}`, value)));
      await settled();
      const sent = loopback.host.metrics.bytesOut;
      expect(sent).toBeGreaterThan(WINDOW_BYTES - 20_000);
      expect(sent).toBeLessThan(WINDOW_BYTES + 20_000);
      const events = await take(subscription, count);
      expect(events.map((event) => "key" in event && textOf(event.key))).toEqual(events.map((_, index) => `k${index}`));
    });

    test("EngineSubscription ends with an error when the server ends it", async () => {
      const subscription = engine.subscribe({ bucket: "b" });
      await subscription.ready;
      await served.close();
      expect(await errorCode(() => subscription.next())).toBe("UNAVAILABLE");
    });

    test("Engine.subscribe() beyond the server's limit fails", async () => {
      const few = new Loopback(served, { subscriptionsMax: 1 });
      const client = await few.connect();
      const first = client.subscribe({});
      await first.ready;
      const second = client.subscribe({});
      expect(await errorCode(() => second.ready)).toBe("BUSY");
      expect(await errorCode(() => second.next())).toBe("BUSY");
      first.close();
      await client.subscribe({}).ready;
      await client.close();
    });

    test("Engine.subscribe() that waited while the connection was lost subscribes once", async () => {
      const narrow = new Loopback(served, { requestsMax: 1 });
      const client = await narrow.connect({ clock });
      const lost = errorCode(() => client.get("b", bytesOf("k")));
      const subscription = client.subscribe({ bucket: "b" });
      narrow.cut();
      expect(await lost).toBe("UNAVAILABLE");
      await reconnect();
      await subscription.ready;
      await settled();
      expect(narrow.host.metrics.subscriptions).toBe(1);
      await set("a");
      await set("b");
      expect((await take(subscription, 2)).map(brief)).toEqual(["set a=v", "set b=v"]);
      await client.close();
    });

    test("EngineSubscription.close() tells the server, also before its answer", async () => {
      const early = engine.subscribe({});
      early.close();
      const late = engine.subscribe({});
      await late.ready;
      late.close();
      await settled();
      expect(loopback.host.metrics.subscriptions).toBe(0);
      expect((await served.stats())["subscriptions"]).toBe(0);
    });
  });
});

/** Events up to the one of `key`. */
async function takeThrough(subscription: EngineSubscription, key: string): Promise<EngineEvent[]> {
  const taken: EngineEvent[] = [];
  for (;;) {
    taken.push(...(await subscription.next())!);
    const last = taken.at(-1)!;
    if ("key" in last && textOf(last.key) === key) return taken;
  }
}
