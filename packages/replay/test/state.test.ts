import { describe, expect, it } from 'vitest';
import { exportMark, exportState, importState, ReplayWindow, Resync, Verdict } from '../src/index.ts';

function hole(window: ReplayWindow, from: number, to: number): void {
  for (let s = from; s <= to; s++) if (s % 3 !== 0) window.commit(s);
}

describe('export and import of a window', () => {
  it('at rest is exact, into a window of any size', () => {
    for (const size of [32, 100, 128])
      for (const other of [32, 64, 101, 1024]) {
        const window = ReplayWindow.create({ size, esn: true });
        hole(window, 2 ** 32 - 90, 2 ** 32 + 40);
        const copy = ReplayWindow.create({ size: other, esn: true });
        importState(copy, structuredClone(exportState(window)));
        expect(copy.top()).toBe(window.top());
        for (let s = window.top() - 300; s <= window.top() + 20; s++) {
          const both = window.check(s) === Verdict.ACCEPT && s > window.top() - other;
          expect(copy.check(s) === Verdict.ACCEPT, `${size} to ${other}: ${s}`).toBe(both);
        }
      }
  });

  it('of a new window leaves a new window', () => {
    const copy = ReplayWindow.create({ size: 64, esn: false });
    importState(copy, exportState(ReplayWindow.create({ size: 64, esn: false })));
    expect([copy.top(), copy.commit(1)]).toEqual([0, Verdict.ACCEPT]);
  });

  it('in use is a mark: everything up to top and a margin counts as seen', () => {
    const window = ReplayWindow.create({ size: 64, esn: true });
    hole(window, 1, 500);
    const mark = exportMark(window, 100);
    hole(window, 501, 580); // Still arriving while the copy is made.
    const copy = ReplayWindow.create({ size: 64, esn: true });
    copy.acceptUpTo(mark);
    for (let s = 1; s <= 580; s++) expect(copy.commit(s)).not.toBe(Verdict.ACCEPT);
    expect(copy.commit(mark + 1)).toBe(Verdict.ACCEPT);
  });

  it('refuses what is no state', () => {
    const window = ReplayWindow.create({ size: 64, esn: false });
    const state = exportState(window);
    expect(() => importState(window, { ...state, esn: true })).toThrow(RangeError);
    expect(() => importState(window, { ...state, top: 2 ** 33 })).toThrow(RangeError);
    expect(() => importState(window, { ...state, format: 2 as 1 })).toThrow(RangeError);
  });
});

describe('accounts', () => {
  it('tell how many numbers left the window unseen, exactly at rest', () => {
    for (const size of [32, 64, 100, 1024]) {
      const window = ReplayWindow.create({ size, esn: true });
      const seen = new Set<number>();
      let top = 0;
      let x = size;
      const next = (n: number): number => (x = (Math.imul(x, 1103515245) + 12345) >>> 0) % n;
      for (let i = 0; i < 5000; i++) {
        const s = Math.max(1, top + next(9) - 4 + (next(100) === 0 ? next(2 * size) : 0));
        if (window.commit(s) === Verdict.ACCEPT) seen.add(s);
        top = Math.max(top, s);
        if (i % 97 === 0) {
          let lost = 0;
          for (let n = 1; n <= top - size; n++) if (!seen.has(n)) lost++;
          expect(window.lost()).toBe(lost);
          expect(window.accepted()).toBe(seen.size);
        }
      }
    }
  });

  it('are kept apart by worker and added up on reading', () => {
    const a = ReplayWindow.create({ size: 64, esn: false, workers: 2 });
    const b = ReplayWindow.attach(a.memory, a.offset, 1);
    for (let s = 1; s <= 1000; s++) (s % 2 === 0 ? a : b).commit(s);
    expect([a.accepted(), b.accepted(), a.lost()]).toEqual([1000, 1000, 0]);
    expect(() => ReplayWindow.attach(a.memory, a.offset, 2)).toThrow(RangeError);
  });

  it('do not count as lost what an import counts as seen', () => {
    const window = ReplayWindow.create({ size: 64, esn: true });
    hole(window, 1, 301);
    const lost = window.lost();
    expect(lost).toBe(Math.floor((301 - 64) / 3));
    window.acceptUpTo(10_000);
    expect(window.lost()).toBe(lost);
    window.commit(10_200);
    expect(window.lost()).toBe(lost + 10_200 - 64 - 10_000);
    const inside = ReplayWindow.create({ size: 64, esn: true });
    hole(inside, 1, 100);
    inside.acceptUpTo(90);
    expect(inside.lost()).toBe(Math.floor((100 - 64) / 3));
    for (let s = 1; s <= 90; s++) expect(inside.commit(s)).not.toBe(Verdict.ACCEPT);
    expect(inside.commit(93)).toBe(Verdict.ACCEPT);
  });

  it('tell how late an accepted number was, never too low and by less than G + 7 too high', () => {
    for (const size of [32, 100, 1024]) {
      const region = 2 ** (Math.floor(Math.log2(size)) - 2);
      const window = ReplayWindow.create({ size, esn: true });
      expect(window.lateness()).toBe(0);
      let late = 0;
      let top = 5000;
      window.commit(top);
      for (const behind of [3, 1, size >> 1, size - 1, size + 5]) {
        if (window.commit(top - behind) === Verdict.ACCEPT) late = Math.max(late, behind);
        expect(window.lateness()).toBeGreaterThanOrEqual(late);
        expect(window.lateness()).toBeLessThan(late + region + 7);
        window.commit(++top);
      }
      expect(late).toBe(size - 1);
    }
  });
});

