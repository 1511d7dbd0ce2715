/**
 * Host and Origin, case by case.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { admit, type AdmitOptions } from "../../server/auth.ts";

const DEFAULTS: AdmitOptions = { allowedHosts: [], allowedOrigins: [] };

function isAdmitted(host: string | undefined, origin?: string, options: AdmitOptions = DEFAULTS): boolean {
  const headers = new Headers();
  if (host !== undefined) headers.append("host", host);
  if (origin !== undefined) headers.append("origin", origin);
  const refusal = admit(headers, options);
  if (refusal !== undefined) expect(refusal.status).toBe(403);
  return refusal === undefined;
}

describe("admit()", () => {
  const loopback = [
    "localhost",
    "localhost:7480",
    "LOCALHOST:7480",
    "LocalHost",
    "127.0.0.1",
    "127.0.0.1:7480",
    "127.0.0.1:1",
    "127.0.0.1:65535",
    "[::1]",
    "[::1]:7480",
  ];
  for (const host of loopback) test(`admit() lets Host ${host} in`, () => expect(isAdmitted(host)).toBe(true));

  const foreign = [
    "",
    "evil.example",
    "evil.example:7480",
    "localhost.evil.example",
    "evil-localhost",
    "evil.localhost",
    "localhost.",
    "localhost.:7480",
    "localhost:",
    "localhost:7480:1",
    "localhost:port",
    "localhost:123456",
    "localhost, evil.example",
    "evil.example, localhost",
    "localhost/evil",
    "localhost@evil.example",
    "evil.example@localhost",
    "127.0.0.1.evil.example",
    "127.0.0.2",
    "127.1",
    "127.0.0.01",
    "2130706433",
    "0x7f000001",
    "0.0.0.0",
    "0.0.0.0:7480",
    "::1",
    "[::1",
    "::1]",
    "[::1]7480",
    "[::1].evil.example",
    "[::2]",
    "[::ffff:127.0.0.1]",
    "[0:0:0:0:0:0:0:1]",
    "192.168.0.10",
    "ｌocalhost".normalize("NFKC") + "\u00ad",
  ];
  for (const host of foreign) test(`admit() refuses Host "${host}"`, () => expect(isAdmitted(host)).toBe(false));

  test("admit() refuses a request without Host", () => expect(isAdmitted(undefined)).toBe(false));

  test("admit() refuses two Hosts, the machine's own first", () => {
    const headers = new Headers([["host", "localhost"], ["host", "evil.example"]]);
    expect(admit(headers, DEFAULTS)?.status).toBe(403);
  });

  test("admit() lets a configured host in, with any port", () => {
    const options = { ...DEFAULTS, allowedHosts: ["Firkin.Example"] };
    expect(isAdmitted("firkin.example", undefined, options)).toBe(true);
    expect(isAdmitted("FIRKIN.example:8080", undefined, options)).toBe(true);
    expect(isAdmitted("a.firkin.example", undefined, options)).toBe(false);
    expect(isAdmitted("firkin.example.evil", undefined, options)).toBe(false);
    expect(isAdmitted("evilfirkin.example", undefined, options)).toBe(false);
    expect(isAdmitted("firkin.example.", undefined, options)).toBe(false);
  });

  test("admit() lets a host configured with a port in with that port only", () => {
    const options = { ...DEFAULTS, allowedHosts: ["firkin.example:8080", "[fd00::1]:7480"] };
    expect(isAdmitted("firkin.example:8080", undefined, options)).toBe(true);
    expect(isAdmitted("firkin.example:8081", undefined, options)).toBe(false);
    expect(isAdmitted("firkin.example", undefined, options)).toBe(false);
    expect(isAdmitted("[FD00::1]:7480", undefined, options)).toBe(true);
    expect(isAdmitted("[fd00::1]:7481", undefined, options)).toBe(false);
  });

  const own: [host: string, origin: string][] = [
    ["localhost:7480", "http://localhost:7480"],
    ["LOCALHOST:7480", "http://localhost:7480"],
    ["localhost", "http://localhost"],
    ["localhost:7480", "https://localhost:7480"],
    ["127.0.0.1:7480", "http://127.0.0.1:7480"],
    ["[::1]:7480", "http://[::1]:7480"],
  ];
  for (const [host, origin] of own) {
    test(`admit() lets Origin ${origin} in at ${host}`, () => expect(isAdmitted(host, origin)).toBe(true));
  }

  const strange: [host: string, origin: string][] = [
    ["localhost:7480", ""],
    ["localhost:7480", "null"],
    ["localhost:7480", "http://localhost"],
    ["localhost:7480", "http://localhost:7481"],
    ["localhost:7480", "http://localhost:74800"],
    ["localhost:7480", "http://localhost:748"],
    ["localhost:7480", "http://127.0.0.1:7480"],
    ["127.0.0.1:7480", "http://localhost:7480"],
    ["[::1]:7480", "http://127.0.0.1:7480"],
    ["localhost:7480", "http://localhost.:7480"],
    ["localhost:7480", "http://localhost:7480/"],
    ["localhost:7480", "http://localhost:7480.evil.example"],
    ["localhost:7480", "http://evil.example"],
    ["localhost:7480", "http://evil.example#localhost:7480"],
    ["localhost:7480", "http://evil.example@localhost:7480"],
    ["localhost:7480", "http://localhost:7480@evil.example"],
    ["localhost:7480", "http://evillocalhost:7480"],
    ["localhost:7480", "ws://localhost:7480"],
    ["localhost:7480", "file://"],
    ["localhost:7480", "chrome-extension://localhost:7480"],
    ["localhost:7480", "localhost:7480"],
    ["localhost:7480", "http://localhost:7480, http://evil.example"],
    ["localhost:7480", "http://evil.example, http://localhost:7480"],
    ["localhost:7480", "HTTP://LOCALHOST:7480"],
  ];
  for (const [host, origin] of strange) {
    test(`admit() refuses Origin "${origin}" at ${host}`, () => expect(isAdmitted(host, origin)).toBe(false));
  }

  test("admit() lets a configured origin in, exactly", () => {
    const options = { ...DEFAULTS, allowedOrigins: ["https://app.example"] };
    expect(isAdmitted("localhost", "https://app.example", options)).toBe(true);
    expect(isAdmitted("localhost", "http://app.example", options)).toBe(false);
    expect(isAdmitted("localhost", "https://app.example:444", options)).toBe(false);
    expect(isAdmitted("localhost", "https://a.app.example", options)).toBe(false);
    expect(isAdmitted("localhost", "https://app.example.evil", options)).toBe(false);
  });

  test("admit() refuses the origin null even when it is configured", () => {
    expect(isAdmitted("localhost", "null", { ...DEFAULTS, allowedOrigins: ["null"] })).toBe(false);
  });

  test("admit() judges the Host of a request with a good Origin", () => {
    const options = { ...DEFAULTS, allowedOrigins: ["https://app.example"] };
    expect(isAdmitted("evil.example", "https://app.example", options)).toBe(false);
    expect(isAdmitted("evil.example", "http://evil.example")).toBe(false);
  });
});
