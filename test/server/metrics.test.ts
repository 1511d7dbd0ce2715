import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { History, HISTORY_COLUMNS } from "../../server/history.ts";
import { Metrics, OPERATIONS } from "../../server/metrics.ts";
import { settled } from "../wire/loopback.ts";

test("History counts event streams among connections and subscriptions", async () => {
  const clock = new ManualClock();
  const metrics = new Metrics(clock);
  Object.assign(metrics, { connections: 7, subscriptions: 5, streams: 2 });
  const engine = { stats: () => Promise.resolve({}) } as never;
  const history = new History({ engine, metrics, clock, onFailure: (error) => expect(error).toBe(undefined) });
  history.begin();
  await settled();
  clock.advance(1_000);
  await settled();
  history.end();
  const [row] = history.read(0);
  expect(["connections", "subscriptions"].map((name) => row?.[HISTORY_COLUMNS.indexOf(name as never)])).toEqual([9, 7]);
});

const GET = OPERATIONS.indexOf("get");
const SET = OPERATIONS.indexOf("set");

describe("Metrics", () => {
  test("Metrics times calls that came together from begin() to end()", () => {
    const clock = new ManualClock();
    const metrics = new Metrics(clock);
    metrics.begin();
    const beganAt = metrics.beganAt();
    metrics.answeredAtOnce(GET, beganAt);
    clock.advance(1);
    metrics.begin();
    metrics.answeredAtOnce(GET, metrics.beganAt());
    metrics.answeredAtOnce(SET, metrics.beganAt());
    metrics.end();
    expect([metrics.latency("get").quantile(1), metrics.count("get", "answered")]).toEqual([0, 2]);
    clock.advance(3);
    metrics.end();
    for (const name of ["get", "set"] as const) {
      expect(metrics.latency(name).quantile(0)).toBeGreaterThanOrEqual(4_000);
      expect(metrics.latency(name).quantile(1)).toBeLessThan(4_500);
    }
    metrics.begin();
    metrics.answeredAtOnce(SET, metrics.beganAt());
    metrics.end();
    expect(metrics.latency("set").quantile(0.5)).toBe(0);
    expect(metrics.latency("get").quantile(0)).toBeGreaterThanOrEqual(4_000);
  });

  test("Metrics times a call outside by itself, and each row of answers anew", async () => {
    const clock = new ManualClock();
    const metrics = new Metrics(clock);
    const beganAt = metrics.beganAt();
    clock.advance(2);
    metrics.answeredAtOnce(GET, beganAt);
    expect(metrics.latency("get").quantile(1)).toBeGreaterThanOrEqual(2_000);
    await Promise.resolve();
    await Promise.resolve();
    clock.advance(2);
    metrics.answered(GET, beganAt);
    expect(metrics.latency("get").quantile(1)).toBeGreaterThanOrEqual(4_000);
    expect(metrics.latency("get").quantile(0.5)).toBeLessThan(2_250);
  });

  test("Metrics.read() names what happened", () => {
    const metrics = new Metrics(new ManualClock());
    metrics.answeredAtOnce(GET, 0);
    metrics.failed(GET, "FORBIDDEN");
    metrics.failed(GET, "FORBIDDEN");
    metrics.failed(SET, "FULL");
    const read = metrics.read();
    const told = Object.entries(read).filter(([name, count]) => /[.](get|set)([.]|$)/.test(name) && count >= 0);
    expect(told).toEqual([
      ["server.op.get", 1],
      ["server.failed.get.FORBIDDEN", 2],
      ["server.p50Us.get", 0],
      ["server.p99Us.get", 0],
      ["server.op.set", 0],
      ["server.failed.set.FULL", 1],
    ]);
  });
});
