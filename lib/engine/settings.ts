/**
 * What holds for all keys of a bucket, whoever writes them: kept with the store, and looked at by the engine.
 *
 * Settings say what a set means that leaves something open, and what a bucket takes. They change nothing that is
 * there: a key keeps the deadline that it was given.
 *
 * @module
 */

/** Settings of a bucket; what is absent is as it is without settings. */
export interface BucketSettings {
  /** How long a key lives that is set without a deadline, in milliseconds. `persist` takes the deadline away. */
  readonly ttl?: number;
  /** The largest value that is taken. */
  readonly valueBytesMax?: number;
  /** False: values are stored as they come. */
  readonly compression?: boolean;
  /** What people should know of the bucket: a line. */
  readonly description?: string;
}

/** Whether the settings that a bucket has may be replaced; undefined: there is no such bucket. */
export type SettingsCondition = (current: BucketSettings | undefined) => boolean;

/** The names of settings. */
export const SETTING_NAMES = ["ttl", "valueBytesMax", "compression", "description"] as const;

/** The longest description. All of a store's stand in its manifest. */
export const DESCRIPTION_LENGTH_MAX = 200;

/** A hundred years. */
const TTL_MAX = 100 * 366 * 24 * 60 * 60 * 1_000;

/**
 * Settings as they were given, checked; no value is larger than `valueBytesMax` anyhow. @throws {TypeError} of another
 * kind; {RangeError} out of range
 */
export function checkSettings(settings: Readonly<Record<string, unknown>>, valueBytesMax: number): BucketSettings {
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined) continue;
    if (name === "ttl") checkWhole(name, value, TTL_MAX);
    else if (name === "valueBytesMax") checkWhole(name, value, valueBytesMax);
    else if (name === "compression") checkType(name, typeof value, "boolean");
    else if (name === "description") {
      checkType(name, typeof value, "string");
      if ((value as string).length > DESCRIPTION_LENGTH_MAX) {
        throw new RangeError(`Cannot set description: it is longer than ${DESCRIPTION_LENGTH_MAX}`);
      }
      if (!(value as string).isWellFormed()) throw new TypeError("Cannot set description: it has a lone surrogate");
    } else {
      throw new TypeError(`Cannot set ${name}: a bucket has the settings ${SETTING_NAMES.join(", ")}`);
    }
  }
  return withoutUndefined<BucketSettings>(settings);
}

/** What of `record` is there. */
export function withoutUndefined<Kind>(record: { readonly [Name in keyof Kind]: Kind[Name] | undefined }): Kind {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Kind;
}

function checkType(name: string, found: string, type: string): void {
  if (found !== type) throw new TypeError(`Cannot set ${name}: expected a ${type}`);
}

function checkWhole(name: string, value: unknown, most: number): void {
  checkType(name, typeof value, "number");
  if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= most) return;
  throw new RangeError(`Cannot set ${name} to ${String(value)}: expected a whole number from 1 to ${most}`);
}
