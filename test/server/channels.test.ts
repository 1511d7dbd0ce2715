import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { OP } from "../../lib/wire/protocol.ts";
import { SERVER_LIMITS, type ServerLimits } from "../../server/limits.ts";
import type { SessionHost } from "../../server/session.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { hostOf, openMemoryEngine, settled } from "../wire/loopback.ts";
import { type Item, Peer } from "./peer.ts";

describe("Channels", () => {
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

  async function subscribed(
    peer: Peer,
    args: Item[] = ["b", null, null, null, true, false, null, null],
  ): Promise<number> {
    peer.send([OP.subscribe, 1, ...args]);
    await settled();
    const [reply] = peer.frames();
    expect(reply!.slice(0, 2)).toEqual([0, 1]);
    return reply![2] as number;
  }

  async function setMany(count: number, size = 10): Promise<void> {
    const value = new Uint8Array(size).fill(0x76);
    await Promise.all(Array.from({ length: count }, (_, index) => {
      return engine.set("b", bytesOf(`k${index}`), value, { content: CONTENT.bytes });
    }));
    await settled();
  }

  test("Session sends events after the reply, many in a message", async () => {
    const peer = connect();
    const channel = await subscribed(peer);
    await setMany(200);
    expect(peer.messages.length).toBeLessThan(5);
    const frames = peer.frames();
    expect(frames.length).toBe(200);
    expect(frames[0]!.slice(0, 5)).toEqual([2, channel, 1, "b", "k0"]);
    expect(frames.every((frame) => frame.length === 11)).toBe(true);
  });

  test("Session sends a snapshot, synced and what follows in order", async () => {
    await setMany(3);
    const peer = connect();
    peer.send([OP.subscribe, 1, "b", null, null, null, true, true, null, null]);
    await settled();
    await setMany(1);
    const frames = peer.frames();
    expect(frames.map(([kind]) => kind)).toEqual([0, 2, 2, 2, 3, 2]);
    expect(frames[4]!.slice(2, 3)).toEqual([1]);
    // How late a change is told is asked of changes alone, not of entries that are older.
    expect(host.metrics.lag.count).toBe(1);
  });

  test("Session sends no more than the window, and more when told", async () => {
    const peer = connect();
    const channel = await subscribed(peer, ["b", null, null, null, true, false, null, 1_000]);
    await setMany(100, 100);
    const first = peer.messages.reduce((sum, bytes) => sum + bytes.length, 0);
    expect(first).toBeGreaterThanOrEqual(1_000);
    expect(first).toBeLessThan(1_300);
    const sent = peer.frames().length;
    peer.send([OP.more, 2, channel, 100_000]);
    await settled();
    expect(peer.frames().length - 1).toBe(100 - sent);
  });

  test("Session.describe() says what each subscription is for, how far it is, and what waits", async () => {
    await setMany(3);
    const peer = connect();
    await subscribed(peer, ["b", null, bytesOf("k"), 2, true, false, null, 1_000]);
    peer.send([OP.subscribe, 2, "b", bytesOf("k1"), null, null, true, false, null, null]);
    await settled();
    peer.stalled = true;
    await setMany(100, 100);
    const { subscriptions, bytesIn, bytesOut } = peer.session.describe(2);
    expect(subscriptions).toMatchObject([
      { bucket: "b", prefix: "k", types: ["set"], waits: true },
      { bucket: "b", key: "k1", waits: false },
    ]);
    expect(subscriptions[1]!.revision).toBeGreaterThanOrEqual(5);
    expect(peer.session.describe(1)).toMatchObject({ subscriptions: { length: 1 }, subscriptionsTotal: 2 });
    expect(peer.session.bufferedBytes).toBe(peer.buffered);
    expect([bytesIn > 30, bytesOut > 100]).toEqual([true, true]);
  });

  test("Session ends a subscription that is unsubscribed", async () => {
    const peer = connect();
    const channel = await subscribed(peer);
    expect(host.metrics.subscriptions).toBe(1);
    peer.send([OP.unsubscribe, 2, channel], [OP.unsubscribe, 3, 999], [OP.more, 4, 999, 1]);
    expect(peer.frames()).toEqual([[0, 2], [0, 3], [0, 4]]);
    await setMany(5);
    expect(peer.frames()).toEqual([]);
    expect(host.metrics.subscriptions).toBe(0);
  });

  test("Session says resync for a cursor that is not this store's, and ends the channel", async () => {
    const peer = connect();
    peer.send([OP.subscribe, 1, "b", null, null, null, true, false, "other.5", null]);
    await settled();
    const [reply, control] = peer.frames();
    expect(control!.slice(0, 3)).toEqual([3, reply![2]!, 3]);
    expect(host.metrics.subscriptions).toBe(0);
    expect(host.metrics.resyncs).toBe(1);
  });

  test("Session says ended when the engine closes", async () => {
    const peer = connect();
    const channel = await subscribed(peer);
    await engine.close();
    await settled();
    expect(peer.frames().map((frame) => frame.slice(0, 3))).toEqual([[3, channel, 4]]);
  });

  test("Session refuses more subscriptions than the limit", async () => {
    const peer = connect({ subscriptionsMax: 2 });
    await subscribed(peer);
    const second = await subscribed(peer);
    peer.send([OP.subscribe, 3, null, null, null, null, true, false, null, null]);
    await settled();
    expect(peer.errorCode()).toBe("BUSY");
    peer.send([OP.unsubscribe, 4, second]);
    peer.frames();
    await subscribed(peer);
  });

  test("Session lets go of subscriptions and timers when the connection is gone", async () => {
    const peer = connect();
    await subscribed(peer);
    peer.session.closed();
    peer.session.closed();
    expect([host.metrics.connections, host.metrics.subscriptions]).toEqual([0, 0]);
    await setMany(3);
    clock.advance(100_000);
    expect(peer.messages).toEqual([]);
  });
});
