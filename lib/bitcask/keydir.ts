/**
 * The index of every live key: a hash and an address per key, in typed arrays, and nothing else.
 *
 * The key itself stays in the log. A lookup compares 32 bits of hash in memory and then the key in the record that the
 * address points to; `isKey`, given by the owner, does that comparison. So memory per key does not depend on
 * the key's length, and the garbage collector has nothing to look at.
 *
 * The upper 8 bits of the hash choose one of 256 tables, the lower 24 a slot in it. A table is an open-addressing array
 * of [hash, segment slot + 1, offset] with linear probing; it grows by half when it is four fifths full, by itself, so
 * a growth moves one 256th of the keys. Deleting shifts the entries behind it back, so there are no graves
 * and a table that empties shrinks again.
 *
 * Address: segment slot * 2^32 + offset, an exact integer below 2^53.
 *
 * @module
 */

const TABLES = 256;
const WORDS = 3;
const CAPACITY_MIN = 8;

/** What every table begins with, so that an empty store costs little; it stays all zeros. */
const EMPTY_WORDS = new Uint32Array(CAPACITY_MIN * WORDS);
const EMPTY_TABLES = Array.from({ length: TABLES }, () => EMPTY_WORDS);

/** Addresses are this times the segment's slot, plus the offset, which `>>> 0` takes out of them. */
export const ADDRESS_UNIT = 0x100000000;

/** Tells whether the record at `slot` and `offset` is of this key. */
export type IsKey = (slot: number, offset: number, bucket: number, key: Uint8Array) => boolean;

/** Hash to address. */
export class Keydir {
  readonly #isKey: IsKey;
  /** By the upper 8 bits of a hash. */
  readonly #tables: Uint32Array[] = EMPTY_TABLES.slice();
  readonly #counts = new Uint32Array(TABLES);
  #count = 0;

  /** An empty index over records that `isKey` can look at. */
  constructor(isKey: IsKey) {
    this.#isKey = isKey;
  }

  /** Number of keys. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of the tables. */
  get bytes(): number {
    return this.#tables.reduce((bytes, words) => bytes + words.byteLength, 0);
  }

  /** True when a key is there: `isKey` has said so of its record last. */
  has(hash: number, bucket: number, key: Uint8Array): boolean {
    return this.#find(this.#tables[hash >>> 24]!, hash, bucket, key) >= 0;
  }

  /** The address of a key, -1 when it is not there. */
  get(hash: number, bucket: number, key: Uint8Array): number {
    const words = this.#tables[hash >>> 24]!;
    const at = this.#find(words, hash, bucket, key);
    return at < 0 ? -1 : addressAt(words, at);
  }

  /** Points a key at `address`; returns the address it had, -1 when it is new. */
  set(hash: number, bucket: number, key: Uint8Array, address: number): number {
    const words = this.#tables[hash >>> 24]!;
    const at = this.#find(words, hash, bucket, key);
    if (at >= 0) {
      const before = addressAt(words, at);
      writeAddress(words, at, address);
      return before;
    }
    // `at` is the complement of the empty slot that ended the search.
    this.#insert(~at, hash, address);
    return -1;
  }

  /** Points a key at `address` if no key with this hash is there; else it is false, and the key has to be compared. */
  add(hash: number, address: number): boolean {
    const words = this.#tables[hash >>> 24]!;
    let at = homeOf(hash, words.length);
    for (; words[at + 1] !== 0; at = next(at, words.length)) {
      if (words[at] === hash) return false;
    }
    this.#insert(at, hash, address);
    return true;
  }

  /**
   * Adds keys, one at least, that are not there and differ from one another: nothing is compared. Each is [hash, slot
   * of the segment, offset]. The upper 8 bits of all hashes are the same, so that only one table is written to.
   */
  addDistinct(entries: Uint32Array): void {
    const table = entries[0]! >>> 24;
    const count = this.#counts[table]! + entries.length / WORDS;
    let words = this.#tables[table]!;
    if (words === EMPTY_WORDS || count * 5 > words.length / WORDS * 4) {
      this.#tables[table] = words = resized(words, Math.max(CAPACITY_MIN, Math.ceil(count * 1.45)));
    }
    for (let index = 0; index < entries.length; index += WORDS) {
      let at = homeOf(entries[index]!, words.length);
      while (words[at + 1] !== 0) at = next(at, words.length);
      words[at] = entries[index]!;
      words[at + 1] = entries[index + 1]! + 1;
      words[at + 2] = entries[index + 2]!;
    }
    this.#counts[table] = count;
    this.#count += entries.length / WORDS;
  }

