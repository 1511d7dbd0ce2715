/**
 * Processes on cores: who runs where, and what it costs there.
 *
 * A server on one core and its load on the other is how a wire is measured: neither waits for the other's turn. Where
 * there is no `taskset`, or one core, everybody runs anywhere. The time of a processor says what a busy machine hides:
 * what a request costs at each end, however long the wall clock took.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

/** Where servers run, and where what asks them runs. */
export const SERVER_CORE = 0;
export const CLIENT_CORE = 1;

const NANOSECONDS_PER_MICROSECOND = 1_000;
const KIB = 1_024;

/** Keeps a process and its threads on one core. False when that cannot be. */
export function pin(pid: number, core: number): boolean {
  if (availableParallelism() <= core) return false;
  return spawnSync("taskset", ["-a", "-c", "-p", String(core), String(pid)], {
    stdio: "ignore",
  }).status === 0;
}

/** Microseconds of processor time that a process has used, all threads together; NaN where the system does not say. */
export function cpuOf(pid: number): number {
  try {
    let nanoseconds = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      nanoseconds += Number(
        readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(
          " ",
          1,
        )[0],
      );
    }
    return nanoseconds / NANOSECONDS_PER_MICROSECOND;
  } catch {
    return NaN;
  }
}

/** Bytes of memory that a process has; NaN where the system does not say. */
export function memoryOf(pid: number): number {
  try {
    return Number(
      /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1],
    ) * KIB;
  } catch {
    return NaN;
  }
}
