/**
 * The commands for tokens: `firkin token create | list | revoke`, on the file that `firkin serve --auth` reads, or
 * through a server.
 *
 * A running server follows the file, so it needs no restart and no word from here. A new token goes to standard output,
 * alone and once; everything else to standard error.
 *
 * @module
 */
import { existsSync } from "node:fs";
import process from "node:process";
import { type Command, InvalidArgumentError, Option } from "commander";
import { milliseconds } from "../lib/store/bucket.ts";
import type { Right, Scope } from "./auth.ts";
import { forPrograms, type OutputFlags, printTable } from "./cli/output.ts";
import { examples, type TargetFlags, withServer } from "./cli/targets.ts";
import { openTokens, type TokenInfo, type Tokens } from "./tokens.ts";

const DONE = 0;
const MISSING = 1;

const TOKENS_PATH = "/v1/admin/tokens";

interface Flags extends TargetFlags {
  readonly auth?: string;
}

interface CreateFlags extends Flags {
  readonly allow?: Scope[];
  readonly expires?: string;
}

/** What a new token is to be. */
interface Wanted {
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly ttl?: string;
}

/** Tokens, wherever they are kept. */
interface Keeper {
  create(wanted: Wanted): Promise<{ readonly token: string; readonly info: TokenInfo }>;
  list(): Promise<readonly TokenInfo[]>;
  revoke(idOrName: string): Promise<boolean>;
}

/** Adds the commands to the program; each action sets the exit code. */
export function addTokenCommands(firkin: Command, exit: (code: number) => void): void {
  const token = firkin.command("token").description("the tokens of a server's clients");
  const add = (name: string, description: string): Command =>
    withServer(token.command(name).description(description)).addOption(
      new Option("--auth <file>", "where they are, in the place of a server: beside the data, not in its folder").env(
        "FIRKIN_AUTH",
      ),
    );

  const create = add("create", "create a token and print it, once").argument("<name>", "what it is for")
    // Not a required option: that is asked for before the settings file is read.
    .option(
      "--allow <buckets:rights>",
      "what it may, such as 'team-*:read,subscribe' or '*:read,write,subscribe,admin'; may be repeated",
      parseScope,
    )
    .option("--expires <duration>", "how long it is good for: 30s, 5m, 2h, 7d; for ever when absent", parseDuration);
  examples(
    create,
    "firkin token create web --auth tokens.json --allow 'sessions:read,subscribe' --expires 30d",
    "firkin token create web --url wss://firkin.example --token-file operator.token --allow 'sessions:read'",
  ).action(async (name: string, flags: CreateFlags, command: Command) => {
    const { allow, expires } = flags;
    if (allow === undefined) throw new TypeError("Cannot create a token: --allow says what it may, such as 'b:read'");
    const wanted = { name, scopes: allow, ...(expires !== undefined && { ttl: expires }) };
    const created = await keeperOf(flags, command, "make").create(wanted);
    process.stdout.write(`${created.token}\n`);
    process.stderr.write(`firkin: created ${created.info.id}; nobody can tell the token again\n`);
    exit(DONE);
  });

  const list = add("list", "print what is known of each token")
    .option("--json", "one line of JSON for each, as when no person reads")
    .option("--no-json", "a table, as at a terminal");
  examples(list, "firkin token list --auth tokens.json")
    .action(async (flags: Flags & OutputFlags, command: Command) => {
      const tokens = await keeperOf(flags, command).list();
      if (forPrograms(flags)) process.stdout.write(tokens.map((info) => `${JSON.stringify(info)}\n`).join(""));
      else printTable(["NAME", "ID", "CREATED", "ENDS", "MAY"], tokens.map(rowOf));
      exit(DONE);
    });

  const end = add("revoke", "end a token; a running server closes its connections").argument("<id or name>");
  examples(end, "firkin token revoke web --auth tokens.json")
    .action(async (idOrName: string, flags: Flags, command: Command) => {
      const found = await keeperOf(flags, command).revoke(idOrName);
      if (!found) process.stderr.write(`firkin: no token ${idOrName}\n`);
      exit(found ? DONE : MISSING);
    });
}

