/**
 * The public symbols of an entry point as Markdown: each with its signature, its docstring, what it throws and its
 * examples, from what `deno doc --json` says about the sources.
 *
 * What kind of type or member this file does not know makes it fail, so that nothing is left out in silence.
 *
 * @module
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root, run } from "../tools.mjs";

/** The order of a page: what one calls first, what one only names last. */
const CHAPTERS = {
  Functions: ["function", "variable"],
  Classes: ["class"],
  Types: ["interface", "typeAlias"],
};

/**
 * What entry points export, by their paths: `{ doc, symbols }`, each symbol `{ name, kind, def, jsDoc }`. What several
 * export is told with the first alone.
 */
export function readModules(paths) {
  const { ok, output } = run("deno", ["doc", "--quiet", "--json", ...paths], { stdio: "pipe" });
  if (!ok) throw new Error(`Cannot read the docstrings of ${paths.join(", ")}: ${output}`);
  const { nodes } = JSON.parse(output);
  return new Map(paths.map((path) => {
    const { module_doc, symbols } = nodes[pathToFileURL(join(root, path)).href];
    const all = symbols.map(({ name, declarations: [{ kind, def, jsDoc = {} }] }) => ({ name, kind, def, jsDoc }));
    return [path, { doc: module_doc.doc, symbols: all.filter(({ kind }) => kind !== "reference") }];
  }));
}

// --- types as they are written ---

function list(items, write = type) {
  return items.map(write).join(", ");
}

function generics(params) {
  return params === undefined || params.length === 0 ? "" : `<${
    list(params, (param) => {
      const bound = param.constraint === undefined ? "" : ` extends ${type(param.constraint)}`;
      return `${param.name}${bound}${param.default === undefined ? "" : ` = ${type(param.default)}`}`;
    })
  }>`;
}

function literal({ kind, ...value }) {
  return kind === "string" ? JSON.stringify(value.string) : String(value[kind]);
}

const TYPES = {
  keyword: ({ value }) => value,
  this: () => "this",
  literal: ({ value }) => literal(value),
  typeRef: ({ value }) => value.typeName + (value.typeParams?.length > 0 ? `<${list(value.typeParams)}>` : ""),
  union: ({ value }) => value.map(type).join(" | "),
  intersection: ({ value }) => value.map(type).join(" & "),
  array: ({ value }) => `${type(value)}[]`,
  tuple: ({ value }) => `[${list(value)}]`,
  parenthesized: ({ value }) => `(${type(value)})`,
  typeOperator: ({ value }) => `${value.operator} ${type(value.tsType)}`,
  fnOrConstructor: ({ value }) => `(${list(value.params, param)}) => ${type(value.tsType)}`,
  typeLiteral: ({ value }) =>
    `{ ${[...value.properties ?? [], ...value.methods ?? []].map((member) => memberSignature(member)).join("; ")} }`,
};

function type(node) {
  const write = TYPES[node.kind];
  if (write === undefined) throw new Error(`Cannot write a type of the kind ${node.kind}`);
  return write(node);
}

const PARAMS = {
  identifier: ({ name, optional, tsType }) => `${name}${optional ? "?" : ""}: ${type(tsType)}`,
  object: ({ tsType }) => `options: ${type(tsType)}`,
  rest: ({ arg, tsType }) => `...${arg.name}: ${type(tsType)}`,
  assign: ({ left }) => param(left).replace(":", "?:"),
};

function param(node) {
  const write = PARAMS[node.kind];
  if (write === undefined) throw new Error(`Cannot write a parameter of the kind ${node.kind}`);
  return write(node);
}

/** `name(a: string): void` or `readonly name?: string`, of a class's or an interface's member. */
function memberSignature(member) {
  const { params, typeParams, returnType } = member.functionDef ?? member;
  if (member.kind === "getter") return `readonly ${member.name}: ${type(returnType)}`;
  const name = `${member.isStatic ? "static " : ""}${member.name}${member.optional ? "?" : ""}`;
  if (params === undefined) return `${member.readonly ? "readonly " : ""}${name}: ${type(member.tsType)}`;
  return `${name}${generics(typeParams)}(${list(params, param)}): ${type(returnType)}`;
}

