import type { Rig } from '@espalier/xfrm/conformance';

/** A lower that is right but for one thing. */
export interface WrongLower {
  /** The one rule that it breaks. */
  readonly rule: string;
  /** What is wrong with it. */
  readonly wrong: string;
  readonly spoil: (rig: Rig) => Rig;
}
