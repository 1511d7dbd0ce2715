/**
 * Snapshots that a server takes of its own store, into a folder that its operator has named.
 *
 * Whoever asks for one chooses neither place nor name: each is a new folder, called by its time, in that one. One is
 * taken at a time. It may take longer than a request may wait, so it is begun, and asked after.
 *
 * @module
 */
import { join } from "node:path";
import type { Clock } from "../lib/base/clock.ts";
import { FirkinError, messageOf } from "../lib/base/errors.ts";
import type { Engine } from "../lib/engine/engine.ts";

/** How many are told of. */
const KEPT = 20;

/** What is told of a snapshot. */
export interface ServerSnapshot {
  /** Of its folder, in the one for snapshots. */
  readonly name: string;
  readonly state: "running" | "done" | "failed";
  /** Epoch milliseconds. */
  readonly startedAt: number;
  /** When it is done: the store as of this revision, its keys and their bytes. */
  readonly revision?: number;
  readonly keys?: number;
  readonly bytes?: number;
  /** When it has failed. */
  readonly problem?: string;
}

/** What snapshots are taken of, and where to. */
export interface SnapshotsOptions {
  readonly engine: Engine;
  /** None are taken when absent. */
  readonly folder: string | undefined;
  readonly clock: Clock;
}

/** The snapshots of one server, since it started. */
export class ServerSnapshots {
  readonly #options: SnapshotsOptions;
  readonly #taken: ServerSnapshot[] = [];

  /** None yet. */
  constructor(options: SnapshotsOptions) {
    this.#options = options;
  }

  /** Newest first. */
  list(): readonly ServerSnapshot[] {
    return this.#taken;
  }

  /** Begins one. @throws {FirkinError} NOT_SUPPORTED — there is no folder for it; BUSY — one is being taken */
  begin(): ServerSnapshot {
    const { engine, folder, clock } = this.#options;
    if (folder === undefined || engine.snapshot === undefined) {
      throw new FirkinError(
        "NOT_SUPPORTED",
        "Cannot take a snapshot: the server has no folder for them (snapshot-dir)",
      );
    }
    if (this.#taken[0]?.state === "running") {
      throw new FirkinError("BUSY", "Cannot take a snapshot: one is being taken");
    }
    const startedAt = clock.wall();
    const name = new Date(startedAt).toISOString().replaceAll(":", "-");
    const begun: ServerSnapshot = { name, state: "running", startedAt };
    this.#taken.unshift(begun);
    this.#taken.splice(KEPT);
    engine.snapshot(join(folder, name)).then(
      ({ revision, keys, bytes }) => this.#settle({ ...begun, state: "done", revision, keys, bytes }),
      (error: unknown) => this.#settle({ ...begun, state: "failed", problem: messageOf(error) }),
    );
    return begun;
  }

  #settle(settled: ServerSnapshot): void {
    this.#taken[this.#taken.findIndex(({ name }) => name === settled.name)] = settled;
  }
}
