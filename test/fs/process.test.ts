/**
 * One writer per folder: who is believed to be alive, and that of many who find a dead owner one wins.
 *
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import * as nodeFs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { FirkinError } from "../../lib/base/errors.ts";
import { acquire, type Calls, inspect } from "../../lib/fs/process.ts";
import { errorCode, thrown } from "../suites/fs.ts";
import { moduleCommand } from "../suites/tools.ts";

const linux = process.platform === "linux";

/** A pid that no Linux system gives out: above the highest possible. */
const PID_ABSENT = 2 ** 22 + 1;
const NONCE = "00000000-0000-4000-8000-000000000000";

/** `node:fs` that loses everything in a power cut, which these tests do not make. */
const quick: Calls = { ...nodeFs, fsyncSync: () => {} };

let folder: string;
let path: string;

beforeEach(() => {
  folder = nodeFs.mkdtempSync(join(tmpdir(), "firkin-lock-"));
  path = join(folder, "lock");
});

afterEach(() => nodeFs.rmSync(folder, { recursive: true }));

/** What a lock of this process says. */
function ownLine(): Record<string, unknown> {
  const lock = acquire(folder, quick);
  const line = JSON.parse(nodeFs.readFileSync(path, "utf8"));
  lock.release();
  return line;
}

/** Leaves the lock of a process like this one but for `changes`. */
function leaveLock(changes: Record<string, unknown>): void {
  nodeFs.writeFileSync(path, `${JSON.stringify({ ...ownLine(), nonce: NONCE, ...changes })}\n`);
}

/** Leaves a lock without an owner, written so long ago. */
function leaveGarbage(text: string, ageMs: number): void {
  nodeFs.writeFileSync(path, text);
  const seconds = (Date.now() - ageMs) / 1000;
  nodeFs.utimesSync(path, seconds, seconds);
}

function lockCode(): Promise<string | undefined> {
  return errorCode(() => acquire(folder, nodeFs));
}

