import { reconstruct, TWO_32 } from './esn.ts';
import { Verdict } from './layout.ts';
import type { Ring } from './ring.ts';
import { BLOCK, type Shape } from './shape.ts';

/** How far ahead of the sure numbers the short way judges, so that distances of its rows and of any row fit 32 bits. */
const FARTHEST = 2 ** 30;

/**
 * What one worker's burst is judged by: the edge as it was found, and what follows from it. Numbers below `sure` want to be
 * judged one by one; blocks from there on, up to `room` ahead and under the high half `sureHi`, are inside as a whole.
 */
export class Judge {
  /** The edge; -1 before the first. */
  found = -1;
  /** Greatest number that is known to have been announced: the edge's first, or a row of this burst. */
  run = 0.5;
  /** From here on the edge's missing precision cannot matter; at least 1. */
  sure = 0.5;
  sureLo = 0;
  sureHi = 0;
  /** How far ahead of `sure` a block may begin to be judged as a whole: within LIMIT, and under the same high half. */
  room = 0;
  /** Where the edge begins, as a distance from `sure`. */
  edgeAhead = 0;
  /** Greatest number taken in the edge's region; -1 until somebody has to know. */
  #top = -1.5;

  readonly #size: number;
  readonly #esn: boolean;
  readonly #limit: number;
  readonly #region: number;
  readonly #ring: Ring;

  constructor({ size, esn, limit, logRegion }: Shape, ring: Ring) {
    this.#size = size;
    this.#esn = esn;
    this.#limit = limit;
    this.#region = 1 << logRegion;
    this.#ring = ring;
  }

  /** What the edge, as it was found, says of all numbers. */
  by(edge: number): void {
    this.run = edge * this.#region;
    this.#top = -1;
    if (edge === this.found) return;
    this.found = edge;
    const sure = Math.max(1, this.run + this.#region - this.#size);
    this.sure = sure;
    this.sureHi = Math.floor(sure / TWO_32) | 0;
    this.sureLo = (sure - this.sureHi * TWO_32) | 0;
    this.room = (Math.min(this.#limit - sure, FARTHEST, TWO_32 - 1 - (this.sureLo >>> 0)) - (BLOCK - 1)) | 0;
    this.edgeAhead = (this.run - sure) | 0;
  }

  /** The high half under which `lo` lies in [bottom, bottom + 2^32); negative below the first window. */
  infer(lo: number): number {
    if (!this.#esn) return 0;
    const bottom = this.run - this.#size + 1;
    const hi = Math.floor(bottom / TWO_32);
    const ahead = (lo - bottom) | 0;
    // Where the edge leaves the bottom open, by the exact top.
    if (ahead >= 0 && ahead < this.#region - 1)
      return Math.floor(reconstruct(lo, this.#exactTop(), this.#size) / TWO_32) | 0;
    return (lo >= bottom - hi * TWO_32 ? hi : hi + 1) | 0;
  }

  /** Judges one number by the edge and the rows before it. */
  number(s: number): Verdict {
    if (s < 1) return Verdict.INVALID;
    if (s > this.#limit) return Verdict.EXHAUSTED;
    if (s <= this.run - this.#size) return Verdict.STALE;
    if (s < this.sure && s <= this.#exactTop() - this.#size) return Verdict.STALE;
    return Verdict.ACCEPT;
  }

  /** LOOK: the exact top, once per burst and phase, and only for numbers near the left edge. */
  #exactTop(): number {
    if (this.#top < 0) this.#top = this.#ring.topOf(this.found);
    return this.#top;
  }
}
