/**
 * Talks to a server over plain HTTP: byte by byte, and with every answer held against the server's description.
 *
 * @module
 */
import { connect } from "node:net";
import { expect } from "bun:test";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";

/** Sends a request as it stands and gives the whole answer: the server is asked to close behind it. */
export function talk(port: number, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.write(request.replace("\r\n", "\r\nConnection: close\r\n"), "latin1");
    });
    let answer = "";
    socket.on("data", (chunk) => {
      answer += new TextDecoder("latin1").decode(chunk);
      // Not every server closes.
      const [head = "", body] = answer.split("\r\n\r\n");
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      if (body === undefined || (body.length < length && !request.startsWith("HEAD"))) return;
      if (/transfer-encoding/i.test(head) && !answer.endsWith("0\r\n\r\n")) return;
      socket.destroy();
      resolve(answer);
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
  });
}

interface AnswerSchema {
  readonly content?: Readonly<Record<string, { readonly schema: object }>>;
  readonly headers?: object;
}

interface OpenApi {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { responses: Record<string, AnswerSchema> }>>>>;
  readonly components: { readonly schemas: object };
}

/** The description that a server gives of itself. */
export class Description {
  readonly document: OpenApi;
  readonly #ajv: Ajv2020;
  readonly #validators: Map<object, ValidateFunction> = new Map();

  constructor(document: OpenApi) {
    this.document = document;
    this.#ajv = new Ajv2020({ strict: true, allowUnionTypes: true, formats: { uri: true } });
    this.#ajv.addVocabulary(["components"]);
    this.#ajv.addSchema({ $id: "firkin", components: document.components }, "firkin");
  }

  /** Asks the server for it. */
  static async of(base: string): Promise<Description> {
    return new Description(await (await fetch(`${base}/v1/openapi.json`)).json() as OpenApi);
  }

  /** Fails when the server's answer to a request is none that it describes. */
  check(method: string, target: string, { status, headers }: Response, text: string): void {
    const responses = this.#operation(method, target.split("?", 1)[0]!)?.responses;
    const known = responses?.[status] ?? responses?.["default"];
    // Nothing is described for a path or method that is not there.
    if (known === undefined) return expect([404, 405]).toContain(status);
    const type = headers.get("content-type");
    if (known.content === undefined || method === "HEAD") return expect(text).toBe("");
    expect(Object.keys(known.content)).toContain(type!);
    const schema = known.content[type!]!.schema;
    if (!type!.endsWith("json") || Object.keys(schema).length === 0) return;
    const validate = this.#validator(schema);
    const body = JSON.parse(text);
    expect({ valid: validate(body), errors: validate.errors, body }).toMatchObject({ valid: true });
  }

  #operation(method: string, path: string): { responses: Record<string, AnswerSchema> } | undefined {
    const fitting = Object.entries(this.document.paths).filter(([template, operations]) => {
      const pattern = template.replace("{bucket}", "[^/]+").replace("{key}", ".+");
      return new RegExp(`^${pattern}$`).test(path) && method.toLowerCase() in operations;
    });
    // The longest template is the most specific.
    return fitting.sort(([left], [right]) => right.length - left.length)[0]?.[1][method.toLowerCase()];
  }

  #validator(schema: object): ValidateFunction {
    const known = this.#validators.get(schema);
    if (known !== undefined) return known;
    const text = JSON.stringify(schema).replaceAll('"#/components', '"firkin#/components');
    const validate = this.#ajv.compile(JSON.parse(text));
    this.#validators.set(schema, validate);
    return validate;
  }
}

/** An event of a stream, as a browser would take it apart. */
export interface StreamedEvent {
  readonly event: string;
  /** Undefined when the event has none; "" when it takes the last one back. */
  readonly id: string | undefined;
  readonly data: Record<string, unknown>;
}

/** Reads an event stream. */
export class EventReader {
  /** Settles when the stream is over, by itself or because it was closed. */
  readonly ended: Promise<void>;
  readonly #abort: AbortController;
  readonly #reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>; cancel(): Promise<void> };
  readonly #events: StreamedEvent[] = [];
  #text = "";
  #over = false;
  #wake: () => void = () => {};

  constructor(body: ReadableStream<Uint8Array>, abort: AbortController) {
    this.#abort = abort;
    this.#reader = body.getReader();
    this.ended = this.#read().catch(() => {}).finally(() => {
      this.#over = true;
      this.#wake();
    });
  }

  /** Opens a stream; fails when the server refuses it. */
  static async open(url: string, lastEventId?: string, token?: string): Promise<EventReader> {
    const abort = new AbortController();
    const headers = {
      accept: "text/event-stream",
      ...(lastEventId !== undefined && { "last-event-id": lastEventId }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    };
    const response = await fetch(url, { headers, signal: abort.signal });
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    return new EventReader(response.body as ReadableStream<Uint8Array>, abort);
  }

  async next(): Promise<StreamedEvent> {
    while (this.#events.length === 0) {
      if (this.#over) throw new Error("The stream is over");
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return this.#events.shift()!;
  }

  async take(count: number): Promise<StreamedEvent[]> {
    const events: StreamedEvent[] = [];
    while (events.length < count) events.push(await this.next());
    return events;
  }

  close(): void {
    // Deno does not always end a body whose request is aborted.
    this.#reader.cancel().catch(() => {});
    this.#abort.abort();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) return;
      this.#text += decoder.decode(value, { stream: true });
      const blocks = this.#text.split("\n\n");
      this.#text = blocks.pop()!;
      for (const block of blocks) this.#take(block);
      this.#wake();
    }
  }

  #take(block: string): void {
    const fields = new Map<string, string>();
    for (const line of block.split("\n")) {
      const match = /^(event|id|data|retry)?: ?(.*)$/.exec(line);
      if (match === null) throw new Error(`A line that is no field: ${JSON.stringify(line)}`);
      const [, name = "", text = ""] = match;
      if (fields.has(name)) throw new Error(`Two fields in ${JSON.stringify(block)}`);
      fields.set(name, text);
    }
    const data = fields.get("data");
    if (data === undefined) return; // a comment, or how long to wait before the next try
    this.#events.push({ event: fields.get("event")!, id: fields.get("id"), data: JSON.parse(data) });
  }
}
