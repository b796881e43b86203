/**
 * How far packets of one SA can overtake each other before the peer's replay window refuses the late ones. One number
 * sequence over several links means that a slow link's packets arrive behind those of a fast one.
 */
import { type Spread, XfrmError } from '@espalier/xfrm';

export interface ReorderFacts {
  readonly spread: Spread;
  /** Packets per second of the SA at its peak, over all links. */
  readonly rate: number;
  /** Largest difference in delay between two links, queues included, in seconds. */
  readonly skew: number;
  /** Workers that send on the SA. */
  readonly workers: number;
  /** Numbers a worker reserves at once: its longest burst. */
  readonly block: number;
  /** Packets a receiving NIC may hand over out of turn, as one batch per queue. */
  readonly batch: number;
}

/**
 * Numbers that the peer's window has to hold: rate x skew + workers x block + batch. With spread `sa` there is one link and
 * no skew, except in the moment when the slave changes. Throws RangeError on what is negative or not finite.
 */
export function reorderBudget(facts: ReorderFacts): number {
  const { spread, rate, skew, workers, block, batch } = facts;
  for (const [name, value] of Object.entries({ rate, skew, workers, block, batch }))
    if (!Number.isFinite(value) || value < 0) throw new RangeError(`"${name}" must not be negative, got ${value}`);
  const overtaken = spread === 'sa' ? 0 : Math.ceil(rate * skew);
  return overtaken + workers * block + batch;
}

/**
 * Refuses a spread that the peer's window cannot bear. `window` is the peer's replay window in numbers, 0 for a peer that
 * does not check; `path`, in `file`, is where the setting stands. Returns the budget. Throws XfrmError CONFIG.
 */
export function demandReorderBudget(facts: ReorderFacts, window: number, path: string, file?: string): number {
  const budget = reorderBudget(facts);
  if (window !== 0 && window < budget)
    throw new XfrmError({
      code: 'CONFIG',
      ...(file === undefined ? {} : { file }),
      path,
      expected: `a spread that the peer's window of ${window} numbers bears, or a window of at least ${budget}`,
      got: `"${facts.spread}": ${facts.rate} packets/s x ${facts.skew} s of skew + ${facts.workers} workers x ${facts.block} + ${facts.batch}`,
    });
  return budget;
}