/** A signature that is too long for a line gets a line for each parameter or alternative. */
function wrapped(signature) {
  if (signature.length <= 88) return signature;
  const call = /^([^(]*\()(.*)(\): .*)$/.exec(signature);
  if (call !== null && call[2].includes(", ")) {
    // Commas between parameters are those before `name:`.
    return `${call[1]}\n  ${call[2].split(/, (?=(?:\.\.\.)?\w+\??: )/).join(",\n  ")},\n${call[3]}`;
  }
  if (!signature.startsWith("type ")) return signature;
  return signature.replace(/ = (?=.* \| )/, " =\n  | ").replace(/(?<!\([^)]*) \| (?=[{"\w])/g, "\n  | ");
}

// --- symbols as Markdown ---

const OPENINGS = {
  function: ({ name, def }) => {
    const { typeParams, params, returnType } = def;
    return `function ${name}${generics(typeParams)}(${list(params, param)}): ${type(returnType)}`;
  },
  variable: ({ name, def }) => `const ${name}: ${type(def.tsType)}`,
  class: ({ name, def }) => {
    const bases = def.implements?.length > 0 ? ` implements ${list(def.implements)}` : "";
    return `class ${name}${generics(def.typeParams)}${def.extends ? ` extends ${def.extends}` : ""}${bases}`;
  },
  interface: ({ name, def }) => {
    const bases = def.extends?.length > 0 ? ` extends ${list(def.extends)}` : "";
    return `interface ${name}${generics(def.typeParams)}${bases}`;
  },
  typeAlias: ({ name, def }) => `type ${name}${generics(def.typeParams)} = ${type(def.tsType)}`,
};

function fence(signature) {
  return `\`\`\`ts\n${wrapped(signature)}\n\`\`\`\n`;
}

/** A docstring and its tags. `link` says where a name leads to, if anywhere. */
function text({ doc = "", tags = [] }, link) {
  const linked = (words) => words.replace(/\{@link ([^}]+)\}/g, (_, name) => link(name));
  const parts = [doc.replace(/@throws \{(\w+)\} /, "**Throws** `$1` ")];
  for (const { kind, name, doc: words = "", tsType } of tags) {
    if (kind === "param") parts.push(`**\`${name}\`**: ${words}`);
    if (kind === "returns") parts.push(`**Returns** ${words}`);
    if (kind === "throws") parts.push(`**Throws** \`${tsType === undefined ? "" : type(tsType)}\` ${words}`);
    if (kind === "example") {
      parts.push(`**Example**: ${words.replace(/^```ts .*$/m, "```ts").replace("\n```", "\n\n```")}`);
    }
  }
  return `${linked(parts.map((part) => part.trim()).join("\n\n")).trim()}\n`;
}

function isShown({ jsDoc, accessibility, name }) {
  const hidden = jsDoc?.tags?.some(({ kind }) => kind === "internal") ?? false;
  return !hidden && accessibility === undefined && name !== "[UNSUPPORTED]";
}

/** Members with parameters have a heading each; the rest are rows. */
function members({ name, def }, link) {
  const methods = (def.methods ?? []).filter(isShown);
  const properties = [...def.properties ?? [], ...methods.filter((method) => method.kind === "getter")].filter(isShown);
  const rows = properties.map((member) => {
    const signature = memberSignature(member).replaceAll("|", "\\|");
    return `| \`${signature}\` | ${text(member.jsDoc ?? {}, link).trim().replaceAll(/\s*\n\s*/g, " ")} |`;
  });
  const table = rows.length === 0 ? "" : `| | |\n|---|---|\n${rows.join("\n")}\n`;
  // Those without a docstring implement others.
  const constructors = (def.constructors ?? []).filter((one) => {
    return isShown(one) && one.jsDoc !== undefined && !one.jsDoc.doc.startsWith("Made by");
  });
  return [
    table,
    ...constructors.map((one) => {
      return `#### \`new ${name}()\` {#${name}.new}\n\n${fence(`new ${name}(${list(one.params, param)}): ${name}`)}\n${
        text(one.jsDoc ?? {}, link)
      }`;
    }),
    ...methods.filter((method) => method.kind !== "getter").map((method) => {
      const title = method.name.startsWith("[") ? `[Symbol.${symbolName(method.name)}]` : method.name;
      const signature = memberSignature({ ...method, name: title });
      return `#### \`${name}${title.startsWith("[") ? "" : "."}${title}()\` {#${name}.${
        method.name.replace(/\W/g, "")
      }}\n\n${fence(signature)}\n${text(method.jsDoc ?? {}, link)}`;
    }),
  ].join("\n");
}

function symbolName(name) {
  return name.replace(/^\[(?:Symbol\.)?|\]$/g, "");
}

/**
 * An entry point as Markdown.
 *
 * @param title The page's or part's heading.
 * @param module What `readModules` gave.
 * @param home The page on which each symbol is told, by its name.
 */
export function moduleMarkdown(title, module, home) {
  const link = (words) => {
    const page = home.get(words.split(".")[0]);
    return page === undefined ? `\`${words}\`` : `[\`${words}\`](${page}#${words})`;
  };
  const parts = [`# ${title}\n\n${text({ doc: module.doc }, link)}`];
  for (const [chapter, kinds] of Object.entries(CHAPTERS)) {
    const symbols = module.symbols.filter(({ kind }) => kinds.includes(kind)).sort((a, b) => a.name < b.name ? -1 : 1);
    if (symbols.length > 0) parts.push(`## ${chapter}\n`);
    for (const symbol of symbols) {
      const { name, kind, jsDoc } = symbol;
      parts.push(`### ${name} {#${name}}\n\n${fence(OPENINGS[kind](symbol))}\n${text(jsDoc, link)}`);
      if (kind === "class" || kind === "interface") parts.push(members(symbol, link));
    }
  }
  return parts.join("\n");
}
