/** Other ways to keep one window for several threads, as the shipped one is measured against; 64-bit numbers all of them. */
import { Row } from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';

/** A window over rows, as `ReplayWindow` is one. */
export interface BurstWindow {
  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void;
  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void;
}

const TWO_32 = 2 ** 32;
const LINE = 16;

/** The bitmap of RFC 6479 as one thread alone may have it: no atomic anywhere. What a window costs if nobody shares it. */
export class PlainBitmap implements BurstWindow {
  readonly #words: Int32Array;
  readonly #top: Float64Array;
  readonly #size: number;
  readonly #mask: number;

  constructor(memory: SharedArrayBuffer, size: number) {
    this.#top = new Float64Array(memory, 0, 1);
    this.#words = new Int32Array(memory, 64);
    this.#size = size;
    this.#mask = this.#words.length - 1;
  }

  static byteLength(size: number): number {
    return 64 + (size / 32) * 2 * 4;
  }

  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] === 0) rows[r + Row.FATE] = this.check(rows, r);
    }
  }

  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] === 0) rows[r + Row.FATE] = this.commit(rows, r);
    }
  }

  check(rows: Int32Array, r: number): number {
    const top = this.#top[0]!;
    const lo = rows[r + Row.SEQ_LO]! >>> 0;
    if (rows[r + Row.SEQ_HI] === -1) rows[r + Row.SEQ_HI] = infer(lo, top - this.#size + 1);
    const s = rows[r + Row.SEQ_HI]! * TWO_32 + lo;
    if (s > top) return 0;
    if (s <= top - this.#size) return DropReason.STALE;
    return ((this.#words[(lo >>> 5) & this.#mask]! >>> (lo & 31)) & 1) !== 0 ? DropReason.REPLAYED : 0;
  }

  commit(rows: Int32Array, r: number): number {
    const top = this.#top[0]!;
    const lo = rows[r + Row.SEQ_LO]! >>> 0;
    const s = rows[r + Row.SEQ_HI]! * TWO_32 + lo;
    if (s > top) {
      const blocks = Math.min(this.#mask + 1, Math.floor(s / 32) - Math.floor(top / 32));
      for (let b = 0; b < blocks; b++) this.#words[((lo >>> 5) - b) & this.#mask] = 0;
      this.#top[0] = s;
    } else if (s <= top - this.#size) return DropReason.STALE;
    const at = (lo >>> 5) & this.#mask;
    const word = this.#words[at]!;
    if (((word >>> (lo & 31)) & 1) !== 0) return DropReason.REPLAYED;
    this.#words[at] = word | (1 << (lo & 31));
    return 0;
  }
}

/** That bitmap behind one spin lock: taken once for a burst's check and once for its commit. A dead owner blocks all. */
export class LockedBitmap implements BurstWindow {
  readonly #bitmap: PlainBitmap;
  readonly #lock: Int32Array;

  constructor(memory: SharedArrayBuffer, size: number) {
    this.#bitmap = new PlainBitmap(memory, size);
    this.#lock = new Int32Array(memory, 32, 1);
  }

  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0);
    this.#bitmap.checkBurst(rows, list, from, to);
    Atomics.store(this.#lock, 0, 0);
  }

  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0);
    this.#bitmap.commitBurst(rows, list, from, to);
    Atomics.store(this.#lock, 0, 0);
  }
}

/** That bitmap behind one spin lock that is taken twice for each packet, as a datapath without bursts does. */
export class LockedPerPacket implements BurstWindow {
  readonly #bitmap: PlainBitmap;
  readonly #lock: Int32Array;

  constructor(memory: SharedArrayBuffer, size: number) {
    this.#bitmap = new PlainBitmap(memory, size);
    this.#lock = new Int32Array(memory, 32, 1);
  }

  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0);
      this.#bitmap.checkBurst(rows, list, i, i + 1);
      Atomics.store(this.#lock, 0, 0);
    }
  }

  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0);
      this.#bitmap.commitBurst(rows, list, i, i + 1);
      Atomics.store(this.#lock, 0, 0);
    }
  }
}

/** Without a lock, one register per number modulo the size: a compare-and-swap per packet, and the top raised by each. */
export class SwapPerPacket implements BurstWindow {
  readonly #top: Int32Array;
  readonly #slots: Int32Array;
  readonly #size: number;
  readonly #lines: number;

