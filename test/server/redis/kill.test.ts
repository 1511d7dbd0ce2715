/**
 * What was acknowledged to a Redis client is there after the server was killed: values, counters, whole transactions.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Served, Workplace } from "../command.ts";
import { RespPeer } from "./peer.ts";

const ARGS = ["--data-dir", "data", "--listen", "127.0.0.1:0", "--redis", "127.0.0.1:0", "--sync", "always"];
const PIPELINES = 40;

describe("a server that is killed", () => {
  let place: Workplace;

  beforeAll(() => {
    place = new Workplace();
  });

  afterAll(() => place.end());

  async function connect({ command }: Served): Promise<RespPeer> {
    const [, port] = await command.stderr.find(/Redis clients at redis:\/\/127\.0\.0\.1:(\d+)/);
    return new RespPeer({ host: "127.0.0.1", port: Number(port) });
  }

  test("keeps what it has acknowledged, and no part of a transaction", async () => {
    const served = await place.serve(ARGS);
    const peer = await connect(served);
    let acknowledged = 0;
    // More than is answered is on its way when it is killed.
    for (let round = 1; round <= PIPELINES; round++) {
      const commands = [
        ["SET", `key:${round}`, "v".repeat(round)],
        ["INCR", "count"],
        ["MULTI"],
        ["INCR", "left"],
        ["INCR", "right"],
        ["EXEC"],
      ];
      const replies = peer.askAll(commands);
      if (round === PIPELINES) served.command.kill("SIGKILL");
      if ((await replies).at(-1)!.startsWith("*2")) acknowledged = round;
    }
    expect((await served.command.ended).signal).toBe("SIGKILL");
    expect(acknowledged).toBeGreaterThanOrEqual(PIPELINES - 1);
    const again = await connect(await place.serve(ARGS));
    const [count, left, right, ...values] = await again.askAll([
      ["GET", "count"],
      ["GET", "left"],
      ["GET", "right"],
      ...Array.from({ length: acknowledged }, (_, index) => ["STRLEN", `key:${index + 1}`]),
    ]);
    expect(values).toEqual(Array.from({ length: acknowledged }, (_, index) => `:${index + 1}\r\n`));
    expect(Number(count!.split("\r\n")[1])).toBeGreaterThanOrEqual(acknowledged);
    expect(Number(left!.split("\r\n")[1])).toBeGreaterThanOrEqual(acknowledged);
    expect(left).toBe(right!);
    again.close();
  });
});
