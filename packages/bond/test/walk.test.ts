import { describe, expect, it } from 'vitest';
import { Walk } from './walk.ts';

/** Steps in all; 10^6 in `.ci/run` and the long lane. */
const STEPS = Number(process.env.ESPALIER_STEPS ?? (process.env.ESPALIER_LONG ? 1_000_000 : 20_000));
const SEEDS = [1, 2, 3, 4];

describe('random lives of a bond under traffic', () => {
  it.each(SEEDS)(
    'leave exactly the handles that the rules call for after every step, and nothing unsealed or homeless on a wire (seed %i)',
    async (seed) => {
      const began = performance.now();
      const report = await new Walk(seed).run(STEPS / SEEDS.length);
      console.log(`seed ${seed}: ${JSON.stringify(report)} in ${((performance.now() - began) / 1000).toFixed(1)} s`);
      expect(report.steps).toBe(STEPS / SEEDS.length);
      expect(report.frames).toBeGreaterThan(report.steps);
      for (const count of [report.storms, report.refusals, report.lateAnswers, report.waiting])
        expect(count).toBeGreaterThan(0);
    },
    600_000,
  );
});
