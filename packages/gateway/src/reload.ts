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
  for (const path of ['workers', 'engine', 'bond', 'inside', 'state', 'audit', 'metricsPort'] as const)
    if (!isDeepStrictEqual(running[path], next[path])) throw changed(path);
  const there = new Map(current.sas.map((sa) => [sa.name, sa]));
  const heirs = new Map(next.sas.flatMap(({ name, replaces }) => (replaces === undefined ? [] : [[replaces, name]])));
  // A file may name any SA of a line of them; a line ends.
  const lastOf = (sa: string): string => {
    let last = sa;
    for (let heir = heirs.get(sa); heir !== undefined; heir = heirs.get(last)) {
      if (heir === sa) throw refused(`sas[${next.sas.findIndex(({ name }) => name === sa)}].replaces`, 'no circle', sa);
      last = heir;
    }
    return last;
  };
  for (const { name } of next.sas) lastOf(name);
  const added: SaPlan[] = [];
  for (const [i, sa] of next.sas.entries()) {
    const old = there.get(sa.name);
    if (old !== undefined) {
      if (!same(old, sa)) throw changed(`sas[${i}]`);
      continue;
    }
    const heir = heirs.get(sa.name);
    const first = running.sas.find(({ name }) => name === sa.name);
    if (sa.replaces !== undefined && there.has(sa.replaces) && !there.has(heir ?? '')) added.push(sa);
    // One that has been replaced already, in a file that still lists it, stays gone.
    else if (first === undefined ? heir === undefined : !same(first, sa))
      throw refused(
        `sas[${i}].replaces`,
        `an SA that is running: ${[...there.keys()].join(', ')}`,
        sa.replaces ?? 'nothing',
      );
  }
  const heirOf = (policy: PolicyPlan): PolicyPlan => ({ ...policy, sa: policy.sa && lastOf(policy.sa) });
  if (!isDeepStrictEqual(next.policies.map(heirOf), current.policies.map(heirOf))) throw changed('policies');
  return added;
}

function same(a: SaPlan, b: SaPlan): boolean {
  return isDeepStrictEqual({ ...a, replaces: 0 }, { ...b, replaces: 0 });
}

function refused(path: string, expected: string, got: string): XfrmError {
  return new XfrmError({ code: 'CONFIG', path, expected, got });
}

function changed(path: string): XfrmError {
  return new XfrmError({ code: 'CONFIG', path, expected: 'what the gateway runs with (a restart changes it)' });
}
