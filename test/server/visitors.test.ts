/**
 * Where connections come from, and how many of each place.
 *
 * @module
 */
import { beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../lib/base/clock.ts";
import { EVERYONE, hasExpired, type Principal } from "../../server/auth.ts";
import { SERVER_LIMITS } from "../../server/limits.ts";
import { Tickets } from "../../server/tickets.ts";
import { placeOf, Proxies, Visitors } from "../../server/visitors.ts";

describe("placeOf()", () => {
  test.each([
    ["127.0.0.1", "127.0.0.1"],
    ["::ffff:127.0.0.1", "127.0.0.1"],
    ["::FFFF:127.0.0.1", "127.0.0.1"],
    ["0000:0000:0000:0000:0000:ffff:7f00:0001", "127.0.0.1"],
    ["::ffff:7f00:1", "127.0.0.1"],
    ["::1", "0:0:0:0::/64"],
    ["0000:0000:0000:0000:0000:0000:0000:0001", "0:0:0:0::/64"],
    ["2001:db8:1:2::1", "2001:db8:1:2::/64"],
    ["2001:0db8:0001:0002:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"],
    ["2001:db8::5", "2001:db8:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["", ""],
    ["nonsense", "nonsense"],
  ])("placeOf() puts %s into %s", (address, place) => expect(placeOf(address)).toBe(place));
});

describe("Proxies", () => {
  test.each([
    [[], "10.0.0.1", "1.1.1.1", "10.0.0.1"],
    [["10.0.0.1"], "10.0.0.1", "1.1.1.1", "1.1.1.1"],
    [["10.0.0.1"], "::ffff:10.0.0.1", "::ffff:1.1.1.1", "1.1.1.1"],
    [["10.0.0.1"], "10.0.0.1", null, "10.0.0.1"],
    [["10.0.0.1"], "10.0.0.1", "", "10.0.0.1"],
    [["10.0.0.1"], "10.0.0.1", "1.1.1.1, 2.2.2.2", "2.2.2.2"],
    [["10.0.0.1", "2.2.2.2"], "10.0.0.1", "1.1.1.1, 2.2.2.2", "1.1.1.1"],
    [["10.0.0.1"], "10.0.0.1", "1.1.1.1, 10.0.0.1", "1.1.1.1"],
    [["10.0.0.1"], "10.0.0.1", "10.0.0.1", "10.0.0.1"],
    [["10.0.0.1"], "10.0.0.1", "1.1.1.1, x", "10.0.0.1"],
    [["10.0.0.1"], "10.0.0.1", "1.1.1.1:80", "10.0.0.1"],
    [["10.0.0.1"], "10.0.0.2", "1.1.1.1", "10.0.0.2"],
    [["10.0.0.0/8"], "10.9.9.9", "1.1.1.1", "1.1.1.1"],
    [["10.0.0.0/8"], "11.0.0.1", "1.1.1.1", "11.0.0.1"],
    [["fd00::/8"], "fd12::1", "2001:db8::1", "2001:db8::1"],
    [["0.0.0.0/0"], "", "1.1.1.1", ""],
  ] as [string[], string, string | null, string][])(
    "Proxies %j asked by %s for %s take %s for the client",
    (trusted, peer, forwarded, client) => {
      const headers = new Headers(forwarded === null ? [] : [["x-forwarded-for", forwarded]]);
      expect(new Proxies(trusted).clientOf(headers, peer)).toBe(client);
    },
  );

  test.each(["", "localhost", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8/8", "::/129", "10.0.0.0/-1", "*"])(
    "Proxies refuse to trust %j",
    (proxy) => expect(() => new Proxies([proxy])).toThrow(RangeError),
  );
});

describe("Visitors", () => {
  let clock: ManualClock;
  let visitors: Visitors;

  beforeEach(() => {
    clock = new ManualClock();
    visitors = new Visitors(
      { ...SERVER_LIMITS, connectionsMax: 6, connectionsPerAddressMax: 4, unauthenticatedPerAddressMax: 2 },
      clock,
    );
  });

  function status(place: string | undefined, authenticated = false): number | undefined {
    return visitors.refusalOf(place, authenticated)?.status;
  }

  test("Visitors.refusalOf() counts those that have not said hello apart", () => {
    visitors.enter("a", false);
    visitors.enter("a", false);
    expect([status("a"), status("a", true), status("b")]).toEqual([429, undefined, undefined]);
    visitors.authenticated("a");
    expect(status("a")).toBeUndefined();
    visitors.enter("a", true);
    visitors.enter("a", true);
    expect([status("a"), status("a", true), status("b")]).toEqual([429, 429, undefined]);
    visitors.leave("a", true);
    expect(status("a")).toBeUndefined();
    visitors.enter("a", false);
    visitors.leave("a", false);
    visitors.leave("a", false);
    expect(status("a")).toBeUndefined();
  });

  test("Visitors.refusalOf() counts all places together, and no place alone where there are none", () => {
    for (let index = 0; index < 5; index++) visitors.enter(undefined, false);
    expect([status(undefined), status("a")]).toEqual([undefined, undefined]);
    visitors.enter("a", true);
    expect([status(undefined), status("a", true), status("b")]).toEqual([503, 503, 503]);
    visitors.leave(undefined, false);
    expect(status("b")).toBeUndefined();
  });

  test("Visitors.isBlocked() is true after ten failures, for a minute from the first", () => {
    for (let index = 0; index < 9; index++) visitors.failed("a");
    expect(visitors.isBlocked("a")).toBe(false);
    clock.advance(59_999);
    visitors.failed("a");
    expect([visitors.isBlocked("a"), visitors.isBlocked("b")]).toEqual([true, false]);
    clock.advance(1);
    expect(visitors.isBlocked("a")).toBe(false);
    visitors.failed("a");
    expect(visitors.isBlocked("a")).toBe(false);
  });

  test("Visitors.sweep() forgets failures of long ago, and no earlier", () => {
    for (let index = 0; index < 10; index++) visitors.failed("a");
    clock.advance(59_999);
    visitors.sweep();
    expect(visitors.isBlocked("a")).toBe(true);
    visitors.enter("a", true);
    visitors.leave("a", true);
    expect(visitors.isBlocked("a")).toBe(true);
    clock.advance(1);
    visitors.sweep();
    expect(visitors.isBlocked("a")).toBe(false);
  });

  test("Visitors remember no more than 65,536 places without a connection, the newest", () => {
    visitors.enter("seated", true);
    for (let place = 0; place < 65_600; place++) {
      for (let index = 0; index < 10; index++) visitors.failed(String(place));
    }
    expect([visitors.isBlocked("0"), visitors.isBlocked("64"), visitors.isBlocked("65")]).toEqual([false, false, true]);
    visitors.leave("seated", true);
    expect(status("seated")).toBeUndefined();
  });
});

describe("Tickets", () => {
  const clock = new ManualClock();
  const tickets = new Tickets(clock);

  test("Tickets.redeem() takes a ticket for 30 s", () => {
    const [first, second] = [tickets.issue(EVERYONE, null, "a"), tickets.issue(EVERYONE, null, "a")];
    expect(first.expiresInMs).toBe(30_000);
    expect(first.ticket).toMatch(/^[A-Za-z0-9_-]{43}$/);
    clock.advance(29_999);
    expect(tickets.redeem(first.ticket, null, "a")).toBe(EVERYONE);
    clock.advance(1);
    expect(tickets.redeem(second.ticket, null, "a")).toBeUndefined();
  });

  test("Tickets.redeem() takes a ticket for its page and place, for nobody who has expired", () => {
    const brief: Principal = { ...EVERYONE, expiresAt: clock.wall() + 10 };
    const { ticket } = tickets.issue(EVERYONE, "https://a.example", "a");
    expect(tickets.redeem(ticket, "https://a.example", "b")).toBeUndefined();
    expect(tickets.redeem(ticket, "https://a.example", "a")).toBeUndefined();
    const other = tickets.issue(EVERYONE, "https://a.example", "a").ticket;
    expect(tickets.redeem(other, null, "a")).toBeUndefined();
    const late = tickets.issue(brief, null, "a").ticket;
    clock.advance(10);
    expect([hasExpired(brief, clock.wall()), tickets.redeem(late, null, "a")]).toEqual([true, undefined]);
  });

  test("Tickets keep 10,000 that wait, the newest", () => {
    const drawn = Array.from({ length: 10_001 }, () => tickets.issue(EVERYONE, null, "a").ticket);
    expect(tickets.redeem(drawn[0]!, null, "a")).toBeUndefined();
    expect(tickets.redeem(drawn[1]!, null, "a")).toBe(EVERYONE);
  });
});
