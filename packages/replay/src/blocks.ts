/**
 * The blocks that one burst touches: a worker's own scratch, grown once and then used again for ever.
 *
 * A block is known by the high half and the upper 29 bits of the low half of its numbers. Entries stand in the order in
 * which the burst met them; a table twice as long finds them again. A slot of the table counts only if the entry it names
 * names it back, so forgetting everything is `count = 0`.
 */
export class Blocks {
  count = 0;
  /** Where the block's word is. */
  at: Int32Array = new Int32Array(0);
  /** The tag its word has while it holds this block. */
  tag: Int32Array = new Int32Array(0);
  /** The word as last seen: what the next compare-and-swap expects. */
  seen: Int32Array = new Int32Array(0);
  /** One bit per number: asked for, and after the claim those granted. 0 when the entry is new. */
  mask: Int32Array = new Int32Array(0);

  #hi: Int32Array = new Int32Array(0);
  #block: Int32Array = new Int32Array(0);
  #slot: Int32Array = new Int32Array(0);
  #table: Int32Array = new Int32Array(0);
  #tableMask = 0;
  /** Where the last search ended. */
  #free = 0;

  constructor() {
    this.reserve(64);
  }

  /** Makes room for `more` blocks beside those that are there. */
  reserve(more: number): void {
    const need = this.count + more;
    if (need <= this.at.length) return;
    const size = 2 ** Math.ceil(Math.log2(need));
    this.at = grown(this.at, size);
    this.tag = grown(this.tag, size);
    this.seen = grown(this.seen, size);
    this.mask = grown(this.mask, size);
    this.#hi = grown(this.#hi, size);
    this.#block = grown(this.#block, size);
    this.#slot = grown(this.#slot, size);
    this.#table = new Int32Array(2 * size);
    this.#tableMask = 2 * size - 1;
    for (let k = 0; k < this.count; k++) {
      this.find(this.#hi[k]!, this.#block[k]!, k);
      this.#slot[k] = this.#free;
      this.#table[this.#free] = k;
    }
  }

  /** The entry of a block among the first `count`, or -1. */
  find(hi: number, block: number, count: number = this.count): number {
    const table = this.#table;
    for (let slot = block & this.#tableMask; ; slot = (slot + 1) & this.#tableMask) {
      const k = table[slot]!;
      if (k >= count || this.#slot[k] !== slot) {
        this.#free = slot;
        return -1;
      }
      if (this.#block[k] === block && this.#hi[k] === hi) return k;
    }
  }

  /** A new entry for the block that `find` has just not found. */
  add(hi: number, block: number, at: number, tag: number, word: number): number {
    const k = this.count++;
    this.#table[this.#free] = k;
    this.#slot[k] = this.#free;
    this.#hi[k] = hi;
    this.#block[k] = block;
    this.at[k] = at;
    this.tag[k] = tag;
    this.seen[k] = word;
    this.mask[k] = 0;
    return k;
  }
}

function grown(array: Int32Array, size: number): Int32Array {
  const bigger = new Int32Array(size);
  bigger.set(array);
  return bigger;
}
