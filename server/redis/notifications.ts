/**
 * Keyspace notifications: changes of keys as messages on channels, `__keyspace@0__:mykey` with the name of what
 * happened, and `__keyevent@0__:expired` with the key.
 *
 * They come from the engine's feed, like everybody's events: whatever protocol the change came over, in the order of
 * the log, and a key that expires is told when it does. So there are the names of what the log knows: `set` of every
 * write of a value, `expire` behind it when the key has a deadline then, `del`, `expired` and `evicted`. The feed is
 * read only for who has subscribed, and no faster than it reads.
 *
 * @module
 */
import { encodeText } from "../../lib/base/bytes.ts";
import type { ChangeEvent, ChangeType, SubscribeQuery } from "../../lib/engine/engine.ts";
import { isBucketName } from "../../lib/engine/engine.ts";
import { type Effort, literalPrefix, matchesGlob } from "./glob.ts";
import { latin1 } from "./numbers.ts";

/** What CONFIG SET notify-keyspace-events takes: A stands for all kinds of events. */
const FLAGS = /^[KEg$lshzxetdmnA]*$/;
const ALL = "g$lshzxetd";
const OTHERS = "KEmn";

/** The names of a change, and the kind of each. */
const NAMES: Readonly<Record<ChangeType, readonly (readonly [name: string, flag: string])[]>> = {
  set: [["set", "$"], ["expire", "g"]],
  delete: [["del", "g"]],
  take: [["del", "g"]],
  expire: [["expired", "x"]],
  evict: [["evicted", "e"]],
};

/** The flags in the form in which Redis gives them back; undefined when they are none. */
export function normalFlags(flags: string): string | undefined {
  if (!FLAGS.test(flags)) return undefined;
  const has = (flag: string): boolean => flags.includes(flag) || (flags.includes("A") && ALL.includes(flag));
  const kinds = ALL.split("").filter(has).join("");
  return (kinds === ALL ? "A" : kinds) + OTHERS.split("").filter(has).join("");
}

/** What a channel, or a pattern of channels, asks of the feed; undefined when it is about no keys. */
export function queryOf(name: Uint8Array, isPattern: boolean): SubscribeQuery | undefined {
  const text = latin1(isPattern ? literalPrefix(name) : name);
  if (!text.startsWith("__key")) return undefined;
  const match = /^__key(space|event)@([a-z0-9][a-z0-9_-]*?)__:/.exec(text);
  const query: { values: false; bucket?: string; key?: Uint8Array; types?: ChangeType[] } = { values: false };
  if (match === null) return isPattern ? query : undefined;
  const [whole, kind, bucket = ""] = match;
  if (!isBucketName(bucket)) return undefined;
  query.bucket = bucket;
  if (isPattern) return query;
  if (kind === "space") query.key = name.slice(whole.length);
  else query.types = typesOf(text.slice(whole.length));
  return query.types?.length === 0 || query.key?.length === 0 ? undefined : query;
}

function typesOf(name: string): ChangeType[] {
  return (Object.keys(NAMES) as ChangeType[]).filter((type) => NAMES[type].some(([known]) => known === name));
}

/** A message about a change. */
export interface Notification {
  readonly channel: Uint8Array;
  readonly payload: Uint8Array;
}

/** What is told of a change to who listens to `name`, and to `flags`; adds what it took to find out to `effort`. */
export function notificationsOf(
  event: ChangeEvent,
  name: Uint8Array,
  isPattern: boolean,
  flags: string,
  effort: Effort,
): readonly Notification[] {
  const { type, bucket, key, expiresAt } = event;
  const notifications: Notification[] = [];
  for (const [what, flag] of NAMES[type]) {
    if (what === "expire" && expiresAt === undefined) continue;
    if (!flags.includes(flag) && !(flags.includes("A") && ALL.includes(flag))) continue;
    const keyspace = { channel: joined(`__keyspace@${bucket}__:`, key), payload: encodeText(what) };
    const keyevent = { channel: encodeText(`__keyevent@${bucket}__:${what}`), payload: key };
    if (flags.includes("K")) notifications.push(keyspace);
    if (flags.includes("E")) notifications.push(keyevent);
  }
  return notifications.filter(({ channel }) => {
    // Each was put together, too.
    effort.steps += channel.length;
    return isPattern ? matchesGlob(name, channel, effort) : latin1(channel) === latin1(name);
  });
}

function joined(head: string, key: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(head.length + key.length);
  bytes.set(encodeText(head));
  bytes.set(key, head.length);
  return bytes;
}
