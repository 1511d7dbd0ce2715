/**
 * The cursors of `SCAN`: numbers that stand for the key that a page ended with.
 *
 * A page begins behind a key, and a key does not fit the number that Redis clients expect for a cursor. So the server
 * keeps the last ones, of all connections, since clients with many connections go on with any of them. A cursor may be
 * used again while it is kept; one that is not is refused, and the client begins anew: it never misses keys silently.
 *
 * @module
 */

/** Cursors kept; each costs its key. */
const KEPT_MAX = 4_096;

/** A place in a listing. */
export interface Place {
  readonly bucket: string;
  /** The last key of the page before. */
  readonly after: Uint8Array;
}

/** The places that clients may go on from. */
export class Cursors {
  readonly #places: Map<string, Place> = new Map();
  #last = 0;

  /** The cursor of a place. */
  add(place: Place): string {
    const cursor = String(++this.#last);
    this.#places.set(cursor, place);
    if (this.#places.size > KEPT_MAX) this.#places.delete(this.#places.keys().next().value!);
    return cursor;
  }

  /** The place of a cursor; undefined when it is not kept. */
  find(cursor: string): Place | undefined {
    return this.#places.get(cursor);
  }
}
