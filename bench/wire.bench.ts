/**
 * Requests over the wire: one client on one connection, a server of the same runtime in a process beside it, loopback.
 *
 * 100,000 keys and values of 100 bytes, policy `os`. "64 outstanding" are 64 loops, each of which asks as soon as its
 * last answer is there. Nobody is pinned to a core: with two cores, client and server each have one when nothing else
 * runs.
 *
 * @module
 */
import { do_not_optimize } from "mitata";
import { WebSocket } from "ws";
import { type Bucket, connect, type Store, systemClock } from "../mod.ts";
import { Link } from "../lib/wire/link.ts";
import { OP } from "../lib/wire/protocol.ts";
import { measure, report, type Subject } from "./harness.ts";
import { startServer } from "./server.ts";
import { ends, load, Workload, type Write } from "./workload.ts";

/** Requests of one call with several outstanding: enough that the first and the last few do not count. */
const REQUESTS = 8_192;

/** The name of the bucket at both ends, and a client with every key of its workload. */
interface Connected {
  readonly store: Store;
  readonly users: Bucket<Uint8Array>;
  readonly workload: Workload;
}

/** Measures calls on a client of a loaded server; both end afterwards. */
function measureConnected<Input>(
  name: string,
  operations: number,
  start: (connected: Connected) => Subject<Input>,
): void {
  measure(name, operations, async () => {
    const server = await startServer("os");
    const store = await connect(server.url);
    const users = store.bucket<Uint8Array>("users", { codec: "bytes" });
    const workload = new Workload();
    await load(workload, users);
    const { prepare, call } = start({ store, users, workload });
    return {
      prepare,
      call,
      async finish() {
        await workload.verify((key) => users.get(key));
        await store.close();
        await server.stop();
      },
    };
  });
}

/** Asks for all inputs, `count` at a time. */
async function keepOutstanding<Input>(
  count: number,
  inputs: readonly Input[],
  ask: (input: Input) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < inputs.length) do_not_optimize(await ask(inputs[next++]!));
  };
  await Promise.all(Array.from({ length: count }, loop));
}

function repeat<Item>(make: () => Item): Item[] {
  return Array.from({ length: REQUESTS }, make);
}

/** A request that the server answers without the store: the floor under every other. */
function measurePing(): void {
  measure("ping, one at a time", 1, async () => {
    const server = await startServer("os");
    const nothing = (): void => {};
    const link = new Link(server.url, {
      clock: systemClock,
      openSocket: (url, protocols) => new WebSocket(url, protocols, { perMessageDeflate: false }),
    }, { connected: nothing, lost: nothing, ended: nothing, change: nothing, control: nothing });
    await link.opened;
    return {
      prepare: nothing,
      call: async () => do_not_optimize(await link.request(OP.ping, nothing, nothing)),
      async finish() {
        await link.close();
        await server.stop();
      },
    };
  });
}

function measureGets(): void {
  measureConnected("get, one at a time", 1, ({ users, workload }) => ({
    prepare: workload.present,
    call: async (key: string) => do_not_optimize(ends(await users.get(key))),
  }));
  for (const count of [64, 512]) {
    measureConnected(`get, ${count} outstanding, ${REQUESTS} a call`, REQUESTS, ({ users, workload }) => ({
      prepare: () => repeat(workload.present),
      call: (keys: string[]) => keepOutstanding(count, keys, async (key) => ends(await users.get(key))),
    }));
  }
}

function measureSets(): void {
  measureConnected("set, os, one at a time", 1, ({ users, workload }) => ({
    prepare: workload.overwrite,
    call: async ({ key, value }: Write) => do_not_optimize(await users.set(key, value)),
  }));
  measureConnected(`set, os, 64 outstanding, ${REQUESTS} a call`, REQUESTS, ({ users, workload }) => ({
    prepare: () => repeat(workload.overwrite),
    call: (writes: Write[]) => keepOutstanding(64, writes, ({ key, value }) => users.set(key, value)),
  }));
}

measurePing();
measureGets();
measureSets();

await report("wire");
