/**
 * The feed: the log read forward.
 *
 * A subscription is a filter and a place in the log, and holds no queue. While it has read everything it has no place
 * at all: a commit that matches its filter gives it one, the first record it has not seen, and wakes it. Then it reads
 * the log from there at its own pace, and when it reaches what is not committed yet it is caught up again. So a slow
 * reader costs nobody memory, live delivery and resuming are the same reading, and nothing can fall between them.
 *
 * Places move when compaction rewrites segments: the subscription then finds its place again by revision, which the log
 * is in order of. What compaction dropped were changes that later ones have covered; if it dropped tombstones past the
 * reader's cursor, the reader is told `resync` instead.
 *
 * Most subscriptions are caught up, and read the same records at the same moment. So a change finds those it concerns
 * through an index of their filters (`topics.ts`), and what the first of them reads is handed to the others as it is.
 *
 * The events of a batch come out of one `next`, however many they are, so that no cursor between two of them parts it.
 * (Compaction keeps no batches: who resumes from before one that was rewritten gets what is left of it as plain
 * changes.)
 *
 * A snapshot lists the entries up to the revision at which it began; what changed since comes as events, and nothing
 * comes twice.
 *
 * A cursor is a revision, and a segment is read from where it begins: so a segment notes some places in it as they are
 * written or read (`Segment.notePlace`), 4 KiB of them for 64 MiB. Of many who resume after an open, the first reads
 * ahead for all.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";
import {
  type ChangeEvent,
  type ChangeType,
  type EngineEvent,
  type EngineSubscription,
  PAGE_ENTRIES_MAX,
  type SubscribeQuery,
} from "../engine/engine.ts";
import type { Log } from "./log.ts";
import {
  bucketAt,
  contentAt,
  copyKeyAt,
  copyValueAt,
  expiresAtAt,
  FLAG,
  flagsAt,
  isOnceAt,
  keyAt,
  KIND,
  type Kind,
  kindAt,
  recordBytesAt,
  revisionAt,
  timeAt,
} from "./record.ts";
import { type Segment, SEGMENT_HEADER_BYTES } from "./segment.ts";
import { type Topic, Topics } from "./topics.ts";

/** Events handed out by one `next`, and bytes of their records, unless a batch begins before and ends behind. */
const EVENTS_MAX = 256;
const EVENTS_BYTES_MAX = 256 * 1_024;

/** A subscription that waits is told this often how far the log has come without it, if it has. */
const PROGRESS_MS = 30_000;

/** Records looked at before others get their turn. */
const RECORDS_PER_TURN = 10_000;

/** What the feed asks of its owner. */
export interface FeedOwner {
  /** The last revision that is visible. */
  committed(): number;
  /**
   * A page of the live entries of a bucket as `set` changes, in key order, past `after`; empty when there are no more.
   * At most `limit`.
   */
  page(
    bucket: string,
    prefix: Uint8Array | undefined,
    after: Uint8Array | undefined,
    limit: number,
    values: boolean,
  ): readonly ChangeEvent[];
}

/** The subscriptions of a log. */
export class Feed {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #owner: FeedOwner;
  readonly #subscriptions = new Set<FeedSubscription>();
  readonly #topics: Topics<FeedSubscription>;
  readonly #reading = new Reading();
  #waiting = 0;
  #hold: Timer | undefined;
  #progressTimer: Timer | undefined;

  /** The feed of `log`. */
  constructor(log: Log, clock: Clock, owner: FeedOwner) {
    this.#log = log;
    this.#clock = clock;
    this.#owner = owner;
    this.#topics = new Topics(log.hashSeed);
  }

  /** Number of open subscriptions. */
  get count(): number {
    return this.#subscriptions.size;
  }

