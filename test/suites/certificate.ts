/**
 * A certificate that signs itself, for servers of this machine.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TlsFiles } from "../../server/transports/transport.ts";
import { findTool } from "./tools.ts";

/** The program that makes certificates; undefined when the machine has none, and tests that need one are skipped. */
export const OPENSSL: string | undefined = findTool("openssl");

/** For localhost and 127.0.0.1. */
export interface Certificate extends TlsFiles {
  /** The certificate's text: what a client trusts. */
  readonly ca: string;
  /** Removes the files. */
  remove(): void;
}

/** Makes a new one, which nobody trusts so far. */
export function makeCertificate(): Certificate {
  const folder = mkdtempSync(join(tmpdir(), "firkin-tls-"));
  const [certFile, keyFile] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  execFileSync(OPENSSL!, ["req", "-x509", ...kind, ...name, "-keyout", keyFile, "-out", certFile], { stdio: "ignore" });
  return {
    certFile,
    keyFile,
    ca: readFileSync(certFile, "utf8"),
    remove: () => rmSync(folder, { recursive: true }),
  };
}
