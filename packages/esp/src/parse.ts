import {
  checkIpv4,
  checkIpv6,
  classifyUdp,
  classifyUdpPayload,
  ESP_UDP_PORT,
  ETHERNET_HEADER_LENGTH,
  EtherType,
  type FrameSlab,
  IPV6_HEADER_LENGTH,
  IpCheck,
  IpProtocol,
  Ipv4,
  Ipv6,
  Ipv6Walk,
  isIpv4Fragment,
  Row,
  readEtherType,
  readIhl,
  readTotalLength,
  readTrafficClass,
  UDP_HEADER_LENGTH,
  Udp,
  UdpClass,
  VLAN_TAG_LENGTH,
  walkIpv6,
} from '@espalier/wire';
import { DropReason, type LinkType } from '@espalier/xfrm';

/** `FATE` 0 and bit 8 set: ESP came in UDP. */
export const IN_UDP = 0x100;

/**
 * Finds the ESP header of a received row: sets L3, ESP, ECN and END (padding behind the IP packet goes). Returns a
 * DropReason, or 0, or IN_UDP when it came UDP-encapsulated. With IKE the ESP column is where the non-ESP marker begins.
 */
export function parseOuter(slab: FrameSlab, r: number, linkType: LinkType): number {
  const { rows, view } = slab;
  const start = rows[r + Row.START]!;
  const end = rows[r + Row.END]!;
  if (linkType === 'esp-udp') {
    rows[r + Row.ESP] = start;
    return fateOf(classifyUdpPayload(view, start, end));
  }
  if (linkType === 'ip') {
    if (end <= start) return DropReason.TRUNCATED;
    return view.getUint8(start) >> 4 === 6 ? parse6(slab, r, start, end) : parse4(slab, r, start, end);
  }
  let l3 = start + ETHERNET_HEADER_LENGTH;
  if (end < l3) return DropReason.TRUNCATED;
  let type = readEtherType(view, start);
  if (type === EtherType.VLAN && end >= l3 + VLAN_TAG_LENGTH) {
    type = view.getUint16(l3 + 2);
    l3 += VLAN_TAG_LENGTH;
  }
  if (type === EtherType.IPV4) return parse4(slab, r, l3, end);
  if (type === EtherType.IPV6) return parse6(slab, r, l3, end);
  return DropReason.NOT_ESP;
}

function parse4(slab: FrameSlab, r: number, l3: number, end: number): number {
  const { rows, view } = slab;
  const check = checkIpv4(view, l3, end);
  if (check !== IpCheck.OK) return check === IpCheck.TRUNCATED ? DropReason.TRUNCATED : DropReason.BAD_OUTER;
  const protocol = view.getUint8(l3 + Ipv4.PROTOCOL);
  rows[r + Row.L3] = l3;
  if (protocol !== IpProtocol.ESP && protocol !== IpProtocol.UDP) return DropReason.NOT_ESP;
  if (isIpv4Fragment(view, l3)) return DropReason.FRAGMENT;
  rows[r + Row.END] = l3 + readTotalLength(view, l3);
  rows[r + Row.ECN] = view.getUint8(l3 + Ipv4.TOS) & 3;
  return parse4or6(slab, r, protocol, l3 + readIhl(view, l3));
}

function parse6(slab: FrameSlab, r: number, l3: number, end: number): number {
  const { rows, view } = slab;
  const check = checkIpv6(view, l3, end);
  if (check !== IpCheck.OK) return check === IpCheck.TRUNCATED ? DropReason.TRUNCATED : DropReason.BAD_OUTER;
  const packetEnd = l3 + IPV6_HEADER_LENGTH + view.getUint16(l3 + Ipv6.PAYLOAD_LENGTH);
  rows[r + Row.L3] = l3;
  const walk = walkIpv6(view, l3, packetEnd);
  if (walk === Ipv6Walk.FRAGMENT) return DropReason.FRAGMENT;
  if (walk < 0) return DropReason.BAD_OUTER;
  const protocol = walk % 256;
  if (protocol !== IpProtocol.ESP && protocol !== IpProtocol.UDP) return DropReason.NOT_ESP;
  rows[r + Row.END] = packetEnd;
  rows[r + Row.ECN] = readTrafficClass(view, l3) & 3;
  return parse4or6(slab, r, protocol, Math.floor(walk / 256));
}

function parse4or6(slab: FrameSlab, r: number, protocol: number, l4: number): number {
  const { rows, view } = slab;
  const end = rows[r + Row.END]!;
  if (protocol === IpProtocol.ESP) {
    rows[r + Row.ESP] = l4;
    return 0;
  }
  if (end - l4 < UDP_HEADER_LENGTH) return DropReason.NOT_ESP;
  if (view.getUint16(l4 + Udp.DESTINATION_PORT) !== ESP_UDP_PORT) return DropReason.NOT_ESP;
  const kind = classifyUdp(view, l4, end);
  rows[r + Row.ESP] = l4 + UDP_HEADER_LENGTH;
  if (kind !== UdpClass.ESP) return fateOf(kind);
  // IPv6 has no "no checksum" (RFC 8200 8.1). Any other value is not looked at: the ICV covers what matters.
  if (view.getUint16(l4 + Udp.CHECKSUM) === 0 && view.getUint8(rows[r + Row.L3]!) >> 4 === 6)
    return DropReason.BAD_OUTER;
  rows[r + Row.END] = l4 + view.getUint16(l4 + Udp.LENGTH);
  return IN_UDP;
}

function fateOf(kind: UdpClass): number {
  if (kind === UdpClass.IKE) return DropReason.IKE;
  if (kind === UdpClass.KEEPALIVE) return DropReason.NAT_KEEPALIVE;
  return kind === UdpClass.TRUNCATED ? DropReason.TRUNCATED : 0;
}
