/**
 * `npm run sim`: looks for crashes that break a promise, and says how to see each of them again.
 *
 * Without options: scripts of compaction, faults at every call of others, every workload of up to three calls at every
 * moment, workloads by chance until there are enough states. The work is split between two processes.
 *
 * | option | |
 * |---|---|
 * | `--seed N` | other draws; 1 when absent |
 * | `--states N` | stop at so many states; when absent, everything short and 200,000 at least |
 * | `--seconds N`, `--hours N` | go on with workloads by chance for so long; nothing goes on longer |
 * | `--first` | stop at the first violation |
 * | `--json` | the summary as one line of JSON |
 * | `--replay ADDRESS` | one crash alone, with its trace |
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { COMPACTION_SCRIPTS, FAULT_SCRIPTS, randomWorkload, shortWorkloads } from "./catalogue.ts";
import { type Counts, Explorer, replay, type Violation } from "./explore.ts";
import { mixSeeds } from "./random.ts";

const STATES = 200_000;
const DOUBLES = 10_000;
/** How seldom a crash is followed by another one: as a rule, and when time is short, so that there are still enough. */
const DOUBLE_ONCE_IN = 1_000;
const DOUBLE_ONCE_IN_SHORT = 1_700;
const SECONDS_MAX = 285;
const PARTS = 2;
const SHORT_STEPS = 3;

/** Workloads by chance: their lengths, how many are looked at only at their ends, and how often one is drawn. */
const STEPS_MAX = 16;
const END_STEPS_MAX = 40;
const ENDS_PER_RANDOM = 20;
const SHORT_PER_RANDOM = 800;

/** Violations printed by one process; more of the same help nobody. */
const PRINTED_MAX = 20;

/** What a process, or all of them, have found. */
interface Summary extends Counts {
  seed: number;
  seconds: number;
  violations: number;
  /** Not cut short by the time. */
  complete: boolean;
  traceHash: number;
}

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    states: { type: "string" },
    seconds: { type: "string" },
    hours: { type: "string" },
    first: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    replay: { type: "string" },
    part: { type: "string" },
  },
});

const seconds = values.hours === undefined ? Number(values.seconds ?? SECONDS_MAX) : Number(values.hours) * 3_600;
const untilTime = values.hours !== undefined || (values.seconds !== undefined && values.states === undefined);
const states = untilTime ? Infinity : Number(values.states ?? STATES);

/** Explores this process's share of everything. */
async function explorePart(part: number): Promise<Summary> {
  const seed = Number(values.seed);
  const startedAt = performance.now();
  let violations = 0;
  const report = ({ address, problems }: Violation): void => {
    violations++;
    if (violations <= PRINTED_MAX) console.error(`VIOLATION --replay '${address}'\n  ${problems.join("\n  ")}`);
  };
  const elapsed = (): number => (performance.now() - startedAt) / 1_000;
  const isLate = (): boolean => elapsed() > seconds;
  const doubleOnceIn = untilTime ? DOUBLE_ONCE_IN : DOUBLE_ONCE_IN_SHORT;
  const explorer = new Explorer({ seed, doubleOnceIn, tripleOnceIn: 400, report, isLate });
  const { counts } = explorer;
  const hasStates = (): boolean => counts.states + counts.doubles + counts.triples >= states / PARTS;
  const isOver = (): boolean =>
    isLate() || (values.first && violations > 0) || (values.states !== undefined && hasStates());
  const enough = (): boolean => hasStates() && counts.doubles >= DOUBLES / PARTS;
  let complete = true;
  let drawn = part;
  const draw = async (): Promise<void> => {
    await explorer.explore(randomWorkload(mixSeeds(seed, drawn), STEPS_MAX));
    for (let end = 0; end < ENDS_PER_RANDOM; end++) {
      await explorer.exploreEnd(randomWorkload(mixSeeds(seed, drawn, end), END_STEPS_MAX));
    }
    drawn += PARTS;
  };
  const tasks = [
    ...COMPACTION_SCRIPTS.map((workload) => () => explorer.explore(workload)),
    ...FAULT_SCRIPTS.map((workload) => () => explorer.exploreFaults(workload)),
    // Long ones between the short ones find what those cannot, and early.
    ...[...shortWorkloads(SHORT_STEPS)].flatMap((workload, index) => {
      const explore = (): Promise<void> => explorer.explore(workload, true);
      const isFirst = index % SHORT_PER_RANDOM === 0;
      // A part takes every other task: of the two draws each part has one.
      return isFirst ? [explore, draw] : index % SHORT_PER_RANDOM === 1 ? [draw, explore] : [explore];
    }),
  ];
  for (const [index, task] of tasks.entries()) {
    if (isOver()) {
      complete = !isLate();
      break;
    }
    if (index % PARTS === part) await task();
  }
  while (!isOver() && !enough()) await draw();
  complete &&= !isLate() || untilTime;
  return { ...counts, seed, seconds: elapsed(), violations, complete, traceHash: explorer.traceHash };
}

