import { describe, expect, test } from "bun:test";
import type { FirkinError } from "../../lib/base/errors.ts";
import { randomWorkload, shortWorkloads } from "./catalogue.ts";
import { type Fault, SimDisk } from "./disk.ts";
import { Explorer, replay } from "./explore.ts";
import { DATA_MODES, NAME_MODES, Platter, type Survivors } from "./platter.ts";
import { runWorkload } from "./workload.ts";

/** A disk, and what a crash now would leave of it, file by file. */
class Bench {
  readonly disk: SimDisk;
  readonly #before: Platter;

  constructor(fault?: Fault, before = new Platter()) {
    this.#before = before;
    this.disk = new SimDisk(before, { fault });
  }

  /** Appends to a file, which it makes when it is not there. */
  write(name: string, text: string): void {
    const file = this.disk.open(name, this.disk.names.includes(name) ? "write" : "create");
    file.write(new TextEncoder().encode(text), file.size());
  }

  async sync(name: string): Promise<void> {
    await this.disk.open(name, "write").sync();
  }

  platter(): Platter {
    const platter = this.#before.clone();
    const base = platter.applied;
    for (const operation of this.disk.trace) platter.apply(operation, base);
    return platter;
  }

  crash(data: Survivors["data"], names: Survivors["names"], seed = 1): Platter {
    return this.platter().survive({ data, names, seed });
  }

  /** What is left: `name=bytes`, by name. */
  left(data: Survivors["data"], names: Survivors["names"], seed = 1): string {
    return show(this.crash(data, names, seed));
  }

  /** Every distinct thing that may be left. */
  all(data: Survivors["data"], names: Survivors["names"]): string[] {
    const found = new Set<string>();
    for (let seed = 0; seed < 300; seed++) found.add(this.left(data, names, seed));
    return [...found].sort();
  }
}

function show(platter: Platter): string {
  const files = [...platter.names()].map(([name, file]) => `${name}=${new TextDecoder().decode(platter.bytes(file))}`);
  return files.sort().join(" ");
}

function codeOf(act: () => void): string | undefined {
  try {
    act();
  } catch (error) {
    return (error as FirkinError).code;
  }
  return undefined;
}

/** A file whose name and first bytes are on stable storage, and whose next bytes are not. */
async function appended(): Promise<Bench> {
  const bench = new Bench();
  bench.write("a", "safe");
  await bench.sync("a");
  await bench.disk.syncDirectory();
  bench.write("a", "1234");
  return bench;
}

describe("Platter.survive()", () => {
  test("keeps what was synced, in every mode", async () => {
    const bench = new Bench();
    bench.write("a", "1");
    await bench.sync("a");
    await bench.disk.syncDirectory();
    for (const data of ["process", ...DATA_MODES] as const) {
      for (const names of NAME_MODES) expect(bench.left(data, names)).toBe("a=1");
    }
    expect(bench.platter().settled).toBe(true);
  });

  test("leaves no name that the folder was not synced for, though the file was", async () => {
    const bench = new Bench();
    bench.write("a", "1");
    await bench.sync("a");
    expect(bench.left("all", "durable")).toBe("");
    expect(bench.left("all", "all")).toBe("a=1");
    expect(bench.all("all", "any")).toEqual(["", "a=1"]);
  });

  test("leaves of a write nothing, all, a beginning, its length, or other bytes", async () => {
    const bench = await appended();
    expect(bench.left("none", "durable")).toBe("a=safe");
    expect(bench.left("all", "durable")).toBe("a=safe1234");
    expect(bench.left("process", "durable")).toBe("a=safe1234");
    expect(bench.all("prefix", "durable")).toEqual(["a=safe", "a=safe1", "a=safe12", "a=safe123", "a=safe1234"]);
    expect(bench.left("zeros", "durable")).toBe("a=safe\0\0\0\0");
    expect(bench.crash("garbage", "durable").bytes(0)).toHaveLength(8);
    expect(bench.left("garbage", "durable").slice(0, 6)).toBe("a=safe");
  });

  test.each([["shreds", 16], ["sectors", 512], ["pages", 4_096]] as const)(
    "leaves some %s, whole, and any length that was",
    (data, unit) => {
      const bench = new Bench();
      const write = (letter: string): void => {
        const file = bench.disk.open("a", bench.disk.names.includes("a") ? "write" : "create");
        file.write(new TextEncoder().encode(letter.repeat(2 * unit)), 0);
      };
      write("x");
      const before = bench.platter();
      before.apply({ action: "sync", name: "a", file: 0, since: 2 });
      before.apply({ action: "syncDirectory", since: 2 });
      const next = new Bench(undefined, before);
      next.disk.open("a", "write").write(new TextEncoder().encode("y".repeat(2 * unit)), 0);
      const left = next.all(data, "durable");
      const short = left.map((text) => text.replace(/x+|y+/g, (run) => `${run[0]}${run.length / unit}`));
      expect(short.sort()).toEqual(["a=x1y1", "a=x2", "a=y1x1", "a=y2"]);
    },
  );

  test("leaves writes out of order, across files too", async () => {
    const bench = await appended();
    bench.write("a", "5678");
    expect(bench.all("reordered", "durable")).toContain("a=safe\0\0\0\x005678");
  });

  test("loses a cut that was not synced", async () => {
    const bench = await appended();
    await bench.sync("a");
    bench.disk.open("a", "write").truncate(2);
    expect(bench.left("none", "durable")).toBe("a=safe1234");
    expect(bench.left("all", "durable")).toBe("a=sa");
  });

  test("never leaves half a rename", async () => {
    const bench = new Bench();
    bench.write("a", "old");
    await bench.sync("a");
    await bench.disk.syncDirectory();
    bench.write("b", "new");
    await bench.sync("b");
    bench.disk.rename("b", "a");
    expect(bench.all("all", "any")).toEqual(["a=new", "a=old", "a=old b=new"]);
    expect(bench.all("all", "ordered")).toEqual(["a=new", "a=old", "a=old b=new"]);
    await bench.disk.syncDirectory();
    expect(bench.all("none", "any")).toEqual(["a=new"]);
  });

  test("keeps what only a process's death left in memory, until the power is cut", async () => {
    const bench = await appended();
    const after = new Bench(undefined, bench.crash("process", "all"));
    expect(after.disk.bytes("a")).toHaveLength(8);
    expect(after.left("none", "durable")).toBe("a=safe");
    await after.sync("a");
    expect(after.left("none", "durable")).toBe("a=safe1234");
  });
});

