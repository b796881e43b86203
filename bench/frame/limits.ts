import { type Limit, label, type Scenario, type Trial } from './scenario.ts';

/** A limit and what was measured: least nanoseconds per packet of either side. */
export interface Held {
  readonly limit: Limit;
  readonly ns: number;
  readonly anchorNs: number;
}

/** Milliseconds: until V8 has compiled all of it for good; of one round; until a limit that does not hold is broken. */
const TIMES = { warmUp: 600, round: 400, patience: 6000 };
/** Steps of one variant in a row: enough that its memory is in the caches again. */
const BLOCK = 16;

/**
 * Measures both sides of every limit in turns on this thread, so that compiler, machine and neighbours are the same for
 * both, and compares the least of each: what the code costs, whatever else runs. Goes on until all hold, or for so long
 * that it cannot be the neighbours.
 */
export async function hold(scenario: Scenario, { warmUp, round, patience } = TIMES): Promise<Held[]> {
  const limits = scenario.limits ?? [];
  const sides = new Map<string, { readonly trial: Trial; least: number }>();
  for (const variant of limits.flatMap(({ variant, to }) => [to, variant])) {
    if (sides.has(label(variant))) continue;
    const trial = await scenario.run(variant);
    if ('lap' in trial) throw new Error(`${scenario.name}: a limit of a race`);
    sides.set(label(variant), { trial, least: Number.POSITIVE_INFINITY });
  }
  const measure = (milliseconds: number): void => {
    for (const end = performance.now() + milliseconds; performance.now() < end; )
      for (const side of sides.values())
        for (let i = 0; i < BLOCK; i++) {
          side.trial.prepare?.();
          const began = performance.now();
          side.trial.step();
          const ns = ((performance.now() - began) * 1e6) / side.trial.packets;
          if (ns < side.least) side.least = ns;
        }
  };
  const least = (limit: Limit, side: 'variant' | 'to'): number => sides.get(label(limit[side]))!.least;
  measure(warmUp);
  for (const side of sides.values()) side.least = Number.POSITIVE_INFINITY;
  const last = performance.now() + patience;
  do measure(round);
  while (performance.now() < last && limits.some((l) => least(l, 'variant') > l.most * least(l, 'to')));
  for (const { trial } of sides.values()) trial.close?.();
  return limits.map((limit) => ({ limit, ns: least(limit, 'variant'), anchorNs: least(limit, 'to') }));
}
