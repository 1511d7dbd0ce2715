/**
 * Blocks of hints in memory, under one budget.
 *
 * Eviction is SIEVE (Zhang et al., NSDI 2024): blocks stand in a queue in the order they came; a hit only marks its
 * block, and a hand that walks from the oldest towards the newest clears marks and evicts the first block without
 * one. A scan therefore passes through without washing out what is read again and again, and a hit moves nothing.
 *
 * Each hint keeps its own table from block number to block, so a lookup is two array reads.
 *
 * @module
 */

/** One cached block: where it belongs, its bytes, and its place in the queue. */
export interface Block {
  readonly bytes: Uint8Array;
  /** The table that this block stands in, and its number there. */
  readonly table: (Block | undefined)[];
  readonly number: number;
  visited: boolean;
  newer: Block | undefined;
  older: Block | undefined;
}

/** The blocks of all hints. */
export class BlockCache {
  readonly #bytesMax: number;
  #bytes = 0;
  #newest: Block | undefined;
  #oldest: Block | undefined;
  #hand: Block | undefined;

  /** Holds at most `bytesMax` bytes of blocks; with 0 nothing is kept. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes of the blocks held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes a block in at the young end, evicting others until it fits. `bytes` belongs to the cache from here on. */
  add(table: (Block | undefined)[], number: number, bytes: Uint8Array): void {
    if (bytes.length > this.#bytesMax) return;
    while (this.#bytes + bytes.length > this.#bytesMax) this.#evict();
    const block: Block = { bytes, table, number, visited: false, newer: undefined, older: this.#newest };
    if (this.#newest !== undefined) this.#newest.newer = block;
    this.#newest = block;
    this.#oldest ??= block;
    this.#bytes += bytes.length;
    table[number] = block;
  }

  /** Lets go of every block of one segment. */
  drop(table: (Block | undefined)[]): void {
    for (const block of table) {
      if (block !== undefined) this.#remove(block);
    }
  }

  #evict(): void {
    let block = this.#hand ?? this.#oldest;
    while (block !== undefined && block.visited) {
      block.visited = false;
      block = block.newer ?? this.#oldest;
    }
    if (block === undefined) return;
    this.#hand = block.newer;
    this.#remove(block);
  }

  #remove(block: Block): void {
    if (block.newer === undefined) this.#newest = block.older;
    else block.newer.older = block.older;
    if (block.older === undefined) this.#oldest = block.newer;
    else block.older.newer = block.newer;
    if (this.#hand === block) this.#hand = block.newer;
    this.#bytes -= block.bytes.length;
    block.table[block.number] = undefined;
  }
}
