/**
 * The validator of subscriptions is judged: it has nothing to say of a good stream, and something of each bad one.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import type { SubscriptionEvent } from "../../lib/store/subscription.ts";
import { Book, SubscriptionValidator } from "./validator.ts";

type Event = SubscriptionEvent;

/** A book, and what a subscriber of it is told: four sets, a batch of three, ends of all kinds. */
function written(): { book: Book; events: Event[]; entries: Map<string, { value: string; revision: number }> } {
  const book = new Book();
  const events: Event[] = [];
  const entries = new Map<string, { value: string; revision: number }>();
  const tell = (type: "set" | "delete" | "expire", key: string, value: string | undefined, more: object): void => {
    const revision = 10 + events.length * 2;
    events.push(
      { type, bucket: "b", key, revision, at: 1_000, ...(value !== undefined && { value }), ...more } as Event,
    );
    book.acknowledge(revision, key, value);
    if (value === undefined) entries.delete(key);
    else entries.set(key, { value, revision });
  };
  const set = (key: string, more = {}): void => tell("set", key, book.ask(key), more);
  set("a");
  set("b", { expiresAt: 900 });
  set("a");
  const [x, y, z] = book.askBatch(["x", "y", "z"]);
  tell("set", "x", x, { more: true });
  tell("set", "y", y, { more: true });
  tell("set", "z", z, {});
  tell("expire", "b", undefined, {});
  set("c");
  tell("delete", "a", undefined, {});
  return { book, events, entries };
}

/** What the validator says of a stream that begins with nothing. */
function problemsOf(spoil: (events: Event[], book: Book) => void, matches?: (key: string) => boolean): string[] {
  const { book, events, entries } = written();
  spoil(events, book);
  const validator = new SubscriptionValidator(book, { from: 0, ...(matches && { matches }) });
  for (const event of events) validator.take(event);
  validator.finish(entries);
  return validator.problems;
}

/** The same of one that begins with a snapshot, of which nothing has ended before it is synced. */
function problemsOfSnapshot(spoil: (events: Event[]) => void): string[] {
  const { book, events, entries } = written();
  const [a, b, , x, y, z, expire, c, end] = events as [Event, Event, ...Event[]];
  const plain = ({ more: _more, ...event }: Event & { more?: true }): Event => event as Event;
  const told = [y!, a, b, x!, z!].map(plain);
  told.push({ type: "synced", cursor: "e.20" }, expire!, c!, end!);
  // What was overwritten is not in a snapshot: the first write of a is what is there.
  book.acknowledged.delete(14);
  spoil(told);
  const validator = new SubscriptionValidator(book, { from: undefined });
  for (const event of told) validator.take(event);
  validator.finish(entries);
  return validator.problems;
}

function change(event: Event | undefined, more: object): Event {
  return { ...event, ...more } as Event;
}

