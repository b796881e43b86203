import { WRONG_DATAPATH } from './wrong-datapath.ts';
import { WRONG_ESN } from './wrong-esn.ts';
import { WRONG_LIFECYCLE } from './wrong-lifecycle.ts';
import type { WrongLower } from './wrong-lower.ts';
import { WRONG_STATE } from './wrong-state.ts';

/** At least one deliberately wrong lower for every conformance rule: the mock, spoilt in one thing. */
export const WRONG_LOWERS: readonly WrongLower[] = [
  ...WRONG_STATE,
  ...WRONG_DATAPATH,
  ...WRONG_ESN,
  ...WRONG_LIFECYCLE,
];
