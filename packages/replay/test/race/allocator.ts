/** Workers race for the numbers of one allocator, and some are killed: every number is counted. */
import { SequenceAllocator } from '../../src/index.ts';
import { type AllocatorJob, STOP, Tally } from './job.ts';
import { kill, LANES, OPEN, ones, start, sum } from './threads.ts';

export interface AllocatorReport {
  /** Numbers that workers show. */
  readonly given: number;
  /** Times that a burst held a number which had been given before. */
  readonly doubles: number;
  /** Numbers that were reserved and that nobody shows. */
  readonly missing: number;
  readonly swapFailures: number;
  readonly killed: number;
  readonly seconds: number;
}

/**
 * Workers reserve bursts of 1 to 64 until `count` numbers are out. With `kills`, others come meanwhile and are killed, as
 * many as the numbers last for: whoever wants more begins again with a new allocator.
 */
export async function raceAllocator(
  what: 'shipped' | 'naive',
  count: number,
  workers: number,
  kills = 0,
): Promise<AllocatorReport> {
  const began = performance.now();
  const lanes = kills > 0 ? LANES : 0;
  const allocator = SequenceAllocator.create({ esn: true, limit: count });
  const gate = { come: new SharedArrayBuffer(4), all: workers };
  const given = new SharedArrayBuffer(Math.ceil((count + 100) / 32) * 4);
  const tally = new SharedArrayBuffer((workers + lanes) * 64);
  const places = new SharedArrayBuffer(64);
  const job = (worker: number, victim: boolean, salt = 0): AllocatorJob => ({
    ...{ kind: 'allocator', what, memory: allocator.memory, count, worker, seed: 1 + salt, given, tally, places },
    ...{ pause: kills > 0 && !victim ? 1 : 0, gate: victim ? OPEN : gate },
  });
  const all = Array.from({ length: workers }, (_, w) => start(job(w, false)));
  let killed = 0;
  if (kills > 0) {
    const exhausted = (): boolean => allocator.exhausted();
    killed = await kill(kills, (l, salt) => job(workers + l, true, salt), exhausted);
    Atomics.store(new Int32Array(places), STOP, 1);
  }
  await Promise.all(all.map(({ gone }) => gone));
  const words = new Int32Array(given);
  let out = 0;
  for (let i = 0; i < words.length; i++) out += ones(words[i]!);
  return {
    given: out,
    doubles: sum(tally, Tally.DOUBLE),
    missing: Math.max(0, Math.min(count, allocator.next() - 1) - out),
    swapFailures: sum(tally, Tally.FAILURES),
    killed,
    seconds: (performance.now() - began) / 1000,
  };
}
