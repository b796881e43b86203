import { parentPort, workerData } from 'node:worker_threads';
import { nodeEngine } from '@espalier/esp/node';
import { type MockTicket, openMockPort } from '@espalier/mock';
import { createBurst, createPool, createSlab, Row, RowState } from '@espalier/wire';
import { LowerHandles, OffloadTable } from '@espalier/xfrm';
import { ESP_AT, writeToSeal } from './to-seal.ts';

/** What one worker of the race test is told. */
export interface TrafficJob {
  readonly worker: number;
  readonly send: readonly MockTicket[];
  readonly receive: readonly MockTicket[];
  /** The sender's handles. */
  readonly offloads: SharedArrayBuffer;
  /** Numbers that this worker sends on each link. */
  readonly count: number;
  /** Per link; the SA of link i is in slot i. */
  readonly spis: readonly number[];
  /** Words: how many workers have sent all, how many frames have been received in all. */
  readonly progress: SharedArrayBuffer;
}

/** What it answers. */
export interface TrafficReport {
  readonly worker: number;
  readonly sent: number;
  readonly refused: number;
  readonly opened: number;
  /** Numbers received, per link. */
  readonly numbers: number[][];
  readonly bad: number;
  readonly framesLost: number;
}

const PAYLOAD = 64;
const LENGTH = ESP_AT + 16 + PAYLOAD + 16;
const BURST = 32;

function run(job: TrafficJob): TrafficReport {
  const slab = createSlab({ frames: 512 });
  const pool = createPool(slab);
  const burst = createBurst(slab, BURST);
  const handles = new LowerHandles(OffloadTable.attach(job.offloads), null);
  const none = new LowerHandles(OffloadTable.create(1), null);
  const engine = nodeEngine();
  const senders = job.send.map((ticket) => openMockPort(ticket, { slab, pool, engine, handles }));
  const receivers = job.receive.map((ticket) => openMockPort(ticket, { slab, pool, engine, handles: none }));
  const progress = new Int32Array(job.progress);
  const next = senders.map(() => 0);
  const numbers: number[][] = receivers.map(() => []);
  let sent = 0;
  let refused = 0;
  let opened = 0;
  let bad = 0;

  const write = (row: number, seq: number, link: number): void => {
    const start = row * slab.frameSize + slab.headroom - 14;
    writeToSeal(slab, row, start, LENGTH, { slot: link, spi: job.spis[link]!, seq });
    for (let i = 0; i < PAYLOAD; i++) slab.bytes[start + ESP_AT + 16 + i] = seq + i;
  };

  const transmit = (link: number): void => {
    burst.length = 0;
    const from = next[link]!;
    while (burst.length < BURST && from + burst.length < job.count && pool.free > BURST) {
      const row = pool.take();
      // Each worker has its own numbers, so nothing is sealed twice under one.
      write(row, (from + burst.length) * 64 + job.worker * 32 + link + 1, link);
      burst.list[burst.length++] = row;
    }
    const taken = senders[link]!.xmit(burst);
    // Refusals are a tail of the burst: the ring was full. The same numbers go again, never sealed before.
    refused += burst.length - taken;
    for (let i = taken; i < burst.length; i++) pool.give(burst.list[i]!);
    next[link] = from + taken;
    sent += taken;
  };

  const receive = (link: number): void => {
    burst.length = 0;
    const count = receivers[link]!.poll(burst);
    for (let i = 0; i < count; i++) {
      const r = burst.list[i]! * Row.WORDS;
      if (slab.rows[r + Row.STATE] === RowState.OPENED) opened++;
      const seq = slab.rows[r + Row.SEQ_LO]!;
      const payload = slab.rows[r + Row.ESP]! + 16;
      for (let b = 0; b < PAYLOAD; b++) if (slab.bytes[payload + b] !== ((seq + b) & 0xff)) bad++;
      numbers[link]!.push(seq);
      pool.give(burst.list[i]!);
    }
    if (count > 0) Atomics.add(progress, 1, count);
    receivers[link]!.reap();
  };

  const total = job.count * senders.length * 2;
  let finished = false;
  const deadline = Date.now() + 30_000;
  while (Date.now() < deadline) {
    for (let link = 0; link < senders.length; link++) {
      transmit(link);
      receive(link);
      senders[link]!.reap();
    }
    if (!finished && next.every((n) => n === job.count)) {
      finished = true;
      Atomics.add(progress, 0, 1);
    }
    if (Atomics.load(progress, 0) === 2 && Atomics.load(progress, 1) >= total) break;
  }
  for (const port of [...senders, ...receivers]) port.close();
  return { worker: job.worker, sent, refused, opened, numbers, bad, framesLost: 512 - pool.free };
}

parentPort!.postMessage(run(workerData as TrafficJob));
