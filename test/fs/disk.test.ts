/**
 * The disk for tests keeps what every file system keeps: else what is proven on it is proven of nothing.
 *
 * @module
 */
import { Disk } from "../suites/disk.ts";
import { type FileSystemUnderTest, runFileSuite } from "../suites/fs.ts";
import { runFolderSuite } from "../suites/fs_folder.ts";

function open(): FileSystemUnderTest {
  const disk = new Disk();
  return { fileSystem: disk, reopen: () => disk.mount(), cleanup: () => {} };
}

runFileSuite("Disk's files", open, { dense: true });
runFolderSuite("Disk", open);
