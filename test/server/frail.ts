/**
 * A server that does not last, as its clients see it: one address, behind which connections break and processes end.
 *
 * It is the command `serve` as a process of its own, with the policy `always`, on a folder that outlives it.
 *
 * @module
 */
import { type Served, Workplace } from "./command.ts";
import { Proxy } from "./proxy.ts";

/** A server that is killed and comes back, behind a network that breaks. */
export class FrailServer {
  readonly #place = new Workplace();
  #served!: Served;
  #proxy!: Proxy;
  /** Resolves while there is a server. */
  up: Promise<void> = Promise.resolve();

  static async open(): Promise<FrailServer> {
    const server = new FrailServer();
    try {
      await server.#start();
      return server;
    } catch (error) {
      await server.#place.end();
      throw error;
    }
  }

  /** The port that clients know. */
  get port(): number {
    return this.#proxy.port;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  /** Cuts one connection or none, as it is drawn. */
  cut(draw: (below: number) => number): void {
    this.#proxy.cut(draw(this.#proxy.count + 1));
  }

  /** Ends the process, as it is told to or at once, and starts the next. */
  restart(signal: "SIGTERM" | "SIGKILL"): void {
    this.#proxy.target = undefined;
    this.#served.command.kill(signal);
    this.up = this.#served.command.ended.then(() => this.#start());
    // Who waits for it learns of a failure; nobody may.
    this.up.catch(() => {});
  }

  async end(): Promise<void> {
    await this.#proxy.close();
    await this.#place.end();
  }

  async #start(): Promise<void> {
    this.#served = await this.#place.serve(["--data-dir", "data", "--sync", "always", "--listen", "127.0.0.1:0"]);
    this.#proxy ??= await Proxy.open(this.#served.port);
    this.#proxy.target = this.#served.port;
  }
}
