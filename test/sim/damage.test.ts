import { describe, expect, test } from "bun:test";
import { FirkinError } from "../../lib/base/errors.ts";
import { SimDisk } from "./disk.ts";
import { clockAt, differs, Life, setupOf, type State } from "./life.ts";
import { platterOf } from "./platter.ts";
import { type History, runWorkload } from "./workload.ts";
import { shareOf } from "../suites/random.ts";

/** Three segments, a tombstone, a deadline, and an end that was not closed. */
const WORKLOAD = "big:a big:b set:a delete:b ttl:k set:b";
const SETUP = "always-256-whole-1";

/** The files that a run has left, on stable storage. */
function filesOf({ disk }: History): Map<string, Uint8Array> {
  return new Map(disk.names.map((name) => [name, disk.bytes(name)]));
}

/** What an open shows, or the code of the error by which it, or a read, refuses. Another error is thrown. */
async function opened(files: ReadonlyMap<string, Uint8Array>, wall: number): Promise<State | string> {
  const setup = setupOf(SETUP);
  try {
    const life = await Life.open(new SimDisk(platterOf(files)), clockAt(wall, setup), setup);
    const problems: string[] = [];
    const state = await life.observe(problems, ["b/a", "b/b", "b/k"]);
    expect(problems).toEqual([]);
    await life.close();
    return state;
  } catch (error) {
    if (!(error instanceof FirkinError)) throw error;
    return error.code;
  }
}

/** Files with one that has other bytes. */
function replaced(files: ReadonlyMap<string, Uint8Array>, name: string, bytes: Uint8Array): Map<string, Uint8Array> {
  return new Map([...files, [name, bytes]]);
}

describe("a damaged store", () => {
  test("is a prefix of itself when its last segment is cut at any byte", async () => {
    const history = await runWorkload(`${WORKLOAD}@${SETUP}`);
    const files = filesOf(history);
    const last = [...files.keys()].filter((name) => name.endsWith(".segment")).sort().pop()!;
    const bytes = files.get(last)!;
    const wall = history.walls[0]!.wall;
    const lengths = new Set<number>();
    for (let size = 0; size < bytes.length; size++) {
      const found = await opened(replaced(files, last, bytes.subarray(0, size)), wall);
      if (typeof found === "string") {
        // Without its header it is no segment.
        expect([size < 32, found]).toEqual([true, "CORRUPT"]);
        continue;
      }
      const prefix = history.states.findLastIndex((state) => differs(found, state, wall, wall) === undefined);
      expect([size, prefix]).not.toEqual([size, -1]);
      lengths.add(prefix);
    }
    expect(lengths.size).toBeGreaterThan(2);
  });

  test.each(
    [
      ["", /./],
      // A log that was closed: its other files are as before.
      [" reopen", /^0000000003/],
    ] as const,
  )("shows right bytes or refuses, whatever bit is flipped (%j)", async (end, damaged) => {
    const history = await runWorkload(`${WORKLOAD}${end}@${SETUP}`);
    const files = filesOf(history);
    const wall = history.walls[0]!.wall;
    const found = { refused: 0, shown: 0 };
    for (const [name, bytes] of files) {
      if (!damaged.test(name)) continue;
      for (const bit of shareOf(bytes.length * 8)) {
        const flipped = bytes.slice();
        flipped[bit >> 3] = flipped[bit >> 3]! ^ (1 << (bit & 7));
        const state = await opened(replaced(files, name, flipped), wall);
        if (typeof state === "string") {
          expect([name, bit, state]).toEqual([name, bit, "CORRUPT"]);
          found.refused++;
          continue;
        }
        // The last group of a log that was not closed passes for torn.
        const known = history.states.some((other) => differs(state, other, wall, wall) === undefined);
        expect([name, bit, known]).toEqual([name, bit, true]);
        found.shown++;
      }
    }
    expect(found.refused).toBeGreaterThan(150);
  });

  test("refuses any cut of what is sealed, and of the manifest", async () => {
    const history = await runWorkload(`${WORKLOAD}@${SETUP}`);
    const files = filesOf(history);
    const wall = history.walls[0]!.wall;
    for (const name of ["manifest", "0000000001.segment"]) {
      const bytes = files.get(name)!;
      for (let size = 0; size < bytes.length; size++) {
        const found = await opened(replaced(files, name, bytes.subarray(0, size)), wall);
        // Without its last line break the manifest says all the same.
        const whole = name === "manifest" && size === bytes.length - 1;
        expect([name, size, typeof found === "string" ? found : "open"]).toEqual([
          name,
          size,
          whole ? "open" : "CORRUPT",
        ]);
      }
    }
  });
});
