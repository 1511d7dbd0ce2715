/**
 * Which subscriptions a key concerns: an index of what is subscribed to.
 *
 * A topic is a bucket or all of them, or the keys there with a prefix; subscriptions to the same share one. The topics
 * of a key are found in one pass over its bytes: a hash of the bytes so far is looked up wherever some prefix of that
 * length is subscribed to. So a change costs its key's length, whether one prefix is subscribed to or a hundred
 * thousand. The hash only proposes; the bytes decide. It is seeded, so that nobody can aim prefixes at one hash.
 *
 * @module
 */
import { compareBytes, startsWith } from "../base/bytes.ts";

/** FNV-1a's prime. */
const PRIME = 0x01000193;

/** What subscriptions of one filter share. */
export class Topic<Member> {
  /** All buckets when undefined. */
  readonly bucket: string | undefined;
  /** All keys when undefined. */
  readonly prefix: Uint8Array | undefined;
  /** Those who want to hear of the next change; who is told leaves. */
  readonly waiting: Set<Member> = new Set();
  /** Subscriptions that hold it. */
  holders = 0;

  constructor(bucket: string | undefined, prefix: Uint8Array | undefined) {
    this.bucket = bucket;
    this.prefix = prefix;
  }

  /** True when a change of this key is its business. */
  matches(bucket: string, key: Uint8Array): boolean {
    return (this.bucket === undefined || this.bucket === bucket) &&
      (this.prefix === undefined || startsWith(key, this.prefix));
  }
}

/** The topics of one bucket, or of all. */
interface BucketTopics<Member> {
  whole: Topic<Member> | undefined;
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

  /** The topic of a filter, made when nobody holds it; to be given back by {@link Topics.release}. */
  hold(bucket: string | undefined, prefix: Uint8Array | undefined): Topic<Member> {
    const topic = this.#find(bucket, prefix !== undefined && prefix.length > 0 ? prefix : undefined);
    topic.holders++;
    return topic;
  }

  /** Nobody needs it any more when this was the last who held it. */
  release(topic: Topic<Member>): void {
    if (--topic.holders > 0) return;
    const { bucket, prefix } = topic;
    const topics = this.#buckets.get(bucket)!;
    if (prefix === undefined) topics.whole = undefined;
    else {
      const hash = this.#hash(prefix);
      const rest = topics.byHash.get(hash)!.filter((other) => other !== topic);
      if (rest.length > 0) topics.byHash.set(hash, rest);
      else topics.byHash.delete(hash);
      topics.lengths[prefix.length]!--;
    }
    if (topics.whole === undefined && topics.byHash.size === 0) this.#buckets.delete(bucket);
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
    if (topics.whole !== undefined) visit(topics.whole);
    const { byHash, lengths } = topics;
    const longest = Math.min(key.length, lengths.length - 1);
    let hash = this.#seed;
    for (let length = 1; length <= longest; length++) {
      hash = Math.imul(hash ^ key[length - 1]!, PRIME);
      if ((lengths[length] ?? 0) === 0) continue;
      const found = byHash.get(hash);
      if (found === undefined) continue;
      for (const topic of found) {
        if (topic.prefix!.length === length && startsWith(key, topic.prefix!)) visit(topic);
      }
    }
  }

  #find(bucket: string | undefined, prefix: Uint8Array | undefined): Topic<Member> {
    let topics = this.#buckets.get(bucket);
    if (topics === undefined) {
      this.#buckets.set(bucket, topics = { whole: undefined, byHash: new Map(), lengths: [] });
    }
    if (prefix === undefined) return topics.whole ??= new Topic<Member>(bucket, undefined);
    const hash = this.#hash(prefix);
    const found = topics.byHash.get(hash) ?? [];
    let topic = found.find((other) => compareBytes(other.prefix!, prefix) === 0);
    if (topic === undefined) {
      topic = new Topic<Member>(bucket, prefix.slice());
      topics.byHash.set(hash, [...found, topic]);
      while (topics.lengths.length <= prefix.length) topics.lengths.push(0);
      topics.lengths[prefix.length]!++;
    }
    return topic;
  }

  #hash(prefix: Uint8Array): number {
    let hash = this.#seed;
    for (const byte of prefix) hash = Math.imul(hash ^ byte, PRIME);
    return hash;
  }
}
