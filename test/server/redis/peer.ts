/**
 * The other end of RESP, byte for byte: what a test sends need not be RESP, and what comes is shown as it came.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { connect, type NetConnectOpts, type Socket } from "node:net";

/** Where the reply at `start` ends, -1 when it has not all come. */
function endOf(bytes: Buffer, start: number): number {
  const line = bytes.indexOf("\r\n", start);
  if (line === -1) return -1;
  const kind = String.fromCharCode(bytes[start]!);
  const count = Number(bytes.toString("latin1", start + 1, line));
  if (kind === "$" || kind === "=") {
    const end = count === -1 ? line + 2 : line + 2 + count + 2;
    return end <= bytes.length ? end : -1;
  }
  let end = line + 2;
  if (!"*%~>".includes(kind)) return end;
  for (let left = kind === "%" ? 2 * count : Math.max(count, 0); left > 0; left--) {
    end = endOf(bytes, end);
    if (end === -1) return -1;
  }
  return end;
}

/** A command as RESP. */
export function encode(args: readonly (string | Uint8Array)[]): Buffer {
  const parts: Buffer[] = [Buffer.from(`*${args.length}\r\n`)];
  for (const arg of args) {
    const bytes = Buffer.from(arg);
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
  }
  return Buffer.concat(parts);
}

/** One connection. */
export class RespPeer {
  readonly socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);
  #isOver = false;
  #wake: () => void = () => {};

  constructor(target: NetConnectOpts) {
    this.socket = connect(target);
    this.socket.on("data", (piece: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, piece]);
      this.#wake();
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.#isOver = true;
      this.#wake();
    });
  }

  /** Sends bytes as they are. */
  send(bytes: string | Uint8Array): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  /** The next reply as it came, in latin1; "closed" when the connection is over. */
  async reply(): Promise<string> {
    for (;;) {
      const end = this.#bytes.length === 0 ? -1 : endOf(this.#bytes, 0);
      if (end !== -1) {
        const reply = this.#bytes.toString("latin1", 0, end);
        this.#bytes = this.#bytes.subarray(end);
        return reply;
      }
      if (this.#isOver) return "closed";
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  /** The reply to one command. */
  ask(...args: (string | Uint8Array)[]): Promise<string> {
    this.send(encode(args));
    return this.reply();
  }

  /** The replies to commands that are sent in one piece. */
  async askAll(commands: readonly (readonly (string | Uint8Array)[])[]): Promise<string[]> {
    this.send(Buffer.concat(commands.map(encode)));
    const replies: string[] = [];
    for (let left = commands.length; left > 0; left--) replies.push(await this.reply());
    return replies;
  }

  /** Lets go. */
  close(): void {
    this.socket.destroy();
  }
}
