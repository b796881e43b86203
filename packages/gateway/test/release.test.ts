import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';
import { Pair, Stream, tidy } from './pair.ts';

let pair: Pair;
tidy();

describe('a slave that is released and never completes what was posted on it', () => {
  it('has its sockets closed in every worker, and its handles freed; the others carry on', async () => {
    let now = 0;
    const workerFile = bundleWorker(join(import.meta.dirname, 'stuck-worker.ts'));
    pair = await Pair.open(undefined, { clock: () => now, workerFile }, { lateCompletion: true });
    const [a] = pair.gateways as [Pair['gateways'][0]];
    const stuck = pair.devices[0][1]!;
    const stream = new Stream(pair, 0);
    const flow = (there: () => boolean, what: string): Promise<void> =>
      pair.until(() => {
        stream.step();
        return there();
      }, what);
    // One SA has one slave: with the first away it is the second.
    pair.devices[0][0]!.setCarrier(false);
    await flow(() => stuck.inFlight() > 100, 'frames posted');
    pair.devices[0][0]!.setCarrier(true);
    let released = false;
    a.bond.release(stuck).then(() => {
      released = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(released).toBe(false);
    now += 2100;
    await flow(() => released, 'released');
    expect([stuck.inFlight(), stuck.nic!.installed, a.bond.lingering]).toEqual([0, 0, 0]);
    expect(a.stats().slaves.map((s) => [s.name, s.usable])).toEqual([['a0', true]]);
    const before = stream.got.size;
    await flow(() => stream.got.size > before + 500, 'the other carries on');
  });
});
