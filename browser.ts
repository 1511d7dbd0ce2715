/**
 * firkin for browsers: the client of its server.
 *
 * @module
 */

// In the published types too: a user's own `lib` may know no Disposable.
/// <reference lib="esnext.disposable" preserve="true" />

export type { Key } from "./lib/base/bytes.ts";
export type { ContentName } from "./lib/base/codec.ts";
export { type ErrorCode, FirkinError } from "./lib/base/errors.ts";
export type { BucketInfo, ChangeType, ControlEvent } from "./lib/engine/engine.ts";
export type { BucketSettings } from "./lib/engine/settings.ts";
export {
  Bucket,
  type Entry,
  type GetOptions,
  type ListOptions,
  type SetManyEntry,
  type SetManyOptions,
  type SetOptions,
  type WriteResult,
} from "./lib/store/bucket.ts";
export type { CallOptions } from "./lib/store/abort.ts";
export { Atomic, type AtomicResult, type AtomicSetOptions } from "./lib/store/atomic.ts";
export { connect } from "./lib/store/connect_browser.ts";
export type { ConnectOptions } from "./lib/store/connect.ts";
export { type ConfigureOptions, Store, type StoreStats, type StoreSubscribeOptions } from "./lib/store/store.ts";
export { type Change, type SubscribeOptions, Subscription, type SubscriptionEvent } from "./lib/store/subscription.ts";
