import type { House } from './house.ts';
import type { Powers, Rig } from './rig.ts';

/** What a rule works with: the rig, and a house at either end. */
export interface Ground {
  readonly rig: Rig;
  readonly a: House;
  readonly b: House;
}

/** One thing that every lower must do. */
export interface Rule {
  readonly id: string;
  readonly sentence: string;
  /** Throws when the lower breaks the rule. */
  readonly check: (ground: Ground) => Promise<void>;
}

/** Thrown where a rule is broken; anything else that is thrown breaks it too. */
export class BrokenRule extends Error {
  override readonly name = 'BrokenRule';
}

/** Breaks the rule unless `condition` holds. */
export function demand(condition: boolean, what: string): asserts condition {
  if (!condition) throw new BrokenRule(what);
}

/** The power, or a broken rule that says which `skip` entry is missing. */
export function power<P extends keyof Powers>(ground: Ground, name: P): NonNullable<Powers[P]> {
  const found = ground.rig.powers[name];
  demand(found !== undefined, `the rig has no power "${name}": grant it or skip this rule with a reason`);
  return found.bind(ground.rig.powers) as NonNullable<Powers[P]>;
}

/** Lets everything that waits for nothing but its turn run. */
export async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}
