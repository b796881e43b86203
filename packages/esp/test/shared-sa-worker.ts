// One of two workers that receive the same frames of one SA; see shared-sa.race.test.ts.
import { workerData } from 'node:worker_threads';
import { Row, RowState } from '@espalier/wire';
import { EspPath, type InboundTicket } from '../src/index.ts';
import { Bench } from './bench-rows.ts';
import { whole } from './every-engine.ts';

export interface Share {
  readonly engine: string;
  readonly worker: number;
  readonly ticket: InboundTicket;
  /** Frames behind one another; frame i is `bytes[ends[i - 1] .. ends[i])`. */
  readonly bytes: SharedArrayBuffer;
  readonly ends: Int32Array;
  /** What became of each frame, one byte a frame. */
  readonly fates: SharedArrayBuffer;
  /** One word: how often a worker has been ready. */
  readonly gate: SharedArrayBuffer;
}

const BURST = 32;
/** So many bursts at most is one ahead of the other, whatever else the machine does. */
const TOGETHER = 4;
const share = workerData as Share;
const bench = new Bench(BURST);
const engine = whole(share.engine);
const { worker, ticket, ends } = share;
const path = new EspPath({ slab: bench.slab, engine, worker, maxSas: 1, linkType: 'esp-udp', offloads: null });
path.addInbound(ticket);
const bytes = new Uint8Array(share.bytes);
const fates = new Uint8Array(share.fates);

const gate = new Int32Array(share.gate);
for (let from = 0; from < ends.length; from += BURST) {
  const met = from / BURST / TOGETHER;
  if (Number.isInteger(met)) {
    Atomics.add(gate, 0, 1);
    while (Atomics.load(gate, 0) < 2 * (met + 1));
  }
  bench.clear();
  for (let i = from; i < Math.min(from + BURST, ends.length); i++)
    bench.put(bytes.subarray(i === 0 ? 0 : ends[i - 1]!, ends[i]!), RowState.RECEIVED);
  path.inbound(bench.burst);
  for (let i = 0; i < bench.burst.length; i++) fates[from + i] = bench.at(i, Row.FATE);
}
path.remove(0);
