/**
 * The folder in memory.
 *
 * @module
 */
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { runFileSystemSuite } from "../suites/fs.ts";

runFileSystemSuite("MemoryFileSystem", () => {
  const fileSystem = new MemoryFileSystem();
  return { fileSystem, reopen: () => fileSystem, cleanup: () => {} };
});
