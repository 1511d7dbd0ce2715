/**
 * Hostile input: whatever comes, a server answers or closes, in the way that is documented, says the same however the
 * bytes are split, keeps its memory, and goes on serving others.
 *
 * Each part goes on for `FUZZ_MS` (10 s; `npm run fuzz` gives each a minute), from `FUZZ_SEED`; a failure names the
 * seed of its case and shows the bytes. A case is drawn from its own seed, so that `FUZZ_SEED` of it alone begins with
 * it.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Buffer } from "node:buffer";
import { existsSync, readFileSync } from "node:fs";
import process from "node:process";
import { ManualClock } from "../../lib/base/clock.ts";
import { ERRORS } from "../../lib/base/errors.ts";
import { CLOSE, OP, SUBPROTOCOL } from "../../lib/wire/protocol.ts";
import { REST_CODES } from "../../server/problems.ts";
import { randomOf } from "../suites/random.ts";
import { hostOf, openMemoryEngine, settled } from "../wire/loopback.ts";
import { type Served, Workplace } from "./command.ts";
import { drawHandshake, drawMessage, drawPlain, exchange, type Heard, offersProtocol, splitUp } from "./fuzz.ts";
import { framesOf, type Item, message, Peer } from "./peer.ts";

const { env, versions } = process;
const FUZZ_MS = Number(env["FUZZ_MS"] ?? 10_000);
const SEED = Number(
  env["FUZZ_SEED"] ?? (versions["bun"] !== undefined ? 1 : versions["deno"] !== undefined ? 2 : 3) * 1_000_000,
);
const LIMIT_MS = FUZZ_MS + 30_000;
/** What one message may take, and how often it is tried before a busy machine is no excuse. */
const MESSAGE_MS_MAX = 50;
const TRIES = 4;
/** What a server may have grown by in the end. */
const GROWN_BYTES_MAX = 192 * 1_024 * 1_024;
const LANES = 16;

const CLOSE_CODES: readonly number[] = Object.values(CLOSE);
const ERROR_CODES: readonly number[] = Object.values(ERRORS).map(({ wire }) => wire);
/** Those of the tables but for the server's own faults, and those of the transports. */
const STATUSES = new Set([
  100,
  200,
  201,
  204,
  304,
  400,
  408,
  411,
  413,
  414,
  417,
  426,
  431,
  501,
  505,
  ...[...Object.values(ERRORS), ...Object.values(REST_CODES)].map(({ http }) => http),
]);
STATUSES.delete(500);

