/**
 * A process that the system gives little: `limited.ts <folder> write | open`. Says what came of it in one line.
 *
 * @module
 */
import process from "node:process";
import { FirkinError } from "../../lib/base/errors.ts";
import type { File } from "../../lib/fs/fs.ts";
import { NodeFileSystem } from "../../lib/fs/node.ts";
import { FilePool } from "../../lib/fs/pool.ts";

const [folder = "", what] = process.argv.slice(2);
const fileSystem = new NodeFileSystem(folder);

/** What was thrown: our code, and the system's. */
function codesOf(error: unknown): string {
  if (!(error instanceof FirkinError)) return String(error);
  return `${error.code} ${(error.cause as { code?: string } | undefined)?.code}`;
}

/** Writes until the system takes no more. */
function write(): string {
  const file = fileSystem.open("a", "create");
  const bytes = Uint8Array.from({ length: 400_000 }, (_, index) => index * 7);
  try {
    file.write(bytes, 0);
    return "all was taken";
  } catch (error) {
    return `${codesOf(error)} ${file.size()}`;
  }
}

/** Opens files until there are no more descriptors, then reads all through a pool. */
function open(): string {
  for (let number = 0; number < 200; number++) fileSystem.open(`f${number}`, "create").close();
  const files: File[] = [];
  let refusal = "none was refused";
  try {
    for (let number = 0; number < 200; number++) files.push(fileSystem.open(`f${number}`, "read"));
  } catch (error) {
    refusal = codesOf(error);
  }
  for (const file of files) file.close();
  const pool = new FilePool(fileSystem, 200);
  let read = 0;
  for (let number = 0; number < 200; number++) if (pool.file(`f${number}`).size() === 0) read++;
  return `${refusal} ${read}`;
}

console.log(what === "write" ? write() : open());
