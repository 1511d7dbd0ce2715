/**
 * What a runtime's network server must do for firkin: answer HTTP requests and carry WebSocket messages.
 *
 * Four implementations (`uws.ts`, `ws.ts`, `bun.ts`, `deno.ts`) sit beside this file and hold every difference
 * between the runtimes' servers; `test/suites/transport.ts` runs on each. A transport knows nothing of firkin's
 * protocol: bytes in, bytes out.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { systemClock } from "../../lib/base/clock.ts";
import { FirkinError, messageOf } from "../../lib/base/errors.ts";

/** How long a closing listener waits for the other ends before it cuts them off. */
export const CLOSE_GRACE_MS = 2_000;

/** The close code of a connection whose server stops. */
export const GOING_AWAY = 1001;

/** The facts of a handshake that decide whether it is let in. */
export interface Handshake {
  /** The request's path and query, from `/` on. */
  readonly url: string;
  /** A header that came twice holds both values, with ", " between. */
  readonly headers: Headers;
  /** Subprotocols that the client offers, in its order. */
  readonly protocols: readonly string[];
  /** The peer's IP address, "" when the runtime does not tell. */
  readonly remoteAddress: string;
}

/** An open WebSocket, as its session sees it. Calls after the close do nothing, and `send` then returns false. */
export interface Connection {
  readonly remoteAddress: string;
  /** Sends one binary message; `bytes` is not kept. False when it was dropped: ordered data cannot go on here. */
  send(bytes: Uint8Array): boolean;
  /** Bytes accepted by `send` and not yet taken by the operating system. */
  bufferedBytes(): number;
  /**
   * Starts the close handshake; buffered messages are sent first where the runtime can. No handler but `closed` is
   * called any more; some runtimes call that before `close` returns, others when the peer has answered.
   */
  close(code: number, reason: string): void;
}

/** What a transport calls for one WebSocket. None of them throws. */
export interface ConnectionHandlers {
  /** One binary message, never a Buffer. It belongs to the handler only during the call, unless it copies. */
  message(bytes: Uint8Array): void;
  /** A text message came. */
  text(): void;
  /** The outbound buffer has emptied, wholly or in part. */
  drain(): void;
  /** The connection is gone; called once, whatever the reason. The code is this side's when it closed first. */
  closed(code: number): void;
}

/** What a transport calls. */
export interface TransportHandlers {
  /**
   * Answers a plain HTTP request of a peer, whose address is as in {@link Handshake}. Never rejects. The request's body
   * is limited by the transport to `bodyBytesMax`; the response's is read whole before it is sent, and left out when
   * the method is HEAD.
   *
   * A response of the type `text/event-stream`, which has no end to wait for, is sent as it comes: its body is asked
   * for the next chunk when the system has taken the one before (some runtimes ask for a few ahead), so that a peer
   * that does not read holds up its own body and nothing else. When the peer leaves, or the listener closes, the body
   * is cancelled. When the body fails, the connection is cut; Deno cuts it when the peer next reads.
   */
  fetch(request: Request, remoteAddress: string): Promise<Response>;
  /** Decides a handshake. */
  upgrade(handshake: Handshake): Accepted | { readonly status: number; readonly body: string };
}

/** A handshake that is let in. */
export interface Accepted {
  /** The subprotocol, one of those offered. */
  readonly protocol: string;
  /** The WebSocket is open; what to call for it. Never called when the peer has left before. */
  open(connection: Connection): ConnectionHandlers;
}

/** Where and how to listen. */
export interface ListenOptions {
  readonly hostname: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** A longer WebSocket message closes its connection with 1009 (or 1006 where the runtime cannot say). */
  readonly messageBytesMax: number;
  /** A longer HTTP body is answered with 413. */
  readonly bodyBytesMax: number;
  /** A connection that sends nothing, not even a pong, for this long is closed. */
  readonly idleSeconds: number;
  /** Speaks TLS with this; in the clear when absent. */
  readonly tls?: TlsFiles;
}

/** Where a certificate is, as PEM. */
export interface TlsFiles {
  /** The certificate, followed by those between it and a root. */
  readonly certFile: string;
  /** Its private key, without a passphrase. */
  readonly keyFile: string;
}

/** The text of both. @throws {FirkinError} IO — one cannot be read; INVALID — they are no certificate and its key */
export function readTls({ certFile, keyFile }: TlsFiles): { cert: string; key: string } {
  const cert = readPem(certFile);
  const key = readPem(keyFile);
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    const state = `they are no certificate and its key, as PEM: ${messageOf(error)}`;
    throw new FirkinError("INVALID", `Cannot use ${certFile} and ${keyFile}: ${state}`);
  }
  return { cert, key };
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new FirkinError("IO", `Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** A listening server. */
export interface Listener {
  readonly hostname: string;
  /** The port in use. */
  readonly port: number;
  /**
   * Takes up the certificate as its files are now, for connections that come; those that are open go on.
   * @throws {FirkinError} IO, INVALID — as {@link readTls}; UNAVAILABLE — the port was refused to the new certificate;
   *   NOT_SUPPORTED — the runtime cannot: with each of these all is as before. CLOSED — the port was given up and
   *   cannot be bound again: nobody comes in any more
   */
  reloadTls(): Promise<void>;
  /**
   * Stops accepting, closes what is open with 1001, resolves when all is closed. A peer that does not answer is cut
   * off, after CLOSE_GRACE_MS at the latest, and so is an HTTP request that has not been answered by then.
   */
  close(): Promise<void>;
}

/** Resolves when all of `work` has settled, or after CLOSE_GRACE_MS. */
export async function withinGrace(work: Iterable<Promise<unknown>>): Promise<void> {
  await new Promise<void>((resolve) => {
    const grace = systemClock.after(CLOSE_GRACE_MS, resolve);
    void Promise.allSettled(work).then(() => {
      grace.cancel();
      resolve();
    });
  });
}

/**
 * What `listen` throws when the system refuses the address.
 *
 * @param cause What the runtime threw; its `code` tells one refusal from another
 */
export function listenError(options: Pick<ListenOptions, "hostname" | "port">, cause: unknown): FirkinError {
  const code = (cause as { readonly code?: unknown } | undefined)?.code;
  const hostname = options.hostname.includes(":") ? `[${options.hostname}]` : options.hostname;
  let state = messageOf(cause);
  if (code === "EADDRINUSE") state = "the address is in use";
  if (code === "EADDRNOTAVAIL") state = "the address is not this machine's";
  return new FirkinError("UNAVAILABLE", `Cannot listen on ${hostname}:${options.port}: ${state}`, { cause });
}

/**
 * Binds again what listened before, after the port was given up for `cause`, which no other could take over.
 *
 * @throws {FirkinError} CLOSED — it cannot be bound, such as one below 1024 without the privilege that it took
 */
export function rebound<Bound>(bind: () => Bound, cause: unknown): Bound {
  try {
    return bind();
  } catch {
    const state = `the port is given up and not to be had again: ${messageOf(cause)}`;
    throw new FirkinError("CLOSED", `Cannot go on: ${state}`, { cause });
  }
}

/** uWebSockets.js or `ws` on Node, Bun.serve, Deno.serve. */
export type TransportName = "uws" | "ws" | "bun" | "deno";

/** One runtime's server. */
export interface Transport {
  readonly name: TransportName;
  /** Starts listening. @throws {FirkinError} UNAVAILABLE — the address is in use or not this machine's */
  listen(options: ListenOptions, handlers: TransportHandlers): Promise<Listener>;
}
