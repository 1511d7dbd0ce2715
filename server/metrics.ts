/**
 * Counts of operations and connections: plain numbers, added to where things happen and read by `stats`.
 *
 * A count only grows, except the two that say how many there are now (`server.connections` and
 * `server.subscriptions`).
 *
 * @module
 */
import type { EngineStats } from "../lib/engine/engine.ts";
import { OP, type OpName } from "../lib/wire/protocol.ts";

const OPERATIONS = Object.entries(OP) as [OpName, number][];

/** What one server has counted since it started. */
export class Metrics {
  /** Requests, by the number of their operation. */
  readonly operations: number[] = OPERATIONS.map(() => 0);
  /** Connections open now. */
  connections = 0;
  connectionsTotal = 0;
  /** Subscriptions open now. */
  subscriptions = 0;
  /** Changes sent to subscribers. */
  events = 0;
  /** Requests that were answered with an error. */
  errors = 0;
  /** Connections closed because their reader fell behind. */
  slowReaders = 0;
  /** Connections closed because of what came over them. */
  protocolErrors = 0;
  bytesIn = 0;
  bytesOut = 0;
  messagesIn = 0;
  messagesOut = 0;

  /** The counts by name, each beginning with `server.`. */
  read(): EngineStats {
    const stats: Record<string, number> = {
      "server.connections": this.connections,
      "server.connectionsTotal": this.connectionsTotal,
      "server.subscriptions": this.subscriptions,
      "server.events": this.events,
      "server.errors": this.errors,
      "server.slowReaders": this.slowReaders,
      "server.protocolErrors": this.protocolErrors,
      "server.bytesIn": this.bytesIn,
      "server.bytesOut": this.bytesOut,
      "server.messagesIn": this.messagesIn,
      "server.messagesOut": this.messagesOut,
    };
    for (const [name, op] of OPERATIONS) stats[`server.op.${name}`] = this.operations[op]!;
    return stats;
  }
}
