/**
 * What the tests use of `bun:test`, over `node:test` and the `expect` package, so that they are written once and run on
 * Bun, Deno and Node. Deno finds it through the imports of deno.json, Node through scripts/node_hooks.mjs.
 *
 * Only what the tests use is here, with Bun's meaning: a test or hook takes a callback without arguments; a limit in
 * milliseconds comes last; a name in `test.each` is a format string.
 *
 * A test that is over its limit fails but cannot be stopped, and one that fails closes nothing that it would have
 * closed at its end. On Node, whose runner waits for an idle process, such a process is ended when its last test is
 * over. One in which no test failed is not: what a test forgets to close keeps it alive, as it would keep a user's.
 *
 * @module
 */
import { expect as thorough } from "expect";
import process from "node:process";
import * as runner from "node:test";
import { format, isDeepStrictEqual } from "node:util";

/** What a quick matcher says when it is sure that the thorough one would pass. */
type Holds = (received: unknown, expected: unknown) => boolean;

/** Matchers that tests call a million times: what holds in the strictest sense need not be looked at further. */
const QUICK: Readonly<Record<string, Holds>> = {
  toBe: Object.is,
  toEqual: (received, expected) => isPlain(received) && isDeepStrictEqual(received, expected),
  toBeGreaterThan: ofNumbers((received, expected) => received > expected),
  toBeGreaterThanOrEqual: ofNumbers((received, expected) => received >= expected),
  toBeLessThan: ofNumbers((received, expected) => received < expected),
  toBeLessThanOrEqual: ofNumbers((received, expected) => received <= expected),
};

/** Whether what is compared is in the value itself, and not in what it does (an iterator, `Headers`). */
function isPlain(value: unknown): boolean {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Array.prototype || prototype === Object.prototype || prototype === null;
}

function ofNumbers(holds: (received: number, expected: number) => boolean): Holds {
  return (received, expected) => {
    return typeof received === "number" && typeof expected === "number" && holds(received, expected);
  };
}

/** What is said of a value: quickly where that is enough, else by the `expect` package, which tells what is wrong. */
class Expectation {
  readonly received: unknown;

  constructor(received: unknown) {
    this.received = received;
  }
}

for (const [name, holds] of Object.entries(QUICK)) {
  Object.defineProperty(Expectation.prototype, name, {
    value(this: Expectation, expected: unknown): void {
      if (!holds(this.received, expected)) thorough(this.received)[name as "toBe"](expected);
    },
  });
}

// All other matchers.
Object.setPrototypeOf(
  Expectation.prototype,
  new Proxy({}, {
    get: (_, name, { received }: Expectation) => Reflect.get(thorough(received), name),
  }),
);

/** Says what a value must be. */
export const expect: typeof thorough = Object.assign(
  (received: unknown) => new Expectation(received) as unknown as ReturnType<typeof thorough>,
  thorough,
);

/** A test's body, or a hook's. */
export type Body = () => unknown;

/** A limit in milliseconds, bare or as an option. */
export type Limit = number | { readonly timeout?: number };

/** Registers one test. */
export type Test = (name: string, body: Body, limit?: Limit) => void;

/** Registers a group of tests. */
export type Describe = (name: string, body: () => void) => void;

/** As `bun test --timeout 20000` in package.json. */
const LIMIT_MS = 20_000;

/** Between two tests a runner needs milliseconds: after so long without any there are no more. */
const LAST_MS = 2_000;

/** Bodies that run, whether one has failed, and what ends the process if nothing else does. */
const bodies: { running: number; haveFailed: boolean; end?: ReturnType<typeof setTimeout> } = {
  running: 0,
  haveFailed: false,
};

/** The body, which fails when it takes longer than its limit. */
function limited(body: Body, limit: Limit | undefined): () => Promise<void> {
  const milliseconds = (typeof limit === "number" ? limit : limit?.timeout) ?? LIMIT_MS;
  return async () => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`Cannot finish: ${milliseconds} ms are over`)), milliseconds);
    });
    bodies.running++;
    clearTimeout(bodies.end);
    try {
      await Promise.race([body(), late]);
    } catch (error) {
      bodies.haveFailed = true;
      throw error;
    } finally {
      clearTimeout(timer);
      bodies.running--;
      if (bodies.haveFailed && bodies.running === 0) endSoon();
    }
  };
}

/** Ends Node's process, if it is still there when its last test is over. Deno's runner ends its own. */
function endSoon(): void {
  if ("Deno" in globalThis) return;
  bodies.end = setTimeout(() => {
    console.error("A test that failed has left something open: its process is ended");
    process.exit(1);
  }, LAST_MS).unref();
}

function runTest(name: string, body: Body, limit?: Limit): void {
  void runner.test(name, limited(body, limit));
}

function skipTest(name: string): void {
  void runner.test(name, { skip: true }, () => {});
}

function eachTest<Row>(
  table: readonly Row[],
): (name: string, body: (...row: unknown[]) => unknown, limit?: Limit) => void {
  return (name, body, limit) => {
    for (const row of table) {
      const cells: unknown[] = Array.isArray(row) ? row : [row];
      // As many cells as the name has places; `format` would append the rest.
      const places = name.match(/%[^%]/g)?.length ?? 0;
      runTest(format(name.replaceAll("%p", "%j"), ...cells.slice(0, places)), () => body(...cells), limit);
    }
  };
}

function runGroup(name: string, body: () => void): void {
  void runner.describe(name, body);
}

function skipGroup(name: string, body: () => void): void {
  void runner.describe(name, { skip: true }, body);
}

/** A test, and its forms. */
export const test: Test & {
  /** Registers a test that is not run. */
  readonly skip: Test;
  /** `test.skip` when the condition holds, else `test`. */
  readonly skipIf: (condition: boolean) => Test;
  /** One test for each row. */
  readonly each: typeof eachTest;
} = Object.assign(runTest, {
  skip: skipTest,
  skipIf: (condition: boolean): Test => condition ? skipTest : runTest,
  each: eachTest,
});

/** A group of tests, and its forms. */
export const describe: Describe & {
  /** Registers tests that are not run. */
  readonly skip: Describe;
  /** `describe.skip` when the condition holds, else `describe`. */
  readonly skipIf: (condition: boolean) => Describe;
} = Object.assign(runGroup, {
  skip: skipGroup,
  skipIf: (condition: boolean): Describe => condition ? skipGroup : runGroup,
});

/** Runs before the tests of its group, or of its file. */
export function beforeAll(body: Body, limit?: Limit): void {
  runner.before(limited(body, limit));
}

/** Runs after the tests of its group, or of its file. */
export function afterAll(body: Body, limit?: Limit): void {
  runner.after(limited(body, limit));
}

/** Runs before each test of its group, or of its file. */
export function beforeEach(body: Body, limit?: Limit): void {
  runner.beforeEach(limited(body, limit));
}

/** Runs after each test of its group, or of its file. */
export function afterEach(body: Body, limit?: Limit): void {
  runner.afterEach(limited(body, limit));
}
