/**
 * A server of bare WebSockets on the runtime's own library: the yardstick for what firkin's adds.
 *
 * Every message that comes is published to all connections. Prints its port. Deno has no way to publish: there each
 * connection is sent to.
 *
 * @module
 */
import process from "node:process";
import { runtime } from "./harness.ts";

const TOPIC = "all";

/** What is used of uWebSockets.js. */
interface RawSocket {
  subscribe(topic: string): boolean;
}

interface RawApp {
  ws(pattern: string, behaviour: object): RawApp;
  publish(
    topic: string,
    message: ArrayBuffer | Uint8Array,
    isBinary: boolean,
  ): boolean;
  listen(
    host: string,
    port: number,
    callback: (socket: object) => void,
  ): RawApp;
}

interface RawLibrary {
  App(): RawApp;
  us_socket_local_port(socket: object): number;
}

async function serveNode(): Promise<void> {
  const name: string = "uWebSockets.js";
  const library = (await import(name) as { default: RawLibrary }).default;
  const app = library.App();
  app.ws("/*", {
    maxPayloadLength: 2 ** 21,
    idleTimeout: 60,
    open: (socket: RawSocket) => socket.subscribe(TOPIC),
    message: (_: RawSocket, message: ArrayBuffer) => app.publish(TOPIC, message, true),
  });
  app.listen(
    "127.0.0.1",
    0,
    (socket) => console.log(library.us_socket_local_port(socket)),
  );
}

function serveBun(): void {
  const { Bun } = globalThis as unknown as {
    readonly Bun: {
      serve(
        options: object,
      ): {
        readonly port: number;
        publish(topic: string, message: Uint8Array): number;
      };
    };
  };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request: Request, self: { upgrade(request: Request): boolean }) => {
      return self.upgrade(request) ? undefined : new Response("", { status: 400 });
    },
    websocket: {
      open: (socket: RawSocket) => socket.subscribe(TOPIC),
      message: (_: RawSocket, message: Uint8Array) => server.publish(TOPIC, message),
    },
  });
  console.log(server.port);
}

function serveDeno(): void {
  const { Deno } = globalThis as unknown as {
    readonly Deno: {
      serve(
        options: object,
        handler: (request: Request) => Response,
      ): { readonly addr: { readonly port: number } };
      upgradeWebSocket(
        request: Request,
      ): { readonly socket: WebSocket; readonly response: Response };
    };
  };
  const sockets = new Set<WebSocket>();
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
  }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => void sockets.add(socket);
    socket.onclose = () => void sockets.delete(socket);
    socket.onmessage = ({ data }) => sockets.forEach((each) => each.send(data as ArrayBuffer));
    return response;
  });
  console.log(server.addr.port);
}

process.on("SIGTERM", () => process.exit(0));
if (runtime().name === "node") await serveNode();
else if (runtime().name === "bun") serveBun();
else serveDeno();
