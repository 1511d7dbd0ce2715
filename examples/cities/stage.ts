/**
 * One stage of the demonstration on the screen: a progress bar while it runs, a line when it is done.
 *
 * Where standard output is no terminal there is no bar, so that a log holds the lines alone.
 *
 * @module
 */
import process from "node:process";
import { SingleBar } from "cli-progress";

/** What a stage has done. */
export interface Outcome {
  readonly text: string;
  /** How many it did, when their rate means something. */
  readonly count?: number;
}

/** Runs a stage of `total` steps, each of which calls `advance`, and prints what it has done in what time. */
export async function runStage(
  name: string,
  total: number,
  work: (advance: () => void) => Promise<Outcome>,
): Promise<void> {
  const started = performance.now();
  const bar = new SingleBar({
    format: `  ${name.padEnd(8)}{bar} {percentage}% of {total}, {duration} s`,
    stream: process.stdout,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    hideCursor: true,
    clearOnComplete: true,
    gracefulExit: false,
  });
  bar.start(total, 0);
  let outcome: Outcome;
  try {
    outcome = await work(() => bar.increment());
  } finally {
    bar.stop();
  }
  const seconds = (performance.now() - started) / 1_000;
  const rate = outcome.count === undefined ? "" : `${grouped(outcome.count / seconds)}/s`;
  printLine(name, `${outcome.text.padEnd(68)}${`${seconds.toFixed(2)} s`.padStart(8)}${rate.padStart(11)}`);
}

/** Prints a line of the report. */
export function printLine(name: string, text: string): void {
  console.log(`  ${name.padEnd(8)}${text.trimEnd()}`);
}

/** A number with its thousands apart. */
export function grouped(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
