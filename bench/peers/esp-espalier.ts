/**
 * Our side of the ESP contests: what c/esp-contender.h does, through EspPath. `ENGINE LINK ALGORITHM SIZE JOB FILE MS`; on
 * LINK `esp-udp` rows begin at the ESP header, and the SA is without ESN.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Burst, createBurst, Row, RowState, resetRow } from '@espalier/wire';
import type { AlgorithmName } from '@espalier/xfrm';
import { Desk, type EngineName, engineOf, pathOf, protectAll, saPair } from '../frame/desk.ts';
import { ipv4 } from '../frame/packets.ts';

const BURST = 32;
/** Buffers in use, and packets in one sample. */
const BUFFERS = 256;
/** Frames sealed beforehand for an opening: longer than the window. */
const STORE = 4096;
/** V8 needs longer than a C compiler's output. */
const WARM_UP_MS = 700;

const [engine, link, name, size, job, file, ms] = process.argv.slice(2) as [
  EngineName,
  'ethernet' | 'esp-udp',
  AlgorithmName,
  ...string[],
];
const inner = ipv4(Number(size));
const desk = new Desk(BUFFERS);
const { slab } = desk;
const path = pathOf(desk, engineOf(engine), 1, link);
const bursts: Burst[] = Array.from({ length: BUFFERS / BURST }, () => {
  const burst = createBurst(slab, BURST);
  while (burst.length < BURST) burst.list[burst.length++] = desk.pool.take();
  return burst;
});

let added = false;
function freshSa(): void {
  if (added) path.remove(0);
  added = true;
  const pair = saPair(name, { linkType: link, esn: link === 'ethernet' });
  if (job === 'seal' || job === 'encap') path.addOutbound(pair.out);
  else path.addInbound(pair.in);
}

function fill(burst: Burst, bytes: (i: number) => Uint8Array, state: RowState): void {
  for (let i = 0; i < BURST; i++) {
    const row = burst.list[i]!;
    const start = row * slab.frameSize + slab.headroom;
    const packet = bytes(i);
    slab.bytes.set(packet, start);
    resetRow(slab.rows, row, start, start + packet.length, state);
  }
}

function packet(burst: Burst, i: number): Uint8Array {
  const r = burst.list[i]! * Row.WORDS;
  if (slab.rows[r + Row.FATE] !== 0) throw new Error(`a packet was dropped: DropReason ${slab.rows[r + Row.FATE]}`);
  return slab.bytes.subarray(slab.rows[r + Row.START], slab.rows[r + Row.END]);
}

/** Length in two bytes, big endian, then the frame. */
function seal(): void {
  const out: Uint8Array[] = [];
  for (let n = 0; n < STORE; n += BURST) {
    fill(bursts[0]!, () => inner, RowState.UNSET);
    path.outbound(bursts[0]!);
    for (let i = 0; i < BURST; i++) {
      const frame = packet(bursts[0]!, i);
      out.push(Uint8Array.of(frame.length >> 8, frame.length), frame.slice());
    }
  }
  writeFileSync(file!, Buffer.concat(out));
}

function load(): Uint8Array[] {
  const bytes = readFileSync(file!);
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += 2 + bytes.readUInt16BE(at))
    frames.push(bytes.subarray(at + 2, at + 2 + bytes.readUInt16BE(at)));
  if (frames.length < STORE) throw new Error('too few frames');
  return frames;
}

function perform(): object {
  path.setPolicies(protectAll(0));
  freshSa();
  if (job === 'seal') {
    seal();
    return { proved: true };
  }
  const store = job === 'encap' ? [] : load();
  const samples: number[] = [];
  const began = performance.now();
  const until = WARM_UP_MS + Number(ms);
  for (let at = 0, passed = 0; job === 'open' ? at < STORE : passed < until; passed = performance.now() - began) {
    if (job !== 'encap' && at === STORE) {
      freshSa();
      at = 0;
    }
    for (const burst of bursts) {
      const from = at;
      if (job === 'encap') fill(burst, () => inner, RowState.UNSET);
      else fill(burst, (i) => store[from + i]!, RowState.RECEIVED);
      at += BURST;
    }
    const start = process.hrtime.bigint();
    if (job === 'encap') for (let b = 0; b < bursts.length; b++) path.outbound(bursts[b]!);
    else for (let b = 0; b < bursts.length; b++) path.inbound(bursts[b]!);
    const took = Number(process.hrtime.bigint() - start);
    if (passed >= WARM_UP_MS) samples.push(took / BUFFERS);
    if (job !== 'open') continue;
    for (const burst of bursts)
      for (let i = 0; i < BURST; i++)
        if (Buffer.compare(packet(burst, i), inner) !== 0) throw new Error('what came out is not what went in');
  }
  if (job === 'open') return { proved: true };
  for (const burst of bursts) packet(burst, 0);
  samples.sort((a, b) => a - b);
  const mean = samples.reduce((a, b) => a + b, 0) / samples.length;
  return { min: samples[0], median: samples[samples.length >> 1], mean, samples: samples.length };
}

process.stdout.write(`\n${JSON.stringify(perform())}\n`);
