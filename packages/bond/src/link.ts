/** The link of a slave as the bond sees it, with its delays. Pure. */

/** As in the kernel: `fail` is on its way down (downdelay), `back` on its way up (updelay). BOND_LINK_UP, FAIL, DOWN, BACK. */
export type LinkState = 'up' | 'fail' | 'down' | 'back';

export interface Link {
  readonly state: LinkState;
  /** When the delay under way is over, by the time of `tick`. */
  readonly due: number;
}

export interface LinkDelays {
  /** Milliseconds. */
  readonly up: number;
  readonly down: number;
}

/**
 * The link after a look at the lower. Admin-down is no glitch: it takes effect at once. `impatient`: nothing else is up,
 * so there is nothing to wait for. Kernel: bond_miimon_inspect, bond_miimon_commit.
 */
export function stepLink(
  link: Link,
  lower: { readonly running: boolean; readonly carrier: boolean },
  now: number,
  delays: LinkDelays,
  impatient: boolean,
): Link {
  const up: Link = { state: 'up', due: 0 };
  const down: Link = { state: 'down', due: 0 };
  if (!lower.running) return down;
  switch (link.state) {
    case 'up':
      if (lower.carrier) return link;
      return delays.down > 0 ? { state: 'fail', due: now + delays.down } : down;
    case 'fail':
      if (lower.carrier) return up;
      return now >= link.due ? down : link;
    case 'down':
      if (!lower.carrier) return link;
      return delays.up > 0 && !impatient ? { state: 'back', due: now + delays.up } : up;
    case 'back':
      if (!lower.carrier) return down;
      return now >= link.due || impatient ? up : link;
  }
}
