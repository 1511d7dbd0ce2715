/**
 * Subscriptions over HTTP: Server-Sent Events.
 *
 * Each stream reads the feed at its reader's pace: the transport asks for a chunk when the system has taken the one
 * before, and only then is the next one made. So a reader that does not read costs what the system buffers for it and
 * one read of the feed; when nothing is asked for during `outboundMs`, it is cut off and comes back with its cursor.
 *
 * An event's `id` is the cursor behind it, which the browser sends as Last-Event-ID when it connects again. There is
 * none before `synced`, nor inside a batch: who is cut off there starts over, or before the batch. `resync` has an
 * empty one, which makes the browser forget its own. A comment every `HEARTBEAT_MS` keeps proxies and timeouts quiet.
 *
 * @module
 */
import type { Clock, Timer } from "../lib/base/clock.ts";
import { FirkinError } from "../lib/base/errors.ts";
import type { EngineEvent, EngineSubscription, SubscribeQuery } from "../lib/engine/engine.ts";
import { REPLY_FLUSH_BYTES } from "../lib/wire/protocol.ts";
import { hasExpired, type Principal } from "./auth.ts";
import { type ClientInfo, type ClientSource, type DescribedClient, shownQuery, shownText } from "./clients.ts";
import { type Commands, failureOf } from "./commands.ts";
import type { Gate } from "./gate.ts";
import type { ServerLimits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import { REST_HEADERS } from "./problems.ts";
import { changeJson } from "./representations.ts";
import type { Place } from "./visitors.ts";

/** A stream that has nothing to say says that, this often. */
const HEARTBEAT_MS = 15_000;
/** A browser connects again after so long, and up to twice as long, so that not all come at once. */
const RETRY_MS = 1_000;

/** What streams share with the rest of the server. */
export interface StreamHost {
  readonly commands: Commands;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly gate: Pick<Gate, "addressOf" | "placeOf">;
  readonly limits: Pick<ServerLimits, "streamsMax" | "streamsPerAddressMax" | "outboundMs">;
  readonly onFailure: (error: unknown) => void;
}

/** Who asks for a stream. */
export interface StreamReader {
  readonly principal: Principal;
  readonly headers: Headers;
  /** The peer's address. */
  readonly remoteAddress: string;
}

/** The streams of one server. */
export class EventStreams implements ClientSource {
  readonly kind = "events";
  readonly #host: StreamHost;
  /** By a number that no other has had. */
  readonly #open: Map<number, EventStream> = new Map();
  #lastNumber = 0;
  /** How many of them each place has. */
  readonly #places: Map<Place, number> = new Map();
  #ending = false;

  /** No streams yet. */
  constructor(host: StreamHost) {
    this.#host = host;
  }

  /**
   * Opens a stream. With `from` it continues there; when the log does not reach that far back it says `resync` and,
   * with `snapshot`, begins anew.
   *
   * @throws {FirkinError} BUSY — there are too many, or too many of the reader's place; as {@link Commands.subscribe}
   */
  async open(reader: StreamReader, query: SubscribeQuery): Promise<Response> {
    const { streamsMax, streamsPerAddressMax } = this.#host.limits;
    if (this.#ending) throw new FirkinError("UNAVAILABLE", "Cannot open a stream: the server is shutting down");
    if (this.#open.size >= streamsMax) {
      throw new FirkinError("BUSY", `Cannot open a stream: there are ${streamsMax}, the most`);
    }
    const place = this.#host.gate.placeOf(reader.headers, reader.remoteAddress);
    const ofPlace = this.#places.get(place) ?? 0;
    if (place !== undefined && ofPlace >= streamsPerAddressMax) {
      throw new FirkinError("BUSY", `Cannot open a stream: this address has ${streamsPerAddressMax}, the most`);
    }
    const number = ++this.#lastNumber;
    const stream = new EventStream(this.#host, reader, query, () => this.#forget(number, place));
    this.#open.set(number, stream);
    this.#places.set(place, ofPlace + 1);
    try {
      await stream.ready();
    } catch (error) {
      stream.close();
      throw error;
    }
    return new Response(stream.body, {
      headers: { ...REST_HEADERS, "content-type": "text/event-stream", "x-accel-buffering": "no" },
    });
  }

  #forget(number: number, place: Place): void {
    this.#open.delete(number);
    const left = this.#places.get(place)! - 1;
    if (left === 0) this.#places.delete(place);
    else this.#places.set(place, left);
  }

  /** Ends the streams of principals that have expired. */
  check(): void {
    for (const stream of this.#open.values()) stream.check();
  }

  /** See {@link ClientSource}. */
  clients(): ReadonlyMap<number, DescribedClient> {
    return this.#open;
  }

  /** See {@link ClientSource}. Its reader comes back by itself, as browsers do. */
  closeClient(number: number): void {
    this.#open.get(number)?.dismiss();
  }

  /** Ends every stream behind what it has been given, with its cursor; opens no more. Resolves when all are over. */
  async end(): Promise<void> {
    this.#ending = true;
    await Promise.all([...this.#open.values()].map((stream) => stream.end()));
  }
}

/** One stream. */
class EventStream implements DescribedClient {
  readonly body: ReadableStream<Uint8Array>;
  readonly #host: StreamHost;
  readonly #principal: Principal;
  readonly #address: string;
  readonly #agent: string;
  readonly #openedAt: number;
  readonly #query: SubscribeQuery;
  readonly #onClosed: () => void;
  #source: EngineSubscription;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  /** Before `synced` no revision says how far a snapshot has come. */
  #synced: boolean;
  /** Events that have been read, how many of them are written, and the cursor behind all. */
  #events: readonly EngineEvent[] = [];
  #written = 0;
  #cursor = "";
  #reading = false;
  #over = false;
  #ending = false;
  #closed = false;
  /** Resolves the wait for something to say. */
  #wake: (() => void) | undefined;
  #heartbeat: Timer | undefined;
  #stall: Timer | undefined;
  #text: string;
  #bytesOut = 0;
  /** Of those, what its reader has not taken. */
  #untakenBytes = 0;
  readonly #gone: Promise<void>;
  #leave: () => void = () => {};

  constructor(host: StreamHost, reader: StreamReader, query: SubscribeQuery, onClosed: () => void) {
    this.#host = host;
    this.#principal = reader.principal;
    this.#address = host.gate.addressOf(reader.headers, reader.remoteAddress);
    this.#agent = shownText(reader.headers.get("user-agent") ?? "");
    this.#openedAt = host.clock.monotonic();
    this.#query = query;
    this.#onClosed = onClosed;
    this.#synced = query.from !== undefined || query.snapshot !== true;
    this.#source = this.#subscribe(query.from === undefined ? { snapshot: !this.#synced } : { from: query.from });
    const [random = 0] = host.clock.random(new Uint8Array(1));
    this.#gone = new Promise((resolve) => this.#leave = resolve);
    this.#text = `retry: ${RETRY_MS + Math.round(random * RETRY_MS / 255)}\n\n`;
    this.body = new ReadableStream<Uint8Array>({
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.close(),
    }, { highWaterMark: 0 });
    host.metrics.streams++;
  }

  /** Settles when later changes are in the stream. */
  async ready(): Promise<void> {
    await this.#source.ready;
    this.#cursor = this.#source.cursor;
    // Who has seen nothing yet can come back, too.
    if (this.#synced && this.#query.from === undefined) this.#text += control("progress", this.#cursor);
  }

  /** See {@link DescribedClient}. */
  get bufferedBytes(): number {
    return this.#untakenBytes + this.#text.length;
  }

  /** See {@link DescribedClient}. */
  describe(): ClientInfo {
    const subscription = {
      ...shownQuery(this.#query),
      revision: this.#synced ? Number(this.#cursor.split(".")[1]) : 0,
      waits: this.#untakenBytes > 0,
    };
    return {
      name: this.#principal.name,
      address: this.#address,
      agent: this.#agent,
      ageMs: Math.round(this.#host.clock.monotonic() - this.#openedAt),
      bytesIn: 0,
      bytesOut: this.#bytesOut,
      bufferedBytes: this.bufferedBytes,
      subscriptions: [subscription],
      subscriptionsTotal: 1,
    };
  }

  /** Lets what is written be the last; resolves when the stream is over. */
  end(): Promise<void> {
    this.#ending = true;
    this.#wake?.();
    return this.#gone;
  }

  /** Ends the stream when its principal has expired. */
  check(): void {
    if (this.#isExpired) this.dismiss();
  }

  /** Ends the stream now: with a word, unless the reader is not there to hear it. */
  dismiss(): void {
    this.#ending = true;
    if (this.#wake === undefined) this.#cut();
    else this.#wake();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#source.close();
    this.#heartbeat?.cancel();
    this.#stall?.cancel();
    this.#wake?.();
    this.#host.metrics.streams--;
    this.#onClosed();
    this.#leave();
  }

  /** Subscribes to what is asked for, from where `beginning` says. */
  #subscribe(beginning: SubscribeQuery): EngineSubscription {
    const { from: _from, snapshot: _snapshot, ...query } = this.#query;
    return this.#host.commands.subscribe(this.#principal, { ...query, ...beginning });
  }

  // --- chunks ---

  /** The reader asks for more: gives it what there is, once there is something. */
  async #pull(): Promise<void> {
    this.#stall?.cancel();
    this.#untakenBytes = 0;
    try {
      while (this.#text === "" && !this.#closed) await this.#write();
    } catch (error) {
      failureOf(error, this.#host.onFailure);
      return this.#cut();
    }
    if (this.#closed) return;
    const chunk = new TextEncoder().encode(this.#text);
    this.#text = "";
    this.#host.metrics.bytesOut += chunk.length;
    this.#bytesOut += chunk.length;
    this.#untakenBytes = chunk.length;
    this.#controller?.enqueue(chunk);
    if (this.#over) {
      this.#controller?.close();
      return this.close();
    }
    this.#stall = this.#host.clock.after(this.#host.limits.outboundMs, () => this.#dropReader());
  }

  #dropReader(): void {
    this.#host.metrics.slowReaders++;
    this.#cut();
  }

  #cut(): void {
    if (this.#closed) return;
    this.close();
    this.#controller?.error(new Error("The stream was cut off"));
  }

  /** Writes what there is to say, or waits for it. */
  async #write(): Promise<void> {
    if (this.#isExpired || (this.#ending && !this.#inBatch)) return this.#finish();
    if (this.#written < this.#events.length) return this.#writeEvents();
    if (!this.#reading) this.#read();
    const heartbeat = this.#host.clock.after(HEARTBEAT_MS, () => {
      this.#text = ":\n\n";
      this.#wake?.();
    });
    this.#heartbeat = heartbeat;
    await new Promise<void>((resolve) => this.#wake = resolve);
    this.#wake = undefined;
    heartbeat.cancel();
  }

  get #isExpired(): boolean {
    return hasExpired(this.#principal, this.#host.clock.wall());
  }

  /** What was written last goes on with what is written next. */
  get #inBatch(): boolean {
    const last = this.#events[this.#written - 1];
    return last !== undefined && "more" in last;
  }

  /** Reads on; one read at a time, whoever waits for it. */
  #read(): void {
    this.#reading = true;
    const settle = (events: readonly EngineEvent[] | undefined): void => {
      this.#reading = false;
      this.#events = events ?? [];
      this.#written = 0;
      this.#cursor = this.#source.cursor;
      if (this.#synced) this.#host.metrics.lagged(this.#events, this.#host.clock.wall());
      if (events === undefined) this.#ending = true;
      this.#wake?.();
    };
    this.#source.next().then(settle, (error: unknown) => {
      failureOf(error, this.#host.onFailure);
      settle(undefined);
    });
  }

  /** Writes events until a chunk is full. */
  #writeEvents(): void {
    const { metrics } = this.#host;
    const [epoch] = this.#cursor.split(".", 1);
    let text = "";
    while (this.#written < this.#events.length && text.length < REPLY_FLUSH_BYTES) {
      const event = this.#events[this.#written++]!;
      if ("key" in event) {
        metrics.events++;
        const id = this.#synced && event.more !== true ? `id: ${epoch}.${event.revision}\n` : "";
        text += `${id}event: ${event.type}\ndata: ${changeJson(event)}\n\n`;
      } else if (event.type === "resync") {
        metrics.resyncs++;
        text += `id:\n${control("resync", event.cursor, "")}`;
        this.#startOver();
      } else {
        this.#synced = true;
        text += control(event.type, event.cursor);
      }
    }
    this.#text = text;
  }

  /** The cursor is of no use: begins with a snapshot, or ends. */
  #startOver(): void {
    this.#events = [];
    this.#written = 0;
    if (this.#query.snapshot !== true) {
      this.#over = true;
      return;
    }
    this.#source.close();
    this.#source = this.#subscribe({ snapshot: true });
    this.#synced = false;
  }

  #finish(): void {
    this.#over = true;
    // What was read and not written comes again.
    const told = this.#written === this.#events.length && this.#synced;
    this.#text = told ? control("ended", this.#cursor) : "event: ended\ndata: {}\n\n";
  }
}

/** An event about the stream itself. */
function control(word: string, cursor: string, id = `id: ${cursor}\n`): string {
  return `${id}event: ${word}\ndata: {"cursor":${JSON.stringify(cursor)}}\n\n`;
}
