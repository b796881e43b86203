// Every state that workers of the shipped code can reach together, one atomic access a step: scripts/explorer.ts.
import { describe, expect, it } from 'vitest';
import { Violation } from '../../../scripts/explorer.ts';
import type { Edit } from '../../../scripts/instrument.ts';
import { type Deed, exploreAllocator } from './explored-allocator.ts';
import { line } from './explored-table.ts';

describe('the allocator, in every state that workers can reach together', () => {
  const r = (reserve: number): Deed => ({ reserve });
  const CASES: [string, number, Deed[][]][] = [
    [
      '2 workers, 3 bursts of 1 to 3, room for all',
      30,
      [
        [r(2), r(1), r(3)],
        [r(3), r(2), r(1)],
      ],
    ],
    [
      '2 workers, 3 bursts, a limit within',
      7,
      [
        [r(2), r(1), r(3)],
        [r(3), r(2), r(1)],
      ],
    ],
    [
      '3 workers, 2 bursts, a limit within',
      9,
      [
        [r(2), r(3)],
        [r(3), r(1)],
        [r(2), r(2)],
      ],
    ],
    [
      '3 workers, 2 bursts, a jump forward among them',
      20,
      [
        [r(2), r(3)],
        [{ advanceTo: 9 }, r(2)],
        [r(3), { advanceTo: 6 }],
      ],
    ],
    [
      '2 workers, a jump to the end',
      12,
      [
        [r(3), r(3), r(3)],
        [{ advanceTo: 13 }, r(1)],
      ],
    ],
  ];
  it('gives each number once, none beyond the limit, and none is lost', async () => {
    for (const [name, limit, workers] of CASES) {
      const { states, schedules } = await exploreAllocator(limit, workers);
      line(`allocator, ${name}`, 1, states, schedules);
      expect(schedules).toBeGreaterThan(10);
    }
  });

  const SWAP = 'const found = Atomics.compareExchange(this.#next, 0, seen, BigInt(next + take));';
  const FILE = 'allocator.ts';
  it.each<[string, Edit[]]>([
    [
      'a load and a store instead of the swap',
      [{ file: FILE, find: SWAP, replace: 'Atomics.store(this.#next, 0, BigInt(next + take)); const found = seen;' }],
    ],
    ['no saturation', [{ file: FILE, find: 'Math.min(count, this.#seenMark + 1 - next)', replace: 'count' }]],
    ['a jump that may go back', [{ file: FILE, find: 'seen < wanted;', replace: 'seen !== wanted;' }]],
  ])('finds out a build with: %s', async (_, edits) => {
    const found = [];
    for (const [, limit, workers] of CASES) {
      try {
        await exploreAllocator(limit, workers, edits);
      } catch (error) {
        if (!(error instanceof Violation)) throw error;
        found.push(error);
      }
    }
    expect(found.length).toBeGreaterThan(0);
  });
});
