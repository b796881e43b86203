// Workers race for one window and one allocator, some are killed; every number is counted. `npm test` runs a part of it in
// about 8 s; scripts/races.mjs (ESPALIER_RACES=1) the counts of CI, and ESPALIER_LONG=1 those of the long lane.
import { afterAll, describe, expect, it } from 'vitest';
import { type Report, raceAllocator, raceWindow } from './races.ts';

const RACES = process.env.ESPALIER_RACES === '1';
const LONG = process.env.ESPALIER_LONG === '1';
/** Numbers per race; each is offered by both workers. */
const COUNT = LONG ? 1_000_000_000 : RACES ? 76_000_000 : 2_000_000;
const KILLS = LONG ? 10_000 : RACES ? 500 : 24;
const ALLOCATIONS = LONG || RACES ? 1_000_000_000 : 20_000_000;
const timeout = LONG ? 7_200_000 : 600_000;

const table: string[] = [];
function row(name: string, report: Report): Report {
  const { offered, doubles, missing, swapFailures, near, killed, seconds } = report;
  const cells = [offered, doubles, missing, swapFailures, near, killed];
  table.push(
    `${name.padEnd(44)}${cells.map((n) => String(n).padStart(12)).join('')} ${seconds.toFixed(1).padStart(7)}`,
  );
  return report;
}

const round = (count: number): number => Math.floor(count / 64) * 64;

describe('two workers on one window', () => {
  it.each([
    { name: 'W=1024', size: 1024, esn: false, first: 0 },
    { name: 'W=1024, ESN across 2^32', size: 1024, esn: true, first: 2 ** 32 - Math.floor(COUNT / 2) },
  ])('accept each number once and refuse none that is fresh: $name', { timeout }, async (race) => {
    const report = row(race.name, await raceWindow({ ...race, what: 'shipped', count: round(COUNT), workers: 2 }));
    expect(report.offered).toBe(2 * round(COUNT));
    expect(report.doubles).toBe(0);
    expect(report.missing).toBe(0);
    expect(report.swapFailures).toBeGreaterThan(0);
    expect(report.near).toBeGreaterThan(report.offered / 100);
  });

  it('with the bitmap of RFC 6479 accept numbers twice, in fewer offers', { timeout }, async () => {
    let doubles = 0;
    for (let seed = 1; doubles === 0 && seed <= 16; seed++) {
      const race = { what: 'naive', size: 1024, esn: false, first: 0, workers: 2, seed } as const;
      doubles = row('RFC 6479 in shared memory', await raceWindow({ ...race, count: round(COUNT / 4) })).doubles;
    }
    expect(doubles).toBeGreaterThan(0);
  });

  it('go on when others are killed at any moment, and accept nothing twice', { timeout }, async () => {
    // ESN across 2^32 again; room for all the numbers that pass while victims come and go.
    const race = { what: 'shipped', size: 1024, esn: true, first: 2 ** 32 - 100_000, workers: 2 } as const;
    const report = row(
      'W=1024, workers killed',
      await raceWindow({ ...race, count: 64 * 32 * KILLS * 50, kills: KILLS }),
    );
    expect(report.killed).toBeGreaterThanOrEqual(KILLS);
    expect(report.doubles).toBe(0);
    // A victim may take what it does not live to show: a burst.
    expect(report.missing).toBeLessThanOrEqual(32 * report.killed);
  });
});

describe('workers on one allocator', () => {
  it('give each number once and lose none', { timeout }, async () => {
    const report = row('allocator', await raceAllocator('shipped', ALLOCATIONS, 2));
    expect([report.doubles, report.missing, report.offered]).toEqual([0, 0, ALLOCATIONS]);
  });

  it('give each number once when some are killed, and lose at most a burst each', { timeout }, async () => {
    const report = row('allocator, workers killed', await raceAllocator('shipped', ALLOCATIONS / 4, 3, KILLS));
    expect(report.doubles).toBe(0);
    expect(report.missing).toBeLessThanOrEqual(64 * report.killed);
    expect(report.killed).toBeGreaterThan(0);
  });

  it('with a load and a store give numbers twice, in fewer bursts', { timeout }, async () => {
    expect(row('load and store', await raceAllocator('naive', ALLOCATIONS / 10, 2)).doubles).toBeGreaterThan(0);
  });
});

afterAll(() => {
  const head = ['offers', 'twice', 'missing', 'CAS failed', 'near', 'killed'].map((h) => h.padStart(12)).join('');
  process.stdout.write(`${'race'.padEnd(44)}${head}       s\n${table.join('\n')}\n`);
});
