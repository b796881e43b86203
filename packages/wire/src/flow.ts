/** Hash of a flow: addresses, protocol and ports of an IP packet, well mixed. Not for the wire, not for secrets. */
import { IpProtocol, Ipv4, isIpv4Fragment, readIhl } from './ipv4.ts';
import { Ipv6, walkIpv6 } from './ipv6.ts';

/**
 * 32 bits (signed) over addresses, protocol and, for unfragmented TCP, UDP, SCTP and friends, ports; fragments of one
 * packet agree. 0 when the packet is neither IPv4 nor IPv6. The fixed header is inside `[at, end)`.
 */
export function flowHash(view: DataView, at: number, end: number): number {
  const version = view.getUint8(at) >> 4;
  if (version === 4) {
    const protocol = view.getUint8(at + Ipv4.PROTOCOL);
    const l4 = at + readIhl(view, at);
    const ports = hasPorts(protocol) && !isIpv4Fragment(view, at) && l4 + 4 <= end ? view.getInt32(l4) : 0;
    return mix(view.getInt32(at + Ipv4.SOURCE), view.getInt32(at + Ipv4.DESTINATION), ports, protocol);
  }
  if (version !== 6) return 0;
  let source = 0;
  let destination = 0;
  for (let i = 0; i < 16; i += 4) {
    source = Math.imul(source, 0x01000193) ^ view.getInt32(at + Ipv6.SOURCE + i);
    destination = Math.imul(destination, 0x01000193) ^ view.getInt32(at + Ipv6.DESTINATION + i);
  }
  const walk = walkIpv6(view, at, end);
  if (walk < 0) return mix(source, destination, 0, 0);
  const protocol = walk & 0xff;
  const l4 = Math.floor(walk / 256);
  return mix(source, destination, hasPorts(protocol) && l4 + 4 <= end ? view.getInt32(l4) : 0, protocol);
}

function hasPorts(protocol: number): boolean {
  return (
    protocol === IpProtocol.TCP ||
    protocol === IpProtocol.UDP ||
    protocol === 132 ||
    protocol === 33 ||
    protocol === 136
  );
}

function mix(a: number, b: number, c: number, d: number): number {
  let h = Math.imul(a ^ (a >>> 16), 0x85ebca6b) + b;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) + c;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) + d;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
