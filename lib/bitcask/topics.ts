/**
 * Which subscriptions a key concerns: an index of what is subscribed to.
 *
 * A topic is a bucket or all of them, or there the keys with a prefix, or one key; and of their changes all types or
 * some, with values or without. Subscriptions to the same share one. The topics
 * of a key are found in one pass over its bytes: a hash of the bytes so far is looked up wherever some prefix of that
 * length is subscribed to. So a change costs its key's length, whether one prefix is subscribed to or a hundred
 * thousand. The hash only proposes; the bytes decide. It is seeded, so that nobody can aim prefixes at one hash.
 *
 * @module
 */
import { compareBytes, startsWith } from "../base/bytes.ts";
import type { ChangeType, SubscribeQuery } from "../engine/engine.ts";

/** FNV-1a's prime. */
const PRIME = 0x01000193;

/** What subscriptions of one filter share. */
export class Topic<Member> {
  /** All buckets when undefined. */
  readonly bucket: string | undefined;
  /** All keys when undefined. */
  readonly prefix: Uint8Array | undefined;
  /** The prefix is the whole key. */
  readonly exact: boolean;
  /** All types when undefined. */
  readonly types: ReadonlySet<ChangeType> | undefined;
  /** Events carry values. */
  readonly values: boolean;
  /** Those who want to hear of the next change; who is told leaves. */
  readonly waiting: Set<Member> = new Set();
  /** Subscriptions that hold it. */
  holders = 0;

  constructor({ bucket, key, prefix, types, values = true }: SubscribeQuery) {
    this.bucket = bucket;
    const start = key ?? prefix;
    this.prefix = start !== undefined && start.length > 0 ? new Uint8Array(start) : undefined;
    this.exact = key !== undefined;
    this.types = types && new Set(types);
    this.values = values;
  }

  /** True when a change of this key is its business. */
  matches(type: ChangeType, bucket: string, key: Uint8Array): boolean {
    return this.wants(type) && (this.bucket === undefined || this.bucket === bucket) &&
      (this.prefix === undefined || (startsWith(key, this.prefix) && this.fits(key)));
  }

  /** True when changes of this type are. */
  wants(type: ChangeType): boolean {
    return this.types === undefined || this.types.has(type);
  }

  /** True when a key that begins with the prefix is. */
  fits(key: Uint8Array): boolean {
    return !this.exact || key.length === this.prefix!.length;
  }

  /** True when it is about the same. */
  equals(other: Topic<Member>): boolean {
    return this.exact === other.exact && this.values === other.values && isSame(this.prefix, other.prefix) &&
      this.types?.size === other.types?.size && [...this.types ?? []].every((type) => other.wants(type));
  }
}

/** The topics of one bucket, or of all. */
interface BucketTopics<Member> {
  /** Those of all keys. */
  readonly whole: Topic<Member>[];
  /** By the hash of the prefix; more than one where hashes are equal. */
  readonly byHash: Map<number, Topic<Member>[]>;
  /** How many topics there are with a prefix of this length. */
  readonly lengths: number[];
}

/** The topics that somebody holds. */
export class Topics<Member> {
  readonly #seed: number;
  /** By the bucket's name; undefined for those of all buckets. */
  readonly #buckets: Map<string | undefined, BucketTopics<Member>> = new Map();

  /** None yet. `seed` is random. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  /** The topic of a query, made when nobody holds it; to be given back by {@link Topics.release}. */
  hold(query: SubscribeQuery): Topic<Member> {
    const topic = this.#find(new Topic(query));
    topic.holders++;
    return topic;
  }

  /** Nobody needs it any more when this was the last who held it. */
  release(topic: Topic<Member>): void {
    if (--topic.holders > 0) return;
    const { bucket, prefix } = topic;
    const topics = this.#buckets.get(bucket)!;
    if (prefix === undefined) topics.whole.splice(topics.whole.indexOf(topic), 1);
    else {
      const hash = this.#hash(prefix);
      const rest = topics.byHash.get(hash)!.filter((other) => other !== topic);
      if (rest.length > 0) topics.byHash.set(hash, rest);
      else topics.byHash.delete(hash);
      topics.lengths[prefix.length]!--;
    }
    if (topics.whole.length === 0 && topics.byHash.size === 0) this.#buckets.delete(bucket);
  }

  /** Calls `visit` for each topic that a change of this key concerns. */
  visit(bucket: string, key: Uint8Array, visit: (topic: Topic<Member>) => void): void {
    this.#visitIn(this.#buckets.get(undefined), key, visit);
    this.#visitIn(this.#buckets.get(bucket), key, visit);
  }

  #visitIn(
    topics: BucketTopics<Member> | undefined,
    key: Uint8Array,
    visit: (topic: Topic<Member>) => void,
  ): void {
    if (topics === undefined) return;
    for (const topic of topics.whole) visit(topic);
    const { byHash, lengths } = topics;
    const longest = Math.min(key.length, lengths.length - 1);
    let hash = this.#seed;
    for (let length = 1; length <= longest; length++) {
      hash = Math.imul(hash ^ key[length - 1]!, PRIME);
      if ((lengths[length] ?? 0) === 0) continue;
      const found = byHash.get(hash);
      if (found === undefined) continue;
      for (const topic of found) {
        if (topic.prefix!.length === length && startsWith(key, topic.prefix!) && topic.fits(key)) visit(topic);
      }
    }
  }

  /** The topic that is held already and equals this one; else this one, from here on. */
  #find(wanted: Topic<Member>): Topic<Member> {
    const { bucket, prefix } = wanted;
    let topics = this.#buckets.get(bucket);
    if (topics === undefined) this.#buckets.set(bucket, topics = { whole: [], byHash: new Map(), lengths: [] });
    const hash = prefix === undefined ? 0 : this.#hash(prefix);
    const candidates = prefix === undefined ? topics.whole : topics.byHash.get(hash) ?? [];
    const found = candidates.find((other) => other.equals(wanted));
    if (found !== undefined) return found;
    candidates.push(wanted);
    if (prefix === undefined) return wanted;
    topics.byHash.set(hash, candidates);
    while (topics.lengths.length <= prefix.length) topics.lengths.push(0);
    topics.lengths[prefix.length]!++;
    return wanted;
  }

  #hash(prefix: Uint8Array): number {
    let hash = this.#seed;
    for (const byte of prefix) hash = Math.imul(hash ^ byte, PRIME);
    return hash;
  }
}

function isSame(left: Uint8Array | undefined, right: Uint8Array | undefined): boolean {
  return left === right || (left !== undefined && right !== undefined && compareBytes(left, right) === 0);
}
