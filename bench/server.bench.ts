/**
 * The server and its client against Redis and against bare WebSockets.
 *
 * What is asked and how is in `requests.ts`, `capacity.ts` and `events.ts`; here are the parts, their targets, and how
 * they are told. The server has one core and what asks it the other, where there are two and `taskset`.
 *
 * `--only gets,sets` runs parts of it, `--rounds N` more than the usual three, `--quick` short ones: to see that it
 * runs, no figures to keep. `--json` prints one line per figure of each round.
 *
 * @module
 */
import process from "node:process";
import { type ContestOptions, contestOptions, digits, spread, table } from "./contest.ts";
import { CLIENT_CORE, pin } from "./core.ts";
import { runtime } from "./harness.ts";
import { Capacity, type Load } from "./capacity.ts";
import { type Deliveries, expiries, FanOut, idleConnections, type Lateness, muteReaders } from "./events.ts";
import { hasRedis } from "./redis.ts";
import { Pair, type Round, type Took, type Work } from "./requests.ts";

type RuntimeName = ReturnType<typeof runtime>["name"];

/** What a part has found: figures of both sides, and the ratio of each round. */
export interface Finding {
  readonly name: string;
  readonly firkin: readonly number[];
  readonly rival: readonly number[];
  readonly unit: string;
  /** What is compared with the target: round by round. */
  readonly ratios: readonly number[];
  readonly least?: number;
  readonly most?: number;
  readonly note?: string;
}

/** A part of the benchmark, by the word that `--only` knows. */
interface Part {
  readonly word: string;
  readonly needsRedis: boolean;
  run(options: ContestOptions): Promise<readonly Finding[]>;
}

const PARTS: readonly Part[] = [
  {
    word: "gets",
    needsRedis: true,
    run: (options) => requests("get", "os", "none", options),
  },
  {
    word: "sets",
    needsRedis: true,
    run: (options) => requests("set", "os", "none", options),
  },
  {
    word: "interval",
    needsRedis: true,
    run: (options) => requests("set", "interval", "everysec", options),
  },
  { word: "capacity", needsRedis: true, run: capacity },
  { word: "fanout", needsRedis: false, run: fanOut },
  { word: "expiry", needsRedis: false, run: expiry },
  { word: "memory", needsRedis: false, run: memory },
  { word: "mute", needsRedis: false, run: mute },
];

/** How many requests are outstanding, and the least ratio of rates that is wanted on Node, and elsewhere. */
const OUTSTANDING: Readonly<
  Record<
    Work,
    readonly (readonly [count: number, node: number, others: number])[]
  >
> = {
  get: [[1, 1, 1], [64, 2.5, 2], [512, 4, 2]],
  set: [[1, 1, 1], [64, 1.8, 1.8], [512, 1.8, 1.8]],
};

async function requests(
  work: Work,
  policy: "os" | "interval",
  redisPolicy: "none" | "everysec",
  { quick, rounds }: ContestOptions,
): Promise<readonly Finding[]> {
  const pair = await Pair.start(policy, redisPolicy);
  for (const [outstanding] of OUTSTANDING[work]) {
    await pair.round(work, outstanding, true);
  }
  const found = new Map<number, Round[]>(
    OUTSTANDING[work].map(([outstanding]) => [outstanding, []]),
  );
  for (let round = 0; round < rounds; round++) {
    for (const [outstanding, done] of found) {
      done.push(await pair.round(work, outstanding, quick));
    }
  }
  await pair.stop();
  return OUTSTANDING[work].flatMap(([outstanding, node, others]) => {
    const name = `${work}, ${policy}, ${outstanding} outstanding`;
    const done = found.get(outstanding)!;
    const least = runtime().name === "node" ? node : others;
    return outstanding === 1 ? [latencyOf(name, done)] : ratesOf(name, done, least);
  });
}

function latencyOf(name: string, rounds: readonly Round[]): Finding {
  const firkin = rounds.map((round) => round.firkin.p50);
  const rival = rounds.map((round) => round.redis.p50);
  return {
    name: `${name}: p50`,
    firkin,
    rival,
    unit: "us",
    ratios: divide(firkin, rival),
    most: 1,
  };
}

