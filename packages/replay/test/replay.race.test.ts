// Workers race for a window, an allocator and lifetimes, some are killed; everything is counted. `npm test` runs a part of
// it in about 8 s; scripts/races.mjs (ESPALIER_RACES=1) the counts of CI, and ESPALIER_LONG=1 those of the long lane.
import { afterAll, describe, expect, it } from 'vitest';
import { raceAllocator } from './race/allocator.ts';
import { BURST } from './race/job.ts';
import { raceLifetime } from './race/lifetime.ts';
import { raceWindow } from './race/window.ts';

const LONG = process.env.ESPALIER_LONG === '1';
const RACES = process.env.ESPALIER_RACES === '1';
const pick = (long: number, races: number, test: number): number => (LONG ? long : RACES ? races : test);
/** Numbers per race; each is offered by both workers. */
const COUNT = pick(1_000_000_000, 76_000_000, 2_000_000);
const KILLS = pick(10_000, 500, 24);
const ALLOCATIONS = pick(1_000_000_000, 1_000_000_000, 20_000_000);
const LIFETIMES = pick(100_000, 10_000, 500);
/** Kills per race: its memory is of a fixed size. */
const KILLS_AT_ONCE = 500;
const timeout = LONG ? 7_200_000 : 600_000;

const table: string[] = [];
/** Adds a line to the table that is printed at the end. */
function row<R extends object>(name: string, report: R): R {
  const cells = Object.entries(report).map(([key, n]) => `${key} ${key === 'seconds' ? n.toFixed(1) : n}`);
  table.push(`${`${name}:`.padEnd(30)} ${cells.join(', ')}`);
  return report;
}

/** Races until so many workers have been killed; the sum of all. */
async function killing<R extends { killed: number }>(kills: number, race: (kills: number) => Promise<R>): Promise<R> {
  let all: Record<string, number> = {};
  while ((all.killed ?? 0) < kills) {
    const more = await race(Math.min(KILLS_AT_ONCE, kills - (all.killed ?? 0)));
    all = Object.fromEntries(Object.entries(more).map(([key, n]) => [key, (all[key] ?? 0) + n]));
  }
  return all as unknown as R;
}

/** Races until this is seen, at most so often: on a machine that is busy with others two workers may hardly meet. */
async function racing<R>(race: (seed: number) => Promise<R>, seen: (report: R) => boolean): Promise<R> {
  for (let seed = 1; ; seed++) {
    const report = await race(seed);
    if (seed === 16 || seen(report)) return report;
  }
}

const round = (count: number): number => Math.floor(count / 64) * 64;

describe('two workers on one window', () => {
  it.each([
    { name: 'W=1024', size: 1024, esn: false, first: 0 },
    { name: 'W=1024, ESN across 2^32', size: 1024, esn: true, first: 2 ** 32 - Math.floor(COUNT / 2) },
  ])('accept each number once and refuse none that is fresh: $name', { timeout }, async (race) => {
    const once = async (seed: number) => {
      const report = await raceWindow({ ...race, what: 'shipped', count: round(COUNT), workers: 2, seed });
      expect(report.offered).toBe(2 * round(COUNT));
      expect([report.doubles, report.missing, report.unaccounted]).toEqual([0, 0, 0]);
      return report;
    };
    const met = await racing(once, ({ swapFailures, near, offered }) => swapFailures > 0 && near > offered / 100);
    const report = row(race.name, met);
    expect(report.swapFailures).toBeGreaterThan(0);
    expect(report.near).toBeGreaterThan(report.offered / 100);
  });

  it('with the bitmap of RFC 6479 accept numbers twice, in fewer offers', { timeout }, async () => {
    const race = { what: 'naive', size: 1024, esn: false, first: 0, workers: 2, count: round(COUNT / 4) } as const;
    const naive = await racing(
      (seed) => raceWindow({ ...race, seed }),
      ({ doubles }) => doubles > 0,
    );
    expect(row('RFC 6479 in shared memory', naive).doubles).toBeGreaterThan(0);
  });

  it('go on when others are killed at any moment, and accept nothing twice', { timeout }, async () => {
    // ESN across 2^32 again; room for all the numbers that pass while victims come and go.
    const race = { what: 'shipped', size: 1024, esn: true, first: 2 ** 32 - 100_000, workers: 2 } as const;
    const run = (kills: number) => raceWindow({ ...race, count: 64 * 32 * kills * 50, kills });
    const report = row('window, workers killed', await killing(KILLS, run));
    expect(report.killed).toBeGreaterThanOrEqual(KILLS);
    expect(report.doubles).toBe(0);
    // A victim may take what it does not live to show, and show what it does not live to account for: a burst.
    expect(report.missing).toBeLessThanOrEqual(BURST * report.killed);
    expect(report.unaccounted).toBeLessThanOrEqual(BURST * report.killed);
  });
});

describe('workers on one allocator', () => {
  it('give each number once and lose none', { timeout }, async () => {
    const report = row('allocator', await raceAllocator('shipped', ALLOCATIONS, 2));
    expect([report.doubles, report.missing, report.given]).toEqual([0, 0, ALLOCATIONS]);
  });

  it('give each number once when some are killed, and lose at most a burst each', { timeout }, async () => {
    const run = (kills: number) => raceAllocator('shipped', 2 ** 27, 2, kills);
    const report = row('allocator, workers killed', await killing(KILLS, run));
    expect(report.doubles).toBe(0);
    expect(report.missing).toBeLessThanOrEqual(64 * report.killed);
    expect(report.killed).toBeGreaterThanOrEqual(KILLS);
  });

  it('with a load and a store give numbers twice, in fewer bursts', { timeout }, async () => {
    const naive = await racing(
      () => raceAllocator('naive', ALLOCATIONS / 10, 2),
      ({ doubles }) => doubles > 0,
    );
    expect(row('load and store', naive).doubles).toBeGreaterThan(0);
  });
});

describe('workers on one SA', () => {
  const right = { overshot: 0, twice: 0, wrong: 0 };

  it.each([2, 4])(
    'use a lifetime up, none beyond it, none short of the bound, and tell each event once: %i workers',
    {
      timeout,
    },
    async (workers) => {
      const report = row(`lifetime, ${workers} workers`, await raceLifetime('shipped', LIFETIMES, workers));
      expect(report).toMatchObject({ ...right, untold: 0, buried: 0, rounds: LIFETIMES });
      expect(report.shared).toBeGreaterThan(LIFETIMES / 20);
    },
  );

  it('do so when others are killed, each of which takes a burst and a quota with it at most', { timeout }, async () => {
    const run = (kills: number) => raceLifetime('shipped', kills * 200, 2, kills);
    const report = row('lifetime, workers killed', await killing(KILLS, run));
    expect(report).toMatchObject(right);
    // What a victim has been told it may take with it.
    expect(report.untold).toBeLessThanOrEqual(report.killed);
    expect(report.buried).toBeLessThanOrEqual(report.killed);
    expect(report.killed).toBeGreaterThanOrEqual(KILLS);
  });

  it('with loads and stores overshoot and tell events twice, in as many rounds', { timeout }, async () => {
    const naive = await racing(
      () => raceLifetime('naive', LIFETIMES, 4),
      ({ overshot, twice }) => overshot > 0 && twice > 0,
    );
    const report = row('lifetime, load and store', naive);
    expect(report.overshot).toBeGreaterThan(0);
    expect(report.twice).toBeGreaterThan(0);
  });
});

afterAll(() => {
  process.stdout.write(`${table.join('\n')}\n`);
});
