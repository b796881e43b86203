import { reorderBudget } from '@espalier/bond';
import type { Spread } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { LINKS, type LinksOptions, links, QUEUE, RATE } from './links.ts';

const table: string[] = ['spread  flows  window  links  refused'];
async function measure(options: LinksOptions): ReturnType<typeof links> {
  const result = await links(options);
  const { spread, flows, window } = options;
  const columns = [spread.padEnd(6), String(flows).padStart(5), String(window).padStart(6)];
  table.push(
    `${columns.join('  ')}  ${result.links.toFixed(2).padStart(5)}  ${(100 * result.refused).toFixed(2).padStart(5)} %`,
  );
  return result;
}

describe('one SA offered four links of traffic', () => {
  it('fills one link with spread sa, whatever the number of flows', async () => {
    for (const flows of [4, 1024])
      expect((await measure({ spread: 'sa', flows, window: 4096 })).links).toBeCloseTo(1, 2);
  });

  it('fills at least 3.8 links with spread inner and 1,024 equal flows', async () => {
    for (const flows of [4, 16, 64]) await measure({ spread: 'inner', flows, window: 4096 });
    const { links: filled, refused } = await measure({ spread: 'inner', flows: 1024, window: 4096 });
    expect(filled).toBeGreaterThanOrEqual(3.8);
    expect(refused).toBe(0);
  });

  it('fills four links with spread spray, one flow or many', async () => {
    for (const flows of [1, 1024])
      expect((await measure({ spread: 'spray', flows, window: 4096 })).links).toBeCloseTo(4, 2);
  });

  it('has packets refused by a window that a full queue outruns, and none by one that holds the budget', async () => {
    for (const window of [64, 256, 512]) {
      const { refused } = await measure({ spread: 'inner', flows: 1024, window });
      if (window < QUEUE) expect(refused).toBeGreaterThan(0.01);
    }
    // A full queue in front of one link, none in front of another.
    const skew = QUEUE / RATE;
    const budget = reorderBudget({
      spread: 'inner',
      rate: LINKS * RATE,
      skew,
      workers: 1,
      block: LINKS * RATE,
      batch: RATE,
    });
    expect((await measure({ spread: 'inner', flows: 1024, window: budget })).refused).toBe(0);
  });

  it.each<Spread>(['inner', 'spray'])(
    'needs the window that the budget says when a link is slower, spread %s',
    async (spread) => {
      // Three quarters of the load, so that queues stay empty and the delay is all the skew there is.
      const load = 0.75;
      const delay = 10;
      const options = { spread, flows: 1024, load, delay };
      const block = LINKS * RATE * load;
      const budget = reorderBudget({ spread, rate: block, skew: delay, workers: 1, block, batch: RATE });
      expect((await measure({ ...options, window: budget })).refused).toBe(0);
      // Less than what the skew alone moves: nearly every packet of the slow link comes too late.
      const { refused } = await measure({ ...options, window: block * (delay - 2) });
      expect(refused).toBeGreaterThan(0.15);
    },
  );

  it('prints what it measured', () => {
    process.stdout.write(`${table.join('\n')}\n`);
    expect(table.length).toBeGreaterThan(10);
  });
});
