/**
 * One contender through the phases of one purpose, in a process of its own: what `contest.ts` starts.
 *
 * Its argument is a {@link Task}; each figure is a line of JSON on its standard output. Keys and values are made
 * outside the timed part: 50,000 at a time what is read (or is mostly reads), a group at a time what is written. Of
 * what a benchmark keeps the garbage collector makes copies in the timed part: of 50,000 values that took 20 to 60 ms
 * at once. Of every value that is read both ends are touched and kept, and outside the timed part compared with what
 * was written; after each phase 200 values are compared byte for byte. A difference ends the process with code 1.
 *
 * A phase ends when it has done its operations, or when its time is over and 50,000 are done; a load is always whole.
 * The event loop gets a turn after each group of writes, as it would in a program that serves somebody: work that a
 * store leaves for later is done in the timed part.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import process from "node:process";
import { setImmediate } from "node:timers";
import { CANNOT_LOAD } from "./contest.ts";
import { type Contender, FIRKIN, folderBytes, type Kind, type Purpose } from "./contenders.ts";
import { collectGarbage, runtime, temporaryFolder } from "./harness.ts";
import { CONTENDERS } from "./rivals.ts";
import { ends, GROUP, type MaybePromise, Workload, type Write } from "./workload.ts";

/** What a child is to do. */
export interface Task {
  readonly contender: string;
  readonly purpose: Purpose;
  readonly keys: number;
  readonly valueBytes: number;
  /** Time that a phase other than a load may take. */
  readonly phaseMs: number;
  /** Measure what begins with one of these words; everything when there is none. */
  readonly only: readonly string[];
}

/** What a child found, in the unit of its phase. */
export interface Figure {
  readonly phase: string;
  readonly figure: number;
  /** As `figure`, in time of the processor by all threads of the process; absent where figures are no times. */
  readonly cpu?: number;
}

/** Reads, or reads and writes, that are made together; no phase has less. */
const CHUNK = 50_000;
/** Of a round: three make 600,000. */
const READS = 200_000;
const OVERWRITES = 200_000;
const HOT_KEYS = 10_000;
/** Reads before reads are timed, beside one of every key in order: a store may check what it reads first. */
const WARM_UP_READS = 50_000;
const ZIPF_WRITES = 0.05;
const OUTSTANDING = [1, 64, 1_024];
const DURABLE_WRITES = 100_000;
/** Durable writes between two looks at the clock. */
const DURABLE_CHUNK = 1_024;
/** The part of the keys that surely is in sealed segments, when these are small. */
const SEALED = 0.75;
/** The longest that a bare loop is watched for pauses. */
const IDLE_MS = 2_000;

/** Wall and processor time, in milliseconds. */
class Watch {
  wall = 0;
  cpu = 0;
  operations = 0;

  async run(operations: number, work: () => MaybePromise<void>): Promise<void> {
    const cpu = process.cpuUsage();
    const started = performance.now();
    const result = work();
    if (result !== undefined) await result;
    this.wall += performance.now() - started;
    const { user, system } = process.cpuUsage(cpu);
    this.cpu += (user + system) / 1_000;
    this.operations += operations;
  }
}

/** The longest time that the thread was not ours, and the most that the process did in such a time. */
class PauseWatch {
  longest = 0;
  busiest = 0;
  #last = 0;
  #lastCpu = process.cpuUsage();

  start(): void {
    this.#last = performance.now();
    this.#lastCpu = process.cpuUsage();
  }