function rowOf({ name, id, createdAt, expiresAt, scopes }: TokenInfo): string[] {
  const may = scopes.map(({ buckets, rights }) => `${buckets}:${rights.join(",")}`).join(" ");
  const date = (time: number | undefined): string => time === undefined ? "never" : new Date(time).toISOString();
  return [name, id, date(createdAt), date(expiresAt), may];
}

// --- where they are ---

/** The file, or the server that is named; a server that nobody named is not asked. */
function keeperOf(flags: Flags, command: Command, ifMissing?: "make"): Keeper {
  const isNamed = command.getOptionValueSource("url");
  if (
    flags.auth === undefined
      ? isNamed === "default"
      : isNamed === "cli" && command.getOptionValueSource("auth") === "cli"
  ) {
    throw new TypeError(
      "Cannot say whose tokens: give --auth with their file, or --url with a server, and one of them",
    );
  }
  if (flags.auth === undefined || isNamed === "cli") return new ServerTokens(flags);
  return new FileTokens(ifMissing === "make" ? openTokens(flags.auth) : openExisting(flags.auth));
}

class FileTokens implements Keeper {
  readonly #tokens: Tokens;

  constructor(tokens: Tokens) {
    this.#tokens = tokens;
  }

  create({ name, scopes, ttl }: Wanted): ReturnType<Keeper["create"]> {
    return this.#tokens.create({
      name,
      scopes,
      ...(ttl !== undefined && { expiresAt: Date.now() + milliseconds(ttl) }),
    });
  }

  list(): Promise<readonly TokenInfo[]> {
    return Promise.resolve(this.#tokens.list());
  }

  revoke(idOrName: string): Promise<boolean> {
    return this.#tokens.revoke(idOrName);
  }
}

class ServerTokens implements Keeper {
  readonly #flags: TargetFlags;

  constructor(flags: TargetFlags) {
    this.#flags = flags;
  }

  create(wanted: Wanted): ReturnType<Keeper["create"]> {
    return this.#ask("POST", TOKENS_PATH, wanted);
  }

  async list(): Promise<readonly TokenInfo[]> {
    return (await this.#ask<{ tokens: TokenInfo[] }>("GET", TOKENS_PATH)).tokens;
  }

  async revoke(idOrName: string): Promise<boolean> {
    const known = (await this.list()).some(({ id, name }) => id === idOrName || name === idOrName);
    if (known) await this.#ask("DELETE", `${TOKENS_PATH}/${encodeURIComponent(idOrName)}`);
    return known;
  }

  async #ask<Answer>(method: "GET" | "POST" | "DELETE", path: string, body?: object): Promise<Answer> {
    const { askServer } = await import("./cli/remote.ts");
    return await askServer<Answer>(this.#flags, method, path, body);
  }
}

/** So that a mistyped file is not answered as one without tokens. */
export function openExisting(path: string): Tokens {
  if (existsSync(path)) return openTokens(path);
  throw new Error(`Cannot read ${path}: there is no such file; firkin token create makes it`);
}

// --- flags ---

/** One more scope; whether it can be is judged where tokens are created. */
function parseScope(text: string, before: Scope[] = []): Scope[] {
  const [buckets, rights, more] = text.split(":");
  if (!buckets || !rights || more !== undefined) {
    throw new InvalidArgumentError("expected buckets:rights, such as 'team-*:read,subscribe'");
  }
  return [...before, { buckets, rights: rights.split(",") as Right[] }];
}

function parseDuration(text: string): string {
  try {
    milliseconds(text);
    return text;
  } catch {
    throw new InvalidArgumentError("expected a number with ms, s, m, h or d, such as 7d");
  }
}
