/**
 * The command as a child process, on the runtime that runs the tests, and a folder to run it in.
 *
 * Nothing here waits for a time: it waits for what a process says, or for its end.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Readable } from "node:stream";
import { moduleCommand } from "../suites/tools.ts";

/** What a command was when it had ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  /** Lines. */
  readonly stderr: string[];
}

/** How to start a command. */
export interface StartOptions {
  /** Variables beside those of the tests, which have no `FIRKIN_*`. */
  readonly env?: Record<string, string>;
  /** All of its standard input. */
  readonly input?: string;
}

/** The text that a process says on one stream, as it comes. */
class Output {
  text = "";
  #over = false;
  #wake: () => void = () => {};

  constructor(stream: Readable) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      this.text += text;
      this.#wake();
    });
    stream.once("close", () => {
      this.#over = true;
      this.#wake();
    });
  }

  /** Resolves with the first match, as soon as it is there. One call at a time. */
  async find(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match !== null) return match;
      if (this.#over) throw new Error(`Cannot find ${String(pattern)} in ${JSON.stringify(this.text)}`);
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}

/** A command that runs. */
export class Command {
  readonly stdout: Output;
  readonly stderr: Output;
  /** Resolves when it has ended and all it said has been read. */
  readonly ended: Promise<Ended>;
  readonly child: ChildProcess;

  constructor(folder: string, args: readonly string[], { env = {}, input = "" }: StartOptions = {}) {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith("FIRKIN_"));
    const [program, ...rest] = moduleCommand("server/cli.ts", ...args);
    const child = spawn(program, rest, { cwd: folder, env: { ...Object.fromEntries(own), ...env } });
    this.child = child;
    this.stdout = new Output(child.stdout);
    this.stderr = new Output(child.stderr);
    this.ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        const stderr = this.stderr.text.split("\n").filter((line) => line !== "");
        resolve({ code, signal, stdout: this.stdout.text, stderr });
      });
    });
    // A command that ends at once does not read.
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  }

  /** Sends a signal; nothing when it has ended. */
  kill(signal: NodeJS.Signals): void {
    const { pid, exitCode, signalCode } = this.child;
    // Not `child.kill`: on Deno that makes the signal the end, whatever the process does with it.
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(pid, signal);
  }
}

/** A server that runs. */
export interface Served {
  readonly command: Command;
  readonly url: string;
  readonly port: number;
  readonly transport: string;
  readonly sync: string;
}

/** A folder of its own, and the commands that were started in it. */
export class Workplace {
  readonly folder: string = mkdtempSync(join(tmpdir(), "firkin-cli-"));
  readonly #commands: Command[] = [];

  /** A path in the folder. */
  path(name: string): string {
    return join(this.folder, name);
  }

  start(args: readonly string[], options?: StartOptions): Command {
    const command = new Command(this.folder, args, options);
    this.#commands.push(command);
    return command;
  }

  run(args: readonly string[], options?: StartOptions): Promise<Ended> {
    return this.start(args, options).ended;
  }

  /** Starts a server and waits until it can be connected to. */
  async serve(args: readonly string[] = ["--listen", "127.0.0.1:0"], options?: StartOptions): Promise<Served> {
    const command = this.start(["serve", ...args], options);
    const said = await command.stderr.find(/^firkin: serving .* on (wss?:\/\/\S+:(\d+)) \((\w+), sync (\w+)\)$/m);
    return { command, url: said[1]!, port: Number(said[2]), transport: said[3]!, sync: said[4]! };
  }

  /** Kills what still runs and removes the folder. */
  async end(): Promise<void> {
    for (const command of this.#commands) command.kill("SIGKILL");
    await Promise.all(this.#commands.map(({ ended }) => ended));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
