/**
 * Goes through the crashes of a workload, and the crashes of the recoveries from them, and says which break a promise.
 *
 * A workload runs once. Then each moment of its trace is taken in turn, and at each the ways in which a crash may go
 * (`platter.ts`); equal states are recovered from once. A recovery has a trace too, so it is gone through in the same
 * way, for some of the states: double crashes, and for a few of those triple ones.
 *
 * What is found wrong has an *address*, `workload@setup/point/survivors/seed`, with three more parts for each further
 * crash, and `!kind:call:once` behind the setup of a run with a fault. {@link replay} does that alone.
 *
 * @module
 */
import { messageOf } from "../../lib/base/errors.ts";
import { concerns, type Fault, FAULT_KINDS } from "./disk.ts";
import type { Setup } from "./life.ts";
import {
  type Expect,
  expectAfter,
  expectAfterRecovery,
  type Expectation,
  judge,
  judgeKeys,
  recover,
  type Recovery,
} from "./oracle.ts";
import { DATA_MODES, NAME_MODES, nameOf, Platter, type Survivors, type Trace } from "./platter.ts";
import { hashBytes, hashText, mixSeeds, Random } from "./random.ts";
import { type History, runWorkload } from "./workload.ts";

/** What was explored. */
export interface Counts {
  workloads: number;
  /** Distinct states after one crash, by workload. */
  states: number;
  /** Distinct states after a crash of a recovery. */
  doubles: number;
  triples: number;
  faultRuns: number;
  faultStates: number;
  /** Crashes looked at, equal states counted each time. */
  crashes: number;
  /** Runs whose subscription had to start again, which are not judged. */
  unjudged: number;
}

/** One broken promise. */
export interface Violation {
  readonly address: string;
  readonly problems: readonly string[];
}

/** How thoroughly to look. */
export interface ExploreOptions {
  readonly seed: number;
  /** One in so many states is crashed again while it recovers. */
  readonly doubleOnceIn: number;
  readonly tripleOnceIn: number;
  readonly report: (violation: Violation) => void;
  /** True when time is up: a long workload is left where it is. */
  readonly isLate?: () => boolean;
}

/** A trace, where it began, and what its crashes may leave. */
interface Timeline {
  readonly address: string;
  readonly setup: Setup;
  readonly platter: Platter;
  readonly trace: Trace;
  readonly expect: Expect;
  readonly keys: readonly string[];
  /** Crashes before this one. */
  readonly depth: number;
  readonly random: Random;
  readonly seen: Map<string, Recovery>;
}

/** The ways of a crash that are tried at each moment, and how often those that draw. */
const PLANS: readonly (readonly [Survivors["data"], Survivors["names"], number])[] = [
  ["process", "all", 1],
  ["none", "durable", 1],
  ["all", "all", 1],
  ["all", "durable", 1],
  ["none", "all", 1],
  ["zeros", "all", 1],
  ["garbage", "all", 1],
  ["prefix", "all", 2],
  ["prefix", "durable", 1],
  ["shreds", "any", 2],
  ["shreds", "all", 1],
  ["sectors", "any", 1],
  ["sectors", "all", 1],
  ["pages", "ordered", 1],
  ["reordered", "any", 1],
  ["reordered", "all", 1],
];

/** The same for a crash of a recovery. */
const LATER_PLANS: typeof PLANS = [
  ["process", "all", 1],
  ["none", "durable", 1],
  ["all", "all", 1],
  ["prefix", "all", 1],
  ["shreds", "any", 1],
  ["reordered", "all", 1],
];

const DEPTH_MAX = 2;

/** Explores, and counts what it has explored. */
export class Explorer {
  readonly counts: Counts = {
    workloads: 0,
    states: 0,
    doubles: 0,
    triples: 0,
    faultRuns: 0,
    faultStates: 0,
    crashes: 0,
    unjudged: 0,
  };
  /** A hash of everything that was done to disks by the workloads: equal for equal seeds. */
  traceHash = 0;
  readonly #options: ExploreOptions;

  constructor(options: ExploreOptions) {
    this.#options = options;
  }

  /** All moments of a workload, or those of its last step alone: the ones before belong to shorter workloads too. */
  async explore(workload: string, lastStepOnly = false): Promise<void> {
    this.counts.workloads++;
    const history = await this.#run(workload, workload);
    if (history === undefined) return;
    // What happens before the first step is the empty workload's.
    const { steps } = history;
    const from = lastStepOnly && steps.length > 1 ? steps[steps.length - 2]! + 1 : 0;
    await this.#walk(timelineOf(workload, history, this.#options.seed), from);
  }

  /** The last moment of a workload alone: what it comes to, at a hundredth of the cost. */
  async exploreEnd(workload: string): Promise<void> {
    this.counts.workloads++;
    const history = await this.#run(workload, workload);
    if (history === undefined) return;
    await this.#walk(timelineOf(workload, history, this.#options.seed), history.disk.trace.length);
  }

