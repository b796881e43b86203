/** Starting, killing and adding up the workers of a race. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { bundleWorker } from '../../../../scripts/bundle.ts';
import { type Gate, type Job, STOP, type Tally } from './job.ts';

/** Victims at a time. */
export const LANES = 4;
/** Nobody is waited for. */
export const OPEN: Gate = { come: new SharedArrayBuffer(4), all: 0 };

let file: string | undefined;

export function start(job: Job): { worker: Worker; ready: Promise<void>; gone: Promise<void> } {
  file ??= bundleWorker(join(process.cwd(), 'packages/replay/test/race/worker.ts'));
  const worker = new Worker(file, { workerData: job });
  const ready = new Promise<void>((resolve) => worker.once('message', () => resolve()));
  const gone = new Promise<void>((resolve, reject) => worker.once('error', reject).once('exit', () => resolve()));
  return { worker, ready, gone };
}

/** Starts a victim after the other in each lane and kills it, from before its first burst to some thousands later. */
export async function kill(
  kills: number,
  victim: (lane: number, salt: number) => Job,
  over: () => boolean = () => false,
): Promise<number> {
  let killed = 0;
  const lane = async (l: number): Promise<void> => {
    while (killed < kills && !over()) {
      const salt = ++killed;
      const { worker, ready } = start(victim(l, salt * 104729));
      await ready;
      await new Promise((resolve) => setTimeout(resolve, salt % 7));
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, l) => lane(l)));
  return killed;
}

/** Kills among workers that go through stretches, none of which may stand still meanwhile, then tells them to stop. */
export async function killAmong(
  places: SharedArrayBuffer,
  workers: number,
  kills: number,
  victim: (lane: number, salt: number) => Job,
): Promise<number> {
  const words = new Int32Array(places);
  const before = Array.from({ length: workers }, (_, w) => Atomics.load(words, w * 16));
  const killed = await kill(kills, victim);
  if (before.some((place, w) => Atomics.load(words, w * 16) <= place)) throw new Error('a survivor stands still');
  Atomics.store(words, STOP, 1);
  return killed;
}

/** Sum of one field over the lines of all workers. */
export function sum(tally: SharedArrayBuffer, field: (typeof Tally)[keyof typeof Tally]): number {
  let total = 0;
  for (let w = 0; w * 64 < tally.byteLength; w++) total += new Float64Array(tally, w * 64, 8)[field]!;
  return total;
}

/** How many bits of a word are on. */
export function ones(word: number): number {
  word -= (word >>> 1) & 0x5555_5555;
  word = (word & 0x3333_3333) + ((word >>> 2) & 0x3333_3333);
  return (((word + (word >>> 4)) & 0x0f0f_0f0f) * 0x0101_0101) >>> 24;
}
