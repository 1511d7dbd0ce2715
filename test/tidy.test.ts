/**
 * The rules of the house that no linter knows, checked on every file.
 *
 * 1. ARCHITECTURE.md lists every source file once, lowest first, and a file imports only from files above it in that
 *    list: values, types, re-exports and `import()` alike.
 * 2. Lines have up to 120 columns (a URL or a row of a table may need more) and files up to 600 lines.
 * 3. What is left to do has an issue: TODO(#12).
 * 4. No default exports, no index.ts, and `#name` for what is private.
 *
 * The checks are functions of the texts alone, so that each of them is shown to fail on a few lines.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";

const COLUMNS_MAX = 120;
const LINES_MAX = 600;

/** The text of each file by its path in the project. */
type Files = ReadonlyMap<string, string>;

// --- the language ---

/** A comment, a string, or a regular expression where a value may begin. Whichever starts first is the one that is meant. */
const TOKEN =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\[\s\S])*`|(?<=[=>(,:[!&|?{};]\s*|return\s+)\/(?![*/])(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\//g;

/** The text without its comments; lines keep their numbers. */
function withoutComments(text: string): string {
  return text.replace(TOKEN, (token) => /^\/[*/]/.test(token) ? token.replace(/[^\n]/g, "") : token);
}

/** The text without comments, strings and regular expressions; lines keep their numbers. */
function withoutWords(text: string): string {
  return text.replace(TOKEN, (token) => token.replace(/[^\n]/g, ""));
}

/** What a file imports or re-exports, as written. */
function specifiers(text: string): string[] {
  const imports = /\b(?:from|import)\s*\(?\s*(?:"([^"\n]+)"|'([^'\n]+)'|`([^`\n]+)`)/g;
  return [...withoutComments(text).matchAll(imports)].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
}

// --- the order of the files ---

/** The list's paths, lowest first. */
function listedPaths(list: string): string[] {
  return [...list.matchAll(/^- `([^`]+\.ts)`/gm)].map((match) => match[1] ?? "");
}

/** A source file, which has a place in the list. */
function isSource(path: string): boolean {
  return /^(?:mod\.ts|browser\.ts|(?:lib|server)\/.*\.ts)$/.test(path);
}

/** The path that a relative specifier in the file at `path` leads to. */
function target(path: string, specifier: string): string {
  return new URL(specifier, `file:///${path}`).pathname.slice(1);
}

/** Says where the list and the files disagree, and which imports lead downward. */
function checkOrder(files: Files, list: string): string[] {
  const listed = listedPaths(list);
  const sources = [...files.keys()].filter(isSource);
  const problems = [
    ...listed.filter((path, place) => listed.indexOf(path) !== place).map((path) => `${path} is listed twice`),
    ...listed.filter((path) => !files.has(path)).map((path) => `${path} is listed but does not exist`),
    ...sources.filter((path) => !listed.includes(path)).map((path) => `${path} is not listed`),
  ];
  for (const path of sources.filter((source) => listed.includes(source))) {
    for (const specifier of specifiers(files.get(path) ?? "").filter((text) => text.startsWith("."))) {
      const place = listed.indexOf(target(path, specifier));
      if (place === -1) problems.push(`${path} imports ${specifier}, which is not listed`);
      else if (place >= listed.indexOf(path)) problems.push(`${path} imports ${specifier}, which is not above it`);
    }
  }
  return problems;
}

// --- one file ---

