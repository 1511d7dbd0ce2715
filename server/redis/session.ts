/**
 * One connection of a Redis client: commands in, replies out in their order.
 *
 * 1. A command that is answered at once is, before the next is read. Writes are answered when they are safe, and until
 *    then further writes are begun, so that those of a pipeline share one group of the log and one sync. What does not
 *    go together waits: a read sees every write that its connection sent before it.
 * 2. The replies of what came together leave in one write.
 * 3. Nothing is read while too much waits to be sent, or to be answered. A connection runs for ten milliseconds at a
 *    time, then others get their turn.
 * 4. What is not RESP is told, and the connection closed. No handler throws.
 *
 * @module
 */
import { compareBytes } from "../../lib/base/bytes.ts";
import type { Timer } from "../../lib/base/clock.ts";
import { CONTENT, type Content } from "../../lib/base/codec.ts";
import { type Guest, hasExpired, NOBODY, type Principal } from "../auth.ts";
import type { ClientSubscription } from "../clients.ts";
import type { Answer } from "../commands.ts";
import { keysOf } from "./about.ts";
import { type Client, errorOf, type RedisHost, type Silence } from "./call.ts";
import { latin1 } from "./numbers.ts";
import { type Outlet, Output } from "./output.ts";
import { ErrorReply, type Reply, RespProtocolError, RespReader, type RespVersion } from "./resp.ts";
import { checkRight, type KeyRow, problemOf, type Row, ROWS, type Way } from "./table.ts";
import { Topics } from "./topics.ts";
import { trackedPrefixes, Tracking } from "./tracking.ts";
import { Transaction } from "./transaction.ts";
import { shown } from "./values.ts";
import { replyOf, View } from "./view.ts";

/** How long a connection's commands run before others get their turn, and after how many it looks at the clock. */
const TURN_MS = 10;
const COMMANDS_PER_LOOK = 32;
const SETTLED = Promise.resolve();

/** Commands that a transaction does not queue. */
const NOT_QUEUED: ReadonlySet<string> = new Set(["exec", "discard", "multi", "watch", "quit", "reset"]);
/** Commands of a connection that listens, in version 2. */
const WHILE_LISTENING: ReadonlySet<string> = new Set([
  "subscribe",
  "psubscribe",
  "unsubscribe",
  "punsubscribe",
  "ping",
  "quit",
  "reset",
]);
/** What a browser sends first: pages of other sites must not reach the server through one. */
const OF_HTTP: ReadonlySet<string> = new Set(["post", "host:"]);

/** The socket under a session. */
export interface Wire extends Outlet {
  readonly address: string;
  readonly localAddress: string;
  /** Stops and goes on reading. */
  pause(): void;
  resume(): void;
  /** Closes when everything was sent. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** A reply that others wait behind. */
interface Slot {
  /** Undefined: it was written already. */
  reply: Reply | undefined;
  isDone: boolean;
}

/** A command by its name, as it came, and in lower case. */
interface Named {
  readonly word: Uint8Array;
  readonly name: string;
  readonly row: Row | undefined;
}

/** One connection's state, and what its socket calls. */
export class RedisSession implements Client {
  readonly host: RedisHost;
  readonly id: number;
  readonly connectedAt: number;
  lastCommand = "NULL";
  lastCommandAt: number;
  name = "";
  library = "";
  libraryVersion = "";
  principal: Principal;
  bucket = "0";
  version: RespVersion = 2;
  readonly #wire: Wire;
  readonly #guest: Guest;
  readonly #onClosed: () => void;
  #reader: RespReader;
  readonly topics: Topics;
  readonly #transaction: Transaction;
  #tracking: Tracking | undefined;
  #isKnown: boolean;
  readonly #output: Output;
  /** Read, and not yet run. */
  #next: Uint8Array[] | undefined;
  /** Replies that are awaited, and how they are run. */
  #slots: Slot[] = [];
  #way: Way | "client" = "read";
  #lastNamed: Named | undefined;
  #isFlushing = false;
  #isGoingOn = false;
  #isPaused = false;
  #isClosed = false;
  /** It has said its last word. */
  #isOver = false;
  #ending: (() => void) | undefined;
  #helloTimer: Timer | undefined;
  #restTimer: Timer | undefined;

