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
      "await this.#log.replaceRun(run, outputs, copied.floor);",
      "for (const segment of run) this.#log.fileSystem.remove(`${String(segment.id).padStart(10, '0')}.segment`);\n" +
      "      await this.#log.replaceRun(run, outputs, copied.floor);",
    ]],
  },
  {
    name: "tombstones are dropped in a partial compaction",
    changes: [[
      "lib/bitcask/compaction.ts",
      "run[0] === this.#log.segments[0] ? this.#owner.committed() : -1",
      "this.#owner.committed()",
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
    changes: [["lib/bitcask/log.ts", "  await file.sync();\n  await log.fileSystem.syncDirectory();", ""]],
  },
  {
    name: "recovery neither writes anew nor syncs",
    changes: [
      ["lib/bitcask/log.ts", "  await file.sync();\n  await log.fileSystem.syncDirectory();", ""],
      ["lib/bitcask/log.ts", "  file.write(bytes.subarray(from, sound.end), from);", "  void from;"],
    ],
  },
  {
    name: "the end is not written anew after a failed sync",
    changes: [["lib/bitcask/log.ts", "  file.write(bytes.subarray(from, sound.end), from);", "  void from;"]],
  },
  {
    name: "leftovers are removed before the manifest is durable",
    changes: [[
      "lib/bitcask/log.ts",
      "await fileSystem.syncDirectory();\n    removeLeftovers",
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
    changes: [["lib/bitcask/log.ts", 'clean || manifest.sync === "always"', "true"]],
  },
  {
    name: "a clock set back revives what has expired",
    changes: [["lib/engine/embedded.ts", "Math.max(this.#wallAtOpen, this.#log.timeMax)", "this.#wallAtOpen"]],
  },
  {
    name: "a failed write is not cut off",
    changes: [["lib/bitcask/group.ts", "segment.file?.truncate(from);", ""]],
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
