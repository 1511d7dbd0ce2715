/**
 * Buckets and their settings as they stand in frames.
 *
 * A reader may not be told everything about a bucket, and a setting may be absent: both are null. Settings that are
 * not told are one null, in the place of the array.
 *
 * @module
 */
import { FirkinError } from "../base/errors.ts";
import type { BucketInfo } from "../engine/engine.ts";
import { type BucketSettings, withoutUndefined } from "../engine/settings.ts";
import type { CborReader, CborWriter } from "./cbor.ts";
import { expectItems, readTextOrNull, readUintOrNull, writeTextOrNull, writeUintOrNull } from "./protocol.ts";

/** Items of a bucket, and of its settings. On the wire: never change one. */
const BUCKET_ITEMS = 4;
const SETTINGS_ITEMS = 4;
/** Buckets of one reply, each with the nine items that it is at most: a frame has at most 10,000. */
const PAGE_BUCKETS_MAX = 1_000;

/** Some of the buckets, in the order of their names. `more` is false when the last are among them. */
export interface BucketPage {
  readonly buckets: readonly BucketInfo[];
  readonly more: boolean;
}

/** Writes buckets as two items: as many as fit a frame, and whether there are more. */
export function writeBuckets(writer: CborWriter, buckets: readonly BucketInfo[]): void {
  const count = Math.min(buckets.length, PAGE_BUCKETS_MAX);
  writer.array(count);
  for (let index = 0; index < count; index++) {
    const { name, keys, bytes, settings } = buckets[index]!;
    writer.array(BUCKET_ITEMS);
    writer.text(name);
    writeUintOrNull(writer, keys);
    writeUintOrNull(writer, bytes);
    if (settings === undefined) writer.null();
    else writeSettings(writer, settings);
  }
  writer.bool(count < buckets.length);
}

/**
 * Reads what {@link writeBuckets} wrote of the buckets behind `after`: who asks for page after page comes to an end.
 * @throws {FirkinError} PROTOCOL — they are not in order, or there are more and none of them here
 */
export function readBuckets(reader: CborReader, after = ""): BucketPage {
  const buckets: BucketInfo[] = [];
  for (let left = reader.array(); left > 0; left--) {
    expectItems(reader.array(), BUCKET_ITEMS);
    const name = reader.text();
    if (name <= (buckets.at(-1)?.name ?? after)) {
      throw new FirkinError("PROTOCOL", "Cannot read buckets: they are not in order");
    }
    buckets.push(withoutUndefined<BucketInfo>({
      name,
      keys: readUintOrNull(reader),
      bytes: readUintOrNull(reader),
      settings: reader.skipNull() ? undefined : readSettings(reader),
    }));
  }
  const more = reader.bool();
  if (more && buckets.length === 0) throw new FirkinError("PROTOCOL", "Cannot read buckets: a page of them is empty");
  return { buckets, more };
}

/** Writes settings as one array. */
export function writeSettings(writer: CborWriter, settings: BucketSettings): void {
  const { ttl, valueBytesMax, compression, description } = settings;
  writer.array(SETTINGS_ITEMS);
  writeUintOrNull(writer, ttl);
  writeUintOrNull(writer, valueBytesMax);
  if (compression === undefined) writer.null();
  else writer.bool(compression);
  writeTextOrNull(writer, description);
}

/** Reads what {@link writeSettings} wrote; whether a bucket may have them is judged where it is configured. */
export function readSettings(reader: CborReader): BucketSettings {
  expectItems(reader.array(), SETTINGS_ITEMS);
  return withoutUndefined<BucketSettings>({
    ttl: readUintOrNull(reader),
    valueBytesMax: readUintOrNull(reader),
    compression: reader.skipNull() ? undefined : reader.bool(),
    description: readTextOrNull(reader),
  });
}
