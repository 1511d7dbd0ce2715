/**
 * What commands ask of a server beside its keys: plain requests to the address of its WebSocket, with the same token
 * and the same certificates.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { request as requestPlain } from "node:http";
import { request as requestTls } from "node:https";
import { text } from "node:stream/consumers";
import { type ErrorCode, ERRORS, FirkinError, messageOf } from "../../lib/base/errors.ts";
import { type TargetFlags, tokenOf } from "./targets.ts";

const PATIENCE_MS = 30_000;

/** Asks the server; what it answers, from JSON. @throws {FirkinError} what the server says, or UNAVAILABLE */
export async function askServer<Answer>(
  flags: TargetFlags,
  method: "GET" | "PUT" | "POST" | "DELETE",
  path: string,
  body?: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const url = new URL(path, flags.url.replace(/^ws/, "http"));
  const token = tokenOf(flags);
  const hasBody = method === "POST" || method === "PUT";
  const { status, answer } = await send(url, {
    method,
    timeout: PATIENCE_MS,
    ...(flags.ca !== undefined && { ca: readFileSync(flags.ca, "utf8") }),
    headers: {
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(hasBody && { "content-type": "application/json" }),
      ...headers,
    },
  }, hasBody ? JSON.stringify(body ?? {}) : undefined);
  const parsed = parse(answer);
  if (status >= 200 && status < 300) return parsed as Answer;
  const { code, detail } = (parsed ?? {}) as { readonly code?: string; readonly detail?: string };
  const known = code !== undefined && Object.hasOwn(ERRORS, code) ? code as ErrorCode : undefined;
  if (known === undefined && (status === 404 || status === 412)) {
    throw new FirkinError("INVALID", detail ?? "There is nothing at this path");
  }
  throw new FirkinError(known ?? "UNAVAILABLE", detail ?? `${url.host} answers with ${status}`);
}

interface RequestOptions {
  readonly method: string;
  readonly timeout: number;
  readonly ca?: string;
  readonly headers: Record<string, string>;
}

function send(
  url: URL,
  options: RequestOptions,
  body: string | undefined,
): Promise<{ readonly status: number; readonly answer: string }> {
  return new Promise((resolve, reject) => {
    const failed = (error: unknown): void => {
      reject(new FirkinError("UNAVAILABLE", `Cannot reach ${url.origin}: ${messageOf(error)}`, { cause: error }));
    };
    const request = (url.protocol === "https:" ? requestTls : requestPlain)(url, options, (response) => {
      text(response).then((answer) => resolve({ status: response.statusCode ?? 0, answer }), failed);
    });
    request.once("error", failed);
    request.once("timeout", () => request.destroy(new Error("no answer in time")));
    request.end(body);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