  /** Takes a connection that has just opened; `onClosed` is called once, when it is over. */
  constructor(id: number, wire: Wire, host: RedisHost, guest: Guest, onClosed: () => void) {
    this.id = id;
    this.host = host;
    this.connectedAt = this.lastCommandAt = host.clock.wall();
    this.#wire = wire;
    this.#guest = guest;
    this.#onClosed = onClosed;
    this.#isKnown = guest.principal !== undefined;
    this.principal = guest.principal ?? NOBODY;
    this.#reader = new RespReader(host.limits.messageBytesMax);
    this.#reader.trusted = this.#isKnown;
    this.#output = new Output(wire, host, () => this.kill());
    this.topics = new Topics(this, (reply) => this.#told(reply));
    this.#transaction = new Transaction(this, this.#newView);
    this.#expectHello();
    host.metrics.connections++;
    host.metrics.connectionsTotal++;
  }

  // --- what the socket calls ---

  /** Runs what has come. */
  data(piece: Uint8Array): void {
    if (this.#isClosed || this.#isOver || this.#ending !== undefined) return;
    this.host.metrics.messagesIn++;
    this.host.metrics.bytesIn += piece.length;
    this.#reader.push(piece);
    this.#run();
  }

  /** Goes on when enough has been sent. */
  drain(): void {
    if (this.#output.drain()) this.#run();
  }

  /** Lets go of everything. */
  closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const timer of [this.#helloTimer, this.#restTimer]) timer?.cancel();
    this.topics.close();
    this.#stopTracking();
    this.#transaction.reset();
    this.#output.close();
    // Whatever is yet to be answered keeps the session, which need not keep what it has read.
    this.#reader = new RespReader(0);
    this.#next = undefined;
    this.host.clients.delete(this.id);
    this.host.metrics.connections--;
    this.#onClosed();
    this.#ending?.();
  }

  /** Takes no more commands; closes, and resolves, when those that run have been answered. */
  async finish(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#ending = resolve;
      if (this.#isClosed || this.#slots.length === 0) resolve();
    });
    this.end();
  }

  /** Closes a connection whose credentials have expired. */
  check(): void {
    if (hasExpired(this.principal, this.host.clock.wall())) this.kill();
  }

  // --- what commands ask ---

  get address(): string {
    return this.#wire.address;
  }

  get localAddress(): string {
    return this.#wire.localAddress;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get isKnown(): boolean {
    return this.#isKnown;
  }

  get channels(): number {
    return this.topics.channels;
  }

  get patterns(): number {
    return this.topics.patterns;
  }

  get patternBytes(): number {
    return this.topics.patternBytes + (this.#tracking?.prefixBytes ?? 0);
  }

  get subscriptions(): number {
    return this.topics.count + this.#transaction.subscriptions + (this.#tracking?.count ?? 0);
  }

  /** What an operator is told of them, one after the other. */
  *told(): Generator<ClientSubscription> {
    yield* this.topics.told();
    if (this.#tracking !== undefined) yield* this.#tracking.told();
    yield* this.#transaction.told();
  }

  get queued(): number {
    return this.#transaction.queued;
  }

  authenticate(token: string): void {
    this.principal = this.#guest.identify(token);
    this.#isKnown = true;
    this.#reader.trusted = true;
    this.#expectHello();
    this.topics.check();
    // It trusts what it has kept, of which it may hear nothing more.
    const bucket = this.trackedBucket;
    if (bucket !== undefined && !this.principal.allows("subscribe", bucket)) this.kill();
  }

  reset(): void {
    this.topics.close();
    this.#stopTracking();
    this.#transaction.reset();
    this.principal = this.#guest.principal ?? NOBODY;
    this.#isKnown = this.#guest.principal !== undefined;
    this.#reader.trusted = this.#isKnown;
    this.#expectHello();
    this.bucket = "0";
    this.version = 2;
    this.name = "";
    this.#output.silence = "none";
  }

  /** Who is not known has a while to say who it is. */
  #expectHello(): void {
    const { clock, limits } = this.host;
    this.#helloTimer?.cancel();
    this.#helloTimer = this.#isKnown ? undefined : clock.after(limits.helloMs, () => this.kill());
  }

  subscribe(name: Uint8Array, isPattern: boolean): Answer<Reply> {
    return this.topics.subscribe(name, isPattern);
  }

  unsubscribe(names: readonly Uint8Array[], isPattern: boolean): readonly Reply[] {
    return this.topics.unsubscribe(names, isPattern);
  }

  track(args: readonly Uint8Array[]): Answer<Reply> {
    const prefixes = trackedPrefixes(args);
    if (this.version === 2) throw new ErrorReply("ERR CLIENT TRACKING needs RESP3: say HELLO 3 first");
    const current = this.#tracking;
    if (current !== undefined && current.isBroadcast !== (prefixes !== undefined)) {
      throw new ErrorReply(
        "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it " +
          "with a different mode.",
      );
    }
    if (current !== undefined) {
      current.add(prefixes);
      return "OK";
    }
    this.#tracking = new Tracking(this, prefixes, (reply) => this.#told(reply));
    return this.#tracking.ready.then(() => "OK", (error: unknown) => {
      this.#stopTracking();
      throw error;
    });
  }

  untrack(): Reply {
    this.#stopTracking();
    return "OK";
  }

  #stopTracking(): void {
    this.#tracking?.close();
    this.#tracking = undefined;
  }

