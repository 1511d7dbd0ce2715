/**
 * What one connection sends: replies and messages in one buffer, which leaves in one write.
 *
 * A client that does not read must not cost the others memory. When more waits to be sent than a connection may have
 * waiting, nothing more is read from it, and who tells it something is asked to wait; when that lasts for too long, or
 * too much waits for all of them together, it is cut off.
 *
 * `CLIENT REPLY` is here, too: what a client does not want to hear is never written.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Timer } from "../../lib/base/clock.ts";
import type { RedisHost, Silence } from "./call.ts";
import { ErrorReply, PushReply, type Reply, type RespVersion, RespWriter } from "./resp.ts";

/** Writers kept for the next connection that has something to say. */
const WRITERS_KEPT = 64;
/** A reply of this length is sent before more are written. */
const FLUSH_BYTES = 65_536;

/** What is sent through. */
export interface Outlet {
  /** Sends bytes, which belong to the outlet from now on. */
  send(bytes: Uint8Array): void;
  /** Bytes that wait to be sent. */
  bufferedBytes(): number;
}

/** One connection's way out. */
export class Output {
  /** See {@link Silence}. */
  silence: Silence = "none";
  readonly #outlet: Outlet;
  readonly #host: RedisHost;
  readonly #drop: () => void;
  #writer: RespWriter | undefined;
  #stallTimer: Timer | undefined;
  #waitingBytes = 0;
  #isClosed = false;
  /** Who waits until there is room to write. */
  #drained: (() => void)[] = [];

  /** `drop` cuts the connection off. */
  constructor(outlet: Outlet, host: RedisHost, drop: () => void) {
    this.#outlet = outlet;
    this.#host = host;
    this.#drop = drop;
  }

  /** Too much waits to be sent: nothing should be added to it. */
  get isStalled(): boolean {
    return this.#stallTimer !== undefined;
  }

  /** Where a reply is written that lies elsewhere: undefined when nobody wants to hear it. */
  get writer(): RespWriter | undefined {
    if (this.silence === "all" || this.silence === "this") return undefined;
    return this.#open();
  }

  /** What is written from here on answers the next command. All replies of the one before have been written. */
  begin(): void {
    if (this.silence === "this") this.silence = "none";
    else if (this.silence === "next") this.silence = "this";
  }

  /** Writes the reply to a command. */
  reply(reply: Reply, version: RespVersion): void {
    if (reply instanceof ErrorReply) this.#host.metrics.errors++;
    // That it listens is told to one who wants no replies, too.
    (reply instanceof PushReply ? this.#open() : this.writer)?.reply(reply, version);
    this.relieve();
  }

  #open(): RespWriter {
    return this.#writer ??= this.#host.writers.pop() ?? new RespWriter();
  }

  /** Writes a message that nobody asked for; a promise while there is no room for more. */
  tell(reply: Reply, version: RespVersion): Promise<void> | undefined {
    this.#open().reply(reply, version);
    this.#host.metrics.events++;
    this.relieve();
    if (!this.isStalled) return undefined;
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  /** Sends what is too long to be kept. */
  relieve(): void {
    if (this.#writer !== undefined && this.#writer.length > FLUSH_BYTES) this.flush();
  }

  /** Sends what was written. */
  flush(): void {
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#writer = undefined;
    const bytes = Buffer.from(writer.take());
    writer.shrink();
    if (this.#host.writers.length < WRITERS_KEPT) this.#host.writers.push(writer);
    if (bytes.length > 0 && !this.#isClosed) this.#send(bytes);
  }

  #send(bytes: Uint8Array): void {
    const { metrics, clock, limits, outbound } = this.#host;
    metrics.messagesOut++;
    metrics.bytesOut += bytes.length;
    this.#outlet.send(bytes);
    const waiting = this.#weigh();
    if (waiting <= limits.outboundBytesMax) return;
    if (waiting > limits.outboundHardBytesMax || outbound.bytes > limits.outboundTotalBytesMax) {
      return this.#dropReader();
    }
    this.#stallTimer ??= clock.after(limits.outboundMs, () => this.#dropReader());
  }

  /** Looks at what still waits, when some was sent: true when there is room again. */
  drain(): boolean {
    const waiting = this.#weigh();
    if (this.#stallTimer === undefined || waiting > this.#host.limits.outboundBytesMax / 2) return false;
    this.#stallTimer.cancel();
    this.#stallTimer = undefined;
    this.#release();
    return true;
  }

  /** The connection is over. */
  close(): void {
    this.#isClosed = true;
    this.#stallTimer?.cancel();
    this.#release();
    this.#weigh();
  }

  #release(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** Brings the sum of all connections up to date; what waits on this one. */
  #weigh(): number {
    const waiting = this.#isClosed ? 0 : this.#outlet.bufferedBytes();
    this.#host.outbound.bytes += waiting - this.#waitingBytes;
    this.#waitingBytes = waiting;
    return waiting;
  }

  #dropReader(): void {
    this.#host.metrics.slowReaders++;
    this.#drop();
  }
}
