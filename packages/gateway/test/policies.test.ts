// Policies that only some workers have changed. Budget: 3 s.
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';
import { Pair, planOf, Stream, saOf, tidy } from './pair.ts';

const workerFile = bundleWorker(join(import.meta.dirname, 'refusing-worker.ts'));
tidy();

it('go back to the old SA on every worker when one of them refuses to switch', async () => {
  const pair = await Pair.open([planOf(0), planOf(1)], { workerFile });
  const [a, b] = pair.gateways as [Pair['gateways'][0], Pair['gateways'][0]];
  await b.addSa(saOf(0, 'in', 1));
  await a.addSa(saOf(0, 'out', 1));
  const before = a.current.policies;
  const [old, next] = [saOf(0, 'out'), saOf(0, 'out', 1)];
  await expect(a.switchOutbound(old.name, next.name)).rejects.toThrow('told to refuse');
  expect(a.current.policies).toEqual(before);
  // By way of both workers, the one that had switched among them.
  const stream = new Stream(pair, 0);
  await pair.until(() => {
    stream.step();
    return stream.got.size >= 500;
  }, '500 packets through');
  expect([pair.numbers.get(old.spi)!.size >= 500, pair.numbers.has(next.spi)]).toEqual([true, false]);
});