  /** A workload with each fault at each call, and the states that are left at its end. */
  async exploreFaults(workload: string): Promise<void> {
    const history = await this.#run(workload, workload);
    if (history === undefined) return;
    for (const call of history.disk.calls) {
      for (const kind of FAULT_KINDS) {
        if (!concerns(kind, call)) continue;
        for (const forever of [false, true]) await this.#fault(workload, { kind, at: call.number, forever });
      }
    }
  }

  async #fault(workload: string, fault: Fault): Promise<void> {
    this.counts.faultRuns++;
    const address = `${workload}!${fault.kind}:${fault.at}:${fault.forever ? "forever" : "once"}`;
    const history = await this.#run(address, workload, fault);
    if (history === undefined) return;
    const timeline = timelineOf(address, history, this.#options.seed);
    const platter = platterAt(timeline, timeline.trace.length);
    const seen = new Set<string>();
    for (const survivors of plan(PLANS.slice(0, 10), timeline.random)) {
      const image = platter.survive(survivors);
      const key = `${image.hash()} ${survivors.data === "process"}`;
      if (seen.has(key)) continue;
      seen.add(key);
      this.counts.faultStates++;
      const problems = await judgeFault(timeline, history, image, survivors);
      this.#check(addressOf(timeline, timeline.trace.length, survivors), problems);
    }
  }

  async #run(address: string, workload: string, fault?: Fault): Promise<History | undefined> {
    try {
      const history = await runWorkload(workload, fault);
      this.#check(address, history.problems);
      this.traceHash = hashTrace(history.disk.trace, this.traceHash);
      if (!history.missed || fault !== undefined) return history;
      this.counts.unjudged++;
    } catch (error) {
      this.#check(address, [`the run ended: ${messageOf(error)}`]);
    }
    return undefined;
  }

  async #walk(timeline: Timeline, from: number): Promise<void> {
    const { trace, depth } = timeline;
    const platter = timeline.platter.clone();
    const base = platter.applied;
    for (let point = 0; point <= trace.length; point++) {
      if (point > 0) platter.apply(trace[point - 1]!, base);
      if (point < from) continue;
      if (this.#options.isLate?.() === true) return;
      const plans = platter.settled ? PLANS.slice(0, 2) : depth === 0 ? PLANS : LATER_PLANS;
      for (const survivors of plan(plans, timeline.random)) await this.#crash(timeline, platter, point, survivors);
    }
  }

  async #crash(timeline: Timeline, platter: Platter, point: number, survivors: Survivors): Promise<void> {
    this.counts.crashes++;
    const { depth, seen, random } = timeline;
    const expectation = expectationAt(timeline, point, survivors);
    const image = platter.survive(survivors);
    const key = `${image.hash()} ${expectation.wall} ${expectation.cursor ?? ""}`;
    const known = seen.get(key);
    const recovery = known ?? await recoverFrom(timeline, image, expectation);
    const address = addressOf(timeline, point, survivors);
    this.#check(
      address,
      known === undefined ? judge(recovery, expectation) : judge({ ...known, problems: [] }, expectation),
    );
    if (known !== undefined) return;
    seen.set(key, recovery);
    this.counts[DEPTHS[depth]!]++;
    const { doubleOnceIn, tripleOnceIn } = this.#options;
    const once = depth === 0 ? image.settled ? doubleOnceIn : Math.ceil(doubleOnceIn / 2) : tripleOnceIn;
    if (depth === DEPTH_MAX || recovery.found === undefined || !random.once(once)) return;
    await this.#walk(laterTimeline(timeline, image, recovery, expectation, point, survivors), 0);
  }

  #check(address: string, problems: readonly string[]): void {
    if (problems.length > 0) this.#options.report({ address, problems });
  }
}

const DEPTHS = ["states", "doubles", "triples"] as const;

// --- replay ---

/** What one address says, and the trace of the run that it crashes. */
export async function replay(address: string): Promise<{ lines: string[]; problems: readonly string[] }> {
  const [run = "", ...parts] = address.split("/");
  const [workload = "", faultName] = run.split("!");
  const fault = faultName === undefined ? undefined : faultOf(faultName);
  const history = await runWorkload(workload, fault);
  const lines = history.problems.map((problem) => `while it ran: ${problem}`);
  let timeline = timelineOf(run, history, 0);
  let problems = history.problems;
  for (let at = 0; at + 2 < parts.length; at += 3) {
    const point = Number(parts[at]);
    const survivors = survivorsOf(parts[at + 1]!, Number(parts[at + 2]));
    const image = platterAt(timeline, point).survive(survivors);
    const expectation = expectationAt(timeline, point, survivors);
    const recovery = await recoverFrom(timeline, image, expectation);
    problems = fault === undefined
      ? judge(recovery, expectation)
      : await judgeFault(timeline, history, image, survivors);
    lines.push(...describe(timeline, point, image, expectation, recovery));
    timeline = laterTimeline(timeline, image, recovery, expectation, point, survivors);
  }
  return { lines: [...lines, ...problems.map((problem) => `WRONG: ${problem}`)], problems };
}

