/**
 * Takes the pictures of the dashboard that README.md shows, into docs/images/: a server on a folder of its own, with
 * keys, clients and tokens as a small shop might have them, and Chromium in front of it.
 *
 * `npm run build && node scripts/screenshots.mjs [seconds]`: so long the shop works before the first picture is taken,
 * 75 when it is not said.
 *
 * @module
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { deflateSync } from "node:zlib";
import { chromium } from "playwright-core";
import { connect, open } from "../dist/mod.js";
import { serve, Tokens } from "../dist/server/mod.js";
import { root } from "./tools.mjs";

const SECONDS = Number(process.argv[2] ?? 75);
const RIGHTS = ["read", "write", "subscribe", "admin"];
const TARGET = join(root, "docs", "images");

let seed = 7;
/** A whole number below `limit`, the same in each run. */
function draw(limit) {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor(seed / 2 ** 32 * limit);
}

/** A picture of a barrel, more or less: a value that is an image. */
function png() {
  const [width, height] = [160, 160];
  const rows = [];
  for (let y = 0; y < height; y++) {
    const row = [0];
    for (let x = 0; x < width; x++) {
      const inside = Math.abs(x - 80) < 46 + 16 * Math.cos((y - 80) / 60) && y > 24 && y < 136;
      const hoop = inside && (Math.abs(y - 52) < 5 || Math.abs(y - 108) < 5);
      row.push(...(hoop ? [70, 62, 52, 255] : inside ? [196 - (x % 18), 119 - (x % 18), 23, 255] : [0, 0, 0, 0]));
    }
    rows.push(Buffer.from(row));
  }
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const frame = Buffer.alloc(body.length + 8);
    frame.writeUInt32BE(data.length, 0);
    body.copy(frame, 4);
    frame.writeUInt32BE(crc32(body), body.length + 4);
    return frame;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 6, 0, 0, 0], 8);
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  const parts = [chunk("IHDR", head), chunk("IDAT", deflateSync(Buffer.concat(rows))), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([signature, ...parts]);
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

const PEOPLE = [
  "ada",
  "alan",
  "barbara",
  "donald",
  "edsger",
  "frances",
  "grace",
  "hedy",
  "john",
  "ken",
  "margaret",
  "radia",
];
const PAGES = ["/", "/cart", "/casks", "/casks/oak", "/checkout", "/orders", "/search?q=oak"];
const CASKS = ["firkin", "kilderkin", "barrel", "hogshead", "pin", "rundlet", "tierce", "puncheon", "butt", "tun"];

/** What is there before the shop opens. */
async function stock(store) {
  await store.configure("sessions", { ttl: "30m", description: "who is in the shop" });
  await store.configure("orders", { description: "since November", valueBytesMax: 4_096 });
  await store.configure("products", { description: "what is for sale" });
  const products = store.bucket("products");
  await products.setMany(CASKS.map((name, index) => [name, {
    name,
    gallons: [9, 18, 36, 54, 4.5, 18, 42, 84, 108, 216][index],
    price: { amount: 4_900 + index * 2_150, currency: "EUR" },
    woods: ["oak", "chestnut"].slice(0, 1 + index % 2),
    inStock: index % 3 !== 0,
  }]));
  await store.bucket("images", { codec: "bytes" }).set("firkin.png", new Uint8Array(png()));
  await store.bucket("notes", { codec: "text" }).set(
    "opening-hours",
    "Mon to Fri, 9 to 17.\nClosed when the cooper sleeps.\n",
  );
  const orders = Array.from({ length: 24_000 }, (_, index) => {
    return [`2026-11/${String(index).padStart(6, "0")}`, {
      who: PEOPLE[draw(12)],
      cask: CASKS[draw(10)],
      count: 1 + draw(4),
    }];
  });
  await store.bucket("orders").setMany(orders);
}

/** Clients that come, look, buy and go: some hundred operations a second. */
async function trade(store, signal) {
  const [sessions, orders, counters] = ["sessions", "orders", "counters"].map((name) => store.bucket(name));
  for (let turn = 0; !signal.aborted; turn++) {
    const busy = 8 + Math.round(5 * Math.sin(turn / 90)) + draw(6);
    const work = [];
    for (let index = 0; index < busy; index++) {
      const who = `${PEOPLE[draw(12)]}-${draw(10)}`;
      const kind = draw(10);
      if (kind < 4) work.push(sessions.set(who, { page: PAGES[draw(7)], cart: draw(5) }, { ttl: 500 + draw(7_000) }));
      else if (kind < 8) work.push(orders.get(`2026-11/${String(draw(24_000)).padStart(6, "0")}`));
      else if (kind < 9) work.push(counters.increment(PAGES[draw(7)]));
      else work.push(orders.set(`2026-11/${String(draw(24_000)).padStart(6, "0")}`, { who, cask: CASKS[draw(10)] }));
    }
    await Promise.all(work);
    await pause(50);
  }
}

const folder = mkdtempSync(join(tmpdir(), "firkin-pictures-"));
const tokens = new Tokens();
const grant = async (name, buckets, rights, days) =>
  (await tokens.create({
    name,
    scopes: [{ buckets, rights }],
    ...(days && { expiresAt: Date.now() + days * 86_400_000 }),
  })).token;
const store = await open({ path: join(folder, "data"), sync: "interval", segmentBytesMax: 4 * 1024 * 1024 });
const server = await serve({ store, port: 0, auth: tokens, redis: { port: 0 } });
const stop = new AbortController();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu"],
});
try {
  const [operator, shop, web, mail] = [
    await grant("operator", "*", RIGHTS),
    await grant("shop", "*", ["read", "write"], 90),
    await grant("web-pages", "sessions", ["read", "subscribe"], 30),
    await grant("mailer", "orders", ["subscribe"], 365),
  ];
  await stock(store);
  const clients = await Promise.all([shop, shop, web, web, mail].map((token) => connect(server.url, { token })));
  const subscriptions = [
    clients[2].bucket("sessions").subscribe({ types: ["expire"] }),
    clients[3].bucket("sessions").subscribe({ prefix: "ada" }),
    clients[4].bucket("orders").subscribe(),
  ];
  for (const subscription of subscriptions) void subscription.forEach(() => {});
  const stream = await fetch(`http://127.0.0.1:${server.port}/v1/buckets/orders/events`, {
    headers: { authorization: `Bearer ${mail}`, "user-agent": "stock-keeper/2.1" },
  });
  void stream.body.pipeTo(new WritableStream()).catch(() => {});
  const redis = connectSocket(Number(new URL(server.redisUrl).port));
  redis.write(`AUTH ${operator}\r\nCLIENT SETNAME worker\r\nSUBSCRIBE __keyevent@0__:expired news\r\n`);
  redis.resume();
  const trading = Promise.all([trade(clients[0], stop.signal), trade(clients[1], stop.signal)]);
  await pause(SECONDS * 1_000);

  mkdirSync(TARGET, { recursive: true });
  const shoot = async (name, scheme, size, hash, prepare = async () => {}) => {
    const page = await browser.newPage({
      viewport: size,
      colorScheme: scheme,
      deviceScaleFactor: size.width < 500 ? 2 : 1,
    });
    await page.addInitScript(`sessionStorage.setItem("firkin-token", ${JSON.stringify(operator)})`);
    page.on("console", (message) => console.log(name, message.text()));
    page.on("pageerror", (error) => console.log(name, error.message));
    await page.goto(`http://127.0.0.1:${server.port}/${hash}`);
    await page.locator("body[data-state=live]").waitFor();
    await prepare(page);
    await pause(2_500);
    await page.screenshot({ path: join(TARGET, `${name}.png`) });
    await page.close();
  };
  const wide = { width: 1_280, height: 860 };
  const phone = { width: 390, height: 780 };
  const minute = (page) => page.getByLabel("1 min").check({ force: true });
  const opened = (key) => async (page) => {
    await page.locator(".key", { hasText: key }).first().click();
    await page.locator(".detail .title", { hasText: key }).waitFor();
  };
  await shoot("overview", "light", wide, "#/overview", minute);
  await shoot("keys", "light", wide, "#/keys/products", opened("hogshead"));
  await shoot("bucket", "light", wide, "#/keys/sessions", async (page) => {
    await page.getByRole("button", { name: "Settings", exact: true }).click();
  });
  await shoot("keys-expiring", "dark", wide, "#/keys/sessions");
  await shoot("events", "light", wide, "#/events");
  await shoot("clients", "light", wide, "#/clients");
  await shoot("tokens", "light", wide, "#/tokens");
  await shoot("phone-overview", "light", phone, "#/overview", minute);
  await shoot("phone-keys", "dark", phone, "#/keys/sessions");
  stop.abort();
  await trading;
  redis.destroy();
  for (const client of clients) await client.close();
} finally {
  stop.abort();
  await browser.close();
  await server.close();
  await store.close();
  rmSync(folder, { recursive: true, force: true });
}
