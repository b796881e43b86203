import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ReplayWindow } from '@espalier/replay';
import { Row } from '@espalier/wire';
import { startCrew } from '../frame/crew.ts';
import type { Race, Scenario, Variant } from '../frame/scenario.ts';
import { BURST, type Deal, dealer } from '../windows/deals.ts';
import {
  AccessesAlone,
  type BurstWindow,
  LockedBitmap,
  LockedPerPacket,
  PlainBitmap,
  SwapPerPacket,
} from '../windows/rivals.ts';

/** Per thread and lap. */
const BURSTS = 2048;
/** Before the first number: windows begin beyond 2^31, and go on for 2^31 numbers at most. */
const FIRST = 2 ** 31;

interface Lap {
  readonly memory: SharedArrayBuffer;
  readonly size: number;
  readonly threads: number;
  readonly deal: Deal;
  readonly window: string;
  /** SEQ_HI as rows come: -1 = to be inferred; the proof sends old numbers again and must not have them taken for new ones. */
  readonly hi: -1 | 0;
  /** Shared: numbers accepted in all. */
  readonly accepted: SharedArrayBuffer;
}

function open({ window, memory, size }: Lap, thread: number): BurstWindow | null {
  switch (window) {
    case 'shipped':
      return ReplayWindow.attach(memory, 0, thread);
    case 'plain bitmap':
      return new PlainBitmap(memory, size);
    case 'spin lock per burst':
      return new LockedBitmap(memory, size);
    case 'spin lock per packet':
      return new LockedPerPacket(memory, size);
    case 'CAS per packet':
      return new SwapPerPacket(memory, size);
    case 'none: the accesses alone':
      return new AccessesAlone(memory);
    default:
      return null;
  }
}

function worker(data: unknown, thread: number): () => void {
  const job = data as Lap;
  const window = open(job, thread);
  const rows = new Int32Array(BURST * Row.WORDS);
  const list = Int32Array.from({ length: BURST }, (_, i) => i);
  const numbers = new Float64Array(BURST);
  const deal = dealer(job.deal, job.threads, thread);
  const total = new Float64Array(job.accepted, thread * 64, 1);
  let lap = 0;
  return () => {
    let count = 0;
    for (let b = 0; b < BURSTS; b++) {
      deal(lap * BURSTS + b, numbers);
      for (let i = 0; i < BURST; i++) {
        rows[i * Row.WORDS + Row.SEQ_LO] = (FIRST + numbers[i]!) | 0;
        rows[i * Row.WORDS + Row.SEQ_HI] = job.hi;
        rows[i * Row.WORDS + Row.FATE] = 0;
      }
      if (window !== null) {
        window.checkBurst(rows, list, 0, BURST);
        window.commitBurst(rows, list, 0, BURST);
      }
      for (let i = 0; i < BURST; i++) if (rows[i * Row.WORDS + Row.FATE] === 0) count++;
    }
    lap++;
    total[0] = total[0]! + count;
  };
}

function lapOf(variant: Variant, hi: -1 | 0): { data: Lap; accepted: () => number } {
  const { window, deal, threads, size } = variant as { window: string; deal: Deal; threads: number; size: number };
  const accepted = new SharedArrayBuffer(64 * threads);
  let memory: SharedArrayBuffer;
  if (window === 'shipped') {
    const shipped = ReplayWindow.create({ size, esn: true });
    shipped.acceptUpTo(FIRST - 1);
    memory = shipped.memory;
  } else
    memory = new SharedArrayBuffer(
      window === 'CAS per packet' ? SwapPerPacket.byteLength(size) : PlainBitmap.byteLength(size),
    );
  if (window === 'CAS per packet') new Int32Array(memory)[0] = (FIRST - 1) | 0;
  else if (window !== 'shipped') new Float64Array(memory)[0] = FIRST - 1;
  return {
    data: { memory, size, threads, deal, window, hi, accepted },
    accepted: () =>
      Array.from({ length: threads }, (_, t) => new Float64Array(accepted, t * 64, 1)[0]!).reduce((a, b) => a + b),
  };
}

const ROOT = process.cwd();
const C = join(ROOT, 'build', 'bench', 'spinlock');

