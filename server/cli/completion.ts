/**
 * `firkin completion bash | zsh | fish`: what a shell needs to complete commands and flags, made of the commands
 * themselves.
 *
 * @module
 */
import process from "node:process";
import { Argument, type Command } from "commander";
import { examples } from "./targets.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** A command as a shell knows it: its words, and what may follow them. */
interface Completed {
  readonly path: string;
  readonly description: string;
  readonly commands: readonly string[];
  readonly flags: readonly { readonly long: string; readonly description: string }[];
}

/** Adds the command to the program. */
export function addCompletionCommand(firkin: Command): void {
  const command = firkin.command("completion").description("print what a shell needs to complete commands and flags")
    .addArgument(new Argument("<shell>").choices(SHELLS));
  examples(
    command,
    "source <(firkin completion bash)",
    "firkin completion zsh > ~/.zfunc/_firkin",
    "firkin completion fish > ~/.config/fish/completions/firkin.fish",
  ).action((shell: typeof SHELLS[number]) => {
    const all = [completedOf(firkin, ""), ...completedBelow(firkin, "")];
    process.stdout.write(shell === "fish" ? fishScript(all) : bashScript(all, shell === "zsh"));
  });
}

function completedBelow(parent: Command, path: string): Completed[] {
  return parent.commands.flatMap((command) => {
    const own = `${path} ${command.name()}`.trim();
    return [completedOf(command, own), ...completedBelow(command, own)];
  });
}

function completedOf(command: Command, path: string): Completed {
  return {
    path,
    description: command.description(),
    commands: command.commands.map((one) => one.name()),
    flags: [
      ...command.options.map(({ long, description }) => ({ long: long!, description })),
      { long: "--help", description: "display help for command" },
    ],
  };
}

/** For bash, and for zsh through its own emulation of it. Files are completed where nothing else is known. */
function bashScript(all: readonly Completed[], zsh: boolean): string {
  const cases = all.map(({ path, commands, flags }) =>
    `    "${path}") words="${[...commands, ...flags.map(({ long }) => long)].join(" ")}" ;;`
  );
  const head = zsh ? "#compdef firkin\nautoload -U +X bashcompinit && bashcompinit\n" : "";
  return `${head}_firkin() {
  local path="" word words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in
      -*) ;;
      ${[...new Set(all.flatMap(({ commands }) => commands))].join("|")}) path="\${path:+$path }$word" ;;
    esac
  done
  case "$path" in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _firkin firkin
`;
}

function fishScript(all: readonly Completed[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "\\'")}'`;
  const lines = all.flatMap(({ path, description, flags }) => {
    const words = path.split(" ");
    const parent = words.slice(0, -1);
    const seen = path === ""
      ? "__fish_use_subcommand"
      : words.map((word) => `__fish_seen_subcommand_from ${word}`).join("; and ");
    const before = parent.length === 0 ? "__fish_use_subcommand" : `__fish_seen_subcommand_from ${parent.join(" ")}`;
    const own = path === ""
      ? []
      : [`complete -c firkin -n ${quoted(before)} -a ${words.at(-1)} -d ${quoted(description)}`];
    const options = flags.map((flag) => {
      return `complete -c firkin -n ${quoted(seen)} -l ${flag.long.slice(2)} -d ${quoted(flag.description)}`;
    });
    return [...own, ...options];
  });
  return `${lines.join("\n")}\n`;
}
