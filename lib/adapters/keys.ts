/**
 * Keys below a prefix, as the adapters of other libraries list and clear them. Their keys are strings; what is none is
 * not theirs.
 *
 * @module
 */
import type { Bucket } from "../store/bucket.ts";

/** Deletes that are under way at once. */
const DELETES_MAX = 1_000;

/** The string keys that begin with `prefix`, in their order; all when it is empty. */
export async function* keysBelow(bucket: Bucket, prefix: string): AsyncGenerator<string, void, undefined> {
  for await (const { key } of bucket.list(prefix === "" ? {} : { prefix })) {
    if (typeof key === "string") yield key;
  }
}

/** Deletes them. */
export async function clearBelow(bucket: Bucket, prefix: string): Promise<void> {
  let deletes: Promise<unknown>[] = [];
  for await (const key of keysBelow(bucket, prefix)) {
    if (deletes.push(bucket.delete(key)) < DELETES_MAX) continue;
    await Promise.all(deletes);
    deletes = [];
  }
  await Promise.all(deletes);
}
