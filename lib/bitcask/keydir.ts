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

/** Addresses are this times the segment's slot, plus the offset. */
export const ADDRESS_UNIT = 0x100000000;

/** Tells whether the record at `slot` and `offset` is of this key. */
export type IsKey = (slot: number, offset: number, bucket: number, key: Uint8Array) => boolean;

interface Table {
  words: Uint32Array;
  capacity: number;
  count: number;
}

/** Hash to address. */
export class Keydir {
  readonly #isKey: IsKey;
  readonly #tables: Table[] = [];
  #count = 0;

  /** An empty index over records that `isKey` can look at. */
  constructor(isKey: IsKey) {
    this.#isKey = isKey;
    for (let index = 0; index < TABLES; index++) {
      this.#tables.push({ words: EMPTY_WORDS, capacity: CAPACITY_MIN, count: 0 });
    }
  }

  /** Number of keys. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of the tables. */
  get bytes(): number {
    let bytes = 0;
    for (const table of this.#tables) bytes += table.words.byteLength;
    return bytes;
  }

  /** The address of a key, -1 when it is not there. */
  get(hash: number, bucket: number, key: Uint8Array): number {
    const table = this.#tables[hash >>> 24]!;
    const at = this.#find(table, hash, bucket, key);
    return at < 0 ? -1 : addressAt(table.words, at);
  }

  /** Points a key at `address`; returns the address it had, -1 when it is new. */
  set(hash: number, bucket: number, key: Uint8Array, address: number): number {
    const table = this.#tables[hash >>> 24]!;
    const at = this.#find(table, hash, bucket, key);
    if (at >= 0) {
      const before = addressAt(table.words, at);
      writeAddress(table.words, at, address);
      return before;
    }
    // `at` is the complement of the empty slot that ended the search.
    this.#insert(table, ~at, hash, address);
    return -1;
  }

  /**
   * Adds keys, one at least, that are not there and differ from one another: nothing is compared. Each is a hash, its
   * segment's slot and an offset. The upper 8 bits of all hashes are the same: only one table is written to.
   */
  addDistinct(entries: Uint32Array): void {
    const table = this.#tables[entries[0]! >>> 24]!;
    const count = table.count + entries.length / WORDS;
    if (table.words === EMPTY_WORDS || count * 5 > table.capacity * 4) {
      resize(table, Math.max(CAPACITY_MIN, Math.ceil(count * 1.45)));
    }
    const { words, capacity } = table;
    for (let index = 0; index < entries.length; index += WORDS) {
      let at = homeOf(entries[index]!, capacity) * WORDS;
      while (words[at + 1] !== 0) at = next(at, words.length);
      words[at] = entries[index]!;
      words[at + 1] = entries[index + 1]! + 1;
      words[at + 2] = entries[index + 2]!;
    }
    table.count = count;
    this.#count += entries.length / WORDS;
  }

  /** True when some key with this hash stands at `address`. */
  pointsAt(hash: number, address: number): boolean {
    const { words, capacity } = this.#tables[hash >>> 24]!;
    return indexOfAddress(words, homeOf(hash, capacity), address) !== -1;
  }

  /** Removes a key; returns the address it had, -1 when it was not there. */
  delete(hash: number, bucket: number, key: Uint8Array): number {
    const table = this.#tables[hash >>> 24]!;
    const at = this.#find(table, hash, bucket, key);
    if (at < 0) return -1;
    const before = addressAt(table.words, at);
    shiftBack(table, at);
    table.count--;
    this.#count--;
    if (table.capacity > CAPACITY_MIN && table.count * 4 < table.capacity) {
      resize(table, Math.max(CAPACITY_MIN, Math.ceil(table.capacity / 2)));
    }
    return before;
  }

  /** Points whatever key stands at address `before` at `after`; false when nothing does any more. */
  move(hash: number, before: number, after: number): boolean {
    const { words, capacity } = this.#tables[hash >>> 24]!;
    const at = indexOfAddress(words, homeOf(hash, capacity), before);
    if (at === -1) return false;
    writeAddress(words, at, after);
    return true;
  }

  #insert(table: Table, at: number, hash: number, address: number): void {
    if (table.words === EMPTY_WORDS) table.words = EMPTY_WORDS.slice();
    table.words[at] = hash;
    writeAddress(table.words, at, address);
    table.count++;
    this.#count++;
    if (table.count * 5 > table.capacity * 4) resize(table, Math.ceil(table.capacity * 1.5));
  }

  /** Where the key stands in its table's words, or the complement of where it would go. */
  #find(table: Table, hash: number, bucket: number, key: Uint8Array): number {
    const { words } = table;
    let at = homeOf(hash, table.capacity) * WORDS;
    for (;;) {
      const slot = words[at + 1]!;
      if (slot === 0) return ~at;
      if (words[at] === hash && this.#isKey(slot - 1, words[at + 2]!, bucket, key)) return at;
      at = next(at, words.length);
    }
  }
}

/** The slot where a hash would like to be: its lower 24 bits, scaled to the capacity. */
function homeOf(hash: number, capacity: number): number {
  return Math.floor(((hash & 0xffffff) * capacity) / 0x1000000);
}

function next(at: number, length: number): number {
  at += WORDS;
  return at === length ? 0 : at;
}

/** Where an address stands in the words, looked for from slot `home` on; -1 when it does not. */
function indexOfAddress(words: Uint32Array, home: number, address: number): number {
  const slot = Math.floor(address / ADDRESS_UNIT) + 1;
  const offset = address % ADDRESS_UNIT;
  for (let at = home * WORDS; words[at + 1] !== 0; at = next(at, words.length)) {
    if (words[at + 1] === slot && words[at + 2] === offset) return at;
  }
  return -1;
}

function addressAt(words: Uint32Array, at: number): number {
  return (words[at + 1]! - 1) * ADDRESS_UNIT + words[at + 2]!;
}

function writeAddress(words: Uint32Array, at: number, address: number): void {
  words[at + 1] = Math.floor(address / ADDRESS_UNIT) + 1;
  words[at + 2] = address % ADDRESS_UNIT;
}

/** Empties the slot at `at` and moves back every entry behind it that would otherwise be out of reach. */
function shiftBack(table: Table, at: number): void {
  const { words, capacity } = table;
  let hole = at;
  for (let scan = next(at, words.length); words[scan + 1] !== 0; scan = next(scan, words.length)) {
    const home = homeOf(words[scan]!, capacity) * WORDS;
    // The entry may fill the hole unless its home lies behind the hole, on the way round to where it stands.
    const reaches = hole <= scan ? home <= hole || home > scan : home <= hole && home > scan;
    if (!reaches) continue;
    words.copyWithin(hole, scan, scan + WORDS);
    hole = scan;
  }
  words[hole + 1] = 0;
}

function resize(table: Table, capacity: number): void {
  const words = new Uint32Array(capacity * WORDS);
  for (let from = 0; from < table.words.length; from += WORDS) {
    if (table.words[from + 1] === 0) continue;
    let at = homeOf(table.words[from]!, capacity) * WORDS;
    while (words[at + 1] !== 0) at = next(at, words.length);
    words[at] = table.words[from]!;
    words[at + 1] = table.words[from + 1]!;
    words[at + 2] = table.words[from + 2]!;
  }
  table.words = words;
  table.capacity = capacity;
}
