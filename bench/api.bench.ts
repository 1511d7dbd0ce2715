/**
 * The calls of a store in this process, on a folder, each by itself: reads, writes under each policy, listings,
 * subscriptions; a Map beside them as the yardstick.
 *
 * 100,000 keys and values of 100 bytes. Unless a name says otherwise, reads find everything in the active segment, in
 * memory.
 *
 * @module
 */
import { do_not_optimize } from "mitata";
import { type Bucket, open, type OpenOptions, type Store, type SyncPolicy } from "../mod.ts";
import { measure, report, type Subject, temporaryFolder } from "./harness.ts";
import { createRandom, ends, GROUP, KEYS, load, setAll, Workload, type Write } from "./workload.ts";

const COUNTERS = 1_000;
const PAGE = 100;

/** A store with every key of its workload. */
interface Loaded {
  readonly store: Store;
  readonly users: Bucket<Uint8Array>;
  readonly workload: Workload;
}

async function openLoaded(options: Omit<OpenOptions, "path">): Promise<Loaded> {
  const store = await open({ path: temporaryFolder(), ...options });
  const users = store.bucket<Uint8Array>("users", { codec: "bytes" });
  const workload = new Workload();
  await load(workload, users);
  return { store, users, workload };
}

/** Measures calls on a loaded store, which is verified and closed afterwards. */
function measureLoaded<Input>(
  name: string,
  operations: number,
  options: Omit<OpenOptions, "path">,
  start: (loaded: Loaded) => Subject<Input>,
): void {
  measure(name, operations, async () => {
    const loaded = await openLoaded(options);
    const { prepare, call, finish } = start(loaded);
    return {
      prepare,
      call,
      async finish() {
        await finish?.();
        await loaded.workload.verify((key) => loaded.users.getSync(key));
        await loaded.store.close();
      },
    };
  });
}

function measureReads(): void {
  measureLoaded("getSync", 1, { sync: "os" }, ({ users, workload }) => ({
    prepare: workload.present,
    call: (key: string) => do_not_optimize(ends(users.getSync(key))),
  }));
  // Four segments, three of them sealed: read through the cache, with their checksums.
  measureLoaded("getSync, sealed segments in the cache", 1, { sync: "os", segmentBytesMax: 2 ** 22 }, (loaded) => ({
    prepare: loaded.workload.present,
    call: (key: string) => do_not_optimize(ends(loaded.users.getSync(key))),
  }));
  measureLoaded("getSync, missing key", 1, { sync: "os" }, ({ users, workload }) => ({
    prepare: workload.missing,
    call: (key: string) => do_not_optimize(users.getSync(key)),
  }));
  measureLoaded("get, awaited", 1, { sync: "os" }, ({ users, workload }) => ({
    prepare: workload.present,
    call: async (key: string) => do_not_optimize(ends(await users.get(key))),
  }));
  measureLoaded(`list, page of ${PAGE}`, 1, { sync: "os" }, ({ users, workload }) => ({
    prepare: workload.present,
    async call(start: string) {
      let sum = 0;
      for await (const { value } of users.list({ start, limit: PAGE })) sum += ends(value);
      do_not_optimize(sum);
    },
    finish: () => verifyListing(users),
  }));
}

/** All keys, once and in order. @throws {Error} they are not */
async function verifyListing(users: Bucket<Uint8Array>): Promise<void> {
  let last = "";
  let count = 0;
  for await (const { key } of users.list()) {
    if (key <= last) throw new Error(`Cannot trust the figures: ${String(key)} is listed after ${last}`);
    last = String(key);
    count++;
  }
  if (count !== KEYS) throw new Error(`Cannot trust the figures: ${count} of ${KEYS} keys are listed`);
}

function measureWrites(sync: SyncPolicy): void {
  measureLoaded(`set, ${sync}, awaited one by one`, 1, { sync }, ({ users, workload }) => ({
    prepare: workload.overwrite,
    call: async ({ key, value }: Write) => do_not_optimize(await users.set(key, value)),
  }));
  measureLoaded(`set, ${sync}, group of ${GROUP}`, GROUP, { sync }, ({ users, workload }) => ({
    prepare: workload.overwrites,
    call: (group: Write[]) => setAll(users, group),
  }));
}

function measureIncrements(sync: SyncPolicy): void {
  measureLoaded(`increment, ${sync}, awaited one by one`, 1, { sync }, ({ store }) => {
    const counters = store.bucket<number>("counters");
    const names = Array.from({ length: COUNTERS }, (_, index) => `counter:${index}`);
    const random = createRandom(2);
    let calls = 0;
    return {
      prepare: () => (calls++, names[random(COUNTERS)]!),
      call: async (key: string) => do_not_optimize(await counters.increment(key)),
      async finish() {
        let sum = 0;
        for await (const { value } of counters.list()) sum += value;
        if (sum !== calls) throw new Error(`Cannot trust the figures: ${calls} increments make ${sum}`);
      },
    };
  });
}

function measureSubscription(sync: SyncPolicy): void {
  measureLoaded(`set to event, ${sync}, group of ${GROUP}`, GROUP, { sync }, ({ users, workload }) => {
    const subscription = users.subscribe();
    const events = subscription[Symbol.asyncIterator]();
    return {
      prepare: workload.overwrites,
      async call(group: Write[]) {
        await subscription.ready;
        const written = setAll(users, group);
        for (let left = group.length; left > 0;) {
          const { value: event } = await events.next();
          if (event?.type !== "set") continue;
          if (event.key !== group[group.length - left]!.key) {
            throw new Error("Cannot trust the figures: events are out of order");
          }
          do_not_optimize(ends(event.value));
          left--;
        }
        await written;
      },
      finish: () => subscription.close(),
    };
  });
}

function measureMap(): void {
  const start = (): { readonly map: Map<string, Uint8Array>; readonly workload: Workload } => {
    const workload = new Workload();
    const map = new Map([...workload.load()].flat().map(({ key, value }) => [key, value]));
    if (map.size !== KEYS) throw new Error("Cannot trust the figures: two keys are equal");
    return { map, workload };
  };
  measure("Map, get", 1, () => {
    const { map, workload } = start();
    return {
      prepare: workload.present,
      call: (key: string) => do_not_optimize(ends(map.get(key))),
      finish: () => workload.verify((key) => map.get(key)),
    };
  });
  measure("Map, get, missing key", 1, () => {
    const { map, workload } = start();
    return { prepare: workload.missing, call: (key: string) => do_not_optimize(map.get(key)) };
  });
  measure("Map, set", 1, () => {
    const { map, workload } = start();
    return {
      prepare: workload.overwrite,
      call: ({ key, value }: Write) => do_not_optimize(map.set(key, value)),
      finish: () => workload.verify((key) => map.get(key)),
    };
  });
}

measureMap();
measureReads();
measureWrites("os");
measureIncrements("os");
measureSubscription("os");
measureWrites("always");

await report("api");