/** Compiles the C program; null where there is no compiler. */
function compiled(): string | null {
  if (existsSync(C)) return C;
  mkdirSync(join(ROOT, 'build', 'bench'), { recursive: true });
  const source = join(ROOT, 'bench', 'windows', 'spinlock.c');
  return spawnSync('cc', ['-O2', '-pthread', '-o', C, source]).status === 0 ? C : null;
}

function runC(threads: number, size: number): Promise<{ nanoseconds: number; accepted: number }> {
  return new Promise((resolve, reject) => {
    const child = spawn(C, [String(threads), String(BURSTS), String(size)]);
    let out = '';
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.on('error', reject).on('close', (code) => {
      const [nanoseconds, accepted] = out.trim().split(' ').map(Number);
      if (code === 0) resolve({ nanoseconds: nanoseconds!, accepted: accepted! });
      else reject(new Error(`spinlock ended with ${code}`));
    });
  });
}

const variant = (window: string, deal: Deal, threads: number, size = 1024): Variant => ({
  window,
  deal,
  threads,
  size,
});

const variants: Variant[] = [
  ...(['runs of 32', 'odd and even', 'same stream', 'reordered in 64', 'replayed'] as const).flatMap((deal) =>
    (deal === 'replayed' ? [1] : [1, 2]).flatMap((threads) => [
      variant('none: dealing alone', deal, threads),
      variant('shipped', deal, threads),
    ]),
  ),
  ...[1, 2].flatMap((threads) =>
    [64, 256, 4096, 65_536].map((size) => variant('shipped', 'runs of 32', threads, size)),
  ),
  variant('none: the accesses alone', 'runs of 32', 1),
  variant('plain bitmap', 'runs of 32', 1),
  variant('plain bitmap', 'reordered in 64', 1),
  ...[1, 2].flatMap((threads) => [
    variant('spin lock per burst', 'runs of 32', threads),
    variant('spin lock per packet', 'runs of 32', threads),
    variant('CAS per packet', 'runs of 32', threads),
    ...(compiled() === null ? [] : [variant('C, spin lock per packet', 'runs of 32', threads)]),
  ]),
];

export default {
  name: 'window',
  about:
    'check and commit in bursts of 32 on one window, dealing and counting included (see "dealing alone"), nanoseconds of all threads',
  variants,
  anchor: (v) =>
    v.window === 'shipped' && v.size === 1024 ? { ...v, window: 'CAS per packet', deal: 'runs of 32' } : null,
  async prove() {
    for (const v of variants) {
      const { window, deal, threads, size } = v as { window: string; deal: Deal; threads: number; size: number };
      if (window.startsWith('none')) continue;
      const all = deal === 'replayed' ? BURST : BURSTS * BURST * (deal === 'same stream' ? 1 : threads);
      if (window.startsWith('C,')) {
        const { accepted } = await runC(threads, size);
        if (accepted > all || (threads === 1 && accepted !== all))
          throw new Error(`${window}, ${threads} threads: ${accepted} of ${all} accepted`);
        continue;
      }
      const { data, accepted } = lapOf(v, 0);
      for (const again of [false, true]) {
        const crew = await startCrew(threads, 1, data);
        const before = accepted();
        await crew.lap();
        crew.close?.();
        const count = accepted() - before;
        // One thread loses nothing; two may leave each other behind the window, but never take one twice.
        const wrong = again ? count > 0 && threads === 1 : count > all || (threads === 1 && count !== all);
        if (wrong) throw new Error(`${window}, ${deal}, ${threads} threads: ${count} of ${again ? 0 : all} accepted`);
        if (accepted() > all) throw new Error(`${window}, ${deal}: ${accepted()} of ${all} accepted: some twice`);
      }
    }
  },
  async run(v): Promise<Race> {
    const threads = Number(v.threads);
    const packets = BURSTS * BURST * threads;
    if (!String(v.window).startsWith('C,')) return startCrew(threads, packets, lapOf(v, -1).data);
    return { packets, lap: async () => (await runC(threads, Number(v.size))).nanoseconds * packets };
  },
  worker,
} satisfies Scenario;
