/** Words of an entry; the first names the burst that made it. */
export const Entry = {
  HI: 1,
  BLOCK: 2,
  /** Where the block's word lies. */
  AT: 3,
  /** The tag that its word has while it holds this block. */
  TAG: 4,
  /** The word as last seen: what the next compare-and-swap expects. */
  SEEN: 5,
  /** One bit for each number that SEEN shows as taken; all bits, so negative, when its tag is a newer one. */
  TAKEN: 6,
  /** One bit for each number asked for, and after the claim for each granted. 0 when the entry is new. */
  MASK: 7,
  WORDS: 8,
} as const;

/**
 * The blocks that one burst touches: a worker's own scratch, grown once and then used again for ever.
 *
 * A block is known by the high half and the upper 29 bits of the low half of its numbers. Its entry lies in a table twice
 * as long as the burst, where its low bits say or as near behind as there is room; `order` names the entries as the burst
 * met them. Entries of other bursts count as free, so that forgetting them is one addition.
 */
export class Blocks {
  /** Entries of 8 words; an entry is named by its first word, so `table[entry | Entry.MASK]` is a word of it. */
  table: Int32Array = new Int32Array(0);
  order: Int32Array = new Int32Array(0);
  count = 0;
  #burst: number;
  #wrap = 0;
  /** Where the last search ended. */
  #free = 0;

  /** `burst` is the name of the first burst. */
  constructor(burst = 1) {
    this.#burst = burst;
    this.#grow(64);
  }

  /** Forgets all, and makes room for `more`. */
  begin(more: number): void {
    this.count = 0;
    this.#burst = (this.#burst + 1) | 0;
    if (this.#burst === 0) {
      // All names have been used: an entry left from the last round must not look like one of this.
      this.table.fill(0);
      this.#burst = 1;
    }
    if (more > this.order.length) this.#grow(more);
  }

  /** Makes room for `more` blocks beside those that are there. */
  reserve(more: number): void {
    if (this.count + more > this.order.length) this.#grow(this.count + more);
  }

  /** The name of the burst at hand; another than every other's of late. */
  get name(): number {
    return this.#burst;
  }

  /** Nothing is asked of any block. */
  forgetMasks(): void {
    const { table, order, count } = this;
    for (let k = 0; k < count; k++) table[order[k]! | Entry.MASK] = 0;
  }

  /** The entry of a block, or -1. */
  find(hi: number, block: number): number {
    // Literals where V8 sees them, each held to the table by its type.
    const HI: typeof Entry.HI = 1;
    const BLOCK: typeof Entry.BLOCK = 2;
    const table = this.table;
    const burst = this.#burst;
    for (let entry = (block << 3) & this.#wrap; ; entry = (entry + 8) & this.#wrap) {
      if (table[entry] !== burst) {
        this.#free = entry;
        return -1;
      }
      if (table[entry | BLOCK] === block && table[entry | HI] === hi) return entry;
    }
  }

  /** A new entry for the block that `find` has just not found. */
  add(hi: number, block: number, at: number, tag: number, word: number): number {
    const HI: typeof Entry.HI = 1;
    const BLOCK: typeof Entry.BLOCK = 2;
    const AT: typeof Entry.AT = 3;
    const TAG: typeof Entry.TAG = 4;
    const SEEN: typeof Entry.SEEN = 5;
    const TAKEN: typeof Entry.TAKEN = 6;
    const MASK: typeof Entry.MASK = 7;
    const table = this.table;
    const entry = this.#free;
    const lap = word >>> 8;
    this.order[this.count++] = entry;
    table[entry] = this.#burst;
    table[entry | HI] = hi;
    table[entry | BLOCK] = block;
    table[entry | AT] = at;
    table[entry | TAG] = tag;
    table[entry | SEEN] = word;
    table[entry | TAKEN] = lap > tag ? -1 : lap === tag ? word & 0xff : 0;
    table[entry | MASK] = 0;
    return entry;
  }

  #grow(need: number): void {
    const { table, order, count } = this;
    const size = 1 << Math.ceil(Math.log2(need));
    this.table = new Int32Array(2 * size * Entry.WORDS);
    this.order = new Int32Array(size);
    this.#wrap = (2 * size - 1) * Entry.WORDS;
    for (let k = 0; k < count; k++) {
      const old = order[k]!;
      this.find(table[old | Entry.HI]!, table[old | Entry.BLOCK]!);
      this.table.set(table.subarray(old, old + Entry.WORDS), this.#free);
      this.order[k] = this.#free;
    }
  }
}
