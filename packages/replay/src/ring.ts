import type { Blocks, Entry } from './blocks.ts';
import { TWO_32 } from './esn.ts';
import { ringOf } from './header.ts';
import { stripe } from './layout.ts';
import { BLOCK, LOG_BLOCK, type Shape } from './shape.ts';

/** The words of a window, one for each block of 8 numbers, and the swap that takes a number. */
export class Ring {
  /** The window's memory, from where it begins. */
  readonly words: Int32Array;
  /** Swaps that found another word than expected; this worker's. */
  swapFailures = 0;
  readonly #first: number;
  readonly #logBlocks: number;
  readonly #blockMask: number;
  readonly #logLines: number;
  readonly #region: number;

  constructor(words: Int32Array, shape: Shape) {
    this.words = words;
    this.#first = ringOf(shape);
    this.#logBlocks = shape.logBlocks;
    this.#blockMask = (1 << shape.logBlocks) - 1;
    this.#logLines = Math.max(0, shape.logBlocks - 4);
    this.#region = 1 << shape.logRegion;
  }

  /** Where the word of a block lies in `words`. */
  at(block: number): number {
    return this.#first + stripe(block & this.#blockMask, this.#logLines);
  }

  /** Which lap of the ring a block belongs to: 24 bits, since LIMIT keeps the high half small enough for the shift. */
  tag(hi: number, block: number): number {
    return (hi << (32 - LOG_BLOCK - this.#logBlocks)) | (block >>> this.#logBlocks);
  }

  /**
   * Takes the numbers in the MASK of every entry. Where not all were granted, leaves in MASK those that were, and in SEEN a
   * word that shows why: one of a newer tag only if that was the reason. Whether it got all.
   */
  claim({ table, order, count }: Blocks): boolean {
    const AT: typeof Entry.AT = 3;
    const TAG: typeof Entry.TAG = 4;
    const SEEN: typeof Entry.SEEN = 5;
    const MASK: typeof Entry.MASK = 7;
    const words = this.words;
    let whole = true;
    for (let k = 0; k < count; k = (k + 1) | 0) {
      const entry = order[k]!;
      const asked = table[entry | MASK]!;
      const at = table[entry | AT]!;
      const tag = table[entry | TAG]!;
      let word = table[entry | SEEN]!;
      while (asked !== 0) {
        const lap = word >>> 8;
        const fresh = lap < tag ? asked : lap === tag ? asked & ~word : 0;
        if (fresh !== asked) {
          whole = false;
          table[entry | MASK] = fresh;
          table[entry | SEEN] = word;
          if (fresh === 0) break;
        }
        const next = lap < tag ? (tag << 8) | asked : word | fresh;
        const found = Atomics.compareExchange(words, at, word, next);
        if (found === word) break;
        this.swapFailures++;
        word = found;
      }
    }
    return whole;
  }

  /** The greatest number taken in a region; its first when none is yet (announced, not claimed). */
  topOf(region: number): number {
    const first = region * this.#region;
    const last = first + this.#region - 1;
    for (let s = last - BLOCK + 1; s >= first; s -= BLOCK) {
      const hi = Math.floor(s / TWO_32);
      const word = Atomics.load(this.words, this.at(s >>> LOG_BLOCK));
      const tag = this.tag(hi, s >>> LOG_BLOCK);
      // A newer lap: something far beyond the region has been taken.
      if (word >>> 8 > tag) return last;
      if (word >>> 8 === tag && (word & 0xff) !== 0) return s + 31 - Math.clz32(word & 0xff);
    }
    return first;
  }
}
