/**
 * An embedded engine on a {@link Disk} with a clock that stands still, and short ways to say what is done to it.
 *
 * @module
 */
import { ManualClock } from "../../lib/base/clock.ts";
import { CONTENT } from "../../lib/base/codec.ts";
import type { LogEvent } from "../../lib/bitcask/log.ts";
import { type EmbeddedEngine, type EmbeddedOptions, openEmbedded } from "../../lib/engine/embedded.ts";
import type {
  AtomicResult,
  EngineEvent,
  EngineSubscription,
  SetOptions,
  WriteResult,
} from "../../lib/engine/engine.ts";
import { Disk } from "./disk.ts";
import { brief, bytesOf, operations, textOf } from "./engine_subject.ts";

export { randomOf } from "./random.ts";

/** Options of an engine under test; what is absent has a value that makes things happen early. */
export type TestOptions = Partial<Omit<EmbeddedOptions, "fileSystem" | "clock" | "report">>;

const DEFAULTS: Omit<EmbeddedOptions, "fileSystem" | "clock" | "report"> = {
  folder: () => new Disk(),
  sync: "always",
  syncIntervalMs: 1_000,
  cacheBytesMax: 1024 * 1024,
  segmentBytesMax: 4_096,
  filesMax: 256,
  keyBytesMax: 1_024,
  valueBytesMax: 1024 * 1024,
  batchOperationsMax: 1_000,
  batchBytesMax: 1_024 * 1_024,
  compressBytesMin: Infinity,
  reserveBytes: 0,
  automatic: false,
  deadRatio: 0.5,
  deadBytes: Infinity,
  smallBytes: 0,
  window: undefined,
  tombstoneRetentionMs: 3_600_000,
};

/** Turns of the microtask queue before `finish` gives up. */
const TURNS_MAX = 1_000_000;

/** One store over its lives. */
export class Cask {
  disk: Disk;
  clock: ManualClock;
  engine!: EmbeddedEngine;
  readonly events: LogEvent[] = [];
  options: TestOptions;

  constructor(options: TestOptions = {}, disk: Disk = new Disk(), clock: ManualClock = new ManualClock()) {
    this.options = options;
    this.disk = disk;
    this.clock = clock;
  }

  /** Opens a new store. */
  static open(options: TestOptions = {}, disk?: Disk, clock?: ManualClock): Promise<Cask> {
    return new Cask(options, disk, clock).open();
  }

  async open(options: TestOptions = {}): Promise<Cask> {
    this.options = { ...this.options, ...options };
    const { disk, clock } = this;
    const report = (event: LogEvent): void => void this.events.push(event);
    this.engine = await this.finish(
      openEmbedded({ ...DEFAULTS, ...this.options, fileSystem: disk.mount(), clock, report }),
    );
    return this;
  }

  /** What `promise` resolves to; timers that are due at once run meanwhile. */
  async finish<Result>(promise: Promise<Result>): Promise<Result> {
    let settled = false;
    const done = (): void => void (settled = true);
    promise.then(done, done);
    for (let turn = 0; !settled; turn++) {
      if (turn === TURNS_MAX) throw new Error("Cannot finish: nothing happens any more");
      this.clock.advance(0);
      await Promise.resolve();
    }
    return await promise;
  }

  /** Lets everything happen that needs no time. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 600; turn++) {
      this.clock.advance(0);
      await Promise.resolve();
    }
  }

  /** Moves the clock, and lets what is due happen. */
  async advance(milliseconds: number): Promise<void> {
    this.clock.advance(milliseconds);
    await this.settle();
  }

  async close(): Promise<void> {
    await this.finish(this.engine.close());
  }

  async reopen(options: TestOptions = {}): Promise<Cask> {
    await this.close();
    return await this.open(options);
  }

  compact(): Promise<void> {
    return this.finish(this.engine.compact());
  }

  set(key: string, value: string, options: Partial<SetOptions> = {}): Promise<WriteResult> {
    return this.engine.set("b", bytesOf(key), bytesOf(value), { content: CONTENT.text, ...options });
  }

  delete(key: string): Promise<WriteResult> {
    return this.engine.delete("b", bytesOf(key));
  }

  /** Commits operations such as `set a=1`, `delete a` and `check a@7`. */
  atomic(...texts: string[]): Promise<AtomicResult> {
    return this.engine.atomic(operations(...texts));
  }

  async take(key: string): Promise<string | undefined> {
    return textOf((await this.engine.take("b", bytesOf(key)))?.value);
  }

  get(key: string): string | undefined {
    return textOf(this.engine.getSync("b", bytesOf(key))?.value);
  }

  /** Every key and value as `a=1 b=2`. */
  async all(bucket = "b"): Promise<string> {
    const { entries } = await this.engine.list(bucket, { limit: 1_000 });
    return entries.map(({ key, value }) => `${textOf(key)}=${textOf(value)}`).join(" ");
  }

  /** What a subscription has to say now, in short. */
  async told(subscription: EngineSubscription): Promise<string[]> {
    return (await this.heard(subscription)).map(brief);
  }

  /** What a subscription has to say now. Ends the subscription when it has no more to say. */
  async heard(subscription: EngineSubscription): Promise<EngineEvent[]> {
    const events: EngineEvent[] = [];
    const reading = (async () => {
      for (let some = await subscription.next(); some !== undefined; some = await subscription.next()) {
        events.push(...some);
      }
    })();
    await this.settle();
    for (let before = -1; before !== events.length; await this.settle()) before = events.length;
    subscription.close();
    await this.finish(reading);
    return events;
  }
}
