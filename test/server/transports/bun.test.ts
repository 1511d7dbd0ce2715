/**
 * The transport `bun`, in its own runtime.
 *
 * @module
 */
import { runTransportSuite } from "../../suites/transport.ts";
import { startEcho } from "../fixtures/echo_client.ts";

runTransportSuite("bun", () => startEcho("bun"));
