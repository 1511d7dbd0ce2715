/**
 * The transport `deno`, in its own runtime.
 *
 * @module
 */
import { runTransportSuite } from "../../suites/transport.ts";
import { startEcho } from "../fixtures/echo_client.ts";

runTransportSuite("deno", () => startEcho("deno"));
