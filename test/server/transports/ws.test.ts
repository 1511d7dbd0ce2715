/**
 * The transport `ws`, in its own runtime.
 *
 * @module
 */
import { runRestSuite } from "../../suites/rest.ts";
import { runTransportSuite } from "../../suites/transport.ts";
import { startApplication, startEcho } from "../fixtures/echo_client.ts";

runTransportSuite("ws", () => startEcho("ws"));
runRestSuite("ws", () => startApplication("store", "ws"));
