/**
 * `MULTI`, `EXEC` and `WATCH`: many commands as one, on one view of the store.
 *
 * The commands run when `EXEC` comes, each on what those before it have made, and what they write becomes one batch of
 * the engine: all of it or nothing, for readers, subscribers and after a crash. The batch goes on only if every key
 * that was read, or watched, still has its revision. When a watched one has not, the transaction is off; when another
 * one has not, all commands run again.
 *
 * Commands that touch no key run when the batch is written.
 *
 * @module
 */
import type { ClientSubscription } from "../clients.ts";
import type { Answer } from "../commands.ts";
import { keysOf } from "./about.ts";
import { type Client, errorOf } from "./call.ts";
import { ErrorReply, NO_ARRAY, type Reply } from "./resp.ts";
import { checkRight, type KeyRow, type Row } from "./table.ts";
import { attempt, type View } from "./view.ts";
import { Watches } from "./watches.ts";

/** A command that waits for EXEC. */
interface Queued {
  readonly row: Row;
  readonly args: readonly Uint8Array[];
}

/** The transaction of one connection, and what it watches. */
export class Transaction {
  readonly #client: Client;
  readonly #newView: () => View;
  /** Undefined outside. */
  #queue: Queued[] | undefined;
  #bytes = 0;
  /** A command was refused: EXEC will be. */
  #isFailed = false;
  #watches: Watches | undefined;

  /** None yet. */
  constructor(client: Client, newView: () => View) {
    this.#client = client;
    this.#newView = newView;
  }

  /** Commands that wait; -1 outside of a transaction. */
  get queued(): number {
    return this.#queue?.length ?? -1;
  }

  /** MULTI */
  begin(): Reply {
    if (this.#queue !== undefined) throw new ErrorReply("ERR MULTI calls can not be nested");
    this.#queue = [];
    return "OK";
  }

  /** DISCARD */
  discard(): Reply {
    if (this.#queue === undefined) throw new ErrorReply("ERR DISCARD without MULTI");
    this.reset();
    return "OK";
  }

  /** Outside, and watching nothing. */
  reset(): void {
    this.#queue = undefined;
    this.#bytes = 0;
    this.#isFailed = false;
    this.unwatch();
  }

  /** A command was refused. */
  fail(): void {
    if (this.#queue !== undefined) this.#isFailed = true;
  }

  /** Keeps a command for EXEC. */
  queue(row: Row, args: readonly Uint8Array[]): Reply {
    const { requestsMax, messageBytesMax } = this.#client.host.limits;
    const refuse = (problem: string): ErrorReply => {
      this.#isFailed = true;
      return new ErrorReply(problem);
    };
    if ("joins" in row && !row.joins) return refuse("ERR Command not allowed inside a transaction");
    for (const arg of args) this.#bytes += arg.length;
    if (this.#queue!.length >= requestsMax || this.#bytes > messageBytesMax) {
      return refuse("ERR this transaction is too large");
    }
    // Copies: a small argument would keep all that came with it.
    this.#queue!.push({ row, args: args.map((arg) => arg.slice()) });
    return "QUEUED";
  }

  // --- WATCH ---

  /** WATCH key... */
  async watch(keys: readonly Uint8Array[]): Promise<Reply> {
    if (this.#queue !== undefined) throw new ErrorReply("ERR WATCH inside MULTI is not allowed");
    await (this.#watches ??= new Watches(this.#client)).add(keys);
    return "OK";
  }

  /** Subscriptions to keys that are watched and were not there. */
  get subscriptions(): number {
    return this.#watches?.absent ?? 0;
  }

  /** What an operator is told of them. */
  told(): Iterable<ClientSubscription> {
    return this.#watches?.told() ?? [];
  }

  /** UNWATCH */
  unwatch(): Reply {
    this.#watches?.close();
    this.#watches = undefined;
    return "OK";
  }

  // --- EXEC ---

  /** EXEC */
  run(): Answer<Reply> {
    if (this.#queue === undefined) throw new ErrorReply("ERR EXEC without MULTI");
    const [queue, isFailed, watches] = [this.#queue, this.#isFailed, this.#watches];
    this.#watches = undefined;
    this.reset();
    if (!isFailed) return this.#run(queue, watches).finally(() => watches?.close());
    watches?.close();
    throw new ErrorReply("EXECABORT Transaction discarded because of previous errors.");
  }

  async #run(queue: readonly Queued[], watches: Watches | undefined): Promise<Reply> {
    const client = this.#client;
    const { bucket } = client;
    const replies: Reply[] = [];
    let isOff = false;
    await attempt(async () => {
      if (watches !== undefined && await watches.areTouched()) {
        isOff = true;
        return { ok: true };
      }
      client.bucket = bucket;
      replies.length = 0;
      const view = this.#newView();
      for (const { row, args } of queue) {
        const isKey = "way" in row;
        // Which database is next matters to those that follow.
        const reply = isKey || row.name === "select" ? this.#runOne(row, args, view) : null;
        // No wait that is not needed: what is read in one turn is of one moment.
        replies.push(reply instanceof Promise ? await reply : reply);
      }
      return await view.commit(watches?.keys);
    });
    if (isOff) {
      client.bucket = bucket;
      return NO_ARRAY;
    }
    for (const [index, { row, args }] of queue.entries()) {
      if ("way" in row || row.name === "select") continue;
      const reply = this.#runClient(row, args);
      replies[index] = reply instanceof Promise ? await reply : reply;
    }
    return replies;
  }

  #runOne(row: Row, args: readonly Uint8Array[], view: View): Answer<Reply> {
    if (!("way" in row)) return this.#runClient(row, args);
    const { bucket } = this.#client;
    const run = (): Reply => {
      try {
        checkRight(row, this.#client);
        return row.run({ view, bucket, args, name: row.name });
      } catch (error) {
        return errorOf(error, this.#client.host);
      }
    };
    if (!row.writes) this.#client.noteRead(keysOf(row, args));
    const loaded = load(view, bucket, row, args);
    return loaded instanceof Promise ? loaded.then(run) : run();
  }

  #runClient(row: Row, args: readonly Uint8Array[]): Answer<Reply> {
    try {
      const answer = "runClient" in row ? row.runClient(this.#client, args) : null;
      if (!(answer instanceof Promise)) return answer ?? null;
      return answer.then((reply) => reply ?? null, (error: unknown) => errorOf(error, this.#client.host));
    } catch (error) {
      return errorOf(error, this.#client.host);
    }
  }

  /** One command on several keys, as a transaction of its own. */
  async runAlone(row: KeyRow, args: readonly Uint8Array[]): Promise<Reply> {
    let reply: Reply = null;
    await attempt(async () => {
      const view = this.#newView();
      const answer = this.#runOne(row, args, view);
      reply = answer instanceof Promise ? await answer : answer;
      return await view.commit();
    });
    return reply;
  }
}

/** Makes what a command reads readable. */
function load(view: View, bucket: string, row: KeyRow, args: readonly Uint8Array[]): Answer<void> {
  const first = view.load(bucket, keysOf(row, args));
  let others: readonly [string, readonly Uint8Array[]] | undefined;
  try {
    others = row.others?.(args);
  } catch {
    // The command itself says what is wrong with its options.
  }
  if (others === undefined) return first;
  const second = view.load(...others);
  return first instanceof Promise || second instanceof Promise
    ? Promise.all([first, second]).then(() => {})
    : undefined;
}
