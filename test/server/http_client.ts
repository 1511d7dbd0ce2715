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
    if (known === undefined) return void expect([404, 405]).toContain(status);
    const type = headers.get("content-type");
    if (known.content === undefined || method === "HEAD") return void expect(text).toBe("");
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
