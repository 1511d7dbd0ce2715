/**
 * What one connection listens to: channels of the hub, and changes of keys.
 *
 * A name that begins with `__keyspace@` or `__keyevent@` is about keys: it reads the feed, as fast as the connection
 * takes it, and needs the right to subscribe in that bucket (in all, for a pattern of buckets). Any other name is a
 * channel, which belongs to no bucket: it needs the right everywhere.
 *
 * @module
 */
import { FirkinError } from "../../lib/base/errors.ts";
import type { EngineEvent, EngineSubscription } from "../../lib/engine/engine.ts";
import { type ClientSubscription, shownKey } from "../clients.ts";
import type { Answer } from "../commands.ts";
import { failureOf } from "../commands.ts";
import { checkName, checkPatterns, checkRoom, type Client } from "./call.ts";
import type { Listener } from "./hub.ts";
import { notificationsOf, queryOf } from "./notifications.ts";
import { latin1 } from "./numbers.ts";
import { bulk, PushReply, type Reply } from "./resp.ts";

/** One subscription. */
interface Topic {
  readonly name: Uint8Array;
  /** Where changes come from; a channel of the hub when absent. */
  readonly source?: EngineSubscription;
  /** All when undefined; of a source. */
  readonly bucket?: string | undefined;
  /** Nothing more is told of it. */
  isOver?: true;
}

/** The subscriptions of one connection. */
export class Topics implements Listener {
  readonly #client: Client;
  readonly #tell: (reply: Reply) => Promise<void> | undefined;
  readonly #channels: Map<string, Topic> = new Map();
  readonly #patterns: Map<string, Topic> = new Map();

  /** `tell` sends a message; what it returns is awaited before more is read from the log. */
  constructor(client: Client, tell: (reply: Reply) => Promise<void> | undefined) {
    this.#client = client;
    this.#tell = tell;
  }

  /** Channels that are listened to. */
  get channels(): number {
    return this.#channels.size;
  }

  /** Patterns that are listened to. */
  get patterns(): number {
    return this.#patterns.size;
  }

  /** Their lengths, together. */
  get patternBytes(): number {
    let bytes = 0;
    for (const { name } of this.#patterns.values()) bytes += name.length;
    return bytes;
  }

  /** What an operator is told of them, one after the other. */
  *told(): Generator<ClientSubscription> {
    for (const topics of [this.#channels, this.#patterns]) {
      for (const { name, source } of topics.values()) {
        const revision = source === undefined ? {} : { revision: Number(source.cursor.split(".")[1]) };
        yield { channel: shownKey(name), ...revision, waits: false };
      }
    }
  }

  /** Both. */
  get count(): number {
    return this.#channels.size + this.#patterns.size;
  }

  /** Listens to a channel or a pattern, and says so when what comes later will be told. */
  subscribe(name: Uint8Array, isPattern: boolean): Answer<Reply> {
    checkName(name, this.#client.host);
    const topics = isPattern ? this.#patterns : this.#channels;
    const known = topics.has(latin1(name));
    const own = name.slice();
    const reply = (): Reply => new PushReply([bulk(isPattern ? "psubscribe" : "subscribe"), own, this.count]);
    if (known) return reply();
    const { host, principal } = this.#client;
    checkRoom(this.#client);
    if (isPattern) checkPatterns(this.#client, own.length);
    const query = queryOf(own, isPattern);
    if (query === undefined) {
      this.#listen(own, isPattern);
      topics.set(latin1(own), { name: own });
      host.metrics.subscriptions++;
      return reply();
    }
    const source = host.commands.subscribe(principal, query);
    const topic = { name: own, source, bucket: query.bucket };
    topics.set(latin1(own), topic);
    host.metrics.subscriptions++;
    return source.ready.then(() => {
      void this.#follow(topic, isPattern);
      return reply();
    }, (error: unknown) => {
      this.#end(topics, own);
      throw error;
    });
  }

  #listen(name: Uint8Array, isPattern: boolean): void {
    const { host, principal } = this.#client;
    if (!principal.allows("subscribe", undefined)) {
      throw new FirkinError("FORBIDDEN", "Cannot listen: the right to subscribe in the whole store is missing");
    }
    if (isPattern) host.hub.subscribePattern(name, this);
    else host.hub.subscribe(name, this);
  }

  async #follow(topic: Topic & { readonly source: EngineSubscription }, isPattern: boolean): Promise<void> {
    const { host } = this.#client;
    try {
      for (let events = await topic.source.next(); events !== undefined; events = await topic.source.next()) {
        await host.pace.each(this.#client, events, (event) => this.#changed(event, topic, isPattern));
      }
    } catch (error) {
      failureOf(error, host.onFailure);
      this.#client.kill();
    }
  }

  #changed(event: EngineEvent, { name, isOver }: Topic, isPattern: boolean): Promise<void> | undefined {
    if (isOver || !("key" in event)) return undefined;
    let wait: Promise<void> | undefined;
    const { pace, settings } = this.#client.host;
    const notifications = notificationsOf(event, name, isPattern, settings.notifications, pace);
    for (const { channel, payload } of notifications) {
      wait = this.#deliver(channel, payload, isPattern ? name : undefined) ?? wait;
    }
    return wait;
  }

  /** See {@link Listener}. Nobody waits: who does not read is closed. */
  deliver(channel: Uint8Array, payload: Uint8Array, pattern?: Uint8Array): void {
    void this.#deliver(channel, payload, pattern);
  }

  #deliver(channel: Uint8Array, payload: Uint8Array, pattern: Uint8Array | undefined): Promise<void> | undefined {
    const head = pattern === undefined ? [bulk("message")] : [bulk("pmessage"), pattern];
    return this.#tell(new PushReply([...head, channel, payload]));
  }

  /** Ends subscriptions, all of a kind when `names` is empty; a reply for each. */
  unsubscribe(names: readonly Uint8Array[], isPattern: boolean): readonly Reply[] {
    const topics = isPattern ? this.#patterns : this.#channels;
    const word = bulk(isPattern ? "punsubscribe" : "unsubscribe");
    const all = names.length === 0 ? [...topics.values()].map(({ name }) => name) : names;
    if (all.length === 0) return [new PushReply([word, null, this.count])];
    return all.map((name) => {
      this.#end(topics, name);
      return new PushReply([word, name.slice(), this.count]);
    });
  }

  /** Ends what the principal may not see. */
  check(): void {
    const { principal } = this.#client;
    for (const topics of [this.#channels, this.#patterns]) {
      for (const { name, bucket } of topics.values()) {
        if (!principal.allows("subscribe", bucket)) this.#end(topics, name);
      }
    }
  }

  /** Ends all. */
  close(): void {
    for (const topics of [this.#channels, this.#patterns]) {
      for (const { name } of topics.values()) this.#end(topics, name);
    }
  }

  #end(topics: Map<string, Topic>, name: Uint8Array): void {
    const topic = topics.get(latin1(name));
    if (topic === undefined) return;
    topics.delete(latin1(name));
    topic.isOver = true;
    const { host } = this.#client;
    host.metrics.subscriptions--;
    if (topic.source !== undefined) topic.source.close();
    else if (topics === this.#patterns) host.hub.unsubscribePattern(topic.name, this);
    else host.hub.unsubscribe(topic.name, this);
  }
}
