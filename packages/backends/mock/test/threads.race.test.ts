import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { createMockPair } from '@espalier/mock';
import { OffloadTable, PortStat } from '@espalier/xfrm';
import { saOf } from '@espalier/xfrm/conformance';
import { describe, expect, it } from 'vitest';
import { bundleWorker } from '../../../../scripts/bundle.ts';
import type { TrafficJob, TrafficReport } from './traffic-worker.ts';

function start(file: string, job: TrafficJob): Promise<TrafficReport> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(file, { workerData: job });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

describe('a mock wire between threads', () => {
  it('carries every frame of two sending workers to the one that receives it, sealed and opened, once', async () => {
    const links = 2;
    const count = process.env.ESPALIER_LONG ? 50_000 : 3000;
    // Small rings, so that they fill all the time.
    const pair = createMockPair({ links, workers: 2, ringSlots: 64, saSlots: 4 });
    // One SA per link, each with a handle on its own lower.
    const offloads = OffloadTable.create(links);
    const out = pair.a.map((device, link) => saOf(device, 'out', link));
    for (let link = 0; link < links; link++) {
      offloads.setDirect(link, pair.a[link]!.index, await pair.a[link]!.nic!.stateAdd(out[link]!));
      await pair.b[link]!.nic!.stateAdd(saOf(pair.b[link]!, 'in', link));
    }
    const file = bundleWorker(join(import.meta.dirname, 'traffic-worker.ts'));
    const progress = new SharedArrayBuffer(8);
    const reports = await Promise.all(
      [0, 1].map((worker) =>
        start(file, {
          worker,
          send: pair.a.map((device) => device.ticket(worker)),
          receive: pair.b.map((device) => device.ticket(worker)),
          offloads: offloads.memory,
          count,
          spis: out.map((sa) => sa.spi),
          progress,
        }),
      ),
    );
    const total = count * links * 2;
    const sum = (pick: (report: TrafficReport) => number): number => reports.reduce((n, one) => n + pick(one), 0);
    expect(sum((one) => one.sent)).toBe(total);
    expect(sum((one) => one.opened)).toBe(total);
    expect(sum((one) => one.bad)).toBe(0);
    expect(reports.map((one) => one.framesLost)).toEqual([0, 0]);
    expect(sum((one) => one.refused)).toBeGreaterThan(0);
    // Link 0 is read by worker 0 alone, link 1 by worker 1 alone.
    expect(reports.map((one) => one.numbers.map((list) => list.length))).toEqual([
      [count * 2, 0],
      [0, count * 2],
    ]);
    const all = reports.flatMap((one) => one.numbers.flat());
    expect(new Set(all).size).toBe(total);
    for (let link = 0; link < links; link++) {
      const counted = [0, 1].map((port) => pair.a[link]!.stats.port(port)[PortStat.SEALED]);
      expect(counted).toEqual([count, count]);
      expect([pair.a[link]!.nic!.violations, pair.b[link]!.nic!.violations]).toEqual([0, 0]);
    }
  });
});
