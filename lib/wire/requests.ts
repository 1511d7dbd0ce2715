/**
 * A client's requests without an answer.
 *
 * Millions pass through here in a second, so what stands for a request is used again for the next: a request costs its
 * promise and no other object. An id leads to its place by its last bits. A place that is taken is passed over, so a
 * request that takes minutes is in nobody's way.
 *
 * @module
 */
import type { CborReader } from "./cbor.ts";

const ID_MAX = 2 ** 32 - 1;
/** Places at first; they double when half of them are taken. A power of two. */
const PLACES_FIRST = 64;

/**
 * Takes the results out of a reply. `subject` is what the request was about. What it throws is the connection's end
 * when it is `PROTOCOL`, and else the request's own.
 */
export type ReadReply<Subject, Result> = (reader: CborReader, subject: Subject) => Result;

/** A request that has no answer yet; once it has one, the next request in its place. */
export class Request {
  /** 0 while there is no request. */
  id = 0;
  op = 0;
  /** The length of its frame. */
  bytes = 0;
  /** On the monotonic clock. */
  expiresAt = 0;
  /** The frame, while it waits to be sent. */
  frame: Uint8Array | undefined;
  read: ReadReply<never, unknown> = nothing;
  subject: unknown;
  resolve: (result: never) => void = nothing;
  reject: (error: unknown) => void = nothing;

  /** Lets go of what it was about. */
  clear(): void {
    this.id = 0;
    this.frame = undefined;
    this.read = nothing;
    this.subject = undefined;
    this.resolve = nothing;
    this.reject = nothing;
  }
}

/** Requests without an answer, by id: the place of an id is its last bits, so that finding one costs an index. */
export class Requests {
  #places: Request[] = Array.from({ length: PLACES_FIRST }, () => new Request());
  #count = 0;
  #lastId = 0;

  /** How many there are. */
  get count(): number {
    return this.#count;
  }

  /** The request with an id, undefined when there is none. */
  find(id: number): Request | undefined {
    const request = this.#places[id & (this.#places.length - 1)]!;
    return id !== 0 && request.id === id ? request : undefined;
  }

  /** A place for a new request, with an id that no other has. */
  add(): Request {
    // With half of the places free the next one is never far.
    if (this.#count * 2 >= this.#places.length) this.#grow();
    let request: Request;
    do {
      this.#lastId = this.#lastId === ID_MAX ? 1 : this.#lastId + 1;
      request = this.#places[this.#lastId & (this.#places.length - 1)]!;
    } while (request.id !== 0);
    request.id = this.#lastId;
    this.#count++;
    return request;
  }

  /** The request has its answer. */
  remove(request: Request): void {
    request.clear();
    this.#count--;
  }

  /** All of them, oldest first but for those whose place an older one held. */
  *[Symbol.iterator](): Generator<Request, void> {
    const places = this.#places;
    for (let step = 1; step <= places.length; step++) {
      const request = places[(this.#lastId + step) & (places.length - 1)]!;
      if (request.id !== 0) yield request;
    }
  }

  #grow(): void {
    const before = this.#places;
    const places = Array.from({ length: before.length * 2 }, () => new Request());
    for (const request of before) {
      if (request.id !== 0) places[request.id & (places.length - 1)] = request;
    }
    this.#places = places;
  }
}

/** What an empty place does when it is asked. */
export function nothing(): void {}
