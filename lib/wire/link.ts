/**
 * A client's end of the wire: one WebSocket that comes back, and the requests that travel on it.
 *
 * 1. Everything asked in one tick travels in one message; one that has grown to a third of all that is on the way
 *    leaves early, so that both ends work at once. Replies come in any order and find their request by its id.
 * 2. No more is on the way than the server said it takes: `requestsMax` requests and `messageBytesMax` bytes. What is
 *    over waits here, in order, and so does what is asked while there is no connection.
 * 3. A request that was on the way when the connection was lost is rejected and never sent again: whether the server
 *    ran it is unknown. A request that still waits is sent on the next connection.
 * 4. A connection is tried again after a growing, jittered delay, unless the server said that trying is of no use.
 *    Silence is found out by a ping.
 *
 * @module
 */
import type { Clock, Timer } from "../base/clock.ts";
import { errorCodeOf, FirkinError, messageOf } from "../base/errors.ts";
import type { ChangeEvent } from "../engine/engine.ts";
import { CborReader, CborWriter } from "./cbor.ts";
import {
  CHANGE_ITEMS,
  CLOSE,
  CLOSE_FINAL,
  expectItems,
  FRAME,
  OP,
  readChange,
  readLimits,
  SHAPES,
  SUBPROTOCOL,
  VERSION,
  WIRE_LIMITS,
  type WireLimits,
} from "./protocol.ts";
import { nothing, type ReadReply, type Request, Requests } from "./requests.ts";

/** How long a request may take when nobody says otherwise. */
const TIMEOUT_MS = 30_000;
/** Requests that wait for a lost connection when nobody says otherwise. */
const OFFLINE_MAX = 10_000;
/** Silence after which a ping is sent. */
const SILENCE_MS = 20_000;
/** The first delay before a connection is tried again; each further one is twice as long. */
const RETRY_MS_FIRST = 100;
const RETRY_MS_MAX = 10_000;
/** How long the end of a closed connection is waited for. */
const CLOSE_MS = 1_000;
/**
 * A message leaves early when it is as long as this part of what is on the way: while one is being answered, the next
 * travels and the third is written. (In one message, 64 gets at a time took 1.7 times as long, and as much of the
 * processor: Node 20.) Short ones are not worth a message of their own, and the longest need not be in memory at once.
 */
const FLUSH_PART = 1 / 3;
const FLUSH_BYTES_MIN = 1_024;
const FLUSH_BYTES_MAX = 64 * 1_024;
const SETTLED = Promise.resolve();

/** What a link needs of a WebSocket: the browser's interface. */
export interface Socket {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  /** Sends one binary message; `data` is overwritten as soon as this returns. */
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

/**
 * Opens a WebSocket whose binary messages come as an `ArrayBuffer`, or as bytes that nobody writes to. Compression must
 * be off: the bytes of `send` are not its to keep.
 */
export type OpenSocket = (url: string, protocols: string[]) => Socket;

/** Credentials, or who gets fresh ones. */
export type Token = string | (() => string | Promise<string>);

/** Options of a link, and of `connectEngine`. */
export interface LinkOptions {
  readonly openSocket: OpenSocket;
  readonly clock: Clock;
  /** Said to the server in `hello`; a function is asked for one at each connection, and has 5 s. */
  readonly token?: Token;
  /** A request, or a connection, that has no answer after this long fails; 30 s when absent. */
  readonly timeoutMs?: number;
  /** How many requests may wait for a connection that is lost; others fail at once. 10,000 when absent; 0: none. */
  readonly offlineMax?: number;
}

/** Whom a link tells what the server says unasked. Nothing of this throws. */
export interface LinkHandlers {
  /** A connection is there, the first or another. */
  connected(): void;
  /** The connection is lost and will be tried again. */
  lost(): void;
  /** There will be no further connection. */
  ended(error: FirkinError): void;
  /** A change for a channel, in a frame of `bytes`. */
  change(channel: number, event: ChangeEvent, bytes: number): void;
  /** A word about a channel, in a frame of `bytes`. */
  control(channel: number, word: number, cursor: string, bytes: number): void;
}

/** Operations that mean something on one connection only. */
const BOUND: ReadonlySet<number> = new Set([OP.subscribe, OP.unsubscribe, OP.more, OP.auth]);

/** One WebSocket that comes back, and the requests on it. */
export class Link {
  /** Resolves with the first connection. @throws {FirkinError} UNAVAILABLE, TIMEOUT, UNAUTHORIZED, PROTOCOL */
  readonly opened: Promise<void>;
  readonly #url: string;
  readonly #openSocket: OpenSocket;
  readonly #clock: Clock;
  readonly #token: Token | undefined;
  readonly #timeoutMs: number;
  readonly #offlineMax: number;
  readonly #handlers: LinkHandlers;
  readonly #reader: CborReader = new CborReader();
  readonly #writer: CborWriter = new CborWriter();
  readonly #requests: Requests = new Requests();
  /** Of those, the ones not sent, because there is no connection or no room on it; oldest first. */
  readonly #waiting: Set<Request> = new Set();
  /** The request whose frame is being written, and where it begins. */
  #opened: Request | undefined;
  #openedAt = 0;
  /** What the constructor of a promise gave last. */
  #resolve: (result: never) => void = nothing;
  #reject: (error: unknown) => void = nothing;
  #resolveOpened: () => void = () => {};
  #rejectOpened: (error: FirkinError) => void = () => {};
  #limits: WireLimits = WIRE_LIMITS;
  #epoch = "";
  #socket: Socket | undefined;
  #ready = false;
  #wasReady = false;
  #end: FirkinError | undefined;
  #told: FirkinError | undefined;
  #finished = false;
  #closing: Promise<void> | undefined;
  #onFinished: () => void = () => {};
  #flushing = false;
  /** Requests that were sent, and the bytes of their frames. */
  #sentCount = 0;
  #sentBytes = 0;
  #attempts = 0;
  #heardAt = 0;
  #now = 0;
  #connectTimer: Timer | undefined;
  #expiryTimer: Timer | undefined;
  #silenceTimer: Timer | undefined;
  /** A client that has not been closed keeps its process alive, also while it has no connection. */
  readonly #hold: Timer;

