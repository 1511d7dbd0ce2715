/**
 * An engine under test, and short ways to say what is done to it and what it says.
 *
 * @module
 */
import { afterEach, beforeEach, expect } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import type {
  AtomicResult,
  Deadline,
  Engine,
  EngineEvent,
  EngineSubscription,
  Entry,
  ListQuery,
  Operation,
  WriteResult,
} from "../../lib/engine/engine.ts";

/** An engine under test. */
export interface EngineUnderTest {
  readonly engine: Engine;
  /** Closes the engine and what is behind it. */
  readonly close: () => Promise<void>;
}

/** Opens an engine on nothing, whose time is `clock`, or the system's when it is absent. */
export type OpenEngine = (clock?: ManualClock) => Promise<EngineUnderTest>;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The UTF-8 of `text`. */
export function bytesOf(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The text behind `bytes`. */
export function textOf(bytes: Uint8Array | undefined): string | undefined {
  return bytes && decoder.decode(bytes);
}

/** The next `count` events of a subscription. */
export async function take(subscription: EngineSubscription, count: number): Promise<EngineEvent[]> {
  const taken: EngineEvent[] = [];
  while (taken.length < count) {
    const events = await subscription.next();
    if (events === undefined) throw new Error(`The subscription ended after ${taken.length} of ${count} events`);
    expect(events.length).toBeGreaterThan(0);
    taken.push(...events);
  }
  expect(taken.length).toBe(count);
  return taken;
}

/** What an event says, in short: `set a=1` or `synced`. */
export function brief(event: EngineEvent): string {
  if ("cursor" in event) return event.type;
  return `${event.type} ${textOf(event.key)}${event.value ? `=${textOf(event.value)}` : ""}`;
}

/** One engine for each test, and short ways to say what is done to it. */
export class Subject {
  engine!: Engine;
  clock!: ManualClock;
  #close: () => Promise<void> = () => Promise.resolve();

  /** Registers hooks that open an engine before each test and close it after. */
  static each(open: OpenEngine): Subject {
    const subject = new Subject();
    beforeEach(async () => {
      subject.clock = new ManualClock();
      const { engine, close } = await open(subject.clock);
      subject.engine = engine;
      subject.#close = close;
    });
    afterEach(() => subject.#close());
    return subject;
  }

  set(
    key: string,
    value: string,
    options: { ifRevision?: number; deadline?: Deadline; once?: boolean } = {},
  ): Promise<WriteResult> {
    return this.engine.set("b", bytesOf(key), bytesOf(value), { content: CONTENT.text, ...options });
  }

  get(key: string): Promise<Entry | undefined> {
    return this.engine.get("b", bytesOf(key));
  }

  async value(key: string): Promise<string | undefined> {
    return textOf((await this.get(key))?.value);
  }

  async keys(query: Partial<ListQuery> = {}): Promise<string> {
    const { entries } = await this.engine.list("b", { limit: 1_000, ...query });
    return entries.map((entry) => textOf(entry.key)).join(" ");
  }
}

/** An operation in short: `set a=1`, `delete a`, `check a@7`. */
export function operation(text: string, bucket = "b"): Operation {
  const [type, rest] = text.split(" ") as ["set" | "delete" | "check", string];
  const [name, value] = rest.split(/[=@]/) as [string, string];
  const key = bytesOf(name);
  if (type === "check") return { type, bucket, key, revision: Number(value) };
  return type === "delete"
    ? { type, bucket, key }
    : { type, bucket, key, value: bytesOf(value), content: CONTENT.text };
}

/** Operations in short. */
export function operations(...texts: string[]): Operation[] {
  return texts.map((text) => operation(text));
}

/** The revision of a write or batch that must have happened. */
export function revisionOf(result: WriteResult | AtomicResult): number {
  if (!result.ok) throw new Error("The write did not happen");
  return result.revision;
}
