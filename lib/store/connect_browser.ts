/**
 * `connect`: a store on a server, for browsers and other runtimes with a WebSocket of their own.
 *
 * @module
 */
import { systemClock } from "../base/clock.ts";
import { connectEngine } from "../engine/remote.ts";
import type { OpenSocket } from "../wire/link.ts";
import type { ConnectOptions } from "./connect.ts";
import { Store } from "./store.ts";

/** Connects to a server: see `connect` in `connect.ts`. */
export async function connect(url: string, options: ConnectOptions = {}): Promise<Store> {
  const { WebSocket } = globalThis as unknown as {
    readonly WebSocket: new (url: string, protocols: string[]) => ReturnType<OpenSocket> & { binaryType: string };
  };
  const openSocket: OpenSocket = (address, protocols) => {
    const socket = new WebSocket(address, protocols);
    socket.binaryType = "arraybuffer";
    return socket;
  };
  return new Store(await connectEngine(url, { ...options, openSocket, clock: systemClock }));
}
