#!/usr/bin/env node
/**
 * The command, put together of the files in `cli/`, the upkeep of a folder (`upkeep.ts`), and tokens
 * (`token_commands.ts`).
 *
 * Most flags are also environment variables (`FIRKIN_*`) and settings of a file (`--config`): a flag wins over the
 * variable, the variable over the file, the file over the default; `firkin config` says where each value comes from.
 * What is secret can be in a file (`--token-file`, `FIRKIN_TOKEN_FILE`), since others of the machine see the arguments
 * of a command.
 *
 * Results go to standard output, everything else to standard error, an error as one line. Exit codes: 0 done, 1 there
 * is no such key, the condition did not hold, or there is damage, 2 wrong usage, 3 anything else.
 *
 * @module
 */
import process from "node:process";
import { Command, CommanderError } from "commander";
import { messageOf } from "../lib/base/errors.ts";
import { addBenchCommand } from "./cli/bench.ts";
import { addBucketCommands } from "./cli/buckets.ts";
import { addCompletionCommand } from "./cli/completion.ts";
import { addKeyCommands } from "./cli/keys.ts";
import { describeError, EXIT, forPrograms, note, type OutputFlags, printTable } from "./cli/output.ts";
import { addServeCommand } from "./cli/serving.ts";
import { type Setting, settingsFile, settingsOf } from "./cli/settings.ts";
import { examples } from "./cli/targets.ts";
import { addTransferCommands } from "./cli/transfer.ts";
import { addWholeCommands } from "./cli/whole.ts";
import { addTokenCommands } from "./token_commands.ts";
import { addUpkeepCommands } from "./upkeep.ts";

const VERSION = "0.1.0";

/** What `firkin` says of itself when it is asked for nothing. */
const INTRODUCTION = `firkin: a durable key-value store that tells its clients when a key expires

  firkin serve                                  serve ./data, with a dashboard at http://127.0.0.1:7480/
  firkin set sessions ada '{"page":"/"}' --ttl 30s
  firkin get sessions ada                       and list, take, increment, delete
  firkin subscribe sessions --snapshot          changes as they happen, expiries among them
  firkin import users users.csv --key id        and export; - is a pipe
  firkin token create web --auth tokens.json --allow 'sessions:read'

firkin --help names every command, firkin <command> --help its flags with examples.
`;

const EXIT_CODES = `
Exit codes: 0 done; 1 no such key, a condition that did not hold, or damage; 2 wrong usage; 3 anything else.
`;

/** Thrown by a command whose settings were asked for, in the place of running. */
class Shown extends Error {}

/** The whole command line; each action sets the exit code. */
function program(exit: (code: number) => void): Command {
  const firkin = new Command("firkin")
    .description("A durable key-value store that tells its clients when a key expires")
    .version(VERSION)
    .option("--config <file>", "settings of all commands, as TOML (FIRKIN_CONFIG)")
    .configureOutput({ outputError: (text, write) => write(`firkin: ${oneLine(text)} (see --help)\n`) })
    .addHelpText("after", EXIT_CODES)
    .hook("preAction", async (_, command) => (await settingsFile(firkin))?.apply(command));
  addServeCommand(firkin);
  addKeyCommands(firkin, exit);
  addTransferCommands(firkin, exit);
  addBucketCommands(firkin, exit);
  addWholeCommands(firkin, exit);
  addBenchCommand(firkin, exit);
  addUpkeepCommands(firkin, exit);
  addTokenCommands(firkin, exit);
  addConfigCommand(firkin);
  addCompletionCommand(firkin);
  for (const command of [firkin, ...firkin.commands.flatMap((one) => [one, ...one.commands])]) command.exitOverride();
  return firkin;
}

/** What commander says of wrong usage, which may take several lines. */
function oneLine(text: string): string {
  return text.replace(/^error: /, "").trim().replaceAll("\n", " ");
}

function addConfigCommand(firkin: Command): void {
  const config = firkin.command("config").description("print what the settings of a command are, and where from")
    .argument("[command]", "serve when absent", "serve").argument("[flags...]", "flags of that command, behind --")
    .option("--json", "one line of JSON, as when no person reads").option("--no-json", "a table, as at a terminal");
  examples(config, "firkin config", "firkin --config firkin.toml config get", "firkin config serve -- --sync os")
    .action(
      async (name: string, flags: string[], own: OutputFlags) => {
        const settings = await settingsFor(name, flags, firkin.opts());
        if (forPrograms(own)) process.stdout.write(`${JSON.stringify(settings)}\n`);
        else printTable(["SETTING", "VALUE", "FROM"], settings.map(({ name, value, source }) => [name, value, source]));
      },
    );
}

/** Reads the settings of a command as if it were about to run. */
async function settingsFor(
  name: string,
  flags: readonly string[],
  { config }: { config?: string },
): Promise<Setting[]> {
  const other = program(() => {});
  const command = other.commands.find((one) => one.name() === name && one.commands.length === 0);
  if (command === undefined) throw new TypeError(`Cannot say the settings of ${name}: there is no such command`);
  let settings: Setting[] = [];
  command.hook("preAction", async () => {
    settings = settingsOf(command, await settingsFile(other));
    throw new Shown();
  });
  const needed = command.registeredArguments.filter(({ required }) => required);
  // Never looked at: the command does not run.
  const stand = needed.map(({ argChoices }) => argChoices?.[0] ?? "x");
  try {
    await other.parseAsync([...(config === undefined ? [] : ["--config", config]), name, ...flags, ...stand], {
      from: "user",
    });
  } catch (error) {
    if (!(error instanceof Shown)) throw error;
  }
  return settings;
}

/** A reader that has seen enough, such as `head`, ends the command without a word. */
function endWithReader(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(EXIT.done);
    note(messageOf(error));
    process.exit(EXIT.failure);
  });
}

async function main(): Promise<void> {
  endWithReader();
  if (process.argv.length === 2) return void process.stdout.write(INTRODUCTION);
  let code: number = EXIT.done;
  try {
    await program((value) => code = value).parseAsync(process.argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      code = error.exitCode === 0 ? EXIT.done : EXIT.usage;
    } else {
      note(describeError(error));
      code = error instanceof TypeError || error instanceof RangeError ? EXIT.usage : EXIT.failure;
    }
  }
  process.exitCode = code;
}

await main();
