/** What a config file, read again, asks of a gateway that runs: a rekey, or nothing. */
import { isDeepStrictEqual } from 'node:util';
import { XfrmError } from '@espalier/xfrm';
import type { GatewayPlan, PolicyPlan, SaPlan } from './plan.ts';

/**
 * The SAs of `next` that are not there yet. Each names the one that it `replaces`; everything else is as it was. `current`
 * is what has become of the policies and SAs of `running`. Throws XfrmError CONFIG about what only a restart can change.
 */
export function successorsIn(
  running: GatewayPlan,
  next: GatewayPlan,
  current: { readonly sas: readonly SaPlan[]; readonly policies: readonly PolicyPlan[] },
): SaPlan[] {
  for (const path of ['workers', 'engine', 'bond', 'inside'] as const)
    if (!isDeepStrictEqual(running[path], next[path])) throw changed(path);
  const there = new Map(current.sas.map((sa) => [sa.name, sa]));
  const heirs = new Map<string, string>();
  const added: SaPlan[] = [];
  for (const [i, sa] of next.sas.entries()) {
    if (sa.replaces !== undefined) heirs.set(sa.replaces, sa.name);
    const old = there.get(sa.name);
    if (old !== undefined) {
      if (!isDeepStrictEqual({ ...old, replaces: 0 }, { ...sa, replaces: 0 })) throw changed(`sas[${i}]`);
      continue;
    }
    // One that has been replaced already, in a file that still lists it, stays gone.
    if (running.sas.some((one) => one.name === sa.name)) continue;
    if (sa.replaces === undefined || !there.has(sa.replaces))
      throw new XfrmError({
        code: 'CONFIG',
        path: `sas[${i}].replaces`,
        expected: `an SA that is running: ${[...there.keys()].join(', ')}`,
        got: sa.replaces ?? 'nothing',
      });
    added.push(sa);
  }
  // A file may name any SA of a line of them.
  const lastOf = (sa: string | null): string | null => {
    let last = sa ?? '';
    for (let steps = 0; heirs.has(last) && steps < heirs.size; steps++) last = heirs.get(last)!;
    return sa === null ? null : last;
  };
  const heirOf = (policy: PolicyPlan): PolicyPlan => ({ ...policy, sa: lastOf(policy.sa) });
  if (!isDeepStrictEqual(next.policies.map(heirOf), current.policies.map(heirOf))) throw changed('policies');
  return added;
}

function changed(path: string): XfrmError {
  return new XfrmError({ code: 'CONFIG', path, expected: 'what the gateway runs with (a restart changes it)' });
}
