import { XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { demandReorderBudget, type ReorderFacts, reorderBudget } from '../src/index.ts';

const facts: ReorderFacts = { spread: 'spray', rate: 1e6, skew: 0.005, workers: 2, block: 64, batch: 32 };

describe('the reorder budget', () => {
  it('is rate x skew + workers x block + batch', () => {
    expect(reorderBudget(facts)).toBe(5000 + 128 + 32);
    expect(reorderBudget({ ...facts, rate: 10e6, skew: 0.01, workers: 1, block: 0, batch: 0 })).toBe(100_000);
    expect(reorderBudget({ ...facts, spread: 'inner' })).toBe(5160);
    expect(reorderBudget({ ...facts, skew: 0 })).toBe(160);
  });

  it('knows no skew while one slave carries the SA', () => {
    expect(reorderBudget({ ...facts, spread: 'sa' })).toBe(160);
  });

  it('refuses a spread that the window of the peer cannot bear, and says what would do', () => {
    expect(demandReorderBudget(facts, 8192, 'sas[0].spread')).toBe(5160);
    expect(demandReorderBudget(facts, 5160, 'sas[0].spread')).toBe(5160);
    expect(() => demandReorderBudget(facts, 5159, 'sas[0].spread')).toThrow(XfrmError);
    // Linux offers 4096 at most.
    expect(() => demandReorderBudget(facts, 4096, 'sas[0].spread')).toThrow(/sas\[0\]\.spread.*at least 5160/);
    expect(demandReorderBudget(facts, 0, 'sas[0].spread')).toBe(5160);
  });

  it('takes no nonsense', () => {
    for (const wrong of [{ rate: -1 }, { skew: Number.NaN }, { workers: Number.POSITIVE_INFINITY }])
      expect(() => reorderBudget({ ...facts, ...wrong })).toThrow(RangeError);
  });
});
