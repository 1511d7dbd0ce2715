/**
 * A session without a network: every command with any arguments, and a wire that the test holds the other end of.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import process from "node:process";
import { ManualClock } from "../../../lib/base/clock.ts";
import type { EmbeddedEngine } from "../../../lib/engine/embedded.ts";
import { EVERYONE } from "../../../server/auth.ts";
import type { RedisHost } from "../../../server/redis/call.ts";
import { Cursors } from "../../../server/redis/cursors.ts";
import { Hub } from "../../../server/redis/hub.ts";
import { Pace } from "../../../server/redis/pace.ts";
import { RedisSession } from "../../../server/redis/session.ts";
import { ROWS } from "../../../server/redis/table.ts";
import { Updates } from "../../../server/redis/view.ts";
import { randomOf } from "../../suites/random.ts";
import { guestOf, hostOf, openMemoryEngine, settled } from "../../wire/loopback.ts";
import { TestPace } from "./pace.ts";
import { encode } from "./peer.ts";

/** How long random commands are sent, on the runtime that has the time. */
const FUZZ_MS = Number(process.env["FIRKIN_FUZZ_MS"] ?? (process.versions["bun"] === undefined ? 200 : 1_000));

/** What a runtime says when our code is wrong: no client may ever read it. */
const OUR_FAULT = /undefined|destructure|not a function|not iterable|of null|BigInt|NaN,|\[object/;

/** At most so much is matched in a turn: what is allowed, and one match of the longest names. */
const STEPS_MAX = 1_000_000 + 1_200 * 1_200;
/** Each match of it with a long text of a takes most of a million steps. */
const DEAR = `*${"[a-b]".repeat(200)}`;

describe("RedisSession", () => {
  let engine: EmbeddedEngine;
  let failures: unknown[];
  let host: RedisHost;
  let sent: string;
  let isOver: boolean;
  /** Bytes that the other end has not taken. */
  let buffered: number;

  beforeEach(async () => {
    engine = await openMemoryEngine();
    failures = [];
    sent = "";
    const { commands, limits, clock, metrics, onFailure } = hostOf(engine, {}, undefined, (error) => {
      failures.push(error);
    });
    const pace = new Pace(clock);
    host = {
      commands,
      limits,
      clock,
      metrics,
      onFailure,
      updates: new Updates(),
      pace,
      hub: new Hub(pace),
      cursors: new Cursors(),
      clients: new Map(),
      settings: { notifications: "AKE" },
      writers: [],
      port: 1,
      startedAt: 0,
      runId: "",
      asksCredentials: false,
    };
  });

  afterEach(() => engine.close());

  function open(): RedisSession {
    isOver = false;
    buffered = 0;
    const session: RedisSession = new RedisSession(
      1,
      {
        address: "a:1",
        localAddress: "b:2",
        send: (bytes) => sent += String.fromCharCode(...bytes),
        bufferedBytes: () => buffered,
        pause: () => {},
        resume: () => {},
        end: () => isOver = true,
        destroy: () => isOver = true,
      },
      host,
      guestOf(EVERYONE),
      () => {},
    );
    host.clients.set(1, session);
    return session;
  }

  /** Resolves when the session has said `text`, or closed. */
  async function heard(text: string): Promise<void> {
    while (!sent.includes(text) && !isOver) await settled();
  }

  test(`answers any command with any arguments, for ${FUZZ_MS} ms`, async () => {
    const seed = 11;
    const draw = randomOf(seed);
    const words = [
      ..."a b 0 1 -1 16 * EX PX NX XX GT GET KEEPTTL COUNT MATCH TYPE ON OFF ID ADDR LIST yes default".split(" "),
      ..."SETNAME AUTH 2 3 ENCODING USAGE INFO DOCS GETKEYS SET set get notify-keyspace-events KEA".split(" "),
      "",
      "9223372036854775807",
      "\u0000\u00ff",
      "x".repeat(2_000),
    ];
    const subcommands = [...ROWS.values()].flatMap(({ subcommands = {} }) => Object.keys(subcommands));
    const names = [...ROWS.keys(), "nope"];
    let session = open();
    const end = performance.now() + FUZZ_MS;
    for (let round = 0; performance.now() < end; round++) {
      sent = "";
      const commands = Array.from({ length: 1 + draw(12) }, () => {
        const args = [names[draw(names.length)]!];
        if (draw(3) === 0) args.push(subcommands[draw(subcommands.length)]!);
        for (let left = draw(5); left > 0; left--) args.push(words[draw(words.length)]!);
        return args;
      });
      // What ends a transaction, a subscription and a version comes last.
      const all = [...commands, ["RESET"], ["ECHO", `end of ${round}`]];
      session.data(
        new Uint8Array(Buffer.concat(all.map((args) => encode(args.map((arg) => Buffer.from(arg, "latin1")))))),
      );
      await heard(`end of ${round}\r\n`);
      const said = OUR_FAULT.exec(sent.replace(/\$\d+\r\n[^\r]*/g, ""))?.[0];
      expect([seed, round, said, failures]).toEqual([seed, round, undefined, []]);
      if (!isOver) continue;
      session.closed();
      session = open();
    }
    session.closed();
  }, 30_000);

  test("sends the replies of a pipeline together", async () => {
    // However slow the machine is, this connection's turn is not over.
    host = { ...host, clock: new ManualClock() };
    const session = open();
    const pipeline = [...Array.from({ length: 50 }, (_, index) => ["SET", `k${index}`, "v"]), ["ECHO", "done"]];
    session.data(new Uint8Array(Buffer.concat(pipeline.map((args) => encode(args)))));
    await heard("done");
    expect(sent).toBe("+OK\r\n".repeat(50) + "$4\r\ndone\r\n");
    expect(host.metrics.messagesOut).toBe(1);
    session.closed();
  });

  test("EXEC judges what it watches by writes that are on their way, too", async () => {
    const [one, other] = [open(), open()];
    one.data(
      new Uint8Array(
        Buffer.concat([["SET", "a", "1"], ["WATCH", "a"], ["ECHO", "watched"]].map((args) => encode(args))),
      ),
    );
    await heard("watched");
    sent = "";
    // In one turn: the write of the other is not visible yet.
    other.data(new Uint8Array(encode(["SET", "a", "2"])));
    one.data(
      new Uint8Array(Buffer.concat([["MULTI"], ["SET", "a", "3"], ["EXEC"], ["GET", "a"]].map((args) => encode(args)))),
    );
    await heard("$1\r\n");
    expect(sent).toContain("*-1\r\n$1\r\n2\r\n");
    for (const session of [one, other]) session.closed();
  });

  test("transactions that meet run one after the other", async () => {
    const sessions = [open(), open(), open()];
    const commands = [["MULTI"], ["INCR", "n"], ["INCR", "n"], ["EXEC"], ["ECHO", "done"]];
    for (const session of sessions) session.data(new Uint8Array(Buffer.concat(commands.map((args) => encode(args)))));
    while (sent.split("done").length <= sessions.length) await settled();
    const results = [...sent.matchAll(/\*\d+\r\n(?::\d+\r\n)+/g)].map(([reply]) => reply);
    expect(results.sort()).toEqual(["*2\r\n:1\r\n:2\r\n", "*2\r\n:3\r\n:4\r\n", "*2\r\n:5\r\n:6\r\n"]);
    for (const session of sessions) session.closed();
  });

  test("an update is judged by writes that are on their way, whoever's they are", async () => {
    const session = open();
    session.data(new Uint8Array(encode(["SET", "n", "1"])));
    await heard("+OK\r\n");
    // In one turn, and of different kinds: none may undo another.
    const added = engine.increment("0", new TextEncoder().encode("n"), 10);
    session.data(new Uint8Array(encode(["INCR", "n"])));
    await added;
    await heard(":12\r\n");
    expect(sent).toBe("+OK\r\n:12\r\n");
    session.closed();
  });

  test("a pattern that is dear to match stops nobody else: KEYS rests, SCAN looks at fewer keys", async () => {
    const pace = new TestPace();
    host = { ...host, pace };
    const session = open();
    const long = Array.from({ length: 6 }, (_, index) => `${"a".repeat(1_000)}${index}`);
    for (const key of long) await engine.set("0", new TextEncoder().encode(key), new Uint8Array(1), { content: 0 });
    const pattern = `${DEAR}?`;
    session.data(new Uint8Array(encode(["KEYS", pattern])));
    await pace.runUntil(() => sent !== "");
    expect(pace.turns.length).toBeGreaterThanOrEqual(1);
    for (const key of long) expect(sent).toContain(key);
    let [cursor, shown, calls] = ["0", "", 0];
    do {
      sent = "";
      session.data(new Uint8Array(encode(["SCAN", cursor, "MATCH", pattern, "COUNT", "100"])));
      await pace.runUntil(() => sent.includes("*2"));
      cursor = sent.split("\r\n")[2]!;
      shown += sent;
      calls++;
    } while (cursor !== "0");
    for (const key of long) expect(shown.split(key)).toHaveLength(2);
    expect(calls).toBeGreaterThan(1);
    expect(Math.max(...pace.turns)).toBeLessThan(STEPS_MAX);
    session.closed();
  });

  test("patterns that are dear to match stop nobody else: PUBLISH goes on in later turns, in order", async () => {
    const pace = new TestPace();
    host = { ...host, pace, hub: new Hub(pace) };
    const [listener, one, other] = [open(), open(), open()];
    const patterns = Array.from({ length: 12 }, (_, index) => `${DEAR}${index}`);
    const channel = "a".repeat(1_152);
    listener.data(new Uint8Array(encode(["PSUBSCRIBE", ...patterns, "*"])));
    await heard(":13\r\n");
    sent = "";
    one.data(new Uint8Array(encode(["PUBLISH", channel, "first"])));
    other.data(new Uint8Array(encode(["PUBLISH", "short", "second"])));
    expect(sent).toBe("");
    await pace.runUntil(() => sent.split(":1\r\n").length > 2);
    expect(sent.indexOf("first")).toBeGreaterThan(0);
    expect(sent.indexOf("second")).toBeGreaterThan(sent.indexOf("first"));
    expect(pace.turns.length).toBeGreaterThan(2);
    expect(Math.max(...pace.turns)).toBeLessThan(STEPS_MAX);
    for (const session of [listener, one, other]) session.closed();
  });

  test("notifications are held against dear patterns in turns, and none comes when its pattern is over", async () => {
    const pace = new TestPace();
    host = { ...host, pace };
    const [listener, other] = [open(), open()];
    const patterns = Array.from({ length: 4 }, (_, index) => `__keyspace@0__:${DEAR}${index}`);
    listener.data(new Uint8Array(encode(["PSUBSCRIBE", ...patterns, "__keyevent@0__:*"])));
    await pace.runUntil(() => sent.includes(":5\r\n"));
    sent = "";
    const batch = Array.from({ length: 6 }, (_, index) => [`${"a".repeat(1_000)}${index}`, "v"]).flat();
    other.data(new Uint8Array(encode(["MSET", ...batch])));
    await pace.runUntil(() => sent.split("pmessage").length > 3);
    // What was about to be told of it waits for its turn.
    listener.data(new Uint8Array(encode(["RESET"])));
    expect(sent).toContain("+RESET");
    expect(pace.isResting).toBe(true);
    await pace.runUntil(() => !pace.isResting);
    expect(sent.split("+RESET\r\n")[1]).toBe("");
    expect(pace.turns.length).toBeGreaterThan(2);
    expect(Math.max(...pace.turns)).toBeLessThan(STEPS_MAX);
    for (const session of [listener, other]) session.closed();
  });

  test("changes are held against tracked prefixes in turns, and nothing is told when tracking is off", async () => {
    const pace = new TestPace();
    host = { ...host, pace };
    const [listener, other] = [open(), open()];
    const prefixes = Array.from({ length: 60 }, (_, index) => ["PREFIX", `${"a".repeat(1_000)}${index}`]);
    listener.data(new Uint8Array(encode(["HELLO", "3"])));
    sent = "";
    listener.data(new Uint8Array(encode(["CLIENT", "TRACKING", "ON", "BCAST", ...prefixes.flat(), "PREFIX", "b"])));
    await pace.runUntil(() => sent !== "");
    expect(sent).toBe("+OK\r\n");
    const batch = Array.from({ length: 60 }, (_, index) => [`b${"a".repeat(1_000)}${index}`, "v"]).flat();
    other.data(new Uint8Array(encode(["MSET", ...batch])));
    await pace.runUntil(() => pace.turns.length > 0);
    expect(sent).toContain("invalidate");
    listener.data(new Uint8Array(encode(["CLIENT", "TRACKING", "OFF"])));
    sent = "";
    expect(pace.isResting).toBe(true);
    await pace.runUntil(() => !pace.isResting);
    expect(sent).toBe("");
    expect(Math.max(...pace.turns)).toBeLessThan(STEPS_MAX);
    for (const session of [listener, other]) session.closed();
  });

  test("what keys are read by is told, and keys are listed, though a PUBLISH among dear patterns goes on", async () => {
    const pace = new TestPace();
    host = { ...host, pace, hub: new Hub(pace) };
    const [listener, publisher, reader, other] = [open(), open(), open(), open()];
    const patterns = Array.from({ length: 12 }, (_, index) => `${DEAR}${index}`);
    listener.data(new Uint8Array(encode(["PSUBSCRIBE", ...patterns])));
    reader.data(
      new Uint8Array(Buffer.concat([["HELLO", "3"], ["CLIENT", "TRACKING", "ON"]].map((args) => encode(args)))),
    );
    await heard("+OK\r\n");
    reader.data(new Uint8Array(encode(["GET", "k"])));
    await heard("_\r\n");
    sent = "";
    publisher.data(new Uint8Array(encode(["PUBLISH", "a".repeat(1_152), "m"])));
    expect(pace.isResting).toBe(true);
    await engine.set("0", new TextEncoder().encode("k"), new Uint8Array(1), { content: 0 });
    await pace.runUntil(() => true);
    expect([pace.turns, sent.includes("invalidate")]).toEqual([[], true]);
    other.data(new Uint8Array(encode(["SCAN", "0", "MATCH", "k*"])));
    await pace.runUntil(() => sent.includes("*2"));
    expect(pace.turns.length).toBeLessThan(4);
    expect(pace.isResting).toBe(true);
    for (const session of [listener, publisher, reader, other]) session.closed();
  });

  test("PUBLISH is refused while too much of others waits, whether they are there or gone", async () => {
    const pace = new TestPace();
    host = { ...host, pace, hub: new Hub(pace), limits: { ...host.limits, publishBytesMax: 13_000 } };
    const [listener, one] = [open(), open()];
    listener.data(new Uint8Array(encode(["PSUBSCRIBE", DEAR, `${DEAR}?`])));
    await heard(":2\r\n");
    sent = "";
    for (const channel of ["a".repeat(1_152), "b"]) {
      const gone = open();
      gone.data(new Uint8Array(encode(["PUBLISH", channel, "m"])));
      gone.closed();
    }
    one.data(new Uint8Array(encode(["PUBLISH", "c", "m"])));
    expect(sent).toBe("-BUSY Cannot publish: 13443 bytes of messages wait, at most 13000 are allowed\r\n");
    await pace.runUntil(() => host.hub.bytesWaiting === 0);
    one.data(new Uint8Array(encode(["PUBLISH", "c", "m"])));
    await heard(":0\r\n");
    for (const session of [listener, one]) session.closed();
  });

  test("the patterns of a connection have a length together, which those that are over do not add to", async () => {
    const session = open();
    const most = host.limits.patternBytesMax / 1_024;
    const patterns = Array.from({ length: most }, (_, index) => `${index}*`.padEnd(1_024, "x"));
    session.data(new Uint8Array(encode(["PSUBSCRIBE", ...patterns, patterns[0]!])));
    await heard(`:${most}\r\n`);
    const ask = async (...command: string[]): Promise<string> => {
      sent = "";
      session.data(new Uint8Array(encode(command)));
      await heard("\r\n");
      return sent;
    };
    expect(await ask("PSUBSCRIBE", "y")).toBe(
      "-BUSY Cannot subscribe: patterns and prefixes of this connection would have 65537 bytes, at most 65536 " +
        "are allowed\r\n",
    );
    expect(await ask("SUBSCRIBE", "y")).toContain("subscribe");
    await ask("PUNSUBSCRIBE", patterns[3]!);
    expect(await ask("PSUBSCRIBE", "y")).toContain("psubscribe");
    session.closed();
  });

  test("reads nothing more while too much waits to be sent", async () => {
    const session = open();
    buffered = host.limits.outboundBytesMax + 1;
    session.data(new Uint8Array(encode(["ECHO", "first"])));
    session.data(new Uint8Array(encode(["ECHO", "second"])));
    await heard("first");
    expect(sent).not.toContain("second");
    buffered = 0;
    session.drain();
    expect(sent).toContain("second");
    session.closed();
  });
});
