/**
 * What clients of one server see of a key has an order that explains it, over WebSocket and REST at once, while
 * connections are cut and the server is killed and started again.
 *
 * Each history is 2,000 operations by 16 to 64 clients on 8 keys of a bucket of its own; a few histories go on side by
 * side, so that each death of the server is one for all of them. An operation whose answer was lost may have happened
 * at any later time, or never.
 *
 * `LINEAR_HISTORIES` and `LINEAR_SEED` make it more, or another. What each client asks is drawn from the seed; how
 * they meet is not, so a failure prints the calls.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import process from "node:process";
import { connect } from "../../lib/store/connect.ts";
import { type Ask, nameOf, type Turn, unexplained } from "../suites/cell.ts";
import { randomOf } from "../suites/random.ts";
import { type Caller, Lost, RestCaller, WireCaller } from "./callers.ts";
import { FrailServer } from "./frail.ts";

const { env, versions } = process;
const HISTORIES = Number(env["LINEAR_HISTORIES"] ?? 7);
const SEED = Number(env["LINEAR_SEED"] ?? (versions["bun"] !== undefined ? 1 : versions["deno"] !== undefined ? 2 : 3));
const SIDE_BY_SIDE = 7;
const OPERATIONS = 2_000;
const KEYS = 8;
const KILLS = 2;
/** Of so many operations, one is followed by a cut. */
const OPERATIONS_PER_CUT = 150;
const LIMIT_MS = 60_000 * Math.ceil(HISTORIES / SIDE_BY_SIDE);

type Draw = (below: number) => number;

/** What the clients of one history ask, and were told. */
class History {
  readonly bucket: string;
  readonly turns: Turn[][] = Array.from({ length: KEYS }, () => []);
  readonly clients: number;
  readonly #draw: Draw;
  readonly #onTold: () => void;
  /** The newest revision that anybody was told of each key. */
  readonly #revisions: number[] = Array.from({ length: KEYS }, () => 0);
  #begun = 0;
  #moment = 0;

  constructor(name: string, draw: Draw, onTold: () => void) {
    this.bucket = name;
    this.clients = 16 + draw(49);
    this.#draw = draw;
    this.#onTold = onTold;
  }

  /** One client, until all operations have begun. */
  async work(caller: Caller, ready: () => Promise<void>): Promise<void> {
    while (this.#begun < OPERATIONS) {
      await ready();
      const key = this.#draw(KEYS);
      await this.#turn(caller, key, this.#drawAsk(key));
    }
  }

  /** Reads every key when nobody else does anything. */
  async readAll(caller: Caller): Promise<void> {
    for (let key = 0; key < KEYS; key++) await this.#turn(caller, key, { kind: "get" });
  }

  async #turn(caller: Caller, key: number, ask: Ask): Promise<void> {
    this.#begun++;
    const turn: Turn = { ...ask, begin: this.#moment++ };
    this.turns[key]!.push(turn);
    try {
      turn.answer = await caller.ask(this.bucket, `k${key}`, ask);
      turn.end = this.#moment++;
      this.#revisions[key] = turn.answer.revision ?? this.#revisions[key]!;
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
    }
    this.#onTold();
  }

  #drawAsk(key: number): Ask {
    const draw = this.#draw;
    const kinds = ["get", "get", "get", "set", "set", "set", "set", "remove", "touch", "increment", "take"] as const;
    const kind = kinds[draw(kinds.length)]!;
    // What is there as far as anybody knows, or nothing.
    const condition = draw(2) === 0 ? {} : { ifRevision: draw(8) === 0 ? 0 : this.#revisions[key]! };
    if (kind === "remove") return { kind, ...(condition.ifRevision === 0 ? {} : condition) };
    if (kind !== "set") return { kind };
    // Sums are no multiples of a thousand, or more than a thousand increments were told.
    const value = draw(2) === 0 ? this.#begun * 1_000 : `${this.#begun}:`.padEnd(draw(20) === 0 ? 500 : 10, "x");
    return { kind, value, ...condition };
  }
}

const READY = Promise.resolve();

/** Histories side by side, by all their clients. */
async function run(server: FrailServer, callers: Caller[], seed: number, count: number): Promise<History[]> {
  const draw = randomOf(seed);
  const total = count * OPERATIONS;
  const kills = Array.from({ length: KILLS }, (_, kill) => Math.floor(((kill + 0.5 + draw(50) / 100) * total) / KILLS));
  let told = 0;
  const onTold = (): void => {
    told++;
    if (told === kills[0]) {
      kills.shift();
      server.restart("SIGKILL");
    } else if (draw(OPERATIONS_PER_CUT) === 0) server.cut(draw);
  };
  const histories = Array.from({ length: count }, (_, index) => {
    return new History(`h${seed}-${index}`, randomOf(draw(2 ** 31)), onTold);
  });
  const openCaller = async (protocol: "ws" | "http"): Promise<Caller> => {
    const { port, url } = server;
    const caller = protocol === "http" ? new RestCaller(port) : new WireCaller(await connect(url));
    callers.push(caller);
    return caller;
  };
  // All of them before any connection is cut.
  const clients = await Promise.all(histories.flatMap((history) => {
    return Array.from({ length: history.clients }, async (_, client) => {
      const protocol = client % 3 === 0 ? "http" : "ws";
      return { history, protocol, caller: await openCaller(protocol) };
    });
  }));
  await Promise.all(clients.map(({ history, protocol, caller }) => {
    // Who speaks REST waits for a server; the others do so by themselves.
    return history.work(caller, () => protocol === "http" ? server.up : READY);
  }));
  await server.up;
  expect(kills).toEqual([]);
  const last = await openCaller("ws");
  for (const history of histories) await history.readAll(last);
  return histories;
}

/** Fails with the calls of a key that no order explains. */
function explain(seed: number, { bucket, turns }: History): void {
  for (const [key, all] of turns.entries()) {
    const bad = unexplained(all);
    if (bad === undefined) continue;
    const lines = bad.map((turn) => `${turn.begin} to ${turn.end ?? "?"}: ${nameOf(turn)}`).slice(-60);
    throw new Error(
      `LINEAR_SEED=${seed}: no order explains key ${key} of ${bucket}, whose last calls were\n${lines.join("\n")}`,
    );
  }
}

describe("firkin serve", () => {
  test("firkin serve answers clients as if one came after another, cut off, killed and restarted", async () => {
    for (let first = 0; first < HISTORIES; first += SIDE_BY_SIDE) {
      const server = await FrailServer.open();
      const callers: Caller[] = [];
      try {
        const seed = SEED + first;
        const histories = await run(server, callers, seed, Math.min(SIDE_BY_SIDE, HISTORIES - first));
        for (const history of histories) explain(seed, history);
      } finally {
        await Promise.all(callers.map((caller) => caller.close()));
        await server.end();
      }
    }
  }, LIMIT_MS);
});
