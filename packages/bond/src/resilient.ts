/**
 * Resilient choice of a slave (rendezvous hashing): every slave draws a number for the flow, the highest carries it. When a
 * slave leaves, its flows alone move; when one comes, it takes its share and nothing else moves. No state, so no two workers
 * can disagree. Linux's bonding has only `hash % n`, which moves 1 - 1/n of all flows.
 */

/** Position in `lowers[0, count)` of the slave for `hash`; count is at least 1. A tie goes to the first. */
export function resilientChoice(hash: number, lowers: Int32Array, count: number): number {
  let best = 0;
  let most = -1;
  for (let i = 0; i < count; i++) {
    // The lower's index, not its position: positions move when others leave.
    let x = hash ^ Math.imul(lowers[i]! + 1, 0x9e3779b1);
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    const draw = (x ^ (x >>> 16)) >>> 1;
    if (draw <= most) continue;
    most = draw;
    best = i;
  }
  return best;
}