/** By the wall clock, and by the processor's time of the end that is slower. */
function ratesOf(
  name: string,
  rounds: readonly Round[],
  least: number,
): Finding[] {
  const firkin = rounds.map((round) => round.firkin.perSecond);
  const rival = rounds.map((round) => round.redis.perSecond);
  const costs = rounds.map((round) => costOf(round.firkin));
  const costsOfRival = rounds.map((round) => costOf(round.redis));
  const middle = (
    side: "firkin" | "redis",
    end: "client" | "server",
  ): string => {
    return digits(spread(rounds.map((round) => round[side][end])).median);
  };
  const note = `client and server: ${middle("firkin", "client")} and ${middle("firkin", "server")}, ` +
    `rival ${middle("redis", "client")} and ${middle("redis", "server")}`;
  return [
    {
      name: `${name}: rate`,
      firkin,
      rival,
      unit: "/s",
      ratios: divide(firkin, rival),
      least,
    },
    {
      name: `${name}: slower end`,
      firkin: costs,
      rival: costsOfRival,
      unit: "us CPU",
      ratios: divide(costsOfRival, costs),
      least,
      note,
    },
  ];
}

function costOf({ client, server }: Took): number {
  return Math.max(client, Number.isNaN(server) ? 0 : server);
}

async function capacity(
  { quick, rounds }: ContestOptions,
): Promise<readonly Finding[]> {
  const both = await Capacity.start();
  if (both === undefined) {
    console.error("server: capacity is left out: there is no C compiler");
    return [];
  }
  const firkin: Load[] = [];
  const redis: Load[] = [];
  await both.firkin(true);
  for (let round = 0; round < rounds; round++) {
    firkin.push(await both.firkin(quick));
    redis.push(await both.redis(quick));
  }
  await both.stop();
  return ratesAndCosts("get, native load, 16 a message", firkin, redis, 2);
}

async function fanOut(
  { quick, rounds }: ContestOptions,
): Promise<readonly Finding[]> {
  const groups = quick ? 20 : 100;
  const both = await FanOut.start();
  const firkin: Deliveries[] = [];
  const raw: Deliveries[] = [];
  await both.firkin(10);
  for (let round = 0; round < rounds; round++) {
    firkin.push(await both.firkin(groups));
    raw.push(await both.raw(groups));
  }
  await both.stop();
  return ratesAndCosts(
    "1,000 subscribers, groups of 16: deliveries",
    firkin,
    raw,
    0.7,
  );
}

/** Each round has a server of its own: the first expiries of a process are the late ones. */
async function expiry({ quick, rounds }: ContestOptions): Promise<readonly Finding[]> {
  const [keys, due] = quick ? [50_000, 2_000] : [1_000_000, 10_000];
  const found: Lateness[] = [];
  for (let round = 0; round < rounds; round++) found.push(await expiries(keys, due));
  const name = `${keys.toLocaleString("en")} keys, ${due.toLocaleString("en")} due in a second: lateness p99`;
  const late = found.map(({ p99 }) => p99);
  const middle = spread(found.map(({ p50 }) => p50)).median;
  const delivered = found.reduce((sum, round) => sum + round.delivered, 0);
  return [{
    name,
    firkin: late,
    rival: [],
    unit: "ms",
    ratios: late,
    most: 50,
    note: `p50 ${middle}, max ${Math.max(...found.map(({ max }) => max))}, ${delivered} delivered`,
  }];
}

/** `CONNECTIONS` makes it another number, at most the server's 10,000. */
async function memory({ quick }: ContestOptions): Promise<readonly Finding[]> {
  const count = connectionsOf(quick ? 1_000 : 7_000);
  const { firkin, raw } = await idleConnections(count);
  const name = `memory of an idle connection, of ${count.toLocaleString("en")}`;
  return [{
    name,
    firkin: [firkin],
    rival: [raw],
    unit: "B",
    ratios: [firkin / raw],
    most: 1.5,
  }];
}

