import { nodeEngine } from '@espalier/esp/node';
import { conformance, type MatrixLine, printMatrix, RULES, runRule } from '@espalier/xfrm/conformance';
import { describe, expect, it } from 'vitest';
import { mockRig } from './mock-rig.ts';
import { WRONG_LOWERS } from './wrong-lowers.ts';

describe('the conformance suite', () => {
  it('has a rule, a sentence and at least one deliberately wrong lower for each', () => {
    const ids = RULES.map((rule) => rule.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect([...new Set(WRONG_LOWERS.map((lower) => lower.rule))].sort()).toEqual([...ids].sort());
    for (const { sentence } of RULES) expect(sentence.length).toBeGreaterThan(20);
  });

  it('catches each wrong lower by exactly its own rule', async () => {
    const right: MatrixLine = { name: 'mock as it is', broken: [] as (string | null)[] };
    const lines: MatrixLine[] = [right, ...WRONG_LOWERS.map(({ wrong }) => ({ name: wrong, broken: [] }))];
    for (const rule of RULES) {
      (right.broken as (string | null)[]).push(await runRule(rule, () => mockRig(), nodeEngine));
      for (const [i, { spoil }] of WRONG_LOWERS.entries())
        (lines[i + 1]!.broken as (string | null)[]).push(await runRule(rule, () => spoil(mockRig()), nodeEngine));
    }
    console.log(printMatrix(lines));
    const found = lines.map(({ name, broken }) => ({
      name,
      broken: RULES.flatMap((rule, i) => (broken[i] === null ? [] : [`${rule.id}: ${broken[i]}`])),
    }));
    WRONG_LOWERS.forEach(({ rule, wrong }, i) => {
      const { broken } = found[i + 1]!;
      expect(broken.length === 1 && broken[0]!.startsWith(`${rule}: `), `${wrong} broke ${broken.join(' | ')}`).toBe(
        true,
      );
    });
    expect(found[0]!.broken).toEqual([]);
  });

  it('runs under any runner, lists what is skipped with its reason, and knows its own rules', async () => {
    const ran: string[] = [];
    const skipped: string[] = [];
    const bodies: (() => Promise<void>)[] = [];
    const runner = Object.assign(
      (name: string, run: () => Promise<void>) => {
        ran.push(name);
        bodies.push(run);
      },
      { skip: (name: string) => skipped.push(name) },
    );
    const seen: unknown[] = [];
    const options = {
      it: runner,
      expect: (value: unknown) => ({ toBe: (wanted: unknown) => seen.push([value, wanted]) }),
      engine: nodeEngine,
      name: 'mine',
      create: () => mockRig(),
    };
    conformance({ ...options, skip: [{ rules: ['room', 'full-ring'], reason: 'its ring has no end' }] });
    expect(ran).toHaveLength(RULES.length - 2);
    expect(skipped).toHaveLength(2);
    expect(skipped[0]).toMatch(/^mine holds .* \(skipped: its ring has no end\)$/);
    await bodies[0]!();
    expect(seen).toEqual([['held', 'held']]);
    expect(() => conformance({ ...options, skip: [{ rules: ['rum'], reason: 'a slip' }] })).toThrow(RangeError);
  });

  it('tells a lower without a power which rule to skip', async () => {
    const rule = RULES.find(({ id }) => id === 'link-down')!;
    const why = await runRule(rule, () => ({ ...mockRig(), powers: {} }), nodeEngine);
    expect(why).toContain('the rig has no power "setCarrier"');
  });
});