  get trackedBucket(): string | undefined {
    return this.#tracking?.bucket;
  }

  noteRead(keys: readonly Uint8Array[]): void {
    this.#tracking?.note(keys);
  }

  multi(): Reply {
    return this.#transaction.begin();
  }

  discard(): Reply {
    return this.#transaction.discard();
  }

  exec(): Answer<Reply> {
    return this.#transaction.run();
  }

  watch(keys: readonly Uint8Array[]): Answer<Reply> {
    return this.#transaction.watch(keys);
  }

  unwatch(): Reply {
    return this.#transaction.unwatch();
  }

  show(key: Uint8Array): Answer<Reply | undefined> {
    const answer = this.host.commands.show(this.principal, this.bucket, key, this.#writeValue);
    if (!(answer instanceof Promise)) return answer ? undefined : null;
    return answer.then((entry) => entry === undefined ? null : shown(entry));
  }

  readonly #writeValue = (
    bytes: Uint8Array,
    start: number,
    end: number,
    content: Content,
    once: boolean,
  ): boolean => {
    if (once) return false;
    if (content !== CONTENT.cbor) this.#output.writer?.bulk(bytes, start, end);
    else this.#output.writer?.reply(shown({ value: bytes.slice(start, end), content }), this.version);
    return true;
  };