describe("SimDisk", () => {
  test("forgets what a failed sync should have written: the next one succeeds without it", async () => {
    const bench = new Bench({ kind: "refuse", at: 6, forever: false });
    bench.write("a", "12"); // create, write
    await bench.disk.syncDirectory();
    const file = bench.disk.open("a", "write");
    await file.sync();
    file.write(new TextEncoder().encode("34"), 2);
    expect(await file.sync().catch((error: FirkinError) => error.code)).toBe("DURABILITY");
    await file.sync();
    expect(bench.left("none", "durable")).toBe("a=12");
    expect(bench.left("process", "all")).toBe("a=1234");
  });

  test("shows what it forgot only where nothing later was synced", async () => {
    const bench = new Bench({ kind: "refuse", at: 6, forever: false });
    bench.write("a", "12"); // create, write
    await bench.disk.syncDirectory();
    const file = bench.disk.open("a", "write");
    await file.sync();
    file.write(new TextEncoder().encode("3456"), 2);
    expect(await file.sync().catch((error: FirkinError) => error.code)).toBe("DURABILITY");
    file.write(new TextEncoder().encode("x"), 3);
    await file.sync();
    expect([bench.left("none", "durable"), bench.left("process", "all")]).toEqual(["a=12\0x", "a=123x56"]);
    file.truncate(5);
    await file.sync();
    expect([bench.left("none", "durable"), bench.left("process", "all")]).toEqual(["a=12\0x\0", "a=123x5"]);
  });

  test("forgets no length with a failed sync: the next one takes it along", async () => {
    const bench = new Bench({ kind: "refuse", at: 6, forever: false });
    bench.write("a", "1234"); // create, write
    await bench.disk.syncDirectory();
    const file = bench.disk.open("a", "write");
    await file.sync();
    file.truncate(2);
    expect(await file.sync().catch((error: FirkinError) => error.code)).toBe("DURABILITY");
    await file.sync();
    expect([bench.left("none", "durable"), bench.left("process", "all")]).toEqual(["a=12", "a=12"]);
  });

  test("syncs what was written before it was asked to, not what comes while it does", async () => {
    const bench = await appended();
    const file = bench.disk.open("a", "write");
    const syncing = file.sync();
    file.write(new TextEncoder().encode("5"), 8);
    await syncing;
    expect(bench.left("none", "durable")).toBe("a=safe1234");
  });

  test("refuses with the codes of lib/fs/node.ts", () => {
    const refused = (kind: Fault["kind"]) => new Bench({ kind, at: 1, forever: false });
    expect(codeOf(() => refused("refuse").write("a", "1"))).toBe("IO");
    expect(codeOf(() => refused("full").write("a", "1"))).toBe("FULL");
    expect(codeOf(() => refused("short").write("a", "12"))).toBe("IO");
    const disk = new Bench().disk;
    disk.lock();
    expect(codeOf(() => disk.lock())).toBe("LOCKED");
  });

  test("takes a part of a write that is cut short, once or for ever", () => {
    for (const forever of [false, true]) {
      const bench = new Bench({ kind: "short", at: 1, forever });
      expect(codeOf(() => bench.write("a", "1234"))).toBe("IO");
      expect(bench.disk.bytes("a").length).toBeLessThan(4);
      expect(codeOf(() => bench.write("a", "56"))).toBe(forever ? "IO" : undefined);
    }
  });

  test("is full at a byte, until something is removed", () => {
    const bench = new Bench({ kind: "full", at: 3, forever: true });
    bench.write("a", "1234");
    expect(codeOf(() => bench.write("b", "1234"))).toBe("FULL");
    bench.disk.remove("a");
    expect(codeOf(() => bench.write("b", "1"))).toBe(undefined);
  });
});