function describe(
  timeline: Timeline,
  point: number,
  image: Platter,
  expectation: Expectation,
  recovery: Recovery,
): string[] {
  const state = (index: number): string => JSON.stringify([...(expectation.states[index] ?? [])]);
  const files = [...image.names()].map(([name, file]) => `${name} (${image.bytes(file).length} bytes)`);
  return [
    `${timeline.address}: ${timeline.trace.length} operations, a crash after ${point}`,
    ...timeline.trace.map((operation, index) => {
      const { bytes, ...rest } = { bytes: undefined, ...operation };
      return `${index + 1 === point ? ">" : " "} ${index + 1} ${JSON.stringify({ ...rest, bytes: bytes?.length })}`;
    }),
    `left: ${files.join(", ") || "nothing"}`,
    `expected: a state from ${expectation.least} changes on, ${state(expectation.least)}`,
    `to ${expectation.most}, ${state(expectation.most)}`,
    `found: ${recovery.found === undefined ? "no store" : JSON.stringify([...recovery.found])}`,
  ];
}

function faultOf(name: string): Fault {
  const [kind, at, forever] = name.split(":");
  return { kind: kind as Fault["kind"], at: Number(at), forever: forever === "forever" };
}

function survivorsOf(name: string, seed: number): Survivors {
  const [data, names] = name.split(".");
  const isData = data === "process" || DATA_MODES.some((mode) => mode === data);
  if (!isData || !NAME_MODES.some((mode) => mode === names)) throw new Error(`There are no survivors ${name}`);
  return { data: data as Survivors["data"], names: names as Survivors["names"], seed };
}

// --- timelines ---

function timelineOf(address: string, history: History, seed: number): Timeline {
  return {
    address,
    setup: history.setup,
    platter: new Platter(),
    trace: history.disk.trace,
    expect: expectAfter(history),
    keys: [...new Set(history.changes.map(({ key }) => key))],
    depth: 0,
    random: new Random(mixSeeds(seed, hashText(address))),
    seen: new Map(),
  };
}

function laterTimeline(
  timeline: Timeline,
  image: Platter,
  recovery: Recovery,
  expectation: Expectation,
  point: number,
  survivors: Survivors,
): Timeline {
  const powerWasCut = survivors.data !== "process";
  const before: Expect = (at, data) => ({ ...timeline.expect(at, data), wall: expectation.wall });
  return {
    ...timeline,
    address: addressOf(timeline, point, survivors),
    platter: image,
    // The recovery goes on being used by nobody else.
    trace: recovery.trace,
    expect: expectAfterRecovery(recovery, expectation, timeline.setup, powerWasCut, before, point),
    depth: timeline.depth + 1,
    seen: new Map(),
  };
}

function addressOf(timeline: Timeline, point: number, survivors: Survivors): string {
  return `${timeline.address}/${point}/${nameOf(survivors)}/${survivors.seed}`;
}

function platterAt(timeline: Timeline, point: number): Platter {
  const platter = timeline.platter.clone();
  const base = platter.applied;
  for (const operation of timeline.trace.slice(0, point)) platter.apply(operation, base);
  return platter;
}

/** A clock may come back behind itself: one crash in four sets it back. */
const BACK_MS = 10_000;

function expectationAt(timeline: Timeline, point: number, { data, seed }: Survivors): Expectation {
  const expectation = timeline.expect(point, data);
  return timeline.depth === 0 && seed % 4 === 3 ? { ...expectation, wall: expectation.wall - BACK_MS } : expectation;
}

function recoverFrom(timeline: Timeline, image: Platter, { wall, cursor }: Expectation): Promise<Recovery> {
  return recover(image, timeline.setup, wall, cursor, timeline.keys);
}

async function judgeFault(
  timeline: Timeline,
  history: History,
  image: Platter,
  survivors: Survivors,
): Promise<string[]> {
  const expectation = expectationAt(timeline, timeline.trace.length, survivors);
  const recovery = await recover(image, timeline.setup, expectation.wall, undefined, timeline.keys);
  return judgeKeys(recovery, history, expectation, survivors.data);
}

function hashTrace(trace: Trace, seed: number): number {
  let hash = seed;
  for (const operation of trace) {
    const { bytes, ...rest } = { bytes: undefined, ...operation };
    hash = hashText(JSON.stringify(rest), bytes === undefined ? hash : hashBytes(bytes, hash));
  }
  return hash;
}

function* plan(plans: typeof PLANS, random: Random): Generator<Survivors> {
  for (const [data, names, times] of plans) {
    for (let time = 0; time < times; time++) yield { data, names, seed: random.below(1_000_000) };
  }
}
