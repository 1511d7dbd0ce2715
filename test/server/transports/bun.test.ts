/**
 * The transport `bun`, in its own runtime.
 *
 * @module
 */
import { runRestSuite } from "../../suites/rest.ts";
import { runTransportSuite } from "../../suites/transport.ts";
import { startApplication, startEcho } from "../fixtures/echo_client.ts";

runTransportSuite("bun", () => startEcho("bun"));
runRestSuite("bun", () => startApplication("store", "bun"));
