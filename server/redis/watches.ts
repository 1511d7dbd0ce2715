/**
 * `WATCH`: what a connection relies on until its next `EXEC`.
 *
 * A key that is there is known by its revision, which no later version of it has. One that is not there has none, and
 * may come and go unseen: so it is subscribed to, and a set says that it has been there.
 *
 * @module
 */
import type { EngineEvent, EngineSubscription, SubscribeQuery } from "../../lib/engine/engine.ts";
import { type ClientSubscription, shownQuery } from "../clients.ts";
import { failureOf } from "../commands.ts";
import { type EventSource, sourceOf } from "../deliveries.ts";
import { checkRoom, type Client } from "./call.ts";
import { ErrorReply } from "./resp.ts";
import { nameOf, type Watched } from "./view.ts";

/** A key that was not there. */
interface Absence {
  readonly query: SubscribeQuery;
  readonly subscription: EngineSubscription;
  readonly source: EventSource;
}

/** The keys that one connection watches. */
export class Watches {
  readonly #client: Client;
  readonly #keys: Map<string, Watched> = new Map();
  readonly #absences: Absence[] = [];
  #isClosed = false;

  /** None yet. */
  constructor(client: Client) {
    this.#client = client;
  }

  /** What a batch must check: each key and its revision. */
  get keys(): readonly Watched[] {
    return [...this.#keys.values()];
  }

  /** Keys that were not there: there is a subscription for each. */
  get absent(): number {
    return this.#absences.length;
  }

  /** What an operator is told of those subscriptions. They are read when `EXEC` comes, and so never behind. */
  *told(): Generator<ClientSubscription> {
    for (const { query } of this.#absences) yield { ...shownQuery(query), waits: false };
  }

  /** Watches more keys, from when it resolves on. @throws {ErrorReply} they are too many */
  async add(keys: readonly Uint8Array[]): Promise<void> {
    const { host: { limits }, bucket } = this.#client;
    // Copies: a small argument would keep all that came with it.
    const added = new Map(keys.map((key) => [nameOf(bucket, key), key.slice()]));
    for (const name of this.#keys.keys()) added.delete(name);
    if (this.#keys.size + added.size > limits.batchOperationsMax / 2) {
      throw new ErrorReply("ERR too many keys are watched");
    }
    await Promise.all([...added].map(([name, key]) => this.#add(name, bucket, key)));
  }

  async #add(name: string, bucket: string, key: Uint8Array): Promise<void> {
    let entry = await this.#peek(bucket, key);
    if (entry === undefined) {
      await this.#subscribe(bucket, key);
      // It may have come before that.
      entry = await this.#peek(bucket, key);
    }
    this.#keys.set(name, { bucket, key, revision: entry?.revision ?? 0 });
  }

  async #peek(bucket: string, key: Uint8Array): Promise<{ readonly revision: number } | undefined> {
    const { host: { commands }, principal } = this.#client;
    return await commands.peek(principal, bucket, key);
  }

  async #subscribe(bucket: string, key: Uint8Array): Promise<void> {
    const { host: { commands, metrics }, principal } = this.#client;
    if (this.#isClosed) return;
    checkRoom(this.#client);
    const subscription = commands.observe(principal, bucket, key);
    const source = sourceOf(subscription);
    this.#absences.push({ query: { bucket, key }, subscription, source });
    metrics.subscriptions++;
    await subscription.ready;
    source.poll(nothing);
  }

  /** True when a key is not what it was. */
  async areTouched(): Promise<boolean> {
    for (const { bucket, key, revision } of this.#keys.values()) {
      const entry = await this.#peek(bucket, key);
      if ((entry?.revision ?? 0) !== revision) return true;
    }
    return this.#absences.some(({ source }) => this.#hasCome(source));
  }

  #hasCome(source: EventSource): boolean {
    try {
      const events = source.poll(nothing);
      return events === undefined || events.some(isNews);
    } catch (error) {
      failureOf(error, this.#client.host.onFailure);
      // Nobody knows what has happened meanwhile.
      return true;
    }
  }

  /** Lets go of all. */
  close(): void {
    this.#isClosed = true;
    this.#client.host.metrics.subscriptions -= this.#absences.length;
    for (const { subscription } of this.#absences.splice(0)) subscription.close();
  }
}

/** It was set, or nobody can say. */
function isNews(event: EngineEvent): boolean {
  return event.type === "set" || event.type === "resync";
}

function nothing(): void {}
