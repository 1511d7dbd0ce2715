/**
 * The embedded engine: what every engine keeps.
 *
 * @module
 */
import { systemClock } from "../../lib/base/clock.ts";
import { openEmbedded } from "../../lib/engine/embedded.ts";
import { MemoryFileSystem } from "../../lib/fs/memory.ts";
import { runEngineSuite } from "../suites/engine.ts";

runEngineSuite("EmbeddedEngine", async (clock) => {
  const engine = await openEmbedded({
    fileSystem: new MemoryFileSystem(),
    clock: clock ?? systemClock,
    sync: "always",
    syncIntervalMs: 1_000,
    cacheBytesMax: 1024 * 1024,
    segmentBytesMax: 64 * 1024,
    filesMax: 8,
    keyBytesMax: 1_024,
    valueBytesMax: 64 * 1024,
    batchOperationsMax: 1_000,
    batchBytesMax: 1_024 * 1_024,
    compressBytesMin: 512,
    automatic: true,
    deadRatio: 0.5,
    tombstoneRetentionMs: 3_600_000,
    report: (event) => {
      throw new Error(`The engine reports ${event.type}`);
    },
  });
  return { engine, close: () => engine.close() };
});
