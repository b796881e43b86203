import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { random } from '../../../scripts/random.ts';
import { Arena, ReplayWindow, Verdict } from '../src/index.ts';
import { WindowWord } from '../src/layout.ts';
import { ICV, Rows } from './rows.ts';

const vectors = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`vectors/${name}`, import.meta.url), 'utf8'));

describe('published sequences', () => {
  const names: Record<string, number> = { accept: Verdict.ACCEPT, dup: Verdict.REPLAYED, old: Verdict.STALE };
  interface Sequence {
    id: string;
    window: number;
    esn: boolean;
    steps: [string, string][];
  }
  for (const sequence of vectors('replay-sequences.json') as Sequence[])
    it(`${sequence.id} gives the expected verdicts one by one and in bursts`, () => {
      const { window: size, esn, steps } = sequence;
      for (const burst of [1, 7, 32, 300]) {
        const window = ReplayWindow.create({ size, esn });
        const rows = new Rows(300);
        for (let i = 0; i < steps.length; i += burst) {
          const part = steps.slice(i, i + burst);
          const got = rows.offer(
            window,
            part.map(([s]) => Number(s)),
          );
          // Zero is refused as INVALID by us where others call it old.
          const want = part.map(([s, v]) => (Number(s) === 0 ? Verdict.INVALID : names[v]!));
          expect(got).toEqual(want);
        }
      }
    });
});

describe('a running Linux kernel', () => {
  interface Scenario {
    name: string;
    window: number;
    esn: boolean;
    init: { seq: number; seqHi: number };
    steps: { seq: string; verdict: string; top: string }[];
  }
  const kernel = vectors('linux-replay.json') as { scenarios: Scenario[] };
  for (const { name, window: size, esn, init, steps } of kernel.scenarios)
    it(`agrees step by step: ${name}, window ${size}${esn ? ', ESN' : ''}`, () => {
      const window = ReplayWindow.create({
        size,
        esn,
        ...(esn ? { limit: 2 ** (32 + Math.floor(Math.log2(size / 4))) - 1 } : {}),
      });
      const start = init.seqHi * 2 ** 32 + init.seq;
      if (start > 0) window.commit(start);
      const rows = new Rows(1);
      let skipped = 0;
      for (const step of steps) {
        const s = Number(step.seq);
        if (s === start && step.verdict === 'accept' && start > 0) {
          skipped++; // The kernel's first top is not marked as seen, ours has been.
          continue;
        }
        const [got] = rows.offer(window, [s], true);
        const want = {
          accept: [Verdict.ACCEPT],
          duplicate: [Verdict.REPLAYED],
          old: [Verdict.STALE],
          zero: [Verdict.INVALID],
          // Below the first window there is no number; the kernel guesses -1 and fails the ICV.
          integrity: [ICV, Verdict.INVALID],
        }[step.verdict]!;
        expect(want, `${step.seq} ${step.verdict}`).toContain(got);
        expect(window.top()).toBe(Number(step.top));
      }
      expect(skipped).toBeLessThan(2);
    });
  for (const { name, window: size, esn, init, steps } of kernel.scenarios)
    it(`agrees in bursts, some of them longer than the window: ${name}, window ${size}${esn ? ', ESN' : ''}`, () => {
      for (const burst of [7, 32, 2 * size]) {
        const window = ReplayWindow.create({ size, esn });
        const start = init.seqHi * 2 ** 32 + init.seq;
        if (start > 0) window.commit(start);
        // With the true high half; what the kernel guessed otherwise never reaches its window.
        const offered = steps.filter(({ seq, verdict }) => verdict !== 'integrity' && Number(seq) !== start);
        const rows = new Rows(2 * size + 32);
        for (let i = 0; i < offered.length; i += burst) {
          const part = offered.slice(i, i + burst);
          const got = rows.offer(
            window,
            part.map(({ seq }) => Number(seq)),
          );
          expect(got.map((fate) => fate === Verdict.ACCEPT)).toEqual(part.map(({ verdict }) => verdict === 'accept'));
        }
      }
    });
});

