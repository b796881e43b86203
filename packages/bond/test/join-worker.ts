import { parentPort, workerData } from 'node:worker_threads';
import { nodeEngine } from '@espalier/esp/node';
import { type MockTicket, openMockPort } from '@espalier/mock';
import { createBurst, createPool, createSlab, Row } from '@espalier/wire';
import { LowerHandles, OffloadTable } from '@espalier/xfrm';
import { writeToSeal } from '../../backends/mock/test/to-seal.ts';
import { BondPort, type BondTicket } from '../src/index.ts';

export interface JoinJob {
  readonly bond: BondTicket;
  readonly offloads: SharedArrayBuffer;
  readonly lowers: readonly MockTicket[];
  readonly worker: number;
  readonly sas: number;
  /** Words: 1 = stop; then, per worker: packets sent, refused, longest pause between two bursts in microseconds. */
  readonly shared: SharedArrayBuffer;
}

/** Sends bursts over the bond until it is told to stop; every frame that leaves must be sealed. */
function run(job: JoinJob): void {
  const slab = createSlab({ frames: 256, frameSize: 512 });
  const pool = createPool(slab);
  const burst = createBurst(slab, 32);
  const engine = nodeEngine();
  let plaintext = 0;
  let handles: LowerHandles | null = null;
  const ports = job.lowers.map((ticket) =>
    openMockPort(
      ticket,
      { slab, pool, engine, handles: { resolve: (slot, lower) => handles!.resolve(slot, lower) } },
      (bytes, start) => {
        if (bytes[start + 50] === 0x5a && bytes[start + 51] === 0x5a && bytes[start + 52] === 0x5a) plaintext++;
      },
    ),
  );
  const bond = BondPort.attach(job.bond, {
    worker: job.worker,
    ports: new Map(job.lowers.map((t, i) => [t.index, ports[i]!])),
    slab,
  });
  handles = new LowerHandles(OffloadTable.attach(job.offloads), bond);
  const shared = new Int32Array(job.shared);
  const mine = 1 + job.worker * 4;
  let seq = job.worker + 1;
  let last = performance.now();
  while (Atomics.load(shared, 0) === 0) {
    burst.length = 0;
    for (let i = 0; i < 32 && pool.free > 0; i++) {
      const row = pool.take();
      const slot = seq % job.sas;
      const start = row * slab.frameSize + slab.headroom;
      writeToSeal(slab, row, start, 98, { slot, spi: 0x5000_0000 + slot, seq });
      slab.bytes.fill(0x5a, start + 50, start + 82);
      burst.list[burst.length++] = row;
      seq += 2;
    }
    bond.pin();
    bond.xmit(burst);
    let refused = 0;
    for (let i = 0; i < burst.length; i++) {
      if (slab.rows[burst.list[i]! * Row.WORDS + Row.FATE] === 0) continue;
      refused++;
      pool.give(burst.list[i]!);
    }
    bond.unpin();
    for (const port of ports) port.reap();
    const now = performance.now();
    const pause = Math.round((now - last) * 1000);
    last = now;
    if (pause > Atomics.load(shared, mine + 2)) Atomics.store(shared, mine + 2, pause);
    Atomics.add(shared, mine, burst.length - refused);
    Atomics.add(shared, mine + 1, refused);
    Atomics.store(shared, mine + 3, plaintext);
  }
  for (const port of ports) port.close();
}

run(workerData as JoinJob);
parentPort!.postMessage('done');
