/** What decides how an outbound SA's packets are shared out among the slaves of a bond. */
export type Spread =
  /** All by one slave, as Linux's layer3+4 does. */
  | 'sa'
  /** By the inner flow; order is kept within a flow. */
  | 'inner'
  /** Round robin, packet by packet; order is not kept. */
  | 'spray';
export const SPREADS: readonly Spread[] = ['sa', 'inner', 'spray'];
