/**
 * Changes on their way: each is held for some seconds in which it can be taken back, then it is sent, and what became
 * of it is said in the same place.
 *
 * @module
 */
import { button, byId, element, say } from "./dom.ts";
import { problem } from "./words.ts";

const HOLD_MS = 5_000;
const SAID_MS = 3_000;
const FAILED_MS = 10_000;

/** A change that can still be taken back. */
const held = new Set<object>();

/** Nobody leaves the page without a word while something is held. */
export function guardLeave(): void {
  addEventListener("beforeunload", (event) => {
    if (held.size > 0) event.preventDefault();
  });
}

/**
 * Holds a change, then has it sent; resolves true when it was, false when it was taken back or failed.
 *
 * @param what Says it, such as "Delete users/ada"
 * @param send Sends it; what it resolves to is said, "" for nothing
 */
export async function hold(what: string, send: () => Promise<string>): Promise<boolean> {
  const words = element("span", { text: what });
  const bar = element("i", { class: "countdown", "aria-hidden": "true" });
  const toast = element("div", { class: "panel toast", role: "status" }, words);
  const goes = new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(true), HOLD_MS);
    const decide = (answer: boolean) => () => {
      clearTimeout(timer);
      resolve(answer);
    };
    toast.append(
      button("Undo", decide(false), { class: "primary" }),
      button("Now", decide(true), { class: "quiet" }),
      bar,
    );
  });
  bar.style.setProperty("animation-duration", `${HOLD_MS}ms`);
  held.add(toast);
  byId("toasts").append(toast);
  const goesOut = await goes;
  held.delete(toast);
  toast.replaceChildren(words);
  if (!goesOut) {
    say(words, "Taken back: nothing was sent");
    setTimeout(() => toast.remove(), SAID_MS);
    return false;
  }
  try {
    say(words, await send() || `${what}: done`);
    setTimeout(() => toast.remove(), SAID_MS);
    return true;
  } catch (error) {
    say(words, problem(error));
    toast.classList.add("failed");
    setTimeout(() => toast.remove(), FAILED_MS);
    return false;
  }
}
