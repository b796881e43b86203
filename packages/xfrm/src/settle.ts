import { type Burst, type FramePool, Row } from '@espalier/wire';

/**
 * The end of a burst: counts every row that has a FATE in `drops[fate]`, gives its frame back, and empties the burst.
 * Rows without a FATE have been taken by a port. Returns how many rows were dropped.
 */
export function settle(burst: Burst, pool: FramePool, drops: Float64Array): number {
  const { rows, list } = burst;
  let dropped = 0;
  for (let i = 0; i < burst.length; i++) {
    const row = list[i]!;
    const fate = rows[row * Row.WORDS + Row.FATE]!;
    if (fate === 0) continue;
    drops[fate] = drops[fate]! + 1;
    pool.give(row);
    dropped++;
  }
  burst.length = 0;
  return dropped;
}