describe("SubscriptionValidator", () => {
  test("SubscriptionValidator has nothing to say of a good stream", () => {
    expect(problemsOf(() => {})).toEqual([]);
    expect(problemsOf((events) => void events.splice(3, 0, { type: "progress", cursor: "e.15" }))).toEqual([]);
    expect(problemsOfSnapshot(() => {})).toEqual([]);
    // A key that ended while the snapshot was read, before its page.
    const ended = (events: Event[]): void => void events.splice(6, 0, change(events[8], { key: "q", revision: 21 }));
    expect(problemsOfSnapshot(ended)).toEqual([]);
  });

  test("SubscriptionValidator takes a compacted log for what it is", () => {
    const spoil = (events: Event[], book: Book): void => {
      book.compacted = true;
      // Covered: by a later set, by a tombstone; and a batch is parted.
      events.splice(0, 3);
      events[0] = change(events[0], { more: undefined });
    };
    expect(problemsOf(spoil)).toEqual([]);
  });

  test.each<[string, (events: Event[], book: Book) => void]>([
    ["a change that is missing", (events) => void events.splice(7, 1)],
    ["a change that a later one covers is missing, and nothing was compacted", (events) => void events.splice(0, 1)],
    ["a change that nothing covers is missing, and the log was compacted", (events, book) => {
      book.compacted = true;
      events.splice(7, 1);
    }],
    ["an end that is missing, and the log was compacted", (events, book) => {
      book.compacted = true;
      events.splice(6, 1);
    }],
    ["a change that comes twice", (events) => void events.splice(2, 0, events[1]!)],
    ["two changes in the wrong order", (events) => void events.splice(0, 2, events[1]!, events[0]!)],
    ["a value that nobody asked for", (events) => void (events[0] = change(events[0], { value: "99" }))],
    ["a value of another key", (events) => void (events[0] = change(events[0], { key: "c" }))],
    ["an end too soon", (events) => void (events[6] = change(events[6], { at: 899 }))],
    ["an expiry of what has no deadline", (events) => void (events[8] = change(events[8], { type: "expire" }))],
    ["an end that comes again", (events) => void events.push(change(events[8], { revision: 99 }))],
    ["a batch without its end", (events) => void events.splice(5)],
    ["a batch with something inside", (events) => {
      events.splice(4, 0, change(events[7], { revision: 17 }));
      events.splice(8, 1);
    }],
    ["a word inside a batch", (events) => void events.splice(4, 0, { type: "progress", cursor: "e.16" })],
    ["a batch that does not say so", (events) => void (events[3] = change(events[3], { more: undefined }))],
    ["a batch that goes on and on", (events) => void (events[5] = change(events[5], { more: true }))],
    ["more of what is no batch", (events) => void (events[1] = change(events[1], { more: true }))],
    ["a cursor that goes back", (events) => void events.splice(3, 0, { type: "progress", cursor: "e.13" })],
    ["a cursor behind what has not come", (events) => void events.splice(3, 0, { type: "progress", cursor: "e.17" })],
    ["a beginning that comes again", (events) => void events.push({ type: "synced", cursor: "e.99" })],
    ["resync", (events) => void events.push({ type: "resync", cursor: "e.99" })],
  ])("SubscriptionValidator finds %s", (...row: unknown[]) => {
    const [, spoil] = row as [string, (events: Event[], book: Book) => void];
    expect(problemsOf(spoil)).not.toEqual([]);
  });

  test("SubscriptionValidator finds a key that was not subscribed to", () => {
    expect(problemsOf(() => {}, (key) => key !== "c")).toEqual(["c is not subscribed to"]);
  });

  test.each<[string, (events: Event[]) => void]>([
    ["a key that is missing", (events) => void events.splice(0, 1)],
    ["a key that comes twice", (events) => void events.splice(1, 0, change(events[0], { revision: 3 }))],
    ["an end before synced", (events) => void events.splice(5, 2, events[6]!, events[5]!)],
    ["synced too soon", (events) => void events.splice(4, 2, events[5]!, events[4]!)],
    ["synced with a revision that is too old", (events) => void (events[5] = { type: "synced", cursor: "e.19" })],
    ["synced with a revision that is too new", (events) => void (events[5] = { type: "synced", cursor: "e.25" })],
    ["an end of what was not there, twice", (events) => {
      events.splice(6, 0, ...[21, 22].map((revision) => change(events[8], { key: "q", revision })));
    }],
    ["no synced", (events) => void events.splice(5, 1)],
  ])("SubscriptionValidator finds in a snapshot %s", (...row: unknown[]) => {
    const [, spoil] = row as [string, (events: Event[]) => void];
    expect(problemsOfSnapshot(spoil)).not.toEqual([]);
  });

  test("SubscriptionValidator.resume() finds who goes on from elsewhere, or inside a batch", () => {
    const { book, events } = written();
    const validator = new SubscriptionValidator(book, { from: 0 });
    for (const event of events.slice(0, 3)) validator.take(event);
    validator.resume("e.14");
    expect(validator.problems).toEqual([]);
    validator.resume("e.12");
    expect(validator.problems).toHaveLength(1);
    validator.take(events[3]!);
    validator.resume("e.16");
    expect(validator.problems).toHaveLength(2);
  });
});
