/**
 * A network that breaks: connections to it go on to a server, until it cuts them.
 *
 * Clients keep one address while the server behind it is killed and comes back on another port. Of what was on the way
 * when a connection is cut nobody knows how far it came.
 *
 * @module
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** A port that leads to another. */
export class Proxy {
  readonly port: number;
  /** Where new connections lead; undefined: nowhere, they are refused. */
  target: number | undefined;
  readonly #server: Server;
  readonly #links: Set<Socket>;

  /** Listens on a port of its own. */
  static async open(target: number): Promise<Proxy> {
    const links = new Set<Socket>();
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new Proxy(server, links, target);
  }

  constructor(server: Server, links: Set<Socket>, target: number) {
    this.#server = server;
    this.#links = links;
    this.target = target;
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", (client) => this.#join(client));
  }

  /** How many connections there are. */
  get count(): number {
    return this.#links.size;
  }

  /** Cuts the connection at a place among those that are open; nothing when there is none. */
  cut(place: number): void {
    [...this.#links][place]?.destroy();
  }

  /** Cuts all and listens no more. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const client of this.#links) client.destroy();
    await closed;
  }

  #join(client: Socket): void {
    client.on("error", () => client.destroy());
    if (this.target === undefined) return void client.destroy();
    const server = connect(this.target, "127.0.0.1");
    this.#links.add(client);
    server.on("error", () => client.destroy());
    client.on("close", () => {
      this.#links.delete(client);
      server.destroy();
    });
    client.setNoDelay(true);
    server.setNoDelay(true);
    client.pipe(server);
    server.pipe(client);
  }
}
