/** Races of worker threads for one window or one allocator, with and without killing some; every claim is counted. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { bundleWorker } from '../../../scripts/bundle.ts';
import { ReplayWindow, SequenceAllocator } from '../src/index.ts';
import { Naive6479 } from './naive-6479.ts';

/** Float64 of a worker's line of tallies. */
export const Tally = { OFFERED: 0, DOUBLE: 1, FAILURES: 2, NEAR: 3 } as const;

export interface WindowJob {
  readonly kind: 'window';
  readonly what: 'shipped' | 'naive';
  readonly memory: SharedArrayBuffer;
  readonly size: number;
  /** Numbers first + 1 .. first + count. */
  readonly first: number;
  readonly count: number;
  readonly worker: number;
  readonly workers: number;
  readonly victim: boolean;
  readonly seed: number;
  /** Milliseconds of sleep per 32 stretches of 64 numbers, where time is to pass. */
  readonly pause: number;
  /** A line per worker: the stretch it is at; word 15 tells all to stop. */
  readonly places: SharedArrayBuffer;
  readonly accepted: SharedArrayBuffer;
  readonly tally: SharedArrayBuffer;
  readonly gate: Gate;
}

/** Those who begin together: who has come, and how many are waited for. */
export interface Gate {
  readonly come: SharedArrayBuffer;
  readonly all: number;
}

export interface AllocatorJob {
  readonly kind: 'allocator';
  readonly what: 'shipped' | 'naive';
  readonly memory: SharedArrayBuffer;
  readonly count: number;
  readonly worker: number;
  readonly seed: number;
  readonly given: SharedArrayBuffer;
  readonly tally: SharedArrayBuffer;
  readonly gate: Gate;
}

export type Job = WindowJob | AllocatorJob;

export interface WindowRace {
  readonly what: 'shipped' | 'naive';
  readonly size: number;
  readonly esn: boolean;
  readonly first: number;
  /** A multiple of 64. */
  readonly count: number;
  readonly workers: number;
  readonly kills?: number;
  readonly seed?: number;
}

export interface Report {
  /** Offers of all workers. */
  readonly offered: number;
  /** Numbers accepted, or given, more than once. */
  readonly doubles: number;
  /** Numbers that nobody accepted, or that were reserved and not used. */
  readonly missing: number;
  readonly swapFailures: number;
  /** Offers while the worker furthest behind was less than a window away. */
  readonly near: number;
  readonly killed: number;
  readonly seconds: number;
}

let file: string | undefined;
/** Victims at a time. */
const LANES = 4;
const open: Gate = { come: new SharedArrayBuffer(4), all: 0 };

function start(job: Job): { worker: Worker; ready: Promise<void>; gone: Promise<void> } {
  file ??= bundleWorker(join(process.cwd(), 'packages/replay/test/race-worker.ts'));
  const worker = new Worker(file, { workerData: job });
  const ready = new Promise<void>((resolve) => worker.once('message', () => resolve()));
  const gone = new Promise<void>((resolve, reject) => worker.once('error', reject).once('exit', () => resolve()));
  return { worker, ready, gone };
}

