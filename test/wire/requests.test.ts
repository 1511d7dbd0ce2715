import { describe, expect, test } from "bun:test";
import { type Request, Requests } from "../../lib/wire/requests.ts";

describe("Requests", () => {
  test("Requests finds each by its id, whatever their number, and no other", () => {
    const requests = new Requests();
    const added = Array.from({ length: 1_000 }, () => requests.add());
    const ids = added.map(({ id }) => id);
    expect(new Set(ids).size).toBe(1_000);
    expect(ids.every((id, index) => requests.find(id) === added[index])).toBe(true);
    expect(requests.find(1_001)).toBeUndefined();
    expect(requests.find(0)).toBeUndefined();
    expect(requests.count).toBe(1_000);
  });

  test("Requests passes over a place that is taken, and uses a free one again", () => {
    const requests = new Requests();
    const slow = requests.add();
    const { id } = slow;
    const places = new Set<Request>();
    for (let count = 0; count < 1_000; count++) {
      const request = requests.add();
      expect(request).not.toBe(slow);
      expect(requests.find(request.id)).toBe(request);
      places.add(request);
      requests.remove(request);
    }
    expect(places.size).toBeLessThan(64);
    expect(slow.id).toBe(id);
    expect(requests.find(id)).toBe(slow);
    expect([...requests]).toEqual([slow]);
  });

  test("Requests does not find one by its id when its place is another's", () => {
    const requests = new Requests();
    const first = requests.add();
    const { id } = first;
    requests.remove(first);
    for (let count = 0; count < 64; count++) requests.remove(requests.add());
    const again = requests.add();
    expect(requests.find(id)).toBeUndefined();
    expect(requests.find(again.id)).toBe(again);
  });

  test("Requests lists the oldest first", () => {
    const requests = new Requests();
    const ids = Array.from({ length: 100 }, () => requests.add().id);
    expect([...requests].map(({ id }) => id)).toEqual(ids);
  });
});
