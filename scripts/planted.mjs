/**
 * Plants bugs in the engine, one at a time, and sees whether the simulation finds them: what proves that its silence
 * means something.
 *
 * Each bug is a change of text in a copy of lib/ beside a copy of test/sim/, in a folder of build/. A text that is not
 * found exactly once fails, so that a bug is never planted in code that has moved on.
 *
 * `node scripts/planted.mjs` plants all; `node scripts/planted.mjs sync crc` those whose name has one of the words.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./tools.mjs";

/** A search that has found nothing by then has missed the bug. */
const SECONDS_MAX = "240";

/** What is broken: a name, and changes of [file, text, instead]. */
const BUGS = [
  {
    name: "one sync in seven is skipped",
    changes: [[
      "lib/bitcask/group.ts",
      "await segment.file!.sync();\n        segment.durable = end;",
      "if (end % 7 !== 0) await segment.file!.sync();\n        segment.durable = end;",
    ]],
  },
  {
    name: "acknowledged before the sync",
    changes: [[
      "lib/bitcask/group.ts",
      "await segment.file!.sync();\n        segment.durable = end;",
      "void segment.file!.sync().catch(() => {});\n        segment.durable = end;",
    ]],
  },
  {
    name: "the folder is not synced after the switch",
    changes: [[
      "lib/bitcask/manifest.ts",
      "fileSystem.rename(MANIFEST_NEW_NAME, MANIFEST_NAME);\n  await fileSystem.syncDirectory();",
      "fileSystem.rename(MANIFEST_NEW_NAME, MANIFEST_NAME);",
    ]],
  },
  {
    name: "inputs are removed before the switch is durable",
    changes: [[
      "lib/bitcask/compaction.ts",
      "await this.#log.replaceRun(inputs, run.outputs.map(({ segment }) => segment), run.floor);",
      "for (const segment of inputs) this.#log.fileSystem.remove(`${String(segment.id).padStart(10, '0')}.segment`);\n" +
      "      await this.#log.replaceRun(inputs, run.outputs.map(({ segment }) => segment), run.floor);",
    ]],
  },
  {
    name: "tombstones are dropped in a partial compaction",
    changes: [[
      "lib/bitcask/compaction.ts",
      "cleanBefore: cleanBefore(this.#log.segments, inputs[0]!, this.#owner.committed()),",
      "cleanBefore: this.#owner.committed() + 0 * cleanBefore([], inputs[0]!, 0),",
    ]],
  },
  {
    name: "recovery does not check the CRC",
    changes: [[
      "lib/bitcask/record.ts",
      "return checksum(bytes, at, at + length, seed, offset) === readU32(bytes, at) ? length : 0;",
      "return length;",
    ]],
  },
  {
    name: "the end is cut without a sync",
    changes: [["lib/bitcask/open.ts", "  await file.sync();\n  await log.fileSystem.syncDirectory();", ""]],
  },
  {
    name: "recovery neither writes anew nor syncs",
    changes: [
      ["lib/bitcask/open.ts", "  await file.sync();\n  await log.fileSystem.syncDirectory();", ""],
      ["lib/bitcask/open.ts", "log.reserve.withRoom(() => file.write(bytes.subarray(from, sound.end), from))", "from"],
    ],
  },
  {
    name: "the end is not written anew after a failed sync",
    changes: [["lib/bitcask/open.ts", "log.reserve.withRoom(() => file.write(bytes.subarray(from, sound.end), from))", "from"]],
  },
  {
    name: "leftovers are removed before the manifest is durable",
    changes: [[
      "lib/bitcask/open.ts",
      "await fileSystem.syncDirectory();\n      removeLeftovers",
      "removeLeftovers",
    ]],
  },
  {
    name: "the manifest names segments whose names are not durable",
    changes: [[
      "lib/bitcask/manifest.ts",
      "  await fileSystem.syncDirectory();\n  fileSystem.rename",
      "  fileSystem.rename",
    ]],
  },
  {
    name: "the epoch stays when changes may be lost",
    changes: [["lib/bitcask/open.ts", 'clean || manifest.sync === "always"', "true"]],
  },
  {
    name: "a clock set back revives what has expired",
    changes: [["lib/bitcask/time.ts", "Math.max(this.#wallAtOpen, timeMax)", "this.#wallAtOpen"]],
  },
  {
    name: "a failed write is not cut off",
    changes: [["lib/bitcask/group.ts", "segment.file.truncate(group.from);", ""]],
  },
  {
    name: "a batch does not say that more follows",
    changes: [["lib/bitcask/group.ts", "index === last ? flags : flags | FLAG.more", "flags"]],
  },
  {
    name: "recovery counts a part of a batch",
    changes: [["lib/bitcask/recovery.ts", "end: batchStart === -1 ? at : batchStart", "end: at"]],
  },
  {
    name: "a take is handed out before it is synced",
    changes: [["lib/bitcask/group.ts", "if (fields.kind === KIND.take) group.mustSync = true;", ""]],
  },
  {
    name: "listings show what is single-read",
    changes: [["lib/bitcask/record.ts", "value: once ? EMPTY : valueAt(bytes, at),", "value: valueAt(bytes, at),"]],
  },
  {
    name: "a touch loses the value of what is single-read",
    changes: [[
      "lib/bitcask/writes.ts",
      "valueAt(window, at), this.#expiresAt(deadline), options), hash)",
      "options.once ? EMPTY : valueAt(window, at), this.#expiresAt(deadline), options), hash)",
    ]],
  },
  {
    name: "a hint is believed without its checks",
    changes: [
      ["lib/bitcask/hint.ts", "|| !binding.every((byte, index) => bytes[index] === byte)", ""],
      ["lib/bitcask/hint.ts", "if (readU32(bytes, 96) !== crc32(bytes.subarray(0, 96))) return undefined;", ""],
      ["lib/bitcask/hint.ts", "end > bytes.length || readU32(bytes, 92) !== crc32(index, seed)", "end > bytes.length"],
      [
        "lib/bitcask/hint.ts",
        "if (checksum(bytes, start, next, seed, start) !== readU32(bytes, start)) return undefined;",
        "",
      ],
    ],
  },
];

