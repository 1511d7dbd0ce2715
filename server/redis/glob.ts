/**
 * Patterns, as `KEYS`, `SCAN` and `PSUBSCRIBE` take them: `*`, `?`, `[a-c]`, `[^a]` and a backslash before a letter
 * that means itself; and `*` matches everything, slashes too.
 *
 * Where the pattern fails, only the last star takes one letter more: whatever the pattern, a match costs at most its
 * length times that of the text. (To try every star again costs a power of it.) Of the longest ones that is still some
 * milliseconds, so who holds a text against many patterns counts the steps (`pace.ts`).
 *
 * @module
 */

const STAR = 0x2a;
const ANY = 0x3f;
const OPEN = 0x5b;
const CLOSE = 0x5d;
const NOT = 0x5e;
const DASH = 0x2d;
const ESCAPE = 0x5c;

/** What matching has cost. */
export interface Effort {
  /** Letters of patterns that were looked at, as often as they were. */
  steps: number;
}

/** True when the whole of `text` matches `pattern`; adds what it cost to `effort`. */
export function matchesGlob(pattern: Uint8Array, text: Uint8Array, effort: Effort = { steps: 0 }): boolean {
  let at = 0;
  let place = 0;
  let star = -1;
  /** Where what follows the last star was last tried: the letters from there on are yet to be counted. */
  let starPlace = 0;
  while (place < text.length) {
    const byte = pattern[at];
    const next = byte === undefined || byte === STAR ? -1 : matchOne(pattern, at, byte, text[place]!, effort);
    if (next !== -1) {
      at = next;
      place++;
      continue;
    }
    effort.steps += place - starPlace + 1;
    if (byte === STAR) {
      star = ++at;
      starPlace = place;
    } else if (star === -1) return false;
    else {
      at = star;
      place = ++starPlace;
    }
  }
  effort.steps += place - starPlace;
  while (pattern[at] === STAR) at++;
  return at >= pattern.length;
}

/** What every text that matches begins with. */
export function literalPrefix(pattern: Uint8Array): Uint8Array {
  const prefix: number[] = [];
  for (let at = 0; at < pattern.length; at++) {
    const byte = pattern[at]!;
    if (byte === STAR || byte === ANY || byte === OPEN) break;
    if (byte === ESCAPE && at + 1 < pattern.length) at++;
    prefix.push(pattern[at]!);
  }
  return Uint8Array.from(prefix);
}

/** Where the pattern goes on when its next part matches the letter, -1 when it does not. */
function matchOne(pattern: Uint8Array, at: number, byte: number, letter: number, effort: Effort): number {
  if (byte === ANY) return at + 1;
  if (byte === OPEN) return matchClass(pattern, at + 1, letter, effort);
  if (byte === ESCAPE && at + 1 < pattern.length) return pattern[at + 1] === letter ? at + 2 : -1;
  return byte === letter ? at + 1 : -1;
}

/** A class that has no end goes on to the pattern's. */
function matchClass(pattern: Uint8Array, start: number, letter: number, effort: Effort): number {
  const negated = pattern[start] === NOT;
  let at = negated ? start + 1 : start;
  let matches = false;
  for (; at < pattern.length && pattern[at] !== CLOSE; at++) {
    if (pattern[at] === ESCAPE && at + 1 < pattern.length) {
      at++;
      if (pattern[at] === letter) matches = true;
    } else if (pattern[at + 1] === DASH && at + 2 < pattern.length) {
      const [from, to] = [pattern[at]!, pattern[at + 2]!];
      if (letter >= Math.min(from, to) && letter <= Math.max(from, to)) matches = true;
      at += 2;
    } else if (pattern[at] === letter) matches = true;
  }
  effort.steps += at - start;
  return matches === negated ? -1 : Math.min(at + 1, pattern.length);
}
