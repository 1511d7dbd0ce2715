/**
 * `CLIENT TRACKING`: clients that keep what they have read are told when it is no longer so.
 *
 * What one connection has read is remembered, by key, until the key changes or expires; then the client is told
 * (`invalidate`), once. With `BCAST` nothing is remembered, and every change of a key with one of the prefixes is told.
 * Changes come from the feed, so they are those of all protocols, and expiry is told when it happens.
 *
 * It is of one database, the one that is selected when it begins, and takes version 3. A client that has read more
 * than is remembered is told to forget everything; one that is so slow that the log no longer reaches back is closed.
 *
 * @module
 */
import { startsWith } from "../../lib/base/bytes.ts";
import type { EngineEvent, EngineSubscription } from "../../lib/engine/engine.ts";
import type { ClientSubscription } from "../clients.ts";
import { failureOf } from "../commands.ts";
import type { Client } from "./call.ts";
import { latin1, wordOf } from "./numbers.ts";
import { bulk, ErrorReply, PushReply, type Reply } from "./resp.ts";

/** Keys that are remembered of one connection. */
const KEYS_MAX = 100_000;
const PREFIXES_MAX = 100;

/** What CLIENT TRACKING ON asks for. */
interface TrackingOptions {
  /** Of every key with one of the prefixes, of every key when there are none; undefined: of those that were read. */
  readonly prefixes: readonly Uint8Array[] | undefined;
}

/** What stands behind CLIENT TRACKING ON. @throws {ErrorReply} */
export function trackingOptions(args: readonly Uint8Array[]): TrackingOptions {
  const prefixes: Uint8Array[] = [];
  let isBroadcast = false;
  for (let index = 3; index < args.length; index++) {
    const word = wordOf(args[index]!);
    if (word === "BCAST") isBroadcast = true;
    else if (word === "PREFIX" && index + 1 < args.length) prefixes.push(args[++index]!.slice());
    else if (["REDIRECT", "OPTIN", "OPTOUT", "NOLOOP"].includes(word)) {
      throw new ErrorReply(`ERR CLIENT TRACKING ${word} is not supported`);
    } else throw new ErrorReply("ERR syntax error");
  }
  if (prefixes.length > 0 && !isBroadcast) throw new ErrorReply("ERR PREFIX option requires BCAST mode to be enabled");
  if (prefixes.length > PREFIXES_MAX) throw new ErrorReply("ERR too many prefixes");
  return { prefixes: isBroadcast ? prefixes : undefined };
}

/** What one connection is told of what it has read. */
export class Tracking {
  readonly #client: Client;
  readonly #bucket: string;
  readonly #prefixes: readonly Uint8Array[] | undefined;
  readonly #tell: (reply: Reply) => Promise<void> | undefined;
  readonly #source: EngineSubscription;
  /** Resolves when later changes will be told. */
  readonly ready: Promise<void>;
  #keys: Set<string> = new Set();

  /**
   * Begins in the database that is selected; see {@link Tracking.ready}. `tell` is as that of `Topics`.
   *
   * @throws {FirkinError} FORBIDDEN — the right to subscribe is missing
   */
  constructor(client: Client, { prefixes }: TrackingOptions, tell: (reply: Reply) => Promise<void> | undefined) {
    this.#client = client;
    this.#bucket = client.bucket;
    this.#prefixes = prefixes;
    this.#tell = tell;
    this.#source = client.host.commands.subscribe(client.principal, { bucket: client.bucket, values: false });
    client.host.metrics.subscriptions++;
    this.ready = this.#source.ready.then(() => void this.#follow());
  }

  /** The database that it is of. */
  get bucket(): string {
    return this.#bucket;
  }

  /** True when it tells whatever was read. */
  get isBroadcast(): boolean {
    return this.#prefixes !== undefined;
  }

  /** What an operator is told of it. */
  told(): ClientSubscription {
    return { bucket: this.#bucket, revision: Number(this.#source.cursor.split(".")[1]), waits: false };
  }

  /** Remembers keys that are about to be read. */
  note(keys: readonly Uint8Array[]): void {
    if (this.#prefixes !== undefined) return;
    for (const key of keys) this.#keys.add(latin1(key));
    if (this.#keys.size > KEYS_MAX) void this.#forget();
  }

  /** Ends it. */
  close(): void {
    this.#client.host.metrics.subscriptions--;
    this.#source.close();
  }

  async #follow(): Promise<void> {
    const { host } = this.#client;
    try {
      for (let events = await this.#source.next(); events !== undefined; events = await this.#source.next()) {
        for (const event of events) {
          const wait = this.#changed(event);
          if (wait !== undefined) await wait;
        }
      }
    } catch (error) {
      failureOf(error, host.onFailure);
      // Who trusts what it has kept must not go on.
      this.#client.kill();
    }
  }

  #changed(event: EngineEvent): Promise<void> | undefined {
    if (!("key" in event)) {
      if (event.type !== "resync") return undefined;
      this.#client.kill();
      return undefined;
    }
    const { key } = event;
    const isWanted = this.#prefixes === undefined
      ? this.#keys.delete(latin1(key))
      : this.#prefixes.length === 0 || this.#prefixes.some((prefix) => startsWith(key, prefix));
    return isWanted ? this.#tell(new PushReply([bulk("invalidate"), [key]])) : undefined;
  }

  #forget(): Promise<void> | undefined {
    this.#keys = new Set();
    return this.#tell(new PushReply([bulk("invalidate"), null]));
  }
}