function plant(target, changes) {
  for (const [file, text, instead] of changes) {
    const path = join(target, file);
    const parts = readFileSync(path, "utf8").split(text);
    if (parts.length !== 2) throw new Error(`planted: ${file} has ${parts.length - 1} times ${JSON.stringify(text)}`);
    writeFileSync(path, parts.join(instead));
  }
}

/** What the simulation says of the engine with these changes. */
function search(changes) {
  mkdirSync(join(root, "build"), { recursive: true });
  const target = mkdtempSync(join(root, "build", "planted-"));
  try {
    for (const folder of ["lib", "test/sim"]) cpSync(join(root, folder), join(target, folder), { recursive: true });
    for (const file of ["package.json", "tsconfig.json"]) cpSync(join(root, file), join(target, file));
    symlinkSync(join(root, "node_modules"), join(target, "node_modules"));
    plant(target, changes);
    const bun = join(root, "node_modules", ".bin", "bun");
    const args = ["test/sim/main.ts", "--first", "--json", "--seconds", SECONDS_MAX];
    const child = spawnSync(bun, args, { cwd: target, encoding: "utf8" });
    if (child.status === null || child.stdout === "") throw new Error(`planted: the search failed: ${child.stderr}`);
    return { ...JSON.parse(child.stdout), first: child.stderr.match(/VIOLATION[^\n]*\n[^\n]*/)?.[0] ?? "" };
  } finally {
    rmSync(target, { recursive: true, force: true });
  }
}

const words = process.argv.slice(2);
const wanted = BUGS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
let missed = 0;
for (const { name, changes } of wanted) {
  const { violations, states, doubles, triples, faultRuns, seconds, first } = search(changes);
  if (violations === 0) missed++;
  const after = `${states + doubles + triples} states, ${faultRuns} fault runs, ${seconds.toFixed(1)} s`;
  console.log(
    `${violations > 0 ? "found " : "MISSED"} ${name}: ${after}\n       ${first.replaceAll("\n", "\n       ")}`,
  );
}
console.log(`planted: ${wanted.length - missed} of ${wanted.length} found`);
process.exitCode = missed === 0 ? 0 : 1;
