import {
  type Burst,
  checkIpv4,
  checkIpv6,
  checksum,
  type FrameSlab,
  IPV6_HEADER_LENGTH,
  IPV6_MAX_EXTENSIONS,
  IpCheck,
  IpProtocol,
  Ipv4,
  Ipv6,
  isIpv4Fragment,
  pseudoHeaderIpv4,
  pseudoHeaderIpv6,
  Row,
  readIhl,
  sumWords,
  updateChecksum,
  writeIpv4Checksum,
} from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';

/** No place: a fragment, or a header chain that is cut or too long. */
export const NO_SPLIT = -1;

/**
 * Where ESP goes into the IP packet `[start, end)` in transport mode (RFC 4303 3.1.1): behind IPv4 options; behind
 * hop-by-hop and routing headers and behind destination options that a routing header follows, in front of all others.
 * NO_SPLIT for fragments (ESP takes whole datagrams only, 3.3.4) and for chains that make no sense. The header is checked.
 */
export function transportSplit(view: DataView, start: number, end: number): number {
  if (view.getUint8(start) >> 4 === 4) return isIpv4Fragment(view, start) ? NO_SPLIT : start + readIhl(view, start);
  let next = view.getUint8(start + Ipv6.NEXT_HEADER);
  let at = start + IPV6_HEADER_LENGTH;
  let split = at;
  for (let i = 0; i <= IPV6_MAX_EXTENSIONS; i++) {
    if (next === IpProtocol.FRAGMENT) return NO_SPLIT;
    const outside = next === IpProtocol.HOPOPT || next === IpProtocol.ROUTING;
    if (!outside && next !== IpProtocol.DESTINATION) return split;
    if (at + 8 > end) return NO_SPLIT;
    next = view.getUint8(at);
    at += 8 * (view.getUint8(at + 1) + 1);
    if (at > end) return NO_SPLIT;
    if (outside) split = at;
  }
  return NO_SPLIT;
}

/** Offset of the byte that names the header at `at`, in the packet whose IP header is at `l3`; `at` is on its chain. */
function namingByte(view: DataView, l3: number, at: number): number {
  if (view.getUint8(l3) >> 4 === 4) return l3 + Ipv4.PROTOCOL;
  let name = l3 + Ipv6.NEXT_HEADER;
  for (let h = l3 + IPV6_HEADER_LENGTH; h < at; h += 8 * (view.getUint8(h + 1) + 1)) name = h;
  return name;
}

/**
 * Moves the header `[start, split)` so that it begins at `to`, names `protocol` as what follows it and ends the packet at
 * `end`. Returns the protocol it named before.
 */
export function moveHeader(
  slab: FrameSlab,
  start: number,
  split: number,
  to: number,
  protocol: number,
  end: number,
): number {
  const { bytes, view } = slab;
  bytes.copyWithin(to, start, split);
  const naming = namingByte(view, to, to + split - start);
  const before = bytes[naming]!;
  bytes[naming] = protocol;
  if (bytes[to]! >> 4 === 4) {
    view.setUint16(to + Ipv4.TOTAL_LENGTH, end - to);
    writeIpv4Checksum(view, to);
  } else view.setUint16(to + Ipv6.PAYLOAD_LENGTH, end - to - IPV6_HEADER_LENGTH);
  return before;
}

/**
 * Gives an opened transport-mode packet its header back: the outer one, up to `outerEnd` (where UDP or ESP began), in
 * front of the payload `[inner, end)`, naming `next`. Sets START, L3 and END, or returns a DropReason.
 */
export function unwrapTransport(
  burst: Burst,
  r: number,
  outerEnd: number,
  inner: number,
  end: number,
  next: number,
): number {
  const { rows, slab } = burst;
  const l3 = rows[r + Row.L3]!;
  const to = inner - (outerEnd - l3);
  moveHeader(slab, l3, outerEnd, to, next, end);
  const { view } = slab;
  const check = view.getUint8(to) >> 4 === 6 ? checkIpv6(view, to, end) : checkIpv4(view, to, end, false);
  if (check !== IpCheck.OK) return DropReason.BAD_INNER;
  rows[r + Row.START] = to;
  rows[r + Row.L3] = to;
  rows[r + Row.END] = end;
  return 0;
}

/**
 * RFC 3948 3.1.2: a NAT changed the addresses under a TCP or UDP checksum that it could not see. `original` is the folded
 * sum of the addresses that the peer used, or -1 when they are not known: then the checksum is computed anew, which is no
 * loss, since the ICV covered the segment. `at` is the upper-layer header, named `protocol`.
 */
export function fixChecksum(
  slab: FrameSlab,
  l3: number,
  at: number,
  end: number,
  protocol: number,
  original: number,
): void {
  const { view } = slab;
  const field = at + (protocol === IpProtocol.TCP ? 16 : 6);
  if ((protocol !== IpProtocol.TCP && protocol !== IpProtocol.UDP) || field + 2 > end) return;
  const six = view.getUint8(l3) >> 4 === 6;
  const seen = view.getUint16(field);
  if (protocol === IpProtocol.UDP && seen === 0) return;
  let fixed: number;
  if (original >= 0) {
    const now = six ? sumWords(view, l3 + Ipv6.SOURCE, l3 + 40, 0) : sumWords(view, l3 + Ipv4.SOURCE, l3 + 20, 0);
    fixed = updateChecksum(seen, original, fold(now));
  } else {
    view.setUint16(field, 0);
    const sum = six ? pseudoHeaderIpv6(view, l3, protocol, end - at) : pseudoHeaderIpv4(view, l3, protocol, end - at);
    fixed = checksum(view, at, end, sum);
  }
  // In UDP 0 says "no checksum".
  view.setUint16(field, protocol === IpProtocol.UDP && fixed === 0 ? 0xffff : fixed);
}

/** Folded sum of addresses, for `fixChecksum`. */
export function addressSum(...addresses: readonly Uint8Array[]): number {
  let sum = 0;
  for (const address of addresses)
    for (let i = 0; i < address.length; i += 2) sum += (address[i]! << 8) | address[i + 1]!;
  return fold(sum);
}

function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