/** The same variable. */
async function mute({ quick }: ContestOptions): Promise<readonly Finding[]> {
  const count = connectionsOf(quick ? 200 : 1_000);
  const { beside, besideMute, mute, cutAfter } = await muteReaders(count);
  const name = `${count.toLocaleString("en")} connections, ${mute} never read: p99 of others, against all reading`;
  return [{
    name,
    firkin: [besideMute],
    rival: [beside],
    unit: "ms",
    ratios: [besideMute / beside],
    most: 1.2,
    note: `all cut ${digits(cutAfter)} s after they were full`,
  }];
}

function connectionsOf(usual: number): number {
  return Number(process.env["CONNECTIONS"] ?? usual);
}

function ratesAndCosts(
  name: string,
  firkin: readonly (Load | Deliveries)[],
  rival: readonly (Load | Deliveries)[],
  least: number,
): Finding[] {
  const rates = firkin.map(({ perSecond }) => perSecond);
  const ratesOfRival = rival.map(({ perSecond }) => perSecond);
  const costs = firkin.map(({ server }) => server);
  const costsOfRival = rival.map(({ server }) => server);
  return [
    {
      name: `${name}: rate`,
      firkin: rates,
      rival: ratesOfRival,
      unit: "/s",
      ratios: divide(rates, ratesOfRival),
      least,
    },
    {
      name: `${name}: server`,
      firkin: costs,
      rival: costsOfRival,
      unit: "us CPU",
      ratios: divide(costsOfRival, costs),
      least,
    },
  ];
}

function divide(left: readonly number[], right: readonly number[]): number[] {
  return left.map((number, place) => number / right[place]!);
}

// --- telling ---

function printLines(part: string, findings: readonly Finding[]): void {
  const { name: runtimeName, version } = runtime();
  for (const finding of findings) {
    console.log(
      JSON.stringify({
        subject: "server",
        runtime: runtimeName,
        version,
        part,
        ...finding,
      }),
    );
  }
}

function withRange(numbers: readonly number[]): string {
  if (numbers.length === 0) return "";
  const { median, min, max } = spread(numbers);
  return numbers.length === 1 ? digits(median) : `${digits(median)} (${digits(min)}-${digits(max)})`;
}

function wantedOf({ least, most }: Finding): string {
  if (least !== undefined) return `>= ${least}`;
  return most === undefined ? "" : `<= ${most}`;
}

function verdictOf(
  { ratios, least = -Infinity, most = Infinity }: Finding,
): string {
  const { median } = spread(ratios);
  return median >= least && median <= most ? "hit" : "missed";
}

function printTable(findings: readonly Finding[]): void {
  const rows = findings.map((finding) => [
    `${finding.name}, ${finding.unit}`,
    withRange(finding.firkin),
    withRange(finding.rival),
    withRange(finding.ratios),
    wantedOf(finding),
    verdictOf(finding),
    finding.note ?? "",
  ]);
  console.log(
    `${
      table([[
        "median (range)",
        "firkin",
        "rival",
        "ratio",
        "wanted",
        "",
        "us CPU",
      ], ...rows])
    }\n`,
  );
}

const options = contestOptions();
try {
  if (!pin(process.pid, CLIENT_CORE)) {
    console.error("server: nobody is kept on a core of its own here");
  }
  const name: RuntimeName = runtime().name;
  const findings: Finding[] = [];
  for (const part of PARTS) {
    if (options.only.length > 0 && !options.only.includes(part.word)) continue;
    if (part.needsRedis && !hasRedis()) {
      console.error(
        `server: ${part.word} is left out: redis-server and redis-benchmark are not installed`,
      );
      continue;
    }
    const started = performance.now();
    const found = await part.run(options);
    findings.push(...found);
    if (options.json) printLines(part.word, found);
    else {console.error(
        `${part.word} on ${name}: ${((performance.now() - started) / 1_000).toFixed(0)} s`,
      );}
  }
  if (!options.json && findings.length > 0) printTable(findings);
} catch (error) {
  console.error(error);
  process.exit(1);
}
