/** The lowers' per-packet veto as numbers that a worker can compare with: the longest packet per set of L3Flag. */
import type { OffloadTable, Sa, XfrmDeviceOps } from '@espalier/xfrm';

export const L3_FLAG_SETS = 4;
/** Longest IP packet, bytes. */
const LONGEST = 65_535 + 40;

/** Length of the longest packet of an SA with these flags that a lower takes; -1 = none. It takes every shorter one. */
export function longestPacket(ops: Pick<XfrmDeviceOps, 'offloadOk'>, sa: Sa, l3Flags: number): number {
  if (ops.offloadOk(sa, LONGEST, l3Flags)) return LONGEST;
  let yes = -1;
  let no = LONGEST;
  while (no - yes > 1) {
    const middle = (yes + no) >> 1;
    if (ops.offloadOk(sa, middle, l3Flags)) yes = middle;
    else no = middle;
  }
  return yes;
}

/** Writes what every one of these lowers takes. */
export function writeVeto(offloads: OffloadTable, sa: Sa, lowers: Iterable<Pick<XfrmDeviceOps, 'offloadOk'>>): void {
  const all = [...lowers];
  for (let flags = 0; flags < L3_FLAG_SETS; flags++)
    offloads.setLimit(
      sa.slot,
      flags,
      all.reduce((least, ops) => Math.min(least, longestPacket(ops, sa, flags)), LONGEST),
    );
}