  silence(silence: Silence): void {
    // Who hears nothing hears nothing of the next command either.
    if (silence !== "next" || this.#output.silence !== "all") this.#output.silence = silence;
  }

  write(reply: Reply): void {
    if (!this.#isClosed) this.#output.reply(reply, this.version);
  }

  end(): void {
    this.#isOver = true;
    if (this.#slots.length > 0 || this.#isClosed) return;
    SETTLED.then(() => {
      this.#flush();
      this.#wire.end();
      // Who does not read what it is sent is not waited for.
      if (!this.#isClosed) this.host.clock.after(this.host.limits.outboundMs, () => this.#wire.destroy());
    }).catch(this.host.onFailure);
  }

  kill(): void {
    this.#isOver = true;
    this.#wire.destroy();
  }

  /** A message was written that nobody asked for; a promise while there is no room for more. */
  #told(reply: Reply): Promise<void> | undefined {
    if (this.#isClosed || this.#isOver) return undefined;
    this.#flushSoon();
    return this.#output.tell(reply, this.version);
  }

  // --- commands ---

  /** Runs what has come as far as it may, and sends the replies that are there then. */
  #run(): void {
    const { metrics, clock } = this.host;
    metrics.begin();
    const beganAt = clock.monotonic();
    try {
      for (let count = 1; !this.#mustWait(); count++) {
        const args = this.#next ?? this.#reader.next();
        if (args === undefined) break;
        this.#next = undefined;
        if (!this.#command(args)) {
          this.#next = args;
          break;
        }
        if (count % COMMANDS_PER_LOOK === 0 && clock.monotonic() - beganAt >= TURN_MS) this.#rest();
      }
    } catch (error) {
      this.#refuse(error);
    }
    this.#flush();
    metrics.end();
    this.#hold();
  }

  #mustWait(): boolean {
    return this.#isClosed || this.#isOver || this.#ending !== undefined || this.#output.isStalled ||
      this.#restTimer !== undefined || this.#slots.length >= this.host.limits.runningMax;
  }

  /** This connection has had its turn: it goes on after others had theirs. */
  #rest(): void {
    this.#restTimer = this.host.clock.after(0, () => {
      this.#restTimer = undefined;
      this.#run();
    });
  }

  /** Reads no more from the socket while there is enough that cannot be run. */
  #hold(): void {
    const mustPause = this.#mustWait() || this.#next !== undefined;
    if (mustPause === this.#isPaused || this.#isClosed) return;
    this.#isPaused = mustPause;
    if (mustPause) this.#wire.pause();
    else this.#wire.resume();
  }

