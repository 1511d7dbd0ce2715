/**
 * Serves the dashboard: its page at `/`, and beside it the one script and the one style that the page asks for.
 *
 * The page asks for nothing from elsewhere, and its Content-Security-Policy lets it run and fetch nothing but what this
 * server gives: no inline script or style, no evaluated text. `connect-src 'self'` covers the WebSocket of the page's
 * own host and port and nothing else; `blob:` is for values that are images.
 *
 * Files are read at the first request for them and kept. They are found in the folder `dashboard` beside this module;
 * the script is built of that folder, and is there in `dist/` alone. One that is missing is looked for again at the
 * next request, so that a build needs no restart.
 *
 * @module
 */
import { readFile } from "node:fs/promises";

/** A file as it is served. */
interface Asset {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly headers: Readonly<Record<string, string>> & { readonly etag: string };
}

/** What stands at a path. */
interface Place {
  /** Where its file may be, relative to this module. */
  readonly files: readonly string[];
  readonly type: string;
  readonly policy: string;
}

const NOTHING = "default-src 'none'; frame-ancestors 'none'";
const PAGE = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src data: blob:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const PLACES: ReadonlyMap<string, Place> = new Map([
  ["/", { files: ["dashboard/page.html"], type: "text/html; charset=utf-8", policy: PAGE }],
  ["/dashboard.css", { files: ["dashboard/style.css"], type: "text/css; charset=utf-8", policy: NOTHING }],
  ["/dashboard.js", {
    files: ["dashboard/dashboard.js", "../dist/server/dashboard/dashboard.js"],
    type: "text/javascript; charset=utf-8",
    policy: NOTHING,
  }],
]);

/** Sent with everything, so that no answer can be framed, sniffed or told to other sites. */
const HEADERS = {
  "content-security-policy": NOTHING,
  "cross-origin-resource-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-cache",
} as const;

const assets = new Map<string, Asset>();

/**
 * Answers a request for the dashboard: 200 or 304 for its page, script and style, 503 when the script is not built, 404
 * for another path, 405 for a method other than GET and HEAD.
 */
export async function dashboardResponse(request: Request): Promise<Response> {
  const path = new URL(request.url).pathname;
  const place = PLACES.get(path);
  if (place === undefined) return refusal(404, `There is nothing at ${path}`);
  if (request.method !== "GET" && request.method !== "HEAD") {
    return refusal(405, `${path} answers GET and HEAD`, { allow: "GET, HEAD" });
  }
  const asset = assets.get(path) ?? await readAsset(place);
  if (asset === undefined) return refusal(503, "The dashboard is not built: run `npm run build`");
  assets.set(path, asset);
  const { body, headers } = asset;
  const known = request.headers.get("if-none-match")?.includes(headers.etag) ?? false;
  if (known) return new Response(null, { status: 304, headers });
  return new Response(request.method === "HEAD" ? null : body, { headers });
}

function refusal(status: number, message: string, headers: Record<string, string> = {}): Response {
  const type = { "content-type": "text/plain; charset=utf-8" };
  return new Response(`${message}\n`, { status, headers: { ...HEADERS, ...type, ...headers } });
}

async function readAsset({ files, type, policy }: Place): Promise<Asset | undefined> {
  const body = await readFirst(files);
  if (body === undefined) return undefined;
  const etag = `"${await digest(body)}"`;
  return { body, headers: { ...HEADERS, "content-security-policy": policy, "content-type": type, etag } };
}

/** The first of `files` that is there. Any failure but absence is thrown. */
async function readFirst(files: readonly string[]): Promise<Uint8Array<ArrayBuffer> | undefined> {
  for (const file of files) {
    try {
      return new Uint8Array(await readFile(new URL(file, import.meta.url)));
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT") throw error;
    }
  }
  return undefined;
}

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return btoa(String.fromCharCode(...new Uint8Array(hash)));
}