  touch(): void {
    const now = performance.now();
    const cpu = process.cpuUsage();
    this.longest = Math.max(this.longest, now - this.#last);
    const busy = (cpu.user - this.#lastCpu.user + cpu.system - this.#lastCpu.system) / 1_000;
    this.busiest = Math.max(this.busiest, busy);
    this.#last = now;
    this.#lastCpu = cpu;
  }
}

/** One contender with its keys. */
class Run {
  readonly #task: Task;
  readonly #kind: Kind;
  readonly #folder = temporaryFolder();
  readonly #workload: Workload;
  #contender!: Contender;

  constructor(task: Task, kind: Kind) {
    this.#task = task;
    this.#kind = kind;
    this.#workload = new Workload(task.keys, task.valueBytes);
    mkdirSync(this.#folder, { recursive: true });
  }

  // --- purposes ---

  /** Everything in memory. */
  async resident(): Promise<void> {
    const workload = this.#workload;
    const before = await memory();
    await this.#open();
    await this.#load("load", (group) => this.#contender.setAll(group));
    await this.#contender.settle?.();
    this.#tell("memory, RSS", ((await memory()).rss - before.rss) / workload.keys);
    if (this.#kind.keeps) await this.#reopen();
    await this.#warmUp();
    await this.#read("get uniform", READS, () => workload.uniform());
    if (this.#kind.finds) {
      await this.#read("get hot", READS, () => workload.hot(Math.min(HOT_KEYS, workload.keys)));
      await this.#miss();
      await this.#overwrite();
      await this.#zipf();
    }
    await this.#contender.close();
    if (this.#wants("setMany")) await this.#loadMany();
  }

  /** Little in memory: what a key takes there, and reads of what is in sealed segments. */
  async lean(): Promise<void> {
    const { keys } = this.#workload;
    const before = await memory();
    await this.#open();
    await this.#load(undefined, (group) => this.#contender.setAll(group));
    await this.#contender.settle?.();
    const tell = async (when: string): Promise<void> => {
      const values = await this.#contender.valuesInMemory?.();
      if (values === undefined) return;
      const now = await memory();
      this.#tell(`memory beside values${when}`, (now.heap - before.heap - values) / keys);
      this.#tell(`memory beside values${when}, RSS`, (now.rss - before.rss - values) / keys);
    };
    await tell("");
    if (this.#kind.keeps) {
      await this.#contender.close();
      await this.#open();
      await tell(", reopened");
      const sealed = (): number => this.#workload.uniform(Math.ceil(keys * SEALED));
      await this.#read(undefined, WARM_UP_READS, sealed);
      await this.#read("get, not in memory", READS, sealed);
    }
    await this.#contender.close();
  }

  /** Groups of writes, each acknowledged when it is on stable storage. */
  async durable(): Promise<void> {
    const workload = this.#workload;
    await this.#open();
    let next = 0;
    for (const outstanding of OUTSTANDING) {
      const watch = new Watch();
      while (watch.operations < DURABLE_WRITES && watch.wall < this.#task.phaseMs) {
        const groups = Array.from({ length: Math.floor(DURABLE_CHUNK / outstanding) }, () => {
          return Array.from({ length: outstanding }, () => workload.write(next++ % workload.keys));
        });
        await watch.run(groups.length * outstanding, async () => {
          for (const group of groups) await this.#contender.setAll(group);
        });
      }
      this.#tellTime(`durable, ${outstanding.toLocaleString("en")} outstanding`, watch);
    }
    if (this.#kind.finds) await this.#verify(Math.min(next, workload.keys));
    await this.#contender.close();
  }

  /** Options as they are: writes one by one, and how long each keeps everybody else waiting. */
  async plain(): Promise<void> {
    await this.#open();
    await this.#loadOneByOne();
    await this.#contender.close();
  }

  // --- phases ---

  async #open(): Promise<void> {
    const { purpose, keys, valueBytes } = this.#task;
    try {
      this.#contender = await this.#kind.open({ folder: this.#folder, purpose, keys, valueBytes });
    } catch (error) {
      if (this.#contender !== undefined || this.#kind === FIRKIN) throw error;
      const reason = String(error).split("\n")[0]!.slice(0, 200);
      console.error(`${this.#kind.name} does not load on ${runtime().name}, and is left out: ${reason}`);
      process.exit(CANNOT_LOAD);
    }
  }

  async #load(phase: string | undefined, write: (group: readonly Write[]) => MaybePromise<void>): Promise<void> {
    const watch = new Watch();
    for (const group of this.#workload.load()) await this.#write(watch, group, write);
    if (phase !== undefined) this.#tellTime(phase, watch);
    await this.#verify();
  }

  /** Another store, loaded by one call a group. */
  async #loadMany(): Promise<void> {
    const again = new Run(this.#task, this.#kind);
    await again.#open();
    const contender = again.#contender;
    if (contender.setMany !== undefined) await again.#load("setMany", (group) => contender.setMany!(group));
    await again.#contender.close();
  }

  async #loadOneByOne(): Promise<void> {
    const pauses = new PauseWatch();
    const begun = performance.now();
    let going = true;
    // While the disk is waited for, the thread is free; only what others do with it is a pause.
    const tick = (): void => {
      pauses.touch();
      if (going) setImmediate(tick);
    };
    setImmediate(tick);
    for (const group of this.#workload.load()) {
      pauses.start();
      for (const write of group) {
        await this.#contender.set(write);
        pauses.touch();
      }
      await turn();
      pauses.touch();
    }
    going = false;
    this.#tell("longest pause", pauses.longest);
    this.#tell("longest pause, processor's time", pauses.busiest);
    // What the machine takes away by itself.
    const idle = new PauseWatch();
    const end = performance.now() + Math.min(performance.now() - begun, IDLE_MS);
    idle.start();
    while (performance.now() < end) idle.touch();
    this.#tell("longest pause, nothing done", idle.longest);
    await this.#verify();
  }

  async #overwrite(): Promise<void> {
    if (!this.#wants("overwrite")) return;
    const watch = new Watch();
    for (const total = Math.min(OVERWRITES, this.#workload.keys / 2); this.#goesOn(watch, total);) {
      await this.#write(watch, this.#workload.overwrites(), (group) => this.#contender.setAll(group));
    }
    this.#tellTime("overwrite", watch);
    await this.#verify();
  }

  async #write(
    watch: Watch,
    group: readonly Write[],
    write: (group: readonly Write[]) => MaybePromise<void>,
  ): Promise<void> {
    await watch.run(group.length, async () => {
      await write(group);
      await turn();
    });
  }

  async #read(phase: string | undefined, total: number, draw: () => number): Promise<void> {
    if (phase !== undefined && !this.#wants(phase)) return;
    const watch = new Watch();
    const contender = this.#contender;
    const seen = new Uint16Array(CHUNK);
    while (this.#goesOn(watch, total)) {
      const indexes = Array.from(seen, draw);
      const keys = indexes.map((index) => this.#workload.key(index));
      await watch.run(CHUNK, () => {
        for (let at = 0; at < CHUNK; at++) {
          seen[at] = ends(contender.get(keys[at]!, indexes[at]!));
        }
      });
      indexes.forEach((index, at) => this.#expect(index, seen[at]!));
    }
    if (phase !== undefined) this.#tellTime(phase, watch);
    await this.#verify();
  }

  async #miss(): Promise<void> {
    if (!this.#wants("get missing")) return;
    const watch = new Watch();
    const contender = this.#contender;
    while (this.#goesOn(watch, READS)) {
      const keys = Array.from({ length: CHUNK }, this.#workload.missing);
      let found = 0;
      await watch.run(CHUNK, () => {
        for (const key of keys) {
          if (contender.get(key, -1) !== undefined) found++;
        }
      });
      if (found > 0) throw new Error(`Cannot trust the figures: ${found} missing keys are there`);
    }
    this.#tellTime("get missing", watch);
  }

  /** Reads and a few writes, which are awaited a thousand operations at a time. */
  async #zipf(): Promise<void> {
    if (!this.#wants("zipf")) return;
    const workload = this.#workload;
    const watch = new Watch();
    const seen = new Uint16Array(CHUNK);
    while (this.#goesOn(watch, READS)) {
      const operations: {
        key: string;
        index: number;
        write: Write | undefined;
        writes: number;
      }[] = [];
      while (operations.length < CHUNK) {
        const index = workload.zipf();
        const write = workload.uniform(1_000) < ZIPF_WRITES * 1_000 ? workload.write(index) : undefined;
        operations.push({ key: workload.key(index), index, write, writes: workload.writesOf(index) });
      }
      await watch.run(CHUNK, async () => {
        for (let from = 0; from < CHUNK; from += GROUP) {
          const pending: unknown[] = [];
          for (let at = from; at < from + GROUP; at++) {
            const { key, index, write } = operations[at]!;
            if (write === undefined) {
              seen[at] = ends(this.#contender.get(key, index));
            } else pending.push(this.#contender.set(write));
          }
          await Promise.all(pending);
          await turn();
        }
      });
      for (let from = 0; from < CHUNK; from += GROUP) {
        // A write that is not acknowledged yet may be seen or not.
        const acknowledged = new Map<number, number>();
        for (let at = from; at < from + GROUP; at++) {
          const { index, write, writes } = operations[at]!;
          if (write !== undefined) {
            acknowledged.set(index, acknowledged.get(index) ?? writes - 1);
          } else {this.#expect(
              index,
              seen[at]!,
              acknowledged.get(index) ?? writes,
              writes,
            );}
        }
      }
    }
    this.#tellTime("zipf 95/5", watch);
    await this.#verify();
  }

  /** Closes; what is on disk then; opens, up to the first get. */
  async #reopen(): Promise<void> {
    const { keys } = this.#workload;
    const spare = await this.#contender.spareBytes?.() ?? 0;
    await this.#contender.close();
    this.#tell("disk", (folderBytes(this.#folder) - spare) / keys);
    const index = this.#workload.uniform();
    const key = this.#workload.key(index);
    const started = performance.now();
    await this.#open();
    const seen = ends(this.#contender.get(key, index));
    if (this.#kind.finds) this.#tell("open", (performance.now() - started) * 1e6 / keys);
    this.#expect(index, seen);
    await this.#verify();
  }

  async #warmUp(): Promise<void> {
    const { keys } = this.#workload;
    for (let index = 0; index < keys; index++) {
      this.#expect(index, ends(this.#contender.get(this.#workload.key(index), index)));
    }
    await this.#read(undefined, WARM_UP_READS, () => this.#workload.uniform());
  }

  // --- figures ---

  #goesOn(watch: Watch, total: number): boolean {
    const { operations, wall } = watch;
    return operations < Math.min(CHUNK, total) || (operations < total && wall < this.#task.phaseMs);
  }

  #wants(phase: string): boolean {
    return this.#task.only.length === 0 || this.#task.only.some((word) => phase.startsWith(word));
  }

  /** What was seen of a key has to be of one of these writes. */
  #expect(index: number, seen: number, first: number = this.#workload.writesOf(index), last: number = first): void {
    for (let write = first; write <= last; write++) {
      if (seen === this.#workload.endsOf(index, write)) return;
    }
    throw new Error(`Cannot trust the figures: ${this.#workload.key(index)} had another value than was written`);
  }

  async #verify(limit: number = this.#workload.keys): Promise<void> {
    await this.#workload.verify((key, index) => this.#contender.get(key, index), limit);
  }

  #tellTime(phase: string, { wall, cpu, operations }: Watch): void {
    this.#tell(phase, wall * 1e6 / operations, cpu * 1e6 / operations);
  }

  #tell(phase: string, figure: number, cpu?: number): void {
    if (!this.#wants(phase)) return;
    const told: Figure = { phase, figure, ...(cpu === undefined ? {} : { cpu }) };
    console.log(JSON.stringify(told));
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Bytes of the heap with array buffers, and of the process, after garbage was collected. */
async function memory(): Promise<{ heap: number; rss: number }> {
  for (let times = 0; times < 3; times++) {
    collectGarbage();
    await turn();
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  // Array buffers are external; Bun counts them in the heap as well, Deno in no figure of their own.
  return { heap: runtime().name === "bun" ? heapUsed : heapUsed + external, rss };
}

const task = JSON.parse(process.argv[2]!) as Task;
const kind = CONTENDERS.find(({ name }) => name === task.contender)!;
try {
  await new Run(task, kind)[task.purpose]();
} catch (error) {
  // Deno ends without "exit" when nobody catches: folders would stay.
  console.error(error);
  process.exit(1);
}
