/**
 * Connections that do nothing, or subscribe and read, held by a process of their own.
 *
 * Its arguments are the port, whose server that is (`firkin` or `raw`), how many are idle, and how many subscribe. Says
 * a line when all are open; on SIGUSR2 those that subscribe read no more, and it says another. Ends on SIGTERM.
 *
 * @module
 */
import process from "node:process";
import { Counter, openAll, openFirkin } from "./sockets.ts";

const [port, kind, idle, readers] = process.argv.slice(2);
const open = (subscribed: boolean): Promise<Counter> => {
  return kind === "raw" ? Counter.open(Number(port), "raw") : openFirkin(Number(port), subscribed);
};
await openAll(Number(idle), () => open(false));
const reading = await openAll(Number(readers), () => open(true));
process.on("SIGTERM", () => process.exit(0));
process.on("SIGUSR2", () => {
  // Who does not look does not see that it is cut, either.
  for (const { socket } of reading) socket.pause();
  console.log("muted");
});
console.log("open");
