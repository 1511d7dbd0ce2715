/**
 * The folder in memory.
 *
 * @module
 */
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { type FileSystemUnderTest, runFileSuite } from "../suites/fs.ts";
import { runFolderSuite } from "../suites/fs_folder.ts";

function open(): FileSystemUnderTest {
  const fileSystem = new MemoryFileSystem();
  return { fileSystem, reopen: () => fileSystem, cleanup: () => {} };
}

runFileSuite("MemoryFileSystem's files", open);
runFolderSuite("MemoryFileSystem", open);
