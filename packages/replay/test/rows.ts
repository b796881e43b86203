import { Column } from '../src/layout.ts';
import type { ReplayWindow } from '../src/window.ts';

/** Rows for bursts of bare numbers. */
export class Rows {
  readonly rows: Int32Array;
  readonly list: Int32Array;

  constructor(capacity: number) {
    this.rows = new Int32Array(capacity * Column.WORDS);
    this.list = Int32Array.from({ length: capacity }, (_, i) => i);
  }

  /** Puts full numbers in; with `lowOnly` the high half is left to be inferred. */
  fill(numbers: readonly number[], lowOnly = false): void {
    numbers.forEach((s, i) => {
      const r = i * Column.WORDS;
      this.rows[r + Column.SEQ_LO] = s | 0;
      this.rows[r + Column.SEQ_HI] = lowOnly ? -1 : Math.floor(s / 2 ** 32);
      this.rows[r + Column.FATE] = 0;
    });
  }

  number(i: number): number {
    const r = i * Column.WORDS;
    return this.rows[r + Column.SEQ_HI]! * 2 ** 32 + (this.rows[r + Column.SEQ_LO]! >>> 0);
  }

  setNumber(i: number, s: number): void {
    this.rows[i * Column.WORDS + Column.SEQ_LO] = s | 0;
    this.rows[i * Column.WORDS + Column.SEQ_HI] = Math.floor(s / 2 ** 32);
  }

  fate(i: number): number {
    return this.rows[i * Column.WORDS + Column.FATE]!;
  }

  setFate(i: number, fate: number): void {
    this.rows[i * Column.WORDS + Column.FATE] = fate;
  }

  /** Check, an ICV that fails every row whose number is not the true one, commit. */
  offer(window: ReplayWindow, numbers: readonly number[], lowOnly = false): number[] {
    this.fill(numbers, lowOnly);
    const refused = window.checkBurst(this.rows, this.list, 0, numbers.length);
    const ended = numbers.filter((_, i) => this.fate(i) !== 0).length;
    if (refused !== ended) throw new Error(`checkBurst says that ${refused} rows have ended, and ${ended} have`);
    numbers.forEach((s, i) => {
      if (this.fate(i) === 0 && this.number(i) !== s) this.setFate(i, ICV);
    });
    window.commitBurst(this.rows, this.list, 0, numbers.length);
    return numbers.map((_, i) => this.fate(i));
  }
}

/** Stands for a failed ICV. */
export const ICV = 7;
