/**
 * Serves the dashboard: `dashboard.html` at `/`, and the browser client that the page imports at `/firkin.js`.
 *
 * The page is one file with its style and script inside, and asks for nothing from elsewhere. Its
 * Content-Security-Policy names the digests of exactly that style and that script, computed from the file as it is
 * read, so an edit needs no second step and a script that slipped into the markup does not run. `connect-src 'self'`
 * covers the WebSocket of the page's own host and port and nothing else.
 *
 * Files are read at the first request for them and kept. They are found beside this module, both as source
 * (`server/`) and as emitted (`dist/server/`); a bundle that is missing is looked for again at the next request, so
 * that a build needs no restart.
 *
 * @module
 */
import { readFile } from "node:fs/promises";

/** A file as it is served. */
interface Asset {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly headers: Readonly<Record<string, string>> & { readonly etag: string };
}

/** Where each path's file may be, relative to this module: as source first, then as emitted. */
const FILES: ReadonlyMap<string, readonly string[]> = new Map([
  ["/", ["dashboard.html"]],
  ["/firkin.js", ["../dist/firkin.browser.js", "../firkin.browser.js"]],
]);

/** Sent with everything, so that no answer can be framed, sniffed or told to other sites. */
const HEADERS = {
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-cache",
} as const;

const assets = new Map<string, Asset>();

/**
 * Answers a request for the dashboard: 200 or 304 for `/` and `/firkin.js`, 503 when the bundle is not built, 404 for
 * another path, 405 for a method other than GET and HEAD.
 */
export async function dashboardResponse(request: Request): Promise<Response> {
  const path = new URL(request.url).pathname;
  const files = FILES.get(path);
  if (files === undefined) return refusal(404, `There is nothing at ${path}`);
  if (request.method !== "GET" && request.method !== "HEAD") {
    return refusal(405, `${path} answers GET and HEAD`, { allow: "GET, HEAD" });
  }
  const asset = assets.get(path) ?? await readAsset(files);
  if (asset === undefined) return refusal(503, "The browser client is not built: run `npm run build`");
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

async function readAsset(files: readonly string[]): Promise<Asset | undefined> {
  const bytes = await readFirst(files);
  if (bytes === undefined) return undefined;
  if (!files[0]?.endsWith(".html")) {
    const etag = `"${await digest(bytes)}"`;
    return { body: bytes, headers: { ...HEADERS, "content-type": "text/javascript; charset=utf-8", etag } };
  }
  // A browser digests inline text after its parser has made every line end \n, whatever the checkout made of them.
  const html = new TextDecoder().decode(bytes).replaceAll("\r\n", "\n");
  const body = new TextEncoder().encode(html);
  const headers = {
    ...HEADERS,
    "content-security-policy": await pagePolicy(html),
    "content-type": "text/html; charset=utf-8",
    etag: `"${await digest(body)}"`,
  };
  return { body, headers };
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

async function pagePolicy(html: string): Promise<string> {
  const style = await inlineSource(html, /<style>([^]*?)<\/style>/);
  const script = await inlineSource(html, /<script type="module">([^]*?)<\/script>/);
  return [
    "default-src 'none'",
    `script-src 'self' ${script}`,
    `style-src ${style}`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

async function inlineSource(html: string, pattern: RegExp): Promise<string> {
  return `'sha256-${await digest(new TextEncoder().encode(pattern.exec(html)?.[1]))}'`;
}

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return btoa(String.fromCharCode(...new Uint8Array(hash)));
}
