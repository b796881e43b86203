/**
 * Threads of one race. Each lap begins when the last thread has arrived at the gate, which they pass by spinning: a sleep
 * would cost more than many a lap.
 */
import { Worker } from 'node:worker_threads';
import type { Race } from './scenario.ts';

/** Words of the gate, a cache line apart; nanoseconds of every thread behind them. */
const LAP = 0;
const ARRIVED = 16;
const DONE = 32;
const STOP = 48;
const NANOSECONDS = 64;

/** `workerData` of a crew's thread. */
export interface CrewData {
  readonly index: number;
  readonly gate: SharedArrayBuffer;
  readonly data: unknown;
}

/** Starts `size` threads that run the `worker` of the calling scenario; `packets` of one lap, all threads together. */
export async function startCrew(size: number, packets: number, data: unknown): Promise<Race> {
  const gate = new SharedArrayBuffer(NANOSECONDS * 4 + size * 8);
  const words = new Int32Array(gate);
  const spent = new Float64Array(gate, NANOSECONDS * 4, size);
  const threads = Array.from(
    { length: size },
    (_, index) => new Worker(new URL(import.meta.url), { workerData: { index, gate, data } satisfies CrewData }),
  );
  await Promise.all(
    threads.map((t) => new Promise((resolve, reject) => t.once('online', resolve).once('error', reject))),
  );
  const failed = new Promise<never>((_, reject) => {
    for (const thread of threads) thread.on('error', reject);
  });
  failed.catch(() => undefined);
  let lap = 0;
  return {
    packets,
    lap: async () => {
      Atomics.store(words, ARRIVED, 0);
      Atomics.store(words, DONE, 0);
      Atomics.store(words, LAP, ++lap);
      Atomics.notify(words, LAP);
      for (let done = Atomics.load(words, DONE); done < size; done = Atomics.load(words, DONE)) {
        const { async, value } = Atomics.waitAsync(words, DONE, done);
        if (async) await Promise.race([value, failed]);
      }
      return spent.reduce((sum, ns) => sum + ns, 0);
    },
    close: () => {
      Atomics.store(words, STOP, 1);
      Atomics.store(words, LAP, -1);
      Atomics.notify(words, LAP);
    },
  };
}

/** The thread's half. */
export function runLaps(gate: SharedArrayBuffer, index: number, lap: () => void): void {
  const words = new Int32Array(gate);
  const spent = new Float64Array(gate, NANOSECONDS * 4);
  const size = spent.length;
  for (let last = 0; ; ) {
    Atomics.wait(words, LAP, last);
    last = Atomics.load(words, LAP);
    if (Atomics.load(words, STOP) === 1) return;
    Atomics.add(words, ARRIVED, 1);
    while (Atomics.load(words, ARRIVED) < size);
    const began = performance.now();
    lap();
    spent[index] = (performance.now() - began) * 1e6;
    Atomics.add(words, DONE, 1);
    Atomics.notify(words, DONE);
  }
}
