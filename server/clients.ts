/**
 * Who is connected, whatever it speaks: WebSocket clients, event streams, Redis clients.
 *
 * Each protocol says what there is to tell of its connections, by numbers of its own; here they get a letter before the
 * number, by which one can be closed. A server may have ten thousand with a thousand subscriptions each, and somebody
 * looks at them every second: so only those that are listed are described, and no more of each than is told.
 *
 * @module
 */

import { decodeText, toHex } from "../lib/base/bytes.ts";
import type { SubscribeQuery } from "../lib/engine/engine.ts";

/** What a protocol is called, and the letter before its numbers. */
const LETTERS = { websocket: "w", events: "e", redis: "r" } as const;

/** As much is told of a text that a client has given. */
const SHOWN_LENGTH_MAX = 120;

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
  /** The first of them. */
  readonly subscriptions: readonly ClientSubscription[];
  /** How many there are. */
  readonly subscriptionsTotal: number;
}

/** A connection that can be told of. */
export interface DescribedClient {
  /** Bytes that wait to be sent. */
  readonly bufferedBytes: number;
  /** What an operator is told of it, and of the first `subscriptionsMax` of its subscriptions. */
  describe(subscriptionsMax: number): ClientInfo;
}

/** The connections of one protocol. */
export interface ClientSource {
  readonly kind: ClientKind;
  /** Those that are open, with their numbers. */
  clients(): Iterable<readonly [number, DescribedClient]>;
  /** Closes one; none that is not there. */
  closeClient(number: number): void;
}

/** A connection among those of all protocols. */
export interface ListedClient extends ClientInfo {
  /** Such as `w12`. */
  readonly id: string;
  readonly kind: ClientKind;
}

/** The connections that are listed, and how many there are. */
export interface ClientList {
  readonly total: number;
  readonly clients: readonly ListedClient[];
}

/** What a client says about itself, as an operator is told of it. */
export function shownText(text: string): string {
  return text.length <= SHOWN_LENGTH_MAX ? text : `${text.slice(0, SHOWN_LENGTH_MAX)}…`;
}

/** A key as an operator is told of it: text, or else hexadecimal digits. */
export function shownKey(key: Uint8Array): string {
  return shownText(decodeText(key) ?? `0x${toHex(key)}`);
}

/** What is subscribed to, as an operator is told of it. */
export function shownQuery(
  { bucket, key, prefix, types }: SubscribeQuery,
): Pick<ClientSubscription, "bucket" | "key" | "prefix" | "types"> {
  return {
    ...(bucket !== undefined && { bucket }),
    ...(key !== undefined && { key: shownKey(key) }),
    ...(prefix !== undefined && { prefix: shownKey(prefix) }),
    ...(types !== undefined && { types }),
  };
}

/** The first `count` of many, and no look at the others. */
export function firstOf<Item>(items: Iterable<Item>, count: number): Item[] {
  const first: Item[] = [];
  for (const item of items) {
    if (first.length >= count) break;
    first.push(item);
  }
  return first;
}

/** The connections of a server. */
export class Clients {
  readonly #sources: ClientSource[] = [];

  /** Tells of the connections of one more protocol. */
  add(source: ClientSource): void {
    this.#sources.push(source);
  }

  /** The first of those that are open: those for which most waits, then those of one protocol after the other. */
  list(clientsMax: number, subscriptionsMax: number): ClientList {
    const all = this.#sources.flatMap((source) => {
      const { kind } = source;
      return [...source.clients()].map(([number, client]) => ({
        id: `${LETTERS[kind]}${number}`,
        kind,
        client,
        waiting: client.bufferedBytes,
      }));
    });
    all.sort((left, right) => right.waiting - left.waiting);
    const clients = all.slice(0, clientsMax).map(({ id, kind, client }) => {
      return { id, kind, ...client.describe(subscriptionsMax) };
    });
    return { total: all.length, clients };
  }

  /** Closes one, by its id; none that is not there. */
  close(id: string): void {
    if (!/^[a-z][1-9]\d*$/.test(id)) return;
    this.#sources.find(({ kind }) => id.startsWith(LETTERS[kind]))?.closeClient(Number(id.slice(1)));
  }
}