/** All workers offer the same numbers at about the same time; each must be accepted once. */
export async function raceWindow(race: WindowRace): Promise<Report> {
  const { what, size, esn, first, count, workers, kills = 0, seed = 1 } = race;
  const began = performance.now();
  const lanes = kills > 0 ? LANES : 0;
  const shipped = ReplayWindow.create({ size, esn, workers: workers + lanes });
  if (first > 0) shipped.acceptUpTo(first);
  const memory = what === 'naive' ? new SharedArrayBuffer(Naive6479.byteLength(size)) : shipped.memory;
  const places = new SharedArrayBuffer((workers + lanes) * 64);
  const tally = new SharedArrayBuffer((workers + lanes) * 64);
  const bitmap = (): SharedArrayBuffer => new SharedArrayBuffer(Math.ceil(count / 32) * 4);
  const gate = { come: new SharedArrayBuffer(4), all: workers };
  const accepted = Array.from({ length: workers + (lanes > 0 ? 1 : 0) }, bitmap);
  const job = (worker: number, victim: boolean, salt = 0): WindowJob => ({
    ...{ kind: 'window', what, memory, size, first, count, worker, workers, victim, places, tally },
    ...{ accepted: accepted[Math.min(worker, workers)]!, seed: seed + salt, pause: kills > 0 ? 1 : 0 },
    gate: victim ? open : gate,
  });
  const all = Array.from({ length: workers }, (_, w) => start(job(w, false)));
  let killed = 0;
  const lane = async (l: number): Promise<void> => {
    while (killed < kills) {
      const salt = ++killed;
      const victim = start(job(workers + l, true, salt * 104729));
      await victim.ready;
      // From before its first burst to some thousands later.
      await new Promise((resolve) => setTimeout(resolve, salt % 7));
      await victim.worker.terminate();
    }
  };
  if (kills > 0) {
    const before = Array.from({ length: workers }, (_, w) => Atomics.load(new Int32Array(places), w * 16));
    await Promise.all(Array.from({ length: lanes }, (_, l) => lane(l)));
    const after = before.map((_, w) => Atomics.load(new Int32Array(places), w * 16));
    if (after.some((place, w) => place <= before[w]! && place < 2 ** 30)) throw new Error('a survivor stands still');
    Atomics.store(new Int32Array(places), 15, 1);
  }
  await Promise.all(all.map(({ gone }) => gone));

  // How far all survivors have come.
  const words = accepted.map((memory) => new Int32Array(memory));
  let end = words[0]!.length;
  if (kills > 0) while (end > 0 && words.every((w) => w[end - 1] === 0)) end--;
  let doubles = 0;
  let missing = 0;
  for (let i = 0; i < end; i++) {
    let once = 0;
    for (const w of words) {
      doubles += ones(once & w[i]!);
      once |= w[i]!;
    }
    missing += 32 - ones(once);
  }
  const sum = (field: number): number => {
    let total = 0;
    for (let w = 0; w < workers + lanes; w++) total += new Float64Array(tally, w * 64, 8)[field]!;
    return total;
  };
  return {
    offered: sum(Tally.OFFERED),
    doubles: doubles + sum(Tally.DOUBLE),
    missing,
    swapFailures: sum(Tally.FAILURES),
    near: sum(Tally.NEAR),
    killed,
    seconds: (performance.now() - began) / 1000,
  };
}

/** All workers reserve bursts of 1 to 64 until `count` numbers are out; some are killed and begun anew. */
export async function raceAllocator(
  what: 'shipped' | 'naive',
  count: number,
  workers: number,
  kills = 0,
): Promise<Report> {
  const began = performance.now();
  const allocator = SequenceAllocator.create({ esn: true, limit: count });
  const gate = { come: new SharedArrayBuffer(4), all: workers };
  const given = new SharedArrayBuffer(Math.ceil((count + 100) / 32) * 4);
  const tally = new SharedArrayBuffer(workers * 64);
  const job = (worker: number, salt: number): AllocatorJob => ({
    ...{ kind: 'allocator', what, memory: allocator.memory, count, worker, seed: 1 + salt, given, tally },
    gate: kills > 0 ? open : gate,
  });
  let killed = 0;
  await Promise.all(
    Array.from({ length: workers }, async (_, w) => {
      while (w > 0 && killed < kills && !allocator.exhausted()) {
        const victim = start(job(w, ++killed * 104729));
        await victim.ready;
        await new Promise((resolve) => setTimeout(resolve, killed % 5));
        await victim.worker.terminate();
      }
      await start(job(w, 0)).gone;
    }),
  );
  const words = new Int32Array(given);
  let out = 0;
  for (let i = 0; i < words.length; i++) out += ones(words[i]!);
  const sum = (field: number): number => {
    let total = 0;
    for (let w = 0; w < workers; w++) total += new Float64Array(tally, w * 64, 8)[field]!;
    return total;
  };
  return {
    offered: out,
    doubles: sum(Tally.DOUBLE),
    missing: Math.max(0, Math.min(count, allocator.next() - 1) - out),
    swapFailures: sum(Tally.FAILURES),
    near: 0,
    killed,
    seconds: (performance.now() - began) / 1000,
  };
}

function ones(word: number): number {
  word -= (word >>> 1) & 0x5555_5555;
  word = (word & 0x3333_3333) + ((word >>> 2) & 0x3333_3333);
  return (((word + (word >>> 4)) & 0x0f0f_0f0f) * 0x0101_0101) >>> 24;
}
