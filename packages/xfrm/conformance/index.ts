/**
 * What every lower must do, as a suite that any test runner can run:
 *
 *     conformance({ it, expect, engine: nobleEngine, name: 'mock', create: () => rigOfTwoLowers() })
 *
 * Rules are data: `RULES` lists them, `runRule` tells whether a lower holds one, so a matrix can be printed.
 */
import type { CryptoEngine } from '../src/engine.ts';
import { DATAPATH_RULES } from './datapath.ts';
import { ESN_RULES } from './esn.ts';
import { House } from './house.ts';
import { LIFECYCLE_RULES } from './lifecycle.ts';
import { framingOf } from './packet.ts';
import type { Rig } from './rig.ts';
import type { Rule } from './rule.ts';
import { STATE_RULES } from './state.ts';

export { House, type Outgoing, type Received } from './house.ts';
export { type Framing, frameOf, framingOf, payloadOf, Reference, saOf } from './packet.ts';
export type { Powers, Rig } from './rig.ts';
export type { Ground, Rule } from './rule.ts';

/** Every rule, in the order in which they run. */
export const RULES: readonly Rule[] = [...STATE_RULES, ...DATAPATH_RULES, ...ESN_RULES, ...LIFECYCLE_RULES];

/** A lower's limits, written down as data. */
export interface Skip {
  /** Ids of rules. */
  readonly rules: readonly string[];
  readonly reason: string;
}

export interface ConformanceOptions {
  /** The runner's `it`; rules that are skipped go to `it.skip`, reason in the name. */
  readonly it: {
    (name: string, run: () => Promise<void>): unknown;
    skip(name: string, run: () => Promise<void>): unknown;
  };
  readonly expect: (value: unknown) => { toBe(wanted: unknown): unknown };
  /** Makes an engine; called once for each end of each rule. */
  readonly engine: () => CryptoEngine;
  /** Of the lower, for the names of the tests. */
  readonly name: string;
  /** Two fresh lowers, joined. */
  readonly create: () => Rig | Promise<Rig>;
  readonly skip?: readonly Skip[];
}

/** Runs every rule against fresh lowers. Throws RangeError when `skip` names a rule that does not exist. */
export function conformance(options: ConformanceOptions): void {
  const { it, expect, engine, name, create, skip = [] } = options;
  const reasons = new Map(skip.flatMap(({ rules, reason }) => rules.map((rule) => [rule, reason] as const)));
  for (const id of reasons.keys())
    if (!RULES.some((rule) => rule.id === id)) throw new RangeError(`there is no conformance rule "${id}"`);
  for (const rule of RULES) {
    const title = `${name} holds ${rule.id}: ${rule.sentence}`;
    const reason = reasons.get(rule.id);
    const run = async (): Promise<void> => {
      expect((await runRule(rule, create, engine)) ?? 'held').toBe('held');
    };
    if (reason === undefined) it(title, run);
    else it.skip(`${title} (skipped: ${reason})`, run);
  }
}

/** Runs one rule against fresh lowers: null when it holds, else in words what was broken. */
export async function runRule(
  rule: Rule,
  create: () => Rig | Promise<Rig>,
  engine: () => CryptoEngine,
): Promise<string | null> {
  const rig = await create();
  try {
    const a = new House(rig, rig.a, framingOf(rig.a, rig.b), engine());
    const b = new House(rig, rig.b, framingOf(rig.b, rig.a), engine());
    try {
      await rule.check({ rig, a, b });
      return null;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      a.port.close();
      b.port.close();
    }
  } finally {
    await rig.close();
  }
}

/** One line of a matrix: which rules a lower holds. */
export interface MatrixLine {
  readonly name: string;
  /** Per rule of `RULES`: what was broken, or null. */
  readonly broken: readonly (string | null)[];
}

/** A matrix as text: a row per lower, a column per rule, `x` where it is broken. */
export function printMatrix(lines: readonly MatrixLine[]): string {
  const width = Math.max(...lines.map((line) => line.name.length));
  const legend = RULES.map((rule, i) => `${String(i + 1).padStart(3)} ${rule.id}: ${rule.sentence}`);
  const head = [0, 1].map(
    (digit) => `${' '.repeat(width)} ${RULES.map((_, i) => String(i + 1).padStart(2)[digit]).join(' ')}`,
  );
  const body = lines.map(
    (line) => `${line.name.padEnd(width)} ${line.broken.map((why) => (why === null ? '.' : 'x')).join(' ')}`,
  );
  return [...legend, '', ...head, ...body].join('\n');
}
