/**
 * Where connections come from, and how many of each place: what is refused before anybody asks for a token.
 *
 * A place is an IPv4 address, or the first half of an IPv6 address, since a house has all of the second half. Behind a
 * proxy it is what the proxy says in X-Forwarded-For, if it is one that is trusted: the last address there that is not
 * itself a trusted proxy's. Whoever is not trusted may write into that header what it likes, and is taken for itself.
 *
 * A place is remembered while it has a connection or, in the last minute, brought wrong credentials; of the latter no
 * more than PLACES_MAX, the oldest forgotten first.
 *
 * @module
 */
import { BlockList, isIP, isIPv6 } from "node:net";
import type { Clock } from "../lib/base/clock.ts";
import type { Refusal } from "./auth.ts";
import type { ServerLimits } from "./limits.ts";

/** Wrong credentials are counted in spans of this. */
const MINUTE_MS = 60_000;
/** Places without a connection that are remembered. */
const PLACES_MAX = 65_536;

// --- addresses ---

/** The address that an IPv4 address mapped into IPv6 is, or `address` without its zone. */
function plainAddress(address: string): string {
  const bare = address.toLowerCase().replace(/%.*$/, "");
  const mapped = /^(?:::|(?:0{1,4}:){5})ffff:(?:(\d+\.\d+\.\d+\.\d+)|([0-9a-f]{1,4}):([0-9a-f]{1,4}))$/.exec(bare);
  if (mapped === null) return bare;
  if (mapped[1] !== undefined) return mapped[1];
  const [high, low] = [Number.parseInt(mapped[2]!, 16), Number.parseInt(mapped[3]!, 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}

/** The place that an address belongs to; whatever is no address is a place of its own. */
export function placeOf(address: string): string {
  const plain = plainAddress(address);
  if (!isIPv6(plain)) return plain;
  const [before = "", after] = plain.split("::");
  const groups = before === "" ? [] : before.split(":");
  const rest = after === undefined || after === "" ? [] : after.split(":");
  const zeros = after === undefined ? 0 : 8 - groups.length - rest.length;
  const all = [...groups, ...Array.from({ length: zeros }, () => "0"), ...rest];
  return `${all.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}

/** Proxies whose X-Forwarded-For is believed. */
export class Proxies {
  readonly #trusted: BlockList = new BlockList();

  /** `proxies` are addresses, or networks such as `10.0.0.0/8`. @throws {RangeError} one is neither */
  constructor(proxies: readonly string[]) {
    for (const proxy of proxies) {
      const [address = "", bits, more] = proxy.split("/");
      const family = isIP(address) === 6 ? "ipv6" : "ipv4";
      const bitsMax = family === "ipv6" ? 128 : 32;
      const length = bits === undefined ? bitsMax : /^\d{1,3}$/.test(bits) ? Number(bits) : Infinity;
      if (isIP(address) === 0 || more !== undefined || length > bitsMax) {
        throw new RangeError(`Cannot trust the proxy ${proxy}: expected an address, or a network such as 10.0.0.0/8`);
      }
      this.#trusted.addSubnet(address, length, family);
    }
  }

  /** Who asks: the peer, or for whom a trusted proxy does. */
  clientOf(headers: Headers, remoteAddress: string): string {
    const named = (headers.get("x-forwarded-for") ?? "").split(",").map((name) => name.trim());
    let client = plainAddress(remoteAddress);
    while (this.#trusts(client)) {
      const next = plainAddress(named.pop() ?? "");
      if (isIP(next) === 0) break;
      client = next;
    }
    return client;
  }

  #trusts(address: string): boolean {
    const version = isIP(address);
    return version !== 0 && this.#trusted.check(address, version === 6 ? "ipv6" : "ipv4");
  }
}

// --- counts ---

/** A place, or undefined where places are not told apart. */
export type Place = string | undefined;

/** What is known of a place. */
interface Visits {
  connections: number;
  unauthenticated: number;
  /** Since `failuresBeganAt`. */
  failures: number;
  /** On the monotonic clock. */
  failuresBeganAt: number;
}

/** The connections of a server by place. */
export class Visitors {
  readonly #limits: ServerLimits;
  readonly #clock: Clock;
  readonly #visits: Map<string, Visits> = new Map();
  #connections = 0;

  /** Counts nothing yet. */
  constructor(limits: ServerLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Why one more connection of the place cannot be; undefined when it can. */
  refusalOf(place: Place, authenticated: boolean): Refusal | undefined {
    const { connectionsMax, connectionsPerAddressMax, unauthenticatedPerAddressMax } = this.#limits;
    if (this.#connections >= connectionsMax) return { status: 503, body: "The server has too many connections" };
    const visits = place === undefined ? undefined : this.#visits.get(place);
    if (visits === undefined) return undefined;
    if (visits.connections >= connectionsPerAddressMax) {
      return { status: 429, body: "This address has too many connections" };
    }
    if (!authenticated && visits.unauthenticated >= unauthenticatedPerAddressMax) {
      return { status: 429, body: "This address has too many connections that have not said hello" };
    }
    return undefined;
  }

  /** A connection of the place is open. */
  enter(place: Place, authenticated: boolean): void {
    this.#connections++;
    if (place === undefined) return;
    const visits = this.#visitsOf(place);
    visits.connections++;
    if (!authenticated) visits.unauthenticated++;
  }

  /** One of its connections has said who it is. */
  authenticated(place: Place): void {
    if (place !== undefined) this.#visitsOf(place).unauthenticated--;
  }

  /** One of its connections is gone. */
  leave(place: Place, authenticated: boolean): void {
    this.#connections--;
    if (place === undefined) return;
    const visits = this.#visitsOf(place);
    visits.connections--;
    if (!authenticated) visits.unauthenticated--;
    if (visits.connections === 0 && visits.failures === 0) this.#visits.delete(place);
  }

  /** Wrong credentials came from there. */
  failed(place: Place): void {
    if (place === undefined) return;
    const visits = this.#visitsOf(place);
    const now = this.#clock.monotonic();
    if (now - visits.failuresBeganAt >= MINUTE_MS) visits.failures = 0;
    if (visits.failures++ === 0) visits.failuresBeganAt = now;
    if (this.#visits.size > PLACES_MAX) this.#forgetOne();
  }

  /** True when no credentials of the place are looked at. */
  isBlocked(place: Place): boolean {
    const visits = place === undefined ? undefined : this.#visits.get(place);
    if (visits === undefined || visits.failures < this.#limits.authFailuresPerMinuteMax) return false;
    return this.#clock.monotonic() - visits.failuresBeganAt < MINUTE_MS;
  }

  /** Forgets wrong credentials that are long ago. */
  sweep(): void {
    const now = this.#clock.monotonic();
    for (const [place, visits] of this.#visits) {
      if (visits.failures > 0 && now - visits.failuresBeganAt >= MINUTE_MS) visits.failures = 0;
      if (visits.connections === 0 && visits.failures === 0) this.#visits.delete(place);
    }
  }

  #visitsOf(place: string): Visits {
    let visits = this.#visits.get(place);
    if (visits === undefined) {
      visits = { connections: 0, unauthenticated: 0, failures: 0, failuresBeganAt: 0 };
      this.#visits.set(place, visits);
    }
    return visits;
  }

  #forgetOne(): void {
    for (const [place, { connections }] of this.#visits) {
      if (connections === 0) return void this.#visits.delete(place);
    }
  }
}
