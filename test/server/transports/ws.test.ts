/**
 * The transport `ws`, in its own runtime. Asked from Bun alone: what asks is the same everywhere.
 *
 * @module
 */
import { runRestSuite } from "../../suites/rest.ts";
import { isOn } from "../../suites/tools.ts";
import { runTransportSuite } from "../../suites/transport.ts";
import { startApplication, startEcho } from "../fixtures/echo_client.ts";

if (isOn("bun")) {
  runTransportSuite("ws", () => startEcho("ws"));
  runRestSuite("ws", () => startApplication("store", "ws"));
}