describe("acquire()", () => {
  test("acquire() leaves one whole file, and its release none", () => {
    const lock = acquire(folder, nodeFs);
    expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
    const text = nodeFs.readFileSync(path, "utf8");
    expect(text.endsWith("\n")).toBe(true);
    expect(JSON.parse(text).pid).toBe(process.pid);
    lock.release();
    expect(nodeFs.readdirSync(folder)).toEqual([]);
    lock.release();
  });

  test("acquire() is refused to a second opening in this process, whatever path it takes to the folder", async () => {
    const lock = acquire(folder, nodeFs);
    for (const other of [folder, `${folder}/`, join(folder, "x", "..")]) {
      expect(await errorCode(() => acquire(other, nodeFs))).toBe("LOCKED");
    }
    lock.release();
  });

  test("acquire() names the owner and the folder when it is refused", async () => {
    const lock = acquire(folder, nodeFs);
    const error = await thrown(() => acquire(folder, nodeFs));
    expect(error?.code).toBe("LOCKED");
    expect(error?.message).toContain(`process ${process.pid} `);
    expect(error?.message).toContain(folder);
    expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
    lock.release();
  });

  test("release() leaves a lock that is no longer ours", () => {
    const lock = acquire(folder, nodeFs);
    const other = nodeFs.readFileSync(path, "utf8").replace(/"nonce":"[^"]*"/, `"nonce":"${NONCE}"`);
    nodeFs.writeFileSync(path, other);
    lock.release();
    expect(nodeFs.readFileSync(path, "utf8")).toBe(other);
  });

  // --- who is alive ---

  const dead: [string, Record<string, unknown>][] = [
    ["absent", { pid: PID_ABSENT }],
    ["of another boot", { bootId: "another", pidNamespace: "pid:[1]" }],
    ["reused by a later process", { startTicks: "1" }],
  ];
  test.each(dead)("acquire() takes over from an owner whose pid is %s", async (_, changes) => {
    leaveLock(changes);
    // Only Linux tells boots and the start of a process.
    expect(await lockCode()).toBe(linux || changes["pid"] === PID_ABSENT ? undefined : "LOCKED");
    expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
  });

  const unproven: [string, Record<string, unknown>][] = [
    ["is alive", {}],
    ["is another's process", { pid: 1, startTicks: "" }],
    ["is on another host", { pid: PID_ABSENT, hostname: "elsewhere" }],
    ["is on another host and boot", { pid: PID_ABSENT, hostname: "elsewhere", bootId: "another" }],
    ["is in another pid namespace", { pid: PID_ABSENT, pidNamespace: "pid:[1]" }],
    ["tells no boot", { pid: PID_ABSENT, bootId: linux ? "" : "another" }],
  ];
  test.each(unproven.slice(0, linux ? 6 : 5))("acquire() leaves an owner that %s", async (_, changes) => {
    if (!linux && "bootId" in changes) return;
    leaveLock(changes);
    const before = nodeFs.readFileSync(path, "utf8");
    expect(await lockCode()).toBe("LOCKED");
    expect(nodeFs.readFileSync(path, "utf8")).toBe(before);
    expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
  });

  const garbage: [string, string][] = [
    ["nothing", ""],
    ["zeros", "\0".repeat(200)],
    ["half a line", '{"pid":1,"startTi'],
    ["null", "null"],
    ["no numbers", "{}"],
    ["a process group", `{"pid":-1,"startTicks":"","bootId":"","pidNamespace":"","hostname":"","nonce":"${NONCE}"}`],
    ["a nonce that is a path", '{"pid":1,"startTicks":"","bootId":"","pidNamespace":"","hostname":"","nonce":"../x"}'],
  ];
  test.each(garbage)("acquire() takes over a lock that says %s, but not a young one", async (_, text) => {
    leaveGarbage(text, 3_000);
    expect(await lockCode()).toBe("LOCKED");
    expect(nodeFs.readFileSync(path, "utf8")).toBe(text);
    leaveGarbage(text, 6_000);
    expect(await lockCode()).toBe(undefined);
    expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
  });

  test("acquire() sweeps what dead processes left and nothing else", () => {
    const line = JSON.stringify({ ...ownLine(), pid: PID_ABSENT, nonce: NONCE });
    for (const name of [`lock.${NONCE}`, `lock.${NONCE}.draft`, "lock.1700000000000", "lock.txt", "locked"]) {
      nodeFs.writeFileSync(join(folder, name), line);
    }
    const lock = acquire(folder, nodeFs);
    expect(nodeFs.readdirSync(folder).sort()).toEqual(["lock", "lock.txt", "locked"]);
    lock.release();
  });

  test.skipIf(!linux)("acquire() takes over from an owner that is a zombie", () => {
    acquire(folder, quick);
    const readFileSync = (...args: Parameters<typeof nodeFs.readFileSync>): unknown =>
      String(nodeFs.readFileSync(...args)).replace(/\) [A-Z] /, ") Z ");
    acquire(folder, { ...quick, readFileSync: readFileSync as Calls["readFileSync"] });
  });

  test("acquire() puts a lock in place only when it is whole and synced", () => {
    const steps: string[] = [];
    acquire(folder, {
      ...nodeFs,
      fsyncSync: (fd) => {
        expect(nodeFs.fstatSync(fd).size).toBeGreaterThan(100);
        steps.push("sync");
      },
      linkSync: (source, target) => {
        nodeFs.linkSync(source, target);
        steps.push("link");
      },
    });
    expect(steps).toEqual(["sync", "link"]);
  });

  const failures: [string, Partial<Calls>][] = [
    ["a line cut short", { writeSync: (() => 10) as Calls["writeSync"] }],
    ["a failed sync", { fsyncSync: fail }],
    ["a failure after it was won", { readdirSync: fail as unknown as Calls["readdirSync"] }],
  ];
  test.each(failures)("acquire() leaves nothing after %s", (_, calls) => {
    expect(() => acquire(folder, { ...quick, ...calls })).toThrow();
    expect(nodeFs.readdirSync(folder)).toEqual([]);
  });

  // --- forced ---

  test.each(unproven.slice(1, linux ? 6 : 5))("acquire() by force takes over from an owner that %s", (_, changes) => {
    leaveLock(changes);
    const lock = acquire(folder, quick, true);
    lock.check();
    expect(JSON.parse(nodeFs.readFileSync(path, "utf8")).pid).toBe(process.pid);
    expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
    lock.release();
  });

  test("acquire() by force takes over from a container that came back under its name", async () => {
    // Another pid namespace, in which the owner has the pid that this process has in its own.
    leaveLock({ pidNamespace: "pid:[1]" });
    expect(await lockCode()).toBe("LOCKED");
    acquire(folder, quick, true).release();
    expect(nodeFs.readdirSync(folder)).toEqual([]);
  });

  test("acquire() by force is refused while this process has the folder", async () => {
    const lock = acquire(folder, quick);
    const error = await thrown(() => acquire(folder, quick, true));
    expect(error?.code).toBe("LOCKED");
    expect(error?.message).toContain(`process ${process.pid} `);
    lock.check();
  });

  test("acquire() by force is refused while this process has the folder, even where it sees no facts", async () => {
    const blind = { ...quick, readFileSync: fail, readlinkSync: fail } as unknown as Calls;
    const lock = acquire(folder, blind);
    expect(await errorCode(() => acquire(folder, blind))).toBe("LOCKED");
    expect(await errorCode(() => acquire(folder, blind, true))).toBe("LOCKED");
    lock.check();
  });

  test("acquire() by force leaves a lock that another is just taking", async () => {
    leaveGarbage("", 3_000);
    expect(await errorCode(() => acquire(folder, quick, true))).toBe("LOCKED");
    expect(nodeFs.readFileSync(path, "utf8")).toBe("");
  });

  test("acquire() by force removes only what dead processes left", () => {
    const line = JSON.stringify({ ...ownLine(), pid: PID_ABSENT, hostname: "elsewhere", nonce: NONCE });
    nodeFs.writeFileSync(join(folder, `lock.${NONCE}`), line);
    acquire(folder, quick, true);
    expect(nodeFs.readdirSync(folder).sort()).toEqual(["lock", `lock.${NONCE}`]);
  });

  // --- looking ---

  test("inspect() says what acquire() would, and writes nothing", async () => {
    const look = (): Promise<string | undefined> => errorCode(() => inspect(folder, readOnly));
    expect(await look()).toBeUndefined();
    for (const [, changes] of unproven.slice(0, linux ? 6 : 5)) {
      leaveLock(changes);
      expect(await look()).toBe("LOCKED");
      nodeFs.rmSync(path);
    }
    leaveLock({ pid: PID_ABSENT });
    expect(await look()).toBeUndefined();
    leaveGarbage("", 3_000);
    expect(await look()).toBe("LOCKED");
    leaveGarbage("", 6_000);
    expect(await look()).toBeUndefined();
    expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
    nodeFs.rmSync(path);
    const lock = acquire(folder, quick);
    expect(await look()).toBe("LOCKED");
    lock.release();
    expect(await look()).toBeUndefined();
  });

  // --- losing it ---

  test("check() is content until the lock is another's, gone, empty or given back", async () => {
    const states: [string, () => void][] = [
      ["another's", () => leaveLock({ pid: 77 })],
      ["gone", () => {}],
      ["empty", () => nodeFs.writeFileSync(path, "")],
      ["garbage", () => nodeFs.writeFileSync(path, "null")],
    ];
    for (const [state, change] of states) {
      const lock = acquire(folder, quick);
      lock.check();
      nodeFs.renameSync(path, join(folder, "aside"));
      change();
      const error = await thrown(() => lock.check());
      expect([state, error?.code]).toEqual([state, "LOCKED"]);
      if (state === "another's") expect(error?.message).toContain("process 77 ");
      // Giving back what is not ours any more changes nothing.
      const left = nodeFs.existsSync(path);
      lock.release();
      expect(nodeFs.existsSync(path)).toBe(left);
      nodeFs.renameSync(join(folder, "aside"), path);
      lock.check();
      lock.release();
      expect(await errorCode(() => lock.check())).toBe("LOCKED");
    }
  });

  test("check() of a lock that cannot be read does not say that it is lost", () => {
    let broken = false;
    const openSync = ((...args: Parameters<typeof nodeFs.openSync>) => {
      if (broken) fail();
      return nodeFs.openSync(...args);
    }) as Calls["openSync"];
    const lock = acquire(folder, { ...quick, openSync });
    broken = true;
    expect(() => lock.check()).toThrow("EIO: made up");
    broken = false;
    lock.check();
  });

  // --- other processes ---

  test("acquire() is refused while another process lives and granted when it was killed", async () => {
    const child = await startHolder();
    try {
      for (const force of [false, linux]) {
        const error = await thrown(() => acquire(folder, nodeFs, force));
        expect(error?.code).toBe("LOCKED");
        expect(error?.message).toContain(`process ${child.pid} `);
      }
      expect(await errorCode(() => inspect(folder, nodeFs))).toBe("LOCKED");
    } finally {
      await kill(child);
    }
    expect(nodeFs.existsSync(path)).toBe(true);
    inspect(folder, nodeFs);
    acquire(folder, nodeFs).release();
    expect(nodeFs.readdirSync(folder)).toEqual([]);
  });
});

