/**
 * A process with something left to wait for: `waiter.ts after | store | hold`. Ends with 7 when it was kept alive.
 *
 * @module
 */
import process from "node:process";
import { systemClock } from "../../lib/base/clock.ts";
import { open } from "../../lib/store/open.ts";

const what = process.argv[2];
if (what === "after") systemClock.after(60_000, () => {});
if (what === "store") await (await open(":memory:")).bucket("b").set("a", 1, { ttl: "1h" });
if (what === "hold") {
  const hold = systemClock.hold();
  systemClock.after(50, () => {
    hold.cancel();
    process.exitCode = 7;
  });
}
console.log("waits");
