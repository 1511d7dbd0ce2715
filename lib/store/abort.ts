/**
 * Calls that their caller may give up.
 *
 * Giving up is the caller's alone: nothing takes a request back that is on its way. A write may have happened, and what
 * was taken is gone.
 *
 * @module
 */

/**
 * Options of every call.
 *
 * @example Give up when nobody waits for the answer any more
 * ```ts
 * import { open } from "firkin";
 *
 * const store = await open(":memory:");
 * const page = new AbortController();
 * const visits = store.bucket<number>("visits").increment("home", 1, { signal: page.signal });
 * page.abort(new Error("The page is left"));
 * await visits.catch((error: Error) => console.log(error.message)); // The page is left
 * await store.close();
 * ```
 */
export interface CallOptions {
  /** When it is aborted the call rejects with its reason, and what comes of it later nobody hears. */
  readonly signal?: AbortSignal;
}

/** What `ask` resolves to, unless `signal` is aborted before; when it is already, nothing is asked. */
export function abortable<Result>(signal: AbortSignal | undefined, ask: () => Promise<Result>): Promise<Result> {
  if (signal === undefined) return ask();
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", abort);
    ask().finally(() => signal.removeEventListener("abort", abort)).then(resolve, reject);
  });
}