  /** Begins to connect. @throws whatever `openSocket` says of a wrong `url` */
  constructor(url: string, options: LinkOptions, handlers: LinkHandlers) {
    this.#url = url;
    this.#openSocket = options.openSocket;
    this.#clock = options.clock;
    this.#token = options.token;
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#offlineMax = options.offlineMax ?? OFFLINE_MAX;
    this.#handlers = handlers;
    this.opened = new Promise((resolve, reject) => {
      this.#resolveOpened = resolve;
      this.#rejectOpened = reject;
    });
    this.#connect();
    this.#hold = options.clock.hold();
  }

  /** What the server said in its last reply to `hello`. */
  get limits(): WireLimits {
    return this.#limits;
  }

  /** The epoch of the server's store, as its last reply to `hello` has it; empty before the first. */
  get epoch(): string {
    return this.#epoch;
  }

  /** True while requests can be sent. */
  get ready(): boolean {
    return this.#ready;
  }

  /** True when there will be no further connection. */
  get ended(): boolean {
    return this.#end !== undefined;
  }

  /**
   * Asks; `write` puts the arguments into the frame before this returns, `read` takes the results out of the reply.
   * `timeoutMs` is Infinity for what may take as long as it takes.
   */
  request<Result>(
    op: number,
    write: (writer: CborWriter) => void,
    read: (reader: CborReader) => Result,
    timeoutMs: number = this.#timeoutMs,
  ): Promise<Result> {
    try {
      write(this.begin(op));
      return this.send(read, undefined, timeoutMs);
    } catch (error) {
      return this.refuse(error);
    }
  }

