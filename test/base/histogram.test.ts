import { describe, expect, test } from "bun:test";
import { Histogram } from "../../lib/base/histogram.ts";

describe("Histogram", () => {
  test("Histogram.quantile() is never below what was recorded, and at most an eighth above", () => {
    for (let microseconds = 0; microseconds < 2 ** 30; microseconds = Math.ceil(microseconds * 1.01) + 1) {
      const histogram = new Histogram();
      histogram.record(microseconds / 1_000 + 1e-9, 1);
      const found = histogram.quantile(0.5);
      expect(found).toBeGreaterThanOrEqual(microseconds);
      expect(found).toBeLessThanOrEqual(microseconds * 1.125);
    }
  });

  test("Histogram.countBelow() counts what took less, and no more", () => {
    const histogram = new Histogram();
    for (const microseconds of [0, 7, 8, 15, 16, 17, 1_023, 1_024]) histogram.record(microseconds / 1_000, 1);
    expect([8, 16, 1_024, 2_048].map((bound) => histogram.countBelow(bound))).toEqual([2, 4, 7, 8]);
    expect([histogram.count, histogram.milliseconds]).toEqual([8, expect.closeTo(2.11, 5)]);
  });

  test("Histogram.quantile() counts times, and calls of any length", () => {
    const histogram = new Histogram();
    expect(histogram.quantile(0.5)).toBe(0);
    histogram.record(0.002, 98);
    histogram.record(0.005, 1);
    histogram.record(1e12, 1);
    expect([0, 0.5, 0.98, 0.99, 1].map((share) => histogram.quantile(share))).toEqual([2, 2, 2, 5, 2 ** 30 - 1]);
  });
});
