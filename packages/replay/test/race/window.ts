/** Workers race for one window, and some are killed: every number is counted. */
import { ReplayWindow } from '../../src/index.ts';
import { Naive6479 } from '../naive-6479.ts';
import { Tally, type WindowJob } from './job.ts';
import { killAmong, LANES, OPEN, ones, start, sum } from './threads.ts';

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

export interface WindowReport {
  /** Offers of all workers. */
  readonly offered: number;
  /** Numbers accepted more than once. */
  readonly doubles: number;
  /** Numbers that nobody accepted, of those that all survivors have passed. */
  readonly missing: number;
  /** By how many numbers the window's own account of the accepted differs from what workers show. */
  readonly unaccounted: number;
  readonly swapFailures: number;
  /** Offers while the worker furthest behind was less than a window away. */
  readonly near: number;
  readonly killed: number;
  readonly seconds: number;
}

/** All workers offer the same numbers at about the same time; each must be accepted once. */
export async function raceWindow(race: WindowRace): Promise<WindowReport> {
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
  // Survivors each have their own, victims one together.
  const accepted = Array.from({ length: workers + (lanes > 0 ? 1 : 0) }, bitmap);
  const job = (worker: number, victim: boolean, salt = 0): WindowJob => ({
    ...{ kind: 'window', what, memory, size, first, count, worker, workers, victim, places, tally },
    ...{ accepted: accepted[Math.min(worker, workers)]!, seed: seed + salt, pause: kills > 0 ? 1 : 0 },
    gate: victim ? OPEN : gate,
  });
  const all = Array.from({ length: workers }, (_, w) => start(job(w, false)));
  const killed = kills > 0 ? await killAmong(places, workers, kills, (l, salt) => job(workers + l, true, salt)) : 0;
  await Promise.all(all.map(({ gone }) => gone));

  // How far all survivors have come.
  const words = accepted.map((bits) => new Int32Array(bits));
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
  return {
    offered: sum(tally, Tally.OFFERED),
    doubles: doubles + sum(tally, Tally.DOUBLE),
    missing,
    unaccounted: what === 'naive' ? 0 : Math.abs(end * 32 - missing - shipped.accepted()),
    swapFailures: sum(tally, Tally.FAILURES),
    near: sum(tally, Tally.NEAR),
    killed,
    seconds: (performance.now() - began) / 1000,
  };
}