  /**
   * Begins the frame of a request; its arguments go into what this returns. Then comes {@link Link.send}, or after a
   * failure {@link Link.refuse}, with nothing of this link in between: a request in three steps needs no functions made
   * for it alone. @throws {FirkinError} CLOSED, UNAVAILABLE
   */
  begin(op: number): CborWriter {
    if (this.#end !== undefined) throw this.#end;
    if (!this.#ready && (BOUND.has(op) || (this.#wasReady && this.#waiting.size >= this.#offlineMax))) {
      throw this.#unavailable("there is no connection");
    }
    const writer = this.#writer;
    // One look at the clock for all requests of a tick.
    if (writer.length === 0) this.#now = this.#clock.monotonic();
    this.#openedAt = writer.length;
    const request = this.#opened = this.#requests.add();
    request.op = op;
    this.#head(op, request.id);
    return writer;
  }

  /** Sends the frame that was begun. @throws {FirkinError} TOO_LARGE */
  send<Subject, Result>(
    read: ReadReply<Subject, Result>,
    subject: Subject,
    timeoutMs: number = this.#timeoutMs,
  ): Promise<Result> {
    const start = this.#openedAt;
    const request = this.#opened!;
    const bytes = this.#writer.length - start;
    if (bytes > this.#limits.messageBytesMax) {
      throw new FirkinError("TOO_LARGE", `Cannot send ${bytes} bytes: at most ${this.#limits.messageBytesMax}`);
    }
    const promise = new Promise<Result>(this.#keep);
    this.#opened = undefined;
    request.bytes = bytes;
    request.expiresAt = this.#now + timeoutMs;
    request.read = read as ReadReply<never, unknown>;
    request.subject = subject;
    request.resolve = this.#resolve;
    request.reject = this.#reject;
    this.#place(request, start);
    return promise;
  }

  /** Forgets the frame that was begun, if one was, because of `error`. */
  refuse(error: unknown): Promise<never> {
    if (this.#opened !== undefined) {
      this.#writer.rewind(this.#openedAt);
      this.#requests.remove(this.#opened);
      this.#opened = undefined;
    }
    return Promise.reject(error);
  }

  readonly #keep = (resolve: (result: never) => void, reject: (error: unknown) => void): void => {
    this.#resolve = resolve;
    this.#reject = reject;
  };

  /** Takes no more requests, waits for the answers to those on the way, and closes. */
  close(): Promise<void> {
    this.#end ??= new FirkinError("CLOSED", "Cannot use the connection: it is closed");
    this.#closing ??= new Promise((resolve) => this.#onFinished = resolve);
    if (this.#finished) this.#onFinished();
    else this.#closeWhenIdle();
    return this.#closing;
  }

  // --- requests ---

  #head(op: number, id: number): void {
    this.#writer.array(2 + SHAPES[op]!.args);
    this.#writer.uint(op);
    this.#writer.uint(id);
  }

  /** Lets a request that stands in the writer from `start` leave with the next flush, or wait. */
  #place(request: Request, start: number): void {
    if (this.#ready && this.#waiting.size === 0 && this.#hasRoom(request.bytes)) {
      this.#leave(request);
    } else {
      request.frame = this.#writer.cut(start);
      this.#waiting.add(request);
    }
    if (this.#expiryTimer === undefined) this.#watchExpiry();
  }

  #hasRoom(bytes: number): boolean {
    if (this.#sentCount === 0) return true;
    const { requestsMax, messageBytesMax } = this.#limits;
    return this.#sentCount < requestsMax && this.#sentBytes + bytes <= messageBytesMax;
  }

  /** Sends what waits, as far as there is room. */
  #sendWaiting(): void {
    for (const request of this.#waiting) {
      if (!this.#ready || !this.#hasRoom(request.bytes)) return;
      this.#waiting.delete(request);
      this.#writer.raw(request.frame!);
      request.frame = undefined;
      this.#leave(request);
    }
  }

  /** Lets a request whose frame stands at the writer's end leave with the next flush. */
  #leave(request: Request): void {
    this.#sentCount++;
    this.#sentBytes += request.bytes;
    const enough = Math.min(Math.max(this.#sentBytes * FLUSH_PART, FLUSH_BYTES_MIN), FLUSH_BYTES_MAX);
    if (this.#writer.length > enough) this.#flush();
    else this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    // As queueMicrotask, which costs twice as much in Node.
    void SETTLED.then(this.#flushNow);
  }

  readonly #flushNow = (): void => {
    this.#flushing = false;
    this.#flush();
  };

  #flush(): void {
    if (this.#writer.length > 0) this.#socket?.send(this.#writer.take());
  }

  /** Sets one timer for the request that expires first. */
  #watchExpiry(): void {
    let earliest = Infinity;
    for (const request of this.#requests) earliest = Math.min(earliest, request.expiresAt);
    if (earliest === Infinity) return;
    this.#expiryTimer = this.#clock.after(earliest - this.#clock.monotonic(), () => this.#expire());
  }

  #expire(): void {
    this.#expiryTimer = undefined;
    const now = this.#clock.monotonic();
    const socket = this.#socket;
    let overdue = false;
    for (const request of this.#requests) {
      if (request.expiresAt > now) continue;
      if (request.frame !== undefined) {
        const code = this.#ready ? "TIMEOUT" : "UNAVAILABLE";
        this.#fail(request, new FirkinError(code, `Cannot send a request to ${this.#url}: it waited too long`));
      } else {
        overdue = true;
        this.#fail(
          request,
          new FirkinError("TIMEOUT", `Cannot tell the outcome of a request to ${this.#url}: no answer came`),
        );
      }
    }
    // Late is late, but silent all that time is a connection that died unnoticed.
    if (overdue && socket !== undefined && now - this.#heardAt >= this.#timeoutMs) this.#drop(socket);
    else this.#sendWaiting();
    this.#watchExpiry();
    this.#closeWhenIdle();
  }

  /** Takes a request off the books; its place may be another's from here on. */
  #forget(request: Request): void {
    if (request.frame === undefined) {
      this.#sentCount--;
      this.#sentBytes -= request.bytes;
    } else this.#waiting.delete(request);
    this.#requests.remove(request);
  }

  #fail(request: Request, error: unknown): void {
    const { reject } = request;
    this.#forget(request);
    reject(error);
  }

