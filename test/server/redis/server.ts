/**
 * A server with a port for Redis clients, on a store in memory, and connections to it.
 *
 * @module
 */
import type { EmbeddedEngine } from "../../../lib/engine/embedded.ts";
import { Store } from "../../../lib/store/store.ts";
import { serve, type ServeOptions, type Server } from "../../../server/mod.ts";
import { openMemoryEngine } from "../../wire/loopback.ts";
import { RespPeer } from "./peer.ts";

/** One server at a time. */
export class RedisServer {
  engine!: EmbeddedEngine;
  store!: Store;
  server!: Server;
  #peers: RespPeer[] = [];

  /** Starts it, on a new store. */
  async start(options: Partial<ServeOptions> = {}): Promise<void> {
    this.engine = await openMemoryEngine();
    this.store = new Store(this.engine);
    this.#peers = [];
    this.server = await serve({ store: this.store, port: 0, redis: { port: 0 }, ...options });
  }

  /** Closes all. */
  async stop(): Promise<void> {
    for (const peer of this.#peers) peer.close();
    await this.server.close();
    await this.engine.close();
  }

  /** A connection. */
  open(): RespPeer {
    const peer = new RespPeer({ host: "127.0.0.1", port: Number(new URL(this.server.redisUrl!).port) });
    this.#peers.push(peer);
    return peer;
  }
}
