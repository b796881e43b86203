import { Verdict } from '../src/layout.ts';

/** The window that nobody can doubt: a set of everything ever accepted, and a maximum. */
export class NaiveWindow {
  readonly size: number;
  readonly limit: number;
  readonly seen: Set<number> = new Set([0]);
  top = 0;

  constructor(size: number, limit: number) {
    this.size = size;
    this.limit = limit;
  }

  commit(seq: number): Verdict {
    const verdict = this.check(seq);
    if (verdict !== Verdict.ACCEPT) return verdict;
    this.seen.add(seq);
    this.top = Math.max(this.top, seq);
    return Verdict.ACCEPT;
  }

  check(seq: number): Verdict {
    if (seq < 1) return Verdict.INVALID;
    if (seq > this.limit) return Verdict.EXHAUSTED;
    if (seq <= this.top - this.size) return Verdict.STALE;
    return this.seen.has(seq) ? Verdict.REPLAYED : Verdict.ACCEPT;
  }
}
