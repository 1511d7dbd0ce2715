import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import { type ErrorCode, errorCodeOf } from "../../lib/base/errors.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { OP, type OpName, SHAPES } from "../../lib/wire/protocol.ts";
import { EVERYONE } from "../../server/auth.ts";
import { SERVER_LIMITS, type ServerLimits } from "../../server/limits.ts";
import { Session, type SessionHost } from "../../server/session.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { guestOf, hostOf, openMemoryEngine, settled } from "../wire/loopback.ts";
import { engineOf, type Item, message, Peer, REQUESTS } from "./peer.ts";

/** Every look takes a millisecond. */
class BusyClock extends ManualClock {
  looks = 0;
  override monotonic(): number {
    return super.monotonic() + this.looks++;
  }
}

describe("Session", () => {
  let engine: EmbeddedEngine;
  let clock: ManualClock;
  let host: SessionHost;
  const failures: unknown[] = [];

  function hostOn(served: Engine): SessionHost {
    return hostOf(served, {}, clock, (error) => failures.push(error));
  }

  function connect(limits: Partial<ServerLimits> = {}): Peer {
    const peer = new Peer({ ...host, limits: { ...SERVER_LIMITS, ...limits } });
    peer.hello();
    return peer;
  }

  beforeEach(async () => {
    clock = new ManualClock();
    engine = await openMemoryEngine();
    failures.length = 0;
    host = hostOn(engine);
  });
  afterEach(() => engine.close());

  describe("hello", () => {
    test("Session answers hello with its limits and the epoch of its cursors", () => {
      const peer = new Peer(host);
      peer.send([OP.hello, 9, 1, null]);
      const limits = [1_024, 1_048_576, 2_097_152, 1_000, 10_000, 1_000, 1_048_576];
      expect(peer.frames()).toEqual([[0, 9, "firkin", limits, engine.epoch]]);
      expect(engine.subscribe({}).cursor).toBe(`${engine.epoch}.0`);
    });

    test("Session runs what comes with hello in one message", () => {
      const peer = new Peer(host);
      peer.send([OP.hello, 1, 1, "token"], [OP.ping, 2]);
      expect(peer.frames().map(([kind, id]) => [kind, id])).toEqual([[0, 1], [0, 2]]);
    });

    test("Session closes 4401 without hello in time, and not with it", () => {
      const silent = new Peer(host);
      const polite = connect();
      clock.advance(4_999);
      expect(silent.closedWith).toBeUndefined();
      clock.advance(1);
      expect(silent.closedWith).toBe(4401);
      clock.advance(60_000);
      expect(polite.closedWith).toBeUndefined();
    });

    test("Session refuses a first frame that is not hello, another version, and arguments that are none", () => {
      for (const frame of [[OP.ping, 1], [OP.hello, 1, 2, null], [OP.hello, 1, 1], [OP.hello, 1, "1", null]]) {
        const peer = new Peer(host);
        peer.send(frame);
        expect(peer.frames().map((items) => items.slice(0, 3))).toEqual([[1, 0, 15]]);
        expect(peer.closedWith).toBe(1002);
      }
    });

    test("Session answers a second hello with INVALID and goes on", () => {
      const peer = connect();
      peer.send([OP.hello, 5, 1, null]);
      expect(peer.errorCode()).toBe("INVALID");
      expect(peer.closedWith).toBeUndefined();
    });
  });

  describe("requests", () => {
    test("Session answers each operation with its shape", async () => {
      const peer = connect();
      for (const name of Object.keys(OP) as OpName[]) {
        if (name === "hello") continue;
        peer.send([OP[name], 7, ...REQUESTS[name]]);
        while (peer.messages.length === 0) await settled();
        const [reply] = peer.frames();
        expect([name, reply!.slice(0, 2), reply!.length]).toEqual([name, [0, 7], 2 + SHAPES[OP[name]]!.results]);
      }
      expect(host.metrics.errors).toBe(0);
    });

    test("Session answers what came in one message in one message", async () => {
      const peer = connect();
      peer.send(
        ...Array.from(
          { length: 50 },
          (_, index) => [OP.set, index + 1, "b", bytesOf(`k${index}`), 2, bytesOf("v"), null, null, null, false],
        ),
      );
      await settled();
      expect(peer.messages.length).toBe(1);
      expect(peer.frames().map(([kind]) => kind)).toEqual(Array.from({ length: 50 }, () => 0));
      peer.send(...Array.from({ length: 50 }, (_, index) => [OP.get, index + 1, "b", bytesOf(`k${index}`)]));
      expect(peer.messages.length).toBe(1);
      expect(peer.frames().length).toBe(50);
    });

    test("Session gives entries, nulls and lost conditions", async () => {
      const peer = connect();
      peer.send([OP.set, 1, "b", bytesOf("k"), CONTENT.json, bytesOf("1"), null, null, 0, false]);
      await settled();
      const [[, , revision]] = peer.frames() as [Item[]];
      peer.send(
        [OP.get, 2, "b", bytesOf("k")],
        [OP.get, 3, "b", bytesOf("x")],
        [OP.set, 4, "b", bytesOf("k"), CONTENT.json, bytesOf("2"), null, null, 0, false],
        [OP.delete, 5, "b", bytesOf("x"), null],
      );
      await settled();
      const entry = [revision!, CONTENT.json, "1", null, false];
      expect(peer.frames()).toEqual([[0, 2, entry], [0, 3, null], [0, 4, entry], [0, 5, null]]);
    });

    test("Session hides single-read values and takes one key in a getMany", async () => {
      const peer = connect();
      const [a, b] = [bytesOf("a"), bytesOf("b")];
      peer.send(
        [OP.set, 1, "b", a, CONTENT.text, bytesOf("1"), null, null, null, true],
        [OP.set, 2, "b", b, CONTENT.text, bytesOf("2"), null, null, null, true],
      );
      await settled();
      const [first, second] = peer.frames().map(([, , revision]) => revision!);
      peer.send([OP.set, 3, "b", a, 0, a, null, null, 0, false], [OP.getMany, 4, "b", [bytesOf("x"), a, b]]);
      await settled();
      expect(peer.frames()).toEqual([
        [0, 3, [first!, CONTENT.text, null, null, true]],
        [0, 4, [null, [first!, CONTENT.text, "1", null, true]]],
      ]);
      peer.send([OP.list, 5, "b", null, null, null, null, false, 9], [OP.get, 6, "b", a], [OP.take, 7, "b", b]);
      await settled();
      expect(peer.frames().sort(([, left], [, right]) => Number(left) - Number(right))).toEqual([
        [0, 5, [["b", [second!, CONTENT.text, null, null, true]]], false],
        [0, 6, null],
        [0, 7, [second!, CONTENT.text, "2", null, true]],
      ]);
    });

    test("Session answers wrong arguments and goes on", () => {
      const peer = connect();
      const key = bytesOf("k");
      const wrong: readonly [ErrorCode, Item[]][] = [
        ["INVALID", [OP.get, 1]],
        ["INVALID", [OP.get, 1, "b", key, null]],
        ["INVALID", [OP.get, 1, "b", "k"]],
        ["INVALID", [OP.get, 1, 5, key]],
        ["INVALID", [OP.get, 1, "B", key]],
        ["INVALID", [OP.get, 1, "", key]],
        ["INVALID", [OP.get, 1, "__proto__", key]],
        ["INVALID", [OP.get, 1, "b".repeat(65), key]],
        ["INVALID", [OP.get, 1, "b\0", key]],
        ["INVALID", [OP.get, 1, "b", new Uint8Array(0)]],
        ["TOO_LARGE", [OP.get, 1, "b", new Uint8Array(1_025)]],
        ["TOO_LARGE", [OP.set, 1, "b", key, 3, new Uint8Array(1_048_577), null, null, null, false]],
        ["TOO_LARGE", [OP.getMany, 1, "b", Array.from({ length: 1_001 }, () => key)]],
        ["INVALID", [OP.getMany, 1, "b", [key, "k"]]],
        ["INVALID", [OP.set, 1, "b", key, 4, key, null, null, null, false]],
        ["INVALID", [OP.set, 1, "b", key, 0, key, 5, 6, null, false]],
        ["INVALID", [OP.set, 1, "b", key, 0, key, -5, null, null, false]],
        ["INVALID", [OP.set, 1, "b", key, 0, key, null, null, 1.5, false]],
        ["INVALID", [OP.increment, 1, "b", key, NaN]],
        ["INVALID", [OP.increment, 1, "b", key, Infinity]],
        ["INVALID", [OP.list, 1, "b", null, null, null, null, false, 0]],
        ["INVALID", [OP.list, 1, "b", null, null, null, null, 0, 10]],
        ["INVALID", [OP.subscribe, 1, "B", null, null, null, true, false, null, null]],
        ["INVALID", [OP.subscribe, 1, null, null, key, null, true, false, null, null]],
        ["INVALID", [OP.subscribe, 1, null, key, null, null, true, false, null, null]],
        ["INVALID", [OP.subscribe, 1, "b", key, key, null, true, false, null, null]],
        ["INVALID", [OP.subscribe, 1, "b", new Uint8Array(0), null, null, true, false, null, null]],
        ["INVALID", [OP.subscribe, 1, "b", null, null, 0, true, false, null, null]],
        ["INVALID", [OP.subscribe, 1, "b", null, null, 1, true, false, null, null]],
        ["INVALID", [OP.subscribe, 1, "b", null, null, 64, true, false, null, null]],
        ["INVALID", [OP.subscribe, 1, "b", null, null, 2 ** 32 + 2, true, false, null, null]],
        ["TOO_LARGE", [OP.subscribe, 1, "b", null, new Uint8Array(1_025), null, true, false, null, null]],
        ["INVALID", [OP.set, 1, "b", key, 0, key, null, null, null, null]],
        ["INVALID", [OP.take, 1, "B", key]],
        ["INVALID", [OP.has, 1, "b", new Uint8Array(0)]],
        ["INVALID", [OP.atomic, 1, key]],
        ["INVALID", [OP.atomic, 1, [[3, "b", key]]]],
        ["INVALID", [OP.atomic, 1, [[2, "b", key], [2, "b", key, 1]]]],
        ["INVALID", [OP.atomic, 1, [[2, "b", key], [2, "B", key]]]],
        ["INVALID", [OP.atomic, 1, [[2, "b", new Uint8Array(0)]]]],
        ["INVALID", [OP.atomic, 1, [[0, "b", key, null]]]],
        ["INVALID", [OP.atomic, 1, [[1, "b", key, 0, key, 5, 6, false]]]],
        ["INVALID", [OP.atomic, 1, [[1, "b", key, 4, key, null, null, false]]]],
        ["TOO_LARGE", [OP.atomic, 1, [[2, "b", new Uint8Array(1_025)]]]],
        ["TOO_LARGE", [OP.atomic, 1, [[1, "b", key, 0, new Uint8Array(1_048_577), null, null, false]]]],
        ["TOO_LARGE", [OP.atomic, 1, [[1, "b", key, 0, new Uint8Array(1_048_576), null, null, false]]]],
        ["TOO_LARGE", [OP.atomic, 1, Array.from({ length: 1_001 }, () => [2, "b", key])]],
        ["INVALID", [OP.setMany, 1, "b", key]],
        ["INVALID", [OP.setMany, 1, "B", []]],
        ["INVALID", [OP.setMany, 1, "b", [[key, 0, key, null, null]]]],
        ["INVALID", [OP.setMany, 1, "b", [[new Uint8Array(0), 0, key, null, null, false]]]],
        ["INVALID", [OP.setMany, 1, "b", [[key, 4, key, null, null, false]]]],
        ["INVALID", [OP.setMany, 1, "b", [[key, 0, key, 5, 6, false]]]],
        ["TOO_LARGE", [OP.setMany, 1, "b", [[key, 0, new Uint8Array(1_048_577), null, null, false]]]],
        ["TOO_LARGE", [OP.setMany, 1, "b", Array.from({ length: 1_001 }, () => [key, 0, key, null, null, false])]],
        ["NOT_SUPPORTED", [99, 1]],
        ["NOT_SUPPORTED", [99, 1, [[["deep"]]], null, "rest"]],
      ];
      for (const [code, frame] of wrong) {
        // A request behind the wrong one in the same message is answered too.
        peer.send(frame, [OP.ping, 2]);
        const frames = peer.frames();
        expect([frame, frames.length, frames[1]]).toEqual([frame, 2, [0, 2]]);
        expect([frame, frames[0]![0], frames[0]![1], errorCodeOf(frames[0]![2] as number)]).toEqual([
          frame,
          1,
          1,
          code,
        ]);
      }
      expect(peer.closedWith).toBeUndefined();
      expect(host.metrics.errors).toBe(wrong.length);
    });

    test("Session closes 1002 over what is not the protocol, and touches no other", () => {
      const other = connect();
      const get = message([OP.get, 1, "b", bytesOf("k")]);
      const bad: readonly Uint8Array[] = [
        new Uint8Array(0),
        Uint8Array.of(0xff),
        Uint8Array.of(0xa0),
        Uint8Array.of(0x80),
        Uint8Array.of(0x81, OP.ping),
        Uint8Array.of(0x82, OP.ping, 0),
        Uint8Array.of(0x82, OP.ping, 0x20),
        message([OP.ping, 2 ** 32]),
        message(["ping", 1]),
        Uint8Array.of(0x83, OP.ping, 1, 0xc0, 0),
        get.subarray(0, get.length - 1),
        Uint8Array.of(...get, 0),
        Uint8Array.of(0x9f, 1, 1, 0xff),
      ];
      for (const bytes of bad) {
        const peer = connect();
        peer.session.message(bytes);
        expect(peer.closedWith).toBe(1002);
        expect(peer.frames().at(-1)!.slice(0, 3)).toEqual([1, 0, 15]);
        peer.send([OP.ping, 1]);
        expect(peer.frames()).toEqual([]);
      }
      other.send([OP.ping, 1]);
      expect(other.frames()).toEqual([[0, 1]]);
      expect(failures).toEqual([]);
    });

    test("Session closes 1003 over text", () => {
      const peer = connect();
      peer.session.text();
      expect(peer.closedWith).toBe(1003);
    });

    test("Session runs no more than runningMax requests at once, and answers all in order", async () => {
      let running = 0;
      let most = 0;
      host = hostOn({
        ...engineOf(engine),
        set: async (...args) => {
          most = Math.max(most, ++running);
          const result = await engine.set(...args);
          running--;
          return result;
        },
      });
      const peer = connect({ runningMax: 10 });
      const set = (id: number): Item[] => [OP.set, id, "b", bytesOf("k"), 0, bytesOf("v"), null, null, null, false];
      peer.send(...Array.from({ length: 35 }, (_, index) => set(index + 1)));
      peer.send(...Array.from({ length: 35 }, (_, index) => set(index + 36)));
      const frames: Item[][] = [];
      while (frames.length < 70) {
        await settled();
        frames.push(...peer.frames());
      }
      expect(most).toBe(10);
      expect(frames.map(([, id]) => id)).toEqual(Array.from({ length: 70 }, (_, index) => index + 1));
      const revisions = frames.map(([, , revision]) => revision as number);
      expect(revisions).toEqual([...revisions].sort((left, right) => left - right));
    });

    test("Session answers IO, not more, when the engine fails unexpectedly", async () => {
      host = hostOn({ ...engineOf(engine), sync: () => Promise.reject(new Error("secret path /srv")) });
      const peer = connect();
      peer.send([OP.sync, 1]);
      await settled();
      const [frame] = peer.frames();
      expect(errorCodeOf(frame![2] as number)).toBe("IO");
      expect(frame![3]).not.toContain("secret");
      expect(failures.length).toBe(1);
      expect(peer.closedWith).toBeUndefined();
    });

    test("Session runs a long message a part at a time, and answers all of it in order", async () => {
      const busy = new BusyClock();
      const peer = new Peer({ ...hostOf(engine, {}, busy), clock: busy });
      peer.hello();
      peer.send(...Array.from({ length: 1_000 }, (_, index) => [OP.ping, index + 1]));
      peer.send([OP.ping, 1_001]);
      const ids = peer.frames().map(([, id]) => id);
      expect(ids.length).toBeGreaterThan(16);
      expect(ids.length).toBeLessThan(500);
      for (let turn = 0; turn < 20; turn++) {
        busy.advance(0);
        await settled();
        ids.push(...peer.frames().map(([, id]) => id));
      }
      expect(ids).toEqual(Array.from({ length: 1_001 }, (_, index) => index + 1));
    });

    test("Session gives others their turn between pages that are there at once, too", async () => {
      const busy = new BusyClock();
      const peer = new Peer({ ...hostOf(engine, {}, busy), clock: busy });
      peer.hello();
      const page = (id: number): Item[] => [OP.list, id, "b", null, null, null, null, false, 5];
      peer.send(...Array.from({ length: 100 }, (_, index) => page(index + 1)));
      const ids: Item[] = [];
      for (let turn = 0; turn < 50; turn++) {
        await settled();
        ids.push(...peer.frames().map(([, id]) => id!));
      }
      expect(ids.length).toBeGreaterThan(4);
      expect(ids.length).toBeLessThan(20);
      for (let turn = 0; turn < 20; turn++) {
        busy.advance(0);
        await settled();
        ids.push(...peer.frames().map(([, id]) => id!));
      }
      expect(ids.length).toBe(100);
    });

    test("Session gives the same replies wherever messages are cut between frames", async () => {
      for (const key of ["k", "l", "m"]) {
        await engine.set("b", bytesOf(key), bytesOf("value"), { content: CONTENT.text });
      }
      const frames: Item[][] = [];
      const names = ["get", "list", "getMany", "ping", "delete", "unsubscribe"] as const;
      for (let id = 1; id <= 30; id++) frames.push([OP[names[id % 6]!], id, ...REQUESTS[names[id % 6]!]]);
      const expected = await repliesTo(frames, [frames.length]);
      for (const sizes of [[1], [2], [3], [5], [7], [1, 4, 2], [29, 1]]) {
        expect(await repliesTo(frames, sizes)).toEqual(expected);
      }
    });

    async function repliesTo(frames: Item[][], sizes: number[]): Promise<Item[][]> {
      const peer = connect();
      for (let start = 0, turn = 0; start < frames.length; turn++) {
        const size = sizes[turn % sizes.length]!;
        peer.send(...frames.slice(start, start + size));
        start += size;
      }
      await settled();
      const replies = peer.frames();
      expect(replies.length).toBe(frames.length);
      return replies.sort((left, right) => (left[1] as number) - (right[1] as number));
    }
  });

  describe("slow readers", () => {
    async function fill(peer: Peer): Promise<void> {
      peer.send([OP.subscribe, 1, "b", null, null, null, true, false, null, null]);
      await settled();
      peer.frames();
      peer.stalled = true;
      const value = new Uint8Array(10_000);
      await Promise.all(Array.from({ length: 200 }, (_, index) => {
        return engine.set("b", bytesOf(`k${index}`), value, { content: CONTENT.bytes });
      }));
      await settled();
    }

    test("Session stops reading the feed above the outbound limit and goes on without loss", async () => {
      const peer = connect({ outboundBytesMax: 100_000 });
      await fill(peer);
      expect(peer.buffered).toBeGreaterThan(100_000);
      expect(peer.buffered).toBeLessThan(300_000);
      const frames = peer.frames();
      for (let round = 0; round < 50 && frames.length < 200; round++) {
        peer.drain();
        peer.stalled = true;
        await settled();
        frames.push(...peer.frames());
      }
      expect(frames.map(([, , , , key]) => key)).toEqual(Array.from({ length: 200 }, (_, index) => `k${index}`));
      expect(peer.closedWith).toBeUndefined();
    });

    test("Session closes 4408 a reader that stays above the limit", async () => {
      const peer = connect({ outboundBytesMax: 100_000 });
      await fill(peer);
      clock.advance(9_999);
      expect(peer.closedWith).toBeUndefined();
      clock.advance(1);
      expect(peer.closedWith).toBe(4408);
      expect(host.metrics.slowReaders).toBe(1);
    });

    test("Session runs no requests while nobody reads the replies, and all of them later", async () => {
      await engine.set("b", bytesOf("big"), new Uint8Array(100_000), { content: CONTENT.bytes });
      const peer = connect({ outboundBytesMax: 500_000 });
      peer.stalled = true;
      const frames = Array.from({ length: 100 }, (_, index) => [OP.get, index + 1, "b", bytesOf("big")]);
      peer.send(...frames.slice(0, 60));
      for (const frame of frames.slice(60)) peer.send(frame);
      expect(peer.buffered).toBeLessThan(700_000);
      const ids: Item[] = [];
      for (let round = 0; round < 50 && ids.length < 100; round++) {
        ids.push(...peer.frames().map(([, id]) => id!));
        peer.drain();
        peer.stalled = true;
      }
      expect(ids).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
    });

    test("Session closes 4429 a client that floods while it does not read", async () => {
      await engine.set("b", bytesOf("big"), new Uint8Array(100_000), { content: CONTENT.bytes });
      const peer = connect({ outboundBytesMax: 50_000, messageBytesMax: 100_000 });
      peer.stalled = true;
      peer.send([OP.get, 1, "b", bytesOf("big")]);
      for (let round = 0; round < 100; round++) {
        peer.send([OP.set, 2, "b", bytesOf("k"), 3, new Uint8Array(10_000), null, null, null, false]);
      }
      expect(peer.closedWith).toBe(4429);
    });

    test("Session runs pages a few at a time and answers all", async () => {
      await Promise.all(Array.from({ length: 100 }, (_, index) => {
        return engine.set("b", bytesOf(`k${index}`), new Uint8Array(10_000), { content: CONTENT.bytes });
      }));
      let running = 0;
      let most = 0;
      const list = async (...args: Parameters<EmbeddedEngine["list"]>): ReturnType<EmbeddedEngine["list"]> => {
        most = Math.max(most, ++running);
        await settled();
        running--;
        return await engine.list(...args);
      };
      host = hostOn({ ...engineOf(engine), list });
      const peer = connect();
      peer.send(
        ...Array.from({ length: 20 }, (_, index) => [OP.list, index + 1, "b", null, null, null, null, false, 5]),
      );
      const ids = new Set<Item>();
      while (ids.size < 20) {
        await settled();
        for (const [, id] of peer.frames()) ids.add(id!);
      }
      expect(most).toBe(4);
    });

    test("Session closes 4408 when a message was dropped", () => {
      const peer = new Peer(host);
      const dropping = new Session(
        {
          remoteAddress: "",
          send: () => false,
          bufferedBytes: () => 0,
          close: (code) => peer.closedWith = code,
        },
        host,
        guestOf(EVERYONE),
      );
      dropping.message(message([OP.hello, 1, 1, null]));
      expect(peer.closedWith).toBe(4408);
    });
  });

  test("Session times requests until the replies that are there at once are handed over", () => {
    const slow = new Session(
      {
        remoteAddress: "",
        send: () => {
          clock.advance(5);
          return true;
        },
        bufferedBytes: () => 0,
        close: () => {},
      },
      host,
      guestOf(EVERYONE),
    );
    slow.message(message([OP.hello, 1, 1, null], [OP.get, 2, "b", bytesOf("k")], [OP.get, 3, "b", bytesOf("k")]));
    expect(host.metrics.count("get", "answered")).toBe(2);
    expect(host.metrics.latency("get").quantile(0)).toBeGreaterThanOrEqual(5_000);
  });

  test("Session.end() answers what runs and takes no more", async () => {
    const peer = connect();
    peer.send([OP.set, 1, "b", bytesOf("k"), 0, bytesOf("v"), null, null, null, false]);
    const ended = peer.session.end(1012, "later");
    peer.send([OP.ping, 2]);
    await ended;
    expect(peer.frames().map(([kind, id]) => [kind, id])).toEqual([[0, 1]]);
  });
});