/** An explorer whose violations are its last word. */
function explorer(seed = 1, doubleOnceIn = 50): { explorer: Explorer; violations: string[] } {
  const violations: string[] = [];
  const report = (found: { address: string; problems: readonly string[] }): void => {
    violations.push(`${found.address}: ${found.problems.join("; ")}`);
  };
  return { explorer: new Explorer({ seed, doubleOnceIn, tripleOnceIn: 50, report }), violations };
}

describe("a store", () => {
  // A part of what `npm run sim` explores, which takes minutes.
  test("keeps its promises at every moment of short workloads", async () => {
    const { explorer: short, violations } = explorer();
    for (const [index, workload] of [...shortWorkloads(2)].entries()) {
      if (index % 53 === 0) await short.explore(workload, true);
    }
    expect(violations).toEqual([]);
    expect(short.counts.states).toBeGreaterThan(100);
  });

  test("keeps its promises in workloads by chance", async () => {
    const { explorer: long, violations } = explorer(1, 500);
    for (const seed of [1, 2]) await long.explore(randomWorkload(seed, 8));
    expect(violations).toEqual([]);
  });

  test.each(["always", "interval", "os"])("keeps a batch whole, and what was taken away (%s)", async (policy) => {
    const { explorer: some, violations } = explorer(1, 500);
    await some.explore(`set:a batch:a@${policy}-512-small-1`);
    await some.explore(`once:a touch:a take:a+take:a@${policy}-256-small-7`);
    expect(violations).toEqual([]);
  });

  // What follows broke a promise once.
  test("tells a subscriber that what it saw after a clean open is lost", async () => {
    // Everything behind the clean mark was lost, so the end looked clean, the epoch stayed, and revisions came twice.
    const { explorer: one, violations } = explorer();
    await one.explore("set:a reopen set:a@os-512-whole-1");
    expect(violations).toEqual([]);
  });

  test("keeps its promises when a recovery is crashed too", async () => {
    // The manifest named a segment whose name was not on stable storage.
    const { explorer: double, violations } = explorer(1, 8);
    await double.explore("set:a@always-256-small-1");
    expect(violations).toEqual([]);
    expect(double.counts.doubles).toBeGreaterThan(50);
  });

  test("outlives a process that dies at a switch of the manifest and a power cut in the next open", async () => {
    // What the new manifest did not name was removed before the switch to it was durable.
    const workload = "big:a big:a compact@always-256-small-1";
    const { disk } = await runWorkload(workload);
    const points = disk.trace.flatMap(({ action }, index) => action === "rename" ? [index + 1] : []);
    expect(points.length).toBeGreaterThan(2);
    for (const point of points) {
      for (const later of [1, 2]) {
        for (let seed = 0; seed < 12; seed++) {
          const { problems } = await replay(`${workload}/${point}/process.all/0/${later}/all.any/${seed}`);
          expect([point, later, seed, ...problems]).toEqual([point, later, seed]);
        }
      }
    }
  });

  test.each([
    // A clean mark whose sync had failed was believed by the next open, and then lost.
    "set:a reopen set:a reopen@always-256-small-1",
    // A listing that could not read a segment forgot the segment's keys.
    "big:a compact tick@always-256-small-1",
  ])("keeps its promises when a call of %s fails", async (workload) => {
    const { explorer: faults, violations } = explorer();
    await faults.exploreFaults(workload);
    expect(violations).toEqual([]);
    expect(faults.counts.faultRuns).toBeGreaterThan(100);
  });
});

describe("Explorer", () => {
  test("does the same again for the same seed", async () => {
    const run = async (seed: number): Promise<unknown> => {
      const { explorer: one } = explorer(seed, 500);
      await one.explore(randomWorkload(seed, 5));
      return { ...one.counts, hash: one.traceHash };
    };
    expect(await run(7)).toEqual(await run(7));
    expect(await run(7)).not.toEqual(await run(8));
  });

  test("says at an address what it found there", async () => {
    const { lines, problems } = await replay("set:a reopen@always-256-small-1/5/shreds.any/3/2/none.durable/4");
    expect(problems).toEqual([]);
    expect(lines.join("\n")).toContain("found: []");
  });
});