  /** `size` is a power of two; tops below 2^31 times 32, which is all that a measurement reaches. */
  constructor(memory: SharedArrayBuffer, size: number) {
    this.#top = new Int32Array(memory, 0, 1);
    this.#slots = new Int32Array(memory, 64, size);
    this.#size = size;
    this.#lines = Math.log2(size / LINE);
  }

  static byteLength(size: number): number {
    return 64 + size * 4;
  }

  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      const top = Atomics.load(this.#top, 0) >>> 0;
      const lo = rows[r + Row.SEQ_LO]! >>> 0;
      if (rows[r + Row.SEQ_HI] === -1) rows[r + Row.SEQ_HI] = infer(lo, top - this.#size + 1);
      const s = rows[r + Row.SEQ_HI]! * TWO_32 + lo;
      if (s <= top - this.#size) rows[r + Row.FATE] = DropReason.STALE;
      else if (Atomics.load(this.#slots, this.#slotOf(lo)) >= Math.floor(s / this.#size) + 1)
        rows[r + Row.FATE] = DropReason.REPLAYED;
    }
  }

  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] === 0) rows[r + Row.FATE] = this.#commit(rows, r);
    }
  }

  #commit(rows: Int32Array, r: number): number {
    const lo = rows[r + Row.SEQ_LO]! >>> 0;
    const s = rows[r + Row.SEQ_HI]! * TWO_32 + lo;
    let top = Atomics.load(this.#top, 0) >>> 0;
    while (top < s) {
      const found = Atomics.compareExchange(this.#top, 0, top | 0, s | 0) >>> 0;
      if (found === top) break;
      top = found;
    }
    if (s <= top - this.#size) return DropReason.STALE;
    const at = this.#slotOf(lo);
    const lap = Math.floor(s / this.#size) + 1;
    for (let seen = Atomics.load(this.#slots, at); ; ) {
      if (seen >= lap) return seen === lap ? DropReason.REPLAYED : DropReason.STALE;
      const found = Atomics.compareExchange(this.#slots, at, seen, lap);
      if (found === seen) return 0;
      seen = found;
    }
  }

  /** Neighbouring numbers on different lines. */
  #slotOf(lo: number): number {
    const index = lo & (this.#size - 1);
    return ((index & ((1 << this.#lines) - 1)) << 4) | (index >>> this.#lines);
  }
}

/**
 * No window: the accesses that one cannot do without, to say what of a window's time is its own. Both readings of the rows,
 * a load of the edge for each, a read and a compare-and-swap for each block of 8 numbers in order. Accepts everything.
 */
export class AccessesAlone implements BurstWindow {
  readonly #words: Int32Array;
  readonly #mask: number;
  /** The word of the last block that a check read; public, so that the read is not deleted. */
  seen = 0;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory, 64);
    this.#mask = this.#words.length - 1;
  }

  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    const words = this.#words;
    const hi = Atomics.load(words, 0) & 0;
    let block = -1;
    for (let i = from; i < to; i++) {
      const r = list[i]! * Row.WORDS;
      const lo = rows[r + Row.SEQ_LO]!;
      if (rows[r + Row.FATE] !== 0 || rows[r + Row.SEQ_HI] !== -1) continue;
      rows[r + Row.SEQ_HI] = hi;
      if (lo >>> 3 === block) continue;
      block = lo >>> 3;
      this.seen = words[block & this.#mask]!;
    }
  }

  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    const words = this.#words;
    const hi = Atomics.load(words, 0) & 0;
    let block = -1;
    for (let i = from; i < to; i++) {
      const r = list[i]! * Row.WORDS;
      const lo = rows[r + Row.SEQ_LO]!;
      if (rows[r + Row.FATE] !== 0 || rows[r + Row.SEQ_HI] !== hi || lo >>> 3 === block) continue;
      block = lo >>> 3;
      const at = block & this.#mask;
      Atomics.compareExchange(words, at, words[at]!, block);
    }
  }
}

/** The high half of the number congruent to `lo` in [bottom, bottom + 2^32). */
function infer(lo: number, bottom: number): number {
  const hi = Math.floor(bottom / TWO_32);
  return lo >= bottom - hi * TWO_32 ? hi : hi + 1;
}