/** Cases by their seeds until the time is over, some side by side; how many there were. */
async function fuzz(lanes: number, run: (draw: (below: number) => number) => Promise<void>): Promise<number> {
  const until = performance.now() + FUZZ_MS;
  let seed = SEED;
  const lane = async (): Promise<void> => {
    while (performance.now() < until) {
      const own = seed++;
      try {
        await run(randomOf(own));
      } catch (error) {
        throw new Error(`FUZZ_SEED=${own}: ${String(error)}`, { cause: error });
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return seed - SEED;
}

/** Bytes as a failure shows them. */
function shown(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("latin1").replaceAll(/(.)\1{50,}/gs, "$1...");
  return JSON.stringify(text.slice(0, 1_000));
}

function expectThat(holds: boolean, what: string, bytes: Uint8Array): void {
  if (!holds) throw new Error(`${what}: ${bytes.length} bytes, ${shown(bytes)}`);
}

describe("Session", () => {
  test("Session.message() answers or closes, in time, whatever comes", async () => {
    const engine = await openMemoryEngine(new ManualClock());
    const failures: unknown[] = [];
    const host = hostOf(engine, {}, undefined, (error) => failures.push(error));
    let closed = 0;
    const count = await fuzz(1, async (draw) => {
      const bytes = drawMessage(draw);
      const greets = draw(10) > 0;
      let fastest = Infinity;
      let closes = false;
      for (let left = TRIES; left > 0 && fastest > MESSAGE_MS_MAX; left--) {
        const peer = new Peer(host);
        if (greets) peer.hello();
        const before = performance.now();
        peer.session.message(bytes.slice());
        fastest = Math.min(fastest, performance.now() - before);
        // What is behind it is answered, unless it closes.
        peer.send([OP.ping, PING]);
        const answers: Item[][] = [];
        while (peer.closedWith === undefined && !answers.some(([, id]) => id === PING)) {
          await settled();
          answers.push(...peer.frames());
        }
        for (const frame of [...answers, ...peer.frames()]) {
          const [kind, id, code] = frame as number[];
          expectThat([0, 1, 2, 3].includes(kind!) && Number.isInteger(id), `It says ${kind} ${id}`, bytes);
          if (kind === 1) expectThat(ERROR_CODES.includes(code!), `It says error ${code}`, bytes);
        }
        closes = peer.closedWith !== undefined;
        expectThat([undefined, ...CLOSE_CODES].includes(peer.closedWith), `It closes with ${peer.closedWith}`, bytes);
        peer.session.closed();
      }
      if (closes) closed++;
      expectThat(fastest <= MESSAGE_MS_MAX, `It takes ${fastest} ms`, bytes);
    });
    await settled();
    expect(failures).toEqual([]);
    expect([host.metrics.connections, host.metrics.subscriptions, host.metrics.bytesWaiting]).toEqual([0, 0, 0]);
    expect(closed).toBeGreaterThan(count / 20);
    expect(closed).toBeLessThan(count);
    await engine.close();
  }, LIMIT_MS);
});

describe("firkin serve", () => {
  let place: Workplace;
  let served: Served;
  beforeAll(async () => {
    place = new Workplace();
    served = await place.serve(["--data-dir", ":memory:", "--listen", "127.0.0.1:0"]);
  });
  afterAll(() => place.end());

  const parts = new Map<string, () => Promise<void>>();
  let running: Map<string, Promise<void>> | undefined;

  /** Parts go on side by side. */
  function part(name: string, body: () => Promise<void>): void {
    parts.set(name, body);
    test(name, async () => {
      running ??= new Map([...parts].map(([other, begin]) => [other, begin()]));
      // One that fails before it is waited for is not lost.
      for (const outcome of running.values()) outcome.catch(() => {});
      await running.get(name);
    }, LIMIT_MS);
  }

  /** Fails when the server does not serve, or has grown. */
  async function expectHealthy(bytesBefore: number): Promise<void> {
    const response = await fetch(`http://127.0.0.1:${served.port}/livez`);
    expect([response.status, await response.text()]).toEqual([200, "ok"]);
    expect(served.command.child.exitCode).toBe(null);
    expect(served.command.stderr.text).not.toContain("failure");
    expect(residentBytes(served) - bytesBefore).toBeLessThan(GROWN_BYTES_MAX);
  }

  /** Asks with the bytes whole and in pieces; `read` makes of what came what must be the same. */
  async function expectSame(
    bytes: Uint8Array,
    draw: (below: number) => number,
    options: { readonly first?: Uint8Array; readonly done: (heard: Buffer) => boolean },
    read: (heard: Heard) => unknown,
  ): Promise<Heard> {
    const ask = (pieces: Uint8Array[], patienceMs = 400) => exchange(served.port, pieces, { ...options, patienceMs });
    const isUws = served.transport === "uws";
    const pieces = splitUp(bytes, draw, isUws ? Buffer.from(bytes).indexOf("\r\n") + 2 : 0);
    const whole = await ask([bytes]);
    let both = [whole, await ask(pieces)];
    // uWebSockets.js does not wait for the rest of a request line, nor for that of a head of more than 4 KiB.
    const isCutShort = ({ bytes: heard }: Heard): boolean => statusesOf(heard).some((status) => UWS_CUTS.has(status));
    if (isUws && both.some(isCutShort)) return whole;
    const toldOf = (): string[] => both.map((heard) => JSON.stringify(read(heard)));
    // On a busy machine an answer may have come too late, and not be another.
    if (toldOf()[0] !== toldOf()[1]) both = [await ask([bytes], 10_000), await ask(pieces, 10_000)];
    // It may have got in one packet what came in two, or the other way round.
    if (isUws && both.some(isCutShort)) return whole;
    const told = toldOf();
    expectThat(told[0] === told[1], `Whole: ${told[0]}; in ${pieces.length} pieces: ${told[1]}`, bytes);
    return whole;
  }

  part("firkin serve answers or closes a plain request, whatever it is and however it is split", async () => {
    const sentinel = Buffer.from("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const before = residentBytes(served);
    const counts: Record<string, number> = {};
    await fuzz(LANES, async (draw) => {
      const bytes = Buffer.concat([drawPlain(draw), sentinel]);
      const heard = await expectSame(bytes, draw, { done: isOver }, outcomeOf);
      for (const status of statusesOf(heard.bytes)) {
        counts[status] = (counts[status] ?? 0) + 1;
        expectThat(STATUSES.has(status), `It says ${status}`, bytes);
      }
    });
    // It is the requests that are tried, and not the same refusal again and again.
    expect(counts[200]).toBeGreaterThan(0);
    expect(Object.keys(counts).length).toBeGreaterThan(6);
    await expectHealthy(before);
  });

  part("firkin serve lets in who offers its subprotocol, whatever a handshake is and however it is split", async () => {
    const before = residentBytes(served);
    let entered = 0;
    const count = await fuzz(LANES, async (draw) => {
      // An end in any case: who sends half a head is waited for.
      const bytes = Buffer.concat([drawHandshake(draw), Buffer.from("\r\n\r\n")]);
      const heard = await expectSame(bytes, draw, { done: isHead }, (answer) => outcomeOf(answer)[0]);
      const [status] = statusesOf(heard.bytes);
      if (status !== 101) return expectThat(status === undefined || STATUSES.has(status), `It says ${status}`, bytes);
      entered++;
      const head = heard.bytes.toString("latin1").toLowerCase();
      expectThat(offersProtocol(bytes), "It lets in who does not speak its protocol", bytes);
      const chosen = [...head.matchAll(/\r\nsec-websocket-protocol: *(.*?) *\r\n/g)].map(([, protocol]) => protocol);
      expectThat(chosen.length === 1 && chosen[0] === SUBPROTOCOL, `It chooses ${chosen.join()}`, bytes);
      expectThat(!head.includes("sec-websocket-extensions"), "It takes an extension", bytes);
    });
    expect(entered).toBeGreaterThan(0);
    expect(entered).toBeLessThan(count);
    await expectHealthy(before);
  });

  part("firkin serve answers messages alike however they are split", async () => {
    const before = residentBytes(served);
    const handshake = Buffer.from(
      "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 13\r\n" +
        `Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n\r\n`,
    );
    const hello = framed(message([OP.hello, 1, 1, null]));
    const ping = framed(message([OP.ping, PING]));
    await fuzz(LANES, async (draw) => {
      const messages = Array.from({ length: 1 + draw(4) }, () => framed(drawMessage(draw)));
      // Now and then what WebSocket itself does not take.
      if (draw(4) === 0) messages[0]![draw(6)]! ^= 1 << draw(8);
      const bytes = Buffer.concat([hello, ...messages, ping]);
      const options = { first: handshake, done: (heard: Buffer) => endOf(heard) !== undefined };
      const heard = await expectSame(
        bytes,
        draw,
        options,
        ({ bytes: said, closed }) => endOf(said) ?? (closed && "ended"),
      );
      const { closes, errors } = conversationOf(heard.bytes);
      for (const code of closes) expectThat(CLOSE_CODES.includes(code), `It closes with ${code}`, bytes);
      for (const code of errors) expectThat(ERROR_CODES.includes(code), `It says error ${code}`, bytes);
    });
    await expectHealthy(before);
  });
});

/** What a process has in memory; 0 where the system does not say. */
function residentBytes({ command }: Served): number {
  const path = `/proc/${command.child.pid}/status`;
  if (!existsSync(path)) return 0;
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(path, "utf8"))?.[1] ?? 0) * 1_024;
}

/** The id of the last request of a conversation. */
const PING = 4_000_000_000;

/** A binary message as a client sends it; the mask is zero, which changes nothing. */
function framed(payload: Uint8Array): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 6 : length < 65_536 ? 8 : 14);
  head[0] = 0x82;
  head[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (length >= 65_536) head.writeBigUInt64BE(BigInt(length), 2);
  else if (length >= 126) head.writeUInt16BE(length, 2);
  return Buffer.concat([head, payload]);
}

/** What a server said on a WebSocket: whether it answered the last request, its errors and its close. */
interface Conversation {
  readonly answered: boolean;
  readonly errors: number[];
  readonly closes: number[];
}

function conversationOf(bytes: Buffer): Conversation {
  const told = { answered: false, errors: [] as number[], closes: [] as number[] };
  for (let at = bytes.indexOf("\r\n\r\n") + 4; at >= 4 && at + 2 <= bytes.length;) {
    const [opcode, short] = [bytes[at]! & 15, bytes[at + 1]!];
    const start = at + (short < 126 ? 2 : short === 126 ? 4 : 10);
    if (start > bytes.length) break;
    const length = short < 126
      ? short
      : short === 126
      ? bytes.readUInt16BE(at + 2)
      : Number(bytes.readBigUInt64BE(at + 2));
    const payload = bytes.subarray(start, at = start + length);
    if (payload.length < length) break;
    if (opcode === 8) told.closes.push(payload.length < 2 ? 1005 : payload.readUInt16BE(0));
    if (opcode !== 2) continue;
    for (const [kind, id, code] of framesOf(new Uint8Array(payload))) {
      told.answered ||= id === PING;
      if (kind === 1) told.errors.push(code as number);
    }
  }
  told.errors.sort((left, right) => left - right);
  return told;
}

/**
 * How a conversation has ended: all is answered, with these errors, or the server has closed; undefined while neither
 * is so. What it said before it closed may be lost, where it did not read all that was sent.
 */
function endOf(bytes: Buffer): string | undefined {
  const { answered, errors, closes } = conversationOf(bytes);
  return answered ? `errors ${errors.join()}` : closes.length > 0 ? "ended" : undefined;
}

/** True when the head of an answer is there. */
function isHead(bytes: Buffer): boolean {
  return bytes.includes("\r\n\r\n");
}

/** True when the answer to the last request is there. */
function isOver(bytes: Buffer): boolean {
  return bytes.subarray(-6).toString("latin1") === "\r\n\r\nok";
}

/** What says that bytes are no request, or not one for this server; a transport may close instead. */
const REFUSALS = [400, 431, 505];
const UWS_CUTS = new Set([431, 505]);

/** What depends on what is there, which other requests change meanwhile. */
const ANSWERS = [200, 204, 304, 404, 406, 409, 412];

/**
 * What a client learns of its requests. Behind a refusal nothing counts: a transport that cannot read on closes, sooner
 * or later, and may have refused what followed, too.
 */
function outcomeOf({ bytes, closed }: Heard): (number | "answered" | "refused")[] {
  const statuses = statusesOf(bytes).filter((status) => status !== 100);
  const end = statuses.findIndex((status) => REFUSALS.includes(status));
  const told = end < 0 ? statuses : statuses.slice(0, end);
  const outcome = told.map((status) => ANSWERS.includes(status) ? "answered" : status);
  return end >= 0 || closed ? [...outcome, "refused"] : outcome;
}

function statusesOf(bytes: Buffer): number[] {
  return [...bytes.toString("latin1").matchAll(/HTTP\/1\.[01] (\d{3})/g)].map(([, status]) => Number(status));
}
