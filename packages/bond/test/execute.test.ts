import { describe, expect, it } from 'vitest';
import {
  carryOut,
  execute,
  type Hands,
  planAdd,
  planFeatures,
  planFree,
  planLeave,
  Refusal,
  type Step,
} from '../src/index.ts';

/** Hands that write down what they do, and fail the n-th thing. */
function hands(fail: ReadonlySet<number>): { done: string[]; hands: Hands } {
  const done: string[] = [];
  let n = 0;
  const act = (what: string): void => {
    if (fail.has(++n)) throw new Error(`no ${what}`);
    done.push(what);
  };
  return {
    done,
    hands: {
      features: async (lower, wanted) => act(`features ${lower} ${wanted}`),
      add: async (slot, lower) => act(`add ${slot} ${lower}`),
      hide: (slot, lower) => act(`hide ${slot} ${lower}`),
      grace: async () => act('grace'),
      delete: (slot, lower) => act(`delete ${slot} ${lower}`),
      drain: async (lower) => act(`drain ${lower}`),
      free: async (slot, lower) => act(`free ${slot} ${lower}`),
    },
  };
}

const slaves = [0, 1].map((lower) => ({ lower, wanted: 0, active: 0, hw: 7 }));
const plan: Step[] = [...planFeatures(slaves, 1), ...planAdd([5, 6], [0, 1])];

describe('a plan', () => {
  it('is done in order: features slave by slave, then SAs slave by slave', async () => {
    const { done, hands: h } = hands(new Set());
    await execute(plan, h);
    expect(done).toEqual(['features 0 1', 'features 1 1', 'add 5 0', 'add 6 0', 'add 5 1', 'add 6 1']);
  });

  it('is undone in reverse from wherever it was refused, and says what was refused', async () => {
    for (let k = 1; k <= plan.length; k++) {
      const { done, hands: h } = hands(new Set([k]));
      const refusal = await execute(plan, h).catch((e) => e);
      expect(refusal).toBeInstanceOf(Refusal);
      expect(refusal.step).toBe(plan[k - 1]);
      expect(refusal.failures).toEqual([]);
      const forward = done.slice(0, k - 1);
      const back = [...forward].reverse().flatMap((what) => {
        const [op, a, b] = what.split(' ');
        return op === 'add' ? [`delete ${a} ${b}`, `free ${a} ${b}`] : [`features ${a} 0`];
      });
      expect(done.slice(k - 1)).toEqual(back);
    }
  });

  it('goes on undoing when that fails too, and reports every failure', async () => {
    const { done, hands: h } = hands(new Set([5, 6, 7]));
    const refusal = (await execute(plan, h).catch((e) => e)) as Refusal;
    expect(refusal.failures).toHaveLength(2);
    expect(done.slice(-4)).toEqual(['delete 5 0', 'free 5 0', 'features 1 0', 'features 0 0']);
  });

  it('to leave hides everything, lets bursts end, deletes, drains each lower, and only then frees', async () => {
    const places = [
      { slot: 1, lower: 0 },
      { slot: 2, lower: 0 },
      { slot: 1, lower: 3 },
    ];
    const { done, hands: h } = hands(new Set([5]));
    const failures = await carryOut([...planLeave(places), ...planFree(places)], h);
    expect(failures).toEqual(['delete of slot 1 on lower 0: no delete 1 0']);
    expect(done.map((what) => what.split(' ')[0])).toEqual(
      'hide hide hide grace delete delete drain drain free free free'.split(' '),
    );
  });
});
