/**
 * Who is connected, whatever it speaks: WebSocket clients, event streams, Redis clients.
 *
 * Each protocol says what there is to tell of its connections, by numbers of its own; here they get a letter before the
 * number, by which one can be closed.
 *
 * @module
 */

import { decodeText, toHex } from "../lib/base/bytes.ts";

/** What a protocol is called, and the letter before its numbers. */
const LETTERS = { websocket: "w", events: "e", redis: "r" } as const;

/** What a connection speaks. */
export type ClientKind = keyof typeof LETTERS;

/** What an operator is told of a subscription. */
export interface ClientSubscription {
  /** What is subscribed to: all buckets when there is none. */
  readonly bucket?: string;
  readonly key?: string;
  readonly prefix?: string;
  readonly types?: readonly string[];
  /** A channel of Redis clients, or a pattern of such. */
  readonly channel?: string;
  /** It has been sent everything up to here, 0 while it is sent a snapshot; absent where no log is read. */
  readonly revision?: number;
  /** Its client takes nothing more at the moment. */
  readonly waits: boolean;
}

/** What an operator is told of a connection. */
export interface ClientInfo {
  /** Of its principal. */
  readonly name: string;
  readonly address: string;
  /** The program that it says it is. */
  readonly agent: string;
  /** How long it has been open. */
  readonly ageMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Bytes that wait to be sent. */
  readonly bufferedBytes: number;
  readonly subscriptions: readonly ClientSubscription[];
}

/** The connections of one protocol. */
export interface ClientSource {
  readonly kind: ClientKind;
  /** Those that are open, with their numbers. */
  clients(): Iterable<readonly [number, ClientInfo]>;
  /** Closes one; none that is not there. */
  closeClient(number: number): void;
}

/** A connection among those of all protocols. */
export interface ListedClient extends ClientInfo {
  /** Such as `w12`. */
  readonly id: string;
  readonly kind: ClientKind;
}

/** A key as an operator is told of it: text, or else hexadecimal digits. */
export function shownKey(key: Uint8Array): string {
  return decodeText(key) ?? `0x${toHex(key)}`;
}

/** The connections of a server. */
export class Clients {
  readonly #sources: ClientSource[] = [];

  /** Tells of the connections of one more protocol. */
  add(source: ClientSource): void {
    this.#sources.push(source);
  }

  /** All that are open, those first for which most waits, then those of one protocol after the other. */
  list(): ListedClient[] {
    const all = this.#sources.flatMap((source) => {
      const { kind } = source;
      return [...source.clients()].map(([number, info]) => ({ id: `${LETTERS[kind]}${number}`, kind, ...info }));
    });
    return all.sort((left, right) => right.bufferedBytes - left.bufferedBytes);
  }

  /** Closes one, by its id; none that is not there. */
  close(id: string): void {
    this.#sources.find(({ kind }) => id.startsWith(LETTERS[kind]))?.closeClient(Number(id.slice(1)));
  }
}