/** `node:fs` that changes nothing. */
const readOnly = {
  ...quick,
  ...Object.fromEntries(
    ["writeSync", "linkSync", "renameSync", "unlinkSync", "mkdirSync", "ftruncateSync"].map((name) => [name, fail]),
  ),
} as Calls;

function fail(): never {
  throw new Error("EIO: made up");
}

async function startHolder(): Promise<ChildProcess> {
  const [program, ...args] = moduleCommand("test/fs/holder.ts", folder);
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const said = await new Promise((resolve, reject) => {
    child.stdout.once("data", (bytes) => resolve(String(bytes).trim()));
    child.once("error", reject);
    child.once("exit", () => reject(new Error("The holder ended before it held")));
  });
  expect(said).toBe("held");
  return child;
}

function kill(child: ChildProcess): Promise<void> {
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGKILL");
  return ended;
}

// --- interleaving ---

/** `node:fs` that runs `before` with the number of each call on the folder, counted from zero. */
function interrupted(before: (step: number) => void): Calls {
  let step = 0;
  const calls: Record<string, unknown> = { ...quick };
  for (const name of ["openSync", "linkSync", "renameSync", "unlinkSync", "writeSync", "readSync", "readdirSync"]) {
    const call = calls[name] as (...args: unknown[]) => unknown;
    calls[name] = (...args: unknown[]) => {
      before(step++);
      return call(...args);
    };
  }
  return calls as Calls;
}