describe('resynchronisation (RFC 4303 A3)', () => {
  it('finds a sender that has gone on for several subspaces, and moves nothing before an ICV holds', () => {
    const window = ReplayWindow.create({ size: 64, esn: true });
    window.commit(1000);
    const resync = new Resync(window, { threshold: 5, attempts: 8 });
    const truth = 3 * 2 ** 32 + 77;
    for (let i = 0; i < 4; i++) expect(resync.failed()).toBe(false);
    expect(resync.failed()).toBe(true);
    let tried = 0;
    let number = 0;
    for (let i = 1; (number = resync.candidate(truth >>> 0, i)) > 0; i++) {
      tried++;
      expect(window.top()).toBe(1000);
      if (number === truth) break;
    }
    // 77 is behind the first window's bottom, so that it is inferred one subspace on already.
    expect([number, tried]).toEqual([truth, window.infer(77) < 2 ** 32 ? 3 : 2]);
    expect(window.commit(number)).toBe(Verdict.ACCEPT);
    expect(window.infer(78)).toBe(truth + 1);
  });

  it('tries a bounded number of candidates once per threshold, and none without ESN or beyond LIMIT', () => {
    const window = ReplayWindow.create({ size: 64, esn: true, limit: 2 ** 34 });
    const resync = new Resync(window, { threshold: 3, attempts: 8 });
    expect([1, 2, 3, 4, 5, 6, 7].map(() => resync.failed())).toEqual([false, false, true, false, false, true, false]);
    resync.held();
    expect([resync.failed(), resync.failed(), resync.failed()]).toEqual([false, false, true]);
    expect([1, 2, 3, 4, 9].map((i) => resync.candidate(5, i))).toEqual([
      2 ** 32 + 5,
      2 ** 33 + 5,
      3 * 2 ** 32 + 5,
      -1,
      -1,
    ]);
    const plain = new Resync(ReplayWindow.create({ size: 64, esn: false }), { threshold: 1 });
    expect(plain.failed()).toBe(false);
  });
});

describe('limits', () => {
  it('are 2^40 numbers with ESN whatever the size, with a soft threshold at nine tenths', () => {
    for (const size of [32, 64, 1024]) {
      const window = ReplayWindow.create({ size, esn: true });
      expect(window.limit).toBe(2 ** 40 - 1);
      expect(window.soft).toBe(Math.floor((2 ** 40 - 1) * 0.9));
      expect(window.commit(2 ** 40 - 1)).toBe(Verdict.ACCEPT);
      expect(window.commit(2 ** 40 - 1)).toBe(Verdict.REPLAYED);
      expect(window.commit(2 ** 40 - 2)).toBe(Verdict.ACCEPT);
      expect(window.commit(2 ** 40)).toBe(Verdict.EXHAUSTED);
      expect(window.top()).toBe(2 ** 40 - 1);
    }
  });

  it('may go beyond 2^40 for more memory', () => {
    const window = ReplayWindow.create({ size: 64, esn: true, limit: 2 ** 42 });
    for (const s of [2 ** 42 - 5, 2 ** 42 - 40, 2 ** 42]) {
      expect(window.commit(s)).toBe(Verdict.ACCEPT);
      expect(window.commit(s)).toBe(Verdict.REPLAYED);
    }
    expect(window.commit(2 ** 42 - 64)).toBe(Verdict.STALE);
  });
});
