import { describe, expect, test } from "bun:test";
import type { ChangeEvent, EngineEvent, EngineSubscription } from "../../lib/engine/engine.ts";
import { CborWriter } from "../../lib/wire/cbor.ts";
import { writeChange } from "../../lib/wire/protocol.ts";
import { Deliveries, sourceOf } from "../../server/deliveries.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { settled } from "../wire/loopback.ts";

function changes(count: number, valueBytes = 10): ChangeEvent[] {
  return Array.from({ length: count }, (_, index) => ({
    type: "set",
    bucket: "b",
    key: bytesOf(`k${index}`),
    revision: index + 1,
    at: 1,
    content: 3,
    value: new Uint8Array(valueBytes),
  }));
}

function encoded(channel: number, events: readonly ChangeEvent[]): Uint8Array {
  const writer = new CborWriter();
  for (const event of events) writeChange(writer, channel, event);
  return writer.take().slice();
}

describe("Deliveries", () => {
  test("Deliveries.frames() are those of the events and the channel, whoever asked before", () => {
    const deliveries = new Deliveries();
    const [first, second] = [changes(3), changes(5)];
    for (const events of [first, second, first]) {
      for (let round = 0; round < 2; round++) {
        for (const channel of [1, 2, 30, 1]) {
          expect(deliveries.frames(channel, events)).toEqual(encoded(channel, events));
        }
      }
    }
    for (let channel = 1; channel < 100; channel++) {
      expect(deliveries.frames(channel, second)).toEqual(encoded(channel, second));
    }
  });

  test("Deliveries.frames() are encoded once for a channel", () => {
    const deliveries = new Deliveries();
    let reads = 0;
    const [event] = changes(1);
    const counted = [{
      ...event!,
      get key() {
        reads++;
        return bytesOf("k");
      },
    }];
    for (let connection = 0; connection < 10; connection++) deliveries.frames(1, counted);
    expect(reads).toBe(1);
  });

  test("Deliveries.frames() has none of words and of what is too long for a message", () => {
    const deliveries = new Deliveries();
    const word: EngineEvent = { type: "synced", cursor: "e.1" };
    expect(deliveries.frames(1, [...changes(1), word])).toBeUndefined();
    expect(deliveries.frames(1, changes(10, 10_000))).toBeUndefined();
    const events = changes(2);
    expect(deliveries.frames(1, events)).toEqual(encoded(1, events));
  });

  test("Deliveries.add() runs all at the end of the turn, and what they add in another", async () => {
    const deliveries = new Deliveries();
    const said: string[] = [];
    deliveries.add(() => {
      said.push("one");
      deliveries.add(() => said.push("three"));
    });
    deliveries.add(() => said.push("two"));
    expect(said).toEqual([]);
    await settled();
    expect(said).toEqual(["one", "two", "three"]);
  });
});

describe("sourceOf()", () => {
  test("sourceOf() asks a subscription that has to be waited for, one next at a time", async () => {
    const rows: (readonly EngineEvent[] | undefined)[] = [changes(1), changes(2), undefined];
    let running = 0;
    const subscription: EngineSubscription = {
      ready: Promise.resolve(),
      cursor: "e.1",
      async next() {
        expect(++running).toBe(1);
        await settled();
        running--;
        return rows.shift();
      },
      close() {},
    };
    const source = sourceOf(subscription);
    const seen: number[] = [];
    for (;;) {
      let woken = (): void => {};
      const woke = new Promise<void>((resolve) => woken = resolve);
      const events = source.poll(woken);
      source.poll(woken);
      if (events === undefined) break;
      if (events.length === 0) await woke;
      else seen.push(events.length);
    }
    expect(seen).toEqual([1, 2]);
  });
});
