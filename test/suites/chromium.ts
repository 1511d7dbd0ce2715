/**
 * A headless Chromium for tests, where there is one.
 *
 * @module
 */
import { existsSync } from "node:fs";
import type { Browser } from "playwright-core";
import { findTool } from "./tools.ts";

/** A browser that tests open pages in, and close. */
export type LaunchedBrowser = Browser;

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/**
 * Starts Chromium; undefined, with one line that says why, where there is none, where this runtime cannot run
 * playwright-core, or where the browser client has not been built.
 */
export async function launchBrowser(): Promise<LaunchedBrowser | undefined> {
  const executablePath = findTool("chromium");
  if (executablePath === undefined) return undefined;
  if (!existsSync(new URL("../../dist/firkin.browser.js", import.meta.url))) {
    console.warn("Tests that need the browser client are skipped: run `npm run build`");
    return undefined;
  }
  const { chromium } = await import("playwright-core");
  return await chromium.launch({ executablePath, args: ARGUMENTS });
}
