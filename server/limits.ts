/**
 * Every limit of a server that a client may meet: its name and its default. What is beyond one is in docs/PROTOCOL.md.
 *
 * @module
 */
import { WIRE_LIMITS, type WireLimits } from "../lib/wire/protocol.ts";

/** The limits of a server: those that it tells its clients, and its own. */
export interface ServerLimits extends WireLimits {
  /** A connection that has not said hello after this long is closed. */
  readonly helloMs: number;
  /** The longest first message: nobody is known before it. */
  readonly helloBytesMax: number;
  /** The patterns and prefixes that one Redis client listens to, together: each is held against every name. */
  readonly patternBytesMax: number;
  /** Messages of Redis clients that wait to be held against dear patterns, together; beyond it, none is taken. */
  readonly publishBytesMax: number;
  /** Requests of one connection that run at once; while there are more, no further one is read. */
  readonly runningMax: number;
  /** Bytes waiting to be sent on one connection, beyond which nothing more is read for it. */
  readonly outboundBytesMax: number;
  /** A connection that is over `outboundBytesMax` for this long is closed; so is an event stream that is not read. */
  readonly outboundMs: number;
  /** Replies of requests that already run may pass `outboundBytesMax`, but not this: the connection is closed. */
  readonly outboundHardBytesMax: number;
  /** Bytes waiting on all connections; beyond it, one that is over its own `outboundBytesMax` is closed at once. */
  readonly outboundTotalBytesMax: number;
  /** Event streams open at once. */
  readonly streamsMax: number;
  /** The same of one address; for servers with authentication. */
  readonly streamsPerAddressMax: number;
  /** Connections open at once. */
  readonly connectionsMax: number;
  /** The same of one address. This and the next two are for servers with authentication. */
  readonly connectionsPerAddressMax: number;
  /** Of those, ones that have not yet said who they are. */
  readonly unauthenticatedPerAddressMax: number;
  /** Wrong credentials of one address in a minute, after which it is refused until the minute is over. */
  readonly authFailuresPerMinuteMax: number;
  /** A connection that sends nothing, not even a pong, for this long is closed. */
  readonly idleMs: number;
  /** A connection that has been open for this long is closed; its client comes back. */
  readonly lifetimeMs: number;
}

/** What a server's limits are when nobody says otherwise. */
export const SERVER_LIMITS: ServerLimits = {
  ...WIRE_LIMITS,
  helloMs: 5_000,
  helloBytesMax: 4 * 1_024,
  patternBytesMax: 64 * 1_024,
  publishBytesMax: 32 * 1_024 * 1_024,
  runningMax: 256,
  outboundBytesMax: 1_024 * 1_024,
  outboundMs: 10_000,
  // What runs when a reader stalls may be a few pages, and values that were taken and must not be lost.
  outboundHardBytesMax: 32 * 1_024 * 1_024,
  outboundTotalBytesMax: 256 * 1_024 * 1_024,
  streamsMax: 1_000,
  streamsPerAddressMax: 64,
  connectionsMax: 10_000,
  connectionsPerAddressMax: 256,
  unauthenticatedPerAddressMax: 20,
  authFailuresPerMinuteMax: 10,
  idleMs: 60_000,
  lifetimeMs: 24 * 60 * 60 * 1_000,
};
