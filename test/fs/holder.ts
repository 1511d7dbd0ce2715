/**
 * A process that takes a folder, says so, and lives until it is killed: `holder.ts <folder>`.
 *
 * @module
 */
import process from "node:process";
import { messageOf } from "../../lib/base/errors.ts";
import { NodeFileSystem } from "../../lib/fs/node.ts";

try {
  new NodeFileSystem(process.argv[2] ?? "").lock();
  console.log("held");
} catch (error) {
  console.log(messageOf(error));
}
setInterval(() => {}, 60_000);
