import { ReplayWindow } from '@espalier/replay';
import { Row } from '@espalier/wire';
import { startCrew } from '../frame/crew.ts';
import { product, type Scenario } from '../frame/scenario.ts';

const SIZE = 1024;
const BURST = 32;
/** Per thread and lap. */
const BURSTS = 2048;

interface Lap {
  readonly memory: SharedArrayBuffer;
  readonly threads: number;
  readonly what: string;
  /** SEQ_HI as rows come: -1 = to be inferred; the proof sends old numbers again and must not have them taken for new ones. */
  readonly hi: -1 | 0;
  /** Shared: numbers accepted in all. */
  readonly accepted: SharedArrayBuffer;
}

/** Number 1 of burst `b` of a thread: threads take turns in runs of 32, so that both work at the window's edge. */
function firstOf(lap: number, b: number, thread: number, threads: number): number {
  return ((lap * BURSTS + b) * threads + thread) * BURST + 1;
}

function worker(data: unknown, thread: number): () => void {
  const { memory, threads, what, hi, accepted } = data as Lap;
  const window = ReplayWindow.attach(memory, 0);
  const rows = new Int32Array(BURST * Row.WORDS);
  const list = Int32Array.from({ length: BURST }, (_, i) => i);
  const total = new Int32Array(accepted);
  let lap = 0;
  return () => {
    let count = 0;
    for (let b = 0; b < BURSTS; b++) {
      const first = firstOf(lap, b, thread, threads);
      for (let i = 0; i < BURST; i++) {
        rows[i * Row.WORDS + Row.SEQ_LO] = (first + i) | 0;
        rows[i * Row.WORDS + Row.SEQ_HI] = hi;
        rows[i * Row.WORDS + Row.FATE] = 0;
      }
      if (what !== 'dealing alone') {
        window.checkBurst(rows, list, 0, BURST);
        window.commitBurst(rows, list, 0, BURST);
      }
      for (let i = 0; i < BURST; i++) if (rows[i * Row.WORDS + Row.FATE] === 0) count++;
    }
    lap++;
    Atomics.add(total, 0, count);
  };
}

function lapOf(threads: number, what: string, hi: -1 | 0): { data: Lap; accepted: Int32Array } {
  const accepted = new SharedArrayBuffer(4);
  const { memory } = ReplayWindow.create({ size: SIZE, esn: true });
  return { data: { memory, threads, what, hi, accepted }, accepted: new Int32Array(accepted) };
}

export default {
  name: 'window',
  about:
    'check and commit in bursts of 32 on one window of 1024, runs of 32 to each thread, nanoseconds of all threads',
  variants: product({ what: ['dealing alone', 'check and commit'], threads: [1, 2] }),
  async prove() {
    for (const threads of [1, 2]) {
      const { data, accepted } = lapOf(threads, 'check and commit', 0);
      const crew = await startCrew(threads, 1, data);
      await crew.lap();
      const once = accepted[0]!;
      crew.close?.();
      const all = BURSTS * BURST * threads;
      // One thread in order loses nothing; two may leave each other behind the window, but never take one twice.
      if (once > all || (threads === 1 && once !== all))
        throw new Error(`${threads} threads: ${once} of ${all} accepted`);
      const again = await startCrew(threads, 1, data);
      await again.lap();
      again.close?.();
      if (accepted[0]! !== once) throw new Error(`the same numbers again: ${accepted[0]! - once} accepted twice`);
    }
  },
  run({ threads, what }) {
    const n = threads as number;
    return startCrew(n, BURSTS * BURST * n, lapOf(n, String(what), -1).data);
  },
  worker,
} satisfies Scenario;
