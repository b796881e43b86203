import { SequenceAllocator } from '@espalier/replay';
import { startCrew } from '../frame/crew.ts';
import { product, type Scenario } from '../frame/scenario.ts';

/** Per thread and lap. */
const PACKETS = 1 << 16;

interface Lap {
  readonly memory: SharedArrayBuffer;
  readonly burst: number;
  /** First numbers handed out, thread by thread, for the proof; null while timing. */
  readonly firsts: SharedArrayBuffer | null;
}

function worker(data: unknown, thread: number): () => void {
  const { memory, burst, firsts } = data as Lap;
  const allocator = SequenceAllocator.attach(memory, 0);
  const kept = firsts === null ? null : new Float64Array(firsts);
  return () => {
    for (let n = 0, k = (thread * PACKETS) / burst; n < PACKETS; n += burst, k++) {
      const first = allocator.reserve(burst);
      if (kept !== null) kept[k] = first;
    }
  };
}

export default {
  name: 'allocator',
  about: 'sequence numbers reserved in bursts from one allocator, nanoseconds of all threads',
  variants: product({ burst: [1, 32], threads: [1, 2] }),
  async prove() {
    for (const burst of [1, 32]) {
      const { memory } = SequenceAllocator.create({ esn: true });
      const firsts = new SharedArrayBuffer(((2 * PACKETS) / burst) * 8);
      const crew = await startCrew(2, 1, { memory, burst, firsts } satisfies Lap);
      await crew.lap();
      crew.close?.();
      const sorted = new Float64Array(firsts).sort();
      sorted.forEach((first, k) => {
        if (first !== k * burst + 1) throw new Error(`burst ${burst}: reservation ${k} begins at ${first}`);
      });
    }
  },
  run({ burst, threads }) {
    const { memory } = SequenceAllocator.create({ esn: true });
    const data: Lap = { memory, burst: burst as number, firsts: null };
    return startCrew(threads as number, PACKETS * (threads as number), data);
  },
  worker,
} satisfies Scenario;
