/**
 * `connect`: a store on a server, for Bun, Deno and Node.
 *
 * The WebSocket comes from the package `ws` on all three: Node 20 has none of its own, and Deno's holds back messages
 * above 1,024 bytes for some 40 ms (Nagle's algorithm meets delayed acknowledgement). Browsers have
 * `connect_browser.ts`.
 *
 * @module
 */
import { WebSocket } from "ws";
import { systemClock } from "../base/clock.ts";
import { connectEngine } from "../engine/remote.ts";
import { Store } from "./store.ts";

/** Options of {@link connect}. */
export interface ConnectOptions {
  /**
   * Said to the server when the connection opens. A function is asked at each connection, also when the token before
   * has expired or was revoked; it has 5 s.
   */
  readonly token?: string | (() => string | Promise<string>);
  /** A call, or a connection, that has no answer after this long fails; 30,000 ms by default. */
  readonly timeoutMs?: number;
  /**
   * How many calls may wait for a connection that was lost: they are made when it is back, or fail after `timeoutMs`.
   * What is over fails at once. 10,000 by default; 0: nothing waits.
   */
  readonly offlineMax?: number;
  /** Certificates, as PEM, that a `wss://` server's may go back to, in place of the runtime's. Not in browsers. */
  readonly ca?: string;
}

/**
 * Connects to a server. What is asked in one tick travels in one message; after a lost connection it connects again and
 * subscriptions resume without gap or duplicate.
 *
 * @param url `ws://` or `wss://`, the host and the port
 * @throws {FirkinError} UNAVAILABLE, TIMEOUT — no connection; UNAUTHORIZED, PROTOCOL — the server refused it
 *
 * @example Set and get on a server
 * ```ts no-assert
 * import { connect } from "firkin";
 *
 * async function example(): Promise<void> {
 *   const store = await connect("ws://127.0.0.1:7480");
 *   await store.bucket("users").set("ada", { name: "Ada" }, { ttl: "30s" });
 *   await store.close();
 * }
 * console.log(typeof example);
 * ```
 */
export async function connect(url: string, options: ConnectOptions = {}): Promise<Store> {
  const { ca, ...linkOptions } = options;
  const openSocket = (address: string, protocols: string[]): WebSocket => {
    const socket = new WebSocket(address, protocols, { perMessageDeflate: false, ...(ca !== undefined && { ca }) });
    socket.binaryType = "nodebuffer"; // where it lies; anything else would be a copy
    return socket;
  };
  return new Store(await connectEngine(url, { ...linkOptions, openSocket, clock: systemClock }));
}
