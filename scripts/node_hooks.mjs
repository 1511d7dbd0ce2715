/**
 * Node's module hooks for the tests: `bun:test` is the compiled shim beside the tests that ask for it.
 *
 * Loaded with `--import`; registers itself, and runs a second time on the thread of the hooks.
 *
 * It also keeps `node:test` from following every promise to the test that made it, which it does to name that test when
 * a rejection goes unhandled, and which took most of the time of tests with many promises: up to thirty times their
 * own. Such a rejection still fails its file.
 *
 * @module
 */
import asyncHooks from "node:async_hooks";
import { register } from "node:module";
import { isMainThread } from "node:worker_threads";

if (isMainThread) {
  register(import.meta.url);
  followTestsAlone();
}

/** What the runner learns of is its own tests and suites, as they are made. To be called before anything loads it. */
function followTestsAlone() {
  const { AsyncResource } = asyncHooks;
  let init = () => {};
  asyncHooks.createHook = (hooks) => {
    init = hooks.init;
    return { enable() {}, disable() {} };
  };
  asyncHooks.AsyncResource = class extends AsyncResource {
    constructor(type, options) {
      super(type, options);
      init(this.asyncId(), type, this.triggerAsyncId(), this);
    }
  };
}

/** Answers `bun:test` with the shim of the tree that the importing file belongs to. */
export function resolve(specifier, context, next) {
  if (specifier !== "bun:test") return next(specifier, context);
  const { parentURL } = context;
  const tests = parentURL.lastIndexOf("/test/");
  return { url: new URL("shim/bun.js", parentURL.slice(0, tests + "/test/".length)).href, shortCircuit: true };
}
