/**
 * `CLIENT TRACKING`: clients that keep what they have read are told when it is no longer so.
 *
 * What one connection has read is remembered, by key, until the key changes or expires; then the client is told
 * (`invalidate`), once. With `BCAST` nothing is remembered, and every change of a key with one of the prefixes is told;
 * further prefixes add to those that there are, and each counts as a subscription. Changes come from the feed, so they
 * are those of all protocols, and expiry is told when it happens.
 *
 * It is of one database, the one that is selected when it begins, and takes version 3. A client that has read more
 * than is remembered is told to forget everything; one that is so slow that the log no longer reaches back is closed.
 *
 * @module
 */
import { startsWith } from "../../lib/base/bytes.ts";
import type { EngineEvent, EngineSubscription } from "../../lib/engine/engine.ts";
import { type ClientSubscription, shownQuery } from "../clients.ts";
import { failureOf } from "../commands.ts";
import { checkPatterns, checkRoom, type Client } from "./call.ts";
import { latin1, wordOf } from "./numbers.ts";
import { bulk, ErrorReply, PushReply, type Reply } from "./resp.ts";

/** Keys that are remembered of one connection. */
const KEYS_MAX = 100_000;
/** Every key begins with it. */
const NO_PREFIX = new Uint8Array(0);

/**
 * What stands behind CLIENT TRACKING ON: the prefixes of which every change is told; undefined where changes of what
 * was read are.
 *
 * @throws {ErrorReply}
 */
export function trackedPrefixes(args: readonly Uint8Array[]): readonly Uint8Array[] | undefined {
  const prefixes: Uint8Array[] = [];
  let isBroadcast = false;
  for (let index = 3; index < args.length; index++) {
    const word = wordOf(args[index]!);
    if (word === "BCAST") isBroadcast = true;
    else if (word === "PREFIX" && index + 1 < args.length) prefixes.push(args[++index]!);
    else if (["REDIRECT", "OPTIN", "OPTOUT", "NOLOOP"].includes(word)) {
      throw new ErrorReply(`ERR CLIENT TRACKING ${word} is not supported`);
    } else throw new ErrorReply("ERR syntax error");
  }
  if (prefixes.length > 0 && !isBroadcast) throw new ErrorReply("ERR PREFIX option requires BCAST mode to be enabled");
  if (!isBroadcast) return undefined;
  return prefixes.length === 0 ? [NO_PREFIX] : prefixes;
}

/** What one connection is told of what it has read. */
export class Tracking {
  readonly #client: Client;
  readonly #bucket: string;
  readonly #prefixes: Map<string, Uint8Array> | undefined;
  readonly #tell: (reply: Reply) => Promise<void> | undefined;
  readonly #source: EngineSubscription;
  /** Resolves when later changes will be told. */
  readonly ready: Promise<void>;
  #keys: Set<string> = new Set();
  #isClosed = false;

  /**
   * Begins in the database that is selected; see {@link Tracking.ready}. `tell` is as that of `Topics`.
   *
   * @throws {FirkinError} FORBIDDEN — the right to subscribe is missing; BUSY — as {@link Tracking.add}
   */
  constructor(
    client: Client,
    prefixes: readonly Uint8Array[] | undefined,
    tell: (reply: Reply) => Promise<void> | undefined,
  ) {
    this.#client = client;
    this.#bucket = client.bucket;
    this.#tell = tell;
    if (prefixes === undefined) checkRoom(client);
    else this.#prefixes = this.#newOnes(prefixes);
    this.#source = client.host.commands.subscribe(client.principal, { bucket: client.bucket, values: false });
    client.host.metrics.subscriptions += this.count;
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

  /** Subscriptions that it counts as. */
  get count(): number {
    return this.#prefixes?.size ?? 1;
  }

  /** Lengths of the prefixes, together. */
  get prefixBytes(): number {
    return bytesOf(this.#prefixes);
  }

  /** What an operator is told of it. */
  *told(): Generator<ClientSubscription> {
    const revision = Number(this.#source.cursor.split(".")[1]);
    for (const prefix of this.#prefixes?.values() ?? [NO_PREFIX]) {
      const query = prefix.length === 0 ? { bucket: this.#bucket } : { bucket: this.#bucket, prefix };
      yield { ...shownQuery(query), revision, waits: false };
    }
  }

  /** Tells of further prefixes, too. @throws {FirkinError} BUSY — there are too many, or they are too long */
  add(prefixes: readonly Uint8Array[] = []): void {
    const added = this.#newOnes(prefixes);
    for (const [name, prefix] of added) this.#prefixes?.set(name, prefix);
    this.#client.host.metrics.subscriptions += added.size;
  }

  /** Copies of those that are not there yet, for which there is room. */
  #newOnes(prefixes: readonly Uint8Array[]): Map<string, Uint8Array> {
    const added = new Map(prefixes.map((prefix) => [latin1(prefix), prefix.slice()]));
    for (const name of this.#prefixes?.keys() ?? []) added.delete(name);
    checkRoom(this.#client, added.size);
    checkPatterns(this.#client, bytesOf(added));
    return added;
  }

  /** Remembers keys that are about to be read. */
  note(keys: readonly Uint8Array[]): void {
    if (this.#prefixes !== undefined) return;
    for (const key of keys) this.#keys.add(latin1(key));
    if (this.#keys.size > KEYS_MAX) void this.#forget();
  }

  /** Ends it. */
  close(): void {
    this.#isClosed = true;
    this.#client.host.metrics.subscriptions -= this.count;
    this.#source.close();
  }

  async #follow(): Promise<void> {
    const { host } = this.#client;
    const tell = (event: EngineEvent): Promise<void> | undefined => this.#changed(event);
    try {
      for (let events = await this.#source.next(); events !== undefined; events = await this.#source.next()) {
        if (this.isBroadcast) await host.pace.each(this.#client, events, tell);
        // To look a key up takes no steps, and waits for nobody's.
        else for (const event of events) await tell(event);
      }
    } catch (error) {
      failureOf(error, host.onFailure);
      // Who trusts what it has kept must not go on.
      this.#client.kill();
    }
  }

  #changed(event: EngineEvent): Promise<void> | undefined {
    if (this.#isClosed) return undefined;
    if (!("key" in event)) {
      if (event.type !== "resync") return undefined;
      this.#client.kill();
      return undefined;
    }
    const { key } = event;
    return this.#isWanted(key) ? this.#tell(new PushReply([bulk("invalidate"), [key]])) : undefined;
  }

  #isWanted(key: Uint8Array): boolean {
    if (this.#prefixes === undefined) return this.#keys.delete(latin1(key));
    const { pace } = this.#client.host;
    for (const prefix of this.#prefixes.values()) {
      pace.steps += prefix.length + 1;
      if (startsWith(key, prefix)) return true;
    }
    return false;
  }

  #forget(): Promise<void> | undefined {
    this.#keys = new Set();
    return this.#tell(new PushReply([bulk("invalidate"), null]));
  }
}

function bytesOf(prefixes: ReadonlyMap<string, Uint8Array> | undefined): number {
  let bytes = 0;
  for (const { length } of prefixes?.values() ?? []) bytes += length;
  return bytes;
}
