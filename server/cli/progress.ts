/**
 * How far a long command is: a bar with rate and time left where a person looks, one line at the end for all.
 *
 * It is on standard error, so that standard output may be a pipe.
 *
 * @module
 */
import process from "node:process";
import { SingleBar } from "cli-progress";
import { grouped } from "./output.ts";

/** Progress of one command. */
export class Progress {
  readonly #bar: SingleBar | undefined;
  readonly #beganAt = performance.now();
  readonly #before: number;

  /** `total` is in whatever `at` counts, undefined when nobody knows; `before` of them were there already. */
  constructor(verb: string, total: number | undefined, before = 0) {
    this.#before = before;
    if (!process.stderr.isTTY) return;
    const left = total === undefined ? "" : "{bar} {percentage} %  ";
    this.#bar = new SingleBar({
      format: `${verb} ${left}{count} entries, {rate}/s${total === undefined ? "" : ", {left} left"}`,
      stream: process.stderr,
      barCompleteChar: "█",
      barIncompleteChar: "░",
      hideCursor: false, // whoever ends the command with Ctrl-C wants it back
      clearOnComplete: true,
      gracefulExit: false,
    });
    this.#bar.start(total ?? 0, 0, { count: grouped(before), rate: "–", left: "–" });
  }

  /** It is at `at` of the total, with so many entries behind it. */
  show(at: number, count: number, total?: number): void {
    if (this.#bar === undefined) return;
    const seconds = this.#seconds();
    const left = total === undefined || at === 0 ? 0 : seconds / at * (total - at);
    this.#bar.update(at, {
      count: grouped(count),
      rate: grouped((count - this.#before) / seconds),
      left: left >= 90 ? `${Math.ceil(left / 60)} min` : `${Math.ceil(left)} s`,
    });
  }

  /** It is over; the rate and the time it took, in words. */
  end(count: number): string {
    this.#bar?.stop();
    const seconds = this.#seconds();
    return `${seconds.toFixed(1)} s, ${grouped((count - this.#before) / seconds)}/s`;
  }

  #seconds(): number {
    return Math.max((performance.now() - this.#beganAt) / 1_000, 0.001);
  }
}
