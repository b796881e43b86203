/** Which SAs our datapath and Linux can both have, and a choice of them in which every pair of values meets. */
import { ALGORITHM_NAMES, ALGORITHMS, type AlgorithmName } from '@espalier/xfrm';

export type Family = '4in4' | '6in4' | '4in6' | '6in6';
export type Mode = 'tunnel' | 'transport';

export interface Combination {
  readonly algorithm: AlgorithmName;
  readonly mode: Mode;
  /** Inner in outer; transport mode has one header only. */
  readonly family: Family;
  readonly esn: boolean;
  readonly natt: boolean;
}

/** Linux 6.1 has no implicit IV (RFC 8750); all else is there. */
export const COMMON_ALGORITHMS: readonly AlgorithmName[] = ALGORITHM_NAMES.filter(
  (n) => ALGORITHMS[n].iv !== 'implicit',
);

/** Prime to the number of combinations, and about 0.6 of it. */
const STRIDE = 743;

/** Every combination. */
export function allCombinations(algorithms: readonly AlgorithmName[] = COMMON_ALGORITHMS): Combination[] {
  const all: Combination[] = [];
  for (const algorithm of algorithms)
    for (const mode of ['tunnel', 'transport'] as const)
      for (const family of ['4in4', '6in4', '4in6', '6in6'] as const)
        for (const esn of [false, true])
          for (const natt of [false, true])
            if (mode === 'tunnel' || family[0] === family[3]) all.push({ algorithm, mode, family, esn, natt });
  return all;
}

/** Enough of `all` that every pair of values of two fields that occurs there occurs here: greedy, the same each time. */
export function pairwise(all: readonly Combination[]): Combination[] {
  const candidates = all.map((combination) => ({ combination, pairs: pairs(combination) }));
  const open = new Set(candidates.flatMap((c) => c.pairs));
  const chosen: Combination[] = [];
  while (open.size > 0) {
    let best = candidates[0]!;
    let most = 0;
    // From another place each time, so that equals take turns and triples vary too.
    const from = (chosen.length * STRIDE) % candidates.length;
    for (const candidate of [...candidates.slice(from), ...candidates.slice(0, from)]) {
      const fresh = candidate.pairs.filter((pair) => open.has(pair)).length;
      if (fresh <= most) continue;
      most = fresh;
      best = candidate;
    }
    chosen.push(best.combination);
    for (const pair of best.pairs) open.delete(pair);
  }
  return chosen;
}

/** The pairs of values in a combination, as text. */
export function pairs(combination: Combination): string[] {
  const values = Object.entries(combination).map(([name, value]) => `${name} ${value}`);
  return values.flatMap((a, i) => values.slice(i + 1).map((b) => `${a}, ${b}`));
}

/** For people and logs. */
export function describeCombination({ algorithm, mode, family, esn, natt }: Combination): string {
  return `${algorithm} ${mode} ${family}${esn ? ' esn' : ''}${natt ? ' nat-t' : ''}`;
}