  /** Begins a subscription at what is visible now. */
  subscribe(query: SubscribeQuery): EngineSubscription {
    const topic = this.#topics.hold(query);
    const subscription = new FeedSubscription(this.#log, this.#clock, this.#owner, topic, query, {
      reading: this.#reading,
      forget: () => {
        this.#subscriptions.delete(subscription);
        this.#topics.release(topic);
      },
      wait: (change) => this.#wait(change),
    });
    this.#subscriptions.add(subscription);
    this.#progressTimer ??= this.#clock.after(PROGRESS_MS, () => this.#progress());
    return subscription;
  }

  /**
   * The record at `offset` has become visible. Called for every change, in order; costs nothing without subscriptions.
   */
  publish(segment: Segment, offset: number): void {
    if (this.#subscriptions.size === 0) return;
    const at = segment.seek(offset);
    const revision = revisionAt(segment.window, at);
    const bucket = this.#log.bucketName(bucketAt(segment.window, at));
    const key = keyAt(segment.window, at);
    const type = CHANGES[kindAt(segment.window, at)]!;
    this.#topics.visit(bucket, key, (topic) => {
      const { waiting } = topic;
      if (waiting.size === 0 || !topic.wants(type)) return;
      // Who is told has a place from here on, and hears no more before it is caught up again.
      for (const subscription of waiting) subscription.offer(segment, offset, revision);
      waiting.clear();
    });
  }

  /** Somebody waits for an event: the process must not end meanwhile for want of anything else to do. */
  #wait(change: number): void {
    this.#waiting += change;
    if (this.#waiting > 0) {
      this.#hold ??= this.#clock.hold();
    } else {
      this.#hold?.cancel();
      this.#hold = undefined;
    }
  }

  #progress(): void {
    this.#progressTimer = undefined;
    if (this.#subscriptions.size === 0) return;
    for (const subscription of this.#subscriptions) subscription.progress();
    this.#progressTimer = this.#clock.after(PROGRESS_MS, () => this.#progress());
  }

  /** Ends every subscription. */
  close(): void {
    this.#progressTimer?.cancel();
    for (const subscription of this.#subscriptions) subscription.close();
  }
}

/** A place in the log, while the subscription has one. */
interface Place {
  segment: Segment;
  offset: number;
}

/**
 * What was read last: from where, what came of it, and where that leads. The next who reads from there takes it, unless
 * the log has gone on.
 */
class Reading {
  #topic: Topic<FeedSubscription> | undefined;
  #segment: Segment | undefined;
  #offset = 0;
  #revision = 0;
  #committed = 0;
  events: readonly ChangeEvent[] = [];
  /** Where reading goes on, behind `revisionAfter`; undefined: everything has been read. */
  place: Place | undefined;
  revisionAfter = 0;

  /** True when this was read by a subscription of this topic from this place, with this revision before it. */
  isOf(topic: Topic<FeedSubscription>, { segment, offset }: Place, revision: number, committed: number): boolean {
    return this.#topic === topic && this.#segment === segment && this.#offset === offset &&
      this.#revision === revision && this.#committed === committed && !segment.replaced;
  }

  /** Begins to note what is read from here; nothing is found until `end`. */
  begin({ segment, offset }: Place, revision: number, committed: number): void {
    this.#topic = undefined;
    this.events = [];
    this.#segment = segment;
    this.#offset = offset;
    this.#revision = revision;
    this.#committed = committed;
  }

  /** Notes what came of it. */
  end(
    topic: Topic<FeedSubscription>,
    events: readonly ChangeEvent[],
    place: Place | undefined,
    revision: number,
  ): void {
    this.#topic = topic;
    this.events = events;
    this.place = place && { ...place };
    this.revisionAfter = revision;
  }
}

/** What a subscription asks of its feed. */
interface FeedHooks {
  readonly reading: Reading;
  forget(): void;
  wait(change: number): void;
}

class FeedSubscription implements EngineSubscription {
  readonly ready: Promise<void> = Promise.resolve();
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #owner: FeedOwner;
  readonly #topic: Topic<FeedSubscription>;
  readonly #hooks: FeedHooks;
  /** Everything up to here has been handed out or did not match. */
  #revision: number;
  /** The next record to look at; undefined when caught up. */
  #place: Place | undefined;
  /** What a snapshot still has to list. */
  #snapshot: Iterator<readonly EngineEvent[]> | undefined;
  #resync = false;
  /** Someone waits who has not been told how far the log has come. */
  #hasProgress = false;
  /** The revision of the last cursor handed out. */
  #told: number;
  /** The cursor at the close: what comes later has not been read. */
  #lastCursor: string | undefined;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(
    log: Log,
    clock: Clock,
    owner: FeedOwner,
    topic: Topic<FeedSubscription>,
    query: SubscribeQuery,
    hooks: FeedHooks,
  ) {
    this.#log = log;
    this.#clock = clock;
    this.#owner = owner;
    this.#topic = topic;
    this.#hooks = hooks;
    this.#revision = owner.committed();
    this.#told = this.#revision;
    if (query.snapshot === true) this.#snapshot = this.#list(this.#revision);
    else if (query.from !== undefined) this.#resume(query.from);
    this.#waitForChange();
  }

  get cursor(): string {
    if (this.#lastCursor !== undefined) return this.#lastCursor;
    // In the middle of a snapshot no revision says which entries are still to come: only the beginning misses none.
    if (this.#snapshot !== undefined) return `${this.#log.epoch}.0`;
    // Who has no place has read everything: what came since did not match.
    const caughtUp = this.#place === undefined && !this.#resync;
    return `${this.#log.epoch}.${caughtUp ? this.#owner.committed() : this.#revision}`;
  }

  /** A record has become visible, and nothing before it waits to be read: reading begins there. */
  offer(segment: Segment, offset: number, revision: number): void {
    this.#place = { segment, offset };
    // All before it has been seen not to match: what compaction drops of that is nothing to miss.
    this.#revision = revision - 1;
    this.#awake();
  }

  /**
   * Lets a waiting `next` say how far the log has come, so that the cursor of a quiet subscription does not grow old.
   */
  progress(): void {
    if (this.#wake === undefined || this.#owner.committed() === this.#told) return;
    this.#hasProgress = true;
    this.#awake();
  }

  async next(): Promise<readonly EngineEvent[] | undefined> {
    this.#hooks.wait(1);
    try {
      for (;;) {
        const events = this.#now();
        if (events?.length !== 0) return events;
        await new Promise<void>((resolve) => this.#sleep(resolve));
      }
    } finally {
      this.#hooks.wait(-1);
    }
  }

  poll(wake: () => void): readonly EngineEvent[] | undefined {
    const events = this.#now();
    if (events?.length === 0) this.#sleep(wake);
    return events;
  }

  /** What there is now: undefined when the subscription has ended. */
  #now(): readonly EngineEvent[] | undefined {
    if (this.#closed) return undefined;
    const events = this.#take();
    if (events.length > 0) this.#told = this.#revision;
    else if (this.#closed) return undefined;
    return events;
  }

  /** Calls `wake` when there may be something, or at once after others had their turn. */
  #sleep(wake: () => void): void {
    if (this.#place === undefined && this.#snapshot === undefined) this.#wake = wake;
    else this.#clock.after(0, wake);
  }

  #awake(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** Who has read everything hears of the next change. */
  #waitForChange(): void {
    if (this.#place !== undefined || this.#snapshot !== undefined || this.#resync || this.#closed) return;
    this.#topic.waiting.add(this);
  }

  close(): void {
    if (this.#closed) return;
    this.#lastCursor = this.cursor;
    this.#closed = true;
    this.#topic.waiting.delete(this);
    this.#hooks.forget();
    this.#awake();
  }

  /** What can be handed out now. */
  #take(): readonly EngineEvent[] {
    if (this.#resync) return this.#end();
    if (this.#snapshot === undefined) {
      const events = this.#read();
      if (events.length > 0 || this.#place !== undefined || !this.#hasProgress) return events;
      this.#hasProgress = false;
      this.#revision = this.#owner.committed();
      return [{ type: "progress", cursor: this.cursor }];
    }
    const page = this.#snapshot.next();
    if (page.done !== true) return page.value;
    this.#snapshot = undefined;
    if (this.#owner.committed() > this.#revision) this.#find();
    else this.#waitForChange();
    return [{ type: "synced", cursor: this.cursor }];
  }

  #end(): readonly EngineEvent[] {
    const { cursor } = this;
    this.close();
    return [{ type: "resync", cursor }];
  }

  // --- snapshot ---

  /** Pages of entries up to `revision`: a later one comes as an event. */
  *#list(revision: number): Generator<readonly EngineEvent[], void> {
    const { bucket: wanted, prefix, exact, values } = this.#topic;
    if (!this.#topic.wants("set")) return;
    const buckets = wanted === undefined ? [...this.#log.bucketNames] : [wanted];
    for (const bucket of buckets) {
      let after: Uint8Array | undefined;
      for (;;) {
        // Of the keys that begin with a key it is the first.
        const page = this.#owner.page(bucket, prefix, after, exact ? 1 : PAGE_ENTRIES_MAX, values);
        if (page.length === 0) break;
        after = page[page.length - 1]!.key;
        const events = page.filter((event) => event.revision <= revision && (!exact || this.#topic.fits(event.key)));
        if (events.length > 0) yield events;
        if (exact) break;
      }
    }
  }

  // --- reading the log ---

  /** Goes back to a cursor, or finds that the log does not reach that far. */
  #resume(cursor: string): void {
    const [epoch, position] = cursor.split(".");
    const revision = Number(position);
    if (epoch !== this.#log.epoch || !Number.isSafeInteger(revision) || revision < 0 || revision > this.#revision) {
      this.#resync = true;
      return;
    }
    if (revision === this.#revision) return;
    this.#revision = revision;
    this.#find();
  }

  /** Finds the first record after `#revision`. */
  #find(): void {
    if (this.#revision < this.#log.floor) {
      this.#resync = true;
      return;
    }
    const segment = this.#log.segments.find(({ lastRevision }) => lastRevision > this.#revision);
    this.#place = segment === undefined ? undefined : { segment, offset: segment.placeBefore(this.#revision) };
    this.#waitForChange();
  }

  /** What can be read now, by this subscription or the one that was here before it. */
  #read(): readonly EngineEvent[] {
    const { reading } = this.#hooks;
    const place = this.#place;
    if (place === undefined) return [];
    const committed = this.#owner.committed();
    if (reading.isOf(this.#topic, place, this.#revision, committed)) {
      this.#revision = reading.revisionAfter;
      this.#place = reading.place && { ...reading.place };
      this.#waitForChange();
      return reading.events;
    }
    reading.begin(place, this.#revision, committed);
    const { events, bytes } = this.#readLog();
    // What is large is not kept.
    if (!this.#resync && bytes <= EVENTS_BYTES_MAX) reading.end(this.#topic, events, this.#place, this.#revision);
    return events;
  }

  #readLog(): { readonly events: readonly ChangeEvent[]; readonly bytes: number } {
    const events: ChangeEvent[] = [];
    let eventBytes = 0;
    /** Where the events of the batch begin that is being read; undefined between batches. */
    let batchStart: number | undefined;
    // Others may have read on to what this one still looks for.
    if (this.#place !== undefined) {
      this.#place.offset = Math.max(this.#place.offset, this.#place.segment.placeBefore(this.#revision));
    }
    for (let looked = 0; this.#place !== undefined; looked++) {
      const enough = looked >= RECORDS_PER_TURN || events.length >= EVENTS_MAX || eventBytes >= EVENTS_BYTES_MAX;
      if (batchStart === undefined && enough) break;
      if (this.#place.segment.replaced) {
        this.#find();
        if (this.#resync) break;
        continue;
      }
      const { segment, offset } = this.#place;
      if (offset >= segment.tail) {
        const following = this.#log.segments[this.#log.segments.indexOf(segment) + 1];
        if (following === undefined) this.#caughtUp();
        else this.#place = { segment: following, offset: SEGMENT_HEADER_BYTES };
        continue;
      }
      const at = segment.seek(offset);
      const bytes = segment.window;
      const revision = revisionAt(bytes, at);
      if (kindAt(bytes, at) < KIND.mark) {
        if (revision > this.#owner.committed()) {
          this.#caughtUp();
          break;
        }
        segment.notePlace(offset, revision);
        const more = (flagsAt(bytes, at) & FLAG.more) !== 0;
        if (more) batchStart ??= events.length;
        if (revision > this.#revision) {
          this.#revision = revision;
          const bucket = this.#log.bucketName(bucketAt(bytes, at));
          if (this.#topic.matches(CHANGES[kindAt(bytes, at)]!, bucket, keyAt(bytes, at))) {
            events.push(changeAt(bytes, at, bucket, this.#topic.values));
            eventBytes += recordBytesAt(bytes, at);
          }
        }
        if (!more && batchStart !== undefined) {
          for (let index = batchStart; index < events.length - 1; index++) {
            events[index] = { ...events[index]!, more: true };
          }
          batchStart = undefined;
        }
      }
      this.#place.offset = offset + recordBytesAt(bytes, at);
    }
    return { events, bytes: eventBytes };
  }

  #caughtUp(): void {
    this.#place = undefined;
    this.#revision = this.#owner.committed();
    this.#waitForChange();
  }
}

/**
 * The change that the record at `at` is; the value of a single-read key is left out, and without `values` each with its
 * content type. @throws {FirkinError} CORRUPT
 */
export function changeAt(bytes: Uint8Array, at: number, bucket: string, values: boolean): ChangeEvent {
  const kind = kindAt(bytes, at);
  const change = {
    type: CHANGES[kind]!,
    bucket,
    key: copyKeyAt(bytes, at),
    revision: revisionAt(bytes, at),
    at: timeAt(bytes, at),
  };
  if (kind !== KIND.set) return change;
  const expiresAt = expiresAtAt(bytes, at);
  if (!values) return expiresAt === undefined ? change : { ...change, expiresAt };
  const content = contentAt(bytes, at);
  const set = isOnceAt(bytes, at)
    ? { ...change, content, once: true as const }
    : { ...change, value: copyValueAt(bytes, at), content };
  return expiresAt === undefined ? set : { ...set, expiresAt };
}

/** The change that a record's kind is, by number. */
const CHANGES: Partial<Record<Kind, ChangeType>> = {
  [KIND.set]: "set",
  [KIND.delete]: "delete",
  [KIND.expire]: "expire",
  [KIND.evict]: "evict",
  [KIND.take]: "take",
};
