/**
 * The commands for tokens: `firkin token create | list | revoke`, on the file that `firkin serve --auth` reads.
 *
 * A running server follows the file, so it needs no restart and no word from here. A new token goes to standard output,
 * alone and once; everything else to standard error.
 *
 * @module
 */
import { existsSync } from "node:fs";
import process from "node:process";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type Duration, milliseconds } from "../lib/store/bucket.ts";
import type { Right, Scope } from "./auth.ts";
import { forPrograms, type OutputFlags, printTable } from "./cli/output.ts";
import { examples } from "./cli/targets.ts";
import { openTokens, type TokenInfo, type Tokens } from "./tokens.ts";

const DONE = 0;
const MISSING = 1;

interface Flags {
  readonly auth: string;
}

interface CreateFlags extends Flags {
  readonly allow: Scope[];
  readonly expires?: number;
}

/** Adds the commands to the program; each action sets the exit code. */
export function addTokenCommands(firkin: Command, exit: (code: number) => void): void {
  const token = firkin.command("token").description("the tokens of a server's clients");
  const add = (name: string, description: string): Command =>
    token.command(name).description(description).addOption(
      new Option("--auth <file>", "where the tokens are: beside the data, not in its folder").env("FIRKIN_AUTH")
        .makeOptionMandatory(),
    );

  const create = add("create", "create a token and print it, once");
  examples(create, "firkin token create web --auth tokens.json --allow 'sessions:read,subscribe' --expires 30d")
    .argument("<name>", "what it is for")
    .requiredOption(
      "--allow <buckets:rights>",
      "what it may, such as 'team-*:read,subscribe' or '*:read,write,subscribe,admin'; may be repeated",
      parseScope,
    )
    .option("--expires <duration>", "how long it is good for: 30s, 5m, 2h, 7d; for ever when absent", parseDuration)
    .action(async (name: string, flags: CreateFlags) => {
      const { allow, expires } = flags;
      const created = await openTokens(flags.auth).create({
        name,
        scopes: allow,
        ...(expires !== undefined && { expiresAt: Date.now() + expires }),
      });
      process.stdout.write(`${created.token}\n`);
      process.stderr.write(`firkin: created ${created.info.id}; nobody can tell the token again\n`);
      exit(DONE);
    });

  const list = add("list", "print what is known of each token")
    .option("--json", "one line of JSON for each, as when no person reads").option(
      "--no-json",
      "a table, as at a terminal",
    );
  examples(list, "firkin token list --auth tokens.json").action((flags: Flags & OutputFlags) => {
    const tokens = openExisting(flags.auth).list();
    if (forPrograms(flags)) process.stdout.write(tokens.map((info) => `${JSON.stringify(info)}\n`).join(""));
    else printTable(["NAME", "ID", "CREATED", "ENDS", "MAY"], tokens.map(rowOf));
    exit(DONE);
  });

  const end = add("revoke", "end a token; a running server closes its connections").argument("<id or name>");
  examples(end, "firkin token revoke web --auth tokens.json")
    .action(async (idOrName: string, flags: Flags) => exit(await revoke(openExisting(flags.auth), idOrName)));
}

function rowOf({ name, id, createdAt, expiresAt, scopes }: TokenInfo): string[] {
  const may = scopes.map(({ buckets, rights }) => `${buckets}:${rights.join(",")}`).join(" ");
  const date = (time: number | undefined): string => time === undefined ? "never" : new Date(time).toISOString();
  return [name, id, date(createdAt), date(expiresAt), may];
}

/** So that a mistyped file is not answered as one without tokens. */
export function openExisting(path: string): Tokens {
  if (existsSync(path)) return openTokens(path);
  throw new Error(`Cannot read ${path}: there is no such file; firkin token create makes it`);
}

async function revoke(tokens: Tokens, idOrName: string): Promise<number> {
  if (await tokens.revoke(idOrName)) return DONE;
  process.stderr.write(`firkin: no token ${idOrName}\n`);
  return MISSING;
}

/** One more scope; whether it can be is judged where tokens are created. */
function parseScope(text: string, before: Scope[] = []): Scope[] {
  const [buckets, rights, more] = text.split(":");
  if (!buckets || !rights || more !== undefined) {
    throw new InvalidArgumentError("expected buckets:rights, such as 'team-*:read,subscribe'");
  }
  return [...before, { buckets, rights: rights.split(",") as Right[] }];
}

function parseDuration(text: string): number {
  try {
    return milliseconds(text as Duration);
  } catch {
    throw new InvalidArgumentError("expected a number with ms, s, m, h or d, such as 7d");
  }
}
