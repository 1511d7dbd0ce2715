/**
 * What waits on connections: when they are stalled, when they are cut off, and what all of them together have.
 *
 * @module
 */
import { beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { Backlog, type BacklogHost } from "../../server/backlog.ts";
import { SERVER_LIMITS } from "../../server/limits.ts";
import { Metrics } from "../../server/metrics.ts";

const LIMITS = {
  ...SERVER_LIMITS,
  outboundMs: 50,
  outboundBytesMax: 100,
  outboundHardBytesMax: 200,
  outboundTotalBytesMax: 300,
};

describe("Backlog", () => {
  let clock: ManualClock;
  let host: BacklogHost;

  beforeEach(() => {
    clock = new ManualClock();
    host = { limits: LIMITS, clock, metrics: new Metrics(clock) };
  });

  /** A connection of which nothing is read. */
  function connect() {
    const connection = { waiting: 0, drops: 0, bufferedBytes: () => connection.waiting };
    const backlog = new Backlog(host, connection, () => connection.drops++);
    /** Sends so much, and says what has become of the connection. */
    const send = (length: number, isTaken?: boolean): readonly [isStalled: boolean, drops: number] => {
      connection.waiting += length;
      backlog.sent(length, isTaken);
      return [backlog.isStalled, connection.drops];
    };
    return { connection, backlog, send };
  }

  test("stalls above the limit, and goes on when half of that is sent", () => {
    const { connection, backlog, send } = connect();
    expect([send(100), send(1), send(99)]).toEqual([[false, 0], [true, 0], [true, 0]]);
    connection.waiting = 51;
    expect([backlog.drain(), backlog.isStalled]).toEqual([false, true]);
    connection.waiting = 50;
    expect([backlog.drain(), backlog.isStalled, backlog.drain()]).toEqual([true, false, false]);
    clock.advance(1_000);
    expect([connection.drops, host.metrics.messagesOut, host.metrics.bytesOut]).toEqual([0, 3, 200]);
  });

  test("cuts off who stays stalled, however little is sent meanwhile", () => {
    const { connection, backlog, send } = connect();
    send(150);
    clock.advance(49);
    connection.waiting = 101;
    backlog.drain();
    send(1);
    expect(connection.drops).toBe(0);
    clock.advance(1);
    expect([connection.drops, host.metrics.slowReaders]).toEqual([1, 1]);
  });

  test("cuts off at once who takes nothing more, or has too much", () => {
    expect([connect().send(1, false), connect().send(201)]).toEqual([[false, 1], [false, 1]]);
  });

  test("knows what waits on all, and cuts off who has most to do with it", () => {
    const [one, two, three, four] = [connect(), connect(), connect(), connect()];
    expect([one.send(150), two.send(90), three.send(60)]).toEqual([[true, 0], [false, 0], [false, 0]]);
    expect(host.metrics.bytesWaiting).toBe(300);
    expect([two.send(10), two.send(1)]).toEqual([[false, 0], [false, 1]]);
    two.backlog.close();
    expect(host.metrics.bytesWaiting).toBe(210);
    one.connection.waiting = 20;
    expect([one.backlog.weigh(), host.metrics.bytesWaiting]).toEqual([20, 80]);
    for (const { backlog } of [one, three, four]) backlog.close();
    expect([host.metrics.bytesWaiting, three.backlog.weigh(), one.send(500)]).toEqual([0, 0, [false, 0]]);
    expect(one.send(1, false)).toEqual([false, 0]);
    clock.advance(1_000);
    expect([one.connection.drops, host.metrics.bytesWaiting]).toEqual([0, 0]);
  });
});