  // --- the connection ---

  #connect(): void {
    const socket = this.#openSocket(this.#url, [SUBPROTOCOL]);
    let reason = "";
    this.#told = undefined;
    socket.onopen = () => this.#greet(socket);
    socket.onmessage = ({ data }: { data: unknown }) => this.#receive(socket, data);
    socket.onerror = (event: { message?: string }) => reason = event.message ?? "";
    socket.onclose = (event: { code: number; reason: string }) =>
      this.#lost(socket, event.code, event.reason || reason);
    this.#socket = socket;
    this.#connectTimer = this.#clock.after(this.#timeoutMs, () => {
      this.#told ??= new FirkinError("TIMEOUT", `Cannot connect to ${this.#url}: no answer came`);
      this.#drop(socket);
    });
  }

  #greet(socket: Socket): void {
    const token = this.#token;
    if (typeof token !== "function") return this.#sayHello(socket, token);
    // Should it take too long, the connection's own timer ends it.
    Promise.resolve().then(token).then((fresh) => this.#sayHello(socket, fresh), (error: unknown) => {
      if (socket !== this.#socket) return;
      const state = `there is no token for it: ${messageOf(error)}`;
      this.#told = new FirkinError("UNAUTHORIZED", `Cannot use ${this.#url}: ${state}`, { cause: error });
      this.#drop(socket);
    });
  }

  #sayHello(socket: Socket, token: string | undefined): void {
    if (socket !== this.#socket) return;
    const hello = this.#requests.add();
    this.#head(hello.op = OP.hello, hello.id);
    this.#writer.uint(VERSION);
    if (token === undefined) this.#writer.null();
    else this.#writer.text(token);
    hello.bytes = this.#writer.length;
    hello.expiresAt = Infinity;
    hello.read = (reader) => this.#greeted(reader);
    hello.reject = (error) => this.#told ??= error as FirkinError;
    this.#sentCount++;
    this.#sentBytes += hello.bytes;
    this.#flush();
  }

  #greeted(reader: CborReader): void {
    reader.text();
    this.#limits = readLimits(reader);
    this.#epoch = reader.text();
    this.#connectTimer?.cancel();
    this.#attempts = 0;
    this.#ready = true;
    this.#wasReady = true;
    this.#resolveOpened();
    this.#watchSilence();
    this.#handlers.connected();
    this.#sendWaiting();
  }

  #receive(socket: Socket, data: unknown): void {
    if (socket !== this.#socket) return;
    this.#heardAt = this.#clock.monotonic();
    try {
      const reader = this.#reader.reset(plainBytes(data));
      while (!reader.atEnd()) this.#frame(reader);
    } catch (error) {
      this.#finish(new FirkinError("PROTOCOL", messageOf(error), { cause: error }));
    }
    if (this.#waiting.size > 0) this.#sendWaiting();
    this.#closeWhenIdle();
  }

  #frame(reader: CborReader): void {
    const start = reader.position;
    const items = reader.frame();
    const kind = reader.uint();
    const id = reader.uint();
    switch (kind) {
      case FRAME.reply: {
        const request = this.#requests.find(id);
        if (request !== undefined && request.frame === undefined) return this.#answer(request, reader, start, items);
        // It has timed out.
        reader.seek(start);
        return reader.skip();
      }
      case FRAME.error: {
        expectItems(items, 4);
        const error = new FirkinError(errorCodeOf(reader.uint()), reader.text());
        const request = this.#requests.find(id);
        if (id === 0) this.#told = error;
        if (request !== undefined && request.frame === undefined) this.#fail(request, error);
        return;
      }
      case FRAME.change: {
        expectItems(items, CHANGE_ITEMS);
        const event = readChange(reader);
        return this.#handlers.change(id, event, reader.position - start);
      }
      case FRAME.control: {
        expectItems(items, 4);
        const word = reader.uint();
        const cursor = reader.text();
        return this.#handlers.control(id, word, cursor, reader.position - start);
      }
      default:
        throw new FirkinError("PROTOCOL", `Cannot read a frame at byte ${start}: ${kind} is no kind of frame`);
    }
  }

  #answer(request: Request, reader: CborReader, start: number, items: number): void {
    let result: unknown;
    try {
      expectItems(items, 2 + SHAPES[request.op]!.results);
      result = request.read(reader, request.subject as never);
    } catch (error) {
      // A reply that cannot be read leaves its request to be rejected with the connection.
      if (error instanceof FirkinError && error.code === "PROTOCOL") throw error;
      reader.seek(start);
      reader.skip();
      return this.#fail(request, error);
    }
    const { resolve } = request;
    this.#forget(request);
    resolve(result as never);
  }

  #watchSilence(): void {
    this.#silenceTimer = this.#clock.after(SILENCE_MS, () => {
      if (this.#clock.monotonic() - this.#heardAt >= SILENCE_MS) {
        this.request(OP.ping, () => {}, () => {}).catch(() => {});
      }
      this.#watchSilence();
    });
  }

  /** Gives up a connection without waiting for the other end. */
  #drop(socket: Socket): void {
    this.#lost(socket, 0, "it was silent");
    socket.close();
  }

  #lost(socket: Socket, code: number, reason: string): void {
    if (socket !== this.#socket) return;
    // Credentials that were good and are no longer: there may be fresh ones.
    const renewable = code === CLOSE.unauthorized && this.#ready && typeof this.#token === "function";
    this.#socket = undefined;
    this.#ready = false;
    this.#connectTimer?.cancel();
    this.#silenceTimer?.cancel();
    this.#writer.take();
    const told = this.#told;
    const state = `the connection was lost (${code === 0 ? reason : `${code} ${reason}`.trim()})`;
    for (const request of this.#requests) {
      // What waits goes with the next connection.
      if (request.frame === undefined || BOUND.has(request.op)) this.#fail(request, this.#unavailable(state));
    }
    if (this.#end !== undefined) this.#finish(this.#end);
    else if (code === CLOSE.unauthorized && !renewable) {
      this.#finish(new FirkinError("UNAUTHORIZED", `Cannot use ${this.#url}: ${reason}`));
    } else if (CLOSE_FINAL.has(code) && !renewable) {
      this.#finish(told ?? new FirkinError("PROTOCOL", `Cannot use ${this.#url}: ${state}`));
    } else if (!this.#wasReady) this.#finish(told ?? this.#unavailable(state));
    else this.#retry();
  }

  #retry(): void {
    this.#handlers.lost();
    const random = this.#clock.random(new Uint8Array(1))[0]! / 255;
    const delay = Math.min(RETRY_MS_MAX, RETRY_MS_FIRST * 2 ** this.#attempts++) * (0.5 + random / 2);
    this.#connectTimer = this.#clock.after(delay, () => this.#connect());
  }

  /** Ends for good: closed, or of no further use. */
  #finish(error: FirkinError): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#hold.cancel();
    this.#end ??= error;
    const socket = this.#socket;
    this.#socket = undefined;
    this.#ready = false;
    this.#connectTimer?.cancel();
    this.#silenceTimer?.cancel();
    this.#expiryTimer?.cancel();
    for (const request of this.#requests) this.#fail(request, error);
    this.#rejectOpened(error);
    this.#handlers.ended(error);
    socket?.close();
    this.#onFinished();
  }

  /** After `close`: closes when nothing is on the way any more. */
  #closeWhenIdle(): void {
    if (this.#closing === undefined || this.#finished) return;
    if (this.#socket === undefined || !this.#ready) return this.#finish(this.#end!);
    if (this.#requests.count > 0) return;
    this.#ready = false;
    this.#silenceTimer?.cancel();
    this.#connectTimer = this.#clock.after(CLOSE_MS, () => this.#finish(this.#end!));
    this.#socket.close(CLOSE.normal);
  }

  #unavailable(state: string): FirkinError {
    return new FirkinError("UNAVAILABLE", `Cannot reach ${this.#url}: ${state}`);
  }
}

/** A message as plain bytes: what is read from a `Buffer` would be Buffers. @throws {FirkinError} PROTOCOL */
function plainBytes(data: unknown): Uint8Array {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (data instanceof Uint8Array) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new FirkinError("PROTOCOL", "Cannot read a message: it is not binary");
}
