/**
 * What waits to be sent on one connection, and what becomes of one that does not read.
 *
 * A client that does not read must not cost the others memory. While more than `outboundBytesMax` wait, the connection
 * is stalled: whoever has more for it is to keep it where it is. It is cut off when that lasts for `outboundMs`, when
 * what was under way makes it more than `outboundHardBytesMax`, and at once when too much waits for all together.
 *
 * @module
 */
import type { Clock, Timer } from "../lib/base/clock.ts";
import type { ServerLimits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";

/** What the connections of one server share. */
export interface BacklogHost {
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** What waits on one connection. */
export class Backlog {
  readonly #host: BacklogHost;
  readonly #connection: { bufferedBytes(): number };
  readonly #drop: () => void;
  /** What this connection adds to the bytes of all. */
  #bytes = 0;
  #stallTimer: Timer | undefined;
  #isClosed = false;

  /** Nothing waits yet; `drop` cuts the connection off. */
  constructor(host: BacklogHost, connection: { bufferedBytes(): number }, drop: () => void) {
    this.#host = host;
    this.#connection = connection;
    this.#drop = drop;
  }

  /** Too much waits: nothing should be added to it. */
  get isStalled(): boolean {
    return this.#stallTimer !== undefined;
  }

  /** Brings the sum of all connections up to date; what waits on this one. */
  weigh(): number {
    const bytes = this.#isClosed ? 0 : this.#connection.bufferedBytes();
    this.#host.metrics.bytesWaiting += bytes - this.#bytes;
    this.#bytes = bytes;
    return bytes;
  }

  /** A message was sent; `isTaken` is false when there was no room for it. */
  sent(length: number, isTaken = true): void {
    const { limits, clock, metrics } = this.#host;
    metrics.messagesOut++;
    metrics.bytesOut += length;
    if (this.#isClosed) return;
    const bytes = this.weigh();
    if (!isTaken || bytes > limits.outboundHardBytesMax) return this.#dropReader();
    if (bytes <= limits.outboundBytesMax) return;
    if (metrics.bytesWaiting > limits.outboundTotalBytesMax) return this.#dropReader();
    this.#stallTimer ??= clock.after(limits.outboundMs, () => this.#dropReader());
  }

  /** Some of it has left: true when the connection was stalled, and there is room again. */
  drain(): boolean {
    const bytes = this.weigh();
    if (this.#stallTimer === undefined || bytes > this.#host.limits.outboundBytesMax / 2) return false;
    this.#stallTimer.cancel();
    this.#stallTimer = undefined;
    return true;
  }

  /** The connection is over. */
  close(): void {
    this.#isClosed = true;
    this.#stallTimer?.cancel();
    this.#stallTimer = undefined;
    this.weigh();
  }

  #dropReader(): void {
    this.#host.metrics.slowReaders++;
    this.#drop();
  }
}
