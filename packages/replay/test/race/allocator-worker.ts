import { random } from '../../../../scripts/random.ts';
import { SequenceAllocator } from '../../src/index.ts';
import { type AllocatorJob, STOP, Tally } from './job.ts';

/** Reserves until nothing is left, and marks every number in a bitmap shared by all: a bit that is on was given twice. */
export function reserve(job: AllocatorJob): void {
  const { memory, count, what, worker } = job;
  const allocator = SequenceAllocator.attach(memory, 0);
  const naive = new BigUint64Array(memory, 64, 1);
  const given = new Int32Array(job.given);
  const tally = new Float64Array(job.tally, worker * 64, 8);
  const next = random(job.seed + worker * 7919);
  const places = new Int32Array(job.places);
  for (let bursts = 1; ; bursts++) {
    if (job.pause > 0 && bursts % 64 === 0) {
      Atomics.wait(places, 0, 0, job.pause);
      if (Atomics.load(places, STOP) === 1) return;
    }
    let first: number;
    let granted = 1 + next(64);
    if (what === 'naive') {
      // What a burst must not do: read the counter, and write it a moment later.
      first = Number(naive[0]!);
      if (first > count) return;
      naive[0] = BigInt(first + granted);
    } else {
      first = allocator.reserve(granted);
      granted = allocator.granted;
      if (granted === 0) return;
    }
    for (let s = first; s < first + granted; ) {
      const bits = Math.min(32 - (s & 31), first + granted - s);
      const mask = bits === 32 ? -1 : ((1 << bits) - 1) << (s & 31);
      if ((Atomics.or(given, s >>> 5, mask) & mask) !== 0) tally[Tally.DOUBLE]!++;
      s += bits;
    }
    tally[Tally.OFFERED] = tally[Tally.OFFERED]! + granted;
    tally[Tally.FAILURES] = tally[Tally.FAILURES]! + allocator.swapFailures;
    allocator.swapFailures = 0;
  }
}
