/**
 * Hostile input for longer than the tests have time for: `test/server/fuzz.test.ts` on Bun, Deno and Node in turn, each
 * part for a minute.
 *
 * `npm run fuzz -- bun` runs one of them. `FUZZ_MS` and `FUZZ_SEED` as there; without a seed it is another each time,
 * and printed.
 *
 * @module
 */
import { root, run } from "./tools.mjs";

const FILE = "test/server/fuzz.test.ts";
const COMMANDS = {
  bun: ["bun", ["test", "--timeout", "600000", FILE]],
  deno: ["deno", ["test", "-A", "--no-check", FILE]],
  node: [process.execPath, ["scripts/test_node.mjs", FILE]],
};

process.env.FUZZ_MS ??= "60000";
process.env.FUZZ_SEED ??= String(Math.floor(Math.random() * 2 ** 31));
const asked = process.argv.slice(2);
for (const [name, [program, args]] of Object.entries(COMMANDS)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  console.log(`fuzz: ${name}, FUZZ_SEED=${process.env.FUZZ_SEED}, FUZZ_MS=${process.env.FUZZ_MS}`);
  if (!run(program, args, { cwd: root }).ok) process.exitCode = 1;
}
