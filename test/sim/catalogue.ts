/**
 * Which workloads are explored: all short ones, long ones by chance, and a script for faults.
 *
 * @module
 */
import { nameOfSetup, type Setup } from "./life.ts";
import { mixSeeds, Random } from "./random.ts";

/** The steps that short workloads are made of: what changes keys, and what seals, rewrites, forgets and ends. */
const STEPS: readonly string[] = [
  "set:a",
  "ttl:a",
  "delete:a",
  "big:a",
  "batch:a",
  "once:a",
  "take:a",
  "compact",
  "sync",
  "reopen",
  "tick",
];

const POLICIES = ["always", "interval", "os"] as const;

/** A segment of this holds three records: every third write rotates. */
const SHORT_SEGMENT_BYTES = 256;

/** Every workload of up to `length` steps under every policy, shorter ones first. */
export function* shortWorkloads(length: number): Generator<string> {
  let texts = [""];
  for (let steps = 0; steps <= length; steps++) {
    for (const text of texts) {
      for (const policy of POLICIES) {
        const setup: Setup = { policy, segmentBytes: SHORT_SEGMENT_BYTES, compaction: "small", seed: 1 };
        yield `${text}@${nameOfSetup(setup)}`;
      }
    }
    texts = texts.flatMap((text) => STEPS.map((step) => `${text} ${step}`.trim()));
  }
}

/** Calls of random workloads, as often as they stand here. Deletes and compactions weigh more than in life. */
const CALLS: readonly string[] = [
  ..."set:a set:b set:k other:a big:a big:b ttl:a ttl:k delete:a delete:a delete:b delete:k touch:a touch:b".split(" "),
  ..."add:n delete:n touch:n compact compact sync batch:a batch:a once:a once:k take:a take:a take:k take:b".split(" "),
];

/** Steps that stand alone: what moves time or ends a life is never asked beside something else. */
const LONE_STEPS: readonly string[] = ["reopen", "reopen", "tick", "tick", "back"];

/** A workload by chance, of one to `stepsMax` steps. */
export function randomWorkload(seed: number, stepsMax: number): string {
  const random = new Random(mixSeeds(seed, 0x5eed));
  const steps: string[] = [];
  for (let count = 1 + random.below(stepsMax); count > 0; count--) steps.push(randomStep(random));
  const setup: Setup = {
    policy: random.pick(POLICIES),
    segmentBytes: random.pick([128, 192, 256, 512]),
    compaction: random.pick(["whole", "small"]),
    seed: 1 + random.below(1_000),
  };
  return `${steps.join(" ")}@${nameOfSetup(setup)}`;
}

function randomStep(random: Random): string {
  if (random.once(4)) return random.pick(LONE_STEPS);
  let step = random.pick(CALLS);
  while (random.once(3)) step += `${random.pick(["+", "~"])}${random.pick(CALLS)}`;
  return step;
}

/**
 * A compaction by itself that begins behind what a tombstone in it has ended: the first segment is hardly dead and
 * stays. Chance and three calls seldom come as far as that.
 */
export const COMPACTION_SCRIPTS: readonly string[] = [
  "set:a big:b delete:a big:n tick big:n@os-256-small-1",
  "ttl:a big:b tick big:n tick big:n@os-256-small-1",
  "once:a big:b take:a big:n tick big:n@os-256-small-1",
  "set:a big:b big:k big:m delete:a big:n big:n big:n tick big:n reopen@interval-512-small-1",
];

/** What runs with a fault at each of its calls. */
export const FAULT_SCRIPTS: readonly string[] = [
  "set:a",
  "set:a set:a",
  "set:a set:b delete:a",
  "set:a+set:b+delete:a set:a",
  "set:a~set:b~set:a",
  "big:a big:b",
  "big:a big:a big:b set:a",
  "set:a big:b~set:a~big:a delete:b",
  "ttl:a tick set:b",
  "ttl:a touch:a tick tick",
  "set:a ttl:a reopen tick",
  "add:n add:n add:n",
  "set:a delete:a compact",
  "big:a big:a compact set:a",
  "big:a big:b delete:a compact reopen",
  "big:a big:b~compact~set:a",
  "set:a other:a delete:a",
  "set:a+other:a other:b",
  "set:a reopen set:a reopen",
  "set:a sync set:b sync",
  "set:a set:b reopen delete:a delete:b reopen",
  "big:a reopen big:a reopen compact",
  "set:a set:a set:a set:a set:a set:a",
  "big:a+big:b+set:a compact compact",
  "delete:a set:a delete:a set:a",
  "ttl:a+ttl:b tick compact set:a",
  "set:a tick set:b tick set:a",
  "big:a tick big:b tick compact tick",
  "set:a~reopen set:b",
  "big:a delete:a big:b delete:b compact set:a reopen",
  "batch:a",
  "set:a+batch:a big:a batch:a",
  "batch:a~batch:a reopen compact",
  "once:a take:a",
  "once:a~take:a+take:a set:a",
  "big:a once:a reopen take:a compact",
].flatMap((calls, index) => `${calls}@${POLICIES[index % 3]}-256-small-1`);