  /** True when some key with this hash stands at `address`. */
  pointsAt(hash: number, address: number): boolean {
    return indexOfAddress(this.#tables[hash >>> 24]!, hash, address) !== -1;
  }

  /** Removes a key; returns the address it had, -1 when it was not there. */
  delete(hash: number, bucket: number, key: Uint8Array): number {
    const table = hash >>> 24;
    const words = this.#tables[table]!;
    const at = this.#find(words, hash, bucket, key);
    if (at < 0) return -1;
    const before = addressAt(words, at);
    shiftBack(words, at);
    const count = --this.#counts[table]!;
    this.#count--;
    const capacity = words.length / WORDS;
    if (capacity > CAPACITY_MIN && count * 4 < capacity) {
      this.#tables[table] = resized(words, Math.max(CAPACITY_MIN, Math.ceil(capacity / 2)));
    }
    return before;
  }

  /** Points whatever key stands at address `before` at `after`; false when nothing does any more. */
  move(hash: number, before: number, after: number): boolean {
    const words = this.#tables[hash >>> 24]!;
    const at = indexOfAddress(words, hash, before);
    if (at === -1) return false;
    writeAddress(words, at, after);
    return true;
  }

  #insert(at: number, hash: number, address: number): void {
    const table = hash >>> 24;
    let words = this.#tables[table]!;
    if (words === EMPTY_WORDS) this.#tables[table] = words = EMPTY_WORDS.slice();
    words[at] = hash;
    writeAddress(words, at, address);
    this.#count++;
    const capacity = words.length / WORDS;
    if (++this.#counts[table]! * 5 > capacity * 4) this.#tables[table] = resized(words, Math.ceil(capacity * 1.5));
  }

  /** Where the key stands in its table's words, or the complement of where it would go. */
  #find(words: Uint32Array, hash: number, bucket: number, key: Uint8Array): number {
    for (let at = homeOf(hash, words.length);; at = next(at, words.length)) {
      const slot = words[at + 1]!;
      if (slot === 0) return ~at;
      if (words[at] === hash && this.#isKey(slot - 1, words[at + 2]!, bucket, key)) return at;
    }
  }
}

/** Where a hash would like to be in a table of so many words: its lower 24 bits, scaled to the capacity. */
function homeOf(hash: number, length: number): number {
  return Math.floor((hash & 0xffffff) * (length / WORDS / 0x1000000)) * WORDS;
}

function next(at: number, length: number): number {
  at += WORDS;
  return at === length ? 0 : at;
}

/** Where an address stands in the words, looked for where its key's hash leads to; -1 when it does not. */
function indexOfAddress(words: Uint32Array, hash: number, address: number): number {
  const slot = Math.floor(address / ADDRESS_UNIT) + 1;
  const offset = address >>> 0;
  for (let at = homeOf(hash, words.length); words[at + 1] !== 0; at = next(at, words.length)) {
    if (words[at + 1] === slot && words[at + 2] === offset) return at;
  }
  return -1;
}

function addressAt(words: Uint32Array, at: number): number {
  return (words[at + 1]! - 1) * ADDRESS_UNIT + words[at + 2]!;
}

function writeAddress(words: Uint32Array, at: number, address: number): void {
  words[at + 1] = Math.floor(address / ADDRESS_UNIT) + 1;
  words[at + 2] = address;
}

/** Empties the slot at `at` and moves back every entry behind it that would otherwise be out of reach. */
function shiftBack(words: Uint32Array, at: number): void {
  let hole = at;
  for (let scan = next(at, words.length); words[scan + 1] !== 0; scan = next(scan, words.length)) {
    const home = homeOf(words[scan]!, words.length);
    // The entry may fill the hole unless its home lies behind the hole, on the way round to where it stands.
    const reaches = hole <= scan ? home <= hole || home > scan : home <= hole && home > scan;
    if (!reaches) continue;
    words.copyWithin(hole, scan, scan + WORDS);
    hole = scan;
  }
  words[hole + 1] = 0;
}

function resized(from: Uint32Array, capacity: number): Uint32Array {
  const words = new Uint32Array(capacity * WORDS);
  for (let source = 0; source < from.length; source += WORDS) {
    if (from[source + 1] === 0) continue;
    let at = homeOf(from[source]!, words.length);
    while (words[at + 1] !== 0) at = next(at, words.length);
    words[at] = from[source]!;
    words[at + 1] = from[source + 1]!;
    words[at + 2] = from[source + 2]!;
  }
  return words;
}
