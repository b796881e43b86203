import { Column, Verdict } from '../src/layout.ts';

const { WORDS, SEQ_LO, FATE } = Column;

/**
 * The bitmap of RFC 6479 put into shared memory as it stands: raise the top, clear what it skipped, turn the bit on. It is
 * wrong there (two workers find one bit off, and a bit that is on may be cleared by who raised the top a while ago), and
 * every race must find that out. Numbers below 2^31 only.
 */
export class Naive6479 {
  readonly #words: Int32Array;
  readonly #size: number;
  readonly #ring: number;

  constructor(memory: SharedArrayBuffer, size: number) {
    this.#words = new Int32Array(memory);
    this.#size = size;
    this.#ring = size / 32 + 1;
  }

  static byteLength(size: number): number {
    return (16 + size / 32 + 1) * 4;
  }

  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    const top = this.#words[0]!;
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      const s = rows[r + SEQ_LO]!;
      if (s <= top - this.#size) rows[r + FATE] = Verdict.STALE;
      else if (s <= top && ((this.#words[this.#wordOf(s)]! >>> (s & 31)) & 1) !== 0) rows[r + FATE] = Verdict.REPLAYED;
    }
  }

  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      if (rows[r + FATE] === 0) rows[r + FATE] = this.#commit(rows[r + SEQ_LO]!);
    }
  }

  #commit(s: number): Verdict {
    const top = this.#words[0]!;
    if (s <= top - this.#size) return Verdict.STALE;
    if (s > top) {
      this.#words[0] = s;
      for (let b = Math.max(top >>> 5, (s >>> 5) - this.#ring) + 1; b <= s >>> 5; b++)
        this.#words[16 + (b % this.#ring)] = 0;
    }
    const at = this.#wordOf(s);
    const word = this.#words[at]!;
    const bit = 1 << (s & 31);
    if ((word & bit) !== 0) return Verdict.REPLAYED;
    this.#words[at] = word | bit;
    return Verdict.ACCEPT;
  }

  #wordOf(s: number): number {
    return 16 + ((s >>> 5) % this.#ring);
  }
}
