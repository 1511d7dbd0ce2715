/**
 * Where settings come from: a flag wins over its environment variable, the variable over the file that `--config`
 * names, the file over the default.
 *
 * The file is TOML. Its settings have the names of the long flags, at the top for every command that has such a flag,
 * or in a table with the name of one command (`[serve]`), which wins. A name that no command has is an error, so that a
 * mistyped one is not passed over.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import type { Command, Option } from "commander";
import { messageOf } from "../../lib/base/errors.ts";

/** One setting of a command, as it is in the end. */
export interface Setting {
  readonly name: string;
  readonly value: string;
  /** Such as `flag`, `FIRKIN_URL`, `firkin.toml`, `default`. */
  readonly source: string;
}

/** What commander calls a value that came from a file. */
const FROM_FILE = "config";
/** Flags whose values are nobody's business. */
const SECRET = new Set(["token"]);

/** The settings in a file. */
export class SettingsFile {
  readonly path: string;
  readonly #root: Readonly<Record<string, unknown>>;

  /** See {@link SettingsFile.read}. */
  constructor(path: string, root: Readonly<Record<string, unknown>>) {
    this.path = path;
    this.#root = root;
  }

  /** Reads it, and checks every name by what `program` knows. @throws {TypeError} it is no TOML, or has another name */
  static async read(path: string, program: Command): Promise<SettingsFile> {
    const { parse } = await import("smol-toml");
    try {
      const file = new SettingsFile(path, parse(readFileSync(path, "utf8")));
      file.#check(program);
      return file;
    } catch (error) {
      if (error instanceof TypeError) throw error;
      throw new TypeError(`Cannot read ${path}: ${messageOf(error).split("\n")[0]}`, { cause: error });
    }
  }

  /** Gives the options of a command that neither a flag nor a variable has set what the file says. */
  apply(command: Command): void {
    for (const option of command.options) {
      const value = this.#valueOf(command, option);
      const source = command.getOptionValueSource(option.attributeName());
      if (value === undefined || (source !== undefined && source !== "default")) continue;
      command.setOptionValueWithSource(option.attributeName(), this.#parsed(option, value), FROM_FILE);
    }
  }

  #valueOf(command: Command, { long, negate }: Option): unknown {
    const name = long?.slice(2) ?? "";
    if (negate) return undefined;
    const own = this.#root[command.name()];
    return isTable(own) && name in own ? own[name] : this.#root[name];
  }

  /** As if it had been said on the command line. */
  #parsed(option: Option, value: unknown): unknown {
    if (option.isBoolean()) {
      if (typeof value === "boolean") return value || undefined;
      throw this.#wrong(option, "expected true or false");
    }
    let parsed: unknown = option.defaultValue;
    for (const text of textsOf(value, option)) {
      try {
        parsed = option.parseArg === undefined ? text : option.parseArg(text, parsed as never);
      } catch (error) {
        throw this.#wrong(option, messageOf(error));
      }
    }
    return parsed;
  }

  #wrong(option: Option, problem: string): TypeError {
    return new TypeError(`Cannot use ${option.long?.slice(2)} of ${this.path}: ${problem}`);
  }

  #check(program: Command): void {
    const commands = program.commands.flatMap((command) => [command, ...command.commands]);
    const names = (command: Command): string[] => command.options.map(({ long }) => long?.slice(2) ?? "");
    const anywhere = new Set(commands.flatMap(names));
    for (const [name, value] of Object.entries(this.#root)) {
      // `token create` and `bucket create` have one table.
      const called = commands.filter((one) => one.name() === name);
      if (called.length > 0 && isTable(value)) {
        for (const inner of Object.keys(value)) {
          if (!called.some((one) => names(one).includes(inner))) throw this.#unknown(`${name}.${inner}`);
        }
      } else if (!anywhere.has(name)) throw this.#unknown(name);
    }
  }

  #unknown(name: string): TypeError {
    return new TypeError(`Cannot use ${this.path}: there is no setting ${name}; firkin config says which there are`);
  }
}

/** The settings of a command whose flags, variables and file have been read. */
export function settingsOf(command: Command, file: SettingsFile | undefined): Setting[] {
  return command.options.filter(({ negate, long }) => !negate && long !== "--help").map((option) => {
    const name = option.long!.slice(2);
    const value = command.getOptionValue(option.attributeName()) as unknown;
    const sources: Record<string, string | undefined> = {
      cli: "flag",
      env: option.envVar,
      [FROM_FILE]: file?.path,
      default: "default",
    };
    const source = sources[command.getOptionValueSource(option.attributeName()) ?? "default"] ?? "default";
    const shown = SECRET.has(name) && value !== undefined ? "(secret)" : wordsOf(value);
    return { name, value: source === "default" ? option.defaultValueDescription ?? shown : shown, source };
  });
}

function wordsOf(value: unknown): string {
  if (value === undefined) return "";
  if (typeof value === "string") return value;
  if (isTable(value) && "hostname" in value) return `${String(value["hostname"])}:${String(value["port"])}`;
  if (Array.isArray(value)) return value.join(",");
  if (isTable(value)) return Object.entries(value).map((pair) => pair.join("=")).join(",");
  return String(value as number | boolean);
}

/** What would stand on the command line, once for each time. @throws {TypeError} nothing could */
function textsOf(value: unknown, { long }: Option): string[] {
  if (typeof value === "boolean") return [value ? "yes" : "no"];
  if (typeof value === "string" || typeof value === "number") return [String(value)];
  if (Array.isArray(value)) return value.map(String);
  if (isTable(value)) return Object.entries(value).map(([name, part]) => `${name}=${String(part)}`);
  throw new TypeError(`Cannot use ${long?.slice(2)}: expected text, a number, true, false, or a list of these`);
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** The file that `--config` or `FIRKIN_CONFIG` names. */
export async function settingsFile(program: Command): Promise<SettingsFile | undefined> {
  const path = (program.opts()["config"] as string | undefined) ?? process.env["FIRKIN_CONFIG"];
  return path === undefined || path === "" ? undefined : await SettingsFile.read(path, program);
}
