import {
  checksum,
  type FrameSlab,
  IpProtocol,
  Ipv6,
  pseudoHeaderIpv6,
  Row,
  UDP_HEADER_LENGTH,
  Udp,
} from '@espalier/wire';

/**
 * The UDP checksum of a sealed NAT-T row over IPv6, where 0 is no checksum but an error (RFC 8200 8.1; Linux drops it).
 * Over IPv4 it stays 0 (RFC 3948 2.1). Whoever seals does this, since the sum covers the ciphertext: the path, or a lower
 * that seals. Rows that are anything else are left alone.
 */
export function finishUdp6(slab: FrameSlab, r: number): void {
  const { rows, view } = slab;
  const l3 = rows[r + Row.L3]!;
  const udp = rows[r + Row.ESP]! - UDP_HEADER_LENGTH;
  if (l3 < 0 || udp < l3 + 40 || view.getUint8(l3) >> 4 !== 6) return;
  if (view.getUint8(l3 + Ipv6.NEXT_HEADER) !== IpProtocol.UDP) return;
  const end = rows[r + Row.END]!;
  view.setUint16(udp + Udp.CHECKSUM, 0);
  const sum = checksum(view, udp, end, pseudoHeaderIpv6(view, l3, IpProtocol.UDP, end - udp));
  view.setUint16(udp + Udp.CHECKSUM, sum === 0 ? 0xffff : sum);
}
