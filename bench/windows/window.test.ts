// The window's speed as ratios to its rivals in the same run, one thread each in a process of its own; about 10 s.
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { bundle } from '../frame/bundle.ts';
import type { Round } from '../frame/child.ts';
import { ask } from '../frame/rounds.ts';

const root = process.cwd();
/** Least nanoseconds per packet of each, the dealing subtracted. */
const costs: Record<string, number> = {};

async function measure(): Promise<void> {
  const [program] = await bundle(root, root, ['window'], join(root, 'build', 'bench', 'window-test'));
  const cost = async (window: string, deal: string): Promise<number> => {
    const variant = { window, deal, threads: 1, size: 1024 };
    return (await ask<Round>(program!, { do: 'measure', variant, milliseconds: 60 })).min;
  };
  const wanted = { 'in order': 'runs of 32', reordered: 'reordered in 64', replayed: 'replayed' };
  for (let round = 0; round < 2; round++) {
    const least = (name: string, ns: number): number => (costs[name] = Math.min(costs[name] ?? Infinity, ns));
    const dealing = least('dealing', await cost('none: dealing alone', 'runs of 32'));
    for (const [name, deal] of Object.entries(wanted)) least(name, (await cost('shipped', deal)) - dealing);
    for (const rival of ['plain bitmap', 'spin lock per packet', 'CAS per packet'])
      least(rival, (await cost(rival, 'runs of 32')) - dealing);
  }
}

describe('check and commit of a burst on one thread', () => {
  const ratio = (a: string, b: string): number => costs[a]! / costs[b]!;

  it('cost at most half of a compare-and-swap, and of a lock, per packet', { timeout: 120_000 }, async () => {
    await measure();
    expect(ratio('in order', 'CAS per packet')).toBeLessThan(0.5);
    expect(ratio('in order', 'spin lock per packet')).toBeLessThan(0.5);
  });

  it('cost little more than a bitmap that nobody shares', () => {
    expect(ratio('in order', 'plain bitmap')).toBeLessThan(1.4);
  });

  it('cost no more for replayed numbers, and at most 2.5 times as much for reordered ones', () => {
    expect(ratio('replayed', 'in order')).toBeLessThan(1.1);
    expect(ratio('reordered', 'in order')).toBeLessThan(2.5);
  });
});

afterAll(() => {
  const text = Object.entries(costs).map(([name, ns]) => `${name} ${ns.toFixed(1)}`);
  process.stdout.write(`window, ns per packet: ${text.join(', ')}\n`);
});
