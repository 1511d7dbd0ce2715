/**
 * Node's module hooks for the tests: `bun:test` is the compiled shim beside the tests that ask for it.
 *
 * Loaded with `--import`; registers itself, and runs a second time on the thread of the hooks.
 *
 * @module
 */
import { register } from "node:module";
import { isMainThread } from "node:worker_threads";

if (isMainThread) register(import.meta.url);

/** Answers `bun:test` with the shim of the tree that the importing file belongs to. */
export function resolve(specifier, context, next) {
  if (specifier !== "bun:test") return next(specifier, context);
  const { parentURL } = context;
  const tests = parentURL.lastIndexOf("/test/");
  return { url: new URL("shim/bun.js", parentURL.slice(0, tests + "/test/".length)).href, shortCircuit: true };
}