  /** What came is not RESP. */
  #refuse(error: unknown): void {
    this.host.metrics.protocolErrors++;
    this.#writeInTurn(error instanceof RespProtocolError ? new ErrorReply(error.message) : errorOf(error, this.host));
    this.end();
  }

  /** Writes a reply behind everything that is still awaited. */
  #writeInTurn(reply: Reply): void {
    if (this.#slots.length === 0) this.write(reply);
    else this.#slots.push({ reply, isDone: true });
  }

  /** Runs a command; false when it has to wait for what runs. */
  #command(args: Uint8Array[]): boolean {
    const { name, row } = this.#named(args[0]!);
    const way = row === undefined || !("way" in row)
      ? "client"
      : typeof row.way === "function"
      ? row.way(args)
      : row.way;
    const inTransaction = this.#transaction.queued >= 0;
    // Replies are left out command by command, so there is one at a time then.
    const joins = !inTransaction && this.#output.silence === "none" && way === this.#way &&
      (way === "write" || way === "update");
    if (this.#slots.length > 0 && !joins) return false;
    if (OF_HTTP.has(name)) {
      this.kill();
      return true;
    }
    this.#way = way;
    this.#output.begin();
    this.#answer(row, way, name, args);
    return true;
  }

  /** The command of a name: most often that of the one before. */
  #named(word: Uint8Array): Named {
    const last = this.#lastNamed;
    if (last !== undefined && compareBytes(last.word, word) === 0) return last;
    const name = latin1(word.length > 32 ? word.subarray(0, 32) : word).toLowerCase();
    return this.#lastNamed = { word: word.slice(0, 33), name, row: ROWS.get(name) };
  }

  #answer(row: Row | undefined, way: Way | "client", name: string, args: Uint8Array[]): void {
    let answer: Answer<Reply | undefined>;
    try {
      const problem = problemOf(row, args) ?? this.#problemOfState(row!, name);
      if (problem !== undefined) {
        this.#transaction.fail();
        return this.#writeInTurn(problem);
      }
      this.lastCommand = row!.subcommands === undefined || args.length === 1
        ? name
        : `${name}|${latin1(args[1]!).toLowerCase()}`;
      this.lastCommandAt = this.host.clock.wall();
      if (this.#transaction.queued >= 0 && !NOT_QUEUED.has(name)) answer = this.#transaction.queue(row!, args);
      else answer = "way" in row! ? this.#runKeys(row, way, args) : row!.runClient(this, args);
    } catch (error) {
      return this.#writeInTurn(errorOf(error, this.host));
    }
    if (answer instanceof Promise) this.#wait(answer);
    else if (answer !== undefined) this.#writeInTurn(answer);
    else this.#output.relieve();
  }

  #problemOfState(row: Row, name: string): ErrorReply | undefined {
    if (!this.#isKnown && !row.flags.includes("no_auth")) return new ErrorReply("NOAUTH Authentication required.");
    if (this.version === 2 && this.topics.count > 0 && !WHILE_LISTENING.has(name)) {
      return new ErrorReply(
        `ERR Can't execute '${name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in ` +
          "this context",
      );
    }
    return undefined;
  }

  /** Runs a command on keys, outside of transactions. */
  #runKeys(row: KeyRow, way: Way | "client", args: Uint8Array[]): Answer<Reply | undefined> {
    checkRight(row, this);
    const keys = keysOf(row, args);
    if (!row.writes) this.noteRead(keys);
    if (way !== "update" && row.direct !== undefined) return row.direct(this, args);
    const { bucket } = this;
    const step = (view: View): Reply => row.run({ view, bucket, args, name: row.name });
    if (way === "update") {
      return this.host.updates.run({ principal: this.principal, bucket, key: keys[0]!, step, view: this.#newView });
    }
    if (way === "alone") return this.#transaction.runAlone(row, args);
    const view = this.#newView();
    if (way === "read") {
      const loaded = view.load(bucket, keys);
      return loaded instanceof Promise ? loaded.then(() => replyOf(step, view)) : replyOf(step, view);
    }
    const reply = replyOf(step, view);
    const outcome = view.commit();
    return outcome instanceof Promise ? outcome.then(() => reply) : reply;
  }

  readonly #newView = (): View => {
    const { commands, clock, limits } = this.host;
    return new View({
      commands,
      principal: this.principal,
      now: clock.wall(),
      valueBytesMax: limits.valueBytesMax,
      readBytesMax: limits.outboundHardBytesMax / 2,
    });
  };

  /** Keeps the place of a reply that is yet to come. */
  #wait(answer: Promise<Reply | undefined>): void {
    const slot: Slot = { reply: undefined, isDone: false };
    this.#slots.push(slot);
    answer.then(
      (reply) => this.#settle(slot, reply),
      (error: unknown) => this.#settle(slot, errorOf(error, this.host)),
    );
  }

  #settle(slot: Slot, reply: Reply | undefined): void {
    slot.reply = reply;
    slot.isDone = true;
    if (this.#slots[0] !== slot || this.#isClosed) return;
    while (this.#slots[0]?.isDone === true) {
      const { reply: next } = this.#slots.shift()!;
      if (next !== undefined) this.write(next);
    }
    if (this.#isOver) return this.end();
    const isStuck = this.#next !== undefined && this.#slots.length > 0;
    const hasMore = this.#next !== undefined || this.#reader.waiting > 0 || this.#isPaused;
    // Not for each reply: what is read together is answered together.
    if (hasMore && !isStuck && this.#slots.length <= this.host.limits.runningMax / 2) this.#goOn();
    else this.#flushSoon();
  }

  /** The writes of a group are answered in a row: goes on, and sends, behind them. */
  #goOn(): void {
    if (this.#isGoingOn) return;
    this.#isGoingOn = true;
    this.#isFlushing = false;
    void SETTLED.then(() => {
      this.#isGoingOn = false;
      this.#run();
    });
  }

  // --- output ---

  #flushSoon(): void {
    if (this.#isFlushing || this.#isGoingOn) return;
    this.#isFlushing = true;
    void SETTLED.then(() => {
      if (!this.#isFlushing) return;
      this.#isFlushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    this.#output.flush();
    if (this.#slots.length === 0) this.#ending?.();
  }
}
