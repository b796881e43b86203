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

/** That for every set of flags; the ops are asked once per SA and lower, not per packet. */
export function limitsOf(ops: Pick<XfrmDeviceOps, 'offloadOk'>, sa: Sa): readonly number[] {
  return Array.from({ length: L3_FLAG_SETS }, (_, flags) => longestPacket(ops, sa, flags));
}

/** Writes what every one of these replicas takes. */
export function writeVeto(
  offloads: OffloadTable,
  slot: number,
  replicas: Iterable<{ limits(): readonly number[] }>,
): void {
  const all = Array.from(replicas, (replica) => replica.limits());
  for (let flags = 0; flags < L3_FLAG_SETS; flags++)
    offloads.setLimit(
      slot,
      flags,
      all.reduce((least, limits) => Math.min(least, limits[flags]!), LONGEST),
    );
}