describe('the window', () => {
  it('infers the high half as RFC 4303 A2 does in both cases and refuses what lies below the first window', () => {
    const window = ReplayWindow.create({ size: 64, esn: true });
    expect(window.infer(5)).toBe(5);
    expect(window.infer(0xffff_fff0)).toBe(-1);
    window.commit(2 ** 32 - 10);
    expect(window.infer(2 ** 32 - 20)).toBe(2 ** 32 - 20);
    expect(window.infer(3)).toBe(2 ** 32 + 3);
    window.commit(2 ** 32 + 5);
    expect(window.infer(2 ** 32 - 20)).toBe(2 ** 32 - 20);
    expect(window.infer(2 ** 32 - 70)).toBe(2 ** 33 - 70);
  });

  it('keeps a high half that is already in the row', () => {
    const window = ReplayWindow.create({ size: 64, esn: true });
    const rows = new Rows(1);
    rows.fill([2 ** 32 + 7]);
    window.checkBurst(rows.rows, rows.list, 0, 1);
    expect(rows.number(0)).toBe(2 ** 32 + 7);
  });

  it('leaves copies inside a burst to the ICV, and then accepts one', () => {
    const window = ReplayWindow.create({ size: 64, esn: false });
    const rows = new Rows(3);
    rows.fill([9, 9, 9]);
    window.checkBurst(rows.rows, rows.list, 0, 3);
    expect([0, 1, 2].map((i) => rows.fate(i))).toEqual([0, 0, 0]);
    rows.setFate(0, ICV);
    window.commitBurst(rows.rows, rows.list, 0, 3);
    expect([0, 1, 2].map((i) => rows.fate(i))).toEqual([ICV, Verdict.ACCEPT, Verdict.REPLAYED]);
  });

  describe('takes over of a check only what its rows still ask for', () => {
    const BASE = 2 ** 32 + 1000;
    const all = [0, 1, 2, 3, 4, 5];
    const changes: Record<string, (rows: Rows) => void> = {
      'all of it': () => {},
      'but a row whose ICV failed': (rows) => rows.setFate(1, ICV),
      'but the greatest, whose ICV failed': (rows) => rows.setFate(5, ICV),
      'but nothing, as all ICVs failed': (rows) => {
        for (const i of all) rows.setFate(i, ICV);
      },
      'with another number': (rows) => rows.setNumber(0, BASE + 8),
      'with another high half': (rows) => rows.setNumber(5, rows.number(5) + 2 ** 32),
      'with other numbers of the same sum': (rows) => {
        for (const i of [0, 1, 2, 3]) rows.setNumber(i, BASE + [1, 4, 6, 12][i]!);
      },
      'with other numbers throughout': (rows) => {
        for (const i of all) rows.setNumber(i, BASE + 60 + 9 * i);
      },
    };
    for (const [name, change] of Object.entries(changes))
      it(name, () => {
        const window = ReplayWindow.create({ size: 256, esn: true });
        window.commit(BASE);
        const rows = new Rows(6);
        rows.fill([2, 3, 7, 11, 20, 90].map((s) => BASE + s));
        expect(window.checkBurst(rows.rows, rows.list, 0, 6)).toBe(0);
        change(rows);
        const want = all.filter((i) => rows.fate(i) === 0).map((i) => rows.number(i));
        window.commitBurst(rows.rows, rows.list, 0, 6);
        expect(want.filter((s) => !window.taken(s))).toEqual([]);
        expect(all.filter((i) => rows.fate(i) === 0).map((i) => rows.number(i))).toEqual(want);
        expect(window.top()).toBe(Math.max(BASE, ...want));
        expect(window.accepted()).toBe(1 + want.length);
      });

    it('one by one', () => {
      const window = ReplayWindow.create({ size: 1024, esn: true });
      window.acceptUpTo(2 ** 30 - 100);
      // Pairs that are alike in a square, a sum, or the lowest bits.
      for (const [checked, committed] of [
        [1, -1],
        [3, 2 ** 6 - 3],
        [5, 2 ** 9 + 5],
      ]) {
        window.check(2 ** 30 + checked!);
        const s = 2 ** 30 + committed!;
        expect([window.commit(s), window.commit(s)]).toEqual([Verdict.ACCEPT, Verdict.REPLAYED]);
        expect(window.taken(2 ** 30 + checked!)).toBe(false);
        expect(window.commit(s)).toBe(Verdict.REPLAYED);
      }
      window.check(2 ** 30 + 9);
      expect(window.commit(2 ** 32 + 2 ** 30 + 9)).toBe(Verdict.ACCEPT);
      const fresh = ReplayWindow.create({ size: 1024, esn: true });
      fresh.check(5);
      expect([fresh.commit(2 ** 32 - 5), fresh.commit(2 ** 32 - 5)]).toEqual([Verdict.ACCEPT, Verdict.REPLAYED]);
    });

    it('of nothing once an import has gone through the window', () => {
      const window = ReplayWindow.create({ size: 1024, esn: true });
      window.commit(1);
      window.acceptUpTo(8);
      const rows = new Rows(4);
      rows.fill([9, 10, 11, 12]);
      expect(window.checkBurst(rows.rows, rows.list, 0, 4)).toBe(0);
      window.acceptUpTo(12);
      window.commitBurst(rows.rows, rows.list, 0, 4);
      expect([0, 1, 2, 3].map((i) => rows.fate(i))).toEqual([0, 1, 2, 3].map(() => Verdict.REPLAYED));
    });

    it('with any single calls before it, as a window that is asked nothing else', () => {
      const below = random(11);
      const near = (): number => 2 ** 31 + below(64) * 2 ** below(6) * (below(2) === 0 ? 1 : -1) + below(4);
      const [asked, plain] = [0, 1].map(() => ReplayWindow.create({ size: 4096, esn: true }));
      for (const window of [asked!, plain!]) window.acceptUpTo(2 ** 31 - 4000);
      for (let i = 0; i < 20_000; i++) {
        for (let n = below(3); n > 0; n--) asked!.check(near());
        if (below(50) === 0) for (const window of [asked!, plain!]) window.acceptUpTo(2 ** 31 - 4000 + (i >> 3));
        const s = near() + (i >> 3);
        expect(asked!.commit(s)).toBe(plain!.commit(s));
      }
    });
  });

  it('check writes nothing shared', () => {
    const window = ReplayWindow.create({ size: 64, esn: true });
    window.commit(100);
    const before = Buffer.from(new Uint8Array(window.memory)).toString('hex');
    for (let s = 0; s < 300; s++) window.check(s);
    expect(Buffer.from(new Uint8Array(window.memory)).toString('hex')).toBe(before);
  });

  it('takes number 0 from the start, in the ring too', () => {
    const window = ReplayWindow.create({ size: 64, esn: true, workers: 2 });
    const words = new Int32Array(window.memory, (WindowWord.WORKER + 2 * WindowWord.WORDS_PER_WORKER) * 4);
    expect([words[0], words.subarray(1).some((word) => word !== 0)]).toEqual([1, false]);
    expect([window.check(0), window.commit(0), window.accepted()]).toEqual([Verdict.INVALID, Verdict.INVALID, 0]);
  });

  it('stops at its limit', () => {
    const window = ReplayWindow.create({ size: 64, esn: false, limit: 1000 });
    expect(window.commit(1000)).toBe(Verdict.ACCEPT);
    expect(window.commit(1001)).toBe(Verdict.EXHAUSTED);
    expect(window.check(1001)).toBe(Verdict.EXHAUSTED);
    expect(window.top()).toBe(1000);
  });

  it('takes at most 48 KiB at size 1024 and accepts 2^40 numbers', () => {
    expect(ReplayWindow.byteLength({ size: 1024, esn: true })).toBeLessThanOrEqual(48 * 1024);
    expect(ReplayWindow.create({ size: 1024, esn: true }).limit).toBe(2 ** 40 - 1);
  });

  it('counts everything up to a mark as seen', () => {
    for (const mark of [1, 63, 64, 1000, 2 ** 32 + 5]) {
      const window = ReplayWindow.create({ size: 100, esn: true });
      expect(window.acceptUpTo(mark)).toBe(true);
      expect(window.acceptUpTo(mark)).toBe(false);
      expect(window.top()).toBe(mark);
      for (let s = Math.max(1, mark - 150); s <= mark; s++) expect(window.commit(s)).not.toBe(Verdict.ACCEPT);
      expect(window.commit(mark + 1)).toBe(Verdict.ACCEPT);
    }
  });

  it('fits 100,000 times into one arena of 49 MiB at size 64, without ESN and with a line for each of 4 workers', () => {
    const options = { size: 64, esn: false };
    const bytes = ReplayWindow.byteLength(options);
    const arena = Arena.create(100_000 * bytes);
    expect(arena.memory.byteLength / 2 ** 20).toBeLessThan(49);
    for (let i = 0; i < 100_000; i++)
      ReplayWindow.create({ ...options, memory: arena.memory, offset: arena.allocate(bytes) });
    expect(arena.allocate(64)).toBe(-1);
    const last = ReplayWindow.attach(arena.memory, 99_999 * bytes);
    expect([last.commit(5), last.commit(5)]).toEqual([Verdict.ACCEPT, Verdict.REPLAYED]);
  });

  it('attaches to what create made and to nothing else', () => {
    const arena = Arena.create(1 << 20);
    const bytes = ReplayWindow.byteLength({ size: 64, esn: false });
    arena.allocate(64);
    const offset = arena.allocate(bytes);
    const window = ReplayWindow.create({ size: 64, esn: false, memory: arena.memory, offset });
    const other = ReplayWindow.attach(arena.memory, offset);
    expect(window.commit(7)).toBe(Verdict.ACCEPT);
    expect(other.commit(7)).toBe(Verdict.REPLAYED);
    expect(() => ReplayWindow.attach(arena.memory, 0)).toThrow(RangeError);
    expect(() => ReplayWindow.attach(arena.memory, 1)).toThrow(RangeError);
    expect(() => ReplayWindow.create({ size: 31, esn: false })).toThrow(RangeError);
    expect(() => ReplayWindow.create({ size: 2 ** 20 + 1, esn: false })).toThrow(RangeError);
  });
});
