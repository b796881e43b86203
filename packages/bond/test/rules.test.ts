import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Field, saOf } from './field.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const FOLDERS: Record<string, string> = { mock: 'packages/backends/mock' };

/** Rows of the table in docs/replication.md: a rule's name, and where its tests are, by their titles. */
function rules(): { readonly rule: string; readonly tests: readonly (readonly [file: string, title: string])[] }[] {
  const rows = readFileSync(join(ROOT, 'docs/replication.md'), 'utf8').matchAll(/^\| (R\d+) +\|[^|]*\|([^|]*)\|$/gm);
  return [...rows].map(([, rule, shown]) => ({
    rule: rule!,
    tests: shown!.split(';').flatMap((part) => {
      const [, folder, name] = /^ *([a-z0-9]+)\/([a-z0-9.-]+): /.exec(part)!;
      const file = join(FOLDERS[folder!] ?? `packages/${folder}`, 'test', `${name}.test.ts`);
      return [...part.matchAll(/`([^`]+)`/g)].map(([, title]) => [file, title!] as const);
    }),
  }));
}

describe('the rules of replication', () => {
  it('are twelve, and every test that is said to show one is there', () => {
    const all = rules();
    expect(all.map(({ rule }) => rule)).toEqual(Array.from({ length: 12 }, (_, i) => `R${i + 1}`));
    for (const { rule, tests } of all) {
      expect(tests.length, rule).toBeGreaterThan(0);
      for (const [file, title] of tests) {
        const titles = readFileSync(join(ROOT, file), 'utf8').matchAll(
          /\b(?:it|describe)(?:\.each\([\s\S]*?\))?\(\s*'((?:[^'\\]|\\.)*)'/g,
        );
        expect(
          [...titles].some(([, one]) => one!.includes(title)),
          `${rule}: ${file} has no test "${title}"`,
        ).toBe(true);
      }
    }
  });

  it('R1: a replica has another handle when its SA is deleted and added again, and in between none', async () => {
    const f = new Field({ links: 2 });
    for (const { device } of f.nics) await f.bond.enslave(device);
    await f.bond.setFeatures(1);
    await f.bond.stateAdd(saOf(0));
    const first = f.bond.stateLowerHandle(0, 1);
    await f.bond.withdraw(0, 1);
    expect([first > 0, f.bond.stateLowerHandle(0, 1)]).toEqual([true, 0]);
    await f.bond.restore(0, 1);
    const second = f.bond.stateLowerHandle(0, 1);
    expect(second).toBeGreaterThan(0);
    expect(second).not.toBe(first);
    expect([f.nics[1]!.live.has(second), f.nics[1]!.live.has(first)]).toEqual([true, false]);
    await f.bond.close();
  });
});
