/**
 * What every transport promises, run against the real runtime as a process of its own.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import {
  BODY_BYTES_MAX,
  EchoClient,
  type EchoServer,
  MESSAGE_BYTES_MAX,
  PROTOCOL,
  talk,
} from "../server/fixtures/echo_client.ts";
import { type Certificate, makeCertificate, OPENSSL } from "./certificate.ts";

const ECHO = 0;
const CLOSE = 1;
const FLOOD = 2;
const TRICKLE = 3;

function bytesOf(...bytes: number[]): Uint8Array {
  return new Uint8Array(bytes);
}

/** A message to echo: the command, then a number that tells it from others. */
function numbered(index: number, length = 5): Uint8Array {
  const message = new Uint8Array(length);
  new DataView(message.buffer).setUint32(1, index);
  return message;
}

/** Asks for `count` messages of `size` bytes, all at once or each when the one before has left. */
function flood(count: number, size: number, command = FLOOD): Uint8Array {
  const message = new Uint8Array(9);
  message[0] = command;
  new DataView(message.buffer).setUint32(1, count);
  new DataView(message.buffer).setUint32(5, size);
  return message;
}

/** Runs the tests against the application of `test/server/fixtures/echo.ts`, as `start` starts it. */
export function runTransportSuite(name: string, start: () => Promise<EchoServer>): void {
  let server: EchoServer;

  beforeAll(async () => {
    server = await start();
  });

  afterAll(async () => {
    await server.stop();
  });

  describe(`Transport ${name}: handshake`, () => {
    test.each([
      ["a comma and a space", ["other", PROTOCOL, "third"]],
      ["a comma alone", [`other,${PROTOCOL},third`]],
    ])("listen() accepts with the chosen subprotocol alone, of offers between %s", async (_, protocols) => {
      const client = await EchoClient.open(server.port, { protocols });
      expect(client.status).toBe(101);
      expect(client.headers.match(/sec-websocket-protocol:.*/g)).toEqual([`sec-websocket-protocol: ${PROTOCOL}`]);
      expect(client.headers).not.toContain("sec-websocket-extensions");
      client.destroy();
    });

    test("listen() refuses a handshake that offers no subprotocol with 400", async () => {
      const client = await EchoClient.open(server.port, { protocols: [] });
      expect([client.status, client.body]).toEqual([400, `offer ${PROTOCOL}`]);
      client.destroy();
    });

    test("listen() refuses a handshake with the status and body of upgrade()", async () => {
      const client = await EchoClient.open(server.port, { path: "/forbidden?yes", headers: ["X-Who: you"] });
      expect([client.status, client.body]).toEqual([403, "no you"]);
      client.destroy();
    });

    test("Connection.close() works while the connection is being opened", async () => {
      const client = await EchoClient.open(server.port, { path: "/busy" });
      expect(client.status).toBe(101);
      expect(await client.closed).toEqual({ code: 1013, reason: "busy" });
      expect((await server.report(({ closed }) => closed.length > 0)).closed).toEqual([1013]);
    });
  });

  describe(`Transport ${name}: messages`, () => {
    test("Connection.send() gives back what came, of any length class", async () => {
      const client = await EchoClient.open(server.port);
      for (const length of [1, 2, 125, 126, 65_535, 65_536, 1024 * 1024, MESSAGE_BYTES_MAX]) {
        const message = new Uint8Array(length).map((_, index) => index % 251);
        client.send(message);
        const echoed = await client.next();
        expect(echoed.byteLength).toBe(length);
        expect(echoed.every((byte, index) => byte === message[index])).toBe(true);
      }
      client.destroy();
    });

    test("ConnectionHandlers.message() is given a Uint8Array that is no Buffer", async () => {
      const client = await EchoClient.open(server.port);
      client.send(bytesOf(ECHO));
      await client.next();
      expect(await server.report()).toMatchObject({ type: "Uint8Array", remoteAddress: "127.0.0.1" });
      client.destroy();
    });

    test("Connection.send() keeps the order of 1,000 messages", async () => {
      const client = await EchoClient.open(server.port);
      for (let index = 0; index < 1_000; index++) client.send(numbered(index));
      for (let index = 0; index < 1_000; index++) expect(await client.next()).toEqual(numbered(index));
      client.destroy();
    });

    test("ConnectionHandlers.text() is called for a text message, and message() is not", async () => {
      const client = await EchoClient.open(server.port);
      client.sendText("hello");
      client.send(bytesOf(ECHO, 7));
      expect(await client.next()).toEqual(bytesOf(ECHO, 7));
      expect((await server.report()).texts).toBe(1);
      client.destroy();
    });

    test("listen() closes a connection whose message is over messageBytesMax", async () => {
      const client = await EchoClient.open(server.port);
      client.send(new Uint8Array(MESSAGE_BYTES_MAX + 1));
      expect([1009, 1006]).toContain((await client.closed).code);
      expect((await server.report(({ closed }) => closed.length > 0)).closed.length).toBe(1);
    });

    test("Connection.send() loses nothing to a slow reader, and drain() follows", async () => {
      const count = 256;
      const size = 64 * 1024;
      const client = await EchoClient.open(server.port);
      client.pause();
      client.send(flood(count, size));
      const stuck = await server.report(({ bufferedBytes }) => bufferedBytes > 0);
      expect(stuck.bufferedBytes).toBeLessThanOrEqual(count * (size + 16));
      client.resume();
      for (let index = 0; index < count; index++) {
        const message = await client.next();
        expect(message.byteLength).toBe(size);
        expect(new DataView(message.buffer).getUint32(0)).toBe(index);
      }
      const drained = await server.report(({ bufferedBytes, drains }) => bufferedBytes === 0 && drains > stuck.drains);
      expect(drained.closed).toEqual([]);
      client.destroy();
    });
  });

  describe(`Transport ${name}: drain`, () => {
    test("Connection.send() in drain() sends all of it, also when it is long", async () => {
      const client = await EchoClient.open(server.port);
      client.send(flood(200, 1024 * 1024, TRICKLE));
      for (let index = 0; index < 200; index++) {
        const message = await client.next();
        expect(message.byteLength).toBe(1024 * 1024);
        expect(new DataView(message.buffer).getUint32(0)).toBe(index);
      }
      client.destroy();
    });
  });

  describe(`Transport ${name}: close`, () => {
    test("Connection.close() tells the client code and reason", async () => {
      const client = await EchoClient.open(server.port);
      client.send(bytesOf(CLOSE, 4408 >> 8, 4408 & 0xff, ...new TextEncoder().encode("too slow")));
      expect(await client.closed).toEqual({ code: 4408, reason: "too slow" });
      const report = await server.report(({ closed }) => closed.length > 0);
      expect([report.closed, report.sendAfterClose]).toEqual([[4408], false]);
    });

    test("ConnectionHandlers.closed() is called once when the client closes", async () => {
      const client = await EchoClient.open(server.port);
      client.close(4000, "enough");
      await client.closed;
      const report = await server.report(({ closed }) => closed.length > 0);
      expect([report.closed, report.sendAfterClose]).toEqual([[4000], false]);
      expect((await server.report()).closed.length).toBe(1);
    });

    test("ConnectionHandlers.closed() is called once when the client vanishes", async () => {
      const client = await EchoClient.open(server.port);
      client.destroy();
      const report = await server.report(({ closed }) => closed.length > 0);
      expect([report.closed, report.sendAfterClose]).toEqual([[1006], false]);
    });
  });

  describe(`Transport ${name}: HTTP`, () => {
    test("listen() answers GET with status, headers and body", async () => {
      const response = await server.fetch("/hello");
      expect([response.status, response.headers.get("x-firkin"), await response.text()]).toEqual([200, "yes", "hello"]);
      const missing = await server.fetch("/missing");
      expect([missing.status, await missing.text()]).toEqual([404, "nothing here"]);
      const empty = await server.fetch("/empty");
      expect([empty.status, await empty.text()]).toEqual([204, ""]);
    });

    test("listen() hands over method, path, query, Host and the peer's address", async () => {
      const facts = await (await server.fetch("/facts?a=1&b=%2F", { method: "PUT" })).json();
      expect(facts).toEqual({
        method: "PUT",
        target: "/facts?a=1&b=%2F",
        host: `127.0.0.1:${server.port}`,
        remoteAddress: "127.0.0.1",
      });
    });

    test("listen() hands over a body up to bodyBytesMax", async () => {
      const body = new Uint8Array(BODY_BYTES_MAX).map((_, index) => index % 251);
      const response = await server.fetch("/echo", { method: "POST", body });
      expect(new Uint8Array(await response.arrayBuffer())).toEqual(body);
    });

    test("listen() answers a longer body with 413", async () => {
      const response = await server.fetch("/echo", { method: "POST", body: new Uint8Array(BODY_BYTES_MAX + 1) });
      expect(response.status).toBe(413);
      await response.arrayBuffer();
      const chunked = await talk(
        server.port,
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" +
          `${(BODY_BYTES_MAX + 1).toString(16)}\r\n${"x".repeat(BODY_BYTES_MAX + 1)}\r\n0\r\n\r\n`,
        (answer) => answer.includes("\r\n\r\n"),
      );
      expect(chunked).toContain("HTTP/1.1 413");
    });

    test("listen() sends no body in answer to HEAD", async () => {
      // A body that came after all would stand before the next answer on the same connection.
      let asked = false;
      const answers = await talk(server.port, "HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", (answer, write) => {
        if (!asked && answer.includes("\r\n\r\n")) write("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
        asked ||= answer.includes("\r\n\r\n");
        return (answer.match(/\r\n\r\n/g)?.length ?? 0) > 1 && answer.endsWith("hello");
      });
      expect(answers.match(/HTTP\/1.1 200/g)?.length).toBe(2);
      expect(answers.match(/hello/g)?.length).toBe(1);
    });

    test("listen() lets no request with two lengths through", async () => {
      const answer = await talk(
        server.port,
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        (text) => text.includes("\r\n\r\n"),
      );
      expect(answer).not.toContain("HTTP/1.1 2");
    });

    test("listen() hands over no request whose Host is no host", async () => {
      const upgrade = `Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Protocol: ${PROTOCOL}\r\n`;
      for (const path of ["/facts", "*", "//", "http://[/"]) {
        for (const rest of ["", upgrade]) {
          const request = `GET ${path} HTTP/1.1\r\nHost: a b@c\r\n${rest}\r\n`;
          const answer = await talk(server.port, request, (text) => text.includes("\r\n\r\n"));
          expect(answer).toMatch(/^HTTP.1.1 (?!101|500)/);
        }
      }
      expect((await server.fetch("/hello")).status).toBe(200);
    });

    test("listen() survives a peer that leaves in the middle of a body", async () => {
      await new Promise<void>((resolve) => {
        const socket = connect(server.port, "127.0.0.1", () => {
          socket.write("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf", () => {
            socket.destroy();
            resolve();
          });
        });
      });
      expect((await server.fetch("/hello")).status).toBe(200);
    });

    test("listen() survives a peer that leaves before the answer", async () => {
      const left = new AbortController();
      const lost = server.fetch("/wait", { signal: left.signal }).then(() => "answered", () => "lost");
      await server.fetch("/waited");
      left.abort();
      expect(await lost).toBe("lost");
      await server.fetch("/go");
      expect((await server.fetch("/hello")).status).toBe(200);
    });
  });

  describe(`Transport ${name}: streams`, () => {
    /** A request whose answer is not read until `resume`. */
    async function open(path: string, port = server.port): Promise<Socket> {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      await new Promise<void>((resolve) => {
        socket.once("readable", resolve);
        socket.once("close", resolve); // before anything was to be read
      });
      return socket;
    }

    /** All that comes until the connection or the body ends. */
    function rest(socket: Socket): Promise<string> {
      return new Promise((resolve) => {
        let text = "";
        socket.on("data", (chunk) => {
          text += new TextDecoder("latin1").decode(chunk);
          if (!text.endsWith("\r\n0\r\n\r\n")) return;
          socket.destroy();
          resolve(text);
        });
        if (socket.destroyed) resolve(text);
        else socket.on("close", () => resolve(text));
      });
    }

    /** Waits until no more chunks are asked for, and tells how many were. */
    async function stalled(): Promise<number> {
      for (let before = 0;;) {
        const { chunks } = await server.body(() => true);
        if (chunks > 0 && chunks === before) return chunks;
        before = chunks;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }

    test("listen() sends a stream's chunk before the next is there, and its end", async () => {
      const response = await server.fetch("/slow");
      expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
      const reader = response.body!.getReader();
      const first = await reader.read();
      expect(new TextDecoder().decode(first.value)).toBe("data: line\n\n");
      await server.fetch("/go");
      const second = await reader.read();
      expect(new TextDecoder().decode(second.value)).toBe("data: line\n\n");
      expect((await reader.read()).done).toBe(true);
      expect(await server.body(() => true)).toEqual({ chunks: 3, cancelled: false });
    });

    test("listen() asks for no more chunks while the peer does not read", async () => {
      const socket = await open("/endless");
      socket.pause();
      const asked = await stalled();
      // What the system takes before it says stop is some MiB; 64 KiB are a chunk.
      expect(asked).toBeLessThan(400);
      socket.resume();
      await server.body(({ chunks }) => chunks > asked);
      socket.destroy();
      await server.body(({ cancelled }) => cancelled);
    });

    test("listen() cancels a stream when the peer leaves while it waits", async () => {
      const socket = await open("/slow");
      await server.body(({ chunks }) => chunks === 2);
      socket.destroy();
      await server.body(({ cancelled }) => cancelled);
      expect((await server.fetch("/hello")).status).toBe(200);
    });

    test("listen() ends a stream that fails so that nobody takes it for whole", async () => {
      const answer = await rest(await open("/broken"));
      expect(answer).not.toContain("\r\n0\r\n\r\n");
      expect((await server.fetch("/hello")).status).toBe(200);
    });

    test("listen() cuts off a peer that does not read when its stream fails", async () => {
      const socket = await open("/stuck");
      socket.pause();
      await stalled();
      // From here on, however it is told: the answer to the next request may come later.
      const cut = new Promise((resolve) => socket.once("close", resolve));
      await server.fetch("/go");
      // A socket that is not read learns of its end when it writes.
      const poke = setInterval(() => socket.write("x"), 20);
      if (name !== "deno") await cut;
      clearInterval(poke);
      // Deno sees it when the peer reads.
      if (name === "deno") expect(await rest(socket.resume())).not.toContain("\r\n0\r\n\r\n");
    });

    test("Listener.close() lets what is being answered be answered", async () => {
      const { port } = await (await server.fetch("/listen?port=0")).json() as { port: number };
      const whole = fetch(`http://127.0.0.1:${port}/wait`);
      await server.fetch("/waited");
      const closed = server.fetch("/unlisten");
      // It has begun to close, and waits.
      for (let tries = 0; tries < 20; tries++) await server.fetch("/hello");
      await server.fetch("/go");
      expect(await (await whole).text()).toBe("at last");
      expect(await (await closed).text()).toBe("closed");
    });

    test("Listener.close() lets a stream end that ends", async () => {
      const { port } = await (await server.fetch("/listen?port=0")).json() as { port: number };
      const answer = rest(await open("/slow", port));
      await server.body(({ chunks }) => chunks === 2);
      const closed = server.fetch("/unlisten");
      for (let tries = 0; tries < 20; tries++) await server.fetch("/hello");
      await server.fetch("/go");
      expect(await answer).toContain("\r\n0\r\n\r\n");
      expect(await (await closed).text()).toBe("closed");
    });

    test("Listener.close() cancels a stream and cuts its connection", async () => {
      const { port } = await (await server.fetch("/listen?port=0")).json() as { port: number };
      const socket = await open("/slow", port);
      const answer = rest(socket);
      expect(await (await server.fetch("/unlisten")).text()).toBe("closed");
      expect(await answer).not.toContain("\r\n0\r\n\r\n");
      await server.body(({ cancelled }) => cancelled);
    });

    test("listen() refuses targets that not everyone reads alike", async () => {
      const head = (target: string): string => `GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
      const targets = [
        "/a/../facts",
        "/a/%2e%2E/facts",
        "/./facts",
        "/a/.%2e",
        "/a\\..\\facts",
        "/facts#a",
        "/fac\u00e9ts",
      ];
      for (const target of targets) {
        const answer = await talk(server.port, head(target), (text) => text.includes("\r\n\r\n"));
        // Bun has resolved the dots, escaped the rest and shows nobody what was there.
        expect([target, answer.slice(9, 12)]).toEqual([
          target,
          name === "bun" && !target.includes("#") ? expect.any(String) : "400",
        ]);
      }
      const fine = await talk(server.port, head("/facts?..=/../&a=%2F"), (text) => text.endsWith("}"));
      expect(fine).toContain('"target":"/facts?..=/../&a=%2F"');
    });
  });

  describe(`Transport ${name}: listener`, () => {
    test("listen() on a port in use throws UNAVAILABLE with the address", async () => {
      const failure = await (await server.fetch(`/listen?port=${server.port}`)).json() as Record<string, string>;
      expect(failure["code"]).toBe("UNAVAILABLE");
      expect(failure["message"]).toContain(`Cannot listen on 127.0.0.1:${server.port}: the address is in use`);
    });

    test("Listener.close() closes what is open with 1001, and the port", async () => {
      const { port } = await (await server.fetch("/listen?port=0")).json() as { port: number };
      const client = await EchoClient.open(port);
      client.send(bytesOf(ECHO));
      await client.next();
      expect(await (await server.fetch("/unlisten")).text()).toBe("closed");
      expect((await client.closed).code).toBe(1001);
      expect((await server.report()).closed).toEqual([1001]);
      const again = await EchoClient.open(port).then(() => "open", () => "refused");
      expect(again).toBe("refused");
    });

    test.each(["GET /hel", "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"])(
      "Listener.close() gives up a peer that has sent %j",
      async (half) => {
        const { port } = await (await server.fetch("/listen?port=0")).json() as { port: number };
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => {});
        await new Promise<void>((resolve) => socket.write(half, () => resolve()));
        await fetch(`http://127.0.0.1:${port}/hello`);
        expect(await (await server.fetch("/unlisten")).text()).toBe("closed");
        socket.destroy();
      },
    );

    test("Listener.close() gives up a peer that does not answer", async () => {
      const { port } = await (await server.fetch("/listen?port=0")).json() as { port: number };
      const client = await EchoClient.open(port);
      client.send(bytesOf(ECHO));
      await client.next();
      client.pause();
      expect(await (await server.fetch("/unlisten")).text()).toBe("closed");
      expect((await server.report()).closed).toEqual([1001]);
      client.destroy();
    });
  });

  describe(`Transport ${name}: TLS`, () => {
    const secureTest = test.skipIf(OPENSSL === undefined);
    const certificates: Certificate[] = [];
    afterAll(() => certificates.forEach((certificate) => certificate.remove()));

    function certificate(): Certificate {
      const made = makeCertificate();
      certificates.push(made);
      return made;
    }

    async function listen(certFile: string, keyFile: string): Promise<{ port: number; message?: string }> {
      const query = new URLSearchParams({ port: "0", cert: certFile, key: keyFile });
      return await (await server.fetch(`/listen?${query.toString()}`)).json() as { port: number };
    }

    secureTest("listen() speaks TLS with a certificate, and nothing else", async () => {
      const { certFile, keyFile, ca } = certificate();
      const { port } = await listen(certFile, keyFile);
      const client = await EchoClient.open(port, { ca });
      const message = numbered(7, 1024 * 1024);
      client.send(message);
      expect(await client.next()).toEqual(message);
      expect(await server.report()).toMatchObject({ remoteAddress: "127.0.0.1" });
      client.destroy();
      const request = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
      expect(await talk(port, request, (text) => text.endsWith("hello"), ca)).toContain(" 200 ");
      const clear = await talk(port, request, (text) => text.endsWith("hello")).catch(() => "");
      expect(clear).not.toContain("hello");
      const other = certificate().ca;
      const strange = await talk(port, request, (text) => text.endsWith("hello"), other).catch(() => "refused");
      expect(strange).toBe("refused");
      await server.fetch("/unlisten");
    });

    secureTest("Listener.reloadTls() takes up another certificate, or none, and drops nobody", async () => {
      const [first, second] = [certificate(), certificate()];
      const { port } = await listen(first.certFile, first.keyFile);
      const client = await EchoClient.open(port, { ca: first.ca });
      const reload = async (): Promise<string> => await (await server.fetch("/reload")).text();
      const isIn = async (ca: string): Promise<boolean> => {
        const request = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
        const answer = await talk(port, request, (text) => text.endsWith("hello"), ca).catch(() => "refused");
        return answer !== "refused";
      };
      copyFileSync(second.certFile, first.certFile);
      expect(await reload()).toMatch(/^(INVALID|NOT_SUPPORTED)$/);
      expect([await isIn(first.ca), await isIn(second.ca)]).toEqual([true, false]);
      copyFileSync(second.keyFile, first.keyFile);
      const outcome = await reload();
      // What each runtime can do is written in docs/SECURITY.md.
      expect(outcome).toBe(name === "deno" ? "NOT_SUPPORTED" : "reloaded");
      const isNew = outcome === "reloaded";
      expect([await isIn(first.ca), await isIn(second.ca)]).toEqual([!isNew, isNew]);
      if (isNew) expect([await reload(), await isIn(second.ca)]).toEqual(["reloaded", true]);
      const message = numbered(7, 1024);
      client.send(message);
      expect(await client.next()).toEqual(message);
      await server.fetch("/unlisten");
      expect(await client.closed).toMatchObject({ code: 1001 });
      expect(await isIn(second.ca)).toBe(false);
    });

    secureTest("listen() refuses files that are no certificate and its key", async () => {
      const [first, second] = [certificate(), certificate()];
      const wrong = [
        [first.certFile, second.keyFile],
        [first.keyFile, first.keyFile],
        [first.certFile, first.certFile],
        [first.certFile, `${first.keyFile}.missing`],
        ["/", first.keyFile],
      ] as const;
      for (const [certFile, keyFile] of wrong) {
        expect((await listen(certFile, keyFile)).message).toMatch(/^Cannot (?:use|read|listen on) /);
      }
    });
  });
}
