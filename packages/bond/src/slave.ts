/** One lower in a bond: its link as the bond sees it, its partner, and what it could not take. */
import { ESP_TRAITS, type LowerDevice } from '@espalier/xfrm';
import type { Partner } from './aggregator.ts';
import type { FeatureFacts } from './features.ts';
import type { Link } from './link.ts';
import type { SlaveFacts } from './plan.ts';

/** Key of `Slave.refusals` for what is refused whole: the features, or any SA at all. */
export const EVERY_SA = -1;

/** Lowers that are slaves, of any bond on this thread: a device has one master (netdev_master_upper_dev_link). */
const ENSLAVED: WeakSet<LowerDevice> = new WeakSet();

/** Whether a lower is a slave of some bond. */
export function isSlave(lower: LowerDevice): boolean {
  return ENSLAVED.has(lower);
}

export class Slave {
  readonly lower: LowerDevice;
  readonly index: number;
  /** Ends the subscription to the lower's changes. */
  unwatch: () => void = () => {};
  link: Link = { state: 'down', due: 0 };
  /** As told by LACP; undefined = no LACP is spoken here. */
  partner: Partner | null | undefined = undefined;
  /** Its release is under way: out of everything. */
  leaving = false;
  /** SA slot or EVERY_SA -> why the lower does not hold it. */
  readonly refusals: Map<number, string> = new Map();
  /** `features.hw` when last looked at. */
  #hw: number;
  #running: boolean;

  constructor(lower: LowerDevice) {
    this.lower = lower;
    this.index = lower.index;
    this.#hw = lower.features.hw;
    this.#running = lower.running;
  }

  /** The lower is this bond's from now on, which hears of its changes. */
  hold(heard: () => void): void {
    ENSLAVED.add(this.lower);
    this.unwatch = this.lower.onChange(heard);
  }

  /** The lower may go to another bond. */
  letGo(): void {
    ENSLAVED.delete(this.lower);
  }

  /** Looks at the lower again; what it refused is forgotten when it went down or its abilities changed. */
  look(): void {
    const { running } = this.lower;
    const { hw } = this.lower.features;
    if (hw !== this.#hw || (this.#running && !running)) this.refusals.clear();
    this.#hw = hw;
    this.#running = running;
  }

  facts(): SlaveFacts {
    const { lower, link, refusals } = this;
    return {
      lower: this.index,
      running: lower.running && !this.leaving,
      carrier: lower.carrier,
      link: link.state,
      due: link.due,
      capable: lower.xfrm !== null,
      optedIn: lower.xfrm?.lowerHandle ?? false,
      traits: lower.xfrm?.traits ?? ESP_TRAITS,
      hw: lower.features.hw,
      speedMbps: lower.speedMbps,
      partner: this.partner,
      refused: refusals.size > 0,
      incapable: refusals.has(EVERY_SA),
    };
  }
}

export function featureFacts({ index, lower }: Slave): FeatureFacts {
  const { wanted, active, hw } = lower.features;
  return { lower: index, wanted, active, hw };
}
