/**
 * Whose turn it is when matching is dear, and messages that wait for theirs.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { Hub, type Listener } from "../../../server/redis/hub.ts";
import { bytesOf, textOf } from "../../suites/engine_subject.ts";
import { TestPace } from "./pace.ts";

describe("Pace", () => {
  /** What is done in each turn until nothing waits; `work` does a part at a time. */
  function record(): {
    pace: TestPace;
    work: (name: string, steps: number, parts?: number) => () => string | undefined;
    runAll: () => readonly string[];
  } {
    const pace = new TestPace();
    const done: string[] = [];
    const work = (name: string, steps: number, parts = 1) => (): string | undefined => {
      pace.steps += steps;
      done.push(name);
      return --parts > 0 ? undefined : name;
    };
    const runAll = (): readonly string[] => {
      const turns: string[] = [];
      while (pace.isResting) {
        turns.push(done.splice(0).join(""));
        pace.endTurn();
      }
      return [...turns, done.splice(0).join("")];
    };
    return { pace, work, runAll };
  }

  test("does what comes until a turn's steps are taken, and the rest of one owner in its order", async () => {
    const { pace, work, runAll } = record();
    const owner = { isClosed: false };
    expect(pace.run(owner, work("a", 500_000))).toBe("a");
    expect(pace.run(owner, work("b", 700_000))).toBe("b");
    const rest = [
      pace.run(owner, work("c", 3_000_000, 3)),
      pace.run(owner, work("d", 1)),
      pace.run(owner, () => {
        throw new Error("e");
      }),
      pace.run(owner, work("f", 2_000_000)),
      pace.run(owner, work("g", 1)),
    ];
    const outcomes = Promise.allSettled(rest.map(async (answer) => await answer));
    expect(runAll()).toEqual(["ab", "c", "c", "c", "df", "g"]);
    expect((await outcomes).map((outcome) => outcome.status === "fulfilled" ? outcome.value : "failed")).toEqual([
      "c",
      "d",
      "failed",
      "f",
      "g",
    ]);
    expect(pace.run(owner, work("h", 1))).toBe("h");
  });

  test("owners that wait take turns, however much one of them has to do", () => {
    const { pace, work, runAll } = record();
    const [one, other, third] = [{ isClosed: false }, { isClosed: false }, { isClosed: false }];
    pace.steps = 1_000_000;
    void pace.run(one, work("a", 1_000_000, 3));
    for (let left = 3; left > 0; left--) void pace.run(one, work("b", 1_000_000));
    void pace.run(other, work("c", 500_000));
    void pace.run(other, work("d", 500_000, 2));
    void pace.run(other, work("e", 1));
    void pace.run(third, work("f", 1));
    expect(runAll()).toEqual(["", "a", "cd", "fa", "dea", "b", "b", "b"]);
  });

  test("what waits of an owner that is gone takes no steps, and fails", async () => {
    const { pace, work, runAll } = record();
    const [one, gone] = [{ isClosed: false }, { isClosed: false }];
    pace.steps = 1_000_000;
    const outcomes = Promise.allSettled([pace.run(gone, work("a", 1_000_000)), pace.run(gone, work("b", 1_000_000))]);
    void pace.run(one, work("c", 1));
    gone.isClosed = true;
    expect(runAll()).toEqual(["", "c"]);
    expect(await outcomes).toMatchObject([{ reason: { code: "CLOSED" } }, { reason: { code: "CLOSED" } }]);
    expect(() => pace.run(gone, work("d", 1))).toThrow("the connection is closed");
  });

  test("each() goes through as many in a turn as there is time for, and waits when it is told to", async () => {
    const pace = new TestPace();
    const seen: number[] = [];
    let isRead = (): void => {};
    const all = pace.each({ isClosed: false }, [0, 1, 2, 3, 4, 5], (item) => {
      seen.push(item);
      pace.steps += 400_000;
      return item === 0 ? new Promise<void>((resolve) => isRead = resolve) : undefined;
    });
    expect(seen).toEqual([0]);
    isRead();
    await pace.runUntil(() => pace.isResting);
    expect(seen).toEqual([0, 1, 2]);
    await pace.runUntil(() => seen.length === 6);
    await all;
    expect(seen).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe("Hub", () => {
  const LONG = bytesOf("a".repeat(1_152));
  /** Each match of one with the long name takes most of a turn. */
  const DEAR = Array.from({ length: 6 }, (_, index) => bytesOf(`*${"[a-b]".repeat(200)}${index}`));

  /** Ends turns until all is sent; more than there can be is a failure. */
  async function settle<Result>(
    pace: TestPace,
    answer: Result | Promise<Result>,
    between: () => void,
  ): Promise<Result> {
    let turnsLeft = 2 * DEAR.length;
    while (pace.isResting && turnsLeft-- > 0) {
      between();
      pace.endTurn();
    }
    expect(pace.isResting).toBe(false);
    return await answer;
  }

  function openHub(): { pace: TestPace; hub: Hub; heard: string[]; listener: Listener } {
    const pace = new TestPace();
    const heard: string[] = [];
    const listener = { deliver: (_: Uint8Array, payload: Uint8Array) => void heard.push(textOf(payload)!) };
    return { pace, hub: new Hub(pace), heard, listener };
  }

  test("a message has an end, and comes once, though its listener leaves its patterns and comes back", async () => {
    const { pace, hub, heard, listener } = openHub();
    for (const pattern of [bytesOf("a*"), ...DEAR]) hub.subscribePattern(pattern, listener);
    const first = hub.publish(LONG, bytesOf("first"));
    const second = hub.publish(bytesOf("short"), bytesOf("second"));
    const count = await settle(pace, first, () => {
      for (const pattern of [bytesOf("a*"), ...DEAR]) {
        hub.unsubscribePattern(pattern, listener);
        hub.subscribePattern(pattern, listener);
      }
    });
    expect([count, await second, heard]).toEqual([1, 0, ["first"]]);
  });

  test("what waits is counted until it is sent, and is no part of what came with it", async () => {
    const { pace, hub, heard, listener } = openHub();
    for (const pattern of [...DEAR, bytesOf("*")]) hub.subscribePattern(pattern, listener);
    const payload = bytesOf("sent");
    const first = hub.publish(LONG, payload);
    const second = hub.publish(bytesOf("short"), payload);
    expect(hub.bytesWaiting).toBe(2 * 6_144 + 1_152 + 5 + 2 * 4);
    payload.fill(0);
    expect(await settle(pace, first, () => {})).toBe(1);
    expect([await second, heard, hub.bytesWaiting]).toEqual([1, ["sent", "sent"], 0]);
  });
});