/** Processes under way. */
const children = new Set<ChildProcess>();

/** Runs this file again for one part; its violations come through. With `--first`, one that finds one ends the rest. */
function spawnPart(part: number): Promise<Summary | undefined> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(import.meta.url), ...process.argv.slice(2), "--part", String(part)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  children.add(child);
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      children.delete(child);
      if (values.first && signal === "SIGTERM") return resolve(undefined);
      const summary = code === 0 ? JSON.parse(output) as Summary : undefined;
      if (values.first && summary !== undefined && summary.violations > 0) {
        for (const other of children) other.kill("SIGTERM");
      }
      if (summary !== undefined) resolve(summary);
      else reject(new Error(`Cannot finish part ${part}: its process ended with ${code}`));
    });
  });
}

/** The parts' sums. */
function merge(parts: readonly Summary[]): Summary {
  const sum = { ...parts[0]! };
  for (const part of parts.slice(1)) {
    for (const name of ADDED) sum[name] += part[name];
    sum.seconds = Math.max(sum.seconds, part.seconds);
    sum.complete &&= part.complete;
    sum.traceHash = (sum.traceHash + part.traceHash) % Number.MAX_SAFE_INTEGER;
  }
  return sum;
}

const ADDED = [
  "workloads",
  "states",
  "doubles",
  "triples",
  "faultRuns",
  "faultStates",
  "crashes",
  "unjudged",
  "violations",
] as const;

function print(sum: Summary): void {
  const all = sum.states + sum.doubles + sum.triples;
  console.log(`workloads        ${sum.workloads} (${sum.unjudged} not judged)`);
  console.log(`states           ${sum.states} distinct, of ${sum.crashes} crashes`);
  console.log(`double crashes   ${sum.doubles} distinct states, triple ${sum.triples}`);
  console.log(`fault runs       ${sum.faultRuns}, ${sum.faultStates} states`);
  console.log(`rate             ${Math.round(all / sum.seconds)} states/s, ${sum.seconds.toFixed(1)} s`);
  const end = sum.complete ? "" : ", cut short by the time";
  console.log(
    `sim: seed ${sum.seed}, trace ${sum.traceHash.toString(16)}, ${all} states, ${sum.violations} violations${end}`,
  );
}

async function replayOne(address: string): Promise<void> {
  const { lines, problems } = await replay(address);
  console.log(lines.join("\n"));
  process.exitCode = problems.length === 0 ? 0 : 1;
}

if (values.replay !== undefined) {
  await replayOne(values.replay);
} else if (values.part !== undefined) {
  console.log(JSON.stringify(await explorePart(Number(values.part))));
} else {
  const parts = await Promise.all(Array.from({ length: PARTS }, (_, part) => spawnPart(part)));
  const sum = merge(parts.filter((part) => part !== undefined));
  if (values.json) console.log(JSON.stringify(sum));
  else print(sum);
  process.exitCode = sum.violations === 0 ? 0 : 1;
}
