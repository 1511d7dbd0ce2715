/**
 * Clients of a key, whatever they speak: what is asked and told is that of `test/suites/cell.ts`.
 *
 * A call whose answer does not come is {@link Lost}: what became of it nobody knows, and it is not asked again. That is
 * why REST is spoken byte by byte here: `fetch` may send a request once more when the connection is lost, and two
 * increments would be taken for one.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";
import { type Content, decodeValue } from "../../lib/base/codec.ts";
import { FirkinError } from "../../lib/base/errors.ts";
import type { Bucket, Entry, WriteResult } from "../../lib/store/bucket.ts";
import type { Store } from "../../lib/store/store.ts";
import { MEDIA_TYPES } from "../../server/representations.ts";
import type { Answer, Ask, Held } from "../suites/cell.ts";

/** No answer came. */
export class Lost extends Error {}

/** Somebody who asks for one thing after another. */
export interface Caller {
  /** @throws {Lost} whether it happened nobody knows */
  ask(bucket: string, key: string, ask: Ask): Promise<Answer>;
  close(): Promise<void>;
}

// --- WebSocket ---

/** A client of the library. */
export class WireCaller implements Caller {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async ask(bucket: string, key: string, ask: Ask): Promise<Answer> {
    try {
      return await askBucket(this.#store.bucket<string | number>(bucket), key, ask);
    } catch (error) {
      if (!(error instanceof FirkinError)) throw error;
      if (error.code === "UNAVAILABLE" || error.code === "TIMEOUT") throw new Lost(error.message, { cause: error });
      if (ask.kind === "increment" && error.code === "INVALID") return { ok: false };
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}

async function askBucket(bucket: Bucket<string | number>, key: string, ask: Ask): Promise<Answer> {
  const condition = ask.ifRevision === undefined ? {} : { ifRevision: ask.ifRevision };
  switch (ask.kind) {
    case "get":
      return { ok: true, ...heldOf(await bucket.getEntry(key)) };
    case "set":
      return writtenOf(await bucket.set(key, ask.value!, condition));
    case "remove":
      return writtenOf(await bucket.delete(key, condition));
    case "touch":
      return writtenOf(await bucket.persist(key));
    case "increment":
      return { ok: true, value: await bucket.increment(key) };
    case "take": {
      const value = await bucket.take(key);
      return { ok: value !== undefined, value };
    }
  }
}

function heldOf(entry: Entry<string | number> | undefined): { value: Held; revision: number } {
  return { value: entry?.value, revision: entry?.revision ?? 0 };
}

function writtenOf(result: WriteResult<string | number>): Answer {
  return result.ok ? result : { ok: false, ...heldOf(result.current) };
}

// --- REST ---

interface Response {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

/** A client over plain HTTP, whose connection is kept while it lasts. */
export class RestCaller implements Caller {
  readonly #port: number;
  #socket: Socket | undefined;
  #bytes: Buffer = Buffer.alloc(0);
  #resolve: (response: Response) => void = () => {};
  #reject: (error: Lost) => void = () => {};

  constructor(port: number) {
    this.#port = port;
  }

  async ask(bucket: string, key: string, ask: Ask): Promise<Answer> {
    const path = `/v1/buckets/${bucket}/keys/${key}`;
    const { ifRevision: revision } = ask;
    const condition: Record<string, string> = revision === undefined
      ? {}
      : revision === 0
      ? { "If-None-Match": "*" }
      : { "If-Match": `"${revision}"` };
    switch (ask.kind) {
      case "get": {
        const response = await this.#exchange("GET", path, { Accept: "application/json" });
        if (expectStatus(response, 200, 404) === 404) return { ok: true, value: undefined, revision: 0 };
        return { ok: true, value: jsonOf(response) as Held, revision: revisionOf(response)! };
      }
      case "set": {
        const headers = { "Content-Type": "application/json", ...condition };
        const response = await this.#exchange("PUT", path, headers, JSON.stringify(ask.value));
        return expectStatus(response, 204, 412) === 204
          ? { ok: true, revision: revisionOf(response)! }
          : inItsWay(response);
      }
      case "remove": {
        const response = await this.#exchange("DELETE", path, condition);
        if (expectStatus(response, 204, 412) === 412) return inItsWay(response);
        // What was not there is deleted already.
        const deleted = revisionOf(response);
        return deleted === undefined ? { ok: false, revision: 0 } : { ok: true, revision: deleted };
      }
      case "touch": {
        const response = await this.#post(`${path}/touch`);
        return expectStatus(response, 200, 404) === 404
          ? { ok: false, revision: 0 }
          : { ok: true, revision: revisionOf(response)! };
      }
      case "increment": {
        const response = await this.#post(`${path}/increment`);
        if (expectStatus(response, 200, 400) === 400) return { ok: false };
        return { ok: true, ...jsonOf(response) as { value: number; revision: number } };
      }
      case "take": {
        const response = await this.#post(`${path}/take`);
        if (expectStatus(response, 200, 404) === 404) return { ok: false, value: undefined };
        const content = MEDIA_TYPES.indexOf(response.headers.get("content-type")!);
        return { ok: true, value: decodeValue(response.body, content as Content) as Held };
      }
    }
  }

  #post(path: string): Promise<Response> {
    return this.#exchange("POST", path, { "Content-Type": "application/json" }, "{}");
  }

  close(): Promise<void> {
    this.#socket?.destroy();
    return Promise.resolve();
  }

  #exchange(method: string, path: string, headers: Record<string, string>, body = ""): Promise<Response> {
    const lines = Object.entries({ Host: "localhost", "Content-Length": body.length, ...headers });
    const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#bytes = Buffer.alloc(0);
      this.#socket ??= this.#open();
      this.#socket.write(`${method} ${path} HTTP/1.1\r\n${head}\r\n${body}`);
    });
  }

  #open(): Socket {
    const socket = connect(this.#port, "127.0.0.1");
    socket.on("data", (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      const response = responseOf(this.#bytes);
      if (response !== undefined) this.#resolve(response);
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      if (this.#socket === socket) this.#socket = undefined;
      this.#reject(new Lost("the connection was lost"));
    });
    return socket;
  }
}

function responseOf(bytes: Buffer): Response | undefined {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [first = "", ...lines] = bytes.toString("latin1", 0, end).split("\r\n");
  const headers = new Map(lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
  }));
  const body = bytes.subarray(end + 4);
  if (body.length < Number(headers.get("content-length") ?? 0)) return undefined;
  return { status: Number(first.split(" ")[1]), headers, body };
}

function expectStatus({ status, body }: Response, ...expected: number[]): number {
  if (!expected.includes(status)) throw new Error(`Unexpected ${status} ${String(body)}`);
  return status;
}

function jsonOf({ body }: Response): unknown {
  return JSON.parse(body.toString("utf8"));
}

function revisionOf({ headers }: Response): number | undefined {
  const tag = headers.get("etag");
  return tag === undefined ? undefined : Number(JSON.parse(tag));
}

function inItsWay(response: Response): Answer {
  const { current } = jsonOf(response) as { current: { value: Held; revision: number } | null };
  return { ok: false, value: current?.value, revision: current?.revision ?? 0 };
}