/** True when the folder was won, false when it was refused. */
function tryAcquire(calls: Calls): boolean {
  try {
    acquire(folder, calls);
    return true;
  } catch (error) {
    if (error instanceof FirkinError && error.code === "LOCKED") return false;
    throw error;
  }
}

/** How many calls one undisturbed acquisition makes of the lock that `leave` leaves. */
function countSteps(leave: () => void): number {
  let steps = 0;
  leave();
  expect(tryAcquire(interrupted(() => steps++))).toBe(true);
  nodeFs.rmSync(path);
  return steps;
}

/** `node:fs` without hard links. */
function withoutLinks(calls: Calls): Calls {
  return {
    ...calls,
    linkSync: () => {
      throw Object.assign(new Error("EPERM: made up"), { code: "EPERM" });
    },
  };
}

describe("acquire() of a dead owner's lock", () => {
  const leaveDead = () => leaveLock({ pid: PID_ABSENT });

  const states: [string, () => void][] = [
    ["no lock", () => {}],
    ["a dead owner", leaveDead],
    ["garbage", () => leaveGarbage("", 60_000)],
  ];

  test.each(states)("acquire() of %s has one winner of three, wherever they meet", (_, leave) => {
    const steps = countSteps(leave);
    expect(steps).toBeGreaterThan(5);
    for (let first = 0; first < steps; first++) {
      for (let second = 0; second <= steps; second++) {
        leave();
        const won: boolean[] = [];
        const inner = interrupted((step) => {
          if (step === second) won.push(tryAcquire(quick));
        });
        const outer = interrupted((step) => {
          if (step === first) won.push(tryAcquire(inner));
        });
        won.push(tryAcquire(outer));
        expect({ first, second, winners: won.filter(Boolean).length }).toEqual({ first, second, winners: 1 });
        expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
        nodeFs.rmSync(path);
      }
    }
  });

  test.each(states)("acquire() of %s never blocks the next when it is killed, wherever", (_, leave) => {
    const steps = countSteps(leave);
    for (let step = 0; step < steps; step++) {
      for (let again = 0; again <= steps; again++) {
        leave();
        dieAt(step);
        dieAt(again);
        expect({ step, again, won: tryAcquire(quick) }).toEqual({ step, again, won: true });
        nodeFs.rmSync(path);
        // A draft that was not written yet has no owner; it goes when it is old.
        for (const name of nodeFs.readdirSync(folder)) {
          expect(nodeFs.readFileSync(join(folder, name), "utf8")).toBe("");
          nodeFs.rmSync(join(folder, name));
        }
      }
    }
  });

  test.each(states)("acquire() of %s works without hard links", async (_, leave) => {
    leave();
    acquire(folder, withoutLinks(nodeFs));
    expect(nodeFs.readdirSync(folder)).toEqual(["lock"]);
    expect(JSON.parse(nodeFs.readFileSync(path, "utf8")).pid).toBe(process.pid);
    expect(await errorCode(() => acquire(folder, withoutLinks(nodeFs)))).toBe("LOCKED");
  });

  /** Runs an acquisition, as of a process that is dead already, up to its call number `last`. */
  function dieAt(last: number): void {
    const calls = interrupted((step) => {
      if (step >= last) throw new Error("killed");
    });
    const dying = {
      ...calls,
      writeSync: (fd: number, line: Uint8Array) => {
        const text = new TextDecoder().decode(line).replace(/"pid":\d+/, `"pid":${PID_ABSENT}`);
        calls.writeSync(fd, new TextEncoder().encode(text));
        return line.length;
      },
    };
    try {
      acquire(folder, dying as unknown as Calls);
    } catch (error) {
      if (!(error instanceof Error && error.message === "killed")) throw error;
    }
  }
});
