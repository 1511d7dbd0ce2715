/**
 * `firkin/sessions`: sessions of web servers in a bucket: of express-session, and of Hono by hono-sessions.
 *
 * A session is a key that ends when its cookie does, so nobody has to sweep, and whoever subscribes to the bucket is
 * told when somebody has been away for too long. The types are those of the libraries by their shape.
 *
 * @module
 */
import type { Bucket, Duration } from "../store/bucket.ts";
import { clearBelow, keysBelow } from "./keys.ts";

// In the published types: who stores sessions gets along without the rest of firkin.
export type { Bucket, Duration } from "../store/bucket.ts";

/** Options of the session stores. */
export interface SessionStoreOptions {
  /** How long a session lives whose cookie does not say; a day when absent. */
  readonly ttl?: Duration;
}

const DAY = "1d";

// --- express-session ---

/** What express-session calls back with. */
type Callback<Value = void> = (error?: unknown, value?: Value) => void;

/** A session of express-session, as far as it matters here: what is left of its cookie's life, in milliseconds. */
interface ExpressSession {
  readonly cookie?: { readonly maxAge?: number | null };
}

/**
 * A store for express-session, made with the class `Store` that its module exports.
 *
 * @example
 * ```ts ignore
 * import session from "express-session";
 *
 * const sessions = createExpressStore(session.Store, store.bucket("sessions"));
 * app.use(session({ store: sessions, secret, resave: false, saveUninitialized: false }));
 * ```
 */
export function createExpressStore<Store extends object>(
  Store: abstract new () => Store,
  bucket: Bucket,
  { ttl = DAY }: SessionStoreOptions = {},
): Store {
  const lifeOf = ({ cookie }: ExpressSession): Duration => {
    return typeof cookie?.maxAge === "number" ? Math.max(Math.ceil(cookie.maxAge), 1) : ttl;
  };
  const all = async (): Promise<unknown[]> => {
    const sessions: unknown[] = [];
    for await (const { value } of bucket.list()) sessions.push(value);
    return sessions;
  };
  const count = async (): Promise<number> => {
    let sessions = 0;
    for await (const _ of keysBelow(bucket, "")) sessions++;
    return sessions;
  };
  return Object.assign(new (Store as new () => Store)(), {
    get: (id: string, done: Callback<unknown>) => answer(bucket.get(id), done),
    // What a session is beside its data only JSON tells apart.
    set: (id: string, session: ExpressSession, done?: Callback) => {
      answer(bucket.set(id, JSON.parse(JSON.stringify(session)), { ttl: lifeOf(session) }).then(nothing), done);
    },
    touch: (id: string, session: ExpressSession, done?: Callback) => {
      answer(bucket.touch(id, lifeOf(session)).then(nothing), done);
    },
    destroy: (id: string, done?: Callback) => answer(bucket.delete(id).then(nothing), done),
    all: (done: Callback<unknown[]>) => answer(all(), done),
    length: (done: Callback<number>) => answer(count(), done),
    clear: (done?: Callback) => answer(clearBelow(bucket, ""), done),
  });
}

function nothing(): void {}

/** Calls back with what a promise becomes. */
function answer<Value>(promise: Promise<Value>, done: Callback<Value> = () => {}): void {
  promise.then((value) => done(undefined, value), (error: unknown) => done(error));
}

// --- Hono ---

/** A session of hono-sessions, as far as it matters here. */
export interface HonoSessionData {
  /** When it ends, in the form of ISO 8601; null when nobody said. */
  readonly _expire: string | null;
}

/**
 * A store for hono-sessions.
 *
 * @example
 * ```ts ignore
 * import { sessionMiddleware } from "hono-sessions";
 *
 * app.use("*", sessionMiddleware({ store: new HonoStore(store.bucket("sessions")), encryptionKey }));
 * ```
 */
export class HonoStore<Data extends HonoSessionData = HonoSessionData> {
  readonly #bucket: Bucket;
  readonly #ttl: Duration;

  /** Keeps sessions in `bucket`. */
  constructor(bucket: Bucket, { ttl = DAY }: SessionStoreOptions = {}) {
    this.#bucket = bucket;
    this.#ttl = ttl;
  }

  /** A session's data; undefined when there is none. */
  async getSessionById(id?: string): Promise<Data | undefined> {
    return id === undefined ? undefined : await this.#bucket.get(id) as Data | undefined;
  }

  /** Begins a session. */
  createSession(id: string, data: Data): Promise<void> {
    return this.persistSessionData(id, data);
  }

  /** Stores a session's data; it ends when they say so. */
  async persistSessionData(id: string, data: Data): Promise<void> {
    const end = data._expire === null ? NaN : new Date(data._expire).getTime();
    await this.#bucket.set(id, data, Number.isNaN(end) ? { ttl: this.#ttl } : { expiresAt: end });
  }

  /** Ends a session. */
  async deleteSession(id: string): Promise<void> {
    await this.#bucket.delete(id);
  }
}