const IN_CODE: readonly [RegExp, string][] = [
  [/\bexport\s+default\b|\bas\s+default\b/, "exports a default: name it"],
  [/\b(?:private|protected)\s+[\w#*[]/, "says private: use #name"],
];

/** A line that may be longer: it holds a URL, or is a row of a table. */
function mayBeLong(line: string): boolean {
  return /https?:\/\/\S{20}/.test(line) || /^[\s*/]*\|.*\|\s*$/.test(line);
}

/** Says what is wrong in one file, whatever the others are. */
function checkFile(path: string, text: string): string[] {
  const problems: string[] = [];
  const lines = text.replace(/\n$/, "").split("\n");
  if (lines.length > LINES_MAX) problems.push(`${path} has ${lines.length} lines: it holds two ideas`);
  if (/(?:^|\/)index\.ts$/.test(path)) problems.push(`${path} is called index: name it after its idea, or mod.ts`);
  const code = withoutWords(text).split("\n");
  for (const [index, line] of lines.entries()) {
    const place = `${path}:${index + 1}`;
    if (line.length > COLUMNS_MAX && !mayBeLong(line)) problems.push(`${place} has ${line.length} columns`);
    if (/\b(?:TODO|FIXME)\b(?!\(#\d+\))/.test(line)) problems.push(`${place} leaves work without an issue number`);
    for (const [pattern, problem] of IN_CODE) {
      if (pattern.test(code[index] ?? "")) problems.push(`${place} ${problem}`);
    }
  }
  return problems;
}

// --- the tests ---

const ROOT = new URL("../", import.meta.url);
const FOLDERS = ["lib", "server", "test", "bench", "examples", "scripts"];

/** Not the project's: what the benchmarks compare it with. */
function isForeign(path: string): boolean {
  return path.startsWith("bench/node_modules/");
}

/** All code of the project. */
function projectFiles(): Files {
  const paths = ["mod.ts", "browser.ts"];
  for (const folder of FOLDERS.filter((name) => existsSync(new URL(name, ROOT)))) {
    const names = readdirSync(new URL(folder, ROOT), { recursive: true, encoding: "utf8" });
    paths.push(...names.map((name) => `${folder}/${name.replaceAll("\\", "/")}`).filter((path) => !isForeign(path)));
  }
  const code = paths.filter((path) => /\.(?:ts|mjs)$/.test(path) && existsSync(new URL(path, ROOT)));
  return new Map(code.map((path) => [path, readFileSync(new URL(path, ROOT), "utf8")]));
}

describe("the project", () => {
  const files = projectFiles();

  test("lists its files in the order of their imports", () => {
    expect(files.size).toBeGreaterThan(0);
    expect(checkOrder(files, readFileSync(new URL("ARCHITECTURE.md", ROOT), "utf8"))).toEqual([]);
  });

  test("keeps to the rules in every file", () => {
    const others = [...files].filter(([path]) => path !== "test/tidy.test.ts"); // which says what it forbids
    expect(others.flatMap(([path, text]) => checkFile(path, text))).toEqual([]);
  });
});

describe("checkOrder()", () => {
  const list = "# Files\n- `lib/a.ts`: lowest.\n- `lib/b.ts`: above.\n\n### top\n- `mod.ts`: all, not `lib/z.ts`.\n";
  const check = (a: string, b: string) => checkOrder(new Map([["lib/a.ts", a], ["lib/b.ts", b], ["mod.ts", ""]]), list);

  test("accepts imports from files above", () => {
    expect(check("", 'import { a } from "./a.ts";\nexport * from "../lib/a.ts";\nimport "cbor-x";')).toEqual([]);
  });

  test("rejects a file that is not listed, is listed twice or is absent", () => {
    const files = new Map([["lib/a.ts", ""], ["lib/c.ts", ""], ["server/d.ts", ""], ["browser.ts", ""], [
      "test/e.ts",
      "",
    ]]);
    expect(checkOrder(files, `${list}- \`lib/a.ts\`: again.`)).toEqual([
      "lib/a.ts is listed twice",
      "lib/b.ts is listed but does not exist",
      "mod.ts is listed but does not exist",
      "lib/c.ts is not listed",
      "server/d.ts is not listed",
      "browser.ts is not listed",
    ]);
  });

  test.each([
    'import { b } from "./b.ts";',
    "import { b } from './b.ts';",
    'import type { B } from "./b.ts";',
    'import {\n  type B,\n  b,\n} from\n  "./b.ts";',
    'import "./b.ts";',
    'export * from "./b.ts";',
    'export { b as c } from "./b.ts";',
    'const b = await import("./b.ts");',
    'const b = await import(\n  "./b.ts"\n);',
    "const b = await import(`./b.ts`);",
    'let b: import("./b.ts").B;',
    'const quoted = (text) => /["`]/.test(text); import { b } from "./b.ts";',
    'const folder = "lib/**"; import { b } from "./b.ts"; /* end */',
  ])("rejects %j in a file above", (text) => {
    expect(check(text, "")).toEqual(["lib/a.ts imports ./b.ts, which is not above it"]);
  });

  test("rejects an import of the file itself and of what is not listed", () => {
    expect(check('import { a } from "./a.ts";', 'import { e } from "../test/e.ts";')).toEqual([
      "lib/a.ts imports ./a.ts, which is not above it",
      "lib/b.ts imports ../test/e.ts, which is not listed",
    ]);
  });

  test("does not read comments", () => {
    expect(check('// import { b } from "./b.ts";\n/**\n * import { b } from "./b.ts";\n */', "")).toEqual([]);
  });
});

describe("checkFile()", () => {
  const check = (text: string) => checkFile("lib/a.ts", text);

  test("accepts 120 columns and 600 lines", () => {
    expect(check(`${"x".repeat(120)}\n`.repeat(600))).toEqual([]);
  });

  test("rejects 121 columns, but for URLs and tables", () => {
    expect(check(`\n${"x".repeat(121)}`)).toEqual(["lib/a.ts:2 has 121 columns"]);
    expect(check(` * See https://example.org/${"x".repeat(121)}`)).toEqual([]);
    expect(check(` * | ${"x".repeat(121)} |`)).toEqual([]);
  });

  test("rejects 601 lines", () => {
    expect(check("\n".repeat(601))).toEqual(["lib/a.ts has 601 lines: it holds two ideas"]);
  });

  test("rejects work that is left without an issue", () => {
    expect(check("// TODO(#12): faster\n// TODO: faster\n/* FIXME */")).toEqual([
      "lib/a.ts:2 leaves work without an issue number",
      "lib/a.ts:3 leaves work without an issue number",
    ]);
  });

  test("rejects default exports", () => {
    expect(check("export default function a() {}")).toEqual(["lib/a.ts:1 exports a default: name it"]);
    expect(check("export { a as default };")).toEqual(["lib/a.ts:1 exports a default: name it"]);
    expect(check("// export default\nexport const a = 'export default';")).toEqual([]);
  });

  test("rejects index.ts", () => {
    expect(checkFile("lib/index.ts", "")).toEqual(["lib/index.ts is called index: name it after its idea, or mod.ts"]);
    expect(checkFile("lib/key_index.ts", "")).toEqual([]);
  });

  test("rejects private, but not the word", () => {
    expect(check("class A {\n  private a = 1;\n}")).toEqual(["lib/a.ts:2 says private: use #name"]);
    expect(check("class A {\n  constructor(private readonly a: number) {}\n}")).toHaveLength(1);
    expect(check('class A {\n  #a = "private part"; // private part\n  b = { private: true };\n}')).toEqual([]);
  });
});
