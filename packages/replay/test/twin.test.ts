// The naive twin: 10^7 seeded operations in all, both widths, through bursts and one by one; about 10 s.
import { afterAll, describe, expect, it } from 'vitest';
import { random } from '../../../scripts/random.ts';
import { ReplayWindow, Verdict } from '../src/index.ts';
import { NaiveWindow } from './naive-window.ts';
import { Rows } from './rows.ts';

/** Sizes around powers of two, and one far from any. */
const SIZES = [32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 65_537];
const PER_SIZE = 540_000;
const MOST = 1500;
let operations = 0;

/** Numbers of one burst: mostly the next ones, else old ones, copies, jumps, and the edges of the window. */
function numbersOf(next: (below: number) => number, top: number, size: number): number[] {
  const length = next(12) === 0 ? 1 + next(Math.min(3 * size, MOST)) : 1 + next(48);
  let s = top + next(9) - next(5);
  const numbers: number[] = [];
  for (let i = 0; i < length; i++) {
    const kind = next(20);
    if (kind < 12) s++;
    else if (kind < 14) s -= next(40);
    else if (kind < 15) s = top - size + next(24) - 12;
    else if (kind < 16) s = top - next(size + 20);
    else if (kind === 16) s += next(3 * size);
    else if (kind === 17 && numbers.length > 0) s = numbers[next(numbers.length)]!;
    numbers.push(Math.max(0, s));
  }
  return numbers;
}

describe('a naive twin', () => {
  it.each(SIZES)('agrees on seeded operations around 0, 2^32 and LIMIT, window %i', (size) => {
    const lanes = [false, true].flatMap((esn) =>
      [0, 5, 2 ** 32 - 3 * size, ...(esn ? [2 ** 32 - 5, 3 * 2 ** 32 - size] : []), -1].map((start) => ({
        esn,
        start,
      })),
    );
    for (const [lane, { esn, start }] of lanes.entries()) {
      const window = ReplayWindow.create({ size, esn });
      const naive = new NaiveWindow(size, window.limit);
      const rows = new Rows(Math.max(4 * size, MOST));
      const next = random(size * 31 + lane);
      const begin = start < 0 ? window.limit - 20 * size : start;
      if (begin > 0) {
        window.commit(begin);
        naive.commit(begin);
      }
      const wrong = (what: string, n: number, got: unknown, want: unknown): never =>
        expect.fail(
          `${what}: size ${size} esn ${esn} start ${start}: ${n} with top ${naive.top} gave ${got}, want ${want}`,
        );
      for (let done = 0; done < PER_SIZE / lanes.length; ) {
        const numbers = numbersOf(next, naive.top, size);
        done += numbers.length;
        if (next(4) === 0) {
          for (const n of numbers) {
            if (window.check(n) !== naive.check(n)) wrong('check', n, window.check(n), naive.check(n));
            const got = window.commit(n);
            const want = naive.commit(n);
            if (got !== want) wrong('commit', n, got, want);
          }
        } else {
          // A burst is checked against the window as it was, then committed row by row.
          const advice = numbers.map((n) => naive.check(n));
          const got = rows.offer(window, numbers);
          for (let i = 0; i < numbers.length; i++) {
            const want = advice[i] !== Verdict.ACCEPT ? advice[i] : naive.commit(numbers[i]!);
            if (got[i] !== want) wrong('burst', numbers[i]!, got[i], want);
          }
        }
        if (window.top() !== naive.top) wrong('top', 0, window.top(), naive.top);
      }
      operations += PER_SIZE / lanes.length;
      let lost = 0;
      if (start === 0) {
        for (let n = 1; n <= naive.top - size; n++) if (!naive.seen.has(n)) lost++;
        expect(window.lost()).toBe(lost);
      }
    }
  });
});

afterAll(() => {
  process.stdout.write(`naive twin: ${Math.round(operations)} operations agreed\n`);
  expect(operations).toBeGreaterThanOrEqual(1e7);
});
