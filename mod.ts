/**
 * firkin: a durable key-value store for Bun, Deno and Node, and the client of its server.
 *
 * `open` gives a store in this process, on disk or in memory; `connect` one on a server. Both are a {@link Store}.
 *
 * @module
 */

// In the published types too: a user's own `lib` may know no Disposable.
/// <reference lib="esnext.disposable" preserve="true" />

export type { Key } from "./lib/base/bytes.ts";
export { type Clock, ManualClock, systemClock, type Timer } from "./lib/base/clock.ts";
export type { ContentName } from "./lib/base/codec.ts";
export { type ErrorCode, type ErrorDetail, FirkinError, type FirkinErrorOptions } from "./lib/base/errors.ts";
export type { File, FileMode, FileSystem, Lock, LockOptions } from "./lib/fs/fs.ts";
export { MemoryFileSystem } from "./lib/fs/memory.ts";
export { NodeFileSystem } from "./lib/fs/node.ts";
export type { Hours } from "./lib/bitcask/candidates.ts";
export type { ReserveEvent } from "./lib/bitcask/reserve.ts";
export type { CompactionEvent, LogEvent, OpenEvent, PoisonedEvent, SyncPolicy, TornEvent } from "./lib/bitcask/log.ts";
export type { Repair, Uncertain, UncertainKey } from "./lib/bitcask/repair.ts";
export type {
  Damage,
  DamagedKey,
  Problem,
  RevisionGap,
  TailFinding,
  Verification,
  VerifyProgress,
} from "./lib/bitcask/verify.ts";
export {
  Bucket,
  type BucketOptions,
  type DeleteOptions,
  type Duration,
  type Entry,
  type GetOptions,
  type ListOptions,
  type SetManyEntry,
  type SetManyOptions,
  type SetOptions,
  type WriteResult,
} from "./lib/store/bucket.ts";
export type { BucketInfo, ChangeType, ControlEvent, SnapshotResult } from "./lib/engine/engine.ts";
export type { BucketSettings } from "./lib/engine/settings.ts";
export type { CallOptions } from "./lib/store/abort.ts";
export { Atomic, type AtomicResult, type AtomicSetOptions } from "./lib/store/atomic.ts";
export { connect, type ConnectOptions } from "./lib/store/connect.ts";
export { type AutomaticCompaction, open, type OpenOptions } from "./lib/store/open.ts";
export { repair, restore, type UpkeepOptions, verify } from "./lib/store/upkeep.ts";
export { type ConfigureOptions, Store, type StoreStats, type StoreSubscribeOptions } from "./lib/store/store.ts";
export { type Change, type SubscribeOptions, Subscription, type SubscriptionEvent } from "./lib/store/subscription.ts";
