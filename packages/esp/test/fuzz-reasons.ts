import { DropReason } from '@espalier/xfrm';

/** What hostile frames from outside can end of on the way in. */
export const INBOUND: readonly DropReason[] = [
  DropReason.NONE,
  DropReason.REPLAYED,
  DropReason.STALE,
  DropReason.INVALID,
  DropReason.TRUNCATED,
  DropReason.NO_STATE,
  DropReason.ICV,
  DropReason.BAD_PAD,
  DropReason.DUMMY,
  DropReason.BAD_INNER,
  DropReason.BAD_NEXT_HEADER,
  DropReason.BAD_OUTER,
  DropReason.FRAGMENT,
  DropReason.SELECTOR,
  DropReason.BAD_ENCAP,
  DropReason.IKE,
  DropReason.NAT_KEEPALIVE,
  DropReason.NOT_ESP,
  DropReason.ECN,
  DropReason.BAD_LENGTH,
];

/** What packets from inside can end of on the way out. */
export const OUTBOUND: readonly DropReason[] = [
  DropReason.NONE,
  DropReason.EXHAUSTED,
  DropReason.NO_STATE,
  DropReason.BAD_INNER,
  DropReason.FRAGMENT,
  DropReason.POLICY,
  DropReason.TOO_BIG,
  DropReason.NO_ROOM,
  DropReason.LIFETIME,
  DropReason.BAD_STATE,
  DropReason.TTL,
];

/** What else the way in can say: of our own packets coming back, old SAs, errors about us, and lowers that open. */
export const RETURN: readonly DropReason[] = [
  DropReason.NONE,
  DropReason.EXHAUSTED,
  DropReason.LIFETIME,
  DropReason.BAD_LENGTH,
  DropReason.OUTER_ERROR,
];

/** What neither way can say, and who says it. */
export const ELSEWHERE: ReadonlyMap<DropReason, string> = new Map([
  [DropReason.NO_LOWER_HANDLE, 'the port about to carry the packet'],
  [DropReason.NO_NEIGHBOUR, 'a lower that resolves link-layer addresses'],
  [DropReason.NO_USABLE_SLAVE, 'the bond'],
  [DropReason.UNSET, 'a port handed a row that nobody has sealed or cleared'],
  [DropReason.LINK_DOWN, 'a port whose device is down'],
]);
