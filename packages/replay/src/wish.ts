import type { Judge } from './judge.ts';
import type { Column } from './layout.ts';

/**
 * What a burst asks of the window, beside the masks of its blocks: as its check has found it, or else its commit. In the
 * usual case, in which every ICV held and nobody has moved the edge since, a commit takes over what the check has found, and
 * need not lead each row to its block again: a third of the time.
 */
export class Wish {
  /** Rows that want to be accepted. */
  count = 0;
  /** Bits that are asked for more than once. */
  copies = 0;
  /** Greatest number asked for, and how far behind the greatest before it a block has begun: distances from `sure`. */
  run = 0;
  late = 0;
  /** Where the burst lies in the list whose check may be taken over; `#to` is -1 without one. */
  #from = 0;
  #to = -1;
  /** The edge that its rows were judged by. */
  #edge = -1;
  /** The burst's name among those of `Blocks`: what other calls have gone through them since has made the masks void. */
  #name = 0;
  /** Low halves of its rows, where they lie in the list; grown once and then used again for ever. */
  lows: Int32Array = new Int32Array(64);

  /** A check has ended; `whole` says that all rows stay, each with a bit of its own, under the judge's high half. */
  checked(whole: boolean, from: number, to: number, judge: Judge, name: number, run: number, late: number): void {
    this.#from = from;
    this.#to = whole ? to : -1;
    this.#edge = judge.found;
    this.#name = name;
    this.gathered(to - from, 0, run, late);
  }

  /** The rows have been gone through, by a check or by a commit that takes nothing over. */
  gathered(count: number, copies: number, run: number, late: number): void {
    this.count = count;
    this.copies = copies;
    this.run = run;
    this.late = late;
  }

  /** Whether this burst asks for just what its check found, and for the last time. */
  holds(rows: Int32Array, list: Int32Array, from: number, to: number, judge: Judge, name: number): boolean {
    const SEQ_LO: typeof Column.SEQ_LO = 6;
    const SEQ_HI: typeof Column.SEQ_HI = 7;
    const FATE: typeof Column.FATE = 9;
    if (this.#to !== to || this.#from !== from || this.#edge !== judge.found || this.#name !== name) return false;
    const { lows } = this;
    const sureHi = judge.sureHi | 0;
    const end = to | 0;
    let other = 0;
    let i = from | 0;
    // By fours: V8 looks at the arrays themselves, their kind, length and place, once in every turn of a loop.
    for (; i + 3 < end; i = (i + 4) | 0) {
      const a = list[i]! << 4;
      const b = list[i + 1]! << 4;
      const c = list[i + 2]! << 4;
      const d = list[i + 3]! << 4;
      other |= (rows[a | SEQ_LO]! ^ lows[i]!) | (rows[b | SEQ_LO]! ^ lows[i + 1]!);
      other |= (rows[c | SEQ_LO]! ^ lows[i + 2]!) | (rows[d | SEQ_LO]! ^ lows[i + 3]!);
      other |= rows[a | FATE]! | rows[b | FATE]! | rows[c | FATE]! | rows[d | FATE]!;
      other |= rows[a | SEQ_HI]! ^ sureHi;
      other |= rows[b | SEQ_HI]! ^ sureHi;
      other |= rows[c | SEQ_HI]! ^ sureHi;
      other |= rows[d | SEQ_HI]! ^ sureHi;
    }
    for (; i < end; i = (i + 1) | 0) {
      const r = list[i]! << 4;
      other |= rows[r | FATE]! | (rows[r | SEQ_HI]! ^ sureHi) | (rows[r | SEQ_LO]! ^ lows[i]!);
    }
    return other === 0;
  }

  /** Makes room for the low halves of a burst that ends at `to` in its list. */
  begin(to: number): Int32Array {
    if (to > this.lows.length) this.lows = new Int32Array(2 * to);
    return this.lows;
  }
}
