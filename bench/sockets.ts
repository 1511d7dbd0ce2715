/**
 * Sockets that speak just enough WebSocket to count what comes: with a client for each of thousands, the clients would
 * be what is measured.
 *
 * @module
 */
import { once } from "node:events";
import { connect as connectSocket, type Socket } from "node:net";
import { CborWriter } from "../lib/wire/cbor.ts";
import { OP, writeSubscribeQuery } from "../lib/wire/protocol.ts";
import { handshakeTo, helloOf, messageOf, requestTo } from "./capacity.ts";

/** Connections opened at once, within what a system keeps waiting. */
const OPENING = 100;

/** One connection: what has come over it, in messages. */
export class Counter {
  readonly socket: Socket;
  messages = 0;
  bytes = 0;
  onMessage: ((payload: Uint8Array) => void) | undefined;
  #input: Uint8Array = new Uint8Array(0);
  #upgraded = false;
  #ended = false;

  constructor(port: number) {
    this.socket = connectSocket(port, "127.0.0.1");
    this.socket.setNoDelay(true);
    this.socket.on("data", (chunk: Uint8Array) => this.#read(chunk));
    this.socket.on("close", () => {
      if (!this.#ended) {
        throw new Error("Cannot measure: a connection was closed");
      }
    });
  }

  /** Closes it. */
  end(): void {
    this.#ended = true;
    this.socket.destroy();
  }

  /** Opens one and waits until the server has answered the handshake. */
  static async open(port: number, protocol?: string): Promise<Counter> {
    const counter = new Counter(port);
    counter.socket.write(handshakeTo(port, protocol));
    while (!counter.#upgraded) await once(counter.socket, "data");
    return counter;
  }

  /** Resolves when this many messages have come. */
  async reach(messages: number): Promise<void> {
    while (this.messages < messages) await once(this.socket, "data");
  }

  #read(chunk: Uint8Array): void {
    let input = chunk;
    if (this.#input.length > 0) {
      input = new Uint8Array(this.#input.length + chunk.length);
      input.set(this.#input);
      input.set(chunk, this.#input.length);
    }
    let at = 0;
    if (!this.#upgraded) {
      at = endOfHead(input);
      this.#upgraded = at > 0;
    }
    while (this.#upgraded && input.length - at >= 2) {
      const short = input[at + 1]! & 127;
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (input.length - at < head) break;
      let length = head === 2 ? short : 0;
      for (let index = 2; index < head; index++) {
        length = length * 256 + input[at + index]!;
      }
      if (input.length - at < head + length) break;
      this.messages++;
      this.bytes += length;
      this.onMessage?.(input.subarray(at + head, at + head + length));
      at += head + length;
    }
    this.#input = input.slice(at);
  }
}

function endOfHead(bytes: Uint8Array): number {
  for (let at = 3; at < bytes.length; at++) {
    if (
      bytes[at - 3] === 13 && bytes[at - 2] === 10 && bytes[at - 1] === 13 &&
      bytes[at] === 10
    ) return at + 1;
  }
  return 0;
}

/** Opens so many, some at a time. */
export async function openAll(
  count: number,
  open: () => Promise<Counter>,
): Promise<Counter[]> {
  const all: Counter[] = [];
  while (all.length < count) {
    all.push(
      ...await Promise.all(
        Array.from({ length: Math.min(OPENING, count - all.length) }, open),
      ),
    );
  }
  return all;
}

/** A connection that has said hello, and subscribed to the bucket `events` when asked. */
export async function openFirkin(
  port: number,
  subscribed: boolean,
): Promise<Counter> {
  const counter = await Counter.open(port);
  const writer = new CborWriter();
  counter.socket.write(helloOf(writer));
  await counter.reach(1);
  if (!subscribed) return counter;
  requestTo(writer, OP.subscribe, 1);
  writeSubscribeQuery(writer, { bucket: "events" });
  writer.null();
  counter.socket.write(messageOf(writer.take()));
  await counter.reach(2);
  return counter;
}
