/**
 * Who a session is: by its handshake, by the token of `hello`, by `auth` later, and until when.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { EmbeddedEngine } from "../../lib/engine/embedded.ts";
import { OP, type OpName } from "../../lib/wire/protocol.ts";
import { EVERYONE, type Guest, NOBODY, type Principal } from "../../server/auth.ts";
import { SERVER_LIMITS } from "../../server/limits.ts";
import type { SessionHost } from "../../server/session.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { guestOf, hostOf, openMemoryEngine, settled } from "../wire/loopback.ts";
import { Peer, REQUESTS } from "./peer.ts";

/** May read everything and subscribe to `b`. */
const READER: Principal = {
  name: "reader",
  allows: (right, bucket) => right === "read" || (right === "subscribe" && bucket === "b"),
};

describe("Session", () => {
  let engine: EmbeddedEngine;
  let clock: ManualClock;
  let host: SessionHost;

  beforeEach(async () => {
    clock = new ManualClock();
    engine = await openMemoryEngine();
    host = hostOf(engine, {}, clock);
  });
  afterEach(() => engine.close());

  /** A connection that knows `everyone`, `reader` and `nobody` by those tokens. */
  function guest(principal?: Principal): Guest {
    const known = new Map([["everyone", EVERYONE], ["reader", READER], ["nobody", NOBODY]]);
    return {
      ...guestOf(EVERYONE),
      principal,
      identify(token) {
        const found = known.get(token);
        if (found !== undefined) return found;
        throw new FirkinError(token === "again" ? "BUSY" : "UNAUTHORIZED", "Cannot let you in");
      },
    };
  }

  /** The kind, id and, of an error, code of each frame. */
  function heads(peer: Peer): unknown[] {
    return peer.frames().map(([kind, id, code]) => kind === 1 ? [kind, id, code] : [kind, id]);
  }

  test("Session runs requests with the principal that it has when they come", async () => {
    const peer = new Peer(host, guestOf(NOBODY));
    peer.hello();
    for (const name of Object.keys(OP) as OpName[]) {
      // What needs no right. `buckets` is answered: of those that one may not see nothing is said.
      if (["hello", "auth", "ping", "more", "unsubscribe", "buckets"].includes(name)) continue;
      peer.send([OP[name], 7, ...REQUESTS[name]]);
      expect([name, peer.errorCode()]).toEqual([name, "FORBIDDEN"]);
    }
    peer.session.principal = EVERYONE;
    peer.send([OP.get, 1, "b", bytesOf("k")], [OP.sync, 2]);
    peer.session.principal = NOBODY;
    await settled();
    expect(peer.frames()).toEqual([[0, 1, null], [0, 2]]);
  });

  test("Session lets in who says a token, and then runs what came with it", () => {
    const peer = new Peer(host, guest());
    peer.send([OP.hello, 1, 1, "everyone"], [OP.get, 2, "b", bytesOf("k")]);
    expect(heads(peer)).toEqual([[0, 1], [0, 2]]);
  });

  test("Session closes 4401 over a wrong or missing token and runs nothing that came with it", async () => {
    const set = [OP.set, 2, "b", bytesOf("k"), CONTENT.text, bytesOf("v"), null, null, null, false];
    for (const token of [null, "", "wrong", "EVERYONE", "everyone\0"]) {
      const peer = new Peer(host, guest());
      peer.send([OP.hello, 1, 1, token], set);
      peer.send(set);
      expect([token, heads(peer), peer.closedWith]).toEqual([token, [[1, 1, 11]], 4401]);
    }
    await settled();
    expect(engine.getSync("b", bytesOf("k"))).toBeUndefined();
  });

  test("Session closes 4429 when no more tokens are looked at", () => {
    const peer = new Peer(host, guest());
    peer.send([OP.hello, 1, 1, "again"]);
    expect([heads(peer), peer.closedWith]).toEqual([[[1, 1, 16]], 4429]);
  });

  test("Session needs no token of who was let in by its handshake, but takes no wrong one", () => {
    const peer = new Peer(host, guest(READER));
    peer.send([OP.hello, 1, 1, null], [OP.get, 2, "b", bytesOf("k")]);
    expect(heads(peer)).toEqual([[0, 1], [0, 2]]);
    const wrong = new Peer(host, guest(READER));
    wrong.send([OP.hello, 1, 1, "wrong"], [OP.get, 2, "b", bytesOf("k")]);
    expect([heads(wrong), wrong.closedWith]).toEqual([[[1, 1, 11]], 4401]);
  });

  test("Session runs nothing before hello, whoever it is", () => {
    for (const name of Object.keys(OP) as OpName[]) {
      if (name === "hello") continue;
      const peer = new Peer(host, guest(EVERYONE));
      peer.send([OP[name], 1, ...REQUESTS[name]], [OP.hello, 2, 1, "everyone"]);
      expect([name, heads(peer), peer.closedWith]).toEqual([name, [[1, 0, 15]], 1002]);
    }
  });

  test("Session reads no more than helloBytesMax before hello", () => {
    const fitting = new Peer(host, guest());
    const filler = (bytes: number): number[][] => Array.from({ length: bytes / 3 }, (_, id) => [OP.ping, id % 23 + 1]);
    fitting.send([OP.hello, 1, 1, "everyone"], ...filler(4_000));
    expect(fitting.closedWith).toBeUndefined();
    const long = new Peer(host, guest());
    long.send([OP.hello, 1, 1, "everyone"], ...filler(4_200));
    expect([heads(long), long.closedWith]).toEqual([[[1, 0, 15]], 1002]);
    fitting.send(...filler(4_200));
    expect(fitting.closedWith).toBeUndefined();
  });

  test("Session becomes another by auth, from the next request on", () => {
    const peer = new Peer(host, guest());
    const set = [OP.set, 3, "b", bytesOf("k"), CONTENT.text, bytesOf("v"), null, null, null, false];
    peer.send([OP.hello, 1, 1, "reader"], set, [OP.auth, 4, "everyone"], [OP.stats, 5], [OP.auth, 6, "reader"], set);
    const frames = peer.frames();
    expect(frames.map(([kind, id]) => [kind, id])).toEqual([[0, 1], [1, 3], [0, 4], [0, 6], [1, 3]]);
    expect(frames[2]).toEqual([0, 4, null]);
  });

  test("Session tells when the credentials of auth expire", () => {
    const expiring = { ...EVERYONE, expiresAt: clock.wall() + 5 };
    const peer = new Peer(host, guestOf(expiring));
    peer.send([OP.hello, 1, 1, null], [OP.auth, 2, "any"]);
    expect(peer.frames()[1]).toEqual([0, 2, expiring.expiresAt]);
  });

  test("Session closes 4401 over a wrong auth, which leaves it no rights to go on with", () => {
    const peer = new Peer(host, guest());
    peer.send([OP.hello, 1, 1, "everyone"], [OP.auth, 2, "wrong"], [OP.get, 3, "b", bytesOf("k")]);
    expect([heads(peer), peer.closedWith]).toEqual([[[0, 1], [1, 2, 11]], 4401]);
    const malformed = new Peer(host, guest());
    malformed.send([OP.hello, 1, 1, "reader"], [OP.auth, 2, null], [OP.get, 3, "b", bytesOf("k")]);
    expect([heads(malformed), malformed.closedWith]).toEqual([[[0, 1], [1, 2, 9], [0, 3]], undefined]);
  });

  test("Session ends the subscriptions that auth no longer allows, and no others", async () => {
    const peer = new Peer(host, guest());
    peer.send(
      [OP.hello, 1, 1, "everyone"],
      [OP.subscribe, 2, "b", null, null, null, true, false, null, null],
      [OP.subscribe, 3, "c", null, null, null, true, false, null, null],
      [OP.subscribe, 4, null, null, null, null, true, false, null, null],
    );
    await settled();
    peer.frames();
    peer.send([OP.auth, 5, "reader"]);
    expect(peer.frames().map((frame) => frame.slice(0, 3))).toEqual([[3, 2, 4], [3, 3, 4], [0, 5, null]]);
    expect(host.metrics.subscriptions).toBe(1);
    for (const bucket of ["b", "c"]) await engine.set(bucket, bytesOf("k"), bytesOf("v"), { content: CONTENT.text });
    await settled();
    expect(peer.frames().map(([kind, channel, , bucket]) => [kind, channel, bucket])).toEqual([[2, 1, "b"]]);
  });

  test("Session answers a subscription that auth ends before it has begun", async () => {
    const peer = new Peer(host, guest());
    peer.send(
      [OP.hello, 1, 1, "everyone"],
      [OP.subscribe, 2, "c", null, null, null, true, false, null, null],
      [OP.auth, 3, "reader"],
    );
    await settled();
    const frames = peer.frames();
    expect(frames.filter(([, id]) => id === 2).map(([kind]) => kind)).toEqual([1]);
    expect(host.metrics.subscriptions).toBe(0);
  });

  test("Session.check() closes 4401 when the credentials expire, and refuses what comes before it", () => {
    const peer = new Peer(host, guestOf({ ...EVERYONE, expiresAt: clock.wall() + 1_000 }));
    peer.hello();
    clock.advance(999);
    peer.session.check();
    expect(peer.closedWith).toBeUndefined();
    clock.advance(1);
    peer.send([OP.get, 1, "b", bytesOf("k")]);
    expect(peer.errorCode()).toBe("UNAUTHORIZED");
    peer.session.check();
    peer.session.check();
    expect(peer.closedWith).toBe(4401);
  });

  test("Session.check() closes 1001 a connection that is old, when what runs has been answered", async () => {
    const peer = new Peer(host, guestOf(EVERYONE));
    peer.hello();
    clock.advance(SERVER_LIMITS.lifetimeMs - 1);
    peer.session.check();
    expect(peer.closedWith).toBeUndefined();
    peer.send([OP.sync, 1]);
    clock.advance(1);
    peer.session.check();
    peer.session.check();
    await settled();
    expect([heads(peer), peer.closedWith]).toEqual([[[0, 1]], 1001]);
  });

  test("Session closes 4408 a slow reader at once over its hard limit, whoever else reads", () => {
    const limits = { ...SERVER_LIMITS, outboundBytesMax: 10, outboundHardBytesMax: 60 };
    const peer = new Peer({ ...host, limits }, guestOf(EVERYONE));
    peer.hello();
    peer.stalled = true;
    peer.send(...Array.from({ length: 20 }, () => [OP.ping, 1]));
    expect([peer.buffered, peer.closedWith]).toEqual([60, undefined]);
    const other = new Peer({ ...host, limits }, guestOf(EVERYONE));
    other.hello();
    other.stalled = true;
    other.send(...Array.from({ length: 21 }, () => [OP.ping, 1]));
    expect([other.buffered, other.closedWith]).toEqual([63, 4408]);
  });

  test("Session closes 4408 a slow reader at once when all of them hold too much", () => {
    const small = { ...host, limits: { ...SERVER_LIMITS, outboundBytesMax: 10, outboundTotalBytesMax: 100 } };
    const peers = [1, 2, 3].map(() => new Peer(small, guestOf(EVERYONE)));
    for (const peer of peers) {
      peer.hello();
      peer.stalled = true;
    }
    const [first, second, third] = peers as [Peer, Peer, Peer];
    // 30 replies to ping: 90 bytes, then 90 more.
    const pings = Array.from({ length: 30 }, (_, index) => [OP.ping, index % 23 + 1]);
    first.send(...pings);
    expect([first.closedWith, host.metrics.bytesWaiting]).toEqual([undefined, 90]);
    second.send(...pings);
    expect([first.closedWith, second.closedWith, host.metrics.bytesWaiting]).toEqual([undefined, 4408, 90]);
    first.drain();
    expect(host.metrics.bytesWaiting).toBe(0);
    third.send(...pings);
    expect([third.closedWith, host.metrics.bytesWaiting]).toEqual([undefined, 90]);
    third.session.closed();
    expect(host.metrics.bytesWaiting).toBe(0);
  });
});
