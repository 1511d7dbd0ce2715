/**
 * The client's end of a session, frame by frame: what a test sends need not be well-formed.
 *
 * @module
 */
import { expect } from "bun:test";
import { CONTENT } from "../../lib/base/codec.ts";
import { type ErrorCode, errorCodeOf } from "../../lib/base/errors.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { CborReader, CborWriter } from "../../lib/wire/cbor.ts";
import { OP, type OpName } from "../../lib/wire/protocol.ts";
import { EVERYONE, type Guest } from "../../server/auth.ts";
import { Session, type SessionHost } from "../../server/session.ts";
import { bytesOf } from "../suites/engine_subject.ts";
import { guestOf } from "../wire/loopback.ts";

/** An item of a frame, as a test writes it; what is read has no objects. */
export type Item = number | string | boolean | null | Uint8Array | Item[];

function write(writer: CborWriter, item: Item): void {
  if (typeof item === "number") writer.number(item);
  else if (typeof item === "string") writer.text(item);
  else if (typeof item === "boolean") writer.bool(item);
  else if (item === null) writer.null();
  else if (item instanceof Uint8Array) writer.bytes(item);
  else {
    writer.array(item.length);
    for (const inner of item) write(writer, inner);
  }
}

function read(reader: CborReader, bytes: Uint8Array): Item {
  const head = bytes[reader.position]!;
  if (head >> 5 === 4) return Array.from({ length: reader.array() }, () => read(reader, bytes));
  if (head >> 5 === 3) return reader.text();
  if (head >> 5 === 2) return new TextDecoder().decode(reader.bytes());
  if (reader.skipNull()) return null;
  if (head === 0xf4 || head === 0xf5) return reader.bool();
  return reader.number();
}

/** One message of frames. */
export function message(...frames: Item[][]): Uint8Array {
  const writer = new CborWriter();
  for (const frame of frames) write(writer, frame);
  return writer.take().slice();
}

/** The frames of one message. */
export function framesOf(bytes: Uint8Array): Item[][] {
  const reader = new CborReader().reset(bytes);
  const frames: Item[][] = [];
  while (!reader.atEnd()) {
    reader.seek(reader.position);
    frames.push(read(reader, bytes) as Item[]);
  }
  return frames;
}

/** A connection that a test holds the other end of. */
export class Peer {
  readonly session: Session;
  readonly messages: Uint8Array[] = [];
  closedWith: number | undefined;
  /** True: what is sent stays in the outbound buffer. */
  stalled = false;
  buffered = 0;

  constructor(host: SessionHost, guest: Guest = guestOf(EVERYONE)) {
    this.session = new Session(
      {
        remoteAddress: "127.0.0.1",
        send: (bytes) => {
          this.messages.push(bytes.slice());
          if (this.stalled) this.buffered += bytes.length;
          return true;
        },
        bufferedBytes: () => this.buffered,
        close: (code) => {
          this.closedWith ??= code;
          this.session.closed();
        },
      },
      host,
      guest,
    );
  }

  send(...frames: Item[][]): void {
    const bytes = message(...frames);
    this.session.message(bytes);
    // They belonged to the session during the call only.
    bytes.fill(0xff);
  }

  hello(): void {
    this.send([OP.hello, 1, 1, null]);
    this.messages.length = 0;
  }

  drain(): void {
    this.stalled = false;
    this.buffered = 0;
    this.session.drain();
  }

  /** Every frame that came so far, and none of it again. */
  frames(): Item[][] {
    return this.messages.splice(0).flatMap(framesOf);
  }

  /** The code of the error frame that is the only answer. */
  errorCode(): ErrorCode {
    const frames = this.frames();
    expect(frames.length).toBe(1);
    expect(frames[0]![0]).toBe(1);
    return errorCodeOf(frames[0]![2] as number);
  }
}

/** A well-formed request of each operation. */
export const REQUESTS: Readonly<Record<OpName, Item[]>> = {
  hello: [1, null],
  get: ["b", bytesOf("k")],
  getMany: ["b", [bytesOf("k"), bytesOf("x")]],
  set: ["b", bytesOf("k"), CONTENT.text, bytesOf("value"), null, null, null, false],
  delete: ["b", bytesOf("x"), null],
  touch: ["b", bytesOf("k"), null, null],
  increment: ["b", bytesOf("n"), 1],
  list: ["b", null, null, null, null, false, 10],
  subscribe: ["b", null, bytesOf("k"), 2, true, false, null, null],
  unsubscribe: [1],
  ping: [],
  stats: [],
  sync: [],
  compact: [],
  more: [1, 10],
  take: ["b", bytesOf("x")],
  has: ["b", bytesOf("k")],
  auth: ["token"],
  buckets: [null],
  configure: ["b", [60_000, null, true, "of a test"]],
  atomic: [[
    [0, "b", bytesOf("x"), 0],
    [1, "b", bytesOf("k"), CONTENT.text, bytesOf("value"), null, null, false],
    [2, "b", bytesOf("x")],
  ]],
  setMany: ["b", [
    [bytesOf("k"), CONTENT.text, bytesOf("value"), null, null, false],
    [bytesOf("y"), CONTENT.text, bytesOf("value"), 60_000, null, true],
  ]],
};

/** One to four changes: a byte set, a bit flipped, a part cut out, doubled, or the end cut off. */
export function mutated(source: Uint8Array, draw: (below: number) => number): Uint8Array {
  let bytes = [...source];
  for (let left = draw(4); left >= 0; left--) {
    const at = draw(bytes.length + 1);
    const length = draw(8);
    switch (draw(5)) {
      case 0:
        bytes[at] = draw(256);
        break;
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << draw(8));
        break;
      case 2:
        bytes.splice(at, length);
        break;
      case 3:
        bytes.splice(at, 0, ...bytes.slice(at, at + length));
        break;
      default:
        bytes = bytes.slice(0, at);
    }
  }
  return Uint8Array.from(bytes);
}

/** The engine's calls as plain functions, for a test to replace some. */
export function engineOf(engine: Engine): Engine {
  return {
    capabilities: { sync: false, snapshot: false },
    limits: engine.limits,
    epoch: engine.epoch,
    get: (...args) => engine.get(...args),
    getMany: (...args) => engine.getMany(...args),
    has: (...args) => engine.has(...args),
    take: (...args) => engine.take(...args),
    atomic: (operations) => engine.atomic(operations),
    setMany: (...args) => engine.setMany(...args),
    set: (...args) => engine.set(...args),
    delete: (...args) => engine.delete(...args),
    touch: (...args) => engine.touch(...args),
    increment: (...args) => engine.increment(...args),
    list: (...args) => engine.list(...args),
    subscribe: (query) => engine.subscribe(query),
    buckets: (name) => engine.buckets(name),
    configure: (...args) => engine.configure(...args),
    stats: () => engine.stats(),
    sync: () => engine.sync(),
    compact: () => engine.compact(),
    close: () => engine.close(),
  };
}
