/**
 * What one connection sends: replies and messages in one buffer, which leaves in one write.
 *
 * While too much waits to be sent (`backlog.ts`), nothing more is read from the connection, and who tells it something
 * is asked to wait.
 *
 * `CLIENT REPLY` is here, too: what a client does not want to hear is never written.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { Backlog } from "../backlog.ts";
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
  readonly #backlog: Backlog;
  #writer: RespWriter | undefined;
  #isClosed = false;
  /** Who waits until there is room to write. */
  #drained: (() => void)[] = [];

  /** `drop` cuts the connection off. */
  constructor(outlet: Outlet, host: RedisHost, drop: () => void) {
    this.#outlet = outlet;
    this.#host = host;
    this.#backlog = new Backlog(host, outlet, drop);
  }

  /** Too much waits to be sent: nothing should be added to it. */
  get isStalled(): boolean {
    return this.#backlog.isStalled;
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
    if (bytes.length === 0 || this.#isClosed) return;
    this.#outlet.send(bytes);
    this.#backlog.sent(bytes.length);
  }

  /** Looks at what still waits, when some was sent: true when there is room again. */
  drain(): boolean {
    const hasRoom = this.#backlog.drain();
    if (hasRoom) this.#release();
    return hasRoom;
  }

  /** The connection is over. */
  close(): void {
    this.#isClosed = true;
    this.#backlog.close();
    this.#release();
  }

  #release(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }
}
